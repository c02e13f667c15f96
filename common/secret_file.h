/*
 * A secret that stands in a file: its content, less one newline at the end. Files change when secrets are rotated, so
 * whoever connects reads anew.
 * Thread: any.
 */
#ifndef COMMON_SECRET_FILE_H
#define COMMON_SECRET_FILE_H

#include "common/buf.h"
#include "common/ensure.h"

/* Returns: 0 with the secret appended to `out`; else an errno, EFBIG beyond `bytes_max`. */
must_use int secret_file_read(const char *path, size_t bytes_max, struct buf *out);
/* Releases it, with nothing left in memory. */
void secret_release(struct buf *secret);

#endif
