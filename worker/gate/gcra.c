#include "worker/gate/gcra.h"

#include "common/ensure.h"

#include <stdbool.h>

#define CELL INT64_C(1000000) /* in the unit of the debt: what one µs at one a second pays back */

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t gcra_take(struct gcra *g, int64_t now_us, int64_t per_second, int64_t burst, int64_t wanted)
{
	ENSURE(per_second >= 1 && per_second <= GCRA_RATE_MAX && burst >= 1 && burst <= GCRA_BURST_MAX && wanted >= 0);

	int64_t debt = 0, debt_max = burst * CELL;
	int64_t ahead_us = g->full_at_us - now_us;
	/* A million seconds ahead owe more than any burst, at any rate: this spares the product its overflow. */
	if (ahead_us > GCRA_BURST_MAX * CELL)
		debt = INT64_MAX;
	else if (ahead_us >= 0)
		debt = ahead_us * per_second + min(g->remainder, per_second - 1);

	/* More than a burst is owed when the limits changed or the clock went back: kept as one, or it would last. */
	bool cut = debt > debt_max;
	debt = min(debt, debt_max);
	int64_t granted = min(wanted, (debt_max - debt) / CELL);
	if (granted == 0 && !cut)
		return 0;
	debt += granted * CELL;
	g->full_at_us = now_us + debt / per_second;
	g->remainder = debt % per_second;
	return granted;
}
