/*
 * The command line's first pass: takes the flags that are options out of argv, so that file and
 * environment can be read before them, and checks those of the command, which stay.
 * Thread: one at a time. Owns: the list; keys and values are parts of argv.
 */
#ifndef WORKER_CONFIG_FLAGS_H
#define WORKER_CONFIG_FLAGS_H

#include "worker/config/loader.h"

struct flag {
	struct slice key;
	const char *value;
};

struct flags {
	struct flag *items; /* in order; a later one wins */
	size_t count;
	const char *config; /* of --config; NULL: none */
};

/*
 * Arguments as in options_load. Returns: 0; EXIT_USAGE with one line in l->error for a flag that is
 * neither an option nor in `command_flags`, or whose value is missing or too much.
 */
must_use int flags_take(struct flags *f, struct loader *l, int *argc, char **argv, const char *const *command_flags);
void flags_release(struct flags *f);

/* Sets the options. Returns: as loader_set. */
must_use int flags_set(const struct flags *f, struct loader *l);

#endif
