/*
 * Fibers in place of threads. A *point* is where another fiber may run: locks, conditions, and each call to
 * a fake. Between two points a fiber is alone, so a race that needs less is not found here (that is TSan's business);
 * what is found is every order of the steps that the threads take by locks, mail and servers.
 *
 * Locks keep their state in the pthread_mutex_t that the worker gives, zero for free, which is what its static
 * initializer is. Waiters are found by the address that they wait for; who is woken, and who runs, is drawn by place
 * in a list, never by address.
 */
#include "tests/sim/sim.h"

#include "common/clock.h"
#include "common/prng.h"
#include "common/thread.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum {
	FIBERS_MAX = 1024,
	STACK_BYTES = 256 * 1024,
	STALL_MAX_US = 300000,
};

/* Boot was a while ago, and it is spring. */
#define MONO_BASE_US (1000 * SECOND_US)
#define WALL_BASE_US (INT64_C(1772000000) * SECOND_US)

enum fiber_state { FIBER_RUNNABLE, FIBER_WAITING, FIBER_OVER };

struct fiber {
	ucontext_t context;
	char name[16];
	struct process *process;
	void *(*run)(void *);
	void *argument;
	enum fiber_state state;
	const void *object; /* waited for; NULL: time alone */
	uint64_t wait;      /* counts its waits: a timer of an earlier one is void */
	bool timed_out;
	int locks; /* held */
	void *stack;
};

struct timer {
	int64_t at_us;
	uint64_t number; /* those of one time go off in the order in which they were set */
	struct fiber *fiber;
	uint64_t wait;
	void (*act)(void *);
	void *argument;
};

static struct prng prng;
static int64_t now_us;
static bool over;
static bool tracing;
static uint64_t hash;
static struct fiber fibers[FIBERS_MAX];
static int fiber_count;
static struct fiber *runnable[FIBERS_MAX];
static int runnable_count;
static struct fiber *current;
static ucontext_t scheduler;
static struct timer *timers; /* a heap */
static size_t timer_count, timer_capacity;
static uint64_t timer_numbers;
static void *spare_stacks[FIBERS_MAX];
static int spare_stack_count;

/* ---- what the run tells ---- */

void sim_note(uint64_t what)
{
	hash = prng_mix(hash ^ what);
}

static void say_place(FILE *to)
{
	char name[32] = "world";
	if (current && current->process)
		snprintf(name, sizeof(name), "%d/%s", current->process->id, current->name);
	fprintf(to, "%11.6f %-14s ", (double)now_us / 1e6, name);
}

void sim_trace(const char *format, ...)
{
	if (!tracing)
		return;
	va_list arguments;
	say_place(stdout);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
}

