#include "worker/ledger/rules_store.h"

#include <inttypes.h>
#include <stdio.h>

enum rule_column {
	RULE_ID, RULE_VERSION, RULE_KIND, RULE_POINTS, RULE_PER_MINOR, RULE_MULTIPLIER, RULE_MIN_ORDER, RULE_MAX_POINTS,
	RULE_PARTNER, RULE_CURRENCY, RULE_FROM, RULE_TO,
};

static const char select_rules[] =
	"SELECT rule_id, version, kind, points, per_minor, multiplier_bp, min_order_minor, max_points_per_order,"
	" partner_id, currency, valid_from, valid_to FROM rules WHERE revision <= $1";

enum partner_column { PARTNER_ID, PARTNER_KINDS, PARTNER_PER_SECOND, PARTNER_BURST };

static const char select_partners[] = "SELECT partner_id, kinds, per_second, burst FROM partners";

static const char insert_rules[] =
	"INSERT INTO rules (rule_id, version, kind, points, per_minor, multiplier_bp, min_order_minor,"
	" max_points_per_order, partner_id, currency, valid_from, valid_to, revision)"
	" SELECT *, $13::int8 FROM unnest($1::text[], $2::int4[], $3::int2[], $4::int8[], $5::int8[], $6::int8[],"
	" $7::int8[], $8::int8[], $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[])";

static const char upsert_partners[] =
	"INSERT INTO partners (partner_id, kinds, per_second, burst, revision)"
	" SELECT *, $5::int8 FROM unnest($1::text[], $2::int2[], $3::int8[], $4::int8[])"
	" ON CONFLICT (partner_id) DO UPDATE SET kinds = EXCLUDED.kinds, per_second = EXCLUDED.per_second,"
	" burst = EXCLUDED.burst, revision = EXCLUDED.revision, applied_at = now()";

static int64_t integer_or(const struct pg_rows *rows, size_t row, int column, int64_t absent)
{
	return pg_null(rows, row, column) ? absent : pg_integer(rows, row, column);
}

static int64_t time_or(const struct pg_rows *rows, size_t row, int column, int64_t absent)
{
	return pg_null(rows, row, column) ? absent : pg_time(rows, row, column);
}

/* Whether the code is that of a kind: another one is a later version's, and no rule of ours [I14]. */
static bool kind_of_code(int64_t code, enum rule_kind *kind)
{
	switch ((enum rule_kind)code) {
	case RULE_PER_AMOUNT:
	case RULE_PER_ORDER:
		*kind = (enum rule_kind)code;
		return true;
	}
	return false;
}

/* Returns: NULL, or the column whose code this binary does not know. Strings are the row's. */
static const char *read_rule(const struct pg_rows *rows, size_t row, struct rule *rule)
{
	*rule = (struct rule){
		.id = pg_text(rows, row, RULE_ID),
		.version = (int32_t)pg_integer(rows, row, RULE_VERSION),
		.points = pg_integer(rows, row, RULE_POINTS),
		.per_minor = pg_integer(rows, row, RULE_PER_MINOR),
		.multiplier_bp = pg_integer(rows, row, RULE_MULTIPLIER),
		.min_order_minor = pg_integer(rows, row, RULE_MIN_ORDER),
		.max_points_per_order = integer_or(rows, row, RULE_MAX_POINTS, -1),
		.partner_id = pg_text(rows, row, RULE_PARTNER),
		.valid_from_us = time_or(rows, row, RULE_FROM, TIME_NONE),
		.valid_to_us = time_or(rows, row, RULE_TO, INT64_MAX),
	};
	if (!kind_of_code(pg_integer(rows, row, RULE_KIND), &rule->kind))
		return "kind";
	struct slice currency = pg_text(rows, row, RULE_CURRENCY);
	if (!slice_present(currency))
		return NULL;
	if (currency.len != sizeof(rule->currency) - 1)
		return "currency";
	memcpy(rule->currency, currency.data, currency.len);
	return NULL;
}

