#include "worker/pipeline/keeper.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "worker/failpoint.h"
#include "worker/observe/health.h"
#include "worker/observe/metrics.h"

#include <stdlib.h>

enum {
	/* For one question to Kafka: as long as a coordinator usually takes to move. */
	KAFKA_TIMEOUT_MS = 5000,
	SILENT_MAX = 2, /* partitions in one question that may cost that long */
	/* Between looks around. */
	LOOK_INTERVAL_MS = 500,
	/* Between looks at an idle database: a failover that lost something is noticed within this time
	 * although no batch and no progress write meets it. */
	HISTORY_INTERVAL_MS = 2000,
};

/* Its longest silence is one question: connection attempts, statements, Kafka's timeouts a partition. */
#define KEEPER_SILENCE_US (300 * INT64_C(1000000))

struct keeper {
	struct keeper_settings settings;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	struct keeper_job *first, *last;
	bool stopping;
	struct rules *rules; /* under the lock */

	/* The thread's own. */
	struct store *store;
	struct kafka_admin *admin;
	struct history_epoch history;
	bool history_known;
	bool failing;
	int64_t look_due_us;
	int64_t history_due_us;
	int64_t rules_due_us;
};

struct keeper_job *keeper_job_new(struct consumer *owner, enum keeper_question question, size_t count)
{
	struct keeper_job *job = calloc(1, sizeof(*job) + count * sizeof(job->entries[0]));
	ENSURE(job);
	job->owner = owner;
	job->question = question;
	job->count = count;
	return job;
}

void keeper_ask(struct keeper *k, struct keeper_job *job)
{
	job->next = NULL;
	mutex_lock(&k->lock);
	bool stopping = k->stopping;
	if (!stopping) {
		if (k->last)
			k->last->next = job;
		else
			k->first = job;
		k->last = job;
	}
	mutex_unlock(&k->lock);
	if (stopping)
		consumer_answer(job->owner, job);
	else
		cond_signal(&k->asked);
}

/* Waits for a job, or until it is time to look around. Returns: false to stop. */
static bool next_job(struct keeper *k, struct keeper_job **job)
{
	mutex_lock(&k->lock);
	while (!k->first && !k->stopping)
		if (!cond_wait_until(&k->asked, &k->lock, k->look_due_us))
			break;
	*job = k->first;
	if (*job) {
		k->first = (*job)->next;
		if (!k->first)
			k->last = NULL;
	}
	bool stopping = k->stopping;
	mutex_unlock(&k->lock);
	return !stopping || *job;
}

/* Says once that the database can't be used, and once that it can again. */
static void note(struct keeper *k, enum store_result r)
{
	bool failed = r == STORE_RETRY || r == STORE_UNUSABLE;
	metric_set(METRIC_UP_POSTGRESQL, !failed);
	if (failed && !k->failing)
		LOG(LOG_ERROR, "postgresql unavailable", LOG_S("reason", store_error(k->store)));
	else if (!failed && k->failing)
		LOG(LOG_INFO, "postgresql available again");
	k->failing = failed;
}

static const struct offset_range *accepted_for(const struct keeper *k, const struct partition *p)
{
	for (size_t i = 0; i < k->settings.accepted_count; i++) {
		const struct accepted_loss *a = &k->settings.accepted[i];
		if (a->partition == p->partition && strcmp(a->topic, p->topic) == 0)
			return &a->range;
	}
	return NULL;
}

/*
 * What Kafka knows of the partitions. One without a leader does not keep the others from starting: it is not answered,
 * and asked again. Returns: how many of `assignments` there are, in the order of the entries that are answered.
 */
