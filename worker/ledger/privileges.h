/*
 * What the role of `run` must be allowed to do, once: `check` and each session of the worker ask for all of it, and
 * deploy/sql/roles.sql grants it. A statement that needs more gets a row in privileges.c, and fails the test of that
 * script until it is there and granted.
 *
 * Errors are pg.h's; the text is in pg_error.
 */
#ifndef WORKER_LEDGER_PRIVILEGES_H
#define WORKER_LEDGER_PRIVILEGES_H

#include "worker/ledger/pg.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether the session's role has them, in `schema`; what is not there yet is left to the schema's version. *missing:
 * some are lacking, which `text` names with the role and what each is for, as far as it has room.
 */
must_use enum pg_result ledger_privileges(struct pg *pg, const char *schema, bool *missing, char *text, size_t size);

#endif
