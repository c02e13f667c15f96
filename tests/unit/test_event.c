#include "schemas/event.h"

#include "schemas/timestamp.h"

#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define REQUIRED "\"order_id\":\"o1\",\"status\":\"delivered\",\"timestamp\":\"2026-01-01T00:00:00Z\""
#define EVENT(more) "{" REQUIRED more "}"
#define MEMBER(name, value) EVENT(",\"" name "\":" value)
#define RECORD_TIME_US INT64_C(1780272000000000) /* 2026-06-01T00:00:00Z */

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif

static struct event_decoder *decoder, *refusing_decoder;

static void setup(void)
{
	event_setup();
	decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	refusing_decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = true});
}

static void teardown(void)
{
	event_decoder_free(decoder);
	event_decoder_free(refusing_decoder);
}

static enum error_code decode(const char *text, struct event *event, struct decode_error *error)
{
	return event_decode(decoder, slice_of(text), NULL, 0, RECORD_TIME_US, event, error);
}

static void check_refusal(const char *text, const struct decode_error *error, enum error_code code, const char *field)
{
	ck_assert_msg(error->code == code && strcmp(error->field, field) == 0, "%s: %s \"%s\" (%s), not %s \"%s\"",
		      text, error_code_name(error->code), error->field, error->message, error_code_name(code), field);
	ck_assert_msg(error->message[0], "%s: no message", text);
	for (const char *c = error->message; *c; c++)
		ck_assert_msg(*c >= ' ' && *c <= '~', "%s: message is not a line of ASCII: %s", text, error->message);
	for (const char *c = error->field; *c; c++)
		ck_assert_msg(*c >= ' ' && *c <= '~', "%s: field is not a line of ASCII: %s", text, error->field);
}

static const char *const accepted[] = {
	EVENT(""),
	" \t\r\n" EVENT("") " \r\n",
	"{\"\\u006frder_id\":\"o1\",\"status\":\"\\u0063reated\",\"timestamp\":\"2026-01-01T00:00:00Z\"}",
	MEMBER("driver_id", "null"),
	MEMBER("driver_id", "\"\\ud83d\\ude80 \\n\""),
	MEMBER("event_id", "\" \""),
	MEMBER("schema_version", "1"),
	MEMBER("customer_id", "\"AZaz09._:-\""),
	MEMBER("amount_minor", "0,\"currency\":\"BRL\""),
	MEMBER("amount_minor", "-0,\"currency\":\"BRL\""),
	MEMBER("amount_minor", "9007199254740991,\"currency\":\"XXX\""),
	MEMBER("refunded_total_minor", "9007199254740991"),
	MEMBER("attempt", "1"),
	MEMBER("attempt", "99"),
	MEMBER("reason", "\"\""),
	MEMBER("source", "\"\""),
	MEMBER("unknown", "{\"a\":[1,1.5e300,-9223372036854775808,9223372036854775807,1e-400,true,null]}"),
	MEMBER("unknown", "[[[[[[[0]]]]]]]"), /* level 8 */
	MEMBER("reason", "\"[[[[[[[[[{{{{{{{{{\""),
	MEMBER("reason", "\"\\\"[[[[[[[[[[\\\\\""),
	MEMBER("Order_ID", "7"),
	MEMBER("", "7"),
};

START_TEST(test_event__accepts)
{
	struct event event;
	struct decode_error error;

	if (decode(accepted[_i], &event, &error) != ERROR_NONE)
		ck_abort_msg("%s: %s %s %s", accepted[_i], error_code_name(error.code), error.field, error.message);
}
END_TEST

#define WITHOUT_ORDER_ID "\"status\":\"delivered\",\"timestamp\":\"2026-01-01T00:00:00Z\"}"
#define AT(time) "{\"order_id\":\"o1\",\"status\":\"delivered\",\"timestamp\":" time "}"

