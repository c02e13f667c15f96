/* worker/kafka/kafka_admin.c and kafka_settings.c; the mock cluster where brokers are needed. */
#include "worker/kafka/kafka.h"

#include "common/clock.h"
#include "tests/lib/mock_kafka.c"

#include <stdlib.h>

#define TOPIC "events"

enum { TIMEOUT_MS = 10000 };

static struct mock_kafka kafka;

static struct kafka_admin *open_admin(const struct kafka_settings *s)
{
	struct kafka_admin *a = NULL;
	char error[256] = "";
	ck_assert_msg(kafka_admin_open(s, &a, error, sizeof(error)) == 0, "%s", error);
	return a;
}

static struct kafka_admin *open_with_cluster(void)
{
	mock_kafka_open(&kafka, 1);
	mock_kafka_topic(&kafka, TOPIC, 3);
	return open_admin(&kafka.settings);
}

static void close_both(struct kafka_admin *a)
{
	kafka_admin_close(a);
	mock_kafka_close(&kafka);
}

/*
 * The topic that is refused has no partitions, as in the answer of a real broker (KafkaApis,
 * handleTopicMetadataRequest), while the mock lists those that it has. For the partitions of a refused topic librdkafka
 * 2.8 follows a null pointer (rd_kafka_topic_metadata_update; #4907).
 */
START_TEST(test_kafka_admin__counts_partitions)
{
	struct kafka_admin *a = open_with_cluster();
	ck_assert_int_eq(kafka_admin_partition_count(a, TOPIC, TIMEOUT_MS), 3);
	rd_kafka_mock_topic_set_error(kafka.cluster, "nowhere", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
	ck_assert_int_eq(kafka_admin_partition_count(a, "nowhere", TIMEOUT_MS), KAFKA_NO_SUCH);
	ck_assert_msg(strstr(kafka_admin_error(a), "nowhere") != NULL, "%s", kafka_admin_error(a));
	mock_kafka_topic(&kafka, "secret", 0);
	rd_kafka_mock_topic_set_error(kafka.cluster, "secret", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	ck_assert_int_eq(kafka_admin_partition_count(a, "secret", TIMEOUT_MS), KAFKA_DENIED);
	close_both(a);
}
END_TEST

START_TEST(test_kafka_admin__tells_positions)
{
	struct kafka_admin *a = open_with_cluster();
	struct kafka_committed entries[] = {{.topic = TOPIC, .partition = 2, .offset = 7, .metadata = "old"},
					    {.topic = TOPIC, .partition = 0, .offset = 7}};
	int64_t low = -1, high = -1;

	mock_kafka_fill(&kafka, TOPIC, 1, 0, 12);
	ck_assert_int_eq(kafka_admin_watermarks(a, TOPIC, 1, TIMEOUT_MS, &low, &high), KAFKA_OK);
	ck_assert_int_eq(low, 0);
	ck_assert_int_eq(high, 12);
	ck_assert_int_eq(kafka_admin_watermarks(a, TOPIC, 0, TIMEOUT_MS, &low, &high), KAFKA_OK);
	ck_assert_int_eq(high, 0);
	ck_assert_int_eq(kafka_admin_watermarks(a, TOPIC, 3, TIMEOUT_MS, &low, &high), KAFKA_NO_SUCH);
	ck_assert_int_eq(kafka_admin_committed(a, entries, 2, TIMEOUT_MS), KAFKA_OK);
	ck_assert_int_eq(entries[0].offset, -1);
	ck_assert_str_eq(entries[0].metadata, "");
	ck_assert_int_eq(entries[1].offset, -1);
	close_both(a);
}
END_TEST

struct reading {
	int seen;
	int wanted; /* then the visitor has enough */
	int64_t first;
};

static bool visit(void *owner, const struct kafka_record *record)
{
	struct reading *r = owner;
	ck_assert_int_eq(record->offset, r->first + r->seen);
	return ++r->seen < r->wanted;
}

START_TEST(test_kafka_admin__reads_to_the_end_there_was)
{
	static const struct {
		int64_t from;
		int wanted;
		int64_t next;
		int seen;
	} rows[] = {{0, 1000, 50, 50}, {10, 1000, 50, 40}, {10, 1, 11, 1},
		    {49, 1, 50, 1},    {50, 9, 50, 0},     {70, 9, 70, 0}};
	struct kafka_admin *a = open_with_cluster();

	mock_kafka_fill(&kafka, TOPIC, 0, 0, 50);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct reading r = {.wanted = rows[i].wanted, .first = rows[i].from};
		int64_t next = -1;
		ck_assert_int_eq(kafka_admin_read(a, TOPIC, 0, rows[i].from, TIMEOUT_MS, visit, &r, &next), KAFKA_OK);
		ck_assert_msg(r.seen == rows[i].seen && next == rows[i].next, "row %d: %d seen, next %d", (int)i,
			      r.seen, (int)next);
	}
	close_both(a);
}
END_TEST

/* Told once: who passes it reads on to the end. */
START_TEST(test_kafka_admin__damage_ends_a_reading)
{
	static const rd_kafka_resp_err_t codes[] = {RD_KAFKA_RESP_ERR__BAD_MSG, RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
						    RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED,
						    RD_KAFKA_RESP_ERR_INVALID_MSG};
	struct kafka_admin *a = open_with_cluster();
	int64_t low, high;

	mock_kafka_fill(&kafka, TOPIC, 0, 0, 50);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct reading r = {.wanted = 1000, .first = 10};
		int64_t next = -1;
		/* The damage is for one request: none of the reading before may be on its way to take it. */
		kafka_admin_close(a);
		a = open_admin(&kafka.settings);
		ck_assert_int_eq(kafka_admin_watermarks(a, TOPIC, 0, TIMEOUT_MS, &low, &high), KAFKA_OK);
		mock_kafka_damage(&kafka, codes[i]);
		ck_assert_int_eq(kafka_admin_read(a, TOPIC, 0, 10, TIMEOUT_MS, visit, &r, &next), KAFKA_DAMAGED);
		const char *error = kafka_admin_error(a);
		ck_assert_msg(strstr(error, TOPIC "[0]: the log can't be read at offset 10: ") != NULL, "%s", error);
		ck_assert_int_eq(r.seen, 0);
		ck_assert_int_eq(next, 10);
		ck_assert_int_eq(kafka_admin_read(a, TOPIC, 0, 10, TIMEOUT_MS, visit, &r, &next), KAFKA_OK);
		ck_assert_int_eq(next, 50);
	}
	close_both(a);
}
END_TEST

