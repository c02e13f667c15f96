/*
 * What /metrics shows. One row a metric; the exposition is made from these tables, so every series
 * exists from the start, at 0, but for what is not known.
 *
 * The fate of records is published by each consumer as one consistent tally: consumed = sum of settled
 * + in flight holds at every scrape [I7]. Everything else is relaxed atomics.
 *
 * Thread: any.
 */
#ifndef WORKER_OBSERVE_METRICS_H
#define WORKER_OBSERVE_METRICS_H

#include "common/buf.h"
#include "schemas/error_code.h"

#include <stdbool.h>
#include <stdint.h>

#define METRICS_PREFIX "delivery_worker_"

/* X(symbol, label) in the order shown. */
#define OUTCOMES(X) \
	X(CREDITED, "credited")           /* a posting of either sign names this record */ \
	X(RECORDED, "recorded")           /* merged, nothing posted */ \
	X(STALE, "stale")                 /* a lower status than the order's progress; merged */ \
	X(DUPLICATE, "duplicate")         /* a done mark, or an equal record earlier in the batch */ \
	X(DEFERRED, "deferred")           /* its copy in .deferred was delivered */ \
	X(DEAD_LETTERED, "dead_lettered") /* its copy in .dlq was delivered */ \
	X(RELEASED, "released")           /* let go with its partition; whoever reads it next counts it anew */

enum outcome {
#define OUTCOME_ENUM(symbol, label) OUTCOME_##symbol,
	OUTCOMES(OUTCOME_ENUM)
#undef OUTCOME_ENUM
	OUTCOME_COUNT
};

struct tally {
	uint64_t consumed;
	uint64_t settled[OUTCOME_COUNT];
	uint64_t dead_letters[ERROR_CODE_COUNT];
	uint64_t in_flight; /* counted where records live, never derived */
};

enum { METRICS_CONSUMERS_MAX = 64 };

/* Replaces what consumer `index` published before, as one. */
void metrics_publish_tally(int index, const struct tally *t);
void metrics_read_tally(struct tally *sum);

/* X(symbol, family, type, labels, help): labels as in the exposition, "" for none. Rows of a family stand together. */
#define METRICS(X) \
	X(REBALANCE_ASSIGNED, "rebalances_total", "counter", "kind=\"assigned\"", "Rebalance events by kind.") \
	X(REBALANCE_REVOKED, "rebalances_total", "counter", "kind=\"revoked\"", "Rebalance events by kind.") \
	X(REBALANCE_LOST, "rebalances_total", "counter", "kind=\"lost\"", "Rebalance events by kind.") \
	X(UP_KAFKA, "dependency_up", "gauge", "dependency=\"kafka\"", "1 while the last contact with the dependency succeeded.") \
	X(UP_POSTGRESQL, "dependency_up", "gauge", "dependency=\"postgresql\"", "1 while the last contact with the dependency succeeded.") \
	X(UP_REDIS, "dependency_up", "gauge", "dependency=\"redis\"", "1 while the last contact with the dependency succeeded.") \
	X(DEGRADED_DEDUP, "degraded", "gauge", "what=\"dedup\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_RATE_LIMIT, "degraded", "gauge", "what=\"rate_limit\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_LEDGER, "degraded", "gauge", "what=\"ledger\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_DEAD_LETTERS, "degraded", "gauge", "what=\"dead_letters\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_DEFERRED, "degraded", "gauge", "what=\"deferred\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_OFFSET_LOST, "degraded", "gauge", "what=\"offset_lost\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_UNREADABLE, "degraded", "gauge", "what=\"unreadable\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_WAITING, "degraded", "gauge", "what=\"waiting\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_UNKNOWN_CODES, "degraded", "gauge", "what=\"unknown_codes\"", "1 while the worker runs with less than it is set up for.") \
	X(DEGRADED_KAFKA_QUOTA, "degraded", "gauge", "what=\"kafka_quota\"", "1 while the worker runs with less than it is set up for.") \
	X(ASSIGNED_PARTITIONS, "assigned_partitions", "gauge", "", "Partitions assigned to this worker.") \
	X(IN_FLIGHT_BYTES, "in_flight_bytes", "gauge", "", "Bytes of records in flight.") \
	X(PG_COMMITTED, "pg_transactions_total", "counter", "result=\"committed\"", "Batch transactions by result.") \
	X(PG_RETRIED, "pg_transactions_total", "counter", "result=\"retried\"", "Batch transactions by result.") \
	X(PG_REJECTED, "pg_transactions_total", "counter", "result=\"rejected\"", "Batch transactions by result.") \
	X(PG_HISTORY_CHANGED, "pg_transactions_total", "counter", "result=\"history_changed\"", "Batch transactions by result.") \
	X(LEDGER_ASSIGN_OK, "ledger_requests_total", "counter", "op=\"assign\",result=\"ok\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_ASSIGN_FAILED, "ledger_requests_total", "counter", "op=\"assign\",result=\"failed\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_PROGRESS_OK, "ledger_requests_total", "counter", "op=\"progress\",result=\"ok\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_PROGRESS_FAILED, "ledger_requests_total", "counter", "op=\"progress\",result=\"failed\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_RULES_OK, "ledger_requests_total", "counter", "op=\"rules\",result=\"ok\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_RULES_FAILED, "ledger_requests_total", "counter", "op=\"rules\",result=\"failed\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_HISTORY_OK, "ledger_requests_total", "counter", "op=\"history\",result=\"ok\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_HISTORY_FAILED, "ledger_requests_total", "counter", "op=\"history\",result=\"failed\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_MEMBER_OK, "ledger_requests_total", "counter", "op=\"member\",result=\"ok\"", "Statements outside of batches by operation and result.") \
	X(LEDGER_MEMBER_FAILED, "ledger_requests_total", "counter", "op=\"member\",result=\"failed\"", "Statements outside of batches by operation and result.") \
	X(COMMIT_OK, "commits_total", "counter", "result=\"ok\"", "Offset commits by result.") \
	X(COMMIT_FAILED, "commits_total", "counter", "result=\"failed\"", "Offset commits by result.") \
	X(KAFKA_UNREADABLE, "kafka_unreadable_total", "counter", "", "Times that a partition's next batch could not be read.") \
	X(REDIS_LOOKUP_OK, "redis_requests_total", "counter", "op=\"lookup\",result=\"ok\"", "Requests to Redis by operation and result.") \
	X(REDIS_LOOKUP_FAILED, "redis_requests_total", "counter", "op=\"lookup\",result=\"failed\"", "Requests to Redis by operation and result.") \
	X(REDIS_ADMIT_OK, "redis_requests_total", "counter", "op=\"admit\",result=\"ok\"", "Requests to Redis by operation and result.") \
	X(REDIS_ADMIT_FAILED, "redis_requests_total", "counter", "op=\"admit\",result=\"failed\"", "Requests to Redis by operation and result.") \
	X(REDIS_MARK_OK, "redis_requests_total", "counter", "op=\"mark\",result=\"ok\"", "Requests to Redis by operation and result.") \
	X(REDIS_MARK_FAILED, "redis_requests_total", "counter", "op=\"mark\",result=\"failed\"", "Requests to Redis by operation and result.") \
	X(UNKNOWN_CODES, "unknown_code_deferrals_total", "counter", "", "Records deferred since their order's row holds a code that this version does not know.") \
	X(DEFERRED_FIRST, "deferred_copies_total", "counter", "kind=\"first\"", "Copies written to the deferred topic: the first of a record, or another one while it waits.") \
	X(DEFERRED_AGAIN, "deferred_copies_total", "counter", "kind=\"again\"", "Copies written to the deferred topic: the first of a record, or another one while it waits.") \
	X(DEFERRED_OLDEST_AGE, "deferred_oldest_age_seconds", "gauge", "", "Age of the oldest record that waits at the head of a deferred partition here, from its original's time.") \
	X(UNKNOWN_MEMBERS, "unknown_members_total", "counter", "", "Members of events that the schema does not know.") \
	X(HTTP_CUT_HEAD, "http_connections_cut_total", "counter", "waiting_for=\"request\"", "Slow HTTP connections closed to make room for another.") \
	X(HTTP_CUT_ANSWER, "http_connections_cut_total", "counter", "waiting_for=\"reader\"", "Slow HTTP connections closed to make room for another.") \
	X(LOG_SUPPRESSED, "log_lines_suppressed_total", "counter", "", "Log lines held back by the rate limit.") \
	X(LOG_DROPPED, "log_lines_dropped_total", "counter", "", "Log lines that stderr did not take in time.")

