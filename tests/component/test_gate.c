/* The gate against a real Redis, which each test starts, fills, stops, freezes and restarts as it needs. */
#include "worker/gate/gate.h"

#include "common/clock.h"
#include "common/thread.h"
#include "tests/lib/private_redis.c"
#include "worker/gate/internal.h"

#include <check.h>
#include <inttypes.h>
#include <sys/ioctl.h>

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define SECOND INT64_C(1000000)

enum { TIMEOUT_MS = 250, TTL_S = 3600, SLOT_LIFE_MS = 60000 };

static struct private_redis server;
static struct gate_shared *shared;
static struct gate *gate;
static char url[128];
static FILE *log_file; /* stderr of the test */

static const struct history_epoch epoch = {
	{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}};
static const struct history_epoch other_epoch = {{1}};
static const int64_t event_us = INT64_C(1767225600) * SECOND; /* a multiple of 600 s */

static void open_gate(const char *where, enum gate_outage_policy policy)
{
	const struct gate_settings settings = {
		.url = where, .prefix = "t:", .timeout_ms = TIMEOUT_MS, .dedup_ttl_s = TTL_S,
		.slot_life_ms = SLOT_LIFE_MS, .rate_outage = policy};
	shared = gate_shared_new(&settings);
	gate = gate_new(shared);
}

static void close_gate(void)
{
	gate_free(gate);
	gate_shared_free(shared);
}

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	log_file = tmpfile();
	ck_assert_ptr_nonnull(log_file);
	ck_assert_int_ge(dup2(fileno(log_file), STDERR_FILENO), 0);
	ck_assert(private_redis_start(&server, NULL, NULL));
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d/3", server.port);
	open_gate(url, GATE_LOCAL);
}

static void teardown(void)
{
	close_gate();
	private_redis_stop(&server);
	fclose(log_file);
}

/* ---- talking to the server behind the gate's back ---- */

static int64_t integer_reply;
static int64_t integers_reply[3];
static char text_reply[256];

static struct redis *connect_aside(void)
{
	struct redis_target target;
	char error[256];
	ck_assert_int_eq(redis_target_parse(url, &target, error, sizeof(error)), 0);
	struct redis *r = redis_connect(&target, NULL, 5000, error, sizeof(error));
	ck_assert_msg(r != NULL, "%s", error);
	return r;
}

static enum redis_reply_kind receive_aside(struct redis *r)
{
	struct redis_reply reply;
	ck_assert_msg(redis_send(r, clock_mono_us() + 5 * SECOND) == 0, "%s", redis_error(r));
	ck_assert_msg(redis_receive(r, clock_mono_us() + 5 * SECOND, &reply) == 0, "%s", redis_error(r));
	integer_reply = reply.integer;
	for (size_t i = 0; i < reply.count && i < ROWS(integers_reply) && reply.kind == REPLY_INTEGERS; i++)
		integers_reply[i] = reply.integers[i];
	snprintf(text_reply, sizeof(text_reply), "%.*s", (int)reply.text.len, reply.text.len ? reply.text.data : "");
	return reply.kind;
}

/* One command, words separated by single spaces. */
static enum redis_reply_kind command(const char *line)
{
	char copy[256];
	const char *argv[8];
	int argc = 0;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *rest = copy, *word; (word = strsep(&rest, " "));)
		argv[argc++] = word;
	struct redis *r = connect_aside();
	redis_append(r, argc, argv, NULL);
	enum redis_reply_kind kind = receive_aside(r);
	redis_close(r);
	return kind;
}

static int log_lines(const char *part)
{
	char line[1024];
	int count = 0;
	rewind(log_file);
	while (fgets(line, sizeof(line), log_file))
		count += strstr(line, part) != NULL;
	return count;
}

/* ---- the gate's calls, in short ---- */

static struct gate_mark mark_of(uint32_t n)
{
	struct gate_mark m = {.timestamp_us = event_us + n % 7};
	for (size_t i = 0; i < sizeof(m.digest.bytes); i++)
		m.digest.bytes[i] = (uint8_t)((n + 1) * 2654435761u >> i % 4 * 8) ^ (uint8_t)i;
	return m;
}

static bool is_done(uint32_t n)
{
	struct gate_mark m = mark_of(n);
	bool done = true;
	gate_lookup(gate, &epoch, &m, 1, &done);
	return done;
}

static void mark(uint32_t n)
{
	struct gate_mark m = mark_of(n);
	gate_mark(gate, &epoch, &m, 1);
}

static int64_t admit(const char *partner, int64_t per_second, int64_t burst, int64_t wanted)
{
	struct gate_request r = {slice_of(partner), per_second, burst, wanted, .granted = -7};
	return gate_admit(gate, &r, 1) == GATE_OK ? r.granted : -1;
}

/* Makes the next call the prober's, whatever the backoff. */
static void backoff_passes(void)
{
	mutex_lock(&shared->lock);
	shared->outage.retry_at_us = 0;
	mutex_unlock(&shared->lock);
}

static bool is_down(void)
{
	ck_assert_int_eq(metric_get(METRIC_UP_REDIS), !shared->outage.down);
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_DEDUP), shared->outage.down);
	return shared->outage.down;
}

/* ---- marks ---- */

START_TEST(test_gate__marks_are_found_by_epoch)
{
	struct gate_mark m[3] = {mark_of(1), mark_of(2), mark_of(3)};
	bool done[3] = {true, true, true};
	gate_lookup(gate, &epoch, m, 3, done);
	ck_assert(!done[0] && !done[1] && !done[2]);
	struct gate_mark two[2] = {m[0], m[2]};
	gate_mark(gate, &epoch, two, 2);
	gate_lookup(gate, &epoch, m, 3, done);
	ck_assert(done[0] && !done[1] && done[2]);
	gate_lookup(gate, &other_epoch, m, 3, done);
	ck_assert(!done[0] && !done[1] && !done[2]);
	ck_assert_int_eq(metric_get(METRIC_REDIS_LOOKUP_OK), 3);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_OK), 1);
}
END_TEST

