/*
 * A relay in front of a private PostgreSQL, for what happens between two messages: a connection cut
 * while the answer to COMMIT is on its way, another session that acts between a read and its use.
 * Test sources include postgres_proxy.c.
 *
 *     postgres_proxy_start(&proxy, server.folder);
 *     ... connect to proxy.dsn ...
 *     postgres_proxy_arm(&proxy, "write_witness", PROXY_CUT_AT_ANSWER, NULL, NULL);
 *     ... the next message that holds the text is dealt with so, once ...
 *     postgres_proxy_stop(&proxy);
 *
 * A text is found where it arrives in one piece: in pipelines of up to 64 KB, which libpq sends at once.
 * Thread: arm from any, also from within `hook`, which runs on the relay's own thread.
 */
#ifndef TESTS_LIB_POSTGRES_PROXY_H
#define TESTS_LIB_POSTGRES_PROXY_H

#include <pthread.h>
#include <stdbool.h>

enum proxy_act {
	PROXY_NOTE,           /* it is counted, no more */
	PROXY_CUT_INSTEAD,    /* the server never sees it: both sides are closed */
	PROXY_CUT_AT_ANSWER,  /* the server's answer is dropped, and the connection closed */
	PROXY_HOOK_BEFORE,    /* `hook` runs, then it is passed on */
	PROXY_HOOK_AT_ANSWER, /* it is passed on; `hook` runs between the answer and its passing on */
	PROXY_CUT_AFTER,      /* it is passed on and the connection closed at once: the server works on alone */
};

typedef void proxy_hook(void *owner);

enum { PROXY_PAIRS_MAX = 8 };

struct proxy_pair {
	int client, server;    /* -1: closed */
	enum proxy_act awaits; /* PROXY_NOTE: nothing special about the next answer */
};

struct postgres_proxy {
	char folder[64];
	char dsn[160];
	char server[128]; /* path of the server's socket */
	int listener;
	int stop[2]; /* a pipe */
	pthread_t thread;
	struct proxy_pair pairs[PROXY_PAIRS_MAX];

	pthread_mutex_t lock;
	const char *text; /* NULL: not armed */
	enum proxy_act act;
	proxy_hook *hook;
	void *owner;
	int fired;
};

/* `folder`: of the server's socket. Returns: false when the relay can't be set up. */
bool postgres_proxy_start(struct postgres_proxy *p, const char *folder);
void postgres_proxy_arm(struct postgres_proxy *p, const char *text, enum proxy_act act, proxy_hook *hook, void *owner);
/* How many armed texts have come by since the start. */
int postgres_proxy_fired(struct postgres_proxy *p);
void postgres_proxy_stop(struct postgres_proxy *p);

#endif
