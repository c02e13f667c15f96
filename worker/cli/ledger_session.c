#include "worker/cli/ledger_session.h"

#include "worker/ledger/migrate.h"

enum { ERROR_TEXT_MAX = 512 };

int ledger_session_fail(const struct cli *cli, enum pg_result result, const char *why)
{
	char text[1024];
	return cli_fail(cli, result == PG_UNUSABLE ? EXIT_CONFIG : EXIT_UNAVAILABLE, "PostgreSQL: %s",
	                options_blame(cli->options, why, text, sizeof(text)));
}

int ledger_session_open(const struct cli *cli, struct pg **pg)
{
	const struct options *o = cli->options;
	const struct pg_settings settings = {
		.dsn = o->pg_dsn,
		.dsn_file = o->pg_dsn_file,
		.schema = o->pg_schema,
		.connect_timeout_ms = (int)o->pg_connect_timeout_ms,
		.statement_timeout_ms = (int)o->pg_statement_timeout_ms,
		.idle_timeout_ms = (int)o->pg_idle_timeout_ms,
		.for_queries = true,
	};
	char error[ERROR_TEXT_MAX];
	enum pg_result result = pg_connect(&settings, pg, error, sizeof(error));
	return result == PG_OK ? EXIT_FINE : ledger_session_fail(cli, result, error);
}

int ledger_session_open_ledger(const struct cli *cli, struct pg **pg)
{
	struct pg *opened = NULL;
	int code = ledger_session_open(cli, &opened);
	if (code != EXIT_FINE)
		return code;
	enum schema_fit fit;
	int found;
	enum pg_result result = ledger_schema_fit(opened, &fit, &found);
	if (result != PG_OK) {
		code = ledger_session_fail(cli, result, pg_error(opened));
	} else if (fit != SCHEMA_FITS) {
		char text[ERROR_TEXT_MAX];
		ledger_schema_explain(fit, found, cli->options->pg_schema, text, sizeof(text));
		code = cli_fail(cli, EXIT_CONFIG, "%s", text);
	}
	if (code != EXIT_FINE) {
		pg_close(opened);
		return code;
	}
	*pg = opened;
	return EXIT_FINE;
}
