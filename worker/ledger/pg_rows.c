#include "worker/ledger/pg_internal.h"

#include <stdlib.h>

enum { OID_OID = 26, OID_TID = 27, OID_TID_ARRAY = 1010, OID_TIMESTAMPTZ = 1184, FORMAT_BINARY = 1 };
/* Of a binary array: what comes before the elements, each of which has its length before it. */
enum { ARRAY_HEADER = 5 * 4, TID_BYTES = 6 };

#define PG_EPOCH_US INT64_C(946684800000000)

struct pg_rows *pg_rows_new(PGresult *result)
{
	struct pg_rows *r = malloc(sizeof(*r));
	ENSURE(r);
	r->result = result;
	return r;
}

void pg_rows_free(struct pg_rows *r)
{
	if (!r)
		return;
	PQclear(r->result);
	free(r);
}

size_t pg_rows_count(const struct pg_rows *r)
{
	return (size_t)PQntuples(r->result);
}

/* libpq prints a warning and answers "" or NULL for a cell outside the table: our bug. */
static void ensure_cell(const struct pg_rows *r, size_t row, int column)
{
	ENSURE(row < (size_t)PQntuples(r->result) && column >= 0 && column < PQnfields(r->result));
}

bool pg_null(const struct pg_rows *r, size_t row, int column)
{
	ensure_cell(r, row, column);
	return PQgetisnull(r->result, (int)row, column);
}

struct slice pg_text(const struct pg_rows *r, size_t row, int column)
{
	if (pg_null(r, row, column))
		return (struct slice){0};
	return (struct slice){PQgetvalue(r->result, (int)row, column), (size_t)PQgetlength(r->result, (int)row, column)};
}

/* Big-endian, two's complement, of 1, 2, 4 or 8 bytes. */
static int64_t load_integer(const char *data, int length)
{
	uint64_t value = (data[0] & 0x80) && length > 1 ? UINT64_MAX : 0;
	for (int i = 0; i < length; i++)
		value = value << 8 | (uint8_t)data[i];
	return (int64_t)value;
}

int64_t pg_integer(const struct pg_rows *r, size_t row, int column)
{
	ENSURE(!pg_null(r, row, column) && PQfformat(r->result, column) == FORMAT_BINARY);
	int length = PQgetlength(r->result, (int)row, column);
	ENSURE(length == 1 || length == 2 || length == 4 || length == 8);
	int64_t value = load_integer(PQgetvalue(r->result, (int)row, column), length);
	return PQftype(r->result, column) == OID_OID ? (int64_t)(uint32_t)value : value;
}

int64_t pg_time(const struct pg_rows *r, size_t row, int column)
{
	ENSURE(PQftype(r->result, column) == OID_TIMESTAMPTZ);
	int64_t value = pg_integer(r, row, column);
	/* 'infinity' and '-infinity' are the extremes; none of ours writes them, an operator may. */
	if (value == INT64_MAX || value == INT64_MIN || value > INT64_MAX - PG_EPOCH_US)
		return value;
	return value + PG_EPOCH_US;
}

static uint64_t load_tid(const char *data)
{
	uint64_t tid = 0;
	for (int i = 0; i < TID_BYTES; i++)
		tid = tid << 8 | (uint8_t)data[i];
	return tid;
}

uint64_t pg_tid(const struct pg_rows *r, size_t row, int column)
{
	struct slice tid = pg_text(r, row, column);
	ENSURE(PQftype(r->result, column) == OID_TID && tid.len == TID_BYTES);
	return load_tid(tid.data);
}

size_t pg_tids(const struct pg_rows *r, size_t row, int column, uint64_t *out, size_t max)
{
	struct slice array = pg_text(r, row, column);
	ENSURE(PQftype(r->result, column) == OID_TID_ARRAY);
	if (array.len <= ARRAY_HEADER) /* absent, or without a dimension */
		return 0;
	size_t count = (array.len - ARRAY_HEADER) / (4 + TID_BYTES);
	ENSURE(array.len == ARRAY_HEADER + count * (4 + TID_BYTES));
	for (size_t i = 0; i < count && i < max; i++)
		out[i] = load_tid(array.data + ARRAY_HEADER + i * (4 + TID_BYTES) + 4);
	return count;
}