START_TEST(test_gate__mark_is_kept_where_the_layout_says)
{
	struct gate_mark m = {.timestamp_us = event_us + 599 * SECOND + 999999};
	m.digest.bytes[0] = 0x2b; /* shard 11 */
	gate_mark(gate, &epoch, &m, 1);
	bool done;
	gate_lookup(gate, &epoch, &m, 1, &done);
	command("SCARD t:done:00112233445566778899aabbccddeeff:2945376:11");
	ck_assert_int_eq(integer_reply, 1);
	command("TTL t:done:00112233445566778899aabbccddeeff:2945376:11");
	ck_assert_int_ge(integer_reply, TTL_S + 600 - 5);
	ck_assert_int_le(integer_reply, TTL_S + 600);
	/* A later mark does not prolong the set: it expires as its first one said. */
	command("EXPIRE t:done:00112233445566778899aabbccddeeff:2945376:11 100");
	m.digest.bytes[1] = 1;
	gate_mark(gate, &epoch, &m, 1);
	gate_lookup(gate, &epoch, &m, 1, &done);
	ck_assert(done);
	command("TTL t:done:00112233445566778899aabbccddeeff:2945376:11");
	ck_assert_int_le(integer_reply, 100);
}
END_TEST

START_TEST(test_gate__large_batch_over_many_buckets)
{
	enum { COUNT = 10000 };
	static struct gate_mark all[COUNT], half[COUNT / 2];
	static bool done[COUNT];
	for (uint32_t i = 0; i < COUNT; i++) {
		all[i] = mark_of(i);
		all[i].timestamp_us -= i % 500 * 300 * SECOND;
		if (i % 2)
			half[i / 2] = all[i];
	}
	gate_mark(gate, &epoch, half, COUNT / 2);
	gate_lookup(gate, &epoch, all, COUNT, done);
	for (uint32_t i = 0; i < COUNT; i++)
		ck_assert_msg(done[i] == (i % 2 == 1), "mark %u", i);
	ck_assert(!is_down());
}
END_TEST

START_TEST(test_gate__replies_to_marks_are_counted_at_the_latest_by_free)
{
	mark(1);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_OK), 0);
	mark(2);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_OK), 1);
	ck_assert_int_eq(admit("p", 1, 1, 1), 1);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_OK), 2);
	mark(3);
	gate_free(gate);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_OK), 3);
	gate = gate_new(shared);
	ck_assert(is_done(3));
}
END_TEST

START_TEST(test_gate__key_of_another_type_fails_alone)
{
	struct gate_mark m[2] = {mark_of(1), mark_of(1)};
	m[1].digest.bytes[0] ^= 1; /* another shard */
	char line[160];
	snprintf(line, sizeof(line), "SET t:done:00112233445566778899aabbccddeeff:2945376:%d x",
	         m[0].digest.bytes[0] % 16);
	command(line);
	bool done[2];
	gate_mark(gate, &epoch, m, 2);
	gate_lookup(gate, &epoch, m, 2, done);
	ck_assert(!done[0] && done[1]);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_FAILED), 1);
	ck_assert_int_eq(metric_get(METRIC_REDIS_LOOKUP_FAILED), 1);
	ck_assert(!is_down());
}
END_TEST

START_TEST(test_gate__no_dedup_asks_nothing)
{
	shared->settings.dedup_ttl_s = 0;
	mark(1);
	ck_assert(!is_done(1));
	ck_assert_ptr_null(gate->redis);
}
END_TEST

/* ---- limits ---- */

START_TEST(test_gate__grants_in_part_and_for_all_replicas)
{
	struct gate_shared *other_process = shared;
	struct gate *other = gate;
	open_gate(url, GATE_LOCAL);
	ck_assert_int_eq(admit("p1", 1, 10, 7), 7);
	ck_assert_int_eq(admit("p1", 1, 10, 7), 3);
	ck_assert_int_eq(admit("p1", 1, 10, 7), 0); /* 11 are owed: one waits for that */
	ck_assert_int_eq(admit("p2", 1, 10, 7), 7);
	struct gate_request of_other[2] = {{slice_of("p2"), 1, 10, 7, .granted = -1}, {slice_of("p3"), 1, 10, 7, .granted = -1}};
	ck_assert_int_eq(gate_admit(other, of_other, 2), GATE_OK);
	ck_assert_int_eq(of_other[0].granted, 3);
	ck_assert_int_eq(of_other[1].granted, 7);
	close_gate();
	gate = other;
	shared = other_process;
}
END_TEST

/* What is granted, or comes to its turn by the end, at a rate that is asked for more than it has. */
START_TEST(test_gate__holds_the_rate_over_time)
{
	enum { PER_SECOND = 2000, BURST = 100, ROUNDS = 400, WANTED = 50 };
	static int64_t turns_us[ROUNDS * WANTED];
	int64_t begin_us = clock_mono_us();
	size_t turns = 0;
	for (int i = 0; i < ROUNDS; i++) {
		struct gate_request r = {slice_of("p"), PER_SECOND, BURST, WANTED, .granted = -7};
		int64_t before_us = clock_mono_us() - begin_us;
		ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
		int64_t after_us = clock_mono_us() - begin_us;
		for (int64_t j = 0; j < WANTED; j++)
			turns_us[turns++] = j < r.granted ? after_us : after_us + gate_wait_us(&r, j - r.granted);
		/* Never sooner than it has to be, whatever of the call's time went before Redis looked at its clock. */
		double earliest_us = ((double)(turns - 1) + 1 - BURST) * 1e6 / PER_SECOND;
		ck_assert_msg((double)turns_us[turns - 1] >= earliest_us, "turn %zu", turns);
		ck_assert_msg((double)turns_us[turns - 1] - (double)(after_us - before_us) <=
		                      (earliest_us > 0 ? earliest_us : 0) + (double)turns_us[0] + 1 ||
		                      r.granted == WANTED,
		              "turn %zu is late", turns);
	}
	ck_assert(!is_down());
}
END_TEST

