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

/* The members that are strings; a new one must be added here to be copied, compared and hashed. */
static const size_t strings[] = {
	offsetof(struct event, order_id),    offsetof(struct event, event_id),   offsetof(struct event, source),
	offsetof(struct event, customer_id), offsetof(struct event, partner_id), offsetof(struct event, driver_id),
	offsetof(struct event, reason),
};

enum { STRING_COUNT = sizeof(strings) / sizeof(strings[0]) };

static_assert(offsetof(struct event, status) == STRING_COUNT * sizeof(struct slice),
	      "struct event opens with its strings, and each is listed");

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
	if (a->status != b->status || a->timestamp_us != b->timestamp_us || a->amount_minor != b->amount_minor ||
	    memcmp(a->currency, b->currency, sizeof(a->currency)) != 0 ||
	    a->refunded_total_minor != b->refunded_total_minor || a->attempt != b->attempt)
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
	uint8_t head[3 * 8 + 2 + sizeof(event->currency) + 2 * STRING_COUNT];
	uint8_t *at = head;
	struct siphash h;

	at = put_bytes(at, (uint64_t)event->timestamp_us, 8);
	at = put_bytes(at, (uint64_t)event->amount_minor, 8);
	at = put_bytes(at, (uint64_t)event->refunded_total_minor, 8);
	*at++ = (uint8_t)event->status;
	*at++ = event->attempt;
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
