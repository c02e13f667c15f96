/*
 * Rows found by their tids (worker/ledger/store_begin.c, store_commit.c) against a real server: a hint saves the way
 * down the index, and whatever becomes of the row behind it, nobody is shown, and nobody writes, another order's.
 */
#include "worker/ledger/store.h"

#include "common/thread.h"
#include "tests/lib/ledger_stage.c"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/store_internal.h"

#include <check.h>

static struct private_postgres server;

static void expect(const struct store *s, enum store_result got, enum store_result wanted, const char *what)
{
	ck_assert_msg(got == wanted, "%s: got %d, wanted %d (%s)", what, got, wanted, store_error(s));
}

/* How often the store's session has executed a statement. */
static int64_t executed(struct store *s, const char *name)
{
	struct pg_params *p = pg_params_new();
	struct pg_rows *rows = NULL;
	pg_put_text(p, slice_of(name));
	ck_assert_int_eq(pg_query(s->pg,
				  "SELECT coalesce(sum(generic_plans + custom_plans), 0)::int8"
				  " FROM pg_prepared_statements WHERE name = $1",
				  p, &rows),
			 PG_OK);
	int64_t count = pg_integer(rows, 0, 0);
	pg_rows_free(rows);
	pg_params_free(p);
	return count;
}

/* By tid, and by tid with the page pruned on the way. */
static const char *const hinted_reads[] = {"read_tids", "prune_tids"};
enum { HINTED_READS = sizeof(hinted_reads) / sizeof(hinted_reads[0]) };

/* The next batch reads so where it has a hint. */
static void read_next_by(struct store *s, int way)
{
	memset(s->page_updates, way == 0 ? 0 : UINT8_MAX, sizeof(s->page_updates));
}

static uint64_t hint(struct store *s, const char *id)
{
	return tid_cache_get(s->tids, tid_cache_key(slice_of(id)));
}

static void put_hint(struct store *s, const char *id, uint64_t tid)
{
	tid_cache_put(s->tids, tid_cache_key(slice_of(id)), tid);
}

enum { ORDERS = 30, BATCHES = 100, OF_A_BATCH = 5 };

/*
 * Versions on a page that nobody looks at as a whole are never pruned, and the next ones would have to leave it, each
 * of them a new entry of the index.
 */
