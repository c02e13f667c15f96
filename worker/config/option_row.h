/*
 * One option as data: a row of the OPTIONS table (worker/options.h), what its text may be, and where
 * in struct options its value goes.
 * Thread: the rows are constants.
 */
#ifndef WORKER_CONFIG_OPTION_ROW_H
#define WORKER_CONFIG_OPTION_ROW_H

#include "worker/options.h"

enum option_type {
	OPTION_TEXT,
	OPTION_SECRET, /* text that is never shown; may come from a file */
	OPTION_INT,
	OPTION_MILLIS,
	OPTION_SECONDS,
	OPTION_BYTES,
	OPTION_CHOICE,
};

struct option_row {
	enum option_type type;
	size_t offset; /* in struct options */
	const char *key;
	const char *standard;
	int64_t min;
	int64_t max;
	const char *unit; /* of a CHOICE: its words, with '|' between them */
	const char *help;
};

extern const struct option_row option_rows[];
extern const size_t option_row_count;

/* Returns: NULL if there is none. */
const struct option_row *option_row_find(struct slice key);
/* `name`: of the environment variable, with its DW_. */
const struct option_row *option_row_find_variable(struct slice name);

/* DW_KAFKA_BROKERS for kafka.brokers. */
void option_put_variable(struct buf *out, const char *key);

/*
 * Sets the row's field; a text is copied, and the one before it freed.
 * Returns: false, with nothing changed, if `value` is not what the row allows.
 */
must_use bool option_row_set(const struct option_row *row, struct options *o, struct slice value);

/* Takes note of the file that the secret's value came from; option_row_set forgets it. */
void option_row_set_file(const struct option_row *row, struct options *o, const char *path);

/* "a number from 1 to 64 threads": completes "is not …". */
void option_row_put_bounds(const struct option_row *row, struct buf *out);

/* Frees the texts of all rows. */
void option_rows_release(struct options *o);

#endif
