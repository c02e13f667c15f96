/*
 * The ledger's invariants [I2, I4], checked from the tables alone, in one snapshot:
 *
 *     ledger_audit_begin(pg)   BEGIN, repeatable read, read only
 *     ledger_audit_run(pg, report)
 *     pg_rollback(pg)
 *
 * Sums are the server's, row by row comparisons stream through a cursor: memory stays flat.
 * Errors are pg.h's.
 */
#ifndef WORKER_AUDIT_LEDGER_AUDIT_H
#define WORKER_AUDIT_LEDGER_AUDIT_H

#include "worker/audit/order_row.h"
#include "worker/audit/report.h"
#include "worker/ledger/pg.h"

must_use enum pg_result ledger_audit_begin(struct pg *pg);
must_use enum pg_result ledger_audit_run(struct pg *pg, const struct rules *rules, struct audit_report *report);

/* Part of ledger_audit_run: checks that are a statement each. */
must_use enum pg_result ledger_audit_tables(struct pg *pg, struct audit_report *report);

/*
 * Calls `visit` with every row of a statement, `FETCH`ing some thousands at a time. The statement is run
 * inside the caller's transaction. `visit` borrows the rows.
 */
typedef void ledger_audit_visit(void *owner, const struct pg_rows *rows, size_t row);
must_use enum pg_result ledger_audit_stream(struct pg *pg, const char *select, ledger_audit_visit *visit, void *owner);

#endif
