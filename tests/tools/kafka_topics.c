/*
 * Topics of a real broker, through the admin API: a start of the broker's own tool costs 1.5 s each.
 *
 *     kafka_topics BROKERS create NAME:PARTITIONS[:KEY=VALUE,...]...   waits until every partition has a leader
 *     kafka_topics BROKERS grow NAME:PARTITIONS...                     to that many partitions in all
 *     kafka_topics BROKERS delete NAME...
 *     kafka_topics BROKERS truncate NAME:PARTITION:OFFSET...           deletes the records below
 *     kafka_topics BROKERS configure NAME:KEY=VALUE...                 sets that one property, all others to defaults
 *     kafka_topics BROKERS deny NAME...                                nobody may write to it, until
 *     kafka_topics BROKERS allow NAME...                               takes that back
 *
 * Topics are made with the broker's own replication factor.
 *
 * Exit codes: 0; 1 with a line a failure on stderr; 2 usage.
 */
#include <librdkafka/rdkafka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIMIT_MS = 30000, LOOK_MS = 50 };

/* One argument taken apart in place; `rest` is what follows the second colon, or NULL. */
struct target {
	char *name;
	long number;
	char *rest;
};

static bool parse_target(char *argument, struct target *out)
{
	out->name = argument;
	char *colon = strchr(argument, ':');
	if (!colon)
		return false;
	*colon = '\0';
	char *end;
	out->number = strtol(colon + 1, &end, 10);
	out->rest = *end == ':' ? end + 1 : NULL;
	return end != colon + 1 && (*end == '\0' || *end == ':') && out->number >= 0 && out->number < 100000;
}

static bool complain(const char *what, const char *why)
{
	fprintf(stderr, "kafka_topics: %s: %s\n", what, why);
	return false;
}

/* Returns: false after a line for each topic that was refused. Frees the event. */
static bool report(rd_kafka_event_t *event)
{
	if (!event)
		return complain("no answer", "the broker is away");
	bool fine = !rd_kafka_event_error(event) || complain("request", rd_kafka_event_error_string(event));
	const rd_kafka_topic_result_t **results = NULL;
	size_t count = 0;
	switch (rd_kafka_event_type(event)) {
	case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
		results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
		break;
	case RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT:
		results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count);
		break;
	case RD_KAFKA_EVENT_DELETETOPICS_RESULT:
		results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
		break;
	default:
		break;
	}
	for (size_t i = 0; i < count; i++) {
		if (rd_kafka_topic_result_error(results[i]))
			fine = complain(rd_kafka_topic_result_name(results[i]), rd_kafka_topic_result_error_string(results[i]));
	}
	rd_kafka_event_destroy(event);
	return fine;
}

/* Has every partition of `name` a leader, as the broker tells it now? */
static bool has_leaders(rd_kafka_t *client, const char *name, long partitions)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
	const struct rd_kafka_metadata *metadata = NULL;
	bool all = topic && !rd_kafka_metadata(client, 0, topic, &metadata, 5000) && metadata->topic_cnt == 1 &&
	           metadata->topics[0].partition_cnt >= partitions;
	for (int i = 0; all && i < metadata->topics[0].partition_cnt; i++)
		all = metadata->topics[0].partitions[i].leader >= 0;
	if (metadata)
		rd_kafka_metadata_destroy(metadata);
	if (topic)
		rd_kafka_topic_destroy(topic);
	return all;
}

static bool wait_for_leaders(rd_kafka_t *client, const char *name, long partitions)
{
	for (int waited_ms = 0; waited_ms < LIMIT_MS; waited_ms += LOOK_MS) {
		if (has_leaders(client, name, partitions))
			return true;
		nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
	}
	return complain(name, "partitions without a leader");
}

