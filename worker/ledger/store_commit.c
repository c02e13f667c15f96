/* The writing half of a batch's transaction: a handful of set-based statements in one round trip. */
#include "worker/failpoint.h"
#include "worker/ledger/order_columns.h"
#include "worker/ledger/store.h"
#include "worker/ledger/store_internal.h"

#include <stdlib.h>

static const struct pg_statement commit = {"commit", "COMMIT"};

enum order_column { ORDER_COLUMNS(ORDER_COLUMN_SYMBOL) ORDER_COLUMN_COUNT };

/*
 * A row is found by its tid, which saves a second way down the index. A tid is a place, and no identity: the row there
 * may have become another order's since it was read, so the id is compared, and so that no index is of use for that:
 * a session that begins with a small table would keep a plan that goes by id. The row lock of the UPDATE and the
 * comparison of revisions are what makes `target - posted` right: the difference was computed from the row at that
 * revision and from no other. Locks are taken in key order: the only join that the session's settings leave is a loop
 * over the arrays.
 */
static char update_orders_sql[3 * 1024];
static const struct pg_statement update_orders = {"update_orders", update_orders_sql};

/* Without ON CONFLICT, which looks for the key before it inserts it: an order that another transaction was first with
 * is an error, which pg.c knows, and is read anew. */
static char insert_orders_sql[3 * 1024];
static const struct pg_statement insert_orders = {"insert_orders", insert_orders_sql};

/* The parameters of both: an array a column, in the table's order; of an update then the tids, of an insert the first
 * records' places; then how many rows there are. */
enum { TIDS = ORDER_COLUMN_COUNT + 1, UPDATED, FIRST_TOPICS = TIDS, FIRST_PARTITIONS, FIRST_OFFSETS, INSERTED };

static const char columns_listed[] = ORDER_COLUMNS(ORDER_COLUMN_LISTED);

#define SQL_TEXT "text"
#define SQL_INT2 "int2"
#define SQL_INT4 "int4"
#define SQL_INT8 "int8"
#define SQL_TIMESTAMPTZ "timestamptz"

static void put_parameters(struct buf *sql)
{
#define PARAMETER(symbol, column, type, kind, field) buf_printf(sql, "$%d::" SQL_##type "[], ", symbol + 1);
	ORDER_COLUMNS(PARAMETER)
#undef PARAMETER
}

static void keep_sql(struct buf *sql, char *to, size_t size)
{
	ENSURE(sql->len < size);
	memcpy(to, sql->data, sql->len + 1);
	buf_clear(sql);
}

static void make_statements(void)
{
	struct buf sql = BUF_INIT;
	buf_puts(&sql, "WITH written AS (UPDATE orders AS o SET updated_at = now()");
#define ASSIGNMENT(symbol, column, type, kind, field) buf_puts(&sql, symbol == ORDER_ID ? "" : ", " #column " = u." #column);
	ORDER_COLUMNS(ASSIGNMENT)
#undef ASSIGNMENT
	buf_puts(&sql, " FROM unnest(");
	put_parameters(&sql);
	buf_printf(&sql,
	           "$%d::tid[]) AS u (%s, tid)"
	           " WHERE o.ctid = u.tid AND (o.order_id = u.order_id) IS TRUE AND o.rev = u.rev - 1"
	           " RETURNING o.ctid AS tid)"
	           " SELECT expect_rows(count(*), $%d::int8), array_agg(tid) FROM written",
	           TIDS, columns_listed + 2, UPDATED);
	keep_sql(&sql, update_orders_sql, sizeof(update_orders_sql));

	buf_printf(&sql,
	           "WITH written AS (INSERT INTO orders (%s, first_topic, first_partition, first_offset, updated_at)"
	           " SELECT u.*, now() FROM unnest(",
	           columns_listed + 2);
	put_parameters(&sql);
	buf_printf(&sql,
	           "$%d::text[], $%d::int4[], $%d::int8[]) u RETURNING ctid AS tid)"
	           " SELECT expect_rows(count(*), $%d::int8), array_agg(tid) FROM written",
	           FIRST_TOPICS, FIRST_PARTITIONS, FIRST_OFFSETS, INSERTED);
	keep_sql(&sql, insert_orders_sql, sizeof(insert_orders_sql));
	buf_release(&sql);
}

