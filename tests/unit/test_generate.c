/* worker/cli/generate.c, judged by the decoder. */
#include "worker/cli/generate.h"

#include "common/buf.h"
#include "common/prng.h"
#include "schemas/event.h"

#include <check.h>
#include <stdlib.h>

#define START_US INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */
#define DAY_US INT64_C(86400000000)

static struct generate_options some(int64_t count)
{
	return (struct generate_options){.seed = 5,
					 .count = count,
					 .orders_alive = 20000,
					 .customers = 1000,
					 .partners = 70,
					 .start_us = START_US};
}

static struct event_decoder *decoder;

static enum error_code decode(const struct generated *record, struct event *event)
{
	struct decode_error error;
	return event_decode(decoder, record->value, NULL, 0, START_US + DAY_US, event, &error);
}

/* All records, a line each, keys in front. */
static struct buf all_of(const struct generate_options *o)
{
	struct buf out = BUF_INIT;
	struct generated record;
	struct generator *g = generator_new(o);
	int64_t count = 0;
	for (; generator_next(g, &record); count++) {
		buf_append(&out, record.key.data, record.key.len);
		buf_putc(&out, ' ');
		if (slice_present(record.value))
			buf_append(&out, record.value.data, record.value.len);
		buf_putc(&out, '\n');
	}
	ck_assert_int_eq(count, o->count);
	generator_free(g);
	return out;
}

START_TEST(test_generate__the_same_options_give_the_same_bytes)
{
	struct generate_options o = some(5000);
	o.duplicate_percent = o.late_percent = o.bad_percent = 5;
	struct buf one = all_of(&o), two = all_of(&o);
	ck_assert(slice_equal(buf_slice(&one), buf_slice(&two)));
	o.seed++;
	struct buf other = all_of(&o);
	ck_assert(!slice_equal(buf_slice(&one), buf_slice(&other)));
	buf_release(&one);
	buf_release(&two);
	buf_release(&other);
}
END_TEST

START_TEST(test_generate__events_are_good_and_go_forward)
{
	struct generate_options o = some(50000);
	struct generator *g = generator_new(&o);
	struct generated record;
	struct event event;
	int64_t last_us = 0;
	int delivered = 0, ended_otherwise = 0, refunds = 0, created = 0;

	while (generator_next(g, &record)) {
		ck_assert_int_eq(decode(&record, &event), ERROR_NONE);
		ck_assert(slice_equal(record.key, event.order_id));
		ck_assert_int_ge(event.timestamp_us, last_us);
		last_us = event.timestamp_us;
		created += event.status == STATUS_CREATED;
		delivered += event.status == STATUS_DELIVERED;
		ended_otherwise += event.status > STATUS_DELIVERED;
		refunds += event.refunded_total_minor > 0;
		ck_assert(!status_is_decisive(event.status) || event.amount_minor > 0);
		ck_assert(event.refunded_total_minor == 0 || event.refunded_total_minor <= event.amount_minor);
	}
	ck_assert_int_lt(last_us, START_US + DAY_US);
	ck_assert_int_gt(delivered, 4000);
	ck_assert_int_gt(ended_otherwise, 100);
	ck_assert_int_gt(refunds, 20);
	ck_assert_int_gt(created, delivered);
	generator_free(g);
}
END_TEST

START_TEST(test_generate__bad_records_are_of_every_kind)
{
	struct generate_options o = some(3000);
	struct generated record;
	struct event event;
	int seen[ERROR_CODE_COUNT] = {0};

	o.bad_percent = 10;
	o.tombstones = true;
	struct generator *g = generator_new(&o);
	while (generator_next(g, &record))
		seen[decode(&record, &event)]++;
	generator_free(g);
	for (enum error_code code = ERROR_NONE; code < ERROR_CODE_COUNT; code++) {
		/* What takes an option, headers or a database is not a record's own fault. */
		bool own = code != ERROR_UNKNOWN_FIELD && code != ERROR_ENVELOPE_MISMATCH &&
			   code != ERROR_ORDER_CONFLICT && code != ERROR_DATABASE_REJECTED;
		ck_assert_msg((seen[code] > 0) == own, "%s: %d", code ? error_code_name(code) : "good", seen[code]);
	}
	ck_assert_int_gt(seen[ERROR_NONE], 2500);

	o.tombstones = false;
	g = generator_new(&o);
	while (generator_next(g, &record))
		ck_assert(slice_present(record.value));
	generator_free(g);
}
END_TEST

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Counts lines that stand there more than once, and those that come before an older one. */
static void inspect(struct buf *text, int *repeats, int *stragglers)
{
	static char *lines[20000];
	struct event event;
	int64_t newest_us = 0;
	size_t count = 0;
	char *rest = text->data;

	*repeats = *stragglers = 0;
	for (char *line; (line = strsep(&rest, "\n")) != NULL && *line;) {
		ck_assert_uint_lt(count, 20000);
		lines[count++] = line;
		struct generated record = {.value = slice_of(strchr(line, ' ') + 1)};
		ck_assert_int_eq(decode(&record, &event), ERROR_NONE);
		*stragglers += event.timestamp_us < newest_us;
		newest_us = event.timestamp_us > newest_us ? event.timestamp_us : newest_us;
	}
	qsort(lines, count, sizeof(lines[0]), compare_lines);
	for (size_t i = 1; i < count; i++)
		*repeats += strcmp(lines[i - 1], lines[i]) == 0;
}

