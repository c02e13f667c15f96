/*
 * The queue between consumers and workers. Threads below count what they see wrong and main asserts: a failed
 * ck_assert must not leave from a thread. Waits end by events; the deadlines are only so far away that
 * whoever reaches one has failed.
 */
#include "worker/pipeline/dispatch.h"

#include "common/clock.h"
#include "common/prng.h"
#include "common/thread.h"
#include "worker/pipeline/budget.h"

#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Longer than any test may take. */
#define NEVER_US (clock_mono_us() + INT64_C(600000000))

enum { IDS = 1000 };

static char ids[IDS][24];

static void fill_ids(void)
{
	for (int i = 0; i < IDS; i++)
		snprintf(ids[i], sizeof(ids[i]), "order-%d", i);
}

static struct record record_of(int id, uint64_t number)
{
	return (struct record){.event.order_id = slice_of(ids[id]), .ticket = number};
}

/* Takes all that is there, at most `max`, without waiting. */
static bool take_now(struct dispatch *d, size_t shard, size_t max, struct record_list *list)
{
	*list = (struct record_list){0};
	return dispatch_take(d, shard, max, 0, 0, list);
}

static size_t shard_of(struct dispatch *d, size_t shards, int id)
{
	struct record r = record_of(id, 0);
	struct record_list list;
	size_t found = shards;

	dispatch_put(d, &r);
	for (size_t shard = 0; shard < shards; shard++) {
		if (dispatch_depth(d, shard) == 0)
			continue;
		ck_assert_uint_eq(found, shards);
		found = shard;
	}
	ck_assert_uint_lt(found, shards);
	ck_assert(take_now(d, found, 1, &list));
	ck_assert_ptr_eq(list.first, &r);
	ck_assert_uint_eq(list.count, 1);
	ck_assert_uint_eq(dispatch_depth(d, found), 0);
	return found;
}

START_TEST(test_dispatch__an_order_has_one_shard)
{
	enum { SHARDS = 4 };
	struct dispatch *d = dispatch_new(SHARDS), *other = dispatch_new(SHARDS);
	int orders[SHARDS] = {0};

	for (int id = 0; id < IDS; id++) {
		size_t shard = shard_of(d, SHARDS, id);
		ck_assert_uint_eq(shard_of(d, SHARDS, id), shard);
		ck_assert_uint_eq(shard_of(other, SHARDS, id), shard);
		orders[shard]++;
	}
	/* All work, none of them much more than the others. */
	for (int shard = 0; shard < SHARDS; shard++)
		ck_assert_msg(orders[shard] > IDS / SHARDS / 2 && orders[shard] < IDS / SHARDS * 2,
			      "shard %d: %d orders", shard, orders[shard]);
	dispatch_free(other);
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__first_in_first_out_and_at_most_max)
{
	static const size_t sizes[] = {4, 4, 2};
	struct dispatch *d = dispatch_new(1);
	struct record records[10];
	struct record_list list;
	uint64_t next = 0;

	for (uint64_t i = 0; i < 10; i++) {
		records[i] = record_of((int)i % 3, i);
		dispatch_put(d, &records[i]);
	}
	size_t left = 10;
	for (size_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(dispatch_depth(d, 0), left);
		ck_assert(take_now(d, 0, 4, &list));
		ck_assert_uint_eq(list.count, sizes[i]);
		left -= sizes[i];
		for (struct record *r; (r = record_list_take(&list));)
			ck_assert_uint_eq(r->ticket, next++);
	}
	ck_assert_uint_eq(next, 10);
	/* The queue goes on after it was emptied in one piece, and after it was cut. */
	dispatch_put(d, &records[0]);
	ck_assert(take_now(d, 0, 4, &list));
	ck_assert_ptr_eq(list.first, &records[0]);
	ck_assert_ptr_null(list.first->next);
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__taken_records_go_behind_those_of_the_caller)
{
	struct dispatch *d = dispatch_new(1);
	struct record own = record_of(0, 1), queued = record_of(0, 2), kept = record_of(0, 3);
	struct record_list list = {0};

	record_list_append(&list, &own);
	dispatch_put(d, &queued);
	dispatch_put(d, &kept);
	ck_assert(dispatch_take(d, 0, 1, 0, 0, &list));
	ck_assert_uint_eq(list.count, 2);
	ck_assert_ptr_eq(list.first, &own);
	ck_assert_ptr_eq(list.last, &queued);
	ck_assert_ptr_null(list.last->next);
	ck_assert(take_now(d, 0, 1, &list));
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__a_deadline_passes_with_nothing)
{
	struct dispatch *d = dispatch_new(2);
	struct record_list list = {0};

	int64_t deadline_us = clock_mono_us() + 20000;
	ck_assert(dispatch_take(d, 1, 10, 0, deadline_us, &list));
	ck_assert_int_ge(clock_mono_us(), deadline_us);
	ck_assert_uint_eq(list.count, 0);
	ck_assert_ptr_null(list.first);
	ck_assert(dispatch_take(d, 1, 10, 0, 0, &list)); /* one in the past */
	ck_assert_uint_eq(list.count, 0);
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__waits_for_a_full_batch_until_a_time)
{
	struct dispatch *d = dispatch_new(1);
	struct record records[3] = {record_of(0, 1), record_of(0, 2), record_of(0, 3)};
	struct record_list list = {0};

	dispatch_put(d, &records[0]);
	int64_t until_us = clock_mono_us() + 20000;
	ck_assert(dispatch_take(d, 0, 2, until_us, NEVER_US, &list));
	ck_assert_int_ge(clock_mono_us(), until_us);
	ck_assert_uint_eq(list.count, 1);

	dispatch_put(d, &records[1]);
	dispatch_put(d, &records[2]);
	list = (struct record_list){0};
	ck_assert(dispatch_take(d, 0, 2, NEVER_US, NEVER_US, &list)); /* at once, or it never ends */
	ck_assert_uint_eq(list.count, 2);
	list = (struct record_list){0};
	ck_assert(dispatch_take(d, 0, 2, clock_mono_us() + 1000, 0, &list)); /* nothing came */
	ck_assert_uint_eq(list.count, 0);
	dispatch_free(d);
}
END_TEST

