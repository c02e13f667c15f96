#include "common/buf.h"

#include "common/ensure.h"
#include "common/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

char *buf_reserve(struct buf *b, size_t more)
{
	ENSURE(more < SIZE_MAX / 4 && b->len < SIZE_MAX / 4);
	size_t need = b->len + more + 1; /* the NUL behind the content */
	if (need > b->capacity) {
		size_t capacity = b->capacity ? b->capacity : 64;
		while (capacity < need)
			capacity *= 2;
		char *grown = realloc(b->data, capacity);
		ENSURE(grown != NULL);
		b->data = grown;
		b->capacity = capacity;
	}
	return b->data + b->len;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
	char *end = buf_reserve(b, len);
	if (len > 0) /* memcpy from NULL is undefined even for no bytes */
		memcpy(end, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *text)
{
	buf_append(b, text, strlen(text));
}

void buf_putc(struct buf *b, char c)
{
	buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int len = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	ENSURE(len >= 0);

	char *end = buf_reserve(b, (size_t)len);
	va_start(arguments, format);
	vsnprintf(end, (size_t)len + 1, format, arguments);
	va_end(arguments);
	b->len += (size_t)len;
}

static void put_json_escape(struct buf *b, unsigned char c)
{
	static const char short_forms[] = {
		['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't',
	};
	if (c < sizeof(short_forms) && short_forms[c]) {
		buf_putc(b, '\\');
		buf_putc(b, short_forms[c]);
	} else {
		buf_printf(b, "\\u%04x", c);
	}
}

void buf_put_json_string(struct buf *b, struct slice text)
{
	size_t plain = 0; /* start of the bytes that are good as they are and not copied yet */
	size_t at = 0;

	buf_putc(b, '"');
	while (at < text.len) {
		uint32_t code_point = 0;
		size_t bytes = utf8_read(text.data + at, text.len - at, &code_point);
		if (bytes > 0 && code_point >= 0x20 && code_point != '"' && code_point != '\\') {
			at += bytes;
			continue;
		}
		buf_append(b, text.data + plain, at - plain);
		if (bytes == 0)
			buf_puts(b, "\xef\xbf\xbd");
		else
			put_json_escape(b, (unsigned char)code_point);
		at++;
		plain = at;
	}
	if (at > plain)
		buf_append(b, text.data + plain, at - plain);
	buf_putc(b, '"');
}

void buf_put_printable(struct buf *b, struct slice text)
{
	for (size_t at = 0; at < text.len;) {
		uint32_t c = 0;
		size_t bytes = utf8_read(text.data + at, text.len - at, &c);
		if (bytes == 0 || !utf8_is_printable(c))
			buf_putc(b, '?');
		else
			buf_append(b, text.data + at, bytes);
		at += bytes ? bytes : 1;
	}
}
