/*
 * Progress, claims and history: rare, small transactions of the keeper's connection, statement by statement.
 *
 * Races between replicas are settled by the epoch's lock: drawing an epoch takes it exclusively, a progress write
 * shares it, so a position that was settled in one history is never recorded in the next:
 *   1. A settles records in epoch E      2. the database fails over, loses them
 *   3. B finds proof, draws F            4. A's progress write waits for 3, sees F, is rolled back
 * or A's write was first, and 3 waits for it: then it is B's start rule that sees A's position. The lock is an advisory
 * one of the schema (its key is the oid of table history), since FOR SHARE on the row would write a multixact a progress
 * write. It is taken by a statement of its own, whose wait is over before the next one takes its snapshot: a statement
 * that waits and reads would read E. Whoever updates the epoch in another way (an operator, a worker of before the
 * lock, which goes by the row) takes it, too, by the trigger of migration 3; and whoever draws locks the row as well,
 * for those workers' writes.
 * Races between assignments of one partition are settled by claims: the row remembers the last
 * assignment, a write of an earlier one changes nothing. The last one may be a zombie's all the same:
 *   1. A asks Kafka for its commit, is slow     2. B is given the partition, settles, records, commits
 *   3. A claims the row at what Kafka said in 1
 * so neither a claim nor what is recorded under it sets the row back; else B's commit would be proof of loss. What was
 * settled in this history stays settled, wherever someone reads from. Exempt are an operator's resets and accepted
 * losses (settled_at), which are to set it back: a zombie that repeats one makes B's commit proof of loss, and the
 * partition is read again in a new epoch.
 */
#include "worker/ledger/store.h"

#include "worker/failpoint.h"
#include "worker/ledger/store_internal.h"

#include <stdio.h>
#include <sys/random.h>

#define CURRENT_TIMELINE "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
#define CURRENT_LSN "(pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8"
/* What is flushed survives a crash; what is only inserted may not, and would be false proof of loss. */
#define DURABLE_LSN "(pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::int8"

#define EPOCH_LOCK "(" EPOCH_LOCK_CLASS ", 'history'::regclass::oid::int4)"
static const char begin_shared[] = "BEGIN; SELECT pg_advisory_xact_lock_shared" EPOCH_LOCK;
static const char begin_alone[] = "BEGIN; SELECT pg_advisory_xact_lock" EPOCH_LOCK;

/* A transaction with the epoch's lock. */
static enum store_result begin(struct store *s, const char *sql)
{
	enum pg_result r = pg_script(s->pg, sql);
	return r == PG_OK ? STORE_OK : store_failed(s, r);
}

static enum store_result finish(struct store *s, enum store_result so_far)
{
	if (so_far == STORE_OK)
		return store_run(s, "COMMIT", NULL);
	store_rollback(s);
	return so_far;
}

struct history_row {
	struct history_epoch epoch;
	bool same_server;
	uint64_t current_lsn;
	uint64_t durable_lsn;
	struct seen_lsn before;
};

/* `lock`: "FOR UPDATE", or "". */
static enum store_result read_history(struct store *s, const char *lock, struct history_row *out)
{
	char sql[512];
	snprintf(sql, sizeof(sql),
	         "SELECT epoch, system_identifier = (SELECT system_identifier::text FROM pg_control_system())"
	         " AND timeline = " CURRENT_TIMELINE
	         " AND database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()),"
	         " " CURRENT_LSN ", " DURABLE_LSN " FROM history %s",
	         lock);
	struct pg_rows *rows = NULL;
	struct seen_lsn before = store_board_seen(s->settings.board);
	enum store_result r = store_run(s, sql, &rows);
	if (r != STORE_OK)
		return r;
	if (pg_rows_count(rows) != 1) {
		pg_rows_free(rows);
		return store_no_history(s);
	}
	*out = (struct history_row){store_epoch_of(pg_text(rows, 0, 0)), pg_integer(rows, 0, 1) != 0,
	                            (uint64_t)pg_integer(rows, 0, 2), (uint64_t)pg_integer(rows, 0, 3), before};
	pg_rows_free(rows);
	return STORE_OK;
}

