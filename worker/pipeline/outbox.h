/*
 * The outbox: what leaves through Kafka. A dead letter or a deferred copy is settled only by its delivery
 * report; until then the record stays here and its offset uncommitted, so a crash costs a second copy,
 * never the record. What is refused is tried again, without an end, with backoff and jitter: an outage
 * never loses a copy. What is refused for its size goes without the value (a dead letter), or back
 * to the workers as if it were within the limit (a deferral, unless no worker here could take it).
 *
 * Thread: one of its own polls the producer; outbox_put from any.
 */
#ifndef WORKER_PIPELINE_OUTBOX_H
#define WORKER_PIPELINE_OUTBOX_H

#include "worker/pipeline/dispatch.h"
#include "worker/pipeline/record.h"

struct outbox_settings {
	const struct kafka_settings *kafka;
	const char *dlq_topic;
	const char *deferred_topic;
	const char *worker_name; /* dw_worker */
	int64_t defer_ms;
	struct dispatch *dispatch; /* for deferrals that can't be copied */
	int64_t silence_us; /* silence.h */
};

struct outbox;

/* Opens the producer and starts the thread. Returns: 0; -1 and one line in `error`. */
must_use int outbox_start(const struct outbox_settings *s, struct outbox **out, char *error, size_t error_size);

/* Owns: takes all records of the list: dead letters (record_is_dead_letter), and deferrals else. */
void outbox_put(struct outbox *o, struct record_list *list);

/* The producer's fatal error, or NULL. */
const char *outbox_fatal(struct outbox *o);

/* Stops the thread; waits up to `timeout_ms` for copies under way. All records that are still here go
 * back to their consumers as released. Returns: how many. */
size_t outbox_stop(struct outbox *o, int timeout_ms);
void outbox_free(struct outbox *o);

#endif
