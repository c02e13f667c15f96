/*
 * The start rule against an oracle that repeats the contract's sentences (section 5), over every small log
 * with every commit and progress; and the text of a commit's mark.
 */
#include "worker/ledger/start_rule.h"

#include "common/prng.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ck_assert tells the parent process of each success, too: too slow for all cases of a small world. */
#define EXPECT(condition, ...) \
	do { \
		if (!(condition)) \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

static void describe(const struct start_facts *f, char text[160])
{
	snprintf(text, 160, "commit %" PRId64 "%s, progress %" PRId64 ", log [%" PRId64 ", %" PRId64 ")", f->committed,
		 f->committed < 0 ? ""
		 : f->marked      ? " marked"
				  : " unmarked",
		 f->progress, f->log_start, f->log_end);
}

/* ---- the oracle ---- */

struct expected {
	bool lost;
	bool reset;
	bool foreign;
	bool other_log; /* lost from 0 on */
	int64_t start;
};

static bool below(int64_t stored, const struct start_facts *f)
{
	return stored < f->log_start;
}

static bool above(int64_t stored, const struct start_facts *f)
{
	return stored > f->log_end;
}

static struct expected oracle(const struct start_facts *f)
{
	bool commit = f->committed >= 0, progress = f->progress >= 0;
	/* "An unmarked commit is an operator's reset: it is obeyed." Progress is set to it, so only it is stored. "One that
	 * turns up while a worker of this ledger has held the partition all along is a foreign member's: progress counts." */
	bool passed_over = commit && !f->marked && progress && f->group_kept;
	/* One that progress was set to already is the reset that was obeyed then. */
	bool foreign = passed_over && f->committed != f->progress;
	if (commit && !f->marked && !passed_over)
		return (struct expected){below(f->committed, f) || above(f->committed, f), true, false, false,
					 f->committed};
	/* "The mark carries the cluster's id, since mirrors copy commits." */
	commit &= !passed_over && !(f->marked && f->mark_elsewhere);
	/* "A marked commit and progress: the lower." "A stored offset below the start of the log or above its
	 * end is data loss." "Progress alone: that." */
	if (progress) {
		int64_t low = commit && f->committed < f->progress ? f->committed : f->progress;
		int64_t high = commit && f->committed > f->progress ? f->committed : f->progress;
		return (struct expected){below(low, f) || above(high, f), false, foreign, !below(low, f) && above(high, f),
					 low};
	}
	/* "Neither, or a marked commit alone: the start of the log (a marked commit alone with a log that no
	 * longer begins at 0 is data loss)." */
	bool whole = f->log_start == 0;
	return (struct expected){commit && (above(f->committed, f) || !whole), false, foreign,
				 commit && whole && above(f->committed, f), f->log_start};
}

/* ---- the small world ---- */

enum { WORLD = 7 };

/* What was found before, and what an operator has accepted of it, where nothing is lost now. */
static void check_not_lost(const struct start_facts *f, const struct expected *e, const char *what)
{
	struct start_facts before = *f;
	struct start_verdict v = start_rule(&before);
	EXPECT(!v.lost && !v.accepted, "%s: lost", what);
	EXPECT(v.start == e->start, "%s: starts at %" PRId64 ", not %" PRId64, what, v.start, e->start);
	EXPECT(v.reset == e->reset && v.foreign == e->foreign, "%s: reset", what);
	EXPECT(v.range.from == v.range.to, "%s: a range without a loss", what);
	/* "A found loss is kept until it is accepted; a restart, or a log that has grown, changes nothing." */
	before.loss = LOSS_FOUND;
	before.loss_range = (struct offset_range){2, 4};
	v = start_rule(&before);
	EXPECT(v.lost == !e->reset, "%s: found before", what);
	EXPECT(e->reset || (v.range.from == 2 && v.range.to == 4), "%s: the range found before", what);
	before.loss = LOSS_ACCEPTED;
	v = start_rule(&before);
	EXPECT(!v.lost && v.accepted == !e->reset, "%s: accepted", what);
	EXPECT(v.start == (e->reset ? e->start : f->log_start), "%s: accepted, starts at %" PRId64, what, v.start);
}

static void check_lost(const struct start_facts *f, const struct expected *e, const char *what)
{
	struct start_verdict v = start_rule(f);
	EXPECT(v.lost && v.reason, "%s: not lost", what);
	EXPECT(v.reset == e->reset && v.foreign == e->foreign, "%s: reset", what);
	EXPECT(v.range.from < v.range.to, "%s: an empty range", what);
	/* Another log is lost from 0 on; else what is lost is not in the log, and ends or begins with it. */
	EXPECT(e->other_log ? v.range.from == 0 : v.range.to == f->log_start || v.range.from == f->log_end,
	       "%s: [%" PRId64 ", %" PRId64 ") lost", what, v.range.from, v.range.to);
	for (int64_t from = v.range.from - 1; from <= v.range.from + 1; from++)
		for (int64_t to = v.range.to - 1; to <= v.range.to + 1; to++) {
			struct start_facts accepting = *f;
			accepting.loss = LOSS_ACCEPTED;
			accepting.loss_range = (struct offset_range){from, to};
			/* What is lost beyond it was not accepted. */
			bool covers = from <= v.range.from && to >= v.range.to;
			struct start_verdict again = start_rule(&accepting);
			EXPECT(again.lost == !covers && again.accepted == covers, "%s: [%" PRId64 ", %" PRId64 ") accepted",
			       what, from, to);
			EXPECT(!covers || again.start == f->log_start, "%s: accepted, starts at %" PRId64, what, again.start);
			accepting.loss = LOSS_FOUND;
			again = start_rule(&accepting);
			EXPECT(again.lost && again.range.from <= v.range.from && again.range.to >= v.range.to,
			       "%s: [%" PRId64 ", %" PRId64 ") found before", what, from, to);
		}
}

START_TEST(test_start_rule__every_case_of_a_small_world)
{
	int cases = 0, lost = 0;
	struct start_facts f = {0};
	for (f.log_start = 0; f.log_start < WORLD; f.log_start++)
		for (f.log_end = f.log_start; f.log_end < WORLD; f.log_end++)
			for (f.committed = -1; f.committed <= WORLD; f.committed++)
				for (f.progress = -1; f.progress <= WORLD; f.progress++)
					for (int flags = 0; flags < 8; flags++) {
						char what[160];
						f.marked = flags & 1;
						f.group_kept = flags & 2;
						f.mark_elsewhere = f.marked && flags & 4;
						f.progress_before = WORLD;
						describe(&f, what);
						struct expected e = oracle(&f);
						(e.lost ? check_lost : check_not_lost)(&f, &e, what);
						cases++;
						lost += e.lost;
					}
	ck_assert_int_eq(cases, 28 * 9 * 9 * 8);
	ck_assert_int_gt(lost, 4000);
	ck_assert_int_gt(cases - lost, 1600);
}
END_TEST

/* ---- cases by name ---- */

#define BIG INT64_C(4000000000000)
#define NONE (-1)
#define FACTS(commit, is_marked, recorded, start, end) \
	{.committed = (commit), .marked = (is_marked), .progress = (recorded), .progress_before = (recorded), \
	 .log_start = (start), .log_end = (end)}

static const struct {
	const char *what;
	struct start_facts facts;
	bool lost, reset;
	int64_t start; /* when not lost */
	struct offset_range range;
} rows[] = {
	{"a new group", FACTS(NONE, false, NONE, 0, 90), false, false, 0, {0, 0}},
	{"a new group on a log that was cut", FACTS(NONE, false, NONE, 40, 90), false, false, 40, {0, 0}},
	{"an empty log", FACTS(NONE, false, NONE, 0, 0), false, false, 0, {0, 0}},
	{"no commit, progress", FACTS(NONE, false, 50, 0, 90), false, false, 50, {0, 0}},
	{"no commit, progress at the start of a cut log", FACTS(NONE, false, 40, 40, 90), false, false, 40, {0, 0}},
	{"no commit, progress at the end", FACTS(NONE, false, 90, 40, 90), false, false, 90, {0, 0}},
	{"no commit, progress below the log", FACTS(NONE, false, 39, 40, 90), true, false, 0, {39, 40}},
	{"no commit, progress above the log", FACTS(NONE, false, 91, 40, 90), true, false, 0, {0, 91}},

	{"a reset is obeyed", FACTS(60, false, NONE, 0, 90), false, true, 60, {0, 0}},
	{"a reset back", FACTS(10, false, 50, 0, 90), false, true, 10, {0, 0}},
	{"a reset to where it is", FACTS(50, false, 50, 0, 90), false, true, 50, {0, 0}},
	{"a reset forward, past progress", FACTS(60, false, 50, 0, 90), false, true, 60, {0, 0}},
	{"a reset to 0", FACTS(0, false, 50, 0, 90), false, true, 0, {0, 0}},
	{"a reset to the end", FACTS(90, false, 50, 40, 90), false, true, 90, {0, 0}},
	{"a reset makes progress below the log good", FACTS(60, false, 5, 40, 90), false, true, 60, {0, 0}},
	{"and progress above it: the topic was made anew", FACTS(0, false, 700, 0, 90), false, true, 0, {0, 0}},
	{"a reset below the log", FACTS(39, false, 50, 40, 90), true, true, 0, {39, 40}},
	{"a reset above the log", FACTS(95, false, 50, 40, 90), true, true, 0, {90, 95}},

	{"commit and progress agree", FACTS(50, true, 50, 0, 90), false, false, 50, {0, 0}},
	{"a commit behind progress: a crash between the two", FACTS(45, true, 50, 0, 90), false, false, 45, {0, 0}},
	{"a commit ahead of progress: the database lost something", FACTS(50, true, 45, 0, 90), false, false, 45, {0, 0}},
	{"agreed at 0", FACTS(0, true, 0, 0, 90), false, false, 0, {0, 0}},
	{"the commit below the log, progress in it", FACTS(30, true, 50, 40, 90), true, false, 0, {30, 40}},
	{"progress below the log, the commit in it", FACTS(50, true, 30, 40, 90), true, false, 0, {30, 40}},
	{"both below the log", FACTS(35, true, 30, 40, 90), true, false, 0, {30, 40}},
	{"the commit above the log", FACTS(95, true, 50, 40, 90), true, false, 0, {0, 95}},
	{"progress above the log", FACTS(50, true, 95, 40, 90), true, false, 0, {0, 95}},
	{"a topic made anew, empty", FACTS(50, true, 50, 0, 0), true, false, 0, {0, 50}},

	{"a marked commit alone, the log whole", FACTS(50, true, NONE, 0, 90), false, false, 0, {0, 0}},
	{"a marked commit alone, the log cut", FACTS(50, true, NONE, 1, 90), true, false, 0, {0, 1}},
	{"at its very start", FACTS(40, true, NONE, 40, 90), true, false, 0, {0, 40}},
	{"a marked commit alone, above a whole log", FACTS(91, true, NONE, 0, 90), true, false, 0, {0, 91}},

	{"large offsets", FACTS(BIG + 7, true, BIG + 5, BIG, BIG + 9), false, false, BIG + 5, {0, 0}},
	{"large losses", FACTS(7, true, BIG + 5, BIG, BIG + 9), true, false, 0, {7, BIG}},
};

START_TEST(test_start_rule__named_cases)
{
	struct start_facts f = rows[_i].facts;
	struct start_verdict v = start_rule(&f);
	ck_assert_msg(v.lost == rows[_i].lost, "%s: %s", rows[_i].what, v.lost ? "lost" : "not lost");
	ck_assert_msg(v.reset == rows[_i].reset, "%s: reset", rows[_i].what);
	ck_assert_msg(v.range.from == rows[_i].range.from && v.range.to == rows[_i].range.to,
		      "%s: [%" PRId64 ", %" PRId64 ")", rows[_i].what, v.range.from, v.range.to);
	ck_assert_msg(v.lost || v.start == rows[_i].start, "%s: starts at %" PRId64, rows[_i].what, v.start);
	if (!rows[_i].lost)
		return;
	f.loss = LOSS_ACCEPTED;
	f.loss_range = rows[_i].range;
	v = start_rule(&f);
	ck_assert_msg(!v.lost && v.accepted, "%s: accepted, and still lost", rows[_i].what);
	ck_assert_msg(v.start == f.log_start, "%s: accepted, starts at %" PRId64, rows[_i].what, v.start);
}
END_TEST

/* ---- whose log it is ---- */

#define PRINT {true, 49, 7, 1}

static const struct {
	const char *what;
	struct fingerprint print;
	int64_t log_start;
	enum log_proof proof;
	bool other_cluster;
	bool lost; /* else it starts at 50 */
} logs[] = {
	{"nothing is found out yet", PRINT, 0, LOG_UNPROVEN, false, false},
	{"another record", PRINT, 0, LOG_OTHER_RECORD, false, true},
	{"replaced while it was read", PRINT, 0, LOG_REPLACED, false, true},
	{"replaced, and progress has gone on without a fingerprint", {0}, 0, LOG_REPLACED, false, true},
	{"replaced, and retention has passed the record since", PRINT, 50, LOG_REPLACED, false, true},
	{"the record is missing", PRINT, 0, LOG_RECORD_MISSING, false, true},
	{"it is missing from its very offset on", PRINT, 49, LOG_RECORD_MISSING, false, true},
	{"retention has passed it", PRINT, 50, LOG_RECORD_MISSING, false, false},
	{"retention has passed it, in another cluster", PRINT, 50, LOG_RECORD_MISSING, true, true},
	{"retention has passed it, nothing read", PRINT, 50, LOG_UNPROVEN, true, true},
	{"a mirror that kept offsets", PRINT, 0, LOG_UNPROVEN, true, false},
	{"another record, in another cluster", PRINT, 0, LOG_OTHER_RECORD, true, true},
	{"no fingerprint", {0}, 0, LOG_UNPROVEN, false, false},
	{"no fingerprint, in another cluster", {0}, 0, LOG_UNPROVEN, true, true},
	{"what was found out about no fingerprint", {0}, 0, LOG_OTHER_RECORD, false, false},
};

START_TEST(test_start_rule__whose_log_it_is)
{
	struct start_facts f = {.committed = -1, .progress = 50, .log_start = logs[_i].log_start, .log_end = 400,
				.print = logs[_i].print, .proof = logs[_i].proof, .other_cluster = logs[_i].other_cluster};
	struct start_verdict v = start_rule(&f);
	ck_assert_msg(v.lost == logs[_i].lost, "%s: %s", logs[_i].what, v.lost ? v.reason : "not lost");
	if (v.lost)
		ck_assert_msg(v.range.from == 0 && v.range.to == 50, "%s: [%" PRId64 ", %" PRId64 ")", logs[_i].what,
			      v.range.from, v.range.to);
	else
		ck_assert_int_eq(v.start, 50);
	/* Nothing was settled: there is nothing to lose. */
	f.progress = 0;
	f.log_start = 0;
	ck_assert_msg(!start_rule(&f).lost, "%s: lost at 0", logs[_i].what);
	/* A reset says where to read. */
	f.progress = 50;
	f.committed = 60;
	v = start_rule(&f);
	ck_assert_msg(!v.lost && v.reset && v.start == 60, "%s: a reset", logs[_i].what);
}
END_TEST

/* An earlier owner may settle what was written after the end was asked for. */
START_TEST(test_start_rule__progress_beyond_the_end_is_looked_at_twice)
{
	struct start_facts f = {.committed = -1, .progress = 50, .log_end = 49};
	ck_assert(start_rule(&f).unsure);
	f.progress_before = 49;
	ck_assert(start_rule(&f).unsure);
	f.progress_before = 50;
	struct start_verdict v = start_rule(&f);
	ck_assert(!v.unsure && v.lost && v.range.from == 0 && v.range.to == 50);
	f.log_end = 50;
	f.progress_before = 0;
	v = start_rule(&f);
	ck_assert(!v.unsure && !v.lost && v.start == 50);
}
END_TEST

/* ---- marks ---- */

static const struct commit_mark example = {
	{{0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0xa0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x00}},
	UINT64_C(0x00000001deadbeef),
	{""},
};
#define EXAMPLE "dw1 00017f80ff0aa0123456789abcdef000 00000001deadbeef"

/* Workers of two releases share a group: the text is fixed. */
START_TEST(test_start_rule__mark_text)
{
	char text[COMMIT_MARK_TEXT_MAX];
	struct commit_mark m;

	commit_mark_format(&example, text);
	ck_assert_str_eq(text, EXAMPLE);
	ck_assert(commit_mark_parse(EXAMPLE, &m));
	ck_assert(history_epoch_equal(&m.epoch, &example.epoch));
	ck_assert_uint_eq(m.lsn, example.lsn);
	ck_assert_str_eq(m.cluster.text, "");
	m.cluster = cluster_id_of("5L6g3nShT-eMCtK--X86sw");
	commit_mark_format(&m, text);
	ck_assert_str_eq(text, EXAMPLE " 5L6g3nShT-eMCtK--X86sw");
	ck_assert(commit_mark_parse(text, &m));
	ck_assert_str_eq(m.cluster.text, "5L6g3nShT-eMCtK--X86sw");
}
END_TEST

/* Taken for an operator's, it would set progress back while releases are mixed. */
START_TEST(test_start_rule__a_later_releases_mark_is_a_mark)
{
	static const char *const later[] = {"dw2 whatever", "dw2 ", "dw10 00017f80ff0aa0123456789abcdef000 00000001deadbeef x"};
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		struct commit_mark m = example;
		ck_assert(commit_mark_parse(later[i], &m));
		ck_assert(history_epoch_equal(&m.epoch, &(struct history_epoch){0}) && m.lsn == 0 && !*m.cluster.text);
	}
}
END_TEST

