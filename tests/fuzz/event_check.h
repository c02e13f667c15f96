/* What holds of every event that a decoder accepted, whatever text it came from. */
#ifndef TESTS_FUZZ_EVENT_CHECK_H
#define TESTS_FUZZ_EVENT_CHECK_H

#include "common/json_writer.h"
#include "schemas/event.h"
#include "schemas/timestamp.h"

#include <stdlib.h>

static inline void event_put_text(struct json_writer *w, const char *name, struct slice text)
{
	if (!slice_present(text))
		return;
	json_put_key(w, name);
	json_put_string(w, text);
}

static inline void event_put_integer(struct json_writer *w, const char *name, int64_t value, int64_t absent)
{
	if (value == absent)
		return;
	json_put_key(w, name);
	json_put_int(w, value);
}

static inline void event_text(const struct event *e, struct buf *out)
{
	struct json_writer w = json_writer_to(out);
	char time[TIMESTAMP_TEXT_MAX];

	timestamp_format(e->timestamp_us, time);
	json_put_open(&w, '{');
	event_put_text(&w, "order_id", e->order_id);
	event_put_text(&w, "event_id", e->event_id);
	event_put_text(&w, "source", e->source);
	event_put_text(&w, "customer_id", e->customer_id);
	event_put_text(&w, "partner_id", e->partner_id);
	event_put_text(&w, "driver_id", e->driver_id);
	event_put_text(&w, "reason", e->reason);
	event_put_text(&w, "status", slice_of(status_name(e->status)));
	event_put_text(&w, "timestamp", slice_of(time));
	event_put_integer(&w, "amount_minor", e->amount_minor, -1);
	event_put_text(&w, "currency", slice_of(e->currency[0] ? e->currency : NULL));
	event_put_integer(&w, "refunded_total_minor", e->refunded_total_minor, 0);
	event_put_integer(&w, "attempt", e->attempt, 0);
	json_put_close(&w, '}');
}

static inline void event_check_inside(struct slice text, const char *storage, size_t size)
{
	ENSURE(!slice_present(text) || (text.data >= storage && text.data + text.len <= storage + size));
}

/* The bounds that other code builds on; and the same event again, out of its own text and out of strings that end
 * where they end. */
static inline void event_check(const struct event *e, int64_t time_us, struct event_decoder *decoder)
{
	static const uint8_t key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
	struct decode_error error;
	struct event other;
	struct event_digest digests[2];
	struct buf text = BUF_INIT, other_text = BUF_INIT;
	size_t size = event_strings_size(e);
	char *strings = malloc(size);

	ENSURE(size <= EVENT_STRINGS_MAX && status_from_name(slice_of(status_name(e->status))) == e->status);
	ENSURE(e->timestamp_us >= TIMESTAMP_MIN_US);
	ENSURE(time_us < 0 || e->timestamp_us - EVENT_FUTURE_MAX_US <= time_us);
	ENSURE((e->amount_minor < 0) == (e->currency[0] == '\0') && e->amount_minor <= EVENT_AMOUNT_MAX);
	event_text(e, &text);
	ENSURE(event_decode(decoder, buf_slice(&text), NULL, 0, time_us, &other, &error) == ERROR_NONE);
	ENSURE(other.unknown_members == 0);
	event_move_strings(&other, strings);
	const struct slice moved[] = {other.order_id,   other.event_id,  other.source, other.customer_id,
				      other.partner_id, other.driver_id, other.reason};
	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++)
		event_check_inside(moved[i], strings, size);
	event_text(&other, &other_text);
	ENSURE(slice_equal(buf_slice(&text), buf_slice(&other_text)));
	event_digest(e, key, &digests[0]);
	event_digest(&other, key, &digests[1]);
	ENSURE(event_equal(e, &other) && memcmp(&digests[0], &digests[1], sizeof(digests[0])) == 0);
	free(strings);
	buf_release(&text);
	buf_release(&other_text);
}

#endif
