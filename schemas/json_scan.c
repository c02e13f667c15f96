#include "schemas/json_scan.h"

#include "common/utf8.h"

#include <stdint.h>
#include <stdio.h>

/* Counts `c` in `text`, up to `most`. */
static int count_up_to(struct slice text, char c, int most)
{
	const char *at = text.data;
	const char *end = at + text.len;
	int count = 0;

	while (count < most && at < end && (at = memchr(at, c, (size_t)(end - at))) != NULL) {
		count++;
		at++;
	}
	return count;
}

/* `at` is just behind an opening quote. Returns: just behind the closing one, or `end`. */
static const char *skip_string(const char *at, const char *end)
{
	while (at < end && *at != '"')
		at += *at == '\\' ? 2 : 1;
	return at < end ? at + 1 : end;
}

bool json_depth_within(struct slice text, int depth_max)
{
	/* A text with no more brackets than levels cannot exceed them: the usual event ends here. */
	int opening = count_up_to(text, '{', depth_max + 1);
	if (opening + count_up_to(text, '[', depth_max + 1) <= depth_max)
		return true;

	const char *at = text.data;
	const char *end = at + text.len;
	int depth = 0;
	while (at < end) {
		char c = *at++;
		if (c == '"')
			at = skip_string(at, end);
		else if ((c == '{' || c == '[') && ++depth > depth_max)
			return false;
		else if (c == '}' || c == ']')
			depth--; /* one too many is a syntax error, at which the parser stops anyway */
	}
	return true;
}

struct json_place json_place_at(struct slice text, size_t offset)
{
	struct json_place place = {{0}, {0}};
	const char *at = text.data;
	const char *end = at + (offset < text.len ? offset : text.len);
	int depth = 0;
	bool in_object = false; /* the outermost value is one */

	while (at < end) {
		const char *start = at;
		char c = *at++;
		if (c == '"') {
			at = skip_string(at, end);
			place.last_string = (struct slice){start, (size_t)(at - start)};
		} else if (c == '{' || c == '[') {
			in_object |= depth++ == 0 && c == '{';
		} else if (c == '}' || c == ']') {
			depth--;
		} else if (c == ':' && depth == 1 && in_object) {
			place.member = place.last_string;
		}
	}
	return place;
}

/* *at is behind a name's colon, or 0: nothing but the bracket of the object itself is open there. */
bool json_next_name(struct slice text, size_t *at, struct slice *name)
{
	const char *end = text.data + text.len, *c = text.data + *at;
	int depth = *at > 0; /* as the name before left it */
	struct slice last = {0};

	while (c < end) {
		const char *start = c++;
		if (*start == '"') {
			c = skip_string(c, end);
			last = (struct slice){start + 1, c - start > 1 ? (size_t)(c - start) - 2 : 0};
		} else if (*start == '{' || *start == '[') {
			depth++;
		} else if (*start == '}' || *start == ']') {
			depth--;
		} else if (*start == ':' && depth == 1 && slice_present(last)) {
			*at = (size_t)(c - text.data);
			*name = last;
			return true;
		}
	}
	return false;
}

static size_t escape_one(uint32_t c, char out[13])
{
	static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";

	for (size_t i = 0; letters[i]; i += 2)
		if (c == (unsigned char)letters[i])
			return (size_t)snprintf(out, 13, "\\%c", letters[i + 1]);
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x10000)
		return (size_t)snprintf(out, 13, "\\u%04x", (unsigned)c & 0xffff);
	c -= 0x10000;
	return (size_t)snprintf(out, 13, "\\u%04x\\u%04x", 0xd800u | (c >> 10 & 0x3ff), 0xdc00u | (c & 0x3ff));
}

size_t json_escape(struct slice text, char *out, size_t size)
{
	static const char ellipsis[] = "...";
	size_t len = 0, room = 0; /* room: the longest prefix that leaves space for the ellipsis */

	for (size_t i = 0; i < text.len;) {
		char piece[13];
		uint32_t c = 0xfffd;
		size_t bytes = utf8_read(text.data + i, text.len - i, &c);
		size_t piece_len = escape_one(bytes ? c : 0xfffd, piece);
		if (len + piece_len >= size) {
			memcpy(out + room, ellipsis, sizeof(ellipsis));
			return room + sizeof(ellipsis) - 1;
		}
		memcpy(out + len, piece, piece_len);
		len += piece_len;
		if (len + sizeof(ellipsis) <= size)
			room = len;
		i += bytes ? bytes : 1;
	}
	out[len] = '\0';
	return len;
}
