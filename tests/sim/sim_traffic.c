/*
 * Orders and their events, and what the worker should have made of them. The judgement shares nothing with the
 * worker's: facts and targets come from tests/lib/order_oracle.c, and whether a row holds a fact is asked by
 * comparing pairs here.
 */
#include "tests/sim/sim.h"

#include "common/clock.h"
#include "common/prng.h"
#include "tests/lib/order_oracle.h"
#include "worker/pipeline/deferral.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	VALUE_MAX = 1024,
	PAD = 400, /* makes a value larger than the topics of copies take */
	TRICKLE_MAX = 150,
};

const uint8_t traffic_digest_key[16] = "simulated key..";

struct known_order {
	char id[24];
	char customer[8], partner[8], driver[8];
	const char *currency;
	bool poison;
	int events;
};

/* One record of the events topic: what it says, and what became of it. */
struct entry {
	struct event event;
	enum error_code refused; /* by the decoder: its letter's code */
	int order;
	char customer[8], partner[8], driver[8];
	struct event_digest digest;
	struct slice key, value;
	int32_t partition;
	int64_t offset;
	int64_t append_us;
	int copies; /* on .deferred */
	int letters[ERROR_CODE_COUNT];
};

static struct known_order orders[SIM_ORDERS_MAX];
static int order_count;
static struct entry entries[SIM_EVENTS_MAX];
static int entry_count;
static int appended;
static int trickled;
static int64_t latest_letter_us;
static struct terms terms;

/* ---- rules ---- */

static struct rule rule_of(const char *id, enum rule_kind kind, int64_t points)
{
	return (struct rule){.id = slice_of(id),
			     .version = 1,
			     .kind = kind,
			     .points = points,
			     .per_minor = kind == RULE_PER_AMOUNT ? 70 : 1,
			     .multiplier_bp = 12500,
			     .max_points_per_order = -1,
			     .valid_from_us = TIME_NONE,
			     .valid_to_us = INT64_MAX};
}

static void make_terms(void)
{
	terms = (struct terms){.rule_count = 3};
	terms.rules[0] = rule_of("base", RULE_PER_AMOUNT, 3);
	terms.rules[1] = rule_of("gold", RULE_PER_ORDER, 50);
	terms.rules[1].partner_id = slice_of("p0");
	terms.rules[1].min_order_minor = 1000;
	terms.rules[2] = rule_of("real", RULE_PER_AMOUNT, 5);
	memcpy(terms.rules[2].currency, "BRL", 4);
	terms.rules[2].max_points_per_order = 400;
	for (int i = 0; i < ORACLE_PARTNERS; i++) {
		static const char *const names[ORACLE_PARTNERS] = {"p0", "p1", "p2"};
		bool limited = sim_config.limits && i != 2;
		terms.partners[i] = (struct partner_settings){.partner_id = slice_of(names[i]),
							      .kinds = i == 1 ? KIND_POINTS : KINDS_ALL,
							      .per_second = limited ? 20 + 30 * i : -1,
							      .burst = limited ? 3 : -1};
	}
}

const struct terms *traffic_terms(void)
{
	return &terms;
}

bool traffic_is_poison(struct slice order_id)
{
	return order_id.len > 0 && order_id.data[0] == 'x';
}

/* ---- making events ---- */

static struct slice keep(const char *text, size_t len)
{
	char *bytes = malloc(len + 1);
	ENSURE(bytes);
	memcpy(bytes, text, len);
	bytes[len] = '\0';
	return (struct slice){bytes, len};
}

static int new_order(bool poison)
{
	ENSURE(order_count < SIM_ORDERS_MAX);
	struct known_order *o = &orders[order_count];
	*o = (struct known_order){.poison = poison, .currency = sim_permille(500) ? "EUR" : "BRL"};
	snprintf(o->id, sizeof(o->id), "%s%d", poison ? "x" : "o", order_count);
	snprintf(o->customer, sizeof(o->customer), "c%d", (int)sim_below(5));
	snprintf(o->partner, sizeof(o->partner), "p%d", (int)sim_below(ORACLE_PARTNERS));
	snprintf(o->driver, sizeof(o->driver), "d%d", (int)sim_below(3));
	return order_count++;
}

static enum event_status draw_status(void)
{
	static const enum event_status all[] = {STATUS_CREATED,   STATUS_CONFIRMED, STATUS_ASSIGNED,  STATUS_PICKED_UP,
						STATUS_ATTEMPTED, STATUS_FAILED,    STATUS_CANCELLED, STATUS_RETURNED,
						STATUS_DELIVERED, STATUS_DELIVERED, STATUS_DELIVERED};
	return all[sim_below(sizeof(all) / sizeof(all[0]))];
}

