/* The checks that are a statement each. */
#include "worker/audit/ledger_audit.h"

/* Both sides of each posting; `amount` below 0 swaps them. */
#define MOVEMENTS \
	"SELECT 2::smallint AS account_kind, partner_id AS account_id, 'PTS' COLLATE \"C\" AS unit," \
	" greatest(amount, 0) AS debit, greatest(-amount, 0) AS credit FROM posted WHERE kind = 1" \
	" UNION ALL SELECT 1::smallint, customer_id, 'PTS', greatest(-amount, 0), greatest(amount, 0) FROM posted WHERE kind = 1" \
	" UNION ALL SELECT 4::smallint, currency, currency, greatest(amount, 0), greatest(-amount, 0) FROM posted WHERE kind = 2" \
	" UNION ALL SELECT 3::smallint, partner_id, currency, greatest(-amount, 0), greatest(amount, 0) FROM posted WHERE kind = 2"

#define WELL_FORMED_ID(column) column " ~ '^[A-Za-z0-9._:-]{1,64}$'"
#define WELL_FORMED_CURRENCY(column) column " ~ '^[A-Z]{3}$' AND " column " <> 'PTS'"

static const struct table_check {
	const char *name;
	const char *noun;
	const char *examined; /* SELECT of one number */
	const char *wrong;    /* SELECT of key and reason, a row a finding */
} table_checks[] = {
	{"balances equal the sums of the postings", "accounts",
	 "SELECT count(*) FROM account_balances",
	 "SELECT account_name(account_kind, account_id) || ' ' || unit,"
	 " format('balance %s debits %s credits, postings %s debits %s credits',"
	 " coalesce(held.debits::text, 'no'), coalesce(held.credits::text, 'no'),"
	 " coalesce(moved.debits::text, 'no'), coalesce(moved.credits::text, 'no'))"
	 " FROM (SELECT account_kind, account_id, unit, sum(debit) AS debits, sum(credit) AS credits"
	 "       FROM (" MOVEMENTS ") m GROUP BY 1, 2, 3) moved"
	 " FULL JOIN (SELECT account_kind, account_id, unit, sum(debits) AS debits, sum(credits) AS credits"
	 "       FROM balances GROUP BY 1, 2, 3) held USING (account_kind, account_id, unit)"
	 " WHERE moved.debits IS DISTINCT FROM held.debits OR moved.credits IS DISTINCT FROM held.credits"},

	{"debits equal credits", "units",
	 "SELECT count(DISTINCT unit) FROM balances",
	 "SELECT 'unit ' || unit, format('%s debits, %s credits', sum(debits), sum(credits))"
	 " FROM balances GROUP BY unit HAVING sum(debits) <> sum(credits)"},

	{"orders equal the sums of their postings", "orders",
	 "SELECT count(*) FROM orders",
	 "SELECT 'order ' || order_id, CASE WHEN o.order_id IS NULL THEN 'has postings, but there is no such order'"
	 " ELSE format('%s points in %s postings and a credit of %s in %s, there are %s points in %s numbered to %s"
	 " and a credit of %s in %s numbered to %s', o.points, o.points_seq, o.order_credit_minor, o.order_credit_seq,"
	 " p.points, p.points_count, p.points_seq, p.credit, p.credit_count, p.credit_seq) END"
	 " FROM orders o FULL JOIN (SELECT order_id,"
	 " coalesce(sum(amount) FILTER (WHERE kind = 1), 0) AS points,"
	 " count(*) FILTER (WHERE kind = 1) AS points_count, coalesce(max(seq) FILTER (WHERE kind = 1), 0) AS points_seq,"
	 " coalesce(sum(amount) FILTER (WHERE kind = 2), 0) AS credit,"
	 " count(*) FILTER (WHERE kind = 2) AS credit_count, coalesce(max(seq) FILTER (WHERE kind = 2), 0) AS credit_seq"
	 " FROM posted GROUP BY order_id) p USING (order_id)"
	 " WHERE o.order_id IS NULL"
	 " OR (o.points, o.points_seq, o.points_seq, o.order_credit_minor, o.order_credit_seq, o.order_credit_seq)"
	 " IS DISTINCT FROM (coalesce(p.points, 0), coalesce(p.points_count, 0), coalesce(p.points_seq, 0),"
	 " coalesce(p.credit, 0), coalesce(p.credit_count, 0), coalesce(p.credit_seq, 0))"},

	{"kinds of postings and accounts are known", "postings and balances",
	 "SELECT (SELECT count(*) FROM posted) + (SELECT count(*) FROM balances)",
	 "SELECT format('order %s kind %s seq %s', order_id, kind, seq), 'a kind of posting that this version does not know'"
	 " FROM posted WHERE kind NOT IN (1, 2)"
	 " UNION ALL SELECT format('account kind %s of %s', account_kind, account_id),"
	 " 'a kind of account that this version does not know' FROM balances WHERE account_kind NOT BETWEEN 1 AND 4"},

	{"postings carry their order's parties", "postings",
	 "SELECT count(*) FROM posted",
	 "SELECT format('order %s kind %s seq %s', order_id, p.kind, p.seq),"
	 " 'partner, customer or currency is not the order''s'"
	 " FROM posted p JOIN orders o USING (order_id)"
	 " WHERE p.partner_id IS DISTINCT FROM o.partner_id"
	 " OR (p.kind = 1 AND p.customer_id IS DISTINCT FROM o.customer_id)"
	 " OR (p.kind = 2 AND p.currency IS DISTINCT FROM o.currency)"},

	{"points name a rule that may price the order", "postings",
	 "SELECT count(*) FROM posted WHERE kind = 1",
	 "SELECT format('order %s kind %s seq %s', p.order_id, p.kind, p.seq),"
	 " CASE WHEN p.rule_id IS NULL THEN 'points are earned without a rule'"
	 " WHEN r.rule_id IS NULL THEN format('there is no version %s of rule %s', p.rule_version, p.rule_id)"
	 " ELSE format('version %s of rule %s is for another partner or currency', p.rule_version, p.rule_id) END"
	 " FROM posted p JOIN orders o USING (order_id)"
	 " LEFT JOIN rules r ON r.rule_id = p.rule_id AND r.version = p.rule_version"
	 " WHERE p.kind = 1 AND CASE WHEN p.rule_id IS NULL THEN p.amount > 0 OR p.rule_version IS NOT NULL"
	 " ELSE r.rule_id IS NULL OR r.partner_id <> p.partner_id OR r.currency <> o.currency END"},

	{"postings come from partitions that were assigned", "partitions",
	 "SELECT count(DISTINCT (source_topic, source_partition)) FROM posted",
	 "SELECT format('%s[%s]', source_topic, source_partition), format('%s postings, and no progress', count(*))"
	 " FROM posted p WHERE source_offset < 0 OR NOT EXISTS (SELECT FROM progress g WHERE g.topic = p.source_topic"
	 " AND g.partition = p.source_partition) GROUP BY source_topic, source_partition"},

	{"progress is well-formed", "partitions",
	 "SELECT count(*) FROM progress",
	 "SELECT format('%s %s[%s]', consumer_group, topic, partition), 'names no group, topic or partition'"
	 " FROM progress WHERE consumer_group = '' OR topic = '' OR partition < 0 OR NOT isfinite(updated_at)"},

	{"rules are well-formed", "rule versions",
	 "SELECT count(*) FROM rules",
	 "SELECT format('rule %s version %s', rule_id, version), CASE"
	 " WHEN version <> nth THEN 'versions are not numbered from 1 without gaps'"
	 " WHEN revision <= earlier THEN 'it is not newer than the version before'"
	 " ELSE 'terms that no rule file can bring' END"
	 " FROM (SELECT *, row_number() OVER same AS nth, lag(revision, 1, 0::bigint) OVER same AS earlier FROM rules"
	 "       WINDOW same AS (PARTITION BY rule_id ORDER BY version)) r"
	 " WHERE version <> nth OR revision <= earlier OR NOT coalesce(" WELL_FORMED_ID("rule_id") ", false)"
	 " OR NOT coalesce(" WELL_FORMED_ID("partner_id") ", true) OR NOT coalesce(" WELL_FORMED_CURRENCY("currency") ", true)"
	 " OR valid_to <= valid_from OR (kind = 2 AND per_minor <> 1)"},

	{"partner settings are well-formed", "partners",
	 "SELECT count(*) FROM partners",
	 "SELECT 'partner ' || partner_id, 'settings that no rule file can bring' FROM partners"
	 " WHERE NOT " WELL_FORMED_ID("partner_id") " OR per_second > 1000000 OR burst NOT BETWEEN 1 AND 1000000 OR revision < 1"},

	{"history is one row and knows the newest rules", "rows",
	 "SELECT count(*) FROM history",
	 "SELECT 'history', CASE WHEN count(only_row) <> 1 THEN format('%s rows', count(only_row))"
	 " ELSE format('rules_revision is %s, the newest rule or partner setting is of %s', max(rules_revision), max(newest)) END"
	 " FROM history FULL JOIN (SELECT greatest((SELECT max(revision) FROM rules), (SELECT max(revision) FROM partners),"
	 " 0) AS newest) n ON true HAVING count(only_row) <> 1 OR max(rules_revision) <> max(newest)"},

	{"schema versions have no gaps", "migrations",
	 "SELECT count(*) FROM schema_version",
	 "SELECT 'version ' || version, 'a migration before it is missing' FROM"
	 " (SELECT version, row_number() OVER (ORDER BY version) AS nth FROM schema_version) v WHERE version <> nth"},
};

