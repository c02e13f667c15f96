#include "worker/cli/generate.h"

#include "common/buf.h"
#include "common/ensure.h"
#include "common/prng.h"
#include "schemas/event.h"
#include "schemas/timestamp.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
	STEPS_MAX = 10,
	EVENTS_AN_ORDER = 8,
	RECENT = 4096,   /* records that a repeat is taken from */
	STEADY_PART = 4, /* steady: the next event is one of the orders_alive / STEADY_PART longest silent orders' */
	HELD_MAX = 2048, /* stragglers at once */
	DRIVERS = 5000,
	KEY_BYTES = 48,
};

#define DAY_US INT64_C(86400000000)

/* A step that is no status: part of the money is given back, told by one more `delivered`. */
#define STEP_REFUND 1

struct order {
	uint32_t number;   /* of all orders of the stream; in their ids, with the seed */
	uint64_t customer; /* 0: a guest */
	uint64_t partner;
	uint64_t driver;
	int64_t amount_minor;
	uint8_t steps[STEPS_MAX]; /* statuses by rank, or STEP_REFUND */
	uint8_t step_count;
	uint8_t next;
};

struct record {
	char key[KEY_BYTES];
	struct buf value;
	int64_t due; /* of a straggler: the record number */
};

struct generator {
	struct generate_options options;
	struct prng prng;
	int64_t made; /* records handed out */
	int64_t spacing_us;
	uint32_t orders_begun;
	uint64_t bad_made;
	struct order *orders; /* steady: a ring, the order that has been silent for longest at oldest */
	size_t order_count;
	size_t oldest;
	struct record *recent; /* a ring by record number; valid records only */
	int64_t recent_size;
	int64_t recent_count;
	bool repeat_due; /* repeat_after: of the record of that long ago */
	struct record held[HELD_MAX];
	size_t held_count;
	struct record bad;
};

/* ---- orders ---- */

static void add_step(struct order *o, uint8_t step)
{
	ENSURE(o->step_count < STEPS_MAX);
	o->steps[o->step_count++] = step;
}

static void plan_ending(struct generator *g, struct order *o)
{
	uint64_t fate = prng_below(&g->prng, 100);
	if (g->options.all_delivered || fate >= 7) {
		add_step(o, STATUS_DELIVERED);
		return;
	}
	if (fate < 3) {
		add_step(o, STATUS_FAILED);
		return;
	}
	add_step(o, STATUS_DELIVERED);
	add_step(o, fate < 5 ? STATUS_RETURNED : STEP_REFUND);
}

static void plan(struct generator *g, struct order *o)
{
	if (g->options.delivered_only) {
		add_step(o, STATUS_DELIVERED);
		return;
	}
	bool cancelled = !g->options.all_delivered && prng_percent(&g->prng, 4);
	add_step(o, STATUS_CREATED);
	add_step(o, STATUS_CONFIRMED);
	if (cancelled) {
		if (prng_percent(&g->prng, 50))
			add_step(o, STATUS_ASSIGNED);
		add_step(o, STATUS_CANCELLED);
		return;
	}
	add_step(o, STATUS_ASSIGNED);
	if (prng_percent(&g->prng, 50))
		add_step(o, STATUS_AT_PICKUP);
	add_step(o, STATUS_PICKED_UP);
	add_step(o, STATUS_IN_TRANSIT);
	if (prng_percent(&g->prng, 50))
		add_step(o, prng_percent(&g->prng, 15) ? STATUS_ATTEMPTED : STATUS_AT_DROPOFF);
	plan_ending(g, o);
}

/*
 * A bijection: different numbers stay different. Neighbours come far apart, so that ids fall all over an index, as real
 * ones do.
 */
static uint32_t scatter(uint32_t x)
{
	x *= UINT32_C(0x9e3779b1);
	x ^= x >> 15;
	x *= UINT32_C(0x85157af5);
	return x ^ x >> 16;
}

