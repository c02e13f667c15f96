/* Partitions come and go. The state changes are partition.c's; here stands what each one asks of Kafka. */
#include "worker/pipeline/consumer_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/failpoint.h"
#include "worker/observe/lag.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	ASSIGN_RETRY_MIN_MS = 100,
	ASSIGN_RETRY_MAX_MS = 5000,
	ASK_AGAIN_US = 500000,       /* where the log begins and ends, of which a reader has just seen something else */
	ASK_LOST_US = 5000000,       /* whether a loss is accepted by now */
};

/* What has no position by then is told to the operator [I11]. */
#define UNRESOLVED_US (5 * INT64_C(1000000))

struct partition *rebalance_find(struct consumer *c, const char *topic, int32_t partition)
{
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		if (p->partition == partition && strcmp(p->topic, topic) == 0)
			return p;
	}
	return NULL;
}

static struct partition *find_or_add(struct consumer *c, const char *topic, int32_t number)
{
	struct partition *p = rebalance_find(c, topic, number);
	if (p)
		return p;
	p = malloc(sizeof(*p));
	ENSURE(p);
	partition_init(p, topic, number, strcmp(topic, c->settings.deferred_topic) == 0);
	/* What is read again there and is still over the limit gets copies once more, which are read again by the next one:
	 * while its oldest record waits for something, a partition must not go round and round behind it. */
	if (p->deferred_topic)
		tracker_limit(&p->tracker, c->settings.budget->records_max);
	c->partitions = realloc(c->partitions, (c->partition_count + 1) * sizeof(*c->partitions));
	c->scratch = realloc(c->scratch, (c->partition_count + 1) * sizeof(*c->scratch));
	ENSURE(c->partitions && c->scratch);
	c->partitions[c->partition_count++] = p;
	return p;
}

static struct kafka_partition name_of(const struct partition *p)
{
	return (struct kafka_partition){p->topic, p->partition, -1};
}

static void count_assigned(struct consumer *c)
{
	int assigned = 0;
	for (size_t i = 0; i < c->partition_count; i++)
		assigned += c->partitions[i]->state != PARTITION_GONE;
	atomic_store(&c->assigned, assigned);
	atomic_store(&c->share, assigned ? kafka_consumer_share(c->kafka) : 0.0);
}

/* What a partition that was HELD still had in hand. */
static void release_head(struct consumer *c, struct partition *p)
{
	struct record *head = partition_take_head(p);
	if (head)
		settle_release(c, head);
}

static void note(struct consumer *c, enum news_kind kind, const struct partition *p)
{
	news_add(&c->news, kind, p->topic, p->partition, "");
}

void rebalance_assigned(struct consumer *c, const struct kafka_partition *partitions, size_t count)
{
	metric_add(METRIC_REBALANCE_ASSIGNED, 1);
	for (size_t i = 0; i < count; i++) {
		struct partition *p = find_or_add(c, partitions[i].topic, partitions[i].partition);
		if (p->state != PARTITION_GONE)
			partition_lose(p); /* given again without having been taken: what was read before is void */
		release_head(c, p);
		partition_assign(p);
		note(c, NEWS_ASSIGNED, p);
		/* Others left in the same moment: nobody asks where it starts, so there is nothing to drain. */
		if (c->stopping)
			partition_revoke(p, 0);
	}
	c->assign_retry_ms = ASSIGN_RETRY_MIN_MS;
	atomic_store(&c->joined, true);
	count_assigned(c);
}

size_t rebalance_waiting(struct consumer *c, int64_t now_us)
{
	size_t count = 0;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		bool waits = (p->state == PARTITION_RESOLVING || p->state == PARTITION_PROVING) && !partition_has_lost(p);
		if (!waits)
			p->unresolved_since_us = 0;
		else if (!p->unresolved_since_us)
			p->unresolved_since_us = now_us;
		count += waits && now_us - p->unresolved_since_us >= UNRESOLVED_US;
	}
	return count;
}

