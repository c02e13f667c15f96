#include "schemas/event_fast.h"

#include "common/utf8.h"

enum {
	/* Any number of so many digits fits an int64_t. */
	INTEGER_DIGITS_MAX = 18,
};

/* Where the text is read; `end` is behind its last byte. */
struct cursor {
	const char *at, *end;
};

static void skip_space(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
		c->at++;
}

static bool take(struct cursor *c, char wanted)
{
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

/* Bytes that a string may hold as they are, but for non-ASCII, which is looked at. */
static inline bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* A string without escapes, from its opening quote on; *out is what stands between the quotes. */
static bool take_string(struct cursor *c, struct slice *out)
{
	uint32_t code_point;

	if (!take(c, '"'))
		return false;
	const char *at = c->at;
	for (;;) {
		while (at < c->end && is_plain((unsigned char)*at))
			at++;
		if (at == c->end)
			return false;
		if (*at == '"')
			break;
		size_t bytes = (unsigned char)*at < 0x80 ? 0 : utf8_read(at, (size_t)(c->end - at), &code_point);
		if (bytes == 0)
			return false;
		at += bytes;
	}
	*out = (struct slice){c->at, (size_t)(at - c->at)};
	c->at = at + 1;
	return true;
}

/* Digits and nothing else that belongs to a number; what follows is the caller's to judge. */
static bool take_integer(struct cursor *c, int64_t *out)
{
	const char *first = c->at;
	int64_t number = 0;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
		if (c->at - first == INTEGER_DIGITS_MAX)
			return false;
		number = number * 10 + (*c->at++ - '0');
	}
	if (c->at == first || (*first == '0' && c->at - first > 1))
		return false;
	*out = number;
	return true;
}

static bool take_word(struct cursor *c, struct slice word)
{
	if ((size_t)(c->end - c->at) < word.len || memcmp(c->at, word.data, word.len) != 0)
		return false;
	c->at += word.len;
	return true;
}

static bool take_value(struct cursor *c, struct member_value *value)
{
	if (c->at == c->end)
		return false;
	switch (*c->at) {
	case '"':
		value->kind = JSON_KIND_STRING;
		return take_string(c, &value->text);
	case 'n':
		value->kind = JSON_KIND_NULL;
		return take_word(c, SLICE_LITERAL("null"));
	case 't':
		value->kind = JSON_KIND_BOOLEAN;
		return take_word(c, SLICE_LITERAL("true"));
	case 'f':
		value->kind = JSON_KIND_BOOLEAN;
		return take_word(c, SLICE_LITERAL("false"));
	default:
		value->kind = JSON_KIND_INTEGER;
		return take_integer(c, &value->integer);
	}
}

/* Names of unknown members so far: each may stand once, as any name. */
struct unknown_names {
	struct slice names[FAST_UNKNOWN_MAX];
	size_t count;
};

static bool remember(struct unknown_names *u, struct slice name)
{
	if (u->count == FAST_UNKNOWN_MAX)
		return false;
	for (size_t i = 0; i < u->count; i++)
		if (slice_equal(u->names[i], name))
			return false;
	u->names[u->count++] = name;
	return true;
}

static bool take_member(struct cursor *c, struct event_members *members, struct unknown_names *unknown)
{
	struct slice name;
	struct member_value ignored;

	if (!take_string(c, &name))
		return false;
	skip_space(c);
	if (!take(c, ':'))
		return false;
	skip_space(c);
	enum event_member member = event_member_from_name(name);
	if (member == MEMBER_UNKNOWN)
		return remember(unknown, name) && take_value(c, &ignored);
	return members->values[member].kind == JSON_KIND_ABSENT && take_value(c, &members->values[member]);
}

bool event_fast_read(struct slice text, struct event_members *members)
{
	struct cursor c = {text.data, text.data + text.len};
	struct unknown_names unknown = {.count = 0};

	for (int i = 0; i < MEMBER_COUNT; i++)
		members->values[i].kind = JSON_KIND_ABSENT;
	skip_space(&c);
	if (!take(&c, '{'))
		return false;
	do {
		skip_space(&c);
		if (!take_member(&c, members, &unknown))
			return false;
		skip_space(&c);
	} while (take(&c, ','));
	if (!take(&c, '}'))
		return false;
	skip_space(&c);
	members->unknown = (uint16_t)unknown.count;
	members->first_unknown = unknown.count ? unknown.names[0] : (struct slice){0};
	return c.at == c.end;
}
