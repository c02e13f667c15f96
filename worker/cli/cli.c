#include "worker/cli/cli.h"

#include "common/log.h"
#include "common/parse.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void take_out(struct cli *cli, int at, int count)
{
	for (int i = at; i + count < cli->argc; i++)
		cli->argv[i] = cli->argv[i + count];
	cli->argc -= count;
	cli->argv[cli->argc] = NULL;
}

/* Returns: what follows "--NAME" in `argument` ("" or "=..."), NULL if it is another argument. */
static const char *after_name(const char *argument, const char *name)
{
	size_t len = strlen(name);
	if (strncmp(argument, "--", 2) != 0 || strncmp(argument + 2, name, len) != 0)
		return NULL;
	const char *rest = argument + 2 + len;
	return *rest == '\0' || *rest == '=' ? rest : NULL;
}

bool cli_flag(struct cli *cli, const char *name)
{
	bool found = false;
	for (int i = 1; i < cli->argc;) {
		const char *rest = after_name(cli->argv[i], name);
		if (rest && *rest == '\0') {
			take_out(cli, i, 1);
			found = true;
		} else {
			i++;
		}
	}
	return found;
}

const char *cli_next_value(struct cli *cli, const char *name)
{
	for (int i = 1; i < cli->argc; i++) {
		const char *rest = after_name(cli->argv[i], name);
		if (!rest)
			continue;
		if (*rest == '=') {
			take_out(cli, i, 1);
			return rest + 1;
		}
		ENSURE(i + 1 < cli->argc); /* options_load has refused a flag without its value */
		const char *value = cli->argv[i + 1];
		take_out(cli, i, 2);
		return value;
	}
	return NULL;
}

const char *cli_value(struct cli *cli, const char *name)
{
	const char *last = NULL;
	for (const char *value; (value = cli_next_value(cli, name)) != NULL;)
		last = value;
	return last;
}

bool cli_integer(struct cli *cli, const char *name, int64_t min, int64_t max, int64_t *value)
{
	const char *text = cli_value(cli, name);
	if (!text || parse_int64_within(slice_of(text), min, max, value))
		return true;
	cli_fail(cli, EXIT_USAGE, "--%s: \"%s\" is not a number from %" PRId64 " to %" PRId64, name, text, min, max);
	return false;
}

bool cli_announce_terminal(const struct cli *cli, int fd)
{
	bool terminal = isatty(fd) == 1;
	if (terminal)
		fprintf(stderr, "delivery-worker %s: reads events from the terminal, one a line, until Ctrl-D\n",
			cli->command->name);
	return terminal;
}

int cli_fail(const struct cli *cli, int code, const char *format, ...)
{
	va_list arguments;
	char *message;
	struct buf text = BUF_INIT;

	/* What was printed so far belongs before the error when both go to one place. */
	fflush(stdout);
	va_start(arguments, format);
	ENSURE(vasprintf(&message, format, arguments) >= 0);
	va_end(arguments);
	buf_printf(&text, "delivery-worker %s: ", cli->command->name);
	buf_put_printable(&text, slice_of(message)); /* it may quote text that is not ours */
	buf_putc(&text, '\n');
	log_text(buf_slice(&text)); /* behind the log's lines, and waited for no longer than they are */
	buf_release(&text);
	free(message);
	return code;
}