START_TEST(test_kafka_admin__away_is_told_in_time_and_why)
{
	struct kafka_settings s = {.brokers = "127.0.0.1:1", .group = "g"};
	struct kafka_committed entry = {.topic = TOPIC, .partition = 0};
	struct reading r = {.wanted = 1};
	char value[64];
	int64_t low, high, next;
	struct kafka_admin *a = open_admin(&s);

	for (int i = 0; i < 5; i++) {
		int64_t started_ms = clock_mono_ms();
		int answer =
			i == 0   ? kafka_admin_partition_count(a, TOPIC, 500)
			: i == 1 ? (int)kafka_admin_watermarks(a, TOPIC, 0, 500, &low, &high)
			: i == 2 ? (int)kafka_admin_committed(a, &entry, 1, 500)
			: i == 3 ? (int)kafka_admin_read(a, TOPIC, 0, 0, 500, visit, &r, &next)
				 : (int)kafka_admin_topic_config(a, TOPIC, "cleanup.policy", 500, value, sizeof(value));
		ck_assert_msg(answer == KAFKA_UNAVAILABLE, "question %d: %d, %s", i, answer, kafka_admin_error(a));
		ck_assert_msg(clock_mono_ms() - started_ms < 2500, "question %d: %d ms", i,
			      (int)(clock_mono_ms() - started_ms));
	}
	kafka_admin_close(a);
}
END_TEST

/* A broker that goes away in the middle: rd_kafka_query_watermark_offsets would wait for ever (#4460). */
START_TEST(test_kafka_admin__watermarks_end_when_the_broker_hangs)
{
	struct kafka_admin *a = open_with_cluster();
	int64_t low, high;

	ck_assert_int_eq(kafka_admin_watermarks(a, TOPIC, 0, TIMEOUT_MS, &low, &high), KAFKA_OK);
	rd_kafka_mock_broker_set_rtt(kafka.cluster, 1, 20000);
	int64_t started_ms = clock_mono_ms();
	ck_assert_int_eq(kafka_admin_watermarks(a, TOPIC, 0, 700, &low, &high), KAFKA_UNAVAILABLE);
	ck_assert_int_lt(clock_mono_ms() - started_ms, 2000);
	kafka_admin_close(a);
}
END_TEST

START_TEST(test_kafka_admin__the_mock_knows_no_configs)
{
	struct kafka_admin *a = open_with_cluster();
	char value[64];
	int answer = kafka_admin_topic_config(a, TOPIC, "cleanup.policy", TIMEOUT_MS, value, sizeof(value));
	ck_assert_msg(answer == KAFKA_UNSUPPORTED, "%d: %s", answer, kafka_admin_error(a));
	close_both(a);
}
END_TEST

