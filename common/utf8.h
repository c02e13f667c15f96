/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
 * Thread: any.
 */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads the first code point of `text`, of `len` > 0 bytes.
 * Returns: its length in bytes, 1-4, with *code_point set; 0 if the bytes are no valid sequence.
 */
size_t utf8_read(const char *text, size_t len, uint32_t *code_point);

/* Whether text that is not ours may show it on a terminal or in a log: no control, C1 included (a terminal obeys those),
 * and nothing that begins a line. */
static inline bool utf8_is_printable(uint32_t c)
{
	return !(c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029);
}

#endif
