#include "tests/lib/order_oracle.h"

/* Whether fact b stands behind fact a: (timestamp, second) pairs. */
static bool pair_less(int64_t a_at, int64_t a_second, int64_t b_at, int64_t b_second)
{
	return a_at != b_at ? a_at < b_at : a_second < b_second;
}

static const struct event *oracle_outcome(const struct event *facts, int count)
{
	for (int i = 0; i < count; i++) {
		bool best = facts[i].status >= 80;
		for (int k = 0; k < count; k++)
			best &= !(facts[k].status >= 80 && pair_less(facts[i].timestamp_us, facts[i].status,
			                                             facts[k].timestamp_us, facts[k].status));
		if (best)
			return &facts[i];
	}
	return NULL;
}

static const struct event *oracle_amount(const struct event *facts, int count)
{
	for (int i = 0; i < count; i++) {
		bool best = facts[i].amount_minor >= 0;
		for (int k = 0; k < count; k++)
			best &= !(facts[k].amount_minor >= 0 &&
				  pair_less(facts[i].timestamp_us, facts[i].amount_minor, facts[k].timestamp_us,
					    facts[k].amount_minor));
		if (best)
			return &facts[i];
	}
	return NULL;
}

static const struct event *oracle_driver(const struct event *facts, int count)
{
	for (int i = 0; i < count; i++) {
		bool best = facts[i].driver_id.data != NULL;
		for (int k = 0; best && k < count; k++) {
			if (!facts[k].driver_id.data)
				continue;
			int order = strcmp(facts[i].driver_id.data, facts[k].driver_id.data);
			best = !pair_less(facts[i].timestamp_us, order, facts[k].timestamp_us, 0);
		}
		if (best)
			return &facts[i];
	}
	return NULL;
}

static int64_t oracle_refunded(const struct event *facts, int count)
{
	for (int i = 0; i < count; i++) {
		bool best = true;
		for (int k = 0; k < count; k++)
			best &= facts[k].refunded_total_minor <= facts[i].refunded_total_minor;
		if (best)
			return facts[i].refunded_total_minor;
	}
	return 0;
}

static struct slice oracle_partner(const struct event *facts, int count)
{
	struct slice found = {0};
	for (int i = count - 1; i >= 0; i--)
		found = facts[i].partner_id.data ? facts[i].partner_id : found;
	return found;
}

static struct slice oracle_customer(const struct event *facts, int count)
{
	struct slice found = {0};
	for (int i = count - 1; i >= 0; i--)
		found = facts[i].customer_id.data ? facts[i].customer_id : found;
	return found;
}

struct facts oracle_facts(const struct event *facts, int count)
{
	const struct event *outcome = oracle_outcome(facts, count), *amount = oracle_amount(facts, count);
	const struct event *driver = oracle_driver(facts, count);
	struct facts f = {
		.partner_id = oracle_partner(facts, count),
		.customer_id = oracle_customer(facts, count),
		.progress = STATUS_NONE,
		.outcome = outcome ? outcome->status : STATUS_NONE,
		.outcome_at_us = outcome ? outcome->timestamp_us : TIME_NONE,
		.amount_minor = amount ? amount->amount_minor : -1,
		.amount_at_us = amount ? amount->timestamp_us : TIME_NONE,
		.refunded_total_minor = oracle_refunded(facts, count),
		.driver_id = driver ? driver->driver_id : (struct slice){0},
		.driver_at_us = driver ? driver->timestamp_us : TIME_NONE,
	};
	if (amount)
		memcpy(f.currency, amount->currency, sizeof(f.currency));
	for (int i = 0; i < count; i++)
		f.progress = facts[i].status > f.progress ? facts[i].status : f.progress;
	return f;
}

/* Natural numbers in 8 digits of 16 bits, least first. */
struct natural {
	uint32_t digits[8];
};

static struct natural natural_times(struct natural n, uint64_t factor)
{
	struct natural product = {{0}};
	for (int shift = 0; shift < 4; shift++) {
		uint32_t digit = (uint32_t)(factor >> (16 * shift) & 0xffff), carry = 0;
		for (int i = 0; i + shift < 8; i++) {
			uint32_t sum = product.digits[i + shift] + n.digits[i] * digit + carry;
			product.digits[i + shift] = sum & 0xffff;
			carry = sum >> 16;
		}
		ENSURE(carry == 0);
	}
	return product;
}

/* Long division, a bit at a time. */
static struct natural natural_over(struct natural n, uint64_t divisor)
{
	struct natural quotient = {{0}};
	uint64_t rest = 0;
	for (int bit = 127; bit >= 0; bit--) {
		rest = rest << 1 | (n.digits[bit / 16] >> bit % 16 & 1);
		if (rest >= divisor) {
			rest -= divisor;
			quotient.digits[bit / 16] |= UINT32_C(1) << bit % 16;
		}
	}
	return quotient;
}