/* Whether every batch that this process was told of, in this epoch, is there. */
static enum store_result check_witnesses(struct store *s, const struct history_epoch *epoch, bool *all)
{
	struct store_board *b = s->settings.board;
	int64_t wanted = 0;
	/* Two passes over a board that changes meanwhile would disagree: both arrays under one lock. */
	mutex_lock(&b->lock);
	for (int array = 0; array < 2; array++) {
		pg_array_begin(s->params, PG_INT8);
		for (size_t i = 0; i < b->count; i++) {
			const struct witness *w = &b->witnesses[i];
			if (!w->id || !history_epoch_equal(&w->epoch, epoch))
				continue;
			pg_array_integer(s->params, array ? w->batches : w->id);
			wanted += array;
		}
		pg_array_end(s->params);
	}
	mutex_unlock(&b->lock);
	struct pg_rows *rows = NULL;
	enum store_result r = store_run(s,
	                                "SELECT count(*) FROM unnest($1::int8[], $2::int8[]) u (id, batches)"
	                                " JOIN witnesses w ON w.id = u.id AND w.batches >= u.batches",
	                                &rows);
	if (r != STORE_OK)
		return r;
	*all = pg_integer(rows, 0, 0) == wanted;
	pg_rows_free(rows);
	return STORE_OK;
}

/* ---- assignment ---- */

static struct store_assignment *find_assignment(struct store_assignment *a, size_t count, const struct pg_rows *rows,
                                                size_t row)
{
	for (size_t i = 0; i < count; i++)
		if (pg_integer(rows, row, 1) == a[i].partition && slice_equal(pg_text(rows, row, 0), slice_of(a[i].topic)))
			return &a[i];
	return NULL;
}

static void take_progress(struct start_facts *f, const struct pg_rows *rows, size_t row,
                          const struct store_member *m)
{
	f->progress = pg_integer(rows, row, 2);
	char id[sizeof(m->cluster.text)] = "";
	struct slice stored = pg_null(rows, row, 3) ? (struct slice){0} : pg_text(rows, row, 3);
	snprintf(id, sizeof(id), "%.*s", (int)stored.len, stored.len ? stored.data : "");
	struct cluster_id cluster = cluster_id_of(id);
	f->other_cluster = cluster_id_differs(&cluster, &m->cluster);
	if (!pg_null(rows, row, 4))
		f->print = (struct fingerprint){true, pg_integer(rows, row, 4), (uint64_t)pg_integer(rows, row, 5),
		                                pg_null(rows, row, 6) ? -1 : pg_integer(rows, row, 6)};
	f->group_kept = pg_integer(rows, row, 7) != 0;
}

/* Reads progress into the facts and locks what is there, in key order. */
static enum store_result read_progress(struct store *s, const struct store_member *m, struct store_assignment *a,
                                       size_t count)
{
	pg_put_text(s->params, slice_of(m->group));
	pg_put_int8(s->params, m->id);
	struct pg_rows *rows = NULL;
	enum store_result r = store_run(s,
	                                "SELECT p.topic, p.partition, p.next_offset, p.cluster_id, p.print_offset,"
	                                " p.print_hash, p.print_time_ms, EXISTS (SELECT 1 FROM members m"
	                                " WHERE m.consumer_group = p.consumer_group AND m.member = $2::int8"
	                                " AND m.expires_at > now() AND m.group_since <= p.updated_at)"
	                                " FROM progress p WHERE p.consumer_group = $1::text"
	                                " ORDER BY p.topic, p.partition FOR UPDATE OF p",
	                                &rows);
	if (r != STORE_OK)
		return r;
	for (size_t i = 0; i < count; i++)
		a[i].facts.progress = -1;
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		struct store_assignment *found = find_assignment(a, count, rows, row);
		if (!found)
			continue;
		take_progress(&found->facts, rows, row, m);
		/* What was found out about another record says nothing of this one. */
		if (found->facts.proof != LOG_REPLACED && !fingerprint_matches(&found->proven_about, &found->facts.print))
			found->facts.proof = LOG_UNPROVEN;
	}
	pg_rows_free(rows);
	return STORE_OK;
}

