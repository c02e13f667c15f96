/*
 * The worker's parts in front of PostgreSQL alone, on one thread: what they could do at the most.
 *
 *     consume_load BROKERS TOPIC consume|decode|redis [REDIS_URL]
 *
 * Reads the topic from its start to its end with the worker's consumer; decode adds the worker's decoder; redis adds
 * the digests, the look-up of a batch in Redis and the marks of what was not there. Prints one JSON object; cpu_us is
 * the process's from the first record to the last, the client library's threads included.
 */
#include "common/clock.h"
#include "worker/gate/gate.h"
#include "worker/kafka/kafka.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BATCH = 1000, POLL_MS = 100, PARTITIONS_MAX = 1024, SILENCE_MS = 30000, CLOSE_MS = 5000 };

enum mode { MODE_CONSUME, MODE_DECODE, MODE_REDIS };

struct load {
	enum mode mode;
	struct kafka_consumer *kafka;
	struct event_decoder *decoder;
	struct gate *gate;
	struct gate_mark marks[BATCH], fresh[BATCH];
	bool done[BATCH];
	size_t waiting; /* marks of the batch that fills */
	int64_t records, refused, found;
	size_t open; /* partitions that were not read to their end */
	bool ended[PARTITIONS_MAX];
	int64_t first_us, last_us;
	double first_cpu_us, last_cpu_us;
};

static double cpu_us(void)
{
	struct rusage used;
	ENSURE(getrusage(RUSAGE_SELF, &used) == 0);
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
	       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static void ask_redis(struct load *l)
{
	static const struct history_epoch epoch;
	size_t fresh = 0;
	gate_lookup(l->gate, &epoch, l->marks, l->waiting, l->done);
	for (size_t i = 0; i < l->waiting; i++) {
		l->found += l->done[i];
		if (!l->done[i])
			l->fresh[fresh++] = l->marks[i];
	}
	gate_mark(l->gate, &epoch, l->fresh, fresh);
	l->waiting = 0;
}

static void take(struct load *l, const struct kafka_record *record)
{
	static const uint8_t key[16];
	struct event event;
	struct decode_error error;
	if (l->records++ == 0) {
		l->first_us = clock_mono_us();
		l->first_cpu_us = cpu_us();
	}
	if (l->mode == MODE_CONSUME)
		return;
	if (event_decode(l->decoder, record->value, record->headers, record->header_count, record->timestamp_us, &event,
	                 &error)) {
		l->refused++;
		return;
	}
	if (l->mode == MODE_DECODE)
		return;
	struct gate_mark *mark = &l->marks[l->waiting++];
	event_digest(&event, key, &mark->digest);
	mark->timestamp_us = event.timestamp_us;
	if (l->waiting == BATCH)
		ask_redis(l);
}

static void start(struct load *l, const struct kafka_event *event)
{
	struct kafka_partition from[PARTITIONS_MAX];
	ENSURE(event->partition_count <= PARTITIONS_MAX);
	for (size_t i = 0; i < event->partition_count; i++) {
		from[i] = event->partitions[i];
		from[i].offset = 0;
	}
	l->open = event->partition_count;
	kafka_consumer_start(l->kafka, from, event->partition_count);
}

static void end(struct load *l, int32_t partition)
{
	ENSURE(partition < PARTITIONS_MAX);
	if (l->ended[partition])
		return;
	l->ended[partition] = true;
	if (--l->open > 0)
		return;
	if (l->waiting)
		ask_redis(l);
	l->last_us = clock_mono_us();
	l->last_cpu_us = cpu_us();
}

/* Returns: false when nothing comes. */
static bool read_all(struct load *l)
{
	struct kafka_event event;
	for (int quiet_ms = 0; !l->last_us && quiet_ms < SILENCE_MS;) {
		kafka_consumer_poll(l->kafka, POLL_MS, &event);
		quiet_ms = event.kind == KAFKA_NOTHING ? quiet_ms + POLL_MS : 0;
		if (event.kind == KAFKA_RECORD)
			take(l, &event.record);
		else if (event.kind == KAFKA_ASSIGNED)
			start(l, &event);
		else if (event.kind == KAFKA_END)
			end(l, event.end.partition);
	}
	return l->last_us != 0;
}

static bool parse_mode(const char *text, enum mode *mode)
{
	static const char *const names[] = {"consume", "decode", "redis"};
	for (int i = 0; i < 3; i++) {
		if (strcmp(text, names[i]) == 0) {
			*mode = (enum mode)i;
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	static struct load l;
	if (argc < 4 || !parse_mode(argv[3], &l.mode) || argc != (l.mode == MODE_REDIS ? 5 : 4)) {
		fprintf(stderr, "usage: consume_load BROKERS TOPIC consume|decode|redis [REDIS_URL]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	event_setup();
	char error[512], group[64], prefix[80];
	snprintf(group, sizeof(group), "consume-load-%ld", (long)getpid());
	snprintf(prefix, sizeof(prefix), "%s:", group);
	const struct kafka_settings kafka = {.brokers = argv[1], .group = group};
	const struct gate_settings redis = {
		.url = l.mode == MODE_REDIS ? argv[4] : "", .prefix = prefix, .timeout_ms = 5000, .dedup_ttl_s = 86400};
	const char *topics[] = {argv[2]};
	if (kafka_consumer_open(&kafka, topics, 1, &l.kafka, error, sizeof(error))) {
		fprintf(stderr, "consume_load: %s\n", error);
		return 1;
	}
	l.decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	struct gate_shared *shared = gate_shared_new(&redis);
	l.gate = gate_new(shared);
	bool complete = read_all(&l);
	printf("{\"events\": %lld, \"refused\": %lld, \"repeats\": %lld, \"seconds\": %.6f, \"cpu_us\": %.0f}\n",
	       (long long)l.records, (long long)l.refused, (long long)l.found, (double)(l.last_us - l.first_us) / 1e6,
	       l.last_cpu_us - l.first_cpu_us);
	if (!complete)
		fprintf(stderr, "consume_load: no more records, and the ends are not reached\n");
	kafka_consumer_close(l.kafka, CLOSE_MS);
	gate_free(l.gate);
	gate_shared_free(shared);
	event_decoder_free(l.decoder);
	return complete ? 0 : 1;
}
