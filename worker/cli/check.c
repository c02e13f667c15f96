#include "worker/cli/cli.h"

#include "common/json_writer.h"
#include "worker/cli/output.h"
#include "worker/gate/gate.h"
#include "worker/kafka/kafka.h"
#include "worker/ledger/migrate.h"
#include "worker/ledger/privileges.h"
#include "worker/observe/http.h"
#include "worker/pipeline/deferral.h"
#include "worker/pipeline/pipeline.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum {
	KAFKA_TIMEOUT_MS = 10000, /* for one answer; a first connection may meet a broker that is being replaced */
	DETAIL_MAX = 640,
	LACKING_MAX = 2048, /* privileges, if it is all of them */
};

/* What was found, a line each: printed as it comes, for people; gathered, for machines. */
struct report {
	bool as_json;
	bool failed;
	struct json_writer json; /* inside the array of checks */
};

enum verdict { FAIL, WARN, OK }; /* only FAIL makes the exit code 1 */

#define say(r, ok, name, ...) tell(r, (ok) ? OK : FAIL, name, __VA_ARGS__)
#define warn(r, name, ...) tell(r, WARN, name, __VA_ARGS__)

static void tell(struct report *r, enum verdict verdict, const char *name, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void tell(struct report *r, enum verdict verdict, const char *name, const char *format, ...)
{
	static const char *const words[] = {"fail", "warn", "ok"};
	char detail[LACKING_MAX];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);

	r->failed |= verdict == FAIL;
	if (r->as_json) {
		json_put_open(&r->json, '{');
		json_put_key(&r->json, "name");
		json_put_text(&r->json, name);
		json_put_key(&r->json, "ok");
		json_put_bool(&r->json, verdict != FAIL);
		json_put_key(&r->json, "warning");
		json_put_bool(&r->json, verdict == WARN);
		json_put_key(&r->json, "detail");
		json_put_text(&r->json, detail);
		json_put_close(&r->json, '}');
		return;
	}
	output_line("%-4s %s: %s", words[verdict], name, detail);
	fflush(stdout);
}

/* ---- configuration ---- */

/* What options_load leaves to whoever connects; with the rest wrong, no command begins. */
static void check_configuration(struct report *r, const struct options *o)
{
	char error[DETAIL_MAX];
	bool fits = true;
	if (pg_check_dsn(o->pg_dsn, error, sizeof(error)) < 0) {
		say(r, false, "configuration", "%s", error);
		fits = false;
	}
	const struct gate_settings gate = pipeline_gate_settings(o);
	if (gate_check(&gate, o->redis_url, error, sizeof(error)) < 0) {
		say(r, false, "configuration", "%s", error);
		fits = false;
	}
	if (fits)
		say(r, true, "configuration", "topic %s, group %s, schema %s, consumers %" PRId64 ", workers %" PRId64,
		    o->kafka_topic, o->kafka_group, o->pg_schema, o->consumers, o->workers);
}

/* What is allowed, and may not be meant. */
static void check_tls(struct report *r, const struct options *o)
{
	char text[DETAIL_MAX];
	if (pg_tls_warning(o->pg_dsn, text, sizeof(text)))
		warn(r, "postgresql tls", "%s", text);
	struct gate_settings strict = pipeline_gate_settings(o);
	bool fits = gate_check(&strict, o->redis_url, text, sizeof(text)) == 0;
	strict.plain_password = false;
	if (fits && gate_check(&strict, o->redis_url, text, sizeof(text)) < 0)
		warn(r, "redis tls", "redis.plain_password is allow: the password goes to another machine in clear");
}

/* ---- Kafka ---- */

static void check_kafka_library(struct report *r, const struct options *o)
{
	say(r, true, "librdkafka", "%s, assignor %s, producer %s", kafka_library_version(),
	    o->kafka.cooperative ? "cooperative" : "eager",
	    /* The version is kafka_settings.c's. */
	    kafka_library_number() >= 0x02030000 ? "idempotent" : "not idempotent before 2.3: copies may repeat");
}

