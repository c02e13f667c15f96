#include "schemas/event.h"

#include "common/siphash.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>

static const struct {
	struct slice name; /* NUL-terminated */
	enum event_status status;
} statuses[] = {
#define STATUS_ROW(symbol, name, rank) {{name, sizeof(name) - 1}, STATUS_##symbol},
	EVENT_STATUSES(STATUS_ROW)
#undef STATUS_ROW
};

enum { STATUS_COUNT = sizeof(statuses) / sizeof(statuses[0]) };

enum event_status status_from_name(struct slice name)
{
	for (size_t i = 0; i < STATUS_COUNT; i++)
		if (slice_equal(statuses[i].name, name))
			return statuses[i].status;
	return STATUS_NONE;
}

enum event_status status_from_rank(int64_t rank)
{
	for (size_t i = 0; i < STATUS_COUNT; i++)
		if (statuses[i].status == rank)
			return statuses[i].status;
	return STATUS_NONE;
}

const char *status_name(enum event_status s)
{
	for (size_t i = 0; i < STATUS_COUNT; i++)
		if (statuses[i].status == s)
			return statuses[i].name.data;
	return NULL;
}

const char *status_label(enum event_status code, char buffer[STATUS_LABEL_MAX])
{
	const char *name = status_name(code);

	if (name || code == STATUS_NONE)
		return name;
	snprintf(buffer, STATUS_LABEL_MAX, "unknown:%d", (int)code);
	return buffer;
}

/* Where the texts and the numbers of an event lie; status and currency are one member each. */
#define TEXT_ID(field) offsetof(struct event, field),
#define TEXT_TEXT(field) offsetof(struct event, field),
#define TEXT_NUMBER(field)
#define TEXT_STATUS(field)
#define TEXT_TIME(field)
#define TEXT_CURRENCY(field)
#define TEXT_VERSION(field)
#define TEXT_OFFSET(symbol, name, field, type, min, max, absent, presence, kept) TEXT_##type(field)
static const size_t strings[] = {EVENT_MEMBERS(TEXT_OFFSET)};

#define NUMBER_ID(field)
#define NUMBER_TEXT(field)
#define NUMBER_NUMBER(field) offsetof(struct event, field),
#define NUMBER_STATUS(field)
#define NUMBER_TIME(field) offsetof(struct event, field),
#define NUMBER_CURRENCY(field)
#define NUMBER_VERSION(field)
#define NUMBER_OFFSET(symbol, name, field, type, min, max, absent, presence, kept) NUMBER_##type(field)
static const size_t numbers[] = {EVENT_MEMBERS(NUMBER_OFFSET)};

enum {
	STRING_COUNT = sizeof(strings) / sizeof(strings[0]),
	NUMBER_COUNT = sizeof(numbers) / sizeof(numbers[0]),
};

#define COUNT_ONE(symbol, name, field, type, min, max, absent, presence, kept) +1
static_assert(STRING_COUNT + NUMBER_COUNT + 3 == 0 EVENT_MEMBERS(COUNT_ONE),
	      "a member is a text, a number, the status, the currency or the version");

static int64_t number_at(const struct event *event, size_t i)
{
	return *(const int64_t *)(const void *)((const char *)event + numbers[i]);
}

static const struct slice *string_at(const struct event *event, size_t i)
{
	return (const struct slice *)(const void *)((const char *)event + strings[i]);
}

size_t event_strings_size(const struct event *event)
{
	size_t size = 0;

	for (size_t i = 0; i < STRING_COUNT; i++)
		size += string_at(event, i)->len;
	return size;
}

void event_move_strings(struct event *event, char *storage)
{
	for (size_t i = 0; i < STRING_COUNT; i++) {
		struct slice *s = (struct slice *)(void *)((char *)event + strings[i]);
		if (!slice_present(*s))
			continue;
		memcpy(storage, s->data, s->len);
		s->data = storage;
		storage += s->len;
	}
}

bool event_equal(const struct event *a, const struct event *b)
{
	if (a->status != b->status || memcmp(a->currency, b->currency, sizeof(a->currency)) != 0)
		return false;
	for (size_t i = 0; i < NUMBER_COUNT; i++)
		if (number_at(a, i) != number_at(b, i))
			return false;
	for (size_t i = 0; i < STRING_COUNT; i++)
		if (!slice_equal(*string_at(a, i), *string_at(b, i)))
			return false;
	return true;
}

static uint8_t *put_bytes(uint8_t *at, uint64_t number, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*at++ = (uint8_t)(number >> 8 * i);
	return at;
}

/*
 * The hashed text: every number at a fixed width, then of each string its length + 1 in two bytes (0:
 * absent), then the strings. Its start says how long it is and where each part lies, so no two contents
 * share one text. Marks in Redis outlive a release: another layout makes them all miss, which costs work
 * and nothing else.
 */
void event_digest(const struct event *event, const uint8_t key[16], struct event_digest *out)
{
	uint8_t head[8 * NUMBER_COUNT + 1 + sizeof(event->currency) + 2 * STRING_COUNT];
	uint8_t *at = head;
	struct siphash h;

	for (size_t i = 0; i < NUMBER_COUNT; i++)
		at = put_bytes(at, (uint64_t)number_at(event, i), 8);
	*at++ = (uint8_t)event->status;
	memcpy(at, event->currency, sizeof(event->currency));
	at += sizeof(event->currency);
	for (size_t i = 0; i < STRING_COUNT; i++) {
		const struct slice *s = string_at(event, i);
		at = put_bytes(at, slice_present(*s) ? s->len + 1 : 0, 2);
	}
	ENSURE(at == head + sizeof(head));

	siphash_init(&h, key);
	siphash_update(&h, head, sizeof(head));
	for (size_t i = 0; i < STRING_COUNT; i++) {
		const struct slice *s = string_at(event, i);
		if (s->len)
			siphash_update(&h, s->data, s->len);
	}
	siphash_final(&h, out->bytes);
}
