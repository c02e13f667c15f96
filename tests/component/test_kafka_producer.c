/* worker/kafka/kafka_producer.c against librdkafka's mock cluster. */
#include "worker/kafka/kafka.h"

#include "common/clock.h"
#include "common/thread.h"
#include "tests/lib/mock_kafka.c"

#include <stdlib.h>

#define TOPIC "copies"

enum { TIMEOUT_MS = 10000 };

static struct mock_kafka kafka;

struct fates {
	int count[3]; /* by enum kafka_delivery */
	char reason[256];
	void *last_tag;
};

static void note_fate(void *owner, void *tag, enum kafka_delivery result, const char *reason)
{
	struct fates *f = owner;
	f->count[result]++;
	f->last_tag = tag;
	ck_assert((reason == NULL) == (result == KAFKA_DELIVERED));
	/* librdkafka's text for a report is the payload (rd_kafka_message_errstr), which has no place in a log. */
	ck_assert(!reason || !strstr(reason, "xxx"));
	if (reason)
		snprintf(f->reason, sizeof(f->reason), "%s", reason);
}

static struct kafka_producer *open_producer(struct fates *f, const struct kafka_settings *s)
{
	struct kafka_producer *p = NULL;
	char error[256] = "";
	ck_assert_msg(kafka_producer_open(s, note_fate, f, &p, error, sizeof(error)) == 0, "%s", error);
	return p;
}

static struct kafka_producer *open_with_cluster(struct fates *f)
{
	mock_kafka_open(&kafka, 1);
	mock_kafka_topic(&kafka, TOPIC, 4);
	return open_producer(f, &kafka.settings);
}

static void poll_reports(struct kafka_producer *p, struct fates *f, int wanted)
{
	int64_t deadline_ms = clock_mono_ms() + TIMEOUT_MS;
	while (f->count[0] + f->count[1] + f->count[2] < wanted && clock_mono_ms() < deadline_ms)
		kafka_producer_poll(p, 100);
	ck_assert_int_eq(f->count[0] + f->count[1] + f->count[2], wanted);
}

/* Reads the first record of partition 0 back. */
static bool take_copy(void *owner, const struct kafka_record *record)
{
	static const struct header wanted[] = {
		{SLICE_LITERAL("same"), SLICE_LITERAL("1")},
		{SLICE_LITERAL("same"), SLICE_LITERAL("")},
		{SLICE_LITERAL("none"), {NULL, 0}},
		{SLICE_LITERAL("bytes"), SLICE_LITERAL("\0\1\377")},
	};
	*(int *)owner += 1;
	ck_assert(!slice_present(record->key));
	ck_assert(slice_present(record->value) && record->value.len == 0);
	ck_assert_uint_eq(record->header_count, 4);
	for (size_t i = 0; i < 4; i++) {
		ck_assert(slice_equal(record->headers[i].name, wanted[i].name));
		ck_assert_int_eq(slice_compare(record->headers[i].value, wanted[i].value), 0);
	}
	return false;
}

