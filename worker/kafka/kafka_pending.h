/*
 * Events between librdkafka's callback and the poll that delivers them, and until the poll after that.
 * Thread: the consumer's. Owns: a queue its items; what was taken out is the taker's to free(3).
 */
#ifndef WORKER_KAFKA_KAFKA_PENDING_H
#define WORKER_KAFKA_KAFKA_PENDING_H

#include "worker/kafka/kafka.h"

struct pending {
	struct pending *next;
	enum kafka_event_kind kind;
	const char *commit_error; /* a constant of librdkafka's */
	char error[sizeof(((struct kafka_event *)0)->error)];
	size_t partition_count;
	struct kafka_partition partitions[];
};

struct pending_queue {
	struct pending *first;
	struct pending **end;
};

/* With room for `partitions_max` partitions, none in it yet. */
struct pending *pending_new(enum kafka_event_kind kind, size_t partitions_max);
void pending_add_partition(struct pending *p, const char *topic, int32_t partition);

void pending_queue_init(struct pending_queue *q);
void pending_queue_release(struct pending_queue *q);
void pending_queue_put(struct pending_queue *q, struct pending *p);
/* Returns: NULL if there is none. */
struct pending *pending_queue_take(struct pending_queue *q);
bool pending_queue_has_revocation(const struct pending_queue *q);

#endif
