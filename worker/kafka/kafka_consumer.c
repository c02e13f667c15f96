/*
 * The group member's events. How assignments are answered and started: kafka_assignment.h.
 *
 * stale-fetch: librdkafka drops what was fetched before a pause, a stop or a restart by a version that these calls
 * raise before they return, so the thread that makes them polls no such record afterwards. Its own pause at a
 * rebalance is raised by another thread, and may make it fetch again a record that this thread is taking:
 * what is below the position is a repeat and is dropped.
 */
#include "worker/kafka/kafka_assignment.h"
#include "worker/kafka/kafka_pace.h"
#include "worker/kafka/kafka_pending.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	METADATA_TIMEOUT_MS = 1000,
	/* Whichever comes first: fractions of what is queued at the most, which kafka_settings.c bounds by records and
	 * by the bytes of their values, so that the fetcher refills before the queue is empty. */
	WAKE_EVERY_RECORDS = 1024,
	WAKE_EVERY_BYTES = 1024 * 1024,
};

struct kafka_consumer {
	rd_kafka_t *rk;
	struct assignment assignment;
	struct pace pace;
	struct pending_queue rebalances;
	struct pending_queue answers; /* to commits, and troubles; poll takes each before it asks for the next */
	struct pending *current;      /* what the last poll returned, if it came from a queue */
	rd_kafka_message_t *message;  /* or from librdkafka */
	struct header *headers;
	size_t header_capacity;
	struct kafka_partition stopped; /* the one that a KAFKA_TROUBLE names */
	char *sasl_username, *sasl_password; /* owned: as configured, or "" */
	unsigned records_taken;         /* since the fetcher was woken */
	size_t bytes_taken;             /* of values, since then */
	bool release_due;               /* a revocation was delivered and not released */
	bool fatal;
	char fatal_error[sizeof(((struct kafka_event *)0)->error)];
	rd_kafka_queue_t *close_queue; /* leaked with the handle that posts to it, if the close takes too long */
	atomic_int assigned_count;     /* of this member; for kafka_consumer_share */
	atomic_int partition_count;    /* of all topics; 0: not known yet */
};

static void forget(struct slot *s)
{
	s->wanted = false;
	s->paused = false;
	s->waiting = false;
	s->restart = false;
}

/* ---- callbacks, which run inside rd_kafka_consumer_poll and end it ---- */

/* Ends what the worker may do with a partition, for a revocation that it has yet to hear of. */
static void take_back(struct slot *s, bool lost)
{
	s->granted = false;
	s->draining = !lost;
	s->revocations++;
}

/* Eager assignments replace each other. What the last one gave and no revocation took is lost (assigned-twice),
 * and what still drains is no longer ours to commit (rejoined-without-answer). */
static void end_last_assignment(struct kafka_consumer *c)
{
	struct pending *lost = pending_new(KAFKA_LOST, assignment_size(&c->assignment));
	for (size_t i = 0; i < c->assignment.topic_count; i++) {
		struct assigned_topic *t = &c->assignment.topics[i];
		for (int32_t partition = 0; partition < t->slot_count; partition++) {
			struct slot *s = &t->slots[partition];
			s->draining = false;
			if (s->granted) {
				pending_add_partition(lost, t->name, partition);
				take_back(s, true);
			}
		}
	}
	if (lost->partition_count > 0)
		pending_queue_put(&c->rebalances, lost);
	else
		free(lost);
}

static void queue_rebalance(struct kafka_consumer *c, enum kafka_event_kind kind,
			    const rd_kafka_topic_partition_list_t *list)
{
	struct pending *p = pending_new(kind, (size_t)list->cnt);
	for (int i = 0; i < list->cnt; i++) {
		struct assigned_topic *t = assignment_topic(&c->assignment, list->elems[i].topic);
		ENSURE(t != NULL); /* nothing but what is subscribed is assigned */
		struct slot *s = assigned_topic_slot(t, list->elems[i].partition);
		pending_add_partition(p, t->name, list->elems[i].partition);
		if (kind == KAFKA_ASSIGNED)
			s->granted = true;
		else
			take_back(s, kind == KAFKA_LOST);
	}
	pending_queue_put(&c->rebalances, p);
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct kafka_consumer *c = opaque;

	c->assignment.cooperative = !strcmp(rd_kafka_rebalance_protocol(rk), "COOPERATIVE");
	if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		assignment_answer_empty(&c->assignment);
		if (!c->assignment.cooperative)
			end_last_assignment(c);
		queue_rebalance(c, KAFKA_ASSIGNED, list);
	} else {
		c->assignment.answer_due = true;
		queue_rebalance(c, rd_kafka_assignment_lost(rk) ? KAFKA_LOST : KAFKA_REVOKED, list);
	}
	rd_kafka_yield(rk);
}