static void format_time(int64_t us, char text[40])
{
	time_t seconds = (time_t)(us / 1000000);
	struct tm tm;
	ENSURE(gmtime_r(&seconds, &tm));
	size_t at = strftime(text, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + at, 40 - at, ".%06dZ", (int)(us % 1000000));
}

static void write_json(struct entry *e, bool large)
{
	const struct event *v = &e->event;
	char text[VALUE_MAX], when[40];
	format_time(v->timestamp_us, when);
	int at = snprintf(text, sizeof(text), "{\"order_id\":\"%s\",\"status\":\"%s\",\"timestamp\":\"%s\"",
			  orders[e->order].id, status_name(v->status), when);
	if (v->customer_id.data)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ",\"customer_id\":\"%s\"", e->customer);
	if (v->partner_id.data)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ",\"partner_id\":\"%s\"", e->partner);
	if (v->driver_id.data)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ",\"driver_id\":\"%s\"", e->driver);
	if (v->amount_minor >= 0)
		at += snprintf(text + at, sizeof(text) - (size_t)at,
			       ",\"amount_minor\":%" PRId64 ",\"currency\":\"%s\"", v->amount_minor, v->currency);
	if (v->refunded_total_minor)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ",\"refunded_total_minor\":%" PRId64,
			       v->refunded_total_minor);
	if (large)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ",\"pad\":\"%0*d\"", PAD, 0);
	at += snprintf(text + at, sizeof(text) - (size_t)at, e->refused == ERROR_NOT_JSON ? "" : "}");
	e->value = keep(text, (size_t)at);
}

static void say_event(struct entry *e, bool conflicting)
{
	struct known_order *o = &orders[e->order];
	struct event *v = &e->event;
	/* Few moments, so that some fall together. */
	int64_t at_us = (clock_wall_us() / 1000000 - 3600 + (int64_t)sim_below(12) * 200) * 1000000;
	*v = (struct event){
		.order_id = slice_of(o->id), .status = draw_status(), .timestamp_us = at_us, .amount_minor = -1};
	snprintf(e->customer, sizeof(e->customer), "%s", conflicting && sim_permille(600) ? "c9" : o->customer);
	snprintf(e->partner, sizeof(e->partner), "%s", o->partner);
	snprintf(e->driver, sizeof(e->driver), "%s%d", o->driver, (int)sim_below(2));
	if (sim_permille(700))
		v->customer_id = slice_of(e->customer);
	if (sim_permille(700))
		v->partner_id = slice_of(e->partner);
	if (sim_permille(300))
		v->driver_id = slice_of(e->driver);
	if (sim_permille(700)) {
		v->amount_minor = (int64_t)sim_below(9000);
		snprintf(v->currency, sizeof(v->currency), "%s",
			 conflicting && sim_permille(400) ? "USD" : o->currency);
	}
	if (sim_permille(150))
		v->refunded_total_minor = (int64_t)sim_below(5000);
}

static void append(void *argument)
{
	struct entry *e = argument;
	struct sim_record r = {.timestamp_us = clock_wall_us() / 1000 * 1000,
			       .key = e->key,
			       .value = e->value,
			       .entry = (int)(e - entries)};
	if (sim_permille(300)) {
		static struct header trace[] = {{{"traceparent", 11}, {"00-1-1-01", 9}}};
		r.headers = trace;
		r.header_count = 1;
	}
	int64_t gap = sim_permille(sim_config.gap_permille) ? 1 + (int64_t)sim_below(4) : 0;
	e->offset = brokers_append(TOPIC_EVENTS, e->partition, r, gap)->offset;
	appended++;
	client_wake_all();
}

static int32_t place_of(const struct entry *e)
{
	uint64_t place = sim_config.scatter ? sim_below(1000) : prng_mix((uint64_t)e->order);
	return (int32_t)(place % (uint64_t)sim_config.partitions);
}

static struct entry *new_entry(int order)
{
	ENSURE(entry_count < SIM_EVENTS_MAX);
	struct entry *e = &entries[entry_count++];
	*e = (struct entry){.order = order};
	e->partition = place_of(e);
	e->key = slice_of(orders[order].id);
	/* Half of it is there from the beginning. */
	e->append_us = sim_permille(500) ? 0 : (int64_t)sim_below((uint64_t)sim_config.traffic_us);
	return e;
}

