/* worker/ledger/store*.c against a real server: transactions, history, progress. What a batch means is test_ledger's.
 */
#include "worker/ledger/store.h"

#include "common/thread.h"
#include "tests/lib/ledger_stage.c"
#include "tests/lib/postgres_proxy.c"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/rules_store.h"
#include "worker/ledger/store_internal.h"

#include <check.h>

static struct private_postgres server;

static const struct store_source source = {.topic = {"delivery-events", 15}, .partition = 3, .offset = 41};

#define GROUP "delivery-worker"

static void expect(const struct store *s, enum store_result got, enum store_result wanted, const char *what)
{
	ck_assert_msg(got == wanted, "%s: got %d, wanted %d (%s)", what, got, wanted, store_error(s));
}

/* ---- a batch of one order that posts nothing ---- */

static enum store_result begin_one(struct store *s, const struct history_epoch *epoch, struct order *o, const char *id)
{
	int64_t revision;
	order_init(o, slice_of(id));
	return store_begin(s, epoch, false, o, 1, &revision);
}

static enum store_result commit_one(struct store *s, struct order *o, enum event_status progress)
{
	o->facts.progress = progress;
	o->changed = true;
	const struct store_write w = {.order = o, .first_source = &source};
	return store_commit(s, &w, 1);
}

static enum store_result write_one(struct store *s, const struct history_epoch *epoch, const char *id)
{
	struct order o;
	enum store_result r = begin_one(s, epoch, &o, id);
	return r == STORE_OK ? commit_one(s, &o, STATUS_CREATED) : r;
}

static int64_t order_count(struct ledger_stage *t)
{
	return stage_number(t, "SELECT count(*) FROM orders");
}

START_TEST(test_store__a_row_comes_back_as_it_was_written)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "round trip");
	struct store *s = store_new(&t.settings, 0);
	struct order orders[3], *o = &orders[1];
	static const char *const ids[] = {"a", "b", "c"};
	int64_t revision = -1;
	for (size_t i = 0; i < 3; i++)
		order_init(&orders[i], slice_of(ids[i]));
	expect(s, store_begin(s, &t.epoch, false, orders, 3, &revision), STORE_OK, "begin");
	ck_assert_int_eq(revision, 0);
	ck_assert(!o->exists && o->rev == 0);
	o->facts = (struct facts){.customer_id = SLICE_LITERAL("c:1"),
				  .partner_id = SLICE_LITERAL("p.1"),
				  .currency = "BRL",
				  .progress = STATUS_RETURNED,
				  .outcome = STATUS_DELIVERED,
				  .outcome_at_us = INT64_C(1767225600000001),
				  .amount_minor = EVENT_AMOUNT_MAX,
				  .amount_at_us = INT64_C(946684800000000),
				  .refunded_total_minor = EVENT_AMOUNT_MAX - 1,
				  .driver_id = SLICE_LITERAL("d\xc3\xbc\xf0\x9f\x9a\x9a"),
				  .driver_at_us = INT64_C(1767225599999999)};
	o->pin = (struct pricing_pin){.outcome_at_us = INT64_C(1767225600000001),
				      .rule_id = SLICE_LITERAL("base"),
				      .rule_version = INT32_MAX,
				      .kinds = KINDS_ALL};
	o->points = -EVENT_AMOUNT_MAX;
	o->order_credit_minor = EVENT_AMOUNT_MAX;
	o->points_seq = 7;
	o->order_credit_seq = 9;
	const struct order written = *o;
	const struct store_write w = {.order = o, .first_source = &source};
	expect(s, store_commit(s, &w, 1), STORE_OK, "commit");

	for (int lock = 0; lock < 2; lock++) {
		for (size_t i = 0; i < 3; i++)
			order_init(&orders[i], slice_of(ids[i]));
		expect(s, store_begin(s, &t.epoch, lock, orders, 3, &revision), STORE_OK, "again");
		ck_assert(!orders[0].exists && !orders[2].exists);
		ck_assert(o->exists && o->rev == 1);
		ck_assert(facts_equal(&o->facts, &written.facts));
		ck_assert(slice_equal(o->pin.rule_id, written.pin.rule_id));
		ck_assert_int_eq(o->pin.rule_version, INT32_MAX);
		ck_assert_int_eq(o->pin.kinds, KINDS_ALL);
		ck_assert_int_eq(o->pin.outcome_at_us, written.pin.outcome_at_us);
		ck_assert(o->points == written.points && o->points_seq == 7);
		ck_assert(o->order_credit_minor == written.order_credit_minor && o->order_credit_seq == 9);
		store_rollback(s);
	}
	/* And what is not known stays unknown. */
	expect(s, write_one(s, &t.epoch, "a"), STORE_OK, "bare");
	struct order bare;
	expect(s, begin_one(s, &t.epoch, &bare, "a"), STORE_OK, "bare again");
	struct facts nothing;
	facts_init(&nothing);
	nothing.progress = STATUS_CREATED;
	ck_assert(facts_equal(&bare.facts, &nothing));
	ck_assert(bare.pin.outcome_at_us == TIME_NONE && !slice_present(bare.pin.rule_id));
	expect(s, store_commit(s, NULL, 0), STORE_OK, "nothing to write");
	stage_check(
		&t,
		"SELECT first_topic || '/' || first_partition || '/' || first_offset FROM orders WHERE order_id = 'a'",
		"delivery-events/3/41");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* ---- another transaction in between ---- */

