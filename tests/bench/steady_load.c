/*
 * Records at a steady rate, whatever becomes of them: an open loop.
 *
 *     steady_load BROKERS TOPIC RATE < events.ndjson
 *
 * Every millisecond has its share of the lines, keyed by order id. A record's Kafka timestamp is the millisecond in
 * which it was due, not the one in which it left, so that a latency measured from it holds whatever this program came
 * late by; how late that was is in the JSON object it prints, and so is the CPU that it took from the others.
 */
#include "common/clock.h"
#include "common/parse.h"
#include "common/ensure.h"

#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { BEGIN_AFTER_MS = 200, FLUSH_MS = 30000, LATE_MAX_MS = 100000 };

struct line {
	char *value;
	size_t len;
	struct slice key;
};

static int64_t failed;
static int64_t late[LATE_MAX_MS + 1]; /* records by milliseconds late */

static void die(const char *what, const char *why)
{
	fprintf(stderr, "steady_load: %s: %s\n", what, why);
	exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char reason[256];
	if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)))
		die(name, reason);
}

static void on_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
	(void)client;
	(void)opaque;
	failed += message->err != 0;
}

/* What stands behind "order_id":" in a generated line. */
static struct slice find_key(const struct line *l)
{
	static const char name[] = "\"order_id\":\"";
	const char *at = memmem(l->value, l->len, name, sizeof(name) - 1);
	if (!at)
		return (struct slice){NULL, 0};
	at += sizeof(name) - 1;
	const char *quote = memchr(at, '"', (size_t)(l->value + l->len - at));
	return quote ? (struct slice){at, (size_t)(quote - at)} : (struct slice){NULL, 0};
}

static struct line *read_lines(size_t *count)
{
	struct line *lines = NULL;
	char *text = NULL;
	size_t capacity = 0;
	ssize_t len;
	for (*count = 0; (len = getline(&text, &capacity, stdin)) > 0; ++*count) {
		if ((*count & (*count - 1)) == 0) {
			lines = realloc(lines, (*count ? *count * 2 : 1) * sizeof(*lines));
			ENSURE(lines);
		}
		struct line *l = &lines[*count];
		l->len = (size_t)len - (text[len - 1] == '\n');
		l->value = malloc(l->len + 1);
		ENSURE(l->value);
		memcpy(l->value, text, l->len);
		l->key = find_key(l);
	}
	free(text);
	return lines;
}

static void send_line(rd_kafka_t *client, const char *topic, const struct line *l, int64_t due_ms)
{
	for (;;) {
		rd_kafka_resp_err_t err = rd_kafka_producev(
			client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_TIMESTAMP(due_ms),
			RD_KAFKA_V_KEY(l->key.data, l->key.len), RD_KAFKA_V_VALUE(l->value, l->len), RD_KAFKA_V_END);
		if (!err)
			return;
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			die(topic, rd_kafka_err2str(err));
		rd_kafka_poll(client, 1);
	}
}

static void sleep_until(int64_t wall_ms)
{
	const struct timespec at = {wall_ms / 1000, (wall_ms % 1000) * 1000000};
	while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL))
		;
}

/* Returns: when the first record was due. */
static int64_t send_all(rd_kafka_t *client, const char *topic, const struct line *lines, size_t count, int64_t rate)
{
	int64_t begin_ms = clock_wall_us() / 1000 + BEGIN_AFTER_MS;
	size_t sent = 0;
	for (int64_t tick = 1; sent < count; tick++) {
		sleep_until(begin_ms + tick);
		size_t due = (size_t)(tick * rate / 1000);
		for (; sent < due && sent < count; sent++) {
			int64_t behind_ms = clock_wall_us() / 1000 - (begin_ms + tick);
			late[behind_ms < 0 ? 0 : behind_ms > LATE_MAX_MS ? LATE_MAX_MS : behind_ms]++;
			send_line(client, topic, &lines[sent], begin_ms + tick);
		}
		rd_kafka_poll(client, 0);
	}
	return begin_ms;
}

/* The milliseconds that `share` of the records were not later than. */
static int64_t late_quantile(size_t count, double share)
{
	int64_t seen = 0, ms = 0;
	for (; ms < LATE_MAX_MS; ms++) {
		seen += late[ms];
		if ((double)seen >= share * (double)count)
			break;
	}
	return ms;
}

static rd_kafka_t *open_producer(const char *brokers)
{
	char reason[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	set(conf, "bootstrap.servers", brokers);
	set(conf, "acks", "all");
	set(conf, "linger.ms", "0");
	set(conf, "socket.nagle.disable", "true");
	set(conf, "partitioner", "murmur2_random");
	set(conf, "allow.auto.create.topics", "false");
	rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof(reason));
	if (!client)
		die("client", reason);
	return client;
}

/* Connections and partitions are known before the first record is due. */
static void meet(rd_kafka_t *client, const char *topic)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(client, 0, handle, &metadata, FLUSH_MS);
	if (err)
		die(topic, rd_kafka_err2str(err));
	rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(handle);
}

int main(int argc, char **argv)
{
	int64_t rate;
	size_t count;
	if (argc != 4 || !parse_int64_within(slice_of(argv[3]), 1, 1000000, &rate)) {
		fprintf(stderr, "usage: steady_load BROKERS TOPIC RATE < events.ndjson\n");
		return 2;
	}
	struct line *lines = read_lines(&count);
	rd_kafka_t *client = open_producer(argv[1]);
	meet(client, argv[2]);
	int64_t begin_ms = send_all(client, argv[2], lines, count, rate);
	if (rd_kafka_flush(client, FLUSH_MS))
		die(argv[2], "not all was delivered in time");
	double seconds = (double)(clock_wall_us() / 1000 - begin_ms) / 1e3;
	rd_kafka_destroy(client);
	struct rusage used;
	ENSURE(getrusage(RUSAGE_SELF, &used) == 0);
	printf("{\"events\": %zu, \"failed\": %lld, \"seconds\": %.3f, \"late_p50_ms\": %lld, \"late_p99_ms\": %lld, "
	       "\"late_max_ms\": %lld, \"cpu_us\": %.0f}\n",
	       count, (long long)failed, seconds, (long long)late_quantile(count, 0.5),
	       (long long)late_quantile(count, 0.99), (long long)late_quantile(count, 1),
	       (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
	               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
	return failed ? 1 : 0;
}
