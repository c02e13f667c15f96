/*
 * The state machine of a partition: the whole table, and what each verb does to the epoch, the tracker and the
 * positions on their way to PostgreSQL and Kafka.
 */
#include "worker/pipeline/partition.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#define GONE PARTITION_GONE
#define RESOLVING PARTITION_RESOLVING
#define PROVING PARTITION_PROVING
#define RUNNING PARTITION_RUNNING
#define HELD PARTITION_HELD
#define DRAINING PARTITION_DRAINING

#define START 100

static const struct history_epoch history = {{1, 2, 3}};
static const struct offset_range lost = {3, 7};

/* The record that was settled last is the one before the start. */
static const struct start_verdict proven_verdict = {.start = START};
static const struct start_facts proven_facts = {.progress = START, .log_end = 2 * START,
						.print = {true, START - 1, 77, 1000}};

/* At the very start of the log: nothing is to be proven. */
static void resolve(struct partition *p, const struct history_epoch *epoch, int64_t claim)
{
	const struct start_facts facts = {.progress = START, .log_start = START, .log_end = 2 * START};
	ck_assert_int_eq(partition_resolve(p, &proven_verdict, &facts, epoch, claim), START);
}

/* ---- the ways to be in a state ---- */

enum situation {
	IS_GONE,
	IS_RESOLVING,
	IS_PROVING,
	IS_RUNNING,
	IS_HELD,
	IS_LOST, /* HELD: offsets are lost */
	IS_DRAINING,
	IS_DRAINING_WITH_HEAD,  /* revoked while HELD */
	IS_DRAINING_UNRESOLVED, /* revoked while RESOLVING */
	IS_GONE_AGAIN,          /* given and taken */
	SITUATIONS
};

static const enum partition_state state_of[SITUATIONS] = {
	GONE, RESOLVING, PROVING, RUNNING, HELD, HELD, DRAINING, DRAINING, DRAINING, GONE,
};

static struct record head;

static void bring(struct partition *p, enum situation s)
{
	partition_init(p, "events", 7, false);
	if (s == IS_GONE)
		return;
	partition_assign(p);
	if (s == IS_RESOLVING)
		return;
	if (s == IS_LOST) {
		partition_lose_offsets(p, &lost);
		return;
	}
	if (s == IS_PROVING) {
		ck_assert_int_eq(partition_resolve(p, &proven_verdict, &proven_facts, &history, 4711), START - 1);
		return;
	}
	if (s != IS_DRAINING_UNRESOLVED)
		resolve(p, &history, 4711);
	if (s == IS_HELD || s == IS_DRAINING_WITH_HEAD)
		partition_hold(p, &head, 60000);
	if (s == IS_DRAINING || s == IS_DRAINING_WITH_HEAD || s == IS_DRAINING_UNRESOLVED || s == IS_GONE_AGAIN)
		partition_revoke(p, 90000);
	if (s == IS_GONE_AGAIN)
		partition_drained(p);
}

static void put_away(struct partition *p)
{
	(void)partition_take_head(p);
	partition_release(p);
}

static void do_verb(struct partition *p, enum partition_verb verb)
{
	switch (verb) {
	case PARTITION_ASSIGN:
		partition_assign(p);
		return;
	case PARTITION_RESOLVE:
		ck_assert_int_eq(partition_resolve(p, &proven_verdict, &proven_facts, &history, 4712), START - 1);
		return;
	case PARTITION_PROVE:
		ck_assert(partition_meets(p, &proven_facts.print, START));
		return;
	case PARTITION_LOSE_OFFSETS:
		partition_lose_offsets(p, &lost);
		return;
	case PARTITION_HOLD:
		partition_hold(p, &head, 60000);
		return;
	case PARTITION_DUE:
		(void)partition_due(p);
		return;
	case PARTITION_REVOKE:
		partition_revoke(p, 90000);
		return;
	case PARTITION_DRAINED:
		partition_drained(p);
		return;
	case PARTITION_LOSE:
		partition_lose(p);
		return;
	case PARTITION_RESTART:
		partition_restart(p, 5000);
		return;
	case PARTITION_VERB_COUNT:
		break;
	}
	ck_abort_msg("no such verb");
}

