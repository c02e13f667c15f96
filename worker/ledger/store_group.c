/* Membership of the consumer group, and what operators accept as lost: small statements of rare moments. */
#include "worker/ledger/store.h"

#include "worker/ledger/store_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- members ---- */

static enum store_result forget_member(struct store *s, const struct store_member *m)
{
	pg_put_text(s->params, slice_of(m->group));
	pg_put_int8(s->params, m->id);
	return store_run(s, "DELETE FROM members WHERE consumer_group = $1::text AND member = $2::int8", NULL);
}

enum store_result store_renew_member(struct store *s, const struct store_member *m, int lives_ms, bool rejoined)
{
	enum store_result r = store_session(s);
	if (r == STORE_OK && rejoined)
		r = forget_member(s, m);
	if (r != STORE_OK)
		return r;
	pg_put_text(s->params, slice_of(m->group));
	pg_put_int8(s->params, m->id);
	pg_put_int8(s->params, lives_ms);
	/* Whose own row has expired was not a member all along, or could not say so: it begins as a new one does. */
	return store_run(s,
	                 "INSERT INTO members (consumer_group, member, group_since, expires_at)"
	                 " SELECT $1::text, $2::int8, coalesce(min(group_since), now()),"
	                 " now() + $3::int8 * interval '1 millisecond'"
	                 " FROM members WHERE consumer_group = $1::text AND expires_at > now()"
	                 " ON CONFLICT (consumer_group, member) DO UPDATE SET expires_at = EXCLUDED.expires_at,"
	                 " group_since = CASE WHEN members.expires_at > now() THEN members.group_since"
	                 " ELSE EXCLUDED.group_since END",
	                 NULL);
}

enum store_result store_leave_group(struct store *s, const struct store_member *m)
{
	enum store_result r = store_session(s);
	if (r == STORE_OK)
		r = forget_member(s, m);
	if (r != STORE_OK)
		return r;
	/* Of processes that died. */
	return store_run(s, "DELETE FROM members WHERE expires_at < now() - interval '1 day'", NULL);
}

/* ---- accepted losses ---- */

static void put_loss(struct store *s, const char *group, const struct accepted_loss *a)
{
	pg_put_text(s->params, slice_of(group));
	pg_put_text(s->params, slice_of(a->topic));
	pg_put_int8(s->params, a->partition);
	pg_put_int8(s->params, a->range.from);
	pg_put_int8(s->params, a->range.to);
}

#define THE_LOSS \
	"consumer_group = $1::text AND topic = $2::text AND ($3::int8 < 0" \
	" OR (partition = $3::int8::int4 AND from_offset = $4::int8 AND to_offset = $5::int8))"

/* *known: it was found, and is accepted now, or was before. */
static enum store_result accept_one(struct store *s, const char *group, const struct accepted_loss *a, bool *known)
{
	struct pg_rows *rows = NULL;
	put_loss(s, group, a);
	enum store_result r = store_run(s,
	                                "UPDATE lost_offsets SET accepted_at = now() WHERE " THE_LOSS
	                                " AND accepted_at IS NULL",
	                                NULL);
	if (r != STORE_OK)
		return r;
	put_loss(s, group, a);
	r = store_run(s, "SELECT count(*) FROM lost_offsets WHERE " THE_LOSS, &rows);
	if (r != STORE_OK)
		return r;
	*known = pg_integer(rows, 0, 0) > 0;
	pg_rows_free(rows);
	return STORE_OK;
}

static enum store_result explain_refusal(struct store *s, const char *group, const struct accepted_loss *a, char *text,
                                         size_t size)
{
	struct pg_rows *rows = NULL;
	pg_put_text(s->params, slice_of(group));
	pg_put_text(s->params, slice_of(a->topic));
	pg_put_int8(s->params, a->partition);
	enum store_result r = store_run(s,
	                                "SELECT partition, from_offset, to_offset FROM lost_offsets"
	                                " WHERE consumer_group = $1::text AND topic = $2::text AND applied_at IS NULL"
	                                " AND ($3::int8 < 0 OR partition = $3::int8::int4) ORDER BY partition",
	                                &rows);
	if (r != STORE_OK)
		return r;
	if (a->partition < 0)
		snprintf(text, size, "%s: nothing of it was found lost", a->topic);
	else if (pg_rows_count(rows) == 0)
		snprintf(text, size, "%s:%" PRId32 ":%" PRId64 "-%" PRId64 ": nothing of that partition was found lost",
		         a->topic, a->partition, a->range.from, a->range.to);
	else
		snprintf(text, size, "%s:%" PRId32 ":%" PRId64 "-%" PRId64 ": what was found lost is %" PRId64 "-%" PRId64,
		         a->topic, a->partition, a->range.from, a->range.to, pg_integer(rows, 0, 1), pg_integer(rows, 0, 2));
	pg_rows_free(rows);
	return STORE_OK;
}

enum store_result store_accept_losses(struct store *s, const char *group, const struct accepted_loss *losses,
                                      size_t count, char *refused, size_t refused_size)
{
	*refused = '\0';
	bool unverified;
	enum store_result r = store_session_any(s, &unverified);
	if (r != STORE_OK)
		return r;
	r = store_run(s, "BEGIN", NULL);
	for (size_t i = 0; r == STORE_OK && !*refused && i < count; i++) {
		bool known = false;
		r = accept_one(s, group, &losses[i], &known);
		if (r == STORE_OK && !known)
			r = explain_refusal(s, group, &losses[i], refused, refused_size);
	}
	if (r == STORE_OK && !*refused)
		r = store_run(s, "COMMIT", NULL);
	else
		store_rollback(s);
	store_session_end(s, unverified);
	return r;
}
