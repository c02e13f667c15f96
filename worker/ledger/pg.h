/*
 * libpq, the part that we use; only the pg*.c files include it. One struct pg is one connection.
 * Sessions are set up alike: search_path, UTF8, UTC, jit off, synchronous_commit the server's, but on where that is
 * off or local, the timeouts of the options, forced generic plans without sequential scans (a generic plan made while
 * a table was small otherwise stays a hash join over all of it), target_session_attrs=read-write, keepalives and
 * tcp_user_timeout. Parameters and results are binary unless said otherwise. A database in another encoding than UTF8
 * is PG_UNUSABLE, and so is a pooler that hands server processes out by the transaction.
 *
 * Errors: every call returns an enum pg_result, decided from SQLSTATE here, where the cause is known;
 * the text is in pg_error. No call logs.
 * Thread: one at a time.
 */
#ifndef WORKER_LEDGER_PG_H
#define WORKER_LEDGER_PG_H

#include "common/buf.h"
#include "common/ensure.h"
#include "common/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum pg_result {
	PG_OK = 0,
	PG_RETRY = -1,     /* connection, shutdown, serialization, deadlock, lock or statement timeout, out of
	                      resources, read-only: the same again later; after a lost COMMIT the outcome is unknown */
	PG_STALE = -2,     /* DW001, or 23505 of the orders' key: an order changed, or came to be, since it was
	                      read; read again, at once */
	PG_REJECTED = -3,  /* SQLSTATE class 22 or 23: the data */
	PG_UNUSABLE = -4,  /* anything else (no such table, no privilege, wrong password): waits for an operator */
};

struct pg;

/* An answer is overdue, and its server process works on it, or nobody can tell: `why`, one line, good until it returns. */
typedef void pg_overdue(void *owner, const char *why);

struct pg_settings {
	const char *dsn;
	const char *dsn_file; /* read anew for each connection; NULL: `dsn` counts */
	const char *schema;
	int connect_timeout_ms;
	int statement_timeout_ms;
	int idle_timeout_ms;
	bool for_queries; /* a command's session: plans are left to the server, no statement timeout */
	/*
	 * Called every few seconds while an answer is waited for beyond statement_timeout, as long as the connection lives
	 * and the server process works: a COMMIT that waits for a synchronous standby. NULL: the connection is given up
	 * when an answer is overdue, and with it a server process that goes on.
	 */
	pg_overdue *overdue;
	void *overdue_owner;
};

/* Whether pg_connect could read the connection string, without a connection. Returns: 0; -1 and one line in `error`,
 * without any piece of the string. */
must_use int pg_check_dsn(const char *dsn, char *error, size_t error_size);
/* Whether the string lets another machine be talked to in clear, or unproven; then one line in `text`. */
bool pg_tls_warning(const char *dsn, char *text, size_t size);
/* Beyond this machine a string without sslmode means require. */
must_use enum pg_result pg_connect(const struct pg_settings *s, struct pg **out, char *error, size_t error_size);
void pg_close(struct pg *pg); /* NULL is fine */
/* The reason of the last result that was not PG_OK: one line, no password. */
const char *pg_error(const struct pg *pg);
/* "23514" and the like of the last error; "" where there was none from the server. */
const char *pg_sqlstate(const struct pg *pg);
/* Makes `why` the reason of a PG_UNUSABLE, which it returns: for an answer that no ledger of ours gives. */
enum pg_result pg_refuse(struct pg *pg, const char *why);
/* Behind a statement_timeout or lock_timeout, in no transaction: appends to `reason` whether others wait for a synchronous
 * standby, locks and all. */
void pg_explain_timeout(struct pg *pg, char *reason, size_t size);
/* Makes `why` the reason of the last result, where it can be told better than the server did. */
void pg_explain(struct pg *pg, const char *why);
/* False once the connection is known to be gone; such a pg is good for pg_close only. */
bool pg_alive(const struct pg *pg);
/* The backend's process id, for tests and logs. */
int pg_backend(const struct pg *pg);

/* ---- parameters ---- */

