#include "worker/pipeline/outbox.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/prng.h"
#include "common/thread.h"
#include "worker/failpoint.h"
#include "worker/observe/health.h"
#include "worker/pipeline/consumer.h"
#include "worker/pipeline/copy.h"
#include "worker/pipeline/deferral.h"
#include "worker/pipeline/partition.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	POLL_MS = 50,
	LEARN_MS = 1000,
	RETRY_MIN_MS = 100,
	RETRY_MAX_MS = 5000,
};

#define LEARN_SOON_US (2 * INT64_C(1000000))
#define LEARN_AGAIN_US (60 * INT64_C(1000000))

struct outbox {
	struct outbox_settings settings;
	pthread_t thread;
	struct kafka_producer *producer;
	pthread_mutex_t lock;
	struct record_list arrived; /* under the lock */
	_Atomic bool stopping;
	_Atomic int64_t stop_by_us;

	/* The thread's own. */
	struct copy_builder copies;
	struct record_list waiting; /* to be sent when their time has come */
	struct record_list done;    /* to go back to their consumers */
	size_t under_way;           /* in the library's hands */
	bool alone;                 /* the one under way is to stay alone in its batch */
	int32_t partitions;         /* of the deferred topic; 0: not known */
	int64_t learned_us;         /* when the brokers were asked for them last */
	bool relearn;               /* a deferral was refused since */
	bool failing[2];            /* by kind, what has been said: dead letters, deferrals */
	struct prng random;
};

void outbox_put(struct outbox *o, struct record_list *list)
{
	if (!list->count)
		return;
	mutex_lock(&o->lock);
	record_list_join(&o->arrived, list);
	mutex_unlock(&o->lock);
	kafka_producer_wake(o->producer);
}

const char *outbox_fatal(struct outbox *o)
{
	return kafka_producer_fatal(o->producer);
}

static enum metric degraded_metric(bool dead_letter)
{
	return dead_letter ? METRIC_DEGRADED_DEAD_LETTERS : METRIC_DEGRADED_DEFERRED;
}

static const char *topic_of(const struct outbox *o, bool dead_letter)
{
	return dead_letter ? o->settings.dlq_topic : o->settings.deferred_topic;
}

static void note_failure(struct outbox *o, const struct record *r, const char *reason)
{
	bool dead_letter = record_is_dead_letter(r);
	metric_set(degraded_metric(dead_letter), 1);
	if (o->failing[dead_letter])
		return;
	o->failing[dead_letter] = true;
	LOG(LOG_ERROR, "copies are refused, trying on", LOG_S("topic", topic_of(o, dead_letter)),
	    LOG_S("reason", reason));
}

static void end_failure(struct outbox *o, bool dead_letter)
{
	o->failing[dead_letter] = false;
	metric_set(degraded_metric(dead_letter), 0);
}

static void note_success(struct outbox *o, bool dead_letter)
{
	if (!o->failing[dead_letter])
		return;
	end_failure(o, dead_letter);
	LOG(LOG_INFO, "copies are taken again", LOG_S("topic", topic_of(o, dead_letter)));
}

/* Exponential from the first failure on, with jitter so that records do not come in waves. */
static void retry_later(struct outbox *o, struct record *r)
{
	int64_t wait_ms = RETRY_MIN_MS;
	for (uint32_t i = 1; i < r->attempts && wait_ms < RETRY_MAX_MS; i++)
		wait_ms *= 2;
	if (wait_ms > RETRY_MAX_MS)
		wait_ms = RETRY_MAX_MS;
	wait_ms = wait_ms / 2 + (int64_t)prng_below(&o->random, (uint64_t)wait_ms);
	r->retry_at_us = clock_mono_us() + wait_ms * 1000;
	record_list_append(&o->waiting, r);
}

/*
 * A copy that is too large, or that was in a batch with one that is: brokers refuse batches. So first it is
 * sent again alone; refused then, it will never be taken as it is.
 */
