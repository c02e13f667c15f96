/*
 * The offset tracker of one partition: what was read, what is settled, and up to where the log may be
 * committed. A committed offset means that every record below it is settled [I1], so only the
 * contiguous settled prefix counts, however far ahead later records are.
 *
 *     tracker_start(&t, position)
 *     tracker_enter(&t, offset, timestamp, &ticket)   // before the record is decoded: a refused record can't be skipped
 *     tracker_fingerprint(&t, ticket, hash, true)     // what tells this log from another
 *     tracker_settle(&t, ticket)                      // any order
 *     tracker_skip(&t, position)                      // the log's end: gaps below have no record
 *     tracker_committable(&t)
 *
 * Offsets have holes (compaction, transaction markers, aborted records): a hole counts as settled, so
 * nothing here ever computes "offset + 1" of anything but the last record read.
 *
 * Plain data, no clock. Thread: the consumer thread that owns the partition.
 * Memory: 32 bytes a record between the oldest unsettled one and the newest, grown by doubling; what
 * bounds it is the budget of records in flight, plus what was settled behind the oldest (the ring holds
 * settled records until the prefix reaches them).
 */
#ifndef WORKER_PIPELINE_TRACKER_H
#define WORKER_PIPELINE_TRACKER_H

#include "common/ensure.h"
#include "worker/ledger/fingerprint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tracker_entry {
	int64_t offset;
	int64_t timestamp_us; /* the record's */
	uint64_t hash;        /* of its fingerprint */
	bool producers_time;
	bool settled;
};

struct tracker {
	int64_t position;     /* next offset to read: all records below it were entered */
	uint64_t oldest;      /* ticket of the first entry kept; all before it are settled */
	uint64_t next_ticket;
	size_t unsettled;
	struct fingerprint last; /* of the last record below `oldest` */
	struct tracker_entry *ring; /* entry of a ticket: ring[ticket & mask] */
	size_t mask;
	size_t most; /* entries */
	bool full;   /* there were so many, and there are more than half of them still */
};

/* The most entries that a ring keeps, where no less is asked for. One stuck record with this many settled ones behind
 * it stops the partition's intake (tracker_full), not the memory. 2^20 entries are 32 MiB. */
#define TRACKER_ENTRIES_MAX ((size_t)1 << 20)

void tracker_init(struct tracker *t);
void tracker_release(struct tracker *t);

/* At most so many entries, 1 .. TRACKER_ENTRIES_MAX: what a new reading from the oldest unsettled record would have to
 * read again. Before the first one. */
void tracker_limit(struct tracker *t, size_t most);

/* Forgets everything and expects the log from `position` on. Tickets go on, so none is given twice. */
void tracker_start(struct tracker *t, int64_t position);

/*
 * Enters a record that was read. `timestamp_us` is kept for the lag in seconds; any value is fine.
 * Returns: false when the offset lies below the position: it was entered before, and must not be
 * handled again under this assignment. The tracker must not be full.
 */
must_use bool tracker_enter(struct tracker *t, int64_t offset, int64_t timestamp_us, uint64_t *ticket);

/* What the record of `ticket` is known by. `producers_time`: its timestamp is part of that. Before it is settled. */
void tracker_fingerprint(struct tracker *t, uint64_t ticket, uint64_t hash, bool producers_time);

/* From the last entry that it takes until half of them are gone: intake stops and goes on with a pause of the client,
 * which costs what it has fetched. */
bool tracker_full(const struct tracker *t);

/* The record of `ticket` is settled. Each ticket once, and only those given since tracker_start. */
void tracker_settle(struct tracker *t, uint64_t ticket);

/* Nothing is to be read below `position`: the end of the log, past markers without records. */
void tracker_skip(struct tracker *t, int64_t position);

/* The offset of the first unsettled record, or the position when there is none. */
int64_t tracker_committable(const struct tracker *t);

/* The fingerprint of the last record below tracker_committable, of those settled since tracker_start; without one it is
 * what tracker_adopt was given, or `exists` is false. */
static inline const struct fingerprint *tracker_last(const struct tracker *t)
{
	return &t->last;
}
/* The record before the first one to be entered, which is known to be settled. */
void tracker_adopt(struct tracker *t, const struct fingerprint *last);

/* Timestamp of the first unsettled record; false when there is none. */
bool tracker_oldest_timestamp(const struct tracker *t, int64_t *timestamp_us);

/* Records entered and not settled. */
static inline size_t tracker_unsettled(const struct tracker *t)
{
	return t->unsettled;
}

#endif
