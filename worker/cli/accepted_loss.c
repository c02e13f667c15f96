#include "worker/cli/accepted_loss.h"

#include "common/parse.h"

#include <stdlib.h>

/* A topic's name has no colon, but the first two colons from the right are found without relying on it. */
bool accepted_loss_parse(const char *text, struct accepted_loss *loss)
{
	const char *range = strrchr(text, ':');
	if (!range && *text) {
		*loss = (struct accepted_loss){.topic = strdup(text), .partition = -1};
		ENSURE(loss->topic);
		return true;
	}
	const char *partition = range ? memrchr(text, ':', (size_t)(range - text)) : NULL;
	const char *dash = range ? strchr(range, '-') : NULL;
	if (!partition || partition == text || !dash)
		return false;
	struct slice number = {partition + 1, (size_t)(range - partition - 1)};
	struct slice first = {range + 1, (size_t)(dash - range - 1)};
	struct accepted_loss parsed;
	int64_t n;
	if (!parse_int64_within(number, 0, INT32_MAX, &n) ||
	    !parse_int64_within(first, 0, INT64_MAX, &parsed.range.from) ||
	    !parse_int64_within(slice_of(dash + 1), parsed.range.from, INT64_MAX, &parsed.range.to))
		return false;
	parsed.partition = (int32_t)n;
	parsed.topic = strndup(text, (size_t)(partition - text));
	ENSURE(parsed.topic);
	*loss = parsed;
	return true;
}

/* What can be told to be wrong before anything was asked. Whether it is what was found, the database says. */
static int check(const struct losses *l, struct cli *cli, const char *value)
{
	const struct accepted_loss *loss = &l->items[l->count];
	const char *topic = cli->options->kafka_topic, *deferred = cli->options->kafka_deferred_topic;
	if (strcmp(loss->topic, topic) != 0 && strcmp(loss->topic, deferred) != 0)
		return cli_fail(cli, EXIT_USAGE, "--accept-loss %s: the topics that are consumed are %s and %s", value, topic,
		                deferred);
	if (loss->partition >= 0 && loss->range.from == loss->range.to)
		return cli_fail(cli, EXIT_USAGE, "--accept-loss %s: nothing is lost from FROM to TO, which is not lost itself",
		                value);
	for (size_t i = 0; i < l->count; i++)
		if (l->items[i].partition == loss->partition && strcmp(l->items[i].topic, loss->topic) == 0)
			return cli_fail(cli, EXIT_USAGE, "--accept-loss %s: %s is given twice", value,
			                loss->partition < 0 ? "the topic" : "the partition");
	return EXIT_FINE;
}

int losses_take(struct losses *l, struct cli *cli)
{
	const char *value;
	int code = EXIT_FINE;
	for (l->count = 0; code == EXIT_FINE && (value = cli_next_value(cli, "accept-loss")); l->count++) {
		if (l->count == LOSSES_MAX)
			return cli_fail(cli, EXIT_USAGE, "--accept-loss is given more than %d times", LOSSES_MAX);
		if (!accepted_loss_parse(value, &l->items[l->count]))
			return cli_fail(cli, EXIT_USAGE, "--accept-loss %s: not TOPIC:PARTITION:FROM-TO, nor TOPIC alone", value);
		code = check(l, cli, value);
	}
	if (code != EXIT_FINE)
		return code;
	if (cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "unexpected argument '%s'", cli->argv[1]);
	return EXIT_FINE;
}

void losses_release(struct losses *l)
{
	while (l->count > 0)
		free((char *)l->items[--l->count].topic);
}
