#include "worker/ledger/tid_cache.h"

#include "common/ensure.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/*
 * A set is a line of the processor's cache, with the latest used in front. One entry an order, where its hash leads,
 * would forget half of 50,000 orders that are alive among 65,536 entries, since those that are over displace them.
 */
enum { SET_BITS = 15, WAYS = 8, TID_BITS = 48 };

/* 16 bits of the hash that do not choose the set, so that orders of one set are told apart, and 48 of the tid. */
struct set {
	uint64_t entries[WAYS];
};

struct tid_cache {
	void *memory;
	struct set *sets; /* 2 MiB: more than a worker's share of the orders that are alive */
};

struct tid_cache *tid_cache_new(void)
{
	struct tid_cache *c = malloc(sizeof(*c));
	ENSURE(c);
	/* calloc leaves what it has from the system untouched, which aligned_alloc and memset would not. */
	c->memory = calloc((1 << SET_BITS) + 1, sizeof(struct set));
	ENSURE(c->memory);
	uintptr_t past = (uintptr_t)c->memory % sizeof(struct set);
	c->sets = (struct set *)((char *)c->memory + (past ? sizeof(struct set) - past : 0));
	return c;
}

void tid_cache_free(struct tid_cache *c)
{
	if (!c)
		return;
	free(c->memory);
	free(c);
}

/* The low bits of an order's hash say which worker it is for: they are the same for all that come here. */
uint64_t tid_cache_key(struct slice order_id)
{
	return slice_hash(order_id) * UINT64_C(0x9e3779b97f4a7c15);
}

static struct set *set_of(const struct tid_cache *c, uint64_t key)
{
	return &c->sets[key >> (64 - SET_BITS)];
}

static uint64_t tag_of(uint64_t key)
{
	return key << SET_BITS >> TID_BITS;
}

static int find(const struct set *set, uint64_t tag)
{
	int i = 0;
	while (i < WAYS && set->entries[i] >> TID_BITS != tag)
		i++;
	return i;
}

static void put_in_front(struct set *set, int at, uint64_t entry)
{
	memmove(&set->entries[1], &set->entries[0], (size_t)at * sizeof(entry));
	set->entries[0] = entry;
}

void tid_cache_prefetch(const struct tid_cache *c, uint64_t key)
{
	__builtin_prefetch(set_of(c, key), 1);
}

void tid_cache_put(struct tid_cache *c, uint64_t key, uint64_t tid)
{
	ENSURE(tid >> TID_BITS == 0);
	struct set *set = set_of(c, key);
	int at = find(set, tag_of(key));
	put_in_front(set, at < WAYS ? at : WAYS - 1, tag_of(key) << TID_BITS | tid);
}

uint64_t tid_cache_get(struct tid_cache *c, uint64_t key)
{
	struct set *set = set_of(c, key);
	int at = find(set, tag_of(key));
	if (at == WAYS)
		return TID_NONE;
	uint64_t entry = set->entries[at];
	put_in_front(set, at, entry);
	return entry & ((UINT64_C(1) << TID_BITS) - 1);
}
