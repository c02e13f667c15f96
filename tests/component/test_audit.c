/*
 * worker/audit against a real server: a small ledger that is right, and the same with one row corrupted, for
 * every table and column in which a corruption can be told from the other rows.
 */
#include "worker/audit/ledger_audit.h"

#include "tests/lib/private_postgres.c"
#include "worker/ledger/migrate.h"
#include "worker/ledger/rules_store.h"

#include <check.h>

static struct private_postgres server;

/* o-1 stands; o-2 was delivered, then cancelled; o-3 is priced by its partner's own rule, points alone; o-4 is under
 * way; o-5 was refunded in part; o-6 was delivered before there were rules. */
static const char fixture[] =
	"INSERT INTO rules (rule_id, version, kind, points, per_minor, multiplier_bp, min_order_minor,"
	" max_points_per_order, partner_id, currency, valid_from, valid_to, revision) VALUES"
	" ('base', 1, 1, 1, 100, 10000, 0, NULL, NULL, NULL, NULL, NULL, 1),"
	" ('base', 2, 1, 2, 100, 10000, 0, NULL, NULL, NULL, '2025-01-01Z', NULL, 3),"
	" ('launch', 1, 2, 50, 1, 10000, 0, NULL, 'p7', 'BRL', NULL, '2025-01-01Z', 2);"
	"INSERT INTO partners (partner_id, kinds, revision) VALUES ('p7', 1, 2);"
	"UPDATE history SET rules_revision = 3;"
	"INSERT INTO progress VALUES ('delivery-worker', 'delivery-events', 0, 100, 1, now()),"
	" ('delivery-worker', 'delivery-events', 1, 100, 2, now());"
	"INSERT INTO orders (order_id, rev, progress, outcome, outcome_at, amount_minor, amount_at, refunded_total_minor,"
	" customer_id, partner_id, currency, driver_id, driver_at, pinned_at, pinned_rule_id, pinned_rule_version,"
	" pinned_kinds, points, points_seq, order_credit_minor, order_credit_seq, first_topic, first_partition,"
	" first_offset, updated_at) VALUES"
	" ('o-1', 2, 80, 80, '2024-05-01 12:00Z', 7289, '2024-05-01 11:00Z', 0, 'c1', 'p1', 'BRL', 'd1', '2024-05-01Z',"
	"  '2024-05-01 12:00Z', 'base', 1, 3, 72, 1, 7289, 1, 'delivery-events', 0, 0, now()),"
	" ('o-2', 3, 90, 90, '2024-05-02 13:00Z', 1000, '2024-05-02 11:00Z', 0, 'c2', 'p1', 'BRL', NULL, NULL,"
	"  '2024-05-02 12:00Z', 'base', 1, 3, 0, 2, 0, 2, 'delivery-events', 0, 3, now()),"
	" ('o-3', 1, 80, 80, '2024-05-03 12:00Z', 500, '2024-05-03 12:00Z', 0, 'c1', 'p7', 'BRL', NULL, NULL,"
	"  '2024-05-03 12:00Z', 'launch', 1, 1, 50, 1, 0, 0, 'delivery-events', 1, 4, now()),"
	" ('o-4', 1, 40, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0,"
	"  'delivery-events', 1, 5, now()),"
	" ('o-5', 2, 80, 80, '2024-05-05 12:00Z', 7289, '2024-05-05 12:00Z', 3000, 'c2', 'p1', 'BRL', NULL, NULL,"
	"  '2024-05-05 12:00Z', 'base', 1, 3, 42, 2, 4289, 2, 'delivery-events', 1, 6, now()),"
	" ('o-6', 1, 80, 80, '2024-05-06 12:00Z', 300, '2024-05-06 12:00Z', 0, 'c2', 'p1', 'EUR', NULL, NULL,"
	"  '2024-05-06 12:00Z', NULL, NULL, 3, 0, 0, 300, 1, 'delivery-events', 1, 8, now());"
	"INSERT INTO posted (order_id, kind, seq, amount, partner_id, customer_id, currency, rule_id, rule_version,"
	" source_topic, source_partition, source_offset, posted_at) VALUES"
	" ('o-1', 1, 1, 72, 'p1', 'c1', NULL, 'base', 1, 'delivery-events', 0, 1, now()),"
	" ('o-1', 2, 1, 7289, 'p1', NULL, 'BRL', NULL, NULL, 'delivery-events', 0, 1, now()),"
	" ('o-2', 1, 1, 10, 'p1', 'c2', NULL, 'base', 1, 'delivery-events', 0, 3, now()),"
	" ('o-2', 2, 1, 1000, 'p1', NULL, 'BRL', NULL, NULL, 'delivery-events', 0, 3, now()),"
	" ('o-2', 1, 2, -10, 'p1', 'c2', NULL, 'base', 1, 'delivery-events', 0, 4, now()),"
	" ('o-2', 2, 2, -1000, 'p1', NULL, 'BRL', NULL, NULL, 'delivery-events', 0, 4, now()),"
	" ('o-3', 1, 1, 50, 'p7', 'c1', NULL, 'launch', 1, 'delivery-events', 1, 4, now()),"
	" ('o-5', 1, 1, 72, 'p1', 'c2', NULL, 'base', 1, 'delivery-events', 1, 6, now()),"
	" ('o-5', 2, 1, 7289, 'p1', NULL, 'BRL', NULL, NULL, 'delivery-events', 1, 6, now()),"
	" ('o-5', 1, 2, -30, 'p1', 'c2', NULL, 'base', 1, 'delivery-events', 1, 7, now()),"
	" ('o-5', 2, 2, -3000, 'p1', NULL, 'BRL', NULL, NULL, 'delivery-events', 1, 7, now()),"
	" ('o-6', 2, 1, 300, 'p1', NULL, 'EUR', NULL, NULL, 'delivery-events', 1, 8, now());"
	/* Spread over slots, as a worker's batches do. */
	"INSERT INTO balances VALUES"
	" (1, 'c1', 'PTS', 0, 0, 122), (1, 'c2', 'PTS', 0, 40, 82),"
	" (2, 'p1', 'PTS', 0, 82, 10), (2, 'p1', 'PTS', 1, 72, 30), (2, 'p7', 'PTS', 0, 50, 0),"
	" (3, 'p1', 'BRL', 0, 1000, 8289), (3, 'p1', 'BRL', 1, 3000, 7289), (3, 'p1', 'EUR', 0, 0, 300),"
	" (4, 'BRL', 'BRL', 0, 15578, 4000), (4, 'EUR', 'EUR', 0, 300, 0);";