static void shrink(struct outbox *o, struct record *r, const char *reason)
{
	r->retry_at_us = 0;
	if (!r->alone) {
		r->alone = true;
		record_list_append(&o->waiting, r);
	} else if (record_is_dead_letter(r) && !r->without_value) {
		r->without_value = true;
		record_list_append(&o->waiting, r);
	} else if (!record_is_dead_letter(r) && !r->unknown_code) {
		LOG(LOG_WARN, "too large to defer: taken now", LOG_I("partition", r->source.partition),
		    LOG_I("offset", r->source.offset));
		r->outcome = OUTCOME_RECORDED;
		r->admitted = true;
		dispatch_put(o->settings.dispatch, r); /* the record is a worker's again */
	} else {
		note_failure(o, r, reason);
		retry_later(o, r);
	}
}

static void judge(struct outbox *o, struct record *r, enum kafka_delivery result, const char *reason)
{
	switch (result) {
	case KAFKA_DELIVERED:
		FAIL_POINT_IF(record_is_dead_letter(r), after_dead_letter_delivered);
		FAIL_POINT_IF(!record_is_dead_letter(r), after_deferral_delivered);
		note_success(o, record_is_dead_letter(r));
		if (!record_is_dead_letter(r))
			metric_add(r->deferred ? METRIC_DEFERRED_AGAIN : METRIC_DEFERRED_FIRST, 1);
		record_list_append(&o->done, r);
		return;
	case KAFKA_TOO_LARGE:
		shrink(o, r, reason);
		return;
	case KAFKA_REFUSED:
		note_failure(o, r, reason);
		/* It may be that the topic was made anew, with fewer partitions than are known. */
		o->relearn |= !record_is_dead_letter(r);
		retry_later(o, r);
		return;
	}
	UNREACHABLE("a delivery without a result");
}

/* The delivery report: the record is the outbox's again. */
static void delivered(void *owner, void *tag, enum kafka_delivery result, const char *reason)
{
	struct outbox *o = owner;
	o->under_way--;
	o->alone = false;
	judge(o, tag, result, reason);
}

static void learn_deferred(struct outbox *o, int64_t now_us)
{
	o->learned_us = now_us;
	int32_t partitions = kafka_producer_learn(o->producer, o->settings.deferred_topic, LEARN_MS);
	if (partitions > 0)
		o->partitions = partitions;
}

/* The order chooses within its class: what is known of one order stays in the sequence in which it was read. */
static void defer(struct outbox *o, const struct record *r, struct kafka_message *message)
{
	int64_t now_ms = clock_wall_us() / 1000, defer_ms = o->settings.defer_ms;
	struct deferral d = record_awaits_slot(r)
	                            ? deferral_until_slot(now_ms, r->slot.at_ms, defer_ms, o->partitions)
	                            : deferral_next(now_ms, r->deferred ? r->read_from : -1, defer_ms, o->partitions);
	int32_t partition =
	        d.count > 0 ? d.first + (int32_t)(slice_hash(r->event.order_id) % (uint64_t)d.count) : -1;
	copy_deferral(&o->copies, r, o->settings.deferred_topic, partition, d.not_before_ms, message);
}

/* Returns: false when the library's queue is full. */
static bool send(struct outbox *o, struct record *r)
{
	bool dead_letter = record_is_dead_letter(r);
	struct kafka_message message;
	if (dead_letter)
		copy_dead_letter(&o->copies, r, o->settings.dlq_topic, o->settings.worker_name, &message);
	else
		defer(o, r, &message);
	r->attempts++;
	int sent = kafka_producer_send(o->producer, &message, r);
	FAIL_POINT_IF(dead_letter && !sent, after_dead_letter_sent);
	FAIL_POINT_IF(!dead_letter && !sent, after_deferral_sent);
	if (sent == KAFKA_QUEUE_FULL) {
		r->attempts--;
		return false;
	}
	if (sent == KAFKA_DELIVERED)
		o->under_way++, o->alone = r->alone; /* the value is the library's to read until the report */
	else
		judge(o, r, (enum kafka_delivery)sent, "refused by the client");
	return true;
}

