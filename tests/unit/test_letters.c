/* worker/audit/letters.c: which refused records lack a dead letter, or have one that says something else. */
#include "worker/audit/letters.h"

#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const topics[2] = {"events", "events.deferred"};

static const struct place place = {7, 1, false};

static void nothing(struct letters *l)
{
	(void)l;
}

static void refused(struct letters *l)
{
	letters_want(l, place, ERROR_BAD_FORMAT);
}

static void in_conflict(struct letters *l)
{
	letters_want(l, place, ERROR_ORDER_CONFLICT);
}

/* The original and its copy. */
static void in_conflict_twice(struct letters *l)
{
	in_conflict(l);
	in_conflict(l);
}

static void says(struct letters *l, enum error_code code)
{
	/* Neighbours in every direction, which are not meant. */
	letters_note(l, (struct place){7, 1, true}, ERROR_BAD_FORMAT);
	letters_note(l, (struct place){7, 0, false}, ERROR_ORDER_CONFLICT);
	letters_note(l, place, code);
	letters_note(l, (struct place){6, 1, false}, ERROR_BAD_FORMAT);
	letters_note(l, (struct place){8, 1, false}, ERROR_ORDER_CONFLICT);
}

static void says_the_same(struct letters *l)
{
	says(l, ERROR_BAD_FORMAT);
}

static void says_another_fault(struct letters *l)
{
	says(l, ERROR_MISSING_FIELD);
}

static void says_conflict(struct letters *l)
{
	says(l, ERROR_ORDER_CONFLICT);
}

static void says_rejected(struct letters *l)
{
	says(l, ERROR_DATABASE_REJECTED);
}

static void says_both(struct letters *l)
{
	says_conflict(l);
	says_the_same(l);
}

static void says_nothing_known(struct letters *l)
{
	says(l, ERROR_NONE);
}

static void says_it_of_neighbours(struct letters *l)
{
	says_conflict(l);
	letters_want(l, (struct place){9, 1, false}, ERROR_ORDER_CONFLICT);
}

static void waits(struct letters *l)
{
	letters_wait(l, (struct place){6, 1, false});
	letters_wait(l, place);
}

static void incomplete(struct letters *l)
{
	letters_incomplete(l);
}

static void incomplete_and_another(struct letters *l)
{
	letters_incomplete(l);
	says_conflict(l);
}

static const struct {
	const char *name;
	void (*want)(struct letters *l);
	void (*have)(struct letters *l);
	const char *text;
} scenes[] = {
	{"nothing", nothing, nothing, "ok     refused records have their dead letters (0 records)\n"},
	{"a letter that nobody wants", nothing, says_conflict, "(0 records)\n"},
	{"the same", refused, says_the_same, "ok     refused records have their dead letters (1 records)\n"},
	{"another fault", refused, says_another_fault, "(1 records)\n"},
	{"conflict", in_conflict, says_conflict, "(1 records)\n"},
	{"conflict, twice", in_conflict_twice, says_conflict, "(1 records)\n"},
	{"both", in_conflict, says_both, "(1 records)\n"},
	{"both, the other way", refused, says_both, "(1 records)\n"},
	{"waits", in_conflict, waits, "(1 records)\n"},
	{"none", refused, nothing, "WRONG  refused records have their dead letters: 1 of 1 records\n"
	                           "       events[1]@7: bad_format, and no dead letter says so\n"},
	{"none of a conflict, twice", in_conflict_twice, nothing, "1 of 1 records\n"
	                           "       events[1]@7: order_conflict, and no dead letter says so\n"},
	{"refused as conflict", refused, says_conflict, "events[1]@7: the dead letter says order_conflict, not bad_format\n"},
	{"refused as rejected", refused, says_rejected, "events[1]@7: the dead letter says database_rejected, not bad_format\n"},
	{"conflict as a fault", in_conflict, says_another_fault,
	 "events[1]@7: the dead letter says missing_field, not order_conflict\n"},
	{"no code", in_conflict, says_nothing_known, "events[1]@7: order_conflict, and no dead letter says so\n"},
	{"neighbours", nothing, says_it_of_neighbours, "events[1]@9: order_conflict, and no dead letter says so\n"},
	{"may have been removed", refused, incomplete, "(1 records)\napart  dead letters that may have been removed from their"
	                                              " topic: 1\n"},
	{"not removed, but another", refused, incomplete_and_another, "the dead letter says order_conflict, not bad_format\n"},
};

START_TEST(test_letters__tells_which_are_missing_or_wrong)
{
	struct letters *l = letters_new();
	struct audit_report *report = audit_report_new();
	struct buf text = BUF_INIT;
	scenes[_i].want(l);
	scenes[_i].have(l);
	letters_compare(l, topics, report);
	audit_report_text(report, &text);
	ck_assert_msg(strstr(text.data, scenes[_i].text) != NULL, "%s: %s", scenes[_i].name, text.data);
	ck_assert_msg(audit_report_clean(report) == !strstr(text.data, "WRONG"), "%s: %s", scenes[_i].name, text.data);
	buf_release(&text);
	audit_report_free(report);
	letters_free(l);
}
END_TEST

START_TEST(test_letters__of_many_each_is_found)
{
	enum { COUNT = 5000 };
	struct letters *l = letters_new();
	struct audit_report *report = audit_report_new();
	struct buf text = BUF_INIT;
	for (int i = 0; i < COUNT; i++) {
		struct place p = {i * 7919 % COUNT, i % 3, i % 2 == 0};
		if (i != 1234)
			letters_note(l, p, ERROR_NOT_JSON);
		letters_want(l, p, ERROR_TOO_DEEP);
	}
	ck_assert(letters_say(l, (struct place){7919 % COUNT, 1, false}, ERROR_NOT_JSON));
	ck_assert(!letters_say(l, (struct place){7919 % COUNT, 1, false}, ERROR_DATABASE_REJECTED));
	ck_assert(!letters_say(l, (struct place){COUNT, 1, false}, ERROR_NOT_JSON));
	letters_compare(l, topics, report);
	audit_report_text(report, &text);
	ck_assert_msg(strstr(text.data, "1 of 5000 records\n") != NULL, "%s", text.data);
	buf_release(&text);
	audit_report_free(report);
	letters_free(l);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("letters");
	TCase *tc = tcase_create("letters");
	tcase_add_loop_test(tc, test_letters__tells_which_are_missing_or_wrong, 0,
	                    (int)(sizeof(scenes) / sizeof(scenes[0])));
	tcase_add_test(tc, test_letters__of_many_each_is_found);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
