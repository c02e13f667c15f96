#include "worker/ledger/rules.h"

#include <stdatomic.h>
#include <stdlib.h>

struct rules {
	atomic_int references;
	int64_t revision;
	bool sealed;

	struct rule *all; /* sealed: by (id, version) */
	size_t count, capacity;

	struct partner_settings *partners; /* sealed: by partner_id, one each */
	size_t partner_count, partner_capacity;

	/* Of each id its newest version, in the order in which they win: general ones first (an absent
	 * partner sorts first), then partner by partner; inside, the latest valid_from, then the smallest
	 * id. The first eligible one of a run is the run's best. */
	const struct rule **newest;
	size_t newest_count;
	size_t general_count;
};

static const struct partner_settings default_partner = {.kinds = KINDS_ALL, .per_second = -1, .burst = -1};

/* Sets are as large as the database's tables; without memory for them there is no deciding anything. */
static void *resize_or_die(void *old, size_t count, size_t size)
{
	void *grown = reallocarray(old, count ? count : 1, size);
	ENSURE(grown != NULL);
	return grown;
}

static struct slice copy_text(struct slice s)
{
	if (!slice_present(s))
		return s;
	char *copy = resize_or_die(NULL, s.len + 1, 1);
	memcpy(copy, s.data, s.len);
	copy[s.len] = '\0';
	return (struct slice){copy, s.len};
}

static void free_text(struct slice s)
{
	free((void *)(uintptr_t)s.data); /* lent as const; copy_text made it */
}

struct rules *rules_new(int64_t revision)
{
	struct rules *r = resize_or_die(NULL, 1, sizeof(*r));
	*r = (struct rules){.revision = revision};
	atomic_init(&r->references, 1);
	return r;
}

void rules_add(struct rules *r, const struct rule *rule)
{
	ENSURE(!r->sealed);
	if (r->count == r->capacity) {
		r->capacity = r->capacity ? 2 * r->capacity : 8;
		r->all = resize_or_die(r->all, r->capacity, sizeof(*r->all));
	}
	struct rule *copy = &r->all[r->count++];
	*copy = *rule;
	copy->id = copy_text(rule->id);
	copy->partner_id = copy_text(rule->partner_id);
}

void rules_add_partner(struct rules *r, const struct partner_settings *p)
{
	ENSURE(!r->sealed);
	if (r->partner_count == r->partner_capacity) {
		r->partner_capacity = r->partner_capacity ? 2 * r->partner_capacity : 8;
		r->partners = resize_or_die(r->partners, r->partner_capacity, sizeof(*r->partners));
	}
	struct partner_settings *copy = &r->partners[r->partner_count++];
	*copy = *p;
	copy->partner_id = copy_text(p->partner_id);
}

static int by_id_version(const void *a, const void *b)
{
	const struct rule *x = a, *y = b;
	int order = slice_compare(x->id, y->id);
	return order ? order : (x->version > y->version) - (x->version < y->version);
}

static int by_partner(const void *a, const void *b)
{
	const struct partner_settings *x = a, *y = b;
	return slice_compare(x->partner_id, y->partner_id);
}

/* Entries lie in one array in the order in which they were added: a higher address is a later entry. */
static int by_partner_then_age(const void *a, const void *b)
{
	const struct partner_settings *x = *(const struct partner_settings *const *)a;
	const struct partner_settings *y = *(const struct partner_settings *const *)b;
	int order = by_partner(x, y);
	return order ? order : (x > y) - (x < y);
}

static int by_precedence(const void *a, const void *b)
{
	const struct rule *x = *(const struct rule *const *)a, *y = *(const struct rule *const *)b;
	int order = slice_compare(x->partner_id, y->partner_id);
	if (!order)
		order = (x->valid_from_us < y->valid_from_us) - (x->valid_from_us > y->valid_from_us);
	return order ? order : slice_compare(x->id, y->id);
}

/* Sorts, and of each partner keeps the entry added last. */
static void seal_partners(struct rules *r)
{
	const struct partner_settings **order = resize_or_die(NULL, r->partner_count, sizeof(*order));
	struct partner_settings *kept = resize_or_die(NULL, r->partner_count, sizeof(*kept));
	for (size_t i = 0; i < r->partner_count; i++)
		order[i] = &r->partners[i];
	qsort(order, r->partner_count, sizeof(*order), by_partner_then_age);
	size_t count = 0;
	for (size_t i = 0; i < r->partner_count; i++) {
		if (count && by_partner(&kept[count - 1], order[i]) == 0)
			free_text(kept[--count].partner_id);
		kept[count++] = *order[i];
	}
	free(order);
	free(r->partners);
	r->partners = kept;
	r->partner_count = count;
}

