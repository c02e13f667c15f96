/*
 * Recomputes orders from the records of the topics and compares them with the ledger's: facts, and what
 * they call for under the terms recorded on the order.
 *
 *     replay_new(rules, topic, deferred_topic)
 *     replay_ledger_order()   each order of the snapshot, once
 *     replay_log_start()      where each partition's log begins
 *     replay_record() / replay_pending() / replay_rejected()   each record of the log
 *     replay_compare(r, report)
 *
 * Customer, partner and currency were fixed by whichever record was applied first, which the log does not
 * tell when records of an order lie in several partitions or were deferred. So the ledger's are taken,
 * and records that differ from them are conflicts; but some record must carry them.
 *
 * Memory: about 400 bytes an order and its strings, once each. Pure, but for that. Thread: one at a time.
 */
#ifndef WORKER_AUDIT_REPLAY_H
#define WORKER_AUDIT_REPLAY_H

#include "worker/audit/order_row.h"
#include "worker/audit/report.h"

struct replay;
/* Borrows all. The topics: those that are read, in which orders are first seen. */
struct replay *replay_new(const struct rules *rules, const char *topic, const char *deferred_topic);
void replay_free(struct replay *r);

/* `points`, `order_credit_minor`: the sums of the order's postings. Copies. */
void replay_ledger_order(struct replay *r, const struct order_row *o, int64_t points, int64_t order_credit_minor);
/* `deferred`: of the deferred topic. */
void replay_log_start(struct replay *r, bool deferred, int32_t partition, int64_t offset);

/* A record below progress: the ledger must know it. Returns: false when it conflicts with its order, and the ledger
 * must not. */
bool replay_record(struct replay *r, const struct event *e);
/* A record at or beyond progress, or in the deferred topic still: the ledger may know it. */
void replay_pending(struct replay *r, struct slice order_id);
/* A record that the database refused: the ledger does not know it, unless it was taken later. */
void replay_rejected(struct replay *r, struct slice order_id);

void replay_compare(struct replay *r, struct audit_report *report);

#endif
