/* worker/audit/report.c: what a terminal is shown of keys that somebody tampered with. */
#include "worker/audit/report.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *key, *shown;
} keys[] = {
	{"plain", "plain"},
	{"Łukasz 東京 😀", "Łukasz 東京 😀"},
	{"\033[2J", "?[2J"},
	{"a\nb\tc\177d", "a?b?c?d"},
	{"\302\2332J\302\200\302\237", "?2J??"}, /* U+009B, the one-character CSI, and the ends of C1 */
	{"\302\240", "\302\240"},               /* U+00A0, the first behind them */
	{"a\342\200\250b\342\200\251c", "a?b?c"}, /* line and paragraph separator */
	{"\233[2J\377", "?[2J?"},               /* no UTF-8 */
	{"\303", "?"},
};

START_TEST(test_audit_report__shows_nothing_that_a_terminal_obeys)
{
	struct audit_report *report = audit_report_new();
	struct buf text = BUF_INIT;
	char wanted[128];
	audit_check_begin(report, "check", "rows");
	audit_wrong(report, "%s", keys[_i].key);
	audit_report_text(report, &text);
	snprintf(wanted, sizeof(wanted), "WRONG  check: 1 of 0 rows\n       %s\n", keys[_i].shown);
	ck_assert_str_eq(text.data, wanted);
	buf_release(&text);
	audit_report_free(report);
}
END_TEST

/* A line has its length, and a key may be cut within a sequence. */
START_TEST(test_audit_report__a_line_is_cut_between_characters)
{
	struct audit_report *report = audit_report_new();
	struct buf text = BUF_INIT;
	char key[601];
	for (size_t i = 0; i < 600; i += 2)
		memcpy(key + i, "\303\274", 3);
	audit_check_begin(report, "check", "rows");
	audit_wrong(report, "%s", key);
	audit_report_text(report, &text);
	ck_assert_ptr_nonnull(strstr(text.data, "\303\274?\n"));
	ck_assert_ptr_null(strstr(text.data, "\303\n"));
	buf_release(&text);
	audit_report_free(report);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("audit_report");
	TCase *c = tcase_create("audit_report");
	tcase_add_loop_test(c, test_audit_report__shows_nothing_that_a_terminal_obeys, 0,
	                    (int)(sizeof(keys) / sizeof(keys[0])));
	tcase_add_test(c, test_audit_report__a_line_is_cut_between_characters);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed == 0 && ran > 0 ? 0 : 1;
}
