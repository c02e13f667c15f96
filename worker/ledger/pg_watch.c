/*
 * An answer that is overdue. statement_timeout ends what runs too long, but not a COMMIT that waits for a synchronous
 * standby, and whoever leaves one of those behind leaves its server process and its locks, for as long as the standby is
 * away. So another connection is asked what the server process does, and an answer that it works on is waited for.
 */
#include "worker/ledger/pg_internal.h"

#include "common/clock.h"

#include <inttypes.h>
#include <stdio.h>

/* For one look: it is not to be overdue itself. */
enum { LOOK_TIMEOUT_MS = 5000 };

static enum pg_result look(const struct pg *pg, struct pg *other, bool *works, char *what, size_t size)
{
	struct pg_params *p = pg_params_new();
	struct pg_rows *rows = NULL;
	pg_put_int8(p, pg->backend);
	enum pg_result result = pg_query(
		other,
		"SELECT CASE WHEN wait_event = 'SyncRep' THEN 'it waits for a synchronous standby (SyncRep), of '"
		" || current_setting('synchronous_standby_names') ELSE 'its server process works on it, waiting for '"
		" || coalesce(wait_event_type || '/' || wait_event, 'nothing') END"
		" FROM pg_stat_activity WHERE pid = $1::int8 AND state = 'active' AND usename = current_user",
		p, &rows);
	if (result == PG_OK) {
		*works = pg_rows_count(rows) == 1;
		struct slice text = *works ? pg_text(rows, 0, 0) : (struct slice){0};
		snprintf(what, size, "%.*s", (int)text.len, text.data ? text.data : "");
	} else {
		snprintf(what, size, "%s", pg_error(other));
	}
	pg_rows_free(rows);
	pg_params_free(p);
	return result;
}

/* Returns: whether to wait on; with the reason in `what`. Where nobody tells, nobody would answer another try either. */
static bool worth_waiting(const struct pg *pg, char *what, size_t size)
{
	struct pg_settings settings = pg->settings;
	struct pg *other = NULL;
	bool works = true;
	if (settings.connect_timeout_ms > LOOK_TIMEOUT_MS)
		settings.connect_timeout_ms = LOOK_TIMEOUT_MS;
	settings.statement_timeout_ms = LOOK_TIMEOUT_MS - PG_ANSWER_GRACE_MS;
	settings.overdue = NULL;
	enum pg_result result = pg_open(&settings, &other, what, size);
	if (result == PG_OK)
		result = look(pg, other, &works, what, size);
	pg_close(other);
	return result != PG_OK || works;
}

bool pg_wait_on(const struct pg *pg, int64_t waited_ms)
{
	char what[PG_ERROR_MAX - 80], why[PG_ERROR_MAX];
	if (!pg->settings.overdue || !worth_waiting(pg, what, sizeof(what)))
		return false;
	snprintf(why, sizeof(why), "no answer from PostgreSQL for %" PRId64 " ms: %s", waited_ms, what);
	pg->settings.overdue(pg->settings.overdue_owner, why);
	return true;
}

void pg_explain_timeout(struct pg *pg, char *reason, size_t size)
{
	struct pg_rows *rows = NULL;
	size_t len = strlen(reason);
	if (!pg_alive(pg) || (strcmp(pg_sqlstate(pg), "57014") != 0 && strcmp(pg_sqlstate(pg), "55P03") != 0))
		return;
	if (pg_query(pg, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
	                 " AND wait_event = 'SyncRep'", NULL, &rows) == PG_OK && pg_integer(rows, 0, 0) > 0)
		snprintf(reason + len, size - len, " (%" PRId64 " sessions wait for a synchronous standby, SyncRep)",
		         pg_integer(rows, 0, 0));
	pg_rows_free(rows);
}
