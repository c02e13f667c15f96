#include "worker/kafka/kafka_pace.h"

enum {
	SILENT_POLLS = 10, /* half a second */
	CLOSER = 8,        /* who waits goes on at this part of what it may be ahead: each wait costs a fetch */
};

/* It is or could be fetched, and has records as far as is known. */
static bool has_backlog(const struct slot *s)
{
	return s->wanted && s->fetching && !s->paused && s->revocations == 0 && !s->at_end && !s->silent;
}

/* Goes through all slots; `at` begins at {0}. */
struct place {
	size_t topic;
	int32_t partition;
};

static struct slot *next_slot(const struct assignment *a, struct place *at)
{
	for (; at->topic < a->topic_count; at->topic++, at->partition = 0) {
		if (at->partition < a->topics[at->topic].slot_count)
			return &a->topics[at->topic].slots[at->partition++];
	}
	return NULL;
}

bool pace_look(struct pace *p, struct assignment *a)
{
	struct place at = {0};
	int64_t least = INT64_MAX;
	bool changed = false;

	for (struct slot *s; (s = next_slot(a, &at)) != NULL;) {
		if (s->bytes > p->most)
			p->most = s->bytes;
		if (has_backlog(s) && s->bytes < least)
			least = s->bytes;
	}
	at = (struct place){0};
	for (struct slot *s; least < INT64_MAX && (s = next_slot(a, &at)) != NULL;) {
		if (s->paused) /* by back-pressure, or for itself: then it goes on as it was */
			continue;
		bool waiting = p->ahead_bytes > 0 && has_backlog(s) &&
			       s->bytes - least > (s->waiting ? p->ahead_bytes / CLOSER : p->ahead_bytes);
		changed |= waiting != s->waiting;
		s->waiting = waiting;
	}
	return changed;
}

bool pace_silence(struct pace *p, struct assignment *a)
{
	struct place at = {0};

	if (++p->silent_polls < SILENT_POLLS)
		return false;
	p->silent_polls = 0;
	for (struct slot *s; (s = next_slot(a, &at)) != NULL;)
		s->silent |= has_backlog(s) && !s->waiting;
	return pace_look(p, a);
}
