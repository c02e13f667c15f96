#include "worker/cli/cli.h"

#include "common/clock.h"
#include "common/json_writer.h"
#include "common/whole_file.h"
#include "schemas/timestamp.h"
#include "worker/cli/ledger_session.h"
#include "worker/cli/table.h"
#include "worker/ledger/rules_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERROR_TEXT_MAX = 512 };

/* ---- apply ---- */

/* Returns: the parsed file, or NULL after printing why not. */
static struct rules *parse_named_file(const struct cli *cli, const char *name)
{
	struct buf text = BUF_INIT;
	struct rules *file = NULL;
	int failure = whole_file_read(strcmp(name, "-") == 0 ? "/dev/stdin" : name, RULES_FILE_BYTES_MAX, &text);
	if (failure == EFBIG) {
		cli_fail(cli, EXIT_CONFIG, "%s: more than %d bytes", name, RULES_FILE_BYTES_MAX);
	} else if (failure) {
		cli_fail(cli, EXIT_CONFIG, "%s: %s", name, strerror(failure));
	} else {
		char error[ERROR_TEXT_MAX];
		file = rules_parse_file(buf_slice(&text), error, sizeof(error));
		if (!file)
			cli_fail(cli, EXIT_CONFIG, "%s: %s", name, error);
	}
	buf_release(&text);
	return file;
}

static void print_changes(const struct rules *file, const struct rule_change *rule_changes,
                          const struct rule_change *partner_changes, int64_t revision)
{
	bool changed = false;
	for (size_t i = 0; i < rules_count(file); i++) {
		struct slice id = rules_at(file, i)->id;
		changed |= rule_changes[i].changed;
		if (rule_changes[i].changed)
			printf("%.*s: version %" PRId32 "\n", (int)id.len, id.data, rule_changes[i].version);
		else
			printf("%.*s: unchanged\n", (int)id.len, id.data);
	}
	for (size_t i = 0; i < rules_partner_count(file); i++) {
		struct slice id = rules_partner_at(file, i)->partner_id;
		changed |= partner_changes[i].changed;
		printf("partner %.*s: %s\n", (int)id.len, id.data,
		       partner_changes[i].changed ? "changed" : "unchanged");
	}
	printf("revision %" PRId64 "%s\n", revision, changed ? "" : ", nothing changed");
}

static void print_changes_json(const struct rules *file, const struct rule_change *rule_changes,
                               const struct rule_change *partner_changes, int64_t revision)
{
	struct buf out = BUF_INIT;
	struct json_writer w = json_writer_to(&out);
	json_put_open(&w, '{');
	json_put_key(&w, "revision"), json_put_int(&w, revision);
	json_put_key(&w, "rules"), json_put_open(&w, '[');
	for (size_t i = 0; i < rules_count(file); i++) {
		json_put_open(&w, '{');
		json_put_key(&w, "id"), json_put_string(&w, rules_at(file, i)->id);
		json_put_key(&w, "version"), json_put_int(&w, rule_changes[i].version);
		json_put_key(&w, "changed"), json_put_bool(&w, rule_changes[i].changed);
		json_put_close(&w, '}');
	}
	json_put_close(&w, ']');
	json_put_key(&w, "partners"), json_put_open(&w, '[');
	for (size_t i = 0; i < rules_partner_count(file); i++) {
		json_put_open(&w, '{');
		json_put_key(&w, "partner_id"), json_put_string(&w, rules_partner_at(file, i)->partner_id);
		json_put_key(&w, "changed"), json_put_bool(&w, partner_changes[i].changed);
		json_put_close(&w, '}');
	}
	json_put_close(&w, ']');
	json_put_close(&w, '}');
	puts(out.data);
	buf_release(&out);
}

/* ---- show ---- */

static const char *window_state(const struct rule *rule, int64_t now_us)
{
	if (now_us >= rule->valid_to_us)
		return "ended";
	return now_us < rule->valid_from_us ? "pending" : "in_force";
}

static void time_cell(struct table *t, int64_t us, int64_t none)
{
	char text[TIMESTAMP_TEXT_MAX] = "-";
	if (us != none)
		timestamp_format(us, text);
	table_cell(t, "%s", text);
}

static void integer_cell(struct table *t, bool present, int64_t value)
{
	if (present)
		table_cell(t, "%" PRId64, value);
	else
		table_cell(t, "-");
}

