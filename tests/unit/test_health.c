#include "worker/observe/health.h"

#include "common/clock.h"
#include "common/thread.h"
#include "worker/observe/metrics.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

enum { SECOND = 1000000 };

START_TEST(test_health__alive_without_hearts)
{
	struct buf why = BUF_INIT;
	ck_assert(health_live(0, &why));
	ck_assert_uint_eq(why.len, 0);
	buf_release(&why);
}
END_TEST

static const struct {
	int64_t now_us;
	bool live;
} limit_rows[] = {
	{100 * SECOND, true},         /* the beat itself */
	{105 * SECOND, true},         /* exactly at the limit */
	{105 * SECOND + 1, false},
	{1000 * SECOND, false},
	{99 * SECOND, true},          /* a beat after the caller took its now */
};

START_TEST(test_health__a_heart_has_until_its_limit)
{
	struct buf why = BUF_INIT;
	struct heart *h = heart_start("worker-0", 5 * SECOND, 0);
	heart_beat(h, 100 * SECOND);
	ck_assert_int_eq(health_live(limit_rows[_i].now_us, &why), limit_rows[_i].live);
	ck_assert_int_eq(why.len == 0, limit_rows[_i].live);
	heart_stop(h);
	buf_release(&why);
}
END_TEST

START_TEST(test_health__starting_counts_as_a_beat)
{
	struct buf why = BUF_INIT;
	struct heart *h = heart_start("worker-0", 5 * SECOND, 100 * SECOND);
	ck_assert(health_live(104 * SECOND, &why));
	ck_assert(!health_live(106 * SECOND, &why));
	heart_stop(h);
	buf_release(&why);
}
END_TEST

START_TEST(test_health__only_the_silent_are_named)
{
	struct buf why = BUF_INIT;
	struct heart *a = heart_start("consumer-0", 5 * SECOND, 0);
	struct heart *b = heart_start("worker-0", 60 * SECOND, 0);
	struct heart *c = heart_start("worker-1", 5 * SECOND, 0);

	heart_beat(c, 30 * SECOND);
	ck_assert(!health_live(31 * SECOND, &why));
	ck_assert_ptr_nonnull(strstr(why.data, "consumer-0: no progress for 31000 ms (limit 5000 ms)\n"));
	ck_assert_ptr_null(strstr(why.data, "worker"));

	/* It stays dead whoever else beats, and is alive again once it beats. */
	heart_beat(b, 31 * SECOND);
	ck_assert(!health_live(31 * SECOND, &why));
	heart_beat(a, 32 * SECOND);
	ck_assert(health_live(32 * SECOND, &why));
	heart_stop(a);
	heart_stop(b);
	heart_stop(c);
	buf_release(&why);
}
END_TEST

START_TEST(test_health__a_thread_that_left_properly_is_not_missed)
{
	struct buf why = BUF_INIT;
	struct heart *a = heart_start("worker-0", SECOND, 0);
	struct heart *b = heart_start("worker-1", SECOND, 0);
	heart_stop(a);
	heart_beat(b, 100 * SECOND);
	ck_assert(health_live(100 * SECOND, &why));
	/* Its place is free again, and holds nothing of the one before. */
	a = heart_start("worker-2", SECOND, 100 * SECOND);
	ck_assert(health_live(100 * SECOND, &why));
	heart_stop(a);
	heart_stop(b);
	buf_release(&why);
}
END_TEST

static void *beat_own(void *argument)
{
	heart_beat_own(); /* this thread has none */
	return argument;
}

START_TEST(test_health__own_heart_is_the_thread_s)
{
	struct buf why = BUF_INIT;
	struct heart *h = heart_start("worker-0", SECOND, clock_mono_us() - 10 * SECOND);
	thread_join(thread_start("other", beat_own, NULL));
	ck_assert(!health_live(clock_mono_us(), &why));
	heart_beat_own();
	ck_assert(health_live(clock_mono_us(), &why));
	heart_stop(h);
	heart_beat_own();
	h = heart_start("worker-1", SECOND, clock_mono_us());
	heart_stop(h);
	buf_release(&why);
}
END_TEST

START_TEST(test_health__there_is_room_for_all_threads)
{
	struct buf why = BUF_INIT;
	struct heart *hearts[HEARTS_MAX];
	char name[24], line[32];

	for (int i = 0; i < HEARTS_MAX; i++) {
		snprintf(name, sizeof(name), "thread-%d", i);
		hearts[i] = heart_start(name, SECOND, 0);
	}
	ck_assert(!health_live(2 * SECOND, &why));
	for (int i = 0; i < HEARTS_MAX; i++) {
		snprintf(line, sizeof(line), "thread-%d: ", i);
		ck_assert_ptr_nonnull(strstr(why.data, line));
		heart_stop(hearts[i]);
	}
	ck_assert(health_live(2 * SECOND, &why));
	buf_release(&why);
}
END_TEST

