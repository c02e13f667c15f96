/*
 * What an order earns: rules are versioned, never edited; partners have settings. A rule set is an
 * immutable snapshot shared by reference: it holds every version of every rule, since an order keeps
 * the version that it was priced by.
 *
 * Thread: building is one thread's; a finished set may be read by any, rules_ref/rules_unref count.
 */
#ifndef WORKER_LEDGER_RULES_H
#define WORKER_LEDGER_RULES_H

#include "common/ensure.h"
#include "common/slice.h"
#include "schemas/timestamp.h"

#include <stdbool.h>
#include <stdint.h>

/* Which ledger entries a partner takes part in. Values are stored in the database. */
enum ledger_kinds {
	KINDS_NONE = 0,
	KIND_POINTS = 1,
	KIND_ORDER_CREDIT = 2,
	KINDS_ALL = KIND_POINTS | KIND_ORDER_CREDIT,
};

/* Whether all bits are ours. Else a later version wrote it: what it means is not known here. */
static inline bool kinds_known(int64_t kinds)
{
	return (kinds & ~(int64_t)KINDS_ALL) == 0;
}

enum rule_kind { RULE_PER_AMOUNT = 1, RULE_PER_ORDER = 2 }; /* stored in the database */

struct rule {
	struct slice id;         /* 1-64 of [A-Za-z0-9._:-] */
	int32_t version;         /* from 1; 0 in a rule file, where versions are not given */
	enum rule_kind kind;
	int64_t points;          /* 0 .. 10^6 */
	int64_t per_minor;       /* 1 .. 10^9; 1 for per_order */
	int64_t multiplier_bp;   /* 0 .. 10^6; 10000 is 1x */
	int64_t min_order_minor; /* 0: none */
	int64_t max_points_per_order; /* -1: none */
	struct slice partner_id; /* absent: any */
	char currency[4];        /* "": any */
	int64_t valid_from_us;   /* TIME_NONE: always */
	int64_t valid_to_us;     /* exclusive; INT64_MAX: for ever */
};

enum { PARTNER_RATE_MAX = 1000000 }; /* of per_second and burst */

struct partner_settings {
	struct slice partner_id;
	uint8_t kinds;           /* enum ledger_kinds */
	int64_t per_second;      /* rate limit, up to PARTNER_RATE_MAX; 0: none; -1: the option's default */
	int64_t burst;           /* 1 .. PARTNER_RATE_MAX; -1: the option's default */
};

struct rules;

/* An empty set with one reference. `revision`: what the database calls this state of its rules. */
struct rules *rules_new(int64_t revision);
/* Copies the rule, strings included. (id, version) must be new to the set. */
void rules_add(struct rules *r, const struct rule *rule);
/* Copies; of several entries of one partner the last counts, from rules_seal on. */
void rules_add_partner(struct rules *r, const struct partner_settings *p);
/* Sorts the set for look-ups; nothing may be added afterwards. */
void rules_seal(struct rules *r);
struct rules *rules_ref(struct rules *r);
void rules_unref(struct rules *r); /* NULL is fine */

int64_t rules_revision(const struct rules *r);
/* All versions, sorted by (id, version). */
size_t rules_count(const struct rules *r);
const struct rule *rules_at(const struct rules *r, size_t i);
size_t rules_partner_count(const struct rules *r);
const struct partner_settings *rules_partner_at(const struct rules *r, size_t i);

/* Equal in all but `version`. */
bool rule_same_terms(const struct rule *a, const struct rule *b);
/* Whether this version may price an order of that partner and currency whose outcome was at `at_us`. */
bool rule_eligible(const struct rule *rule, struct slice partner_id, const char *currency, int64_t at_us);

/*
 * The one rule in force: of each id its newest version competes; a partner's own before a general
 * one, then the latest valid_from (none sorts first), then the smallest id.
 * Returns: NULL when no rule is.
 */
const struct rule *rules_in_force(const struct rules *r, struct slice partner_id, const char *currency, int64_t at_us);
/* Returns: NULL when there is no such version. */
const struct rule *rules_version(const struct rules *r, struct slice id, int32_t version);
/* Returns: the newest version of the rule, NULL when there is none of that id. */
const struct rule *rules_newest(const struct rules *r, struct slice id);
/* Returns: the partner's settings, or a default entry (all kinds, limits -1) with absent partner_id. */
const struct partner_settings *rules_partner(const struct rules *r, struct slice partner_id);

enum { RULES_FILE_BYTES_MAX = 1024 * 1024 };

/*
 * Reads a rule file (JSON, contract section 7) into a fresh unsealed set: rules with version 0,
 * partners, in the file's order. Strict: unknown members, duplicate ids, values out of bounds are errors.
 * Returns: NULL, and one line in `error` that names the member. event_setup must have been called: without it
 * a failed allocation inside of jansson is a wrong file, or a wrong rule.
 */
must_use struct rules *rules_parse_file(struct slice text, char *error, size_t error_size);

#endif
