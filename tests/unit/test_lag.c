/*
 * The arithmetic by table; the thread against brokers played here, in place of kafka_admin.c: the linker
 * takes these and leaves the archive's.
 */
#include "worker/observe/lag.h"

#include "common/clock.h"
#include "common/thread.h"
#include "worker/observe/metrics.h"
#include "worker/observe/partition_lag.h"

#include <check.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { INTERVAL_MS = 20, PARTITIONS = 8 };

#define SECOND INT64_C(1000000)

/* ---- the brokers ---- */

struct log {
	int64_t low, high, committed;
	int64_t first_us;    /* time of the record that a look finds; -1: a record without one; -2: a gap to the end */
	bool silent, hanging, damaged;
	int asked, looked;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static struct log logs[PARTITIONS];
static int opened;

int kafka_admin_open(const struct kafka_settings *s, struct kafka_admin **out, char *error, size_t error_size)
{
	if (strcmp(s->brokers, "refused") == 0) {
		snprintf(error, error_size, "refused");
		return -1;
	}
	opened++;
	*out = NULL;
	return 0;
}

void kafka_admin_close(struct kafka_admin *a)
{
	ck_assert_ptr_null(a);
	opened--;
}

const char *kafka_admin_error(const struct kafka_admin *a)
{
	ck_assert_ptr_null(a);
	return "silent";
}

int kafka_admin_partition_count(struct kafka_admin *a, const char *topic, int timeout_ms)
{
	(void)a, (void)topic, (void)timeout_ms;
	return 1;
}

enum kafka_answer kafka_admin_committed(struct kafka_admin *a, struct kafka_committed *entries, size_t count,
					int timeout_ms)
{
	ck_assert_ptr_null(a);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_gt(timeout_ms, 0);
	mutex_lock(&lock);
	struct log *log = &logs[entries[0].partition];
	bool silent = log->silent;
	entries[0].offset = log->committed;
	mutex_unlock(&lock);
	return silent ? KAFKA_UNAVAILABLE : KAFKA_OK;
}

enum kafka_answer kafka_admin_watermarks(struct kafka_admin *a, const char *topic, int32_t partition, int timeout_ms,
					 int64_t *low, int64_t *high)
{
	ck_assert_ptr_null(a);
	ck_assert_str_eq(topic, "events");
	ck_assert_int_gt(timeout_ms, 0);
	mutex_lock(&lock);
	struct log *log = &logs[partition];
	log->asked++;
	cond_broadcast(&changed);
	while (log->hanging)
		cond_wait(&changed, &lock);
	bool silent = log->silent;
	if (!silent) {
		*low = log->low;
		*high = log->high;
	}
	mutex_unlock(&lock);
	return silent ? KAFKA_UNAVAILABLE : KAFKA_OK;
}

enum kafka_answer kafka_admin_read(struct kafka_admin *a, const char *topic, int32_t partition, int64_t offset,
				   int idle_timeout_ms, kafka_visit *visit, void *owner, int64_t *next)
{
	ck_assert_ptr_null(a);
	ck_assert_int_gt(idle_timeout_ms, 0);
	mutex_lock(&lock);
	struct log *log = &logs[partition];
	struct kafka_record record = {.topic = topic, .partition = partition, .offset = offset};
	record.timestamp_us = log->first_us;
	log->looked++;
	bool damaged = log->damaged;
	*next = log->first_us == -2 ? log->high : offset + 1;
	cond_broadcast(&changed);
	mutex_unlock(&lock);
	if (damaged)
		return KAFKA_DAMAGED;
	if (record.timestamp_us != -2)
		ck_assert_msg(!visit(owner, &record), "more than one record is read");
	return KAFKA_OK;
}

/* Waits until `partition` was asked `times` more times: the answers before the last of them are in. */
static void wait_asked(int partition, int times)
{
	int64_t deadline_us = clock_mono_us() + 10 * SECOND;

	mutex_lock(&lock);
	int until = logs[partition].asked + times;
	while (logs[partition].asked < until)
		ck_assert_msg(cond_wait_until(&changed, &lock, deadline_us), "partition %d is not asked", partition);
	mutex_unlock(&lock);
}

static void set_log(int partition, struct log log)
{
	mutex_lock(&lock);
	log.asked = logs[partition].asked;
	log.looked = logs[partition].looked;
	logs[partition] = log;
	cond_broadcast(&changed);
	mutex_unlock(&lock);
}

static FILE *stolen;

/* Lines of the log so far that hold `words`. */
static int logged(const char *words)
{
	static char text[1 << 16];
	ssize_t n = pread(fileno(stolen), text, sizeof(text) - 1, 0);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	int count = 0;
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		count++;
	return count;
}

static void steal_stderr(void)
{
	stolen = tmpfile();
	ck_assert_ptr_nonnull(stolen);
	ck_assert_int_ge(dup2(fileno(stolen), STDERR_FILENO), 0);
}

static const struct lag_position nothing_known = {
	.committed = -1, .uncommitted_us = -1, .next = -1, .lost = -1, .state = ""};

/* Committed up to where it reads: nothing in flight, so the time of the next record is not known here. */
static void publish_idle(int partition, int64_t position)
{
	lag_publish("events", partition, &(struct lag_position){.committed = position, .uncommitted_us = -1,
								.next = position, .state = "idle"});
}

static void begin(void)
{
	const struct kafka_settings settings = {.brokers = "there", .group = "g"};
	char error[128];

	cond_init(&changed);
	ck_assert_int_eq(lag_start(&settings, "events", INTERVAL_MS, error, sizeof(error)), 0);
	ck_assert_int_eq(opened, 1);
}

static void end(void)
{
	lag_stop();
	ck_assert_int_eq(opened, 0);
	for (int p = 0; p < PARTITIONS; p++)
		lag_remove("events", p);
}

/* Returns: whether the family shows a value for the partition. */
static bool shown(const char *family, int partition, double *value)
{
	struct buf text = BUF_INIT;
	char series[160];

	lag_expose(&text, "g");
	snprintf(series, sizeof(series), "\ndelivery_worker_%s{topic=\"events\",partition=\"%d\",group=\"g\"} ", family,
		 partition);
	const char *found = strstr(text.data, series);
	bool there = found && sscanf(found + strlen(series), "%lf", value) == 1;
	buf_release(&text);
	return there;
}

/* Scrapes until the family shows `expected` (or, if `there` is false, nothing). */
static void wait_shown(const char *family, int partition, bool there, double expected)
{
	int64_t deadline_us = clock_mono_us() + 10 * SECOND;
	double value = -1;

	for (;;) {
		bool is_there = shown(family, partition, &value);
		if (is_there == there && (!there || value == expected))
			return;
		ck_assert_msg(clock_mono_us() < deadline_us, "%s of %d: %d, %g", family, partition, is_there, value);
		poll(NULL, 0, 2);
	}
}

/* ---- arithmetic ---- */

#define NOW_MONO (1000 * SECOND)
#define NOW_WALL (2000000000 * SECOND)
#define STALE (15 * SECOND)
#define AGO(seconds) (NOW_WALL - (seconds) * SECOND)
#define FRESH NOW_MONO
#define PROVEN 4

static const struct {
	const char *name;
	int64_t committed, uncommitted_us, next;
	int64_t low, high, answered_us;
	int64_t seen_at, seen_us, seen_next;
	int64_t offsets;  /* -1: unknown */
	double seconds;   /* -1: unknown; PROVEN: the owner and the brokers have told what they know so long ago */
	bool needs_look;
} lag_rows[] = {
	{"nothing is known", -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, false},
	{"no end yet", 10, -1, 10, -1, -1, -1, -1, -1, -1, -1, -1, false},
	{"no end yet, but a record in flight", 10, AGO(3), 11, -1, -1, -1, -1, -1, -1, -1, 3, false},
	{"at the end", 10, -1, 10, 0, 10, FRESH, -1, -1, -1, 0, 0, false},
	{"an empty log without a commit", -1, -1, -1, 0, 0, FRESH, -1, -1, -1, 0, 0, false},
	{"a log emptied by retention, without a commit", -1, -1, -1, 70, 70, FRESH, -1, -1, -1, 0, 0, false},
	{"no commit: from the start of the log", -1, -1, -1, 40, 100, FRESH, -1, -1, -1, 60, PROVEN, true},
	{"not asked yet", LAG_UNKNOWN, -1, -1, 40, 100, FRESH, -1, -1, -1, -1, -1, false},
	{"no commit, first record seen", -1, -1, -1, 40, 100, FRESH, 40, AGO(9), 40, 60, 9, false},
	{"no commit, the start has moved on", -1, -1, -1, 50, 100, FRESH, 40, AGO(9), 40, 50, PROVEN, true},
	{"the owner knows the time", 10, AGO(7), 15, 0, 30, FRESH, -1, -1, -1, 20, 7, false},
	{"the owner knows better than a look", 10, AGO(7), 15, 0, 30, FRESH, 10, AGO(8), 10, 20, 7, false},
	{"nobody knows the time", 10, -1, 10, 0, 30, FRESH, -1, -1, -1, 20, PROVEN, true},
	{"a look told", 10, -1, 10, 0, 30, FRESH, 10, AGO(100), 10, 20, 100, false},
	{"a look at an earlier position tells nothing", 11, -1, 11, 0, 30, FRESH, 10, AGO(100), 10, 19, PROVEN, true},
	{"a record without a time", 10, -1, 10, 0, 30, FRESH, 10, -1, 10, 20, PROVEN, true},
	{"a gap to the end", 10, -1, 10, 0, 12, FRESH, 10, -1, 12, 0, 0, false},
	{"a gap, and more behind it since", 10, -1, 10, 0, 15, FRESH, 10, -1, 12, 3, PROVEN, true},
	{"the consumer is further than the last answer", 10, AGO(1), 40, 0, 30, FRESH, -1, -1, -1, 30, 1, false},
	{"the commit is further than the last answer", 40, -1, 40, 0, 30, FRESH, -1, -1, -1, 0, 0, false},
	{"an answer just young enough", 10, -1, 10, 0, 30, FRESH - STALE, 10, AGO(5), 10, 20, 5, false},
	{"an answer too old", 10, -1, 10, 0, 10, FRESH - STALE - 1, -1, -1, -1, -1, -1, false},
	{"too old, but a record in flight", 10, AGO(60), 12, 0, 30, FRESH - STALE - 1, -1, -1, -1, -1, 60, false},
	{"a record stamped by a clock ahead of ours", 10, AGO(-5), 12, 0, 30, FRESH, -1, -1, -1, 20, 0, false},
	{"a backlog of weeks", 10, AGO(3000000), 12, 0, 30, FRESH, -1, -1, -1, 20, 3000000, false},
	{"too old, but known to be there", 10, -1, 10, 0, 30, FRESH - STALE - 1, -1, -1, -1, -1, PROVEN, true},
	{"the log ends below the commit", 40, -1, -1, 0, 30, FRESH, -1, -1, -1, -1, -1, false},
	{"what lies below the start of the log is gone", 10, -1, -1, 40, 100, FRESH, -1, -1, -1, 90, PROVEN, true},
	{"gone, and the first that is left was seen", 10, -1, -1, 40, 100, FRESH, 40, AGO(9), 40, 90, 9, false},
	{"nothing is left", 10, -1, -1, 40, 40, FRESH, -1, -1, -1, 30, PROVEN, false},
};

START_TEST(test_lag__arithmetic_table)
{
	struct partition_lag p;
	double seconds = -2;

	partition_lag_init(&p);
	p.seen_at = lag_rows[_i].seen_at;
	p.seen_us = lag_rows[_i].seen_us;
	p.seen_next = lag_rows[_i].seen_next;
	const struct lag_position position = {.committed = lag_rows[_i].committed,
					      .uncommitted_us = lag_rows[_i].uncommitted_us,
					      .next = lag_rows[_i].next,
					      .state = ""};
	partition_lag_publish(&p, &position, NOW_MONO - PROVEN * SECOND);
	if (lag_rows[_i].answered_us >= 0)
		partition_lag_answer(&p, lag_rows[_i].low, lag_rows[_i].high, NOW_MONO - PROVEN * SECOND);
	p.answered_us = lag_rows[_i].answered_us;

	int64_t offsets = partition_lag_offsets(&p, NOW_MONO, STALE);
	ck_assert_msg(offsets == lag_rows[_i].offsets, "%s: %" PRId64 " offsets", lag_rows[_i].name, offsets);
	bool known = partition_lag_seconds(&p, NOW_MONO, STALE, NOW_WALL, &seconds);
	ck_assert_msg(known == (lag_rows[_i].seconds >= 0), "%s: seconds %s", lag_rows[_i].name,
		      known ? "known" : "unknown");
	ck_assert_msg(!known || seconds == lag_rows[_i].seconds, "%s: %g s", lag_rows[_i].name, seconds);
	ck_assert_msg(partition_lag_needs_look(&p) == lag_rows[_i].needs_look, "%s: look", lag_rows[_i].name);
}
END_TEST

/* Nobody sees a record: its age is at least the time since the log was known to go beyond it. */
START_TEST(test_lag__an_unseen_record_ages_since_it_was_known)
{
	static const struct {
		const char *what;
		int64_t at_s;
		int64_t committed, high; /* -1: not told at that time */
		double seconds;          /* at that time; -1: unknown */
	} steps[] = {
		{"assigned, nothing is known", 0, LAG_UNKNOWN, -1, -1},
		{"the end, but not what is committed", 1, -1, 100, -1},
		{"the commit: as old as the answer about the end", 5, 10, -1, 4},
		{"the end moves on", 7, -1, 200, 6},
		{"a commit below the end as it was first known", 8, 99, -1, 7},
		{"one beyond it: known to be there since the next answer", 9, 100, -1, 2},
		{"still the same record", 10, -1, 300, 3},
		{"all is committed", 20, 300, -1, 0},
		{"and there is more", 30, -1, 310, 0},
		{"which ages", 35, -1, 310, 5},
		{"another log, in which that is not", 36, -1, 305, 0},
		{"which ends below the commit", 37, -1, 20, -1},
	};
	struct lag_position position = {.committed = LAG_UNKNOWN, .uncommitted_us = -1, .next = -1, .state = ""};
	struct partition_lag p;
	double seconds = -2;

	partition_lag_init(&p);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int64_t now_us = NOW_MONO + steps[i].at_s * SECOND;
		if (steps[i].high >= 0)
			partition_lag_answer(&p, 0, steps[i].high, now_us);
		if (steps[i].committed != -1)
			position.committed = steps[i].committed;
		partition_lag_publish(&p, &position, now_us);
		bool known = partition_lag_seconds(&p, now_us, 1000 * SECOND, NOW_WALL, &seconds);
		ck_assert_msg(known == (steps[i].seconds >= 0) && (!known || seconds == steps[i].seconds),
			      "%s: %d, %g s", steps[i].what, known, seconds);
	}
}
END_TEST

