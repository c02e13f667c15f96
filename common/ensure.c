#include "common/ensure.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STDERR_MS = 1000 }; /* what a dying process waits for stderr; a pipe that nobody reads keeps none alive */

static volatile sig_atomic_t said; /* why this process is about to abort */
static void (*_Atomic before_abort)(void);

/* Safe in a signal handler. Where poll says that there is room, a pipe takes a line whole. */
static void say(const char *text, size_t len)
{
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, STDERR_MS) > 0)
		(void)!write(STDERR_FILENO, text, len);
}

void ensure_before_abort(void (*prepare)(void))
{
	atomic_store(&before_abort, prepare);
}

static void on_abort(int signal)
{
	static const char text[] = "delivery-worker: internal error: a library aborted; it may be out of memory\n";

	(void)signal;
	if (!said)
		say(text, sizeof(text) - 1);
}

void ensure_speaking_aborts(void)
{
	struct sigaction action = {.sa_handler = on_abort};

	ENSURE(sigaction(SIGABRT, &action, NULL) == 0);
}

_Noreturn void ensure_failed(const char *condition, const char *file, int line)
{
	char text[512];
	void (*prepare)(void) = atomic_exchange(&before_abort, NULL);

	if (prepare)
		prepare();
	int len = snprintf(text, sizeof(text), "delivery-worker: internal error: %.300s at %.100s:%d\n", condition, file, line);
	said = 1;
	say(text, len > 0 ? (size_t)len : 0);
	abort();
}
