/* worker/kafka/kafka_consumer.c against librdkafka's mock cluster. */
#include "worker/kafka/kafka.h"

#include "common/clock.h"
#include "tests/lib/mock_kafka.c"

#include <inttypes.h>
#include <stdlib.h>

#define TOPIC "events"
#define LATER_TOPIC "later"

enum { PARTITIONS = 3, EVENT_TIMEOUT_MS = 20000, REJOIN_MS = 6000 };

static struct mock_kafka kafka;

static void open_cluster(void)
{
	mock_kafka_open(&kafka, 1);
	mock_kafka_topic(&kafka, TOPIC, PARTITIONS);
}

static struct kafka_consumer *open_member(const char *topic)
{
	struct kafka_consumer *c = NULL;
	char error[256] = "";
	ck_assert_msg(kafka_consumer_open(&kafka.settings, &topic, 1, &c, error, sizeof(error)) == 0, "%s", error);
	return c;
}

static void close_member(struct kafka_consumer *c)
{
	ck_assert(kafka_consumer_close(c, 10000));
}

/* Polls until an event of `kind`; troubles pass, other kinds must be in the bits of `others`. */
static void poll_for(struct kafka_consumer *c, enum kafka_event_kind kind, unsigned others, struct kafka_event *e)
{
	int64_t deadline_ms = clock_mono_ms() + EVENT_TIMEOUT_MS;
	do {
		kafka_consumer_poll(c, 200, e);
		if (e->kind == kind)
			return;
		ck_assert_msg(e->kind == KAFKA_NOTHING || e->kind == KAFKA_TROUBLE || (others & 1u << e->kind),
			      "event %d while waiting for %d: %s", e->kind, kind, e->error);
	} while (clock_mono_ms() < deadline_ms);
	ck_abort_msg("no event %d", kind);
}

/* But ends, which repeat for the partitions that go on when others start or stop. */
static void poll_nothing(struct kafka_consumer *c, int timeout_ms)
{
	struct kafka_event e;
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	while (clock_mono_ms() < deadline_ms) {
		kafka_consumer_poll(c, 50, &e);
		ck_assert_msg(e.kind == KAFKA_NOTHING || e.kind == KAFKA_END, "event %d, wanted none: %s", e.kind,
			      e.error);
	}
}

/* The assignment, copied: events live until the next poll. */
struct given {
	struct kafka_partition items[PARTITIONS];
	size_t count;
};

static struct given poll_assigned(struct kafka_consumer *c, size_t wanted)
{
	struct kafka_event e;
	struct given g = {.count = 0};
	poll_for(c, KAFKA_ASSIGNED, 0, &e);
	ck_assert_uint_eq(e.partition_count, wanted);
	for (size_t i = 0; i < e.partition_count; i++) {
		g.items[g.count] = e.partitions[i];
		g.items[g.count++].offset = 0;
	}
	return g;
}

static struct kafka_partition at(int32_t partition, int64_t offset)
{
	return (struct kafka_partition){TOPIC, partition, offset};
}

static void start(struct kafka_consumer *c, int32_t partition, int64_t offset)
{
	kafka_consumer_start(c, &(struct kafka_partition){TOPIC, partition, offset}, 1);
}

static void expect_record(const struct kafka_event *e, int32_t partition, int64_t offset)
{
	char value[16];
	snprintf(value, sizeof(value), "%" PRId64, offset);
	ck_assert_int_eq(e->kind, KAFKA_RECORD);
	ck_assert_int_eq(e->record.partition, partition);
	ck_assert_int_eq(e->record.offset, offset);
	ck_assert_msg(slice_equal(e->record.value, slice_of(value)), "offset %" PRId64 ": value '%.*s'", offset,
		      (int)e->record.value.len, e->record.value.data);
}

/* Reads partition `p` from `offset` to its end at `end`; other partitions' ends may come between. */
static void read_to_end(struct kafka_consumer *c, int32_t partition, int64_t offset, int64_t end)
{
	struct kafka_event e;
	for (;;) {
		kafka_consumer_poll(c, EVENT_TIMEOUT_MS, &e);
		if (e.kind == KAFKA_END && e.end.partition != partition)
			continue;
		if (e.kind == KAFKA_END)
			break;
		expect_record(&e, partition, offset++);
	}
	ck_assert_int_eq(e.end.offset, end);
	ck_assert_int_eq(offset, end);
}

