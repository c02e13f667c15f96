/*
 * Questions to the cluster, on a handle without a subscription: it never joins the group whose commits it reads.
 */
#include "worker/kafka/kafka_internal.h"

#include "common/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FREE_TIMEOUT_MS = 2000, ANSWER_MARGIN_MS = 1000, ERROR_BYTES = 512 };

struct kafka_admin {
	rd_kafka_t *rk;
	struct header *headers;
	size_t header_capacity;
	char error[ERROR_BYTES];
	char broker_error[ERROR_BYTES]; /* why a broker can't be reached, "" while all is well */
};

/* Tells a timeout's cause, which the timeout itself does not know. */
static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	struct kafka_admin *a = opaque;
	(void)rk; /* the signature is librdkafka's */
	if (err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		kafka_reason(reason, a->broker_error, sizeof(a->broker_error));
}

int kafka_admin_open(const struct kafka_settings *s, struct kafka_admin **out, char *error, size_t error_size)
{
	rd_kafka_conf_t *conf = kafka_conf_new(s, KAFKA_CONSUMER, error, error_size);
	if (!conf)
		return -1;
	struct kafka_admin *a = calloc(1, sizeof(*a));
	ENSURE(a != NULL);
	rd_kafka_conf_set_opaque(conf, a);
	rd_kafka_conf_set_error_cb(conf, on_error);
	a->rk = kafka_handle_new(RD_KAFKA_CONSUMER, conf, error, error_size);
	if (!a->rk) {
		free(a);
		return -1;
	}
	rd_kafka_poll_set_consumer(a->rk);
	*out = a;
	return 0;
}

void kafka_admin_close(struct kafka_admin *a)
{
	if (!kafka_handle_free(a->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE, FREE_TIMEOUT_MS))
		return; /* leaked: its threads still know `a` */
	free(a->headers);
	free(a);
}

const char *kafka_admin_error(const struct kafka_admin *a)
{
	return a->error;
}

static enum kafka_answer answer_of(rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		return KAFKA_OK;
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION: /* a name that no topic can have */
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		return KAFKA_NO_SUCH;
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		return KAFKA_DENIED;
	case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
	case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
		return KAFKA_UNSUPPORTED;
	default:
		return KAFKA_UNAVAILABLE;
	}
}

/* Returns: the answer for `err`, after its reason was written. */
static enum kafka_answer answer(struct kafka_admin *a, rd_kafka_resp_err_t err, const char *what)
{
	enum kafka_answer result = answer_of(err);
	if (result == KAFKA_OK)
		return result;
	bool cause = result == KAFKA_UNAVAILABLE && a->broker_error[0] != '\0';
	snprintf(a->error, sizeof(a->error), "%s: %s%s%.300s", what, rd_kafka_err2str(err), cause ? ": " : "",
		 cause ? a->broker_error : "");
	return result;
}

/* Serves error events, so that they neither pile up nor are older than this question. */
static void begin(struct kafka_admin *a)
{
	a->broker_error[0] = '\0';
	rd_kafka_message_t *m = rd_kafka_consumer_poll(a->rk, 0);
	if (m)
		rd_kafka_message_destroy(m);
}

static enum kafka_answer finish(struct kafka_admin *a, rd_kafka_resp_err_t err, const char *what)
{
	if (err) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(a->rk, 0);
		if (m)
			rd_kafka_message_destroy(m);
	}
	return answer(a, err, what);
}

/*
 * The id of a broker that may be asked, -1 for none: a leader of the topic, which whoever reads it must reach
 * anyway, else any. Not that of the connection which answered: that may be the bootstrap's, whose id librdkafka
 * does not know as long as nobody advertises its name.
 */
static int32_t broker_of(const struct rd_kafka_metadata *metadata)
{
	for (int i = 0; i < metadata->topic_cnt; i++) {
		const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];
		for (int j = 0; j < topic->partition_cnt; j++) {
			if (topic->partitions[j].leader >= 0)
				return topic->partitions[j].leader;
		}
	}
	return metadata->broker_cnt > 0 ? metadata->brokers[0].id : -1;
}

