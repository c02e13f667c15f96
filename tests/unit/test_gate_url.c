#include "worker/gate/gate.h"

#include "worker/gate/redis.h"

#include <check.h>

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const struct good {
	const char *url;
	struct redis_target target;
	const char *name;
} good_rows[] = {
	{"redis://localhost", {.host = "localhost", .port = 6379}, "localhost:6379/0"},
	{"redis://localhost/", {.host = "localhost", .port = 6379}, "localhost:6379/0"},
	{"redis://10.0.0.7:1/15", {.host = "10.0.0.7", .port = 1, .db = 15}, "10.0.0.7:1/15"},
	{"redis://[::1]", {.host = "::1", .port = 6379}, "[::1]:6379/0"},
	{"redis://[fe80::1%eth0]:65535/999999", {.host = "fe80::1%eth0", .port = 65535, .db = 999999},
	 "[fe80::1%eth0]:65535/999999"},
	{"redis://:secret@h", {.host = "h", .port = 6379, .authenticate = true, .password = "secret"}, "h:6379/0"},
	{"redis://ana:secret@h:7/2",
	 {.host = "h", .port = 7, .db = 2, .authenticate = true, .user = "ana", .password = "secret"}, "h:7/2"},
	{"redis://ana:@h", {.host = "h", .port = 6379, .authenticate = true, .user = "ana"}, "h:6379/0"},
	{"redis://:@h", {.host = "h", .port = 6379}, "h:6379/0"},
	{"redis://a%3Ab:p%40%2f%25@h",
	 {.host = "h", .port = 6379, .authenticate = true, .user = "a:b", .password = "p@/%"}, "h:6379/0"},
	{"redis://:a:b@c@h", {.host = "h", .port = 6379, .authenticate = true, .password = "a:b@c"}, "h:6379/0"},
	{"rediss://h:6380", {.host = "h", .port = 6380, .tls = true}, "h:6380/0"},
	{"unix:///run/redis.sock", {.host = "/run/redis.sock"}, "/run/redis.sock"},
	{"unix://ana:pw@/s", {.host = "/s", .authenticate = true, .user = "ana", .password = "pw"}, "/s"},
};

START_TEST(test_gate_url__is_taken_apart)
{
	const struct good *row = &good_rows[_i];
	struct redis_target t;
	char error[256] = "", name[300];
	ck_assert_msg(redis_target_parse(row->url, &t, error, sizeof(error)) == 0, "%s: %s", row->url, error);
	ck_assert_str_eq(t.host, row->target.host);
	ck_assert_int_eq(t.port, row->target.port);
	ck_assert_int_eq(t.db, row->target.db);
	ck_assert_int_eq(t.tls, row->target.tls);
	ck_assert_int_eq(t.authenticate, row->target.authenticate);
	ck_assert_str_eq(t.user, row->target.user);
	ck_assert_str_eq(t.password, row->target.password);
	redis_target_name(&t, name, sizeof(name));
	ck_assert_str_eq(name, row->name);
}
END_TEST

/* Each with the password "hunter2" somewhere, which no error may repeat. */
static const char *const bad_rows[] = {
	"hunter2",
	"http://:hunter2@h",
	"Redis://:hunter2@h",
	"redis:/:hunter2@h",
	"redis://",
	"redis://:6379",
	"redis://:hunter2@",
	"redis://:hunter2@:6379",
	"redis://hunter2@h",
	"redis://:hunter2/x@h",
	"redis://ana:hunter2/@h",
	"redis://:hunter2%@h",
	"redis://:hunter2%4@h",
	"redis://:hunter2%zz@h",
	"redis://:hunter2%00@h",
	"redis://:hunter2@h:",
	"redis://:hunter2@h:0",
	"redis://:hunter2@h:65536",
	"redis://:hunter2@h:6379x",
	"redis://:hunter2@h:-1",
	"redis://:hunter2@h:hunter2",
	"redis://:hunter2@h/x",
	"redis://:hunter2@h/-1",
	"redis://:hunter2@h/1000000",
	"redis://:hunter2@h/1/2",
	"redis://:hunter2@h/1?db=2",
	"redis://:hunter2@h#1",
	"redis://:hunter2@a b",
	"redis://:hunter2@[::1",
	"redis://:hunter2@[::1]6379",
	"redis://:hunter2@[]",
	"unix://hunter2",
	"unix://",
	"unix:///",
	"unix://h/s",
	"unix://hunter2@/s",
};

