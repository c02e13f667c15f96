#include "worker/ledger/rules.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* 2026-01-01T00:00:00Z and a year later. */
#define Y2026 INT64_C(1767225600000000)
#define Y2027 INT64_C(1798761600000000)

#define RULE(members) "{\"rules\": [{\"id\": \"a\", \"kind\": \"per_order\", \"points\": 1}, {" members "}]}"
#define AMOUNT_RULE "\"id\": \"b\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 100"
#define ORDER_RULE "\"id\": \"b\", \"kind\": \"per_order\", \"points\": 1"
#define PARTNER(members) "{\"partners\": [{" members "}]}"

static struct rules *parse(const char *text, char error[256])
{
	error[0] = '\0';
	return rules_parse_file(slice_of(text), error, 256);
}

static const struct {
	const char *text;
	const char *error; /* whole, or its beginning when it ends in '*' */
} bad_rows[] = {
	/* The file. */
	{"", "line 1, column 0: *"},
	{"{", "line 1, column 1: *"},
	{"[]", "is not a JSON object"},
	{"{} {}", "line 1, column 4: end of file expected *"},
	{"{\"rules\": [], \"rules\": []}", "line 1, column *"},
	{"{\"rules\": [{\"id\": \"a\", \"id\": \"b\"}]}", "line 1, column *"},
	{"{\"rule\": []}", "unknown member \"rule\""},
	{"{\"\\u00e9\\n\": []}", "unknown member \"???\""},
	{"{\"rules\": {}}", "rules: is not an array"},
	{"{\"partners\": null}", "partners: is not an array"},
	/* A rule. */
	{"{\"rules\": [7]}", "rules[0]: is not an object"},
	{RULE(ORDER_RULE ", \"version\": 1"), "rules[1]: unknown member \"version\""},
	{RULE(ORDER_RULE ", \"POINTS\": 1"), "rules[1]: unknown member \"POINTS\""},
	{RULE("\"kind\": \"per_order\", \"points\": 1"), "rules[1].id: is missing"},
	{RULE("\"id\": \"b\", \"points\": 1"), "rules[1].kind: is missing"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\""), "rules[1].points: is missing"},
	{RULE("\"id\": \"b\", \"kind\": \"per_amount\", \"points\": 1"), "rules[1].per_minor: is missing"},
	{RULE(ORDER_RULE ", \"per_minor\": 1"), "rules[1].per_minor: goes with kind per_amount only"},
	{RULE("\"id\": \"b\", \"kind\": \"perorder\", \"points\": 1"),
	 "rules[1].kind: \"perorder\" is not per_amount or per_order"},
	{RULE("\"id\": \"b\", \"kind\": 1, \"points\": 1"), "rules[1].kind: is not a string"},
	{RULE("\"id\": \"a\", \"kind\": \"per_order\", \"points\": 2"),
	 "rules[1].id: \"a\" is already that of rules[0]"},
	{RULE("\"id\": \"\", \"kind\": \"per_order\", \"points\": 2"), "rules[1].id: has 0 bytes, not 1 to 64"},
	{RULE("\"id\": \"0123456789012345678901234567890123456789012345678901234567890123x\", \"kind\": \"per_order\","
	      " \"points\": 2"), "rules[1].id: has 65 bytes, not 1 to 64"},
	{RULE("\"id\": \"a b\", \"kind\": \"per_order\", \"points\": 2"),
	 "rules[1].id: \"a b\" has a character other than A-Z a-z 0-9 . _ : -"},
	{RULE("\"id\": \"a\\u00e9\", \"kind\": \"per_order\", \"points\": 2"),
	 "rules[1].id: \"a??\" has a character *"},
	{RULE("\"id\": null, \"kind\": \"per_order\", \"points\": 2"), "rules[1].id: is not a string"},
	{RULE("\"id\": \"a\\u0000\", \"kind\": \"per_order\", \"points\": 2"), "line 1, column *"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": -1"), "rules[1].points: -1 is below 0"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": 1000001"),
	 "rules[1].points: 1000001 is above 1000000"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": 1.0"), "rules[1].points: is not an integer"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": \"1\""), "rules[1].points: is not an integer"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": true"), "rules[1].points: is not an integer"},
	{RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": 9223372036854775808"), "line 1, column *"},
	{RULE("\"id\": \"b\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 0"),
	 "rules[1].per_minor: 0 is below 1"},
	{RULE("\"id\": \"b\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 1000000001"),
	 "rules[1].per_minor: 1000000001 is above 1000000000"},
	{RULE(AMOUNT_RULE ", \"multiplier_bp\": -1"), "rules[1].multiplier_bp: -1 is below 0"},
	{RULE(AMOUNT_RULE ", \"multiplier_bp\": 1000001"), "rules[1].multiplier_bp: 1000001 is above 1000000"},
	{RULE(AMOUNT_RULE ", \"multiplier_bp\": null"), "rules[1].multiplier_bp: is not an integer"},
	{RULE(AMOUNT_RULE ", \"min_order_minor\": -1"), "rules[1].min_order_minor: -1 is below 0"},
	{RULE(AMOUNT_RULE ", \"min_order_minor\": 9007199254740992"),
	 "rules[1].min_order_minor: 9007199254740992 is above 9007199254740991"},
	{RULE(AMOUNT_RULE ", \"max_points_per_order\": -1"), "rules[1].max_points_per_order: -1 is below 0"},
	{RULE(AMOUNT_RULE ", \"max_points_per_order\": 9007199254740992"),
	 "rules[1].max_points_per_order: 9007199254740992 is above 9007199254740991"},
	{RULE(AMOUNT_RULE ", \"partner_id\": \"p/7\""), "rules[1].partner_id: \"p/7\" has a character *"},
	{RULE(AMOUNT_RULE ", \"currency\": \"brl\""), "rules[1].currency: \"brl\" is not three letters *"},
	{RULE(AMOUNT_RULE ", \"currency\": \"BRLX\""), "rules[1].currency: \"BRLX\" is not three letters *"},
	{RULE(AMOUNT_RULE ", \"currency\": \"\""), "rules[1].currency: \"\" is not three letters *"},
	{RULE(AMOUNT_RULE ", \"currency\": \"PTS\""), "rules[1].currency: \"PTS\" is not three letters *"},
	{RULE(AMOUNT_RULE ", \"currency\": null"), "rules[1].currency: is not a string"},
	{RULE(AMOUNT_RULE ", \"valid_from\": \"2026-01-01\""), "rules[1].valid_from: \"2026-01-01\" is not a time *"},
	{RULE(AMOUNT_RULE ", \"valid_to\": 1767225600"), "rules[1].valid_to: is not a string"},
	{RULE(AMOUNT_RULE ", \"valid_from\": \"2026-01-01T00:00:00Z\", \"valid_to\": \"2026-01-01T00:00:00Z\""),
	 "rules[1].valid_to: is not after valid_from"},
	{RULE(AMOUNT_RULE ", \"valid_from\": \"2026-01-01T00:00:00Z\", \"valid_to\": \"2026-01-01T01:00:00+02:00\""),
	 "rules[1].valid_to: is not after valid_from"},
	/* A partner. */
	{"{\"partners\": [[]]}", "partners[0]: is not an object"},
	{PARTNER("\"kinds\": []"), "partners[0].partner_id: is missing"},
	{PARTNER("\"partner_id\": \"p\", \"id\": 1"), "partners[0]: unknown member \"id\""},
	{PARTNER("\"partner_id\": \"p!\""), "partners[0].partner_id: \"p!\" has a character *"},
	{PARTNER("\"partner_id\": \"p\", \"kinds\": \"points\""), "partners[0].kinds: is not an array"},
	{PARTNER("\"partner_id\": \"p\", \"kinds\": [\"points\", 1]"), "partners[0].kinds: element 1 is not a string"},
	{PARTNER("\"partner_id\": \"p\", \"kinds\": [\"credit\"]"),
	 "partners[0].kinds: \"credit\" is not points or order_credit"},
	{PARTNER("\"partner_id\": \"p\", \"kinds\": [\"points\", \"points\"]"),
	 "partners[0].kinds: \"points\" is there twice"},
	{PARTNER("\"partner_id\": \"p\", \"per_second\": -1"), "partners[0].per_second: -1 is below 0"},
	{PARTNER("\"partner_id\": \"p\", \"per_second\": 1000001"), "partners[0].per_second: 1000001 is above 1000000"},
	{PARTNER("\"partner_id\": \"p\", \"burst\": 0"), "partners[0].burst: 0 is below 1"},
	{PARTNER("\"partner_id\": \"p\", \"burst\": 1000001"), "partners[0].burst: 1000001 is above 1000000"},
	{PARTNER("\"partner_id\": \"p\"}, {\"partner_id\": \"q\"}, {\"partner_id\": \"p\""),
	 "partners[2].partner_id: \"p\" is already that of partners[0]"},
};