void rebalance_resolve(struct consumer *c, int64_t now_us)
{
	struct keeper_job *job = NULL;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		if (p->state == PARTITION_HELD && p->offsets_lost && p->resolve_at_us <= now_us)
			partition_restart(p, now_us);
		if (p->state != PARTITION_RESOLVING || p->resolving || p->resolve_at_us > now_us)
			continue;
		if (!job) {
			job = keeper_job_new(c, KEEPER_ASSIGN, c->partition_count);
			job->count = 0;
		}
		p->resolving = true;
		job->entries[job->count++] = (struct keeper_entry){
		        .partition = p, .epoch = partition_epoch(p), .print = p->expected, .proof = p->proof,
		        .progress_before = p->progress_before};
	}
	if (!job)
		return;
	keeper_ask(c->settings.keeper, job);
	FAIL_POINT(after_start_asked);
}

/* Asked again for word that the loss is accepted; said again only when something else is lost. */
static void offsets_lost(struct consumer *c, struct partition *p, const struct keeper_entry *e, int64_t now_us)
{
	bool known = p->lost.from == e->verdict.range.from && p->lost.to == e->verdict.range.to;
	char range[NEWS_DETAIL_BYTES];
	partition_lose_offsets(p, &e->verdict.range);
	p->resolve_at_us = now_us + ASK_LOST_US;
	p->committed = e->facts.committed;
	if (known)
		return;
	/* Every range is named there; what led to it, here, for as many as the log lets pass. */
	snprintf(range, sizeof(range), ":%" PRId64 "-%" PRId64, e->verdict.range.from, e->verdict.range.to);
	news_add(&c->news, NEWS_LOST, p->topic, p->partition, range);
	LOG(LOG_INFO, "offsets lost in a partition",
	    LOG_S("topic", p->topic), LOG_I("partition", p->partition), LOG_I("from", e->verdict.range.from),
	    LOG_I("to", e->verdict.range.to), LOG_S("reason", e->verdict.reason), LOG_I("committed", e->facts.committed),
	    LOG_I("progress", e->facts.progress), LOG_I("log_start", e->facts.log_start),
	    LOG_I("log_end", e->facts.log_end));
}

/* The offset; where they differ from it, what is committed and what PostgreSQL has; whether it is an operator's. */
static void note_start(struct consumer *c, const struct partition *p, const struct keeper_entry *e)
{
	char from[NEWS_DETAIL_BYTES];
	int64_t start = e->verdict.start;
	int at = snprintf(from, sizeof(from), "@%" PRId64, start);
	if (e->facts.committed >= 0 && e->facts.committed != start)
		at += snprintf(from + at, sizeof(from) - (size_t)at, "(committed %" PRId64 ")", e->facts.committed);
	if (e->facts.progress >= 0 && e->facts.progress != start)
		at += snprintf(from + at, sizeof(from) - (size_t)at, "(progress %" PRId64 ")", e->facts.progress);
	snprintf(from + at, sizeof(from) - (size_t)at, "%s", e->verdict.reset ? "(reset)" : "");
	news_add(&c->news, NEWS_STARTS, p->topic, p->partition, from);
}

/* Returns: where to fetch from. */
static int64_t resolved(struct consumer *c, struct partition *p, const struct keeper_entry *e,
                        const struct history_epoch *history)
{
	int64_t from = partition_resolve(p, &e->verdict, &e->facts, history, e->claim);
	/* What Kafka has is ours only if we marked it, here: anything else is committed over at once. */
	p->committed = e->facts.marked && !e->facts.mark_elsewhere ? e->facts.committed : -1;
	partition_note_time(p, p->recorded);
	if (p->committed >= 0)
		partition_note_time(p, p->committed);
	if (e->verdict.foreign)
		LOG(LOG_ERROR, "another consumer has committed under this group's name: passed over, progress counts",
		    LOG_S("topic", p->topic), LOG_I("partition", p->partition), LOG_I("committed", e->facts.committed),
		    LOG_I("progress", e->facts.progress));
	if (e->verdict.accepted)
		LOG(LOG_WARN, "an accepted loss: read again from the start of the log", LOG_S("topic", p->topic),
		    LOG_I("partition", p->partition), LOG_I("from", e->verdict.range.from),
		    LOG_I("to", e->verdict.range.to));
	if (e->verdict.reset)
		LOG(LOG_WARN, "an operator's reset is obeyed", LOG_S("topic", p->topic), LOG_I("partition", p->partition),
		    LOG_I("offset", e->verdict.start));
	note_start(c, p, e);
	return from;
}