/* ---- closing ---- */

struct waiter {
	struct dispatch *d;
	size_t shard;
	int64_t full_until_us;
	bool open;
	size_t taken;
};

static void *wait_for_records(void *argument)
{
	struct waiter *w = argument;
	struct record_list list = {0};
	w->open = dispatch_take(w->d, w->shard, 10, w->full_until_us, NEVER_US, &list);
	w->taken = list.count;
	return NULL;
}

/* Whether it finds them asleep or on their way: they leave. */
START_TEST(test_dispatch__close_wakes_all_waiters)
{
	enum { SHARDS = 3 };
	struct dispatch *d = dispatch_new(SHARDS);
	struct waiter waiters[SHARDS];
	pthread_t threads[SHARDS];

	for (size_t i = 0; i < SHARDS; i++) {
		waiters[i] = (struct waiter){.d = d, .shard = i, .open = true, .taken = 1};
		threads[i] = thread_start("waiter", wait_for_records, &waiters[i]);
	}
	dispatch_close(d);
	for (size_t i = 0; i < SHARDS; i++) {
		thread_join(threads[i]);
		ck_assert(!waiters[i].open);
		ck_assert_uint_eq(waiters[i].taken, 0);
	}
	dispatch_free(d);
}
END_TEST

/* Ten records and no less end the waits, whether they find the taker asleep or on its way. */
START_TEST(test_dispatch__a_taker_wakes_when_its_batch_is_full)
{
	struct dispatch *d = dispatch_new(1);
	struct record records[10];
	struct waiter waiter = {.d = d, .full_until_us = NEVER_US};
	pthread_t thread = thread_start("waiter", wait_for_records, &waiter);

	for (uint64_t i = 0; i < 10; i++) {
		records[i] = record_of(0, i);
		dispatch_put(d, &records[i]);
	}
	thread_join(thread);
	ck_assert(waiter.open);
	ck_assert_uint_eq(waiter.taken, 10);
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__closing_ends_the_wait_for_a_full_batch)
{
	struct dispatch *d = dispatch_new(1);
	struct record only = record_of(0, 1);
	struct waiter waiter = {.d = d, .full_until_us = NEVER_US};
	pthread_t thread = thread_start("waiter", wait_for_records, &waiter);

	dispatch_put(d, &only);
	dispatch_close(d);
	thread_join(thread);
	ck_assert(waiter.open);
	ck_assert_uint_eq(waiter.taken, 1);
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__a_closed_one_is_emptied_first)
{
	struct dispatch *d = dispatch_new(1);
	struct record records[5];
	struct record_list list;

	for (uint64_t i = 0; i < 5; i++) {
		records[i] = record_of(0, i);
		dispatch_put(d, &records[i]);
	}
	dispatch_close(d);
	ck_assert(take_now(d, 0, 3, &list));
	ck_assert_uint_eq(list.count, 3);
	list = (struct record_list){0};
	ck_assert(dispatch_take(d, 0, 3, 0, NEVER_US, &list));
	ck_assert_uint_eq(list.count, 2);
	ck_assert_ptr_eq(list.last, &records[4]);
	list = (struct record_list){0};
	ck_assert(!dispatch_take(d, 0, 3, 0, NEVER_US, &list));
	ck_assert_uint_eq(list.count, 0);
	ck_assert(!take_now(d, 0, 3, &list));
	dispatch_free(d);
}
END_TEST

