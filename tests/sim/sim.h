/*
 * A simulation of the worker's own loop: the pipeline as it is built, with everything that it waits for replaced at
 * link time. One OS thread runs all of its threads as fibers, in an order that a seed draws; time is a number
 * that jumps when nobody can run. These fakes prove our loop, never the servers.
 *
 *     sim_threads.c   common/thread.h and common/clock.h: fibers, the schedule, time
 *     sim_kafka.c     the brokers: logs, the group's coordinator, commits
 *     sim_client.c    worker/kafka/kafka.h on top of them
 *     sim_store.c     worker/ledger/store.h: a database that may lose answers, or a suffix of its commits
 *     sim_gate.c      worker/gate/gate.h: a Redis that forgets
 *     sim_observe.c   metrics, health, lag, log: conservation and bounds are checked where they are published
 *     sim_traffic.c   orders, their events, and what the worker should have made of them
 *     sim_world.c     processes, faults, the phases of a seed
 *     sim.c           the command line
 *
 * The same seed gives the same run, to the last switch: nothing here may look at the real clock, at addresses, or at
 * random numbers of anyone else.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "common/ensure.h"
#include "common/slice.h"
#include "schemas/event.h"
#include "worker/ledger/facts.h"
#include "worker/ledger/history_epoch.h"
#include "worker/ledger/rules.h"
#include "worker/observe/metrics.h"

#include <stdbool.h>
#include <stdint.h>

#define SECOND_US INT64_C(1000000)
#define MS_US INT64_C(1000)
#define NEVER_US INT64_MAX

enum {
	SIM_PROCESSES_MAX = 3,
	SIM_CONSUMERS_MAX = 2,
	SIM_PARTITIONS_MAX = 6,
	SIM_ORDERS_MAX = 400,
	SIM_EVENTS_MAX = 600,
};

/* ---- what a seed draws: sim_world.c ---- */

struct sim_config {
	int processes, consumers, workers;
	int batch_max, inflight_max;
	int partitions, deferred_partitions;
	int orders, events;
	int commit_interval_ms, drain_ms, defer_ms;
	int64_t traffic_us; /* events come until then, faults too */
	bool cooperative;
	bool scatter; /* an order's events on all partitions */
	bool limits, rate_hold;
	bool malformed, conflicts, poison, large;
	int gap_permille, repeat_permille;
	int switch_permille; /* of the scheduling points that change the fiber */
	int stall_ppm;       /* of the scheduling points at which a fiber stands still for a while */
	int64_t latency_us;  /* of a call to a server, typical */
	int64_t session_us;
	/* Permille of calls. */
	int store_retry, commit_abort, commit_lost, commit_late, stale;
	int kafka_commit_fail, kafka_commit_lost, kafka_commit_late, trouble;
	int refuse, refuse_stored, queue_full, admin_fail;
	int redis_forget, redis_late;
	/* Per thousand of the ticks of the world (one each 50 ms of its time). */
	int kill, term, freeze, isolate, rebalance, failover, database_away, database_unusable, brokers_away,
		redis_away, redis_flush, fatal, rules, database_refuses;
};
extern struct sim_config sim_config;

/* What happened, over all seeds: a fault that never came proves nothing. X(symbol, words) */
#define SIM_COUNTS(X) \
	X(SWITCHES, "switches") \
	X(RECORDS, "records consumed") \
	X(KILLS, "kills") \
	X(TERMS, "leaves") \
	X(FREEZES, "frozen processes") \
	X(STALLS, "stalled threads") \
	X(REVOKED, "revocations") \
	X(LOST, "losses") \
	X(FENCED, "commits fenced") \
	X(COMMITS, "offset commits") \
	X(COMMITS_UNANSWERED, "offset commits without their answer") \
	X(CLAIMED, "progress refused by claim") \
	X(PROGRESS, "progress writes") \
	X(BATCHES, "batches committed") \
	X(ABORTED, "batches aborted") \
	X(UNANSWERED, "batches committed without their answer") \
	X(LATE, "late COMMITs") \
	X(STALE, "stale batches") \
	X(LOCKED, "waits for a row") \
	X(REJECTED, "rejected batches") \
	X(FAILOVERS, "failovers") \
	X(LOST_COMMITS, "commits lost by them") \
	X(EPOCHS, "epochs drawn") \
	X(HISTORY, "other histories met") \
	X(DUPLICATES, "duplicates by mark") \
	X(DEFERRALS, "deferred copies") \
	X(LETTERS, "dead letters") \
	X(REFUSED, "copies refused") \
	X(TOO_LARGE, "copies too large") \
	X(FATAL, "fatal clients")

enum sim_counter {
#define SIM_COUNTER(symbol, words) SIM_##symbol,
	SIM_COUNTS(SIM_COUNTER)
#undef SIM_COUNTER
		SIM_COUNTER_COUNT
};
void sim_count(enum sim_counter c, uint64_t n);

/* ---- processes: sim_world.c ---- */

struct pipeline;

struct process {
	int id; /* never used again */
	int slot;
	bool alive;
	bool leave_asked;        /* SIGTERM */
	int64_t frozen_until_us; /* SIGSTOP: none of its fibers runs */
	bool thrown_out;         /* once: what it drained then it could not commit */
	bool client_failed;      /* for good; a process that is frozen hears of it when it goes on */
	int64_t points_to_kill;  /* SIGKILL in so many scheduling points; 0: no */
	struct pipeline *pipeline;
};

/* The process' countdown is over. Called by the schedule; the fibers are dropped by sim_drop. */
void world_killed(struct process *p);
/* Faults happen; from the end of this phase on none does. */
bool world_faults(void);
/* Whether a fault of so many permille happens now. */
bool world_fault(int permille);