START_TEST(test_rules_file__refusals_name_the_member)
{
	char error[256];
	struct rules *rules = parse(bad_rows[_i].text, error);
	ck_assert_msg(!rules, "accepted: %s", bad_rows[_i].text);
	size_t len = strlen(bad_rows[_i].error);
	bool open = bad_rows[_i].error[len - 1] == '*';
	bool same = open ? strncmp(error, bad_rows[_i].error, len - 1) == 0 : strcmp(error, bad_rows[_i].error) == 0;
	ck_assert_msg(same, "%s\n said: %s\n not:  %s", bad_rows[_i].text, error, bad_rows[_i].error);
	for (const char *c = error; *c; c++)
		ck_assert_msg(*c >= ' ' && *c <= '~', "not one line of ASCII: %s", error);
}
END_TEST

/* Bounds that are still in. */
static const char *const good_rows[] = {
	"{}",
	"{\"rules\": [], \"partners\": []}",
	RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": 0"),
	RULE("\"id\": \"b\", \"kind\": \"per_order\", \"points\": 1000000"),
	RULE("\"id\": \"b\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 1"),
	RULE("\"id\": \"b\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 1000000000"),
	RULE(ORDER_RULE ", \"multiplier_bp\": 0"),
	RULE(ORDER_RULE ", \"multiplier_bp\": 1000000"),
	RULE(ORDER_RULE ", \"min_order_minor\": 9007199254740991"),
	RULE(ORDER_RULE ", \"max_points_per_order\": 0"),
	RULE(ORDER_RULE ", \"max_points_per_order\": 9007199254740991"),
	RULE("\"id\": \"0123456789ABCDEFabcdef._:-6789012345678901234567890123456789abcd\", \"kind\": \"per_order\","
	     " \"points\": 1"),
	PARTNER("\"partner_id\": \"p\", \"per_second\": 0, \"burst\": 1"),
	PARTNER("\"partner_id\": \"p\", \"per_second\": 1000000, \"burst\": 1000000"),
};

