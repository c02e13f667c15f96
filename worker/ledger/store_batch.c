/* One batch's transaction: two round trips, a handful of set-based statements. */
#include "worker/ledger/store.h"

#include "worker/failpoint.h"
#include "worker/ledger/store_internal.h"

#include <stdlib.h>

#define ORDER_COLUMNS \
	"order_id, rev, progress, outcome, outcome_at, amount_minor, amount_at, refunded_total_minor," \
	" customer_id, partner_id, currency, driver_id, driver_at, pinned_at, pinned_rule_id," \
	" pinned_rule_version, pinned_kinds, points, points_seq, order_credit_minor, order_credit_seq"

enum order_column {
	ORDER_ID, REV, PROGRESS, OUTCOME, OUTCOME_AT, AMOUNT, AMOUNT_AT, REFUNDED, CUSTOMER, PARTNER, CURRENCY, DRIVER,
	DRIVER_AT, PINNED_AT, PINNED_RULE, PINNED_VERSION, PINNED_KINDS, POINTS, POINTS_SEQ, CREDIT, CREDIT_SEQ,
};

static const struct pg_statement begin = {"begin", "BEGIN"};
static const struct pg_statement commit = {"commit", "COMMIT"};

static const struct pg_statement check = {
	"check",
	"SELECT h.epoch, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) = h.timeline,"
	" h.rules_revision, w.batches"
	" FROM history h LEFT JOIN witnesses w ON w.id = $1::int8"};

/* In key order, which is the order of the caller's array. Locks are taken in that order, too. */
static const struct pg_statement read_orders = {
	"read_orders", "SELECT " ORDER_COLUMNS " FROM orders WHERE order_id = ANY($1::text[]) ORDER BY order_id"};
static const struct pg_statement lock_orders = {
	"lock_orders",
	"SELECT " ORDER_COLUMNS " FROM orders WHERE order_id = ANY($1::text[]) ORDER BY order_id FOR UPDATE"};

/*
 * The row lock of ON CONFLICT and the comparison of revisions are what makes `target - posted` right: the
 * difference was computed from the row at that revision and from no other.
 */
static const struct pg_statement write_orders = {
	"write_orders",
	"WITH written AS ("
	" INSERT INTO orders AS o (" ORDER_COLUMNS ", first_topic, first_partition, first_offset, updated_at)"
	" SELECT u.*, now() FROM unnest($1::text[], $2::int4[], $3::int2[], $4::int2[], $5::timestamptz[], $6::int8[],"
	" $7::timestamptz[], $8::int8[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[],"
	" $14::timestamptz[], $15::text[], $16::int4[], $17::int2[], $18::int8[], $19::int4[], $20::int8[], $21::int4[],"
	" $22::text[], $23::int4[], $24::int8[]) u"
	" ON CONFLICT (order_id) DO UPDATE SET rev = EXCLUDED.rev, progress = EXCLUDED.progress,"
	" outcome = EXCLUDED.outcome, outcome_at = EXCLUDED.outcome_at, amount_minor = EXCLUDED.amount_minor,"
	" amount_at = EXCLUDED.amount_at, refunded_total_minor = EXCLUDED.refunded_total_minor,"
	" customer_id = EXCLUDED.customer_id, partner_id = EXCLUDED.partner_id, currency = EXCLUDED.currency,"
	" driver_id = EXCLUDED.driver_id, driver_at = EXCLUDED.driver_at, pinned_at = EXCLUDED.pinned_at,"
	" pinned_rule_id = EXCLUDED.pinned_rule_id, pinned_rule_version = EXCLUDED.pinned_rule_version,"
	" pinned_kinds = EXCLUDED.pinned_kinds, points = EXCLUDED.points, points_seq = EXCLUDED.points_seq,"
	" order_credit_minor = EXCLUDED.order_credit_minor, order_credit_seq = EXCLUDED.order_credit_seq,"
	" updated_at = EXCLUDED.updated_at"
	" WHERE o.rev = EXCLUDED.rev - 1"
	" RETURNING 1)"
	" SELECT expect_rows((SELECT count(*) FROM written), $25::int8)"};