/* The script, with the time as an argument. */
static void put_script_of_arguments(char *script, size_t size)
{
	static const char call[] = "redis.call('TIME')";
	const char *time = strstr(gate_script, call);
	ck_assert(time != NULL);
	snprintf(script, size, "%.*s{ARGV[7], ARGV[8]}%s", (int)(time - gate_script), gate_script,
	         time + strlen(call));
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *state >> 33;
}

START_TEST(test_gate__script_does_as_gcra_does)
{
	static const int64_t rates[] = {1, 3, 7, 999, 1000, 333333, 999999, 1000000};
	static const int64_t bursts[] = {1, 2, 5, 100, 99999, 1000000};
	char script[4096], state[128], numbers[8][24];
	uint64_t seed = (uint64_t)_i * 977 + 5;
	int64_t now_us = event_us, per_second = 7, burst = 5;
	struct gcra model = {0};
	put_script_of_arguments(script, sizeof(script));
	struct redis *r = connect_aside();
	for (int step = 0; step < 1500; step++) {
		if (next_random(&seed) % 20 == 0)
			per_second = rates[next_random(&seed) % ROWS(rates)];
		if (next_random(&seed) % 20 == 0)
			burst = bursts[next_random(&seed) % ROWS(bursts)];
		int64_t scale_us = burst * SECOND / per_second / (int64_t)(1 + next_random(&seed) % 50) + 1;
		now_us += (int64_t)(next_random(&seed) % (uint64_t)scale_us);
		if (next_random(&seed) % 50 == 0)
			now_us -= (int64_t)(next_random(&seed) % 5000000); /* another server's clock */
		int64_t wanted = (int64_t)(next_random(&seed) % (uint64_t)(burst + 2));
		int64_t shown = next_random(&seed) % 3 == 0 ? model.generation : (int64_t)(next_random(&seed) % 3);
		const struct gcra_ask ask = {per_second, burst, wanted, shown,
		                             GCRA_GENERATION_MAX - (int64_t)(next_random(&seed) % 1000)};
		/* Kept for longer than the test takes: the key's life runs on the server's clock. */
		const int64_t arguments[8] = {per_second, burst,   wanted,          shown,
		                              ask.drawn,  1000000, now_us / SECOND, now_us % SECOND};
		const char *argv[12] = {"EVAL", script, "1", "t:model"};
		for (int i = 0; i < 8; i++) {
			snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, arguments[i]);
			argv[4 + i] = numbers[i];
		}
		redis_append(r, 12, argv, NULL);
		ck_assert_msg(receive_aside(r) == REPLY_INTEGERS, "%s", text_reply);
		const struct gcra_answer expected = gcra_charge(&model, now_us, &ask);
		const int64_t all[3] = {expected.granted, expected.over, expected.generation};
		for (int i = 0; i < 3; i++)
			ck_assert_msg(integers_reply[i] == all[i], "seed %d, step %d: [%d] is %" PRId64 ", not %" PRId64, _i,
			              step, i, integers_reply[i], all[i]);
		redis_append(r, 2, (const char *[]){"GET", "t:model"}, NULL);
		if (receive_aside(r) == REPLY_NIL)
			continue;
		snprintf(state, sizeof(state), "%" PRId64 ":%" PRId64 ":%" PRId64 ":%" PRId64 ":%" PRId64, model.full_at_us,
		         model.remainder, model.per_second, model.seen_us, model.generation);
		ck_assert_str_eq(text_reply, state);
	}
	redis_close(r);
}
END_TEST

/* Numbers at the end of what a script can hold are as exact as C's. */
START_TEST(test_gate__script_is_exact_at_its_bounds)
{
	struct gate_request r = {slice_of("p"), 1, 1, 2000000000, .granted = -7};
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	ck_assert_int_eq(r.granted, 1);
	ck_assert_int_eq(r.over, GCRA_CELL);
	r = (struct gate_request){slice_of("p"), 1, 1, 2000000000, .granted = -7};
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	ck_assert_int_gt(r.over, GCRA_DEBT_MAX - 60 * GCRA_CELL);
	ck_assert_int_le(r.over, GCRA_DEBT_MAX);
	ck_assert(!is_down());
}
END_TEST

/* A slot is of one key: while that is there, who shows its generation was charged; a flush makes another one. */
START_TEST(test_gate__slots_hold_until_the_key_is_lost)
{
	struct gate_request first = {slice_of("p"), 10, 5, 20, .granted = -7};
	ck_assert_int_eq(gate_admit(gate, &first, 1), GATE_OK);
	ck_assert_int_eq(first.granted, 5);
	ck_assert_int_gt(first.generation, 0);
	struct gate_request again = {slice_of("p"), 10, 5, 7, .granted = -7, .shown = first.generation};
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(gate_admit(gate, &again, 1), GATE_OK);
		ck_assert_int_eq(again.granted, 7);
		ck_assert_int_eq(again.generation, first.generation);
		/* All that were charged: 15 beyond the burst, less what was paid since. */
		ck_assert_int_le(gate_wait_us(&again, 0), 1500000);
		ck_assert_int_gt(gate_wait_us(&again, 0), 0);
	}
	/* Another rate: asked anew. So is who shows a slot of a key that is gone. */
	struct gate_request faster = {slice_of("p"), 20, 5, 7, .granted = -7, .shown = first.generation};
	ck_assert_int_eq(gate_admit(gate, &faster, 1), GATE_OK);
	ck_assert_int_eq(faster.granted, 0);
	ck_assert_int_ne(faster.generation, first.generation);
	command("FLUSHALL");
	again.shown = faster.generation;
	ck_assert_int_eq(gate_admit(gate, &again, 1), GATE_OK);
	ck_assert_int_eq(again.granted, 5);
	ck_assert_int_ne(again.generation, faster.generation);
}
END_TEST

