/* Alarms of ended histories, as a consumer meets them that looks now and then. */
#include "worker/pipeline/history_alarm.h"

#include <check.h>
#include <stdlib.h>

static struct history_alarm alarms;

static struct history_epoch epoch_of(char name)
{
	struct history_epoch e = {{(uint8_t)name}};
	return e;
}

/* What is raised before a consumer looks that has seen `seen` alarms; then which of the histories a to z it reads again. */
static const struct {
	const char *raised;
	uint64_t seen;
	const char *ends;
} rows[] = {
	{"", 0, ""},
	{"a", 0, "a"},
	{"a", 1, ""},
	{"ab", 0, "ab"}, /* in short order: both */
	{"ab", 1, "b"},
	{"ab", 2, ""},
	{"aba", 1, "ab"}, /* again: what has come back to it since is to be read again, too */
	{"aba", 2, "a"},
	{"aaaaaaaaaaaaaaaaaaaaa", 1, "a"},
	{"abcdefgh", 0, "abcdefgh"},
	{"abcdefgh", 7, "h"},
	/* More than are kept: who has not seen those that were forgotten reads everything again. */
	{"abcdefghi", 1, "bcdefghi"},
	{"abcdefghi", 0, "abcdefghijklmnopqrstuvwxyz"},
	{"abcdefghai", 2, "acdefghi"}, /* b is the oldest then */
	{"abcdefghai", 1, "abcdefghijklmnopqrstuvwxyz"},
};

START_TEST(test_history_alarm__each_history_that_ended_is_read_again)
{
	mutex_init(&alarms.lock);
	for (const char *name = rows[_i].raised; *name; name++) {
		struct history_epoch e = epoch_of(*name);
		history_alarm_raise(&alarms, &e);
	}
	ck_assert_uint_eq(history_alarm_raised(&alarms), strlen(rows[_i].raised));
	char ends[27], *end = ends;
	for (char name = 'a'; name <= 'z'; name++) {
		struct history_epoch e = epoch_of(name);
		if (history_alarm_ends(&alarms, rows[_i].seen, &e))
			*end++ = name;
	}
	*end = '\0';
	ck_assert_msg(strcmp(ends, rows[_i].ends) == 0, "%s, %d seen: %s", rows[_i].raised, (int)rows[_i].seen, ends);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("history_alarm");
	TCase *c = tcase_create("alarms");
	tcase_add_loop_test(c, test_history_alarm__each_history_that_ended_is_read_again, 0,
			    (int)(sizeof(rows) / sizeof(rows[0])));
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed == 0 && ran > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
