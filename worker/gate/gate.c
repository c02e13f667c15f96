#include "worker/gate/gate.h"

#include "common/clock.h"
#include "common/host.h"
#include "common/log.h"
#include "common/secret_file.h"
#include "common/thread.h"
#include "worker/gate/internal.h"
#include "worker/observe/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { URL_BYTES_MAX = 4096 }; /* as the option's */

/* What files there are must be for the connection that there is: TLS that somebody believes in is not left out. */
static const char *judge_tls(const struct gate_settings *s, const struct redis_target *t)
{
	if ((redis_tls_file(s->tls.ca) || redis_tls_file(s->tls.cert) || redis_tls_file(s->tls.key)) && !t->tls)
		return "redis.tls.* is for rediss://, which redis.url is not";
	if (redis_tls_file(s->tls.cert) != redis_tls_file(s->tls.key))
		return "redis.tls.cert and redis.tls.key go together";
	if (!t->tls && t->authenticate && t->port && !s->plain_password && !host_is_local(slice_of(t->host)))
		return "redis.url: a password would go to another machine in clear; use rediss://, or set "
		       "redis.plain_password to allow";
	return NULL;
}

int gate_check(const struct gate_settings *s, const char *url, char *error, size_t error_size)
{
	struct redis_target target;
	if (url[0] == '\0')
		return 0;
	if (redis_target_parse(url, &target, error, error_size) < 0)
		return -1;
	const char *wrong = judge_tls(s, &target);
	bool lacking = target.tls && !redis_can_tls();
	explicit_bzero(target.password, sizeof(target.password));
	if (wrong)
		snprintf(error, error_size, "%s", wrong);
	else if (lacking)
		snprintf(error, error_size, "redis.url: rediss:// is not in this build (%s)", redis_library());
	return wrong || lacking ? -1 : 0;
}

/* Under the lock. Until it was tried, Redis does not count as down: an idle worker has nothing to complain about. */
static void show(const struct gate_shared *s)
{
	bool down = s->outage.down;
	metric_set(METRIC_DEGRADED_DEDUP, down && s->settings.dedup_ttl_s > 0);
	metric_set(METRIC_DEGRADED_RATE_LIMIT, (down || !s->configured) && s->limits_wanted);
}

static void show_tried(const struct gate_shared *s)
{
	metric_set(METRIC_UP_REDIS, !s->outage.down);
	show(s);
}

struct gate_shared *gate_shared_new(const struct gate_settings *settings)
{
	struct gate_shared *s = calloc(1, sizeof(*s));
	ENSURE(s);
	s->settings = *settings;
	s->settings.url = NULL;
	ENSURE(strlen(settings->prefix) < sizeof(s->prefix));
	memcpy(s->prefix, settings->prefix, strlen(settings->prefix));
	s->settings.prefix = s->prefix;
	s->configured = settings->url[0] != '\0';
	if (s->configured) {
		char error[256];
		/* Whoever comes here has called gate_check. */
		ENSURE(redis_target_parse(settings->url, &s->target, error, sizeof(error)) == 0);
	}
	mutex_init(&s->lock);
	limiter_init(&s->limiter, clock_mono_us());
	s->outage.up_since_us = INT64_MIN / 2;
	show(s);
	return s;
}

void gate_shared_free(struct gate_shared *s)
{
	mutex_destroy(&s->lock);
	explicit_bzero(s->target.password, sizeof(s->target.password));
	free(s);
}

void gate_shared_set_share(struct gate_shared *s, double share)
{
	mutex_lock(&s->lock);
	limiter_set_share(&s->limiter, share, clock_mono_us());
	mutex_unlock(&s->lock);
}

void gate_want_limits(struct gate_shared *s)
{
	mutex_lock(&s->lock);
	if (!s->limits_wanted) {
		s->limits_wanted = true;
		show(s);
	}
	mutex_unlock(&s->lock);
}

struct gate *gate_new(struct gate_shared *shared)
{
	struct gate *g = calloc(1, sizeof(*g));
	ENSURE(g);
	g->shared = shared;
	uint64_t seed;
	ENSURE(getrandom(&seed, sizeof(seed), 0) == sizeof(seed));
	g->random = prng_of(seed);
	return g;
}

static void disconnect(struct gate *g)
{
	if (g->marks_owed > 0)
		metric_add(METRIC_REDIS_MARK_FAILED, 1);
	g->marks_owed = 0;
	redis_close(g->redis);
	g->redis = NULL;
	g->script_sha[0] = '\0';
}

void gate_free(struct gate *g)
{
	if (g->marks_owed > 0) {
		/* Marks were sent and would arrive anyway; this is for the count, one timeout at most. */
		g->deadline_us = clock_mono_us() + (int64_t)g->shared->settings.timeout_ms * 1000;
		(void)!gate_receive_marks(g);
	}
	disconnect(g);
	free(g->placed);
	free(g->argv);
	free(g->lengths);
	free(g);
}

