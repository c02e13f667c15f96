#include "worker/pipeline/consumer_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/failpoint.h"
#include "worker/observe/lag.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	POLL_MS = 50,          /* idle: how late a record that came back may be settled */
	POLL_LEAVING_MS = 5,   /* draining: answers are waited for */
	SERVE_US = 5000,       /* between looks at due times, drains and answers wanted */
	PUBLISH_US = 200000,
	/* A spent budget is first waited for, which costs nothing; only when workers need longer is the
	 * partition paused, since the library then throws away what it has fetched. */
	PAUSE_AFTER_US = 100000,
	PRESSURE_WAIT_US = 20000,
	CLOSE_MS = 5000,
	READ_AGAIN_US = 1000000, /* what could not be read */
};

/* ---- the inbox ---- */

void consumer_return(struct consumer *c, struct record_list *list)
{
	if (!list->count)
		return;
	mutex_lock(&c->inbox.lock);
	record_list_join(&c->inbox.records, list);
	atomic_store_explicit(&c->inbox.has_mail, true, memory_order_release);
	mutex_unlock(&c->inbox.lock);
	cond_signal(&c->inbox.filled);
}

void records_return(struct record_list *list)
{
	struct record *r = record_list_take(list);
	while (r) {
		struct consumer *owner = r->owner;
		struct record_list own = {0};
		for (; r && r->owner == owner; r = record_list_take(list))
			record_list_append(&own, r);
		consumer_return(owner, &own);
	}
}

void consumer_answer(struct consumer *c, struct keeper_job *job)
{
	job->next = NULL;
	mutex_lock(&c->inbox.lock);
	if (c->inbox.last_job)
		c->inbox.last_job->next = job;
	else
		c->inbox.first_job = job;
	c->inbox.last_job = job;
	atomic_store_explicit(&c->inbox.has_mail, true, memory_order_release);
	mutex_unlock(&c->inbox.lock);
	cond_signal(&c->inbox.filled);
}

static void read_mail(struct consumer *c)
{
	if (!atomic_load_explicit(&c->inbox.has_mail, memory_order_acquire))
		return;
	struct record_list records = {0};
	mutex_lock(&c->inbox.lock);
	record_list_join(&records, &c->inbox.records);
	struct keeper_job *job = c->inbox.first_job;
	c->inbox.first_job = c->inbox.last_job = NULL;
	atomic_store_explicit(&c->inbox.has_mail, false, memory_order_relaxed);
	mutex_unlock(&c->inbox.lock);

	settle_records(c, &records);
	while (job) {
		struct keeper_job *next = job->next;
		if (job->question == KEEPER_ASSIGN)
			rebalance_answer(c, job, clock_mono_us());
		else
			settle_answer(c, job);
		free(job);
		job = next;
	}
}

static void wait_for_mail(struct consumer *c, int64_t deadline_us)
{
	mutex_lock(&c->inbox.lock);
	while (!atomic_load_explicit(&c->inbox.has_mail, memory_order_relaxed))
		if (!cond_wait_until(&c->inbox.filled, &c->inbox.lock, deadline_us))
			break;
	mutex_unlock(&c->inbox.lock);
}

/* ---- back-pressure ---- */

void consumer_fit_pause(struct consumer *c, struct partition *p)
{
	if (!partition_is_fetched(p))
		return;
	bool wanted = c->pressed || p->state == PARTITION_HELD || tracker_full(&p->tracker);
	if (wanted == p->paused)
		return;
	p->paused = wanted;
	struct kafka_partition name = {p->topic, p->partition, -1};
	if (wanted)
		kafka_consumer_pause(c->kafka, &name, 1);
	else
		kafka_consumer_resume(c->kafka, &name, 1);
}

static void press(struct consumer *c, bool pressed)
{
	c->pressed = pressed;
	for (size_t i = 0; i < c->partition_count; i++)
		consumer_fit_pause(c, c->partitions[i]);
	LOG(LOG_DEBUG, "back-pressure", LOG_I("paused", pressed));
}

/* Returns: whether a poll may bring a record. */
static bool may_take(struct consumer *c, int64_t now_us)
{
	struct budget *b = c->settings.budget;
	if (c->pressed) {
		if (!budget_has_room(b))
			return true; /* paused: a poll brings none */
		press(c, false);
		c->spent_since_us = 0;
		return true;
	}
	if (!budget_is_spent(b)) {
		c->spent_since_us = 0;
		return true;
	}
	if (!c->spent_since_us)
		c->spent_since_us = now_us;
	if (now_us - c->spent_since_us < PAUSE_AFTER_US)
		return false;
	press(c, true);
	return true;
}

