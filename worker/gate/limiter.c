#include "worker/gate/limiter.h"

#include "common/ensure.h"

_Static_assert(EVENT_ID_CHARS_MAX <= UINT8_MAX, "id_len");
_Static_assert((LIMITER_SETS & (LIMITER_SETS - 1)) == 0, "the hash is masked");

void limiter_init(struct limiter *l, int64_t now_us)
{
	l->share = 1;
	l->now_us = now_us;
	/* Buckets of zeros are full from the first moment on. */
	l->clock_us = 1;
}

static void advance(struct limiter *l, int64_t now_us)
{
	if (now_us <= l->now_us)
		return;
	l->clock_us += (double)(now_us - l->now_us) * l->share;
	l->now_us = now_us;
}

void limiter_set_share(struct limiter *l, double share, int64_t now_us)
{
	advance(l, now_us);
	l->share = share > 1 ? 1 : share > 0 ? share : 0;
}

/* Whoever crafts ids that collide forgives other partners' debts while Redis is away: no more. */
static struct limiter_entry *find(struct limiter *l, struct slice id)
{
	struct limiter_entry *set = l->entries[slice_hash(id) & (LIMITER_SETS - 1)];
	struct limiter_entry *victim = &set[0];
	for (int i = 0; i < LIMITER_WAYS; i++) {
		struct limiter_entry *e = &set[i];
		if (e->id_len == id.len && memcmp(e->id, id.data, id.len) == 0)
			return e;
		if (victim->id_len != 0 && (e->id_len == 0 || e->bucket.full_at_us < victim->bucket.full_at_us))
			victim = e;
	}
	memcpy(victim->id, id.data, id.len);
	victim->id_len = (uint8_t)id.len;
	victim->bucket = (struct gcra){0};
	return victim;
}

struct gcra_answer limiter_charge(struct limiter *l, struct slice partner_id, const struct gcra_ask *ask,
                                  int64_t now_us)
{
	ENSURE(partner_id.len > 0 && partner_id.len <= EVENT_ID_CHARS_MAX);
	advance(l, now_us);
	struct gcra_ask own = *ask;
	own.burst = (int64_t)((double)ask->burst * l->share);
	if (own.burst < 1)
		own.burst = 1;
	return gcra_charge(&find(l, partner_id)->bucket, (int64_t)l->clock_us, &own);
}

double limiter_stretch(const struct limiter *l)
{
	return l->share > 1 / LIMITER_STRETCH_MAX ? 1 / l->share : LIMITER_STRETCH_MAX;
}
