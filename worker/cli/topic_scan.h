/*
 * Reading whole topics for a command; failures are printed and become exit codes.
 *
 *     topic_scan_open(cli, &admin)
 *     topic_scan_partitions(cli, admin, topic, false, &count)
 *     topic_scan_range(cli, admin, topic, partition, &range)
 *     topic_scan_read(cli, admin, topic, partition, &range, visit, owner)
 */
#ifndef WORKER_CLI_TOPIC_SCAN_H
#define WORKER_CLI_TOPIC_SCAN_H

#include "worker/cli/cli.h"
#include "worker/kafka/kafka.h"

/* [low, high): what the log held when it was asked for. */
struct log_range {
	int64_t low;
	int64_t high;
};

must_use int topic_scan_open(const struct cli *cli, struct kafka_admin **out);
/* `optional`: no such topic is 0 partitions, not an error. */
must_use int topic_scan_partitions(const struct cli *cli, struct kafka_admin *a, const char *topic, bool optional,
                                   int *count);
must_use int topic_scan_range(const struct cli *cli, struct kafka_admin *a, const char *topic, int32_t partition,
                              struct log_range *range);
/* Visits the records of the range, and those that came since; an error unless it gets to the range's end.
 * Returns: EXIT_FOUND_WRONG where the log is damaged. */
must_use int topic_scan_read(const struct cli *cli, struct kafka_admin *a, const char *topic, int32_t partition,
                             const struct log_range *range, kafka_visit *visit, void *owner);

/* The last header of that name: ours stand behind the original's. Returns: absent when there is none. */
struct slice topic_scan_header(const struct kafka_record *record, const char *name);
/* Returns: false when there is none, or it is no number from 0 to `max`. */
bool topic_scan_header_number(const struct kafka_record *record, const char *name, int64_t max, int64_t *number);

#endif
