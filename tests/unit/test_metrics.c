/*
 * The exposition is read back line by line, the way a scraper does: what it shows is the contract, not
 * how it is made.
 */
#include "worker/observe/metrics.h"

#include "common/thread.h"
#include "worker/observe/exposition.h"

#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define P METRICS_PREFIX

enum { SERIES_MAX = 512 };

struct exposition {
	struct buf text;
	char *series[SERIES_MAX]; /* name and labels */
	double values[SERIES_MAX];
	int count;
};

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t len = strlen(text), suffix_len = strlen(suffix);
	return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

static void split_lines(struct exposition *e)
{
	e->count = 0;
	for (char *rest = e->text.data, *line; (line = strsep(&rest, "\n")) && *line;) {
		char *space = strrchr(line, ' ');
		if (line[0] == '#')
			continue;
		ck_assert_ptr_nonnull(space);
		ck_assert_int_lt(e->count, SERIES_MAX);
		*space = '\0';
		e->series[e->count] = line;
		char *end;
		e->values[e->count++] = strtod(space + 1, &end);
		ck_assert_msg(*end == '\0', "%s: value '%s'", line, space + 1);
	}
}

static struct exposition scrape(void)
{
	struct exposition e = {.text = BUF_INIT};
	metrics_expose(&e.text);
	split_lines(&e);
	return e;
}

/* Returns: NAN where there is no such series. */
static double find_value(const struct exposition *e, const char *series)
{
	for (int i = 0; i < e->count; i++)
		if (strcmp(e->series[i], series) == 0)
			return e->values[i];
	return NAN;
}

static double value_of(const struct exposition *e, const char *series)
{
	double value = find_value(e, series);
	ck_assert_msg(!isnan(value), "no series %s", series);
	return value;
}

/* Whether a series' name belongs to `family` of `type`. */
static bool belongs(const char *line, const char *family, const char *type)
{
	size_t len = strlen(family);
	if (!starts_with(line, family))
		return false;
	if (strcmp(type, "histogram") != 0)
		return line[len] == ' ' || line[len] == '{';
	return starts_with(line + len, "_bucket{") || starts_with(line + len, "_sum") ||
	       starts_with(line + len, "_count");
}

START_TEST(test_metrics__families_are_announced_once_and_stand_together)
{
	struct buf text = BUF_INIT;
	char families[128][96], type[32] = "";
	int count = 0;

	metrics_expose(&text);
	for (char *rest = text.data, *line; (line = strsep(&rest, "\n")) && *line;) {
		if (starts_with(line, "# HELP ")) {
			ck_assert_int_eq(sscanf(line, "# HELP %95s", families[count]), 1);
			ck_assert_msg(strlen(line) > strlen("# HELP  ") + strlen(families[count]), "no help: %s", line);
			for (int i = 0; i < count; i++)
				ck_assert_str_ne(families[i], families[count]);
			char *next = strsep(&rest, "\n"), name[96];
			ck_assert_int_eq(sscanf(next, "# TYPE %95s %31s", name, type), 2);
			ck_assert_str_eq(name, families[count]);
			ck_assert_msg(ends_with(name, "_total") == (strcmp(type, "counter") == 0), "%s is a %s", name,
				      type);
			count++;
			continue;
		}
		ck_assert_int_gt(count, 0);
		ck_assert_msg(belongs(line, families[count - 1], type), "'%s' stands in family %s", line,
			      families[count - 1]);
	}
	ck_assert_int_gt(count, 15);
	buf_release(&text);
}
END_TEST

START_TEST(test_metrics__no_series_twice)
{
	struct exposition e = scrape();
	for (int i = 0; i < e.count; i++)
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(e.series[i], e.series[k]);
	buf_release(&e.text);
}
END_TEST

