/*
 * The generic cell rate algorithm in exact integers, with a debt that may grow: all that is asked for is charged;
 * what is within the burst is granted now, and the rest is told how much has to be paid back before it is its turn.
 * What is kept is the theoretical arrival time: when the bucket is full again, in µs and a remainder in millionths of
 * a cell, so that a rate that does not divide a million does not drift.
 *
 * Over any T seconds at most burst + per_second × T cells are granted or come to their turn, and as many (less one)
 * while more is asked for. The turns that were told hold for one *generation* of the bucket: one that is new, or whose
 * rate is another one, draws a number, and is owed no more than a burst of what was owed before. Who shows the
 * generation that there is was charged already. A clock that goes back changes nothing of what is owed.
 *
 * The script in rate_limit.c does the same in Redis; a test compares them.
 * Thread: one at a time. Pure.
 */
#ifndef WORKER_GATE_GCRA_H
#define WORKER_GATE_GCRA_H

#include <stdint.h>

/* Bounds of per_second and burst: their product with a million stays exact in a double, for Lua. */
#define GCRA_RATE_MAX INT64_C(1000000)
#define GCRA_BURST_MAX INT64_C(1000000)
/* A cell, in the unit of the debt: what one µs at one a second pays back. */
#define GCRA_CELL INT64_C(1000000)
/* The most that is owed, four thousand million cells: below 2^53, for Lua. What goes beyond it is not charged. */
#define GCRA_DEBT_MAX INT64_C(4000000000000000)
/* Generations are 1 .. this: a double holds them. */
#define GCRA_GENERATION_MAX ((INT64_C(1) << 53) - 1)

/* Full at `full_at_us` + remainder / per_second µs; all zeros is a new bucket. */
struct gcra {
	int64_t full_at_us;
	int64_t remainder;  /* 0 .. per_second - 1 */
	int64_t per_second; /* as asked for last; 0: a new bucket */
	int64_t seen_us;    /* when it was charged last: a clock that is behind that has gone back */
	int64_t generation;
};

struct gcra_ask {
	int64_t per_second;
	int64_t burst;
	int64_t wanted; /* >= 0 */
	int64_t shown;  /* the generation in which these cells were charged before; 0: they were not */
	int64_t drawn;  /* random: what a new generation is called */
};

struct gcra_answer {
	int64_t granted;    /* of those wanted; the others are charged, too, and wait */
	int64_t over;       /* in millionths of a cell: what is to be paid back before the first that waits has its turn.
	                       When the generation is the one shown, before the last turn that was told */
	int64_t generation; /* the one shown: nothing was charged */
};

struct gcra_answer gcra_charge(struct gcra *g, int64_t now_us, const struct gcra_ask *ask);

/* How long `over` takes, rounded up. */
static inline int64_t gcra_wait_us(int64_t over, int64_t per_second)
{
	return (over + per_second - 1) / per_second;
}

#endif
