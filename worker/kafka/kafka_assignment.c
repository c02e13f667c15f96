#include "worker/kafka/kafka_assignment.h"

#include "common/log.h"

#include <stdlib.h>

void assignment_init(struct assignment *a, const char *const *topics, size_t topic_count)
{
	*a = (struct assignment){.topics = calloc(topic_count, sizeof(*a->topics)), .topic_count = topic_count};
	ENSURE(a->topics != NULL);
	for (size_t i = 0; i < topic_count; i++) {
		a->topics[i].name = strdup(topics[i]);
		ENSURE(a->topics[i].name != NULL);
	}
}

void assignment_release(struct assignment *a)
{
	for (size_t i = 0; i < a->topic_count; i++) {
		free(a->topics[i].name);
		free(a->topics[i].slots);
	}
	free(a->topics);
}

size_t assignment_size(const struct assignment *a)
{
	size_t size = 0;
	for (size_t i = 0; i < a->topic_count; i++)
		size += (size_t)a->topics[i].slot_count;
	return size;
}

struct assigned_topic *assignment_topic(struct assignment *a, const char *name)
{
	for (size_t i = 0; i < a->topic_count; i++) {
		if (!strcmp(a->topics[i].name, name))
			return &a->topics[i];
	}
	return NULL;
}

struct slot *assigned_topic_slot(struct assigned_topic *t, int32_t partition)
{
	if (partition >= t->slot_count) {
		int32_t count = partition + 1;
		t->slots = realloc(t->slots, (size_t)count * sizeof(*t->slots));
		ENSURE(t->slots != NULL);
		memset(t->slots + t->slot_count, 0, (size_t)(count - t->slot_count) * sizeof(*t->slots));
		t->slot_count = count;
	}
	return &t->slots[partition];
}

struct slot *assignment_slot(struct assignment *a, const char *topic, int32_t partition)
{
	struct assigned_topic *t = assignment_topic(a, topic);
	return t && partition >= 0 && partition < t->slot_count ? &t->slots[partition] : NULL;
}

/* ---- slots by what is to be done with them ---- */

typedef bool slot_test(const struct slot *);

static bool is_fetching(const struct slot *s)
{
	return s->fetching;
}

/* What is revoked and not released yet is not fetched again, whatever else happens meanwhile. */
static bool is_wanted(const struct slot *s)
{
	return s->wanted && s->revocations == 0;
}

static bool is_to_add(const struct slot *s)
{
	return is_wanted(s) && !s->fetching;
}

static bool is_to_remove(const struct slot *s)
{
	return s->fetching && (!s->wanted || s->restart);
}

static bool is_to_hold(const struct slot *s)
{
	return s->fetching && (s->paused || s->waiting) && !s->held;
}

static bool is_to_let_go(const struct slot *s)
{
	return s->held && !s->paused && !s->waiting;
}

static void set_fetching(struct slot *s, bool fetching)
{
	s->fetching = fetching;
	s->restart = false;
}

static void set_held(struct slot *s, bool held)
{
	s->held = held;
}

/* The partitions that pass, at their positions. Owns: the caller. */
static rd_kafka_topic_partition_list_t *list_where(const struct assignment *a, slot_test *passes)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	for (size_t i = 0; i < a->topic_count; i++) {
		const struct assigned_topic *t = &a->topics[i];
		for (int32_t p = 0; p < t->slot_count; p++) {
			if (passes(&t->slots[p]))
				rd_kafka_topic_partition_list_add(list, t->name, p)->offset = t->slots[p].position;
		}
	}
	return list;
}

static void set_where(struct assignment *a, slot_test *passes, void (*set)(struct slot *, bool), bool value)
{
	for (size_t i = 0; i < a->topic_count; i++) {
		for (int32_t p = 0; p < a->topics[i].slot_count; p++) {
			if (passes(&a->topics[i].slots[p]))
				set(&a->topics[i].slots[p], value);
		}
	}
}

/* ---- towards librdkafka ---- */

/*
 * Returns when librdkafka's main thread has done what it was asked before: it takes orders in turn, so any question
 * that it answers now was behind them.
 *
 * Behind a change of the assignment it has seen the stops that this ordered. A second change that comes between a stop
 * and its answer stops the same fetcher twice, and librdkafka asserts that it does not (2.0.2,
 * rd_kafka_assignment_partition_stopped); what is asked next is behind the answers, too.
 *
 * Not while closing: no second change follows, and a group that ends throws away what it was asked and did not answer
 * yet (rd_kafka_cgrp_terminated purges its queue), so the question would wait for ever.
 */