START_TEST(test_kafka_consumer__fetches_nothing_before_start)
{
	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	poll_nothing(c, 500);
	start(c, 0, 4);
	read_to_end(c, 0, 4, 10);
	ck_assert_double_eq(kafka_consumer_share(c), 1);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

/* With an eager assignor each start is the whole assignment anew: nothing may be read twice or not at all. */
START_TEST(test_kafka_consumer__start_leaves_the_others_where_they_are)
{
	enum { RECORDS = 3000 };
	struct kafka_event e;
	int64_t next[PARTITIONS] = {0, 5, 7};
	int ends = 0, records = 0;

	open_cluster();
	for (int32_t p = 0; p < PARTITIONS; p++)
		mock_kafka_fill(&kafka, TOPIC, p, 0, RECORDS);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	start(c, 0, next[0]);
	while (ends < PARTITIONS) {
		kafka_consumer_poll(c, EVENT_TIMEOUT_MS, &e);
		if (e.kind == KAFKA_END) {
			ck_assert_int_eq(e.end.offset, next[e.end.partition]);
			ends += e.end.offset == RECORDS && next[e.end.partition] == RECORDS;
			next[e.end.partition] = e.end.offset == RECORDS ? RECORDS : next[e.end.partition];
			continue;
		}
		expect_record(&e, e.record.partition, next[e.record.partition]);
		next[e.record.partition]++;
		records++;
		if (records == 100)
			start(c, 1, next[1]);
		else if (records == 1000)
			start(c, 2, next[2]);
		else if (records == 1500)
			start(c, 2, next[2] = 20); /* again, elsewhere */
	}
	ck_assert_int_ge(records, RECORDS + (RECORDS - 5) + (RECORDS - 20));
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__paused_partitions_are_silent_and_lose_nothing)
{
	enum { RECORDS = 3000 };
	struct kafka_event e;
	int64_t next[PARTITIONS] = {0};
	bool paused[PARTITIONS] = {false};
	unsigned seed = 7;

	open_cluster();
	for (int32_t p = 0; p < PARTITIONS; p++)
		mock_kafka_fill(&kafka, TOPIC, p, 0, RECORDS);
	struct kafka_consumer *c = open_member(TOPIC);
	struct given g = poll_assigned(c, PARTITIONS);
	kafka_consumer_start(c, g.items, g.count);
	int64_t deadline_ms = clock_mono_ms() + EVENT_TIMEOUT_MS;
	for (int polls = 0; next[0] + next[1] + next[2] < 3 * RECORDS; polls++) {
		ck_assert_msg(clock_mono_ms() < deadline_ms, "stuck at %d %d %d", (int)next[0], (int)next[1],
			      (int)next[2]);
		kafka_consumer_poll(c, 20, &e);
		if (e.kind == KAFKA_RECORD) {
			ck_assert(!paused[e.record.partition]);
			expect_record(&e, e.record.partition, next[e.record.partition]);
			next[e.record.partition]++;
		} else if (e.kind == KAFKA_END) {
			ck_assert(!paused[e.end.partition]);
		}
		if (e.kind != KAFKA_NOTHING && polls % 100 != 0)
			continue;
		int32_t p = (int32_t)(rand_r(&seed) % PARTITIONS);
		struct kafka_partition one = at(p, 0);
		paused[p] = !paused[p];
		if (paused[p])
			kafka_consumer_pause(c, &one, 1);
		else
			kafka_consumer_resume(c, &one, 1);
		/* A redundant call must change nothing: in librdkafka it rewinds. */
		if (!paused[p] && polls % 3 == 0)
			kafka_consumer_resume(c, &one, 1);
	}
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__pause_outlives_the_start_of_others_and_ends_with_stop)
{
	struct kafka_partition zero = at(0, 0);

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 100);
	mock_kafka_fill(&kafka, TOPIC, 1, 0, 100);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	start(c, 0, 10);
	kafka_consumer_pause(c, &zero, 1);
	poll_nothing(c, 300);
	start(c, 1, 0);
	read_to_end(c, 1, 0, 100);
	poll_nothing(c, 300);
	kafka_consumer_resume(c, &zero, 1);
	read_to_end(c, 0, 10, 100);

	kafka_consumer_pause(c, &zero, 1);
	kafka_consumer_stop(c, &zero, 1);
	mock_kafka_fill(&kafka, TOPIC, 0, 100, 1);
	poll_nothing(c, 300);
	start(c, 0, 95);
	read_to_end(c, 0, 95, 101);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

/* librdkafka's resume alone leaves the fetcher asleep for most of a second. */
START_TEST(test_kafka_consumer__resume_fetches_at_once)
{
	enum { RESUMES = 5 };
	struct kafka_event e;
	struct kafka_partition zero = at(0, 0);
	int64_t waited_ms = 0;

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 100);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	start(c, 0, 0);
	for (int i = 0; i < RESUMES; i++) {
		poll_for(c, KAFKA_RECORD, 0, &e);
		expect_record(&e, 0, i * 2);
		kafka_consumer_pause(c, &zero, 1);
		poll_nothing(c, 50);
		kafka_consumer_resume(c, &zero, 1);
		int64_t resumed_ms = clock_mono_ms();
		poll_for(c, KAFKA_RECORD, 0, &e);
		expect_record(&e, 0, i * 2 + 1);
		waited_ms += clock_mono_ms() - resumed_ms;
	}
	ck_assert_msg(waited_ms < RESUMES * 300, "%d ms for %d", (int)waited_ms, RESUMES);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

/* More than is queued at the most, taken slowly enough for the fetcher to find the queue full. */
START_TEST(test_kafka_consumer__large_records_keep_the_fetcher_awake)
{
	enum { RECORDS = 100, READINGS = 3, VALUE_BYTES = 32 * 1024, WORK_US = 200 };
	static char value[VALUE_BYTES + 1];
	struct kafka_event e;
	int64_t waited_us = 0;

	open_cluster();
	memset(value, 'x', VALUE_BYTES);
	for (int i = 0; i < PARTITIONS * RECORDS; i++)
		mock_kafka_put(&kafka, TOPIC, i % PARTITIONS, NULL, value);
	struct kafka_consumer *c = open_member(TOPIC);
	struct given g = poll_assigned(c, PARTITIONS);
	for (int r = 0; r < READINGS; r++) {
		kafka_consumer_start(c, g.items, g.count);
		for (int i = 0; i < PARTITIONS * RECORDS; i++) {
			int64_t began_us = clock_mono_us();
			poll_for(c, KAFKA_RECORD, 1u << KAFKA_END, &e);
			int64_t taken_us = clock_mono_us();
			waited_us += taken_us - began_us;
			while (clock_mono_us() < taken_us + WORK_US)
				continue;
		}
	}
	ck_assert_msg(waited_us < READINGS * INT64_C(500000), "%d ms for %d", (int)(waited_us / 1000), READINGS);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

/* librdkafka 2.0.2 asserts when an assignment changes before the fetchers of the one before have stopped. */
START_TEST(test_kafka_consumer__changes_may_come_in_a_row)
{
	enum { CHANGES = 300 };
	struct kafka_partition zero = at(0, 0);

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, CHANGES);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	for (int i = 0; i < CHANGES; i++) {
		start(c, 0, i);
		start(c, 1 + i % 2, 0);
		kafka_consumer_pause(c, &zero, 1);
		kafka_consumer_stop(c, &zero, 1);
	}
	start(c, 0, 5);
	read_to_end(c, 0, 5, CHANGES);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

/* Two polls at once: a group rebalances only while all of its members poll. */
static bool poll_both(struct kafka_consumer *a, struct kafka_event *ea, struct kafka_consumer *b,
		      struct kafka_event *eb)
{
	kafka_consumer_poll(a, 20, ea);
	kafka_consumer_poll(b, 20, eb);
	return ea->kind != KAFKA_NOTHING || eb->kind != KAFKA_NOTHING;
}

/* Which partitions a member has, as its events tell. */
static void note(const struct kafka_event *e, bool has[PARTITIONS])
{
	for (size_t i = 0; e->kind == KAFKA_ASSIGNED && i < e->partition_count; i++) {
		ck_assert(!has[e->partitions[i].partition]);
		has[e->partitions[i].partition] = true;
	}
}

static int count(const bool has[PARTITIONS])
{
	return has[0] + has[1] + has[2];
}

/* Releases what was revoked; every partition of a member is paused by then. */
static void release(struct kafka_consumer *c, const struct given *revoked, bool has[PARTITIONS])
{
	kafka_consumer_release(c, revoked->items, revoked->count);
	for (size_t i = 0; i < revoked->count; i++) {
		has[revoked->items[i].partition] = false;
		ck_assert_int_eq(kafka_consumer_commit(c, &revoked->items[i], 1, "mark"), -1);
	}
}

/* A group whose members poll late may need more than one rebalance. */
static void release_again(struct kafka_consumer *c, const struct kafka_event *e, bool has[PARTITIONS])
{
	struct given revoked = {.count = 0};
	if (e->kind != KAFKA_REVOKED && e->kind != KAFKA_LOST)
		return;
	for (size_t i = 0; i < e->partition_count; i++)
		revoked.items[revoked.count++] = e->partitions[i];
	release(c, &revoked, has);
}

/* Row 0: an eager assignor, row 1: a cooperative one. */
START_TEST(test_kafka_consumer__revoked_partitions_drain_before_the_release)
{
	static const char *const strategies[] = {"roundrobin,range", "cooperative-sticky"};
	struct kafka_event ea, eb;
	struct given g, revoked = {.count = 0};
	bool a_has[PARTITIONS] = {true, true, true}, b_has[PARTITIONS] = {false};

	open_cluster();
	mock_kafka_set(&kafka, "partition.assignment.strategy", strategies[_i]);
	for (int32_t p = 0; p < PARTITIONS; p++)
		mock_kafka_fill(&kafka, TOPIC, p, 0, 100);
	struct kafka_consumer *a = open_member(TOPIC);
	g = poll_assigned(a, PARTITIONS);
	kafka_consumer_start(a, g.items, g.count);
	poll_for(a, KAFKA_RECORD, 1u << KAFKA_END, &ea);
	kafka_consumer_pause(a, g.items, g.count);
	struct kafka_consumer *b = open_member(TOPIC);
	int64_t deadline_ms = clock_mono_ms() + EVENT_TIMEOUT_MS;
	do {
		poll_both(a, &ea, b, &eb);
		note(&ea, a_has), note(&eb, b_has);
		ck_assert_int_ne(ea.kind, KAFKA_RECORD);
	} while (ea.kind != KAFKA_REVOKED && clock_mono_ms() < deadline_ms);
	ck_assert_uint_eq(ea.partition_count, _i == 0 ? PARTITIONS : 1);
	for (size_t i = 0; i < ea.partition_count; i++)
		revoked.items[revoked.count++] = ea.partitions[i];

	/* Draining: nothing is read, nobody else has them, and commits are still ours. */
	int64_t drained_ms = clock_mono_ms() + 1000;
	while (clock_mono_ms() < drained_ms) {
		poll_both(a, &ea, b, &eb);
		note(&eb, b_has);
		ck_assert_int_eq(ea.kind, KAFKA_NOTHING);
		ck_assert_int_eq(count(b_has), 0);
	}
	revoked.items[0].offset = 1;
	ck_assert_int_eq(kafka_consumer_commit(a, revoked.items, 1, "mark"), 0);
	poll_for(a, KAFKA_COMMITTED, 0, &ea);
	release(a, &revoked, a_has);

	deadline_ms = clock_mono_ms() + EVENT_TIMEOUT_MS;
	while ((count(a_has) + count(b_has) != PARTITIONS || count(b_has) == 0) && clock_mono_ms() < deadline_ms) {
		poll_both(a, &ea, b, &eb);
		release_again(a, &ea, a_has), release_again(b, &eb, b_has);
		note(&ea, a_has), note(&eb, b_has);
		ck_assert_int_ne(ea.kind, KAFKA_RECORD);
		ck_assert_int_ne(eb.kind, KAFKA_RECORD);
	}
	ck_assert_int_eq(count(a_has) + count(b_has), PARTITIONS);
	ck_assert_double_eq_tol(kafka_consumer_share(a) + kafka_consumer_share(b), 1, 0.001);
	/* What was paused when it was released is not paused when it starts again. */
	for (int32_t p = 0; p < PARTITIONS; p++) {
		struct kafka_consumer *owner = a_has[p] ? a : b;
		ck_assert(a_has[p] != b_has[p]);
		start(owner, p, 99);
		/* A cooperative group may still confirm what there is, with an empty assignment. */
		poll_for(owner, KAFKA_RECORD, 1u << KAFKA_END | 1u << KAFKA_ASSIGNED, &ea);
		expect_record(&ea, p, 99);
	}
	close_member(b);
	close_member(a);
	mock_kafka_close(&kafka);
}
END_TEST

static void hide_topic(const char *topic, bool hidden)
{
	rd_kafka_mock_topic_set_error(kafka.cluster, topic,
				      hidden ? RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART : RD_KAFKA_RESP_ERR_NO_ERROR);
}

/* The mock tells what it was asked by the errors, of which this is none, that still wait for a request. */
static void expect_request(int16_t request)
{
	ck_assert_int_eq(rd_kafka_mock_broker_push_request_error_rtts(kafka.cluster, 1, request, (size_t)1,
								      RD_KAFKA_RESP_ERR_NO_ERROR, 0), 0);
}

static void await_request(int16_t request)
{
	int64_t deadline_ms = clock_mono_ms() + EVENT_TIMEOUT_MS;
	size_t expected = 1;
	while (expected > 0) {
		ck_assert_msg(clock_mono_ms() < deadline_ms, "no request %d", request);
		rd_kafka_poll(kafka.rk, 20);
		ck_assert_int_eq(rd_kafka_mock_broker_error_stack_cnt(kafka.cluster, 1, request, &expected), 0);
	}
}

/* Only a member that has its assignment sends one, and it does so without being polled. */
static void await_heartbeat(void)
{
	expect_request(REQUEST_HEARTBEAT);
	await_request(REQUEST_HEARTBEAT);
}

/* rejoined-without-answer: when the topics change, an eager member does not wait for our release. */
START_TEST(test_kafka_consumer__a_rejoin_does_not_overtake_the_release)
{
	struct kafka_event e;

	open_cluster();
	mock_kafka_set(&kafka, "partition.assignment.strategy", "roundrobin");
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	struct kafka_consumer *c = open_member(TOPIC);
	struct given g = poll_assigned(c, PARTITIONS);
	kafka_consumer_start(c, g.items, g.count);
	poll_for(c, KAFKA_RECORD, 1u << KAFKA_END, &e);
	hide_topic(TOPIC, true);
	poll_for(c, KAFKA_REVOKED, 1u << KAFKA_RECORD | 1u << KAFKA_END, &e);
	ck_assert_int_eq(kafka_consumer_commit(c, g.items, 1, "mark"), 0);
	hide_topic(TOPIC, false);
	poll_for(c, KAFKA_COMMITTED, 0, &e);
	/* The group assigns them anew meanwhile: no event, and a commit would be for an assignment that is gone. */
	for (int64_t end_ms = clock_mono_ms() + REJOIN_MS; clock_mono_ms() < end_ms;) {
		kafka_consumer_poll(c, 100, &e);
		ck_assert(e.kind == KAFKA_NOTHING || e.kind == KAFKA_TROUBLE);
	}
	ck_assert_int_eq(kafka_consumer_commit(c, g.items, 1, "mark"), -1);
	kafka_consumer_release(c, g.items, g.count);
	do {
		poll_for(c, KAFKA_ASSIGNED, 1u << KAFKA_COMMITTED | 1u << KAFKA_REVOKED, &e);
	} while (e.partition_count == 0);
	ck_assert_uint_eq(e.partition_count, PARTITIONS);
	start(c, 0, 3);
	read_to_end(c, 0, 3, 10);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

/* assigned-twice: an eager member that did not poll between two assignments is told of no revocation. */
START_TEST(test_kafka_consumer__an_assignment_that_was_replaced_is_lost)
{
	static const char *const topics[] = {TOPIC, LATER_TOPIC};
	struct kafka_event e;
	struct kafka_consumer *c = NULL;
	char error[256] = "";

	open_cluster();
	mock_kafka_topic(&kafka, LATER_TOPIC, 1);
	hide_topic(LATER_TOPIC, true);
	mock_kafka_set(&kafka, "partition.assignment.strategy", "roundrobin");
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	ck_assert_int_eq(kafka_consumer_open(&kafka.settings, topics, 2, &c, error, sizeof(error)), 0);
	await_heartbeat();
	expect_request(REQUEST_SYNC_GROUP);
	hide_topic(LATER_TOPIC, false);
	await_request(REQUEST_SYNC_GROUP);
	await_heartbeat();
	struct given g = poll_assigned(c, PARTITIONS);
	kafka_consumer_start(c, g.items, g.count);
	poll_for(c, KAFKA_LOST, 0, &e);
	ck_assert_uint_eq(e.partition_count, PARTITIONS);
	ck_assert_int_eq(kafka_consumer_commit(c, g.items, 1, "mark"), -1);
	kafka_consumer_release(c, g.items, g.count);
	poll_for(c, KAFKA_ASSIGNED, 0, &e);
	ck_assert_uint_eq(e.partition_count, PARTITIONS + 1);
	ck_assert_double_eq(kafka_consumer_share(c), 1);
	ck_assert_int_eq(kafka_consumer_commit(c, g.items, 1, "mark"), 0);
	start(c, 0, 3);
	poll_for(c, KAFKA_RECORD, 1u << KAFKA_COMMITTED, &e);
	expect_record(&e, 0, 3);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__a_lost_assignment_takes_no_commit)
{
	struct kafka_event e;
	struct kafka_partition one = at(0, 1);

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	struct kafka_consumer *c = open_member(TOPIC);
	struct given g = poll_assigned(c, PARTITIONS);
	kafka_consumer_start(c, g.items, g.count);
	poll_for(c, KAFKA_RECORD, 1u << KAFKA_END, &e);
	rd_kafka_mock_push_request_errors(kafka.cluster, REQUEST_HEARTBEAT, 1, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID);
	poll_for(c, KAFKA_LOST, 1u << KAFKA_RECORD | 1u << KAFKA_END, &e);
	ck_assert_uint_eq(e.partition_count, PARTITIONS);
	ck_assert_int_eq(kafka_consumer_commit(c, &one, 1, "mark"), -1);
	/* Nothing comes before the release, not even the next assignment. */
	poll_nothing(c, 500);
	kafka_consumer_release(c, g.items, g.count);
	g = poll_assigned(c, PARTITIONS);
	kafka_consumer_start(c, g.items, g.count);
	poll_for(c, KAFKA_RECORD, 1u << KAFKA_END, &e);
	expect_record(&e, 0, 0);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__commits_are_answered)
{
	struct kafka_event e;
	struct kafka_partition one = at(1, 3);
	struct kafka_committed got = {.topic = TOPIC, .partition = 1};
	struct kafka_admin *admin = NULL;
	char error[256];

	open_cluster();
	struct kafka_consumer *c = open_member(TOPIC);
	ck_assert_int_eq(kafka_consumer_commit(c, &one, 1, "early"), -1);
	poll_assigned(c, PARTITIONS);
	ck_assert_int_eq(kafka_consumer_commit(c, &one, 1, "dw1 mark"), 0);
	poll_for(c, KAFKA_COMMITTED, 0, &e);
	ck_assert_ptr_null(e.commit_error);
	ck_assert_int_eq(kafka_admin_open(&kafka.settings, &admin, error, sizeof(error)), 0);
	ck_assert_int_eq(kafka_admin_committed(admin, &got, 1, 5000), KAFKA_OK);
	ck_assert_int_eq(got.offset, 3);
	ck_assert_str_eq(got.metadata, "dw1 mark");
	kafka_admin_close(admin);

	rd_kafka_mock_push_request_errors(kafka.cluster, REQUEST_OFFSET_COMMIT, 1,
					  RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
	ck_assert_int_eq(kafka_consumer_commit(c, &one, 1, "refused"), 0);
	poll_for(c, KAFKA_COMMITTED, 0, &e);
	ck_assert_ptr_nonnull(e.commit_error);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__an_offset_outside_the_log_stops_the_partition)
{
	struct kafka_event e;

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	start(c, 0, 500);
	poll_for(c, KAFKA_TROUBLE, 0, &e);
	ck_assert_uint_eq(e.partition_count, 1);
	ck_assert_str_eq(e.partitions[0].topic, TOPIC);
	ck_assert_int_eq(e.partitions[0].partition, 0);
	ck_assert_int_eq(e.partitions[0].offset, 500);
	poll_nothing(c, 300);
	start(c, 0, 8);
	read_to_end(c, 0, 8, 10);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__damage_stops_the_partition)
{
	static const rd_kafka_resp_err_t codes[] = {RD_KAFKA_RESP_ERR__BAD_MSG, RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
						    RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED,
						    RD_KAFKA_RESP_ERR_INVALID_MSG};
	struct kafka_event e;

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		mock_kafka_damage(&kafka, codes[i]);
		start(c, 0, 4);
		poll_for(c, KAFKA_UNREADABLE, 0, &e);
		ck_assert_str_eq(e.end.topic, TOPIC);
		ck_assert_int_eq(e.end.partition, 0);
		ck_assert_int_eq(e.end.offset, 4);
		ck_assert_str_ne(e.error, "");
		poll_nothing(c, 300);
	}
	start(c, 0, 4);
	read_to_end(c, 0, 4, 10);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__a_missing_topic_is_named)
{
	struct kafka_event e;

	mock_kafka_open(&kafka, 1);
	struct kafka_consumer *c = open_member("nowhere");
	rd_kafka_mock_topic_set_error(kafka.cluster, "nowhere", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
	poll_for(c, KAFKA_TROUBLE, 1u << KAFKA_ASSIGNED, &e);
	ck_assert_msg(strstr(e.error, "nowhere") != NULL, "%s", e.error);
	ck_assert_uint_eq(e.partition_count, 0);
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__null_and_empty_stay_apart)
{
	static const struct {
		const char *key, *value;
	} rows[] = {{NULL, NULL}, {"", ""}, {"k", "v"}, {NULL, ""}, {"", NULL}};
	struct kafka_event e;
	int64_t before_us = clock_wall_us();

	open_cluster();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		mock_kafka_put(&kafka, TOPIC, 0, rows[i].key, rows[i].value);
	struct kafka_consumer *c = open_member(TOPIC);
	poll_assigned(c, PARTITIONS);
	start(c, 0, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		poll_for(c, KAFKA_RECORD, 0, &e);
		ck_assert_int_eq(slice_compare(e.record.key, slice_of(rows[i].key)), 0);
		ck_assert_int_eq(slice_compare(e.record.value, slice_of(rows[i].value)), 0);
		ck_assert_uint_eq(e.record.header_count, 0);
		ck_assert_int_ge(e.record.timestamp_us, before_us - 1000);
		ck_assert_int_le(e.record.timestamp_us, clock_wall_us());
	}
	close_member(c);
	mock_kafka_close(&kafka);
}
END_TEST

START_TEST(test_kafka_consumer__close_is_bounded_with_the_brokers_away)
{
	struct kafka_event e;

	open_cluster();
	mock_kafka_fill(&kafka, TOPIC, 0, 0, 10);
	struct kafka_consumer *c = open_member(TOPIC);
	struct given g = poll_assigned(c, PARTITIONS);
	kafka_consumer_start(c, g.items, g.count);
	poll_for(c, KAFKA_RECORD, 1u << KAFKA_END, &e);
	/* The coordinator answers no more, so that a commit keeps the close waiting. */
	rd_kafka_mock_broker_set_rtt(kafka.cluster, 1, 30000);
	ck_assert_int_eq(kafka_consumer_commit(c, g.items, g.count, "mark"), 0);
	int64_t started_ms = clock_mono_ms();
	bool closed = kafka_consumer_close(c, 1500);
	int64_t took_ms = clock_mono_ms() - started_ms;
	ck_assert_msg(took_ms < 4000, "took %d ms", (int)took_ms);
	ck_assert_msg(!closed || took_ms < 1600, "closed after %d ms", (int)took_ms);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_kafka_consumer__fetches_nothing_before_start,
		test_kafka_consumer__start_leaves_the_others_where_they_are,
		test_kafka_consumer__paused_partitions_are_silent_and_lose_nothing,
		test_kafka_consumer__pause_outlives_the_start_of_others_and_ends_with_stop,
		test_kafka_consumer__resume_fetches_at_once,
		test_kafka_consumer__large_records_keep_the_fetcher_awake,
		test_kafka_consumer__changes_may_come_in_a_row,
		test_kafka_consumer__a_rejoin_does_not_overtake_the_release,
		test_kafka_consumer__an_assignment_that_was_replaced_is_lost,
		test_kafka_consumer__a_lost_assignment_takes_no_commit,
		test_kafka_consumer__commits_are_answered,
		test_kafka_consumer__an_offset_outside_the_log_stops_the_partition,
		test_kafka_consumer__damage_stops_the_partition,
		test_kafka_consumer__a_missing_topic_is_named,
		test_kafka_consumer__null_and_empty_stay_apart,
		test_kafka_consumer__close_is_bounded_with_the_brokers_away,
	};
	Suite *suite = suite_create("kafka_consumer");
	TCase *tcase = tcase_create("mock cluster");
	tcase_set_timeout(tcase, 60);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	tcase_add_loop_test(tcase, test_kafka_consumer__revoked_partitions_drain_before_the_release, 0, 2);
	suite_add_tcase(suite, tcase);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	bool fine = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
	srunner_free(runner);
	return fine ? 0 : 1;
}
