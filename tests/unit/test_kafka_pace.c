/*
 * worker/kafka/kafka_pace.c against a fetcher as unfair as it can be: it serves the first partition that it may. No
 * partition gets far ahead of another that has records, none waits for one that has none, or that nobody can read.
 */
#include "worker/kafka/kafka_pace.h"

#include <check.h>
#include <stdlib.h>

enum {
	SLOTS = 12, /* of two topics */
	RECORD_BYTES = 700,
	LOOK_RECORDS = 1024,
	AHEAD_BYTES = 1024 * 1024,
	SPREAD_BYTES = AHEAD_BYTES + (LOOK_RECORDS + 1) * RECORD_BYTES, /* and what comes between looks */
	NOBODY = -1,
};

static struct slot slots[SLOTS];
static struct assigned_topic topics[2];
static struct assignment assignment;
static struct pace pace = {.ahead_bytes = AHEAD_BYTES};
static int left[SLOTS]; /* records of the log */
static bool away[SLOTS];

static void open_slots(int records)
{
	topics[0] = (struct assigned_topic){.name = "events", .slots = slots, .slot_count = SLOTS - 4};
	topics[1] = (struct assigned_topic){.name = "later", .slots = slots + SLOTS - 4, .slot_count = 4};
	assignment = (struct assignment){.topics = topics, .topic_count = 2};
	for (int i = 0; i < SLOTS; i++) {
		slots[i] = (struct slot){.wanted = true, .fetching = true};
		left[i] = records;
	}
}

static bool may_fetch(int i)
{
	return slots[i].wanted && !slots[i].paused && !slots[i].waiting && !away[i];
}

/* Returns: the slot whose record it was, or NOBODY. */
static int fetch(void)
{
	for (int i = 0; i < SLOTS; i++) {
		if (may_fetch(i) && left[i] == 0 && !slots[i].at_end) {
			slots[i].at_end = true;
			if (pace_look(&pace, &assignment))
				i = 0;
		}
		if (may_fetch(i) && left[i] > 0) {
			left[i]--;
			pace_record(&pace, &slots[i], RECORD_BYTES);
			return i;
		}
	}
	return NOBODY;
}

static void expect_side_by_side(void)
{
	int64_t least = INT64_MAX, most = 0;
	for (int i = 0; i < SLOTS; i++) {
		if (left[i] == 0 || away[i] || slots[i].paused || slots[i].at_end)
			continue;
		least = slots[i].bytes < least ? slots[i].bytes : least;
		most = slots[i].bytes > most ? slots[i].bytes : most;
	}
	/* ck_assert tells the parent process of each success, too: too slow for millions of them. */
	if (most - least > SPREAD_BYTES)
		ck_abort_msg("%lld bytes apart", (long long)(most - least));
}

/* Until nothing comes. Returns: how many records came; *polls: how many polls returned nothing before others did. */
static int read_all(bool even, int *polls)
{
	int records = 0, silent = 0;
	(void)!pace_look(&pace, &assignment);
	for (*polls = 0; silent < 100;) {
		if (fetch() == NOBODY) {
			silent++;
			(void)!pace_silence(&pace, &assignment);
			continue;
		}
		*polls += silent;
		silent = 0;
		if (++records % LOOK_RECORDS == 0)
			(void)!pace_look(&pace, &assignment);
		if (even)
			expect_side_by_side();
	}
	return records;
}

START_TEST(test_kafka_pace__partitions_are_side_by_side)
{
	int polls;
	open_slots(20000);
	ck_assert_int_eq(read_all(true, &polls), SLOTS * 20000);
	ck_assert_int_eq(polls, 0); /* nobody waits while somebody could be read */
}
END_TEST

START_TEST(test_kafka_pace__who_is_at_its_end_is_not_waited_for)
{
	int polls;
	open_slots(20000);
	for (int i = 1; i < SLOTS; i += 2)
		left[i] = i * 100;
	ck_assert_int_eq(read_all(true, &polls), SLOTS / 2 * 20000 + 36 * 100);
	ck_assert_int_eq(polls, 0);
	/* What comes later begins where the others are: it is not owed what it had no use for. */
	left[1] = left[2] = 20000;
	ck_assert_int_eq(read_all(true, &polls), 40000);
}
END_TEST

START_TEST(test_kafka_pace__who_can_not_be_read_is_waited_for_once)
{
	int polls;
	open_slots(20000);
	away[3] = true;
	ck_assert_int_eq(read_all(true, &polls), (SLOTS - 1) * 20000);
	ck_assert_int_eq(polls, 10);
	away[3] = false;
	ck_assert_int_eq(read_all(true, &polls), 20000);
}
END_TEST

START_TEST(test_kafka_pace__paused_ones_neither_wait_nor_are_waited_for)
{
	int polls;
	open_slots(20000);
	slots[4].paused = true;
	ck_assert_int_eq(read_all(true, &polls), (SLOTS - 1) * 20000);
	ck_assert_int_eq(polls, 0);
	ck_assert(!slots[4].waiting);
}
END_TEST

/* Back-pressure pauses all; what waited before goes on waiting, or the first would be read again. */
START_TEST(test_kafka_pace__waiting_outlives_a_pause_of_all)
{
	open_slots(20000);
	for (int i = 0; i < 4 * LOOK_RECORDS; i++)
		ck_assert_int_ne(fetch(), NOBODY);
	ck_assert(pace_look(&pace, &assignment));
	ck_assert(slots[0].waiting);
	for (int i = 0; i < SLOTS; i++)
		slots[i].paused = true;
	for (int i = 0; i < 100; i++)
		ck_assert(!pace_silence(&pace, &assignment));
	ck_assert(slots[0].waiting);
	for (int i = 0; i < SLOTS; i++)
		slots[i].paused = false;
	int polls;
	ck_assert_int_eq(read_all(false, &polls), SLOTS * 20000 - 4 * LOOK_RECORDS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kafka_pace");
	TCase *tc = tcase_create("kafka_pace");
	tcase_add_test(tc, test_kafka_pace__partitions_are_side_by_side);
	tcase_add_test(tc, test_kafka_pace__who_is_at_its_end_is_not_waited_for);
	tcase_add_test(tc, test_kafka_pace__who_can_not_be_read_is_waited_for_once);
	tcase_add_test(tc, test_kafka_pace__paused_ones_neither_wait_nor_are_waited_for);
	tcase_add_test(tc, test_kafka_pace__waiting_outlives_a_pause_of_all);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
