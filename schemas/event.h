/*
 * DeliveryEvent v1: the C form of one event and the strict decoder that makes it.
 *
 *     struct event_decoder *d = event_decoder_new(&(struct event_decoder_options){0});
 *     struct decode_error error;
 *     struct event event;
 *     if (event_decode(d, value, headers, header_count, record_time_us, &event, &error) == ERROR_NONE)
 *         ...; // slices of `event` are good until the decoder's next call
 *
 * What it refuses, and with which code, is the contract for publishers (schemas/PUBLISHERS.md);
 * schemas/delivery-event.v1.schema.json says the same as far as JSON Schema can.
 * The decision is a pure function of its arguments: no clock, no I/O.
 *
 * Thread: a decoder belongs to one thread; event_setup once in main, before threads.
 */
#ifndef SCHEMAS_EVENT_H
#define SCHEMAS_EVENT_H

#include "common/ensure.h"
#include "common/slice.h"
#include "schemas/error_code.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	EVENT_BYTES_MAX = 64 * 1024,
	EVENT_DEPTH_MAX = 8,
	EVENT_ID_CHARS_MAX = 64,     /* order_id, customer_id, partner_id, driver_id */
	EVENT_EVENT_ID_CHARS_MAX = 128,
	EVENT_TEXT_CHARS_MAX = 128,  /* reason, source */
	EVENT_ATTEMPTS_MAX = 99,
	/* How far a timestamp may lie ahead of the record's Kafka time. */
	EVENT_FUTURE_MAX_US = 5 * 60 * 1000000,
};

#define EVENT_AMOUNT_MAX INT64_C(9007199254740991) /* 2^53 - 1: what every JSON reader keeps exact */

/* X(symbol, name, rank). The rank orders progress; from 80 on a status decides the order's outcome. */
#define EVENT_STATUSES(X) \
	X(CREATED, "created", 0) \
	X(CONFIRMED, "confirmed", 10) \
	X(ASSIGNED, "assigned", 20) \
	X(AT_PICKUP, "at_pickup", 30) \
	X(PICKED_UP, "picked_up", 40) \
	X(IN_TRANSIT, "in_transit", 50) \
	X(AT_DROPOFF, "at_dropoff", 60) \
	X(ATTEMPTED, "attempted", 70) \
	X(DELIVERED, "delivered", 80) \
	X(FAILED, "failed", 85) \
	X(CANCELLED, "cancelled", 90) \
	X(RETURNED, "returned", 100)

/* A status is its rank, in memory and in the database. */
enum event_status {
	STATUS_NONE = -1,
#define STATUS_ENUM(symbol, name, rank) STATUS_##symbol = rank,
	EVENT_STATUSES(STATUS_ENUM)
#undef STATUS_ENUM
};

static inline bool status_is_decisive(enum event_status s)
{
	return s >= STATUS_DELIVERED;
}

/* Returns: STATUS_NONE for a name or rank that is none of the twelve. */
enum event_status status_from_name(struct slice name);
enum event_status status_from_rank(int64_t rank);
/* Returns: NULL for what is none of the twelve. */
const char *status_name(enum event_status s);
/* What a reader is shown of a stored code: the name, "unknown:82" for one of a later version (as the ledger's views do,
 * migration 3), NULL for STATUS_NONE. The text is in `buffer`, or a constant. */
enum { STATUS_LABEL_MAX = 32 };
const char *status_label(enum event_status code, char buffer[STATUS_LABEL_MAX]);

/*
 * The members of an event, each once. The struct, the names, the bounds that the decoder keeps, equality, digest and
 * copies are made of this table, and the JSON Schema and the merge rules are tested against it: a member that stands
 * here counts everywhere, and none can be left out of a list.
 *
 *     X(SYMBOL, "name", field, TYPE, min, max, absent, PRESENCE, KEPT)
 *
 *     TYPE      ID: a text of [A-Za-z0-9._:-]; TEXT: of any characters; NUMBER: an integer; STATUS, TIME (since the
 *               Unix epoch, cut to the microsecond), CURRENCY ("" exactly when amount_minor is absent) and VERSION
 *               (which the struct has no field for) are one member each
 *     min, max  of a text its length in code points, of a number its value
 *     absent    the value of a number that is not there; a text has no data then
 *     PRESENCE  REQUIRED, OPTIONAL, or NULLABLE: optional, and null says no more than leaving it out
 *     KEPT      STORED: the order keeps it, by a merge rule of worker/ledger/facts.c; KEY: it names the order or the
 *               event; PASSING: neither
 */
