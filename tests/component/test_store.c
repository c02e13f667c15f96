/* worker/ledger/store*.c against a real server. What a batch means is test_ledger's. */
#include "worker/ledger/store.h"

#include "common/thread.h"
#include "tests/lib/facts_equal.h"
#include "tests/lib/ledger_stage.c"
#include "tests/lib/postgres_proxy.c"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/order_columns.h"
#include "worker/ledger/store_internal.h"

#include <check.h>

static struct private_postgres server;

static void expect(const struct store *s, enum store_result got, enum store_result wanted, const char *what)
{
	ck_assert_msg(got == wanted, "%s: got %d, wanted %d (%s)", what, got, wanted, store_error(s));
}

/* Every column of the table in order_columns.h and in the database, and no other but those that are written once. */
START_TEST(test_store__columns_are_those_of_the_table)
{
#define SQL_NAME_TEXT "text"
#define SQL_NAME_INT2 "int2"
#define SQL_NAME_INT4 "int4"
#define SQL_NAME_INT8 "int8"
#define SQL_NAME_TIMESTAMPTZ "timestamptz"
#define COLUMN_LINE(symbol, column, type, kind, field) #column " " SQL_NAME_##type "\n"
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "columns");
	stage_check(&t,
		    "SELECT coalesce(string_agg(coalesce(a, 'no ' || b), ', '), 'the same') FROM"
		    " (SELECT column_name || ' ' || udt_name FROM information_schema.columns WHERE table_schema = 'columns'"
		    "  AND table_name = 'orders' AND column_name NOT IN"
		    "  ('first_topic', 'first_partition', 'first_offset', 'updated_at')) x (a) FULL JOIN"
		    " (SELECT unnest(string_to_array(rtrim('" ORDER_COLUMNS(COLUMN_LINE) "', E'\n'), E'\n'))) y (b) ON a = b"
		    " WHERE a IS NULL OR b IS NULL",
		    "the same");
	ledger_stage_close(&t);
}
END_TEST

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
	const struct store_write w = {.order = o, .first_source = &stage_source};
	expect(s, store_commit(s, &w, 1), STORE_OK, "commit");
	/* Whatever column the table may get. */
	stage_check(&t, "SELECT coalesce(string_agg(key, ','), 'none is NULL') FROM orders, jsonb_each(to_jsonb(orders))"
			" WHERE value = 'null'", "none is NULL");

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
	expect(s, stage_write(s, &t.epoch, "a"), STORE_OK, "bare");
	struct order bare;
	expect(s, stage_begin(s, &t.epoch, &bare, "a"), STORE_OK, "bare again");
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

START_TEST(test_store__a_schema_for_newer_workers_stops_each_batch)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "newer only");
	struct store *s = store_new(&t.settings, 0);
	expect(s, stage_write(s, &t.epoch, "a"), STORE_OK, "before");
	stage_run(&t, "INSERT INTO schema_version (version, name, min_worker) SELECT max(version) + 1, 'x', max(version) + 1"
		      " FROM schema_version");
	expect(s, stage_write(s, &t.epoch, "b"), STORE_UNUSABLE, "behind a migration for others");
	ck_assert_ptr_nonnull(strstr(store_error(s), "run a newer delivery-worker"));
	ck_assert_int_eq(stage_orders(&t), 1);
	/* One that old workers survive stops none. */
	stage_run(&t, "UPDATE schema_version SET min_worker = version - 1 WHERE name = 'x'");
	expect(s, stage_write(s, &t.epoch, "b"), STORE_OK, "behind a step that is for it, too");
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
		expect(s, stage_write(s, &t.epoch, "old"), STORE_OK, "old");
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
							 .first_source = &stage_source,
							 .postings = &posting,
							 .posting_sources = {&stage_source},
							 .posting_count = 1};
		}
		expect(s, store_commit(s, writes, 2), STORE_STALE, changes[i]);
		ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM posted"), 0);
		ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM balances"), 0);
		ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM orders WHERE progress = 80"), 0);
		ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 1);
		/* The connection and the witness are as good as before. */
		int backend = pg_backend(s->pg);
		expect(s, stage_write(s, &t.epoch, "next"), STORE_OK, "next");
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
	expect(first, stage_write(first, &t.epoch, "o"), STORE_OK, "o");
	struct order a, b;
	int64_t revision;
	order_init(&a, SLICE_LITERAL("o"));
	expect(first, store_begin(first, &t.epoch, true, &a, 1, &revision), STORE_OK, "locked");
	/* The other can read, but neither lock nor write: it waits up to lock_timeout, which is for the caller to
	 * retry. */
	expect(second, stage_begin(second, &t.epoch, &b, "o"), STORE_OK, "read");
	expect(second, stage_commit(second, &b, STATUS_ASSIGNED), STORE_RETRY, "write");
	order_init(&b, SLICE_LITERAL("o"));
	expect(second, store_begin(second, &t.epoch, true, &b, 1, &revision), STORE_RETRY, "lock");
	expect(first, stage_commit(first, &a, STATUS_CONFIRMED), STORE_OK, "commit");
	expect(second, stage_begin(second, &t.epoch, &b, "o"), STORE_OK, "after it");
	ck_assert_int_eq(b.facts.progress, STATUS_CONFIRMED);
	ck_assert_int_eq(b.rev, 2);
	expect(second, stage_commit(second, &b, STATUS_ASSIGNED), STORE_OK, "then it");
	ck_assert_int_eq(stage_number(&t, "SELECT progress::int8 FROM orders"), STATUS_ASSIGNED);
	store_free(first);
	store_free(second);
	ledger_stage_close(&t);
}
END_TEST

