#include "worker/cli/cli.h"

#include "common/clock.h"
#include "common/parse.h"
#include "schemas/timestamp.h"
#include "worker/cli/generate.h"
#include "worker/cli/interrupt.h"
#include "worker/cli/line_reader.h"
#include "worker/cli/progress.h"
#include "worker/kafka/kafka.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

enum {
	SLOTS = 8192, /* records under way: below the client's own queue */
	ASK_TIMEOUT_MS = 10000,
	STALL_MS = 30000, /* without a report, where message.timeout.ms was raised: the brokers are away */
	WAIT_MS = 100,
	PROGRESS_MS = 100,
	ORDER_ID_BYTES_MAX = 256,
};

/* Where records come from: a file of lines, or the generator. */
struct source {
	struct generator *generator; /* NULL: lines */
	struct line_reader lines;
	const char *name;
	int64_t total; /* records of a generator, bytes of a file; 0: not known */
	int64_t blank_lines;
	int64_t blank_bytes;
};

struct produce_run {
	struct cli *cli;
	struct kafka_producer *producer;
	struct source source;
	int64_t rate; /* records/s; 0: as fast as it goes */
	int32_t partition;
	struct buf values[SLOTS]; /* the producer borrows them until their report */
	int64_t shares[SLOTS];    /* of source.total */
	int free_slots[SLOTS];
	int free_count;
	int64_t given, sent, failed, bytes;
	int64_t answered; /* of source.total */
	bool away;        /* no report for STALL_MS, or the client has given up */
	bool refused;     /* not for the record's sake: the brokers are away or take nothing */
	char reason[256]; /* of the first failure, a refusal's before others */
	int64_t started_us, reported_ms, shown_ms;
	bool terminal;
};

/* ---- sources ---- */

/*
 * What stands behind the first "order_id": good enough for a key, and it also works in a line that is no JSON, which
 * this command is to send as well.
 */
static struct slice find_order_id(struct slice line)
{
	static const char name[] = "\"order_id\"";
	const char *end = line.data + line.len;
	const char *at = memmem(line.data, line.len, name, sizeof(name) - 1);
	if (!at)
		return (struct slice){NULL, 0};
	at += sizeof(name) - 1;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (at == end || *at++ != ':')
		return (struct slice){NULL, 0};
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (at == end || *at++ != '"')
		return (struct slice){NULL, 0};
	const char *quote = memchr(at, '"', (size_t)(end - at));
	bool plain = quote && quote > at && quote - at <= ORDER_ID_BYTES_MAX && !memchr(at, '\\', (size_t)(quote - at));
	return plain ? (struct slice){at, (size_t)(quote - at)} : (struct slice){NULL, 0};
}

static bool is_blank(struct slice line)
{
	for (size_t i = 0; i < line.len; i++) {
		if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
			return false;
	}
	return true;
}

/* A blank line is no record: files end in them, and editors leave them behind. *share: of source.total. */
static enum line_result next_line(struct source *s, int wait_ms, struct generated *out, int64_t *share)
{
	enum line_result result;
	while ((result = line_reader_next(&s->lines, wait_ms, &out->value)) == LINE_FOUND) {
		*share = (int64_t)out->value.len + 1;
		if (!is_blank(out->value)) {
			out->key = find_order_id(out->value);
			break;
		}
		s->blank_lines++;
		s->blank_bytes += *share;
	}
	return result;
}

static enum line_result next_record(struct source *s, int wait_ms, struct generated *out, int64_t *share)
{
	if (!s->generator)
		return next_line(s, wait_ms, out, share);
	*share = 1;
	return generator_next(s->generator, out) ? LINE_FOUND : LINE_END;
}

static void close_source(struct source *s)
{
	if (s->generator)
		generator_free(s->generator);
	if (s->lines.fd > STDIN_FILENO)
		close(s->lines.fd);
	line_reader_release(&s->lines);
}

/* ---- sending ---- */