/* ---- what a new connection must be able to do ---- */

struct ability {
	int argc;
	const char *argv[10];
};

enum { ABILITIES_MAX = 7 };

#define NO_SCRIPT "0000000000000000000000000000000000000000" /* a digest that no script has */

/*
 * Tries each command that will be needed, on keys of its own: a Redis that answers PING and refuses writes
 * (full, read-only replica, an ACL, too old for EXPIRE NX) would otherwise look well at every probe.
 * Returns: 0; -1 and the reason.
 */
static int try_abilities(struct redis *r, const char *prefix, bool marks, bool limits, int64_t deadline_us,
                         char *reason, size_t reason_size)
{
	char set[GATE_KEY_MAX], bucket[GATE_KEY_MAX];
	snprintf(set, sizeof(set), "%sprobe:done", prefix);
	snprintf(bucket, sizeof(bucket), "%sprobe:rate", prefix);
	struct ability all[ABILITIES_MAX] = {{1, {"PING"}}};
	size_t count = 1;
	if (marks) {
		all[count++] = (struct ability){3, {"SADD", set, "probe"}};
		all[count++] = (struct ability){4, {"EXPIRE", set, "60", "NX"}};
		all[count++] = (struct ability){3, {"SMISMEMBER", set, "probe"}};
	}
	if (limits) {
		all[count++] = (struct ability){3, {"SCRIPT", "LOAD", gate_script}};
		all[count++] = (struct ability){3, {"EVALSHA", NO_SCRIPT, "0"}};
		all[count++] = (struct ability){
			10, {"EVAL", gate_script, "1", bucket, "1000", "1000", "1", "0", "1", "1000"}};
	}

	for (size_t i = 0; i < count; i++)
		redis_append(r, all[i].argc, all[i].argv, NULL);
	int sent = redis_send(r, deadline_us);
	for (size_t i = 0; i < count; i++) {
		struct redis_reply reply;
		if (sent < 0 || redis_receive(r, deadline_us, &reply) < 0) {
			snprintf(reason, reason_size, "%s", redis_error(r));
			return -1;
		}
		/* EVALSHA may be given, then; the script itself is EVAL's. */
		if (reply.kind == REPLY_ERROR && !redis_reply_is(&reply, "NOSCRIPT")) {
			snprintf(reason, reason_size, "%s refused: %.100s", all[i].argv[0], reply.text.data);
			return -1;
		}
	}
	return 0;
}

/* Where Redis is by now: a password may have been rotated. A url that is no better than the one before is told. */
static int read_target(const struct gate_shared *s, struct redis_target *target, char *reason, size_t reason_size)
{
	struct buf fresh = BUF_INIT;
	int result = -1;
	*target = s->target;
	if (!s->settings.url_file)
		return 0;
	int why = secret_file_read(s->settings.url_file, URL_BYTES_MAX, &fresh);
	if (why)
		snprintf(reason, reason_size, "redis.url: its file cannot be read: %s", strerror(why));
	else if (gate_check(&s->settings, buf_slice(&fresh).data, reason, reason_size) == 0)
		result = redis_target_parse(buf_slice(&fresh).data, target, reason, reason_size);
	secret_release(&fresh);
	return result;
}

static int connect_gate(struct gate *g, bool limits)
{
	const struct gate_settings *s = &g->shared->settings;
	struct redis_target target;
	if (read_target(g->shared, &target, g->reason, sizeof(g->reason)) < 0)
		return -1;
	g->redis = redis_connect(&target, &s->tls, s->timeout_ms, g->reason, sizeof(g->reason));
	explicit_bzero(target.password, sizeof(target.password));
	if (!g->redis)
		return -1;
	return try_abilities(g->redis, s->prefix, s->dedup_ttl_s > 0, limits,
	                     clock_mono_us() + (int64_t)s->timeout_ms * 1000, g->reason, sizeof(g->reason));
}

/* ---- the shape of a request ---- */

bool gate_begin(struct gate *g, enum metric failed)
{
	struct gate_shared *s = g->shared;
	if (!s->configured)
		return false;
	mutex_lock(&s->lock);
	enum outage_turn turn = outage_ask(&s->outage, clock_mono_us());
	bool limits = s->limits_wanted;
	mutex_unlock(&s->lock);
	if (turn == OUTAGE_SKIP)
		return false;
	g->prober = turn == OUTAGE_PROBE;
	heart_beat_own();

	/* A connection that was closed while it was idle (a restart, a server's timeout) is no outage yet. */
	if (g->redis && (g->prober || !redis_alive(g->redis)))
		disconnect(g);
	if (!g->redis) {
		if (connect_gate(g, limits) < 0) {
			metric_add(failed, 1);
			gate_fail(g);
			return false;
		}
		mutex_lock(&s->lock);
		show_tried(s); /* up, unless it was down: then a probe must end well first */
		mutex_unlock(&s->lock);
	}
	g->deadline_us = clock_mono_us() + (int64_t)s->settings.timeout_ms * 1000;
	return true;
}

