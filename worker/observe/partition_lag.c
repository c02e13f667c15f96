#include "worker/observe/partition_lag.h"

void partition_lag_init(struct partition_lag *p)
{
	*p = (struct partition_lag){
		.position = {.committed = -1, .uncommitted_us = -1, .next = -1, .state = ""},
		.asked = LAG_UNKNOWN,
		.low = -1,
		.high = -1,
		.answered_us = -1,
		.seen_at = -1,
		.seen_us = -1,
		.seen_next = -1,
	};
}

int64_t partition_lag_committed(const struct partition_lag *p)
{
	return p->position.committed == LAG_UNKNOWN ? p->asked : p->position.committed;
}

int64_t partition_lag_base(const struct partition_lag *p)
{
	int64_t committed = partition_lag_committed(p);

	if (committed >= 0)
		return committed;
	if (committed == LAG_UNKNOWN)
		return -1;
	return p->answered_us >= 0 ? p->low : -1;
}

bool partition_lag_needs_look(const struct partition_lag *p)
{
	int64_t base = partition_lag_base(p);

	if (p->position.uncommitted_us >= 0 || p->answered_us < 0 || base < 0 || base >= p->high)
		return false;
	/* A look that found nothing is repeated only once there is more log to look at. */
	return p->seen_at != base || (p->seen_us < 0 && p->seen_next < p->high);
}

int64_t partition_lag_end(const struct partition_lag *p, int64_t mono_us, int64_t stale_us)
{
	if (p->answered_us < 0 || mono_us - p->answered_us > stale_us)
		return -1;
	/* Between two answers the consumer itself may have come further. */
	return p->position.next > p->high ? p->position.next : p->high;
}

int64_t partition_lag_offsets(const struct partition_lag *p, int64_t mono_us, int64_t stale_us)
{
	int64_t end = partition_lag_end(p, mono_us, stale_us);
	int64_t base = partition_lag_base(p);

	if (end < 0 || base < 0)
		return -1;
	if (p->seen_at == base && p->seen_us < 0 && p->seen_next > base)
		base = p->seen_next;
	return end > base ? end - base : 0;
}

bool partition_lag_seconds(const struct partition_lag *p, int64_t mono_us, int64_t stale_us, int64_t wall_us,
			   double *seconds)
{
	int64_t first_us = p->position.uncommitted_us;

	if (first_us < 0 && p->seen_at >= 0 && p->seen_at == partition_lag_base(p))
		first_us = p->seen_us;
	if (first_us < 0) {
		*seconds = 0;
		return partition_lag_offsets(p, mono_us, stale_us) == 0;
	}
	/* Records are stamped by other clocks than ours. */
	*seconds = wall_us > first_us ? (double)(wall_us - first_us) / 1e6 : 0;
	return true;
}
