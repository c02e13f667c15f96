/*
 * What a refused value looks like: a publisher's serializer or framework that wraps events, or spells members, in its own
 * way is told what it is, not only what is missing. Code and field of a refusal are not touched.
 * Thread: any.
 */
#ifndef SCHEMAS_EVENT_SHAPE_H
#define SCHEMAS_EVENT_SHAPE_H

#include "schemas/event.h"

/* Adds to error->message, of the refusal of `value`, what it looks like, if that is known. */
void event_shape_explain(struct slice value, struct decode_error *error);

#endif
