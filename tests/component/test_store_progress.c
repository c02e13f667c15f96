/* Progress, claims and history: worker/ledger/store_progress.c, and what the other store_*.c know of history,
 * against real servers. */
#include "worker/ledger/store.h"

#include "common/thread.h"
#include "tests/lib/ledger_stage.c"
#include "tests/lib/postgres_proxy.c"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/store_internal.h"

#include <check.h>

static struct private_postgres server;

#define GROUP "delivery-worker"

static const struct store_member member = {.group = GROUP, .id = 4711, .cluster = {"cluster-a"}};
static const struct store_member other_group = {.group = "other", .id = 4711, .cluster = {"cluster-a"}};

static void expect(const struct store *s, enum store_result got, enum store_result wanted, const char *what)
{
	ck_assert_msg(got == wanted, "%s: got %d, wanted %d (%s)", what, got, wanted, store_error(s));
}

/* ---- history ---- */

/* Who comes upon the damage first. */
enum finder { BATCH, BATCH_OF_NEW_SESSION, PROGRESS, CHECK, ASSIGN, FINDERS };

static enum store_result find(enum finder finder, struct store *worker, struct store *keeper,
			      const struct history_epoch *epoch)
{
	struct order o;
	uint64_t lsn;
	enum store_result r;
	switch (finder) {
	case BATCH_OF_NEW_SESSION:
		pg_close(worker->pg);
		worker->pg = NULL;
		return stage_begin(worker, epoch, &o, "o");
	case BATCH:
		r = stage_begin(worker, epoch, &o, "o");
		if (r == STORE_OK)
			store_rollback(worker);
		return r;
	case PROGRESS:
		return store_progress(keeper, &member, epoch, NULL, 0, &lsn);
	case CHECK:
		return store_check_history(keeper, epoch);
	case ASSIGN:
	case FINDERS:
		break;
	}
	return STORE_HISTORY;
}

static struct store_assignment assignment(int32_t partition, int64_t committed, bool marked)
{
	return (struct store_assignment){.topic = "delivery-events",
					 .partition = partition,
					 .facts = {.committed = committed, .marked = marked, .log_end = 1000}};
}

static struct history_epoch assign_one(struct store *s, const char **because)
{
	struct store_assignment a = assignment(0, -1, false);
	struct history_epoch epoch;
	expect(s, store_assign(s, &member, &a, 1, &epoch, because), STORE_OK, "assign");
	return epoch;
}

struct damage {
	const char *sql;
	const char *because; /* of the new epoch; NULL: none is drawn, the one that is there is obeyed */
	bool live;           /* a session that was there before can see it in a batch */
};

static void check_damage(const struct damage *d, enum finder finder, const char *schema)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, schema);
	struct store *worker = store_new(&t.settings, 0), *keeper = store_new(&t.settings, 1);
	struct store *sibling = store_new(&t.settings, 2);
	struct store_settings elsewhere = t.settings;
	elsewhere.board = store_board_new(1);
	struct store *replica = store_new(&elsewhere, 0);
	const char *because;
	struct history_epoch epoch = assign_one(keeper, &because);
	ck_assert(!because && history_epoch_equal(&epoch, &t.epoch));
	expect(worker, stage_write(worker, &epoch, "a"), STORE_OK, "a");
	expect(worker, stage_write(worker, &epoch, "b"), STORE_OK, "b");
	expect(replica, store_check_history(replica, &epoch), STORE_OK, "replica");
	for (enum finder f = BATCH; f < ASSIGN; f++)
		expect(f <= BATCH_OF_NEW_SESSION ? worker : keeper, find(f, worker, keeper, &epoch), STORE_OK,
		       "before");
	store_rollback(worker);

	stage_run(&t, d->sql);
	bool seen = finder != BATCH || d->live;
	enum store_result found = find(finder, worker, keeper, &epoch);
	ck_assert_msg(found == (seen ? STORE_HISTORY : STORE_OK), "%s, finder %d: %d", d->sql, finder, found);
	ck_assert_int_eq(stage_orders(&t), 2);
	/* The replica sees what can be seen from outside; it must not act on it twice. */
	enum store_result seen_outside = store_check_history(replica, &epoch);
	ck_assert(seen_outside == STORE_OK || seen_outside == STORE_HISTORY);

	struct history_epoch drawn = assign_one(keeper, &because);
	ck_assert_msg((because != NULL) == (d->because != NULL), "%s, finder %d: %s", d->sql, finder, because);
	ck_assert_msg(!because || strstr(because, d->because), "%s, finder %d: %s", d->sql, finder, because);
	ck_assert(!history_epoch_equal(&drawn, &t.epoch));
	/* Drawn once: nobody else finds it still damaged. */
	struct store *const others[] = {keeper, sibling, replica};
	for (size_t i = 0; i < 3; i++) {
		struct history_epoch again = assign_one(others[i], &because);
		ck_assert_msg(!because, "%s, finder %d, assignment %zu: %s", d->sql, finder, i, because);
		ck_assert(history_epoch_equal(&again, &drawn));
	}
	/* What began before is over, what begins now works. */
	expect(worker, stage_write(worker, &epoch, "c"), STORE_HISTORY, "the old epoch");
	expect(worker, stage_write(worker, &drawn, "c"), STORE_OK, "the new epoch");
	expect(worker, stage_write(worker, &drawn, "d"), STORE_OK, "the new epoch");
	expect(keeper, find(PROGRESS, worker, keeper, &epoch), STORE_HISTORY, "progress in the old epoch");
	expect(keeper, find(PROGRESS, worker, keeper, &drawn), STORE_OK, "progress in the new epoch");
	expect(keeper, find(CHECK, worker, keeper, &drawn), STORE_OK, "check in the new epoch");
	store_free(worker);
	store_free(keeper);
	store_free(sibling);
	store_free(replica);
	store_board_free(elsewhere.board);
	ledger_stage_close(&t);
}