static const struct pg_statement write_postings = {
	"write_postings",
	"INSERT INTO posted (order_id, kind, seq, amount, partner_id, customer_id, currency, rule_id, rule_version,"
	" source_topic, source_partition, source_offset, posted_at)"
	" SELECT u.*, now() FROM unnest($1::text[], $2::int2[], $3::int4[], $4::int8[], $5::text[], $6::text[],"
	" $7::text[], $8::text[], $9::int4[], $10::text[], $11::int4[], $12::int8[]) u"};

static const struct pg_statement write_balances = {
	"write_balances",
	"INSERT INTO balances AS b (account_kind, account_id, unit, slot, debits, credits)"
	" SELECT * FROM unnest($1::int2[], $2::text[], $3::text[], $4::int2[], $5::numeric[], $6::numeric[])"
	" ON CONFLICT (account_kind, account_id, unit, slot) DO UPDATE"
	" SET debits = b.debits + EXCLUDED.debits, credits = b.credits + EXCLUDED.credits"};

static const struct pg_statement write_witness = {
	"write_witness",
	"WITH written AS (UPDATE witnesses SET batches = $2::int8, written_at = now()"
	" WHERE id = $1::int8 AND batches = $2::int8 - 1 RETURNING 1)"
	" SELECT expect_rows((SELECT count(*) FROM written), 1)"};

void store_rollback(struct store *s)
{
	pg_rows_free(s->orders);
	s->orders = NULL;
	if (!s->pg)
		return;
	if (pg_rollback(s->pg) != PG_OK) {
		pg_close(s->pg);
		s->pg = NULL;
	}
}

/* Receives `count` answers; the first error is the cause, those behind it only follow from it. */
static enum pg_result receive_all(struct store *s, int count, struct pg_rows **rows)
{
	enum pg_result first = PG_OK;
	for (int i = 0; i < count; i++) {
		struct pg_rows *ignored = NULL;
		enum pg_result r = pg_receive(s->pg, rows ? &rows[i] : &ignored);
		pg_rows_free(ignored);
		if (first != PG_OK)
			continue;
		first = r;
		if (r != PG_OK)
			snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
	}
	return first;
}

/* As store_failed, with the reason that receive_all kept, and without the transaction. */
static enum store_result batch_failed(struct store *s, enum pg_result r)
{
	char reason[sizeof(s->error)];
	memcpy(reason, s->error, sizeof(reason));
	enum store_result failed = store_failed(s, r);
	memcpy(s->error, reason, sizeof(reason));
	store_rollback(s);
	return failed;
}

static void fill_order(struct order *o, const struct pg_rows *rows, size_t row)
{
	struct facts *f = &o->facts;
	o->exists = true;
	o->rev = (int32_t)pg_integer(rows, row, REV);
	f->progress = status_from_rank((int)pg_integer(rows, row, PROGRESS));
	if (!pg_null(rows, row, OUTCOME)) {
		f->outcome = status_from_rank((int)pg_integer(rows, row, OUTCOME));
		f->outcome_at_us = pg_time(rows, row, OUTCOME_AT);
	}
	if (!pg_null(rows, row, AMOUNT)) {
		f->amount_minor = pg_integer(rows, row, AMOUNT);
		f->amount_at_us = pg_time(rows, row, AMOUNT_AT);
	}
	f->refunded_total_minor = pg_integer(rows, row, REFUNDED);
	f->customer_id = pg_text(rows, row, CUSTOMER);
	f->partner_id = pg_text(rows, row, PARTNER);
	struct slice currency = pg_text(rows, row, CURRENCY);
	if (currency.len == 3)
		memcpy(f->currency, currency.data, 3);
	f->driver_id = pg_text(rows, row, DRIVER);
	if (!pg_null(rows, row, DRIVER_AT))
		f->driver_at_us = pg_time(rows, row, DRIVER_AT);
	if (!pg_null(rows, row, PINNED_AT)) {
		o->pin.outcome_at_us = pg_time(rows, row, PINNED_AT);
		o->pin.rule_id = pg_text(rows, row, PINNED_RULE);
		o->pin.rule_version = pg_null(rows, row, PINNED_VERSION) ? 0 : (int32_t)pg_integer(rows, row, PINNED_VERSION);
		o->pin.kinds = (uint8_t)pg_integer(rows, row, PINNED_KINDS);
	}
	o->points = pg_integer(rows, row, POINTS);
	o->points_seq = (int32_t)pg_integer(rows, row, POINTS_SEQ);
	o->order_credit_minor = pg_integer(rows, row, CREDIT);
	o->order_credit_seq = (int32_t)pg_integer(rows, row, CREDIT_SEQ);
}

