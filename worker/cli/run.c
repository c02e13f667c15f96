/* `run`: the worker. Builds, waits for a signal, leaves. */
#include "worker/cli/accepted_loss.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/version.h"
#include "worker/observe/health.h"
#include "worker/observe/http.h"
#include "worker/observe/metrics.h"
#include "worker/pipeline/pipeline.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
	TEND_MS = 200,
	WAIT_MIN_MS = 200,
	WAIT_MAX_MS = 5000,
	KAFKA_TIMEOUT_MS = 3000,
	/* Of shutdown.timeout, kept for closing clients once records are settled. */
	CLOSING_SHARE_PERCENT = 25,
	STORE_WHY_MAX = 1024,
	LOG_FLUSH_MS = 500, /* at the end, for a stderr that takes nothing */
};

/* ---- signals ---- */

static sigset_t signals_taken(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

static void block_signals(void)
{
	sigset_t set = signals_taken();
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	/* A dead socket is an error of the call, not the end of the process. */
	signal(SIGPIPE, SIG_IGN);
}

/* Returns: whether a signal to leave came within the time. SIGHUP is none: a terminal that closes, or an operator's word
 * that files have changed, would else leave the group without its members' leave. */
static bool signalled(int wait_ms)
{
	sigset_t set = signals_taken();
	int64_t deadline_us = clock_mono_us() + wait_ms * INT64_C(1000);
	for (;;) {
		int64_t left_us = deadline_us - clock_mono_us();
		struct timespec wait = {left_us > 0 ? left_us / 1000000 : 0, left_us > 0 ? left_us % 1000000 * 1000 : 0};
		int number = sigtimedwait(&set, NULL, &wait);
		if (number == SIGHUP)
			LOG(LOG_INFO, "SIGHUP taken");
		else if (number > 0)
			return true;
		else if (errno != EINTR)
			return false;
	}
}

/* ---- waiting for what it needs ---- */

/* Says what it waits for once a reason, and doubles its patience. Returns: false to leave. */
static bool wait_for(const char *what, const char *reason, int *wait_ms, char said[256])
{
	if (strncmp(said, reason, 255) != 0) {
		snprintf(said, 256, "%s", reason);
		LOG(LOG_WARN, "waiting", LOG_S("for", what), LOG_S("reason", reason));
	}
	if (signalled(*wait_ms))
		return false;
	*wait_ms = *wait_ms * 2 > WAIT_MAX_MS ? WAIT_MAX_MS : *wait_ms * 2;
	return true;
}

enum waited { WAITED_READY, WAITED_LEAVE, WAITED_FAILED };

/* A wrong range is an error: what an operator gives up, he has read somewhere. */
static enum waited refuse_loss(const char *refused)
{
	LOG(LOG_ERROR, "a loss can't be accepted", LOG_S("reason", refused));
	return WAITED_FAILED;
}

static enum waited wait_for_ledger(const struct options *o, const struct losses *losses, uint8_t digest_key[16])
{
	struct store_board *board = store_board_new(1);
	const struct store_settings settings = pipeline_store_settings(o, board);
	struct store *s = store_new(&settings, 0);
	enum waited waited = WAITED_READY;
	char said[256] = "", refused[256] = "";
	int wait_ms = WAIT_MIN_MS;
	for (;;) {
		enum store_result r = store_check_schema(s);
		if (r == STORE_OK)
			r = store_digest_key(s, digest_key);
		if (r == STORE_OK && losses->count > 0)
			r = store_accept_losses(s, o->kafka_group, losses->items, losses->count, refused, sizeof(refused));
		/* Loss of history is for the assignment to deal with. */
		if (r == STORE_OK) {
			waited = *refused ? refuse_loss(refused) : WAITED_READY;
			break;
		}
		if (r == STORE_UNUSABLE) {
			char why[STORE_WHY_MAX];
			LOG(LOG_ERROR, "the ledger can't be used",
			    LOG_S("reason", options_blame(o, store_error(s), why, sizeof(why))));
			waited = WAITED_FAILED;
			break;
		}
		metric_set(METRIC_UP_POSTGRESQL, 0);
		if (!wait_for("postgresql", store_error(s), &wait_ms, said)) {
			waited = WAITED_LEAVE;
			break;
		}
	}
	store_free(s);
	store_board_free(board);
	metric_set(METRIC_UP_POSTGRESQL, waited == WAITED_READY);
	health_set(HEALTH_SCHEMA_FITS, waited == WAITED_READY);
	return waited;
}

/* Compaction eats facts and letters: such a topic is refused. A broker that doesn't say is believed. */
static enum waited check_topic(struct kafka_admin *a, const struct kafka_settings *s, const char *topic)
{
	char said[256] = "";
	int wait_ms = WAIT_MIN_MS;
	for (;;) {
		char policy[128] = "";
		int count = kafka_admin_partition_count(a, topic, KAFKA_TIMEOUT_MS);
		enum kafka_answer answer = count > 0 ? kafka_admin_topic_config(a, topic, "cleanup.policy",
		                                                               KAFKA_TIMEOUT_MS, policy, sizeof(policy))
		                                     : (enum kafka_answer)count;
		if (answer == KAFKA_OK && strstr(policy, "compact")) {
			LOG(LOG_ERROR, "compacted topics are refused: compaction eats facts", LOG_S("topic", topic),
			    LOG_S("cleanup.policy", policy));
			return WAITED_FAILED;
		}
		if (answer == KAFKA_OK || answer == KAFKA_UNSUPPORTED || (answer == KAFKA_DENIED && count > 0))
			return WAITED_READY;
		char reason[256];
		snprintf(reason, sizeof(reason), "topic %s: %s", topic, kafka_admin_error(a));
		metric_set(METRIC_UP_KAFKA, 0);
		if (!wait_for("kafka", reason, &wait_ms, said))
			return WAITED_LEAVE;
		kafka_refresh_credentials(s); /* a wrong password may be why */
	}
}

static enum waited wait_for_topics(const struct options *o)
{
	struct kafka_admin *a;
	char error[256];
	if (kafka_admin_open(&o->kafka, &a, error, sizeof(error))) {
		LOG(LOG_ERROR, "no kafka client", LOG_S("reason", error));
		return WAITED_FAILED;
	}
	/* Dead letters too: without their topic a partition would stop at its first bad record. */
	const char *topics[] = {o->kafka_topic, o->kafka_deferred_topic, o->kafka_dlq_topic};
	enum waited waited = WAITED_READY;
	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]) && waited == WAITED_READY; i++)
		waited = check_topic(a, &o->kafka, topics[i]);
	if (waited == WAITED_READY)
		metric_set(METRIC_UP_KAFKA, 1);
	kafka_admin_close(a);
	return waited;
}