/* What was found lost before. */
static enum store_result read_losses(struct store *s, const struct store_member *m, struct store_assignment *a,
                                     size_t count)
{
	pg_put_text(s->params, slice_of(m->group));
	struct pg_rows *rows = NULL;
	enum store_result r = store_run(s,
	                                "SELECT topic, partition, from_offset, to_offset, accepted_at IS NOT NULL"
	                                " FROM lost_offsets WHERE consumer_group = $1::text AND applied_at IS NULL",
	                                &rows);
	if (r != STORE_OK)
		return r;
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		struct store_assignment *found = find_assignment(a, count, rows, row);
		if (!found)
			continue;
		found->facts.loss = pg_integer(rows, row, 4) ? LOSS_ACCEPTED : LOSS_FOUND;
		found->facts.loss_range = (struct offset_range){pg_integer(rows, row, 2), pg_integer(rows, row, 3)};
	}
	pg_rows_free(rows);
	return STORE_OK;
}

static const char *proof_of_loss(struct store *s, const struct history_row *h, bool witnesses,
                                 const struct store_assignment *a, size_t count)
{
	if (!h->same_server)
		return "system identifier, timeline or database OID changed";
	if (!store_board_lsn(s->settings.board, &h->before, &h->epoch, h->current_lsn, 0))
		return "WAL position behind one seen before";
	if (!witnesses || store_board_suspects(s->settings.board, &h->epoch))
		return "acknowledged batch missing";
	for (size_t i = 0; i < count; i++) {
		if (start_rule_progress_lost(&a[i].facts, &a[i].mark, &h->epoch))
			return "progress behind a marked commit";
		if (a[i].facts.marked && history_epoch_equal(&a[i].mark.epoch, &h->epoch) &&
		    h->current_lsn < a[i].mark.lsn)
			return "WAL position behind a marked commit";
	}
	return NULL;
}

static enum store_result draw_epoch(struct store *s, const char *because, struct history_epoch *epoch)
{
	struct pg_rows *rows = NULL;
	pg_put_text(s->params, slice_of(because));
	enum store_result r = store_run(
	        s,
	        "UPDATE history SET epoch = gen_random_uuid(), drawn_at = now(), drawn_because = $1::text,"
	        " system_identifier = (SELECT system_identifier::text FROM pg_control_system()),"
	        " timeline = " CURRENT_TIMELINE ","
	        " database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())"
	        " RETURNING epoch",
	        &rows);
	if (r != STORE_OK)
		return r;
	*epoch = store_epoch_of(pg_text(rows, 0, 0));
	pg_rows_free(rows);
	/* Rows of connections long gone. */
	return store_run(s, "DELETE FROM witnesses WHERE written_at < now() - interval '30 days'", NULL);
}

/* What is settled stays so, in this history and this log: a start below progress reads again, and takes nothing back.
 * Resets and accepted losses do, and begin with a log that nothing is known of. */
static bool is_as_it_is(const struct store_assignment *a)
{
	return !a->verdict.reset && !a->verdict.accepted;
}

static int64_t settled_at(const struct store_assignment *a)
{
	return is_as_it_is(a) && a->facts.progress > a->verdict.start ? a->facts.progress : a->verdict.start;
}

static void put_name(struct store *s, const struct store_member *m, const struct store_assignment *a)
{
	pg_put_text(s->params, slice_of(m->group));
	pg_put_text(s->params, slice_of(a->topic));
	pg_put_int8(s->params, a->partition);
}

static void put_cluster(struct store *s, const struct store_member *m)
{
	pg_put_text(s->params, *m->cluster.text ? slice_of(m->cluster.text) : (struct slice){0});
}

/* The row becomes ours. It goes on naming the cluster that it was made in until the log is proven. */
static enum store_result claim(struct store *s, const struct store_member *m, struct store_assignment *a)
{
	ENSURE(getrandom(&a->claim, sizeof(a->claim), 0) == sizeof(a->claim));
	put_name(s, m, a);
	pg_put_int8(s->params, settled_at(a));
	pg_put_int8(s->params, a->claim);
	put_cluster(s, m);
	pg_put_int8(s->params, is_as_it_is(a));
	return store_run(s,
	                 "INSERT INTO progress (consumer_group, topic, partition, next_offset, claim, cluster_id)"
	                 " VALUES ($1::text, $2::text, $3::int8::int4, $4::int8, $5::int8, $6::text)"
	                 " ON CONFLICT (consumer_group, topic, partition) DO UPDATE"
	                 " SET next_offset = EXCLUDED.next_offset, claim = EXCLUDED.claim, updated_at = now(),"
	                 " cluster_id = CASE $7::int8 WHEN 1 THEN coalesce(progress.cluster_id, EXCLUDED.cluster_id)"
	                 " ELSE EXCLUDED.cluster_id END,"
	                 " print_offset = CASE $7::int8 WHEN 1 THEN progress.print_offset END,"
	                 " print_hash = CASE $7::int8 WHEN 1 THEN progress.print_hash END,"
	                 " print_time_ms = CASE $7::int8 WHEN 1 THEN progress.print_time_ms END",
	                 NULL);
}

