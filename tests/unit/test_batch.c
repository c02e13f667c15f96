/*
 * A batch's steps. Records bear their number (ticket), so where each of them went is a string: "025" are the
 * records 0, 2 and 5, in that order.
 */
#include "worker/pipeline/batch.h"

#include "worker/pipeline/partition.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define S(text) SLICE_LITERAL(text)

enum { RECORDS = 10, MAX = 8, DEFER_MS = 1000 };

#define NOW_MS INT64_C(1767225600000)

static struct partition partition;
static struct record records[RECORDS];
static struct batch batch;

/* Records of the same reading, each of an order of its own. */
static void set_up(void)
{
	static char ids[RECORDS][4];
	partition_init(&partition, "events", 0, false);
	partition_assign(&partition);
	for (size_t i = 0; i < RECORDS; i++) {
		snprintf(ids[i], sizeof(ids[i]), "o%zu", i);
		records[i] = (struct record){
			.partition = &partition,
			.epoch = partition_epoch(&partition),
			.ticket = i,
			.outcome = OUTCOME_COUNT,
			.event = {.order_id = slice_of(ids[i]),
				  .status = STATUS_CREATED,
				  .timestamp_us = 1000 + (int64_t)i,
				  .amount_minor = -1},
		};
	}
	batch_init(&batch, MAX);
}

static void tear_down(void)
{
	batch_release(&batch);
	partition_release(&partition);
}

static void load(size_t count)
{
	struct record_list list = {0};
	for (size_t i = 0; i < count; i++)
		record_list_append(&list, &records[i]);
	batch_load(&batch, &list);
}

static void check_batch(const char *expected)
{
	char numbers[MAX + 1] = "";
	for (size_t i = 0; i < batch.count; i++)
		snprintf(numbers + i, 2, "%u", (unsigned)batch.records[i]->ticket);
	ck_assert_str_eq(numbers, expected);
}

static void check_list(const struct record_list *list, const char *expected)
{
	char numbers[RECORDS + 1] = "";
	size_t count = 0;
	for (const struct record *r = list->first; r; r = r->next)
		snprintf(numbers + count++, 2, "%u", (unsigned)r->ticket);
	ck_assert_str_eq(numbers, expected);
	ck_assert_uint_eq(list->count, count);
}

/* Digests of our own choice: byte `at` tells records apart. */
static void mark_by_number(size_t at)
{
	for (size_t i = 0; i < batch.count; i++) {
		batch.marks[i] = (struct gate_mark){.timestamp_us = batch.records[i]->event.timestamp_us};
		batch.marks[i].digest.bytes[at] = (uint8_t)(batch.records[i]->ticket + 1);
	}
}

/* Marks belong to their records still. */
static void check_marks(size_t at)
{
	for (size_t i = 0; i < batch.count; i++) {
		ck_assert_uint_eq(batch.marks[i].digest.bytes[at], batch.records[i]->ticket + 1);
		ck_assert_int_eq(batch.marks[i].timestamp_us, batch.records[i]->event.timestamp_us);
	}
}

/* ---- loading ---- */

/* Histories of the records, and what each load brings until all were had. */
static const struct {
	const char *histories;
	const char *batches[5];
} load_rows[] = {
	{"", {""}},
	{"a", {"0", ""}},
	{"aaaaa", {"01234", ""}},
	{"aaaaaaaaaa", {"01234567", "89", ""}},
	{"aaabbb", {"012", "345", ""}},
	{"ababab", {"024", "135", ""}},
	{"abcabc", {"03", "14", "25", ""}},
	{"abaaaaaaaa", {"02345678", "1", "9", ""}},
	{"baaaaaaaab", {"09", "12345678", ""}},
};