static const struct {
	const char *text;
	enum error_code code;
	const char *field;
} refusals[] = {
	{"", ERROR_NOT_JSON, ""},
	{" ", ERROR_NOT_JSON, ""},
	{"{", ERROR_NOT_JSON, ""},
	{"\xef\xbb\xbf" EVENT(""), ERROR_NOT_JSON, ""},
	{EVENT("") "{}", ERROR_NOT_JSON, ""},
	{EVENT("") ",", ERROR_NOT_JSON, ""},
	{EVENT(","), ERROR_NOT_JSON, ""},
	{"{'order_id':1}", ERROR_NOT_JSON, ""},
	{MEMBER("reason", "\"a\nb\""), ERROR_NOT_JSON, ""},
	{MEMBER("reason", "\"\\u0000\""), ERROR_NOT_JSON, ""},
	{MEMBER("a\\u0000b", "1"), ERROR_NOT_JSON, ""},
	{MEMBER("x", "[{\"y\":\"\\u0000\"}]"), ERROR_NOT_JSON, ""},
	{MEMBER("reason", "\"\\ud800\""), ERROR_NOT_JSON, ""},
	{MEMBER("reason", "\"\\udc00\""), ERROR_NOT_JSON, ""},
	{MEMBER("reason", "\"\\ud800\\u0041\""), ERROR_NOT_JSON, ""},
	{MEMBER("\\ude00", "1"), ERROR_NOT_JSON, ""},
	{MEMBER("amount_minor", "01"), ERROR_NOT_JSON, ""},
	{MEMBER("amount_minor", "+1"), ERROR_NOT_JSON, ""},
	{MEMBER("amount_minor", "NaN"), ERROR_NOT_JSON, ""},
	{MEMBER("reason", "\"\xff\""), ERROR_INVALID_UTF8, ""},
	{MEMBER("reason", "\"\xc0\x80\""), ERROR_INVALID_UTF8, ""},
	{MEMBER("reason", "\"\xed\xa0\x80\""), ERROR_INVALID_UTF8, ""},
	{MEMBER("reason", "\"\xf4\x90\x80\x80\""), ERROR_INVALID_UTF8, ""},
	{MEMBER("\xe2\x82", "1"), ERROR_INVALID_UTF8, ""},
	{EVENT("") "\x80", ERROR_INVALID_UTF8, ""},
	{MEMBER("unknown", "[[[[[[[[0]]]]]]]]"), ERROR_TOO_DEEP, ""}, /* level 9 */
	{MEMBER("unknown", "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}"), ERROR_TOO_DEEP, ""},
	{MEMBER("order_id", "\"o1\""), ERROR_DUPLICATE_MEMBER, "order_id"},
	{MEMBER("order\\u005fid", "\"o1\""), ERROR_DUPLICATE_MEMBER, "order_id"},
	{MEMBER("x", "[{\"\\\"\xc3\xa9\":1,\"\\u0022\\u00e9\":2}]"), ERROR_DUPLICATE_MEMBER, "\\\"\\u00e9"},
	{"[]", ERROR_NOT_OBJECT, ""},
	{"42", ERROR_NOT_OBJECT, ""},
	{"null", ERROR_NOT_OBJECT, ""},
	{"\"{}\"", ERROR_NOT_OBJECT, ""},
	{"{}", ERROR_MISSING_FIELD, "order_id"},
	{"{" WITHOUT_ORDER_ID, ERROR_MISSING_FIELD, "order_id"},
	{"{\"order_id\":\"o1\",\"timestamp\":\"2026-01-01T00:00:00Z\"}", ERROR_MISSING_FIELD, "status"},
	{"{\"order_id\":\"o1\",\"status\":\"created\"}", ERROR_MISSING_FIELD, "timestamp"},
	{MEMBER("amount_minor", "1"), ERROR_MISSING_FIELD, "currency"},
	{MEMBER("currency", "\"BRL\""), ERROR_MISSING_FIELD, "amount_minor"},
	{"{\"order_id\":null," WITHOUT_ORDER_ID, ERROR_WRONG_TYPE, "order_id"},
	{"{\"order_id\":7," WITHOUT_ORDER_ID, ERROR_WRONG_TYPE, "order_id"},
	{"{\"order_id\":\"o\",\"status\":null,\"timestamp\":\"2026-01-01T00:00:00Z\"}", ERROR_WRONG_TYPE, "status"},
	{AT("null"), ERROR_WRONG_TYPE, "timestamp"},
	{AT("1767225600"), ERROR_WRONG_TYPE, "timestamp"},
	{MEMBER("driver_id", "false"), ERROR_WRONG_TYPE, "driver_id"},
	{MEMBER("event_id", "null"), ERROR_WRONG_TYPE, "event_id"},
	{MEMBER("customer_id", "null"), ERROR_WRONG_TYPE, "customer_id"},
	{MEMBER("partner_id", "[]"), ERROR_WRONG_TYPE, "partner_id"},
	{MEMBER("reason", "{}"), ERROR_WRONG_TYPE, "reason"},
	{MEMBER("source", "null"), ERROR_WRONG_TYPE, "source"},
	{MEMBER("amount_minor", "null,\"currency\":\"BRL\""), ERROR_WRONG_TYPE, "amount_minor"},
	{MEMBER("amount_minor", "10.0,\"currency\":\"BRL\""), ERROR_WRONG_TYPE, "amount_minor"},
	{MEMBER("amount_minor", "1e3,\"currency\":\"BRL\""), ERROR_WRONG_TYPE, "amount_minor"},
	{MEMBER("amount_minor", "\"10\",\"currency\":\"BRL\""), ERROR_WRONG_TYPE, "amount_minor"},
	{MEMBER("currency", "null,\"amount_minor\":1"), ERROR_WRONG_TYPE, "currency"},
	{MEMBER("refunded_total_minor", "null"), ERROR_WRONG_TYPE, "refunded_total_minor"},
	{MEMBER("attempt", "1.0"), ERROR_WRONG_TYPE, "attempt"},
	{MEMBER("attempt", "null"), ERROR_WRONG_TYPE, "attempt"},
	{MEMBER("schema_version", "\"1\""), ERROR_WRONG_TYPE, "schema_version"},
	{MEMBER("schema_version", "1.0"), ERROR_WRONG_TYPE, "schema_version"},
	{MEMBER("schema_version", "null"), ERROR_WRONG_TYPE, "schema_version"},
	{MEMBER("schema_version", "2"), ERROR_UNSUPPORTED_VERSION, "schema_version"},
	{MEMBER("schema_version", "0"), ERROR_UNSUPPORTED_VERSION, "schema_version"},
	{"{\"order_id\":\"a b\"," WITHOUT_ORDER_ID, ERROR_BAD_FORMAT, "order_id"},
	{"{\"order_id\":\"\xc3\xa9\"," WITHOUT_ORDER_ID, ERROR_BAD_FORMAT, "order_id"},
	{MEMBER("customer_id", "\"a/b\""), ERROR_BAD_FORMAT, "customer_id"},
	{MEMBER("partner_id", "\"a\\n\""), ERROR_BAD_FORMAT, "partner_id"},
	{MEMBER("currency", "\"PTS\",\"amount_minor\":1"), ERROR_BAD_FORMAT, "currency"},
	{MEMBER("currency", "\"brl\",\"amount_minor\":1"), ERROR_BAD_FORMAT, "currency"},
	{MEMBER("currency", "\"BR\",\"amount_minor\":1"), ERROR_BAD_FORMAT, "currency"},
	{MEMBER("currency", "\"BRLX\",\"amount_minor\":1"), ERROR_BAD_FORMAT, "currency"},
	{AT("\"2026-02-30T00:00:00Z\""), ERROR_BAD_FORMAT, "timestamp"},
	{AT("\"2016-12-31T23:59:60Z\""), ERROR_BAD_FORMAT, "timestamp"},
	{AT("\"2026-01-01t00:00:00z\""), ERROR_BAD_FORMAT, "timestamp"},
	{AT("\"\""), ERROR_BAD_FORMAT, "timestamp"},
	{AT("\"1999-12-31T23:59:59.999999Z\""), ERROR_OUT_OF_RANGE, "timestamp"},
	{AT("\"2000-01-01T00:00:00+00:01\""), ERROR_OUT_OF_RANGE, "timestamp"},
	{AT("\"0000-01-01T00:00:00Z\""), ERROR_OUT_OF_RANGE, "timestamp"},
	{AT("\"2026-06-01T00:05:00.000001Z\""), ERROR_OUT_OF_RANGE, "timestamp"},
	{AT("\"9999-12-31T23:59:59Z\""), ERROR_OUT_OF_RANGE, "timestamp"},
	{"{\"order_id\":\"\"," WITHOUT_ORDER_ID, ERROR_OUT_OF_RANGE, "order_id"},
	{MEMBER("driver_id", "\"\""), ERROR_OUT_OF_RANGE, "driver_id"},
	{MEMBER("event_id", "\"\""), ERROR_OUT_OF_RANGE, "event_id"},
	{MEMBER("amount_minor", "-1,\"currency\":\"BRL\""), ERROR_OUT_OF_RANGE, "amount_minor"},
	{MEMBER("amount_minor", "9007199254740992,\"currency\":\"BRL\""), ERROR_OUT_OF_RANGE, "amount_minor"},
	{MEMBER("amount_minor", "9223372036854775808,\"currency\":\"BRL\""), ERROR_OUT_OF_RANGE, "amount_minor"},
	{MEMBER("refunded_total_minor", "-1"), ERROR_OUT_OF_RANGE, "refunded_total_minor"},
	{MEMBER("refunded_total_minor", "9007199254740992"), ERROR_OUT_OF_RANGE, "refunded_total_minor"},
	{MEMBER("attempt", "0"), ERROR_OUT_OF_RANGE, "attempt"},
	{MEMBER("attempt", "100"), ERROR_OUT_OF_RANGE, "attempt"},
	{MEMBER("attempt", "257"), ERROR_OUT_OF_RANGE, "attempt"},
	{MEMBER("x", "[{\"y\":9223372036854775808}]"), ERROR_OUT_OF_RANGE, "x"},
	{MEMBER("x", "-9223372036854775809"), ERROR_OUT_OF_RANGE, "x"},
	{MEMBER("x", "1e309"), ERROR_OUT_OF_RANGE, "x"},
	{"{\"order_id\":\"o\",\"status\":\"deliverd\",\"timestamp\":\"2026-01-01T00:00:00Z\"}", ERROR_UNKNOWN_STATUS,
	 "status"},
	{"{\"order_id\":\"o\",\"status\":\"Delivered\",\"timestamp\":\"2026-01-01T00:00:00Z\"}", ERROR_UNKNOWN_STATUS,
	 "status"},
	{"{\"order_id\":\"o\",\"status\":\"\",\"timestamp\":\"2026-01-01T00:00:00Z\"}", ERROR_UNKNOWN_STATUS, "status"},
};

