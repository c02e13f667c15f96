#include "worker/audit/order_row.h"

#include "schemas/timestamp.h"

#include <ctype.h>

enum column {
	UPDATED_AT, ORDER_COLUMNS(ORDER_COLUMN_SYMBOL) FIRST_TOPIC, FIRST_PARTITION, FIRST_OFFSET, COLUMN_COUNT,
};

_Static_assert((int)COLUMN_COUNT == (int)ORDER_ROW_COLUMN_COUNT, "ORDER_ROW_COLUMNS and its columns");

static int64_t integer_or(const struct pg_rows *rows, size_t row, int column, int64_t absent)
{
	return pg_null(rows, row, column) ? absent : pg_integer(rows, row, column);
}

static int64_t time_or_none(const struct pg_rows *rows, size_t row, int column)
{
	return pg_null(rows, row, column) ? TIME_NONE : pg_time(rows, row, column);
}

static bool same_presence(const struct pg_rows *rows, size_t row, int a, int b)
{
	return pg_null(rows, row, a) == pg_null(rows, row, b);
}

/* An id of the contract's alphabet, or absent. */
static bool id_well_formed(struct slice id)
{
	if (!slice_present(id))
		return true;
	for (size_t i = 0; i < id.len; i++)
		if (!isalnum((unsigned char)id.data[i]) && !strchr("._:-", id.data[i]))
			return false;
	return id.len >= 1 && id.len <= EVENT_ID_CHARS_MAX;
}

static bool currency_well_formed(const char *currency)
{
	return strspn(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3 && strcmp(currency, "PTS") != 0;
}

static struct claim read_claim(const struct pg_rows *rows, size_t row, int at, int number, int text)
{
	return (struct claim){
		.at_us = time_or_none(rows, row, at),
		.number = number < 0 ? 0 : integer_or(rows, row, number, 0),
		.text = text < 0 ? (struct slice){0} : pg_text(rows, row, text),
	};
}

static void read_state(const struct pg_rows *rows, size_t row, struct order_state *s)
{
	order_state_init(s);
	s->progress = (enum event_status)pg_integer(rows, row, PROGRESS);
	s->outcome = read_claim(rows, row, OUTCOME_AT, OUTCOME, -1);
	s->amount = read_claim(rows, row, AMOUNT_AT, AMOUNT, -1);
	s->driver = read_claim(rows, row, DRIVER_AT, -1, DRIVER);
	s->refunded_total_minor = pg_integer(rows, row, REFUNDED);
	s->customer_id = pg_text(rows, row, CUSTOMER);
	s->partner_id = pg_text(rows, row, PARTNER);
	struct slice currency = pg_text(rows, row, CURRENCY);
	if (currency.len == sizeof(s->currency) - 1)
		memcpy(s->currency, currency.data, currency.len);
}

static void read_terms(const struct pg_rows *rows, size_t row, struct order_terms *terms)
{
	int64_t kinds = integer_or(rows, row, PINNED_KINDS, KINDS_NONE);
	*terms = (struct order_terms){
		.outcome_at_us = time_or_none(rows, row, PINNED_AT),
		.rule_id = pg_text(rows, row, PINNED_RULE),
		.rule_version = (int32_t)integer_or(rows, row, PINNED_VERSION, 0),
		.kinds = (uint8_t)(kinds_known(kinds) ? kinds : UINT8_MAX),
	};
}

static bool before_2000(const struct claim *c)
{
	return c->at_us != TIME_NONE && c->at_us < TIMESTAMP_MIN_US;
}

static const char *state_fault(const struct pg_rows *rows, size_t row, const struct order_state *s)
{
	enum event_status outcome = status_from_rank(integer_or(rows, row, OUTCOME, STATUS_NONE));
	if (status_from_rank(s->progress) == STATUS_NONE)
		return "progress is no status that this version knows";
	if (!same_presence(rows, row, OUTCOME, OUTCOME_AT))
		return "outcome without its time, or the reverse";
	if (!pg_null(rows, row, OUTCOME) && (outcome == STATUS_NONE || !status_is_decisive(outcome)))
		return "outcome is no decisive status that this version knows";
	if (outcome > s->progress)
		return "outcome is beyond progress";
	if (status_is_decisive(s->progress) && outcome == STATUS_NONE)
		return "progress is decisive, yet there is no outcome";
	if (!same_presence(rows, row, AMOUNT, AMOUNT_AT) || !same_presence(rows, row, AMOUNT, CURRENCY))
		return "amount, its time and currency are not known together";
	if (!pg_null(rows, row, AMOUNT) && (s->amount.number < 0 || s->amount.number > EVENT_AMOUNT_MAX))
		return "amount_minor is out of bounds";
	if (!pg_null(rows, row, CURRENCY) && !currency_well_formed(s->currency))
		return "currency is none";
	if (s->refunded_total_minor < 0 || s->refunded_total_minor > EVENT_AMOUNT_MAX)
		return "refunded_total_minor is out of bounds";
	if (!same_presence(rows, row, DRIVER, DRIVER_AT))
		return "driver_id without its time, or the reverse";
	if (before_2000(&s->outcome) || before_2000(&s->amount) || before_2000(&s->driver))
		return "a time before 2000";
	if (!id_well_formed(s->customer_id) || !id_well_formed(s->partner_id))
		return "an id that no event can carry";
	return NULL;
}

static const char *row_fault(const struct pg_rows *rows, size_t row, const struct order_row *o)
{
	const char *fault = state_fault(rows, row, &o->state);
	if (fault)
		return fault;
	if (!id_well_formed(o->order_id))
		return "an id that no event can carry";
	if (pg_integer(rows, row, REV) < 1)
		return "rev is below 1";
	if (!same_presence(rows, row, PINNED_AT, PINNED_KINDS) || !same_presence(rows, row, PINNED_RULE, PINNED_VERSION) ||
	    (pg_null(rows, row, PINNED_AT) && !pg_null(rows, row, PINNED_RULE)))
		return "the pin has only some of its parts";
	if (!kinds_known(o->terms.kinds))
		return "pinned_kinds has a bit that this version does not know";
	if (o->points < 0 || o->order_credit_minor < 0)
		return "what is posted is below 0";
	if (!slice_present(o->first_topic) || o->first_partition < 0 || o->first_offset < 0)
		return "the record that first named it is not known";
	return NULL;
}

const char *order_row_read(const struct pg_rows *rows, size_t row, struct order_row *out)
{
	*out = (struct order_row){
		.order_id = pg_text(rows, row, ORDER_ID),
		.points = pg_integer(rows, row, POINTS),
		.points_seq = pg_integer(rows, row, POINTS_SEQ),
		.order_credit_minor = pg_integer(rows, row, CREDIT),
		.order_credit_seq = pg_integer(rows, row, CREDIT_SEQ),
		.first_topic = pg_text(rows, row, FIRST_TOPIC),
		.first_partition = integer_or(rows, row, FIRST_PARTITION, -1),
		.first_offset = integer_or(rows, row, FIRST_OFFSET, -1),
		.updated_at_us = pg_time(rows, row, UPDATED_AT),
	};
	read_state(rows, row, &out->state);
	read_terms(rows, row, &out->terms);
	return row_fault(rows, row, out);
}
