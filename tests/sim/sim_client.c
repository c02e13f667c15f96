/*
 * worker/kafka/kafka.h on simulated brokers, and the coordinator of the group.
 *
 * Membership, as the worker sees it: joins; heartbeats from a thread of the library, which a frozen process or a
 * cut line silences; a rebalance waits for all members up to a limit and throws out who does not answer; a commit is
 * taken under the generation that the group has now and from its members only. Fetching asks nobody's leave, so who
 * was thrown out reads on until it hears of it: the zombie.
 *
 * Eager: a rebalance revokes all that a member has. Cooperative: it revokes what goes to another member, which gets
 * it in the next one.
 */
#include "tests/sim/sim.h"

#include "common/clock.h"
#include "common/parse.h"
#include "worker/kafka/kafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	CLIENTS_MAX = 256,
	HEARTBEAT_US = 100000,
	REBALANCE_US = 8000000, /* longer than any drain */
	COPY_VALUE_MAX = 420,   /* bytes that the topics of copies take */
	REPORT_MAX_US = 3000000,
	QUEUE_MAX = 8, /* messages that the producer takes at once when it is short of room */
};

enum { TOPICS_READ = 2 }; /* events and deferred copies */

struct slot {
	bool owned;    /* by the group's word: sent in an ASSIGNED and not taken back */
	bool assigned; /* delivered to the worker */
	bool wanted, paused;
	bool may_commit; /* while it drains, too */
	int revocations; /* queued or delivered, not released */
	int64_t position;
	int64_t end_told; /* the END that was delivered for this position; -1: none */
};

struct group_event {
	struct group_event *next;
	enum kafka_event_kind kind;
	size_t count;
	struct kafka_partition partitions[SIM_PARTITIONS_MAX * TOPICS_READ];
};

struct answer {
	struct answer *next;
	const char *error;
};

struct kafka_consumer {
	struct process *process;
	int number;
	bool alive;
	bool member;    /* in the coordinator's eyes */
	bool knows;     /* that it is no member any more, or that it is one: its own view agrees */
	int generation; /* as it knows */
	bool asked;     /* to rejoin, in this rebalance, and was told */
	bool rejoined;
	int64_t isolated_until_us;
	struct slot slots[TOPICS_READ][SIM_PARTITIONS_MAX];
	struct group_event *first, *last; /* rebalance events to deliver */
	struct answer *answers, *last_answer;
	bool release_due;
	bool given; /* an assignment, if an empty one, and not all of it is released */
	bool fatal;
	struct group_event *current;
	int turn; /* partition of the last record */
};

static struct group {
	int generation;
	bool preparing;
	uint64_t round; /* of rebalances: a timer of an earlier one is void */
	int salt;
} group;

static struct kafka_consumer *clients[CLIENTS_MAX];
static int client_count;
static int64_t away_until_us;

static void learn(void *argument);
static void group_check(void);

void client_begin(void)
{
	group = (struct group){0};
	client_count = 0;
	away_until_us = 0;
}

bool brokers_away(void)
{
	return sim_now() < away_until_us;
}

void client_brokers_away(int64_t until_us)
{
	away_until_us = until_us;
}

void client_wake_all(void)
{
	for (int i = 0; i < client_count; i++)
		if (clients[i]->alive)
			sim_wake(clients[i]);
}

/* ---- the coordinator ---- */

static bool reachable(const struct kafka_consumer *c)
{
	return c->alive && c->isolated_until_us <= sim_now() && c->process->frozen_until_us <= sim_now();
}

static int64_t heard_at(const struct kafka_consumer *c)
{
	int64_t at = sim_now();
	if (c->isolated_until_us > at)
		at = c->isolated_until_us;
	if (c->process->frozen_until_us > at)
		at = c->process->frozen_until_us;
	return at + 1 + (int64_t)sim_below(HEARTBEAT_US);
}

