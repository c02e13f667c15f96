/*
 * The bounded queue between consumers and workers, sharded by order id: one shard a worker, so an order
 * is one worker's at a time, and its records reach it in the order in which they were read.
 *
 * What bounds it is the budget of records in flight (budget.h): nothing enters the queue that was not
 * counted there first.
 *
 * Thread: any. Lock: one a shard, held for a few pointers.
 */
#ifndef WORKER_PIPELINE_DISPATCH_H
#define WORKER_PIPELINE_DISPATCH_H

#include "worker/pipeline/record.h"

struct dispatch;

struct dispatch *dispatch_new(size_t shards);
void dispatch_free(struct dispatch *d); /* empty by now */

/* Owns: the record goes to the queue, then to the worker of its order's shard. A crash here costs
 * nothing: its offset is not settled, so not committed. */
void dispatch_put(struct dispatch *d, struct record *r);

/*
 * Waits until there is a record in the shard, `deadline_us` (monotonic) has passed, or the queue is closed; then
 * takes what is there, at most `max`. Before `full_until_us` (monotonic; 0: never) it takes nothing less than `max`,
 * while the queue is open.
 * Returns: false when closed and empty.
 */
bool dispatch_take(struct dispatch *d, size_t shard, size_t max, int64_t full_until_us, int64_t deadline_us,
                   struct record_list *out);

/* Nothing comes any more: takers leave once their shard is empty. */
void dispatch_close(struct dispatch *d);

/* Records queued in the shard. */
size_t dispatch_depth(struct dispatch *d, size_t shard);

#endif
