#include "worker/pipeline/pool.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/prng.h"
#include "common/thread.h"
#include "worker/failpoint.h"
#include "worker/observe/health.h"
#include "worker/pipeline/batch.h"
#include "worker/pipeline/consumer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	IDLE_MS = 1000,       /* an idle worker's turn, in which it shows that it lives */
	SUSPECT_MS = 250,     /* a refused record waits this long for others to commit beside it */
	RETRY_MIN_MS = 20,
	RETRY_MAX_MS = 5000,
	REFILLS_MAX = 4,      /* a batch may take that many times its size of repeats, settled when it is written */
};

/*
 * Orders of a later version are an outage of their own: over when none was met for so long. A deferred record comes back
 * sooner, from the longest class of waiting, too (64 times the default of `rate.defer_ms`).
 */
#define UNKNOWN_CODES_OVER_US (3600 * INT64_C(1000000))

/* A batch that waits longer for its COMMIT is said: deadlocks and the like are gone by then, what is not is an outage. In
 * time, not in tries: one try may take as long as the statement timeout. */
#define STUCK_AFTER_US (5 * INT64_C(1000000))

struct worker {
	struct pool *pool;
	size_t index;
	pthread_t thread;
	struct ledger *ledger;
	struct gate *gate;
	struct batch batch;
	struct gate_mark *written; /* batch_max */
	struct record_list suspects; /* refused by PostgreSQL while nobody else committed */
	struct prng random;
	struct heart *heart;
	int64_t begun_us; /* when the latest batch was taken */
	double confirm_s; /* that it has spent on marks */
	_Atomic int64_t waits_since_us; /* for a COMMIT; 0: it does not */
	/* Under the pool's lock. */
	bool stuck;       /* it has waited for long, and that was said */
	bool unexplained; /* and the reason was not known when that was said */
	char reason[256]; /* why the last try failed; "" before the first answer */
};

struct pool {
	struct pool_settings settings;
	struct worker *workers;
	_Atomic uint64_t begun;     /* writes of all workers, numbered as they begin */
	_Atomic uint64_t committed; /* the latest number of one that wrote something */
	_Atomic bool stopping;
	pthread_mutex_t lock;     /* of the wait between tries, of `stuck`, and of what follows it */
	int stuck;                /* workers that an outage holds */
	int64_t unknown_codes_until_us; /* when it is over that orders hold codes which are not known here; 0: it is */
	pthread_cond_t stopped;
};

/* ---- waiting for better times ---- */

/* Doubling, with jitter; ends early when the pool stops. */
static void back_off(struct worker *w, unsigned tries)
{
	int64_t wait_ms = RETRY_MIN_MS;
	for (unsigned i = 1; i < tries && wait_ms < RETRY_MAX_MS; i++)
		wait_ms *= 2;
	if (wait_ms > RETRY_MAX_MS)
		wait_ms = RETRY_MAX_MS;
	wait_ms = wait_ms / 2 + (int64_t)prng_below(&w->random, (uint64_t)wait_ms);
	int64_t deadline = clock_mono_us() + wait_ms * 1000;
	heart_beat(w->heart, clock_mono_us());
	mutex_lock(&w->pool->lock);
	while (!atomic_load(&w->pool->stopping))
		if (!cond_wait_until(&w->pool->stopped, &w->pool->lock, deadline))
			break;
	mutex_unlock(&w->pool->lock);
}

/* Says that it is stuck, if that is still so: the wait that began at `since_us` goes on; and says it again when the reason
 * is known, where it was not. */
static void set_stuck(struct worker *w, int64_t since_us)
{
	struct pool *p = w->pool;
	char reason[sizeof(w->reason)];
	mutex_lock(&p->lock);
	bool news = atomic_load(&w->waits_since_us) == since_us && (!w->stuck || (w->unexplained && *w->reason));
	if (news) {
		p->stuck += !w->stuck;
		w->stuck = true;
		w->unexplained = !*w->reason;
		metric_vote(METRIC_DEGRADED_LEDGER, VOTER_POOL, true);
		snprintf(reason, sizeof(reason), "%s", *w->reason ? w->reason : "no answer yet");
	}
	mutex_unlock(&p->lock);
	if (news)
		LOG(LOG_ERROR, "the ledger does not take a batch, trying on", LOG_I("worker", w->index),
		    LOG_F("seconds", (double)(clock_mono_us() - since_us) / 1e6), LOG_S("reason", reason));
}

