#include "worker/cli/cli.h"

#include "common/clock.h"
#include "common/json_writer.h"
#include "worker/cli/table.h"
#include "worker/kafka/kafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_S = 10, PARTITIONS_MAX = 100000 };

struct row {
	const char *topic;
	int32_t partition;
	int64_t committed; /* -1: none; the start rule then begins at `low` */
	int64_t low;
	int64_t high;
	int64_t first_us; /* time of the first record that is not committed; -1: there is none, or it has no time */
};

struct lag_run {
	struct cli *cli;
	struct kafka_admin *admin;
	int timeout_ms;
	struct row *rows;
	size_t row_count;
};

/* What the group would read next. */
static int64_t next_of(const struct row *r)
{
	return r->committed > r->low ? r->committed : r->low;
}

/* As Kafka's own tool has it: from the commit to the end, what is lost of that included. -1 where the log ends below
 * the commit: it is another log, of which nobody knows yet what is to be read. */
static int64_t lag_of(const struct row *r)
{
	int64_t from = r->committed >= 0 ? r->committed : r->low;
	return r->high >= from ? r->high - from : -1;
}

/* How far the commit lies outside of the log; -1 without one. */
static int64_t lost_of(const struct row *r)
{
	if (r->committed < 0)
		return -1;
	return r->committed < r->low ? r->low - r->committed : r->committed > r->high ? r->committed - r->high : 0;
}

/* 0 when nothing is left, -1 when the time is not known. */
static double seconds_of(const struct row *r, int64_t now_us)
{
	if (r->first_us < 0)
		return lag_of(r) ? -1 : 0;
	return now_us > r->first_us ? (double)(now_us - r->first_us) / 1e6 : 0;
}

static int fail(const struct lag_run *run)
{
	return cli_fail(run->cli, EXIT_UNAVAILABLE, "%s", kafka_admin_error(run->admin));
}

static int add_topic(struct lag_run *run, const char *topic, bool optional)
{
	int count = kafka_admin_partition_count(run->admin, topic, run->timeout_ms);
	if (count == KAFKA_NO_SUCH && optional)
		return 0; /* nothing was deferred yet */
	if (count < 0)
		return fail(run);
	ENSURE(count <= PARTITIONS_MAX);
	run->rows = realloc(run->rows, (run->row_count + (size_t)count) * sizeof(*run->rows));
	ENSURE(run->rows != NULL);
	for (int32_t p = 0; p < count; p++)
		run->rows[run->row_count++] =
			(struct row){.topic = topic, .partition = p, .committed = -1, .first_us = -1};
	return 0;
}

static int ask_committed(struct lag_run *run)
{
	struct kafka_committed *entries = calloc(run->row_count, sizeof(*entries));
	ENSURE(entries != NULL);
	for (size_t i = 0; i < run->row_count; i++)
		entries[i] = (struct kafka_committed){.topic = run->rows[i].topic, .partition = run->rows[i].partition};
	enum kafka_answer answer = kafka_admin_committed(run->admin, entries, run->row_count, run->timeout_ms);
	for (size_t i = 0; answer == KAFKA_OK && i < run->row_count; i++)
		run->rows[i].committed = entries[i].offset;
	free(entries);
	return answer == KAFKA_OK ? 0 : fail(run);
}

static bool take_time(void *owner, const struct kafka_record *record)
{
	struct row *r = owner;
	r->first_us = record->timestamp_us;
	return false;
}

static int ask_position(struct lag_run *run, struct row *r)
{
	int64_t next;
	if (kafka_admin_watermarks(run->admin, r->topic, r->partition, run->timeout_ms, &r->low, &r->high) != KAFKA_OK)
		return fail(run);
	if (next_of(r) >= r->high)
		return 0; /* nothing is left to read */
	enum kafka_answer answer = kafka_admin_read(run->admin, r->topic, r->partition, next_of(r), run->timeout_ms,
						    take_time, r, &next);
	/* Where the log is damaged the time is not known; the offsets are, and the other partitions. */
	return answer == KAFKA_OK || answer == KAFKA_DAMAGED ? 0 : fail(run);
}

static int ask(struct lag_run *run)
{
	const struct options *o = run->cli->options;
	int code = add_topic(run, o->kafka_topic, false);
	if (!code)
		code = add_topic(run, o->kafka_deferred_topic, true);
	if (!code)
		code = ask_committed(run);
	for (size_t i = 0; !code && i < run->row_count; i++)
		code = ask_position(run, &run->rows[i]);
	return code;
}

struct total {
	int64_t lag, lost; /* -1 if any is not known */
	double seconds;    /* the most; -1 if any is not known */
};

static void add_known(int64_t *sum, int64_t more)
{
	*sum = *sum < 0 || more < 0 ? -1 : *sum + more;
}

