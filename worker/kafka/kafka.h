/*
 * Kafka, as the worker needs it: a consumer that reports what happened and decides nothing, a producer
 * that tells each record's fate, and an administrative client for questions. The kafka_*.c files
 * are the only ones that know librdkafka; a simulation links other ones in their place.
 *
 * Offsets are Kafka's: the offset of a record is its place, a position is the next offset to read.
 * Times are microseconds unless the name says otherwise.
 *
 * Thread: each handle belongs to the thread that polls it; exceptions are said at the function.
 */
#ifndef WORKER_KAFKA_KAFKA_H
#define WORKER_KAFKA_KAFKA_H

#include "common/ensure.h"
#include "common/slice.h"
#include "schemas/event.h" /* struct header */

#include <stdbool.h>
#include <stdint.h>

/* A librdkafka property from the configuration, prefix taken off. `side`: which handles it is for. */
enum kafka_side { KAFKA_BOTH, KAFKA_CONSUMER, KAFKA_PRODUCER };
struct kafka_property {
	enum kafka_side side;
	const char *name;
	const char *value;
};

struct kafka_settings {
	const char *brokers;
	const char *group;
	const struct kafka_property *properties;
	size_t property_count;
	/* Of each property the file that its value, a secret, came from, or NULL; NULL: none came from one. */
	const char *const *property_files;
	int64_t ahead_bytes; /* that a partition may be read ahead of another one that has records; 0: any number */
	bool cooperative; /* the group's protocol, for all its members alike; else eager */
};

/*
 * Checks the properties alone, without a connection: unknown ones, bad values, and those that the
 * invariants rest on (the table of kafka_settings.c), which are refused, as is a cooperative assignor below librdkafka
 * 2.10.
 * Thread: before there are others. Unless the properties ask for SASL, it also keeps Cyrus SASL from loading its
 * plugins (SASL_PATH in the process's environment, if it is not set).
 * Returns: 0; -1 and one line in `error` that names the property.
 */
must_use int kafka_settings_check(const struct kafka_settings *s, char *error, size_t error_size);

/*
 * Hands sasl.username and sasl.password of files that have changed to every client of the process: they count from its
 * next connection on. Other secrets are a client's for its life. To be called about once a second; cheap without files.
 * Thread: any, one at a time.
 */
void kafka_refresh_credentials(const struct kafka_settings *s);

/* How long a member that has fallen silent stays one, at the least: of the session, what is left when its last heartbeat
 * was as old as can be, and a tenth less. Of settings that passed kafka_settings_check. */
int kafka_membership_ms(const struct kafka_settings *s);

/* "2.0.2", of the library at run time; and its number as RD_KAFKA_VERSION has it (0x020002ff). */
const char *kafka_library_version(void);
int kafka_library_number(void);

/* A partition and, where it applies, a position in it. `topic` is borrowed. */
struct kafka_partition {
	const char *topic;
	int32_t partition;
	int64_t offset;
};

/* ---- consumer ---- */

enum kafka_event_kind {
	KAFKA_NOTHING,   /* the time passed */
	KAFKA_RECORD,    /* `record` */
	KAFKA_END,       /* the partition was read to its end: `end`, the position past any gap; may repeat */
	KAFKA_ASSIGNED,  /* the group gave `partitions`, maybe none; nothing is fetched before kafka_consumer_start */
	KAFKA_REVOKED,   /* the group wants `partitions` (maybe none) back: drain, commit, kafka_consumer_release */
	KAFKA_LOST,      /* `partitions` are already someone else's: no commit; then kafka_consumer_release */
	KAFKA_COMMITTED, /* an earlier commit was answered: `commit_error` is NULL or the reason */
	KAFKA_UNREADABLE, /* what is at the position `end` can't be read (a checksum, a compression), `error` says why;
	                  * the partition is stopped there, until kafka_consumer_start */
	KAFKA_TROUBLE,   /* a passing error in `error`; librdkafka goes on by itself. With one of `partitions`: its
	                  * position, `offset`, is not in the log; it is stopped and for the start rule to judge */
	KAFKA_FATAL,     /* the client can't go on (`error`); it is returned at every later poll, too */
};

struct kafka_record {
	const char *topic;       /* lives as long as the consumer */
	int32_t partition;
	int64_t offset;
	int64_t timestamp_us;    /* record time; of millisecond precision; -1 if it has none */
	bool producers_time;     /* the producer has set it, not the broker */
	struct slice key;        /* absent for null */
	struct slice value;      /* absent for null: a tombstone */
	const struct header *headers; /* in the record's order, repeats and all */
	size_t header_count;
};

