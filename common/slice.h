/*
 * A borrowed run of bytes. Who lends it, and for how long, is said where the slice is handed over;
 * a slice is never freed. `data == NULL` means absent, which differs from empty.
 */
#ifndef COMMON_SLICE_H
#define COMMON_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const char *data;
	size_t len;
};

#define SLICE_LITERAL(text) ((struct slice){(text), sizeof(text) - 1})

static inline struct slice slice_of(const char *text)
{
	return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_present(struct slice s)
{
	return s.data != NULL;
}

/* Byte order, as `COLLATE "C"` has it; absent sorts before everything. */
static inline int slice_compare(struct slice a, struct slice b)
{
	if (!a.data || !b.data)
		return (a.data != NULL) - (b.data != NULL);
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && slice_compare(a, b) == 0;
}

/* How many of their first bytes two slices share. */
static inline size_t slice_common(struct slice a, struct slice b)
{
	size_t shorter = a.len < b.len ? a.len : b.len, i = 0;
	while (i < shorter && a.data[i] == b.data[i])
		i++;
	return i;
}

/*
 * The eight bytes from `at` on as a number that compares as they do: where two of these differ, so do the slices, in
 * the same direction, if they share what is before `at`. Where they are equal, slice_compare knows. To sort or search
 * many strings by them spares going to each string each time.
 */
static inline uint64_t slice_head(struct slice s, size_t at)
{
	unsigned char bytes[8] = {0};
	if (at < s.len)
		memcpy(bytes, s.data + at, s.len - at < sizeof(bytes) ? s.len - at : sizeof(bytes));
	uint64_t head = 0;
	for (size_t i = 0; i < sizeof(bytes); i++)
		head = head << 8 | bytes[i];
	return head;
}

/* FNV-1a, its halves folded so that the low bits are as good as the high ones. Whoever chooses the bytes can make
 * them collide: for tables where that costs time and no more. */
static inline uint64_t slice_hash(struct slice s)
{
	uint64_t hash = UINT64_C(14695981039346656037);
	for (size_t i = 0; i < s.len; i++)
		hash = (hash ^ (uint8_t)s.data[i]) * UINT64_C(1099511628211);
	return hash ^ hash >> 32;
}

#endif
