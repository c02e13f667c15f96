/* The fingerprint of a log: its hash is stored, so its values are fixed. */
#include "worker/ledger/fingerprint.h"

#include "common/prng.h"

#include <check.h>
#include <inttypes.h>
#include <string.h>

#define NULL_SLICE ((struct slice){0})
#define EMPTY ((struct slice){"", 0})

/* Workers of all releases and machines read each other's. */
START_TEST(test_fingerprint__values_are_fixed)
{
	static const struct {
		struct slice key, value;
		uint64_t hash;
	} rows[] = {
		{{0}, {0}, UINT64_C(0xa3c6bbaf947311fc)},
		{{"o1", 2}, {"{}", 2}, UINT64_C(0x7fae36dec3e3c1b2)},
		{{"order-0001", 10}, {"0123456789abcdef0123456789abcdef!", 33}, UINT64_C(0x36340de46e827ef7)},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_msg(fingerprint_hash(rows[i].key, rows[i].value) == rows[i].hash, "row %zu: %#" PRIx64, i,
			      fingerprint_hash(rows[i].key, rows[i].value));
}
END_TEST

START_TEST(test_fingerprint__what_is_absent_empty_or_moved_over_differs)
{
	const struct slice zeros = {"\0\0\0", 3}, ab = {"ab", 2}, a = {"a", 1}, b = {"b", 1};
	const uint64_t hashes[] = {
		fingerprint_hash(NULL_SLICE, NULL_SLICE), fingerprint_hash(EMPTY, NULL_SLICE),
		fingerprint_hash(NULL_SLICE, EMPTY),      fingerprint_hash(EMPTY, EMPTY),
		fingerprint_hash(zeros, EMPTY),           fingerprint_hash(EMPTY, zeros),
		fingerprint_hash(ab, EMPTY),              fingerprint_hash(EMPTY, ab),
		fingerprint_hash(a, b),                   fingerprint_hash(b, a),
	};
	for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
		for (size_t other = 0; other < i; other++)
			ck_assert_msg(hashes[i] != hashes[other], "%zu and %zu", i, other);
}
END_TEST

/* Each bit of each byte, at every length around the block's, moves about half of the hash. */
START_TEST(test_fingerprint__every_bit_counts)
{
	struct prng random = prng_of(7);
	char bytes[49];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)prng_next(&random);
	for (size_t len = 1; len <= sizeof(bytes); len++) {
		const struct slice value = {bytes, len}, key = {"key", 3};
		uint64_t before = fingerprint_hash(key, value);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
			int moved = __builtin_popcountll(before ^ fingerprint_hash(key, value));
			ck_assert_msg(moved >= 10 && moved <= 54, "length %zu, bit %zu: %d moved", len, bit, moved);
			bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
		}
	}
}
END_TEST

START_TEST(test_fingerprint__matches)
{
	const struct fingerprint f = {true, 5, 7, 1000};
	static const struct {
		struct fingerprint other;
		bool matches;
	} rows[] = {
		{{true, 5, 7, 1000}, true}, {{true, 5, 7, -1}, true},    {{true, 5, 7, 999}, false}, {{true, 5, 8, 1000}, false},
		{{true, 6, 7, 1000}, false}, {{false, 5, 7, 1000}, false}, {{0}, false},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_msg(fingerprint_matches(&f, &rows[i].other) == rows[i].matches, "row %zu", i);
		ck_assert_msg(fingerprint_matches(&rows[i].other, &f) == rows[i].matches, "row %zu, turned", i);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fingerprint");
	TCase *tc = tcase_create("fingerprint");
	tcase_add_test(tc, test_fingerprint__values_are_fixed);
	tcase_add_test(tc, test_fingerprint__what_is_absent_empty_or_moved_over_differs);
	tcase_add_test(tc, test_fingerprint__every_bit_counts);
	tcase_add_test(tc, test_fingerprint__matches);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
