#include "worker/ledger/posting.h"

#include "tests/lib/facts_equal.h"

#include <check.h>
#include <stdio.h>

#define T0 INT64_C(1700000000000000)

/* One record of a life. The life is cut into batches; after each, the postings are compared. */
struct step {
	enum event_status status;
	int at;              /* seconds after T0 */
	int64_t amount;      /* -1: absent */
	int64_t refunded;
	const char *partner; /* NULL: absent */
	const char *customer;
	bool ends_batch;
};

#define STEPS_MAX 6
#define POSTINGS_MAX 6

struct expected {
	enum ledger_kinds kind;
	int64_t amount;
	uint32_t record; /* index in the life */
	const char *rule_id;
	int32_t rule_version;
};

/* base: 1 point per 100, for all; other: 10 an order for p-own; p-points and p-credit take part in one
 * kind, p-none in nothing; late: in force from T0 + 100 s for p-late alone. */
static struct rules *rules_of_the_tables(void)
{
	static const struct rule list[] = {
		{SLICE_LITERAL("base"), 1, RULE_PER_AMOUNT, 9, 100, 10000, 0, -1, {0}, "", TIME_NONE, INT64_MAX},
		{SLICE_LITERAL("base"), 2, RULE_PER_AMOUNT, 1, 100, 10000, 0, -1, {0}, "", TIME_NONE, INT64_MAX},
		{SLICE_LITERAL("late"), 1, RULE_PER_ORDER, 50, 1, 10000, 0, -1, SLICE_LITERAL("p-late"), "",
	         T0 + 100 * INT64_C(1000000), INT64_MAX},
		{SLICE_LITERAL("usd"), 1, RULE_PER_ORDER, 7, 1, 10000, 0, -1, SLICE_LITERAL("p-usd"), "USD", TIME_NONE,
	         INT64_MAX},
	};
	static const struct partner_settings partners[] = {
		{SLICE_LITERAL("p-points"), KIND_POINTS, -1, -1},
		{SLICE_LITERAL("p-credit"), KIND_ORDER_CREDIT, -1, -1},
		{SLICE_LITERAL("p-none"), 0, -1, -1},
	};
	struct rules *r = rules_new(3);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		rules_add(r, &list[i]);
	for (size_t i = 0; i < sizeof(partners) / sizeof(partners[0]); i++)
		rules_add_partner(r, &partners[i]);
	rules_seal(r);
	return r;
}

static struct event event_of(const struct step *s)
{
	struct event e = {
		.order_id = SLICE_LITERAL("o1"),
		.status = s->status,
		.timestamp_us = T0 + s->at * INT64_C(1000000),
		.amount_minor = s->amount,
		.refunded_total_minor = s->refunded,
		.partner_id = slice_of(s->partner),
		.customer_id = slice_of(s->customer),
	};
	if (s->amount >= 0)
		memcpy(e.currency, "BRL", 4);
	return e;
}

#define P KIND_POINTS
#define C KIND_ORDER_CREDIT
#define DELIVERED(at, cut) {STATUS_DELIVERED, at, 1000, 0, "p1", "c1", cut}

