/*
 * Generated lives of orders (tests/lib/order_lives.h), decided by the worker's code and by the oracle
 * (tests/lib/order_oracle.h). A failure prints the seed of its life.
 */
#include "worker/ledger/posting.h"

#include "tests/lib/facts_equal.h"
#include "tests/lib/order_lives.c"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the properties ---- */

static void check_facts(const struct facts *f, const struct event *facts, int count, uint64_t seed)
{
	struct facts wanted = oracle_facts(facts, count);
	ck_assert_msg(facts_equal(f, &wanted), "facts differ from the oracle's, DW_TEST_SEED=%" PRIu64, seed);
}

enum { LIVES_PERMUTED = 100, LIVES_BATCHED = 5000, RULE_SETS = 2500, POINTS = 40000 };

static struct facts facts_of(const struct event *events, const int *order, int count)
{
	struct facts f;
	facts_init(&f);
	for (int i = 0; i < count; i++) {
		facts_merge(&f, &events[order[i]]);
		/* Repeats of anything seen so far, the same one at once and an older one: nothing changes. */
		ck_assert(!facts_merge(&f, &events[order[i]]));
		ck_assert(!facts_merge(&f, &events[order[i / 2]]));
	}
	return f;
}

/* Calls itself for each choice of position `at`; compares all leaves with the first. */
static void permute(const struct event *life, int count, int at, int order[FACTS_MAX], const struct facts *wanted,
                    uint64_t seed)
{
	if (at == count) {
		struct facts f = facts_of(life, order, count);
		ck_assert_msg(facts_equal(&f, wanted), "order of arrival matters, DW_TEST_SEED=%" PRIu64, seed);
		return;
	}
	for (int i = at; i < count; i++) {
		int swap = order[at];
		order[at] = order[i], order[i] = swap;
		permute(life, count, at + 1, order, wanted, seed);
		order[i] = order[at], order[at] = swap;
	}
}

START_TEST(test_decision_property__any_order_and_repetition_same_facts)
{
	for (uint64_t n = 0; n < LIVES_PERMUTED; n++) {
		uint64_t seed = state = base_seed() + n;
		struct event life[FACTS_MAX];
		int count = draw_life(life);
		int order[FACTS_MAX] = {0, 1, 2, 3, 4, 5};
		struct facts wanted = facts_of(life, order, count);
		check_facts(&wanted, life, count, seed);
		permute(life, count, 0, order, &wanted, seed);
	}
}
END_TEST

START_TEST(test_decision_property__one_rule_in_force_as_by_pairwise_choice)
{
	for (uint64_t n = 0; n < RULE_SETS; n++) {
		uint64_t seed = state = base_seed() + n;
		struct terms sets[SETS];
		draw_sets(sets);
		const struct terms *t = &sets[SETS - 1];
		for (int i = 0; i < 12; i++) {
			struct slice partner = slice_of(PICK(partners));
			const char *currency = PICK(currencies);
			int64_t at = PICK(times);
			const struct rule *got = rules_in_force(t->set, partner, currency, at);
			const struct rule *want = oracle_in_force(t, partner, currency, at);
			ck_assert_msg(!got == !want && (!got || (slice_equal(got->id, want->id) &&
								 got->version == want->version)),
				      "another rule in force, DW_TEST_SEED=%" PRIu64, seed);
		}
		release_sets(sets);
	}
}
END_TEST

START_TEST(test_decision_property__points_as_by_long_division)
{
	for (uint64_t n = 0; n < POINTS; n++) {
		uint64_t seed = state = base_seed() + n;
		struct rule r = draw_rule("a", 1);
		/* Beyond the alphabet: any size of number, each power of two as likely. */
		r.points = (int64_t)(draw() >> (44 + below(20))) % 1000001;
		r.multiplier_bp = (int64_t)(draw() >> (44 + below(20))) % 1000001;
		r.per_minor = r.kind == RULE_PER_AMOUNT ? 1 + (int64_t)(draw() >> (34 + below(30))) % 1000000000 : 1;
		int64_t amount = (int64_t)(draw() >> (11 + below(53)));
		int64_t refunded = below(2) ? 0 : (int64_t)(draw() >> (11 + below(53)));
		int64_t got = decision_points(&r, amount, refunded), want = oracle_points(&r, amount, refunded);
		ck_assert_msg(got == want, "%" PRId64 " points, not %" PRId64 ", DW_TEST_SEED=%" PRIu64, got, want,
			      seed);
	}
}
END_TEST

/* A row of the orders table and what was posted for it. */
struct ledger {
	struct order row;
	int64_t sums[3];
	int32_t postings[3];
	int repins; /* a second pin, and more */
};

static void settle(struct ledger *l, struct order *o)
{
	struct posting out[ORDER_POSTINGS_MAX];
	int count = order_settle(o, out);
	for (int i = 0; i < count; i++) {
		ck_assert_int_ne(out[i].amount, 0);
		ck_assert_int_eq(out[i].seq, ++l->postings[out[i].kind]);
		l->sums[out[i].kind] += out[i].amount;
	}
	if (o->changed) {
		l->repins += l->row.pin.outcome_at_us != TIME_NONE && l->row.pin.outcome_at_us != o->pin.outcome_at_us;
		l->row = *o;
		l->row.exists = true;
	}
	ck_assert_int_eq(count > 0 && !o->changed, false);
	ck_assert(facts_equal(&o->facts, &l->row.facts) && o->pin.outcome_at_us == l->row.pin.outcome_at_us);
}