/* Without Redis its slots are not taken on trust: this process' limiter charges anew, and so does Redis later. */
START_TEST(test_gate__slots_of_redis_are_asked_for_anew_without_it)
{
	struct gate_request r = {slice_of("p"), 10, 6, 20, .granted = -7};
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	int64_t of_redis = r.generation;
	private_redis_crash(&server);
	gate_shared_set_share(shared, 0.5);
	r = (struct gate_request){slice_of("p"), 10, 6, 5, .granted = -7, .shown = of_redis};
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	ck_assert_int_eq(r.granted, 3);
	ck_assert_int_ne(r.generation, of_redis);
	/* At half the rate of ten a second. */
	ck_assert_int_gt(gate_wait_us(&r, 0), 190000);
	ck_assert_int_le(gate_wait_us(&r, 0), 200000);
	ck_assert_int_le(gate_wait_us(&r, 1) - gate_wait_us(&r, 0), 200001);
	/* Its own hold while it is the one that is asked. */
	int64_t local = r.generation;
	r = (struct gate_request){slice_of("p"), 10, 6, 2, .granted = -7, .shown = local};
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	ck_assert_int_eq(r.generation, local);
	ck_assert(private_redis_launch(&server, NULL, NULL));
	backoff_passes();
	r = (struct gate_request){slice_of("p"), 10, 6, 2, .granted = -7, .shown = local};
	ck_assert_int_eq(gate_admit(gate, &r, 1), GATE_OK);
	ck_assert_int_ne(r.generation, local);
}
END_TEST

START_TEST(test_gate__bucket_expires_when_it_is_full_and_the_last_slot_is_over)
{
	ck_assert_int_eq(admit("p", 2, 10, 20), 10);
	command("PTTL t:limit:p");
	ck_assert_int_ge(integer_reply, 10000 + SLOT_LIFE_MS - 2000);
	ck_assert_int_le(integer_reply, 10000 + SLOT_LIFE_MS + 2);
}
END_TEST

START_TEST(test_gate__lost_script_is_loaded_again)
{
	ck_assert_int_eq(admit("p", 1, 10, 4), 4);
	command("SCRIPT FLUSH");
	struct gate_request r[3] = {
		{slice_of("p"), 1, 10, 4, .granted = -1}, {slice_of("q"), 1, 10, 4, .granted = -1}, {slice_of("r"), 1, 3, 4, .granted = -1}};
	ck_assert_int_eq(gate_admit(gate, r, 3), GATE_OK);
	ck_assert_int_eq(r[0].granted, 4);
	ck_assert_int_eq(r[1].granted, 4);
	ck_assert_int_eq(r[2].granted, 3);
	ck_assert_int_eq(metric_get(METRIC_REDIS_ADMIT_FAILED), 0);
	ck_assert(!is_down());
}
END_TEST

START_TEST(test_gate__spoiled_bucket_is_a_full_one)
{
	command("RPUSH t:limit:p x");
	command("SET t:limit:q nonsense");
	command("SET t:limit:r 9000000000000000:0:1:1:0"); /* a generation that nobody draws */
	ck_assert_int_eq(admit("p", 1, 10, 20), 10);
	ck_assert_int_eq(admit("p", 1, 10, 20), 0);
	ck_assert_int_eq(admit("q", 1, 10, 20), 10);
	ck_assert_int_eq(admit("q", 1, 10, 20), 0);
	ck_assert_int_eq(admit("r", 1, 10, 20), 10);
}
END_TEST

/* ---- outages ---- */

START_TEST(test_gate__flushed_redis_costs_work_only)
{
	mark(1);
	ck_assert(is_done(1));
	command("FLUSHALL");
	ck_assert(!is_done(1));
	mark(1);
	ck_assert(is_done(1));
	ck_assert(!is_down());
}
END_TEST

START_TEST(test_gate__restarted_empty_redis_is_no_outage)
{
	mark(1);
	ck_assert(is_done(1));
	ck_assert_int_eq(admit("p", 1, 10, 20), 10);
	private_redis_crash(&server);
	ck_assert(private_redis_launch(&server, NULL, NULL));
	ck_assert(!is_done(1));
	mark(1);
	ck_assert(is_done(1));
	ck_assert_int_eq(admit("p", 1, 10, 20), 10);
	ck_assert(!is_down());
	ck_assert_int_eq(log_lines("redis is"), 0);
}
END_TEST

START_TEST(test_gate__connection_closed_while_idle_is_no_outage)
{
	mark(1);
	ck_assert(is_done(1));
	command("CLIENT KILL TYPE normal SKIPME yes");
	ck_assert(is_done(1));
	ck_assert(!is_down());
}
END_TEST

START_TEST(test_gate__absent_redis_is_told_once_and_left_alone)
{
	mark(1);
	ck_assert(is_done(1));
	private_redis_crash(&server);
	for (int i = 0; i < 20; i++) {
		ck_assert(!is_done(1));
		mark(1);
		if (i % 5 == 4)
			backoff_passes();
	}
	ck_assert(is_down());
	ck_assert_int_ge(metric_get(METRIC_REDIS_LOOKUP_FAILED) + metric_get(METRIC_REDIS_MARK_FAILED), 4);
	ck_assert_int_le(metric_get(METRIC_REDIS_LOOKUP_FAILED) + metric_get(METRIC_REDIS_MARK_FAILED), 6);
	ck_assert_int_eq(log_lines("redis is down"), 1);

	ck_assert(private_redis_launch(&server, NULL, NULL));
	backoff_passes();
	gate_tend(gate); /* an idle worker finds out, too */
	ck_assert(!is_down());
	mark(1);
	ck_assert(is_done(1));
	ck_assert_int_eq(log_lines("redis is back"), 1);
	ck_assert_int_eq(log_lines("redis is down"), 1);
}
END_TEST