/* ---- events ---- */

/* Says once that there is trouble, and once that it is over. dependency_up is lag.c's, which asks the
 * brokers at regular times. */
static void note_trouble(struct consumer *c, const char *reason)
{
	if (c->troubled == (reason != NULL))
		return;
	c->troubled = reason != NULL;
	if (reason)
		LOG(LOG_WARN, "kafka trouble", LOG_S("reason", reason));
	else
		LOG(LOG_INFO, "kafka reached again");
}

static void reached_end(struct consumer *c, const struct kafka_partition *end)
{
	struct partition *p = rebalance_find(c, end->topic, end->partition);
	if (!p || (p->state == PARTITION_PROVING && !rebalance_meet(c, p, NULL, end->offset)) ||
	    p->state != PARTITION_RUNNING)
		return;
	tracker_skip(&p->tracker, end->offset);
	p->unreadable = -1;
}

/* The position is not in the log any more (retention, a log made anew) and the library has stopped
 * fetching: the start rule looks again, and says what is lost. */
static void left_the_log(struct consumer *c, const struct kafka_partition *k, int64_t now_us)
{
	struct partition *p = rebalance_find(c, k->topic, k->partition);
	if (p && partition_is_fetched(p))
		rebalance_restart(c, p, now_us);
}

/* What was read before settles and commits; nothing behind is read before somebody has mended the log. */
static void unreadable(struct consumer *c, const struct kafka_partition *k, const char *reason, int64_t now_us)
{
	struct partition *p = rebalance_find(c, k->topic, k->partition);
	if (!p || !partition_is_fetched(p) || rebalance_goes_without(c, p))
		return;
	metric_add(METRIC_KAFKA_UNREADABLE, 1);
	if (p->unreadable != k->offset)
		LOG(LOG_ERROR, "the log can't be read: the partition waits there", LOG_S("topic", p->topic),
		    LOG_I("partition", p->partition), LOG_I("offset", k->offset), LOG_S("reason", reason));
	p->unreadable = k->offset;
	p->read_again_us = now_us + READ_AGAIN_US;
}

static void read_again(struct consumer *c, int64_t now_us)
{
	for (size_t i = 0; i < c->partition_count; i++) {
		struct partition *p = c->partitions[i];
		if (p->unreadable < 0 || p->read_again_us > now_us || !partition_is_fetched(p))
			continue;
		p->read_again_us = INT64_MAX; /* until it is told of again */
		p->paused = false;
		int64_t from = p->state == PARTITION_PROVING ? partition_proves_from(p) : p->tracker.position;
		kafka_consumer_start(c->kafka, &(struct kafka_partition){p->topic, p->partition, from}, 1);
		consumer_fit_pause(c, p);
	}
}

static void fail(struct consumer *c, const char *reason)
{
	if (atomic_load(&c->fatal))
		return;
	snprintf(c->fatal_reason, sizeof(c->fatal_reason), "%s", reason);
	atomic_store(&c->fatal, c->fatal_reason);
	LOG(LOG_ERROR, "kafka client failed for good", LOG_S("reason", reason));
}

static void handle(struct consumer *c, const struct kafka_event *e, int64_t now_us)
{
	switch (e->kind) {
	case KAFKA_NOTHING:
		return;
	case KAFKA_RECORD:
		FAIL_POINT(after_poll);
		note_trouble(c, NULL);
		intake_record(c, &e->record);
		return;
	case KAFKA_END:
		note_trouble(c, NULL);
		reached_end(c, &e->end);
		return;
	case KAFKA_ASSIGNED:
		note_trouble(c, NULL);
		rebalance_assigned(c, e->partitions, e->partition_count);
		return;
	case KAFKA_REVOKED:
		rebalance_revoked(c, e->partitions, e->partition_count, now_us);
		return;
	case KAFKA_LOST:
		rebalance_lost(c, e->partitions, e->partition_count);
		return;
	case KAFKA_COMMITTED:
		settle_commit_answered(c, e->commit_error);
		return;
	case KAFKA_UNREADABLE:
		unreadable(c, &e->end, e->error, now_us);
		return;
	case KAFKA_TROUBLE:
		note_trouble(c, e->error);
		for (size_t i = 0; i < e->partition_count; i++)
			left_the_log(c, &e->partitions[i], now_us);
		return;
	case KAFKA_FATAL:
		fail(c, e->error);
		return;
	}
	UNREACHABLE("an event of no kind");
}

/* ---- the loop ---- */

