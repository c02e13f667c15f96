#include "worker/gate/outage.h"

#include "common/ensure.h"

enum outage_turn outage_ask(struct outage *o, int64_t now_us)
{
	if (!o->down)
		return OUTAGE_GO;
	if (o->probing || now_us < o->retry_at_us)
		return OUTAGE_SKIP;
	o->probing = true;
	return OUTAGE_PROBE;
}

bool outage_failed(struct outage *o, bool prober, int64_t now_us, uint32_t chance)
{
	ENSURE(!prober || (o->down && o->probing));
	if (o->down && !prober)
		return false;

	bool well_long_enough = !o->down && now_us - o->up_since_us >= OUTAGE_FORGET_US;
	if (o->delay_us == 0 || well_long_enough)
		o->delay_us = OUTAGE_DELAY_MIN_US;
	else if (o->delay_us > OUTAGE_DELAY_MAX_US / 2)
		o->delay_us = OUTAGE_DELAY_MAX_US;
	else
		o->delay_us *= 2;

	int64_t shortest = o->delay_us - o->delay_us / 4;
	o->retry_at_us = now_us + shortest + chance % (o->delay_us / 2 + 1);
	o->probing = false;
	bool went_down = !o->down;
	o->down = true;
	return went_down;
}

void outage_succeeded(struct outage *o, int64_t now_us)
{
	ENSURE(o->down && o->probing);
	o->down = false;
	o->probing = false;
	o->up_since_us = now_us;
}