/* ---- fibers, time, chance: sim_threads.c ---- */

void sim_begin(uint64_t seed, bool trace);
/* Runs fibers and what was put down for a time until sim_end. */
void sim_loop(void);
void sim_end(void);
uint64_t sim_hash(void);

int64_t sim_now(void);
uint64_t sim_below(uint64_t n);
bool sim_permille(int permille);
/* Around `typical`: half to one and a half, now and then ten times that. */
int64_t sim_latency(int64_t typical_us);

void sim_spawn(struct process *p, const char *name, void *(*run)(void *), void *argument);
/* All fibers of the process end where they stand; does not return when the caller is one of them. */
void sim_drop(struct process *p);
/* Fibers of the process that have not returned. */
int sim_fibers_of(const struct process *p);
struct process *sim_process(void);
/* Another fiber may run here, and the process may die here. */
void sim_point(void);
void sim_sleep(int64_t us);
/* Waits until `object` is woken. Returns: false when the time came first. */
bool sim_wait_until(const void *object, int64_t deadline_us);
void sim_wake(const void *object);
/* Calls outside of any fiber: it may not wait. */
void sim_at(int64_t at_us, void (*act)(void *), void *argument);

/* Says what broke and ends the seed. */
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Adds to the hash of the run what no trace line says. */
void sim_note(uint64_t what);

/* ---- brokers: sim_kafka.c ---- */

enum sim_topic { TOPIC_EVENTS, TOPIC_DEFERRED, TOPIC_LETTERS, TOPIC_COUNT };
extern const char *const sim_topics[TOPIC_COUNT];
enum sim_topic sim_topic_of(const char *name);

struct sim_record {
	int64_t offset;
	int64_t timestamp_us;
	struct slice key, value;
	struct header *headers;
	size_t header_count;
	int entry; /* of sim_traffic: what it says */
	int copy;  /* on .deferred: how many copies of the entry were there before */
};

struct sim_log {
	struct sim_record *records;
	size_t count, capacity;
	int64_t end;
};

void brokers_begin(void);
struct sim_log *brokers_log(enum sim_topic topic, int32_t partition);
int brokers_partitions(enum sim_topic topic);
bool brokers_away(void);
/* Takes over key, value and headers. Returns: the record, good until the next one of its log. */
struct sim_record *brokers_append(enum sim_topic topic, int32_t partition, struct sim_record r, int64_t gap);
/* The first record at or behind the offset, or NULL. */
struct sim_record *brokers_read(enum sim_topic topic, int32_t partition, int64_t offset);
/* The group's commit, -1: none. */
int64_t brokers_committed(enum sim_topic topic, int32_t partition, char metadata[256]);
/* A commit arrives. Returns: NULL, or why not. */
const char *brokers_commit(enum sim_topic topic, int32_t partition, int64_t offset, const char *metadata);

/* ---- the group and its members: sim_client.c ---- */

void client_begin(void);
void client_trigger_rebalance(void);
void client_isolate(struct process *p, int64_t until_us);
void client_freeze(struct process *p, int64_t until_us);
void client_fail(struct process *p); /* one of its clients, for good */
void client_died(struct process *p);
void client_wake_all(void);
/* Whether each of its clients has what the group gave it last, and has not given it back. */
bool client_holds_assignments(const struct process *p);
void client_brokers_away(int64_t until_us);

/* ---- database: sim_store.c ---- */

void database_begin(void);
void database_failover(int commits_lost);
void database_away(int64_t until_us);
void database_unusable(int64_t until_us);
/* Everything is rejected as data are: a constraint that somebody got wrong. */
void database_refuse(int64_t until_us);
void database_new_rules(void);
void database_died(struct process *p);
void database_heal(void);
/* The order's row. Returns: false when there is none. */
bool database_order(const char *order_id, struct facts *facts, int64_t *points, int64_t *credit_minor);
int64_t database_progress(enum sim_topic topic, int32_t partition);
/* The highest progress that was ever durable in that epoch. */
int64_t database_progress_in(enum sim_topic topic, int32_t partition, const struct history_epoch *epoch);
bool database_is_history(const struct history_epoch *epoch);
/* A failover took commits back: conflicts may have been decided twice. */
bool database_has_lost(void);
void database_audit(void);

/* ---- Redis: sim_gate.c ---- */

void redis_begin(void);
void redis_away(int64_t until_us);
void redis_flush(void);
void redis_heal(void);

/* ---- traffic and oracle: sim_traffic.c ---- */

void traffic_begin(void);
/* A new order's event, so that others commit beside a poisoned one. */
void traffic_trickle(void);
bool traffic_is_over(void);
const struct terms *traffic_terms(void);
bool traffic_is_poison(struct slice order_id);
/* A copy arrives on .dlq or .deferred. `partition`: as the worker chose it, -1: it did not. */
void traffic_copied(enum sim_topic topic, int32_t partition, struct sim_record *r);
int64_t traffic_latest_letter_us(void);
/* Whether everything that the record asks for is done, in the database as it is now. */
bool traffic_settled(enum sim_topic topic, const struct sim_record *r);
/* The same of all records. */
bool traffic_is_settled(void);
/* A mark may be set: the event's effect is committed. */
void traffic_check_mark(const struct event_digest *digest);
/* A position is made durable, or committed: every record below is settled. `from`: below that it is known. */
void traffic_check_position(const char *what, enum sim_topic topic, int32_t partition, int64_t from, int64_t position);
/* The end: orders, postings, dead letters. */
void traffic_check_all(void);
extern const uint8_t traffic_digest_key[16];

/* ---- the world: sim_world.c ---- */

/* Runs one seed. Returns when all is well. */
void world_run(uint64_t seed, bool trace);

#endif
