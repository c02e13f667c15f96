/*
 * Word from whoever finds out to all consumers: the database is not the history `epoch` any more, what
 * was read under it must be read again. Raising it twice for one epoch is harmless: consumers restart
 * only partitions that still belong to it. Several histories may end before a consumer looks: each of the last few is
 * kept with the number of its latest alarm, and of those before them it is known that there were some.
 *
 *     unsigned raised = history_alarm_raised(a);
 *     if (raised != seen)
 *             ...each partition: history_alarm_ends(a, seen, &partition->history)...
 *     seen = raised;
 *
 * Thread: any. Lock: its own.
 */
#ifndef WORKER_PIPELINE_HISTORY_ALARM_H
#define WORKER_PIPELINE_HISTORY_ALARM_H

#include "common/thread.h"
#include "worker/ledger/history_epoch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { HISTORY_ALARMS_KEPT = 8 };

struct history_alarm {
	pthread_mutex_t lock;
	struct {
		struct history_epoch epoch;
		uint64_t number;        /* of the latest alarm for it; 0: none */
	} ended[HISTORY_ALARMS_KEPT];
	uint64_t forgotten;             /* the highest number that is kept no more */
	_Atomic uint64_t raised;        /* how many so far */
};

static inline void history_alarm_raise(struct history_alarm *a, const struct history_epoch *epoch)
{
	mutex_lock(&a->lock);
	size_t at = 0;
	for (size_t i = 0; i < HISTORY_ALARMS_KEPT; i++) {
		if (a->ended[i].number && history_epoch_equal(&a->ended[i].epoch, epoch)) {
			at = i;
			a->ended[i].number = 0; /* replaced, not forgotten */
			break;
		}
		if (a->ended[i].number < a->ended[at].number)
			at = i;
	}
	if (a->ended[at].number)
		a->forgotten = a->ended[at].number;
	a->ended[at].epoch = *epoch;
	a->ended[at].number = atomic_load(&a->raised) + 1;
	atomic_fetch_add(&a->raised, 1);
	mutex_unlock(&a->lock);
}

static inline uint64_t history_alarm_raised(struct history_alarm *a)
{
	return atomic_load(&a->raised);
}

/* Whether what belongs to `epoch` must be read again, for one who has seen `seen` alarms. */
static inline bool history_alarm_ends(struct history_alarm *a, uint64_t seen, const struct history_epoch *epoch)
{
	mutex_lock(&a->lock);
	bool ends = a->forgotten > seen;
	for (size_t i = 0; !ends && i < HISTORY_ALARMS_KEPT; i++)
		ends = a->ended[i].number > seen && history_epoch_equal(&a->ended[i].epoch, epoch);
	mutex_unlock(&a->lock);
	return ends;
}

#endif