static struct total total_of(const struct lag_run *run, int64_t now_us)
{
	struct total t = {0, 0, 0};
	for (size_t i = 0; i < run->row_count; i++) {
		double seconds = seconds_of(&run->rows[i], now_us);
		add_known(&t.lag, lag_of(&run->rows[i]));
		/* Without a commit nothing is lost that Kafka knows of. */
		if (run->rows[i].committed >= 0)
			add_known(&t.lost, lost_of(&run->rows[i]));
		if (seconds < 0 || t.seconds < 0)
			t.seconds = -1;
		else if (seconds > t.seconds)
			t.seconds = seconds;
	}
	return t;
}

static void cell_number(struct table *t, int64_t number)
{
	if (number < 0)
		table_cell(t, "-");
	else
		table_cell(t, "%" PRId64, number);
}

static void cell_seconds(struct table *t, double seconds)
{
	if (seconds < 0)
		table_cell(t, "-");
	else
		table_cell(t, "%.1f", seconds);
}

static void print_table(const struct lag_run *run, int64_t now_us)
{
	static const struct table_column columns[] = {{"TOPIC", false},    {"PARTITION", true}, {"START", true},
						      {"COMMITTED", true}, {"END", true},       {"LAG", true},
						      {"LOST", true},      {"SECONDS", true}};
	struct table t = table_of(columns, sizeof(columns) / sizeof(columns[0]));
	struct total total = total_of(run, now_us);

	for (size_t i = 0; i < run->row_count; i++) {
		const struct row *r = &run->rows[i];
		table_cell(&t, "%s", r->topic);
		table_cell(&t, "%" PRId32, r->partition);
		cell_number(&t, r->low);
		cell_number(&t, r->committed);
		cell_number(&t, r->high);
		cell_number(&t, lag_of(r));
		cell_number(&t, lost_of(r));
		cell_seconds(&t, seconds_of(r, now_us));
	}
	table_cell(&t, "total");
	for (int i = 0; i < 4; i++)
		table_cell(&t, "%s", "");
	cell_number(&t, total.lag);
	cell_number(&t, total.lost);
	cell_seconds(&t, total.seconds);
	table_print(&t, stdout);
	table_release(&t);
}

static void put_number(struct json_writer *w, const char *name, int64_t number)
{
	json_put_key(w, name);
	if (number < 0)
		json_put_null(w);
	else
		json_put_int(w, number);
}

static void put_seconds(struct json_writer *w, const char *name, double seconds)
{
	json_put_key(w, name);
	if (seconds < 0)
		json_put_null(w);
	else
		json_put_real(w, seconds);
}

static void print_json(const struct lag_run *run, int64_t now_us)
{
	struct buf out = BUF_INIT;
	struct json_writer w = json_writer_to(&out);
	struct total total = total_of(run, now_us);

	json_put_open(&w, '{');
	json_put_key(&w, "group"), json_put_text(&w, run->cli->options->kafka_group);
	put_number(&w, "lag", total.lag);
	put_number(&w, "lost", total.lost);
	put_seconds(&w, "lag_seconds", total.seconds);
	json_put_key(&w, "partitions"), json_put_open(&w, '[');
	for (size_t i = 0; i < run->row_count; i++) {
		const struct row *r = &run->rows[i];
		json_put_open(&w, '{');
		json_put_key(&w, "topic"), json_put_text(&w, r->topic);
		json_put_key(&w, "partition"), json_put_int(&w, r->partition);
		put_number(&w, "committed", r->committed);
		put_number(&w, "start_offset", r->low);
		put_number(&w, "end_offset", r->high);
		put_number(&w, "lag", lag_of(r));
		put_number(&w, "lost", lost_of(r));
		put_seconds(&w, "lag_seconds", seconds_of(r, now_us));
		json_put_close(&w, '}');
	}
	json_put_close(&w, ']');
	json_put_close(&w, '}');
	buf_putc(&out, '\n');
	fwrite(out.data, 1, out.len, stdout);
	buf_release(&out);
}

static int run_lag(struct cli *cli)
{
	struct lag_run run = {.cli = cli};
	int64_t timeout_s = TIMEOUT_S;
	bool as_json = cli_flag(cli, "json");
	char error[512];

	if (!cli_integer(cli, "timeout", 1, 3600, &timeout_s))
		return EXIT_USAGE;
	if (cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "unexpected argument \"%s\"", cli->argv[1]);
	run.timeout_ms = (int)timeout_s * 1000;
	if (kafka_admin_open(&cli->options->kafka, &run.admin, error, sizeof(error)))
		return cli_fail(cli, EXIT_CONFIG, "%s", error);
	int code = ask(&run);
	int64_t now_us = clock_wall_us();
	if (!code && as_json)
		print_json(&run, now_us);
	else if (!code)
		print_table(&run, now_us);
	kafka_admin_close(run.admin);
	free(run.rows);
	return code;
}

static const char *const flags[] = {"json", "timeout=", NULL};

const struct command command_lag = {
	.name = "lag",
	.arguments = "[--json] [--timeout SECONDS]",
	.help = "the group's lag per partition, straight from Kafka",
	.flags = flags,
	.flags_help = "  --json              for machines\n"
		      "  --timeout SECONDS   for each question to the brokers (10)\n",
	.options = "kafka.brokers kafka.topic kafka.deferred_topic kafka.group log.format log.level",
	.run = run_lag,
};
