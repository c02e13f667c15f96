#include "worker/config/property_list.h"

#include <stdlib.h>

static bool take_prefix(struct slice *text, const char *prefix)
{
	size_t len = strlen(prefix);
	if (text->len < len || memcmp(text->data, prefix, len) != 0)
		return false;
	text->data += len;
	text->len -= len;
	return true;
}

static struct slice split_key(struct slice key, enum kafka_side *side)
{
	*side = KAFKA_BOTH;
	if (!take_prefix(&key, "kafka."))
		return (struct slice){0};
	if (take_prefix(&key, "consumer."))
		*side = KAFKA_CONSUMER;
	else if (take_prefix(&key, "producer."))
		*side = KAFKA_PRODUCER;
	return key;
}

bool property_is_key(struct slice key)
{
	enum kafka_side side;
	struct slice name = split_key(key, &side);

	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_'))
			return false;
	}
	return name.len > 0;
}

bool property_is_secret(struct slice key)
{
	static const char *const secrets[] = {
		"sasl.username",
		"sasl.password",
		"sasl.oauthbearer.config",
		"sasl.oauthbearer.client.secret",
		"ssl.keystore.password",
		"ssl.key.password",
		"ssl.key.pem",
	};
	enum kafka_side side;
	struct slice name = split_key(key, &side);

	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
		if (slice_equal(name, slice_of(secrets[i])))
			return true;
	}
	return false;
}

bool property_put_key(struct buf *out, struct slice variable)
{
	if (!take_prefix(&variable, "DW_KAFKA_") || variable.len == 0)
		return false;
	buf_puts(out, "kafka.");
	for (size_t i = 0; i < variable.len; i++) {
		char c = variable.data[i];
		buf_putc(out, c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '_' ? '.' : c);
	}
	return true;
}

/* Returns: its index; the count where it is not. */
static size_t find(const struct property_list *list, struct slice key)
{
	enum kafka_side side;
	struct slice name = split_key(key, &side);
	size_t i = 0;

	while (i < list->count && (list->items[i].side != side || !slice_equal(name, slice_of(list->items[i].name))))
		i++;
	return i;
}

static void set_file(struct property_list *list, size_t i, const char *path)
{
	free((char *)list->files[i]);
	list->files[i] = path ? strdup(path) : NULL;
	ENSURE(!path || list->files[i]);
}

bool property_list_set(struct property_list *list, struct slice key, struct slice value)
{
	enum kafka_side side;
	struct slice name = split_key(key, &side);
	size_t at = find(list, key);

	if (value.len > PROPERTY_VALUE_BYTES_MAX || (value.len > 0 && memchr(value.data, '\0', value.len)))
		return false;
	if (at == list->count) {
		if (list->count == PROPERTIES_MAX)
			return false;
		if (!list->items) {
			list->items = calloc(PROPERTIES_MAX, sizeof(*list->items));
			list->files = calloc(PROPERTIES_MAX, sizeof(*list->files));
		}
		ENSURE(list->items != NULL && list->files != NULL);
		list->items[at] = (struct kafka_property){.side = side, .name = strndup(name.data, name.len)};
		ENSURE(list->items[at].name != NULL);
		list->count++;
	}
	set_file(list, at, NULL);
	free((char *)list->items[at].value);
	list->items[at].value = strndup(value.len ? value.data : "", value.len);
	ENSURE(list->items[at].value != NULL);
	return true;
}

void property_list_set_file(struct property_list *list, struct slice key, const char *path)
{
	size_t at = find(list, key);

	ENSURE(at < list->count);
	set_file(list, at, path);
}

void property_list_release(struct property_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free((char *)list->items[i].name);
		free((char *)list->items[i].value);
		set_file(list, i, NULL);
	}
	free(list->items);
	free(list->files);
	*list = (struct property_list){0};
}
