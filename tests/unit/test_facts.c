#include "worker/ledger/facts.h"

#include "tests/lib/facts_equal.h"

#include <check.h>

#define T0 INT64_C(1700000000000000)

static struct event event_of(enum event_status status, int64_t at_us)
{
	return (struct event){
		.order_id = SLICE_LITERAL("o1"),
		.status = status,
		.timestamp_us = at_us,
		.amount_minor = -1,
	};
}

static struct facts merged(const struct event *events, size_t count)
{
	struct facts f;
	facts_init(&f);
	for (size_t i = 0; i < count; i++)
		facts_merge(&f, &events[i]);
	return f;
}

START_TEST(test_facts__start_as_nothing_known)
{
	struct facts f;
	facts_init(&f);
	ck_assert_int_eq(f.progress, STATUS_NONE);
	ck_assert_int_eq(f.outcome, STATUS_NONE);
	ck_assert_int_eq(f.outcome_at_us, TIME_NONE);
	ck_assert_int_eq(f.amount_minor, -1);
	ck_assert_int_eq(f.refunded_total_minor, 0);
	ck_assert(!slice_present(f.customer_id) && !slice_present(f.partner_id) && !slice_present(f.driver_id));
	ck_assert_str_eq(f.currency, "");
}
END_TEST

static const struct {
	enum event_status first, second, progress;
	bool stale;
} progress_rows[] = {
	{STATUS_CREATED, STATUS_ASSIGNED, STATUS_ASSIGNED, false},
	{STATUS_ASSIGNED, STATUS_CREATED, STATUS_ASSIGNED, true},
	{STATUS_ASSIGNED, STATUS_ASSIGNED, STATUS_ASSIGNED, false},
	{STATUS_DELIVERED, STATUS_IN_TRANSIT, STATUS_DELIVERED, true},
	{STATUS_DELIVERED, STATUS_RETURNED, STATUS_RETURNED, false},
	{STATUS_RETURNED, STATUS_DELIVERED, STATUS_RETURNED, true},
};

/* Progress goes by rank alone: times play no part. */
START_TEST(test_facts__progress_is_highest_rank)
{
	for (int64_t shift = -1; shift <= 1; shift++) {
		struct event events[] = {
			event_of(progress_rows[_i].first, T0),
			event_of(progress_rows[_i].second, T0 + shift),
		};
		struct facts f = merged(events, 1);
		ck_assert_int_eq(facts_stale(&f, &events[1]), progress_rows[_i].stale);
		facts_merge(&f, &events[1]);
		ck_assert_int_eq(f.progress, progress_rows[_i].progress);
	}
}
END_TEST

static const struct {
	enum event_status first;
	int64_t first_at;
	enum event_status second;
	int64_t second_at;
	enum event_status outcome;
	int64_t outcome_at;
} outcome_rows[] = {
	{STATUS_ATTEMPTED, 5, STATUS_IN_TRANSIT, 9, STATUS_NONE, 0},
	{STATUS_DELIVERED, 5, STATUS_ATTEMPTED, 9, STATUS_DELIVERED, 5},
	{STATUS_DELIVERED, 5, STATUS_CANCELLED, 9, STATUS_CANCELLED, 9},
	{STATUS_CANCELLED, 5, STATUS_DELIVERED, 9, STATUS_DELIVERED, 9},
	{STATUS_DELIVERED, 5, STATUS_DELIVERED, 9, STATUS_DELIVERED, 9},
	/* At one instant the higher rank. */
	{STATUS_DELIVERED, 5, STATUS_FAILED, 5, STATUS_FAILED, 5},
	{STATUS_FAILED, 5, STATUS_CANCELLED, 5, STATUS_CANCELLED, 5},
	{STATUS_CANCELLED, 5, STATUS_RETURNED, 5, STATUS_RETURNED, 5},
};

START_TEST(test_facts__outcome_is_greatest_time_then_rank)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct event events[2];
		events[swapped] = event_of(outcome_rows[_i].first, T0 + outcome_rows[_i].first_at);
		events[!swapped] = event_of(outcome_rows[_i].second, T0 + outcome_rows[_i].second_at);
		struct facts f = merged(events, 2);
		ck_assert_int_eq(f.outcome, outcome_rows[_i].outcome);
		int64_t at = outcome_rows[_i].outcome == STATUS_NONE ? TIME_NONE : T0 + outcome_rows[_i].outcome_at;
		ck_assert_int_eq(f.outcome_at_us, at);
	}
}
END_TEST

