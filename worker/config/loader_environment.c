#include "worker/config/loader.h"

#include "common/nearest.h"
#include "common/secret_file.h"
#include "worker/config/link_variables.h"
#include "worker/config/option_row.h"

static const struct slice file_suffix = SLICE_LITERAL("_FILE");

const char *environment_find(char *const *environment, struct slice name)
{
	for (; *environment; environment++) {
		if (strncmp(*environment, name.data, name.len) == 0 && (*environment)[name.len] == '=')
			return *environment + name.len + 1;
	}
	return NULL;
}

/* The option that a variable sets, as its key. Rows win over pass-through properties. */
static bool find_key(struct slice variable, struct buf *key)
{
	const struct option_row *row = option_row_find_variable(variable);

	buf_clear(key);
	if (!row)
		return property_put_key(key, variable) && property_is_key(buf_slice(key));
	buf_puts(key, row->key);
	return true;
}

/* Whether the variable names a file that holds a secret option's value; then *key is that option. */
static bool find_secret(struct slice variable, struct slice *direct, struct buf *key)
{
	if (variable.len <= file_suffix.len)
		return false;
	*direct = (struct slice){variable.data, variable.len - file_suffix.len};
	struct slice end = {variable.data + direct->len, file_suffix.len};
	if (!slice_equal(end, file_suffix) || !find_key(*direct, key))
		return false;
	const struct option_row *row = option_row_find(buf_slice(key));
	return row ? row->type == OPTION_SECRET : property_is_secret(buf_slice(key));
}

static int set_from_file(struct loader *l, const char *variable, struct slice key, const char *path)
{
	struct buf text = BUF_INIT;
	int code;

	int reason = secret_file_read(path, PROPERTY_VALUE_BYTES_MAX, &text);
	if (reason)
		code = loader_fail(l, EXIT_CONFIG, "%s: \"%s\" cannot be read: %s", variable, path, strerror(reason));
	else
		code = loader_set(l, variable, key, buf_slice(&text));
	if (code == 0)
		loader_set_file(l, key, path);
	secret_release(&text);
	return code;
}

static int fail_unknown(struct loader *l, struct slice variable)
{
	size_t nearest = variable.len / 4 + 1; /* further off, it is another word */
	struct buf candidate = BUF_INIT;
	struct buf hint = BUF_INIT;

	for (size_t i = 0; i < option_row_count; i++) {
		buf_clear(&candidate);
		option_put_variable(&candidate, option_rows[i].key);
		size_t distance = nearest_distance(variable, buf_slice(&candidate));
		if (distance < nearest) {
			nearest = distance;
			buf_clear(&hint);
			buf_printf(&hint, "; did you mean %s?", candidate.data);
		}
	}
	int code = loader_fail(l, EXIT_CONFIG, "unknown environment variable %.*s%s", (int)variable.len, variable.data,
			       hint.len ? hint.data : "");
	buf_release(&candidate);
	buf_release(&hint);
	return code;
}

static int set_variable(struct loader *l, char *const *environment, struct slice variable, const char *value)
{
	struct buf name = BUF_INIT;
	struct buf key = BUF_INIT;
	struct slice direct;
	int code;

	buf_append(&name, variable.data, variable.len);
	if (find_secret(variable, &direct, &key)) {
		if (environment_find(environment, direct))
			code = loader_fail(l, EXIT_CONFIG, "%.*s and %s are both set", (int)direct.len, direct.data,
					   name.data);
		else
			code = set_from_file(l, name.data, buf_slice(&key), value);
	} else if (find_key(variable, &key)) {
		code = loader_set(l, name.data, buf_slice(&key), slice_of(value));
	} else {
		code = fail_unknown(l, variable);
	}
	buf_release(&key);
	buf_release(&name);
	return code;
}

/* DW_TEST_ is for test programs; DW_CONFIG was needed before. */
static bool is_option_variable(const char *entry)
{
	return strncmp(entry, "DW_", 3) == 0 && strncmp(entry, "DW_TEST_", 8) != 0 &&
	       strncmp(entry, "DW_CONFIG=", 10) != 0;
}

int loader_read_environment(struct loader *l, char *const *environment)
{
	int first = 0;

	for (char *const *entry = environment; *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		if (!equals || !is_option_variable(*entry))
			continue;
		struct slice name = {*entry, (size_t)(equals - *entry)};
		if (!option_row_find_variable(name) && is_link_variable(name, equals + 1, environment))
			continue;
		int code = set_variable(l, environment, name, equals + 1);
		first = first ? first : code;
	}
	return first;
}
