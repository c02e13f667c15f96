/*
 * /metrics, /livez and /readyz, on a thread of their own: it answers when the rest is wedged. One server
 * a process.
 *
 *     char error[256];
 *     if (http_start("127.0.0.1:9464", "delivery-worker", error, sizeof(error)) != 0) ...;
 *     ... http_port() ...
 *     http_stop();
 *
 * GET and HEAD only. A connection carries one request and lives HTTP_LIFE_S at most, whatever it sends or reads;
 * request heads over HTTP_HEAD_BYTES_MAX and bodies are refused. HTTP_CONNECTIONS_MAX connections at a time [I8]: for
 * the next one the slowest is closed, the oldest without a whole request first, then the oldest that does not read its
 * answer, so that a crowd of slow clients keeps no probe from being answered. http.c is the only file that knows libevent.
 * Thread: start and stop from one, the port from any.
 */
#ifndef WORKER_OBSERVE_HTTP_H
#define WORKER_OBSERVE_HTTP_H

#include "common/ensure.h"

#include <stddef.h>
#include <stdint.h>

enum {
	HTTP_CONNECTIONS_MAX = 64,
	HTTP_HEAD_BYTES_MAX = 8 * 1024,
	HTTP_IDLE_S = 5,  /* without a byte read or written */
	HTTP_LIFE_S = 10, /* from accept to close: a client that drips bytes ends here */
};

enum http_result {
	HTTP_STARTED = 0,
	HTTP_UNBOUND = -1, /* the address is malformed, unknown or not ours to bind */
	HTTP_TAKEN = -2,   /* another socket listens there */
};

/*
 * Binds `listen` ("host:port", "[::1]:port"; port 0 takes a free one) and starts answering. `group` is the
 * label of the lag families, copied.
 * Returns: HTTP_STARTED; else what is wrong, and one line in `error`.
 */
must_use enum http_result http_start(const char *listen, const char *group, char *error, size_t error_size);

/* The port that was bound. */
uint16_t http_port(void);

/* Ends the thread and every open connection, answered or not. Does nothing when not started. */
void http_stop(void);

#endif
