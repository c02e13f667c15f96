/* The reading half of a batch's transaction: what it was told of the database, and its orders. */
#include "worker/failpoint.h"
#include "worker/ledger/migrate.h"
#include "worker/ledger/order_columns.h"
#include "worker/ledger/store.h"
#include "worker/ledger/store_internal.h"

#include <inttypes.h>
#include <stdlib.h>

enum order_column { TID, ORDER_COLUMNS(ORDER_COLUMN_SYMBOL) };
#define SELECT_ORDER "SELECT ctid" ORDER_COLUMNS(ORDER_COLUMN_LISTED) " FROM orders"

static const struct pg_statement begin = {"begin", "BEGIN"};

static const struct pg_statement check = {
	"check",
	"SELECT h.epoch, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) = h.timeline,"
	" h.rules_revision, w.batches, (SELECT min_worker FROM schema_version ORDER BY version DESC LIMIT 1)"
	" FROM history h LEFT JOIN witnesses w ON w.id = $1::int8"};

/* In key order, which is the order of the caller's array. Locks are taken in that order, too. */
static const struct pg_statement read_orders = {
	"read_orders",
	SELECT_ORDER " WHERE order_id = ANY($1::text[]) ORDER BY order_id"};
static const struct pg_statement lock_orders = {
	"lock_orders",
	SELECT_ORDER " WHERE order_id = ANY($1::text[]) ORDER BY order_id FOR UPDATE"};
/* In whatever order. A row that has been updated since its hint is found by its new place only, so not here. */
static const struct pg_statement read_tids = {
	"read_tids", SELECT_ORDER " WHERE ctid = ANY($1::tid[])"};
/*
 * The same, and each page is looked at as a whole, which costs three times as much, and prunes it: who comes by one tid
 * does not (heapam, PostgreSQL 15 to 17). OFFSET 0 keeps the planner from joining otherwise than page by page.
 */
static const struct pg_statement prune_tids = {
	"prune_tids",
	"SELECT o.* FROM unnest($1::tid[]) AS u (tid), LATERAL (" SELECT_ORDER " WHERE ctid >= u.tid AND ctid <= u.tid OFFSET 0) AS o"};

/*
 * To find a row by tid costs PostgreSQL a tenth of what the way down the index does in a table of a million orders. But
 * a page that is never pruned has no room for the next versions of its rows, which then leave it and are new entries of
 * the index. A page that holds its orders to the end has room for about ten versions beside them, and those of batches
 * under way cannot be taken away yet: behind so many updates of its rows it is pruned.
 */
enum { PRUNED_AFTER = 6 };

/* ---- answers ---- */

void store_free_rows(struct store *s)
{
	for (int i = 0; i < STORE_READS; i++) {
		pg_rows_free(s->rows[i]);
		s->rows[i] = NULL;
	}
}

void store_rollback(struct store *s)
{
	store_free_rows(s);
	if (!s->pg)
		return;
	if (pg_rollback(s->pg) != PG_OK) {
		pg_close(s->pg);
		s->pg = NULL;
	}
}

enum pg_result store_receive_all(struct store *s, int count, struct pg_rows **rows)
{
	enum pg_result first = PG_OK;
	for (int i = 0; i < count; i++) {
		enum pg_result r = pg_receive(s->pg, &rows[i]);
		if (first != PG_OK)
			continue;
		first = r;
		if (r != PG_OK)
			snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
	}
	return first;
}

enum store_result store_batch_failed(struct store *s, enum pg_result r)
{
	char reason[sizeof(s->error)];
	memcpy(reason, s->error, sizeof(reason));
	enum store_result failed = store_failed(s, r);
	memcpy(s->error, reason, sizeof(reason));
	store_rollback(s);
	if (s->pg)
		pg_explain_timeout(s->pg, s->error, sizeof(s->error));
	return failed;
}

/* How a column is read, by its kind. Those that return false have met a code that is none of ours. */

static int64_t read_integer(const struct pg_rows *rows, size_t row, int column, int64_t null)
{
	return pg_null(rows, row, column) ? null : pg_integer(rows, row, column);
}

