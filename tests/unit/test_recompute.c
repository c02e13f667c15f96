/*
 * worker/audit/recompute.c: the auditor and the worker's core, written apart, agree on generated lives of orders
 * (tests/lib/order_lives.h) with conflicts in them, on every rule version as a pin, and on points of any size. A
 * failure prints the seed of its life.
 */
#include "worker/audit/recompute.h"

#include "tests/lib/order_lives.c"

#include <check.h>
#include <inttypes.h>

enum { LIVES = 5000, POINTS = 40000 };

static bool same_text(struct slice a, struct slice b)
{
	return slice_present(a) == slice_present(b) && slice_equal(a, b);
}

static void check_same(const struct order_state *s, const struct facts *f, uint64_t seed)
{
	bool amount = f->amount_minor >= 0;
	bool same = s->progress == f->progress && order_state_outcome(s) == f->outcome &&
	            s->outcome.at_us == f->outcome_at_us && s->amount.at_us == f->amount_at_us &&
	            (!amount || s->amount.number == f->amount_minor) && amount == (s->amount.at_us != TIME_NONE) &&
	            s->refunded_total_minor == f->refunded_total_minor && s->driver.at_us == f->driver_at_us &&
	            same_text(s->driver.text, f->driver_id) && same_text(s->customer_id, f->customer_id) &&
	            same_text(s->partner_id, f->partner_id) && strcmp(s->currency, f->currency) == 0;
	ck_assert_msg(same, "auditor and core differ, DW_TEST_SEED=%" PRIu64, seed);
}

/* What is owed under a pin, by both; the core may only be asked about pins that it can have made. */
static int check_due(const struct order_state *s, const struct facts *f, const struct pricing_pin *pin,
                     const struct rules *rules, uint64_t seed)
{
	const struct order_terms terms = {pin->outcome_at_us, pin->rule_id, pin->rule_version, pin->kinds};
	struct order_due due;
	const char *fault = order_state_due(s, &terms, rules, &due);
	const struct rule *rule = NULL;
	bool can_price = true;
	if (slice_present(pin->rule_id))
		rule = rules_version(rules, pin->rule_id, pin->rule_version);
	if (decision_can_earn(f))
		can_price = !decision_needs_pin(f, pin) &&
		            (!slice_present(pin->rule_id) ||
		             (rule && rule_eligible(rule, f->partner_id, f->currency, f->outcome_at_us)));
	ck_assert_msg(can_price == !fault, "%s, DW_TEST_SEED=%" PRIu64, fault ? fault : "no fault", seed);
	struct targets wanted = {0, 0};
	if (can_price)
		wanted = decision_targets(f, pin, rule);
	ck_assert_msg(due.points == wanted.points && due.order_credit_minor == wanted.order_credit_minor,
	              "%" PRId64 " and %" PRId64 ", the core says %" PRId64 " and %" PRId64 ", DW_TEST_SEED=%" PRIu64,
	              due.points, due.order_credit_minor, wanted.points, wanted.order_credit_minor, seed);
	return can_price && (wanted.points || wanted.order_credit_minor);
}

/* Every version of the newest set as a pin, none, and one that does not exist. */
static int check_pins(const struct order_state *s, const struct facts *f, const struct terms *t, uint64_t seed)
{
	struct pricing_pin pin = {.outcome_at_us = f->outcome_at_us + (below(10) == 0), .kinds = (uint8_t)below(4)};
	int earned = check_due(s, f, &pin, t->set, seed);
	for (int i = 0; i < t->rule_count; i++) {
		pin.rule_id = t->rules[i].id;
		pin.rule_version = t->rules[i].version + (below(20) == 0 ? 100 : 0);
		earned += check_due(s, f, &pin, t->set, seed);
	}
	if (decision_can_earn(f)) {
		pin = decision_pin(f, t->set);
		earned += check_due(s, f, &pin, t->set, seed);
	}
	return earned;
}

/* One record in ten names another customer, partner or currency. */
static void disturb(struct event *e)
{
	switch (below(30)) {
	case 0:
		e->customer_id = SLICE_LITERAL("c2");
		break;
	case 1:
		e->partner_id = slice_of(PICK(partners));
		break;
	case 2:
		if (e->amount_minor >= 0)
			memcpy(e->currency, PICK(currencies), 4);
		break;
	default:
		break;
	}
}

START_TEST(test_recompute__agrees_with_the_core_on_any_life)
{
	int conflicts = 0, earned = 0;
	for (uint64_t n = 0; n < LIVES; n++) {
		uint64_t seed = state = base_seed() + n;
		struct terms sets[SETS];
		struct event life[FACTS_MAX];
		struct order_state s;
		struct facts f;
		draw_sets(sets);
		int count = draw_life(life);
		order_state_init(&s);
		facts_init(&f);
		for (int i = 0; i < count; i++) {
			disturb(&life[i]);
			bool conflict = facts_conflict(&f, &life[i]) != NULL;
			ck_assert_msg(order_state_contradicts(&s, &life[i]) == conflict,
			              "another conflict, DW_TEST_SEED=%" PRIu64, seed);
			conflicts += conflict;
			if (!conflict) {
				order_state_add(&s, &life[i]);
				facts_merge(&f, &life[i]);
			}
			check_same(&s, &f, seed);
			earned += check_pins(&s, &f, &sets[SETS - 1], seed);
		}
		release_sets(sets);
	}
	/* The generator reaches what the property is about. */
	ck_assert_int_gt(conflicts, LIVES / 20);
	ck_assert_int_gt(earned, LIVES);
}
END_TEST