#define EVENT_MEMBERS(X) \
	X(ORDER_ID, "order_id", order_id, ID, 1, EVENT_ID_CHARS_MAX, 0, REQUIRED, KEY) \
	X(STATUS, "status", status, STATUS, 0, 0, 0, REQUIRED, STORED) \
	X(TIMESTAMP, "timestamp", timestamp_us, TIME, 0, 0, 0, REQUIRED, STORED) \
	X(DRIVER_ID, "driver_id", driver_id, TEXT, 1, EVENT_ID_CHARS_MAX, 0, NULLABLE, STORED) \
	X(EVENT_ID, "event_id", event_id, TEXT, 1, EVENT_EVENT_ID_CHARS_MAX, 0, OPTIONAL, KEY) \
	X(SCHEMA_VERSION, "schema_version", schema_version, VERSION, 1, 1, 0, OPTIONAL, PASSING) \
	X(CUSTOMER_ID, "customer_id", customer_id, ID, 1, EVENT_ID_CHARS_MAX, 0, OPTIONAL, STORED) \
	X(PARTNER_ID, "partner_id", partner_id, ID, 1, EVENT_ID_CHARS_MAX, 0, OPTIONAL, STORED) \
	X(AMOUNT_MINOR, "amount_minor", amount_minor, NUMBER, 0, EVENT_AMOUNT_MAX, -1, OPTIONAL, STORED) \
	X(CURRENCY, "currency", currency, CURRENCY, 0, 0, 0, OPTIONAL, STORED) \
	X(REFUNDED_TOTAL_MINOR, "refunded_total_minor", refunded_total_minor, NUMBER, 0, EVENT_AMOUNT_MAX, 0, OPTIONAL, \
	  STORED) \
	X(ATTEMPT, "attempt", attempt, NUMBER, 1, EVENT_ATTEMPTS_MAX, 0, OPTIONAL, PASSING) \
	X(REASON, "reason", reason, TEXT, 0, EVENT_TEXT_CHARS_MAX, 0, OPTIONAL, PASSING) \
	X(SOURCE, "source", source, TEXT, 0, EVENT_TEXT_CHARS_MAX, 0, OPTIONAL, KEY)

#define EVENT_FIELD_ID(field) struct slice field;
#define EVENT_FIELD_TEXT(field) struct slice field;
#define EVENT_FIELD_NUMBER(field) int64_t field;
#define EVENT_FIELD_STATUS(field) enum event_status field;
#define EVENT_FIELD_TIME(field) int64_t field;
#define EVENT_FIELD_CURRENCY(field) char field[4];
#define EVENT_FIELD_VERSION(field)
#define EVENT_FIELD(symbol, name, field, type, min, max, absent, presence, kept) EVENT_FIELD_##type(field)
struct event {
	EVENT_MEMBERS(EVENT_FIELD)
	uint16_t unknown_members;
};
#undef EVENT_FIELD

/* Bytes of UTF-8 that the texts of one event may take: ASCII of an id, up to 4 for a code point of others. */
#define EVENT_BYTES_ID(max) +(max)
#define EVENT_BYTES_TEXT(max) +4 * (max)
#define EVENT_BYTES_NUMBER(max)
#define EVENT_BYTES_STATUS(max)
#define EVENT_BYTES_TIME(max)
#define EVENT_BYTES_CURRENCY(max)
#define EVENT_BYTES_VERSION(max)
#define EVENT_BYTES(symbol, name, field, type, min, max, absent, presence, kept) EVENT_BYTES_##type(max)
enum { EVENT_STRINGS_MAX = 0 EVENT_MEMBERS(EVENT_BYTES) };
#undef EVENT_BYTES

/* A Kafka record header; a value may be absent. */
struct header {
	struct slice name;
	struct slice value;
};

struct decode_error {
	enum error_code code;
	char field[192];   /* member or header name, JSON-escaped, no quotes; "" for no field; long names are cut */
	char message[256]; /* one line, ASCII, no payload beyond a short escaped excerpt */
};

struct event_decoder_options {
	bool refuse_unknown;
};

/* Seeds jansson's hash and installs its allocator. Call once in main, before any thread. */
void event_setup(void);

struct event_decoder *event_decoder_new(const struct event_decoder_options *options);
void event_decoder_free(struct event_decoder *d);

/*
 * Decodes one record. `value` absent is a tombstone. `headers` are looked at for CloudEvents 1.0
 * binary mode (`ce_id`, `ce_type`, `ce_source`, `ce_time`, `ce_specversion`). `record_time_us`: the
 * record's Kafka timestamp, the bound for the future; never the wall clock.
 * Returns: ERROR_NONE and *event (slices good until the next call on this decoder, not longer than
 * `value` and `headers`); or the code, and *error filled.
 */
must_use enum error_code event_decode(struct event_decoder *d, struct slice value, const struct header *headers,
                                      size_t header_count, int64_t record_time_us, struct event *event,
                                      struct decode_error *error);

/* Bytes that the event's strings take, at most EVENT_STRINGS_MAX. */
size_t event_strings_size(const struct event *event);
/* Copies the event's strings to `storage` (event_strings_size bytes) and points the slices there. */
void event_move_strings(struct event *event, char *storage);

/* Same content: all decoded known members equal (unknown ones do not count). */
bool event_equal(const struct event *a, const struct event *b);

/*
 * The 128-bit digest of identity and content, keyed (SipHash-2-4-128): what a done mark stores.
 * Two events with equal digests are the same event. Absent and empty members hash apart.
 */
struct event_digest {
	uint8_t bytes[16];
};
void event_digest(const struct event *event, const uint8_t key[16], struct event_digest *out);

#endif
