#include "worker/kafka/kafka_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/thread.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

enum {
	COOPERATIVE_FROM = 0x020a0000, /* 2.10.0: commits in a cooperative rebalance keep the assignment (#4059) */
	IDEMPOTENT_FROM = 0x02030000,  /* 2.3.0: a broker's outage no longer ends the idempotent producer (#4438) */
	FREE_TIMEOUT_MS = 5000,
	FETCH_BYTES = 2 * 1024 * 1024,
	RECEIVE_BYTES = 1000000000,
	RECEIVE_MARGIN_BYTES = 512, /* beyond fetch.max.bytes, as librdkafka demands */
	PRODUCE_KBYTES = 8 * 1024,
};

struct fixed {
	enum kafka_side side;
	const char *name;
	const char *value;
};

/*
 * Defaults that a property may override. Memory: one handle keeps at most queued.max.messages.kbytes and a fetch.
 * Lower numbers of messages stall: the fetcher looks again only after a second once a limit is reached (below 2.2).
 * A batch is bounded well below any sane max.message.bytes, so that a broker's "message too large" speaks of one
 * message and never of a batch of good ones.
 *
 * An answer of the broker holds up to fetch.message.max.bytes of each partition, in the order in which they are
 * asked for. That order begins anew whenever the queue was full (librdkafka#1854), so whoever finds no room in an
 * answer gets nothing until those before it are read to their end: a backlog's last partition would stand still for
 * all of that time. With a 32nd part of FETCH_BYTES each, 32 partitions of a broker are read side by side, as long
 * as the publishers' batches, compressed, are no larger: a larger one is sent for the first partition of an answer
 * only. Of those kafka_pace.c keeps partitions side by side, at the price of fetching some of it twice.
 *
 * A batch is inflated as a whole, to whatever its publisher packed into it: Kafka's own consumer has no limit for
 * that, nor has librdkafka but for zstd, where receive.message.max.bytes is one; and as it tries buffers that grow
 * threefold when the size is not told, which of Java's publishers it never is, a third of it is what is sure to be
 * read. So it stands at what is still less than the 1.2 GB that the first bytes of an HTTP server's answer would be
 * taken for. Memory is not bounded by it but by what publishers pack: measured, 205 to 251 MB for a batch of 90 MB,
 * which back-pressure lets be fetched anew before the first one is gone.
 */
static const struct fixed defaults[] = {
	{KAFKA_BOTH, "client.id", "delivery-worker"},
	{KAFKA_BOTH, "socket.nagle.disable", "true"},
	{KAFKA_BOTH, "socket.keepalive.enable", "true"},
	{KAFKA_BOTH, "reconnect.backoff.max.ms", "2000"},
	{KAFKA_BOTH, "topic.metadata.refresh.interval.ms", "10000"},
	{KAFKA_CONSUMER, "allow.auto.create.topics", "false"},
	{KAFKA_CONSUMER, "max.poll.interval.ms", "300000"},
	{KAFKA_CONSUMER, "queued.min.messages", "10000"},
	{KAFKA_CONSUMER, "queued.max.messages.kbytes", "4096"},
	{KAFKA_CONSUMER, "fetch.message.max.bytes", "65536"},
	{KAFKA_CONSUMER, "fetch.wait.max.ms", "100"},
	{KAFKA_CONSUMER, "check.crcs", "true"}, /* brokers hand out what the disk has; an amount may differ by a bit */
	{KAFKA_PRODUCER, "linger.ms", "5"},
	{KAFKA_PRODUCER, "batch.size", "65536"},
	{KAFKA_PRODUCER, "queue.buffering.max.messages", "10000"},
	{KAFKA_PRODUCER, "message.timeout.ms", "10000"},
	{KAFKA_PRODUCER, "topic.metadata.propagation.max.ms", "5000"},
	{KAFKA_PRODUCER, "partitioner", "murmur2_random"}, /* as Java's: copies share the publishers' partition */
};

/* What the invariants rest on. */
static const struct fixed invariants[] = {
	{KAFKA_CONSUMER, "enable.auto.commit", "false"},  {KAFKA_CONSUMER, "enable.auto.offset.store", "false"},
	{KAFKA_CONSUMER, "auto.offset.reset", "error"},   {KAFKA_CONSUMER, "isolation.level", "read_committed"},
	{KAFKA_CONSUMER, "enable.partition.eof", "true"}, {KAFKA_PRODUCER, "acks", "all"},
};

