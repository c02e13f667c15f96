#include "worker/audit/report.h"

#include "common/ensure.h"
#include "common/utf8.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKS_MAX = 32, APART_MAX = 8, LINE_MAX_BYTES = 512 };

struct check {
	const char *name;
	const char *noun;
	uint64_t examined;
	uint64_t wrong;
	int shown;
	char lines[AUDIT_SHOWN_MAX][LINE_MAX_BYTES];
};

struct apart {
	const char *what;
	uint64_t count;
};

struct audit_report {
	int check_count;
	int apart_count;
	struct apart apart[APART_MAX];
	struct check checks[CHECKS_MAX];
};

struct audit_report *audit_report_new(void)
{
	struct audit_report *r = calloc(1, sizeof(*r));
	ENSURE(r);
	return r;
}

void audit_report_free(struct audit_report *r)
{
	free(r);
}

void audit_check_begin(struct audit_report *r, const char *check, const char *noun)
{
	ENSURE(r->check_count < CHECKS_MAX);
	struct check *c = &r->checks[r->check_count++];
	c->name = check;
	c->noun = noun;
}

static struct check *current(struct audit_report *r)
{
	ENSURE(r->check_count > 0);
	return &r->checks[r->check_count - 1];
}

void audit_examined(struct audit_report *r, uint64_t count)
{
	current(r)->examined += count;
}

/* Keys are data, also of whoever tampered with it: nothing that a terminal would obey, C1 controls included, and no
 * line of its own. A sequence that was cut is none. */
static void make_printable(char *line)
{
	size_t len = strlen(line), kept = 0;
	for (size_t at = 0; at < len;) {
		uint32_t c = 0;
		size_t bytes = utf8_read(line + at, len - at, &c);
		if (bytes == 0 || !utf8_is_printable(c)) {
			line[kept++] = '?';
		} else {
			memmove(line + kept, line + at, bytes);
			kept += bytes;
		}
		at += bytes ? bytes : 1;
	}
	line[kept] = '\0';
}

void audit_wrong(struct audit_report *r, const char *format, ...)
{
	struct check *c = current(r);
	c->wrong++;
	if (c->shown == AUDIT_SHOWN_MAX)
		return;
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(c->lines[c->shown], LINE_MAX_BYTES, format, arguments);
	va_end(arguments);
	make_printable(c->lines[c->shown++]);
}

void audit_wrong_more(struct audit_report *r, uint64_t count)
{
	current(r)->wrong += count;
}

void audit_apart(struct audit_report *r, const char *what, uint64_t count)
{
	ENSURE(r->apart_count < APART_MAX);
	r->apart[r->apart_count++] = (struct apart){what, count};
}

bool audit_report_clean(const struct audit_report *r)
{
	for (int i = 0; i < r->check_count; i++)
		if (r->checks[i].wrong)
			return false;
	return true;
}

void audit_report_text(const struct audit_report *r, struct buf *out)
{
	for (int i = 0; i < r->check_count; i++) {
		const struct check *c = &r->checks[i];
		if (!c->wrong) {
			buf_printf(out, "ok     %s (%" PRIu64 " %s)\n", c->name, c->examined, c->noun);
			continue;
		}
		buf_printf(out, "WRONG  %s: %" PRIu64 " of %" PRIu64 " %s\n", c->name, c->wrong, c->examined, c->noun);
		for (int line = 0; line < c->shown; line++)
			buf_printf(out, "       %s\n", c->lines[line]);
		if (c->wrong > (uint64_t)c->shown)
			buf_printf(out, "       and %" PRIu64 " more\n", c->wrong - (uint64_t)c->shown);
	}
	for (int i = 0; i < r->apart_count; i++)
		if (r->apart[i].count)
			buf_printf(out, "apart  %s: %" PRIu64 "\n", r->apart[i].what, r->apart[i].count);
}

void audit_report_json(const struct audit_report *r, struct json_writer *w)
{
	json_put_open(w, '{');
	json_put_key(w, "ok");
	json_put_bool(w, audit_report_clean(r));
	json_put_key(w, "checks");
	json_put_open(w, '[');
	for (int i = 0; i < r->check_count; i++) {
		const struct check *c = &r->checks[i];
		json_put_open(w, '{');
		json_put_key(w, "check");
		json_put_text(w, c->name);
		json_put_key(w, "noun");
		json_put_text(w, c->noun);
		json_put_key(w, "examined");
		json_put_int(w, (int64_t)c->examined);
		json_put_key(w, "wrong");
		json_put_int(w, (int64_t)c->wrong);
		json_put_key(w, "findings");
		json_put_open(w, '[');
		for (int line = 0; line < c->shown; line++)
			json_put_text(w, c->lines[line]);
		json_put_close(w, ']');
		json_put_close(w, '}');
	}
	json_put_close(w, ']');
	json_put_key(w, "apart");
	json_put_open(w, '{');
	for (int i = 0; i < r->apart_count; i++) {
		json_put_key(w, r->apart[i].what);
		json_put_int(w, (int64_t)r->apart[i].count);
	}
	json_put_close(w, '}');
	json_put_close(w, '}');
}