/* A try failed: said at once where `sure` that no time mends it, else when it has lasted. */
static void note_failure(struct worker *w, const char *reason, bool sure)
{
	int64_t since_us = atomic_load(&w->waits_since_us);
	mutex_lock(&w->pool->lock);
	snprintf(w->reason, sizeof(w->reason), "%s", reason);
	mutex_unlock(&w->pool->lock);
	if (sure || clock_mono_us() - since_us >= STUCK_AFTER_US)
		set_stuck(w, since_us);
}

/* A transaction was committed, or the batch is gone. */
static void end_wait(struct worker *w, int64_t waits_since_us)
{
	struct pool *p = w->pool;
	mutex_lock(&p->lock);
	atomic_store(&w->waits_since_us, waits_since_us);
	w->reason[0] = '\0';
	bool news = w->stuck;
	if (news) {
		w->stuck = false;
		metric_vote(METRIC_DEGRADED_LEDGER, VOTER_POOL, --p->stuck > 0);
	}
	mutex_unlock(&p->lock);
	if (news)
		LOG(LOG_INFO, "the ledger takes batches again", LOG_I("worker", w->index));
}

/* An outage that no try returns from: the batch's COMMIT waits for a standby. The thread lives. */
static void on_overdue(void *owner, const char *why)
{
	struct worker *w = owner;
	heart_beat(w->heart, clock_mono_us());
	note_failure(w, why, true);
	LOG(LOG_DEBUG, "a batch waits for postgresql", LOG_I("worker", w->index), LOG_S("reason", why));
}

static void note_unknown_code(struct worker *w, const struct record *r, const char *column)
{
	struct pool *p = w->pool;
	metric_add(METRIC_UNKNOWN_CODES, 1);
	mutex_lock(&p->lock);
	bool first = p->unknown_codes_until_us == 0;
	p->unknown_codes_until_us = clock_mono_us() + UNKNOWN_CODES_OVER_US;
	metric_set(METRIC_DEGRADED_UNKNOWN_CODES, 1);
	mutex_unlock(&p->lock);
	if (first)
		LOG(LOG_ERROR, "an order's row holds a code that this version does not know: such records wait for a newer one",
		    LOG_S("column", column), LOG_B("topic", r->source.topic), LOG_I("partition", r->source.partition),
		    LOG_I("offset", r->source.offset));
}

static void end_unknown_codes(struct pool *p, int64_t now)
{
	mutex_lock(&p->lock);
	bool over = p->unknown_codes_until_us && now >= p->unknown_codes_until_us;
	if (over) {
		p->unknown_codes_until_us = 0;
		metric_set(METRIC_DEGRADED_UNKNOWN_CODES, 0);
	}
	mutex_unlock(&p->lock);
	if (over)
		LOG(LOG_INFO, "orders with codes that this version does not know are met no more");
}

void pool_tend(struct pool *p)
{
	int64_t now_us = clock_mono_us();
	for (size_t i = 0; i < p->settings.workers; i++) {
		int64_t since_us = atomic_load(&p->workers[i].waits_since_us);
		if (since_us && now_us - since_us >= STUCK_AFTER_US)
			set_stuck(&p->workers[i], since_us);
	}
}

static double seconds_since(int64_t *from_us)
{
	int64_t now = clock_mono_us();
	double seconds = (double)(now - *from_us) / 1e6;
	*from_us = now;
	return seconds;
}

/* ---- admit ---- */

static void limit_rates(struct worker *w, struct batch *b)
{
	const struct pool_settings *s = &w->pool->settings;
	const struct rate_limit standard = {s->rate_per_second, s->rate_burst};
	struct rules *rules = keeper_rules(s->keeper);
	for (unsigned tries = 1;; tries++) {
		size_t requests = batch_collect_requests(b, rules, &standard, clock_wall_us() / 1000, s->defer_ms);
		if (requests == 0)
			break;
		if (gate_admit(w->gate, b->requests, requests) == GATE_OK) {
			if (batch_apply_grants(b, clock_wall_us() / 1000, s->defer_ms))
				continue;
			break;
		}
		back_off(w, tries);
		batch_drop_unwanted(b);
		if (atomic_load(&w->pool->stopping))
			batch_release_records(b);
	}
	rules_unref(rules);
}

