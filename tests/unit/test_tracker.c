/*
 * The tracker against a model that knows nothing of rings and tickets' order: the list of what was entered, and
 * of each whether it is settled. Random runs are seeded with DW_TEST_SEED, else with a constant; a failure
 * prints the seed of its run.
 */
#include "worker/pipeline/tracker.h"

#include "common/prng.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* ck_assert tells the parent process of each success, too: too slow for millions of them. */
#define EXPECT(condition, ...) \
	do { \
		if (!(condition)) \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

/* ---- the model ---- */

enum { MODEL_MAX = 8192 };

struct model_entry {
	int64_t offset;
	int64_t timestamp_us;
	uint64_t ticket;
	bool settled;
};

struct model {
	struct model_entry entries[MODEL_MAX];
	size_t count;
	int64_t position;
};

static struct model model;

static void model_start(int64_t position)
{
	model.count = 0;
	model.position = position;
}

static void model_enter(int64_t offset, int64_t timestamp_us, uint64_t ticket)
{
	model.entries[model.count++] = (struct model_entry){offset, timestamp_us, ticket, false};
	model.position = offset + 1;
}

static size_t model_unsettled(void)
{
	size_t count = 0;
	for (size_t i = 0; i < model.count; i++)
		count += !model.entries[i].settled;
	return count;
}

/* The unsettled record of the lowest offset, or NULL. */
static const struct model_entry *model_oldest(void)
{
	const struct model_entry *oldest = NULL;
	for (size_t i = 0; i < model.count; i++)
		if (!model.entries[i].settled && (!oldest || model.entries[i].offset < oldest->offset))
			oldest = &model.entries[i];
	return oldest;
}

/* What is settled for good tells nothing any more: room for the next ones. */
static void model_forget_settled(void)
{
	size_t kept = 0;
	for (size_t i = 0; i < model.count; i++)
		if (!model.entries[i].settled)
			model.entries[kept++] = model.entries[i];
	model.count = kept;
}

static void expect_bytes(const struct tracker *t, const char *where)
{
	size_t most = tracker_unsettled(t) * TRACKER_BYTES_EACH;
	if (most < TRACKER_BYTES_MIN)
		most = TRACKER_BYTES_MIN;
	EXPECT(tracker_bytes(t) <= most, "%s: %zu bytes for %zu unsettled", where, tracker_bytes(t),
	       tracker_unsettled(t));
}

/* `where`: names the failing run. */
static void compare(const struct tracker *t, const char *where)
{
	const struct model_entry *oldest = model_oldest();
	int64_t expected = oldest ? oldest->offset : model.position;
	int64_t committable = tracker_committable(t);
	EXPECT(committable == expected, "%s: committable %" PRId64 ", not %" PRId64, where, committable, expected);
	EXPECT(tracker_unsettled(t) == model_unsettled(), "%s: %zu unsettled, not %zu", where, tracker_unsettled(t),
	       model_unsettled());
	int64_t timestamp_us = 0;
	bool any = tracker_oldest_timestamp(t, &timestamp_us);
	EXPECT(any == (oldest != NULL), "%s: oldest timestamp %s", where, any ? "known" : "unknown");
	EXPECT(!any || timestamp_us == oldest->timestamp_us, "%s: oldest timestamp %" PRId64 ", not %" PRId64, where,
	       timestamp_us, oldest ? oldest->timestamp_us : 0);
	expect_bytes(t, where);
	/* [I1], said once more without the model's minimum. */
	for (size_t i = 0; i < model.count; i++)
		EXPECT(model.entries[i].settled || model.entries[i].offset >= committable,
		       "%s: %" PRId64 " is unsettled below %" PRId64, where, model.entries[i].offset, committable);
}

static uint64_t enter(struct tracker *t, int64_t offset, int64_t timestamp_us)
{
	uint64_t ticket = UINT64_MAX;
	EXPECT(tracker_enter(t, offset, timestamp_us, &ticket), "%" PRId64 " refused", offset);
	return ticket;
}

/* ---- every order of seven ---- */

enum { SEVEN = 7 };

static const int64_t seven_offsets[SEVEN] = {3, 4, 9, 10, 11, 20, 27};

static void settle_in_order(struct tracker *t, const int order[SEVEN])
{
	char where[64];
	uint64_t tickets[SEVEN];

	snprintf(where, sizeof(where), "settled in order %d%d%d%d%d%d%d", order[0], order[1], order[2], order[3],
		 order[4], order[5], order[6]);
	tracker_start(t, 1);
	model_start(1);
	for (int i = 0; i < SEVEN; i++) {
		tickets[i] = enter(t, seven_offsets[i], 1000 - i);
		model_enter(seven_offsets[i], 1000 - i, tickets[i]);
	}
	for (int i = 0; i < SEVEN; i++) {
		compare(t, where);
		tracker_settle(t, tickets[order[i]]);
		model.entries[order[i]].settled = true;
	}
	compare(t, where);
	ck_assert_int_eq(tracker_committable(t), 28);
}

static int settle_in_all_orders(struct tracker *t, int order[SEVEN], int from)
{
	if (from == SEVEN) {
		settle_in_order(t, order);
		return 1;
	}
	int count = 0;
	for (int i = from; i < SEVEN; i++) {
		int chosen = order[i];
		order[i] = order[from];
		order[from] = chosen;
		count += settle_in_all_orders(t, order, from + 1);
		order[from] = order[i];
		order[i] = chosen;
	}
	return count;
}

START_TEST(test_tracker__every_order_of_seven)
{
	struct tracker t;
	int order[SEVEN] = {0, 1, 2, 3, 4, 5, 6};

	tracker_init(&t);
	ck_assert_int_eq(settle_in_all_orders(&t, order, 0), 5040);
	tracker_release(&t);
}
END_TEST

/* ---- random lives ---- */

static uint64_t base_seed(void)
{
	const char *text = getenv("DW_TEST_SEED");
	return text ? strtoull(text, NULL, 0) : UINT64_C(20260101);
}

static void random_enter(struct tracker *t, struct prng *random, uint64_t *tickets_end, const char *where)
{
	uint64_t ticket = UINT64_MAX;
	int64_t timestamp_us = (int64_t)prng_below(random, 5) - 2;
	if (model.count > 0 && prng_below(random, 8) == 0) { /* one that was there before, or a hole */
		int64_t low = model.position - 1 - (int64_t)prng_below(random, 20);
		EXPECT(!tracker_enter(t, low, timestamp_us, &ticket), "%s: %" PRId64 " entered below %" PRId64, where,
		       low, model.position);
		return;
	}
	int64_t offset = model.position + (prng_below(random, 4) ? 0 : (int64_t)prng_below(random, 50));
	EXPECT(tracker_enter(t, offset, timestamp_us, &ticket), "%s: %" PRId64 " refused", where, offset);
	EXPECT(ticket >= *tickets_end, "%s: ticket %" PRIu64 " given twice", where, ticket);
	*tickets_end = ticket + 1;
	model_enter(offset, timestamp_us, ticket);
}

static void random_settle(struct tracker *t, struct prng *random)
{
	size_t at = prng_below(random, model.count);
	for (size_t i = 0; i < model.count; i++, at = (at + 1) % model.count) {
		if (!model.entries[at].settled) {
			tracker_settle(t, model.entries[at].ticket);
			model.entries[at].settled = true;
			return;
		}
	}
}

START_TEST(test_tracker__random_lives)
{
	enum { STEPS = 3000 };
	uint64_t seed = base_seed() + (uint64_t)_i;
	/* Each life leans to one side: from nearly everything settled to hundreds in flight. */
	uint64_t lean = 3 + (uint64_t)_i % 5;
	struct prng random = prng_of(seed);
	struct tracker t;
	uint64_t tickets_end = 0;
	char where[64];

	tracker_init(&t);
	tracker_start(&t, 0);
	model_start(0);
	for (int step = 0; step < STEPS; step++) {
		int64_t before = tracker_committable(&t);
		bool restarted = false;
		snprintf(where, sizeof(where), "DW_TEST_SEED=%" PRIu64 " step %d", seed, step);
		if (prng_below(&random, 700) == 0) {
			int64_t position = (int64_t)prng_below(&random, 100000);
			tracker_start(&t, position);
			model_start(position);
			restarted = true;
		} else if (prng_below(&random, 20) == 0) {
			int64_t position = model.position - 5 + (int64_t)prng_below(&random, 15);
			tracker_skip(&t, position);
			if (position > model.position)
				model.position = position;
		} else if (prng_below(&random, 10) < lean) {
			random_enter(&t, &random, &tickets_end, where);
		} else if (model.count > 0) {
			random_settle(&t, &random);
		}
		compare(&t, where);
		EXPECT(restarted || tracker_committable(&t) >= before, "%s: committable went back", where);
		if (prng_below(&random, 100) == 0)
			model_forget_settled();
	}
	tracker_release(&t);
}
END_TEST

/* ---- the ring ---- */

/* It grows several times, each with the oldest entry somewhere in the middle of the ring; every entry must keep its
 * offset and its time. */
START_TEST(test_tracker__ring_grows)
{
	enum { BEFORE = 37, COUNT = 5000 };
	static uint64_t tickets[COUNT];
	struct tracker t;

	tracker_init(&t);
	tracker_start(&t, 0);
	for (int i = 0; i < BEFORE; i++)
		tracker_settle(&t, enter(&t, i, 0));
	for (int i = 0; i < COUNT; i++)
		tickets[i] = enter(&t, 1000 + 3 * i, 7 * i);
	ck_assert_int_eq(tracker_committable(&t), 1000);
	/* All but the first, from the end. */
	for (int i = COUNT - 1; i > 0; i -= 2)
		tracker_settle(&t, tickets[i]);
	ck_assert_int_eq(tracker_committable(&t), 1000);
	ck_assert_uint_eq(tracker_unsettled(&t), COUNT / 2);
	for (int i = 0; i < COUNT; i += 2) {
		int64_t timestamp_us = -1;
		EXPECT(tracker_oldest_timestamp(&t, &timestamp_us) && timestamp_us == 7 * i,
		       "time %" PRId64 " of entry %d", timestamp_us, i);
		EXPECT(tracker_committable(&t) == 1000 + 3 * i, "offset of entry %d", i);
		tracker_settle(&t, tickets[i]);
	}
	ck_assert_int_eq(tracker_committable(&t), 1000 + 3 * (COUNT - 1) + 1);
	ck_assert_uint_eq(tracker_unsettled(&t), 0);
	tracker_release(&t);
}
END_TEST

/* One stuck record fills it, however many behind it are settled; it alone makes room. */
START_TEST(test_tracker__full_behind_one_stuck_record)
{
	struct tracker t;

	tracker_init(&t);
	tracker_start(&t, 0);
	uint64_t stuck = enter(&t, 0, 0);
	for (size_t i = 1; i < TRACKER_ENTRIES_MAX; i++) {
		EXPECT(!tracker_full(&t), "full with %zu entries", i);
		tracker_settle(&t, enter(&t, (int64_t)i, 0));
	}
	ck_assert(tracker_full(&t));
	ck_assert_uint_eq(tracker_unsettled(&t), 1);
	ck_assert_int_eq(tracker_committable(&t), 0);
	tracker_settle(&t, stuck);
	ck_assert(!tracker_full(&t));
	ck_assert_int_eq(tracker_committable(&t), (int64_t)TRACKER_ENTRIES_MAX);
	/* And as many again, in the ring as it is now. */
	stuck = enter(&t, (int64_t)TRACKER_ENTRIES_MAX, 0);
	for (size_t i = 1; i < TRACKER_ENTRIES_MAX; i++)
		tracker_settle(&t, enter(&t, (int64_t)(TRACKER_ENTRIES_MAX + i), 0));
	ck_assert(tracker_full(&t));
	tracker_start(&t, 5);
	ck_assert(!tracker_full(&t));
	tracker_release(&t);
}
END_TEST

/* ---- memory ---- */

enum { STUCK_TRACKERS = 32, STUCK_BEHIND = 1000000 };

/* A million settled behind one stuck record take what that one does; 32 such partitions no more than 32 records. */
START_TEST(test_tracker__what_settled_behind_a_stuck_record_takes_nothing)
{
	static struct tracker trackers[STUCK_TRACKERS];
	uint64_t stuck[STUCK_TRACKERS];
	size_t bytes = 0;

	for (int i = 0; i < STUCK_TRACKERS; i++) {
		struct tracker *t = &trackers[i];
		int behind = i == 0 ? STUCK_BEHIND : STUCK_BEHIND / STUCK_TRACKERS;
		tracker_init(t);
		tracker_start(t, 0);
		stuck[i] = enter(t, 0, 7);
		uint64_t last = enter(t, 1, 0);
		for (int j = 2; j < behind; j++) {
			uint64_t next = enter(t, j, 0);
			tracker_settle(t, last);
			last = next;
		}
		tracker_settle(t, last);
		bytes += tracker_bytes(t);
		EXPECT(tracker_bytes(t) <= TRACKER_BYTES_MIN, "%zu bytes hold one unsettled record", tracker_bytes(t));
		ck_assert_int_eq(tracker_committable(t), 0);
	}
	EXPECT(bytes <= STUCK_TRACKERS * (size_t)TRACKER_BYTES_MIN, "%zu bytes hold 32 unsettled records", bytes);
	for (int i = 0; i < STUCK_TRACKERS; i++) {
		int64_t timestamp_us = 0;
		ck_assert(tracker_oldest_timestamp(&trackers[i], &timestamp_us) && timestamp_us == 7);
		tracker_settle(&trackers[i], stuck[i]);
		ck_assert_int_eq(tracker_committable(&trackers[i]),
				 i == 0 ? STUCK_BEHIND : STUCK_BEHIND / STUCK_TRACKERS);
		tracker_release(&trackers[i]);
	}
}
END_TEST

/* What a burst needed is given back as the burst settles, and by a new reading. */
START_TEST(test_tracker__shrinks_when_drained)
{
	enum { BURST = 100000 };
	static uint64_t tickets[BURST];
	struct tracker t;

	tracker_init(&t);
	for (int round = 0; round < 2; round++) {
		tracker_start(&t, round * BURST);
		for (int i = 0; i < BURST; i++)
			tickets[i] = enter(&t, round * BURST + i, 0);
		ck_assert_uint_gt(tracker_bytes(&t), BURST * sizeof(struct tracker_entry));
		expect_bytes(&t, "burst");
		for (int i = BURST; round == 0 && i-- > 0;) { /* the newest first: none leaves at the front */
			tracker_settle(&t, tickets[i]);
			expect_bytes(&t, "settling");
		}
		if (round == 0)
			ck_assert_int_eq(tracker_committable(&t), BURST);
	}
	tracker_start(&t, 0);
	ck_assert_uint_eq(tracker_bytes(&t), TRACKER_BYTES_MIN);
	tracker_release(&t);
}
END_TEST

/* Long lives: most records settle soon, out of order, some stay for a hundred thousand others. The oracle is the list
 * of what is unsettled. */
START_TEST(test_tracker__long_lives_with_stuck_records)
{
	enum { LIFE = 100000, SOON_MAX = 600, STUCK_MAX = 300 };
	uint64_t seed = base_seed() + (uint64_t)_i;
	struct prng random = prng_of(seed);
	struct model_entry soon[SOON_MAX], stuck[STUCK_MAX];
	size_t soon_count = 0, stuck_count = 0, soon_most = 1 + prng_below(&random, SOON_MAX);
	struct tracker t;
	int64_t offset = 0;
	char where[64];

	tracker_init(&t);
	tracker_start(&t, 0);
	for (int step = 0; step < LIFE; step++) {
		snprintf(where, sizeof(where), "DW_TEST_SEED=%" PRIu64 " step %d", seed, step);
		offset += prng_below(&random, 10) ? 0 : 3;
		struct model_entry one = {offset, step, enter(&t, offset, step), false};
		offset++;
		if (prng_below(&random, 500) == 0 && stuck_count < STUCK_MAX)
			stuck[stuck_count++] = one;
		else
			soon[soon_count++] = one;
		if (soon_count == soon_most) {
			for (size_t left = 1 + prng_below(&random, soon_count); left > 0; left--) {
				size_t at = prng_below(&random, soon_count);
				tracker_settle(&t, soon[at].ticket);
				soon[at] = soon[--soon_count];
			}
		}
		if (stuck_count > 0 && prng_below(&random, 700) == 0) {
			size_t at = prng_below(&random, stuck_count);
			tracker_settle(&t, stuck[at].ticket);
			stuck[at] = stuck[--stuck_count];
		}
		if (step % 50)
			continue;
		const struct model_entry *oldest = NULL;
		for (size_t i = 0; i < soon_count + stuck_count; i++) {
			const struct model_entry *each = i < soon_count ? &soon[i] : &stuck[i - soon_count];
			if (!oldest || each->offset < oldest->offset)
				oldest = each;
		}
		int64_t timestamp_us = -1;
		EXPECT(tracker_committable(&t) == (oldest ? oldest->offset : offset), "%s: committable %" PRId64, where,
		       tracker_committable(&t));
		EXPECT(tracker_oldest_timestamp(&t, &timestamp_us) == (oldest != NULL), "%s: oldest timestamp", where);
		EXPECT(!oldest || timestamp_us == oldest->timestamp_us, "%s: timestamp %" PRId64, where, timestamp_us);
		EXPECT(tracker_unsettled(&t) == soon_count + stuck_count, "%s: %zu unsettled", where,
		       tracker_unsettled(&t));
		expect_bytes(&t, where);
	}
	tracker_release(&t);
}
END_TEST

/* An entry that has moved up is found where it is, and no other one for it. */
START_TEST(test_tracker__settling_what_was_squeezed_out_is_a_bug)
{
	struct tracker t;
	tracker_init(&t);
	tracker_start(&t, 0);
	enter(&t, 0, 0);
	uint64_t ticket = enter(&t, 1, 0);
	tracker_settle(&t, ticket);
	for (int i = 2; i < 10 * TRACKER_ENTRIES_MIN; i++)
		tracker_settle(&t, enter(&t, i, 0));
	tracker_settle(&t, ticket);
}
END_TEST

/* Full from the fifth entry on until half of them, two, are left; a new reading begins with none. */
START_TEST(test_tracker__full_at_a_limit_of_its_own)
{
	struct tracker t;
	uint64_t tickets[6];

	tracker_init(&t);
	tracker_limit(&t, 5);
	tracker_start(&t, 100);
	for (int i = 0; i < 5; i++) {
		EXPECT(!tracker_full(&t), "full with %d entries", i);
		tickets[i] = enter(&t, 100 + i, 0);
	}
	static const int order[] = {1, 4, 0, 2};
	static const bool full[] = {true, true, true, false};
	for (int i = 0; i < 4; i++) {
		ck_assert(tracker_full(&t));
		tracker_settle(&t, tickets[order[i]]);
		EXPECT(tracker_full(&t) == full[i], "%d settled, full: %d", i + 1, tracker_full(&t));
	}
	for (int i = 0; i < 3; i++)
		tickets[i] = enter(&t, 200 + i, 0);
	ck_assert(tracker_full(&t));
	tracker_start(&t, 300);
	ck_assert(!tracker_full(&t));
	tracker_release(&t);
}
END_TEST

START_TEST(test_tracker__entering_a_full_one_is_a_bug)
{
	struct tracker t;
	uint64_t ticket;

	tracker_init(&t);
	tracker_start(&t, 0);
	for (size_t i = 0; i < TRACKER_ENTRIES_MAX; i++)
		ticket = enter(&t, (int64_t)i, 0);
	if (!tracker_enter(&t, (int64_t)TRACKER_ENTRIES_MAX, 0, &ticket))
		ck_abort_msg("refused, which is for repeats");
}
END_TEST

/* ---- single behaviours ---- */

START_TEST(test_tracker__starts_with_nothing_to_commit_but_its_position)
{
	struct tracker t;
	int64_t timestamp_us = 42;

	tracker_init(&t);
	tracker_start(&t, 17);
	ck_assert_int_eq(tracker_committable(&t), 17);
	ck_assert_uint_eq(tracker_unsettled(&t), 0);
	ck_assert(!tracker_full(&t));
	ck_assert(!tracker_oldest_timestamp(&t, &timestamp_us));
	ck_assert_int_eq(timestamp_us, 42);
	tracker_release(&t);
}
END_TEST

/* 6 to 9 have no record. While 5 is the last that was read, 6 is all that is known to be settled; from the moment
 * that 10 is read, 10 is. */
START_TEST(test_tracker__holes_count_as_settled_once_passed)
{
	struct tracker t;

	tracker_init(&t);
	tracker_start(&t, 2);
	uint64_t five = enter(&t, 5, 0);
	ck_assert_int_eq(tracker_committable(&t), 5); /* 2 to 4: holes before the first */
	tracker_settle(&t, five);
	ck_assert_int_eq(tracker_committable(&t), 6);
	uint64_t ten = enter(&t, 10, 0);
	ck_assert_int_eq(tracker_committable(&t), 10);
	tracker_settle(&t, ten);
	ck_assert_int_eq(tracker_committable(&t), 11);

	/* The other way round: the hole is passed before the record below it is settled. */
	uint64_t twenty = enter(&t, 20, 0);
	uint64_t thirty = enter(&t, 30, 0);
	tracker_settle(&t, twenty);
	ck_assert_int_eq(tracker_committable(&t), 30);
	tracker_settle(&t, thirty);
	ck_assert_int_eq(tracker_committable(&t), 31);
	tracker_release(&t);
}
END_TEST

START_TEST(test_tracker__skip_at_the_end_of_the_log)
{
	struct tracker t;
	uint64_t ticket;

	tracker_init(&t);
	tracker_start(&t, 0);
	uint64_t first = enter(&t, 0, 0);
	uint64_t second = enter(&t, 1, 0);
	tracker_skip(&t, 4); /* markers at 2 and 3 */
	ck_assert_int_eq(tracker_committable(&t), 0);
	tracker_settle(&t, second);
	ck_assert_int_eq(tracker_committable(&t), 0);
	tracker_settle(&t, first);
	ck_assert_int_eq(tracker_committable(&t), 4);
	/* The end as seen before a record that is read by now. */
	tracker_skip(&t, 3);
	ck_assert_int_eq(tracker_committable(&t), 4);
	tracker_skip(&t, 4);
	ck_assert_int_eq(tracker_committable(&t), 4);
	ck_assert(!tracker_enter(&t, 3, 0, &ticket));
	tracker_settle(&t, enter(&t, 4, 0));
	tracker_skip(&t, 6);
	ck_assert_int_eq(tracker_committable(&t), 6);
	tracker_release(&t);
}
END_TEST

START_TEST(test_tracker__repeats_are_refused)
{
	struct tracker t;
	uint64_t ticket = UINT64_MAX;

	tracker_init(&t);
	tracker_start(&t, 10);
	ck_assert(!tracker_enter(&t, 9, 0, &ticket)); /* fetched from below the start */
	uint64_t ten = enter(&t, 10, 0);
	uint64_t twelve = enter(&t, 12, 0);
	for (int64_t offset = 8; offset <= 12; offset++)
		ck_assert(!tracker_enter(&t, offset, 0, &ticket));
	ck_assert_uint_eq(ticket, UINT64_MAX);
	ck_assert_uint_eq(tracker_unsettled(&t), 2);
	tracker_settle(&t, ten);
	tracker_settle(&t, twelve);
	ck_assert(!tracker_enter(&t, 12, 0, &ticket)); /* settled long since */
	ck_assert_int_eq(tracker_committable(&t), 13);
	tracker_release(&t);
}
END_TEST

/* In the middle of everything, lower and higher than it was: what was read before is forgotten, and tickets go
 * on, so a late completion can't be taken for one of the new records. */
START_TEST(test_tracker__start_forgets_and_tickets_go_on)
{
	static const int64_t positions[] = {3, 0, 1000};
	struct tracker t;
	uint64_t tickets_end = 0;

	tracker_init(&t);
	tracker_start(&t, 0);
	for (size_t round = 0; round < sizeof(positions) / sizeof(positions[0]); round++) {
		for (int i = 0; i < 100; i++) {
			uint64_t ticket = enter(&t, t.position, 5);
			ck_assert_uint_ge(ticket, tickets_end);
			tickets_end = ticket + 1;
			if (i % 3 == 1)
				tracker_settle(&t, ticket);
		}
		tracker_start(&t, positions[round]);
		ck_assert_int_eq(tracker_committable(&t), positions[round]);
		ck_assert_uint_eq(tracker_unsettled(&t), 0);
		int64_t timestamp_us;
		ck_assert(!tracker_oldest_timestamp(&t, &timestamp_us));
	}
	tracker_settle(&t, enter(&t, 1000, 0));
	ck_assert_int_eq(tracker_committable(&t), 1001);
	tracker_release(&t);
}
END_TEST

/* Whatever a record's time is, also the one by which the ring marks what is settled. */
START_TEST(test_tracker__any_timestamp_is_fine)
{
	static const int64_t timestamps[] = {INT64_MAX, 0, -1, INT64_MIN + 1, INT64_MIN, 7};
	enum { COUNT = sizeof(timestamps) / sizeof(timestamps[0]) };
	struct tracker t;
	uint64_t tickets[COUNT];
	int64_t timestamp_us;

	tracker_init(&t);
	tracker_start(&t, 0);
	for (int i = 0; i < COUNT; i++)
		tickets[i] = enter(&t, i, timestamps[i]);
	for (int i = 0; i < COUNT; i++) {
		ck_assert(tracker_oldest_timestamp(&t, &timestamp_us));
		ck_assert_msg(timestamp_us == timestamps[i] || timestamps[i] == INT64_MIN, "row %d", i);
		ck_assert_int_eq(tracker_committable(&t), i);
		ck_assert_uint_eq(tracker_unsettled(&t), (size_t)(COUNT - i));
		tracker_settle(&t, tickets[i]);
	}
	ck_assert(!tracker_oldest_timestamp(&t, &timestamp_us));
	tracker_release(&t);
}
END_TEST

/* ---- our own bugs ---- */

START_TEST(test_tracker__settling_twice_is_a_bug)
{
	struct tracker t;
	tracker_init(&t);
	tracker_start(&t, 0);
	uint64_t stuck = enter(&t, 0, 0), ticket = enter(&t, 1, 0);
	(void)stuck;
	tracker_settle(&t, ticket);
	tracker_settle(&t, ticket);
}
END_TEST

START_TEST(test_tracker__settling_what_left_the_ring_is_a_bug)
{
	struct tracker t;
	tracker_init(&t);
	tracker_start(&t, 0);
	uint64_t ticket = enter(&t, 0, 0);
	tracker_settle(&t, ticket);
	(void)enter(&t, 1, 0);
	tracker_settle(&t, ticket);
}
END_TEST

START_TEST(test_tracker__settling_a_ticket_from_before_the_start_is_a_bug)
{
	struct tracker t;
	tracker_init(&t);
	tracker_start(&t, 0);
	uint64_t ticket = enter(&t, 0, 0);
	tracker_start(&t, 0);
	(void)enter(&t, 0, 0);
	tracker_settle(&t, ticket);
}
END_TEST

START_TEST(test_tracker__settling_a_ticket_not_given_is_a_bug)
{
	struct tracker t;
	tracker_init(&t);
	tracker_start(&t, 0);
	tracker_settle(&t, enter(&t, 0, 0) + 1);
}
END_TEST

/* ---- whose log it is ---- */

/* The last record below what may be committed, whichever order they settle in and however often the ring is made anew:
 * against the list of all that were entered. */
START_TEST(test_tracker__last_is_the_last_record_below_what_may_be_committed)
{
	enum { RECORDS = 3000 };
	static int64_t offsets[RECORDS];
	static uint64_t tickets[RECORDS];
	static bool settled[RECORDS];
	struct prng random = prng_of(11);
	for (int life = 0; life < 40; life++) {
		struct tracker t;
		int entered = 0, oldest = 0;
		int64_t next = 5;
		tracker_init(&t);
		tracker_start(&t, next);
		memset(settled, 0, sizeof(settled));
		const struct fingerprint adopted = {true, 3, 99, -1};
		tracker_adopt(&t, &adopted);
		while (oldest < RECORDS) {
			if (entered < RECORDS && prng_below(&random, 3) > 0) {
				next += (int64_t)prng_below(&random, 3);
				offsets[entered] = next;
				tickets[entered] = enter(&t, next, 1000);
				tracker_fingerprint(&t, &(struct fingerprint){true, next, (uint64_t)next * 7, next % 2 ? next : -1});
				entered++;
				next++;
			} else if (entered > oldest) {
				/* Mostly far from the oldest one, so that runs stay behind it. */
				int at = oldest + (int)prng_below(&random, (uint64_t)(entered - oldest));
				if (!settled[at])
					tracker_settle(&t, tickets[at]);
				settled[at] = true;
				while (oldest < entered && settled[oldest])
					oldest++;
			}
			const struct fingerprint *last = tracker_last(&t);
			int64_t expected = oldest > 0 ? offsets[oldest - 1] : adopted.offset;
			EXPECT(last->exists && last->offset == expected, "life %d: last at %" PRId64 ", not %" PRId64, life,
			       last->offset, expected);
			EXPECT(last->hash == (oldest > 0 ? (uint64_t)expected * 7 : 99), "life %d: another hash", life);
			EXPECT(last->time_ms == (oldest > 0 && expected % 2 ? expected : -1), "life %d: another time", life);
		}
		tracker_start(&t, next);
		EXPECT(!tracker_last(&t)->exists, "life %d: a new reading knows a record", life);
		tracker_release(&t);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tracker");
	TCase *tc = tcase_create("tracker");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_tracker__last_is_the_last_record_below_what_may_be_committed);
	tcase_add_test(tc, test_tracker__every_order_of_seven);
	tcase_add_loop_test(tc, test_tracker__random_lives, 0, 20);
	tcase_add_test(tc, test_tracker__ring_grows);
	tcase_add_test(tc, test_tracker__full_behind_one_stuck_record);
	tcase_add_test(tc, test_tracker__what_settled_behind_a_stuck_record_takes_nothing);
	tcase_add_test(tc, test_tracker__shrinks_when_drained);
	tcase_add_loop_test(tc, test_tracker__long_lives_with_stuck_records, 0, 10);
	tcase_add_test_raise_signal(tc, test_tracker__settling_what_was_squeezed_out_is_a_bug, SIGABRT);
	tcase_add_test(tc, test_tracker__full_at_a_limit_of_its_own);
	tcase_add_test(tc, test_tracker__starts_with_nothing_to_commit_but_its_position);
	tcase_add_test(tc, test_tracker__holes_count_as_settled_once_passed);
	tcase_add_test(tc, test_tracker__skip_at_the_end_of_the_log);
	tcase_add_test(tc, test_tracker__repeats_are_refused);
	tcase_add_test(tc, test_tracker__start_forgets_and_tickets_go_on);
	tcase_add_test(tc, test_tracker__any_timestamp_is_fine);
	tcase_add_test_raise_signal(tc, test_tracker__entering_a_full_one_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(tc, test_tracker__settling_twice_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(tc, test_tracker__settling_what_left_the_ring_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(tc, test_tracker__settling_a_ticket_from_before_the_start_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(tc, test_tracker__settling_a_ticket_not_given_is_a_bug, SIGABRT);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
