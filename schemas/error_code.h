/*
 * Why a record is dead-lettered: the codes and classes of the contract for publishers.
 * One row a code; names, classes and metric labels come from here.
 */
#ifndef SCHEMAS_ERROR_CODE_H
#define SCHEMAS_ERROR_CODE_H

/* X(symbol, name, class) */
#define ERROR_CODES(X) \
	X(TOMBSTONE, "tombstone", "malformed")                 /* null value */ \
	X(TOO_LARGE, "too_large", "malformed")                 /* value over 64 KiB */ \
	X(NOT_JSON, "not_json", "malformed")                   /* syntax, empty, BOM, U+0000, lone surrogate, trailing bytes */ \
	X(INVALID_UTF8, "invalid_utf8", "malformed")           /* bytes that are not UTF-8 */ \
	X(TOO_DEEP, "too_deep", "malformed")                   /* nesting over 8 */ \
	X(DUPLICATE_MEMBER, "duplicate_member", "malformed")   /* a name twice in one object */ \
	X(NOT_OBJECT, "not_object", "malformed")               /* JSON, but no object */ \
	X(MISSING_FIELD, "missing_field", "invalid")           /* required member absent */ \
	X(WRONG_TYPE, "wrong_type", "invalid")                 /* member of another JSON type, null included */ \
	X(BAD_FORMAT, "bad_format", "invalid")                 /* alphabet, pattern, no such date or time */ \
	X(OUT_OF_RANGE, "out_of_range", "invalid")             /* length, bounds, year, number beyond int64 or double */ \
	X(UNKNOWN_STATUS, "unknown_status", "invalid")         /* none of the twelve */ \
	X(UNKNOWN_FIELD, "unknown_field", "invalid")           /* only where the option refuses them */ \
	X(UNSUPPORTED_VERSION, "unsupported_version", "invalid") /* schema_version other than 1 */ \
	X(ENVELOPE_MISMATCH, "envelope_mismatch", "invalid")   /* ce_* header and member differ */ \
	X(ORDER_CONFLICT, "order_conflict", "conflict")        /* another customer, partner or currency than the order's */ \
	X(DATABASE_REJECTED, "database_rejected", "database")  /* SQLSTATE class 22 or 23 by this record alone */

enum error_code {
	ERROR_NONE,
#define ERROR_ENUM(symbol, name, class) ERROR_##symbol,
	ERROR_CODES(ERROR_ENUM)
#undef ERROR_ENUM
	ERROR_CODE_COUNT
};

const char *error_code_name(enum error_code code);
const char *error_code_class(enum error_code code);

#endif
