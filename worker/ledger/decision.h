/*
 * What an order is owed: pure functions of its facts and the rules (contract, section 3). The worker
 * posts `target - already posted`, so a duplicate posts nothing, a late cancel reverses, a partial
 * refund claws back the difference.
 * Pure: no clock, no I/O, no allocation, no randomness [I6].
 */
#ifndef WORKER_LEDGER_DECISION_H
#define WORKER_LEDGER_DECISION_H

#include "worker/ledger/facts.h"
#include "worker/ledger/rules.h"

/* Terms recorded on an order when it first can earn under an outcome, and kept while that outcome
 * stands: what is applied later does not re-price it. */
struct pricing_pin {
	int64_t outcome_at_us;   /* the outcome pinned for is `delivered` at this time; TIME_NONE: nothing pinned */
	struct slice rule_id;    /* absent: no rule was in force */
	int32_t rule_version;
	uint8_t kinds;           /* enum ledger_kinds of the partner */
};

struct targets {
	int64_t points;
	int64_t order_credit_minor;
};

/* Outcome `delivered`, partner and amount known: the order can earn. */
bool decision_can_earn(const struct facts *f);

/* Whether the order can earn under an outcome that the pin was not made for. */
bool decision_needs_pin(const struct facts *f, const struct pricing_pin *pin);

/* The pin for the order's present outcome. Slices are borrowed from `rules`. */
struct pricing_pin decision_pin(const struct facts *f, const struct rules *rules);

/*
 * The order's two targets under its pin. `rule` is the pinned version, NULL when the pin has none.
 * 0 and 0 when the order cannot earn. A pin for another outcome is our bug (ENSURE).
 */
struct targets decision_targets(const struct facts *f, const struct pricing_pin *pin, const struct rule *rule);

/* Points of `net = max(0, amount - refunded)` under a rule: integer arithmetic wide enough, one floor,
 * then the maximum, then 2^53 - 1. Exposed for tests and `explain`. */
int64_t decision_points(const struct rule *rule, int64_t amount_minor, int64_t refunded_total_minor);

#endif
