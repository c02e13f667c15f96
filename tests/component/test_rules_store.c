/* worker/ledger/rules_store.c against a real server. */
#include "worker/ledger/rules_store.h"

#include "common/thread.h"
#include "tests/lib/postgres_proxy.c"
#include "tests/lib/private_postgres.c"
#include "worker/ledger/migrate.h"

#include <check.h>
#include <inttypes.h>

static struct private_postgres server;

enum { ENTRIES_MAX = 8, WAIT_LIMIT_MS = 20000 };

static struct pg *open_session_at(const char *dsn, const char *schema)
{
	const struct pg_settings settings = {.dsn = dsn,
					     .schema = schema,
					     .connect_timeout_ms = 5000,
					     .statement_timeout_ms = 20000,
					     .idle_timeout_ms = 20000,
					     .for_queries = true};
	struct pg *pg = NULL;
	char error[256] = "";
	ck_assert_msg(pg_connect(&settings, &pg, error, sizeof(error)) == PG_OK, "%s", error);
	return pg;
}

static void ignore(void *owner, enum migrate_step step, int version, const char *name)
{
	(void)owner, (void)step, (void)version, (void)name;
}

static struct pg *open_session(const char *schema)
{
	return open_session_at(server.dsn, schema);
}

/* A session in a fresh ledger. */
static struct pg *open_ledger(const char *schema)
{
	struct pg *pg = open_session(schema);
	int before, after;
	ck_assert_msg(ledger_migrate(pg, schema, 5000, ignore, NULL, &before, &after) == PG_OK, "%s", pg_error(pg));
	return pg;
}

static void run(struct pg *pg, const char *sql)
{
	ck_assert_msg(pg_script(pg, sql) == PG_OK, "%s: %s", sql, pg_error(pg));
}

static int64_t number(struct pg *pg, const char *sql)
{
	struct pg_rows *rows = NULL;
	ck_assert_msg(pg_query(pg, sql, NULL, &rows) == PG_OK, "%s: %s", sql, pg_error(pg));
	int64_t n = pg_integer(rows, 0, 0);
	pg_rows_free(rows);
	return n;
}

struct applied {
	enum pg_result result;
	struct rule_change rules[ENTRIES_MAX], partners[ENTRIES_MAX];
	int64_t revision;
};

static struct applied apply(struct pg *pg, const char *text)
{
	char error[256] = "";
	struct rules *file = rules_parse_file(slice_of(text), error, sizeof(error));
	ck_assert_msg(file, "%s", error);
	struct applied a = {.revision = -1};
	a.result = rules_store_apply(pg, file, a.rules, a.partners, &a.revision);
	rules_unref(file);
	return a;
}

static struct rules *load(struct pg *pg, int64_t up_to)
{
	struct rules *rules = NULL;
	ck_assert_msg(rules_store_load(pg, up_to, &rules) == PG_OK, "%s", pg_error(pg));
	return rules;
}

#define BASE "{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 1, \"per_minor\": 100}"
#define BASE_2 "{\"id\": \"base\", \"kind\": \"per_amount\", \"points\": 2, \"per_minor\": 100}"
#define LAUNCH "{\"id\": \"launch\", \"kind\": \"per_order\", \"points\": 50, \"partner_id\": \"p7\"," \
	" \"currency\": \"BRL\", \"multiplier_bp\": 12345, \"min_order_minor\": 9007199254740991," \
	" \"max_points_per_order\": 0, \"valid_from\": \"1999-01-01T00:00:00Z\"," \
	" \"valid_to\": \"2027-01-01T00:00:00.000001Z\"}"
#define P7 "{\"partner_id\": \"p7\", \"kinds\": [\"points\"], \"per_second\": 0, \"burst\": 200}"
#define P8 "{\"partner_id\": \"p8\", \"kinds\": []}"
#define FILE_OF(rules, partners) "{\"rules\": [" rules "], \"partners\": [" partners "]}"

