/* worker/cli/reason.c: every reason that an order can have, and that the number in it is the decision's. */
#include "worker/cli/reason.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>

struct scene {
	struct facts facts;
	struct pricing_pin pin;
	struct rule rule;
};

static void nothing(struct scene *s)
{
	(void)s;
}

static void under_way(struct scene *s)
{
	s->facts.outcome = STATUS_NONE;
	s->facts.outcome_at_us = TIME_NONE;
}

static void cancelled(struct scene *s)
{
	s->facts.outcome = STATUS_CANCELLED;
}

static void no_partner(struct scene *s)
{
	s->facts.partner_id = (struct slice){0};
}

static void no_amount(struct scene *s)
{
	s->facts.amount_minor = -1;
}

static void no_customer(struct scene *s)
{
	s->facts.customer_id = (struct slice){0};
}

static void credit_only(struct scene *s)
{
	s->pin.kinds = KIND_ORDER_CREDIT;
}

static void points_only(struct scene *s)
{
	s->pin.kinds = KIND_POINTS;
}

static void no_rule(struct scene *s)
{
	s->pin.rule_id = (struct slice){0};
}

static void refunded(struct scene *s)
{
	s->facts.refunded_total_minor = 289;
}

static void all_refunded(struct scene *s)
{
	s->facts.refunded_total_minor = 8000;
}

static void below_minimum(struct scene *s)
{
	s->rule.min_order_minor = 10000;
}

static void capped(struct scene *s)
{
	s->rule.max_points_per_order = 50;
}

static void per_order(struct scene *s)
{
	s->rule.kind = RULE_PER_ORDER;
	s->rule.points = 50;
	s->rule.multiplier_bp = 15000;
}

#define BASE ", rule base v1 in force at 2017-07-14T02:40:00Z"

static const struct {
	void (*change)(struct scene *s);
	const char *points, *credit;
} scenes[] = {
	{nothing, "points 72 = floor(7289 × 1 × 10000 / (100 × 10000))" BASE, "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{refunded, "points 70 = floor((7289 − 289) × 1 × 10000 / (100 × 10000))" BASE, "order_credit 7000 BRL = max(0, 7289 − 289)"},
	{all_refunded, "points 0: nothing is left of the amount, max(0, 7289 − 8000)" BASE, "order_credit 0 BRL = max(0, 7289 − 8000)"},
	{below_minimum, "points 0: the amount 7289 is below the rule's minimum 10000" BASE, "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{capped, "points 50 = floor(7289 × 1 × 10000 / (100 × 10000)), at most 50" BASE, "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{per_order, "points 75 = floor(50 × 15000 / 10000)" BASE, "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{no_rule, "points 0: no rule was in force", "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{no_customer, "points 0: its customer is not known", "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{credit_only, "points 0: its partner took no part in points", "order_credit 7289 BRL = max(0, 7289 − 0)"},
	{points_only, "points 72 = floor(7289 × 1 × 10000 / (100 × 10000))" BASE, "order_credit 0: its partner took no part in order credits"},
	{under_way, "points 0: it has no outcome yet", "order_credit 0: it has no outcome yet"},
	{cancelled, "points 0: its outcome is not delivered", "order_credit 0: its outcome is not delivered"},
	{no_partner, "points 0: its partner is not known", "order_credit 0: its partner is not known"},
	{no_amount, "points 0: its amount is not known", "order_credit 0: its amount is not known"},
};

START_TEST(test_reason__says_what_the_decision_did)
{
	const int64_t at_us = INT64_C(1500000000000000);
	struct scene s = {
		.pin = {.outcome_at_us = at_us, .rule_id = SLICE_LITERAL("base"), .rule_version = 1, .kinds = KINDS_ALL},
		.rule = {.id = SLICE_LITERAL("base"), .version = 1, .kind = RULE_PER_AMOUNT, .points = 1, .per_minor = 100,
		         .multiplier_bp = 10000, .max_points_per_order = -1, .valid_from_us = TIME_NONE, .valid_to_us = INT64_MAX},
	};
	facts_init(&s.facts);
	s.facts.progress = s.facts.outcome = STATUS_DELIVERED;
	s.facts.outcome_at_us = at_us;
	s.facts.customer_id = SLICE_LITERAL("c1");
	s.facts.partner_id = SLICE_LITERAL("p1");
	s.facts.amount_minor = 7289;
	memcpy(s.facts.currency, "BRL", 4);
	scenes[_i].change(&s);
	const struct rule *rule = slice_present(s.pin.rule_id) ? &s.rule : NULL;

	struct buf text = BUF_INIT;
	struct targets targets = decision_targets(&s.facts, &s.pin, rule);
	char start[64];
	reason_points(&s.facts, &s.pin, rule, &text);
	ck_assert_str_eq(text.data, scenes[_i].points);
	snprintf(start, sizeof(start), "points %" PRId64, targets.points);
	ck_assert_msg(strncmp(text.data, start, strlen(start)) == 0, "%s, not %s", start, text.data);
	buf_clear(&text);
	reason_order_credit(&s.facts, &s.pin, &text);
	ck_assert_str_eq(text.data, scenes[_i].credit);
	snprintf(start, sizeof(start), "order_credit %" PRId64, targets.order_credit_minor);
	ck_assert_msg(strncmp(text.data, start, strlen(start)) == 0, "%s, not %s", start, text.data);
	buf_release(&text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reason");
	TCase *c = tcase_create("reason");
	tcase_add_loop_test(c, test_reason__says_what_the_decision_did, 0, (int)(sizeof(scenes) / sizeof(scenes[0])));
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed == 0 && ran > 0 ? 0 : 1;
}
