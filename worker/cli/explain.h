/* The half of `explain` that reads Kafka: the records that name one order. */
#ifndef WORKER_CLI_EXPLAIN_H
#define WORKER_CLI_EXPLAIN_H

#include "common/json_writer.h"
#include "worker/cli/cli.h"

/*
 * Looks through the events', the deferred and the dead-letter topic. With `w` writes an array, the value
 * of a key that the caller has put; else prints a table.
 * Returns: EXIT_FINE; else an exit code, after printing why.
 */
must_use int explain_events(const struct cli *cli, struct slice order_id, struct json_writer *w);

#endif