static void make_event(int order, bool conflicting)
{
	struct entry *e = new_entry(order);
	say_event(e, conflicting);
	bool large = sim_config.large && sim_permille(100);
	if (sim_config.malformed && sim_permille(80)) {
		e->refused = sim_permille(500) ? ERROR_NOT_JSON : ERROR_TOMBSTONE;
		if (e->refused == ERROR_NOT_JSON)
			write_json(e, large);
	} else {
		write_json(e, large);
		event_digest(&e->event, traffic_digest_key, &e->digest);
	}
	sim_at(e->append_us, append, e);
	while (sim_permille(sim_config.repeat_permille) && entry_count < sim_config.events) {
		struct entry *again = new_entry(order);
		int64_t append_us = again->append_us;
		int32_t partition = again->partition;
		*again = *e;
		again->append_us = append_us;
		again->partition = partition;
		sim_at(append_us, append, again);
	}
}

void traffic_begin(void)
{
	order_count = entry_count = appended = trickled = 0;
	latest_letter_us = 0;
	make_terms();
	for (int i = 0; i < sim_config.orders; i++)
		(void)new_order(sim_config.poison && sim_permille(120));
	while (entry_count < sim_config.events) {
		int order = (int)sim_below((uint64_t)sim_config.orders);
		bool conflicting = sim_config.conflicts && !orders[order].poison && sim_permille(250);
		make_event(order, conflicting);
	}
}

bool traffic_is_over(void)
{
	return appended == entry_count;
}

void traffic_trickle(void)
{
	if (!sim_config.poison || trickled == TRICKLE_MAX || entry_count == SIM_EVENTS_MAX ||
	    order_count == SIM_ORDERS_MAX)
		return;
	struct entry *e = new_entry(new_order(false));
	e->partition = trickled++ % sim_config.partitions;
	say_event(e, false);
	write_json(e, false);
	event_digest(&e->event, traffic_digest_key, &e->digest);
	append(e);
}

/* ---- what became of them ---- */

static bool fixed_otherwise(struct slice fixed, struct slice said)
{
	return fixed.data && said.data && !slice_equal(fixed, said);
}

static bool contradicts(const struct facts *f, const struct event *v)
{
	return fixed_otherwise(f->customer_id, v->customer_id) || fixed_otherwise(f->partner_id, v->partner_id) ||
	       (f->currency[0] && v->currency[0] && strcmp(f->currency, v->currency) != 0);
}

static bool pair_holds(int64_t at, int64_t value, int64_t said_at, int64_t said)
{
	return at > said_at || (at == said_at && value >= said);
}

/* Whether the row says at least as much as the event does. */
static bool holds(const struct facts *f, const struct event *v)
{
	if (contradicts(f, v) || f->progress < v->status || f->refunded_total_minor < v->refunded_total_minor)
		return false;
	if ((v->customer_id.data && !f->customer_id.data) || (v->partner_id.data && !f->partner_id.data))
		return false;
	if (v->status >= 80 && !pair_holds(f->outcome_at_us, f->outcome, v->timestamp_us, v->status))
		return false;
	if (v->amount_minor >= 0 && !pair_holds(f->amount_at_us, f->amount_minor, v->timestamp_us, v->amount_minor))
		return false;
	if (v->driver_id.data &&
	    (!f->driver_id.data ||
	     !pair_holds(f->driver_at_us, slice_compare(f->driver_id, v->driver_id), v->timestamp_us, 0)))
		return false;
	return true;
}

/* Whether the entry's effect is in the database, or its letter is sent. */
static bool is_done(const struct entry *e)
{
	struct facts facts;
	int64_t points, credit;
	if (e->refused)
		return e->letters[e->refused] > 0;
	if (orders[e->order].poison)
		return e->letters[ERROR_DATABASE_REJECTED] > 0;
	if (!database_order(orders[e->order].id, &facts, &points, &credit))
		return false;
	return contradicts(&facts, &e->event) ? e->letters[ERROR_ORDER_CONFLICT] > 0 : holds(&facts, &e->event);
}

bool traffic_settled(enum sim_topic topic, const struct sim_record *r)
{
	const struct entry *e = &entries[r->entry];
	int copies_before = topic == TOPIC_DEFERRED ? r->copy + 1 : 0;
	return e->copies > copies_before || is_done(e);
}

