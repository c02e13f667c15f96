/* worker/cli/progress.c: what stands on the line. */
#include "worker/cli/progress.h"

#include <check.h>
#include <stdio.h>

static const char *line(int64_t done, int64_t total, const char *text, int columns)
{
	static struct buf out;
	buf_clear(&out);
	progress_put(&out, done, total, text, columns);
	return out.data;
}

START_TEST(test_progress__line_by_width)
{
	static const struct {
		int64_t done, total;
		int columns;
		const char *line;
	} rows[] = {
		{0, 1000, 28, "[..........]   0.0 % 5 sent"},
		{500, 1000, 28, "[#####.....]  50.0 % 5 sent"},
		{534, 1000, 28, "[#####-....]  53.4 % 5 sent"},
		{567, 1000, 28, "[#####=....]  56.7 % 5 sent"},
		{999, 1000, 28, "[#########=]  99.9 % 5 sent"},
		{1000, 1000, 28, "[##########] 100.0 % 5 sent"},
		{1001, 1000, 28, "[##########] 100.0 % 5 sent"}, /* a file that grew */
		{500, 1000, 26, "[####....]  50.0 % 5 sent"},
		{500, 1000, 25, " 50.0 % 5 sent"}, /* no room for a bar */
		{500, 1000, 10, " 50.0 % 5"},
		{500, 1000, 1, ""},
		{500, 1000, 0, ""},
		{500, 0, 30, "5 sent"},
		{INT64_MAX / 2, INT64_MAX, 28, "[#####.....]  50.0 % 5 sent"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_str_eq(line(rows[i].done, rows[i].total, "5 sent", rows[i].columns), rows[i].line);
}
END_TEST

START_TEST(test_progress__stays_below_the_width)
{
	for (int columns = 0; columns < 200; columns++) {
		for (int64_t done = 0; done <= 100; done++) {
			size_t len = strlen(line(done, 100, "1234567 sent, 123456/s", columns));
			ck_assert_msg(len < (size_t)columns || len == 0, "%zu of %d columns", len, columns);
		}
	}
}
END_TEST

START_TEST(test_progress__moves_with_each_thousandth)
{
	char before[200] = "", bar_before[200] = "";
	int bars = 0;
	for (int64_t done = 0; done <= 1000; done++) {
		const char *now = line(done, 1000, "5 sent", 80);
		const char *end = strchr(now, ']');
		ck_assert_ptr_nonnull(end);
		ck_assert_msg(strcmp(now, before) != 0, "\"%s\" at %d and before", now, (int)done);
		bars += strncmp(now, bar_before, (size_t)(end - now)) != 0;
		snprintf(before, sizeof(before), "%s", now);
		snprintf(bar_before, sizeof(bar_before), "%.*s", (int)(end - now), now);
	}
	ck_assert_int_gt(bars, 100);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("progress");
	TCase *tcase = tcase_create("progress");
	tcase_add_test(tcase, test_progress__line_by_width);
	tcase_add_test(tcase, test_progress__stays_below_the_width);
	tcase_add_test(tcase, test_progress__moves_with_each_thousandth);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	bool fine = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
	srunner_free(runner);
	return fine ? 0 : 1;
}
