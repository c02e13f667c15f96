/*
 * The keeper: the thread that asks Kafka and PostgreSQL the slow questions, so that no consumer waits for
 * them: where an assigned partition starts, making progress durable, whether the database is still the
 * history that it was, and what the rules are. It holds no state of a partition: a job goes in, the
 * answer comes back through the consumer's inbox, and what failed is asked again by the consumer.
 *
 * Thread: one of its own; keeper_ask and keeper_rules from any.
 */
#ifndef WORKER_PIPELINE_KEEPER_H
#define WORKER_PIPELINE_KEEPER_H

#include "worker/kafka/kafka.h"
#include "worker/ledger/store.h"
#include "worker/pipeline/history_alarm.h"
#include "worker/pipeline/partition.h"

struct keeper_settings {
	const struct kafka_settings *kafka;
	const struct store_settings *store;
	size_t store_index;
	const char *group;
	int rules_poll_ms;
	int member_lives_ms; /* of the group, see store_renew_member */
	struct history_alarm *alarm;
	int64_t silence_us; /* silence.h */
};

enum keeper_question { KEEPER_ASSIGN, KEEPER_PROGRESS };

struct keeper_entry {
	struct partition *partition; /* the consumer's: the keeper reads its topic and number, no more */
	uint64_t epoch;              /* of the partition when it was asked: an answer to an older one is void */
	bool answered;               /* assign: this partition has a verdict, if the job is done */
	struct start_verdict verdict;
	struct start_facts facts;
	struct fingerprint print;    /* assign: in, what `proof` is about; progress: in, of the last record below position */
	enum log_proof proof;        /* assign: in */
	int64_t progress_before;     /* assign: in, what the answer before this one said of it */
	int64_t claim;               /* assign: out; progress: in */
	int64_t position;            /* progress: in */
	bool kept;                   /* progress: out */
};

struct keeper_job {
	struct keeper_job *next;
	struct consumer *owner;
	enum keeper_question question;
	struct history_epoch history; /* assign: out; progress: in */
	uint64_t lsn;                 /* progress: out */
	bool done;                    /* out; false: it did not work, ask again later */
	size_t count;
	struct keeper_entry entries[];
};

struct keeper;

must_use int keeper_start(const struct keeper_settings *s, struct keeper **out, char *error, size_t error_size);

/* A job with `count` zeroed entries. */
struct keeper_job *keeper_job_new(struct consumer *owner, enum keeper_question question, size_t count);
/* Owns: takes the job; it comes back by consumer_answer, done or not. */
void keeper_ask(struct keeper *k, struct keeper_job *job);

/* The group has thrown this process out: from now on it is a new member. Thread: any. */
void keeper_lost_group(struct keeper *k);
/* The cluster, as far as is known. Thread: any. */
struct cluster_id keeper_cluster(struct keeper *k);

/* The rules as last seen, with a reference for the caller; NULL before the first time. */
struct rules *keeper_rules(struct keeper *k);

/* Stops the thread: jobs that wait come back not done. */
void keeper_stop(struct keeper *k);
void keeper_free(struct keeper *k);

/* Implemented by consumer.c: the answer arrives. Owns: gives the job to the consumer, which frees it. */
void consumer_answer(struct consumer *c, struct keeper_job *job);

#endif