/* Stays until it is accepted, however the log grows. What is lost beyond an accepted range is to be accepted anew. */
static enum store_result keep_loss(struct store *s, const struct store_member *m, const struct store_assignment *a)
{
	const struct offset_range *range = &a->verdict.range, *known = &a->facts.loss_range;
	if (a->facts.loss == LOSS_FOUND && known->from == range->from && known->to == range->to)
		return STORE_OK;
	put_name(s, m, a);
	pg_put_int8(s->params, range->from);
	pg_put_int8(s->params, range->to);
	pg_put_text(s->params, slice_of(a->verdict.reason));
	return store_run(s,
	                 "INSERT INTO lost_offsets (consumer_group, topic, partition, from_offset, to_offset, reason)"
	                 " VALUES ($1::text, $2::text, $3::int8::int4, $4::int8, $5::int8, $6::text)"
	                 " ON CONFLICT (consumer_group, topic, partition) WHERE applied_at IS NULL DO UPDATE"
	                 " SET from_offset = EXCLUDED.from_offset, to_offset = EXCLUDED.to_offset,"
	                 " reason = EXCLUDED.reason, accepted_at = NULL",
	                 NULL);
}

/* Accepted, or made void by a reset, which says where to read. */
static enum store_result end_loss(struct store *s, const struct store_member *m, const struct store_assignment *a)
{
	put_name(s, m, a);
	return store_run(s,
	                 "UPDATE lost_offsets SET applied_at = now() WHERE consumer_group = $1::text"
	                 " AND topic = $2::text AND partition = $3::int8::int4 AND applied_at IS NULL",
	                 NULL);
}

static enum store_result carry_out(struct store *s, const struct store_member *m, struct store_assignment *a)
{
	if (a->verdict.unsure)
		return STORE_OK;
	if (a->verdict.lost)
		return keep_loss(s, m, a);
	enum store_result r = a->facts.loss != LOSS_NONE ? end_loss(s, m, a) : STORE_OK;
	return r == STORE_OK ? claim(s, m, a) : r;
}

enum store_result store_assign(struct store *s, const struct store_member *m, struct store_assignment *a, size_t count,
                               struct history_epoch *epoch, const char **drawn_because)
{
	struct history_row h;
	bool witnesses = true;
	*drawn_because = NULL;
	/* Proof of loss that the session meets is on the board then, and the transaction acts on it. */
	bool unverified;
	enum store_result r = store_session_any(s, &unverified);
	if (r != STORE_OK)
		return r;
	r = begin(s, begin_alone);
	if (r == STORE_OK)
		r = read_history(s, "FOR UPDATE", &h);
	if (r == STORE_OK)
		r = read_progress(s, m, a, count);
	if (r == STORE_OK)
		r = read_losses(s, m, a, count);
	if (r == STORE_OK)
		r = check_witnesses(s, &h.epoch, &witnesses);
	if (r == STORE_OK) {
		*drawn_because = proof_of_loss(s, &h, witnesses, a, count);
		*epoch = h.epoch;
		if (*drawn_because)
			r = draw_epoch(s, *drawn_because, epoch);
	}
	for (size_t i = 0; r == STORE_OK && i < count; i++) {
		a[i].verdict = start_rule(&a[i].facts);
		r = carry_out(s, m, &a[i]);
	}
	FAIL_POINT_IF(r == STORE_OK, after_claim_written);
	r = finish(s, r);
	FAIL_POINT_IF(r == STORE_OK, after_claim_committed);
	store_session_end(s, unverified || *drawn_because);
	return r;
}

/* ---- progress ---- */

static void put_integers(struct store *s, const struct store_progress *e, size_t count,
                         int64_t (*value)(const struct store_progress *))
{
	pg_array_begin(s->params, PG_INT8);
	for (size_t i = 0; i < count; i++)
		pg_array_integer(s->params, value(&e[i]));
	pg_array_end(s->params);
}

static int64_t claim_of(const struct store_progress *e)
{
	return e->claim;
}

