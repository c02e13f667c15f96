/*
 * Structured logs on stderr, one line an event, as logfmt or JSON. No payloads, no secrets: fields
 * are names, numbers, offsets, codes.
 *
 *     LOG(LOG_WARN, "partition paused", LOG_S("topic", topic), LOG_I("partition", partition));
 *
 * Whoever handles an error logs it, once; nobody logs and returns. The level is tested before any
 * field is formatted. Lines with the same message beyond 10 in a second (1,000 with the level at `debug`) are
 * counted and reported as suppressed with the next one that passes.
 * Texts beyond 1 KiB are cut, a line ends at 4 KiB; what that cost shows as cut=1.
 *
 * Between log_start and log_stop nobody waits for stderr but a thread made for it: lines go to a buffer, and those that
 * find it full are dropped and counted, which a line says when there is room again. Without log_start, as in commands
 * that end by themselves, a line is written at once.
 * Thread: any. Lock: one of its own, held for a copy; without log_start for one write(2).
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/slice.h"

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
	const char *name; /* NULL ends the list */
	enum { LOG_FIELD_TEXT, LOG_FIELD_INT, LOG_FIELD_REAL } kind;
	struct slice text;
	int64_t integer;
	double real;
};

#define LOG_S(field, value) ((struct log_field){.name = (field), .kind = LOG_FIELD_TEXT, .text = slice_of(value)})
#define LOG_B(field, value) ((struct log_field){.name = (field), .kind = LOG_FIELD_TEXT, .text = (value)})
#define LOG_I(field, value) ((struct log_field){.name = (field), .kind = LOG_FIELD_INT, .integer = (int64_t)(value)})
#define LOG_F(field, value) ((struct log_field){.name = (field), .kind = LOG_FIELD_REAL, .real = (value)})

#define LOG_END ((struct log_field){.name = NULL})

/* LOG(level, message, field...). The message is a constant: it is the key of the rate limit. */
#define LOG(level, ...) LOG_FIELDS(level, __VA_ARGS__, LOG_END)
#define LOG_FIELDS(level, message, ...) \
	do { \
		if (log_enabled(level)) \
			log_write((level), "" message, (const struct log_field[]){__VA_ARGS__}); \
	} while (0)

void log_setup(enum log_format format, enum log_level level);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *message, const struct log_field *fields);

/* Starts the thread that writes, with room for `buffer_bytes` (at least one line) that stderr does not take yet. */
void log_start(size_t buffer_bytes);
/* Waits up to `timeout_ms` for stderr to take what is buffered, and ends the thread; one that is held up for longer is left
 * behind, and drops what comes. Does nothing when not started. */
void log_stop(int timeout_ms);
/* Text that is no line of the log, whole with its newline, in its place among them. */
void log_text(struct slice text);
/* Lines, and texts, that found the buffer full since the start. */
uint64_t log_dropped_total(void);

/* Lines that the limit has held back since the start. */
uint64_t log_suppressed_total(void);

#endif
