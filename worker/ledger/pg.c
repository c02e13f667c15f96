/*
 * The connection is in libpq's nonblocking mode all its life, and every wait is a poll with a deadline:
 * PQexec and a blocking PQflush never time out, and a server that stopped reading because nobody reads
 * its answers would wait for us while we wait for it (so a flush reads, too).
 *
 * A connection of which an answer is overdue and not worked on any more (pg_watch.c), or whose stream is out of step, is
 * dead: what it was asked may or may not have happened, and the only way on is a new one.
 */
#include "worker/ledger/pg.h"

#include "common/clock.h"
#include "worker/ledger/pg_internal.h"
#include "worker/observe/health.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>

enum { FORMAT_TEXT = 0, FORMAT_BINARY = 1 };

const char *pg_error(const struct pg *pg)
{
	return pg->error;
}

const char *pg_sqlstate(const struct pg *pg)
{
	return pg->sqlstate;
}

bool pg_alive(const struct pg *pg)
{
	return !pg->dead;
}

int pg_backend(const struct pg *pg)
{
	return pg->backend;
}

void pg_explain(struct pg *pg, const char *why)
{
	pg_one_line(pg->error, sizeof(pg->error), why);
}

enum pg_result pg_refuse(struct pg *pg, const char *why)
{
	pg->sqlstate[0] = '\0';
	pg_explain(pg, why);
	return PG_UNUSABLE;
}

static enum pg_result lost(struct pg *pg, const char *why)
{
	pg->dead = true;
	pg->sqlstate[0] = '\0';
	pg_one_line(pg->error, sizeof(pg->error), why);
	return PG_RETRY;
}

/* ---- waiting ---- */

static int64_t deadline_in(int wait_ms)
{
	return wait_ms < 0 ? INT64_MAX : clock_mono_us() + wait_ms * INT64_C(1000);
}

/* Returns: as poll(2) for the connection's socket; 0 when the deadline passed. */
static int poll_until(const struct pg *pg, short events, int64_t deadline_us)
{
	struct pollfd fd = {.fd = PQsocket(pg->connection), .events = events};
	for (;;) {
		int timeout_ms = -1;
		if (deadline_us != INT64_MAX) {
			int64_t left_us = deadline_us - clock_mono_us();
			timeout_ms = left_us > 0 ? (int)((left_us + 999) / 1000) : 0;
		}
		int ready = poll(&fd, 1, timeout_ms);
		if (ready > 0)
			return fd.revents;
		if (ready == 0 || errno != EINTR)
			return ready;
	}
}

/* Waits for the server once: sends what waits to be sent, takes in what has come. */
static enum pg_result exchange(struct pg *pg, short events, int64_t deadline_us)
{
	heart_beat_own();
	int ready = poll_until(pg, events, deadline_us);
	if (ready < 0)
		return lost(pg, "poll failed on the connection to PostgreSQL");
	if (ready == 0) {
		char why[128];
		snprintf(why, sizeof(why), "no answer from PostgreSQL within %d ms", pg->wait_ms);
		return lost(pg, why);
	}
	if ((ready & ~POLLOUT) && !PQconsumeInput(pg->connection))
		return lost(pg, PQerrorMessage(pg->connection));
	return PG_OK;
}

static enum pg_result flush_all(struct pg *pg)
{
	int64_t deadline_us = deadline_in(pg->wait_ms);
	for (;;) {
		int left = PQflush(pg->connection);
		if (left < 0)
			return lost(pg, PQerrorMessage(pg->connection));
		if (left == 0)
			return PG_OK;
		enum pg_result result = exchange(pg, POLLIN | POLLOUT, deadline_us);
		if (result != PG_OK)
			return result;
	}
}

/* Waits past the deadline for what the server process still works on. Returns: PG_OK when there is input. */
static enum pg_result await_overdue(struct pg *pg, int64_t begun_us)
{
	while (pg_wait_on(pg, (clock_mono_us() - begun_us) / 1000)) {
		int ready = poll_until(pg, POLLIN, deadline_in(PG_ANSWER_GRACE_MS));
		if (ready != 0)
			return PG_OK; /* exchange sees what it is */
	}
	/* It rests, or is gone: what it has answered is on its way, or lost. */
	return poll_until(pg, POLLIN, deadline_in(pg->settings.overdue ? PG_ANSWER_LOST_MS : 0)) != 0 ? PG_OK : PG_RETRY;
}

/* The next PGresult, NULL being the one between commands. */
static enum pg_result next_answer(struct pg *pg, PGresult **answer)
{
	int64_t begun_us = clock_mono_us(), deadline_us = deadline_in(pg->wait_ms);
	while (PQisBusy(pg->connection)) {
		if (poll_until(pg, POLLIN, deadline_us) == 0 && await_overdue(pg, begun_us) == PG_OK)
			deadline_us = deadline_in(pg->wait_ms);
		enum pg_result result = exchange(pg, POLLIN, deadline_us);
		if (result != PG_OK)
			return result;
	}
	*answer = PQgetResult(pg->connection);
	return PG_OK;
}

