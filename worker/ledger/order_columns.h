/*
 * The columns of table orders that a worker reads and writes, each once. Statements, parameters, reading and writing are
 * made of this table (store_begin.c, store_commit.c); the auditor takes the names of it, and reads them in its own way.
 *
 *     X(SYMBOL, column, TYPE, KIND, field)
 *
 *     TYPE   of the column: enum pg_type without PG_
 *     KIND   how the column and the field of struct order become each other:
 *            KEY       the id, which the row is found by
 *            REVISION  a number that each write counts up
 *            TEXT      absent is NULL
 *            NUMBER    never NULL
 *            AMOUNT    -1 is NULL
 *            VERSION   0 is NULL
 *            TIME      TIME_NONE is NULL
 *            PROGRESS  a status, never NULL
 *            OUTCOME   a decisive status; STATUS_NONE is NULL
 *            CURRENCY  "" is NULL
 *            KINDS     NULL where nothing is pinned
 *            A status, a currency or kinds that are none of ours make the order another version's [I14].
 */
#ifndef WORKER_LEDGER_ORDER_COLUMNS_H
#define WORKER_LEDGER_ORDER_COLUMNS_H

#define ORDER_COLUMNS(X) \
	X(ORDER_ID, order_id, TEXT, KEY, order_id) \
	X(REV, rev, INT8, REVISION, rev) \
	X(PROGRESS, progress, INT2, PROGRESS, facts.progress) \
	X(OUTCOME, outcome, INT2, OUTCOME, facts.outcome) \
	X(OUTCOME_AT, outcome_at, TIMESTAMPTZ, TIME, facts.outcome_at_us) \
	X(AMOUNT, amount_minor, INT8, AMOUNT, facts.amount_minor) \
	X(AMOUNT_AT, amount_at, TIMESTAMPTZ, TIME, facts.amount_at_us) \
	X(REFUNDED, refunded_total_minor, INT8, NUMBER, facts.refunded_total_minor) \
	X(CUSTOMER, customer_id, TEXT, TEXT, facts.customer_id) \
	X(PARTNER, partner_id, TEXT, TEXT, facts.partner_id) \
	X(CURRENCY, currency, TEXT, CURRENCY, facts.currency) \
	X(DRIVER, driver_id, TEXT, TEXT, facts.driver_id) \
	X(DRIVER_AT, driver_at, TIMESTAMPTZ, TIME, facts.driver_at_us) \
	X(PINNED_AT, pinned_at, TIMESTAMPTZ, TIME, pin.outcome_at_us) \
	X(PINNED_RULE, pinned_rule_id, TEXT, TEXT, pin.rule_id) \
	X(PINNED_VERSION, pinned_rule_version, INT4, VERSION, pin.rule_version) \
	X(PINNED_KINDS, pinned_kinds, INT2, KINDS, pin.kinds) \
	X(POINTS, points, INT8, NUMBER, points) \
	X(POINTS_SEQ, points_seq, INT8, NUMBER, points_seq) \
	X(CREDIT, order_credit_minor, INT8, NUMBER, order_credit_minor) \
	X(CREDIT_SEQ, order_credit_seq, INT8, NUMBER, order_credit_seq)

/* For an enum: the columns in this order, from where it stands. */
#define ORDER_COLUMN_SYMBOL(symbol, column, type, kind, field) symbol,
/* For a list in SQL, behind something else. */
#define ORDER_COLUMN_LISTED(symbol, column, type, kind, field) ", " #column

#endif