/* Asks Redis what it knows of records[from .. count), before the database. A crash here costs nothing. Returns: how
 * many of them were repeats. */
static size_t look_up(struct worker *w, struct batch *b, size_t from)
{
	size_t before = b->count;
	if (from == before)
		return 0;
	batch_digest(b, from, w->pool->settings.digest_key);
	memset(b->done, 0, from * sizeof(*b->done));
	gate_lookup(w->gate, &b->records[from]->history, b->marks + from, b->count - from, b->done + from);
	FAIL_POINT(after_lookup);
	batch_remove(b, b->done, OUTCOME_DUPLICATE, &b->returned);
	return before - b->count;
}

/*
 * What leaves a quarter of the batch empty is a storm of repeats, and a transaction costs almost as much for half as
 * many records: others get the room. Those that already wait in `later` are older and come first.
 * Returns: how many were taken.
 */
static size_t fill_up(struct worker *w, struct batch *b, size_t repeats)
{
	size_t taken = 0;
	for (int i = 0; i < REFILLS_MAX && repeats > 0 && repeats >= b->max / 4; i++) {
		struct record_list more = {0};
		size_t waiting = b->later.count, room = b->max - b->count, from = b->count;
		if (room > waiting)
			(void)dispatch_take(w->pool->settings.dispatch, w->index, room - waiting, 0, 0, &more);
		batch_load(b, &more);
		taken += b->count - from;
		repeats = look_up(w, b, from);
	}
	return taken;
}

/* Returns: how many records the batch has taken. */
static size_t admit(struct worker *w, struct batch *b)
{
	size_t taken = b->count;
	taken += fill_up(w, b, look_up(w, b, 0));
	batch_drop_unwanted(b);
	batch_drop_repeats(b);
	limit_rates(w, b);
	FAIL_POINT(after_admit);
	return taken;
}

/* ---- write ---- */

static void conclude(struct worker *w, struct batch *b, size_t from, size_t count)
{
	for (size_t i = from; i < from + count; i++) {
		struct record *r = b->records[i];
		const struct ledger_item *item = &b->items[i];
		if (item->unknown_code) {
			note_unknown_code(w, r, item->unknown_code);
			b->fates[i] = FATE_DEFERRED;
			continue;
		}
		if (!item->conflict_field) {
			r->outcome = item->outcome;
			b->fates[i] = FATE_WRITTEN;
			continue;
		}
		char message[128];
		snprintf(message, sizeof(message), "the order has another %s, fixed by an earlier event",
		         item->conflict_field);
		record_refuse(r, ERROR_ORDER_CONFLICT, item->conflict_field, message);
		b->fates[i] = FATE_LETTER;
	}
}

static void note_commit(struct pool *p, uint64_t number)
{
	uint64_t latest = atomic_load(&p->committed);
	while (latest < number && !atomic_compare_exchange_weak(&p->committed, &latest, number))
		;
}

/*
 * PostgreSQL refuses this record's data, alone in its transaction. Permanent only if others commit: then
 * it is the record, not the database [I10]. Otherwise it stays open and is asked again. `committed`: as it was
 * before this try. One that had begun by the first refusal proves nothing, though its answer comes later, nor does
 * one that was answered after this try began: the database may have begun to refuse everything in between, or
 * have ended it.
 */
static void suspect(struct worker *w, struct batch *b, size_t i, uint64_t committed)
{
	struct record *r = b->records[i];
	if (!r->rejected_at) {
		r->rejected_at = atomic_load(&w->pool->begun);
	} else if (committed > r->rejected_at) {
		record_refuse(r, ERROR_DATABASE_REJECTED, "", ledger_error(w->ledger));
		b->fates[i] = FATE_LETTER;
	}
}

/* Writes records[from .. from+count) in one transaction, or, where their data is refused, in halves: one bad
 * record is alone after log2(count) of them. Returns: STORE_OK, or what stopped it. */