static const struct damage damages[] = {
	{"UPDATE history SET epoch = gen_random_uuid()", NULL, true},
	{"UPDATE history SET timeline = '0000000A'", "timeline", true},
	/* A backend belongs to one server and one database for life, so a batch does not ask again. */
	{"UPDATE history SET system_identifier = '1'", "system identifier", false},
	{"UPDATE history SET database_oid = 1", "OID", false},
	{"UPDATE witnesses SET batches = batches - 1 WHERE batches > 0", "acknowledged batch", true},
	{"DELETE FROM witnesses WHERE batches > 0", "acknowledged batch", true},
};

START_TEST(test_store_progress__damage_is_found_and_draws_one_epoch)
{
	for (enum finder f = BATCH; f < FINDERS; f++) {
		char schema[32];
		snprintf(schema, sizeof(schema), "damage %d by %d", _i, (int)f);
		check_damage(&damages[_i], f, schema);
	}
}
END_TEST

/* What one session saw counts, though the database looks right again by the time of the assignment. */
START_TEST(test_store_progress__a_proof_is_remembered_until_an_epoch_is_drawn)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "remembered");
	struct store *worker = store_new(&t.settings, 0), *keeper = store_new(&t.settings, 1);
	expect(worker, stage_write(worker, &t.epoch, "a"), STORE_OK, "a");
	stage_run(&t, "UPDATE witnesses SET batches = 0");
	expect(worker, stage_write(worker, &t.epoch, "b"), STORE_HISTORY, "b");
	stage_run(&t, "UPDATE witnesses SET batches = 1");
	const char *because;
	struct history_epoch drawn = assign_one(keeper, &because);
	ck_assert(because && !history_epoch_equal(&drawn, &t.epoch));
	assign_one(keeper, &because);
	ck_assert_ptr_null(because);
	/* Readers are told why. */
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM history WHERE drawn_because LIKE '%acknowledged%'"), 1);
	store_free(worker);
	store_free(keeper);
	ledger_stage_close(&t);
}
END_TEST

/* A worker that starts on such a database: what it needs before it can assign is there in any history, and the
 * connection that read it passes for nothing else. */
START_TEST(test_store_progress__a_start_after_a_loss_gets_to_its_assignment)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "started");
	stage_run(&t, "UPDATE history SET timeline = '0000000A'");
	struct store *s = store_new(&t.settings, 1);
	uint8_t key[16];
	struct rules *rules = NULL;
	bool changed;
	expect(s, store_digest_key(s, key), STORE_OK, "digest key");
	expect(s, store_load_rules(s, &rules), STORE_OK, "rules");
	rules_unref(rules);
	expect(s, store_wait_rules(s, 0, &changed), STORE_HISTORY, "word of rules");
	expect(s, store_check_history(s, &t.epoch), STORE_HISTORY, "check");
	const char *because;
	struct history_epoch drawn = assign_one(s, &because);
	ck_assert(because && strstr(because, "timeline"));
	expect(s, store_check_history(s, &drawn), STORE_OK, "check in the new epoch");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

static void run_tool(char *const *argv)
{
	pid_t pid = fork();
	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	int status = -1;
	ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	ck_assert_msg(status == 0, "%s: %d", argv[0], status);
}

