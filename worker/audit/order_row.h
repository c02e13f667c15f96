/*
 * A row of table orders, read by commands. Rows may have been tampered with: reading accepts any, and
 * says what the worker would never have written. A code that this version does not know is kept as it is.
 * Pure. Slices are the result's.
 */
#ifndef WORKER_AUDIT_ORDER_ROW_H
#define WORKER_AUDIT_ORDER_ROW_H

#include "worker/audit/recompute.h"
#include "worker/ledger/order_columns.h"
#include "worker/ledger/pg.h"

/* In the order of order_row_read; a statement's own columns go behind them. */
#define ORDER_ROW_LISTED(symbol, column, type, kind, field) ", o." #column
#define ORDER_ROW_COLUMNS \
	"o.updated_at" ORDER_COLUMNS(ORDER_ROW_LISTED) ", o.first_topic, o.first_partition, o.first_offset"
#define ORDER_ROW_ONE(symbol, column, type, kind, field) +1
enum { ORDER_ROW_COLUMN_COUNT = 4 ORDER_COLUMNS(ORDER_ROW_ONE) };

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
