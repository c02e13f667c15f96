/*
 * The lines of a configuration file: `key = value`, comments from a `#` that begins the line, blank
 * lines. Values are taken as they are, less the blanks around them: no quotes, no escapes.
 *
 *     struct config_lines lines = config_lines_of(text);
 *     struct slice key, value;
 *     while (config_lines_next(&lines, &key, &value) == CONFIG_PAIR)
 *         ...; // lines.number is the line's
 *
 * Thread: one at a time. Owns: nothing; the slices are parts of `text`.
 */
#ifndef WORKER_CONFIG_CONFIG_LINES_H
#define WORKER_CONFIG_CONFIG_LINES_H

#include "common/ensure.h"
#include "common/slice.h"

enum config_line {
	CONFIG_END,
	CONFIG_PAIR,
	CONFIG_BAD, /* no '=' or no key */
};

struct config_lines {
	struct slice rest;
	int number; /* of the line read last, from 1 */
};

static inline struct config_lines config_lines_of(struct slice text)
{
	return (struct config_lines){.rest = text};
}

must_use enum config_line config_lines_next(struct config_lines *lines, struct slice *key, struct slice *value);

#endif
