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
	int64_t start;
};

static bool outside(int64_t stored, const struct start_facts *f)
{
	return stored < f->log_start || stored > f->log_end;
}

static struct expected oracle(const struct start_facts *f)
{
	bool commit = f->committed >= 0, progress = f->progress >= 0;
	/* "An unmarked commit is an operator's reset: it is obeyed." Progress is set to it, so only it is stored. */
	if (commit && !f->marked)
		return (struct expected){outside(f->committed, f), true, f->committed};
	/* "A marked commit and progress: the lower." "A stored offset below the start of the log or above its
	 * end is data loss." */
	if (commit && progress)
		return (struct expected){outside(f->committed, f) || outside(f->progress, f), false,
					 f->committed < f->progress ? f->committed : f->progress};
	/* "Progress alone: that." */
	if (progress)
		return (struct expected){outside(f->progress, f), false, f->progress};
	/* "Neither, or a marked commit alone: the start of the log (a marked commit alone with a log that no
	 * longer begins at 0 is data loss)." */
	return (struct expected){commit && (outside(f->committed, f) || f->log_start > 0), false, f->log_start};
}

/* ---- the small world ---- */

enum { WORLD = 7 };

static void check_not_lost(const struct start_facts *f, const struct expected *e, const char *what)
{
	/* What an operator accepts without need changes nothing. */
	static const struct offset_range ranges[] = {{0, 0}, {0, 1}, {0, WORLD}, {2, 4}};
	for (size_t i = 0; i <= sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct start_verdict v = start_rule(f, i ? &ranges[i - 1] : NULL);
		EXPECT(!v.lost, "%s: lost", what);
		EXPECT(v.start == e->start, "%s: starts at %" PRId64 ", not %" PRId64, what, v.start, e->start);
		EXPECT(v.reset == e->reset, "%s: reset", what);
		EXPECT(v.range.from == v.range.to, "%s: a range without a loss", what);
	}
}

static void check_lost(const struct start_facts *f, const struct expected *e, const char *what)
{
	struct start_verdict v = start_rule(f, NULL);
	EXPECT(v.lost, "%s: not lost", what);
	EXPECT(v.reset == e->reset, "%s: reset", what);
	EXPECT(v.range.from < v.range.to, "%s: an empty range", what);
	/* What is lost is not in the log; it ends where the log begins, or begins where it ends. */
	EXPECT(v.range.to == f->log_start || v.range.from == f->log_end, "%s: [%" PRId64 ", %" PRId64 ") lost", what,
	       v.range.from, v.range.to);
	for (int64_t from = v.range.from - 1; from <= v.range.from + 1; from++)
		for (int64_t to = v.range.to - 1; to <= v.range.to + 1; to++) {
			struct offset_range accepted = {from, to};
			bool exactly = from == v.range.from && to == v.range.to;
			struct start_verdict again = start_rule(f, &accepted);
			EXPECT(again.lost == !exactly, "%s: [%" PRId64 ", %" PRId64 ") accepted", what, from, to);
			EXPECT(again.range.from == v.range.from && again.range.to == v.range.to, "%s: range", what);
			EXPECT(!exactly || again.start == f->log_start, "%s: accepted, starts at %" PRId64, what,
			       again.start);
		}
}

START_TEST(test_start_rule__every_case_of_a_small_world)
{
	int cases = 0, lost = 0;
	struct start_facts f;
	for (f.log_start = 0; f.log_start < WORLD; f.log_start++)
		for (f.log_end = f.log_start; f.log_end < WORLD; f.log_end++)
			for (f.committed = -1; f.committed <= WORLD; f.committed++)
				for (f.progress = -1; f.progress <= WORLD; f.progress++)
					for (int marked = 0; marked < 2; marked++) {
						char what[160];
						f.marked = marked;
						describe(&f, what);
						struct expected e = oracle(&f);
						(e.lost ? check_lost : check_not_lost)(&f, &e, what);
						cases++;
						lost += e.lost;
					}
	ck_assert_int_eq(cases, 28 * 9 * 9 * 2);
	ck_assert_int_gt(lost, 1000);
	ck_assert_int_gt(cases - lost, 400);
}
END_TEST

/* ---- cases by name ---- */

#define BIG INT64_C(4000000000000)
#define NONE (-1)

