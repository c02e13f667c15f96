/*
 * worker/ledger/store.h on a database in memory. Every commit is one moment, and is written down so that it can be
 * taken back: a failover is a server with another timeline that lacks the last few.
 *
 * What a call may meet: no connection; an abort; a commit whose answer is lost; a COMMIT that happens after the caller
 * was told that it failed; another's change of the same row, or its lock. Held to what the worker's SQL promises: a
 * batch applies only on the revisions that it has read, progress only under the row's claim, and both only in
 * the history that the caller names.
 */
#include "tests/sim/sim.h"

#include "tests/lib/order_oracle.h"
#include "worker/ledger/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	POSTINGS_MAX = 20000,
	EPOCHS_MAX = 256,
	BATCH_MAX = 64,
	IDLE_US = 2000000, /* a transaction left idle is ended */
	STATEMENT_US = 3000000,
	CONNECT_US = 500000,
};

struct order_row {
	char id[24];
	char customer[16], partner[16], driver[16], currency[4], rule[16];
	bool has_driver;
	int64_t rev;
	struct facts facts; /* its slices are set when it is read */
	int64_t pinned_at_us;
	int32_t rule_version;
	uint8_t kinds;
	int64_t points, credit;
	int64_t points_seq, credit_seq;
};

struct posting_row {
	int order;
	enum ledger_kinds kind;
	int64_t seq;
	int64_t amount;
};

struct progress_row {
	int64_t next; /* -1: no row */
	int64_t claim;
	struct fingerprint print;
};

static struct database {
	/* Tables: what a failover takes back. */
	struct order_row orders[SIM_ORDERS_MAX];
	size_t order_count;
	struct posting_row postings[POSTINGS_MAX];
	size_t posting_count;
	struct progress_row progress[TOPIC_COUNT][SIM_PARTITIONS_MAX];
	struct history_epoch epoch;
	int timeline;
	int64_t rules_revision;
} db;

static struct server {
	int timeline;
	int connections; /* raised when all of them break */
	int64_t away_until_us, unusable_until_us, refusing_until_us;
	struct store *locker[SIM_ORDERS_MAX];
	int64_t progress_locked_until_us; /* by a late COMMIT */
	struct undo *undo;
	size_t undo_count, undo_capacity;
	uint64_t commits;
	int64_t claims;
	int epochs;
} server;

/* What was once durable in an epoch, whether or not it still is. */
static struct epoch_progress {
	struct history_epoch epoch;
	int64_t highest[TOPIC_COUNT][SIM_PARTITIONS_MAX];
} once_durable[EPOCHS_MAX];

struct undo {
	uint64_t commit;
	void *at;
	size_t size;
	void *bytes;
};

struct store_board {
	int dummy;
};

struct store {
	struct process *process;
	bool connected;
	bool unverified; /* this connection is for one call: it skipped the comparisons */
	int connection;
	bool open; /* a transaction */
	int64_t begun_us;
	bool locks;
	bool listening;
	int64_t rules_heard;
	struct order_row *read; /* the rows that the caller's orders borrow from */
	char error[96];
};

/* ---- commits ---- */

static void change(void *at, size_t size)
{
	if (server.undo_count == server.undo_capacity) {
		server.undo_capacity = server.undo_capacity ? server.undo_capacity * 2 : 1024;
		server.undo = realloc(server.undo, server.undo_capacity * sizeof(*server.undo));
		ENSURE(server.undo);
	}
	void *bytes = malloc(size);
	ENSURE(bytes);
	memcpy(bytes, at, size);
	server.undo[server.undo_count++] = (struct undo){server.commits, at, size, bytes};
}

#define CHANGE(member) change(&(member), sizeof(member))

static void draw_epoch(void)
{
	ENSURE(server.epochs < EPOCHS_MAX);
	CHANGE(db.epoch);
	for (size_t i = 0; i < sizeof(db.epoch.bytes); i++)
		db.epoch.bytes[i] = (uint8_t)sim_below(256);
	once_durable[server.epochs].epoch = db.epoch;
	memset(once_durable[server.epochs].highest, -1, sizeof(once_durable[0].highest));
	server.epochs++;
	CHANGE(db.timeline);
	db.timeline = server.timeline;
}

