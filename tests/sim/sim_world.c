/*
 * One seed: draws what there is and what goes wrong, lets it go wrong while events come, then lets everything heal and
 * holds the worker to its promises.
 *
 *     faults   events come; processes die, freeze, leave, come back; servers fail
 *     drain    nothing fails any more: everything must be settled and committed, and between two dead letters, or with
 *              none to come, DRAIN_US may pass at the most
 *     leave    each process must leave cleanly
 *     check    sim_traffic.c compares the database with what the events call for
 *
 * Each seed has some faults and not others (swarm): a fault that is always there hides what others find.
 */
#include "tests/sim/sim.h"

#include "common/clock.h"
#include "worker/options.h"
#include "worker/pipeline/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	PROCESSES_EVER = 256,
	SHUTDOWN_S = 10,
	SHUTDOWN_DRAIN_PERCENT = 75,
};

#define TICK_US (50 * MS_US)
/* Restarts make copies of copies, and those of a record that conflicts, which has no mark, become dead letters one by
 * one at the rate of its partner. What goes on for ever meets the limit of a seed (sim.c). */
#define DRAIN_US (180 * SECOND_US)
#define LEAVE_US ((SHUTDOWN_S + 5) * SECOND_US)
#define TRICKLE_AFTER_US (3 * SECOND_US)

struct sim_config sim_config;

static enum phase { PHASE_FAULTS, PHASE_DRAIN, PHASE_LEAVE } phase;
static int64_t phase_began_us;
static struct process processes[PROCESSES_EVER];
static int process_count;
static struct process *slots[SIM_PROCESSES_MAX]; /* NULL: it is to be started again */
static int64_t trickle_due_us;
static struct options options;
static bool has_refused;
static bool calm; /* nothing fails but that processes leave: then they must leave cleanly */

static void start_process(void *argument);

/* ---- what goes wrong ---- */

bool world_faults(void)
{
	return phase == PHASE_FAULTS;
}

bool world_fault(int permille)
{
	return phase == PHASE_FAULTS && sim_permille(permille);
}

/* 0 or, for about `share` percent of the seeds, something up to `max`. */
static int draw_fault(int share, int max)
{
	return sim_below(100) < (uint64_t)share ? 1 + (int)sim_below((uint64_t)max) : 0;
}

static int between(int low, int high)
{
	return low + (int)sim_below((uint64_t)(high - low + 1));
}

static void draw_faults(struct sim_config *c)
{
	c->store_retry = draw_fault(25, 80);
	c->commit_abort = draw_fault(30, 150);
	c->commit_lost = draw_fault(40, 150);
	c->commit_late = draw_fault(30, 100);
	c->stale = draw_fault(25, 150);
	c->kafka_commit_fail = draw_fault(25, 300);
	c->kafka_commit_lost = draw_fault(25, 300);
	c->kafka_commit_late = draw_fault(30, 300);
	c->trouble = draw_fault(10, 10);
	c->refuse = draw_fault(40, 500);
	c->refuse_stored = between(0, 1) * 500;
	c->queue_full = draw_fault(20, 500);
	c->admin_fail = draw_fault(20, 300);
	c->redis_forget = draw_fault(40, 500);
	c->redis_late = draw_fault(25, 500);
	c->kill = draw_fault(40, 40);
	c->term = draw_fault(30, 30);
	c->freeze = draw_fault(30, 30);
	c->isolate = draw_fault(30, 30);
	c->rebalance = draw_fault(35, 80);
	c->failover = draw_fault(30, 20);
	c->database_away = draw_fault(25, 20);
	c->database_unusable = draw_fault(10, 10);
	c->brokers_away = draw_fault(20, 15);
	c->redis_away = draw_fault(25, 20);
	c->redis_flush = draw_fault(25, 30);
	c->fatal = draw_fault(8, 10);
	c->rules = draw_fault(25, 20);
	c->stall_ppm = draw_fault(40, 1500);
	c->database_refuses = draw_fault(20, 20);
}