START_TEST(test_rules_store__first_file_becomes_version_1)
{
	struct pg *pg = open_ledger("first");
	struct applied a = apply(pg, FILE_OF(LAUNCH ", " BASE, P8 ", " P7));
	ck_assert_int_eq(a.result, PG_OK);
	ck_assert_int_eq(a.revision, 1);
	for (int i = 0; i < 2; i++) {
		ck_assert(a.rules[i].changed && a.rules[i].version == 1);
		ck_assert(a.partners[i].changed);
	}
	int64_t revision = -1;
	ck_assert_int_eq(rules_store_revision(pg, &revision), PG_OK);
	ck_assert_int_eq(revision, 1);

	/* Every member comes back as the file had it. */
	char error[256];
	struct rules *file = rules_parse_file(SLICE_LITERAL(FILE_OF(BASE ", " LAUNCH, "")), error, sizeof(error));
	struct rules *stored = load(pg, 1);
	ck_assert_int_eq(rules_revision(stored), 1);
	ck_assert_uint_eq(rules_count(stored), 2);
	for (size_t i = 0; i < 2; i++) {
		ck_assert(rule_same_terms(rules_at(stored, i), rules_at(file, i)));
		ck_assert_int_eq(rules_at(stored, i)->version, 1);
	}
	const struct partner_settings *p7 = rules_partner(stored, SLICE_LITERAL("p7"));
	const struct partner_settings *p8 = rules_partner(stored, SLICE_LITERAL("p8"));
	ck_assert(p7->kinds == KIND_POINTS && p7->per_second == 0 && p7->burst == 200);
	ck_assert(slice_present(p8->partner_id) && p8->kinds == 0 && p8->per_second == -1 && p8->burst == -1);
	rules_unref(file);
	rules_unref(stored);
	pg_close(pg);
}
END_TEST

START_TEST(test_rules_store__same_file_again_changes_nothing)
{
	struct pg *pg = open_ledger("again"), *listener = open_session("again");
	ck_assert_int_eq(apply(pg, FILE_OF(BASE ", " LAUNCH, P7 ", " P8)).revision, 1);
	run(listener, "LISTEN " RULES_CHANNEL);
	int64_t written = number(pg, "SELECT sum(xmin::text::bigint)::bigint FROM "
	                             "(SELECT xmin FROM rules UNION ALL SELECT xmin FROM partners) x");
	struct applied a = apply(pg, FILE_OF(BASE ", " LAUNCH, P7 ", " P8));
	ck_assert_int_eq(a.result, PG_OK);
	ck_assert_int_eq(a.revision, 1);
	for (int i = 0; i < 2; i++) {
		ck_assert(!a.rules[i].changed && a.rules[i].version == 1);
		ck_assert(!a.partners[i].changed);
	}
	ck_assert_int_eq(number(pg, "SELECT sum(xmin::text::bigint)::bigint FROM "
	                            "(SELECT xmin FROM rules UNION ALL SELECT xmin FROM partners) x"), written);
	bool notified = true;
	ck_assert_int_eq(pg_wait_notification(listener, 0, &notified), PG_OK);
	ck_assert(!notified);
	pg_close(listener);
	pg_close(pg);
}
END_TEST

