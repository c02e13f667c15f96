/*
 * A table for people: aligned columns on stdout, a header line, numbers to the right.
 *
 *     static const struct table_column columns[] = {{"PARTITION", true}, {"STATE", false}};
 *     struct table t = table_of(columns, 2);
 *     table_cell(&t, "%d", partition);
 *     table_cell(&t, "%s", state);
 *     table_print(&t, stdout);
 *     table_release(&t);
 *
 * Cells are given row by row; control characters in them are shown as '?', so that what a publisher wrote
 * can't speak to the terminal. Widths are counted in code points.
 * Thread: one at a time. Owns: the cells' text, until table_release.
 */
#ifndef WORKER_CLI_TABLE_H
#define WORKER_CLI_TABLE_H

#include "common/buf.h"

#include <stdio.h>

struct table_column {
	const char *title;
	bool numeric; /* right-aligned */
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	size_t cell_count;
	struct buf text; /* all cells, row by row, each with its NUL */
};

struct table table_of(const struct table_column *columns, size_t column_count);
void table_release(struct table *t);

void table_cell(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* `t` must hold whole rows. */
void table_render(const struct table *t, struct buf *out);
void table_print(const struct table *t, FILE *out);

#endif
