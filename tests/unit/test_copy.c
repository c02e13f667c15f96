/*
 * Copies, header by header. Both sides are written as text, a line a header: "name=value", or "name" alone
 * for a null value.
 */
#include "worker/pipeline/copy.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define S(text) SLICE_LITERAL(text)

/* Initializers of a struct header. */
#define H(name, value) {{name, sizeof(name) - 1}, {value, sizeof(value) - 1}}
#define NULL_OF(name) {{name, sizeof(name) - 1}, {0}}

static void check_headers(const struct kafka_message *m, const char *expected)
{
	struct buf text = BUF_INIT;
	buf_puts(&text, "");
	for (size_t i = 0; i < m->header_count; i++) {
		buf_append(&text, m->headers[i].name.data, m->headers[i].name.len);
		if (slice_present(m->headers[i].value)) {
			buf_putc(&text, '=');
			buf_append(&text, m->headers[i].value.data, m->headers[i].value.len);
		}
		buf_putc(&text, '\n');
	}
	ck_assert_str_eq(text.data, expected);
	buf_release(&text);
}

/* As the broker would return it: a record read from `topic`, headers and all, at a place and time of its own. */
static void read_back(const struct kafka_message *m, struct record *r)
{
	*r = (struct record){.source = {slice_of(m->topic), 1, 77, 5000000}, .key = m->key, .value = m->value,
			     .headers = calloc(m->header_count, sizeof(struct header)),
			     .header_count = m->header_count, .deferred = true};
	ck_assert_ptr_nonnull(r->headers);
	memcpy(r->headers, m->headers, m->header_count * sizeof(struct header));
}

/* The original: repeats, a null and an empty value, in an order of its own. */
static struct header original_headers[] = {
	H("traceparent", "00-1-2-01"), H("x", "1"), NULL_OF("n"), H("x", ""), H("x", "1"),
};
#define ORIGINAL "traceparent=00-1-2-01\nx=1\nn\nx=\nx=1\n"

static struct record original(void)
{
	return (struct record){.source = {S("delivery-events"), 3, 42, INT64_C(1700000000123000)},
			       .key = S("o1"),
			       .value = {"{\"a\":\0}", 7},
			       .headers = original_headers,
			       .header_count = 5};
}

#define NO_SLOT "dw_slot_ms=0\ndw_limit=0:0\n"
#define SOURCE \
	"dw_source_topic=delivery-events\ndw_source_partition=3\ndw_source_offset=42\n" \
	"dw_source_timestamp_ms=1700000000123\n"

static struct refusal conflict = {ERROR_ORDER_CONFLICT, "partner_id", "the order has another partner_id"};
#define CONFLICT(attempts) \
	"dw_error_class=conflict\ndw_error_code=order_conflict\ndw_error_field=partner_id\n" \
	"dw_error_message=the order has another partner_id\ndw_attempts=" attempts "\ndw_worker=host-1\n"

static struct copy_builder builder;

static void set_up(void)
{
	copy_builder_init(&builder);
}

static void tear_down(void)
{
	copy_builder_release(&builder);
}

static bool same_bytes(struct slice a, struct slice b)
{
	return slice_present(a) == slice_present(b) && slice_equal(a, b);
}

/* ---- dead letters ---- */

START_TEST(test_copy__dead_letter_carries_original_and_reasons)
{
	struct record r = original();
	struct kafka_message m;

	r.refusal = &conflict;
	copy_dead_letter(&builder, &r, "delivery-events.dlq", "host-1", &m);
	ck_assert_str_eq(m.topic, "delivery-events.dlq");
	ck_assert_int_eq(m.partition, -1);
	ck_assert(same_bytes(m.key, r.key));
	ck_assert(same_bytes(m.value, r.value));
	check_headers(&m, ORIGINAL SOURCE CONFLICT("1"));
	/* The value is lent, not copied: the producer holds it until the report. */
	ck_assert_ptr_eq(m.value.data, r.value.data);
	r.attempts = 4;
	copy_dead_letter(&builder, &r, "delivery-events.dlq", "host-1", &m);
	check_headers(&m, ORIGINAL SOURCE CONFLICT("5"));
}
END_TEST

