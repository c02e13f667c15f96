/*
 * Lag by partition: published by the consumers, completed with the log's end by a thread that asks the
 * brokers with a handle of its own, and computed at scrape time, so it is right while paused or hung.
 *
 * Thread: any. Lock: one of its own.
 */
#ifndef WORKER_OBSERVE_LAG_H
#define WORKER_OBSERVE_LAG_H

#include "common/buf.h"
#include "worker/kafka/kafka.h"
#include "worker/ledger/fingerprint.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAG_UNKNOWN = -2 };

/* What the owner of a partition knows. */
struct lag_position {
	int64_t committed;        /* position last committed to Kafka; -1: Kafka has none; LAG_UNKNOWN: not asked yet */
	int64_t uncommitted_us;   /* timestamp of the record at or after `committed`; negative: not known here */
	int64_t next;             /* position of the consumer; -1: not started */
	int64_t lost;             /* offsets that the start rule found lost and nobody accepted; -1: not asked yet */
	struct fingerprint settled; /* of the last record that progress knows of, if it does */
	bool paused;              /* by back-pressure, a due time, or the start rule */
	const char *state;        /* name of the partition's state; a constant */
};

/* What is found out about a log while it is read. */
enum lag_finding {
	LAG_NOTHING,
	LAG_SHRUNK,   /* it ends below a `next` that had been published before it was asked */
	LAG_REPLACED, /* a `settled` that had been published before is another record now, or none */
};

/* Adds or updates a partition of this worker; `topic` is copied. Returns: each finding once. */
enum lag_finding lag_publish(const char *topic, int32_t partition, const struct lag_position *p);
/* The partition was revoked: its series go. */
void lag_remove(const char *topic, int32_t partition);

/* Starts the thread that asks for the logs' ends every `interval_ms`, and reads the one record behind
 * `committed` when nobody knows its time; while no partition is published it asks for `topic`, which must
 * outlive it. What the brokers answer is dependency_up{kafka}: it is 0 within `interval_ms` and 2 s of the
 * first question that one of them leaves unanswered. Returns: 0; -1 and one line in `error`. */
must_use int lag_start(const struct kafka_settings *s, const char *topic, int interval_ms, char *error,
                       size_t error_size);
void lag_stop(void);

/* Appends consumer_lag, consumer_lag_seconds, consumer_end_offset, consumer_committed_offset,
 * consumer_partition_paused, partition_offsets_lost, by topic, partition, group. What is not known is left out, never
 * -1 or 0. */
void lag_expose(struct buf *out, const char *group);

/* Sum of lag over this worker's partitions, -1 while any is unknown. */
int64_t lag_total(void);

#endif