START_TEST(test_dispatch__putting_into_a_closed_one_is_a_bug)
{
	struct dispatch *d = dispatch_new(1);
	struct record r = record_of(0, 0);
	dispatch_close(d);
	dispatch_put(d, &r);
}
END_TEST

START_TEST(test_dispatch__freeing_a_filled_one_is_a_bug)
{
	struct dispatch *d = dispatch_new(2);
	struct record r = record_of(0, 0);
	dispatch_put(d, &r);
	dispatch_free(d);
}
END_TEST

/* ---- waking ---- */

/* Sends back each record that comes, until the queue is closed. */
struct echo {
	struct dispatch *from, *to;
	int wrong;
};

static void *echo(void *argument)
{
	struct echo *e = argument;
	for (;;) {
		struct record_list list = {0};
		if (!dispatch_take(e->from, 0, 10, 0, NEVER_US, &list))
			return NULL;
		e->wrong += list.count != 1;
		for (struct record *r; (r = record_list_take(&list));)
			dispatch_put(e->to, r);
	}
}

/* One record to and fro: at each turn a side is asleep or just about to be, and a wake-up that got lost would leave
 * both waiting. */
START_TEST(test_dispatch__no_wake_up_is_lost)
{
	enum { TURNS = 20000 };
	struct dispatch *there = dispatch_new(1), *back = dispatch_new(1);
	struct echo e = {there, back, 0};
	struct record r = record_of(0, 0);
	pthread_t thread = thread_start("echo", echo, &e);
	int wrong = 0;

	for (int i = 0; i < TURNS; i++) {
		struct record_list list = {0};
		dispatch_put(there, &r);
		wrong += !dispatch_take(back, 0, 1, 0, NEVER_US, &list);
		wrong += list.first != &r;
	}
	dispatch_close(there);
	thread_join(thread);
	ck_assert_int_eq(wrong + e.wrong, 0);
	dispatch_free(back);
	dispatch_free(there);
}
END_TEST

/* ---- all at once ---- */

enum { PRODUCERS = 2, TAKERS = 2, RECORDS = 100000, ORDERS = 500, MAX = 7 };

struct stress {
	struct dispatch *d;
	struct record *records;       /* producer p makes those of the orders p, p + PRODUCERS, ... */
	_Atomic int taker_of[ORDERS]; /* 1 + the shard that had it */
	uint64_t next[ORDERS];        /* its taker's */
	size_t taken[TAKERS];
	_Atomic int wrong;
};

struct role {
	struct stress *s;
	size_t index;
};

static void *produce(void *argument)
{
	const struct role *role = argument;
	uint64_t numbers[ORDERS] = {0};
	for (size_t i = role->index; i < RECORDS; i += PRODUCERS) {
		int order = (int)(i * 7919 % ORDERS);
		order += (int)role->index - order % PRODUCERS;
		struct record *r = &role->s->records[i];
		*r = record_of(order, numbers[order]++);
		r->attempts = (uint32_t)order;
		dispatch_put(role->s->d, r);
	}
	return NULL;
}

static void *take(void *argument)
{
	const struct role *role = argument;
	struct stress *s = role->s;
	for (;;) {
		struct record_list list = {0};
		if (!dispatch_take(s->d, role->index, MAX, 0, NEVER_US, &list))
			return NULL;
		s->wrong += list.count == 0 || list.count > MAX;
		for (struct record *r; (r = record_list_take(&list));) {
			uint32_t order = r->attempts;
			int before = atomic_exchange(&s->taker_of[order], (int)role->index + 1);
			s->wrong += before && before != (int)role->index + 1;
			s->wrong += r->ticket != s->next[order]++;
			s->taken[role->index]++;
		}
	}
}

