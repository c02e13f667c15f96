/* gcra.c and what is built on it in this process, limiter.c. That Redis' script agrees: component/test_gate.c. */
#include "worker/gate/gcra.h"
#include "worker/gate/limiter.h"

#include <check.h>
#include <inttypes.h>

#define SECOND INT64_C(1000000)
#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const int64_t start_us = INT64_C(1767225600) * SECOND;

static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *state >> 33;
}

static const struct step_row {
	int64_t per_second, burst;
	struct {
		int64_t after_us, wanted, granted;
	} steps[6];
} step_rows[] = {
	/* A full bucket gives its burst, then one a period. */
	{1, 1, {{0, 1, 1}, {0, 1, 0}, {SECOND - 1, 1, 0}, {1, 1, 1}, {0, 1, 0}}},
	{2, 5, {{0, 3, 3}, {0, 3, 2}, {0, 1, 0}, {500000, 9, 1}, {60 * SECOND, 9, 5}}},
	/* Partial grants; asking for nothing costs nothing. */
	{10, 4, {{0, 100, 4}, {100000, 100, 1}, {0, 0, 0}, {300000, 2, 2}, {0, 2, 1}}},
	/* A denial leaves the bucket alone. */
	{1, 2, {{0, 2, 2}, {0, 1000, 0}, {0, 1000, 0}, {SECOND, 1, 1}, {SECOND, 2, 1}}},
	/* Rates that do not divide a million, and the bounds. */
	{3, 1, {{0, 1, 1}, {333333, 1, 0}, {1, 1, 1}, {333333, 1, 0}, {1, 1, 1}, {333333, 1, 0}}},
	{3, 2, {{0, 2, 2}, {333333, 1, 0}, {1, 1, 1}, {333333, 1, 1}, {333333, 1, 1}, {333333, 1, 0}}},
	{1000000, 1, {{0, 1, 1}, {0, 1, 0}, {1, 1, 1}, {1, 1, 1}, {10, 10, 1}}},
	{1000000, 1000000, {{0, 2000000, 1000000}, {0, 1, 0}, {1, 2, 1}, {SECOND, 2000000, 1000000}}},
	{1, 1000000, {{0, 2000000, 1000000}, {SECOND - 1, 1, 0}, {1, 5, 1}}},
};

START_TEST(test_gcra__grants_step_by_step)
{
	const struct step_row *row = &step_rows[_i];
	struct gcra g = {0};
	int64_t now_us = start_us;
	for (size_t i = 0; i < sizeof(row->steps) / sizeof(row->steps[0]); i++) {
		now_us += row->steps[i].after_us;
		int64_t granted = gcra_take(&g, now_us, row->per_second, row->burst, row->steps[i].wanted);
		ck_assert_msg(granted == row->steps[i].granted, "step %zu: %" PRId64 ", not %" PRId64, i, granted,
		              row->steps[i].granted);
	}
}
END_TEST

static const struct rate_row {
	int64_t per_second, burst;
} rate_rows[] = {
	{1, 1}, {1, 1000000}, {3, 2}, {7, 100}, {999, 1}, {1000, 10}, {333333, 7}, {700000, 3}, {999999, 1000000},
	{1000000, 1}, {1000000, 1000000},
};

/* In exact fractions: burst + rate × T is a bound at every moment; to whoever always asks it is what is
 * granted, less what has not come up to a whole cell. */
START_TEST(test_gcra__holds_its_bounds_over_time)
{
	const struct rate_row *row = &rate_rows[_i];
	/* Asked again before the bucket is full: a full one gains nothing. With one cell there is no such time. */
	int64_t full_us = (row->burst - 1) * SECOND / row->per_second;
	int64_t most_us = full_us == 0 || full_us > 5000 ? 5000 : full_us;
	uint64_t seed = (uint64_t)_i + 1;
	struct gcra g = {0};
	int64_t elapsed_us = 0;
	__int128 granted = 0;
	for (int i = 0; i < 5000; i++) {
		granted += gcra_take(&g, start_us + elapsed_us, row->per_second, row->burst, GCRA_BURST_MAX);
		__int128 bound = (__int128)row->burst * SECOND + (__int128)row->per_second * elapsed_us;
		ck_assert_msg(granted * SECOND <= bound, "too many at step %d", i);
		ck_assert_msg(full_us == 0 || granted * SECOND > bound - SECOND, "too few at step %d", i);
		elapsed_us += (int64_t)(next_random(&seed) % (uint64_t)(most_us + 1));
	}
}
END_TEST

/* Whatever changes, a bucket never owes more than one burst, so a new limit is in force within burst ÷ rate. */
START_TEST(test_gcra__changed_limits_are_sane_at_once)
{
	static const struct {
		struct rate_row before, after;
		int64_t wait_us, granted;
	} rows[] = {
		{{1, 1000000}, {1000000, 10}, 10, 10},        /* a million seconds' debt shrinks to ten cells */
		{{1, 1000000}, {1000000, 1000000}, SECOND, 1000000},
		{{1000000, 1000000}, {1, 5}, 0, 4},           /* a debt of one second in time is one cell */
		{{1000000, 1}, {1, 1}, SECOND, 1},
		{{5, 10}, {5, 20}, 0, 10},
		{{5, 10}, {5, 2}, 0, 0},
		{{999999, 3}, {2, 3}, 2 * SECOND, 3},
	};
	for (int i = 0; i < ROWS(rows); i++) {
		struct gcra g = {0};
		gcra_take(&g, start_us, rows[i].before.per_second, rows[i].before.burst, GCRA_BURST_MAX);
		/* The moment when the new limits are first seen. */
		gcra_take(&g, start_us, rows[i].after.per_second, rows[i].after.burst, 0);
		int64_t granted = gcra_take(&g, start_us + rows[i].wait_us, rows[i].after.per_second,
		                            rows[i].after.burst, GCRA_BURST_MAX);
		ck_assert_msg(granted == rows[i].granted, "row %d: %" PRId64, i, granted);
	}
}
END_TEST