START_TEST(test_event__refuses)
{
	struct event event;
	struct decode_error error;

	if (decode(refusals[_i].text, &event, &error) == ERROR_NONE)
		ck_abort_msg("%s accepted", refusals[_i].text);
	check_refusal(refusals[_i].text, &error, refusals[_i].code, refusals[_i].field);
}
END_TEST

START_TEST(test_event__null_value_is_a_tombstone)
{
	struct event event;
	struct decode_error error;

	ck_assert_int_eq(decode(NULL, &event, &error), ERROR_TOMBSTONE);
	check_refusal("null value", &error, ERROR_TOMBSTONE, "");
}
END_TEST

START_TEST(test_event__raw_nul_is_not_json)
{
	static const struct slice texts[] = {
		{EVENT(",\"reason\":\"a\0b\""), sizeof(EVENT(",\"reason\":\"a\0b\"")) - 1},
		{EVENT(",\"attempt\":1\0"), sizeof(EVENT(",\"attempt\":1\0")) - 1},
		{EVENT(",\"driver_id\":null\0"), sizeof(EVENT(",\"driver_id\":null\0")) - 1},
		{EVENT("") "\0", sizeof(EVENT("") "\0") - 1},
		{"\0" EVENT(""), sizeof("\0" EVENT("")) - 1},
		{"42\0", 3},
	};
	struct event event;
	struct decode_error error;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ck_assert_int_eq(event_decode(decoder, texts[i], NULL, 0, -1, &event, &error), ERROR_NOT_JSON);
}
END_TEST