static struct epoch_progress *of_epoch(const struct history_epoch *epoch)
{
	for (int i = 0; i < server.epochs; i++)
		if (history_epoch_equal(&once_durable[i].epoch, epoch))
			return &once_durable[i];
	sim_fail("an epoch that the database never had");
}

void database_begin(void)
{
	for (int t = 0; t < TOPIC_COUNT; t++)
		for (int p = 0; p < SIM_PARTITIONS_MAX; p++)
			db.progress[t][p].next = -1;
	db.rules_revision = 1;
	server.timeline = 1;
	draw_epoch();
	server.undo_count = 0;
}

static void break_connections(void)
{
	server.connections++;
	memset(server.locker, 0, sizeof(server.locker));
	server.progress_locked_until_us = 0;
}

void database_failover(int commits_lost)
{
	uint64_t first = server.commits >= (uint64_t)commits_lost ? server.commits - (uint64_t)commits_lost + 1 : 1;
	sim_trace("failover: commits from %" PRIu64 " to %" PRIu64 " are lost", first, server.commits);
	sim_count(SIM_FAILOVERS, 1);
	while (server.undo_count && server.undo[server.undo_count - 1].commit >= first) {
		struct undo *u = &server.undo[--server.undo_count];
		memcpy(u->at, u->bytes, u->size);
		free(u->bytes);
		sim_count(SIM_LOST_COMMITS, !server.undo_count || u[-1].commit != u->commit);
	}
	server.timeline++;
	break_connections();
}

void database_away(int64_t until_us)
{
	server.away_until_us = until_us;
	break_connections();
}

void database_unusable(int64_t until_us)
{
	server.unusable_until_us = until_us;
}

void database_refuse(int64_t until_us)
{
	server.refusing_until_us = until_us;
}

void database_heal(void)
{
	server.refusing_until_us = server.away_until_us = server.unusable_until_us = 0;
}

void database_new_rules(void)
{
	server.commits++;
	CHANGE(db.rules_revision);
	db.rules_revision++;
}

void database_died(struct process *p)
{
	for (int i = 0; i < SIM_ORDERS_MAX; i++)
		if (server.locker[i] && server.locker[i]->process == p)
			server.locker[i] = NULL;
}

/* ---- what the checks ask ---- */

static struct order_row *find_order(struct slice id)
{
	for (size_t i = 0; i < db.order_count; i++)
		if (slice_equal(slice_of(db.orders[i].id), id))
			return &db.orders[i];
	return NULL;
}

static struct slice slice_or_none(const char *text)
{
	return *text ? slice_of(text) : (struct slice){0};
}

static struct facts facts_of(const struct order_row *row)
{
	struct facts f = row->facts;
	f.customer_id = slice_or_none(row->customer);
	f.partner_id = slice_or_none(row->partner);
	f.driver_id = row->has_driver ? slice_of(row->driver) : (struct slice){0};
	return f;
}

bool database_order(const char *order_id, struct facts *facts, int64_t *points, int64_t *credit_minor)
{
	const struct order_row *row = find_order(slice_of(order_id));
	if (!row)
		return false;
	*facts = facts_of(row);
	*points = row->points;
	*credit_minor = row->credit;
	return true;
}

int64_t database_progress(enum sim_topic topic, int32_t partition)
{
	return db.progress[topic][partition].next;
}

int64_t database_progress_in(enum sim_topic topic, int32_t partition, const struct history_epoch *epoch)
{
	return of_epoch(epoch)->highest[topic][partition];
}

bool database_is_history(const struct history_epoch *epoch)
{
	return db.timeline == server.timeline && history_epoch_equal(epoch, &db.epoch);
}

bool database_has_lost(void)
{
	return server.timeline > 1;
}

