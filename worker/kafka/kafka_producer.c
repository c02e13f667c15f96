/*
 * Sends and tells each record's fate. librdkafka's queue is bounded by number and bytes; what does not
 * fit is the caller's to offer again.
 */
#include "worker/kafka/kafka_internal.h"

#include "common/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { PURGE_TIMEOUT_MS = 1000 };

struct kafka_producer {
	rd_kafka_t *rk;
	rd_kafka_queue_t *reports; /* what rd_kafka_poll serves */
	kafka_delivered *delivered;
	void *owner;
	int reported; /* by this poll */
	atomic_int pending;
	atomic_bool fatal; /* set after `fatal_error` is written, once */
	char fatal_error[256];
};

/* A topic's max.message.bytes is the broker's, message.max.bytes is ours; of a batch this can't be said, since
 * batch.size is far below either (kafka_settings.c). */
static enum kafka_delivery fate_of(rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		return KAFKA_DELIVERED;
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
	case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		return KAFKA_TOO_LARGE;
	default:
		return KAFKA_REFUSED;
	}
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct kafka_producer *p = opaque;
	enum kafka_delivery fate = fate_of(message->err);

	(void)rk; /* the signature is librdkafka's */
	p->reported++;
	atomic_fetch_sub(&p->pending, 1);
	/* rd_kafka_message_errstr takes the payload for the reason, which it is for consumers only. */
	p->delivered(p->owner, message->_private, fate,
		     fate == KAFKA_DELIVERED ? NULL : rd_kafka_err2str(message->err));
}

/* Passing errors are librdkafka's to retry; log_line has them at debug level. */
static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	struct kafka_producer *p = opaque;
	if (err != RD_KAFKA_RESP_ERR__FATAL || atomic_load(&p->fatal))
		return;
	if (!rd_kafka_fatal_error(rk, p->fatal_error, sizeof(p->fatal_error)))
		snprintf(p->fatal_error, sizeof(p->fatal_error), "%s", reason);
	atomic_store(&p->fatal, true);
}

int kafka_producer_open(const struct kafka_settings *s, kafka_delivered *delivered, void *owner,
			struct kafka_producer **out, char *error, size_t error_size)
{
	rd_kafka_conf_t *conf = kafka_conf_new(s, KAFKA_PRODUCER, error, error_size);
	if (!conf)
		return -1;
	struct kafka_producer *p = calloc(1, sizeof(*p));
	ENSURE(p != NULL);
	p->delivered = delivered;
	p->owner = owner;
	rd_kafka_conf_set_opaque(conf, p);
	rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	rd_kafka_conf_set_error_cb(conf, on_error);
	p->rk = kafka_handle_new(RD_KAFKA_PRODUCER, conf, error, error_size);
	if (!p->rk) {
		free(p);
		return -1;
	}
	p->reports = rd_kafka_queue_get_main(p->rk);
	*out = p;
	return 0;
}

int32_t kafka_producer_learn(struct kafka_producer *p, const char *topic, int timeout_ms)
{
	const struct rd_kafka_metadata *metadata = NULL;
	rd_kafka_topic_t *handle = rd_kafka_topic_new(p->rk, topic, NULL);
	int32_t count = 0;
	if (!handle)
		return 0;
	/* What it says of leaders stays with the client. */
	if (rd_kafka_metadata(p->rk, 0, handle, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
			count = metadata->topics[0].partition_cnt;
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(handle);
	return count;
}

static rd_kafka_headers_t *copy_headers(const struct kafka_message *m)
{
	if (m->header_count == 0)
		return NULL;
	rd_kafka_headers_t *headers = rd_kafka_headers_new(m->header_count);
	for (size_t i = 0; i < m->header_count; i++) {
		const struct header *h = &m->headers[i];
		rd_kafka_resp_err_t err = rd_kafka_header_add(headers, h->name.data, (ssize_t)h->name.len,
							      h->value.data, (ssize_t)h->value.len);
		ENSURE(!err);
	}
	return headers;
}

int kafka_producer_send(struct kafka_producer *p, const struct kafka_message *m, void *tag)
{
	rd_kafka_headers_t *headers = copy_headers(m);

	/* Before the hand-over: the report may come, on another thread, before producev returns. */
	atomic_fetch_add(&p->pending, 1);
	rd_kafka_resp_err_t err = rd_kafka_producev(
		p->rk, RD_KAFKA_V_TOPIC(m->topic), RD_KAFKA_V_PARTITION(m->partition),
		RD_KAFKA_V_KEY((void *)(uintptr_t)m->key.data, m->key.len),
		RD_KAFKA_V_VALUE((void *)(uintptr_t)m->value.data, m->value.len), RD_KAFKA_V_MSGFLAGS(0),
		RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(tag), RD_KAFKA_V_END);
	if (!err)
		return 0;
	atomic_fetch_sub(&p->pending, 1);
	if (headers)
		rd_kafka_headers_destroy(headers); /* only a success takes them over */
	return err == RD_KAFKA_RESP_ERR__QUEUE_FULL ? KAFKA_QUEUE_FULL : (int)fate_of(err);
}

int kafka_producer_poll(struct kafka_producer *p, int timeout_ms)
{
	p->reported = 0;
	rd_kafka_poll(p->rk, timeout_ms);
	return p->reported;
}

int kafka_producer_pending(struct kafka_producer *p)
{
	return atomic_load(&p->pending);
}

void kafka_producer_wake(struct kafka_producer *p)
{
	rd_kafka_queue_yield(p->reports);
}

const char *kafka_producer_fatal(struct kafka_producer *p)
{
	return atomic_load(&p->fatal) ? p->fatal_error : NULL;
}

static void poll_until_reported(struct kafka_producer *p, int timeout_ms)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	for (int64_t left_ms = timeout_ms; kafka_producer_pending(p) > 0 && left_ms > 0;
	     left_ms = deadline_ms - clock_mono_ms())
		rd_kafka_poll(p->rk, (int)left_ms);
}

int kafka_producer_close(struct kafka_producer *p, int timeout_ms)
{
	poll_until_reported(p, timeout_ms);
	int left = kafka_producer_pending(p);
	if (left > 0) {
		/* Their values are the owner's again only after a report. A broker's thread may hang in getaddrinfo. */
		rd_kafka_purge(p->rk,
			       RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
		poll_until_reported(p, PURGE_TIMEOUT_MS);
	}
	rd_kafka_queue_destroy(p->reports);
	if (kafka_handle_free(p->rk, 0, PURGE_TIMEOUT_MS))
		free(p);
	return left;
}
