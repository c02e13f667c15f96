/* worker/ledger/migrate.c against a real server. */
#include "worker/ledger/migrate.h"

#include "schemas/migrations.h"
#include "tests/lib/private_postgres.c"

#include <check.h>

static struct private_postgres server;

static struct pg *open_session(const char *schema)
{
	const struct pg_settings settings = {.dsn = server.dsn, .schema = schema, .connect_timeout_ms = 5000,
	                                     .statement_timeout_ms = 20000, .idle_timeout_ms = 10000, .for_queries = true};
	struct pg *pg = NULL;
	char error[256] = "";
	ck_assert_msg(pg_connect(&settings, &pg, error, sizeof(error)) == PG_OK, "%s", error);
	return pg;
}

static void run(struct pg *pg, const char *sql)
{
	ck_assert_msg(pg_script(pg, sql) == PG_OK, "%s: %s", sql, pg_error(pg));
}

static void check_text(struct pg *pg, const char *sql, const char *wanted)
{
	struct pg_rows *rows = NULL;
	ck_assert_msg(pg_query_text(pg, sql, NULL, &rows) == PG_OK, "%s: %s", sql, pg_error(pg));
	ck_assert_uint_eq(pg_rows_count(rows), 1);
	struct slice got = pg_text(rows, 0, 0);
	ck_assert_msg(slice_equal(got, slice_of(wanted)), "%s: got '%.*s', wanted '%s'", sql, (int)got.len,
	              got.data ? got.data : "", wanted);
	pg_rows_free(rows);
}

/* What a run reported, and a session that holds the lock until the run says that it waits. */
struct seen {
	int waits, created, applied, last_version;
	struct pg *holder;
};

static void note(void *owner, enum migrate_step step, int version, const char *name)
{
	struct seen *seen = owner;
	seen->waits += step == MIGRATE_WAITS;
	seen->created += step == MIGRATE_CREATED;
	seen->applied += step == MIGRATE_APPLIED;
	if (step == MIGRATE_APPLIED) {
		ck_assert_int_eq(version, seen->last_version + 1);
		ck_assert(name && name[0]);
		seen->last_version = version;
	}
	/* Without one it waits for a session of the test before, whose end the server has not seen to yet. */
	if (step == MIGRATE_WAITS && seen->holder)
		run(seen->holder, "SELECT pg_advisory_unlock_all()");
}

static void migrate(struct pg *pg, const char *schema, struct seen *seen, int before, int after)
{
	int got_before = -1, got_after = -1;
	enum pg_result result = ledger_migrate(pg, schema, 5000, note, seen, &got_before, &got_after);
	ck_assert_msg(result == PG_OK, "%s", pg_error(pg));
	ck_assert_int_eq(got_before, before);
	ck_assert_int_eq(got_after, after);
}

static enum schema_fit fit_of(struct pg *pg, int *found)
{
	enum schema_fit fit = SCHEMA_MISSING;
	ck_assert_msg(ledger_schema_fit(pg, &fit, found) == PG_OK, "%s", pg_error(pg));
	return fit;
}

START_TEST(test_migrate__from_nothing_and_again)
{
	int newest = ledger_schema_newest();
	/* Names that must be quoted, and one that could be taken for more than a name. */
	static const char *const schemas[] = {"delivery", "Ünïcode Schema", "x\"; DROP SCHEMA public; --"};
	for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
		struct pg *pg = open_session(schemas[i]);
		struct seen first = {0}, second = {0};
		int found = -1;
		ck_assert_int_eq(fit_of(pg, &found), SCHEMA_MISSING);
		migrate(pg, schemas[i], &first, 0, newest);
		ck_assert_int_eq(first.created, 1);
		ck_assert_int_eq(first.applied, newest);
		ck_assert_int_eq(fit_of(pg, &found), SCHEMA_FITS);
		ck_assert_int_eq(found, newest);
		check_text(pg, "SELECT count(*) || drawn_because FROM history GROUP BY drawn_because", "1schema created");

		migrate(pg, schemas[i], &second, newest, newest);
		ck_assert_int_eq(second.created + second.applied + second.waits, 0);
		pg_close(pg);
	}
}
END_TEST

