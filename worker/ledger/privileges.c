#include "worker/ledger/privileges.h"

#include <stdio.h>

struct need {
	const char *kind;      /* schema, table, function */
	const char *object;    /* of the ledger's schema, or of pg_catalog: "pg_" begins those only; "" the schema itself */
	const char *privilege;
	const char *why;
};

/* In the order in which they are named. Rows are locked by FOR SHARE and FOR UPDATE, which ask for UPDATE. */
static const struct need needs[] = {
	{"schema", "", "USAGE", "all"},
	{"table", "schema_version", "SELECT", "which version the schema has"},
	{"table", "history", "SELECT", "the epoch of each batch"},
	{"table", "history", "UPDATE", "locking it, drawing an epoch"},
	{"table", "rules", "SELECT", "pricing"},
	{"table", "partners", "SELECT", "pricing, limits"},
	{"table", "orders", "SELECT", "merging facts"},
	{"table", "orders", "INSERT", "new orders"},
	{"table", "orders", "UPDATE", "merging facts"},
	{"table", "posted", "INSERT", "postings"},
	{"table", "balances", "SELECT", "adding to a balance"},
	{"table", "balances", "INSERT", "new accounts"},
	{"table", "balances", "UPDATE", "adding to a balance"},
	{"table", "progress", "SELECT", "where to start"},
	{"table", "progress", "INSERT", "taking a partition"},
	{"table", "progress", "UPDATE", "what is settled"},
	{"table", "lost_offsets", "SELECT", "what was found lost"},
	{"table", "lost_offsets", "INSERT", "what is found lost"},
	{"table", "lost_offsets", "UPDATE", "accepting a loss"},
	{"table", "members", "SELECT", "telling a reset from a foreign commit"},
	{"table", "members", "INSERT", "joining the group"},
	{"table", "members", "UPDATE", "staying in the group"},
	{"table", "members", "DELETE", "leaving the group"},
	{"table", "witnesses", "SELECT", "finding lost commits"},
	{"table", "witnesses", "INSERT", "each connection"},
	{"table", "witnesses", "UPDATE", "each batch"},
	{"table", "witnesses", "DELETE", "drawing an epoch"},
	{"function", "expect_rows", "EXECUTE", "each batch"},
	{"table", "pg_database", "SELECT", "whether it is the same database"},
	{"function", "pg_control_system", "EXECUTE", "whether it is the same server"},
	{"function", "pg_walfile_name", "EXECUTE", "the timeline of each batch"},
	{"function", "pg_current_wal_insert_lsn", "EXECUTE", "finding lost commits"},
	{"function", "pg_current_wal_flush_lsn", "EXECUTE", "finding lost commits"},
};
enum { NEEDS = sizeof(needs) / sizeof(needs[0]) };

/* By the catalog, since a name in a schema without USAGE is an error. A function counts in all its forms. */
static const char ask_for[] =
	"WITH need AS ("
	" SELECT i, kind, object, privilege, (SELECT oid FROM pg_namespace"
	"  WHERE nspname = CASE WHEN object LIKE 'pg\\_%' THEN 'pg_catalog' ELSE $1::text END) AS schema"
	" FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY u (kind, object, privilege, i))"
	" SELECT i, current_user::text FROM need WHERE NOT coalesce(CASE kind"
	"  WHEN 'schema' THEN has_schema_privilege(schema, privilege)"
	"  WHEN 'table' THEN (SELECT has_table_privilege(c.oid, privilege) FROM pg_class c"
	"   WHERE c.relnamespace = schema AND c.relname = object)"
	"  ELSE (SELECT bool_and(has_function_privilege(p.oid, privilege)) FROM pg_proc p"
	"   WHERE p.pronamespace = schema AND p.proname = object) END, true) ORDER BY i";

static void put_needs(struct pg_params *p, const char *schema)
{
	pg_put_text(p, slice_of(schema));
	for (int column = 0; column < 3; column++) {
		pg_array_begin(p, PG_TEXT);
		for (size_t i = 0; i < NEEDS; i++)
			pg_array_text(p, slice_of(column == 0   ? needs[i].kind
			                          : column == 1 ? needs[i].object
			                                        : needs[i].privilege));
		pg_array_end(p);
	}
}

/* "UPDATE on history (locking it, drawing an epoch)". */
static void explain(const struct pg_rows *rows, const char *schema, char *text, size_t size)
{
	struct slice role = pg_text(rows, 0, 1);
	struct buf out = BUF_INIT;
	buf_printf(&out, "role %.*s lacks what deploy/sql/roles.sql grants:", (int)role.len, role.data);
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		const struct need *n = &needs[pg_integer(rows, row, 0) - 1];
		const char *kind = strcmp(n->kind, "table") == 0 ? "" : n->kind;
		buf_printf(&out, "%s %s on %s%s%s (%s)", row ? "," : "", n->privilege, kind, kind[0] ? " " : "",
		           n->object[0] ? n->object : schema, n->why);
	}
	snprintf(text, size, "%s", out.data);
	buf_release(&out);
}

enum pg_result ledger_privileges(struct pg *pg, const char *schema, bool *missing, char *text, size_t size)
{
	struct pg_params *params = pg_params_new();
	struct pg_rows *rows = NULL;
	put_needs(params, schema);
	enum pg_result result = pg_query(pg, ask_for, params, &rows);
	if (result == PG_OK) {
		*missing = pg_rows_count(rows) > 0;
		if (*missing)
			explain(rows, schema, text, size);
	}
	pg_rows_free(rows);
	pg_params_free(params);
	return result;
}