START_TEST(test_generate__repeats_and_stragglers_come_as_asked)
{
	static const struct {
		unsigned duplicates, late;
		int repeats, stragglers; /* of 10,000, about */
	} rows[] = {{0, 0, 0, 0}, {10, 0, 1000, 1000}, {0, 10, 0, 1000}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct generate_options o = some(10000);
		int repeats, stragglers;
		o.duplicate_percent = rows[i].duplicates;
		o.late_percent = rows[i].late;
		struct buf text = all_of(&o);
		inspect(&text, &repeats, &stragglers);
		ck_assert_msg(abs(repeats - rows[i].repeats) <= rows[i].repeats / 5, "row %d: %d repeats", (int)i,
			      repeats);
		ck_assert_msg(abs(stragglers - rows[i].stragglers) <= rows[i].stragglers / 5, "row %d: %d stragglers",
			      (int)i, stragglers);
		buf_release(&text);
	}
}
END_TEST

START_TEST(test_generate__outcomes_can_be_chosen)
{
	struct generated record;
	struct event event;
	for (int only = 0; only < 2; only++) {
		struct generate_options o = some(5000);
		int other = 0;
		o.all_delivered = only == 0;
		o.delivered_only = only == 1;
		struct generator *g = generator_new(&o);
		while (generator_next(g, &record)) {
			ck_assert_int_eq(decode(&record, &event), ERROR_NONE);
			other += event.status != STATUS_DELIVERED;
			ck_assert(event.refunded_total_minor == 0 || only == 1);
			ck_assert_int_le(event.status, STATUS_DELIVERED);
		}
		ck_assert_int_eq(other == 0, only);
		generator_free(g);
	}
}
END_TEST

/* The streams must stay as they are: a seed in a bug report is worth what it still makes. */
START_TEST(test_prng__streams_stay_as_they_are)
{
	struct prng p = prng_of(1);
	uint64_t counts[4] = {0};
	ck_assert_uint_eq(prng_mix(0), UINT64_C(0xe220a8397b1dcdaf)); /* splitmix64's first number for seed 0 */
	ck_assert_uint_eq(p.state[0], prng_mix(1));
	for (int i = 0; i < 40000; i++) {
		uint64_t rank = prng_zipf(&p, 15);
		ck_assert_uint_lt(rank, 15);
		counts[63 - __builtin_clzll(rank + 1)]++;
	}
	for (int i = 0; i < 4; i++)
		ck_assert_int_lt(abs((int)counts[i] - 10000), 600);
	ck_assert_uint_eq(prng_zipf(&p, 1), 0);
}
END_TEST

int main(void)
{
	event_setup();
	decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	Suite *suite = suite_create("generate");
	TCase *tcase = tcase_create("generate");
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, test_generate__the_same_options_give_the_same_bytes);
	tcase_add_test(tcase, test_generate__events_are_good_and_go_forward);
	tcase_add_test(tcase, test_generate__bad_records_are_of_every_kind);
	tcase_add_test(tcase, test_generate__repeats_and_stragglers_come_as_asked);
	tcase_add_test(tcase, test_generate__outcomes_can_be_chosen);
	tcase_add_test(tcase, test_prng__streams_stay_as_they_are);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	bool fine = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
	srunner_free(runner);
	event_decoder_free(decoder);
	return fine ? 0 : 1;
}
