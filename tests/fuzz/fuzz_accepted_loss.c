/* The value of --accept-loss. Input: the text. */
#include "tests/fuzz/fuzz.h"

#include "worker/cli/accepted_loss.h"

#include <inttypes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *written = NULL;
	struct accepted_loss loss = {.partition = -5}, again;

	bool parsed = accepted_loss_parse(text, &loss);
	if (parsed && loss.partition == -1) {
		ENSURE(*text && strcmp(text, loss.topic) == 0 && !strchr(text, ':'));
	} else if (parsed) {
		ENSURE(loss.topic[0] && loss.partition >= 0 && loss.range.from >= 0 &&
		       loss.range.to >= loss.range.from);
		ENSURE(strncmp(text, loss.topic, strlen(loss.topic)) == 0 && text[strlen(loss.topic)] == ':');
		ENSURE(asprintf(&written, "%s:%d:%" PRId64 "-%" PRId64, loss.topic, loss.partition, loss.range.from,
				loss.range.to) > 0);
		ENSURE(accepted_loss_parse(written, &again) && strcmp(loss.topic, again.topic) == 0);
		ENSURE(loss.partition == again.partition && loss.range.from == again.range.from &&
		       loss.range.to == again.range.to);
		free((char *)again.topic);
	} else {
		ENSURE(loss.partition == -5 && !loss.topic);
	}
	free((char *)loss.topic);
	free(written);
	return free(text), 0;
}