static int64_t position_of(const struct store_progress *e)
{
	return e->position;
}

static int64_t print_offset_of(const struct store_progress *e)
{
	return e->print.exists ? e->print.offset : -1;
}

static int64_t print_hash_of(const struct store_progress *e)
{
	return (int64_t)e->print.hash;
}

static int64_t print_time_of(const struct store_progress *e)
{
	return e->print.time_ms;
}

/* The fingerprint belongs to the last record below next_offset. */
#define NEWEST "u.print_offset >= 0 AND u.position >= p.next_offset"

static enum store_result write_positions(struct store *s, const struct store_member *m, struct store_progress *e,
                                         size_t count)
{
	pg_put_text(s->params, slice_of(m->group));
	pg_array_begin(s->params, PG_TEXT);
	for (size_t i = 0; i < count; i++)
		pg_array_text(s->params, slice_of(e[i].topic));
	pg_array_end(s->params);
	pg_array_begin(s->params, PG_INT4);
	for (size_t i = 0; i < count; i++)
		pg_array_integer(s->params, e[i].partition);
	pg_array_end(s->params);
	put_integers(s, e, count, claim_of);
	put_integers(s, e, count, position_of);
	put_integers(s, e, count, print_offset_of);
	put_integers(s, e, count, print_hash_of);
	put_integers(s, e, count, print_time_of);
	put_cluster(s, m);
	struct pg_rows *rows = NULL;
	enum store_result r = store_run(
	        s,
	        "UPDATE progress p SET next_offset = greatest(p.next_offset, u.position), updated_at = now(),"
	        " cluster_id = coalesce($9::text, p.cluster_id),"
	        " print_offset = CASE WHEN " NEWEST " THEN u.print_offset ELSE p.print_offset END,"
	        " print_hash = CASE WHEN " NEWEST " THEN u.print_hash ELSE p.print_hash END,"
	        " print_time_ms = CASE WHEN " NEWEST " THEN nullif(u.print_time_ms, -1) ELSE p.print_time_ms END"
	        " FROM unnest($2::text[], $3::int4[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[])"
	        " u (topic, partition, claim, position, print_offset, print_hash, print_time_ms)"
	        " WHERE p.consumer_group = $1::text AND p.topic = u.topic COLLATE \"C\" AND p.partition = u.partition"
	        " AND p.claim = u.claim RETURNING p.claim",
	        &rows);
	if (r != STORE_OK)
		return r;
	for (size_t i = 0; i < count; i++) {
		e[i].kept = false;
		for (size_t row = 0; row < pg_rows_count(rows); row++)
			e[i].kept |= pg_integer(rows, row, 0) == e[i].claim;
	}
	pg_rows_free(rows);
	return STORE_OK;
}

/* In the caller's transaction, or without one for a look. */
static enum store_result verify(struct store *s, const struct history_epoch *expected, uint64_t *durable)
{
	struct history_row h;
	enum store_result r = read_history(s, "", &h);
	if (r != STORE_OK)
		return r;
	if (!history_epoch_equal(&h.epoch, expected))
		return store_lost(s, "the database's epoch is another one");
	bool witnesses = true;
	r = check_witnesses(s, &h.epoch, &witnesses);
	if (r != STORE_OK)
		return r;
	if (!h.same_server || !witnesses ||
	    !store_board_lsn(s->settings.board, &h.before, &h.epoch, h.current_lsn, h.durable_lsn)) {
		store_board_suspect(s->settings.board, &h.epoch);
		return store_lost(s, "the server is another one, or lacks what was acknowledged");
	}
	*durable = h.durable_lsn;
	return STORE_OK;
}

enum store_result store_progress(struct store *s, const struct store_member *m, const struct history_epoch *expected,
                                 struct store_progress *entries, size_t count, uint64_t *lsn)
{
	enum store_result r = store_session(s);
	if (r != STORE_OK)
		return r;
	r = begin(s, begin_shared);
	if (r == STORE_OK)
		r = verify(s, expected, lsn);
	if (r == STORE_OK)
		r = write_positions(s, m, entries, count);
	FAIL_POINT_IF(r == STORE_OK, after_progress_written);
	return finish(s, r);
}

enum store_result store_check_history(struct store *s, const struct history_epoch *expected)
{
	uint64_t durable;
	enum store_result r = store_session(s);
	return r == STORE_OK ? verify(s, expected, &durable) : r;
}