void rebalance_answer(struct consumer *c, const struct keeper_job *job, int64_t now_us)
{
	size_t started = 0;
	bool asked_in_vain = false;
	for (size_t i = 0; i < job->count; i++) {
		const struct keeper_entry *e = &job->entries[i];
		struct partition *p = e->partition;
		if (e->epoch != partition_epoch(p) || p->state != PARTITION_RESOLVING)
			continue;
		p->resolving = false;
		if (!job->done || !e->answered) {
			p->resolve_at_us = now_us + c->assign_retry_ms * 1000;
			asked_in_vain = true;
		} else if (e->verdict.unsure) {
			p->progress_before = e->facts.progress;
			p->resolve_at_us = now_us;
		} else if (e->verdict.lost) {
			offsets_lost(c, p, e, now_us);
		} else {
			c->scratch[started++] =
			        (struct kafka_partition){p->topic, p->partition, resolved(c, p, e, &job->history)};
		}
	}
	c->assign_retry_ms = !asked_in_vain ? ASSIGN_RETRY_MIN_MS
	                     : c->assign_retry_ms * 2 > ASSIGN_RETRY_MAX_MS ? ASSIGN_RETRY_MAX_MS
	                                                                    : c->assign_retry_ms * 2;
	if (!started)
		return;
	kafka_consumer_start(c->kafka, c->scratch, started);
	for (size_t i = 0; i < c->partition_count; i++)
		if (partition_is_fetched(c->partitions[i]))
			consumer_fit_pause(c, c->partitions[i]);
}

static void fetch_from_start(struct consumer *c, struct partition *p)
{
	p->paused = false;
	kafka_consumer_start(c->kafka, &(struct kafka_partition){p->topic, p->partition, p->tracker.position}, 1);
	consumer_fit_pause(c, p);
}

bool rebalance_meet(struct consumer *c, struct partition *p, const struct fingerprint *met, int64_t position)
{
	if (!partition_meets(p, met, position)) {
		LOG(LOG_WARN, "the log lacks the record that was settled last: the start rule is asked",
		    LOG_S("topic", p->topic), LOG_I("partition", p->partition), LOG_I("offset", p->expected.offset),
		    LOG_I("met", met ? met->offset : position));
		rebalance_restart(c, p, clock_mono_us() + ASK_AGAIN_US);
		return false;
	}
	/* The start may lie behind a gap, or below the record: Kafka's commit was the lower one, or a worker of the version
	 * before has obeyed a reset, and knows of no fingerprint. */
	if (!p->expected.exists || position == p->tracker.position)
		return true;
	fetch_from_start(c, p);
	return false;
}

bool rebalance_goes_without(struct consumer *c, struct partition *p)
{
	if (p->state != PARTITION_PROVING || p->expected.exists)
		return false;
	ENSURE(partition_meets(p, NULL, p->tracker.position));
	fetch_from_start(c, p);
	return true;
}

void rebalance_restart(struct consumer *c, struct partition *p, int64_t ask_again_us)
{
	struct kafka_partition name = name_of(p);
	bool fetched = partition_is_fetched(p);
	partition_restart(p, ask_again_us);
	p->paused = false;
	release_head(c, p);
	if (fetched)
		kafka_consumer_stop(c->kafka, &name, 1);
	note(c, NEWS_RESTARTS, p);
}

void rebalance_alarm(struct consumer *c, int64_t now_us)
{
	struct history_alarm *alarm = c->settings.alarm;
	uint64_t raised = history_alarm_raised(alarm);
	if (raised == c->alarm_seen)
		return;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		bool begun = partition_is_reading(p) || p->state == PARTITION_PROVING;
		if (begun && history_alarm_ends(alarm, c->alarm_seen, &p->history))
			rebalance_restart(c, p, now_us);
	}
	c->alarm_seen = raised;
}

/* ---- leaving ---- */

static void remember_leaving(struct consumer *c, const struct kafka_partition *partitions, size_t count)
{
	ENSURE(!c->leaving.partitions);
	c->leaving.partitions = malloc((count + 1) * sizeof(*partitions));
	ENSURE(c->leaving.partitions);
	c->leaving.count = count;
	for (size_t i = 0; i < count; i++)
		c->leaving.partitions[i] = name_of(find_or_add(c, partitions[i].topic, partitions[i].partition));
}