static rd_kafka_resp_err_t look_up(struct kafka_admin *a, const char *topic, int timeout_ms, int *partition_count,
				   int32_t *broker_id)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_topic_t *handle = rd_kafka_topic_new(a->rk, topic, NULL);
	if (!handle)
		return rd_kafka_last_error();
	rd_kafka_resp_err_t err = rd_kafka_metadata(a->rk, 0, handle, &metadata, timeout_ms);
	rd_kafka_topic_destroy(handle);
	if (err)
		return err;
	err = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	if (!err && metadata->topics[0].partition_cnt == 0)
		err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE; /* being created */
	if (!err)
		*partition_count = metadata->topics[0].partition_cnt;
	*broker_id = broker_of(metadata);
	if (!err && *broker_id < 0)
		err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
	rd_kafka_metadata_destroy(metadata);
	return err;
}

int kafka_admin_partition_count(struct kafka_admin *a, const char *topic, int timeout_ms)
{
	int count = 0;
	int32_t broker_id;

	begin(a);
	enum kafka_answer result = finish(a, look_up(a, topic, timeout_ms, &count, &broker_id), topic);
	return result == KAFKA_OK ? count : (int)result;
}

static void take_committed(struct kafka_committed *entry, const rd_kafka_topic_partition_t *p)
{
	size_t len = p->metadata_size < sizeof(entry->metadata) ? p->metadata_size : sizeof(entry->metadata) - 1;
	entry->offset = p->offset >= 0 ? p->offset : -1;
	if (entry->offset < 0 || !p->metadata)
		len = 0;
	if (len > 0)
		memcpy(entry->metadata, p->metadata, len);
	entry->metadata[len] = '\0';
}

enum kafka_answer kafka_admin_committed(struct kafka_admin *a, struct kafka_committed *entries, size_t count,
					int timeout_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	begin(a);
	for (size_t i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, entries[i].topic, entries[i].partition);
	if (count > 0)
		err = rd_kafka_committed(a->rk, list, timeout_ms);
	for (int i = 0; !err && i < list->cnt; i++)
		err = list->elems[i].err;
	for (size_t i = 0; !err && i < count; i++) {
		const rd_kafka_topic_partition_t *p =
			rd_kafka_topic_partition_list_find(list, entries[i].topic, entries[i].partition);
		ENSURE(p != NULL);
		take_committed(&entries[i], p);
	}
	rd_kafka_topic_partition_list_destroy(list);
	return finish(a, err, "committed offsets");
}

enum kafka_answer kafka_admin_cluster_id(struct kafka_admin *a, int timeout_ms, char *id, size_t id_size)
{
	begin(a);
	char *found = rd_kafka_clusterid(a->rk, timeout_ms);
	/* NULL is also the answer of brokers that know no such thing (below 0.10), to which the worker does not speak. */
	snprintf(id, id_size, "%s", found ? found : "");
	rd_kafka_resp_err_t err = found ? RD_KAFKA_RESP_ERR_NO_ERROR : RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_mem_free(a->rk, found);
	return finish(a, err, "cluster id");
}

/*
 * rd_kafka_query_watermark_offsets waits without an end when a broker goes away meanwhile (below 2.12,
 * #4460). rd_kafka_offsets_for_times sends the same request, keeps its timeout, and takes the logical offsets
 * for times, as the protocol does.
 */
