#include "worker/ledger/decision.h"

#include <check.h>

#define T0 INT64_C(1700000000000000)
#define MAX EVENT_AMOUNT_MAX

/* One rule: kind, points, per_minor, multiplier_bp, min_order_minor, max_points_per_order. */
static const struct {
	const char *what;
	enum rule_kind kind;
	int64_t points, per_minor, multiplier_bp, min_order, max_points;
	int64_t amount, refunded;
	int64_t expected;
} points_rows[] = {
	{"one per 100", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 7289, 0, 72},
	{"just below", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 99, 0, 0},
	{"at", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 100, 0, 1},
	{"above", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 101, 0, 1},
	{"below the next", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 199, 0, 1},
	{"amount 0", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 0, 0, 0},
	{"amount 1 per 1", RULE_PER_AMOUNT, 1, 1, 10000, 0, -1, 1, 0, 1},
	{"points 0", RULE_PER_AMOUNT, 0, 1, 10000, 0, -1, 500, 0, 0},
	{"1.5 times", RULE_PER_AMOUNT, 3, 100, 15000, 0, -1, 150, 0, 6},
	/* 1.5 x 2: a floor before the multiplier would make it 2. */
	{"one floor only", RULE_PER_AMOUNT, 1, 100, 20000, 0, -1, 150, 0, 3},
	{"a hundredth percent", RULE_PER_AMOUNT, 1, 1, 1, 0, -1, 9999, 0, 0},
	{"a hundredth percent, at", RULE_PER_AMOUNT, 1, 1, 1, 0, -1, 10000, 0, 1},
	{"multiplier 0", RULE_PER_AMOUNT, 10, 1, 0, 0, -1, 500, 0, 0},
	{"refunded in part", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 1000, 1, 9},
	{"refunded in full", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 1000, 1000, 0},
	{"refunded beyond", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 1000, 1001, 0},
	{"refund without amount", RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, 0, MAX, 0},
	{"below minimum", RULE_PER_AMOUNT, 1, 100, 10000, 1000, -1, 999, 0, 0},
	{"at minimum", RULE_PER_AMOUNT, 1, 100, 10000, 1000, -1, 1000, 0, 10},
	{"minimum looks at the amount, not net", RULE_PER_AMOUNT, 1, 100, 10000, 1000, -1, 1000, 900, 1},
	{"above maximum", RULE_PER_AMOUNT, 1, 100, 10000, 0, 5, 600, 0, 5},
	{"at maximum", RULE_PER_AMOUNT, 1, 100, 10000, 0, 6, 600, 0, 6},
	{"maximum 0", RULE_PER_AMOUNT, 1, 100, 10000, 0, 0, 600, 0, 0},
	{"largest amount as it is", RULE_PER_AMOUNT, 1, 1, 10000, 0, -1, MAX, 0, MAX},
	{"capped at 2^53-1", RULE_PER_AMOUNT, 1, 1, 10001, 0, -1, MAX, 0, MAX},
	{"every factor at its bound", RULE_PER_AMOUNT, 1000000, 1, 1000000, 0, -1, MAX, 0, MAX},
	{"the same over the largest divisor", RULE_PER_AMOUNT, 1000000, 1000000000, 1000000, 0, -1, MAX, 0,
	 INT64_C(900719925474099)},
	{"bounds under a maximum", RULE_PER_AMOUNT, 1000000, 1, 1000000, 0, MAX - 1, MAX, 0, MAX - 1},
	/* 2^64 + something after the product: 64-bit arithmetic would wrap. */
	{"beyond 64 bits", RULE_PER_AMOUNT, 1000000, 1000000000, 10000, 0, -1, INT64_C(18446744073710), 0,
	 INT64_C(18446744073)},
	{"per order", RULE_PER_ORDER, 50, 1, 10000, 0, -1, 1, 0, 50},
	{"per order does not look at the amount", RULE_PER_ORDER, 50, 1, 10000, 0, -1, MAX, 0, 50},
	{"per order, floor", RULE_PER_ORDER, 3, 1, 15000, 0, -1, 1000, 0, 4},
	{"per order, below one", RULE_PER_ORDER, 1, 1, 9999, 0, -1, 1000, 0, 0},
	{"per order, largest", RULE_PER_ORDER, 1000000, 1, 1000000, 0, -1, 1, 0, 100000000},
	{"per order, partly refunded", RULE_PER_ORDER, 50, 1, 10000, 0, -1, 1000, 999, 50},
	{"per order, refunded in full", RULE_PER_ORDER, 50, 1, 10000, 0, -1, 1000, 1000, 0},
	{"per order, amount 0", RULE_PER_ORDER, 50, 1, 10000, 0, -1, 0, 0, 0},
	{"per order, below minimum", RULE_PER_ORDER, 50, 1, 10000, 1000, -1, 999, 0, 0},
	{"per order, maximum", RULE_PER_ORDER, 50, 1, 10000, 0, 49, 1000, 0, 49},
};

START_TEST(test_decision__points_table)
{
	struct rule rule = {
		.kind = points_rows[_i].kind,
		.points = points_rows[_i].points,
		.per_minor = points_rows[_i].per_minor,
		.multiplier_bp = points_rows[_i].multiplier_bp,
		.min_order_minor = points_rows[_i].min_order,
		.max_points_per_order = points_rows[_i].max_points,
	};
	int64_t points = decision_points(&rule, points_rows[_i].amount, points_rows[_i].refunded);
	ck_assert_msg(points == points_rows[_i].expected, "%s: %lld", points_rows[_i].what, (long long)points);
}
END_TEST

