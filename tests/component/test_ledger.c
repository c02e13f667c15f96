/* worker/ledger/ledger.c with the real store and a real server: what users see after each batch. */
#include "worker/ledger/ledger.h"

#include "common/thread.h"
#include "tests/lib/ledger_stage.c"
#include "tests/lib/order_oracle.c"
#include "tests/lib/postgres_proxy.c"
#include "tests/lib/private_postgres.c"

#include <check.h>

static struct private_postgres server;

enum { BATCH_MAX = 10000, MINUTE_US = 60 * 1000000 };

#define NEW_YEAR_US INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */

/* One event, as short as it can be written; without a currency it has no amount. */
struct fact {
	const char *order;
	enum event_status status;
	int minute;
	int64_t amount;
	const char *currency;
	int64_t refunded;
	const char *customer, *partner, *driver;
};

#define FACT(id, what, at, ...) \
	{ \
		.order = (id), .status = STATUS_##what, .minute = (at), __VA_ARGS__ \
	}
#define BRL(minor) .amount = (minor), .currency = "BRL"
#define EUR(minor) .amount = (minor), .currency = "EUR"
#define USD(minor) .amount = (minor), .currency = "USD"

static struct event event_of(const struct fact *f)
{
	struct event e = {.order_id = slice_of(f->order),
			  .status = f->status,
			  .timestamp_us = NEW_YEAR_US + f->minute * (int64_t)MINUTE_US,
			  .amount_minor = f->currency ? f->amount : -1,
			  .refunded_total_minor = f->refunded,
			  .customer_id = slice_of(f->customer),
			  .partner_id = slice_of(f->partner),
			  .driver_id = slice_of(f->driver)};
	if (f->currency)
		snprintf(e.currency, sizeof(e.currency), "%s", f->currency);
	return e;
}

static struct ledger_item item_of(const struct event *e, int64_t offset)
{
	return (struct ledger_item){.event = e, .source = {SLICE_LITERAL("delivery-events"), 2, offset}};
}

enum { FACTS_MAX = 16 };

/* A batch of a test's own. */
struct batch {
	struct event events[FACTS_MAX];
	struct ledger_item items[FACTS_MAX];
	size_t count;
	bool wrote;
};

static void batch_fill(struct batch *b, const struct fact *facts, size_t count, int64_t first_offset)
{
	ck_assert_uint_le(count, FACTS_MAX);
	b->count = count;
	b->wrote = true;
	for (size_t i = 0; i < count; i++) {
		b->events[i] = event_of(&facts[i]);
		b->items[i] = item_of(&b->events[i], first_offset + (int64_t)i);
	}
}

static void expect(const struct ledger *l, enum store_result got, enum store_result wanted, const char *what)
{
	ck_assert_msg(got == wanted, "%s: got %d, wanted %d (%s)", what, got, wanted, ledger_error(l));
}

static enum store_result write_batch(struct ledger *l, const struct history_epoch *epoch, struct batch *b)
{
	return ledger_write(l, epoch, b->items, b->count, &b->wrote);
}

/* Writes a batch of one fact, which must succeed. */
static struct batch write_fact(struct ledger *l, const struct history_epoch *epoch, const struct fact *f,
			       int64_t offset)
{
	struct batch b;
	batch_fill(&b, f, 1, offset);
	expect(l, write_batch(l, epoch, &b), STORE_OK, f->order);
	return b;
}

#define BASE_RULE "{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 100}]}"

/* What no batch that writes nothing may change: the rows' versions. */
static int64_t rows_written(struct ledger_stage *t)
{
	return stage_number(t, "SELECT coalesce(sum(x::text::bigint), 0)::int8 FROM (SELECT xmin AS x FROM orders"
			       " UNION ALL SELECT xmin FROM posted UNION ALL SELECT xmin FROM balances"
			       " UNION ALL SELECT xmin FROM witnesses) r");
}

/* ---- an order's life ---- */

