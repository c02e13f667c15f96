/*
 * The generic cell rate algorithm in exact integers. What is kept is the theoretical arrival time: when
 * the bucket is full again, in µs and a remainder in millionths of a cell, so that a rate that does not
 * divide a million does not drift.
 *
 * Over any T seconds at most burst + per_second × T cells are granted, and as many (less one) to whoever
 * always asks. When rate or burst changed between calls, or the clock went back, what is owed is cut to one burst
 * of the new kind, so the new limit is in force burst / per_second later.
 * The script in rate_limit.c does the same in Redis; a test compares them.
 * Thread: one at a time. Pure.
 */
#ifndef WORKER_GATE_GCRA_H
#define WORKER_GATE_GCRA_H

#include <stdint.h>

/* Bounds of per_second and burst: their product with a million stays exact in a double, for Lua. */
#define GCRA_RATE_MAX INT64_C(1000000)
#define GCRA_BURST_MAX INT64_C(1000000)

/* Full at `full_at_us` + remainder / per_second µs; all zeros is a full bucket. */
struct gcra {
	int64_t full_at_us;
	int64_t remainder; /* 0 .. per_second - 1 */
};

/* Takes up to `wanted` cells (>= 0). Returns: how many were there. What is denied is not charged. */
int64_t gcra_take(struct gcra *g, int64_t now_us, int64_t per_second, int64_t burst, int64_t wanted);

#endif
