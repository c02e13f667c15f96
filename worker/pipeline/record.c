#include "worker/pipeline/record.h"

#include "common/ensure.h"

#include <stdio.h>
#include <stdlib.h>

void record_refuse(struct record *r, enum error_code code, const char *field, const char *message)
{
	if (r->refusal)
		return;
	r->refusal = malloc(sizeof(*r->refusal));
	ENSURE(r->refusal);
	r->refusal->code = code;
	snprintf(r->refusal->field, sizeof(r->refusal->field), "%s", field);
	snprintf(r->refusal->message, sizeof(r->refusal->message), "%s", message);
	r->outcome = OUTCOME_DEAD_LETTERED;
}

void record_list_append(struct record_list *list, struct record *r)
{
	r->next = NULL;
	if (list->last)
		list->last->next = r;
	else
		list->first = r;
	list->last = r;
	list->count++;
}

void record_list_join(struct record_list *list, struct record_list *from)
{
	if (!from->first)
		return;
	if (list->last)
		list->last->next = from->first;
	else
		list->first = from->first;
	list->last = from->last;
	list->count += from->count;
	*from = (struct record_list){0};
}

struct record *record_list_take(struct record_list *list)
{
	struct record *r = list->first;
	if (!r)
		return NULL;
	list->first = r->next;
	if (!list->first)
		list->last = NULL;
	list->count--;
	r->next = NULL;
	return r;
}

static int class_of(size_t size)
{
	size_t class_size = RECORD_CLASS_MIN;
	for (int class = 0; class < RECORD_CLASSES; class++, class_size *= 2)
		if (size <= class_size)
			return class;
	return -1;
}

void record_pool_init(struct record_pool *p, size_t bytes_max)
{
	memset(p, 0, sizeof(*p));
	p->bytes_max = bytes_max;
}

void record_pool_release(struct record_pool *p)
{
	ENSURE(p->live == 0);
	for (int class = 0; class < RECORD_CLASSES; class++) {
		while (p->free[class]) {
			struct record *r = p->free[class];
			p->free[class] = r->next;
			free(r);
		}
	}
}

static char *copy_bytes(char *to, struct slice from, struct slice *copy)
{
	if (!from.data) {
		*copy = (struct slice){0};
		return to;
	}
	memcpy(to, from.data, from.len);
	*copy = (struct slice){to, from.len};
	return to + from.len;
}

static size_t bytes_needed(const struct kafka_record *k, const struct event *event)
{
	size_t size = sizeof(struct record) + k->header_count * sizeof(struct header) + k->key.len + k->value.len;
	for (size_t i = 0; i < k->header_count; i++)
		size += k->headers[i].name.len + k->headers[i].value.len;
	return event ? size + event_strings_size(event) : size;
}

static bool has_room(const struct record_pool *p, size_t size)
{
	return p->live_bytes + p->kept_bytes + size <= p->bytes_max;
}

static struct record *take_kept(struct record_pool *p, int class)
{
	struct record *r = p->free[class];
	p->free[class] = r->next;
	p->kept_bytes -= (size_t)RECORD_CLASS_MIN << class;
	return r;
}

/* Kept blocks of other sizes give way, the largest first. */
static struct record *new_block(struct record_pool *p, size_t size)
{
	for (int class = RECORD_CLASSES - 1; class >= 0; class--) {
		while (p->free[class] && !has_room(p, size))
			free(take_kept(p, class));
	}
	struct record *r = malloc(size);
	ENSURE(r);
	return r;
}

static struct record *take_block(struct record_pool *p, size_t size)
{
	int class = class_of(size);
	size_t block_size = class < 0 ? size : (size_t)RECORD_CLASS_MIN << class;
	struct record *r = class >= 0 && p->free[class] ? take_kept(p, class) : new_block(p, block_size);
	memset(r, 0, sizeof(*r));
	r->block_size = block_size;
	p->live++;
	p->live_bytes += block_size;
	return r;
}

struct record *record_new(struct record_pool *p, const struct kafka_record *k, const struct event *event)
{
	struct record *r = take_block(p, bytes_needed(k, event));
	r->headers = (struct header *)(r + 1);
	r->header_count = k->header_count;
	char *to = (char *)(r->headers + k->header_count);
	to = copy_bytes(to, k->key, &r->key);
	to = copy_bytes(to, k->value, &r->value);
	for (size_t i = 0; i < k->header_count; i++) {
		to = copy_bytes(to, k->headers[i].name, &r->headers[i].name);
		to = copy_bytes(to, k->headers[i].value, &r->headers[i].value);
	}
	if (event) {
		r->event = *event;
		event_move_strings(&r->event, to);
	}
	r->read_from = k->partition;
	r->source = (struct provenance){slice_of(k->topic), k->partition, k->offset, k->timestamp_us};
	return r;
}

void record_free(struct record_pool *p, struct record *r)
{
	ENSURE(p->live > 0);
	p->live--;
	p->live_bytes -= r->block_size;
	free(r->refusal);
	int class = class_of(r->block_size);
	if (class < 0 || !has_room(p, r->block_size)) {
		free(r);
		return;
	}
	r->next = p->free[class];
	p->free[class] = r;
	p->kept_bytes += r->block_size;
}
