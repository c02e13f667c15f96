#include "worker/pipeline/partition.h"

#include <stdlib.h>

enum { GONE = PARTITION_GONE, RESOLVING = PARTITION_RESOLVING, PROVING = PARTITION_PROVING,
       RUNNING = PARTITION_RUNNING, HELD = PARTITION_HELD, DRAINING = PARTITION_DRAINING, BUG = -1 };

/* After (state, verb). The only place that knows. */
static const int8_t transitions[PARTITION_STATE_COUNT][PARTITION_VERB_COUNT] = {
	/*               ASSIGN     RESOLVE  PROVE    LOSE_OFFSETS HOLD  DUE      REVOKE    DRAINED LOSE  RESTART */
	[GONE]      = {RESOLVING, BUG,     BUG,     BUG,         BUG,  BUG,     BUG,      BUG,    BUG,  BUG},
	[RESOLVING] = {BUG,       PROVING, BUG,     HELD,        BUG,  BUG,     DRAINING, BUG,    GONE, RESOLVING},
	[PROVING]   = {BUG,       BUG,     RUNNING, BUG,         BUG,  BUG,     DRAINING, BUG,    GONE, RESOLVING},
	[RUNNING]   = {BUG,       BUG,     BUG,     BUG,         HELD, BUG,     DRAINING, BUG,    GONE, RESOLVING},
	[HELD]      = {BUG,       BUG,     BUG,     BUG,         BUG,  RUNNING, DRAINING, BUG,    GONE, RESOLVING},
	[DRAINING]  = {BUG,       BUG,     BUG,     BUG,         BUG,  BUG,     BUG,      GONE,   GONE, DRAINING},
};

static const char *const state_names[PARTITION_STATE_COUNT] = {
	[GONE] = "gone",       [RESOLVING] = "resolving", [PROVING] = "proving",
	[RUNNING] = "running", [HELD] = "held",           [DRAINING] = "draining",
};

void partition_init(struct partition *p, const char *topic, int32_t number, bool deferred_topic)
{
	memset(p, 0, sizeof(*p));
	p->topic = strdup(topic);
	ENSURE(p->topic);
	p->partition = number;
	p->deferred_topic = deferred_topic;
	p->recorded = p->recording = p->committed = p->committing = p->unreadable = -1;
	tracker_init(&p->tracker);
}

void partition_release(struct partition *p)
{
	ENSURE(!p->head);
	tracker_release(&p->tracker);
	free(p->topic);
}

const char *partition_state_name(enum partition_state s)
{
	return state_names[s];
}

int partition_after(enum partition_state s, enum partition_verb verb)
{
	return transitions[s][verb];
}

static void move(struct partition *p, enum partition_verb verb)
{
	int after = partition_after(p->state, verb);
	ENSURE(after >= 0);
	p->state = (enum partition_state)after;
}

/* What was read so far counts no more; what is in flight comes back as released. */
static void end_reading(struct partition *p)
{
	atomic_store_explicit(&p->epoch, partition_epoch(p) + 1, memory_order_release);
	tracker_start(&p->tracker, 0);
	p->commit_unsure |= p->committing >= 0;
	p->recorded = p->recording = p->committing = p->unreadable = -1;
	p->committed_lsn = 0; /* a position in the WAL of a history that may be gone */
	p->recorded_print = p->recording_print = (struct fingerprint){0};
}

void partition_assign(struct partition *p)
{
	move(p, PARTITION_ASSIGN);
	end_reading(p);
	p->committed = -1;
	commit_times_clear(&p->times);
	p->resolve_at_us = p->unresolved_since_us = 0;
	p->resolving = p->paused = p->offsets_lost = false;
	p->expected = (struct fingerprint){0};
	p->proof = LOG_UNPROVEN;
	p->progress_before = 0;
	p->lost = (struct offset_range){0, 0};
	p->commit_unsure = false; /* the group takes no commit of an earlier assignment any more */
}

int64_t partition_proves_from(const struct partition *p)
{
	return p->expected.exists ? p->expected.offset : p->tracker.position - 1;
}

