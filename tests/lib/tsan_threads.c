/*
 * Linked into SANITIZE=thread builds only. librdkafka starts its threads with C11's thrd_create, which
 * ThreadSanitizer does not intercept: the first malloc of such a thread then crashes inside its runtime.
 * Nor does it see C11's locks, so that every record handed over by librdkafka looks like a race. Here all of them
 * become their POSIX counterparts, which it knows; in glibc the types are the same bytes.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

struct start {
	thrd_start_t run;
	void *argument;
};

static void *run(void *argument)
{
	struct start start = *(struct start *)argument;
	free(argument);
	return (void *)(intptr_t)start.run(start.argument);
}

int thrd_create(thrd_t *thread, thrd_start_t start, void *argument)
{
	struct start *s = malloc(sizeof(*s));
	if (!s)
		return thrd_nomem;
	*s = (struct start){start, argument};
	if (pthread_create(thread, NULL, run, s) == 0)
		return thrd_success;
	free(s);
	return thrd_error;
}

int thrd_join(thrd_t thread, int *result)
{
	void *returned;
	if (pthread_join(thread, &returned) != 0)
		return thrd_error;
	if (result)
		*result = (int)(intptr_t)returned;
	return thrd_success;
}

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "mtx_t is a pthread_mutex_t");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "cnd_t is a pthread_cond_t");

static pthread_mutex_t *mutex_of(mtx_t *m)
{
	return (pthread_mutex_t *)(void *)m;
}

static pthread_cond_t *cond_of(cnd_t *c)
{
	return (pthread_cond_t *)(void *)c;
}

static int result_of(int error)
{
	return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : error == EBUSY ? thrd_busy : thrd_error;
}

/*
 * Of ThreadSanitizer's runtime. librdkafka publishes what holds a new lock by its atomics, which nobody sees: the
 * first to lock it elsewhere would race with its making.
 */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

int mtx_init(mtx_t *m, int type)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, type & mtx_recursive ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	int error = pthread_mutex_init(mutex_of(m), &attributes);
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	pthread_mutexattr_destroy(&attributes);
	return result_of(error);
}

void mtx_destroy(mtx_t *m)
{
	pthread_mutex_destroy(mutex_of(m));
}

int mtx_lock(mtx_t *m)
{
	return result_of(pthread_mutex_lock(mutex_of(m)));
}

int mtx_trylock(mtx_t *m)
{
	return result_of(pthread_mutex_trylock(mutex_of(m)));
}

int mtx_unlock(mtx_t *m)
{
	return result_of(pthread_mutex_unlock(mutex_of(m)));
}

int cnd_init(cnd_t *c)
{
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	int error = pthread_cond_init(cond_of(c), NULL);
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	return result_of(error);
}

void cnd_destroy(cnd_t *c)
{
	pthread_cond_destroy(cond_of(c));
}

int cnd_signal(cnd_t *c)
{
	return result_of(pthread_cond_signal(cond_of(c)));
}

int cnd_broadcast(cnd_t *c)
{
	return result_of(pthread_cond_broadcast(cond_of(c)));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
	return result_of(pthread_cond_wait(cond_of(c), mutex_of(m)));
}

int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict until)
{
	return result_of(pthread_cond_timedwait(cond_of(c), mutex_of(m), until));
}
