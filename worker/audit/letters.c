#include "worker/audit/letters.h"

#include "common/ensure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_START = 64 };

struct entry {
	struct place place;
	enum error_code code; /* ERROR_NONE where there is none to tell */
};

struct list {
	struct entry *entries;
	size_t count, capacity;
	bool sorted;
};

struct letters {
	struct list noted;
	struct list wanted;
	struct list waiting;
	bool incomplete;
};

struct letters *letters_new(void)
{
	struct letters *l = calloc(1, sizeof(*l));
	ENSURE(l);
	return l;
}

void letters_free(struct letters *l)
{
	free(l->noted.entries);
	free(l->wanted.entries);
	free(l->waiting.entries);
	free(l);
}

static void append(struct list *list, struct place place, enum error_code code)
{
	if (list->count == list->capacity) {
		list->capacity = list->capacity ? list->capacity * 2 : LIST_START;
		list->entries = reallocarray(list->entries, list->capacity, sizeof(*list->entries));
		ENSURE(list->entries);
	}
	list->entries[list->count++] = (struct entry){place, code};
	list->sorted = false;
}

void letters_note(struct letters *l, struct place place, enum error_code code)
{
	append(&l->noted, place, code);
}

void letters_incomplete(struct letters *l)
{
	l->incomplete = true;
}

void letters_want(struct letters *l, struct place place, enum error_code code)
{
	append(&l->wanted, place, code);
}

void letters_wait(struct letters *l, struct place place)
{
	append(&l->waiting, place, ERROR_NONE);
}

static int compare_places(const struct place *a, const struct place *b)
{
	if (a->deferred != b->deferred)
		return a->deferred ? 1 : -1;
	if (a->partition != b->partition)
		return a->partition < b->partition ? -1 : 1;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

static int compare_entries(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	int order = compare_places(&a->place, &b->place);
	return order ? order : (a->code > b->code) - (a->code < b->code);
}

static void sort(struct list *list)
{
	if (!list->sorted && list->count)
		qsort(list->entries, list->count, sizeof(*list->entries), compare_entries);
	list->sorted = true;
}

/* Returns: the first entry of that place in a sorted list, or the list's count. */
static size_t find(const struct list *list, const struct place *place)
{
	size_t low = 0, high = list->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_places(&list->entries[middle].place, place) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < list->count && compare_places(&list->entries[low].place, place) == 0 ? low : list->count;
}

static bool is_event_fault(enum error_code code)
{
	return code != ERROR_NONE && code != ERROR_ORDER_CONFLICT && code != ERROR_DATABASE_REJECTED;
}

/* What a letter may say where `wanted` is right: the same, or another fault of an event. */
static bool satisfies(enum error_code said, enum error_code wanted)
{
	return said == wanted || (is_event_fault(said) && is_event_fault(wanted));
}

/* Returns: whether a letter of the place satisfies; *other is what another says, ERROR_NONE without one. */
static bool find_letter(const struct list *noted, const struct place *place, enum error_code wanted,
                        enum error_code *other)
{
	*other = ERROR_NONE;
	for (size_t i = find(noted, place); i < noted->count; i++) {
		if (compare_places(&noted->entries[i].place, place) != 0)
			return false;
		if (satisfies(noted->entries[i].code, wanted))
			return true;
		*other = noted->entries[i].code;
	}
	return false;
}

bool letters_say(struct letters *l, struct place place, enum error_code code)
{
	enum error_code other;
	sort(&l->noted);
	return find_letter(&l->noted, &place, code, &other);
}

void letters_compare(struct letters *l, const char *const topics[2], struct audit_report *report)
{
	uint64_t removed = 0;
	sort(&l->noted);
	sort(&l->wanted);
	sort(&l->waiting);
	audit_check_begin(report, "refused records have their dead letters", "records");
	for (size_t i = 0; i < l->wanted.count; i++) {
		const struct entry *e = &l->wanted.entries[i];
		enum error_code other;
		/* A deferred copy of a record that is in conflict is wanted once with its original. */
		if (i && compare_places(&l->wanted.entries[i - 1].place, &e->place) == 0)
			continue;
		audit_examined(report, 1);
		if (find_letter(&l->noted, &e->place, e->code, &other) ||
		    find(&l->waiting, &e->place) < l->waiting.count)
			continue;
		const char *topic = topics[e->place.deferred];
		if (other != ERROR_NONE)
			audit_wrong(report, "%s[%" PRId32 "]@%" PRId64 ": the dead letter says %s, not %s", topic,
			            e->place.partition, e->place.offset, error_code_name(other), error_code_name(e->code));
		else if (l->incomplete)
			removed++;
		else
			audit_wrong(report, "%s[%" PRId32 "]@%" PRId64 ": %s, and no dead letter says so", topic,
			            e->place.partition, e->place.offset, error_code_name(e->code));
	}
	audit_apart(report, "dead letters that may have been removed from their topic", removed);
}
