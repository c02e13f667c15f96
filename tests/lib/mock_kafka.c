#include "tests/lib/mock_kafka.h"

#include <check.h>
#include <stdio.h>

void mock_kafka_set(struct mock_kafka *m, const char *name, const char *value)
{
	ck_assert_uint_lt(m->settings.property_count, sizeof(m->properties) / sizeof(m->properties[0]));
	m->properties[m->settings.property_count++] = (struct kafka_property){KAFKA_CONSUMER, name, value};
}

void mock_kafka_open(struct mock_kafka *m, int brokers)
{
	char reason[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	rd_kafka_conf_set(conf, "linger.ms", "1", reason, sizeof(reason));
	rd_kafka_conf_set(conf, "log_level", "3", reason, sizeof(reason));
	m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof(reason));
	ck_assert_msg(m->rk != NULL, "%s", reason);
	m->cluster = rd_kafka_mock_cluster_new(m->rk, brokers);
	ck_assert_ptr_nonnull(m->cluster);
	m->settings = (struct kafka_settings){.brokers = rd_kafka_mock_cluster_bootstraps(m->cluster),
					      .group = "test-group",
					      .properties = m->properties};
	/* The first join of a group takes the mock 3 s; later ones session.timeout.ms less one second. */
	mock_kafka_set(m, "session.timeout.ms", "3500");
	mock_kafka_set(m, "heartbeat.interval.ms", "300");
	mock_kafka_set(m, "fetch.wait.max.ms", "20");
	mock_kafka_set(m, "topic.metadata.refresh.interval.ms", "1000");
	ck_assert_int_gt(rd_kafka_brokers_add(m->rk, m->settings.brokers), 0);
}

void mock_kafka_close(struct mock_kafka *m)
{
	rd_kafka_mock_cluster_destroy(m->cluster);
	rd_kafka_destroy(m->rk);
}

void mock_kafka_topic(struct mock_kafka *m, const char *topic, int partitions)
{
	ck_assert_int_eq(rd_kafka_mock_topic_create(m->cluster, topic, partitions, 1), 0);
}

static void produce(struct mock_kafka *m, const char *topic, int32_t partition, const char *key, const char *value)
{
	rd_kafka_resp_err_t err;
	do {
		err = rd_kafka_producev(m->rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
					RD_KAFKA_V_KEY((void *)(uintptr_t)key, key ? strlen(key) : 0),
					RD_KAFKA_V_VALUE((void *)(uintptr_t)value, value ? strlen(value) : 0),
					RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			rd_kafka_poll(m->rk, 100);
	} while (err == RD_KAFKA_RESP_ERR__QUEUE_FULL);
	ck_assert_msg(!err, "%s", rd_kafka_err2str(err));
}

void mock_kafka_put(struct mock_kafka *m, const char *topic, int32_t partition, const char *key, const char *value)
{
	produce(m, topic, partition, key, value);
	ck_assert_int_eq(rd_kafka_flush(m->rk, 10000), 0);
}

void mock_kafka_fill(struct mock_kafka *m, const char *topic, int32_t partition, int first, int count)
{
	for (int i = first; i < first + count; i++) {
		char value[16];
		snprintf(value, sizeof(value), "%d", i);
		produce(m, topic, partition, NULL, value);
	}
	ck_assert_int_eq(rd_kafka_flush(m->rk, 10000), 0);
}

void mock_kafka_damage(struct mock_kafka *m, rd_kafka_resp_err_t err)
{
	rd_kafka_mock_push_request_errors(m->cluster, REQUEST_FETCH, 1, err);
}