static const struct refusal {
	const char *begin, *end, *reason;
} refusals[] = {
	{"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"},
	{"CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"},
	{"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"},
};

START_TEST(test_gate__refused_writes_show_until_they_end)
{
	mark(1);
	ck_assert(is_done(1));
	ck_assert_int_eq(command(refusals[_i].begin), REPLY_STATUS);
	mark(2);
	ck_assert(!is_down()); /* not known yet: nobody waits for marks */
	ck_assert(is_done(1)); /* look-ups behind refused marks are good */
	ck_assert(is_down());
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_FAILED), 1);
	ck_assert_int_eq(log_lines(refusals[_i].reason), 1);
	/* Each probe writes, so it does not flap. */
	for (int i = 0; i < 3; i++) {
		backoff_passes();
		ck_assert(!is_done(1));
		ck_assert(is_down());
	}
	ck_assert_int_eq(admit("p", 1, 5, 9), 5);
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_RATE_LIMIT), 1);

	ck_assert_int_eq(command(refusals[_i].end), REPLY_STATUS);
	backoff_passes();
	mark(2);
	ck_assert(is_done(2));
	ck_assert(!is_down());
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_RATE_LIMIT), 0);
	ck_assert_int_eq(log_lines("redis is down"), 1);
	ck_assert_int_eq(log_lines("redis is back"), 1);
}
END_TEST

START_TEST(test_gate__frozen_redis_costs_one_timeout)
{
	mark(1);
	ck_assert(is_done(1));
	kill(server.pid, SIGSTOP);
	int64_t begin_us = clock_mono_us();
	ck_assert(!is_done(1));
	int64_t first_us = clock_mono_us() - begin_us;
	ck_assert_int_ge(first_us, TIMEOUT_MS * 1000);
	ck_assert_int_lt(first_us, 4 * TIMEOUT_MS * 1000);
	shared->outage.retry_at_us = INT64_MAX;
	begin_us = clock_mono_us();
	for (int i = 0; i < 1000; i++) {
		ck_assert(!is_done(1));
		mark(1);
	}
	ck_assert_int_lt(clock_mono_us() - begin_us, TIMEOUT_MS * 1000);
	kill(server.pid, SIGCONT);
	backoff_passes();
	ck_assert(is_done(1));
	ck_assert(!is_down());
}
END_TEST

START_TEST(test_gate__frozen_redis_does_not_hold_up_marks_or_free)
{
	enum { COUNT = 10000 };
	static struct gate_mark many[COUNT];
	for (uint32_t i = 0; i < COUNT; i++)
		many[i] = mark_of(i);
	ck_assert(!is_done(1));
	kill(server.pid, SIGSTOP);
	int64_t begin_us = clock_mono_us();
	gate_mark(gate, &epoch, many, 100); /* fits the socket */
	ck_assert_int_lt(clock_mono_us() - begin_us, TIMEOUT_MS * 1000);
	gate_free(gate);
	ck_assert_int_eq(metric_get(METRIC_REDIS_MARK_FAILED), 1);
	ck_assert_int_lt(clock_mono_us() - begin_us, 3 * TIMEOUT_MS * 1000);
	kill(server.pid, SIGCONT);
	gate = gate_new(shared);

	/* Far more than the socket takes: bounded as well. */
	ck_assert(!is_done(COUNT + 1));
	kill(server.pid, SIGSTOP);
	begin_us = clock_mono_us();
	for (int i = 0; i < 100; i++)
		gate_mark(gate, &epoch, many, COUNT);
	ck_assert(is_down());
	ck_assert_int_lt(clock_mono_us() - begin_us, 20 * TIMEOUT_MS * 1000);
	kill(server.pid, SIGCONT);
}
END_TEST

START_TEST(test_gate__limits_fall_back_to_the_share)
{
	ck_assert_int_eq(admit("p", 1, 10, 4), 4);
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_RATE_LIMIT), 0);
	private_redis_crash(&server);
	gate_shared_set_share(shared, 0.5);
	ck_assert_int_eq(admit("p", 1, 10, 20), 5);
	ck_assert_int_eq(admit("p", 1, 10, 20), 0);
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_RATE_LIMIT), 1);
	ck_assert_int_eq(metric_get(METRIC_REDIS_ADMIT_OK), 1);
	ck_assert_int_eq(metric_get(METRIC_REDIS_ADMIT_FAILED), 1);
}
END_TEST

START_TEST(test_gate__limits_wait_by_option)
{
	close_gate();
	open_gate(url, GATE_HOLD);
	ck_assert_int_eq(admit("p", 1, 10, 4), 4);
	private_redis_crash(&server);
	struct gate_request r[2] = {{slice_of("p"), 1, 10, 4, .granted = -1}, {slice_of("q"), 1, 10, 4, .granted = -1}};
	ck_assert_int_eq(gate_admit(gate, r, 2), GATE_WAIT);
	ck_assert_int_eq(r[0].granted, 0);
	ck_assert_int_eq(r[1].granted, 0);
	ck_assert(private_redis_launch(&server, NULL, NULL));
	backoff_passes();
	ck_assert_int_eq(gate_admit(gate, r, 2), GATE_OK);
	ck_assert_int_eq(r[0].granted, 4);
}
END_TEST

