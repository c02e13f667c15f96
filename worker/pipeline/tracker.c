#include "worker/pipeline/tracker.h"

#include <stdlib.h>
#include <string.h>

enum { ENTRIES_MIN = 64 };

static struct tracker_entry *entry_of(const struct tracker *t, uint64_t ticket)
{
	return &t->ring[ticket & t->mask];
}

void tracker_init(struct tracker *t)
{
	memset(t, 0, sizeof(*t));
	t->ring = malloc(ENTRIES_MIN * sizeof(*t->ring));
	ENSURE(t->ring);
	t->mask = ENTRIES_MIN - 1;
	t->most = TRACKER_ENTRIES_MAX;
}

void tracker_limit(struct tracker *t, size_t most)
{
	ENSURE(most > 0 && most <= TRACKER_ENTRIES_MAX && t->next_ticket == t->oldest);
	t->most = most;
}

void tracker_release(struct tracker *t)
{
	free(t->ring);
	t->ring = NULL;
}

void tracker_start(struct tracker *t, int64_t position)
{
	t->position = position;
	t->oldest = t->next_ticket;
	t->unsettled = 0;
	t->full = false;
	t->last = (struct fingerprint){0};
}

bool tracker_full(const struct tracker *t)
{
	return t->full;
}

static void grow(struct tracker *t)
{
	size_t size = (t->mask + 1) * 2;
	struct tracker_entry *ring = malloc(size * sizeof(*ring));
	ENSURE(ring);
	for (uint64_t i = t->oldest; i < t->next_ticket; i++)
		ring[i & (size - 1)] = *entry_of(t, i);
	free(t->ring);
	t->ring = ring;
	t->mask = size - 1;
}

bool tracker_enter(struct tracker *t, int64_t offset, int64_t timestamp_us, uint64_t *ticket)
{
	if (offset < t->position)
		return false;
	ENSURE(!tracker_full(t));
	if (t->next_ticket - t->oldest > t->mask)
		grow(t);
	*ticket = t->next_ticket++;
	*entry_of(t, *ticket) = (struct tracker_entry){.offset = offset, .timestamp_us = timestamp_us};
	t->position = offset + 1;
	t->unsettled++;
	t->full = t->next_ticket - t->oldest == t->most;
	return true;
}

void tracker_fingerprint(struct tracker *t, uint64_t ticket, uint64_t hash, bool producers_time)
{
	ENSURE(ticket >= t->oldest && ticket < t->next_ticket);
	struct tracker_entry *entry = entry_of(t, ticket);
	entry->hash = hash;
	entry->producers_time = producers_time;
}

void tracker_adopt(struct tracker *t, const struct fingerprint *last)
{
	ENSURE(last->offset < t->position && t->oldest == t->next_ticket);
	t->last = *last;
}

void tracker_settle(struct tracker *t, uint64_t ticket)
{
	ENSURE(ticket >= t->oldest && ticket < t->next_ticket);
	struct tracker_entry *entry = entry_of(t, ticket);
	ENSURE(!entry->settled);
	entry->settled = true;
	t->unsettled--;
	uint64_t before = t->oldest;
	while (t->oldest < t->next_ticket && entry_of(t, t->oldest)->settled)
		t->oldest++;
	if (t->oldest != before) {
		const struct tracker_entry *last = entry_of(t, t->oldest - 1);
		t->last = (struct fingerprint){true, last->offset, last->hash,
		                               last->producers_time ? last->timestamp_us / 1000 : -1};
	}
	t->full &= t->next_ticket - t->oldest > t->most / 2;
}

void tracker_skip(struct tracker *t, int64_t position)
{
	if (position > t->position)
		t->position = position;
}

int64_t tracker_committable(const struct tracker *t)
{
	return t->oldest < t->next_ticket ? entry_of(t, t->oldest)->offset : t->position;
}

bool tracker_oldest_timestamp(const struct tracker *t, int64_t *timestamp_us)
{
	if (t->oldest == t->next_ticket)
		return false;
	*timestamp_us = entry_of(t, t->oldest)->timestamp_us;
	return true;
}