static void begin_order(struct generator *g, struct order *o)
{
	ENSURE(g->orders_begun < UINT32_MAX);
	*o = (struct order){
		.number = scatter(++g->orders_begun),
		.customer = prng_percent(&g->prng, 1) && !g->options.delivered_only
		                    ? 0
		                    : 1 + prng_zipf(&g->prng, (uint64_t)g->options.customers),
		.partner = 1 + prng_zipf(&g->prng, (uint64_t)g->options.partners),
		.driver = 1 + prng_below(&g->prng, DRIVERS),
		.amount_minor = 499 + (int64_t)prng_zipf(&g->prng, 60000),
	};
	plan(g, o);
}

/* A partner sells in one currency. */
static const char *currency_of(uint64_t partner)
{
	static const char *const currencies[] = {"BRL", "BRL", "BRL", "EUR", "EUR", "USD", "ARS", "JPY"};
	return currencies[prng_mix(partner) % (sizeof(currencies) / sizeof(currencies[0]))];
}

/* ---- records ---- */

/* The order's number as eight digits, then the seed: no two orders have one id, whether of one seed or of two. */
static void format_order_id(const struct generator *g, const struct order *o, char id[KEY_BYTES])
{
	snprintf(id, KEY_BYTES, "o-%08" PRIx32 "%08" PRIx64, o->number, g->options.seed);
}

static void put_event(struct generator *g, const struct order *o, const char *id, struct buf *out)
{
	char timestamp[TIMESTAMP_TEXT_MAX];
	uint8_t step = o->steps[o->next];
	enum event_status status = step == STEP_REFUND ? STATUS_DELIVERED : status_from_rank(step);
	const char *name = status_name(status);
	/* Whole milliseconds, as most publishers have them. */
	timestamp_format((g->options.start_us + g->made * g->spacing_us) / 1000 * 1000, timestamp);

	buf_printf(out, "{\"event_id\":\"%s.%s\",\"order_id\":\"%s\",\"status\":\"%s\"", id + 2,
		   step == STEP_REFUND ? "refund" : name, id, name);
	buf_printf(out, ",\"timestamp\":\"%s\"", timestamp);
	if (o->customer)
		buf_printf(out, ",\"customer_id\":\"c%" PRIu64 "\"", o->customer);
	buf_printf(out, ",\"partner_id\":\"p%" PRIu64 "\"", o->partner);
	/* What happens on the road is told without the money now and then. */
	if (status_is_decisive(status) || status == STATUS_CREATED || !prng_percent(&g->prng, 15))
		buf_printf(out, ",\"amount_minor\":%" PRId64 ",\"currency\":\"%s\"", o->amount_minor,
			   currency_of(o->partner));
	if (step == STEP_REFUND)
		buf_printf(out, ",\"refunded_total_minor\":%" PRId64,
			   1 + o->amount_minor / (2 + (int64_t)(o->number % 4)));
	if (status >= STATUS_ASSIGNED)
		buf_printf(out, ",\"driver_id\":\"d%" PRIu64 "\"", o->driver);
	else
		buf_puts(out, ",\"driver_id\":null");
	if (status == STATUS_ATTEMPTED)
		buf_puts(out, ",\"attempt\":1");
	if (status == STATUS_FAILED)
		buf_puts(out, ",\"reason\":\"nobody at home\"");
	if (status == STATUS_CANCELLED)
		buf_puts(out, ",\"reason\":\"cancelled by the customer\"");
	buf_puts(out, ",\"source\":\"generator\",\"schema_version\":1}");
}

/* Takes one of the longest silent orders, which then is the last to be silent. */
static struct order *next_steady(struct generator *g)
{
	size_t part = g->order_count / STEADY_PART;
	size_t picked = (g->oldest + (part ? prng_below(&g->prng, part) : 0)) % g->order_count;
	struct order *last = &g->orders[g->oldest], o = g->orders[picked];
	g->orders[picked] = *last;
	*last = o;
	g->oldest = (g->oldest + 1) % g->order_count;
	return last;
}

