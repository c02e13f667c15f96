/*
 * One connection to Redis with a deadline on everything; redis.c is the only file that includes hiredis.
 *
 *     struct redis *r = redis_connect(&target, &tls, timeout_ms, error, sizeof(error));
 *     redis_append(r, argc, argv, lengths); ...   // commands gather in memory
 *     if (redis_send(r, deadline_us) == 0)        // all written; replies may stay unread
 *         while (redis_owed(r) > 0 && redis_receive(r, deadline_us, &reply) == 0)
 *             ...
 *     redis_close(r);
 *
 * hiredis' own timeouts bound one read or write each, and a context that timed out is dead: here the socket
 * does not block, poll(2) waits until the deadline, and after the first -1 the connection is good for
 * redis_close only. What was sent may have run. While sending, replies are read, so neither side can wait for
 * the other. SIGPIPE must be ignored.
 *
 * Replies are read into one reused struct, without an allocation per element.
 * Thread: one at a time.
 */
#ifndef WORKER_GATE_REDIS_H
#define WORKER_GATE_REDIS_H

#include "common/ensure.h"
#include "common/slice.h"
#include "worker/gate/redis_target.h"

#include <stdbool.h>
#include <stdint.h>

struct redis;

enum redis_reply_kind {
	REPLY_STATUS,   /* `text` */
	REPLY_ERROR,    /* `text`, which begins with a code: "OOM", "NOSCRIPT" */
	REPLY_INTEGER,  /* `integer` */
	REPLY_TEXT,     /* `text` */
	REPLY_NIL,
	REPLY_INTEGERS, /* `integers`, `count` */
	REPLY_OTHER,    /* an array of anything else: its content is lost */
};

/* Good until the next redis_receive. */
struct redis_reply {
	enum redis_reply_kind kind;
	int64_t integer;
	struct slice text;
	const int64_t *integers;
	size_t count;
};

/* What the library is and can do: "hiredis 0.14.1, no TLS". */
const char *redis_library(void);
bool redis_can_tls(void);

/* Connects, authenticates, selects the database. Only the name's resolution is not bound by `timeout_ms`.
 * `tls`: of a target with TLS. Returns: NULL and one line in `error`, without user and password. */
must_use struct redis *redis_connect(const struct redis_target *t, const struct redis_tls *tls, int timeout_ms,
                                     char *error, size_t error_size);
void redis_close(struct redis *r); /* NULL is fine */

/* False when the other side has closed: costs one poll(2) that does not wait. */
bool redis_alive(const struct redis *r);
/* Replies not received yet. */
size_t redis_owed(const struct redis *r);

/* Adds one command; the arguments are copied. `lengths` may be NULL: strings. */
void redis_append(struct redis *r, int argc, const char *const *argv, const size_t *lengths);
/* Deadlines are of clock_mono_us. Returns: 0; -1, the reason is in redis_error. */
must_use int redis_send(struct redis *r, int64_t deadline_us);
/* The next reply that is owed. Error replies are replies. Returns: as redis_send. */
must_use int redis_receive(struct redis *r, int64_t deadline_us, struct redis_reply *reply);
/* One line; good until redis_close. */
const char *redis_error(const struct redis *r);

/* Whether an error reply has this code, its first word. */
bool redis_reply_is(const struct redis_reply *reply, const char *code);

#endif
