#include "worker/options.h"

#include "common/parse.h"
#include "worker/config/flags.h"
#include "worker/config/loader.h"
#include "worker/config/option_row.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Kafka's rule for topic names. */
static bool is_topic_name(const char *name)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	return name[strspn(name, alphabet)] == '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* A name that needs no quotes in SQL and that PostgreSQL does not keep for itself. */
static bool is_schema_name(const char *name)
{
	bool first_good = (name[0] >= 'a' && name[0] <= 'z') || name[0] == '_';
	return first_good && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0' &&
	       strncmp(name, "pg_", 3) != 0;
}

static bool is_listen_address(const char *text)
{
	struct slice host;
	uint16_t port;

	return text[0] == '\0' || parse_host_port(slice_of(text), &host, &port);
}

/* An empty name of a copies' topic stands for the topic's with a suffix, which its maximum leaves room for. */
static void fill_topic(const char **name, const char *topic, const char *suffix)
{
	char *filled;

	if ((*name)[0] != '\0')
		return;
	ENSURE(asprintf(&filled, "%s%s", topic, suffix) > 0);
	free((char *)*name);
	*name = filled;
}

/* Behind the message stands what set the option: it may be a variable that nobody remembers. */
__attribute__((format(printf, 3, 4))) static int fail_meaning(struct loader *l, const char *key, const char *format, ...)
{
	const char *origin = origin_find(l->origins, slice_of(key));
	char *message;
	va_list arguments;

	va_start(arguments, format);
	ENSURE(vasprintf(&message, format, arguments) >= 0);
	va_end(arguments);
	int code = loader_fail(l, EXIT_CONFIG, "%s: %s%s%s%s", key, message, origin ? " (" : "", origin ? origin : "",
			       origin ? ")" : "");
	free(message);
	return code;
}

static int check_topics(struct loader *l)
{
	struct options *o = &l->options;
	const char *const names[][2] = {
		{"kafka.topic", o->kafka_topic},
		{"kafka.deferred_topic", o->kafka_deferred_topic},
		{"kafka.dlq_topic", o->kafka_dlq_topic},
	};
	for (size_t i = 0; i < 3; i++) {
		if (!is_topic_name(names[i][1]))
			return fail_meaning(l, names[i][0], "\"%s\" is not a topic name of [A-Za-z0-9._-]", names[i][1]);
		for (size_t j = 0; j < i; j++) {
			/* Copies in the topic they are made from would be read and copied for ever. */
			if (strcmp(names[i][1], names[j][1]) == 0)
				return fail_meaning(l, names[i][0], "\"%s\" is also %s; the topics must differ", names[i][1],
						    names[j][0]);
		}
	}
	return 0;
}

static void put_property_key(struct buf *out, const struct kafka_property *p)
{
	static const char *const sides[] = {[KAFKA_BOTH] = "", [KAFKA_CONSUMER] = "consumer.", [KAFKA_PRODUCER] = "producer."};
	buf_printf(out, "kafka.%s%s", sides[p->side], p->name);
}

/* The name that was meant, as it is written where the wrong one stands. */
static void put_meant(struct buf *out, const char *origin, const char *meant)
{
	buf_puts(out, "; did you mean ");
	if (strncmp(origin, "DW_", 3) == 0)
		option_put_variable(out, meant);
	else
		buf_printf(out, "%s%s", strncmp(origin, "--", 2) == 0 ? "--" : "", meant);
	buf_puts(out, "?");
}

/* Where they are not taken, each is asked about alone: which one it is, and what set it. */
static int check_properties(struct loader *l)
{
	const struct options *o = &l->options;
	char together[256], reason[256];
	int code = 0;

	if (kafka_settings_check(&o->kafka, together, sizeof(together)) == 0)
		return 0;
	for (size_t i = 0; i < o->kafka.property_count; i++) {
		struct kafka_settings one = o->kafka;
		one.properties = &o->kafka.properties[i];
		one.property_count = 1;
		one.property_files = NULL;
		if (kafka_settings_check(&one, reason, sizeof(reason)) == 0)
			continue;
		struct buf key = BUF_INIT, hint = BUF_INIT;
		put_property_key(&key, one.properties);
		const char *origin = origin_find(l->origins, buf_slice(&key)); /* properties have no defaults */
		const char *meant = strstr(reason, "No such configuration property") ? loader_nearest_to_property(buf_slice(&key))
										     : NULL;
		if (meant)
			put_meant(&hint, origin, meant);
		code = loader_fail(l, EXIT_CONFIG, "%s (%s)%s", reason, origin, buf_slice(&hint).data);
		buf_release(&key);
		buf_release(&hint);
	}
	return code ? code : loader_fail(l, EXIT_CONFIG, "%s", together);
}