/* What is posted is the sum of the postings, each numbered once. */
void database_audit(void)
{
	for (size_t i = 0; i < db.order_count; i++) {
		int64_t sums[2] = {0};
		int64_t seqs[2] = {0};
		for (size_t k = 0; k < db.posting_count; k++) {
			const struct posting_row *g = &db.postings[k];
			if (g->order != (int)i)
				continue;
			int kind = g->kind == KIND_ORDER_CREDIT;
			if (g->seq != ++seqs[kind])
				sim_fail("order %s: posting %" PRId64 " of kind %d is number %" PRId64, db.orders[i].id, seqs[kind],
					 kind, g->seq);
			sums[kind] += g->amount;
		}
		if (sums[0] != db.orders[i].points || sums[1] != db.orders[i].credit)
			sim_fail("order %s: postings sum to %" PRId64 " and %" PRId64 ", not %" PRId64 " and %" PRId64,
				 db.orders[i].id, sums[0], sums[1], db.orders[i].points, db.orders[i].credit);
	}
}

/* ---- the session ---- */

struct store_board *store_board_new(size_t connections)
{
	(void)connections;
	struct store_board *b = calloc(1, sizeof(*b));
	ENSURE(b);
	return b;
}

void store_board_free(struct store_board *b)
{
	free(b);
}

struct store *store_new(const struct store_settings *settings, size_t index)
{
	(void)settings, (void)index;
	struct store *s = calloc(1, sizeof(*s));
	ENSURE(s);
	s->process = sim_process();
	s->read = calloc(BATCH_MAX, sizeof(*s->read));
	ENSURE(s->read);
	return s;
}

static void unlock(struct store *s)
{
	for (int i = 0; i < SIM_ORDERS_MAX; i++)
		if (server.locker[i] == s)
			server.locker[i] = NULL;
	s->locks = false;
}

void store_free(struct store *s)
{
	unlock(s);
	free(s->read);
	free(s);
}

const char *store_error(const struct store *s)
{
	return s->error;
}

static enum store_result fail(struct store *s, enum store_result r, const char *reason)
{
	if (s->open)
		unlock(s);
	s->open = false;
	snprintf(s->error, sizeof(s->error), "simulated: %s", reason);
	sim_trace("database: %s", reason);
	if (r == STORE_HISTORY)
		sim_count(SIM_HISTORY, 1);
	return r;
}

static void round_trip(void)
{
	sim_sleep(sim_latency(sim_config.latency_us));
}

static bool connection_lives(const struct store *s)
{
	return s->connected && s->connection == server.connections && sim_now() >= server.away_until_us;
}

static bool other_server(void)
{
	return db.timeline != server.timeline;
}

/* Connects when it must. `unverified`: without the comparison, for the assignment that draws a new epoch. */
static enum store_result session(struct store *s, bool unverified)
{
	round_trip();
	if (s->connected && !connection_lives(s)) {
		s->connected = s->listening = false;
		if (sim_permille(700))
			return fail(s, STORE_RETRY, "the connection is gone");
	}
	if (sim_now() < server.away_until_us) {
		sim_sleep((int64_t)sim_below(CONNECT_US));
		return fail(s, STORE_RETRY, "away");
	}
	if (sim_now() < server.unusable_until_us)
		return fail(s, STORE_UNUSABLE, "permission denied");
	if (world_fault(sim_config.store_retry)) {
		s->connected = s->listening = false;
		return fail(s, STORE_RETRY, "resources");
	}
	if (!s->connected) {
		s->connected = true;
		s->connection = server.connections;
		s->unverified = other_server();
		if (s->unverified && !unverified) {
			s->connected = false;
			return fail(s, STORE_HISTORY, "another timeline");
		}
	}
	return STORE_OK;
}

static void session_end(struct store *s)
{
	if (s->unverified)
		s->connected = s->listening = s->unverified = false;
}

/* ---- one batch: the reading half ---- */

static void fill(struct order *o, struct order_row *copy)
{
	o->exists = true;
	o->facts = facts_of(copy);
	o->rev = copy->rev;
	o->pin = (struct pricing_pin){copy->pinned_at_us, slice_or_none(copy->rule), copy->rule_version, copy->kinds};
	o->points = copy->points;
	o->order_credit_minor = copy->credit;
	o->points_seq = copy->points_seq;
	o->order_credit_seq = copy->credit_seq;
}

/* A lock's owner that stands still in its transaction does not keep it. */
static bool locked_by_other(const struct store *s, const struct order_row *row)
{
	const struct store *locker = server.locker[row - db.orders];
	return locker && locker != s && sim_now() - locker->begun_us < IDLE_US;
}

