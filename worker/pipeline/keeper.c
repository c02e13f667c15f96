#include "worker/pipeline/keeper.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "worker/failpoint.h"
#include "worker/observe/health.h"
#include "worker/observe/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
	/* For one question to Kafka: as long as a coordinator usually takes to move. */
	KAFKA_TIMEOUT_MS = 5000,
	SILENT_MAX = 2, /* partitions in one question that may cost that long */
	/* Between looks around. */
	LOOK_INTERVAL_MS = 500,
	/* Between looks at an idle database: a failover that lost something is noticed within this time
	 * although no batch and no progress write meets it. */
	HISTORY_INTERVAL_MS = 2000,
	/* Between renewals of the membership, at the most; at the least three fit into its life. */
	RENEW_INTERVAL_MS = 5000,
	/* What failed is asked again within seconds, or nobody wants it any more. */
	FORGET_FAILURE_MS = 15000,
};

/* What the database is asked for, each with an outage of its own: that one works says nothing of the others. */
enum request { ASK_ASSIGN, ASK_PROGRESS, ASK_RULES, ASK_HISTORY, ASK_MEMBER, REQUESTS };

static const struct {
	const char *name;
	enum metric ok, failed;
} requests[REQUESTS] = {
	[ASK_ASSIGN] = {"assign", METRIC_LEDGER_ASSIGN_OK, METRIC_LEDGER_ASSIGN_FAILED},
	[ASK_PROGRESS] = {"progress", METRIC_LEDGER_PROGRESS_OK, METRIC_LEDGER_PROGRESS_FAILED},
	[ASK_RULES] = {"rules", METRIC_LEDGER_RULES_OK, METRIC_LEDGER_RULES_FAILED},
	[ASK_HISTORY] = {"history", METRIC_LEDGER_HISTORY_OK, METRIC_LEDGER_HISTORY_FAILED},
	[ASK_MEMBER] = {"member", METRIC_LEDGER_MEMBER_OK, METRIC_LEDGER_MEMBER_FAILED},
};

struct outage {
	int64_t failed_at_us; /* last; 0: it does not fail */
	bool away;            /* nothing can be asked; else the statement was refused */
};

struct keeper {
	struct keeper_settings settings;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	struct keeper_job *first, *last;
	bool stopping;
	struct rules *rules; /* under the lock */

