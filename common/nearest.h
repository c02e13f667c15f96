/*
 * "Did you mean …?": the known name nearest to a mistyped one.
 * Thread: any.
 */
#ifndef COMMON_NEAREST_H
#define COMMON_NEAREST_H

#include "common/slice.h"

/* Single-character edits (insert, delete, replace) from `a` to `b`. Of names beyond 64 bytes: 64. */
size_t nearest_distance(struct slice a, struct slice b);

/* Keeps the best candidate seen so far; one that is too far off to be meant is never taken. */
struct nearest {
	struct slice typed;
	const char *name; /* NULL: none yet */
	size_t distance;
};

static inline struct nearest nearest_to(struct slice typed)
{
	/* A third of the letters wrong, and it is another word. */
	return (struct nearest){.typed = typed, .distance = typed.len / 3 + 1};
}

static inline void nearest_offer(struct nearest *n, const char *name)
{
	size_t distance = nearest_distance(n->typed, slice_of(name));
	if (distance < n->distance || (!n->name && distance == n->distance)) {
		n->distance = distance;
		n->name = name;
	}
}

#endif
