/*
 * An order is a set of facts (contract, section 3). Merging a fact is commutative, associative and
 * idempotent, conflicts apart: a join-semilattice, so order of arrival and repeats cannot matter [I5].
 * Pure: no clock, no I/O, no allocation [I6]. Slices are borrowed from events and database results,
 * which outlive the batch.
 */
#ifndef WORKER_LEDGER_FACTS_H
#define WORKER_LEDGER_FACTS_H

#include "common/slice.h"
#include "schemas/event.h"
#include "schemas/timestamp.h"

#include <stdbool.h>
#include <stdint.h>

/* The merged facts alone: a value of the lattice. */
struct facts {
	struct slice customer_id; /* absent: not known yet; fixed by the first fact applied that carries it */
	struct slice partner_id;
	char currency[4];         /* "" unknown */
	enum event_status progress; /* highest rank seen; STATUS_NONE before the first fact */
	enum event_status outcome;  /* decisive status with the greatest (outcome_at, rank), or STATUS_NONE */
	int64_t outcome_at_us;      /* TIME_NONE without an outcome */
	int64_t amount_minor;       /* -1 unknown; of the greatest (amount_at, amount) */
	int64_t amount_at_us;
	int64_t refunded_total_minor; /* maximum, 0 at first */
	struct slice driver_id;     /* of the greatest (driver_at, driver_id) */
	int64_t driver_at_us;
};

/* No fact: the lattice's least element. */
void facts_init(struct facts *f);

/* Returns: NULL, or the name of the member by which the event contradicts what is fixed
 * ("customer_id", "partner_id" or "currency"): an order_conflict, not to be merged. */
const char *facts_conflict(const struct facts *f, const struct event *e);

/* Joins the event's fact to *f. The event must not conflict. Returns: whether anything changed. */
bool facts_merge(struct facts *f, const struct event *e);

/* A status lower than progress: *stale*, though its other members merge. Ask before merging. */
static inline bool facts_stale(const struct facts *f, const struct event *e)
{
	return e->status < f->progress;
}

#endif
