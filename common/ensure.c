#include "common/ensure.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t said; /* why this process is about to abort */

static void on_abort(int signal)
{
	static const char text[] = "delivery-worker: internal error: a library aborted; it may be out of memory\n";

	(void)signal;
	if (!said)
		(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
}

void ensure_speaking_aborts(void)
{
	struct sigaction action = {.sa_handler = on_abort};

	ENSURE(sigaction(SIGABRT, &action, NULL) == 0);
}

_Noreturn void ensure_failed(const char *condition, const char *file, int line)
{
	said = 1;
	fprintf(stderr, "delivery-worker: internal error: %s at %s:%d\n", condition, file, line);
	abort();
}