START_TEST(test_migrate__runs_queue)
{
	struct pg *pg = open_session("queue");
	struct seen seen = {.holder = open_session("queue")};
	/* Whoever else migrates holds the lock of the same key. */
	run(seen.holder, "SELECT pg_advisory_lock(7234307576654295673)");
	migrate(pg, "queue", &seen, 0, ledger_schema_newest());
	ck_assert_int_eq(seen.waits, 1);
	check_text(pg, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0");
	pg_close(seen.holder);
	pg_close(pg);
}
END_TEST

START_TEST(test_migrate__a_failed_migration_leaves_nothing)
{
	struct pg *pg = open_session("fails");
	struct seen seen = {0};
	int before, after;
	run(pg, "CREATE SCHEMA fails; CREATE TABLE posted (in_the_way int)");
	ck_assert_int_eq(ledger_migrate(pg, "fails", 5000, note, &seen, &before, &after), PG_UNUSABLE);
	ck_assert_str_eq(pg_sqlstate(pg), "42P07");
	ck_assert_int_eq(seen.applied, 0);
	check_text(pg, "SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = 'fails'::regnamespace", "posted");
	run(pg, "DROP TABLE posted");
	migrate(pg, "fails", &seen, 0, ledger_schema_newest());
	pg_close(pg);
}
END_TEST

START_TEST(test_migrate__fit_of_other_versions)
{
	int newest = ledger_schema_newest();
	struct pg *pg = open_session("fit");
	struct seen seen = {0};
	migrate(pg, "fit", &seen, 0, newest);
	static const struct {
		int version_over, min_worker_over;
		enum schema_fit fit;
		const char *text;
	} rows[] = {
		{0, -1, SCHEMA_FITS, "fits"},
		{1, 0, SCHEMA_FITS, "fits"}, /* old workers run on one step more */
		{2, 1, SCHEMA_NEWER, "too new for this binary"},
		{3, 0, SCHEMA_FITS, "fits"}, /* if it says so */
		{-1, -2, SCHEMA_OLDER, "run delivery-worker migrate"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char sql[256], text[256];
		int found = 0, version = newest + rows[i].version_over;
		snprintf(sql, sizeof(sql), "DELETE FROM schema_version; INSERT INTO schema_version VALUES (%d, 'x', now(), %d)",
		         version, newest + rows[i].min_worker_over);
		run(pg, sql);
		if (version == 0)
			continue; /* of the very first version none is older */
		ck_assert_int_eq(fit_of(pg, &found), rows[i].fit);
		ck_assert_int_eq(found, version);
		ledger_schema_explain(rows[i].fit, found, "fit", text, sizeof(text));
		ck_assert_msg(strstr(text, rows[i].text) != NULL, "%s", text);
		if (version > newest) {
			struct seen again = {0};
			migrate(pg, "fit", &again, version, version);
			ck_assert_int_eq(again.applied, 0);
		}
	}
	pg_close(pg);
}
END_TEST

START_TEST(test_migrate__new_epoch)
{
	struct pg *pg = open_session("epoch");
	struct seen seen = {0};
	char first[37], second[37];
	migrate(pg, "epoch", &seen, 0, ledger_schema_newest());
	run(pg, "UPDATE history SET system_identifier = 'other', timeline = 'other', database_oid = 1");
	ck_assert_int_eq(ledger_draw_epoch(pg, "test", first), PG_OK);
	check_text(pg, "SELECT epoch FROM history", first);
	check_text(pg, "SELECT drawn_because FROM history", "test");
	check_text(pg, "SELECT count(*) FROM history, pg_control_system() c WHERE history.system_identifier ="
	               " c.system_identifier::text AND length(timeline) = 8 AND database_oid > 1",
	           "1");
	ck_assert_int_eq(ledger_draw_epoch(pg, "test", second), PG_OK);
	ck_assert_str_ne(first, second);
	run(pg, "DELETE FROM history");
	ck_assert_int_eq(ledger_draw_epoch(pg, "test", second), PG_UNUSABLE);
	pg_close(pg);
}
END_TEST

/* Section 4 of the contract, word by word. */
START_TEST(test_migrate__views_are_those_of_the_contract)
{
	static const struct {
		const char *view, *columns;
	} rows[] = {
		{"customer_points", "customer_id,points"},
		{"partner_credit", "partner_id,currency,credit_minor"},
		{"order_state", "order_id,partner_id,customer_id,driver_id,progress,outcome,outcome_at,amount_minor,currency,"
		                "refunded_total_minor,points,order_credit_minor,updated_at"},
		{"postings", "order_id,kind,seq,unit,amount,debit_account,credit_account,rule_id,rule_version,source_topic,"
		             "source_partition,source_offset,posted_at"},
		{"account_balances", "account,unit,debits,credits"},
		{"partition_progress", "consumer_group,topic,partition,next_offset,updated_at"},
	};
	struct pg *pg = open_session("views");
	struct seen seen = {0};
	migrate(pg, "views", &seen, 0, ledger_schema_newest());
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char sql[256];
		snprintf(sql, sizeof(sql), "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute"
		                           " WHERE attrelid = 'views.%s'::regclass AND attnum > 0", rows[i].view);
		check_text(pg, sql, rows[i].columns);
	}
	pg_close(pg);
}
END_TEST

/* ---- from an earlier version ---- */

/* As a binary whose newest version was `version` left it. */
static struct pg *open_version(const char *schema, int version)
{
	struct pg *pg = open_session(schema);
	char sql[256];
	snprintf(sql, sizeof(sql), "CREATE SCHEMA %s", schema);
	run(pg, sql);
	run(pg, "CREATE TABLE schema_version (version integer PRIMARY KEY, name text NOT NULL,"
	        " applied_at timestamptz NOT NULL DEFAULT now(), min_worker integer NOT NULL)");
	for (int i = 0; i < version; i++) {
		run(pg, migrations[i].sql);
		snprintf(sql, sizeof(sql), "INSERT INTO schema_version (version, name, min_worker) VALUES (%d, '%s', %d)", i + 1,
		         migrations[i].name, i ? i : 1);
		run(pg, sql);
	}
	return pg;
}

/* Statements of the workers of version 2, with values in their parameters' types. */
#define INSERT_OF_2(id) \
	"INSERT INTO orders (order_id, rev, progress, refunded_total_minor, customer_id, partner_id, currency, points," \
	" points_seq, order_credit_minor, order_credit_seq, first_topic, first_partition, first_offset, updated_at)" \
	" SELECT u.*, now() FROM unnest('{" id "}'::text[], '{1}'::int4[], '{80}'::int2[], '{0}'::int8[], '{c}'::text[]," \
	" '{p}'::text[], '{EUR}'::text[], '{5}'::int8[], '{1}'::int4[], '{500}'::int8[], '{1}'::int4[], '{t}'::text[]," \
	" '{0}'::int4[], '{7}'::int8[]) u;" \
	"INSERT INTO posted (order_id, kind, seq, amount, partner_id, customer_id, currency, rule_id, rule_version," \
	" source_topic, source_partition, source_offset, posted_at)" \
	" SELECT u.*, now() FROM unnest('{" id "," id "}'::text[], '{1,2}'::int2[], '{1,1}'::int4[], '{5,500}'::int8[]," \
	" '{p,p}'::text[], '{c,NULL}'::text[], '{NULL,EUR}'::text[], '{base,NULL}'::text[], '{1,NULL}'::int4[]," \
	" '{t,t}'::text[], '{0,0}'::int4[], '{7,7}'::int8[]) u"
#define UPDATE_OF_2(id) \
	"WITH written AS (UPDATE orders AS o SET rev = u.rev, points_seq = u.points_seq FROM orders at," \
	" unnest('{" id "}'::text[], '{2}'::int4[], '{2}'::int4[]) AS u (order_id, rev, points_seq)" \
	" WHERE at.order_id = u.order_id AND o.ctid = at.ctid AND (o.order_id = u.order_id) IS TRUE AND o.rev = u.rev - 1" \
	" RETURNING o.ctid AS tid) SELECT expect_rows(count(*), 1::int8), array_agg(tid) FROM written"

START_TEST(test_migrate__3_widens_numbers_beside_workers_of_2)
{
	struct pg *pg = open_version("wide", 2);
	struct seen seen = {.last_version = 2};
	run(pg, "CREATE ROLE \"a Reader\"; CREATE ROLE granter;"
	        " GRANT SELECT ON postings, order_state TO \"a Reader\"; GRANT SELECT ON postings TO PUBLIC;"
	        " GRANT SELECT ON postings TO granter WITH GRANT OPTION; GRANT UPDATE (seq) ON postings TO granter");
	run(pg, INSERT_OF_2("a"));
	static const char grants[] = "SELECT string_agg(x, ' ' ORDER BY x) FROM (SELECT acl.*::text AS x FROM pg_class,"
	                             " aclexplode(relacl) acl WHERE oid = 'postings'::regclass UNION ALL"
	                             " SELECT attname || acl.*::text FROM pg_attribute, aclexplode(attacl) acl"
	                             " WHERE attrelid = 'postings'::regclass) g";
	struct pg_rows *before = NULL;
	ck_assert_int_eq(pg_query_text(pg, grants, NULL, &before), PG_OK);
	char granted[1024];
	snprintf(granted, sizeof(granted), "%.*s", (int)pg_text(before, 0, 0).len, pg_text(before, 0, 0).data);
	pg_rows_free(before);

	migrate(pg, "wide", &seen, 2, ledger_schema_newest());
	check_text(pg, grants, granted);
	check_text(pg, "SELECT min_worker FROM schema_version WHERE version = 3", "2");
	check_text(pg, "SELECT string_agg(order_id || kind || seq || amount || unit, ' ' ORDER BY kind) FROM postings",
	           "aorder_credit1500EUR apoints15PTS");
	/* They go on. */
	run(pg, INSERT_OF_2("b"));
	run(pg, UPDATE_OF_2("a"));
	check_text(pg, "SELECT string_agg(order_id || rev || points_seq, ' ' ORDER BY order_id) FROM orders", "a22 b11");
	/* And the numbers have room. */
	run(pg, "UPDATE orders SET rev = 9223372036854775806, points_seq = 2147483648, order_credit_seq = 2147483648");
	run(pg, "UPDATE posted SET seq = 2147483648");
	check_text(pg, "SELECT max(seq) FROM postings", "2147483648");
	pg_close(pg);
}
END_TEST

START_TEST(test_migrate__who_holds_a_lock_is_named)
{
	struct pg *pg = open_version("locked", 2), *holder = open_session("locked");
	struct seen seen = {.last_version = 2};
	char wanted[256];
	int before, after;
	run(holder, "SET application_name = 'a report'");
	run(holder, "BEGIN; SELECT count(*) FROM orders");
	ck_assert_int_eq(ledger_migrate(pg, "locked", 50, note, &seen, &before, &after), PG_RETRY);
	snprintf(wanted, sizeof(wanted), "0003_years.sql waited over 50 ms for a lock (migrate.lock_timeout_ms) and changed"
	                                 " nothing: pid %d (", pg_backend(holder));
	ck_assert_msg(strncmp(pg_error(pg), wanted, strlen(wanted)) == 0, "%s", pg_error(pg));
	ck_assert_msg(strstr(pg_error(pg), ", application a report, idle in transaction, transaction of ") != NULL, "%s",
	              pg_error(pg));
	ck_assert_msg(strstr(pg_error(pg), " s) holds orders") != NULL, "%s", pg_error(pg));
	ck_assert_int_eq(before, 2);
	ck_assert_int_eq(seen.applied, 0);
	run(holder, "ROLLBACK");
	migrate(pg, "locked", &seen, 2, ledger_schema_newest());
	pg_close(holder);
	pg_close(pg);
}
END_TEST

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!private_postgres_start(&server)) {
		private_postgres_stop(&server);
		return 1;
	}
	Suite *suite = suite_create("migrate");
	TCase *c = tcase_create("migrate");
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_migrate__from_nothing_and_again);
	tcase_add_test(c, test_migrate__runs_queue);
	tcase_add_test(c, test_migrate__a_failed_migration_leaves_nothing);
	tcase_add_test(c, test_migrate__fit_of_other_versions);
	tcase_add_test(c, test_migrate__new_epoch);
	tcase_add_test(c, test_migrate__views_are_those_of_the_contract);
	tcase_add_test(c, test_migrate__3_widens_numbers_beside_workers_of_2);
	tcase_add_test(c, test_migrate__who_holds_a_lock_is_named);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