static struct facts delivered_facts(void)
{
	struct facts f;
	facts_init(&f);
	f.customer_id = SLICE_LITERAL("c1");
	f.partner_id = SLICE_LITERAL("p1");
	memcpy(f.currency, "BRL", 4);
	f.progress = f.outcome = STATUS_DELIVERED;
	f.outcome_at_us = T0;
	f.amount_minor = 1000;
	f.amount_at_us = T0;
	f.refunded_total_minor = 300;
	return f;
}

static const struct rule base = {
	.id = SLICE_LITERAL("base"),
	.version = 1,
	.kind = RULE_PER_AMOUNT,
	.points = 1,
	.per_minor = 100,
	.multiplier_bp = 10000,
	.max_points_per_order = -1,
	.valid_from_us = TIME_NONE,
	.valid_to_us = INT64_MAX,
};

enum change { NOTHING, NO_CUSTOMER, NO_PARTNER, NO_AMOUNT, FAILED, CANCELLED, RETURNED, NO_OUTCOME, AMOUNT_0 };

static const struct {
	enum change change;
	uint8_t kinds;
	bool ruled;
	bool can_earn;
	int64_t points, credit;
} target_rows[] = {
	{NOTHING, KINDS_ALL, true, true, 7, 700},
	{NOTHING, KIND_POINTS, true, true, 7, 0},
	{NOTHING, KIND_ORDER_CREDIT, true, true, 0, 700},
	{NOTHING, 0, true, true, 0, 0},
	{NOTHING, KINDS_ALL, false, true, 0, 700}, /* no rule, no points */
	{NO_CUSTOMER, KINDS_ALL, true, true, 0, 700},
	{NO_PARTNER, KINDS_ALL, true, false, 0, 0},
	{NO_AMOUNT, KINDS_ALL, true, false, 0, 0},
	{AMOUNT_0, KINDS_ALL, true, true, 0, 0},
	{FAILED, KINDS_ALL, true, false, 0, 0},
	{CANCELLED, KINDS_ALL, true, false, 0, 0},
	{RETURNED, KINDS_ALL, true, false, 0, 0},
	{NO_OUTCOME, KINDS_ALL, true, false, 0, 0},
};

START_TEST(test_decision__targets_table)
{
	struct facts f = delivered_facts();
	switch (target_rows[_i].change) {
	case NOTHING: break;
	case NO_CUSTOMER: f.customer_id = (struct slice){0}; break;
	case NO_PARTNER: f.partner_id = (struct slice){0}; break;
	case NO_AMOUNT: f.amount_minor = -1; break;
	case AMOUNT_0: f.amount_minor = 0; break;
	case FAILED: f.outcome = STATUS_FAILED; break;
	case CANCELLED: f.outcome = STATUS_CANCELLED; break;
	case RETURNED: f.outcome = STATUS_RETURNED; break;
	case NO_OUTCOME: f.outcome = STATUS_NONE; break;
	}
	struct pricing_pin pin = {.outcome_at_us = T0, .kinds = target_rows[_i].kinds};
	if (target_rows[_i].ruled) {
		pin.rule_id = base.id;
		pin.rule_version = base.version;
	}
	struct targets t = decision_targets(&f, &pin, target_rows[_i].ruled ? &base : NULL);
	ck_assert_int_eq(decision_can_earn(&f), target_rows[_i].can_earn);
	ck_assert_int_eq(t.points, target_rows[_i].points);
	ck_assert_int_eq(t.order_credit_minor, target_rows[_i].credit);
}
END_TEST

START_TEST(test_decision__pin_is_needed_once_an_outcome)
{
	struct facts f = delivered_facts();
	struct pricing_pin pin = {.outcome_at_us = TIME_NONE};
	ck_assert(decision_needs_pin(&f, &pin));
	pin.outcome_at_us = T0;
	ck_assert(!decision_needs_pin(&f, &pin));
	f.outcome_at_us = T0 + 1;
	ck_assert(decision_needs_pin(&f, &pin));
	f.outcome = STATUS_CANCELLED;
	ck_assert(!decision_needs_pin(&f, &pin));
	f = delivered_facts();
	f.amount_minor = -1;
	pin.outcome_at_us = TIME_NONE;
	ck_assert(!decision_needs_pin(&f, &pin));
}
END_TEST

START_TEST(test_decision__pin_records_rule_version_and_kinds)
{
	struct facts f = delivered_facts();
	struct rules *rules = rules_new(1);
	rules_add(rules, &base);
	struct rule second = base;
	second.version = 2;
	second.valid_from_us = T0;
	rules_add(rules, &second);
	rules_add_partner(rules, &(struct partner_settings){
		.partner_id = SLICE_LITERAL("p1"), .kinds = KIND_POINTS, .per_second = -1, .burst = -1});
	rules_seal(rules);

	struct pricing_pin pin = decision_pin(&f, rules);
	ck_assert_int_eq(pin.outcome_at_us, T0);
	ck_assert(slice_equal(pin.rule_id, base.id));
	ck_assert_int_eq(pin.rule_version, 2);
	ck_assert_int_eq(pin.kinds, KIND_POINTS);

	/* The rule is the one in force at the outcome's time; its newest version was not yet. */
	f.outcome_at_us = T0 - 1;
	f.partner_id = SLICE_LITERAL("p2");
	pin = decision_pin(&f, rules);
	ck_assert(!slice_present(pin.rule_id));
	ck_assert_int_eq(pin.kinds, KINDS_ALL);
	rules_unref(rules);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("decision");
	TCase *tc = tcase_create("decision");
	tcase_add_loop_test(tc, test_decision__points_table, 0, ROWS(points_rows));
	tcase_add_loop_test(tc, test_decision__targets_table, 0, ROWS(target_rows));
	tcase_add_test(tc, test_decision__pin_is_needed_once_an_outcome);
	tcase_add_test(tc, test_decision__pin_records_rule_version_and_kinds);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
