/*
 * Fail points: named places between the steps of a record's way, at which a test ends or freezes the process. Only
 * builds made with `make FAILPOINTS=1` have them: in any other FAIL_POINT is nothing, and no name of one is in the binary.
 *
 *     DW_TEST_FAILPOINT=after_poll:12:200:kill delivery-worker run
 *
 * lets twelve passes of that point go. At the thirteenth the thread stands for 200 ms, in which the others work on with
 * what it has not done yet; then, once,
 *     kill   SIGKILL to the process
 *     stop   SIGSTOP to the process: this thread stands here, the others wherever they are, until a SIGCONT
 *     term   SIGTERM to the process: it begins to leave
 *     hold   no signal: this thread stands until the file of _ARM is gone, the others work on
 * With DW_TEST_FAILPOINT_ARM=FILE, passes count from when that file exists. `version --json` lists the points.
 *
 * Thread: any.
 */
#ifndef WORKER_FAILPOINT_H
#define WORKER_FAILPOINT_H

#ifdef FAILPOINTS

#include "common/json_writer.h"

#include <stdbool.h>

/* X(point, step, each, cost): the step is HACKING.md's, "copy" for the outbox or "assign"; one pass is one of
 * `each`; `cost` is what a crash there costs. */
#define FAIL_POINTS(X) \
	X(after_poll, "poll", "record", "nothing: nothing was promised") \
	X(after_track, "track offset", "record", "reading it again") \
	X(after_decode, "decode", "record", "reading it again") \
	X(after_dispatch, "dispatch", "record", "reading it again") \
	X(after_take_batch, "take batch", "batch", "reading it again") \
	X(after_lookup, "admit", "batch", "reading it again") \
	X(after_admit, "admit", "batch", "reading it again; a rate may be charged twice") \
	X(after_begin, "write", "batch", "reading it again; the server rolls back") \
	X(after_orders_sent, "write", "batch", "reading it again; the server rolls back") \
	X(after_postings_sent, "write", "batch", "reading it again; the server rolls back") \
	X(after_balances_sent, "write", "batch", "reading it again; the server rolls back") \
	X(after_witness_sent, "write", "batch", "reading it again; the server rolls back") \
	X(after_commit_sent, "write", "batch", "reading it again, which posts nothing if it was committed") \
	X(after_commit_answered, "write", "batch", "reading it again, which posts nothing") \
	X(before_mark, "confirm", "batch", "reading it again, and a look-up in PostgreSQL more") \
	X(after_mark, "confirm", "batch", "reading it again, which is known to be done") \
	X(before_settle, "settle", "batch", "reading it again, with no further effect") \
	X(after_settle, "settle", "record", "reading it again, with no further effect") \
	X(after_progress_asked, "commit", "commit", "reading it again, unless progress was committed") \
	X(before_progress_sent, "commit", "commit", "reading it again, with no further effect") \
	X(after_progress_written, "commit", "commit", "reading it again; the server rolls progress back") \
	X(after_progress_answered, "commit", "commit", "nothing: Kafka's commit is the lower one, and counts") \
	X(after_offsets_sent, "commit", "commit", "nothing: Kafka's commit is the lower one, or equal") \
	X(after_offsets_answered, "commit", "commit", "nothing: both are equal") \
	X(after_dead_letter_sent, "copy", "dead letter", "a dead letter more than once") \
	X(after_dead_letter_delivered, "copy", "dead letter", "a dead letter more than once") \
	X(after_deferral_sent, "copy", "deferral", "a deferred copy more than once") \
	X(after_deferral_delivered, "copy", "deferral", "a deferred copy more than once") \
	X(after_revocation, "assign", "assignment", "reading again what had not drained") \
	X(after_start_asked, "assign", "assignment", "asking again") \
	X(after_claim_written, "assign", "assignment", "asking again; the server rolls the claim back") \
	X(after_claim_committed, "assign", "assignment", "asking again; the next one takes the claim")

enum fail_point {
#define FAIL_POINT_OF_ROW(point, step, each, cost) FAIL_POINT_##point,
	FAIL_POINTS(FAIL_POINT_OF_ROW)
#undef FAIL_POINT_OF_ROW
	FAIL_POINT_COUNT
};

/* Counts a pass. Returns: whether this is the one to act at. */
bool fail_point_due(enum fail_point point);
/* Returns only after a stop, a term or a hold. */
void fail_point_act(void);

/* `prepare` is done before the process is ended or frozen, and only then. */
#define FAIL_POINT_WITH(point, prepare) \
	do { \
		if (fail_point_due(FAIL_POINT_##point)) { \
			prepare; \
			fail_point_act(); \
		} \
	} while (0)

/* The member "fail_points" of an object. */
void fail_points_put(struct json_writer *w);
#define FAIL_POINTS_PUT(writer) fail_points_put(writer)

#else

#define FAIL_POINT_WITH(point, prepare) ((void)0)
#define FAIL_POINTS_PUT(writer) ((void)0)

#endif

#define FAIL_POINT(point) FAIL_POINT_WITH(point, (void)0)
#define FAIL_POINT_IF(condition, point) \
	do { \
		if (condition) \
			FAIL_POINT(point); \
	} while (0)

#endif
