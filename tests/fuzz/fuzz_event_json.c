/* A record against jansson's own reading of the same text (json_reading.h). Input: as fuzz_event's. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/json_reading.h"

static struct event_decoder *decoder;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	event_setup();
	decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	return 0;
}

/* What the contract refuses although jansson takes it, or the same whatever jansson says. */
static enum error_code refused_anyway(struct slice value)
{
	if (value.len > EVENT_BYTES_MAX)
		return ERROR_TOO_LARGE;
	return value.len == 0 || memchr(value.data, '\0', value.len) ? ERROR_NOT_JSON : ERROR_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice value = {(const char *)data, size};
	struct decode_error error;
	struct event event;
	json_error_t cause;

	fuzz_line(&value);
	enum error_code code = event_decode(decoder, value, NULL, 0, -1, &event, &error);
	enum error_code anyway = refused_anyway(value);
	json_t *root = json_loadb(value.data, value.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &cause);
	if (anyway)
		ENSURE(code == anyway);
	else if (!root) /* a broken text may be too deep as well */
		ENSURE(code == json_reading_code(&cause) || code == ERROR_TOO_DEEP);
	else if (json_reading_depth(root) > EVENT_DEPTH_MAX)
		ENSURE(code == ERROR_TOO_DEEP);
	else if (!json_is_object(root))
		ENSURE(code == ERROR_NOT_OBJECT);
	else if (code == ERROR_NONE)
		ENSURE(json_reading_agrees(root, &event));
	else
		ENSURE(strcmp(error_code_class(code), "invalid") == 0);
	json_decref(root);
	return 0;
}
