/*
 * What happens to partitions in one turn of a consumer, said in a line a kind and topic with compact ranges: one
 * rebalance touches many, and the log lets ten lines of a message pass in a second.
 *
 *     news_add(&n, NEWS_ASSIGNED, topic, 0, "")   // ... 1, 2, 4
 *     news_say(&n)                                // msg=partitions topic=delivery-events assigned=0-2,4
 *
 * Plain data. Thread: the consumer thread.
 */
#ifndef WORKER_PIPELINE_NEWS_H
#define WORKER_PIPELINE_NEWS_H

#include <stddef.h>
#include <stdint.h>

/* In the order in which they are said. */
enum news_kind {
	NEWS_LOST,     /* offsets are lost; `detail` is ":FROM-TO" */
	NEWS_ASSIGNED, /* by the group */
	NEWS_STARTS,   /* is read from here on; `detail` says from where */
	NEWS_RESTARTS, /* is read anew, by the start rule */
	NEWS_REVOKED,  /* by the group */
	NEWS_GONE,     /* is another's */
	NEWS_KIND_COUNT
};

enum { NEWS_DETAIL_BYTES = 96 };

struct news_item {
	enum news_kind kind;
	int32_t partition;
	const char *topic; /* the partition's, which the consumer keeps */
	char detail[NEWS_DETAIL_BYTES];
};

struct news {
	struct news_item *items; /* owned */
	size_t count, capacity;
};

/* `detail` is copied, cut if need be. */
void news_add(struct news *n, enum news_kind kind, const char *topic, int32_t partition, const char *detail);
/* Logs what was added, and forgets it. */
void news_say(struct news *n);
void news_release(struct news *n);

#endif