static void on_delivered(void *owner, void *tag, enum kafka_delivery result, const char *reason)
{
	struct produce_run *run = owner;
	int slot = (int)(intptr_t)tag;

	run->free_slots[run->free_count++] = slot;
	run->answered += run->shares[slot];
	if (result != KAFKA_REFUSED)
		run->reported_ms = clock_mono_ms();
	if (result == KAFKA_DELIVERED) {
		run->sent++;
		run->bytes += (int64_t)run->values[slot].len;
		return;
	}
	run->failed++;
	if (run->reason[0] == '\0' || (result == KAFKA_REFUSED && !run->refused))
		snprintf(run->reason, sizeof(run->reason), "%s", reason);
	run->refused |= result == KAFKA_REFUSED;
}

static void show_progress(struct produce_run *run)
{
	char text[64];
	int64_t now_ms = clock_mono_ms();
	if (!run->terminal || now_ms - run->shown_ms < PROGRESS_MS)
		return;
	run->shown_ms = now_ms;
	int64_t passed_us = clock_mono_us() - run->started_us;
	snprintf(text, sizeof(text), "%" PRId64 " sent, %.0f/s", run->sent,
		 passed_us > 0 ? (double)run->sent * 1e6 / (double)passed_us : 0);
	progress_show(run->answered + run->source.blank_bytes, run->source.total, text);
}

/* Takes what reports there are, and waits that long for some. Returns: false when it is not worth going on. */
static bool wait_for_reports(struct produce_run *run, int64_t wait_ms)
{
	kafka_producer_poll(run->producer, (int)(wait_ms < WAIT_MS ? wait_ms : WAIT_MS));
	show_progress(run);
	if (kafka_producer_pending(run->producer) == 0)
		run->reported_ms = clock_mono_ms();
	run->away = kafka_producer_fatal(run->producer) || clock_mono_ms() - run->reported_ms >= STALL_MS;
	return !run->away;
}

/* The same for who still has records to give, which a signal ends. */
static bool wait_to_give(struct produce_run *run, int64_t wait_ms)
{
	return wait_for_reports(run, wait_ms) && interrupt_count() == 0;
}

/* Waits for the record's time under --rate. */
static bool wait_for_turn(struct produce_run *run)
{
	int64_t due_us = run->rate ? run->started_us + run->given * 1000000 / run->rate : 0;
	for (int64_t left_us; (left_us = due_us - clock_mono_us()) > 0;) {
		if (!wait_to_give(run, (left_us + 999) / 1000))
			return false;
	}
	return true;
}

static void fail_slot(struct produce_run *run, int slot, int result)
{
	/* As a report would; told at once, it has none. */
	on_delivered(run, (void *)(intptr_t)slot, (enum kafka_delivery)result,
		     result == KAFKA_TOO_LARGE ? "too large for the client's message.max.bytes"
					       : "refused by the client");
}

/* Returns: false when the record was not taken and no other will be: the brokers are away, or a signal came. */
static bool send_record(struct produce_run *run, const struct generated *record, int64_t share)
{
	if (!wait_for_turn(run))
		return false;
	while (run->free_count == 0) {
		if (!wait_to_give(run, WAIT_MS))
			return false;
	}
	/* With none under way none was due: the time without a report begins now. */
	if (kafka_producer_pending(run->producer) == 0)
		run->reported_ms = clock_mono_ms();
	int slot = run->free_slots[--run->free_count];
	run->shares[slot] = share;
	struct buf *value = &run->values[slot];
	buf_clear(value);
	if (slice_present(record->value))
		buf_append(value, record->value.data, record->value.len);
	struct kafka_message m = {.topic = run->cli->options->kafka_topic,
				  .partition = run->partition,
				  .key = record->key,
				  .value = slice_present(record->value) ? buf_slice(value) : (struct slice){NULL, 0}};
	for (;;) {
		int result = kafka_producer_send(run->producer, &m, (void *)(intptr_t)slot);
		if (result == 0)
			break;
		if (result != KAFKA_QUEUE_FULL) {
			fail_slot(run, slot, result);
			break;
		}
		if (!wait_to_give(run, WAIT_MS))
			return false;
	}
	run->given++;
	if (run->given % 256 == 0) {
		kafka_producer_poll(run->producer, 0);
		show_progress(run);
	}
	return true;
}