START_TEST(test_store__an_order_changed_since_it_was_read_is_stale)
{
	static const char *const changes[] = {
		"UPDATE orders SET rev = rev + 1 WHERE order_id = 'old'",
		"DELETE FROM orders WHERE order_id = 'old'",
		"INSERT INTO orders SELECT 'new', 1, 0, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, "
		"NULL,"
		" NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, now()",
	};
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct ledger_stage t;
		char schema[32];
		snprintf(schema, sizeof(schema), "stale%zu", i);
		ledger_stage_open(&t, server.dsn, schema);
		struct store *s = store_new(&t.settings, 0);
		expect(s, write_one(s, &t.epoch, "old"), STORE_OK, "old");
		struct order orders[2];
		int64_t revision;
		order_init(&orders[0], SLICE_LITERAL("new"));
		order_init(&orders[1], SLICE_LITERAL("old"));
		expect(s, store_begin(s, &t.epoch, false, orders, 2, &revision), STORE_OK, "begin");
		stage_run(&t, changes[i]);
		const struct posting posting = {.kind = KIND_ORDER_CREDIT, .seq = 1, .amount = 5};
		struct store_write writes[2];
		for (int k = 0; k < 2; k++) {
			orders[k].facts.progress = STATUS_DELIVERED;
			orders[k].facts.partner_id = SLICE_LITERAL("p");
			memcpy(orders[k].facts.currency, "EUR", 4);
			writes[k] = (struct store_write){.order = &orders[k],
							 .first_source = &source,
							 .postings = &posting,
							 .posting_sources = {&source},
							 .posting_count = 1};
		}
		enum store_result r = store_commit(s, writes, 2);
		/* A row that is gone is inserted anew, at the revision that it would have had: no worker deletes one.
		 */
		if (i == 1) {
			expect(s, r, STORE_OK, changes[i]);
		} else {
			expect(s, r, STORE_STALE, changes[i]);
			ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM posted"), 0);
			ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM balances"), 0);
			ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM orders WHERE progress = 80"), 0);
			ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 1);
		}
		/* The connection and the witness are as good as before. */
		int backend = pg_backend(s->pg);
		expect(s, write_one(s, &t.epoch, "next"), STORE_OK, "next");
		ck_assert_int_eq(pg_backend(s->pg), backend);
		store_free(s);
		ledger_stage_close(&t);
	}
}
END_TEST

START_TEST(test_store__locked_rows_do_not_get_stale)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "locked");
	t.settings.statement_timeout_ms = 200;
	struct store *first = store_new(&t.settings, 0), *second = store_new(&t.settings, 1);
	expect(first, write_one(first, &t.epoch, "o"), STORE_OK, "o");
	struct order a, b;
	int64_t revision;
	order_init(&a, SLICE_LITERAL("o"));
	expect(first, store_begin(first, &t.epoch, true, &a, 1, &revision), STORE_OK, "locked");
	/* The other can read, but neither lock nor write: it waits up to lock_timeout, which is for the caller to
	 * retry. */
	expect(second, begin_one(second, &t.epoch, &b, "o"), STORE_OK, "read");
	expect(second, commit_one(second, &b, STATUS_ASSIGNED), STORE_RETRY, "write");
	order_init(&b, SLICE_LITERAL("o"));
	expect(second, store_begin(second, &t.epoch, true, &b, 1, &revision), STORE_RETRY, "lock");
	expect(first, commit_one(first, &a, STATUS_CONFIRMED), STORE_OK, "commit");
	expect(second, begin_one(second, &t.epoch, &b, "o"), STORE_OK, "after it");
	ck_assert_int_eq(b.facts.progress, STATUS_CONFIRMED);
	ck_assert_int_eq(b.rev, 2);
	expect(second, commit_one(second, &b, STATUS_ASSIGNED), STORE_OK, "then it");
	ck_assert_int_eq(stage_number(&t, "SELECT progress::int8 FROM orders"), STATUS_ASSIGNED);
	store_free(first);
	store_free(second);
	ledger_stage_close(&t);
}
END_TEST

