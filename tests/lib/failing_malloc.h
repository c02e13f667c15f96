/*
 * The C library's allocations, of which one fails on demand, and a count of those that are live: of the whole process,
 * its libraries included. Test sources include failing_malloc.c; built alone it is a library to preload:
 *
 *     LD_PRELOAD=failing_malloc.so DW_TEST_FAIL_ALLOCATION=1234 delivery-worker run
 *
 * fails the 1234th allocation after the start, once, and then says so with a backtrace on stderr.
 * Not together with a sanitizer, which has an allocator of its own.
 * Thread: any.
 */
#ifndef TESTS_LIB_FAILING_MALLOC_H
#define TESTS_LIB_FAILING_MALLOC_H

#include <stdbool.h>

/* Makes the `nth` allocation from now on fail, once; 1 is the next. */
void failing_malloc_arm(long nth);
/* Nothing fails any more. Returns: whether one did since failing_malloc_arm. */
bool failing_malloc_disarm(void);
/* Allocations that were not freed yet. */
long failing_malloc_live(void);

#endif
