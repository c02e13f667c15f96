/*
 * A growable byte buffer. `data` stays NUL-terminated once anything was appended.
 * Out of memory ends the process: buffers are bounded by the caller, so it is a limit set wrong.
 * Thread: one at a time. Owns: `data`, until buf_release.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/slice.h"

#include <stdint.h>

struct buf {
	char *data;
	size_t len;
	size_t capacity;
};

#define BUF_INIT {0}

void buf_release(struct buf *b);

static inline void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = '\0';
}

/* Makes room for `more` bytes behind the content and returns where they start. */
char *buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends `text` as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void buf_put_json_string(struct buf *b, struct slice text);
/* As a terminal may have it: each byte or code point that utf8_is_printable refuses becomes a question mark. */
void buf_put_printable(struct buf *b, struct slice text);

static inline struct slice buf_slice(const struct buf *b)
{
	return (struct slice){b->data ? b->data : "", b->len};
}

#endif
