/*
 * What the worker wants to be fetched, partition by partition, and what librdkafka fetches. They are kept apart
 * because the answer to a rebalance and the start of its partitions are separate moments here:
 *
 *   1. librdkafka's callback runs inside our poll. An assignment is answered at once with an empty one
 *      (assignment_answer_empty): nothing is fetched. A revocation is not answered: librdkafka waits
 *      (WAIT_UNASSIGN_CALL), keeps up the heartbeats and fetches nothing, while the worker drains and polls on.
 *   2. poll delivers the event. Rebalance events are delivered in order, and none while a revocation
 *      waits for its release: the worker never sees a partition assigned anew that it has not let go.
 *   3. kafka_consumer_release answers the revocation, kafka_consumer_start brings partitions into
 *      librdkafka's assignment; both change the slots and call assignment_reconcile.
 *
 * rejoined-without-answer: an eager group may rejoin from WAIT_UNASSIGN_CALL by itself (the topics' metadata
 * changed). The next assignment then comes before our release, its empty answer takes back all that was
 * fetched, and the release has nothing left to tell librdkafka: an unassign then would undo the new assignment.
 *
 * assigned-twice: for the same reason an eager assignment that this thread has not polled yet may be followed by
 * another one without a revocation between. What the first one granted is then lost.
 *
 * early-answer: while librdkafka waits for the answer to a revocation, any incremental_unassign is that answer.
 * Changes asked for meanwhile wait in the slots until the release; nothing is fetched until then anyway.
 *
 * Thread: the consumer's.
 */
#ifndef WORKER_KAFKA_KAFKA_ASSIGNMENT_H
#define WORKER_KAFKA_KAFKA_ASSIGNMENT_H

#include "worker/kafka/kafka_internal.h"

/* A partition of a subscribed topic. */
struct slot {
	bool granted;     /* ours, as the callbacks told last */
	bool draining;    /* in the revocation that librdkafka waits for, and not lost: still ours to commit */
	bool assigned;    /* delivered to the worker as assigned; ends with its release */
	bool wanted;      /* started by the worker; ends with stop or release */
	bool fetching;    /* in librdkafka's assignment */
	bool restart;     /* fetching, but to be taken out and in again at `position` */
	bool paused;      /* by the worker, while wanted */
	bool waiting;     /* for others, as kafka_pace.c has it, which has these three, too: */
	bool at_end;      /* no record was returned since it was read to its end */
	bool silent;      /* others waited for it, and no record came */
	int64_t bytes;    /* returned of it, since it began where others were */
	bool held;        /* paused in librdkafka, where a pause outlives the assignment */
	int revocations;  /* that the callback saw and the worker did not release: 2 when events queue up */
	int64_t position; /* of the next record to return, while wanted */
};

struct assigned_topic {
	char *name;
	struct slot *slots;
	int32_t slot_count;
	int32_t partition_count; /* that the brokers have, as told at the latest assignment; 0: not known yet */
};

struct assignment {
	rd_kafka_t *rk; /* borrowed; set once it exists */
	struct assigned_topic *topics;
	size_t topic_count;
	bool cooperative; /* as the last rebalance told */
	bool answer_due;  /* librdkafka waits for the answer to a revocation */
	bool closing;     /* the group may end at any moment: see wait_for_main_thread */
};

void assignment_init(struct assignment *a, const char *const *topics, size_t topic_count);
void assignment_release(struct assignment *a);

/* Partitions that there are slots for. */
size_t assignment_size(const struct assignment *a);
/* Returns: NULL for a topic that is not subscribed. */
struct assigned_topic *assignment_topic(struct assignment *a, const char *name);
/* Makes room for `partition`. */
struct slot *assigned_topic_slot(struct assigned_topic *t, int32_t partition);
/* Returns: NULL for a partition that was never assigned. */
struct slot *assignment_slot(struct assignment *a, const char *topic, int32_t partition);

/* Answers librdkafka's assign callback. */
void assignment_answer_empty(struct assignment *a);
/* Makes librdkafka fetch what is wanted. `answer`: this is the release of the revocation that it waits for. */
void assignment_reconcile(struct assignment *a, bool answer);

#endif