static void draw_config(void)
{
	static const int switching[] = {0, 20, 200, 500, 900};
	struct sim_config *c = &sim_config;
	*c = (struct sim_config){0};
	c->processes = between(1, SIM_PROCESSES_MAX);
	c->consumers = between(1, SIM_CONSUMERS_MAX);
	c->workers = between(1, 3);
	c->batch_max = sim_permille(300) ? between(1, 4) : between(5, 50);
	c->inflight_max = sim_permille(300) ? between(2, 12) : between(20, 300);
	c->partitions = between(1, SIM_PARTITIONS_MAX);
	c->deferred_partitions = between(1, 3);
	c->orders = sim_permille(300) ? between(1, 3) : between(4, 30);
	c->events = between(20, 120);
	c->commit_interval_ms = between(20, 400);
	c->drain_ms = between(0, 3000);
	c->defer_ms = between(50, 1500);
	c->traffic_us = between(1000, 6000) * MS_US;
	c->cooperative = sim_permille(400);
	c->scatter = sim_permille(500);
	c->limits = sim_permille(400);
	c->rate_hold = sim_permille(300);
	c->malformed = sim_permille(400);
	c->conflicts = sim_permille(400);
	c->poison = sim_permille(200);
	if (c->poison) {
		/* What is refused waits for others to come to the same process and commit: it must have room for them,
		 * and partitions that they come from. */
		c->inflight_max = SIM_EVENTS_MAX;
		c->limits &= c->processes == 1;
	}
	c->large = sim_permille(250);
	c->gap_permille = sim_permille(500) ? between(10, 300) : 0;
	c->repeat_permille = sim_permille(600) ? between(50, 500) : 0;
	c->switch_permille = switching[sim_below(sizeof(switching) / sizeof(switching[0]))];
	c->latency_us = (int64_t)1 << between(7, 14);
	c->session_us = between(600, 3000) * MS_US;
	calm = sim_permille(60);
	if (calm) {
		c->poison = false; /* waits for company, also on leaving */
		c->term = 20;
		c->rebalance = draw_fault(50, 40);
	} else {
		draw_faults(c);
	}
	if (c->limits)
		c->deferred_partitions = between(1, SIM_PARTITIONS_MAX); /* classes of waiting */
}

static void say_config(void)
{
	const struct sim_config *c = &sim_config;
	sim_trace("%d processes of %d consumers and %d workers, batches of %d, %d in flight", c->processes,
		  c->consumers, c->workers, c->batch_max, c->inflight_max);
	sim_trace("%d+%d partitions, %d orders, %d events,%s%s%s%s%s%s%s%s%s", c->partitions, c->deferred_partitions,
		  c->orders, c->events, c->cooperative ? " cooperative" : " eager", c->scatter ? " scattered" : "",
		  c->limits ? " limits" : "", c->malformed ? " malformed" : "", c->conflicts ? " conflicts" : "",
		  c->poison ? " poison" : "", c->large ? " large" : "", c->repeat_permille ? " repeats" : "",
		  c->gap_permille ? " gaps" : "");
}

/* ---- processes ---- */

static void draw_options(void)
{
	const struct sim_config *c = &sim_config;
	options = (struct options){.kafka_topic = sim_topics[TOPIC_EVENTS],
				   .kafka_deferred_topic = sim_topics[TOPIC_DEFERRED],
				   .kafka_dlq_topic = sim_topics[TOPIC_LETTERS],
				   .kafka_group = "simulated",
				   .pg_dsn = "",
				   .pg_schema = "delivery",
				   .redis_url = "",
				   .redis_prefix = "dw:",
				   .consumers = c->consumers,
				   .workers = c->workers,
				   .batch_max = c->batch_max,
				   .inflight_max = c->inflight_max,
				   .inflight_max_bytes = 1 << 24,
				   .commit_interval_ms = c->commit_interval_ms,
				   .rebalance_drain_ms = c->drain_ms,
				   .dedup_ttl_s = 86400,
				   .rate_partner_burst = 1,
				   .rate_defer_ms = c->defer_ms,
				   .rate_on_outage = c->rate_hold,
				   .rules_poll_ms = 1000,
				   .ledger_slots = 1,
				   .shutdown_timeout_s = SHUTDOWN_S};
}

static void start_again(int slot)
{
	slots[slot] = NULL;
	if (phase != PHASE_LEAVE)
		sim_at(sim_now() + (int64_t)sim_below(SECOND_US), start_process, &slots[slot]);
}