/* What a poll returned. All of it is good until the next call of kafka_consumer_poll. */
struct kafka_event {
	enum kafka_event_kind kind;
	struct kafka_record record;
	struct kafka_partition end;
	const struct kafka_partition *partitions; /* topics live as long as the consumer */
	size_t partition_count;
	const char *commit_error;
	char error[256];
};

struct kafka_consumer;

/* Subscribes to `topics`. Does not wait for the brokers. Returns: 0; -1 and one line in `error`. */
must_use int kafka_consumer_open(const struct kafka_settings *s, const char *const *topics, size_t topic_count,
                                 struct kafka_consumer **out, char *error, size_t error_size);

/* Waits up to `timeout_ms` for one event; before it returns KAFKA_ASSIGNED, up to a second more for each topic, for the
 * brokers to say how many partitions there are. Must be called at least every max.poll.interval.ms. */
void kafka_consumer_poll(struct kafka_consumer *c, int timeout_ms, struct kafka_event *event);

/*
 * Starts fetching `partitions` (assigned before and not yet released) at their offsets. Others that
 * were started go on where they are: with an eager assignor librdkafka takes the whole assignment
 * anew, so the positions of those are what was last returned by poll for them (record offset + 1, or
 * END), and the call costs them one refetch. A partition that is started again starts at the new offset.
 */
void kafka_consumer_start(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count);
/* Stops fetching a started partition, which stays assigned: for a restart by the start rule. */
void kafka_consumer_stop(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count);
/* Answers KAFKA_REVOKED or KAFKA_LOST, exactly once each, with the partitions of that event. */
void kafka_consumer_release(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count);

/* Pause and resume started partitions. A call that changes nothing is not passed on: a redundant
 * resume makes librdkafka rewind. A release or a stop forgets the pause. Records of a partition that
 * is paused are never returned, also those that were fetched before. */
void kafka_consumer_pause(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count);
void kafka_consumer_resume(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count);

/*
 * Commits positions with `metadata`, asynchronously: the answer comes as KAFKA_COMMITTED. Only
 * partitions that are assigned now are sent (a commit for another's partition succeeds and rewinds it).
 * Returns: 0 when sent; -1 when there was nothing to send or librdkafka refused at once.
 */
int kafka_consumer_commit(struct kafka_consumer *c, const struct kafka_partition *partitions, size_t count,
                          const char *metadata);

/* This member's count of assigned partitions over all partitions of the topics, as far as is known
 * from the group's metadata; 0 < share <= 1. Thread: any. */
double kafka_consumer_share(struct kafka_consumer *c);

/* The partitions that a subscribed topic had at the latest assignment; 0: not known. */
int32_t kafka_consumer_partition_count(const struct kafka_consumer *c, const char *topic);

/* Leaves the group and frees the handle. Serves pending rebalance events itself, without draining.
 * Bounded by `timeout_ms`: past it the handle is leaked on purpose and false returned. */
bool kafka_consumer_close(struct kafka_consumer *c, int timeout_ms);

/* ---- producer ---- */

enum kafka_delivery {
	KAFKA_DELIVERED,
	KAFKA_TOO_LARGE, /* for this topic, broker or client: will never be taken as it is */
	KAFKA_REFUSED,   /* another error: try again later */
};

/* Called from kafka_producer_poll. `reason` is librdkafka's text, NULL when delivered. */
typedef void kafka_delivered(void *owner, void *tag, enum kafka_delivery result, const char *reason);

struct kafka_producer;

/* acks=all; idempotent from librdkafka 2.3 on. A message that is not taken within 10 s is reported as refused, so
 * that the caller can say so and try again. */
must_use int kafka_producer_open(const struct kafka_settings *s, kafka_delivered *delivered, void *owner,
                                 struct kafka_producer **out, char *error, size_t error_size);

/* Asks the brokers for a topic's partitions before the first message needs them: else that one waits up to a second,
 * and everything behind it. Blocks up to `timeout_ms`; what it can't learn is learned with the first message.
 * Returns: how many there are; 0: not known. */
int32_t kafka_producer_learn(struct kafka_producer *p, const char *topic, int timeout_ms);

struct kafka_message {
	const char *topic;
	int32_t partition;    /* -1: by key. One that the topic does not have is refused */
	struct slice key;     /* absent: null */
	struct slice value;   /* absent: null */
	const struct header *headers;
	size_t header_count;
};

