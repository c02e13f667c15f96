/*
 * Whether brokers throttle this process by a quota. A throttled connection is muted by its broker for the time that the
 * broker has told, so the next question on it is answered late, or not in time: that is no outage.
 */
#include "worker/kafka/kafka.h"

#include <stdatomic.h>

/* From one notice to the next, and for an answer that was already late. */
enum { HOLD_MS = 5000 };

static _Atomic int64_t until_ms; /* monotonic; 0: never yet */

void kafka_note_throttle(int64_t now_ms, int throttle_ms)
{
	int64_t end_ms = now_ms + throttle_ms, known_ms = atomic_load(&until_ms);
	if (throttle_ms <= 0)
		return;
	while (known_ms < end_ms && !atomic_compare_exchange_weak(&until_ms, &known_ms, end_ms))
		;
}

bool kafka_is_throttled(int64_t now_ms)
{
	int64_t known_ms = atomic_load(&until_ms);
	return known_ms && now_ms < known_ms + HOLD_MS;
}