static void make_event(struct generator *g, struct record *r)
{
	struct order *o = g->options.steady ? next_steady(g) : &g->orders[prng_below(&g->prng, g->order_count)];
	if (o->next == o->step_count)
		begin_order(g, o);
	format_order_id(g, o, r->key);
	buf_clear(&r->value);
	put_event(g, o, r->key, &r->value);
	o->next++;
}

static void put_repeated(struct buf *out, char c, int count)
{
	memset(buf_reserve(out, (size_t)count), c, (size_t)count);
	out->len += (size_t)count;
}

#define BAD_ORDER "{\"order_id\":\"%s\""
#define BAD_EVENT BAD_ORDER ",\"status\":\"created\""
#define BAD_TIME ",\"timestamp\":\"2026-01-01T00:00:00Z\""

/* One of each fault that a record of its own can have, beside no value and an empty one; %s is an order id. */
static const char *const bad_values[] = {
	BAD_EVENT,                                            /* not_json */
	BAD_EVENT BAD_TIME ",\"reason\":\"\xff\"}",           /* invalid_utf8 */
	BAD_ORDER ",\"x\":[[[[[[[[1]]]]]]]]}",                /* too_deep */
	BAD_ORDER ",\"order_id\":\"x\"}",                     /* duplicate_member */
	"[\"%s\"]",                                           /* not_object */
	BAD_EVENT "}",                                        /* missing_field */
	BAD_EVENT ",\"timestamp\":1767225600}",               /* wrong_type */
	BAD_EVENT ",\"timestamp\":\"2026-02-30T00:00:00Z\"}", /* bad_format */
	BAD_EVENT ",\"timestamp\":\"1999-12-31T00:00:00Z\"}", /* out_of_range */
	BAD_ORDER ",\"status\":\"eaten\"" BAD_TIME "}",       /* unknown_status */
	BAD_EVENT BAD_TIME ",\"schema_version\":2}",          /* unsupported_version */
};

static struct generated make_bad(struct generator *g)
{
	enum { TEMPLATES = sizeof(bad_values) / sizeof(bad_values[0]), TOO_LARGE = TEMPLATES, EMPTY, TOMBSTONE, KINDS };
	struct record *r = &g->bad;
	uint64_t kind = g->bad_made++ % (g->options.beyond_ndjson ? KINDS : EMPTY);
	const char *text = kind < TEMPLATES ? bad_values[kind] : kind == EMPTY ? "" : bad_values[0];
	const char *gap = strstr(text, "%s");

	snprintf(r->key, sizeof(r->key), "bad-%" PRIu64 ".%" PRIx64, g->bad_made, g->options.seed);
	buf_clear(&r->value);
	if (kind == TOO_LARGE)
		put_repeated(&r->value, ' ', EVENT_BYTES_MAX);
	buf_append(&r->value, text, gap ? (size_t)(gap - text) : 0);
	if (gap) {
		buf_puts(&r->value, r->key);
		buf_puts(&r->value, gap + 2);
	}
	if (kind == TOMBSTONE)
		return (struct generated){slice_of(r->key), {NULL, 0}};
	return (struct generated){slice_of(r->key), buf_slice(&r->value)};
}

/* ---- the stream ---- */

static void swap(struct record *a, struct record *b)
{
	struct record c = *a;
	*a = *b;
	*b = c;
}

/* Takes the straggler that is due. Returns: false if none is. */
static bool take_held(struct generator *g, struct record *r)
{
	size_t first = 0;
	for (size_t i = 1; i < g->held_count; i++) {
		if (g->held[i].due < g->held[first].due)
			first = i;
	}
	bool all_due = g->options.count - g->made <= (int64_t)g->held_count;
	if (g->held_count == 0 || (!all_due && g->held[first].due > g->made))
		return false;
	swap(r, &g->held[first]);
	swap(&g->held[first], &g->held[--g->held_count]);
	return true;
}