static const struct {
	int64_t first_at, first, second_at, second, amount;
} amount_rows[] = {
	{5, 700, 9, -1, 700}, /* absent takes nothing away */
	{5, 700, 9, 300, 300},
	{5, 700, 9, 0, 0},    /* 0 is an amount */
	{5, 700, 5, 900, 900},
	{5, EVENT_AMOUNT_MAX, 5, 0, EVENT_AMOUNT_MAX},
};

START_TEST(test_facts__amount_is_of_greatest_time_then_amount)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct event events[2];
		events[swapped] = event_of(STATUS_CREATED, T0 + amount_rows[_i].first_at);
		events[swapped].amount_minor = amount_rows[_i].first;
		events[!swapped] = event_of(STATUS_CREATED, T0 + amount_rows[_i].second_at);
		events[!swapped].amount_minor = amount_rows[_i].second;
		ck_assert_int_eq(merged(events, 2).amount_minor, amount_rows[_i].amount);
	}
}
END_TEST

static const struct {
	int64_t first_at;
	const char *first;
	int64_t second_at;
	const char *second;
	const char *driver;
} driver_rows[] = {
	{5, "d1", 9, NULL, "d1"},
	{5, "d2", 9, "d1", "d1"},
	{5, "d2", 5, "d1", "d2"},
	{5, "d", 5, "d1", "d1"}, /* by bytes: a prefix is smaller */
	{5, "\xc3\xa9", 5, "z", "\xc3\xa9"},
};

START_TEST(test_facts__driver_is_of_greatest_time_then_id)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		struct event events[2];
		events[swapped] = event_of(STATUS_ASSIGNED, T0 + driver_rows[_i].first_at);
		events[swapped].driver_id = slice_of(driver_rows[_i].first);
		events[!swapped] = event_of(STATUS_ASSIGNED, T0 + driver_rows[_i].second_at);
		events[!swapped].driver_id = slice_of(driver_rows[_i].second);
		struct facts f = merged(events, 2);
		ck_assert(slice_equal(f.driver_id, slice_of(driver_rows[_i].driver)));
	}
}
END_TEST

START_TEST(test_facts__refunded_total_is_maximum_at_any_time)
{
	struct event events[] = {
		event_of(STATUS_DELIVERED, T0 + 9), event_of(STATUS_CREATED, T0), event_of(STATUS_RETURNED, T0 + 20),
	};
	events[0].refunded_total_minor = 300;
	events[1].refunded_total_minor = 500;
	events[2].refunded_total_minor = 100;
	ck_assert_int_eq(merged(events, 3).refunded_total_minor, 500);
}
END_TEST

START_TEST(test_facts__stale_status_merges_other_members)
{
	struct event events[] = {event_of(STATUS_DELIVERED, T0), event_of(STATUS_CREATED, T0 - 60)};
	events[1].partner_id = SLICE_LITERAL("p1");
	events[1].customer_id = SLICE_LITERAL("c1");
	events[1].driver_id = SLICE_LITERAL("d1");
	events[1].amount_minor = 1200;
	memcpy(events[1].currency, "BRL", 4);
	struct facts f = merged(events, 1);
	ck_assert(facts_stale(&f, &events[1]));
	ck_assert(facts_merge(&f, &events[1]));
	ck_assert(slice_equal(f.partner_id, SLICE_LITERAL("p1")));
	ck_assert(slice_equal(f.customer_id, SLICE_LITERAL("c1")));
	ck_assert(slice_equal(f.driver_id, SLICE_LITERAL("d1")));
	ck_assert_int_eq(f.amount_minor, 1200);
	ck_assert_str_eq(f.currency, "BRL");
	ck_assert_int_eq(f.progress, STATUS_DELIVERED);
	ck_assert_int_eq(f.outcome, STATUS_DELIVERED);
}
END_TEST

static const struct {
	const char *customer, *partner, *currency;
	const char *field; /* NULL: no conflict */
} conflict_rows[] = {
	{NULL, NULL, "", NULL},
	{"c1", "p1", "BRL", NULL},
	{"c2", "p1", "BRL", "customer_id"},
	{"c1", "p2", "BRL", "partner_id"},
	{"c1", "p1", "USD", "currency"},
	{"c", NULL, "", "customer_id"},
	{NULL, "p11", "", "partner_id"},
};

