/*
 * Where an assigned partition starts, whether the log is the one that progress was made in, and whether the database is
 * still the history that its commits were made in: pure functions of what Kafka and PostgreSQL say.
 *
 * A commit of ours carries metadata (commit_mark): the epoch of the database, the WAL position that the progress write
 * behind it saw, and the cluster's id. A commit without it is an operator's reset, or some other consumer's. Progress in
 * PostgreSQL is durable before Kafka's commit passes it, so progress behind a marked commit of the same epoch proves
 * that the database has lost something.
 *
 * Thread: any.
 */
#ifndef WORKER_LEDGER_START_RULE_H
#define WORKER_LEDGER_START_RULE_H

#include "worker/ledger/fingerprint.h"
#include "worker/ledger/history_epoch.h"

#include <stdbool.h>
#include <stdint.h>

/* The id that a cluster gives itself; "" where it has none, or none is known, which equals any. */
struct cluster_id {
	char text[64]; /* a longer one is cut */
};

/* Of any text; what a mark could not carry (spaces, what is not ASCII) becomes '?'. */
struct cluster_id cluster_id_of(const char *text);
/* Whether both are known, and differ. */
bool cluster_id_differs(const struct cluster_id *a, const struct cluster_id *b);

struct commit_mark {
	struct history_epoch epoch;
	uint64_t lsn; /* WAL position, bytes */
	struct cluster_id cluster;
};

enum { COMMIT_MARK_TEXT_MAX = 160 };

void commit_mark_format(const struct commit_mark *m, char text[COMMIT_MARK_TEXT_MAX]);
/* Takes the text of this release, and that of the one before, which has no cluster. A later release's is a mark, too, of
 * which nothing is known: of no epoch, and of no cluster. Returns: false when the text is not a mark of ours. */
bool commit_mark_parse(const char *text, struct commit_mark *m);

/* Offsets [from, to). */
struct offset_range {
	int64_t from;
	int64_t to;
};

/* What reading at the stored fingerprint has shown. */
enum log_proof {
	LOG_UNPROVEN,       /* nothing: not read yet, or what was found there agreed */
	LOG_OTHER_RECORD,   /* another record is at its offset */
	LOG_REPLACED,       /* while it was read: a record that had been settled before it is not there any more */
	LOG_RECORD_MISSING, /* a later record, or a later end, came without it. No proof where retention may have passed it */
};

/* What was found lost before; it is kept in PostgreSQL. */
enum loss_state {
	LOSS_NONE,
	LOSS_FOUND,    /* and not accepted */
	LOSS_ACCEPTED, /* by an operator; the next assignment applies it */
};

struct start_facts {
	int64_t committed;  /* Kafka's, -1: none */
	bool marked;        /* by us */
	int64_t progress;   /* PostgreSQL's, -1: none */
	int64_t log_start;
	int64_t log_end;
	int64_t progress_before;  /* what progress was known to be before the log's end was asked for; 0: nothing */
	bool mark_elsewhere;      /* the mark was made in another cluster: a mirror has copied the commit */
	bool other_cluster;       /* progress was made in another cluster */
	bool group_kept;          /* the group was never empty since progress was last renewed, see store_renew_member */
	struct fingerprint print; /* that stands with progress */
	enum log_proof proof;     /* about it */
	enum loss_state loss;
	struct offset_range loss_range;
};

struct start_verdict {
	bool lost;                 /* `range` is lost and was not accepted: do not consume */
	int64_t start;             /* else: the position to start from */
	bool unsure;               /* none of it: to be asked again, see start_rule */
	bool reset;                /* an operator's reset was obeyed; it ends what was found lost before */
	bool foreign;              /* an unmarked commit is some other consumer's: it was passed over */
	bool accepted;             /* an accepted loss was applied */
	struct offset_range range; /* when lost, or accepted */
	const char *reason;        /* of a loss, for people */
};

/*
 * In short: an unmarked commit is obeyed, unless it can't be an operator's; else the lower of commit and progress;
 * progress alone; else the start of the log. Data loss is: a stored offset below the start of the log; another log than
 * progress was made in, which is lost from 0 to the stored offset; a marked commit without progress when the log no
 * longer begins at 0; and whatever was found before and not accepted. After an accepted loss it starts at the first
 * offset that the log has: what is read again posts nothing.
 *
 * Progress beyond the log's end is believed at the second look only. An earlier owner of the partition, who does not
 * know yet that it was sent away, may settle what was written after the end was asked for, and before progress was read;
 * so the end has to be asked for once more when progress is known.
 */
struct start_verdict start_rule(const struct start_facts *f);

/* Whether marked commit and progress contradict each other within one epoch. `mark`: of the commit. */
bool start_rule_progress_lost(const struct start_facts *f, const struct commit_mark *mark,
                              const struct history_epoch *epoch);

#endif
