#include "worker/pipeline/batch.h"

#include "common/ensure.h"
#include "worker/pipeline/deferral.h"
#include "worker/pipeline/partition.h"

#include <stdlib.h>

#define NO_INDEX ((uint32_t)BATCH_NO_INDEX)

static void *array_of(size_t count, size_t size)
{
	void *memory = calloc(count, size);
	ENSURE(memory);
	return memory;
}

void batch_init(struct batch *b, size_t max)
{
	memset(b, 0, sizeof(*b));
	b->max = max;
	/* Half full at the most, a power of two. */
	for (b->bucket_count = 16; b->bucket_count < max * 2;)
		b->bucket_count *= 2;
	b->records = array_of(max, sizeof(*b->records));
	b->marks = array_of(max, sizeof(*b->marks));
	b->items = array_of(max, sizeof(*b->items));
	b->done = array_of(max, sizeof(*b->done));
	b->requests = array_of(max, sizeof(*b->requests));
	b->fates = array_of(max, sizeof(*b->fates));
	b->request_of = array_of(max, sizeof(*b->request_of));
	b->buckets = array_of(b->bucket_count, sizeof(*b->buckets));
}

void batch_release(struct batch *b)
{
	free(b->records);
	free(b->marks);
	free(b->items);
	free(b->done);
	free(b->requests);
	free(b->buckets);
	free(b->fates);
	free(b->request_of);
}

void batch_load(struct batch *b, struct record_list *list)
{
	record_list_join(&b->later, list);
	struct record_list others = {0};
	struct record *r;
	while ((r = record_list_take(&b->later))) {
		bool fits = b->count < b->max && (b->count == 0 || history_epoch_equal(&r->history, &b->records[0]->history));
		if (fits)
			b->records[b->count++] = r;
		else
			record_list_append(&others, r);
	}
	b->later = others;
}

void batch_remove(struct batch *b, const bool *gone, enum outcome outcome, struct record_list *to)
{
	size_t kept = 0;
	for (size_t i = 0; i < b->count; i++) {
		if (gone[i]) {
			b->records[i]->outcome = outcome;
			record_list_append(to, b->records[i]);
		} else {
			b->records[kept] = b->records[i];
			b->marks[kept++] = b->marks[i];
		}
	}
	b->count = kept;
}

void batch_digest(struct batch *b, size_t from, const uint8_t key[16])
{
	for (size_t i = from; i < b->count; i++) {
		event_digest(&b->records[i]->event, key, &b->marks[i].digest);
		b->marks[i].timestamp_us = b->records[i]->event.timestamp_us;
	}
}

void batch_drop_repeats(struct batch *b)
{
	memset(b->buckets, 0xff, b->bucket_count * sizeof(*b->buckets));
	bool any = false;
	for (size_t i = 0; i < b->count; i++) {
		uint64_t hash;
		memcpy(&hash, b->marks[i].digest.bytes, sizeof(hash));
		size_t at = hash & (b->bucket_count - 1);
		b->done[i] = false;
		for (; b->buckets[at] != NO_INDEX; at = (at + 1) & (b->bucket_count - 1)) {
			size_t earlier = b->buckets[at];
			if (memcmp(&b->marks[earlier].digest, &b->marks[i].digest, sizeof(b->marks[i].digest)) == 0 &&
			    event_equal(&b->records[earlier]->event, &b->records[i]->event)) {
				b->done[i] = any = true;
				b->records[i]->repeats = b->records[earlier];
				break;
			}
		}
		if (!b->done[i])
			b->buckets[at] = (uint32_t)i;
	}
	if (any)
		batch_remove(b, b->done, OUTCOME_DUPLICATE, &b->repeats);
}

/* Not sooner: until its COMMIT the first one may be let go with its partition, deferred or refused, and then nothing
 * would stand for an offset that had been settled. */
void batch_judge_repeats(struct batch *b)
{
	struct record *r;
	while ((r = record_list_take(&b->repeats))) {
		bool written = r->repeats->committed_us != 0;
		r->repeats = NULL;
		record_list_append(written ? &b->returned : &b->later, r);
	}
}

void batch_drop_unwanted(struct batch *b)
{
	bool any = false;
	for (size_t i = 0; i < b->count; i++)
		any |= b->done[i] = !partition_wants(b->records[i]);
	if (any)
		batch_remove(b, b->done, OUTCOME_RELEASED, &b->returned);
}

/* ---- admission ---- */

static size_t request_for(struct batch *b, size_t *count, struct slice partner, const struct rate_limit *limit,
                          int64_t shown)
{
	uint32_t hash = UINT32_C(2166136261);
	for (size_t i = 0; i < partner.len; i++)
		hash = (hash ^ (uint8_t)partner.data[i]) * UINT32_C(16777619);
	size_t at = hash & (b->bucket_count - 1);
	for (; b->buckets[at] != NO_INDEX; at = (at + 1) & (b->bucket_count - 1))
		if (b->requests[b->buckets[at]].shown == shown &&
		    slice_equal(b->requests[b->buckets[at]].partner_id, partner))
			return b->buckets[at];
	b->buckets[at] = (uint32_t)*count;
	b->requests[*count] = (struct gate_request){
	        .partner_id = partner, .per_second = limit->per_second, .burst = limit->burst, .shown = shown};
	return (*count)++;
}

