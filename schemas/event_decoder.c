#include "schemas/event.h"

#include "common/utf8.h"
#include "schemas/event_fast.h"
#include "schemas/event_json.h"
#include "schemas/event_members.h"
#include "schemas/json_scan.h"
#include "schemas/timestamp.h"

#include <inttypes.h>
#include <stdlib.h>

struct event_decoder {
	struct event_decoder_options options;
	struct event_json *json;
	char strings[EVENT_STRINGS_MAX]; /* those of the event that was decoded last */
};

struct text_rule {
	enum event_member member;
	unsigned chars_min, chars_max; /* in code points */
	bool id;                       /* only [A-Za-z0-9._:-] */
};

struct integer_rule {
	enum event_member member;
	int64_t min, max;
};

static const struct text_rule order_id_rule = {MEMBER_ORDER_ID, 1, EVENT_ID_CHARS_MAX, true};
static const struct text_rule customer_id_rule = {MEMBER_CUSTOMER_ID, 1, EVENT_ID_CHARS_MAX, true};
static const struct text_rule partner_id_rule = {MEMBER_PARTNER_ID, 1, EVENT_ID_CHARS_MAX, true};
static const struct text_rule driver_id_rule = {MEMBER_DRIVER_ID, 1, EVENT_ID_CHARS_MAX, false};
static const struct text_rule event_id_rule = {MEMBER_EVENT_ID, 1, EVENT_EVENT_ID_CHARS_MAX, false};
static const struct text_rule reason_rule = {MEMBER_REASON, 0, EVENT_TEXT_CHARS_MAX, false};
static const struct text_rule source_rule = {MEMBER_SOURCE, 0, EVENT_TEXT_CHARS_MAX, false};
static const struct integer_rule amount_minor_rule = {MEMBER_AMOUNT_MINOR, 0, EVENT_AMOUNT_MAX};
static const struct integer_rule refunded_rule = {MEMBER_REFUNDED_TOTAL_MINOR, 0, EVENT_AMOUNT_MAX};
static const struct integer_rule attempt_rule = {MEMBER_ATTEMPT, 1, 99};

void event_setup(void)
{
	event_json_setup();
}

struct event_decoder *event_decoder_new(const struct event_decoder_options *options)
{
	struct event_decoder *d = malloc(sizeof(*d));

	ENSURE(d);
	d->options = *options;
	d->json = event_json_new();
	return d;
}

void event_decoder_free(struct event_decoder *d)
{
	if (!d)
		return;
	event_json_free(d->json);
	free(d);
}