START_TEST(test_copy__dead_letter_of_each_code)
{
	struct refusal refusal = {(enum error_code)_i, "", "m"};
	struct record r = {.source = {S("t"), 0, 0, 0}, .refusal = &refusal};
	struct kafka_message m;
	char expected[512];

	copy_dead_letter(&builder, &r, "d", "w", &m);
	snprintf(expected, sizeof(expected),
		 "dw_source_topic=t\ndw_source_partition=0\ndw_source_offset=0\ndw_source_timestamp_ms=0\n"
		 "dw_error_class=%s\ndw_error_code=%s\ndw_error_field=\ndw_error_message=m\ndw_attempts=1\n"
		 "dw_worker=w\n",
		 error_code_class(refusal.code), error_code_name(refusal.code));
	check_headers(&m, expected);
	ck_assert(!slice_present(m.key)); /* null stays null */
	ck_assert(!slice_present(m.value));
}
END_TEST

/* -1, as Kafka has it, also so that the publisher's own header of that name does not come last. */
START_TEST(test_copy__dead_letter_of_a_record_without_a_time)
{
	struct record r = original();
	struct header headers[] = {H("dw_source_timestamp_ms", "10")};
	struct kafka_message m;

	r.refusal = &conflict;
	r.source.timestamp_us = -1;
	r.headers = headers;
	r.header_count = 1;
	copy_dead_letter(&builder, &r, "d", "host-1", &m);
	check_headers(&m, "dw_source_timestamp_ms=10\n"
			  "dw_source_topic=delivery-events\ndw_source_partition=3\ndw_source_offset=42\n"
			  "dw_source_timestamp_ms=-1\n" CONFLICT("1"));
}
END_TEST

START_TEST(test_copy__dead_letter_of_nothing_but_empty_bytes)
{
	struct refusal refusal = {ERROR_NOT_JSON, "", "m"};
	struct record r = {.source = {S("t"), 0, 0, 0}, .refusal = &refusal, .key = {"", 0}, .value = {"", 0}};
	struct kafka_message m;

	copy_dead_letter(&builder, &r, "d", "w", &m);
	ck_assert(slice_present(m.key) && m.key.len == 0);
	ck_assert(slice_present(m.value) && m.value.len == 0);
}
END_TEST