static void print_counts(const struct produce_run *run)
{
	double seconds = (double)(clock_mono_us() - run->started_us) / 1e6;

	if (run->terminal)
		progress_clear();
	printf("%" PRId64 " sent, %" PRId64 " failed, %.1f MB, %.0f/s", run->sent, run->failed,
	       (double)run->bytes / 1e6, seconds > 0 ? (double)run->sent / seconds : 0);
	if (run->source.blank_lines > 0)
		printf(", %" PRId64 " blank lines skipped", run->source.blank_lines);
	putchar('\n');
}

/* `ended`: all of the source was given. */
static int report(struct produce_run *run, bool ended)
{
	const char *fatal = kafka_producer_fatal(run->producer);
	int left = kafka_producer_pending(run->producer);

	print_counts(run);
	if (fatal)
		return cli_fail(run->cli, EXIT_UNAVAILABLE, "the client has given up: %s", fatal);
	if (left > 0 && run->away)
		return cli_fail(run->cli, EXIT_UNAVAILABLE,
				"no report from the brokers for %d s; %d records are uncertain", STALL_MS / 1000, left);
	if (left > 0)
		return cli_fail(run->cli, EXIT_UNAVAILABLE, "interrupted twice; %d records are uncertain", left);
	if (run->refused)
		return cli_fail(run->cli, EXIT_UNAVAILABLE, "stopped, as the brokers did not take a record: %s", run->reason);
	if (run->source.lines.error)
		return cli_fail(run->cli, EXIT_USAGE, "reading %s failed: %s", run->source.name,
				strerror(run->source.lines.error));
	if (!ended)
		return cli_fail(run->cli, EXIT_UNAVAILABLE, "interrupted; the rest of %s was not sent",
				run->source.name);
	if (run->failed > 0)
		return cli_fail(run->cli, EXIT_FOUND_WRONG, "first failure: %s", run->reason);
	return EXIT_FINE;
}

/* Returns: whether all of the source was given. What a broker that is away costs is the records under way only. */
static bool give_all(struct produce_run *run)
{
	struct generated record;
	int64_t share;

	while (!run->refused && interrupt_count() == 0) {
		/* With nothing under way and nothing to show there is nothing to do but to wait. */
		bool idle = kafka_producer_pending(run->producer) == 0 && !run->terminal;
		int wait_ms = idle ? -1 : WAIT_MS;
		enum line_result result = next_record(&run->source, wait_ms, &record, &share);
		if (result == LINE_END)
			return run->source.lines.error == 0;
		if (result == LINE_FOUND ? !send_record(run, &record, share) : !wait_for_reports(run, 0))
			break;
	}
	return false;
}

static int send_all(struct produce_run *run)
{
	interrupt_hold();
	run->started_us = clock_mono_us();
	run->reported_ms = clock_mono_ms();
	/* What is typed and a line that is drawn over would stand in each other's way. */
	bool typed = !run->source.generator && cli_announce_terminal(run->cli, run->source.lines.fd);
	run->terminal = isatty(STDERR_FILENO) == 1 && !typed;
	bool ended = give_all(run);
	while (!run->away && kafka_producer_pending(run->producer) > 0 && interrupt_count() < 2)
		wait_for_reports(run, WAIT_MS);
	return report(run, ended);
}

/* ---- the command ---- */

/* Asks first: the producer itself would wait for brokers and topics without a word. */
static int check_topic(struct cli *cli, int32_t partition)
{
	struct kafka_admin *admin = NULL;
	char error[512];
	if (kafka_admin_open(&cli->options->kafka, &admin, error, sizeof(error)))
		return cli_fail(cli, EXIT_CONFIG, "%s", error);
	int count = kafka_admin_partition_count(admin, cli->options->kafka_topic, ASK_TIMEOUT_MS);
	int code = EXIT_FINE;
	if (count <= 0)
		code = cli_fail(cli, EXIT_UNAVAILABLE, "%s", kafka_admin_error(admin));
	else if (partition >= count)
		code = cli_fail(cli, EXIT_USAGE, "--partition: %" PRId32 " is not one of the %d of %s", partition, count,
				cli->options->kafka_topic);
	kafka_admin_close(admin);
	return code;
}

