#include "tests/lib/private_redis.h"

#include "common/clock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PRIVATE_REDIS_READY_S = 20,
	PRIVATE_REDIS_PORT_MAX = 65535 - 10000, /* in cluster mode Redis adds 10000 for its bus */
};

static int private_redis_free_port(void)
{
	for (;;) {
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t len = sizeof(address);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
		             getsockname(fd, (struct sockaddr *)&address, &len) == 0;
		close(fd);
		int port = ntohs(address.sin_port);
		if (!bound || port <= PRIVATE_REDIS_PORT_MAX)
			return bound ? port : -1;
	}
}

/* The server says in its log when it takes connections. */
static bool private_redis_await(struct private_redis *s)
{
	char log[16384];
	size_t len = 0;
	int64_t deadline_us = clock_mono_us() + PRIVATE_REDIS_READY_S * INT64_C(1000000);
	while (len + 1 < sizeof(log) && clock_mono_us() < deadline_us) {
		struct pollfd p = {.fd = s->output, .events = POLLIN};
		if (poll(&p, 1, 1000) <= 0)
			continue;
		ssize_t n = read(s->output, log + len, sizeof(log) - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		log[len] = '\0';
		if (strstr(log, "Ready to accept connections"))
			return true;
	}
	fprintf(stderr, "redis-server did not start: %.*s\n", (int)len, log);
	return false;
}

bool private_redis_launch(struct private_redis *s, const char *option, const char *value)
{
	char port[16];
	int output[2];
	snprintf(port, sizeof(port), "%d", s->port);
	if (pipe2(output, O_CLOEXEC) != 0)
		return false;
	pid_t parent = getpid();
	s->pid = fork();
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		dup2(output[1], STDOUT_FILENO);
		dup2(output[1], STDERR_FILENO);
		signal(SIGPIPE, SIG_DFL);
		execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
		       "--appendonly", "no", "--dir", s->folder, "--unixsocket", s->socket, option, value,
		       (char *)NULL);
		fputs("redis-server: not found\n", stderr);
		_exit(127);
	}
	close(output[1]);
	s->output = output[0];
	if (s->pid > 0 && private_redis_await(s))
		return true;
	private_redis_crash(s);
	return false;
}

bool private_redis_start(struct private_redis *s, const char *option, const char *value)
{
	memset(s, 0, sizeof(*s));
	snprintf(s->folder, sizeof(s->folder), "/tmp/private-redis-XXXXXX");
	if (!mkdtemp(s->folder))
		return false;
	snprintf(s->socket, sizeof(s->socket), "%s/socket", s->folder);
	s->port = private_redis_free_port();
	return private_redis_launch(s, option, value);
}

void private_redis_crash(struct private_redis *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	close(s->output);
	s->pid = 0;
}

void private_redis_stop(struct private_redis *s)
{
	private_redis_crash(s);
	unlink(s->socket);
	rmdir(s->folder);
}