/* No step of its own is taken any more. Does not return when one of its own threads calls. */
static void die(struct process *p)
{
	p->alive = false;
	p->points_to_kill = 0;
	client_died(p);
	database_died(p);
	start_again(p->slot);
	sim_drop(p);
}

void world_killed(struct process *p)
{
	sim_trace("process %d is killed", p->id);
	sim_count(SIM_KILLS, 1);
	die(p);
}

/* As worker/cli/run.c does it. */
static void leave(struct process *p, bool failed)
{
	int64_t now = clock_mono_us(), budget_us = SHUTDOWN_S * SECOND_US;
	bool undisturbed = !failed && (calm || phase == PHASE_LEAVE);
	sim_trace("leaving");
	sim_count(SIM_TERMS, 1);
	pipeline_drain(p->pipeline, now + budget_us * SHUTDOWN_DRAIN_PERCENT / 100);
	bool left = true;
	while (left && !pipeline_has_left(p->pipeline)) {
		sim_sleep(20 * MS_US);
		left = clock_mono_us() - now < budget_us;
	}
	left = left && pipeline_join(p->pipeline);
	if (left)
		pipeline_stop(p->pipeline);
	sim_trace("left, %s", left ? "all settled" : "work unsettled");
	if (!left && undisturbed && !p->thrown_out && !p->client_failed)
		sim_fail("left with work unsettled though nothing was wrong");
	if (!left)
		die(p);
	if (sim_fibers_of(p) != 1)
		sim_fail("threads are left behind");
	p->alive = false;
	start_again(p->slot);
}

static void *process_main(void *argument)
{
	struct process *p = argument;
	char error[256];
	if (pipeline_start(&options, traffic_digest_key, &p->pipeline, error, sizeof(error)))
		sim_fail("no start: %s", error);
	while (!p->leave_asked && !pipeline_fatal(p->pipeline)) {
		pipeline_tend(p->pipeline);
		sim_sleep(200 * MS_US);
	}
	leave(p, pipeline_fatal(p->pipeline) != NULL);
	return NULL;
}

static void start_process(void *argument)
{
	struct process **slot = argument;
	if (phase == PHASE_LEAVE)
		return;
	if (process_count == PROCESSES_EVER)
		sim_fail("simulation: too many processes");
	struct process *p = &processes[process_count];
	*p = (struct process){.id = process_count++, .slot = (int)(slot - slots), .alive = true};
	*slot = p;
	sim_trace("process %d starts", p->id);
	sim_spawn(p, "main", process_main, p);
}

static struct process *any_process(void)
{
	struct process *p = slots[sim_below((uint64_t)sim_config.processes)];
	return p && p->alive ? p : NULL;
}

/* ---- the phases ---- */

static void go_wrong(void)
{
	const struct sim_config *c = &sim_config;
	int64_t now = sim_now();
	struct process *p;
	if (sim_permille(c->kill) && (p = any_process()) && !p->points_to_kill)
		p->points_to_kill = 1 + (int64_t)sim_below(3000);
	if (sim_permille(c->term) && (p = any_process()))
		p->leave_asked = true;
	if (sim_permille(c->freeze) && (p = any_process())) {
		sim_trace("process %d freezes", p->id);
		sim_count(SIM_FREEZES, 1);
		client_freeze(p, now + (int64_t)sim_below((uint64_t)(2 * c->session_us)));
	}
	if (sim_permille(c->isolate) && (p = any_process())) {
		sim_trace("process %d is cut off from the coordinator", p->id);
		client_isolate(p, now + (int64_t)sim_below((uint64_t)(3 * c->session_us)));
	}
	if (sim_permille(c->rebalance))
		client_trigger_rebalance();
	if (sim_permille(c->failover))
		database_failover((int)sim_below(1 + sim_below(12)));
	if (sim_permille(c->database_away))
		database_away(now + (int64_t)sim_below(2 * SECOND_US));
	if (sim_permille(c->database_unusable))
		database_unusable(now + (int64_t)sim_below(SECOND_US));
	/* Once: a database that refuses everything, then takes it, then refuses everything again fools the worker. */
	if (!has_refused && sim_permille(c->database_refuses)) {
		has_refused = true;
		sim_trace("the database refuses all data");
		database_refuse(now + (int64_t)sim_below(SECOND_US));
	}
	if (sim_permille(c->brokers_away))
		client_brokers_away(now + (int64_t)sim_below(2 * SECOND_US));
	if (sim_permille(c->redis_away))
		redis_away(now + (int64_t)sim_below(2 * SECOND_US));
	if (sim_permille(c->redis_flush))
		redis_flush();
	if (sim_permille(c->fatal) && (p = any_process())) {
		sim_count(SIM_FATAL, 1);
		client_fail(p);
	}
	if (sim_permille(c->rules))
		database_new_rules();
}

