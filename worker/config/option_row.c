#include "worker/config/option_row.h"

#include "common/parse.h"

#include <inttypes.h>
#include <stdlib.h>

#define OPTION_ROW(type, field, key, standard, min, max, unit, help) \
	{OPTION_##type, offsetof(struct options, field), key, standard, min, max, unit, help},
const struct option_row option_rows[] = {OPTIONS(OPTION_ROW)};
const size_t option_row_count = sizeof(option_rows) / sizeof(option_rows[0]);

const struct option_row *option_row_find(struct slice key)
{
	for (size_t i = 0; i < option_row_count; i++) {
		if (slice_equal(key, slice_of(option_rows[i].key)))
			return &option_rows[i];
	}
	return NULL;
}

void option_put_variable(struct buf *out, const char *key)
{
	buf_puts(out, "DW_");
	for (; *key; key++) {
		bool lower = *key >= 'a' && *key <= 'z';
		buf_putc(out, lower ? (char)(*key - 'a' + 'A') : *key == '.' ? '_' : *key);
	}
}

const struct option_row *option_row_find_variable(struct slice name)
{
	const struct option_row *found = NULL;
	struct buf variable = BUF_INIT;

	for (size_t i = 0; i < option_row_count && !found; i++) {
		buf_clear(&variable);
		option_put_variable(&variable, option_rows[i].key);
		if (slice_equal(name, buf_slice(&variable)))
			found = &option_rows[i];
	}
	buf_release(&variable);
	return found;
}

static bool set_text(const struct option_row *row, const char **field, struct slice value)
{
	if ((int64_t)value.len < row->min || (int64_t)value.len > row->max)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];
		/* A connection string may well have line breaks; a name with one is a mistake. */
		if (c == '\0' || (row->type == OPTION_TEXT && (c < ' ' || c == 0x7f)))
			return false;
	}
	char *copy = strndup(value.len ? value.data : "", value.len);
	ENSURE(copy != NULL);
	free((char *)*field);
	*field = copy;
	return true;
}

/* A duration's bare number is in the row's unit. */
static bool parse_number(enum option_type type, struct slice value, int64_t *number)
{
	if (type == OPTION_MILLIS || type == OPTION_SECONDS)
		return parse_duration(value, type == OPTION_MILLIS ? 1 : 1000, number);
	return type == OPTION_BYTES ? parse_bytes(value, number) : parse_int64(value, number);
}

static bool set_number(const struct option_row *row, int64_t *field, struct slice value)
{
	int64_t number;

	if (!parse_number(row->type, value, &number) || number < row->min || number > row->max)
		return false;
	*field = number;
	return true;
}

static bool set_choice(const struct option_row *row, int *field, struct slice value)
{
	int index = 0;

	for (const char *word = row->unit; word; index++) {
		const char *end = strchr(word, '|');
		size_t len = end ? (size_t)(end - word) : strlen(word);
		if (slice_equal(value, (struct slice){word, len})) {
			*field = index;
			return true;
		}
		word = end ? end + 1 : NULL;
	}
	return false;
}

/* Behind the value, as struct options is made. */
static const char **file_of(const struct option_row *row, struct options *o)
{
	return (const char **)((char *)o + row->offset) + 1;
}

static void free_text(const char **field)
{
	free((char *)*field);
	*field = NULL;
}

static bool set_secret(const struct option_row *row, struct options *o, struct slice value)
{
	if (!set_text(row, (const char **)((char *)o + row->offset), value))
		return false;
	free_text(file_of(row, o));
	return true;
}

void option_row_set_file(const struct option_row *row, struct options *o, const char *path)
{
	const char **file = file_of(row, o);
	ENSURE(row->type == OPTION_SECRET);
	free_text(file);
	*file = strdup(path);
	ENSURE(*file != NULL);
}

bool option_row_set(const struct option_row *row, struct options *o, struct slice value)
{
	void *field = (char *)o + row->offset;

	switch (row->type) {
	case OPTION_TEXT:
		return set_text(row, field, value);
	case OPTION_SECRET:
		return set_secret(row, o, value);
	case OPTION_INT:
	case OPTION_MILLIS:
	case OPTION_SECONDS:
	case OPTION_BYTES:
		return set_number(row, field, value);
	case OPTION_CHOICE:
		return set_choice(row, field, value);
	}
	UNREACHABLE("option type");
}

void option_row_put_bounds(const struct option_row *row, struct buf *out)
{
	static const char *const kinds[] = {
		[OPTION_TEXT] = "a text",       [OPTION_SECRET] = "a text",      [OPTION_INT] = "a number",
		[OPTION_MILLIS] = "a duration", [OPTION_SECONDS] = "a duration", [OPTION_BYTES] = "a size",
	};
	if (row->type == OPTION_CHOICE) {
		buf_printf(out, "one of %s", row->unit);
		return;
	}
	bool text = row->type == OPTION_TEXT || row->type == OPTION_SECRET;
	buf_printf(out, "%s %s %" PRId64 " to %" PRId64 " %s", kinds[row->type], text ? "of" : "from", row->min,
		   row->max, text ? "bytes" : row->unit);
}

void option_rows_release(struct options *o)
{
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		if (row->type == OPTION_TEXT || row->type == OPTION_SECRET)
			free_text((const char **)((char *)o + row->offset));
		if (row->type == OPTION_SECRET)
			free_text(file_of(row, o));
	}
}
