/*
 * Every option of delivery-worker, once: the parser, --help, the reference in the docs, the sample file
 * and the checks are made from this table.
 *
 * Precedence: defaults < file (--config, `key = value` lines) < environment < flags. The key
 * `kafka.brokers` is DW_KAFKA_BROKERS and --kafka.brokers; a secret is also DW_<NAME>_FILE, a file whose
 * content (less one trailing newline) is the value, read again before each connection. Any other `kafka.<property>`,
 * `kafka.consumer.<property>`, `kafka.producer.<property>` goes to librdkafka.
 * Durations and sizes take a suffix (ms s m h d; k m g, binary); a bare number is in the row's unit.
 *
 * Thread: read only after options_load.
 */
#ifndef WORKER_OPTIONS_H
#define WORKER_OPTIONS_H

#include "common/ensure.h"
#include "common/buf.h"
#include "worker/kafka/kafka.h"

#include <stdint.h>

/*
 * X(type, field, key, default, min, max, unit, help)
 * Types: TEXT and SECRET (bounds are lengths), INT, MILLIS, SECONDS, BYTES, CHOICE (min..max unused; the
 * unit column lists the words, the value is the word's index).
 */
#define OPTIONS(X) \
	X(TEXT, kafka_brokers, "kafka.brokers", "localhost:9092", 1, 4096, "host:port,...", "brokers to start from") \
	X(TEXT, kafka_topic, "kafka.topic", "delivery-events", 1, 240, "", "topic of delivery events") \
	X(TEXT, kafka_group, "kafka.group", "delivery-worker", 1, 255, "", "consumer group") \
	X(BYTES, kafka_ahead_bytes, "kafka.ahead_bytes", "8m", 65536, 1073741824, "bytes", "how far a backlog may be read in one partition ahead of another; less is fairer, and costs fetches where publishers' batches are large") \
	X(CHOICE, kafka_assignor, "kafka.assignor", "eager", 0, 0, "eager|cooperative", "how partitions are shared, one way for all members of a group; cooperative needs librdkafka 2.10; to change it, end all workers, then start all anew") \
	X(TEXT, kafka_deferred_topic, "kafka.deferred_topic", "", 0, 249, "", "topic of deferred copies; empty: <topic>.deferred") \
	X(TEXT, kafka_dlq_topic, "kafka.dlq_topic", "", 0, 249, "", "topic of dead letters; empty: <topic>.dlq") \
	X(SECRET, pg_dsn, "pg.dsn", "", 0, 4096, "", "PostgreSQL connection string or URI; empty: libpq's environment") \
	X(TEXT, pg_schema, "pg.schema", "delivery", 1, 63, "", "schema of the ledger, of [a-z0-9_]") \
	X(MILLIS, pg_connect_timeout_ms, "pg.connect_timeout_ms", "5000", 1000, 600000, "ms", "limit for one connection attempt") \
	X(MILLIS, pg_statement_timeout_ms, "pg.statement_timeout_ms", "30000", 100, 3600000, "ms", "limit for one statement") \
	X(MILLIS, pg_idle_timeout_ms, "pg.idle_timeout_ms", "10000", 100, 3600000, "ms", "a transaction left idle is ended; keep below the group's session timeout") \
	X(MILLIS, migrate_lock_timeout_ms, "migrate.lock_timeout_ms", "5000", 1, 3600000, "ms", "how long migrate waits for a lock on a table; batches wait behind it") \
	X(SECRET, redis_url, "redis.url", "redis://localhost:6379/0", 0, 4096, "", "Redis; empty: no dedup, local limits") \
	X(TEXT, redis_tls_ca, "redis.tls.ca", "", 0, 4096, "file", "authorities that may vouch for a rediss:// server, PEM; empty: the system's") \
	X(TEXT, redis_tls_cert, "redis.tls.cert", "", 0, 4096, "file", "certificate that the worker shows to it, PEM; empty: none") \
	X(TEXT, redis_tls_key, "redis.tls.key", "", 0, 4096, "file", "key of that certificate, PEM, without a passphrase") \
	X(CHOICE, redis_plain_password, "redis.plain_password", "refuse", 0, 0, "refuse|allow", "a password over redis:// to another machine, in clear") \
	X(TEXT, redis_prefix, "redis.prefix", "dw:", 0, 64, "", "prefix of all keys") \
	X(MILLIS, redis_timeout_ms, "redis.timeout_ms", "250", 1, 60000, "ms", "limit for connecting and for one round trip") \
	X(TEXT, http_listen, "http.listen", "127.0.0.1:9464", 0, 255, "host:port", "metrics and health; port 0 takes a free one; empty: none") \
	X(INT, consumers, "consumers", "1", 1, 64, "threads", "consumer threads, one Kafka client each") \
	X(INT, workers, "workers", "2", 1, 64, "threads", "worker threads, one PostgreSQL and one Redis connection each") \
	X(INT, batch_max, "batch.max", "1000", 1, 10000, "records", "most records in one transaction") \
	X(INT, batch_interval_us, "batch.interval_us", "2000", 0, 1000000, "us", "workers take batches that are not full at multiples of this time; 0 takes records as they come") \
	X(INT, inflight_max, "inflight.max", "10000", 1, 1000000, "records", "records taken and not settled; beyond it partitions pause") \
	X(BYTES, inflight_max_bytes, "inflight.max_bytes", "16m", 1048576, 1073741824, "bytes", "bytes of the same") \
	X(MILLIS, commit_interval_ms, "commit.interval_ms", "500", 10, 60000, "ms", "time between offset commits") \
	X(MILLIS, rebalance_drain_ms, "rebalance.drain_ms", "5000", 0, 300000, "ms", "how long revoked partitions may drain") \
	X(SECONDS, dedup_ttl_s, "dedup.ttl", "24h", 0, 31536000, "s", "life of a done mark in Redis; 0: no dedup") \
	X(INT, rate_partner_per_second, "rate.partner.per_second", "0", 0, 1000000, "records/s", "limit of each partner; 0: none") \
	X(INT, rate_partner_burst, "rate.partner.burst", "1", 1, 1000000, "records", "records at once within the limit") \
	X(MILLIS, rate_defer_ms, "rate.defer_ms", "30000", 1, 86400000, "ms", "shortest wait in the deferred topic; its partitions are classes of waiting of 1, 4, 16 and 64 times this. A slot is good for twice as long") \
	X(CHOICE, rate_on_outage, "rate.on_outage", "local", 0, 0, "local|wait", "limits while Redis is down: this replica's share, or wait for it") \
	X(CHOICE, event_unknown_members, "event.unknown_members", "ignore", 0, 0, "ignore|refuse", "members that the schema does not know") \
	X(INT, ledger_slots, "ledger.slots", "16", 1, 1024, "rows", "rows that a partner's balance is spread over") \
	X(MILLIS, rules_poll_ms, "rules.poll_ms", "30000", 100, 3600000, "ms", "time between looks at the rules, beside notifications") \
	X(MILLIS, lag_interval_ms, "lag.interval_ms", "5000", 100, 600000, "ms", "time between looks at the ends of the log") \
	X(SECONDS, shutdown_timeout_s, "shutdown.timeout", "25", 1, 3600, "s", "limit for a clean leave") \
	X(CHOICE, log_format, "log.format", "logfmt", 0, 0, "logfmt|json", "format of log lines") \
	X(CHOICE, log_level, "log.level", "info", 0, 0, "error|warn|info|debug", "least level that is logged") \
	X(BYTES, log_buffer_bytes, "log.buffer", "256k", 4096, 67108864, "bytes", "log lines of `run` that stderr does not take yet; beyond it lines are dropped and counted")

