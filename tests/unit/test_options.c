#include "worker/options.h"

#include "worker/config/option_row.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const char *const command_flags[] = {"json", "at=", NULL};
static struct options options;
static char error[1024];
static char *arguments[32];
static int argument_count;

/* Loads with lists of words, "" for none; words are separated by spaces, '~' stands for a space in one. */
static int load(const char *environment_words, const char *flag_words)
{
	static char words[2][1024];
	char *environment[16] = {NULL};
	char **lists[2] = {environment, arguments + 1};

	snprintf(words[0], sizeof(words[0]), "%s", environment_words);
	snprintf(words[1], sizeof(words[1]), "%s", flag_words);
	arguments[0] = (char *)"run";
	for (int list = 0; list < 2; list++) {
		char *rest = words[list], *word;
		size_t count = 0;
		while ((word = strsep(&rest, " ")) != NULL) {
			if (*word == '\0')
				continue;
			for (char *at = word; (at = strchr(at, '~')) != NULL;)
				*at = ' ';
			lists[list][count++] = word;
		}
		lists[list][count] = NULL;
		argument_count = list == 1 ? (int)count + 1 : 0;
	}
	error[0] = '\0';
	return options_load(&options, &argument_count, arguments, environment, command_flags, error, sizeof(error));
}

static const char *write_file(const char *content, size_t len)
{
	static char path[] = "/tmp/test_options.XXXXXX";
	memcpy(path + strlen(path) - 6, "XXXXXX", 6);
	int file = mkstemp(path);
	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(write(file, content, len), (ssize_t)len);
	close(file);
	return path;
}

START_TEST(test_options__defaults_are_within_their_bounds)
{
	ck_assert_int_eq(load("", ""), 0);
	ck_assert_str_eq(options.kafka_brokers, "localhost:9092");
	ck_assert_str_eq(options.kafka_deferred_topic, "delivery-events.deferred");
	ck_assert_str_eq(options.kafka_dlq_topic, "delivery-events.dlq");
	ck_assert_str_eq(options.pg_dsn, "");
	ck_assert_int_eq(options.inflight_max_bytes, 16 << 20);
	ck_assert_int_eq(options.dedup_ttl_s, 86400);
	ck_assert_int_eq(options.shutdown_timeout_s, 25);
	ck_assert_int_eq(options.log_level, 2);
	ck_assert_str_eq(options.kafka.brokers, "localhost:9092");
	ck_assert_str_eq(options.kafka.group, "delivery-worker");
	ck_assert_uint_eq(options.kafka.property_count, 0);
	options_release(&options);
}
END_TEST

/* As kubelet and Docker make them, for names that begin with ours. */
static const char *const link_rows[] = {
	"DW_SERVICE_HOST=10.96.0.7 DW_SERVICE_PORT=80 DW_SERVICE_PORT_HTTP=80 DW_PORT=tcp://10.96.0.7:80",
	"DW_PORT_80_TCP=tcp://10.96.0.7:80 DW_PORT_80_TCP_PROTO=tcp DW_PORT_80_TCP_PORT=80 DW_PORT_80_TCP_ADDR=10.96.0.7",
	"DW_PORT_53_UDP=udp://10.96.0.7:53 DW_PORT_9_SCTP_PROTO=sctp DW_SERVICE_HOST=fd00::7",
	"DW_KAFKA_SERVICE_HOST=10.96.0.8 DW_KAFKA_PORT=tcp://10.96.0.8:9092 DW_KAFKA_PORT_9092_TCP=tcp://10.96.0.8:9092",
	"DW_KAFKA_SERVICE_PORT=9092 DW_KAFKA_SERVICE_PORT_TCP_CLIENT=9092 DW_KAFKA_PORT_9092_TCP_PORT=9092",
	"DW_PG_SERVICE_HOST=10.96.0.9 DW_PG_PORT_5432_TCP_ADDR=10.96.0.9",
	"DW_NAME=/web/dw DW_ENV_PATH=/bin DW_ENV_DW_X=1 DW_PORT_80_TCP_PORT_START=80 DW_PORT_80_TCP_PORT_END=81",
};

