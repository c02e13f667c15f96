/*
 * A command's session with the ledger's database, by the options; failures become exit codes.
 */
#ifndef WORKER_CLI_LEDGER_SESSION_H
#define WORKER_CLI_LEDGER_SESSION_H

#include "worker/cli/cli.h"
#include "worker/ledger/pg.h"

/* Returns: EXIT_FINE and *pg; else an exit code, after printing why. */
must_use int ledger_session_open(const struct cli *cli, struct pg **pg);
/* As ledger_session_open, and a schema that this binary can read is there. */
must_use int ledger_session_open_ledger(const struct cli *cli, struct pg **pg);
/* Prints. Returns: EXIT_UNAVAILABLE for what passes by itself, EXIT_CONFIG for what needs an operator. */
int ledger_session_fail(const struct cli *cli, enum pg_result result, const char *why);

#endif