/*
 * Hands one message to the library. Key and headers are copied; the value is *not*: it must stay until
 * the delivery is reported under `tag`.
 * Returns: 0; KAFKA_QUEUE_FULL, poll and try again; else an enum kafka_delivery other than delivered,
 * known at once. Thread: any.
 */
#define KAFKA_QUEUE_FULL (-1)
must_use int kafka_producer_send(struct kafka_producer *p, const struct kafka_message *m, void *tag);
/* Serves delivery reports for up to `timeout_ms`. Returns: how many. One thread at a time. */
int kafka_producer_poll(struct kafka_producer *p, int timeout_ms);
/* Messages handed over and not reported yet. Thread: any. */
int kafka_producer_pending(struct kafka_producer *p);
/* Wakes a poll in progress. Thread: any. */
void kafka_producer_wake(struct kafka_producer *p);
/* The client's fatal error, or NULL. Thread: any. */
const char *kafka_producer_fatal(struct kafka_producer *p);
/* Waits up to `timeout_ms` for what is pending, reports it, frees the handle. Returns: what was left. */
int kafka_producer_close(struct kafka_producer *p, int timeout_ms);

/* ---- questions (a handle of its own; every call blocks up to its timeout) ---- */

enum kafka_answer {
	KAFKA_OK = 0,
	KAFKA_UNAVAILABLE = -1, /* brokers or coordinator not reachable in time: ask again */
	KAFKA_NO_SUCH = -2,     /* no such topic or partition */
	KAFKA_DENIED = -3,      /* authentication or authorization */
	KAFKA_UNSUPPORTED = -4, /* the broker does not know this request */
	KAFKA_DAMAGED = -5,     /* of kafka_admin_read: what is at *next can't be read (a checksum, a compression) */
};

/* ---- quotas (kafka_throttle.c) ---- */

/* A broker has said to one of our handles that it throttles it for that long. Thread: any. */
void kafka_note_throttle(int64_t now_ms, int throttle_ms);
/* Whether one does, or did until a moment ago: what is not answered then is late. Thread: any. */
bool kafka_is_throttled(int64_t now_ms);

/* ---- questions ---- */

struct kafka_admin;

must_use int kafka_admin_open(const struct kafka_settings *s, struct kafka_admin **out, char *error, size_t error_size);
void kafka_admin_close(struct kafka_admin *a);
/* The reason of the last answer that was not KAFKA_OK, one line. */
const char *kafka_admin_error(const struct kafka_admin *a);

/* Returns: partition count (> 0), or an enum kafka_answer. */
must_use int kafka_admin_partition_count(struct kafka_admin *a, const char *topic, int timeout_ms);

/* The group's committed position and metadata for one partition. */
struct kafka_committed {
	const char *topic;
	int32_t partition;
	int64_t offset;        /* -1: none */
	char metadata[256];    /* "" for none; longer ones are cut */
};
/* Fills offset and metadata for each entry's topic and partition, in one request. */
must_use enum kafka_answer kafka_admin_committed(struct kafka_admin *a, struct kafka_committed *entries, size_t count,
                                                 int timeout_ms);
/* The id that the cluster gives itself, as the last answer of a broker had it; "" if it has none. Returns: KAFKA_OK, or
 * KAFKA_UNAVAILABLE when no broker has answered in time. */
must_use enum kafka_answer kafka_admin_cluster_id(struct kafka_admin *a, int timeout_ms, char *id, size_t id_size);
/* First offset of the log and the one after its last (end of stable, as isolation.level has it). */
must_use enum kafka_answer kafka_admin_watermarks(struct kafka_admin *a, const char *topic, int32_t partition,
                                                  int timeout_ms, int64_t *low, int64_t *high);
/*
 * Reads forward from `offset` and hands each record to `visit` until it returns false, the end that
 * was there at the start is reached, or `idle_timeout_ms` pass without a record. *next: the position reached.
 * At the end with a gap (transaction markers) *next is past the gap.
 */
typedef bool kafka_visit(void *owner, const struct kafka_record *record);
must_use enum kafka_answer kafka_admin_read(struct kafka_admin *a, const char *topic, int32_t partition,
                                            int64_t offset, int idle_timeout_ms, kafka_visit *visit, void *owner,
                                            int64_t *next);
/* One config value of a topic, e.g. "cleanup.policy". Mock clusters answer KAFKA_UNSUPPORTED. */
must_use enum kafka_answer kafka_admin_topic_config(struct kafka_admin *a, const char *topic, const char *name,
                                                    int timeout_ms, char *value, size_t value_size);

#endif