static int64_t read_time(const struct pg_rows *rows, size_t row, int column)
{
	return pg_null(rows, row, column) ? TIME_NONE : pg_time(rows, row, column);
}

static bool read_progress(const struct pg_rows *rows, size_t row, int column, enum event_status *out)
{
	*out = status_from_rank(pg_integer(rows, row, column));
	return *out != STATUS_NONE;
}

static bool read_outcome(const struct pg_rows *rows, size_t row, int column, enum event_status *out)
{
	return pg_null(rows, row, column) || (read_progress(rows, row, column, out) && status_is_decisive(*out));
}

static bool read_currency(const struct pg_rows *rows, size_t row, int column, char out[sizeof((struct facts){0}.currency)])
{
	struct slice currency = pg_text(rows, row, column);
	if (!slice_present(currency))
		return true;
	if (currency.len != sizeof((struct facts){0}.currency) - 1)
		return false;
	memcpy(out, currency.data, currency.len);
	return true;
}

static bool read_kinds(const struct pg_rows *rows, size_t row, int column, uint8_t *out)
{
	int64_t kinds = read_integer(rows, row, column, KINDS_NONE);
	if (!kinds_known(kinds))
		return false;
	*out = (uint8_t)kinds;
	return true;
}

#define OR_UNKNOWN(known, column) \
	if (!(known)) \
	return #column

#define READ_KEY(symbol, column, field) (void)0
#define READ_REVISION(symbol, column, field) o->field = pg_integer(rows, row, symbol)
#define READ_TEXT(symbol, column, field) o->field = pg_text(rows, row, symbol)
#define READ_NUMBER(symbol, column, field) o->field = pg_integer(rows, row, symbol)
#define READ_AMOUNT(symbol, column, field) o->field = read_integer(rows, row, symbol, -1)
#define READ_VERSION(symbol, column, field) o->field = (int32_t)read_integer(rows, row, symbol, 0)
#define READ_TIME(symbol, column, field) o->field = read_time(rows, row, symbol)
#define READ_PROGRESS(symbol, column, field) OR_UNKNOWN(read_progress(rows, row, symbol, &o->field), column)
#define READ_OUTCOME(symbol, column, field) OR_UNKNOWN(read_outcome(rows, row, symbol, &o->field), column)
#define READ_CURRENCY(symbol, column, field) OR_UNKNOWN(read_currency(rows, row, symbol, o->field), column)
#define READ_KINDS(symbol, column, field) OR_UNKNOWN(read_kinds(rows, row, symbol, &o->field), column)
#define READ_COLUMN(symbol, column, type, kind, field) READ_##kind(symbol, column, field);

/* Returns: NULL, or the first column whose code a later version may have brought: it is not to be taken for one of
 * ours, and what was read before it counts for nothing [I14]. */
static const char *read_columns(struct order *o, const struct pg_rows *rows, size_t row)
{
	ORDER_COLUMNS(READ_COLUMN)
	return NULL;
}

static void fill_order(struct order *o, const struct pg_rows *rows, size_t row)
{
	o->exists = true;
	o->unknown = read_columns(o, rows, row);
}

/* Rows and orders are both sorted by id; rows are a subset. */
static void fill_by_id(struct store *s, struct order *orders, size_t count, const struct pg_rows *rows)
{
	size_t at = 0;
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		struct slice id = pg_text(rows, row, ORDER_ID);
		while (at < count && slice_compare(orders[at].order_id, id) < 0)
			at++;
		ENSURE(at < count && slice_equal(orders[at].order_id, id));
		fill_order(&orders[at], rows, row);
		s->order_tids[at] = pg_tid(rows, row, TID);
		tid_cache_put(s->tids, s->order_keys[at], s->order_tids[at]);
	}
}

/* Rows come in any order, and may be of orders that nobody asked for. The search is by heads, of what is behind the
 * `common` bytes: they lie together. */
