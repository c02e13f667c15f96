/*
 * Strings kept once each, until the pool is freed; equal strings are the same pointer.
 * Thread: one at a time. Owns: the copies.
 */
#ifndef WORKER_AUDIT_STRING_POOL_H
#define WORKER_AUDIT_STRING_POOL_H

#include "common/slice.h"

#include <stdint.h>

struct string_pool;
struct string_pool *string_pool_new(void);
void string_pool_free(struct string_pool *p);
/* Absent stays absent. */
struct slice string_pool_keep(struct string_pool *p, struct slice text);

/* FNV-1a: for tables in memory, not against adversaries (theirs were slow tables in an operator's command). */
uint64_t string_hash(struct slice text);

#endif
