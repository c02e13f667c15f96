/*
 * Strings kept once each, until the pool is freed; equal strings are the same pointer.
 * Thread: one at a time. Owns: the copies.
 */
#ifndef WORKER_AUDIT_STRING_POOL_H
#define WORKER_AUDIT_STRING_POOL_H

#include "common/slice.h"

struct string_pool;
struct string_pool *string_pool_new(void);
void string_pool_free(struct string_pool *p);
/* Absent stays absent. */
struct slice string_pool_keep(struct string_pool *p, struct slice text);

#endif
