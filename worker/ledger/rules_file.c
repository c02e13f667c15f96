#include "worker/ledger/rules.h"

#include "schemas/event.h"
#include "schemas/timestamp.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * The rule file is written by people: every refusal names the member as a path into the file, the value
 * and the bound. Nothing is guessed, since a rule loaded is a rule kept (versions are never edited).
 */

enum {
	ID_BYTES_MAX = 64,
	EXCERPT_MAX = 80, /* of a value shown in an error */
	POINTS_PER_RULE_MAX = 1000000,
	MULTIPLIER_MAX = 1000000,
};

#define PER_MINOR_MAX INT64_C(1000000000)

/* One entry of "rules" or "partners", and where an error goes. */
struct entry {
	const char *list;
	size_t index;
	const json_t *object;
	char *error;
	size_t error_size;
};

/* Returns: -1, for the caller to return. */
static int refuse(const struct entry *e, const char *member, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct entry *e, const char *member, const char *format, ...)
{
	char why[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	snprintf(e->error, e->error_size, "%s[%zu]%s%s: %s", e->list, e->index, member ? "." : "", member ? member : "",
	         why);
	return -1;
}

/* Printable ASCII of `text`, the rest as '?': an error is one line, whatever the file holds. */
static const char *excerpt(struct slice text, char out[EXCERPT_MAX])
{
	size_t len = text.len < EXCERPT_MAX - 1 ? text.len : EXCERPT_MAX - 1;
	for (size_t i = 0; i < len; i++)
		out[i] = text.data[i] >= ' ' && text.data[i] <= '~' ? text.data[i] : '?';
	out[len] = '\0';
	return out;
}

static struct slice string_slice(const json_t *value)
{
	return (struct slice){json_string_value(value), json_string_length(value)};
}

static int check_members(const struct entry *e, const char *const *known)
{
	if (!json_is_object(e->object))
		return refuse(e, NULL, "is not an object");
	/* jansson's iterator wants a mutable object and changes nothing. */
	json_t *object = (json_t *)(uintptr_t)e->object;
	for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
		const char *name = json_object_iter_key(i);
		size_t k = 0;
		while (known[k] && strcmp(known[k], name) != 0)
			k++;
		char shown[EXCERPT_MAX];
		if (!known[k])
			return refuse(e, NULL, "unknown member \"%s\"", excerpt(slice_of(name), shown));
	}
	return 0;
}

/* Readers of one member. An absent one leaves *out alone, so the caller sets defaults first. */

static int read_integer(const struct entry *e, const char *member, int64_t min, int64_t max, int64_t *out)
{
	const json_t *value = json_object_get(e->object, member);
	if (!value)
		return 0;
	if (!json_is_integer(value))
		return refuse(e, member, "is not an integer");
	int64_t n = json_integer_value(value);
	if (n < min)
		return refuse(e, member, "%" PRId64 " is below %" PRId64, n, min);
	if (n > max)
		return refuse(e, member, "%" PRId64 " is above %" PRId64, n, max);
	*out = n;
	return 0;
}

static int read_string(const struct entry *e, const char *member, struct slice *out)
{
	const json_t *value = json_object_get(e->object, member);
	if (!value)
		return 0;
	if (!json_is_string(value))
		return refuse(e, member, "is not a string");
	*out = string_slice(value);
	return 0;
}

static bool is_id_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
	       c == ':' || c == '-';
}

static int read_id(const struct entry *e, const char *member, struct slice *out)
{
	struct slice id = {0};
	if (read_string(e, member, &id) < 0)
		return -1;
	if (!slice_present(id))
		return 0;
	if (id.len < 1 || id.len > ID_BYTES_MAX)
		return refuse(e, member, "has %zu bytes, not 1 to %d", id.len, ID_BYTES_MAX);
	for (size_t i = 0; i < id.len; i++) {
		char shown[EXCERPT_MAX];
		if (!is_id_char(id.data[i]))
			return refuse(e, member, "\"%s\" has a character other than A-Z a-z 0-9 . _ : -",
				      excerpt(id, shown));
	}
	*out = id;
	return 0;
}

static int read_currency(const struct entry *e, char currency[4])
{
	struct slice text = {0};
	if (read_string(e, "currency", &text) < 0)
		return -1;
	if (!slice_present(text))
		return 0;
	bool good = text.len == 3;
	for (size_t i = 0; good && i < 3; i++)
		good = text.data[i] >= 'A' && text.data[i] <= 'Z';
	char shown[EXCERPT_MAX];
	if (!good || slice_equal(text, SLICE_LITERAL("PTS")))
		return refuse(e, "currency", "\"%s\" is not three letters A-Z other than PTS", excerpt(text, shown));
	memcpy(currency, text.data, 3);
	currency[3] = '\0';
	return 0;
}

