#include "worker/pipeline/record.h"

#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#define S(text) SLICE_LITERAL(text)

enum { POOL_BYTES = 1 << 20 };

static bool inside(const struct record *r, const void *p, size_t len)
{
	const char *from = (const char *)r, *at = p;
	return at >= from + sizeof(*r) && at + len <= from + r->block_size;
}

/* A Kafka record whose value has `value_len` bytes, lent until the next call. */
static struct kafka_record kafka_record_of(size_t value_len)
{
	static char bytes[256 * 1024];
	ck_assert_uint_le(value_len, sizeof(bytes));
	return (struct kafka_record){
		.topic = "events", .partition = 3, .offset = 42, .timestamp_us = 1000, .value = {bytes, value_len}};
}

/* The value's length with which a record takes `size` bytes. */
static size_t value_for(size_t size)
{
	return size - sizeof(struct record);
}

/* ---- what is copied ---- */

static struct event full_event(char text[64])
{
	memcpy(text, "order1event1source1customer1partner1driver1reason1", 51);
	return (struct event){
		.order_id = {text, 6},
		.event_id = {text + 6, 6},
		.source = {text + 12, 7},
		.customer_id = {text + 19, 9},
		.partner_id = {text + 28, 8},
		.driver_id = {text + 36, 7},
		.reason = {text + 43, 7},
		.status = STATUS_DELIVERED,
		.timestamp_us = 77,
		.amount_minor = 1000,
		.currency = "BRL",
		.refunded_total_minor = 5,
		.attempt = 2,
		.unknown_members = 4,
	};
}

/* All bytes are the record's own: what they were copied from may be overwritten at once. */
START_TEST(test_record__holds_copies_of_everything)
{
	struct record_pool pool;
	char key[] = "order1", value[] = "{\"order_id\":1}", name[] = "traceparent", text[64];
	struct header headers[] = {
		{{name, 11}, S("00-abc")},
		{S("null"), {0}},
		{{name, 11}, {"", 0}},
		{S("x"), {"\0\1\2", 3}},
	};
	struct event event = full_event(text);
	const struct kafka_record k = {.topic = "events",
				       .partition = 3,
				       .offset = 42,
				       .timestamp_us = 1000,
				       .key = {key, 6},
				       .value = {value, 14},
				       .headers = headers,
				       .header_count = 4};

	record_pool_init(&pool, POOL_BYTES);
	struct record *r = record_new(&pool, &k, &event);
	memset(key, 'x', sizeof(key));
	memset(value, 'x', sizeof(value));
	memset(name, 'x', sizeof(name));
	memset(text, 'x', sizeof(text));
	memset(headers, 0, sizeof(headers));
	memset(&event, 0, sizeof(event));

	ck_assert(slice_equal(r->key, S("order1")) && inside(r, r->key.data, r->key.len));
	ck_assert(slice_equal(r->value, S("{\"order_id\":1}")) && inside(r, r->value.data, r->value.len));
	ck_assert_uint_eq(r->header_count, 4);
	ck_assert(inside(r, r->headers, 4 * sizeof(struct header)));
	ck_assert_uint_eq((uintptr_t)r->headers % alignof(struct header), 0);
	static const struct header expected[] = {
		{{"traceparent", 11}, {"00-abc", 6}},
		{{"null", 4}, {0}},
		{{"traceparent", 11}, {"", 0}},
		{{"x", 1}, {"\0\1\2", 3}},
	};
	for (size_t i = 0; i < 4; i++) {
		ck_assert(slice_equal(r->headers[i].name, expected[i].name));
		ck_assert(inside(r, r->headers[i].name.data, r->headers[i].name.len));
		ck_assert(slice_equal(r->headers[i].value, expected[i].value));
		ck_assert(slice_present(r->headers[i].value) == slice_present(expected[i].value));
	}
	char again[64];
	struct event same = full_event(again);
	ck_assert(event_equal(&r->event, &same));
	ck_assert_uint_eq(r->event.unknown_members, 4);
	const struct slice strings[] = {r->event.order_id,   r->event.event_id,  r->event.source, r->event.customer_id,
					r->event.partner_id, r->event.driver_id, r->event.reason};
	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		ck_assert_msg(inside(r, strings[i].data, strings[i].len), "string %zu lies outside", i);
	ck_assert(slice_equal(r->source.topic, S("events")));
	ck_assert_int_eq(r->source.partition, 3);
	ck_assert_int_eq(r->source.offset, 42);
	ck_assert_int_eq(r->source.timestamp_us, 1000);
	record_free(&pool, r);
	record_pool_release(&pool);
}
END_TEST

