#include "tests/bench/event_lines.h"

#include "common/clock.h"

#include <stdio.h>
#include <stdlib.h>

/* Digests of what was read, open addressing; all zero is free. */
struct digests {
	struct event_digest *slots;
	size_t capacity; /* a power of two */
	size_t used;
};

static bool is_free(const struct event_digest *d)
{
	static const struct event_digest none;
	return memcmp(d, &none, sizeof(none)) == 0;
}

static bool put(struct digests *set, const struct event_digest *d)
{
	size_t at;
	memcpy(&at, d->bytes, sizeof(at));
	for (;; at++) {
		struct event_digest *slot = &set->slots[at & (set->capacity - 1)];
		if (is_free(slot)) {
			*slot = *d;
			set->used++;
			return true;
		}
		if (memcmp(slot, d, sizeof(*d)) == 0)
			return false;
	}
}

static void grow(struct digests *set)
{
	struct digests larger = {.capacity = set->capacity ? set->capacity * 2 : 1 << 16};
	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	ENSURE(larger.slots);
	for (size_t i = 0; i < set->capacity; i++)
		if (!is_free(&set->slots[i]))
			(void)put(&larger, &set->slots[i]);
	free(set->slots);
	*set = larger;
}

/* Returns: whether it was not there. */
static bool add(struct digests *set, const struct event_digest *d)
{
	if (set->used * 2 >= set->capacity)
		grow(set);
	return put(set, d);
}

static void keep(struct event_lines *lines, const struct event *event)
{
	if ((lines->count & (lines->count - 1)) == 0) {
		lines->events = realloc(lines->events, (lines->count ? lines->count * 2 : 1) * sizeof(*lines->events));
		ENSURE(lines->events);
	}
	struct event *kept = &lines->events[lines->count++];
	*kept = *event;
	char *storage = malloc(event_strings_size(event) + 1);
	ENSURE(storage);
	event_move_strings(kept, storage);
}

void event_lines_read(struct event_lines *lines)
{
	static const uint8_t key[16];
	event_setup();
	struct event_decoder *decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = false});
	struct digests digests = {0};
	struct event event;
	struct event_digest digest;
	struct decode_error error;
	char *line = NULL;
	size_t capacity = 0;
	ssize_t len;
	*lines = (struct event_lines){0};
	while ((len = getline(&line, &capacity, stdin)) > 0) {
		len -= line[len - 1] == '\n';
		lines->lines++;
		const struct slice text = {line, (size_t)len};
		if (event_decode(decoder, text, NULL, 0, clock_wall_us(), &event, &error)) {
			lines->refused++;
			continue;
		}
		event_digest(&event, key, &digest);
		if (add(&digests, &digest))
			keep(lines, &event);
		else
			lines->repeats++;
	}
	free(line);
	free(digests.slots);
	event_decoder_free(decoder);
}
