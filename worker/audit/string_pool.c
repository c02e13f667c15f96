#include "worker/audit/string_pool.h"

#include "common/ensure.h"

#include <stdlib.h>

enum { CHUNK_BYTES = 64 * 1024, TABLE_START = 1024 };

struct chunk {
	struct chunk *next;
	size_t used;
	size_t size;
	char data[];
};

struct string_pool {
	struct chunk *chunks;
	struct slice *table; /* open addressing; absent: free */
	size_t capacity;     /* a power of two, at most half full */
	size_t count;
};

struct string_pool *string_pool_new(void)
{
	struct string_pool *p = calloc(1, sizeof(*p));
	ENSURE(p);
	p->capacity = TABLE_START;
	p->table = calloc(p->capacity, sizeof(*p->table));
	ENSURE(p->table);
	return p;
}

void string_pool_free(struct string_pool *p)
{
	while (p->chunks) {
		struct chunk *c = p->chunks;
		p->chunks = c->next;
		free(c);
	}
	free(p->table);
	free(p);
}

static struct slice *find_place(struct slice *table, size_t capacity, struct slice text)
{
	size_t at = (size_t)slice_hash(text) & (capacity - 1);
	while (slice_present(table[at]) && !slice_equal(table[at], text))
		at = (at + 1) & (capacity - 1);
	return &table[at];
}

static void grow(struct string_pool *p)
{
	size_t capacity = p->capacity * 2;
	struct slice *table = calloc(capacity, sizeof(*table));
	ENSURE(table);
	for (size_t i = 0; i < p->capacity; i++)
		if (slice_present(p->table[i]))
			*find_place(table, capacity, p->table[i]) = p->table[i];
	free(p->table);
	p->table = table;
	p->capacity = capacity;
}

static char *take(struct string_pool *p, size_t len)
{
	if (!p->chunks || p->chunks->size - p->chunks->used < len) {
		size_t size = len > CHUNK_BYTES ? len : CHUNK_BYTES;
		struct chunk *c = malloc(sizeof(*c) + size);
		ENSURE(c);
		*c = (struct chunk){.next = p->chunks, .size = size};
		p->chunks = c;
	}
	char *start = p->chunks->data + p->chunks->used;
	p->chunks->used += len;
	return start;
}

struct slice string_pool_keep(struct string_pool *p, struct slice text)
{
	if (!slice_present(text))
		return text;
	struct slice *place = find_place(p->table, p->capacity, text);
	if (slice_present(*place))
		return *place;
	char *copy = take(p, text.len);
	memcpy(copy, text.data, text.len);
	*place = (struct slice){copy, text.len};
	struct slice kept = *place;
	if (++p->count * 2 > p->capacity)
		grow(p);
	return kept;
}
