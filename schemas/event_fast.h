/*
 * The reader of events that is asked first: one pass over the usual shape of an event, which allocates nothing
 * and copies nothing. It says "these members" or "not me", and refuses nothing: what it does not take,
 * schemas/event_json.h reads from the start, alone. What it takes, that one takes too, into the same members
 * (tests/unit/test_event_fast.c and the fuzz target of events hold the two against each other).
 *
 * Thread: any.
 */
#ifndef SCHEMAS_EVENT_FAST_H
#define SCHEMAS_EVENT_FAST_H

#include "schemas/event_members.h"

/*
 * The usual shape: one object, no more than FAST_UNKNOWN_MAX members that the schema does not know, each name
 * once; names and strings without escapes; integers without sign, of at most 18 digits; true, false, null.
 * Returns: whether it was that, with *members filled, whose slices point into `text`. Else *members is undefined.
 */
must_use bool event_fast_read(struct slice text, struct event_members *members);

enum { FAST_UNKNOWN_MAX = 8 };

#endif
