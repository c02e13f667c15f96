/*
 * Rate limits kept in this process, for when Redis is away: per partner, GCRA, at this replica's share
 * of rate and burst (at least one cell).
 *
 * The share is had by letting the limiter's clock run slower: at a share of 0.25 a second of the wall
 * is a quarter of a second here. So rates stay whole numbers, and a share that changes acts at once.
 *
 * A fixed table of LIMITER_WAYS places a hash, LIMITER_PARTNERS in all. Where all ways are taken, the
 * partner that is nearest to a full bucket goes: one that is full already costs nothing to forget, any other is
 * forgiven its debt, which only a crowd far beyond the table can bring about.
 * Thread: one at a time (the owner's lock). Pure: time is an argument.
 */
#ifndef WORKER_GATE_LIMITER_H
#define WORKER_GATE_LIMITER_H

#include "common/slice.h"
#include "schemas/event.h"
#include "worker/gate/gcra.h"

#include <stdint.h>

/* A share of 0 is one that is not known yet. */
#define LIMITER_STRETCH_MAX 1000.0

enum { LIMITER_PARTNERS = 4096, LIMITER_WAYS = 8, LIMITER_SETS = LIMITER_PARTNERS / LIMITER_WAYS };

struct limiter {
	double share;
	double clock_us;  /* of the limiter */
	int64_t now_us;   /* what `clock_us` was last moved to */
	struct limiter_entry {
		char id[EVENT_ID_CHARS_MAX];
		uint8_t id_len; /* 0: free */
		struct gcra bucket;
	} entries[LIMITER_SETS][LIMITER_WAYS];
};

/* `l` is zeroed memory. The share is 1 until it is set. */
void limiter_init(struct limiter *l, int64_t now_us);
/* `share`: clamped to 0 .. 1. */
void limiter_set_share(struct limiter *l, double share, int64_t now_us);
/* As gcra_charge. Turns are told in the limiter's time: limiter_stretch makes them the wall's. */
struct gcra_answer limiter_charge(struct limiter *l, struct slice partner_id, const struct gcra_ask *ask,
                                  int64_t now_us);
/* How much longer a wait is than at the whole rate: 1 ÷ share, at most LIMITER_STRETCH_MAX. */
double limiter_stretch(const struct limiter *l);

#endif
