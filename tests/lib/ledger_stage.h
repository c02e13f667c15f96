/*
 * A fresh ledger in a private PostgreSQL, with a session beside the worker's that looks at it and does
 * damage. Test sources include ledger_stage.c, and check.
 *
 *     ledger_stage_open(&stage, server.dsn, "a_schema");
 *     struct store *s = store_new(&stage.settings, 0); ...
 *     stage_check(&stage, "SELECT points FROM customer_points", "12");
 *     ledger_stage_close(&stage);
 *
 * Everything fails the test where it can't be had.
 */
#ifndef TESTS_LIB_LEDGER_STAGE_H
#define TESTS_LIB_LEDGER_STAGE_H

#include "worker/ledger/pg.h"
#include "worker/ledger/store.h"

enum { STAGE_CONNECTIONS = 6, STAGE_LIMIT_MS = 20000 };

struct ledger_stage {
	struct pg *pg;
	struct store_board *board;
	struct store_settings settings;
	struct history_epoch epoch; /* as the schema was made */
};

void ledger_stage_open(struct ledger_stage *t, const char *dsn, const char *schema);
void ledger_stage_close(struct ledger_stage *t);

void stage_run(struct ledger_stage *t, const char *sql);
/* One integer; -1 for NULL. */
int64_t stage_number(struct ledger_stage *t, const char *sql);
/* One text. */
void stage_check(struct ledger_stage *t, const char *sql, const char *wanted);
/* Until the query's integer is `wanted`. */
void stage_await(struct ledger_stage *t, const char *sql, int64_t wanted);
struct history_epoch stage_epoch(struct ledger_stage *t);
/* Ends a backend and waits until it is gone. */
void stage_terminate(struct ledger_stage *t, int backend);

/* Applies a rule file. */
void stage_apply_rules(struct ledger_stage *t, const char *text);

/* A batch of one order that posts nothing, begun without locks and not begun again. */
extern const struct store_source stage_source; /* delivery-events/3/41 */
must_use enum store_result stage_begin(struct store *s, const struct history_epoch *epoch, struct order *o,
				       const char *id);
must_use enum store_result stage_commit(struct store *s, struct order *o, enum event_status progress);
must_use enum store_result stage_write(struct store *s, const struct history_epoch *epoch, const char *id);
int64_t stage_orders(struct ledger_stage *t);

/* The invariants that may be had from the views alone: balances are the sums of the postings, both sides of a
 * unit are equal, orders show what is posted, postings are numbered from 1 without gaps. */
void stage_check_books(struct ledger_stage *t);
/* A line a posting: order kind seq unit amount debit>credit rule/version topic/partition/offset. */
void stage_check_postings(struct ledger_stage *t, const char *wanted);

#endif