void store_commit_setup(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	ENSURE(pthread_once(&once, make_statements) == 0);
}

static const struct pg_statement write_postings = {
	"write_postings",
	"INSERT INTO posted (order_id, kind, seq, amount, partner_id, customer_id, currency, rule_id, rule_version,"
	" source_topic, source_partition, source_offset, posted_at)"
	" SELECT u.*, now() FROM unnest($1::text[], $2::int2[], $3::int8[], $4::int8[], $5::text[], $6::text[],"
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

#define EACH(i, count) for (size_t i = 0; i < (count); i++)

/* An array parameter: one element a write, `ELEMENT` an expression of `w` that puts it. */
#define ORDER_ARRAY(type, ELEMENT) \
	do { \
		pg_array_begin(p, type); \
		EACH(i, count) { \
			const struct store_write *w = &writes[i]; \
			const struct order *o = w->order; \
			if (o->exists == existing) \
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

static struct slice currency_slice(const char *currency)
{
	return currency[0] ? slice_of(currency) : (struct slice){0};
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

/* How a column is written, by its kind. */
#define PUT_KEY(field) pg_array_text(p, o->field)
#define PUT_REVISION(field) pg_array_integer(p, o->field + 1)
#define PUT_TEXT(field) pg_array_text(p, o->field)
#define PUT_NUMBER(field) pg_array_integer(p, o->field)
#define PUT_AMOUNT(field) put_integer_if(p, o->field >= 0, o->field)
#define PUT_VERSION(field) put_integer_if(p, o->field != 0, o->field)
#define PUT_TIME(field) put_time(p, o->field)
#define PUT_PROGRESS(field) pg_array_integer(p, o->field)
#define PUT_OUTCOME(field) put_integer_if(p, o->field != STATUS_NONE, o->field)
#define PUT_CURRENCY(field) pg_array_text(p, currency_slice(o->field))
#define PUT_KINDS(field) put_integer_if(p, pinned(o), o->field)
#define PUT_COLUMN(symbol, column, type, kind, field) ORDER_ARRAY(PG_##type, PUT_##kind(field));

/* Those that have a row, or those that have none. */
static void put_orders(struct pg_params *p, const struct store_write *writes, size_t count, bool existing)
{
	ORDER_COLUMNS(PUT_COLUMN)
}

static void put_tids(struct pg_params *p, const struct store *s, const struct store_write *writes, size_t count)
{
	const bool existing = true;
	ORDER_ARRAY(PG_TID, pg_array_tid(p, s->order_tids[w->order - s->orders]));
}

static void put_sources(struct pg_params *p, const struct store_write *writes, size_t count)
{
	const bool existing = false;
	ORDER_ARRAY(PG_TEXT, pg_array_text(p, w->first_source->topic));
	ORDER_ARRAY(PG_INT4, pg_array_integer(p, w->first_source->partition));
	ORDER_ARRAY(PG_INT8, pg_array_integer(p, w->first_source->offset));
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
	POSTING_ARRAY(PG_INT8, pg_array_integer(p, g->seq));
	POSTING_ARRAY(PG_INT8, pg_array_integer(p, g->amount));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, o->facts.partner_id));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, g->kind == KIND_POINTS ? o->facts.customer_id : none));
	POSTING_ARRAY(PG_TEXT, pg_array_text(p, g->kind == KIND_POINTS ? none : currency_slice(o->facts.currency)));
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
			struct slice unit = g->kind == KIND_POINTS ? SLICE_LITERAL("PTS") : currency_slice(f->currency);
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

/* Orders updated, orders inserted, postings, balances, witness, COMMIT. */
enum { ANSWERS_MAX = 6 };

static size_t count_updates(const struct store_write *writes, size_t count)
{
	size_t updates = 0;
	EACH(i, count) updates += writes[i].order->exists;
	return updates;
}

/* Sends everything up to COMMIT at once; an error on the way makes the server skip the rest, COMMIT
 * included. *sent: statements that owe an answer. */
static enum pg_result send_writes(struct store *s, const struct store_write *writes, size_t count, size_t updates,
                                  int *sent)
{
	size_t postings = 0;
	EACH(i, count) postings += (size_t)writes[i].posting_count;

	enum pg_result r = PG_OK;
	*sent = 0;
	if (updates) {
		pg_params_clear(s->params);
		put_orders(s->params, writes, count, true);
		put_tids(s->params, s, writes, count);
		pg_put_int8(s->params, (int64_t)updates);
		r = pg_send(s->pg, &update_orders, s->params);
		++*sent;
	}
	if (r == PG_OK && updates < count) {
		pg_params_clear(s->params);
		put_orders(s->params, writes, count, false);
		put_sources(s->params, writes, count);
		pg_put_int8(s->params, (int64_t)(count - updates));
		r = pg_send(s->pg, &insert_orders, s->params);
		++*sent;
	}
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

/* A row that has left its page found it full; one that has not is a version more there. */
static void note_update(struct store *s, uint64_t from, uint64_t to)
{
	uint8_t *updates = store_page_updates(s, from);
	if (from >> TID_ITEM_BITS != to >> TID_ITEM_BITS)
		*updates = UINT8_MAX;
	else if (*updates < UINT8_MAX)
		++*updates;
}

/* Where the rows are now. The array is in the order of ours, as the loop that wrote them is; were it in another, these
 * would be hints that lead to nothing. */
static void keep_tids(struct store *s, const struct store_write *writes, size_t count, bool existing,
                      const struct pg_rows *rows)
{
	uint64_t *tids = s->order_heads;
	size_t written = pg_tids(rows, 0, 1, tids, s->orders_capacity), at = 0;
	EACH(i, count) {
		const struct order *o = writes[i].order;
		if (o->exists != existing || at == written)
			continue;
		if (existing)
			note_update(s, s->order_tids[o - s->orders], tids[at]);
		tid_cache_put(s->tids, s->order_keys[o - s->orders], tids[at++]);
	}
}

static void free_answers(struct pg_rows **answers, int count)
{
	for (int i = 0; i < count; i++)
		pg_rows_free(answers[i]);
}

enum store_result store_commit(struct store *s, const struct store_write *writes, size_t count)
{
	if (!count) {
		store_rollback(s);
		return STORE_OK;
	}
	struct pg_rows *answers[ANSWERS_MAX] = {NULL};
	size_t updates = count_updates(writes, count);
	int sent = 0;
	enum pg_result r = send_writes(s, writes, count, updates, &sent);
	/* From here on the outcome is unknown until the answer to COMMIT, or an earlier error, is here. */
	s->unknown = true;
	FAIL_POINT_WITH(after_commit_sent, pg_let_execute(s->pg));
	if (r == PG_OK)
		r = store_receive_all(s, sent, answers);
	else
		snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
	if (r == PG_OK)
		r = pg_finish(s->pg);
	if (r == PG_OK && updates)
		keep_tids(s, writes, count, true, answers[0]);
	if (r == PG_OK && updates < count)
		keep_tids(s, writes, count, false, answers[updates > 0]);
	free_answers(answers, sent);
	if (r != PG_OK)
		return store_batch_failed(s, r);
	FAIL_POINT(after_commit_answered);
	s->unknown = false;
	s->witness.batches++;
	store_board_publish(s->settings.board, s->index, &s->witness);
	store_free_rows(s);
	return STORE_OK;
}
