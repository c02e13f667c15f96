#include "worker/cli/help.h"

#include <stdio.h>

static void print_options(const char *wanted)
{
	struct buf text = BUF_INIT;

	options_print_help(&text, wanted);
	buf_puts(&text, "  --config FILE               lines `key = value`; also DW_CONFIG\n");
	if (!wanted || strstr(wanted, "kafka."))
		buf_puts(&text, "  --kafka.<property>          of librdkafka, for all clients\n"
				"  --kafka.consumer.<property>, --kafka.producer.<property>\n"
				"                              for one side alone\n");
	buf_puts(&text, "Each is also an environment variable, log.level as DW_LOG_LEVEL; secrets also\n"
			"from a file, as DW_PG_DSN_FILE. Those of other commands may be set, and are not used.\n");
	fwrite(buf_slice(&text).data, 1, text.len, stdout);
	buf_release(&text);
}

void help_program(const struct command *const *commands)
{
	printf("usage: delivery-worker COMMAND [--option value]... [argument]...\n\ncommands:\n");
	for (; *commands; commands++)
		printf("  %-10s %s\n", (*commands)->name, (*commands)->help);
	printf("  %-10s %s\n", "help", "this; `help COMMAND` for one command, `help options` for the options");
	printf("\nexit codes: 0 fine, 1 found something wrong, 2 usage, 69 a dependency is unavailable,\n"
	       "70 internal error, 78 bad configuration\n\noptions, with bounds and [default]:\n");
	print_options(NULL);
}

void help_command(const struct command *command)
{
	printf("usage: delivery-worker %s%s%s\n\n%s\n", command->name, command->arguments[0] ? " " : "",
	       command->arguments, command->help);
	if (command->flags_help)
		printf("\n%s%s", command->flags_help,
		       command->flags_help[strlen(command->flags_help) - 1] == '\n' ? "" : "\n");
	if (command->options && !command->options[0])
		return;
	printf("\noptions, with bounds and [default]:\n");
	print_options(command->options);
}

int help_options(const char *form)
{
	struct buf text = BUF_INIT;
	int code = EXIT_FINE;

	if (!form) {
		print_options(NULL);
	} else if (strcmp(form, "--markdown") == 0) {
		options_print_reference(&text);
	} else if (strcmp(form, "--sample") == 0) {
		options_print_sample(&text);
	} else {
		fprintf(stderr, "delivery-worker help options: unknown option %s; there are --markdown and --sample\n",
			form);
		code = EXIT_USAGE;
	}
	fwrite(buf_slice(&text).data, 1, text.len, stdout);
	buf_release(&text);
	return code;
}
