/* SHA-256 (FIPS 180-4). Used where a value is too large to be kept: its name must be one that anyone can
 * compute. Not on any hot path. Thread: any. */
#ifndef COMMON_SHA256_H
#define COMMON_SHA256_H

#include "common/slice.h"

#include <stdint.h>

enum { SHA256_BYTES = 32 };

void sha256(struct slice data, uint8_t digest[SHA256_BYTES]);

#endif
