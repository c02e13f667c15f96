#include "worker/failpoint.h"

#include "common/log.h"
#include "common/parse.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_ACTION = -1, HOLD = 0, HOLD_LOOK_MS = 10 };

struct fail_point_row {
	const char *name, *step, *each, *cost;
};

static const struct fail_point_row rows[] = {
#define ROW(point, step, each, cost) {#point, step, each, cost},
	FAIL_POINTS(ROW)
#undef ROW
};

static const struct {
	const char *name;
	int signal;
} actions[] = {{"kill", SIGKILL}, {"stop", SIGSTOP}, {"term", SIGTERM}, {"hold", HOLD}};

static enum fail_point chosen = FAIL_POINT_COUNT;
static int chosen_signal = NO_ACTION;
static const char *arming_file; /* NULL: armed from the start */
static _Atomic int64_t passes_left;
static int64_t dwell_ms;

static bool choose(const char *point, const char *passes, const char *dwell, const char *action)
{
	for (size_t i = 0; i < FAIL_POINT_COUNT; i++)
		if (strcmp(rows[i].name, point) == 0)
			chosen = (enum fail_point)i;
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(actions[i].name, action) == 0)
			chosen_signal = actions[i].signal;
	int64_t let_go;
	if (chosen == FAIL_POINT_COUNT || chosen_signal == NO_ACTION ||
	    !parse_int64_within(slice_of(passes), 0, INT64_MAX, &let_go) ||
	    !parse_int64_within(slice_of(dwell), 0, 60000, &dwell_ms))
		return false;
	atomic_store(&passes_left, let_go);
	return true;
}

/* Before main, which so has nothing to say about fail points. A request that names nothing must not pass for a
 * point that was never reached. */
__attribute__((constructor)) static void read_environment(void)
{
	const char *request = getenv("DW_TEST_FAILPOINT");
	arming_file = getenv("DW_TEST_FAILPOINT_ARM");
	if (!request)
		return;
	char *text = strdup(request), *rest = text;
	ENSURE(text);
	const char *words[4];
	for (size_t i = 0; i < 4; i++)
		ENSURE((words[i] = strsep(&rest, ":")));
	ENSURE(!rest && choose(words[0], words[1], words[2], words[3]));
	free(text);
}

bool fail_point_due(enum fail_point point)
{
	if (point != chosen || (arming_file && access(arming_file, F_OK) != 0))
		return false;
	return atomic_fetch_sub(&passes_left, 1) == 0;
}

enum { LOG_OUT_MS = 1000 };

void fail_point_act(void)
{
	(void)poll(NULL, 0, (int)dwell_ms);
	LOG(LOG_WARN, "fail point", LOG_S("point", rows[chosen].name), LOG_I("signal", chosen_signal));
	/* Whoever waits for that line reads it before the process stands still; the next ones are written directly. */
	log_stop(LOG_OUT_MS);
	if (chosen_signal == HOLD) {
		while (arming_file && access(arming_file, F_OK) == 0)
			(void)poll(NULL, 0, HOLD_LOOK_MS);
		return;
	}
	/* The stop is this thread's, so that it returns no sooner; the leave is for whichever thread waits for it. */
	if (chosen_signal == SIGSTOP)
		ENSURE(raise(SIGSTOP) == 0);
	else
		ENSURE(kill(getpid(), chosen_signal) == 0);
}

void fail_points_put(struct json_writer *w)
{
	json_put_key(w, "fail_points");
	json_put_open(w, '[');
	for (size_t i = 0; i < FAIL_POINT_COUNT; i++) {
		json_put_open(w, '{');
		json_put_key(w, "name");
		json_put_text(w, rows[i].name);
		json_put_key(w, "step");
		json_put_text(w, rows[i].step);
		json_put_key(w, "each");
		json_put_text(w, rows[i].each);
		json_put_key(w, "cost");
		json_put_text(w, rows[i].cost);
		json_put_close(w, '}');
	}
	json_put_close(w, ']');
}
