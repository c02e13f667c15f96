/* worker/ledger/pg*.c against a real server. */
#include "worker/ledger/pg.h"

#include "common/clock.h"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/pg_internal.h"
#include "worker/observe/health.h"

#include <check.h>

static struct private_postgres server;

static struct pg *open_session(bool for_queries)
{
	const struct pg_settings settings = {.dsn = server.dsn, .schema = "Test \"schema\"", .connect_timeout_ms = 5000,
	                                     .statement_timeout_ms = 20000, .idle_timeout_ms = 10000,
	                                     .for_queries = for_queries};
	struct pg *pg = NULL;
	char error[256] = "";
	ck_assert_msg(pg_connect(&settings, &pg, error, sizeof(error)) == PG_OK, "%s", error);
	return pg;
}

static void expect(struct pg *pg, enum pg_result got, enum pg_result wanted, const char *what)
{
	ck_assert_msg(got == wanted, "%s: got %d, wanted %d (%s)", what, got, wanted, pg_error(pg));
}

static void run(struct pg *pg, const char *sql)
{
	expect(pg, pg_script(pg, sql), PG_OK, sql);
}

static void check_text(struct pg *pg, const char *sql, const struct pg_params *params, const char *wanted)
{
	struct pg_rows *rows = NULL;
	expect(pg, pg_query_text(pg, sql, params, &rows), PG_OK, sql);
	ck_assert_uint_eq(pg_rows_count(rows), 1);
	struct slice got = pg_text(rows, 0, 0);
	ck_assert_msg(slice_equal(got, slice_of(wanted)), "%s: got '%.*s', wanted '%s'", sql, (int)got.len, got.data, wanted);
	pg_rows_free(rows);
}

/* Statements of a transaction may each take all the time that they have: a wait for one is a sign of life. */
START_TEST(test_pg__each_wait_for_an_answer_is_a_heartbeat)
{
	struct pg *pg = open_session(false);
	struct buf why = BUF_INIT;
	struct heart *h = heart_start("worker-0", 60 * INT64_C(1000000), 0);
	ck_assert(!health_live(clock_mono_us() + 120 * INT64_C(1000000), &why));
	check_text(pg, "SELECT 1", NULL, "1");
	buf_clear(&why);
	ck_assert_msg(health_live(clock_mono_us(), &why), "%s", buf_slice(&why).data);
	heart_stop(h);
	buf_release(&why);
	pg_close(pg);
}
END_TEST

/* ---- parameters and results ---- */

START_TEST(test_pg__parameters_arrive_as_they_were_put)
{
	struct pg *pg = open_session(false);
	struct pg_params *p = pg_params_new();
	pg_put_text(p, SLICE_LITERAL("grüße"));
	pg_put_text(p, (struct slice){0});
	pg_put_text(p, SLICE_LITERAL(""));
	pg_put_int8(p, INT64_MIN);
	check_text(pg, "SELECT concat_ws('|', $1, $2 IS NULL, $3 = '', $4)", p, "grüße|t|t|-9223372036854775808");

	pg_params_clear(p);
	pg_array_begin(p, PG_TEXT);
	pg_array_text(p, SLICE_LITERAL("a,\"b"));
	pg_array_text(p, (struct slice){0});
	pg_array_text(p, SLICE_LITERAL(""));
	pg_array_end(p);
	pg_array_begin(p, PG_INT2);
	pg_array_integer(p, INT16_MIN);
	pg_array_integer(p, INT16_MAX);
	pg_array_end(p);
	pg_array_begin(p, PG_INT4);
	pg_array_integer(p, INT32_MIN);
	pg_array_null(p);
	pg_array_end(p);
	pg_array_begin(p, PG_INT8);
	pg_array_integer(p, INT64_MAX);
	pg_array_integer(p, -1);
	pg_array_end(p);
	pg_array_begin(p, PG_TIMESTAMPTZ);
	pg_array_time(p, 0);
	pg_array_time(p, INT64_C(1763718731123456));
	pg_array_null(p);
	pg_array_end(p);
	pg_array_begin(p, PG_INT8);
	pg_array_end(p);
	check_text(pg, "SELECT concat_ws('|', $1, $2, $3, $4, $5, $6, cardinality($6))", p,
	           "{\"a,\\\"b\",NULL,\"\"}|{-32768,32767}|{-2147483648,NULL}|{9223372036854775807,-1}"
	           "|{\"1970-01-01 00:00:00+00\",\"2025-11-21 09:52:11.123456+00\",NULL}|{}|0");
	pg_params_free(p);
	pg_close(pg);
}
END_TEST