static const struct {
	const char *what;
	struct start_facts facts; /* committed, marked, progress, log_start, log_end */
	bool lost, reset;
	int64_t start; /* when not lost */
	struct offset_range range;
} rows[] = {
	{"a new group", {NONE, false, NONE, 0, 90}, false, false, 0, {0, 0}},
	{"a new group on a log that was cut", {NONE, false, NONE, 40, 90}, false, false, 40, {0, 0}},
	{"an empty log", {NONE, false, NONE, 0, 0}, false, false, 0, {0, 0}},
	{"no commit, progress", {NONE, false, 50, 0, 90}, false, false, 50, {0, 0}},
	{"no commit, progress at the start of a cut log", {NONE, false, 40, 40, 90}, false, false, 40, {0, 0}},
	{"no commit, progress at the end", {NONE, false, 90, 40, 90}, false, false, 90, {0, 0}},
	{"no commit, progress below the log", {NONE, false, 39, 40, 90}, true, false, 0, {39, 40}},
	{"no commit, progress above the log", {NONE, false, 91, 40, 90}, true, false, 0, {90, 91}},

	{"a reset is obeyed", {60, false, NONE, 0, 90}, false, true, 60, {0, 0}},
	{"a reset back", {10, false, 50, 0, 90}, false, true, 10, {0, 0}},
	{"a reset to where it is", {50, false, 50, 0, 90}, false, true, 50, {0, 0}},
	{"a reset forward, past progress", {60, false, 50, 0, 90}, false, true, 60, {0, 0}},
	{"a reset to 0", {0, false, 50, 0, 90}, false, true, 0, {0, 0}},
	{"a reset to the end", {90, false, 50, 40, 90}, false, true, 90, {0, 0}},
	{"a reset makes progress below the log good", {60, false, 5, 40, 90}, false, true, 60, {0, 0}},
	{"and progress above it: the topic was made anew", {0, false, 700, 0, 90}, false, true, 0, {0, 0}},
	{"a reset below the log", {39, false, 50, 40, 90}, true, true, 0, {39, 40}},
	{"a reset above the log", {95, false, 50, 40, 90}, true, true, 0, {90, 95}},

	{"commit and progress agree", {50, true, 50, 0, 90}, false, false, 50, {0, 0}},
	{"a commit behind progress: a crash between the two", {45, true, 50, 0, 90}, false, false, 45, {0, 0}},
	{"a commit ahead of progress: the database lost something", {50, true, 45, 0, 90}, false, false, 45, {0, 0}},
	{"agreed at 0", {0, true, 0, 0, 90}, false, false, 0, {0, 0}},
	{"the commit below the log, progress in it", {30, true, 50, 40, 90}, true, false, 0, {30, 40}},
	{"progress below the log, the commit in it", {50, true, 30, 40, 90}, true, false, 0, {30, 40}},
	{"both below the log", {35, true, 30, 40, 90}, true, false, 0, {30, 40}},
	{"the commit above the log", {95, true, 50, 40, 90}, true, false, 0, {90, 95}},
	{"progress above the log", {50, true, 95, 40, 90}, true, false, 0, {90, 95}},
	{"a topic made anew, empty", {50, true, 50, 0, 0}, true, false, 0, {0, 50}},

	{"a marked commit alone, the log whole", {50, true, NONE, 0, 90}, false, false, 0, {0, 0}},
	{"a marked commit alone, the log cut", {50, true, NONE, 1, 90}, true, false, 0, {0, 1}},
	{"at its very start", {40, true, NONE, 40, 90}, true, false, 0, {0, 40}},
	{"a marked commit alone, above a whole log", {91, true, NONE, 0, 90}, true, false, 0, {90, 91}},

	{"large offsets", {BIG + 7, true, BIG + 5, BIG, BIG + 9}, false, false, BIG + 5, {0, 0}},
	{"large losses", {7, true, BIG + 5, BIG, BIG + 9}, true, false, 0, {7, BIG}},
};

START_TEST(test_start_rule__named_cases)
{
	const struct start_facts *f = &rows[_i].facts;
	struct start_verdict v = start_rule(f, NULL);
	ck_assert_msg(v.lost == rows[_i].lost, "%s: %s", rows[_i].what, v.lost ? "lost" : "not lost");
	ck_assert_msg(v.reset == rows[_i].reset, "%s: reset", rows[_i].what);
	ck_assert_msg(v.range.from == rows[_i].range.from && v.range.to == rows[_i].range.to,
		      "%s: [%" PRId64 ", %" PRId64 ")", rows[_i].what, v.range.from, v.range.to);
	ck_assert_msg(v.lost || v.start == rows[_i].start, "%s: starts at %" PRId64, rows[_i].what, v.start);

	v = start_rule(f, &rows[_i].range);
	ck_assert_msg(!v.lost, "%s: accepted, and still lost", rows[_i].what);
	if (rows[_i].lost)
		ck_assert_msg(v.start == f->log_start, "%s: accepted, starts at %" PRId64, rows[_i].what, v.start);
	const struct offset_range longer = {rows[_i].range.from, rows[_i].range.to + 1};
	ck_assert_msg(start_rule(f, &longer).lost == rows[_i].lost, "%s: accepted by a longer range", rows[_i].what);
	const struct offset_range shorter = {rows[_i].range.from + 1, rows[_i].range.to};
	ck_assert_msg(start_rule(f, &shorter).lost == rows[_i].lost, "%s: accepted by a shorter range", rows[_i].what);
}
END_TEST

/* ---- marks ---- */

static const struct commit_mark example = {
	{{0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0xa0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x00}},
	UINT64_C(0x00000001deadbeef),
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
		m.lsn = i == 0 ? 0 : i == 1 ? UINT64_MAX : prng_next(&random) >> prng_below(&random, 64);
		commit_mark_format(&m, text);
		EXPECT(strnlen(text, sizeof(text)) < sizeof(text), "no end");
		EXPECT(commit_mark_parse(text, &back), "%s: refused", text);
		EXPECT(history_epoch_equal(&m.epoch, &back.epoch) && m.lsn == back.lsn, "%s: another one", text);
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
	"dw2 00017f80ff0aa0123456789abcdef000 00000001deadbeef",
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
	const struct start_facts f = {proof_rows[_i].committed, proof_rows[_i].marked, proof_rows[_i].progress, 0, 90};
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
	tcase_add_test(tc, test_start_rule__mark_text);
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
