/*
 * deferral.c: its tables, and what they come to: backlogs that wait on a real limiter (gcra.c) in partitions that are
 * read head first, until the last record has passed.
 */
#include "worker/pipeline/deferral.h"

#include "worker/gate/gcra.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

enum { D = 30000 };

static const int64_t now_ms = INT64_C(1767225600000);

/* ---- classes ---- */

static const struct {
	int32_t partitions;
	const char *classes; /* a digit a partition */
} class_rows[] = {
	{1, "0"}, {2, "02"}, {3, "012"}, {4, "0123"}, {5, "00123"}, {6, "001223"}, {7, "0011223"}, {8, "00112233"},
	{9, "000112233"}, {12, "000111222333"}, {13, "0000111222333"},
};

START_TEST(test_deferral__partitions_are_classes)
{
	for (int32_t p = 0; p < class_rows[_i].partitions; p++)
		ck_assert_int_eq(deferral_class(p, class_rows[_i].partitions), class_rows[_i].classes[p] - '0');
	/* Partitions that came since: more of them than are known. */
	ck_assert_int_eq(deferral_class(class_rows[_i].partitions, class_rows[_i].partitions), 3);
	ck_assert_int_eq(deferral_class(INT32_MAX, class_rows[_i].partitions), 3);
}
END_TEST

START_TEST(test_deferral__delays_grow_fourfold)
{
	static const int64_t delays_ms[] = {D, 4 * D, 16 * D, 64 * D};
	for (int class = 0; class < DEFERRAL_CLASSES; class++)
		ck_assert_int_eq(deferral_delay_ms(class, D), delays_ms[class]);
	ck_assert_int_eq(deferral_delay_ms(3, 86400000), INT64_C(64) * 86400000);
}
END_TEST

/* ---- where to, until when ---- */

/* With the delay of 30 s, due times in class 0 fall on multiples of 3750 ms, as now_ms does. */
static const struct {
	int32_t partitions;
	int64_t slot_in_ms;
	int32_t first, count;
	int64_t due_in_ms;
} slot_rows[] = {
	{4, 1, 0, 1, 3750},
	{4, 3750, 0, 1, 3750},
	{4, 3751, 0, 1, 7500},
	{4, D - 1, 0, 1, D},
	{4, D, 0, 1, D},
	{4, D + 1, 0, 1, D},               /* beyond: a whole delay, then the rest */
	{4, 4 * D - 1, 0, 1, D},
	{4, 4 * D, 1, 1, 4 * D},           /* exactly fits */
	{4, 16 * D - 1, 1, 1, 4 * D},
	{4, 16 * D, 2, 1, 16 * D},
	{4, 64 * D - 1, 2, 1, 16 * D},
	{4, 64 * D, 3, 1, 64 * D},
	{4, 10000 * (int64_t)D, 3, 1, 64 * D},
	{4, 0, 0, 1, 0},                   /* its time has come while Kafka was away */
	{4, -5000, 0, 1, 0},
	{8, 16 * D, 4, 2, 16 * D},
	{6, 5, 0, 2, 3750},
	{6, 5 * D, 2, 1, 4 * D},
	{6, 20 * D, 3, 2, 16 * D},
	{6, 100 * D, 5, 1, 64 * D},
	{3, 100 * D, 2, 1, 16 * D},        /* fewer classes: the longest there is */
	{2, 15 * D, 0, 1, D},              /* of two, the classes 0 and 2 */
	{2, 16 * D, 1, 1, 16 * D},
	{1, 100 * D, 0, 1, D},
	{0, 100 * D, 0, 0, D},             /* their number is not known: any partition */
	{0, 1, 0, 0, 3750},
	{4, INT64_MAX / 1000, 3, 1, 64 * D},
	{1, INT64_MAX / 1000, 0, 1, D},
};

START_TEST(test_deferral__longest_class_that_is_not_beyond_the_slot)
{
	struct deferral d = deferral_until_slot(now_ms, slot_rows[_i].slot_in_ms > INT64_MAX / 2000
	                                                        ? INT64_MAX / 1000
	                                                        : now_ms + slot_rows[_i].slot_in_ms,
	                                        D, slot_rows[_i].partitions);
	ck_assert_int_eq(d.first, slot_rows[_i].first);
	ck_assert_int_eq(d.count, slot_rows[_i].count);
	ck_assert_int_eq(d.not_before_ms - now_ms, slot_rows[_i].due_in_ms);
}
END_TEST

