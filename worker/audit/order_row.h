/*
 * A row of table orders, read by commands. Rows may have been tampered with: reading accepts any, and
 * says what the worker would never have written. A code that this version does not know is kept as it is.
 * Pure. Slices are the result's.
 */
#ifndef WORKER_AUDIT_ORDER_ROW_H
#define WORKER_AUDIT_ORDER_ROW_H

#include "worker/audit/recompute.h"
#include "worker/ledger/pg.h"

/* In the order of order_row_read; a statement's own columns go behind them. */
#define ORDER_ROW_COLUMNS \
	"o.order_id, o.rev, o.progress, o.outcome, o.outcome_at, o.amount_minor, o.amount_at, o.refunded_total_minor," \
	" o.customer_id, o.partner_id, o.currency, o.driver_id, o.driver_at, o.pinned_at, o.pinned_rule_id," \
	" o.pinned_rule_version, o.pinned_kinds, o.points, o.points_seq, o.order_credit_minor, o.order_credit_seq," \
	" o.first_topic, o.first_partition, o.first_offset, o.updated_at"
enum { ORDER_ROW_COLUMN_COUNT = 25 };

struct order_row {
	struct slice order_id;
	struct order_state state;
	struct order_terms terms;
	int64_t points;
	int64_t order_credit_minor;
	int64_t points_seq;
	int64_t order_credit_seq;
	struct slice first_topic; /* absent: unknown */
	int64_t first_partition;
	int64_t first_offset;
	int64_t updated_at_us;
};

/* Returns: NULL, or why no worker can have written the row; *out is filled with what can be understood. */
const char *order_row_read(const struct pg_rows *rows, size_t row, struct order_row *out);

#endif