START_TEST(test_ledger__an_orders_life_step_by_step)
{
	static const struct {
		struct fact fact;
		enum outcome outcome;
		bool wrote;
		const char *state; /* progress outcome amount refunded driver points credit */
	} steps[] = {
		{FACT("o1", CREATED, 0, .customer = "c1"), OUTCOME_RECORDED, true, "created - - 0 - 0 0"},
		{FACT("o1", PICKED_UP, 5, .partner = "p1", .driver = "d1"), OUTCOME_RECORDED, true,
		 "picked_up - - 0 d1 0 0"},
		{FACT("o1", ASSIGNED, 3, BRL(1000), .driver = "d0"), OUTCOME_STALE, true, "picked_up - 1000 0 d1 0 0"},
		{FACT("o1", DELIVERED, 10), OUTCOME_CREDITED, true, "delivered delivered 1000 0 d1 10 1000"},
		{FACT("o1", DELIVERED, 10), OUTCOME_RECORDED, false, "delivered delivered 1000 0 d1 10 1000"},
		{FACT("o1", CREATED, 0, .customer = "c1"), OUTCOME_STALE, false,
		 "delivered delivered 1000 0 d1 10 1000"},
		{FACT("o1", DELIVERED, 11, .refunded = 250), OUTCOME_CREDITED, true,
		 "delivered delivered 1000 250 d1 7 750"},
		{FACT("o1", DELIVERED, 9, .refunded = 200), OUTCOME_RECORDED, false,
		 "delivered delivered 1000 250 d1 7 750"},
		{FACT("o1", IN_TRANSIT, 12, BRL(1250)), OUTCOME_CREDITED, true,
		 "delivered delivered 1250 250 d1 10 1000"},
		{FACT("o1", CANCELLED, 8), OUTCOME_RECORDED, true, "cancelled delivered 1250 250 d1 10 1000"},
		{FACT("o1", CANCELLED, 30), OUTCOME_CREDITED, true, "cancelled cancelled 1250 250 d1 0 0"},
		{FACT("o1", DELIVERED, 40, .driver = "d2"), OUTCOME_CREDITED, true,
		 "cancelled delivered 1250 250 d2 10 1000"},
		{FACT("o1", RETURNED, 50, .refunded = 2000), OUTCOME_CREDITED, true,
		 "returned returned 1250 2000 d2 0 0"},
		{FACT("o1", DELIVERED, 60), OUTCOME_STALE, true, "returned delivered 1250 2000 d2 0 0"},
	};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "life");
	stage_apply_rules(&t, BASE_RULE);
	struct ledger *l = ledger_new(&t.settings, 0, 1);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int64_t before = rows_written(&t);
		struct batch b = write_fact(l, &t.epoch, &steps[i].fact, 100 + (int64_t)i);
		ck_assert_msg(b.items[0].outcome == steps[i].outcome, "step %zu: %d", i, (int)b.items[0].outcome);
		ck_assert_msg(b.wrote == steps[i].wrote, "step %zu", i);
		ck_assert_msg(b.wrote || rows_written(&t) == before, "step %zu writes", i);
		ck_assert_ptr_null(b.items[0].conflict_field);
		stage_check(
			&t,
			"SELECT concat_ws(' ', progress, coalesce(outcome, '-'), coalesce(amount_minor::text, '-'),"
			" refunded_total_minor, coalesce(driver_id, '-'), points, order_credit_minor) FROM order_state",
			steps[i].state);
		stage_check_books(&t);
	}
	stage_check(&t,
		    "SELECT concat_ws(' ', order_id, partner_id, customer_id, currency, outcome_at) FROM order_state",
		    "o1 p1 c1 BRL 2026-01-01 01:00:00+00");
	stage_check_postings(&t,
			     "o1 order_credit 1 BRL 1000 clearing:BRL>partner_payable:p1 -/0 delivery-events/2/103\n"
			     "o1 order_credit 2 BRL 250 partner_payable:p1>clearing:BRL -/0 delivery-events/2/106\n"
			     "o1 order_credit 3 BRL 250 clearing:BRL>partner_payable:p1 -/0 delivery-events/2/108\n"
			     "o1 order_credit 4 BRL 1000 partner_payable:p1>clearing:BRL -/0 delivery-events/2/110\n"
			     "o1 order_credit 5 BRL 1000 clearing:BRL>partner_payable:p1 -/0 delivery-events/2/111\n"
			     "o1 order_credit 6 BRL 1000 partner_payable:p1>clearing:BRL -/0 delivery-events/2/112\n"
			     "o1 points 1 PTS 10 partner_points:p1>customer_points:c1 base/1 delivery-events/2/103\n"
			     "o1 points 2 PTS 3 customer_points:c1>partner_points:p1 base/1 delivery-events/2/106\n"
			     "o1 points 3 PTS 3 partner_points:p1>customer_points:c1 base/1 delivery-events/2/108\n"
			     "o1 points 4 PTS 10 customer_points:c1>partner_points:p1 base/1 delivery-events/2/110\n"
			     "o1 points 5 PTS 10 partner_points:p1>customer_points:c1 base/1 delivery-events/2/111\n"
			     "o1 points 6 PTS 10 customer_points:c1>partner_points:p1 base/1 delivery-events/2/112");
	/* Accounts stay at 0. */
	stage_check(&t, "SELECT string_agg(customer_id || ' ' || points, ',') FROM customer_points", "c1 0");
	stage_check(&t,
		    "SELECT string_agg(partner_id || ' ' || currency || ' ' || credit_minor, ',') FROM partner_credit",
		    "p1 BRL 0");
	stage_check(&t,
		    "SELECT string_agg(concat_ws(' ', account, unit, debits, credits), ',' ORDER BY account)"
		    " FROM account_balances",
		    "clearing:BRL BRL 2250 2250,customer_points:c1 PTS 23 23,partner_payable:p1 BRL 2250 2250,"
		    "partner_points:p1 PTS 23 23");
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* Several records of one order in one batch post their sum, in the name of the one that last changed it. */
START_TEST(test_ledger__a_batch_posts_the_difference)
{
	static const struct fact facts[] = {
		FACT("a", DELIVERED, 1, EUR(500), .customer = "c", .partner = "p"),
		FACT("b", DELIVERED, 1, EUR(700), .customer = "c", .partner = "p"),
		FACT("a", DELIVERED, 2, .refunded = 100),
		FACT("b", CANCELLED, 3),
		FACT("a", CREATED, 0),
		FACT("c", DELIVERED, 1, USD(900), .partner = "p"),  /* no customer: no points */
		FACT("d", DELIVERED, 1, USD(900), .customer = "c"), /* no partner: nothing */
	};
	static const enum outcome outcomes[] = {OUTCOME_RECORDED, OUTCOME_RECORDED, OUTCOME_CREDITED, OUTCOME_RECORDED,
						OUTCOME_STALE,    OUTCOME_CREDITED, OUTCOME_RECORDED};
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "difference");
	stage_apply_rules(&t, BASE_RULE);
	struct ledger *l = ledger_new(&t.settings, 0, FACTS_MAX);
	struct batch b;
	batch_fill(&b, facts, 7, 0);
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "write");
	ck_assert(b.wrote);
	for (size_t i = 0; i < 7; i++)
		ck_assert_msg(b.items[i].outcome == outcomes[i], "%zu: %d", i, (int)b.items[i].outcome);
	static const char wanted[] = "a order_credit 1 EUR 400 clearing:EUR>partner_payable:p -/0 delivery-events/2/2\n"
				     "a points 1 PTS 4 partner_points:p>customer_points:c base/1 delivery-events/2/2\n"
				     "c order_credit 1 USD 900 clearing:USD>partner_payable:p -/0 delivery-events/2/5";
	stage_check_postings(&t, wanted);
	stage_check(&t, "SELECT string_agg(order_id || ' ' || first_offset, ',' ORDER BY order_id) FROM orders",
		    "a 0,b 1,c 5,d 6");
	stage_check_books(&t);

	/* The same again, from a worker that knows nothing: nothing. */
	struct ledger *again = ledger_new(&t.settings, 1, FACTS_MAX);
	int64_t before = rows_written(&t);
	batch_fill(&b, facts, 7, 50);
	expect(again, write_batch(again, &t.epoch, &b), STORE_OK, "again");
	ck_assert(!b.wrote);
	static const enum outcome then[] = {OUTCOME_RECORDED, OUTCOME_STALE,    OUTCOME_RECORDED, OUTCOME_RECORDED,
					    OUTCOME_STALE,    OUTCOME_RECORDED, OUTCOME_RECORDED};
	for (size_t i = 0; i < 7; i++)
		ck_assert_msg(b.items[i].outcome == then[i], "%zu again: %d", i, (int)b.items[i].outcome);
	/* But for the witness of a new connection, which counts no batch. */
	ck_assert_int_eq(stage_number(&t, "SELECT sum(batches)::int8 FROM witnesses"), 1);
	stage_run(&t, "DELETE FROM witnesses WHERE batches = 0");
	ck_assert_int_eq(rows_written(&t), before);
	stage_check_postings(&t, wanted);
	ledger_free(again);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_ledger__rules_and_kinds_are_those_of_the_first_pricing)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "pricing");
	struct ledger *l = ledger_new(&t.settings, 0, 4), *replica = ledger_new(&t.settings, 1, 4);
	/* No rule, no points; and none later, either. */
	write_fact(l, &t.epoch, &(struct fact)FACT("a", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p"), 1);
	stage_apply_rules(&t, BASE_RULE);
	write_fact(l, &t.epoch, &(struct fact)FACT("a", DELIVERED, 1, .refunded = 100), 2);
	write_fact(l, &t.epoch, &(struct fact)FACT("b", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p"), 3);
	/* The replica hears of version 2 first, and prices by it; the other meets its pin with rules of its own too
	 * old. */
	stage_apply_rules(
		&t, "{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 2, \"per_minor\": 100}],"
		    " \"partners\": [{\"partner_id\": \"q\", \"kinds\": [\"points\"]}]}");
	write_fact(replica, &t.epoch, &(struct fact)FACT("c", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p"),
		   4);
	write_fact(l, &t.epoch, &(struct fact)FACT("c", DELIVERED, 1, .refunded = 500), 5);
	write_fact(l, &t.epoch, &(struct fact)FACT("b", CANCELLED, 2), 6);
	/* Another outcome is priced anew. */
	write_fact(l, &t.epoch, &(struct fact)FACT("b", DELIVERED, 3), 7);
	write_fact(l, &t.epoch, &(struct fact)FACT("d", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "q"), 8);
	stage_apply_rules(&t, "{\"partners\": [{\"partner_id\": \"q\", \"kinds\": [\"order_credit\"]}]}");
	write_fact(l, &t.epoch, &(struct fact)FACT("d", DELIVERED, 1, .refunded = 1), 9);
	write_fact(l, &t.epoch, &(struct fact)FACT("e", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "q"), 10);
	stage_check_postings(&t, "a order_credit 1 EUR 1000 clearing:EUR>partner_payable:p -/0 delivery-events/2/1\n"
				 "a order_credit 2 EUR 100 partner_payable:p>clearing:EUR -/0 delivery-events/2/2\n"
				 "b order_credit 1 EUR 1000 clearing:EUR>partner_payable:p -/0 delivery-events/2/3\n"
				 "b order_credit 2 EUR 1000 partner_payable:p>clearing:EUR -/0 delivery-events/2/6\n"
				 "b order_credit 3 EUR 1000 clearing:EUR>partner_payable:p -/0 delivery-events/2/7\n"
				 "b points 1 PTS 10 partner_points:p>customer_points:c base/1 delivery-events/2/3\n"
				 "b points 2 PTS 10 customer_points:c>partner_points:p base/1 delivery-events/2/6\n"
				 "b points 3 PTS 20 partner_points:p>customer_points:c base/2 delivery-events/2/7\n"
				 "c order_credit 1 EUR 1000 clearing:EUR>partner_payable:p -/0 delivery-events/2/4\n"
				 "c order_credit 2 EUR 500 partner_payable:p>clearing:EUR -/0 delivery-events/2/5\n"
				 "c points 1 PTS 20 partner_points:p>customer_points:c base/2 delivery-events/2/4\n"
				 "c points 2 PTS 10 customer_points:c>partner_points:p base/2 delivery-events/2/5\n"
				 "d points 1 PTS 20 partner_points:q>customer_points:c base/2 delivery-events/2/8\n"
				 "d points 2 PTS 1 customer_points:c>partner_points:q base/2 delivery-events/2/9\n"
				 "e order_credit 1 EUR 1000 clearing:EUR>partner_payable:q -/0 delivery-events/2/10");
	stage_check_books(&t);
	ledger_free(l);
	ledger_free(replica);
	ledger_stage_close(&t);
}
END_TEST

/* ---- conflicts ---- */

START_TEST(test_ledger__a_conflict_costs_itself_only)
{
	static const struct {
		struct fact fact;
		const char *conflict;
	} rows[] = {
		/* The first applied wins, whatever the timestamps say. */
		{FACT("a", DELIVERED, 9, EUR(1000), .customer = "c1", .partner = "p1"), NULL},
		{FACT("a", CANCELLED, 99, .refunded = 900, .partner = "p2", .driver = "dx"), "partner_id"},
		{FACT("a", CANCELLED, 99, .customer = "c2"), "customer_id"},
		{FACT("b", DELIVERED, 9, USD(50), .customer = "c1", .partner = "p1"), NULL},
		{FACT("a", CANCELLED, 99, USD(5)), "currency"},
		{FACT("a", DELIVERED, 10, .refunded = 100, .customer = "c1"), NULL},
		/* What is not fixed yet is fixed by the first that carries it, also within the batch. */
		{FACT("d", CREATED, 0), NULL},
		{FACT("d", CREATED, 5, .customer = "c5"), NULL},
		{FACT("d", CREATED, 1, .customer = "c6"), "customer_id"},
	};
	enum { COUNT = sizeof(rows) / sizeof(rows[0]) };
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "conflicts");
	stage_apply_rules(&t, BASE_RULE);
	struct ledger *l = ledger_new(&t.settings, 0, FACTS_MAX);
	struct fact facts[COUNT];
	for (int i = 0; i < COUNT; i++)
		facts[i] = rows[i].fact;
	static const char wanted[] =
		"a order_credit 1 EUR 900 clearing:EUR>partner_payable:p1 -/0 delivery-events/2/5\n"
		"a points 1 PTS 9 partner_points:p1>customer_points:c1 base/1 delivery-events/2/5\n"
		"b order_credit 1 USD 50 clearing:USD>partner_payable:p1 -/0 delivery-events/2/3";
	/* Within a batch first, then each again against the row. */
	for (int round = 0; round < 2; round++) {
		struct batch b;
		batch_fill(&b, facts, COUNT, round * 50);
		expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "write");
		ck_assert(b.wrote == (round == 0));
		for (int i = 0; i < COUNT; i++) {
			const char *field = b.items[i].conflict_field;
			ck_assert_msg(rows[i].conflict ? field && strcmp(field, rows[i].conflict) == 0 : !field,
				      "round %d, %d: %s", round, i, field ? field : "none");
		}
		stage_check_postings(&t, wanted);
		stage_check(
			&t,
			"SELECT string_agg(concat_ws(' ', order_id, partner_id, customer_id, coalesce(driver_id, '-'),"
			" progress, outcome, amount_minor, refunded_total_minor), ',' ORDER BY order_id) FROM "
			"order_state",
			"a p1 c1 - delivered delivered 1000 100,b p1 c1 - delivered delivered 50 0,d c5 - created 0");
		stage_check_books(&t);
	}
	/* A batch of nothing but a conflict is settled, too, and writes nothing. */
	struct batch b;
	batch_fill(&b, &facts[1], 1, 99);
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "alone");
	ck_assert(!b.wrote && b.items[0].conflict_field);
	/* And what said so once is forgotten when the next batch does not. */
	batch_fill(&b, &facts[0], 1, 100);
	b.items[0].conflict_field = "stale answer";
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "innocent");
	ck_assert_ptr_null(b.items[0].conflict_field);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* ---- any order, any batching ---- */

#define RANDOM_RULES \
	"{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 3, \"per_minor\": 70," \
	" \"multiplier_bp\": 12345, \"max_points_per_order\": 900}," \
	" {\"id\": \"own\", \"kind\": \"per_order\", \"points\": 50, \"partner_id\": \"p1\", \"min_order_minor\": " \
	"5000}]," \
	" \"partners\": [{\"partner_id\": \"p2\", \"kinds\": [\"order_credit\"]}]}"

static const struct rule random_rules[] = {
	{.id = {"base", 4},
	 .version = 1,
	 .kind = RULE_PER_AMOUNT,
	 .points = 3,
	 .per_minor = 70,
	 .multiplier_bp = 12345,
	 .max_points_per_order = 900,
	 .valid_from_us = TIME_NONE,
	 .valid_to_us = INT64_MAX},
	{.id = {"own", 3},
	 .version = 1,
	 .kind = RULE_PER_ORDER,
	 .points = 50,
	 .per_minor = 1,
	 .multiplier_bp = 10000,
	 .min_order_minor = 5000,
	 .max_points_per_order = -1,
	 .partner_id = {"p1", 2},
	 .valid_from_us = TIME_NONE,
	 .valid_to_us = INT64_MAX},
};

enum { RANDOM_ORDERS = 40, RANDOM_FACTS = 12, RANDOM_TOTAL = RANDOM_ORDERS * RANDOM_FACTS, RANDOM_BATCH = 37 };

struct world {
	char ids[RANDOM_ORDERS][16];
	struct event events[RANDOM_TOTAL]; /* an order's stand together */
	struct terms terms;
};

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 11;
}