/* ---- trouble ---- */

START_TEST(test_store__a_lost_backend_is_a_retry)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "lost backend");
	struct store *s = store_new(&t.settings, 0);
	struct order o;
	expect(s, write_one(s, &t.epoch, "o1"), STORE_OK, "o1");

	stage_terminate(&t, pg_backend(s->pg));
	expect(s, begin_one(s, &t.epoch, &o, "o2"), STORE_RETRY, "before begin");
	ck_assert(strlen(store_error(s)) > 0);
	expect(s, begin_one(s, &t.epoch, &o, "o2"), STORE_OK, "again");

	stage_terminate(&t, pg_backend(s->pg));
	expect(s, commit_one(s, &o, STATUS_CREATED), STORE_RETRY, "between begin and commit");
	ck_assert_int_eq(order_count(&t), 1);
	expect(s, begin_one(s, &t.epoch, &o, "o2"), STORE_OK, "again");

	stage_terminate(&t, pg_backend(s->pg));
	store_rollback(s);
	expect(s, begin_one(s, &t.epoch, &o, "o2"), STORE_OK, "after a rollback that failed");
	expect(s, commit_one(s, &o, STATUS_CREATED), STORE_OK, "commit");
	ck_assert_int_eq(order_count(&t), 2);
	ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 2);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store__what_an_operator_must_mend_is_unusable)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "unusable");
	struct store *s = store_new(&t.settings, 0);
	struct order o;
	expect(s, write_one(s, &t.epoch, "o"), STORE_OK, "o");
	stage_run(&t, "ALTER TABLE orders RENAME TO elsewhere");
	expect(s, write_one(s, &t.epoch, "o"), STORE_UNUSABLE, "no table");
	stage_run(&t, "ALTER TABLE elsewhere RENAME TO orders");
	expect(s, write_one(s, &t.epoch, "o"), STORE_OK, "mended");

	struct store_settings settings = t.settings;
	settings.schema = "nowhere";
	struct store *lost = store_new(&settings, 1);
	expect(lost, write_one(lost, &t.epoch, "o"), STORE_UNUSABLE, "no schema");
	store_free(lost);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* None of ours removes it; whoever does must not take the process down. */
