/* worker/cli/line_reader.c on a pipe: how its bytes are cut does not matter. */
#include "worker/cli/line_reader.h"

#include "common/ensure.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct pipe_case {
	int ends[2];
	struct line_reader reader;
};

static struct pipe_case pipe_case_of(void)
{
	struct pipe_case c;
	ENSURE(pipe(c.ends) == 0);
	c.reader = line_reader_of(c.ends[0]);
	return c;
}

static void pipe_case_release(struct pipe_case *c)
{
	line_reader_release(&c->reader);
	close(c->ends[0]);
}

static void give(struct pipe_case *c, const char *bytes, size_t len)
{
	ck_assert_int_eq(write(c->ends[1], bytes, len), (ssize_t)len);
}

static void expect(struct pipe_case *c, const char *wanted)
{
	struct slice line;
	ck_assert_int_eq(line_reader_next(&c->reader, -1, &line), LINE_FOUND);
	ck_assert_msg(slice_equal(line, slice_of(wanted)), "\"%.*s\" instead of \"%s\"", (int)line.len, line.data,
		      wanted);
}

static void expect_none(struct pipe_case *c, enum line_result wanted)
{
	struct slice line;
	ck_assert_int_eq(line_reader_next(&c->reader, 0, &line), wanted);
}

START_TEST(test_line_reader__lines_are_found_however_they_come)
{
	static const char text[] = "one\n\ntwo\r\nthree is longer\nlast";
	for (size_t piece = 1; piece < sizeof(text); piece++) {
		struct pipe_case c = pipe_case_of();
		struct slice line;
		struct buf all = BUF_INIT;
		/* After each piece all that is whole is taken. */
		for (size_t at = 0; at < sizeof(text) - 1; at += piece) {
			size_t left = sizeof(text) - 1 - at;
			give(&c, text + at, left < piece ? left : piece);
			while (line_reader_next(&c.reader, 0, &line) == LINE_FOUND)
				buf_printf(&all, "%.*s\n", (int)line.len, line.data);
		}
		ck_assert_str_eq(all.data, "one\n\ntwo\r\nthree is longer\n");
		expect_none(&c, LINE_NOT_YET);
		close(c.ends[1]);
		expect(&c, "last");
		expect_none(&c, LINE_END);
		ck_assert_int_eq(c.reader.error, 0);
		buf_release(&all);
		pipe_case_release(&c);
	}
}
END_TEST

START_TEST(test_line_reader__a_line_longer_than_what_is_read_at_once)
{
	enum { LONG = 300000 };
	struct pipe_case c = pipe_case_of();
	struct slice line;
	char *text = malloc(LONG);
	ck_assert_ptr_nonnull(text);
	memset(text, 'x', LONG);
	give(&c, "a\n", 2);
	for (int at = 0; at < LONG; at += 30000) {
		give(&c, text, 30000);
		if (at == 0)
			expect(&c, "a");
		expect_none(&c, LINE_NOT_YET);
	}
	give(&c, "\nb\n", 3);
	ck_assert_int_eq(line_reader_next(&c.reader, 0, &line), LINE_FOUND);
	ck_assert(slice_equal(line, (struct slice){text, LONG}));
	expect(&c, "b");
	close(c.ends[1]);
	expect_none(&c, LINE_END);
	free(text);
	pipe_case_release(&c);
}
END_TEST

START_TEST(test_line_reader__says_why_it_ended)
{
	struct line_reader r = line_reader_of(-1);
	struct slice line;
	int ends[2];
	ENSURE(pipe(ends) == 0);
	r.fd = ends[1]; /* is not for reading */
	close(ends[0]);
	ck_assert_int_eq(line_reader_next(&r, 0, &line), LINE_END);
	ck_assert_int_eq(r.error, EBADF);
	close(ends[1]);
	line_reader_release(&r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("line_reader");
	TCase *tcase = tcase_create("line_reader");
	tcase_add_test(tcase, test_line_reader__lines_are_found_however_they_come);
	tcase_add_test(tcase, test_line_reader__a_line_longer_than_what_is_read_at_once);
	tcase_add_test(tcase, test_line_reader__says_why_it_ended);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	bool fine = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
	srunner_free(runner);
	return fine ? 0 : 1;
}