/*
 * Properties that are refused, and why. All of librdkafka 2.0.2's were looked at for what breaks a promise of the
 * worker's, and of later releases' what is known of them. Not here, and left to whoever sets them: names and addresses,
 * security (security.*, ssl.*, sasl.*: what a handle can't be made with is an error at the start), time-outs and
 * backoffs (they delay), sizes of buffers and batches (check_taken, size_buffers), retries and *.timeout.ms of the
 * producer (what it gives up the outbox sends again), max.in.flight (judged with idempotence by librdkafka), check.crcs,
 * compression, partitioner, client.rack, debug, plugins. group.instance.id is refused in options.c where consumers share
 * it.
 * Callbacks can't be set from text at all.
 */
static const struct {
	const char *name;
	const char *why;
} refused[] = {
	{"enable.auto.commit", NULL},
	{"auto.commit.enable", NULL},
	{"enable.auto.offset.store", NULL},
	{"auto.offset.reset", NULL},
	{"isolation.level", NULL},
	{"enable.partition.eof", NULL},
	{"acks", NULL},
	{"request.required.acks", NULL},
	{"enable.idempotence", NULL},
	{"transactional.id", NULL},
	{"offset.store.method", NULL},
	{"offset.store.path", NULL},
	{"bootstrap.servers", "use kafka.brokers"},
	{"metadata.broker.list", "use kafka.brokers"},
	{"group.id", "use kafka.group"},
	{"group.protocol", "the worker knows the classic one"},
	{"group.protocol.type", "the worker is a consumer"},
	{"group.remote.assignor", "it belongs to another group.protocol"},
	{"delivery.report.only.error", "a copy settles its record when it is reported as delivered"},
	{"enabled_events", "delivery reports and rebalances would not be heard of"},
	{"log.queue", "nobody reads that queue"},
	{"topic.blacklist", "what is subscribed would never be read"},
	/* With a version assumed that has no headers, copies would go without theirs. */
	{"api.version.request", "copies need a broker's real version: they have headers"},
	{"api.version.fallback.ms", "copies need a broker's real version: they have headers"},
	{"broker.version.fallback", "copies need a broker's real version: they have headers"},
};

const char *kafka_library_version(void)
{
	return rd_kafka_version_str();
}

int kafka_library_number(void)
{
	return rd_kafka_version();
}

static bool is_noise(const char *facility, const char *text)
{
	/* Broker failures come as error events, too, and are reported there. */
	if (!strcmp(facility, "FAIL") || !strcmp(facility, "ERROR"))
		return true;
	/* Of brokers without newer Metadata requests: nothing that the operator could change. */
	if (!strcmp(facility, "AUTOCREATE"))
		return true;
	/* A property for one side in a configuration for both is meant so. */
	return !strcmp(facility, "CONFWARN") &&
	       (strstr(text, "is a producer property") || strstr(text, "is a consumer property"));
}

/* No payloads come this way. */
static void log_line(const rd_kafka_t *rk, int syslog_level, const char *facility, const char *said)
{
	char text[512];

	kafka_reason(said, text, sizeof(text));
	if (syslog_level <= 4 && !is_noise(facility, text)) /* LOG_WARNING of syslog and worse */
		LOG(LOG_WARN, "kafka client", LOG_S("client", rk ? rd_kafka_name(rk) : ""), LOG_S("facility", facility),
		    LOG_S("text", text));
	else
		LOG(LOG_DEBUG, "kafka client", LOG_S("client", rk ? rd_kafka_name(rk) : ""),
		    LOG_S("facility", facility), LOG_S("text", text));
}

static bool is_for(enum kafka_side property, enum kafka_side side)
{
	return property == KAFKA_BOTH || property == side;
}

static int set(rd_kafka_conf_t *conf, const char *name, const char *value, char *error, size_t error_size)
{
	char reason[256];
	if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)) == RD_KAFKA_CONF_OK)
		return 0;
	snprintf(error, error_size, "kafka.%s: %s", name, reason);
	return -1;
}

static bool read_number(const char *text, double *number)
{
	char *end;
	if (text[0] == '\0' || strspn(text, "-.0123456789") != strlen(text))
		return false;
	*number = strtod(text, &end);
	return *end == '\0';
}

/*
 * rd_kafka_conf_set reads numbers up to the first byte that does not belong there, and cuts them to an int: "6000x"
 * and 4294973296 both become 6000. What it took is read back: a number must have been given as that number.
 */
