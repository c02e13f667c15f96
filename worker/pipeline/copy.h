/*
 * The copies that a record may get: a dead letter, or a deferral. Key, value and headers are the
 * original's, byte for byte, followed by ours; when a record was read from the deferred topic, our headers of
 * that copy are left out, and provenance stays the original's.
 *
 * Thread: a builder is one thread's. A message is good until the builder's next call, and as long as the record.
 */
#ifndef WORKER_PIPELINE_COPY_H
#define WORKER_PIPELINE_COPY_H

#include "common/buf.h"
#include "worker/pipeline/record.h"

struct copy_builder {
	struct header *headers;
	size_t capacity;
	size_t count;
	struct buf text; /* values of our headers */
};

void copy_builder_init(struct copy_builder *b);
void copy_builder_release(struct copy_builder *b);

void copy_dead_letter(struct copy_builder *b, const struct record *r, const char *topic, const char *worker_name,
                      struct kafka_message *out);
/* Which partition, and due when: deferral.h. A record without a slot ahead says so, as a slot of 0. */
void copy_deferral(struct copy_builder *b, const struct record *r, const char *topic, int32_t partition,
                   int64_t not_before_ms, struct kafka_message *out);

/*
 * Reads our headers from a record of the deferred topic: provenance, due time and slot. Without them (someone
 * else's record) these stay as they are. They are believed on that topic only.
 */
void copy_read_headers(struct record *r);

/* The timestamp that counts for a record of the deferred topic; `own_us` when it carries none. */
int64_t copy_source_timestamp(const struct header *headers, size_t count, int64_t own_us);

#endif
