#include "worker/cli/topic_scan.h"

#include "common/parse.h"

#include <inttypes.h>

/* As `lag` has it: long enough for a slow first connection, short enough for a person. */
enum { ANSWER_MS = 10000, IDLE_MS = 10000 };

static int fail(const struct cli *cli, const struct kafka_admin *a, enum kafka_answer answer)
{
	/* A topic that is not there, or not for us, is a dependency that can't be had, as `lag` and `produce` have it. */
	int code = answer == KAFKA_DAMAGED ? EXIT_FOUND_WRONG : EXIT_UNAVAILABLE;
	return cli_fail(cli, code, "Kafka: %s", kafka_admin_error(a));
}

int topic_scan_open(const struct cli *cli, struct kafka_admin **out)
{
	char error[512];
	if (kafka_admin_open(&cli->options->kafka, out, error, sizeof(error)) != 0)
		return cli_fail(cli, EXIT_CONFIG, "Kafka: %s", error);
	return EXIT_FINE;
}

int topic_scan_partitions(const struct cli *cli, struct kafka_admin *a, const char *topic, bool optional, int *count)
{
	int answer = kafka_admin_partition_count(a, topic, ANSWER_MS);
	if (answer == KAFKA_NO_SUCH && optional)
		answer = 0;
	else if (answer <= 0)
		return fail(cli, a, (enum kafka_answer)answer);
	*count = answer;
	return EXIT_FINE;
}

int topic_scan_range(const struct cli *cli, struct kafka_admin *a, const char *topic, int32_t partition,
                     struct log_range *range)
{
	enum kafka_answer answer = kafka_admin_watermarks(a, topic, partition, ANSWER_MS, &range->low, &range->high);
	return answer == KAFKA_OK ? EXIT_FINE : fail(cli, a, answer);
}

int topic_scan_read(const struct cli *cli, struct kafka_admin *a, const char *topic, int32_t partition,
                    const struct log_range *range, kafka_visit *visit, void *owner)
{
	if (range->low >= range->high)
		return EXIT_FINE;
	int64_t next = range->low;
	enum kafka_answer answer = kafka_admin_read(a, topic, partition, range->low, IDLE_MS, visit, owner, &next);
	if (answer != KAFKA_OK)
		return fail(cli, a, answer);
	if (next < range->high)
		return cli_fail(cli, EXIT_UNAVAILABLE, "Kafka: %s[%" PRId32 "]: reading stopped at %" PRId64 " of %" PRId64,
		                topic, partition, next, range->high);
	return EXIT_FINE;
}

struct slice topic_scan_header(const struct kafka_record *record, const char *name)
{
	for (size_t i = record->header_count; i-- > 0;)
		if (slice_equal(record->headers[i].name, slice_of(name)))
			return record->headers[i].value;
	return (struct slice){0};
}

bool topic_scan_header_number(const struct kafka_record *record, const char *name, int64_t max, int64_t *number)
{
	struct slice text = topic_scan_header(record, name);
	return slice_present(text) && parse_int64_within(text, 0, max, number);
}
