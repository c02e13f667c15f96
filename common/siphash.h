/*
 * SipHash-2-4 with 128 bits of output (Aumasson, Bernstein: "SipHash: a fast short-input PRF"), fed in
 * pieces: how the input is cut makes no difference.
 *
 *     struct siphash h;
 *     siphash_init(&h, key);
 *     siphash_update(&h, data, len);
 *     siphash_final(&h, digest);
 *
 * Thread: one at a time.
 */
#ifndef COMMON_SIPHASH_H
#define COMMON_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

enum { SIPHASH_KEY_BYTES = 16, SIPHASH_BYTES = 16 };

struct siphash {
	uint64_t v0, v1, v2, v3;
	uint64_t word; /* the bytes that wait for a full word, first in the lowest */
	uint64_t len;  /* bytes fed so far */
};

void siphash_init(struct siphash *h, const uint8_t key[SIPHASH_KEY_BYTES]);
void siphash_update(struct siphash *h, const void *data, size_t len);
void siphash_final(struct siphash *h, uint8_t digest[SIPHASH_BYTES]);

#endif
