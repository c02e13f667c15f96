/*
 * The offset tracker of one partition: what was read, what is settled, and up to where the log may be committed. A
 * committed offset means that every record below it is settled [I1], so only the contiguous settled prefix counts,
 * however far ahead later records are.
 *
 *     tracker_start(&t, position)
 *     tracker_enter(&t, offset, timestamp, &ticket)   // before the record is decoded: a refused record can't be skipped
 *     tracker_fingerprint(&t, &print)                 // what it is known by
 *     tracker_settle(&t, ticket)                      // any order
 *     tracker_skip(&t, position)                      // the log's end: gaps below have no record
 *     tracker_committable(&t)
 *
 * Offsets have holes (compaction, transaction markers, aborted records): a hole counts as settled, so nothing here
 * ever computes "offset + 1" of anything but the last record read.
 *
 * Plain data, no clock. Thread: the consumer thread that owns the partition.
 *
 * Memory: records that were settled behind an unsettled one are a range between two entries, which holds nothing;
 * so a tracker costs at most TRACKER_BYTES_EACH for each unsettled record, and TRACKER_BYTES_MIN where that is
 * more. All trackers of a process together are thus bounded by the one budget of records in flight (budget.h),
 * however many partitions there are and however much was settled behind a stuck record of each.
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
	int64_t timestamp_us; /* the record's, or TRACKER_SETTLED */
	uint64_t ticket;
	struct fingerprint before; /* of the record entered before it: once that run is settled, the last one that is */
};

struct tracker {
	int64_t position;     /* next offset to read: all records below it were entered */
	struct fingerprint newest; /* of the last record entered */
	uint64_t oldest;      /* ticket of the oldest unsettled record, or next_ticket */
	uint64_t first;       /* place of its entry */
	uint64_t next_ticket;
	size_t unsettled;
	size_t shrink_below;  /* so few unsettled records need no ring of this size */
	/* The entry at a place is ring[place & mask]. A new one's place is its ticket; when settled ones are taken
	 * out from behind it, it moves up, so tickets ascend from `first` to next_ticket and none is beyond its
	 * place. */
	struct tracker_entry *ring;
	size_t mask;
	size_t most; /* records */
	bool full;   /* there were so many, and there are more than half of them still */
};

/* The most records from the oldest unsettled one to the newest, where no less is asked for: what a new reading from
 * there would read again. One stuck record with this many settled ones behind it stops the partition's intake
 * (tracker_full). */
#define TRACKER_ENTRIES_MAX ((size_t)1 << 20)

enum {
	TRACKER_ENTRIES_MIN = 256,
	TRACKER_SPARE = 16, /* a ring has at most so many entries for each unsettled record */
	TRACKER_BYTES_EACH = TRACKER_SPARE * sizeof(struct tracker_entry),
	TRACKER_BYTES_MIN = TRACKER_ENTRIES_MIN * sizeof(struct tracker_entry),
};

void tracker_init(struct tracker *t);
void tracker_release(struct tracker *t);

/* At most so many records, 1 .. TRACKER_ENTRIES_MAX, from the oldest unsettled one on. Before the first one. */
void tracker_limit(struct tracker *t, size_t most);

/* Forgets everything and expects the log from `position` on. Tickets go on, so none is given twice. */
void tracker_start(struct tracker *t, int64_t position);

/*
 * Enters a record that was read. `timestamp_us` is kept for the lag in seconds; any value is fine.
 * Returns: false when the offset lies below the position: it was entered before, and must not be
 * handled again under this assignment. The tracker must not be full.
 */
must_use bool tracker_enter(struct tracker *t, int64_t offset, int64_t timestamp_us, uint64_t *ticket);

/* The record that was entered last is known by this. */
void tracker_fingerprint(struct tracker *t, const struct fingerprint *print);

/* The record before the first one to be entered, which is known to be settled. */
void tracker_adopt(struct tracker *t, const struct fingerprint *last);

/* From the last record that it takes until half of them are gone: intake stops and goes on with a pause of the client,
 * which costs what it has fetched. */
bool tracker_full(const struct tracker *t);

/* The record of `ticket` is settled. Each ticket once, and only those given since tracker_start. */
void tracker_settle(struct tracker *t, uint64_t ticket);

/* Nothing is to be read below `position`: the end of the log, past markers without records. */
void tracker_skip(struct tracker *t, int64_t position);

/* The offset of the first unsettled record, or the position when there is none. */
int64_t tracker_committable(const struct tracker *t);

/* The fingerprint of the last record below tracker_committable, of those entered since tracker_start or adopted; without
 * one `exists` is false. */
const struct fingerprint *tracker_last(const struct tracker *t);

/* Timestamp of the first unsettled record; false when there is none. */
bool tracker_oldest_timestamp(const struct tracker *t, int64_t *timestamp_us);

/* Records entered and not settled. */
static inline size_t tracker_unsettled(const struct tracker *t)
{
	return t->unsettled;
}

/* What its ring takes. */
static inline size_t tracker_bytes(const struct tracker *t)
{
	return (t->mask + 1) * sizeof(*t->ring);
}

#endif
