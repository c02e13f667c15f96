/* A line on a terminal that says how far a long command is. */
#ifndef WORKER_CLI_PROGRESS_H
#define WORKER_CLI_PROGRESS_H

#include "common/buf.h"

#include <stdint.h>

/*
 * Appends a bar, the share that `done` is of `total` (0: not known, then neither), and `text`, fewer than `columns`
 * characters in all: a terminal that is full to its last column may go to the next line, which no carriage return takes
 * back. The bar gets what the rest leaves, and goes where that is too little.
 */
void progress_put(struct buf *out, int64_t done, int64_t total, const char *text, int columns);

/* Draws that in place of the line that stands on stderr, a terminal. */
void progress_show(int64_t done, int64_t total, const char *text);
void progress_clear(void);

#endif