/* Short delays: a grid that is finer than 100 ms would be a fetch for each record. */
START_TEST(test_deferral__grid_of_short_delays)
{
	ck_assert_int_eq(deferral_until_slot(now_ms, now_ms + 1, 500, 4).not_before_ms, now_ms + 100);
	ck_assert_int_eq(deferral_until_slot(now_ms, now_ms + 101, 500, 4).not_before_ms, now_ms + 200);
	ck_assert_int_eq(deferral_until_slot(now_ms + 50, now_ms + 60, 70, 4).not_before_ms, now_ms + 70);
	ck_assert_int_eq(deferral_until_slot(now_ms, now_ms + 1, 1, 4).not_before_ms, now_ms + 1);
}
END_TEST

/* Without a slot: from class to class, then round in the longest. */
static const struct {
	int32_t partitions, from, first, count;
	int64_t delay; /* × D */
} next_rows[] = {
	{4, -1, 0, 1, 1}, {4, 0, 1, 1, 4},  {4, 1, 2, 1, 16}, {4, 2, 3, 1, 64}, {4, 3, 3, 1, 64}, {8, -1, 0, 2, 1},
	{8, 1, 2, 2, 4},  {8, 7, 6, 2, 64}, {1, -1, 0, 1, 1}, {1, 0, 0, 1, 1},  {2, -1, 0, 1, 1}, {2, 0, 1, 1, 16},
	{2, 1, 1, 1, 16}, {3, 1, 2, 1, 16}, {3, 2, 2, 1, 16}, {3, 9, 2, 1, 16}, {0, -1, 0, 0, 1}, {0, 3, 0, 0, 1},
};

START_TEST(test_deferral__without_a_slot_waits_grow)
{
	struct deferral d = deferral_next(now_ms, next_rows[_i].from, D, next_rows[_i].partitions);
	ck_assert_int_eq(d.first, next_rows[_i].first);
	ck_assert_int_eq(d.count, next_rows[_i].count);
	ck_assert_int_eq(d.not_before_ms - now_ms, next_rows[_i].delay * D);
}
END_TEST

/* ---- the head ---- */

static const struct {
	const char *what;
	int64_t not_before, kafka, delay, due; /* ms from now; kafka -1: none */
} due_rows[] = {
	{"as its header says", 5000, -20000, D, 5000},
	{"at the end of its class's delay", 9000, -20000, D, 9000},
	{"a day ahead, by a replica's clock", 86400000, -20000, D, D - 20000},
	{"a day ahead, and so is its Kafka time", 86400000, 86400000, D, D},
	{"a day ahead, without a Kafka time", 86400000, -1, D, D},
	{"written under a longer delay", 64 * 600000, -1000, 64 * D, 64 * D - 1000},
	{"due long ago", -100000, -200000, D, -170000},
	{"beyond its delay already", 86400000, -40000, D, -10000},
	{"the largest of times", INT64_MAX / 2, -1, 64 * D, 64 * D},
};

START_TEST(test_deferral__nobody_is_held_longer_than_the_delay)
{
	int64_t kafka = due_rows[_i].kafka == -1 ? -1 : now_ms + due_rows[_i].kafka;
	int64_t due = deferral_due_ms(now_ms + due_rows[_i].not_before, kafka, now_ms, due_rows[_i].delay);
	ck_assert_msg(due - now_ms == due_rows[_i].due, "%s: %" PRId64, due_rows[_i].what, due - now_ms);
}
END_TEST

START_TEST(test_deferral__slot_is_over_after_two_delays)
{
	static const struct {
		int64_t slot_in_ms;
		enum deferral_turn turn;
	} rows[] = {{D, DEFERRAL_EARLY}, {1, DEFERRAL_EARLY}, {0, DEFERRAL_NOW}, {-D, DEFERRAL_NOW},
		    {-2 * D, DEFERRAL_NOW}, {-2 * D - 1, DEFERRAL_LATE}, {-86400000, DEFERRAL_LATE}};
	for (int i = 0; i < ROWS(rows); i++)
		ck_assert_msg(deferral_turn(now_ms, now_ms + rows[i].slot_in_ms, D) == rows[i].turn, "row %d", i);
}
END_TEST