/* Returns: the offset of the first byte outside of [A-Za-z0-9._:-], or text.len. */
static size_t find_non_id(struct slice text)
{
	static const bool id[256] = {
		['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1, ['h'] = 1, ['i'] = 1,
		['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1,
		['s'] = 1, ['t'] = 1, ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1, ['A'] = 1,
		['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1, ['H'] = 1, ['I'] = 1, ['J'] = 1,
		['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1, ['Q'] = 1, ['R'] = 1, ['S'] = 1,
		['T'] = 1, ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1, ['Y'] = 1, ['Z'] = 1, ['0'] = 1, ['1'] = 1,
		['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1, ['.'] = 1,
		['_'] = 1, [':'] = 1, ['-'] = 1,
	};
	size_t i = 0;

	while (i < text.len && id[(unsigned char)text.data[i]])
		i++;
	return i;
}

/* Continuation bytes start no code point; `text` is valid UTF-8. */
static size_t count_chars(struct slice text)
{
	size_t chars = 0;

	for (size_t i = 0; i < text.len; i++)
		chars += ((unsigned char)text.data[i] & 0xc0) != 0x80;
	return chars;
}

static bool is_utf8(struct slice text)
{
	uint32_t c;
	size_t bytes;

	for (size_t i = 0; i < text.len; i += bytes)
		if ((bytes = utf8_read(text.data + i, text.len - i, &c)) == 0)
			return false;
	return true;
}

static enum error_code refuse_type(enum event_member member, enum json_kind kind, const char *wanted,
				   struct decode_error *error)
{
	static const char *const names[] = {
		[JSON_KIND_STRING] = "a string",
		[JSON_KIND_INTEGER] = "an integer",
		[JSON_KIND_REAL] = "a number with a fraction or an exponent",
		[JSON_KIND_BOOLEAN] = "true or false",
		[JSON_KIND_NULL] = "null",
		[JSON_KIND_ARRAY] = "an array",
		[JSON_KIND_OBJECT] = "an object",
	};
	struct slice name = event_member_name(member);

	if (kind == JSON_KIND_ABSENT)
		return event_refuse(error, ERROR_MISSING_FIELD, name,
				    "the member is required and absent; it must be %s", wanted);
	return event_refuse(error, ERROR_WRONG_TYPE, name, "must be %s, is %s", wanted, names[kind]);
}

/* `field`: what the error names, the member or the header that stands in for it. */
static enum error_code check_text(struct slice text, const struct text_rule *rule, struct slice field,
				  struct decode_error *error)
{
	char excerpt[64];

	size_t chars = text.len;
	if (rule->id) {
		size_t wrong = find_non_id(text);
		if (wrong < text.len) {
			json_escape(text, excerpt, sizeof(excerpt));
			return event_refuse(error, ERROR_BAD_FORMAT, field,
					    "\"%s\" has another character than A-Z a-z 0-9 . _ : - at byte %zu",
					    excerpt, wrong);
		}
	} else {
		chars = count_chars(text);
	}
	if (chars < rule->chars_min || chars > rule->chars_max)
		return event_refuse(error, ERROR_OUT_OF_RANGE, field, "has %zu characters, must have %u to %u", chars,
				    rule->chars_min, rule->chars_max);
	return ERROR_NONE;
}

/* An optional string; *out stays as it is when the member is absent. */
static enum error_code read_text(const struct event_members *members, const struct text_rule *rule, struct slice *out,
				 struct decode_error *error)
{
	const struct member_value *value = &members->values[rule->member];

	if (value->kind == JSON_KIND_ABSENT)
		return ERROR_NONE;
	if (value->kind != JSON_KIND_STRING)
		return refuse_type(rule->member, value->kind, "a string", error);
	*out = value->text;
	return check_text(value->text, rule, event_member_name(rule->member), error);
}

static enum error_code read_texts(const struct event_members *members, struct event *event, struct decode_error *error)
{
	enum error_code code;

	if (members->values[MEMBER_ORDER_ID].kind == JSON_KIND_ABSENT)
		return refuse_type(MEMBER_ORDER_ID, JSON_KIND_ABSENT, "a string", error);
	if ((code = read_text(members, &order_id_rule, &event->order_id, error)) ||
	    (code = read_text(members, &event_id_rule, &event->event_id, error)) ||
	    (code = read_text(members, &source_rule, &event->source, error)) ||
	    (code = read_text(members, &customer_id_rule, &event->customer_id, error)) ||
	    (code = read_text(members, &partner_id_rule, &event->partner_id, error)) ||
	    (code = read_text(members, &reason_rule, &event->reason, error)))
		return code;
	/* Alone of all members it may be null, which says the same as leaving it out. */
	if (members->values[MEMBER_DRIVER_ID].kind == JSON_KIND_NULL)
		return ERROR_NONE;
	return read_text(members, &driver_id_rule, &event->driver_id, error);
}

static enum error_code read_status(const struct event_members *members, struct event *event, struct decode_error *error)
{
#define STATUS_WORD(symbol, name, rank) " " name
	static const char allowed[] = EVENT_STATUSES(STATUS_WORD);
#undef STATUS_WORD
	const struct member_value *value = &members->values[MEMBER_STATUS];
	char excerpt[64];

	if (value->kind != JSON_KIND_STRING)
		return refuse_type(MEMBER_STATUS, value->kind, "a string", error);
	event->status = status_from_name(value->text);
	if (event->status != STATUS_NONE)
		return ERROR_NONE;
	json_escape(value->text, excerpt, sizeof(excerpt));
	return event_refuse(error, ERROR_UNKNOWN_STATUS, event_member_name(MEMBER_STATUS), "\"%s\" is none of%s",
			    excerpt, allowed);
}

static enum error_code refuse_timestamp(enum error_code code, struct slice text, const char *why, const char *bound,
					struct decode_error *error)
{
	char excerpt[64];

	json_escape(text, excerpt, sizeof(excerpt));
	return event_refuse(error, code, event_member_name(MEMBER_TIMESTAMP), "\"%s\" %s%s", excerpt, why, bound);
}

static enum error_code read_timestamp(const struct event_members *members, int64_t record_time_us, struct event *event,
				      struct decode_error *error)
{
	const struct member_value *value = &members->values[MEMBER_TIMESTAMP];
	char bound[TIMESTAMP_TEXT_MAX];

	if (value->kind != JSON_KIND_STRING)
		return refuse_type(MEMBER_TIMESTAMP, value->kind, "a string", error);
	if (timestamp_parse(value->text, &event->timestamp_us) != 0)
		return refuse_timestamp(ERROR_BAD_FORMAT, value->text, "is no time of the form ",
					"2026-01-31T23:59:59Z or 2026-01-31T23:59:59.123456+01:00", error);
	if (event->timestamp_us < TIMESTAMP_MIN_US)
		return refuse_timestamp(ERROR_OUT_OF_RANGE, value->text, "is before ", "2000-01-01T00:00:00Z", error);
	/* A record without a Kafka timestamp has no future to be measured against. */
	if (record_time_us < 0 || event->timestamp_us - EVENT_FUTURE_MAX_US <= record_time_us)
		return ERROR_NONE;
	timestamp_format(record_time_us, bound);
	return refuse_timestamp(ERROR_OUT_OF_RANGE, value->text,
				"is over 5 minutes after the record's Kafka timestamp, ", bound, error);
}

/* *out stays as it is when the member is absent. */
static enum error_code read_integer(const struct event_members *members, const struct integer_rule *rule, int64_t *out,
				    struct decode_error *error)
{
	const struct member_value *value = &members->values[rule->member];

	if (value->kind == JSON_KIND_ABSENT)
		return ERROR_NONE;
	if (value->kind != JSON_KIND_INTEGER)
		return refuse_type(rule->member, value->kind, "an integer", error);
	if (value->integer < rule->min || value->integer > rule->max)
		return event_refuse(error, ERROR_OUT_OF_RANGE, event_member_name(rule->member),
				    "%" PRId64 " is not in %" PRId64 " to %" PRId64, value->integer, rule->min,
				    rule->max);
	*out = value->integer;
	return ERROR_NONE;
}

static enum error_code read_version(const struct event_members *members, struct decode_error *error)
{
	const struct member_value *value = &members->values[MEMBER_SCHEMA_VERSION];

	if (value->kind == JSON_KIND_ABSENT)
		return ERROR_NONE;
	if (value->kind != JSON_KIND_INTEGER)
		return refuse_type(MEMBER_SCHEMA_VERSION, value->kind, "the integer 1", error);
	if (value->integer != 1)
		return event_refuse(error, ERROR_UNSUPPORTED_VERSION, event_member_name(MEMBER_SCHEMA_VERSION),
				    "version %" PRId64 " is not known here; 1 is", value->integer);
	return ERROR_NONE;
}

static enum error_code read_currency(const struct event_members *members, struct event *event,
				     struct decode_error *error)
{
	struct slice name = event_member_name(MEMBER_CURRENCY);
	const struct member_value *value = &members->values[MEMBER_CURRENCY];
	bool amount = members->values[MEMBER_AMOUNT_MINOR].kind != JSON_KIND_ABSENT;
	char excerpt[64];

	if (value->kind == JSON_KIND_ABSENT) {
		if (!amount)
			return ERROR_NONE;
		return event_refuse(error, ERROR_MISSING_FIELD, name, "amount_minor is there, so currency must be");
	}
	if (value->kind != JSON_KIND_STRING)
		return refuse_type(MEMBER_CURRENCY, value->kind, "a string", error);
	bool letters = value->text.len == sizeof(event->currency) - 1;
	for (size_t i = 0; letters && i < value->text.len; i++)
		letters = value->text.data[i] >= 'A' && value->text.data[i] <= 'Z';
	/* PTS is the unit of points in the ledger. */
	if (!letters || memcmp(value->text.data, "PTS", 3) == 0) {
		json_escape(value->text, excerpt, sizeof(excerpt));
		return event_refuse(error, ERROR_BAD_FORMAT, name, "\"%s\" is not three letters A-Z other than PTS",
				    excerpt);
	}
	if (!amount)
		return event_refuse(error, ERROR_MISSING_FIELD, event_member_name(MEMBER_AMOUNT_MINOR),
				    "currency is there, so amount_minor must be");
	memcpy(event->currency, value->text.data, value->text.len);
	return ERROR_NONE;
}

static enum error_code read_numbers(const struct event_members *members, struct event *event,
				    struct decode_error *error)
{
	enum error_code code;
	int64_t attempt = 0;

	if ((code = read_version(members, error)) ||
	    (code = read_integer(members, &amount_minor_rule, &event->amount_minor, error)) ||
	    (code = read_currency(members, event, error)) ||
	    (code = read_integer(members, &refunded_rule, &event->refunded_total_minor, error)) ||
	    (code = read_integer(members, &attempt_rule, &attempt, error)))
		return code;
	event->attempt = (uint8_t)attempt;
	return ERROR_NONE;
}

/* The last header of that name: a proxy that sets one again appends it. */
static struct slice find_header(const struct header *headers, size_t count, struct slice name)
{
	while (count > 0)
		if (slice_equal(headers[--count].name, name))
			return headers[count].value;
	return (struct slice){0};
}

/* A CloudEvents attribute stands in for the member, under the member's bounds. */
static enum error_code read_attribute(struct slice name, struct slice value, const struct text_rule *rule,
				      struct slice *out, struct decode_error *error)
{
	enum error_code code;

	if (!slice_present(value))
		return ERROR_NONE;
	if (!is_utf8(value))
		return event_refuse(error, ERROR_INVALID_UTF8, name, "the header is not UTF-8");
	if (memchr(value.data, '\0', value.len))
		return event_refuse(error, ERROR_NOT_JSON, name, "the header holds U+0000, which is refused");
	if ((code = check_text(value, rule, name, error)))
		return code;
	struct slice member = event_member_name(rule->member);
	if (slice_present(*out) && !slice_equal(*out, value))
		return event_refuse(
			error, ERROR_ENVELOPE_MISMATCH, name,
			"header %s and member %s are both there and differ; leave one out or make them equal",
			name.data, member.data);
	*out = value;
	return ERROR_NONE;
}

static enum error_code read_envelope(const struct header *headers, size_t count, struct event *event,
				     struct decode_error *error)
{
	struct slice id = SLICE_LITERAL("ce_id");
	struct slice source = SLICE_LITERAL("ce_source");
	enum error_code code =
		read_attribute(id, find_header(headers, count, id), &event_id_rule, &event->event_id, error);

	if (code)
		return code;
	return read_attribute(source, find_header(headers, count, source), &source_rule, &event->source, error);
}

static enum error_code apply_rules(const struct event_decoder *d, const struct event_members *members,
				   int64_t record_time_us, struct event *event, struct decode_error *error)
{
	enum error_code code;

	if (d->options.refuse_unknown && members->unknown)
		return event_refuse(error, ERROR_UNKNOWN_FIELD, members->first_unknown,
				    "the schema has no such member, and this worker refuses unknown ones");
	*event = (struct event){.amount_minor = -1, .unknown_members = members->unknown};
	if ((code = read_texts(members, event, error)) || (code = read_status(members, event, error)) ||
	    (code = read_timestamp(members, record_time_us, event, error)))
		return code;
	return read_numbers(members, event, error);
}

/* What must hold before a parser may see the text: its time and memory are bounded by size and depth. */
static enum error_code check_bounds(struct slice value, struct decode_error *error)
{
	struct slice none = {0};

	if (!slice_present(value))
		return event_refuse(error, ERROR_TOMBSTONE, none, "the value is null; events are never deleted");
	if (value.len > EVENT_BYTES_MAX)
		return event_refuse(error, ERROR_TOO_LARGE, none, "the value is over %d bytes", EVENT_BYTES_MAX);
	if (value.len == 0)
		return event_refuse(error, ERROR_NOT_JSON, none, "the value is empty");
	if (value.len >= 3 && memcmp(value.data, "\xef\xbb\xbf", 3) == 0)
		return event_refuse(error, ERROR_NOT_JSON, none, "the value begins with a byte-order mark");
	/* jansson overlooks one behind a number or literal: it takes it for the end of its read-ahead. */
	if (memchr(value.data, '\0', value.len))
		return event_refuse(error, ERROR_NOT_JSON, none, "the value holds a zero byte");
	if (!json_depth_within(value, EVENT_DEPTH_MAX))
		return event_refuse(error, ERROR_TOO_DEEP, none, "objects and arrays are nested over %d deep",
				    EVENT_DEPTH_MAX);
	return ERROR_NONE;
}

/* What holds of an event that any reader has read. */
static enum error_code judge(const struct event_decoder *d, const struct event_members *members,
			     const struct header *headers, size_t header_count, int64_t record_time_us,
			     struct event *event, struct decode_error *error)
{
	enum error_code code = apply_rules(d, members, record_time_us, event, error);

	return code == ERROR_NONE ? read_envelope(headers, header_count, event, error) : code;
}

enum error_code event_decode(struct event_decoder *d, struct slice value, const struct header *headers,
			     size_t header_count, int64_t record_time_us, struct event *event,
			     struct decode_error *error)
{
	struct event_members members;
	struct event decoded;
	enum error_code code;

	/* A refusal is never the fast reader's: what it read and the rules refuse is read again below. */
	if (slice_present(value) && value.len <= EVENT_BYTES_MAX && event_fast_read(value, &members) &&
	    judge(d, &members, headers, header_count, record_time_us, &decoded, error) == ERROR_NONE) {
		*event = decoded;
		return ERROR_NONE;
	}
	if ((code = check_bounds(value, error)))
		return code;
	code = event_json_read(d->json, value, &members, error);
	if (code == ERROR_NONE)
		code = judge(d, &members, headers, header_count, record_time_us, &decoded, error);
	if (code == ERROR_NONE) {
		/* The reader's memory goes now: a hostile text holds it for one decode, not until the next. */
		event_move_strings(&decoded, d->strings);
		*event = decoded;
	}
	event_json_release(d->json);
	return code;
}