START_TEST(test_event__size_is_bounded)
{
	static char text[EVENT_BYTES_MAX + 2];
	struct event event;
	struct decode_error error;

	memset(text, ' ', EVENT_BYTES_MAX + 1);
	memcpy(text, EVENT(""), strlen(EVENT("")));
	ck_assert_int_eq(decode(text, &event, &error), ERROR_TOO_LARGE);
	check_refusal("64 KiB and a byte", &error, ERROR_TOO_LARGE, "");
	text[EVENT_BYTES_MAX] = '\0';
	ck_assert_int_eq(decode(text, &event, &error), ERROR_NONE);
}
END_TEST

START_TEST(test_event__lengths_count_code_points)
{
	static const struct {
		const char *member;
		const char *character; /* as JSON */
		int max;
		enum error_code beyond;
	} rows[] = {
		{"customer_id", "a", 64, ERROR_OUT_OF_RANGE},
		{"partner_id", "a", 64, ERROR_OUT_OF_RANGE},
		{"driver_id", "\xf0\x9f\x9a\x80", 64, ERROR_OUT_OF_RANGE},
		{"driver_id", "\\ud83d\\ude80", 64, ERROR_OUT_OF_RANGE},
		{"event_id", "\xc3\xa9", 128, ERROR_OUT_OF_RANGE},
		{"reason", "\xe2\x82\xac", 128, ERROR_OUT_OF_RANGE},
		{"source", "a", 128, ERROR_OUT_OF_RANGE},
	};
	struct event event;
	struct decode_error error;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int chars = rows[i].max; chars <= rows[i].max + 1; chars++) {
			char text[4096];
			int len = snprintf(text, sizeof(text), "{" REQUIRED ",\"%s\":\"", rows[i].member);
			for (int c = 0; c < chars; c++)
				len += snprintf(text + len, sizeof(text) - (size_t)len, "%s", rows[i].character);
			snprintf(text + len, sizeof(text) - (size_t)len, "\"}");
			enum error_code code = decode(text, &event, &error);
			ck_assert_int_eq(code, chars > rows[i].max ? rows[i].beyond : ERROR_NONE);
			if (code)
				check_refusal(text, &error, code, rows[i].member);
		}
	}
}
END_TEST

START_TEST(test_event__every_member_arrives)
{
	struct event event;
	struct decode_error error;

	ck_assert_int_eq(
		decode("{\"order_id\":\"o1\",\"status\":\"attempted\",\"timestamp\":\"2026-01-01T01:00:00.25+01:00\","
		       "\"driver_id\":\"d\\u00e9\",\"event_id\":\"e1\",\"schema_version\":1,\"customer_id\":\"c1\","
		       "\"partner_id\":\"p1\",\"amount_minor\":7289,\"currency\":\"BRL\",\"x\":1,"
		       "\"refunded_total_minor\":12,\"attempt\":3,\"reason\":\"\",\"source\":\"app\",\"y\":[]}",
		       &event, &error),
		ERROR_NONE);
	ck_assert(slice_equal(event.order_id, slice_of("o1")));
	ck_assert(slice_equal(event.driver_id, slice_of("d\xc3\xa9")));
	ck_assert(slice_equal(event.event_id, slice_of("e1")));
	ck_assert(slice_equal(event.customer_id, slice_of("c1")));
	ck_assert(slice_equal(event.partner_id, slice_of("p1")));
	ck_assert(slice_present(event.reason) && event.reason.len == 0);
	ck_assert(slice_equal(event.source, slice_of("app")));
	ck_assert_int_eq(event.status, STATUS_ATTEMPTED);
	ck_assert_int_eq(event.timestamp_us, INT64_C(1767225600250000));
	ck_assert_int_eq(event.amount_minor, 7289);
	ck_assert_str_eq(event.currency, "BRL");
	ck_assert_int_eq(event.refunded_total_minor, 12);
	ck_assert_int_eq(event.attempt, 3);
	ck_assert_uint_eq(event.unknown_members, 2);
	ck_assert_uint_eq(event_strings_size(&event), 2 + 3 + 2 + 2 + 2 + 0 + 3);

	ck_assert_int_eq(decode(MEMBER("driver_id", "null"), &event, &error), ERROR_NONE);
	ck_assert(!slice_present(event.driver_id) && !slice_present(event.event_id) && !slice_present(event.source));
	ck_assert(!slice_present(event.customer_id) && !slice_present(event.partner_id) &&
		  !slice_present(event.reason));
	ck_assert_int_eq(event.amount_minor, -1);
	ck_assert_str_eq(event.currency, "");
	ck_assert_int_eq(event.refunded_total_minor, 0);
	ck_assert_int_eq(event.attempt, 0);
	ck_assert_uint_eq(event.unknown_members, 0);
}
END_TEST

START_TEST(test_event__refusal_leaves_the_event_alone)
{
	struct event event;
	struct decode_error error;

	ck_assert_int_eq(decode(EVENT(""), &event, &error), ERROR_NONE);
	ck_assert_int_eq(decode("{\"order_id\":\"other\"}", &event, &error), ERROR_MISSING_FIELD);
	ck_assert(slice_equal(event.order_id, slice_of("o1")));
	ck_assert_int_eq(event.status, STATUS_DELIVERED);
}
END_TEST

