/*
 * The table of members (schemas/event.h) against what is not made of it: the JSON Schema that publishers read, and the
 * merge rules of orders. And that each member of it counts: in the decoder's bounds, equality, digest and copies.
 */
#include "schemas/event_members.h"

#include "tests/lib/facts_equal.h"

#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define SCHEMA "schemas/delivery-event.v1.schema.json"
#define NOW_US INT64_C(1767225600000000)

/* An event with every member, texts of one character. */
static struct event whole_event(void)
{
	struct event e = event_absent;
	for (int i = 0; i < MEMBER_COUNT; i++) {
		const struct event_member_rule *rule = &event_member_rules[i];
		void *at = (char *)&e + rule->offset;
		switch (rule->type) {
		case TYPE_ID:
		case TYPE_TEXT:
			*(struct slice *)at = SLICE_LITERAL("a");
			break;
		case TYPE_NUMBER:
			*(int64_t *)at = rule->min + 1;
			break;
		case TYPE_TIME:
			*(int64_t *)at = NOW_US;
			break;
		case TYPE_STATUS:
			*(enum event_status *)at = STATUS_DELIVERED;
			break;
		case TYPE_CURRENCY:
			memcpy(at, "BRL", 4);
			break;
		case TYPE_VERSION:
			break;
		}
	}
	return e;
}

/* That one member alone is another one, and greater. Returns: false when it has no place in the struct. */
static bool vary(struct event *e, const struct event_member_rule *rule)
{
	void *at = (char *)e + rule->offset;
	switch (rule->type) {
	case TYPE_ID:
	case TYPE_TEXT:
		*(struct slice *)at = SLICE_LITERAL("b");
		return true;
	case TYPE_NUMBER:
	case TYPE_TIME:
		++*(int64_t *)at;
		return true;
	case TYPE_STATUS:
		*(enum event_status *)at = STATUS_RETURNED;
		return true;
	case TYPE_CURRENCY:
		memcpy(at, "EUR", 4);
		return true;
	case TYPE_VERSION:
		return false;
	}
	ck_abort_msg("a member of no type");
}

START_TEST(test_event_members__each_counts_in_equality_digest_and_copies)
{
	const struct event_member_rule *rule = &event_member_rules[_i];
	static const uint8_t key[16] = {7};
	struct event a = whole_event(), b = whole_event();
	struct event_digest digests[2];
	char storage[EVENT_STRINGS_MAX];
	bool varied = vary(&b, rule);
	event_digest(&a, key, &digests[0]);
	event_digest(&b, key, &digests[1]);
	ck_assert_msg(event_equal(&a, &b) == !varied, "%s is not compared", rule->name.data);
	ck_assert_msg((memcmp(&digests[0], &digests[1], sizeof(digests[0])) == 0) == !varied, "%s is not in the digest",
		      rule->name.data);
	ck_assert_uint_le(event_strings_size(&b), sizeof(storage));
	struct event copy = b;
	event_move_strings(&copy, storage);
	ck_assert_msg(event_equal(&copy, &b), "%s is not copied", rule->name.data);
	if (rule->type != TYPE_ID && rule->type != TYPE_TEXT)
		return;
	const char *moved = ((const struct slice *)(const void *)((const char *)&copy + rule->offset))->data;
	ck_assert_msg(moved >= storage && moved < storage + sizeof(storage), "%s stays where it was", rule->name.data);
}
END_TEST

/* What the order keeps is told by its facts, and nothing else is. */
START_TEST(test_event_members__what_is_stored_has_a_merge_rule)
{
	const struct event_member_rule *rule = &event_member_rules[_i];
	struct event a = whole_event(), b = whole_event();
	struct facts facts[2];
	vary(&b, rule);
	facts_init(&facts[0]);
	facts_init(&facts[1]);
	facts_merge(&facts[0], &a);
	facts_merge(&facts[1], &b);
	ck_assert_msg(facts_equal(&facts[0], &facts[1]) == (rule->kept != KEPT_STORED), "%s is %s", rule->name.data,
		      rule->kept == KEPT_STORED ? "stored, and no fact of the order" : "a fact of the order, not stored");
}
END_TEST

/* ---- bounds ---- */

static enum error_code decode_with(const struct event_member_rule *rule, const char *value, struct event *event)
{
	/* Room for the longest text. */
	char text[1024];
	int len = snprintf(text, sizeof(text), "{%s\"status\":\"created\",\"timestamp\":\"2026-01-01T00:00:00Z\"%s,\"%s\":%s}",
			   strcmp(rule->name.data, "order_id") == 0 ? "" : "\"order_id\":\"o\",",
			   strcmp(rule->name.data, "amount_minor") == 0 ? ",\"currency\":\"BRL\"" : "", rule->name.data,
			   value);
	ck_assert_int_lt(len, (int)sizeof(text));
	struct event_decoder *d = event_decoder_new(&(struct event_decoder_options){0});
	struct decode_error error;
	enum error_code code = event_decode(d, slice_of(text), NULL, 0, NOW_US, event, &error);
	ck_assert_msg(code == ERROR_NONE || strcmp(error.field, rule->name.data) == 0, "%s: the error names %s",
		      rule->name.data, error.field);
	event_decoder_free(d);
	return code;
}

