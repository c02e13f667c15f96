/* common/slice.h: heads stand for the strings that they are of. */
#include "common/slice.h"

#include "common/prng.h"

#include <check.h>
#include <stdlib.h>

enum { TRIES = 50000, LEN_MAX = 20 };

static int sign(int order)
{
	return (order > 0) - (order < 0);
}

/* Few different bytes, so that many strings begin alike; the least and the greatest are among them. */
static struct slice draw(struct prng *random, char bytes[LEN_MAX])
{
	static const char alphabet[] = {'\0', 'a', '\x7f', '\xff'};
	size_t len = (size_t)prng_below(random, LEN_MAX + 1);
	for (size_t i = 0; i < len; i++)
		bytes[i] = prng_below(random, 8) ? 'a' : alphabet[prng_below(random, sizeof(alphabet))];
	return (struct slice){bytes, len};
}

START_TEST(test_slice__heads_that_differ_compare_as_the_slices)
{
	struct prng random = prng_of(1);
	int differ = 0, equal = 0;
	for (int i = 0; i < TRIES; i++) {
		char left[LEN_MAX], right[LEN_MAX];
		struct slice a = draw(&random, left), b = draw(&random, right);
		size_t common = slice_common(a, b), at = (size_t)prng_below(&random, common + 1);
		ck_assert(common <= a.len && common <= b.len && memcmp(left, right, common) == 0);
		ck_assert(common == a.len || common == b.len || left[common] != right[common]);
		uint64_t x = slice_head(a, at), y = slice_head(b, at);
		if (x != y)
			ck_assert_int_eq(x < y ? -1 : 1, sign(slice_compare(a, b)));
		else
			ck_assert(common >= at + 8 || a.len < at + 8 || b.len < at + 8);
		differ += x != y;
		equal += x == y && !slice_equal(a, b);
	}
	ck_assert_int_gt(differ, TRIES / 10);
	ck_assert_int_gt(equal, TRIES / 100);
}
END_TEST

START_TEST(test_slice__a_head_is_of_what_is_there)
{
	static const struct {
		const char *text;
		size_t at;
		uint64_t head;
	} rows[] = {
		{"abcdefghi", 0, UINT64_C(0x6162636465666768)},
		{"abcdefghi", 1, UINT64_C(0x6263646566676869)},
		{"abcdefghi", 8, UINT64_C(0x6900000000000000)},
		{"abcdefghi", 9, 0},
		{"", 0, 0},
		{"a", 5, 0},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_uint_eq(slice_head(slice_of(rows[i].text), rows[i].at), rows[i].head);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slice");
	TCase *c = tcase_create("slice");
	tcase_add_test(c, test_slice__heads_that_differ_compare_as_the_slices);
	tcase_add_test(c, test_slice__a_head_is_of_what_is_there);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed == 0 && ran > 0 ? 0 : 1;
}
