/* worker/audit/replay.c: what is told from what, without a database or a broker. */
#include "worker/audit/replay.h"

#include "worker/audit/string_pool.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define T0 INT64_C(1500000000000000)

static struct rules *make_rules(void)
{
	struct rules *rules = rules_new(1);
	struct rule rule = {.id = SLICE_LITERAL("base"), .version = 1, .kind = RULE_PER_AMOUNT, .points = 1, .per_minor = 100,
	                    .multiplier_bp = 10000, .max_points_per_order = -1, .valid_from_us = TIME_NONE,
	                    .valid_to_us = INT64_MAX};
	rules_add(rules, &rule);
	rule.version = 2;
	rule.partner_id = SLICE_LITERAL("p9");
	rules_add(rules, &rule);
	rules_seal(rules);
	return rules;
}

static struct event event_of(enum event_status status, int64_t at_s)
{
	return (struct event){.order_id = SLICE_LITERAL("o"), .status = status, .timestamp_us = T0 + at_s * 1000000,
	                      .amount_minor = -1};
}

static struct event delivered(void)
{
	struct event e = event_of(STATUS_DELIVERED, 60);
	e.customer_id = SLICE_LITERAL("c1");
	e.partner_id = SLICE_LITERAL("p1");
	e.driver_id = SLICE_LITERAL("d1");
	e.amount_minor = 7289;
	memcpy(e.currency, "BRL", 4);
	return e;
}

/* The row that a worker makes of `created` and `delivered`. */
static struct order_row row_of_both(void)
{
	struct event created = event_of(STATUS_CREATED, 0), last = delivered();
	struct order_row o = {.order_id = SLICE_LITERAL("o"), .first_topic = SLICE_LITERAL("events"), .first_partition = 1,
	                      .first_offset = 10};
	order_state_init(&o.state);
	order_state_add(&o.state, &created);
	order_state_add(&o.state, &last);
	o.terms = (struct order_terms){.outcome_at_us = last.timestamp_us, .rule_id = SLICE_LITERAL("base"), .rule_version = 1,
	                             .kinds = KINDS_ALL};
	return o;
}

/* One situation: the ledger's row with a change, the records of the log, and the verdict. */
struct scene {
	struct replay *replay;
	struct order_row row;
	int64_t points, credit;
	struct event created, delivered;
};

static void plain(struct scene *s)
{
	replay_record(s->replay, &s->created);
	replay_record(s->replay, &s->delivered);
}

static void repeated_and_reversed(struct scene *s)
{
	replay_record(s->replay, &s->delivered);
	plain(s);
}

static void no_created(struct scene *s)
{
	replay_record(s->replay, &s->created);
}

static void other_amount(struct scene *s)
{
	s->delivered.amount_minor = 7300;
	plain(s);
}

static void conflicting(struct scene *s)
{
	struct event e = event_of(STATUS_RETURNED, 99);
	e.customer_id = SLICE_LITERAL("c2");
	replay_record(s->replay, &e);
	plain(s);
}

static void customer_by_no_record(struct scene *s)
{
	s->delivered.customer_id = (struct slice){0};
	plain(s);
}

static void later_pending(struct scene *s)
{
	plain(s);
	replay_pending(s->replay, SLICE_LITERAL("o"));
}

static void delivered_rejected(struct scene *s)
{
	replay_record(s->replay, &s->created);
	replay_rejected(s->replay, SLICE_LITERAL("o"));
}

static void log_starts_later(struct scene *s)
{
	replay_log_start(s->replay, false, 1, 11);
	replay_record(s->replay, &s->delivered);
}

static void log_starts_there(struct scene *s)
{
	replay_log_start(s->replay, false, 1, 10);
	no_created(s);
}

static void nothing(struct scene *s)
{
	(void)s;
}

static void stranger(struct scene *s)
{
	plain(s);
	s->created.order_id = SLICE_LITERAL("x");
	replay_record(s->replay, &s->created);
}

static void stranger_rejected(struct scene *s)
{
	plain(s);
	replay_rejected(s->replay, SLICE_LITERAL("x"));
}

static void refunded(struct scene *s)
{
	struct event e = event_of(STATUS_PICKED_UP, 99);
	e.refunded_total_minor = 89;
	plain(s);
	replay_record(s->replay, &e);
}

static void points_missing(struct scene *s)
{
	s->points = 71;
}

static void credit_missing(struct scene *s)
{
	s->credit = 0;
}

