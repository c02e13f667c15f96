#include "common/utf8.h"

#include <stdbool.h>

size_t utf8_read(const char *text, size_t len, uint32_t *code_point)
{
	/* Indexed by sequence length: the least code point that needs it; anything below is overlong. */
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char lead = (unsigned char)text[0];

	if (lead < 0x80) {
		*code_point = lead;
		return 1;
	}
	/* 0x80-0xbf continue a sequence; 0xc0 and 0xc1 could only begin an overlong one. */
	size_t bytes = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead <= 0xf4 ? 4 : 0;
	if (bytes == 0 || bytes > len)
		return 0;
	uint32_t value = lead & (0x7fu >> bytes);
	for (size_t i = 1; i < bytes; i++) {
		unsigned char next = (unsigned char)text[i];
		if ((next & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (next & 0x3fu);
	}
	bool surrogate = value >= 0xd800 && value <= 0xdfff;
	if (value < least[bytes] || surrogate || value > 0x10ffff)
		return 0;
	*code_point = value;
	return bytes;
}
