#include "worker/config/config_lines.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(struct slice text)
{
	while (text.len > 0 && is_blank(text.data[0])) {
		text.data++;
		text.len--;
	}
	while (text.len > 0 && is_blank(text.data[text.len - 1]))
		text.len--;
	return text;
}

static struct slice take_line(struct slice *rest)
{
	const char *newline = memchr(rest->data, '\n', rest->len);
	size_t len = newline ? (size_t)(newline - rest->data) : rest->len;
	size_t taken = newline ? len + 1 : len;
	struct slice line = {rest->data, len};

	rest->data += taken;
	rest->len -= taken;
	return line;
}

enum config_line config_lines_next(struct config_lines *lines, struct slice *key, struct slice *value)
{
	while (lines->rest.len > 0) {
		struct slice line = trim(take_line(&lines->rest));
		lines->number++;
		if (line.len == 0 || line.data[0] == '#')
			continue;
		const char *equals = memchr(line.data, '=', line.len);
		if (!equals)
			return CONFIG_BAD;
		size_t key_len = (size_t)(equals - line.data);
		*key = trim((struct slice){line.data, key_len});
		*value = trim((struct slice){equals + 1, line.len - key_len - 1});
		return key->len > 0 ? CONFIG_PAIR : CONFIG_BAD;
	}
	return CONFIG_END;
}