static const struct {
	const char *what;
	struct step steps[STEPS_MAX];
	int step_count;
	struct expected postings[POSTINGS_MAX];
	int posting_count;
} life_rows[] = {
	{"created earns nothing", {{STATUS_CREATED, 0, 1000, 0, "p1", "c1", true}}, 1, {{0}}, 0},
	{"delivered earns", {DELIVERED(1, true)}, 1, {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}}, 2},
	{"a duplicate in the batch posts nothing",
	 {DELIVERED(1, false), DELIVERED(1, true)},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}},
	 2},
	{"nor in the next",
	 {DELIVERED(1, true), DELIVERED(1, true)},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}},
	 2},
	{"the smallest event's facts count at once",
	 {{STATUS_CREATED, 0, 1000, 0, "p1", "c1", true}, {STATUS_DELIVERED, 9, -1, 0, NULL, NULL, true}},
	 2,
	 {{P, 10, 1, "base", 2}, {C, 1000, 1, NULL, 0}},
	 2},
	{"what was missing arrives late, with a stale status",
	 {{STATUS_DELIVERED, 9, -1, 0, NULL, NULL, true}, {STATUS_CREATED, 0, 1000, 0, "p1", "c1", true}},
	 2,
	 {{P, 10, 1, "base", 2}, {C, 1000, 1, NULL, 0}},
	 2},
	{"the customer last: each kind has its own source",
	 {{STATUS_DELIVERED, 9, 1000, 0, "p1", NULL, false}, {STATUS_CREATED, 0, -1, 0, NULL, "c1", true}},
	 2,
	 {{P, 10, 1, "base", 2}, {C, 1000, 0, NULL, 0}},
	 2},
	{"a late cancel reverses, under the rule that had earned",
	 {DELIVERED(1, true), {STATUS_CANCELLED, 2, -1, 0, NULL, NULL, true}},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}, {P, -10, 1, "base", 2}, {C, -1000, 1, NULL, 0}},
	 4},
	{"a cancel before the delivery does not",
	 {DELIVERED(5, true), {STATUS_CANCELLED, 4, -1, 0, NULL, NULL, true}},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}},
	 2},
	{"a partial refund claws back",
	 {DELIVERED(1, true), {STATUS_DELIVERED, 1, -1, 250, NULL, NULL, true}},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}, {P, -3, 1, "base", 2}, {C, -250, 1, NULL, 0}},
	 4},
	{"a refund too small for a point",
	 {{STATUS_DELIVERED, 1, 1099, 0, "p1", "c1", true}, {STATUS_DELIVERED, 1, -1, 99, NULL, NULL, true}},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1099, 0, NULL, 0}, {C, -99, 1, NULL, 0}},
	 3},
	{"a refund in full, and beyond",
	 {DELIVERED(1, true),
	  {STATUS_DELIVERED, 1, -1, 1000, NULL, NULL, true},
	  {STATUS_DELIVERED, 1, -1, 1001, NULL, NULL, true}},
	 3,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}, {P, -10, 1, "base", 2}, {C, -1000, 1, NULL, 0}},
	 4},
	{"a redelivery after a return earns again",
	 {DELIVERED(1, true),
	  {STATUS_RETURNED, 2, -1, 0, NULL, NULL, true},
	  {STATUS_DELIVERED, 3, -1, 0, NULL, NULL, true}},
	 3,
	 {{P, 10, 0, "base", 2},
	  {C, 1000, 0, NULL, 0},
	  {P, -10, 1, "base", 2},
	  {C, -1000, 1, NULL, 0},
	  {P, 10, 2, "base", 2},
	  {C, 1000, 2, NULL, 0}},
	 6},
	{"delivered and cancelled in one batch cancel out",
	 {DELIVERED(1, false), {STATUS_CANCELLED, 2, -1, 0, NULL, NULL, true}},
	 2,
	 {{0}},
	 0},
	{"delivered and refunded in one batch: the refund is the source",
	 {DELIVERED(1, false), {STATUS_DELIVERED, 1, -1, 250, NULL, NULL, true}},
	 2,
	 {{P, 7, 1, "base", 2}, {C, 750, 1, NULL, 0}},
	 2},
	{"cancelled and redelivered in one batch: as it was, but for what changed",
	 {DELIVERED(1, true),
	  {STATUS_CANCELLED, 2, -1, 0, NULL, NULL, false},
	  {STATUS_DELIVERED, 3, 1200, 0, NULL, NULL, true}},
	 3,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}, {P, 2, 2, "base", 2}, {C, 200, 2, NULL, 0}},
	 4},
	{"a later delivery under another rule posts the difference",
	 {{STATUS_DELIVERED, 1, 1000, 0, "p-late", "c1", true}, {STATUS_DELIVERED, 100, -1, 0, NULL, NULL, true}},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}, {P, 40, 1, "late", 1}},
	 3},
	{"a rule for another currency is not this order's",
	 {{STATUS_DELIVERED, 1, 1000, 0, "p-usd", "c1", true}},
	 1,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}},
	 2},
	{"points only", {{STATUS_DELIVERED, 1, 1000, 0, "p-points", "c1", true}}, 1, {{P, 10, 0, "base", 2}}, 1},
	{"order credit only", {{STATUS_DELIVERED, 1, 1000, 0, "p-credit", "c1", true}}, 1, {{C, 1000, 0, NULL, 0}}, 1},
	{"neither", {{STATUS_DELIVERED, 1, 1000, 0, "p-none", "c1", true}}, 1, {{0}}, 0},
	{"an amount corrected upwards",
	 {DELIVERED(1, true), {STATUS_CREATED, 2, 1500, 0, NULL, NULL, true}},
	 2,
	 {{P, 10, 0, "base", 2}, {C, 1000, 0, NULL, 0}, {P, 5, 1, "base", 2}, {C, 500, 1, NULL, 0}},
	 4},
};

