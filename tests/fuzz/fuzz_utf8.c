/* UTF-8, against jansson's opinion and back to the same bytes. Input: the text. */
#include "tests/fuzz/fuzz.h"

#include "common/utf8.h"

#include <jansson.h>

static size_t encode(uint32_t c, char out[4])
{
	static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = bytes - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(leads[bytes] | c);
	return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	size_t at = 0, bytes = 1;
	char back[4];

	for (; at < size; at += bytes) {
		uint32_t c = UINT32_MAX;
		bytes = utf8_read(text + at, size - at, &c);
		if (bytes == 0)
			break;
		ENSURE(bytes <= size - at && encode(c, back) == bytes && memcmp(back, text + at, bytes) == 0);
	}
	json_t *opinion = json_stringn(text ? text : "", size);
	ENSURE((opinion != NULL) == (at == size));
	json_decref(opinion);
	return 0;
}