static void print_rules(const struct rules *rules, int64_t now_us)
{
	static const struct table_column columns[] = {
		{"RULE", false},     {"VERSION", true},    {"STATE", false},      {"PARTNER", false},
		{"CURRENCY", false}, {"POINTS", true},     {"PER_MINOR", true},   {"MULTIPLIER_BP", true},
		{"MIN_ORDER", true}, {"MAX_POINTS", true}, {"VALID_FROM", false}, {"VALID_TO", false},
	};
	struct table t = table_of(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < rules_count(rules); i++) {
		const struct rule *rule = rules_at(rules, i);
		if (rule != rules_newest(rules, rule->id))
			continue;
		table_cell(&t, "%.*s", (int)rule->id.len, rule->id.data);
		table_cell(&t, "%" PRId32, rule->version);
		table_cell(&t, "%s", window_state(rule, now_us));
		if (slice_present(rule->partner_id))
			table_cell(&t, "%.*s", (int)rule->partner_id.len, rule->partner_id.data);
		else
			table_cell(&t, "any");
		table_cell(&t, "%s", rule->currency[0] ? rule->currency : "any");
		table_cell(&t, "%" PRId64, rule->points);
		integer_cell(&t, rule->kind == RULE_PER_AMOUNT, rule->per_minor);
		table_cell(&t, "%" PRId64, rule->multiplier_bp);
		table_cell(&t, "%" PRId64, rule->min_order_minor);
		integer_cell(&t, rule->max_points_per_order >= 0, rule->max_points_per_order);
		time_cell(&t, rule->valid_from_us, TIME_NONE);
		time_cell(&t, rule->valid_to_us, INT64_MAX);
	}
	table_print(&t, stdout);
	table_release(&t);
}

static const char *kinds_text(uint8_t kinds)
{
	switch ((enum ledger_kinds)kinds) {
	case KIND_POINTS:
		return "points";
	case KIND_ORDER_CREDIT:
		return "order_credit";
	case KINDS_ALL:
		return "points, order_credit";
	case KINDS_NONE:
		return "none";
	}
	UNREACHABLE("kinds that rules_store.c does not load");
}

static const char *kind_text(enum rule_kind kind)
{
	switch (kind) {
	case RULE_PER_AMOUNT:
		return "per_amount";
	case RULE_PER_ORDER:
		return "per_order";
	}
	UNREACHABLE("a kind that rules_store.c does not load");
}

static void print_partners(const struct rules *rules)
{
	static const struct table_column columns[] = {
		{"PARTNER", false}, {"KINDS", false}, {"PER_SECOND", true}, {"BURST", true},
	};
	struct table t = table_of(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < rules_partner_count(rules); i++) {
		const struct partner_settings *p = rules_partner_at(rules, i);
		table_cell(&t, "%.*s", (int)p->partner_id.len, p->partner_id.data);
		table_cell(&t, "%s", kinds_text(p->kinds));
		integer_cell(&t, p->per_second >= 0, p->per_second);
		integer_cell(&t, p->burst >= 0, p->burst);
	}
	table_print(&t, stdout);
	table_release(&t);
}

static void put_time(struct json_writer *w, const char *name, int64_t us)
{
	char text[TIMESTAMP_TEXT_MAX];
	timestamp_format(us, text);
	json_put_key(w, name), json_put_text(w, text);
}

/* As in a rule file, with the version and the state beside. */
static void put_rule(struct json_writer *w, const struct rule *rule, int64_t now_us)
{
	json_put_open(w, '{');
	json_put_key(w, "id"), json_put_string(w, rule->id);
	json_put_key(w, "version"), json_put_int(w, rule->version);
	json_put_key(w, "state"), json_put_text(w, window_state(rule, now_us));
	json_put_key(w, "kind"), json_put_text(w, kind_text(rule->kind));
	json_put_key(w, "points"), json_put_int(w, rule->points);
	if (rule->kind == RULE_PER_AMOUNT)
		json_put_key(w, "per_minor"), json_put_int(w, rule->per_minor);
	if (slice_present(rule->partner_id))
		json_put_key(w, "partner_id"), json_put_string(w, rule->partner_id);
	if (rule->currency[0])
		json_put_key(w, "currency"), json_put_text(w, rule->currency);
	json_put_key(w, "multiplier_bp"), json_put_int(w, rule->multiplier_bp);
	json_put_key(w, "min_order_minor"), json_put_int(w, rule->min_order_minor);
	if (rule->max_points_per_order >= 0)
		json_put_key(w, "max_points_per_order"), json_put_int(w, rule->max_points_per_order);
	if (rule->valid_from_us != TIME_NONE)
		put_time(w, "valid_from", rule->valid_from_us);
	if (rule->valid_to_us != INT64_MAX)
		put_time(w, "valid_to", rule->valid_to_us);
	json_put_close(w, '}');
}