static int produce_to_kafka(struct produce_run *run)
{
	char error[512];
	int code = check_topic(run->cli, run->partition);
	if (code)
		return code;
	if (kafka_producer_open(&run->cli->options->kafka, on_delivered, run, &run->producer, error, sizeof(error)))
		return cli_fail(run->cli, EXIT_CONFIG, "%s", error);
	for (int i = 0; i < SLOTS; i++)
		run->free_slots[run->free_count++] = i;
	code = send_all(run);
	kafka_producer_close(run->producer, 0); /* only then are the values ours */
	for (int i = 0; i < SLOTS; i++)
		buf_release(&run->values[i]);
	return code;
}

static int print_records(struct source *source)
{
	struct generated record;
	while (!ferror(stdout) && generator_next(source->generator, &record)) {
		fwrite(record.value.data, 1, record.value.len, stdout);
		putchar('\n');
	}
	return EXIT_FINE; /* main tells a failed write */
}

/* "2", "0.1", "0.25". Returns: whether it was that, with *bp in hundredths of a percent. */
static bool parse_percent(const char *text, unsigned *bp)
{
	const char *point = strchrnul(text, '.');
	size_t digits = *point ? strlen(point + 1) : 0;
	int64_t whole, part = 0;
	if (!parse_int64_within((struct slice){text, (size_t)(point - text)}, 0, 100, &whole))
		return false;
	if (*point && (digits > 2 || point[1] == '-' || !parse_int64_within(slice_of(point + 1), 0, 99, &part)))
		return false;
	*bp = (unsigned)(whole * 100 + (digits == 1 ? part * 10 : part));
	return *bp <= 10000;
}

/* Returns: 0, or an exit code after printing why. */
static int read_percent(struct cli *cli, const char *name, unsigned *bp)
{
	const char *text = cli_value(cli, name);
	if (!text || parse_percent(text, bp))
		return 0;
	return cli_fail(cli, EXIT_USAGE, "--%s: \"%s\" is not a percentage from 0 to 100 with two digits after the point",
			name, text);
}

static int read_generate_options(struct cli *cli, struct generate_options *o)
{
	int64_t seed = 1;
	const char *start = cli_value(cli, "start");

	o->orders_alive = 20000;
	o->customers = 100000;
	o->partners = 700;
	if (!cli_integer(cli, "generate", 1, INT64_C(1000000000), &o->count) ||
	    !cli_integer(cli, "seed", 0, INT64_MAX, &seed) ||
	    !cli_integer(cli, "orders-alive", 1, 10000000, &o->orders_alive) ||
	    !cli_integer(cli, "customers", 1, 1000000000, &o->customers) ||
	    !cli_integer(cli, "partners", 1, 1000000000, &o->partners) ||
	    !cli_integer(cli, "repeat-after", 1, GENERATE_REPEAT_AFTER_MAX, &o->repeat_after) ||
	    read_percent(cli, "duplicates", &o->duplicate_bp) || read_percent(cli, "late", &o->late_bp) ||
	    read_percent(cli, "bad", &o->bad_bp))
		return EXIT_USAGE;
	if (o->repeat_after && o->duplicate_bp > 5000)
		return cli_fail(cli, EXIT_USAGE, "--repeat-after repeats an event once: --duplicates is 50 at the most");
	o->seed = (uint64_t)seed;
	o->steady = cli_flag(cli, "steady");
	o->all_delivered = cli_flag(cli, "all-delivered");
	o->delivered_only = cli_flag(cli, "delivered-only");
	/* A day back, so that no timestamp lies in the future. */
	o->start_us = clock_wall_us() - INT64_C(86400000000);
	if (start && (timestamp_parse(slice_of(start), &o->start_us) || o->start_us < TIMESTAMP_MIN_US))
		return cli_fail(cli, EXIT_USAGE, "--start: \"%s\" is not an RFC 3339 time from 2000 on", start);
	return 0;
}

