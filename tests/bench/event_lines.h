/*
 * Events from lines on stdin, decoded into memory before anything is measured.
 *
 *     struct event_lines lines;
 *     event_lines_read(&lines); // what the decoder refuses and what repeats an earlier line is counted and left out
 *     ... lines.events[0 .. lines.count)
 *
 * Thread: one. What it holds lives until the process ends.
 */
#ifndef TESTS_BENCH_EVENT_LINES_H
#define TESTS_BENCH_EVENT_LINES_H

#include "schemas/event.h"

struct event_lines {
	struct event *events;
	size_t count;
	size_t lines;
	size_t refused;
	size_t repeats;
};

void event_lines_read(struct event_lines *lines);

#endif