static int read_time(const struct entry *e, const char *member, int64_t *out)
{
	struct slice text = {0};
	if (read_string(e, member, &text) < 0)
		return -1;
	char shown[EXCERPT_MAX];
	if (slice_present(text) && timestamp_parse(text, out) < 0)
		return refuse(e, member, "\"%s\" is not a time such as 2026-01-31T12:00:00Z", excerpt(text, shown));
	return 0;
}

static int require(const struct entry *e, const char *member)
{
	return json_object_get(e->object, member) ? 0 : refuse(e, member, "is missing");
}

static int read_rule_kind(const struct entry *e, struct rule *rule)
{
	struct slice kind = {0};
	if (require(e, "kind") < 0 || read_string(e, "kind", &kind) < 0)
		return -1;
	if (slice_equal(kind, SLICE_LITERAL("per_amount"))) {
		rule->kind = RULE_PER_AMOUNT;
		return require(e, "per_minor");
	}
	if (slice_equal(kind, SLICE_LITERAL("per_order"))) {
		rule->kind = RULE_PER_ORDER;
		if (json_object_get(e->object, "per_minor"))
			return refuse(e, "per_minor", "goes with kind per_amount only");
		return 0;
	}
	char shown[EXCERPT_MAX];
	return refuse(e, "kind", "\"%s\" is not per_amount or per_order", excerpt(kind, shown));
}

static int read_rule(const struct entry *e, struct rule *rule)
{
	static const char *const members[] = {
		"id", "kind", "points", "per_minor", "partner_id", "currency", "multiplier_bp", "min_order_minor",
		"max_points_per_order", "valid_from", "valid_to", NULL,
	};
	*rule = (struct rule){
		.per_minor = 1,
		.multiplier_bp = 10000,
		.max_points_per_order = -1,
		.valid_from_us = TIME_NONE,
		.valid_to_us = INT64_MAX,
	};
	if (check_members(e, members) < 0 || require(e, "id") < 0 || read_id(e, "id", &rule->id) < 0 ||
	    read_rule_kind(e, rule) < 0 || require(e, "points") < 0 ||
	    read_integer(e, "points", 0, POINTS_PER_RULE_MAX, &rule->points) < 0 ||
	    read_integer(e, "per_minor", 1, PER_MINOR_MAX, &rule->per_minor) < 0 ||
	    read_integer(e, "multiplier_bp", 0, MULTIPLIER_MAX, &rule->multiplier_bp) < 0 ||
	    read_integer(e, "min_order_minor", 0, EVENT_AMOUNT_MAX, &rule->min_order_minor) < 0 ||
	    read_integer(e, "max_points_per_order", 0, EVENT_AMOUNT_MAX, &rule->max_points_per_order) < 0 ||
	    read_id(e, "partner_id", &rule->partner_id) < 0 || read_currency(e, rule->currency) < 0 ||
	    read_time(e, "valid_from", &rule->valid_from_us) < 0 || read_time(e, "valid_to", &rule->valid_to_us) < 0)
		return -1;
	if (rule->valid_from_us >= rule->valid_to_us)
		return refuse(e, "valid_to", "is not after valid_from");
	return 0;
}

static int read_kinds(const struct entry *e, uint8_t *kinds)
{
	const json_t *list = json_object_get(e->object, "kinds");
	if (!list)
		return 0;
	if (!json_is_array(list))
		return refuse(e, "kinds", "is not an array");
	unsigned seen = 0; /* an empty list is legal: the partner takes part in nothing */
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *value = json_array_get(list, i);
		if (!json_is_string(value))
			return refuse(e, "kinds", "element %zu is not a string", i);
		struct slice name = string_slice(value);
		char shown[EXCERPT_MAX];
		unsigned kind;
		if (slice_equal(name, SLICE_LITERAL("points")))
			kind = KIND_POINTS;
		else if (slice_equal(name, SLICE_LITERAL("order_credit")))
			kind = KIND_ORDER_CREDIT;
		else
			return refuse(e, "kinds", "\"%s\" is not points or order_credit", excerpt(name, shown));
		if (seen & kind)
			return refuse(e, "kinds", "\"%s\" is there twice", excerpt(name, shown));
		seen |= kind;
	}
	*kinds = (uint8_t)seen;
	return 0;
}

static int read_partner(const struct entry *e, struct partner_settings *p)
{
	static const char *const members[] = {"partner_id", "kinds", "per_second", "burst", NULL};
	*p = (struct partner_settings){.kinds = KINDS_ALL, .per_second = -1, .burst = -1};
	if (check_members(e, members) < 0 || require(e, "partner_id") < 0 ||
	    read_id(e, "partner_id", &p->partner_id) < 0 || read_kinds(e, &p->kinds) < 0 ||
	    read_integer(e, "per_second", 0, PARTNER_RATE_MAX, &p->per_second) < 0 ||
	    read_integer(e, "burst", 1, PARTNER_RATE_MAX, &p->burst) < 0)
		return -1;
	return 0;
}

