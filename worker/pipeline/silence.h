/*
 * How long each thread may go without a heartbeat (observe/health.h) and still be well: by the options that bound what
 * it may wait for. Whatever waits beats first, so one wait counts, not their sum: each answer of PostgreSQL
 * (ledger/pg.c), each request to Redis (gate/gate.c), each partition that Kafka is asked about (keeper.c).
 * Thread: any.
 */
#ifndef WORKER_PIPELINE_SILENCE_H
#define WORKER_PIPELINE_SILENCE_H

#include "worker/options.h"

#include <stdint.h>

/* Units: microseconds. */
struct silences {
	int64_t consumer_us;
	int64_t worker_us;
	int64_t keeper_us;
	int64_t outbox_us;
};

struct silences silences_by(const struct options *o);

#endif