/* As the database would keep it from one batch to the next. */
static struct order reread(const struct order *written, const struct rules *rules)
{
	struct order o;
	order_init(&o, written->order_id);
	o.facts = written->facts;
	o.pin = written->pin;
	o.points = written->points;
	o.order_credit_minor = written->order_credit_minor;
	o.points_seq = written->points_seq;
	o.order_credit_seq = written->order_credit_seq;
	o.rev = written->rev + 1;
	o.exists = true;
	ck_assert(order_resume(&o, rules));
	return o;
}

START_TEST(test_posting__lives)
{
	struct rules *rules = rules_of_the_tables();
	struct order o;
	order_init(&o, SLICE_LITERAL("o1"));
	int posted = 0;
	int32_t seqs[3] = {0};
	for (int i = 0; i < life_rows[_i].step_count; i++) {
		struct event e = event_of(&life_rows[_i].steps[i]);
		const char *field = NULL;
		ck_assert_int_ne(order_apply(&o, &e, rules, (uint32_t)i, &field), ORDER_CONFLICT);
		if (!life_rows[_i].steps[i].ends_batch)
			continue;
		struct posting out[ORDER_POSTINGS_MAX];
		int count = order_settle(&o, out);
		for (int p = 0; p < count; p++, posted++) {
			ck_assert_msg(posted < life_rows[_i].posting_count, "%s: posting %d too many",
				      life_rows[_i].what, posted);
			const struct expected *want = &life_rows[_i].postings[posted];
			ck_assert_msg(out[p].kind == want->kind && out[p].amount == want->amount,
			              "%s: posting %d is %d: %lld", life_rows[_i].what, posted, out[p].kind,
			              (long long)out[p].amount);
			ck_assert_msg(out[p].record_index == want->record, "%s: posting %d from record %u",
				      life_rows[_i].what, posted, out[p].record_index);
			ck_assert_msg(slice_equal(out[p].rule_id, slice_of(want->rule_id)) &&
					      out[p].rule_version == want->rule_version,
				      "%s: posting %d rule", life_rows[_i].what, posted);
			ck_assert_int_eq(out[p].seq, ++seqs[out[p].kind]);
		}
		ck_assert_int_eq(order_settle(&o, out), 0);
		o = reread(&o, rules);
	}
	ck_assert_msg(posted == life_rows[_i].posting_count, "%s: %d postings", life_rows[_i].what, posted);
	rules_unref(rules);
}
END_TEST

START_TEST(test_posting__changed_says_whether_to_write)
{
	struct rules *rules = rules_of_the_tables();
	const char *field = NULL;
	struct posting out[ORDER_POSTINGS_MAX];
	struct step first = DELIVERED(5, true);
	struct event e = event_of(&first);
	struct order o;
	order_init(&o, SLICE_LITERAL("o1"));
	ck_assert(!o.changed);
	ck_assert_int_eq(order_apply(&o, &e, rules, 0, &field), ORDER_RECORDED);
	order_settle(&o, out);
	ck_assert(o.changed);

	/* The same again, and a stale one that adds nothing: nothing to write. */
	o = reread(&o, rules);
	ck_assert_int_eq(order_apply(&o, &e, rules, 0, &field), ORDER_RECORDED);
	struct step stale = {STATUS_CREATED, 1, -1, 0, NULL, NULL, true};
	struct event older = event_of(&stale);
	ck_assert_int_eq(order_apply(&o, &older, rules, 1, &field), ORDER_STALE);
	ck_assert_int_eq(order_settle(&o, out), 0);
	ck_assert(!o.changed);

	/* A stale one with news is written, though it posts nothing. */
	older.driver_id = SLICE_LITERAL("d1");
	ck_assert_int_eq(order_apply(&o, &older, rules, 2, &field), ORDER_STALE);
	ck_assert_int_eq(order_settle(&o, out), 0);
	ck_assert(o.changed);
	rules_unref(rules);
}
END_TEST