void sim_fail(const char *format, ...)
{
	va_list arguments;
	fflush(stdout);
	say_place(stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	for (int i = 0; tracing && i < fiber_count; i++) {
		const struct fiber *f = &fibers[i];
		if (f->state != FIBER_OVER)
			fprintf(stderr, "  p%d/%s %s, holds %d locks\n", f->process ? f->process->id : -1, f->name,
				f->state == FIBER_RUNNABLE ? "can run"
				: f->object                ? "waits"
							   : "sleeps",
				f->locks);
	}
	_exit(1);
}

uint64_t sim_hash(void)
{
	return hash;
}

/* ---- chance and time ---- */

int64_t sim_now(void)
{
	return now_us;
}

uint64_t sim_below(uint64_t n)
{
	return prng_below(&prng, n);
}

bool sim_permille(int permille)
{
	return permille > 0 && sim_below(1000) < (uint64_t)permille;
}

int64_t sim_latency(int64_t typical_us)
{
	int64_t us = typical_us / 2 + (int64_t)sim_below((uint64_t)typical_us + 1);
	return sim_permille(20) ? us * 10 : us;
}

static bool timer_before(const struct timer *a, const struct timer *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static void timer_put(struct timer t)
{
	if (timer_count == timer_capacity) {
		timer_capacity = timer_capacity ? timer_capacity * 2 : 256;
		timers = realloc(timers, timer_capacity * sizeof(*timers));
		ENSURE(timers);
	}
	t.number = ++timer_numbers;
	size_t i = timer_count++;
	for (; i > 0 && timer_before(&t, &timers[(i - 1) / 2]); i = (i - 1) / 2)
		timers[i] = timers[(i - 1) / 2];
	timers[i] = t;
}

static struct timer timer_take(void)
{
	struct timer first = timers[0], last = timers[--timer_count];
	size_t i = 0;
	for (size_t child; (child = 2 * i + 1) < timer_count; i = child) {
		if (child + 1 < timer_count && timer_before(&timers[child + 1], &timers[child]))
			child++;
		if (!timer_before(&timers[child], &last))
			break;
		timers[i] = timers[child];
	}
	if (timer_count)
		timers[i] = last;
	return first;
}

void sim_at(int64_t at_us, void (*act)(void *), void *argument)
{
	timer_put((struct timer){.at_us = at_us, .act = act, .argument = argument});
}

/* ---- the schedule ---- */

static void make_runnable(struct fiber *f)
{
	f->state = FIBER_RUNNABLE;
	f->object = NULL;
	runnable[runnable_count++] = f;
}

static void to_scheduler(void)
{
	struct fiber *me = current;
	ENSURE(swapcontext(&me->context, &scheduler) == 0);
}

static bool block(const void *object, int64_t deadline_us)
{
	struct fiber *me = current;
	me->state = FIBER_WAITING;
	me->object = object;
	me->timed_out = false;
	me->wait++;
	if (deadline_us != NEVER_US)
		timer_put((struct timer){
			.at_us = deadline_us > now_us ? deadline_us : now_us, .fiber = me, .wait = me->wait});
	to_scheduler();
	return !me->timed_out;
}

static void fire(struct timer t)
{
	if (t.act) {
		t.act(t.argument);
	} else if (t.fiber->state == FIBER_WAITING && t.fiber->wait == t.wait) {
		t.fiber->timed_out = true;
		make_runnable(t.fiber);
	}
}

void sim_loop(void)
{
	over = false;
	while (!over) {
		while (timer_count && timers[0].at_us <= now_us)
			fire(timer_take());
		if (over)
			return;
		if (!runnable_count) {
			if (!timer_count)
				sim_fail("nobody can run and nothing is to come");
			now_us = timers[0].at_us;
			continue;
		}
		int i = (int)sim_below((uint64_t)runnable_count);
		struct fiber *f = runnable[i];
		runnable[i] = runnable[--runnable_count];
		if (f->process && f->process->frozen_until_us > now_us) {
			f->state = FIBER_WAITING;
			f->object = NULL;
			f->wait++;
			bool timed_out = f->timed_out;
			timer_put((struct timer){.at_us = f->process->frozen_until_us, .fiber = f, .wait = f->wait});
			f->timed_out = timed_out;
			continue;
		}
		sim_count(SIM_SWITCHES, 1);
		sim_note((uint64_t)now_us ^ (uint64_t)(f - fibers) << 48);
		current = f;
		ENSURE(swapcontext(&scheduler, &f->context) == 0);
		current = NULL;
		if (f->state == FIBER_OVER && f->stack) {
			spare_stacks[spare_stack_count++] = f->stack;
			f->stack = NULL;
		}
	}
}

void sim_end(void)
{
	over = true;
}

void sim_point(void)
{
	if (!current)
		return;
	struct process *p = current->process;
	now_us += 1 + (int64_t)sim_below(3);
	if (p && p->points_to_kill && --p->points_to_kill == 0)
		world_killed(p); /* does not return */
	if (sim_config.stall_ppm && sim_below(1000000) < (uint64_t)sim_config.stall_ppm && world_faults()) {
		sim_count(SIM_STALLS, 1);
		sim_sleep((int64_t)sim_below(STALL_MAX_US));
		return;
	}
	if ((timer_count && timers[0].at_us <= now_us) || sim_permille(sim_config.switch_permille)) {
		make_runnable(current);
		to_scheduler();
	}
}

void sim_sleep(int64_t us)
{
	(void)block(NULL, now_us + us);
}

bool sim_wait_until(const void *object, int64_t deadline_us)
{
	return block(object, deadline_us);
}

void sim_wake(const void *object)
{
	for (int i = 0; i < fiber_count; i++)
		if (fibers[i].state == FIBER_WAITING && fibers[i].object == object && object)
			make_runnable(&fibers[i]);
}

static void wake_one(const void *object)
{
	struct fiber *chosen = NULL;
	uint64_t found = 0;
	for (int i = 0; i < fiber_count; i++)
		if (fibers[i].state == FIBER_WAITING && fibers[i].object == object && sim_below(++found) == 0)
			chosen = &fibers[i];
	if (chosen)
		make_runnable(chosen);
}

struct process *sim_process(void)
{
	return current ? current->process : NULL;
}

static void fiber_main(void)
{
	struct fiber *me = current;
	me->run(me->argument);
	if (me->locks)
		sim_fail("a thread ends with a lock");
	me->state = FIBER_OVER;
	sim_wake(me);
	to_scheduler();
}

static void *take_stack(void)
{
	if (spare_stack_count)
		return spare_stacks[--spare_stack_count];
	void *stack =
		mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ENSURE(stack != MAP_FAILED);
	ENSURE(mprotect(stack, 4096, PROT_NONE) == 0);
	return stack;
}

void sim_spawn(struct process *p, const char *name, void *(*run)(void *), void *argument)
{
	ENSURE(fiber_count < FIBERS_MAX);
	struct fiber *f = &fibers[fiber_count++];
	*f = (struct fiber){.process = p, .run = run, .argument = argument, .stack = take_stack()};
	snprintf(f->name, sizeof(f->name), "%s", name);
	ENSURE(getcontext(&f->context) == 0);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK_BYTES;
	f->context.uc_link = NULL;
	makecontext(&f->context, fiber_main, 0);
	make_runnable(f);
}

void sim_drop(struct process *p)
{
	for (int i = 0; i < fiber_count; i++) {
		struct fiber *f = &fibers[i];
		if (f->process != p || f->state == FIBER_OVER)
			continue;
		f->state = FIBER_OVER;
		f->wait++;
		if (f != current && f->stack) {
			spare_stacks[spare_stack_count++] = f->stack;
			f->stack = NULL;
		}
	}
	int kept = 0;
	for (int i = 0; i < runnable_count; i++)
		if (runnable[i]->process != p)
			runnable[kept++] = runnable[i];
	runnable_count = kept;
	if (current && current->process == p)
		to_scheduler();
}

int sim_fibers_of(const struct process *p)
{
	int count = 0;
	for (int i = 0; i < fiber_count; i++)
		count += fibers[i].process == p && fibers[i].state != FIBER_OVER;
	return count;
}

void sim_begin(uint64_t seed, bool trace)
{
	prng = prng_of(seed);
	hash = prng_mix(seed);
	tracing = trace;
	now_us = 0;
}

/* ---- common/clock.h ---- */

int64_t clock_mono_us(void)
{
	sim_point();
	return MONO_BASE_US + now_us;
}

int64_t clock_wall_us(void)
{
	return WALL_BASE_US + now_us;
}

/* ---- common/thread.h ---- */

struct lock {
	struct fiber *owner;
};
_Static_assert(sizeof(struct lock) <= sizeof(pthread_mutex_t), "a lock's state fits into the worker's mutex");

static struct lock *lock_of(pthread_mutex_t *m)
{
	return (struct lock *)m;
}

pthread_t thread_start(const char *name, thread_main *run, void *argument)
{
	struct fiber *f = &fibers[fiber_count];
	sim_spawn(sim_process(), name, run, argument);
	sim_point();
	return (pthread_t)(f - fibers);
}

void thread_join(pthread_t thread)
{
	struct fiber *f = &fibers[thread];
	sim_point();
	while (f->state != FIBER_OVER)
		(void)block(f, NEVER_US);
}

void mutex_init(pthread_mutex_t *m)
{
	lock_of(m)->owner = NULL;
}

void mutex_destroy(pthread_mutex_t *m)
{
	if (lock_of(m)->owner)
		sim_fail("a lock is destroyed that someone holds");
}

void mutex_lock(pthread_mutex_t *m)
{
	sim_point();
	if (current->locks)
		sim_fail("a lock is taken by who holds one");
	while (lock_of(m)->owner)
		(void)block(m, NEVER_US);
	lock_of(m)->owner = current;
	current->locks++;
	sim_point();
}

static void release(pthread_mutex_t *m)
{
	if (lock_of(m)->owner != current)
		sim_fail("a lock is given back by who does not hold it");
	lock_of(m)->owner = NULL;
	current->locks--;
	wake_one(m);
}

void mutex_unlock(pthread_mutex_t *m)
{
	release(m);
	sim_point();
}

void cond_init(pthread_cond_t *c)
{
	(void)c;
}

void cond_destroy(pthread_cond_t *c)
{
	for (int i = 0; i < fiber_count; i++)
		if (fibers[i].state == FIBER_WAITING && fibers[i].object == (void *)c)
			sim_fail("a condition is destroyed that someone waits for");
}

bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_us)
{
	/* POSIX allows it to return for no reason. */
	bool in_time = true;
	release(m);
	if (!sim_permille(5))
		in_time = block(c, deadline_us == NEVER_US ? NEVER_US : deadline_us - MONO_BASE_US);
	while (lock_of(m)->owner)
		(void)block(m, NEVER_US);
	lock_of(m)->owner = current;
	current->locks++;
	return in_time;
}

void cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	(void)cond_wait_until(c, m, NEVER_US);
}

void cond_signal(pthread_cond_t *c)
{
	sim_point();
	wake_one(c);
}

void cond_broadcast(pthread_cond_t *c)
{
	sim_point();
	sim_wake(c);
}
