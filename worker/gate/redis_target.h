/*
 * Where Redis is, out of its URL:
 *     redis://[[user]:password@]host[:port][/db]    rediss://… for TLS    unix://[[user]:password@]/path
 * User and password are percent-decoded. Errors never quote a part of the URL: with a stray `/` or `@` in
 * it, any part may be the password.
 * Thread: any; pure.
 */
#ifndef WORKER_GATE_REDIS_TARGET_H
#define WORKER_GATE_REDIS_TARGET_H

#include "common/ensure.h"

#include <stdbool.h>
#include <stddef.h>

enum { REDIS_PORT = 6379 };

struct redis_target {
	char host[256];      /* or the path of a socket */
	int port;            /* 0: `host` is a path */
	int db;
	bool tls;
	bool authenticate;   /* with `password`, and with `user` unless it is empty */
	char user[128];
	char password[1024]; /* managed services hand out signed tokens */
};

/* Files of rediss://; NULL or "" where there is none. */
struct redis_tls {
	const char *ca;   /* none: the system's authorities */
	const char *cert; /* shown to the server, with `key` */
	const char *key;
};

static inline bool redis_tls_file(const char *path)
{
	return path && path[0];
}

/* Returns: 0 and *out; -1 and one line in `error`. */
must_use int redis_target_parse(const char *url, struct redis_target *out, char *error, size_t error_size);

/* "host:port/db" or the path, without user and password. */
void redis_target_name(const struct redis_target *t, char *name, size_t size);

#endif