START_TEST(test_store_tids__are_followed_and_rows_stay_on_their_page)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "pruned");
	struct store *s = store_new(&t.settings, 0);
	char ids[ORDERS][16];
	uint64_t pages[ORDERS];
	int moved = 0;
	for (int i = 0; i < ORDERS; i++) {
		snprintf(ids[i], sizeof(ids[i]), "o%02d", i);
		expect(s, stage_write(s, &t.epoch, ids[i]), STORE_OK, ids[i]);
		pages[i] = hint(s, ids[i]) >> TID_ITEM_BITS;
	}
	for (int batch = 0; batch < BATCHES; batch++) {
		struct order orders[OF_A_BATCH];
		struct store_write writes[OF_A_BATCH];
		int64_t revision;
		int first = batch * OF_A_BATCH % ORDERS, earlier = batch * OF_A_BATCH / ORDERS;
		for (int i = 0; i < OF_A_BATCH; i++)
			order_init(&orders[i], slice_of(ids[first + i]));
		expect(s, store_begin(s, &t.epoch, false, orders, OF_A_BATCH, &revision), STORE_OK, "begin");
		for (int i = 0; i < OF_A_BATCH; i++) {
			ck_assert_int_eq(orders[i].rev, 1 + earlier);
			ck_assert_int_eq(orders[i].points, earlier * (first + i + 1));
			orders[i].points += first + i + 1;
			writes[i] = (struct store_write){.order = &orders[i], .first_source = &stage_source};
		}
		expect(s, store_commit(s, writes, OF_A_BATCH), STORE_OK, "commit");
		for (int i = first; i < first + OF_A_BATCH; i++)
			moved += hint(s, ids[i]) >> TID_ITEM_BITS != pages[i];
	}
	ck_assert_int_eq(executed(s, "read_orders"), ORDERS); /* before they were there: no hint was wrong */
	ck_assert_int_eq(moved, 0);
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_store_tids__a_hint_may_be_wrong)
{
	static const struct {
		const char *change, *again;
		int32_t rev; /* of what is there then; 0: nothing */
	} rows[] = {
		{"UPDATE orders SET rev = rev + 1 WHERE order_id = 'o'", NULL, 2},
		{"DELETE FROM orders WHERE order_id = 'o'", NULL, 0},
		{"TRUNCATE orders", NULL, 0},
		/* Now the place of `o` is that of `p`, and there is none where `p` was. */
		{"DELETE FROM orders WHERE order_id = 'n'", "VACUUM FULL orders", 1},
	};
	for (size_t k = 0; k < HINTED_READS * sizeof(rows) / sizeof(rows[0]); k++) {
		size_t i = k / HINTED_READS;
		int way = (int)(k % HINTED_READS);
		struct ledger_stage t;
		char schema[32];
		snprintf(schema, sizeof(schema), "wrong%zu", k);
		ledger_stage_open(&t, server.dsn, schema);
		struct store *s = store_new(&t.settings, 0);
		static const char *const ids[] = {"n", "o", "p"};
		for (int j = 0; j < 3; j++)
			expect(s, stage_write(s, &t.epoch, ids[j]), STORE_OK, ids[j]);
		stage_run(&t, rows[i].change);
		if (rows[i].again)
			stage_run(&t, rows[i].again);
		int64_t before = executed(s, hinted_reads[way]);
		read_next_by(s, way);
		struct order o[2];
		int64_t revision;
		order_init(&o[0], SLICE_LITERAL("o"));
		expect(s, store_begin(s, &t.epoch, false, o, 1, &revision), STORE_OK, rows[i].change);
		ck_assert_msg(o[0].exists == (rows[i].rev > 0), "%s", rows[i].change);
		ck_assert_int_eq(o[0].rev, rows[i].rev);
		ck_assert(slice_equal(o[0].order_id, SLICE_LITERAL("o")));
		expect(s, stage_commit(s, &o[0], STATUS_CONFIRMED), STORE_OK, "and is written");
		ck_assert_int_eq(executed(s, hinted_reads[way]), before + 1);
		ck_assert_int_eq(stage_number(&t, "SELECT rev::int8 FROM orders WHERE order_id = 'o'"),
				 rows[i].rev + 1);
		ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM orders WHERE progress = 10"), 1);
		store_free(s);
		ledger_stage_close(&t);
	}
}
END_TEST

/* The row that a wrong hint leads to may be one that is asked for, too. */
static void swap_hints(int way)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, way == 0 ? "swapped" : "swapped_pruning");
	struct store *s = store_new(&t.settings, 0);
	static const char *const ids[] = {"a", "b"};
	for (int i = 0; i < 2; i++)
		expect(s, stage_write(s, &t.epoch, ids[i]), STORE_OK, ids[i]);
	uint64_t first = hint(s, "a");
	put_hint(s, "a", hint(s, "b"));
	put_hint(s, "b", first);
	stage_run(&t, "UPDATE orders SET points = CASE order_id WHEN 'a' THEN 1 ELSE 2 END, rev = 5");
	read_next_by(s, way);
	struct order orders[2];
	struct store_write writes[2];
	int64_t revision;
	order_init(&orders[0], SLICE_LITERAL("a"));
	order_init(&orders[1], SLICE_LITERAL("b"));
	expect(s, store_begin(s, &t.epoch, false, orders, 2, &revision), STORE_OK, "begin");
	for (int i = 0; i < 2; i++) {
		ck_assert(orders[i].exists && orders[i].points == i + 1 && orders[i].rev == 5);
		orders[i].facts.progress = STATUS_CONFIRMED;
		writes[i] = (struct store_write){.order = &orders[i], .first_source = &stage_source};
	}
	expect(s, store_commit(s, writes, 2), STORE_OK, "commit");
	stage_check(&t, "SELECT string_agg(order_id || points || ' ' || rev, ', ' ORDER BY order_id) FROM orders",
		    "a1 6, b2 6");
	store_free(s);
	ledger_stage_close(&t);
}

START_TEST(test_store_tids__hints_may_be_swapped)
{
	swap_hints(_i);
}
END_TEST

