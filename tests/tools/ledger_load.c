/*
 * The ledger write alone: batches from memory into PostgreSQL, no Kafka, Redis or JSON. What the worker could do at
 * the most with these statements.
 *
 *     ledger_load DSN CONNECTIONS BATCH EVENTS lifecycle|delivered
 *
 * lifecycle: six events an order, 20,000 orders alive at a time over all connections. delivered: every event
 * is an order of its own that credits. The schema is migrated, has a rule, and its tables are empty: ids repeat from run
 * to run, and what is there already costs nothing. Prints one line.
 */
#include "common/clock.h"
#include "common/parse.h"
#include "common/prng.h"
#include "common/thread.h"
#include "worker/ledger/ledger.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALIVE = 20000, CUSTOMERS = 1000000, PARTNERS = 700, EVENTS_AN_ORDER = 6, CONNECTIONS_MAX = 64 };

static const enum event_status life[EVENTS_AN_ORDER] = {STATUS_CREATED,   STATUS_CONFIRMED,  STATUS_ASSIGNED,
                                                        STATUS_PICKED_UP, STATUS_IN_TRANSIT, STATUS_DELIVERED};

struct load {
	struct store_settings store;
	struct history_epoch epoch;
	size_t batch;
	int64_t events;
	bool delivered;
	size_t index;
	size_t connections;
	pthread_t thread;
};

/* An order in its life, and the strings of its present event. */
struct life {
	int64_t number;
	int stage;
	int64_t amount;
	char order[32], customer[32], partner[32];
};

struct slot {
	struct life life; /* a copy: the batch's events outlive the order's next step */
	struct event event;
};

static void begin_life(struct life *l, struct prng *random, int64_t number, const struct load *load)
{
	l->number = number;
	l->stage = load->delivered ? EVENTS_AN_ORDER - 1 : 0;
	l->amount = 500 + (int64_t)prng_below(random, 20000);
	snprintf(l->order, sizeof(l->order), "o-%zu-%lld", load->index, (long long)number);
	snprintf(l->customer, sizeof(l->customer), "c%llu", (unsigned long long)prng_zipf(random, CUSTOMERS));
	snprintf(l->partner, sizeof(l->partner), "p%llu", (unsigned long long)prng_zipf(random, PARTNERS));
}

static void fill(struct slot *s, const struct life *l, int64_t at_us)
{
	s->life = *l;
	s->event = (struct event){.order_id = slice_of(s->life.order),
	                          .customer_id = slice_of(s->life.customer),
	                          .partner_id = slice_of(s->life.partner),
	                          .status = life[l->stage],
	                          .timestamp_us = at_us,
	                          .amount_minor = l->amount,
	                          .currency = "EUR"};
}

static void write_batch(struct ledger *ledger, const struct load *load, struct ledger_item *items, size_t count)
{
	bool wrote;
	enum store_result r;
	while ((r = ledger_write(ledger, &load->epoch, items, count, &wrote)) != STORE_OK) {
		fprintf(stderr, "ledger_load: %s\n", ledger_error(ledger));
		ENSURE(r == STORE_RETRY);
	}
}

static void *run(void *argument)
{
	struct load *load = argument;
	struct ledger *ledger = ledger_new(&load->store, load->index, load->batch);
	struct prng random = prng_of(load->index + 1);
	size_t alive = ALIVE / load->connections;
	struct life *lives = calloc(alive, sizeof(*lives));
	struct slot *slots = calloc(load->batch, sizeof(*slots));
	struct ledger_item *items = calloc(load->batch, sizeof(*items));
	ENSURE(lives && slots && items);
	int64_t next = 0, at_us = 1700000000000000;
	for (size_t i = 0; i < alive; i++)
		begin_life(&lives[i], &random, next++, load);
	for (int64_t sent = 0; sent < load->events; sent += (int64_t)load->batch) {
		for (size_t i = 0; i < load->batch; i++) {
			struct life *l = &lives[prng_below(&random, alive)];
			fill(&slots[i], l, at_us += 1000);
			items[i] = (struct ledger_item){.event = &slots[i].event,
			                                .source = {SLICE_LITERAL("load"), 0, sent + (int64_t)i}};
			if (++l->stage == EVENTS_AN_ORDER)
				begin_life(l, &random, next++, load);
		}
		write_batch(ledger, load, items, load->batch);
	}
	free(lives);
	free(slots);
	free(items);
	ledger_free(ledger);
	return NULL;
}

static struct history_epoch present_epoch(const struct store_settings *settings)
{
	struct store *s = store_new(settings, 0);
	struct history_epoch epoch;
	const char *because;
	ENSURE(store_assign(s, "load", NULL, 0, &epoch, &because) == STORE_OK);
	store_free(s);
	return epoch;
}

int main(int argc, char **argv)
{
	int64_t connections, batch, events;
	if (argc != 6 || !parse_int64_within(slice_of(argv[2]), 1, CONNECTIONS_MAX, &connections) ||
	    !parse_int64_within(slice_of(argv[3]), 1, 10000, &batch) ||
	    !parse_int64_within(slice_of(argv[4]), 1, 100000000, &events)) {
		fprintf(stderr, "usage: ledger_load DSN CONNECTIONS BATCH EVENTS lifecycle|delivered\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	struct store_board *board = store_board_new((size_t)connections);
	const struct store_settings settings = {.dsn = argv[1],
	                                        .schema = "delivery",
	                                        .connect_timeout_ms = 5000,
	                                        .statement_timeout_ms = 30000,
	                                        .idle_timeout_ms = 10000,
	                                        .slots = 16,
	                                        .board = board};
	struct load loads[CONNECTIONS_MAX];
	struct history_epoch epoch = present_epoch(&settings);
	int64_t begun_us = clock_mono_us();
	for (int64_t i = 0; i < connections; i++) {
		loads[i] = (struct load){.store = settings, .epoch = epoch, .batch = (size_t)batch,
		                         .events = events / connections, .index = (size_t)i, .connections = (size_t)connections,
		                         .delivered = argv[5][0] == 'd'};
		loads[i].thread = thread_start("load", run, &loads[i]);
	}
	for (int64_t i = 0; i < connections; i++)
		thread_join(loads[i].thread);
	double seconds = (double)(clock_mono_us() - begun_us) / 1e6;
	printf("%s: %lld connections, batch %lld: %.0f events/s\n", argv[5], (long long)connections, (long long)batch,
	       (double)events / seconds);
	store_board_free(board);
	return 0;
}