START_TEST(test_event_members__bounds_are_those_of_the_table)
{
	const struct event_member_rule *rule = &event_member_rules[_i];
	bool text = rule->type == TYPE_ID || rule->type == TYPE_TEXT;
	if (!text && rule->type != TYPE_NUMBER)
		return;
	for (int64_t side = 0; side < 4; side++) {
		/* Just below, the least, the most, just beyond. */
		int64_t n = side < 2 ? rule->min - 1 + side : rule->max + side - 2;
		bool fits = side == 1 || side == 2;
		char value[256];
		struct event event;
		if (text && n < 0)
			continue;
		if (text)
			snprintf(value, sizeof(value), "\"%.*s\"", (int)n,
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
		else
			snprintf(value, sizeof(value), "%" PRId64, n);
		enum error_code code = decode_with(rule, value, &event);
		ck_assert_msg(code == (fits ? ERROR_NONE : ERROR_OUT_OF_RANGE), "%s %s: %s", rule->name.data, value,
			      error_code_name(code));
		if (!fits)
			continue;
		const void *at = (const char *)&event + rule->offset;
		int64_t got = text ? (int64_t)((const struct slice *)at)->len : *(const int64_t *)at;
		ck_assert_msg(got == n, "%s: %" PRId64 " arrived as %" PRId64, rule->name.data, n, got);
	}
	struct event event;
	ck_assert_int_eq(decode_with(rule, "null", &event),
			 rule->presence == PRESENCE_NULLABLE ? ERROR_NONE : ERROR_WRONG_TYPE);
}
END_TEST

/* ---- the JSON Schema ---- */

static json_t *schema;

/* The member's own words, or those that it refers to. */
static json_t *words(const char *member, const char *word)
{
	json_t *property = json_object_get(json_object_get(schema, "properties"), member);
	ck_assert_msg(property, "the JSON Schema does not know %s", member);
	json_t *own = json_object_get(property, word);
	const char *reference = json_string_value(json_object_get(property, "$ref"));
	if (own || !reference)
		return own;
	ck_assert_msg(strncmp(reference, "#/$defs/", 8) == 0, "%s", reference);
	return json_object_get(json_object_get(json_object_get(schema, "$defs"), reference + 8), word);
}

static int64_t bound(const char *member, const char *word, int64_t absent)
{
	json_t *value = words(member, word);
	return value ? json_integer_value(value) : absent;
}

static bool holds(json_t *list, const char *text)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
			return true;
	return json_is_string(list) && strcmp(json_string_value(list), text) == 0;
}

START_TEST(test_event_members__the_json_schema_says_the_same)
{
	const struct event_member_rule *rule = &event_member_rules[_i];
	const char *name = rule->name.data, *pattern = json_string_value(words(name, "pattern"));
	json_t *type = words(name, "type");
	ck_assert_msg(holds(json_object_get(schema, "required"), name) == (rule->presence == PRESENCE_REQUIRED), "%s", name);
	ck_assert_msg(holds(type, "null") == (rule->presence == PRESENCE_NULLABLE), "%s", name);
	switch (rule->type) {
	case TYPE_ID:
	case TYPE_TEXT:
		ck_assert_msg(holds(type, "string"), "%s", name);
		ck_assert_int_eq(bound(name, "minLength", 0), rule->min);
		ck_assert_int_eq(bound(name, "maxLength", -1), rule->max);
		ck_assert_msg((strcmp(pattern, "^[A-Za-z0-9._:-]*$") == 0) == (rule->type == TYPE_ID), "%s: %s", name, pattern);
		break;
	case TYPE_NUMBER:
		ck_assert_msg(holds(type, "integer"), "%s", name);
		ck_assert_int_eq(bound(name, "minimum", INT64_MIN), rule->min);
		ck_assert_int_eq(bound(name, "maximum", INT64_MAX), rule->max);
		break;
	case TYPE_STATUS:
		ck_assert(json_array_size(words(name, "enum")) == 12);
		for (size_t i = 0; i < 12; i++)
			ck_assert(status_from_name(slice_of(json_string_value(json_array_get(words(name, "enum"), i)))) !=
				  STATUS_NONE);
		break;
	case TYPE_TIME:
		ck_assert(holds(words(name, "format"), "date-time"));
		break;
	case TYPE_CURRENCY:
		ck_assert_str_eq(pattern, "^[A-Z]{3}$");
		break;
	case TYPE_VERSION:
		ck_assert_int_eq(bound(name, "const", 0), rule->max);
		ck_assert_int_eq(rule->min, rule->max);
		break;
	}
	/* And no other member. */
	ck_assert_uint_eq(json_object_size(json_object_get(schema, "properties")), MEMBER_COUNT);
}
END_TEST

int main(void)
{
	json_error_t error;
	event_setup();
	schema = json_load_file(SCHEMA, 0, &error);
	if (!schema) {
		fprintf(stderr, "%s: %s\n", SCHEMA, error.text);
		return EXIT_FAILURE;
	}
	Suite *suite = suite_create("event_members");
	TCase *c = tcase_create("members");
	tcase_add_loop_test(c, test_event_members__each_counts_in_equality_digest_and_copies, 0, MEMBER_COUNT);
	tcase_add_loop_test(c, test_event_members__what_is_stored_has_a_merge_rule, 0, MEMBER_COUNT);
	tcase_add_loop_test(c, test_event_members__bounds_are_those_of_the_table, 0, MEMBER_COUNT);
	tcase_add_loop_test(c, test_event_members__the_json_schema_says_the_same, 0, MEMBER_COUNT);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	json_decref(schema);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