static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct kafka_consumer *c = opaque;
	for (int i = 0; !err && list && i < list->cnt; i++)
		err = list->elems[i].err;
	struct pending *p = pending_new(KAFKA_COMMITTED, 0);
	p->commit_error = err ? rd_kafka_err2str(err) : NULL;
	pending_queue_put(&c->answers, p);
	rd_kafka_yield(rk);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	struct kafka_consumer *c = opaque;
	if (err == RD_KAFKA_RESP_ERR__FATAL) {
		c->fatal = true;
	} else {
		struct pending *p = pending_new(KAFKA_TROUBLE, 0);
		kafka_reason(reason, p->error, sizeof(p->error));
		pending_queue_put(&c->answers, p);
	}
	rd_kafka_yield(rk);
}

/* ---- opening ---- */

static void free_consumer(struct kafka_consumer *c)
{
	pending_queue_release(&c->rebalances);
	pending_queue_release(&c->answers);
	assignment_release(&c->assignment);
	free(c->current);
	free(c->headers);
	free(c->sasl_username);
	free(c->sasl_password);
	free(c);
}

/* Owns: the caller. "" for a property that is not set. */
static char *property_of(const rd_kafka_conf_t *conf, const char *name)
{
	size_t size = 1;
	if (rd_kafka_conf_get(conf, name, NULL, &size) != RD_KAFKA_CONF_OK)
		size = 1;
	char *value = calloc(1, size);
	ENSURE(value != NULL);
	if (size > 1 && rd_kafka_conf_get(conf, name, value, &size) != RD_KAFKA_CONF_OK)
		value[0] = '\0';
	return value;
}

