/*
 * One event between its two steps: a reader (schemas/event_json.h; a faster one could stand in front of it)
 * turns text into `struct event_members`, which says what is there and of which JSON type; the rules
 * (schemas/event_decoder.c) turn that into an event or a refusal. A reader decides nothing about members:
 * whichever reads a record, the same rules judge it.
 * Thread: any.
 */
#ifndef SCHEMAS_EVENT_MEMBERS_H
#define SCHEMAS_EVENT_MEMBERS_H

#include "schemas/event.h"

/* X(symbol, name) */
#define EVENT_MEMBERS(X) \
	X(ORDER_ID, "order_id") \
	X(STATUS, "status") \
	X(TIMESTAMP, "timestamp") \
	X(DRIVER_ID, "driver_id") \
	X(EVENT_ID, "event_id") \
	X(SCHEMA_VERSION, "schema_version") \
	X(CUSTOMER_ID, "customer_id") \
	X(PARTNER_ID, "partner_id") \
	X(AMOUNT_MINOR, "amount_minor") \
	X(CURRENCY, "currency") \
	X(REFUNDED_TOTAL_MINOR, "refunded_total_minor") \
	X(ATTEMPT, "attempt") \
	X(REASON, "reason") \
	X(SOURCE, "source")

enum event_member {
#define MEMBER_ENUM(symbol, name) MEMBER_##symbol,
	EVENT_MEMBERS(MEMBER_ENUM)
#undef MEMBER_ENUM
	MEMBER_COUNT,
	MEMBER_UNKNOWN = MEMBER_COUNT,
};

enum json_kind {
	JSON_KIND_ABSENT, /* 0: the member is not there */
	JSON_KIND_STRING,
	JSON_KIND_INTEGER, /* spelled without fraction and exponent */
	JSON_KIND_REAL,
	JSON_KIND_BOOLEAN,
	JSON_KIND_NULL,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT,
};

struct member_value {
	enum json_kind kind;
	union {
		struct slice text; /* JSON_KIND_STRING: unescaped, UTF-8, no U+0000 */
		int64_t integer;   /* JSON_KIND_INTEGER */
	};
};

/* Slices belong to the reader and live until its next text. */
struct event_members {
	struct member_value values[MEMBER_COUNT];
	struct slice first_unknown; /* a name; absent: no unknown member */
	uint16_t unknown;
};

/* Returns: MEMBER_UNKNOWN for a name that the schema does not know. */
enum event_member event_member_from_name(struct slice name);
struct slice event_member_name(enum event_member member);

/* Fills *error: `field` (absent: none) gets escaped and cut. Returns: `code`. */
enum error_code event_refuse(struct decode_error *error, enum error_code code, struct slice field, const char *format,
                             ...) __attribute__((format(printf, 4, 5)));

#endif
