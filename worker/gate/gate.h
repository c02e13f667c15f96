/*
 * The gate: what Redis is asked before PostgreSQL is. It filters records that are known to be done,
 * and holds partners to their rates. It decides nothing that PostgreSQL cannot take back [I3]: a
 * flushed, lost, lying-empty or absent Redis costs work, never a credit.
 *
 * A *done mark* is the 128-bit digest of an event's identity and content, a member of the set
 *     <prefix>done:<epoch>:<bucket>:<shard>
 * where epoch is the history of the database in which the effect was committed, bucket the event's own
 * timestamp divided by the bucket width, shard taken from the digest (sets stay small). A set expires
 * whole, ttl + bucket width after its first mark.
 *
 *     gate_lookup  one SMISMEMBER a set, before the transaction
 *     gate_admit   one GCRA script call a limited partner, after lookup: grants some, tells the others their turn
 *     gate_mark    SADD + EXPIRE NX, only after COMMIT, with the epoch read in that transaction;
 *                  sent at once, its replies are read by the gate's next call
 *
 * Redis down: lookup finds nothing, mark does nothing, admit falls back to a limiter in this process with the
 * replica's share of the rate (or says GATE_WAIT, by option). That one's generations are its own: records with a slot
 * of Redis' are charged here anew, and by Redis when it is back, so that a slot is only ever honoured by who gave it,
 * and the rate is kept. After a failure Redis is left alone for a backoff with jitter (100 ms doubling to 5 s), so a
 * slow Redis costs one timeout, not one a batch. The state shows in metrics: dependency_up{redis},
 * degraded{dedup,rate_limit}.
 *
 * Thread: a gate belongs to one worker thread; gate_shared to all of them (its own lock).
 */
#ifndef WORKER_GATE_GATE_H
#define WORKER_GATE_GATE_H

#include "common/ensure.h"
#include "common/slice.h"
#include "schemas/event.h"
#include "worker/gate/gcra.h"
#include "worker/gate/redis_target.h"
#include "worker/ledger/history_epoch.h"

#include <stdbool.h>
#include <stdint.h>

enum gate_outage_policy { GATE_LOCAL, GATE_HOLD };

struct gate_settings {
	const char *url;      /* redis://[user:password@]host[:port][/db], rediss:// with TLS built in, unix:///path */
	const char *url_file; /* read anew for each connection; NULL: `url` counts */
	struct redis_tls tls;
	bool plain_password;  /* a password may go to another machine without TLS */
	const char *prefix;   /* "dw:" */
	int timeout_ms;       /* connecting and each round trip */
	int64_t dedup_ttl_s;  /* 0: no dedup */
	int64_t slot_life_ms; /* how long after the last slot a limiter's key, and its generation, is kept */
	enum gate_outage_policy rate_outage;
};

/* Whether `url`, the settings' or what stands in its file by now, can be used, and safely. "" is fine.
 * Returns: 0; -1 and one line in `error` (the password never in it). */
must_use int gate_check(const struct gate_settings *s, const char *url, char *error, size_t error_size);

struct gate_shared; /* local limiters, outage state: one a process */
struct gate_shared *gate_shared_new(const struct gate_settings *s);
void gate_shared_free(struct gate_shared *s);
/* Own partitions over all partitions, for the local limiter. Thread: any. */
void gate_shared_set_share(struct gate_shared *s, double share);

struct gate;
struct gate *gate_new(struct gate_shared *shared); /* does not connect yet */
void gate_free(struct gate *g);

struct gate_mark {
	struct event_digest digest;
	int64_t timestamp_us; /* the event's */
};

/* Looks after the connection, and tries again when that is due: for idle workers, so that the metrics stay true. */
void gate_tend(struct gate *g);

/* Sets done[i] for each mark of `epoch` that is there; false for the rest and on any failure. */
void gate_lookup(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *marks, size_t count,
                 bool *done);

struct gate_request {
	struct slice partner_id;
	int64_t per_second; /* > 0 */
	int64_t burst;      /* >= 1 */
	int64_t wanted;     /* > 0 */
	int64_t granted;    /* out: 0 .. wanted. All that is wanted is charged */
	int64_t shown;      /* the generation of the limiter's key that charged these before; 0: none did */
	int64_t generation; /* out: of the key now. The one shown: nothing was charged, and their slots hold */
	int64_t over;       /* out, with `stretch`: for gate_wait_us */
	double stretch;
	int64_t placed;     /* the caller's: those not granted that have been given their slots */
};

/* How long the one at `place`, from 0, of those that were not granted has to wait. When the generation is the one
 * shown, place 0: how long all that was ever charged has to wait. */
static inline int64_t gate_wait_us(const struct gate_request *r, int64_t place)
{
	int64_t wait_us = gcra_wait_us(r->over + place * GCRA_CELL, r->per_second);
	return r->stretch > 1 ? (int64_t)((double)wait_us * r->stretch) : wait_us;
}

enum gate_answer {
	GATE_OK = 0,
	GATE_WAIT = -1, /* policy GATE_HOLD and Redis is down: nothing is granted, ask all again; at worst Redis charged
	                   some before it went, which errs to the strict side */
};
must_use enum gate_answer gate_admit(struct gate *g, struct gate_request *requests, size_t count);

void gate_mark(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *marks, size_t count);

/* For `check`: connects and tries each command that the gate will give, those of limits where some partner has one
 * (`limits`); refuses what is known to be below Redis 7.0 or in cluster mode.
 * Returns: 0; -1; either way one line in `detail`. */
must_use int gate_probe(const struct gate_settings *s, bool limits, char *detail, size_t detail_size);

#endif
