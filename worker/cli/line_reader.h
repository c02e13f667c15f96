/*
 * Lines of a file, pipe or terminal, one after the other, without a wait that nobody could end: what the caller has to
 * do meanwhile it does between two calls.
 *
 *     while ((result = line_reader_next(&reader, wait_ms, &line)) != LINE_END) ...
 *
 * Thread: one at a time.
 */
#ifndef WORKER_CLI_LINE_READER_H
#define WORKER_CLI_LINE_READER_H

#include "common/buf.h"

enum line_result {
	LINE_FOUND,
	LINE_NOT_YET, /* nothing came within the time, or a signal did */
	LINE_END,     /* of the file, or reader->error says why not */
};

struct line_reader {
	int fd;         /* the caller's */
	int error;      /* errno of the read that failed; 0: none */
	struct buf got; /* what was read and not given out yet starts at `at` */
	size_t at;
	size_t searched; /* no newline lies between `at` and this */
	bool ended;
};

static inline struct line_reader line_reader_of(int fd)
{
	return (struct line_reader){.fd = fd};
}

void line_reader_release(struct line_reader *r);

/* *line is without its newline and good until the next call. A last line may lack it. wait_ms: -1 is without limit. */
enum line_result line_reader_next(struct line_reader *r, int wait_ms, struct slice *line);

#endif
