/*
 * What the fuzz targets share. Each target is one function over one input; what it says of the parser is in its
 * ENSUREs, and an input that breaks one ends the process, which libFuzzer reports with the input.
 * Inputs are text wherever the parser's are, so that a corpus can be read and written by hand.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "common/ensure.h"
#include "common/slice.h"
#include "schemas/event.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next line, without its newline; *rest is what follows. */
static inline struct slice fuzz_line(struct slice *rest)
{
	const char *end = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;
	struct slice line = {rest->data, end ? (size_t)(end - rest->data) : rest->len};
	size_t taken = end ? line.len + 1 : line.len;

	*rest = (struct slice){rest->data + taken, rest->len - taken};
	return line;
}

/* Lines up to an empty one as headers, "name=value"; one without '=' has no value. Returns: how many. */
static inline size_t fuzz_headers(struct slice *rest, struct header *headers, size_t max)
{
	size_t count = 0;

	while (rest->len > 0 && count < max) {
		struct slice line = fuzz_line(rest);
		const char *equals = line.len ? memchr(line.data, '=', line.len) : NULL;
		if (line.len == 0)
			break;
		headers[count++] = equals ? (struct header){{line.data, (size_t)(equals - line.data)},
							    {equals + 1, line.len - (size_t)(equals - line.data) - 1}}
					  : (struct header){line, {0}};
	}
	return count;
}

/* One line of printable ASCII that ends within `size`. */
static inline void fuzz_check_line(const char *text, size_t size, bool may_be_empty)
{
	size_t len = strnlen(text, size);

	ENSURE(len < size && (len > 0 || may_be_empty));
	for (size_t i = 0; i < len; i++)
		ENSURE(text[i] >= ' ' && text[i] <= '~');
}

static inline void fuzz_check_refusal(enum error_code code, const struct decode_error *error)
{
	ENSURE(error->code == code && error_code_name(code) && error_code_class(code));
	fuzz_check_line(error->field, sizeof(error->field), true);
	fuzz_check_line(error->message, sizeof(error->message), false);
}

#endif
