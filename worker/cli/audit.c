#include "worker/cli/audit.h"

#include "worker/audit/ledger_audit.h"
#include "worker/cli/ledger_session.h"
#include "worker/ledger/rules_store.h"

#include <stdio.h>

static void print_report(const struct audit_report *report, bool as_json)
{
	struct buf out = BUF_INIT;
	if (as_json) {
		struct json_writer w = json_writer_to(&out);
		audit_report_json(report, &w);
		buf_putc(&out, '\n');
	} else {
		audit_report_text(report, &out);
	}
	fputs(out.data, stdout);
	buf_release(&out);
}

static int audit(struct cli *cli, struct pg *pg, bool from_kafka, struct audit_report *report)
{
	struct rules *rules = NULL;
	enum pg_result result = ledger_audit_begin(pg);
	if (result == PG_OK)
		result = rules_store_load(pg, INT64_MAX, &rules);
	if (result == PG_OK)
		result = ledger_audit_run(pg, rules, report);
	int code = EXIT_FINE;
	if (result != PG_OK)
		code = ledger_session_fail(cli, result, pg_error(pg));
	else if (from_kafka)
		code = audit_from_kafka(cli, pg, rules, report);
	rules_unref(rules);
	return code;
}

static int run_audit(struct cli *cli)
{
	bool from_kafka = cli_flag(cli, "from-kafka"), as_json = cli_flag(cli, "json");
	if (cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "unexpected argument \"%s\"", cli->argv[1]);
	struct pg *pg = NULL;
	int code = ledger_session_open_ledger(cli, &pg);
	if (code != EXIT_FINE)
		return code;
	struct audit_report *report = audit_report_new();
	code = audit(cli, pg, from_kafka, report);
	if (code == EXIT_FINE) {
		print_report(report, as_json);
		code = audit_report_clean(report) ? EXIT_FINE : EXIT_FOUND_WRONG;
	}
	audit_report_free(report);
	pg_close(pg);
	return code;
}

static const char *const audit_flags[] = {"from-kafka", "json", NULL};

const struct command command_audit = {
	.name = "audit",
	.arguments = "[--from-kafka] [--json]",
	.help = "check the ledger's invariants; exit 1 on any difference",
	.flags = audit_flags,
	.flags_help =
		"  --from-kafka    also recompute every order from the topics, up to the ledger's progress, and compare;\n"
		"                  what was refused must have its dead letter\n"
		"  --json          print JSON\n",
	.options = "pg. kafka.brokers kafka.topic kafka.deferred_topic kafka.dlq_topic kafka.group event. log.format log.level",
	.run = run_audit,
};