START_TEST(test_posting__conflict_leaves_the_order_alone)
{
	struct rules *rules = rules_of_the_tables();
	const char *field = NULL;
	struct posting out[ORDER_POSTINGS_MAX];
	struct step first = DELIVERED(5, true);
	struct event e = event_of(&first);
	struct order o;
	order_init(&o, SLICE_LITERAL("o1"));
	ck_assert_int_eq(order_apply(&o, &e, rules, 0, &field), ORDER_RECORDED);
	order_settle(&o, out);
	o = reread(&o, rules);

	struct step cancel = {STATUS_CANCELLED, 9, -1, 0, "p2", NULL, true};
	e = event_of(&cancel);
	struct facts before = o.facts;
	ck_assert_int_eq(order_apply(&o, &e, rules, 0, &field), ORDER_CONFLICT);
	ck_assert_str_eq(field, "partner_id");
	ck_assert(facts_equal(&before, &o.facts));
	ck_assert_int_eq(order_settle(&o, out), 0);
	ck_assert(!o.changed);
	rules_unref(rules);
}
END_TEST

/* A rule and a setting applied after the outcome was priced do not re-price it, whatever else happens
 * under that outcome; a new delivery is priced by what is known then. */
START_TEST(test_posting__pin_outlives_new_rules)
{
	struct rules *rules = rules_of_the_tables();
	struct rules *newer = rules_new(4);
	for (size_t i = 0; i < rules_count(rules); i++)
		rules_add(newer, rules_at(rules, i));
	struct rule third = *rules_newest(rules, SLICE_LITERAL("base"));
	third.version = 3;
	third.points = 5;
	rules_add(newer, &third);
	rules_add_partner(newer, &(struct partner_settings){
		.partner_id = SLICE_LITERAL("p1"), .kinds = KIND_POINTS, .per_second = -1, .burst = -1});
	rules_seal(newer);

	const char *field = NULL;
	struct posting out[ORDER_POSTINGS_MAX];
	struct step step = DELIVERED(5, true);
	struct event e = event_of(&step);
	struct order o;
	order_init(&o, SLICE_LITERAL("o1"));
	ck_assert_int_eq(order_apply(&o, &e, rules, 0, &field), ORDER_RECORDED);
	order_settle(&o, out);

	o = reread(&o, newer);
	e.refunded_total_minor = 400;
	ck_assert_int_eq(order_apply(&o, &e, newer, 0, &field), ORDER_RECORDED);
	ck_assert_int_eq(order_settle(&o, out), 2);
	ck_assert_int_eq(o.points, 6);
	ck_assert_int_eq(o.order_credit_minor, 600);
	ck_assert_int_eq(out[0].rule_version, 2);

	o = reread(&o, newer);
	e.timestamp_us++;
	ck_assert_int_eq(order_apply(&o, &e, newer, 0, &field), ORDER_RECORDED);
	ck_assert_int_eq(order_settle(&o, out), 2);
	ck_assert_int_eq(o.points, 30);
	ck_assert_int_eq(o.order_credit_minor, 0);
	ck_assert_int_eq(out[0].rule_version, 3);
	ck_assert_int_eq(o.pin.kinds, KIND_POINTS);

	/* A worker whose rules are older than the order's must load newer ones first. */
	o.exists = true;
	ck_assert(!order_resume(&o, rules));
	rules_unref(newer);
	rules_unref(rules);
}
END_TEST

/* The absence of a rule is a term, too. */
START_TEST(test_posting__pinned_absence_stays)
{
	struct rules *none = rules_new(1);
	rules_seal(none);
	struct rules *rules = rules_of_the_tables();
	const char *field = NULL;
	struct posting out[ORDER_POSTINGS_MAX];
	struct step step = DELIVERED(5, true);
	struct event e = event_of(&step);
	struct order o;
	order_init(&o, SLICE_LITERAL("o1"));
	ck_assert_int_eq(order_apply(&o, &e, none, 0, &field), ORDER_RECORDED);
	ck_assert_int_eq(order_settle(&o, out), 1);
	ck_assert_int_eq(out[0].kind, KIND_ORDER_CREDIT);
	o = reread(&o, rules);
	e.amount_minor = 5000;
	ck_assert_int_eq(order_apply(&o, &e, rules, 0, &field), ORDER_RECORDED);
	ck_assert_int_eq(order_settle(&o, out), 1);
	ck_assert_int_eq(out[0].amount, 4000);
	ck_assert_int_eq(o.points, 0);
	rules_unref(none);
	rules_unref(rules);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("posting");
	TCase *tc = tcase_create("posting");
	tcase_add_loop_test(tc, test_posting__lives, 0, ROWS(life_rows));
	tcase_add_test(tc, test_posting__changed_says_whether_to_write);
	tcase_add_test(tc, test_posting__conflict_leaves_the_order_alone);
	tcase_add_test(tc, test_posting__pin_outlives_new_rules);
	tcase_add_test(tc, test_posting__pinned_absence_stays);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
