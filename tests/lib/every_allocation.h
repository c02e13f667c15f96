/*
 * Out of memory at every allocation of a path, one after the other. Test sources include every_allocation.c.
 *
 *     static void decode(struct result *o) { ...; result_put(o, "%s", ...); }
 *     every_allocation(decode, ENDS_OR_SAME);
 *
 * The path runs once as it is; then with its first allocation failing, its second, and so on until none is left to
 * fail, each time in a child of its own. What a child may do: come to the same result and leave nothing allocated; or
 * end with ensure_failed's message. With MAY_GIVE_UP also say result_give_up: a clean error, to be tried again.
 * Anything else fails the test: a signal, an end without a message, another result, a leak.
 */
#ifndef TESTS_LIB_EVERY_ALLOCATION_H
#define TESTS_LIB_EVERY_ALLOCATION_H

#include <stdbool.h>
#include <stddef.h>

struct result {
	char text[2048];
	size_t len;
	bool gave_up;
};

void result_put(struct result *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
void result_give_up(struct result *o);

enum every_allocation_rule { ENDS_OR_SAME, MAY_GIVE_UP };

/* How often each came. */
struct every_allocation_count {
	long same;
	long gave_up;
	long ended;
};

/* Returns: false, after saying that the test is skipped, where allocations are a sanitizer's. */
bool every_allocation_works(void);

struct every_allocation_count every_allocation(void (*path)(struct result *), enum every_allocation_rule rule);

#endif