static void queue_event(struct kafka_consumer *c, enum kafka_event_kind kind, const struct kafka_partition *list,
			size_t count)
{
	struct group_event *e = calloc(1, sizeof(*e));
	ENSURE(e);
	e->kind = kind;
	e->count = count;
	memcpy(e->partitions, list, count * sizeof(*list));
	if (c->last)
		c->last->next = e;
	else
		c->first = e;
	c->last = e;
	sim_wake(c);
}

#define EACH_SLOT(c, s, t, p) \
	for (int t = 0; t < TOPICS_READ; t++) \
		for (int p = 0; p < brokers_partitions((enum sim_topic)t); p++) \
			for (struct slot *s = &(c)->slots[t][p]; s; s = NULL)

/* Takes back what is owned and passes the test. `lost`: it is someone else's already. */
static void take_back(struct kafka_consumer *c, bool lost, bool (*passes)(const struct kafka_consumer *, int, int))
{
	struct kafka_partition list[SIM_PARTITIONS_MAX * TOPICS_READ];
	size_t count = 0;
	EACH_SLOT(c, s, t, p)
	{
		if (!s->owned || (passes && !passes(c, t, p)))
			continue;
		s->owned = false;
		s->may_commit = !lost;
		s->revocations++;
		list[count++] = (struct kafka_partition){sim_topics[t], p, -1};
	}
	if (!count && (lost || sim_config.cooperative))
		return;
	sim_count(lost ? SIM_LOST : SIM_REVOKED, 1);
	queue_event(c, lost ? KAFKA_LOST : KAFKA_REVOKED, list, count);
}

static bool has_unreleased(const struct kafka_consumer *c)
{
	if (c->release_due)
		return true;
	for (const struct group_event *e = c->first; e; e = e->next)
		if (e->kind != KAFKA_ASSIGNED)
			return true;
	return false;
}

static bool has_owned(struct kafka_consumer *c)
{
	bool any = false;
	EACH_SLOT(c, s, t, p)
	any |= s->owned;
	return any;
}

/* Who gets it: the members in turn, from a place that the group draws. */
static struct kafka_consumer *target_of(int topic, int partition)
{
	int members = 0;
	for (int i = 0; i < client_count; i++)
		members += clients[i]->member;
	int n = (group.salt + topic + partition) % members;
	for (int i = 0; i < client_count; i++)
		if (clients[i]->member && n-- == 0)
			return clients[i];
	UNREACHABLE("a group without its members");
}

static bool goes_elsewhere(const struct kafka_consumer *c, int topic, int partition)
{
	return target_of(topic, partition) != c;
}

static bool is_owned_by_any(int topic, int partition)
{
	for (int i = 0; i < client_count; i++) {
		const struct slot *s = &clients[i]->slots[topic][partition];
		if (clients[i]->member && (s->owned || (s->revocations > 0 && s->may_commit)))
			return true;
	}
	return false;
}

struct sync {
	struct kafka_consumer *client;
	int generation;
	size_t count;
	struct kafka_partition partitions[SIM_PARTITIONS_MAX * TOPICS_READ];
};

/* The answer to the join arrives. */
static void synced(void *argument)
{
	struct sync *sync = argument;
	struct kafka_consumer *c = sync->client;
	if (!c->alive || !c->member || sync->generation != group.generation) {
		/* Overtaken by the next rebalance, in which nobody takes back what was never had. */
	} else if (!reachable(c)) {
		sim_at(heard_at(c), synced, sync);
		return;
	} else {
		c->generation = sync->generation;
		c->knows = true;
		if (sim_config.cooperative)
			take_back(c, false, goes_elsewhere);
		for (size_t i = 0; i < sync->count; i++) {
			struct slot *s =
				&c->slots[sim_topic_of(sync->partitions[i].topic)][sync->partitions[i].partition];
			s->owned = s->may_commit = true;
		}
		queue_event(c, KAFKA_ASSIGNED, sync->partitions, sync->count);
	}
	free(sync);
}

