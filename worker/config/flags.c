#include "worker/config/flags.h"

#include "common/nearest.h"
#include "worker/config/option_row.h"

#include <stdlib.h>

enum flag_kind { FLAG_UNKNOWN, FLAG_OPTION, FLAG_CONFIG, FLAG_COMMAND_SWITCH, FLAG_COMMAND_VALUE };

/* `command_flags` has "name" for switches and "name=" for those with a value; it may be NULL. */
static enum flag_kind kind_of(struct slice name, const char *const *command_flags)
{
	for (; command_flags && *command_flags; command_flags++) {
		struct slice flag = slice_of(*command_flags);
		bool takes_value = flag.len > 0 && flag.data[flag.len - 1] == '=';
		if (slice_equal(name, (struct slice){flag.data, flag.len - takes_value}))
			return takes_value ? FLAG_COMMAND_VALUE : FLAG_COMMAND_SWITCH;
	}
	if (slice_equal(name, slice_of("config")))
		return FLAG_CONFIG;
	return loader_knows(name) ? FLAG_OPTION : FLAG_UNKNOWN;
}

static int fail_unknown(struct loader *l, struct slice name, const char *const *command_flags)
{
	char meant[64] = "";
	struct nearest nearest = nearest_to(name);

	for (size_t i = 0; i < option_row_count; i++)
		nearest_offer(&nearest, option_rows[i].key);
	for (; command_flags && *command_flags; command_flags++)
		nearest_offer(&nearest, *command_flags);
	if (nearest.name)
		snprintf(meant, sizeof(meant), "; did you mean --%.*s?", (int)strcspn(nearest.name, "="), nearest.name);
	return loader_fail(l, EXIT_USAGE, "unknown option --%.*s%s", (int)(name.len < 64 ? name.len : 64), name.data,
			   meant);
}

static int fail_no_value(struct loader *l, struct slice name)
{
	const struct option_row *row = option_row_find(name);
	struct buf bounds = BUF_INIT;

	if (row) {
		buf_puts(&bounds, ": ");
		option_row_put_bounds(row, &bounds);
	}
	int code =
		loader_fail(l, EXIT_USAGE, "--%.*s needs a value%s", (int)name.len, name.data, buf_slice(&bounds).data);
	buf_release(&bounds);
	return code;
}

/* Behind "--" everything is positional. The commands look for their flags by spelling, so an argument
 * that is spelled like one could not be told from it. */
static int check_positional(struct loader *l, const char *argument, const char *const *command_flags)
{
	size_t len = strcspn(argument, "=");
	if (len < 2 || strncmp(argument, "--", 2) != 0)
		return 0;
	enum flag_kind kind = kind_of((struct slice){argument + 2, len - 2}, command_flags);
	if (kind == FLAG_COMMAND_SWITCH || kind == FLAG_COMMAND_VALUE)
		return loader_fail(l, EXIT_USAGE, "\"%s\" behind \"--\" cannot be told from the option", argument);
	return 0;
}

struct cursor {
	char **argv;
	int at;    /* read next */
	int count; /* of argv */
	int kept;  /* written: what stays */
};

static int take_flag(struct flags *f, struct loader *l, struct cursor *c, const char *const *command_flags)
{
	char *argument = c->argv[c->at++];
	struct slice name = {argument + 2, strcspn(argument + 2, "=")};
	const char *value = name.data[name.len] == '=' ? name.data + name.len + 1 : NULL;
	enum flag_kind kind = kind_of(name, command_flags);

	if (kind == FLAG_UNKNOWN)
		return fail_unknown(l, name, command_flags);
	if (kind == FLAG_COMMAND_SWITCH) {
		if (value)
			return loader_fail(l, EXIT_USAGE, "--%.*s takes no value", (int)name.len, name.data);
		c->argv[c->kept++] = argument;
		return 0;
	}
	bool separate = !value;
	if (separate) {
		/* A value that begins with dashes has to be given as --name=value: it is far more often forgotten. */
		if (c->at == c->count || strncmp(c->argv[c->at], "--", 2) == 0)
			return fail_no_value(l, name);
		value = c->argv[c->at++];
	}
	if (kind == FLAG_COMMAND_VALUE) {
		c->argv[c->kept++] = argument;
		if (separate)
			c->argv[c->kept++] = c->argv[c->at - 1];
	} else if (kind == FLAG_CONFIG) {
		f->config = value;
	} else {
		f->items[f->count++] = (struct flag){name, value};
	}
	return 0;
}

int flags_take(struct flags *f, struct loader *l, int *argc, char **argv, const char *const *command_flags)
{
	struct cursor c = {.argv = argv, .at = 1, .count = *argc, .kept = 1};
	bool only_positional = false;
	int code = 0;

	*f = (struct flags){.items = calloc((size_t)*argc + 1, sizeof(*f->items))};
	ENSURE(f->items != NULL);
	while (c.at < c.count && code == 0) {
		char *argument = argv[c.at];
		if (only_positional) {
			code = check_positional(l, argument, command_flags);
			argv[c.kept++] = argv[c.at++];
		} else if (strcmp(argument, "--") == 0) {
			only_positional = true;
			c.at++;
		} else if (strncmp(argument, "--", 2) == 0) {
			code = take_flag(f, l, &c, command_flags);
		} else if (argument[0] == '-' && argument[1] != '\0') {
			code = loader_fail(l, EXIT_USAGE, "unknown option %s; options are --name value", argument);
		} else {
			argv[c.kept++] = argv[c.at++];
		}
	}
	if (code == 0) {
		argv[c.kept] = NULL;
		*argc = c.kept;
	}
	return code;
}

void flags_release(struct flags *f)
{
	free(f->items);
	*f = (struct flags){0};
}

int flags_set(const struct flags *f, struct loader *l)
{
	int first = 0;

	for (size_t i = 0; i < f->count; i++) {
		struct buf origin = BUF_INIT;
		buf_printf(&origin, "--%.*s", (int)f->items[i].key.len, f->items[i].key.data);
		int code = loader_set(l, origin.data, f->items[i].key, slice_of(f->items[i].value));
		buf_release(&origin);
		first = first ? first : code;
	}
	return first;
}
