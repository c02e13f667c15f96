#include "worker/pipeline/letter_news.h"

#include "common/log.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECOND INT64_C(1000000)

static FILE *stolen;
static char text[1 << 16];

static void steal_stderr(void)
{
	stolen = tmpfile();
	ck_assert_ptr_nonnull(stolen);
	ck_assert_int_ge(dup2(fileno(stolen), STDERR_FILENO), 0);
	log_setup(LOG_LOGFMT, LOG_INFO);
}

/* Returns: the last line without its time; *lines is how many there are. */
static const char *last_line(int *lines)
{
	ssize_t n = pread(fileno(stolen), text, sizeof(text) - 1, 0);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	const char *last = "";
	*lines = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), (*lines)++)
		last = strchr(line, ' ') + 1;
	return last;
}

static void note(struct letter_news *n, enum error_code code, int count)
{
	for (int i = 0; i < count; i++)
		letter_news_note(n, code, slice_of("events"), 3, 100 + i, code == ERROR_MISSING_FIELD ? "order_id" : "");
}

/* A line each 5 ms turn of a consumer that gets nothing but poison would be 12,000 of them. */
START_TEST(test_letter_news__a_minute_is_a_line)
{
	struct letter_news n = {0};
	int lines;

	for (int64_t now = 1000 * SECOND; now < 1120 * SECOND; now += 5000) {
		note(&n, ERROR_MISSING_FIELD, 2);
		note(&n, ERROR_NOT_JSON, 3);
		letter_news_say(&n, now);
	}
	ck_assert_str_eq(last_line(&lines), "level=warn msg=\"dead letters\" count=60000 "
			 "codes=not_json:36000,missing_field:24000 topic=events partition=3 offset=100 "
			 "code=missing_field field=order_id");
	ck_assert_int_eq(lines, 2);
	letter_news_end(&n); /* the end of the consumer: the rest is said, too */
	ck_assert_ptr_nonnull(strstr(last_line(&lines), " count=58995 "));
	ck_assert_int_eq(lines, 3);
	letter_news_end(&n);
	(void)last_line(&lines);
	ck_assert_int_eq(lines, 3);
}
END_TEST

/* What comes together is in the first line together; then silence while there is nothing to say. */
START_TEST(test_letter_news__the_first_is_said_soon)
{
	struct letter_news n = {0};
	int lines;

	for (int i = 0; i < 10; i++) {
		note(&n, ERROR_TOMBSTONE, 1);
		letter_news_say(&n, 1000 * SECOND + i * 1000);
	}
	(void)last_line(&lines);
	ck_assert_int_eq(lines, 0);
	letter_news_say(&n, 1001 * SECOND);
	ck_assert_str_eq(last_line(&lines), "level=warn msg=\"dead letters\" count=10 codes=tombstone:10 topic=events "
			 "partition=3 offset=100 code=tombstone field=\"\"");
	letter_news_say(&n, 2000 * SECOND);
	(void)last_line(&lines);
	ck_assert_int_eq(lines, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("letter_news");
	TCase *tc = tcase_create("letter_news");
	tcase_add_checked_fixture(tc, steal_stderr, NULL);
	tcase_add_test(tc, test_letter_news__a_minute_is_a_line);
	tcase_add_test(tc, test_letter_news__the_first_is_said_soon);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
