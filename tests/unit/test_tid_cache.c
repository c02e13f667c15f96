#include "worker/ledger/tid_cache.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { ORDERS = 100000, TURNS = 5 };

START_TEST(test_tid_cache__the_last_place_is_found)
{
	struct tid_cache *c = tid_cache_new();
	const uint64_t a = tid_cache_key(SLICE_LITERAL("a")), b = tid_cache_key(SLICE_LITERAL("b"));
	const uint64_t last = UINT64_C(0xffffffffffff);
	ck_assert(tid_cache_get(c, a) == TID_NONE);
	tid_cache_put(c, a, 1);
	ck_assert(tid_cache_get(c, a) == 1);
	tid_cache_put(c, a, last);
	ck_assert(tid_cache_get(c, a) == last);
	ck_assert(tid_cache_get(c, b) == TID_NONE);
	tid_cache_free(c);
}
END_TEST

/*
 * The orders of one of two workers: 100,000 that are alive, each touched twice, and as many others that come and go in
 * between. Nearly all that are alive are found; were it chance that displaces, as many would not be.
 */
START_TEST(test_tid_cache__those_in_use_stay)
{
	struct tid_cache *c = tid_cache_new();
	static uint64_t keys[2 * ORDERS];
	size_t count = 0;
	for (unsigned i = 0; count < 2 * ORDERS; i++) {
		char id[16];
		snprintf(id, sizeof(id), "o-%u", i);
		if (slice_hash(slice_of(id)) % 2 == 0)
			keys[count++] = tid_cache_key(slice_of(id));
	}
	const uint64_t *alive = keys, *over = keys + ORDERS;
	for (size_t i = 0; i < ORDERS; i++)
		tid_cache_put(c, alive[i], i + 1);
	for (int turn = 0; turn < TURNS; turn++) {
		for (size_t i = 0; i < ORDERS / TURNS; i++)
			tid_cache_put(c, over[(size_t)turn * (ORDERS / TURNS) + i], ORDERS + 1);
		size_t found = 0, others = 0;
		for (size_t i = 0; i < ORDERS; i++) {
			uint64_t tid = tid_cache_get(c, alive[i]);
			found += tid == i + 1;
			others += tid != i + 1 && tid != TID_NONE;
		}
		ck_assert_msg(found > ORDERS - ORDERS / 50, "%zu", found);
		ck_assert_msg(others < ORDERS / 1000, "%zu", others);
	}
	tid_cache_free(c);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("tid_cache");
	tcase_add_test(tcase, test_tid_cache__the_last_place_is_found);
	tcase_add_test(tcase, test_tid_cache__those_in_use_stay);

	Suite *suite = suite_create("tid_cache");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner) || srunner_ntests_run(runner) == 0;
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