/* ---- what an answer means ---- */

static enum pg_result error_of(struct pg *pg, const PGresult *answer)
{
	const char *sqlstate = PQresultErrorField(answer, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY);
	const char *severity = PQresultErrorField(answer, PG_DIAG_SEVERITY_NONLOCALIZED);
	if (!sqlstate) /* made by libpq: the connection broke */
		return lost(pg, PQresultErrorMessage(answer));
	/* DETAIL is left out: it shows values. */
	char text[PG_ERROR_MAX];
	snprintf(text, sizeof(text), "%s %s", sqlstate, message ? message : "");
	pg_one_line(pg->error, sizeof(pg->error), text);
	snprintf(pg->sqlstate, sizeof(pg->sqlstate), "%s", sqlstate);
	if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		pg->dead = true;
	/* A prepared statement that is gone (a pooler), or whose result type a migration changed, stays so for
	 * this connection and is right again on a new one. */
	if (strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "0A000") == 0)
		pg->dead = true;
	/* Read-only now, by demotion or an operator: another connection goes to the server that is not, or waits for it. */
	if (strcmp(sqlstate, "25006") == 0)
		pg->dead = true;
	const char *constraint = PQresultErrorField(answer, PG_DIAG_CONSTRAINT_NAME);
	if (strcmp(sqlstate, "23505") == 0 && constraint && strcmp(constraint, PG_ORDERS_KEY) == 0)
		return PG_STALE;
	return pg_result_of_sqlstate(sqlstate);
}

static enum pg_result result_of(struct pg *pg, const PGresult *answer, const char *sql)
{
	switch (PQresultStatus(answer)) {
	case PGRES_COMMAND_OK:
		/* COMMIT of a transaction in error "succeeds" as a ROLLBACK. */
		if (strcmp(PQcmdStatus((PGresult *)answer), "ROLLBACK") == 0 && strncasecmp(sql, "ROLLBACK", 8) != 0) {
			pg->sqlstate[0] = '\0';
			pg_one_line(pg->error, sizeof(pg->error), "the transaction was rolled back instead of committed");
			return PG_RETRY;
		}
		return PG_OK;
	case PGRES_TUPLES_OK:
	case PGRES_EMPTY_QUERY:
		return PG_OK;
	case PGRES_PIPELINE_ABORTED: /* the cause was told with an earlier statement */
		return PG_RETRY;
	case PGRES_FATAL_ERROR:
	case PGRES_NONFATAL_ERROR:
	case PGRES_BAD_RESPONSE:
		return error_of(pg, answer);
	default:
		return lost(pg, "PostgreSQL gave an answer of an unexpected kind");
	}
}

/* ---- one statement at a time ---- */

/* Takes all answers of what was sent: the first error, else the last result. */
static enum pg_result collect(struct pg *pg, const char *sql, struct pg_rows **rows)
{
	enum pg_result first = flush_all(pg);
	PGresult *last = NULL;
	while (!pg->dead) {
		PGresult *answer = NULL;
		enum pg_result result = next_answer(pg, &answer);
		if (result == PG_OK && !answer)
			break;
		if (result == PG_OK)
			result = result_of(pg, answer, sql);
		if (first == PG_OK)
			first = result;
		PQclear(last);
		last = answer;
	}
	/* libpq before 15 has no result to give when it is out of memory, and then nothing says that it was done. */
	if (first == PG_OK && !last)
		return lost(pg, "PostgreSQL's answer is missing");
	if (first == PG_OK && rows)
		*rows = pg_rows_new(last);
	else
		PQclear(last);
	return first;
}

/* The parameters in the form libpq wants them. */
struct sendable {
	const char *values[PG_PARAMS_MAX];
	int formats[PG_PARAMS_MAX];
};

static void make_sendable(const struct pg_params *p, struct sendable *out)
{
	ENSURE(p->array_type == 0);
	for (int i = 0; i < p->count; i++) {
		out->formats[i] = FORMAT_BINARY;
		out->values[i] = NULL;
		if (p->lengths[i] >= 0)
			out->values[i] = p->data.data ? p->data.data + p->offsets[i] : "";
	}
}

static const struct pg_params no_params;

static enum pg_result query(struct pg *pg, const char *sql, const struct pg_params *params, int format,
                            struct pg_rows **rows)
{
	if (pg->dead)
		return PG_RETRY;
	ENSURE(PQpipelineStatus(pg->connection) == PQ_PIPELINE_OFF);
	if (!params)
		params = &no_params;
	struct sendable s;
	make_sendable(params, &s);
	if (!PQsendQueryParams(pg->connection, sql, params->count, params->types, s.values, params->lengths, s.formats,
	                       format))
		return lost(pg, PQerrorMessage(pg->connection));
	return collect(pg, sql, rows);
}

