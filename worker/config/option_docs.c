/* What the rows say to people: --help, the reference, the sample file. Declared in worker/options.h. */
#include "worker/options.h"

#include "worker/config/option_row.h"

#include <inttypes.h>

enum { HELP_INDENT = 30 };

struct suffix {
	const char *name;
	int64_t factor;
};

static bool is_text(const struct option_row *row)
{
	return row->type == OPTION_TEXT || row->type == OPTION_SECRET;
}

/* A number as it may be written: 3600000 ms is 1h, 1048576 is 1m. */
static void put_amount(struct buf *out, const struct option_row *row, int64_t amount)
{
	static const struct suffix durations[] = {
		{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
	static const struct suffix sizes[] = {{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}};
	const struct suffix *suffix = row->type == OPTION_BYTES ? sizes : durations; /* both end with factor 1 */

	if (row->type == OPTION_INT || is_text(row) || amount == 0) {
		buf_printf(out, "%" PRId64, amount);
		return;
	}
	if (row->type == OPTION_SECONDS)
		amount *= 1000;
	while (amount % suffix->factor != 0)
		suffix++;
	buf_printf(out, "%" PRId64 "%s", amount / suffix->factor, suffix->name);
}

static void put_bounds(struct buf *out, const struct option_row *row)
{
	if (row->type == OPTION_CHOICE) {
		buf_puts(out, row->unit);
		return;
	}
	put_amount(out, row, row->min);
	buf_puts(out, " to ");
	put_amount(out, row, row->max);
	if (is_text(row))
		buf_puts(out, " bytes");
}

static bool is_wanted(const char *key, const char *wanted)
{
	while (wanted && *wanted) {
		size_t len = strcspn(wanted, " ");
		bool group = wanted[len - 1] == '.';
		if (strncmp(key, wanted, len) == 0 && (group || key[len] == '\0'))
			return true;
		wanted += len + strspn(wanted + len, " ");
	}
	return !wanted;
}

void options_print_help(struct buf *out, const char *wanted)
{
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		if (!is_wanted(row->key, wanted))
			continue;
		size_t start = out->len;
		buf_printf(out, "  --%s ", row->key);
		do
			buf_putc(out, ' ');
		while (out->len - start < HELP_INDENT);
		buf_printf(out, "%s; ", row->help);
		put_bounds(out, row);
		if (row->type == OPTION_INT)
			buf_printf(out, " %s", row->unit);
		const char *standard = row->standard[0] ? row->standard : "empty";
		bool duration = row->type == OPTION_MILLIS || row->type == OPTION_SECONDS;
		char last = standard[strlen(standard) - 1];
		buf_printf(out, " [%s%s]\n", standard, duration && last >= '0' && last <= '9' ? row->unit : "");
	}
}

/* In a Markdown table a '|' ends the cell; "<topic>" would be taken for HTML. */
static void put_cell(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|' || *text == '<')
			buf_putc(out, '\\');
		buf_putc(out, *text);
	}
}

static void put_reference_row(struct buf *out, const struct option_row *row)
{
	struct buf text = BUF_INIT;

	buf_printf(out, "| `%s` | `", row->key);
	option_put_variable(out, row->key);
	buf_puts(out, row->type == OPTION_SECRET ? "`, …`_FILE` | " : "` | ");
	if (row->standard[0])
		buf_printf(out, "`%s` | ", row->standard);
	else
		buf_puts(out, "empty | ");
	put_bounds(&text, row);
	put_cell(out, text.data);
	/* A choice's words were its bounds; a duration's suffixes say its unit, which a bare number is in. */
	buf_printf(out, " | %s | ", row->type == OPTION_CHOICE ? "" : row->unit);
	put_cell(out, row->help);
	buf_puts(out, " |\n");
	buf_release(&text);
}

static const char reference_intro[] =
	"# Options\n"
	"\n"
	"Made by `delivery-worker help options --markdown`; a test compares the two.\n"
	"\n"
	"A value comes from, the later ones winning: the default; the file that `--config` or `DW_CONFIG`\n"
	"names; the environment; a flag, `--key value` or `--key=value`. An unknown key, an unknown `DW_`\n"
	"variable and a value out of bounds end the start with exit code 78, an unknown flag with 2.\n"
	"`DW_TEST_` variables are left alone, and those that Kubernetes and Docker make for a Service or a link\n"
	"whose name begins with `dw`, as `DW_SERVICE_HOST` and `DW_PORT_80_TCP_ADDR`.\n"
	"\n"
	"The file has lines `key = value`; a `#` at the beginning of a line makes it a comment, and only\n"
	"there. Values have no quotes and no escapes. A secret can be in a file of its own:\n"
	"`DW_PG_DSN_FILE` names it, and its content, less one newline at the end, is the value; giving\n"
	"the variable in both forms is an error.\n"
	"\n"
	"Durations are whole numbers with `ms`, `s`, `m`, `h` or `d`, sizes with `k`, `m` or `g` (powers of\n"
	"1,024); a bare number is in the option's unit.\n"
	"\n"
	"| Option | Variable | Default | Bounds | Unit | Meaning |\n"
	"|---|---|---|---|---|---|\n";

static const char reference_properties[] =
	"\n"
	"## librdkafka\n"
	"\n"
	"Any other `kafka.<property>` goes to librdkafka, for every client; `kafka.consumer.<property>`\n"
	"and `kafka.producer.<property>` for that side alone. In the environment underscores stand for\n"
	"the dots: `DW_KAFKA_SECURITY_PROTOCOL`, `DW_KAFKA_CONSUMER_FETCH_MIN_BYTES`. Credentials\n"
	"(`sasl.username`, `sasl.password`, `sasl.oauthbearer.config`, `sasl.oauthbearer.client.secret`,\n"
	"`ssl.key.password`, `ssl.keystore.password`, `ssl.key.pem`) may come from a file, as in\n"
	"`DW_KAFKA_SASL_PASSWORD_FILE`.\n"
	"\n"
	"Properties that the worker's promises rest on are refused: `enable.auto.commit`,\n"
	"`enable.auto.offset.store`, `auto.offset.reset`, `isolation.level`, `acks`,\n"
	"`enable.idempotence`, `delivery.report.only.error` and more of which the error says why; so are\n"
	"`bootstrap.servers`, `group.id` and `partition.assignment.strategy`, which are `kafka.brokers`,\n"
	"`kafka.group` and `kafka.assignor`. `group.instance.id` needs `consumers` = 1, and another value in\n"
	"each replica.\n"
	"\n"
	"A group forms only of members with one assignor, whatever their versions. To change `kafka.assignor`:\n"
	"end all workers of the group, wait until `lag` shows it empty, start all with the new value. Workers\n"
	"before this option took cooperative with librdkafka 2.10 and later.\n";

void options_print_reference(struct buf *out)
{
	buf_puts(out, reference_intro);
	for (size_t i = 0; i < option_row_count; i++)
		put_reference_row(out, &option_rows[i]);
	buf_puts(out, reference_properties);
}

void options_print_sample(struct buf *out)
{
	buf_puts(out, "# delivery-worker: every option with its default.\n"
		      "# Made by `delivery-worker help options --sample`.\n"
		      "# Any other kafka.<property> goes to librdkafka.\n");
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		buf_printf(out, "\n# %s; ", row->help);
		put_bounds(out, row);
		if (row->type != OPTION_CHOICE && row->unit[0])
			buf_printf(out, " (%s)", row->unit);
		buf_printf(out, "\n#%s =%s%s\n", row->key, row->standard[0] ? " " : "", row->standard);
	}
}