static enum pg_result run_check(struct pg *pg, const struct table_check *c, struct audit_report *report)
{
	struct pg_rows *rows = NULL;
	audit_check_begin(report, c->name, c->noun);
	enum pg_result result = pg_query(pg, c->examined, NULL, &rows);
	if (result != PG_OK)
		return result;
	audit_examined(report, (uint64_t)pg_integer(rows, 0, 0));
	pg_rows_free(rows);

	struct buf sql = BUF_INIT;
	buf_printf(&sql, "SELECT key, what, count(*) OVER () FROM (%s) wrong (key, what) ORDER BY key LIMIT %d", c->wrong,
	           AUDIT_SHOWN_MAX);
	result = pg_query(pg, sql.data, NULL, &rows);
	buf_release(&sql);
	if (result != PG_OK)
		return result;
	size_t shown = pg_rows_count(rows);
	for (size_t row = 0; row < shown; row++) {
		struct slice key = pg_text(rows, row, 0), what = pg_text(rows, row, 1);
		audit_wrong(report, "%.*s: %.*s", (int)key.len, key.data, (int)what.len, what.data);
	}
	if (shown)
		audit_wrong_more(report, (uint64_t)pg_integer(rows, 0, 2) - shown);
	pg_rows_free(rows);
	return PG_OK;
}

enum pg_result ledger_audit_tables(struct pg *pg, struct audit_report *report)
{
	for (size_t i = 0; i < sizeof(table_checks) / sizeof(table_checks[0]); i++) {
		enum pg_result result = run_check(pg, &table_checks[i], report);
		if (result != PG_OK)
			return result;
	}
	return PG_OK;
}