enum pg_result pg_query(struct pg *pg, const char *sql, const struct pg_params *params, struct pg_rows **rows)
{
	return query(pg, sql, params, FORMAT_BINARY, rows);
}

enum pg_result pg_query_text(struct pg *pg, const char *sql, const struct pg_params *params, struct pg_rows **rows)
{
	return query(pg, sql, params, FORMAT_TEXT, rows);
}

enum pg_result pg_script(struct pg *pg, const char *sql)
{
	if (pg->dead)
		return PG_RETRY;
	ENSURE(PQpipelineStatus(pg->connection) == PQ_PIPELINE_OFF);
	if (!PQsendQuery(pg->connection, sql))
		return lost(pg, PQerrorMessage(pg->connection));
	return collect(pg, sql, NULL);
}

/* ---- pipelines ---- */

static void owe(struct pg *pg, enum pg_pending_kind kind, const struct pg_statement *statement)
{
	ENSURE(pg->pending_count < PG_PENDING_MAX);
	struct pg_pending *p = &pg->pending[(pg->pending_first + pg->pending_count++) % PG_PENDING_MAX];
	p->kind = kind;
	p->statement = statement;
}

static int find_prepared(const struct pg *pg, const struct pg_statement *s)
{
	int i = 0;
	while (i < pg->prepared_count && pg->prepared[i] != s)
		i++;
	return i;
}

static void forget_prepared(struct pg *pg, const struct pg_statement *s)
{
	int i = find_prepared(pg, s);
	if (i < pg->prepared_count)
		pg->prepared[i] = pg->prepared[--pg->prepared_count];
}

/* Of the messages that one statement is, at the most: the values, a few numbers for each, names, heads. */
static size_t bytes_on_the_wire(const struct pg_statement *s, const struct pg_params *params, bool prepare)
{
	return params->data.len + (size_t)params->count * 12 + strlen(s->name) + (prepare ? strlen(s->sql) : 0) + 128;
}

enum pg_result pg_send(struct pg *pg, const struct pg_statement *s, const struct pg_params *params)
{
	if (pg->dead)
		return PG_RETRY;
	ENSURE(!pg->synced);
	if (PQpipelineStatus(pg->connection) == PQ_PIPELINE_OFF)
		ENSURE(PQenterPipelineMode(pg->connection));
	if (!params)
		params = &no_params;
	struct sendable ready;
	make_sendable(params, &ready);
	bool prepare = find_prepared(pg, s) == pg->prepared_count;
	if (prepare) {
		ENSURE(pg->prepared_count < PG_STATEMENTS_MAX);
		if (!PQsendPrepare(pg->connection, s->name, s->sql, params->count, params->types))
			return lost(pg, PQerrorMessage(pg->connection));
		pg->prepared[pg->prepared_count++] = s;
		owe(pg, PG_PREPARE, s);
	}
	if (!PQsendQueryPrepared(pg->connection, s->name, params->count, ready.values, params->lengths, ready.formats,
	                         FORMAT_BINARY))
		return lost(pg, PQerrorMessage(pg->connection));
	owe(pg, PG_EXECUTE, s);
	pg->unsynced += bytes_on_the_wire(s, params, prepare);
	/* Some of it has left, and what it locked is not to outlive us, frozen in the middle of a pipeline. */
	return pg->unsynced < PG_PIECE ? PG_OK : pg_flush(pg);
}

enum pg_result pg_flush(struct pg *pg)
{
	if (pg->dead)
		return PG_RETRY;
	/* A Sync, not a mere Flush: the server arms idle_in_transaction_session_timeout at ReadyForQuery only. */
	if (!PQpipelineSync(pg->connection))
		return lost(pg, PQerrorMessage(pg->connection));
	owe(pg, PG_SYNC, NULL);
	pg->unsynced = 0;
	return flush_all(pg);
}

enum pg_result pg_sync(struct pg *pg)
{
	if (pg->dead)
		return PG_RETRY;
	ENSURE(!pg->synced);
	if (!PQpipelineSync(pg->connection))
		return lost(pg, PQerrorMessage(pg->connection));
	pg->synced = true;
	pg->unsynced = 0;
	return flush_all(pg);
}

#ifdef FAILPOINTS
void pg_let_execute(struct pg *pg)
{
	if (pg->dead)
		return;
	/* As pg_send itself does behind what is long. */
	if (pg->unsynced > 0 && pg_flush(pg) != PG_OK)
		return;
	(void)poll_until(pg, POLLIN, deadline_in(pg->wait_ms));
}
#endif