/* Sends what is due; what nobody wants any more goes back. */
static void send_due(struct outbox *o)
{
	int64_t now = clock_mono_us();
	struct record_list waiting = o->waiting;
	o->waiting = (struct record_list){0};
	struct record *r;
	while ((r = record_list_take(&waiting))) {
		if (!partition_wants(r)) {
			r->outcome = OUTCOME_RELEASED;
			record_list_append(&o->done, r);
		} else if (r->retry_at_us > now) {
			record_list_append(&o->waiting, r);
		} else if (o->alone || (r->alone && o->under_way > 0) || !send(o, r)) {
			/* The way must be clear first; nothing behind it is sent before, or it never would be. */
			record_list_append(&o->waiting, r);
			break;
		}
	}
	record_list_join(&o->waiting, &waiting);
}

static bool is_awaited(const struct outbox *o, bool dead_letter)
{
	const struct record *r = o->waiting.first;
	while (r && record_is_dead_letter(r) != dead_letter)
		r = r->next;
	return r || o->under_way > 0;
}

/* What was refused may have gone with its partition, and no delivery tells the end of that. */
static void note_unwanted(struct outbox *o)
{
	for (int dead_letter = 0; dead_letter < 2; dead_letter++) {
		if (!o->failing[dead_letter] || is_awaited(o, dead_letter))
			continue;
		end_failure(o, dead_letter);
		LOG(LOG_INFO, "refused copies are wanted no more", LOG_S("topic", topic_of(o, dead_letter)));
	}
}

static bool is_over(struct outbox *o)
{
	if (!atomic_load(&o->stopping))
		return false;
	return (o->under_way == 0 && o->waiting.count == 0) || clock_mono_us() >= atomic_load(&o->stop_by_us);
}

/* Partitions are added, and the topic may come later than the worker. A refusal is asked after sooner. */
static void learn_again(struct outbox *o, int64_t now_us)
{
	bool asked_for = (o->partitions == 0 || o->relearn) && o->waiting.count > 0;
	if (now_us - o->learned_us < (asked_for ? LEARN_SOON_US : LEARN_AGAIN_US))
		return;
	o->relearn = false;
	learn_deferred(o, now_us);
}

static void *run(void *argument)
{
	struct outbox *o = argument;
	int64_t now_us = clock_mono_us();
	struct heart *heart = heart_start("outbox", o->settings.silence_us, now_us);
	(void)kafka_producer_learn(o->producer, o->settings.dlq_topic, LEARN_MS);
	learn_deferred(o, now_us);
	while (!is_over(o)) {
		now_us = clock_mono_us();
		heart_beat(heart, now_us);
		mutex_lock(&o->lock);
		record_list_join(&o->waiting, &o->arrived);
		mutex_unlock(&o->lock);
		learn_again(o, now_us);
		send_due(o);
		note_unwanted(o);
		kafka_producer_poll(o->producer, POLL_MS);
		records_return(&o->done); /* the records are their consumers' */
	}
	heart_stop(heart);
	return NULL;
}

int outbox_start(const struct outbox_settings *s, struct outbox **out, char *error, size_t error_size)
{
	struct outbox *o = calloc(1, sizeof(*o));
	ENSURE(o);
	o->settings = *s;
	if (kafka_producer_open(s->kafka, delivered, o, &o->producer, error, error_size)) {
		free(o);
		return -1;
	}
	mutex_init(&o->lock);
	copy_builder_init(&o->copies);
	o->random = prng_of((uint64_t)clock_wall_us());
	o->thread = thread_start("outbox", run, o);
	*out = o;
	return 0;
}

size_t outbox_stop(struct outbox *o, int timeout_ms)
{
	atomic_store(&o->stop_by_us, clock_mono_us() + (int64_t)timeout_ms * 1000);
	atomic_store(&o->stopping, true);
	kafka_producer_wake(o->producer);
	thread_join(o->thread);
	size_t left = o->under_way + o->waiting.count + o->arrived.count;
	record_list_join(&o->waiting, &o->arrived);
	struct record *r;
	while ((r = record_list_take(&o->waiting))) {
		r->outcome = OUTCOME_RELEASED;
		record_list_append(&o->done, r);
	}
	records_return(&o->done);
	return left;
}

void outbox_free(struct outbox *o)
{
	/* Whatever the library still holds is reported as failed in here, and waits for nobody. */
	kafka_producer_close(o->producer, 0);
	copy_builder_release(&o->copies);
	mutex_destroy(&o->lock);
	free(o);
}