static int check_taken(const rd_kafka_conf_t *conf, const struct kafka_property *p, char *error, size_t error_size)
{
	char taken[64];
	size_t size = 0;
	double number, given;

	/* What does not fit here was no number. */
	if (rd_kafka_conf_get(conf, p->name, NULL, &size) != RD_KAFKA_CONF_OK || size > sizeof(taken))
		return 0;
	if (rd_kafka_conf_get(conf, p->name, taken, &size) != RD_KAFKA_CONF_OK)
		return 0;
	if (strcmp(taken, p->value) == 0 || !read_number(taken, &number))
		return 0;
	if (read_number(p->value, &given) && given == number)
		return 0;
	snprintf(error, error_size, "kafka.%s: \"%.64s\" is not a number, or out of its range", p->name, p->value);
	return -1;
}

static int check_refused(const struct kafka_property *p, char *error, size_t error_size)
{
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++) {
		if (strcmp(p->name, refused[i].name) != 0)
			continue;
		snprintf(error, error_size, "kafka.%s: can't be set: %s", p->name,
			 refused[i].why ? refused[i].why : "exactly-once rests on the worker's value");
		return -1;
	}
	return 0;
}

/* Number of property `name` as `conf` has it now. */
static int64_t number_of(const rd_kafka_conf_t *conf, const char *name)
{
	char text[64];
	size_t size = sizeof(text);
	int64_t number = 0;
	ENSURE(rd_kafka_conf_get(conf, name, text, &size) == RD_KAFKA_CONF_OK);
	ENSURE(parse_int64(slice_of(text), &number));
	return number;
}

static bool is_given(const struct kafka_settings *s, enum kafka_side side, const char *name)
{
	for (size_t i = 0; i < s->property_count; i++) {
		if (is_for(s->properties[i].side, side) && !strcmp(s->properties[i].name, name))
			return true;
	}
	return false;
}

/* Buffers that must hold the largest message, or an answer, unless they were given. */
static int size_buffers(rd_kafka_conf_t *conf, const struct kafka_settings *s, enum kafka_side side, char *error,
			size_t error_size)
{
	int64_t message_bytes = number_of(conf, "message.max.bytes");
	bool consumer = side == KAFKA_CONSUMER;
	const char *name = consumer ? "fetch.max.bytes" : "queue.buffering.max.kbytes";
	int64_t least = consumer ? message_bytes : message_bytes / 1024 + 1;
	int64_t standard = consumer ? FETCH_BYTES : PRODUCE_KBYTES;
	char text[24];

	if (!is_given(s, side, name)) {
		snprintf(text, sizeof(text), "%" PRId64, standard > least ? standard : least);
		if (set(conf, name, text, error, error_size))
			return -1;
	}
	if (!consumer || is_given(s, side, "receive.message.max.bytes"))
		return 0;
	least = number_of(conf, "fetch.max.bytes") + RECEIVE_MARGIN_BYTES;
	snprintf(text, sizeof(text), "%" PRId64, RECEIVE_BYTES > least ? RECEIVE_BYTES : least);
	return set(conf, "receive.message.max.bytes", text, error, error_size);
}

static int fill(rd_kafka_conf_t *conf, const struct kafka_settings *s, enum kafka_side side, char *error,
		size_t error_size)
{
	for (size_t i = 0; i < ARRAY_LENGTH(defaults); i++) {
		if (is_for(defaults[i].side, side) && set(conf, defaults[i].name, defaults[i].value, error, error_size))
			return -1;
	}
	if (side == KAFKA_CONSUMER && rd_kafka_version() >= QUEUE_BACKOFF_FROM &&
	    set(conf, "fetch.queue.backoff.ms", "10", error, error_size))
		return -1;
	const char *assignors = s->cooperative ? "cooperative-sticky" : "roundrobin,range";
	if (side == KAFKA_CONSUMER && set(conf, "partition.assignment.strategy", assignors, error, error_size))
		return -1;
	/* What is given for one side stands above what is given for both, whatever the order. */
	for (int specific = 0; specific < 2; specific++) {
		for (size_t i = 0; i < s->property_count; i++) {
			const struct kafka_property *p = &s->properties[i];
			if (!is_for(p->side, side) || (p->side != KAFKA_BOTH) != specific)
				continue;
			if (check_refused(p, error, error_size) || set(conf, p->name, p->value, error, error_size) ||
			    check_taken(conf, p, error, error_size))
				return -1;
		}
	}
	if (size_buffers(conf, s, side, error, error_size))
		return -1;
	for (size_t i = 0; i < ARRAY_LENGTH(invariants); i++) {
		if (is_for(invariants[i].side, side) &&
		    set(conf, invariants[i].name, invariants[i].value, error, error_size))
			return -1;
	}
	if (side == KAFKA_PRODUCER && rd_kafka_version() >= IDEMPOTENT_FROM &&
	    set(conf, "enable.idempotence", "true", error, error_size))
		return -1;
	if (side == KAFKA_CONSUMER && set(conf, "group.id", s->group, error, error_size))
		return -1;
	return set(conf, "bootstrap.servers", s->brokers, error, error_size);
}