static int64_t natural_capped(struct natural n, int64_t cap)
{
	uint64_t low = 0;
	for (int i = 3; i >= 0; i--)
		low = low << 16 | n.digits[i];
	for (int i = 4; i < 8; i++) {
		if (n.digits[i])
			return cap;
	}
	return low > (uint64_t)cap ? cap : (int64_t)low;
}

int64_t oracle_points(const struct rule *r, int64_t amount, int64_t refunded)
{
	if (amount < r->min_order_minor || refunded >= amount)
		return 0;
	struct natural n = {{1}};
	n = natural_times(n, (uint64_t)r->multiplier_bp);
	n = natural_times(n, (uint64_t)r->points);
	uint64_t divisor = 10000;
	if (r->kind == RULE_PER_AMOUNT) {
		n = natural_times(n, (uint64_t)(amount - refunded));
		divisor *= (uint64_t)r->per_minor;
	}
	int64_t cap = EVENT_AMOUNT_MAX;
	if (r->max_points_per_order >= 0 && r->max_points_per_order < cap)
		cap = r->max_points_per_order;
	return natural_capped(natural_over(n, divisor), cap);
}

static bool oracle_competes(const struct terms *t, int i, struct slice partner, const char *currency, int64_t at)
{
	const struct rule *r = &t->rules[i];
	for (int k = 0; k < t->rule_count; k++) {
		if (strcmp(t->rules[k].id.data, r->id.data) == 0 && t->rules[k].version > r->version)
			return false;
	}
	if (r->partner_id.data && strcmp(r->partner_id.data, partner.data) != 0)
		return false;
	if (r->currency[0] && strcmp(r->currency, currency) != 0)
		return false;
	if (r->valid_from_us != TIME_NONE && at < r->valid_from_us)
		return false;
	return r->valid_to_us == INT64_MAX || at < r->valid_to_us;
}

static bool oracle_beats(const struct rule *a, const struct rule *b)
{
	if ((a->partner_id.data != NULL) != (b->partner_id.data != NULL))
		return a->partner_id.data != NULL;
	if (a->valid_from_us != b->valid_from_us) {
		if (a->valid_from_us == TIME_NONE || b->valid_from_us == TIME_NONE)
			return b->valid_from_us == TIME_NONE;
		return a->valid_from_us > b->valid_from_us;
	}
	return strcmp(a->id.data, b->id.data) < 0;
}

const struct rule *oracle_in_force(const struct terms *t, struct slice partner, const char *currency, int64_t at)
{
	for (int i = 0; i < t->rule_count; i++) {
		bool best = oracle_competes(t, i, partner, currency, at);
		for (int k = 0; best && k < t->rule_count; k++)
			best = !(oracle_competes(t, k, partner, currency, at) &&
				 oracle_beats(&t->rules[k], &t->rules[i]));
		if (best)
			return &t->rules[i];
	}
	return NULL;
}

static uint8_t oracle_kinds(const struct terms *t, struct slice partner)
{
	for (int p = 0; p < ORACLE_PARTNERS; p++) {
		if (strcmp(t->partners[p].partner_id.data, partner.data) == 0)
			return t->partners[p].kinds;
	}
	return 1 | 2;
}

static bool oracle_can_earn(const struct event *facts, int count)
{
	const struct event *outcome = oracle_outcome(facts, count);
	return outcome && outcome->status == STATUS_DELIVERED && oracle_partner(facts, count).data &&
	       oracle_amount(facts, count);
}

struct targets oracle_targets(const struct event *facts, int count, const struct terms *const *at)
{
	struct targets t = {0, 0};
	if (!oracle_can_earn(facts, count))
		return t;
	const struct event *outcome = oracle_outcome(facts, count);
	int first = 1;
	while (!oracle_can_earn(facts, first) || oracle_outcome(facts, first)->timestamp_us != outcome->timestamp_us)
		first++;
	const struct terms *terms = at[first - 1];
	struct slice partner = oracle_partner(facts, count);
	const struct event *amount = oracle_amount(facts, count);
	int64_t refunded = oracle_refunded(facts, count);
	const struct rule *rule = oracle_in_force(terms, partner, amount->currency, outcome->timestamp_us);
	uint8_t kinds = oracle_kinds(terms, partner);
	if (rule && (kinds & 1) && oracle_customer(facts, count).data)
		t.points = oracle_points(rule, amount->amount_minor, refunded);
	if ((kinds & 2) && amount->amount_minor > refunded)
		t.order_credit_minor = amount->amount_minor - refunded;
	return t;
}