START_TEST(test_store__a_history_without_its_row_is_unusable)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "no history");
	struct store *s = store_new(&t.settings, 0);
	struct order o;
	expect(s, write_one(s, &t.epoch, "o"), STORE_OK, "o");
	stage_run(&t, "ALTER TABLE history RENAME TO kept; CREATE TABLE history (LIKE kept)");
	struct store *fresh = store_new(&t.settings, 2);
	expect(fresh, begin_one(fresh, &t.epoch, &o, "o"), STORE_UNUSABLE, "new session");
	store_free(fresh);
	expect(s, begin_one(s, &t.epoch, &o, "o"), STORE_UNUSABLE, "old session");
	expect(s, store_check_history(s, &t.epoch), STORE_UNUSABLE, "check");
	stage_run(&t, "DROP TABLE history; ALTER TABLE kept RENAME TO history");
	expect(s, write_one(s, &t.epoch, "o"), STORE_OK, "mended");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store__schema_is_told_fit_from_unfit)
{
	static const struct {
		const char *sql;
		enum store_result result;
		const char *text;
	} rows[] = {
		{"", STORE_OK, ""},
		{"INSERT INTO schema_version VALUES (999, 'later', now(), 1)", STORE_OK, ""},
		{"UPDATE schema_version SET min_worker = 999 WHERE version = 999", STORE_UNUSABLE, "too new"},
		{"DELETE FROM schema_version; INSERT INTO schema_version VALUES (-1, 'early', now(), 1)",
		 STORE_UNUSABLE, "run delivery-worker migrate"},
		{"DROP TABLE schema_version", STORE_UNUSABLE, "holds no ledger"},
	};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "schema check");
	struct store *s = store_new(&t.settings, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		stage_run(&t, rows[i].sql);
		expect(s, store_check_schema(s), rows[i].result, rows[i].sql);
		ck_assert_msg(rows[i].result == STORE_OK || strstr(store_error(s), rows[i].text), "%s", store_error(s));
	}
	store_free(s);
	t.settings.dsn = "host=/tmp/no-such-folder user=postgres";
	s = store_new(&t.settings, 0);
	expect(s, store_check_schema(s), STORE_RETRY, "server away");
	expect(s, write_one(s, &t.epoch, "o"), STORE_RETRY, "server away");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

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
		return begin_one(worker, epoch, &o, "o");
	case BATCH:
		r = begin_one(worker, epoch, &o, "o");
		if (r == STORE_OK)
			store_rollback(worker);
		return r;
	case PROGRESS:
		return store_progress(keeper, GROUP, epoch, NULL, 0, &lsn);
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
	expect(s, store_assign(s, GROUP, &a, 1, &epoch, because), STORE_OK, "assign");
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
	expect(worker, write_one(worker, &epoch, "a"), STORE_OK, "a");
	expect(worker, write_one(worker, &epoch, "b"), STORE_OK, "b");
	expect(replica, store_check_history(replica, &epoch), STORE_OK, "replica");
	for (enum finder f = BATCH; f < ASSIGN; f++)
		expect(f <= BATCH_OF_NEW_SESSION ? worker : keeper, find(f, worker, keeper, &epoch), STORE_OK,
		       "before");
	store_rollback(worker);

	stage_run(&t, d->sql);
	bool seen = finder != BATCH || d->live;
	enum store_result found = find(finder, worker, keeper, &epoch);
	ck_assert_msg(found == (seen ? STORE_HISTORY : STORE_OK), "%s, finder %d: %d", d->sql, finder, found);
	ck_assert_int_eq(order_count(&t), 2);
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
	expect(worker, write_one(worker, &epoch, "c"), STORE_HISTORY, "the old epoch");
	expect(worker, write_one(worker, &drawn, "c"), STORE_OK, "the new epoch");
	expect(worker, write_one(worker, &drawn, "d"), STORE_OK, "the new epoch");
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

START_TEST(test_store__damage_is_found_and_draws_one_epoch)
{
	for (enum finder f = BATCH; f < FINDERS; f++) {
		char schema[32];
		snprintf(schema, sizeof(schema), "damage %d by %d", _i, (int)f);
		check_damage(&damages[_i], f, schema);
	}
}
END_TEST

