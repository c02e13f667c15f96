#include "worker/audit/replay.h"

#include "schemas/timestamp.h"
#include "worker/audit/string_pool.h"

#include <inttypes.h>
#include <stdlib.h>

enum { TABLE_START = 1024 };

/* Where each partition of a topic begins, by number. */
struct log_starts {
	struct slice topic;
	int64_t *offsets;
	size_t count;
};

struct replay_order {
	struct slice order_id;
	struct order_state ledger;
	struct order_state found;
	struct order_terms terms;
	struct order_due posted;
	const struct log_starts *first_log; /* NULL: of another topic */
	int64_t first_partition;
	int64_t first_offset;
	bool in_ledger;
	bool pending;
	bool rejected;
};

struct replay {
	const struct rules *rules;
	struct log_starts logs[2]; /* the topic's, the deferred topic's */
	struct string_pool *strings;
	struct replay_order *orders;
	size_t count;
	size_t capacity;
	uint32_t *table; /* index into `orders` + 1; 0: free */
	size_t table_size; /* a power of two, at least twice `count` */
	uint64_t conflicts;
	uint64_t rejections;
};

struct replay *replay_new(const struct rules *rules, const char *topic, const char *deferred_topic)
{
	struct replay *r = calloc(1, sizeof(*r));
	ENSURE(r);
	r->rules = rules;
	r->logs[0].topic = slice_of(topic);
	r->logs[1].topic = slice_of(deferred_topic);
	r->strings = string_pool_new();
	r->table_size = TABLE_START;
	r->table = calloc(r->table_size, sizeof(*r->table));
	ENSURE(r->table);
	return r;
}

void replay_free(struct replay *r)
{
	string_pool_free(r->strings);
	free(r->orders);
	free(r->table);
	for (int i = 0; i < 2; i++)
		free(r->logs[i].offsets);
	free(r);
}

static uint32_t *find_place(const struct replay *r, struct slice order_id)
{
	size_t at = (size_t)slice_hash(order_id) & (r->table_size - 1);
	while (r->table[at] && !slice_equal(r->orders[r->table[at] - 1].order_id, order_id))
		at = (at + 1) & (r->table_size - 1);
	return &r->table[at];
}

static void grow(struct replay *r)
{
	if (r->count == r->capacity) {
		r->capacity = r->capacity ? r->capacity * 2 : TABLE_START;
		ENSURE(r->capacity < UINT32_MAX);
		r->orders = realloc(r->orders, r->capacity * sizeof(*r->orders));
		ENSURE(r->orders);
	}
	if ((r->count + 1) * 2 <= r->table_size)
		return;
	free(r->table);
	r->table_size *= 2;
	r->table = calloc(r->table_size, sizeof(*r->table));
	ENSURE(r->table);
	for (size_t i = 0; i < r->count; i++)
		*find_place(r, r->orders[i].order_id) = (uint32_t)(i + 1);
}

/* The order, a new one if need be. The pointer is good until the next call. */
static struct replay_order *order_of(struct replay *r, struct slice order_id)
{
	grow(r);
	uint32_t *place = find_place(r, order_id);
	if (*place)
		return &r->orders[*place - 1];
	struct replay_order *o = &r->orders[r->count++];
	*place = (uint32_t)r->count;
	*o = (struct replay_order){.order_id = string_pool_keep(r->strings, order_id),
	                           .terms = {.outcome_at_us = TIME_NONE}};
	order_state_init(&o->ledger);
	order_state_init(&o->found);
	return o;
}