static struct rules *set_of(const struct rule *rule)
{
	struct rules *rules = rules_new(1);
	rules_add(rules, rule);
	rules_seal(rules);
	return rules;
}

START_TEST(test_recompute__points_of_any_size_as_the_cores)
{
	for (uint64_t n = 0; n < POINTS; n++) {
		uint64_t seed = state = base_seed() + n;
		struct rule r = draw_rule("a", 1);
		r.points = (int64_t)(draw() >> (44 + below(20))) % 1000001;
		r.multiplier_bp = (int64_t)(draw() >> (44 + below(20))) % 1000001;
		r.per_minor = r.kind == RULE_PER_AMOUNT ? 1 + (int64_t)(draw() >> (34 + below(30))) % 1000000000 : 1;
		r.partner_id = (struct slice){0};
		r.currency[0] = '\0';
		r.valid_from_us = TIME_NONE;
		r.valid_to_us = INT64_MAX;
		struct event e = draw_event("p1", "BRL");
		e.status = STATUS_DELIVERED;
		e.partner_id = SLICE_LITERAL("p1");
		e.customer_id = SLICE_LITERAL("c1");
		e.amount_minor = (int64_t)(draw() >> (11 + below(53)));
		memcpy(e.currency, "BRL", 4);
		e.refunded_total_minor = below(2) ? 0 : (int64_t)(draw() >> (11 + below(53)));
		struct order_state s;
		struct facts f;
		order_state_init(&s);
		order_state_add(&s, &e);
		facts_init(&f);
		facts_merge(&f, &e);
		struct rules *rules = set_of(&r);
		struct pricing_pin pin = decision_pin(&f, rules);
		check_due(&s, &f, &pin, rules, seed);
		rules_unref(rules);
	}
}
END_TEST

static const struct {
	int64_t points, per_minor, multiplier_bp, amount, refunded, most, wanted;
} products[] = {
	{1, 100, 10000, 299, 0, -1, 2},
	{1, 100, 10000, 299, 200, -1, 0},
	{3, 7, 9999, 100, 0, -1, 42},
	{1, 1, 10000, EVENT_AMOUNT_MAX, 0, -1, EVENT_AMOUNT_MAX},
	{1000000, 1, 1000000, EVENT_AMOUNT_MAX, 0, -1, EVENT_AMOUNT_MAX},
	{1000000, 1000000000, 1000000, EVENT_AMOUNT_MAX, 0, -1, INT64_C(900719925474099)},
	{1000000, 1, 1000000, EVENT_AMOUNT_MAX, 0, 500, 500},
	{1000000, 1, 1000000, EVENT_AMOUNT_MAX, 0, 0, 0},
	{1000000, 1, 1000000, EVENT_AMOUNT_MAX, EVENT_AMOUNT_MAX, -1, 0},
	{1, 1, 9999, 1, 0, -1, 0},
};

START_TEST(test_recompute__points_in_numbers)
{
	struct rule r = {.id = SLICE_LITERAL("a"), .version = 1, .kind = RULE_PER_AMOUNT, .points = products[_i].points,
	                 .per_minor = products[_i].per_minor, .multiplier_bp = products[_i].multiplier_bp,
	                 .max_points_per_order = products[_i].most, .valid_from_us = TIME_NONE, .valid_to_us = INT64_MAX};
	struct rules *rules = set_of(&r);
	struct event e = {.order_id = SLICE_LITERAL("o"), .status = STATUS_DELIVERED, .timestamp_us = T0,
	                  .customer_id = SLICE_LITERAL("c"), .partner_id = SLICE_LITERAL("p"),
	                  .amount_minor = products[_i].amount, .currency = "BRL",
	                  .refunded_total_minor = products[_i].refunded};
	const struct order_terms terms = {T0, SLICE_LITERAL("a"), 1, KINDS_ALL};
	struct order_state s;
	struct order_due due;
	order_state_init(&s);
	order_state_add(&s, &e);
	ck_assert_ptr_null(order_state_due(&s, &terms, rules, &due));
	ck_assert_int_eq(due.points, products[_i].wanted);
	rules_unref(rules);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recompute");
	TCase *tc = tcase_create("recompute");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_recompute__agrees_with_the_core_on_any_life);
	tcase_add_test(tc, test_recompute__points_of_any_size_as_the_cores);
	tcase_add_loop_test(tc, test_recompute__points_in_numbers, 0, (int)(sizeof(products) / sizeof(products[0])));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
