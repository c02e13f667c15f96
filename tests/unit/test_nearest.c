#include "common/nearest.h"

#include <check.h>

START_TEST(test_nearest__finds_what_was_meant_or_nothing)
{
	static const struct {
		const char *typed;
		const char *meant;
	} rows[] = {
		{"rum", "run"},
		{"chek", "check"},
		{"migrat", "migrate"},
		{"prodcue", "produce"},
		{"verison", "version"},
		{"xyzzy", NULL},
		{"", NULL},
		{"q", NULL},
	};
	static const char *const names[] = {"run", "check", "migrate", "produce", "version", "lag"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nearest n = nearest_to(slice_of(rows[i].typed));
		for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++)
			nearest_offer(&n, names[j]);
		ck_assert_pstr_eq(n.name, rows[i].meant);
	}
	ck_assert_uint_eq(nearest_distance(SLICE_LITERAL("kitten"), SLICE_LITERAL("sitting")), 3);
	ck_assert_uint_eq(nearest_distance(SLICE_LITERAL(""), SLICE_LITERAL("abc")), 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nearest");
	TCase *tc = tcase_create("nearest");
	tcase_add_test(tc, test_nearest__finds_what_was_meant_or_nothing);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