START_TEST(test_gate__without_a_url_limits_are_local)
{
	close_gate();
	open_gate("", GATE_HOLD);
	mark(1);
	ck_assert(!is_done(1));
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_RATE_LIMIT), 0);
	ck_assert_int_eq(admit("p", 1, 10, 20), 10);
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_RATE_LIMIT), 1);
	ck_assert_int_eq(metric_get(METRIC_DEGRADED_DEDUP), 0);
	ck_assert_int_eq(metric_get(METRIC_UP_REDIS), METRIC_UNKNOWN); /* nobody asked it anything */
}
END_TEST

/* ---- connecting ---- */

START_TEST(test_gate__authenticates_and_never_tells_the_password)
{
	char detail[512];
	struct gate_settings settings = {.url = url, .prefix = "t:", .timeout_ms = TIMEOUT_MS, .dedup_ttl_s = TTL_S};
	command("ACL SETUSER ana on >hunter2 ~* +@all");
	snprintf(url, sizeof(url), "redis://ana:hunter2@127.0.0.1:%d", server.port);
	ck_assert_msg(gate_probe(&settings, true, detail, sizeof(detail)) == 0, "%s", detail);
	command("CONFIG SET requirepass hunter1");
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", server.port);
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), -1);
	ck_assert_msg(strstr(detail, "NOAUTH") != NULL, "%s", detail);
	snprintf(url, sizeof(url), "redis://:hunter1@127.0.0.1:%d", server.port);
	ck_assert_msg(gate_probe(&settings, true, detail, sizeof(detail)) == 0, "%s", detail);
	ck_assert_msg(strstr(detail, "hunter") == NULL, "%s", detail);

	snprintf(url, sizeof(url), "redis://ana:hunter3@127.0.0.1:%d", server.port);
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), -1);
	ck_assert_msg(strstr(detail, "AUTH refused: WRONGPASS") && !strstr(detail, "hunter"), "%s", detail);
	close_gate();
	open_gate(url, GATE_LOCAL);
	ck_assert(!is_done(1));
	ck_assert(is_down());
	ck_assert_int_eq(log_lines("WRONGPASS"), 1);
	ck_assert_int_eq(log_lines("hunter"), 0);
}
END_TEST

START_TEST(test_gate__speaks_through_a_socket)
{
	close_gate();
	snprintf(url, sizeof(url), "unix://%s", server.socket);
	open_gate(url, GATE_LOCAL);
	mark(1);
	ck_assert(is_done(1));
	ck_assert_int_eq(admit("p", 1, 1, 1), 1);
}
END_TEST

START_TEST(test_gate__uses_the_database_of_the_url)
{
	mark(1);
	ck_assert(is_done(1));
	command("DBSIZE");
	ck_assert_int_ge(integer_reply, 1);
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d/0", server.port);
	command("DBSIZE");
	ck_assert_int_eq(integer_reply, 0);
}
END_TEST

START_TEST(test_gate__probe_finds_what_is_unfit)
{
	char detail[512];
	struct gate_settings settings = {.url = url, .prefix = "t:", .timeout_ms = TIMEOUT_MS, .dedup_ttl_s = TTL_S};
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), 0);
	ck_assert_msg(strncmp(detail, "Redis ", 6) == 0 && strstr(detail, "hiredis"), "%s", detail);
	command("CONFIG SET maxmemory 1");
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), -1);
	ck_assert_msg(strstr(detail, "SADD refused: OOM") != NULL, "%s", detail);
	command("CONFIG SET maxmemory 0");
	command("ACL SETUSER default -eval");
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), -1);
	ck_assert_msg(strstr(detail, "EVAL refused: NOPERM") != NULL, "%s", detail);
	ck_assert_int_eq(gate_probe(&settings, false, detail, sizeof(detail)), 0); /* no partner has a limit */
	private_redis_crash(&server);
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), -1);
	ck_assert_msg(strstr(detail, "refused") != NULL, "%s", detail);
	ck_assert(private_redis_launch(&server, "--cluster-enabled", "yes"));
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", server.port);
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), -1);
	ck_assert_msg(strstr(detail, "cluster") != NULL, "%s", detail);
	char nodes[128];
	snprintf(nodes, sizeof(nodes), "%s/nodes.conf", server.folder);
	unlink(nodes);
	settings.url = "";
	ck_assert_int_eq(gate_probe(&settings, true, detail, sizeof(detail)), 0);
}
END_TEST

/* Just what the gate does, and each of it. */
static const struct {
	const char *command;
	const char *refused; /* NULL: done without */
} rights[] = {
	{"sadd", "SADD"}, {"expire", "EXPIRE"}, {"smismember", "SMISMEMBER"}, {"script", "SCRIPT"}, {"eval", "EVAL"},
	{"evalsha", "EVALSHA"}, {"info", NULL}, {"select", NULL}, {"client", NULL},
};

START_TEST(test_gate__probe_asks_for_what_is_needed_only)
{
	char detail[512], text[64];
	struct gate_settings settings = {.url = url, .prefix = "t:", .timeout_ms = TIMEOUT_MS, .dedup_ttl_s = TTL_S};
	const char *refused = rights[_i].refused;
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", server.port);
	snprintf(text, sizeof(text), "ACL SETUSER default -%s", rights[_i].command);
	command(text);
	ck_assert_msg(gate_probe(&settings, true, detail, sizeof(detail)) == (refused ? -1 : 0), "%s", detail);
	if (refused) {
		snprintf(text, sizeof(text), ": %s refused: NOPERM", refused);
		ck_assert_msg(strstr(detail, text) != NULL, "%s", detail);
	}
	settings.dedup_ttl_s = 0;
	ck_assert_msg(gate_probe(&settings, false, detail, sizeof(detail)) == 0, "%s", detail);
}
END_TEST

/* ---- servers that are not Redis ---- */

static int listen_as(struct redis_target *target)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	*target = (struct redis_target){.host = "127.0.0.1", .port = ntohs(address.sin_port)};
	return listener;
}

