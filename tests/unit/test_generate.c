/* worker/cli/generate.c, judged by the decoder. */
#include "worker/cli/generate.h"

#include "common/buf.h"
#include "common/prng.h"
#include "schemas/event.h"

#include <check.h>
#include <inttypes.h>
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
	o.duplicate_bp = o.late_bp = o.bad_bp = 500;
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

/* What identifies records of a stream: their keys, and their values but for empty ones. */
struct texts {
	char **all; /* sorted */
	size_t count;
};

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct texts texts_of(const struct generate_options *o)
{
	struct texts t = {calloc(2 * (size_t)o->count, sizeof(char *)), 0};
	struct generator *g = generator_new(o);
	struct generated record;
	ck_assert_ptr_nonnull(t.all);
	while (generator_next(g, &record)) {
		t.all[t.count++] = strndup(record.key.data, record.key.len);
		size_t spaces = 0; /* in front of a value that is too large */
		while (spaces < record.value.len && record.value.data[spaces] == ' ')
			spaces++;
		if (record.value.len > 0)
			t.all[t.count++] = strndup(record.value.data + spaces, record.value.len - spaces);
	}
	generator_free(g);
	qsort(t.all, t.count, sizeof(t.all[0]), compare_lines);
	return t;
}

static void texts_release(struct texts *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->all[i]);
	free(t->all);
}

/* Returns: a text that both hold, or NULL. */
static const char *shared_text(const struct texts *a, const struct texts *b)
{
	for (size_t i = 0, k = 0; i < a->count && k < b->count;) {
		int order = strcmp(a->all[i], b->all[k]);
		if (order == 0)
			return a->all[i];
		if (order < 0)
			i++;
		else
			k++;
	}
	return NULL;
}

START_TEST(test_generate__two_seeds_share_nothing)
{
	/* Neighbours, those that differ in one bit low or high, and those that a sum or a XOR with the number of an
	 * order could take for each other. */
	static const uint64_t pairs[][2] = {{1, 2},
					    {0, 1},
					    {2, 3},
					    {7, 8},
					    {1, 1 + 4096},
					    {1, 1 | UINT64_C(1) << 32},
					    {UINT64_C(1) << 32, UINT64_C(2) << 32},
					    {0, UINT64_C(0x9e3779b97f4a7c15)},
					    {INT64_MAX - 1, INT64_MAX}};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		for (int delivered_only = 0; delivered_only < 2; delivered_only++) {
			struct texts of[2];
			for (int k = 0; k < 2; k++) {
				struct generate_options o = some(8000);
				o.seed = pairs[i][k];
				o.bad_bp = 500;
				o.delivered_only = delivered_only;
				of[k] = texts_of(&o);
			}
			const char *same = shared_text(&of[0], &of[1]);
			ck_assert_msg(!same, "seeds %" PRIu64 " and %" PRIu64 " both make %.80s", pairs[i][0],
				      pairs[i][1], same);
			texts_release(&of[0]);
			texts_release(&of[1]);
		}
	}
}
END_TEST

START_TEST(test_generate__orders_of_a_seed_are_all_different)
{
	struct generate_options o = some(300000);
	o.delivered_only = true;
	struct texts t = texts_of(&o);
	for (size_t i = 1; i < t.count; i++)
		ck_assert_msg(strcmp(t.all[i - 1], t.all[i]) != 0, "%s is there twice", t.all[i]);
	texts_release(&t);
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

	o.bad_bp = 1000;
	o.beyond_ndjson = true;
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

	o.beyond_ndjson = false;
	g = generator_new(&o);
	while (generator_next(g, &record))
		ck_assert(slice_present(record.value) && record.value.len > 0);
	generator_free(g);
}
END_TEST

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
		o.duplicate_bp = rows[i].duplicates * 100;
		o.late_bp = rows[i].late * 100;
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

