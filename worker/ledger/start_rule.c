#include "worker/ledger/start_rule.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MARK_PREFIX "dw1 "

struct cluster_id cluster_id_of(const char *text)
{
	struct cluster_id id;
	snprintf(id.text, sizeof(id.text), "%s", text);
	for (char *c = id.text; *c; c++)
		if (*c <= ' ' || *c > '~')
			*c = '?';
	return id;
}

bool cluster_id_differs(const struct cluster_id *a, const struct cluster_id *b)
{
	return *a->text && *b->text && strcmp(a->text, b->text) != 0;
}

void commit_mark_format(const struct commit_mark *m, char text[COMMIT_MARK_TEXT_MAX])
{
	int at = snprintf(text, COMMIT_MARK_TEXT_MAX, MARK_PREFIX);
	for (size_t i = 0; i < sizeof(m->epoch.bytes); i++)
		at += snprintf(text + at, COMMIT_MARK_TEXT_MAX - (size_t)at, "%02x", m->epoch.bytes[i]);
	snprintf(text + at, COMMIT_MARK_TEXT_MAX - (size_t)at, " %016" PRIx64 "%s%s", m->lsn,
	         *m->cluster.text ? " " : "", m->cluster.text);
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

/* "dw2 …", "dw10 …": whatever it says, an operator did not write it [I14]. */
static bool is_of_later_release(const char *text)
{
	if (strncmp(text, "dw", 2) != 0 || text[2] < '1' || text[2] > '9')
		return false;
	size_t digits = strspn(text + 2, "0123456789");
	return text[2 + digits] == ' ' && !(digits == 1 && text[2] == '1');
}

bool commit_mark_parse(const char *text, struct commit_mark *m)
{
	uint8_t lsn[8];
	if (is_of_later_release(text)) {
		*m = (struct commit_mark){0};
		return true;
	}
	if (strncmp(text, MARK_PREFIX, strlen(MARK_PREFIX)) != 0)
		return false;
	text += strlen(MARK_PREFIX);
	if (!parse_hex(&text, 32, m->epoch.bytes) || *text++ != ' ' || !parse_hex(&text, 16, lsn))
		return false;
	m->lsn = 0;
	for (size_t i = 0; i < sizeof(lsn); i++)
		m->lsn = m->lsn << 8 | lsn[i];
	m->cluster = (struct cluster_id){""};
	if (!*text)
		return true;
	if (*text++ != ' ' || !*text)
		return false;
	m->cluster = cluster_id_of(text);
	return strcmp(m->cluster.text, text) == 0;
}

static int64_t lower(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool is_empty(const struct offset_range *r)
{
	return r->from >= r->to;
}

static void lose(struct start_verdict *v, int64_t from, int64_t to, const char *reason)
{
	v->range = (struct offset_range){from, to};
	v->reason = reason;
}

/* Whether the log at hand is not the one that progress was made in. */
static bool is_another_log(const struct start_facts *f)
{
	if (f->progress <= 0)
		return false; /* nothing of it was settled */
	if (f->proof == LOG_REPLACED || (f->print.exists && f->proof == LOG_OTHER_RECORD))
		return true;
	/* Nothing is left that the fingerprint could be compared with: the cluster's id has to do. */
	if (!f->print.exists || f->log_start > f->print.offset)
		return f->other_cluster;
	return f->proof == LOG_RECORD_MISSING;
}

/* What is lost by the offsets that are stored: `low` is where to start, `high` the highest that is known settled. */
static void judge_stored(struct start_verdict *v, const struct start_facts *f, int64_t low, int64_t high)
{
	v->start = low;
	if (low < f->log_start)
		lose(v, low, f->log_start, "retention has passed what was not settled");
	else if (f->progress > f->log_end && f->progress > f->progress_before)
		v->unsure = true;
	else if (high > f->log_end)
		lose(v, 0, high, "another log: it ends below what was settled");
}

static void judge_reset(struct start_verdict *v, const struct start_facts *f)
{
	v->reset = true;
	v->start = f->committed;
	if (f->committed < f->log_start)
		lose(v, f->committed, f->log_start, "a reset below the log's start");
	else if (f->committed > f->log_end)
		lose(v, f->log_end, f->committed, "a reset beyond the log's end");
}

static void judge(struct start_verdict *v, const struct start_facts *f)
{
	int64_t committed = f->committed;
	if (committed >= 0 && !f->marked) {
		if (f->progress < 0 || !f->group_kept) {
			judge_reset(v, f);
			return;
		}
		/* Where progress is, it is a reset that was obeyed before, and not committed over yet. */
		v->foreign = committed != f->progress;
		committed = -1;
	} else if (f->mark_elsewhere) {
		committed = -1;
	}
	if (f->progress >= 0 && is_another_log(f)) {
		lose(v, 0, f->progress, "another log: it lacks the record that was settled last");
	} else if (f->progress >= 0) {
		int64_t other = committed >= 0 ? committed : f->progress;
		judge_stored(v, f, lower(other, f->progress), other > f->progress ? other : f->progress);
	} else if (committed >= 0) {
		/* The database has forgotten all; only a log that is whole can make up for it. */
		v->start = f->log_start;
		if (f->log_start > 0)
			lose(v, 0, f->log_start, "progress is gone, and the log's start, too");
		else if (committed > f->log_end)
			lose(v, 0, committed, "another log: it ends below what was committed");
	}
}

/* What was found before stays found, however the log has grown since: until it is accepted, or a reset says where to
 * read. What is lost beyond an accepted range was not accepted. */
static void remember(struct start_verdict *v, const struct start_facts *f)
{
	bool fresh = !is_empty(&v->range);
	if (f->loss == LOSS_ACCEPTED &&
	    (!fresh || (v->range.from >= f->loss_range.from && v->range.to <= f->loss_range.to))) {
		v->accepted = !v->reset || fresh;
		v->range = v->accepted ? f->loss_range : (struct offset_range){0, 0};
	} else if (f->loss == LOSS_FOUND && !v->reset) {
		if (!fresh)
			lose(v, f->loss_range.from, f->loss_range.to, "found before, and not accepted");
		v->range.from = lower(v->range.from, f->loss_range.from);
		if (v->range.to < f->loss_range.to)
			v->range.to = f->loss_range.to;
		v->lost = true;
	} else {
		v->lost = fresh;
	}
}

struct start_verdict start_rule(const struct start_facts *f)
{
	struct start_verdict v = {.start = f->log_start};
	judge(&v, f);
	if (v.unsure)
		return v;
	remember(&v, f);
	if (v.lost || v.accepted)
		v.start = f->log_start;
	return v;
}

bool start_rule_progress_lost(const struct start_facts *f, const struct commit_mark *mark,
                              const struct history_epoch *epoch)
{
	return f->committed >= 0 && f->marked && f->progress < f->committed &&
	       memcmp(mark->epoch.bytes, epoch->bytes, sizeof(epoch->bytes)) == 0;
}
