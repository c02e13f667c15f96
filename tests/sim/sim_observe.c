/*
 * metrics.h, health.h, lag.h, log.h. What the worker publishes is checked where it is published: conservation [I7] and
 * the bound of what is in flight [I8]. Most of these calls stand between two steps of a record's way, so each is a
 * point at which the process may die or another thread may run.
 */
#include "tests/sim/sim.h"

#include "common/log.h"
#include "worker/observe/health.h"
#include "worker/observe/lag.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- metrics.h ---- */

void metrics_publish_tally(int index, const struct tally *t)
{
	ENSURE(index >= 0 && index < SIM_CONSUMERS_MAX);
	uint64_t settled = 0;
	for (int i = 0; i < OUTCOME_COUNT; i++)
		settled += t->settled[i];
	if (t->consumed != settled + t->in_flight)
		sim_fail("consumed %" PRIu64 ", settled %" PRIu64 ", in flight %" PRIu64, t->consumed, settled,
			 t->in_flight);
	/* What the others of this process have now is theirs to know; together they overshoot by one each. */
	if (t->in_flight > (uint64_t)(sim_config.inflight_max + sim_config.consumers))
		sim_fail("%" PRIu64 " records in flight, %d are allowed", t->in_flight, sim_config.inflight_max);
	sim_point();
}

void metric_add(enum metric m, uint64_t n)
{
	(void)m, (void)n;
	sim_point();
}

void metric_set(enum metric m, int64_t value)
{
	(void)m, (void)value;
}

void metric_vote(enum metric m, enum voter v, bool on)
{
	(void)m, (void)v, (void)on;
}

void histogram_observe(enum histogram h, double value, uint64_t count)
{
	(void)h, (void)value, (void)count;
	sim_point();
}

/* ---- health.h ---- */

struct heart {
	const char *name;
	int64_t limit_us;
	int64_t beat_us;
};

struct heart *heart_start(const char *name, int64_t limit_us, int64_t now_us)
{
	(void)name, (void)now_us;
	struct heart *h = calloc(1, sizeof(*h));
	ENSURE(h);
	h->limit_us = limit_us;
	h->beat_us = sim_now();
	return h;
}

/* A frozen process is silent through no fault of its own. */
void heart_beat(struct heart *h, int64_t now_us)
{
	(void)now_us;
	if (!world_faults() && sim_now() - h->beat_us > h->limit_us)
		sim_fail("a thread was silent for %" PRId64 " ms", (sim_now() - h->beat_us) / MS_US);
	h->beat_us = sim_now();
	sim_point();
}

/* Within a turn: the silence that the schedule makes is judged at its end. */
void heart_beat_own(void)
{
}

void heart_stop(struct heart *h)
{
	free(h);
}

/* Ready without an assignment: nothing is consumed, and nobody looks [I11]. */
void health_set(enum health_condition condition, bool value)
{
	if (condition == HEALTH_JOINED && value && !client_holds_assignments(sim_process()))
		sim_fail("said to be in the group after its assignment was given back");
}

/* ---- lag.h ---- */

enum lag_finding lag_publish(const char *topic, int32_t partition, const struct lag_position *p)
{
	(void)topic, (void)partition, (void)p;
	return LAG_NOTHING;
}

void lag_remove(const char *topic, int32_t partition)
{
	(void)topic, (void)partition;
}

int lag_start(const struct kafka_settings *s, const char *topic, int interval_ms, char *error, size_t error_size)
{
	(void)s, (void)topic, (void)interval_ms, (void)error, (void)error_size;
	return 0;
}

void lag_stop(void)
{
}

/* ---- log.h ---- */

void log_setup(enum log_format format, enum log_level level)
{
	(void)format, (void)level;
}

bool log_enabled(enum log_level level)
{
	return level < LOG_DEBUG;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
	char line[512];
	size_t at = 0;
	for (; fields->name && at < sizeof(line); fields++) {
		int n = fields->kind == LOG_FIELD_INT
				? snprintf(line + at, sizeof(line) - at, " %s=%" PRId64, fields->name, fields->integer)
				: snprintf(line + at, sizeof(line) - at, " %s=%.*s", fields->name,
					   (int)fields->text.len,
					   fields->kind == LOG_FIELD_TEXT ? fields->text.data : "");
		at += (size_t)n;
	}
	if (at == 0)
		line[0] = '\0';
	sim_trace("%s%s%s", level <= LOG_WARN ? "! " : "", message, line);
	sim_note((uint64_t)at);
	sim_point();
}

uint64_t log_suppressed_total(void)
{
	return 0;
}