static void group_complete(void)
{
	group.preparing = false;
	group.generation++;
	group.round++;
	sim_trace("group generation %d", group.generation);
	for (int i = 0; i < client_count; i++) {
		struct kafka_consumer *c = clients[i];
		if (!c->member)
			continue;
		struct sync *sync = calloc(1, sizeof(*sync));
		ENSURE(sync);
		sync->client = c;
		sync->generation = group.generation;
		EACH_SLOT(c, s, t, p)
		{
			if (target_of(t, p) == c && !s->owned && !is_owned_by_any(t, p))
				sync->partitions[sync->count++] = (struct kafka_partition){sim_topics[t], p, -1};
		}
		sim_at(sim_now() + sim_latency(sim_config.latency_us), synced, sync);
	}
}

static void group_check(void)
{
	if (!group.preparing)
		return;
	int members = 0;
	for (int i = 0; i < client_count; i++) {
		if (clients[i]->member && !clients[i]->rejoined)
			return;
		members += clients[i]->member;
	}
	if (members)
		group_complete();
	else
		group.preparing = false;
}

static void rejoin(struct kafka_consumer *c)
{
	c->rejoined = true;
	group_check();
}

/* The client asks to be a member (anew). */
static void join(void *argument)
{
	struct kafka_consumer *c = argument;
	if (!c->alive || c->member)
		return;
	if (!reachable(c) || brokers_away()) {
		sim_at(heard_at(c) + HEARTBEAT_US, join, c);
		return;
	}
	c->member = true;
	client_trigger_rebalance();
	c->rejoined = c->asked = true;
	group_check();
}

static void throw_out(struct kafka_consumer *c)
{
	if (!c->member)
		return;
	sim_trace("client %d is thrown out of the group", c->number);
	c->member = false;
	c->knows = false;
	c->process->thrown_out = true;
	if (c->alive)
		sim_at(heard_at(c), learn, c);
	client_trigger_rebalance();
	group_check();
}

/* A heartbeat is answered: the client hears where it stands. */
static void learn(void *argument)
{
	struct kafka_consumer *c = argument;
	if (!c->alive)
		return;
	if (!reachable(c)) {
		sim_at(heard_at(c), learn, c);
		return;
	}
	if (!c->member) {
		if (c->knows)
			return;
		c->knows = true;
		EACH_SLOT(c, s, t, p)
		s->may_commit = false;
		take_back(c, true, NULL);
		if (!has_unreleased(c))
			join(c);
		return;
	}
	if (!group.preparing || c->asked)
		return;
	c->asked = true;
	if (sim_config.cooperative) {
		if (!has_unreleased(c))
			rejoin(c);
		return; /* else with the release */
	}
	if (has_owned(c))
		take_back(c, false, NULL);
	else if (!has_unreleased(c))
		rejoin(c);
}

static void rebalance_over(void *argument)
{
	uint64_t round = (uint64_t)(uintptr_t)argument;
	if (!group.preparing || group.round != round)
		return;
	for (int i = 0; i < client_count; i++)
		if (clients[i]->member && !clients[i]->rejoined)
			throw_out(clients[i]);
	group_check();
}

void client_trigger_rebalance(void)
{
	if (group.preparing)
		return;
	group.preparing = true;
	group.round++;
	group.salt += world_fault(300);
	sim_at(sim_now() + REBALANCE_US, rebalance_over, (void *)(uintptr_t)group.round);
	for (int i = 0; i < client_count; i++) {
		struct kafka_consumer *c = clients[i];
		if (!c->member)
			continue;
		c->rejoined = c->asked = false;
		sim_at(heard_at(c), learn, c);
	}
}

static void session_over(void *argument)
{
	struct kafka_consumer *c = argument;
	if (c->member && (!c->alive || !reachable(c)))
		throw_out(c);
}

void client_isolate(struct process *p, int64_t until_us)
{
	for (int i = 0; i < client_count; i++) {
		if (clients[i]->process != p || !clients[i]->alive)
			continue;
		clients[i]->isolated_until_us = until_us;
		sim_at(sim_now() + sim_config.session_us, session_over, clients[i]);
	}
}

void client_freeze(struct process *p, int64_t until_us)
{
	p->frozen_until_us = until_us;
	for (int i = 0; i < client_count; i++)
		if (clients[i]->process == p && clients[i]->alive)
			sim_at(sim_now() + sim_config.session_us, session_over, clients[i]);
}

