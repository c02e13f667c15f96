/*
 * A record in flight: one block from a pool that holds the record's bytes, its event and its place.
 *
 * Who owns it: the consumer thread that read it, until it hands it to the dispatch queue or the outbox;
 * the worker thread that took it; the outbox while its copy is under way; then, by
 * consumer_return, the consumer again, which counts its outcome and puts the block back into its pool.
 * Exactly one owner at any time; lists are chained through `next`.
 */
#ifndef WORKER_PIPELINE_RECORD_H
#define WORKER_PIPELINE_RECORD_H

#include "common/slice.h"
#include "schemas/event.h"
#include "worker/gate/gate.h"
#include "worker/kafka/kafka.h"
#include "worker/observe/metrics.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct consumer;
struct partition;

/* Where a record stands in Kafka; for a deferred copy, where the original does. */
struct provenance {
	struct slice topic;
	int32_t partition;
	int64_t offset;
	int64_t timestamp_us; /* -1: none */
};

/* When a limiter that has charged a record lets it pass, and what that rests on (deferral.h). */
struct rate_slot {
	int64_t at_ms;      /* Unix; 0: it has none */
	int64_t per_second; /* the partner's rate then */
	int64_t generation; /* of the limiter's key */
};

/* Why a record goes to the dead letters. */
struct refusal {
	enum error_code code;
	char field[192];
	char message[256];
};

struct record {
	struct record *next;
	struct consumer *owner;
	struct partition *partition;
	uint64_t epoch;   /* of the assignment that read it: partition_epoch then */
	uint64_t ticket;  /* in that assignment's tracker */
	struct history_epoch history; /* of the database, when the assignment began */
	struct provenance source;
	struct event event;   /* when it was decoded; strings are in this block */
	struct slice key;
	struct slice value;
	struct header *headers;
	size_t header_count;
	size_t block_size;
	struct refusal *refusal; /* owned; NULL unless it is to be dead-lettered */
	int64_t not_before_ms;   /* deferred copies: when it is due, Unix; else 0 */
	struct rate_slot slot;   /* deferred copies, and those to be deferred */
	int32_t read_from;       /* the partition that it was read from; `source` may name another one */
	int64_t retry_at_us;     /* in the outbox: monotonic time of the next try */
	int64_t committed_us;    /* wall time of the COMMIT that settled it, 0 when none did */
	enum outcome outcome;    /* what it will be counted as */
	const struct record *repeats; /* in a batch: the equal record before it, whose COMMIT makes it a duplicate */
	uint64_t rejected_at;    /* 0, or how many writes had begun when PostgreSQL first refused it alone */
	uint32_t attempts;       /* times that its copy was tried */
	bool deferred;           /* it was read from the deferred topic */
	bool alone;              /* its copy goes in a batch of its own: another's size is not to be held against it */
	bool without_value;      /* its copy was refused for its size */
	bool unknown_code;       /* it is deferred since its order's row holds a code that this binary does not know */
	bool admitted;           /* the rate limit let it pass, and charged it where it charges: not asked again */
};

static inline bool record_is_dead_letter(const struct record *r)
{
	return r->refusal != NULL;
}

/* Whether a record that is to be deferred waits for a slot; else for something that no limiter knows. */
static inline bool record_awaits_slot(const struct record *r)
{
	return r->slot.at_ms > 0 && !r->admitted;
}

/* Sets the refusal; the first one stays. Strings are cut to fit. */
void record_refuse(struct record *r, enum error_code code, const char *field, const char *message);

/* A chain of records, first in first out. Plain data. */
struct record_list {
	struct record *first;
	struct record *last;
	size_t count;
};

void record_list_append(struct record_list *list, struct record *r);
/* Moves all of `from` behind `list`; `from` is empty afterwards. */
void record_list_join(struct record_list *list, struct record_list *from);
struct record *record_list_take(struct record_list *list); /* NULL when empty */

/*
 * Blocks by size class, from 512 bytes doubling to 128 KiB; larger ones are the allocator's. Blocks that come back
 * are kept, so a steady load allocates nothing. What is kept and in flight together stays within `bytes_max`,
 * whatever sizes were in flight before: beyond it a block goes back to the allocator, and those of other sizes make
 * room for a new one. What is in flight alone may be more. Thread: one consumer's.
 */
enum { RECORD_CLASSES = 9, RECORD_CLASS_MIN = 512 };

struct record_pool {
	struct record *free[RECORD_CLASSES];
	size_t live;       /* records handed out: what is in flight, counted where it lives */
	size_t live_bytes;
	size_t kept_bytes;
	size_t bytes_max;
};

void record_pool_init(struct record_pool *p, size_t bytes_max);
void record_pool_release(struct record_pool *p); /* all blocks must be back */

/*
 * Makes a record with copies of the Kafka record's key, value and headers and, when `event` is given,
 * of the event and its strings. All other members are zero.
 */
struct record *record_new(struct record_pool *p, const struct kafka_record *k, const struct event *event);
void record_free(struct record_pool *p, struct record *r);

#endif
