#include "tests/lib/order_lives.h"

#include "tests/lib/order_oracle.c"

#include <stdio.h>
#include <stdlib.h>

uint64_t state;

uint64_t draw(void) /* SplitMix64 */
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int below(int bound)
{
	return (int)(draw() % (uint64_t)bound);
}

uint64_t base_seed(void)
{
	const char *text = getenv("DW_TEST_SEED");
	return text ? strtoull(text, NULL, 0) : UINT64_C(20260101);
}

const int64_t times[] = {T0, T0 + 1, T0 + SECOND, T0 + 2 * SECOND};
const char *const partners[ORACLE_PARTNERS] = {"p1", "p2", "p10"};
const char *const currencies[] = {"BRL", "USD"};

struct event draw_event(const char *partner, const char *currency)
{
	/* The decisive ones more often: they are what the tests are about. */
	static const enum event_status statuses[] = {
		STATUS_CREATED, STATUS_ASSIGNED, STATUS_AT_PICKUP, STATUS_ATTEMPTED, STATUS_DELIVERED, STATUS_DELIVERED,
		STATUS_DELIVERED, STATUS_DELIVERED, STATUS_FAILED, STATUS_CANCELLED, STATUS_RETURNED,
	};
	static const int64_t amounts[] = {0, 1, 99, 100, 7289, 1000000, EVENT_AMOUNT_MAX - 1, EVENT_AMOUNT_MAX};
	static const int64_t refunds[] = {0, 0, 0, 1, 50, 100, 7000, EVENT_AMOUNT_MAX};
	static const char *const drivers[] = {NULL, "a", "b", "ab"};
	struct event e = {
		.order_id = SLICE_LITERAL("o1"),
		.status = PICK(statuses),
		.timestamp_us = PICK(times),
		.driver_id = slice_of(PICK(drivers)),
		.amount_minor = -1,
		.refunded_total_minor = PICK(refunds),
	};
	if (below(2)) {
		e.amount_minor = PICK(amounts);
		memcpy(e.currency, currency, 4);
	}
	if (below(2))
		e.partner_id = slice_of(partner);
	if (below(2))
		e.customer_id = SLICE_LITERAL("c1");
	return e;
}

int draw_life(struct event life[FACTS_MAX])
{
	const char *partner = PICK(partners), *currency = PICK(currencies);
	int count = 2 + below(FACTS_MAX - 1);
	for (int i = 0; i < count; i++)
		life[i] = draw_event(partner, currency);
	return count;
}

struct rule draw_rule(const char *id, int32_t version)
{
	static const int64_t points[] = {0, 1, 3, 50, 1000000};
	static const int64_t per_minor[] = {1, 7, 100, 1000000000};
	static const int64_t multipliers[] = {0, 1, 9999, 10000, 15000, 1000000};
	static const int64_t minimums[] = {0, 0, 0, 100, 7289};
	static const int64_t maximums[] = {-1, -1, 0, 5, 500, EVENT_AMOUNT_MAX};
	static const int64_t starts[] = {TIME_NONE, TIME_NONE, T0, T0 + 1, T0 + SECOND};
	static const int64_t ends[] = {INT64_MAX, INT64_MAX, T0 + SECOND, T0 + SECOND + 1, T0 + 2 * SECOND};
	struct rule r = {
		.id = slice_of(id),
		.version = version,
		.kind = below(2) ? RULE_PER_AMOUNT : RULE_PER_ORDER,
		.points = PICK(points),
		.per_minor = 1,
		.multiplier_bp = PICK(multipliers),
		.min_order_minor = PICK(minimums),
		.max_points_per_order = PICK(maximums),
		.valid_from_us = PICK(starts),
		.valid_to_us = PICK(ends),
	};
	if (r.kind == RULE_PER_AMOUNT)
		r.per_minor = PICK(per_minor);
	if (below(2))
		r.partner_id = slice_of(PICK(partners));
	if (below(3) == 0)
		snprintf(r.currency, sizeof(r.currency), "%s", PICK(currencies));
	return r;
}

static void seal_terms(struct terms *t, int64_t revision)
{
	t->set = rules_new(revision);
	for (int i = t->rule_count - 1; i >= 0; i--)
		rules_add(t->set, &t->rules[i]);
	for (int p = 0; p < ORACLE_PARTNERS; p++)
		rules_add_partner(t->set, &t->partners[p]);
	rules_seal(t->set);
}

void draw_sets(struct terms sets[SETS])
{
	static const char *const ids[] = {"a", "aa", "b", "B"};
	int32_t versions[4] = {0};
	for (int k = 0; k < SETS; k++) {
		sets[k] = k ? sets[k - 1] : (struct terms){.rule_count = 0};
		for (int more = below(ORACLE_RULES_MAX / SETS + 1); more > 0; more--) {
			int id = below(4);
			sets[k].rules[sets[k].rule_count++] = draw_rule(ids[id], ++versions[id]);
		}
		for (int p = 0; p < ORACLE_PARTNERS; p++)
			sets[k].partners[p] = (struct partner_settings){
				slice_of(partners[p]), (uint8_t)(below(2) ? KINDS_ALL : below(4)), -1, -1};
		seal_terms(&sets[k], k + 1);
	}
}

void release_sets(struct terms sets[SETS])
{
	for (int k = 0; k < SETS; k++)
		rules_unref(sets[k].set);
}