/* Returns: false when asking on makes no sense. */
/* What works and could be had better fails no check: it stands behind the rest. */
static const char *warning_of(const struct options *o, const char *topic, int partitions)
{
	if (strcmp(topic, o->kafka_deferred_topic) != 0 || partitions >= DEFERRAL_CLASSES)
		return "";
	return "; warning: its partitions are classes of waiting, fewer than 4 of them copy more often what waits long";
}

static bool check_topic(struct report *r, const struct options *o, struct kafka_admin *admin, const char *topic)
{
	char name[280], policy[64];
	snprintf(name, sizeof(name), "kafka topic %s", topic);
	int partitions = kafka_admin_partition_count(admin, topic, KAFKA_TIMEOUT_MS);
	if (partitions == KAFKA_UNAVAILABLE) {
		say(r, false, "kafka", "%s", kafka_admin_error(admin));
		return false;
	}
	if (partitions <= 0) {
		say(r, false, name, "%s", partitions == KAFKA_NO_SUCH ? "does not exist" : kafka_admin_error(admin));
		return true;
	}
	enum kafka_answer answer =
		kafka_admin_topic_config(admin, topic, "cleanup.policy", KAFKA_TIMEOUT_MS, policy, sizeof(policy));
	switch (answer) {
	case KAFKA_OK:
		if (strstr(policy, "compact"))
			say(r, false, name, "cleanup.policy is %s: compaction eats facts; it must be delete", policy);
		else
			say(r, true, name, "%d partitions, cleanup.policy %s%s", partitions, policy,
			    warning_of(o, topic, partitions));
		break;
	case KAFKA_UNSUPPORTED:
	case KAFKA_DENIED:
		say(r, true, name, "%d partitions; whether it is compacted could not be asked: %s%s", partitions,
		    kafka_admin_error(admin), warning_of(o, topic, partitions));
		break;
	case KAFKA_UNAVAILABLE:
	case KAFKA_NO_SUCH:
	case KAFKA_DAMAGED:
		say(r, false, name, "%s", kafka_admin_error(admin));
		break;
	}
	return true;
}

static void check_kafka(struct report *r, const struct options *o)
{
	struct kafka_admin *admin;
	char error[DETAIL_MAX];
	if (kafka_admin_open(&o->kafka, &admin, error, sizeof(error)) < 0) {
		say(r, false, "kafka", "%s", error);
		return;
	}
	const char *topics[] = {o->kafka_topic, o->kafka_deferred_topic, o->kafka_dlq_topic};
	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]) && check_topic(r, o, admin, topics[i]); i++)
		;
	kafka_admin_close(admin);
}

/* ---- PostgreSQL ---- */

/* Whether a limit is in force for some partner, by its own setting. */
static enum pg_result ask_limits(struct pg *pg, bool *limits)
{
	struct pg_rows *rows = NULL;
	enum pg_result result = pg_query(pg, "SELECT EXISTS (SELECT FROM partners WHERE per_second > 0)", NULL, &rows);
	if (result == PG_OK)
		*limits |= pg_integer(rows, 0, 0) != 0;
	pg_rows_free(rows);
	return result;
}

static void check_session(struct report *r, const struct options *o, struct pg *pg, bool *limits)
{
	struct pg_rows *rows = NULL;
	enum schema_fit fit;
	int version;
	char text[DETAIL_MAX];

	enum pg_result result = pg_query(pg, "SELECT current_setting('server_version')", NULL, &rows);
	if (result == PG_OK) {
		struct slice server = pg_text(rows, 0, 0);
		say(r, true, "postgresql", "PostgreSQL %.*s, one server process a session", (int)server.len,
		    server.data);
	} else {
		say(r, false, "postgresql", "%s", pg_error(pg));
	}
	pg_rows_free(rows);
	if (result != PG_OK)
		return;

	/* First: a schema that may not be used looks like one that is not there. */
	char lacking[LACKING_MAX];
	bool missing = false;
	result = ledger_privileges(pg, o->pg_schema, &missing, lacking, sizeof(lacking));
	if (result != PG_OK || missing) {
		say(r, false, "postgresql privileges", "%s", missing ? lacking : pg_error(pg));
		return;
	}
	result = ledger_schema_fit(pg, &fit, &version);
	if (result != PG_OK) {
		say(r, false, "postgresql schema", "%s", pg_error(pg));
		return;
	}
	ledger_schema_explain(fit, version, o->pg_schema, text, sizeof(text));
	say(r, fit == SCHEMA_FITS, "postgresql schema", "%s", text);
	if (fit != SCHEMA_FITS)
		return;
	result = ask_limits(pg, limits);
	say(r, result == PG_OK, "postgresql privileges", "%s", result == PG_OK ? "all that run needs" : pg_error(pg));
}

