#include "worker/gate/gate.h"

#include "common/clock.h"
#include "common/thread.h"
#include "worker/gate/internal.h"

#include <inttypes.h>
#include <stdio.h>

enum {
	UNANSWERED = -1, /* of a request's `granted`, inside this file */
	PART_MAX = 256,  /* partners in one round trip: some milliseconds of Redis */
};

/*
 * gcra.c in Lua, on Redis' clock, which all replicas share. The state is
 * "full_at_us:remainder:per_second:seen_us:generation"; every number is below 2^53, or its only use is that it is
 * larger than the most that can be owed. A key of another type or form is a new bucket. The key expires when the
 * bucket is full again and the last turn is over, ARGV[6] ms later (a millisecond more: expiry is cut to those).
 */
const char gate_script[] =
	"local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
	"local shown, drawn, life = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])\n"
	"local time = redis.call('TIME')\n"
	"local now = tonumber(time[1]) * 1000000 + tonumber(time[2])\n"
	"local full_at, remainder, kept_rate, seen, generation = 0, 0, 0, 0, 0\n"
	"local kept = redis.pcall('GET', KEYS[1])\n"
	"if type(kept) == 'string' then\n"
	"  local a, b, c, d, e = string.match(kept, '^(%d+):(%d+):(%d+):(%d+):(%d+)$')\n"
	"  if a and tonumber(e) > 0 then\n"
	"    full_at, remainder, kept_rate = tonumber(a), tonumber(b), tonumber(c)\n"
	"    seen, generation = tonumber(d), tonumber(e)\n"
	"  end\n"
	"end\n"
	"local debt, free, most = 0, burst * 1000000, 4000000000000000\n"
	"local ahead = full_at - math.max(seen, now)\n"
	"if ahead >= 0 then debt = math.min(ahead * rate + math.min(remainder, rate - 1), most) end\n"
	"if kept_rate ~= rate then debt, generation = math.min(debt, free), drawn end\n"
	"if generation == shown then return {wanted, math.max(0, debt - free), generation} end\n"
	"local granted = math.max(0, math.min(wanted, math.floor((free - debt) / 1000000)))\n"
	"local over = math.max(0, debt + (granted + 1) * 1000000 - free)\n"
	"debt = math.min(debt + wanted * 1000000, most)\n"
	"ahead = math.floor(debt / rate)\n"
	"redis.call('SET', KEYS[1], string.format('%.0f:%.0f:%.0f:%.0f:%.0f', now + ahead, debt - ahead * rate, rate,\n"
	"  now, generation), 'PX', string.format('%.0f', math.ceil(ahead / 1000) + 1 + life))\n"
	"return {granted, over, generation}\n";

enum { ARGUMENTS = 6 };

static struct gcra_ask ask_of(struct gate *g, const struct gate_request *r)
{
	return (struct gcra_ask){.per_second = r->per_second,
	                         .burst = r->burst,
	                         .wanted = r->wanted,
	                         .shown = r->shown,
	                         .drawn = 1 + (int64_t)prng_below(&g->random, GCRA_GENERATION_MAX)};
}

/* The name is not that of earlier versions' keys ("rate:"), which hold another form: side by side they would take
 * each other's for new buckets, at each call. */
static void append_take(struct gate *g, const char *command, const char *script, const struct gate_request *r)
{
	const struct gcra_ask ask = ask_of(g, r);
	const int64_t numbers[ARGUMENTS] = {ask.per_second, ask.burst, ask.wanted,
	                                    ask.shown,      ask.drawn, g->shared->settings.slot_life_ms};
	char key[GATE_KEY_MAX], texts[ARGUMENTS][24];
	const char *argv[4 + ARGUMENTS] = {command, script, "1", key};
	snprintf(key, sizeof(key), "%slimit:%.*s", g->shared->prefix, (int)r->partner_id.len, r->partner_id.data);
	for (int i = 0; i < ARGUMENTS; i++) {
		snprintf(texts[i], sizeof(texts[i]), "%" PRId64, numbers[i]);
		argv[4 + i] = texts[i];
	}
	redis_append(g->redis, 4 + ARGUMENTS, argv, NULL);
}

static void set_answer(struct gate_request *r, const struct gcra_answer *a, double stretch)
{
	r->granted = a->granted;
	r->over = a->over;
	r->generation = a->generation;
	r->stretch = stretch;
}

/* Returns: whether the reply is an answer to `r`. */
static bool read_answer(const struct redis_reply *reply, struct gate_request *r)
{
	if (reply->kind != REPLY_INTEGERS || reply->count != 3)
		return false;
	const struct gcra_answer a = {reply->integers[0], reply->integers[1], reply->integers[2]};
	if (a.granted < 0 || a.granted > r->wanted || a.over < 0 || a.over > GCRA_DEBT_MAX + GCRA_CELL ||
	    a.generation < 1 || a.generation > GCRA_GENERATION_MAX)
		return false;
	set_answer(r, &a, 1);
	return true;
}