START_TEST(test_lag__the_commit_is_asked_for_while_the_owner_waits)
{
	struct partition_lag p;

	partition_lag_init(&p);
	p.position = (struct lag_position){.committed = LAG_UNKNOWN, .uncommitted_us = -1, .next = -1, .state = "resolving"};
	p.low = 40, p.high = 100, p.answered_us = FRESH;
	ck_assert_int_eq(partition_lag_offsets(&p, NOW_MONO, STALE), -1);
	p.asked = -1; /* Kafka has none */
	ck_assert_int_eq(partition_lag_offsets(&p, NOW_MONO, STALE), 60);
	p.asked = 90;
	ck_assert_int_eq(partition_lag_offsets(&p, NOW_MONO, STALE), 10);
	ck_assert_int_eq(partition_lag_committed(&p), 90);
	p.position.committed = 95; /* the owner knows better from now on */
	ck_assert_int_eq(partition_lag_offsets(&p, NOW_MONO, STALE), 5);
}
END_TEST

START_TEST(test_lag__seconds_grow_with_the_clock_alone)
{
	struct partition_lag p;
	double seconds;

	partition_lag_init(&p);
	p.position = (struct lag_position){.committed = 10, .uncommitted_us = NOW_WALL, .next = 20, .state = "hung"};
	for (int64_t later_us = 0; later_us <= 100 * SECOND; later_us += 50 * SECOND) {
		ck_assert(partition_lag_seconds(&p, NOW_MONO + later_us, STALE, NOW_WALL + later_us, &seconds));
		ck_assert(seconds == (double)later_us / SECOND);
	}
}
END_TEST