START_TEST(test_pg__sums_arrive_as_numeric)
{
	static const char *const wanted[] = {"0", "1", "9999", "10000", "100000000", "123456789012345678901234567890",
	                                     "170141183460469231731687303715884105727"};
	const __int128 large = (__int128)INT64_C(123456789012345) * INT64_C(1000000000000000) + INT64_C(678901234567890);
	const __int128 values[] = {0, 1, 9999, 10000, 100000000, large, (__int128)(~(unsigned __int128)0 >> 1)};
	struct pg *pg = open_session(false);
	struct pg_params *p = pg_params_new();
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		pg_params_clear(p);
		pg_array_begin(p, PG_NUMERIC);
		pg_array_sum(p, values[i]);
		pg_array_end(p);
		check_text(pg, "SELECT $1[1]", p, wanted[i]);
	}
	pg_params_free(p);
	pg_close(pg);
}
END_TEST

START_TEST(test_pg__rows_read_every_type)
{
	struct pg *pg = open_session(false);
	struct pg_rows *rows = NULL;
	expect(pg, pg_query(pg, "SELECT (-2)::int2, (-3)::int4, (-4)::int8, true, 4294967295::oid, NULL::int4, 'x'::text,"
	                        " timestamptz '2000-01-01 00:00:00.000001+00', timestamptz 'infinity' FROM generate_series(1, 2)",
	                    NULL, &rows),
	       PG_OK, "select");
	ck_assert_uint_eq(pg_rows_count(rows), 2);
	static const int64_t wanted[] = {-2, -3, -4, 1, UINT32_MAX};
	for (int column = 0; column < 5; column++)
		ck_assert_int_eq(pg_integer(rows, 1, column), wanted[column]);
	ck_assert(pg_null(rows, 0, 5) && !pg_null(rows, 0, 6));
	ck_assert(!slice_present(pg_text(rows, 0, 5)));
	ck_assert(slice_equal(pg_text(rows, 0, 6), SLICE_LITERAL("x")));
	ck_assert_int_eq(pg_time(rows, 0, 7), INT64_C(946684800000001));
	ck_assert_int_eq(pg_time(rows, 0, 8), INT64_MAX);
	pg_rows_free(rows);
	pg_close(pg);
}
END_TEST

/* ---- sessions ---- */

START_TEST(test_pg__sessions_are_set_up)
{
	static const struct {
		const char *name, *worker, *queries;
	} rows[] = {
		{"search_path", "\"Test \"\"schema\"\"\"", "\"Test \"\"schema\"\"\""},
		{"client_encoding", "UTF8", "UTF8"},
		{"TimeZone", "UTC", "UTC"},
		{"jit", "off", "off"},
		{"synchronous_commit", "on", "on"},
		{"default_transaction_isolation", "read committed", "read committed"},
		{"statement_timeout", "20s", "0"},
		{"lock_timeout", "20s", "0"},
		{"idle_in_transaction_session_timeout", "10s", "0"},
		{"plan_cache_mode", "force_generic_plan", "auto"},
		{"enable_seqscan", "off", "on"},
		{"enable_hashjoin", "off", "on"},
		{"enable_mergejoin", "off", "on"},
		{"application_name", "delivery-worker", "delivery-worker"},
	};
	struct pg *worker = open_session(false), *queries = open_session(true);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char sql[128];
		snprintf(sql, sizeof(sql), "SHOW %s", rows[i].name);
		check_text(worker, sql, NULL, rows[i].worker);
		check_text(queries, sql, NULL, rows[i].queries);
	}
	pg_close(worker);
	pg_close(queries);
}
END_TEST

