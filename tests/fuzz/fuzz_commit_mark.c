/* The metadata of a commit. Input: the text; its first bytes as a mark, too. */
#include "tests/fuzz/fuzz.h"

#include "worker/ledger/start_rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), written[COMMIT_MARK_TEXT_MAX];
	struct commit_mark mark, back;

	/* A mark of this release has one spelling: any other text is an operator's, or a later release's. */
	if (commit_mark_parse(text, &mark) && strncmp(text, "dw1 ", 4) == 0) {
		commit_mark_format(&mark, written);
		ENSURE(strcmp(written, text) == 0);
	}
	if (size >= sizeof(mark)) {
		memcpy(&mark, data, sizeof(mark));
		mark.cluster.text[sizeof(mark.cluster.text) - 1] = '\0';
		mark.cluster = cluster_id_of(strdupa(mark.cluster.text));
		commit_mark_format(&mark, written);
		ENSURE(strnlen(written, sizeof(written)) < sizeof(written) && commit_mark_parse(written, &back));
		ENSURE(history_epoch_equal(&mark.epoch, &back.epoch) && mark.lsn == back.lsn &&
		       strcmp(mark.cluster.text, back.cluster.text) == 0);
	}
	free(text);
	return 0;
}