static rd_kafka_resp_err_t subscribe(struct kafka_consumer *c, const char *const *topics, size_t topic_count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)topic_count);
	for (size_t i = 0; i < topic_count; i++)
		rd_kafka_topic_partition_list_add(list, topics[i], RD_KAFKA_PARTITION_UA);
	rd_kafka_resp_err_t err = rd_kafka_poll_set_consumer(c->rk);
	if (!err)
		err = rd_kafka_subscribe(c->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

int kafka_consumer_open(const struct kafka_settings *s, const char *const *topics, size_t topic_count,
			struct kafka_consumer **out, char *error, size_t error_size)
{
	rd_kafka_conf_t *conf = kafka_conf_new(s, KAFKA_CONSUMER, error, error_size);
	if (!conf)
		return -1;
	struct kafka_consumer *c = calloc(1, sizeof(*c));
	ENSURE(c != NULL);
	c->pace.ahead_bytes = s->ahead_bytes;
	pending_queue_init(&c->rebalances);
	pending_queue_init(&c->answers);
	assignment_init(&c->assignment, topics, topic_count);
	c->sasl_username = property_of(conf, "sasl.username");
	c->sasl_password = property_of(conf, "sasl.password");

	rd_kafka_conf_set_opaque(conf, c);
	rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
	rd_kafka_conf_set_error_cb(conf, on_error);
	c->rk = kafka_handle_new(RD_KAFKA_CONSUMER, conf, error, error_size);
	if (!c->rk) {
		free_consumer(c);
		return -1;
	}
	c->assignment.rk = c->rk;
	rd_kafka_resp_err_t err = subscribe(c, topics, topic_count);
	if (err) {
		snprintf(error, error_size, "kafka subscribe: %s", rd_kafka_err2str(err));
		if (kafka_handle_free(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE, METADATA_TIMEOUT_MS))
			free_consumer(c);
		return -1;
	}
	*out = c;
	return 0;
}

/* ---- poll ---- */

/* The group's share needs all partitions, and only the brokers know them; they have just assigned some. */
static void count_partitions(struct kafka_consumer *c)
{
	int total = 0;
	for (size_t i = 0; i < c->assignment.topic_count; i++) {
		const struct rd_kafka_metadata *metadata = NULL;
		rd_kafka_topic_t *topic = rd_kafka_topic_new(c->rk, c->assignment.topics[i].name, NULL);
		if (!topic)
			return;
		rd_kafka_resp_err_t err = rd_kafka_metadata(c->rk, 0, topic, &metadata, METADATA_TIMEOUT_MS);
		rd_kafka_topic_destroy(topic);
		if (err)
			return;
		if (metadata->topic_cnt == 1) {
			c->assignment.topics[i].partition_count = metadata->topics[0].partition_cnt;
			total += metadata->topics[0].partition_cnt;
		}
		rd_kafka_metadata_destroy(metadata);
	}
	atomic_store(&c->partition_count, total);
}

static void deliver(struct kafka_consumer *c, struct pending *p, struct kafka_event *event)
{
	c->current = p;
	event->kind = p->kind;
	event->partitions = p->partitions;
	event->partition_count = p->partition_count;
	event->commit_error = p->commit_error;
	memcpy(event->error, p->error, sizeof(event->error));
}

static void deliver_rebalance(struct kafka_consumer *c, struct kafka_event *event)
{
	struct pending *p = pending_queue_take(&c->rebalances);
	deliver(c, p, event);
	if (p->kind != KAFKA_ASSIGNED) {
		c->release_due = true;
		return;
	}
	for (size_t i = 0; i < p->partition_count; i++) {
		struct slot *s = assignment_slot(&c->assignment, p->partitions[i].topic, p->partitions[i].partition);
		forget(s);
		s->assigned = true;
	}
	atomic_fetch_add(&c->assigned_count, (int)p->partition_count);
	count_partitions(c);
}

/* The slot that this is of; NULL when it is none that the worker reads, as what is left of a partition that was
 * revoked. What is below its position is a repeat (stale-fetch). */
static struct slot *fetched(struct kafka_consumer *c, const rd_kafka_message_t *m, const char **topic)
{
	struct assigned_topic *t = assignment_topic(&c->assignment, rd_kafka_topic_name(m->rkt));
	if (!t || m->partition < 0 || m->partition >= t->slot_count)
		return NULL;
	struct slot *s = &t->slots[m->partition];
	*topic = t->name;
	return s->wanted && s->fetching && !s->restart && s->revocations == 0 ? s : NULL;
}

static void trouble(struct kafka_event *event, const rd_kafka_message_t *m)
{
	event->kind = KAFKA_TROUBLE;
	snprintf(event->error, sizeof(event->error), "%s", rd_kafka_message_errstr(m));
}

/* The position is not in the log, and librdkafka has stopped fetching: the start rule must look again. */
static void out_of_range(struct kafka_consumer *c, struct slot *s, const char *topic, const rd_kafka_message_t *m,
			 struct kafka_event *event)
{
	trouble(event, m);
	c->stopped = (struct kafka_partition){topic, m->partition, s->position};
	event->partitions = &c->stopped;
	event->partition_count = 1;
	kafka_consumer_stop(c, &c->stopped, 1);
}

/* librdkafka does not stop there: it goes on at another place of the same answer, and with it comes to the same batch
 * again or takes other bytes for a position. What it skips would be taken for a gap: not from here on. */
static void unreadable(struct kafka_consumer *c, struct slot *s, const char *topic, const rd_kafka_message_t *m,
		       struct kafka_event *event)
{
	event->kind = KAFKA_UNREADABLE;
	kafka_unreadable_reason(c->rk, m, event->error, sizeof(event->error));
	event->end = (struct kafka_partition){topic, m->partition, s->position};
	kafka_consumer_stop(c, &event->end, 1);
}

/*
 * The fetcher that found its partitions paused, or below 2.2 the queue full, looks again after a second, or when its
 * thread is woken: so each resume would cost that second, and a queue of less than a second's traffic, which is what
 * memory allows, would halve the throughput. Setting the credentials that are set already wakes the threads of all
 * brokers, and of the public calls it alone does so without a request to a broker.
 */
static void wake_fetcher(struct kafka_consumer *c)
{
	kafka_credentials_set_again(c->rk, c->sasl_username, c->sasl_password);
}

static void keep_pace(struct kafka_consumer *c)
{
	if (pace_look(&c->pace, &c->assignment))
		assignment_reconcile(&c->assignment, false);
}

static void count_taken(struct kafka_consumer *c, struct slot *s, size_t value_bytes)
{
	pace_record(&c->pace, s, value_bytes);
	c->records_taken++;
	c->bytes_taken += value_bytes;
	if (c->records_taken < WAKE_EVERY_RECORDS && c->bytes_taken < WAKE_EVERY_BYTES)
		return;
	keep_pace(c);
	c->records_taken = 0;
	c->bytes_taken = 0;
	if (rd_kafka_version() < QUEUE_BACKOFF_FROM)
		wake_fetcher(c);
}

/* Returns: whether `m` is an event for the worker. */
static bool deliver_message(struct kafka_consumer *c, const rd_kafka_message_t *m, struct kafka_event *event)
{
	const char *topic = NULL;
	struct slot *fetching = m->rkt ? fetched(c, m, &topic) : NULL;
	struct slot *s = fetching && m->offset >= fetching->position ? fetching : NULL;

	switch (m->err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		if (!s)
			return false;
		if (s->paused || s->waiting) {
			s->restart = true; /* stale-fetch excludes it; should it come all the same, it is read again */
			return false;
		}
		event->kind = KAFKA_RECORD;
		event->record = kafka_record_of(m, topic, &c->headers, &c->header_capacity);
		s->position = m->offset + 1;
		count_taken(c, s, m->len);
		return true;
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		if (!s || s->paused || s->waiting)
			return false;
		event->kind = KAFKA_END;
		event->end = (struct kafka_partition){topic, m->partition, m->offset};
		s->position = m->offset;
		s->at_end = true;
		keep_pace(c);
		return true;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		if (!s)
			return false;
		out_of_range(c, s, topic, m, event);
		return true;
	case RD_KAFKA_RESP_ERR__FATAL:
		c->fatal = true;
		return false;
	default:
		if (!kafka_is_damage(m->err)) {
			trouble(event, m);
			return true;
		}
		if (!fetching) /* not `s`: it names the batch's first offset, and a position may be amid a batch */
			return false;
		unreadable(c, fetching, topic, m, event);
		return true;
	}
}

static bool deliver_fatal(struct kafka_consumer *c, struct kafka_event *event)
{
	if (!c->fatal)
		return false;
	/* librdkafka tells it once; here it stays. */
	if (c->fatal_error[0] == '\0' && !rd_kafka_fatal_error(c->rk, c->fatal_error, sizeof(c->fatal_error)))
		snprintf(c->fatal_error, sizeof(c->fatal_error), "fatal error of the kafka client");
	event->kind = KAFKA_FATAL;
	memcpy(event->error, c->fatal_error, sizeof(event->error));
	return true;
}

static bool deliver_pending(struct kafka_consumer *c, struct kafka_event *event)
{
	struct pending *p = pending_queue_take(&c->answers);
	if (p) {
		deliver(c, p, event);
		return true;
	}
	if (!c->rebalances.first || c->release_due)
		return false;
	deliver_rebalance(c, event);
	return true;
}

static void drop_last(struct kafka_consumer *c)
{
	free(c->current);
	c->current = NULL;
	if (c->message)
		rd_kafka_message_destroy(c->message);
	c->message = NULL;
}

void kafka_consumer_poll(struct kafka_consumer *c, int timeout_ms, struct kafka_event *event)
{
	/* Under load there is a record at once: for that no clock is read, neither here nor in the library. */
	int64_t deadline_ms = -1, left_ms = 0;

	for (;;) {
		drop_last(c);
		event->kind = KAFKA_NOTHING;
		event->partitions = NULL;
		event->partition_count = 0;
		event->commit_error = NULL;
		event->error[0] = '\0';
		if (deliver_fatal(c, event) || deliver_pending(c, event))
			return;
		if (deadline_ms >= 0 && left_ms <= 0) {
			if (pace_silence(&c->pace, &c->assignment))
				assignment_reconcile(&c->assignment, false);
			return;
		}
		c->message = rd_kafka_consumer_poll(c->rk, (int)left_ms);
		if (c->message && deliver_message(c, c->message, event))
			return;
		int64_t now_ms = clock_mono_ms();
		if (deadline_ms < 0)
			deadline_ms = now_ms + timeout_ms;
		left_ms = deadline_ms - now_ms;
	}
}

/* ---- what is fetched ---- */

static struct slot *slot_of(struct kafka_consumer *c, const struct kafka_partition *p)
{
	struct slot *s = assignment_slot(&c->assignment, p->topic, p->partition);
	ENSURE(s != NULL && s->assigned);
	return s;
}

void kafka_consumer_start(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct slot *s = slot_of(c, &partitions[i]);
		ENSURE(partitions[i].offset >= 0);
		forget(s);
		s->wanted = true;
		s->restart = s->fetching;
		s->position = partitions[i].offset;
		pace_begin(&c->pace, s);
	}
	assignment_reconcile(&c->assignment, false);
}

