/*
 * The ledger write alone: batches from memory into PostgreSQL, no Kafka, Redis or JSON. What the worker could do at
 * the most with these statements.
 *
 *     ledger_load DSN CONNECTIONS BATCH < events.ndjson
 *
 * An order is one connection's, as it is one worker's, and its events come in the order of the lines. Lines that the
 * worker would refuse or know as repeats are left out of what is written, but count in events/s. The schema is
 * migrated, has a rule, and its tables are empty. Prints one JSON object.
 */
#include "common/clock.h"
#include "common/parse.h"
#include "common/thread.h"
#include "tests/bench/event_lines.c"
#include "worker/ledger/ledger.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { CONNECTIONS_MAX = 64, BATCH_MAX = 10000 };

/* One connection's share of the events. */
struct load {
	struct store_settings store;
	struct history_epoch epoch;
	size_t index;
	size_t batch;
	const struct event **events;
	size_t count;
	size_t credited;
	pthread_t thread;
};

static void write_batch(struct ledger *ledger, struct load *load, struct ledger_item *items, size_t count)
{
	bool wrote;
	enum store_result r;
	while ((r = ledger_write(ledger, &load->epoch, items, count, &wrote)) != STORE_OK) {
		fprintf(stderr, "ledger_load: %s\n", ledger_error(ledger));
		ENSURE(r == STORE_RETRY);
	}
	for (size_t i = 0; i < count; i++)
		load->credited += !items[i].conflict_field && items[i].outcome == OUTCOME_CREDITED;
}

static void *run(void *argument)
{
	struct load *load = argument;
	struct ledger *ledger = ledger_new(&load->store, load->index, load->batch);
	struct ledger_item *items = calloc(load->batch, sizeof(*items));
	ENSURE(items);
	for (size_t sent = 0; sent < load->count;) {
		size_t count = load->count - sent < load->batch ? load->count - sent : load->batch;
		for (size_t i = 0; i < count; i++)
			items[i] = (struct ledger_item){
				.event = load->events[sent + i],
				.source = {SLICE_LITERAL("load"), (int32_t)load->index, (int64_t)(sent + i)}};
		write_batch(ledger, load, items, count);
		sent += count;
	}
	free(items);
	ledger_free(ledger);
	return NULL;
}

static void share_out(const struct event_lines *lines, struct load *loads, size_t connections)
{
	for (size_t i = 0; i < connections; i++) {
		loads[i].events = calloc(lines->count + 1, sizeof(struct event *));
		ENSURE(loads[i].events);
	}
	for (size_t i = 0; i < lines->count; i++) {
		/* As the worker's queue has it: an order's events go to one connection. */
		struct load *load = &loads[slice_hash(lines->events[i].order_id) % connections];
		load->events[load->count++] = &lines->events[i];
	}
}

static struct history_epoch present_epoch(const struct store_settings *settings)
{
	struct store *s = store_new(settings, 0);
	struct history_epoch epoch;
	const char *because;
	ENSURE(store_assign(s, &(struct store_member){.group = "load"}, NULL, 0, &epoch, &because) == STORE_OK);
	store_free(s);
	return epoch;
}

static double cpu_us(void)
{
	struct rusage used;
	ENSURE(getrusage(RUSAGE_SELF, &used) == 0);
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
	       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static void report(const struct event_lines *lines, const struct load *loads, size_t connections, double seconds,
                   double used_us)
{
	size_t credited = 0;
	for (size_t i = 0; i < connections; i++)
		credited += loads[i].credited;
	printf("{\"events\": %zu, \"written\": %zu, \"refused\": %zu, \"repeats\": %zu, \"credited\": %zu, "
	       "\"seconds\": %.6f, \"cpu_us\": %.0f}\n",
	       lines->lines, lines->count, lines->refused, lines->repeats, credited, seconds, used_us);
}

int main(int argc, char **argv)
{
	int64_t connections, batch;
	if (argc != 4 || !parse_int64_within(slice_of(argv[2]), 1, CONNECTIONS_MAX, &connections) ||
	    !parse_int64_within(slice_of(argv[3]), 1, BATCH_MAX, &batch)) {
		fprintf(stderr, "usage: ledger_load DSN CONNECTIONS BATCH < events.ndjson\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	struct event_lines lines;
	event_lines_read(&lines);
	struct store_board *board = store_board_new((size_t)connections);
	const struct store_settings settings = {.dsn = argv[1],
	                                        .schema = "delivery",
	                                        .connect_timeout_ms = 5000,
	                                        .statement_timeout_ms = 30000,
	                                        .idle_timeout_ms = 10000,
	                                        .slots = 16,
	                                        .board = board};
	struct load loads[CONNECTIONS_MAX] = {0};
	share_out(&lines, loads, (size_t)connections);
	struct history_epoch epoch = present_epoch(&settings);
	double used_us = cpu_us();
	int64_t begun_us = clock_mono_us();
	for (int64_t i = 0; i < connections; i++) {
		loads[i].store = settings;
		loads[i].epoch = epoch;
		loads[i].index = (size_t)i;
		loads[i].batch = (size_t)batch;
		loads[i].thread = thread_start("load", run, &loads[i]);
	}
	for (int64_t i = 0; i < connections; i++)
		thread_join(loads[i].thread);
	report(&lines, loads, (size_t)connections, (double)(clock_mono_us() - begun_us) / 1e6, cpu_us() - used_us);
	for (int64_t i = 0; i < connections; i++)
		free(loads[i].events);
	store_board_free(board);
	return 0;
}
