/*
 * Word from whoever finds out to all consumers: the database is not the history `epoch` any more, what
 * was read under it must be read again. Raising it twice for one epoch is harmless: consumers restart
 * only partitions that still belong to it.
 *
 * Thread: any. Lock: its own.
 */
#ifndef WORKER_PIPELINE_HISTORY_ALARM_H
#define WORKER_PIPELINE_HISTORY_ALARM_H

#include "common/thread.h"
#include "worker/ledger/history_epoch.h"

#include <stdatomic.h>

struct history_alarm {
	pthread_mutex_t lock;
	struct history_epoch epoch;
	_Atomic unsigned raised; /* counts; a consumer compares it with what it saw last */
};

static inline void history_alarm_raise(struct history_alarm *a, const struct history_epoch *epoch)
{
	mutex_lock(&a->lock);
	a->epoch = *epoch;
	mutex_unlock(&a->lock);
	atomic_fetch_add(&a->raised, 1);
}

static inline struct history_epoch history_alarm_epoch(struct history_alarm *a)
{
	mutex_lock(&a->lock);
	struct history_epoch epoch = a->epoch;
	mutex_unlock(&a->lock);
	return epoch;
}

#endif