struct blocked_commit {
	struct store *store;
	struct order *orders;
	enum store_result result;
};

static enum store_result commit_two(struct store *s, struct order orders[2])
{
	struct store_write writes[2];
	for (int i = 0; i < 2; i++) {
		orders[i].facts.progress = STATUS_ASSIGNED;
		writes[i] = (struct store_write){.order = &orders[i], .first_source = &stage_source};
	}
	return store_commit(s, writes, 2);
}

static void *commit_blocked(void *argument)
{
	struct blocked_commit *b = argument;
	b->result = commit_two(b->store, b->orders);
	return NULL;
}

/*
 *   1. A reads: `new` has no row yet, `old` has one
 *   2. somebody inserts `new`, and begins to write it anew
 *   3. A writes: it holds `old`, and waits for what becomes of `new`
 *   4. the other one wants `old`
 * Locks in key order do not rule that out, since what has a row is written first; it must cost A a retry and no more.
 */
START_TEST(test_store__a_deadlock_is_a_retry)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "deadlock");
	struct store *a = store_new(&t.settings, 0), *b = store_new(&t.settings, 1);
	expect(a, stage_write(a, &t.epoch, "old"), STORE_OK, "old");
	struct order ours[2];
	int64_t revision;
	order_init(&ours[0], SLICE_LITERAL("new"));
	order_init(&ours[1], SLICE_LITERAL("old"));
	expect(a, store_begin(a, &t.epoch, false, ours, 2, &revision), STORE_OK, "a");
	expect(b, stage_write(b, &t.epoch, "new"), STORE_OK, "b");
	stage_run(&t, "SET deadlock_timeout = '1h'"); /* who looks for deadlocks is A */
	stage_run(&t, "BEGIN");
	stage_run(&t, "UPDATE orders SET updated_at = now() WHERE order_id = 'new'");
	struct blocked_commit blocked = {.store = a, .orders = ours};
	pthread_t thread = thread_start("a", commit_blocked, &blocked);
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	stage_run(&t, "UPDATE orders SET updated_at = now() WHERE order_id = 'old'");
	thread_join(thread);
	expect(a, blocked.result, STORE_RETRY, "a writes");
	ck_assert_msg(strncmp(store_error(a), "40P01", 5) == 0, "%s", store_error(a));
	stage_run(&t, "COMMIT");
	ck_assert_int_eq(stage_number(&t, "SELECT sum(batches)::int8 FROM witnesses"), 2);
	expect(a, stage_write(a, &t.epoch, "new"), STORE_OK, "a again");
	expect(b, stage_write(b, &t.epoch, "old"), STORE_OK, "b again");
	store_free(a);
	store_free(b);
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
	expect(s, stage_write(s, &t.epoch, "o1"), STORE_OK, "o1");

	stage_terminate(&t, pg_backend(s->pg));
	expect(s, stage_begin(s, &t.epoch, &o, "o2"), STORE_RETRY, "before begin");
	ck_assert(strlen(store_error(s)) > 0);
	expect(s, stage_begin(s, &t.epoch, &o, "o2"), STORE_OK, "again");

	stage_terminate(&t, pg_backend(s->pg));
	expect(s, stage_commit(s, &o, STATUS_CREATED), STORE_RETRY, "between begin and commit");
	ck_assert_int_eq(stage_orders(&t), 1);
	expect(s, stage_begin(s, &t.epoch, &o, "o2"), STORE_OK, "again");

	stage_terminate(&t, pg_backend(s->pg));
	store_rollback(s);
	expect(s, stage_begin(s, &t.epoch, &o, "o2"), STORE_OK, "after a rollback that failed");
	expect(s, stage_commit(s, &o, STATUS_CREATED), STORE_OK, "commit");
	ck_assert_int_eq(stage_orders(&t), 2);
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
	expect(s, stage_write(s, &t.epoch, "o"), STORE_OK, "o");
	stage_run(&t, "ALTER TABLE orders RENAME TO elsewhere");
	expect(s, stage_write(s, &t.epoch, "o"), STORE_UNUSABLE, "no table");
	stage_run(&t, "ALTER TABLE elsewhere RENAME TO orders");
	expect(s, stage_write(s, &t.epoch, "o"), STORE_OK, "mended");

	struct store_settings settings = t.settings;
	settings.schema = "nowhere";
	struct store *lost = store_new(&settings, 1);
	expect(lost, stage_write(lost, &t.epoch, "o"), STORE_UNUSABLE, "no schema");
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
	expect(s, stage_write(s, &t.epoch, "o"), STORE_OK, "o");
	stage_run(&t, "ALTER TABLE history RENAME TO kept; CREATE TABLE history (LIKE kept)");
	struct store *fresh = store_new(&t.settings, 2);
	expect(fresh, stage_begin(fresh, &t.epoch, &o, "o"), STORE_UNUSABLE, "new session");
	store_free(fresh);
	expect(s, stage_begin(s, &t.epoch, &o, "o"), STORE_UNUSABLE, "old session");
	expect(s, store_check_history(s, &t.epoch), STORE_UNUSABLE, "check");
	stage_run(&t, "DROP TABLE history; ALTER TABLE kept RENAME TO history");
	expect(s, stage_write(s, &t.epoch, "o"), STORE_OK, "mended");
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
	expect(s, stage_write(s, &t.epoch, "o"), STORE_RETRY, "server away");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* ---- a COMMIT without an answer ---- */

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
	expect(s, stage_write(s, &t.epoch, "a"), STORE_OK, "a");
	stage_run(&t, "BEGIN");
	stage_run(&t, "LOCK TABLE witnesses IN SHARE MODE");
	expect(s, stage_begin(s, &t.epoch, &o, "b"), STORE_OK, "b");
	postgres_proxy_arm(&proxy, "write_witness", PROXY_CUT_AFTER, NULL, NULL);
	expect(s, stage_commit(s, &o, STATUS_CREATED), STORE_RETRY, "cut");
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	expect(s, stage_begin(s, &t.epoch, &o, "b"), STORE_OK, "not there yet");
	ck_assert(!o.exists);
	store_rollback(s);
	stage_run(&t, "COMMIT");
	stage_await(&t, "SELECT count(*) FROM orders", 2);
	expect(s, stage_begin(s, &t.epoch, &o, "b"), STORE_OK, "there now");
	ck_assert(o.exists);
	expect(s, stage_commit(s, &o, STATUS_CONFIRMED), STORE_OK, "and on");
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
	expect(s, stage_write(s, &t.epoch, "a"), STORE_OK, "a");
	stage_run(&t, "BEGIN");
	stage_run(&t,
		  "INSERT INTO orders SELECT 'b', 1, 0, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL,"
		  " NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, now()");
	expect(s, stage_begin(s, &t.epoch, &o, "b"), STORE_OK, "b");
	postgres_proxy_arm(&proxy, "write_witness", PROXY_CUT_AFTER, NULL, NULL);
	expect(s, stage_commit(s, &o, STATUS_CREATED), STORE_RETRY, "cut");
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	expect(s, stage_write(s, &t.epoch, "c"), STORE_OK, "c overtakes");
	stage_run(&t, "ROLLBACK");
	stage_await(&t,
		    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'delivery-worker'"
		    " AND datname = current_database() AND query LIKE '%expect_rows%'"
		    " AND state LIKE 'active' AND pid <> pg_backend_pid()",
		    0);
	expect(s, stage_write(s, &t.epoch, "d"), STORE_OK, "d");
	stage_check(&t, "SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM orders", "a c d");
	ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 3);
	store_free(s);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
}
END_TEST

/* ---- rules and key ---- */

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
	stage_apply_rules(
		&t, "{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 100}]}");
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
	stage_apply_rules(&t, "{\"rules\": [{\"id\": \"base\", \"kind\": \"per_order\", \"points\": 2}]}");
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
	tcase_add_test(c, test_store__a_schema_for_newer_workers_stops_each_batch);
	tcase_add_test(c, test_store__columns_are_those_of_the_table);
	tcase_add_test(c, test_store__a_row_comes_back_as_it_was_written);
	tcase_add_test(c, test_store__an_order_changed_since_it_was_read_is_stale);
	tcase_add_test(c, test_store__locked_rows_do_not_get_stale);
	tcase_add_test(c, test_store__a_deadlock_is_a_retry);
	tcase_add_test(c, test_store__a_lost_backend_is_a_retry);
	tcase_add_test(c, test_store__what_an_operator_must_mend_is_unusable);
	tcase_add_test(c, test_store__a_history_without_its_row_is_unusable);
	tcase_add_test(c, test_store__schema_is_told_fit_from_unfit);
	tcase_add_test(c, test_store__a_commit_that_comes_late_is_no_loss);
	tcase_add_test(c, test_store__a_commit_that_comes_too_late_is_refused);
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
