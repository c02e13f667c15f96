/* The brokers' memory: logs with gaps, and what the group has committed. */
#include "tests/sim/sim.h"

#include "worker/ledger/start_rule.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const char *const sim_topics[TOPIC_COUNT] = {"events", "events.deferred", "events.dlq"};

struct committed {
	int64_t offset;
	char metadata[256];
};

static struct sim_log logs[TOPIC_COUNT][SIM_PARTITIONS_MAX];
static struct committed commits[TOPIC_COUNT][SIM_PARTITIONS_MAX];

enum sim_topic sim_topic_of(const char *name)
{
	for (int t = 0; t < TOPIC_COUNT; t++)
		if (strcmp(name, sim_topics[t]) == 0)
			return (enum sim_topic)t;
	sim_fail("topic %s is none", name);
}

void brokers_begin(void)
{
	for (int t = 0; t < TOPIC_COUNT; t++)
		for (int p = 0; p < SIM_PARTITIONS_MAX; p++)
			commits[t][p].offset = -1;
}

int brokers_partitions(enum sim_topic topic)
{
	switch (topic) {
	case TOPIC_EVENTS:
		return sim_config.partitions;
	case TOPIC_DEFERRED:
		return sim_config.deferred_partitions;
	default:
		return 1;
	}
}

struct sim_log *brokers_log(enum sim_topic topic, int32_t partition)
{
	if (partition < 0 || partition >= brokers_partitions(topic))
		sim_fail("partition %s/%d is none", sim_topics[topic], partition);
	return &logs[topic][partition];
}

struct sim_record *brokers_append(enum sim_topic topic, int32_t partition, struct sim_record r, int64_t gap)
{
	struct sim_log *log = brokers_log(topic, partition);
	if (log->count == log->capacity) {
		log->capacity = log->capacity ? log->capacity * 2 : 64;
		log->records = realloc(log->records, log->capacity * sizeof(*log->records));
		ENSURE(log->records);
	}
	r.offset = log->end;
	log->end += 1 + gap; /* markers behind it, which no reader is given */
	log->records[log->count++] = r;
	return &log->records[log->count - 1];
}

struct sim_record *brokers_read(enum sim_topic topic, int32_t partition, int64_t offset)
{
	struct sim_log *log = brokers_log(topic, partition);
	size_t low = 0, high = log->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (log->records[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < log->count ? &log->records[low] : NULL;
}

int64_t brokers_committed(enum sim_topic topic, int32_t partition, char metadata[256])
{
	const struct committed *c = &commits[topic][partition];
	if (metadata)
		snprintf(metadata, 256, "%s", c->metadata);
	return c->offset;
}

/* Progress is durable before Kafka's commit passes it; what a failover took back since is the next assignment's to
 * find, by the mark. */
static void check_commit(enum sim_topic topic, int32_t partition, int64_t offset, const char *metadata)
{
	struct commit_mark mark;
	if (!commit_mark_parse(metadata, &mark))
		sim_fail("a commit without our mark: '%s'", metadata);
	int64_t durable = database_progress_in(topic, partition, &mark.epoch);
	if (offset > durable)
		sim_fail("%s/%d is committed at %" PRId64 " where progress was %" PRId64 " at the most",
			 sim_topics[topic], partition, offset, durable);
	if (offset > brokers_log(topic, partition)->end)
		sim_fail("%s/%d is committed beyond its end", sim_topics[topic], partition);
	if (!database_is_history(&mark.epoch))
		return;
	int64_t progress = database_progress(topic, partition);
	if (offset > progress)
		sim_fail("%s/%d is committed at %" PRId64 ", progress is %" PRId64, sim_topics[topic], partition,
			 offset, progress);
	traffic_check_position("committed", topic, partition, commits[topic][partition].offset, offset);
}

const char *brokers_commit(enum sim_topic topic, int32_t partition, int64_t offset, const char *metadata)
{
	check_commit(topic, partition, offset, metadata);
	struct committed *c = &commits[topic][partition];
	c->offset = offset;
	snprintf(c->metadata, sizeof(c->metadata), "%s", metadata);
	sim_trace("committed %s/%d at %" PRId64, sim_topics[topic], partition, offset);
	return NULL;
}