static void on_throttle(rd_kafka_t *rk, const char *broker, int32_t broker_id, int throttle_ms, void *opaque)
{
	(void)rk, (void)broker, (void)broker_id, (void)opaque; /* the signature is librdkafka's */
	kafka_note_throttle(clock_mono_ms(), throttle_ms);
}

rd_kafka_conf_t *kafka_conf_new(const struct kafka_settings *s, enum kafka_side side, char *error, size_t error_size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_conf_set_log_cb(conf, log_line);
	rd_kafka_conf_set_throttle_cb(conf, on_throttle);
	if (fill(conf, s, side, error, error_size) == 0)
		return conf;
	rd_kafka_conf_destroy(conf);
	return NULL;
}

rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *error, size_t error_size)
{
	char reason[256];
	rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof(reason));
	if (rk) {
		kafka_credentials_add(rk, type);
		return rk;
	}
	rd_kafka_conf_destroy(conf);
	snprintf(error, error_size, "kafka client: %s", reason);
	return NULL;
}

/* Some values are judged together, or with what they name (a CA file), and only by a handle being made. */
static int try_handle(const struct kafka_settings *s, enum kafka_side side, char *error, size_t error_size)
{
	rd_kafka_conf_t *conf = kafka_conf_new(s, side, error, error_size);
	if (!conf)
		return -1;
	if (set(conf, "bootstrap.servers", "", error, error_size)) { /* no connections */
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	rd_kafka_t *rk = kafka_handle_new(side == KAFKA_CONSUMER ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, error,
					  error_size);
	if (!rk)
		return -1;
	kafka_handle_free(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE, FREE_TIMEOUT_MS);
	return 0;
}

/*
 * With the first handle Cyrus SASL loads each mechanism that is installed, one with a database library below it: 0.6 MB
 * that a client without SASL never uses. Its search path is a variable, which an operator may set to have it otherwise.
 */
static void spare_sasl_plugins(const struct kafka_settings *s)
{
	for (size_t i = 0; i < s->property_count; i++) {
		if (!strcmp(s->properties[i].name, "security.protocol") &&
		    !strncasecmp(s->properties[i].value, "sasl", strlen("sasl")))
			return;
	}
	ENSURE(setenv("SASL_PATH", "", 0) == 0);
}

/* All members of a group must have the same protocol, so it follows neither the library's version nor a property. */
static int check_assignor(const struct kafka_settings *s, char *error, size_t error_size)
{
	for (size_t i = 0; i < s->property_count; i++) {
		if (strcmp(s->properties[i].name, "partition.assignment.strategy") != 0)
			continue;
		snprintf(error, error_size, "kafka.partition.assignment.strategy: can't be set: use kafka.assignor");
		return -1;
	}
	if (s->cooperative && rd_kafka_version() < COOPERATIVE_FROM) {
		snprintf(error, error_size,
			 "kafka.assignor: \"cooperative\" needs librdkafka 2.10 or later, this is %s: before, a commit "
			 "in a rebalance can lose the assignment", rd_kafka_version_str());
		return -1;
	}
	return 0;
}

int kafka_settings_check(const struct kafka_settings *s, char *error, size_t error_size)
{
	spare_sasl_plugins(s);
	int result = check_assignor(s, error, error_size);
	if (result == 0)
		result = try_handle(s, KAFKA_CONSUMER, error, error_size);
	return result ? result : try_handle(s, KAFKA_PRODUCER, error, error_size);
}

int kafka_membership_ms(const struct kafka_settings *s)
{
	char error[256];
	rd_kafka_conf_t *conf = kafka_conf_new(s, KAFKA_CONSUMER, error, sizeof(error));
	ENSURE(conf); /* kafka_settings_check has made one */
	int64_t left_ms = number_of(conf, "session.timeout.ms") - number_of(conf, "heartbeat.interval.ms");
	rd_kafka_conf_destroy(conf);
	left_ms -= left_ms / 10;
	return left_ms > 500 ? (int)left_ms : 500;
}

/* ---- the end of a handle ---- */

struct teardown {
	rd_kafka_t *rk;
	int flags;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
};

static void *destroy_handle(void *argument)
{
	struct teardown *t = argument;
	rd_kafka_destroy_flags(t->rk, t->flags);
	mutex_lock(&t->lock);
	t->done = true;
	cond_signal(&t->changed);
	mutex_unlock(&t->lock);
	return NULL;
}

bool kafka_handle_free(rd_kafka_t *rk, int flags, int timeout_ms)
{
	int64_t deadline_us = clock_mono_us() + (int64_t)timeout_ms * 1000;
	struct teardown *t = calloc(1, sizeof(*t));
	bool done;

	kafka_credentials_remove(rk);

	ENSURE(t != NULL);
	t->rk = rk;
	t->flags = flags;
	mutex_init(&t->lock);
	cond_init(&t->changed);
	pthread_t thread = thread_start("kafka-free", destroy_handle, t);

	mutex_lock(&t->lock);
	while (!t->done && cond_wait_until(&t->changed, &t->lock, deadline_us))
		continue;
	done = t->done;
	mutex_unlock(&t->lock);

	if (!done) {
		pthread_detach(thread); /* it may still write to *t, which stays */
		return false;
	}
	thread_join(thread);
	cond_destroy(&t->changed);
	mutex_destroy(&t->lock);
	free(t);
	return true;
}

/* ---- records ---- */

bool kafka_is_damage(rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR__BAD_MSG:
	case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
	case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED: /* a batch of a later format, or what looks like one */
	case RD_KAFKA_RESP_ERR_INVALID_MSG: /* the broker's CORRUPT_MESSAGE: it found no batch where one must begin */
		return true;
	default:
		return false;
	}
}

