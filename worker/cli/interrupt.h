/*
 * SIGINT, SIGTERM and SIGHUP, for all commands but `run`, which takes them by itself.
 *
 * A command ends by them as any program does, also as PID 1, where the kernel drops a signal that has no handler. One
 * that has something to bring to an end first holds them: from then on they are counted.
 *
 * Thread: main.
 */
#ifndef WORKER_CLI_INTERRUPT_H
#define WORKER_CLI_INTERRUPT_H

#include <stdbool.h>

/* Before any thread is started. A signal that the parent has set to be ignored stays ignored. */
void interrupt_setup(void);

/* From now on signals end nothing; the command looks at interrupt_count. */
void interrupt_hold(void);
/* Returns: how many came since. */
int interrupt_count(void);

/*
 * Waits until `fd` can be read, for timeout_ms (-1: without limit). Returns: false when time was over, or when a signal
 * has come, also before the call.
 */
bool interrupt_wait_readable(int fd, int timeout_ms);

#endif