/* One command's answer and the NULL behind it. *answer is set only with PG_OK. */
static enum pg_result take_answer(struct pg *pg, const char *sql, PGresult **answer)
{
	PGresult *got = NULL, *end = NULL;
	enum pg_result result = next_answer(pg, &got);
	if (result != PG_OK)
		return result;
	if (!got)
		return lost(pg, "the pipeline is out of step: an answer is missing");
	result = result_of(pg, got, sql);
	if (!pg->dead && next_answer(pg, &end) == PG_OK && end) {
		PQclear(end);
		result = lost(pg, "the pipeline is out of step: an answer too many");
	}
	if (pg->dead && result == PG_OK)
		result = PG_RETRY;
	if (result == PG_OK)
		*answer = got;
	else
		PQclear(got);
	return result;
}

static enum pg_result take_sync(struct pg *pg)
{
	PGresult *answer = NULL;
	enum pg_result result = next_answer(pg, &answer);
	if (result == PG_OK && (!answer || PQresultStatus(answer) != PGRES_PIPELINE_SYNC))
		result = lost(pg, "the pipeline is out of step: no end where one was due");
	PQclear(answer);
	return result;
}

static struct pg_pending next_owed(struct pg *pg)
{
	struct pg_pending item = pg->pending[pg->pending_first];
	pg->pending_first = (pg->pending_first + 1) % PG_PENDING_MAX;
	pg->pending_count--;
	return item;
}

/* What pg_flush left behind the answer just taken, so that an answer is always first. */
static enum pg_result take_syncs(struct pg *pg)
{
	while (!pg->dead && pg->pending_count > 0 && pg->pending[pg->pending_first].kind == PG_SYNC) {
		next_owed(pg);
		if (take_sync(pg) != PG_OK)
			return PG_RETRY;
	}
	return pg->dead ? PG_RETRY : PG_OK;
}

enum pg_result pg_receive(struct pg *pg, struct pg_rows **rows)
{
	ENSURE(pg->dead || pg->pending_count > 0);
	enum pg_result first = PG_OK;
	for (;;) {
		if (pg->dead)
			return first != PG_OK ? first : PG_RETRY;
		struct pg_pending item = next_owed(pg);
		PGresult *answer = NULL;
		enum pg_result result = take_answer(pg, item.statement->sql, &answer);
		if (first == PG_OK)
			first = result;
		if (item.kind == PG_PREPARE) {
			/* Also when it was only passed over behind an earlier error. */
			if (result != PG_OK)
				forget_prepared(pg, item.statement);
			PQclear(answer);
			continue;
		}
		result = take_syncs(pg);
		if (first == PG_OK)
			first = result;
		if (first == PG_OK && rows)
			*rows = pg_rows_new(answer);
		else
			PQclear(answer);
		return first;
	}
}

enum pg_result pg_finish(struct pg *pg)
{
	if (pg->dead)
		return PG_RETRY;
	ENSURE(pg->synced && pg->pending_count == 0);
	enum pg_result result = take_sync(pg);
	if (result != PG_OK)
		return result;
	pg->synced = false;
	if (!PQexitPipelineMode(pg->connection))
		return lost(pg, "the pipeline is out of step: an answer is left");
	return PG_OK;
}

enum pg_result pg_rollback(struct pg *pg)
{
	if (pg->dead)
		return PG_RETRY;
	if (PQpipelineStatus(pg->connection) != PQ_PIPELINE_OFF) {
		/* After an error the server passes over everything up to the sync, so it comes before the ROLLBACK. */
		enum pg_result result = pg->synced ? PG_OK : pg_sync(pg);
		while (result == PG_OK && pg->pending_count > 0) {
			/* Why a statement failed was told to whoever received it, or does not matter any more. */
			if (pg_receive(pg, NULL) != PG_OK && pg->dead)
				return PG_RETRY;
		}
		if (result == PG_OK)
			result = pg_finish(pg);
		if (result != PG_OK)
			return result;
	}
	if (PQtransactionStatus(pg->connection) == PQTRANS_IDLE)
		return PG_OK;
	return pg_script(pg, "ROLLBACK");
}

/* ---- notifications ---- */

enum pg_result pg_wait_notification(struct pg *pg, int timeout_ms, bool *notified)
{
	if (pg->dead)
		return PG_RETRY;
	int64_t deadline_us = deadline_in(timeout_ms);
	bool any = false;
	for (;;) {
		if (!PQconsumeInput(pg->connection))
			return lost(pg, PQerrorMessage(pg->connection));
		PGnotify *n;
		while ((n = PQnotifies(pg->connection))) {
			PQfreemem(n);
			any = true;
		}
		int ready = any ? 0 : poll_until(pg, POLLIN, deadline_us);
		if (ready < 0)
			return lost(pg, "poll failed on the connection to PostgreSQL");
		if (ready == 0) {
			*notified = any;
			return PG_OK;
		}
	}
}