START_TEST(test_start_rule__cluster_ids)
{
	struct cluster_id none = cluster_id_of(""), a = cluster_id_of("a b\n\xc3"), b = cluster_id_of("b");
	char longest[200];
	ck_assert_str_eq(a.text, "a?b??");
	memset(longest, 'x', sizeof(longest));
	longest[199] = '\0';
	ck_assert_uint_eq(strlen(cluster_id_of(longest).text), sizeof(a.text) - 1);
	ck_assert(cluster_id_differs(&a, &b) && !cluster_id_differs(&a, &a));
	ck_assert(!cluster_id_differs(&a, &none) && !cluster_id_differs(&none, &b) && !cluster_id_differs(&none, &none));
}
END_TEST

START_TEST(test_start_rule__marks_come_back_as_they_were)
{
	struct prng random = prng_of(20260101);

	for (int i = 0; i < 2000; i++) {
		struct commit_mark m, back;
		char text[COMMIT_MARK_TEXT_MAX];
		memset(text, 'x', sizeof(text));
		for (size_t b = 0; b < sizeof(m.epoch.bytes); b++)
			m.epoch.bytes[b] = (uint8_t)prng_next(&random);
		m.cluster = cluster_id_of(i % 2 ? "" : "MkU3OEVBNTcwNTJENDM2Qk");
		m.lsn = i == 0 ? 0 : i == 1 ? UINT64_MAX : prng_next(&random) >> prng_below(&random, 64);
		commit_mark_format(&m, text);
		EXPECT(strnlen(text, sizeof(text)) < sizeof(text), "no end");
		EXPECT(commit_mark_parse(text, &back), "%s: refused", text);
		EXPECT(history_epoch_equal(&m.epoch, &back.epoch) && m.lsn == back.lsn &&
			       strcmp(m.cluster.text, back.cluster.text) == 0, "%s: another one", text);
	}
}
END_TEST

