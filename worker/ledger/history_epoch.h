/* The name of a history of the database: the raw bytes of the uuid in table `history`. */
#ifndef WORKER_LEDGER_HISTORY_EPOCH_H
#define WORKER_LEDGER_HISTORY_EPOCH_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct history_epoch {
	uint8_t bytes[16];
};

static inline bool history_epoch_equal(const struct history_epoch *a, const struct history_epoch *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

#endif
