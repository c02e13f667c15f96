/*
 * Since when a committed position is behind: of each position on its way to Kafka's commit, the time of the
 * first record at or behind it. The tracker knows that of the oldest unsettled record, which under load is no
 * longer the first uncommitted one: commits follow what is settled, so the time is kept with the position when
 * it is sent, and is there when the commit is answered.
 *
 *     commit_times_note(&t, position, time_us, in_use)   // when a position is sent; COMMIT_TIME_UNREAD: not read yet
 *     commit_times_read(&t, offset, time_us)             // each record that is entered
 *     commit_times_at(&t, committed)
 *
 * Plain data, no clock. Thread: the consumer thread that owns the partition.
 */
#ifndef WORKER_PIPELINE_COMMIT_TIMES_H
#define WORKER_PIPELINE_COMMIT_TIMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A position is committed, on its way to Kafka, in PostgreSQL, or on its way there: one each. */
enum { COMMIT_TIMES_IN_USE = 3, COMMIT_TIMES_MAX = COMMIT_TIMES_IN_USE + 1 };

/* The first record at or behind the position has not been read: the next one is it. */
#define COMMIT_TIME_UNREAD INT64_MIN

struct commit_times {
	struct {
		int64_t position;
		int64_t time_us; /* the record's, negative: it has none; or COMMIT_TIME_UNREAD */
	} entries[COMMIT_TIMES_MAX];
	size_t count;
	bool unread; /* some entry's record is */
};

void commit_times_clear(struct commit_times *t);

/* Remembers `position` beside those of `in_use` (negative: none), and forgets all others. What is known of it stays
 * known. */
void commit_times_note(struct commit_times *t, int64_t position, int64_t time_us,
                       const int64_t in_use[COMMIT_TIMES_IN_USE]);

void commit_times_fill(struct commit_times *t, int64_t offset, int64_t time_us);

/* A record was read, in the order of the log. */
static inline void commit_times_read(struct commit_times *t, int64_t offset, int64_t time_us)
{
	if (t->unread)
		commit_times_fill(t, offset, time_us);
}

/* Returns: the time of the first record at or behind `position`, negative when it is not known. */
int64_t commit_times_at(const struct commit_times *t, int64_t position);

#endif