/* Each finds its row, also where ids begin alike for longer than the search looks at once. */
START_TEST(test_store_tids__ids_may_begin_alike)
{
	static const char *const ids[] = {"a", "x-123456789a", "x-123456789b", "x-123456789b1", "x-123456789c"};
	enum { COUNT = sizeof(ids) / sizeof(ids[0]) };
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "alike");
	struct store *s = store_new(&t.settings, 0);
	for (int i = 0; i < COUNT; i++)
		expect(s, stage_write(s, &t.epoch, ids[i]), STORE_OK, ids[i]);
	stage_run(&t, "UPDATE orders SET refunded_total_minor = length(order_id) * 1000 + ascii(right(order_id, 1))");
	/* The update has moved all rows: the first reading finds where they are, the second follows. */
	for (int turn = 0; turn < 2; turn++) {
		read_next_by(s, 0);
		struct order orders[COUNT];
		int64_t revision;
		for (int i = 0; i < COUNT; i++)
			order_init(&orders[i], slice_of(ids[i]));
		expect(s, store_begin(s, &t.epoch, false, orders, COUNT, &revision), STORE_OK, "begin");
		for (int i = 0; i < COUNT; i++) {
			size_t len = strlen(ids[i]);
			ck_assert_int_eq(orders[i].facts.refunded_total_minor, (int64_t)len * 1000 + ids[i][len - 1]);
		}
		store_rollback(s);
	}
	ck_assert_int_eq(executed(s, "read_tids"), 2);
	ck_assert_int_eq(executed(s, "read_orders"), COUNT + 1); /* no row was overlooked, and so read once more by id */
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

/* As if the row had been deleted and vacuumed away since it was read, and another one had come to its place. */
START_TEST(test_store_tids__a_place_of_anothers_is_not_written)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "another");
	struct store *s = store_new(&t.settings, 0);
	expect(s, stage_write(s, &t.epoch, "o"), STORE_OK, "o");
	expect(s, stage_write(s, &t.epoch, "p"), STORE_OK, "p");
	struct order o;
	expect(s, stage_begin(s, &t.epoch, &o, "o"), STORE_OK, "begin");
	s->order_tids[0] = hint(s, "p");
	expect(s, stage_commit(s, &o, STATUS_CONFIRMED), STORE_STALE, "commit");
	stage_check(&t, "SELECT string_agg(order_id || rev || ' ' || progress, ', ' ORDER BY order_id) FROM orders",
		    "o1 0, p1 0");
	store_free(s);
	ledger_stage_close(&t);
}
END_TEST

struct blocked_begin {
	struct store *store;
	const struct history_epoch *epoch;
	struct order *order;
	enum store_result result;
};

static void *begin_blocked(void *argument)
{
	struct blocked_begin *b = argument;
	int64_t revision;
	b->result = store_begin(b->store, b->epoch, true, b->order, 1, &revision);
	return NULL;
}

/* Who has waited for a lock sees the row that the other one left, and where that is. */
START_TEST(test_store_tids__a_lock_that_waited_has_the_newer_place)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "waited");
	struct store *s = store_new(&t.settings, 0);
	expect(s, stage_write(s, &t.epoch, "o"), STORE_OK, "o");
	stage_run(&t, "BEGIN");
	stage_run(&t, "UPDATE orders SET rev = rev + 1");
	struct order o;
	order_init(&o, SLICE_LITERAL("o"));
	struct blocked_begin blocked = {.store = s, .epoch = &t.epoch, .order = &o};
	pthread_t thread = thread_start("begin", begin_blocked, &blocked);
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	stage_run(&t, "COMMIT");
	thread_join(thread);
	expect(s, blocked.result, STORE_OK, "begin");
	ck_assert_int_eq(o.rev, 2);
	expect(s, stage_commit(s, &o, STATUS_CONFIRMED), STORE_OK, "commit");
	ck_assert_int_eq(stage_number(&t, "SELECT rev::int8 FROM orders"), 3);
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
	Suite *suite = suite_create("store_tids");
	TCase *c = tcase_create("store_tids");
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_store_tids__are_followed_and_rows_stay_on_their_page);
	tcase_add_test(c, test_store_tids__a_hint_may_be_wrong);
	tcase_add_loop_test(c, test_store_tids__hints_may_be_swapped, 0, HINTED_READS);
	tcase_add_test(c, test_store_tids__ids_may_begin_alike);
	tcase_add_test(c, test_store_tids__a_place_of_anothers_is_not_written);
	tcase_add_test(c, test_store_tids__a_lock_that_waited_has_the_newer_place);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
