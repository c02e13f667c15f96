#include "worker/gate/outage.h"

#include <check.h>

#define MS INT64_C(1000)
#define SECOND INT64_C(1000000)
#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const int64_t start_us = 1000 * SECOND;

static struct outage fresh(void)
{
	return (struct outage){.up_since_us = INT64_MIN / 2};
}

/* What makes the jitter come out as the delay itself: its middle. */
static uint32_t no_jitter(int64_t delay_us)
{
	return (uint32_t)(delay_us / 4);
}

START_TEST(test_outage__goes_down_once)
{
	struct outage o = fresh();
	ck_assert_int_eq(outage_ask(&o, start_us), OUTAGE_GO);
	ck_assert_int_eq(outage_ask(&o, start_us), OUTAGE_GO);
	ck_assert(outage_failed(&o, false, start_us, 0));
	ck_assert(!outage_failed(&o, false, start_us, 0));
	ck_assert(o.down);
}
END_TEST

START_TEST(test_outage__failures_of_others_do_not_prolong_it)
{
	struct outage o = fresh();
	outage_failed(&o, false, start_us, 0);
	struct outage before = o;
	for (int i = 0; i < 10; i++)
		outage_failed(&o, false, start_us + i * MS, 7);
	ck_assert_int_eq(o.retry_at_us, before.retry_at_us);
	ck_assert_int_eq(o.delay_us, before.delay_us);
}
END_TEST

static const int64_t delays_ms[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};

START_TEST(test_outage__delay_doubles_to_its_limit)
{
	struct outage o = fresh();
	int64_t now_us = start_us;
	for (int i = 0; i < ROWS(delays_ms); i++) {
		int64_t delay_us = delays_ms[i] * MS;
		outage_failed(&o, i > 0, now_us, no_jitter(delay_us));
		ck_assert_int_eq(o.retry_at_us - now_us, delay_us);
		ck_assert_int_eq(outage_ask(&o, o.retry_at_us - 1), OUTAGE_SKIP);
		now_us = o.retry_at_us;
		ck_assert_int_eq(outage_ask(&o, now_us), OUTAGE_PROBE);
	}
}
END_TEST

START_TEST(test_outage__one_prober_at_a_time)
{
	struct outage o = fresh();
	outage_failed(&o, false, start_us, 0);
	int64_t later_us = start_us + SECOND;
	ck_assert_int_eq(outage_ask(&o, later_us), OUTAGE_PROBE);
	ck_assert_int_eq(outage_ask(&o, later_us), OUTAGE_SKIP);
	/* A late failure of one who began before it went down leaves the prober at it. */
	ck_assert(!outage_failed(&o, false, later_us, 0));
	ck_assert_int_eq(outage_ask(&o, later_us + 60 * SECOND), OUTAGE_SKIP);
	outage_failed(&o, true, later_us, 0);
	ck_assert_int_eq(outage_ask(&o, later_us + SECOND), OUTAGE_PROBE);
}
END_TEST

START_TEST(test_outage__success_of_the_prober_ends_it)
{
	struct outage o = fresh();
	outage_failed(&o, false, start_us, 0);
	ck_assert_int_eq(outage_ask(&o, start_us + SECOND), OUTAGE_PROBE);
	outage_succeeded(&o, start_us + SECOND);
	ck_assert_int_eq(outage_ask(&o, start_us + SECOND), OUTAGE_GO);
	ck_assert_int_eq(outage_ask(&o, start_us + SECOND), OUTAGE_GO);
}
END_TEST

static const struct relapse {
	int64_t well_us;
	int64_t expected_us;
} relapse_rows[] = {
	{0, 400 * MS},
	{OUTAGE_FORGET_US - 1, 400 * MS},
	{OUTAGE_FORGET_US, 100 * MS},
	{3600 * SECOND, 100 * MS},
};

START_TEST(test_outage__relapse_goes_on_where_it_was)
{
	const struct relapse *row = &relapse_rows[_i];
	struct outage o = fresh();
	outage_failed(&o, false, start_us, 0);
	ck_assert_int_eq(outage_ask(&o, start_us + SECOND), OUTAGE_PROBE);
	outage_failed(&o, true, start_us + SECOND, 0);
	ck_assert_int_eq(outage_ask(&o, start_us + 2 * SECOND), OUTAGE_PROBE);
	outage_succeeded(&o, start_us + 2 * SECOND);
	ck_assert(outage_failed(&o, false, start_us + 2 * SECOND + row->well_us, 0));
	ck_assert_int_eq(o.delay_us, row->expected_us);
}
END_TEST

START_TEST(test_outage__jitter_is_a_quarter_both_ways)
{
	static const uint32_t chances[] = {0, 1, 25000, 50000, 50001, 4096, UINT32_MAX};
	int64_t shortest = INT64_MAX, longest = 0;
	for (int i = 0; i < ROWS(chances); i++) {
		struct outage o = fresh();
		outage_failed(&o, false, start_us, chances[i]);
		int64_t wait_us = o.retry_at_us - start_us;
		shortest = wait_us < shortest ? wait_us : shortest;
		longest = wait_us > longest ? wait_us : longest;
	}
	ck_assert_int_eq(shortest, 75 * MS);
	ck_assert_int_eq(longest, 125 * MS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("outage");
	TCase *tc = tcase_create("outage");
	tcase_add_test(tc, test_outage__goes_down_once);
	tcase_add_test(tc, test_outage__failures_of_others_do_not_prolong_it);
	tcase_add_test(tc, test_outage__delay_doubles_to_its_limit);
	tcase_add_test(tc, test_outage__one_prober_at_a_time);
	tcase_add_test(tc, test_outage__success_of_the_prober_ends_it);
	tcase_add_loop_test(tc, test_outage__relapse_goes_on_where_it_was, 0, ROWS(relapse_rows));
	tcase_add_test(tc, test_outage__jitter_is_a_quarter_both_ways);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