static void copy_folder(const struct private_postgres *of, const char *from_name, const char *to_name)
{
	char from[96], to[96];
	snprintf(from, sizeof(from), "%s/%s", of->folder, from_name);
	snprintf(to, sizeof(to), "%s/%s", of->folder, to_name);
	run_tool((char *[]){"rm", "-rf", to, NULL});
	run_tool((char *[]){"cp", "-a", from, to, NULL});
}

/* Until the connection that went with the server has been told apart from a live one. */
static enum store_result begin_past_retries(struct store *s, const struct history_epoch *epoch, const char *id)
{
	struct order o;
	enum store_result r = STORE_RETRY;
	for (int i = 0; i < 3 && r == STORE_RETRY; i++)
		r = stage_begin(s, epoch, &o, id);
	if (r == STORE_OK)
		store_rollback(s);
	return r;
}

static struct history_epoch assign_past_retries(struct store *s, const char **because)
{
	struct store_assignment a = assignment(0, -1, false);
	struct history_epoch epoch;
	enum store_result r = STORE_RETRY;
	for (int i = 0; i < 3 && r == STORE_RETRY; i++)
		r = store_assign(s, &member, &a, 1, &epoch, because);
	expect(s, r, STORE_OK, "assign");
	return epoch;
}

static void look_again(struct ledger_stage *t)
{
	pg_close(t->pg);
	const struct pg_settings settings = {.dsn = t->settings.dsn,
					     .schema = t->settings.schema,
					     .connect_timeout_ms = 5000,
					     .statement_timeout_ms = 5000,
					     .idle_timeout_ms = 5000,
					     .for_queries = true};
	char error[256];
	ck_assert_int_eq(pg_connect(&settings, &t->pg, error, sizeof(error)), PG_OK);
}

/* Stops the server, puts the copy in the place of its data, starts it again. */
static void restore(struct private_postgres *own, struct ledger_stage *t, bool long_wal)
{
	private_postgres_crash(own);
	copy_folder(own, "copy", "data");
	ck_assert(private_postgres_launch(own));
	look_again(t);
	if (!long_wal)
		return;
	for (int i = 0; i < 4; i++) {
		stage_run(t, "SELECT pg_logical_emit_message(true, 'x', 'y')");
		stage_run(t, "SELECT pg_switch_wal()");
	}
}

/* A restore of an older copy keeps system identifier, timeline and OID. While its WAL is short that gives it away;
 * when it has grown beyond what was seen, only the witnesses tell. */
START_TEST(test_store_progress__an_older_copy_of_the_data_is_found)
{
	struct private_postgres own;
	ck_assert(private_postgres_start(&own));
	struct ledger_stage t;
	ledger_stage_open(&t, own.dsn, "delivery");
	struct store *worker = store_new(&t.settings, 0), *keeper = store_new(&t.settings, 1);
	struct history_epoch epoch = t.epoch, drawn;
	const char *because = NULL;
	uint64_t lsn = 0;
	for (int long_wal = 0; long_wal < 2; long_wal++) {
		expect(worker, stage_write(worker, &epoch, long_wal ? "a2" : "a"), STORE_OK, "a");
		private_postgres_crash(&own);
		copy_folder(&own, "data", "copy");
		expect(worker, begin_past_retries(worker, &epoch, "b"), STORE_RETRY, "server away");
		ck_assert(private_postgres_launch(&own));
		look_again(&t);
		ck_assert_int_eq(begin_past_retries(keeper, &epoch, "b"), STORE_OK);
		expect(worker, stage_write(worker, &epoch, "b"), STORE_OK, "server back, nothing lost");
		expect(keeper, store_progress(keeper, &member, &epoch, NULL, 0, &lsn), STORE_OK, "progress");
		ck_assert_uint_gt(lsn, 0);

		restore(&own, &t, long_wal);
		expect(worker, begin_past_retries(worker, &epoch, "b"), STORE_HISTORY, "restored");
		ck_assert_msg(strstr(store_error(worker), long_wal ? "acknowledged is missing" : "WAL position") !=
				      NULL,
			      "%s", store_error(worker));
		drawn = assign_past_retries(keeper, &because);
		ck_assert(because && !history_epoch_equal(&drawn, &epoch));
		epoch = drawn;
		expect(worker, stage_write(worker, &epoch, "b"), STORE_OK, "b again");
		expect(keeper, store_check_history(keeper, &epoch), STORE_OK, "check");
	}
	store_free(worker);
	store_free(keeper);
	ledger_stage_close(&t);
	private_postgres_stop(&own);
}
END_TEST

/* The same copy a second time brings back an epoch that had been replaced, and with it the done marks of Redis
 * for batches which the copy lacks: it must not be taken for the history that it once was [I1]. */