static rd_kafka_resp_err_t list_offset(struct kafka_admin *a, const char *topic, int32_t partition, int64_t logical,
				       int64_t deadline_ms, int64_t *offset)
{
	int64_t left_ms = deadline_ms - clock_mono_ms();
	if (left_ms <= 0)
		return RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, partition)->offset = logical;
	rd_kafka_resp_err_t err = rd_kafka_offsets_for_times(a->rk, list, (int)left_ms);
	if (!err)
		err = list->elems[0].err;
	if (!err && list->elems[0].offset < 0)
		err = RD_KAFKA_RESP_ERR__NO_OFFSET;
	if (!err)
		*offset = list->elems[0].offset;
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

enum kafka_answer kafka_admin_watermarks(struct kafka_admin *a, const char *topic, int32_t partition, int timeout_ms,
					 int64_t *low, int64_t *high)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	int64_t first = 0, end = 0;

	begin(a);
	rd_kafka_resp_err_t err = list_offset(a, topic, partition, RD_KAFKA_OFFSET_BEGINNING, deadline_ms, &first);
	if (!err)
		err = list_offset(a, topic, partition, RD_KAFKA_OFFSET_END, deadline_ms, &end);
	if (!err) {
		*low = first;
		*high = end;
	}
	return finish(a, err, topic);
}

/* ---- reading ---- */

struct reading {
	const char *topic;
	int32_t partition;
	int64_t next;
	int64_t end; /* of the log at the start */
	bool damaged;
	kafka_visit *visit;
	void *owner;
};

static bool is_of(const struct reading *r, const rd_kafka_message_t *m)
{
	return m->rkt && m->partition == r->partition && strcmp(rd_kafka_topic_name(m->rkt), r->topic) == 0;
}

/* Returns: whether reading goes on. */
static bool take_message(struct kafka_admin *a, struct reading *r, const rd_kafka_message_t *m,
			 rd_kafka_resp_err_t *err)
{
	if (kafka_is_damage(m->err) && is_of(r, m)) {
		/* The broker is there and no time mends it; what librdkafka returns behind it is not to be believed. */
		char reason[256];
		kafka_unreadable_reason(a->rk, m, reason, sizeof(reason));
		snprintf(a->error, sizeof(a->error), "%s[%" PRId32 "]: the log can't be read at offset %" PRId64 ": %s",
			 r->topic, r->partition, r->next, reason);
		r->damaged = true;
		return false;
	}
	bool out_of_range = m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET;
	/* It has no version, so one may be left of an earlier reading, which went astray behind a damaged batch. */
	if (out_of_range && !(is_of(r, m) && m->offset >= r->next && m->offset <= r->end))
		return true;
	if (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
		/* Others pass by themselves, or the idle timeout ends them. */
		if (out_of_range || answer_of(m->err) != KAFKA_UNAVAILABLE)
			*err = m->err;
		else
			snprintf(a->broker_error, sizeof(a->broker_error), "%s", rd_kafka_message_errstr(m));
		return !*err;
	}
	/* Of the reading before this one. */
	if (!is_of(r, m) || m->offset < r->next)
		return true;
	if (m->err || m->offset >= r->end) {
		r->next = r->end; /* past a gap, and no further than the snapshot */
		return false;
	}
	struct kafka_record record = kafka_record_of(m, r->topic, &a->headers, &a->header_capacity);
	r->next = m->offset + 1;
	return r->visit(r->owner, &record) && r->next < r->end;
}

static rd_kafka_resp_err_t read_on(struct kafka_admin *a, struct reading *r, int idle_timeout_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, r->topic, r->partition)->offset = r->next;
	rd_kafka_resp_err_t err = rd_kafka_assign(a->rk, list);
	rd_kafka_topic_partition_list_destroy(list);

	int64_t deadline_ms = clock_mono_ms() + idle_timeout_ms;
	for (bool more = !err; more;) {
		int64_t left_ms = deadline_ms - clock_mono_ms();
		int64_t before = r->next;
		rd_kafka_message_t *m = left_ms > 0 ? rd_kafka_consumer_poll(a->rk, (int)left_ms) : NULL;
		if (m) {
			more = take_message(a, r, m, &err);
			rd_kafka_message_destroy(m);
		} else if (left_ms <= 0) {
			err = RD_KAFKA_RESP_ERR__TIMED_OUT;
			more = false;
		}
		if (r->next != before)
			deadline_ms = clock_mono_ms() + idle_timeout_ms;
	}
	rd_kafka_assign(a->rk, NULL);
	return err;
}