static void make_world(struct world *w, uint64_t seed)
{
	static const enum event_status statuses[] = {STATUS_CREATED,   STATUS_ASSIGNED,  STATUS_IN_TRANSIT,
						     STATUS_DELIVERED, STATUS_DELIVERED, STATUS_DELIVERED,
						     STATUS_FAILED,    STATUS_RETURNED};
	static const char *const partners[] = {"p0", "p1", "p2"}, *const currencies[] = {"BRL", "EUR"};
	static const char *const customers[] = {"c0", "c1", "c2", "c3", "c4"}, *const drivers[] = {"d0", "d1", "d2"};
	*w = (struct world){.terms = {.rule_count = 2}};
	memcpy(w->terms.rules, random_rules, sizeof(random_rules));
	w->terms.partners[0] = (struct partner_settings){.partner_id = slice_of("p2"), .kinds = KIND_ORDER_CREDIT};
	for (int i = 1; i < ORACLE_PARTNERS; i++)
		w->terms.partners[i] = (struct partner_settings){.partner_id = slice_of(""), .kinds = KINDS_ALL};
	for (int o = 0; o < RANDOM_ORDERS; o++) {
		snprintf(w->ids[o], sizeof(w->ids[o]), "o%03d", o);
		const char *currency = currencies[draw(&seed) % 2], *customer = customers[draw(&seed) % 5];
		const char *partner = partners[draw(&seed) % 3];
		for (int i = 0; i < RANDOM_FACTS; i++) {
			const struct fact f = {
				.order = w->ids[o],
				.status = statuses[draw(&seed) % 8],
				.minute = (int)(draw(&seed) % 6), /* few, so that ties are frequent */
				.amount = (int64_t)(draw(&seed) % 20000),
				.currency = draw(&seed) % 3 ? NULL : currency,
				.refunded = draw(&seed) % 4 ? 0 : (int64_t)(draw(&seed) % 8000),
				.customer = draw(&seed) % 3 ? NULL : customer,
				.partner = draw(&seed) % 3 ? NULL : partner,
				.driver = draw(&seed) % 3 ? NULL : drivers[draw(&seed) % 3],
			};
			w->events[o * RANDOM_FACTS + i] = event_of(&f);
		}
	}
}

