/*
 * TLS below a connection to Redis: whoever answers must have a certificate of an authority that is trusted, for the very
 * host of the URL. hiredis_ssl compares no names; where hiredis has none, there is no TLS.
 * Internal to redis.c, as it names hiredis' type.
 */
#ifndef WORKER_GATE_REDIS_TLS_H
#define WORKER_GATE_REDIS_TLS_H

#include "worker/gate/redis_target.h"

struct redisContext;

/* Shakes hands, blocking, within the context's timeouts. Returns: 0; -1 and one line in `error`. */
must_use int redis_tls_start(struct redisContext *context, const struct redis_target *t, const struct redis_tls *tls,
                             char *error, size_t error_size);

#endif
