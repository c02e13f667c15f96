/*
 * Whether each record that was refused has its dead letter, and one that says the right thing.
 *
 *     letters_note()      each dead letter
 *     letters_want()      each record below progress that is no event, or conflicts with its order
 *     letters_wait()      each record of which a deferred copy is still to be settled
 *     letters_compare(l, topics, report)
 *
 * A record with several faults gets the code of any of them, and an earlier version may have named another
 * than this one does: so of a refused event the letter's class must be one of an event's faults. A letter may
 * repeat; one that nobody wants is no difference, since a conflict may have been decided anew after a loss of
 * history.
 *
 * Memory: 24 bytes a letter and a wanted one. Pure, but for that. Thread: one at a time.
 */
#ifndef WORKER_AUDIT_LETTERS_H
#define WORKER_AUDIT_LETTERS_H

#include "schemas/error_code.h"
#include "worker/audit/report.h"

/* Where a record was first read. */
struct place {
	int64_t offset;
	int32_t partition;
	bool deferred; /* in the deferred topic, which a stranger wrote to; else in the main one */
};

struct letters;
struct letters *letters_new(void);
void letters_free(struct letters *l);

/* `code`: what the letter says; ERROR_NONE when it says nothing that is known. */
void letters_note(struct letters *l, struct place place, enum error_code code);
/* The log of dead letters no longer begins at its start: those that are missing may have been removed. */
void letters_incomplete(struct letters *l);
/* Whether a letter says so of the record. To be asked when all are noted. */
bool letters_say(struct letters *l, struct place place, enum error_code code);

void letters_want(struct letters *l, struct place place, enum error_code code);
void letters_wait(struct letters *l, struct place place);

/* `topics`: names of the main one and the deferred one. */
void letters_compare(struct letters *l, const char *const topics[2], struct audit_report *report);

#endif
