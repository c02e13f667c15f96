/* The fingerprint of a record, of whoever has read it. Thread: any. */
#ifndef WORKER_KAFKA_KAFKA_FINGERPRINT_H
#define WORKER_KAFKA_KAFKA_FINGERPRINT_H

#include "worker/kafka/kafka.h"
#include "worker/ledger/fingerprint.h"

static inline struct fingerprint fingerprint_of_record(const struct kafka_record *k)
{
	bool timed = k->producers_time && k->timestamp_us >= 0;
	return (struct fingerprint){true, k->offset, fingerprint_hash(k->key, k->value),
	                            timed ? k->timestamp_us / 1000 : -1};
}

#endif