void client_fail(struct process *p)
{
	for (int i = 0; i < client_count; i++) {
		if (clients[i]->process != p || !clients[i]->alive)
			continue;
		clients[i]->fatal = p->client_failed = true;
		sim_wake(clients[i]);
		return;
	}
}

void client_died(struct process *p)
{
	for (int i = 0; i < client_count; i++) {
		if (clients[i]->process != p || !clients[i]->alive)
			continue;
		clients[i]->alive = false;
		sim_at(sim_now() + sim_config.session_us, session_over, clients[i]);
	}
}

bool client_holds_assignments(const struct process *p)
{
	for (int i = 0; i < client_count; i++)
		if (clients[i]->process == p && clients[i]->alive && !clients[i]->given)
			return false;
	return true;
}

/* ---- the member's side ---- */

int kafka_consumer_open(const struct kafka_settings *s, const char *const *topics, size_t topic_count,
			struct kafka_consumer **out, char *error, size_t error_size)
{
	(void)s, (void)error, (void)error_size;
	ENSURE(topic_count == TOPICS_READ && client_count < CLIENTS_MAX);
	for (size_t i = 0; i < topic_count; i++)
		ENSURE(sim_topic_of(topics[i]) == (enum sim_topic)i);
	struct kafka_consumer *c = calloc(1, sizeof(*c));
	ENSURE(c);
	c->process = sim_process();
	c->number = client_count;
	c->alive = c->knows = true;
	clients[client_count++] = c;
	sim_at(sim_now() + sim_latency(sim_config.latency_us), join, c);
	*out = c;
	return 0;
}

static struct slot *slot_of(struct kafka_consumer *c, const struct kafka_partition *p)
{
	return &c->slots[sim_topic_of(p->topic)][p->partition];
}

static void give(struct kafka_event *to, enum kafka_event_kind kind)
{
	*to = (struct kafka_event){.kind = kind};
}

static bool deliver_answer(struct kafka_consumer *c, struct kafka_event *to)
{
	struct answer *a = c->answers;
	if (!a)
		return false;
	c->answers = a->next;
	if (!c->answers)
		c->last_answer = NULL;
	give(to, KAFKA_COMMITTED);
	to->commit_error = a->error;
	free(a);
	return true;
}

static bool deliver_rebalance(struct kafka_consumer *c, struct kafka_event *to)
{
	struct group_event *e = c->first;
	if (!e || c->release_due)
		return false;
	c->first = e->next;
	if (!c->first)
		c->last = NULL;
	give(to, e->kind);
	to->partitions = e->partitions;
	to->partition_count = e->count;
	c->current = e;
	if (e->kind != KAFKA_ASSIGNED) {
		c->release_due = true;
		return true;
	}
	c->given = true;
	for (size_t i = 0; i < e->count; i++) {
		struct slot *s = slot_of(c, &e->partitions[i]);
		if (s->assigned)
			sim_fail("simulation: %s/%d is given twice", e->partitions[i].topic,
				 e->partitions[i].partition);
		s->wanted = s->paused = false;
		s->assigned = true;
	}
	return true;
}

static bool readable(const struct slot *s)
{
	return s->wanted && !s->paused && s->revocations == 0;
}

static bool deliver_from(struct kafka_consumer *c, enum sim_topic topic, int32_t partition, struct kafka_event *to)
{
	struct slot *s = &c->slots[topic][partition];
	if (!readable(s))
		return false;
	const struct sim_record *r = brokers_read(topic, partition, s->position);
	if (r) {
		give(to, KAFKA_RECORD);
		to->record = (struct kafka_record){.topic = sim_topics[topic],
						   .partition = partition,
						   .offset = r->offset,
						   .timestamp_us = r->timestamp_us,
						   .producers_time = true,
						   .key = r->key,
						   .value = r->value,
						   .headers = r->headers,
						   .header_count = r->header_count};
		s->position = r->offset + 1;
		sim_count(SIM_RECORDS, 1);
		return true;
	}
	int64_t end = brokers_log(topic, partition)->end;
	if (s->end_told == end && !sim_permille(2))
		return false;
	give(to, KAFKA_END);
	to->end = (struct kafka_partition){sim_topics[topic], partition, end};
	s->position = s->end_told = end;
	return true;
}