START_TEST(test_event__unknown_members_can_be_refused)
{
	static const char text[] = MEMBER("driver \xc3\xa9\\\"", "1");
	struct event event;
	struct decode_error error;

	ck_assert_int_eq(decode(text, &event, &error), ERROR_NONE);
	ck_assert_int_eq(event_decode(refusing_decoder, slice_of(text), NULL, 0, -1, &event, &error),
			 ERROR_UNKNOWN_FIELD);
	check_refusal(text, &error, ERROR_UNKNOWN_FIELD, "driver \\u00e9\\\"");
	ck_assert_int_eq(event_decode(refusing_decoder, slice_of(EVENT("")), NULL, 0, -1, &event, &error), ERROR_NONE);
}
END_TEST

/* What a publisher most likely did, said behind what is wrong; code and field are as ever. */
#define TIME_AND_STATUS "\"status\":\"created\",\"timestamp\":\"2026-01-01T00:00:00Z\""
static const struct {
	struct slice value;
	enum error_code code;
	const char *field;
	const char *hint; /* NULL: none */
} shapes[] = {
	{SLICE_LITERAL("\0\0\0\x01\x02{\"order_id\":\"o1\"}"), ERROR_NOT_JSON, "",
	 "a schema registry's serializer writes it, with a zero and schema id 258 before the JSON"},
	{SLICE_LITERAL("\0\xff\xff\xff\xff\x04o1"), ERROR_NOT_JSON, "", "schema id 4294967295 before Avro or Protobuf"},
	{SLICE_LITERAL("\0\0\0\0\x01"), ERROR_NOT_JSON, "", NULL},
	{SLICE_LITERAL("{\"order_id\":\"\0\"}"), ERROR_NOT_JSON, "", NULL},
	{SLICE_LITERAL("\x1f\x8b\x08garbage"), ERROR_NOT_JSON, "", "looks like gzip"},
	{SLICE_LITERAL("{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"data\":{\"order_id\":\"o1\"}}"),
	 ERROR_MISSING_FIELD, "order_id", "a CloudEvent in structured mode: only binary mode is read"},
	{SLICE_LITERAL("{\"schema\":{\"type\":\"struct\"},\"payload\":{\"order_id\":\"o1\"}}"), ERROR_MISSING_FIELD, "order_id",
	 "Kafka Connect's JSON with its schema: set value.converter.schemas.enable=false"},
	{SLICE_LITERAL("{\"payload\":{\"order_id\":\"o1\"}}"), ERROR_MISSING_FIELD, "order_id", NULL},
	{SLICE_LITERAL("{\"a\":{\"schema\":1,\"payload\":1,\"specversion\":1,\"orderId\":1}}"), ERROR_MISSING_FIELD, "order_id", NULL},
	{SLICE_LITERAL("{\"a\":[{\"x\":\"}\"}],\"orderId\":\"o1\"," TIME_AND_STATUS "}"), ERROR_MISSING_FIELD, "order_id",
	 "there is \"orderId\", is it meant? The member is order_id"},
	{SLICE_LITERAL("{\"ORDER-ID\":\"o1\"}"), ERROR_MISSING_FIELD, "order_id", "there is \"ORDER-ID\""},
	{SLICE_LITERAL("{\"order_id\":\"o1\",\"Status\":\"created\"}"), ERROR_MISSING_FIELD, "status", "The member is status"},
	{SLICE_LITERAL("{\"order_id\":\"o1\",\"currency\":\"BRL\",\"amountMinor\":1," TIME_AND_STATUS "}"), ERROR_MISSING_FIELD,
	 "amount_minor", "there is \"amountMinor\""},
	{SLICE_LITERAL("{\"order_ids\":\"o1\"}"), ERROR_MISSING_FIELD, "order_id", NULL},
	{SLICE_LITERAL("{\"x\":\"orderId\"}"), ERROR_MISSING_FIELD, "order_id", NULL},
	{SLICE_LITERAL("{}"), ERROR_MISSING_FIELD, "order_id", NULL},
	{SLICE_LITERAL("[{\"order_id\":\"o1\"}]"), ERROR_NOT_OBJECT, "", "one event, not a list"},
	{SLICE_LITERAL("\"{\\\"order_id\\\":\\\"o1\\\"}\""), ERROR_NOT_OBJECT, "", "a JSON string once more"},
	{SLICE_LITERAL("7"), ERROR_NOT_OBJECT, "", NULL},
};

START_TEST(test_event__a_refusal_says_what_it_looks_like)
{
	struct event event;
	struct decode_error error;

	enum error_code code = event_decode(decoder, shapes[_i].value, NULL, 0, RECORD_TIME_US, &event, &error);
	ck_assert_int_eq(code, shapes[_i].code);
	check_refusal(shapes[_i].value.data, &error, shapes[_i].code, shapes[_i].field);
	ck_assert_uint_lt(strlen(error.message), sizeof(error.message) - 1); /* nothing was cut */
	if (shapes[_i].hint)
		ck_assert_msg(strstr(error.message, shapes[_i].hint) != NULL, "no \"%s\" in: %s", shapes[_i].hint,
			      error.message);
	else
		ck_assert_msg(!strstr(error.message, "; it looks") && !strstr(error.message, "; there is") &&
				      !strstr(error.message, "; it begins"),
			      "%s", error.message);
}
END_TEST

START_TEST(test_event__an_unknown_member_may_be_a_misspelt_one)
{
	struct event event;
	struct decode_error error;

	ck_assert_int_eq(event_decode(refusing_decoder, slice_of(MEMBER("partnerId", "\"p1\"")), NULL, 0, -1, &event, &error),
			 ERROR_UNKNOWN_FIELD);
	check_refusal("partnerId", &error, ERROR_UNKNOWN_FIELD, "partnerId");
	ck_assert_ptr_nonnull(strstr(error.message, "is it meant? The member is partner_id"));
}
END_TEST