static enum store_result write_range(struct worker *w, struct batch *b, size_t from, size_t count)
{
	bool wrote = false;
	uint64_t number = atomic_fetch_add(&w->pool->begun, 1) + 1, committed = atomic_load(&w->pool->committed);
	enum store_result r =
	        ledger_write(w->ledger, &b->records[from]->history, &b->items[from], count, &wrote);
	heart_beat(w->heart, clock_mono_us());
	if (r == STORE_OK) {
		metric_add(METRIC_PG_COMMITTED, 1);
		if (wrote)
			note_commit(w->pool, number);
		end_wait(w, clock_mono_us());
		conclude(w, b, from, count);
		return STORE_OK;
	}
	if (r != STORE_REJECTED)
		return r;
	metric_add(METRIC_PG_REJECTED, 1);
	if (count == 1) {
		suspect(w, b, from, committed);
		return STORE_OK;
	}
	r = write_range(w, b, from, count / 2);
	return r == STORE_OK ? write_range(w, b, from + count / 2, count - count / 2) : r;
}

static void fill_items(struct batch *b)
{
	for (size_t i = 0; i < b->count; i++) {
		const struct record *r = b->records[i];
		b->fates[i] = FATE_OPEN;
		b->items[i] = (struct ledger_item){
		        .event = &r->event, .source = {r->source.topic, r->source.partition, r->source.offset}};
	}
}

/* What is left when the data of some records was refused and nobody else committed meanwhile. */
static void keep_suspects(struct worker *w, struct batch *b)
{
	for (size_t i = 0; i < b->count; i++)
		record_list_append(&w->suspects, b->records[i]);
	b->count = 0;
}

/* Returns with the batch empty: written, refused, suspected, or let go. */
static void write_batch(struct worker *w, struct batch *b)
{
	if (!atomic_load(&w->waits_since_us)) /* else it is a suspect, which has waited for longer */
		atomic_store(&w->waits_since_us, clock_mono_us());
	for (unsigned tries = 1; b->count > 0; tries++) {
		fill_items(b);
		struct history_epoch history = b->records[0]->history;
		enum store_result r = write_range(w, b, 0, b->count);
		size_t marks = batch_sweep(b, clock_wall_us(), w->written);
		FAIL_POINT_IF(marks > 0, before_mark);
		/* Marked only now that it is committed; a crash before this line costs a look-up in PostgreSQL. */
		int64_t at = clock_mono_us();
		gate_mark(w->gate, &history, w->written, marks);
		w->confirm_s += seconds_since(&at);
		FAIL_POINT_IF(marks > 0, after_mark);
		if (r == STORE_OK) {
			if (b->count > 0 && atomic_load(&w->pool->committed) > b->records[0]->rejected_at)
				continue;
			if (b->count == 0)
				break;
			note_failure(w, ledger_error(w->ledger), true);
			keep_suspects(w, b);
			return;
		}
		if (r == STORE_HISTORY) {
			metric_add(METRIC_PG_HISTORY_CHANGED, 1);
			LOG(LOG_ERROR, "batch given up: another history", LOG_S("reason", ledger_error(w->ledger)));
			history_alarm_raise(w->pool->settings.alarm, &history);
			batch_release_records(b);
			break;
		}
		metric_add(METRIC_PG_RETRIED, 1);
		note_failure(w, ledger_error(w->ledger), r == STORE_UNUSABLE);
		back_off(w, tries);
		batch_drop_unwanted(b);
		if (atomic_load(&w->pool->stopping))
			batch_release_records(b);
	}
	end_wait(w, 0);
}

/* ---- the loop ---- */

static void work(struct worker *w, struct batch *b)
{
	int64_t at = w->begun_us = clock_mono_us();
	FAIL_POINT(after_take_batch);
	histogram_observe(HISTOGRAM_BATCH_RECORDS, (double)admit(w, b), 1);
	histogram_observe(HISTOGRAM_BATCH_ADMIT, seconds_since(&at), 1);
	w->confirm_s = 0;
	if (b->count > 0)
		write_batch(w, b);
	else
		end_wait(w, 0); /* a suspect that is wanted no more */
	batch_judge_repeats(b);
	histogram_observe(HISTOGRAM_BATCH_WRITE, seconds_since(&at) - w->confirm_s, 1);
	FAIL_POINT(before_settle);
	/* Settled only now, so a crash before it means reading again, which has no further effect. */
	records_return(&b->returned);                           /* the records are their consumers' */
	outbox_put(w->pool->settings.outbox, &b->outgoing);     /* the records are the outbox's */
	histogram_observe(HISTOGRAM_BATCH_CONFIRM, w->confirm_s + seconds_since(&at), 1);
}