START_TEST(test_gcra__clock_that_steps_back_costs_one_burst_at_most)
{
	struct gcra g = {0};
	ck_assert_int_eq(gcra_take(&g, start_us, 10, 20, 5), 5);
	ck_assert_int_eq(gcra_take(&g, start_us - 86400 * SECOND, 10, 20, 5), 0);
	ck_assert_int_eq(gcra_take(&g, start_us - 86399 * SECOND, 10, 20, 5), 5);
	ck_assert_int_eq(gcra_take(&g, start_us - 86398 * SECOND, 10, 20, 50), 15);
}
END_TEST

/* ---- the limiter ---- */

static struct limiter limiter; /* too large for a stack */

static int64_t take(const char *partner, int64_t per_second, int64_t burst, int64_t wanted, int64_t now_us)
{
	return limiter_take(&limiter, slice_of(partner), per_second, burst, wanted, now_us);
}

START_TEST(test_limiter__partners_do_not_share)
{
	limiter_init(&limiter, start_us);
	ck_assert_int_eq(take("p1", 1, 3, 5, start_us), 3);
	ck_assert_int_eq(take("p2", 1, 3, 2, start_us), 2);
	ck_assert_int_eq(take("p1", 1, 3, 5, start_us), 0);
	ck_assert_int_eq(take("p2", 1, 3, 5, start_us), 1);
}
END_TEST

static const struct share_row {
	double share;
	int64_t per_second, burst;
	int64_t at_once, in_ten_seconds;
} share_rows[] = {
	{1, 100, 50, 50, 1000}, {0.5, 100, 50, 25, 500}, {0.25, 2, 8, 2, 5}, {0.1, 1, 1, 1, 1},
	{0.001, 100, 10, 1, 1}, {2, 100, 50, 50, 1000},  {0, 100, 50, 1, 0}, {-1, 100, 50, 1, 0},
};

START_TEST(test_limiter__holds_to_the_share)
{
	const struct share_row *row = &share_rows[_i];
	limiter_init(&limiter, start_us);
	limiter_set_share(&limiter, row->share, start_us);
	ck_assert_int_eq(take("p", row->per_second, row->burst, GCRA_BURST_MAX, start_us), row->at_once);
	int64_t later = 0;
	for (int64_t ms = 1; ms <= 10000; ms++)
		later += take("p", row->per_second, row->burst, GCRA_BURST_MAX, start_us + ms * 1000);
	/* The limiter's clock is cut to whole µs: the last cell may be one short of due. */
	ck_assert_msg(later == row->in_ten_seconds || later == row->in_ten_seconds - 1, "%" PRId64, later);
}
END_TEST

START_TEST(test_limiter__share_changes_from_now_on)
{
	limiter_init(&limiter, start_us);
	ck_assert_int_eq(take("p", 100, 100, 1000, start_us), 100);
	limiter_set_share(&limiter, 0.5, start_us + SECOND / 2); /* 50 came up at the full rate */
	ck_assert_int_eq(take("p", 100, 100, 1000, start_us + SECOND / 2), 0); /* of a burst that is now 50: owed 50 */
	ck_assert_int_eq(take("p", 100, 100, 1000, start_us + SECOND / 2 + 200000), 10);
}
END_TEST

START_TEST(test_limiter__forgets_full_buckets_first)
{
	char id[16];
	limiter_init(&limiter, start_us);
	ck_assert_int_eq(take("debtor", 1, 100, 100, start_us), 100);
	/* Ten times the table's size in partners that are full again at once. */
	for (int i = 0; i < 10 * LIMITER_PARTNERS; i++) {
		snprintf(id, sizeof(id), "p%d", i);
		ck_assert_int_eq(take(id, 1000000, 1000, 1, start_us + i), 1);
	}
	ck_assert_int_eq(take("debtor", 1, 100, 100, start_us + 10 * LIMITER_PARTNERS), 0);
}
END_TEST

START_TEST(test_limiter__crowd_beyond_the_table_is_served)
{
	char id[EVENT_ID_CHARS_MAX + 1];
	limiter_init(&limiter, start_us);
	for (int i = 0; i < 3 * LIMITER_PARTNERS; i++) {
		snprintf(id, sizeof(id), "%064d", i);
		ck_assert_int_eq(take(id, 1, 2, 3, start_us), 2);
	}
	ck_assert_int_eq(take(id, 1, 2, 3, start_us), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gcra");
	TCase *tc = tcase_create("gcra");
	tcase_add_loop_test(tc, test_gcra__grants_step_by_step, 0, ROWS(step_rows));
	tcase_add_loop_test(tc, test_gcra__holds_its_bounds_over_time, 0, ROWS(rate_rows));
	tcase_add_test(tc, test_gcra__changed_limits_are_sane_at_once);
	tcase_add_test(tc, test_gcra__clock_that_steps_back_costs_one_burst_at_most);
	suite_add_tcase(suite, tc);
	tc = tcase_create("limiter");
	tcase_add_test(tc, test_limiter__partners_do_not_share);
	tcase_add_loop_test(tc, test_limiter__holds_to_the_share, 0, ROWS(share_rows));
	tcase_add_test(tc, test_limiter__share_changes_from_now_on);
	tcase_add_test(tc, test_limiter__forgets_full_buckets_first);
	tcase_add_test(tc, test_limiter__crowd_beyond_the_table_is_served);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