START_TEST(test_record__null_and_empty_stay_apart)
{
	struct record_pool pool;
	struct kafka_record k = {.topic = "events", .offset = 1, .timestamp_us = -1};

	record_pool_init(&pool, POOL_BYTES);
	struct record *tombstone = record_new(&pool, &k, NULL);
	ck_assert(!slice_present(tombstone->key) && !slice_present(tombstone->value));
	ck_assert_int_eq(tombstone->source.timestamp_us, -1);
	k.key = k.value = (struct slice){"", 0};
	struct record *empty = record_new(&pool, &k, NULL);
	ck_assert(slice_present(empty->key) && slice_present(empty->value));
	ck_assert_uint_eq(empty->key.len + empty->value.len, 0);
	/* Absent members of an event stay absent. */
	struct event event = {.order_id = S("o"), .status = STATUS_CREATED, .amount_minor = -1};
	struct record *smallest = record_new(&pool, &k, &event);
	ck_assert(slice_equal(smallest->event.order_id, S("o")));
	ck_assert(!slice_present(smallest->event.event_id) && !slice_present(smallest->event.driver_id));
	record_free(&pool, smallest);
	record_free(&pool, empty);
	record_free(&pool, tombstone);
	record_pool_release(&pool);
}
END_TEST

/* A block that was used before tells nothing of its last record. */
START_TEST(test_record__the_rest_is_zero)
{
	struct record_pool pool;
	struct kafka_record k = kafka_record_of(10);

	record_pool_init(&pool, POOL_BYTES);
	struct record *r = record_new(&pool, &k, NULL);
	memset((char *)r + offsetof(struct record, owner), 0x5a,
	       offsetof(struct record, block_size) - offsetof(struct record, owner));
	r->not_before_ms = r->retry_at_us = r->committed_us = 1;
	r->rejected_at = 1;
	r->attempts = 9;
	r->deferred = r->without_value = r->admitted = true;
	record_refuse(r, ERROR_NOT_JSON, "", "");
	record_free(&pool, r);
	struct record *again = record_new(&pool, &k, NULL);
	ck_assert_ptr_eq(again, r);
	ck_assert_ptr_null(again->next);
	ck_assert_ptr_null(again->owner);
	ck_assert_ptr_null(again->partition);
	ck_assert_uint_eq(again->epoch + again->ticket + again->rejected_at + again->attempts, 0);
	ck_assert_int_eq(again->not_before_ms + again->retry_at_us + again->committed_us, 0);
	ck_assert_ptr_null(again->refusal);
	ck_assert(!again->deferred && !again->without_value && !again->admitted);
	ck_assert(!slice_present(again->event.order_id));
	ck_assert_uint_eq(again->header_count, 0);
	static const struct history_epoch none;
	ck_assert(history_epoch_equal(&again->history, &none));
	record_free(&pool, again);
	record_pool_release(&pool);
}
END_TEST

/* ---- the pool ---- */

