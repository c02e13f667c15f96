#include "worker/pipeline/copy.h"

#include "common/ensure.h"
#include "common/parse.h"
#include "common/sha256.h"

#include <inttypes.h>
#include <stdlib.h>

#define NOT_BEFORE "dw_not_before_ms"
#define SLOT "dw_slot_ms"
#define LIMIT "dw_limit" /* rate:generation */
#define SOURCE_TOPIC "dw_source_topic"
#define SOURCE_PARTITION "dw_source_partition"
#define SOURCE_OFFSET "dw_source_offset"
#define SOURCE_TIMESTAMP "dw_source_timestamp_ms"

enum {
	OWN_HEADERS_MAX = 16,
	/* Our header values: numbers, names, an error message; topic and worker name are the longest. */
	OWN_TEXT_MAX = 4096,
};

void copy_builder_init(struct copy_builder *b)
{
	memset(b, 0, sizeof(*b));
	/* Never grown while a message is built: values point into it. */
	buf_reserve(&b->text, OWN_TEXT_MAX);
}

void copy_builder_release(struct copy_builder *b)
{
	free(b->headers);
	buf_release(&b->text);
}

static const char *const own_names[] = {NOT_BEFORE,       SLOT,          LIMIT,           SOURCE_TOPIC,
                                        SOURCE_PARTITION, SOURCE_OFFSET, SOURCE_TIMESTAMP};
enum { OWN_NAMES = sizeof(own_names) / sizeof(own_names[0]) };

/*
 * How many headers are the original's. A deferral's own stand behind them, each name once; a header of the
 * original that bears one of our names is in front of those, so the second one met from the end is not ours.
 */
static size_t count_original(const struct record *r)
{
	size_t count = r->header_count;
	bool seen[OWN_NAMES] = {false};
	while (r->deferred && count > 0) {
		size_t name = 0;
		while (name < OWN_NAMES && !slice_equal(r->headers[count - 1].name, slice_of(own_names[name])))
			name++;
		if (name == OWN_NAMES || seen[name])
			break;
		seen[name] = true;
		count--;
	}
	return count;
}

static void begin(struct copy_builder *b, const struct record *r)
{
	size_t original = count_original(r);
	if (original + OWN_HEADERS_MAX > b->capacity) {
		b->capacity = original + OWN_HEADERS_MAX;
		free(b->headers);
		b->headers = malloc(b->capacity * sizeof(*b->headers));
		ENSURE(b->headers);
	}
	b->count = original;
	buf_clear(&b->text);
	if (original)
		memcpy(b->headers, r->headers, original * sizeof(*b->headers));
}

static void add(struct copy_builder *b, const char *name, struct slice value)
{
	ENSURE(b->count < b->capacity);
	b->headers[b->count++] = (struct header){slice_of(name), value};
}

static void add_text(struct copy_builder *b, const char *name, const char *value)
{
	add(b, name, slice_of(value));
}

static void add_number(struct copy_builder *b, const char *name, int64_t value)
{
	size_t from = b->text.len;
	ENSURE(b->text.capacity - from > 24);
	buf_printf(&b->text, "%" PRId64, value);
	add(b, name, (struct slice){b->text.data + from, b->text.len - from});
}

static void add_source(struct copy_builder *b, const struct record *r)
{
	add(b, SOURCE_TOPIC, r->source.topic);
	add_number(b, SOURCE_PARTITION, r->source.partition);
	add_number(b, SOURCE_OFFSET, r->source.offset);
	/* Also when there is none (-1), so that a publisher's header of that name is not taken for ours. */
	add_number(b, SOURCE_TIMESTAMP, r->source.timestamp_us < 0 ? -1 : r->source.timestamp_us / 1000);
}

static void add_sha256(struct copy_builder *b, const char *name, struct slice value)
{
	uint8_t digest[SHA256_BYTES];
	sha256(value, digest);
	size_t from = b->text.len;
	for (size_t i = 0; i < sizeof(digest); i++)
		buf_printf(&b->text, "%02x", digest[i]);
	add(b, name, (struct slice){b->text.data + from, b->text.len - from});
}

