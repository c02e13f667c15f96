/* The log with a stderr that takes little, or nothing. Beside test_log.c, since here the clock runs. */
#include "common/log.h"

#include "common/clock.h"
#include "common/ensure.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 8192, PIPE = 4096, LINES = 400, TEXT_MAX = 1 << 20, LONG_MS = 60000 };

#define MISSING "level=warn msg=\"log lines dropped: stderr did not take them\" lines="

static int reader; /* the end that nobody reads unless the test does */
static char text[TEXT_MAX];
static size_t text_len;

static void stall_stderr(void)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, PIPE), 0);
	ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
	close(ends[1]);
	reader = ends[0];
	log_setup(LOG_LOGFMT, LOG_DEBUG); /* its limit a second is above LINES */
}

static void read_more(void)
{
	ck_assert_msg(poll(&(struct pollfd){.fd = reader, .events = POLLIN}, 1, 10000) == 1, "no more, behind %.2000s",
		      text_len > 2000 ? text + text_len - 2000 : text);
	ssize_t n = read(reader, text + text_len, TEXT_MAX - 1 - text_len);
	ck_assert_int_gt(n, 0);
	text_len += (size_t)n;
	text[text_len] = '\0';
}

/* Reads on until `wanted` has come. */
static void read_until(const char *wanted)
{
	while (!strstr(text, wanted))
		read_more();
}

/* As the log itself has said so far; it may say so more than once. */
static int missing_lines(void)
{
	int sum = 0, lines;
	for (const char *at = text; (at = strstr(at, MISSING)) != NULL; at++)
		if (strchr(at, '\n') && sscanf(at, MISSING "%d", &lines) == 1)
			sum += lines;
	return sum;
}

static void chatter(int lines)
{
	for (int i = 0; i < lines; i++)
		LOG(LOG_INFO, "chatter", LOG_I("i", i));
}

static int count_lines(const char *with)
{
	int lines = 0;
	for (const char *at = text; (at = strstr(at, with)) != NULL; at++)
		lines++;
	return lines;
}

START_TEST(test_log_writer__waits_for_nobody)
{
	log_start(BUFFER);
	chatter(LINES); /* more than pipe and buffer take: whoever waited would wait for ever */
	ck_assert_uint_gt(log_dropped_total(), 0);
	int dropped = (int)log_dropped_total();

	while (missing_lines() < dropped)
		read_more();
	LOG(LOG_INFO, "flows again");
	read_until("flows again");
	/* Nothing torn, nothing lost uncounted; what was taken in the end is told of before what comes then. */
	ck_assert_int_eq(missing_lines(), dropped);
	ck_assert_int_eq(count_lines("msg=chatter i="), LINES - dropped);
	ck_assert_int_eq(count_lines("\nts=") + 1, LINES - dropped + count_lines(MISSING) + 1);
	ck_assert_int_eq((int)log_dropped_total(), dropped);
	log_stop(LONG_MS);
}
END_TEST

START_TEST(test_log_writer__lines_keep_their_order)
{
	log_start(BUFFER);
	chatter(20);
	log_text(SLICE_LITERAL("delivery-worker run: plain words\n"));
	chatter(1);
	log_stop(LONG_MS);
	read_until("plain words\n");
	read_until("i=19\n");
	ck_assert_uint_eq(log_dropped_total(), 0);
	ck_assert_ptr_null(strstr(strstr(text, "plain words"), "i=19"));
	ck_assert_ptr_nonnull(strstr(strstr(text, "plain words"), "msg=chatter i=0\n"));
	for (int i = 0, at = 0; i < 20; i++) {
		char wanted[32];
		snprintf(wanted, sizeof(wanted), "i=%d\n", i);
		const char *found = strstr(text + at, wanted);
		ck_assert_ptr_nonnull(found);
		at = (int)(found - text);
	}
}
END_TEST

START_TEST(test_log_writer__stop_writes_what_is_buffered)
{
	log_start(64 * 1024);
	chatter(100); /* beyond the pipe */
	if (fork() == 0) {
		char byte;
		for (int lines = 0; lines < 100 && read(reader, &byte, 1) == 1;)
			lines += byte == '\n';
		_exit(0);
	}
	log_stop(LONG_MS);
	ck_assert_uint_eq(log_dropped_total(), 0);
	LOG(LOG_INFO, "written at once");
	read_until("written at once");
}
END_TEST

START_TEST(test_log_writer__stop_is_bounded)
{
	log_start(BUFFER);
	chatter(LINES);
	int64_t begin_ms = clock_mono_ms();
	log_stop(100);
	ck_assert_int_ge(clock_mono_ms() - begin_ms, 100);
	chatter(LINES); /* whoever is late does not wait either */
	log_stop(100);
}
END_TEST

/* What led to it comes before the word of the end; signal: SIGABRT. */
START_TEST(test_log_writer__a_failed_ensure_speaks_last)
{
	pid_t child = fork();
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		log_start(BUFFER);
		chatter(10);
		ENSURE(reader < 0);
	}
	read_until("reader < 0 at ");
	ck_assert_ptr_null(strstr(strstr(text, "reader < 0"), "chatter"));
	ck_assert_ptr_nonnull(strstr(text, "i=9\n"));
}
END_TEST

START_TEST(test_log_writer__a_failed_ensure_waits_for_no_reader)
{
	log_start(BUFFER);
	chatter(LINES);
	ENSURE(reader < 0); /* ends by SIGABRT, within the test's time */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log_writer");
	TCase *tc = tcase_create("log_writer");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, stall_stderr, NULL);
	tcase_add_test(tc, test_log_writer__waits_for_nobody);
	tcase_add_test(tc, test_log_writer__lines_keep_their_order);
	tcase_add_test(tc, test_log_writer__stop_writes_what_is_buffered);
	tcase_add_test(tc, test_log_writer__stop_is_bounded);
	tcase_add_test(tc, test_log_writer__a_failed_ensure_speaks_last);
	tcase_add_test_raise_signal(tc, test_log_writer__a_failed_ensure_waits_for_no_reader, SIGABRT);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
