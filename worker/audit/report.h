/*
 * What an audit found: a check a row, with how much it looked at and what was wrong, by key.
 *
 *     audit_check_begin(r, "debits equal credits", "units");
 *     audit_examined(r, 3);
 *     audit_wrong(r, "unit %s: ...", ...);
 *
 * Thread: one at a time.
 */
#ifndef WORKER_AUDIT_REPORT_H
#define WORKER_AUDIT_REPORT_H

#include "common/buf.h"
#include "common/json_writer.h"

#include <stdbool.h>
#include <stdint.h>

/* Findings shown a check; those beyond are counted. */
enum { AUDIT_SHOWN_MAX = 20 };

struct audit_report;
struct audit_report *audit_report_new(void);
void audit_report_free(struct audit_report *r); /* NULL is fine */

/* What follows belongs to this check. Both strings are constants. */
void audit_check_begin(struct audit_report *r, const char *check, const char *noun);
void audit_examined(struct audit_report *r, uint64_t count);
/* One line that begins with the key of the row. */
void audit_wrong(struct audit_report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Wrong as well, but known by number only. */
void audit_wrong_more(struct audit_report *r, uint64_t count);
/* Something that is counted and is not wrong. `what` is a constant. */
void audit_apart(struct audit_report *r, const char *what, uint64_t count);

bool audit_report_clean(const struct audit_report *r);
void audit_report_text(const struct audit_report *r, struct buf *out);
void audit_report_json(const struct audit_report *r, struct json_writer *w);

#endif