START_TEST(test_batch__one_history_at_a_time)
{
	struct record_list list = {0};
	for (size_t i = 0; load_rows[_i].histories[i]; i++) {
		memset(&records[i].history, load_rows[_i].histories[i], sizeof(records[i].history));
		record_list_append(&list, &records[i]);
	}
	for (size_t i = 0; i < 5 && load_rows[_i].batches[i]; i++) {
		batch_load(&batch, &list);
		ck_assert_uint_eq(list.count, 0);
		check_batch(load_rows[_i].batches[i]);
		batch.count = 0;
	}
	ck_assert_uint_eq(batch.later.count, 0);
}
END_TEST

/* What had to wait is older than what comes now. */
START_TEST(test_batch__later_ones_come_before_new_ones)
{
	struct record_list list = {0};
	records[1].history.bytes[15] = 1;
	load(3);
	check_batch("02");
	check_list(&batch.later, "1");
	batch.count = 0;
	records[4].history.bytes[15] = 1;
	record_list_append(&list, &records[3]);
	record_list_append(&list, &records[4]);
	batch_load(&batch, &list);
	check_batch("14");
	check_list(&batch.later, "3");
}
END_TEST

/* Behind those that are left of it: what waited for room, 9, then what comes, 4 and 5; 1 is of another history. */
START_TEST(test_batch__is_filled_up)
{
	struct record_list list = {0};
	records[1].history.bytes[15] = 1;
	load(RECORDS);
	check_batch("02345678");
	check_list(&batch.later, "19");
	batch.count = 3;
	record_list_append(&list, &records[4]);
	record_list_append(&list, &records[5]);
	batch_load(&batch, &list);
	check_batch("023945");
	check_list(&batch.later, "1");
	ck_assert_uint_eq(list.count, 0);
}
END_TEST

/* ---- removing ---- */

static const struct {
	const char *gone; /* by index: 'x' */
	const char *kept, *removed;
} remove_rows[] = {
	{"........", "01234567", ""}, {"x.......", "1234567", "0"}, {".......x", "0123456", "7"},
	{"..x.xx..", "01367", "245"}, {"x.x.x.x.", "1357", "0246"}, {"xxxxxxxx", "", "01234567"},
};

START_TEST(test_batch__removal_keeps_order_and_marks)
{
	bool gone[MAX];

	load(MAX);
	mark_by_number(5);
	for (size_t i = 0; i < MAX; i++)
		gone[i] = remove_rows[_i].gone[i] == 'x';
	struct record_list to = {0};
	record_list_append(&to, &records[9]);
	batch_remove(&batch, gone, OUTCOME_DUPLICATE, &to);
	check_batch(remove_rows[_i].kept);
	check_marks(5);
	ck_assert_ptr_eq(record_list_take(&to), &records[9]);
	check_list(&to, remove_rows[_i].removed);
	for (size_t i = 0; i < MAX; i++)
		ck_assert_int_eq(records[i].outcome, gone[i] ? OUTCOME_DUPLICATE : OUTCOME_COUNT);
}
END_TEST

START_TEST(test_batch__unwanted_ones_are_released)
{
	load(6);
	mark_by_number(0);
	batch_drop_unwanted(&batch);
	check_batch("012345");
	check_list(&batch.returned, "");
	records[1].epoch--;
	records[4].epoch--;
	batch_drop_unwanted(&batch);
	check_batch("0235");
	check_marks(0);
	check_list(&batch.returned, "14");
	ck_assert_int_eq(records[1].outcome, OUTCOME_RELEASED);
	ck_assert_int_eq(records[4].outcome, OUTCOME_RELEASED);
	ck_assert_int_eq(records[0].outcome, OUTCOME_COUNT);
	partition_lose(&partition);
	batch_drop_unwanted(&batch);
	check_batch("");
	check_list(&batch.returned, "140235");
}
END_TEST

START_TEST(test_batch__giving_up_releases_all)
{
	load(4);
	mark_by_number(0);
	batch_release_records(&batch);
	check_batch("");
	check_list(&batch.returned, "0123");
	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(records[i].outcome, OUTCOME_RELEASED);
	batch_release_records(&batch); /* of nothing */
	check_list(&batch.returned, "0123");
}
END_TEST

