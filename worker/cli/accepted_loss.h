/*
 * What an operator gives up: `--accept-loss TOPIC:PARTITION:FROM-TO`, offsets [FROM, TO), or `--accept-loss TOPIC`, all
 * that was found lost of it.
 * Thread: one at a time.
 */
#ifndef WORKER_CLI_ACCEPTED_LOSS_H
#define WORKER_CLI_ACCEPTED_LOSS_H

#include "worker/cli/cli.h"
#include "worker/ledger/store.h"

enum { LOSSES_MAX = 64 };

struct losses {
	struct accepted_loss items[LOSSES_MAX]; /* whose topics are owned */
	size_t count;
};

/* Returns: false for a text of another form, with *loss untouched. Owns: loss->topic is the caller's, for free. */
must_use bool accepted_loss_parse(const char *text, struct accepted_loss *loss);

/* Takes the flags out of the command line. Returns: EXIT_FINE; else a code, having said why. Either way there is
 * losses_release to call. */
must_use int losses_take(struct losses *l, struct cli *cli);
void losses_release(struct losses *l);

#endif
