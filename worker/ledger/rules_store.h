/*
 * Rules and partner settings in PostgreSQL. Versions are only ever added; history.rules_revision grows
 * by one with every file that changed something, and each row carries the revision that brought it, so
 * the rules as of any revision can be read back at any time (partner settings: the newest alone).
 * Workers hear of a change on the channel RULES_CHANNEL, the revision as payload.
 *
 * Errors are pg.h's; the text is in pg_error. A code that this binary does not know (a kind of rule, a bit of a
 * partner's kinds, a currency of another form) is PG_UNUSABLE: a set without that entry would price otherwise [I14].
 */
#ifndef WORKER_LEDGER_RULES_STORE_H
#define WORKER_LEDGER_RULES_STORE_H

#include "worker/ledger/pg.h"
#include "worker/ledger/rules.h"

#include <stdbool.h>
#include <stdint.h>

#define RULES_CHANNEL "delivery_rules"

/* The revision that is committed now. */
must_use enum pg_result rules_store_revision(struct pg *pg, int64_t *revision);

/*
 * Loads all rule versions up to and including a revision, and the partners, as a sealed set of that
 * revision with one reference. May run inside a transaction.
 */
must_use enum pg_result rules_store_load(struct pg *pg, int64_t up_to_revision, struct rules **out);

/* What became of one entry of the file. */
struct rule_change {
	bool changed;
	int32_t version; /* of a rule: the one in the database now; of a partner: 0 */
};

/*
 * Applies a parsed file in one transaction: a rule whose terms differ from its newest version becomes
 * the next one, a partner's entry replaces the earlier one, what the file leaves out stays. Concurrent
 * calls queue on the history row. A caller that is frozen for 5 s loses its session, and with it the lock.
 * `rule_changes` and `partner_changes` hold one element an entry of `file`, in its order (unsealed).
 * Returns: PG_OK and *revision, the one now in force; an error, after which the session is to be
 * closed and nothing was applied, unless the connection was lost during COMMIT: calling again settles it.
 */
must_use enum pg_result rules_store_apply(struct pg *pg, const struct rules *file, struct rule_change *rule_changes,
                                          struct rule_change *partner_changes, int64_t *revision);

#endif