/* Rows and orders are both sorted by id; rows are a subset. */
static void fill_orders(struct order *orders, size_t count, const struct pg_rows *rows)
{
	size_t at = 0;
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		struct slice id = pg_text(rows, row, ORDER_ID);
		while (at < count && slice_compare(orders[at].order_id, id) < 0)
			at++;
		ENSURE(at < count && slice_equal(orders[at].order_id, id));
		fill_order(&orders[at], rows, row);
	}
}

/* Sends the reading half and takes its answers: nothing, the check's row, the orders' rows. */
static enum store_result send_reads(struct store *s, bool lock, const struct order *orders, size_t count,
                                    struct pg_rows *answers[3])
{
	enum pg_result r = pg_send(s->pg, &begin, NULL);
	if (r == PG_OK) {
		pg_params_clear(s->params);
		pg_put_int8(s->params, s->witness.id);
		r = pg_send(s->pg, &check, s->params);
	}
	if (r == PG_OK) {
		pg_params_clear(s->params);
		pg_array_begin(s->params, PG_TEXT);
		for (size_t i = 0; i < count; i++)
			pg_array_text(s->params, orders[i].order_id);
		pg_array_end(s->params);
		r = pg_send(s->pg, lock ? &lock_orders : &read_orders, s->params);
	}
	if (r == PG_OK)
		r = pg_flush(s->pg);
	pg_params_clear(s->params);
	if (r != PG_OK) {
		snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
		return batch_failed(s, r);
	}
	r = receive_all(s, 3, answers);
	return r == PG_OK ? STORE_OK : batch_failed(s, r);
}

/* What the check's row says of the database's history. */
static enum store_result judge_history(struct store *s, const struct history_epoch *expected,
                                       const struct pg_rows *row, int64_t *rules_revision)
{
	if (pg_rows_count(row) != 1)
		return store_no_history(s);
	struct history_epoch epoch = store_epoch_of(pg_text(row, 0, 0));
	int64_t batches = pg_null(row, 0, 3) ? -1 : pg_integer(row, 0, 3);
	*rules_revision = pg_integer(row, 0, 2);
	if (!history_epoch_equal(&epoch, expected))
		return store_lost(s, "the database's epoch is another one");
	if (pg_integer(row, 0, 1) && store_witness_fits(s, &epoch, batches))
		return STORE_OK;
	store_board_suspect(s->settings.board, &epoch);
	return store_lost(s, "the WAL timeline has changed, or a batch that was acknowledged is missing");
}

enum store_result store_begin(struct store *s, const struct history_epoch *expected, bool lock, struct order *orders,
                              size_t count, int64_t *rules_revision)
{
	enum store_result r = store_session(s);
	if (r != STORE_OK)
		return r;
	/* The session was registered in an earlier epoch: a new one registers in the present. */
	if (!history_epoch_equal(&s->witness.epoch, expected)) {
		pg_close(s->pg);
		s->pg = NULL;
		r = store_session(s);
		if (r != STORE_OK)
			return r;
	}
	struct pg_rows *answers[3] = {NULL, NULL, NULL};
	r = send_reads(s, lock, orders, count, answers);
	if (r == STORE_OK) {
		r = judge_history(s, expected, answers[1], rules_revision);
		if (r != STORE_OK)
			store_rollback(s);
	}
	if (r == STORE_OK) {
		fill_orders(orders, count, answers[2]);
		s->orders = answers[2];
		answers[2] = NULL;
		FAIL_POINT(after_begin);
	}
	for (int i = 0; i < 3; i++)
		pg_rows_free(answers[i]);
	return r;
}

