#include "common/thread.h"

#include "common/ensure.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct thread_begin {
	char name[16];
	thread_main *run;
	void *argument;
};

/* The new thread names itself: from outside, a thread that has already ended could not be named. */
static void *thread_begin(void *given)
{
	struct thread_begin begin = *(struct thread_begin *)given;
	free(given);
	ENSURE(pthread_setname_np(pthread_self(), begin.name) == 0);
	return begin.run(begin.argument);
}

pthread_t thread_start(const char *name, thread_main *run, void *argument)
{
	struct thread_begin *begin = malloc(sizeof(*begin));
	sigset_t all, before;
	pthread_t thread;

	ENSURE(begin != NULL);
	ENSURE(strlen(name) < sizeof(begin->name));
	*begin = (struct thread_begin){.run = run, .argument = argument};
	memcpy(begin->name, name, strlen(name) + 1);

	/* Blocked before the creation, and inherited: there is no moment at which the thread could take one. */
	sigfillset(&all);
	ENSURE(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	ENSURE(pthread_create(&thread, NULL, thread_begin, begin) == 0);
	ENSURE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	return thread;
}

void thread_join(pthread_t thread)
{
	ENSURE(pthread_join(thread, NULL) == 0);
}

/* Error-checking: locking twice, or unlocking what another thread holds, ends the process at once. */
void mutex_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t attributes;

	ENSURE(pthread_mutexattr_init(&attributes) == 0);
	ENSURE(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) == 0);
	ENSURE(pthread_mutex_init(m, &attributes) == 0);
	ENSURE(pthread_mutexattr_destroy(&attributes) == 0);
}

void mutex_destroy(pthread_mutex_t *m)
{
	ENSURE(pthread_mutex_destroy(m) == 0);
}

void mutex_lock(pthread_mutex_t *m)
{
	ENSURE(pthread_mutex_lock(m) == 0);
}

void mutex_unlock(pthread_mutex_t *m)
{
	ENSURE(pthread_mutex_unlock(m) == 0);
}

void cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attributes;

	ENSURE(pthread_condattr_init(&attributes) == 0);
	ENSURE(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
	ENSURE(pthread_cond_init(c, &attributes) == 0);
	ENSURE(pthread_condattr_destroy(&attributes) == 0);
}

void cond_destroy(pthread_cond_t *c)
{
	ENSURE(pthread_cond_destroy(c) == 0);
}

void cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	ENSURE(pthread_cond_wait(c, m) == 0);
}

bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_us)
{
	int64_t us = deadline_us > 0 ? deadline_us : 0;
	struct timespec deadline = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
	int result = pthread_cond_timedwait(c, m, &deadline);

	ENSURE(result == 0 || result == ETIMEDOUT);
	return result == 0;
}

void cond_signal(pthread_cond_t *c)
{
	ENSURE(pthread_cond_signal(c) == 0);
}

void cond_broadcast(pthread_cond_t *c)
{
	ENSURE(pthread_cond_broadcast(c) == 0);
}