void rules_seal(struct rules *r)
{
	ENSURE(!r->sealed);
	if (r->count)
		qsort(r->all, r->count, sizeof(*r->all), by_id_version);
	r->newest = resize_or_die(NULL, r->count, sizeof(*r->newest));
	for (size_t i = 0; i < r->count; i++) {
		bool last = i + 1 == r->count || !slice_equal(r->all[i].id, r->all[i + 1].id);
		ENSURE(last || r->all[i].version != r->all[i + 1].version);
		if (last)
			r->newest[r->newest_count++] = &r->all[i];
	}
	qsort(r->newest, r->newest_count, sizeof(*r->newest), by_precedence);
	while (r->general_count < r->newest_count && !slice_present(r->newest[r->general_count]->partner_id))
		r->general_count++;
	seal_partners(r);
	r->sealed = true;
}

struct rules *rules_ref(struct rules *r)
{
	atomic_fetch_add_explicit(&r->references, 1, memory_order_relaxed);
	return r;
}

void rules_unref(struct rules *r)
{
	/* Release, then acquire: whoever frees has seen every other reader's last look. */
	if (!r || atomic_fetch_sub_explicit(&r->references, 1, memory_order_acq_rel) > 1)
		return;
	for (size_t i = 0; i < r->count; i++) {
		free_text(r->all[i].id);
		free_text(r->all[i].partner_id);
	}
	for (size_t i = 0; i < r->partner_count; i++)
		free_text(r->partners[i].partner_id);
	free(r->all);
	free(r->partners);
	free(r->newest);
	free(r);
}

int64_t rules_revision(const struct rules *r)
{
	return r->revision;
}

size_t rules_count(const struct rules *r)
{
	return r->count;
}

const struct rule *rules_at(const struct rules *r, size_t i)
{
	ENSURE(i < r->count);
	return &r->all[i];
}

size_t rules_partner_count(const struct rules *r)
{
	return r->partner_count;
}

const struct partner_settings *rules_partner_at(const struct rules *r, size_t i)
{
	ENSURE(i < r->partner_count);
	return &r->partners[i];
}

bool rule_same_terms(const struct rule *a, const struct rule *b)
{
	return slice_equal(a->id, b->id) && a->kind == b->kind && a->points == b->points &&
	       a->per_minor == b->per_minor && a->multiplier_bp == b->multiplier_bp &&
	       a->min_order_minor == b->min_order_minor && a->max_points_per_order == b->max_points_per_order &&
	       slice_equal(a->partner_id, b->partner_id) && strcmp(a->currency, b->currency) == 0 &&
	       a->valid_from_us == b->valid_from_us && a->valid_to_us == b->valid_to_us;
}

bool rule_eligible(const struct rule *rule, struct slice partner_id, const char *currency, int64_t at_us)
{
	return (!slice_present(rule->partner_id) || slice_equal(rule->partner_id, partner_id)) &&
	       (!rule->currency[0] || strcmp(rule->currency, currency) == 0) &&
	       rule->valid_from_us <= at_us && at_us < rule->valid_to_us;
}

static const struct rule *first_eligible(const struct rules *r, size_t from, size_t end, struct slice partner_id,
                                         const char *currency, int64_t at_us)
{
	for (size_t i = from; i < end; i++) {
		if (rule_eligible(r->newest[i], partner_id, currency, at_us))
			return r->newest[i];
	}
	return NULL;
}

const struct rule *rules_in_force(const struct rules *r, struct slice partner_id, const char *currency, int64_t at_us)
{
	ENSURE(r->sealed);
	size_t own = r->general_count, high = r->newest_count;
	while (own < high) { /* to the first rule of this partner or a greater one */
		size_t middle = own + (high - own) / 2;
		if (slice_compare(r->newest[middle]->partner_id, partner_id) < 0)
			own = middle + 1;
		else
			high = middle;
	}
	size_t end = own;
	while (end < r->newest_count && slice_equal(r->newest[end]->partner_id, partner_id))
		end++;
	const struct rule *rule = first_eligible(r, own, end, partner_id, currency, at_us);
	return rule ? rule : first_eligible(r, 0, r->general_count, partner_id, currency, at_us);
}

const struct rule *rules_version(const struct rules *r, struct slice id, int32_t version)
{
	ENSURE(r->sealed);
	struct rule wanted = {.id = id, .version = version};
	return r->count ? bsearch(&wanted, r->all, r->count, sizeof(*r->all), by_id_version) : NULL;
}

const struct rule *rules_newest(const struct rules *r, struct slice id)
{
	ENSURE(r->sealed);
	size_t low = 0, high = r->count;
	while (low < high) { /* to the first rule of a greater id */
		size_t middle = low + (high - low) / 2;
		if (slice_compare(r->all[middle].id, id) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low && slice_equal(r->all[low - 1].id, id) ? &r->all[low - 1] : NULL;
}

const struct partner_settings *rules_partner(const struct rules *r, struct slice partner_id)
{
	ENSURE(r->sealed);
	struct partner_settings wanted = {.partner_id = partner_id};
	const struct partner_settings *found = NULL;
	if (r->partner_count)
		found = bsearch(&wanted, r->partners, r->partner_count, sizeof(*r->partners), by_partner);
	return found ? found : &default_partner;
}