static void points_only(struct scene *s)
{
	s->row.terms.kinds = KIND_POINTS;
	s->credit = 0;
}
static void no_rule(struct scene *s)
{
	s->row.terms.rule_id = (struct slice){0};
	s->points = 0;
}
static void rule_of_another(struct scene *s)
{
	s->row.terms.rule_version = 2;
}

static void rule_unknown(struct scene *s)
{
	s->row.terms.rule_version = 3;
}

static void pin_of_another_time(struct scene *s)
{
	s->row.terms.outcome_at_us++;
}

static void driver_differs(struct scene *s)
{
	s->row.state.driver.text = SLICE_LITERAL("d2");
}

static void progress_differs(struct scene *s)
{
	s->row.state.progress = STATUS_FAILED;
}

static void first_elsewhere(struct scene *s)
{
	s->row.first_topic = SLICE_LITERAL("other");
}

static void first_nowhere(struct scene *s)
{
	s->row.first_topic = (struct slice){0};
}

static void first_beyond_partitions(struct scene *s)
{
	s->row.first_partition = 2;
}

static void first_below_partitions(struct scene *s)
{
	s->row.first_partition = -1;
}

static void first_deferred(struct scene *s)
{
	s->row.first_topic = SLICE_LITERAL("events.deferred");
}

static void all_logs_start_later(struct scene *s)
{
	replay_log_start(s->replay, true, 1, 11);
	log_starts_later(s);
}

static void deferred_starts_there(struct scene *s)
{
	replay_log_start(s->replay, true, 1, 10);
	no_created(s);
}

#define CREATED_ONLY "order o: progress is delivered in the ledger, created recomputed"

static const struct {
	const char *name;
	void (*ledger)(struct scene *s);
	void (*log)(struct scene *s);
	const char *wrong; /* NULL: no difference */
	const char *apart; /* NULL: nothing apart */
} scenes[] = {
	{"equal", nothing, plain, NULL, NULL},
	{"order and repeats", nothing, repeated_and_reversed, NULL, NULL},
	{"points only", points_only, plain, NULL, NULL},
	{"no rule", no_rule, plain, NULL, NULL},
	{"conflict is skipped", nothing, conflicting, NULL, "records that conflict with their order: 1"},
	{"pending is apart", points_missing, later_pending, NULL, "still deferred: 1"},
	{"rejected is apart", nothing, delivered_rejected, NULL, "database_rejected: 1"},
	{"taken after a rejection", nothing, stranger_rejected, NULL, "database_rejected: 1"},
	{"below the start", nothing, log_starts_later, NULL, "below the start of the log: 1"},
	{"below the deferred start", first_deferred, all_logs_start_later, NULL, "below the start of the log: 1"},
	{"first in another topic, equal", first_elsewhere, plain, NULL, NULL},

	{"start is within the log", nothing, log_starts_there, CREATED_ONLY, NULL},
	{"start is within the deferred log", first_deferred, deferred_starts_there, CREATED_ONLY, NULL},
	{"a deferred log without a start", first_deferred, no_created, CREATED_ONLY, NULL},
	{"first in another topic", first_elsewhere, no_created, CREATED_ONLY, NULL},
	{"first in no topic", first_nowhere, no_created, CREATED_ONLY, NULL},
	{"first in a partition that is not", first_beyond_partitions, no_created, CREATED_ONLY, NULL},
	{"first in a partition below all", first_below_partitions, no_created, CREATED_ONLY, NULL},
	{"no record", nothing, nothing, "order o: is in the ledger, and no record", NULL},
	{"not in the ledger", nothing, stranger, "order x: is in the topic and not in the ledger", NULL},
	{"amount", nothing, other_amount, "amount_minor is 7289 in the ledger, 7300 recomputed; points posted is 72 in the ledger, 73"
	                                  " recomputed; order credit posted is 7289 in the ledger, 7300 recomputed", NULL},
	{"refund", nothing, refunded, "refunded_total_minor is 0 in the ledger, 89 recomputed; order credit posted is 7289 in the"
	                              " ledger, 7200", NULL},
	{"customer from nowhere", nothing, customer_by_no_record, "customer_id is c1 in the ledger, unknown recomputed", NULL},
	{"driver", driver_differs, plain, "driver_id is d2 in the ledger, d1 recomputed", NULL},
	{"progress", progress_differs, plain, "progress is failed in the ledger, delivered recomputed", NULL},
	{"points", points_missing, plain, "points posted is 71 in the ledger, 72 recomputed", NULL},
	{"credit", credit_missing, plain, "order credit posted is 0 in the ledger, 7289 recomputed", NULL},
	{"ineligible", rule_of_another, plain, "the rule version that is pinned was not eligible", NULL},
	{"no such rule", rule_unknown, plain, "the rule version that is pinned does not exist", NULL},
	{"pin", pin_of_another_time, plain, "no terms are pinned for its outcome", NULL},
};

