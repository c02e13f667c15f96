/*
 * The contract's section 3 a second time, for the auditor: what an order's records come to, and what the order
 * is owed. An audit that asked worker/ledger/facts.c and decision.c would share their mistakes, so it asks
 * neither, and is written in another way: each fact is a claim, of which the one that none beats is kept;
 * points are computed bit by bit in 64 bits. Only data is shared: events, statuses, rules as they were loaded.
 * Pure. Slices are borrowed from what was added.
 */
#ifndef WORKER_AUDIT_RECOMPUTE_H
#define WORKER_AUDIT_RECOMPUTE_H

#include "schemas/event.h"
#include "schemas/timestamp.h"
#include "worker/ledger/rules.h"

/* What a record says of one fact, and for when. Of two the later one counts, at the same time the greater
 * number, with the same number the greater text. */
struct claim {
	int64_t at_us;     /* TIME_NONE: nobody said anything */
	int64_t number;
	struct slice text; /* absent unless the fact is a text */
};

struct order_state {
	enum event_status progress; /* STATUS_NONE: no record */
	struct claim outcome;       /* number: the status */
	struct claim amount;        /* number: in minor units */
	struct claim driver;        /* text: its id */
	int64_t refunded_total_minor;
	struct slice customer_id;   /* absent: not known */
	struct slice partner_id;
	char currency[4];           /* "": not known */
};

/* What was recorded on an order when it first could earn under an outcome. */
struct order_terms {
	int64_t outcome_at_us; /* TIME_NONE: nothing was */
	struct slice rule_id;  /* absent: no rule was in force */
	int32_t rule_version;
	uint8_t kinds;         /* enum ledger_kinds */
};

struct order_due {
	int64_t points;
	int64_t order_credit_minor;
};

/* Of no record. */
void order_state_init(struct order_state *s);

/* Whether the event names another customer, partner or currency. */
bool order_state_contradicts(const struct order_state *s, const struct event *e);

/* The event must not contradict. */
void order_state_add(struct order_state *s, const struct event *e);

/* Returns: STATUS_NONE when there is none. */
enum event_status order_state_outcome(const struct order_state *s);

/*
 * What the order is owed under its terms.
 * Returns: NULL and *due; or why the terms can't price it (then *due is 0).
 */
const char *order_state_due(const struct order_state *s, const struct order_terms *terms, const struct rules *rules,
                            struct order_due *due);

#endif
