/*
 * The database, as the worker needs it: one batch's transaction, and the keeping of progress and
 * history. store_*.c are the only files of the worker's data path that know SQL; a simulation links other
 * ones in their place.
 *
 * A batch's transaction is optimistic:
 *     store_begin    reads epoch, WAL timeline, rules revision, own witness and the batch's orders
 *     (the caller decides, in memory)
 *     store_commit   writes orders, postings, balances and the witness, and commits: one round trip
 * Every written order names the revision that it was read at; when another transaction has changed
 * one in between, nothing is written and the answer is STORE_STALE: begin again, with locks this time.
 *
 * Loss of history. A database that was restored or failed over may lack what a worker saw committed
 * (and settled, and marked in Redis). The proofs, any of which draws a new epoch:
 *   - the stored system identifier, timeline or database OID are not the server's;
 *   - the server's WAL position is behind one that this process, or a commit's metadata, has seen;
 *   - progress is behind a marked commit of the same epoch;
 *   - a witness (a counter that each batch of a connection moves) is behind what was acknowledged.
 * A batch or a progress write that meets another epoch than its assignment's, or a proof, is rolled
 * back with STORE_HISTORY; then everything assigned restarts by the start rule [I1].
 *
 * Thread: a store is one thread's; the board has its own lock.
 */
#ifndef WORKER_LEDGER_STORE_H
#define WORKER_LEDGER_STORE_H

#include "common/ensure.h"
#include "worker/ledger/history_epoch.h"
#include "worker/ledger/posting.h"
#include "worker/ledger/start_rule.h"

#include <stdbool.h>
#include <stdint.h>

enum store_result {
	STORE_OK = 0,
	STORE_RETRY = -1,    /* connection, contention, resources: the same again, after a pause. After
	                        store_commit the outcome may be either; the facts decide the next time */
	STORE_STALE = -2,    /* an order changed since it was read: again, at once */
	STORE_REJECTED = -3, /* SQLSTATE class 22 or 23: some record's data */
	STORE_UNUSABLE = -4, /* schema, privileges, password: an operator's; the same again, after a pause */
	STORE_HISTORY = -5,  /* not the history that was expected */
};

/* What all connections of the process have seen of the database: witnesses, and the WAL. */
struct store_board;
struct store_board *store_board_new(size_t connections);
void store_board_free(struct store_board *b);

struct store_settings {
	const char *dsn;
	const char *dsn_file; /* as in pg.h */
	const char *schema;
	int connect_timeout_ms;
	int statement_timeout_ms;
	int idle_timeout_ms;
	int slots; /* rows that a partner's balance is spread over */
	struct store_board *board;
	/* As in pg.h: told while an answer is waited for that only a standby, or a frozen server, keeps back. The caller's
	 * call does not return meanwhile. NULL: not waited for. */
	void (*overdue)(void *owner, const char *why);
	void *overdue_owner;
};

struct store;
/* Does not connect yet; each call connects when it must. `index`: of the board, below `connections`. */
struct store *store_new(const struct store_settings *s, size_t index);
void store_free(struct store *s);
/* The reason of the last result that was not STORE_OK: one line, no secrets. */
const char *store_error(const struct store *s);

/* ---- one batch ---- */

struct store_source {
	struct slice topic;
	int32_t partition;
	int64_t offset;
};

/*
 * Begins and reads. `orders`: sorted by order_id, each once, as order_init left them; those that have a
 * row are filled in, with slices that live until store_commit or store_rollback. *rules_revision: what
 * this transaction sees. `lock`: rows are locked as they are read, so that STORE_STALE can't follow for them.
 * On any result but STORE_OK the transaction is over.
 */
must_use enum store_result store_begin(struct store *s, const struct history_epoch *expected, bool lock,
                                       struct order *orders, size_t count, int64_t *rules_revision);

struct store_write {
	const struct order *order;
	const struct store_source *first_source; /* of the first record of a new order */
	const struct posting *postings;
	const struct store_source *posting_sources[ORDER_POSTINGS_MAX];
	int posting_count;
};

/* Writes, commits durably. `writes`: the changed orders, sorted by order_id. With none it only ends the
 * transaction: what was read is committed already. */
must_use enum store_result store_commit(struct store *s, const struct store_write *writes, size_t count);
void store_rollback(struct store *s);

/* Which rules are in force: a revision comes again after a restore, in another history. */
struct rules_state {
	int64_t revision;
	struct history_epoch epoch;
};

