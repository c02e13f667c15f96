#include "worker/kafka/kafka_internal.h"

#include <check.h>

#define RECEIVED(size) \
	"127.0.0.1:8080/bootstrap: Receive failed: Invalid response size " size " (0..100000000): increase " \
	"receive.message.max.bytes"
#define THERE "127.0.0.1:8080/bootstrap: "

static const struct {
	const char *said, *reason;
} rows[] = {
	{RECEIVED("1213486160"), THERE "an HTTP server answers there, not Kafka"},
	{RECEIVED("1397966893"), THERE "an SSH server answers there, not Kafka"},
	{RECEIVED("759517778"), THERE "Redis answers there, not Kafka"},
	{RECEIVED("1157627904"), THERE "PostgreSQL answers there, not Kafka"},
	{RECEIVED("352518912"), THERE "a port for TLS (kafka.security.protocol = ssl) answers there, not Kafka"},
	{RECEIVED("352518914"), THERE "a port for TLS (kafka.security.protocol = ssl) answers there, not Kafka"},
	{RECEIVED("1094861636"), THERE "something else than Kafka answers there; it begins with \"ABCD\""},
	{RECEIVED("-16777215"), THERE "something else than Kafka answers there; it begins with \"????\""},
	/* Kafka's own. */
	{RECEIVED("150000000"), RECEIVED("150000000")},
	{"x: Connect to ipv4#127.0.0.1:1 failed: Connection refused", "x: Connect to ipv4#127.0.0.1:1 failed: Connection refused"},
	{"Invalid response size 1213486160", "an HTTP server answers there, not Kafka"},
	{"", ""},
};

START_TEST(test_kafka_reason__names_what_answers)
{
	char reason[256];
	kafka_reason(rows[_i].said, reason, sizeof(reason));
	ck_assert_str_eq(reason, rows[_i].reason);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kafka_reason");
	TCase *tc = tcase_create("kafka_reason");
	tcase_add_loop_test(tc, test_kafka_reason__names_what_answers, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