static bool set_configs(rd_kafka_NewTopic_t *topic, char *pairs)
{
	char *rest = NULL;
	for (char *pair = strtok_r(pairs, ",", &rest); pair; pair = strtok_r(NULL, ",", &rest)) {
		char *value = strchr(pair, '=');
		if (!value)
			return complain(pair, "KEY=VALUE is wanted");
		*value++ = '\0';
		if (rd_kafka_NewTopic_set_config(topic, pair, value))
			return complain(pair, "refused");
	}
	return true;
}

static bool create(rd_kafka_t *client, rd_kafka_queue_t *queue, const struct target *t)
{
	char reason[256];
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(t->name, (int)t->number, -1, reason, sizeof(reason));
	if (!topic)
		return complain(t->name, reason);
	bool fine = !t->rest || set_configs(topic, t->rest);
	if (fine) {
		rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
		fine = report(rd_kafka_queue_poll(queue, LIMIT_MS));
	}
	rd_kafka_NewTopic_destroy(topic);
	return fine && wait_for_leaders(client, t->name, t->number);
}

static bool grow(rd_kafka_t *client, rd_kafka_queue_t *queue, const struct target *t)
{
	char reason[256];
	rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(t->name, (size_t)t->number, reason, sizeof(reason));
	if (!more)
		return complain(t->name, reason);
	rd_kafka_CreatePartitions(client, &more, 1, NULL, queue);
	bool fine = report(rd_kafka_queue_poll(queue, LIMIT_MS));
	rd_kafka_NewPartitions_destroy(more);
	return fine && wait_for_leaders(client, t->name, t->number);
}

static bool truncate_partition(rd_kafka_t *client, rd_kafka_queue_t *queue, const struct target *t)
{
	if (!t->rest)
		return complain(t->name, "NAME:PARTITION:OFFSET is wanted");
	rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(before, t->name, (int32_t)t->number)->offset = strtoll(t->rest, NULL, 10);
	rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(before);
	rd_kafka_DeleteRecords(client, &request, 1, NULL, queue);
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, LIMIT_MS);
	bool fine = true;
	if (event && !rd_kafka_event_error(event)) {
		const rd_kafka_topic_partition_list_t *after =
			rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
		if (after->elems[0].err)
			fine = complain(t->name, rd_kafka_err2str(after->elems[0].err));
	}
	fine = report(event) && fine;
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_topic_partition_list_destroy(before);
	return fine;
}

static bool delete_topic(rd_kafka_t *client, rd_kafka_queue_t *queue, const char *name)
{
	rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
	rd_kafka_DeleteTopics(client, &topic, 1, NULL, queue);
	bool fine = report(rd_kafka_queue_poll(queue, LIMIT_MS));
	rd_kafka_DeleteTopic_destroy(topic);
	return fine;
}

static bool configure(rd_kafka_t *client, rd_kafka_queue_t *queue, char *argument)
{
	char *key = strchr(argument, ':');
	char *value = key ? strchr(key, '=') : NULL;
	if (!value)
		return complain(argument, "NAME:KEY=VALUE is wanted");
	*key++ = *value++ = '\0';
	rd_kafka_ConfigResource_t *topic = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, argument);
	bool fine = !rd_kafka_ConfigResource_set_config(topic, key, value) || complain(key, "refused");
	rd_kafka_AlterConfigs(client, &topic, 1, NULL, queue);
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, LIMIT_MS);
	if (event && !rd_kafka_event_error(event)) {
		size_t count;
		const rd_kafka_ConfigResource_t **results = rd_kafka_AlterConfigs_result_resources(
			rd_kafka_event_AlterConfigs_result(event), &count);
		if (count > 0 && rd_kafka_ConfigResource_error(results[0]))
			fine = complain(argument, rd_kafka_ConfigResource_error_string(results[0]));
	}
	rd_kafka_ConfigResource_destroy(topic);
	return report(event) && fine;
}

