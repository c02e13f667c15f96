#include "worker/observe/metrics.h"

#include "common/ensure.h"
#include "common/log.h"
#include "common/thread.h"
#include "worker/observe/exposition.h"
#include "worker/observe/histogram.h"
#include "worker/observe/process.h"

#include <stdatomic.h>
#include <string.h>

static const char *const outcome_labels[OUTCOME_COUNT] = {
#define OUTCOME_LABEL(symbol, label) [OUTCOME_##symbol] = "outcome=\"" label "\"",
	OUTCOMES(OUTCOME_LABEL)
#undef OUTCOME_LABEL
};

static const struct {
	const char *family;
	const char *type;
	const char *labels;
	const char *help;
} rows[METRIC_COUNT] = {
#define METRIC_ROW(symbol, family, type, labels, help) [METRIC_##symbol] = {METRICS_PREFIX family, type, labels, help},
	METRICS(METRIC_ROW)
#undef METRIC_ROW
};

static _Atomic int64_t values[METRIC_COUNT] = {
	[METRIC_UP_KAFKA] = METRIC_UNKNOWN,
	[METRIC_UP_POSTGRESQL] = METRIC_UNKNOWN,
	[METRIC_UP_REDIS] = METRIC_UNKNOWN,
};

/*
 * One a consumer, each on cache lines of its own. The lock makes a tally one: a scrape that read field by
 * field could see a record leave `in_flight` and not yet its outcome. Sums over consumers hold as well,
 * because a record is counted by one consumer from consumed to settled.
 */
static struct slot {
	_Alignas(64) pthread_mutex_t lock;
	struct tally tally;
} slots[METRICS_CONSUMERS_MAX] = {[0 ... METRICS_CONSUMERS_MAX - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

/* Written before the threads start. */
static struct buf build_labels = BUF_INIT;

void metrics_publish_tally(int index, const struct tally *t)
{
	ENSURE(index >= 0 && index < METRICS_CONSUMERS_MAX);
	mutex_lock(&slots[index].lock);
	slots[index].tally = *t;
	mutex_unlock(&slots[index].lock);
}

void metrics_read_tally(struct tally *sum)
{
	*sum = (struct tally){0};
	for (int i = 0; i < METRICS_CONSUMERS_MAX; i++) {
		mutex_lock(&slots[i].lock);
		struct tally one = slots[i].tally;
		mutex_unlock(&slots[i].lock);
		sum->consumed += one.consumed;
		sum->in_flight += one.in_flight;
		for (int o = 0; o < OUTCOME_COUNT; o++)
			sum->settled[o] += one.settled[o];
		for (int c = 0; c < ERROR_CODE_COUNT; c++)
			sum->dead_letters[c] += one.dead_letters[c];
	}
}

void metric_add(enum metric m, uint64_t n)
{
	ENSURE(m < METRIC_COUNT);
	atomic_fetch_add_explicit(&values[m], (int64_t)n, memory_order_relaxed);
}

void metric_set(enum metric m, int64_t value)
{
	ENSURE(m < METRIC_COUNT);
	atomic_store_explicit(&values[m], value, memory_order_relaxed);
}

/* No lock, since callers may hold one: who changes a vote counts them until nobody has changed one meanwhile. */
void metric_vote(enum metric m, enum voter v, bool on)
{
	static _Atomic unsigned votes[METRIC_COUNT];
	ENSURE(m < METRIC_COUNT);
	if (on)
		atomic_fetch_or(&votes[m], 1U << v);
	else
		atomic_fetch_and(&votes[m], ~(1U << v));
	unsigned counted;
	do {
		counted = atomic_load(&votes[m]);
		metric_set(m, counted != 0);
	} while (counted != atomic_load(&votes[m]));
}

int64_t metric_get(enum metric m)
{
	ENSURE(m < METRIC_COUNT);
	/* The log counts for itself: common code knows nothing of metrics. */
	if (m == METRIC_LOG_DROPPED)
		return (int64_t)log_dropped_total();
	if (m == METRIC_LOG_SUPPRESSED)
		return (int64_t)log_suppressed_total();
	return atomic_load_explicit(&values[m], memory_order_relaxed);
}

void metrics_build_label(const char *name, const char *value)
{
	exposition_label(&build_labels, name, value);
}

static void expose_tally(struct buf *out)
{
	static const char consumed[] = METRICS_PREFIX "records_consumed_total";
	static const char settled[] = METRICS_PREFIX "records_settled_total";
	static const char in_flight[] = METRICS_PREFIX "records_in_flight";
	static const char dead_letters[] = METRICS_PREFIX "dead_letters_total";
	struct tally t;
	char label[64];

	metrics_read_tally(&t);
	exposition_family(out, consumed, "counter", "Records taken from Kafka.");
	exposition_unsigned(out, consumed, "", t.consumed);
	exposition_family(out, settled, "counter", "Records done with, by outcome.");
	for (int i = 0; i < OUTCOME_COUNT; i++)
		exposition_unsigned(out, settled, outcome_labels[i], t.settled[i]);
	exposition_family(out, in_flight, "gauge", "Records taken and not settled.");
	exposition_unsigned(out, in_flight, "", t.in_flight);
	exposition_family(out, dead_letters, "counter", "Records sent to the dead letter topic, by error code.");
	for (int i = ERROR_NONE + 1; i < ERROR_CODE_COUNT; i++) {
		snprintf(label, sizeof(label), "code=\"%s\"", error_code_name((enum error_code)i));
		exposition_unsigned(out, dead_letters, label, t.dead_letters[i]);
	}
}

void metrics_expose(struct buf *out)
{
	static const char build_info[] = METRICS_PREFIX "build_info";

	expose_tally(out);
	for (enum metric m = 0; m < METRIC_COUNT; m++) {
		if (m == 0 || strcmp(rows[m].family, rows[m - 1].family) != 0)
			exposition_family(out, rows[m].family, rows[m].type, rows[m].help);
		int64_t value = metric_get(m);
		if (value != METRIC_UNKNOWN)
			exposition_integer(out, rows[m].family, rows[m].labels, value);
	}
	histogram_expose(out);
	exposition_family(out, build_info, "gauge", "Always 1; the labels tell the versions.");
	exposition_integer(out, build_info, build_labels.len > 0 ? build_labels.data : "", 1);
	process_expose(out);
}
