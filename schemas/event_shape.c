#include "schemas/event_shape.h"

#include "schemas/event_members.h"
#include "schemas/json_scan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* Confluent's wire format: a zero, the id of a schema in four bytes (big-endian), the value. */
enum { REGISTRY_HEAD_BYTES = 5 };

/* The names of the outermost object that say something. */
struct shape {
	struct slice wanted; /* the member that the refusal names */
	struct slice similar; /* the same but for case, '_' and '-'; absent: none */
	bool specversion, schema, payload;
};

__attribute__((format(printf, 2, 3))) static void add(struct decode_error *error, const char *format, ...)
{
	size_t len = strlen(error->message);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->message + len, sizeof(error->message) - len, format, arguments);
	va_end(arguments);
}

static char next_letter(const char **at, const char *end)
{
	while (*at < end && (**at == '_' || **at == '-'))
		++*at;
	if (*at == end)
		return '\0';
	char c = *(*at)++;
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* orderId, OrderID and order-id for order_id. */
static bool is_similar(struct slice a, struct slice b)
{
	const char *at = a.data, *other = b.data, *end = a.data + a.len, *other_end = b.data + b.len;
	char c;

	do {
		c = next_letter(&at, end);
		if (c != next_letter(&other, other_end))
			return false;
	} while (c);
	return true;
}

static void note_name(struct shape *s, struct slice name)
{
	s->specversion |= slice_equal(name, SLICE_LITERAL("specversion"));
	s->schema |= slice_equal(name, SLICE_LITERAL("schema"));
	s->payload |= slice_equal(name, SLICE_LITERAL("payload"));
	if (!slice_present(s->similar) && slice_present(s->wanted) && !slice_equal(name, s->wanted) &&
	    is_similar(name, s->wanted))
		s->similar = name;
}

/* The name of the schema that is spelled like an unknown one; absent: none. */
static struct slice known_name_like(struct slice unknown)
{
	for (enum event_member member = 0; member < MEMBER_COUNT; member++)
		if (is_similar(unknown, event_member_name(member)))
			return event_member_name(member);
	return (struct slice){0};
}

static void explain_object(struct slice value, struct decode_error *error)
{
	struct slice field = slice_of(error->field);
	bool unknown = error->code == ERROR_UNKNOWN_FIELD;
	struct shape s = {.wanted = unknown ? (struct slice){0} : field};
	struct slice name;
	char excerpt[48];

	for (size_t at = 0; json_next_name(value, &at, &name);)
		note_name(&s, name);
	struct slice known = unknown ? known_name_like(field) : field;
	struct slice spelled = unknown ? field : s.similar;
	if (s.specversion)
		add(error, "; it looks like a CloudEvent in structured mode: only binary mode is read, the event alone as "
			   "value, the attributes as ce_ headers");
	else if (s.schema && s.payload)
		add(error, "; it looks like Kafka Connect's JSON with its schema: set value.converter.schemas.enable=false");
	else if (slice_present(spelled) && slice_present(known)) {
		json_escape(spelled, excerpt, sizeof(excerpt));
		add(error, "; there is \"%s\", is it meant? The member is %.*s", excerpt, (int)known.len, known.data);
	}
}

static bool begins(struct slice value, const char *bytes, size_t len)
{
	return value.len > len && memcmp(value.data, bytes, len) == 0;
}

static void explain_bytes(struct slice value, struct decode_error *error)
{
	const unsigned char *b = (const unsigned char *)value.data;

	if (begins(value, "\x1f\x8b", 2))
		add(error, "; it looks like gzip: let the producer compress (compression.type), not the application");
	if (value.len <= REGISTRY_HEAD_BYTES || b[0] != 0)
		return;
	uint32_t id = (uint32_t)b[1] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 8 | b[4];
	add(error, "; it begins as a schema registry's serializer writes it, with a zero and schema id %" PRIu32 " before %s: "
		   "send plain JSON, without a registry",
	    id, b[REGISTRY_HEAD_BYTES] == '{' ? "the JSON" : "Avro or Protobuf");
}

void event_shape_explain(struct slice value, struct decode_error *error)
{
	switch (error->code) {
	case ERROR_MISSING_FIELD:
	case ERROR_UNKNOWN_FIELD:
		explain_object(value, error);
		return;
	case ERROR_NOT_JSON:
	case ERROR_INVALID_UTF8:
		explain_bytes(value, error);
		return;
	case ERROR_NOT_OBJECT:
		if (begins(value, "[", 1))
			add(error, "; a record holds one event, not a list of them");
		else if (begins(value, "\"{", 2))
			add(error, "; it looks like JSON that was made into a JSON string once more");
		return;
	default:
		return;
	}
}
