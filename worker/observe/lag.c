#include "worker/observe/lag.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "worker/kafka/kafka_fingerprint.h"
#include "worker/observe/exposition.h"
#include "worker/observe/metrics.h"
#include "worker/observe/partition_lag.h"

#include <stdlib.h>
#include <string.h>

enum {
	TOPIC_SIZE = 250, /* Kafka: 249 and the NUL */
	/* A broker that lives answers in milliseconds. Also what lag_stop may have to wait for. */
	WATERMARKS_TIMEOUT_MS = 2000,
	LOOK_TIMEOUT_MS = 2000,
	/* After so many silent answers in a row the round is over; the next one begins where it stopped, so
	 * that one dead broker does not hide the partitions of the others. */
	SILENT_MAX = 3,
	/* A new partition is asked for this soon; one assignment brings many, and they share the round. */
	NEW_ROW_DELAY_US = 500000,
	/* The last answers count for this many intervals. */
	STALE_INTERVALS = 3,
	/* Each so many looks at a partition's log a settled record is read again. */
	COMPARE_EACH = 12,
};

struct lag_row {
	char topic[TOPIC_SIZE];
	int32_t partition;
	struct partition_lag lag;
	unsigned looks;
	bool compare;   /* at the next look: the topic was gone for a moment */
	struct fingerprint anchor; /* a settled record, of the log that was there when it was last compared */
	enum lag_finding finding;  /* that its reader does not know yet */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;      /* `stopping`, or `due_us` came nearer */
	struct lag_row *rows;     /* sorted, as the exposition wants them */
	size_t count, capacity;
	bool running, stopping;
	const char *topic;        /* asked for while there are no rows */
	int64_t interval_us;
	int64_t round_us;         /* how long the last round without silence took */
	int64_t due_us;           /* monotonic: when the next one begins */
	/* Below: the thread's alone. */
	pthread_t thread;
	struct kafka_admin *admin;
	bool silent;              /* the last round had no answer for some partition */
} self = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int compare_key(const struct lag_row *row, const char *topic, int32_t partition)
{
	int order = strcmp(row->topic, topic);
	return order ? order : (row->partition > partition) - (row->partition < partition);
}

