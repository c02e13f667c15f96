/*
 * A reproducible stream of numbers for generated data and tests: xoshiro256**, seeded by splitmix64. Not for
 * secrets. The same seed gives the same stream on every machine and in every version.
 * Thread: one at a time.
 */
#ifndef COMMON_PRNG_H
#define COMMON_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
	uint64_t state[4];
};

/* A bijection: different numbers stay different. */
static inline uint64_t prng_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline struct prng prng_of(uint64_t seed)
{
	struct prng p;
	for (int i = 0; i < 4; i++)
		p.state[i] = prng_mix(seed + (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15));
	return p;
}

static inline uint64_t prng_rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline uint64_t prng_next(struct prng *p)
{
	uint64_t *s = p->state;
	uint64_t result = prng_rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = prng_rotate(s[3], 45);
	return result;
}

/* Uniform in [0, n), n >= 1; the bias is below n / 2^64. */
static inline uint64_t prng_below(struct prng *p, uint64_t n)
{
	return prng_next(p) % n;
}

static inline bool prng_percent(struct prng *p, unsigned percent)
{
	return prng_below(p, 100) < percent;
}

/* The same with hundredths of a percent: whole percents take the same draws of a stream alike in both. */
static inline bool prng_basis_points(struct prng *p, unsigned basis_points)
{
	uint64_t draw = prng_next(p);
	return draw % 100 * 100 + draw / 100 % 100 < basis_points;
}

/* In [0, n), n >= 1: each doubling of the rank is about as frequent as the one before, as in Zipf's law. */
static inline uint64_t prng_zipf(struct prng *p, uint64_t n)
{
	unsigned octaves = 64 - (unsigned)__builtin_clzll(n);
	for (;;) {
		uint64_t low = UINT64_C(1) << prng_below(p, octaves);
		uint64_t rank = low + prng_below(p, low) - 1;
		if (rank < n)
			return rank;
	}
}

#endif
