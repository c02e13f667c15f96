/*
 * The schema's versions. A migration of schemas/migrations/ is applied once, in one transaction with
 * its row in table schema_version; runs of any number of processes queue on an advisory lock.
 *
 * Old and new workers run side by side over one step of the schema: each migration leaves the schema
 * fit for the workers of the version before it, and its row says so (min_worker).
 *
 * Errors are pg.h's; the text is in pg_error.
 */
#ifndef WORKER_LEDGER_MIGRATE_H
#define WORKER_LEDGER_MIGRATE_H

#include "worker/ledger/pg.h"

#include <stdbool.h>

/* The newest version that this binary knows. */
int ledger_schema_newest(void);

/* *version: of the schema in the session's search_path; 0 where there is none. */
must_use enum pg_result ledger_schema_version(struct pg *pg, int *version);

enum schema_fit {
	SCHEMA_FITS,    /* this binary's version, or a later one that is made for this binary, too */
	SCHEMA_MISSING, /* no ledger here */
	SCHEMA_OLDER,   /* to be migrated */
	SCHEMA_NEWER,   /* for newer workers only */
};

/* Whether a worker of this binary may run on the schema. *found: its version, 0 for none. */
must_use enum pg_result ledger_schema_fit(struct pg *pg, enum schema_fit *fit, int *found);
/* One line for people: what is there, and what to do. Also for SCHEMA_FITS. */
void ledger_schema_explain(enum schema_fit fit, int found, const char *schema, char *text, size_t size);

/* Told of what a run does, as it does it. */
enum migrate_step {
	MIGRATE_WAITS,   /* another process migrates this database */
	MIGRATE_CREATED, /* the schema `name` */
	MIGRATE_APPLIED, /* migration `name`, which brought `version` */
};
typedef void migrate_report(void *owner, enum migrate_step step, int version, const char *name);

/*
 * Brings the schema up to this binary's newest version, from nothing or any earlier one. *before,
 * *after: its versions. A schema that is newer stays as it is: *after > ledger_schema_newest().
 * `lock_timeout_ms`: how long a migration may wait for a lock on a table, since whoever comes behind it waits, too;
 * then PG_RETRY, and the reason names who holds it. The wait for another run of migrate has no limit.
 * After an error the migrations reported so far stay applied, and the next run goes on from there.
 */
must_use enum pg_result ledger_migrate(struct pg *pg, const char *schema, int lock_timeout_ms, migrate_report *report,
                                       void *owner, int *before, int *after);

/* Draws a new epoch: all workers forget what is in flight and restart by the start rule. */
must_use enum pg_result ledger_draw_epoch(struct pg *pg, const char *because, char epoch[37]);

#endif