/* The script's digest comes from Redis, so that nothing here has to know SHA-1. */
static int load_script(struct gate *g)
{
	struct redis_reply reply;
	redis_append(g->redis, 3, (const char *[]){"SCRIPT", "LOAD", gate_script}, NULL);
	if (redis_send(g->redis, g->deadline_us) < 0 || redis_receive(g->redis, g->deadline_us, &reply) < 0)
		return gate_lost(g);
	if (reply.kind != REPLY_TEXT || reply.text.len != sizeof(g->script_sha) - 1)
		return gate_refused(g, "SCRIPT LOAD", &reply);
	memcpy(g->script_sha, reply.text.data, sizeof(g->script_sha));
	return 0;
}

/* Asks for all that have no answer yet, in one pipeline. Returns: how many still have none; -1. */
static int ask(struct gate *g, const char *command, const char *script, struct gate_request *requests, size_t count)
{
	int unanswered = 0;
	for (size_t i = 0; i < count; i++) {
		if (requests[i].granted == UNANSWERED)
			append_take(g, command, script, &requests[i]);
	}
	if (redis_send(g->redis, g->deadline_us) < 0)
		return gate_lost(g);
	for (size_t i = 0; i < count; i++) {
		struct redis_reply reply;
		if (requests[i].granted != UNANSWERED)
			continue;
		if (redis_receive(g->redis, g->deadline_us, &reply) < 0)
			return gate_lost(g);
		if (redis_reply_is(&reply, "NOSCRIPT"))
			unanswered++;
		else if (!read_answer(&reply, &requests[i]))
			return gate_refused(g, "limit", &reply);
	}
	return unanswered;
}

static int ask_part(struct gate *g, struct gate_request *requests, size_t count)
{
	int unanswered = ask(g, "EVALSHA", g->script_sha, requests, count);
	/* Forgotten scripts (SCRIPT FLUSH) were not run, so nothing was charged; the text loads it again. */
	if (unanswered > 0)
		unanswered = ask(g, "EVAL", gate_script, requests, count);
	return unanswered < 0 ? -1 : 0;
}

/* Each part within the time limit of a round trip: a batch of ten thousand partners is no outage. */
static int ask_redis(struct gate *g, struct gate_request *requests, size_t count)
{
	if (gate_receive_marks(g) < 0)
		return -1;
	if (!g->script_sha[0] && load_script(g) < 0)
		return -1;
	for (size_t from = 0; from < count; from += PART_MAX) {
		size_t part = count - from < PART_MAX ? count - from : PART_MAX;
		g->deadline_us = clock_mono_us() + (int64_t)g->shared->settings.timeout_ms * 1000;
		if (ask_part(g, requests + from, part) < 0)
			return -1;
	}
	return 0;
}

static void take_locally(struct gate *g, struct gate_request *requests, size_t count)
{
	struct gate_shared *s = g->shared;
	int64_t now_us = clock_mono_us();
	mutex_lock(&s->lock);
	for (size_t i = 0; i < count; i++) {
		struct gate_request *r = &requests[i];
		if (r->granted != UNANSWERED)
			continue;
		const struct gcra_ask ask = ask_of(g, r);
		const struct gcra_answer a = limiter_charge(&s->limiter, r->partner_id, &ask, now_us);
		set_answer(r, &a, limiter_stretch(&s->limiter));
	}
	mutex_unlock(&s->lock);
}

enum gate_answer gate_admit(struct gate *g, struct gate_request *requests, size_t count)
{
	struct gate_shared *s = g->shared;
	if (count == 0)
		return GATE_OK;
	gate_want_limits(s);
	for (size_t i = 0; i < count; i++)
		requests[i].granted = UNANSWERED;
	if (gate_begin(g, METRIC_REDIS_ADMIT_FAILED)) {
		if (ask_redis(g, requests, count) == 0) {
			metric_add(METRIC_REDIS_ADMIT_OK, 1);
			gate_end(g);
			return GATE_OK;
		}
		metric_add(METRIC_REDIS_ADMIT_FAILED, 1);
		gate_fail(g);
	}
	/* Without a Redis to wait for, waiting would have no end. */
	if (s->configured && s->settings.rate_outage == GATE_HOLD) {
		for (size_t i = 0; i < count; i++)
			requests[i].granted = 0;
		return GATE_WAIT;
	}
	take_locally(g, requests, count);
	return GATE_OK;
}
