#include "worker/cli/table.h"

#include <check.h>

START_TEST(test_table__aligns_and_leaves_no_blanks_at_the_end)
{
	static const struct table_column columns[] = {{"TOPIC", false}, {"OFFSET", true}, {"STATE", false}};
	struct table t = table_of(columns, 3);
	struct buf out = BUF_INIT;

	table_render(&t, &out);
	ck_assert_str_eq(out.data, "TOPIC  OFFSET  STATE\n");
	buf_clear(&out);
	table_cell(&t, "%s", "caf\xc3\xa9-au-lait");
	table_cell(&t, "%d", 7);
	table_cell(&t, "%s", "ok");
	table_cell(&t, "%s", "");
	table_cell(&t, "%lld", 12345678901LL);
	table_cell(&t, "%s", "paused");
	table_render(&t, &out);
	ck_assert_str_eq(out.data, "TOPIC              OFFSET  STATE\n"
				   "caf\xc3\xa9-au-lait            7  ok\n"
				   "              12345678901  paused\n");
	buf_release(&out);
	table_release(&t);
}
END_TEST

START_TEST(test_table__cells_cannot_speak_to_the_terminal)
{
	static const struct table_column columns[] = {{"X", false}};
	struct table t = table_of(columns, 1);
	struct buf out = BUF_INIT;

	table_cell(&t, "%s",
		   "a\x1b[2J\nb\xc2\x9b"
		   "c\xff");
	table_render(&t, &out);
	ck_assert_str_eq(out.data, "X\na?[2J?b?c?\n");
	buf_release(&out);
	table_release(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("table");
	TCase *tc = tcase_create("table");
	tcase_add_test(tc, test_table__aligns_and_leaves_no_blanks_at_the_end);
	tcase_add_test(tc, test_table__cells_cannot_speak_to_the_terminal);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