START_TEST(test_event__long_names_are_cut)
{
	char text[4096], name[1024];
	struct event event;
	struct decode_error error;

	for (size_t i = 0; i + 1 < sizeof(name); i++)
		name[i] = "\xf0\x9f\x9a\x80"[i % 4];
	name[1020] = '\0';
	snprintf(text, sizeof(text), "{\"%s\":1}", name);
	ck_assert_int_eq(event_decode(refusing_decoder, slice_of(text), NULL, 0, -1, &event, &error),
			 ERROR_UNKNOWN_FIELD);
	size_t len = strlen(error.field);
	ck_assert_uint_lt(len, sizeof(error.field));
	ck_assert_str_eq(error.field + len - 15, "\\ud83d\\ude80...");
	ck_assert_uint_eq((len - 3) % 12, 0);
}
END_TEST

START_TEST(test_event__future_is_bounded_by_the_record_time)
{
	static const struct {
		int64_t record_time_us;
		enum error_code code;
	} rows[] = {
		{INT64_C(1767225600000000), ERROR_NONE},
		{INT64_C(1767225600000000) - EVENT_FUTURE_MAX_US, ERROR_NONE},
		{INT64_C(1767225600000000) - EVENT_FUTURE_MAX_US - 1, ERROR_OUT_OF_RANGE},
		{0, ERROR_OUT_OF_RANGE},
		{INT64_MAX, ERROR_NONE},
		{-1, ERROR_NONE}, /* a record without a Kafka time */
		{INT64_MIN, ERROR_NONE},
	};
	struct event event;
	struct decode_error error;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_int_eq(
			event_decode(decoder, slice_of(EVENT("")), NULL, 0, rows[i].record_time_us, &event, &error),
			rows[i].code);
}
END_TEST

/* clang-format off */
#define HEADER(name, value) {SLICE_LITERAL(name), SLICE_LITERAL(value)}
#define NULL_HEADER(name) {SLICE_LITERAL(name), {NULL, 0}}
/* clang-format on */
#define BOTH ",\"event_id\":\"e1\",\"source\":\"s1\""
#define X16 "xxxxxxxxxxxxxxxx"
#define X128 X16 X16 X16 X16 X16 X16 X16 X16

static const struct {
	const char *text;
	struct header headers[3];
	enum error_code code;
	const char *field;
	const char *event_id, *source; /* NULL: absent */
} envelopes[] = {
	{EVENT(""), {HEADER("ce_id", "e1"), HEADER("ce_source", "s1")}, ERROR_NONE, "", "e1", "s1"},
	{EVENT(BOTH), {HEADER("ce_id", "e1"), HEADER("ce_source", "s1")}, ERROR_NONE, "", "e1", "s1"},
	{EVENT(BOTH), {HEADER("x", "e2")}, ERROR_NONE, "", "e1", "s1"},
	{EVENT(""), {HEADER("ce_id", "e1")}, ERROR_NONE, "", "e1", NULL},
	{EVENT(""), {HEADER("ce_source", "")}, ERROR_NONE, "", NULL, ""},
	{EVENT(""), {HEADER("ce_time", "never"), HEADER("ce_type", "\xff")}, ERROR_NONE, "", NULL, NULL},
	{EVENT(""), {HEADER("ce_id", "e1"), HEADER("ce_id", "e2")}, ERROR_NONE, "", "e2", NULL},
	{EVENT(BOTH), {HEADER("ce_id", "e2"), HEADER("ce_id", "e1")}, ERROR_NONE, "", "e1", "s1"},
	{EVENT(BOTH), {NULL_HEADER("ce_id"), NULL_HEADER("ce_source")}, ERROR_NONE, "", "e1", "s1"},
	{EVENT(""), {HEADER("ce_id", X128)}, ERROR_NONE, "", X128, NULL},
	{EVENT(BOTH), {HEADER("ce_id", "e2")}, ERROR_ENVELOPE_MISMATCH, "ce_id", NULL, NULL},
	{EVENT(BOTH), {HEADER("ce_source", "s")}, ERROR_ENVELOPE_MISMATCH, "ce_source", NULL, NULL},
	{EVENT(BOTH), {HEADER("ce_source", "")}, ERROR_ENVELOPE_MISMATCH, "ce_source", NULL, NULL},
	{EVENT(""), {HEADER("ce_id", "")}, ERROR_OUT_OF_RANGE, "ce_id", NULL, NULL},
	{EVENT(""), {HEADER("ce_id", X128 "x")}, ERROR_OUT_OF_RANGE, "ce_id", NULL, NULL},
	{EVENT(""), {HEADER("ce_source", X128 "x")}, ERROR_OUT_OF_RANGE, "ce_source", NULL, NULL},
	{EVENT(""), {HEADER("ce_id", "\xff")}, ERROR_INVALID_UTF8, "ce_id", NULL, NULL},
	{EVENT(""), {HEADER("ce_source", "a\0b")}, ERROR_NOT_JSON, "ce_source", NULL, NULL},
	{"{}", {HEADER("ce_id", "e1")}, ERROR_MISSING_FIELD, "order_id", NULL, NULL},
};

