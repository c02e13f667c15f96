/*
 * Assertions for our own bugs, never compiled out: a broken invariant in a ledger must stop the
 * process, not the auditor. Errors of the outside world (input, network, servers) are return codes.
 */
#ifndef COMMON_ENSURE_H
#define COMMON_ENSURE_H

#include "common/banned.h" /* here, as every file has this header */

/* No abort without a message: a library's, too, gets a line on stderr (hiredis 0.14 says nothing when it is out of
 * memory). Call once in main, before threads. */
void ensure_speaking_aborts(void);

/* What is to be done before a failed ENSURE ends the process, within a bounded time and without a lock; NULL: nothing. */
void ensure_before_abort(void (*prepare)(void));

_Noreturn void ensure_failed(const char *condition, const char *file, int line);

#define ENSURE(condition) \
	do { \
		if (__builtin_expect(!(condition), 0)) \
			ensure_failed(#condition, __FILE__, __LINE__); \
	} while (0)

/* For switch defaults and the like that only a bug can reach. */
#define UNREACHABLE(why) ensure_failed("unreachable: " why, __FILE__, __LINE__)

#define must_use __attribute__((warn_unused_result))

#endif
