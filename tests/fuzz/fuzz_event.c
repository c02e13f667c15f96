/* A record, against itself. Input: the record's time in ms on the first line ("-": none), then the value. */
#include "tests/fuzz/event_check.h"
#include "tests/fuzz/fuzz.h"

#include "common/parse.h"

static struct event_decoder *lenient, *again, *strict;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	event_setup();
	lenient = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	again = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	strict = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = true});
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice value = {(const char *)data, size};
	struct decode_error error, second;
	struct event event, other;
	int64_t time_ms;
	int64_t time_us = parse_int64_within(fuzz_line(&value), 0, INT64_MAX / 1000, &time_ms) ? time_ms * 1000 : -1;

	enum error_code code = event_decode(lenient, value, NULL, 0, time_us, &event, &error);
	enum error_code same = event_decode(again, value, NULL, 0, time_us, &other, &second);
	ENSURE(code == same);
	if (code != ERROR_NONE) {
		fuzz_check_refusal(code, &error);
		ENSURE(strcmp(error.message, second.message) == 0 && strcmp(error.field, second.field) == 0);
		return 0;
	}
	ENSURE(event_equal(&event, &other) && event.unknown_members == other.unknown_members);
	code = event_decode(strict, value, NULL, 0, time_us, &other, &error);
	ENSURE(code == (event.unknown_members ? ERROR_UNKNOWN_FIELD : ERROR_NONE));
	event_check(&event, time_us, again);
	return 0;
}