struct options {
#define OPTION_FIELD_TEXT(field) const char *field
/* A secret is followed by the file that it came from, to be read again before each connection; NULL: it was given. */
#define OPTION_FIELD_SECRET(field) const char *field, *field##_file
#define OPTION_FIELD_INT(field) int64_t field
#define OPTION_FIELD_MILLIS(field) int64_t field
#define OPTION_FIELD_SECONDS(field) int64_t field
#define OPTION_FIELD_BYTES(field) int64_t field
#define OPTION_FIELD_CHOICE(field) int field
#define OPTION_FIELD(type, field, key, standard, min, max, unit, help) OPTION_FIELD_##type(field);
	OPTIONS(OPTION_FIELD)
#undef OPTION_FIELD
	struct kafka_settings kafka; /* brokers, group and the pass-through properties */
	struct origins *origins;     /* of options_blame */
};

/*
 * Fills *out from defaults, the file, `environment` and the flags in argv[1..], which it takes out: what
 * is left (positional arguments, and flags of the command, listed in `command_flags` by name, with "="
 * behind those that take a value) stays in argv, *argc is set; "--" ends the flags and is taken out.
 * `--config FILE` or DW_CONFIG names the file.
 * kafka_deferred_topic and kafka_dlq_topic come out filled.
 * Returns: 0; EXIT_USAGE for an unknown flag or one without its value; EXIT_CONFIG for a value
 * out of range or a bad file; and in `error` a line for each thing that is wrong (of flags: the first) that names the
 * option, the value (secrets: not) and the bound; the lines that fit. Owns: *out's strings live until options_release.
 */
must_use int options_load(struct options *out, int *argc, char **argv, char *const *environment,
                          const char *const *command_flags, char *error, size_t error_size);
void options_release(struct options *o);

/*
 * For errors that come after the loading: `reason`, which names an option at its beginning or behind ": ", and behind it
 * what set that option, as in "redis.url: expected redis:// (DW_REDIS_URL)". Returns: `text`, with the whole.
 */
const char *options_blame(const struct options *o, const char *reason, char *text, size_t size);

/* For --help. `wanted`: keys, and groups as "pg.", with spaces between them; NULL: all. */
void options_print_help(struct buf *out, const char *wanted);
void options_print_reference(struct buf *out); /* Markdown table */
void options_print_sample(struct buf *out);    /* a file with every default, commented out */

/* sysexits where they fit; the contract lists them. */
enum {
	EXIT_FINE = 0,
	EXIT_FOUND_WRONG = 1,
	EXIT_USAGE = 2,
	EXIT_UNAVAILABLE = 69,
	EXIT_INTERNAL = 70,
	EXIT_CONFIG = 78,
};

#endif