START_TEST(test_gate_url__refuses_without_telling_the_password)
{
	struct redis_target t;
	char error[256] = "";
	ck_assert_msg(redis_target_parse(bad_rows[_i], &t, error, sizeof(error)) == -1, "%s", bad_rows[_i]);
	ck_assert_msg(strncmp(error, "redis.url: ", 11) == 0, "%s: %s", bad_rows[_i], error);
	ck_assert_msg(strstr(error, "hunter") == NULL, "%s: %s", bad_rows[_i], error);
	ck_assert_msg(strchr(error, '\n') == NULL, "%s", error);
}
END_TEST

START_TEST(test_gate_url__bounds_each_part)
{
	static const struct {
		const char *before, *after;
		size_t fits;
	} parts[] = {
		{"redis://", "", 255}, {"redis://", ":p@h", 127}, {"redis://:", "@h", 1023}, {"unix:///", "", 106},
	};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		for (size_t extra = 0; extra < 2; extra++) {
			char url[1200], fill[1100], error[256];
			struct redis_target t;
			size_t len = parts[i].fits + extra;
			memset(fill, 'x', len);
			fill[len] = '\0';
			snprintf(url, sizeof(url), "%s%s%s", parts[i].before, fill, parts[i].after);
			ck_assert_msg(redis_target_parse(url, &t, error, sizeof(error)) == (extra ? -1 : 0),
			              "%zu characters in part %zu", len, i);
		}
	}
}
END_TEST

/* "" in `says`: fine, or TLS that is not in this build. */
static const struct {
	const char *url;
	struct gate_settings settings;
	const char *says;
} check_rows[] = {
	{"", {0}, ""},
	{"redis://h", {0}, ""},
	{"h:6379", {0}, "expected redis://"},
	{"rediss://h", {0}, ""},
	{"rediss://:hunter2@h", {.tls = {"/ca", "/cert", "/key"}}, ""},
	{"rediss://h", {.tls = {.cert = "/cert"}}, "redis.tls.cert and redis.tls.key go together"},
	{"rediss://h", {.tls = {.cert = "", .key = "/key"}}, "redis.tls.cert and redis.tls.key go together"},
	{"redis://localhost", {.tls = {.ca = "/ca"}}, "redis.tls.* is for rediss://"},
	{"redis://localhost", {.tls = {.cert = "/cert", .key = "/key"}}, "redis.tls.* is for rediss://"},
	{"redis://:hunter2@h", {0}, "redis.plain_password"},
	{"redis://ana:hunter2@10.0.0.1", {0}, "redis.plain_password"},
	{"redis://:hunter2@localhost.example", {0}, "redis.plain_password"},
	{"redis://:hunter2@[fe80::1]", {0}, "redis.plain_password"},
	{"redis://:hunter2@0.0.0.0", {0}, "redis.plain_password"},
	{"redis://:hunter2@h", {.plain_password = true}, ""},
	{"redis://:hunter2@localhost", {0}, ""},
	{"redis://:hunter2@127.8.9.1:7", {0}, ""},
	{"redis://:hunter2@[::1]", {0}, ""},
	{"unix://:hunter2@/s", {0}, ""},
};

START_TEST(test_gate_url__tls_and_passwords_are_judged)
{
	char error[256] = "";
	const char *says = check_rows[_i].says;
	bool tls = strncmp(check_rows[_i].url, "rediss://", 9) == 0;
	if (tls && !says[0] && !redis_can_tls())
		says = "hiredis";
	int result = gate_check(&check_rows[_i].settings, check_rows[_i].url, error, sizeof(error));
	ck_assert_msg(result == (says[0] ? -1 : 0) && strstr(error, says), "%s: %s", check_rows[_i].url, error);
	ck_assert_ptr_null(strstr(error, "hunter2"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gate url");
	TCase *tc = tcase_create("url");
	tcase_add_loop_test(tc, test_gate_url__is_taken_apart, 0, ROWS(good_rows));
	tcase_add_loop_test(tc, test_gate_url__refuses_without_telling_the_password, 0, ROWS(bad_rows));
	tcase_add_test(tc, test_gate_url__bounds_each_part);
	tcase_add_loop_test(tc, test_gate_url__tls_and_passwords_are_judged, 0, ROWS(check_rows));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