/* From one multiple of the interval to the next: all workers take their batches then, and one flush of PostgreSQL's log
 * serves the commits of several. */
static int64_t next_batch_us(const struct worker *w)
{
	int64_t interval_us = w->pool->settings.batch_interval_us;
	return interval_us ? (w->begun_us / interval_us + 1) * interval_us : 0;
}

static bool take(struct worker *w, struct batch *b)
{
	const struct pool_settings *s = &w->pool->settings;
	struct record_list list = {0};
	int64_t now = clock_mono_us();
	int64_t patience_ms = w->suspects.count ? SUSPECT_MS : b->later.count ? 0 : IDLE_MS;
	size_t room = s->batch_max > w->suspects.count ? s->batch_max - w->suspects.count : 1;
	int64_t next_us = next_batch_us(w);
	bool open = dispatch_take(s->dispatch, w->index, room, next_us > now ? next_us : 0, now + patience_ms * 1000,
	                          &list);
	histogram_observe(HISTOGRAM_BATCH_WAIT, seconds_since(&now), list.count > 0);
	record_list_join(&w->suspects, &list);
	batch_load(b, &w->suspects);
	return open || b->count > 0;
}

static void *run(void *argument)
{
	struct worker *w = argument;
	struct batch *b = &w->batch;
	char name[16];
	snprintf(name, sizeof(name), "worker-%u", (unsigned)w->index % 1000);
	w->heart = heart_start(name, w->pool->settings.silence_us, clock_mono_us());
	while (take(w, b)) {
		int64_t now = clock_mono_us();
		heart_beat(w->heart, now);
		end_unknown_codes(w->pool, now);
		if (atomic_load(&w->pool->stopping)) {
			batch_release_records(b);
			records_return(&b->returned);
		} else if (b->count > 0) {
			work(w, b);
		} else {
			gate_tend(w->gate);
		}
	}
	heart_stop(w->heart);
	return NULL;
}

/* ---- lifecycle ---- */

struct pool *pool_start(const struct pool_settings *s)
{
	struct pool *p = calloc(1, sizeof(*p));
	ENSURE(p);
	p->settings = *s;
	mutex_init(&p->lock);
	cond_init(&p->stopped);
	p->workers = calloc(s->workers, sizeof(*p->workers));
	ENSURE(p->workers);
	for (size_t i = 0; i < s->workers; i++) {
		struct worker *w = &p->workers[i];
		w->pool = p;
		w->index = i;
		struct store_settings store = *s->store;
		store.overdue = on_overdue;
		store.overdue_owner = w;
		w->ledger = ledger_new(&store, i, s->batch_max);
		w->gate = gate_new(s->gate);
		batch_init(&w->batch, s->batch_max);
		w->written = calloc(s->batch_max, sizeof(*w->written));
		ENSURE(w->written);
		w->random = prng_of((uint64_t)clock_wall_us() + i);
		char name[16];
		snprintf(name, sizeof(name), "worker-%u", (unsigned)i % 1000);
		w->thread = thread_start(name, run, w);
	}
	return p;
}

void pool_stop(struct pool *p)
{
	mutex_lock(&p->lock);
	atomic_store(&p->stopping, true);
	mutex_unlock(&p->lock);
	cond_broadcast(&p->stopped);
	for (size_t i = 0; i < p->settings.workers; i++)
		thread_join(p->workers[i].thread);
}

void pool_free(struct pool *p)
{
	for (size_t i = 0; i < p->settings.workers; i++) {
		struct worker *w = &p->workers[i];
		ledger_free(w->ledger);
		gate_free(w->gate);
		batch_release(&w->batch);
		free(w->written);
	}
	free(p->workers);
	cond_destroy(&p->stopped);
	mutex_destroy(&p->lock);
	free(p);
}