static struct pg *open_session(void)
{
	const struct pg_settings settings = {.dsn = server.dsn, .schema = "delivery", .connect_timeout_ms = 5000,
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

static void ignore_step(void *owner, enum migrate_step step, int version, const char *name)
{
	(void)owner, (void)step, (void)version, (void)name;
}

static struct pg *fresh_ledger(void)
{
	struct pg *pg = open_session();
	int before, after;
	run(pg, "DROP SCHEMA IF EXISTS delivery CASCADE");
	ck_assert_msg(ledger_migrate(pg, "delivery", 5000, ignore_step, NULL, &before, &after) == PG_OK, "%s", pg_error(pg));
	run(pg, fixture);
	return pg;
}

static struct audit_report *audit(struct pg *pg)
{
	struct audit_report *report = audit_report_new();
	struct rules *rules = NULL;
	ck_assert_int_eq(ledger_audit_begin(pg), PG_OK);
	ck_assert_int_eq(rules_store_load(pg, INT64_MAX, &rules), PG_OK);
	enum pg_result result = ledger_audit_run(pg, rules, report);
	ck_assert_msg(result == PG_OK, "%s", pg_error(pg));
	ck_assert_int_eq(pg_rollback(pg), PG_OK);
	rules_unref(rules);
	return report;
}

START_TEST(test_audit__a_right_ledger_passes)
{
	struct pg *pg = fresh_ledger();
	struct audit_report *report = audit(pg);
	struct buf text = BUF_INIT;
	audit_report_text(report, &text);
	ck_assert_msg(audit_report_clean(report) && !strstr(text.data, "WRONG"), "%s", text.data);
	/* It looked at what is there. */
	ck_assert_msg(strstr(text.data, "ok     balances equal the sums of the postings (8 accounts)\n") != NULL, "%s", text.data);
	ck_assert_msg(strstr(text.data, "ok     debits equal credits (3 units)\n") != NULL, "%s", text.data);
	ck_assert_msg(strstr(text.data, "call for (6 orders)\n") != NULL, "%s", text.data);
	buf_release(&text);
	audit_report_free(report);
	pg_close(pg);
}
END_TEST

static const struct corruption {
	const char *sql;
	const char *finding; /* in the text: the key of the row */
} corruptions[] = {
	{"UPDATE balances SET credits = credits + 1 WHERE account_id = 'c1'", "customer_points:c1 PTS: balance 0 debits 123"},
	{"UPDATE balances SET debits = debits - 1 WHERE account_kind = 2 AND slot = 1", "partner_points:p1 PTS"},
	{"UPDATE balances SET debits = debits + 1, credits = credits + 1 WHERE account_kind = 4 AND unit = 'EUR'", "clearing:EUR EUR"},
	{"DELETE FROM balances WHERE account_id = 'p7'", "partner_points:p7 PTS: balance no debits"},
	{"INSERT INTO balances VALUES (3, 'p9', 'BRL', 0, 0, 0)", "partner_payable:p9 BRL"},
	{"UPDATE balances SET unit = 'USD' WHERE unit = 'EUR' AND account_kind = 3", "unit USD: 0 debits, 300 credits"},

	{"UPDATE posted SET amount = 73 WHERE order_id = 'o-1' AND kind = 1", "order o-1: 72 points in 1 postings"},
	{"UPDATE posted SET amount = -amount WHERE order_id = 'o-6'", "order o-6: "},
	{"DELETE FROM posted WHERE order_id = 'o-5' AND seq = 1 AND kind = 1", "order o-5: 42 points in 2 postings"},
	{"UPDATE posted SET seq = 3 WHERE order_id = 'o-2' AND kind = 2 AND seq = 2", "numbered to 3"},
	{"UPDATE posted SET order_id = 'o-9' WHERE order_id = 'o-6'", "order o-9: has postings"},
	{"UPDATE posted SET partner_id = 'p2' WHERE order_id = 'o-6'", "order o-6 kind 2 seq 1: partner"},
	{"UPDATE posted SET customer_id = 'c2' WHERE order_id = 'o-1' AND kind = 1", "order o-1 kind 1 seq 1: partner"},
	{"UPDATE posted SET currency = 'BRL' WHERE order_id = 'o-6'", "order o-6 kind 2 seq 1: partner"},
	{"UPDATE posted SET rule_version = 9 WHERE order_id = 'o-1' AND kind = 1", "no version 9 of rule base"},
	{"UPDATE posted SET rule_id = 'launch' WHERE order_id = 'o-1' AND kind = 1", "rule launch is for another"},
	{"UPDATE posted SET rule_id = NULL, rule_version = NULL WHERE order_id = 'o-3'", "order o-3 kind 1 seq 1: points are earned without"},
	{"UPDATE posted SET source_partition = 7 WHERE order_id = 'o-3'", "delivery-events[7]: 1 postings"},

	{"DELETE FROM progress WHERE partition = 0", "delivery-events[0]: 6 postings"},
	{"UPDATE progress SET topic = '' WHERE partition = 0", "delivery-worker [0]: "},
	{"UPDATE progress SET partition = -1 WHERE partition = 0", "delivery-events[-1]"},

	{"UPDATE orders SET points = 73 WHERE order_id = 'o-1'", "order o-1: 73 points in 1 postings"},
	{"UPDATE orders SET order_credit_seq = 2 WHERE order_id = 'o-1'", "order o-1: 72 points in 1 postings and a credit of 7289 in 2"},
	{"UPDATE orders SET amount_minor = 7300 WHERE order_id = 'o-1'", "order o-1: its facts and terms call for 73 points and a credit of 7300, posted are 72"},
	{"UPDATE orders SET refunded_total_minor = 1 WHERE order_id = 'o-6'", "order o-6: its facts"},
	{"UPDATE orders SET outcome = 100, progress = 100 WHERE order_id = 'o-3'", "order o-3: its facts"},
	{"UPDATE orders SET outcome = 80 WHERE order_id = 'o-2'", "order o-2: it can earn, and no terms are pinned"},
	{"UPDATE orders SET outcome_at = outcome_at + interval '1s' WHERE order_id = 'o-6'", "order o-6: it can earn, and no terms"},
	{"UPDATE orders SET outcome = NULL WHERE order_id = 'o-1'", "order o-1: outcome without its time"},
	{"UPDATE orders SET outcome = NULL, outcome_at = NULL WHERE order_id = 'o-1'", "order o-1: progress is decisive"},
	{"UPDATE orders SET outcome = 40 WHERE order_id = 'o-1'", "order o-1: outcome is no decisive"},
	{"UPDATE orders SET progress = 70 WHERE order_id = 'o-1'", "order o-1: outcome is beyond progress"},
	{"UPDATE orders SET progress = 81 WHERE order_id = 'o-1'", "order o-1: progress is no status that this version knows"},
	{"UPDATE orders SET progress = 85 WHERE order_id = 'o-4'", "order o-4: progress is decisive"},
	{"UPDATE orders SET amount_at = NULL WHERE order_id = 'o-2'", "order o-2: amount, its time"},
	{"UPDATE orders SET currency = 'EUR' WHERE order_id = 'o-3'", "order o-3: the rule version that is pinned was not eligible"},
	{"UPDATE orders SET currency = 'PTS' WHERE order_id = 'o-1'", "order o-1: currency is none"},
	{"UPDATE orders SET currency = 'BRLX' WHERE order_id = 'o-1'", "order o-1: currency is none"},
	{"UPDATE orders SET customer_id = 'c3' WHERE order_id = 'o-1'", "order o-1 kind 1 seq 1: partner"},
	{"UPDATE orders SET customer_id = NULL WHERE order_id = 'o-3'", "order o-3: its facts and terms call for 0 points"},
	{"UPDATE orders SET partner_id = 'p9' WHERE order_id = 'o-2'", "order o-2 kind 1 seq 1: partner"},
	{"UPDATE orders SET customer_id = 'c 4' WHERE order_id = 'o-4'", "order o-4: an id that no event"},
	{"UPDATE orders SET points_seq = 2 WHERE order_id = 'o-1'", "order o-1: 72 points in 2 postings"},
	{"UPDATE orders SET order_credit_minor = 7290 WHERE order_id = 'o-1'", "order o-1: 72 points in 1 postings and a credit of 7290"},
	{"UPDATE orders SET driver_id = NULL WHERE order_id = 'o-1'", "order o-1: driver_id"},
	{"UPDATE orders SET driver_at = NULL WHERE order_id = 'o-1'", "order o-1: driver_id"},
	{"UPDATE orders SET pinned_rule_version = 2 WHERE order_id = 'o-1'", "order o-1: the rule version that is pinned was not eligible"},
	{"UPDATE orders SET pinned_rule_version = 3 WHERE order_id = 'o-1'", "order o-1: the rule version that is pinned does not exist"},
	{"UPDATE orders SET pinned_rule_id = NULL WHERE order_id = 'o-1'", "order o-1: the pin has only some"},
	{"UPDATE orders SET pinned_rule_id = NULL, pinned_rule_version = NULL WHERE order_id = 'o-1'", "order o-1: its facts and terms call for 0 points"},
	{"UPDATE orders SET pinned_kinds = 3 WHERE order_id = 'o-3'", "order o-3: its facts and terms call for 50 points and a credit of 500"},
	{"UPDATE orders SET pinned_kinds = 7 WHERE order_id = 'o-2'", "order o-2: pinned_kinds"},
	{"UPDATE orders SET pinned_kinds = 259 WHERE order_id = 'o-2'", "order o-2: pinned_kinds"},
	{"UPDATE orders SET outcome = 82, progress = 82 WHERE order_id = 'o-1'", "order o-1: progress is no status that this version knows"},
	{"ALTER TABLE posted DROP CONSTRAINT posted_kind_check; UPDATE posted SET kind = 3 WHERE order_id = 'o-6'",
	 "order o-6 kind 3 seq 1: a kind of posting that this version does not know"},
	{"ALTER TABLE balances DROP CONSTRAINT balances_account_kind_check; UPDATE balances SET account_kind = 5 WHERE"
	 " account_id = 'c1'", "account kind 5 of c1: a kind of account that this version does not know"},
	{"UPDATE orders SET pinned_at = NULL WHERE order_id = 'o-2'", "order o-2: the pin has only some"},
	{"UPDATE orders SET rev = 0 WHERE order_id = 'o-4'", "order o-4: rev"},
	{"UPDATE orders SET first_offset = NULL WHERE order_id = 'o-4'", "order o-4: the record that first"},
	{"UPDATE orders SET order_id = 'o-10' WHERE order_id = 'o-1'", "order o-1: has postings"},
	{"DELETE FROM orders WHERE order_id = 'o-3'", "order o-3: has postings"},

	{"UPDATE rules SET points = 2 WHERE version = 1 AND rule_id = 'base'", "order o-1: its facts and terms call for 145"},
	{"UPDATE rules SET max_points_per_order = 41 WHERE version = 1 AND rule_id = 'base'", "order o-5: its facts and terms call for 41"},
	{"UPDATE rules SET partner_id = 'p8' WHERE rule_id = 'launch'", "order o-3: the rule version that is pinned was not eligible"},
	{"UPDATE rules SET valid_to = '2024-05-03 12:00Z' WHERE rule_id = 'launch'", "order o-3: the rule version that is pinned was not eligible"},
	{"UPDATE rules SET version = 3 WHERE version = 2", "rule base version 3: versions are not numbered"},
	{"UPDATE rules SET revision = 1 WHERE version = 2", "rule base version 2: it is not newer"},
	{"UPDATE rules SET currency = 'brl' WHERE rule_id = 'launch'", "rule launch version 1: terms"},
	{"UPDATE rules SET valid_from = valid_to WHERE rule_id = 'launch'", "rule launch version 1: terms"},
	{"UPDATE rules SET per_minor = 2 WHERE rule_id = 'launch'", "rule launch version 1: terms"},
	{"DELETE FROM rules WHERE rule_id = 'launch'", "order o-3 kind 1 seq 1: there is no version 1 of rule launch"},

	{"UPDATE partners SET partner_id = 'p 7'", "partner p 7: settings"},
	{"UPDATE partners SET burst = 0", "partner p7: settings"},
	{"UPDATE partners SET revision = 9", "history: rules_revision is 3, the newest rule or partner setting is of 9"},
	{"UPDATE history SET rules_revision = 4", "history: rules_revision is 4"},
	{"DELETE FROM history", "history: 0 rows"},
	{"UPDATE schema_version SET version = 9 WHERE version = 1", "version "},
};

START_TEST(test_audit__names_the_row_that_is_corrupted)
{
	const struct corruption *c = &corruptions[_i];
	struct pg *pg = fresh_ledger();
	run(pg, c->sql);
	struct audit_report *report = audit(pg);
	struct buf text = BUF_INIT;
	audit_report_text(report, &text);
	ck_assert_msg(!audit_report_clean(report), "not seen: %s", c->sql);
	ck_assert_msg(strstr(text.data, c->finding) != NULL, "%s: wanted '%s' in\n%s", c->sql, c->finding, text.data);
	buf_release(&text);
	audit_report_free(report);
	pg_close(pg);
}
END_TEST

/* A column that an order gets is one that the auditor has to read. */
START_TEST(test_audit__each_column_of_an_order_is_corrupted_above)
{
#define COLUMN_NAME(symbol, column, type, kind, field) #column,
	static const char *const columns[] = {ORDER_COLUMNS(COLUMN_NAME)};
	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		char set[64], also[64];
		bool corrupted = false;
		snprintf(set, sizeof(set), "UPDATE orders SET %s = ", columns[i]);
		snprintf(also, sizeof(also), ", %s = ", columns[i]);
		for (size_t k = 0; k < sizeof(corruptions) / sizeof(corruptions[0]); k++)
			corrupted |= strncmp(corruptions[k].sql, set, strlen(set)) == 0 ||
			             (strncmp(corruptions[k].sql, set, strlen("UPDATE orders")) == 0 && strstr(corruptions[k].sql, also));
		ck_assert_msg(corrupted, "nobody corrupts %s", columns[i]);
	}
}
END_TEST

START_TEST(test_audit__many_findings_are_counted)
{
	struct pg *pg = fresh_ledger();
	run(pg, "INSERT INTO balances SELECT 1, 'x' || n, 'PTS', 0, 0, 0 FROM generate_series(1, 25) n;"
	        "INSERT INTO orders SELECT 'y' || n, 0, 0, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"
	        " NULL, NULL, 0, 0, 0, 0, 't', 0, 0, now() FROM generate_series(1, 20025) n");
	struct audit_report *report = audit(pg);
	struct buf text = BUF_INIT;
	audit_report_text(report, &text);
	ck_assert_msg(strstr(text.data, "postings: 25 of 33 accounts\n") && strstr(text.data, "and 5 more\n"), "%s", text.data);
	/* Beyond one FETCH. */
	ck_assert_msg(strstr(text.data, "call for: 20025 of 20031 orders\n") && strstr(text.data, "and 20005 more\n"), "%s",
	              text.data);
	buf_release(&text);
	audit_report_free(report);
	pg_close(pg);
}
END_TEST

/* Whatever is committed while it runs: an audit is of one moment. */
START_TEST(test_audit__is_of_one_snapshot)
{
	struct pg *pg = fresh_ledger(), *other = open_session();
	struct audit_report *report = audit_report_new();
	struct rules *rules = NULL;
	ck_assert_int_eq(ledger_audit_begin(pg), PG_OK);
	ck_assert_int_eq(rules_store_load(pg, INT64_MAX, &rules), PG_OK);
	run(other, "UPDATE balances SET credits = credits + 1 WHERE account_id = 'c1'; UPDATE orders SET points = 1");
	ck_assert_int_eq(ledger_audit_run(pg, rules, report), PG_OK);
	ck_assert(audit_report_clean(report));
	rules_unref(rules);
	audit_report_free(report);
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
	Suite *suite = suite_create("audit");
	TCase *c = tcase_create("audit");
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_audit__a_right_ledger_passes);
	tcase_add_loop_test(c, test_audit__names_the_row_that_is_corrupted, 0,
	                    (int)(sizeof(corruptions) / sizeof(corruptions[0])));
	tcase_add_test(c, test_audit__each_column_of_an_order_is_corrupted_above);
	tcase_add_test(c, test_audit__many_findings_are_counted);
	tcase_add_test(c, test_audit__is_of_one_snapshot);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
