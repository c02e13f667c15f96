#include "worker/ledger/migrate.h"

#include "schemas/migrations.h"

#include <stdio.h>

/* pg_advisory_lock's key: "delivery" in ASCII. Locks are per database. */
#define LOCK_KEY "7234307576654295673"

int ledger_schema_newest(void)
{
	return migrations[migration_count - 1].version;
}

/* ---- what is there ---- */

struct schema_row {
	int version;    /* 0: no schema, or an empty one */
	int min_worker; /* the oldest worker that its newest migration is made for */
};

static enum pg_result read_boolean(struct pg *pg, const char *sql, const struct pg_params *params, bool *value)
{
	struct pg_rows *rows = NULL;
	enum pg_result result = pg_query(pg, sql, params, &rows);
	if (result == PG_OK)
		*value = pg_integer(rows, 0, 0) != 0;
	pg_rows_free(rows);
	return result;
}

static enum pg_result read_schema(struct pg *pg, struct schema_row *found)
{
	*found = (struct schema_row){0};
	bool there = false;
	/* current_schema() is NULL while the schema of search_path does not exist. */
	enum pg_result result = read_boolean(
		pg, "SELECT coalesce(to_regclass(quote_ident(current_schema()) || '.schema_version') IS NOT NULL, false)", NULL,
		&there);
	if (result != PG_OK || !there)
		return result;
	struct pg_rows *rows = NULL;
	result = pg_query(pg, "SELECT version, min_worker FROM schema_version ORDER BY version DESC LIMIT 1", NULL, &rows);
	if (result == PG_OK && pg_rows_count(rows) == 1) {
		found->version = (int)pg_integer(rows, 0, 0);
		found->min_worker = (int)pg_integer(rows, 0, 1);
	}
	pg_rows_free(rows);
	return result;
}

enum pg_result ledger_schema_version(struct pg *pg, int *version)
{
	struct schema_row found;
	enum pg_result result = read_schema(pg, &found);
	if (result == PG_OK)
		*version = found.version;
	return result;
}

enum pg_result ledger_schema_fit(struct pg *pg, enum schema_fit *fit, int *found)
{
	struct schema_row row;
	enum pg_result result = read_schema(pg, &row);
	if (result != PG_OK)
		return result;
	*found = row.version;
	if (row.version == 0)
		*fit = SCHEMA_MISSING;
	else if (row.version < ledger_schema_newest())
		*fit = SCHEMA_OLDER;
	else
		*fit = row.min_worker <= ledger_schema_newest() ? SCHEMA_FITS : SCHEMA_NEWER;
	return PG_OK;
}

void ledger_schema_explain(enum schema_fit fit, int found, const char *schema, char *text, size_t size)
{
	int own = ledger_schema_newest();
	switch (fit) {
	case SCHEMA_FITS:
		snprintf(text, size, "schema \"%s\" has version %d, which fits this binary (%d)", schema, found, own);
		return;
	case SCHEMA_MISSING:
		snprintf(text, size, "schema \"%s\" holds no ledger: run delivery-worker migrate", schema);
		return;
	case SCHEMA_OLDER:
		snprintf(text, size, "schema \"%s\" has version %d, this binary needs %d: run delivery-worker migrate", schema,
		         found, own);
		return;
	case SCHEMA_NEWER:
		snprintf(text, size, "schema \"%s\" has version %d, too new for this binary (%d): run a newer delivery-worker",
		         schema, found, own);
		return;
	}
	UNREACHABLE("a schema that is none of the four");
}

/* ---- bringing it up ---- */

static enum pg_result take_lock(struct pg *pg, migrate_report *report, void *owner)
{
	bool taken = false;
	enum pg_result result = read_boolean(pg, "SELECT pg_try_advisory_lock(" LOCK_KEY ")", NULL, &taken);
	if (result != PG_OK || taken)
		return result;
	report(owner, MIGRATE_WAITS, 0, NULL);
	return pg_query(pg, "SELECT pg_advisory_lock(" LOCK_KEY ")", NULL, NULL);
}

