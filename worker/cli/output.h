/*
 * Standard output of the commands: stdout as ever, but the cause of its first failed write is kept. stdio tells only
 * that there was one: a later fflush of nothing succeeds.
 * Thread: main's.
 */
#ifndef WORKER_CLI_OUTPUT_H
#define WORKER_CLI_OUTPUT_H

#include "common/ensure.h"

/* Before the first output. */
void output_open(void);

/* A line of stdout that may hold text which is not ours, as the terminal may have it; the newline is put. */
void output_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Writes what is left. Returns: `code`; EXIT_UNAVAILABLE in place of EXIT_FINE, after saying why, when some of it could
 * not be written. A reader that left early (`| head`) is no error.
 */
must_use int output_close(int code);

#endif