/* Records come in runs. */
static bool deliver_fetched(struct kafka_consumer *c, struct kafka_event *to)
{
	int total = brokers_partitions(TOPIC_EVENTS) + brokers_partitions(TOPIC_DEFERRED);
	if (brokers_away())
		return false;
	if (sim_permille(200))
		c->turn = (int)sim_below((uint64_t)total);
	for (int i = 0; i < total; i++) {
		int n = (c->turn + i) % total;
		int events = brokers_partitions(TOPIC_EVENTS);
		if (deliver_from(c, n < events ? TOPIC_EVENTS : TOPIC_DEFERRED, n < events ? n : n - events, to)) {
			c->turn = n;
			return true;
		}
	}
	return false;
}

static bool deliver(struct kafka_consumer *c, struct kafka_event *to)
{
	free(c->current);
	c->current = NULL;
	if (c->fatal) {
		give(to, KAFKA_FATAL);
		snprintf(to->error, sizeof(to->error), "simulated end of the client");
		return true;
	}
	if (world_fault(sim_config.trouble)) {
		give(to, KAFKA_TROUBLE);
		snprintf(to->error, sizeof(to->error), "simulated trouble");
		return true;
	}
	return deliver_answer(c, to) || deliver_rebalance(c, to) || deliver_fetched(c, to);
}

void kafka_consumer_poll(struct kafka_consumer *c, int timeout_ms, struct kafka_event *event)
{
	int64_t deadline_us = sim_now() + timeout_ms * MS_US;
	sim_point();
	while (!deliver(c, event)) {
		if (sim_now() < deadline_us && sim_wait_until(c, deadline_us))
			continue;
		give(event, KAFKA_NOTHING);
		return;
	}
}

static struct slot *assigned_slot(struct kafka_consumer *c, const struct kafka_partition *p)
{
	struct slot *s = slot_of(c, p);
	if (!s->assigned)
		sim_fail("%s/%d is not assigned and is asked for", p->topic, p->partition);
	return s;
}

void kafka_consumer_start(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	sim_point();
	for (size_t i = 0; i < count; i++) {
		struct slot *s = assigned_slot(c, &partitions[i]);
		s->wanted = true;
		s->paused = false;
		s->position = partitions[i].offset;
		s->end_told = -1;
		sim_trace("start %s/%d at %" PRId64, partitions[i].topic, partitions[i].partition,
			  partitions[i].offset);
	}
}

void kafka_consumer_stop(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	sim_point();
	for (size_t i = 0; i < count; i++)
		assigned_slot(c, &partitions[i])->wanted = false;
}

void kafka_consumer_release(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	sim_point();
	if (!c->release_due)
		sim_fail("a release without a revocation");
	c->release_due = false;
	for (size_t i = 0; i < count; i++) {
		struct slot *s = assigned_slot(c, &partitions[i]);
		s->wanted = s->paused = s->assigned = s->may_commit = false;
		s->revocations--;
	}
	c->given = false;
	EACH_SLOT(c, s, t, p)
	c->given |= s->assigned;
	if (has_unreleased(c))
		return;
	if (!c->member && c->knows)
		join(c);
	else if (c->member && group.preparing && c->asked)
		rejoin(c);
	else if (c->member && sim_config.cooperative)
		client_trigger_rebalance();
}

void kafka_consumer_pause(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	sim_point();
	for (size_t i = 0; i < count; i++)
		assigned_slot(c, &partitions[i])->paused = true;
}

void kafka_consumer_resume(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count)
{
	sim_point();
	for (size_t i = 0; i < count; i++)
		assigned_slot(c, &partitions[i])->paused = false;
}

/* ---- commits ---- */

struct commit {
	struct kafka_consumer *client;
	int generation;
	const char *error;
	bool silent; /* it is taken, and the answer says that it was not */
	size_t count;
	struct kafka_partition partitions[SIM_PARTITIONS_MAX * TOPICS_READ];
	char metadata[256];
};