/* A scraper's increase() misses the first step of a series that is born at 1. */
static const char *const born_at_zero[] = {
	P "records_consumed_total",
	P "records_settled_total{outcome=\"credited\"}",
	P "records_settled_total{outcome=\"recorded\"}",
	P "records_settled_total{outcome=\"stale\"}",
	P "records_settled_total{outcome=\"duplicate\"}",
	P "records_settled_total{outcome=\"deferred\"}",
	P "records_settled_total{outcome=\"dead_lettered\"}",
	P "records_settled_total{outcome=\"released\"}",
	P "records_in_flight",
	P "dead_letters_total{code=\"tombstone\"}",
	P "dead_letters_total{code=\"order_conflict\"}",
	P "dead_letters_total{code=\"database_rejected\"}",
	P "degraded{what=\"dedup\"}",
	P "degraded{what=\"offset_lost\"}", P "degraded{what=\"unreadable\"}",
	P "rebalances_total{kind=\"assigned\"}",
	P "rebalances_total{kind=\"lost\"}",
	P "record_latency_seconds_bucket{le=\"0.0005\"}",
	P "record_latency_seconds_bucket{le=\"86400\"}",
	P "record_latency_seconds_bucket{le=\"+Inf\"}",
	P "record_latency_seconds_sum",
	P "record_latency_seconds_count",
	P "batch_records_bucket{le=\"10000\"}",
	P "batch_seconds_count{stage=\"admit\"}",
	P "batch_seconds_bucket{stage=\"write\",le=\"60\"}",
	P "log_lines_suppressed_total",
};

START_TEST(test_metrics__series_exist_at_zero)
{
	struct exposition e = scrape();
	ck_assert_msg(value_of(&e, born_at_zero[_i]) == 0, "%s", born_at_zero[_i]);
	buf_release(&e.text);
}
END_TEST

/* Nobody has asked it: neither up nor down. */
START_TEST(test_metrics__a_dependency_is_shown_once_it_was_tried)
{
	metric_set(METRIC_UP_KAFKA, 0);
	metric_set(METRIC_UP_REDIS, 1);
	struct exposition e = scrape();
	ck_assert(value_of(&e, P "dependency_up{dependency=\"kafka\"}") == 0);
	ck_assert(value_of(&e, P "dependency_up{dependency=\"redis\"}") == 1);
	ck_assert(isnan(find_value(&e, P "dependency_up{dependency=\"postgresql\"}")));
	buf_release(&e.text);
}
END_TEST

START_TEST(test_metrics__values_are_shown)
{
	metric_add(METRIC_COMMIT_OK, 3);
	metric_add(METRIC_COMMIT_OK, 4);
	metric_set(METRIC_IN_FLIGHT_BYTES, 12345);
	metric_set(METRIC_IN_FLIGHT_BYTES, 123);
	metric_set(METRIC_UP_REDIS, 1);
	metrics_build_label("version", "1.2.3");
	metrics_build_label("librdkafka", "2.0.2");

	struct exposition e = scrape();
	ck_assert(value_of(&e, P "commits_total{result=\"ok\"}") == 7);
	ck_assert(value_of(&e, P "commits_total{result=\"failed\"}") == 0);
	ck_assert(value_of(&e, P "in_flight_bytes") == 123);
	ck_assert(value_of(&e, P "dependency_up{dependency=\"redis\"}") == 1);
	ck_assert(value_of(&e, P "build_info{version=\"1.2.3\",librdkafka=\"2.0.2\"}") == 1);
	buf_release(&e.text);
}
END_TEST

START_TEST(test_metrics__tallies_of_consumers_add_up)
{
	struct tally a = {.consumed = 10, .in_flight = 3, .settled = {[OUTCOME_CREDITED] = 6}};
	struct tally b = {.consumed = 5, .settled = {[OUTCOME_CREDITED] = 2, [OUTCOME_STALE] = 3}};
	a.settled[OUTCOME_DEAD_LETTERED] = 1;
	a.dead_letters[ERROR_NOT_JSON] = 1;
	metrics_publish_tally(0, &b);
	metrics_publish_tally(0, &a); /* replaces */
	metrics_publish_tally(METRICS_CONSUMERS_MAX - 1, &b);

	struct exposition e = scrape();
	ck_assert(value_of(&e, P "records_consumed_total") == 15);
	ck_assert(value_of(&e, P "records_in_flight") == 3);
	ck_assert(value_of(&e, P "records_settled_total{outcome=\"credited\"}") == 8);
	ck_assert(value_of(&e, P "records_settled_total{outcome=\"stale\"}") == 3);
	ck_assert(value_of(&e, P "records_settled_total{outcome=\"dead_lettered\"}") == 1);
	ck_assert(value_of(&e, P "dead_letters_total{code=\"not_json\"}") == 1);
	buf_release(&e.text);
}
END_TEST