bool traffic_is_settled(void)
{
	for (int t = 0; t <= TOPIC_DEFERRED; t++) {
		for (int32_t p = 0; p < brokers_partitions((enum sim_topic)t); p++) {
			const struct sim_log *log = brokers_log((enum sim_topic)t, p);
			for (size_t i = 0; i < log->count; i++)
				if (!traffic_settled((enum sim_topic)t, &log->records[i]))
					return false;
		}
	}
	return true;
}

void traffic_check_position(const char *what, enum sim_topic topic, int32_t partition, int64_t from, int64_t position)
{
	if (from < 0)
		from = 0;
	for (const struct sim_record *r = brokers_read(topic, partition, from); r && r->offset < position;
	     r = brokers_read(topic, partition, r->offset + 1)) {
		if (!traffic_settled(topic, r))
			sim_fail("%s passes %s/%d@%" PRId64 " (position %" PRId64 "), which is not settled: order %s",
				 what, sim_topics[topic], partition, r->offset, position,
				 orders[entries[r->entry].order].id);
	}
}

void traffic_check_mark(const struct event_digest *digest)
{
	for (int i = 0; i < entry_count; i++) {
		const struct entry *e = &entries[i];
		if (e->refused || memcmp(&e->digest, digest, sizeof(*digest)) != 0)
			continue;
		struct facts facts;
		int64_t points, credit;
		if (!database_order(orders[e->order].id, &facts, &points, &credit) || !holds(&facts, &e->event))
			sim_fail("marked as done and not committed: order %s", orders[e->order].id);
		return;
	}
	sim_fail("a mark of no event");
}

/* ---- copies ---- */

static struct slice header_of(const struct sim_record *r, const char *name)
{
	for (size_t i = r->header_count; i-- > 0;)
		if (slice_equal(r->headers[i].name, slice_of(name)))
			return r->headers[i].value;
	return (struct slice){0};
}

static int64_t number_of(const struct sim_record *r, const char *name)
{
	struct slice text = header_of(r, name);
	if (!text.data)
		sim_fail("a copy without %s", name);
	return strtoll(text.data, NULL, 10);
}

static enum error_code code_of(const struct sim_record *r)
{
	struct slice name = header_of(r, "dw_error_code");
	for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++)
		if (name.data && slice_equal(name, slice_of(error_code_name((enum error_code)code))))
			return (enum error_code)code;
	sim_fail("a dead letter without a code");
}

static void check_letter(const struct entry *e, enum error_code code)
{
	if (e->refused) {
		if (code != e->refused)
			sim_fail("dead letter of another code: %s", error_code_name(code));
		return;
	}
	if (orders[e->order].poison) {
		if (code != ERROR_DATABASE_REJECTED)
			sim_fail("dead letter of another code: %s", error_code_name(code));
		return;
	}
	if (code != ERROR_ORDER_CONFLICT)
		sim_fail("a good record is dead-lettered as %s: order %s", error_code_name(code), orders[e->order].id);
	/* What it contradicts is committed; a failover may have taken that back since. */
	struct facts facts;
	int64_t points, credit;
	if (!database_has_lost() &&
	    (!database_order(orders[e->order].id, &facts, &points, &credit) || !contradicts(&facts, &e->event)))
		sim_fail("a conflict is dead-lettered that is not committed: order %s", orders[e->order].id);
}

/* The class of the partition is one that fits: the copy is due within its delay, and, in all but the shortest, not
 * behind its slot. */
static void check_deferral(int32_t chosen, const struct sim_record *r)
{
	int64_t due_ms = number_of(r, "dw_not_before_ms"), slot_ms = number_of(r, "dw_slot_ms");
	if (slot_ms <= 0 || !header_of(r, "dw_limit").data)
		sim_fail("a deferred copy without its slot");
	if (chosen < 0)
		return;
	int class = deferral_class(chosen, brokers_partitions(TOPIC_DEFERRED));
	if (due_ms > clock_wall_us() / 1000 + deferral_delay_ms(class, sim_config.defer_ms))
		sim_fail("a copy in class %d that is due at %" PRId64, class, due_ms);
	if (class > 0 && due_ms > slot_ms)
		sim_fail("a copy in class %d that is due at %" PRId64 ", behind its slot %" PRId64, class, due_ms, slot_ms);
}

