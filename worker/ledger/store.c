#include "worker/ledger/store.h"

#include "worker/ledger/migrate.h"
#include "worker/ledger/privileges.h"
#include "worker/ledger/rules_store.h"
#include "worker/ledger/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* ---- the board ---- */

struct store_board *store_board_new(size_t connections)
{
	struct store_board *b = calloc(1, sizeof(*b) + connections * sizeof(b->witnesses[0]));
	ENSURE(b);
	mutex_init(&b->lock);
	b->count = connections;
	return b;
}

void store_board_free(struct store_board *b)
{
	mutex_destroy(&b->lock);
	free(b);
}

struct seen_lsn store_board_seen(struct store_board *b)
{
	mutex_lock(&b->lock);
	struct seen_lsn seen = {b->lsn_epoch, b->lsn};
	mutex_unlock(&b->lock);
	return seen;
}

bool store_board_lsn(struct store_board *b, const struct seen_lsn *before, const struct history_epoch *epoch,
                     uint64_t current, uint64_t durable)
{
	mutex_lock(&b->lock);
	if (!history_epoch_equal(&b->lsn_epoch, epoch)) {
		b->lsn_epoch = *epoch;
		b->lsn = 0;
	}
	bool ahead = !history_epoch_equal(&before->epoch, epoch) || current >= before->lsn;
	if (durable > b->lsn)
		b->lsn = durable;
	mutex_unlock(&b->lock);
	return ahead;
}

void store_board_suspect(struct store_board *b, const struct history_epoch *epoch)
{
	mutex_lock(&b->lock);
	b->suspected = true;
	b->suspect = *epoch;
	mutex_unlock(&b->lock);
}

bool store_board_suspects(struct store_board *b, const struct history_epoch *epoch)
{
	mutex_lock(&b->lock);
	bool suspects = b->suspected && history_epoch_equal(&b->suspect, epoch);
	mutex_unlock(&b->lock);
	return suspects;
}

void store_board_publish(struct store_board *b, size_t index, const struct witness *w)
{
	ENSURE(index < b->count);
	mutex_lock(&b->lock);
	b->witnesses[index] = *w;
	mutex_unlock(&b->lock);
}

/* ---- the session ---- */

struct store *store_new(const struct store_settings *settings, size_t index)
{
	struct store *s = calloc(1, sizeof(*s));
	ENSURE(s);
	store_commit_setup();
	s->settings = *settings;
	s->index = index;
	s->params = pg_params_new();
	s->pg_settings = (struct pg_settings){
	        .dsn = settings->dsn,
	        .dsn_file = settings->dsn_file,
	        .schema = settings->schema,
	        .connect_timeout_ms = settings->connect_timeout_ms,
	        .statement_timeout_ms = settings->statement_timeout_ms,
	        .idle_timeout_ms = settings->idle_timeout_ms,
	        .overdue = settings->overdue,
	        .overdue_owner = settings->overdue_owner,
	};
	/* Drawn, not counted: the first workers of two replicas are to use different slots. */
	uint16_t random;
	ENSURE(getrandom(&random, sizeof(random), 0) == sizeof(random));
	s->slot = (int16_t)(random % settings->slots);
	return s;
}

void store_free(struct store *s)
{
	store_free_rows(s);
	pg_close(s->pg);
	pg_params_free(s->params);
	tid_cache_free(s->tids);
	free(s->order_tids);
	free(s->order_keys);
	free(s->order_reads);
	free(s->order_heads);
	free(s->movements);
	free(s);
}

const char *store_error(const struct store *s)
{
	return s->error;
}

enum store_result store_failed(struct store *s, enum pg_result r)
{
	snprintf(s->error, sizeof(s->error), "%s", pg_error(s->pg));
	if (!pg_alive(s->pg)) {
		pg_close(s->pg);
		s->pg = NULL;
	}
	switch (r) {
	case PG_RETRY:
		return STORE_RETRY;
	case PG_STALE:
		return STORE_STALE;
	case PG_REJECTED:
		return STORE_REJECTED;
	case PG_UNUSABLE:
		return STORE_UNUSABLE;
	case PG_OK:
		break;
	}
	UNREACHABLE("a failure without a cause");
}

enum store_result store_no_history(struct store *s)
{
	snprintf(s->error, sizeof(s->error), "table history has no row: not a ledger's schema");
	return STORE_UNUSABLE;
}

enum store_result store_lost(struct store *s, const char *reason)
{
	snprintf(s->error, sizeof(s->error), "%s", reason);
	return STORE_HISTORY;
}

