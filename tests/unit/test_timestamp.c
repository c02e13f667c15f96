#include "schemas/timestamp.h"

#include <check.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct {
	const char *text;
	int64_t us;
} times[] = {
	{"1970-01-01T00:00:00Z", 0},
	{"1969-12-31T23:59:59.999999Z", -1},
	{"2000-01-01T00:00:00Z", TIMESTAMP_MIN_US},
	{"2016-09-04T21:15:19-03:00", INT64_C(1473034519000000)},
	{"2016-09-05T00:15:19Z", INT64_C(1473034519000000)},
	{"2016-09-05T00:15:19-00:00", INT64_C(1473034519000000)},
	{"2016-09-05T23:14:19+22:59", INT64_C(1473034519000000)},
	{"2024-02-29T12:00:00.5Z", INT64_C(1709208000500000)},
	{"2000-02-29T23:59:59+23:59", INT64_C(951782459000000)},
	{"2024-02-29T12:00:00.123456Z", INT64_C(1709208000123456)},
	/* cut, not rounded */
	{"2024-02-29T12:00:00.123456999Z", INT64_C(1709208000123456)},
	{"2024-02-29T12:00:00.000000999+00:00", INT64_C(1709208000000000)},
	{"0000-01-01T00:00:00Z", INT64_C(-62167219200000000)},
	{"0000-02-29T00:00:00Z", INT64_C(-62162121600000000)},
	{"9999-12-31T23:59:59.999999-23:59", INT64_C(253402387139999999)},
};

static const char *const refused[] = {
	"",
	"2024-02-29",
	"2024-02-29T12:00:00", /* no offset */
	"2024-02-29T12:00Z",   /* no seconds */
	"2024-02-29 12:00:00Z",
	"2024-02-29t12:00:00Z",
	"2024-02-29T12:00:00z",
	"2024-02-29T12:00:00.Z",
	"2024-02-29T12:00:00,5Z",
	"2024-02-29T12:00:00.1234567890Z", /* ten digits */
	"2024-02-29T12:00:00Z ",
	" 2024-02-29T12:00:00Z",
	"2024-02-29T12:00:00ZZ",
	"2024-02-29T12:00:00+01",
	"2024-02-29T12:00:00+0100",
	"2024-02-29T12:00:00+1:00",
	"2024-02-29T12:00:00+24:00",
	"2024-02-29T12:00:00+00:60",
	"2024-02-29T12:00:00+01:00Z",
	"2023-02-29T12:00:00Z",
	"1900-02-29T12:00:00Z",
	"2024-02-30T12:00:00Z",
	"2024-04-31T12:00:00Z",
	"2024-01-32T12:00:00Z",
	"2024-01-00T12:00:00Z",
	"2024-00-01T12:00:00Z",
	"2024-13-01T12:00:00Z",
	"2024-01-01T24:00:00Z",
	"2024-01-01T23:60:00Z",
	"2016-12-31T23:59:60Z", /* a leap second that took place */
	"2024-1-01T00:00:00Z",
	"+2024-01-01T00:00:00Z",
	"12024-01-01T00:00:00Z",
	"-024-01-01T00:00:00Z",
	"2024-01-01T0 :00:00Z",
	"2024-01-01T00:00:0\xe0\xa7\xaaZ", /* a Bengali digit */
};

START_TEST(test_timestamp__parses)
{
	int64_t us = 42;

	ck_assert_msg(timestamp_parse(slice_of(times[_i].text), &us) == 0, "%s refused", times[_i].text);
	ck_assert_msg(us == times[_i].us, "%s is %" PRId64 ", not %" PRId64, times[_i].text, us, times[_i].us);
}
END_TEST

START_TEST(test_timestamp__refuses)
{
	int64_t us = 42;

	ck_assert_msg(timestamp_parse(slice_of(refused[_i]), &us) == -1, "\"%s\" accepted", refused[_i]);
	ck_assert_int_eq(us, 42);
}
END_TEST

START_TEST(test_timestamp__refuses_every_prefix)
{
	const char *text = "2024-02-29T12:00:00.123456+01:00";
	int64_t us;

	for (size_t len = 0; len < strlen(text); len++) {
		/* in a block of exactly that size, so that a sanitizer sees a read beyond it */
		char *prefix = malloc(len);
		memcpy(prefix, text, len);
		ck_assert_int_eq(timestamp_parse((struct slice){prefix, len}, &us), -1);
		free(prefix);
	}
}
END_TEST

START_TEST(test_timestamp__days_agree_with_libc)
{
	/* Every day of 1900-2400, each at a second of its own. */
	for (int64_t day = -25567; day < 157054; day++) {
		time_t seconds = (time_t)(day * 86400 + (day * 7919 % 86400 + 86400) % 86400);
		struct tm tm;
		char wanted[TIMESTAMP_TEXT_MAX], text[TIMESTAMP_TEXT_MAX];
		int64_t us;
		ck_assert_ptr_nonnull(gmtime_r(&seconds, &tm));
		strftime(wanted, sizeof(wanted), "%Y-%m-%dT%H:%M:%SZ", &tm);
		timestamp_format((int64_t)seconds * 1000000, text);
		ck_assert_str_eq(text, wanted);
		ck_assert_int_eq(timestamp_parse(slice_of(text), &us), 0);
		ck_assert_int_eq(us, (int64_t)seconds * 1000000);
	}
}
END_TEST

START_TEST(test_timestamp__formats)
{
	static const struct {
		int64_t us;
		const char *text;
	} rows[] = {
		{0, "1970-01-01T00:00:00Z"},
		{-1, "1969-12-31T23:59:59.999999Z"},
		{1, "1970-01-01T00:00:00.000001Z"},
		{INT64_C(1709208000500000), "2024-02-29T12:00:00.500000Z"},
		/* A broker can hold any record time: nothing may overflow, nothing may loop. */
		{INT64_MAX, "294247-01-10T04:00:54.775807Z"},
		{INT64_MIN, "-290308-12-21T19:59:05.224192Z"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[TIMESTAMP_TEXT_MAX];
		size_t len = timestamp_format(rows[i].us, text);
		ck_assert_str_eq(text, rows[i].text);
		ck_assert_uint_eq(len, strlen(text));
	}
}
END_TEST

int main(void)
{
	TCase *tcase = tcase_create("timestamp");
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_timestamp__parses, 0, sizeof(times) / sizeof(times[0]));
	tcase_add_loop_test(tcase, test_timestamp__refuses, 0, sizeof(refused) / sizeof(refused[0]));
	tcase_add_test(tcase, test_timestamp__refuses_every_prefix);
	tcase_add_test(tcase, test_timestamp__days_agree_with_libc);
	tcase_add_test(tcase, test_timestamp__formats);

	Suite *suite = suite_create("timestamp");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner) || srunner_ntests_run(runner) == 0;
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
