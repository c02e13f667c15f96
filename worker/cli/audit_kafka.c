#include "worker/cli/audit.h"

#include "schemas/event.h"
#include "worker/audit/ledger_audit.h"
#include "worker/audit/letters.h"
#include "worker/audit/replay.h"
#include "worker/cli/ledger_session.h"
#include "worker/cli/topic_scan.h"
#include "worker/pipeline/copy.h"

#include <inttypes.h>
#include <stdlib.h>

/* Where the snapshot's progress stands in one partition. */
struct progress {
	bool deferred;
	int32_t partition;
	int64_t next_offset;
};

struct recomputing {
	struct cli *cli;
	struct audit_report *report;
	struct replay *replay;
	struct kafka_admin *admin;
	struct event_decoder *decoder;
	struct progress *progress;
	size_t progress_count;
	struct letters *letters;
	uint64_t refused;
	/* The partition being read. */
	bool deferred;
	int64_t until;
};

/* ---- the snapshot ---- */

/* Sums beyond bigint are wrong anyway, and the audit of the tables says so. */
static const char select_orders[] =
	"SELECT " ORDER_ROW_COLUMNS ", greatest(least(coalesce(p.points, 0), 9e18), -9e18)::int8,"
	" greatest(least(coalesce(p.credit, 0), 9e18), -9e18)::int8"
	" FROM orders o LEFT JOIN (SELECT order_id, sum(amount) FILTER (WHERE kind = 1) AS points,"
	" sum(amount) FILTER (WHERE kind = 2) AS credit FROM posted GROUP BY order_id) p ON p.order_id = o.order_id";

static void load_order(void *owner, const struct pg_rows *rows, size_t row)
{
	struct recomputing *c = owner;
	struct order_row o;
	/* What is wrong with the row itself was found by the audit of the tables. */
	(void)order_row_read(rows, row, &o);
	replay_ledger_order(c->replay, &o, pg_integer(rows, row, ORDER_ROW_COLUMN_COUNT),
	                    pg_integer(rows, row, ORDER_ROW_COLUMN_COUNT + 1));
}

static enum pg_result load_progress(struct recomputing *c, struct pg *pg)
{
	const struct options *o = c->cli->options;
	struct pg_params *params = pg_params_new();
	struct pg_rows *rows = NULL;
	pg_put_text(params, slice_of(o->kafka_group));
	pg_put_text(params, slice_of(o->kafka_topic));
	pg_put_text(params, slice_of(o->kafka_deferred_topic));
	enum pg_result result = pg_query(pg,
	                                 "SELECT topic = $3, partition, next_offset FROM progress"
	                                 " WHERE consumer_group = $1 AND topic IN ($2, $3)",
	                                 params, &rows);
	pg_params_free(params);
	if (result != PG_OK)
		return result;
	c->progress_count = pg_rows_count(rows);
	c->progress = calloc(c->progress_count + 1, sizeof(*c->progress));
	ENSURE(c->progress);
	for (size_t i = 0; i < c->progress_count; i++)
		c->progress[i] = (struct progress){pg_integer(rows, i, 0) != 0, (int32_t)pg_integer(rows, i, 1),
		                                   pg_integer(rows, i, 2)};
	pg_rows_free(rows);
	return PG_OK;
}

static int load_snapshot(struct recomputing *c, struct pg *pg)
{
	enum pg_result result = ledger_audit_stream(pg, select_orders, load_order, c);
	if (result == PG_OK)
		result = load_progress(c, pg);
	/* Reading topics takes long, and a snapshot that is kept stops the server from cleaning up. */
	if (result == PG_OK)
		result = pg_rollback(pg);
	return result == PG_OK ? EXIT_FINE : ledger_session_fail(c->cli, result, pg_error(pg));
}

/* -1: none; then nothing of the partition is known to be in the ledger. */
static int64_t progress_of(const struct recomputing *c, bool deferred, int32_t partition)
{
	for (size_t i = 0; i < c->progress_count; i++)
		if (c->progress[i].deferred == deferred && c->progress[i].partition == partition)
			return c->progress[i].next_offset;
	return -1;
}

/* ---- dead letters ---- */

/* The place of the original that a copy's headers name. */
static bool source_place(const struct recomputing *c, const struct kafka_record *record, struct place *out)
{
	const struct options *o = c->cli->options;
	int64_t partition, offset;
	struct slice topic = topic_scan_header(record, "dw_source_topic");
	bool deferred = slice_equal(topic, slice_of(o->kafka_deferred_topic));
	if ((!deferred && !slice_equal(topic, slice_of(o->kafka_topic))) ||
	    !topic_scan_header_number(record, "dw_source_partition", INT32_MAX, &partition) ||
	    !topic_scan_header_number(record, "dw_source_offset", INT64_MAX, &offset))
		return false;
	*out = (struct place){offset, (int32_t)partition, deferred};
	return true;
}

static enum error_code code_of_name(struct slice name)
{
	for (enum error_code code = ERROR_NONE + 1; code < ERROR_CODE_COUNT; code++)
		if (slice_equal(name, slice_of(error_code_name(code))))
			return code;
	return ERROR_NONE;
}

static bool note_dead_letter(void *owner, const struct kafka_record *record)
{
	struct recomputing *c = owner;
	struct place place;
	if (source_place(c, record, &place))
		letters_note(c->letters, place, code_of_name(topic_scan_header(record, "dw_error_code")));
	return true;
}

