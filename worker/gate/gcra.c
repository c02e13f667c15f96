#include "worker/gate/gcra.h"

#include "common/ensure.h"

#include <stdbool.h>

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t debt_of(const struct gcra *g, int64_t now_us, int64_t per_second)
{
	int64_t ahead_us = g->full_at_us - (g->seen_us > now_us ? g->seen_us : now_us);
	if (ahead_us < 0)
		return 0;
	/* This spares the product its overflow. */
	if (ahead_us >= GCRA_DEBT_MAX / per_second)
		return GCRA_DEBT_MAX;
	return ahead_us * per_second + min(g->remainder, per_second - 1);
}

struct gcra_answer gcra_charge(struct gcra *g, int64_t now_us, const struct gcra_ask *ask)
{
	ENSURE(ask->per_second >= 1 && ask->per_second <= GCRA_RATE_MAX && ask->burst >= 1 &&
	       ask->burst <= GCRA_BURST_MAX && ask->wanted >= 0 && ask->drawn > 0);

	int64_t debt = debt_of(g, now_us, ask->per_second), free_debt = ask->burst * GCRA_CELL;
	bool anew = g->per_second != ask->per_second;
	if (anew)
		debt = min(debt, free_debt);
	int64_t generation = anew ? ask->drawn : g->generation;
	if (generation == ask->shown)
		return (struct gcra_answer){ask->wanted, max(0, debt - free_debt), generation};

	int64_t granted = max(0, min(ask->wanted, (free_debt - debt) / GCRA_CELL));
	int64_t over = max(0, debt + (granted + 1) * GCRA_CELL - free_debt);
	debt = min(debt + min(ask->wanted, GCRA_DEBT_MAX / GCRA_CELL) * GCRA_CELL, GCRA_DEBT_MAX);
	*g = (struct gcra){.full_at_us = now_us + debt / ask->per_second,
	                   .remainder = debt % ask->per_second,
	                   .per_second = ask->per_second,
	                   .seen_us = now_us,
	                   .generation = generation};
	return (struct gcra_answer){granted, over, generation};
}
