#include "worker/pipeline/silence.h"

enum {
	/* What no option bounds: a turn of a thread's own work, a name's resolution (30 s with two servers that are away), an
	 * answer's grace beyond the statement's limit, a question to Kafka (5 s each). */
	OWN_MS = 60000,
	/* libpq gives each address of each host in pg.dsn the whole pg.connect_timeout_ms. */
	ADDRESSES_MAX = 8,
	/* Of one request to Redis: connecting, introducing itself, trying what it needs, the request. */
	REDIS_WAITS = 4,
};

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t silence_us(int64_t longest_wait_ms)
{
	return (OWN_MS + longest_wait_ms) * 1000;
}

struct silences silences_by(const struct options *o)
{
	int64_t database_ms = larger(o->pg_statement_timeout_ms, ADDRESSES_MAX * o->pg_connect_timeout_ms);

	return (struct silences){
		.consumer_us = silence_us(0), /* a poll is bounded by consumer.c */
		.worker_us = silence_us(larger(database_ms, REDIS_WAITS * o->redis_timeout_ms)),
		.keeper_us = silence_us(database_ms),
		.outbox_us = silence_us(0),
	};
}