void copy_dead_letter(struct copy_builder *b, const struct record *r, const char *topic, const char *worker_name,
                      struct kafka_message *out)
{
	begin(b, r);
	add_source(b, r);
	add_text(b, "dw_error_class", error_code_class(r->refusal->code));
	add_text(b, "dw_error_code", error_code_name(r->refusal->code));
	add_text(b, "dw_error_field", r->refusal->field);
	add_text(b, "dw_error_message", r->refusal->message);
	add_number(b, "dw_attempts", r->attempts + 1);
	add_text(b, "dw_worker", worker_name);
	if (r->without_value && slice_present(r->value)) {
		add_number(b, "dw_value_bytes", (int64_t)r->value.len);
		add_sha256(b, "dw_value_sha256", r->value);
	}
	*out = (struct kafka_message){.topic = topic,
	                              .partition = -1,
	                              .key = r->key,
	                              .value = r->without_value ? (struct slice){0} : r->value,
	                              .headers = b->headers,
	                              .header_count = b->count};
	ENSURE(b->text.len < OWN_TEXT_MAX);
}

/* Also when there is none, as with the time above. */
static void add_slot(struct copy_builder *b, const struct record *r)
{
	const struct rate_slot *slot = record_awaits_slot(r) ? &r->slot : &(struct rate_slot){0};
	add_number(b, SLOT, slot->at_ms);
	size_t from = b->text.len;
	buf_printf(&b->text, "%" PRId64 ":%" PRId64, slot->per_second, slot->generation);
	add(b, LIMIT, (struct slice){b->text.data + from, b->text.len - from});
}

void copy_deferral(struct copy_builder *b, const struct record *r, const char *topic, int32_t partition,
                   int64_t not_before_ms, struct kafka_message *out)
{
	begin(b, r);
	add_number(b, NOT_BEFORE, not_before_ms);
	add_slot(b, r);
	add_source(b, r);
	*out = (struct kafka_message){.topic = topic,
	                              .partition = partition,
	                              .key = r->key,
	                              .value = r->value,
	                              .headers = b->headers,
	                              .header_count = b->count};
}

/* The last header of that name wins: ours stand behind the original's. */
static bool find(const struct header *headers, size_t count, const char *name, struct slice *value)
{
	for (size_t i = count; i-- > 0;) {
		if (slice_equal(headers[i].name, slice_of(name)) && slice_present(headers[i].value)) {
			*value = headers[i].value;
			return true;
		}
	}
	return false;
}

static bool find_number(const struct header *headers, size_t count, const char *name, int64_t min, int64_t max,
                        int64_t *number)
{
	struct slice text;
	return find(headers, count, name, &text) && parse_int64_within(text, min, max, number);
}

/* Returns: false when the headers name no source: the record is someone else's. */
static bool find_source(const struct header *headers, size_t count, struct provenance *source)
{
	int64_t partition, ms;
	if (!find(headers, count, SOURCE_TOPIC, &source->topic) ||
	    !find_number(headers, count, SOURCE_PARTITION, 0, INT32_MAX, &partition) ||
	    !find_number(headers, count, SOURCE_OFFSET, 0, INT64_MAX, &source->offset))
		return false;
	source->partition = (int32_t)partition;
	if (find_number(headers, count, SOURCE_TIMESTAMP, -1, INT64_MAX / 1000, &ms))
		source->timestamp_us = ms < 0 ? -1 : ms * 1000;
	return true;
}

int64_t copy_source_timestamp(const struct header *headers, size_t count, int64_t own_us)
{
	struct provenance source = {.timestamp_us = own_us};
	return find_source(headers, count, &source) ? source.timestamp_us : own_us;
}

/* All of it, or the record is charged as if it had none. */
static void find_slot(const struct header *headers, size_t count, struct rate_slot *out)
{
	struct rate_slot slot;
	struct slice limit;
	if (!find_number(headers, count, SLOT, 1, INT64_MAX / 1000, &slot.at_ms) ||
	    !find(headers, count, LIMIT, &limit))
		return;
	const char *colon = limit.len ? memchr(limit.data, ':', limit.len) : NULL;
	if (!colon)
		return;
	struct slice rate = {limit.data, (size_t)(colon - limit.data)};
	struct slice generation = {colon + 1, limit.len - rate.len - 1};
	if (parse_int64_within(rate, 1, GCRA_RATE_MAX, &slot.per_second) &&
	    parse_int64_within(generation, 1, GCRA_GENERATION_MAX, &slot.generation))
		*out = slot;
}

void copy_read_headers(struct record *r)
{
	struct provenance source = r->source;
	if (find_source(r->headers, r->header_count, &source))
		r->source = source;
	int64_t due;
	if (find_number(r->headers, r->header_count, NOT_BEFORE, 0, INT64_MAX, &due))
		r->not_before_ms = due;
	find_slot(r->headers, r->header_count, &r->slot);
}
