/*
 * An event's text read by jansson's tree alone, as a second opinion: nothing here is the decoder's. A reader put in
 * front of jansson is judged by it without a change.
 */
#ifndef TESTS_FUZZ_JSON_READING_H
#define TESTS_FUZZ_JSON_READING_H

#include "schemas/event.h"
#include "schemas/timestamp.h"

#include <jansson.h>

static inline int json_reading_depth(json_t *value)
{
	int deepest = 0;
	size_t index;
	json_t *child;
	const char *name;

	json_object_foreach(value, name, child)
	{
		int depth = json_reading_depth(child);
		deepest = depth > deepest ? depth : deepest;
	}
	json_array_foreach(value, index, child)
	{
		int depth = json_reading_depth(child);
		deepest = depth > deepest ? depth : deepest;
	}
	return deepest + (json_is_object(value) || json_is_array(value));
}

/* What a text that jansson does not take is called. */
static inline enum error_code json_reading_code(const json_error_t *cause)
{
	switch (json_error_code(cause)) {
	case json_error_invalid_utf8:
		return ERROR_INVALID_UTF8;
	case json_error_duplicate_key:
		return ERROR_DUPLICATE_MEMBER;
	case json_error_numeric_overflow:
		return ERROR_OUT_OF_RANGE;
	case json_error_stack_overflow:
		return ERROR_TOO_DEEP;
	default:
		return ERROR_NOT_JSON;
	}
}

static inline bool json_reading_same(json_t *root, const char *name, struct slice text)
{
	json_t *value = json_object_get(root, name);

	if (!value || json_is_null(value))
		return !slice_present(text) && (!value || strcmp(name, "driver_id") == 0);
	struct slice said = {json_string_value(value), json_string_length(value)};
	return json_is_string(value) && slice_equal(text, said);
}

static inline bool json_reading_same_number(json_t *root, const char *name, int64_t number, int64_t absent)
{
	json_t *value = json_object_get(root, name);

	return value ? json_is_integer(value) && json_integer_value(value) == number : number == absent;
}

/* Whether the event says what the text says, member by member. */
static inline bool json_reading_agrees(json_t *root, const struct event *e)
{
	json_t *version = json_object_get(root, "schema_version");
	size_t known = version != NULL;
	int64_t us;
	const char *const names[] = {
		"order_id", "event_id",  "source",   "customer_id",  "partner_id",           "driver_id", "reason",
		"status",   "timestamp", "currency", "amount_minor", "refunded_total_minor", "attempt"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		known += json_object_get(root, names[i]) != NULL;
	return json_reading_same(root, "order_id", e->order_id) && json_reading_same(root, "event_id", e->event_id) &&
	       json_reading_same(root, "source", e->source) && json_reading_same(root, "customer_id", e->customer_id) &&
	       json_reading_same(root, "partner_id", e->partner_id) &&
	       json_reading_same(root, "driver_id", e->driver_id) && json_reading_same(root, "reason", e->reason) &&
	       json_reading_same(root, "status", slice_of(status_name(e->status))) &&
	       json_reading_same(root, "currency", slice_of(e->currency[0] ? e->currency : NULL)) &&
	       json_reading_same_number(root, "amount_minor", e->amount_minor, -1) &&
	       json_reading_same_number(root, "refunded_total_minor", e->refunded_total_minor, 0) &&
	       json_reading_same_number(root, "attempt", e->attempt, 0) &&
	       (!version || (json_is_integer(version) && json_integer_value(version) == 1)) &&
	       timestamp_parse(slice_of(json_string_value(json_object_get(root, "timestamp"))), &us) == 0 &&
	       us == e->timestamp_us && json_object_size(root) - known == e->unknown_members;
}

#endif
