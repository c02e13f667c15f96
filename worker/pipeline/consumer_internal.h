/*
 * What the files of the consumer share: consumer.c (the thread and its inbox), intake.c (records in),
 * settle.c (records back, progress, commits), rebalance.c (partitions come and go). All of it is the
 * consumer thread's, but for the inbox.
 */
#ifndef WORKER_PIPELINE_CONSUMER_INTERNAL_H
#define WORKER_PIPELINE_CONSUMER_INTERNAL_H

#include "common/thread.h"
#include "worker/observe/health.h"
#include "worker/pipeline/consumer.h"
#include "worker/pipeline/letter_news.h"
#include "worker/pipeline/news.h"
#include "worker/pipeline/partition.h"

/* What other threads put; taken as a whole. */
struct inbox {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct record_list records;
	struct keeper_job *first_job, *last_job;
	_Atomic bool has_mail; /* a hint, so that an empty inbox costs one load */
};

/* Partitions of one rebalance event that wait to be let go together. */
struct leaving {
	struct kafka_partition *partitions; /* owned; NULL: none */
	size_t count;
};

struct consumer {
	struct consumer_settings settings;
	int index;
	pthread_t thread;
	struct inbox inbox;
	_Atomic bool stop_asked;
	_Atomic int64_t stop_by_us;
	_Atomic bool joined;
	_Atomic bool left;
	_Atomic(const char *) fatal;
	_Atomic double share;
	_Atomic int assigned;
	_Atomic bool offsets_lost;
	_Atomic bool unreadable;
	_Atomic bool waiting;
	_Atomic int64_t waiting_since_us;

	struct kafka_consumer *kafka;
	struct event_decoder *decoder;
	struct heart *heart;
	struct record_pool pool;
	struct tally tally;
	struct partition **partitions; /* every one that it ever had */
	size_t partition_count;
	struct partition *last;        /* records come in runs: the one of the last record */
	struct kafka_partition *scratch; /* partition_count of them */
	struct news news;              /* of this turn */
	struct letter_news letter_news;
	struct record_list letters;    /* dead letters of this turn, for the outbox */
	struct leaving leaving;
	uint64_t alarm_seen;
	bool stopping;
	bool pressed;                  /* intake is paused: the budget is spent */
	bool commit_under_way;
	bool troubled;                 /* and said so */
	bool drained;                  /* at the end: everything taken was settled and committed */
	int64_t spent_since_us;        /* when the budget was first seen spent; 0: it is not */
	int64_t progress_due_us;
	int64_t serve_due_us;
	int64_t publish_due_us;
	int64_t assign_retry_ms;
	bool progress_asked;
	char fatal_reason[256];
};

/* ---- intake.c ---- */

/* One record from Kafka: track its offset, decode it, hand it on. */
void intake_record(struct consumer *c, const struct kafka_record *k);
/* A held head is due: it goes on its way. */
void intake_due(struct consumer *c, struct partition *p);

/* ---- settle.c ---- */

/* Records that came back: count, settle, free. */
void settle_records(struct consumer *c, struct record_list *list);
/* Lets go of one record that the consumer itself still has. */
void settle_release(struct consumer *c, struct record *r);
/* Sends what is settled to PostgreSQL, and what PostgreSQL has to Kafka. */
void settle_progress(struct consumer *c);
void settle_answer(struct consumer *c, const struct keeper_job *job);
void settle_commit(struct consumer *c);
void settle_commit_answered(struct consumer *c, const char *error);

/* ---- rebalance.c ---- */

/* Returns: NULL when the consumer never had it. */
struct partition *rebalance_find(struct consumer *c, const char *topic, int32_t partition);
void rebalance_assigned(struct consumer *c, const struct kafka_partition *partitions, size_t count);
void rebalance_revoked(struct consumer *c, const struct kafka_partition *partitions, size_t count, int64_t now_us);
void rebalance_lost(struct consumer *c, const struct kafka_partition *partitions, size_t count);
/* Asks the start rule for those that need it. */
void rebalance_resolve(struct consumer *c, int64_t now_us);
void rebalance_answer(struct consumer *c, const struct keeper_job *job, int64_t now_us);
/* The partition is read anew, by the start rule. */
void rebalance_restart(struct consumer *c, struct partition *p, int64_t ask_again_us);
/* Returns: how many partitions have waited too long for a position, or for a proof of their log. */
size_t rebalance_waiting(struct consumer *c, int64_t now_us);
/* PROVING: something came, a record (its fingerprint) or the end of the log (NULL), and the position behind it. Returns:
 * whether the partition runs now and the record is to be taken as any other. */
must_use bool rebalance_meet(struct consumer *c, struct partition *p, const struct fingerprint *met, int64_t position);
/* PROVING without a fingerprint, and the record before the start can't be read: it runs without one. Returns: whether
 * that is so. */
bool rebalance_goes_without(struct consumer *c, struct partition *p);
/* Restarts what belongs to a history that is no more. */
void rebalance_alarm(struct consumer *c, int64_t now_us);
/* Moves drained and expired partitions on, and lets a revocation go when all of its are. */
void rebalance_drain(struct consumer *c, int64_t now_us);
/* The leave: everything drains. */
void rebalance_stop(struct consumer *c, int64_t deadline_us);
/* Whether nothing is left to drain. */
bool rebalance_is_over(const struct consumer *c);

/* ---- consumer.c ---- */

/* Makes the library's pause fit the partition's reasons for one. */
void consumer_fit_pause(struct consumer *c, struct partition *p);

#endif
