/* A rule file, applied to memory as `rules apply` does it to the database. Input: the file. */
#include "tests/fuzz/fuzz.h"

#include "worker/ledger/rules.h"

static void check_rule(const struct rule *r)
{
	ENSURE(r->id.len >= 1 && r->id.len <= 64 && r->points >= 0 && r->points <= 1000000);
	ENSURE(r->per_minor >= 1 && r->per_minor <= 1000000000 && (r->kind == RULE_PER_AMOUNT || r->per_minor == 1));
	ENSURE(r->multiplier_bp >= 0 && r->multiplier_bp <= 1000000 && r->min_order_minor >= 0);
	ENSURE(r->max_points_per_order >= -1 && r->valid_from_us < r->valid_to_us && strlen(r->currency) % 3 == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[256];
	struct rules *file = rules_parse_file((struct slice){(const char *)data, size}, error, sizeof(error));
	if (!file)
		return fuzz_check_line(error, sizeof(error), false), 0;
	struct rules *set = rules_new(1);
	for (size_t i = 0; i < rules_count(file); i++) {
		struct rule rule = *rules_at(file, i);
		check_rule(&rule);
		rule.version = 1;
		rules_add(set, &rule);
	}
	for (size_t i = 0; i < rules_partner_count(file); i++)
		rules_add_partner(set, rules_partner_at(file, i));
	rules_seal(set);
	for (size_t i = 0; i < rules_count(file); i++) {
		const struct rule *rule = rules_at(file, i), *newest = rules_newest(set, rule->id);
		/* Applied again, nothing is new. */
		ENSURE(newest && newest->version == 1 && rule_same_terms(rule, newest));
		const struct rule *found = rules_in_force(set, rule->partner_id, "EUR", rule->valid_from_us);
		ENSURE(!found || rule_eligible(found, rule->partner_id, "EUR", rule->valid_from_us));
	}
	for (size_t i = 0; i < rules_partner_count(file); i++) {
		const struct partner_settings *p = rules_partner_at(file, i);
		ENSURE(rules_partner(set, p->partner_id)->kinds == p->kinds);
	}
	rules_unref(set);
	rules_unref(file);
	return 0;
}
