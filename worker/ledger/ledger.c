#include "worker/ledger/ledger.h"

#include <stdlib.h>

/* How often a batch is begun again because another transaction was faster, before it counts as
 * contention and the caller pauses. From the second time on rows are locked as they are read, so only
 * orders that are new on both sides can still collide. */
enum { STALE_TRIES = 4 };

/* The items of one order, by index into the batch, in their order. */
struct item_ref {
	struct slice order_id;
	uint64_t head; /* of the id, behind what all ids of the batch begin with */
	uint32_t index;
};

struct ledger {
	struct store *store;
	struct rules *rules;   /* NULL before the first load */
	struct history_epoch rules_epoch; /* that they were loaded for: revisions of two histories do not compare */
	size_t batch_max;
	struct item_ref *refs; /* batch_max each */
	struct order *orders;
	struct posting *postings; /* ORDER_POSTINGS_MAX an order */
	struct store_write *writes;
	size_t order_count;
};

static void *scratch(size_t count, size_t size)
{
	void *memory = calloc(count, size);
	ENSURE(memory);
	return memory;
}

struct ledger *ledger_new(const struct store_settings *settings, size_t index, size_t batch_max)
{
	struct ledger *l = scratch(1, sizeof(*l));
	l->store = store_new(settings, index);
	l->batch_max = batch_max;
	l->refs = scratch(batch_max, sizeof(*l->refs));
	l->orders = scratch(batch_max, sizeof(*l->orders));
	l->postings = scratch(batch_max * ORDER_POSTINGS_MAX, sizeof(*l->postings));
	l->writes = scratch(batch_max, sizeof(*l->writes));
	return l;
}

void ledger_free(struct ledger *l)
{
	store_free(l->store);
	rules_unref(l->rules);
	free(l->refs);
	free(l->orders);
	free(l->postings);
	free(l->writes);
	free(l);
}

const char *ledger_error(const struct ledger *l)
{
	return store_error(l->store);
}

static int ref_compare(const void *left, const void *right)
{
	const struct item_ref *a = left, *b = right;
	if (a->head != b->head)
		return a->head < b->head ? -1 : 1;
	int order = slice_compare(a->order_id, b->order_id);
	return order ? order : (a->index > b->index) - (a->index < b->index);
}

static bool same_order(const struct item_ref *a, const struct item_ref *b)
{
	return a->head == b->head && slice_equal(a->order_id, b->order_id);
}

/* Sorted by order, then by place in the batch: the first lets rows be locked in one order everywhere, the
 * second lets the first of two contradicting records win. */
static void sort_items(struct ledger *l, const struct ledger_item *items, size_t count)
{
	struct slice first = items[0].event->order_id;
	size_t common = first.len;
	for (size_t i = 0; i < count; i++) {
		struct slice id = items[i].event->order_id;
		l->refs[i] = (struct item_ref){.order_id = id, .index = (uint32_t)i};
		first.len = common;
		common = slice_common(first, id);
	}
	for (size_t i = 0; i < count; i++)
		l->refs[i].head = slice_head(l->refs[i].order_id, common);
	qsort(l->refs, count, sizeof(*l->refs), ref_compare);
}

static void collect_orders(struct ledger *l, size_t count)
{
	l->order_count = 0;
	for (size_t i = 0; i < count; i++)
		if (i == 0 || !same_order(&l->refs[i], &l->refs[i - 1]))
			order_init(&l->orders[l->order_count++], l->refs[i].order_id);
}

/*
 * For batches of the history `expected`. The rules may be another one's all the same, when the database is replaced
 * before they are read; then the next begin says STORE_HISTORY, and the batches after that expect another epoch.
 */
static enum store_result load_rules(struct ledger *l, const struct history_epoch *expected)
{
	struct rules *fresh = NULL;
	enum store_result r = store_load_rules(l->store, &fresh);
	if (r != STORE_OK)
		return r;
	rules_unref(l->rules);
	l->rules = fresh;
	l->rules_epoch = *expected;
	return STORE_OK;
}

/* The revision counts: a database that was set back comes to the same number again, with other rules. */
static bool rules_are(const struct ledger *l, int64_t revision, const struct history_epoch *epoch)
{
	return l->rules && rules_revision(l->rules) == revision && history_epoch_equal(&l->rules_epoch, epoch);
}

/* Begins the transaction and prices by the rules that it sees: another revision is loaded outside of it,
 * and it begins anew. */