/* ---- the table ---- */

/* All that may happen; whatever is not here is a bug. */
static const struct {
	enum partition_state before;
	enum partition_verb verb;
	enum partition_state after;
} allowed[] = {
	{GONE, PARTITION_ASSIGN, RESOLVING},
	{RESOLVING, PARTITION_RESOLVE, PROVING},
	{RESOLVING, PARTITION_LOSE_OFFSETS, HELD},
	{RESOLVING, PARTITION_REVOKE, DRAINING},
	{RESOLVING, PARTITION_LOSE, GONE},
	{RESOLVING, PARTITION_RESTART, RESOLVING},
	{PROVING, PARTITION_PROVE, RUNNING},
	{PROVING, PARTITION_REVOKE, DRAINING},
	{PROVING, PARTITION_LOSE, GONE},
	{PROVING, PARTITION_RESTART, RESOLVING},
	{RUNNING, PARTITION_HOLD, HELD},
	{RUNNING, PARTITION_REVOKE, DRAINING},
	{RUNNING, PARTITION_LOSE, GONE},
	{RUNNING, PARTITION_RESTART, RESOLVING},
	{HELD, PARTITION_DUE, RUNNING},
	{HELD, PARTITION_REVOKE, DRAINING},
	{HELD, PARTITION_LOSE, GONE},
	{HELD, PARTITION_RESTART, RESOLVING},
	{DRAINING, PARTITION_DRAINED, GONE},
	{DRAINING, PARTITION_LOSE, GONE},
	{DRAINING, PARTITION_RESTART, DRAINING},
};

static int expected_after(enum partition_state s, enum partition_verb verb)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (allowed[i].before == s && allowed[i].verb == verb)
			return (int)allowed[i].after;
	return -1;
}

START_TEST(test_partition__whole_table)
{
	for (int s = 0; s < PARTITION_STATE_COUNT; s++)
		for (int verb = 0; verb < PARTITION_VERB_COUNT; verb++) {
			int after = partition_after((enum partition_state)s, (enum partition_verb)verb);
			int expected = expected_after((enum partition_state)s, (enum partition_verb)verb);
			ck_assert_msg(after == expected, "%s, verb %d: %d, not %d",
				      partition_state_name((enum partition_state)s), verb, after, expected);
		}
}
END_TEST

START_TEST(test_partition__states_have_names)
{
	for (int s = 0; s < PARTITION_STATE_COUNT; s++) {
		ck_assert_str_ne(partition_state_name((enum partition_state)s), "");
		for (int other = 0; other < s; other++)
			ck_assert_str_ne(partition_state_name((enum partition_state)s),
					 partition_state_name((enum partition_state)other));
	}
}
END_TEST

#define PAIRS (SITUATIONS * PARTITION_VERB_COUNT)

/* Each verb moves as the table says, whichever way the state was reached; and it changes the epoch exactly when it ends
 * a reading, or begins one. A head never gets lost: it is held, given back or left behind. */