/* ---- repeats ---- */

START_TEST(test_batch__digests_of_what_was_added_leave_the_others_alone)
{
	static const uint8_t key[16] = {1, 2, 3}, another[16] = {1, 2, 4};
	load(3);
	batch_digest(&batch, 0, another);
	batch_digest(&batch, 2, key);
	for (size_t i = 0; i < 3; i++) {
		struct event_digest digest;
		event_digest(&records[i].event, i < 2 ? another : key, &digest);
		ck_assert_mem_eq(&batch.marks[i].digest, &digest, sizeof(digest));
	}
}
END_TEST

START_TEST(test_batch__digests_are_of_the_events)
{
	static const uint8_t key[16] = {1, 2, 3}, another[16] = {1, 2, 4};
	load(3);
	batch_digest(&batch, 0, key);
	for (size_t i = 0; i < 3; i++) {
		struct event_digest digest;
		event_digest(&records[i].event, key, &digest);
		ck_assert_mem_eq(&batch.marks[i].digest, &digest, sizeof(digest));
		ck_assert_int_eq(batch.marks[i].timestamp_us, records[i].event.timestamp_us);
		event_digest(&records[i].event, another, &digest);
		ck_assert_mem_ne(&batch.marks[i].digest, &digest, sizeof(digest));
	}
}
END_TEST

/* Letters name events: equal letters, equal events. Their digests are the real ones. */
static const struct {
	const char *events;
	const char *kept, *repeats;
} repeat_rows[] = {
	{"abcdefgh", "01234567", ""}, {"aa", "0", "1"},         {"aaaaaaaa", "0", "1234567"}, {"abab", "01", "23"},
	{"abcba", "012", "34"},       {"abbbac", "015", "234"}, {"hgfedcbh", "0123456", "7"},
};

START_TEST(test_batch__an_equal_record_earlier_is_a_repeat)
{
	static const uint8_t key[16] = {7};
	const char *events = repeat_rows[_i].events;
	for (size_t i = 0; events[i]; i++) {
		records[i].event.order_id = S("o");
		records[i].event.timestamp_us = events[i];
	}
	load(strlen(events));
	batch_digest(&batch, 0, key);
	batch_drop_repeats(&batch);
	check_batch(repeat_rows[_i].kept);
	check_list(&batch.repeats, repeat_rows[_i].repeats);
	check_list(&batch.returned, "");
	for (size_t i = 0; i < batch.count; i++) {
		struct event_digest digest;
		event_digest(&batch.records[i]->event, key, &digest);
		ck_assert_mem_eq(&batch.marks[i].digest, &digest, sizeof(digest));
	}
}
END_TEST

/* What becomes of the first decides: only its COMMIT makes duplicates, anything else leaves the repeats to themselves. */
START_TEST(test_batch__repeats_wait_for_the_first)
{
	static const uint8_t key[16] = {7};
	static const char events[] = "abcdabcd";
	struct gate_mark written[MAX];
	for (size_t i = 0; i < MAX; i++) {
		records[i].event.order_id = S("o");
		records[i].event.timestamp_us = events[i];
	}
	load(MAX);
	batch_digest(&batch, 0, key);
	batch_drop_repeats(&batch);
	check_batch("0123");
	batch.fates[0] = FATE_WRITTEN;
	batch.fates[1] = FATE_LETTER;
	batch.fates[2] = batch.fates[3] = FATE_OPEN;
	ck_assert_uint_eq(batch_sweep(&batch, 1, written), 1);
	batch_release_records(&batch);
	check_list(&batch.returned, "023");
	check_list(&batch.repeats, "4567");

	batch_judge_repeats(&batch);
	check_list(&batch.returned, "0234");
	ck_assert_int_eq(records[4].outcome, OUTCOME_DUPLICATE);
	check_list(&batch.repeats, "");
	struct record_list none = {0};
	batch_load(&batch, &none);
	check_batch("567");
}
END_TEST

