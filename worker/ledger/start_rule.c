#include "worker/ledger/start_rule.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MARK_PREFIX "dw1 "

void commit_mark_format(const struct commit_mark *m, char text[COMMIT_MARK_TEXT_MAX])
{
	int at = snprintf(text, COMMIT_MARK_TEXT_MAX, MARK_PREFIX);
	for (size_t i = 0; i < sizeof(m->epoch.bytes); i++)
		at += snprintf(text + at, COMMIT_MARK_TEXT_MAX - (size_t)at, "%02x", m->epoch.bytes[i]);
	snprintf(text + at, COMMIT_MARK_TEXT_MAX - (size_t)at, " %016" PRIx64, m->lsn);
}

static bool parse_hex(const char **text, size_t digits, uint8_t *bytes)
{
	for (size_t i = 0; i < digits; i++) {
		char c = (*text)[i];
		int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (value < 0)
			return false;
		bytes[i / 2] = (uint8_t)(i % 2 ? bytes[i / 2] << 4 | value : value);
	}
	*text += digits;
	return true;
}

bool commit_mark_parse(const char *text, struct commit_mark *m)
{
	uint8_t lsn[8];
	if (strncmp(text, MARK_PREFIX, strlen(MARK_PREFIX)) != 0)
		return false;
	text += strlen(MARK_PREFIX);
	if (!parse_hex(&text, 32, m->epoch.bytes) || *text++ != ' ' || !parse_hex(&text, 16, lsn) || *text)
		return false;
	m->lsn = 0;
	for (size_t i = 0; i < sizeof(lsn); i++)
		m->lsn = m->lsn << 8 | lsn[i];
	return true;
}

static int64_t lower(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* What is lost when the stored offset lies outside of the log; an empty range when nothing is. */
static struct offset_range lost_range(int64_t stored, const struct start_facts *f)
{
	if (stored < f->log_start)
		return (struct offset_range){stored, f->log_start};
	if (stored > f->log_end)
		return (struct offset_range){f->log_end, stored};
	return (struct offset_range){0, 0};
}

struct start_verdict start_rule(const struct start_facts *f, const struct offset_range *accepted)
{
	struct start_verdict v = {.start = f->log_start};
	if (f->committed >= 0 && !f->marked) {
		v.reset = true;
		v.start = f->committed;
		v.range = lost_range(f->committed, f);
	} else if (f->progress >= 0) {
		v.start = f->committed >= 0 ? lower(f->committed, f->progress) : f->progress;
		v.range = lost_range(v.start, f);
		/* The higher of the two may lie above the end while the lower does not. */
		if (v.range.from == v.range.to)
			v.range = lost_range(f->committed > f->progress ? f->committed : f->progress, f);
	} else if (f->committed >= 0) {
		/* The database has forgotten all; only a log that is whole can make up for it. */
		v.range = f->log_start > 0 ? (struct offset_range){0, f->log_start} : lost_range(f->committed, f);
	}
	if (v.range.from == v.range.to)
		return v;
	v.lost = !accepted || accepted->from != v.range.from || accepted->to != v.range.to;
	/* A log that ends below a stored offset may be another log: only all of it is sure to be read. */
	v.start = f->log_start;
	return v;
}

bool start_rule_progress_lost(const struct start_facts *f, const struct commit_mark *mark,
                              const struct history_epoch *epoch)
{
	return f->committed >= 0 && f->marked && f->progress < f->committed &&
	       memcmp(mark->epoch.bytes, epoch->bytes, sizeof(epoch->bytes)) == 0;
}