enum kafka_answer kafka_admin_read(struct kafka_admin *a, const char *topic, int32_t partition, int64_t offset,
				   int idle_timeout_ms, kafka_visit *visit, void *owner, int64_t *next)
{
	int64_t low = 0, high = 0;

	enum kafka_answer result = kafka_admin_watermarks(a, topic, partition, idle_timeout_ms, &low, &high);
	if (result != KAFKA_OK)
		return result;
	struct reading r = {.topic = topic,
			    .partition = partition,
			    .next = offset > low ? offset : low,
			    .end = high,
			    .visit = visit,
			    .owner = owner};
	rd_kafka_resp_err_t err = r.next < r.end ? read_on(a, &r, idle_timeout_ms) : RD_KAFKA_RESP_ERR_NO_ERROR;
	*next = r.next;
	return r.damaged ? KAFKA_DAMAGED : finish(a, err, topic);
}

/* ---- configs ---- */

static rd_kafka_resp_err_t find_config(rd_kafka_event_t *event, const char *name, char *value, size_t value_size)
{
	size_t count = 0, entry_count = 0;
	const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
	const rd_kafka_ConfigResource_t **resources = rd_kafka_DescribeConfigs_result_resources(result, &count);
	if (count != 1)
		return RD_KAFKA_RESP_ERR__BAD_MSG;
	rd_kafka_resp_err_t err = rd_kafka_ConfigResource_error(resources[0]);
	if (err)
		return err;
	const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resources[0], &entry_count);
	for (size_t i = 0; i < entry_count; i++) {
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) != 0)
			continue;
		const char *found = rd_kafka_ConfigEntry_value(entries[i]);
		snprintf(value, value_size, "%s", found ? found : "");
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	return RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE; /* this broker knows no such config */
}

/* Of any broker, as all know it: librdkafka's default is the controller, and waits for one that does not show up. */
static rd_kafka_resp_err_t describe(struct kafka_admin *a, const char *topic, int32_t broker_id, int timeout_ms,
				    rd_kafka_event_t **event)
{
	char reason[256];
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(a->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_resp_err_t err =
		rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, reason, sizeof(reason));
	if (!err)
		err = rd_kafka_AdminOptions_set_broker(options, broker_id, reason, sizeof(reason));
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	if (!err && resource) {
		rd_kafka_queue_t *queue = rd_kafka_queue_new(a->rk);
		rd_kafka_DescribeConfigs(a->rk, &resource, 1, options, queue);
		*event = rd_kafka_queue_poll(queue, timeout_ms + ANSWER_MARGIN_MS);
		rd_kafka_queue_destroy(queue);
		err = *event ? rd_kafka_event_error(*event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
	}
	if (resource)
		rd_kafka_ConfigResource_destroy(resource);
	rd_kafka_AdminOptions_destroy(options);
	return err;
}

enum kafka_answer kafka_admin_topic_config(struct kafka_admin *a, const char *topic, const char *name, int timeout_ms,
					   char *value, size_t value_size)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	rd_kafka_event_t *event = NULL;
	int32_t broker_id = -1;
	int count;

	begin(a);
	rd_kafka_resp_err_t err = look_up(a, topic, timeout_ms, &count, &broker_id);
	int64_t left_ms = deadline_ms - clock_mono_ms();
	if (!err)
		err = describe(a, topic, broker_id, left_ms > 1 ? (int)left_ms : 1, &event);
	if (!err)
		err = find_config(event, name, value, value_size);
	if (event)
		rd_kafka_event_destroy(event);
	return finish(a, err, topic);
}
