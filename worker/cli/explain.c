#include "worker/cli/explain.h"

#include "schemas/timestamp.h"
#include "worker/audit/ledger_audit.h"
#include "worker/cli/reason.h"
#include "worker/cli/ledger_session.h"
#include "worker/cli/output.h"
#include "worker/cli/table.h"
#include "worker/ledger/rules_store.h"

#include <inttypes.h>

/*
 * Exit codes: EXIT_FOUND_WRONG when the row can't be right, when what is posted is not what is due, and when the ledger
 * has no such order.
 */

/* What is known of the order, of one moment. Owns: all. */
struct explanation {
	struct pg_rows *row;
	struct pg_rows *postings; /* of the view, as text */
	struct rules *rules;
	struct order_row order;
	const char *fault; /* NULL, or why the row can't be right */
	struct order_due due;
	struct buf points_why;
	struct buf credit_why;
};

/* ---- reading ---- */

static const char select_order[] = "SELECT " ORDER_ROW_COLUMNS " FROM orders o WHERE o.order_id = $1";

enum posting_column { SEQ, KIND, AMOUNT, UNIT, DEBIT, CREDIT, RULE, VERSION, TOPIC, PARTITION, OFFSET, POSTED_AT };

static const char select_postings[] =
	"SELECT seq, kind, amount, unit, debit_account, credit_account, rule_id, rule_version, source_topic,"
	" source_partition, source_offset, to_char(posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
	" FROM postings WHERE order_id = $1 ORDER BY posted_at, kind DESC, seq";

static enum pg_result read_order(struct pg *pg, struct slice order_id, struct explanation *e)
{
	struct pg_params *params = pg_params_new();
	pg_put_text(params, order_id);
	enum pg_result result = ledger_audit_begin(pg);
	if (result == PG_OK)
		result = pg_query(pg, select_order, params, &e->row);
	if (result == PG_OK)
		result = pg_query_text(pg, select_postings, params, &e->postings);
	if (result == PG_OK)
		result = rules_store_load(pg, INT64_MAX, &e->rules);
	if (result == PG_OK)
		result = pg_rollback(pg);
	pg_params_free(params);
	return result;
}

/* The row as the worker has it in its decision. */
static struct facts facts_of(const struct order_state *s)
{
	struct facts f;
	facts_init(&f);
	f.progress = s->progress;
	f.outcome = order_state_outcome(s);
	f.outcome_at_us = s->outcome.at_us;
	f.amount_minor = s->amount.at_us == TIME_NONE ? -1 : s->amount.number;
	f.amount_at_us = s->amount.at_us;
	f.refunded_total_minor = s->refunded_total_minor;
	f.customer_id = s->customer_id;
	f.partner_id = s->partner_id;
	memcpy(f.currency, s->currency, sizeof(f.currency));
	f.driver_id = s->driver.text;
	f.driver_at_us = s->driver.at_us;
	return f;
}

/* The auditor says whether the row can be right and what is owed, the worker's own arithmetic why. */
static void explain_due(struct explanation *e)
{
	struct order_row *o = &e->order;
	e->fault = order_row_read(e->row, 0, o);
	if (!e->fault)
		e->fault = order_state_due(&o->state, &o->terms, e->rules, &e->due);
	if (e->fault)
		return;
	const struct order_terms *t = &o->terms;
	const struct facts facts = facts_of(&o->state);
	const struct pricing_pin pin = {t->outcome_at_us, t->rule_id, t->rule_version, t->kinds};
	const struct rule *rule =
		slice_present(t->rule_id) ? rules_version(e->rules, t->rule_id, t->rule_version) : NULL;
	reason_points(&facts, &pin, rule, &e->points_why);
	reason_order_credit(&facts, &pin, &e->credit_why);
}

static bool is_posted_as_due(const struct explanation *e)
{
	return e->order.points == e->due.points && e->order.order_credit_minor == e->due.order_credit_minor;
}

static void release(struct explanation *e)
{
	pg_rows_free(e->row);
	pg_rows_free(e->postings);
	rules_unref(e->rules);
	buf_release(&e->points_why);
	buf_release(&e->credit_why);
}

