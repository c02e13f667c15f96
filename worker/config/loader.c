#include "worker/config/loader.h"

#include "common/nearest.h"
#include "worker/config/option_row.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHOWN_BYTES_MAX = 80 }; /* of a wrong value, in an error */

struct origins {
	struct origin {
		char *key;
		char *text;
	} *items;
	size_t count;
};

int loader_fail(struct loader *l, int code, const char *format, ...)
{
	size_t used = strlen(l->error), separator = used > 0;
	va_list arguments;

	if (used + separator + 1 >= l->error_size)
		return code;
	va_start(arguments, format);
	vsnprintf(l->error + used + separator, l->error_size - used - separator, format, arguments);
	va_end(arguments);
	if (separator)
		l->error[used] = '\n';
	return code;
}

static struct origin *find_origin(const struct origins *origins, struct slice key)
{
	for (size_t i = 0; origins && i < origins->count; i++)
		if (slice_equal(key, slice_of(origins->items[i].key)))
			return &origins->items[i];
	return NULL;
}

static void note_origin(struct loader *l, struct slice key, const char *text)
{
	struct origin *o = find_origin(l->origins, key);

	if (!l->origins)
		l->origins = calloc(1, sizeof(*l->origins));
	ENSURE(l->origins != NULL);
	if (!o) {
		struct origins *all = l->origins;
		all->items = realloc(all->items, (all->count + 1) * sizeof(*all->items));
		ENSURE(all->items != NULL);
		o = &all->items[all->count++];
		*o = (struct origin){.key = strndup(key.data, key.len)};
	}
	free(o->text);
	o->text = strdup(text);
	ENSURE(o->key != NULL && o->text != NULL);
}

const char *origin_find(const struct origins *origins, struct slice key)
{
	const struct origin *o = find_origin(origins, key);
	return o ? o->text : NULL;
}

void origins_free(struct origins *origins)
{
	for (size_t i = 0; origins && i < origins->count; i++) {
		free(origins->items[i].key);
		free(origins->items[i].text);
	}
	if (origins)
		free(origins->items);
	free(origins);
}

static void put_shown(struct buf *out, struct slice value, bool secret)
{
	bool cut = value.len > SHOWN_BYTES_MAX;

	if (secret) {
		buf_puts(out, "the value (hidden)");
		return;
	}
	buf_put_json_string(out, (struct slice){value.data, cut ? SHOWN_BYTES_MAX : value.len});
	buf_puts(out, cut ? "..." : "");
}

static int fail_value(struct loader *l, const char *origin, struct slice key, struct slice value)
{
	const struct option_row *row = option_row_find(key);
	struct buf message = BUF_INIT;

	buf_append(&message, key.data, key.len);
	buf_puts(&message, ": ");
	put_shown(&message, value, row ? row->type == OPTION_SECRET : property_is_secret(key));
	buf_puts(&message, " is not ");
	if (row)
		option_row_put_bounds(row, &message);
	else
		buf_printf(&message, "a text of 0 to %d bytes for one of at most %d properties",
			   PROPERTY_VALUE_BYTES_MAX, PROPERTIES_MAX);
	int code = loader_fail(l, EXIT_CONFIG, "%s (%s)", message.data, origin);
	buf_release(&message);
	return code;
}

/* Properties that have an option of their own: a pass-through would be a second, unseen way in. */
static const char *own_key_of(struct slice property)
{
	static const char *const owned[][2] = {
		{"kafka.bootstrap.servers", "kafka.brokers"},
		{"kafka.metadata.broker.list", "kafka.brokers"},
		{"kafka.group.id", "kafka.group"},
	};
	for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++) {
		if (slice_equal(property, slice_of(owned[i][0])))
			return owned[i][1];
	}
	return NULL;
}

bool loader_knows(struct slice key)
{
	return option_row_find(key) || property_is_key(key);
}

int loader_set(struct loader *l, const char *origin, struct slice key, struct slice value)
{
	const struct option_row *row = option_row_find(key);
	const char *own = own_key_of(key);

	if (own)
		return loader_fail(l, EXIT_CONFIG, "%.*s: the option for this is %s (%s)", (int)key.len, key.data, own,
				   origin);
	bool good = row ? option_row_set(row, &l->options, value) : property_list_set(&l->properties, key, value);
	if (!good)
		return fail_value(l, origin, key, value);
	note_origin(l, key, origin);
	return 0;
}

void loader_set_file(struct loader *l, struct slice key, const char *path)
{
	const struct option_row *row = option_row_find(key);

	if (row)
		option_row_set_file(row, &l->options, path);
	else
		property_list_set_file(&l->properties, key, path);
}

const char *loader_nearest(struct slice key)
{
	struct nearest nearest = nearest_to(key);

	for (size_t i = 0; i < option_row_count; i++)
		nearest_offer(&nearest, option_rows[i].key);
	return nearest.name;
}

const char *loader_nearest_to_property(struct slice key)
{
	static const char prefix[] = "kafka.";
	size_t len = sizeof(prefix) - 1;
	struct nearest nearest = nearest_to((struct slice){key.data + len, key.len - len});

	for (size_t i = 0; i < option_row_count; i++)
		if (strncmp(option_rows[i].key, prefix, len) == 0)
			nearest_offer(&nearest, option_rows[i].key + len);
	return nearest.name ? nearest.name - len : NULL;
}

void loader_set_defaults(struct loader *l)
{
	/* A default out of bounds is our bug. */
	for (size_t i = 0; i < option_row_count; i++)
		ENSURE(option_row_set(&option_rows[i], &l->options, slice_of(option_rows[i].standard)));
}