START_TEST(test_options__what_kubernetes_and_docker_set_is_left_alone)
{
	ck_assert_msg(load(link_rows[_i], "") == 0, "%s: %s", link_rows[_i], error);
	ck_assert_uint_eq(options.kafka.property_count, 0);
	ck_assert_str_eq(options.kafka_brokers, "localhost:9092");
	options_release(&options);
}
END_TEST

START_TEST(test_options__later_errors_name_the_source_too)
{
	char text[128];

	ck_assert_int_eq(load("DW_REDIS_URL=http://h DW_PG_DSN=x", "--http.listen=h:1"), 0);
	ck_assert_str_eq(options_blame(&options, "redis.url: expected redis://", text, sizeof(text)),
			 "redis.url: expected redis:// (DW_REDIS_URL)");
	ck_assert_str_eq(options_blame(&options, "pg.dsn is none", text, sizeof(text)), "pg.dsn is none (DW_PG_DSN)");
	ck_assert_str_eq(options_blame(&options, "bind: http.listen: no", text, sizeof(text)),
			 "bind: http.listen: no (--http.listen)");
	ck_assert_str_eq(options_blame(&options, "kafka.topic: a default", text, sizeof(text)), "kafka.topic: a default");
	ck_assert_str_eq(options_blame(&options, "", text, sizeof(text)), "");
	options_release(&options);
}
END_TEST

/* One start, and all is known: each thing has its line. */
START_TEST(test_options__all_that_is_wrong_is_told)
{
	static const char text[] = "batch.max = 0\nnonsense\nworker = 3\nbatch.max = 3\nkafka.tpic = t\npg.schema = A\n";
	const char *path = write_file(text, sizeof(text) - 1);
	char environment[256], wanted[1024];

	snprintf(environment, sizeof(environment), "DW_CONFIG=%s DW_BATCH_MXA=1", path);
	ck_assert_int_eq(load(environment, "--workers 99"), EXIT_CONFIG);
	snprintf(wanted, sizeof(wanted),
		 "batch.max: \"0\" is not a number from 1 to 10000 records (%s:1)\n"
		 "%s:2: not of the form \"key = value\"\n"
		 "%s:3: unknown option \"worker\"; did you mean workers?\n"
		 "%s:4: batch.max is already set above\n"
		 "unknown environment variable DW_BATCH_MXA; did you mean DW_BATCH_MAX?\n"
		 "workers: \"99\" is not a number from 1 to 64 threads (--workers)\n"
		 "pg.schema: \"A\" is not a name of [a-z_][a-z0-9_]*, pg_ apart (%s:6)\n"
		 "kafka.tpic: No such configuration property: \"tpic\" (%s:5); did you mean kafka.topic?",
		 path, path, path, path, path, path);
	ck_assert_str_eq(error, wanted);
	unlink(path);
}
END_TEST

/* More than the caller has room for: no line is torn apart from the last. */
START_TEST(test_options__errors_beyond_the_room_are_left_out)
{
	char text[4096] = "", small[128];
	for (int i = 0; i < 100; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "wrong.%d = 1\n", i);
	const char *path = write_file(text, strlen(text));
	char *environment[] = {NULL};
	char *argv[] = {(char *)"run", (char *)"--config", (char *)path, NULL};
	int argc = 3;
	ck_assert_int_eq(options_load(&options, &argc, argv, environment, NULL, small, sizeof(small)), EXIT_CONFIG);
	ck_assert_uint_lt(strlen(small), sizeof(small));
	ck_assert_ptr_nonnull(strstr(small, "wrong.0"));
	unlink(path);
}
END_TEST