/* ---- copies, by arithmetic: a record alone, read whenever it is due ---- */

struct copies {
	int64_t by_class[DEFERRAL_CLASSES];
	int64_t last; /* of those in class 0: for what is left of the wait, less than a delay */
	int64_t all;
};

static struct copies copies_of(int64_t wait_ms, int64_t defer_ms, int32_t partitions)
{
	struct copies c = {0};
	int64_t at_ms = now_ms, slot_ms = now_ms + wait_ms;
	while (deferral_turn(at_ms, slot_ms, defer_ms) == DEFERRAL_EARLY) {
		struct deferral d = deferral_until_slot(at_ms, slot_ms, defer_ms, partitions);
		int class = deferral_class(d.first, partitions);
		c.by_class[class]++;
		c.last += slot_ms - at_ms < defer_ms;
		c.all++;
		if (d.not_before_ms <= at_ms)
			ck_abort_msg("due at once");
		at_ms = d.not_before_ms;
	}
	if (deferral_turn(at_ms, slot_ms, defer_ms) != DEFERRAL_NOW)
		ck_abort_msg("late");
	return c;
}

/* Three whole delays a class, one per longest delay, and what is left. */
static void check_copies(const struct copies *c, int64_t wait_ms, int64_t defer_ms)
{
	if (c->last > 1 || c->by_class[0] - c->last > 3 || c->by_class[1] > 3 || c->by_class[2] > 3 ||
	    c->by_class[3] > wait_ms / deferral_delay_ms(3, defer_ms))
		ck_abort_msg("a wait of %" PRId64 " ms: %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 " copies", wait_ms,
			     c->by_class[0], c->by_class[1], c->by_class[2], c->by_class[3]);
}

/* As many records as stand at `burst` 1: record i has its slot i ÷ rate from now. */
static const struct backlog_row {
	int64_t records, per_second, defer_ms;
	int step;       /* one in so many is looked at */
	int64_t copies; /* of these */
	int64_t most;   /* of one */
} backlog_rows[] = {
	{4000, 20, 1000, 1, 25725, 12},
	{1000000, 100, 30000, 1, 7542676, 14},
	{1000000, 1, 30000, 997, 266429, 526}, /* eleven days */
};

START_TEST(test_deferral__copies_of_a_backlog)
{
	const struct backlog_row *row = &backlog_rows[_i];
	int64_t all = 0, most = 0;
	for (int64_t i = 1; i <= row->records; i += row->step) {
		int64_t wait_ms = gcra_wait_us(i * GCRA_CELL, row->per_second * 1000);
		struct copies c = copies_of(wait_ms, row->defer_ms, 4);
		check_copies(&c, wait_ms, row->defer_ms);
		all += c.all;
		most = c.all > most ? c.all : most;
	}
	printf("%" PRId64 " records at %" PRId64 "/s and %" PRId64 " ms: %" PRId64 " copies, %.1f a record, %" PRId64
	       " at the most\n",
	       row->records, row->per_second, row->defer_ms, all, (double)all * row->step / (double)row->records, most);
	ck_assert_int_eq(all, row->copies);
	ck_assert_int_eq(most, row->most);
}
END_TEST

/* ---- backlogs in time ---- */

enum { RECORDS_MAX = 4000, PARTITIONS_MAX = 8 };

struct waiting {
	int64_t kafka_ms, not_before_ms, slot_ms, generation;
	int copies;
};

static struct {
	int64_t per_second, burst, defer_ms;
	int32_t partitions;
	struct gcra bucket;
	int64_t drawn;
	struct waiting records[RECORDS_MAX];
	int queues[PARTITIONS_MAX][RECORDS_MAX]; /* rings of records */
	int heads[PARTITIONS_MAX], counts[PARTITIONS_MAX];
	int64_t met_ms[PARTITIONS_MAX]; /* when the head was met */
	int64_t passed_ms[RECORDS_MAX];
	int passed;
	int64_t copies;
} w;

static void begin(int64_t per_second, int64_t burst, int64_t defer_ms, int32_t partitions)
{
	memset(&w, 0, sizeof(w));
	w.per_second = per_second, w.burst = burst, w.defer_ms = defer_ms, w.partitions = partitions;
}