/* A list of parameters, built by the pg_put functions in order; reused after pg_params_clear. */
struct pg_params;
struct pg_params *pg_params_new(void);
void pg_params_free(struct pg_params *p);
void pg_params_clear(struct pg_params *p);
void pg_put_text(struct pg_params *p, struct slice value); /* absent: NULL */
void pg_put_int8(struct pg_params *p, int64_t value);
/* Arrays: begin with the type, put each element, end. An element may be null. */
enum pg_type {
	PG_TEXT = 25, PG_INT2 = 21, PG_INT4 = 23, PG_INT8 = 20, PG_TID = 27, PG_TIMESTAMPTZ = 1184, PG_NUMERIC = 1700,
};
void pg_array_begin(struct pg_params *p, enum pg_type type);
void pg_array_null(struct pg_params *p);
void pg_array_text(struct pg_params *p, struct slice value); /* absent: null */
void pg_array_integer(struct pg_params *p, int64_t value);   /* int2, int4, int8: ENSUREs that it fits */
void pg_array_tid(struct pg_params *p, uint64_t tid);        /* as tid_cache.h has it */
void pg_array_time(struct pg_params *p, int64_t unix_us);    /* timestamptz */
void pg_array_sum(struct pg_params *p, __int128 value);      /* numeric, >= 0 */
void pg_array_end(struct pg_params *p);

/* ---- statements ---- */

/* A result table; freed with pg_rows_free. */
struct pg_rows;
size_t pg_rows_count(const struct pg_rows *r);
bool pg_null(const struct pg_rows *r, size_t row, int column);
struct slice pg_text(const struct pg_rows *r, size_t row, int column); /* also bytea, uuid; NULL: absent */
int64_t pg_integer(const struct pg_rows *r, size_t row, int column);   /* int2, int4, int8, bool, oid; not NULL */
int64_t pg_time(const struct pg_rows *r, size_t row, int column);      /* timestamptz as Unix us; not NULL */
uint64_t pg_tid(const struct pg_rows *r, size_t row, int column);      /* as tid_cache.h has it; not NULL */
/* tid[] without NULLs. Returns: how many it holds; the first `max` are in `out`. */
size_t pg_tids(const struct pg_rows *r, size_t row, int column, uint64_t *out, size_t max);
void pg_rows_free(struct pg_rows *r); /* NULL is fine */

/* One statement, not prepared; `params` and `rows` may be NULL. */
must_use enum pg_result pg_query(struct pg *pg, const char *sql, const struct pg_params *params, struct pg_rows **rows);
/* As pg_query, with results in text form: numeric, and whatever else is to be printed. */
must_use enum pg_result pg_query_text(struct pg *pg, const char *sql, const struct pg_params *params, struct pg_rows **rows);
/* Several statements without parameters or rows: migrations. */
must_use enum pg_result pg_script(struct pg *pg, const char *sql);

/*
 * Pipelines: statements are sent without waiting and answered in order.
 *     pg_send(pg, &insert, params); ...  // prepared at first use on this connection
 *     pg_sync(pg)                        // or pg_flush: what was sent is wanted done, the transaction goes on
 *     pg_receive(pg, &rows) ...          // once a pg_send, in order
 *     pg_finish(pg)                      // after pg_sync only
 * After an error the rest of the pipeline is PG_RETRY, and so is the rest of the transaction: keep the first error.
 */
struct pg_statement {
	const char *name; /* unique a connection */
	const char *sql;
};
/* Stays here until the flush or sync, unless it is long: then it is flushed at once. */
must_use enum pg_result pg_send(struct pg *pg, const struct pg_statement *s, const struct pg_params *params);
/* Answers so far are wanted; the transaction goes on. From here on the server counts idle time, which it does not in
 * the middle of a pipeline: locks are not to be left behind without it. */
must_use enum pg_result pg_flush(struct pg *pg);
must_use enum pg_result pg_sync(struct pg *pg);
must_use enum pg_result pg_receive(struct pg *pg, struct pg_rows **rows);
must_use enum pg_result pg_finish(struct pg *pg);
#ifdef FAILPOINTS
/* For a crash between statements: returns when the server has executed what was sent so far, its answers unread. */
void pg_let_execute(struct pg *pg);
#endif
/* Rolls an open transaction back and leaves the pipeline clean. */
must_use enum pg_result pg_rollback(struct pg *pg);

/* ---- notifications ---- */

/* Waits up to `timeout_ms` for a notification on a channel LISTENed to before. Returns: PG_OK with
 * *notified set, or the error. */
must_use enum pg_result pg_wait_notification(struct pg *pg, int timeout_ms, bool *notified);

#endif
