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

static struct gcra_answer charge(struct gcra *g, int64_t now_us, int64_t per_second, int64_t burst, int64_t wanted)
{
	return gcra_charge(g, now_us, &(struct gcra_ask){per_second, burst, wanted, 0, 1 + wanted});
}

/* `over` in thousandths of a cell; -1: nobody waits, so it is not looked at. */
static const struct step_row {
	int64_t per_second, burst;
	struct {
		int64_t after_us, wanted, granted, over_milli;
	} steps[6];
} step_rows[] = {
	/* A full bucket gives its burst; who comes then is charged, too, and waits behind all that is owed. */
	{1, 1, {{0, 1, 1, -1}, {0, 1, 0, 1000}, {0, 1, 0, 2000}, {SECOND / 2, 1, 0, 2500}, {SECOND, 1, 0, 2500}}},
	{1, 1, {{0, 1, 1, -1}, {SECOND - 1, 1, 0, 0}, {SECOND + 1, 1, 1, -1}, {0, 1, 0, 1000}}},
	{2, 5, {{0, 3, 3, -1}, {0, 4, 2, 1000}, {0, 1, 0, 3000}, {1500000, 9, 0, 1000}, {60 * SECOND, 9, 5, 1000}}},
	/* Some pass, the rest is told its turn; asking for nothing costs nothing. */
	{10, 4, {{0, 100, 4, 1000}, {9600000, 3, 0, 1000}, {0, 0, 0, -1}, {300000, 1, 0, 1000}, {0, 2, 0, 2000}}},
	/* Rates that do not divide a million, and the bounds. */
	{3, 1, {{0, 1, 1, -1}, {333334, 1, 1, -1}, {333333, 1, 0, 0}, {700000, 1, 1, -1}, {0, 2, 0, 1000}}},
	{1000000, 1, {{0, 1, 1, -1}, {0, 1, 0, 1000}, {2, 1, 1, -1}, {1, 1, 1, -1}, {10, 10, 1, 1000}}},
	{1000000, 1000000, {{0, 1500000, 1000000, 1000}, {SECOND / 2, 1, 0, 1000}, {SECOND, 1, 1, -1}}},
	{1, 1000000, {{0, 2000000, 1000000, 1000}, {0, 1, 0, 1000001000}}},
};

START_TEST(test_gcra__charges_step_by_step)
{
	const struct step_row *row = &step_rows[_i];
	struct gcra g = {0};
	int64_t now_us = start_us;
	for (size_t i = 0; i < sizeof(row->steps) / sizeof(row->steps[0]); i++) {
		now_us += row->steps[i].after_us;
		struct gcra_answer a = charge(&g, now_us, row->per_second, row->burst, row->steps[i].wanted);
		ck_assert_msg(a.granted == row->steps[i].granted, "step %zu: %" PRId64 ", not %" PRId64, i, a.granted,
		              row->steps[i].granted);
		ck_assert_msg(a.granted == row->steps[i].wanted || row->steps[i].over_milli < 0 ||
		                      a.over / 1000 == row->steps[i].over_milli,
		              "step %zu: %" PRId64 " over", i, a.over);
	}
}
END_TEST

static const struct rate_row {
	int64_t per_second, burst;
} rate_rows[] = {
	{1, 1}, {1, 1000000}, {3, 2}, {7, 100}, {999, 1}, {1000, 10}, {333333, 7}, {700000, 3}, {999999, 1000000},
	{1000000, 1}, {1000000, 1000000},
};

enum { TURNS = 20000 };

/* At each moment what has had its turn is within burst + rate × T, and while more is asked for than there is, it is as
 * many, less what has not come up to a whole cell: in exact fractions. */