/* What others leave in a commit's metadata; taken for ours, an operator's reset would not be obeyed. */
static const char *const foreign[] = {
	"",
	" ",
	"dw1",
	"dw1 ",
	"some other client's",
	"{\"v\":1}",
	"00017f80ff0aa0123456789abcdef000 00000001deadbeef",
	"dw2",
	"dw02 00017f80ff0aa0123456789abcdef000 00000001deadbeef",
	"dwx 00017f80ff0aa0123456789abcdef000 00000001deadbeef",
	EXAMPLE " a b",
	"DW1 00017f80ff0aa0123456789abcdef000 00000001deadbeef",
	" " EXAMPLE,
	EXAMPLE " ",
	EXAMPLE "0",
	EXAMPLE "\n",
	"dw1  00017f80ff0aa0123456789abcdef000 00000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef000  00000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef000-00000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef00000000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef00 00000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef0000 0000001deadbeef",
	"dw1 00017F80FF0AA0123456789ABCDEF000 00000001DEADBEEF",
	"dw1 00017f80ff0aa0123456789abcdef00g 00000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef000 00000001deadbee",
	"dw1 00017f80ff0aa0123456789abcdef000 +0000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef000 00000001deadbee:",
	"dw1 00017f80-ff0a-a012-3456-789abcdef000 00000001deadbeef",
	"dw1 00017f80ff0aa0123456789abcdef000",
	"dw1 00017f80ff0aa0123456789abcdef000 ",
};

