#include "common/parse.h"

#include <check.h>

enum { UNTOUCHED = 4711 };

static const struct {
	const char *text;
	bool good;
	int64_t value;
} int64_rows[] = {
	{"0", true, 0},
	{"7", true, 7},
	{"-7", true, -7},
	{"007", true, 7}, /* decimal, never octal */
	{"9223372036854775807", true, INT64_MAX},
	{"-9223372036854775808", true, INT64_MIN},
	{"9223372036854775808", false, 0},
	{"-9223372036854775809", false, 0},
	{"99999999999999999999999999", false, 0},
	{"", false, 0},
	{"-", false, 0},
	{"--1", false, 0},
	{"-0", false, 0},
	{"+1", false, 0},
	{" 1", false, 0},
	{"1 ", false, 0},
	{"1\n", false, 0},
	{"12abc", false, 0},
	{"0x10", false, 0},
	{"1e3", false, 0},
	{"1.0", false, 0},
	{"1_000", false, 0},
	{"\xd9\xa1", false, 0}, /* ARABIC-INDIC DIGIT ONE */
};

START_TEST(test_parse__int64_takes_the_whole_text_or_nothing)
{
	int64_t value = UNTOUCHED;

	ck_assert_int_eq(parse_int64(slice_of(int64_rows[_i].text), &value), int64_rows[_i].good);
	ck_assert_int_eq(value, int64_rows[_i].good ? int64_rows[_i].value : UNTOUCHED);
}
END_TEST

START_TEST(test_parse__within_includes_both_bounds)
{
	int64_t value = UNTOUCHED;

	ck_assert(!parse_int64_within(SLICE_LITERAL("-2"), -1, 5, &value));
	ck_assert(!parse_int64_within(SLICE_LITERAL("6"), -1, 5, &value));
	ck_assert(!parse_int64_within(SLICE_LITERAL("x"), -1, 5, &value));
	ck_assert_int_eq(value, UNTOUCHED);
	ck_assert(parse_int64_within(SLICE_LITERAL("-1"), -1, 5, &value));
	ck_assert_int_eq(value, -1);
	ck_assert(parse_int64_within(SLICE_LITERAL("5"), -1, 5, &value));
	ck_assert_int_eq(value, 5);
}
END_TEST

START_TEST(test_parse__reads_no_byte_behind_the_slice)
{
	int64_t value;

	ck_assert(parse_int64((struct slice){"123", 2}, &value));
	ck_assert_int_eq(value, 12);
	ck_assert(parse_duration((struct slice){"5ms", 2}, 1, &value)); /* 5m */
	ck_assert_int_eq(value, 300000);
}
END_TEST

static const struct {
	const char *text;
	int64_t unit_ms;
	bool good;
	int64_t value;
} duration_rows[] = {
	{"250", 1, true, 250},
	{"250", 1000, true, 250},
	{"250ms", 1, true, 250},
	{"2s", 1, true, 2000},
	{"2s", 1000, true, 2},
	{"3m", 1000, true, 180},
	{"24h", 1000, true, 86400},
	{"365d", 1000, true, 31536000},
	{"2000ms", 1000, true, 2},
	{"1500ms", 1000, false, 0}, /* no whole number of seconds */
	{"0", 1, true, 0},
	{"0d", 1000, true, 0},
	{"", 1, false, 0},
	{"s", 1, false, 0},
	{"-1s", 1, false, 0},
	{"1S", 1, false, 0},
	{"1 s", 1, false, 0},
	{"1.5s", 1, false, 0},
	{"1w", 1, false, 0},
	{"1h30m", 1, false, 0},
	{"9223372036854775807d", 1, false, 0},
	{"9223372036854775807", 1000, false, 0},
};

START_TEST(test_parse__duration_in_the_callers_unit)
{
	int64_t value = UNTOUCHED;

	ck_assert_int_eq(parse_duration(slice_of(duration_rows[_i].text), duration_rows[_i].unit_ms, &value),
			 duration_rows[_i].good);
	ck_assert_int_eq(value, duration_rows[_i].good ? duration_rows[_i].value : UNTOUCHED);
}
END_TEST

static const struct {
	const char *text;
	bool good;
	int64_t value;
} bytes_rows[] = {
	{"0", true, 0},
	{"1000", true, 1000},
	{"2k", true, 2048},
	{"16m", true, 16777216},
	{"1g", true, 1073741824},
	{"8589934591g", true, 9223372035781033984},
	{"8589934592g", false, 0},
	{"1K", false, 0},
	{"1kb", false, 0},
	{"1t", false, 0},
	{"-1k", false, 0},
	{"k", false, 0},
	{"", false, 0},
};

START_TEST(test_parse__bytes_with_binary_suffixes)
{
	int64_t value = UNTOUCHED;

	ck_assert_int_eq(parse_bytes(slice_of(bytes_rows[_i].text), &value), bytes_rows[_i].good);
	ck_assert_int_eq(value, bytes_rows[_i].good ? bytes_rows[_i].value : UNTOUCHED);
}
END_TEST

static const struct {
	const char *text;
	const char *host; /* NULL: refused */
	uint16_t port;
} host_port_rows[] = {
	{"localhost:0", "localhost", 0},
	{"127.0.0.1:65535", "127.0.0.1", 65535},
	{"[::1]:9464", "::1", 9464},
	{"[h]:1", "h", 1},
	{"]:1", "]", 1}, /* no host; for the resolver to say so */
	{"", NULL, 0},
	{":", NULL, 0},
	{"h", NULL, 0},
	{"h:", NULL, 0},
	{":1", NULL, 0},
	{"[]:1", NULL, 0},
	{"[:1", NULL, 0},
	{"[::1:1", NULL, 0},
	{"[::1]", NULL, 0},
	{"::1]:1", NULL, 0},
	{"::1:1", NULL, 0},
	{"a:b:1", NULL, 0},
	{"h:65536", NULL, 0},
	{"h:-1", NULL, 0},
	{"h:1x", NULL, 0},
	{"h: 1", NULL, 0},
};

START_TEST(test_parse__host_port)
{
	struct slice host = SLICE_LITERAL("untouched");
	uint16_t port = UNTOUCHED;
	const char *wanted = host_port_rows[_i].host;

	ck_assert_int_eq(parse_host_port(slice_of(host_port_rows[_i].text), &host, &port), wanted != NULL);
	ck_assert(slice_equal(host, slice_of(wanted ? wanted : "untouched")));
	ck_assert_uint_eq(port, wanted ? host_port_rows[_i].port : UNTOUCHED);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("parse");
	TCase *tc = tcase_create("parse");
	tcase_add_loop_test(tc, test_parse__int64_takes_the_whole_text_or_nothing, 0, ROWS(int64_rows));
	tcase_add_test(tc, test_parse__within_includes_both_bounds);
	tcase_add_test(tc, test_parse__reads_no_byte_behind_the_slice);
	tcase_add_loop_test(tc, test_parse__duration_in_the_callers_unit, 0, ROWS(duration_rows));
	tcase_add_loop_test(tc, test_parse__bytes_with_binary_suffixes, 0, ROWS(bytes_rows));
	tcase_add_loop_test(tc, test_parse__host_port, 0, ROWS(host_port_rows));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