/* ---- running and leaving ---- */

/* Without destructors: threads still hold what they would free. */
static _Noreturn void leave_at_once(int code)
{
	log_stop(LOG_FLUSH_MS);
	_exit(code);
}

struct leave {
	struct pipeline *pipeline;
	int64_t begun_us, budget_us;
	bool drained;         /* everything is settled and committed */
	_Atomic bool stopped;
};

/* A moment's sleep. The process ends here when the time is over, or a second signal comes. */
static void wait_leaving(const struct leave *l, int code)
{
	const char *why = NULL;
	if (signalled(TEND_MS / 10))
		why = "a second signal";
	else if (clock_mono_us() - l->begun_us >= l->budget_us)
		why = "the time is over";
	if (!why)
		return;
	if (!l->drained) {
		LOG(LOG_ERROR, "left with work unsettled", LOG_S("reason", why));
		leave_at_once(code == EXIT_FINE ? EXIT_UNAVAILABLE : code);
	}
	LOG(LOG_WARN, "left before all was closed", LOG_S("reason", why));
	leave_at_once(code);
}

static void *stop_pipeline(void *argument)
{
	struct leave *l = argument;
	pipeline_stop(l->pipeline);
	atomic_store(&l->stopped, true);
	return NULL;
}

static int leave(struct pipeline *p, int64_t timeout_s, int code)
{
	struct leave l = {.pipeline = p, .begun_us = clock_mono_us(), .budget_us = timeout_s * 1000000};
	LOG(LOG_INFO, "leaving", LOG_I("timeout_s", timeout_s));
	health_set(HEALTH_STOPPING, true);
	pipeline_drain(p, l.begun_us + l.budget_us - l.budget_us * CLOSING_SHARE_PERCENT / 100);
	while (!pipeline_has_left(p))
		wait_leaving(&l, code);
	l.drained = pipeline_join(p);
	if (!l.drained) {
		LOG(LOG_ERROR, "left with work unsettled");
		/* Threads still hold records; nothing of them is worth waiting for. */
		leave_at_once(code == EXIT_FINE ? EXIT_UNAVAILABLE : code);
	}
	LOG(LOG_INFO, "all is settled and committed");
	/* The threads that are left may wait for a server: in vain, and longer than there is time. */
	pthread_t thread = thread_start("leave", stop_pipeline, &l);
	while (!atomic_load(&l.stopped))
		wait_leaving(&l, code);
	thread_join(thread);
	LOG(LOG_INFO, "left", LOG_F("seconds", (double)(clock_mono_us() - l.begun_us) / 1e6));
	return code;
}

