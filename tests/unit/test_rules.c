#include "worker/ledger/rules.h"

#include <check.h>
#include <stdio.h>

#define NONE TIME_NONE
#define EVER INT64_MAX

struct row {
	const char *id;
	int32_t version;
	const char *partner;
	const char *currency;
	int64_t from, to;
};

static struct rule rule_of(const struct row *row)
{
	struct rule r = {
		.id = slice_of(row->id),
		.version = row->version,
		.kind = RULE_PER_ORDER,
		.points = 1,
		.per_minor = 1,
		.multiplier_bp = 10000,
		.max_points_per_order = -1,
		.partner_id = slice_of(row->partner),
		.valid_from_us = row->from,
		.valid_to_us = row->to,
	};
	snprintf(r.currency, sizeof(r.currency), "%s", row->currency);
	return r;
}

enum { RULES_MAX = 5 };

static const struct {
	const char *what;
	struct row rules[RULES_MAX];
	const char *partner, *currency;
	int64_t at;
	const char *id; /* NULL: none */
	int32_t version;
} force_rows[] = {
	{"no rules", {{0}}, "p1", "BRL", 50, NULL, 0},
	{"one general rule", {{"a", 1, NULL, "", NONE, EVER}}, "p1", "BRL", 50, "a", 1},
	{"the newest version",
	 {{"a", 2, NULL, "", NONE, EVER}, {"a", 1, NULL, "", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "a",
	 2},
	{"versions go by number, not by text",
	 {{"a", 10, NULL, "", NONE, EVER}, {"a", 9, NULL, "", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "a",
	 10},
	{"an ended newest version hides older ones",
	 {{"a", 1, NULL, "", NONE, EVER}, {"a", 2, NULL, "", NONE, 50}},
	 "p1",
	 "BRL",
	 50,
	 NULL,
	 0},
	{"so does one not yet begun",
	 {{"a", 1, NULL, "", NONE, EVER}, {"a", 2, NULL, "", 51, EVER}},
	 "p1",
	 "BRL",
	 50,
	 NULL,
	 0},
	{"so does one that now is another partner's",
	 {{"a", 1, NULL, "", NONE, EVER}, {"a", 2, "p2", "", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 NULL,
	 0},
	{"valid_from is inclusive", {{"a", 1, NULL, "", 50, EVER}}, "p1", "BRL", 50, "a", 1},
	{"before valid_from", {{"a", 1, NULL, "", 50, EVER}}, "p1", "BRL", 49, NULL, 0},
	{"before valid_to", {{"a", 1, NULL, "", NONE, 50}}, "p1", "BRL", 49, "a", 1},
	{"valid_to is exclusive", {{"a", 1, NULL, "", NONE, 50}}, "p1", "BRL", 50, NULL, 0},
	{"another partner's", {{"a", 1, "p2", "", NONE, EVER}}, "p1", "BRL", 50, NULL, 0},
	{"partners compare whole",
	 {{"a", 1, "p", "", NONE, EVER}, {"b", 1, "p11", "", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 NULL,
	 0},
	{"another currency", {{"a", 1, NULL, "USD", NONE, EVER}}, "p1", "BRL", 50, NULL, 0},
	{"the same currency", {{"a", 1, NULL, "BRL", NONE, EVER}}, "p1", "BRL", 50, "a", 1},
	{"own before general, whatever valid_from and id say",
	 {{"a", 1, NULL, "", 40, EVER}, {"b", 1, "p1", "", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "b",
	 1},
	{"general when the own one is not in its window",
	 {{"a", 1, NULL, "", NONE, EVER}, {"b", 1, "p1", "", NONE, 50}},
	 "p1",
	 "BRL",
	 50,
	 "a",
	 1},
	{"general when the own one has another currency",
	 {{"a", 1, NULL, "", NONE, EVER}, {"b", 1, "p1", "USD", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "a",
	 1},
	{"latest valid_from", {{"a", 1, NULL, "", 10, EVER}, {"b", 1, NULL, "", 20, EVER}}, "p1", "BRL", 50, "b", 1},
	{"none loses to any", {{"a", 1, NULL, "", NONE, EVER}, {"b", 1, NULL, "", -9, EVER}}, "p1", "BRL", 50, "b", 1},
	{"latest that has begun",
	 {{"a", 1, NULL, "", 10, EVER}, {"b", 1, NULL, "", 60, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "a",
	 1},
	{"smallest id", {{"b", 1, NULL, "", 10, EVER}, {"a", 1, NULL, "", 10, EVER}}, "p1", "BRL", 50, "a", 1},
	{"ids by bytes: a prefix is smaller, upper before lower",
	 {{"aa", 1, NULL, "", 10, EVER}, {"a", 1, NULL, "", 10, EVER}, {"B", 1, NULL, "", 10, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "B",
	 1},
	{"a currency of its own gives no precedence",
	 {{"a", 1, NULL, "", NONE, EVER}, {"b", 1, NULL, "BRL", NONE, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "a",
	 1},
	{"among own ones the latest",
	 {{"a", 1, "p1", "", 10, EVER},
	  {"b", 1, "p1", "", 20, EVER},
	  {"c", 1, "p2", "", 30, EVER},
	  {"d", 1, "p0", "", 40, EVER},
	  {"e", 1, NULL, "", 45, EVER}},
	 "p1",
	 "BRL",
	 50,
	 "b",
	 1},
};

START_TEST(test_rules__one_is_in_force)
{
	struct rules *set = rules_new(1);
	for (int i = 0; i < RULES_MAX && force_rows[_i].rules[i].id; i++) {
		struct rule r = rule_of(&force_rows[_i].rules[i]);
		rules_add(set, &r);
	}
	rules_seal(set);
	const struct rule *found = rules_in_force(set, slice_of(force_rows[_i].partner), force_rows[_i].currency,
	                                          force_rows[_i].at);
	if (!force_rows[_i].id) {
		ck_assert_msg(!found, "%s: %s", force_rows[_i].what, found ? found->id.data : "");
	} else {
		ck_assert_msg(found, "%s: none", force_rows[_i].what);
		ck_assert_msg(slice_equal(found->id, slice_of(force_rows[_i].id)) &&
				      found->version == force_rows[_i].version,
			      "%s: %s version %d", force_rows[_i].what, found->id.data, (int)found->version);
		ck_assert(rule_eligible(found, slice_of(force_rows[_i].partner), force_rows[_i].currency,
					force_rows[_i].at));
	}
	rules_unref(set);
}
END_TEST

static const struct row terms_row = {"a", 1, "p1", "BRL", 10, 20};

START_TEST(test_rules__same_terms_compares_all_but_version)
{
	struct rule a = rule_of(&terms_row);
	for (int i = 0; i < 12; i++) {
		struct rule b = a;
		bool same = false;
		switch (i) {
		case 0: b.version = 2; same = true; break;
		case 1: b.id = SLICE_LITERAL("b"); break;
		case 2: b.kind = RULE_PER_AMOUNT; break;
		case 3: b.points = 2; break;
		case 4: b.per_minor = 2; break;
		case 5: b.multiplier_bp = 1; break;
		case 6: b.min_order_minor = 1; break;
		case 7: b.max_points_per_order = 0; break;
		case 8: b.partner_id = (struct slice){0}; break;
		case 9: b.currency[0] = '\0'; break;
		case 10: b.valid_from_us = NONE; break;
		case 11: b.valid_to_us = EVER; break;
		}
		ck_assert_msg(rule_same_terms(&a, &b) == same, "member %d", i);
	}
}
END_TEST

START_TEST(test_rules__every_version_can_be_found)
{
	static const struct row rows[] = {
		{"b", 1, NULL, "", NONE, EVER}, {"a", 3, NULL, "", NONE, EVER}, {"a", 1, NULL, "", NONE, EVER},
		{"ab", 1, NULL, "", NONE, EVER}, {"a", 2, NULL, "", NONE, EVER},
	};
	struct rules *set = rules_new(7);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rule r = rule_of(&rows[i]);
		rules_add(set, &r);
	}
	rules_seal(set);
	ck_assert_int_eq(rules_revision(set), 7);
	ck_assert_uint_eq(rules_count(set), 5);
	static const struct {
		const char *id;
		int32_t version;
	} sorted[] = {{"a", 1}, {"a", 2}, {"a", 3}, {"ab", 1}, {"b", 1}};
	for (size_t i = 0; i < 5; i++) {
		ck_assert(slice_equal(rules_at(set, i)->id, slice_of(sorted[i].id)));
		ck_assert_int_eq(rules_at(set, i)->version, sorted[i].version);
		ck_assert_ptr_eq(rules_version(set, slice_of(sorted[i].id), sorted[i].version), rules_at(set, i));
	}
	ck_assert_ptr_null(rules_version(set, SLICE_LITERAL("a"), 4));
	ck_assert_ptr_null(rules_version(set, SLICE_LITERAL("c"), 1));
	ck_assert_ptr_eq(rules_newest(set, SLICE_LITERAL("a")), rules_at(set, 2));
	ck_assert_ptr_eq(rules_newest(set, SLICE_LITERAL("ab")), rules_at(set, 3));
	ck_assert_ptr_eq(rules_newest(set, SLICE_LITERAL("b")), rules_at(set, 4));
	ck_assert_ptr_null(rules_newest(set, SLICE_LITERAL("A")));
	ck_assert_ptr_null(rules_newest(set, SLICE_LITERAL("aa")));
	ck_assert_ptr_null(rules_newest(set, SLICE_LITERAL("c")));
	rules_unref(set);
}
END_TEST

START_TEST(test_rules__last_partner_entry_counts)
{
	static const struct partner_settings rows[] = {
		{SLICE_LITERAL("p2"), KIND_POINTS, 5, 6},
		{SLICE_LITERAL("p1"), 0, 1, 2},
		{SLICE_LITERAL("p2"), KIND_ORDER_CREDIT, 7, 8},
		{SLICE_LITERAL("p2"), KINDS_ALL, -1, 9},
	};
	struct rules *set = rules_new(1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		rules_add_partner(set, &rows[i]);
	rules_seal(set);
	ck_assert_uint_eq(rules_partner_count(set), 2);
	ck_assert(slice_equal(rules_partner_at(set, 0)->partner_id, SLICE_LITERAL("p1")));
	const struct partner_settings *p = rules_partner(set, SLICE_LITERAL("p2"));
	ck_assert_int_eq(p->kinds, KINDS_ALL);
	ck_assert_int_eq(p->per_second, -1);
	ck_assert_int_eq(p->burst, 9);
	ck_assert_int_eq(rules_partner(set, SLICE_LITERAL("p1"))->kinds, 0);
	rules_unref(set);
}
END_TEST

START_TEST(test_rules__unknown_partner_gets_defaults)
{
	struct rules *set = rules_new(1);
	rules_seal(set);
	const struct partner_settings *p = rules_partner(set, SLICE_LITERAL("p1"));
	ck_assert(!slice_present(p->partner_id));
	ck_assert_int_eq(p->kinds, KINDS_ALL);
	ck_assert_int_eq(p->per_second, -1);
	ck_assert_int_eq(p->burst, -1);
	rules_unref(set);
}
END_TEST

START_TEST(test_rules__set_owns_its_strings_until_last_reference)
{
	char id[] = "abc", partner[] = "p1";
	struct rule r = rule_of(&terms_row);
	r.id = slice_of(id);
	r.partner_id = slice_of(partner);
	struct rules *set = rules_new(1);
	rules_add(set, &r);
	rules_add_partner(set, &(struct partner_settings){.partner_id = slice_of(partner)});
	id[0] = partner[0] = 'x';
	rules_seal(set);
	struct rules *second = rules_ref(set);
	rules_unref(set);
	ck_assert(slice_equal(rules_at(second, 0)->id, SLICE_LITERAL("abc")));
	ck_assert(slice_equal(rules_at(second, 0)->partner_id, SLICE_LITERAL("p1")));
	ck_assert(slice_equal(rules_partner_at(second, 0)->partner_id, SLICE_LITERAL("p1")));
	rules_unref(second);
	rules_unref(NULL);
}
END_TEST

/* Every partner with a rule and settings of its own, enough to go through growth and both look-ups. */
START_TEST(test_rules__many_partners_find_their_own)
{
	enum { PARTNERS = 3000 };
	struct rules *set = rules_new(1);
	for (int i = 0; i < PARTNERS; i++) {
		int shuffled = i * 7919 % PARTNERS;
		char id[16], partner[16];
		snprintf(id, sizeof(id), "r%d", shuffled);
		snprintf(partner, sizeof(partner), "p%d", shuffled);
		struct rule r = rule_of(&(struct row){id, 1, partner, "", NONE, EVER});
		rules_add(set, &r);
		rules_add_partner(set, &(struct partner_settings){
			.partner_id = slice_of(partner), .kinds = KINDS_ALL, .per_second = shuffled, .burst = 1});
	}
	rules_seal(set);
	for (int i = 0; i < PARTNERS; i++) {
		char id[16], partner[16];
		snprintf(id, sizeof(id), "r%d", i);
		snprintf(partner, sizeof(partner), "p%d", i);
		const struct rule *found = rules_in_force(set, slice_of(partner), "BRL", 0);
		ck_assert(found && slice_equal(found->id, slice_of(id)));
		ck_assert_int_eq(rules_partner(set, slice_of(partner))->per_second, i);
	}
	ck_assert_ptr_null(rules_in_force(set, SLICE_LITERAL("q"), "BRL", 0));
	rules_unref(set);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("rules");
	TCase *tc = tcase_create("rules");
	tcase_add_loop_test(tc, test_rules__one_is_in_force, 0, ROWS(force_rows));
	tcase_add_test(tc, test_rules__same_terms_compares_all_but_version);
	tcase_add_test(tc, test_rules__every_version_can_be_found);
	tcase_add_test(tc, test_rules__last_partner_entry_counts);
	tcase_add_test(tc, test_rules__unknown_partner_gets_defaults);
	tcase_add_test(tc, test_rules__set_owns_its_strings_until_last_reference);
	tcase_add_test(tc, test_rules__many_partners_find_their_own);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
