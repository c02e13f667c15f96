#include "worker/ledger/tid_cache.h"

#include "common/ensure.h"

#include <stdlib.h>

enum { ENTRY_BITS = 16, TID_BITS = 48 };

/* 16 bits of the hash that do not choose the entry, so that orders of one entry are told apart, and 48 of the tid. */
struct tid_cache {
	uint64_t entries[1 << ENTRY_BITS]; /* 512 KiB: a worker's share of the orders that are alive, and to spare */
};

struct tid_cache *tid_cache_new(void)
{
	struct tid_cache *c = calloc(1, sizeof(*c));
	ENSURE(c);
	return c;
}

void tid_cache_free(struct tid_cache *c)
{
	free(c);
}

/* The low bits of an order's hash say which worker it is for: they are the same for all that come here. */
static uint64_t spread(struct slice order_id)
{
	return slice_hash(order_id) * UINT64_C(0x9e3779b97f4a7c15);
}

void tid_cache_put(struct tid_cache *c, struct slice order_id, uint64_t tid)
{
	ENSURE(tid >> TID_BITS == 0);
	uint64_t hash = spread(order_id);
	c->entries[hash >> (64 - ENTRY_BITS)] = hash << ENTRY_BITS >> TID_BITS << TID_BITS | tid;
}

uint64_t tid_cache_get(const struct tid_cache *c, struct slice order_id)
{
	uint64_t hash = spread(order_id);
	uint64_t entry = c->entries[hash >> (64 - ENTRY_BITS)];
	bool same = entry >> TID_BITS == hash << ENTRY_BITS >> TID_BITS;
	return same ? entry & ((UINT64_C(1) << TID_BITS) - 1) : TID_NONE;
}