static void put(int record, int64_t at_ms)
{
	struct waiting *r = &w.records[record];
	struct deferral d = deferral_until_slot(at_ms, r->slot_ms, w.defer_ms, w.partitions);
	int32_t p = d.first + record % d.count;
	r->kafka_ms = at_ms;
	r->not_before_ms = d.not_before_ms;
	r->copies++;
	w.copies++;
	if (w.counts[p] == 0)
		w.met_ms[p] = at_ms;
	w.queues[p][(w.heads[p] + w.counts[p]++) % RECORDS_MAX] = record;
}

/* As the worker does it: batch.c. */
static void admit(int record, int64_t at_ms)
{
	struct waiting *r = &w.records[record];
	bool holds = r->slot_ms > 0 && deferral_turn(at_ms, r->slot_ms, w.defer_ms) != DEFERRAL_LATE;
	const struct gcra_ask ask = {w.per_second, w.burst, 1, holds ? r->generation : 0, ++w.drawn};
	struct gcra_answer a = gcra_charge(&w.bucket, at_ms * 1000, &ask);
	if (!(ask.shown && a.generation == ask.shown)) {
		r->slot_ms = a.granted ? at_ms : at_ms + (gcra_wait_us(a.over, w.per_second) + 999) / 1000;
		r->generation = a.generation;
	}
	if (r->slot_ms <= at_ms)
		w.passed_ms[w.passed++] = at_ms;
	else
		put(record, at_ms);
}

/* Returns: the partition whose head is due first, and when, or -1. */
static int32_t next_due(int64_t *at_ms)
{
	int32_t first = -1;
	for (int32_t p = 0; p < w.partitions; p++) {
		if (w.counts[p] == 0)
			continue;
		const struct waiting *r = &w.records[w.queues[p][w.heads[p]]];
		int64_t due_ms = deferral_due_ms(r->not_before_ms, r->kafka_ms, w.met_ms[p],
						 deferral_delay_ms(deferral_class(p, w.partitions), w.defer_ms));
		if (due_ms < w.met_ms[p])
			due_ms = w.met_ms[p];
		if (first < 0 || due_ms < *at_ms)
			first = p, *at_ms = due_ms;
	}
	return first;
}

/* Until all have passed, or `until_ms`. */
static void run_until(int64_t until_ms)
{
	int64_t at_ms = 0;
	int32_t p;
	while ((p = next_due(&at_ms)) >= 0 && at_ms <= until_ms) {
		int record = w.queues[p][w.heads[p]];
		w.heads[p] = (w.heads[p] + 1) % RECORDS_MAX;
		w.counts[p]--;
		w.met_ms[p] = at_ms;
		admit(record, at_ms);
	}
}

/* At each moment: burst + rate × (T + 2 × delay). */
static void check_rate(int records)
{
	ck_assert_int_eq(w.passed, records);
	int64_t least = INT64_MAX;
	int64_t bound = w.burst * 1000 + w.per_second * 2 * w.defer_ms;
	for (int i = 0; i < w.passed; i++) {
		int64_t level = i * INT64_C(1000) - w.per_second * (w.passed_ms[i] - now_ms);
		least = level < least ? level : least;
		ck_assert_msg(level - least <= bound, "too many at the %dth, %" PRId64 " ms", i,
			      w.passed_ms[i] - now_ms);
	}
}

static const struct flow_row {
	int64_t per_second, burst, defer_ms;
	int32_t partitions;
	int records;
	double copies_max; /* of a record, on average */
} flow_rows[] = {
	{20, 1, 1000, 4, 4000, 6.5},     /* the audit's: 106,956 copies for 600 credits */
	{20, 50, 1000, 8, 4000, 6.5},
	{100, 1, 500, 4, 4000, 6},
	{5, 3, 800, 4, 200, 6},
	{1000, 10, 100, 4, 4000, 6},
	{1, 1, 30000, 4, 2000, 6},
	{20, 1, 1000, 3, 1000, 8},
	{20, 1, 1000, 2, 1000, 10},
	{20, 1, 1000, 1, 400, 12},
};