enum metric {
#define METRIC_ENUM(symbol, family, type, labels, help) METRIC_##symbol,
	METRICS(METRIC_ENUM)
#undef METRIC_ENUM
	METRIC_COUNT
};

/* A gauge that nothing is known of yet, as dependency_up has it until the dependency was asked: it is not shown. */
enum { METRIC_UNKNOWN = -1 };

void metric_add(enum metric m, uint64_t n);
void metric_set(enum metric m, int64_t value);
int64_t metric_get(enum metric m);

/* A gauge that several write is 1 while any of them says so: one's success does not hide another's failure. */
enum voter { VOTER_POOL, VOTER_KEEPER };
void metric_vote(enum metric m, enum voter v, bool on);

/* X(symbol, family, labels, scale, help); scale picks the buckets: seconds, the finer ones of latency, or records. */
#define HISTOGRAMS(X) \
	X(RECORD_LATENCY, "record_latency_seconds", "", LATENCY, "Record timestamp to PostgreSQL commit.") \
	X(BATCH_RECORDS, "batch_records", "", RECORDS, "Records a batch.") \
	X(BATCH_ADMIT, "batch_seconds", "stage=\"admit\"", SECONDS, "Time a batch spends by stage.") \
	X(BATCH_WRITE, "batch_seconds", "stage=\"write\"", SECONDS, "Time a batch spends by stage.") \
	X(BATCH_CONFIRM, "batch_seconds", "stage=\"confirm\"", SECONDS, "Time a batch spends by stage.") \
	X(BATCH_WAIT, "batch_seconds", "stage=\"wait\"", SECONDS, "Time a batch spends by stage.")

enum histogram {
#define HISTOGRAM_ENUM(symbol, family, labels, scale, help) HISTOGRAM_##symbol,
	HISTOGRAMS(HISTOGRAM_ENUM)
#undef HISTOGRAM_ENUM
	HISTOGRAM_COUNT
};

/* Records `count` observations of `value` (seconds, or records). */
void histogram_observe(enum histogram h, double value, uint64_t count);
/* The value below which `quantile` (0..1) of the observations lie, interpolated in its bucket; NAN without any. */
double histogram_quantile(enum histogram h, double quantile);

/* Adds a label to build_info, e.g. "version". Thread: before the others start. */
void metrics_build_label(const char *name, const char *value);

/* Appends the whole exposition but for the per-partition families, which lag.h appends. */
void metrics_expose(struct buf *out);

#endif