START_TEST(test_store_progress__a_copy_restored_twice_draws_twice)
{
	struct private_postgres own;
	ck_assert(private_postgres_start(&own));
	struct ledger_stage t;
	ledger_stage_open(&t, own.dsn, "delivery");
	struct store *worker = store_new(&t.settings, 0), *keeper = store_new(&t.settings, 1);
	struct history_epoch first, second;
	const char *because = NULL;
	uint64_t lsn = 0;
	expect(worker, stage_write(worker, &t.epoch, "a"), STORE_OK, "a");
	private_postgres_crash(&own);
	copy_folder(&own, "data", "copy");
	ck_assert(private_postgres_launch(&own));
	expect(worker, begin_past_retries(worker, &t.epoch, "b"), STORE_OK, "server back");
	expect(worker, stage_write(worker, &t.epoch, "b"), STORE_OK, "b is settled and marked");

	restore(&own, &t, true);
	expect(worker, begin_past_retries(worker, &t.epoch, "b"), STORE_HISTORY, "restored");
	first = assign_past_retries(keeper, &because);
	ck_assert(because && !history_epoch_equal(&first, &t.epoch));
	expect(worker, stage_write(worker, &first, "b"), STORE_OK, "b again");
	expect(keeper, store_progress(keeper, &member, &first, NULL, 0, &lsn), STORE_OK, "progress");

	restore(&own, &t, true);
	expect(worker, begin_past_retries(worker, &first, "b"), STORE_HISTORY, "restored again");
	second = assign_past_retries(keeper, &because);
	ck_assert_int_eq(stage_orders(&t), 1);
	ck_assert(because && !history_epoch_equal(&second, &t.epoch) && !history_epoch_equal(&second, &first));
	store_free(worker);
	store_free(keeper);
	ledger_stage_close(&t);
	private_postgres_stop(&own);
}
END_TEST

/* ---- what looks like loss and is none ---- */

struct bystander {
	struct store *store;
	struct ledger_stage *stage;
	enum store_result result;
};

/* A sibling connects, and the WAL is longer when it does. */
static void sibling_connects(void *owner)
{
	struct bystander *b = owner;
	struct rules *rules = NULL;
	if (pg_script(b->stage->pg, "SELECT pg_logical_emit_message(true, 'x', 'y')") != PG_OK)
		return;
	pg_close(b->store->pg);
	b->store->pg = NULL;
	b->result = store_load_rules(b->store, &rules);
	rules_unref(rules);
}

/*
 *   1. A asks for the WAL position, the server says 100
 *   2. B connects, the server says 200, which B puts on the board
 *   3. A compares its 100 with the board's 200
 * Nothing is lost: a position must be compared with what was seen before it was asked for.
 */
START_TEST(test_store_progress__a_position_read_before_a_siblings_is_no_loss)
{
	static const struct {
		const char *what, *text;
		enum proxy_act act;
	} rows[] = {
		{"session", "pg_control_system", PROXY_HOOK_AT_ANSWER},
		{"progress", "w.batches >= u.batches", PROXY_HOOK_BEFORE},
		{"check", "w.batches >= u.batches", PROXY_HOOK_BEFORE},
		{"assign", "w.batches >= u.batches", PROXY_HOOK_BEFORE},
	};
	struct ledger_stage t;
	struct postgres_proxy proxy;
	char schema[32];
	snprintf(schema, sizeof(schema), "position %d", _i);
	ledger_stage_open(&t, server.dsn, schema);
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	struct store_settings through = t.settings;
	through.dsn = proxy.dsn;
	struct store *s = store_new(&through, 0);
	struct bystander b = {.store = store_new(&t.settings, 1), .stage = &t, .result = STORE_UNUSABLE};
	const char *because = NULL;
	uint64_t lsn;
	if (_i > 0)
		expect(s, store_check_history(s, &t.epoch), STORE_OK, "connect");
	postgres_proxy_arm(&proxy, rows[_i].text, rows[_i].act, sibling_connects, &b);
	enum store_result r = STORE_OK;
	if (_i == 1)
		r = store_progress(s, &member, &t.epoch, NULL, 0, &lsn);
	else if (_i < 3)
		r = store_check_history(s, &t.epoch);
	else
		assign_one(s, &because);
	ck_assert_int_eq(postgres_proxy_fired(&proxy), 1);
	expect(b.store, b.result, STORE_OK, "sibling");
	expect(s, r, STORE_OK, rows[_i].what);
	ck_assert_msg(!because, "%s: %s", rows[_i].what, because);
	store_free(s);
	store_free(b.store);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
}
END_TEST

/* ---- assignment and progress ---- */