static void commit_answered(void *argument)
{
	struct commit *commit = argument;
	struct kafka_consumer *c = commit->client;
	struct answer *a = calloc(1, sizeof(*a));
	ENSURE(a);
	a->error = commit->error;
	free(commit);
	if (c->last_answer)
		c->last_answer->next = a;
	else
		c->answers = a;
	c->last_answer = a;
	sim_wake(c);
}

static void commit_arrived(void *argument)
{
	struct commit *commit = argument;
	struct kafka_consumer *c = commit->client;
	if (brokers_away() || commit->error) {
		commit->error = "simulated: request timed out";
	} else if (!c->member || commit->generation != group.generation) {
		sim_count(SIM_FENCED, 1);
		commit->error = "simulated: illegal generation";
	} else {
		for (size_t i = 0; !commit->error && i < commit->count; i++)
			commit->error = brokers_commit(sim_topic_of(commit->partitions[i].topic),
						       commit->partitions[i].partition, commit->partitions[i].offset,
						       commit->metadata);
		sim_count(commit->silent ? SIM_COMMITS_UNANSWERED : SIM_COMMITS, 1);
		if (commit->silent)
			commit->error = "simulated: the answer is lost";
	}
	if (c->alive)
		sim_at(heard_at(c) - HEARTBEAT_US + sim_latency(sim_config.latency_us), commit_answered, commit);
	else
		free(commit);
}

int kafka_consumer_commit(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count,
			  const char *metadata)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	ENSURE(commit);
	commit->client = c;
	commit->generation = c->generation;
	snprintf(commit->metadata, sizeof(commit->metadata), "%s", metadata);
	for (size_t i = 0; i < count; i++) {
		const struct slot *s = slot_of(c, &partitions[i]);
		/* The caller's names may be gone by the time that it arrives. */
		const char *topic = sim_topics[sim_topic_of(partitions[i].topic)];
		if (s->assigned && s->may_commit)
			commit->partitions[commit->count++] =
				(struct kafka_partition){topic, partitions[i].partition, partitions[i].offset};
	}
	sim_point();
	if (!commit->count) {
		free(commit);
		return -1;
	}
	if (world_fault(sim_config.kafka_commit_fail))
		commit->error = "simulated";
	commit->silent = world_fault(sim_config.kafka_commit_lost);
	bool late = world_fault(sim_config.kafka_commit_late);
	int64_t wait_us = sim_latency(late ? sim_config.session_us : sim_config.latency_us);
	/* Not so late that a leave has no time for it. */
	if (wait_us > sim_config.session_us)
		wait_us = sim_config.session_us;
	sim_at(sim_now() + wait_us, commit_arrived, commit);
	return 0;
}

int32_t kafka_consumer_partition_count(const struct kafka_consumer *c, const char *topic)
{
	(void)c;
	return brokers_partitions(sim_topic_of(topic));
}

double kafka_consumer_share(struct kafka_consumer *c)
{
	int assigned = 0;
	EACH_SLOT(c, s, t, p)
	assigned += s->assigned;
	int all = brokers_partitions(TOPIC_EVENTS) + brokers_partitions(TOPIC_DEFERRED);
	return assigned > 1 ? (double)assigned / all : 1.0 / all;
}

bool kafka_consumer_close(struct kafka_consumer *c, int timeout_ms)
{
	(void)timeout_ms;
	sim_sleep(sim_latency(sim_config.latency_us));
	c->alive = false; /* the memory stays: timers know it */
	if (c->member && reachable(&(struct kafka_consumer){
				 .alive = true, .process = c->process, .isolated_until_us = c->isolated_until_us})) {
		c->member = false;
		client_trigger_rebalance();
		group_check();
	} else if (c->member) {
		sim_at(sim_now() + sim_config.session_us, session_over, c);
	}
	return true;
}

/* ---- the producer ---- */