/* The times that nobody tells us of. */
static void serve(struct consumer *c, int64_t now_us)
{
	if (now_us < c->serve_due_us)
		return;
	c->serve_due_us = now_us + SERVE_US;
	heart_beat(c->heart, now_us);
	rebalance_alarm(c, now_us);
	if (!c->stopping && atomic_load(&c->stop_asked))
		rebalance_stop(c, atomic_load(&c->stop_by_us));
	if (!c->stopping) {
		rebalance_resolve(c, now_us);
		read_again(c, now_us);
		int64_t now_ms = clock_wall_us() / 1000;
		for (size_t i = 0; i < c->partition_count; i++)
			if (c->partitions[i]->head && c->partitions[i]->state == PARTITION_HELD &&
			    (c->partitions[i]->head_due_ms <= now_ms || c->partitions[i]->head_until_us <= now_us))
				intake_due(c, c->partitions[i]);
	}
	if (now_us >= c->progress_due_us) {
		c->progress_due_us = now_us + (int64_t)c->settings.commit_interval_ms * 1000;
		settle_progress(c);
		settle_commit(c);
	}
	rebalance_drain(c, now_us);
	letter_news_say(&c->letter_news, now_us);
}

static void publish_partition(struct consumer *c, struct partition *p, int64_t now_us)
{
	struct lag_position position = {.committed = p->committed,
	                                .uncommitted_us = partition_uncommitted_us(p),
	                                .next = partition_is_reading(p) ? p->tracker.position : -1,
	                                .settled = partition_is_reading(p) ? p->recorded_print : (struct fingerprint){0},
	                                .lost = partition_has_lost(p)     ? p->lost.to - p->lost.from
	                                        : p->state == PARTITION_RESOLVING || p->state == PARTITION_PROVING ? -1
	                                                                                                        : 0,
	                                .paused = p->paused || p->state == PARTITION_HELD ||
	                                          p->state == PARTITION_RESOLVING || p->state == PARTITION_PROVING,
	                                .state = partition_state_name(p->state)};
	/* With PostgreSQL away that is for long, and counted from the log's start the lag would be days that are none:
	 * lag.c asks. */
	if (p->state == PARTITION_RESOLVING && p->committed < 0)
		position.committed = LAG_UNKNOWN;
	enum lag_finding finding = lag_publish(p->topic, p->partition, &position);
	if (finding == LAG_NOTHING || !partition_is_reading(p) || p->state == PARTITION_DRAINING)
		return;
	if (finding == LAG_REPLACED)
		p->proof = LOG_REPLACED;
	LOG(LOG_ERROR, "the log is not what was read of it: the start rule is asked", LOG_S("topic", p->topic),
	    LOG_I("partition", p->partition), LOG_I("next", position.next));
	rebalance_restart(c, p, now_us);
}

/* Partitions that nobody says where to start wait in silence otherwise: ready, live, and consuming nothing [I11]. */
static void publish_waiting(struct consumer *c, size_t count)
{
	if ((count > 0) == atomic_load(&c->waiting))
		return;
	atomic_store(&c->waiting, count > 0);
	if (count > 0)
		LOG(LOG_ERROR, "partitions wait for their start, and are not consumed", LOG_I("count", count));
	else
		LOG(LOG_INFO, "no partition waits for its start any more");
}

static void publish(struct consumer *c, int64_t now_us)
{
	if (now_us < c->publish_due_us)
		return;
	c->publish_due_us = now_us + PUBLISH_US;
	bool lost = false, unreadable = false;
	int64_t oldest_us = INT64_MAX;
	publish_waiting(c, rebalance_waiting(c, now_us));
	for (size_t i = 0; i < c->partition_count; i++) {
		if (c->partitions[i]->state == PARTITION_GONE)
			continue;
		publish_partition(c, c->partitions[i], now_us);
		lost |= partition_has_lost(c->partitions[i]);
		unreadable |= c->partitions[i]->unreadable >= 0;
		const struct record *head = c->partitions[i]->head;
		if (head && head->source.timestamp_us >= 0 && head->source.timestamp_us < oldest_us)
			oldest_us = head->source.timestamp_us;
	}
	atomic_store(&c->waiting_since_us, oldest_us);
	atomic_store(&c->offsets_lost, lost);
	atomic_store(&c->unreadable, unreadable);
	metric_set(METRIC_IN_FLIGHT_BYTES, (int64_t)c->settings.budget->bytes);
}

static void publish_tally(struct consumer *c)
{
	c->tally.in_flight = c->pool.live;
	metrics_publish_tally(c->index, &c->tally);
}

/* Stopped, and nothing of it is left here: neither records, which point to our partitions and blocks, nor
 * questions to the keeper. */