START_TEST(test_record__blocks_by_class)
{
	struct record_pool pool;
	size_t block = RECORD_CLASS_MIN;

	record_pool_init(&pool, POOL_BYTES);
	ck_assert_uint_lt(sizeof(struct record), RECORD_CLASS_MIN);
	for (int class = 0; class < RECORD_CLASSES; class ++, block *= 2) {
		struct kafka_record fits = kafka_record_of(value_for(block)),
				    more = kafka_record_of(value_for(block) + 1);
		struct record *r = record_new(&pool, &fits, NULL);
		ck_assert_uint_eq(r->block_size, block);
		/* To the last byte: AddressSanitizer tells. */
		ck_assert(inside(r, r->value.data, r->value.len));
		struct record *next = record_new(&pool, &more, NULL);
		ck_assert_uint_eq(next->block_size, class == RECORD_CLASSES - 1 ? block + 1 : 2 * block);
		ck_assert_uint_eq(pool.live, 2);
		ck_assert_uint_eq(pool.live_bytes, r->block_size + next->block_size);
		record_free(&pool, r);
		record_free(&pool, next);
	}
	ck_assert_uint_eq(block / 2, 128 * 1024);
	record_pool_release(&pool);
}
END_TEST

START_TEST(test_record__blocks_are_used_again_within_their_class)
{
	struct record_pool pool;
	struct kafka_record small = kafka_record_of(1), large = kafka_record_of(5000), larger = kafka_record_of(6000);

	record_pool_init(&pool, POOL_BYTES);
	struct record *a = record_new(&pool, &small, NULL), *b = record_new(&pool, &large, NULL);
	ck_assert_uint_eq(a->block_size, 512);
	ck_assert_uint_eq(b->block_size, 8192);
	record_free(&pool, b);
	record_free(&pool, a);
	ck_assert_ptr_eq(pool.free[0], a); /* kept, not the allocator's again */
	ck_assert_ptr_eq(pool.free[4], b);
	struct record *c = record_new(&pool, &larger, NULL);
	ck_assert_ptr_eq(c, b); /* another length, the same class */
	struct record *d = record_new(&pool, &small, NULL);
	ck_assert_ptr_eq(d, a);
	struct record *e = record_new(&pool, &small, NULL); /* none is left: a new one */
	ck_assert_ptr_ne(e, a);
	ck_assert_uint_eq(pool.live, 3);
	/* Two of a class go and come. */
	record_free(&pool, d);
	record_free(&pool, e);
	struct record *f = record_new(&pool, &small, NULL), *g = record_new(&pool, &small, NULL);
	ck_assert((f == d && g == e) || (f == e && g == d));
	record_free(&pool, c);
	record_free(&pool, d);
	record_free(&pool, e);
	record_pool_release(&pool);
}
END_TEST

/* A steady load allocates nothing: the same blocks go round, whatever the order in which they come back. */
START_TEST(test_record__a_steady_load_stays_within_its_blocks)
{
	enum { LIVE = 50 };
	struct record_pool pool;
	struct record *records[LIVE], *known[LIVE];
	struct kafka_record k = kafka_record_of(700);

	record_pool_init(&pool, POOL_BYTES);
	for (int i = 0; i < LIVE; i++)
		known[i] = records[i] = record_new(&pool, &k, NULL);
	for (int round = 0; round < 1000; round++) {
		int i = round * 17 % LIVE;
		record_free(&pool, records[i]);
		records[i] = record_new(&pool, &k, NULL);
		bool is_known = false;
		for (int j = 0; j < LIVE; j++)
			is_known |= known[j] == records[i];
		if (!is_known)
			ck_abort_msg("round %d: a new block", round);
	}
	ck_assert_uint_eq(pool.live, LIVE);
	ck_assert_uint_eq(pool.live_bytes, LIVE * records[0]->block_size);
	for (int i = 0; i < LIVE; i++)
		record_free(&pool, records[i]);
	ck_assert_uint_eq(pool.live, 0);
	ck_assert_uint_eq(pool.live_bytes, 0);
	record_pool_release(&pool);
}
END_TEST