/* ---- for people ---- */

static void line(const char *name, struct slice value, int64_t at_us)
{
	char at[TIMESTAMP_TEXT_MAX];
	if (!slice_present(value)) {
		output_line("  %-16s unknown", name);
	} else if (at_us == TIME_NONE) {
		output_line("  %-16s %.*s", name, (int)value.len, value.data);
	} else {
		timestamp_format(at_us, at);
		output_line("  %-16s %.*s (%s)", name, (int)value.len, value.data, at);
	}
}

static void print_facts(const struct order_row *o)
{
	const struct order_state *s = &o->state;
	char text[96];
	output_line("order %.*s", (int)o->order_id.len, o->order_id.data);
	line("progress", slice_of(status_label(s->progress, text)), TIME_NONE);
	line("outcome", slice_of(status_label(order_state_outcome(s), text)), s->outcome.at_us);
	line("customer", s->customer_id, TIME_NONE);
	line("partner", s->partner_id, TIME_NONE);
	snprintf(text, sizeof(text), "%" PRId64 " %s", s->amount.number, s->currency);
	line("amount", s->amount.at_us == TIME_NONE ? (struct slice){0} : slice_of(text), s->amount.at_us);
	snprintf(text, sizeof(text), "%" PRId64, s->refunded_total_minor);
	line("refunded", slice_of(text), TIME_NONE);
	line("driver", s->driver.text, s->driver.at_us);
	if (slice_present(o->first_topic))
		output_line("  %-16s %.*s[%" PRId64 "]@%" PRId64, "first record", (int)o->first_topic.len, o->first_topic.data,
		            o->first_partition, o->first_offset);
	timestamp_format(o->updated_at_us, text);
	line("updated", slice_of(text), TIME_NONE);
}

static void print_terms(const struct order_row *o)
{
	char at[TIMESTAMP_TEXT_MAX];
	if (o->terms.outcome_at_us == TIME_NONE) {
		puts("terms: none recorded, it never could earn");
		return;
	}
	timestamp_format(o->terms.outcome_at_us, at);
	struct slice rule = o->terms.rule_id;
	const char *kinds = reason_kinds(o->terms.kinds);
	if (slice_present(rule))
		output_line("terms recorded for delivered at %s: rule %.*s v%" PRId32 "; the partner takes part in %s", at,
		            (int)rule.len, rule.data, o->terms.rule_version, kinds);
	else
		output_line("terms recorded for delivered at %s: no rule; the partner takes part in %s", at, kinds);
}

static void print_reasons(const struct explanation *e)
{
	const struct order_row *o = &e->order;
	if (e->fault) {
		printf("WRONG: %s\n", e->fault);
		return;
	}
	output_line("%s", e->points_why.data);
	output_line("%s", e->credit_why.data);
	if (!is_posted_as_due(e))
		printf("WRONG: posted are %" PRId64 " points and a credit of %" PRId64 "\n", o->points, o->order_credit_minor);
}

static void print_postings(const struct pg_rows *rows)
{
	static const struct table_column columns[] = {
		{"KIND", false}, {"SEQ", true}, {"AMOUNT", true}, {"UNIT", false}, {"DEBIT", false}, {"CREDIT", false},
		{"RULE", false}, {"SOURCE", false}, {"POSTED_AT", false},
	};
	static const enum posting_column plain[] = {KIND, SEQ, AMOUNT, UNIT, DEBIT, CREDIT};
	struct table t = table_of(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		struct slice v[POSTED_AT + 1];
		for (int column = 0; column <= POSTED_AT; column++)
			v[column] = pg_text(rows, row, column);
		for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
			table_cell(&t, "%.*s", (int)v[plain[i]].len, v[plain[i]].data);
		if (slice_present(v[RULE]))
			table_cell(&t, "%.*s v%.*s", (int)v[RULE].len, v[RULE].data, (int)v[VERSION].len, v[VERSION].data);
		else
			table_cell(&t, "-");
		table_cell(&t, "%.*s[%.*s]@%.*s", (int)v[TOPIC].len, v[TOPIC].data, (int)v[PARTITION].len, v[PARTITION].data,
		           (int)v[OFFSET].len, v[OFFSET].data);
		table_cell(&t, "%.*s", (int)v[POSTED_AT].len, v[POSTED_AT].data);
	}
	table_print(&t, stdout);
	table_release(&t);
}