static void fill_by_tid(struct store *s, struct order *orders, size_t count, size_t common, const struct pg_rows *rows)
{
	struct slice first = orders[0].order_id;
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		struct slice id = pg_text(rows, row, ORDER_ID);
		if (slice_common(first, id) < common)
			continue;
		uint64_t head = slice_head(id, common);
		size_t low = 0, high = count;
		while (low < high) {
			size_t middle = low + (high - low) / 2;
			if (s->order_heads[middle] < head || (s->order_heads[middle] == head &&
			                                      slice_compare(orders[middle].order_id, id) < 0))
				low = middle + 1;
			else
				high = middle;
		}
		if (low == count || !slice_equal(orders[low].order_id, id))
			continue;
		fill_order(&orders[low], rows, row);
		s->order_tids[low] = pg_tid(rows, row, TID);
	}
}

static void fill_by_tids(struct store *s, struct order *orders, size_t count)
{
	size_t common = slice_common(orders[0].order_id, orders[count - 1].order_id); /* of all: they are sorted */
	for (size_t i = 0; i < count; i++)
		s->order_heads[i] = slice_head(orders[i].order_id, common);
	for (int by = STORE_BY_TID; by <= STORE_BY_TID_PRUNING; by++)
		if (s->rows[by])
			fill_by_tid(s, orders, count, common, s->rows[by]);
}

/* ---- questions ---- */

/* The ids or the tids of those that are read so. */
static void put_orders(struct store *s, enum store_read by, const struct order *orders, size_t count)
{
	pg_params_clear(s->params);
	bool by_id = by == STORE_BY_ID || by == STORE_BY_ID_AGAIN;
	pg_array_begin(s->params, by_id ? PG_TEXT : PG_TID);
	for (size_t i = 0; i < count; i++) {
		if (s->order_reads[i] != by)
			continue;
		if (by_id)
			pg_array_text(s->params, orders[i].order_id);
		else
			pg_array_tid(s->params, s->order_tids[i]);
	}
	pg_array_end(s->params);
}

static void reserve(struct store *s, size_t count)
{
	if (!s->tids)
		s->tids = tid_cache_new();
	if (count <= s->orders_capacity)
		return;
	free(s->order_tids);
	free(s->order_keys);
	free(s->order_reads);
	free(s->order_heads);
	s->order_tids = malloc(count * sizeof(*s->order_tids));
	s->order_keys = malloc(count * sizeof(*s->order_keys));
	s->order_reads = malloc(count * sizeof(*s->order_reads));
	s->order_heads = malloc(count * sizeof(*s->order_heads));
	ENSURE(s->order_tids && s->order_keys && s->order_reads && s->order_heads);
	s->orders_capacity = count;
}

static enum store_read choose_read(struct store *s, uint64_t tid)
{
	if (tid == TID_NONE)
		return STORE_BY_ID;
	uint8_t *updates = store_page_updates(s, tid);
	if (*updates < PRUNED_AFTER)
		return STORE_BY_TID;
	*updates = 0;
	return STORE_BY_TID_PRUNING;
}

/* How each order is read; chosen: how many so. */
static void choose_reads(struct store *s, bool lock, const struct order *orders, size_t count,
                         size_t chosen[STORE_READS])
{
	reserve(s, count);
	s->orders = orders;
	for (size_t i = 0; i < count; i++) {
		s->order_keys[i] = tid_cache_key(orders[i].order_id);
		tid_cache_prefetch(s->tids, s->order_keys[i]);
	}
	for (size_t i = 0; i < count; i++) {
		/* Locks are taken in key order, of all. */
		s->order_tids[i] = lock ? TID_NONE : tid_cache_get(s->tids, s->order_keys[i]);
		s->order_reads[i] = (uint8_t)choose_read(s, s->order_tids[i]);
		chosen[s->order_reads[i]]++;
	}
}

static enum store_result unsent(struct store *s, enum pg_result r)
{
	pg_params_clear(s->params);
	snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
	return store_batch_failed(s, r);
}