void kafka_consumer_stop(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	for (size_t i = 0; i < count; i++)
		forget(slot_of(c, &partitions[i]));
	assignment_reconcile(&c->assignment, false);
}

void kafka_consumer_release(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	ENSURE(c->release_due);
	c->release_due = false;
	for (size_t i = 0; i < count; i++) {
		struct slot *s = slot_of(c, &partitions[i]);
		ENSURE(s->revocations > 0);
		forget(s);
		s->assigned = false;
		s->draining = s->draining && s->revocations > 1;
		s->revocations--;
	}
	atomic_fetch_sub(&c->assigned_count, (int)count);
	/* A revocation behind this one is the one that librdkafka waits for. */
	assignment_reconcile(&c->assignment, !pending_queue_has_revocation(&c->rebalances));
}

static void set_paused(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count, bool paused)
{
	for (size_t i = 0; i < count; i++) {
		struct slot *s = slot_of(c, &partitions[i]);
		s->paused = paused && s->wanted;
	}
	assignment_reconcile(&c->assignment, false);
}

void kafka_consumer_pause(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	set_paused(c, partitions, count, true);
}

void kafka_consumer_resume(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	set_paused(c, partitions, count, false);
	wake_fetcher(c);
}

/* ---- commit ---- */

/* Whether a commit for it is still ours to make. */
static bool is_owned(const struct slot *s)
{
	return s && s->assigned && (s->revocations == 0 || s->draining);
}