struct message {
	struct message *next;
	struct kafka_producer *producer;
	enum sim_topic topic;
	int32_t partition; /* -1: by key */
	struct sim_record copy;
	struct slice value; /* the caller's, until the report */
	uint64_t value_sum;
	void *tag;
	enum kafka_delivery result;
	bool store;
};

struct kafka_producer {
	struct process *process;
	kafka_delivered *delivered;
	void *owner;
	int pending;
	bool woken;
	struct message *reports, *last_report;
};

int kafka_producer_open(const struct kafka_settings *s, kafka_delivered *delivered, void *owner,
			struct kafka_producer **out, char *error, size_t error_size)
{
	(void)s, (void)error, (void)error_size;
	struct kafka_producer *p = calloc(1, sizeof(*p));
	ENSURE(p);
	p->process = sim_process();
	p->delivered = delivered;
	p->owner = owner;
	*out = p;
	return 0;
}

static struct slice copy_of(struct slice s)
{
	if (!s.data)
		return s;
	char *bytes = malloc(s.len + 1);
	ENSURE(bytes);
	memcpy(bytes, s.data, s.len);
	bytes[s.len] = '\0';
	return (struct slice){bytes, s.len};
}

static uint64_t sum_of(struct slice s)
{
	uint64_t sum = s.data ? 1 : 0;
	for (size_t i = 0; i < s.len; i++)
		sum = sum * 1099511628211U + (uint8_t)s.data[i];
	return sum;
}

static void reported(void *argument)
{
	struct message *m = argument;
	struct kafka_producer *p = m->producer;
	m->next = NULL;
	if (p->last_report)
		p->last_report->next = m;
	else
		p->reports = m;
	p->last_report = m;
	sim_wake(p);
}

static void message_arrived(void *argument)
{
	struct message *m = argument;
	if (brokers_away()) {
		m->store = false;
		m->result = KAFKA_REFUSED;
	}
	if (m->store) {
		if (sum_of(m->value) != m->value_sum)
			sim_fail("a copy's value has changed before its report");
		m->copy.value = copy_of(m->value);
		m->copy.timestamp_us = clock_wall_us() / 1000 * 1000;
		int32_t partition = m->partition;
		if (partition < 0)
			partition = (int32_t)(sum_of(m->copy.key) % (uint64_t)brokers_partitions(m->topic));
		int64_t gap = sim_permille(sim_config.gap_permille) ? 1 + (int64_t)sim_below(3) : 0;
		traffic_copied(m->topic, m->partition, brokers_append(m->topic, partition, m->copy, gap));
		client_wake_all();
	}
	if (!m->producer->process->alive)
		return;
	int64_t wait_us = sim_latency(sim_config.latency_us);
	if (m->result == KAFKA_REFUSED) {
		sim_count(SIM_REFUSED, 1);
		wait_us = (int64_t)sim_below(REPORT_MAX_US);
	}
	sim_at(sim_now() + wait_us, reported, m);
}

int kafka_producer_send(struct kafka_producer *p, const struct kafka_message *k, void *tag)
{
	sim_point();
	if (p->pending >= QUEUE_MAX && world_fault(sim_config.queue_full))
		return KAFKA_QUEUE_FULL;
	bool large = k->value.len > COPY_VALUE_MAX;
	if (large) {
		sim_count(SIM_TOO_LARGE, 1);
		if (sim_permille(500))
			return KAFKA_TOO_LARGE;
	}
	struct message *m = calloc(1, sizeof(*m));
	ENSURE(m);
	m->producer = p;
	m->topic = sim_topic_of(k->topic);
	m->partition = k->partition;
	if (m->partition >= brokers_partitions(m->topic))
		sim_fail("a copy for partition %d, which %s does not have", m->partition, k->topic);
	m->copy.key = copy_of(k->key);
	m->copy.header_count = k->header_count;
	m->copy.headers = calloc(k->header_count + 1, sizeof(struct header));
	ENSURE(m->copy.headers);
	for (size_t i = 0; i < k->header_count; i++)
		m->copy.headers[i] = (struct header){copy_of(k->headers[i].name), copy_of(k->headers[i].value)};
	m->value = k->value;
	m->value_sum = sum_of(k->value);
	m->tag = tag;
	m->result = large ? KAFKA_TOO_LARGE : KAFKA_DELIVERED;
	m->store = !large;
	if (!large && world_fault(sim_config.refuse)) {
		m->result = KAFKA_REFUSED;
		m->store = sim_permille(sim_config.refuse_stored);
	}
	p->pending++;
	sim_at(sim_now() + sim_latency(sim_config.latency_us), message_arrived, m);
	return 0;
}