static bool wait_for_row(struct store *s, const struct order_row *row)
{
	int64_t deadline_us = sim_now() + STATEMENT_US;
	int connection = server.connections;
	sim_count(SIM_LOCKED, locked_by_other(s, row));
	while (locked_by_other(s, row)) {
		if (sim_now() >= deadline_us)
			return false;
		sim_sleep(sim_latency(sim_config.latency_us));
		if (connection != server.connections)
			return false;
	}
	return true;
}

enum store_result store_begin(struct store *s, const struct history_epoch *expected, bool lock, struct order *orders,
			      size_t count, int64_t *rules_revision)
{
	if (s->open)
		sim_fail("a transaction is begun inside another one");
	ENSURE(count <= BATCH_MAX);
	enum store_result r = session(s, false);
	if (r != STORE_OK)
		return r;
	s->open = true;
	s->begun_us = sim_now();
	if (!history_epoch_equal(expected, &db.epoch) || other_server())
		return fail(s, STORE_HISTORY, "another history");
	*rules_revision = db.rules_revision;
	for (size_t i = 0; i < count; i++) {
		struct order_row *row = find_order(orders[i].order_id);
		if (row && lock) {
			if (!wait_for_row(s, row))
				return fail(s, STORE_RETRY, "no lock in time");
			server.locker[row - db.orders] = s;
			s->locks = true;
		}
		if (!row)
			continue;
		s->read[i] = *row;
		fill(&orders[i], &s->read[i]);
	}
	sim_point();
	return STORE_OK;
}

void store_rollback(struct store *s)
{
	sim_point();
	unlock(s);
	s->open = false;
}

/* ---- the writing half ---- */

struct batch_commit {
	int connection;
	size_t count;
	struct {
		struct order_row row;
		int posting_count;
		struct posting_row postings[ORDER_POSTINGS_MAX];
	} writes[BATCH_MAX];
};

static void put_text(char *to, size_t size, struct slice from)
{
	ENSURE(from.len < size);
	if (from.len)
		memcpy(to, from.data, from.len);
	to[from.len] = '\0';
}

static struct order_row row_of(const struct order *o)
{
	struct order_row row = {.rev = o->rev + 1,
				.has_driver = slice_present(o->facts.driver_id),
				.facts = o->facts,
				.pinned_at_us = o->pin.outcome_at_us,
				.rule_version = o->pin.rule_version,
				.kinds = o->pin.kinds,
				.points = o->points,
				.credit = o->order_credit_minor,
				.points_seq = o->points_seq,
				.credit_seq = o->order_credit_seq};
	put_text(row.id, sizeof(row.id), o->order_id);
	put_text(row.customer, sizeof(row.customer), o->facts.customer_id);
	put_text(row.partner, sizeof(row.partner), o->facts.partner_id);
	put_text(row.driver, sizeof(row.driver), o->facts.driver_id);
	put_text(row.rule, sizeof(row.rule), o->pin.rule_id);
	return row;
}

static bool is_stale(const struct batch_commit *b)
{
	for (size_t i = 0; i < b->count; i++) {
		const struct order_row *row = find_order(slice_of(b->writes[i].row.id));
		if ((row ? row->rev : 0) != b->writes[i].row.rev - 1)
			return true;
	}
	return false;
}

static void apply(const struct batch_commit *b)
{
	server.commits++;
	for (size_t i = 0; i < b->count; i++) {
		const struct order_row *new = &b->writes[i].row;
		struct order_row *row = find_order(slice_of(new->id));
		if (!row) {
			ENSURE(db.order_count < SIM_ORDERS_MAX);
			CHANGE(db.order_count);
			row = &db.orders[db.order_count++];
		}
		int64_t points = row->rev ? row->points : 0, credit = row->rev ? row->credit : 0;
		CHANGE(*row);
		*row = *new;
		CHANGE(db.posting_count);
		for (int k = 0; k < b->writes[i].posting_count; k++) {
			ENSURE(db.posting_count < POSTINGS_MAX);
			struct posting_row g = b->writes[i].postings[k];
			g.order = (int)(row - db.orders);
			db.postings[db.posting_count++] = g;
			*(g.kind == KIND_POINTS ? &points : &credit) += g.amount;
		}
		if (points != row->points || credit != row->credit)
			sim_fail("order %s: the postings do not lead to what is posted", row->id);
	}
	sim_count(SIM_BATCHES, 1);
	sim_trace("batch of %zu orders committed as %" PRIu64, b->count, server.commits);
}

