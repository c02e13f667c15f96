/* What stands beside progress: the fingerprint of its log, what was found lost, and the group's members; against a real
 * server: worker/ledger/store_progress.c, store_group.c. */
#include "worker/ledger/store.h"

#include "tests/lib/ledger_stage.c"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/store_internal.h"

#include <check.h>

static struct private_postgres server;

#define GROUP "delivery-worker"

static const struct store_member member = {.group = GROUP, .id = 4711, .cluster = {"cluster-a"}};
static const struct store_member sibling = {.group = GROUP, .id = 4712, .cluster = {"cluster-a"}};
static const struct store_member other_group = {.group = "other", .id = 4711, .cluster = {"cluster-a"}};
static const struct store_member elsewhere = {.group = GROUP, .id = 4711, .cluster = {"cluster-b"}};
static const struct store_member nowhere = {.group = GROUP, .id = 4711};

static const struct start_facts whole_log = {.committed = -1, .log_end = 1000};

static void expect(const struct store *s, enum store_result got, const char *what)
{
	ck_assert_msg(got == STORE_OK, "%s: got %d (%s)", what, got, store_error(s));
}

/* Partition 0 is assigned; `about`: what the proof in the facts is about, or NULL. */
static struct store_assignment assign(struct store *s, const struct store_member *m, struct start_facts facts,
				      const struct fingerprint *about)
{
	struct store_assignment a = {.topic = "delivery-events", .facts = facts};
	if (about)
		a.proven_about = *about;
	const char *because;
	struct history_epoch epoch;
	expect(s, store_assign(s, m, &a, 1, &epoch, &because), "assign");
	ck_assert_msg(!because, "%s", because);
	return a;
}

static void record(struct store *s, const struct store_member *m, const struct history_epoch *epoch, int64_t claim,
		   int64_t position, const struct fingerprint *print)
{
	struct store_progress p = {.topic = "delivery-events", .claim = claim, .position = position};
	uint64_t lsn;
	if (print)
		p.print = *print;
	expect(s, store_progress(s, m, epoch, &p, 1, &lsn), "progress");
	ck_assert(p.kept);
}

START_TEST(test_store_group__the_fingerprint_stands_with_progress)
{
	const struct fingerprint print = {true, 29, UINT64_C(0xfedcba9876543210), 1700000000123};
	const struct fingerprint timeless = {true, 39, 1, -1}, older = {true, 19, 5, 5};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "fingerprints");
	struct store *s = store_new(&t.settings, 0);
	struct store_assignment a = assign(s, &member, whole_log, NULL);
	ck_assert(!a.facts.print.exists && !a.facts.other_cluster);
	record(s, &member, &t.epoch, a.claim, 30, &print);
	a = assign(s, &member, whole_log, NULL);
	ck_assert(fingerprint_matches(&a.facts.print, &print) && a.facts.print.time_ms == print.time_ms);
	ck_assert(!a.facts.other_cluster);

	/* A position below what is settled takes nothing with it; nor does one without a fingerprint. */
	record(s, &member, &t.epoch, a.claim, 20, &older);
	record(s, &member, &t.epoch, a.claim, 33, NULL);
	/* Claimed from another cluster and not proven there, it still names the one that it was made in. */
	for (int i = 0; i < 2; i++) {
		a = assign(s, &elsewhere, whole_log, NULL);
		ck_assert(a.facts.progress == 33 && fingerprint_matches(&a.facts.print, &print));
		ck_assert(a.facts.other_cluster && !a.verdict.lost);
	}
	a = assign(s, &nowhere, whole_log, NULL);
	ck_assert(!a.facts.other_cluster);
	/* Proven and recorded, it is the new one's. */
	record(s, &elsewhere, &t.epoch, a.claim, 40, &timeless);
	a = assign(s, &elsewhere, whole_log, NULL);
	ck_assert(!a.facts.other_cluster && fingerprint_matches(&a.facts.print, &timeless));
	ck_assert_int_eq(a.facts.print.time_ms, -1);
	ck_assert(assign(s, &member, whole_log, NULL).facts.other_cluster);
	/* A reset replaces it. */
	struct start_facts reset = whole_log;
	reset.committed = 12;
	ck_assert(assign(s, &member, reset, NULL).verdict.reset);
	a = assign(s, &member, whole_log, NULL);
	ck_assert(a.facts.progress == 12 && !a.facts.print.exists && !a.facts.other_cluster);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* ---- losses ---- */