static int print_text(const struct cli *cli, const struct explanation *e, bool from_kafka)
{
	print_facts(&e->order);
	print_terms(&e->order);
	print_reasons(e);
	puts("\npostings");
	print_postings(e->postings);
	if (!from_kafka)
		return EXIT_FINE;
	puts("\nevents");
	return explain_events(cli, e->order.order_id, NULL);
}

/* ---- for machines ---- */

static void put_text(struct json_writer *w, const char *name, struct slice value)
{
	json_put_key(w, name);
	json_put_string(w, value);
}

static void put_integer(struct json_writer *w, const char *name, int64_t value, int64_t unknown)
{
	json_put_key(w, name);
	if (value == unknown)
		json_put_null(w);
	else
		json_put_int(w, value);
}

static void put_time(struct json_writer *w, const char *name, int64_t us)
{
	char text[TIMESTAMP_TEXT_MAX];
	json_put_key(w, name);
	if (us != TIME_NONE)
		timestamp_format(us, text);
	json_put_text(w, us == TIME_NONE ? NULL : text);
}

static void put_facts(struct json_writer *w, const struct order_row *o)
{
	const struct order_state *s = &o->state;
	char label[STATUS_LABEL_MAX];
	put_text(w, "order_id", o->order_id);
	put_text(w, "progress", slice_of(status_label(s->progress, label)));
	put_text(w, "outcome", slice_of(status_label(order_state_outcome(s), label)));
	put_time(w, "outcome_at", s->outcome.at_us);
	put_text(w, "customer_id", s->customer_id);
	put_text(w, "partner_id", s->partner_id);
	put_integer(w, "amount_minor", s->amount.at_us == TIME_NONE ? -1 : s->amount.number, -1);
	put_time(w, "amount_at", s->amount.at_us);
	put_text(w, "currency", slice_of(s->currency[0] ? s->currency : NULL));
	put_integer(w, "refunded_total_minor", s->refunded_total_minor, -1);
	put_text(w, "driver_id", s->driver.text);
	put_time(w, "driver_at", s->driver.at_us);
	put_text(w, "first_topic", o->first_topic);
	put_integer(w, "first_partition", o->first_partition, -1);
	put_integer(w, "first_offset", o->first_offset, -1);
	put_time(w, "updated_at", o->updated_at_us);
	json_put_key(w, "terms");
	json_put_open(w, '{');
	put_time(w, "outcome_at", o->terms.outcome_at_us);
	put_text(w, "rule_id", o->terms.rule_id);
	put_integer(w, "rule_version", o->terms.rule_version, 0);
	put_text(w, "kinds", slice_of(o->terms.outcome_at_us == TIME_NONE ? NULL : reason_kinds(o->terms.kinds)));
	json_put_close(w, '}');
}

static void put_target(struct json_writer *w, const char *name, int64_t target, int64_t posted, const struct buf *why)
{
	json_put_key(w, name);
	json_put_open(w, '{');
	put_integer(w, "target", target, INT64_MIN);
	put_integer(w, "posted", posted, INT64_MIN);
	put_text(w, "why", why->len ? buf_slice(why) : (struct slice){0});
	json_put_close(w, '}');
}

static void put_postings(struct json_writer *w, const struct pg_rows *rows)
{
	static const struct {
		const char *name;
		bool number;
	} columns[] = {
		{"seq", true}, {"kind", false}, {"amount", true}, {"unit", false}, {"debit_account", false},
		{"credit_account", false}, {"rule_id", false}, {"rule_version", true}, {"source_topic", false},
		{"source_partition", true}, {"source_offset", true}, {"posted_at", false},
	};
	json_put_key(w, "postings");
	json_put_open(w, '[');
	for (size_t row = 0; row < pg_rows_count(rows); row++) {
		json_put_open(w, '{');
		for (int column = 0; column <= POSTED_AT; column++) {
			struct slice value = pg_text(rows, row, column);
			json_put_key(w, columns[column].name);
			if (columns[column].number && slice_present(value))
				json_put_raw(w, value.data); /* libpq ends values with a NUL */
			else
				json_put_string(w, value);
		}
		json_put_close(w, '}');
	}
	json_put_close(w, ']');
}