START_TEST(test_rules_store__changed_rule_becomes_next_version)
{
	struct pg *pg = open_ledger("changed"), *listener = open_session("changed");
	ck_assert_int_eq(apply(pg, FILE_OF(BASE ", " LAUNCH, P7)).revision, 1);
	run(listener, "LISTEN " RULES_CHANNEL);
	struct applied a = apply(pg, FILE_OF(BASE_2, "{\"partner_id\": \"p7\"}"));
	ck_assert_int_eq(a.result, PG_OK);
	ck_assert_int_eq(a.revision, 2);
	ck_assert(a.rules[0].changed && a.rules[0].version == 2);
	ck_assert(a.partners[0].changed);
	bool notified = false;
	ck_assert_int_eq(pg_wait_notification(listener, WAIT_LIMIT_MS, &notified), PG_OK);
	ck_assert(notified);

	/* Versions are kept, and so is what the file left out; the partner's entry is replaced, defaults included. */
	struct rules *now = load(pg, 2), *before = load(pg, 1);
	ck_assert_uint_eq(rules_count(now), 3);
	ck_assert_int_eq(rules_version(now, SLICE_LITERAL("base"), 1)->points, 1);
	ck_assert_int_eq(rules_version(now, SLICE_LITERAL("base"), 2)->points, 2);
	ck_assert_int_eq(rules_newest(now, SLICE_LITERAL("launch"))->version, 1);
	const struct partner_settings *p7 = rules_partner(now, SLICE_LITERAL("p7"));
	ck_assert(p7->kinds == KINDS_ALL && p7->per_second == -1 && p7->burst == -1);
	/* As of revision 1 the second version is not known. */
	ck_assert_uint_eq(rules_count(before), 2);
	ck_assert_int_eq(rules_newest(before, SLICE_LITERAL("base"))->version, 1);
	rules_unref(now);
	rules_unref(before);

	/* Back to the first terms: a third version, never the first again. */
	a = apply(pg, FILE_OF(BASE, ""));
	ck_assert_int_eq(a.revision, 3);
	ck_assert_int_eq(a.rules[0].version, 3);
	pg_close(listener);
	pg_close(pg);
}
END_TEST

START_TEST(test_rules_store__refused_file_applies_nothing)
{
	struct pg *pg = open_ledger("refused_file");
	run(pg, "ALTER TABLE partners ADD CHECK (partner_id <> 'p7')");
	struct applied a = apply(pg, FILE_OF(BASE, P7));
	ck_assert_int_eq(a.result, PG_REJECTED);
	ck_assert_int_eq(a.revision, -1);
	pg_close(pg);
	pg = open_session("refused_file");
	ck_assert_int_eq(number(pg, "SELECT count(*) FROM rules"), 0);
	ck_assert_int_eq(number(pg, "SELECT rules_revision FROM history"), 0);
	pg_close(pg);
}
END_TEST

static struct applied late; /* of the thread */

static void *apply_late(void *session)
{
	late = apply(session, FILE_OF(BASE, ""));
	return NULL;
}

/* Two at once: the second waits for the first and sees what that has committed. */
START_TEST(test_rules_store__appliers_queue)
{
	struct pg *first = open_ledger("queue"), *second = open_session("queue"), *watcher = open_session("queue");
	run(first, "BEGIN");
	run(first, "UPDATE history SET rules_revision = 5");
	run(first, "INSERT INTO rules SELECT 'base', 4, 1, 7, 100, 10000, 0, NULL, NULL, NULL, NULL, NULL, 5");
	pthread_t thread = thread_start("applier", apply_late, second);
	int64_t deadline_us = clock_mono_us() + WAIT_LIMIT_MS * INT64_C(1000);
	while (number(watcher, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0 && clock_mono_us() < deadline_us)
		poll(NULL, 0, 5);
	run(first, "COMMIT");
	thread_join(thread);
	ck_assert_int_eq(late.result, PG_OK);
	ck_assert_int_eq(late.revision, 6);
	ck_assert_int_eq(late.rules[0].version, 5);
	pg_close(first);
	pg_close(second);
	pg_close(watcher);
}
END_TEST

START_TEST(test_rules_store__a_ledger_without_history_says_so)
{
	struct pg *pg = open_ledger("no history");
	int64_t revision;
	run(pg, "DELETE FROM history");
	ck_assert_int_eq(rules_store_revision(pg, &revision), PG_UNUSABLE);
	ck_assert_ptr_nonnull(strstr(pg_error(pg), "table history has no row"));
	run(pg, "SET search_path = 'nowhere'");
	ck_assert_int_eq(rules_store_revision(pg, &revision), PG_UNUSABLE);
	run(pg, "SET search_path = 'no history'");
	ck_assert_int_eq(apply(pg, FILE_OF(BASE, "")).result, PG_UNUSABLE);
	ck_assert_ptr_nonnull(strstr(pg_error(pg), "table history has no row"));
	pg_close(pg);
}
END_TEST

/* Rows that SQL put in beside `rules apply`. */
START_TEST(test_rules_store__rates_are_loaded_within_a_files_bounds)
{
	static const struct {
		const char *partner;
		int64_t per_second, burst;
	} rows[] = {{"a", 0, 1}, {"b", PARTNER_RATE_MAX, PARTNER_RATE_MAX}, {"c", -1, -1}, {"d", 7, 9}};
	struct pg *pg = open_ledger("rates");
	run(pg, "INSERT INTO partners (partner_id, kinds, per_second, burst, revision) VALUES ('a', 3, 0, 0, 1),"
	        " ('b', 3, 1000001, 9223372036854775807, 1), ('c', 3, NULL, NULL, 1), ('d', 3, 7, 9, 1)");
	struct rules *rules;
	ck_assert_int_eq(rules_store_load(pg, 1, &rules), PG_OK);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct partner_settings *p = rules_partner(rules, slice_of(rows[i].partner));
		ck_assert_msg(p->per_second == rows[i].per_second && p->burst == rows[i].burst,
		              "%s: %" PRId64 ", %" PRId64, rows[i].partner, p->per_second, p->burst);
	}
	rules_unref(rules);
	pg_close(pg);
}
END_TEST

