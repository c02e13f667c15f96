#include "worker/pipeline/dispatch.h"

#include "common/ensure.h"
#include "common/thread.h"

#include <stdalign.h>
#include <stdlib.h>

/* On a cache line of its own: shards are used by different threads all the time. */
struct shard {
	alignas(64) pthread_mutex_t lock;
	pthread_cond_t filled;
	struct record_list queue;
	size_t wanted; /* the taker sleeps until there are so many; 0: it does not */
	bool closed;
};

struct dispatch {
	size_t count;
	struct shard *shards;
};

struct dispatch *dispatch_new(size_t shards)
{
	struct dispatch *d = calloc(1, sizeof(*d));
	ENSURE(d);
	d->count = shards;
	d->shards = aligned_alloc(alignof(struct shard), shards * sizeof(struct shard));
	ENSURE(d->shards);
	for (size_t i = 0; i < shards; i++) {
		d->shards[i] = (struct shard){.closed = false};
		mutex_init(&d->shards[i].lock);
		cond_init(&d->shards[i].filled);
	}
	return d;
}

void dispatch_free(struct dispatch *d)
{
	for (size_t i = 0; i < d->count; i++) {
		ENSURE(d->shards[i].queue.count == 0);
		cond_destroy(&d->shards[i].filled);
		mutex_destroy(&d->shards[i].lock);
	}
	free(d->shards);
	free(d);
}

/* Order ids that were chosen to collide would make one worker busier than the others, no more. */
static size_t shard_of(const struct dispatch *d, struct slice order_id)
{
	return (size_t)(slice_hash(order_id) % d->count);
}

void dispatch_put(struct dispatch *d, struct record *r)
{
	struct shard *s = &d->shards[shard_of(d, r->event.order_id)];
	mutex_lock(&s->lock);
	ENSURE(!s->closed);
	record_list_append(&s->queue, r);
	bool wake = s->wanted && s->queue.count >= s->wanted;
	if (wake)
		s->wanted = 0;
	mutex_unlock(&s->lock); /* the record is the worker's */
	if (wake)
		cond_signal(&s->filled);
}

/* Under the lock. Sleeps until there are `wanted` records, it is `until_us`, or nothing comes any more. */
static void await(struct shard *s, size_t wanted, int64_t until_us)
{
	while (s->queue.count < wanted && !s->closed) {
		s->wanted = wanted;
		if (!cond_wait_until(&s->filled, &s->lock, until_us))
			break;
	}
	s->wanted = 0;
}

bool dispatch_take(struct dispatch *d, size_t shard, size_t max, int64_t full_until_us, int64_t deadline_us,
                   struct record_list *out)
{
	struct shard *s = &d->shards[shard];
	mutex_lock(&s->lock);
	if (full_until_us)
		await(s, max, full_until_us);
	await(s, 1, deadline_us);
	if (s->queue.count <= max) {
		record_list_join(out, &s->queue);
	} else {
		for (size_t i = 0; i < max; i++)
			record_list_append(out, record_list_take(&s->queue));
	}
	bool more = !s->closed || s->queue.count > 0 || out->count > 0;
	mutex_unlock(&s->lock);
	return more;
}

void dispatch_close(struct dispatch *d)
{
	for (size_t i = 0; i < d->count; i++) {
		struct shard *s = &d->shards[i];
		mutex_lock(&s->lock);
		s->closed = true;
		mutex_unlock(&s->lock);
		cond_signal(&s->filled);
	}
}

size_t dispatch_depth(struct dispatch *d, size_t shard)
{
	struct shard *s = &d->shards[shard];
	mutex_lock(&s->lock);
	size_t depth = s->queue.count;
	mutex_unlock(&s->lock);
	return depth;
}