static int open_source(struct cli *cli, struct source *s, const struct generate_options *o)
{
	struct stat status;
	const char *path = cli->argc > 1 ? cli->argv[1] : "-";
	bool is_stdin = strcmp(path, "-") == 0;

	if (cli->argc > 2)
		return cli_fail(cli, EXIT_USAGE, "one FILE at most, not \"%s\"", cli->argv[2]);
	if (o->count > 0 && cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "--generate and FILE \"%s\" exclude each other", cli->argv[1]);
	if (o->count > 0) {
		s->generator = generator_new(o);
		s->total = o->count;
		s->name = "what was to be generated";
		return 0;
	}
	s->name = is_stdin ? "stdin" : path;
	s->lines.fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (s->lines.fd < 0 || fstat(s->lines.fd, &status) != 0)
		return cli_fail(cli, EXIT_USAGE, "%s: %s", s->name, strerror(errno));
	if (S_ISDIR(status.st_mode))
		return cli_fail(cli, EXIT_USAGE, "%s: %s", s->name, strerror(EISDIR));
	if (S_ISREG(status.st_mode))
		s->total = status.st_size;
	return 0;
}

static int run_produce(struct cli *cli)
{
	struct generate_options o = {.count = 0};
	int64_t rate = 0, partition = -1;
	bool to_stdout = cli_flag(cli, "stdout");

	int code = read_generate_options(cli, &o);
	if (code)
		return code;
	if (!cli_integer(cli, "rate", 1, 10000000, &rate) || !cli_integer(cli, "partition", 0, INT32_MAX, &partition))
		return EXIT_USAGE;
	if (to_stdout && o.count == 0)
		return cli_fail(cli, EXIT_USAGE, "--stdout is for --generate");
	if (to_stdout && rate > 0)
		return cli_fail(cli, EXIT_USAGE, "--stdout and --rate exclude each other");
	o.beyond_ndjson = !to_stdout;
	struct produce_run *run = calloc(1, sizeof(*run));
	ENSURE(run != NULL);
	run->cli = cli;
	run->rate = rate;
	run->partition = (int32_t)partition;
	code = open_source(cli, &run->source, &o);
	if (!code)
		code = to_stdout ? print_records(&run->source) : produce_to_kafka(run);
	close_source(&run->source);
	free(run);
	return code;
}

static const char *const flags[] = {
	"generate=",     "seed=",  "orders-alive=", "customers=",    "partners=",      "duplicates=",
	"repeat-after=", "late=",  "bad=",          "all-delivered", "delivered-only", "steady",
	"start=",        "stdout", "rate=",         "partition=",    NULL};

const struct command command_produce = {
	.name = "produce",
	.arguments = "[FILE]",
	.help = "send NDJSON lines from FILE or stdin, or generated events, to the topic",
	.flags = flags,
	.flags_help = "  --generate N        make N records instead of reading them\n"
		      "  --seed S            of the generated events (1); the same makes the same ones, another other orders\n"
		      "  --orders-alive N    orders under way at once (20000)\n"
		      "  --customers N       how many there are (100000)\n"
		      "  --partners N        how many there are (700)\n"
		      "  --duplicates PCT    exact repeats of earlier events; 0.1 is possible, as below\n"
		      "  --repeat-after N    each of the event of N events ago (of any of the last few thousand)\n"
		      "  --late PCT          events that come up to 5000 records late\n"
		      "  --bad PCT           malformed records, one of each kind in turn\n"
		      "  --all-delivered     no order fails, is cancelled, returned or refunded\n"
		      "  --delivered-only    an order is one event, its delivery\n"
		      "  --steady            orders are under way at the start, an order's events lie far apart\n"
		      "  --start TIME        of the first event, RFC 3339 (a day ago)\n"
		      "  --stdout            print the generated events instead of sending them\n"
		      "  --rate N            records a second (as fast as it goes)\n"
		      "  --partition N       to this partition, whatever the key\n",
	.options = "kafka.brokers kafka.topic log.format log.level",
	.run = run_produce,
};
