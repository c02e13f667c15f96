/*
 * The text format of Prometheus, version 0.0.4: lines appended to a buffer.
 *
 *     exposition_family(out, "dw_commits_total", "counter", "Offset commits.");
 *     exposition_label(&labels, "result", "ok");
 *     exposition_integer(out, "dw_commits_total", labels.data, 3);
 *
 * A family is announced once, and its series follow it without another family between them: that is
 * the caller's part. Labels are given as they stand between the braces, "" for none.
 * Thread: any, on a buffer of its own.
 */
#ifndef WORKER_OBSERVE_EXPOSITION_H
#define WORKER_OBSERVE_EXPOSITION_H

#include "common/buf.h"

#include <stdint.h>

/* The HELP and TYPE lines. `help` is a constant of ours: one line, nothing in it to escape. */
void exposition_family(struct buf *out, const char *name, const char *type, const char *help);

void exposition_integer(struct buf *out, const char *name, const char *labels, int64_t value);
void exposition_unsigned(struct buf *out, const char *name, const char *labels, uint64_t value);
void exposition_real(struct buf *out, const char *name, const char *labels, double value);

/* Appends name="value" to `labels`, after a comma if there are some already, with the value escaped. */
void exposition_label(struct buf *labels, const char *name, const char *value);

#endif