int kafka_consumer_commit(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count,
			  const char *metadata)
{
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__STATE;
	if (rd_kafka_assignment_lost(c->rk))
		return -1; /* the event is on its way */
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
	for (size_t i = 0; i < count; i++) {
		if (!is_owned(assignment_slot(&c->assignment, partitions[i].topic, partitions[i].partition)))
			continue;
		rd_kafka_topic_partition_t *p =
			rd_kafka_topic_partition_list_add(list, partitions[i].topic, partitions[i].partition);
		p->offset = partitions[i].offset;
		p->metadata = strdup(metadata); /* freed with the list */
		ENSURE(p->metadata != NULL);
		p->metadata_size = strlen(metadata);
	}
	if (list->cnt > 0)
		err = rd_kafka_commit(c->rk, list, 1 /* asynchronously */);
	rd_kafka_topic_partition_list_destroy(list);
	return err ? -1 : 0;
}

double kafka_consumer_share(struct kafka_consumer *c)
{
	int assigned = atomic_load(&c->assigned_count);
	int partitions = atomic_load(&c->partition_count);
	if (assigned < 1)
		assigned = 1;
	return partitions > assigned ? (double)assigned / partitions : 1;
}

int32_t kafka_consumer_partition_count(const struct kafka_consumer *c, const char *topic)
{
	for (size_t i = 0; i < c->assignment.topic_count; i++)
		if (strcmp(c->assignment.topics[i].name, topic) == 0)
			return c->assignment.topics[i].partition_count;
	return 0;
}

/* ---- the end ---- */

/* Without draining: what is due is answered at once. */
static void answer_revocation(struct kafka_consumer *c)
{
	if (!c->assignment.answer_due)
		return;
	for (size_t i = 0; i < c->assignment.topic_count; i++) {
		for (int32_t p = 0; p < c->assignment.topics[i].slot_count; p++) {
			if (c->assignment.topics[i].slots[p].revocations > 0)
				forget(&c->assignment.topics[i].slots[p]);
		}
	}
	assignment_reconcile(&c->assignment, true);
}

bool kafka_consumer_close(struct kafka_consumer *c, int timeout_ms)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;

	c->close_queue = rd_kafka_queue_new(c->rk);
	drop_last(c);
	answer_revocation(c);
	c->assignment.closing = true;
	rd_kafka_error_t *error = rd_kafka_consumer_close_queue(c->rk, c->close_queue);
	bool leaving = !error; /* a client with a fatal error does not leave, it is just freed */
	if (error)
		rd_kafka_error_destroy(error);
	while (leaving && !rd_kafka_consumer_closed(c->rk)) {
		int64_t left_ms = deadline_ms - clock_mono_ms();
		if (left_ms <= 0)
			return false;
		rd_kafka_message_t *m = rd_kafka_consume_queue(c->close_queue, (int)left_ms);
		if (m)
			rd_kafka_message_destroy(m);
		answer_revocation(c);
	}
	rd_kafka_queue_destroy(c->close_queue);
	int64_t left_ms = deadline_ms - clock_mono_ms();
	if (!kafka_handle_free(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE, left_ms > 0 ? (int)left_ms : 0))
		return false;
	free_consumer(c);
	return true;
}