START_TEST(test_pg__a_stricter_commit_is_the_servers_to_say)
{
	static const struct {
		const char *server, *session;
	} rows[] = {
		{"off", "on"},
		{"local", "on"},
		{"remote_write", "remote_write"},
		{"on", "on"},
		{"remote_apply", "remote_apply"},
	};
	struct pg *pg = open_session(true);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char sql[128];
		snprintf(sql, sizeof(sql), "ALTER DATABASE postgres SET synchronous_commit = '%s'", rows[i].server);
		run(pg, sql);
		for (int for_queries = 0; for_queries < 2; for_queries++) {
			struct pg *session = open_session(for_queries);
			check_text(session, "SHOW synchronous_commit", NULL, rows[i].session);
			pg_close(session);
		}
	}
	run(pg, "ALTER DATABASE postgres RESET synchronous_commit");
	pg_close(pg);
}
END_TEST

/* Of a worker, `check` and `migrate` alike: all of them begin here. */
START_TEST(test_pg__a_database_in_another_encoding_is_an_operators)
{
	static const char *const encodings[] = {"LATIN1", "SQL_ASCII", "UTF8"};
	struct pg *pg = open_session(true);
	for (int i = 0; i < 3; i++) {
		bool fits = i == 2;
		char sql[160], dsn[256], error[512] = "";
		snprintf(sql, sizeof(sql), "CREATE DATABASE in_%s ENCODING '%s' TEMPLATE template0", encodings[i],
		         encodings[i]);
		run(pg, sql);
		snprintf(dsn, sizeof(dsn), "host=%s user=postgres dbname=in_%s",
		         server.folder, fits ? "utf8" : i ? "sql_ascii" : "latin1");
		for (int for_queries = 0; for_queries < 2; for_queries++) {
			const struct pg_settings settings = {.dsn = dsn, .schema = "s", .connect_timeout_ms = 5000,
			                                     .statement_timeout_ms = 20000, .idle_timeout_ms = 10000,
			                                     .for_queries = for_queries};
			struct pg *session = NULL;
			ck_assert_msg(pg_connect(&settings, &session, error, sizeof(error)) == (fits ? PG_OK : PG_UNUSABLE), "%s",
			              error);
			ck_assert_msg(fits == (session != NULL), "%s", encodings[i]);
			if (!fits)
				ck_assert_msg(strstr(error, encodings[i]) && strstr(error, "server_encoding"), "%s", error);
			pg_close(session);
		}
	}
	pg_close(pg);
}
END_TEST