/* The table takes numbers that no file may bring, and limits are reckoned within a file's bounds. */
static int64_t rate_or_default(const struct pg_rows *rows, size_t row, int column, int64_t min)
{
	int64_t value = integer_or(rows, row, column, -1);
	if (value < 0)
		return -1;
	return value < min ? min : value > PARTNER_RATE_MAX ? PARTNER_RATE_MAX : value;
}

/* As read_rule. */
static const char *read_partner(const struct pg_rows *rows, size_t row, struct partner_settings *p)
{
	int64_t kinds = pg_integer(rows, row, PARTNER_KINDS);
	*p = (struct partner_settings){
		.partner_id = pg_text(rows, row, PARTNER_ID),
		.kinds = (uint8_t)(kinds_known(kinds) ? kinds : KINDS_NONE),
		.per_second = rate_or_default(rows, row, PARTNER_PER_SECOND, 0),
		.burst = rate_or_default(rows, row, PARTNER_BURST, 1),
	};
	return kinds_known(kinds) ? NULL : "kinds";
}

/* Without that entry the others would price what it was to price: so none of them does. */
static enum pg_result refuse_code(struct pg *pg, const char *what, struct slice id, const char *column)
{
	char why[256];
	snprintf(why, sizeof(why), "%s of %s %.*s is a code that this version does not know: run a newer delivery-worker",
	         column, what, (int)id.len, id.data);
	return pg_refuse(pg, why);
}

static enum pg_result add_rules(struct pg *pg, const struct pg_rows *rows, struct rules *rules)
{
	for (size_t i = 0; i < pg_rows_count(rows); i++) {
		struct rule rule;
		const char *unknown = read_rule(rows, i, &rule);
		if (unknown)
			return refuse_code(pg, "rule", rule.id, unknown);
		rules_add(rules, &rule);
	}
	return PG_OK;
}

static enum pg_result add_partners(struct pg *pg, const struct pg_rows *rows, struct rules *rules)
{
	for (size_t i = 0; i < pg_rows_count(rows); i++) {
		struct partner_settings p;
		const char *unknown = read_partner(rows, i, &p);
		if (unknown)
			return refuse_code(pg, "partner", p.partner_id, unknown);
		rules_add_partner(rules, &p);
	}
	return PG_OK;
}

static enum pg_result query_revision(struct pg *pg, const char *sql, int64_t *revision)
{
	struct pg_rows *rows = NULL;
	enum pg_result result = pg_query(pg, sql, NULL, &rows);
	if (result == PG_OK) {
		/* The key of `history` allows one row; none is a ledger that somebody has taken apart. */
		if (pg_rows_count(rows) == 1)
			*revision = pg_integer(rows, 0, 0);
		else
			result = pg_refuse(pg, "table history has no row: not a ledger's schema");
	}
	pg_rows_free(rows);
	return result;
}

enum pg_result rules_store_revision(struct pg *pg, int64_t *revision)
{
	return query_revision(pg, "SELECT rules_revision FROM history", revision);
}

enum pg_result rules_store_load(struct pg *pg, int64_t up_to_revision, struct rules **out)
{
	struct pg_params *params = pg_params_new();
	struct pg_rows *rule_rows = NULL, *partner_rows = NULL;
	pg_put_int8(params, up_to_revision);
	enum pg_result result = pg_query(pg, select_rules, params, &rule_rows);
	/* Partners may be newer than the revision when a file is applied between the two statements: they
	 * are what the next load finds anyway, and an order records the kinds that it was priced with. */
	if (result == PG_OK)
		result = pg_query(pg, select_partners, NULL, &partner_rows);
	if (result != PG_OK)
		goto done;

	struct rules *rules = rules_new(up_to_revision);
	result = add_rules(pg, rule_rows, rules);
	if (result == PG_OK)
		result = add_partners(pg, partner_rows, rules);
	if (result == PG_OK) {
		rules_seal(rules);
		*out = rules;
	} else {
		rules_unref(rules);
	}
done:
	pg_rows_free(rule_rows);
	pg_rows_free(partner_rows);
	pg_params_free(params);
	return result;
}

