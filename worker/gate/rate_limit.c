#include "worker/gate/gate.h"

#include "common/clock.h"
#include "common/thread.h"
#include "worker/gate/internal.h"

#include <inttypes.h>
#include <stdio.h>

enum { UNANSWERED = -1 }; /* of a request's `granted`, inside this file */

/*
 * gcra.c in Lua, on Redis' clock, which all replicas share. The state is "full_at_us:remainder"; every
 * number is below 2^53, or its only use is that it is larger than the burst. A key of another type or form is
 * a full bucket. The key expires when the bucket is full again (a millisecond later: expiry is cut to those).
 */
const char gate_script[] =
	"local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
	"local time = redis.call('TIME')\n"
	"local now = tonumber(time[1]) * 1000000 + tonumber(time[2])\n"
	"local full_at, remainder = 0, 0\n"
	"local kept = redis.pcall('GET', KEYS[1])\n"
	"if type(kept) == 'string' then\n"
	"  local a, b = string.match(kept, '^(%d+):(%d+)$')\n"
	"  if a then full_at, remainder = tonumber(a), tonumber(b) end\n"
	"end\n"
	"local debt, debt_max = 0, burst * 1000000\n"
	"if full_at >= now then debt = (full_at - now) * rate + math.min(remainder, rate - 1) end\n"
	"local cut = debt > debt_max\n"
	"debt = math.min(debt, debt_max)\n"
	"local granted = math.min(wanted, math.floor((debt_max - debt) / 1000000))\n"
	"if granted == 0 and not cut then return 0 end\n"
	"debt = debt + granted * 1000000\n"
	"local ahead = math.floor(debt / rate)\n"
	"redis.call('SET', KEYS[1], string.format('%.0f:%.0f', now + ahead, debt - ahead * rate),\n"
	"  'PX', string.format('%.0f', math.ceil(ahead / 1000) + 1))\n"
	"return granted\n";

static void append_take(struct gate *g, const char *command, const char *script, const struct gate_request *r)
{
	char key[GATE_KEY_MAX], per_second[24], burst[24], wanted[24];
	snprintf(key, sizeof(key), "%srate:%.*s", g->shared->prefix, (int)r->partner_id.len, r->partner_id.data);
	snprintf(per_second, sizeof(per_second), "%" PRId64, r->per_second);
	snprintf(burst, sizeof(burst), "%" PRId64, r->burst);
	snprintf(wanted, sizeof(wanted), "%" PRId64, r->wanted);
	redis_append(g->redis, 7, (const char *[]){command, script, "1", key, per_second, burst, wanted}, NULL);
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
		else if (reply.kind == REPLY_INTEGER && reply.integer >= 0 && reply.integer <= requests[i].wanted)
			requests[i].granted = reply.integer;
		else
			return gate_refused(g, "limit", &reply);
	}
	return unanswered;
}

static int ask_redis(struct gate *g, struct gate_request *requests, size_t count)
{
	if (gate_receive_marks(g) < 0)
		return -1;
	if (!g->script_sha[0] && load_script(g) < 0)
		return -1;
	int unanswered = ask(g, "EVALSHA", g->script_sha, requests, count);
	/* Forgotten scripts (SCRIPT FLUSH) were not run, so nothing was charged; the text loads it again. */
	if (unanswered > 0)
		unanswered = ask(g, "EVAL", gate_script, requests, count);
	return unanswered < 0 ? -1 : 0;
}

static void take_locally(struct gate_shared *s, struct gate_request *requests, size_t count)
{
	int64_t now_us = clock_mono_us();
	mutex_lock(&s->lock);
	for (size_t i = 0; i < count; i++) {
		struct gate_request *r = &requests[i];
		if (r->granted == UNANSWERED)
			r->granted = limiter_take(&s->limiter, r->partner_id, r->per_second, r->burst, r->wanted,
			                          now_us);
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
	take_locally(s, requests, count);
	return GATE_OK;
}