static int64_t progress_of(struct ledger_stage *t, int partition)
{
	char sql[160];
	snprintf(sql, sizeof(sql), "SELECT max(next_offset) FROM partition_progress WHERE partition = %d", partition);
	return stage_number(t, sql);
}

START_TEST(test_store_progress__assign_starts_by_the_start_rule)
{
	static const struct offset_range accepted = {10, 20}, other = {10, 19};
	static const struct {
		const char *what;
		struct start_facts facts; /* but for progress */
		int64_t progress;         /* -1: no row */
		const struct offset_range *accepted; /* found before, and accepted */
		int64_t start; /* -1: lost */
		bool reset;
	} rows[] = {
		{"nothing known", {.committed = -1, .log_start = 7, .log_end = 99}, -1, NULL, 7, false},
		{"progress alone", {.committed = -1, .log_end = 99}, 30, NULL, 30, false},
		{"marked above progress", {.committed = 40, .marked = true, .log_end = 99}, 30, NULL, 30, false},
		{"marked below progress", {.committed = 20, .marked = true, .log_end = 99}, 30, NULL, 20, false},
		{"marked alone", {.committed = 20, .marked = true, .log_end = 99}, -1, NULL, 0, false},
		{"marked alone, log cut",
		 {.committed = 20, .marked = true, .log_start = 5, .log_end = 99},
		 -1,
		 NULL,
		 -1,
		 false},
		{"reset back", {.committed = 3, .log_end = 99}, 30, NULL, 3, true},
		{"reset ahead", {.committed = 90, .log_end = 99}, 30, NULL, 90, true},
		{"reset alone", {.committed = 90, .log_end = 99}, -1, NULL, 90, true},
		{"below the log", {.committed = -1, .log_start = 20, .log_end = 99}, 10, NULL, -1, false},
		{"loss accepted", {.committed = -1, .log_start = 20, .log_end = 99}, 10, &accepted, 20, false},
		{"another loss accepted", {.committed = -1, .log_start = 20, .log_end = 99}, 10, &other, -1, false},
		{"above the log", {.committed = -1, .log_end = 99, .progress_before = 100}, 100, NULL, -1, false},
	};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "start rule");
	struct store *s = store_new(&t.settings, 0);
	enum { COUNT = sizeof(rows) / sizeof(rows[0]) };
	struct store_assignment a[COUNT];
	for (int i = 0; i < COUNT; i++) {
		/* Marks of another epoch: what they say of this database is nothing. */
		a[i] = (struct store_assignment){.topic = "delivery-events",
						 .partition = i,
						 .facts = rows[i].facts,
						 .mark = {.lsn = UINT64_MAX}};
		char sql[256];
		if (rows[i].accepted) {
			snprintf(sql, sizeof(sql), "INSERT INTO lost_offsets VALUES ('%s', 'delivery-events', %d, %d, %d, '',"
				 " now(), now())", GROUP, i, (int)rows[i].accepted->from, (int)rows[i].accepted->to);
			stage_run(&t, sql);
		}
		snprintf(sql, sizeof(sql), "INSERT INTO progress VALUES ('%s', 'delivery-events', %d, %d, 5)", GROUP, i,
			 (int)rows[i].progress);
		if (rows[i].progress >= 0)
			stage_run(&t, sql);
		/* Of another group, of another topic: not looked at. */
		snprintf(sql, sizeof(sql),
			 "INSERT INTO progress VALUES ('other', 'delivery-events', %d, 1, 5),"
			 " ('%s', 'other', %d, 1, 5)",
			 i, GROUP, i);
		stage_run(&t, sql);
	}
	struct history_epoch epoch;
	const char *because;
	expect(s, store_assign(s, &member, a, COUNT, &epoch, &because), STORE_OK, "assign");
	ck_assert_msg(!because, "%s", because);
	for (int i = 0; i < COUNT; i++) {
		char sql[160];
		snprintf(sql, sizeof(sql),
			 "SELECT max(next_offset) FROM progress WHERE consumer_group = '%s'"
			 " AND topic = 'delivery-events' AND partition = %d",
			 GROUP, i);
		ck_assert_msg(a[i].facts.progress == rows[i].progress, "%s", rows[i].what);
		ck_assert_msg(a[i].verdict.lost == (rows[i].start < 0), "%s", rows[i].what);
		ck_assert_msg(a[i].verdict.reset == rows[i].reset, "%s", rows[i].what);
		if (a[i].verdict.lost) {
			ck_assert_msg(stage_number(&t, sql) == rows[i].progress, "%s: a lost partition's row",
				      rows[i].what);
			continue;
		}
		ck_assert_msg(a[i].verdict.start == rows[i].start, "%s: %d", rows[i].what, (int)a[i].verdict.start);
		/* Settled is settled, though it is read again; a reset and an accepted loss set the row. */
		bool kept = !rows[i].reset && !rows[i].accepted && rows[i].progress > rows[i].start;
		ck_assert_msg(stage_number(&t, sql) == (kept ? rows[i].progress : rows[i].start), "%s: the row", rows[i].what);
	}
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM progress WHERE next_offset = 1 AND claim = 5"),
			 2 * COUNT);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store_progress__marks_prove_loss_within_their_epoch)
{
	static const struct {
		const char *what;
		int64_t committed;
		bool marked, same_epoch, ahead; /* of the server's WAL */
		const char *because;
	} rows[] = {
		{"at progress", 30, true, true, false, NULL},
		{"behind progress", 29, true, true, false, NULL},
		{"beyond progress", 31, true, true, false, "progress behind"},
		{"beyond progress, other epoch", 31, true, false, false, NULL},
		{"beyond progress, a reset", 31, false, true, false, NULL},
		{"WAL behind the mark", 30, true, true, true, "WAL position behind a marked commit"},
		{"WAL behind the mark, other epoch", 30, true, false, true, NULL},
		{"WAL behind the mark, a reset", 30, false, true, true, NULL},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ledger_stage t;
		char schema[32];
		snprintf(schema, sizeof(schema), "mark %zu", i);
		ledger_stage_open(&t, server.dsn, schema);
		struct store *s = store_new(&t.settings, 0);
		stage_run(&t, "INSERT INTO progress VALUES ('" GROUP "', 'delivery-events', 1, 30, 5)");
		struct store_assignment a[] = {assignment(0, -1, false),
					       assignment(1, rows[i].committed, rows[i].marked)};
		if (rows[i].same_epoch)
			a[1].mark.epoch = t.epoch;
		uint64_t lsn = (uint64_t)stage_number(&t, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8");
		a[1].mark.lsn = rows[i].ahead ? lsn + 1024 * 1024 * 1024 : lsn;
		struct history_epoch epoch;
		const char *because;
		expect(s, store_assign(s, &member, a, 2, &epoch, &because), STORE_OK, rows[i].what);
		ck_assert_msg((because != NULL) == (rows[i].because != NULL), "%s: %s", rows[i].what, because);
		ck_assert_msg(!because || strstr(because, rows[i].because), "%s: %s", rows[i].what, because);
		ck_assert_msg(history_epoch_equal(&epoch, &t.epoch) == !because, "%s", rows[i].what);
		struct history_epoch stored = stage_epoch(&t);
		ck_assert(history_epoch_equal(&epoch, &stored));
		int64_t start = rows[i].marked && rows[i].committed > 30 ? 30 : rows[i].committed;
		ck_assert_int_eq(a[1].verdict.start, start);
		ck_assert_int_eq(progress_of(&t, 1), rows[i].marked ? 30 : start);
		/* The mark is still there, the epoch is another: no second draw. */
		if (because) {
			expect(s, store_assign(s, &member, a, 2, &epoch, &because), STORE_OK, rows[i].what);
			ck_assert_msg(!because && history_epoch_equal(&epoch, &stored), "%s: %s", rows[i].what,
				      because);
		}
		store_free(s);
		ledger_stage_close(&t);
	}
}
END_TEST

/* The interleaving of store_progress.c: a claim by what Kafka said before others went on, and what is recorded
 * under it, are no proof of loss afterwards. */
START_TEST(test_store_progress__a_late_assignment_sets_nothing_back)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "late assignment");
	struct store *zombie = store_new(&t.settings, 0), *owner = store_new(&t.settings, 1);
	struct store_assignment mine = assignment(1, -1, false), late = assignment(1, 5, true);
	struct history_epoch epoch;
	const char *because;
	uint64_t lsn;
	expect(owner, store_assign(owner, &member, &mine, 1, &epoch, &because), STORE_OK, "owner");
	struct store_progress to = {
		.topic = "delivery-events", .partition = 1, .claim = mine.claim, .position = 21};
	expect(owner, store_progress(owner, &member, &epoch, &to, 1, &lsn), STORE_OK, "progress");
	late.mark = (struct commit_mark){.epoch = epoch};
	expect(zombie, store_assign(zombie, &member, &late, 1, &epoch, &because), STORE_OK, "late");
	ck_assert(!because && late.verdict.start == 5);
	ck_assert_int_eq(progress_of(&t, 1), 21);
	to = (struct store_progress){.topic = "delivery-events", .partition = 1, .claim = late.claim, .position = 8};
	expect(zombie, store_progress(zombie, &member, &epoch, &to, 1, &lsn), STORE_OK, "what it read again");
	ck_assert(to.kept);
	ck_assert_int_eq(progress_of(&t, 1), 21);

	struct store_assignment next = assignment(1, 21, true);
	next.mark = (struct commit_mark){.epoch = epoch};
	expect(owner, store_assign(owner, &member, &next, 1, &epoch, &because), STORE_OK, "next");
	ck_assert_msg(!because, "%s", because);
	ck_assert_int_eq(next.verdict.start, 21);
	store_free(zombie);
	store_free(owner);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store_progress__progress_is_the_last_claims)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "claims");
	struct store *first = store_new(&t.settings, 0), *second = store_new(&t.settings, 1);
	struct store_assignment a[] = {assignment(0, -1, false), assignment(1, -1, false)};
	struct store_assignment b[] = {assignment(1, -1, false)};
	struct history_epoch epoch;
	const char *because;
	uint64_t lsn = 0, later = 0;
	expect(first, store_assign(first, &member, a, 2, &epoch, &because), STORE_OK, "first");
	struct store_progress mine[] = {
		{.topic = "delivery-events", .partition = 0, .claim = a[0].claim, .position = 10},
		{.topic = "delivery-events", .partition = 1, .claim = a[1].claim, .position = 11}};
	expect(first, store_progress(first, &member, &epoch, mine, 2, &lsn), STORE_OK, "progress");
	ck_assert(mine[0].kept && mine[1].kept);
	ck_assert(progress_of(&t, 0) == 10 && progress_of(&t, 1) == 11);
	ck_assert_uint_gt(lsn, 0);

	expect(second, store_assign(second, &member, b, 1, &epoch, &because), STORE_OK, "second");
	ck_assert_int_eq(b[0].facts.progress, 11);
	mine[0].position = 20;
	mine[1].position = 21;
	expect(first, store_progress(first, &member, &epoch, mine, 2, &later), STORE_OK, "late");
	ck_assert(mine[0].kept && !mine[1].kept);
	ck_assert_uint_ge(later, lsn);
	ck_assert(progress_of(&t, 0) == 20 && progress_of(&t, 1) == 11);
	struct store_progress theirs = {
		.topic = "delivery-events", .partition = 1, .claim = b[0].claim, .position = 31};
	expect(second, store_progress(second, &member, &epoch, &theirs, 1, &later), STORE_OK, "theirs");
	ck_assert(theirs.kept && progress_of(&t, 1) == 31);

	/* Right claim, wrong group: nothing. Old epoch: nothing, and the whole write with it. */
	theirs.position = 32;
	expect(second, store_progress(second, &other_group, &epoch, &theirs, 1, &later), STORE_OK, "other group");
	ck_assert(!theirs.kept && progress_of(&t, 1) == 31);
	stage_run(&t, "UPDATE history SET epoch = gen_random_uuid()");
	expect(second, store_progress(second, &member, &epoch, &theirs, 1, &later), STORE_HISTORY, "old epoch");
	ck_assert_int_eq(progress_of(&t, 1), 31);
	store_free(first);
	store_free(second);
	ledger_stage_close(&t);
}
END_TEST