START_TEST(test_options__later_sources_win)
{
	static const char text[] = "# comment\n\nworkers = 3\n  batch.max=30 \r\nconsumers\t=\t4";
	const char *path = write_file(text, sizeof(text) - 1);
	char environment[256], flags[256];

	snprintf(environment, sizeof(environment), "DW_CONFIG=%s DW_BATCH_MAX=31 DW_CONSUMERS=5", path);
	ck_assert_int_eq(load(environment, "--consumers 6 --consumers=7"), 0);
	ck_assert_int_eq(options.workers, 3);
	ck_assert_int_eq(options.batch_max, 31);
	ck_assert_int_eq(options.consumers, 7);
	ck_assert_int_eq(options.ledger_slots, 16);
	options_release(&options);

	snprintf(flags, sizeof(flags), "--config %s", path);
	ck_assert_int_eq(load("DW_CONFIG=/nonexistent", flags), 0);
	ck_assert_int_eq(options.workers, 3);
	options_release(&options);
	unlink(path);
}
END_TEST

/* Wrong on the command line or in the environment: the code, and what the message must say. */
static const struct {
	const char *environment;
	const char *flags;
	int code;
	const char *says[3];
} wrong_rows[] = {
	{"", "--batch.mx 5", EXIT_USAGE, {"unknown option --batch.mx", "--batch.max"}},
	{"", "--nothing-like-it=5", EXIT_USAGE, {"unknown option --nothing-like-it"}},
	{"", "-b", EXIT_USAGE, {"unknown option -b"}},
	{"", "--", 0, {NULL}},
	{"", "--batch.max", EXIT_USAGE, {"--batch.max", "1 to 10000 records"}},
	{"", "--batch.max --workers 2", EXIT_USAGE, {"--batch.max", "1 to 10000 records"}},
	{"", "--at", EXIT_USAGE, {"--at"}},
	{"", "--json=1", EXIT_USAGE, {"--json takes no value"}},
	{"", "-- --json", EXIT_USAGE, {"\"--json\""}},
	{"", "--batch.max 0", EXIT_CONFIG, {"batch.max", "\"0\"", "1 to 10000 records"}},
	{"", "--batch.max 10001", EXIT_CONFIG, {"batch.max", "\"10001\"", "(--batch.max)"}},
	{"", "--batch.max=", EXIT_CONFIG, {"batch.max", "\"\"", "1 to 10000"}},
	{"", "--batch.max 1x", EXIT_CONFIG, {"\"1x\""}},
	{"", "--inflight.max_bytes 1k", EXIT_CONFIG, {"inflight.max_bytes", "\"1k\"", "1048576 to 1073741824 bytes"}},
	{"", "--dedup.ttl 1500ms", EXIT_CONFIG, {"dedup.ttl", "\"1500ms\"", "0 to 31536000 s"}},
	{"", "--pg.connect_timeout_ms 11m", EXIT_CONFIG, {"\"11m\"", "1000 to 600000 ms"}},
	{"", "--log.level trace", EXIT_CONFIG, {"log.level", "\"trace\"", "error|warn|info|debug"}},
	{"", "--log.level inf", EXIT_CONFIG, {"\"inf\""}},
	{"", "--log.level info|debug", EXIT_CONFIG, {"\"info|debug\""}},
	{"", "--kafka.brokers=", EXIT_CONFIG, {"kafka.brokers", "\"\"", "1 to 4096 bytes"}},
	{"", "--kafka.topic=a\nb", EXIT_CONFIG, {"kafka.topic", "\"a\\nb\""}},
	{"", "--kafka.topic=a/b", EXIT_CONFIG, {"kafka.topic", "\"a/b\""}},
	{"", "--kafka.topic=..", EXIT_CONFIG, {"kafka.topic"}},
	{"", "--kafka.dlq_topic=delivery-events", EXIT_CONFIG, {"kafka.dlq_topic", "kafka.topic", "differ"}},
	{"", "--kafka.dlq_topic=delivery-events.deferred", EXIT_CONFIG, {"kafka.dlq_topic", "kafka.deferred_topic"}},
	{"", "--pg.schema=Delivery", EXIT_CONFIG, {"pg.schema", "\"Delivery\""}},
	{"", "--pg.schema=pg_x", EXIT_CONFIG, {"pg.schema"}},
	{"", "--pg.schema=1a", EXIT_CONFIG, {"pg.schema"}},
	{"", "--http.listen=9464", EXIT_CONFIG, {"http.listen", "\"9464\"", "65535"}},
	{"", "--http.listen=h:65536", EXIT_CONFIG, {"http.listen", "65535"}},
	{"", "--http.listen=::1:9464", EXIT_CONFIG, {"http.listen", "\"::1:9464\"", "[host]:port"}},
	{"", "--http.listen=[]:9464", EXIT_CONFIG, {"http.listen", "\"[]:9464\""}},
	{"", "--kafka.group.id=x", EXIT_CONFIG, {"kafka.group.id", "kafka.group"}},
	{"", "--kafka.bootstrap.servers=x", EXIT_CONFIG, {"kafka.bootstrap.servers", "kafka.brokers"}},
	{"", "--kafka.acks=1", EXIT_CONFIG, {"kafka.acks"}},
	{"", "--kafka.no.such.property=1", EXIT_CONFIG, {"no.such.property"}},
	{"", "--config /nonexistent", EXIT_CONFIG, {"/nonexistent", "No such file"}},
	{"DW_BATCH_MAX=0", "", EXIT_CONFIG, {"batch.max", "\"0\"", "(DW_BATCH_MAX)"}},
	{"DW_BATCH_MXA=1", "", EXIT_CONFIG, {"unknown environment variable DW_BATCH_MXA", "DW_BATCH_MAX"}},
	{"DW_BATCH_MAX_FILE=/etc/hostname", "", EXIT_CONFIG, {"DW_BATCH_MAX_FILE"}},
	{"DW_batch_max=1", "", EXIT_CONFIG, {"DW_batch_max"}},
	{"DW_=1", "", EXIT_CONFIG, {"DW_"}},
	{"DW_KAFKA_=1", "", EXIT_CONFIG, {"DW_KAFKA_"}},
	{"DW_PG_DSN=a DW_PG_DSN_FILE=/b", "", EXIT_CONFIG, {"DW_PG_DSN and DW_PG_DSN_FILE"}},
	{"DW_KAFKA_SASL_PASSWORD=a DW_KAFKA_SASL_PASSWORD_FILE=/b", "", EXIT_CONFIG, {"DW_KAFKA_SASL_PASSWORD_FILE"}},
	{"DW_PG_DSN_FILE=/nonexistent", "", EXIT_CONFIG, {"DW_PG_DSN_FILE", "/nonexistent"}},
	{"DW_KAFKA_BROKER=h:1", "", EXIT_CONFIG, {"kafka.broker", "(DW_KAFKA_BROKER)", "did you mean DW_KAFKA_BROKERS?"}},
	{"", "--kafka.gruop=g", EXIT_CONFIG, {"(--kafka.gruop)", "did you mean --kafka.group?"}},
	{"DW_KAFKA_PORT=9092", "", EXIT_CONFIG, {"(DW_KAFKA_PORT)"}},
	{"DW_KAFKA_CONSUMER_FETCH_MIN_BYTES=x", "", EXIT_CONFIG, {"fetch.min.bytes", "(DW_KAFKA_CONSUMER_FETCH_MIN_BYTES)"}},
	{"DW_KAFKA_TOPIC=a~b", "", EXIT_CONFIG, {"kafka.topic: \"a b\"", "(DW_KAFKA_TOPIC)"}},
	{"DW_PG_SCHEMA=Delivery", "", EXIT_CONFIG, {"pg.schema", "(DW_PG_SCHEMA)"}},
	{"DW_HTTP_LISTEN=9464", "", EXIT_CONFIG, {"http.listen", "(DW_HTTP_LISTEN)"}},
	{"DW_HTTP_PORT=9464", "", EXIT_CONFIG, {"unknown environment variable DW_HTTP_PORT"}},
	/* Nearly what Kubernetes and Docker make. */
	{"DW_PORT=80", "", EXIT_CONFIG, {"DW_PORT"}},
	{"DW_SERVICE_HOST=db.example", "", EXIT_CONFIG, {"DW_SERVICE_HOST"}},
	{"DW_SERVICE_PORT=http", "", EXIT_CONFIG, {"DW_SERVICE_PORT"}},
	{"DW_SERVICE_PORTS=80", "", EXIT_CONFIG, {"DW_SERVICE_PORTS"}},
	{"DW_PORT_80=x", "", EXIT_CONFIG, {"DW_PORT_80"}},
	{"DW_PORT_TCP=x", "", EXIT_CONFIG, {"DW_PORT_TCP"}},
	{"DW_PORT_80_HTTP=x", "", EXIT_CONFIG, {"DW_PORT_80_HTTP"}},
	{"DW_PORT_80_ADDR=x", "", EXIT_CONFIG, {"DW_PORT_80_ADDR"}},
	{"DW_PORT_80_TCP_ADRR=x", "", EXIT_CONFIG, {"DW_PORT_80_TCP_ADRR"}},
	{"DW_NAME=worker", "", EXIT_CONFIG, {"DW_NAME"}},
	{"DW_NAME=/worker", "", EXIT_CONFIG, {"DW_NAME"}},
	{"DW_ENV_PATH=/bin", "", EXIT_CONFIG, {"DW_ENV_PATH"}},
	{"DW_NAME=/web/dw DW_DB_ENV_PATH=/bin", "", EXIT_CONFIG, {"DW_DB_ENV_PATH"}},
	{"DW_PG_DSN_FILE=/", "", EXIT_CONFIG, {"DW_PG_DSN_FILE"}},
};

