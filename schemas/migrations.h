/* The SQL migrations, in order; the table is generated from schemas/migrations/ at build time. */
#ifndef SCHEMAS_MIGRATIONS_H
#define SCHEMAS_MIGRATIONS_H

#include <stddef.h>

struct migration {
	int version;      /* from 1, without gaps */
	const char *name; /* file name */
	const char *sql;
};

extern const struct migration migrations[];
extern const size_t migration_count;

#endif
