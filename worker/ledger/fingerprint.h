/*
 * The fingerprint of a log: what tells the log that progress was made in from another one of the same name (a topic
 * deleted and made again, a new cluster, a truncated log). It names one record, the last one settled: its offset, a hash
 * of key and value, and its time where that is the producer's. A mirror that keeps offsets has the same record there,
 * and may have given it another time of its own.
 *
 * The hash is stored, so it is the same in every release and on every machine. It protects against mistakes, not
 * against whoever may write to the topic: 64 bits, without a key, fast enough to be made of every record.
 *
 * Thread: any.
 */
#ifndef WORKER_LEDGER_FINGERPRINT_H
#define WORKER_LEDGER_FINGERPRINT_H

#include "common/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct fingerprint {
	bool exists;     /* false: no record is known, and the rest is zero */
	int64_t offset;
	uint64_t hash;
	int64_t time_ms; /* Unix; -1: the broker's, or none */
};

/* Of a record's bytes; null and empty differ. */
uint64_t fingerprint_hash(struct slice key, struct slice value);

/* Whether both name the same record of the same log. Times count where both are a producer's. */
bool fingerprint_matches(const struct fingerprint *a, const struct fingerprint *b);

#endif
