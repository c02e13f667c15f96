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
	/* All strings of one event, UTF-8: three ids of 64 ASCII bytes, driver_id 64, event_id 128, reason 128,
	 * source 128 code points of at most 4 bytes. */
	EVENT_STRINGS_MAX = 3 * 64 + 4 * (64 + 3 * 128),
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

struct event {
	struct slice order_id;
	struct slice event_id;    /* absent: identity is (order_id, status, timestamp) */
	struct slice source;
	struct slice customer_id;
	struct slice partner_id;
	struct slice driver_id;   /* absent for null, too */
	struct slice reason;
	enum event_status status;
	int64_t timestamp_us;     /* since the Unix epoch, cut to the microsecond */
	int64_t amount_minor;     /* -1: absent */
	char currency[4];         /* "" exactly when amount_minor is absent */
	int64_t refunded_total_minor; /* 0 when absent */
	uint8_t attempt;          /* 0: absent */
	uint16_t unknown_members;
};

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
