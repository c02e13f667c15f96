#include "worker/observe/partition_lag.h"

void partition_lag_init(struct partition_lag *p)
{
	*p = (struct partition_lag){
		.position = {.committed = -1, .uncommitted_us = -1, .next = -1, .lost = -1, .state = ""},
		.asked = LAG_UNKNOWN,
		.low = -1,
		.high = -1,
		.answered_us = -1,
		.proven_end = -1,
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

/* The base, past a gap without records that was seen there. */
static int64_t past_gap(const struct partition_lag *p)
{
	int64_t base = partition_lag_base(p);

	return base == p->seen_at && p->seen_us < 0 && p->seen_next > base ? p->seen_next : base;
}

static void prove(struct partition_lag *p, int64_t end, int64_t mono_us)
{
	int64_t base = past_gap(p);

	if (end <= base || p->proven_end > base)
		return;
	p->proven_end = end;
	p->proven_us = mono_us;
}

void partition_lag_publish(struct partition_lag *p, const struct lag_position *position, int64_t mono_us)
{
	p->position = *position;
	prove(p, p->high, p->high_us);
	prove(p, position->next, mono_us);
}

void partition_lag_answer(struct partition_lag *p, int64_t low, int64_t high, int64_t mono_us)
{
	/* Ends do not go back: it is another log, of which nothing was seen. */
	if (high < p->high)
		p->proven_end = p->seen_at = p->seen_us = p->seen_next = -1;
	if (high != p->high)
		p->high_us = mono_us;
	p->low = low;
	p->high = high;
	p->answered_us = mono_us;
	prove(p, high, p->high_us);
}

int64_t partition_lag_first(const struct partition_lag *p)
{
	int64_t base = partition_lag_base(p);

	return base >= 0 && p->answered_us >= 0 && base < p->low ? p->low : base;
}

static bool was_seen(const struct partition_lag *p)
{
	return p->seen_at >= 0 && p->seen_at == partition_lag_first(p);
}

bool partition_lag_needs_look(const struct partition_lag *p)
{
	int64_t first = partition_lag_first(p);

	if (p->position.uncommitted_us >= 0 || p->answered_us < 0 || first < 0 || first >= p->high)
		return false;
	/* A look that found nothing is repeated only once there is more log to look at. */
	return !was_seen(p) || (p->seen_us < 0 && p->seen_next < p->high);
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
	int64_t end = partition_lag_end(p, mono_us, stale_us), base = past_gap(p);

	return end < 0 || base < 0 || end < base ? -1 : end - base;
}

bool partition_lag_seconds(const struct partition_lag *p, int64_t mono_us, int64_t stale_us, int64_t wall_us,
			   double *seconds)
{
	int64_t first_us = p->position.uncommitted_us, base = past_gap(p);

	if (first_us < 0 && was_seen(p))
		first_us = p->seen_us;
	if (first_us < 0) {
		bool lags = base >= 0 && p->proven_end > base;
		*seconds = lags ? (double)(mono_us - p->proven_us) / 1e6 : 0;
		return lags || partition_lag_offsets(p, mono_us, stale_us) == 0;
	}
	/* Records are stamped by other clocks than ours. */
	*seconds = wall_us > first_us ? (double)(wall_us - first_us) / 1e6 : 0;
	return true;
}