START_TEST(test_start_rule__foreign_metadata_is_no_mark)
{
	struct commit_mark m;
	/* Of its own length: a read past the end is one of AddressSanitizer's. */
	char *text = strdup(foreign[_i]);
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(!commit_mark_parse(text, &m), "\"%s\" taken for a mark", text);
	free(text);
}
END_TEST

START_TEST(test_start_rule__every_cut_of_a_mark_is_no_mark)
{
	struct commit_mark m;
	for (size_t len = 0; len < strlen(EXAMPLE); len++) {
		char *text = strndup(EXAMPLE, len);
		ck_assert_ptr_nonnull(text);
		ck_assert_msg(!commit_mark_parse(text, &m), "\"%s\" taken for a mark", text);
		free(text);
	}
}
END_TEST

/* ---- proof of loss ---- */

static const struct {
	const char *what;
	int64_t committed;
	bool marked;
	int64_t progress;
	bool same_epoch;
	bool lost;
} proof_rows[] = {
	{"nothing at all", NONE, false, NONE, true, false},
	{"progress alone", NONE, false, 50, true, false},
	{"they agree", 50, true, 50, true, false},
	{"the commit is behind, as it may be", 49, true, 50, true, false},
	{"progress is behind by one", 50, true, 49, true, true},
	{"progress is far behind", 50, true, 0, true, true},
	{"progress is gone", 50, true, NONE, true, true},
	{"progress is gone, and was 0", 0, true, NONE, true, true},
	{"behind the commit of another epoch: known already", 50, true, 49, false, false},
	{"gone, by a commit of another epoch", 50, true, NONE, false, false},
	{"behind an operator's reset", 50, false, 49, true, false},
	{"none beside an operator's reset", 50, false, NONE, true, false},
};

