/*
 * What may be in flight at once, over all consumers: records and bytes, with hysteresis. It counts what
 * the consumers' pools have handed out; past a limit intake stops, below half of both it goes on [I8].
 * A consumer may overshoot by the one record that it has in its hand.
 *
 * Thread: any; relaxed atomics, since the limits are not exact to the record.
 */
#ifndef WORKER_PIPELINE_BUDGET_H
#define WORKER_PIPELINE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
	size_t records_max;
	size_t bytes_max;
	_Atomic size_t records;
	_Atomic size_t bytes;
};

static inline void budget_take(struct budget *b, size_t bytes)
{
	atomic_fetch_add_explicit(&b->records, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&b->bytes, bytes, memory_order_relaxed);
}

static inline void budget_give(struct budget *b, size_t bytes)
{
	atomic_fetch_sub_explicit(&b->records, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&b->bytes, bytes, memory_order_relaxed);
}

static inline bool budget_is_spent(const struct budget *b)
{
	return atomic_load_explicit(&b->records, memory_order_relaxed) >= b->records_max ||
	       atomic_load_explicit(&b->bytes, memory_order_relaxed) >= b->bytes_max;
}

static inline bool budget_has_room(const struct budget *b)
{
	return atomic_load_explicit(&b->records, memory_order_relaxed) <= b->records_max / 2 &&
	       atomic_load_explicit(&b->bytes, memory_order_relaxed) <= b->bytes_max / 2;
}

#endif