/* ---- the thread ---- */

START_TEST(test_lag__unknown_is_left_out)
{
	double value;

	lag_publish("events", 3, &nothing_known); /* nobody has been asked: there is no thread */
	ck_assert(!shown("consumer_lag", 3, &value));
	ck_assert(!shown("consumer_lag_seconds", 3, &value));
	ck_assert(!shown("consumer_end_offset", 3, &value));
	ck_assert(!shown("consumer_committed_offset", 3, &value));
	ck_assert(!shown("partition_offsets_lost", 3, &value));
	ck_assert(shown("consumer_partition_paused", 3, &value));
	ck_assert_int_eq(lag_total(), -1);
	lag_remove("events", 3);
	ck_assert_int_eq(lag_total(), 0);
}
END_TEST

START_TEST(test_lag__all_families_of_a_partition)
{
	double value;

	set_log(2, (struct log){.low = 5, .high = 100, .first_us = clock_wall_us() - 50 * SECOND});
	begin();
	lag_publish("events", 2, &(struct lag_position){.committed = 60, .uncommitted_us = -1, .next = 60,
							.lost = 7, .paused = true, .state = "paused"});
	wait_shown("consumer_lag", 2, true, 40);
	wait_asked(2, 2);
	ck_assert(shown("consumer_end_offset", 2, &value) && value == 100);
	ck_assert(shown("consumer_committed_offset", 2, &value) && value == 60);
	ck_assert(shown("consumer_partition_paused", 2, &value) && value == 1);
	ck_assert(shown("partition_offsets_lost", 2, &value) && value == 7);
	ck_assert(shown("consumer_lag_seconds", 2, &value) && value >= 50 && value < 60);
	ck_assert_int_eq(lag_total(), 40);
	end();
}
END_TEST