/* What one session saw counts, though the database looks right again by the time of the assignment. */
START_TEST(test_store__a_proof_is_remembered_until_an_epoch_is_drawn)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "remembered");
	struct store *worker = store_new(&t.settings, 0), *keeper = store_new(&t.settings, 1);
	expect(worker, write_one(worker, &t.epoch, "a"), STORE_OK, "a");
	stage_run(&t, "UPDATE witnesses SET batches = 0");
	expect(worker, write_one(worker, &t.epoch, "b"), STORE_HISTORY, "b");
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
		r = begin_one(s, epoch, &o, id);
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
		r = store_assign(s, GROUP, &a, 1, &epoch, because);
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
START_TEST(test_store__an_older_copy_of_the_data_is_found)
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
		expect(worker, write_one(worker, &epoch, long_wal ? "a2" : "a"), STORE_OK, "a");
		private_postgres_crash(&own);
		copy_folder(&own, "data", "copy");
		expect(worker, begin_past_retries(worker, &epoch, "b"), STORE_RETRY, "server away");
		ck_assert(private_postgres_launch(&own));
		look_again(&t);
		ck_assert_int_eq(begin_past_retries(keeper, &epoch, "b"), STORE_OK);
		expect(worker, write_one(worker, &epoch, "b"), STORE_OK, "server back, nothing lost");
		expect(keeper, store_progress(keeper, GROUP, &epoch, NULL, 0, &lsn), STORE_OK, "progress");
		ck_assert_uint_gt(lsn, 0);

		restore(&own, &t, long_wal);
		expect(worker, begin_past_retries(worker, &epoch, "b"), STORE_HISTORY, "restored");
		ck_assert_msg(strstr(store_error(worker), long_wal ? "acknowledged is missing" : "WAL position") !=
				      NULL,
			      "%s", store_error(worker));
		drawn = assign_past_retries(keeper, &because);
		ck_assert(because && !history_epoch_equal(&drawn, &epoch));
		epoch = drawn;
		expect(worker, write_one(worker, &epoch, "b"), STORE_OK, "b again");
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
START_TEST(test_store__a_copy_restored_twice_draws_twice)
{
	struct private_postgres own;
	ck_assert(private_postgres_start(&own));
	struct ledger_stage t;
	ledger_stage_open(&t, own.dsn, "delivery");
	struct store *worker = store_new(&t.settings, 0), *keeper = store_new(&t.settings, 1);
	struct history_epoch first, second;
	const char *because = NULL;
	uint64_t lsn = 0;
	expect(worker, write_one(worker, &t.epoch, "a"), STORE_OK, "a");
	private_postgres_crash(&own);
	copy_folder(&own, "data", "copy");
	ck_assert(private_postgres_launch(&own));
	expect(worker, begin_past_retries(worker, &t.epoch, "b"), STORE_OK, "server back");
	expect(worker, write_one(worker, &t.epoch, "b"), STORE_OK, "b is settled and marked");

	restore(&own, &t, true);
	expect(worker, begin_past_retries(worker, &t.epoch, "b"), STORE_HISTORY, "restored");
	first = assign_past_retries(keeper, &because);
	ck_assert(because && !history_epoch_equal(&first, &t.epoch));
	expect(worker, write_one(worker, &first, "b"), STORE_OK, "b again");
	expect(keeper, store_progress(keeper, GROUP, &first, NULL, 0, &lsn), STORE_OK, "progress");

	restore(&own, &t, true);
	expect(worker, begin_past_retries(worker, &first, "b"), STORE_HISTORY, "restored again");
	second = assign_past_retries(keeper, &because);
	ck_assert_int_eq(order_count(&t), 1);
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
START_TEST(test_store__a_position_read_before_a_siblings_is_no_loss)
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
	struct rules *rules = NULL;
	const char *because = NULL;
	uint64_t lsn;
	if (_i > 0)
		expect(s, store_check_history(s, &t.epoch), STORE_OK, "connect");
	postgres_proxy_arm(&proxy, rows[_i].text, rows[_i].act, sibling_connects, &b);
	enum store_result r = STORE_OK;
	if (_i == 0)
		r = store_load_rules(s, &rules);
	else if (_i == 1)
		r = store_progress(s, GROUP, &t.epoch, NULL, 0, &lsn);
	else if (_i == 2)
		r = store_check_history(s, &t.epoch);
	else
		assign_one(s, &because);
	ck_assert_int_eq(postgres_proxy_fired(&proxy), 1);
	expect(b.store, b.result, STORE_OK, "sibling");
	expect(s, r, STORE_OK, rows[_i].what);
	ck_assert_msg(!because, "%s: %s", rows[_i].what, because);
	rules_unref(rules);
	store_free(s);
	store_free(b.store);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
}
END_TEST

/*
 *   1. COMMIT is sent, the connection breaks, the backend is still at work (a lock, a slow disk)
 *   2. the worker connects anew and begins: its last batch is not there yet
 *   3. the backend commits
 *   4. the worker begins again: one batch more than acknowledged, and that one is its own
 */
START_TEST(test_store__a_commit_that_comes_late_is_no_loss)
{
	struct ledger_stage t;
	struct postgres_proxy proxy;
	ledger_stage_open(&t, server.dsn, "late");
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	t.settings.dsn = proxy.dsn;
	struct store *s = store_new(&t.settings, 0);
	struct order o;
	expect(s, write_one(s, &t.epoch, "a"), STORE_OK, "a");
	stage_run(&t, "BEGIN");
	stage_run(&t, "LOCK TABLE witnesses IN SHARE MODE");
	expect(s, begin_one(s, &t.epoch, &o, "b"), STORE_OK, "b");
	postgres_proxy_arm(&proxy, "write_witness", PROXY_CUT_AFTER, NULL, NULL);
	expect(s, commit_one(s, &o, STATUS_CREATED), STORE_RETRY, "cut");
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	expect(s, begin_one(s, &t.epoch, &o, "b"), STORE_OK, "not there yet");
	ck_assert(!o.exists);
	store_rollback(s);
	stage_run(&t, "COMMIT");
	stage_await(&t, "SELECT count(*) FROM orders", 2);
	expect(s, begin_one(s, &t.epoch, &o, "b"), STORE_OK, "there now");
	ck_assert(o.exists);
	expect(s, commit_one(s, &o, STATUS_CONFIRMED), STORE_OK, "and on");
	ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 3);
	store_free(s);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
}
END_TEST