START_TEST(test_pg__a_failed_connect_says_whose_matter_it_is)
{
	static const struct {
		const char *dsn;
		enum pg_result result;
		const char *text; /* in the error */
	} rows[] = {
		{"host=%s user=locked password=secret dbname=postgres", PG_UNUSABLE, "password authentication failed"},
		{"host=%s user=locked dbname=postgres", PG_UNUSABLE, "no password supplied"},
		{"host=%s user=postgres dbname=nowhere", PG_UNUSABLE, "database \"nowhere\" does not exist"},
		{"host=%s user=nobody dbname=postgres", PG_UNUSABLE, "role \"nobody\" does not exist"},
		{"host=%s user=postgres dbname=refused", PG_UNUSABLE, "pg_hba.conf rejects connection"},
		{"host=%s/nowhere user=postgres", PG_RETRY, "No such file"},
		{"postgresql://u:secret@127.0.0.1:1/db", PG_RETRY, "refused"},
		{"postgresql://u:sec@ret@127.0.0.1:1/db", PG_UNUSABLE, "percent-encoded"},
		{"postgresql://u:secret/x@127.0.0.1:1/db", PG_UNUSABLE, "percent-encoded"},
		{"host=%s password=a secret", PG_UNUSABLE, "neither a postgresql:// URI"},
		{"secret", PG_UNUSABLE, "neither a postgresql:// URI"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf dsn = BUF_INIT;
		const char *hole = strstr(rows[i].dsn, "%s");
		buf_append(&dsn, rows[i].dsn, hole ? (size_t)(hole - rows[i].dsn) : strlen(rows[i].dsn));
		if (hole) {
			buf_puts(&dsn, server.folder);
			buf_puts(&dsn, hole + 2);
		}
		const struct pg_settings settings = {.dsn = dsn.data, .schema = "s", .connect_timeout_ms = 2000,
		                                     .statement_timeout_ms = 1000, .idle_timeout_ms = 1000};
		struct pg *pg = NULL;
		char error[512] = "";
		enum pg_result result = pg_connect(&settings, &pg, error, sizeof(error));
		ck_assert_msg(result == rows[i].result && !pg, "%s: %d %s", dsn.data, result, error);
		ck_assert_msg(strstr(error, rows[i].text) != NULL, "%s: %s", dsn.data, error);
		ck_assert_msg(!strstr(error, "sec") && !strchr(error, '\n'), "%s: %s", dsn.data, error);
		buf_release(&dsn);
	}
}
END_TEST

/* ---- errors ---- */

START_TEST(test_pg__sqlstates_are_told_apart)
{
	static const struct {
		const char *sqlstate;
		enum pg_result result;
	} rows[] = {
		{"08006", PG_RETRY}, {"57P01", PG_RETRY}, {"57P03", PG_RETRY}, {"57014", PG_RETRY}, {"40001", PG_RETRY},
		{"40P01", PG_RETRY}, {"55P03", PG_RETRY}, {"55000", PG_RETRY}, {"53100", PG_RETRY}, {"53300", PG_RETRY},
		{"25006", PG_RETRY}, {"25P02", PG_RETRY}, {"25P03", PG_RETRY}, {"58030", PG_RETRY}, {"XX001", PG_RETRY},
		{"DW001", PG_STALE}, {"22003", PG_REJECTED}, {"23505", PG_REJECTED}, {"23514", PG_REJECTED},
		{"28P01", PG_UNUSABLE}, {"3D000", PG_UNUSABLE}, {"42P01", PG_UNUSABLE}, {"42501", PG_UNUSABLE},
		{"3F000", PG_UNUSABLE}, {"0A000", PG_UNUSABLE}, {"25001", PG_UNUSABLE}, {"40002", PG_UNUSABLE},
		{"P0001", PG_UNUSABLE}, {"DW002", PG_UNUSABLE}, {"26000", PG_UNUSABLE},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_msg(pg_result_of_sqlstate(rows[i].sqlstate) == rows[i].result, "%s", rows[i].sqlstate);
}
END_TEST

START_TEST(test_pg__errors_of_statements)
{
	static const struct {
		const char *sql, *sqlstate;
		enum pg_result result;
		bool alive;
	} rows[] = {
		{"SELECT 1/0", "22012", PG_REJECTED, true},
		{"SELECT * FROM nowhere", "42P01", PG_UNUSABLE, true},
		{"DO $$ BEGIN RAISE 'moved' USING ERRCODE = 'DW001'; END $$", "DW001", PG_STALE, true},
		{"SET statement_timeout = 50; SELECT pg_sleep(20)", "57014", PG_RETRY, true},
		{"SET transaction_read_only = on; CREATE TABLE t ()", "25006", PG_RETRY, false},
		{"SELECT pg_terminate_backend(pg_backend_pid())", "57P01", PG_RETRY, false},
		{"SET idle_in_transaction_session_timeout = 20; BEGIN; SELECT 1; ", NULL, PG_OK, true},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pg *pg = open_session(false);
		expect(pg, pg_script(pg, rows[i].sql), rows[i].result, rows[i].sql);
		if (rows[i].sqlstate) {
			ck_assert_str_eq(pg_sqlstate(pg), rows[i].sqlstate);
			ck_assert_msg(strstr(pg_error(pg), rows[i].sqlstate) != NULL, "%s", pg_error(pg));
		} else { /* the server ends the session by itself */
			bool notified = false;
			expect(pg, pg_wait_notification(pg, 10000, &notified), PG_RETRY, "wait");
		}
		ck_assert_msg(pg_alive(pg) == (rows[i].sqlstate && rows[i].alive), "%s", rows[i].sql);
		if (!pg_alive(pg))
			expect(pg, pg_query(pg, "SELECT 1", NULL, NULL), PG_RETRY, "a dead one");
		pg_close(pg);
	}
}
END_TEST

START_TEST(test_pg__commit_that_rolls_back_is_no_success)
{
	struct pg *pg = open_session(false);
	run(pg, "BEGIN");
	expect(pg, pg_query(pg, "SELECT 1/0", NULL, NULL), PG_REJECTED, "fail");
	expect(pg, pg_query(pg, "COMMIT", NULL, NULL), PG_RETRY, "commit");
	run(pg, "BEGIN");
	expect(pg, pg_query(pg, "ROLLBACK", NULL, NULL), PG_OK, "rollback");
	pg_close(pg);
}
END_TEST

START_TEST(test_pg__overdue_answer_ends_the_connection)
{
	struct pg *pg = open_session(false);
	int backend = pg_backend(pg);
	pg->wait_ms = 300;
	ck_assert_int_eq(kill(backend, SIGSTOP), 0);
	int64_t before = clock_mono_ms();
	expect(pg, pg_query(pg, "SELECT 1", NULL, NULL), PG_RETRY, "hung");
	int64_t took = clock_mono_ms() - before;
	ck_assert_msg(took >= 300 && took < 5000, "%d ms", (int)took);
	ck_assert(!pg_alive(pg));
	ck_assert_str_eq(pg_error(pg), "no answer from PostgreSQL within 300 ms");
	pg_close(pg);
	kill(backend, SIGCONT);
}
END_TEST

/* ---- answers that are overdue ---- */

struct told {
	int times;
	char why[512];
	struct pg *rescuer; /* ends the wait */
	const char *rescue;
	bool reload;
};

static void tell(void *owner, const char *why)
{
	struct told *told = owner;
	told->times++;
	snprintf(told->why, sizeof(told->why), "%s", why);
	if (told->rescuer)
		run(told->rescuer, told->rescue);
	if (told->reload)
		run(told->rescuer, "SELECT pg_reload_conf()");
}

static struct pg *open_patient(struct told *told)
{
	const struct pg_settings settings = {.dsn = server.dsn, .schema = "s", .connect_timeout_ms = 5000,
	                                     .statement_timeout_ms = 20000, .idle_timeout_ms = 10000,
	                                     .overdue = tell, .overdue_owner = told};
	struct pg *pg = NULL;
	char error[256] = "";
	ck_assert_msg(pg_connect(&settings, &pg, error, sizeof(error)) == PG_OK, "%s", error);
	pg->wait_ms = 300;
	return pg;
}

START_TEST(test_pg__an_answer_that_is_worked_on_is_waited_for)
{
	struct told told = {.rescuer = open_session(true), .rescue = "SELECT pg_advisory_unlock_all()"};
	struct pg *pg = open_patient(&told);
	run(told.rescuer, "SELECT pg_advisory_lock(7)");
	expect(pg, pg_query(pg, "SELECT pg_advisory_lock(7)", NULL, NULL), PG_OK, "late");
	ck_assert(pg_alive(pg));
	ck_assert_int_eq(told.times, 1);
	ck_assert_msg(strstr(told.why, "no answer from PostgreSQL for 3") && strstr(told.why, "Lock/advisory"), "%s",
	              told.why);
	pg_close(pg);
	pg_close(told.rescuer);
}
END_TEST

START_TEST(test_pg__an_answer_that_nobody_works_on_is_lost)
{
	struct told told = {0};
	struct pg *pg = open_patient(&told);
	int backend = pg_backend(pg);
	ck_assert_int_eq(kill(backend, SIGSTOP), 0);
	expect(pg, pg_query(pg, "SELECT 1", NULL, NULL), PG_RETRY, "never begun");
	ck_assert(!pg_alive(pg) && told.times == 0);
	pg_close(pg);
	kill(backend, SIGCONT);
}
END_TEST

START_TEST(test_pg__a_commit_waits_for_a_standby_and_says_so)
{
	struct told told = {.rescuer = open_session(true),
	                    .rescue = "ALTER SYSTEM RESET synchronous_standby_names", .reload = true};
	struct pg *pg = open_patient(&told);
	run(told.rescuer, "ALTER SYSTEM SET synchronous_standby_names = 'absent'");
	run(told.rescuer, "SELECT pg_reload_conf()");
	while (pg_script(pg, "SELECT txid_current()") == PG_OK && told.times == 0)
		continue; /* until the server has read it */
	ck_assert_msg(strstr(told.why, "synchronous standby (SyncRep), of absent") != NULL, "%s", told.why);
	ck_assert(pg_alive(pg));
	pg_close(pg);
	pg_close(told.rescuer);
}
END_TEST

START_TEST(test_pg__a_crashed_server_is_a_retry)
{
	struct pg *pg = open_session(false);
	static const struct pg_statement one = {"one", "SELECT 1"};
	expect(pg, pg_send(pg, &one, NULL), PG_OK, "send");
	/* As an administrator would end all: the postmaster itself is main's child. */
	struct pg *other = open_session(true);
	char sql[64];
	snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d, 10000)", pg_backend(pg));
	run(other, sql);
	pg_close(other);
	enum pg_result result = pg_sync(pg);
	if (result == PG_OK)
		result = pg_receive(pg, NULL);
	expect(pg, result, PG_RETRY, "after the end");
	ck_assert(!pg_alive(pg));
	expect(pg, pg_rollback(pg), PG_RETRY, "rollback");
	pg_close(pg);
}
END_TEST

/* ---- pipelines ---- */

static const struct pg_statement begin = {"begin", "BEGIN"}, commit = {"commit", "COMMIT"};

START_TEST(test_pg__pipeline_answers_in_order)
{
	static const struct pg_statement add = {"add", "INSERT INTO p SELECT unnest($1::int8[]) RETURNING n"},
	                                 sum = {"sum", "SELECT sum(n)::int8 FROM p"};
	struct pg *pg = open_session(false);
	struct pg_params *p = pg_params_new();
	run(pg, "CREATE TEMP TABLE p (n int8)");
	for (int64_t round = 1; round <= 3; round++) {
		struct pg_rows *rows = NULL;
		pg_params_clear(p);
		pg_array_begin(p, PG_INT8);
		for (int64_t n = 1; n <= 10; n++)
			pg_array_integer(p, n);
		pg_array_end(p);
		expect(pg, pg_send(pg, &begin, NULL), PG_OK, "begin");
		expect(pg, pg_send(pg, &add, p), PG_OK, "add");
		expect(pg, pg_flush(pg), PG_OK, "flush");
		expect(pg, pg_receive(pg, NULL), PG_OK, "begin");
		expect(pg, pg_receive(pg, &rows), PG_OK, "add");
		ck_assert_uint_eq(pg_rows_count(rows), 10);
		ck_assert_int_eq(pg_integer(rows, 9, 0), 10);
		pg_rows_free(rows);
		expect(pg, pg_send(pg, &sum, NULL), PG_OK, "sum");
		expect(pg, pg_send(pg, &sum, NULL), PG_OK, "sum");
		expect(pg, pg_send(pg, &commit, NULL), PG_OK, "commit");
		expect(pg, pg_sync(pg), PG_OK, "sync");
		for (int i = 0; i < 2; i++) {
			expect(pg, pg_receive(pg, &rows), PG_OK, "sum");
			ck_assert_int_eq(pg_integer(rows, 0, 0), 55 * round);
			pg_rows_free(rows);
		}
		expect(pg, pg_receive(pg, NULL), PG_OK, "commit");
		expect(pg, pg_finish(pg), PG_OK, "finish");
	}
	pg_params_free(p);
	pg_close(pg);
}
END_TEST

START_TEST(test_pg__pipeline_tells_the_first_error_and_goes_on_clean)
{
	static const struct pg_statement bad = {"bad", "SELECT 1 / (SELECT count(*) - count(*) FROM pg_class)"},
	                                 worse = {"worse", "SELECT nothing FROM nowhere"},
	                                 late = {"late", "SELECT 7::int8"};
	const struct pg_statement *const faults[] = {&bad, &worse};
	const enum pg_result results[] = {PG_REJECTED, PG_UNUSABLE};
	struct pg *pg = open_session(false);
	for (int i = 0; i < 2; i++) {
		for (int synced = 0; synced < 2; synced++) {
			struct pg_rows *rows = NULL;
			expect(pg, pg_send(pg, &begin, NULL), PG_OK, "begin");
			expect(pg, pg_send(pg, faults[i], NULL), PG_OK, "bad");
			expect(pg, pg_send(pg, &late, NULL), PG_OK, "late");
			expect(pg, pg_send(pg, &commit, NULL), PG_OK, "commit");
			expect(pg, synced ? pg_sync(pg) : pg_flush(pg), PG_OK, "sync");
			expect(pg, pg_receive(pg, NULL), PG_OK, "begin");
			expect(pg, pg_receive(pg, &rows), results[i], "bad");
			char error[256];
			snprintf(error, sizeof(error), "%s", pg_error(pg));
			if (synced)
				expect(pg, pg_receive(pg, &rows), PG_RETRY, "late");
			ck_assert_ptr_null(rows);
			expect(pg, pg_rollback(pg), PG_OK, "rollback");
			ck_assert_str_eq(pg_error(pg), error);
			ck_assert(pg_alive(pg));

			expect(pg, pg_send(pg, &late, NULL), PG_OK, "late again");
			expect(pg, pg_sync(pg), PG_OK, "sync");
			expect(pg, pg_receive(pg, &rows), PG_OK, "late again");
			ck_assert_int_eq(pg_integer(rows, 0, 0), 7);
			pg_rows_free(rows);
			expect(pg, pg_finish(pg), PG_OK, "finish");
		}
	}
	pg_close(pg);
}
END_TEST

START_TEST(test_pg__rollback_ends_what_is_open)
{
	struct pg *pg = open_session(false), *other = open_session(false);
	run(other, "CREATE TABLE public.r (n int)");
	static const struct pg_statement add = {"add", "INSERT INTO public.r VALUES (1)"};
	expect(pg, pg_rollback(pg), PG_OK, "nothing open");
	expect(pg, pg_send(pg, &begin, NULL), PG_OK, "begin");
	expect(pg, pg_send(pg, &add, NULL), PG_OK, "add");
	expect(pg, pg_flush(pg), PG_OK, "flush");
	expect(pg, pg_receive(pg, NULL), PG_OK, "begin");
	expect(pg, pg_rollback(pg), PG_OK, "rollback");
	check_text(other, "SELECT count(*) FROM public.r", NULL, "0");
	check_text(pg, "SELECT count(*) FROM public.r", NULL, "0");
	run(other, "DROP TABLE public.r");
	pg_close(pg);
	pg_close(other);
}
END_TEST

/* Whoever is frozen between two halves of a transaction must not keep its locks: the server counts idle time
 * only where it was told that it is our turn. */
START_TEST(test_pg__idle_time_is_counted_behind_a_flush)
{
	struct pg *pg = open_session(false);
	run(pg, "SET idle_in_transaction_session_timeout = 20");
	expect(pg, pg_send(pg, &begin, NULL), PG_OK, "begin");
	expect(pg, pg_flush(pg), PG_OK, "flush");
	expect(pg, pg_receive(pg, NULL), PG_OK, "begin");
	bool notified = false;
	expect(pg, pg_wait_notification(pg, 10000, &notified), PG_RETRY, "the server ends the session");
	ck_assert(!pg_alive(pg));
	pg_close(pg);
}
END_TEST

/* libpq sends a long pipeline in pieces as it is built, so its first statements run before anything is flushed. */
START_TEST(test_pg__idle_time_is_counted_behind_what_left_early)
{
	static const struct pg_statement longer = {"longer", "SELECT length($1::text)"};
	enum { SIZE = 3 * PG_PIECE };
	static char text[SIZE];
	memset(text, 'x', SIZE);
	struct pg *pg = open_session(false);
	run(pg, "SET idle_in_transaction_session_timeout = 20");
	struct pg_params *p = pg_params_new();
	pg_put_text(p, (struct slice){text, SIZE});
	expect(pg, pg_send(pg, &begin, NULL), PG_OK, "begin");
	expect(pg, pg_send(pg, &longer, p), PG_OK, "longer");
	bool notified = false;
	expect(pg, pg_wait_notification(pg, 10000, &notified), PG_RETRY, "the server ends the session");
	ck_assert(!pg_alive(pg));
	pg_params_free(p);
	pg_close(pg);
}
END_TEST

/* Both directions are far beyond what sockets buffer: neither side may stop reading. */
START_TEST(test_pg__large_pipeline_does_not_deadlock)
{
	static const struct pg_statement echo = {"echo", "SELECT $1::text"};
	enum { COUNT = 40, SIZE = 512 * 1024 };
	struct pg *pg = open_session(false);
	struct pg_params *p = pg_params_new();
	char *text = malloc(SIZE);
	memset(text, 'x', SIZE);
	pg_put_text(p, (struct slice){text, SIZE});
	for (int i = 0; i < COUNT; i++)
		expect(pg, pg_send(pg, &echo, p), PG_OK, "send");
	expect(pg, pg_sync(pg), PG_OK, "sync");
	for (int i = 0; i < COUNT; i++) {
		struct pg_rows *rows = NULL;
		expect(pg, pg_receive(pg, &rows), PG_OK, "receive");
		ck_assert_uint_eq(pg_text(rows, 0, 0).len, SIZE);
		pg_rows_free(rows);
	}
	expect(pg, pg_finish(pg), PG_OK, "finish");
	free(text);
	pg_params_free(p);
	pg_close(pg);
}
END_TEST

/* ---- notifications ---- */

START_TEST(test_pg__notifications_are_waited_for)
{
	struct pg *pg = open_session(true), *other = open_session(true);
	bool notified = true;
	run(pg, "LISTEN news");
	expect(pg, pg_wait_notification(pg, 0, &notified), PG_OK, "nothing yet");
	ck_assert(!notified);
	run(other, "NOTIFY news");
	expect(pg, pg_wait_notification(pg, 10000, &notified), PG_OK, "news");
	ck_assert(notified);
	expect(pg, pg_wait_notification(pg, 1, &notified), PG_OK, "once");
	ck_assert(!notified);
	/* One that comes along with an answer is not lost either. */
	run(pg, "NOTIFY news");
	expect(pg, pg_wait_notification(pg, 0, &notified), PG_OK, "own");
	ck_assert(notified);
	pg_close(pg);
	pg_close(other);
}
END_TEST

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!private_postgres_start(&server)) {
		private_postgres_stop(&server);
		return 1;
	}
	Suite *suite = suite_create("pg");
	TCase *c = tcase_create("pg");
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_pg__each_wait_for_an_answer_is_a_heartbeat);
	tcase_add_test(c, test_pg__parameters_arrive_as_they_were_put);
	tcase_add_test(c, test_pg__sums_arrive_as_numeric);
	tcase_add_test(c, test_pg__rows_read_every_type);
	tcase_add_test(c, test_pg__sessions_are_set_up);
	tcase_add_test(c, test_pg__a_stricter_commit_is_the_servers_to_say);
	tcase_add_test(c, test_pg__a_database_in_another_encoding_is_an_operators);
	tcase_add_test(c, test_pg__a_failed_connect_says_whose_matter_it_is);
	tcase_add_test(c, test_pg__sqlstates_are_told_apart);
	tcase_add_test(c, test_pg__errors_of_statements);
	tcase_add_test(c, test_pg__commit_that_rolls_back_is_no_success);
	tcase_add_test(c, test_pg__overdue_answer_ends_the_connection);
	tcase_add_test(c, test_pg__an_answer_that_is_worked_on_is_waited_for);
	tcase_add_test(c, test_pg__an_answer_that_nobody_works_on_is_lost);
	tcase_add_test(c, test_pg__a_commit_waits_for_a_standby_and_says_so);
	tcase_add_test(c, test_pg__a_crashed_server_is_a_retry);
	tcase_add_test(c, test_pg__pipeline_answers_in_order);
	tcase_add_test(c, test_pg__pipeline_tells_the_first_error_and_goes_on_clean);
	tcase_add_test(c, test_pg__rollback_ends_what_is_open);
	tcase_add_test(c, test_pg__idle_time_is_counted_behind_a_flush);
	tcase_add_test(c, test_pg__idle_time_is_counted_behind_what_left_early);
	tcase_add_test(c, test_pg__large_pipeline_does_not_deadlock);
	tcase_add_test(c, test_pg__notifications_are_waited_for);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
