#include "worker/ledger/tid_cache.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { ORDERS = 40000 };

START_TEST(test_tid_cache__the_last_place_is_found)
{
	struct tid_cache *c = tid_cache_new();
	const struct slice a = SLICE_LITERAL("a");
	const uint64_t last = UINT64_C(0xffffffffffff);
	ck_assert(tid_cache_get(c, a) == TID_NONE);
	tid_cache_put(c, a, 1);
	ck_assert(tid_cache_get(c, a) == 1);
	tid_cache_put(c, a, last);
	ck_assert(tid_cache_get(c, a) == last);
	ck_assert(tid_cache_get(c, SLICE_LITERAL("b")) == TID_NONE);
	tid_cache_free(c);
}
END_TEST

/*
 * The orders of one of two workers. With 40,000 of them for 65,536 entries 75 % displace no other by chance; a hash
 * whose bits are not independent of the choice of the worker would fill half of the entries, and keep 56 %.
 */
START_TEST(test_tid_cache__a_workers_orders_find_room)
{
	struct tid_cache *c = tid_cache_new();
	static char ids[ORDERS][16];
	size_t count = 0;
	for (unsigned i = 0; count < ORDERS; i++) {
		snprintf(ids[count], sizeof(ids[count]), "o-%u", i);
		count += slice_hash(slice_of(ids[count])) % 2 == 0;
	}
	for (size_t i = 0; i < ORDERS; i++)
		tid_cache_put(c, slice_of(ids[i]), i + 1);
	size_t found = 0, others = 0;
	for (size_t i = 0; i < ORDERS; i++) {
		uint64_t tid = tid_cache_get(c, slice_of(ids[i]));
		found += tid == i + 1;
		others += tid != i + 1 && tid != TID_NONE;
	}
	ck_assert_msg(found > ORDERS * 7 / 10, "%zu", found);
	ck_assert_msg(others < ORDERS / 1000, "%zu", others);
	tid_cache_free(c);
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("tid_cache");
	tcase_add_test(tcase, test_tid_cache__the_last_place_is_found);
	tcase_add_test(tcase, test_tid_cache__a_workers_orders_find_room);

	Suite *suite = suite_create("tid_cache");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner) || srunner_ntests_run(runner) == 0;
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
