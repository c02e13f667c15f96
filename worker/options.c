#include "worker/options.h"

#include "common/parse.h"
#include "worker/config/flags.h"
#include "worker/config/loader.h"
#include "worker/config/option_row.h"

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
			return loader_fail(l, EXIT_CONFIG, "%s: \"%s\" is not a topic name of [A-Za-z0-9._-]",
					   names[i][0], names[i][1]);
		for (size_t j = 0; j < i; j++) {
			/* Copies in the topic they are made from would be read and copied for ever. */
			if (strcmp(names[i][1], names[j][1]) == 0)
				return loader_fail(l, EXIT_CONFIG, "%s: \"%s\" is also %s; the topics must differ",
						   names[i][0], names[i][1], names[j][0]);
		}
	}
	return 0;
}

/* What no row can say: names with a form, options that must agree, properties that librdkafka must know. */
static int check_meaning(struct loader *l)
{
	struct options *o = &l->options;
	char reason[256];

	fill_topic(&o->kafka_deferred_topic, o->kafka_topic, ".deferred");
	fill_topic(&o->kafka_dlq_topic, o->kafka_topic, ".dlq");
	int code = check_topics(l);
	if (code)
		return code;
	if (!is_schema_name(o->pg_schema))
		return loader_fail(l, EXIT_CONFIG, "pg.schema: \"%s\" is not a name of [a-z_][a-z0-9_]*, pg_ apart",
				   o->pg_schema);
	if (!is_listen_address(o->http_listen))
		return loader_fail(l, EXIT_CONFIG, "http.listen: \"%s\" is not host:port or [host]:port, port 0 to 65535",
				   o->http_listen);

	o->kafka = (struct kafka_settings){
		.brokers = o->kafka_brokers,
		.group = o->kafka_group,
		.properties = l->properties.items,
		.property_count = l->properties.count,
	};
	if (kafka_settings_check(&o->kafka, reason, sizeof(reason)) != 0)
		return loader_fail(l, EXIT_CONFIG, "%s", reason);
	return 0;
}

/* The order is the precedence. */
static int read_sources(struct loader *l, const struct flags *flags, char *const *environment)
{
	const char *config = flags->config ? flags->config : environment_find(environment, slice_of("DW_CONFIG"));
	int code = 0;

	loader_set_defaults(l);
	if (config)
		code = loader_read_file(l, config);
	if (code == 0)
		code = loader_read_environment(l, environment);
	if (code == 0)
		code = flags_set(flags, l);
	return code;
}

int options_load(struct options *out, int *argc, char **argv, char *const *environment,
		 const char *const *command_flags, char *error, size_t error_size)
{
	struct loader l = {.error = error, .error_size = error_size};
	struct flags flags;

	int code = flags_take(&flags, &l, argc, argv, command_flags);
	if (code == 0)
		code = read_sources(&l, &flags, environment);
	if (code == 0)
		code = check_meaning(&l);
	flags_release(&flags);
	if (code == 0) {
		*out = l.options;
	} else {
		property_list_release(&l.properties);
		option_rows_release(&l.options);
	}
	return code;
}

void options_release(struct options *o)
{
	struct property_list properties = {(struct kafka_property *)o->kafka.properties, o->kafka.property_count};

	property_list_release(&properties);
	option_rows_release(o);
	*o = (struct options){0};
}
