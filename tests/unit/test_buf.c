#include "common/buf.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_buf__stays_terminated)
{
	struct buf b = BUF_INIT;

	ck_assert_str_eq(buf_slice(&b).data, "");
	buf_puts(&b, "abc");
	ck_assert_str_eq(b.data, "abc");
	buf_clear(&b);
	ck_assert_str_eq(b.data, "");
	buf_printf(&b, "%s-%d", "x", 42);
	buf_putc(&b, '!');
	buf_append(&b, NULL, 0);
	ck_assert_str_eq(b.data, "x-42!");
	ck_assert_uint_eq(b.len, 5);
	buf_release(&b);
	ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(test_buf__grows_and_keeps_content)
{
	struct buf b = BUF_INIT;

	/* Every length around the capacities that doubling gives. */
	for (size_t i = 0; i < 5000; i++) {
		buf_putc(&b, (char)('a' + i % 26));
		ck_assert_uint_gt(b.capacity, b.len);
	}
	for (size_t i = 0; i < 5000; i++)
		ck_assert_int_eq(b.data[i], (char)('a' + i % 26));
	buf_release(&b);
}
END_TEST

START_TEST(test_buf__reserve_gives_room_behind_content)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "head");
	char *end = buf_reserve(&b, 10000);
	ck_assert_ptr_eq(end, b.data + 4);
	memset(end, 'x', 10000);
	b.len += 10000;
	buf_puts(&b, "tail");
	ck_assert_uint_eq(b.len, 10008);
	ck_assert_str_eq(b.data + 10004, "tail");
	ck_assert_mem_eq(b.data, "headxxx", 7);
	buf_release(&b);
}
END_TEST

START_TEST(test_buf__printf_of_any_length)
{
	struct buf b = BUF_INIT;

	for (int width = 1; width < 300; width++) {
		buf_clear(&b);
		buf_printf(&b, "%*d", width, 7);
		ck_assert_uint_eq(b.len, (size_t)width);
		ck_assert_uint_eq(strlen(b.data), (size_t)width);
	}
	buf_release(&b);
}
END_TEST

static const struct {
	struct slice text;
	const char *json;
} json_rows[] = {
	{SLICE_LITERAL(""), "\"\""},
	{SLICE_LITERAL("plain"), "\"plain\""},
	{SLICE_LITERAL("a\"b\\c/d"), "\"a\\\"b\\\\c/d\""},
	{SLICE_LITERAL("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\""},
	{SLICE_LITERAL("\0\x01\x1f\x7f"), "\"\\u0000\\u0001\\u001f\x7f\""},
	{SLICE_LITERAL("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
	{SLICE_LITERAL("a\xff\x62"), "\"a\xef\xbf\xbd\x62\""},
	{SLICE_LITERAL("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},                                 /* overlong NUL */
	{SLICE_LITERAL("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* surrogate */
	{SLICE_LITERAL("\xf4\x90\x80\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* U+110000 */
	{SLICE_LITERAL("x\xe2\x82"), "\"x\xef\xbf\xbd\xef\xbf\xbd\""},                               /* cut short */
	{{NULL, 0}, "\"\""},
};

START_TEST(test_buf__json_string_is_valid_json)
{
	struct buf b = BUF_INIT;

	buf_put_json_string(&b, json_rows[_i].text);
	ck_assert_str_eq(b.data, json_rows[_i].json);
	buf_release(&b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("buf");
	TCase *tc = tcase_create("buf");
	tcase_add_test(tc, test_buf__stays_terminated);
	tcase_add_test(tc, test_buf__grows_and_keeps_content);
	tcase_add_test(tc, test_buf__reserve_gives_room_behind_content);
	tcase_add_test(tc, test_buf__printf_of_any_length);
	tcase_add_loop_test(tc, test_buf__json_string_is_valid_json, 0,
			    (int)(sizeof(json_rows) / sizeof(json_rows[0])));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