	/* The thread's own. */
	struct heart *heart;
	struct store *store;
	struct rules_state rules_state; /* of `rules` */
	struct kafka_admin *admin;
	struct history_epoch history;
	bool history_known;
	struct outage outages[REQUESTS];
	bool overdue; /* the answer to one of them */
	struct store_member member; /* its cluster: also under the lock, for the others */
	_Atomic bool group_lost;
	int64_t look_due_us;
	int64_t renew_due_us;
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

static bool is_away(const struct keeper *k)
{
	bool away = k->overdue;
	for (int i = 0; i < REQUESTS; i++)
		away |= k->outages[i].failed_at_us != 0 && k->outages[i].away;
	return away;
}

/* The truth of all requests, after each of them. */
static void tell(const struct keeper *k)
{
	bool failing = k->overdue;
	for (int i = 0; i < REQUESTS; i++)
		failing |= k->outages[i].failed_at_us != 0;
	metric_set(METRIC_UP_POSTGRESQL, !is_away(k));
	metric_vote(METRIC_DEGRADED_LEDGER, VOTER_KEEPER, failing);
}

/*
 * Owns every answer of the database: each is counted, and an outage of each request is said once when it begins and
 * once when it ends. STORE_HISTORY is an answer; whoever gets it acts on it.
 */
static void note(struct keeper *k, enum request request, enum store_result r)
{
	struct outage *o = &k->outages[request];
	k->overdue = false;
	bool failed = r != STORE_OK && r != STORE_HISTORY;
	metric_add(failed ? requests[request].failed : requests[request].ok, 1);
	if (failed && !o->failed_at_us)
		LOG(LOG_ERROR, "postgresql refuses or does not answer", LOG_S("request", requests[request].name),
		    LOG_S("reason", store_error(k->store)));
	else if (!failed && o->failed_at_us)
		LOG(LOG_INFO, "postgresql answers again", LOG_S("request", requests[request].name));
	o->failed_at_us = failed ? clock_mono_us() : 0;
	o->away = r == STORE_RETRY || r == STORE_UNUSABLE;
	tell(k);
}

/* Partitions that went away while they were asked for, and the like. */
static void forget_failures(struct keeper *k, int64_t now_us)
{
	for (int i = 0; i < REQUESTS; i++)
		if (k->outages[i].failed_at_us && now_us - k->outages[i].failed_at_us > FORGET_FAILURE_MS * INT64_C(1000))
			k->outages[i].failed_at_us = 0;
	tell(k);
}

/* In which cluster it is: a broker's answer, which the client remembers. */
static bool knows_cluster(struct keeper *k)
{
	char id[256];
	if (kafka_admin_cluster_id(k->admin, KAFKA_TIMEOUT_MS, id, sizeof(id)) != KAFKA_OK) {
		LOG(LOG_WARN, "kafka does not tell its cluster's id", LOG_S("reason", kafka_admin_error(k->admin)));
		return false;
	}
	mutex_lock(&k->lock);
	k->member.cluster = cluster_id_of(id);
	mutex_unlock(&k->lock);
	return true;
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
		heart_beat_own();
		*a = (struct store_assignment){.topic = p->topic, .partition = p->partition, .proven_about = e->print};
		a->facts.proof = e->proof;
		a->facts.progress_before = e->progress_before;
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
	/* Last, since a client without another question waits for a second before it asks. */
	if (count > 0 && !knows_cluster(k))
		return 0;
	for (size_t i = 0; i < count; i++) {
		struct store_assignment *a = &assignments[i];
		a->facts.mark_elsewhere = a->facts.marked && cluster_id_differs(&a->mark.cluster, &k->member.cluster);
	}
	return count;
}

/* Where they are others than those that are known. */
static void load_rules(struct keeper *k)
{
	struct rules *fresh = NULL;
	struct rules_state state;
	enum store_result r = store_rules_state(k->store, &state);
	if (r == STORE_OK && k->rules && rules_state_equal(&state, &k->rules_state)) {
		note(k, ASK_RULES, r);
		return;
	}
	if (r == STORE_OK)
		r = store_load_rules(k->store, &fresh);
	note(k, ASK_RULES, r);
	if (r != STORE_OK)
		return;
	k->rules_state = state;
	mutex_lock(&k->lock);
	struct rules *old = k->rules;
	k->rules = fresh;
	mutex_unlock(&k->lock);
	if (!old || rules_revision(old) != rules_revision(fresh))
		LOG(LOG_INFO, "rules loaded", LOG_I("revision", rules_revision(fresh)), LOG_I("versions", rules_count(fresh)),
		    LOG_I("partners", rules_partner_count(fresh)));
	rules_unref(old);
}

struct cluster_id keeper_cluster(struct keeper *k)
{
	mutex_lock(&k->lock);
	struct cluster_id cluster = k->member.cluster;
	mutex_unlock(&k->lock);
	return cluster;
}

void keeper_lost_group(struct keeper *k)
{
	atomic_store(&k->group_lost, true);
}

/* Before the first assignment is asked for, so that a reset made before it is told from a foreign commit after it. */
static bool renew_member(struct keeper *k, int64_t now_us)
{
	bool rejoined = atomic_exchange(&k->group_lost, false);
	enum store_result r = store_renew_member(k->store, &k->member, k->settings.member_lives_ms, rejoined);
	note(k, ASK_MEMBER, r);
	if (r != STORE_OK && rejoined)
		atomic_store(&k->group_lost, true);
	int interval_ms = k->settings.member_lives_ms / 3;
	if (interval_ms > RENEW_INTERVAL_MS)
		interval_ms = RENEW_INTERVAL_MS;
	k->renew_due_us = now_us + interval_ms * INT64_C(1000);
	return r == STORE_OK || r == STORE_HISTORY;
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
	int64_t now = clock_mono_us();
	bool known = now < k->renew_due_us || renew_member(k, now);
	size_t count = known && knows_rules(k) ? ask_kafka(k, job, committed, assignments) : 0;
	if (count > 0) {
		enum store_result r =
		        store_assign(k->store, &k->member, assignments, count, &job->history, &drawn_because);
		note(k, ASK_ASSIGN, r);
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
		        .position = e->position, .print = e->print};
	}
	FAIL_POINT(before_progress_sent);
	enum store_result r =
	        store_progress(k->store, &k->member, &job->history, entries, job->count, &job->lsn);
	note(k, ASK_PROGRESS, r);
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
	note(k, ASK_HISTORY, r);
	forget_failures(k, now);
	if (now >= k->renew_due_us)
		renew_member(k, now);
	if (changed || now >= k->rules_due_us) {
		k->rules_due_us = now + (int64_t)k->settings.rules_poll_ms * 1000;
		load_rules(k);
	}
	if (!k->history_known || now < k->history_due_us)
		return;
	k->history_due_us = now + HISTORY_INTERVAL_MS * 1000;
	r = store_check_history(k->store, &k->history);
	note(k, ASK_HISTORY, r);
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

/* A statement that waits for a standby, or for a frozen server. The thread lives. */
static void on_overdue(void *owner, const char *why)
{
	struct keeper *k = owner;
	heart_beat(k->heart, clock_mono_us());
	if (k->overdue)
		return;
	LOG(LOG_ERROR, "postgresql does not answer yet", LOG_S("reason", why));
	k->overdue = true;
	tell(k);
}

static void *run(void *argument)
{
	struct keeper *k = argument;
	k->heart = heart_start("keeper", k->settings.silence_us, clock_mono_us());
	struct keeper_job *job = NULL;
	while (next_job(k, &job)) {
		heart_beat(k->heart, clock_mono_us());
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
	/* The group has been left. A database that is away forgets by itself. */
	if (!is_away(k) && store_leave_group(k->store, &k->member) != STORE_OK)
		LOG(LOG_WARN, "the membership stays until it expires", LOG_S("reason", store_error(k->store)));
	heart_stop(k->heart);
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
	struct store_settings store = *s->store;
	store.overdue = on_overdue;
	store.overdue_owner = k;
	k->store = store_new(&store, s->store_index);
	k->member.group = s->group;
	ENSURE(getrandom(&k->member.id, sizeof(k->member.id), 0) == sizeof(k->member.id));
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
