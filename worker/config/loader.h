/*
 * Options in the making: values go in from one source after another, the later ones win. What is wrong is noted, and
 * reading goes on, so that all of it is told at once. Internal to worker/options.c and the files beside this one.
 *
 * All functions that return a code: 0, or EXIT_CONFIG with a line more in `error` for each thing that is wrong, which
 * names the option, the value (a secret's: not), what it may be and where it came from.
 */
#ifndef WORKER_CONFIG_LOADER_H
#define WORKER_CONFIG_LOADER_H

#include "worker/config/property_list.h"
#include "worker/options.h"

struct loader {
	struct options options;
	struct property_list properties;
	struct origins *origins; /* of what was set; NULL: of nothing. Goes on with the options */
	char *error;
	size_t error_size;
};

/* Adds a line to `error`, while there is room. Returns: `code`. */
int loader_fail(struct loader *l, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Whether there is an option of this name, a row or a pass-through property. */
bool loader_knows(struct slice key);
/* Sets one that loader_knows. `origin` is what an error blames: a variable, a flag, a line of a file. */
must_use int loader_set(struct loader *l, const char *origin, struct slice key, struct slice value);
/* The same secret's file, to be read again by whoever connects. */
void loader_set_file(struct loader *l, struct slice key, const char *path);
/* The known key that an unknown one may stand for, or NULL. */
const char *loader_nearest(struct slice key);
/* The row of the kafka. group that was meant by a property that librdkafka does not know, or NULL. */
const char *loader_nearest_to_property(struct slice key);
/* What set this key last: "DW_KAFKA_TOPIC"; NULL: it has its default. */
const char *origin_find(const struct origins *origins, struct slice key);
void origins_free(struct origins *origins); /* NULL is fine */

void loader_set_defaults(struct loader *l);
must_use int loader_read_file(struct loader *l, const char *path);
must_use int loader_read_environment(struct loader *l, char *const *environment);

/* Returns: the variable's value, or NULL. */
const char *environment_find(char *const *environment, struct slice name);

#endif