struct waiting_progress {
	struct store *store;
	struct history_epoch epoch;
	struct store_progress entry;
	enum store_result result;
};

static void *write_progress(void *argument)
{
	struct waiting_progress *w = argument;
	uint64_t lsn;
	w->result = store_progress(w->store, &member, &w->epoch, &w->entry, 1, &lsn);
	return NULL;
}

/* The numbered race of store_progress.c: a position settled in one history is never recorded in the next. */
START_TEST(test_store_progress__progress_waits_for_a_draw_and_sees_it)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "draw race");
	struct store *s = store_new(&t.settings, 0);
	struct store_assignment a = assignment(0, -1, false);
	struct waiting_progress w = {.store = s};
	const char *because;
	expect(s, store_assign(s, &member, &a, 1, &w.epoch, &because), STORE_OK, "assign");
	w.entry = (struct store_progress){.topic = a.topic, .partition = 0, .claim = a.claim, .position = 50};
	stage_run(&t, "BEGIN");
	stage_run(&t, "UPDATE history SET epoch = gen_random_uuid()");
	pthread_t thread = thread_start("keeper", write_progress, &w);
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	stage_run(&t, "COMMIT");
	thread_join(thread);
	expect(s, w.result, STORE_HISTORY, "progress");
	ck_assert_int_eq(progress_of(&t, 0), 0);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