START_TEST(test_partition__verbs_move_and_end_readings)
{
	enum situation s = (enum situation)(_i / PARTITION_VERB_COUNT);
	enum partition_verb verb = (enum partition_verb)(_i % PARTITION_VERB_COUNT);
	int after = expected_after(state_of[s], verb);
	if (after < 0 || (s == IS_LOST && verb == PARTITION_DUE)) /* without a head it is never due */
		return;
	/* A revocation lets what is in flight settle, where something was read. */
	bool ends = verb == PARTITION_ASSIGN || verb == PARTITION_DRAINED || verb == PARTITION_LOSE ||
		    verb == PARTITION_RESTART || (verb == PARTITION_REVOKE && (s == IS_RESOLVING || s == IS_PROVING || s == IS_LOST));
	struct partition p;
	bring(&p, s);
	ck_assert_int_eq(p.state, state_of[s]);
	uint64_t epoch = partition_epoch(&p);
	bool had_head = p.head != NULL;
	struct record r = {.partition = &p, .epoch = epoch};
	ck_assert(partition_wants(&r));
	uint64_t ticket;
	bool enters = verb != PARTITION_PROVE; /* nothing is entered before that */
	ck_assert(!enters || tracker_enter(&p.tracker, START, 0, &ticket));
	do_verb(&p, verb);
	ck_assert_msg((int)p.state == after, "situation %d, verb %d: %s", s, verb, partition_state_name(p.state));
	ck_assert(partition_is(&p, (enum partition_state)after));
	ck_assert_msg((partition_epoch(&p) > epoch) == ends && partition_epoch(&p) >= epoch,
		      "situation %d, verb %d: epoch %" PRIu64 " to %" PRIu64, s, verb, epoch, partition_epoch(&p));
	ck_assert(partition_wants(&r) == !ends);
	bool has_head = (had_head && verb != PARTITION_DUE) || verb == PARTITION_HOLD;
	ck_assert_msg((p.head == &head) == has_head, "situation %d, verb %d: head", s, verb);
	if (ends) {
		ck_assert_int_eq(partition_to_record(&p), -1);
		ck_assert_int_eq(partition_to_commit(&p), -1);
	}
	/* Also where a reading begins: what was entered before it is not its own. */
	bool forgets = ends || verb == PARTITION_RESOLVE;
	ck_assert_uint_eq(tracker_unsettled(&p.tracker), forgets || !enters ? 0 : 1);
	put_away(&p);
}
END_TEST

/* The pairs that the table forbids: main fills it, one process tries each. */
static int forbidden[PAIRS];
static int forbidden_count;

static void find_forbidden(void)
{
	for (int i = 0; i < PAIRS; i++)
		if (expected_after(state_of[i / PARTITION_VERB_COUNT],
				   (enum partition_verb)(i % PARTITION_VERB_COUNT)) < 0)
			forbidden[forbidden_count++] = i;
}

START_TEST(test_partition__any_other_verb_ends_the_process)
{
	struct partition p;
	bring(&p, (enum situation)(forbidden[_i] / PARTITION_VERB_COUNT));
	do_verb(&p, (enum partition_verb)(forbidden[_i] % PARTITION_VERB_COUNT));
}
END_TEST

START_TEST(test_partition__release_with_a_head_is_a_bug)
{
	struct partition p;
	bring(&p, IS_HELD);
	partition_release(&p);
}
END_TEST

/* ---- epochs ---- */

/* A record of an older reading stays unwanted for ever, also when the partition is read again. */
START_TEST(test_partition__a_record_of_an_older_epoch_is_unwanted)
{
	static const enum partition_verb endings[] = {PARTITION_DRAINED, PARTITION_LOSE, PARTITION_RESTART};
	enum { ROUNDS = 12 };
	struct record old[ROUNDS];
	struct partition p;

	partition_init(&p, "events", 7, false);
	for (int round = 0; round < ROUNDS; round++) {
		if (p.state == PARTITION_GONE)
			partition_assign(&p);
		resolve(&p, &history, round);
		old[round] = (struct record){.partition = &p, .epoch = partition_epoch(&p)};
		for (int i = 0; i <= round; i++)
			ck_assert_msg(partition_wants(&old[i]) == (i == round), "round %d, record %d", round, i);
		enum partition_verb ending = endings[round % 3];
		if (ending == PARTITION_DRAINED)
			partition_revoke(&p, 1);
		do_verb(&p, ending);
		ck_assert(!partition_wants(&old[round]));
	}
	put_away(&p);
}
END_TEST

START_TEST(test_partition__is_reading)
{
	static const bool reading[SITUATIONS] = {
		[IS_RUNNING] = true,
		[IS_HELD] = true,
		[IS_DRAINING] = true,
		[IS_DRAINING_WITH_HEAD] = true,
		[IS_DRAINING_UNRESOLVED] = true,
	};
	struct partition p;
	bring(&p, (enum situation)_i);
	ck_assert(partition_is_reading(&p) == reading[_i]);
	put_away(&p);
}
END_TEST