START_TEST(test_record__big_blocks_go_back_to_the_allocator)
{
	struct record_pool pool;
	struct kafka_record big = kafka_record_of(200 * 1024);

	record_pool_init(&pool, POOL_BYTES);
	struct record *r = record_new(&pool, &big, NULL);
	ck_assert_uint_eq(r->block_size, sizeof(struct record) + 200 * 1024);
	ck_assert_uint_eq(pool.live_bytes, r->block_size);
	record_free(&pool, r);
	ck_assert_uint_eq(pool.live, 0);
	ck_assert_uint_eq(pool.live_bytes, 0);
	for (int class = 0; class < RECORD_CLASSES; class ++)
		ck_assert_ptr_null(pool.free[class]);
	record_pool_release(&pool);
}
END_TEST

static size_t kept_bytes(const struct record_pool *p)
{
	size_t bytes = 0;
	for (int class = 0; class < RECORD_CLASSES; class++)
		for (const struct record *r = p->free[class]; r; r = r->next)
			bytes += (size_t)RECORD_CLASS_MIN << class;
	return bytes;
}

/* One size after the other fills the pool: what was kept of the sizes before gives way. */
START_TEST(test_record__sizes_that_change_stay_within_one_limit)
{
	static struct record *records[POOL_BYTES / RECORD_CLASS_MIN];
	static char value[RECORD_CLASS_MIN << (RECORD_CLASSES - 1)];
	struct record_pool pool;

	record_pool_init(&pool, POOL_BYTES);
	for (int round = 0; round < 3 * RECORD_CLASSES; round++) {
		size_t size = (size_t)RECORD_CLASS_MIN << (round * 5 % RECORD_CLASSES), count = 0;
		struct kafka_record k = {.topic = "events", .value = {value, size - sizeof(struct record)}};
		for (; pool.live_bytes + size <= POOL_BYTES; count++) {
			records[count] = record_new(&pool, &k, NULL);
			ck_assert_uint_eq(records[count]->block_size, size);
			ck_assert_uint_eq(kept_bytes(&pool), pool.kept_bytes);
			ck_assert_uint_le(pool.live_bytes + kept_bytes(&pool), POOL_BYTES);
		}
		for (size_t i = 0; i < count; i++)
			record_free(&pool, records[i]);
		ck_assert_uint_eq(kept_bytes(&pool), POOL_BYTES); /* and a steady load allocates nothing */
	}
	/* What is in flight may be more; it is not kept. */
	struct kafka_record k = {.topic = "events", .value = {value, 1000}};
	for (size_t i = 0; i < POOL_BYTES / RECORD_CLASS_MIN; i++)
		records[i] = record_new(&pool, &k, NULL);
	ck_assert_uint_gt(pool.live_bytes, POOL_BYTES);
	ck_assert_uint_eq(kept_bytes(&pool), 0);
	for (size_t i = 0; i < POOL_BYTES / RECORD_CLASS_MIN; i++)
		record_free(&pool, records[i]);
	ck_assert_uint_le(kept_bytes(&pool), POOL_BYTES);
	record_pool_release(&pool);
}
END_TEST

START_TEST(test_record__releasing_the_pool_with_a_live_record_is_a_bug)
{
	struct record_pool pool;
	struct kafka_record k = kafka_record_of(1);
	record_pool_init(&pool, POOL_BYTES);
	(void)record_new(&pool, &k, NULL);
	record_pool_release(&pool);
}
END_TEST

/* ---- refusals ---- */

START_TEST(test_record__the_first_refusal_stays)
{
	struct record_pool pool;
	struct kafka_record k = kafka_record_of(1);

	record_pool_init(&pool, POOL_BYTES);
	struct record *r = record_new(&pool, &k, NULL);
	ck_assert(!record_is_dead_letter(r));
	record_refuse(r, ERROR_ORDER_CONFLICT, "partner_id", "another partner");
	record_refuse(r, ERROR_DATABASE_REJECTED, "", "later");
	ck_assert(record_is_dead_letter(r));
	ck_assert_int_eq(r->outcome, OUTCOME_DEAD_LETTERED);
	ck_assert_int_eq(r->refusal->code, ERROR_ORDER_CONFLICT);
	ck_assert_str_eq(r->refusal->field, "partner_id");
	ck_assert_str_eq(r->refusal->message, "another partner");
	record_free(&pool, r);
	record_pool_release(&pool);
}
END_TEST

