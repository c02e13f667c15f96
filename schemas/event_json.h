/*
 * The reader of events that takes any JSON: jansson over an arena, so that an event costs no malloc.
 * The only file of the decoder that knows jansson.
 *
 * Thread: an event_json belongs to one thread; event_json_setup once in main, before threads.
 */
#ifndef SCHEMAS_EVENT_JSON_H
#define SCHEMAS_EVENT_JSON_H

#include "schemas/event_members.h"

/* Seeds jansson's hash and puts our allocator under it, for the whole process: outside of event_json_read
 * it is malloc and free. Out of memory ends the process. */
void event_json_setup(void);

struct event_json *event_json_new(void);
void event_json_free(struct event_json *j);

/*
 * Reads one text of at most EVENT_BYTES_MAX and EVENT_DEPTH_MAX (the caller has checked). Each call, whatever
 * it returns, is followed by event_json_release.
 * Returns: ERROR_NONE and *members, whose slices live until event_json_release; or not_json, invalid_utf8,
 * duplicate_member, not_object, out_of_range (a number beyond int64 or double anywhere), and *error filled.
 */
must_use enum error_code event_json_read(struct event_json *j, struct slice text, struct event_members *members,
					 struct decode_error *error);

/* Gives back what the text took. */
void event_json_release(struct event_json *j);

#endif
