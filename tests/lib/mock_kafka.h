/*
 * librdkafka's mock cluster inside a test, and a producer for it. Included as .c, as only a test of the
 * kafka_*.c files may name librdkafka.
 */
#ifndef TESTS_LIB_MOCK_KAFKA_H
#define TESTS_LIB_MOCK_KAFKA_H

#include "worker/kafka/kafka.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

/* Request types as the protocol numbers them, for injected errors. */
enum {
	REQUEST_PRODUCE = 0,
	REQUEST_FETCH = 1,
	REQUEST_OFFSET_COMMIT = 8,
	REQUEST_HEARTBEAT = 12,
	REQUEST_SYNC_GROUP = 14,
};

struct mock_kafka {
	rd_kafka_t *rk; /* owns the cluster, and produces to it */
	rd_kafka_mock_cluster_t *cluster;
	struct kafka_settings settings;
	struct kafka_property properties[8];
};

void mock_kafka_open(struct mock_kafka *m, int brokers);
void mock_kafka_close(struct mock_kafka *m);
/* Adds a property to the settings. */
void mock_kafka_set(struct mock_kafka *m, const char *name, const char *value);
void mock_kafka_topic(struct mock_kafka *m, const char *topic, int partitions);
/* Produces and waits for the report. NULL key and value are null ones. */
void mock_kafka_put(struct mock_kafka *m, const char *topic, int32_t partition, const char *key, const char *value);
/* The next answer to a fetch is what librdkafka makes of a batch that can't be read: `err`, of its own codes too. */
void mock_kafka_damage(struct mock_kafka *m, rd_kafka_resp_err_t err);
/* Produces `count` records, valued by their number from `first` on. */
void mock_kafka_fill(struct mock_kafka *m, const char *topic, int32_t partition, int first, int count);

#endif
