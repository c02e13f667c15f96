#include "schemas/event_members.h"

#include "schemas/json_scan.h"

#include <stdarg.h>
#include <stdio.h>

static const struct slice names[MEMBER_COUNT] = {
#define MEMBER_ROW(symbol, name) [MEMBER_##symbol] = {name, sizeof(name) - 1},
	EVENT_MEMBERS(MEMBER_ROW)
#undef MEMBER_ROW
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
