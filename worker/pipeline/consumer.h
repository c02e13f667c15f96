/*
 * A consumer: one thread, one Kafka client, the partitions that the group gave it. The thread owns
 * all of that alone; what others tell it comes through an inbox (records that come back, the keeper's
 * answers). It never waits for workers longer than a poll.
 *
 *     poll -> track offset -> decode -> dispatch        (this thread, per record)
 *     settle -> record progress -> commit               (this thread, when records come back)
 *
 * Stages of a leave (SIGTERM, or the group wants partitions back): no new intake; in flight settles, up to a
 * deadline; progress to PostgreSQL; commit to Kafka; let go.
 */
#ifndef WORKER_PIPELINE_CONSUMER_H
#define WORKER_PIPELINE_CONSUMER_H

#include "worker/pipeline/budget.h"
#include "worker/pipeline/dispatch.h"
#include "worker/pipeline/history_alarm.h"
#include "worker/pipeline/keeper.h"
#include "worker/pipeline/outbox.h"

struct consumer_settings {
	const struct kafka_settings *kafka;
	const char *topic;
	const char *deferred_topic;
	int64_t defer_ms;
	bool refuse_unknown_members;
	int commit_interval_ms;
	int rebalance_drain_ms;
	struct budget *budget;
	size_t pool_bytes_max; /* what its record pool may hold: its part of the budget */
	struct dispatch *dispatch;
	struct outbox *outbox;
	struct keeper *keeper;
	struct history_alarm *alarm;
	int64_t silence_us; /* silence.h */
};

/* Opens the client and starts the thread. `index`: below METRICS_CONSUMERS_MAX. Returns: 0; -1 and one
 * line in `error`. */
must_use int consumer_start(const struct consumer_settings *s, int index, struct consumer **out, char *error,
                            size_t error_size);

/*
 * Gives records back, with their outcomes; the owner counts, settles and frees them. All of one list
 * must belong to one consumer (records_return sorts that out). Thread: any.
 */
void consumer_return(struct consumer *c, struct record_list *list);
/* The same for a mixed list. */
void records_return(struct record_list *list);

/* Begins the leave; everything must be settled by `deadline_us` (monotonic). Thread: any. */
void consumer_stop(struct consumer *c, int64_t deadline_us);

/* What share of the topics' partitions it has, 0 to 1. Thread: any. */
double consumer_share(const struct consumer *c);

/* Partitions that it has, and whether offsets of one are lost. Thread: any. */
int consumer_assigned(const struct consumer *c);
bool consumer_has_lost_offsets(const struct consumer *c);
/* Whether the log of one can't be read. Thread: any. */
bool consumer_has_unreadable(const struct consumer *c);
/* Whether a partition has waited too long for the start rule, or for a proof of its log. */
bool consumer_is_waiting(const struct consumer *c);
/* The original's time of the oldest record that waits at a head for its due time; INT64_MAX: none does. Thread: any. */
int64_t consumer_waiting_since_us(const struct consumer *c);

/* Its client's fatal error, or NULL. Thread: any. */
const char *consumer_fatal(const struct consumer *c);
/* Whether it holds an assignment of the group, if an empty one; not while none is left of it. Thread: any. */
bool consumer_joined(const struct consumer *c);
/* The thread has left: drained or not. Thread: any. */
bool consumer_has_left(const struct consumer *c);

/* Joins the thread, which must have been stopped. Returns: true when everything that it had taken was
 * settled and committed. */
bool consumer_join(struct consumer *c);
/* All records must be back. */
void consumer_free(struct consumer *c);

#endif
