#include "worker/pipeline/news.h"

#include "common/log.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *stolen;
static char text[1 << 16];

static void steal_stderr(void)
{
	stolen = tmpfile();
	ck_assert_ptr_nonnull(stolen);
	ck_assert_int_ge(dup2(fileno(stolen), STDERR_FILENO), 0);
	log_setup(LOG_LOGFMT, LOG_INFO);
}

/* What was logged so far, without the times. */
static const char *logged(void)
{
	static char lines[sizeof(text)];
	ssize_t n = pread(fileno(stolen), text, sizeof(text) - 1, 0);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	lines[0] = '\0';
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		strcat(lines, strchr(line, ' ') + 1);
		strcat(lines, "\n");
	}
	return lines;
}

START_TEST(test_news__a_rebalance_is_a_line_a_topic)
{
	struct news n = {0};

	for (int32_t p = 7; p >= 0; p--)
		if (p != 3 && p != 6)
			news_add(&n, NEWS_ASSIGNED, "events", p, "");
	news_add(&n, NEWS_ASSIGNED, "events.deferred", 0, "");
	news_add(&n, NEWS_GONE, "events", 11, "");
	news_add(&n, NEWS_GONE, "events", 9, "");
	news_say(&n);
	ck_assert_str_eq(logged(), "level=info msg=partitions topic=events assigned=0-2,4-5,7\n"
				   "level=info msg=partitions topic=events.deferred assigned=0\n"
				   "level=info msg=partitions topic=events gone=9,11\n");
	news_say(&n); /* nothing new */
	news_add(&n, NEWS_RESTARTS, "events", 2, "");
	news_add(&n, NEWS_RESTARTS, "events", 2, ""); /* twice in one turn */
	news_say(&n);
	ck_assert_ptr_nonnull(strstr(logged(), "events gone=9,11\nlevel=info msg=partitions topic=events restart=2\n"));
	news_release(&n);
}
END_TEST

START_TEST(test_news__details_stand_alone)
{
	struct news n = {0};

	news_add(&n, NEWS_STARTS, "events", 0, "@10");
	news_add(&n, NEWS_STARTS, "events", 1, "@10");
	news_say(&n);
	ck_assert_str_eq(logged(), "level=info msg=partitions topic=events start=0@10,1@10\n");
	news_release(&n);
}
END_TEST

/* More than one line holds, and more than the log lets pass of one message if each had its own. */
START_TEST(test_news__every_lost_range_is_named)
{
	enum { PARTITIONS = 200 };
	struct news n = {0};
	char range[NEWS_DETAIL_BYTES], wanted[NEWS_DETAIL_BYTES];

	for (int32_t p = 0; p < PARTITIONS; p++) {
		snprintf(range, sizeof(range), ":1000000%d-2000000%d", (int)p, (int)p);
		news_add(&n, NEWS_LOST, "events", p, range);
	}
	news_say(&n);
	const char *lines = logged();
	ck_assert_ptr_null(strstr(lines, "suppressed"));
	ck_assert_ptr_null(strstr(lines, "cut="));
	for (int p = 0; p < PARTITIONS; p++) {
		snprintf(wanted, sizeof(wanted), "%d:1000000%d-2000000%d", p, p, p);
		ck_assert_msg(strstr(lines, wanted) != NULL, "%s is not named in %s", wanted, lines);
	}
	ck_assert_ptr_nonnull(strstr(lines, "level=error"));
	news_release(&n);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("news");
	TCase *tc = tcase_create("news");
	tcase_add_checked_fixture(tc, steal_stderr, NULL);
	tcase_add_test(tc, test_news__a_rebalance_is_a_line_a_topic);
	tcase_add_test(tc, test_news__details_stand_alone);
	tcase_add_test(tc, test_news__every_lost_range_is_named);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
