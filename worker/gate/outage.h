/*
 * When a failed server is asked again: left alone for 100 ms, doubling to 5 s, each wait varied by a
 * quarter so that replicas do not return together; then one caller tries, the prober, while the others
 * go on without.
 *
 * The delay starts over only when the server was well for OUTAGE_FORGET_US: one that answers probes
 * and then fails at work is left alone ever longer, too.
 * Thread: one at a time (the owner's lock). Pure: time and chance are arguments.
 */
#ifndef WORKER_GATE_OUTAGE_H
#define WORKER_GATE_OUTAGE_H

#include <stdbool.h>
#include <stdint.h>

#define OUTAGE_DELAY_MIN_US INT64_C(100000)
#define OUTAGE_DELAY_MAX_US INT64_C(5000000)
#define OUTAGE_FORGET_US INT64_C(10000000)

struct outage {
	bool down;
	bool probing;        /* a prober is at it; ends with its outage_succeeded or outage_failed */
	int64_t retry_at_us; /* while down: no probe before */
	int64_t delay_us;    /* the last one, before jitter; 0: none yet */
	int64_t up_since_us; /* while not down */
};

enum outage_turn {
	OUTAGE_GO,    /* the server is well, as far as is known */
	OUTAGE_PROBE, /* the caller is the prober: it must try, and must report */
	OUTAGE_SKIP,  /* leave the server alone */
};

enum outage_turn outage_ask(struct outage *o, int64_t now_us);

/*
 * The caller's attempt failed; `prober` as outage_ask told it. Failures of others while it is down change
 * nothing: they began before. Returns: whether it went down by this one.
 */
bool outage_failed(struct outage *o, bool prober, int64_t now_us, uint32_t chance);

/* The prober's attempt succeeded. */
void outage_succeeded(struct outage *o, int64_t now_us);

#endif
