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

#include <stddef.h>

enum event_member { /* in the table's order: ORDER_ID is the first */
#define MEMBER_ENUM(symbol, name, field, type, min, max, absent, presence, kept) MEMBER_##symbol,
	EVENT_MEMBERS(MEMBER_ENUM)
#undef MEMBER_ENUM
	MEMBER_COUNT,
	MEMBER_UNKNOWN = MEMBER_COUNT,
};

/* What the table of members (event.h) says of one. */
enum event_type { TYPE_ID, TYPE_TEXT, TYPE_NUMBER, TYPE_STATUS, TYPE_TIME, TYPE_CURRENCY, TYPE_VERSION };
enum event_presence { PRESENCE_REQUIRED, PRESENCE_OPTIONAL, PRESENCE_NULLABLE };
enum event_kept { KEPT_STORED, KEPT_KEY, KEPT_PASSING };

struct event_member_rule {
	struct slice name; /* NUL-terminated */
	enum event_type type;
	int64_t min, max;
	enum event_presence presence;
	enum event_kept kept;
	size_t offset;     /* in struct event; of TYPE_VERSION: none */
};
extern const struct event_member_rule event_member_rules[MEMBER_COUNT];

/* No member is there. */
extern const struct event event_absent;

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
