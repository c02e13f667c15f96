#include "worker/pipeline/tracker.h"

#include <stdlib.h>
#include <string.h>

/* No record has this timestamp: Kafka's are milliseconds since 1970, times 1000 here. */
#define TRACKER_SETTLED INT64_MIN

/* A new ring has at least so many entries for each unsettled record: so it is TRACKER_SPARE / 4 times as large as
 * what it shrinks for, and most of it must be used before it is made anew. */
enum { ROOM = 4 };

static struct tracker_entry *entry_at(const struct tracker *t, uint64_t place)
{
	return &t->ring[place & t->mask];
}

static bool is_settled(const struct tracker_entry *entry)
{
	return entry->timestamp_us == TRACKER_SETTLED;
}

/* `size`: a power of two. */
static void set_ring(struct tracker *t, struct tracker_entry *ring, size_t size)
{
	t->ring = ring;
	t->mask = size - 1;
	t->shrink_below = size > TRACKER_ENTRIES_MIN ? size / TRACKER_SPARE : 0;
}

static struct tracker_entry *new_ring(size_t size)
{
	struct tracker_entry *ring = malloc(size * sizeof(*ring));
	ENSURE(ring);
	return ring;
}

void tracker_init(struct tracker *t)
{
	memset(t, 0, sizeof(*t));
	set_ring(t, new_ring(TRACKER_ENTRIES_MIN), TRACKER_ENTRIES_MIN);
	t->most = TRACKER_ENTRIES_MAX;
}

void tracker_limit(struct tracker *t, size_t most)
{
	ENSURE(most > 0 && most <= TRACKER_ENTRIES_MAX && t->next_ticket == t->first);
	t->most = most;
}

void tracker_release(struct tracker *t)
{
	free(t->ring);
	t->ring = NULL;
}

/*
 * Moves what is unsettled into a ring of the size that it calls for. That is a look at each entry since the oldest;
 * but most of a full ring's were entered since it was made, and of an emptied one's half of what it was made for
 * was settled since, a TRACKER_SPARE-th of the ring at least: so what a record costs does not grow with how many
 * there are.
 */
static void fit(struct tracker *t)
{
	size_t size = TRACKER_ENTRIES_MIN;
	while (size < ROOM * t->unsettled)
		size *= 2;
	struct tracker_entry *ring = new_ring(size);
	uint64_t to = t->next_ticket;
	for (uint64_t place = t->next_ticket; place > t->first; place--) {
		const struct tracker_entry *entry = entry_at(t, place - 1);
		if (!is_settled(entry))
			ring[--to & (size - 1)] = *entry;
	}
	t->first = to;
	free(t->ring);
	set_ring(t, ring, size);
}

void tracker_start(struct tracker *t, int64_t position)
{
	t->position = position;
	t->first = t->oldest = t->next_ticket;
	t->unsettled = 0;
	t->full = false;
	t->newest = (struct fingerprint){0};
	if (t->mask >= TRACKER_ENTRIES_MIN)
		fit(t);
}

bool tracker_full(const struct tracker *t)
{
	return t->full;
}

bool tracker_enter(struct tracker *t, int64_t offset, int64_t timestamp_us, uint64_t *ticket)
{
	uint64_t next = t->next_ticket;
	if (offset < t->position)
		return false;
	ENSURE(!tracker_full(t));
	if (next - t->first > t->mask)
		fit(t);
	*entry_at(t, next) = (struct tracker_entry){
	        offset, timestamp_us == TRACKER_SETTLED ? TRACKER_SETTLED + 1 : timestamp_us, next,
	        t->newest};
	t->newest = (struct fingerprint){true, offset, 0, -1};
	t->position = offset + 1;
	t->unsettled++;
	t->next_ticket = next + 1;
	t->full = t->next_ticket - t->oldest == t->most;
	*ticket = next;
	return true;
}

void tracker_fingerprint(struct tracker *t, const struct fingerprint *print)
{
	ENSURE(print->exists && print->offset == t->newest.offset);
	t->newest = *print;
}

void tracker_adopt(struct tracker *t, const struct fingerprint *last)
{
	ENSURE(last->exists && last->offset < t->position && t->first == t->next_ticket);
	t->newest = *last;
}

const struct fingerprint *tracker_last(const struct tracker *t)
{
	return t->first < t->next_ticket ? &entry_at(t, t->first)->before : &t->newest;
}

/* The place to which the entry of `ticket` has moved up. */
static uint64_t search(const struct tracker *t, uint64_t ticket)
{
	uint64_t low = ticket < t->first ? t->first : ticket, end = t->next_ticket;
	while (low < end) {
		uint64_t middle = low + (end - low) / 2;
		if (entry_at(t, middle)->ticket < ticket)
			low = middle + 1;
		else
			end = middle;
	}
	ENSURE(low < t->next_ticket && entry_at(t, low)->ticket == ticket);
	return low;
}

/* The oldest entry is settled: the prefix goes on to the next one that is not. */
static void pass_settled(struct tracker *t)
{
	uint64_t first = t->first + 1;
	while (first < t->next_ticket && is_settled(entry_at(t, first)))
		first++;
	t->first = first;
	t->oldest = first < t->next_ticket ? entry_at(t, first)->ticket : first;
	if (t->full)
		t->full = t->next_ticket - t->oldest > t->most / 2;
}

void tracker_settle(struct tracker *t, uint64_t ticket)
{
	uint64_t place = ticket;
	if (place < t->first || place >= t->next_ticket || entry_at(t, place)->ticket != ticket)
		place = search(t, ticket);
	struct tracker_entry *entry = entry_at(t, place);
	ENSURE(!is_settled(entry));
	entry->timestamp_us = TRACKER_SETTLED;
	t->unsettled--;
	if (place == t->first)
		pass_settled(t);
	if (t->unsettled < t->shrink_below)
		fit(t);
}

void tracker_skip(struct tracker *t, int64_t position)
{
	if (position > t->position)
		t->position = position;
}

int64_t tracker_committable(const struct tracker *t)
{
	return t->first < t->next_ticket ? entry_at(t, t->first)->offset : t->position;
}

bool tracker_oldest_timestamp(const struct tracker *t, int64_t *timestamp_us)
{
	if (t->first == t->next_ticket)
		return false;
	*timestamp_us = entry_at(t, t->first)->timestamp_us;
	return true;
}