/* ---- the writing half ---- */

#define EACH(i, count) for (size_t i = 0; i < (count); i++)

/* An array parameter: one element a write, `ELEMENT` an expression of `w` that puts it. */
#define ORDER_ARRAY(type, ELEMENT) \
	do { \
		pg_array_begin(p, type); \
		EACH(i, count) { \
			const struct store_write *w = &writes[i]; \
			const struct order *o = w->order; \
			(void)o; \
			ELEMENT; \
		} \
		pg_array_end(p); \
	} while (0)

static void put_time(struct pg_params *p, int64_t unix_us)
{
	if (unix_us == TIME_NONE)
		pg_array_null(p);
	else
		pg_array_time(p, unix_us);
}

static struct slice currency_slice(const struct facts *f)
{
	return f->currency[0] ? slice_of(f->currency) : (struct slice){0};
}

static void put_integer_if(struct pg_params *p, bool present, int64_t value)
{
	if (present)
		pg_array_integer(p, value);
	else
		pg_array_null(p);
}

static bool pinned(const struct order *o)
{
	return o->pin.outcome_at_us != TIME_NONE;
}

static void put_orders(struct pg_params *p, const struct store_write *writes, size_t count)
{
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, o->order_id));
	ORDER_ARRAY(PG_INT4, pg_array_integer(p, o->rev + 1));
	ORDER_ARRAY(PG_INT2, pg_array_integer(p, o->facts.progress));
	ORDER_ARRAY(PG_INT2, put_integer_if(p, o->facts.outcome != STATUS_NONE, o->facts.outcome));
	ORDER_ARRAY(PG_TIMESTAMPTZ, put_time(p, o->facts.outcome_at_us));
	ORDER_ARRAY(PG_INT8, put_integer_if(p, o->facts.amount_minor >= 0, o->facts.amount_minor));
	ORDER_ARRAY(PG_TIMESTAMPTZ, put_time(p, o->facts.amount_at_us));
	ORDER_ARRAY(PG_INT8, pg_array_integer(p, o->facts.refunded_total_minor));
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, o->facts.customer_id));
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, o->facts.partner_id));
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, currency_slice(&o->facts)));
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, o->facts.driver_id));
	ORDER_ARRAY(PG_TIMESTAMPTZ, put_time(p, o->facts.driver_at_us));
	ORDER_ARRAY(PG_TIMESTAMPTZ, put_time(p, o->pin.outcome_at_us));
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, o->pin.rule_id));
	ORDER_ARRAY(PG_INT4, put_integer_if(p, slice_present(o->pin.rule_id), o->pin.rule_version));
	ORDER_ARRAY(PG_INT2, put_integer_if(p, pinned(o), o->pin.kinds));
	ORDER_ARRAY(PG_INT8, pg_array_integer(p, o->points));
	ORDER_ARRAY(PG_INT4, pg_array_integer(p, o->points_seq));
	ORDER_ARRAY(PG_INT8, pg_array_integer(p, o->order_credit_minor));
	ORDER_ARRAY(PG_INT4, pg_array_integer(p, o->order_credit_seq));
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, w->first_source->topic));
	ORDER_ARRAY(PG_INT4, pg_array_integer(p, w->first_source->partition));
	ORDER_ARRAY(PG_INT8, pg_array_integer(p, w->first_source->offset));
	pg_put_int8(p, (int64_t)count);
}

