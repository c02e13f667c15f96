/* The half of `audit` that reads Kafka. */
#ifndef WORKER_CLI_AUDIT_H
#define WORKER_CLI_AUDIT_H

#include "worker/audit/report.h"
#include "worker/cli/cli.h"
#include "worker/ledger/pg.h"
#include "worker/ledger/rules.h"

/*
 * Recomputes every order from the topics and compares. `pg` is inside the audit's snapshot, which is ended
 * here before the topics are read. Returns: EXIT_FINE when the report is complete; else an exit code,
 * after printing why.
 */
must_use int audit_from_kafka(struct cli *cli, struct pg *pg, const struct rules *rules, struct audit_report *report);

#endif
