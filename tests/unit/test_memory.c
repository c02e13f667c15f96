/*
 * Out of memory at each allocation in turn, through what a record goes through before it meets a server. Nothing here
 * has an error for it: it ends with a message, or it makes no difference. Above all it is never an opinion about the
 * record, which would be dead-lettered for it [I10].
 */
#include "common/json_writer.h"
#include "schemas/event.h"
#include "tests/lib/every_allocation.c"
#include "worker/audit/replay.h"
#include "worker/observe/exposition.h"
#include "worker/options.h"
#include "worker/pipeline/batch.h"
#include "worker/pipeline/copy.h"
#include "worker/pipeline/partition.h"

#include <stdlib.h>

#define S(text) SLICE_LITERAL(text)

enum { POOL_BYTES = 1 << 20 };

/* librdkafka's judgement of properties, which starts threads: it has assertions of its own. */
int kafka_settings_check(const struct kafka_settings *s, char *error, size_t error_size)
{
	return (void)s, (void)error, (void)error_size, 0;
}

#define WHOLE \
	"{\"order_id\":\"o1\",\"status\":\"delivered\",\"timestamp\":\"2026-01-31T12:00:00Z\",\"customer_id\":\"c1\"," \
	"\"partner_id\":\"p1\",\"amount_minor\":7289,\"currency\":\"EUR\",\"reason\":\"d\\u00f6\\ud83d\\udeb2r\""

static void decode_one(struct event_decoder *d, struct slice value, struct result *o)
{
	struct decode_error error;
	struct event e;
	if (event_decode(d, value, NULL, 0, -1, &e, &error) == ERROR_NONE)
		result_put(o, "%.*s %d %lld %s %.*s %d\n", (int)e.order_id.len, e.order_id.data, e.status,
			   (long long)e.amount_minor, e.currency, (int)e.reason.len, e.reason.data, e.unknown_members);
	else
		result_put(o, "%s %s %s\n", error_code_name(error.code), error.field, error.message);
}

static void decode(struct result *o)
{
	static const struct slice values[] = {
		S(WHOLE "}"),
		S(WHOLE ",\"note\":[{\"a\":[1.5,true,\"x\"]}]}"),
		S(WHOLE ",\"no\\u0074e\":1,\"note\":2}"),
		S(WHOLE ",\"n\":9223372036854775808}"),
		S("{\"order_id\":1}"),
		S("[]"),
		S("{\"order_id\""),
	};
	struct event_decoder *d = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		decode_one(d, values[i], o);
	/* Beyond what the decoder sets aside at its start. */
	struct buf large = BUF_INIT;
	buf_puts(&large, WHOLE);
	for (int i = 0; i < 3000; i++)
		buf_printf(&large, ",\"n%d\":[]", i);
	buf_putc(&large, '}');
	decode_one(d, buf_slice(&large), o);
	buf_release(&large);
	event_decoder_free(d);
}

START_TEST(test_memory__decoder)
{
	if (!every_allocation_works())
		return;
	event_setup();
	struct every_allocation_count count = every_allocation(decode, ENDS_OR_SAME);
	ck_assert_int_ge(count.ended, 4); /* the decoder, its reader, the text's buffer, a chunk of the arena */
}
END_TEST

static void read_rules(struct result *o)
{
	static const struct slice files[] = {
		S("{\"rules\":[{\"id\":\"base\",\"kind\":\"per_amount\",\"points\":1,\"per_minor\":100},{\"id\":"
		  "\"launch\","
		  "\"kind\":\"per_order\",\"points\":50,\"partner_id\":\"p7\",\"currency\":\"BRL\"}],"
		  "\"partners\":[{\"partner_id\":\"p7\",\"kinds\":[\"points\"]},{\"partner_id\":\"p8\",\"burst\":2}]}"),
		S("{\"rules\":[{\"id\":\"base\",\"kind\":\"per_order\",\"points\":1},{\"id\":\"base\",\"kind\":\"per_"
		  "order\","
		  "\"points\":2}]}"),
		S("{\"rules\":["),
	};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char error[256];
		struct rules *rules = rules_parse_file(files[i], error, sizeof(error));
		if (!rules) {
			result_put(o, "%s\n", error);
			continue;
		}
		rules_seal(rules);
		for (size_t r = 0; r < rules_count(rules); r++) {
			const struct rule *rule = rules_at(rules, r);
			result_put(o, "%s %d %lld %s %s\n", rule->id.data, rule->kind, (long long)rule->points,
				   slice_present(rule->partner_id) ? rule->partner_id.data : "-", rule->currency);
		}
		for (size_t p = 0; p < rules_partner_count(rules); p++)
			result_put(o, "%s %d\n", rules_partner_at(rules, p)->partner_id.data,
				   rules_partner_at(rules, p)->kinds);
		rules_unref(rules);
	}
}

