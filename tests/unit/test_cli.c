#include "worker/cli/cli.h"

#include <check.h>
#include <stdio.h>
#include <unistd.h>

static const struct command command = {.name = "test", .arguments = ""};
static char *words[16];
static struct cli cli;

#define CLI(...) set_words((const char *const[]){"test", __VA_ARGS__, NULL})

static void set_words(const char *const *given)
{
	cli = (struct cli){.command = &command, .argv = words};
	for (; *given; given++)
		words[cli.argc++] = (char *)*given;
	words[cli.argc] = NULL;
}

/* What is left, with '|' behind each. */
static const char *left(void)
{
	static char text[256];
	size_t len = 0;

	text[0] = '\0';
	for (int i = 1; i < cli.argc; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s|", cli.argv[i]);
	ck_assert_ptr_null(cli.argv[cli.argc]);
	return text;
}

START_TEST(test_cli__flag_is_taken_out_every_time)
{
	CLI("a", "--json", "--jsonx", "b", "--json");
	ck_assert(cli_flag(&cli, "json"));
	ck_assert_str_eq(left(), "a|--jsonx|b|");
	ck_assert(!cli_flag(&cli, "json"));
	ck_assert(!cli_flag(&cli, "a"));
}
END_TEST

START_TEST(test_cli__last_value_counts_in_either_form)
{
	CLI("--at", "1", "x", "--at=2", "--att", "y", "--at=");
	ck_assert_str_eq(cli_value(&cli, "at"), "");
	ck_assert_str_eq(left(), "x|--att|y|");
	ck_assert_ptr_null(cli_value(&cli, "at"));
}
END_TEST

START_TEST(test_cli__repeated_values_come_in_order)
{
	CLI("--loss=a:0:1-2", "--loss", "b:0:1-2", "f", "--loss", "--x");
	ck_assert_str_eq(cli_next_value(&cli, "loss"), "a:0:1-2");
	ck_assert_str_eq(cli_next_value(&cli, "loss"), "b:0:1-2");
	ck_assert_str_eq(cli_next_value(&cli, "loss"), "--x");
	ck_assert_ptr_null(cli_next_value(&cli, "loss"));
	ck_assert_str_eq(left(), "f|");
}
END_TEST

static const char *captured(int (*print)(void), int *result)
{
	static char text[512];
	FILE *file = tmpfile();

	fflush(stderr);
	int kept = dup(STDERR_FILENO);
	dup2(fileno(file), STDERR_FILENO);
	*result = print();
	fflush(stderr);
	dup2(kept, STDERR_FILENO);
	close(kept);
	ssize_t n = pread(fileno(file), text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	fclose(file);
	return text;
}

static int64_t number;

static int read_number(void)
{
	return cli_integer(&cli, "n", 1, 10, &number);
}

START_TEST(test_cli__integer_names_flag_value_and_bounds)
{
	static const struct {
		const char *value;
		bool good;
	} rows[] = {{"1", true}, {"10", true}, {"0", false}, {"11", false}, {"x", false}, {"", false}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char expected[128];
		int good;
		number = -1;
		CLI("--n", rows[i].value);
		const char *text = captured(read_number, &good);
		snprintf(expected, sizeof(expected), "delivery-worker test: --n: \"%s\" is not a number from 1 to 10\n",
			 rows[i].value);
		ck_assert_int_eq(good, rows[i].good);
		ck_assert_str_eq(text, rows[i].good ? "" : expected);
		ck_assert_int_eq(number == -1, !rows[i].good);
	}
	number = 5;
	CLI("x");
	ck_assert(read_number()); /* not given: as it was */
	ck_assert_int_eq(number, 5);
}
END_TEST

static int print_failure(void)
{
	return cli_fail(&cli, EXIT_CONFIG, "%s is %d", "it", 3);
}

START_TEST(test_cli__fail_prints_the_command_and_returns_the_code)
{
	int code;
	CLI("x");
	ck_assert_str_eq(captured(print_failure, &code), "delivery-worker test: it is 3\n");
	ck_assert_int_eq(code, EXIT_CONFIG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cli");
	TCase *tc = tcase_create("cli");
	tcase_add_test(tc, test_cli__flag_is_taken_out_every_time);
	tcase_add_test(tc, test_cli__last_value_counts_in_either_form);
	tcase_add_test(tc, test_cli__repeated_values_come_in_order);
	tcase_add_test(tc, test_cli__integer_names_flag_value_and_bounds);
	tcase_add_test(tc, test_cli__fail_prints_the_command_and_returns_the_code);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