/* Whether `rk` compares checksums; `*limit`: its receive.message.max.bytes. */
static bool checks_batches(rd_kafka_t *rk, int64_t *limit)
{
	char checks[8] = "";
	size_t size = sizeof(checks);
	const rd_kafka_conf_t *conf = rd_kafka_conf(rk);

	*limit = number_of(conf, "receive.message.max.bytes");
	return rd_kafka_conf_get(conf, "check.crcs", checks, &size) == RD_KAFKA_CONF_OK && !strcmp(checks, "true");
}

void kafka_unreadable_reason(rd_kafka_t *rk, const rd_kafka_message_t *m, char *reason, size_t reason_size)
{
	const char *text = rd_kafka_message_errstr(m);
	int64_t limit;

	if (m->err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION && checks_batches(rk, &limit))
		snprintf(reason, reason_size,
			 "%.110s: its checksum is right; perhaps kafka.receive.message.max.bytes=%" PRId64
			 " is below three times what it inflates to", text, limit);
	else
		snprintf(reason, reason_size, "%s", text);
}

static size_t read_headers(const rd_kafka_headers_t *from, struct header **headers, size_t *capacity)
{
	size_t count = rd_kafka_header_cnt(from);
	if (count > *capacity) {
		*headers = realloc(*headers, count * sizeof(**headers));
		ENSURE(*headers != NULL);
		*capacity = count;
	}
	for (size_t i = 0; i < count; i++) {
		const char *name;
		const void *value;
		size_t size;
		ENSURE(rd_kafka_header_get_all(from, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR);
		(*headers)[i] = (struct header){slice_of(name), {value, value ? size : 0}};
	}
	return count;
}

struct kafka_record kafka_record_of(const rd_kafka_message_t *message, const char *topic, struct header **headers,
				    size_t *header_capacity)
{
	rd_kafka_timestamp_type_t type;
	int64_t timestamp_ms = rd_kafka_message_timestamp(message, &type);
	rd_kafka_headers_t *from = NULL;
	int64_t last_ms = INT64_MAX / 1000; /* a publisher may send any number */
	struct kafka_record record = {
		.topic = topic,
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_us = timestamp_ms < 0 ? -1 : (timestamp_ms < last_ms ? timestamp_ms : last_ms) * 1000,
		.producers_time = type == RD_KAFKA_TIMESTAMP_CREATE_TIME,
		.key = {message->key, message->key ? message->key_len : 0},
		.value = {message->payload, message->payload ? message->len : 0},
	};
	if (rd_kafka_message_headers(message, &from) == RD_KAFKA_RESP_ERR_NO_ERROR)
		record.header_count = read_headers(from, headers, header_capacity);
	record.headers = *headers;
	return record;
}