START_TEST(test_partition__init_knows_nothing)
{
	struct partition p;
	char topic[] = "events.deferred";

	partition_init(&p, topic, 12, true);
	topic[0] = 'x'; /* the name is its own */
	ck_assert_str_eq(p.topic, "events.deferred");
	ck_assert_int_eq(p.partition, 12);
	ck_assert(p.deferred_topic);
	ck_assert(partition_is(&p, PARTITION_GONE));
	ck_assert_int_eq(p.committed, -1);
	ck_assert_int_eq(partition_to_record(&p), -1);
	ck_assert_int_eq(partition_to_commit(&p), -1);
	partition_release(&p);
}
END_TEST

START_TEST(test_partition__resolve_begins_a_reading)
{
	struct partition p;

	bring(&p, IS_RESOLVING);
	p.resolving = true;
	resolve(&p, &history, 4711);
	ck_assert(!p.resolving);
	ck_assert(history_epoch_equal(&p.history, &history));
	ck_assert_int_eq(p.claim, 4711);
	ck_assert_int_eq(p.recorded, START); /* the claim wrote it */
	ck_assert_int_eq(tracker_committable(&p.tracker), START);
	uint64_t ticket;
	ck_assert(!tracker_enter(&p.tracker, START - 1, 0, &ticket));
	ck_assert(tracker_enter(&p.tracker, START, 0, &ticket));
	put_away(&p);
}
END_TEST

/* The WAL position in a commit's mark is proof of loss when the database is behind it. One that was seen
 * in the history before is no position of this one. */
START_TEST(test_partition__resolve_forgets_the_wal_position_of_another_history)
{
	static const struct history_epoch next = {{9}};
	struct partition p;

	bring(&p, IS_RUNNING);
	p.committed_lsn = 1000000;
	partition_restart(&p, 0);
	resolve(&p, &next, 4712);
	ck_assert_int_eq(partition_to_commit(&p), START);
	ck_assert_int_eq(p.committed_lsn, 0);
	put_away(&p);
}
END_TEST

/* Kafka may have a commit whose answer was an error, or never came to this reading: it is sent again, though what was
 * last known is the same. The next assignment asks Kafka anew. */
START_TEST(test_partition__an_unsure_commit_is_sent_again)
{
	struct partition p;

	bring(&p, IS_RESOLVING);
	resolve(&p, &history, 4711);
	p.committed = START;
	ck_assert_int_eq(partition_to_commit(&p), -1);
	p.commit_unsure = true;
	ck_assert_int_eq(partition_to_commit(&p), START);
	p.commit_unsure = false;
	p.committing = START + 5;
	partition_restart(&p, 0);
	resolve(&p, &history, 4712);
	ck_assert_int_eq(partition_to_commit(&p), START);
	partition_lose(&p);
	partition_assign(&p);
	resolve(&p, &history, 4713);
	p.committed = START;
	ck_assert_int_eq(partition_to_commit(&p), -1);
	put_away(&p);
}
END_TEST

/* ---- proving ---- */

#define PRINT {true, START - 1, 77, 1000}
#define OLDER {true, START - 6, 77, 1000}