START_TEST(test_event__cloudevents_headers_stand_in)
{
	struct event event;
	struct decode_error error;
	size_t count = 0;

	while (count < 3 && slice_present(envelopes[_i].headers[count].name))
		count++;
	enum error_code code = event_decode(decoder, slice_of(envelopes[_i].text), envelopes[_i].headers, count,
					    RECORD_TIME_US, &event, &error);
	ck_assert_int_eq(code, envelopes[_i].code);
	if (code) {
		check_refusal(envelopes[_i].text, &error, code, envelopes[_i].field);
	} else {
		ck_assert(slice_equal(event.event_id, slice_of(envelopes[_i].event_id)));
		ck_assert(slice_equal(event.source, slice_of(envelopes[_i].source)));
	}
}
END_TEST

/* Texts that take the parser the most memory: a lot of containers, members, long strings. */
START_TEST(test_event__memory_is_bounded_by_the_text)
{
	static const struct {
		const char *start, *repeat, *end;
	} rows[] = {
		{"{\"x\":[", "{},", "0]," REQUIRED "}"},
		{"{\"x\":[", "[],", "0]," REQUIRED "}"},
		{"{\"x\":[", "{\"\":0},", "0]," REQUIRED "}"},
		{"{\"x\":[", "1,", "0]," REQUIRED "}"},
		{"{\"x\":[", "\"\",", "0]," REQUIRED "}"},
		{"{\"x\":\"", "\\n", "\"," REQUIRED "}"},
		{"{\"", "x", "\":1," REQUIRED "}"},
		{"{\"x\":[[[[[[[", "0],[", "0]]]]]]]," REQUIRED "}"},
	};
	static char text[EVENT_BYTES_MAX + 1];
	struct rusage before, after;
	struct event event;
	struct decode_error error;

	ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].start);
		memcpy(text, rows[i].start, len);
		while (len + strlen(rows[i].repeat) + strlen(rows[i].end) <= EVENT_BYTES_MAX) {
			memcpy(text + len, rows[i].repeat, strlen(rows[i].repeat));
			len += strlen(rows[i].repeat);
		}
		memcpy(text + len, rows[i].end, strlen(rows[i].end) + 1);
		for (int repeat = 0; repeat < 20; repeat++)
			if (decode(text, &event, &error) != ERROR_NONE)
				ck_abort_msg("row %zu: %s %s", i, error.field, error.message);
		ck_assert(slice_equal(event.order_id, slice_of("o1")));
	}
	ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
	ck_assert_int_ge(after.ru_maxrss, before.ru_maxrss);
#ifndef SANITIZED /* whose allocator keeps what is freed */
	ck_assert_int_le(after.ru_maxrss - before.ru_maxrss, 8 * 1024); /* KiB */
#endif
}
END_TEST