static void late_commit(void *argument)
{
	struct batch_commit *b = argument;
	if (b->connection == server.connections && !is_stale(b)) {
		sim_count(SIM_LATE, 1);
		apply(b);
	}
	free(b);
}

static struct batch_commit *collect(const struct store_write *writes, size_t count, bool *rejected)
{
	struct batch_commit *b = calloc(1, sizeof(*b));
	ENSURE(b && count <= BATCH_MAX);
	b->connection = server.connections;
	b->count = count;
	for (size_t i = 0; i < count; i++) {
		b->writes[i].row = row_of(writes[i].order);
		b->writes[i].posting_count = writes[i].posting_count;
		for (int k = 0; k < writes[i].posting_count; k++) {
			const struct posting *g = &writes[i].postings[k];
			b->writes[i].postings[k] = (struct posting_row){0, g->kind, g->seq, g->amount};
		}
		*rejected |= traffic_is_poison(writes[i].order->order_id);
	}
	return b;
}

static enum store_result commit(struct store *s, struct batch_commit *b, bool *kept)
{
	for (size_t i = 0; i < b->count; i++) {
		const struct order_row *row = find_order(slice_of(b->writes[i].row.id));
		if (row && !wait_for_row(s, row))
			return fail(s, STORE_RETRY, "no lock in time");
	}
	if (!connection_lives(s) || sim_now() - s->begun_us > IDLE_US + STATEMENT_US ||
	    b->connection != server.connections || world_fault(sim_config.commit_abort)) {
		sim_count(SIM_ABORTED, 1);
		return fail(s, STORE_RETRY, "aborted");
	}
	if (world_fault(sim_config.commit_late)) {
		/* Before the next try, or behind it. */
		uint64_t within_us = sim_permille(500) ? SECOND_US : 4 * (uint64_t)sim_config.latency_us;
		sim_at(sim_now() + (int64_t)sim_below(within_us), late_commit, b);
		*kept = true;
		s->connected = false;
		return fail(s, STORE_RETRY, "no answer to a COMMIT that may come");
	}
	if (is_stale(b) || world_fault(sim_config.stale)) {
		sim_count(SIM_STALE, 1);
		return fail(s, STORE_STALE, "an order has changed");
	}
	apply(b);
	if (world_fault(sim_config.commit_lost)) {
		sim_count(SIM_UNANSWERED, 1);
		s->connected = false;
		return fail(s, STORE_RETRY, "no answer to a COMMIT that was done");
	}
	unlock(s);
	s->open = false;
	round_trip();
	if (s->connection != server.connections)
		return fail(s, STORE_RETRY, "no answer to COMMIT");
	return STORE_OK;
}

enum store_result store_commit(struct store *s, const struct store_write *writes, size_t count)
{
	if (!s->open)
		sim_fail("a commit outside of a transaction");
	if (!count) {
		store_rollback(s);
		return STORE_OK;
	}
	bool rejected = false, kept = false;
	struct batch_commit *b = collect(writes, count, &rejected);
	round_trip();
	enum store_result r;
	if ((rejected || sim_now() < server.refusing_until_us) && connection_lives(s)) {
		sim_count(SIM_REJECTED, 1);
		r = fail(s, STORE_REJECTED, "check constraint");
	} else {
		r = commit(s, b, &kept);
	}
	if (!kept)
		free(b);
	return r;
}

/* ---- rules ---- */

enum store_result store_rules_state(struct store *s, struct rules_state *out)
{
	enum store_result r = session(s, true);
	if (r != STORE_OK)
		return r;
	*out = (struct rules_state){db.rules_revision, db.epoch};
	session_end(s);
	return STORE_OK;
}