/* What comes first, to a partition that starts at 100 and whose log begins at 10. */
static const struct {
	const char *what;
	struct fingerprint print; /* that stands with progress */
	int64_t from;             /* where it is fetched */
	struct fingerprint met;   /* not there: the end */
	int64_t position;         /* behind it */
	bool proven;
	enum log_proof proof;
	int64_t last; /* offset of the record that is known to be the last settled, -1: none */
} proof_rows[] = {
	{"the record", PRINT, START - 1, PRINT, START, true, LOG_UNPROVEN, START - 1},
	{"the record behind a gap", OLDER, START - 6, OLDER, START - 5, true, LOG_UNPROVEN, START - 6},
	{"another hash there", PRINT, START - 1, {true, START - 1, 78, 1000}, START, false, LOG_OTHER_RECORD, -1},
	{"another time there", PRINT, START - 1, {true, START - 1, 77, 1001}, START, false, LOG_OTHER_RECORD, -1},
	{"the time is the broker's", PRINT, START - 1, {true, START - 1, 77, -1}, START, true, LOG_UNPROVEN, START - 1},
	{"a later record", PRINT, START - 1, {true, START + 3, 5, 1}, START + 4, false, LOG_RECORD_MISSING, -1},
	{"the end beyond it", PRINT, START - 1, {0}, START + 4, false, LOG_RECORD_MISSING, -1},
	{"the end just behind it", PRINT, START - 1, {0}, START, false, LOG_RECORD_MISSING, -1},
	{"the end at it: to be asked", PRINT, START - 1, {0}, START - 1, false, LOG_UNPROVEN, -1},
	{"the end below it: to be asked", PRINT, START - 1, {0}, 20, false, LOG_UNPROVEN, -1},
	{"no fingerprint, a record", {0}, START - 1, {true, START - 1, 9, 9}, START, true, LOG_UNPROVEN, START - 1},
	{"no fingerprint, a gap", {0}, START - 1, {true, START + 2, 9, 9}, START + 3, true, LOG_UNPROVEN, -1},
	{"no fingerprint, the end", {0}, START - 1, {0}, START, true, LOG_UNPROVEN, -1},
	{"retention has passed it", {true, 9, 77, 1}, START - 1, {true, START - 1, 9, 9}, START, true, LOG_UNPROVEN, START - 1},
};

enum { PROOF_ROWS = sizeof(proof_rows) / sizeof(proof_rows[0]) };

START_TEST(test_partition__what_comes_first_proves_the_log)
{
	const struct start_facts facts = {.progress = START, .log_start = 10, .log_end = 2 * START,
					  .print = proof_rows[_i].print};
	const char *what = proof_rows[_i].what;
	struct partition p;
	bring(&p, IS_RESOLVING);
	int64_t from = partition_resolve(&p, &proven_verdict, &facts, &history, 1);
	ck_assert_msg(from == proof_rows[_i].from && from == partition_proves_from(&p), "%s: from %" PRId64, what, from);
	const struct fingerprint *met = proof_rows[_i].met.exists ? &proof_rows[_i].met : NULL;
	bool proven = partition_meets(&p, met, proof_rows[_i].position);
	ck_assert_msg(proven == proof_rows[_i].proven, "%s: %s", what, proven ? "proven" : "not proven");
	ck_assert_msg(p.proof == proof_rows[_i].proof, "%s: proof %d", what, (int)p.proof);
	ck_assert_int_eq(p.state, proven ? PARTITION_RUNNING : PARTITION_PROVING);
	const struct fingerprint *last = tracker_last(&p.tracker);
	ck_assert_msg((last->exists ? last->offset : -1) == proof_rows[_i].last, "%s: last", what);
	/* Whoever had none takes this one, though no record was settled since. */
	bool fresh = proven && last->exists && !p.expected.exists;
	ck_assert_msg(partition_to_record(&p) == (fresh ? START : -1), "%s: to record", what);
	put_away(&p);
}
END_TEST

/* A mirror that kept offsets: the record is the same, and progress names the new cluster before the record is gone. */
START_TEST(test_partition__a_log_proven_in_another_cluster_is_recorded)
{
	struct start_facts facts = proven_facts;
	struct partition p;
	bring(&p, IS_RESOLVING);
	facts.other_cluster = true;
	ck_assert_int_eq(partition_resolve(&p, &proven_verdict, &facts, &history, 1), START - 1);
	ck_assert(partition_meets(&p, &facts.print, START));
	ck_assert_int_eq(partition_to_record(&p), START);
	partition_recording(&p, START);
	ck_assert_int_eq(partition_to_record(&p), -1);
	partition_recorded(&p, false);
	ck_assert_int_eq(partition_to_record(&p), START);
	partition_recording(&p, START);
	partition_recorded(&p, true);
	ck_assert_int_eq(partition_to_record(&p), -1);
	put_away(&p);
}
END_TEST