static int print_json(const struct cli *cli, const struct explanation *e, bool from_kafka)
{
	struct buf out = BUF_INIT;
	struct json_writer w = json_writer_to(&out);
	int code = EXIT_FINE;
	json_put_open(&w, '{');
	put_facts(&w, &e->order);
	put_text(&w, "fault", slice_of(e->fault));
	put_target(&w, "points", e->fault ? INT64_MIN : e->due.points, e->order.points, &e->points_why);
	put_target(&w, "order_credit", e->fault ? INT64_MIN : e->due.order_credit_minor, e->order.order_credit_minor,
	           &e->credit_why);
	put_postings(&w, e->postings);
	if (from_kafka) {
		json_put_key(&w, "events");
		code = explain_events(cli, e->order.order_id, &w);
	}
	if (code == EXIT_FINE) {
		json_put_close(&w, '}');
		puts(out.data);
	}
	buf_release(&out);
	return code;
}

static int print_events_json(const struct cli *cli, struct slice order_id)
{
	struct buf out = BUF_INIT;
	struct json_writer w = json_writer_to(&out);
	json_put_open(&w, '{');
	put_text(&w, "order_id", order_id);
	json_put_key(&w, "events");
	int code = explain_events(cli, order_id, &w);
	json_put_close(&w, '}');
	if (code == EXIT_FINE)
		puts(out.data);
	buf_release(&out);
	return code;
}

/* ---- the command ---- */

/* Not in the ledger: its records may still be somewhere in the topics. */
static int explain_unknown(const struct cli *cli, struct slice order_id, bool as_json, bool from_kafka)
{
	int code = EXIT_FINE;
	if (from_kafka && as_json) {
		code = print_events_json(cli, order_id);
	} else if (from_kafka) {
		puts("events");
		code = explain_events(cli, order_id, NULL);
	}
	if (code != EXIT_FINE)
		return code;
	return cli_fail(cli, EXIT_FOUND_WRONG, "order %.*s is not in the ledger", (int)order_id.len, order_id.data);
}

static int run_explain(struct cli *cli)
{
	bool from_kafka = cli_flag(cli, "from-kafka"), as_json = cli_flag(cli, "json");
	if (cli->argc != 2 || !cli->argv[1][0])
		return cli_fail(cli, EXIT_USAGE, "usage: delivery-worker explain %s", cli->command->arguments);
	struct slice order_id = slice_of(cli->argv[1]);
	struct explanation e = {0};
	struct pg *pg = NULL;
	int code = ledger_session_open_ledger(cli, &pg);
	if (code != EXIT_FINE)
		return code;
	enum pg_result result = read_order(pg, order_id, &e);
	if (result != PG_OK) {
		code = ledger_session_fail(cli, result, pg_error(pg));
	} else if (pg_rows_count(e.row) == 0) {
		code = explain_unknown(cli, order_id, as_json, from_kafka);
	} else {
		explain_due(&e);
		code = as_json ? print_json(cli, &e, from_kafka) : print_text(cli, &e, from_kafka);
		if (code == EXIT_FINE && (e.fault || !is_posted_as_due(&e)))
			code = EXIT_FOUND_WRONG;
	}
	release(&e);
	pg_close(pg);
	return code;
}

static const char *const explain_flags[] = {"from-kafka", "json", NULL};

const struct command command_explain = {
	.name = "explain",
	.arguments = "ORDER_ID [--from-kafka] [--json]",
	.help = "one order's facts, postings, rule and why",
	.flags = explain_flags,
	.flags_help =
		"  --from-kafka    also look through the topics for the order's records\n"
		"  --json          print JSON\n",
	.options = "pg. kafka.brokers kafka.topic kafka.deferred_topic kafka.dlq_topic event. log.format log.level",
	.run = run_explain,
};
