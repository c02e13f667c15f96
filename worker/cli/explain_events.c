#include "worker/cli/explain.h"

#include "schemas/event_members.h"
#include "schemas/timestamp.h"
#include "worker/cli/table.h"
#include "worker/cli/topic_scan.h"
#include "worker/pipeline/copy.h"

#include <inttypes.h>
#include <stdlib.h>

enum topic_role { EVENTS, DEFERRED, DEAD_LETTERS };

struct search {
	const struct cli *cli;
	struct slice order_id;
	struct event_decoder *decoder;
	enum topic_role role;
	struct json_writer *json; /* NULL: the table */
	struct table table;
	struct buf text;
};

/* ---- one record ---- */

static void put_text_member(struct buf *out, const struct event_member_rule *rule, struct slice value)
{
	if (slice_present(value))
		buf_printf(out, "%s%s %.*s", out->len ? ", " : "", rule->name.data, (int)value.len, value.data);
}

/* What the record says beside order, status and time, which have places of their own. */
static void put_members(struct buf *out, const struct event *e)
{
	for (enum event_member i = MEMBER_ORDER_ID + 1; i < MEMBER_COUNT; i++) {
		const struct event_member_rule *rule = &event_member_rules[i];
		const void *at = (const char *)e + rule->offset;
		const void *absent = (const char *)&event_absent + rule->offset;
		switch (rule->type) {
		case TYPE_ID:
		case TYPE_TEXT:
			put_text_member(out, rule, *(const struct slice *)at);
			break;
		case TYPE_NUMBER:
			if (*(const int64_t *)at != *(const int64_t *)absent)
				buf_printf(out, "%s%s %" PRId64, out->len ? ", " : "", rule->name.data, *(const int64_t *)at);
			break;
		case TYPE_CURRENCY:
			put_text_member(out, rule, slice_of(e->currency[0] ? e->currency : NULL));
			break;
		case TYPE_STATUS:
		case TYPE_TIME:
		case TYPE_VERSION:
			break;
		}
	}
}

/* Where the copy's original lies. */
static void put_source(struct buf *out, const struct kafka_record *record)
{
	int64_t partition, offset;
	struct slice topic = topic_scan_header(record, "dw_source_topic");
	if (!slice_present(topic) || !topic_scan_header_number(record, "dw_source_partition", INT32_MAX, &partition) ||
	    !topic_scan_header_number(record, "dw_source_offset", INT64_MAX, &offset))
		return;
	buf_printf(out, "%scopy of %.*s[%" PRId64 "]@%" PRId64, out->len ? ", " : "", (int)topic.len, topic.data, partition,
	           offset);
}

static void time_text(int64_t us, char text[TIMESTAMP_TEXT_MAX])
{
	if (us < 0)
		memcpy(text, "-", 2);
	else
		timestamp_format(us, text);
}

/* `event`: NULL when the record is none; then `why` is the error code. */
static void show_json(struct search *s, const struct kafka_record *record, const struct event *event, const char *why)
{
	char text[TIMESTAMP_TEXT_MAX];
	struct json_writer *w = s->json;
	json_put_open(w, '{');
	json_put_key(w, "topic");
	json_put_text(w, record->topic);
	json_put_key(w, "partition");
	json_put_int(w, record->partition);
	json_put_key(w, "offset");
	json_put_int(w, record->offset);
	json_put_key(w, "record_time");
	time_text(record->timestamp_us, text);
	json_put_text(w, record->timestamp_us < 0 ? NULL : text);
	json_put_key(w, "status");
	json_put_text(w, event ? status_name(event->status) : NULL);
	json_put_key(w, "timestamp");
	if (event)
		timestamp_format(event->timestamp_us, text);
	json_put_text(w, event ? text : NULL);
	json_put_key(w, "error_code");
	json_put_text(w, why);
	json_put_key(w, "members");
	json_put_string(w, buf_slice(&s->text));
	json_put_close(w, '}');
}

