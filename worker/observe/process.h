/*
 * What the kernel knows about this process, under the names that every Prometheus client uses (no
 * prefix of ours), read from /proc at the scrape. What can't be read is left out.
 * Thread: any.
 */
#ifndef WORKER_OBSERVE_PROCESS_H
#define WORKER_OBSERVE_PROCESS_H

#include "common/buf.h"

void process_expose(struct buf *out);

#endif