/* Reads that must have found the counters further on, so that publishing and reading are known to overlap. */
enum { PUBLISHERS = 3, ADVANCES = 200 };
static _Atomic bool seen_enough;

/* Takes and settles records in bursts, publishing in between, as a consumer does. */
static void *publish(void *argument)
{
	int index = *(int *)argument;
	struct tally t = {0};

	for (unsigned i = 0; !atomic_load(&seen_enough); i++) {
		uint64_t burst = i % 7 + 1;
		if (i % 2 == 0 || t.in_flight < burst) {
			t.consumed += burst;
			t.in_flight += burst;
		} else {
			t.settled[i % OUTCOME_COUNT] += burst;
			t.in_flight -= burst;
		}
		metrics_publish_tally(index, &t);
	}
	return NULL;
}

START_TEST(test_metrics__conservation_holds_while_publishing)
{
	int indices[PUBLISHERS] = {0, 1, METRICS_CONSUMERS_MAX - 1};
	pthread_t threads[PUBLISHERS];
	uint64_t consumed_before = 0;

	for (int i = 0; i < PUBLISHERS; i++)
		threads[i] = thread_start("publish", publish, &indices[i]);
	for (int advances = 0; advances < ADVANCES;) {
		struct tally sum;
		metrics_read_tally(&sum);
		uint64_t accounted = sum.in_flight;
		for (int o = 0; o < OUTCOME_COUNT; o++)
			accounted += sum.settled[o];
		ck_assert_uint_eq(sum.consumed, accounted);
		ck_assert_uint_ge(sum.consumed, consumed_before);
		advances += sum.consumed > consumed_before;
		consumed_before = sum.consumed;
	}
	atomic_store(&seen_enough, true);
	for (int i = 0; i < PUBLISHERS; i++)
		thread_join(threads[i]);
}
END_TEST

static const struct {
	double value;
	const char *first_bucket; /* the lowest that holds it */
	const char *below;        /* the one before, which does not; NULL: there is none */
} bucket_rows[] = {
	{-3, "0.0005", NULL}, /* a record ahead of our clock */
	{0, "0.0005", NULL},
	{0.0005, "0.0005", NULL}, /* bounds are inclusive */
	{0.00051, "0.001", "0.0005"},
	{60, "60", "30"},
	{86400, "86400", "14400"},
	{1e9, "+Inf", "86400"},
};

START_TEST(test_metrics__histogram_buckets_are_cumulative)
{
	char series[128];
	double previous = 0;
	int buckets = 0;

	histogram_observe(HISTOGRAM_RECORD_LATENCY, bucket_rows[_i].value, 5);
	histogram_observe(HISTOGRAM_RECORD_LATENCY, 0.02, 2);
	struct exposition e = scrape();
	double low = bucket_rows[_i].value < 0.02 ? 0 : 2;
	snprintf(series, sizeof(series), P "record_latency_seconds_bucket{le=\"%s\"}", bucket_rows[_i].first_bucket);
	ck_assert_msg(value_of(&e, series) == 5 + low, "%s %g", series, value_of(&e, series));
	if (bucket_rows[_i].below) {
		snprintf(series, sizeof(series), P "record_latency_seconds_bucket{le=\"%s\"}", bucket_rows[_i].below);
		ck_assert_msg(value_of(&e, series) == low, "%s %g", series, value_of(&e, series));
	}
	for (int i = 0; i < e.count; i++) {
		if (!starts_with(e.series[i], P "record_latency_seconds_bucket"))
			continue;
		ck_assert(e.values[i] >= previous);
		previous = e.values[i];
		buckets++;
	}
	ck_assert_int_gt(buckets, 10);
	ck_assert(previous == 7);
	ck_assert(value_of(&e, P "record_latency_seconds_count") == 7);
	double sum = 5 * fmax(bucket_rows[_i].value, 0) + 0.04;
	ck_assert_double_eq_tol(value_of(&e, P "record_latency_seconds_sum"), sum, 1e-9 * (1 + sum));
	/* Another series of another family, or of the same, is left alone. */
	ck_assert(value_of(&e, P "batch_seconds_count{stage=\"write\"}") == 0);
	buf_release(&e.text);
}
END_TEST

