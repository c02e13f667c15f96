/*
 * The only place that reads clocks. What decides a record's fate takes `now` as an argument.
 * Thread: any.
 */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC: for timeouts, backoff, durations. */
int64_t clock_mono_us(void);

/* Microseconds since the Unix epoch: for what is compared with timestamps of records and servers. */
int64_t clock_wall_us(void);

static inline int64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

#endif
