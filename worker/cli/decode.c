#include "worker/cli/cli.h"

#include "common/clock.h"
#include "schemas/event.h"
#include "schemas/timestamp.h"

#include <errno.h>
#include <stdio.h>

/* No byte: a file read to its end is one record. */
enum { SEPARATOR_NONE = -1 };

struct decode_run {
	struct cli *cli;
	struct event_decoder *decoder;
	int64_t record_time_us;
	bool refused_any;
	/* One byte more than a value may have: enough to refuse the record, whatever its length. */
	char bytes[EVENT_BYTES_MAX + 1];
};

/* Skips what does not fit into run->bytes. Returns: false at the end of the file, with no byte read. */
static bool read_record(struct decode_run *run, FILE *in, int separator, struct slice *record)
{
	size_t len = 0;
	int c = getc_unlocked(in);
	bool found = c != EOF;

	for (; c != EOF && c != separator; c = getc_unlocked(in))
		if (len < sizeof(run->bytes))
			run->bytes[len++] = (char)c;
	*record = (struct slice){run->bytes, len};
	return found;
}

/* Columns are parted by spaces and "-" is no field: where a name has those, they are escaped like the rest. */
static void print_refusal(const struct decode_error *error)
{
	const char *field = error->field[0] ? error->field : "-";
	bool named_dash = strcmp(error->field, "-") == 0;

	printf("%s ", error_code_name(error->code));
	for (const char *c = field; *c; c++)
		if (*c == ' ' || named_dash)
			printf("\\u%04x", (unsigned)*c);
		else
			putchar(*c);
	printf(" %s\n", error->message);
}

static void decode_record(struct decode_run *run, struct slice record)
{
	struct decode_error error;
	struct event event;

	if (event_decode(run->decoder, record, NULL, 0, run->record_time_us, &event, &error) == ERROR_NONE) {
		puts("ok");
	} else {
		run->refused_any = true;
		print_refusal(&error);
	}
}

/* Returns: 0, or an exit code after printing why. */
static int decode_file(struct decode_run *run, const char *path, bool whole)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *in = is_stdin ? stdin : fopen(path, "rbe");
	struct slice record;

	if (!in)
		return cli_fail(run->cli, EXIT_USAGE, "%s: %s", path, strerror(errno));
	if (!whole)
		cli_announce_terminal(run->cli, fileno(in));
	if (whole) {
		/* An empty file is an empty record; one that cannot be read is none. */
		read_record(run, in, SEPARATOR_NONE, &record);
		if (!ferror(in))
			decode_record(run, record);
	} else {
		while (!ferror(stdout) && read_record(run, in, '\n', &record) && !ferror(in))
			decode_record(run, record);
	}
	int cause = ferror(in) ? errno : 0;
	if (!is_stdin)
		fclose(in);
	return cause ? cli_fail(run->cli, EXIT_USAGE, "%s: %s", path, strerror(cause)) : 0;
}

static int decode_files(struct decode_run *run, bool whole)
{
	char *const *paths = run->cli->argv + 1;
	int code = run->cli->argc > 1 ? 0 : decode_file(run, "-", whole);

	for (; *paths && code == 0; paths++)
		code = decode_file(run, *paths, whole);
	return code ? code : run->refused_any ? EXIT_FOUND_WRONG : EXIT_FINE;
}

static int decode_main(struct cli *cli)
{
	static struct decode_run run; /* static for its size */
	const char *at = cli_value(cli, "at");
	bool whole = cli_flag(cli, "whole");

	run.cli = cli;
	run.record_time_us = clock_wall_us();
	if (at && timestamp_parse(slice_of(at), &run.record_time_us) != 0)
		return cli_fail(cli, EXIT_USAGE, "--at: \"%s\" is no time of the form 2026-01-31T23:59:59Z", at);
	/* A negative record time would mean that the record has none. */
	if (run.record_time_us < 0)
		return cli_fail(cli, EXIT_USAGE, "--at: %s is before 1970-01-01T00:00:00Z", at);
	if (whole ? cli->argc < 2 : cli->argc > 2)
		return cli_fail(cli, EXIT_USAGE,
				whole ? "--whole takes one FILE or more"
				      : "takes one FILE; with --whole, any number, each a record");

	run.decoder = event_decoder_new(&(struct event_decoder_options){
		.refuse_unknown = cli->options->event_unknown_members == 1,
	});
	int code = decode_files(&run, whole);
	event_decoder_free(run.decoder);
	return code;
}

static const char *const decode_flags[] = {"at=", "whole", NULL};

const struct command command_decode = {
	.name = "decode",
	.arguments = "[FILE] | --whole FILE...",
	.help = "judge delivery events: one line a record, \"ok\" or why it is refused",
	.flags = decode_flags,
	.flags_help = "  --at TIME   the records' Kafka time, RFC 3339; now by default\n"
		      "  --whole     each FILE is one record; else each line is one\n",
	.options = "event. log.format log.level",
	.run = decode_main,
};