enum store_result store_load_rules(struct store *s, struct rules **out)
{
	enum store_result r = session(s, true);
	if (r != STORE_OK)
		return r;
	const struct terms *t = traffic_terms();
	struct rules *set = rules_new(db.rules_revision);
	/* Each revision has a new version of all rules, in the same terms: what is owed does not depend on it. */
	for (int i = 0; i < t->rule_count; i++) {
		for (int32_t version = 1; version <= db.rules_revision; version++) {
			struct rule rule = t->rules[i];
			rule.version = version;
			rules_add(set, &rule);
		}
	}
	for (int i = 0; i < ORACLE_PARTNERS; i++)
		rules_add_partner(set, &t->partners[i]);
	rules_seal(set);
	*out = set;
	session_end(s);
	return STORE_OK;
}

enum store_result store_wait_rules(struct store *s, int timeout_ms, bool *changed)
{
	(void)timeout_ms;
	enum store_result r = session(s, false);
	if (r != STORE_OK)
		return r;
	*changed = !s->listening || s->rules_heard != db.rules_revision;
	s->listening = true;
	s->rules_heard = db.rules_revision;
	return STORE_OK;
}

/* ---- the keeper's ---- */

static bool wait_for_progress(void)
{
	int connection = server.connections;
	while (sim_now() < server.progress_locked_until_us) {
		sim_sleep(server.progress_locked_until_us - sim_now());
		if (connection != server.connections)
			return false;
	}
	return connection == server.connections && sim_now() >= server.away_until_us;
}

static void write_progress(enum sim_topic topic, int32_t partition, struct progress_row row)
{
	struct epoch_progress *durable = of_epoch(&db.epoch);
	traffic_check_position("progress", topic, partition, db.progress[topic][partition].next, row.next);
	CHANGE(db.progress[topic][partition]);
	db.progress[topic][partition] = row;
	if (durable->highest[topic][partition] < row.next)
		durable->highest[topic][partition] = row.next;
	sim_trace("progress %s/%d at %" PRId64, sim_topics[topic], partition, row.next);
}

static const char *proof_of_loss(const struct store_assignment *a, size_t count)
{
	if (other_server())
		return "timeline changed";
	for (size_t i = 0; i < count; i++)
		if (start_rule_progress_lost(&a[i].facts, &a[i].mark, &db.epoch))
			return "progress behind a marked commit";
	return NULL;
}

static void take_progress(struct store_assignment *a)
{
	const struct progress_row *row = &db.progress[sim_topic_of(a->topic)][a->partition];
	a->facts.progress = row->next;
	a->facts.print = row->print;
	if (!fingerprint_matches(&a->proven_about, &row->print))
		a->facts.proof = LOG_UNPROVEN;
}

/* As the worker's SQL has it: what is settled stays so, but for resets and accepted losses. */
static int64_t settled_at(const struct store_assignment *a)
{
	return !a->verdict.reset && !a->verdict.accepted && a->facts.progress > a->verdict.start ? a->facts.progress : a->verdict.start;
}

enum store_result store_assign(struct store *s, const struct store_member *m, struct store_assignment *a, size_t count,
			       struct history_epoch *epoch, const char **drawn_because)
{
	(void)m;
	*drawn_because = NULL;
	enum store_result r = session(s, true);
	if (r != STORE_OK)
		return r;
	if (!wait_for_progress())
		return fail(s, STORE_RETRY, "the connection is gone");
	if (world_fault(sim_config.commit_abort))
		return fail(s, STORE_RETRY, "aborted");
	server.commits++;
	for (size_t i = 0; i < count; i++)
		take_progress(&a[i]);
	*drawn_because = proof_of_loss(a, count);
	if (*drawn_because) {
		sim_trace("a new epoch: %s", *drawn_because);
		sim_count(SIM_EPOCHS, 1);
		if (!other_server())
			sim_fail("proof of a loss that never was: %s", *drawn_because);
		draw_epoch();
	}
	*epoch = db.epoch;
	for (size_t i = 0; i < count; i++) {
		a[i].verdict = start_rule(&a[i].facts);
		if (a[i].verdict.unsure)
			continue;
		if (a[i].verdict.lost)
			sim_fail("%s/%d is taken for lost: %s", a[i].topic, a[i].partition, a[i].verdict.reason);
		a[i].claim = ++server.claims;
		write_progress(sim_topic_of(a[i].topic), a[i].partition,
			       (struct progress_row){settled_at(&a[i]), a[i].claim, a[i].facts.print});
	}
	if (world_fault(sim_config.commit_lost))
		return fail(s, STORE_RETRY, "no answer to a COMMIT that was done");
	round_trip();
	bool answered = connection_lives(s);
	session_end(s);
	return answered ? STORE_OK : fail(s, STORE_RETRY, "no answer to COMMIT");
}

