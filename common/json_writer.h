/*
 * Writes one JSON value into a buffer, commas and quotes included, compact.
 *
 *     struct json_writer w = json_writer_to(&out);
 *     json_put_open(&w, '{');
 *     json_put_key(&w, "order_id");
 *     json_put_string(&w, order_id);
 *     json_put_key(&w, "postings");
 *     json_put_open(&w, '[');
 *     ...
 *     json_put_close(&w, ']');
 *     json_put_close(&w, '}');
 *
 * A value where a key belongs, a key in an array, or the wrong bracket is a bug and ends the process.
 * Names keep clear of jansson's, whose functions a file or the linker may see beside these.
 * Thread: one at a time. Owns: nothing; the buffer is the caller's.
 */
#ifndef COMMON_JSON_WRITER_H
#define COMMON_JSON_WRITER_H

#include "common/buf.h"
#include "common/slice.h"

#include <stdint.h>

enum { JSON_WRITER_DEPTH_MAX = 16 };

struct json_writer {
	struct buf *out;
	int depth;
	bool keyed; /* a key was written, its value is due */
	struct {
		char close; /* the bracket that ends this level */
		bool filled;
	} levels[JSON_WRITER_DEPTH_MAX];
};

struct json_writer json_writer_to(struct buf *out);

void json_put_open(struct json_writer *w, char bracket);  /* '{' or '[' */
void json_put_close(struct json_writer *w, char bracket); /* '}' or ']' */
void json_put_key(struct json_writer *w, const char *name);

void json_put_string(struct json_writer *w, struct slice text); /* absent: null */
void json_put_text(struct json_writer *w, const char *text);    /* NULL: null */
void json_put_int(struct json_writer *w, int64_t value);
void json_put_real(struct json_writer *w, double value); /* not finite: null */
void json_put_null(struct json_writer *w);
void json_put_bool(struct json_writer *w, bool value);
/* `json` as it is: null, a number too wide for int64, or a value made elsewhere. It is not checked. */
void json_put_raw(struct json_writer *w, const char *json);

#endif
