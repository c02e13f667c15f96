#include "worker/observe/exposition.h"

#include <inttypes.h>

void exposition_family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_series(struct buf *out, const char *name, const char *labels)
{
	buf_puts(out, name);
	if (labels[0] != '\0')
		buf_printf(out, "{%s}", labels);
	buf_putc(out, ' ');
}

void exposition_integer(struct buf *out, const char *name, const char *labels, int64_t value)
{
	put_series(out, name, labels);
	buf_printf(out, "%" PRId64 "\n", value);
}

void exposition_unsigned(struct buf *out, const char *name, const char *labels, uint64_t value)
{
	put_series(out, name, labels);
	buf_printf(out, "%" PRIu64 "\n", value);
}

/* 15 digits: all that survive any double, and 0.3 stays 0.3. */
void exposition_real(struct buf *out, const char *name, const char *labels, double value)
{
	put_series(out, name, labels);
	buf_printf(out, "%.15g\n", value);
}

void exposition_label(struct buf *labels, const char *name, const char *value)
{
	if (labels->len > 0)
		buf_putc(labels, ',');
	buf_printf(labels, "%s=\"", name);
	for (const char *c = value; *c != '\0'; c++) {
		switch (*c) {
		case '\\':
			buf_puts(labels, "\\\\");
			break;
		case '"':
			buf_puts(labels, "\\\"");
			break;
		case '\n':
			buf_puts(labels, "\\n");
			break;
		default:
			buf_putc(labels, *c);
		}
	}
	buf_putc(labels, '"');
}
