#include "schemas/event_members.h"

#include "schemas/json_scan.h"

#include <stdarg.h>
#include <stdio.h>

static const struct slice names[MEMBER_COUNT] = {
#define MEMBER_NAME(symbol, name, field, type, min, max, absent, presence, kept) \
	[MEMBER_##symbol] = {name, sizeof(name) - 1},
	EVENT_MEMBERS(MEMBER_NAME)
#undef MEMBER_NAME
};

#define OFFSET_ID(field) offsetof(struct event, field)
#define OFFSET_TEXT(field) offsetof(struct event, field)
#define OFFSET_NUMBER(field) offsetof(struct event, field)
#define OFFSET_STATUS(field) offsetof(struct event, field)
#define OFFSET_TIME(field) offsetof(struct event, field)
#define OFFSET_CURRENCY(field) offsetof(struct event, field)
#define OFFSET_VERSION(field) 0
const struct event_member_rule event_member_rules[MEMBER_COUNT] = {
#define MEMBER_ROW(symbol, name, field, type, min, max, absent, presence, kept) \
	[MEMBER_##symbol] = {{name, sizeof(name) - 1}, TYPE_##type, min, max, PRESENCE_##presence, KEPT_##kept, \
			     OFFSET_##type(field)},
	EVENT_MEMBERS(MEMBER_ROW)
#undef MEMBER_ROW
};

#define ABSENT_ID(field, absent)
#define ABSENT_TEXT(field, absent)
#define ABSENT_NUMBER(field, absent) .field = absent,
#define ABSENT_STATUS(field, absent) .field = STATUS_NONE,
#define ABSENT_TIME(field, absent)
#define ABSENT_CURRENCY(field, absent)
#define ABSENT_VERSION(field, absent)
const struct event event_absent = {
#define MEMBER_ABSENT(symbol, name, field, type, min, max, absent, presence, kept) ABSENT_##type(field, absent)
	EVENT_MEMBERS(MEMBER_ABSENT)
#undef MEMBER_ABSENT
};

enum event_member event_member_from_name(struct slice name)
{
	enum event_member member = 0;

	while (member < MEMBER_COUNT &&
	       (names[member].len != name.len || memcmp(names[member].data, name.data, name.len) != 0))
		member++;
	return member;
}

struct slice event_member_name(enum event_member member)
{
	ENSURE(member < MEMBER_COUNT);
	return names[member];
}

enum error_code event_refuse(struct decode_error *error, enum error_code code, struct slice field, const char *format,
			     ...)
{
	va_list arguments;

	error->code = code;
	error->field[0] = '\0';
	if (slice_present(field))
		json_escape(field, error->field, sizeof(error->field));
	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	return code;
}