START_TEST(test_lag__a_record_is_looked_at_once)
{
	double value;

	set_log(0, (struct log){.low = 0, .high = 100, .first_us = clock_wall_us() - 50 * SECOND});
	begin();
	publish_idle(0, 60);
	wait_asked(0, 5);
	mutex_lock(&lock);
	ck_assert_int_eq(logs[0].looked, 1);
	mutex_unlock(&lock);
	/* A new position is another record. */
	publish_idle(0, 61);
	wait_asked(0, 3);
	mutex_lock(&lock);
	ck_assert_int_eq(logs[0].looked, 2);
	mutex_unlock(&lock);
	ck_assert(shown("consumer_lag_seconds", 0, &value) && value >= 50);
	end();
}
END_TEST

START_TEST(test_lag__a_gap_at_the_end_is_no_lag)
{
	double value;

	set_log(0, (struct log){.low = 0, .high = 62, .first_us = -2});
	begin();
	publish_idle(0, 60);
	wait_shown("consumer_lag", 0, true, 0);
	ck_assert(shown("consumer_lag_seconds", 0, &value) && value == 0);
	end();
}
END_TEST

START_TEST(test_lag__is_right_while_the_brokers_hang)
{
	double before, after;

	set_log(0, (struct log){.low = 0, .high = 100, .first_us = clock_wall_us() - 50 * SECOND});
	begin();
	publish_idle(0, 60);
	wait_shown("consumer_lag", 0, true, 40);
	wait_asked(0, 2);
	set_log(0, (struct log){.low = 0, .high = 100, .hanging = true});
	wait_asked(0, 1);

	/* The scrape does not wait for the thread, the offsets expire, and the record goes on ageing. */
	ck_assert(shown("consumer_lag_seconds", 0, &before));
	wait_shown("consumer_lag", 0, false, 0);
	ck_assert(shown("consumer_lag_seconds", 0, &after));
	ck_assert_msg(after > before, "%g then %g", before, after);
	ck_assert_int_eq(lag_total(), -1);
	set_log(0, (struct log){.low = 0, .high = 100});
	end();
}
END_TEST