START_TEST(test_gcra__holds_its_bounds_over_time)
{
	static int64_t turns_us[TURNS];
	const struct rate_row *row = &rate_rows[_i];
	uint64_t seed = (uint64_t)_i + 1;
	struct gcra g = {0};
	int64_t elapsed_us = 0;
	int count = 0;
	while (count < TURNS) {
		/* The first takes more than there is, and less is paid back than is taken: the bucket is never full. */
		int64_t wanted = (int64_t)(next_random(&seed) % 50) + (count ? 1 : row->burst + 100);
		if (wanted > TURNS - count)
			wanted = TURNS - count;
		struct gcra_answer a = charge(&g, start_us + elapsed_us, row->per_second, row->burst, wanted);
		for (int64_t i = 0; i < wanted; i++)
			turns_us[count++] = elapsed_us +
			                    (i < a.granted ? 0
			                                   : gcra_wait_us(a.over + (i - a.granted) * GCRA_CELL,
			                                                  row->per_second));
		elapsed_us += (int64_t)(next_random(&seed) % (uint64_t)(wanted * SECOND / row->per_second + 1)) / 2;
	}
	for (int i = 0; i < count; i++) {
		__int128 bound = (__int128)row->burst * SECOND + (__int128)row->per_second * turns_us[i];
		ck_assert_msg((__int128)(i + 1) * SECOND <= bound, "too many at turn %d", i);
		/* A turn in the future comes no later than it has to: a µs at the most. */
		ck_assert_msg(i < row->burst || (__int128)(i + 2) * SECOND > bound - row->per_second ||
		                      turns_us[i] == turns_us[i - 1],
		              "too late at turn %d", i);
	}
}
END_TEST

/* Who shows the generation that there is was charged before; it changes with the rate, and when the bucket is lost. */
START_TEST(test_gcra__generation_tells_who_was_charged)
{
	struct gcra g = {0};
	struct gcra_answer a = gcra_charge(&g, start_us, &(struct gcra_ask){10, 5, 8, 0, 77});
	ck_assert_int_eq(a.granted, 5);
	ck_assert_int_eq(a.generation, 77);
	struct gcra before = g;
	a = gcra_charge(&g, start_us, &(struct gcra_ask){10, 5, 3, 77, 78});
	ck_assert_int_eq(a.granted, 3);
	ck_assert_int_eq(a.generation, 77);
	ck_assert_int_eq(a.over, 3 * GCRA_CELL); /* the last turn that was told */
	ck_assert_mem_eq(&g, &before, sizeof(g));
	/* Another burst changes no turn. */
	a = gcra_charge(&g, start_us, &(struct gcra_ask){10, 7, 3, 77, 78});
	ck_assert_int_eq(a.generation, 77);
	/* Another rate does: charged anew, and what is owed is cut to a burst. */
	a = gcra_charge(&g, start_us, &(struct gcra_ask){20, 5, 3, 77, 78});
	ck_assert_int_eq(a.generation, 78);
	ck_assert_int_eq(a.granted, 0);
	ck_assert_int_eq(a.over, GCRA_CELL);
	/* Lost. */
	g = (struct gcra){0};
	a = gcra_charge(&g, start_us, &(struct gcra_ask){20, 5, 3, 78, 79});
	ck_assert_int_eq(a.generation, 79);
	ck_assert_int_eq(a.granted, 3);
	/* Full again, but not forgotten. */
	a = gcra_charge(&g, start_us + 3600 * SECOND, &(struct gcra_ask){20, 5, 9, 79, 80});
	ck_assert_int_eq(a.generation, 79);
	ck_assert_int_eq(a.granted, 9);
	ck_assert_int_eq(a.over, 0);
}
END_TEST

/* Whatever the rate was, a bucket with another one owes a burst at the most, so that is in force within burst ÷ rate. */
START_TEST(test_gcra__changed_rates_are_sane_at_once)
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
		charge(&g, start_us, rows[i].before.per_second, rows[i].before.burst, rows[i].before.burst);
		/* The moment when the new limits are first seen. */
		charge(&g, start_us, rows[i].after.per_second, rows[i].after.burst, 0);
		struct gcra_answer a = charge(&g, start_us + rows[i].wait_us, rows[i].after.per_second,
		                              rows[i].after.burst, GCRA_BURST_MAX);
		ck_assert_msg(a.granted == rows[i].granted, "row %d: %" PRId64, i, a.granted);
	}
}
END_TEST