/* Sends the questions and takes the answers: the check's row, and rows of orders. */
static enum store_result ask(struct store *s, bool lock, const struct order *orders, size_t count,
                             struct pg_rows **checked)
{
	const struct pg_statement *const statements[] = {
		[STORE_BY_TID] = &read_tids,
		[STORE_BY_TID_PRUNING] = &prune_tids,
		[STORE_BY_ID] = lock ? &lock_orders : &read_orders,
	};
	enum { HOW = sizeof(statements) / sizeof(statements[0]) };
	size_t chosen[STORE_READS] = {0};
	struct pg_rows *answers[2 + HOW] = {NULL};
	int sent = 2;
	choose_reads(s, lock, orders, count, chosen);
	enum pg_result r = pg_send(s->pg, &begin, NULL);
	if (r == PG_OK) {
		pg_params_clear(s->params);
		pg_put_int8(s->params, s->witness.id);
		r = pg_send(s->pg, &check, s->params);
	}
	for (int by = 0; by < HOW && r == PG_OK; by++) {
		if (!chosen[by])
			continue;
		put_orders(s, (enum store_read)by, orders, count);
		r = pg_send(s->pg, statements[by], s->params);
		sent++;
	}
	if (r == PG_OK)
		r = pg_flush(s->pg);
	if (r != PG_OK)
		return unsent(s, r);
	pg_params_clear(s->params);
	r = store_receive_all(s, sent, answers);
	pg_rows_free(answers[0]);
	*checked = answers[1];
	for (int by = 0, answer = 2; by < HOW; by++)
		s->rows[by] = chosen[by] ? answers[answer++] : NULL;
	return r == PG_OK ? STORE_OK : store_batch_failed(s, r);
}

/* Once more by id where a hint led to nothing. */
static enum store_result ask_again(struct store *s, struct order *orders, size_t count)
{
	size_t missing = 0;
	for (size_t i = 0; i < count; i++) {
		if (orders[i].exists || s->order_tids[i] == TID_NONE)
			continue;
		s->order_reads[i] = STORE_BY_ID_AGAIN;
		s->order_tids[i] = TID_NONE;
		missing++;
	}
	if (!missing)
		return STORE_OK;
	put_orders(s, STORE_BY_ID_AGAIN, orders, count);
	enum pg_result r = pg_send(s->pg, &read_orders, s->params);
	if (r == PG_OK)
		r = pg_flush(s->pg);
	if (r != PG_OK)
		return unsent(s, r);
	pg_params_clear(s->params);
	r = store_receive_all(s, 1, &s->rows[STORE_BY_ID_AGAIN]);
	if (r != PG_OK)
		return store_batch_failed(s, r);
	fill_by_id(s, orders, count, s->rows[STORE_BY_ID_AGAIN]);
	return STORE_OK;
}

/* What the check's row says of the schema, and of the database's history. */
static enum store_result judge_history(struct store *s, const struct history_epoch *expected,
                                       const struct pg_rows *row, int64_t *rules_revision)
{
	if (pg_rows_count(row) != 1)
		return store_no_history(s);
	/* A migration that this worker does not survive may come while it runs. */
	int64_t min_worker = pg_null(row, 0, 4) ? 0 : pg_integer(row, 0, 4);
	if (min_worker > ledger_schema_newest()) {
		snprintf(s->error, sizeof(s->error),
		         "the schema is for workers that know its version %" PRId64 ", this one knows %d: run a newer"
		         " delivery-worker",
		         min_worker, ledger_schema_newest());
		return STORE_UNUSABLE;
	}
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

static enum store_result read_batch(struct store *s, const struct history_epoch *expected, bool lock,
                                    struct order *orders, size_t count, int64_t *rules_revision)
{
	struct pg_rows *checked = NULL;
	enum store_result r = ask(s, lock, orders, count, &checked);
	if (r == STORE_OK) {
		r = judge_history(s, expected, checked, rules_revision);
		if (r != STORE_OK)
			store_rollback(s);
	}
	pg_rows_free(checked);
	if (r != STORE_OK)
		return r;
	if (s->rows[STORE_BY_ID])
		fill_by_id(s, orders, count, s->rows[STORE_BY_ID]);
	if (!s->rows[STORE_BY_TID] && !s->rows[STORE_BY_TID_PRUNING])
		return STORE_OK;
	fill_by_tids(s, orders, count);
	return ask_again(s, orders, count);
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
	r = read_batch(s, expected, lock, orders, count, rules_revision);
	if (r != STORE_OK)
		return r;
	FAIL_POINT(after_begin);
	return STORE_OK;
}