static void shuffle(uint32_t *indexes, size_t count, uint64_t *seed)
{
	for (size_t i = 0; i < count; i++)
		indexes[i] = (uint32_t)i;
	for (size_t i = count; i > 1; i--) {
		size_t k = draw(seed) % i;
		uint32_t kept = indexes[i - 1];
		indexes[i - 1] = indexes[k];
		indexes[k] = kept;
	}
}

static int64_t cell(const struct pg_rows *rows, size_t row, int column, int64_t absent)
{
	return pg_null(rows, row, column) ? absent : pg_integer(rows, row, column);
}

/* Every order is what the contract's own words, worked out by the oracle, make of its facts. */
static void check_world(struct ledger_stage *t, const struct world *w)
{
	struct pg_rows *rows = NULL;
	ck_assert_int_eq(pg_query(t->pg,
				  "SELECT s.order_id, o.progress, o.outcome, s.outcome_at, s.amount_minor,"
				  " s.refunded_total_minor, s.customer_id, s.partner_id, s.currency, s.driver_id,"
				  " s.points, s.order_credit_minor FROM order_state s JOIN orders o USING (order_id)"
				  " ORDER BY order_id",
				  NULL, &rows),
			 PG_OK);
	ck_assert_uint_eq(pg_rows_count(rows), RANDOM_ORDERS);
	const struct terms *at[RANDOM_FACTS];
	for (int i = 0; i < RANDOM_FACTS; i++)
		at[i] = &w->terms;
	for (size_t o = 0; o < RANDOM_ORDERS; o++) {
		const struct event *facts = &w->events[o * RANDOM_FACTS];
		struct facts f = oracle_facts(facts, RANDOM_FACTS);
		struct targets wanted = oracle_targets(facts, RANDOM_FACTS, at);
		ck_assert(slice_equal(pg_text(rows, o, 0), slice_of(w->ids[o])));
		ck_assert_int_eq(pg_integer(rows, o, 1), f.progress);
		ck_assert_int_eq(cell(rows, o, 2, STATUS_NONE), f.outcome);
		if (f.outcome != STATUS_NONE)
			ck_assert_int_eq(pg_time(rows, o, 3), f.outcome_at_us);
		ck_assert_int_eq(cell(rows, o, 4, -1), f.amount_minor);
		ck_assert_int_eq(pg_integer(rows, o, 5), f.refunded_total_minor);
		ck_assert(slice_equal(pg_text(rows, o, 6), f.customer_id));
		ck_assert(slice_equal(pg_text(rows, o, 7), f.partner_id));
		if (f.currency[0])
			ck_assert(slice_equal(pg_text(rows, o, 8), slice_of(f.currency)));
		ck_assert(slice_equal(pg_text(rows, o, 9), f.driver_id));
		ck_assert_msg(pg_integer(rows, o, 10) == wanted.points, "%s: %d points, wanted %d", w->ids[o],
			      (int)pg_integer(rows, o, 10), (int)wanted.points);
		ck_assert_int_eq(pg_integer(rows, o, 11), wanted.order_credit_minor);
	}
	pg_rows_free(rows);
	stage_check_books(t);
}

static struct world world;

START_TEST(test_ledger__any_order_and_batching_ends_alike)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct ledger_stage t;
		char schema[32];
		snprintf(schema, sizeof(schema), "random %d", (int)seed);
		ledger_stage_open(&t, server.dsn, schema);
		stage_apply_rules(&t, RANDOM_RULES);
		make_world(&world, 0x9e3779b97f4a7c15 * seed);
		struct ledger *l = ledger_new(&t.settings, 0, RANDOM_TOTAL);
		struct ledger_item items[RANDOM_TOTAL];
		uint32_t indexes[RANDOM_TOTAL];
		uint64_t random = seed + 77;
		/* All facts once, then all again in another order. */
		for (int round = 0; round < 2; round++) {
			shuffle(indexes, RANDOM_TOTAL, &random);
			for (size_t at = 0, size; at < RANDOM_TOTAL; at += size) {
				size = 1 + draw(&random) % 120;
				size = size < RANDOM_TOTAL - at ? size : RANDOM_TOTAL - at;
				for (size_t i = 0; i < size; i++)
					items[i] = item_of(&world.events[indexes[at + i]], (int64_t)(at + i));
				bool wrote = false;
				expect(l, ledger_write(l, &t.epoch, items, size, &wrote), STORE_OK, "batch");
				for (size_t i = 0; i < size; i++)
					ck_assert_ptr_null(items[i].conflict_field);
				ck_assert(round == 0 || !wrote);
				stage_check_books(&t);
			}
		}
		check_world(&t, &world);
		ck_assert_int_gt(stage_number(&t, "SELECT count(*) FROM postings WHERE seq > 1"), 0);
		ledger_free(l);
		ledger_stage_close(&t);
	}
}
END_TEST

/* ---- many, large ---- */

/* One partner is owed 10,000 times 2^53 - 1: beyond what 64 bits hold. */
START_TEST(test_ledger__sums_outgrow_64_bits)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "huge");
	stage_apply_rules(
		&t, "{\"rules\": [{\"id\": \"big\", \"kind\": \"per_amount\", \"points\": 1000000, \"per_minor\": 1,"
		    " \"multiplier_bp\": 1000000}]}");
	struct ledger *l = ledger_new(&t.settings, 0, BATCH_MAX);
	struct event *events = calloc(BATCH_MAX, sizeof(*events));
	struct ledger_item *items = calloc(BATCH_MAX, sizeof(*items));
	char(*ids)[16] = calloc(BATCH_MAX, sizeof(*ids));
	for (int i = 0; i < BATCH_MAX; i++) {
		snprintf(ids[i], sizeof(ids[i]), "o%05d", (i * 7919) % BATCH_MAX); /* not sorted */
		events[i] = event_of(&(struct fact)FACT(ids[i], DELIVERED, 1, EUR(EVENT_AMOUNT_MAX), .customer = "c",
							.partner = "p"));
		items[i] = item_of(&events[i], i);
	}
	bool wrote = false;
	expect(l, ledger_write(l, &t.epoch, items, BATCH_MAX, &wrote), STORE_OK, "write");
	ck_assert(wrote);
	ck_assert_int_eq(items[0].outcome, OUTCOME_CREDITED);
	stage_check(&t, "SELECT credit_minor FROM partner_credit", "90071992547409910000");
	stage_check(&t, "SELECT points FROM customer_points", "90071992547409910000");
	stage_check_books(&t);
	/* All taken back, and below zero: the next refund of what was never paid out. */
	for (int i = 0; i < BATCH_MAX; i++) {
		events[i].status = STATUS_CANCELLED;
		events[i].timestamp_us += MINUTE_US;
	}
	expect(l, ledger_write(l, &t.epoch, items, BATCH_MAX, &wrote), STORE_OK, "cancel");
	stage_check(&t, "SELECT credit_minor FROM partner_credit", "0");
	stage_check(&t,
		    "SELECT concat_ws(' ', debits, credits) FROM account_balances WHERE account = 'customer_points:c'",
		    "90071992547409910000 90071992547409910000");
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM postings"), 4 * BATCH_MAX);
	stage_check_books(&t);
	free(events);
	free(items);
	free(ids);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* ---- together ---- */

