/*
 * The ledger write: a batch of decoded events becomes facts, postings and balances, in one transaction,
 * exactly once in effect. What is to be posted is always `target - posted`, computed from the order's row
 * as that very transaction sees it; so whatever was written before (by an earlier try whose COMMIT was
 * not answered, by a replica, by a replay) posts nothing again.
 *
 * Thread: a ledger is one worker's. The rules it prices by are its own snapshot, reloaded whenever the
 * transaction sees another revision, or the batch expects another epoch.
 */
#ifndef WORKER_LEDGER_LEDGER_H
#define WORKER_LEDGER_LEDGER_H

#include "worker/ledger/store.h"
#include "worker/observe/metrics.h" /* enum outcome */

struct ledger;

/* `batch_max`: the most items that one call may bring; all scratch memory is taken here. */
struct ledger *ledger_new(const struct store_settings *settings, size_t index, size_t batch_max);
void ledger_free(struct ledger *l);

/* One record, in the order in which they are to be applied: offset order within a partition. */
struct ledger_item {
	const struct event *event;
	struct store_source source;
	enum outcome outcome;       /* out: credited, recorded, stale or deferred; meaningless with conflict_field */
	const char *conflict_field; /* out: NULL, or the member that contradicts the order: to be dead-lettered,
	                               and only now that the transaction is committed */
	const char *unknown_code;   /* out: NULL, or the column of its order's row whose code this binary does not
	                               know: nothing of it was written, it is to be deferred [I14] */
};

/*
 * Applies all items in one transaction. On STORE_OK it is committed and the items tell their outcomes; on
 * anything else nothing is settled (STORE_STALE is dealt with inside). `expected`: the epoch of the
 * assignment that the items belong to. *wrote: whether anything was written, i.e. that others can commit.
 */
must_use enum store_result ledger_write(struct ledger *l, const struct history_epoch *expected,
                                        struct ledger_item *items, size_t count, bool *wrote);

/* The reason of the last result that was not STORE_OK. */
const char *ledger_error(const struct ledger *l);

#endif