static int run_pipeline(struct cli *cli, const uint8_t digest_key[16])
{
	const struct options *o = cli->options;
	struct pipeline *p;
	char error[256];
	if (pipeline_start(o, digest_key, &p, error, sizeof(error)))
		return cli_fail(cli, EXIT_CONFIG, "%s", error);
	health_set(HEALTH_STARTED, true);
	LOG(LOG_INFO, "started", LOG_S("topic", o->kafka_topic), LOG_S("group", o->kafka_group),
	    LOG_I("consumers", o->consumers), LOG_I("workers", o->workers));
	while (!signalled(TEND_MS)) {
		pipeline_tend(p);
		if (pipeline_fatal(p)) {
			LOG(LOG_ERROR, "a client failed for good", LOG_S("reason", pipeline_fatal(p)));
			return leave(p, o->shutdown_timeout_s, EXIT_INTERNAL);
		}
	}
	return leave(p, o->shutdown_timeout_s, EXIT_FINE);
}

static int exit_code_of(enum waited w)
{
	return w == WAITED_LEAVE ? EXIT_FINE : EXIT_CONFIG;
}

static int run_with(struct cli *cli, const struct losses *losses)
{
	const struct options *o = cli->options;
	char error[256], why[512];
	const struct gate_settings gate = pipeline_gate_settings(o);
	if (gate_check(&gate, o->redis_url, error, sizeof(error)))
		return cli_fail(cli, EXIT_CONFIG, "%s", options_blame(o, error, why, sizeof(why)));
	metrics_build_label("version", program_version);
	metrics_build_label("librdkafka", kafka_library_version());

	if (*o->http_listen) {
		if (http_start(o->http_listen, o->kafka_group, error, sizeof(error)))
			return cli_fail(cli, EXIT_CONFIG, "%s", options_blame(o, error, why, sizeof(why)));
		LOG(LOG_INFO, "http listening", LOG_I("port", http_port()));
	}
	uint8_t digest_key[16];
	enum waited waited = wait_for_ledger(o, losses, digest_key);
	if (waited == WAITED_READY)
		waited = wait_for_topics(o);
	int code = waited == WAITED_READY ? run_pipeline(cli, digest_key) : exit_code_of(waited);
	http_stop();
	return code;
}

static int run(struct cli *cli)
{
	struct losses losses;
	int code = losses_take(&losses, cli);
	block_signals();
	log_start((size_t)cli->options->log_buffer_bytes);
	if (code == EXIT_FINE)
		code = run_with(cli, &losses);
	losses_release(&losses);
	log_stop(LOG_FLUSH_MS);
	return code;
}

static const char *const flags[] = {"accept-loss=", NULL};

const struct command command_run = {
	.name = "run",
	.arguments = "[--accept-loss TOPIC[:PARTITION:FROM-TO]]...",
	.help = "the worker: consumes, credits, commits, until SIGTERM or SIGINT",
	.flags = flags,
	.flags_help = "  --accept-loss T:P:FROM-TO  consume a partition although exactly these offsets were found lost\n"
	              "  --accept-loss T            the same of all that was found lost of a topic\n",
	.run = run,
};
