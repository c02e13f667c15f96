/* Whether two orders' facts are the same: every member, strings by their bytes. */
#ifndef TESTS_LIB_FACTS_EQUAL_H
#define TESTS_LIB_FACTS_EQUAL_H

#include "worker/ledger/facts.h"

static inline bool facts_equal(const struct facts *a, const struct facts *b)
{
	return slice_equal(a->customer_id, b->customer_id) && slice_equal(a->partner_id, b->partner_id) &&
	       strcmp(a->currency, b->currency) == 0 && a->progress == b->progress && a->outcome == b->outcome &&
	       a->outcome_at_us == b->outcome_at_us && a->amount_minor == b->amount_minor &&
	       a->amount_at_us == b->amount_at_us && a->refunded_total_minor == b->refunded_total_minor &&
	       slice_equal(a->driver_id, b->driver_id) && a->driver_at_us == b->driver_at_us;
}

#endif
