/*
 * Out of memory at each allocation in turn, with real servers at the other end: hiredis and libpq have errors for it.
 * What a call may say then is that it should be tried again; never that the data is wrong, or an operator is needed
 * [I10], never a success that was none [I1], never a mark that was not made [I3].
 */
#include "tests/lib/every_allocation.c"
#include "tests/lib/private_postgres.c"
#include "tests/lib/private_redis.c"
#include "worker/gate/gate.h"
#include "worker/ledger/pg.h"

#include <time.h>

static struct private_postgres postgres;
static struct private_redis redis;

/* ---- PostgreSQL ---- */

/* Anything but PG_OK and PG_RETRY is a result of its own, and so a wrong one. Returns: whether to go on. */
static bool went_well(struct result *o, const char *what, enum pg_result result)
{
	if (result == PG_RETRY)
		result_give_up(o);
	else if (result != PG_OK)
		result_put(o, "%s: %d\n", what, result);
	return result == PG_OK;
}

static bool open_session(struct result *o, struct pg **pg)
{
	const struct pg_settings settings = {.dsn = postgres.dsn,
					     .schema = "public",
					     .connect_timeout_ms = 20000,
					     .statement_timeout_ms = 20000,
					     .idle_timeout_ms = 20000};
	char error[256] = "";
	return went_well(o, "connect", pg_connect(&settings, pg, error, sizeof(error)));
}

/* A transaction by scripts; then what is there, seen by a session with all its memory: only one allocation fails. */
static void commit(struct result *o)
{
	static int number;
	char insert[64], count[80];
	struct pg *pg = NULL;
	struct pg_rows *rows = NULL;
	snprintf(insert, sizeof(insert), "INSERT INTO t VALUES (%d, %d)", getpid(), ++number);
	snprintf(count, sizeof(count), "SELECT count(*) FROM t WHERE a = %d AND b = %d", getpid(), number);
	if (!open_session(o, &pg))
		return;
	if (!went_well(o, "begin", pg_script(pg, "BEGIN")) || !went_well(o, "insert", pg_script(pg, insert)) ||
	    !went_well(o, "commit", pg_script(pg, "COMMIT")))
		goto done;
	if (went_well(o, "count", pg_query(pg, count, NULL, &rows)))
		result_put(o, "%lld committed\n", (long long)pg_integer(rows, 0, 0));
done:
	pg_rows_free(rows);
	pg_close(pg);
}

START_TEST(test_memory__postgres_transaction)
{
	if (!every_allocation_works())
		return;
	struct every_allocation_count count = every_allocation(commit, MAY_GIVE_UP);
	ck_assert_int_ge(count.gave_up, 10);
}
END_TEST

static const struct pg_statement values = {"values", "SELECT i, repeat('x', i) FROM generate_series(1, $1) i"};
static const struct pg_statement refused = {"refused", "SELECT 1 / ($1 - 3)"};

static void pipeline(struct result *o)
{
	struct pg *pg = NULL;
	struct pg_rows *rows = NULL;
	struct pg_params *three = pg_params_new();
	size_t bytes = 0;
	pg_put_int8(three, 300);
	if (!open_session(o, &pg))
		goto done;
	if (!went_well(o, "send", pg_send(pg, &values, three)) || !went_well(o, "sync", pg_sync(pg)) ||
	    !went_well(o, "receive", pg_receive(pg, &rows)))
		goto done;
	for (size_t i = 0; i < pg_rows_count(rows); i++)
		bytes += pg_text(rows, i, 1).len + (size_t)pg_integer(rows, i, 0);
	result_put(o, "%zu rows, %zu\n", pg_rows_count(rows), bytes);
	if (!went_well(o, "finish", pg_finish(pg)))
		goto done;
	/* An error of the data stays one, or is not heard of. */
	pg_params_clear(three);
	pg_put_int8(three, 3);
	if (went_well(o, "send", pg_send(pg, &refused, three)) && went_well(o, "sync", pg_sync(pg)))
		went_well(o, "division by zero", pg_receive(pg, NULL));
done:
	pg_rows_free(rows);
	pg_params_free(three);
	pg_close(pg);
}

START_TEST(test_memory__postgres_pipeline)
{
	if (!every_allocation_works())
		return;
	struct every_allocation_count count = every_allocation(pipeline, MAY_GIVE_UP);
	ck_assert_int_ge(count.gave_up, 10);
}
END_TEST

/* ---- Redis ---- */

enum { MARKS = 40 };

/* Half of them are marked. One found that was not would cost a credit; one not found costs work. */
static void mark(struct result *o)
{
	static char url[64];
	static unsigned char number;
	const struct history_epoch epoch = {{(uint8_t)getpid(), (uint8_t)(getpid() >> 8), ++number}};
	struct gate_mark marks[MARKS];
	bool done[MARKS];
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", redis.port);
	struct gate_shared *shared = gate_shared_new(&(struct gate_settings){
		.url = url, .prefix = "t:", .timeout_ms = 20000, .dedup_ttl_s = 3600, .rate_outage = GATE_LOCAL});
	struct gate *gate = gate_new(shared);
	for (int i = 0; i < MARKS; i++)
		marks[i] = (struct gate_mark){.digest = {{(uint8_t)i, 1}}, .timestamp_us = i * INT64_C(100000000)};
	gate_mark(gate, &epoch, marks, MARKS / 2);
	gate_lookup(gate, &epoch, marks, MARKS, done);
	int found = 0;
	for (int i = 0; i < MARKS; i++) {
		if (done[i] && i >= MARKS / 2)
			result_put(o, "%d was never marked\n", i);
		found += done[i];
	}
	struct gate_request requests[2] = {
		{.partner_id = SLICE_LITERAL("a"), .per_second = 1, .burst = 5, .wanted = 3},
		{.partner_id = SLICE_LITERAL("b"), .per_second = 1, .burst = 1, .wanted = 1}};
	if (gate_admit(gate, requests, 2) != GATE_OK)
		result_put(o, "not admitted\n");
	if (found < MARKS / 2)
		result_give_up(o);
	result_put(o, "%d found\n", found);
	gate_free(gate);
	gate_shared_free(shared);
}

START_TEST(test_memory__redis)
{
	if (!every_allocation_works())
		return;
	signal(SIGPIPE, SIG_IGN);
	struct every_allocation_count count = every_allocation(mark, MAY_GIVE_UP);
	ck_assert_int_ge(count.gave_up, 5);
}
END_TEST

int main(void)
{
	if (!private_postgres_start(&postgres) || !private_redis_start(&redis, NULL, NULL))
		return EXIT_FAILURE;
	tzset(); /* the log's first line would */
	ensure_speaking_aborts();
	struct result unused = {.len = 0};
	struct pg *pg = NULL;
	ENSURE(open_session(&unused, &pg) && pg_script(pg, "CREATE TABLE t (a int, b int)") == PG_OK);
	pg_close(pg);

	Suite *s = suite_create("memory");
	TCase *tc = tcase_create("memory");
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_memory__postgres_transaction);
	tcase_add_test(tc, test_memory__postgres_pipeline);
	tcase_add_test(tc, test_memory__redis);
	suite_add_tcase(s, tc);
	SRunner *runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	private_redis_stop(&redis);
	private_postgres_stop(&postgres);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