static bool is_over(const struct consumer *c)
{
	return c->stopping && rebalance_is_over(c) &&
	       (c->pool.live == 0 || clock_mono_us() >= atomic_load(&c->stop_by_us));
}

static void *run(void *argument)
{
	struct consumer *c = argument;
	char name[16];
	snprintf(name, sizeof(name), "consumer-%u", (unsigned)c->index % 1000);
	c->heart = heart_start(name, c->settings.silence_us, clock_mono_us());
	struct kafka_event event;
	while (!is_over(c) && !atomic_load(&c->fatal)) {
		int64_t now_us = clock_mono_us();
		read_mail(c);
		serve(c, now_us);
		publish(c, now_us);
		if (may_take(c, now_us)) {
			bool waiting = c->stopping || c->leaving.partitions;
			kafka_consumer_poll(c->kafka, waiting ? POLL_LEAVING_MS : POLL_MS, &event);
			handle(c, &event, now_us);
		} else {
			wait_for_mail(c, now_us + PRESSURE_WAIT_US);
		}
		news_say(&c->news);
		outbox_put(c->settings.outbox, &c->letters); /* the dead letters are the outbox's */
		publish_tally(c);
	}
	letter_news_end(&c->letter_news);
	if (!kafka_consumer_close(c->kafka, CLOSE_MS))
		LOG(LOG_WARN, "the kafka client does not close: left behind");
	heart_stop(c->heart);
	atomic_store(&c->left, true);
	return NULL;
}

/* ---- lifecycle ---- */

int consumer_start(const struct consumer_settings *s, int index, struct consumer **out, char *error,
                   size_t error_size)
{
	struct consumer *c = calloc(1, sizeof(*c));
	ENSURE(c);
	c->settings = *s;
	c->index = index;
	atomic_store(&c->waiting_since_us, INT64_MAX);
	c->alarm_seen = history_alarm_raised(s->alarm);
	const char *topics[] = {s->topic, s->deferred_topic};
	if (kafka_consumer_open(s->kafka, topics, 2, &c->kafka, error, error_size)) {
		free(c);
		return -1;
	}
	c->decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = s->refuse_unknown_members});
	record_pool_init(&c->pool, s->pool_bytes_max);
	mutex_init(&c->inbox.lock);
	cond_init(&c->inbox.filled);
	char name[16];
	snprintf(name, sizeof(name), "consumer-%d", index);
	c->thread = thread_start(name, run, c);
	*out = c;
	return 0;
}

void consumer_stop(struct consumer *c, int64_t deadline_us)
{
	atomic_store(&c->stop_by_us, deadline_us);
	atomic_store(&c->stop_asked, true);
	cond_signal(&c->inbox.filled);
}

int consumer_assigned(const struct consumer *c)
{
	return atomic_load(&c->assigned);
}

bool consumer_has_lost_offsets(const struct consumer *c)
{
	return atomic_load(&c->offsets_lost);
}

bool consumer_has_unreadable(const struct consumer *c)
{
	return atomic_load(&c->unreadable);
}

bool consumer_is_waiting(const struct consumer *c)
{
	return atomic_load(&c->waiting);
}

int64_t consumer_waiting_since_us(const struct consumer *c)
{
	return atomic_load(&c->waiting_since_us);
}

double consumer_share(const struct consumer *c)
{
	return atomic_load(&c->share);
}

const char *consumer_fatal(const struct consumer *c)
{
	return atomic_load(&c->fatal);
}

bool consumer_joined(const struct consumer *c)
{
	return atomic_load(&c->joined);
}

bool consumer_has_left(const struct consumer *c)
{
	return atomic_load(&c->left);
}

bool consumer_join(struct consumer *c)
{
	thread_join(c->thread);
	return c->drained && c->pool.live == 0 && !atomic_load(&c->fatal);
}

/* What came after the thread had left: there is nobody to settle it. */
static void discard_mail(struct consumer *c)
{
	struct record *r;
	while ((r = record_list_take(&c->inbox.records)))
		settle_release(c, r);
	while (c->inbox.first_job) {
		struct keeper_job *job = c->inbox.first_job;
		c->inbox.first_job = job->next;
		free(job);
	}
}

void consumer_free(struct consumer *c)
{
	discard_mail(c);
	publish_tally(c);
	for (size_t i = 0; i < c->partition_count; i++) {
		partition_release(c->partitions[i]);
		free(c->partitions[i]);
	}
	free(c->partitions);
	free(c->scratch);
	news_release(&c->news);
	record_pool_release(&c->pool);
	event_decoder_free(c->decoder);
	cond_destroy(&c->inbox.filled);
	mutex_destroy(&c->inbox.lock);
	free(c);
}
