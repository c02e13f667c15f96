/*
 * RFC 3339 timestamps in the strict form of the contract: `YYYY-MM-DDThh:mm:ss[.f{1,9}](Z|±hh:mm)`,
 * upper case, no leap second, offset hh <= 23, mm <= 59, fraction cut to the microsecond.
 * Thread: any.
 */
#ifndef SCHEMAS_TIMESTAMP_H
#define SCHEMAS_TIMESTAMP_H

#include "common/ensure.h"
#include "common/slice.h"

#include <stdint.h>

#define TIMESTAMP_MIN_US INT64_C(946684800000000) /* 2000-01-01T00:00:00Z */
#define TIME_NONE INT64_MIN                       /* no time: before any */

enum { TIMESTAMP_TEXT_MAX = 32 };

/* Returns: 0 and *us since the Unix epoch; -1 when the text has another form or names no such time.
 * Does not check TIMESTAMP_MIN_US. */
must_use int timestamp_parse(struct slice text, int64_t *us);

/* Writes UTC with Z, six fraction digits unless they are all 0. Returns: the length. */
size_t timestamp_format(int64_t us, char text[TIMESTAMP_TEXT_MAX]);

#endif
