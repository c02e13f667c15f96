#include "worker/pipeline/commit_times.h"

#include "common/ensure.h"

void commit_times_clear(struct commit_times *t)
{
	t->count = 0;
	t->unread = false;
}

static bool is_in_use(int64_t position, const int64_t in_use[COMMIT_TIMES_IN_USE])
{
	for (size_t i = 0; i < COMMIT_TIMES_IN_USE; i++)
		if (in_use[i] == position)
			return true;
	return false;
}

void commit_times_note(struct commit_times *t, int64_t position, int64_t time_us,
                       const int64_t in_use[COMMIT_TIMES_IN_USE])
{
	size_t kept = 0;
	t->unread = false;
	for (size_t i = 0; i < t->count; i++) {
		if (t->entries[i].position == position && time_us == COMMIT_TIME_UNREAD)
			time_us = t->entries[i].time_us;
		if (t->entries[i].position == position || !is_in_use(t->entries[i].position, in_use))
			continue;
		t->entries[kept] = t->entries[i];
		t->unread |= t->entries[kept++].time_us == COMMIT_TIME_UNREAD;
	}
	ENSURE(kept < COMMIT_TIMES_MAX);
	t->entries[kept].position = position;
	t->entries[kept].time_us = time_us;
	t->unread |= time_us == COMMIT_TIME_UNREAD;
	t->count = kept + 1;
}

void commit_times_fill(struct commit_times *t, int64_t offset, int64_t time_us)
{
	t->unread = false;
	for (size_t i = 0; i < t->count; i++) {
		if (t->entries[i].time_us != COMMIT_TIME_UNREAD)
			continue;
		if (offset >= t->entries[i].position)
			t->entries[i].time_us = time_us == COMMIT_TIME_UNREAD ? -1 : time_us;
		else
			t->unread = true; /* what is read again lies before it */
	}
}

int64_t commit_times_at(const struct commit_times *t, int64_t position)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->entries[i].position == position)
			return t->entries[i].time_us;
	return -1;
}
