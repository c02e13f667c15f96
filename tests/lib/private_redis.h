/*
 * A Redis server for one test: on a free loopback port and a socket in a temporary folder, without
 * persistence: what it forgets, it forgets for good. Test sources include private_redis.c.
 *
 * The server dies with the process that started it.
 */
#ifndef TESTS_LIB_PRIVATE_REDIS_H
#define TESTS_LIB_PRIVATE_REDIS_H

#include <stdbool.h>
#include <sys/types.h>

struct private_redis {
	char folder[64];
	char socket[96];
	int port;
	pid_t pid; /* 0: not running */
	int output; /* read end of its log */
};

/* `option` and `value` go to the server's command line; NULL for none. Returns: false after saying why on stderr. */
bool private_redis_start(struct private_redis *s, const char *option, const char *value);
/* Ends the server at once. */
void private_redis_crash(struct private_redis *s);
/* Starts it on the same port again, empty, and waits until it answers. */
bool private_redis_launch(struct private_redis *s, const char *option, const char *value);
/* Ends the server and removes its folder. */
void private_redis_stop(struct private_redis *s);

#endif