START_TEST(test_start_rule__progress_behind_a_marked_commit)
{
	const struct start_facts f = {.committed = proof_rows[_i].committed, .marked = proof_rows[_i].marked,
				      .progress = proof_rows[_i].progress, .log_end = 90};
	/* Every byte of the epoch counts. */
	for (size_t byte = 0; byte < sizeof(example.epoch.bytes); byte++) {
		struct history_epoch epoch = example.epoch;
		if (!proof_rows[_i].same_epoch)
			epoch.bytes[byte] ^= 1;
		ck_assert_msg(start_rule_progress_lost(&f, &example, &epoch) == proof_rows[_i].lost, "%s",
			      proof_rows[_i].what);
	}
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("start_rule");
	TCase *tc = tcase_create("start_rule");
	tcase_add_test(tc, test_start_rule__every_case_of_a_small_world);
	tcase_add_loop_test(tc, test_start_rule__named_cases, 0, ROWS(rows));
	tcase_add_loop_test(tc, test_start_rule__whose_log_it_is, 0, ROWS(logs));
	tcase_add_test(tc, test_start_rule__progress_beyond_the_end_is_looked_at_twice);
	tcase_add_test(tc, test_start_rule__mark_text);
	tcase_add_test(tc, test_start_rule__cluster_ids);
	tcase_add_test(tc, test_start_rule__a_later_releases_mark_is_a_mark);
	tcase_add_test(tc, test_start_rule__marks_come_back_as_they_were);
	tcase_add_loop_test(tc, test_start_rule__foreign_metadata_is_no_mark, 0, ROWS(foreign));
	tcase_add_test(tc, test_start_rule__every_cut_of_a_mark_is_no_mark);
	tcase_add_loop_test(tc, test_start_rule__progress_behind_a_marked_commit, 0, ROWS(proof_rows));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