enum { WRITERS = 4, ROUNDS = 10, TRIES = 50 };

struct writer {
	struct ledger_stage *stage;
	struct ledger *ledger;
	uint64_t seed;
	char failed[600]; /* "" while all went well */
};

static void write_shuffled(struct writer *w, const uint32_t *indexes)
{
	struct ledger_item items[RANDOM_BATCH];
	for (size_t at = 0; at < RANDOM_TOTAL && !w->failed[0]; at += RANDOM_BATCH) {
		size_t size = RANDOM_TOTAL - at < RANDOM_BATCH ? RANDOM_TOTAL - at : RANDOM_BATCH;
		for (size_t i = 0; i < size; i++)
			items[i] = item_of(&world.events[indexes[at + i]], (int64_t)(at + i));
		enum store_result r = STORE_RETRY;
		bool wrote;
		for (int i = 0; i < TRIES && r == STORE_RETRY; i++) {
			r = ledger_write(w->ledger, &w->stage->epoch, items, size, &wrote);
		}
		if (r != STORE_OK)
			snprintf(w->failed, sizeof(w->failed), "%d %s", r, ledger_error(w->ledger));
	}
}

static void *write_all(void *argument)
{
	struct writer *w = argument;
	uint32_t indexes[RANDOM_TOTAL];
	for (int round = 0; round < ROUNDS && !w->failed[0]; round++) {
		shuffle(indexes, RANDOM_TOTAL, &w->seed);
		write_shuffled(w, indexes);
	}
	return NULL;
}

START_TEST(test_ledger__writers_of_the_same_orders_lose_nothing)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "writers");
	stage_apply_rules(&t, RANDOM_RULES);
	make_world(&world, 4711);
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	for (size_t i = 0; i < WRITERS; i++)
		writers[i] =
			(struct writer){.stage = &t, .ledger = ledger_new(&t.settings, i, RANDOM_BATCH), .seed = i + 1};
	for (size_t i = 0; i < WRITERS; i++)
		threads[i] = thread_start("writer", write_all, &writers[i]);
	for (size_t i = 0; i < WRITERS; i++) {
		thread_join(threads[i]);
		ledger_free(writers[i].ledger);
	}
	for (size_t i = 0; i < WRITERS; i++)
		ck_assert_msg(!writers[i].failed[0], "writer %zu: %s", i, writers[i].failed);
	check_world(&t, &world);
	ledger_stage_close(&t);
}
END_TEST

struct waiting_write {
	struct ledger *ledger;
	const struct history_epoch *epoch;
	struct batch *batch;
	enum store_result result;
};

static void *write_waiting(void *argument)
{
	struct waiting_write *w = argument;
	w->result = write_batch(w->ledger, w->epoch, w->batch);
	return NULL;
}

/*
 * Locks are taken in one order everywhere: a write that waits for a row has locked all rows before it and none behind
 * it, in whatever order its records came. (Deadlocks are one side's retry, so nobody would notice them by.)
 */
START_TEST(test_ledger__rows_are_locked_in_key_order)
{
	static const struct {
		const char *table, *key, *row;
		int before, behind;
	} rows[] = {
		{"orders", "order_id", "'e'", 4, 4},
		/* Of customers, kind 1; the partners' and clearing's come behind. */
		{"balances", "(account_kind, account_id, unit)", "(1, 'c5', 'PTS')", 4, 4 + 3},
	};
	/* The order of ids is not that of customers, nor is either that of arrival. */
	static const struct fact facts[] = {
		FACT("h", DELIVERED, 1, EUR(1000), .customer = "c2", .partner = "p"),
		FACT("c", DELIVERED, 1, EUR(1000), .customer = "c7", .partner = "p"),
		FACT("e", DELIVERED, 1, EUR(1000), .customer = "c4", .partner = "p"),
		FACT("i", DELIVERED, 1, EUR(1000), .customer = "c5", .partner = "p"),
		FACT("a", DELIVERED, 1, EUR(1000), .customer = "c9", .partner = "p"),
		FACT("g", DELIVERED, 1, EUR(1000), .customer = "c1", .partner = "p"),
		FACT("b", DELIVERED, 1, EUR(1000), .customer = "c6", .partner = "p"),
		FACT("f", DELIVERED, 1, EUR(1000), .customer = "c8", .partner = "p"),
		FACT("d", DELIVERED, 1, EUR(1000), .customer = "c3", .partner = "p"),
	};
	enum { COUNT = sizeof(facts) / sizeof(facts[0]) };
	struct ledger_stage t;
	struct batch b;
	char sql[200];
	snprintf(sql, sizeof(sql), "locks %d", _i);
	ledger_stage_open(&t, server.dsn, sql);
	stage_apply_rules(&t, BASE_RULE);
	struct ledger *l = ledger_new(&t.settings, 0, FACTS_MAX);
	batch_fill(&b, facts, COUNT, 0);
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "made");

	stage_run(&t, "BEGIN");
	snprintf(sql, sizeof(sql), "SELECT 1 FROM %s WHERE %s = %s FOR UPDATE", rows[_i].table, rows[_i].key, rows[_i].row);
	stage_run(&t, sql);
	for (size_t i = 0; i < COUNT; i++)
		b.events[i].refunded_total_minor = 500;
	struct waiting_write w = {l, &t.epoch, &b, STORE_UNUSABLE};
	pthread_t thread = thread_start("write", write_waiting, &w);
	stage_await(&t, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1);
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM (SELECT 1 FROM %s WHERE %s < %s FOR UPDATE SKIP LOCKED) free",
		 rows[_i].table, rows[_i].key, rows[_i].row);
	ck_assert_msg(stage_number(&t, sql) == 0, "a row before is not locked");
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM (SELECT 1 FROM %s WHERE %s > %s FOR UPDATE SKIP LOCKED) free",
		 rows[_i].table, rows[_i].key, rows[_i].row);
	ck_assert_msg(stage_number(&t, sql) == rows[_i].behind, "a row behind is locked");
	stage_run(&t, "COMMIT");
	thread_join(thread);
	expect(l, w.result, STORE_OK, "went on");
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s WHERE %s < %s", rows[_i].table, rows[_i].key, rows[_i].row);
	ck_assert_int_eq(stage_number(&t, sql), rows[_i].before);
	stage_check_books(&t);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* Another worker that comes between, each time that the proxy sees a write. */
struct rival {
	struct ledger *ledger;
	struct history_epoch epoch;
	struct postgres_proxy *proxy;
	const char *orders; /* one letter each: the next that it writes */
	enum store_result result;
};