/* *limits: set where the database says that some partner has one. */
static void check_postgresql(struct report *r, const struct options *o, bool *limits)
{
	/* As a worker's session, with its time limits: a check must end. */
	const struct pg_settings settings = {
		.dsn = o->pg_dsn,
		.dsn_file = o->pg_dsn_file,
		.schema = o->pg_schema,
		.connect_timeout_ms = (int)o->pg_connect_timeout_ms,
		.statement_timeout_ms = (int)o->pg_statement_timeout_ms,
		.idle_timeout_ms = (int)o->pg_idle_timeout_ms,
	};
	struct pg *pg = NULL;
	char error[DETAIL_MAX];
	if (pg_connect(&settings, &pg, error, sizeof(error)) != PG_OK)
		say(r, false, "postgresql", "%s", error);
	else
		check_session(r, o, pg, limits);
	pg_close(pg);
}

/* ---- the rest ---- */

static void check_redis(struct report *r, const struct options *o, bool limits)
{
	const struct gate_settings settings = pipeline_gate_settings(o);
	char detail[DETAIL_MAX];
	bool ok = gate_probe(&settings, limits, detail, sizeof(detail)) == 0;
	say(r, ok, "redis", "%s", detail);
}

static void check_http(struct report *r, const struct options *o)
{
	char error[DETAIL_MAX];
	if (o->http_listen[0] == '\0') {
		say(r, true, "http", "no listener is configured");
		return;
	}
	switch (http_start(o->http_listen, o->kafka_group, error, sizeof(error))) {
	case HTTP_STARTED:
		http_stop();
		say(r, true, "http", "%s can be bound", o->http_listen);
		break;
	case HTTP_TAKEN: /* as beside every worker that runs */
		say(r, true, "http", "%s is taken, by a running worker?", o->http_listen);
		break;
	case HTTP_UNBOUND:
		say(r, false, "http", "%s", error);
		break;
	}
}

static int run_check(struct cli *cli)
{
	const struct options *o = cli->options;
	bool offline = cli_flag(cli, "offline");
	struct buf out = BUF_INIT;
	struct report report = {.as_json = cli_flag(cli, "json"), .json = json_writer_to(&out)};
	if (cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "unexpected argument \"%s\"", cli->argv[1]);

	json_put_open(&report.json, '{');
	json_put_key(&report.json, "checks");
	json_put_open(&report.json, '[');
	check_configuration(&report, o);
	check_tls(&report, o);
	check_kafka_library(&report, o);
	if (!offline) {
		bool limits = o->rate_partner_per_second > 0;
		check_kafka(&report, o);
		check_postgresql(&report, o, &limits);
		check_redis(&report, o, limits);
		check_http(&report, o);
	}
	json_put_close(&report.json, ']');
	json_put_key(&report.json, "ok");
	json_put_bool(&report.json, !report.failed);
	json_put_close(&report.json, '}');
	if (report.as_json)
		puts(out.data);
	buf_release(&out);
	return report.failed ? EXIT_FOUND_WRONG : EXIT_FINE;
}

static const char *const check_flags[] = {"offline", "json", NULL};

const struct command command_check = {
	.name = "check",
	.arguments = "[--offline] [--json]",
	.help = "validate the configuration and reach each dependency",
	.flags = check_flags,
	.flags_help =
		"  --offline       look at the configuration only\n"
		"  --json          print JSON\n",
	.run = run_check,
};