START_TEST(test_options__wrong_ones_name_option_value_and_bound)
{
	int code = load(wrong_rows[_i].environment, wrong_rows[_i].flags);

	ck_assert_msg(code == wrong_rows[_i].code, "code %d: %s", code, error);
	for (size_t i = 0; i < LENGTH(wrong_rows[_i].says) && wrong_rows[_i].says[i]; i++)
		ck_assert_msg(strstr(error, wrong_rows[_i].says[i]) != NULL, "no '%s' in: %s", wrong_rows[_i].says[i],
			      error);
	ck_assert_ptr_null(strchr(error, '\n'));
	if (code == 0)
		options_release(&options);
}
END_TEST

static const struct {
	const char *text;
	const char *says;
} file_rows[] = {
	{"workers = 1\nbatch.max\n", ":2: not of the form"},
	{"\n# x = y\n = 5\n", ":3: not of the form"},
	{"batch.mx = 5", ":1: unknown option \"batch.mx\"; did you mean batch.max?"},
	{"config = x", ":1: unknown option \"config\""},
	{"workers = 1\n\nworkers = 2", ":3: workers is already set above"},
	{"kafka.fetch.min.bytes = 1\nkafka.fetch.min.bytes = 1", ":2: kafka.fetch.min.bytes is already set above"},
	{"workers = 0", "workers: \"0\" is not a number from 1 to 64 threads ("},
	{"workers = 2 # two", "workers: \"2 # two\" is not"},
	{"workers = \"2\"", "workers: \"\\\"2\\\"\" is not"},
};

