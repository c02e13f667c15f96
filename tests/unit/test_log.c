#include "common/log.h"

#include "common/clock.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* This clock in place of common/clock.c: it stands still until a test moves it. */
static int64_t now_us;

int64_t clock_mono_us(void)
{
	return now_us;
}

int64_t clock_wall_us(void)
{
	return INT64_C(1795254731123456); /* 2026-11-21T09:52:11.123456Z */
}

#define PREFIX "ts=2026-11-21T09:52:11.123456Z level="

static FILE *stolen;
static char text[1 << 20];

static void steal_stderr(void)
{
	now_us = 0;
	stolen = tmpfile();
	ck_assert_ptr_nonnull(stolen);
	ck_assert_int_ge(dup2(fileno(stolen), STDERR_FILENO), 0);
	log_setup(LOG_LOGFMT, LOG_INFO);
}

/* What was logged so far. */
static const char *logged(void)
{
	ssize_t n = pread(fileno(stolen), text, sizeof(text) - 1, 0);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	return text;
}

static int count_lines(void)
{
	int lines = 0;
	for (const char *at = logged(); (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	return lines;
}

START_TEST(test_log__line_has_time_level_message_fields)
{
	LOG(LOG_WARN, "partition paused", LOG_S("topic", "delivery-events"), LOG_I("partition", 3),
	    LOG_F("seconds", 0.25));
	LOG(LOG_INFO, "ready");
	ck_assert_str_eq(logged(),
			 PREFIX "warn msg=\"partition paused\" topic=delivery-events partition=3 seconds=0.25\n" PREFIX
				"info msg=ready\n");
}
END_TEST

START_TEST(test_log__json_line_is_one_object)
{
	log_setup(LOG_JSON, LOG_INFO);
	LOG(LOG_ERROR, "refused", LOG_S("code", "23505"), LOG_I("offset", INT64_MAX),
	    LOG_B("key", ((struct slice){0})));
	ck_assert_str_eq(logged(), "{\"ts\":\"2026-11-21T09:52:11.123456Z\",\"level\":\"error\",\"msg\":\"refused\","
				   "\"code\":\"23505\",\"offset\":9223372036854775807,\"key\":null}\n");
}
END_TEST

START_TEST(test_log__level_holds_back_what_is_below)
{
	for (enum log_level level = LOG_ERROR; level <= LOG_DEBUG; level++) {
		log_setup(LOG_LOGFMT, level);
		for (enum log_level line = LOG_ERROR; line <= LOG_DEBUG; line++)
			ck_assert_int_eq(log_enabled(line), line <= level);
	}
	log_setup(LOG_LOGFMT, LOG_ERROR);
	LOG(LOG_WARN, "unseen");
	ck_assert_str_eq(logged(), "");
}
END_TEST

static const struct {
	struct slice value;
	const char *logfmt;
} value_rows[] = {
	{SLICE_LITERAL("plain-1.2:3/x"), "plain-1.2:3/x"},
	{SLICE_LITERAL(""), "\"\""},
	{SLICE_LITERAL("a b"), "\"a b\""},
	{SLICE_LITERAL("a=b"), "\"a=b\""},
	{SLICE_LITERAL("say \"x\" \\"), "\"say \\\"x\\\" \\\\\""},
	{SLICE_LITERAL("x\nts=2026 level=error msg=forged"), "\"x\\nts=2026 level=error msg=forged\""},
	{SLICE_LITERAL("\r\t\0\x1b[31m\x7f"), "\"\\u000d\\u0009\\u0000\\u001b[31m\\u007f\""},
	{SLICE_LITERAL("\xc2\x9b"
		       "31m"),
	 "\"\\u009b31m\""}, /* CSI as one C1 control */
	{SLICE_LITERAL("a\xe2\x80\xa8"
		       "b"),
	 "\"a\\u2028b\""}, /* LINE SEPARATOR */
	{SLICE_LITERAL("\xc3\xa9"), "\"\xc3\xa9\""},
	{SLICE_LITERAL("\xff\xc3"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},
};

START_TEST(test_log__value_cannot_leave_its_field)
{
	char expected[256];

	LOG(LOG_INFO, "m", LOG_B("v", value_rows[_i].value), LOG_I("after", 1));
	snprintf(expected, sizeof(expected), PREFIX "info msg=m v=%s after=1\n", value_rows[_i].logfmt);
	ck_assert_str_eq(logged(), expected);
}
END_TEST

START_TEST(test_log__long_values_are_cut_at_a_code_point)
{
	char long_value[3000];

	/* 2-byte code points after one byte: the cut at 1,024 would fall into the middle of one. */
	long_value[0] = 'x';
	for (size_t i = 1; i + 1 < sizeof(long_value); i += 2) {
		long_value[i] = '\xc3';
		long_value[i + 1] = '\xa9';
	}
	LOG(LOG_INFO, "m", LOG_B("v", ((struct slice){long_value, sizeof(long_value) - 1})), LOG_I("after", 1));
	ck_assert_ptr_null(strstr(logged(), "\xef\xbf\xbd"));
	ck_assert_ptr_nonnull(strstr(text, " after=1 cut=1\n"));
}
END_TEST

START_TEST(test_log__line_of_bounded_length_stays_well_formed)
{
	char value[1000];

	memset(value, '\x01', sizeof(value)); /* six bytes each when escaped */
	struct slice v = {value, sizeof(value)};
	struct slice small = {value, 100};
	log_setup(LOG_JSON, LOG_INFO);
	LOG(LOG_INFO, "m", LOG_B("a", small), LOG_B("b", v), LOG_B("c", small), LOG_I("d", 7));
	ck_assert_uint_le(strlen(logged()), 4096);
	json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_ptr_nonnull(line);
	ck_assert_int_eq(json_integer_value(json_object_get(line, "cut")), 1);
	ck_assert_ptr_null(json_object_get(line, "b")); /* left out whole; what came after fits */
	ck_assert_uint_eq(json_string_length(json_object_get(line, "c")), 100);
	ck_assert_int_eq(json_integer_value(json_object_get(line, "d")), 7);
	json_decref(line);
}
END_TEST

static void complain(int times)
{
	for (int i = 0; i < times; i++)
		LOG(LOG_WARN, "too often", LOG_I("i", i));
}

START_TEST(test_log__repeats_beyond_ten_a_second_are_counted)
{
	complain(25);
	ck_assert_int_eq(count_lines(), 10);
	LOG(LOG_WARN, "another"); /* a limit for each message */
	ck_assert_int_eq(count_lines(), 11);
	now_us += 999999;
	complain(1);
	ck_assert_int_eq(count_lines(), 11);
	now_us += 1;
	complain(2);
	ck_assert_int_eq(count_lines(), 13);
	ck_assert_ptr_nonnull(strstr(text, "i=0 suppressed=16\n"));
	ck_assert_ptr_nonnull(strstr(text, "i=1\n")); /* told once */
	ck_assert_uint_eq(log_suppressed_total(), 16);
}
END_TEST

START_TEST(test_log__debug_allows_a_thousand_a_second)
{
	log_setup(LOG_LOGFMT, LOG_DEBUG);
	complain(1200);
	ck_assert_int_eq(count_lines(), 1000);
	ck_assert_uint_eq(log_suppressed_total(), 200);
}
END_TEST

START_TEST(test_log__leaves_errno_alone)
{
	errno = ENOENT;
	close(STDERR_FILENO); /* the write fails, too */
	LOG(LOG_INFO, "nowhere");
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");
	tcase_add_checked_fixture(tc, steal_stderr, NULL);
	tcase_add_test(tc, test_log__line_has_time_level_message_fields);
	tcase_add_test(tc, test_log__json_line_is_one_object);
	tcase_add_test(tc, test_log__level_holds_back_what_is_below);
	tcase_add_loop_test(tc, test_log__value_cannot_leave_its_field, 0,
			    (int)(sizeof(value_rows) / sizeof(value_rows[0])));
	tcase_add_test(tc, test_log__long_values_are_cut_at_a_code_point);
	tcase_add_test(tc, test_log__line_of_bounded_length_stays_well_formed);
	tcase_add_test(tc, test_log__repeats_beyond_ten_a_second_are_counted);
	tcase_add_test(tc, test_log__debug_allows_a_thousand_a_second);
	tcase_add_test(tc, test_log__leaves_errno_alone);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
