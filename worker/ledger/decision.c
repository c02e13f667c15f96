#include "worker/ledger/decision.h"

/* 2^53 - 1, the bound of amounts, times 10^6 points times 10^6 basis points is below 2^93: __int128
 * holds every product here with room to spare. */
typedef __int128 wide;

enum { BASIS_POINTS = 10000 }; /* 1x */

#define POINTS_MAX EVENT_AMOUNT_MAX

bool decision_can_earn(const struct facts *f)
{
	return f->outcome == STATUS_DELIVERED && slice_present(f->partner_id) && f->amount_minor >= 0;
}

bool decision_needs_pin(const struct facts *f, const struct pricing_pin *pin)
{
	return decision_can_earn(f) && pin->outcome_at_us != f->outcome_at_us;
}

struct pricing_pin decision_pin(const struct facts *f, const struct rules *rules)
{
	ENSURE(decision_can_earn(f));
	struct pricing_pin pin = {
		.outcome_at_us = f->outcome_at_us,
		.kinds = rules_partner(rules, f->partner_id)->kinds,
	};
	const struct rule *rule = rules_in_force(rules, f->partner_id, f->currency, f->outcome_at_us);
	if (rule) {
		pin.rule_id = rule->id;
		pin.rule_version = rule->version;
	}
	return pin;
}

static int64_t net_minor(int64_t amount_minor, int64_t refunded_total_minor)
{
	return amount_minor > refunded_total_minor ? amount_minor - refunded_total_minor : 0;
}

int64_t decision_points(const struct rule *rule, int64_t amount_minor, int64_t refunded_total_minor)
{
	int64_t net = net_minor(amount_minor, refunded_total_minor);
	/* The minimum looks at the order as it was placed: a refund shrinks the points, not the order. */
	if (net == 0 || amount_minor < rule->min_order_minor)
		return 0;
	wide points = (wide)rule->points * rule->multiplier_bp;
	switch (rule->kind) {
	case RULE_PER_AMOUNT:
		points = points * net / ((wide)rule->per_minor * BASIS_POINTS);
		break;
	case RULE_PER_ORDER:
		points /= BASIS_POINTS;
		break;
	}
	if (rule->max_points_per_order >= 0 && points > rule->max_points_per_order)
		points = rule->max_points_per_order;
	return points > POINTS_MAX ? POINTS_MAX : (int64_t)points;
}

struct targets decision_targets(const struct facts *f, const struct pricing_pin *pin, const struct rule *rule)
{
	struct targets t = {0, 0};
	if (!decision_can_earn(f))
		return t;
	ENSURE(pin->outcome_at_us == f->outcome_at_us);
	ENSURE(slice_present(pin->rule_id) == (rule != NULL));
	if (rule && (pin->kinds & KIND_POINTS) && slice_present(f->customer_id))
		t.points = decision_points(rule, f->amount_minor, f->refunded_total_minor);
	if (pin->kinds & KIND_ORDER_CREDIT)
		t.order_credit_minor = net_minor(f->amount_minor, f->refunded_total_minor);
	return t;
}
