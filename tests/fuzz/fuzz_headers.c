/* CloudEvents headers. Input: headers, a line each; an empty line; the value (none: one without id and source). */
#include "tests/fuzz/event_check.h"
#include "tests/fuzz/fuzz.h"

enum { HEADERS_MAX = 32 };

static struct event_decoder *decoder, *other;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	event_setup();
	decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	other = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	return 0;
}

/* The header that counts stands in for the member, or equals it. */
static void check_attribute(const struct header *headers, size_t count, const char *name, struct slice bare,
			    struct slice e)
{
	struct slice last = {0};
	for (size_t i = 0; i < count; i++)
		last = slice_equal(headers[i].name, slice_of(name)) ? headers[i].value : last;
	ENSURE(slice_equal(e, slice_present(last) ? last : bare));
	ENSURE(!slice_present(last) || !slice_present(bare) || slice_equal(last, bare));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *plain = "{\"order_id\":\"o\",\"status\":\"created\",\"timestamp\":\"2026-01-01T00:00:00Z\"}";
	struct slice value = {(const char *)data, size};
	struct header headers[HEADERS_MAX];
	struct decode_error error, bare_error;
	struct event event, bare;

	size_t count = fuzz_headers(&value, headers, HEADERS_MAX);
	if (value.len == 0)
		value = slice_of(plain);
	enum error_code code = event_decode(decoder, value, headers, count, -1, &event, &error);
	enum error_code bare_code = event_decode(other, value, NULL, 0, -1, &bare, &bare_error);
	ENSURE(bare_code == ERROR_NONE || code == bare_code);
	if (code != ERROR_NONE)
		return fuzz_check_refusal(code, &error), 0;
	check_attribute(headers, count, "ce_id", bare.event_id, event.event_id);
	check_attribute(headers, count, "ce_source", bare.source, event.source);
	event_check(&event, -1, other);
	return 0;
}