/* Lock: held. Returns: the index of the first row that is not below the key. */
static size_t lower_bound(const char *topic, int32_t partition)
{
	size_t low = 0, high = self.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_key(&self.rows[middle], topic, partition) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Lock: held. */
static struct lag_row *find_row(const char *topic, int32_t partition)
{
	size_t i = lower_bound(topic, partition);
	return i < self.count && compare_key(&self.rows[i], topic, partition) == 0 ? &self.rows[i] : NULL;
}

/* Lock: held. */
static struct lag_row *insert_row(const char *topic, int32_t partition)
{
	size_t i = lower_bound(topic, partition), len = strlen(topic);

	ENSURE(len < TOPIC_SIZE);
	if (self.count == self.capacity) {
		self.capacity = self.capacity ? 2 * self.capacity : 16;
		self.rows = reallocarray(self.rows, self.capacity, sizeof(*self.rows));
		ENSURE(self.rows != NULL);
	}
	memmove(&self.rows[i + 1], &self.rows[i], (self.count - i) * sizeof(*self.rows));
	self.count++;
	memcpy(self.rows[i].topic, topic, len + 1);
	self.rows[i].partition = partition;
	partition_lag_init(&self.rows[i].lag);
	self.rows[i].looks = 0;
	self.rows[i].compare = false;
	self.rows[i].anchor = (struct fingerprint){0};
	self.rows[i].finding = LAG_NOTHING;
	return &self.rows[i];
}

enum lag_finding lag_publish(const char *topic, int32_t partition, const struct lag_position *p)
{
	mutex_lock(&self.lock);
	struct lag_row *row = find_row(topic, partition);
	if (!row) {
		row = insert_row(topic, partition);
		int64_t soon_us = clock_mono_us() + NEW_ROW_DELAY_US;
		if (self.running && soon_us < self.due_us) {
			self.due_us = soon_us;
			cond_signal(&self.wake);
		}
	}
	partition_lag_publish(&row->lag, p, clock_mono_us());
	if (!row->anchor.exists)
		row->anchor = p->settled;
	enum lag_finding finding = row->finding;
	row->finding = LAG_NOTHING;
	mutex_unlock(&self.lock);
	return finding;
}

void lag_remove(const char *topic, int32_t partition)
{
	mutex_lock(&self.lock);
	struct lag_row *row = find_row(topic, partition);
	if (row) {
		size_t behind = self.count - (size_t)(row - self.rows) - 1;
		memmove(row, row + 1, behind * sizeof(*row));
		self.count--;
	}
	mutex_unlock(&self.lock);
}

/* ---- the thread ---- */

static bool take_first(void *owner, const struct kafka_record *record)
{
	*(struct kafka_record *)owner = *record;
	return false;
}

/* Reads the first record from `first` on. Returns: whether the brokers answered. */
static bool look(const char *topic, int32_t partition, int64_t first)
{
	struct kafka_record found = {.offset = -1};
	int64_t next = first;

	enum kafka_answer answer =
		kafka_admin_read(self.admin, topic, partition, first, LOOK_TIMEOUT_MS, take_first, &found, &next);
	if (answer != KAFKA_OK)
		return answer == KAFKA_DAMAGED; /* its time stays unknown; the partition's consumer says why */
	mutex_lock(&self.lock);
	struct lag_row *row = find_row(topic, partition);
	if (row) {
		row->lag.seen_at = first;
		row->lag.seen_us = found.offset >= 0 ? found.timestamp_us : -1;
		/* A record without a time is a record all the same: nothing may be taken for a gap. */
		row->lag.seen_next = found.offset >= 0 ? first : next;
	}
	mutex_unlock(&self.lock);
	return true;
}

/* Asks for the commit of a partition whose owner waits for PostgreSQL before it does. */
static enum kafka_answer ask_committed(const char *topic, int32_t partition)
{
	struct kafka_committed committed = {.topic = topic, .partition = partition};

	mutex_lock(&self.lock);
	struct lag_row *row = find_row(topic, partition);
	bool unknown = row && row->lag.position.committed == LAG_UNKNOWN;
	mutex_unlock(&self.lock);
	if (!unknown)
		return KAFKA_OK;
	enum kafka_answer answer = kafka_admin_committed(self.admin, &committed, 1, WATERMARKS_TIMEOUT_MS);
	if (answer != KAFKA_OK)
		return answer;
	mutex_lock(&self.lock);
	row = find_row(topic, partition);
	if (row)
		row->lag.asked = committed.offset;
	mutex_unlock(&self.lock);
	return KAFKA_OK;
}

static bool take_fingerprint(void *owner, const struct kafka_record *record)
{
	*(struct fingerprint *)owner = fingerprint_of_record(record);
	return false;
}

/*
 * A topic that is deleted and made again under a running reader may have grown past its position by the time that anybody
 * looks at its end, and librdkafka tells of nothing. Progress is of no help then: it has gone on in the new log. So now
 * and then a record is read again that was settled before the last such look; if it is there, the log is the same, and the
 * latest settled one takes its place.
 * Returns: false when it is not there. That nothing could be read proves nothing, nor does what retention has passed.
 */
static bool is_there(const struct lag_row *before, int64_t low)
{
	const struct fingerprint *anchor = &before->anchor;
	struct fingerprint found = {0};
	int64_t next = anchor->offset;
	if (!anchor->exists || anchor->offset < low ||
	    kafka_admin_read(self.admin, before->topic, before->partition, anchor->offset, LOOK_TIMEOUT_MS,
	                     take_fingerprint, &found, &next) != KAFKA_OK)
		return true;
	return found.exists ? fingerprint_matches(&found, anchor) : next <= anchor->offset;
}

/* A topic that is gone may come back as another one. */
static void note_missing(const struct lag_row *before)
{
	mutex_lock(&self.lock);
	struct lag_row *row = find_row(before->topic, before->partition);
	if (row)
		row->compare = true;
	mutex_unlock(&self.lock);
}

/* Asks for one partition's log; `before`: as it was published then. Takes no lock while it waits: the row may be gone
 * afterwards. */
static enum kafka_answer ask(const struct lag_row *before)
{
	int64_t low, high, first = -1;
	enum kafka_answer answer = ask_committed(before->topic, before->partition);
	if (answer == KAFKA_OK)
		answer = kafka_admin_watermarks(self.admin, before->topic, before->partition, WATERMARKS_TIMEOUT_MS, &low,
		                                &high);
	if (answer == KAFKA_NO_SUCH)
		note_missing(before);
	if (answer != KAFKA_OK)
		return answer;
	bool compare = before->compare || before->looks % COMPARE_EACH == COMPARE_EACH - 1;
	enum lag_finding finding = compare && !is_there(before, low)     ? LAG_REPLACED
	                           : high < before->lag.position.next ? LAG_SHRUNK
	                                                              : LAG_NOTHING;

	mutex_lock(&self.lock);
	struct lag_row *row = find_row(before->topic, before->partition);
	if (row) {
		partition_lag_answer(&row->lag, low, high, clock_mono_us());
		row->looks++;
		row->compare &= !compare;
		if (finding != LAG_NOTHING)
			row->finding = finding;
		else if (compare && before->lag.position.settled.exists)
			row->anchor = before->lag.position.settled;
		if (partition_lag_needs_look(&row->lag))
			first = partition_lag_first(&row->lag);
	}
	mutex_unlock(&self.lock);
	return first >= 0 && !look(before->topic, before->partition, first) ? KAFKA_UNAVAILABLE : KAFKA_OK;
}

/* Steps to the row behind *cursor, from the last to the first. Returns: false at the end of the thread. */
static bool step(struct lag_row *cursor)
{
	mutex_lock(&self.lock);
	bool go_on = !self.stopping && self.count > 0;
	if (go_on) {
		size_t i = lower_bound(cursor->topic, cursor->partition);
		if (i < self.count && compare_key(&self.rows[i], cursor->topic, cursor->partition) == 0)
			i++;
		*cursor = self.rows[i < self.count ? i : 0];
	}
	mutex_unlock(&self.lock);
	return go_on;
}

/* What is said of Kafka rests on this: the one regular contact with the brokers, as consumers hear from librdkafka
 * only of change. */
static void note_silence(const char *topic, int32_t partition)
{
	metric_set(METRIC_UP_KAFKA, 0);
	if (!self.silent)
		LOG(LOG_ERROR, "kafka unavailable: no answer about the log's end, lag will be unknown",
		    LOG_S("topic", topic), LOG_I("partition", partition), LOG_S("error", kafka_admin_error(self.admin)));
	self.silent = true;
}

static void note_answers(void)
{
	metric_set(METRIC_UP_KAFKA, 1);
	if (self.silent)
		LOG(LOG_INFO, "kafka available again: lag is known");
	self.silent = false;
}

static void run_round(struct lag_row *cursor, size_t count)
{
	int silent = 0;
	bool any_silent = false;

	if (count == 0 &&
	    kafka_admin_partition_count(self.admin, self.topic, WATERMARKS_TIMEOUT_MS) == KAFKA_UNAVAILABLE &&
	    !kafka_is_throttled(clock_mono_ms())) {
		any_silent = true;
		note_silence(self.topic, -1);
	}
	for (size_t i = 0; i < count && silent < SILENT_MAX && step(cursor); i++) {
		enum kafka_answer answer = ask(cursor);
		silent = answer == KAFKA_UNAVAILABLE ? silent + 1 : 0;
		/* A quota makes answers late, and tells so: the broker is there. */
		if (answer == KAFKA_OK || (answer == KAFKA_UNAVAILABLE && kafka_is_throttled(clock_mono_ms())))
			continue;
		any_silent = true;
		note_silence(cursor->topic, cursor->partition);
	}
	if (!any_silent)
		note_answers();
}

static void *lag_main(void *argument)
{
	struct lag_row cursor = {.topic = "", .partition = -1};
	(void)argument;

	mutex_lock(&self.lock);
	while (!self.stopping) {
		int64_t begin_us = clock_mono_us();
		if (begin_us < self.due_us) {
			cond_wait_until(&self.wake, &self.lock, self.due_us);
			continue;
		}
		size_t count = self.count;
		/* Before the round, so that a row born during it brings the next one forward. */
		self.due_us = begin_us + self.interval_us;
		mutex_unlock(&self.lock);

		run_round(&cursor, count);

		mutex_lock(&self.lock);
		int64_t end_us = clock_mono_us();
		/* Time-outs do not count: they would keep old answers alive. */
		if (!self.silent)
			self.round_us = end_us - begin_us;
		/* Slow brokers are left a pause, too. */
		if (self.due_us < end_us)
			self.due_us = end_us + NEW_ROW_DELAY_US;
	}
	mutex_unlock(&self.lock);
	return NULL;
}

int lag_start(const struct kafka_settings *s, const char *topic, int interval_ms, char *error, size_t error_size)
{
	ENSURE(!self.running);
	if (kafka_admin_open(s, &self.admin, error, error_size) != 0)
		return -1;
	cond_init(&self.wake);
	mutex_lock(&self.lock);
	self.interval_us = (int64_t)interval_ms * 1000;
	self.topic = topic;
	self.round_us = 0;
	self.due_us = clock_mono_us();
	self.stopping = false;
	self.running = true;
	mutex_unlock(&self.lock);
	self.silent = false;
	self.thread = thread_start("lag", lag_main, NULL);
	return 0;
}

void lag_stop(void)
{
	mutex_lock(&self.lock);
	bool running = self.running;
	if (running) {
		self.stopping = true;
		cond_signal(&self.wake);
	}
	mutex_unlock(&self.lock);
	if (!running)
		return;
	thread_join(self.thread);
	mutex_lock(&self.lock);
	self.running = false;
	mutex_unlock(&self.lock);
	cond_destroy(&self.wake);
	kafka_admin_close(self.admin);
}

/* ---- what is shown ---- */

/* Lock: held. A round with many partitions may take longer than the interval. */
static int64_t stale_us(void)
{
	return STALE_INTERVALS * (self.interval_us + self.round_us);
}

int64_t lag_total(void)
{
	int64_t total = 0, now_us = clock_mono_us();

	mutex_lock(&self.lock);
	for (size_t i = 0; i < self.count && total >= 0; i++) {
		int64_t offsets = partition_lag_offsets(&self.rows[i].lag, now_us, stale_us());
		total = offsets < 0 ? -1 : total + offsets;
	}
	mutex_unlock(&self.lock);
	return total;
}

enum family { FAMILY_LAG, FAMILY_SECONDS, FAMILY_END, FAMILY_COMMITTED, FAMILY_PAUSED, FAMILY_LOST, FAMILY_COUNT };

static const struct {
	const char *name;
	const char *help;
} families[FAMILY_COUNT] = {
	[FAMILY_LAG] = {METRICS_PREFIX "consumer_lag", "Offsets from the committed position to the end of the log."},
	[FAMILY_SECONDS] = {METRICS_PREFIX "consumer_lag_seconds", "Age of the first uncommitted record."},
	[FAMILY_END] = {METRICS_PREFIX "consumer_end_offset", "End of the log."},
	[FAMILY_COMMITTED] = {METRICS_PREFIX "consumer_committed_offset", "Position last committed to Kafka."},
	[FAMILY_PAUSED] = {METRICS_PREFIX "consumer_partition_paused", "1 while nothing is fetched from it."},
	[FAMILY_LOST] = {METRICS_PREFIX "partition_offsets_lost",
			 "Offsets that are lost there: not consumed until it is accepted."},
};

struct moment {
	int64_t mono_us, wall_us, stale_us;
};

/* Returns: false for what is not known, which is then left out. */
static bool row_value(const struct partition_lag *p, enum family family, const struct moment *now, double *value)
{
	switch (family) {
	case FAMILY_LAG:
		*value = (double)partition_lag_offsets(p, now->mono_us, now->stale_us);
		return *value >= 0;
	case FAMILY_SECONDS:
		return partition_lag_seconds(p, now->mono_us, now->stale_us, now->wall_us, value);
	case FAMILY_END:
		*value = (double)partition_lag_end(p, now->mono_us, now->stale_us);
		return *value >= 0;
	case FAMILY_COMMITTED:
		*value = (double)partition_lag_committed(p);
		return *value >= 0;
	case FAMILY_PAUSED:
		*value = p->position.paused;
		return true;
	case FAMILY_LOST:
		*value = (double)p->position.lost;
		return *value >= 0;
	case FAMILY_COUNT:
		break;
	}
	UNREACHABLE("lag family");
}

/* Formatting is done on a copy: the owners of partitions do not wait for a scrape. */
void lag_expose(struct buf *out, const char *group)
{
	struct moment now = {.mono_us = clock_mono_us(), .wall_us = clock_wall_us()};
	struct buf labels = BUF_INIT;
	char number[16];

	mutex_lock(&self.lock);
	size_t count = self.count;
	struct lag_row *rows = reallocarray(NULL, count + 1, sizeof(*rows));
	ENSURE(rows != NULL);
	if (count > 0)
		memcpy(rows, self.rows, count * sizeof(*rows));
	now.stale_us = stale_us();
	mutex_unlock(&self.lock);

	for (enum family f = 0; f < FAMILY_COUNT; f++) {
		exposition_family(out, families[f].name, "gauge", families[f].help);
		for (size_t i = 0; i < count; i++) {
			double value;
			if (!row_value(&rows[i].lag, f, &now, &value))
				continue;
			snprintf(number, sizeof(number), "%d", (int)rows[i].partition);
			buf_clear(&labels);
			exposition_label(&labels, "topic", rows[i].topic);
			exposition_label(&labels, "partition", number);
			exposition_label(&labels, "group", group);
			exposition_real(out, families[f].name, labels.data, value);
		}
	}
	buf_release(&labels);
	free(rows);
}
