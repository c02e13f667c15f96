/*
 * What is asked of a JSON text without parsing it: bounds before the parser sees it, places and excerpts
 * for error messages after it refused. None of these checks syntax.
 * Thread: any.
 */
#ifndef SCHEMAS_JSON_SCAN_H
#define SCHEMAS_JSON_SCAN_H

#include "common/slice.h"

/* Whether no bracket outside of strings opens a level beyond `depth_max`; the outermost is level 1. */
bool json_depth_within(struct slice text, int depth_max);

/* Tokens as they stand in the text, quotes and escapes included; absent where there is none. */
struct json_place {
	struct slice last_string; /* the last string that ends at or before the offset */
	struct slice member;      /* name of the outermost object's member that the offset lies in */
};

/* For the well-formed part of a text: what lies before `offset`. */
struct json_place json_place_at(struct slice text, size_t offset);

/*
 * Steps through the names of the outermost object's members, as they stand between their quotes. *at: 0 at first, then
 * left alone. Returns: false when there is none behind *at.
 */
bool json_next_name(struct slice text, size_t *at, struct slice *name);

/*
 * Writes `text` as it would stand inside of a JSON string, in ASCII, cut to whole escapes and to `size`
 * with the NUL; a cut one ends in "...". Bytes that are not UTF-8 become \ufffd. Returns: the length.
 */
size_t json_escape(struct slice text, char *out, size_t size);

#endif
