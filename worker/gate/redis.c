#include "worker/gate/redis.h"

#include "common/buf.h"
#include "common/clock.h"
#include "worker/gate/redis_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#if HIREDIS_MAJOR < 1
#include <hiredis/sds.h>
#endif
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct redis {
	redisContext *context;
	size_t owed;
	struct redis_reply reply; /* filled by the reader, piece by piece */
	int64_t *integers;
	size_t integers_capacity;
	struct buf text;
	char error[192];
};

/* ---- replies: what hiredis' parser calls instead of building a tree of allocations ---- */

static void *whole(struct redis *r, enum redis_reply_kind kind)
{
	r->reply = (struct redis_reply){.kind = kind};
	return r;
}

static void *on_string(const redisReadTask *task, char *text, size_t len)
{
	struct redis *r = task->privdata;
	if (task->parent) {
		r->reply.kind = REPLY_OTHER;
		return r;
	}
	buf_clear(&r->text);
	buf_append(&r->text, text, len);
	switch (task->type) {
	case REDIS_REPLY_ERROR:
		whole(r, REPLY_ERROR);
		break;
	case REDIS_REPLY_STATUS:
		whole(r, REPLY_STATUS);
		break;
	default:
		whole(r, REPLY_TEXT);
		break;
	}
	r->reply.text = buf_slice(&r->text);
	return r;
}