START_TEST(test_options__file_errors_name_the_line)
{
	char flags[256];
	const char *path = write_file(file_rows[_i].text, strlen(file_rows[_i].text));

	snprintf(flags, sizeof(flags), "--config=%s", path);
	ck_assert_int_eq(load("", flags), EXIT_CONFIG);
	ck_assert_msg(strstr(error, file_rows[_i].says) != NULL, "no '%s' in: %s", file_rows[_i].says, error);
	ck_assert_ptr_nonnull(strstr(error, path));
	unlink(path);
}
END_TEST

START_TEST(test_options__secret_from_a_file_less_one_newline)
{
	static const struct {
		const char *text;
		const char *value;
	} rows[] = {{"host=a password=b\n", "host=a password=b"}, {"x\n\n", "x\n"}, {"x", "x"}, {"", ""}};

	for (size_t i = 0; i < LENGTH(rows); i++) {
		char environment[256];
		const char *path = write_file(rows[i].text, strlen(rows[i].text));
		snprintf(environment, sizeof(environment), "DW_PG_DSN_FILE=%s DW_KAFKA_SASL_PASSWORD_FILE=%s", path,
			 path);
		ck_assert_msg(load(environment, "") == 0, "%s", error);
		ck_assert_str_eq(options.pg_dsn, rows[i].value);
		ck_assert_str_eq(options.kafka.properties[0].name, "sasl.password");
		ck_assert_str_eq(options.kafka.properties[0].value, rows[i].value);
		/* To be read again, unless a value that stands above it replaces it. */
		ck_assert_str_eq(options.pg_dsn_file, path);
		ck_assert_str_eq(options.kafka.property_files[0], path);
		ck_assert_ptr_null(options.redis_url_file);
		options_release(&options);
		ck_assert_msg(load(environment, "--pg.dsn=a --kafka.sasl.password=b") == 0, "%s", error);
		ck_assert(!options.pg_dsn_file && !options.kafka.property_files[0]);
		options_release(&options);
		unlink(path);
	}
}
END_TEST

