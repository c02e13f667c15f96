#include "worker/pipeline/partition.h"

#include <stdlib.h>

enum { GONE = PARTITION_GONE, RESOLVING = PARTITION_RESOLVING, RUNNING = PARTITION_RUNNING,
       HELD = PARTITION_HELD, DRAINING = PARTITION_DRAINING, BUG = -1 };

/* After (state, verb). The only place that knows. */
static const int8_t transitions[PARTITION_STATE_COUNT][PARTITION_VERB_COUNT] = {
	/*               ASSIGN     RESOLVE  LOSE_OFFSETS HOLD  DUE      REVOKE    DRAINED LOSE  RESTART */
	[GONE]      = {RESOLVING, BUG,     BUG,         BUG,  BUG,     BUG,      BUG,    BUG,  BUG},
	[RESOLVING] = {BUG,       RUNNING, HELD,        BUG,  BUG,     DRAINING, BUG,    GONE, RESOLVING},
	[RUNNING]   = {BUG,       BUG,     BUG,         HELD, BUG,     DRAINING, BUG,    GONE, RESOLVING},
	[HELD]      = {BUG,       BUG,     BUG,         BUG,  RUNNING, DRAINING, BUG,    GONE, RESOLVING},
	[DRAINING]  = {BUG,       BUG,     BUG,         BUG,  BUG,     BUG,      GONE,   GONE, DRAINING},
};

static const char *const state_names[PARTITION_STATE_COUNT] = {
	[GONE] = "gone", [RESOLVING] = "resolving", [RUNNING] = "running", [HELD] = "held", [DRAINING] = "draining",
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
}

void partition_assign(struct partition *p)
{
	move(p, PARTITION_ASSIGN);
	end_reading(p);
	p->committed = -1;
	p->resolve_at_us = 0;
	p->resolving = p->paused = p->offsets_lost = false;
	p->commit_unsure = false; /* the group takes no commit of an earlier assignment any more */
}

void partition_resolve(struct partition *p, int64_t position, const struct history_epoch *history, int64_t claim)
{
	move(p, PARTITION_RESOLVE);
	tracker_start(&p->tracker, position);
	p->history = *history;
	p->claim = claim;
	p->recorded = position;
	p->resolving = false;
}

void partition_lose_offsets(struct partition *p)
{
	move(p, PARTITION_LOSE_OFFSETS);
	p->offsets_lost = true;
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

int64_t partition_to_record(const struct partition *p)
{
	if (!partition_is_reading(p) || p->recorded < 0 || p->recording >= 0)
		return -1;
	int64_t position = tracker_committable(&p->tracker);
	return position > p->recorded ? position : -1;
}

int64_t partition_to_commit(const struct partition *p)
{
	if (!partition_is_reading(p) || p->recorded < 0 || p->committing >= 0)
		return -1;
	return p->recorded != p->committed || p->commit_unsure ? p->recorded : -1;
}
