#include "worker/ledger/pg_internal.h"

#include <stdlib.h>

/* Types of parameters that are not arrays, and of the arrays (pg_type.dat of PostgreSQL; fixed for ever). */
enum { OID_INT8 = 20, OID_TEXT = 25 };
enum { ARRAY_INT2 = 1005, ARRAY_INT4 = 1007, ARRAY_TEXT = 1009, ARRAY_TID = 1010, ARRAY_INT8 = 1016,
       ARRAY_TIMESTAMPTZ = 1185, ARRAY_NUMERIC = 1231 };

/* Binary array: dimensions, "has nulls", element type, then per dimension its length and lower bound. */
enum { ARRAY_HEADER = 5 * 4, ARRAY_HEADER_EMPTY = 3 * 4 };

/* PostgreSQL counts time from 2000-01-01. */
#define PG_EPOCH_US INT64_C(946684800000000)

static void put_16(struct buf *b, unsigned value)
{
	const uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
	buf_append(b, bytes, sizeof(bytes));
}

static void store_32(char *at, uint32_t value)
{
	const uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
	memcpy(at, bytes, sizeof(bytes));
}

static void put_32(struct buf *b, uint32_t value)
{
	char bytes[4];
	store_32(bytes, value);
	buf_append(b, bytes, sizeof(bytes));
}

static void put_64(struct buf *b, uint64_t value)
{
	char bytes[8];
	store_32(bytes, (uint32_t)(value >> 32));
	store_32(bytes + 4, (uint32_t)value);
	buf_append(b, bytes, sizeof(bytes));
}

struct pg_params *pg_params_new(void)
{
	struct pg_params *p = calloc(1, sizeof(*p));
	ENSURE(p);
	return p;
}

void pg_params_free(struct pg_params *p)
{
	if (!p)
		return;
	buf_release(&p->data);
	free(p);
}

void pg_params_clear(struct pg_params *p)
{
	buf_clear(&p->data);
	p->count = 0;
	p->array_type = 0;
}

/* Begins a parameter at the end of the data; its length is set by param_end. */
static void param_begin(struct pg_params *p, Oid type)
{
	ENSURE(p->count < PG_PARAMS_MAX && p->array_type == 0);
	p->offsets[p->count] = p->data.len;
	p->types[p->count] = type;
	p->lengths[p->count] = -1;
}

static void param_end(struct pg_params *p)
{
	size_t length = p->data.len - p->offsets[p->count];
	ENSURE(length <= INT32_MAX);
	p->lengths[p->count++] = (int)length;
}

void pg_put_text(struct pg_params *p, struct slice value)
{
	param_begin(p, OID_TEXT);
	if (!slice_present(value)) {
		p->count++;
		return;
	}
	buf_append(&p->data, value.data, value.len);
	param_end(p);
}

void pg_put_int8(struct pg_params *p, int64_t value)
{
	param_begin(p, OID_INT8);
	put_64(&p->data, (uint64_t)value);
	param_end(p);
}

static Oid array_of(enum pg_type type)
{
	switch (type) {
	case PG_TEXT:
		return ARRAY_TEXT;
	case PG_INT2:
		return ARRAY_INT2;
	case PG_INT4:
		return ARRAY_INT4;
	case PG_INT8:
		return ARRAY_INT8;
	case PG_TID:
		return ARRAY_TID;
	case PG_TIMESTAMPTZ:
		return ARRAY_TIMESTAMPTZ;
	case PG_NUMERIC:
		return ARRAY_NUMERIC;
	}
	UNREACHABLE("type of an array");
}

void pg_array_begin(struct pg_params *p, enum pg_type type)
{
	static const char header[ARRAY_HEADER] = {0}; /* written by pg_array_end, when all of it is known */
	param_begin(p, array_of(type));
	p->array_type = type;
	p->array_count = 0;
	p->array_has_null = false;
	buf_append(&p->data, header, sizeof(header));
}

void pg_array_null(struct pg_params *p)
{
	ENSURE(p->array_type != 0);
	p->array_has_null = true;
	p->array_count++;
	put_32(&p->data, UINT32_MAX);
}

void pg_array_text(struct pg_params *p, struct slice value)
{
	ENSURE(p->array_type == PG_TEXT && value.len <= INT32_MAX);
	if (!slice_present(value)) {
		pg_array_null(p);
		return;
	}
	p->array_count++;
	put_32(&p->data, (uint32_t)value.len);
	buf_append(&p->data, value.data, value.len);
}

void pg_array_integer(struct pg_params *p, int64_t value)
{
	p->array_count++;
	switch (p->array_type) {
	case PG_INT2:
		ENSURE(value >= INT16_MIN && value <= INT16_MAX);
		put_32(&p->data, 2);
		put_16(&p->data, (unsigned)value);
		return;
	case PG_INT4:
		ENSURE(value >= INT32_MIN && value <= INT32_MAX);
		put_32(&p->data, 4);
		put_32(&p->data, (uint32_t)value);
		return;
	case PG_INT8:
		put_32(&p->data, 8);
		put_64(&p->data, (uint64_t)value);
		return;
	default:
		UNREACHABLE("an integer in an array of another type");
	}
}

void pg_array_tid(struct pg_params *p, uint64_t tid)
{
	ENSURE(p->array_type == PG_TID && tid >> 48 == 0);
	p->array_count++;
	put_32(&p->data, 6);
	put_32(&p->data, (uint32_t)(tid >> 16));
	put_16(&p->data, (unsigned)(tid & UINT16_MAX));
}

void pg_array_time(struct pg_params *p, int64_t unix_us)
{
	ENSURE(p->array_type == PG_TIMESTAMPTZ && unix_us >= INT64_MIN + PG_EPOCH_US);
	p->array_count++;
	put_32(&p->data, 8);
	put_64(&p->data, (uint64_t)(unix_us - PG_EPOCH_US));
}

/* Binary numeric: number of digits, weight of the first, sign, decimals, then digits to the base 10,000. */
void pg_array_sum(struct pg_params *p, __int128 value)
{
	ENSURE(p->array_type == PG_NUMERIC && value >= 0);
	unsigned digits[10]; /* 10,000^10 > 2^127 */
	int count = 0;
	for (; value > 0; value /= 10000)
		digits[count++] = (unsigned)(value % 10000);
	p->array_count++;
	put_32(&p->data, (uint32_t)(8 + 2 * count));
	put_16(&p->data, (unsigned)count);
	put_16(&p->data, (unsigned)(count ? count - 1 : 0));
	put_16(&p->data, 0);
	put_16(&p->data, 0);
	while (count > 0)
		put_16(&p->data, digits[--count]);
}

void pg_array_end(struct pg_params *p)
{
	ENSURE(p->array_type != 0);
	char *header = p->data.data + p->offsets[p->count];
	bool empty = p->array_count == 0;
	store_32(header, empty ? 0 : 1);
	store_32(header + 4, p->array_has_null);
	store_32(header + 8, p->array_type);
	store_32(header + 12, (uint32_t)p->array_count);
	store_32(header + 16, 1);
	if (empty) /* no dimension, so no length and bound of one */
		p->data.len -= ARRAY_HEADER - ARRAY_HEADER_EMPTY;
	p->array_type = 0;
	param_end(p);
}
