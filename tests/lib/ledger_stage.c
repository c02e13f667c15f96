#include "tests/lib/ledger_stage.h"

#include "common/clock.h"
#include "worker/ledger/migrate.h"
#include "worker/ledger/rules_store.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>

static void ignore_step(void *owner, enum migrate_step step, int version, const char *name)
{
	(void)owner, (void)step, (void)version, (void)name;
}

void ledger_stage_open(struct ledger_stage *t, const char *dsn, const char *schema)
{
	const struct pg_settings settings = {.dsn = dsn,
					     .schema = schema,
					     .connect_timeout_ms = STAGE_LIMIT_MS,
					     .statement_timeout_ms = STAGE_LIMIT_MS,
					     .idle_timeout_ms = STAGE_LIMIT_MS,
					     .for_queries = true};
	*t = (struct ledger_stage){.board = store_board_new(STAGE_CONNECTIONS)};
	t->settings = (struct store_settings){.dsn = dsn,
					      .schema = schema,
					      .connect_timeout_ms = 5000,
					      .statement_timeout_ms = STAGE_LIMIT_MS,
					      .idle_timeout_ms = STAGE_LIMIT_MS,
					      .slots = 4,
					      .board = t->board};
	char error[256] = "";
	int before, after;
	ck_assert_msg(pg_connect(&settings, &t->pg, error, sizeof(error)) == PG_OK, "%s", error);
	ck_assert_msg(ledger_migrate(t->pg, schema, 5000, ignore_step, NULL, &before, &after) == PG_OK, "%s",
		      pg_error(t->pg));
	ck_assert_int_eq(before, 0);
	t->epoch = stage_epoch(t);
}

void ledger_stage_close(struct ledger_stage *t)
{
	pg_close(t->pg);
	store_board_free(t->board);
}

void stage_run(struct ledger_stage *t, const char *sql)
{
	ck_assert_msg(pg_script(t->pg, sql) == PG_OK, "%s: %s", sql, pg_error(t->pg));
}

int64_t stage_number(struct ledger_stage *t, const char *sql)
{
	struct pg_rows *rows = NULL;
	ck_assert_msg(pg_query(t->pg, sql, NULL, &rows) == PG_OK, "%s: %s", sql, pg_error(t->pg));
	ck_assert_msg(pg_rows_count(rows) == 1, "%s: %zu rows", sql, pg_rows_count(rows));
	int64_t n = pg_null(rows, 0, 0) ? -1 : pg_integer(rows, 0, 0);
	pg_rows_free(rows);
	return n;
}

void stage_check(struct ledger_stage *t, const char *sql, const char *wanted)
{
	struct pg_rows *rows = NULL;
	ck_assert_msg(pg_query_text(t->pg, sql, NULL, &rows) == PG_OK, "%s: %s", sql, pg_error(t->pg));
	ck_assert_msg(pg_rows_count(rows) == 1, "%s: %zu rows", sql, pg_rows_count(rows));
	struct slice got = pg_text(rows, 0, 0);
	ck_assert_msg(slice_equal(got, slice_of(wanted)), "%s: got\n%.*s\nwanted\n%s", sql, (int)got.len,
		      got.data ? got.data : "NULL", wanted);
	pg_rows_free(rows);
}

void stage_await(struct ledger_stage *t, const char *sql, int64_t wanted)
{
	int64_t deadline_us = clock_mono_us() + STAGE_LIMIT_MS * INT64_C(1000);
	while (stage_number(t, sql) != wanted) {
		ck_assert_msg(clock_mono_us() < deadline_us, "waited in vain for %s", sql);
		poll(NULL, 0, 5);
	}
}

struct history_epoch stage_epoch(struct ledger_stage *t)
{
	struct pg_rows *rows = NULL;
	struct history_epoch e;
	ck_assert_msg(pg_query(t->pg, "SELECT epoch FROM history", NULL, &rows) == PG_OK, "%s", pg_error(t->pg));
	memcpy(e.bytes, pg_text(rows, 0, 0).data, sizeof(e.bytes));
	pg_rows_free(rows);
	return e;
}

void stage_terminate(struct ledger_stage *t, int backend)
{
	char sql[96];
	snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d, %d)", backend, STAGE_LIMIT_MS);
	ck_assert_int_eq(stage_number(t, sql), 1);
}

void stage_apply_rules(struct ledger_stage *t, const char *text)
{
	char error[256] = "";
	struct rules *file = rules_parse_file(slice_of(text), error, sizeof(error));
	ck_assert_msg(file, "%s", error);
	struct rule_change rules[8], partners[8];
	ck_assert(rules_count(file) <= 8 && rules_partner_count(file) <= 8);
	int64_t revision;
	ck_assert_int_eq(rules_store_apply(t->pg, file, rules, partners, &revision), PG_OK);
	rules_unref(file);
}