static void array_integer_or_null(struct pg_params *params, int64_t value, int64_t null)
{
	if (value == null)
		pg_array_null(params);
	else
		pg_array_integer(params, value);
}

static void array_time_or_null(struct pg_params *params, int64_t unix_us, int64_t null)
{
	if (unix_us == null)
		pg_array_null(params);
	else
		pg_array_time(params, unix_us);
}

/* One column of the changed rules as an array parameter. */
static void put_rule_column(struct pg_params *params, enum pg_type type, enum rule_column column,
                            const struct rules *file, const struct rule_change *changes)
{
	pg_array_begin(params, type);
	for (size_t i = 0; i < rules_count(file); i++) {
		const struct rule *rule = rules_at(file, i);
		if (!changes[i].changed)
			continue;
		switch (column) {
		case RULE_ID: pg_array_text(params, rule->id); break;
		case RULE_VERSION: pg_array_integer(params, changes[i].version); break;
		case RULE_KIND: pg_array_integer(params, rule->kind); break;
		case RULE_POINTS: pg_array_integer(params, rule->points); break;
		case RULE_PER_MINOR: pg_array_integer(params, rule->per_minor); break;
		case RULE_MULTIPLIER: pg_array_integer(params, rule->multiplier_bp); break;
		case RULE_MIN_ORDER: pg_array_integer(params, rule->min_order_minor); break;
		case RULE_MAX_POINTS: array_integer_or_null(params, rule->max_points_per_order, -1); break;
		case RULE_PARTNER: pg_array_text(params, rule->partner_id); break;
		case RULE_CURRENCY: pg_array_text(params, slice_of(rule->currency[0] ? rule->currency : NULL)); break;
		case RULE_FROM: array_time_or_null(params, rule->valid_from_us, TIME_NONE); break;
		case RULE_TO: array_time_or_null(params, rule->valid_to_us, INT64_MAX); break;
		}
	}
	pg_array_end(params);
}

static enum pg_result write_rules(struct pg *pg, const struct rules *file, const struct rule_change *changes,
                                  int64_t revision)
{
	static const enum pg_type types[] = {
		[RULE_ID] = PG_TEXT, [RULE_VERSION] = PG_INT4, [RULE_KIND] = PG_INT2, [RULE_POINTS] = PG_INT8,
		[RULE_PER_MINOR] = PG_INT8, [RULE_MULTIPLIER] = PG_INT8, [RULE_MIN_ORDER] = PG_INT8,
		[RULE_MAX_POINTS] = PG_INT8, [RULE_PARTNER] = PG_TEXT, [RULE_CURRENCY] = PG_TEXT,
		[RULE_FROM] = PG_TIMESTAMPTZ, [RULE_TO] = PG_TIMESTAMPTZ,
	};
	struct pg_params *params = pg_params_new();
	for (enum rule_column c = RULE_ID; c <= RULE_TO; c++)
		put_rule_column(params, types[c], c, file, changes);
	pg_put_int8(params, revision);
	enum pg_result result = pg_query(pg, insert_rules, params, NULL);
	pg_params_free(params);
	return result;
}

static enum pg_result write_partners(struct pg *pg, const struct rules *file, const struct rule_change *changes,
                                     int64_t revision)
{
	static const enum pg_type types[] = {
		[PARTNER_ID] = PG_TEXT,
		[PARTNER_KINDS] = PG_INT2,
		[PARTNER_PER_SECOND] = PG_INT8,
		[PARTNER_BURST] = PG_INT8,
	};
	struct pg_params *params = pg_params_new();
	for (enum partner_column c = PARTNER_ID; c <= PARTNER_BURST; c++) {
		pg_array_begin(params, types[c]);
		for (size_t i = 0; i < rules_partner_count(file); i++) {
			const struct partner_settings *p = rules_partner_at(file, i);
			if (!changes[i].changed)
				continue;
			switch (c) {
			case PARTNER_ID: pg_array_text(params, p->partner_id); break;
			case PARTNER_KINDS: pg_array_integer(params, p->kinds); break;
			case PARTNER_PER_SECOND: array_integer_or_null(params, p->per_second, -1); break;
			case PARTNER_BURST: array_integer_or_null(params, p->burst, -1); break;
			}
		}
		pg_array_end(params);
	}
	pg_put_int8(params, revision);
	enum pg_result result = pg_query(pg, upsert_partners, params, NULL);
	pg_params_free(params);
	return result;
}