/* Applies facts[from, to) as one batch, and checks which record each posting names. */
static void run_batch(struct ledger *l, const struct event *facts, int from, int to, const struct terms *const *at,
                      uint64_t seed)
{
	struct order o = l->row;
	o.changed = false;
	ck_assert(order_resume(&o, at[from]->set));
	int sources[3] = {-1, -1, -1};
	for (int i = from; i < to; i++) {
		const char *field = NULL;
		ck_assert_int_ne(order_apply(&o, &facts[i], at[i]->set, (uint32_t)i, &field), ORDER_CONFLICT);
		struct targets before = oracle_targets(facts, i, at), after = oracle_targets(facts, i + 1, at);
		if (before.points != after.points)
			sources[KIND_POINTS] = i;
		if (before.order_credit_minor != after.order_credit_minor)
			sources[KIND_ORDER_CREDIT] = i;
	}
	struct order copy = o;
	struct posting out[ORDER_POSTINGS_MAX];
	for (int i = 0, count = order_settle(&copy, out); i < count; i++)
		ck_assert_msg((int)out[i].record_index == sources[out[i].kind], "another source, DW_TEST_SEED=%" PRIu64,
			      seed);
	settle(l, &o);
	struct targets wanted = oracle_targets(facts, to, at);
	ck_assert_msg(l->sums[KIND_POINTS] == wanted.points && l->sums[KIND_ORDER_CREDIT] == wanted.order_credit_minor,
	              "posted %" PRId64 " and %" PRId64 ", not %" PRId64 " and %" PRId64 ", DW_TEST_SEED=%" PRIu64,
	              l->sums[KIND_POINTS], l->sums[KIND_ORDER_CREDIT], wanted.points, wanted.order_credit_minor, seed);
	check_facts(&o.facts, facts, to, seed);
}

static struct ledger run_life(const struct event *facts, int count, const struct terms *const *at, uint64_t seed)
{
	struct ledger l = {.sums = {0}};
	order_init(&l.row, SLICE_LITERAL("o1"));
	for (int from = 0, to; from < count; from = to) {
		/* A batch sees one revision of the rules. */
		to = from + 1;
		while (to < count && at[to] == at[from] && below(3))
			to++;
		run_batch(&l, facts, from, to, at, seed);
	}
	return l;
}

static void shuffle(struct event *facts, int count)
{
	for (int i = count - 1; i > 0; i--) {
		int k = below(i + 1);
		struct event swap = facts[i];
		facts[i] = facts[k], facts[k] = swap;
	}
}

/* Under the same rules the same facts end in the same sums, in whatever order, however often repeated,
 * however cut into batches. */
START_TEST(test_decision_property__same_rules_any_order_and_batching_same_sums)
{
	for (uint64_t n = 0; n < LIVES_BATCHED / 4; n++) {
		uint64_t seed = state = base_seed() + n;
		struct terms sets[SETS];
		draw_sets(sets);
		struct event life[2 * FACTS_MAX];
		int count = draw_life(life);
		const struct terms *at[2 * FACTS_MAX];
		for (int i = 0; i < 2 * FACTS_MAX; i++)
			at[i] = &sets[SETS - 1];
		struct targets wanted = oracle_targets(life, count, at);
		for (int i = 0; i < FACTS_MAX; i++)
			life[count + i] = life[below(count)];
		for (int round = 0; round < 3; round++) {
			int repeats = round ? below(FACTS_MAX) : 0;
			struct event facts[2 * FACTS_MAX];
			memcpy(facts, life, sizeof(facts));
			shuffle(facts, count + repeats);
			struct ledger l = run_life(facts, count + repeats, at, seed);
			ck_assert_msg(l.sums[KIND_POINTS] == wanted.points &&
			              l.sums[KIND_ORDER_CREDIT] == wanted.order_credit_minor,
			              "another sum, DW_TEST_SEED=%" PRIu64, seed);
		}
		release_sets(sets);
	}
}
END_TEST

/* Rules and settings that change while the order lives: what it was priced by stays while its outcome
 * does, and a new delivery is priced anew. */
START_TEST(test_decision_property__terms_stay_while_the_outcome_stands)
{
	int kept = 0, repriced = 0;
	for (uint64_t n = 0; n < LIVES_BATCHED; n++) {
		uint64_t seed = state = base_seed() + n;
		struct terms sets[SETS];
		draw_sets(sets);
		struct event life[FACTS_MAX];
		int count = draw_life(life);
		const struct terms *at[FACTS_MAX], *last[FACTS_MAX];
		for (int i = 0, k = 0; i < count; i++) {
			while (k < SETS - 1 && below(3) == 0)
				k++;
			at[i] = &sets[k];
			last[i] = &sets[SETS - 1];
		}
		struct ledger l = run_life(life, count, at, seed);
		struct targets now = oracle_targets(life, count, last);
		kept += l.sums[KIND_POINTS] != now.points;
		repriced += l.repins > 0;
		release_sets(sets);
	}
	/* The generator reaches what the property is about. */
	ck_assert_int_gt(kept, LIVES_BATCHED / 100);
	ck_assert_int_gt(repriced, LIVES_BATCHED / 100);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("decision_property");
	TCase *tc = tcase_create("decision_property");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_decision_property__any_order_and_repetition_same_facts);
	tcase_add_test(tc, test_decision_property__one_rule_in_force_as_by_pairwise_choice);
	tcase_add_test(tc, test_decision_property__points_as_by_long_division);
	tcase_add_test(tc, test_decision_property__same_rules_any_order_and_batching_same_sums);
	tcase_add_test(tc, test_decision_property__terms_stay_while_the_outcome_stands);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
