/*
 * The librdkafka properties of the configuration: `kafka.<property>` for every client,
 * `kafka.consumer.<property>` and `kafka.producer.<property>` for one side alone. A later value of the same
 * property and side replaces the earlier one.
 * Thread: one at a time. Owns: names and values, until property_list_release.
 */
#ifndef WORKER_CONFIG_PROPERTY_LIST_H
#define WORKER_CONFIG_PROPERTY_LIST_H

#include "common/buf.h"
#include "common/ensure.h"
#include "worker/kafka/kafka.h"

enum { PROPERTIES_MAX = 128, PROPERTY_VALUE_BYTES_MAX = 64 * 1024 }; /* a value may be a PEM chain */

struct property_list {
	struct kafka_property *items;
	const char **files; /* of each item, or NULL */
	size_t count;
};

/* Returns: whether `key` has the form of a pass-through property: kafka.<something>. */
bool property_is_key(struct slice key);
/* Returns: whether the property under this key is a credential: never shown, may come from a file. */
bool property_is_secret(struct slice key);

/* kafka.sasl.password for DW_KAFKA_SASL_PASSWORD. Returns: false if `variable` is no DW_KAFKA_<something>. */
must_use bool property_put_key(struct buf *out, struct slice variable);

/* `key` as in property_is_key. Returns: false if the list is full, the value too long or has a NUL. */
must_use bool property_list_set(struct property_list *list, struct slice key, struct slice value);
/* Takes note of the file that the value of a property that was set came from; property_list_set forgets it. */
void property_list_set_file(struct property_list *list, struct slice key, const char *path);
void property_list_release(struct property_list *list);

#endif
