#include "worker/ledger/fingerprint.h"

#include <endian.h>
#include <string.h>

/* Odd, of random digits. */
#define MIX_A UINT64_C(0x9d3c85b1f0a6e247)
#define MIX_B UINT64_C(0x6b1f4ce3972d80a5)
#define MIX_C UINT64_C(0xd1a7293f584eb06d)

/* Both halves of the product, so that every bit of either factor moves every bit of the result. */
static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t read64(const char *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof(word));
	return le64toh(word);
}

/* The length goes in first, so a shorter text padded with zeros is another one. */
static uint64_t mix(uint64_t hash, struct slice s)
{
	hash = fold(hash ^ MIX_A, (slice_present(s) ? (uint64_t)s.len + 1 : 0) ^ MIX_B);
	const char *at = s.data;
	size_t left = s.len;
	for (; left >= 16; at += 16, left -= 16)
		hash = fold(read64(at) ^ MIX_B, read64(at + 8) ^ hash);
	char rest[16] = {0};
	if (left)
		memcpy(rest, at, left);
	return fold(read64(rest) ^ MIX_C, read64(rest + 8) ^ hash);
}

uint64_t fingerprint_hash(struct slice key, struct slice value)
{
	return mix(mix(MIX_C, key), value);
}

bool fingerprint_matches(const struct fingerprint *a, const struct fingerprint *b)
{
	bool both_timed = a->time_ms >= 0 && b->time_ms >= 0;
	return a->exists && b->exists && a->offset == b->offset && a->hash == b->hash && (!both_timed || a->time_ms == b->time_ms);
}