START_TEST(test_deferral__backlog_passes_at_its_rate)
{
	const struct flow_row *row = &flow_rows[_i];
	begin(row->per_second, row->burst, row->defer_ms, row->partitions);
	for (int i = 0; i < row->records; i++)
		admit(i, now_ms);
	run_until(INT64_MAX);
	check_rate(row->records);
	/* And not slower: two delays behind what the limiter allows at the most. */
	int64_t ideal_ms = (row->records - row->burst) * 1000 / row->per_second;
	ck_assert_int_le(w.passed_ms[w.passed - 1] - now_ms, ideal_ms + 2 * row->defer_ms);
	printf("%d records at %" PRId64 "/s and %" PRId64 " ms in %d partitions: %.2f copies a record\n", row->records,
	       row->per_second, row->defer_ms, row->partitions, (double)w.copies / row->records);
	ck_assert_msg((double)w.copies / row->records <= row->copies_max, "%.2f copies a record",
		      (double)w.copies / row->records);
}
END_TEST

/* Nobody works for an hour: what has become due meanwhile does not pass at once. */
START_TEST(test_deferral__standstill_lets_nobody_pass_at_once)
{
	begin(20, 5, 1000, 4);
	for (int i = 0; i < RECORDS_MAX; i++)
		admit(i, now_ms);
	run_until(now_ms + 50000);
	int before = w.passed;
	ck_assert_int_gt(before, 900);
	for (int p = 0; p < w.partitions; p++)
		w.met_ms[p] = now_ms + 3600000;
	run_until(INT64_MAX);
	check_rate(RECORDS_MAX);
	ck_assert_int_lt(w.copies, 12 * RECORDS_MAX);
}
END_TEST

/* Redis is flushed, then its key cut for another rate: slots that were given before hold no more. */
START_TEST(test_deferral__lost_key_keeps_the_rate)
{
	begin(20, 5, 1000, 4);
	for (int i = 0; i < RECORDS_MAX; i++)
		admit(i, now_ms);
	run_until(now_ms + 50000);
	w.bucket = (struct gcra){0};
	run_until(INT64_MAX);
	check_rate(RECORDS_MAX);
	ck_assert_int_lt(w.copies, 14 * RECORDS_MAX);
}
END_TEST

/* Fresh ones of the partner come all the time, at half its rate: they queue behind, and all pass. */
START_TEST(test_deferral__fresh_ones_queue_behind)
{
	enum { WAITING = 2000 };
	begin(20, 1, 1000, 4);
	for (int i = 0; i < WAITING; i++)
		admit(i, now_ms);
	for (int i = WAITING; i < RECORDS_MAX; i++) {
		int64_t at_ms = now_ms + (i - WAITING) * INT64_C(100);
		run_until(at_ms);
		int passed = w.passed;
		admit(i, at_ms);
		/* While anybody waits for a turn, nobody overtakes. */
		ck_assert(w.passed == passed || w.bucket.full_at_us <= (at_ms + 1000) * 1000);
	}
	run_until(INT64_MAX);
	check_rate(RECORDS_MAX);
	ck_assert_int_lt(w.copies, 7 * RECORDS_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("deferral");
	TCase *tc = tcase_create("deferral");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_deferral__partitions_are_classes, 0, ROWS(class_rows));
	tcase_add_test(tc, test_deferral__delays_grow_fourfold);
	tcase_add_loop_test(tc, test_deferral__longest_class_that_is_not_beyond_the_slot, 0, ROWS(slot_rows));
	tcase_add_test(tc, test_deferral__grid_of_short_delays);
	tcase_add_loop_test(tc, test_deferral__without_a_slot_waits_grow, 0, ROWS(next_rows));
	tcase_add_loop_test(tc, test_deferral__nobody_is_held_longer_than_the_delay, 0, ROWS(due_rows));
	tcase_add_test(tc, test_deferral__slot_is_over_after_two_delays);
	tcase_add_loop_test(tc, test_deferral__copies_of_a_backlog, 0, ROWS(backlog_rows));
	tcase_add_loop_test(tc, test_deferral__backlog_passes_at_its_rate, 0, ROWS(flow_rows));
	tcase_add_test(tc, test_deferral__standstill_lets_nobody_pass_at_once);
	tcase_add_test(tc, test_deferral__lost_key_keeps_the_rate);
	tcase_add_test(tc, test_deferral__fresh_ones_queue_behind);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