/* What the workloads of the measurements promise of a stream. */
enum { LONG_COUNT = 300000, PARTITIONS = 6, ALIVE = 20000 };

struct seen {
	uint64_t order; /* FNV-1a of the key */
	uint64_t value; /* of the value */
	int64_t at;     /* record number */
	bool repeat;    /* filled by mark_repeats */
};

static int compare_orders(const void *left, const void *right)
{
	const struct seen *a = left, *b = right;
	return a->order == b->order ? (a->at > b->at) - (a->at < b->at) : a->order > b->order ? 1 : -1;
}

static int compare_values(const void *left, const void *right)
{
	const struct seen *a = left, *b = right;
	return a->value == b->value ? (a->at > b->at) - (a->at < b->at) : a->value > b->value ? 1 : -1;
}

static struct seen *see(const struct generate_options *o)
{
	struct seen *all = calloc((size_t)o->count, sizeof(*all));
	struct generator *g = generator_new(o);
	struct generated record;
	ck_assert_ptr_nonnull(all);
	for (int64_t i = 0; generator_next(g, &record); i++)
		all[i] = (struct seen){slice_hash(record.key), slice_hash(record.value), i, false};
	generator_free(g);
	return all;
}

/* Sorts by value. Returns: how many records repeat an earlier one; *nearest: at the least so many records later. */
static int64_t mark_repeats(struct seen *all, int64_t count, int64_t *nearest)
{
	int64_t repeats = 0;
	*nearest = count;
	qsort(all, (size_t)count, sizeof(*all), compare_values);
	for (int64_t i = 1; i < count; i++) {
		if (all[i].value != all[i - 1].value)
			continue;
		all[i].repeat = true;
		repeats++;
		if (all[i].at - all[i - 1].at < *nearest)
			*nearest = all[i].at - all[i - 1].at;
	}
	return repeats;
}

/* The worst case of reading: one partition's records only, as many as `window`. Returns: how many records of all have
 * another one of their order in such a window. */
static int64_t shared(const struct seen *all, int64_t count, size_t window)
{
	struct seen *part = calloc(window, sizeof(*part));
	int64_t found = 0;
	ck_assert_ptr_nonnull(part);
	for (uint64_t partition = 0; partition < PARTITIONS; partition++) {
		size_t have = 0;
		for (int64_t i = 0; i < count; i++) {
			if (all[i].order % PARTITIONS == partition)
				part[have++] = all[i];
			if (have < window)
				continue;
			qsort(part, have, sizeof(*part), compare_orders);
			for (size_t k = 0; k < have; k++)
				found += (k > 0 && part[k - 1].order == part[k].order) ||
				         (k + 1 < have && part[k + 1].order == part[k].order);
			have = 0;
		}
	}
	free(part);
	return found;
}

static struct generate_options lifecycle(void)
{
	struct generate_options o = some(LONG_COUNT);
	o.customers = 1000000;
	o.partners = 700;
	o.duplicate_bp = 200;
	o.late_bp = 100;
	o.bad_bp = 10;
	return o;
}

START_TEST(test_generate__steady_orders_keep_their_events_apart)
{
	struct generate_options o = lifecycle();
	int64_t nearest;
	for (int steady = 0; steady < 2; steady++) {
		o.steady = steady;
		struct seen *all = see(&o);
		/* Two workers' batches of 1,000. */
		double share = (double)shared(all, o.count, 2000) / (double)o.count;
		ck_assert_msg((share < 0.05) == o.steady, "steady %d: %.1f %%", steady, share * 100);
		int64_t repeats = mark_repeats(all, o.count, &nearest);
		ck_assert_int_ge(repeats, o.count / 100 * 2 * 9 / 10);
		ck_assert_int_le(repeats, o.count / 100 * 2 * 11 / 10);
		free(all);
	}
}
END_TEST

