#include "worker/pipeline/deferral.h"

#include "common/ensure.h"

enum {
	GRIDS_A_DELAY = 8, /* due times in class 0 fall on so many moments of its delay, */
	GRID_MIN_MS = 100, /* but not oftener: each is a pause, a resume and a fetch of the partition */
};

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int deferral_class(int32_t partition, int32_t partitions)
{
	ENSURE(partition >= 0 && partitions > 0);
	int64_t class = INT64_C(4) * partition / partitions;
	return class < DEFERRAL_CLASSES ? (int)class : DEFERRAL_CLASSES - 1;
}

int64_t deferral_delay_ms(int class, int64_t defer_ms)
{
	ENSURE(class >= 0 && class < DEFERRAL_CLASSES);
	return defer_ms << 2 * class;
}

/* The least p with 4p / partitions >= class. */
static int32_t first_of(int class, int32_t partitions)
{
	return (int32_t)(((int64_t)class * partitions + DEFERRAL_CLASSES - 1) / DEFERRAL_CLASSES);
}

static int32_t count_of(int class, int32_t partitions)
{
	return first_of(class + 1, partitions) - first_of(class, partitions);
}

static struct deferral in_class(int class, int32_t partitions, int64_t not_before_ms)
{
	return (struct deferral){first_of(class, partitions), count_of(class, partitions), not_before_ms};
}

/* Class 0 has a partition wherever there is one at all. */
static int longest_within(int64_t wait_ms, int64_t defer_ms, int32_t partitions)
{
	int class = DEFERRAL_CLASSES - 1;
	while (class > 0 && (count_of(class, partitions) == 0 || deferral_delay_ms(class, defer_ms) > wait_ms))
		class--;
	return class;
}

static int64_t on_grid(int64_t slot_ms, int64_t defer_ms)
{
	int64_t grid_ms = defer_ms / GRIDS_A_DELAY;
	grid_ms = grid_ms < GRID_MIN_MS ? min(GRID_MIN_MS, defer_ms) : grid_ms;
	return (slot_ms + grid_ms - 1) / grid_ms * grid_ms;
}

struct deferral deferral_until_slot(int64_t now_ms, int64_t slot_ms, int64_t defer_ms, int32_t partitions)
{
	if (slot_ms < now_ms)
		slot_ms = now_ms;
	int class = partitions > 0 ? longest_within(slot_ms - now_ms, defer_ms, partitions) : 0;
	int64_t due_ms = now_ms + deferral_delay_ms(class, defer_ms);
	if (slot_ms <= due_ms && class == 0)
		due_ms = min(due_ms, on_grid(slot_ms, defer_ms));
	return partitions > 0 ? in_class(class, partitions, due_ms) : (struct deferral){.not_before_ms = due_ms};
}

struct deferral deferral_next(int64_t now_ms, int32_t from, int64_t defer_ms, int32_t partitions)
{
	if (partitions <= 0)
		return (struct deferral){.not_before_ms = now_ms + defer_ms};
	int before = from < 0 ? -1 : deferral_class(from, partitions);
	int class = before + 1;
	while (class < DEFERRAL_CLASSES && count_of(class, partitions) == 0)
		class++;
	if (class == DEFERRAL_CLASSES)
		class = before;
	/* A partition beyond those that are known is taken for the longest class, which may have none. */
	class = longest_within(deferral_delay_ms(class, defer_ms), defer_ms, partitions);
	return in_class(class, partitions, now_ms + deferral_delay_ms(class, defer_ms));
}

int64_t deferral_due_ms(int64_t not_before_ms, int64_t kafka_ms, int64_t now_ms, int64_t delay_ms)
{
	int64_t due_ms = min(not_before_ms, now_ms + delay_ms);
	return kafka_ms < 0 ? due_ms : min(due_ms, kafka_ms + delay_ms);
}

enum deferral_turn deferral_turn(int64_t now_ms, int64_t slot_ms, int64_t defer_ms)
{
	if (slot_ms > now_ms)
		return DEFERRAL_EARLY;
	return now_ms - slot_ms > deferral_slot_life_ms(defer_ms) ? DEFERRAL_LATE : DEFERRAL_NOW;
}
