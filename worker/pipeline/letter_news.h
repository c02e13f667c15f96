/*
 * Dead letters in the log: a line a minute at most, with how many there were of which code and the first of them as an
 * example. Each one is in the dead-letter topic anyway; this is what tells an operator to look there.
 *
 *     letter_news_note(&n, code, topic, partition, offset, field)   // each one that was delivered
 *     letter_news_say(&n, now_us)                                   // often
 *
 * Plain data, no clock: `now_us` is monotonic and an argument. Thread: one at a time.
 */
#ifndef WORKER_PIPELINE_LETTER_NEWS_H
#define WORKER_PIPELINE_LETTER_NEWS_H

#include "common/slice.h"
#include "schemas/error_code.h"

#include <stdint.h>

enum { LETTER_TOPIC_BYTES = 250, LETTER_FIELD_BYTES = 192 };

struct letter_news {
	uint64_t counts[ERROR_CODE_COUNT]; /* since the last line */
	uint64_t count;
	int64_t due_us;     /* the next line, while there is something to say; 0: not set yet */
	int64_t earliest_us; /* and never before this */
	/* The first one. */
	enum error_code code;
	int32_t partition;
	int64_t offset;
	char topic[LETTER_TOPIC_BYTES];
	char field[LETTER_FIELD_BYTES];
};

/* `topic` and `field` are copied, cut if need be. */
void letter_news_note(struct letter_news *n, enum error_code code, struct slice topic, int32_t partition,
                      int64_t offset, const char *field);
/* Says what there is to say, if it is time. */
void letter_news_say(struct letter_news *n, int64_t now_us);
/* Says what is left: nothing comes any more. */
void letter_news_end(struct letter_news *n);

#endif