static bool has_property(const struct kafka_settings *s, const char *name)
{
	for (size_t i = 0; i < s->property_count; i++) {
		if (strcmp(s->properties[i].name, name) == 0)
			return true;
	}
	return false;
}

/* What no row can say: names with a form, options that must agree, properties that librdkafka must know. */
static int check_meaning(struct loader *l)
{
	struct options *o = &l->options;

	fill_topic(&o->kafka_deferred_topic, o->kafka_topic, ".deferred");
	fill_topic(&o->kafka_dlq_topic, o->kafka_topic, ".dlq");
	int code = check_topics(l);
	if (!is_schema_name(o->pg_schema))
		code = fail_meaning(l, "pg.schema", "\"%s\" is not a name of [a-z_][a-z0-9_]*, pg_ apart", o->pg_schema);
	if (!is_listen_address(o->http_listen))
		code = fail_meaning(l, "http.listen", "\"%s\" is not host:port or [host]:port, port 0 to 65535",
				    o->http_listen);

	o->kafka = (struct kafka_settings){
		.brokers = o->kafka_brokers,
		.group = o->kafka_group,
		.properties = l->properties.items,
		.property_count = l->properties.count,
		.property_files = l->properties.files,
		.ahead_bytes = o->kafka_ahead_bytes,
		.cooperative = o->kafka_assignor == 1,
	};
	if (o->consumers > 1 && has_property(&o->kafka, "group.instance.id"))
		code = loader_fail(l, EXIT_CONFIG, "kafka.group.instance.id: needs consumers = 1, not %" PRId64
				   ": members of one name put each other out of the group", o->consumers);
	int properties_code = check_properties(l);
	return code ? code : properties_code;
}

/* The order is the precedence. */
static int read_sources(struct loader *l, const struct flags *flags, char *const *environment)
{
	const char *config = flags->config ? flags->config : environment_find(environment, slice_of("DW_CONFIG"));

	loader_set_defaults(l);
	int file_code = config ? loader_read_file(l, config) : 0;
	int environment_code = loader_read_environment(l, environment);
	int flags_code = flags_set(flags, l);
	return file_code ? file_code : environment_code ? environment_code : flags_code;
}

int options_load(struct options *out, int *argc, char **argv, char *const *environment,
		 const char *const *command_flags, char *error, size_t error_size)
{
	struct loader l = {.error = error, .error_size = error_size};
	struct flags flags;

	error[0] = '\0';
	int code = flags_take(&flags, &l, argc, argv, command_flags);
	if (code == 0) {
		int sources_code = read_sources(&l, &flags, environment);
		int meaning_code = check_meaning(&l); /* also of what was set beside something wrong */
		code = sources_code ? sources_code : meaning_code;
	}
	flags_release(&flags);
	if (code == 0) {
		*out = l.options;
		out->origins = l.origins;
	} else {
		origins_free(l.origins);
		property_list_release(&l.properties);
		option_rows_release(&l.options);
	}
	return code;
}

void options_release(struct options *o)
{
	struct property_list properties = {
		.items = (struct kafka_property *)o->kafka.properties,
		.files = (const char **)o->kafka.property_files,
		.count = o->kafka.property_count,
	};

	property_list_release(&properties);
	option_rows_release(o);
	origins_free(o->origins);
	*o = (struct options){0};
}

const char *options_blame(const struct options *o, const char *reason, char *text, size_t size)
{
	const char *behind = strstr(reason, ": "), *origin = NULL;
	const char *const places[] = {reason, behind ? behind + 2 : NULL};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && places[i] && !origin; i++)
		origin = origin_find(o->origins, (struct slice){places[i], strcspn(places[i], ": ")});
	snprintf(text, size, "%s%s%s%s", reason, origin ? " (" : "", origin ? origin : "", origin ? ")" : "");
	return text;
}
