/*
 * The contract's section 3 a second time, for tests: it shares nothing with worker/ledger. It keeps the
 * list of facts and answers each question by scanning it for the one that none beats, chooses rules
 * by pairwise comparison, and computes points with schoolbook arithmetic on digits of 16 bits.
 * Slow, and meant to be read beside the contract. Conflicts apart: all facts of a list name the same
 * customer, partner and currency. Ids are NUL-terminated. Test sources include order_oracle.c.
 */
#ifndef TESTS_LIB_ORDER_ORACLE_H
#define TESTS_LIB_ORDER_ORACLE_H

#include "worker/ledger/decision.h"

enum { ORACLE_RULES_MAX = 12, ORACLE_PARTNERS = 3 };

/* What the database holds at one revision. */
struct terms {
	struct rule rules[ORACLE_RULES_MAX];
	int rule_count;
	struct partner_settings partners[ORACLE_PARTNERS];
	struct rules *set; /* the same as the worker has it; not looked at here */
};

struct facts oracle_facts(const struct event *facts, int count);
/* Returns: NULL when no rule is in force. */
const struct rule *oracle_in_force(const struct terms *t, struct slice partner, const char *currency, int64_t at);
int64_t oracle_points(const struct rule *r, int64_t amount, int64_t refunded);
/* The targets of `count` facts in the order of their arrival, of which fact i was applied under the terms
 * of at[i]: those with which the order could first earn under its outcome are the ones that count. */
struct targets oracle_targets(const struct event *facts, int count, const struct terms *const *at);

#endif