static void accept(struct store *s, const char *group, const struct accepted_loss *losses, size_t count,
		   const char *refused)
{
	char text[256];
	expect(s, store_accept_losses(s, group, losses, count, text, sizeof(text)), "accept");
	ck_assert_str_eq(text, refused);
}

static void expect_lost(const struct store_assignment *a, int64_t from, int64_t to)
{
	ck_assert(a->verdict.lost);
	ck_assert_int_eq(a->verdict.range.from, from);
	ck_assert_int_eq(a->verdict.range.to, to);
}

/* Progress at 30, and another record at 29: lost. */
static struct store_assignment lose(struct ledger_stage *t, struct store *s)
{
	const struct fingerprint print = {true, 29, 7, 1}, another = {true, 29, 8, 1};
	struct store_assignment a = assign(s, &member, whole_log, NULL);
	record(s, &member, &t->epoch, a.claim, 30, &print);
	struct start_facts disproven = whole_log;
	disproven.proof = LOG_OTHER_RECORD;
	/* About a record that progress does not name, or not any more: void. */
	ck_assert(!assign(s, &member, disproven, &another).verdict.lost);
	ck_assert(!assign(s, &member, disproven, NULL).verdict.lost);
	a = assign(s, &member, disproven, &print);
	expect_lost(&a, 0, 30);
	return a;
}

START_TEST(test_store_group__a_found_loss_stays_until_it_is_accepted)
{
	const struct accepted_loss right = {"delivery-events", 0, {0, 30}}, topic = {"delivery-events", -1, {0, 0}};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "losses");
	struct store *s = store_new(&t.settings, 0);
	struct store_assignment a = lose(&t, s);
	/* Another process, that has read nothing yet. */
	for (int i = 0; i < 2; i++) {
		a = assign(s, &sibling, whole_log, NULL);
		expect_lost(&a, 0, 30);
	}
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM lost_offsets WHERE accepted_at IS NULL"), 1);
	ck_assert_int_eq(stage_number(&t, "SELECT max(next_offset) FROM progress"), 30);

	accept(s, GROUP, &right, 1, "");
	a = assign(s, &member, whole_log, NULL);
	ck_assert(a.verdict.accepted && a.verdict.start == 0);
	ck_assert_int_eq(stage_number(&t, "SELECT max(next_offset) FROM progress"), 0);
	/* Applied once; the same word again, of a pod that starts again, is fine. */
	a = assign(s, &member, whole_log, NULL);
	ck_assert(!a.verdict.accepted && !a.facts.print.exists);
	accept(s, GROUP, &right, 1, "");
	accept(s, GROUP, &topic, 1, "");
	ck_assert(!assign(s, &member, whole_log, NULL).verdict.accepted);
	/* The next loss is another one. */
	struct start_facts cut = whole_log;
	cut.log_start = 5;
	a = assign(s, &member, cut, NULL);
	expect_lost(&a, 0, 5);
	/* It grows with what retention takes meanwhile; what was accepted of it is not all then. */
	accept(s, GROUP, &topic, 1, "");
	cut.log_start = 6;
	a = assign(s, &member, cut, NULL);
	expect_lost(&a, 0, 6);
	accept(s, GROUP, &topic, 1, "");
	a = assign(s, &member, cut, NULL);
	ck_assert(a.verdict.accepted && a.verdict.start == 6);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store_group__a_reset_ends_what_was_found_lost)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "reset");
	struct store *s = store_new(&t.settings, 0);
	(void)lose(&t, s);
	struct start_facts reset = whole_log;
	reset.committed = 12;
	struct store_assignment a = assign(s, &member, reset, NULL);
	ck_assert(a.verdict.reset && !a.verdict.lost && a.verdict.start == 12);
	ck_assert(!assign(s, &member, whole_log, NULL).verdict.lost);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store_group__a_wrong_range_is_refused)
{
	static const struct {
		struct accepted_loss loss;
		const char *refused;
	} rows[] = {
		{{"delivery-events", 0, {0, 29}}, "delivery-events:0:0-29: what was found lost is 0-30"},
		{{"delivery-events", 1, {0, 30}}, "delivery-events:1:0-30: nothing of that partition was found lost"},
		{{"other", 0, {0, 30}}, "other:0:0-30: nothing of that partition was found lost"},
		{{"other", -1, {0, 0}}, "other: nothing of it was found lost"},
	};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "wrong ranges");
	struct store *s = store_new(&t.settings, 0);
	(void)lose(&t, s);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* All or none: the right one beside it is not accepted either. */
		const struct accepted_loss both[] = {{"delivery-events", 0, {0, 30}}, rows[i].loss};
		accept(s, GROUP, both, 2, rows[i].refused);
		struct store_assignment a = assign(s, &member, whole_log, NULL);
		expect_lost(&a, 0, 30);
	}
	const struct accepted_loss right = {"delivery-events", 0, {0, 30}};
	accept(s, "other", &right, 1, "delivery-events:0:0-30: nothing of that partition was found lost");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* ---- members ---- */

