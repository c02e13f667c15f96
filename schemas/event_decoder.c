#include "schemas/event.h"

#include "common/utf8.h"
#include "schemas/event_fast.h"
#include "schemas/event_json.h"
#include "schemas/event_members.h"
#include "schemas/event_shape.h"
#include "schemas/json_scan.h"
#include "schemas/timestamp.h"

#include <inttypes.h>
#include <stdlib.h>

struct event_decoder {
	struct event_decoder_options options;
	struct event_json *json;
	char strings[EVENT_STRINGS_MAX]; /* those of the event that was decoded last */
};

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

static enum error_code refuse_type(const struct event_member_rule *rule, enum json_kind kind, struct decode_error *error)
{
	static const char *const kinds[] = {
		[JSON_KIND_STRING] = "a string",
		[JSON_KIND_INTEGER] = "an integer",
		[JSON_KIND_REAL] = "a number with a fraction or an exponent",
		[JSON_KIND_BOOLEAN] = "true or false",
		[JSON_KIND_NULL] = "null",
		[JSON_KIND_ARRAY] = "an array",
		[JSON_KIND_OBJECT] = "an object",
	};
	static const char *const wanted[] = {
		[TYPE_ID] = "a string",
		[TYPE_TEXT] = "a string",
		[TYPE_NUMBER] = "an integer",
		[TYPE_STATUS] = "a string",
		[TYPE_TIME] = "a string",
		[TYPE_CURRENCY] = "a string",
		[TYPE_VERSION] = "the integer 1",
	};

	if (kind == JSON_KIND_ABSENT)
		return event_refuse(error, ERROR_MISSING_FIELD, rule->name,
				    "the member is required and absent; it must be %s", wanted[rule->type]);
	return event_refuse(error, ERROR_WRONG_TYPE, rule->name, "must be %s, is %s", wanted[rule->type], kinds[kind]);
}

/* `field`: what the error names, the member or the header that stands in for it. */
static enum error_code check_text(struct slice text, const struct event_member_rule *rule, struct slice field,
				  struct decode_error *error)
{
	char excerpt[64];

	size_t chars = text.len;
	if (rule->type == TYPE_ID) {
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
	if (chars < (size_t)rule->min || chars > (size_t)rule->max)
		return event_refuse(error, ERROR_OUT_OF_RANGE, field,
				    "has %zu characters, must have %" PRId64 " to %" PRId64, chars, rule->min, rule->max);
	return ERROR_NONE;
}

static enum error_code read_text(const struct member_value *value, const struct event_member_rule *rule,
				 struct slice *out, struct decode_error *error)
{
	if (value->kind != JSON_KIND_STRING)
		return refuse_type(rule, value->kind, error);
	*out = value->text;
	return check_text(value->text, rule, rule->name, error);
}

static enum error_code read_status(const struct member_value *value, const struct event_member_rule *rule,
				   enum event_status *out, struct decode_error *error)
{
#define STATUS_WORD(symbol, name, rank) " " name
	static const char allowed[] = EVENT_STATUSES(STATUS_WORD);
#undef STATUS_WORD
	char excerpt[64];

	if (value->kind != JSON_KIND_STRING)
		return refuse_type(rule, value->kind, error);
	*out = status_from_name(value->text);
	if (*out != STATUS_NONE)
		return ERROR_NONE;
	json_escape(value->text, excerpt, sizeof(excerpt));
	return event_refuse(error, ERROR_UNKNOWN_STATUS, rule->name, "\"%s\" is none of%s", excerpt, allowed);
}

static enum error_code refuse_timestamp(enum error_code code, struct slice text, const char *why, const char *bound,
					struct decode_error *error)
{
	char excerpt[64];

