/*
 * Help on stdout: of the program, of one command, of the options.
 * Thread: main.
 */
#ifndef WORKER_CLI_HELP_H
#define WORKER_CLI_HELP_H

#include "worker/cli/cli.h"

void help_program(const struct command *const *commands);
void help_command(const struct command *command);
/* `form`: NULL, "--markdown" or "--sample". Returns: an exit code, for other forms. */
int help_options(const char *form);

#endif