START_TEST(test_rules_file__bounds_are_inclusive)
{
	char error[256];
	struct rules *rules = parse(good_rows[_i], error);
	ck_assert_msg(rules, "%s: %s", good_rows[_i], error);
	rules_unref(rules);
}
END_TEST

/* The contract's example. */
static const char example[] =
	"{\"rules\": [{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 100},"
	" {\"id\": \"launch\", \"kind\": \"per_order\", \"points\": 50, \"partner_id\": \"p7\", \"currency\": \"BRL\","
	" \"multiplier_bp\": 10000, \"min_order_minor\": 1000, \"max_points_per_order\": 500,"
	" \"valid_from\": \"2026-01-01T00:00:00Z\", \"valid_to\": \"2027-01-01T00:00:00Z\"}],"
	" \"partners\": [{\"partner_id\": \"p7\", \"kinds\": [\"points\", \"order_credit\"], \"per_second\": 50,"
	" \"burst\": 200}, {\"partner_id\": \"p8\"}, {\"partner_id\": \"p9\", \"kinds\": []}]}";

START_TEST(test_rules_file__reads_every_member)
{
	char error[256];
	struct rules *rules = parse(example, error);
	ck_assert_msg(rules, "%s", error);
	ck_assert_uint_eq(rules_count(rules), 2);
	const struct rule base = {
		.id = SLICE_LITERAL("base"),
		.kind = RULE_PER_AMOUNT,
		.points = 1,
		.per_minor = 100,
		.multiplier_bp = 10000,
		.max_points_per_order = -1,
		.valid_from_us = TIME_NONE,
		.valid_to_us = INT64_MAX,
	};
	const struct rule launch = {
		.id = SLICE_LITERAL("launch"), .kind = RULE_PER_ORDER, .points = 50, .per_minor = 1,
		.multiplier_bp = 10000, .min_order_minor = 1000, .max_points_per_order = 500,
		.partner_id = SLICE_LITERAL("p7"), .currency = "BRL", .valid_from_us = Y2026, .valid_to_us = Y2027,
	};
	ck_assert(rule_same_terms(rules_at(rules, 0), &base));
	ck_assert(rule_same_terms(rules_at(rules, 1), &launch));
	ck_assert_int_eq(rules_at(rules, 0)->version, 0);

	static const struct partner_settings expected[] = {
		{SLICE_LITERAL("p7"), KINDS_ALL, 50, 200},
		{SLICE_LITERAL("p8"), KINDS_ALL, -1, -1},
		{SLICE_LITERAL("p9"), 0, -1, -1},
	};
	ck_assert_uint_eq(rules_partner_count(rules), 3);
	for (size_t i = 0; i < 3; i++) {
		const struct partner_settings *p = rules_partner_at(rules, i);
		ck_assert(slice_equal(p->partner_id, expected[i].partner_id));
		ck_assert_int_eq(p->kinds, expected[i].kinds);
		ck_assert_int_eq(p->per_second, expected[i].per_second);
		ck_assert_int_eq(p->burst, expected[i].burst);
	}
	rules_unref(rules);
}
END_TEST