	json_escape(text, excerpt, sizeof(excerpt));
	return event_refuse(error, code, event_member_name(MEMBER_TIMESTAMP), "\"%s\" %s%s", excerpt, why, bound);
}

static enum error_code read_timestamp(const struct member_value *value, const struct event_member_rule *rule,
				      int64_t record_time_us, int64_t *out, struct decode_error *error)
{
	char bound[TIMESTAMP_TEXT_MAX];

	if (value->kind != JSON_KIND_STRING)
		return refuse_type(rule, value->kind, error);
	if (timestamp_parse(value->text, out) != 0)
		return refuse_timestamp(ERROR_BAD_FORMAT, value->text, "is no time of the form ",
					"2026-01-31T23:59:59Z or 2026-01-31T23:59:59.123456+01:00", error);
	if (*out < TIMESTAMP_MIN_US)
		return refuse_timestamp(ERROR_OUT_OF_RANGE, value->text, "is before ", "2000-01-01T00:00:00Z", error);
	/* A record without a Kafka timestamp has no future to be measured against. */
	if (record_time_us < 0 || *out - EVENT_FUTURE_MAX_US <= record_time_us)
		return ERROR_NONE;
	timestamp_format(record_time_us, bound);
	return refuse_timestamp(ERROR_OUT_OF_RANGE, value->text,
				"is over 5 minutes after the record's Kafka timestamp, ", bound, error);
}

static enum error_code read_number(const struct member_value *value, const struct event_member_rule *rule, int64_t *out,
				   struct decode_error *error)
{
	if (value->kind != JSON_KIND_INTEGER)
		return refuse_type(rule, value->kind, error);
	if (value->integer < rule->min || value->integer > rule->max)
		return event_refuse(error, ERROR_OUT_OF_RANGE, rule->name,
				    "%" PRId64 " is not in %" PRId64 " to %" PRId64, value->integer, rule->min,
				    rule->max);
	*out = value->integer;
	return ERROR_NONE;
}

static enum error_code read_version(const struct member_value *value, const struct event_member_rule *rule,
				    struct decode_error *error)
{
	if (value->kind != JSON_KIND_INTEGER)
		return refuse_type(rule, value->kind, error);
	if (value->integer < rule->min || value->integer > rule->max)
		return event_refuse(error, ERROR_UNSUPPORTED_VERSION, rule->name,
				    "version %" PRId64 " is not known here; 1 is", value->integer);
	return ERROR_NONE;
}

static enum error_code read_currency(const struct member_value *value, const struct event_member_rule *rule,
				     char out[sizeof(event_absent.currency)], struct decode_error *error)
{
	char excerpt[64];

	if (value->kind != JSON_KIND_STRING)
		return refuse_type(rule, value->kind, error);
	bool letters = value->text.len == sizeof(event_absent.currency) - 1;
	for (size_t i = 0; letters && i < value->text.len; i++)
		letters = value->text.data[i] >= 'A' && value->text.data[i] <= 'Z';
	/* PTS is the unit of points in the ledger. */
	if (!letters || memcmp(value->text.data, "PTS", 3) == 0) {
		json_escape(value->text, excerpt, sizeof(excerpt));
		return event_refuse(error, ERROR_BAD_FORMAT, rule->name,
				    "\"%s\" is not three letters A-Z other than PTS", excerpt);
	}
	memcpy(out, value->text.data, value->text.len);
	return ERROR_NONE;
}

/* A member by its rule; its place in *event stays as it is when an optional one is absent. */
static enum error_code read_member(const struct member_value *value, const struct event_member_rule *rule,
				   int64_t record_time_us, struct event *event, struct decode_error *error)
{
	void *out = (char *)event + rule->offset;

	if (value->kind == JSON_KIND_ABSENT && rule->presence != PRESENCE_REQUIRED)
		return ERROR_NONE;
	if (value->kind == JSON_KIND_NULL && rule->presence == PRESENCE_NULLABLE)
		return ERROR_NONE;
	switch (rule->type) {
	case TYPE_ID:
	case TYPE_TEXT:
		return read_text(value, rule, out, error);
	case TYPE_NUMBER:
		return read_number(value, rule, out, error);
	case TYPE_STATUS:
		return read_status(value, rule, out, error);
	case TYPE_TIME:
		return read_timestamp(value, rule, record_time_us, out, error);
	case TYPE_CURRENCY:
		return read_currency(value, rule, out, error);
	case TYPE_VERSION:
		return read_version(value, rule, error);
	}
	UNREACHABLE("a member of no type");
}

/* An amount is of a currency, and a currency of an amount. */
static enum error_code check_pair(const struct event_members *members, struct decode_error *error)
{
	bool amount = members->values[MEMBER_AMOUNT_MINOR].kind != JSON_KIND_ABSENT;
	bool currency = members->values[MEMBER_CURRENCY].kind != JSON_KIND_ABSENT;

	if (amount == currency)
		return ERROR_NONE;
	if (amount)
		return event_refuse(error, ERROR_MISSING_FIELD, event_member_name(MEMBER_CURRENCY),
				    "amount_minor is there, so currency must be");
	return event_refuse(error, ERROR_MISSING_FIELD, event_member_name(MEMBER_AMOUNT_MINOR),
			    "currency is there, so amount_minor must be");
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
static enum error_code read_attribute(struct slice name, struct slice value, const struct event_member_rule *rule,
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
	if (slice_present(*out) && !slice_equal(*out, value))
		return event_refuse(
			error, ERROR_ENVELOPE_MISMATCH, name,
			"header %s and member %s are both there and differ; leave one out or make them equal",
			name.data, rule->name.data);
	*out = value;
	return ERROR_NONE;
}

static enum error_code read_envelope(const struct header *headers, size_t count, struct event *event,
				     struct decode_error *error)
{
	const struct event_member_rule *rules = event_member_rules;
	struct slice id = SLICE_LITERAL("ce_id");
	struct slice source = SLICE_LITERAL("ce_source");
	enum error_code code = read_attribute(id, find_header(headers, count, id), &rules[MEMBER_EVENT_ID],
					      &event->event_id, error);

	if (code)
		return code;
	return read_attribute(source, find_header(headers, count, source), &rules[MEMBER_SOURCE], &event->source,
			      error);
}

static enum error_code apply_rules(const struct event_decoder *d, const struct event_members *members,
				   int64_t record_time_us, struct event *event, struct decode_error *error)
{
	enum error_code code;

	if (d->options.refuse_unknown && members->unknown)
		return event_refuse(error, ERROR_UNKNOWN_FIELD, members->first_unknown,
				    "the schema has no such member, and this worker refuses unknown ones");
	*event = event_absent;
	event->unknown_members = members->unknown;
	for (enum event_member i = 0; i < MEMBER_COUNT; i++)
		if ((code = read_member(&members->values[i], &event_member_rules[i], record_time_us, event, error)))
			return code;
	return check_pair(members, error);
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
	if ((code = check_bounds(value, error))) {
		event_shape_explain(value, error);
		return code;
	}
	code = event_json_read(d->json, value, &members, error);
	if (code == ERROR_NONE)
		code = judge(d, &members, headers, header_count, record_time_us, &decoded, error);
	if (code == ERROR_NONE) {
		/* The reader's memory goes now: a hostile text holds it for one decode, not until the next. */
		event_move_strings(&decoded, d->strings);
		*event = decoded;
	}
	event_json_release(d->json);
	if (code)
		event_shape_explain(value, error);
	return code;
}