void gate_end(struct gate *g)
{
	struct gate_shared *s = g->shared;
	if (!g->prober)
		return;
	g->prober = false;
	mutex_lock(&s->lock);
	outage_succeeded(&s->outage, clock_mono_us());
	show_tried(s);
	mutex_unlock(&s->lock);
	char name[300];
	redis_target_name(&s->target, name, sizeof(name));
	LOG(LOG_INFO, "redis is back", LOG_S("redis", name));
}

void gate_fail(struct gate *g)
{
	struct gate_shared *s = g->shared;
	uint32_t chance;
	ENSURE(getrandom(&chance, sizeof(chance), 0) == sizeof(chance));
	mutex_lock(&s->lock);
	bool went_down = outage_failed(&s->outage, g->prober, clock_mono_us(), chance);
	show_tried(s);
	mutex_unlock(&s->lock);
	g->prober = false;
	if (went_down) {
		char name[300];
		redis_target_name(&s->target, name, sizeof(name));
		LOG(LOG_WARN, "redis is down; going on without", LOG_S("redis", name), LOG_S("reason", g->reason));
	}
	disconnect(g);
}

int gate_lost(struct gate *g)
{
	snprintf(g->reason, sizeof(g->reason), "%s", redis_error(g->redis));
	return -1;
}

int gate_refused(struct gate *g, const char *what, const struct redis_reply *reply)
{
	snprintf(g->reason, sizeof(g->reason), "%s refused: %.100s", what,
	         reply->kind == REPLY_ERROR ? reply->text.data : "an answer of another shape");
	return -1;
}

/* ---- check ---- */

/* "redis_version:7.0.15\r\n…" Returns: the field's value; absent if there is none. */
static struct slice info_field(struct slice info, const char *name)
{
	const char *at = strstr(info.data, name);
	if (!at)
		return (struct slice){NULL, 0};
	at += strlen(name);
	return (struct slice){at, strcspn(at, "\r\n")};
}

/* What only INFO tells; the gate can do without it, so a Redis that refuses it is taken at its commands. */
static int judge_info(struct redis *r, int64_t deadline_us, char *version, size_t version_size, char *reason,
                      size_t reason_size)
{
	struct redis_reply reply;
	redis_append(r, 1, (const char *[]){"INFO"}, NULL);
	if (redis_send(r, deadline_us) < 0 || redis_receive(r, deadline_us, &reply) < 0) {
		snprintf(reason, reason_size, "%s", redis_error(r));
		return -1;
	}
	struct slice info = reply.kind == REPLY_TEXT ? reply.text : SLICE_LITERAL("");
	struct slice number = info_field(info, "redis_version:");
	struct slice cluster = info_field(info, "cluster_enabled:");
	struct slice policy = info_field(info, "maxmemory_policy:");
	if (!slice_present(number)) {
		snprintf(version, version_size, "of unknown version and mode (INFO refused; 7.0 or later, no cluster)");
		return 0;
	}
	snprintf(version, version_size, "%.*s, maxmemory-policy %.*s", (int)number.len, number.data, (int)policy.len,
	         slice_present(policy) ? policy.data : "");
	if (strtol(number.data, NULL, 10) < 7) {
		snprintf(reason, reason_size, "Redis %.*s is too old: 7.0 or later is needed", (int)number.len,
		         number.data);
		return -1;
	}
	if (slice_equal(cluster, SLICE_LITERAL("1"))) {
		snprintf(reason, reason_size, "Redis is in cluster mode, which is not supported");
		return -1;
	}
	return 0;
}

int gate_probe(const struct gate_settings *s, bool limits, char *detail, size_t detail_size)
{
	struct redis_target target;
	char name[300], reason[160], version[96] = "";
	if (s->url[0] == '\0') {
		snprintf(detail, detail_size, "not configured: no dedup, limits by replica");
		return 0;
	}
	if (gate_check(s, s->url, detail, detail_size) < 0 ||
	    redis_target_parse(s->url, &target, detail, detail_size) < 0)
		return -1;
	redis_target_name(&target, name, sizeof(name));
	struct redis *r = redis_connect(&target, &s->tls, s->timeout_ms, reason, sizeof(reason));
	int64_t timeout_us = (int64_t)s->timeout_ms * 1000;
	int result = -1;
	if (r && judge_info(r, clock_mono_us() + timeout_us, version, sizeof(version), reason, sizeof(reason)) == 0 &&
	    try_abilities(r, s->prefix, s->dedup_ttl_s > 0, limits, clock_mono_us() + timeout_us, reason,
	                  sizeof(reason)) == 0)
		result = 0;
	redis_close(r);
	explicit_bzero(target.password, sizeof(target.password));
	if (result == 0)
		snprintf(detail, detail_size, "Redis %s at %s, %s", version, name, redis_library());
	else
		snprintf(detail, detail_size, "%s: %s", name, reason);
	return result;
}