static void rival_writes(void *owner)
{
	struct rival *rival = owner;
	char id[2] = {*rival->orders++, '\0'};
	const struct event e = event_of(&(struct fact)FACT(id, DELIVERED, 7, EUR(300), .partner = "p"));
	struct ledger_item item = item_of(&e, 900);
	bool wrote;
	rival->result = ledger_write(rival->ledger, &rival->epoch, &item, 1, &wrote);
	if (*rival->orders)
		postgres_proxy_arm(rival->proxy, "write_witness", PROXY_HOOK_BEFORE, rival_writes, rival);
	else
		postgres_proxy_arm(rival->proxy, "lock_orders", PROXY_NOTE, NULL, NULL);
}

START_TEST(test_ledger__a_rivals_write_in_between_is_seen)
{
	static const struct {
		const char *rival; /* orders that are there when our writes arrive, one after the other */
		enum store_result result;
		int sights; /* of the proxy: each rival's write, and the locked read of the try behind the last */
	} rows[] = {
		{"a", STORE_OK, 2},       /* a row of old */
		{"b", STORE_OK, 2},       /* new on both sides */
		{"abc", STORE_OK, 4},     /* three times is not the end */
		{"bcde", STORE_RETRY, 4}, /* four times is, for now: without a fifth try */
	};
	struct ledger_stage t;
	struct postgres_proxy proxy;
	char schema[32];
	snprintf(schema, sizeof(schema), "rival %d", _i);
	ledger_stage_open(&t, server.dsn, schema);
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	struct store_settings through = t.settings;
	through.dsn = proxy.dsn;
	struct ledger *l = ledger_new(&through, 0, FACTS_MAX);
	struct rival rival = {ledger_new(&t.settings, 1, 1), t.epoch, &proxy, rows[_i].rival, STORE_UNUSABLE};
	write_fact(l, &t.epoch, &(struct fact)FACT("a", CREATED, 0, .partner = "p"), 1);

	static const struct fact facts[] = {
		FACT("a", ASSIGNED, 1, .refunded = 100), FACT("b", ASSIGNED, 1, .refunded = 100),
		FACT("c", ASSIGNED, 1, .refunded = 100), FACT("d", ASSIGNED, 1, .refunded = 100),
		FACT("e", ASSIGNED, 1, .refunded = 100),
	};
	struct batch b;
	batch_fill(&b, facts, 5, 10);
	postgres_proxy_arm(&proxy, "write_witness", PROXY_HOOK_BEFORE, rival_writes, &rival);
	enum store_result r = write_batch(l, &t.epoch, &b);
	ck_assert_int_eq(postgres_proxy_fired(&proxy), rows[_i].sights);
	expect(rival.ledger, rival.result, STORE_OK, "rival");
	expect(l, r, rows[_i].result, rows[_i].rival);
	if (r != STORE_OK) {
		ck_assert(!b.wrote);
		ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM orders WHERE refunded_total_minor = 100"), 0);
		expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "again");
	}
	ck_assert(b.wrote);
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM orders WHERE refunded_total_minor = 100"), 5);
	char wanted[16];
	snprintf(wanted, sizeof(wanted), "%d", 200 * (int)strlen(rows[_i].rival));
	stage_check(&t, "SELECT sum(credit_minor) FROM partner_credit", wanted);
	stage_check_books(&t);
	ledger_free(l);
	ledger_free(rival.ledger);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
}
END_TEST

/* ---- trouble ---- */

START_TEST(test_ledger__a_record_that_the_database_refuses_takes_nothing_along)
{
	static const char *const refusals[] = {
		"ALTER TABLE orders ADD CHECK (order_id <> 'bad')",
		"ALTER TABLE posted ADD CHECK (order_id <> 'bad')",
		"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
		" $$ BEGIN RAISE 'out of range' USING ERRCODE = '22003'; END $$;"
		"CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.order_id = 'bad') EXECUTE "
		"FUNCTION refuse()",
		/* Only when it commits. */
		"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
		" $$ BEGIN RAISE 'too late' USING ERRCODE = '23514'; END $$;"
		"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
		" WHEN (NEW.order_id = 'bad') EXECUTE FUNCTION refuse()",
	};
	struct ledger_stage t;
	char schema[32];
	snprintf(schema, sizeof(schema), "refused %d", _i);
	ledger_stage_open(&t, server.dsn, schema);
	stage_apply_rules(&t, BASE_RULE);
	stage_run(&t, refusals[_i]);
	struct ledger *l = ledger_new(&t.settings, 0, 3);
	static const struct fact facts[] = {
		FACT("good1", DELIVERED, 1, EUR(100), .customer = "c", .partner = "p"),
		FACT("bad", DELIVERED, 1, EUR(100), .customer = "c", .partner = "p"),
		FACT("good2", DELIVERED, 1, EUR(100), .customer = "c", .partner = "p"),
	};
	struct batch b;
	int64_t backends = -1;
	for (int round = 0; round < 3; round++) {
		batch_fill(&b, facts, 3, 10 * round);
		expect(l, write_batch(l, &t.epoch, &b), STORE_REJECTED, "all");
		ck_assert(!b.wrote);
		ck_assert_ptr_nonnull(strstr(ledger_error(l), _i == 2 ? "22003" : "23514"));
		batch_fill(&b, &facts[1], 1, 10 * round + 1);
		expect(l, write_batch(l, &t.epoch, &b), STORE_REJECTED, "alone");
		ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM orders"), round > 0);
		/* The good of the batch, one by one, on the same connection. */
		write_fact(l, &t.epoch, &facts[0], 10 * round);
		int64_t sum =
			stage_number(&t, "SELECT sum(pid)::int8 FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
					 " AND application_name = 'delivery-worker'");
		ck_assert(round == 0 || sum == backends);
		backends = sum;
	}
	write_fact(l, &t.epoch, &facts[2], 99);
	stage_check(&t, "SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM orders", "good1 good2");
	ck_assert_int_eq(stage_number(&t, "SELECT batches FROM witnesses"), 2);
	stage_check_books(&t);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* Cut while the answer to COMMIT is on its way, and before the server saw it: the worker can't tell them apart. */
START_TEST(test_ledger__an_unanswered_commit_is_repeated_without_effect)
{
	static const enum proxy_act acts[] = {PROXY_CUT_AT_ANSWER, PROXY_CUT_INSTEAD};
	struct ledger_stage t;
	struct postgres_proxy proxy;
	char schema[32];
	snprintf(schema, sizeof(schema), "unanswered %d", _i);
	ledger_stage_open(&t, server.dsn, schema);
	stage_apply_rules(&t, BASE_RULE);
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	struct store_settings through = t.settings;
	through.dsn = proxy.dsn;
	struct ledger *l = ledger_new(&through, 0, FACTS_MAX);
	struct store *keeper = store_new(&t.settings, 1);
	write_fact(l, &t.epoch, &(struct fact)FACT("a", CREATED, 0, .customer = "c", .partner = "p"), 0);
	static const struct fact facts[] = {
		FACT("a", DELIVERED, 1, EUR(1000)),
		FACT("b", DELIVERED, 1, EUR(500), .customer = "c", .partner = "p"),
	};
	/* More than once in a row, since each leaves the witness in doubt. */
	for (int round = 0; round < 3; round++) {
		struct batch b;
		batch_fill(&b, facts, 2, 10 * (round + 1));
		b.events[0].refunded_total_minor = 100 * round;
		postgres_proxy_arm(&proxy, "write_witness", acts[_i], NULL, NULL);
		expect(l, write_batch(l, &t.epoch, &b), STORE_RETRY, "cut");
		ck_assert(!b.wrote);
		expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "repeated");
		ck_assert(b.wrote == (acts[_i] == PROXY_CUT_INSTEAD));
		ck_assert_int_eq(store_check_history(keeper, &t.epoch), STORE_OK);
		ck_assert_int_eq(stage_number(&t, "SELECT max(batches) FROM witnesses"), 2 + round);
	}
	ck_assert_int_eq(postgres_proxy_fired(&proxy), 3);
	stage_check_postings(&t, "a order_credit 1 EUR 1000 clearing:EUR>partner_payable:p -/0 delivery-events/2/10\n"
				 "a order_credit 2 EUR 100 partner_payable:p>clearing:EUR -/0 delivery-events/2/20\n"
				 "a order_credit 3 EUR 100 partner_payable:p>clearing:EUR -/0 delivery-events/2/30\n"
				 "a points 1 PTS 10 partner_points:p>customer_points:c base/1 delivery-events/2/10\n"
				 "a points 2 PTS 1 customer_points:c>partner_points:p base/1 delivery-events/2/20\n"
				 "a points 3 PTS 1 customer_points:c>partner_points:p base/1 delivery-events/2/30\n"
				 "b order_credit 1 EUR 500 clearing:EUR>partner_payable:p -/0 delivery-events/2/11\n"
				 "b points 1 PTS 5 partner_points:p>customer_points:c base/1 delivery-events/2/11");
	stage_check_books(&t);
	store_free(keeper);
	ledger_free(l);
	postgres_proxy_stop(&proxy);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_ledger__another_history_is_told_and_nothing_written)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "history");
	struct ledger *l = ledger_new(&t.settings, 0, 1);
	const struct fact f = FACT("a", DELIVERED, 1, EUR(1000), .partner = "p");
	struct history_epoch other = t.epoch;
	other.bytes[15] ^= 1;
	struct batch b;
	batch_fill(&b, &f, 1, 0);
	expect(l, write_batch(l, &other, &b), STORE_HISTORY, "from the start");
	ck_assert(!b.wrote);
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, "the right one");
	b.events[0].refunded_total_minor = 1;
	expect(l, write_batch(l, &other, &b), STORE_HISTORY, "later");
	stage_run(&t, "UPDATE history SET epoch = gen_random_uuid()");
	expect(l, write_batch(l, &t.epoch, &b), STORE_HISTORY, "drawn anew");
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM postings"), 1);
	struct history_epoch now = stage_epoch(&t);
	expect(l, write_batch(l, &now, &b), STORE_OK, "assigned anew");
	ck_assert_int_eq(stage_number(&t, "SELECT count(*) FROM postings"), 2);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

