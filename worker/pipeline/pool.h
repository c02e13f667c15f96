/*
 * The workers: threads that turn queued records into committed effects, a batch at a time.
 *
 *     take batch -> admit (Redis) -> write (PostgreSQL) -> confirm (Redis) -> settle
 *
 * A worker takes what its shard has, at the next multiple of `batch.interval_us` if that is not full; it owns the
 * batch's records until they go back to their consumers (settled) or to the outbox (deferred, dead-lettered). An outage
 * holds the batch, for as long as it takes, with no attempt counted against a record: transient is not permanent [I10].
 * A record that PostgreSQL refuses is found by bisection and costs itself only [I9].
 */
#ifndef WORKER_PIPELINE_POOL_H
#define WORKER_PIPELINE_POOL_H

#include "worker/gate/gate.h"
#include "worker/ledger/ledger.h"
#include "worker/pipeline/dispatch.h"
#include "worker/pipeline/history_alarm.h"
#include "worker/pipeline/keeper.h"
#include "worker/pipeline/outbox.h"

struct pool_settings {
	size_t workers;
	size_t batch_max;
	int64_t batch_interval_us; /* batches that are not full are taken at multiples of it; 0: as records come */
	const struct store_settings *store; /* worker i uses index i of its board */
	struct gate_shared *gate;
	int64_t rate_per_second; /* of a partner without a setting of its own; 0: no limit */
	int64_t rate_burst;
	int64_t defer_ms;
	uint8_t digest_key[16];
	struct dispatch *dispatch;
	struct outbox *outbox;
	struct keeper *keeper;
	struct history_alarm *alarm;
	int64_t silence_us; /* silence.h */
};

struct pool;

struct pool *pool_start(const struct pool_settings *s);

/* Says which workers wait for PostgreSQL without an answer. To be called often. Thread: any. */
void pool_tend(struct pool *p);

/* To be called when the dispatch queue is closed. Waits that an outage holds are given up: their records go back as
 * released. */
void pool_stop(struct pool *p);
void pool_free(struct pool *p);

#endif
