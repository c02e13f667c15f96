/*
 * A partition, from the group's gift to its return. One state, its transitions in one table
 * (partition.c), no Kafka in it: the consumer thread translates librdkafka's events into the verbs
 * below and carries out what the new state asks for.
 *
 *                  resolved           proven           not due
 *   assigned -> RESOLVING ----> PROVING ------> RUNNING <---------> HELD
 *                 |   ^ \ offsets lost           |   due          ^
 *                 |   |  `-----------------------+----------------'
 *                 |   `-- not proven, history changed, asked anew -- (PROVING, RUNNING, HELD)
 *                 | revoked                      | revoked
 *                 v                              v
 *                GONE <-- drained, expired -- DRAINING        lost: any state -> GONE
 *
 * Proving: progress belongs to a log, not to a name, so reading begins at the record that was settled last
 * (fingerprint.h), which costs no read of its own where that is the one before the start.
 *   1. RESOLVING ends: the partition is fetched from the stored fingerprint's offset on.
 *   2. The first thing that comes decides. The record that is meant: proven, and dropped. Another record at its offset:
 *      another log. A later record, or the log's end beyond it: the record is missing.
 *   3. Proven: RUNNING, from the start on. Otherwise: RESOLVING again, with that evidence; the start rule decides, since
 *      it also knows whether retention has passed the record meanwhile.
 *   4. Nothing comes (no leader, no answer): it stays PROVING, and nothing is consumed.
 * Progress without a fingerprint takes that of the record before the start, if one is there.
 *
 * The *epoch* names one reading of the partition: it changes whenever what was read before must not
 * count any more (start, restart, return). A record carries the epoch that it was read under; when it
 * comes back under another one it is *released*: counted, freed, and nothing else. So late completions
 * of an old assignment change nothing, whichever thread is how late. Worker threads read the epoch to
 * stop work that nobody wants; only the consumer thread writes it.
 *
 * Plain data, no clock: `now_us` is monotonic and an argument.
 * Thread: the consumer thread, but for partition_wants (any).
 */
#ifndef WORKER_PIPELINE_PARTITION_H
#define WORKER_PIPELINE_PARTITION_H

#include "worker/ledger/start_rule.h"
#include "worker/pipeline/commit_times.h"
#include "worker/pipeline/record.h"
#include "worker/pipeline/tracker.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum partition_state {
	PARTITION_GONE,      /* not ours. Ends when it is assigned (again) */
	PARTITION_RESOLVING, /* assigned; the start rule is being asked, nothing is read. Ends with the answer */
	PARTITION_PROVING,   /* fetched, for the record that tells whose log it is. Ends with what comes first */
	PARTITION_RUNNING,   /* read. Ends when a record is not due, or by revocation */
	PARTITION_HELD,      /* assigned, not read: until the head is due, or until lost offsets are accepted */
	PARTITION_DRAINING,  /* revoked: no intake, in flight settles. Ends when it has, or when its time is over */
	PARTITION_STATE_COUNT
};

enum partition_verb {
	PARTITION_ASSIGN,   /* the group gives it */
	PARTITION_RESOLVE,  /* the start rule gave a position, and a record to prove the log by */
	PARTITION_PROVE,    /* the log is the one that it should be, or there is nothing to prove */
	PARTITION_LOSE_OFFSETS, /* the start rule found records lost */
	PARTITION_HOLD,     /* the record at the head is not due */
	PARTITION_DUE,      /* now it is */
	PARTITION_REVOKE,   /* the group wants it back */
	PARTITION_DRAINED,  /* nothing is in flight and the commit was answered, or the time for that is over */
	PARTITION_LOSE,     /* it is someone else's already */
	PARTITION_RESTART,  /* the database's history changed, or another took the claim: by the start rule again */
	PARTITION_VERB_COUNT
};

