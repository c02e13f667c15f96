#include "tests/lib/postgres_proxy.h"

#include "common/ensure.h"
#include "common/thread.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PROXY_CHUNK = 256 * 1024 };

static int unix_socket(const char *path, bool serve)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	int done = serve ? bind(fd, (struct sockaddr *)&address, sizeof(address))
			 : connect(fd, (struct sockaddr *)&address, sizeof(address));
	if (done == 0 && (!serve || listen(fd, PROXY_PAIRS_MAX) == 0))
		return fd;
	close(fd);
	return -1;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_pair(struct proxy_pair *pair)
{
	close_end(&pair->client);
	close_end(&pair->server);
	pair->awaits = PROXY_NOTE;
}

static void accept_client(struct postgres_proxy *p)
{
	int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	int server = unix_socket(p->server, false);
	for (int i = 0; i < PROXY_PAIRS_MAX && client >= 0 && server >= 0; i++) {
		struct proxy_pair *pair = &p->pairs[i];
		if (pair->client >= 0 || pair->server >= 0)
			continue;
		*pair = (struct proxy_pair){client, server, PROXY_NOTE};
		return;
	}
	close_end(&client);
	close_end(&server);
}

static bool send_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		data += sent;
		len -= (size_t)sent;
	}
	return true;
}

struct alarm {
	enum proxy_act act;
	proxy_hook *hook;
	void *owner;
};

/* Disarms before it answers: the hook may arm anew. */
static bool sighted(struct postgres_proxy *p, const char *data, size_t len, struct alarm *out)
{
	mutex_lock(&p->lock);
	bool found = p->text && memmem(data, len, p->text, strlen(p->text));
	if (found) {
		*out = (struct alarm){p->act, p->hook, p->owner};
		p->text = NULL;
		p->fired++;
	}
	mutex_unlock(&p->lock);
	return found;
}

static void from_client(struct postgres_proxy *p, struct proxy_pair *pair, char *chunk, struct alarm *answer)
{
	struct alarm alarm = {PROXY_NOTE, NULL, NULL};
	ssize_t len = recv(pair->client, chunk, PROXY_CHUNK, 0);
	if (len > 0 && sighted(p, chunk, (size_t)len, &alarm)) {
		if (alarm.act == PROXY_HOOK_BEFORE)
			alarm.hook(alarm.owner);
		if (alarm.act == PROXY_CUT_AT_ANSWER || alarm.act == PROXY_HOOK_AT_ANSWER) {
			pair->awaits = alarm.act;
			*answer = alarm;
		}
	}
	if (len <= 0 || alarm.act == PROXY_CUT_INSTEAD || !send_all(pair->server, chunk, (size_t)len))
		close_pair(pair);
	else if (alarm.act == PROXY_CUT_AFTER)
		close_pair(pair);
}

static void from_server(struct proxy_pair *pair, char *chunk, struct alarm *answer)
{
	ssize_t len = recv(pair->server, chunk, PROXY_CHUNK, 0);
	enum proxy_act awaits = pair->awaits;
	pair->awaits = PROXY_NOTE;
	if (awaits == PROXY_HOOK_AT_ANSWER)
		answer->hook(answer->owner);
	if (len <= 0 || awaits == PROXY_CUT_AT_ANSWER)
		close_pair(pair);
	else if (pair->client >= 0 && !send_all(pair->client, chunk, (size_t)len))
		close_pair(pair);
}

static void *relay(void *argument)
{
	struct postgres_proxy *p = argument;
	struct alarm answer = {PROXY_NOTE, NULL, NULL};
	char *chunk = malloc(PROXY_CHUNK);
	ENSURE(chunk);
	for (;;) {
		struct pollfd fds[2 + 2 * PROXY_PAIRS_MAX] = {{p->stop[0], POLLIN, 0}, {p->listener, POLLIN, 0}};
		for (int i = 0; i < PROXY_PAIRS_MAX; i++) {
			fds[2 + 2 * i] = (struct pollfd){p->pairs[i].client, POLLIN, 0};
			fds[3 + 2 * i] = (struct pollfd){p->pairs[i].server, POLLIN, 0};
		}
		if (poll(fds, 2 + 2 * PROXY_PAIRS_MAX, -1) < 0)
			continue;
		if (fds[0].revents)
			break;
		if (fds[1].revents)
			accept_client(p);
		for (int i = 0; i < PROXY_PAIRS_MAX; i++) {
			struct proxy_pair *pair = &p->pairs[i];
			if (fds[2 + 2 * i].revents && pair->client == fds[2 + 2 * i].fd)
				from_client(p, pair, chunk, &answer);
			if (fds[3 + 2 * i].revents && pair->server == fds[3 + 2 * i].fd && pair->server >= 0)
				from_server(pair, chunk, &answer);
		}
	}
	for (int i = 0; i < PROXY_PAIRS_MAX; i++)
		close_pair(&p->pairs[i]);
	free(chunk);
	return NULL;
}

bool postgres_proxy_start(struct postgres_proxy *p, const char *folder)
{
	*p = (struct postgres_proxy){.listener = -1};
	for (int i = 0; i < PROXY_PAIRS_MAX; i++)
		p->pairs[i] = (struct proxy_pair){-1, -1, PROXY_NOTE};
	/* Inside the server's folder, which is removed whatever becomes of the test. */
	snprintf(p->folder, sizeof(p->folder), "%s/proxy-XXXXXX", folder);
	if (!mkdtemp(p->folder))
		return false;
	char path[96];
	snprintf(path, sizeof(path), "%s/.s.PGSQL.5432", p->folder);
	snprintf(p->server, sizeof(p->server), "%s/.s.PGSQL.5432", folder);
	snprintf(p->dsn, sizeof(p->dsn), "host=%s user=postgres dbname=postgres", p->folder);
	p->listener = unix_socket(path, true);
	if (p->listener < 0 || pipe(p->stop) != 0)
		return false;
	mutex_init(&p->lock);
	p->thread = thread_start("proxy", relay, p);
	return true;
}

void postgres_proxy_arm(struct postgres_proxy *p, const char *text, enum proxy_act act, proxy_hook *hook, void *owner)
{
	mutex_lock(&p->lock);
	p->text = text;
	p->act = act;
	p->hook = hook;
	p->owner = owner;
	mutex_unlock(&p->lock);
}

int postgres_proxy_fired(struct postgres_proxy *p)
{
	mutex_lock(&p->lock);
	int fired = p->fired;
	mutex_unlock(&p->lock);
	return fired;
}

void postgres_proxy_stop(struct postgres_proxy *p)
{
	ENSURE(write(p->stop[1], "", 1) == 1);
	thread_join(p->thread);
	close(p->stop[0]);
	close(p->stop[1]);
	close(p->listener);
	char path[96];
	snprintf(path, sizeof(path), "%s/.s.PGSQL.5432", p->folder);
	unlink(path);
	rmdir(p->folder);
	mutex_destroy(&p->lock);
}