START_TEST(test_dispatch__two_producers_and_two_takers)
{
	static struct stress s;
	struct role producers[PRODUCERS], takers[TAKERS];
	pthread_t producing[PRODUCERS], taking[TAKERS];

	s.d = dispatch_new(TAKERS);
	s.records = calloc(RECORDS, sizeof(*s.records));
	ck_assert_ptr_nonnull(s.records);
	for (size_t i = 0; i < TAKERS; i++) {
		takers[i] = (struct role){&s, i};
		taking[i] = thread_start("taker", take, &takers[i]);
	}
	for (size_t i = 0; i < PRODUCERS; i++) {
		producers[i] = (struct role){&s, i};
		producing[i] = thread_start("producer", produce, &producers[i]);
	}
	for (size_t i = 0; i < PRODUCERS; i++)
		thread_join(producing[i]);
	dispatch_close(s.d);
	for (size_t i = 0; i < TAKERS; i++)
		thread_join(taking[i]);
	ck_assert_int_eq(s.wrong, 0);
	ck_assert_uint_eq(s.taken[0] + s.taken[1], RECORDS);
	ck_assert_uint_gt(s.taken[0], RECORDS / 4);
	ck_assert_uint_gt(s.taken[1], RECORDS / 4);
	dispatch_free(s.d);
	free(s.records);
}
END_TEST

/* ---- random lives ---- */

/*
 * Producers and takers that do as their seeds say: pauses, deadlines that pass, takes of any size, a queue that is
 * closed while takers sleep, are about to, or have plenty left. The model is what each record says of itself:
 * whose order, the how manieth of it, and how often it was taken. The budget is asked as consumers ask it: past it a
 * producer waits until half of it is free again.
 */
enum { LIVES = 12, LIFE_PRODUCERS = 3, LIFE_SHARDS = 3, LIFE_RECORDS = 6000, LIFE_ORDERS = 40, LIFE_BUDGET = 50 };

struct life {
	struct dispatch *d;
	struct budget budget;
	struct record records[LIFE_PRODUCERS][LIFE_RECORDS];
	uint64_t next[LIFE_PRODUCERS][LIFE_ORDERS]; /* its taker's */
	_Atomic int taken[LIFE_PRODUCERS][LIFE_RECORDS];
	_Atomic int shard_of[LIFE_ORDERS];          /* 1 + */
	_Atomic size_t in_flight_max;
	_Atomic int wrong;
};

struct life_role {
	struct life *life;
	size_t index;
	struct prng random;
};

static void linger(struct prng *random)
{
	if (prng_below(random, 40) == 0)
		sched_yield();
	else if (prng_below(random, 400) == 0)
		nanosleep(&(struct timespec){.tv_nsec = (long)prng_below(random, 200000)}, NULL);
}

static void wait_for_room(struct life *l)
{
	if (!budget_is_spent(&l->budget))
		return;
	while (!budget_has_room(&l->budget))
		sched_yield();
}

static void *live_producing(void *argument)
{
	struct life_role *role = argument;
	struct life *l = role->life;
	uint64_t numbers[LIFE_ORDERS] = {0};
	for (size_t i = 0; i < LIFE_RECORDS; i++) {
		struct record *r = &l->records[role->index][i];
		int order = (int)prng_below(&role->random, LIFE_ORDERS);
		linger(&role->random);
		wait_for_room(l);
		*r = record_of(order, numbers[order]++);
		r->attempts = (uint32_t)order;
		r->epoch = role->index;
		r->block_size = 1 + prng_below(&role->random, 100);
		budget_take(&l->budget, r->block_size);
		size_t flying = atomic_load(&l->budget.records);
		if (flying > atomic_load(&l->in_flight_max))
			atomic_store(&l->in_flight_max, flying);
		dispatch_put(l->d, r);
	}
	return NULL;
}

static void live_taking_one(struct life_role *role, struct record *r)
{
	struct life *l = role->life;
	size_t producer = r->epoch, number = (size_t)(r - l->records[producer]);
	int shard = (int)role->index + 1, before = atomic_exchange(&l->shard_of[r->attempts], shard);
	l->wrong += before && before != shard;
	l->wrong += atomic_fetch_add(&l->taken[producer][number], 1) != 0;
	l->wrong += r->ticket != l->next[producer][r->attempts]++;
	budget_give(&l->budget, r->block_size);
}