START_TEST(test_options__secrets_never_show_in_errors)
{
	char flags[8192];
	char secret[5001];

	memset(secret, 'S', sizeof(secret) - 1);
	secret[sizeof(secret) - 1] = '\0';
	ck_assert_int_lt(snprintf(flags, sizeof(flags), "--pg.dsn=%s", secret), (int)sizeof(flags));
	char *argv[] = {(char *)"run", flags, NULL};
	char *environment[] = {NULL};
	int argc = 2;
	ck_assert_int_eq(options_load(&options, &argc, argv, environment, NULL, error, sizeof(error)), EXIT_CONFIG);
	ck_assert_ptr_null(strstr(error, "SSS"));
	ck_assert_ptr_nonnull(strstr(error, "pg.dsn: the value (hidden) is not a text of 0 to 4096 bytes"));

	static const char with_nul[] = "top\0secret";
	const char *path = write_file(with_nul, sizeof(with_nul) - 1);
	snprintf(flags, sizeof(flags), "DW_KAFKA_SASL_PASSWORD_FILE=%s", path);
	ck_assert_int_eq(load(flags, ""), EXIT_CONFIG);
	ck_assert_ptr_nonnull(strstr(error, "(hidden)"));
	ck_assert_ptr_null(strstr(error, "top"));
	unlink(path);
}
END_TEST

START_TEST(test_options__properties_by_side_later_ones_replace)
{
	ck_assert_msg(load("DW_KAFKA_FETCH_MIN_BYTES=1 DW_KAFKA_CONSUMER_FETCH_MIN_BYTES=2 DW_KAFKA_TOPIC=t",
			   "--kafka.producer.linger.ms 7 --kafka.fetch.min.bytes=3") == 0,
		      "%s", error);
	static const struct kafka_property expected[] = {
		{KAFKA_BOTH, "fetch.min.bytes", "3"},
		{KAFKA_CONSUMER, "fetch.min.bytes", "2"},
		{KAFKA_PRODUCER, "linger.ms", "7"},
	};
	ck_assert_uint_eq(options.kafka.property_count, LENGTH(expected));
	for (size_t i = 0; i < LENGTH(expected); i++) {
		ck_assert_int_eq(options.kafka.properties[i].side, expected[i].side);
		ck_assert_str_eq(options.kafka.properties[i].name, expected[i].name);
		ck_assert_str_eq(options.kafka.properties[i].value, expected[i].value);
	}
	/* A key of ours wins over the property that the variable could mean as well. */
	ck_assert_str_eq(options.kafka_topic, "t");
	ck_assert_str_eq(options.kafka_dlq_topic, "t.dlq");
	options_release(&options);
}
END_TEST