/* A reset and an accepted loss begin with a log that nothing is known of. */
START_TEST(test_partition__resets_and_accepted_losses_drop_the_fingerprint)
{
	for (int accepted = 0; accepted < 2; accepted++) {
		struct start_verdict v = {.start = START, .reset = !accepted, .accepted = accepted};
		struct partition p;
		bring(&p, IS_RESOLVING);
		ck_assert_int_eq(partition_resolve(&p, &v, &proven_facts, &history, 1), START - 1);
		const struct fingerprint other = {true, START - 1, 78, 5};
		ck_assert(partition_meets(&p, &other, START));
		ck_assert_int_eq(partition_to_record(&p), START);
		put_away(&p);
	}
}
END_TEST

/* ---- positions ---- */

static uint64_t read_one(struct partition *p, int64_t offset)
{
	uint64_t ticket;
	ck_assert(tracker_enter(&p->tracker, offset, 0, &ticket));
	return ticket;
}

/* Read [100, 103), the first settled: where a position is to go in each state. */
static const struct {
	const char *what;
	int64_t recorded, recording, committed, committing;
	int64_t to_record, to_commit;
} position_rows[] = {
	{"settled is recorded first", 100, -1, 100, -1, 101, -1},
	{"one question at a time", 100, 101, 100, -1, -1, -1},
	{"recorded is committed", 101, -1, 100, -1, -1, 101},
	{"one commit at a time", 101, -1, 100, 101, -1, -1},
	{"all done", 101, -1, 101, -1, -1, -1},
	{"no commit of ours: the start is committed, too", 100, -1, -1, -1, 101, 100},
	{"a commit above progress is taken back", 100, -1, 150, -1, 101, 100},
	{"a commit never passes what is recorded", 100, 101, -1, -1, -1, 100},
	{"nothing recorded yet", -1, -1, -1, -1, -1, -1},
	{"nothing recorded yet, but a commit", -1, -1, 150, -1, -1, -1},
};

enum { POSITION_ROWS = sizeof(position_rows) / sizeof(position_rows[0]) };

START_TEST(test_partition__positions_to_record_and_commit)
{
	static const enum situation reading[] = {IS_RUNNING, IS_HELD, IS_DRAINING, IS_DRAINING_WITH_HEAD};
	for (size_t i = 0; i < sizeof(reading) / sizeof(reading[0]); i++) {
		struct partition p;
		bring(&p, IS_RUNNING);
		uint64_t first = read_one(&p, 100);
		(void)read_one(&p, 101);
		(void)read_one(&p, 102);
		tracker_settle(&p.tracker, first);
		if (reading[i] == IS_HELD || reading[i] == IS_DRAINING_WITH_HEAD)
			partition_hold(&p, &head, 1);
		if (reading[i] == IS_DRAINING || reading[i] == IS_DRAINING_WITH_HEAD)
			partition_revoke(&p, 1);
		p.recorded = position_rows[_i].recorded;
		if (p.recorded > START)
			p.recorded_print = *tracker_last(&p.tracker);
		p.recording = position_rows[_i].recording;
		p.committed = position_rows[_i].committed;
		p.committing = position_rows[_i].committing;
		int64_t to_record = partition_to_record(&p), to_commit = partition_to_commit(&p);
		ck_assert_msg(to_record == position_rows[_i].to_record, "%s, %s: to record %" PRId64,
			      position_rows[_i].what, partition_state_name(p.state), to_record);
		ck_assert_msg(to_commit == position_rows[_i].to_commit, "%s, %s: to commit %" PRId64,
			      position_rows[_i].what, partition_state_name(p.state), to_commit);
		put_away(&p);
	}
}
END_TEST

START_TEST(test_partition__nothing_to_record_or_commit_while_not_reading)
{
	static const enum situation others[] = {IS_GONE, IS_RESOLVING, IS_PROVING, IS_LOST, IS_DRAINING_UNRESOLVED, IS_GONE_AGAIN};
	struct partition p;
	bring(&p, others[_i]);
	p.committed = 50;
	ck_assert_int_eq(partition_to_record(&p), -1);
	ck_assert_int_eq(partition_to_commit(&p), -1);
	/* Whatever were left there, in a state that reads nothing it goes nowhere. */
	if (others[_i] != IS_DRAINING_UNRESOLVED) {
		p.recorded = 10;
		tracker_start(&p.tracker, 20);
		ck_assert_int_eq(partition_to_record(&p), -1);
		ck_assert_int_eq(partition_to_commit(&p), -1);
	}
	put_away(&p);
}
END_TEST

