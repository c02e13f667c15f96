/*
 * Settling: the only place where offsets move. A record that comes back under the epoch that it was read
 * under marks its ticket; what is contiguous becomes progress in PostgreSQL; what PostgreSQL has becomes
 * Kafka's commit. Each step is behind the one before, so a crash between any two only means reading again
 * what has no further effect:
 *
 *   effect committed | crash: read again, facts merge to the same, nothing is posted
 *   progress written | crash: Kafka's commit is lower, and the lower one counts
 *   Kafka committed  | nothing left to lose
 */
#include "worker/pipeline/consumer_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/failpoint.h"

#include <stdlib.h>

static void count_and_free(struct consumer *c, struct record *r, enum outcome outcome)
{
	c->tally.settled[outcome]++;
	if (outcome == OUTCOME_DEAD_LETTERED) {
		c->tally.dead_letters[r->refusal->code]++;
		letter_news_note(&c->letter_news, r->refusal->code, r->source.topic, r->source.partition, r->source.offset,
		                 r->refusal->field);
	}
	if (r->committed_us && outcome != OUTCOME_RELEASED && r->source.timestamp_us >= 0)
		histogram_observe(HISTOGRAM_RECORD_LATENCY, (double)(r->committed_us - r->source.timestamp_us) / 1e6, 1);
	budget_give(c->settings.budget, r->block_size);
	record_free(&c->pool, r);
}

void settle_release(struct consumer *c, struct record *r)
{
	count_and_free(c, r, OUTCOME_RELEASED);
}

static void settle_record(struct consumer *c, struct record *r)
{
	struct partition *p = r->partition;
	if (r->epoch != partition_epoch(p)) {
		settle_release(c, r);
		return;
	}
	if (r->outcome == OUTCOME_RELEASED) {
		/* Given back unsettled though we still want it (the history changed under it): the offset must
		 * not stay behind, so the partition is read again. */
		settle_release(c, r);
		if (p->state != PARTITION_RESOLVING)
			rebalance_restart(c, p, clock_mono_us());
		return;
	}
	tracker_settle(&p->tracker, r->ticket);
	count_and_free(c, r, r->outcome);
	FAIL_POINT(after_settle);
	if (p->paused)
		consumer_fit_pause(c, p);
}

void settle_records(struct consumer *c, struct record_list *list)
{
	struct record *r;
	while ((r = record_list_take(list)))
		settle_record(c, r);
}

/* One job carries the positions of one history; in the rare moment of two the other's turn comes next. */
void settle_progress(struct consumer *c)
{
	if (c->progress_asked)
		return;
	struct keeper_job *job = NULL;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		int64_t position = partition_to_record(p);
		if (position < 0)
			continue;
		if (!job) {
			job = keeper_job_new(c, KEEPER_PROGRESS, c->partition_count);
			job->count = 0;
			job->history = p->history;
		} else if (!history_epoch_equal(&job->history, &p->history)) {
			continue;
		}
		partition_note_time(p, position);
		partition_recording(p, position);
		job->entries[job->count++] = (struct keeper_entry){
		        .partition = p, .epoch = partition_epoch(p), .claim = p->claim, .position = position,
		        .print = p->recording_print};
	}
	if (!job)
		return;
	c->progress_asked = true;
	keeper_ask(c->settings.keeper, job); /* the job is the keeper's until settle_answer */
	FAIL_POINT(after_progress_asked);
}

void settle_answer(struct consumer *c, const struct keeper_job *job)
{
	c->progress_asked = false;
	for (size_t i = 0; i < job->count; i++) {
		const struct keeper_entry *e = &job->entries[i];
		struct partition *p = e->partition;
		if (e->epoch != partition_epoch(p))
			continue;
		partition_recorded(p, job->done && e->kept);
		if (!job->done)
			continue;
		if (e->kept) {
			p->committed_lsn = (int64_t)job->lsn;
			continue;
		}
		/* Another assignment took the row: either we are the zombie, and the group will tell us, or the
		 * zombie was late, and asking again takes the row back. Not at once: two must not fight. */
		LOG(LOG_WARN, "progress is claimed by another worker", LOG_S("topic", p->topic),
		    LOG_I("partition", p->partition));
		rebalance_restart(c, p, clock_mono_us() + 1000000);
	}
	FAIL_POINT_IF(job->done, after_progress_answered);
	settle_commit(c);
}

void settle_commit(struct consumer *c)
{
	if (c->commit_under_way)
		return;
	size_t count = 0;
	int64_t lsn = 0; /* the highest that a progress write of this history saw: 0 before the first */
	struct partition *first = NULL;
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		int64_t position = partition_to_commit(p);
		if (position < 0 || (first && !history_epoch_equal(&first->history, &p->history)))
			continue;
		if (!first)
			first = p;
		p->committing = position;
		if (p->committed_lsn > lsn)
			lsn = p->committed_lsn;
		c->scratch[count++] = (struct kafka_partition){p->topic, p->partition, position};
	}
	if (!count)
		return;
	struct commit_mark mark = {first->history, (uint64_t)lsn, keeper_cluster(c->settings.keeper)};
	char metadata[COMMIT_MARK_TEXT_MAX];
	commit_mark_format(&mark, metadata);
	c->commit_under_way = kafka_consumer_commit(c->kafka, c->scratch, count, metadata) == 0;
	if (!c->commit_under_way)
		settle_commit_answered(c, "not sent");
	else
		FAIL_POINT(after_offsets_sent);
}

void settle_commit_answered(struct consumer *c, const char *error)
{
	c->commit_under_way = false;
	FAIL_POINT_IF(!error, after_offsets_answered);
	metric_add(error ? METRIC_COMMIT_FAILED : METRIC_COMMIT_OK, 1);
	if (error)
		LOG(LOG_WARN, "commit failed", LOG_S("reason", error));
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		if (p->committing < 0)
			continue;
		/* Refused, or taken and not answered: what Kafka has may be either, so it is sent again. */
		p->commit_unsure = error != NULL;
		if (!error)
			p->committed = p->committing;
		p->committing = -1;
	}
}
