/*
 * Where the rows of orders were when they were last written or read: hints, by which a row is found without the way
 * down an index, whatever its size. A hint may be wrong in every way: the row has moved, is gone, or the place is
 * another order's. Whoever follows one compares the id.
 * Fixed memory, which becomes resident as it comes into use, for 262,144 orders: a new one displaces, of eight, that
 * which was not used for the longest time.
 * Thread: one.
 */
#ifndef WORKER_LEDGER_TID_CACHE_H
#define WORKER_LEDGER_TID_CACHE_H

#include "common/slice.h"

#include <stdint.h>

/* A tid: page << 16 | item, of 48 bits. Items count from 1, so 0 is none. */
enum { TID_NONE = 0, TID_ITEM_BITS = 16 };

struct tid_cache;
struct tid_cache *tid_cache_new(void);
void tid_cache_free(struct tid_cache *c);

/* What an order is known by. */
uint64_t tid_cache_key(struct slice order_id);
/* Ahead of a put or a get: what it needs is on its way to the processor. */
void tid_cache_prefetch(const struct tid_cache *c, uint64_t key);
void tid_cache_put(struct tid_cache *c, uint64_t key, uint64_t tid);
/* Returns: TID_NONE when there is none. */
uint64_t tid_cache_get(struct tid_cache *c, uint64_t key);

#endif
