/*
 * worker/gate/gate.h on a Redis that forgets, is away, or takes a mark late. What it may never be given is a mark of
 * what is not committed; that is checked where the mark is set.
 */
#include "tests/sim/sim.h"

#include "tests/lib/order_oracle.h"
#include "worker/gate/gate.h"
#include "worker/gate/gcra.h"

#include <stdlib.h>

enum { MARKS = 4096 };

struct gate_shared {
	enum gate_outage_policy policy;
};

static struct mark {
	bool set;
	struct history_epoch epoch;
	struct event_digest digest;
} marks[MARKS];

static struct gcra buckets[ORACLE_PARTNERS];
static int64_t generations; /* that buckets were given */
static int64_t away_until_us;

void redis_begin(void)
{
	away_until_us = 0;
	generations = 0;
}

void redis_away(int64_t until_us)
{
	away_until_us = until_us;
}

void redis_flush(void)
{
	sim_trace("redis is flushed");
	memset(marks, 0, sizeof(marks));
	memset(buckets, 0, sizeof(buckets));
}

void redis_heal(void)
{
	away_until_us = 0;
}

struct gate_shared *gate_shared_new(const struct gate_settings *s)
{
	struct gate_shared *shared = calloc(1, sizeof(*shared));
	ENSURE(shared);
	shared->policy = s->rate_outage;
	return shared;
}

void gate_shared_free(struct gate_shared *s)
{
	free(s);
}

void gate_shared_set_share(struct gate_shared *s, double share)
{
	(void)s;
	if (!(share > 0 && share <= 1))
		sim_fail("a share of %g", share);
}

struct gate {
	struct gate_shared *shared;
};

struct gate *gate_new(struct gate_shared *shared)
{
	struct gate *g = calloc(1, sizeof(*g));
	ENSURE(g);
	g->shared = shared;
	return g;
}

void gate_free(struct gate *g)
{
	free(g);
}

static bool answers(void)
{
	sim_sleep(sim_latency(sim_config.latency_us / 4 + 1));
	return sim_now() >= away_until_us;
}

/* The mark's place: its own, or the free one where it would be; a full table forgets. */
static struct mark *place_of(const struct history_epoch *epoch, const struct event_digest *digest)
{
	uint64_t hash;
	memcpy(&hash, digest->bytes, sizeof(hash));
	for (uint64_t i = 0; i < 16; i++) {
		struct mark *m = &marks[(hash + i) % MARKS];
		if (!m->set ||
		    (history_epoch_equal(&m->epoch, epoch) && memcmp(&m->digest, digest, sizeof(*digest)) == 0))
			return m;
	}
	return &marks[hash % MARKS];
}

void gate_tend(struct gate *g)
{
	(void)g;
	(void)answers();
}

void gate_lookup(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *wanted, size_t count,
		 bool *done)
{
	(void)g;
	bool up = answers();
	for (size_t i = 0; i < count; i++) {
		const struct mark *m = place_of(epoch, &wanted[i].digest);
		done[i] = up && m->set && history_epoch_equal(&m->epoch, epoch) &&
			  memcmp(&m->digest, &wanted[i].digest, sizeof(m->digest)) == 0 &&
			  !world_fault(sim_config.redis_forget);
		sim_count(SIM_DUPLICATES, done[i]);
	}
}

enum gate_answer gate_admit(struct gate *g, struct gate_request *requests, size_t count)
{
	if (!answers() && g->shared->policy == GATE_HOLD)
		return GATE_WAIT;
	for (size_t i = 0; i < count; i++) {
		const struct terms *t = traffic_terms();
		int partner = 0;
		while (partner < ORACLE_PARTNERS &&
		       !slice_equal(t->partners[partner].partner_id, requests[i].partner_id))
			partner++;
		ENSURE(partner < ORACLE_PARTNERS);
		const struct gcra_ask ask = {requests[i].per_second, requests[i].burst, requests[i].wanted,
					     requests[i].shown, ++generations};
		const struct gcra_answer a = gcra_charge(&buckets[partner], sim_now() + SECOND_US, &ask);
		requests[i].granted = a.granted;
		requests[i].over = a.over;
		requests[i].generation = a.generation;
		requests[i].stretch = 1;
	}
	return GATE_OK;
}

static void set_mark(void *argument)
{
	struct mark *m = argument;
	*place_of(&m->epoch, &m->digest) = *m;
	free(m);
}

void gate_mark(struct gate *g, const struct history_epoch *epoch, const struct gate_mark *written, size_t count)
{
	(void)g;
	for (size_t i = 0; i < count; i++) {
		if (database_is_history(epoch))
			traffic_check_mark(&written[i].digest);
		if (sim_now() < away_until_us || world_fault(sim_config.redis_forget))
			continue;
		struct mark *m = calloc(1, sizeof(*m));
		ENSURE(m);
		*m = (struct mark){true, *epoch, written[i].digest};
		if (world_fault(sim_config.redis_late))
			sim_at(sim_now() + (int64_t)sim_below(2 * SECOND_US), set_mark, m);
		else
			set_mark(m);
	}
	sim_point();
}
