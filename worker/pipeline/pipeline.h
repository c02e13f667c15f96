/*
 * The pipeline as a whole: builds its parts in the order in which they need each other, and takes them down in
 * reverse once nothing is in flight.
 *
 * Thread: main.
 */
#ifndef WORKER_PIPELINE_PIPELINE_H
#define WORKER_PIPELINE_PIPELINE_H

#include "worker/gate/gate.h"
#include "worker/options.h"
#include "worker/pipeline/keeper.h"

struct pipeline;

/*
 * Starts all threads. The schema fits by now. `options` must outlive it. `digest_key`: from the database.
 * Returns: 0; -1 and one line in `error`: what could not be opened.
 */
must_use int pipeline_start(const struct options *options, const uint8_t digest_key[16], struct pipeline **out,
                            char *error, size_t error_size);

/* The store's settings by the options; `board` may be NULL for a look. */
struct store_settings pipeline_store_settings(const struct options *options, struct store_board *board);

struct gate_settings pipeline_gate_settings(const struct options *options);

/* To be called a few times a second: sums up what the consumers know for metrics, limits and readiness. */
void pipeline_tend(struct pipeline *p);
/* A client's fatal error, or NULL. */
const char *pipeline_fatal(const struct pipeline *p);

/* Begins the leave: everything must be settled by `deadline_us` (monotonic). Returns at once. */
void pipeline_drain(struct pipeline *p, int64_t deadline_us);
/* All consumers have left, with or without having drained. */
bool pipeline_has_left(const struct pipeline *p);

/* To be called when pipeline_has_left. Returns: whether all was settled and committed; if not, records are in flight
 * somewhere: the process must end. */
must_use bool pipeline_join(struct pipeline *p);
/* Takes the rest down and frees all, after pipeline_join was true. Waits for what threads ask servers just now.
 * Thread: any. */
void pipeline_stop(struct pipeline *p);

#endif
