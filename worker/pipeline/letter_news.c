#include "worker/pipeline/letter_news.h"

#include "common/buf.h"
#include "common/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The first line waits for what comes with the first letter, the next ones for a minute's. */
#define GATHER_US (1 * INT64_C(1000000))
#define INTERVAL_US (60 * INT64_C(1000000))

void letter_news_note(struct letter_news *n, enum error_code code, struct slice topic, int32_t partition,
                      int64_t offset, const char *field)
{
	n->counts[code]++;
	if (n->count++)
		return;
	n->code = code;
	n->partition = partition;
	n->offset = offset;
	snprintf(n->topic, sizeof(n->topic), "%.*s", (int)topic.len, topic.data);
	snprintf(n->field, sizeof(n->field), "%s", field);
}

static void put_counts(const struct letter_news *n, struct buf *text)
{
	for (int code = 0; code < ERROR_CODE_COUNT; code++)
		if (n->counts[code])
			buf_printf(text, "%s%s:%" PRIu64, text->len ? "," : "", error_code_name((enum error_code)code),
			           n->counts[code]);
}

void letter_news_end(struct letter_news *n)
{
	if (!n->count)
		return;
	struct buf counts = BUF_INIT;
	put_counts(n, &counts);
	LOG(LOG_WARN, "dead letters", LOG_I("count", n->count), LOG_S("codes", counts.data), LOG_S("topic", n->topic),
	    LOG_I("partition", n->partition), LOG_I("offset", n->offset), LOG_S("code", error_code_name(n->code)),
	    LOG_S("field", n->field));
	buf_release(&counts);
	*n = (struct letter_news){0};
}

void letter_news_say(struct letter_news *n, int64_t now_us)
{
	if (!n->count)
		return;
	if (!n->due_us)
		n->due_us = now_us + GATHER_US > n->earliest_us ? now_us + GATHER_US : n->earliest_us;
	if (now_us < n->due_us)
		return;
	letter_news_end(n);
	n->earliest_us = now_us + INTERVAL_US;
}