enum store_result store_run(struct store *s, const char *sql, struct pg_rows **rows)
{
	enum pg_result r = pg_query(s->pg, sql, s->params, rows);
	pg_params_clear(s->params);
	return r == PG_OK ? STORE_OK : store_failed(s, r);
}

bool store_witness_fits(struct store *s, const struct history_epoch *epoch, int64_t batches)
{
	struct witness *w = &s->witness;
	if (!w->id || !history_epoch_equal(&w->epoch, epoch))
		return true; /* nothing was acknowledged in this epoch */
	/* An unanswered COMMIT may still come: only an answered one, or the row, says that it will not. */
	if (batches == w->batches)
		return true;
	if (s->unknown && batches == w->batches + 1) {
		w->batches = batches;
		s->unknown = false;
		store_board_publish(s->settings.board, s->index, w);
		return true;
	}
	return false;
}

/* A row of our own for this epoch, which counts our batches. */
static enum store_result register_witness(struct store *s, const struct history_epoch *epoch)
{
	struct witness w = {.epoch = *epoch};
	ENSURE(getrandom(&w.id, sizeof(w.id), 0) == sizeof(w.id));
	w.id = w.id & INT64_MAX ? w.id & INT64_MAX : 1;
	pg_put_int8(s->params, w.id);
	enum store_result r = store_run(s, "INSERT INTO witnesses (id, batches) VALUES ($1::int8, 0)", NULL);
	if (r != STORE_OK)
		return r;
	s->witness = w;
	s->unknown = false;
	store_board_publish(s->settings.board, s->index, &w);
	return STORE_OK;
}

/* Also of what only a bad day needs, so that it shows on a good one. What is taken away under a session is the error of
 * the statement that misses it. */
static enum store_result check_privileges(struct store *s, struct pg *pg)
{
	bool missing = false;
	enum pg_result r = ledger_privileges(pg, s->settings.schema, &missing, s->error, sizeof(s->error));
	if (r == PG_OK)
		return missing ? STORE_UNUSABLE : STORE_OK;
	snprintf(s->error, sizeof(s->error), "%s", pg_error(pg));
	return r == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
}

/*
 * Once a connection: these can't change under it, since a backend belongs to one postmaster, and a
 * restored or promoted server is another one (the timeline is looked at again by each batch).
 */
static enum store_result compare_with_known(struct store *s)
{
	struct pg_rows *rows = NULL;
	struct seen_lsn before = store_board_seen(s->settings.board);
	pg_put_int8(s->params, s->witness.id);
	enum store_result r = store_run(
	        s,
	        "SELECT h.epoch,"
	        " h.system_identifier = (SELECT system_identifier::text FROM pg_control_system())"
	        " AND h.timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
	        " AND h.database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()),"
	        " (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8,"
	        " (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::int8, w.batches"
	        " FROM history h LEFT JOIN witnesses w ON w.id = $1::int8",
	        &rows);
	if (r != STORE_OK)
		return r;
	if (pg_rows_count(rows) != 1) {
		pg_rows_free(rows);
		return store_no_history(s);
	}
	struct history_epoch epoch = store_epoch_of(pg_text(rows, 0, 0));
	bool same_server = pg_integer(rows, 0, 1) != 0;
	uint64_t current = (uint64_t)pg_integer(rows, 0, 2);
	uint64_t durable = (uint64_t)pg_integer(rows, 0, 3);
	int64_t batches = pg_null(rows, 0, 4) ? -1 : pg_integer(rows, 0, 4);
	pg_rows_free(rows);

	const char *proof = NULL;
	if (!same_server)
		proof = "system identifier, timeline or database OID are not those stored";
	else if (!store_board_lsn(s->settings.board, &before, &epoch, current, durable))
		proof = "the WAL position is behind one seen before";
	else if (!store_witness_fits(s, &epoch, batches))
		proof = "a batch that was acknowledged is missing";
	if (proof) {
		store_board_suspect(s->settings.board, &epoch);
		return store_lost(s, proof);
	}
	if (s->witness.id && history_epoch_equal(&s->witness.epoch, &epoch))
		return STORE_OK;
	return register_witness(s, &epoch);
}

enum store_result store_session(struct store *s)
{
	if (s->pg && pg_alive(s->pg))
		return STORE_OK;
	pg_close(s->pg);
	s->pg = NULL;
	s->listening = false;
	pg_params_clear(s->params);
	enum pg_result r = pg_connect(&s->pg_settings, &s->pg, s->error, sizeof(s->error));
	if (r != PG_OK)
		return r == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
	enum store_result compared = check_privileges(s, s->pg);
	if (compared == STORE_OK)
		compared = compare_with_known(s);
	/* Without the comparison the connection is not to be used: next time anew. */
	if (compared != STORE_OK && s->pg) {
		pg_close(s->pg);
		s->pg = NULL;
	}
	return compared;
}