static struct rate_limit limit_of(struct slice partner, const struct rules *rules, const struct rate_limit *standard)
{
	struct rate_limit limit = *standard;
	if (rules) {
		const struct partner_settings *own = rules_partner(rules, partner);
		if (own->per_second >= 0)
			limit.per_second = own->per_second;
		if (own->burst >= 0)
			limit.burst = own->burst;
	}
	return limit;
}

/* Returns: the generation under which the record was charged, 0 when it is to be charged (anew). */
static int64_t shown_by(const struct record *r, const struct rate_limit *limit, int64_t now_ms, int64_t defer_ms)
{
	bool holds = r->slot.at_ms > 0 && r->slot.per_second == limit->per_second &&
	             deferral_turn(now_ms, r->slot.at_ms, defer_ms) != DEFERRAL_LATE;
	return holds ? r->slot.generation : 0;
}

size_t batch_collect_requests(struct batch *b, const struct rules *rules, const struct rate_limit *standard,
                              int64_t now_ms, int64_t defer_ms)
{
	if (!standard->per_second && (!rules || rules_partner_count(rules) == 0))
		return 0;
	memset(b->buckets, 0xff, b->bucket_count * sizeof(*b->buckets));
	size_t count = 0;
	for (size_t i = 0; i < b->count; i++) {
		const struct record *r = b->records[i];
		b->request_of[i] = NO_INDEX;
		if (r->admitted || !slice_present(r->event.partner_id))
			continue;
		struct rate_limit limit = limit_of(r->event.partner_id, rules, standard);
		if (limit.per_second <= 0)
			continue;
		size_t request = request_for(b, &count, r->event.partner_id, &limit,
		                             shown_by(r, &limit, now_ms, defer_ms));
		b->requests[request].wanted++;
		b->request_of[i] = (uint32_t)request;
	}
	return count;
}

/* Rounded up: before its turn a record would be early. */
static int64_t turn_ms(const struct gate_request *request, int64_t place, int64_t now_ms)
{
	return now_ms + (gate_wait_us(request, place) + 999) / 1000;
}

enum admission { ADMITTED, WAITS, UNDECIDED };

static enum admission judge(struct record *r, struct gate_request *request, int64_t now_ms, int64_t defer_ms)
{
	if (request->shown && request->generation == request->shown) {
		/* By then all that was charged is paid. The slot of a clock that is far ahead, or of a charge that the
		 * key has lost, is no slot. */
		int64_t paid_ms = turn_ms(request, 0, now_ms);
		if (r->slot.at_ms <= paid_ms + deferral_slot_life_ms(defer_ms))
			return r->slot.at_ms <= now_ms ? ADMITTED : WAITS;
		r->slot = (struct rate_slot){0};
		return UNDECIDED;
	}
	if (request->granted > 0) {
		request->granted--;
		return ADMITTED;
	}
	r->slot = (struct rate_slot){turn_ms(request, request->placed++, now_ms), request->per_second,
	                             request->generation};
	return WAITS;
}

bool batch_apply_grants(struct batch *b, int64_t now_ms, int64_t defer_ms)
{
	bool any = false, undecided = false;
	for (size_t i = 0; i < b->count; i++) {
		b->done[i] = false;
		if (b->request_of[i] == NO_INDEX)
			continue;
		switch (judge(b->records[i], &b->requests[b->request_of[i]], now_ms, defer_ms)) {
		case ADMITTED:
			b->records[i]->admitted = true;
			break;
		case WAITS:
			b->done[i] = any = true;
			break;
		case UNDECIDED:
			undecided = true;
			break;
		}
	}
	if (any)
		batch_remove(b, b->done, OUTCOME_DEFERRED, &b->outgoing);
	return undecided;
}

/* ---- the write ---- */

size_t batch_sweep(struct batch *b, int64_t committed_us, struct gate_mark *written)
{
	size_t kept = 0, marks = 0;
	for (size_t i = 0; i < b->count; i++) {
		struct record *r = b->records[i];
		switch ((enum batch_fate)b->fates[i]) {
		case FATE_OPEN:
			b->records[kept] = r;
			b->marks[kept++] = b->marks[i];
			break;
		case FATE_WRITTEN:
			r->committed_us = committed_us;
			written[marks++] = b->marks[i];
			record_list_append(&b->returned, r);
			break;
		case FATE_DEFERRED:
			r->outcome = OUTCOME_DEFERRED;
			r->unknown_code = true;
			record_list_append(&b->outgoing, r);
			break;
		case FATE_LETTER:
			record_list_append(&b->outgoing, r);
			break;
		}
	}
	b->count = kept;
	return marks;
}

void batch_release_records(struct batch *b)
{
	for (size_t i = 0; i < b->count; i++)
		b->done[i] = true;
	batch_remove(b, b->done, OUTCOME_RELEASED, &b->returned);
}