/* A rule loaded is a rule kept: one that lost a byte on the way in would price orders for ever. */
START_TEST(test_memory__rule_file)
{
	if (!every_allocation_works())
		return;
	event_setup();
	struct every_allocation_count count = every_allocation(read_rules, ENDS_OR_SAME);
	ck_assert_int_ge(count.ended, 50);
}
END_TEST

static void load_options(struct result *o)
{
	char *good[] = {"run", "--workers=3", "--kafka.fetch.min.bytes=1", "--json", "there", NULL};
	char *environment[] = {"DW_KAFKA_TOPIC=events", "DW_PG_DSN=host=/tmp", "PATH=/bin", NULL};
	char *bad[] = {"run", "--batch.max=x", NULL};
	char *unknown[] = {"run", NULL};
	char *unknown_environment[] = {"DW_BATCH_MAXX=1", NULL};
	const char *const flags[] = {"json", NULL};
	struct {
		char **argv, **environment;
		int argc;
	} loads[] = {
		{good, environment, 5},
		{bad, environment, 2},
		{unknown, unknown_environment, 1},
	};
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		struct options options;
		char error[512];
		int code = options_load(&options, &loads[i].argc, loads[i].argv, loads[i].environment, flags, error,
					sizeof(error));
		if (code) {
			result_put(o, "%d %s\n", code, error);
			continue;
		}
		result_put(o, "%s %s %s %d %s\n", options.kafka_topic, options.kafka_dlq_topic, options.pg_dsn,
			   (int)options.workers, options.kafka.properties[0].value);
		options_release(&options);
	}
}

START_TEST(test_memory__options)
{
	if (!every_allocation_works())
		return;
	struct every_allocation_count count = every_allocation(load_options, ENDS_OR_SAME);
	ck_assert_int_ge(count.ended, 20);
}
END_TEST

enum { RECORDS = 40, BATCH = 64 };

/* Read, decoded, gathered, its repeats dropped, one of it refused, its copies made. */
static void carry(struct result *o)
{
	static const struct header headers[] = {{S("ce_id"), S("e1")}, {S("traceparent"), S("00-1-2-01")}};
	struct event_decoder *d = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	struct record_pool pool;
	struct partition partition;
	struct batch batch;
	struct copy_builder builder;
	struct record_list list = {0};
	struct tracker tracker;
	const uint8_t key[16] = {0};
	tracker_init(&tracker);
	tracker_start(&tracker, 0);
	record_pool_init(&pool, POOL_BYTES);
	partition_init(&partition, "events", 0, false);
	partition_assign(&partition);
	batch_init(&batch, BATCH);
	copy_builder_init(&builder);
	for (int i = 0; i < RECORDS; i++) {
		struct decode_error error;
		struct event event;
		struct buf value = BUF_INIT;
		uint64_t ticket = 0;
		buf_printf(&value, WHOLE ",\"source\":\"%d\"}", i / 2);
		struct kafka_record k = {.topic = "events",
					 .offset = i,
					 .value = buf_slice(&value),
					 .headers = headers,
					 .header_count = 2,
					 .key = S("o1"),
					 .timestamp_us = -1};
		ENSURE(event_decode(d, k.value, headers, 2, -1, &event, &error) == ERROR_NONE);
		ENSURE(tracker_enter(&tracker, i, 0, &ticket));
		struct record *r = record_new(&pool, &k, &event);
		r->partition = &partition;
		r->epoch = partition_epoch(&partition);
		r->ticket = ticket;
		record_list_append(&list, r);
		buf_release(&value);
	}
	batch_load(&batch, &list);
	batch_digest(&batch, 0, key);
	batch_drop_repeats(&batch);
	result_put(o, "%zu to write, %zu repeats\n", batch.count, batch.repeats.count);
	struct record *refused = batch.records[0];
	record_refuse(refused, ERROR_ORDER_CONFLICT, "customer_id", "is another");
	struct kafka_message m;
	copy_dead_letter(&builder, refused, "events.dlq", "w", &m);
	result_put(o, "%zu headers\n", m.header_count);
	copy_deferral(&builder, batch.records[1], "events.deferred", 0, 5, &m);
	result_put(o, "%zu headers\n", m.header_count);
	batch_release_records(&batch);
	record_list_join(&batch.returned, &batch.outgoing);
	record_list_join(&batch.returned, &batch.repeats);
	for (struct record *r; (r = record_list_take(&batch.returned));) {
		tracker_settle(&tracker, r->ticket);
		record_free(&pool, r);
	}
	result_put(o, "%lld settled\n", (long long)tracker_committable(&tracker));
	copy_builder_release(&builder);
	batch_release(&batch);
	partition_release(&partition);
	record_pool_release(&pool);
	tracker_release(&tracker);
	event_decoder_free(d);
}