static void wait_for_main_thread(struct assignment *a)
{
	if (a->closing)
		return;
	rd_kafka_topic_partition_list_t *list = NULL;
	if (!rd_kafka_assignment(a->rk, &list))
		rd_kafka_topic_partition_list_destroy(list);
}

/* A client with a fatal error refuses everything; the error itself is on its way to poll. */
static void check_call(const char *call, rd_kafka_error_t *error)
{
	if (!error)
		return;
	LOG(LOG_WARN, "kafka assignment refused", LOG_S("call", call), LOG_S("error", rd_kafka_error_string(error)));
	rd_kafka_error_destroy(error);
}

static void assign(struct assignment *a, const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_resp_err_t err = rd_kafka_assign(a->rk, list);
	if (err)
		LOG(LOG_WARN, "kafka assignment refused", LOG_S("call", "assign"),
		    LOG_S("error", rd_kafka_err2str(err)));
	wait_for_main_thread(a);
}

static void assign_more(struct assignment *a, const rd_kafka_topic_partition_list_t *list)
{
	check_call("incremental_assign", rd_kafka_incremental_assign(a->rk, list));
	wait_for_main_thread(a);
}

static void assign_less(struct assignment *a, const rd_kafka_topic_partition_list_t *list)
{
	check_call("incremental_unassign", rd_kafka_incremental_unassign(a->rk, list));
	wait_for_main_thread(a);
}

static void seek(struct assignment *a, rd_kafka_topic_partition_list_t *list)
{
	check_call("seek", rd_kafka_seek_partitions(a->rk, list, 0 /* asynchronously */));
	wait_for_main_thread(a); /* who wakes the fetcher now wakes it to fetch */
}

/*
 * Pauses or resumes in librdkafka exactly what is not so there: a redundant resume rewinds (#4686). A resume
 * does not wake the fetcher, which looks again within a second; a seek does, and where to is known. From 2.1 on it
 * does not, unless it is to 0: rd_kafka_offset_validate finds no leader's epoch to ask about, and only marks the
 * partition as one to be fetched. There kafka_consumer_resume wakes it. A seek is ignored for what is not fetched.
 */
static void sync_pauses(struct assignment *a, bool pause)
{
	slot_test *passes = pause ? is_to_hold : is_to_let_go;
	rd_kafka_topic_partition_list_t *list = list_where(a, passes);
	if (list->cnt > 0 && pause)
		rd_kafka_pause_partitions(a->rk, list);
	if (list->cnt > 0 && !pause) {
		rd_kafka_resume_partitions(a->rk, list);
		seek(a, list);
	}
	set_where(a, passes, set_held, pause);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Eager: every change is the whole assignment anew; what goes on does so where poll left it. */
static void reconcile_eager(struct assignment *a)
{
	rd_kafka_topic_partition_list_t *wanted = list_where(a, is_wanted);
	rd_kafka_topic_partition_list_t *added = list_where(a, is_to_add);
	rd_kafka_topic_partition_list_t *removed = list_where(a, is_to_remove);

	if (a->answer_due) {
		assign(a, NULL);
		a->answer_due = false;
		set_where(a, is_fetching, set_fetching, false);
	} else if (added->cnt > 0 || removed->cnt > 0) {
		assign(a, wanted);
		set_where(a, is_fetching, set_fetching, false);
		set_where(a, is_wanted, set_fetching, true);
	}
	rd_kafka_topic_partition_list_destroy(removed);
	rd_kafka_topic_partition_list_destroy(added);
	rd_kafka_topic_partition_list_destroy(wanted);
}

static void reconcile_cooperative(struct assignment *a)
{
	rd_kafka_topic_partition_list_t *list = list_where(a, is_to_remove);
	if (list->cnt > 0 || a->answer_due) {
		assign_less(a, list);
		a->answer_due = false;
		set_where(a, is_to_remove, set_fetching, false);
	}
	rd_kafka_topic_partition_list_destroy(list);

	list = list_where(a, is_to_add);
	if (list->cnt > 0) {
		assign_more(a, list);
		set_where(a, is_to_add, set_fetching, true);
	}
	rd_kafka_topic_partition_list_destroy(list);
}

void assignment_reconcile(struct assignment *a, bool answer)
{
	bool wait = a->answer_due && !answer; /* early-answer */

	sync_pauses(a, false);
	if (!wait && a->cooperative)
		reconcile_cooperative(a);
	else if (!wait)
		reconcile_eager(a);
	sync_pauses(a, true);
}

void assignment_answer_empty(struct assignment *a)
{
	rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
	if (a->cooperative) {
		assign_more(a, none);
	} else {
		assign(a, none);
		set_where(a, is_fetching, set_fetching, false);
	}
	a->answer_due = false; /* rejoined-without-answer */
	rd_kafka_topic_partition_list_destroy(none);
}