void replay_ledger_order(struct replay *r, const struct order_row *row, int64_t points, int64_t order_credit_minor)
{
	struct replay_order *o = order_of(r, row->order_id);
	o->in_ledger = true;
	o->ledger = row->state;
	o->ledger.customer_id = string_pool_keep(r->strings, row->state.customer_id);
	o->ledger.partner_id = string_pool_keep(r->strings, row->state.partner_id);
	o->ledger.driver.text = string_pool_keep(r->strings, row->state.driver.text);
	o->terms = row->terms;
	o->terms.rule_id = string_pool_keep(r->strings, row->terms.rule_id);
	o->posted = (struct order_due){points, order_credit_minor};
	for (int i = 0; i < 2; i++)
		if (slice_equal(row->first_topic, r->logs[i].topic))
			o->first_log = &r->logs[i];
	o->first_partition = row->first_partition;
	o->first_offset = row->first_offset;
}

void replay_log_start(struct replay *r, bool deferred, int32_t partition, int64_t offset)
{
	struct log_starts *log = &r->logs[deferred];
	size_t index = (size_t)partition;
	if (index >= log->count) {
		log->offsets = realloc(log->offsets, (index + 1) * sizeof(*log->offsets));
		ENSURE(log->offsets);
		while (log->count <= index)
			log->offsets[log->count++] = 0;
	}
	log->offsets[index] = offset;
}

bool replay_record(struct replay *r, const struct event *e)
{
	struct replay_order *o = order_of(r, e->order_id);
	if (order_state_contradicts(&o->ledger, e) || order_state_contradicts(&o->found, e)) {
		r->conflicts++;
		return false;
	}
	struct event kept = *e;
	kept.customer_id = string_pool_keep(r->strings, e->customer_id);
	kept.partner_id = string_pool_keep(r->strings, e->partner_id);
	kept.driver_id = string_pool_keep(r->strings, e->driver_id);
	order_state_add(&o->found, &kept);
	return true;
}

void replay_pending(struct replay *r, struct slice order_id)
{
	order_of(r, order_id)->pending = true;
}

void replay_rejected(struct replay *r, struct slice order_id)
{
	order_of(r, order_id)->rejected = true;
	r->rejections++;
}

/* ---- comparing ---- */

static void differ(struct buf *out, const char *member, const char *ledger, const char *found)
{
	buf_printf(out, "%s%s is %s in the ledger, %s recomputed", out->len ? "; " : "", member, ledger, found);
}

static void compare_text(struct buf *out, const char *member, struct slice ledger, struct slice found)
{
	if (slice_present(ledger) == slice_present(found) && slice_equal(ledger, found))
		return;
	char texts[2][EVENT_ID_CHARS_MAX * 4 + 1];
	const struct slice values[2] = {ledger, found};
	for (int i = 0; i < 2; i++)
		snprintf(texts[i], sizeof(texts[i]), "%.*s", slice_present(values[i]) ? (int)values[i].len : 7,
		         slice_present(values[i]) ? values[i].data : "unknown");
	differ(out, member, texts[0], texts[1]);
}

static void compare_status(struct buf *out, const char *member, enum event_status ledger, enum event_status found)
{
	char texts[2][STATUS_LABEL_MAX];
	compare_text(out, member, slice_of(status_label(ledger, texts[0])), slice_of(status_label(found, texts[1])));
}

static void compare_integer(struct buf *out, const char *member, int64_t ledger, int64_t found, int64_t unknown)
{
	if (ledger == found)
		return;
	char texts[2][24];
	const int64_t values[2] = {ledger, found};
	for (int i = 0; i < 2; i++) {
		if (values[i] == unknown)
			snprintf(texts[i], sizeof(texts[i]), "unknown");
		else
			snprintf(texts[i], sizeof(texts[i]), "%" PRId64, values[i]);
	}
	differ(out, member, texts[0], texts[1]);
}

static void compare_time(struct buf *out, const char *member, int64_t ledger_us, int64_t found_us)
{
	if (ledger_us == found_us)
		return;
	char texts[2][TIMESTAMP_TEXT_MAX];
	const int64_t values[2] = {ledger_us, found_us};
	for (int i = 0; i < 2; i++) {
		if (values[i] == TIME_NONE)
			snprintf(texts[i], sizeof(texts[i]), "unknown");
		else
			timestamp_format(values[i], texts[i]);
	}
	differ(out, member, texts[0], texts[1]);
}

