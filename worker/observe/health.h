/*
 * Alive and ready: two different questions.
 *
 *     struct heart *h = heart_start("worker-0", 60 * 1000000, clock_mono_us());
 *     while (...) {
 *         heart_beat(h, clock_mono_us());
 *         ... wait for at most a second, work ...
 *     }
 *     heart_stop(h);
 *
 * Alive (/livez) means progress: every thread that must make some has beaten within its limit. No
 * dependency is asked, since a restart does not mend a database; a thread that waits wakes up at bounded
 * intervals and beats, so idle is alive. One that returns without heart_stop is dead, and is reported [I11].
 * Ready (/readyz) means able to do the work now; the dependencies are those of dependency_up.
 * Thread: any, but a heart beats in one.
 */
#ifndef WORKER_OBSERVE_HEALTH_H
#define WORKER_OBSERVE_HEALTH_H

#include "common/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum { HEARTS_MAX = 160 }; /* 64 consumers, 64 workers, and the few threads that there is one of */

struct heart;

/* `name` is copied: at most 15 bytes, as for threads. Units: microseconds of clock_mono_us.
 * Lock: one of health.c's. */
struct heart *heart_start(const char *name, int64_t limit_us, int64_t now_us);
/* Takes no lock. */
void heart_beat(struct heart *h, int64_t now_us);
/* The same now, of the heart that the calling thread started, if it did: for waits deep in a call, each within a bound of
 * its own, whose sum has none. Takes no lock. */
void heart_beat_own(void);
void heart_stop(struct heart *h);

/* Returns: whether every heart has beaten within its limit; appends the others to `why`, a line each. */
bool health_live(int64_t now_us, struct buf *why);

/* What readiness rests on beside the dependencies. All begin false. */
enum health_condition {
	HEALTH_STARTED,     /* everything is built and running; main sets it last */
	HEALTH_SCHEMA_FITS, /* the database has a schema that this binary can work with */
	HEALTH_JOINED,      /* each consumer holds an assignment of the group, if an empty one: not from the loss or the
			     * return of the last to the next */
	HEALTH_STOPPING,    /* a signal to leave has come */
	HEALTH_CONDITION_COUNT
};

void health_set(enum health_condition condition, bool value);

struct readiness {
	bool conditions[HEALTH_CONDITION_COUNT];
	bool kafka_up;
	bool postgresql_up;
};

/* The decision alone. Returns: whether ready; appends to `why` a line for each thing that is missing. */
bool readiness_decide(const struct readiness *r, struct buf *why);

/* The same of the present state. */
bool health_ready(struct buf *why);

#endif
