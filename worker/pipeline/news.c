#include "worker/pipeline/news.h"

#include "common/buf.h"
#include "common/ensure.h"
#include "common/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The log cuts a text beyond 1 KiB: the rest of a long list goes into lines of its own. */
enum { TEXT_BYTES_MAX = 1024 - NEWS_DETAIL_BYTES - 32 };

static const char *const names[NEWS_KIND_COUNT] = {
	[NEWS_LOST] = "lost",         [NEWS_ASSIGNED] = "assigned", [NEWS_STARTS] = "start",
	[NEWS_RESTARTS] = "restart", [NEWS_REVOKED] = "revoked",   [NEWS_GONE] = "gone",
};

void news_add(struct news *n, enum news_kind kind, const char *topic, int32_t partition, const char *detail)
{
	if (n->count == n->capacity) {
		n->capacity = n->capacity ? 2 * n->capacity : 16;
		n->items = reallocarray(n->items, n->capacity, sizeof(*n->items));
		ENSURE(n->items);
	}
	struct news_item *item = &n->items[n->count++];
	*item = (struct news_item){.kind = kind, .topic = topic, .partition = partition};
	snprintf(item->detail, sizeof(item->detail), "%s", detail);
}

static int compare(const void *a, const void *b)
{
	const struct news_item *left = a, *right = b;
	int order = (left->kind > right->kind) - (left->kind < right->kind);
	if (!order)
		order = strcmp(left->topic, right->topic);
	return order ? order : (left->partition > right->partition) - (left->partition < right->partition);
}

static bool same_line(const struct news_item *a, const struct news_item *b)
{
	return a->kind == b->kind && strcmp(a->topic, b->topic) == 0;
}

/* Appends the partitions of one line, from items[at] on. Returns: the index behind them. */
static size_t put_list(const struct news *n, size_t at, struct buf *text)
{
	const struct news_item *first = &n->items[at];
	for (size_t to; at < n->count && same_line(first, &n->items[at]) && text->len < TEXT_BYTES_MAX; at = to) {
		const struct news_item *from = &n->items[at];
		to = at + 1;
		while (!*from->detail && to < n->count && same_line(from, &n->items[to]) &&
		       n->items[to].partition <= n->items[to - 1].partition + 1)
			to++;
		buf_printf(text, "%s%" PRId32, text->len ? "," : "", from->partition);
		if (n->items[to - 1].partition > from->partition)
			buf_printf(text, "-%" PRId32, n->items[to - 1].partition);
		buf_puts(text, from->detail);
	}
	return at;
}

void news_say(struct news *n)
{
	struct buf text = BUF_INIT;
	if (n->count)
		qsort(n->items, n->count, sizeof(*n->items), compare);
	for (size_t at = 0; at < n->count; buf_clear(&text)) {
		const struct news_item *first = &n->items[at];
		at = put_list(n, at, &text);
		if (first->kind == NEWS_LOST)
			LOG(LOG_ERROR, "offsets lost: not consumed; accept with run --accept-loss TOPIC:PARTITION:FROM-TO",
			    LOG_S("topic", first->topic), LOG_S("lost", text.data));
		else
			LOG(LOG_INFO, "partitions", LOG_S("topic", first->topic), LOG_S(names[first->kind], text.data));
	}
	n->count = 0;
	buf_release(&text);
}

void news_release(struct news *n)
{
	free(n->items);
}
