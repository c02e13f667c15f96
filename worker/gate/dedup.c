#include "worker/gate/gate.h"

#include "worker/gate/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	/* A set expires whole, so marks live up to one width longer than the ttl; and a batch of the present touches
	 * one or two buckets. Ten minutes is 1 % of the default ttl of a day. */
	BUCKET_WIDTH_S = 600,
	/* A thousand events a second are 600,000 marks a bucket, 43 MB at 72 bytes each: too much for one key, whose
	 * expiry would hold Redis up. A sixteenth goes in milliseconds; and a batch still is few commands. */
	SHARDS = 16,
};

static void reserve(struct gate *g, size_t count)
{
	if (count <= g->capacity)
		return;
	size_t capacity = g->capacity ? g->capacity : 64;
	while (capacity < count)
		capacity *= 2;
	/* A command's arguments: its name, the key, and up to all the marks. */
	g->placed = realloc(g->placed, capacity * sizeof(*g->placed));
	g->argv = realloc(g->argv, (capacity + 2) * sizeof(*g->argv));
	g->lengths = realloc(g->lengths, (capacity + 2) * sizeof(*g->lengths));
	ENSURE(g->placed && g->argv && g->lengths);
	g->capacity = capacity;
}

static int by_set(const void *a, const void *b)
{
	const struct placed_mark *x = a, *y = b;
	return (x->set > y->set) - (x->set < y->set);
}

static void place(struct gate *g, const struct gate_mark *marks, size_t count)
{
	reserve(g, count);
	for (size_t i = 0; i < count; i++) {
		int64_t bucket = marks[i].timestamp_us / (BUCKET_WIDTH_S * INT64_C(1000000));
		g->placed[i].set = bucket * SHARDS + marks[i].digest.bytes[0] % SHARDS;
		g->placed[i].index = (uint32_t)i;
	}
	if (count > 1)
		qsort(g->placed, count, sizeof(*g->placed), by_set);
}

/* Returns: where the run that starts at `from` ends. */
static size_t run_end(const struct gate *g, size_t from, size_t count)
{
	size_t end = from + 1;
	while (end < count && g->placed[end].set == g->placed[from].set)
		end++;
	return end;
}

static void put_hex(char out[33], const struct history_epoch *epoch)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < sizeof(epoch->bytes); i++) {
		out[2 * i] = digits[epoch->bytes[i] >> 4];
		out[2 * i + 1] = digits[epoch->bytes[i] & 15];
	}
	out[32] = '\0';
}

static void put_key(char key[GATE_KEY_MAX], const char *prefix, const char epoch[33], int64_t set)
{
	snprintf(key, GATE_KEY_MAX, "%sdone:%s:%" PRId64 ":%d", prefix, epoch, set / SHARDS, (int)(set % SHARDS));
}

/* Appends `command` with the key and the marks of one run. */
static void append_run(struct gate *g, const char *command, const char *key, const struct gate_mark *marks,
                       size_t from, size_t end)
{
	g->argv[0] = command;
	g->lengths[0] = strlen(command);
	g->argv[1] = key;
	g->lengths[1] = strlen(key);
	for (size_t i = from; i < end; i++) {
		const struct event_digest *digest = &marks[g->placed[i].index].digest;
		g->argv[2 + i - from] = (const char *)digest->bytes;
		g->lengths[2 + i - from] = sizeof(digest->bytes);
	}
	redis_append(g->redis, (int)(2 + end - from), g->argv, g->lengths);
}

int gate_receive_marks(struct gate *g)
{
	bool refused = false, failed = false;
	if (g->marks_owed == 0)
		return 0;
	for (; g->marks_owed > 0; g->marks_owed--) {
		struct redis_reply reply;
		if (redis_receive(g->redis, g->deadline_us, &reply) < 0)
			return gate_lost(g);
		if (reply.kind != REPLY_ERROR)
			continue;
		failed = true;
		/* A key of another type is somebody's mistake with that key, not Redis' state. */
		if (!refused && !redis_reply_is(&reply, "WRONGTYPE")) {
			gate_refused(g, "marks", &reply);
			refused = true;
		}
	}
	metric_add(failed ? METRIC_REDIS_MARK_FAILED : METRIC_REDIS_MARK_OK, 1);
	return refused ? -1 : 0;
}