/* A first ACL on a topic ends what everybody might do with it before. */
static bool add_acl(rd_kafka_t *client, rd_kafka_queue_t *queue, const char *name, rd_kafka_AclOperation_t operation,
		    rd_kafka_AclPermissionType_t permission)
{
	char reason[256];
	rd_kafka_AclBinding_t *acl =
		rd_kafka_AclBinding_new(RD_KAFKA_RESOURCE_TOPIC, name, RD_KAFKA_RESOURCE_PATTERN_LITERAL, "User:*", "*",
					operation, permission, reason, sizeof(reason));
	if (!acl)
		return complain(name, reason);
	rd_kafka_CreateAcls(client, &acl, 1, NULL, queue);
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, LIMIT_MS);
	bool fine = true;
	if (event && !rd_kafka_event_error(event)) {
		size_t count;
		const rd_kafka_acl_result_t **results =
			rd_kafka_CreateAcls_result_acls(rd_kafka_event_CreateAcls_result(event), &count);
		if (count > 0 && rd_kafka_acl_result_error(results[0]))
			fine = complain(name, rd_kafka_error_string(rd_kafka_acl_result_error(results[0])));
	}
	rd_kafka_AclBinding_destroy(acl);
	return report(event) && fine;
}

static bool deny(rd_kafka_t *client, rd_kafka_queue_t *queue, const char *name)
{
	return add_acl(client, queue, name, RD_KAFKA_ACL_OPERATION_ALL, RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW) &&
	       add_acl(client, queue, name, RD_KAFKA_ACL_OPERATION_WRITE, RD_KAFKA_ACL_PERMISSION_TYPE_DENY);
}

static bool allow(rd_kafka_t *client, rd_kafka_queue_t *queue, const char *name)
{
	char reason[256];
	rd_kafka_AclBindingFilter_t *filter = rd_kafka_AclBindingFilter_new(
		RD_KAFKA_RESOURCE_TOPIC, name, RD_KAFKA_RESOURCE_PATTERN_LITERAL, NULL, NULL,
		RD_KAFKA_ACL_OPERATION_ANY, RD_KAFKA_ACL_PERMISSION_TYPE_ANY, reason, sizeof(reason));
	if (!filter)
		return complain(name, reason);
	rd_kafka_DeleteAcls(client, &filter, 1, NULL, queue);
	bool fine = report(rd_kafka_queue_poll(queue, LIMIT_MS));
	rd_kafka_AclBinding_destroy(filter);
	return fine;
}

static bool obey(rd_kafka_t *client, rd_kafka_queue_t *queue, const char *verb, char *argument)
{
	if (!strcmp(verb, "delete"))
		return delete_topic(client, queue, argument);
	if (!strcmp(verb, "configure"))
		return configure(client, queue, argument);
	if (!strcmp(verb, "deny"))
		return deny(client, queue, argument);
	if (!strcmp(verb, "allow"))
		return allow(client, queue, argument);
	struct target t;
	if (!parse_target(argument, &t))
		return complain(argument, "NAME:NUMBER is wanted");
	if (!strcmp(verb, "create"))
		return create(client, queue, &t);
	if (!strcmp(verb, "grow"))
		return grow(client, queue, &t);
	if (!strcmp(verb, "truncate"))
		return truncate_partition(client, queue, &t);
	return complain(verb, "unknown; create, grow, delete, truncate, configure, deny or allow");
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: kafka_topics BROKERS create|grow|delete|truncate|configure|deny|allow TARGET...\n");
		return 2;
	}
	char reason[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	if (rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], reason, sizeof(reason)) ||
	    rd_kafka_conf_set(conf, "allow.auto.create.topics", "false", reason, sizeof(reason))) {
		complain("brokers", reason);
		return 2;
	}
	rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof(reason));
	if (!client) {
		complain("client", reason);
		return 1;
	}
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	bool fine = true;
	for (int i = 3; i < argc; i++)
		fine = obey(client, queue, argv[2], argv[i]) && fine;
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return fine ? 0 : 1;
}