/* And one that is overtaken by the next batch of its own store never happens. */
START_TEST(test_store__a_commit_that_comes_too_late_is_refused)
{
	struct ledger_stage t;
	struct postgres_proxy proxy;
	ledger_stage_open(&t, server.dsn, "too late");
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	t.settings.dsn = proxy.dsn;
	struct store *s = store_new(&t.settings, 0);
	struct order o;
	expect(s, write_one(s, &t.epoch, "a"), STORE_OK, "a");
	stage_run(&t, "BEGIN");
	stage_run(&t,
		  "INSERT INTO orders SELECT 'b', 1, 0, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL,"
		  " NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, now()");
	expect(s, begin_one(s, &t.epoch, &o, "b"), STORE_OK, "b");
	postgres_proxy_arm(&proxy, "write_witness", PROXY_CUT_AFTER, NULL, NULL);
	expect(s, commit_one(s, &o, STATUS_CREATED), STORE_RETRY, "cut");
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	expect(s, write_one(s, &t.epoch, "c"), STORE_OK, "c overtakes");
	stage_run(&t, "ROLLBACK");
	stage_await(&t,
		    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'delivery-worker'"
		    " AND datname = current_database() AND query LIKE '%expect_rows%'"
		    " AND state LIKE 'active' AND pid <> pg_backend_pid()",
		    0);
	expect(s, write_one(s, &t.epoch, "d"), STORE_OK, "d");
	stage_check(&t, "SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM orders", "a c d");
	ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 3);
	store_free(s);
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

START_TEST(test_store__assign_starts_by_the_start_rule)
{
	static const struct offset_range accepted = {10, 20}, other = {10, 21};
	static const struct {
		const char *what;
		struct start_facts facts; /* but for progress */
		int64_t progress;         /* -1: no row */
		const struct offset_range *accepted;
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
		{"above the log", {.committed = -1, .log_end = 99}, 100, NULL, -1, false},
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
						 .mark = {.lsn = UINT64_MAX},
						 .accepted = rows[i].accepted};
		char sql[160];
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
	expect(s, store_assign(s, GROUP, a, COUNT, &epoch, &because), STORE_OK, "assign");
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
		ck_assert_msg(stage_number(&t, sql) == rows[i].start, "%s: the row", rows[i].what);
	}
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM progress WHERE next_offset = 1 AND claim = 5"),
			 2 * COUNT);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store__marks_prove_loss_within_their_epoch)
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
		expect(s, store_assign(s, GROUP, a, 2, &epoch, &because), STORE_OK, rows[i].what);
		ck_assert_msg((because != NULL) == (rows[i].because != NULL), "%s: %s", rows[i].what, because);
		ck_assert_msg(!because || strstr(because, rows[i].because), "%s: %s", rows[i].what, because);
		ck_assert_msg(history_epoch_equal(&epoch, &t.epoch) == !because, "%s", rows[i].what);
		struct history_epoch stored = stage_epoch(&t);
		ck_assert(history_epoch_equal(&epoch, &stored));
		int64_t start = rows[i].marked && rows[i].committed > 30 ? 30 : rows[i].committed;
		ck_assert_int_eq(a[1].verdict.start, start);
		ck_assert_int_eq(progress_of(&t, 1), start);
		/* The mark is still there, the epoch is another: no second draw. */
		if (because) {
			expect(s, store_assign(s, GROUP, a, 2, &epoch, &because), STORE_OK, rows[i].what);
			ck_assert_msg(!because && history_epoch_equal(&epoch, &stored), "%s: %s", rows[i].what,
				      because);
		}
		store_free(s);
		ledger_stage_close(&t);
	}
}
END_TEST

