/*
 * What a batch posts. An order is taken from the database (or is new), the batch's records are applied
 * to it one after the other in offset order, and then it is settled once: the difference between what
 * is called for now and what was posted before, so records that undo each other post nothing.
 *
 *     order_init(&o, order_id);
 *     ...fill the members from the row, if there is one, and...
 *     if (!order_resume(&o, rules))
 *         ...;                                  // priced by a rule that `rules` is too old to hold: reload
 *     order_apply(&o, &event, rules, i, &field) // once a record
 *     count = order_settle(&o, postings);       // then write o and the postings, if o.changed
 *
 * Pure: no clock, no I/O, no allocation [I6]. Slices are borrowed from the row, the events and the rules,
 * all of which outlive the batch.
 */
#ifndef WORKER_LEDGER_POSTING_H
#define WORKER_LEDGER_POSTING_H

#include "worker/ledger/decision.h"

#include <stdbool.h>
#include <stdint.h>

struct order {
	/* The row. */
	struct slice order_id;
	struct facts facts;
	struct pricing_pin pin;
	int64_t points;             /* posted so far */
	int64_t order_credit_minor;
	int64_t points_seq;         /* number of the last posting, 0 before the first */
	int64_t order_credit_seq;
	int64_t rev;                /* as read; 0 for a new order */
	bool exists;                /* there is a row */
	const char *unknown;        /* NULL, or the column of the row whose code this binary does not know: the order is
	                               another version's, neither applied to nor written [I14] */

	/* The batch. */
	bool changed;                 /* facts, pin or postings differ from the row: it must be written */
	const struct rule *rule;      /* the pin's version; NULL when the pin has none */
	struct targets targets;       /* called for now */
	uint32_t points_record;       /* the record that last changed the target: a posting's source */
	uint32_t order_credit_record;
};

/* A posting of either sign. Its accounts follow from the order's facts: points debit the partner and
 * credit the customer, order credits debit clearing and credit the partner; a negative amount swaps
 * the sides. */
struct posting {
	enum ledger_kinds kind; /* KIND_POINTS or KIND_ORDER_CREDIT */
	int64_t seq;            /* from 1 */
	int64_t amount;         /* not 0; points or minor units of facts.currency */
	struct slice rule_id;   /* of points under a rule; else absent */
	int32_t rule_version;
	uint32_t record_index;
};

enum { ORDER_POSTINGS_MAX = 2 };

enum order_apply {
	ORDER_RECORDED, /* merged */
	ORDER_STALE,    /* merged; its status was below the order's progress */
	ORDER_CONFLICT, /* contradicts what is fixed: not merged, the order is as before */
};

/* A new order: no fact, nothing posted. */
void order_init(struct order *o, struct slice order_id);

/*
 * To be called when the members of the row are filled, before the first record.
 * Returns: false when `rules` lacks the version that the order is priced by, since another replica
 * knew it first; the order must not be applied to before newer rules are loaded.
 */
must_use bool order_resume(struct order *o, const struct rules *rules);

/*
 * Merges one record. `record_index` comes back in the postings that it brings about. On ORDER_CONFLICT
 * *conflict_field names the member.
 */
must_use enum order_apply order_apply(struct order *o, const struct event *e, const struct rules *rules,
                                      uint32_t record_index, const char **conflict_field);

/* Writes target - posted, per kind, and counts it as posted. Returns: the number of postings, 0 to 2.
 * A second call returns 0. */
int order_settle(struct order *o, struct posting out[ORDER_POSTINGS_MAX]);

#endif
