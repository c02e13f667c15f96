/*
 * What the kafka_*.c files share; with them the only place that names librdkafka's types.
 * Thread: any.
 */
#ifndef WORKER_KAFKA_KAFKA_INTERNAL_H
#define WORKER_KAFKA_KAFKA_INTERNAL_H

#include "worker/kafka/kafka.h"

#include <librdkafka/rdkafka.h>

/* 2.2.0: fetch.queue.backoff.ms, which kafka_settings.c sets; kafka_consumer.c wakes the fetcher of older ones. */
enum { QUEUE_BACKOFF_FROM = 0x02020000 };

/*
 * A configuration for one handle: our defaults, over them the properties of the settings that are for
 * `side`, over them what the invariants fix. Log lines go to common/log.h.
 * Returns: NULL and one line in `error` that names the property. Owns: the caller, until rd_kafka_new.
 */
must_use rd_kafka_conf_t *kafka_conf_new(const struct kafka_settings *s, enum kafka_side side, char *error,
					 size_t error_size);

/*
 * What librdkafka says of a broker, in `out`; in words of ours where a server of another kind answers on that port, which
 * librdkafka takes for an answer beyond receive.message.max.bytes.
 */
void kafka_reason(const char *said, char *out, size_t size);

/* rd_kafka_new that frees `conf` on failure, too. Returns: NULL and one line in `error`. */
must_use rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *error, size_t error_size);

/*
 * Frees the handle on a thread of its own: rd_kafka_destroy_flags has no time limit and waits for threads
 * that may be in getaddrinfo. Returns: false when `timeout_ms` passed; the handle is then leaked, with
 * the thread that tries.
 */
bool kafka_handle_free(rd_kafka_t *rk, int flags, int timeout_ms);

/* Of kafka_handle_new and kafka_handle_free: clients whose credentials are kept fresh. */
void kafka_credentials_add(rd_kafka_t *rk, rd_kafka_type_t type);
void kafka_credentials_remove(rd_kafka_t *rk);
/* Sets those that are set already: the files' latest, else these, which the client was made with. */
void kafka_credentials_set_again(rd_kafka_t *rk, const char *username, const char *password);

/* Whether an error that a fetch brought says that the log can't be read there. Its offset may be the batch's first,
 * below what was asked for; and librdkafka does not stop there. */
bool kafka_is_damage(rd_kafka_resp_err_t err);

/* Why what `m` tells of can't be read. A batch whose checksum is right and that can't be inflated is as its
 * publisher sent it: then the client's limit is named, too. */
void kafka_unreadable_reason(rd_kafka_t *rk, const rd_kafka_message_t *m, char *reason, size_t reason_size);

/* Borrows key, value and time of `message`; headers, name and value borrowed too, go to *headers, an array that
 * grows as needed and is reused (free(3) it in the end). `topic` is what the record is to name. */
struct kafka_record kafka_record_of(const rd_kafka_message_t *message, const char *topic, struct header **headers,
				    size_t *header_capacity);

#endif