/* Always has another byte, but never an answer: each read is quick, the whole is not. */
static void *drip(void *argument)
{
	int fd = accept(*(int *)argument, NULL, NULL);
	while (send(fd, "+", 1, MSG_NOSIGNAL) == 1)
		(void)poll(NULL, 0, 10);
	close(fd);
	return NULL;
}

START_TEST(test_gate__dripping_redis_is_bound_by_the_deadline)
{
	struct redis_target target;
	char error[256];
	int listener = listen_as(&target);
	pthread_t thread = thread_start("drip", drip, &listener);
	int64_t begin_us = clock_mono_us();
	ck_assert_ptr_null(redis_connect(&target, NULL, TIMEOUT_MS, error, sizeof(error)));
	ck_assert_str_eq(error, "timed out");
	ck_assert_int_ge(clock_mono_us() - begin_us, TIMEOUT_MS * 1000);
	ck_assert_int_lt(clock_mono_us() - begin_us, 3 * TIMEOUT_MS * 1000);
	thread_join(thread);
	close(listener);
}
END_TEST

/* Answers each byte with a byte of answers, and takes no more before those are taken. */
static void *answer_first(void *argument)
{
	static char in[65536], out[sizeof(in) + 4];
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = ":1\r\n"[i % 4];
	int fd = accept(*(int *)argument, NULL, NULL);
	ssize_t n, phase = 0;
	while ((n = recv(fd, in, sizeof(in), 0)) > 0) {
		for (ssize_t sent = 0, more; sent < n; sent += more) {
			more = send(fd, out + phase, (size_t)(n - sent), MSG_NOSIGNAL);
			if (more <= 0)
				break;
			phase = (phase + more) % 4;
		}
	}
	close(fd);
	return NULL;
}

/* A Redis by its answers alone, which keeps those to EVALSHA back until a part of them is there. */
struct slow_redis {
	int listener;
	int limits;      /* EVALSHA of real scripts so far */
	int part;
	bool overfilled; /* more had been sent before the first of a part was answered */
};

/* "*2\r\n$4\r\nPING\r\n…" Returns: false at the end. */
static bool read_command(FILE *in, char name[16], char argument[16])
{
	int count, len;
	if (fscanf(in, "*%d\r\n", &count) != 1)
		return false;
	for (int i = 0; i < count; i++) {
		char data[4096];
		if (fscanf(in, "$%d", &len) != 1 || len < 0 || len >= (int)sizeof(data) || fgetc(in) != '\r' || fgetc(in) != '\n' ||
		    fread(data, 1, (size_t)len + 2, in) != (size_t)len + 2)
			return false;
		data[len] = '\0';
		if (i < 2)
			snprintf(i ? argument : name, 16, "%.15s", data);
	}
	return true;
}

static void *answer_in_parts(void *argument)
{
	struct slow_redis *slow = argument;
	char name[16] = "", first[16] = "";
	int fd = accept(slow->listener, NULL, NULL), held = 0, waiting = 0;
	FILE *in = fdopen(fd, "r");
	ck_assert(in && setvbuf(in, NULL, _IONBF, 0) == 0);
	while (read_command(in, name, first)) {
		const char *answer = "+OK\r\n";
		if (strcmp(name, "SCRIPT") == 0)
			answer = "$40\r\n1234567890123456789012345678901234567890\r\n";
		else if (strcmp(name, "SMISMEMBER") == 0)
			answer = "*1\r\n:0\r\n";
		else if (strcmp(name, "EVAL") == 0 || strcmp(name, "EVALSHA") == 0)
			answer = "*3\r\n:1\r\n:0\r\n:1\r\n";
		if (strcmp(name, "EVALSHA") == 0 && first[0] == '1') {
			slow->limits++;
			if (++held < slow->part)
				continue;
			slow->overfilled |= ioctl(fd, FIONREAD, &waiting) == 0 && waiting > 0;
		}
		for (int i = 0; i < (held ? held : 1); i++)
			(void)!send(fd, answer, strlen(answer), MSG_NOSIGNAL);
		held = 0;
	}
	fclose(in);
	return NULL;
}

/* Ten thousand at once would be as long as a time limit, which is for one round trip. */
START_TEST(test_gate__many_partners_are_asked_for_in_parts)
{
	enum { PARTS = 4, PART = 256 };
	static struct gate_request requests[PARTS * PART];
	struct redis_target target;
	struct slow_redis slow = {.listener = listen_as(&target), .part = PART};
	pthread_t thread;
	ck_assert_int_eq(pthread_create(&thread, NULL, answer_in_parts, &slow), 0);
	close_gate();
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", target.port);
	open_gate(url, GATE_LOCAL);
	for (size_t i = 0; i < PARTS * PART; i++)
		requests[i] = (struct gate_request){
			.partner_id = slice_of("p"), .per_second = 1, .burst = 1, .wanted = 1, .granted = -1};
	ck_assert_int_eq(gate_admit(gate, requests, PARTS * PART), GATE_OK);
	for (size_t i = 0; i < PARTS * PART; i++)
		ck_assert_int_eq(requests[i].granted, 1);
	close_gate();
	pthread_join(thread, NULL);
	ck_assert_int_eq(slow.limits, PARTS * PART);
	ck_assert(!slow.overfilled);
	close(slow.listener);
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", server.port);
	open_gate(url, GATE_LOCAL);
}
END_TEST