/* Two facts whose digests collide are two facts; so are, as far as the filter can tell, two digests. Every byte of
 * the digest counts, also those that the table does not hash by. */
START_TEST(test_batch__digest_and_event_must_both_be_equal)
{
	load(MAX);
	for (size_t i = 0; i < MAX; i++)
		batch.marks[i] = (struct gate_mark){0};
	batch_drop_repeats(&batch);
	check_batch("01234567");

	for (size_t i = 0; i < MAX; i++)
		records[i].event = records[0].event;
	for (size_t at = 0; at < sizeof(batch.marks[0].digest.bytes); at++) {
		mark_by_number(at);
		batch_drop_repeats(&batch);
		check_batch("01234567");
		check_marks(at);
	}
	check_list(&batch.repeats, "");

	/* All in one chain of the table, and the last is the first again. */
	mark_by_number(15);
	batch.marks[7] = batch.marks[0];
	batch_drop_repeats(&batch);
	check_batch("0123456");
	check_list(&batch.repeats, "7");
}
END_TEST

/* As many as a batch holds, twice over, in one large batch. */
START_TEST(test_batch__half_of_a_large_batch_repeats)
{
	enum { LARGE = 1000 };
	static const uint8_t key[16] = {3};
	static struct record many[LARGE];
	struct batch large;
	struct record_list list = {0};

	batch_init(&large, LARGE);
	for (size_t i = 0; i < LARGE; i++) {
		many[i] =
			(struct record){.partition = &partition,
					.ticket = i,
					.event = {.order_id = S("o"), .timestamp_us = (int64_t)(i * 7 % (LARGE / 2))}};
		record_list_append(&list, &many[i]);
	}
	batch_load(&large, &list);
	ck_assert_uint_eq(large.count, LARGE);
	batch_digest(&large, 0, key);
	batch_drop_repeats(&large);
	ck_assert_uint_eq(large.count, LARGE / 2);
	ck_assert_uint_eq(large.repeats.count, LARGE / 2);
	for (size_t i = 0; i < LARGE / 2; i++)
		ck_assert_ptr_eq(large.records[i], &many[i]);
	batch_release(&large);
}
END_TEST

/* ---- admission ---- */

static void set_partners(const char *partners) /* a letter a record; '-': none */
{
	static char names[RECORDS][3];
	for (size_t i = 0; partners[i]; i++) {
		snprintf(names[i], sizeof(names[i]), "p%c", partners[i]);
		records[i].event.partner_id = slice_of(partners[i] == '-' ? NULL : names[i]);
	}
	load(strlen(partners));
}

static const struct gate_request *request_of(size_t count, const char *partner)
{
	const struct gate_request *found = NULL;
	for (size_t i = 0; i < count; i++)
		if (slice_equal(batch.requests[i].partner_id, slice_of(partner))) {
			ck_assert_ptr_null(found);
			found = &batch.requests[i];
		}
	return found;
}

static void check_request(size_t count, const char *partner, int64_t per_second, int64_t burst, int64_t wanted)
{
	const struct gate_request *r = request_of(count, partner);
	ck_assert_msg(r != NULL, "no request for %s", partner);
	ck_assert_int_eq(r->per_second, per_second);
	ck_assert_int_eq(r->burst, burst);
	ck_assert_int_eq(r->wanted, wanted);
	ck_assert_int_eq(r->granted, 0);
}

static const struct rate_limit no_limit = {0, 20}, ten = {10, 20};

START_TEST(test_batch__nothing_is_asked_without_limits)
{
	struct rules *rules = rules_new(1);
	rules_seal(rules);
	set_partners("aabb");
	ck_assert_uint_eq(batch_collect_requests(&batch, NULL, &no_limit, NOW_MS, DEFER_MS), 0);
	ck_assert_uint_eq(batch_collect_requests(&batch, rules, &no_limit, NOW_MS, DEFER_MS), 0);
	rules_unref(rules);
}
END_TEST

