/*
 * librdkafka's mock cluster as a process of its own, for tests and the demo.
 *
 *     mock_broker [--brokers N] NAME:PARTITIONS...
 *
 * Prints its bootstrap servers as one line once it serves. Then each line on stdin is an order, answered
 * with one line, `ok` or `error: reason`:
 *
 *     topic NAME PARTITIONS       creates a topic
 *     down BROKER_ID              takes a broker off the network; ids count from 1
 *     up BROKER_ID                brings it back
 *     leader NAME PARTITION ID    makes that broker its leader; 0: none
 *
 * It ends with stdin, so it does not outlive who started it. It has no state worth an orderly end:
 * SIGTERM's default will do. What it lacks: an admin API, retention beyond 5 MiB a partition.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTITIONS_MAX = 10000, BROKERS_MAX = 16 };

/* Returns: the number, or -1 when `text` is not a decimal number from 1 to `max`. */
static int parse_count(const char *text, int max)
{
	char *end;
	long number = strtol(text, &end, 10);
	return *text == '\0' || *end != '\0' || number < 1 || number > max ? -1 : (int)number;
}

static const char *create_topic(rd_kafka_mock_cluster_t *cluster, const char *name, const char *count)
{
	int partitions = parse_count(count, PARTITIONS_MAX);
	if (partitions < 0)
		return "bad number of partitions";
	rd_kafka_resp_err_t err = rd_kafka_mock_topic_create(cluster, name, partitions, 1);
	return err ? rd_kafka_err2str(err) : NULL;
}

static const char *set_leader(rd_kafka_mock_cluster_t *cluster, const char *topic, const char *partition, const char *id)
{
	char *end;
	long number = strtol(partition, &end, 10);
	if (*partition == '\0' || *end != '\0' || number < 0 || number >= PARTITIONS_MAX)
		return "bad number of a partition";
	int leader = !strcmp(id, "0") ? -1 : parse_count(id, BROKERS_MAX);
	rd_kafka_resp_err_t err = rd_kafka_mock_partition_set_leader(cluster, topic, (int32_t)number, leader);
	return err ? rd_kafka_err2str(err) : NULL;
}

/* Returns: NULL, or why the order was not carried out. */
static const char *obey(rd_kafka_mock_cluster_t *cluster, int brokers, char *line)
{
	char *rest = NULL;
	const char *verb = strtok_r(line, " \n", &rest);
	const char *object = strtok_r(NULL, " \n", &rest);
	const char *count = strtok_r(NULL, " \n", &rest);
	if (!verb || !object)
		return "an order is a verb and what it is for";
	if (!strcmp(verb, "leader")) {
		const char *leader = strtok_r(NULL, " \n", &rest);
		return count && leader ? set_leader(cluster, object, count, leader) : "leader NAME PARTITION ID";
	}
	if (!strcmp(verb, "topic"))
		return count ? create_topic(cluster, object, count) : "topic NAME PARTITIONS";
	int id = parse_count(object, brokers);
	if (id < 0)
		return "no such broker";
	rd_kafka_resp_err_t err;
	if (!strcmp(verb, "down"))
		err = rd_kafka_mock_broker_set_down(cluster, id);
	else if (!strcmp(verb, "up"))
		err = rd_kafka_mock_broker_set_up(cluster, id);
	else
		return "unknown order";
	return err ? rd_kafka_err2str(err) : NULL;
}

static int serve(rd_kafka_mock_cluster_t *cluster, int brokers, char **topics)
{
	for (; *topics; topics++) {
		char *colon = strrchr(*topics, ':');
		if (colon)
			*colon = '\0';
		const char *why = colon ? create_topic(cluster, *topics, colon + 1) : "NAME:PARTITIONS is wanted";
		if (why) {
			fprintf(stderr, "mock_broker: %s: %s\n", *topics, why);
			return 2;
		}
	}
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	char line[512];
	while (fflush(stdout) == 0 && fgets(line, sizeof(line), stdin)) {
		const char *why = obey(cluster, brokers, line);
		if (why)
			printf("error: %s\n", why);
		else
			puts("ok");
	}
	return 0;
}

int main(int argc, char **argv)
{
	int brokers = 1;
	char **topics = argv + 1;
	if (argc > 2 && !strcmp(argv[1], "--brokers")) {
		brokers = parse_count(argv[2], BROKERS_MAX);
		topics = argv + 3;
	}
	char reason[256] = "--brokers is out of range";
	rd_kafka_t *owner = brokers < 0 ? NULL : rd_kafka_new(RD_KAFKA_PRODUCER, NULL, reason, sizeof(reason));
	if (!owner) {
		fprintf(stderr, "mock_broker: %s\n", reason);
		return 2;
	}
	rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(owner, brokers);
	if (!cluster) {
		fprintf(stderr, "mock_broker: no mock cluster\n");
		return 70;
	}
#if RD_KAFKA_VERSION >= 0x02060000
	/* Older ones wait 3 s before a group's first generation, and there is no way to tell them. */
	rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100);
#endif
	int code = serve(cluster, brokers, topics);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(owner);
	return code;
}