/* From reading to Kafka's commit, in the order of settle.c. */
START_TEST(test_partition__a_position_goes_to_postgresql_then_to_kafka)
{
	struct partition p;

	bring(&p, IS_RUNNING);
	p.committed = START;
	uint64_t a = read_one(&p, 100), b = read_one(&p, 105);
	tracker_settle(&p.tracker, b);
	ck_assert_int_eq(partition_to_record(&p), -1);
	tracker_settle(&p.tracker, a);
	ck_assert_int_eq(partition_to_record(&p), 106);
	ck_assert_int_eq(partition_to_commit(&p), -1);
	partition_recording(&p, 106);
	ck_assert_int_eq(partition_to_commit(&p), -1);
	partition_recorded(&p, true);
	ck_assert_int_eq(partition_to_record(&p), -1);
	ck_assert_int_eq(partition_to_commit(&p), 106);
	p.committing = 106;
	ck_assert_int_eq(partition_to_commit(&p), -1);
	p.committing = -1; /* refused: again */
	ck_assert_int_eq(partition_to_commit(&p), 106);
	p.committed = 106;
	ck_assert_int_eq(partition_to_commit(&p), -1);
	put_away(&p);
}
END_TEST

/* ---- leaving ---- */

START_TEST(test_partition__hold_and_due_hand_the_head_over)
{
	struct partition p;

	bring(&p, IS_RUNNING);
	partition_hold(&p, &head, 123456);
	ck_assert_int_eq(p.head_due_ms, 123456);
	ck_assert_ptr_eq(p.head, &head);
	ck_assert_ptr_eq(partition_due(&p), &head);
	ck_assert_ptr_null(p.head);
	ck_assert(partition_is(&p, PARTITION_RUNNING));
	partition_release(&p);
}
END_TEST

START_TEST(test_partition__revoked_while_held_with_a_head)
{
	struct partition p;

	bring(&p, IS_RUNNING);
	p.committed = START;
	uint64_t before = read_one(&p, 100);
	uint64_t waiting = read_one(&p, 101);
	partition_hold(&p, &head, 60000);
	struct record r = {.partition = &p, .epoch = partition_epoch(&p)};
	partition_revoke(&p, 90000);
	ck_assert_int_eq(p.drain_until_us, 90000);
	/* What was in flight before the head still settles and counts; the head itself never will. */
	ck_assert(partition_wants(&r));
	tracker_settle(&p.tracker, before);
	ck_assert_int_eq(partition_to_record(&p), 101);
	p.recorded = 101;
	ck_assert_int_eq(partition_to_commit(&p), 101);
	ck_assert_uint_eq(tracker_unsettled(&p.tracker), 1);
	partition_drained(&p);
	ck_assert(!partition_wants(&r));
	ck_assert_ptr_eq(partition_take_head(&p), &head);
	ck_assert_ptr_null(partition_take_head(&p));
	(void)waiting;
	partition_release(&p);
}
END_TEST

/* The history changed while it drained: nothing that was read counts, and it leaves without another word. */
START_TEST(test_partition__restarted_while_draining)
{
	struct partition p;

	bring(&p, IS_RUNNING);
	uint64_t ticket = read_one(&p, 100);
	partition_revoke(&p, 90000);
	tracker_settle(&p.tracker, ticket);
	ck_assert_int_eq(partition_to_record(&p), 101);
	p.recording = 101;
	partition_restart(&p, 5000);
	ck_assert(partition_is(&p, PARTITION_DRAINING));
	ck_assert_int_eq(partition_to_record(&p), -1);
	ck_assert_int_eq(partition_to_commit(&p), -1);
	ck_assert_uint_eq(tracker_unsettled(&p.tracker), 0);
	ck_assert_int_eq(p.recorded, -1);
	ck_assert_int_eq(p.recording, -1);
	ck_assert_int_eq(p.drain_until_us, 90000);
	partition_drained(&p);
	ck_assert(partition_is(&p, PARTITION_GONE));
	partition_release(&p);
}
END_TEST