enum store_result store_session_any(struct store *s, bool *unverified)
{
	enum store_result r = store_session(s);
	*unverified = r == STORE_HISTORY;
	if (!*unverified)
		return r;
	enum pg_result connected = pg_connect(&s->pg_settings, &s->pg, s->error, sizeof(s->error));
	if (connected == PG_OK)
		return STORE_OK;
	return connected == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
}

/* A connection that skipped the comparisons must not be taken for one that passed them. */
void store_session_end(struct store *s, bool unverified)
{
	if (!unverified || !s->pg)
		return;
	pg_close(s->pg);
	s->pg = NULL;
}

/* ---- the rest ---- */

enum store_result store_rules_state(struct store *s, struct rules_state *out)
{
	bool unverified;
	enum store_result r = store_session_any(s, &unverified);
	if (r != STORE_OK)
		return r;
	struct pg_rows *rows = NULL;
	r = store_run(s, "SELECT rules_revision, epoch FROM history", &rows);
	store_session_end(s, unverified);
	if (r != STORE_OK)
		return r;
	if (pg_rows_count(rows) == 1)
		*out = (struct rules_state){pg_integer(rows, 0, 0), store_epoch_of(pg_text(rows, 0, 1))};
	else
		r = store_no_history(s);
	pg_rows_free(rows);
	return r;
}

enum store_result store_load_rules(struct store *s, struct rules **out)
{
	bool unverified;
	enum store_result r = store_session_any(s, &unverified);
	if (r != STORE_OK)
		return r;
	int64_t revision;
	enum pg_result loaded = rules_store_revision(s->pg, &revision);
	if (loaded == PG_OK)
		loaded = rules_store_load(s->pg, revision, out);
	if (loaded != PG_OK)
		r = store_failed(s, loaded);
	store_session_end(s, unverified);
	return r;
}

enum store_result store_check_schema(struct store *s)
{
	/* Before the session's comparisons: they need the tables. */
	struct pg *pg = NULL;
	enum pg_result r = pg_connect(&s->pg_settings, &pg, s->error, sizeof(s->error));
	if (r != PG_OK)
		return r == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
	/* First: a schema that may not be used looks like one that is not there. */
	enum store_result privileged = check_privileges(s, pg);
	if (privileged != STORE_OK) {
		pg_close(pg);
		return privileged;
	}
	enum schema_fit fit;
	int found = 0;
	r = ledger_schema_fit(pg, &fit, &found);
	if (r != PG_OK) {
		snprintf(s->error, sizeof(s->error), "%s", pg_error(pg));
		pg_close(pg);
		return r == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
	}
	pg_close(pg);
	if (fit == SCHEMA_FITS)
		return STORE_OK;
	ledger_schema_explain(fit, found, s->settings.schema, s->error, sizeof(s->error));
	return STORE_UNUSABLE;
}

/* On a connection of its own that writes nothing: a start does not wait for what only a COMMIT needs. */
enum store_result store_digest_key(struct store *s, uint8_t key[16])
{
	struct pg *pg = NULL;
	struct pg_rows *rows = NULL;
	enum store_result r = STORE_OK;
	enum pg_result asked = pg_connect(&s->pg_settings, &pg, s->error, sizeof(s->error));
	if (asked != PG_OK)
		return asked == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
	asked = pg_query(pg, "SELECT digest_key FROM history", NULL, &rows);
	if (asked != PG_OK) {
		snprintf(s->error, sizeof(s->error), "%s", pg_error(pg));
		r = asked == PG_RETRY ? STORE_RETRY : STORE_UNUSABLE;
	} else if (pg_rows_count(rows) != 1) {
		r = store_no_history(s);
	} else {
		struct slice stored = pg_text(rows, 0, 0);
		ENSURE(stored.len == 16);
		memcpy(key, stored.data, 16);
	}
	pg_rows_free(rows);
	pg_close(pg);
	return r;
}

enum store_result store_wait_rules(struct store *s, int timeout_ms, bool *changed)
{
	enum store_result r = store_session(s);
	if (r != STORE_OK)
		return r;
	if (!s->listening) {
		r = store_run(s, "LISTEN " RULES_CHANNEL, NULL);
		if (r != STORE_OK)
			return r;
		s->listening = true;
		*changed = true; /* whatever was said before we listened */
		return STORE_OK;
	}
	enum pg_result waited = pg_wait_notification(s->pg, timeout_ms, changed);
	return waited == PG_OK ? STORE_OK : store_failed(s, waited);
}