START_TEST(test_lag__silence_makes_unknown_and_an_answer_known)
{
	double value;

	set_log(0, (struct log){.low = 0, .high = 100, .first_us = -1});
	begin();
	publish_idle(0, 60);
	wait_shown("consumer_lag", 0, true, 40);
	ck_assert_int_eq(logged("kafka"), 0);
	set_log(0, (struct log){.silent = true});
	wait_shown("consumer_lag", 0, false, 0);
	ck_assert_int_eq(logged("kafka unavailable: no answer about the log's end, lag will be unknown"), 1);
	ck_assert(!shown("consumer_end_offset", 0, &value));
	ck_assert(shown("consumer_committed_offset", 0, &value) && value == 60);
	set_log(0, (struct log){.low = 0, .high = 110, .first_us = -1});
	wait_shown("consumer_lag", 0, true, 50);
	wait_asked(0, 2);
	ck_assert_int_eq(logged("kafka available again: lag is known"), 1);
	ck_assert_int_eq(logged("kafka"), 2);
	end();
}
END_TEST

/* A partition that waits for PostgreSQL to say where it starts. */
START_TEST(test_lag__of_who_waits_for_its_start_is_known)
{
	set_log(0, (struct log){.low = 0, .high = 100, .committed = 70, .first_us = -1});
	set_log(1, (struct log){.low = 20, .high = 100, .committed = -1, .first_us = -1});
	for (int p = 0; p < 2; p++)
		lag_publish("events", p, &(struct lag_position){.committed = LAG_UNKNOWN, .uncommitted_us = -1, .next = -1,
								.state = "resolving"});
	begin();
	wait_shown("consumer_lag", 0, true, 30);
	wait_shown("consumer_committed_offset", 0, true, 70);
	wait_shown("consumer_lag", 1, true, 80);
	end();
}
END_TEST

