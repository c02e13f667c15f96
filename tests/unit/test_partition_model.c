/*
 * A partition through a random life, as its consumer leads it (intake.c, settle.c, rebalance.c in short), against a
 * naive world: a log with holes, a database that may become an older copy of itself, Kafka's commit. Completions, answers
 * to progress writes and to commits come late and in any order, also those of readings long ended.
 *
 * What must hold, after every step:
 *   - what the tracker would commit is what a look at every record of this reading says;
 *   - below the progress that the database has, it has the effect of every record [I1];
 *   - Kafka's commit never passes the progress of its history;
 *   - once the first uncommitted record was read, its time is known, and no other is taken for it.
 * And in the end, once nothing goes wrong any more, all records have their effect.
 *
 * Seeded with DW_TEST_SEED, else with a constant; a failure prints the seed of its run.
 */
#include "worker/pipeline/partition.h"

#include "common/prng.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPECT(condition, ...) \
	do { \
		if (!(condition)) \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

enum { RECORDS = 400, FLIGHT_MAX = 60, JOBS_MAX = 8, NONE = -1 };

/* What the database holds, and may hold again. */
struct database {
	bool effect[RECORDS];
	int64_t progress;
	int64_t claim;
	uint8_t history; /* does not go back: whoever finds it older draws anew */
};

/* A record on its way, under the epoch that it was read under. */
struct flight {
	struct record record;
	size_t index;
};

/* A progress write: asked, carried out, answered. */
struct job {
	uint64_t epoch;
	int64_t position, claim;
	uint8_t history;
	bool written, done, kept;
};

struct world {
	struct prng random;
	struct partition p;
	char where[64];

	int64_t offsets[RECORDS]; /* rising, with holes */
	int64_t end;              /* the log's: behind the last record, and markers */
	size_t next;              /* index of the record that is fetched next */
	struct database db, copy;
	int64_t claims;           /* given so far: none is given twice */
	int64_t committed;        /* Kafka's; NONE */
	struct flight flights[FLIGHT_MAX];
	size_t flying;
	struct job jobs[JOBS_MAX];
	size_t asked;
	int64_t commit_sent;      /* NONE: none under way */
	bool held;
	struct flight head;
	/* This reading's: which records were entered, and which of them are settled. */
	bool entered[RECORDS], settled[RECORDS];
	int64_t read_to;
};

static struct world w;

static bool chance(uint64_t of)
{
	return prng_below(&w.random, of) == 0;
}

static void forget_reading(void)
{
	memset(w.entered, 0, sizeof(w.entered));
	memset(w.settled, 0, sizeof(w.settled));
	w.held = false;
}

static struct history_epoch epoch_of(uint8_t history)
{
	return (struct history_epoch){{history}};
}

/* ---- what goes wrong ---- */

static void restart(void)
{
	if (w.p.state != PARTITION_RUNNING && w.p.state != PARTITION_HELD && w.p.state != PARTITION_DRAINING)
		return;
	(void)partition_take_head(&w.p);
	partition_restart(&w.p, 0);
	forget_reading();
}

/* The database is the copy; it was not asked for long enough that nobody noticed. */
static void fail_over(void)
{
	uint8_t history = w.db.history;
	w.db = w.copy;
	w.db.history = (uint8_t)(history + 1);
}

/* ---- assignments ---- */

static void take_over(void)
{
	if (w.p.state == PARTITION_GONE)
		partition_assign(&w.p);
	if (w.p.state != PARTITION_RESOLVING)
		return;
	/* The lower of the two counts; a commit alone says nothing. */
	int64_t start = 0;
	if (w.db.progress >= 0)
		start = w.committed >= 0 && w.committed < w.db.progress ? w.committed : w.db.progress;
	w.db.progress = start;
	w.db.claim = ++w.claims;
	struct history_epoch history = epoch_of(w.db.history);
	/* At the start of the log there is no record to prove it by; test_partition.c has the others. */
	EXPECT(partition_resolve(&w.p, &(struct start_verdict){.start = start}, &(struct start_facts){.log_start = start},
				 &history, w.db.claim) == start, "%s: fetched from elsewhere", w.where);
	w.p.committed = w.committed;
	partition_note_time(&w.p, start);
	if (w.committed >= 0)
		partition_note_time(&w.p, w.committed);
	forget_reading();
	w.read_to = start;
	for (w.next = 0; w.next < RECORDS && w.offsets[w.next] < start;)
		w.next++;
}

static void give_back(void)
{
	if (w.p.state == PARTITION_RUNNING || w.p.state == PARTITION_HELD) {
		partition_revoke(&w.p, 0);
	} else if (w.p.state == PARTITION_DRAINING) {
		/* Drained or its time is over, it is all one. */
		(void)partition_take_head(&w.p);
		partition_drained(&w.p);
		forget_reading();
	} else if (w.p.state == PARTITION_RESOLVING) {
		partition_lose(&w.p);
	}
}

/* ---- records ---- */

static void enter(size_t index)
{
	uint64_t ticket;
	bool fresh = tracker_enter(&w.p.tracker, w.offsets[index], (int64_t)index, &ticket);
	bool expected = w.offsets[index] >= w.read_to;
	EXPECT(fresh == expected, "%s: offset %" PRId64 " %s", w.where, w.offsets[index], fresh ? "twice" : "refused");
	if (!fresh)
		return;
	commit_times_read(&w.p.times, w.offsets[index], (int64_t)index);
	w.read_to = w.offsets[index] + 1;
	w.entered[index] = true;
	struct flight f = {.record = {.partition = &w.p, .epoch = partition_epoch(&w.p), .ticket = ticket,
				      .history = w.p.history},
			   .index = index};
	if (chance(30)) {
		w.head = f;
		w.held = true;
		partition_hold(&w.p, &w.head.record, 0);
	} else {
		w.flights[w.flying++] = f;
	}
}

static void fetch(void)
{
	if (w.p.state == PARTITION_HELD && w.held && chance(3)) {
		(void)partition_due(&w.p);
		w.held = false;
		w.flights[w.flying++] = w.head;
	}
	if (w.p.state != PARTITION_RUNNING || w.flying >= FLIGHT_MAX - 1)
		return;
	if (w.next > 0 && chance(10)) { /* fetched once more, from below */
		enter(w.next - 1 - prng_below(&w.random, w.next < 5 ? w.next : 5));
	} else if (w.next < RECORDS) {
		enter(w.next++);
	} else {
		tracker_skip(&w.p.tracker, w.end);
		if (w.read_to < w.end)
			w.read_to = w.end;
	}
}

/* A worker is done with a record: in the database as it is now, or not at all. Then as settle.c. */
static void complete(void)
{
	if (w.flying == 0)
		return;
	size_t at = prng_below(&w.random, w.flying);
	struct flight f = w.flights[at];
	w.flights[at] = w.flights[--w.flying];
	bool same = f.record.history.bytes[0] == w.db.history, released = !same || chance(40);
	if (!released)
		w.db.effect[f.index] = true;
	if (f.record.epoch != partition_epoch(&w.p)) {
		EXPECT(!partition_wants(&f.record), "%s: a record of an older reading is wanted", w.where);
		return;
	}
	if (released) {
		restart();
		return;
	}
	tracker_settle(&w.p.tracker, f.record.ticket);
	w.settled[f.index] = true;
}

/* ---- positions ---- */

static void ask_progress(void)
{
	int64_t position = partition_to_record(&w.p);
	if (position < 0 || w.asked == JOBS_MAX)
		return;
	partition_note_time(&w.p, position);
	partition_recording(&w.p, position);
	w.jobs[w.asked++] = (struct job){.epoch = partition_epoch(&w.p), .position = position, .claim = w.p.claim,
					 .history = w.p.history.bytes[0]};
}

static void write_progress(void)
{
	if (w.asked == 0)
		return;
	struct job *j = &w.jobs[prng_below(&w.random, w.asked)];
	if (j->written)
		return;
	j->written = true;
	j->done = j->history == w.db.history && !chance(20);
	j->kept = j->done && j->claim == w.db.claim;
	if (j->kept)
		w.db.progress = j->position;
}

static void answer_progress(void)
{
	if (w.asked == 0)
		return;
	size_t at = prng_below(&w.random, w.asked);
	struct job j = w.jobs[at];
	if (!j.written)
		return;
	w.jobs[at] = w.jobs[--w.asked];
	if (j.epoch != partition_epoch(&w.p))
		return;
	partition_recorded(&w.p, j.kept);
	if (!j.kept && j.done)
		restart();
}

static void commit(void)
{
	if (w.commit_sent == NONE) {
		int64_t position = partition_to_commit(&w.p);
		if (position < 0)
			return;
		EXPECT(w.p.history.bytes[0] != w.db.history || position <= w.db.progress,
		       "%s: commit of %" PRId64 " above progress %" PRId64, w.where, position, w.db.progress);
		w.p.committing = w.commit_sent = position;
		return;
	}
	/* An error may come from a commit that was taken. */
	bool failed = chance(10);
	if (!failed || chance(2))
		w.committed = w.commit_sent;
	if (w.p.committing >= 0) {
		w.p.commit_unsure = failed;
		if (!failed)
			w.p.committed = w.p.committing;
	}
	w.p.committing = w.commit_sent = NONE;
}

/* ---- what must hold ---- */

static void check(void)
{
	for (size_t i = 0; i < RECORDS && w.offsets[i] < w.db.progress; i++)
		EXPECT(w.db.effect[i], "%s: progress %" PRId64 " passes %" PRId64 ", which has no effect", w.where,
		       w.db.progress, w.offsets[i]);
	if (w.p.state != PARTITION_RUNNING && w.p.state != PARTITION_HELD && w.p.state != PARTITION_DRAINING)
		return;
	if (w.p.recorded < 0)
		return; /* restarted while it was being given back: nothing is read */
	int64_t first = w.read_to;
	size_t unsettled = 0;
	for (size_t i = RECORDS; i-- > 0;) {
		if (w.entered[i] && !w.settled[i]) {
			first = w.offsets[i];
			unsettled++;
		}
	}
	EXPECT(tracker_committable(&w.p.tracker) == first, "%s: committable %" PRId64 ", not %" PRId64, w.where,
	       tracker_committable(&w.p.tracker), first);
	EXPECT(tracker_unsettled(&w.p.tracker) == unsettled, "%s: %zu unsettled, not %zu", w.where,
	       tracker_unsettled(&w.p.tracker), unsettled);
}

/* The time of record i is i. */
static void check_times(void)
{
	int64_t base = w.p.committed >= 0 ? w.p.committed : w.p.recorded, time_us = partition_uncommitted_us(&w.p);
	size_t first = 0;
	while (first < RECORDS && w.offsets[first] < base)
		first++;
	if (base < 0 || first == RECORDS || !partition_is_reading(&w.p))
		return;
	EXPECT(time_us == (int64_t)first || (time_us < 0 && !w.entered[first]),
	       "%s: uncommitted since %" PRId64 " at %" PRId64 ", not %zu", w.where, time_us, base, first);
}

static void step(bool trouble)
{
	uint64_t lot = prng_below(&w.random, trouble ? 1000 : 990);
	if (lot < 350)
		fetch();
	else if (lot < 700)
		complete();
	else if (lot < 770)
		ask_progress();
	else if (lot < 840)
		write_progress();
	else if (lot < 900)
		answer_progress();
	else if (lot < 960)
		commit();
	else if (lot < 990)
		take_over();
	else if (lot < 993)
		give_back();
	else if (lot < 996)
		w.copy = w.db;
	else if (lot < 997)
		fail_over();
	else
		restart();
	/* The alarm: whoever met the other history has told. */
	if (w.p.history.bytes[0] != w.db.history && chance(50))
		restart();
}

START_TEST(test_partition_model__random_lives)
{
	enum { TROUBLED = 6000, QUIET = 200000 };
	const char *text = getenv("DW_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 20260101;
	seed += (uint64_t)_i;

	memset(&w, 0, sizeof(w));
	w.random = prng_of(seed);
	int64_t offset = (int64_t)prng_below(&w.random, 10);
	for (size_t i = 0; i < RECORDS; i++) {
		w.offsets[i] = offset;
		offset += 1 + (chance(4) ? (int64_t)prng_below(&w.random, 9) : 0);
	}
	w.end = offset + (int64_t)prng_below(&w.random, 3);
	w.db.progress = w.copy.progress = w.committed = w.commit_sent = NONE;
	partition_init(&w.p, "events", 0, false);
	for (int i = 0; i < TROUBLED; i++) {
		snprintf(w.where, sizeof(w.where), "DW_TEST_SEED=%" PRIu64 " step %d", seed, i);
		step(true);
		check();
		check_times();
	}
	/* No more trouble but what is under way: everything comes to its end. */
	for (int i = 0; i < QUIET && (w.db.progress != w.end || w.committed != w.end); i++) {
		snprintf(w.where, sizeof(w.where), "DW_TEST_SEED=%" PRIu64 " quiet step %d", seed, i);
		if (w.p.state == PARTITION_DRAINING)
			give_back();
		step(false);
		check();
		check_times();
	}
	EXPECT(w.db.progress == w.end && w.committed == w.end,
	       "%s: progress %" PRId64 " and commit %" PRId64 " do not reach %" PRId64, w.where, w.db.progress,
	       w.committed, w.end);
	(void)partition_take_head(&w.p);
	partition_release(&w.p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("partition_model");
	TCase *tc = tcase_create("partition_model");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_partition_model__random_lives, 0, 100);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
