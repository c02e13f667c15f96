/*
 * Small files read whole: configuration, secrets, rules.
 * Thread: any.
 */
#ifndef COMMON_WHOLE_FILE_H
#define COMMON_WHOLE_FILE_H

#include "common/buf.h"
#include "common/ensure.h"

/* Appends the content of `path`. Returns: 0; else an errno, EFBIG beyond `bytes_max`; `out` may have grown. */
must_use int whole_file_read(const char *path, size_t bytes_max, struct buf *out);

#endif
