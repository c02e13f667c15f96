#include "worker/pipeline/consumer_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/failpoint.h"
#include "worker/kafka/kafka_fingerprint.h"
#include "worker/pipeline/copy.h"
#include "worker/pipeline/deferral.h"

/* Owns: the record goes to a worker, by way of the queue. A crash from here to the COMMIT costs the
 * work only: the offset is not committed, so it is read again. */
static void dispatch(struct consumer *c, struct record *r)
{
	dispatch_put(c->settings.dispatch, r);
	FAIL_POINT(after_dispatch);
}

static int64_t record_time(const struct partition *p, const struct kafka_record *k)
{
	return p->deferred_topic ? copy_source_timestamp(k->headers, k->header_count, k->timestamp_us)
	                         : k->timestamp_us;
}

/* A record of our own making: the block that lives until the record is settled. */
static struct record *take(struct consumer *c, struct partition *p, const struct kafka_record *k,
                           const struct event *event, uint64_t ticket)
{
	struct record *r = record_new(&c->pool, k, event);
	budget_take(c->settings.budget, r->block_size);
	r->owner = c;
	r->partition = p;
	r->epoch = partition_epoch(p);
	r->ticket = ticket;
	r->history = p->history;
	r->deferred = p->deferred_topic;
	r->source.topic = slice_of(p->topic);
	if (p->deferred_topic)
		copy_read_headers(r);
	return r;
}

/* Owns: a record that is not due is the partition's, until it is. Returns: whether it goes on at once. */
static bool is_due(struct consumer *c, struct partition *p, struct record *r, int64_t kafka_us)
{
	int64_t now_ms = clock_wall_us() / 1000;
	if (r->not_before_ms <= now_ms)
		return true;
	int32_t partitions = kafka_consumer_partition_count(c->kafka, p->topic);
	/* Not known: no class waits longer than the longest. */
	int class = partitions > 0 ? deferral_class(p->partition, partitions) : DEFERRAL_CLASSES - 1;
	int64_t due_ms = deferral_due_ms(r->not_before_ms, kafka_us < 0 ? -1 : kafka_us / 1000, now_ms,
	                                 deferral_delay_ms(class, c->settings.defer_ms));
	if (due_ms <= now_ms)
		return true;
	partition_hold(p, r, due_ms);
	p->head_until_us = clock_mono_us() + (due_ms - now_ms) * 1000;
	return false;
}

void intake_record(struct consumer *c, const struct kafka_record *k)
{
	struct partition *p = c->last && c->last->partition == k->partition && strcmp(c->last->topic, k->topic) == 0
	                              ? c->last
	                              : rebalance_find(c, k->topic, k->partition);
	/* What a stopped or revoked partition still had in the pipe is not ours to take: whoever reads it next does. */
	if (!p || p->state == PARTITION_RESOLVING || p->state == PARTITION_DRAINING || p->state == PARTITION_GONE)
		return;
	struct fingerprint print = fingerprint_of_record(k);
	if (p->state == PARTITION_PROVING && !rebalance_meet(c, p, &print, k->offset + 1))
		return;
	/* Taking a later record while the head waits would lose the ones between: paused means paused. */
	ENSURE(p->state == PARTITION_RUNNING);
	c->last = p;

	uint64_t ticket;
	if (!tracker_enter(&p->tracker, k->offset, k->timestamp_us, &ticket))
		return;
	tracker_fingerprint(&p->tracker, &print);
	commit_times_read(&p->times, k->offset, k->timestamp_us);
	c->tally.consumed++;
	p->unreadable = -1;
	FAIL_POINT(after_track);

	struct event event;
	struct decode_error error;
	enum error_code code = event_decode(c->decoder, k->value, k->headers, k->header_count, record_time(p, k), &event,
	                                    &error);
	FAIL_POINT(after_decode);
	struct record *r = take(c, p, k, code == ERROR_NONE ? &event : NULL, ticket);
	if (code != ERROR_NONE) {
		record_refuse(r, code, error.field, error.message);
		record_list_append(&c->letters, r);
	} else if (!is_due(c, p, r, k->timestamp_us)) {
		consumer_fit_pause(c, p);
	} else {
		if (event.unknown_members)
			metric_add(METRIC_UNKNOWN_MEMBERS, event.unknown_members);
		dispatch(c, r);
	}
	if (tracker_full(&p->tracker))
		consumer_fit_pause(c, p);
}

void intake_due(struct consumer *c, struct partition *p)
{
	struct record *r = partition_due(p);
	dispatch(c, r);
	consumer_fit_pause(c, p);
}
