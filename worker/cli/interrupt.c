#include "worker/cli/interrupt.h"

#include "common/ensure.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static volatile sig_atomic_t held, counted;

static void on_signal(int number)
{
	if (held) {
		counted = counted + 1;
		return;
	}
	if (getpid() == 1)
		_exit(128 + number); /* as a shell tells it; there is no default action to fall back on */
	/* It is blocked until this returns, and ends the process then. */
	signal(number, SIG_DFL);
	raise(number);
}

void interrupt_setup(void)
{
	/* Without SA_RESTART: what waits for input is to see that a signal came. */
	struct sigaction action = {.sa_handler = on_signal}, before;
	for (size_t i = 0; i < NUMBERS; i++) {
		ENSURE(sigaction(numbers[i], NULL, &before) == 0);
		if (before.sa_handler == SIG_DFL)
			ENSURE(sigaction(numbers[i], &action, NULL) == 0);
	}
}

void interrupt_hold(void)
{
	held = 1;
}

int interrupt_count(void)
{
	return counted;
}

bool interrupt_wait_readable(int fd, int timeout_ms)
{
	struct timespec limit = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
	struct pollfd wanted = {.fd = fd, .events = POLLIN};
	sigset_t ours, before;
	int found = 0;

	/* A signal between the look at the count and the wait would be waited over: ppoll alone lets it in. */
	sigemptyset(&ours);
	for (size_t i = 0; i < NUMBERS; i++)
		sigaddset(&ours, numbers[i]);
	ENSURE(pthread_sigmask(SIG_BLOCK, &ours, &before) == 0);
	if (counted == 0)
		found = ppoll(&wanted, 1, timeout_ms < 0 ? NULL : &limit, &before);
	ENSURE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	return found > 0;
}
