#include "worker/cli/cli.h"

#include "common/json_writer.h"
#include "worker/cli/ledger_session.h"
#include "worker/ledger/migrate.h"

#include <stdio.h>

struct run {
	bool as_json;
	struct json_writer json; /* inside the array of what was applied */
};

/* Progress of a run that may take long: shown as it happens, not at the end. */
static void report_step(void *owner, enum migrate_step step, int version, const char *name)
{
	struct run *run = owner;
	if (run->as_json && step == MIGRATE_APPLIED) {
		json_put_open(&run->json, '{');
		json_put_key(&run->json, "version"), json_put_int(&run->json, version);
		json_put_key(&run->json, "name"), json_put_text(&run->json, name);
		json_put_close(&run->json, '}');
	}
	FILE *out = run->as_json ? stderr : stdout;
	switch (step) {
	case MIGRATE_WAITS:
		fputs("waiting for another migrate of this database to end\n", out);
		break;
	case MIGRATE_CREATED:
		fprintf(out, "created schema \"%s\"\n", name);
		break;
	case MIGRATE_APPLIED:
		fprintf(out, "applied %s\n", name);
		break;
	}
	fflush(out);
}

static int migrate(struct cli *cli, struct pg *pg, struct run *run, bool new_epoch)
{
	const char *schema = cli->options->pg_schema;
	int before = 0, after = 0;
	json_put_open(&run->json, '{');
	json_put_key(&run->json, "applied"), json_put_open(&run->json, '[');
	enum pg_result result = ledger_migrate(pg, schema, (int)cli->options->migrate_lock_timeout_ms, report_step, run,
	                                       &before, &after);
	if (result != PG_OK)
		return ledger_session_fail(cli, result, pg_error(pg));
	if (after > ledger_schema_newest())
		return cli_fail(cli, EXIT_FOUND_WRONG,
		                "schema \"%s\" has version %d, this binary knows no newer one than %d: nothing was changed",
		                schema, after, ledger_schema_newest());
	json_put_close(&run->json, ']');
	json_put_key(&run->json, "version"), json_put_int(&run->json, after);

	char epoch[37];
	if (new_epoch) {
		result = ledger_draw_epoch(pg, "migrate --new-epoch", epoch);
		if (result != PG_OK)
			return ledger_session_fail(cli, result, pg_error(pg));
		json_put_key(&run->json, "epoch"), json_put_text(&run->json, epoch);
	}
	json_put_close(&run->json, '}');
	if (run->as_json) {
		puts(run->json.out->data);
		return EXIT_FINE;
	}
	if (before == after)
		printf("schema \"%s\" has version %d, nothing to do\n", schema, after);
	else
		printf("schema \"%s\" went from version %d to %d\n", schema, before, after);
	if (new_epoch)
		printf("new epoch %s: workers forget what is in flight and restart by the start rule\n", epoch);
	return EXIT_FINE;
}

static int run_migrate(struct cli *cli)
{
	bool new_epoch = cli_flag(cli, "new-epoch");
	struct buf out = BUF_INIT;
	struct run run = {.as_json = cli_flag(cli, "json"), .json = json_writer_to(&out)};
	if (cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "unexpected argument \"%s\"", cli->argv[1]);
	struct pg *pg = NULL;
	int code = ledger_session_open(cli, &pg);
	if (code == EXIT_FINE)
		code = migrate(cli, pg, &run, new_epoch);
	pg_close(pg);
	buf_release(&out);
	return code;
}

static const char *const migrate_flags[] = {"new-epoch", "json", NULL};

const struct command command_migrate = {
	.name = "migrate",
	.arguments = "[--new-epoch] [--json]",
	.help = "bring the ledger's schema up to this binary's version",
	.flags = migrate_flags,
	.flags_help =
		"  --new-epoch     also declare the database another history: run it after any restore, so that\n"
		"                  workers forget what they believe to be committed\n"
		"  --json          print JSON\n",
	.options = "pg. log.format log.level",
	.run = run_migrate,
};