/* Whatever is owed stays so: it is paid by the time that passes from then on. */
START_TEST(test_gcra__clock_that_steps_back_costs_nobody_anything)
{
	struct gcra g = {0};
	int64_t day_ago_us = start_us - 86400 * SECOND;
	ck_assert_int_eq(charge(&g, start_us, 10, 20, 50).granted, 20);
	struct gcra_answer a = charge(&g, day_ago_us, 10, 20, 1);
	ck_assert_int_eq(a.granted, 0);
	ck_assert_int_eq(a.over, 31 * GCRA_CELL);
	a = charge(&g, day_ago_us + 2 * SECOND, 10, 20, 1);
	ck_assert_int_eq(a.over, 12 * GCRA_CELL);
	ck_assert_int_eq(charge(&g, day_ago_us + 5 * SECOND, 10, 20, 50).granted, 18);
}
END_TEST

/* Four thousand million cells; nothing overflows on the way. */
START_TEST(test_gcra__debt_has_an_end)
{
	static const int64_t rates[] = {1, 7, 1000000};
	for (int i = 0; i < ROWS(rates); i++) {
		struct gcra g = {0};
		for (int j = 0; j < 10; j++)
			charge(&g, start_us, rates[i], 1, INT64_MAX / GCRA_CELL / 2);
		struct gcra_answer a = charge(&g, start_us, rates[i], 1, 1);
		ck_assert_int_le(a.over, GCRA_DEBT_MAX);
		ck_assert_int_gt(a.over, GCRA_DEBT_MAX - GCRA_CELL);
		ck_assert_int_eq(a.granted, 0);
	}
}
END_TEST

/* ---- the limiter ---- */

static struct limiter limiter; /* too large for a stack */

static int64_t take(const char *partner, int64_t per_second, int64_t burst, int64_t wanted, int64_t now_us)
{
	const struct gcra_ask ask = {per_second, burst, wanted, 0, 77};
	return limiter_charge(&limiter, slice_of(partner), &ask, now_us).granted;
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
	{0.001, 100, 10, 1, 1}, {2, 100, 50, 50, 1000},  {0, 100, 50, 1, 1}, {-1, 100, 50, 1, 1},
};

START_TEST(test_limiter__holds_to_the_share)
{
	const struct share_row *row = &share_rows[_i];
	limiter_init(&limiter, start_us);
	limiter_set_share(&limiter, row->share, start_us);
	const struct gcra_ask ask = {row->per_second, row->burst, 10000, 0, 77};
	struct gcra_answer a = limiter_charge(&limiter, slice_of("p"), &ask, start_us);
	ck_assert_int_eq(a.granted, row->at_once);
	/* Turns within ten seconds of the wall. A share of 0 is taken for a thousandth. */
	int64_t later = 0;
	while ((double)gcra_wait_us(a.over + later * GCRA_CELL, row->per_second) * limiter_stretch(&limiter) <= 10e6)
		later++;
	ck_assert_msg(later == row->in_ten_seconds, "%" PRId64, later);
	/* And they are paid by then: one more waits for that one cell. */
	if (row->share <= 0)
		return;
	struct gcra_ask more = {row->per_second, row->burst, 1, 0, 77};
	int64_t paid_us = start_us + (int64_t)((double)(10000 - row->at_once) * 1e6 / (double)row->per_second *
	                                       limiter_stretch(&limiter));
	a = limiter_charge(&limiter, slice_of("p"), &more, paid_us + 100000);
	ck_assert_int_le(a.over, GCRA_CELL);
}
END_TEST

START_TEST(test_limiter__share_changes_from_now_on)
{
	limiter_init(&limiter, start_us);
	ck_assert_int_eq(take("p", 100, 100, 100, start_us), 100);
	limiter_set_share(&limiter, 0.5, start_us + SECOND / 2); /* 50 came up at the full rate */
	ck_assert_int_eq(take("p", 100, 100, 0, start_us + SECOND / 2), 0); /* of a burst that is now 50: owed 50 */
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
	tcase_add_loop_test(tc, test_gcra__charges_step_by_step, 0, ROWS(step_rows));
	tcase_add_loop_test(tc, test_gcra__holds_its_bounds_over_time, 0, ROWS(rate_rows));
	tcase_add_test(tc, test_gcra__changed_rates_are_sane_at_once);
	tcase_add_test(tc, test_gcra__clock_that_steps_back_costs_nobody_anything);
	tcase_add_test(tc, test_gcra__generation_tells_who_was_charged);
	tcase_add_test(tc, test_gcra__debt_has_an_end);
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