struct named_entry {
	struct slice id;
	size_t index;
};

static int by_id_then_index(const void *a, const void *b)
{
	const struct named_entry *x = a, *y = b;
	int order = slice_compare(x->id, y->id);
	return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* An id given twice would leave the order of lines to decide. Every entry has passed its reader. */
static int check_distinct(const struct entry *e, const json_t *list, const char *id_member)
{
	size_t count = json_array_size(list);
	struct named_entry *names = calloc(count ? count : 1, sizeof(*names));
	ENSURE(names != NULL);
	for (size_t i = 0; i < count; i++)
		names[i] = (struct named_entry){string_slice(json_object_get(json_array_get(list, i), id_member)), i};
	qsort(names, count, sizeof(*names), by_id_then_index);
	int result = 0;
	for (size_t i = 1; i < count && result == 0; i++) {
		if (!slice_equal(names[i - 1].id, names[i].id))
			continue;
		struct entry later = *e;
		later.index = names[i].index;
		result = refuse(&later, id_member, "\"%.*s\" is already that of %s[%zu]", (int)names[i].id.len,
		                names[i].id.data, e->list, names[i - 1].index);
	}
	free(names);
	return result;
}

static int read_lists(struct rules *out, const json_t *rule_list, const json_t *partner_list, char *error,
                      size_t error_size)
{
	struct entry e = {.list = "rules", .error = error, .error_size = error_size};
	for (e.index = 0; e.index < json_array_size(rule_list); e.index++) {
		struct rule rule;
		e.object = json_array_get(rule_list, e.index);
		if (read_rule(&e, &rule) < 0)
			return -1;
		rules_add(out, &rule);
	}
	if (check_distinct(&e, rule_list, "id") < 0)
		return -1;

	e.list = "partners";
	for (e.index = 0; e.index < json_array_size(partner_list); e.index++) {
		struct partner_settings p;
		e.object = json_array_get(partner_list, e.index);
		if (read_partner(&e, &p) < 0)
			return -1;
		rules_add_partner(out, &p);
	}
	return check_distinct(&e, partner_list, "partner_id");
}

/* Returns: the root object, with one reference; NULL and *error. */
static json_t *load(struct slice text, char *error, size_t error_size)
{
	if (text.len > RULES_FILE_BYTES_MAX) {
		snprintf(error, error_size, "%zu bytes are above %d", text.len, RULES_FILE_BYTES_MAX);
		return NULL;
	}
	json_error_t cause;
	json_t *root = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES, &cause);
	if (!root) {
		char shown[EXCERPT_MAX];
		snprintf(error, error_size, "line %d, column %d: %s", cause.line, cause.column,
		         excerpt(slice_of(cause.text), shown));
		return NULL;
	}
	if (!json_is_object(root)) {
		snprintf(error, error_size, "is not a JSON object");
		json_decref(root);
		return NULL;
	}
	return root;
}

/* Finds the two lists; one that is absent is empty (NULL). */
static int find_lists(json_t *root, const json_t **rule_list, const json_t **partner_list, char *error,
                      size_t error_size)
{
	for (void *i = json_object_iter(root); i; i = json_object_iter_next(root, i)) {
		struct slice name = slice_of(json_object_iter_key(i));
		const json_t **list = NULL;
		if (slice_equal(name, SLICE_LITERAL("rules")))
			list = rule_list;
		else if (slice_equal(name, SLICE_LITERAL("partners")))
			list = partner_list;
		char shown[EXCERPT_MAX];
		if (!list) {
			snprintf(error, error_size, "unknown member \"%s\"", excerpt(name, shown));
			return -1;
		}
		*list = json_object_iter_value(i);
		if (!json_is_array(*list)) {
			snprintf(error, error_size, "%s: is not an array", excerpt(name, shown));
			return -1;
		}
	}
	return 0;
}

struct rules *rules_parse_file(struct slice text, char *error, size_t error_size)
{
	json_t *root = load(text, error, error_size);
	if (!root)
		return NULL;
	struct rules *out = rules_new(0);
	const json_t *rule_list = NULL, *partner_list = NULL;
	if (find_lists(root, &rule_list, &partner_list, error, error_size) < 0 ||
	    read_lists(out, rule_list, partner_list, error, error_size) < 0) {
		rules_unref(out);
		out = NULL;
	}
	json_decref(root);
	return out;
}
