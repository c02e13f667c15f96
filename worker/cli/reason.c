#include "worker/cli/reason.h"

#include "schemas/timestamp.h"

#include <inttypes.h>

const char *reason_kinds(uint8_t kinds)
{
	switch ((enum ledger_kinds)kinds) {
	case KINDS_ALL:
		return "points, order_credit";
	case KIND_POINTS:
		return "points";
	case KIND_ORDER_CREDIT:
		return "order_credit";
	case KINDS_NONE:
		return "neither";
	}
	return "kinds that this version does not know";
}

/* Returns: NULL when the order can earn. */
static const char *why_nothing(const struct facts *f)
{
	if (f->outcome == STATUS_NONE)
		return "it has no outcome yet";
	if (f->outcome != STATUS_DELIVERED)
		return "its outcome is not delivered";
	if (!slice_present(f->partner_id))
		return "its partner is not known";
	return f->amount_minor < 0 ? "its amount is not known" : NULL;
}

static int64_t net_minor(const struct facts *f)
{
	return f->amount_minor > f->refunded_total_minor ? f->amount_minor - f->refunded_total_minor : 0;
}

/* The net amount as the formula has it: the difference only where there is one. */
static void put_net(const struct facts *f, struct buf *out)
{
	if (f->refunded_total_minor == 0)
		buf_printf(out, "%" PRId64, f->amount_minor);
	else if (net_minor(f) == 0)
		buf_printf(out, "max(0, %" PRId64 " − %" PRId64 ")", f->amount_minor, f->refunded_total_minor);
	else
		buf_printf(out, "(%" PRId64 " − %" PRId64 ")", f->amount_minor, f->refunded_total_minor);
}

static void put_rule(const struct facts *f, const struct rule *rule, struct buf *out)
{
	char at[TIMESTAMP_TEXT_MAX];
	timestamp_format(f->outcome_at_us, at);
	buf_printf(out, ", rule %.*s v%" PRId32 " in force at %s", (int)rule->id.len, rule->id.data, rule->version, at);
}

static void put_product(const struct facts *f, const struct rule *rule, struct buf *out)
{
	switch (rule->kind) {
	case RULE_PER_ORDER:
		buf_printf(out, " = floor(%" PRId64 " × %" PRId64 " / 10000)", rule->points, rule->multiplier_bp);
		return;
	case RULE_PER_AMOUNT:
		buf_puts(out, " = floor(");
		put_net(f, out);
		buf_printf(out, " × %" PRId64 " × %" PRId64 " / (%" PRId64 " × 10000))", rule->points, rule->multiplier_bp,
		           rule->per_minor);
		return;
	}
	UNREACHABLE("a rule of no kind");
}

static void put_formula(const struct facts *f, const struct rule *rule, struct buf *out)
{
	if (net_minor(f) == 0) {
		buf_puts(out, ": nothing is left of the amount, ");
		put_net(f, out);
	} else if (f->amount_minor < rule->min_order_minor) {
		buf_printf(out, ": the amount %" PRId64 " is below the rule's minimum %" PRId64, f->amount_minor,
		           rule->min_order_minor);
	} else {
		put_product(f, rule, out);
	}
	if (rule->max_points_per_order >= 0)
		buf_printf(out, ", at most %" PRId64, rule->max_points_per_order);
}

void reason_points(const struct facts *f, const struct pricing_pin *pin, const struct rule *rule, struct buf *out)
{
	const char *nothing = why_nothing(f);
	if (!nothing && !slice_present(f->customer_id))
		nothing = "its customer is not known";
	if (!nothing && !(pin->kinds & KIND_POINTS))
		nothing = "its partner took no part in points";
	if (!nothing && !rule)
		nothing = "no rule was in force";
	if (nothing) {
		buf_printf(out, "points 0: %s", nothing);
		return;
	}
	buf_printf(out, "points %" PRId64, decision_points(rule, f->amount_minor, f->refunded_total_minor));
	put_formula(f, rule, out);
	put_rule(f, rule, out);
}

void reason_order_credit(const struct facts *f, const struct pricing_pin *pin, struct buf *out)
{
	const char *nothing = why_nothing(f);
	if (!nothing && !(pin->kinds & KIND_ORDER_CREDIT))
		nothing = "its partner took no part in order credits";
	if (nothing)
		buf_printf(out, "order_credit 0: %s", nothing);
	else
		buf_printf(out, "order_credit %" PRId64 " %s = max(0, %" PRId64 " − %" PRId64 ")", net_minor(f), f->currency,
		           f->amount_minor, f->refunded_total_minor);
}