START_TEST(test_replay__tells_differences_from_what_is_apart)
{
	struct rules *rules = make_rules();
	struct scene s = {.replay = replay_new(rules, "events", "events.deferred"), .row = row_of_both(), .points = 72, .credit = 7289,
	                  .created = event_of(STATUS_CREATED, 0), .delivered = delivered()};
	replay_log_start(s.replay, false, 1, 0);
	scenes[_i].ledger(&s);
	replay_ledger_order(s.replay, &s.row, s.points, s.credit);
	scenes[_i].log(&s);

	struct audit_report *report = audit_report_new();
	struct buf text = BUF_INIT;
	replay_compare(s.replay, report);
	audit_report_text(report, &text);
	ck_assert_msg(audit_report_clean(report) == !scenes[_i].wrong, "%s: %s", scenes[_i].name, text.data);
	if (scenes[_i].wrong)
		ck_assert_msg(strstr(text.data, scenes[_i].wrong) != NULL, "%s: %s", scenes[_i].name, text.data);
	if (scenes[_i].apart)
		ck_assert_msg(strstr(text.data, scenes[_i].apart) != NULL, "%s: %s", scenes[_i].name, text.data);
	else
		ck_assert_msg(!strstr(text.data, "apart"), "%s: %s", scenes[_i].name, text.data);
	buf_release(&text);
	audit_report_free(report);
	replay_free(s.replay);
	rules_unref(rules);
}
END_TEST

START_TEST(test_replay__many_orders)
{
	enum { COUNT = 20000 };
	struct rules *rules = make_rules();
	struct replay *replay = replay_new(rules, "events", "events.deferred");
	struct order_row row = row_of_both();
	struct event created = event_of(STATUS_CREATED, 0), last = delivered();
	replay_log_start(replay, false, 1, 0);
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < COUNT; i++) {
			char id[32];
			snprintf(id, sizeof(id), "order-%d", i);
			row.order_id = created.order_id = last.order_id = slice_of(id);
			if (pass == 0) {
				replay_ledger_order(replay, &row, 72, 7289);
				continue;
			}
			replay_record(replay, &created);
			if (i != 12345)
				replay_record(replay, &last);
		}
	}
	struct audit_report *report = audit_report_new();
	struct buf text = BUF_INIT;
	replay_compare(replay, report);
	audit_report_text(report, &text);
	ck_assert_msg(strstr(text.data, "1 of 20000 orders\n") && strstr(text.data, "order order-12345: "), "%s", text.data);
	buf_release(&text);
	audit_report_free(report);
	replay_free(replay);
	rules_unref(rules);
}
END_TEST

START_TEST(test_replay__strings_are_kept_once)
{
	struct string_pool *pool = string_pool_new();
	const char *first[3000];
	char *large = calloc(1, 100000);
	ck_assert(!slice_present(string_pool_keep(pool, (struct slice){0})));
	ck_assert_uint_eq(string_pool_keep(pool, (struct slice){large, 100000}).len, 100000);
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < 3000; i++) {
			char text[32];
			snprintf(text, sizeof(text), "string %d", i);
			struct slice kept = string_pool_keep(pool, slice_of(text));
			ck_assert(slice_equal(kept, slice_of(text)) && kept.data != text);
			if (pass == 0)
				first[i] = kept.data;
			ck_assert_ptr_eq(kept.data, first[i]);
		}
	}
	free(large);
	string_pool_free(pool);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replay");
	TCase *c = tcase_create("replay");
	tcase_set_timeout(c, 30);
	tcase_add_loop_test(c, test_replay__tells_differences_from_what_is_apart, 0,
	                    (int)(sizeof(scenes) / sizeof(scenes[0])));
	tcase_add_test(c, test_replay__many_orders);
	tcase_add_test(c, test_replay__strings_are_kept_once);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed == 0 && ran > 0 ? 0 : 1;
}
