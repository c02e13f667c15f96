/*
 * Numbers and addresses written by people: whole text or nothing. No sign but one '-' where negative values make
 * sense to the caller's bounds, no spaces, no octal, no exponent, no overflow.
 * Thread: any. Returns: false, with *out untouched, for anything else.
 */
#ifndef COMMON_PARSE_H
#define COMMON_PARSE_H

#include "common/ensure.h"
#include "common/slice.h"

#include <stdint.h>

/* Decimal digits, "-" before them allowed; "-0" is not. */
must_use bool parse_int64(struct slice text, int64_t *out);

/* The same, and between `min` and `max`. */
must_use bool parse_int64_within(struct slice text, int64_t min, int64_t max, int64_t *out);

/*
 * Digits and one of ms, s, m, h, d; without a suffix in units of `unit_ms`, in which *out is, too.
 * What is no whole number of units ("1500ms" in seconds) is refused, as is a sign.
 */
must_use bool parse_duration(struct slice text, int64_t unit_ms, int64_t *out);

/* Digits and one of k, m, g (powers of 1,024) or nothing. Units: bytes. */
must_use bool parse_bytes(struct slice text, int64_t *out);

/* "host:port" and "[host]:port", without the brackets in *host, a piece of `text`; a bare host has no ':'. */
must_use bool parse_host_port(struct slice text, struct slice *host, uint16_t *port);

#endif