START_TEST(test_event__jansson_outside_of_a_decode_uses_malloc)
{
	struct event event;
	struct decode_error error;
	json_t *before = json_loads("{\"a\":[1,2,3]}", 0, NULL);

	ck_assert_int_eq(decode(EVENT(BOTH), &event, &error), ERROR_NONE);
	ck_assert_int_eq(decode("{\"a\":1e999}", &event, &error), ERROR_OUT_OF_RANGE);
	json_t *between = json_loads("{\"a\":[1,2,3]}", 0, NULL);
	ck_assert_int_eq(json_object_set_new(before, "b", json_string("x")), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(decode(EVENT(BOTH), &event, &error), ERROR_NONE);
	ck_assert_int_eq(json_object_del(before, "b"), 0);
	ck_assert(json_equal(before, between));
	json_decref(before);
	json_decref(between);
}
END_TEST

START_TEST(test_event__strings_move)
{
	struct event event, copy;
	struct decode_error error;
	char storage[EVENT_STRINGS_MAX];

	ck_assert_int_eq(decode(EVENT(BOTH ",\"reason\":\"\""), &event, &error), ERROR_NONE);
	copy = event;
	event_move_strings(&copy, storage);
	ck_assert(event_equal(&event, &copy));
	ck_assert(!slice_present(copy.driver_id));
	ck_assert(slice_present(copy.reason));
	ck_assert(copy.order_id.data >= storage && copy.source.data + copy.source.len <= storage + sizeof(storage));
	ck_assert_int_eq(decode(MEMBER("event_id", "\"another\""), &event, &error), ERROR_NONE);
	ck_assert(slice_equal(copy.event_id, slice_of("e1")));
	ck_assert(!event_equal(&event, &copy));
}
END_TEST

/* Each differs from each other in one decoded member, or in how the same bytes lie in two of them. */
static const char *const contents[] = {
	EVENT(""),
	"{\"order_id\":\"o2\",\"status\":\"delivered\",\"timestamp\":\"2026-01-01T00:00:00Z\"}",
	"{\"order_id\":\"o1\",\"status\":\"failed\",\"timestamp\":\"2026-01-01T00:00:00Z\"}",
	AT("\"2026-01-01T00:00:00.000001Z\""),
	MEMBER("driver_id", "\"a\""),
	MEMBER("event_id", "\"a\""),
	MEMBER("customer_id", "\"a\""),
	MEMBER("partner_id", "\"a\""),
	MEMBER("partner_id", "\"ab\""),
	MEMBER("partner_id", "\"a\",\"customer_id\":\"b\""),
	MEMBER("partner_id", "\"b\",\"customer_id\":\"a\""),
	MEMBER("amount_minor", "0,\"currency\":\"BRL\""),
	MEMBER("amount_minor", "1,\"currency\":\"BRL\""),
	MEMBER("amount_minor", "0,\"currency\":\"EUR\""),
	MEMBER("refunded_total_minor", "1"),
	MEMBER("attempt", "1"),
	MEMBER("reason", "\"\""),
	MEMBER("reason", "\"a\""),
	MEMBER("source", "\"\""),
	MEMBER("source", "\"a\""),
};

enum { CONTENT_COUNT = sizeof(contents) / sizeof(contents[0]) };

START_TEST(test_event__digest_and_equality_tell_contents_apart)
{
	static char storage[CONTENT_COUNT][EVENT_STRINGS_MAX];
	static const uint8_t key[16] = {1}, other_key[16] = {2};
	struct event events[CONTENT_COUNT];
	struct event_digest digests[CONTENT_COUNT], other;
	struct decode_error error;

	for (size_t i = 0; i < CONTENT_COUNT; i++) {
		ck_assert_int_eq(decode(contents[i], &events[i], &error), ERROR_NONE);
		event_move_strings(&events[i], storage[i]);
		event_digest(&events[i], key, &digests[i]);
		event_digest(&events[i], other_key, &other);
		ck_assert_mem_ne(&digests[i], &other, sizeof(other));
		for (size_t k = 0; k <= i; k++) {
			ck_assert_msg(event_equal(&events[i], &events[k]) == (i == k), "%s, %s", contents[i],
				      contents[k]);
			ck_assert_msg((memcmp(&digests[i], &digests[k], sizeof(other)) == 0) == (i == k), "%s, %s",
				      contents[i], contents[k]);
		}
	}
}
END_TEST

START_TEST(test_event__spelling_is_not_content)
{
	static const char *const same[] = {
		EVENT(""),
		" { \"timestamp\" : \"2026-01-01T01:00:00.0000009+01:00\" , \"status\":\"deliver\\u0065d\", "
		"\"order_id\":\"o1\"} ",
		MEMBER("schema_version", "1"),
		MEMBER("driver_id", "null"),
		MEMBER("refunded_total_minor", "0"),
		MEMBER("unknown", "1"),
	};
	static const uint8_t key[16] = {1};
	char storage[EVENT_STRINGS_MAX];
	struct event first, event;
	struct event_digest wanted, digest;
	struct decode_error error;

	ck_assert_int_eq(decode(same[0], &first, &error), ERROR_NONE);
	event_move_strings(&first, storage);
	event_digest(&first, key, &wanted);
	for (size_t i = 1; i < sizeof(same) / sizeof(same[0]); i++) {
		ck_assert_int_eq(decode(same[i], &event, &error), ERROR_NONE);
		event_digest(&event, key, &digest);
		ck_assert_msg(event_equal(&first, &event), "%s", same[i]);
		ck_assert_mem_eq(&digest, &wanted, sizeof(wanted));
	}
}
END_TEST

START_TEST(test_event__status_names_and_ranks)
{
	static const int ranks[] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 100};
	size_t known = 0;

	for (int rank = -2; rank <= 101; rank++) {
		enum event_status s = status_from_rank(rank);
		if (s == STATUS_NONE)
			continue;
		ck_assert_int_eq(rank, ranks[known++]);
		ck_assert_int_eq(s, rank);
		ck_assert_int_eq(status_from_name(slice_of(status_name(s))), s);
		ck_assert_int_eq(status_is_decisive(s), rank >= 80);
	}
	ck_assert_uint_eq(known, sizeof(ranks) / sizeof(ranks[0]));
	ck_assert_ptr_null(status_name(STATUS_NONE));
	ck_assert_int_eq(status_from_name(slice_of("")), STATUS_NONE);
	ck_assert_int_eq(status_from_name(slice_of("createdx")), STATUS_NONE);
}
END_TEST

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

int main(void)
{
	TCase *tcase = tcase_create("event");
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_event__accepts, 0, COUNT(accepted));
	tcase_add_loop_test(tcase, test_event__refuses, 0, COUNT(refusals));
	tcase_add_loop_test(tcase, test_event__a_refusal_says_what_it_looks_like, 0,
			    (int)(sizeof(shapes) / sizeof(shapes[0])));
	tcase_add_test(tcase, test_event__an_unknown_member_may_be_a_misspelt_one);
	tcase_add_test(tcase, test_event__null_value_is_a_tombstone);
	tcase_add_test(tcase, test_event__raw_nul_is_not_json);
	tcase_add_test(tcase, test_event__size_is_bounded);
	tcase_add_test(tcase, test_event__lengths_count_code_points);
	tcase_add_test(tcase, test_event__every_member_arrives);
	tcase_add_test(tcase, test_event__refusal_leaves_the_event_alone);
	tcase_add_test(tcase, test_event__unknown_members_can_be_refused);
	tcase_add_test(tcase, test_event__long_names_are_cut);
	tcase_add_test(tcase, test_event__future_is_bounded_by_the_record_time);
	tcase_add_loop_test(tcase, test_event__cloudevents_headers_stand_in, 0, COUNT(envelopes));
	tcase_add_test(tcase, test_event__memory_is_bounded_by_the_text);
	tcase_add_test(tcase, test_event__jansson_outside_of_a_decode_uses_malloc);
	tcase_add_test(tcase, test_event__strings_move);
	tcase_add_test(tcase, test_event__digest_and_equality_tell_contents_apart);
	tcase_add_test(tcase, test_event__spelling_is_not_content);
	tcase_add_test(tcase, test_event__status_names_and_ranks);

	Suite *suite = suite_create("event");
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner) || srunner_ntests_run(runner) == 0;
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
