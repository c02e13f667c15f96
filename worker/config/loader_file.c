#include "worker/config/loader.h"

#include "common/whole_file.h"
#include "worker/config/config_lines.h"

enum { CONFIG_BYTES_MAX = 1024 * 1024 };

/* Twice the same key in one file: one of the two would be ignored, and nobody could tell which was meant. */
static bool key_came_before(struct slice text, int line, struct slice key)
{
	struct config_lines lines = config_lines_of(text);
	struct slice other, value;

	for (;;) {
		enum config_line kind = config_lines_next(&lines, &other, &value);
		if (kind == CONFIG_END || lines.number >= line)
			return false;
		if (kind == CONFIG_PAIR && slice_equal(key, other))
			return true;
	}
}

static int set_line(struct loader *l, const char *origin, struct slice key, struct slice value)
{
	if (loader_knows(key))
		return loader_set(l, origin, key, value);
	const char *meant = loader_nearest(key);
	return loader_fail(l, EXIT_CONFIG, "%s: unknown option \"%.*s\"%s%s%s", origin,
			   (int)(key.len < 64 ? key.len : 64), key.data, meant ? "; did you mean " : "",
			   meant ? meant : "", meant ? "?" : "");
}

static int read_lines(struct loader *l, const char *path, struct slice text, struct buf *origin)
{
	struct config_lines lines = config_lines_of(text);
	struct slice key, value;
	enum config_line line;
	int first = 0;

	while ((line = config_lines_next(&lines, &key, &value)) != CONFIG_END) {
		int code;
		buf_clear(origin);
		buf_printf(origin, "%s:%d", path, lines.number);
		if (line == CONFIG_BAD)
			code = loader_fail(l, EXIT_CONFIG, "%s: not of the form \"key = value\"", origin->data);
		else if (key_came_before(text, lines.number, key))
			code = loader_fail(l, EXIT_CONFIG, "%s: %.*s is already set above", origin->data, (int)key.len,
					   key.data);
		else
			code = set_line(l, origin->data, key, value);
		first = first ? first : code;
	}
	return first;
}

int loader_read_file(struct loader *l, const char *path)
{
	struct buf text = BUF_INIT;
	struct buf origin = BUF_INIT;
	int code;

	int reason = whole_file_read(path, CONFIG_BYTES_MAX, &text);
	if (reason)
		code = loader_fail(l, EXIT_CONFIG, "config: \"%s\" cannot be read: %s", path, strerror(reason));
	else
		code = read_lines(l, path, buf_slice(&text), &origin);
	buf_release(&origin);
	buf_release(&text);
	return code;
}
