#include "worker/kafka/kafka_pending.h"

#include <stdlib.h>

struct pending *pending_new(enum kafka_event_kind kind, size_t partitions_max)
{
	struct pending *p = calloc(1, sizeof(*p) + partitions_max * sizeof(p->partitions[0]));
	ENSURE(p != NULL);
	p->kind = kind;
	return p;
}

void pending_add_partition(struct pending *p, const char *topic, int32_t partition)
{
	p->partitions[p->partition_count++] = (struct kafka_partition){topic, partition, -1};
}

void pending_queue_init(struct pending_queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

void pending_queue_put(struct pending_queue *q, struct pending *p)
{
	p->next = NULL;
	*q->end = p;
	q->end = &p->next;
}

struct pending *pending_queue_take(struct pending_queue *q)
{
	struct pending *p = q->first;
	if (!p)
		return NULL;
	q->first = p->next;
	if (!q->first)
		q->end = &q->first;
	return p;
}

void pending_queue_release(struct pending_queue *q)
{
	for (struct pending *p; (p = pending_queue_take(q)) != NULL;)
		free(p);
}

bool pending_queue_has_revocation(const struct pending_queue *q)
{
	for (const struct pending *p = q->first; p; p = p->next) {
		if (p->kind == KAFKA_REVOKED || p->kind == KAFKA_LOST)
			return true;
	}
	return false;
}