static size_t ask_kafka(struct keeper *k, struct keeper_job *job, struct kafka_committed *committed,
                        struct store_assignment *assignments)
{
	for (size_t i = 0; i < job->count; i++) {
		const struct partition *p = job->entries[i].partition;
		committed[i] = (struct kafka_committed){.topic = p->topic, .partition = p->partition};
	}
	if (kafka_admin_committed(k->admin, committed, job->count, KAFKA_TIMEOUT_MS) != KAFKA_OK) {
		LOG(LOG_WARN, "kafka does not tell where partitions start", LOG_S("reason", kafka_admin_error(k->admin)));
		return 0;
	}
	size_t count = 0, silent = 0;
	for (size_t i = 0; i < job->count && silent < SILENT_MAX; i++) { /* others wait for us, too */
		struct keeper_entry *e = &job->entries[i];
		const struct partition *p = e->partition;
		struct store_assignment *a = &assignments[count];
		*a = (struct store_assignment){
		        .topic = p->topic, .partition = p->partition, .accepted = accepted_for(k, p)};
		a->facts.committed = committed[i].offset;
		a->facts.marked = commit_mark_parse(committed[i].metadata, &a->mark);
		e->answered = kafka_admin_watermarks(k->admin, p->topic, p->partition, KAFKA_TIMEOUT_MS,
		                                     &a->facts.log_start, &a->facts.log_end) == KAFKA_OK;
		if (e->answered) {
			count++;
			continue;
		}
		silent++;
		LOG(LOG_WARN, "kafka does not tell where a partition starts", LOG_S("topic", p->topic),
		    LOG_I("partition", p->partition), LOG_S("reason", kafka_admin_error(k->admin)));
	}
	return count;
}

/*
 * Progress beyond the end of the log: lost, unless the log has grown since it was asked, by what an earlier owner, who
 * does not know yet that it was sent away, settled meanwhile.
 */
static bool has_moved(struct keeper *k, const struct store_assignment *a)
{
	int64_t low, high;
	return a->verdict.lost && a->facts.progress > a->facts.log_end &&
	       (kafka_admin_watermarks(k->admin, a->topic, a->partition, KAFKA_TIMEOUT_MS, &low, &high) != KAFKA_OK ||
	        high > a->facts.log_end);
}

static void load_rules(struct keeper *k)
{
	struct rules *fresh = NULL;
	enum store_result r = store_load_rules(k->store, &fresh);
	note(k, r);
	if (r != STORE_OK)
		return;
	mutex_lock(&k->lock);
	struct rules *old = k->rules;
	k->rules = fresh;
	mutex_unlock(&k->lock);
	if (!old || rules_revision(old) != rules_revision(fresh))
		LOG(LOG_INFO, "rules loaded", LOG_I("revision", rules_revision(fresh)), LOG_I("versions", rules_count(fresh)),
		    LOG_I("partners", rules_partner_count(fresh)));
	rules_unref(old);
}

/* Limits must hold from the first record on: nothing is assigned before the rules are known. */
static bool knows_rules(struct keeper *k)
{
	if (!k->rules)
		load_rules(k);
	return k->rules != NULL;
}

static void answer_assign(struct keeper *k, struct keeper_job *job)
{
	struct kafka_committed *committed = calloc(job->count, sizeof(*committed));
	struct store_assignment *assignments = calloc(job->count, sizeof(*assignments));
	ENSURE(committed && assignments);
	const char *drawn_because = NULL;
	size_t count = knows_rules(k) ? ask_kafka(k, job, committed, assignments) : 0;
	if (count > 0) {
		enum store_result r =
		        store_assign(k->store, k->settings.group, assignments, count, &job->history, &drawn_because);
		note(k, r);
		job->done = r == STORE_OK;
	}
	if (job->done && drawn_because)
		LOG(LOG_ERROR, "the database has lost something: new epoch, reading again", LOG_S("proof", drawn_because));
	/* Whoever drew it: what this process reads under the other one is to be read again. */
	if (job->done && k->history_known && !history_epoch_equal(&k->history, &job->history))
		history_alarm_raise(k->settings.alarm, &k->history);
	const struct store_assignment *a = assignments;
	for (size_t i = 0; job->done && i < job->count; i++) {
		struct keeper_entry *e = &job->entries[i];
		if (!e->answered)
			continue;
		e->facts = a->facts;
		e->verdict = a->verdict;
		e->claim = a->claim;
		e->answered = !has_moved(k, a);
		a++;
	}
	if (job->done) {
		k->history = job->history;
		k->history_known = true;
	}
	free(committed);
	free(assignments);
}

