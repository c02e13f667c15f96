#include "worker/pipeline/silence.h"

#include <check.h>

enum { SECOND = 1000 }; /* in ms, as the options are */

static const struct {
	int64_t statement_ms, connect_ms, redis_ms;
	int64_t worker_s, keeper_s;
} rows[] = {
	{30 * SECOND, 5 * SECOND, 250, 100, 100},              /* the defaults: eight addresses */
	{20 * 60 * SECOND, 5 * SECOND, 250, 1260, 1260},       /* a legal statement of 20 minutes */
	{3600 * SECOND, 5 * SECOND, 250, 3660, 3660},
	{100, SECOND, 250, 68, 68},
	{30 * SECOND, 600 * SECOND, 250, 4860, 4860},
	{30 * SECOND, SECOND, 60 * SECOND, 300, 90},           /* the keeper asks no Redis */
};

START_TEST(test_silence__is_longer_than_any_legal_wait)
{
	const struct options o = {
		.pg_statement_timeout_ms = rows[_i].statement_ms,
		.pg_connect_timeout_ms = rows[_i].connect_ms,
		.redis_timeout_ms = rows[_i].redis_ms,
	};
	struct silences s = silences_by(&o);
	ck_assert_int_eq(s.worker_us / 1000000, rows[_i].worker_s);
	ck_assert_int_eq(s.keeper_us / 1000000, rows[_i].keeper_s);
	ck_assert_int_eq(s.consumer_us / 1000000, 60);
	ck_assert_int_eq(s.outbox_us / 1000000, 60);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("silence");
	TCase *tc = tcase_create("silence");
	tcase_add_loop_test(tc, test_silence__is_longer_than_any_legal_wait, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