static void put_partner(struct json_writer *w, const struct partner_settings *p)
{
	json_put_open(w, '{');
	json_put_key(w, "partner_id"), json_put_string(w, p->partner_id);
	json_put_key(w, "kinds"), json_put_open(w, '[');
	if (p->kinds & KIND_POINTS)
		json_put_text(w, "points");
	if (p->kinds & KIND_ORDER_CREDIT)
		json_put_text(w, "order_credit");
	json_put_close(w, ']');
	if (p->per_second >= 0)
		json_put_key(w, "per_second"), json_put_int(w, p->per_second);
	if (p->burst >= 0)
		json_put_key(w, "burst"), json_put_int(w, p->burst);
	json_put_close(w, '}');
}

static void print_json(const struct rules *rules, int64_t now_us)
{
	struct buf out = BUF_INIT;
	struct json_writer w = json_writer_to(&out);
	json_put_open(&w, '{');
	json_put_key(&w, "revision"), json_put_int(&w, rules_revision(rules));
	json_put_key(&w, "rules"), json_put_open(&w, '[');
	for (size_t i = 0; i < rules_count(rules); i++) {
		const struct rule *rule = rules_at(rules, i);
		if (rule == rules_newest(rules, rule->id))
			put_rule(&w, rule, now_us);
	}
	json_put_close(&w, ']');
	json_put_key(&w, "partners"), json_put_open(&w, '[');
	for (size_t i = 0; i < rules_partner_count(rules); i++)
		put_partner(&w, rules_partner_at(rules, i));
	json_put_close(&w, ']');
	json_put_close(&w, '}');
	puts(out.data);
	buf_release(&out);
}

/* ---- the command ---- */

static int apply(struct cli *cli, const char *name, bool as_json)
{
	struct rules *file = parse_named_file(cli, name);
	if (!file)
		return EXIT_CONFIG;
	struct rule_change *rule_changes = calloc(rules_count(file) + 1, sizeof(*rule_changes));
	struct rule_change *partner_changes = calloc(rules_partner_count(file) + 1, sizeof(*partner_changes));
	ENSURE(rule_changes && partner_changes);
	struct pg *pg = NULL;
	int64_t revision = 0;
	int code = ledger_session_open_ledger(cli, &pg);
	if (code == EXIT_FINE) {
		enum pg_result result = rules_store_apply(pg, file, rule_changes, partner_changes, &revision);
		if (result != PG_OK)
			code = ledger_session_fail(cli, result, pg_error(pg));
		else if (as_json)
			print_changes_json(file, rule_changes, partner_changes, revision);
		else
			print_changes(file, rule_changes, partner_changes, revision);
	}
	pg_close(pg);
	free(rule_changes);
	free(partner_changes);
	rules_unref(file);
	return code;
}

static int show(struct cli *cli, bool as_json)
{
	struct pg *pg = NULL;
	struct rules *rules = NULL;
	int64_t revision = 0;
	int code = ledger_session_open_ledger(cli, &pg);
	if (code == EXIT_FINE) {
		enum pg_result result = rules_store_revision(pg, &revision);
		if (result == PG_OK)
			result = rules_store_load(pg, revision, &rules);
		if (result != PG_OK)
			code = ledger_session_fail(cli, result, pg_error(pg));
	}
	pg_close(pg);
	if (code != EXIT_FINE)
		return code;
	if (as_json) {
		print_json(rules, clock_wall_us());
	} else {
		print_rules(rules, clock_wall_us());
		if (rules_partner_count(rules)) {
			putchar('\n');
			print_partners(rules);
		}
	}
	rules_unref(rules);
	return EXIT_FINE;
}

static int run_rules(struct cli *cli)
{
	bool as_json = cli_flag(cli, "json");
	const char *verb = cli->argc > 1 ? cli->argv[1] : "";
	if (strcmp(verb, "apply") == 0 && cli->argc == 3)
		return apply(cli, cli->argv[2], as_json);
	if (strcmp(verb, "show") == 0 && cli->argc == 2)
		return show(cli, as_json);
	return cli_fail(cli, EXIT_USAGE, "usage: delivery-worker rules %s", cli->command->arguments);
}

static const char *const rules_flags[] = {"json", NULL};

const struct command command_rules = {
	.name = "rules",
	.arguments = "(apply FILE | show) [--json]",
	.help = "load a rule file (- for stdin) as new versions; print the newest version of each rule",
	.flags = rules_flags,
	.flags_help = "  --json   as one JSON object\n",
	.options = "pg. log.format log.level",
	.run = run_rules,
};