struct drawer {
	struct pg *pg;
	char sqlstate[6];
};

/* As a worker of before the advisory lock draws, or an operator. */
static void draw(void *owner)
{
	struct drawer *d = owner;
	if (pg_script(d->pg, "SET lock_timeout = '100ms'") == PG_OK &&
	    pg_script(d->pg, "UPDATE history SET epoch = gen_random_uuid()") != PG_OK)
		snprintf(d->sqlstate, sizeof(d->sqlstate), "%s", pg_sqlstate(d->pg));
}

/* The other half of the race: a write that is under way is over before an epoch is drawn. */
START_TEST(test_store_progress__a_draw_waits_for_progress)
{
	struct ledger_stage t, neighbour;
	struct postgres_proxy proxy;
	ledger_stage_open(&t, server.dsn, "draw waits");
	ledger_stage_open(&neighbour, server.dsn, "draw waits not");
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	struct store_settings through = t.settings;
	through.dsn = proxy.dsn;
	struct store *s = store_new(&through, 0);
	const char *because;
	struct history_epoch epoch = assign_one(s, &because);
	static const char locked_by[] = "SELECT xmax::text::int8 FROM \"draw waits\".history";
	int64_t assigner = stage_number(&neighbour, locked_by);
	for (int i = 0; i < 2; i++) {
		struct drawer d = {.pg = i ? neighbour.pg : t.pg};
		uint64_t lsn;
		postgres_proxy_arm(&proxy, "UPDATE progress", PROXY_HOOK_BEFORE, draw, &d);
		expect(s, store_progress(s, &member, &epoch, NULL, 0, &lsn), STORE_OK, "progress");
		ck_assert_int_eq(postgres_proxy_fired(&proxy), i + 1);
		ck_assert_str_eq(d.sqlstate, i ? "" : "55P03");
	}
	/* And locked no row, which would be a multixact with a second one. */
	ck_assert_int_eq(stage_number(&neighbour, locked_by), assigner);
	store_free(s);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
	ledger_stage_close(&neighbour);
}
END_TEST