#if HIREDIS_MAJOR >= 1
static void *on_array(const redisReadTask *task, size_t elements)
{
#else
static void *on_array(const redisReadTask *task, int elements)
{
#endif
	struct redis *r = task->privdata;
	if (task->parent) {
		r->reply.kind = REPLY_OTHER;
		return r;
	}
	size_t count = (size_t)elements;
	if (count > r->integers_capacity) {
		int64_t *grown = realloc(r->integers, count * sizeof(*grown));
		if (!grown)
			return NULL; /* hiredis makes it an error of the connection */
		r->integers = grown;
		r->integers_capacity = count;
	}
	whole(r, REPLY_INTEGERS);
	r->reply.integers = r->integers;
	r->reply.count = count;
	return r;
}

static void *on_integer(const redisReadTask *task, long long value)
{
	struct redis *r = task->privdata;
	if (!task->parent) {
		whole(r, REPLY_INTEGER);
		r->reply.integer = value;
	} else if (r->reply.kind == REPLY_INTEGERS) {
		r->integers[task->idx] = value;
	}
	return r;
}

static void *on_nil(const redisReadTask *task)
{
	struct redis *r = task->privdata;
	if (task->parent)
		r->reply.kind = REPLY_OTHER;
	else
		whole(r, REPLY_NIL);
	return r;
}

/* Replies live in struct redis. */
static void on_free(void *reply)
{
	(void)reply;
}

static redisReplyObjectFunctions reply_functions = {
	.createString = on_string,
	.createArray = on_array,
	.createInteger = on_integer,
	.createNil = on_nil,
	.freeObject = on_free,
};

bool redis_reply_is(const struct redis_reply *reply, const char *code)
{
	size_t len = strlen(code);
	return reply->kind == REPLY_ERROR && reply->text.len >= len && memcmp(reply->text.data, code, len) == 0 &&
	       (reply->text.len == len || reply->text.data[len] == ' ');
}

/* ---- waiting ---- */

static int fail(struct redis *r, const char *reason)
{
	snprintf(r->error, sizeof(r->error), "%s", reason);
	return -1;
}

static int fail_from_context(struct redis *r)
{
	return fail(r, r->context->errstr[0] ? r->context->errstr : "connection lost");
}

/* Returns: 0 when the socket is ready, or nearly; -1 past the deadline. */
static int wait_for(struct redis *r, short events, int64_t deadline_us)
{
	int64_t left_us = deadline_us - clock_mono_us();
	if (left_us <= 0)
		return fail(r, "timed out");
	struct pollfd p = {.fd = r->context->fd, .events = events};
	int64_t left_ms = (left_us + 999) / 1000;
	/* A signal or an error of the socket shows at the next read or write. */
	(void)poll(&p, 1, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
	return 0;
}

/* Writes what the socket takes. Returns: 0 with *done when that was all; -1. */
static int write_some(struct redis *r, int *done)
{
#if HIREDIS_MAJOR >= 1
	return redisBufferWrite(r->context, done) == REDIS_OK ? 0 : fail_from_context(r);
#else
	/* That of 0.14 begins a new buffer when the old one is written, and looks into it without asking whether there
	 * was memory for it. Here the buffer stays. */
	redisContext *c = r->context;
	size_t len = sdslen(c->obuf);
	ssize_t written = len ? send(c->fd, c->obuf, len, MSG_NOSIGNAL) : 0;
	if (written < 0 && errno != EAGAIN && errno != EINTR)
		return fail(r, strerror(errno));
	if (written > 0)
		sdsrange(c->obuf, (int)written, -1);
	*done = sdslen(c->obuf) == 0;
	return 0;
#endif
}

int redis_send(struct redis *r, int64_t deadline_us)
{
	for (;;) {
		int done = 0;
		if (write_some(r, &done) < 0)
			return -1;
		if (done)
			return 0;
		if (wait_for(r, POLLIN | POLLOUT, deadline_us) < 0)
			return -1;
		if (redisBufferRead(r->context) != REDIS_OK)
			return fail_from_context(r);
	}
}

int redis_receive(struct redis *r, int64_t deadline_us, struct redis_reply *reply)
{
	ENSURE(r->owed > 0);
	for (;;) {
		void *parsed = NULL;
		if (redisReaderGetReply(r->context->reader, &parsed) != REDIS_OK) {
			snprintf(r->error, sizeof(r->error),
			         "what answers there is no Redis, or speaks TLS: is it the port? (%.100s)",
			         r->context->reader->errstr);
			return -1;
		}
		if (parsed) {
			r->owed--;
			*reply = r->reply;
			return 0;
		}
		if (wait_for(r, POLLIN, deadline_us) < 0)
			return -1;
		if (redisBufferRead(r->context) != REDIS_OK)
			return fail_from_context(r);
	}
}

bool redis_alive(const struct redis *r)
{
	struct pollfd p = {.fd = r->context->fd, .events = POLLRDHUP};
	return poll(&p, 1, 0) == 0;
}

size_t redis_owed(const struct redis *r)
{
	return r->owed;
}

const char *redis_error(const struct redis *r)
{
	return r->error;
}

void redis_append(struct redis *r, int argc, const char *const *argv, const size_t *lengths)
{
	/* The one way to fail is to be out of memory, bounded by the batch: a limit set wrong. hiredis only reads. */
	ENSURE(redisAppendCommandArgv(r->context, argc, (const char **)(uintptr_t)argv, lengths) == REDIS_OK);
	r->owed++;
}

/* ---- connecting ---- */

#define QUOTED(x) #x
#define TEXT_OF(x) QUOTED(x)
#define HIREDIS_VERSION TEXT_OF(HIREDIS_MAJOR) "." TEXT_OF(HIREDIS_MINOR) "." TEXT_OF(HIREDIS_PATCH)

const char *redis_library(void)
{
	return redis_can_tls() ? "hiredis " HIREDIS_VERSION ", TLS" : "hiredis " HIREDIS_VERSION ", no TLS";
}

bool redis_can_tls(void)
{
#ifdef HAVE_HIREDIS_SSL
	return true;
#else
	return false;
#endif
}

static int open_socket(struct redis *r, const struct redis_target *t, const struct redis_tls *tls, int timeout_ms)
{
	struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};
	r->context = t->port ? redisConnectWithTimeout(t->host, t->port, timeout)
	                     : redisConnectUnixWithTimeout(t->host, timeout);
	if (!r->context)
		return fail(r, "out of memory");
	if (r->context->err)
		return fail_from_context(r);
	if (t->tls) {
		/* The handshake blocks; its reads and writes are bounded one by one. */
		if (redisSetTimeout(r->context, timeout) != REDIS_OK)
			return fail_from_context(r);
		if (redis_tls_start(r->context, t, tls, r->error, sizeof(r->error)) < 0)
			return -1;
	}
	if (t->port)
		(void)redisEnableKeepAlive(r->context);

	int flags = fcntl(r->context->fd, F_GETFL);
	if (flags < 0 || fcntl(r->context->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return fail(r, strerror(errno));
	r->context->flags &= ~REDIS_BLOCK;
	r->context->reader->fn = &reply_functions;
	r->context->reader->privdata = r;
	return 0;
}

/* Of a refused AUTH only the error's code is kept: some servers quote the arguments. */
static int introduce(struct redis *r, const struct redis_target *t, int64_t deadline_us)
{
	if (t->authenticate && t->user[0])
		redis_append(r, 3, (const char *[]){"AUTH", t->user, t->password}, NULL);
	else if (t->authenticate)
		redis_append(r, 2, (const char *[]){"AUTH", t->password}, NULL);
	else
		redis_append(r, 1, (const char *[]){"PING"}, NULL);
	/* For operators' CLIENT LIST; an ACL may refuse it. */
	redis_append(r, 3, (const char *[]){"CLIENT", "SETNAME", "delivery-worker"}, NULL);
	/* A connection begins in 0, and an ACL may refuse to select it. */
	if (t->db) {
		char db[16];
		snprintf(db, sizeof(db), "%d", t->db);
		redis_append(r, 2, (const char *[]){"SELECT", db}, NULL);
	}

	struct redis_reply first, named, selected;
	if (redis_send(r, deadline_us) < 0 || redis_receive(r, deadline_us, &first) < 0)
		return -1;
	if (first.kind == REPLY_ERROR) {
		size_t code = strcspn(first.text.data, " ");
		snprintf(r->error, sizeof(r->error), "%s refused: %.*s", t->authenticate ? "AUTH" : "PING",
		         code < 64 ? (int)code : 64, first.text.data);
		return -1;
	}
	if (redis_receive(r, deadline_us, &named) < 0)
		return -1;
	if (!t->db)
		return 0;
	if (redis_receive(r, deadline_us, &selected) < 0)
		return -1;
	if (selected.kind != REPLY_ERROR)
		return 0;
	snprintf(r->error, sizeof(r->error), "SELECT %d refused: %.120s", t->db, selected.text.data);
	return -1;
}

struct redis *redis_connect(const struct redis_target *t, const struct redis_tls *tls, int timeout_ms, char *error,
                            size_t error_size)
{
	struct redis *r = calloc(1, sizeof(*r));
	ENSURE(r);
	int64_t timeout_us = (int64_t)timeout_ms * 1000;
	if (open_socket(r, t, tls, timeout_ms) < 0 || introduce(r, t, clock_mono_us() + timeout_us) < 0) {
		snprintf(error, error_size, "%s", r->error);
		redis_close(r);
		return NULL;
	}
	return r;
}

void redis_close(struct redis *r)
{
	if (!r)
		return;
	if (r->context)
		redisFree(r->context);
	free(r->integers);
	buf_release(&r->text);
	free(r);
}