static void let_go(struct consumer *c)
{
	/* Until the next assignment: what takes that long, or never comes, is nothing to be ready with. */
	if (rebalance_is_over(c))
		atomic_store(&c->joined, false);
	kafka_consumer_release(c->kafka, c->leaving.partitions, c->leaving.count);
	free(c->leaving.partitions);
	c->leaving = (struct leaving){0};
	count_assigned(c);
}

static bool all_gone(const struct consumer *c)
{
	for (size_t i = 0; i < c->leaving.count; i++) {
		const struct kafka_partition *k = &c->leaving.partitions[i];
		for (size_t j = 0; j < c->partition_count; j++)
			if (c->partitions[j]->partition == k->partition &&
			    strcmp(c->partitions[j]->topic, k->topic) == 0 && c->partitions[j]->state != PARTITION_GONE)
				return false;
	}
	return true;
}

static void gone(struct consumer *c, struct partition *p)
{
	p->paused = false;
	release_head(c, p);
	lag_remove(p->topic, p->partition);
	note(c, NEWS_GONE, p);
}

void rebalance_revoked(struct consumer *c, const struct kafka_partition *partitions, size_t count, int64_t now_us)
{
	metric_add(METRIC_REBALANCE_REVOKED, 1);
	if (c->leaving.partitions)
		let_go(c);
	remember_leaving(c, partitions, count);
	for (size_t i = 0; i < count; i++) {
		struct partition *p = rebalance_find(c, partitions[i].topic, partitions[i].partition);
		if (p->state == PARTITION_GONE || p->state == PARTITION_DRAINING)
			continue;
		partition_revoke(p, now_us + (int64_t)c->settings.rebalance_drain_ms * 1000);
		note(c, NEWS_REVOKED, p);
	}
	settle_progress(c); /* what is settled by now need not wait for its turn */
	FAIL_POINT(after_revocation);
}

void rebalance_lost(struct consumer *c, const struct kafka_partition *partitions, size_t count)
{
	metric_add(METRIC_REBALANCE_LOST, 1);
	keeper_lost_group(c->settings.keeper);
	LOG(LOG_WARN, "partitions lost to the group", LOG_I("count", count));
	if (c->leaving.partitions)
		let_go(c);
	remember_leaving(c, partitions, count);
	for (size_t i = 0; i < count; i++) {
		struct partition *p = rebalance_find(c, partitions[i].topic, partitions[i].partition);
		if (p->state == PARTITION_GONE)
			continue;
		partition_lose(p);
		gone(c, p);
	}
	let_go(c);
}

/* Everything that was read and can be settled is, and Kafka knows it. The head that waits for its due
 * time is not going to be. */
static bool is_drained(const struct partition *p)
{
	if (p->recorded < 0)
		return true; /* nothing was read under this epoch */
	return tracker_unsettled(&p->tracker) == (p->head ? 1U : 0U) &&
	       tracker_committable(&p->tracker) == p->recorded && p->recorded == p->committed &&
	       !p->commit_unsure;
}

void rebalance_drain(struct consumer *c, int64_t now_us)
{
	bool draining = false;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		if (p->state != PARTITION_DRAINING)
			continue;
		if (is_drained(p) || now_us >= p->drain_until_us) {
			if (!is_drained(p)) {
				c->drained = false;
				LOG(LOG_WARN, "let go before all was settled and committed", LOG_S("topic", p->topic),
				    LOG_I("partition", p->partition), LOG_I("records", tracker_unsettled(&p->tracker)));
			}
			partition_drained(p);
			gone(c, p);
		} else {
			draining = true;
		}
	}
	if (draining) {
		settle_progress(c);
		settle_commit(c);
	}
	if (c->leaving.partitions && all_gone(c))
		let_go(c);
}

void rebalance_stop(struct consumer *c, int64_t deadline_us)
{
	c->stopping = c->drained = true;
	size_t stopped = 0;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		if (p->state == PARTITION_GONE)
			continue;
		if (partition_is_fetched(p))
			c->scratch[stopped++] = name_of(p);
		if (p->state != PARTITION_DRAINING)
			partition_revoke(p, deadline_us);
		p->drain_until_us = deadline_us;
	}
	if (stopped)
		kafka_consumer_stop(c->kafka, c->scratch, stopped);
	settle_progress(c);
}

bool rebalance_is_over(const struct consumer *c)
{
	for (size_t i = 0; i < c->partition_count; i++)
		if (c->partitions[i]->state != PARTITION_GONE)
			return false;
	return true;
}
