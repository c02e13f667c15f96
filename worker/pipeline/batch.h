/*
 * A batch: the records that a worker took, and where each of them stands. Plain data with verbs; what asks
 * Redis and PostgreSQL is the worker (pool.c).
 *
 *     records[0 .. count)  are to be written, in the order in which they were read
 *     repeats              are equal to one before them, and wait for what becomes of that one
 *     returned             are settled, or let go: back to their consumers
 *     outgoing             are to be copied: to the outbox
 *
 * Thread: one worker's.
 */
#ifndef WORKER_PIPELINE_BATCH_H
#define WORKER_PIPELINE_BATCH_H

#include "worker/gate/gate.h"
#include "worker/ledger/ledger.h"
#include "worker/pipeline/record.h"

enum batch_fate {
	FATE_OPEN,    /* not written yet */
	FATE_WRITTEN, /* its transaction is committed */
	FATE_LETTER,  /* refused, to be dead-lettered: record->refusal says why */
	FATE_DEFERRED, /* its order is another version's [I14] */
};

enum { BATCH_NO_INDEX = -1 };

struct batch {
	size_t max;
	size_t count;
	struct record **records;
	struct gate_mark *marks;    /* digest of each, by index like records */
	struct ledger_item *items;
	bool *done;                 /* scratch of a step: this record is through with it */
	uint8_t *fates;             /* enum batch_fate of each, set by the write */
	uint32_t *request_of;       /* scratch of the admission: index into requests, or none */
	uint32_t *buckets;          /* scratch of batch_drop_repeats: a hash table of indexes */
	size_t bucket_count;
	struct gate_request *requests; /* scratch of the admission: one a limited partner, and generation shown */
	struct record_list repeats;
	struct record_list returned;
	struct record_list outgoing;
	struct record_list later;   /* a batch of their own, next: of another history, or repeats of what was not written */
};

void batch_init(struct batch *b, size_t max);
void batch_release(struct batch *b);

/* Fills the batch up behind what is in it: from `later`, then from `list`, records of one history. What does not fit
 * stays in `later`. */
void batch_load(struct batch *b, struct record_list *list);

/* Removes records[i] for which `gone[i]`, keeping the order; they go to `to` with that outcome. */
void batch_remove(struct batch *b, const bool *gone, enum outcome outcome, struct record_list *to);

/* Computes the digests of records[from .. count). */
void batch_digest(struct batch *b, size_t from, const uint8_t key[16]);

/* An equal record earlier in the batch makes a repeat: same digest, and the same event. */
void batch_drop_repeats(struct batch *b);
/* To be called when the batch is empty and its records are still here: repeats of what was written are duplicates and
 * go to `returned`; the others stand for themselves, in the next batch. */
void batch_judge_repeats(struct batch *b);

/* Lets go of records whose assignment is over. */
void batch_drop_unwanted(struct batch *b);

struct rate_limit {
	int64_t per_second; /* 0: none */
	int64_t burst;
};

/*
 * Sums up what limited partners want, for records that were not admitted yet, into requests: those that show a slot
 * apart from those that don't. A slot that is over (`defer_ms`: deferral.h), or of another rate than the partner has
 * now, is not shown. `rules` may be NULL. Returns: how many requests.
 */
size_t batch_collect_requests(struct batch *b, const struct rules *rules, const struct rate_limit *standard,
                              int64_t now_ms, int64_t defer_ms);
/* Admits as many records of each partner as were granted, the first ones, and those whose slot holds and has come; the
 * rest is to be deferred, each with a slot. Returns: whether some are left whose slot turned out to be none: they are
 * to be asked for again, once. */
must_use bool batch_apply_grants(struct batch *b, int64_t now_ms, int64_t defer_ms);

/* Takes out what the write finished: letters and deferrals to `outgoing`, written ones to `returned`. The marks of the
 * written ones go to `written` (room for `max`). Returns: how many those are. */
size_t batch_sweep(struct batch *b, int64_t committed_us, struct gate_mark *written);

/* Gives up on all that is left. */
void batch_release_records(struct batch *b);

#endif