static void enter(enum phase next)
{
	phase = next;
	phase_began_us = sim_now();
	sim_trace("phase %d", (int)next);
}

static void heal(void)
{
	enter(PHASE_DRAIN);
	database_heal();
	redis_heal();
	client_brokers_away(0);
	client_wake_all();
	for (int i = 0; i < process_count; i++)
		processes[i].points_to_kill = 0;
	trickle_due_us = sim_now() + TRICKLE_AFTER_US;
}

static bool is_drained(void)
{
	if (!traffic_is_over())
		return false;
	for (int t = 0; t <= TOPIC_DEFERRED; t++) {
		for (int p = 0; p < brokers_partitions((enum sim_topic)t); p++) {
			int64_t end = brokers_log((enum sim_topic)t, p)->end;
			if (brokers_committed((enum sim_topic)t, p, NULL) != end)
				return false;
			/* What a failover took back after the commit is to be found and read again. */
			if (database_progress((enum sim_topic)t, p) != end)
				return false;
		}
	}
	return traffic_is_settled();
}

static _Noreturn void say_stuck(void)
{
	for (int t = 0; t <= TOPIC_DEFERRED; t++) {
		for (int p = 0; p < brokers_partitions((enum sim_topic)t); p++) {
			int64_t end = brokers_log((enum sim_topic)t, p)->end;
			int64_t committed = brokers_committed((enum sim_topic)t, p, NULL);
			if (committed != end)
				sim_fail("stuck: %s/%d is committed at %" PRId64 ", its end is %" PRId64
					 ", progress %" PRId64,
					 sim_topics[t], p, committed, end, database_progress((enum sim_topic)t, p));
		}
	}
	sim_fail("stuck: all is committed, and not all is settled");
}

static bool all_left(void)
{
	for (int i = 0; i < process_count; i++)
		if (processes[i].alive)
			return false;
	return true;
}

static void drain(void)
{
	if (is_drained()) {
		enter(PHASE_LEAVE);
		for (int i = 0; i < sim_config.processes; i++)
			if (slots[i])
				slots[i]->leave_asked = true;
	} else if (sim_now() - phase_began_us > DRAIN_US && sim_now() - traffic_latest_letter_us() > DRAIN_US) {
		say_stuck();
	} else if (sim_now() >= trickle_due_us) {
		trickle_due_us = sim_now() + 2 * SECOND_US;
		traffic_trickle();
	}
}

static void tick(void *argument)
{
	(void)argument;
	switch (phase) {
	case PHASE_FAULTS:
		if (sim_now() >= sim_config.traffic_us)
			heal();
		else
			go_wrong();
		break;
	case PHASE_DRAIN:
		drain();
		break;
	case PHASE_LEAVE:
		if (all_left())
			sim_end();
		else if (sim_now() - phase_began_us > LEAVE_US)
			sim_fail("a process does not leave");
		break;
	}
	sim_at(sim_now() + TICK_US, tick, NULL);
}

void world_run(uint64_t seed, bool trace)
{
	sim_begin(seed, trace);
	draw_config();
	say_config();
	draw_options();
	brokers_begin();
	client_begin();
	database_begin();
	redis_begin();
	enter(PHASE_FAULTS);
	traffic_begin();
	for (int i = 0; i < sim_config.processes; i++)
		sim_at((int64_t)sim_below(500 * MS_US), start_process, &slots[i]);
	sim_at(0, tick, NULL);
	sim_loop();
	traffic_check_all();
}
