#include "worker/audit/recompute.h"

static const struct claim nothing = {.at_us = TIME_NONE};

void order_state_init(struct order_state *s)
{
	*s = (struct order_state){.progress = STATUS_NONE, .outcome = nothing, .amount = nothing, .driver = nothing};
}

static int compare(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static bool beats(const struct claim *a, const struct claim *b)
{
	int order = compare(a->at_us, b->at_us);
	if (order == 0)
		order = compare(a->number, b->number);
	if (order == 0)
		order = slice_compare(a->text, b->text);
	return order > 0;
}

static void put_claim(struct claim *kept, struct claim offered)
{
	if (beats(&offered, kept))
		*kept = offered;
}

static bool both_and_unequal(struct slice a, struct slice b)
{
	return slice_present(a) && slice_present(b) && !slice_equal(a, b);
}

/* Absent for "". */
static struct slice code_slice(const char code[4])
{
	return code[0] ? slice_of(code) : (struct slice){0};
}

bool order_state_contradicts(const struct order_state *s, const struct event *e)
{
	return both_and_unequal(s->customer_id, e->customer_id) || both_and_unequal(s->partner_id, e->partner_id) ||
	       both_and_unequal(code_slice(s->currency), code_slice(e->currency));
}

void order_state_add(struct order_state *s, const struct event *e)
{
	if (slice_present(e->customer_id))
		s->customer_id = e->customer_id;
	if (slice_present(e->partner_id))
		s->partner_id = e->partner_id;
	if (e->amount_minor >= 0) {
		put_claim(&s->amount, (struct claim){.at_us = e->timestamp_us, .number = e->amount_minor});
		memcpy(s->currency, e->currency, sizeof(s->currency));
	}
	if (slice_present(e->driver_id))
		put_claim(&s->driver, (struct claim){.at_us = e->timestamp_us, .text = e->driver_id});
	if (status_is_decisive(e->status))
		put_claim(&s->outcome, (struct claim){.at_us = e->timestamp_us, .number = e->status});
	if (compare(e->status, s->progress) > 0)
		s->progress = e->status;
	if (compare(e->refunded_total_minor, s->refunded_total_minor) > 0)
		s->refunded_total_minor = e->refunded_total_minor;
}

enum event_status order_state_outcome(const struct order_state *s)
{
	return s->outcome.at_us == TIME_NONE ? STATUS_NONE : (enum event_status)s->outcome.number;
}

static bool may_price(const struct rule *rule, const struct order_state *s)
{
	if (slice_present(rule->partner_id) && !slice_equal(rule->partner_id, s->partner_id))
		return false;
	if (rule->currency[0] && strcmp(rule->currency, s->currency) != 0)
		return false;
	if (rule->valid_from_us != TIME_NONE && s->outcome.at_us < rule->valid_from_us)
		return false;
	return rule->valid_to_us == INT64_MAX || s->outcome.at_us < rule->valid_to_us;
}

/*
 * floor(a × b / divisor), or `most` where that is less. A bit of b at a time, from the highest: quotient and rest
 * are doubled, and those of a added. All of it stays below 2^63: a and `most` are below 2^54, the divisor below 2^44.
 */
static int64_t product_over(int64_t a, int64_t b, int64_t divisor, int64_t most)
{
	int64_t quotient = 0, rest = 0;
	for (int bit = 62; bit >= 0; bit--) {
		quotient *= 2;
		rest *= 2;
		if (b >> bit & 1) {
			quotient += a / divisor;
			rest += a % divisor;
		}
		quotient += rest / divisor;
		rest %= divisor;
		/* It never falls again. */
		if (quotient > most)
			return most;
	}
	return quotient;
}

static int64_t points_due(const struct rule *rule, int64_t amount_minor, int64_t left_minor)
{
	int64_t most = EVENT_AMOUNT_MAX;
	if (rule->max_points_per_order >= 0 && rule->max_points_per_order < most)
		most = rule->max_points_per_order;
	if (left_minor <= 0 || amount_minor < rule->min_order_minor)
		return 0;
	switch (rule->kind) {
	case RULE_PER_ORDER:
		return product_over(rule->points, rule->multiplier_bp, 10000, most);
	case RULE_PER_AMOUNT:
		return product_over(left_minor, rule->points * rule->multiplier_bp, rule->per_minor * 10000, most);
	}
	UNREACHABLE("a rule of no kind");
}

const char *order_state_due(const struct order_state *s, const struct order_terms *terms, const struct rules *rules,
                            struct order_due *due)
{
	*due = (struct order_due){0, 0};
	if (order_state_outcome(s) != STATUS_DELIVERED || !slice_present(s->partner_id) || s->amount.at_us == TIME_NONE)
		return NULL;
	if (terms->outcome_at_us != s->outcome.at_us)
		return "it can earn, and no terms are pinned for its outcome";
	const struct rule *rule = NULL;
	if (slice_present(terms->rule_id)) {
		rule = rules_version(rules, terms->rule_id, terms->rule_version);
		if (!rule)
			return "the rule version that is pinned does not exist";
		if (!may_price(rule, s))
			return "the rule version that is pinned was not eligible";
	}
	int64_t left_minor = s->amount.number - s->refunded_total_minor;
	if (rule && (terms->kinds & KIND_POINTS) && slice_present(s->customer_id))
		due->points = points_due(rule, s->amount.number, left_minor);
	if ((terms->kinds & KIND_ORDER_CREDIT) && left_minor > 0)
		due->order_credit_minor = left_minor;
	return NULL;
}
