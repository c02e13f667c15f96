/*
 * Delivery events as a market makes them: orders that go from created to their outcome over six to eight events, many
 * at once, of few large and many small partners and customers; on demand with repeats, stragglers and malformed
 * records. The same options give the same bytes. Two seeds are two days of one market: orders and events are all
 * different, customers and partners are the same ones.
 *
 *     struct generator *g = generator_new(&options);
 *     while (generator_next(g, &record)) ...
 *
 * Thread: one at a time.
 */
#ifndef WORKER_CLI_GENERATE_H
#define WORKER_CLI_GENERATE_H

#include "common/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct generate_options {
	uint64_t seed;
	int64_t count;         /* records in all, repeats and malformed ones included */
	int64_t orders_alive;  /* at most this many between their first and last event */
	int64_t customers;
	int64_t partners;
	unsigned duplicate_bp; /* exact repeats of an earlier record, in hundredths of a percent */
	unsigned late_bp;      /* events that come up to LATE_RECORDS records later than due; the same unit */
	unsigned bad_bp;       /* records that the decoder refuses; the same unit */
	/* 0: a repeat is of one of the last few thousand records. Else of that many events ago, and of each event
	 * once at most: half of all records, then, is the most. */
	int64_t repeat_after;
	/* Orders are under way from the first record on, at any step of theirs, and an order's events have at least
	 * three quarters of orders_alive other events between them (late ones apart). Else the next event is any order's. */
	bool steady;
	bool all_delivered;    /* no order fails, is cancelled, returned or refunded */
	bool delivered_only;   /* an order is one event, its delivery to a known customer */
	bool beyond_ndjson;    /* null and empty values among the malformed ones, which no line can be */
	int64_t start_us;      /* the first event's timestamp */
};

enum { GENERATE_SPACING_US = 50000, GENERATE_LATE_RECORDS = 5000, GENERATE_REPEAT_AFTER_MAX = 10000000 };

struct generated {
	struct slice key;
	struct slice value; /* absent: a tombstone */
};

struct generator;

/* Owns: a copy of *options. */
struct generator *generator_new(const struct generate_options *options);
void generator_free(struct generator *g);

/* Returns: false after options.count records. *out is good until the next call. */
bool generator_next(struct generator *g, struct generated *out);

#endif
