/*
 * What the pg*.c files share; nobody else includes it (it names libpq's types).
 */
#ifndef WORKER_LEDGER_PG_INTERNAL_H
#define WORKER_LEDGER_PG_INTERNAL_H

#include "worker/ledger/pg.h"

/* libpq has a `struct pg_result` of its own behind PGresult; tags share one name space in C. */
#define pg_result libpq_pg_result
#include <libpq-fe.h>
#undef pg_result

/* The primary key of orders, as the schema makes it: who violates it was not the first with a new order. */
#define PG_ORDERS_KEY "orders_pkey"

/* A peer that vanished is given up after 10 + 3 * 5 s, by keepalives when idle and by the user timeout
 * when data is on its way; both sides are told, so that locks of a vanished replica go as soon. */
#define PG_KEEPALIVE_IDLE_S "10"
#define PG_KEEPALIVE_INTERVAL_S "5"
#define PG_KEEPALIVE_COUNT "3"
#define PG_PEER_LOST_MS "25000"

enum {
	PG_PARAMS_MAX = 64,     /* the widest statement of the ledger has under 30 */
	PG_PENDING_MAX = 128,   /* answers a pipeline may owe; a batch sends about ten statements */
	PG_STATEMENTS_MAX = 64, /* distinct prepared statements a connection */
	PG_ERROR_MAX = 512,
	PG_PIECE = 8192,        /* bytes that libpq gathers in a pipeline; beyond, it sends what is there */
	/* How long an answer may be overdue beyond statement_timeout, within which a server that is alive
	 * would have cancelled the statement itself; and from one look at its server process to the next. */
	PG_ANSWER_GRACE_MS = 5000,
	PG_ANSWER_LOST_MS = 1000, /* for what is under way from a server process that rests */
};

/* Values stand one after another in `data`; pointers are made when they are sent, as `data` moves. */
struct pg_params {
	struct buf data;
	int count;
	size_t offsets[PG_PARAMS_MAX];
	int lengths[PG_PARAMS_MAX]; /* -1: NULL */
	Oid types[PG_PARAMS_MAX];   /* 0: for the server to infer */
	/* The array between pg_array_begin and pg_array_end; array_type 0 outside. */
	Oid array_type;
	int32_t array_count;
	bool array_has_null;
};

struct pg_rows {
	PGresult *result;
};

/* Owns: `result`. */
struct pg_rows *pg_rows_new(PGresult *result);

enum pg_pending_kind { PG_PREPARE, PG_EXECUTE, PG_SYNC };

/* An answer that a pipeline owes. */
struct pg_pending {
	enum pg_pending_kind kind;
	const struct pg_statement *statement; /* NULL of PG_SYNC */
};

struct pg {
	PGconn *connection;
	struct pg_settings settings; /* its strings are the caller's, to connect once more */
	int backend;   /* the server process, also behind a pooler; 0 until the session has begun */
	int wait_ms;   /* longest wait for one answer; -1: until the kernel gives the peer up (keepalives) */
	bool dead;     /* nothing more may be sent; ends with pg_close */
	bool synced;   /* pg_sync was sent, its answer is owed; ends with pg_finish */
	size_t unsynced; /* bytes of a pipeline behind the last Sync, counted rather too high */
	int pending_first;
	int pending_count;
	struct pg_pending pending[PG_PENDING_MAX]; /* a ring */
	int prepared_count;
	const struct pg_statement *prepared[PG_STATEMENTS_MAX]; /* on this connection, or on their way to it */
	char sqlstate[6];
	char error[PG_ERROR_MAX];
};

/* A connection as it comes, with nothing set. Returns and errors: as pg_connect. */
must_use enum pg_result pg_open(const struct pg_settings *s, struct pg **out, char *error, size_t error_size);
/* Makes it a session of ours. Returns: also PG_UNUSABLE behind a pooler by transaction, with nothing set. */
must_use enum pg_result pg_begin_session(struct pg *pg);

/* Whether an answer that is overdue by all limits is worth waiting for; if so, the settings' `overdue` was told. */
bool pg_wait_on(const struct pg *pg, int64_t waited_ms);

/* What a SQLSTATE means for the caller. */
enum pg_result pg_result_of_sqlstate(const char *sqlstate);
/* What the text of a failed connection attempt means: libpq 15 tells no SQLSTATE for it. */
enum pg_result pg_result_of_connect_error(const char *text);
/* Copies with each run of white space and control characters made one space, cut to `size`. */
void pg_one_line(char *out, size_t size, const char *text);

#endif
