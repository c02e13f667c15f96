#include "schemas/event_json.h"

#include "schemas/json_scan.h"

#include <jansson.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>

enum {
	/* A typical event of 345 bytes takes 5 KiB. */
	ARENA_FIRST_BYTES = 32 * 1024,
	/* What a text takes beyond that is got in chunks and given back when it has been judged. 64 KiB of
	 * JSON take at most 6 MiB (tests/unit/test_event.c measures it): the text's bound is the arena's. */
	ARENA_CHUNK_BYTES = 256 * 1024,
};

struct chunk {
	struct chunk *next;
	alignas(max_align_t) char bytes[];
};

/* Bytes go out in a row and come back all at once; only the newest allocation can be given back alone. */
struct arena {
	char *at, *end;       /* what is left of the newest chunk */
	char *last;           /* the newest allocation */
	struct chunk *chunks; /* newest first, beyond `first` */
	alignas(max_align_t) char first[ARENA_FIRST_BYTES];
};

struct event_json {
	struct arena arena;
};

/* The arena of the text that this thread is reading, else NULL. */
static _Thread_local struct arena *reading;

static void arena_reset(struct arena *a)
{
	while (a->chunks) {
		struct chunk *next = a->chunks->next;
		free(a->chunks);
		a->chunks = next;
	}
	a->at = a->last = a->first;
	a->end = a->first + sizeof(a->first);
}

static void arena_grow(struct arena *a, size_t size)
{
	size_t bytes = size < ARENA_CHUNK_BYTES ? ARENA_CHUNK_BYTES : size;
	struct chunk *chunk = malloc(sizeof(*chunk) + bytes);

	ENSURE(chunk);
	chunk->next = a->chunks;
	a->chunks = chunk;
	a->at = chunk->bytes;
	a->end = chunk->bytes + bytes;
}

/*
 * Never NULL: to jansson a failed allocation is a syntax error ("invalid token") like any other, and the byte of a
 * string for which there was no room is left out without a word. Neither may become a dead letter or a rule.
 */
static void *json_take(size_t size)
{
	struct arena *a = reading;

	if (!a) {
		void *bytes = malloc(size);
		ENSURE(bytes);
		return bytes;
	}
	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (size > (size_t)(a->end - a->at))
		arena_grow(a, size);
	a->last = a->at;
	a->at += size;
	return a->last;
}

static void json_give(void *bytes)
{
	struct arena *a = reading;

	if (!a)
		free(bytes);
	else if (bytes == a->last)
		a->at = a->last;
}

void event_json_setup(void)
{
	json_set_alloc_funcs(json_take, json_give);
	json_object_seed(0);
}

struct event_json *event_json_new(void)
{
	struct event_json *j = malloc(sizeof(*j));

	ENSURE(j);
	j->arena.chunks = NULL;
	arena_reset(&j->arena);
	return j;
}

void event_json_free(struct event_json *j)
{
	if (!j)
		return;
	arena_reset(&j->arena);
	free(j);
}

void event_json_release(struct event_json *j)
{
	arena_reset(&j->arena);
}

/* `token`: a member's name as it stands in the text, well-formed, or absent. */
static enum error_code refuse_at(struct decode_error *error, enum error_code code, struct slice token,
				 const char *message)
{
	json_t *name = token.data ? json_loadb(token.data, token.len, JSON_DECODE_ANY, NULL) : NULL;
	struct slice field = {name ? json_string_value(name) : NULL, name ? json_string_length(name) : 0};

	return event_refuse(error, code, field, "%s", message);
}

static enum error_code refuse_text(struct decode_error *error, struct slice text, const json_error_t *cause)
{
	char excerpt[200];
	size_t offset = cause->position > 0 ? (size_t)cause->position : 0;
	struct json_place place = json_place_at(text, offset);

	switch (json_error_code(cause)) {
	case json_error_invalid_utf8:
		return event_refuse(error, ERROR_INVALID_UTF8, (struct slice){0},
				    "the value is not UTF-8, near byte %zu", offset);
	case json_error_duplicate_key:
		return refuse_at(error, ERROR_DUPLICATE_MEMBER, place.last_string,
				 "the name stands twice in one object; each name may stand once");
	case json_error_numeric_overflow:
		return refuse_at(
			error, ERROR_OUT_OF_RANGE, place.member,
			"a number is beyond a 64-bit integer or double; numbers must fit, unknown members' too");
	case json_error_null_character:
	case json_error_null_byte_in_key:
		return event_refuse(error, ERROR_NOT_JSON, (struct slice){0},
				    "a string or name holds U+0000, which is refused; near byte %zu", offset);
	case json_error_premature_end_of_input:
		return event_refuse(error, ERROR_NOT_JSON, (struct slice){0}, "the JSON ends early, at byte %zu",
				    offset);
	case json_error_end_of_input_expected:
		return event_refuse(error, ERROR_NOT_JSON, (struct slice){0},
				    "something follows the JSON, near byte %zu; one record is one object", offset);
	default:
		json_escape(slice_of(cause->text), excerpt, sizeof(excerpt));
		return event_refuse(error, ERROR_NOT_JSON, (struct slice){0}, "%s, near byte %zu", excerpt, offset);
	}
}

static struct member_value value_of(const json_t *json)
{
	struct member_value value = {.kind = JSON_KIND_NULL};

	switch (json_typeof(json)) {
	case JSON_STRING:
		value.kind = JSON_KIND_STRING;
		value.text = (struct slice){json_string_value(json), json_string_length(json)};
		break;
	case JSON_INTEGER:
		value.kind = JSON_KIND_INTEGER;
		value.integer = json_integer_value(json);
		break;
	case JSON_REAL:
		value.kind = JSON_KIND_REAL;
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		value.kind = JSON_KIND_BOOLEAN;
		break;
	case JSON_NULL:
		break;
	case JSON_ARRAY:
		value.kind = JSON_KIND_ARRAY;
		break;
	case JSON_OBJECT:
		value.kind = JSON_KIND_OBJECT;
		break;
	}
	return value;
}

static void collect(json_t *object, struct event_members *members)
{
	*members = (struct event_members){.unknown = 0};
	for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
		struct slice name = slice_of(json_object_iter_key(at)); /* holds no U+0000: jansson refuses it */
		enum event_member member = event_member_from_name(name);
		if (member != MEMBER_UNKNOWN)
			members->values[member] = value_of(json_object_iter_value(at));
		else if (members->unknown++ == 0)
			members->first_unknown = name;
	}
}

enum error_code event_json_read(struct event_json *j, struct slice text, struct event_members *members,
				struct decode_error *error)
{
	enum error_code code = ERROR_NONE;
	json_error_t cause;

	ENSURE(j->arena.at == j->arena.first);
	reading = &j->arena;
	/* DECODE_ANY: else a text that is a mere string or number would be called malformed, not no object. */
	json_t *root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &cause);
	if (!root)
		code = refuse_text(error, text, &cause);
	else if (!json_is_object(root))
		code = event_refuse(error, ERROR_NOT_OBJECT, (struct slice){0}, "the value is JSON, but not an object");
	else
		collect(root, members);
	reading = NULL; /* `root` is not released: it goes with the arena */
	return code;
}
