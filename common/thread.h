/*
 * pthreads with the error checks that nobody writes twice. Threads start with all signals blocked
 * (main alone takes them), carry a name that `top -H` shows, and are joined.
 * Locks are never nested. Waits are always inside a loop that re-reads the state.
 */
#ifndef COMMON_THREAD_H
#define COMMON_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef void *thread_main(void *argument);

/* Name: at most 15 bytes. Out of threads ends the process: their number is set at start. */
pthread_t thread_start(const char *name, thread_main *run, void *argument);
void thread_join(pthread_t thread);

void mutex_init(pthread_mutex_t *m);
void mutex_destroy(pthread_mutex_t *m);
void mutex_lock(pthread_mutex_t *m);
void mutex_unlock(pthread_mutex_t *m);

/* Condition variables here wait on CLOCK_MONOTONIC. */
void cond_init(pthread_cond_t *c);
void cond_destroy(pthread_cond_t *c);
void cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
/* Returns: false when `deadline_us` (clock_mono_us) passed first. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_us);
void cond_signal(pthread_cond_t *c);
void cond_broadcast(pthread_cond_t *c);

#endif