const struct store_source stage_source = {.topic = {"delivery-events", 15}, .partition = 3, .offset = 41};

enum store_result stage_begin(struct store *s, const struct history_epoch *epoch, struct order *o, const char *id)
{
	int64_t revision;
	order_init(o, slice_of(id));
	return store_begin(s, epoch, false, o, 1, &revision);
}

enum store_result stage_commit(struct store *s, struct order *o, enum event_status progress)
{
	o->facts.progress = progress;
	o->changed = true;
	const struct store_write w = {.order = o, .first_source = &stage_source};
	return store_commit(s, &w, 1);
}

enum store_result stage_write(struct store *s, const struct history_epoch *epoch, const char *id)
{
	struct order o;
	enum store_result r = stage_begin(s, epoch, &o, id);
	return r == STORE_OK ? stage_commit(s, &o, STATUS_CREATED) : r;
}

int64_t stage_orders(struct ledger_stage *t)
{
	return stage_number(t, "SELECT count(*) FROM orders");
}

void stage_check_books(struct ledger_stage *t)
{
	stage_check(
		t,
		"WITH sides AS ("
		" SELECT debit_account AS account, unit, amount::numeric AS debits, 0::numeric AS credits FROM postings"
		" UNION ALL SELECT credit_account, unit, 0, amount FROM postings),"
		" sums AS (SELECT account, unit, sum(debits) AS debits, sum(credits) AS credits FROM sides GROUP BY 1, "
		"2),"
		" posted_sums AS (SELECT order_id,"
		"  sum(CASE WHEN kind = 'points' THEN CASE WHEN credit_account LIKE 'customer_points:%' THEN amount"
		"   ELSE -amount END ELSE 0 END) AS points,"
		"  sum(CASE WHEN kind = 'order_credit' THEN CASE WHEN credit_account LIKE 'partner_payable:%' THEN "
		"amount"
		"   ELSE -amount END ELSE 0 END) AS credit FROM postings GROUP BY 1),"
		" wrong AS ("
		" SELECT 'balance of ' || account || ' ' || unit AS what FROM sums s"
		"  FULL JOIN account_balances b USING (account, unit)"
		"  WHERE s.debits IS DISTINCT FROM b.debits OR s.credits IS DISTINCT FROM b.credits"
		" UNION ALL SELECT 'sides of ' || unit FROM account_balances GROUP BY unit"
		"  HAVING sum(debits) <> sum(credits)"
		" UNION ALL SELECT 'order ' || order_id FROM order_state o FULL JOIN posted_sums p USING (order_id)"
		"  WHERE o.points IS DISTINCT FROM coalesce(p.points, 0)"
		"  OR o.order_credit_minor IS DISTINCT FROM coalesce(p.credit, 0)"
		" UNION ALL SELECT 'numbers of ' || order_id FROM postings GROUP BY order_id, kind"
		"  HAVING min(seq) <> 1 OR max(seq) <> count(*) OR min(amount) <= 0"
		" UNION ALL SELECT 'customer ' || customer_id FROM customer_points c FULL JOIN account_balances b"
		"  ON b.account = 'customer_points:' || c.customer_id"
		"  WHERE coalesce(b.account, '') LIKE 'customer_points:%' AND c.points IS DISTINCT FROM b.credits - "
		"b.debits"
		" UNION ALL SELECT 'partner ' || partner_id FROM partner_credit c FULL JOIN account_balances b"
		"  ON b.account = 'partner_payable:' || c.partner_id AND b.unit = c.currency"
		"  WHERE coalesce(b.account, '') LIKE 'partner_payable:%'"
		"  AND c.credit_minor IS DISTINCT FROM b.credits - b.debits)"
		" SELECT coalesce((SELECT string_agg(what, ', ') FROM (SELECT what FROM wrong LIMIT 5) x), '')",
		"");
}

void stage_check_postings(struct ledger_stage *t, const char *wanted)
{
	stage_check(
		t,
		"SELECT coalesce(string_agg(concat_ws(' ', order_id, kind, seq, unit, amount,"
		" debit_account || '>' || credit_account, coalesce(rule_id, '-') || '/' || coalesce(rule_version, 0),"
		" source_topic || '/' || source_partition || '/' || source_offset), E'\\n'"
		" ORDER BY order_id, kind, seq), '') FROM postings",
		wanted);
}