static void show_row(struct search *s, const struct kafka_record *record, const struct event *event, const char *why)
{
	char at[TIMESTAMP_TEXT_MAX] = "-", record_at[TIMESTAMP_TEXT_MAX];
	if (event)
		timestamp_format(event->timestamp_us, at);
	time_text(record->timestamp_us, record_at);
	table_cell(&s->table, "%s", record->topic);
	table_cell(&s->table, "%" PRId32, record->partition);
	table_cell(&s->table, "%" PRId64, record->offset);
	table_cell(&s->table, "%s", record_at);
	table_cell(&s->table, "%s", at);
	table_cell(&s->table, "%s", event ? status_name(event->status) : "-");
	table_cell(&s->table, "%s%s%s", why ? why : "", why && s->text.len ? ", " : "", s->text.len ? s->text.data : "");
}

static bool visit(void *owner, const struct kafka_record *record)
{
	struct search *s = owner;
	bool keyed = slice_equal(record->key, s->order_id) && slice_present(record->key);
	/* Decoding is dear; a record that does not hold the id's bytes is not the order's. Escapes in JSON could hide
	 * them (of this alphabet nobody escapes), and then the key tells. */
	if (!keyed && (!slice_present(record->value) ||
	               !memmem(record->value.data, record->value.len, s->order_id.data, s->order_id.len)))
		return true;
	struct event event;
	struct decode_error error;
	int64_t time_us = s->role == EVENTS
	                          ? record->timestamp_us
	                          : copy_source_timestamp(record->headers, record->header_count, record->timestamp_us);
	enum error_code code = event_decode(s->decoder, record->value, record->headers, record->header_count, time_us,
	                                    &event, &error);
	bool decoded = code == ERROR_NONE;
	if (decoded ? !slice_equal(event.order_id, s->order_id) : !keyed)
		return true;
	const char *why = decoded ? NULL : error_code_name(code);
	char told[64];
	struct slice header = topic_scan_header(record, "dw_error_code");
	if (s->role == DEAD_LETTERS && slice_present(header)) {
		snprintf(told, sizeof(told), "%.*s", (int)header.len, header.data);
		why = told;
	}
	buf_clear(&s->text);
	if (decoded)
		put_members(&s->text, &event);
	if (s->role != EVENTS)
		put_source(&s->text, record);
	if (s->json)
		show_json(s, record, decoded ? &event : NULL, why);
	else
		show_row(s, record, decoded ? &event : NULL, why);
	return true;
}

/* ---- the topics ---- */

static int search_topic(struct search *s, struct kafka_admin *admin, const char *topic, enum topic_role role)
{
	int count = 0;
	int code = topic_scan_partitions(s->cli, admin, topic, role != EVENTS, &count);
	s->role = role;
	for (int32_t partition = 0; code == EXIT_FINE && partition < count; partition++) {
		struct log_range range;
		code = topic_scan_range(s->cli, admin, topic, partition, &range);
		if (code == EXIT_FINE)
			code = topic_scan_read(s->cli, admin, topic, partition, &range, visit, s);
	}
	return code;
}

int explain_events(const struct cli *cli, struct slice order_id, struct json_writer *w)
{
	static const struct table_column columns[] = {
		{"TOPIC", false}, {"PARTITION", true}, {"OFFSET", true}, {"RECORD_TIME", false},
		{"EVENT_TIME", false}, {"STATUS", false}, {"WHAT", false},
	};
	const struct options *o = cli->options;
	struct kafka_admin *admin = NULL;
	int code = topic_scan_open(cli, &admin);
	if (code != EXIT_FINE)
		return code;
	struct search s = {.cli = cli, .order_id = order_id, .json = w,
	                   .table = table_of(columns, sizeof(columns) / sizeof(columns[0]))};
	s.decoder = event_decoder_new(&(struct event_decoder_options){.refuse_unknown = o->event_unknown_members != 0});
	if (w)
		json_put_open(w, '[');
	code = search_topic(&s, admin, o->kafka_topic, EVENTS);
	if (code == EXIT_FINE)
		code = search_topic(&s, admin, o->kafka_deferred_topic, DEFERRED);
	if (code == EXIT_FINE)
		code = search_topic(&s, admin, o->kafka_dlq_topic, DEAD_LETTERS);
	if (w)
		json_put_close(w, ']');
	else if (code == EXIT_FINE)
		table_print(&s.table, stdout);
	table_release(&s.table);
	buf_release(&s.text);
	event_decoder_free(s.decoder);
	kafka_admin_close(admin);
	return code;
}