START_TEST(test_gate__large_pipeline_reads_while_it_writes)
{
	enum { COMMANDS = 320, BYTES = 50000 }; /* 16 MB: more than the sockets take in both directions */
	static char bytes[BYTES];
	struct redis_target target;
	struct redis_reply reply;
	char error[256];
	int listener = listen_as(&target);
	pthread_t thread = thread_start("answer", answer_first, &listener);
	struct redis *r = redis_connect(&target, NULL, TIMEOUT_MS, error, sizeof(error));
	ck_assert_msg(r != NULL, "%s", error);
	for (int i = 0; i < COMMANDS; i++)
		redis_append(r, 2, (const char *[]){"PING", bytes}, (const size_t[]){4, sizeof(bytes)});
	ck_assert_msg(redis_send(r, clock_mono_us() + 20 * SECOND) == 0, "%s", redis_error(r));
	while (redis_owed(r) > 0) {
		ck_assert_int_eq(redis_receive(r, clock_mono_us() + SECOND, &reply), 0);
		ck_assert(reply.kind == REPLY_INTEGER && reply.integer == 1);
	}
	redis_close(r);
	thread_join(thread);
	close(listener);
}
END_TEST

/* ---- several workers ---- */

enum { WORKERS = 4 };
static _Atomic bool working;
static _Atomic int rounds;

static void *work(void *argument)
{
	uint32_t n = *(uint32_t *)argument * 1000;
	struct gate *own = gate_new(shared);
	while (working) {
		struct gate_mark m[5];
		bool done[5];
		for (uint32_t i = 0; i < 5; i++)
			m[i] = mark_of(n + i);
		struct gate_request r = {slice_of("p"), 1000, 100, 3, .granted = -1};
		gate_lookup(own, &epoch, m, 5, done);
		if (gate_admit(own, &r, 1) != GATE_OK || r.granted < 0 || r.granted > 3)
			abort();
		gate_mark(own, &epoch, m, 5);
		rounds++;
	}
	gate_free(own);
	return NULL;
}

static void await_rounds(int more)
{
	for (int until = rounds + more; rounds < until;)
		(void)poll(NULL, 0, 1);
}

START_TEST(test_gate__workers_share_one_outage)
{
	pthread_t threads[WORKERS];
	uint32_t names[WORKERS];
	working = true;
	for (uint32_t i = 0; i < WORKERS; i++) {
		names[i] = i;
		threads[i] = thread_start("worker", work, &names[i]);
	}
	await_rounds(200);
	for (int i = 0; i < 3; i++) {
		private_redis_crash(&server);
		await_rounds(200);
		ck_assert(private_redis_launch(&server, NULL, NULL));
		backoff_passes();
		await_rounds(200);
	}
	working = false;
	for (int i = 0; i < WORKERS; i++)
		thread_join(threads[i]);
	backoff_passes();
	mark(1);
	ck_assert(is_done(1));
	ck_assert(!is_down());
	ck_assert_int_eq(log_lines("redis is down"), log_lines("redis is back"));
	ck_assert_int_le(log_lines("redis is down"), 3);
}
END_TEST

static void add(Suite *suite, TCase *tc)
{
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("gate");
	TCase *tc = tcase_create("marks");
	tcase_add_test(tc, test_gate__marks_are_found_by_epoch);
	tcase_add_test(tc, test_gate__mark_is_kept_where_the_layout_says);
	tcase_add_test(tc, test_gate__large_batch_over_many_buckets);
	tcase_add_test(tc, test_gate__replies_to_marks_are_counted_at_the_latest_by_free);
	tcase_add_test(tc, test_gate__key_of_another_type_fails_alone);
	tcase_add_test(tc, test_gate__no_dedup_asks_nothing);
	add(suite, tc);
	tc = tcase_create("limits");
	tcase_add_test(tc, test_gate__grants_in_part_and_for_all_replicas);
	tcase_add_test(tc, test_gate__holds_the_rate_over_time);
	tcase_add_loop_test(tc, test_gate__script_does_as_gcra_does, 0, 3);
	tcase_add_test(tc, test_gate__script_is_exact_at_its_bounds);
	tcase_add_test(tc, test_gate__slots_hold_until_the_key_is_lost);
	tcase_add_test(tc, test_gate__slots_of_redis_are_asked_for_anew_without_it);
	tcase_add_test(tc, test_gate__bucket_expires_when_it_is_full_and_the_last_slot_is_over);
	tcase_add_test(tc, test_gate__lost_script_is_loaded_again);
	tcase_add_test(tc, test_gate__spoiled_bucket_is_a_full_one);
	add(suite, tc);
	tc = tcase_create("outages");
	tcase_add_test(tc, test_gate__flushed_redis_costs_work_only);
	tcase_add_test(tc, test_gate__restarted_empty_redis_is_no_outage);
	tcase_add_test(tc, test_gate__connection_closed_while_idle_is_no_outage);
	tcase_add_test(tc, test_gate__absent_redis_is_told_once_and_left_alone);
	tcase_add_loop_test(tc, test_gate__refused_writes_show_until_they_end, 0, ROWS(refusals));
	tcase_add_test(tc, test_gate__frozen_redis_costs_one_timeout);
	tcase_add_test(tc, test_gate__frozen_redis_does_not_hold_up_marks_or_free);
	tcase_add_test(tc, test_gate__limits_fall_back_to_the_share);
	tcase_add_test(tc, test_gate__limits_wait_by_option);
	tcase_add_test(tc, test_gate__without_a_url_limits_are_local);
	tcase_add_test(tc, test_gate__workers_share_one_outage);
	add(suite, tc);
	tc = tcase_create("connecting");
	tcase_add_test(tc, test_gate__authenticates_and_never_tells_the_password);
	tcase_add_test(tc, test_gate__speaks_through_a_socket);
	tcase_add_test(tc, test_gate__uses_the_database_of_the_url);
	tcase_add_test(tc, test_gate__probe_finds_what_is_unfit);
	tcase_add_loop_test(tc, test_gate__probe_asks_for_what_is_needed_only, 0, ROWS(rights));
	tcase_add_test(tc, test_gate__dripping_redis_is_bound_by_the_deadline);
	tcase_add_test(tc, test_gate__many_partners_are_asked_for_in_parts);
	tcase_add_test(tc, test_gate__large_pipeline_reads_while_it_writes);
	add(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