/* Not CREATE ... IF NOT EXISTS alone: that asks for the privilege to create even where there is nothing to do. */
static enum pg_result make_schema(struct pg *pg, const char *schema, migrate_report *report, void *owner)
{
	struct pg_params *params = pg_params_new();
	pg_put_text(params, slice_of(schema));
	bool there = false;
	enum pg_result result =
		read_boolean(pg, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", params, &there);
	pg_params_free(params);
	if (result != PG_OK || there)
		return result;

	struct buf sql = BUF_INIT;
	buf_puts(&sql, "CREATE SCHEMA IF NOT EXISTS \"");
	for (const char *c = schema; *c; c++) {
		if (*c == '"')
			buf_putc(&sql, '"');
		buf_putc(&sql, *c);
	}
	buf_puts(&sql, "\"");
	result = pg_script(pg, sql.data);
	buf_release(&sql);
	if (result == PG_OK)
		report(owner, MIGRATE_CREATED, 0, schema);
	return result;
}

static const char make_version_table[] =
	"CREATE TABLE schema_version ("
	" version integer PRIMARY KEY,"
	" name text NOT NULL,"
	" applied_at timestamptz NOT NULL DEFAULT now(),"
	/* The oldest worker, named by the newest version that it knows, that may run on this version. */
	" min_worker integer NOT NULL)";

static enum pg_result note_version(struct pg *pg, const struct migration *m)
{
	struct pg_params *params = pg_params_new();
	pg_put_int8(params, m->version);
	pg_put_text(params, slice_of(m->name));
	pg_put_int8(params, m->version > 1 ? m->version - 1 : 1);
	enum pg_result result =
		pg_query(pg, "INSERT INTO schema_version (version, name, min_worker) VALUES ($1, $2, $3)", params, NULL);
	pg_params_free(params);
	return result;
}

/* Who stands in the way of a migration, the oldest transactions first; other users' states may not be ours to see. */
static const char select_holders[] =
	"SELECT string_agg(format('%s holds %s', who, tables), ', ' ORDER BY since) FROM ("
	" SELECT format('pid %s (%s, application %s, %s, transaction of %s s)', a.pid, coalesce(a.usename, a.backend_type),"
	"  coalesce(nullif(a.application_name, ''), 'unnamed'), coalesce(a.state, 'state unknown'),"
	"  coalesce(round(extract(epoch FROM clock_timestamp() - a.xact_start))::text, '?')) AS who,"
	"  a.xact_start AS since, string_agg(DISTINCT c.relname, ' and ') AS tables"
	" FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation"
	" WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relkind = 'r'"
	" AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
	" AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
	" GROUP BY a.pid, a.usename, a.backend_type, a.application_name, a.state, a.xact_start"
	" ORDER BY a.xact_start LIMIT 3) holders";

/* For an operator, who is to end the transaction that is in the way. */
static void explain_lock(struct pg *pg, const struct migration *m, int lock_timeout_ms)
{
	struct pg_rows *rows = NULL;
	struct buf why = BUF_INIT;
	struct slice holders = {0};
	if (pg_query(pg, select_holders, NULL, &rows) == PG_OK)
		holders = pg_text(rows, 0, 0);
	buf_printf(&why, "%s waited over %d ms for a lock (migrate.lock_timeout_ms) and changed nothing: ", m->name,
	           lock_timeout_ms);
	if (slice_present(holders))
		buf_printf(&why, "%.*s", (int)holders.len, holders.data);
	else
		buf_puts(&why, "nobody holds one any more, run it again");
	pg_explain(pg, why.data);
	buf_release(&why);
	pg_rows_free(rows);
}

static enum pg_result begin_bounded(struct pg *pg, int lock_timeout_ms)
{
	char sql[96];
	snprintf(sql, sizeof(sql), "BEGIN; SET LOCAL lock_timeout = %d", lock_timeout_ms);
	return pg_script(pg, sql);
}

/* A crash before COMMIT leaves the schema at the version before, one after it at the new one. */
static enum pg_result apply(struct pg *pg, const struct migration *m, int lock_timeout_ms)
{
	enum pg_result result = begin_bounded(pg, lock_timeout_ms);
	if (result == PG_OK && m->version == 1)
		result = pg_query(pg, make_version_table, NULL, NULL);
	if (result == PG_OK)
		result = pg_script(pg, m->sql);
	if (result == PG_OK)
		result = note_version(pg, m);
	if (result == PG_OK)
		result = pg_query(pg, "COMMIT", NULL, NULL);
	if (result == PG_OK)
		return PG_OK;
	bool locked = strcmp(pg_sqlstate(pg), "55P03") == 0;
	if (pg_rollback(pg) != PG_OK)
		ENSURE(!pg_alive(pg)); /* the server ends the transaction with the session */
	else if (locked)
		explain_lock(pg, m, lock_timeout_ms);
	return result;
}

enum pg_result ledger_migrate(struct pg *pg, const char *schema, int lock_timeout_ms, migrate_report *report,
                              void *owner, int *before, int *after)
{
	enum pg_result result = take_lock(pg, report, owner);
	if (result == PG_OK)
		result = make_schema(pg, schema, report, owner);
	/* Under the lock, so that what is read is what the last run left. */
	if (result == PG_OK)
		result = ledger_schema_version(pg, before);
	if (result != PG_OK)
		return result;
	*after = *before;
	for (size_t i = 0; i < migration_count; i++) {
		if (migrations[i].version <= *before)
			continue;
		result = apply(pg, &migrations[i], lock_timeout_ms);
		if (result != PG_OK)
			return result;
		*after = migrations[i].version;
		report(owner, MIGRATE_APPLIED, *after, migrations[i].name);
	}
	return pg_query(pg, "SELECT pg_advisory_unlock(" LOCK_KEY ")", NULL, NULL);
}

enum pg_result ledger_draw_epoch(struct pg *pg, const char *because, char epoch[37])
{
	struct pg_params *params = pg_params_new();
	pg_put_text(params, slice_of(because));
	struct pg_rows *rows = NULL;
	/* With what identifies the server now: else a worker would find it changed and draw another one. */
	enum pg_result result = pg_query_text(
		pg,
		"UPDATE history SET epoch = gen_random_uuid(), drawn_at = now(), drawn_because = $1,"
		" system_identifier = (SELECT system_identifier::text FROM pg_control_system()),"
		" timeline = substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),"
		" database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())"
		" RETURNING epoch",
		params, &rows);
	if (result == PG_OK && pg_rows_count(rows) != 1)
		result = pg_refuse(pg, "table history has no row: not a ledger's schema");
	if (result == PG_OK)
		snprintf(epoch, 37, "%.36s", pg_text(rows, 0, 0).data);
	pg_rows_free(rows);
	pg_params_free(params);
	return result;
}