/* Refused for its size: bytes and digest in place of the value. "abc": FIPS 180-4's example. */
START_TEST(test_copy__without_value)
{
	struct record r = original();
	struct kafka_message m;

	r.refusal = &conflict;
	r.value = S("abc");
	r.without_value = true;
	r.attempts = 1;
	copy_dead_letter(&builder, &r, "d", "host-1", &m);
	ck_assert(!slice_present(m.value));
	ck_assert(same_bytes(m.key, r.key));
	check_headers(&m, ORIGINAL SOURCE CONFLICT("2") "dw_value_bytes=3\ndw_value_sha256="
			  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n");
	/* A tombstone has none to speak of: its headers were too large. */
	r.value = (struct slice){0};
	copy_dead_letter(&builder, &r, "d", "host-1", &m);
	check_headers(&m, ORIGINAL SOURCE CONFLICT("2"));
}
END_TEST

START_TEST(test_copy__longest_headers_and_largest_numbers_fit)
{
	struct refusal refusal = {ERROR_UNSUPPORTED_VERSION, "", ""};
	char topic[250];
	memset(topic, 't', sizeof(topic) - 1);
	topic[sizeof(topic) - 1] = '\0';
	memset(refusal.field, 'f', sizeof(refusal.field) - 1);
	memset(refusal.message, 'm', sizeof(refusal.message) - 1);
	struct record r = {.source = {slice_of(topic), INT32_MAX, INT64_MAX, INT64_MAX}, .refusal = &refusal,
			   .value = S("abc"), .attempts = UINT32_MAX - 1, .without_value = true};
	struct kafka_message m;
	char expected[2048];

	copy_dead_letter(&builder, &r, "d", "w", &m);
	snprintf(expected, sizeof(expected),
		 "dw_source_topic=%s\ndw_source_partition=2147483647\ndw_source_offset=9223372036854775807\n"
		 "dw_source_timestamp_ms=9223372036854775\ndw_error_class=invalid\ndw_error_code=unsupported_version\n"
		 "dw_error_field=%s\ndw_error_message=%s\ndw_attempts=4294967295\ndw_worker=w\ndw_value_bytes=3\n"
		 "dw_value_sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n",
		 topic, refusal.field, refusal.message);
	check_headers(&m, expected);
}
END_TEST

/* ---- deferrals ---- */

START_TEST(test_copy__deferral_carries_original_and_due_time)
{
	struct record r = original();
	struct kafka_message m;

	r.slot = (struct rate_slot){1700000040456, 50, 9007199254740991};
	copy_deferral(&builder, &r, "delivery-events.deferred", 6, 1700000030123, &m);
	ck_assert_str_eq(m.topic, "delivery-events.deferred");
	ck_assert_int_eq(m.partition, 6);
	ck_assert(same_bytes(m.key, r.key));
	ck_assert(same_bytes(m.value, r.value));
	check_headers(&m, ORIGINAL "dw_not_before_ms=1700000030123\ndw_slot_ms=1700000040456\n"
				   "dw_limit=50:9007199254740991\n" SOURCE);
}
END_TEST

/* Deferred, read, deferred again, read, dead-lettered: provenance stays the original's, and of ours there is
 * one set. */
START_TEST(test_copy__provenance_survives_deferrals)
{
	struct record first = original(), second, third;
	struct copy_builder other;
	struct kafka_message m;

	copy_builder_init(&other);
	copy_deferral(&builder, &first, "delivery-events.deferred", 2, 1000, &m);
	read_back(&m, &second);
	copy_read_headers(&second);
	ck_assert(slice_equal(second.source.topic, S("delivery-events")));
	ck_assert_int_eq(second.source.partition, 3);
	ck_assert_int_eq(second.source.offset, 42);
	ck_assert_int_eq(second.source.timestamp_us, INT64_C(1700000000123000));
	ck_assert_int_eq(second.not_before_ms, 1000);
	ck_assert_int_eq(copy_source_timestamp(second.headers, second.header_count, 5), INT64_C(1700000000123000));

	copy_deferral(&other, &second, "delivery-events.deferred", 2, 2000, &m);
	check_headers(&m, ORIGINAL "dw_not_before_ms=2000\n" NO_SLOT SOURCE);
	read_back(&m, &third);
	copy_read_headers(&third);
	ck_assert_int_eq(third.not_before_ms, 2000);
	ck_assert_int_eq(third.source.offset, 42);
	ck_assert_int_eq(third.slot.at_ms, 0);

	third.refusal = &conflict;
	struct copy_builder last;
	copy_builder_init(&last);
	copy_dead_letter(&last, &third, "d", "host-1", &m);
	check_headers(&m, ORIGINAL SOURCE CONFLICT("1"));
	copy_builder_release(&last);
	copy_builder_release(&other);
	free(second.headers);
	free(third.headers);
}
END_TEST

/* ---- what others write ---- */

static struct header forged_headers[] = {
	H("dw_source_offset", "7"), H("dw_not_before_ms", "8"), H("dw_source_topic", "evil"),
	H("dw_source_partition", "9"), H("dw_source_timestamp_ms", "10"), H("dw_error_code", "none"),
};
#define FORGED_5 \
	"dw_source_offset=7\ndw_not_before_ms=8\ndw_source_topic=evil\ndw_source_partition=9\n" \
	"dw_source_timestamp_ms=10\n"
#define FORGED FORGED_5 "dw_error_code=none\n"

/* On the main topic they are headers like any others: kept, not believed, and ours come last. */
START_TEST(test_copy__forged_headers_stay_and_ours_come_last)
{
	struct record r = original(), back;
	struct kafka_message m;

	r.headers = forged_headers;
	r.header_count = 6;
	r.refusal = &conflict;
	copy_dead_letter(&builder, &r, "d", "host-1", &m);
	check_headers(&m, FORGED SOURCE CONFLICT("1"));

	copy_deferral(&builder, &r, "delivery-events.deferred", 2, 1000, &m);
	check_headers(&m, FORGED "dw_not_before_ms=1000\n" NO_SLOT SOURCE);
	read_back(&m, &back);
	copy_read_headers(&back);
	ck_assert(slice_equal(back.source.topic, S("delivery-events")));
	ck_assert_int_eq(back.source.partition, 3);
	ck_assert_int_eq(back.source.offset, 42);
	ck_assert_int_eq(back.source.timestamp_us, INT64_C(1700000000123000));
	ck_assert_int_eq(back.not_before_ms, 1000);
	free(back.headers);
}
END_TEST

/* Headers of the original that bear our names are the original's still when it comes back from the deferred topic,
 * however often, and wherever they stand: next to ours (count 5), or with another one between. */
START_TEST(test_copy__forged_headers_outlive_deferrals)
{
	for (size_t count = 5; count <= 6; count++) {
		struct record r = original();
		struct record copies[3];
		struct copy_builder builders[4];
		struct kafka_message m;

		r.headers = forged_headers;
		r.header_count = count;
		for (int i = 0; i < 4; i++)
			copy_builder_init(&builders[i]);
		for (int i = 0; i < 3; i++) {
			copy_deferral(&builders[i], i ? &copies[i - 1] : &r, "delivery-events.deferred", 2, 1000, &m);
			check_headers(&m, count == 5 ? FORGED_5 "dw_not_before_ms=1000\n" NO_SLOT SOURCE
						     : FORGED "dw_not_before_ms=1000\n" NO_SLOT SOURCE);
			read_back(&m, &copies[i]);
			copy_read_headers(&copies[i]);
			ck_assert_int_eq(copies[i].source.offset, 42);
		}
		copies[2].refusal = &conflict;
		copy_dead_letter(&builders[3], &copies[2], "d", "host-1", &m);
		check_headers(&m, count == 5 ? FORGED_5 SOURCE CONFLICT("1") : FORGED SOURCE CONFLICT("1"));
		for (int i = 0; i < 3; i++)
			free(copies[i].headers);
		for (int i = 0; i < 4; i++)
			copy_builder_release(&builders[i]);
	}
}
END_TEST

/* A record without a time of its own, whose publisher wrote one into our header: it must not come to count by
 * way of the deferred topic. */
START_TEST(test_copy__a_forged_timestamp_is_not_believed_for_a_record_without_one)
{
	struct record r = original(), back;
	struct kafka_message m;

	r.headers = forged_headers;
	r.header_count = 6;
	r.source.timestamp_us = -1;
	copy_deferral(&builder, &r, "delivery-events.deferred", 2, 1000, &m);
	read_back(&m, &back);
	copy_read_headers(&back);
	ck_assert_int_eq(back.source.offset, 42);
	ck_assert_int_eq(back.source.timestamp_us, -1);
	ck_assert_int_eq(copy_source_timestamp(back.headers, back.header_count, 5000000), -1);
	free(back.headers);
}
END_TEST

/* A slot goes from copy to copy; a record that passed it, and waits for something else, has none any more. */
START_TEST(test_copy__slot_is_handed_on)
{
	struct record first = original(), second, third;
	struct copy_builder other;
	struct kafka_message m;

	copy_builder_init(&other);
	first.slot = (struct rate_slot){5000, 50, 77};
	copy_deferral(&builder, &first, "delivery-events.deferred", 2, 1000, &m);
	read_back(&m, &second);
	copy_read_headers(&second);
	ck_assert_int_eq(second.slot.at_ms, 5000);
	ck_assert_int_eq(second.slot.per_second, 50);
	ck_assert_int_eq(second.slot.generation, 77);
	copy_deferral(&other, &second, "delivery-events.deferred", 2, 2000, &m);
	check_headers(&m, ORIGINAL "dw_not_before_ms=2000\ndw_slot_ms=5000\ndw_limit=50:77\n" SOURCE);
	read_back(&m, &third);
	copy_read_headers(&third);
	third.admitted = true;
	copy_deferral(&builder, &third, "delivery-events.deferred", 2, 3000, &m);
	check_headers(&m, ORIGINAL "dw_not_before_ms=3000\n" NO_SLOT SOURCE);
	copy_builder_release(&other);
	free(second.headers);
	free(third.headers);
}
END_TEST

/* What a publisher calls by the names of ours is not believed by way of a copy that has no slot. */
START_TEST(test_copy__a_forged_slot_is_not_believed)
{
	struct header headers[] = {H("dw_slot_ms", "5"), H("dw_limit", "50:77")};
	struct record r = original(), back;
	struct kafka_message m;

	r.headers = headers;
	r.header_count = 2;
	copy_deferral(&builder, &r, "delivery-events.deferred", 2, 1000, &m);
	read_back(&m, &back);
	copy_read_headers(&back);
	ck_assert_int_eq(back.slot.at_ms, 0);
	free(back.headers);
}
END_TEST

static const struct {
	const char *slot, *limit;
	int64_t at_ms, per_second, generation; /* 0: none */
} slot_rows[] = {
	{"1700000040456", "50:77", 1700000040456, 50, 77},
	{"1", "1:1", 1, 1, 1},
	{"9223372036854775", "1000000:9007199254740991", 9223372036854775, 1000000, 9007199254740991},
	{"9223372036854776", "50:77", 0, 0, 0},
	{"0", "50:77", 0, 0, 0},
	{"-5", "50:77", 0, 0, 0},
	{"soon", "50:77", 0, 0, 0},
	{NULL, "50:77", 0, 0, 0},
	{"5", NULL, 0, 0, 0},
	{"5", "", 0, 0, 0},
	{"5", "50", 0, 0, 0},
	{"5", "50:", 0, 0, 0},
	{"5", ":77", 0, 0, 0},
	{"5", "50:77:1", 0, 0, 0},
	{"5", "50:77 ", 0, 0, 0},
	{"5", "0:77", 0, 0, 0},
	{"5", "50:0", 0, 0, 0},
	{"5", "-50:77", 0, 0, 0},
	{"5", "1000001:77", 0, 0, 0},
	{"5", "50:9007199254740992", 0, 0, 0},
};

START_TEST(test_copy__slot_is_whole_or_none)
{
	struct header headers[2] = {{S("dw_slot_ms"), slice_of(slot_rows[_i].slot)},
				    {S("dw_limit"), slice_of(slot_rows[_i].limit)}};
	struct record r = {.source = {S("deferred"), 1, 77, 5000000}, .headers = headers, .header_count = 2,
			   .deferred = true};
	copy_read_headers(&r);
	ck_assert_int_eq(r.slot.at_ms, slot_rows[_i].at_ms);
	ck_assert_int_eq(r.slot.per_second, slot_rows[_i].per_second);
	ck_assert_int_eq(r.slot.generation, slot_rows[_i].generation);
}
END_TEST

/* ---- reading ---- */

enum { READ_HEADERS_MAX = 6 };

#define TOPIC H("dw_source_topic", "t")
#define PARTITION H("dw_source_partition", "4")
#define OFFSET H("dw_source_offset", "5")
#define TIME H("dw_source_timestamp_ms", "6")
#define DUE H("dw_not_before_ms", "7")
#define PARTITION_IS(text) H("dw_source_partition", text)
#define OFFSET_IS(text) H("dw_source_offset", text)
#define TIME_IS(text) H("dw_source_timestamp_ms", text)
#define DUE_IS(text) H("dw_not_before_ms", text)

/* The record's own: deferred, 1, 77, 5000000. */
static const struct {
	const char *what;
	struct header headers[READ_HEADERS_MAX];
	bool ours;         /* t, 4, 5 */
	int64_t timestamp_us;
	int64_t not_before_ms;
} read_rows[] = {
	{"all of it", {TOPIC, PARTITION, OFFSET, TIME, DUE}, true, 6000, 7},
	{"in another order", {DUE, TIME, OFFSET, PARTITION, TOPIC}, true, 6000, 7},
	{"none", {H("x", "1")}, false, 5000000, 0},
	{"without a time", {TOPIC, PARTITION, OFFSET, DUE}, true, 5000000, 7},
	{"without a due time", {TOPIC, PARTITION, OFFSET, TIME}, true, 6000, 0},
	{"a due time alone", {DUE}, false, 5000000, 7},
	{"no topic", {PARTITION, OFFSET, TIME, DUE}, false, 5000000, 7},
	{"no partition", {TOPIC, OFFSET, TIME, DUE}, false, 5000000, 7},
	{"no offset", {TOPIC, PARTITION, TIME, DUE}, false, 5000000, 7},
	{"a null topic", {NULL_OF("dw_source_topic"), PARTITION, OFFSET, DUE}, false, 5000000, 7},
	{"a null offset", {TOPIC, PARTITION, NULL_OF("dw_source_offset")}, false, 5000000, 0},
	{"a negative partition", {TOPIC, PARTITION_IS("-1"), OFFSET}, false, 5000000, 0},
	{"a partition too large", {TOPIC, PARTITION_IS("2147483648"), OFFSET}, false, 5000000, 0},
	{"a negative offset", {TOPIC, PARTITION, OFFSET_IS("-5")}, false, 5000000, 0},
	{"an offset too large", {TOPIC, PARTITION, OFFSET_IS("9223372036854775808")}, false, 5000000, 0},
	{"no number", {TOPIC, PARTITION, OFFSET_IS("five"), DUE_IS("soon")}, false, 5000000, 0},
	{"half a number", {TOPIC, PARTITION, OFFSET_IS("5 "), DUE_IS("7x")}, false, 5000000, 0},
	{"an empty number", {TOPIC, PARTITION, OFFSET_IS(""), DUE_IS("")}, false, 5000000, 0},
	{"a number with a NUL", {TOPIC, PARTITION, OFFSET_IS("5\0"), DUE_IS("7\0")}, false, 5000000, 0},
	{"there was no time", {TOPIC, PARTITION, OFFSET, TIME_IS("-1")}, true, -1, 0},
	{"a negative time", {TOPIC, PARTITION, OFFSET, TIME_IS("-6")}, true, 5000000, 0},
	{"a time beyond microseconds", {TOPIC, PARTITION, OFFSET, TIME_IS("9223372036854776")}, true, 5000000, 0},
	{"the last time within", {TOPIC, PARTITION, OFFSET, TIME_IS("9223372036854775")}, true,
	 INT64_C(9223372036854775000), 0},
	{"a negative due time", {TOPIC, PARTITION, OFFSET, DUE_IS("-7")}, true, 5000000, 0},
	{"names are whole", {TOPIC, PARTITION, OFFSET, H("dw_not_before_ms2", "7"), H("dw_not_before_m", "7")},
	 true, 5000000, 0},
	{"names have their case", {TOPIC, PARTITION, OFFSET, H("DW_NOT_BEFORE_MS", "7")}, true, 5000000, 0},
	{"the last one counts", {OFFSET_IS("99"), TOPIC, PARTITION, OFFSET, DUE_IS("99"), DUE}, true, 5000000, 7},
};

START_TEST(test_copy__reads_what_is_whole)
{
	struct header headers[READ_HEADERS_MAX];
	size_t count = 0;
	memcpy(headers, read_rows[_i].headers, sizeof(headers));
	while (count < READ_HEADERS_MAX && slice_present(headers[count].name))
		count++;
	struct record r = {.source = {S("deferred"), 1, 77, 5000000}, .headers = headers, .header_count = count,
			   .deferred = true};
	copy_read_headers(&r);
	ck_assert_msg(slice_equal(r.source.topic, slice_of(read_rows[_i].ours ? "t" : "deferred")), "%s: topic",
		      read_rows[_i].what);
	ck_assert_msg(r.source.partition == (read_rows[_i].ours ? 4 : 1), "%s: partition %d", read_rows[_i].what,
		      r.source.partition);
	ck_assert_msg(r.source.offset == (read_rows[_i].ours ? 5 : 77), "%s: offset %lld", read_rows[_i].what,
		      (long long)r.source.offset);
	ck_assert_msg(r.source.timestamp_us == read_rows[_i].timestamp_us, "%s: time %lld", read_rows[_i].what,
		      (long long)r.source.timestamp_us);
	ck_assert_msg(r.not_before_ms == read_rows[_i].not_before_ms, "%s: due %lld", read_rows[_i].what,
		      (long long)r.not_before_ms);
}
END_TEST

/* ---- the builder ---- */

/* Few headers, then many, then few: each message is as if it were the first. */
START_TEST(test_copy__a_builder_is_used_again_and_again)
{
	enum { MANY = 300 };
	static struct header headers[MANY];
	struct record r = original();
	struct kafka_message m;

	for (size_t i = 0; i < MANY; i++)
		headers[i] = (struct header){S("h"), S("v")};
	/* Often enough to fill the builder's room for text, were it not emptied. */
	for (int round = 0; round < 300; round++) {
		r.headers = original_headers;
		r.header_count = 5;
		copy_deferral(&builder, &r, "d", 0, 1, &m);
		check_headers(&m, ORIGINAL "dw_not_before_ms=1\n" NO_SLOT SOURCE);
		r.headers = headers;
		r.header_count = MANY;
		copy_deferral(&builder, &r, "d", 0, 1, &m);
		ck_assert_uint_eq(m.header_count, MANY + 7);
		ck_assert(slice_equal(m.headers[MANY - 1].name, S("h")));
		ck_assert(slice_equal(m.headers[MANY + 6].value, S("1700000000123")));
	}
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("copy");
	TCase *tc = tcase_create("copy");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_copy__dead_letter_carries_original_and_reasons);
	tcase_add_loop_test(tc, test_copy__dead_letter_of_each_code, ERROR_NONE + 1, ERROR_CODE_COUNT);
	tcase_add_test(tc, test_copy__dead_letter_of_a_record_without_a_time);
	tcase_add_test(tc, test_copy__dead_letter_of_nothing_but_empty_bytes);
	tcase_add_test(tc, test_copy__without_value);
	tcase_add_test(tc, test_copy__longest_headers_and_largest_numbers_fit);
	tcase_add_test(tc, test_copy__deferral_carries_original_and_due_time);
	tcase_add_test(tc, test_copy__provenance_survives_deferrals);
	tcase_add_test(tc, test_copy__forged_headers_stay_and_ours_come_last);
	tcase_add_test(tc, test_copy__forged_headers_outlive_deferrals);
	tcase_add_test(tc, test_copy__a_forged_timestamp_is_not_believed_for_a_record_without_one);
	tcase_add_test(tc, test_copy__slot_is_handed_on);
	tcase_add_test(tc, test_copy__a_forged_slot_is_not_believed);
	tcase_add_loop_test(tc, test_copy__slot_is_whole_or_none, 0, ROWS(slot_rows));
	tcase_add_loop_test(tc, test_copy__reads_what_is_whole, 0, ROWS(read_rows));
	tcase_add_test(tc, test_copy__a_builder_is_used_again_and_again);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