START_TEST(test_kafka_producer__headers_and_absent_parts_arrive_as_given)
{
	static const struct header headers[] = {
		{SLICE_LITERAL("same"), SLICE_LITERAL("1")},
		{SLICE_LITERAL("same"), SLICE_LITERAL("")},
		{SLICE_LITERAL("none"), {NULL, 0}},
		{SLICE_LITERAL("bytes"), SLICE_LITERAL("\0\1\377")},
	};
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	const struct kafka_message m = {
		.topic = TOPIC, .partition = 0, .value = SLICE_LITERAL(""), .headers = headers, .header_count = 4};
	struct kafka_admin *admin = NULL;
	char error[256];
	int64_t next = -1;
	int seen = 0;

	ck_assert_int_eq(kafka_producer_send(p, &m, &f), 0);
	poll_reports(p, &f, 1);
	ck_assert_int_eq(f.count[KAFKA_DELIVERED], 1);
	ck_assert_ptr_eq(f.last_tag, &f);
	ck_assert_int_eq(kafka_admin_open(&kafka.settings, &admin, error, sizeof(error)), 0);
	ck_assert_int_eq(kafka_admin_read(admin, TOPIC, 0, 0, TIMEOUT_MS, take_copy, &seen, &next), KAFKA_OK);
	ck_assert_int_eq(seen, 1);
	ck_assert_int_eq(next, 1);
	kafka_admin_close(admin);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_producer__a_key_chooses_its_partition)
{
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	struct kafka_admin *admin = NULL;
	char error[256];
	/* murmur2("order-1") & 0x7fffffff, modulo 4, as Java's default partitioner has it. */
	const struct kafka_message m = {
		.topic = TOPIC, .partition = -1, .key = SLICE_LITERAL("order-1"), .value = SLICE_LITERAL("v")};
	int filled = 0;

	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	poll_reports(p, &f, 10);
	ck_assert_int_eq(kafka_admin_open(&kafka.settings, &admin, error, sizeof(error)), 0);
	for (int32_t i = 0; i < 4; i++) {
		int64_t low, high;
		ck_assert_int_eq(kafka_admin_watermarks(admin, TOPIC, i, TIMEOUT_MS, &low, &high), KAFKA_OK);
		filled += high == 10;
		ck_assert(high == 0 || high == 10);
	}
	ck_assert_int_eq(filled, 1);
	kafka_admin_close(admin);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	mock_kafka_close(&kafka);
}
END_TEST

/* What a deferral rests on: how many partitions there are, and that a copy goes to the one it names. */
START_TEST(test_kafka_producer__a_message_names_its_partition)
{
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	struct kafka_admin *admin = NULL;
	char error[256];
	struct kafka_message m = {.topic = TOPIC, .key = SLICE_LITERAL("order-1"), .value = SLICE_LITERAL("v")};

	ck_assert_int_eq(kafka_producer_learn(p, TOPIC, TIMEOUT_MS), 4);
	for (m.partition = 0; m.partition < 4; m.partition++)
		ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	/* One of a larger topic that bore the name before: tried again, when the number was asked for. */
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), KAFKA_REFUSED);
	poll_reports(p, &f, 4);
	ck_assert_int_eq(f.count[KAFKA_DELIVERED], 4);
	ck_assert_int_eq(kafka_admin_open(&kafka.settings, &admin, error, sizeof(error)), 0);
	for (int32_t i = 0; i < 4; i++) {
		int64_t low, high;
		ck_assert_int_eq(kafka_admin_watermarks(admin, TOPIC, i, TIMEOUT_MS, &low, &high), KAFKA_OK);
		ck_assert_int_eq(high, 1);
	}
	kafka_admin_close(admin);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_producer__errors_say_whether_to_retry)
{
	static const struct {
		rd_kafka_resp_err_t broker;
		enum kafka_delivery wanted;
	} rows[] = {
		{RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, KAFKA_TOO_LARGE},
		{RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, KAFKA_TOO_LARGE},
		{RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE, KAFKA_TOO_LARGE},
		{RD_KAFKA_RESP_ERR_INVALID_RECORD, KAFKA_REFUSED},
	};
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	const struct kafka_message m = {.topic = TOPIC, .partition = 0, .value = SLICE_LITERAL("v")};
	int wanted[3] = {0};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rd_kafka_mock_push_request_errors(kafka.cluster, REQUEST_PRODUCE, 1, rows[i].broker);
		ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
		poll_reports(p, &f, (int)i + 1);
		wanted[rows[i].wanted]++;
		ck_assert_msg(memcmp(wanted, f.count, sizeof(wanted)) == 0, "%s: %s", rd_kafka_err2name(rows[i].broker),
			      f.reason);
		ck_assert_str_ne(f.reason, "");
	}
	/* Passing errors are retried behind the scenes. */
	rd_kafka_mock_push_request_errors(kafka.cluster, REQUEST_PRODUCE, 2, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
					  RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	poll_reports(p, &f, (int)(sizeof(rows) / sizeof(rows[0])) + 1);
	ck_assert_int_eq(f.count[KAFKA_DELIVERED], 1);

	/* Remembered by the client, which then refuses at once. */
	rd_kafka_mock_push_request_errors(kafka.cluster, REQUEST_PRODUCE, 1,
					  RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	poll_reports(p, &f, (int)(sizeof(rows) / sizeof(rows[0])) + 2);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), KAFKA_REFUSED);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_producer__limits_are_told_at_once)
{
	static const struct kafka_property properties[] = {
		{KAFKA_PRODUCER, "message.max.bytes", "2000"},
		{KAFKA_PRODUCER, "queue.buffering.max.messages", "2"},
	};
	struct fates f = {.last_tag = NULL};
	char large[3000] = "";
	struct kafka_message m = {.topic = TOPIC, .partition = 0, .value = {large, sizeof(large)}};

	mock_kafka_open(&kafka, 1);
	mock_kafka_topic(&kafka, TOPIC, 1);
	struct kafka_settings settings = kafka.settings;
	settings.properties = properties;
	settings.property_count = 2;
	struct kafka_producer *p = open_producer(&f, &settings);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), KAFKA_TOO_LARGE);
	m.value.len = 100;
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), KAFKA_QUEUE_FULL);
	ck_assert_int_eq(kafka_producer_pending(p), 2);
	poll_reports(p, &f, 2);
	ck_assert_int_eq(kafka_producer_pending(p), 0);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	ck_assert_int_eq(f.count[KAFKA_DELIVERED], 3);
	ck_assert_ptr_null(f.last_tag);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_producer__an_outage_is_waited_for)
{
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	const struct kafka_message m = {.topic = TOPIC, .partition = 0, .value = SLICE_LITERAL("v")};

	rd_kafka_mock_broker_set_down(kafka.cluster, 1);
	ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	for (int64_t end_ms = clock_mono_ms() + 700; clock_mono_ms() < end_ms;)
		ck_assert_int_eq(kafka_producer_poll(p, 100), 0);
	ck_assert_ptr_null(kafka_producer_fatal(p));
	rd_kafka_mock_broker_set_up(kafka.cluster, 1);
	poll_reports(p, &f, 1);
	ck_assert_int_eq(f.count[KAFKA_DELIVERED], 1);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	mock_kafka_close(&kafka);
}
END_TEST

