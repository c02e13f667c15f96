#include "worker/pipeline/pipeline.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/observe/health.h"
#include "worker/observe/lag.h"
#include "worker/pipeline/consumer.h"
#include "worker/pipeline/deferral.h"
#include "worker/pipeline/pool.h"
#include "worker/pipeline/silence.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OUTBOX_STOP_MS = 1000, CREDENTIALS_INTERVAL_MS = 1000 };

struct pipeline {
	const struct options *options;
	char worker_name[128]; /* host and process: dw_worker */
	struct budget budget;
	struct history_alarm alarm;
	struct store_board *board;
	struct store_settings store;
	struct gate_settings gate_settings;
	struct gate_shared *gate;
	struct dispatch *dispatch;
	struct outbox *outbox;
	struct keeper *keeper;
	struct pool *pool;
	struct consumer **consumers;
	size_t consumer_count;
	int64_t credentials_due_us;
	bool throttled; /* and said so */
};

struct store_settings pipeline_store_settings(const struct options *o, struct store_board *board)
{
	return (struct store_settings){.dsn = o->pg_dsn,
	                               .dsn_file = o->pg_dsn_file,
	                               .schema = o->pg_schema,
	                               .connect_timeout_ms = (int)o->pg_connect_timeout_ms,
	                               .statement_timeout_ms = (int)o->pg_statement_timeout_ms,
	                               .idle_timeout_ms = (int)o->pg_idle_timeout_ms,
	                               .slots = (int)o->ledger_slots,
	                               .board = board};
}

struct gate_settings pipeline_gate_settings(const struct options *o)
{
	return (struct gate_settings){.url = o->redis_url,
	                              .url_file = o->redis_url_file,
	                              .tls = {o->redis_tls_ca, o->redis_tls_cert, o->redis_tls_key},
	                              .plain_password = o->redis_plain_password == 1,
	                              .prefix = o->redis_prefix,
	                              .timeout_ms = (int)o->redis_timeout_ms,
	                              .dedup_ttl_s = o->dedup_ttl_s,
	                              .slot_life_ms = deferral_slot_life_ms(o->rate_defer_ms),
	                              .rate_outage = o->rate_on_outage == 1 ? GATE_HOLD : GATE_LOCAL};
}

static void name_worker(struct pipeline *p)
{
	char host[100] = "";
	gethostname(host, sizeof(host) - 1);
	snprintf(p->worker_name, sizeof(p->worker_name), "%s/%ld", host, (long)getpid());
}

static int start_outbox(struct pipeline *p, char *error, size_t error_size)
{
	const struct outbox_settings settings = {.kafka = &p->options->kafka,
	                                         .dlq_topic = p->options->kafka_dlq_topic,
	                                         .deferred_topic = p->options->kafka_deferred_topic,
	                                         .worker_name = p->worker_name,
	                                         .defer_ms = p->options->rate_defer_ms,
	                                         .dispatch = p->dispatch,
	                                         .silence_us = silences_by(p->options).outbox_us};
	return outbox_start(&settings, &p->outbox, error, error_size);
}

static int start_keeper(struct pipeline *p, char *error, size_t error_size)
{
	const struct keeper_settings settings = {.kafka = &p->options->kafka,
	                                         .store = &p->store,
	                                         .store_index = (size_t)p->options->workers,
	                                         .group = p->options->kafka_group,
	                                         .rules_poll_ms = (int)p->options->rules_poll_ms,
	                                         .member_lives_ms = kafka_membership_ms(&p->options->kafka),
	                                         .alarm = &p->alarm,
	                                         .silence_us = silences_by(p->options).keeper_us};
	return keeper_start(&settings, &p->keeper, error, error_size);
}

static void start_pool(struct pipeline *p, const uint8_t digest_key[16])
{
	struct pool_settings settings = {.workers = (size_t)p->options->workers,
	                                 .batch_max = (size_t)p->options->batch_max,
	                                 .batch_interval_us = p->options->batch_interval_us,
	                                 .store = &p->store,
	                                 .gate = p->gate,
	                                 .rate_per_second = p->options->rate_partner_per_second,
	                                 .rate_burst = p->options->rate_partner_burst,
	                                 .defer_ms = p->options->rate_defer_ms,
	                                 .dispatch = p->dispatch,
	                                 .outbox = p->outbox,
	                                 .keeper = p->keeper,
	                                 .alarm = &p->alarm,
	                                 .silence_us = silences_by(p->options).worker_us};
	memcpy(settings.digest_key, digest_key, sizeof(settings.digest_key));
	p->pool = pool_start(&settings);
}

static int start_consumers(struct pipeline *p, char *error, size_t error_size)
{
	const struct consumer_settings settings = {.kafka = &p->options->kafka,
	                                           .topic = p->options->kafka_topic,
	                                           .deferred_topic = p->options->kafka_deferred_topic,
	                                           .defer_ms = p->options->rate_defer_ms,
	                                           .refuse_unknown_members = p->options->event_unknown_members == 1,
	                                           .commit_interval_ms = (int)p->options->commit_interval_ms,
	                                           .rebalance_drain_ms = (int)p->options->rebalance_drain_ms,
	                                           .budget = &p->budget,
	                                           .pool_bytes_max = p->budget.bytes_max /
	                                                             (size_t)p->options->consumers,
	                                           .dispatch = p->dispatch,
	                                           .outbox = p->outbox,
	                                           .keeper = p->keeper,
	                                           .alarm = &p->alarm,
	                                           .silence_us = silences_by(p->options).consumer_us};
	p->consumers = calloc((size_t)p->options->consumers, sizeof(struct consumer *));
	ENSURE(p->consumers);
	for (int i = 0; i < p->options->consumers; i++) {
		if (consumer_start(&settings, i, &p->consumers[i], error, error_size))
			return -1;
		p->consumer_count++;
	}
	return 0;
}

