#include "common/siphash.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Of the reference implementation's vectors (128-bit output, key 00 01 … 0f, input 00 01 … len - 1), those
 * around the edges of a word and the longest. */
static const struct {
	size_t len;
	uint8_t digest[SIPHASH_BYTES];
} vectors[] = {
	{0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93}},
	{1, {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45}},
	{7, {0xa1, 0xf1, 0xeb, 0xbe, 0xd8, 0xdb, 0xc1, 0x53, 0xc0, 0xb8, 0x4a, 0xa6, 0x1f, 0xf0, 0x82, 0x39}},
	{8, {0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97, 0xb4}},
	{9, {0x26, 0x44, 0x99, 0x06, 0x0a, 0xd9, 0xba, 0xab, 0xc4, 0x7f, 0x8b, 0x02, 0xbb, 0x6d, 0x71, 0xed}},
	{15, {0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11, 0x7e, 0x08, 0xec, 0x0f, 0x97, 0xcf, 0xc3, 0xd9}},
	{16, {0x6e, 0xe2, 0xa4, 0xca, 0x67, 0xb0, 0x54, 0xbb, 0xfd, 0x33, 0x15, 0xbf, 0x85, 0x23, 0x05, 0x77}},
	{17, {0x47, 0x3d, 0x06, 0xe8, 0x73, 0x8d, 0xb8, 0x98, 0x54, 0xc0, 0x66, 0xc4, 0x7a, 0xe4, 0x77, 0x40}},
	{63, {0x51, 0x50, 0xd1, 0x77, 0x2f, 0x50, 0x83, 0x4a, 0x50, 0x3e, 0x06, 0x9a, 0x97, 0x3f, 0xbd, 0x7c}},
};

static uint8_t count_up[64];

static void fill_count_up(void)
{
	for (size_t i = 0; i < sizeof(count_up); i++)
		count_up[i] = (uint8_t)i;
}

START_TEST(test_siphash__reference_vectors)
{
	struct siphash h;
	uint8_t digest[SIPHASH_BYTES];

	siphash_init(&h, count_up);
	siphash_update(&h, count_up, vectors[_i].len);
	siphash_final(&h, digest);
	ck_assert_mem_eq(digest, vectors[_i].digest, sizeof(digest));
}
END_TEST

START_TEST(test_siphash__pieces_make_no_difference)
{
	uint8_t whole[SIPHASH_BYTES], pieces[SIPHASH_BYTES];
	struct siphash h;

	siphash_init(&h, count_up);
	siphash_update(&h, count_up, sizeof(count_up));
	siphash_final(&h, whole);
	for (size_t first = 0; first <= sizeof(count_up); first++) {
		for (size_t second = 0; second <= sizeof(count_up) - first; second++) {
			siphash_init(&h, count_up);
			siphash_update(&h, count_up, first);
			siphash_update(&h, count_up + first, second);
			siphash_update(&h, count_up + first + second, sizeof(count_up) - first - second);
			siphash_final(&h, pieces);
			ck_assert_mem_eq(pieces, whole, sizeof(whole));
		}
	}
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("siphash");
	tcase_add_unchecked_fixture(tcase, fill_count_up, NULL);
	tcase_add_loop_test(tcase, test_siphash__reference_vectors, 0, sizeof(vectors) / sizeof(vectors[0]));
	tcase_add_test(tcase, test_siphash__pieces_make_no_difference);

	Suite *suite = suite_create("siphash");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner) || srunner_ntests_run(runner) == 0;
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