START_TEST(test_lag__a_dead_broker_hides_no_others)
{
	for (int p = 0; p < PARTITIONS; p++) {
		set_log(p, (struct log){.low = 0, .high = 100, .silent = p != PARTITIONS - 2});
		lag_publish("events", p, &(struct lag_position){.committed = 90, .uncommitted_us = 1, .next = 91,
								.state = "fetching"});
	}
	begin();
	wait_shown("consumer_lag", PARTITIONS - 2, true, 10);
	wait_shown("consumer_lag", 0, false, 0);
	end();
}
END_TEST

static void wait_up(int wanted)
{
	int64_t deadline_us = clock_mono_us() + 10 * SECOND;

	while (metric_get(METRIC_UP_KAFKA) != wanted) {
		ck_assert_msg(clock_mono_us() < deadline_us, "dependency_up{kafka} is not %d", wanted);
		poll(NULL, 0, 2);
	}
}

/* More of them than the silent answers that end a round. */
START_TEST(test_lag__a_damaged_log_is_an_answer)
{
	double value;

	metric_set(METRIC_UP_KAFKA, 0);
	for (int p = 0; p < PARTITIONS; p++) {
		set_log(p, (struct log){.low = 0, .high = 100, .first_us = clock_wall_us() - 50 * SECOND,
					.damaged = p < PARTITIONS - 1});
		publish_idle(p, 60);
	}
	begin();
	wait_up(1);
	for (int p = 0; p < PARTITIONS; p++) {
		wait_shown("consumer_lag", p, true, 40);
		/* Behind the damage is a record, of whose age the least is known. */
		ck_assert(shown("consumer_lag_seconds", p, &value));
		ck_assert_msg(p == PARTITIONS - 1 ? value >= 50 : value < 50, "partition %d: %g s", p, value);
	}
	set_log(PARTITIONS - 1, (struct log){.silent = true});
	wait_up(0);
	set_log(PARTITIONS - 1, (struct log){.low = 0, .high = 60});
	set_log(0, (struct log){.low = 0, .high = 60});
	wait_up(1);
	wait_shown("consumer_lag_seconds", 0, true, 0);
	end();
}
END_TEST