static void append_lookups(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *marks,
                           size_t count)
{
	char hex[33], key[GATE_KEY_MAX];
	put_hex(hex, epoch);
	place(g, marks, count);
	for (size_t from = 0, end; from < count; from = end) {
		end = run_end(g, from, count);
		put_key(key, g->shared->prefix, hex, g->placed[from].set);
		append_run(g, "SMISMEMBER", key, marks, from, end);
	}
}

/* The answers come in the order of the runs. Returns: 0; -1. */
static int receive_lookups(struct gate *g, size_t count, bool *done)
{
	bool failed = false;
	for (size_t from = 0, end; from < count; from = end) {
		struct redis_reply reply;
		end = run_end(g, from, count);
		if (redis_receive(g->redis, g->deadline_us, &reply) < 0)
			return gate_lost(g);
		if (redis_reply_is(&reply, "WRONGTYPE")) {
			failed = true;
			continue;
		}
		if (reply.kind != REPLY_INTEGERS || reply.count != end - from)
			return gate_refused(g, "look-up", &reply);
		for (size_t i = from; i < end; i++)
			done[g->placed[i].index] = reply.integers[i - from] == 1;
	}
	metric_add(failed ? METRIC_REDIS_LOOKUP_FAILED : METRIC_REDIS_LOOKUP_OK, 1);
	return 0;
}

void gate_tend(struct gate *g)
{
	if (!gate_begin(g, METRIC_REDIS_LOOKUP_FAILED))
		return;
	if (gate_receive_marks(g) < 0)
		gate_fail(g);
	else
		gate_end(g);
}

void gate_lookup(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *marks, size_t count,
                 bool *done)
{
	for (size_t i = 0; i < count; i++)
		done[i] = false;
	if (g->shared->settings.dedup_ttl_s == 0 || !gate_begin(g, METRIC_REDIS_LOOKUP_FAILED))
		return;

	append_lookups(g, epoch, marks, count);
	int sent = redis_send(g->redis, g->deadline_us);
	if (sent < 0)
		gate_lost(g);
	/* Refused marks leave the connection in order: the answers behind them are good. */
	int marked = sent < 0 ? -1 : gate_receive_marks(g);
	int answered = sent < 0 || g->marks_owed > 0 ? -1 : receive_lookups(g, count, done);
	if (answered < 0)
		metric_add(METRIC_REDIS_LOOKUP_FAILED, 1);
	if (answered < 0 || marked < 0)
		gate_fail(g);
	else
		gate_end(g);
}

static void append_marks(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *marks, size_t count)
{
	char hex[33], key[GATE_KEY_MAX], ttl[24];
	put_hex(hex, epoch);
	snprintf(ttl, sizeof(ttl), "%" PRId64, g->shared->settings.dedup_ttl_s + BUCKET_WIDTH_S);
	place(g, marks, count);
	for (size_t from = 0, end; from < count; from = end) {
		end = run_end(g, from, count);
		put_key(key, g->shared->prefix, hex, g->placed[from].set);
		append_run(g, "SADD", key, marks, from, end);
		/* A crash between the two leaves a set without end: the next mark in it repeats the EXPIRE. */
		redis_append(g->redis, 4, (const char *[]){"EXPIRE", key, ttl, "NX"}, NULL);
	}
}

void gate_mark(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *marks, size_t count)
{
	if (g->shared->settings.dedup_ttl_s == 0 || count == 0 || !gate_begin(g, METRIC_REDIS_MARK_FAILED))
		return;
	/* At most one call's replies are ever owed: they have long arrived, unless Redis is in trouble. */
	if (gate_receive_marks(g) < 0) {
		metric_add(METRIC_REDIS_MARK_FAILED, 1);
		gate_fail(g);
		return;
	}
	append_marks(g, epoch, marks, count);
	g->marks_owed = redis_owed(g->redis);
	if (redis_send(g->redis, g->deadline_us) < 0) {
		gate_lost(g);
		gate_fail(g);
		return;
	}
	gate_end(g);
}