#define BASE_RULE_OF(points) \
	"{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": " points ", \"per_minor\": 100}]}"

/* The database is set back by a revision and reaches the same number, and the same version, with other terms. */
START_TEST(test_ledger__rules_of_another_history_do_not_price)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "set back");
	struct ledger *l = ledger_new(&t.settings, 0, 1);
	stage_apply_rules(&t, BASE_RULE);
	stage_apply_rules(&t, BASE_RULE_OF("10"));
	write_fact(l, &t.epoch, &(struct fact)FACT("a", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p"), 1);
	stage_run(&t, "DELETE FROM rules WHERE revision = 2;"
		      "UPDATE history SET rules_revision = 1, epoch = gen_random_uuid()");
	struct history_epoch now = stage_epoch(&t);

	/* Before any batch of the new history: the worker has the old rules still. */
	stage_apply_rules(&t, BASE_RULE_OF("20"));
	ck_assert_int_eq(stage_number(&t, "SELECT rules_revision FROM history"), 2);
	write_fact(l, &now, &(struct fact)FACT("b", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p"), 2);
	stage_check(&t, "SELECT string_agg(order_id || ' ' || points, ',' ORDER BY order_id) FROM order_state",
		    "a 100,b 200");

	/* The same number again, by a file that leaves `base` at version 1: a pin of version 2 would name nothing. */
	stage_run(&t, "DELETE FROM rules WHERE revision = 2;"
		      "UPDATE history SET rules_revision = 1, epoch = gen_random_uuid()");
	now = stage_epoch(&t);
	stage_apply_rules(&t, "{\"rules\": [{\"id\": \"more\", \"kind\": \"per_order\", \"points\": 5,"
			      " \"partner_id\": \"q\"}]}");
	write_fact(l, &now, &(struct fact)FACT("c", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p"), 3);
	write_fact(l, &now, &(struct fact)FACT("c", DELIVERED, 1, .refunded = 500), 4);
	stage_check(&t, "SELECT points || ' ' || pinned_rule_version FROM orders WHERE order_id = 'c'", "5 1");
	stage_check_books(&t);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* An order that is written a thousand times a second gets there in 25 days. */
START_TEST(test_ledger__numbers_outgrow_31_bits)
{
	static const struct fact first = FACT("a", DELIVERED, 1, EUR(1000), .customer = "c", .partner = "p");
	static const struct fact last = FACT("a", RETURNED, 2);
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "wide numbers");
	stage_apply_rules(&t, BASE_RULE);
	struct ledger *l = ledger_new(&t.settings, 0, 1);
	write_fact(l, &t.epoch, &first, 1);
	stage_run(&t, "UPDATE orders SET rev = 2147483647, points_seq = 2147483647, order_credit_seq = 2147483647;"
		      "UPDATE posted SET seq = 2147483647");
	struct batch b = write_fact(l, &t.epoch, &last, 2);
	ck_assert_int_eq(b.items[0].outcome, OUTCOME_CREDITED);
	stage_check(&t, "SELECT points FROM customer_points", "0");
	stage_check(&t, "SELECT rev || ' ' || points_seq || ' ' || order_credit_seq FROM orders",
		    "2147483648 2147483648 2147483648");
	stage_check(&t, "SELECT string_agg(kind || seq || ' ' || amount, ', ' ORDER BY kind, seq) FROM postings",
		    "order_credit2147483647 1000, order_credit2147483648 1000, points2147483647 10, points2147483648 10");
	/* And once more, from the wide ones. */
	write_fact(l, &t.epoch, &(struct fact)FACT("a", DELIVERED, 3), 3);
	stage_check(&t, "SELECT rev || ' ' || points || ' ' || order_credit_minor FROM orders", "2147483649 10 1000");
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

/* ---- what a later version wrote ---- */

static const struct {
	const char *damage; /* of order a's row */
	const char *mend;
	const char *column;
} unknown_codes[] = {
	{"progress = 82", "progress = 80", "progress"},
	{"progress = -1", "progress = 80", "progress"},
	{"outcome = 82", "outcome = 80", "outcome"},
	{"outcome = 50", "outcome = 80", "outcome"},
	{"currency = 'USDT'", "currency = 'EUR'", "currency"},
	{"currency = ''", "currency = 'EUR'", "currency"},
	{"pinned_kinds = 7", "pinned_kinds = 3", "pinned_kinds"},
	{"pinned_kinds = -1", "pinned_kinds = 3", "pinned_kinds"},
	{"pinned_kinds = 256", "pinned_kinds = 3", "pinned_kinds"},
	{"pinned_rule_version = 9", "pinned_rule_version = 1", "pinned_rule_version"},
	{"pinned_rule_id = 'other'", "pinned_rule_id = 'base'", "pinned_rule_version"},
};

static void set_order_a(struct ledger_stage *t, const char *what)
{
	char sql[128];
	snprintf(sql, sizeof(sql), "UPDATE orders SET %s WHERE order_id = 'a'", what);
	stage_run(t, sql);
}

/* [I14]: its records are deferred, its row stays as it is, and its neighbours are written. */
START_TEST(test_ledger__a_code_of_a_later_version_defers_its_records)
{
	static const struct fact first = FACT("a", DELIVERED, 1, EUR(10000), .customer = "c", .partner = "p");
	static const struct fact facts[] = {
		FACT("a", IN_TRANSIT, 2, .refunded = 5000),
		FACT("b", DELIVERED, 2, EUR(2000), .customer = "c", .partner = "p"),
		FACT("a", CANCELLED, 3, .customer = "another"),
		FACT("c", CREATED, 2),
	};
	struct ledger_stage t;
	struct batch b;
	char schema[32];
	snprintf(schema, sizeof(schema), "a later version %d", _i);
	ledger_stage_open(&t, server.dsn, schema);
	stage_apply_rules(&t, BASE_RULE);
	struct ledger *l = ledger_new(&t.settings, 0, FACTS_MAX);
	write_fact(l, &t.epoch, &first, 1);
	set_order_a(&t, unknown_codes[_i].damage);
	int64_t version = stage_number(&t, "SELECT xmin::text::int8 FROM orders WHERE order_id = 'a'");

	/* By id, then by the hint of where the row is. */
	for (int again = 0; again < 2; again++) {
		batch_fill(&b, facts, 4, 2);
		expect(l, write_batch(l, &t.epoch, &b), STORE_OK, unknown_codes[_i].damage);
		ck_assert(b.wrote == !again);
		for (int i = 0; i < 4; i += 2) {
			ck_assert_int_eq(b.items[i].outcome, OUTCOME_DEFERRED);
			ck_assert_str_eq(b.items[i].unknown_code, unknown_codes[_i].column);
			ck_assert_ptr_null(b.items[i].conflict_field);
			ck_assert_ptr_null(b.items[i + 1].unknown_code);
		}
		ck_assert_int_eq(b.items[1].outcome, again ? OUTCOME_RECORDED : OUTCOME_CREDITED);
		ck_assert_int_eq(b.items[3].outcome, OUTCOME_RECORDED);
		ck_assert_int_eq(stage_number(&t, "SELECT xmin::text::int8 FROM orders WHERE order_id = 'a'"), version);
	}
	stage_check(&t, "SELECT points FROM customer_points", "120");

	/* Whoever knows the code takes them. */
	set_order_a(&t, unknown_codes[_i].mend);
	batch_fill(&b, facts, 1, 2);
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, unknown_codes[_i].mend);
	ck_assert_int_eq(b.items[0].outcome, OUTCOME_CREDITED);
	ck_assert_ptr_null(b.items[0].unknown_code);
	stage_check(&t, "SELECT points FROM customer_points", "70");
	stage_check_books(&t);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

static const struct {
	const char *damage, *mend;
	const char *reason;
} unknown_settings[] = {
	{"ALTER TABLE rules DROP CONSTRAINT rules_kind_check; UPDATE rules SET kind = 3", "UPDATE rules SET kind = 1",
	 "kind of rule base is a code that this version does not know: run a newer delivery-worker"},
	{"UPDATE rules SET currency = 'USDT'", "UPDATE rules SET currency = NULL",
	 "currency of rule base is a code that this version does not know: run a newer delivery-worker"},
	{"ALTER TABLE partners DROP CONSTRAINT partners_kinds_check; INSERT INTO partners VALUES ('p', 4, NULL, NULL, 1)",
	 "DELETE FROM partners",
	 "kinds of partner p is a code that this version does not know: run a newer delivery-worker"},
};

/* [I14]: nothing is priced by what is left of them. */
START_TEST(test_ledger__a_setting_of_a_later_version_is_unusable)
{
	static const struct fact fact = FACT("a", DELIVERED, 1, EUR(10000), .customer = "c", .partner = "p");
	struct ledger_stage t;
	struct batch b;
	char schema[32];
	snprintf(schema, sizeof(schema), "later settings %d", _i);
	ledger_stage_open(&t, server.dsn, schema);
	stage_apply_rules(&t, BASE_RULE);
	stage_run(&t, unknown_settings[_i].damage);
	struct ledger *l = ledger_new(&t.settings, 0, FACTS_MAX);
	batch_fill(&b, &fact, 1, 1);
	expect(l, write_batch(l, &t.epoch, &b), STORE_UNUSABLE, unknown_settings[_i].damage);
	ck_assert_str_eq(ledger_error(l), unknown_settings[_i].reason);
	ck_assert_int_eq(stage_orders(&t), 0);
	stage_run(&t, unknown_settings[_i].mend);
	expect(l, write_batch(l, &t.epoch, &b), STORE_OK, unknown_settings[_i].mend);
	stage_check(&t, "SELECT points FROM customer_points", "100");
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

START_TEST(test_ledger__an_absent_server_is_a_retry)
{
	struct ledger_stage t;
	ledger_stage_open(&t, server.dsn, "absent");
	struct store_settings away = t.settings;
	away.dsn = "host=/tmp/no-such-folder user=postgres";
	struct ledger *l = ledger_new(&away, 0, 1);
	const struct fact f = FACT("a", CREATED, 1);
	struct batch b;
	batch_fill(&b, &f, 1, 0);
	expect(l, write_batch(l, &t.epoch, &b), STORE_RETRY, "away");
	ck_assert(!b.wrote && strlen(ledger_error(l)) > 0);
	ledger_free(l);
	ledger_stage_close(&t);
}
END_TEST

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!private_postgres_start(&server)) {
		private_postgres_stop(&server);
		return 1;
	}
	Suite *suite = suite_create("ledger");
	TCase *c = tcase_create("ledger");
	tcase_set_timeout(c, 120);
	tcase_add_test(c, test_ledger__an_orders_life_step_by_step);
	tcase_add_test(c, test_ledger__a_batch_posts_the_difference);
	tcase_add_test(c, test_ledger__rules_and_kinds_are_those_of_the_first_pricing);
	tcase_add_test(c, test_ledger__a_conflict_costs_itself_only);
	tcase_add_test(c, test_ledger__any_order_and_batching_ends_alike);
	tcase_add_test(c, test_ledger__sums_outgrow_64_bits);
	tcase_add_test(c, test_ledger__writers_of_the_same_orders_lose_nothing);
	tcase_add_loop_test(c, test_ledger__rows_are_locked_in_key_order, 0, 2);
	tcase_add_loop_test(c, test_ledger__a_rivals_write_in_between_is_seen, 0, 4);
	tcase_add_loop_test(c, test_ledger__a_record_that_the_database_refuses_takes_nothing_along, 0, 4);
	tcase_add_loop_test(c, test_ledger__an_unanswered_commit_is_repeated_without_effect, 0, 2);
	tcase_add_test(c, test_ledger__another_history_is_told_and_nothing_written);
	tcase_add_test(c, test_ledger__rules_of_another_history_do_not_price);
	tcase_add_test(c, test_ledger__numbers_outgrow_31_bits);
	tcase_add_loop_test(c, test_ledger__a_code_of_a_later_version_defers_its_records, 0,
			    (int)(sizeof(unknown_codes) / sizeof(unknown_codes[0])));
	tcase_add_loop_test(c, test_ledger__a_setting_of_a_later_version_is_unusable, 0,
			    (int)(sizeof(unknown_settings) / sizeof(unknown_settings[0])));
	tcase_add_test(c, test_ledger__an_absent_server_is_a_retry);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed == 0 && ran > 0 ? 0 : 1;
}
