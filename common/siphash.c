#include "common/siphash.h"

#include <endian.h>
#include <string.h>

enum { BLOCK_ROUNDS = 2, FINAL_ROUNDS = 4 };

static inline uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline uint64_t load(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return le64toh(word);
}

static inline void store(uint8_t *bytes, uint64_t word)
{
	word = htole64(word);
	memcpy(bytes, &word, sizeof(word));
}

static inline void mix(struct siphash *h, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		h->v0 += h->v1;
		h->v2 += h->v3;
		h->v1 = rotate(h->v1, 13) ^ h->v0;
		h->v3 = rotate(h->v3, 16) ^ h->v2;
		h->v0 = rotate(h->v0, 32) + h->v3;
		h->v2 += h->v1;
		h->v3 = rotate(h->v3, 21) ^ h->v0;
		h->v1 = rotate(h->v1, 17) ^ h->v2;
		h->v2 = rotate(h->v2, 32);
	}
}

static inline void absorb(struct siphash *h, uint64_t word)
{
	h->v3 ^= word;
	mix(h, BLOCK_ROUNDS);
	h->v0 ^= word;
}

void siphash_init(struct siphash *h, const uint8_t key[SIPHASH_KEY_BYTES])
{
	uint64_t k0 = load(key), k1 = load(key + 8);

	/* "somepseudorandomlygeneratedbytes"; 0xee marks the 128-bit variant. */
	*h = (struct siphash){
		.v0 = k0 ^ UINT64_C(0x736f6d6570736575),
		.v1 = k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee,
		.v2 = k0 ^ UINT64_C(0x6c7967656e657261),
		.v3 = k1 ^ UINT64_C(0x7465646279746573),
	};
}

void siphash_update(struct siphash *h, const void *data, size_t len)
{
	struct siphash s = *h; /* a copy that stays in registers */
	const uint8_t *bytes = data;
	const uint8_t *end = bytes + len;
	unsigned waiting = (unsigned)(s.len % 8);

	s.len += len;
	if (waiting) {
		for (; bytes < end && waiting < 8; bytes++, waiting++)
			s.word |= (uint64_t)*bytes << 8 * waiting;
		if (waiting < 8) {
			*h = s;
			return;
		}
		absorb(&s, s.word);
		s.word = 0;
	}
	for (; end - bytes >= 8; bytes += 8)
		absorb(&s, load(bytes));
	for (waiting = 0; bytes < end; bytes++, waiting++)
		s.word |= (uint64_t)*bytes << 8 * waiting;
	*h = s;
}

void siphash_final(struct siphash *h, uint8_t digest[SIPHASH_BYTES])
{
	absorb(h, h->word | h->len << 56);
	h->v2 ^= 0xee;
	mix(h, FINAL_ROUNDS);
	store(digest, h->v0 ^ h->v1 ^ h->v2 ^ h->v3);
	h->v1 ^= 0xdd;
	mix(h, FINAL_ROUNDS);
	store(digest + 8, h->v0 ^ h->v1 ^ h->v2 ^ h->v3);
}