/* The owner of the values gets each back by a report, or it could never free them. */
START_TEST(test_kafka_producer__close_reports_what_is_left)
{
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	char *value = malloc(100);
	const struct kafka_message m = {.topic = TOPIC, .partition = 0, .value = {value, 100}};

	ck_assert_ptr_nonnull(value);
	memset(value, 'x', 100);
	rd_kafka_mock_broker_set_down(kafka.cluster, 1);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(kafka_producer_send(p, &m, NULL), 0);
	int64_t started_ms = clock_mono_ms();
	ck_assert_int_eq(kafka_producer_close(p, 200), 5);
	ck_assert_int_eq(f.count[KAFKA_REFUSED], 5);
	ck_assert_int_lt(clock_mono_ms() - started_ms, 3000);
	free(value);
	mock_kafka_close(&kafka);
}
END_TEST

static void *wake(void *argument)
{
	kafka_producer_wake(argument);
	return NULL;
}

START_TEST(test_kafka_producer__a_poll_can_be_woken)
{
	struct fates f = {.last_tag = NULL};
	struct kafka_producer *p = open_with_cluster(&f);
	int64_t started_ms = clock_mono_ms();
	pthread_t waker = thread_start("waker", wake, p);

	kafka_producer_poll(p, TIMEOUT_MS);
	ck_assert_int_lt(clock_mono_ms() - started_ms, TIMEOUT_MS / 2);
	thread_join(waker);
	ck_assert_int_eq(kafka_producer_close(p, TIMEOUT_MS), 0);
	mock_kafka_close(&kafka);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_kafka_producer__headers_and_absent_parts_arrive_as_given,
		test_kafka_producer__a_key_chooses_its_partition,
		test_kafka_producer__a_message_names_its_partition,
		test_kafka_producer__errors_say_whether_to_retry,
		test_kafka_producer__limits_are_told_at_once,
		test_kafka_producer__an_outage_is_waited_for,
		test_kafka_producer__close_reports_what_is_left,
		test_kafka_producer__a_poll_can_be_woken,
	};
	Suite *suite = suite_create("kafka_producer");
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