START_TEST(test_facts__conflict_names_what_is_fixed_differently)
{
	struct event first = event_of(STATUS_CREATED, T0);
	first.customer_id = SLICE_LITERAL("c1");
	first.partner_id = SLICE_LITERAL("p1");
	memcpy(first.currency, "BRL", 4);
	struct facts f = merged(&first, 1);

	struct event later = event_of(STATUS_DELIVERED, T0 + 1);
	later.customer_id = slice_of(conflict_rows[_i].customer);
	later.partner_id = slice_of(conflict_rows[_i].partner);
	memcpy(later.currency, conflict_rows[_i].currency, strlen(conflict_rows[_i].currency) + 1);
	const char *field = facts_conflict(&f, &later);
	if (conflict_rows[_i].field)
		ck_assert_str_eq(field, conflict_rows[_i].field);
	else
		ck_assert_ptr_null(field);
	/* What is not fixed contradicts nothing. */
	struct facts nothing;
	facts_init(&nothing);
	ck_assert_ptr_null(facts_conflict(&nothing, &later));
}
END_TEST

START_TEST(test_facts__merge_says_whether_anything_changed)
{
	struct event e = event_of(STATUS_DELIVERED, T0);
	e.customer_id = SLICE_LITERAL("c1");
	e.amount_minor = 100;
	memcpy(e.currency, "BRL", 4);
	struct facts f;
	facts_init(&f);
	ck_assert(facts_merge(&f, &e));
	ck_assert(!facts_merge(&f, &e));
	struct event older = event_of(STATUS_ASSIGNED, T0 - 5);
	ck_assert(!facts_merge(&f, &older));
	/* Each member alone is a change. */
	struct event more[6];
	for (int i = 0; i < 6; i++)
		more[i] = event_of(STATUS_CREATED, T0 + 1);
	more[0].partner_id = SLICE_LITERAL("p1");
	more[1].driver_id = SLICE_LITERAL("d1");
	more[2].refunded_total_minor = 1;
	more[3].amount_minor = 100; /* the same amount, but known to hold later: decides later merges */
	more[4] = event_of(STATUS_DELIVERED, T0 + 2);
	more[5] = event_of(STATUS_FAILED, T0 - 9); /* progress */
	for (int i = 0; i < 6; i++) {
		struct facts before = f;
		ck_assert_msg(facts_merge(&f, &more[i]), "member %d", i);
		ck_assert_msg(!facts_equal(&before, &f), "member %d", i);
	}
}
END_TEST

START_TEST(test_facts__equal_compares_every_member)
{
	struct facts base;
	facts_init(&base);
	for (int i = 0; i < 11; i++) {
		struct facts other = base;
		switch (i) {
		case 0: other.customer_id = SLICE_LITERAL("c"); break;
		case 1: other.partner_id = SLICE_LITERAL("p"); break;
		case 2: memcpy(other.currency, "BRL", 4); break;
		case 3: other.progress = STATUS_CREATED; break;
		case 4: other.outcome = STATUS_FAILED; break;
		case 5: other.outcome_at_us = T0; break;
		case 6: other.amount_minor = 0; break;
		case 7: other.amount_at_us = T0; break;
		case 8: other.refunded_total_minor = 1; break;
		case 9: other.driver_id = SLICE_LITERAL("d"); break;
		case 10: other.driver_at_us = T0; break;
		}
		ck_assert_msg(!facts_equal(&base, &other), "member %d", i);
		ck_assert(facts_equal(&other, &other));
	}
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("facts");
	TCase *tc = tcase_create("facts");
	tcase_add_test(tc, test_facts__start_as_nothing_known);
	tcase_add_loop_test(tc, test_facts__progress_is_highest_rank, 0, ROWS(progress_rows));
	tcase_add_loop_test(tc, test_facts__outcome_is_greatest_time_then_rank, 0, ROWS(outcome_rows));
	tcase_add_loop_test(tc, test_facts__amount_is_of_greatest_time_then_amount, 0, ROWS(amount_rows));
	tcase_add_loop_test(tc, test_facts__driver_is_of_greatest_time_then_id, 0, ROWS(driver_rows));
	tcase_add_test(tc, test_facts__refunded_total_is_maximum_at_any_time);
	tcase_add_test(tc, test_facts__stale_status_merges_other_members);
	tcase_add_loop_test(tc, test_facts__conflict_names_what_is_fixed_differently, 0, ROWS(conflict_rows));
	tcase_add_test(tc, test_facts__merge_says_whether_anything_changed);
	tcase_add_test(tc, test_facts__equal_compares_every_member);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