START_TEST(test_store_group__an_unmarked_commit_is_a_reset_only_of_an_empty_group)
{
	enum { LIVES_MS = 3600000 };
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "members");
	struct store *s = store_new(&t.settings, 0), *next = store_new(&t.settings, 1);
	struct start_facts unmarked = whole_log;
	unmarked.committed = 5;
	struct start_facts stranger = whole_log; /* another commit than the one that progress was set to */
	stranger.committed = 900;

	/* Who joins an empty group finds the resets that were made before. */
	expect(s, store_renew_member(s, &member, LIVES_MS, false), "join");
	ck_assert(assign(s, &member, unmarked, NULL).verdict.reset);
	/* From then on it is a member, and the commit that it has obeyed is no news. */
	struct store_assignment a = assign(s, &member, unmarked, NULL);
	ck_assert(!a.verdict.foreign && !a.verdict.reset && a.verdict.start == 5);
	a = assign(s, &member, stranger, NULL);
	ck_assert(a.verdict.foreign && !a.verdict.reset && a.verdict.start == 5);
	/* So is whoever joins it, also when the first one has left. */
	expect(next, store_renew_member(next, &sibling, LIVES_MS, false), "join");
	expect(s, store_leave_group(s, &member), "leave");
	ck_assert(assign(next, &sibling, stranger, NULL).verdict.foreign);
	/* The last one leaves, and a new one comes: between them was time for a reset. */
	expect(next, store_leave_group(next, &sibling), "leave");
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM members"), 0);
	expect(s, store_renew_member(s, &member, LIVES_MS, false), "join");
	ck_assert(assign(s, &member, unmarked, NULL).verdict.reset);
	ck_assert(assign(s, &member, stranger, NULL).verdict.foreign);
	/* A dead one's row expires before the group forgets it. */
	stage_run(&t, "UPDATE members SET expires_at = now() - interval '1 ms'");
	expect(next, store_renew_member(next, &sibling, LIVES_MS, false), "join");
	ck_assert(assign(next, &sibling, unmarked, NULL).verdict.reset);
	/* So does one's own, of a process that was frozen for too long; and who was thrown out begins anew. */
	for (int lost = 0; lost < 2; lost++) {
		ck_assert(assign(next, &sibling, stranger, NULL).verdict.foreign);
		if (!lost)
			stage_run(&t, "UPDATE members SET expires_at = now() - interval '1 ms'");
		expect(next, store_renew_member(next, &sibling, LIVES_MS, lost), "renew");
		ck_assert(assign(next, &sibling, unmarked, NULL).verdict.reset);
	}
	/* A renewal in time changes nothing; another group's members are not this one's. */
	expect(next, store_renew_member(next, &sibling, LIVES_MS, false), "renew");
	ck_assert(assign(next, &sibling, stranger, NULL).verdict.foreign);
	expect(s, store_renew_member(s, &other_group, LIVES_MS, false), "join");
	ck_assert(assign(s, &other_group, unmarked, NULL).verdict.reset);
	store_free(s);
	store_free(next);
	ledger_stage_close(&t);
}
END_TEST

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!private_postgres_start(&server)) {
		private_postgres_stop(&server);
		return 1;
	}
	Suite *suite = suite_create("store_group");
	TCase *c = tcase_create("store_group");
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_store_group__the_fingerprint_stands_with_progress);
	tcase_add_test(c, test_store_group__a_found_loss_stays_until_it_is_accepted);
	tcase_add_test(c, test_store_group__a_reset_ends_what_was_found_lost);
	tcase_add_test(c, test_store_group__a_wrong_range_is_refused);
	tcase_add_test(c, test_store_group__an_unmarked_commit_is_a_reset_only_of_an_empty_group);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