/* Makes events until one is not held back. */
static void make_next(struct generator *g, struct record *r)
{
	for (;;) {
		if (take_held(g, r))
			return;
		make_event(g, r);
		bool room = g->held_count < HELD_MAX && g->options.count - g->made > (int64_t)g->held_count + 1;
		if (!room || !prng_basis_points(&g->prng, g->options.late_bp))
			return;
		r->due = g->made + 1 + (int64_t)prng_below(&g->prng, GENERATE_LATE_RECORDS);
		swap(r, &g->held[g->held_count++]);
	}
}

/* Returns: the record to repeat, or NULL. */
static struct record *take_repeat(struct generator *g)
{
	int64_t after = g->options.repeat_after;
	if (after) {
		bool due = g->repeat_due;
		g->repeat_due = false;
		return due ? &g->recent[(g->recent_count - 1 - after) % g->recent_size] : NULL;
	}
	if (g->recent_count == 0 || !prng_basis_points(&g->prng, g->options.duplicate_bp))
		return NULL;
	int64_t kept = g->recent_count < RECENT ? g->recent_count : RECENT;
	return &g->recent[prng_below(&g->prng, (uint64_t)kept)];
}

static struct record *take_new(struct generator *g)
{
	struct record *r = &g->recent[g->recent_count++ % g->recent_size];
	make_next(g, r);
	/* A repeat for one event in so many makes the share asked for of all records. */
	unsigned bp = g->options.duplicate_bp;
	if (g->options.repeat_after && g->recent_count > g->options.repeat_after)
		g->repeat_due = bp >= 5000 || prng_basis_points(&g->prng, bp * 10000 / (10000 - bp));
	return r;
}

bool generator_next(struct generator *g, struct generated *out)
{
	if (g->made == g->options.count)
		return false;
	/* Stragglers that must still come leave no room for anything else. */
	bool room = g->options.count - g->made > (int64_t)g->held_count;
	if (room && prng_basis_points(&g->prng, g->options.bad_bp)) {
		*out = make_bad(g);
	} else {
		struct record *r = room ? take_repeat(g) : NULL;
		if (!r)
			r = take_new(g);
		*out = (struct generated){slice_of(r->key), buf_slice(&r->value)};
	}
	g->made++;
	return true;
}

struct generator *generator_new(const struct generate_options *options)
{
	struct generator *g = calloc(1, sizeof(*g));
	ENSURE(g != NULL);
	g->options = *options;
	g->prng = prng_of(options->seed);
	/* A short run is to see orders end, too, which in a steady one happens from the start. */
	int64_t alive = options->delivered_only ? 1 : options->count / EVENTS_AN_ORDER / 2;
	if (alive > options->orders_alive || (options->steady && !options->delivered_only))
		alive = options->orders_alive;
	g->order_count = (size_t)(alive > 0 ? alive : 1);
	/* A long one is to end within a day of its start. */
	g->spacing_us = options->count > 0 ? DAY_US / 24 * 23 / options->count : GENERATE_SPACING_US;
	if (g->spacing_us > GENERATE_SPACING_US)
		g->spacing_us = GENERATE_SPACING_US;
	g->orders = calloc(g->order_count, sizeof(*g->orders));
	g->recent_size = options->repeat_after + RECENT;
	g->recent = calloc((size_t)g->recent_size, sizeof(*g->recent));
	ENSURE(g->orders != NULL && g->recent != NULL);
	for (size_t i = 0; options->steady && i < g->order_count; i++) {
		begin_order(g, &g->orders[i]);
		g->orders[i].next = (uint8_t)prng_below(&g->prng, g->orders[i].step_count);
	}
	return g;
}

void generator_free(struct generator *g)
{
	for (int64_t i = 0; i < g->recent_size; i++)
		buf_release(&g->recent[i].value);
	free(g->recent);
	for (size_t i = 0; i < HELD_MAX; i++)
		buf_release(&g->held[i].value);
	buf_release(&g->bad.value);
	free(g->orders);
	free(g);
}