START_TEST(test_store_progress__keepers_calls_survive_a_lost_backend)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "keeper lost");
	struct store *s = store_new(&t.settings, 0);
	const char *because;
	struct history_epoch epoch = assign_one(s, &because);
	struct store_assignment a = assignment(0, -1, false);
	uint64_t lsn;
	for (int call = 0; call < 4; call++) {
		struct rules *rules = NULL;
		bool changed;
		enum store_result r[2];
		expect(s, store_check_history(s, &epoch), STORE_OK, "connect");
		stage_terminate(&t, pg_backend(s->pg));
		for (int i = 0; i < 2; i++) {
			rules = NULL;
			r[i] = call == 0   ? store_assign(s, &member, &a, 1, &epoch, &because)
			       : call == 1 ? store_progress(s, &member, &epoch, NULL, 0, &lsn)
			       : call == 2 ? store_load_rules(s, &rules)
					   : store_wait_rules(s, 0, &changed);
			rules_unref(rules);
		}
		ck_assert_msg(r[0] == STORE_RETRY && r[1] == STORE_OK, "call %d: %d, %d", call, r[0], r[1]);
	}
	/* On a connection of its own. */
	uint8_t key[16];
	stage_terminate(&t, pg_backend(s->pg));
	expect(s, store_digest_key(s, key), STORE_OK, "digest key");
	store_free(s);
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
	Suite *suite = suite_create("store_progress");
	TCase *c = tcase_create("store_progress");
	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, test_store_progress__damage_is_found_and_draws_one_epoch, 0,
			    sizeof(damages) / sizeof(damages[0]));
	tcase_add_test(c, test_store_progress__a_proof_is_remembered_until_an_epoch_is_drawn);
	tcase_add_test(c, test_store_progress__a_start_after_a_loss_gets_to_its_assignment);
	tcase_add_test(c, test_store_progress__an_older_copy_of_the_data_is_found);
	tcase_add_test(c, test_store_progress__a_copy_restored_twice_draws_twice);
	tcase_add_loop_test(c, test_store_progress__a_position_read_before_a_siblings_is_no_loss, 0, 4);
	tcase_add_test(c, test_store_progress__assign_starts_by_the_start_rule);
	tcase_add_test(c, test_store_progress__marks_prove_loss_within_their_epoch);
	tcase_add_test(c, test_store_progress__a_late_assignment_sets_nothing_back);
	tcase_add_test(c, test_store_progress__progress_is_the_last_claims);
	tcase_add_test(c, test_store_progress__progress_waits_for_a_draw_and_sees_it);
	tcase_add_test(c, test_store_progress__a_draw_waits_for_progress);
	tcase_add_test(c, test_store_progress__keepers_calls_survive_a_lost_backend);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