START_TEST(test_generate__steady_orders_are_all_alive_from_the_first_record)
{
	struct generate_options o = lifecycle();
	o.steady = true;
	struct seen *all = see(&o);
	qsort(all, (size_t)o.count, sizeof(*all), compare_orders);
	int64_t early = 0, middle = 0, long_lives = 0, lives = 0;
	for (int64_t i = 0, from = 0; i < o.count; i++) {
		if (i + 1 < o.count && all[i + 1].order == all[i].order)
			continue;
		early += all[from].at < ALIVE * 5 / 4;
		middle += all[from].at <= o.count / 2 && all[i].at > o.count / 2;
		/* Those that begin and end within. */
		if (all[from].at > 2 * ALIVE && all[i].at < o.count - 2 * ALIVE) {
			lives++;
			long_lives += i - from + 1 >= 6;
		}
		from = i + 1;
	}
	ck_assert_int_ge(early, ALIVE * 9 / 10);
	ck_assert_int_ge(middle, ALIVE * 7 / 10); /* an order that has just ended counts for none */
	ck_assert_int_le(middle, ALIVE);
	ck_assert_int_gt(long_lives, lives * 9 / 10);
	free(all);
}
END_TEST

START_TEST(test_generate__repeats_come_as_late_as_asked_and_once)
{
	static const unsigned shares_bp[] = {5000, 200, 0};
	struct generate_options o = lifecycle();
	o.repeat_after = 30000;
	o.bad_bp = 0; /* empty values are alike */
	for (size_t i = 0; i < sizeof(shares_bp) / sizeof(shares_bp[0]); i++) {
		int64_t nearest, twice = 0;
		o.duplicate_bp = shares_bp[i];
		struct seen *all = see(&o);
		int64_t repeats = mark_repeats(all, o.count, &nearest);
		for (int64_t k = 1; k < o.count; k++)
			twice += all[k].repeat && all[k - 1].repeat && all[k].value == all[k - 1].value;
		ck_assert_int_eq(twice, 0);
		ck_assert_msg(repeats == 0 || nearest >= o.repeat_after, "%lld records later", (long long)nearest);
		/* The first 30,000 events have nothing to repeat. */
		double share = (double)repeats / (double)(o.count - o.repeat_after), wanted = shares_bp[i] / 1e4;
		ck_assert_msg(share >= wanted * 0.95 && share <= wanted * 1.05, "%.2f %%", share * 100);
		free(all);
	}
}
END_TEST

START_TEST(test_generate__shares_may_be_hundredths_of_a_percent)
{
	struct generate_options o = some(200000);
	struct event event;
	struct generated record;
	int bad = 0;
	o.bad_bp = 10;
	struct generator *g = generator_new(&o);
	while (generator_next(g, &record))
		bad += decode(&record, &event) != ERROR_NONE;
	generator_free(g);
	ck_assert_int_ge(bad, 150);
	ck_assert_int_le(bad, 250);
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
	tcase_add_test(tcase, test_generate__two_seeds_share_nothing);
	tcase_add_test(tcase, test_generate__orders_of_a_seed_are_all_different);
	tcase_add_test(tcase, test_generate__events_are_good_and_go_forward);
	tcase_add_test(tcase, test_generate__bad_records_are_of_every_kind);
	tcase_add_test(tcase, test_generate__repeats_and_stragglers_come_as_asked);
	tcase_add_test(tcase, test_generate__outcomes_can_be_chosen);
	tcase_add_test(tcase, test_generate__steady_orders_keep_their_events_apart);
	tcase_add_test(tcase, test_generate__steady_orders_are_all_alive_from_the_first_record);
	tcase_add_test(tcase, test_generate__repeats_come_as_late_as_asked_and_once);
	tcase_add_test(tcase, test_generate__shares_may_be_hundredths_of_a_percent);
	tcase_add_test(tcase, test_prng__streams_stay_as_they_are);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	bool fine = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
	srunner_free(runner);
	event_decoder_free(decoder);
	return fine ? 0 : 1;
}