START_TEST(test_batch__requests_are_summed_by_partner)
{
	set_partners("ab-aac-b");
	ck_assert_uint_eq(batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS), 3);
	check_request(3, "pa", 10, 20, 3);
	check_request(3, "pb", 10, 20, 2);
	check_request(3, "pc", 10, 20, 1);
	/* Asked anew (Redis was away), nothing is asked twice. */
	ck_assert_uint_eq(batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS), 3);
	check_request(3, "pa", 10, 20, 3);
}
END_TEST

/* As many as records, so that names share places in the table. */
START_TEST(test_batch__a_request_for_each_of_many_partners)
{
	enum { LARGE = 500 };
	static struct record many[LARGE];
	static char names[LARGE][24];
	struct batch large;
	struct record_list list = {0};

	batch_init(&large, LARGE);
	for (size_t i = 0; i < LARGE; i++) {
		snprintf(names[i], sizeof(names[i]), "partner-%zu", i);
		many[i] = (struct record){.partition = &partition, .event = {.partner_id = slice_of(names[i])}};
		record_list_append(&list, &many[i]);
	}
	batch_load(&large, &list);
	ck_assert_uint_eq(batch_collect_requests(&large, NULL, &ten, NOW_MS, DEFER_MS), LARGE);
	for (size_t i = 0; i < LARGE; i++)
		if (!slice_equal(large.requests[i].partner_id, slice_of(names[i])) || large.requests[i].wanted != 1)
			ck_abort_msg("request %zu", i);
	batch_release(&large);
}
END_TEST

/* Own settings go before the option's, each for itself. */
static const struct {
	const char *what;
	int64_t own_per_second, own_burst; /* -1: the option's */
	struct rate_limit standard;
	int64_t per_second, burst; /* 0: not asked */
} limit_rows[] = {
	{"none of its own", -1, -1, {10, 20}, 10, 20},
	{"a rate of its own", 50, -1, {10, 20}, 50, 20},
	{"a burst of its own", -1, 7, {10, 20}, 10, 7},
	{"both", 50, 7, {10, 20}, 50, 7},
	{"without a limit, by its own setting", 0, -1, {10, 20}, 0, 0},
	{"limited where nobody else is", 50, -1, {0, 20}, 50, 20},
	{"a burst alone limits nothing", -1, 7, {0, 20}, 0, 0},
};

START_TEST(test_batch__limits_of_a_partner)
{
	struct rules *rules = rules_new(1);
	rules_add_partner(rules, &(struct partner_settings){.partner_id = S("pa"),
							    .kinds = KINDS_ALL,
							    .per_second = limit_rows[_i].own_per_second,
							    .burst = limit_rows[_i].own_burst});
	rules_seal(rules);
	set_partners("aba");
	const struct rate_limit *standard = &limit_rows[_i].standard;
	size_t count = batch_collect_requests(&batch, rules, standard, NOW_MS, DEFER_MS);
	ck_assert_msg((request_of(count, "pa") != NULL) == (limit_rows[_i].per_second > 0), "%s", limit_rows[_i].what);
	if (limit_rows[_i].per_second > 0)
		check_request(count, "pa", limit_rows[_i].per_second, limit_rows[_i].burst, 2);
	/* The other one is not touched by it. */
	ck_assert((request_of(count, "pb") != NULL) == (standard->per_second > 0));
	if (standard->per_second > 0)
		check_request(count, "pb", standard->per_second, standard->burst, 1);
	rules_unref(rules);
}
END_TEST

static void grant(size_t count, const char *partner, int64_t granted)
{
	for (size_t i = 0; i < count; i++)
		if (slice_equal(batch.requests[i].partner_id, slice_of(partner)))
			batch.requests[i].granted = granted;
}

