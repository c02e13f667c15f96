/*
 * What gate.c, dedup.c and rate_limit.c share; nobody else includes it but their tests.
 *
 * Every request to Redis has one shape:
 *     if (!gate_begin(g))         // left alone, or not reachable: the fallback
 *         ...
 *     redis_append(g->redis, …); redis_send, redis_receive with g->deadline_us
 *     gate_end(g)                 // it answered
 *     gate_fail(g)                // or it didn't: g->reason says why
 */
#ifndef WORKER_GATE_INTERNAL_H
#define WORKER_GATE_INTERNAL_H

#include "common/prng.h"
#include "worker/gate/gate.h"
#include "worker/gate/limiter.h"
#include "worker/gate/outage.h"
#include "worker/gate/redis.h"
#include "worker/observe/metrics.h"

#include <pthread.h>

struct gate_shared {
	struct gate_settings settings; /* url is not kept; prefix points to `prefix` */
	char prefix[65];
	bool configured;               /* there is a url */
	struct redis_target target;

	pthread_mutex_t lock; /* for what follows; never held across I/O or a log line */
	struct outage outage;
	struct limiter limiter;
	bool limits_wanted;   /* some partner has had a limit since the start */
};

/* A mark's place: sorting by `set` makes each set one run. */
struct placed_mark {
	int64_t set;    /* bucket × shards + shard */
	uint32_t index; /* into the caller's marks */
};

struct gate {
	struct gate_shared *shared;
	struct redis *redis;  /* NULL: not connected */
	bool prober;          /* this gate tries for the whole process; ends with gate_end or gate_fail */
	size_t marks_owed;    /* replies to the last gate_mark that are still to be read */
	int64_t deadline_us;  /* of the request at hand */
	char script_sha[41];  /* "" until this connection has loaded the script */
	struct prng random;   /* names of generations */
	char reason[160];     /* why the request at hand failed, one line */
	/* Scratch for a batch's marks, grown to the largest batch seen. */
	struct placed_mark *placed;
	const char **argv;
	size_t *lengths;
	size_t capacity;
};

/* Metrics count `failed` when Redis was tried and not reached. Returns: whether g->redis may be asked. */
must_use bool gate_begin(struct gate *g, enum metric failed);
void gate_end(struct gate *g);
/* Closes the connection and backs off; logs g->reason when this is what took Redis down. */
void gate_fail(struct gate *g);

/* Set g->reason from the connection's error, or from a reply that is an error or of another shape. Returns: -1. */
int gate_lost(struct gate *g);
int gate_refused(struct gate *g, const char *what, const struct redis_reply *reply);

/* A partner has a limit: from now on limits are part of what a connection must be able to do. */
void gate_want_limits(struct gate_shared *s);

/* Reads what the last gate_mark is owed, and counts it. Requests may have been sent behind it. Returns: 0; -1:
 * marks were refused (then marks_owed is 0) or the connection is gone. */
must_use int gate_receive_marks(struct gate *g);

/* KEYS[1]: the bucket. ARGV: per_second, burst, wanted, shown, drawn, slot life in ms. Returns: granted, over,
 * generation (gcra.h). */
extern const char gate_script[];

/* <prefix>limit:<partner>, <prefix>done:<epoch>:<bucket>:<shard> */
enum { GATE_KEY_MAX = 64 + 8 + 128 };

#endif