static const struct {
	const char *list;
	uint8_t kinds;
} kinds_rows[] = {
	{"[]", 0},
	{"[\"points\"]", KIND_POINTS},
	{"[\"order_credit\"]", KIND_ORDER_CREDIT},
	{"[\"order_credit\", \"points\"]", KINDS_ALL},
};

START_TEST(test_rules_file__kinds_table)
{
	char text[128], error[256];
	snprintf(text, sizeof(text), "{\"partners\": [{\"partner_id\": \"p\", \"kinds\": %s}]}", kinds_rows[_i].list);
	struct rules *rules = parse(text, error);
	ck_assert_msg(rules, "%s", error);
	ck_assert_int_eq(rules_partner_at(rules, 0)->kinds, kinds_rows[_i].kinds);
	rules_unref(rules);
}
END_TEST

START_TEST(test_rules_file__takes_one_mebibyte_and_no_more)
{
	char error[256];
	char *text = malloc(RULES_FILE_BYTES_MAX + 1);
	ck_assert_ptr_nonnull(text);
	memset(text, ' ', RULES_FILE_BYTES_MAX + 1);
	text[0] = '{';
	text[1] = '}';
	struct rules *rules = rules_parse_file((struct slice){text, RULES_FILE_BYTES_MAX}, error, sizeof(error));
	ck_assert_ptr_nonnull(rules);
	rules_unref(rules);
	ck_assert_ptr_null(rules_parse_file((struct slice){text, RULES_FILE_BYTES_MAX + 1}, error, sizeof(error)));
	ck_assert_str_eq(error, "1048577 bytes are above 1048576");
	free(text);
}
END_TEST

START_TEST(test_rules_file__error_fits_any_buffer)
{
	char error[16];
	memset(error, 'x', sizeof(error));
	ck_assert_ptr_null(rules_parse_file(SLICE_LITERAL("{\"rules\": [7]}"), error, 8));
	ck_assert_str_eq(error, "rules[0");
	ck_assert_int_eq(error[8], 'x');
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("rules_file");
	TCase *tc = tcase_create("rules_file");
	tcase_add_loop_test(tc, test_rules_file__refusals_name_the_member, 0, ROWS(bad_rows));
	tcase_add_loop_test(tc, test_rules_file__bounds_are_inclusive, 0, ROWS(good_rows));
	tcase_add_test(tc, test_rules_file__reads_every_member);
	tcase_add_loop_test(tc, test_rules_file__kinds_table, 0, ROWS(kinds_rows));
	tcase_add_test(tc, test_rules_file__takes_one_mebibyte_and_no_more);
	tcase_add_test(tc, test_rules_file__error_fits_any_buffer);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
