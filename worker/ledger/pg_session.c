/*
 * How a session begins: whose it is, and what it is set to. Nothing is set before it is known that no pooler hands the
 * server process to others between our transactions: they would get our search_path and planner settings.
 */
#include "worker/ledger/pg_internal.h"

#include <stdio.h>

/* ---- poolers ---- */

static enum pg_result ask_backend(struct pg *pg, int *backend)
{
	struct pg_rows *rows = NULL;
	enum pg_result result = pg_query(pg, "SELECT pg_backend_pid()", NULL, &rows);
	if (result == PG_OK)
		*backend = (int)pg_integer(rows, 0, 0);
	pg_rows_free(rows);
	return result;
}

/*
 * Whether the server process goes from one session to the other. An idle session gives its server back to a pooler
 * that hands them out by the transaction, so the second session, which then opens one, gets that one or makes the
 * first move to another. One that hands them out by the statement refuses to open one.
 */
static enum pg_result look_for_pooler(struct pg *idle, struct pg *busy, bool *pooled)
{
	int first = idle->backend, other, later = first;
	enum pg_result result = pg_query(busy, "BEGIN", NULL, NULL);
	if (result != PG_OK) {
		*pooled = strstr(pg_error(busy), "statement pooling mode") != NULL; /* PgBouncer's words */
		return *pooled ? PG_OK : result;
	}
	result = ask_backend(busy, &other);
	if (result != PG_OK)
		return result;
	*pooled = first == other;
	/* Asking on would wait for a server that `busy` holds, where the pool has only one. */
	for (int i = 0; i < 3 && !*pooled && result == PG_OK; i++) {
		result = ask_backend(idle, &later);
		*pooled = result == PG_OK && later != first;
	}
	return result;
}

/*
 * A pooler tells each client a number of its own to cancel by, since several share a server process: who is told that
 * of its server process is connected to it, and spared a second connection.
 */
static enum pg_result refuse_pooler(struct pg *pg)
{
	enum pg_result result = ask_backend(pg, &pg->backend);
	if (result != PG_OK || pg->backend == PQbackendPID(pg->connection))
		return result;
	struct pg *second = NULL;
	char why[PG_ERROR_MAX];
	bool pooled = false;
	result = pg_open(&pg->settings, &second, why, sizeof(why));
	if (result == PG_OK) {
		result = look_for_pooler(pg, second, &pooled);
		if (result != PG_OK && pg_error(second)[0])
			snprintf(why, sizeof(why), "%s", pg_error(second));
		else if (result != PG_OK)
			snprintf(why, sizeof(why), "%s", pg_error(pg));
	}
	pg_close(second);
	if (result != PG_OK) {
		pg_refuse(pg, why);
		return result;
	}
	return pooled ? pg_refuse(pg, "a pooler in transaction mode is in between: prepared statements, LISTEN and settings"
	                              " need a session of one's own; connect directly or with session pooling")
	              : PG_OK;
}

/* ---- settings ---- */

/* What is answered is on this server's disk, and where there are synchronous replicas they have it; in which state they
 * must have it is the server's to say. */
#define DURABLE_COMMIT \
	" set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')" \
	" THEN 'on' ELSE current_setting('synchronous_commit') END, false),"

#define SESSION_SETTINGS \
	"SELECT current_setting('server_encoding'), set_config('search_path', quote_ident($1), false)," \
	" set_config('statement_timeout', $2::text, false)," \
	" set_config('lock_timeout', $2::text, false)," \
	" set_config('idle_in_transaction_session_timeout', $3::text, false)," \
	" set_config('TimeZone', 'UTC', false)," \
	" set_config('DateStyle', 'ISO', false)," \
	" set_config('jit', 'off', false)," \
	DURABLE_COMMIT \
	" set_config('default_transaction_isolation', 'read committed', false)," \
	" set_config('default_transaction_deferrable', 'off', false)," \
	" set_config('tcp_keepalives_idle', '" PG_KEEPALIVE_IDLE_S "', false)," \
	" set_config('tcp_keepalives_interval', '" PG_KEEPALIVE_INTERVAL_S "', false)," \
	" set_config('tcp_keepalives_count', '" PG_KEEPALIVE_COUNT "', false)," \
	" set_config('tcp_user_timeout', '" PG_PEER_LOST_MS "', false)"

/* A generic plan made while a table was small is a hash join over all of it, and stays until ANALYZE. And the order in
 * which update_orders locks is that of its arrays by a loop only. */
#define WORKER_SETTINGS \
	", set_config('plan_cache_mode', 'force_generic_plan', false)," \
	" set_config('enable_seqscan', 'off', false)," \
	" set_config('enable_hashjoin', 'off', false)," \
	" set_config('enable_mergejoin', 'off', false)"

/* A driver_id may hold any code point. One that the encoding lacks is class 22, which would be the record's fault. */
static enum pg_result check_encoding(struct pg *pg, struct slice encoding)
{
	if (slice_equal(encoding, SLICE_LITERAL("UTF8")))
		return PG_OK;
	char why[160];
	snprintf(why, sizeof(why), "the database's encoding (server_encoding) is %.*s, not UTF8: events hold any"
	         " text, so create it with ENCODING 'UTF8'", (int)encoding.len, encoding.data);
	return pg_refuse(pg, why);
}

static enum pg_result set_up_session(struct pg *pg)
{
	const struct pg_settings *s = &pg->settings;
	struct pg_params *p = pg_params_new();
	pg_put_text(p, slice_of(s->schema));
	pg_put_int8(p, s->for_queries ? 0 : s->statement_timeout_ms);
	pg_put_int8(p, s->for_queries ? 0 : s->idle_timeout_ms);
	struct pg_rows *rows = NULL;
	enum pg_result result =
		pg_query(pg, s->for_queries ? SESSION_SETTINGS : SESSION_SETTINGS WORKER_SETTINGS, p, &rows);
	if (result == PG_OK)
		result = check_encoding(pg, pg_text(rows, 0, 0));
	pg_rows_free(rows);
	pg_params_free(p);
	return result;
}

enum pg_result pg_begin_session(struct pg *pg)
{
	enum pg_result result = refuse_pooler(pg);
	if (result == PG_OK)
		result = set_up_session(pg);
	if (result == PG_OK && pg->settings.for_queries)
		pg->wait_ms = -1;
	return result;
}
