#include "worker/pipeline/commit_times.h"

#include <check.h>
#include <inttypes.h>

enum { NONE = -1 };

static const struct {
	const char *what;
	int64_t position, noted_us;
	int64_t offset, read_us; /* the record that is read next */
	int64_t expected_us;     /* NONE: not known */
} rows[] = {
	{"known when it is sent", 10, 7, 12, 8, 7},
	{"the record at the position", 10, COMMIT_TIME_UNREAD, 10, 8, 8},
	{"a hole in the log", 10, COMMIT_TIME_UNREAD, 14, 8, 8},
	{"read again, from below", 10, COMMIT_TIME_UNREAD, 9, 8, NONE},
	{"a record without a time", 10, COMMIT_TIME_UNREAD, 10, -1, NONE},
	{"known to have none", 10, -1, 10, 8, NONE},
};

START_TEST(test_commit_times__the_next_record_is_the_one_behind_a_position)
{
	struct commit_times t = {0};

	commit_times_note(&t, rows[_i].position, rows[_i].noted_us, (const int64_t[]){NONE, NONE, NONE});
	commit_times_read(&t, rows[_i].offset, rows[_i].read_us);
	int64_t time_us = commit_times_at(&t, rows[_i].position);
	ck_assert_msg(time_us < 0 ? rows[_i].expected_us == NONE : time_us == rows[_i].expected_us, "%s: %" PRId64,
		      rows[_i].what, time_us);
	ck_assert_int_lt(commit_times_at(&t, rows[_i].position + 1), 0);
}
END_TEST

START_TEST(test_commit_times__the_first_of_many_records_counts)
{
	struct commit_times t = {0};

	commit_times_note(&t, 10, COMMIT_TIME_UNREAD, (const int64_t[]){NONE, NONE, NONE});
	commit_times_note(&t, 20, COMMIT_TIME_UNREAD, (const int64_t[]){10, NONE, NONE});
	for (int64_t offset = 5; offset < 30; offset += 4)
		commit_times_read(&t, offset, 1000 + offset);
	ck_assert_int_eq(commit_times_at(&t, 10), 1013);
	ck_assert_int_eq(commit_times_at(&t, 20), 1021);
}
END_TEST

/* As a partition does it, whose commits are slow: four positions at most, each with its time, and no other. */
START_TEST(test_commit_times__positions_on_their_way_are_kept)
{
	struct commit_times t = {0};

	for (int64_t round = 0; round < 100; round++) {
		const int64_t committed = 10 * (round / 5), committing = committed + 10, recorded = 10 * round + 20;
		commit_times_note(&t, committing, 100 + committing, (const int64_t[]){committed, NONE, recorded});
		commit_times_note(&t, recorded, 100 + recorded, (const int64_t[]){committed, committing, NONE});
		commit_times_note(&t, recorded + 10, 110 + recorded,
				  (const int64_t[]){committed, committing, recorded});
		ck_assert_uint_le(t.count, COMMIT_TIMES_MAX);
		if (round > 0)
			ck_assert_int_eq(commit_times_at(&t, committed), committed ? 100 + committed : NONE);
		ck_assert_int_eq(commit_times_at(&t, committing), 100 + committing);
		ck_assert_int_eq(commit_times_at(&t, recorded), 100 + recorded);
		ck_assert_int_eq(commit_times_at(&t, recorded + 10), 110 + recorded);
	}
	/* Known is known: a new reading that has come no further asks again. */
	commit_times_note(&t, 1010, COMMIT_TIME_UNREAD, (const int64_t[]){1010, NONE, NONE});
	ck_assert_int_eq(commit_times_at(&t, 1010), 1110);
	ck_assert_uint_eq(t.count, 1);
	commit_times_clear(&t);
	ck_assert_int_lt(commit_times_at(&t, 1010), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("commit_times");
	TCase *tc = tcase_create("commit_times");
	tcase_add_loop_test(tc, test_commit_times__the_next_record_is_the_one_behind_a_position, 0,
			    (int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_test(tc, test_commit_times__the_first_of_many_records_counts);
	tcase_add_test(tc, test_commit_times__positions_on_their_way_are_kept);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
