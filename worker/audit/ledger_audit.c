#include "worker/audit/ledger_audit.h"

#include <inttypes.h>

/* About 4 MB of orders at a time. */
#define FETCH "FETCH 10000 FROM audited"

enum pg_result ledger_audit_begin(struct pg *pg)
{
	return pg_query(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NULL, NULL);
}

enum pg_result ledger_audit_stream(struct pg *pg, const char *select, ledger_audit_visit *visit, void *owner)
{
	struct buf sql = BUF_INIT;
	buf_printf(&sql, "DECLARE audited NO SCROLL CURSOR FOR %s", select);
	enum pg_result result = pg_query(pg, sql.data, NULL, NULL);
	buf_release(&sql);
	for (size_t count = 1; result == PG_OK && count > 0;) {
		struct pg_rows *rows = NULL;
		result = pg_query(pg, FETCH, NULL, &rows);
		if (result != PG_OK)
			return result;
		count = pg_rows_count(rows);
		for (size_t row = 0; row < count; row++)
			visit(owner, rows, row);
		pg_rows_free(rows);
	}
	return result == PG_OK ? pg_query(pg, "CLOSE audited", NULL, NULL) : result;
}

struct pricing_check {
	const struct rules *rules;
	struct audit_report *report;
};

static void check_order(void *owner, const struct pg_rows *rows, size_t row)
{
	struct pricing_check *c = owner;
	struct order_row o;
	struct order_due due;
	audit_examined(c->report, 1);
	const char *fault = order_row_read(rows, row, &o);
	if (!fault)
		fault = order_state_due(&o.state, &o.terms, c->rules, &due);
	if (fault) {
		audit_wrong(c->report, "order %.*s: %s", (int)o.order_id.len, o.order_id.data, fault);
		return;
	}
	if (due.points != o.points || due.order_credit_minor != o.order_credit_minor)
		audit_wrong(c->report,
		            "order %.*s: its facts and terms call for %" PRId64 " points and a credit of %" PRId64
		            ", posted are %" PRId64 " and %" PRId64,
		            (int)o.order_id.len, o.order_id.data, due.points, due.order_credit_minor, o.points,
		            o.order_credit_minor);
}

enum pg_result ledger_audit_run(struct pg *pg, const struct rules *rules, struct audit_report *report)
{
	enum pg_result result = ledger_audit_tables(pg, report);
	if (result != PG_OK)
		return result;
	struct pricing_check c = {rules, report};
	audit_check_begin(report, "postings equal what facts and terms call for", "orders");
	return ledger_audit_stream(pg, "SELECT " ORDER_ROW_COLUMNS " FROM orders o", check_order, &c);
}
