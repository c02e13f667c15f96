/*
 * Where the rows of orders were when they were last written or read: hints, by which a row is found without the way
 * down an index, whatever its size. A hint may be wrong in every way: the row has moved, is gone, or the place is
 * another order's. Whoever follows one compares the id.
 * Fixed memory, which becomes resident as it comes into use: an order displaces another now and then.
 * Thread: one.
 */
#ifndef WORKER_LEDGER_TID_CACHE_H
#define WORKER_LEDGER_TID_CACHE_H

#include "common/slice.h"

#include <stdint.h>

/* A tid: page << 16 | item, of 48 bits. Items count from 1, so 0 is none. */
enum { TID_NONE = 0 };

struct tid_cache;
struct tid_cache *tid_cache_new(void);
void tid_cache_free(struct tid_cache *c);
void tid_cache_put(struct tid_cache *c, struct slice order_id, uint64_t tid);
uint64_t tid_cache_get(const struct tid_cache *c, struct slice order_id);

#endif
