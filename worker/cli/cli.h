/*
 * The commands. main finds the command's row, loads the options, and calls it; a command prints its
 * result on stdout, its errors on stderr, and returns an exit code (worker/options.h).
 */
#ifndef WORKER_CLI_CLI_H
#define WORKER_CLI_CLI_H

#include "worker/options.h"

#include <stdbool.h>

struct cli {
	const struct options *options;
	const struct command *command;
	int argc;    /* what options_load left: positional arguments and the command's own flags */
	char **argv; /* argv[0] is the command's name */
};

typedef int command_main(struct cli *cli);

struct command {
	const char *name;
	const char *arguments; /* as in the usage line */
	const char *help;      /* one line */
	const char *const *flags; /* own flags, "=" behind those with a value; NULL-terminated */
	const char *flags_help;   /* their lines for --help, or NULL */
	const char *options;      /* those that it reads, for --help: keys, and groups as "pg."; NULL: all */
	command_main *run;
};

extern const struct command command_run, command_check, command_migrate, command_rules, command_produce,
	command_decode, command_explain, command_audit, command_lag, command_version;

/* Takes `--name` out of cli->argv. Returns: whether it was there. */
bool cli_flag(struct cli *cli, const char *name);
/* Takes `--name VALUE` or `--name=VALUE` out. Returns: the last value, or NULL. */
const char *cli_value(struct cli *cli, const char *name);
/* For repeated flags: call until it returns NULL. Takes the first one out. */
const char *cli_next_value(struct cli *cli, const char *name);
/* Reads a flag's number. Returns: false after printing an error that names flag, value and bounds. */
bool cli_integer(struct cli *cli, const char *name, int64_t min, int64_t max, int64_t *value);
/* Says on stderr that events are read from a terminal, if `fd` is one, where the command would wait in silence.
 * Returns: whether it is. */
bool cli_announce_terminal(const struct cli *cli, int fd);
/* Prints "delivery-worker COMMAND: message" on stderr. Returns: `code`. */
int cli_fail(const struct cli *cli, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
