#include "worker/ledger/facts.h"

void facts_init(struct facts *f)
{
	*f = (struct facts){
		.progress = STATUS_NONE,
		.outcome = STATUS_NONE,
		.outcome_at_us = TIME_NONE,
		.amount_minor = -1,
		.amount_at_us = TIME_NONE,
		.driver_at_us = TIME_NONE,
	};
}

static bool fixed_differently(struct slice fixed, struct slice value)
{
	return slice_present(fixed) && slice_present(value) && !slice_equal(fixed, value);
}

const char *facts_conflict(const struct facts *f, const struct event *e)
{
	if (fixed_differently(f->customer_id, e->customer_id))
		return "customer_id";
	if (fixed_differently(f->partner_id, e->partner_id))
		return "partner_id";
	if (f->currency[0] && e->currency[0] && strcmp(f->currency, e->currency) != 0)
		return "currency";
	return NULL;
}

/* What the first fact that carries it fixes. */
static bool merge_fixed(struct facts *f, const struct event *e)
{
	bool changed = false;
	if (!slice_present(f->customer_id) && slice_present(e->customer_id)) {
		f->customer_id = e->customer_id;
		changed = true;
	}
	if (!slice_present(f->partner_id) && slice_present(e->partner_id)) {
		f->partner_id = e->partner_id;
		changed = true;
	}
	if (!f->currency[0] && e->currency[0]) {
		memcpy(f->currency, e->currency, sizeof(f->currency));
		changed = true;
	}
	return changed;
}

/* Each of these takes the greater of two pairs, so ties in time are decided by the value and never by
 * the order of arrival. */

static bool merge_outcome(struct facts *f, const struct event *e)
{
	if (!status_is_decisive(e->status) || e->timestamp_us < f->outcome_at_us)
		return false;
	if (e->timestamp_us == f->outcome_at_us && e->status <= f->outcome)
		return false;
	f->outcome = e->status;
	f->outcome_at_us = e->timestamp_us;
	return true;
}

static bool merge_amount(struct facts *f, const struct event *e)
{
	if (e->amount_minor < 0 || e->timestamp_us < f->amount_at_us)
		return false;
	if (e->timestamp_us == f->amount_at_us && e->amount_minor <= f->amount_minor)
		return false;
	f->amount_minor = e->amount_minor;
	f->amount_at_us = e->timestamp_us;
	return true;
}

static bool merge_driver(struct facts *f, const struct event *e)
{
	if (!slice_present(e->driver_id) || e->timestamp_us < f->driver_at_us)
		return false;
	if (e->timestamp_us == f->driver_at_us && slice_compare(e->driver_id, f->driver_id) <= 0)
		return false;
	f->driver_id = e->driver_id;
	f->driver_at_us = e->timestamp_us;
	return true;
}

bool facts_merge(struct facts *f, const struct event *e)
{
	bool changed = merge_fixed(f, e);
	changed |= merge_outcome(f, e);
	changed |= merge_amount(f, e);
	changed |= merge_driver(f, e);
	if (e->status > f->progress) {
		f->progress = e->status;
		changed = true;
	}
	if (e->refunded_total_minor > f->refunded_total_minor) {
		f->refunded_total_minor = e->refunded_total_minor;
		changed = true;
	}
	return changed;
}