int64_t partition_resolve(struct partition *p, const struct start_verdict *v, const struct start_facts *f,
                          const struct history_epoch *history, int64_t claim)
{
	move(p, PARTITION_RESOLVE);
	tracker_start(&p->tracker, v->start);
	p->history = *history;
	p->claim = claim;
	p->recorded = v->start;
	p->resolving = p->offsets_lost = false;
	p->lost = (struct offset_range){0, 0};
	p->proof = LOG_UNPROVEN;
	p->progress_before = 0;
	/* A reset and an accepted loss begin with none. Where retention has passed the record, what is before the start now
	 * is taken instead. */
	bool stands = f->print.exists && !v->reset && !v->accepted && f->print.offset >= f->log_start;
	p->expected = stands ? f->print : (struct fingerprint){0};
	/* Once proven, progress is to name this cluster: the record may be gone when somebody asks again. */
	p->recorded_print = stands && !f->other_cluster ? f->print : (struct fingerprint){0};
	if (p->expected.exists || v->start > f->log_start)
		return partition_proves_from(p);
	move(p, PARTITION_PROVE);
	return v->start;
}

bool partition_meets(struct partition *p, const struct fingerprint *met, int64_t position)
{
	ENSURE(p->state == PARTITION_PROVING);
	bool before = met && met->offset < p->tracker.position;
	if (p->expected.exists && !fingerprint_matches(met ? met : &(struct fingerprint){0}, &p->expected)) {
		if (met && met->offset == p->expected.offset)
			p->proof = LOG_OTHER_RECORD;
		else if (position > p->expected.offset)
			p->proof = LOG_RECORD_MISSING;
		return false;
	}
	move(p, PARTITION_PROVE);
	if (before)
		tracker_adopt(&p->tracker, met);
	return true;
}

void partition_lose_offsets(struct partition *p, const struct offset_range *lost)
{
	move(p, PARTITION_LOSE_OFFSETS);
	p->offsets_lost = true;
	p->lost = *lost;
	p->progress_before = 0;
	p->resolving = false;
}

void partition_hold(struct partition *p, struct record *head, int64_t due_ms)
{
	move(p, PARTITION_HOLD);
	ENSURE(!p->head);
	p->head = head;
	p->head_due_ms = due_ms;
}

struct record *partition_take_head(struct partition *p)
{
	struct record *head = p->head;
	p->head = NULL;
	return head;
}

struct record *partition_due(struct partition *p)
{
	move(p, PARTITION_DUE);
	return partition_take_head(p);
}

void partition_revoke(struct partition *p, int64_t drain_until_us)
{
	/* Without a tracker that counts there is nothing to drain or to commit. */
	if (!partition_is_reading(p))
		end_reading(p);
	move(p, PARTITION_REVOKE);
	p->drain_until_us = drain_until_us;
	p->resolving = false;
}

void partition_drained(struct partition *p)
{
	move(p, PARTITION_DRAINED);
	end_reading(p);
}

void partition_lose(struct partition *p)
{
	move(p, PARTITION_LOSE);
	end_reading(p);
	p->resolving = false;
}

void partition_restart(struct partition *p, int64_t ask_again_us)
{
	move(p, PARTITION_RESTART);
	end_reading(p);
	p->resolve_at_us = ask_again_us;
	p->resolving = p->offsets_lost = false;
}

static bool is_newer(const struct fingerprint *a, const struct fingerprint *b)
{
	return a->exists && (!b->exists || a->offset > b->offset);
}

void partition_note_time(struct partition *p, int64_t position)
{
	int64_t oldest_us;
	if (!tracker_oldest_timestamp(&p->tracker, &oldest_us))
		oldest_us = COMMIT_TIME_UNREAD;
	commit_times_note(&p->times, position, oldest_us, (const int64_t[]){p->committed, p->committing, p->recorded});
}

int64_t partition_uncommitted_us(const struct partition *p)
{
	/* Without a commit it is where reading began: that is committed at once. */
	return commit_times_at(&p->times, p->committed >= 0 ? p->committed : p->recorded);
}

int64_t partition_to_record(const struct partition *p)
{
	if (!partition_is_reading(p) || p->recorded < 0 || p->recording >= 0)
		return -1;
	int64_t position = tracker_committable(&p->tracker);
	return position > p->recorded || is_newer(tracker_last(&p->tracker), &p->recorded_print) ? position : -1;
}

void partition_recording(struct partition *p, int64_t position)
{
	p->recording = position;
	p->recording_print = *tracker_last(&p->tracker);
}

void partition_recorded(struct partition *p, bool kept)
{
	if (kept) {
		p->recorded = p->recording;
		if (p->recording_print.exists)
			p->recorded_print = p->recording_print;
	}
	p->recording = -1;
}

int64_t partition_to_commit(const struct partition *p)
{
	if (!partition_is_reading(p) || p->recorded < 0 || p->committing >= 0)
		return -1;
	return p->recorded != p->committed || p->commit_unsure ? p->recorded : -1;
}