START_TEST(test_store__progress_is_the_last_claims)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "claims");
	struct store *first = store_new(&t.settings, 0), *second = store_new(&t.settings, 1);
	struct store_assignment a[] = {assignment(0, -1, false), assignment(1, -1, false)};
	struct store_assignment b[] = {assignment(1, -1, false)};
	struct history_epoch epoch;
	const char *because;
	uint64_t lsn = 0, later = 0;
	expect(first, store_assign(first, GROUP, a, 2, &epoch, &because), STORE_OK, "first");
	struct store_progress mine[] = {
		{.topic = "delivery-events", .partition = 0, .claim = a[0].claim, .position = 10},
		{.topic = "delivery-events", .partition = 1, .claim = a[1].claim, .position = 11}};
	expect(first, store_progress(first, GROUP, &epoch, mine, 2, &lsn), STORE_OK, "progress");
	ck_assert(mine[0].kept && mine[1].kept);
	ck_assert(progress_of(&t, 0) == 10 && progress_of(&t, 1) == 11);
	ck_assert_uint_gt(lsn, 0);

	expect(second, store_assign(second, GROUP, b, 1, &epoch, &because), STORE_OK, "second");
	ck_assert_int_eq(b[0].facts.progress, 11);
	mine[0].position = 20;
	mine[1].position = 21;
	expect(first, store_progress(first, GROUP, &epoch, mine, 2, &later), STORE_OK, "late");
	ck_assert(mine[0].kept && !mine[1].kept);
	ck_assert_uint_ge(later, lsn);
	ck_assert(progress_of(&t, 0) == 20 && progress_of(&t, 1) == 11);
	struct store_progress theirs = {
		.topic = "delivery-events", .partition = 1, .claim = b[0].claim, .position = 31};
	expect(second, store_progress(second, GROUP, &epoch, &theirs, 1, &later), STORE_OK, "theirs");
	ck_assert(theirs.kept && progress_of(&t, 1) == 31);

	/* Right claim, wrong group: nothing. Old epoch: nothing, and the whole write with it. */
	theirs.position = 32;
	expect(second, store_progress(second, "other", &epoch, &theirs, 1, &later), STORE_OK, "other group");
	ck_assert(!theirs.kept && progress_of(&t, 1) == 31);
	stage_run(&t, "UPDATE history SET epoch = gen_random_uuid()");
	expect(second, store_progress(second, GROUP, &epoch, &theirs, 1, &later), STORE_HISTORY, "old epoch");
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
	w->result = store_progress(w->store, GROUP, &w->epoch, &w->entry, 1, &lsn);
	return NULL;
}

/* The numbered race of store_progress.c: a position settled in one history is never recorded in the next. */
START_TEST(test_store__progress_waits_for_a_draw_and_sees_it)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "draw race");
	struct store *s = store_new(&t.settings, 0);
	struct store_assignment a = assignment(0, -1, false);
	struct waiting_progress w = {.store = s};
	const char *because;
	expect(s, store_assign(s, GROUP, &a, 1, &w.epoch, &because), STORE_OK, "assign");
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

START_TEST(test_store__keepers_calls_survive_a_lost_backend)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "keeper lost");
	struct store *s = store_new(&t.settings, 0);
	const char *because;
	struct history_epoch epoch = assign_one(s, &because);
	struct store_assignment a = assignment(0, -1, false);
	uint64_t lsn;
	for (int call = 0; call < 5; call++) {
		struct rules *rules = NULL;
		uint8_t key[16];
		bool changed;
		enum store_result r[2];
		expect(s, store_check_history(s, &epoch), STORE_OK, "connect");
		stage_terminate(&t, pg_backend(s->pg));
		for (int i = 0; i < 2; i++) {
			rules = NULL;
			r[i] = call == 0   ? store_assign(s, GROUP, &a, 1, &epoch, &because)
			       : call == 1 ? store_progress(s, GROUP, &epoch, NULL, 0, &lsn)
			       : call == 2 ? store_load_rules(s, &rules)
			       : call == 3 ? store_digest_key(s, key)
					   : store_wait_rules(s, 0, &changed);
			rules_unref(rules);
		}
		ck_assert_msg(r[0] == STORE_RETRY && r[1] == STORE_OK, "call %d: %d, %d", call, r[0], r[1]);
	}
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* ---- rules and key ---- */

static void apply_rules(struct ledger_stage *t, const char *text)
{
	char error[256] = "";
	struct rules *file = rules_parse_file(slice_of(text), error, sizeof(error));
	ck_assert_msg(file, "%s", error);
	struct rule_change rules[4], partners[4];
	int64_t revision;
	ck_assert_int_eq(rules_store_apply(t->pg, file, rules, partners, &revision), PG_OK);
	rules_unref(file);
}