struct progress_commit {
	int connection;
	size_t count;
	struct {
		enum sim_topic topic;
		int32_t partition;
		struct progress_row row;
	} rows[SIM_PARTITIONS_MAX * TOPIC_COUNT];
};

static void apply_progress(const struct progress_commit *p)
{
	server.commits++;
	sim_count(SIM_PROGRESS, 1);
	for (size_t i = 0; i < p->count; i++) {
		const struct progress_row *now = &db.progress[p->rows[i].topic][p->rows[i].partition];
		struct progress_row row = p->rows[i].row;
		if (now->claim != row.claim)
			continue;
		if (!row.print.exists || row.next < now->next)
			row.print = now->print;
		row.next = now->next > row.next ? now->next : row.next;
		write_progress(p->rows[i].topic, p->rows[i].partition, row);
	}
}

static void late_progress(void *argument)
{
	struct progress_commit *p = argument;
	if (p->connection == server.connections)
		apply_progress(p);
	free(p);
}

enum store_result store_progress(struct store *s, const struct store_member *m, const struct history_epoch *expected,
				 struct store_progress *entries, size_t count, uint64_t *lsn)
{
	(void)m;
	enum store_result r = session(s, false);
	if (r != STORE_OK)
		return r;
	if (!wait_for_progress())
		return fail(s, STORE_RETRY, "the connection is gone");
	if (!history_epoch_equal(expected, &db.epoch) || other_server())
		return fail(s, STORE_HISTORY, "another history");
	if (world_fault(sim_config.commit_abort))
		return fail(s, STORE_RETRY, "aborted");
	struct progress_commit *p = calloc(1, sizeof(*p));
	ENSURE(p);
	p->connection = server.connections;
	for (size_t i = 0; i < count; i++) {
		enum sim_topic topic = sim_topic_of(entries[i].topic);
		entries[i].kept = db.progress[topic][entries[i].partition].claim == entries[i].claim;
		sim_count(SIM_CLAIMED, !entries[i].kept);
		p->rows[p->count].topic = topic;
		p->rows[p->count].partition = entries[i].partition;
		p->rows[p->count++].row = (struct progress_row){entries[i].position, entries[i].claim,
								   entries[i].print};
	}
	*lsn = server.commits;
	if (world_fault(sim_config.commit_late)) {
		/* Its rows stay locked until it is done. */
		server.progress_locked_until_us = sim_now() + 1 + (int64_t)sim_below(SECOND_US);
		sim_at(server.progress_locked_until_us - 1, late_progress, p);
		s->connected = false;
		return fail(s, STORE_RETRY, "no answer to a COMMIT that may come");
	}
	apply_progress(p);
	free(p);
	if (world_fault(sim_config.commit_lost)) {
		s->connected = false;
		return fail(s, STORE_RETRY, "no answer to a COMMIT that was done");
	}
	round_trip();
	return connection_lives(s) ? STORE_OK : fail(s, STORE_RETRY, "no answer to COMMIT");
}

enum store_result store_check_history(struct store *s, const struct history_epoch *expected)
{
	enum store_result r = session(s, false);
	if (r != STORE_OK)
		return r;
	if (!history_epoch_equal(expected, &db.epoch) || other_server())
		return fail(s, STORE_HISTORY, "another history");
	return STORE_OK;
}

/* There are no strangers in the simulated group. */
enum store_result store_renew_member(struct store *s, const struct store_member *m, int lives_ms, bool rejoined)
{
	(void)m, (void)lives_ms, (void)rejoined;
	return session(s, false);
}

enum store_result store_leave_group(struct store *s, const struct store_member *m)
{
	(void)m;
	return session(s, false);
}