/* Returns once the server has given up the applier, which does not come on with its transaction. */
static void freeze(void *watcher)
{
	int64_t deadline_us = clock_mono_us() + WAIT_LIMIT_MS * INT64_C(1000);
	while (number(watcher, "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") > 0 &&
	       clock_mono_us() < deadline_us)
		poll(NULL, 0, 5);
}

START_TEST(test_rules_store__a_frozen_applier_does_not_keep_the_lock)
{
	struct postgres_proxy proxy;
	struct pg *watcher = open_ledger("frozen");
	ck_assert(postgres_proxy_start(&proxy, server.folder));
	struct pg *frozen = open_session_at(proxy.dsn, "frozen");
	postgres_proxy_arm(&proxy, "UPDATE history", PROXY_HOOK_BEFORE, freeze, watcher);
	struct applied a = apply(frozen, FILE_OF(BASE, P7));
	ck_assert_int_eq(postgres_proxy_fired(&proxy), 1);
	ck_assert_int_eq(a.result, PG_RETRY);
	ck_assert_int_eq(a.revision, -1);
	run(watcher, "SET lock_timeout = '1s'");
	a = apply(watcher, FILE_OF(BASE, ""));
	ck_assert_int_eq(a.result, PG_OK);
	ck_assert_int_eq(a.revision, 1);
	ck_assert_int_eq(number(watcher, "SELECT count(*) FROM partners"), 0);
	/* The bound is the transaction's. */
	ck_assert_int_eq(number(watcher, "SELECT setting::int8 FROM pg_settings"
	                                 " WHERE name = 'idle_in_transaction_session_timeout'"), 0);
	pg_close(frozen);
	pg_close(watcher);
	postgres_proxy_stop(&proxy);
}
END_TEST

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!private_postgres_start(&server))
		return 1;
	Suite *suite = suite_create("rules_store");
	TCase *tc = tcase_create("rules_store");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_rules_store__first_file_becomes_version_1);
	tcase_add_test(tc, test_rules_store__same_file_again_changes_nothing);
	tcase_add_test(tc, test_rules_store__changed_rule_becomes_next_version);
	tcase_add_test(tc, test_rules_store__refused_file_applies_nothing);
	tcase_add_test(tc, test_rules_store__appliers_queue);
	tcase_add_test(tc, test_rules_store__a_ledger_without_history_says_so);
	tcase_add_test(tc, test_rules_store__rates_are_loaded_within_a_files_bounds);
	tcase_add_test(tc, test_rules_store__a_frozen_applier_does_not_keep_the_lock);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
	srunner_free(runner);
	private_postgres_stop(&server);
	return failed > 0 || ran == 0;
}
