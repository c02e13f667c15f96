#include "common/json_writer.h"

#include "common/ensure.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct json_writer json_writer_to(struct buf *out)
{
	return (struct json_writer){.out = out};
}

/* What stands before a value: nothing after a key or at the top, a comma between elements. */
static void begin_value(struct json_writer *w)
{
	if (w->depth > 0 && w->levels[w->depth - 1].close == ']') {
		if (w->levels[w->depth - 1].filled)
			buf_putc(w->out, ',');
		w->levels[w->depth - 1].filled = true;
	} else {
		ENSURE(w->keyed == (w->depth > 0));
	}
	w->keyed = false;
}

void json_put_open(struct json_writer *w, char bracket)
{
	ENSURE(bracket == '{' || bracket == '[');
	ENSURE(w->depth < JSON_WRITER_DEPTH_MAX);
	begin_value(w);
	w->levels[w->depth].close = bracket == '{' ? '}' : ']';
	w->levels[w->depth].filled = false;
	w->depth++;
	buf_putc(w->out, bracket);
}

void json_put_close(struct json_writer *w, char bracket)
{
	ENSURE(w->depth > 0 && w->levels[w->depth - 1].close == bracket && !w->keyed);
	w->depth--;
	buf_putc(w->out, bracket);
}

void json_put_key(struct json_writer *w, const char *name)
{
	ENSURE(w->depth > 0 && w->levels[w->depth - 1].close == '}' && !w->keyed);
	if (w->levels[w->depth - 1].filled)
		buf_putc(w->out, ',');
	w->levels[w->depth - 1].filled = true;
	w->keyed = true;
	buf_put_json_string(w->out, slice_of(name));
	buf_putc(w->out, ':');
}

void json_put_string(struct json_writer *w, struct slice text)
{
	if (!slice_present(text)) {
		json_put_null(w);
		return;
	}
	begin_value(w);
	buf_put_json_string(w->out, text);
}

void json_put_text(struct json_writer *w, const char *text)
{
	json_put_string(w, slice_of(text));
}

void json_put_int(struct json_writer *w, int64_t value)
{
	begin_value(w);
	buf_printf(w->out, "%" PRId64, value);
}

void json_put_real(struct json_writer *w, double value)
{
	if (!isfinite(value)) {
		json_put_null(w);
		return;
	}
	begin_value(w);
	/* 15 digits show 0.1 as 0.1; where they do not read back as the same value, 17 do. */
	char text[32];
	snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) < value || strtod(text, NULL) > value)
		snprintf(text, sizeof(text), "%.17g", value);
	buf_puts(w->out, text);
}

void json_put_bool(struct json_writer *w, bool value)
{
	json_put_raw(w, value ? "true" : "false");
}

void json_put_null(struct json_writer *w)
{
	json_put_raw(w, "null");
}

void json_put_raw(struct json_writer *w, const char *json)
{
	begin_value(w);
	buf_puts(w->out, json);
}