/* Returns: how many of the file's rules are new to the database or have other terms there. */
static size_t compare_rules(const struct rules *file, const struct rules *stored, struct rule_change *changes)
{
	size_t changed = 0;
	for (size_t i = 0; i < rules_count(file); i++) {
		const struct rule *rule = rules_at(file, i);
		const struct rule *newest = rules_newest(stored, rule->id);
		changes[i].changed = !newest || !rule_same_terms(newest, rule);
		changes[i].version = (newest ? newest->version : 0) + changes[i].changed;
		changed += changes[i].changed;
	}
	return changed;
}

static size_t compare_partners(const struct rules *file, const struct rules *stored, struct rule_change *changes)
{
	size_t changed = 0;
	for (size_t i = 0; i < rules_partner_count(file); i++) {
		const struct partner_settings *p = rules_partner_at(file, i);
		const struct partner_settings *old = rules_partner(stored, p->partner_id);
		/* An entry of nothing but defaults is stored, too: that it was said is worth showing. */
		changes[i] = (struct rule_change){
			.changed = !slice_present(old->partner_id) || old->kinds != p->kinds ||
			           old->per_second != p->per_second || old->burst != p->burst,
		};
		changed += changes[i].changed;
	}
	return changed;
}

static enum pg_result publish_revision(struct pg *pg, int64_t revision)
{
	struct pg_params *params = pg_params_new();
	pg_put_int8(params, revision);
	enum pg_result result = pg_query(pg, "UPDATE history SET rules_revision = $1", params, NULL);
	/* Delivered at COMMIT, or not at all. */
	if (result == PG_OK)
		result = pg_query(pg, "SELECT pg_notify('" RULES_CHANNEL "', $1::int8::text)", params, NULL);
	pg_params_free(params);
	return result;
}

/* Inside the transaction. */
static enum pg_result apply_locked(struct pg *pg, const struct rules *file, struct rule_change *rule_changes,
                                   struct rule_change *partner_changes, int64_t *revision)
{
	/* The lock makes appliers queue; read committed, so what follows sees all that they have committed. */
	enum pg_result result = query_revision(pg, "SELECT rules_revision FROM history FOR UPDATE", revision);
	if (result != PG_OK)
		return result;
	struct rules *stored;
	result = rules_store_load(pg, INT64_MAX, &stored);
	if (result != PG_OK)
		return result;
	size_t rules_changed = compare_rules(file, stored, rule_changes);
	size_t partners_changed = compare_partners(file, stored, partner_changes);
	rules_unref(stored);
	if (rules_changed + partners_changed == 0)
		return PG_OK;

	++*revision;
	if (rules_changed)
		result = write_rules(pg, file, rule_changes, *revision);
	if (result == PG_OK && partners_changed)
		result = write_partners(pg, file, partner_changes, *revision);
	return result == PG_OK ? publish_revision(pg, *revision) : result;
}

/* A command's session may idle as long as it likes, but not with the lock that every progress write waits for. */
#define BEGIN_BOUNDED "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'"

enum pg_result rules_store_apply(struct pg *pg, const struct rules *file, struct rule_change *rule_changes,
                                 struct rule_change *partner_changes, int64_t *revision)
{
	int64_t reached = 0;
	enum pg_result result = pg_script(pg, BEGIN_BOUNDED);
	if (result == PG_OK)
		result = apply_locked(pg, file, rule_changes, partner_changes, &reached);
	if (result == PG_OK)
		result = pg_query(pg, "COMMIT", NULL, NULL);
	/* After an error the caller closes the connection, and with it the transaction. */
	if (result == PG_OK)
		*revision = reached;
	return result;
}
