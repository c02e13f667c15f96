#include "worker/cli/table.h"

#include "common/ensure.h"

#include <stdarg.h>

enum { COLUMNS_MAX = 32 };

struct table table_of(const struct table_column *columns, size_t column_count)
{
	ENSURE(column_count > 0 && column_count <= COLUMNS_MAX);
	return (struct table){.columns = columns, .column_count = column_count};
}

void table_release(struct table *t)
{
	buf_release(&t->text);
	t->cell_count = 0;
}

void table_cell(struct table *t, const char *format, ...)
{
	struct buf raw = BUF_INIT;
	va_list arguments;

	va_start(arguments, format);
	int len = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	ENSURE(len >= 0);
	char *end = buf_reserve(&raw, (size_t)len);
	va_start(arguments, format);
	vsnprintf(end, (size_t)len + 1, format, arguments);
	va_end(arguments);

	buf_put_printable(&t->text, (struct slice){raw.data, (size_t)len});
	buf_append(&t->text, "", 1);
	t->cell_count++;
	buf_release(&raw);
}

static size_t text_width(const char *text)
{
	size_t width = 0;
	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80; /* continuation bytes take no room */
	return width;
}

static void put_spaces(struct buf *out, size_t count)
{
	memset(buf_reserve(out, count), ' ', count);
	out->len += count;
}

static void put_cell(const struct table *t, struct buf *out, size_t column, const char *text, size_t width)
{
	size_t padding = width - text_width(text);
	bool last = column + 1 == t->column_count;

	if (t->columns[column].numeric)
		put_spaces(out, padding);
	buf_puts(out, text);
	if (!t->columns[column].numeric && !last)
		put_spaces(out, padding);
	buf_puts(out, last ? "\n" : "  ");
}

void table_render(const struct table *t, struct buf *out)
{
	size_t widths[COLUMNS_MAX] = {0};
	const char *text;

	ENSURE(t->cell_count % t->column_count == 0);
	for (size_t i = 0; i < t->column_count; i++)
		widths[i] = text_width(t->columns[i].title);
	text = t->text.data;
	for (size_t i = 0; i < t->cell_count; i++, text += strlen(text) + 1) {
		size_t width = text_width(text);
		size_t *widest = &widths[i % t->column_count];
		*widest = width > *widest ? width : *widest;
	}

	for (size_t i = 0; i < t->column_count; i++)
		put_cell(t, out, i, t->columns[i].title, widths[i]);
	text = t->text.data;
	for (size_t i = 0; i < t->cell_count; i++, text += strlen(text) + 1)
		put_cell(t, out, i % t->column_count, text, widths[i % t->column_count]);
}

void table_print(const struct table *t, FILE *out)
{
	struct buf text = BUF_INIT;
	table_render(t, &text);
	fwrite(text.data, 1, text.len, out);
	buf_release(&text);
}
