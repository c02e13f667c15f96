/*
 * Where an assigned partition starts, and whether the database is still the history that its commits
 * were made in: the contract's start rule, as pure functions.
 *
 * A commit of ours carries metadata (commit_mark): the epoch of the database and the WAL position that
 * the progress write behind it saw. A commit without it is an operator's reset. Progress in PostgreSQL
 * is durable before Kafka's commit passes it, so progress behind a marked commit of the same epoch
 * proves that the database has lost something.
 *
 * Thread: any.
 */
#ifndef WORKER_LEDGER_START_RULE_H
#define WORKER_LEDGER_START_RULE_H

#include "worker/ledger/history_epoch.h"

#include <stdbool.h>
#include <stdint.h>

struct commit_mark {
	struct history_epoch epoch;
	uint64_t lsn; /* WAL position, bytes */
};

enum { COMMIT_MARK_TEXT_MAX = 80 };

void commit_mark_format(const struct commit_mark *m, char text[COMMIT_MARK_TEXT_MAX]);
/* Returns: false when the text is not a mark of ours. */
bool commit_mark_parse(const char *text, struct commit_mark *m);

struct start_facts {
	int64_t committed;  /* Kafka's, -1: none */
	bool marked;        /* by us */
	int64_t progress;   /* PostgreSQL's, -1: none */
	int64_t log_start;
	int64_t log_end;
};

/* Offsets that an operator gives up (`run --accept-loss`), or that were found lost: [from, to). */
struct offset_range {
	int64_t from;
	int64_t to;
};

struct start_verdict {
	bool lost;                 /* `range` is lost and was not accepted: do not consume */
	int64_t start;             /* else: the position to start from */
	bool reset;                /* an operator's reset was obeyed */
	struct offset_range range; /* when lost, or when a loss was accepted */
};

/*
 * In short: an unmarked commit is obeyed; else the lower of commit and progress; progress alone; else
 * the start of the log. A stored offset outside of the log is data loss, and so is a marked
 * commit without progress when the log no longer begins at 0. After an accepted loss it starts at
 * the first offset that the log still has: what is read again posts nothing.
 * `accepted`: NULL, or what the operator accepts for this partition; only exactly that counts.
 */
struct start_verdict start_rule(const struct start_facts *f, const struct offset_range *accepted);

/* Whether marked commit and progress contradict each other within one epoch. `mark`: of the commit. */
bool start_rule_progress_lost(const struct start_facts *f, const struct commit_mark *mark,
                              const struct history_epoch *epoch);

#endif
