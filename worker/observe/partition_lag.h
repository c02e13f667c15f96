/*
 * The lag of one partition: what its owner published, what the brokers answered, and what follows from
 * the two at a given moment. Plain data and arithmetic; lag.c has the thread and the lock.
 *
 * The first uncommitted record's time comes from whoever knows it: the owner, who has read it, or a look at that one
 * record. It is never interpolated: until someone has seen the record, its age is at least the time since the log was
 * known to go beyond it.
 */
#ifndef WORKER_OBSERVE_PARTITION_LAG_H
#define WORKER_OBSERVE_PARTITION_LAG_H

#include "worker/observe/lag.h"

struct partition_lag {
	struct lag_position position;
	int64_t asked;           /* Kafka's commit, asked for while the owner does not know it; as lag_position.committed */
	int64_t low, high;       /* the log's start and end; good only with answered_us */
	int64_t high_us;         /* monotonic, when `high` was first told */
	int64_t answered_us;     /* monotonic, when the brokers last told them; -1: never */
	/* The log's end as it was first known to be beyond the base: that record is at least so old. */
	int64_t proven_end;      /* -1: never known */
	int64_t proven_us;       /* monotonic */
	/* The look at the first record from `seen_at` on: its time, or -1 when there was none below seen_next. */
	int64_t seen_at;         /* -1: not looked yet */
	int64_t seen_us;
	int64_t seen_next;
};

void partition_lag_init(struct partition_lag *p);

/* Position last committed to Kafka, as lag_position has it. */
int64_t partition_lag_committed(const struct partition_lag *p);

/* The first offset that is not committed: the log's start while nothing is. Returns: -1 while unknown. */
int64_t partition_lag_base(const struct partition_lag *p);

/* What the owner knows, and what the brokers answered, at `mono_us`. */
void partition_lag_publish(struct partition_lag *p, const struct lag_position *position, int64_t mono_us);
void partition_lag_answer(struct partition_lag *p, int64_t low, int64_t high, int64_t mono_us);

/* Where the first uncommitted record is to be looked for: what lies below the log's start is gone. Returns: -1 while
 * unknown. */
int64_t partition_lag_first(const struct partition_lag *p);

/* Whether someone has to read that record, since neither the owner nor an earlier look tells its time. */
bool partition_lag_needs_look(const struct partition_lag *p);

/* The end of the log. Returns: -1 when it is not known, or the last answer older than `stale_us`. */
int64_t partition_lag_end(const struct partition_lag *p, int64_t mono_us, int64_t stale_us);

/* Offsets from the base to the end, less a gap without records that was seen there. Returns: -1: unknown, also where
 * the log ends below the base: it is another log. */
int64_t partition_lag_offsets(const struct partition_lag *p, int64_t mono_us, int64_t stale_us);

/*
 * Age of the first uncommitted record, 0 when there is none, a lower bound where nobody has seen it or it has no time.
 * A record that is known to be there and is not committed goes on ageing when the brokers are away, so this may be
 * known while the offsets are not.
 * Returns: false: unknown, which it is not for a partition that is known to lag.
 */
bool partition_lag_seconds(const struct partition_lag *p, int64_t mono_us, int64_t stale_us, int64_t wall_us,
			   double *seconds);

#endif