static inline bool rules_state_equal(const struct rules_state *a, const struct rules_state *b)
{
	return a->revision == b->revision && history_epoch_equal(&a->epoch, &b->epoch);
}

/* Of whatever history. A set that is loaded afterwards may be newer already. Not inside a batch. */
must_use enum store_result store_rules_state(struct store *s, struct rules_state *out);

/* All rules, as a sealed set, of whatever history: an assignment needs them before it can draw an epoch. Not inside a
 * batch. */
must_use enum store_result store_load_rules(struct store *s, struct rules **out);

/* ---- the keeper's ---- */

struct store_assignment {
	const char *topic;
	int32_t partition;
	struct start_facts facts;          /* in: what Kafka says, and the proof; progress and what stands with it are read here */
	struct fingerprint proven_about;   /* what the proof is about: void when progress has another one by now */
	struct commit_mark mark;           /* of a marked commit */
	struct start_verdict verdict;      /* out */
	int64_t claim;                     /* out: who owns the progress row from now on, where one may start */
};

/* Who asks: the group, this process as a member of it (store_renew_member), and the cluster that both are in. */
struct store_member {
	const char *group;
	int64_t id;
	struct cluster_id cluster;
};

/*
 * The start rule for newly assigned partitions, in one transaction under the lock of the history row: draws
 * a new epoch where there is proof of loss (logged by the caller: *drawn_because, else NULL), reads
 * progress, decides, keeps what is found lost, and claims the other rows: a reset or an accepted loss sets progress, a
 * start below it does not.
 */
must_use enum store_result store_assign(struct store *s, const struct store_member *m,
                                        struct store_assignment *assignments, size_t count,
                                        struct history_epoch *epoch, const char **drawn_because);

/*
 * Membership of the group, by our own word: what tells an operator's reset, for which Kafka's tool needs a group without
 * members, from a commit of some other consumer that has joined it.
 *   1. A process enters its row before it joins, and renews it as long as it is a member, within `lives_ms`, which is
 *      shorter than the group's session: when the group forgets a dead process, the row has expired before.
 *   2. A row that is entered while others live takes over since when *they* were members without a pause (group_since);
 *      else it begins now. A clean leave of the group takes the row away, and so does the group's loss.
 *   3. Progress that was renewed after group_since was renewed within that time, and the group has never been empty
 *      since: an unmarked commit that turns up now is no reset.
 * `rejoined`: the group was lost since the last call.
 */
must_use enum store_result store_renew_member(struct store *s, const struct store_member *m, int lives_ms,
                                              bool rejoined);
must_use enum store_result store_leave_group(struct store *s, const struct store_member *m);

/* An operator's word: offsets of a partition that were found lost, or all of a topic (partition -1). */
struct accepted_loss {
	const char *topic;
	int32_t partition;
	struct offset_range range;
};

/*
 * Accepts them all, or none: `refused` says which one was not found, and what was found there. What was accepted before
 * is fine. Whoever has the partition reads again from its start within seconds.
 * Returns: STORE_OK, also when refused; else the reason is in store_error.
 */
must_use enum store_result store_accept_losses(struct store *s, const char *group, const struct accepted_loss *losses,
                                               size_t count, char *refused, size_t refused_size);

struct store_progress {
	const char *topic;
	int32_t partition;
	int64_t claim;
	int64_t position; /* all records below it are settled */
	struct fingerprint print; /* of the last of them, if known */
	bool kept;        /* out: false when another assignment owns the row by now */
};

/* Makes positions durable, where they are ahead; checks the epoch and all witnesses of this process. *lsn: for the commit's mark. */
must_use enum store_result store_progress(struct store *s, const struct store_member *m,
                                          const struct history_epoch *expected,
                                          struct store_progress *entries, size_t count, uint64_t *lsn);

/* Whether the database is still the history `expected`, for times when nothing is written. */
must_use enum store_result store_check_history(struct store *s, const struct history_epoch *expected);

/* The key of the digests that Redis keeps, of whatever history: it is asked for before the first assignment. */
must_use enum store_result store_digest_key(struct store *s, uint8_t key[16]);

/* Whether the schema fits this binary. Returns: STORE_OK; STORE_UNUSABLE with the reason in store_error. */
must_use enum store_result store_check_schema(struct store *s);

/* Waits up to `timeout_ms` for word that the rules changed. */
must_use enum store_result store_wait_rules(struct store *s, int timeout_ms, bool *changed);

#endif