START_TEST(test_options__leave_the_commands_own_arguments)
{
	ck_assert_int_eq(load("DW_TEST_X=1 PATH=x", "a --workers 3 --json - --at 5 --at=6 b -- -c --workers"), 0);
	static const char *const left[] = {"run", "a", "--json", "-", "--at", "5", "--at=6", "b", "-c", "--workers"};
	ck_assert_int_eq(argument_count, (int)LENGTH(left));
	for (size_t i = 0; i < LENGTH(left); i++)
		ck_assert_str_eq(arguments[i], left[i]);
	ck_assert_ptr_null(arguments[LENGTH(left)]);
	ck_assert_int_eq(options.workers, 3);
	options_release(&options);
}
END_TEST

START_TEST(test_options__every_row_has_all_its_texts)
{
	struct buf help = BUF_INIT, reference = BUF_INIT, sample = BUF_INIT, text = BUF_INIT;

	options_print_help(&help, NULL);
	options_print_reference(&reference);
	options_print_sample(&sample);
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		ck_assert_ptr_eq(option_row_find(slice_of(row->key)), row);
		buf_clear(&text);
		buf_printf(&text, "  --%s ", row->key);
		ck_assert_ptr_nonnull(strstr(help.data, text.data));
		buf_clear(&text);
		buf_printf(&text, "| `%s` | `", row->key);
		option_put_variable(&text, row->key);
		ck_assert_ptr_nonnull(strstr(reference.data, text.data));
		buf_clear(&text);
		buf_printf(&text, "\n#%s =", row->key);
		ck_assert_ptr_nonnull(strstr(sample.data, text.data));
		buf_clear(&text);
		option_put_variable(&text, row->key);
		ck_assert_ptr_eq(option_row_find_variable(buf_slice(&text)), row); /* no two share a variable */
	}
	buf_release(&help);
	buf_release(&reference);
	buf_release(&sample);
	buf_release(&text);
}
END_TEST

START_TEST(test_options__sample_with_its_comments_taken_off_loads)
{
	struct buf sample = BUF_INIT;
	struct options defaults;
	char flags[256];

	ck_assert_int_eq(load("", ""), 0);
	defaults = options;
	options_print_sample(&sample);
	/* "#key =" has its value; "# text" stays a comment. */
	for (size_t i = 0; i + 1 < sample.len; i++) {
		if (sample.data[i] == '#' && sample.data[i + 1] != ' ')
			sample.data[i] = ' ';
	}
	const char *path = write_file(sample.data, sample.len);
	snprintf(flags, sizeof(flags), "--config=%s", path);
	ck_assert_msg(load("", flags) == 0, "%s", error);
	ck_assert_str_eq(options.redis_url, defaults.redis_url);
	ck_assert_int_eq(options.dedup_ttl_s, defaults.dedup_ttl_s);
	ck_assert_int_eq(options.log_level, defaults.log_level);
	options_release(&options);
	options_release(&defaults);
	buf_release(&sample);
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("options");
	TCase *tc = tcase_create("options");
	tcase_add_test(tc, test_options__defaults_are_within_their_bounds);
	tcase_add_loop_test(tc, test_options__what_kubernetes_and_docker_set_is_left_alone, 0, LENGTH(link_rows));
	tcase_add_test(tc, test_options__later_errors_name_the_source_too);
	tcase_add_test(tc, test_options__all_that_is_wrong_is_told);
	tcase_add_test(tc, test_options__errors_beyond_the_room_are_left_out);
	tcase_add_test(tc, test_options__later_sources_win);
	tcase_add_loop_test(tc, test_options__wrong_ones_name_option_value_and_bound, 0, (int)LENGTH(wrong_rows));
	tcase_add_loop_test(tc, test_options__file_errors_name_the_line, 0, (int)LENGTH(file_rows));
	tcase_add_test(tc, test_options__secret_from_a_file_less_one_newline);
	tcase_add_test(tc, test_options__secrets_never_show_in_errors);
	tcase_add_test(tc, test_options__properties_by_side_later_ones_replace);
	tcase_add_test(tc, test_options__leave_the_commands_own_arguments);
	tcase_add_test(tc, test_options__every_row_has_all_its_texts);
	tcase_add_test(tc, test_options__sample_with_its_comments_taken_off_loads);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