START_TEST(test_metrics__histogram_quantiles)
{
	ck_assert(isnan(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 0.5)));
	histogram_observe(HISTOGRAM_BATCH_RECORDS, 15, 100); /* bucket 10 .. 20 */
	ck_assert_double_eq_tol(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 0.5), 15, 1e-9);
	ck_assert_double_eq_tol(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 0), 10, 1e-9);
	ck_assert_double_eq_tol(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 1), 20, 1e-9);
	histogram_observe(HISTOGRAM_BATCH_RECORDS, 150, 300); /* bucket 100 .. 200 */
	ck_assert_double_eq_tol(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 0.25), 20, 1e-9);
	ck_assert_double_eq_tol(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 0.625), 150, 1e-9);
	histogram_observe(HISTOGRAM_BATCH_RECORDS, 1e6, 4000); /* beyond the last bound: at least that */
	ck_assert_double_eq_tol(histogram_quantile(HISTOGRAM_BATCH_RECORDS, 0.99), 10000, 1e-9);
}
END_TEST

static const struct {
	const char *value;
	const char *shown;
} label_rows[] = {
	{"plain", "a=\"b\",x=\"plain\""},
	{"", "a=\"b\",x=\"\""},
	{"back\\slash", "a=\"b\",x=\"back\\\\slash\""},
	{"quo\"te", "a=\"b\",x=\"quo\\\"te\""},
	{"two\nlines", "a=\"b\",x=\"two\\nlines\""},
	{"\"} 1\nfake 2", "a=\"b\",x=\"\\\"} 1\\nfake 2\""},
	{"grün", "a=\"b\",x=\"grün\""},
};

START_TEST(test_metrics__label_values_are_escaped)
{
	struct buf labels = BUF_INIT;
	exposition_label(&labels, "a", "b");
	exposition_label(&labels, "x", label_rows[_i].value);
	ck_assert_str_eq(labels.data, label_rows[_i].shown);
	buf_release(&labels);
}
END_TEST

static int entries(const char *path)
{
	DIR *folder = opendir(path);
	int count = -2; /* . and .. */

	ck_assert_ptr_nonnull(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

START_TEST(test_metrics__process_is_this_one)
{
	struct exposition e = scrape();
	double fds = value_of(&e, "process_open_fds");
	ck_assert(value_of(&e, "process_resident_memory_bytes") > 1e5);
	ck_assert(value_of(&e, "process_virtual_memory_bytes") >= value_of(&e, "process_resident_memory_bytes"));
	ck_assert(value_of(&e, "process_threads") == entries("/proc/self/task")); /* sanitizers have some, too */
	ck_assert(fds == entries("/proc/self/fd") - 1); /* without the one that counts them */
	ck_assert(value_of(&e, "process_max_fds") >= fds);
	double age = (double)time(NULL) - value_of(&e, "process_start_time_seconds");
	ck_assert_msg(age > -5 && age < 300, "started %g seconds ago", age);
	buf_release(&e.text);

	int fd = dup(STDERR_FILENO);
	/* The kernel may count in ticks, and give them to whoever runs then. */
	e = scrape();
	for (int i = 0; i < 100 && value_of(&e, "process_cpu_seconds_total") == 0; i++) {
		for (volatile uint64_t spin = 0; spin < 50000000; spin++)
			;
		buf_release(&e.text);
		e = scrape();
	}
	ck_assert(value_of(&e, "process_open_fds") == fds + 1);
	ck_assert(value_of(&e, "process_cpu_seconds_total") > 0);
	close(fd);
	buf_release(&e.text);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("metrics");
	TCase *tc = tcase_create("metrics");
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_metrics__families_are_announced_once_and_stand_together);
	tcase_add_test(tc, test_metrics__no_series_twice);
	tcase_add_loop_test(tc, test_metrics__series_exist_at_zero, 0, ROWS(born_at_zero));
	tcase_add_test(tc, test_metrics__a_dependency_is_shown_once_it_was_tried);
	tcase_add_test(tc, test_metrics__values_are_shown);
	tcase_add_test(tc, test_metrics__tallies_of_consumers_add_up);
	tcase_add_test(tc, test_metrics__conservation_holds_while_publishing);
	tcase_add_loop_test(tc, test_metrics__histogram_buckets_are_cumulative, 0, ROWS(bucket_rows));
	tcase_add_test(tc, test_metrics__histogram_quantiles);
	tcase_add_loop_test(tc, test_metrics__label_values_are_escaped, 0, ROWS(label_rows));
	tcase_add_test(tc, test_metrics__process_is_this_one);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