static int serve_reports(struct kafka_producer *p)
{
	int count = 0;
	while (p->reports) {
		struct message *m = p->reports;
		p->reports = m->next;
		if (!p->reports)
			p->last_report = NULL;
		p->pending--;
		p->delivered(p->owner, m->tag, m->result, m->result == KAFKA_DELIVERED ? NULL : "simulated");
		free(m);
		count++;
	}
	return count;
}

int kafka_producer_poll(struct kafka_producer *p, int timeout_ms)
{
	sim_point();
	if (!p->reports && !p->woken)
		(void)sim_wait_until(p, sim_now() + timeout_ms * MS_US);
	p->woken = false;
	return serve_reports(p);
}

int32_t kafka_producer_learn(struct kafka_producer *p, const char *topic, int timeout_ms)
{
	(void)p;
	(void)timeout_ms;
	return brokers_away() ? 0 : brokers_partitions(sim_topic_of(topic));
}

int kafka_producer_pending(struct kafka_producer *p)
{
	return p->pending;
}

void kafka_producer_wake(struct kafka_producer *p)
{
	p->woken = true;
	sim_wake(p);
	sim_point();
}

const char *kafka_producer_fatal(struct kafka_producer *p)
{
	(void)p;
	return NULL;
}

int kafka_producer_close(struct kafka_producer *p, int timeout_ms)
{
	(void)timeout_ms;
	if (p->pending)
		sim_fail("the producer is closed with copies under way");
	free(p);
	return 0;
}

/* ---- questions ---- */

struct kafka_admin {
	int dummy;
};

int kafka_admin_open(const struct kafka_settings *s, struct kafka_admin **out, char *error, size_t error_size)
{
	(void)s, (void)error, (void)error_size;
	*out = calloc(1, sizeof(**out));
	ENSURE(*out);
	return 0;
}

void kafka_admin_close(struct kafka_admin *a)
{
	free(a);
}

const char *kafka_admin_error(const struct kafka_admin *a)
{
	(void)a;
	return "simulated";
}

static bool question(void)
{
	sim_sleep(sim_latency(sim_config.latency_us));
	return !brokers_away() && !world_fault(sim_config.admin_fail);
}

enum kafka_answer kafka_admin_committed(struct kafka_admin *a, struct kafka_committed *entries, size_t count,
					int timeout_ms)
{
	(void)a, (void)timeout_ms;
	if (!question())
		return KAFKA_UNAVAILABLE;
	for (size_t i = 0; i < count; i++)
		entries[i].offset =
			brokers_committed(sim_topic_of(entries[i].topic), entries[i].partition, entries[i].metadata);
	sim_sleep(sim_latency(sim_config.latency_us));
	return KAFKA_OK;
}

enum kafka_answer kafka_admin_cluster_id(struct kafka_admin *a, int timeout_ms, char *id, size_t id_size)
{
	(void)a, (void)timeout_ms;
	snprintf(id, id_size, "simulated");
	return brokers_away() ? KAFKA_UNAVAILABLE : KAFKA_OK;
}

int kafka_membership_ms(const struct kafka_settings *s)
{
	(void)s;
	return (int)(sim_config.session_us / MS_US);
}

enum kafka_answer kafka_admin_watermarks(struct kafka_admin *a, const char *topic, int32_t partition, int timeout_ms,
					 int64_t *low, int64_t *high)
{
	(void)a, (void)timeout_ms;
	if (!question())
		return KAFKA_UNAVAILABLE;
	*low = 0;
	*high = brokers_log(sim_topic_of(topic), partition)->end;
	return KAFKA_OK;
}
