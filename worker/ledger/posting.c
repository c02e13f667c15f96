#include "worker/ledger/posting.h"

void order_init(struct order *o, struct slice order_id)
{
	*o = (struct order){.order_id = order_id, .pin = {.outcome_at_us = TIME_NONE}};
	facts_init(&o->facts);
}

bool order_resume(struct order *o, const struct rules *rules)
{
	o->rule = NULL;
	if (slice_present(o->pin.rule_id)) {
		o->rule = rules_version(rules, o->pin.rule_id, o->pin.rule_version);
		if (!o->rule)
			return false;
	}
	/* Every batch settles what it touches: the targets of the stored facts are what is posted. */
	o->targets = (struct targets){.points = o->points, .order_credit_minor = o->order_credit_minor};
	return true;
}

/*
 * The pin is made by the first record under which the order can earn, not when the batch ends: an order
 * delivered and cancelled in one batch has been priced, too, and is written down as it would have been
 * with a batch a record. Which rules are known then does depend on when the record is taken; that is why
 * the terms are recorded.
 */
static void repin(struct order *o, const struct rules *rules)
{
	o->pin = decision_pin(&o->facts, rules);
	o->rule = NULL;
	if (slice_present(o->pin.rule_id)) {
		o->rule = rules_version(rules, o->pin.rule_id, o->pin.rule_version);
		ENSURE(o->rule != NULL);
	}
	o->changed = true;
}

enum order_apply order_apply(struct order *o, const struct event *e, const struct rules *rules, uint32_t record_index,
                             const char **conflict_field)
{
	const char *field = facts_conflict(&o->facts, e);
	if (field) {
		*conflict_field = field;
		return ORDER_CONFLICT;
	}
	enum order_apply result = facts_stale(&o->facts, e) ? ORDER_STALE : ORDER_RECORDED;
	if (facts_merge(&o->facts, e))
		o->changed = true;
	if (decision_needs_pin(&o->facts, &o->pin))
		repin(o, rules);
	struct targets targets = decision_targets(&o->facts, &o->pin, o->rule);
	if (targets.points != o->targets.points)
		o->points_record = record_index;
	if (targets.order_credit_minor != o->targets.order_credit_minor)
		o->order_credit_record = record_index;
	o->targets = targets;
	return result;
}

int order_settle(struct order *o, struct posting out[ORDER_POSTINGS_MAX])
{
	int count = 0;
	if (o->targets.points != o->points) {
		/* A reversal names the rule that had earned, since an outcome that earns nothing pins nothing; after
		 * another delivery it is that one's, none where no rule was in force. */
		out[count++] = (struct posting){
			.kind = KIND_POINTS,
			.seq = ++o->points_seq,
			.amount = o->targets.points - o->points,
			.rule_id = o->pin.rule_id,
			.rule_version = o->pin.rule_version,
			.record_index = o->points_record,
		};
		o->points = o->targets.points;
	}
	if (o->targets.order_credit_minor != o->order_credit_minor) {
		out[count++] = (struct posting){
			.kind = KIND_ORDER_CREDIT,
			.seq = ++o->order_credit_seq,
			.amount = o->targets.order_credit_minor - o->order_credit_minor,
			.record_index = o->order_credit_record,
		};
		o->order_credit_minor = o->targets.order_credit_minor;
	}
	if (count)
		o->changed = true;
	return count;
}