START_TEST(test_batch__grants_go_to_the_first_ones)
{
	set_partners("ab-aacab");
	mark_by_number(3);
	size_t count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	grant(count, "pa", 2);
	grant(count, "pb", 2);
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch("01237");
	check_marks(3);
	check_list(&batch.outgoing, "456");
	check_list(&batch.returned, "");
	static const bool admitted[] = {true, true, false, true, false, false, false, true};
	for (size_t i = 0; i < MAX; i++) {
		ck_assert_msg(records[i].admitted == admitted[i], "record %zu", i);
		bool deferred = i == 4 || i == 5 || i == 6;
		ck_assert_int_eq(records[i].outcome, deferred ? OUTCOME_DEFERRED : OUTCOME_COUNT);
	}
	/* On a retry of the batch they were charged already. */
	ck_assert_uint_eq(batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS), 0);
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch("01237");
}
END_TEST

/* Between two tries more came free: only those not admitted yet are asked for. */
START_TEST(test_batch__admitted_ones_are_not_asked_again)
{
	set_partners("aaaab");
	records[0].admitted = records[2].admitted = true;
	size_t count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	ck_assert_uint_eq(count, 2);
	check_request(count, "pa", 10, 20, 2);
	check_request(count, "pb", 10, 20, 1);
	/* Nothing is granted: who was admitted before stays. */
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch("02");
	check_list(&batch.outgoing, "134");
}
END_TEST

/* The generation that the limiter's key has now, and what is over the burst there. */
static void answer(size_t count, const char *partner, int64_t shown, int64_t generation, int64_t granted, int64_t over)
{
	for (size_t i = 0; i < count; i++) {
		struct gate_request *r = &batch.requests[i];
		if (slice_equal(r->partner_id, slice_of(partner)) && r->shown == shown)
			r->granted = granted, r->generation = generation, r->over = over, r->stretch = 1;
	}
}

/* Over the limit: the first waits for one cell and a half, at ten a second, each other 100 ms longer. */
START_TEST(test_batch__each_that_is_deferred_has_its_slot)
{
	set_partners("aaaa");
	size_t count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	answer(count, "pa", 0, 77, 1, 1500001);
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch("0");
	check_list(&batch.outgoing, "123");
	ck_assert_int_eq(records[0].slot.at_ms, 0);
	for (size_t i = 1; i < 4; i++) {
		/* Up to the next millisecond: before it the debt is not paid. */
		ck_assert_int_eq(records[i].slot.at_ms, NOW_MS + 151 + (int64_t)(i - 1) * 100);
		ck_assert_int_eq(records[i].slot.per_second, 10);
		ck_assert_int_eq(records[i].slot.generation, 77);
	}
}
END_TEST

/* This process' part of the rate: turns come later by as much. */
START_TEST(test_batch__slots_of_a_share_are_stretched)
{
	set_partners("aa");
	size_t count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	answer(count, "pa", 0, 77, 0, 1000000);
	batch.requests[0].stretch = 4;
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	ck_assert_int_eq(records[0].slot.at_ms, NOW_MS + 400);
	ck_assert_int_eq(records[1].slot.at_ms, NOW_MS + 800);
}
END_TEST

static const struct {
	const char *what;
	struct rate_slot slot;
	int64_t shown;      /* 0: it is asked for as a fresh one */
	int64_t generation; /* of the key; then nothing is granted to who is charged anew */
	bool passes;
	int64_t slot_ms;    /* when it doesn't */
} shown_rows[] = {
	{"its slot has come", {NOW_MS - 1, 10, 77}, 77, 77, true, 0},
	{"this very moment", {NOW_MS, 10, 77}, 77, 77, true, 0},
	{"not yet", {NOW_MS + 1, 10, 77}, 77, 77, false, NOW_MS + 1},
	{"behind the last that was charged, by a replica's clock", {NOW_MS + 5000 + 2 * DEFER_MS, 10, 77}, 77, 77, false,
	 NOW_MS + 5000 + 2 * DEFER_MS},
	{"the last moment of it", {NOW_MS - 2 * DEFER_MS, 10, 77}, 77, 77, true, 0},
	{"it is over", {NOW_MS - 2 * DEFER_MS - 1, 10, 77}, 0, 77, false, NOW_MS + 5000},
	{"a key that was lost", {NOW_MS - 1, 10, 77}, 77, 78, false, NOW_MS + 5000},
	{"a key that was lost, not yet", {NOW_MS + 900, 10, 77}, 77, 78, false, NOW_MS + 5000},
	{"another rate", {NOW_MS - 1, 11, 77}, 0, 77, false, NOW_MS + 5000},
	{"none", {0}, 0, 77, false, NOW_MS + 5000},
};

