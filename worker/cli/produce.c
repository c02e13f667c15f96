#include "worker/cli/cli.h"

#include "common/clock.h"
#include "common/parse.h"
#include "schemas/timestamp.h"
#include "worker/cli/generate.h"
#include "worker/kafka/kafka.h"

#include <errno.h>
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
	PROGRESS_MS = 200,
	BAR_CELLS = 30,
	ORDER_ID_BYTES_MAX = 256,
};

/* Where records come from: a file of lines, or the generator. */
struct source {
	FILE *file;
	char *line;
	size_t line_capacity;
	int64_t bytes_read;
	struct generator *generator;
	int64_t total; /* records of a generator, bytes of a file; 0: not known */
};

struct produce_run {
	struct cli *cli;
	struct kafka_producer *producer;
	struct source source;
	int64_t rate; /* records/s; 0: as fast as it goes */
	int32_t partition;
	struct buf values[SLOTS]; /* the producer borrows them until their report */
	int free_slots[SLOTS];
	int free_count;
	int64_t given, sent, failed, bytes;
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

/* Returns: false at the end. */
static bool next_record(struct source *s, struct generated *out)
{
	if (s->generator)
		return generator_next(s->generator, out);
	errno = 0;
	ssize_t len = getline(&s->line, &s->line_capacity, s->file);
	if (len < 0)
		return false;
	s->bytes_read += len;
	if (len > 0 && s->line[len - 1] == '\n')
		len--;
	out->value = (struct slice){s->line, (size_t)len};
	out->key = find_order_id(out->value);
	return true;
}

static void close_source(struct source *s)
{
	if (s->generator)
		generator_free(s->generator);
	if (s->file && s->file != stdin)
		fclose(s->file);
	free(s->line);
}

/* ---- sending ---- */

static void on_delivered(void *owner, void *tag, enum kafka_delivery result, const char *reason)
{
	struct produce_run *run = owner;
	int slot = (int)(intptr_t)tag;

	run->free_slots[run->free_count++] = slot;
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
	int64_t now_ms = clock_mono_ms();
	if (!run->terminal || now_ms - run->shown_ms < PROGRESS_MS)
		return;
	run->shown_ms = now_ms;
	int64_t done = run->source.generator ? run->sent + run->failed : run->source.bytes_read;
	int64_t passed_us = clock_mono_us() - run->started_us;
	double rate = passed_us > 0 ? (double)run->sent * 1e6 / (double)passed_us : 0;
	if (run->source.total > 0) {
		int cells =
			(int)((done < run->source.total ? done : run->source.total) * BAR_CELLS / run->source.total);
		fprintf(stderr, "\r[%.*s%.*s] %3d%%  ", cells, "##############################", BAR_CELLS - cells,
			"                              ", cells * 100 / BAR_CELLS);
	} else {
		fputc('\r', stderr);
	}
	fprintf(stderr, "%" PRId64 " sent, %.0f/s  ", run->sent, rate);
}

/* Returns: whether it is worth waiting on. */
static bool wait_for_reports(struct produce_run *run, int64_t wait_ms)
{
	kafka_producer_poll(run->producer, (int)(wait_ms < WAIT_MS ? wait_ms : WAIT_MS));
	show_progress(run);
	if (kafka_producer_fatal(run->producer))
		return false;
	if (kafka_producer_pending(run->producer) == 0)
		run->reported_ms = clock_mono_ms();
	return clock_mono_ms() - run->reported_ms < STALL_MS;
}

/* Waits for the record's time under --rate. */
static bool wait_for_turn(struct produce_run *run)
{
	int64_t due_us = run->rate ? run->started_us + run->given * 1000000 / run->rate : 0;
	for (int64_t left_us; (left_us = due_us - clock_mono_us()) > 0;) {
		if (!wait_for_reports(run, (left_us + 999) / 1000))
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

/* Returns: false when the brokers are away. */
static bool send_record(struct produce_run *run, const struct generated *record)
{
	if (!wait_for_turn(run))
		return false;
	while (run->free_count == 0) {
		if (!wait_for_reports(run, WAIT_MS))
			return false;
	}
	int slot = run->free_slots[--run->free_count];
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
		if (!wait_for_reports(run, WAIT_MS))
			return false;
	}
	run->given++;
	if (run->given % 256 == 0) {
		kafka_producer_poll(run->producer, 0);
		show_progress(run);
	}
	return true;
}

static int report(struct produce_run *run, int left)
{
	double seconds = (double)(clock_mono_us() - run->started_us) / 1e6;
	const char *fatal = kafka_producer_fatal(run->producer);

	if (run->terminal)
		fputs("\r\033[K", stderr);
	printf("%" PRId64 " sent, %" PRId64 " failed, %.1f MB, %.0f/s\n", run->sent, run->failed,
	       (double)run->bytes / 1e6, seconds > 0 ? (double)run->sent / seconds : 0);
	if (fatal)
		return cli_fail(run->cli, EXIT_UNAVAILABLE, "the client has given up: %s", fatal);
	if (left > 0)
		return cli_fail(run->cli, EXIT_UNAVAILABLE,
				"no report from the brokers for %d s; %d records are uncertain", STALL_MS / 1000, left);
	if (run->refused)
		return cli_fail(run->cli, EXIT_UNAVAILABLE, "stopped, as the brokers did not take a record: %s", run->reason);
	if (run->failed > 0)
		return cli_fail(run->cli, EXIT_FOUND_WRONG, "first failure: %s", run->reason);
	return EXIT_FINE;
}

static int send_all(struct produce_run *run)
{
	struct generated record;
	bool going = true;

	run->started_us = clock_mono_us();
	run->reported_ms = clock_mono_ms();
	run->terminal = isatty(STDERR_FILENO) == 1;
	/* What a broker that is away costs is the records under way, not the rest of the file. */
	while (going && !run->refused && next_record(&run->source, &record))
		going = send_record(run, &record);
	int read_error = run->source.file && ferror(run->source.file) ? errno : 0;
	while (going && kafka_producer_pending(run->producer) > 0)
		going = wait_for_reports(run, WAIT_MS);
	int code = report(run, kafka_producer_pending(run->producer));
	return read_error ? cli_fail(run->cli, EXIT_USAGE, "reading failed: %s", strerror(read_error)) : code;
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
	while (!ferror(stdout) && next_record(source, &record)) {
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

	if (cli->argc > 2)
		return cli_fail(cli, EXIT_USAGE, "one FILE at most, not \"%s\"", cli->argv[2]);
	if (o->count > 0 && cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "--generate and FILE \"%s\" exclude each other", cli->argv[1]);
	if (o->count > 0) {
		s->generator = generator_new(o);
		s->total = o->count;
		return 0;
	}
	s->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	if (!s->file)
		return cli_fail(cli, EXIT_USAGE, "%s: %s", path, strerror(errno));
	if (fstat(fileno(s->file), &status) == 0 && S_ISREG(status.st_mode))
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
	o.tombstones = !to_stdout;
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
		      "  --seed S            of the generated events (1): the same seed makes the same ones, another one other orders\n"
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
	.run = run_produce,
};