START_TEST(test_store__rules_are_loaded_when_word_of_them_comes)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "rules");
	struct store *s = store_new(&t.settings, 0);
	struct rules *rules = NULL;
	bool changed = false;
	expect(s, store_load_rules(s, &rules), STORE_OK, "none");
	ck_assert(rules_revision(rules) == 0 && rules_count(rules) == 0);
	rules_unref(rules);

	/* Whatever was said before it listened counts as said. */
	expect(s, store_wait_rules(s, 0, &changed), STORE_OK, "listen");
	ck_assert(changed);
	expect(s, store_wait_rules(s, 10, &changed), STORE_OK, "silence");
	ck_assert(!changed);
	apply_rules(&t,
		    "{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 100}]}");
	expect(s, store_wait_rules(s, STAGE_LIMIT_MS, &changed), STORE_OK, "word");
	ck_assert(changed);
	expect(s, store_load_rules(s, &rules), STORE_OK, "one");
	ck_assert(rules_revision(rules) == 1 && rules_count(rules) == 1);
	rules_unref(rules);
	expect(s, store_wait_rules(s, 0, &changed), STORE_OK, "silence again");
	ck_assert(!changed);

	/* A connection that was lost may have lost word, too. */
	stage_terminate(&t, pg_backend(s->pg));
	expect(s, store_wait_rules(s, 10, &changed), STORE_RETRY, "lost");
	expect(s, store_wait_rules(s, 10, &changed), STORE_OK, "listen again");
	ck_assert(changed);
	apply_rules(&t, "{\"rules\": [{\"id\": \"base\", \"kind\": \"per_order\", \"points\": 2}]}");
	expect(s, store_wait_rules(s, STAGE_LIMIT_MS, &changed), STORE_OK, "word again");
	ck_assert(changed);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store__digest_key_is_the_databases)
{
	struct ledger_stage t, u;
	ledger_stage_open(&t, server.dsn, "key 1");
	ledger_stage_open(&u, server.dsn, "key 2");
	struct store *s = store_new(&t.settings, 0), *again = store_new(&t.settings, 1),
		     *other = store_new(&u.settings, 0);
	uint8_t keys[3][16];
	expect(s, store_digest_key(s, keys[0]), STORE_OK, "key");
	expect(again, store_digest_key(again, keys[1]), STORE_OK, "key");
	expect(other, store_digest_key(other, keys[2]), STORE_OK, "key");
	ck_assert_mem_eq(keys[0], keys[1], 16);
	ck_assert_mem_ne(keys[0], keys[2], 16);
	store_free(s);
	store_free(again);
	store_free(other);
	ledger_stage_close(&t);
	ledger_stage_close(&u);
}
END_TEST

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!private_postgres_start(&server)) {
		private_postgres_stop(&server);
		return 1;
	}
	Suite *suite = suite_create("store");
	TCase *c = tcase_create("store");
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_store__a_row_comes_back_as_it_was_written);
	tcase_add_test(c, test_store__an_order_changed_since_it_was_read_is_stale);
	tcase_add_test(c, test_store__locked_rows_do_not_get_stale);
	tcase_add_test(c, test_store__a_lost_backend_is_a_retry);
	tcase_add_test(c, test_store__what_an_operator_must_mend_is_unusable);
	tcase_add_test(c, test_store__a_history_without_its_row_is_unusable);
	tcase_add_test(c, test_store__schema_is_told_fit_from_unfit);
	tcase_add_loop_test(c, test_store__damage_is_found_and_draws_one_epoch, 0,
			    sizeof(damages) / sizeof(damages[0]));
	tcase_add_test(c, test_store__a_proof_is_remembered_until_an_epoch_is_drawn);
	tcase_add_test(c, test_store__an_older_copy_of_the_data_is_found);
	tcase_add_test(c, test_store__a_copy_restored_twice_draws_twice);
	tcase_add_loop_test(c, test_store__a_position_read_before_a_siblings_is_no_loss, 0, 4);
	tcase_add_test(c, test_store__a_commit_that_comes_late_is_no_loss);
	tcase_add_test(c, test_store__a_commit_that_comes_too_late_is_refused);
	tcase_add_test(c, test_store__assign_starts_by_the_start_rule);
	tcase_add_test(c, test_store__marks_prove_loss_within_their_epoch);
	tcase_add_test(c, test_store__progress_is_the_last_claims);
	tcase_add_test(c, test_store__progress_waits_for_a_draw_and_sees_it);
	tcase_add_test(c, test_store__keepers_calls_survive_a_lost_backend);
	tcase_add_test(c, test_store__rules_are_loaded_when_word_of_them_comes);
	tcase_add_test(c, test_store__digest_key_is_the_databases);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
