/*
 * A generator of orders' lives and of the rules they are priced by, for property tests: few values of each
 * kind, so that ties and repeats are common. Seeded with DW_TEST_SEED, else with a constant:
 *
 *     for (n = 0; n < MANY; n++) {
 *         uint64_t seed = state = base_seed() + n;   // what a failure prints
 *         int count = draw_life(life);
 *
 * Test sources include order_lives.c, which includes order_oracle.c.
 */
#ifndef TESTS_LIB_ORDER_LIVES_H
#define TESTS_LIB_ORDER_LIVES_H

#include "tests/lib/order_oracle.h"

#define SECOND INT64_C(1000000)
#define T0 (1700000000 * SECOND)

enum { FACTS_MAX = 6, SETS = 3 };

extern uint64_t state;
uint64_t draw(void);
int below(int bound);
uint64_t base_seed(void);

#define PICK(table) ((table)[below((int)(sizeof(table) / sizeof((table)[0])))])

extern const int64_t times[4];
extern const char *const partners[ORACLE_PARTNERS];
extern const char *const currencies[2];

struct event draw_event(const char *partner, const char *currency);
/* All of its facts name the same partner, customer and currency. Returns: how many there are. */
int draw_life(struct event life[FACTS_MAX]);
struct rule draw_rule(const char *id, int32_t version);
/* Revisions: sets[k + 1] holds all rule versions of sets[k], and more. */
void draw_sets(struct terms sets[SETS]);
void release_sets(struct terms sets[SETS]);

#endif
