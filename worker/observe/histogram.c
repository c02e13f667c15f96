#include "worker/observe/histogram.h"

#include "common/ensure.h"
#include "worker/observe/exposition.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* 0.5 ms is about one round trip to a server near by, 60 s twice a deferral's wait; the rest is for a
 * backlog, whose records are as old as it is. */
static const double seconds_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
                                        30, 60, 300, 900, 3600, 14400, 86400};
/* The same where the promise is made: fine enough to tell a P50 and a P99 to the millisecond of Kafka's timestamps. */
static const double latency_bounds[] = {0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05,
                                        0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400};
/* Up to the largest batch.max. */
static const double records_bounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000};

#define SECONDS_BOUNDS seconds_bounds, sizeof(seconds_bounds) / sizeof(seconds_bounds[0])
#define LATENCY_BOUNDS latency_bounds, sizeof(latency_bounds) / sizeof(latency_bounds[0])
#define RECORDS_BOUNDS records_bounds, sizeof(records_bounds) / sizeof(records_bounds[0])

enum { BOUNDS_MAX = 25 };
_Static_assert(sizeof(latency_bounds) <= BOUNDS_MAX * sizeof(double), "BOUNDS_MAX holds the longest scale");
_Static_assert(sizeof(seconds_bounds) <= BOUNDS_MAX * sizeof(double), "BOUNDS_MAX holds the longest scale");
_Static_assert(sizeof(records_bounds) <= BOUNDS_MAX * sizeof(double), "BOUNDS_MAX holds the longest scale");

static const struct row {
	const char *family;
	const char *labels;
	const char *help;
	const double *bounds;
	size_t bound_count;
} rows[HISTOGRAM_COUNT] = {
#define HISTOGRAM_ROW(symbol, family, labels, scale, help) \
	[HISTOGRAM_##symbol] = {METRICS_PREFIX family, labels, help, scale##_BOUNDS},
	HISTOGRAMS(HISTOGRAM_ROW)
#undef HISTOGRAM_ROW
};

static struct counts {
	_Atomic uint64_t buckets[BOUNDS_MAX + 1]; /* not cumulative; the one behind the last bound is +Inf */
	_Atomic double sum;
} counts[HISTOGRAM_COUNT];

void histogram_observe(enum histogram h, double value, uint64_t count)
{
	ENSURE(h < HISTOGRAM_COUNT && !isnan(value));
	/* A record's timestamp may be ahead of our clock. A sum that falls would read as a restart. */
	double seen = value > 0 ? value : 0;
	size_t i = 0;
	while (i < rows[h].bound_count && seen > rows[h].bounds[i])
		i++;
	atomic_fetch_add_explicit(&counts[h].buckets[i], count, memory_order_relaxed);

	double before = atomic_load_explicit(&counts[h].sum, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&counts[h].sum, &before, before + seen * (double)count,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

/* Cumulative counts, one more than there are bounds. Returns: all observations. */
static uint64_t cumulate(enum histogram h, uint64_t cumulative[BOUNDS_MAX + 1])
{
	uint64_t total = 0;
	for (size_t i = 0; i <= rows[h].bound_count; i++) {
		total += atomic_load_explicit(&counts[h].buckets[i], memory_order_relaxed);
		cumulative[i] = total;
	}
	return total;
}

double histogram_quantile(enum histogram h, double quantile)
{
	ENSURE(h < HISTOGRAM_COUNT && quantile >= 0 && quantile <= 1);
	uint64_t cumulative[BOUNDS_MAX + 1];
	uint64_t total = cumulate(h, cumulative);
	if (total == 0)
		return NAN;

	const struct row *row = &rows[h];
	double rank = quantile * (double)total;
	size_t i = 0;
	while (i < row->bound_count && (cumulative[i] == 0 || (double)cumulative[i] < rank))
		i++;
	/* Beyond the last bound nothing is known but that it is more; like PromQL, say the bound. */
	if (i == row->bound_count)
		return row->bounds[row->bound_count - 1];
	double lower = i > 0 ? row->bounds[i - 1] : 0;
	double below = i > 0 ? (double)cumulative[i - 1] : 0;
	double inside = (double)cumulative[i] - below;
	return inside > 0 ? lower + (row->bounds[i] - lower) * (rank - below) / inside : lower;
}

static void expose_row(struct buf *out, enum histogram h)
{
	const struct row *row = &rows[h];
	const char *comma = row->labels[0] != '\0' ? "," : "";
	uint64_t cumulative[BOUNDS_MAX + 1];
	char name[128], labels[128];

	/* Before the buckets: what is observed in between is then missing from the sum and not the count,
	 * and an average is never too high because of it. */
	double sum = atomic_load_explicit(&counts[h].sum, memory_order_relaxed);
	uint64_t total = cumulate(h, cumulative);
	snprintf(name, sizeof(name), "%s_bucket", row->family);
	for (size_t i = 0; i < row->bound_count; i++) {
		snprintf(labels, sizeof(labels), "%s%sle=\"%g\"", row->labels, comma, row->bounds[i]);
		exposition_unsigned(out, name, labels, cumulative[i]);
	}
	snprintf(labels, sizeof(labels), "%s%sle=\"+Inf\"", row->labels, comma);
	exposition_unsigned(out, name, labels, total);
	snprintf(name, sizeof(name), "%s_sum", row->family);
	exposition_real(out, name, row->labels, sum);
	snprintf(name, sizeof(name), "%s_count", row->family);
	exposition_unsigned(out, name, row->labels, total);
}

void histogram_expose(struct buf *out)
{
	for (enum histogram h = 0; h < HISTOGRAM_COUNT; h++) {
		if (h == 0 || strcmp(rows[h].family, rows[h - 1].family) != 0)
			exposition_family(out, rows[h].family, "histogram", rows[h].help);
		expose_row(out, h);
	}
}
