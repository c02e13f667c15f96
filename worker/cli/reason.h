/*
 * Why an order is owed what it is owed, in words and numbers, for `explain`.
 * Pure. Each appends one line without its end. `rule`: the pin's, NULL when it names none.
 * To be asked only where order_state_due found no fault.
 */
#ifndef WORKER_CLI_REASON_H
#define WORKER_CLI_REASON_H

#include "common/buf.h"
#include "worker/ledger/decision.h"

void reason_points(const struct facts *f, const struct pricing_pin *pin, const struct rule *rule, struct buf *out);
void reason_order_credit(const struct facts *f, const struct pricing_pin *pin, struct buf *out);

/* "points, order_credit", "points", "order_credit", "neither"; or that this version does not know them all. */
const char *reason_kinds(uint8_t kinds);

#endif