#define POSTING_ARRAY(type, ELEMENT) \
	do { \
		pg_array_begin(p, type); \
		EACH(i, count) { \
			const struct order *o = writes[i].order; \
			for (int j = 0; j < writes[i].posting_count; j++) { \
				const struct posting *g = &writes[i].postings[j]; \
				const struct store_source *from = writes[i].posting_sources[j]; \
				(void)o, (void)g, (void)from; \
				ELEMENT; \
			} \
		} \
		pg_array_end(p); \
	} while (0)

static void put_postings(struct pg_params *p, const struct store_write *writes, size_t count)
{
	const struct slice none = {0};
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, o->order_id));
	POSTING_ARRAY(PG_INT2, pg_array_integer(p, g->kind));
	POSTING_ARRAY(PG_INT4, pg_array_integer(p, g->seq));
	POSTING_ARRAY(PG_INT8, pg_array_integer(p, g->amount));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, o->facts.partner_id));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, g->kind == KIND_POINTS ? o->facts.customer_id : none));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, g->kind == KIND_POINTS ? none : currency_slice(&o->facts)));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, g->rule_id));
	POSTING_ARRAY(PG_INT4, put_integer_if(p, slice_present(g->rule_id), g->rule_version));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, from->topic));
	POSTING_ARRAY(PG_INT4, pg_array_integer(p, from->partition));
	POSTING_ARRAY(PG_INT8, pg_array_integer(p, from->offset));
}

/* ---- balances ---- */

enum account_kind { CUSTOMER_POINTS = 1, PARTNER_POINTS = 2, PARTNER_PAYABLE = 3, CLEARING = 4 };

static int movement_compare(const void *left, const void *right)
{
	const struct movement *a = left, *b = right;
	if (a->account_kind != b->account_kind)
		return a->account_kind - b->account_kind;
	int order = slice_compare(a->id, b->id);
	return order ? order : slice_compare(a->unit, b->unit);
}

static void move_between(struct store *s, size_t *count, const struct movement *debit, const struct movement *credit,
                         int64_t amount)
{
	const struct movement *from = amount > 0 ? debit : credit, *to = amount > 0 ? credit : debit;
	__int128 value = amount > 0 ? amount : -(__int128)amount;
	s->movements[*count] = *from;
	s->movements[(*count)++].debits = value;
	s->movements[*count] = *to;
	s->movements[(*count)++].credits = value;
}

/* One entry an account, in key order: the order of locks in every transaction. */
static size_t sum_movements(struct movement *m, size_t count)
{
	if (!count)
		return 0;
	qsort(m, count, sizeof(*m), movement_compare);
	size_t last = 0;
	for (size_t i = 1; i < count; i++) {
		if (movement_compare(&m[last], &m[i]) == 0) {
			m[last].debits += m[i].debits;
			m[last].credits += m[i].credits;
		} else {
			m[++last] = m[i];
		}
	}
	return last + 1;
}

static size_t collect_movements(struct store *s, const struct store_write *writes, size_t count, size_t postings)
{
	if (postings * 2 > s->movements_capacity) {
		s->movements_capacity = postings * 2;
		free(s->movements);
		s->movements = malloc(s->movements_capacity * sizeof(*s->movements));
		ENSURE(s->movements);
	}
	size_t moved = 0;
	EACH(i, count) {
		const struct facts *f = &writes[i].order->facts;
		for (int j = 0; j < writes[i].posting_count; j++) {
			const struct posting *g = &writes[i].postings[j];
			struct slice unit = g->kind == KIND_POINTS ? SLICE_LITERAL("PTS") : currency_slice(f);
			struct movement customer = {CUSTOMER_POINTS, 0, f->customer_id, unit, 0, 0};
			struct movement partner = {PARTNER_POINTS, s->slot, f->partner_id, unit, 0, 0};
			struct movement payable = {PARTNER_PAYABLE, s->slot, f->partner_id, unit, 0, 0};
			struct movement clearing = {CLEARING, s->slot, unit, unit, 0, 0};
			if (g->kind == KIND_POINTS)
				move_between(s, &moved, &partner, &customer, g->amount);
			else
				move_between(s, &moved, &clearing, &payable, g->amount);
		}
	}
	return sum_movements(s->movements, moved);
}