START_TEST(test_record__refusals_are_cut_to_fit)
{
	struct record_pool pool;
	struct kafka_record k = kafka_record_of(1);
	char text[1000];

	memset(text, 'm', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	record_pool_init(&pool, POOL_BYTES);
	struct record *r = record_new(&pool, &k, NULL);
	record_refuse(r, ERROR_UNKNOWN_FIELD, text, text);
	ck_assert_uint_eq(strlen(r->refusal->field), sizeof(r->refusal->field) - 1);
	ck_assert_uint_eq(strlen(r->refusal->message), sizeof(r->refusal->message) - 1);
	record_free(&pool, r);
	record_pool_release(&pool);
}
END_TEST

/* ---- lists ---- */

static void check_list(struct record_list *list, const struct record *records, const char *order)
{
	ck_assert_uint_eq(list->count, strlen(order));
	for (; *order; order++)
		ck_assert_ptr_eq(record_list_take(list), &records[*order - 'a']);
	ck_assert_ptr_null(record_list_take(list));
	ck_assert_uint_eq(list->count, 0);
	ck_assert(!list->first && !list->last);
}

START_TEST(test_record__lists_are_first_in_first_out)
{
	static const struct {
		const char *list, *from;
	} rows[] = {{"", ""}, {"a", ""}, {"", "a"}, {"abc", ""}, {"", "abc"}, {"ab", "cd"}, {"a", "b"}};
	struct record records[4] = {0};

	for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		struct record_list list = {0}, from = {0};
		char joined[8];
		for (const char *c = rows[row].list; *c; c++)
			record_list_append(&list, &records[*c - 'a']);
		for (const char *c = rows[row].from; *c; c++)
			record_list_append(&from, &records[*c - 'a']);
		record_list_join(&list, &from);
		ck_assert(!from.first && !from.last && from.count == 0);
		snprintf(joined, sizeof(joined), "%s%s", rows[row].list, rows[row].from);
		ck_assert(!list.last || !list.last->next);
		check_list(&list, records, joined);
	}
	/* Appending after taking all; and a record that still points into another list. */
	struct record_list list = {0};
	records[0].next = &records[3];
	record_list_append(&list, &records[0]);
	ck_assert_ptr_null(list.last->next);
	record_list_append(&list, &records[1]);
	ck_assert_ptr_eq(record_list_take(&list), &records[0]);
	ck_assert_ptr_null(records[0].next);
	record_list_append(&list, &records[0]);
	check_list(&list, records, "ba");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("record");
	TCase *tc = tcase_create("record");
	tcase_add_test(tc, test_record__holds_copies_of_everything);
	tcase_add_test(tc, test_record__null_and_empty_stay_apart);
	tcase_add_test(tc, test_record__the_rest_is_zero);
	tcase_add_test(tc, test_record__blocks_by_class);
	tcase_add_test(tc, test_record__blocks_are_used_again_within_their_class);
	tcase_add_test(tc, test_record__a_steady_load_stays_within_its_blocks);
	tcase_add_test(tc, test_record__sizes_that_change_stay_within_one_limit);
	tcase_add_test(tc, test_record__big_blocks_go_back_to_the_allocator);
	tcase_add_test_raise_signal(tc, test_record__releasing_the_pool_with_a_live_record_is_a_bug, SIGABRT);
	tcase_add_test(tc, test_record__the_first_refusal_stays);
	tcase_add_test(tc, test_record__refusals_are_cut_to_fit);
	tcase_add_test(tc, test_record__lists_are_first_in_first_out);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