/* All is well but what the row changes. */
static const struct {
	const char *name;
	int condition; /* to flip; -1: none */
	bool kafka_down, postgresql_down;
	const char *why; /* NULL: ready */
} ready_rows[] = {
	{"all well", -1, false, false, NULL},
	{"not started", HEALTH_STARTED, false, false, "starting\n"},
	{"schema unknown", HEALTH_SCHEMA_FITS, false, false, "schema: not known to fit (delivery-worker migrate)\n"},
	{"not in the group", HEALTH_JOINED, false, false, "group: not joined\n"},
	{"stopping", HEALTH_STOPPING, false, false, "stopping\n"},
	{"no kafka", -1, true, false, "kafka: unavailable\n"},
	{"no postgresql", -1, false, true, "postgresql: unavailable\n"},
	{"neither", -1, true, true, "kafka: unavailable\npostgresql: unavailable\n"},
	{"stopping and no kafka", HEALTH_STOPPING, true, false, "stopping\nkafka: unavailable\n"},
};

START_TEST(test_health__readiness_table)
{
	struct buf why = BUF_INIT;
	struct readiness r = {
		.conditions = {[HEALTH_STARTED] = true, [HEALTH_SCHEMA_FITS] = true, [HEALTH_JOINED] = true},
		.kafka_up = !ready_rows[_i].kafka_down,
		.postgresql_up = !ready_rows[_i].postgresql_down,
	};
	if (ready_rows[_i].condition >= 0)
		r.conditions[ready_rows[_i].condition] ^= true;
	bool ready = readiness_decide(&r, &why);
	ck_assert_msg(ready == !ready_rows[_i].why, "%s", ready_rows[_i].name);
	ck_assert_str_eq(buf_slice(&why).data, ready_rows[_i].why ? ready_rows[_i].why : "");
	buf_release(&why);
}
END_TEST

START_TEST(test_health__ready_follows_conditions_and_dependencies)
{
	struct buf why = BUF_INIT;

	ck_assert(!health_ready(&why)); /* a process that has only just begun */
	health_set(HEALTH_STARTED, true);
	health_set(HEALTH_SCHEMA_FITS, true);
	health_set(HEALTH_JOINED, true);
	metric_set(METRIC_UP_KAFKA, 1);
	ck_assert(!health_ready(&why));
	metric_set(METRIC_UP_POSTGRESQL, 1);
	ck_assert(health_ready(&why)); /* without Redis: it works on, degraded */
	metric_set(METRIC_UP_KAFKA, 0);
	ck_assert(!health_ready(&why));
	metric_set(METRIC_UP_KAFKA, 1);
	health_set(HEALTH_STOPPING, true);
	ck_assert(!health_ready(&why));
	buf_release(&why);
}
END_TEST

/* Dependencies are no matter of life: a restart would not mend them. */
START_TEST(test_health__alive_while_dependencies_are_down)
{
	struct buf why = BUF_INIT;
	struct heart *h = heart_start("worker-0", SECOND, 0);
	metric_set(METRIC_UP_KAFKA, 0);
	metric_set(METRIC_UP_POSTGRESQL, 0);
	heart_beat(h, 10 * SECOND);
	ck_assert(health_live(10 * SECOND, &why));
	heart_stop(h);
	buf_release(&why);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("health");
	TCase *tc = tcase_create("health");
	tcase_add_test(tc, test_health__alive_without_hearts);
	tcase_add_loop_test(tc, test_health__a_heart_has_until_its_limit, 0, ROWS(limit_rows));
	tcase_add_test(tc, test_health__starting_counts_as_a_beat);
	tcase_add_test(tc, test_health__only_the_silent_are_named);
	tcase_add_test(tc, test_health__a_thread_that_left_properly_is_not_missed);
	tcase_add_test(tc, test_health__own_heart_is_the_thread_s);
	tcase_add_test(tc, test_health__there_is_room_for_all_threads);
	tcase_add_loop_test(tc, test_health__readiness_table, 0, ROWS(ready_rows));
	tcase_add_test(tc, test_health__ready_follows_conditions_and_dependencies);
	tcase_add_test(tc, test_health__alive_while_dependencies_are_down);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