/* ---- events ---- */

static bool take_record(void *owner, const struct kafka_record *record)
{
	struct recomputing *c = owner;
	struct event event;
	struct decode_error error;
	int64_t time_us = c->deferred ? copy_source_timestamp(record->headers, record->header_count, record->timestamp_us)
	                              : record->timestamp_us;
	bool settled = record->offset < c->until;
	struct place place = {record->offset, record->partition, c->deferred};
	if (c->deferred)
		(void)source_place(c, record, &place); /* a stranger's record is its own */
	enum error_code code =
		event_decode(c->decoder, record->value, record->headers, record->header_count, time_us, &event, &error);
	if (c->deferred && !settled)
		letters_wait(c->letters, place);
	if (code != ERROR_NONE && settled) {
		c->refused++;
		letters_want(c->letters, place, code);
	} else if (code == ERROR_NONE && !settled) {
		replay_pending(c->replay, event.order_id);
	} else if (code == ERROR_NONE && letters_say(c->letters, place, ERROR_DATABASE_REJECTED)) {
		replay_rejected(c->replay, event.order_id);
	} else if (code == ERROR_NONE && !replay_record(c->replay, &event)) {
		letters_want(c->letters, place, ERROR_ORDER_CONFLICT);
	}
	return true;
}

/* What a partition's progress must have to do with its log; the start rule calls anything else data loss. */
static void check_progress(struct recomputing *c, const char *topic, int32_t partition, const struct log_range *range)
{
	audit_examined(c->report, 1);
	if (c->until > range->high)
		audit_wrong(c->report, "%s[%" PRId32 "]: progress %" PRId64 " is beyond the log's end, %" PRId64, topic, partition,
		            c->until, range->high);
	else if (c->until >= 0 && c->until < range->low)
		audit_wrong(c->report, "%s[%" PRId32 "]: progress %" PRId64 " is below the log's start, %" PRId64, topic, partition,
		            c->until, range->low);
}

static int read_topic(struct recomputing *c, const char *topic, bool deferred)
{
	int count = 0;
	int code = topic_scan_partitions(c->cli, c->admin, topic, deferred, &count);
	c->deferred = deferred;
	for (int32_t partition = 0; code == EXIT_FINE && partition < count; partition++) {
		struct log_range range;
		code = topic_scan_range(c->cli, c->admin, topic, partition, &range);
		if (code != EXIT_FINE)
			break;
		c->until = progress_of(c, deferred, partition);
		check_progress(c, topic, partition, &range);
		replay_log_start(c->replay, deferred, partition, range.low);
		code = topic_scan_read(c->cli, c->admin, topic, partition, &range, take_record, c);
	}
	for (size_t i = 0; code == EXIT_FINE && i < c->progress_count; i++)
		if (c->progress[i].deferred == deferred && c->progress[i].partition >= count)
			audit_wrong(c->report, "%s[%" PRId32 "]: progress, and no such partition", topic, c->progress[i].partition);
	return code;
}

static int read_dead_letters(struct recomputing *c)
{
	const char *topic = c->cli->options->kafka_dlq_topic;
	int count = 0;
	int code = topic_scan_partitions(c->cli, c->admin, topic, true, &count);
	for (int32_t partition = 0; code == EXIT_FINE && partition < count; partition++) {
		struct log_range range;
		code = topic_scan_range(c->cli, c->admin, topic, partition, &range);
		if (code == EXIT_FINE && range.low > 0)
			letters_incomplete(c->letters);
		if (code == EXIT_FINE)
			code = topic_scan_read(c->cli, c->admin, topic, partition, &range, note_dead_letter, c);
	}
	return code;
}

static int recompute(struct recomputing *c)
{
	const struct options *o = c->cli->options;
	int code = read_dead_letters(c);
	audit_check_begin(c->report, "progress lies within the log", "partitions");
	if (code == EXIT_FINE)
		code = read_topic(c, o->kafka_topic, false);
	if (code == EXIT_FINE)
		code = read_topic(c, o->kafka_deferred_topic, true);
	if (code != EXIT_FINE)
		return code;
	replay_compare(c->replay, c->report);
	letters_compare(c->letters, (const char *const[]){o->kafka_topic, o->kafka_deferred_topic}, c->report);
	audit_apart(c->report, "records that are no valid event", c->refused);
	return EXIT_FINE;
}

int audit_from_kafka(struct cli *cli, struct pg *pg, const struct rules *rules, struct audit_report *report)
{
	const struct event_decoder_options decoding = {.refuse_unknown = cli->options->event_unknown_members != 0};
	struct recomputing c = {.cli = cli, .report = report};
	int code = topic_scan_open(cli, &c.admin);
	if (code != EXIT_FINE)
		return code;
	c.replay = replay_new(rules, cli->options->kafka_topic, cli->options->kafka_deferred_topic);
	c.letters = letters_new();
	c.decoder = event_decoder_new(&decoding);
	/* The snapshot first: whatever it holds came from records that are in the log by now. */
	code = load_snapshot(&c, pg);
	if (code == EXIT_FINE)
		code = recompute(&c);
	event_decoder_free(c.decoder);
	replay_free(c.replay);
	kafka_admin_close(c.admin);
	letters_free(c.letters);
	free(c.progress);
	return code;
}
