/* Options from all sources. Input: lines; those that begin with -- are flags, with DW_ environment, others the file. */
#include "tests/fuzz/fuzz.h"

#include "worker/config/option_row.h"

#include <sys/mman.h>

enum { ARGUMENTS_MAX = 32 };

/* librdkafka's judgement of its own properties is not ours to fuzz, and takes two threads a call. */
int kafka_settings_check(const struct kafka_settings *s, char *error, size_t error_size)
{
	return (void)error, (void)error_size, s->brokers[0] && s->group[0] ? 0 : -1;
}

static void check_row(const struct option_row *row, const struct options *o)
{
	const void *field = (const char *)o + row->offset;
	int64_t value = row->type == OPTION_CHOICE   ? *(const int *)field
			: row->type <= OPTION_SECRET ? (int64_t)strlen(*(const char *const *)field)
						     : *(const int64_t *)field;
	ENSURE(value >= row->min && value <= (row->type == OPTION_CHOICE ? 3 : row->max));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const flags[] = {"json", "accept-loss=", NULL};
	char *text = strndup((const char *)data, size), *rest = text, *line, config[64], error[1024];
	char *argv[ARGUMENTS_MAX + 3] = {"run", config}, *environment[ARGUMENTS_MAX + 1] = {NULL};
	int argc = 2, variables = 0, file = memfd_create("fuzz", 0);
	struct options o;

	snprintf(config, sizeof(config), "--config=/proc/self/fd/%d", file);
	while ((line = strsep(&rest, "\n"))) {
		if (strncmp(line, "--", 2) == 0 && argc < ARGUMENTS_MAX)
			argv[argc++] = line;
		else if (strncmp(line, "DW_", 3) == 0 && variables < ARGUMENTS_MAX)
			environment[variables++] = line;
		else
			dprintf(file, "%s\n", line);
	}
	int code = options_load(&o, &argc, argv, environment, flags, error, sizeof(error));
	/* Lines, one for each thing that is wrong. */
	ENSURE(code == EXIT_FINE || ((code == EXIT_USAGE || code == EXIT_CONFIG) && error[0] && error[0] != '\n'));
	ENSURE(code != EXIT_USAGE || !strchr(error, '\n'));
	ENSURE(code == EXIT_FINE || !strstr(error, "\n\n"));
	for (size_t i = 0; code == EXIT_FINE && i < option_row_count; i++)
		check_row(&option_rows[i], &o);
	if (code == EXIT_FINE)
		options_release(&o);
	free(text);
	return close(file);
}