START_TEST(test_kafka_settings__properties_are_checked)
{
	static const struct {
		const char *name, *value;
		bool fine;
		const char *told; /* beside the name */
	} rows[] = {
		{"session.timeout.ms", "6000", true, NULL},
		{"session.timeout.ms", "6000x", false, "6000x"},
		{"session.timeout.ms", "4294973296", false, NULL},
		{"session.timeout.ms", "0x10", false, NULL},
		{"session.timeout.ms", "", false, NULL},
		{"session.timeout.ms", "0", false, NULL},
		{"session.timeout.ms", "400000", false, "max.poll.interval.ms"}, /* only judged together */
		{"linger.ms", "5.5", true, NULL},
		{"linger.ms", "5.5s", false, NULL},
		{"log.connection.close", "true", true, NULL},
		{"log.connection.close", "maybe", false, NULL},
		{"compression.type", "gzip", true, NULL},
		{"compression.type", "gzipp", false, NULL},
		{"client.id", "6000x", true, NULL},
		{"nosuch.property", "1", false, NULL},
		{"rebalance_cb", "1", false, NULL},
		{"message.max.bytes", "20000000", true, NULL}, /* our own buffers follow */
		{"enable.auto.commit", "false", false, "can't be set"},
		{"auto.commit.enable", "false", false, "can't be set"},
		{"enable.auto.offset.store", "false", false, "can't be set"},
		{"auto.offset.reset", "error", false, "can't be set"},
		{"isolation.level", "read_committed", false, "can't be set"},
		{"enable.partition.eof", "true", false, "can't be set"},
		{"acks", "all", false, "can't be set"},
		{"request.required.acks", "-1", false, "can't be set"},
		{"enable.idempotence", "true", false, "can't be set"},
		{"transactional.id", "x", false, "can't be set"},
		{"bootstrap.servers", "x", false, "kafka.brokers"},
		{"group.id", "x", false, "kafka.group"},
		{"partition.assignment.strategy", "range", false, "kafka.assignor"},
		{"delivery.report.only.error", "true", false, "reported"},
		{"group.protocol.type", "x", false, "consumer"},
		{"enabled_events", "255", false, "delivery reports"},
		{"log.queue", "true", false, "nobody"},
		{"topic.blacklist", "x", false, "never be read"},
		{"offset.store.method", "file", false, "can't be set"},
		{"offset.store.path", ".", false, "can't be set"},
		{"api.version.request", "false", false, "headers"},
		{"api.version.fallback.ms", "1", false, "headers"},
		{"broker.version.fallback", "0.9.0", false, "headers"},
		{"group.instance.id", "x", true, NULL},
		{"retries", "0", true, NULL},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kafka_property p = {KAFKA_BOTH, rows[i].name, rows[i].value};
		struct kafka_settings s = {.brokers = "b:1", .group = "g", .properties = &p, .property_count = 1};
		char error[512] = "";
		int result = kafka_settings_check(&s, error, sizeof(error));
		ck_assert_msg((result == 0) == rows[i].fine, "%s=%s: %s", rows[i].name, rows[i].value, error);
		ck_assert_msg(rows[i].fine || strstr(error, rows[i].name), "not named: %s: %s", rows[i].name, error);
		ck_assert_msg(!rows[i].told || strstr(error, rows[i].told), "%s: %s", rows[i].name, error);
	}
}
END_TEST

START_TEST(test_kafka_settings__cooperative_needs_its_version)
{
	struct kafka_settings s = {.brokers = "b:1", .group = "g", .cooperative = true};
	char error[512] = "";
	int result = kafka_settings_check(&s, error, sizeof(error));

	if (kafka_library_number() >= 0x020a0000) {
		ck_assert_msg(result == 0, "%s", error);
	} else {
		ck_assert_int_eq(result, -1);
		ck_assert_msg(strstr(error, "kafka.assignor") && strstr(error, "2.10"), "%s", error);
	}
}
END_TEST

START_TEST(test_kafka_settings__one_side_stands_above_both)
{
	struct kafka_property p[] = {{KAFKA_CONSUMER, "session.timeout.ms", "7000"},
				     {KAFKA_BOTH, "session.timeout.ms", "x"}};
	struct kafka_settings s = {.brokers = "b:1", .group = "g", .properties = p, .property_count = 1};
	char error[512] = "";

	ck_assert_msg(kafka_settings_check(&s, error, sizeof(error)) == 0, "%s", error);
	/* Of a producer the consumer does not hear. */
	p[0] = (struct kafka_property){KAFKA_PRODUCER, "message.max.bytes", "1000000000"};
	ck_assert_msg(kafka_settings_check(&s, error, sizeof(error)) == 0, "%s", error);
	p[0].side = KAFKA_CONSUMER;
	ck_assert_msg(kafka_settings_check(&s, error, sizeof(error)) == 0, "%s", error);
	s.property_count = 2;
	ck_assert_int_eq(kafka_settings_check(&s, error, sizeof(error)), -1);
	ck_assert_str_ne(kafka_library_version(), "");
	ck_assert_int_ge(kafka_library_number(), 0x02000000);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_kafka_admin__counts_partitions,
		test_kafka_admin__tells_positions,
		test_kafka_admin__reads_to_the_end_there_was,
		test_kafka_admin__damage_ends_a_reading,
		test_kafka_admin__away_is_told_in_time_and_why,
		test_kafka_admin__watermarks_end_when_the_broker_hangs,
		test_kafka_admin__the_mock_knows_no_configs,
		test_kafka_settings__properties_are_checked,
		test_kafka_settings__cooperative_needs_its_version,
		test_kafka_settings__one_side_stands_above_both,
	};
	Suite *suite = suite_create("kafka_admin");
	TCase *tcase = tcase_create("mock cluster");
	tcase_set_timeout(tcase, 60);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	bool fine = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
	srunner_free(runner);
	return fine ? 0 : 1;
}