START_TEST(test_memory__records)
{
	if (!every_allocation_works())
		return;
	event_setup();
	struct every_allocation_count count = every_allocation(carry, ENDS_OR_SAME);
	ck_assert_int_ge(count.ended, RECORDS);
}
END_TEST

static void write_text(struct result *o)
{
	struct buf page = BUF_INIT, labels = BUF_INIT;
	struct json_writer w = json_writer_to(&page);
	json_put_open(&w, '{');
	json_put_key(&w, "a");
	json_put_text(&w, "b\"\xff");
	json_put_key(&w, "c");
	json_put_real(&w, 0.1);
	json_put_close(&w, '}');
	exposition_family(&page, "dw_commits_total", "counter", "Commits.");
	exposition_label(&labels, "result", "o\"k");
	for (int i = 0; i < 200; i++)
		exposition_integer(&page, "dw_commits_total", labels.data, i);
	result_put(o, "%zu %.200s\n", page.len, page.data);
	buf_release(&page);
	buf_release(&labels);
}

START_TEST(test_memory__texts)
{
	if (!every_allocation_works())
		return;
	struct every_allocation_count count = every_allocation(write_text, ENDS_OR_SAME);
	ck_assert_int_ge(count.ended, 5);
}
END_TEST

static void replay(struct result *o)
{
	struct rules *rules = rules_new(1);
	rules_add(rules, &(struct rule){.id = S("base"),
					.version = 1,
					.kind = RULE_PER_ORDER,
					.points = 5,
					.per_minor = 1,
					.multiplier_bp = 10000,
					.max_points_per_order = -1,
					.valid_from_us = TIME_NONE,
					.valid_to_us = INT64_MAX});
	rules_seal(rules);
	struct replay *r = replay_new(rules, "events", "events.deferred");
	struct audit_report *report = audit_report_new();
	char ids[300][16];
	for (int i = 0; i < 300; i++) {
		snprintf(ids[i], sizeof(ids[i]), "o%d", i);
		struct event e = {
			.order_id = slice_of(ids[i]), .status = STATUS_CREATED, .timestamp_us = 1, .amount_minor = -1};
		struct order_row row = {.order_id = e.order_id, .first_topic = S("events")};
		order_state_init(&row.state);
		order_state_add(&row.state, &e);
		row.terms.outcome_at_us = TIME_NONE;
		replay_ledger_order(r, &row, i == 7, 0);
		ENSURE(replay_record(r, &e));
	}
	replay_log_start(r, false, 0, 0);
	replay_compare(r, report);
	struct buf text = BUF_INIT;
	audit_report_text(report, &text);
	result_put(o, "%s", text.data);
	buf_release(&text);
	audit_report_free(report);
	replay_free(r);
	rules_unref(rules);
}

START_TEST(test_memory__audit)
{
	if (!every_allocation_works())
		return;
	struct every_allocation_count count = every_allocation(replay, ENDS_OR_SAME);
	ck_assert_int_ge(count.ended, 10);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memory");
	TCase *tc = tcase_create("memory");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_memory__decoder);
	tcase_add_test(tc, test_memory__rule_file);
	tcase_add_test(tc, test_memory__options);
	tcase_add_test(tc, test_memory__records);
	tcase_add_test(tc, test_memory__texts);
	tcase_add_test(tc, test_memory__audit);
	suite_add_tcase(s, tc);
	SRunner *runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