int pipeline_start(const struct options *o, const uint8_t digest_key[16], struct pipeline **out, char *error,
                   size_t error_size)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	ENSURE(p);
	p->options = o;
	name_worker(p);
	p->budget.records_max = (size_t)o->inflight_max;
	p->budget.bytes_max = (size_t)o->inflight_max_bytes;
	mutex_init(&p->alarm.lock);
	p->board = store_board_new((size_t)o->workers + 1);
	p->store = pipeline_store_settings(o, p->board);
	p->gate_settings = pipeline_gate_settings(o);
	p->gate = gate_shared_new(&p->gate_settings);
	p->dispatch = dispatch_new((size_t)o->workers);
	if (start_outbox(p, error, error_size) || start_keeper(p, error, error_size))
		return -1; /* the process ends */
	start_pool(p, digest_key);
	if (start_consumers(p, error, error_size) ||
	    lag_start(&o->kafka, o->kafka_topic, (int)o->lag_interval_ms, error, error_size))
		return -1;
	*out = p;
	return 0;
}

/* Says once that a quota slows the worker down, and once that it does no more. */
static void note_quota(struct pipeline *p)
{
	bool throttled = kafka_is_throttled(clock_mono_ms());
	if (throttled == p->throttled)
		return;
	p->throttled = throttled;
	metric_set(METRIC_DEGRADED_KAFKA_QUOTA, throttled);
	if (throttled)
		LOG(LOG_WARN, "kafka throttles this client: a quota is used up");
	else
		LOG(LOG_INFO, "kafka throttles this client no more");
}

void pipeline_tend(struct pipeline *p)
{
	pool_tend(p->pool);
	note_quota(p);
	double share = 0;
	int assigned = 0;
	bool joined = true, lost = false, unreadable = false, waiting = false;
	int64_t oldest_us = INT64_MAX;
	for (size_t i = 0; i < p->consumer_count; i++) {
		share += consumer_share(p->consumers[i]);
		assigned += consumer_assigned(p->consumers[i]);
		joined &= consumer_joined(p->consumers[i]);
		lost |= consumer_has_lost_offsets(p->consumers[i]);
		unreadable |= consumer_has_unreadable(p->consumers[i]);
		waiting |= consumer_is_waiting(p->consumers[i]);
		int64_t since_us = consumer_waiting_since_us(p->consumers[i]);
		oldest_us = since_us < oldest_us ? since_us : oldest_us;
	}
	int64_t age_us = oldest_us == INT64_MAX ? 0 : clock_wall_us() - oldest_us;
	metric_set(METRIC_DEFERRED_OLDEST_AGE, age_us > 0 ? age_us / 1000000 : 0);
	metric_set(METRIC_ASSIGNED_PARTITIONS, assigned);
	metric_set(METRIC_DEGRADED_OFFSET_LOST, lost);
	metric_set(METRIC_DEGRADED_UNREADABLE, unreadable);
	metric_set(METRIC_DEGRADED_WAITING, waiting);
	health_set(HEALTH_JOINED, joined);
	int64_t now = clock_mono_us();
	if (now >= p->credentials_due_us) {
		p->credentials_due_us = now + CREDENTIALS_INTERVAL_MS * 1000;
		kafka_refresh_credentials(&p->options->kafka);
	}
	if (share > 0)
		gate_shared_set_share(p->gate, share > 1 ? 1 : share);
}

const char *pipeline_fatal(const struct pipeline *p)
{
	for (size_t i = 0; i < p->consumer_count; i++)
		if (consumer_fatal(p->consumers[i]))
			return consumer_fatal(p->consumers[i]);
	return outbox_fatal(p->outbox);
}

void pipeline_drain(struct pipeline *p, int64_t deadline_us)
{
	for (size_t i = 0; i < p->consumer_count; i++)
		consumer_stop(p->consumers[i], deadline_us);
}

bool pipeline_has_left(const struct pipeline *p)
{
	for (size_t i = 0; i < p->consumer_count; i++)
		if (!consumer_has_left(p->consumers[i]))
			return false;
	return true;
}

bool pipeline_join(struct pipeline *p)
{
	bool drained = true;
	for (size_t i = 0; i < p->consumer_count; i++)
		drained &= consumer_join(p->consumers[i]);
	return drained;
}

void pipeline_stop(struct pipeline *p)
{
	lag_stop();
	dispatch_close(p->dispatch);
	pool_stop(p->pool);
	outbox_stop(p->outbox, OUTBOX_STOP_MS);
	keeper_stop(p->keeper);
	for (size_t i = 0; i < p->consumer_count; i++)
		consumer_free(p->consumers[i]);
	keeper_free(p->keeper);
	outbox_free(p->outbox);
	pool_free(p->pool);
	dispatch_free(p->dispatch);
	gate_shared_free(p->gate);
	store_board_free(p->board);
	mutex_destroy(&p->alarm.lock);
	free(p->consumers);
	free(p);
}