static void *live_taking(void *argument)
{
	struct life_role *role = argument;
	struct life *l = role->life;
	for (;;) {
		struct record_list list = {0};
		size_t max = 1 + prng_below(&role->random, 20);
		int64_t deadline_us = prng_below(&role->random, 3) ? NEVER_US
		                                                   : clock_mono_us() + (int64_t)prng_below(&role->random, 300);
		bool open = dispatch_take(l->d, role->index, max, 0, deadline_us, &list);
		l->wrong += list.count > max || (!open && list.count > 0);
		for (struct record *r; (r = record_list_take(&list));)
			live_taking_one(role, r);
		if (!open)
			return NULL;
		linger(&role->random);
	}
}

START_TEST(test_dispatch__random_lives)
{
	static struct life l;
	struct life_role producers[LIFE_PRODUCERS], takers[LIFE_SHARDS];
	pthread_t producing[LIFE_PRODUCERS], taking[LIFE_SHARDS];
	const char *text = getenv("DW_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 20260101;
	seed += (uint64_t)_i * 100;

	l.d = dispatch_new(LIFE_SHARDS);
	l.budget = (struct budget){.records_max = LIFE_BUDGET, .bytes_max = LIFE_BUDGET * 40};
	for (size_t i = 0; i < LIFE_SHARDS; i++) {
		takers[i] = (struct life_role){&l, i, prng_of(seed + i)};
		taking[i] = thread_start("taker", live_taking, &takers[i]);
	}
	for (size_t i = 0; i < LIFE_PRODUCERS; i++) {
		producers[i] = (struct life_role){&l, i, prng_of(seed + 50 + i)};
		producing[i] = thread_start("producer", live_producing, &producers[i]);
	}
	for (size_t i = 0; i < LIFE_PRODUCERS; i++)
		thread_join(producing[i]);
	dispatch_close(l.d);
	for (size_t i = 0; i < LIFE_SHARDS; i++)
		thread_join(taking[i]);
	ck_assert_msg(l.wrong == 0, "DW_TEST_SEED=%llu: %d wrong", (unsigned long long)seed, l.wrong);
	for (size_t i = 0; i < LIFE_PRODUCERS; i++)
		for (size_t k = 0; k < LIFE_RECORDS; k++)
			if (l.taken[i][k] != 1)
				ck_abort_msg("DW_TEST_SEED=%llu: record %zu of %zu taken %d times",
					     (unsigned long long)seed, k, i, l.taken[i][k]);
	ck_assert_uint_eq(l.budget.records, 0);
	ck_assert_uint_eq(l.budget.bytes, 0);
	/* Each producer may overshoot by the record that it has in its hand. */
	ck_assert_uint_le(l.in_flight_max, LIFE_BUDGET + LIFE_PRODUCERS - 1);
	dispatch_free(l.d);
}
END_TEST

int main(void)
{
	fill_ids();
	Suite *suite = suite_create("dispatch");
	TCase *tc = tcase_create("dispatch");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_dispatch__an_order_has_one_shard);
	tcase_add_test(tc, test_dispatch__first_in_first_out_and_at_most_max);
	tcase_add_test(tc, test_dispatch__taken_records_go_behind_those_of_the_caller);
	tcase_add_test(tc, test_dispatch__a_deadline_passes_with_nothing);
	tcase_add_test(tc, test_dispatch__waits_for_a_full_batch_until_a_time);
	tcase_add_test(tc, test_dispatch__close_wakes_all_waiters);
	tcase_add_test(tc, test_dispatch__a_taker_wakes_when_its_batch_is_full);
	tcase_add_test(tc, test_dispatch__closing_ends_the_wait_for_a_full_batch);
	tcase_add_test(tc, test_dispatch__a_closed_one_is_emptied_first);
	tcase_add_test_raise_signal(tc, test_dispatch__putting_into_a_closed_one_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(tc, test_dispatch__freeing_a_filled_one_is_a_bug, SIGABRT);
	tcase_add_test(tc, test_dispatch__no_wake_up_is_lost);
	tcase_add_test(tc, test_dispatch__two_producers_and_two_takers);
	tcase_add_loop_test(tc, test_dispatch__random_lives, 0, LIVES);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