static void answer_progress(struct keeper *k, struct keeper_job *job)
{
	struct store_progress *entries = calloc(job->count, sizeof(*entries));
	ENSURE(entries);
	for (size_t i = 0; i < job->count; i++) {
		const struct keeper_entry *e = &job->entries[i];
		entries[i] = (struct store_progress){
		        .topic = e->partition->topic, .partition = e->partition->partition, .claim = e->claim,
		        .position = e->position};
	}
	FAIL_POINT(before_progress_sent);
	enum store_result r =
	        store_progress(k->store, k->settings.group, &job->history, entries, job->count, &job->lsn);
	note(k, r);
	job->done = r == STORE_OK;
	if (r == STORE_HISTORY) {
		LOG(LOG_ERROR, "progress not written: another history", LOG_S("reason", store_error(k->store)));
		history_alarm_raise(k->settings.alarm, &job->history);
	}
	for (size_t i = 0; job->done && i < job->count; i++)
		job->entries[i].kept = entries[i].kept;
	free(entries);
}

/* Word of new rules, and the slow polls. Also between jobs: consumers under load leave no pause. */
static void look_around(struct keeper *k, int64_t now)
{
	k->look_due_us = now + LOOK_INTERVAL_MS * 1000;
	bool changed = false;
	enum store_result r = store_wait_rules(k->store, 0, &changed);
	note(k, r);
	if (changed || now >= k->rules_due_us) {
		k->rules_due_us = now + (int64_t)k->settings.rules_poll_ms * 1000;
		load_rules(k);
	}
	if (!k->history_known || now < k->history_due_us)
		return;
	k->history_due_us = now + HISTORY_INTERVAL_MS * 1000;
	r = store_check_history(k->store, &k->history);
	note(k, r);
	if (r == STORE_HISTORY) {
		LOG(LOG_ERROR, "the database is another history", LOG_S("reason", store_error(k->store)));
		history_alarm_raise(k->settings.alarm, &k->history);
		k->history_known = false; /* until an assignment says which it is */
	}
}

/* A leave does not wait for a look at a database that is away. */
static bool may_look(struct keeper *k, int64_t now)
{
	mutex_lock(&k->lock);
	bool stopping = k->stopping;
	mutex_unlock(&k->lock);
	return !stopping && now >= k->look_due_us;
}

static void *run(void *argument)
{
	struct keeper *k = argument;
	struct heart *heart = heart_start("keeper", KEEPER_SILENCE_US, clock_mono_us());
	struct keeper_job *job = NULL;
	while (next_job(k, &job)) {
		heart_beat(heart, clock_mono_us());
		if (job) {
			if (job->question == KEEPER_ASSIGN)
				answer_assign(k, job);
			else
				answer_progress(k, job);
			consumer_answer(job->owner, job); /* the job is the consumer's */
		}
		int64_t now = clock_mono_us();
		if (may_look(k, now))
			look_around(k, now);
	}
	heart_stop(heart);
	return NULL;
}

int keeper_start(const struct keeper_settings *s, struct keeper **out, char *error, size_t error_size)
{
	struct keeper *k = calloc(1, sizeof(*k));
	ENSURE(k);
	k->settings = *s;
	if (kafka_admin_open(s->kafka, &k->admin, error, error_size)) {
		free(k);
		return -1;
	}
	mutex_init(&k->lock);
	cond_init(&k->asked);
	k->store = store_new(s->store, s->store_index);
	k->thread = thread_start("keeper", run, k);
	*out = k;
	return 0;
}

struct rules *keeper_rules(struct keeper *k)
{
	mutex_lock(&k->lock);
	struct rules *rules = k->rules ? rules_ref(k->rules) : NULL;
	mutex_unlock(&k->lock);
	return rules;
}

void keeper_stop(struct keeper *k)
{
	mutex_lock(&k->lock);
	k->stopping = true;
	mutex_unlock(&k->lock);
	cond_signal(&k->asked);
	thread_join(k->thread);
}

void keeper_free(struct keeper *k)
{
	kafka_admin_close(k->admin);
	store_free(k->store);
	rules_unref(k->rules);
	cond_destroy(&k->asked);
	mutex_destroy(&k->lock);
	free(k);
}