void traffic_copied(enum sim_topic topic, int32_t chosen, struct sim_record *r)
{
	struct slice from = header_of(r, "dw_source_topic");
	if (!from.data || !slice_equal(from, slice_of(sim_topics[TOPIC_EVENTS])))
		sim_fail("a copy of a record of no topic");
	int32_t partition = (int32_t)number_of(r, "dw_source_partition");
	int64_t offset = number_of(r, "dw_source_offset");
	const struct sim_record *original = brokers_read(TOPIC_EVENTS, partition, offset);
	if (!original || original->offset != offset)
		sim_fail("a copy of no record: %d@%" PRId64, partition, offset);
	struct entry *e = &entries[original->entry];
	r->entry = original->entry;
	if (!slice_equal(r->key, e->key) ||
	    (!slice_equal(r->value, e->value) && (r->value.data || !header_of(r, "dw_value_bytes").data)))
		sim_fail("a copy differs from its original");
	if (original->header_count && !slice_equal(r->headers[0].name, original->headers[0].name))
		sim_fail("a copy lacks a header of its original");
	if (topic == TOPIC_DEFERRED) {
		if (!r->value.data)
			sim_fail("a deferred copy without its value");
		check_deferral(chosen, r);
		r->copy = e->copies++;
		sim_count(SIM_DEFERRALS, 1);
		return;
	}
	enum error_code code = code_of(r);
	check_letter(e, code);
	e->letters[code]++;
	sim_count(SIM_LETTERS, 1);
	latest_letter_us = sim_now();
	sim_trace("dead letter of %d@%" PRId64 ": %s", partition, offset, error_code_name(code));
}

int64_t traffic_latest_letter_us(void)
{
	return latest_letter_us;
}

/* ---- the end ---- */

static bool same_text(struct slice a, struct slice b)
{
	return (a.data != NULL) == (b.data != NULL) && slice_equal(a, b);
}

static void check_order(int order)
{
	static struct event facts[SIM_EVENTS_MAX];
	static const struct terms *at[SIM_EVENTS_MAX];
	struct facts row;
	int64_t points, credit;
	int count = 0;
	const char *id = orders[order].id;
	bool exists = database_order(id, &row, &points, &credit);
	for (int i = 0; i < entry_count; i++) {
		const struct entry *e = &entries[i];
		if (e->order != order || e->refused || orders[order].poison || (exists && contradicts(&row, &e->event)))
			continue;
		at[count] = &terms;
		facts[count++] = e->event;
	}
	if (exists != (count > 0))
		sim_fail("order %s: %s", id, exists ? "a row without a reason" : "lost");
	if (!exists)
		return;
	struct facts wanted = oracle_facts(facts, count);
	if (wanted.progress != row.progress || wanted.outcome != row.outcome ||
	    wanted.outcome_at_us != row.outcome_at_us || wanted.amount_minor != row.amount_minor ||
	    wanted.amount_at_us != row.amount_at_us || wanted.refunded_total_minor != row.refunded_total_minor ||
	    strcmp(wanted.currency, row.currency) != 0 || !same_text(wanted.customer_id, row.customer_id) ||
	    !same_text(wanted.partner_id, row.partner_id) || !same_text(wanted.driver_id, row.driver_id))
		sim_fail("order %s: the row's facts are not those of its events", id);
	struct targets targets = oracle_targets(facts, count, at);
	if (targets.points != points || targets.order_credit_minor != credit)
		sim_fail("order %s: posted %" PRId64 " and %" PRId64 ", not %" PRId64 " and %" PRId64, id, points,
			 credit, targets.points, targets.order_credit_minor);
}

void traffic_check_all(void)
{
	database_audit();
	for (int i = 0; i < order_count; i++)
		check_order(i);
	for (int i = 0; i < entry_count; i++) {
		const struct entry *e = &entries[i];
		if (!is_done(e))
			sim_fail("%d@%" PRId64 " is lost: order %s%s", e->partition, e->offset, orders[e->order].id,
				 e->copies ? " (deferred)" : "");
		struct facts row;
		int64_t points, credit;
		if (e->letters[ERROR_ORDER_CONFLICT] && !database_has_lost() &&
		    !(database_order(orders[e->order].id, &row, &points, &credit) && contradicts(&row, &e->event)))
			sim_fail("%d@%" PRId64 " is dead-lettered and credited", e->partition, e->offset);
	}
	for (int t = 0; t <= TOPIC_DEFERRED; t++)
		for (int32_t p = 0; p < brokers_partitions((enum sim_topic)t); p++)
			traffic_check_position("the end", (enum sim_topic)t, p, 0,
					       brokers_log((enum sim_topic)t, p)->end);
}
