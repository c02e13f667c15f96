/* What the store_*.c files share; nobody else includes it. */
#ifndef WORKER_LEDGER_STORE_INTERNAL_H
#define WORKER_LEDGER_STORE_INTERNAL_H

#include "common/thread.h"
#include "worker/ledger/pg.h"
#include "worker/ledger/store.h"
#include "worker/ledger/tid_cache.h"

/* First half of the key of the epoch's advisory lock ("dw" in ASCII), as migration 3 has it; the second is the oid of the
 * schema's table history: schemas of one database do not wait for each other. */
#define EPOCH_LOCK_CLASS "25719"

struct witness {
	struct history_epoch epoch; /* that the row was written in */
	int64_t id;                 /* 0: no row */
	int64_t batches;            /* acknowledged */
};

struct store_board {
	pthread_mutex_t lock;
	struct history_epoch lsn_epoch;
	uint64_t lsn;                  /* highest durable WAL position seen in lsn_epoch */
	bool suspected;
	struct history_epoch suspect;  /* epoch in which something that was acknowledged is missing */
	size_t count;
	struct witness witnesses[];
};

/* What the board said before the server was asked for its position: what a sibling sees durable while the
 * answer is under way is ahead of it, and proves nothing. */
struct seen_lsn {
	struct history_epoch epoch;
	uint64_t lsn;
};
struct seen_lsn store_board_seen(struct store_board *b);
/* Takes note of a durable position. Returns: false when the server's present one is behind what was seen `before`. */
bool store_board_lsn(struct store_board *b, const struct seen_lsn *before, const struct history_epoch *epoch,
                     uint64_t current, uint64_t durable);
void store_board_suspect(struct store_board *b, const struct history_epoch *epoch);
bool store_board_suspects(struct store_board *b, const struct history_epoch *epoch);
void store_board_publish(struct store_board *b, size_t index, const struct witness *w);

/* Scratch for one account's movement in a batch. */
struct movement {
	int16_t account_kind;
	int16_t slot;
	struct slice id;
	struct slice unit;
	__int128 debits;
	__int128 credits;
};

/* How a batch's orders are read: by the tid of a hint, by tid with the page pruned on the way, by id, and by id again
 * where a hint was wrong. */
enum store_read { STORE_BY_TID, STORE_BY_TID_PRUNING, STORE_BY_ID, STORE_BY_ID_AGAIN, STORE_READS };

/* Counters for pages, of which each holds some twenty orders. Pages that share one are pruned sooner than need be. */
enum { STORE_PAGES = 1 << 14 };

struct store {
	struct store_settings settings;
	struct pg_settings pg_settings;
	size_t index;
	struct pg *pg;
	struct pg_params *params;
	struct tid_cache *tids;   /* from the first batch on: the keeper's store has none */
	uint8_t page_updates[STORE_PAGES]; /* of rows, since the page was last pruned; the most: one had to leave it */
	/* Of the batch's transaction: */
	const struct order *orders; /* the caller's */
	uint64_t *order_tids;       /* of each: where its row is, TID_NONE without one */
	uint64_t *order_keys;       /* of each: its key in the cache of tids */
	uint8_t *order_reads;       /* enum store_read */
	uint64_t *order_heads;      /* scratch: of the search by id, and tids as they come */
	size_t orders_capacity;
	struct pg_rows *rows[STORE_READS]; /* slices of the orders point here */
	struct witness witness;
	bool unknown;             /* the last COMMIT was not answered: the witness may be one ahead */
	bool listening;
	int16_t slot;
	struct movement *movements;
	size_t movements_capacity;
	char error[512];
};

/* Connects when there is no live connection, and compares the server with what the process knows.
 * Returns: STORE_OK and s->pg good; STORE_HISTORY when there is proof of loss. */
must_use enum store_result store_session(struct store *s);

/*
 * The same for what holds in any history, or is to draw a new one: proof of loss leaves its word on the board, and a
 * connection without the comparisons. *unverified: so it is, and store_session_end must close it.
 */
must_use enum store_result store_session_any(struct store *s, bool *unverified);
void store_session_end(struct store *s, bool unverified);

/* Keeps the reason, drops a dead connection. */
enum store_result store_failed(struct store *s, enum pg_result r);
/* STORE_UNUSABLE: the schema lacks what it is made with. */
enum store_result store_no_history(struct store *s);
/* STORE_HISTORY with a reason. */
enum store_result store_lost(struct store *s, const char *reason);

must_use enum store_result store_run(struct store *s, const char *sql, struct pg_rows **rows);

/* Makes the statements of store_commit.c; before the first. */
void store_commit_setup(void);

/* The rows of the batch's orders: who has slices of them has none any more. */
void store_free_rows(struct store *s);
/* Receives `count` answers; the first error is the cause, those behind it only follow from it. */
must_use enum pg_result store_receive_all(struct store *s, int count, struct pg_rows **rows);
/* As store_failed, with the reason that store_receive_all kept, and without the transaction. */
enum store_result store_batch_failed(struct store *s, enum pg_result r);

/* The counter of a row's page. */
static inline uint8_t *store_page_updates(struct store *s, uint64_t tid)
{
	return &s->page_updates[(tid >> TID_ITEM_BITS) % STORE_PAGES];
}

/* Whether the row of witness that the database shows fits what was acknowledged; takes note of an
 * unanswered COMMIT that did happen. `batches` -1: there is no row. */
bool store_witness_fits(struct store *s, const struct history_epoch *epoch, int64_t batches);

static inline struct history_epoch store_epoch_of(struct slice uuid)
{
	struct history_epoch e;
	ENSURE(uuid.len == sizeof(e.bytes));
	memcpy(e.bytes, uuid.data, sizeof(e.bytes));
	return e;
}

#endif
