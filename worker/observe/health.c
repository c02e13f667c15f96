#include "worker/observe/health.h"

#include "common/clock.h"
#include "common/ensure.h"
#include "common/thread.h"
#include "worker/observe/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

struct heart {
	char name[16]; /* "" while the slot is free */
	int64_t limit_us;
	_Atomic int64_t beat_us;
};

/* Guards who has which slot; beats go past it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct heart hearts[HEARTS_MAX];

static _Thread_local struct heart *own;

static _Atomic bool conditions[HEALTH_CONDITION_COUNT];

struct heart *heart_start(const char *name, int64_t limit_us, int64_t now_us)
{
	struct heart *h = NULL;
	size_t len = strlen(name);

	ENSURE(len > 0 && len < sizeof(h->name) && limit_us > 0);
	mutex_lock(&lock);
	for (size_t i = 0; i < HEARTS_MAX && !h; i++)
		if (hearts[i].name[0] == '\0')
			h = &hearts[i];
	ENSURE(h != NULL);
	memcpy(h->name, name, len + 1);
	h->limit_us = limit_us;
	atomic_store_explicit(&h->beat_us, now_us, memory_order_relaxed);
	mutex_unlock(&lock);
	own = h;
	return h;
}

void heart_beat(struct heart *h, int64_t now_us)
{
	atomic_store_explicit(&h->beat_us, now_us, memory_order_relaxed);
}

void heart_beat_own(void)
{
	if (own)
		heart_beat(own, clock_mono_us());
}

void heart_stop(struct heart *h)
{
	if (own == h)
		own = NULL;
	mutex_lock(&lock);
	h->name[0] = '\0';
	mutex_unlock(&lock);
}

bool health_live(int64_t now_us, struct buf *why)
{
	bool live = true;

	mutex_lock(&lock);
	for (const struct heart *h = hearts; h < hearts + HEARTS_MAX; h++) {
		if (h->name[0] == '\0')
			continue;
		/* May be negative: the thread beat after the caller took its `now`. */
		int64_t age_us = now_us - atomic_load_explicit(&h->beat_us, memory_order_relaxed);
		if (age_us <= h->limit_us)
			continue;
		live = false;
		buf_printf(why, "%s: no progress for %" PRId64 " ms (limit %" PRId64 " ms)\n", h->name, age_us / 1000,
			   h->limit_us / 1000);
	}
	mutex_unlock(&lock);
	return live;
}

void health_set(enum health_condition condition, bool value)
{
	ENSURE(condition < HEALTH_CONDITION_COUNT);
	atomic_store_explicit(&conditions[condition], value, memory_order_relaxed);
}

bool readiness_decide(const struct readiness *r, struct buf *why)
{
	const struct {
		bool missing;
		const char *text;
	} checks[] = {
		{r->conditions[HEALTH_STOPPING], "stopping"},
		{!r->conditions[HEALTH_STARTED], "starting"},
		{!r->conditions[HEALTH_SCHEMA_FITS], "schema: not known to fit (delivery-worker migrate)"},
		{!r->conditions[HEALTH_JOINED], "group: not joined"},
		{!r->kafka_up, "kafka: unavailable"},
		{!r->postgresql_up, "postgresql: unavailable"},
	};
	bool ready = true;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		if (!checks[i].missing)
			continue;
		ready = false;
		buf_printf(why, "%s\n", checks[i].text);
	}
	return ready;
}

bool health_ready(struct buf *why)
{
	struct readiness now = {
		.kafka_up = metric_get(METRIC_UP_KAFKA) == 1,
		.postgresql_up = metric_get(METRIC_UP_POSTGRESQL) == 1,
	};

	for (int i = 0; i < HEALTH_CONDITION_COUNT; i++)
		now.conditions[i] = atomic_load_explicit(&conditions[i], memory_order_relaxed);
	return readiness_decide(&now, why);
}
