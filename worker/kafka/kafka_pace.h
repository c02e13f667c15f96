/*
 * Keeps a backlog's partitions side by side: one that is ahead_bytes ahead of another waits, paused, until that is
 * closer.
 *
 * librdkafka stops asking when its queue is full, and whenever it was, the order in which partitions are asked for
 * begins anew (librdkafka#1854); a batch larger than fetch.message.max.bytes is sent for the first of an answer
 * only. So of large batches the same partition is read again and again, and the next one when that is at its end.
 * What the queue holds of a partition that has to wait is dropped and fetched again later: a few megabytes a turn,
 * and no memory. Where partitions keep up with each other, nobody ever waits.
 *
 * Nobody waits for one that can't be read: if no record comes for SILENT_POLLS polls that wait, those that were
 * waited for are left aside until they return one (their broker may be away).
 *
 * Thread: the consumer's.
 */
#ifndef WORKER_KAFKA_KAFKA_PACE_H
#define WORKER_KAFKA_KAFKA_PACE_H

#include "worker/kafka/kafka_assignment.h"

struct pace {
	int64_t ahead_bytes; /* 0: nobody waits */
	int64_t most;     /* bytes of the partition ahead of all, when looked at last */
	int silent_polls; /* in a row */
};

/* The partition is read from a new place, or has records again: it begins where the others are, as nothing is owed to
 * it. */
static inline void pace_begin(const struct pace *p, struct slot *s)
{
	s->at_end = s->silent = false;
	if (s->bytes < p->most)
		s->bytes = p->most;
}

/* A record of so many bytes was returned. */
static inline void pace_record(struct pace *p, struct slot *s, size_t bytes)
{
	p->silent_polls = 0;
	if (s->at_end || s->silent)
		pace_begin(p, s);
	s->bytes += (int64_t)bytes;
}

/* Says who waits, from what was returned. Returns: whether that has changed, so that it is to be reconciled. */
must_use bool pace_look(struct pace *p, struct assignment *a);
/* A poll that waited returned nothing. Returns: as above. */
must_use bool pace_silence(struct pace *p, struct assignment *a);

#endif
