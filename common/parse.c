#include "common/parse.h"

struct suffix {
	const char *name;
	int64_t factor;
};

bool parse_int64(struct slice text, int64_t *out)
{
	bool negative = text.len > 0 && text.data[0] == '-';
	int64_t value = 0;

	if (text.len == (size_t)negative)
		return false;
	for (size_t i = negative; i < text.len; i++) {
		char c = text.data[i];
		if (c < '0' || c > '9')
			return false;
		int digit = c - '0';
		/* Downwards for negative numbers: INT64_MIN has no positive counterpart. */
		if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
		    __builtin_add_overflow(value, (int64_t)(negative ? -digit : digit), &value))
			return false;
	}
	if (negative && value == 0)
		return false;
	*out = value;
	return true;
}

bool parse_int64_within(struct slice text, int64_t min, int64_t max, int64_t *out)
{
	int64_t value;

	if (!parse_int64(text, &value) || value < min || value > max)
		return false;
	*out = value;
	return true;
}

/* *out is the number times its suffix's factor; `bare` is the factor of a number without one. */
static bool parse_suffixed(struct slice text, const struct suffix *suffixes, int64_t bare, int64_t *out)
{
	size_t digits = 0;
	int64_t factor = bare;
	int64_t value;

	while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9')
		digits++;
	if (digits < text.len) {
		struct slice name = {text.data + digits, text.len - digits};
		while (suffixes->name && !slice_equal(name, slice_of(suffixes->name)))
			suffixes++;
		if (!suffixes->name)
			return false;
		factor = suffixes->factor;
	}
	if (!parse_int64((struct slice){text.data, digits}, &value) || __builtin_mul_overflow(value, factor, &value))
		return false;
	*out = value;
	return true;
}

bool parse_duration(struct slice text, int64_t unit_ms, int64_t *out)
{
	static const struct suffix suffixes[] = {
		{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {"d", 24 * 60 * 60 * 1000}, {NULL, 0},
	};
	int64_t ms;

	if (!parse_suffixed(text, suffixes, unit_ms, &ms) || ms % unit_ms != 0)
		return false;
	*out = ms / unit_ms;
	return true;
}

bool parse_bytes(struct slice text, int64_t *out)
{
	static const struct suffix suffixes[] = {{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {NULL, 0}};

	return parse_suffixed(text, suffixes, 1, out);
}

bool parse_host_port(struct slice text, struct slice *host, uint16_t *port)
{
	const char *colon = text.len ? memrchr(text.data, ':', text.len) : NULL;
	int64_t number;

	if (!colon)
		return false;
	struct slice name = {text.data, (size_t)(colon - text.data)};
	struct slice digits = {colon + 1, text.len - name.len - 1};
	if (name.len > 2 && name.data[0] == '[' && name.data[name.len - 1] == ']')
		name = (struct slice){name.data + 1, name.len - 2};
	else if (name.len == 0 || name.data[0] == '[' || memchr(name.data, ':', name.len))
		return false;
	if (!parse_int64_within(digits, 0, UINT16_MAX, &number))
		return false;
	*host = name;
	*port = (uint16_t)number;
	return true;
}
