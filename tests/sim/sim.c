/*
 * sim: runs seeds of the simulation.
 *
 *     sim --seed N [--trace]       one seed, in this process; the way to reproduce
 *     sim [--from N] --seeds COUNT [--jobs N]
 *     sim [--from N] --seconds S [--jobs N]
 *
 * Each seed of a run gets a process of its own, so that one that aborts, hangs or leaks costs itself only. Every
 * TWICE_EVERY-th runs twice and must run the same way. Without --from, seeds begin at a place taken from the clock,
 * which is printed. Ends at the first seed that fails, with 1.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	JOBS_MAX = 64,
	TWICE_EVERY = 25,
	SEED_LIMIT_S = 120, /* of real time: a seed that takes longer hangs */
};

static const char *const count_words[SIM_COUNTER_COUNT] = {
#define COUNT_WORDS(symbol, words) [SIM_##symbol] = words,
	SIM_COUNTS(COUNT_WORDS)
#undef COUNT_WORDS
};

/* Shared by all processes. */
static struct board {
	_Atomic uint64_t counts[SIM_COUNTER_COUNT];
	uint64_t hashes[JOBS_MAX][2];
} * board;

struct job {
	pid_t pid;
	uint64_t seed;
	bool twice;
	bool second; /* the other run of the same seed */
};

static uint64_t own_counts[SIM_COUNTER_COUNT];

void sim_count(enum sim_counter c, uint64_t n)
{
	own_counts[c] += n;
}

static void report_counts(void)
{
	for (int i = 0; i < SIM_COUNTER_COUNT; i++)
		atomic_fetch_add(&board->counts[i], own_counts[i]);
}

static int64_t real_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t random_seed(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000;
}

static _Noreturn void usage(void)
{
	fputs("sim --seed N [--trace] | [--from N] --seeds COUNT | --seconds S [--jobs N]\n", stderr);
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	errno = 0;
	uint64_t n = text ? strtoull(text, &end, 10) : 0;
	if (!text || errno || *end || end == text)
		usage();
	return n;
}

static void start(struct job *j, int slot)
{
	fflush(stdout);
	fflush(stderr);
	j->pid = fork();
	ENSURE(j->pid >= 0);
	if (j->pid)
		return;
	alarm(SEED_LIMIT_S);
	world_run(j->seed, false);
	board->hashes[slot][j->second] = sim_hash();
	report_counts();
	_exit(0);
}

static void say_failed(const char *self, const struct job *j, int status)
{
	if (WIFSIGNALED(status))
		fprintf(stderr, "ended by %s\n",
			WTERMSIG(status) == SIGALRM ? "its time limit" : strsignal(WTERMSIG(status)));
	printf("FAIL seed %" PRIu64 "\nreproduce: %s --seed %" PRIu64 " --trace\n", j->seed, self, j->seed);
}

/* Returns: whether the seed is through and well; *again: it runs a second time. */
static bool judge(const char *self, struct job *j, int slot, int status, bool *again)
{
	*again = false;
	if (status != 0) {
		say_failed(self, j, status);
		return false;
	}
	if (j->twice && !j->second) {
		j->second = *again = true;
		return true;
	}
	if (j->second && board->hashes[slot][0] != board->hashes[slot][1]) {
		fprintf(stderr, "the same seed ran in two ways\n");
		say_failed(self, j, 0);
		return false;
	}
	return true;
}

struct plan {
	uint64_t from, seeds;
	int64_t until_ms; /* 0: no limit */
	int jobs;
};

static bool is_due(const struct plan *plan, uint64_t started)
{
	return plan->until_ms ? real_ms() < plan->until_ms : started < plan->seeds;
}

/* Returns: seeds that are through; *failed. */
static uint64_t run_all(const char *self, const struct plan *plan, bool *failed)
{
	struct job jobs[JOBS_MAX] = {{0}};
	uint64_t started = 0, through = 0;
	int running = 0;
	for (;;) {
		for (int i = 0; i < plan->jobs && !*failed && is_due(plan, started); i++) {
			if (jobs[i].pid)
				continue;
			jobs[i] = (struct job){.seed = plan->from + started, .twice = started % TWICE_EVERY == 0};
			started++;
			running++;
			start(&jobs[i], i);
		}
		if (!running)
			return through;
		int status, slot = 0;
		pid_t pid = waitpid(-1, &status, 0);
		while (jobs[slot].pid != pid)
			slot++;
		bool again;
		*failed |= !judge(self, &jobs[slot], slot, status, &again);
		if (again) {
			start(&jobs[slot], slot);
			continue;
		}
		jobs[slot].pid = 0;
		running--;
		through++;
	}
}

static void say_counts(void)
{
	for (int i = 0; i < SIM_COUNTER_COUNT; i++)
		printf("%s%" PRIu64 " %s", i ? ", " : "  ", atomic_load(&board->counts[i]), count_words[i]);
	putchar('\n');
}

int main(int argc, char **argv)
{
	struct plan plan = {.from = 0, .seeds = 0, .jobs = 1};
	bool one = false, trace = false, from_given = false, failed = false;
	int64_t seconds = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--trace") == 0)
			trace = true;
		else if (strcmp(argv[i], "--seed") == 0)
			one = true, plan.from = number(argv[++i]);
		else if (strcmp(argv[i], "--from") == 0)
			from_given = true, plan.from = number(argv[++i]);
		else if (strcmp(argv[i], "--seeds") == 0)
			plan.seeds = number(argv[++i]);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = (int64_t)number(argv[++i]);
		else if (strcmp(argv[i], "--jobs") == 0)
			plan.jobs = (int)number(argv[++i]);
		else
			usage();
	}
	event_setup();
	if (one) {
		world_run(plan.from, trace);
		printf("ok   seed %" PRIu64 ", hash %016" PRIx64 "\n", plan.from, sim_hash());
		return 0;
	}
	if ((!plan.seeds && !seconds) || plan.jobs < 1 || plan.jobs > JOBS_MAX)
		usage();
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ENSURE(board != MAP_FAILED);
	if (!from_given)
		plan.from = random_seed();
	int64_t began_ms = real_ms();
	if (seconds)
		plan.until_ms = began_ms + seconds * 1000;
	printf("seeds from %" PRIu64 "\n", plan.from);
	uint64_t through = run_all(argv[0], &plan, &failed);
	int64_t took_ms = real_ms() - began_ms;
	say_counts();
	printf("%s %" PRIu64 " seeds in %.1f s, %" PRIu64 " a minute\n", failed ? "FAIL" : "ok  ", through,
	       (double)took_ms / 1000, through * 60000 / (uint64_t)(took_ms + 1));
	return failed;
}
