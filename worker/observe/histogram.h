/*
 * The histograms of metrics.h (which declares histogram_observe and histogram_quantile): relaxed
 * atomics, no lock, so that threads can observe once a record.
 * Thread: any.
 */
#ifndef WORKER_OBSERVE_HISTOGRAM_H
#define WORKER_OBSERVE_HISTOGRAM_H

#include "common/buf.h"
#include "worker/observe/metrics.h"

/* Appends all families: cumulative buckets, sum, count. A count is its last bucket, so the two agree
 * at every scrape; the sum may be ahead of them by what is being observed right now. */
void histogram_expose(struct buf *out);

#endif
