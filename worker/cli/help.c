#include "worker/cli/help.h"

#include <stdio.h>

void help_program(const struct command *const *commands)
{
	printf("usage: delivery-worker COMMAND [--option value]... [argument]...\n\ncommands:\n");
	for (; *commands; commands++)
		printf("  %-10s %s\n", (*commands)->name, (*commands)->help);
	printf("  %-10s %s\n", "help", "this; `help COMMAND` for one command, `help options` for the options");
	printf("\nexit codes: 0 fine, 1 found something wrong, 2 usage, 69 a dependency is unavailable,\n"
	       "70 internal error, 78 bad configuration\n\noptions, with bounds and [default]:\n");
	help_options(NULL);
}

void help_command(const struct command *command)
{
	printf("usage: delivery-worker %s%s%s\n\n%s\n", command->name, command->arguments[0] ? " " : "",
	       command->arguments, command->help);
	if (command->flags_help)
		printf("\n%s%s", command->flags_help,
		       command->flags_help[strlen(command->flags_help) - 1] == '\n' ? "" : "\n");
	printf("\noptions, with bounds and [default]:\n");
	help_options(NULL);
}

int help_options(const char *form)
{
	struct buf text = BUF_INIT;
	int code = EXIT_FINE;

	if (!form) {
		options_print_help(&text);
		buf_puts(&text, "  --config FILE               lines `key = value`; also DW_CONFIG\n"
				"  --kafka.<property>          of librdkafka, for all clients\n"
				"  --kafka.consumer.<property>, --kafka.producer.<property>\n"
				"                              for one side alone\n"
				"Each is also an environment variable, kafka.topic as DW_KAFKA_TOPIC; secrets also\n"
				"from a file, as DW_PG_DSN_FILE.\n");
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
