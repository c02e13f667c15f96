/*
 * How long a deferred record waits, and where: classes of waiting, slots, due times. Pure; the limiter that gives
 * the slots is in worker/gate, the headers that carry them in copy.c.
 *
 * The partitions of `.deferred` are classes: with P of them partition p has class floor(4p / P), whose delay is
 * rate.defer_ms × 4^class (D, 4D, 16D, 64D). Fewer than four partitions are fewer classes.
 *
 *  1. *Charged.* A record over its partner's limit is charged all the same: the limiter lets its debt grow. The
 *     moment at which that debt is paid is the record's *slot*. Fresh records of the partner queue behind it, since
 *     the debt is theirs to wait for, too.
 *  2. *Copied.* Its copy goes to the longest class whose delay is not beyond the slot, due after just that delay.
 *     When no delay fits any more it goes to class 0, due at its slot, rounded up to a grid so that a partition is
 *     not paused and resumed for each record.
 *  3. *Held.* The head of a partition is due at dw_not_before_ms, no later than its Kafka time plus its class's delay,
 *     nor later than that delay after this worker met it at the head: what a wrong clock or another option wrote holds
 *     nobody for longer.
 *  4. *Due before its slot.* It is copied again (2) under the slot that it has, and nothing is charged. From a class
 *     that is not the longest it goes on after three copies at the most, since less than four of its delays are left.
 *  5. *Due at its slot.* It passes. Until 2D after it, that is: whoever comes later (nobody worked meanwhile) is asked
 *     anew (1), or all that has become due in an outage would pass at once.
 *  6. *Void.* A slot is the limiter's word only while the partner's rate is what it was and the limiter's key is of the
 *     same generation (a key that was lost, or cut for another rate, draws a new one). Else: (1). Both are looked at
 *     each time that a copy is due. So is a slot void that lies more than 2D beyond what all that the key was charged
 *     with takes: another clock gave it, or the key has lost charges.
 *
 * So what passes in a time T is at most burst + rate × (T + 2D): slots are a cell of the rate apart, each is used once,
 * and none earlier than at its time or later than 2D after it. And a record is copied at most three times a class, once
 * for what is left in class 0, and once per longest delay, whatever stands before it [I15].
 *
 * A crash between any two of these:
 *   after (1), before the copy's report  its offset is not settled: read again, charged again. What was charged for
 *                                        nothing delays others, and lets nobody pass too much
 *   after the report, before the settling  read again, copied again: two copies, and the facts of an order merge to the
 *                                        same from either; both slots were paid for
 *   in (3)                               read again; the delay from meeting it begins anew
 *   in (4)                               as after (1), with nothing charged
 *   after (5), before the COMMIT is settled  read again within 2D it passes again, which merges to the same and posts
 *                                        nothing; later it is charged again
 *
 * A record that waits without a slot (its order holds a code that this binary does not know [I14]) begins in the
 * shortest class and goes to the next longer one with each copy, whose partition tells how far it is.
 */
#ifndef WORKER_PIPELINE_DEFERRAL_H
#define WORKER_PIPELINE_DEFERRAL_H

#include <stdbool.h>
#include <stdint.h>

enum { DEFERRAL_CLASSES = 4 };

/* The class of a partition, where `partitions` are known (> 0). A number beyond them is of the longest class. */
int deferral_class(int32_t partition, int32_t partitions);
int64_t deferral_delay_ms(int class, int64_t defer_ms);

/* Where a copy goes and when it is due. Any of the class's partitions will do: which one is for the caller to say. */
struct deferral {
	int32_t first, count; /* partitions; count 0: any at all, since their number is not known */
	int64_t not_before_ms;
};

/* `partitions` 0: not known. */
struct deferral deferral_until_slot(int64_t now_ms, int64_t slot_ms, int64_t defer_ms, int32_t partitions);
/* Without a slot. `from`: the partition of `.deferred` that it was read from; -1: it was not deferred before. */
struct deferral deferral_next(int64_t now_ms, int32_t from, int64_t defer_ms, int32_t partitions);

/* When the head of a partition of `.deferred` is due: Unix, at most the class's delay ahead of `now_ms`, when it was
 * met. `kafka_ms`: its own Kafka time; -1: none. */
int64_t deferral_due_ms(int64_t not_before_ms, int64_t kafka_ms, int64_t now_ms, int64_t delay_ms);

enum deferral_turn {
	DEFERRAL_EARLY, /* before its slot */
	DEFERRAL_NOW,
	DEFERRAL_LATE,  /* the slot is over */
};
enum deferral_turn deferral_turn(int64_t now_ms, int64_t slot_ms, int64_t defer_ms);

/* How long after its slot a record may pass, and the limiter has to remember the generation. */
static inline int64_t deferral_slot_life_ms(int64_t defer_ms)
{
	return 2 * defer_ms;
}

#endif
