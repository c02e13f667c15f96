/* Timestamps, against a regular expression and the C library's calendar. Input: the text, and 8 bytes as a time. */
#include "tests/fuzz/fuzz.h"

#include "schemas/timestamp.h"

#include <regex.h>

static const char form[] = "^([0-9]{4})-(0[1-9]|1[0-2])-([0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])"
			   "(\\.[0-9]{1,9})?(Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))$";
enum { YEAR = 1, MONTH, DAY, HOUR, MINUTE, SECOND, FRACTION, SIGN = 9, OFFSET_HOURS, OFFSET_MINUTES, GROUPS };
static regex_t compiled;
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return (void)argc, (void)argv, regcomp(&compiled, form, REG_EXTENDED);
}

static bool expected(const char *text, int64_t *us)
{
	regmatch_t at[GROUPS];
	int n[GROUPS];
	if (regexec(&compiled, text, GROUPS, at, 0) != 0)
		return false;
	for (int i = 1; i < GROUPS; i++)
		n[i] = at[i].rm_so < 0 ? 0 : (int)strtol(text + at[i].rm_so + (i == FRACTION), NULL, 10);
	struct tm tm = {n[SECOND], n[MINUTE], n[HOUR], n[DAY], n[MONTH] - 1, n[YEAR] - 1900, 0, 0, 0, 0, NULL};
	int64_t offset_s = n[OFFSET_HOURS] * 3600 + n[OFFSET_MINUTES] * 60, fraction = n[FRACTION];
	for (regoff_t digits = at[FRACTION].rm_eo - at[FRACTION].rm_so - 1; digits < 9; digits++)
		fraction *= 10;
	bool minus = at[SIGN].rm_so >= 0 && text[at[SIGN].rm_so] == '-';
	*us = (timegm(&tm) + (minus ? offset_s : -offset_s)) * 1000000 + fraction / 1000;
	return tm.tm_mday == n[DAY]; /* else there is no such day, and timegm made it one of the next month */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), written[TIMESTAMP_TEXT_MAX];
	int64_t us = 0, wanted = 0, back = 0;
	bool good = strlen(text) == size && expected(text, &wanted);

	ENSURE((timestamp_parse((struct slice){(const char *)data, size}, &us) == 0) == good);
	ENSURE(us == wanted || !good);
	if (!good)
		memcpy(&us, data, size < sizeof(us) ? size : sizeof(us));
	if (us >= INT64_C(-62135596800000000) && us < INT64_C(253402300800000000)) { /* years of four digits */
		struct slice again = {written, timestamp_format(us, written)};
		ENSURE(timestamp_parse(again, &back) == 0 && back == us);
	}
	return free(text), 0;
}