static void put_balances(struct pg_params *p, const struct movement *m, size_t count)
{
	pg_array_begin(p, PG_INT2);
	EACH(i, count) pg_array_integer(p, m[i].account_kind);
	pg_array_end(p);
	pg_array_begin(p, PG_TEXT);
	EACH(i, count) pg_array_text(p, m[i].id);
	pg_array_end(p);
	pg_array_begin(p, PG_TEXT);
	EACH(i, count) pg_array_text(p, m[i].unit);
	pg_array_end(p);
	pg_array_begin(p, PG_INT2);
	EACH(i, count) pg_array_integer(p, m[i].slot);
	pg_array_end(p);
	pg_array_begin(p, PG_NUMERIC);
	EACH(i, count) pg_array_sum(p, m[i].debits);
	pg_array_end(p);
	pg_array_begin(p, PG_NUMERIC);
	EACH(i, count) pg_array_sum(p, m[i].credits);
	pg_array_end(p);
}

/* Sends everything up to COMMIT at once; an error on the way makes the server skip the rest, COMMIT
 * included. *sent: statements that owe an answer. */
static enum pg_result send_writes(struct store *s, const struct store_write *writes, size_t count, int *sent)
{
	size_t postings = 0;
	EACH(i, count) postings += (size_t)writes[i].posting_count;

	pg_params_clear(s->params);
	put_orders(s->params, writes, count);
	enum pg_result r = pg_send(s->pg, &write_orders, s->params);
	*sent = 1;
	FAIL_POINT_WITH(after_orders_sent, pg_let_execute(s->pg));
	if (r == PG_OK && postings) {
		pg_params_clear(s->params);
		put_postings(s->params, writes, count);
		r = pg_send(s->pg, &write_postings, s->params);
		++*sent;
		FAIL_POINT_WITH(after_postings_sent, pg_let_execute(s->pg));
	}
	if (r == PG_OK && postings) {
		size_t moved = collect_movements(s, writes, count, postings);
		pg_params_clear(s->params);
		put_balances(s->params, s->movements, moved);
		r = pg_send(s->pg, &write_balances, s->params);
		++*sent;
		FAIL_POINT_WITH(after_balances_sent, pg_let_execute(s->pg));
	}
	if (r == PG_OK) {
		pg_params_clear(s->params);
		pg_put_int8(s->params, s->witness.id);
		pg_put_int8(s->params, s->witness.batches + 1);
		r = pg_send(s->pg, &write_witness, s->params);
		++*sent;
		FAIL_POINT_WITH(after_witness_sent, pg_let_execute(s->pg));
	}
	if (r == PG_OK) {
		r = pg_send(s->pg, &commit, NULL);
		++*sent;
	}
	pg_params_clear(s->params);
	return r == PG_OK ? pg_sync(s->pg) : r;
}

enum store_result store_commit(struct store *s, const struct store_write *writes, size_t count)
{
	if (!count) {
		store_rollback(s);
		return STORE_OK;
	}
	int sent = 0;
	enum pg_result r = send_writes(s, writes, count, &sent);
	/* From here on the outcome is unknown until the answer to COMMIT, or an earlier error, is here. */
	s->unknown = true;
	FAIL_POINT_WITH(after_commit_sent, pg_let_execute(s->pg));
	if (r == PG_OK)
		r = receive_all(s, sent, NULL);
	else
		snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
	if (r == PG_OK)
		r = pg_finish(s->pg);
	if (r != PG_OK)
		return batch_failed(s, r);
	FAIL_POINT(after_commit_answered);
	s->unknown = false;
	s->witness.batches++;
	store_board_publish(s->settings.board, s->index, &s->witness);
	pg_rows_free(s->orders);
	s->orders = NULL;
	return STORE_OK;
}
