#include "common/json_writer.h"

#include <check.h>
#include <math.h>
#include <signal.h>

static struct buf out;
static struct json_writer w;

static void begin(void)
{
	w = json_writer_to(&out);
}

static void end(void)
{
	buf_release(&out);
}

START_TEST(test_json_writer__commas_and_nesting)
{
	json_put_open(&w, '{');
	json_put_key(&w, "a");
	json_put_int(&w, INT64_MIN);
	json_put_key(&w, "b");
	json_put_open(&w, '[');
	json_put_bool(&w, true);
	json_put_null(&w);
	json_put_open(&w, '{');
	json_put_close(&w, '}');
	json_put_open(&w, '[');
	json_put_close(&w, ']');
	json_put_text(&w, "x");
	json_put_close(&w, ']');
	json_put_key(&w, "c");
	json_put_bool(&w, false);
	json_put_close(&w, '}');
	ck_assert_str_eq(out.data, "{\"a\":-9223372036854775808,\"b\":[true,null,{},[],\"x\"],\"c\":false}");
}
END_TEST

START_TEST(test_json_writer__absent_is_null_and_empty_is_not)
{
	json_put_open(&w, '[');
	json_put_text(&w, NULL);
	json_put_string(&w, (struct slice){0});
	json_put_string(&w, SLICE_LITERAL(""));
	json_put_close(&w, ']');
	ck_assert_str_eq(out.data, "[null,null,\"\"]");
}
END_TEST

START_TEST(test_json_writer__names_and_texts_are_escaped)
{
	json_put_open(&w, '{');
	json_put_key(&w, "a\"\n");
	json_put_text(&w, "\"},{");
	json_put_close(&w, '}');
	ck_assert_str_eq(out.data, "{\"a\\\"\\n\":\"\\\"},{\"}");
}
END_TEST

START_TEST(test_json_writer__reals_are_json_numbers)
{
	json_put_open(&w, '[');
	json_put_real(&w, 0.1);
	json_put_real(&w, 1767225600.123456);
	json_put_real(&w, -2);
	json_put_real(&w, 1e300);
	json_put_real(&w, NAN);
	json_put_real(&w, INFINITY);
	json_put_close(&w, ']');
	ck_assert_str_eq(out.data, "[0.1,1767225600.123456,-2,1e+300,null,null]");
}
END_TEST

START_TEST(test_json_writer__top_level_value_alone)
{
	json_put_raw(&w, "12345678901234567890");
	ck_assert_str_eq(out.data, "12345678901234567890");
}
END_TEST

/* Each row ends the process; check runs it in one of its own. */
START_TEST(test_json_writer__misuse_ends_the_process)
{
	json_put_open(&w, _i < 3 ? '{' : '[');
	switch (_i) {
	case 0:
		json_put_int(&w, 1); /* value without a key */
		break;
	case 1:
		json_put_key(&w, "a");
		json_put_close(&w, '}'); /* key without a value */
		break;
	case 2:
		json_put_close(&w, ']'); /* another's bracket */
		break;
	case 3:
		json_put_key(&w, "a"); /* key in an array */
		break;
	case 4:
		for (int depth = 0; depth < JSON_WRITER_DEPTH_MAX; depth++)
			json_put_open(&w, '[');
		break;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("json_writer");
	TCase *tc = tcase_create("json_writer");
	tcase_add_checked_fixture(tc, begin, end);
	tcase_add_test(tc, test_json_writer__commas_and_nesting);
	tcase_add_test(tc, test_json_writer__absent_is_null_and_empty_is_not);
	tcase_add_test(tc, test_json_writer__names_and_texts_are_escaped);
	tcase_add_test(tc, test_json_writer__reals_are_json_numbers);
	tcase_add_test(tc, test_json_writer__top_level_value_alone);
	tcase_add_loop_test_raise_signal(tc, test_json_writer__misuse_ends_the_process, SIGABRT, 0, 5);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