START_TEST(test_batch__a_slot_passes_unasked_while_it_holds)
{
	set_partners("aa");
	records[1].slot = shown_rows[_i].slot;
	size_t count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	ck_assert_msg(count == (shown_rows[_i].shown ? 2 : 1), "%s: %zu requests", shown_rows[_i].what, count);
	ck_assert_int_eq(batch.requests[count - 1].shown, shown_rows[_i].shown);
	ck_assert_int_eq(batch.requests[0].wanted, shown_rows[_i].shown ? 1 : 2);
	/* The fresh one in front of it is over the limit, in any case. */
	answer(count, "pa", 0, 77, 0, 49000000);
	if (shown_rows[_i].shown)
		answer(count, "pa", 77, shown_rows[_i].generation, shown_rows[_i].generation == 77 ? 1 : 0, 50000000);
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch(shown_rows[_i].passes ? "1" : "");
	check_list(&batch.outgoing, shown_rows[_i].passes ? "0" : "01");
	ck_assert_int_eq(records[1].admitted, shown_rows[_i].passes);
	if (!shown_rows[_i].passes)
		ck_assert_msg(records[1].slot.at_ms == shown_rows[_i].slot_ms, "%s: %lld ms", shown_rows[_i].what,
			      (long long)(records[1].slot.at_ms - NOW_MS));
}
END_TEST

