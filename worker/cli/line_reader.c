#include "worker/cli/line_reader.h"

#include "worker/cli/interrupt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 65536 };

void line_reader_release(struct line_reader *r)
{
	buf_release(&r->got);
}

static bool take_line(struct line_reader *r, struct slice *line)
{
	const char *newline = r->searched < r->got.len
	                              ? memchr(r->got.data + r->searched, '\n', r->got.len - r->searched)
	                              : NULL;
	r->searched = r->got.len;
	if (!newline)
		return false;
	*line = (struct slice){r->got.data + r->at, (size_t)(newline - r->got.data) - r->at};
	r->at = r->searched = (size_t)(newline - r->got.data) + 1;
	return true;
}

static bool take_rest(struct line_reader *r, struct slice *line)
{
	if (r->at == r->got.len)
		return false;
	*line = (struct slice){r->got.data + r->at, r->got.len - r->at};
	r->at = r->got.len;
	return true;
}

/* The line that is not whole yet goes to the front; no line points there any more. */
static void make_room(struct line_reader *r)
{
	if (r->at > 0)
		memmove(r->got.data, r->got.data + r->at, r->got.len - r->at);
	r->got.len -= r->at;
	r->searched -= r->at;
	r->at = 0;
	buf_reserve(&r->got, READ_BYTES);
}

static void read_more(struct line_reader *r)
{
	make_room(r);
	ssize_t n = read(r->fd, r->got.data + r->got.len, READ_BYTES);
	if (n > 0) {
		r->got.len += (size_t)n;
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		r->error = n < 0 ? errno : 0;
		r->ended = true;
	}
}

enum line_result line_reader_next(struct line_reader *r, int wait_ms, struct slice *line)
{
	while (!take_line(r, line)) {
		if (r->ended)
			return r->error == 0 && take_rest(r, line) ? LINE_FOUND : LINE_END;
		if (!interrupt_wait_readable(r->fd, wait_ms))
			return LINE_NOT_YET;
		read_more(r);
	}
	return LINE_FOUND;
}
