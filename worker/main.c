/*
 * delivery-worker: one binary with subcommands. Here: find the command, load the options, run it.
 */
#include "common/log.h"
#include "common/nearest.h"
#include "common/version.h"
#include "schemas/event.h"
#include "worker/cli/cli.h"
#include "worker/cli/help.h"
#include "worker/cli/interrupt.h"
#include "worker/cli/output.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const struct command *const commands[] = {
	&command_run,
	&command_check,
	&command_migrate,
	&command_rules,
	&command_produce,
	&command_decode,
	&command_explain,
	&command_audit,
	&command_lag,
	&command_version,
	NULL,
};

static const struct command *find_command(const char *name)
{
	for (const struct command *const *command = commands; *command; command++) {
		if (strcmp((*command)->name, name) == 0)
			return *command;
	}
	return NULL;
}

static int fail_unknown(const char *name)
{
	struct nearest nearest = nearest_to(slice_of(name));

	if (name[0] == '-') {
		fprintf(stderr, "delivery-worker: the command comes first, before %s; see delivery-worker --help\n",
			name);
		return EXIT_USAGE;
	}
	for (const struct command *const *command = commands; *command; command++)
		nearest_offer(&nearest, (*command)->name);
	fprintf(stderr, "delivery-worker: unknown command \"%s\"; %s%s%s\n", name, nearest.name ? "did you mean " : "see ",
		nearest.name ? nearest.name : "delivery-worker --help", nearest.name ? "?" : "");
	return EXIT_USAGE;
}

static bool is_help(const char *argument)
{
	return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

/* `help`, `help COMMAND`, `help options [--markdown|--sample]`. */
static int help(int argc, char **argv)
{
	const struct command *command;

	if (argc == 1) {
		help_program(commands);
	} else if (strcmp(argv[1], "options") == 0) {
		return help_options(argv[2]);
	} else if ((command = find_command(argv[1])) != NULL) {
		help_command(command);
	} else {
		return fail_unknown(argv[1]);
	}
	return EXIT_FINE;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	struct cli cli = {.command = command, .argc = argc, .argv = argv};
	struct options options;
	char error[8192];

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (is_help(argv[i])) {
			help_command(command);
			return EXIT_FINE;
		}
	}
	int code = options_load(&options, &cli.argc, argv, environ, command->flags, error, sizeof(error));
	for (char *line = error, *rest; code && line; line = rest) {
		if ((rest = strchr(line, '\n')))
			*rest++ = '\0';
		cli_fail(&cli, code, "%s", line);
	}
	if (code)
		return code;
	log_setup((enum log_format)options.log_format, (enum log_level)options.log_level);
	cli.options = &options;
	code = command->run(&cli);
	options_release(&options);
	return code;
}

/*
 * libldap, which comes with libpq, brings GnuTLS, whose constructor would set up 1 MB of it in every process. This is its
 * documented way to leave that to whoever uses it: libldap does, before its first connection by TLS.
 * https://www.gnutls.org/manual/html_node/Initialization.html, GNUTLS_SKIP_GLOBAL_INIT
 */
int _gnutls_global_init_skip(void);
int _gnutls_global_init_skip(void)
{
	return 1;
}

/*
 * A descriptor of 0 to 2 that is closed would be the next socket's, and what is printed or logged would go there. It
 * becomes one that fails as a closed one does.
 */
static void take_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			ENSURE(open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == fd);
	}
}

int main(int argc, char **argv)
{
	const struct command *command;

	take_standard_descriptors();
	ensure_speaking_aborts();
	signal(SIGPIPE, SIG_IGN); /* a closed socket is an error to handle, not an end */
	interrupt_setup();
	event_setup();
	output_open();
	if (argc < 2) {
		fprintf(stderr, "delivery-worker: no command; see delivery-worker --help\n");
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("delivery-worker %s\n", program_version);
		return output_close(EXIT_FINE);
	}
	if (is_help(argv[1]) || strcmp(argv[1], "help") == 0)
		return output_close(help(argc - 1, argv + 1));
	command = find_command(argv[1]);
	return command ? output_close(run_command(command, argc - 1, argv + 1)) : fail_unknown(argv[1]);
}