static enum store_result begin(struct ledger *l, const struct history_epoch *expected, bool lock, size_t count)
{
	for (;;) {
		int64_t revision;
		collect_orders(l, count);
		enum store_result r =
		        store_begin(l->store, expected, lock, l->orders, l->order_count, &revision);
		if (r != STORE_OK)
			return r;
		if (rules_are(l, revision, expected))
			return STORE_OK;
		store_rollback(l->store);
		r = load_rules(l, expected);
		if (r != STORE_OK)
			return r;
	}
}

/* For the order of a later version: what is read in it as something else would be rewritten as that [I14]. */
static void defer_items(const struct order *o, struct ledger_item *items, const struct item_ref *refs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct ledger_item *item = &items[refs[i].index];
		item->outcome = OUTCOME_DEFERRED;
		item->conflict_field = NULL;
		item->unknown_code = o->unknown;
	}
}

static void apply_item(struct ledger *l, struct order *o, struct ledger_item *item, uint32_t index)
{
	item->conflict_field = item->unknown_code = NULL;
	switch (order_apply(o, item->event, l->rules, index, &item->conflict_field)) {
	case ORDER_RECORDED:
		item->outcome = OUTCOME_RECORDED;
		break;
	case ORDER_STALE:
		item->outcome = OUTCOME_STALE;
		break;
	case ORDER_CONFLICT:
		item->outcome = OUTCOME_DEAD_LETTERED;
		break;
	}
}

/* The record that the order is first known by: the first one that was not refused. */
static const struct store_source *first_source(const struct ledger_item *items, const struct item_ref *refs,
                                               size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!items[refs[i].index].conflict_field)
			return &items[refs[i].index].source;
	return &items[refs[0].index].source;
}

/* Applies the order's items one by one, settles once, and lists the write if there is one. */
static size_t decide_order(struct ledger *l, struct order *o, struct ledger_item *items, const struct item_ref *refs,
                           size_t count, size_t writes)
{
	for (size_t i = 0; i < count; i++)
		apply_item(l, o, &items[refs[i].index], refs[i].index);
	struct posting *postings = &l->postings[writes * ORDER_POSTINGS_MAX];
	int posted = order_settle(o, postings);
	if (!o->changed)
		return writes;
	struct store_write *w = &l->writes[writes];
	*w = (struct store_write){.order = o,
	                          .first_source = first_source(items, refs, count),
	                          .postings = postings,
	                          .posting_count = posted};
	for (int i = 0; i < posted; i++) {
		struct ledger_item *source = &items[postings[i].record_index];
		source->outcome = OUTCOME_CREDITED;
		w->posting_sources[i] = &source->source;
	}
	return writes + 1;
}

/*
 * `last`: rules that lack an order's version were loaded anew, and lack it still. No worker of ours can have written
 * that, so it is a code that is not known here, like any other.
 * Returns: false when an order was priced by a version that our set does not hold, and is to be loaded.
 */
static bool decide(struct ledger *l, struct ledger_item *items, size_t count, bool last, size_t *writes)
{
	size_t from = 0;
	*writes = 0;
	for (size_t i = 0; i < l->order_count; i++) {
		struct order *o = &l->orders[i];
		if (!o->unknown && !order_resume(o, l->rules)) {
			if (!last)
				return false;
			o->unknown = "pinned_rule_version";
		}
		size_t to = from + 1;
		while (to < count && same_order(&l->refs[to], &l->refs[from]))
			to++;
		if (o->unknown)
			defer_items(o, items, &l->refs[from], to - from);
		else
			*writes = decide_order(l, o, items, &l->refs[from], to - from, *writes);
		from = to;
	}
	return true;
}

enum store_result ledger_write(struct ledger *l, const struct history_epoch *expected, struct ledger_item *items,
                               size_t count, bool *wrote)
{
	ENSURE(count > 0 && count <= l->batch_max);
	*wrote = false;
	sort_items(l, items, count);
	enum store_result r = STORE_RETRY;
	for (int attempt = 0; attempt < STALE_TRIES; attempt++) {
		size_t writes = 0;
		r = begin(l, expected, attempt > 0, count);
		if (r != STORE_OK)
			return r;
		/* A replica may have priced an order by a rule applied after the check in this transaction was read. */
		if (!decide(l, items, count, attempt + 1 == STALE_TRIES, &writes)) {
			store_rollback(l->store);
			r = load_rules(l, expected);
			if (r != STORE_OK)
				return r;
			continue;
		}
		r = store_commit(l->store, l->writes, writes);
		if (r == STORE_OK)
			*wrote = writes > 0;
		if (r != STORE_STALE)
			return r;
	}
	return STORE_RETRY;
}