static void compare_claims(struct buf *out, const char *member, const char *time, const struct claim *ledger,
                           const struct claim *found)
{
	int64_t numbers[2] = {ledger->at_us == TIME_NONE ? -1 : ledger->number,
	                      found->at_us == TIME_NONE ? -1 : found->number};
	compare_integer(out, member, numbers[0], numbers[1], -1);
	compare_time(out, time, ledger->at_us, found->at_us);
}

static void compare_states(struct buf *out, const struct order_state *ledger, const struct order_state *found)
{
	compare_status(out, "progress", ledger->progress, found->progress);
	compare_status(out, "outcome", order_state_outcome(ledger), order_state_outcome(found));
	compare_time(out, "outcome_at", ledger->outcome.at_us, found->outcome.at_us);
	compare_text(out, "customer_id", ledger->customer_id, found->customer_id);
	compare_text(out, "partner_id", ledger->partner_id, found->partner_id);
	compare_text(out, "currency", slice_of(ledger->currency[0] ? ledger->currency : NULL),
	             slice_of(found->currency[0] ? found->currency : NULL));
	compare_claims(out, "amount_minor", "amount_at", &ledger->amount, &found->amount);
	compare_integer(out, "refunded_total_minor", ledger->refunded_total_minor, found->refunded_total_minor, -1);
	compare_text(out, "driver_id", ledger->driver.text, found->driver.text);
	compare_time(out, "driver_at", ledger->driver.at_us, found->driver.at_us);
}

static void compare_order(const struct replay *r, const struct replay_order *o, struct buf *out)
{
	bool any = o->found.progress != STATUS_NONE;
	if (!o->in_ledger || !any) {
		if (any)
			buf_puts(out, "is in the topic and not in the ledger");
		else if (o->in_ledger)
			buf_puts(out, "is in the ledger, and no record of it in the topic");
		return;
	}
	compare_states(out, &o->ledger, &o->found);
	struct order_due due;
	const char *fault = order_state_due(&o->found, &o->terms, r->rules, &due);
	if (fault) {
		buf_printf(out, "%s%s", out->len ? "; " : "", fault);
		return;
	}
	compare_integer(out, "points posted", o->posted.points, due.points, INT64_MIN);
	compare_integer(out, "order credit posted", o->posted.order_credit_minor, due.order_credit_minor, INT64_MIN);
}

/* Whether its first records are beyond reach. A first record in a topic or partition that does not exist is the row's
 * word alone, which excuses nothing. */
static bool below_start(const struct replay_order *o)
{
	const struct log_starts *log = o->first_log;
	return log && o->first_partition >= 0 && (size_t)o->first_partition < log->count &&
	       o->first_offset < log->offsets[o->first_partition];
}

void replay_compare(struct replay *r, struct audit_report *report)
{
	uint64_t pending = 0, unreachable = 0;
	struct buf text = BUF_INIT;
	audit_check_begin(report, "orders equal what the topics' records make of them", "orders");
	for (size_t i = 0; i < r->count; i++) {
		const struct replay_order *o = &r->orders[i];
		if (o->pending) {
			pending++;
			continue;
		}
		if (below_start(o)) {
			unreachable++;
			continue;
		}
		audit_examined(report, 1);
		buf_clear(&text);
		compare_order(r, o, &text);
		/* Refused once, it may have been taken by a later try, or not at all. */
		if (text.len && !o->rejected)
			audit_wrong(report, "order %.*s: %s", (int)o->order_id.len, o->order_id.data, text.data);
	}
	buf_release(&text);
	audit_apart(report, "orders with records beyond progress or still deferred", pending);
	audit_apart(report, "orders first seen below the start of the log", unreachable);
	audit_apart(report, "records dead-lettered as database_rejected", r->rejections);
	audit_apart(report, "records that conflict with their order", r->conflicts);
}