/* A clock a day ahead gave it, or the key has lost the charge: it is charged again, in a second round. */
START_TEST(test_batch__a_slot_far_beyond_all_charges_is_none)
{
	set_partners("aaa");
	records[0].slot = (struct rate_slot){NOW_MS + 5001 + 2 * DEFER_MS, 10, 77};
	records[1].slot = (struct rate_slot){NOW_MS + 4000, 10, 77};
	records[2].slot = (struct rate_slot){NOW_MS, 10, 77};
	size_t count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	ck_assert_uint_eq(count, 1);
	answer(count, "pa", 77, 77, 3, 50000000);
	ck_assert(batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch("02");
	check_list(&batch.outgoing, "1");
	count = batch_collect_requests(&batch, NULL, &ten, NOW_MS, DEFER_MS);
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(batch.requests[0].shown, 0);
	ck_assert_int_eq(batch.requests[0].wanted, 1);
	answer(count, "pa", 0, 77, 0, 51000000);
	ck_assert(!batch_apply_grants(&batch, NOW_MS, DEFER_MS));
	check_batch("2");
	check_list(&batch.outgoing, "10");
	ck_assert_int_eq(records[0].slot.at_ms, NOW_MS + 5100);
}
END_TEST

/* ---- the write ---- */

/* Fates by index: 'o'pen, 'w'ritten, 'l'etter, 'd'eferred. */
static const struct {
	const char *fates;
	const char *open, *written, *letters;
} sweep_rows[] = {
	{"oooo", "0123", "", ""},
	{"wwww", "", "0123", ""},
	{"llll", "", "", "0123"},
	{"wolwolwo", "147", "036", "25"},
	{"oowwll", "01", "23", "45"},
	{"lwo", "2", "1", "0"},
	{"dldwo", "4", "3", "012"},
	{"", "", "", ""},
};

START_TEST(test_batch__sweep_by_fates)
{
	const char *fates = sweep_rows[_i].fates;
	struct gate_mark written[MAX] = {0};
	load(strlen(fates));
	mark_by_number(2);
	for (size_t i = 0; fates[i]; i++) {
		batch.fates[i] = fates[i] == 'o'   ? FATE_OPEN
				 : fates[i] == 'w' ? FATE_WRITTEN
				 : fates[i] == 'd' ? FATE_DEFERRED
						   : FATE_LETTER;
		records[i].outcome = fates[i] == 'w' ? OUTCOME_CREDITED : OUTCOME_DEAD_LETTERED;
	}
	size_t marks = batch_sweep(&batch, 123456, written);
	check_batch(sweep_rows[_i].open);
	check_marks(2);
	check_list(&batch.returned, sweep_rows[_i].written);
	check_list(&batch.outgoing, sweep_rows[_i].letters);
	/* Only what is committed gets a mark: a letter's or an open one's would make a duplicate of what was never
	 * written. */
	ck_assert_uint_eq(marks, strlen(sweep_rows[_i].written));
	for (size_t i = 0; i < marks; i++) {
		ck_assert_uint_eq(written[i].digest.bytes[2], (uint8_t)(sweep_rows[_i].written[i] - '0' + 1));
		ck_assert_int_eq(written[i].timestamp_us, 1000 + sweep_rows[_i].written[i] - '0');
	}
	for (size_t i = 0; fates[i]; i++) {
		ck_assert_int_eq(records[i].committed_us, fates[i] == 'w' ? 123456 : 0);
		ck_assert_int_eq(records[i].outcome, fates[i] == 'w'   ? OUTCOME_CREDITED
						     : fates[i] == 'd' ? OUTCOME_DEFERRED
								       : OUTCOME_DEAD_LETTERED);
		ck_assert(records[i].unknown_code == (fates[i] == 'd'));
	}
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("batch");
	TCase *tc = tcase_create("batch");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, test_batch__one_history_at_a_time, 0, ROWS(load_rows));
	tcase_add_test(tc, test_batch__later_ones_come_before_new_ones);
	tcase_add_test(tc, test_batch__is_filled_up);
	tcase_add_test(tc, test_batch__digests_of_what_was_added_leave_the_others_alone);
	tcase_add_loop_test(tc, test_batch__removal_keeps_order_and_marks, 0, ROWS(remove_rows));
	tcase_add_test(tc, test_batch__unwanted_ones_are_released);
	tcase_add_test(tc, test_batch__giving_up_releases_all);
	tcase_add_test(tc, test_batch__digests_are_of_the_events);
	tcase_add_loop_test(tc, test_batch__an_equal_record_earlier_is_a_repeat, 0, ROWS(repeat_rows));
	tcase_add_test(tc, test_batch__repeats_wait_for_the_first);
	tcase_add_test(tc, test_batch__digest_and_event_must_both_be_equal);
	tcase_add_test(tc, test_batch__half_of_a_large_batch_repeats);
	tcase_add_test(tc, test_batch__nothing_is_asked_without_limits);
	tcase_add_test(tc, test_batch__requests_are_summed_by_partner);
	tcase_add_test(tc, test_batch__a_request_for_each_of_many_partners);
	tcase_add_loop_test(tc, test_batch__limits_of_a_partner, 0, ROWS(limit_rows));
	tcase_add_test(tc, test_batch__grants_go_to_the_first_ones);
	tcase_add_test(tc, test_batch__admitted_ones_are_not_asked_again);
	tcase_add_test(tc, test_batch__each_that_is_deferred_has_its_slot);
	tcase_add_test(tc, test_batch__slots_of_a_share_are_stretched);
	tcase_add_loop_test(tc, test_batch__a_slot_passes_unasked_while_it_holds, 0, ROWS(shown_rows));
	tcase_add_test(tc, test_batch__a_slot_far_beyond_all_charges_is_none);
	tcase_add_loop_test(tc, test_batch__sweep_by_fates, 0, ROWS(sweep_rows));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