START_TEST(test_lag__series_go_with_the_partition)
{
	struct buf text = BUF_INIT;
	double value;

	set_log(0, (struct log){.low = 0, .high = 100, .first_us = -1});
	set_log(1, (struct log){.low = 0, .high = 200, .first_us = -1});
	begin();
	publish_idle(0, 100);
	publish_idle(1, 100);
	wait_shown("consumer_lag", 0, true, 0);
	wait_shown("consumer_lag", 1, true, 100);
	lag_remove("events", 0);
	ck_assert(shown("consumer_lag", 1, &value) && value == 100);
	lag_expose(&text, "g");
	ck_assert_ptr_null(strstr(text.data, "partition=\"0\""));
	/* Assigned again, it begins without a memory of before. */
	lag_publish("events", 0, &nothing_known);
	ck_assert(!shown("consumer_committed_offset", 0, &value));
	wait_shown("consumer_lag", 0, true, 100);
	end();
	buf_release(&text);
}
END_TEST

/* Published out of order; shown by topic, partition as a number, each family in one piece. */
START_TEST(test_lag__series_are_sorted_and_escaped)
{
	static const char expected[] =
		"# TYPE delivery_worker_consumer_partition_paused gauge\n"
		"delivery_worker_consumer_partition_paused{topic=\"a\",partition=\"2\",group=\"x\\\"y\"} 1\n"
		"delivery_worker_consumer_partition_paused{topic=\"a\",partition=\"10\",group=\"x\\\"y\"} 0\n"
		"delivery_worker_consumer_partition_paused{topic=\"b\",partition=\"0\",group=\"x\\\"y\"} 0\n";
	struct lag_position paused = nothing_known;
	struct buf text = BUF_INIT;

	paused.paused = true;
	lag_publish("b", 0, &nothing_known);
	lag_publish("a", 10, &nothing_known);
	lag_publish("a", 2, &nothing_known);
	lag_publish("a", 2, &paused);
	lag_expose(&text, "x\"y");
	ck_assert_ptr_nonnull(strstr(text.data, expected));
	buf_release(&text);
	lag_remove("a", 2);
	lag_remove("a", 2); /* gone already */
	lag_remove("a", 10);
	lag_remove("b", 0);
}
END_TEST

START_TEST(test_lag__start_reports_what_the_client_says)
{
	const struct kafka_settings settings = {.brokers = "refused", .group = "g"};
	char error[128] = "";

	ck_assert_int_eq(lag_start(&settings, "events", INTERVAL_MS, error, sizeof(error)), -1);
	ck_assert_str_eq(error, "refused");
	lag_stop(); /* does nothing */
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("lag");
	TCase *tc = tcase_create("lag");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, steal_stderr, NULL);
	tcase_add_loop_test(tc, test_lag__arithmetic_table, 0, ROWS(lag_rows));
	tcase_add_test(tc, test_lag__an_unseen_record_ages_since_it_was_known);
	tcase_add_test(tc, test_lag__the_commit_is_asked_for_while_the_owner_waits);
	tcase_add_test(tc, test_lag__seconds_grow_with_the_clock_alone);
	tcase_add_test(tc, test_lag__unknown_is_left_out);
	tcase_add_test(tc, test_lag__all_families_of_a_partition);
	tcase_add_test(tc, test_lag__a_record_is_looked_at_once);
	tcase_add_test(tc, test_lag__a_gap_at_the_end_is_no_lag);
	tcase_add_test(tc, test_lag__is_right_while_the_brokers_hang);
	tcase_add_test(tc, test_lag__silence_makes_unknown_and_an_answer_known);
	tcase_add_test(tc, test_lag__of_who_waits_for_its_start_is_known);
	tcase_add_test(tc, test_lag__a_dead_broker_hides_no_others);
	tcase_add_test(tc, test_lag__a_damaged_log_is_an_answer);
	tcase_add_test(tc, test_lag__series_go_with_the_partition);
	tcase_add_test(tc, test_lag__series_are_sorted_and_escaped);
	tcase_add_test(tc, test_lag__start_reports_what_the_client_says);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