START_TEST(test_partition__restart_asks_again_at_its_time)
{
	struct partition p;

	bring(&p, (enum situation)_i);
	p.resolving = true;
	partition_restart(&p, 5000);
	ck_assert(partition_is(&p, PARTITION_RESOLVING));
	ck_assert(!p.resolving);
	ck_assert(!p.offsets_lost);
	ck_assert_int_eq(p.resolve_at_us, 5000);
	ck_assert_int_eq(p.recording, -1);
	ck_assert_int_eq(p.committing, -1);
	put_away(&p);
}
END_TEST

/* Whatever it was and whatever was under way, an assignment begins anew. */
START_TEST(test_partition__assigned_again_begins_anew)
{
	struct partition p;

	bring(&p, (enum situation)_i);
	p.committed = 150;
	p.recording = p.committing = 140;
	p.resolving = p.paused = true;
	p.resolve_at_us = 77;
	if (p.state != PARTITION_GONE)
		partition_lose(&p);
	(void)partition_take_head(&p);
	partition_assign(&p);
	ck_assert(partition_is(&p, PARTITION_RESOLVING));
	ck_assert(!p.resolving && !p.paused && !p.offsets_lost);
	ck_assert_int_eq(p.resolve_at_us, 0);
	ck_assert_int_eq(p.committed, -1);
	ck_assert_int_eq(p.recorded, -1);
	ck_assert_int_eq(p.recording, -1);
	ck_assert_int_eq(p.committing, -1);
	ck_assert_uint_eq(tracker_unsettled(&p.tracker), 0);
	partition_release(&p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("partition");
	TCase *tc = tcase_create("partition");
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_partition__whole_table);
	tcase_add_test(tc, test_partition__states_have_names);
	tcase_add_loop_test(tc, test_partition__verbs_move_and_end_readings, 0, PAIRS);
	find_forbidden();
	tcase_add_loop_test_raise_signal(tc, test_partition__any_other_verb_ends_the_process, SIGABRT, 0,
					 forbidden_count);
	tcase_add_test_raise_signal(tc, test_partition__release_with_a_head_is_a_bug, SIGABRT);
	tcase_add_test(tc, test_partition__a_record_of_an_older_epoch_is_unwanted);
	tcase_add_loop_test(tc, test_partition__is_reading, 0, SITUATIONS);
	tcase_add_test(tc, test_partition__init_knows_nothing);
	tcase_add_test(tc, test_partition__resolve_begins_a_reading);
	tcase_add_test(tc, test_partition__an_unsure_commit_is_sent_again);
	tcase_add_test(tc, test_partition__resolve_forgets_the_wal_position_of_another_history);
	tcase_add_loop_test(tc, test_partition__what_comes_first_proves_the_log, 0, PROOF_ROWS);
	tcase_add_test(tc, test_partition__a_log_proven_in_another_cluster_is_recorded);
	tcase_add_test(tc, test_partition__resets_and_accepted_losses_drop_the_fingerprint);
	tcase_add_loop_test(tc, test_partition__positions_to_record_and_commit, 0, POSITION_ROWS);
	tcase_add_loop_test(tc, test_partition__nothing_to_record_or_commit_while_not_reading, 0, 6);
	tcase_add_test(tc, test_partition__a_position_goes_to_postgresql_then_to_kafka);
	tcase_add_test(tc, test_partition__hold_and_due_hand_the_head_over);
	tcase_add_test(tc, test_partition__revoked_while_held_with_a_head);
	tcase_add_test(tc, test_partition__restarted_while_draining);
	tcase_add_loop_test(tc, test_partition__restart_asks_again_at_its_time, IS_RESOLVING, IS_LOST + 1);
	tcase_add_loop_test(tc, test_partition__assigned_again_begins_anew, 0, SITUATIONS);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