struct partition {
	char *topic; /* owned */
	int32_t partition;
	bool deferred_topic;
	enum partition_state state;
	_Atomic uint64_t epoch;
	struct tracker tracker;
	struct history_epoch history; /* of the database when this epoch began */
	int64_t claim;       /* of the progress row, see store_progress.c */
	int64_t recorded;    /* position durable in PostgreSQL under this claim; -1 before */
	int64_t recording;   /* position sent there and not answered; -1: none */
	int64_t committed;   /* position last committed to Kafka, as far as known; -1: none */
	int64_t committing;  /* position sent to Kafka and not answered; -1: none */
	bool commit_unsure;  /* a commit failed, or a restart overtook its answer: Kafka may have it or not */
	struct commit_times times; /* of the records behind the positions above */
	int64_t committed_lsn; /* WAL position that the progress write of `recorded` saw */
	struct record *head; /* HELD until it is due; owned */
	int64_t head_due_ms; /* Unix */
	int64_t head_until_us; /* the same by the monotonic clock, at the latest: the other may go back */
	int64_t drain_until_us;
	struct fingerprint expected; /* PROVING: of the record that is waited for; without one: any before the start */
	struct fingerprint recorded_print; /* that PostgreSQL has beside `recorded` */
	struct fingerprint recording_print; /* sent beside `recording` */
	enum log_proof proof;      /* RESOLVING: what was found out about `expected` */
	int64_t progress_before;   /* RESOLVING: progress, as an answer that was unsure has it; else 0 */
	int64_t unresolved_since_us; /* RESOLVING, PROVING: since when; 0: not seen yet */
	int64_t resolve_at_us; /* RESOLVING: when to ask next */
	bool resolving;      /* asked and not answered */
	bool paused;         /* fetching is paused: by back-pressure, a full tracker, or a head that waits */
	bool offsets_lost;   /* HELD until the loss is accepted, which the start rule is asked again and again */
	struct offset_range lost; /* then: what */
	int64_t unreadable;  /* offset at which the log can't be read, until it is read again; -1: none */
	int64_t read_again_us; /* then: when to try */
};

void partition_init(struct partition *p, const char *topic, int32_t number, bool deferred_topic);
void partition_release(struct partition *p);

const char *partition_state_name(enum partition_state s);

/* The table: the state after `verb`, or -1 where the verb has no meaning and is a bug. */
int partition_after(enum partition_state s, enum partition_verb verb);

/* The verbs. Each ENSUREs that the table allows it. Those that end a reading give the partition a new epoch. */
void partition_assign(struct partition *p);
/* Returns: where to fetch from; the state is PROVING, or RUNNING when there is no record before the start. */
must_use int64_t partition_resolve(struct partition *p, const struct start_verdict *v, const struct start_facts *f,
                                   const struct history_epoch *history, int64_t claim);
/*
 * PROVING: what came first. A record (its fingerprint; the position is behind it), or the end of the log (NULL, and the
 * position reached). Returns: true when it is proven, and the state RUNNING: records below tracker.position are to be
 * dropped. Else p->proof says what is wrong, or that it is to be waited on.
 */
must_use bool partition_meets(struct partition *p, const struct fingerprint *met, int64_t position);
void partition_lose_offsets(struct partition *p, const struct offset_range *lost);
void partition_hold(struct partition *p, struct record *head, int64_t due_ms); /* Owns: takes head */
struct record *partition_due(struct partition *p);                             /* Owns: gives head back */
void partition_revoke(struct partition *p, int64_t drain_until_us);
void partition_drained(struct partition *p);
void partition_lose(struct partition *p);
void partition_restart(struct partition *p, int64_t ask_again_us);

/* A head that a verb above left behind (revoked, lost, restarted while HELD): to be released. */
struct record *partition_take_head(struct partition *p);

static inline bool partition_is(const struct partition *p, enum partition_state s)
{
	return p->state == s;
}

static inline uint64_t partition_epoch(const struct partition *p)
{
	return atomic_load_explicit(&p->epoch, memory_order_acquire);
}

/* Whether work on the record still counts. Thread: any; a `true` may be out of date at once, which
 * costs work, never correctness: the consumer thread asks again when the record comes back. */
static inline bool partition_wants(const struct record *r)
{
	return partition_epoch(r->partition) == r->epoch;
}

/* Assigned and with a tracker that counts. */
static inline bool partition_is_reading(const struct partition *p)
{
	return p->state == PARTITION_RUNNING || p->state == PARTITION_DRAINING ||
	       (p->state == PARTITION_HELD && !p->offsets_lost);
}

/* Fetched, if it is not paused. */
static inline bool partition_is_fetched(const struct partition *p)
{
	return p->state == PARTITION_RUNNING || p->state == PARTITION_PROVING ||
	       (p->state == PARTITION_HELD && !p->offsets_lost);
}

static inline bool partition_has_lost(const struct partition *p)
{
	return p->lost.to > p->lost.from;
}

/* PROVING: where it is fetched from. */
int64_t partition_proves_from(const struct partition *p);

/* `position` is to be committed, or is: remembers since when what lies behind it waits. */
void partition_note_time(struct partition *p, int64_t position);
/* Time of the first uncommitted record, negative when it is not known here. */
int64_t partition_uncommitted_us(const struct partition *p);

/* A position that is settled and not yet on its way to PostgreSQL, or whose fingerprint is not, or -1. */
int64_t partition_to_record(const struct partition *p);
/* They are sent; and the answer, under the same epoch. `kept`: PostgreSQL has them. */
void partition_recording(struct partition *p, int64_t position);
void partition_recorded(struct partition *p, bool kept);
/* A position that PostgreSQL has and Kafka does not, or -1. */
int64_t partition_to_commit(const struct partition *p);

#endif
