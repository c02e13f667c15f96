#include "schemas/timestamp.h"

#include <stdbool.h>
#include <stdio.h>

static const int64_t second_us = 1000000;
static const int64_t day_s = 86400;

/* Reads `count` ASCII digits at *at. Returns: the number, or -1. */
static int digits(const char **at, const char *end, int count)
{
	int number = 0;

	if (end - *at < count)
		return -1;
	for (int i = 0; i < count; i++) {
		char c = *(*at)++;
		if (c < '0' || c > '9')
			return -1;
		number = number * 10 + (c - '0');
	}
	return number;
}

static bool character(const char **at, const char *end, char wanted)
{
	return *at < end && *(*at)++ == wanted;
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month - 1] + (month == 2 && is_leap(year));
}

/* Proleptic Gregorian calendar, counted in years from March, so that the leap day comes last. */
static int64_t days_since_epoch(int year, int month, int day)
{
	/* Whole eras of 400 years, so that no year of an int64_t of microseconds (-290308 at least) is negative. */
	static const int64_t eras = 730, era_days = 146097;
	static const int64_t epoch = 719468; /* 1970-01-01, from 0000-03-01 */
	int64_t y = year - (month <= 2) + eras * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - eras * era_days - epoch;
}

static bool parse_fraction(const char **at, const char *end, int64_t *us)
{
	int count = 0;

	for (; *at < end && **at >= '0' && **at <= '9'; (*at)++, count++)
		if (count < 6)
			*us = *us * 10 + (**at - '0');
	for (int i = count; i < 6; i++)
		*us *= 10;
	return count >= 1 && count <= 9;
}

static bool parse_offset(const char **at, const char *end, int64_t *offset_s)
{
	char sign = *at < end ? *(*at)++ : '\0';

	if (sign == 'Z')
		return true;
	if (sign != '+' && sign != '-')
		return false;
	int hours = digits(at, end, 2);
	if (!character(at, end, ':'))
		return false;
	int minutes = digits(at, end, 2);
	if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
		return false;
	*offset_s = (hours * 60 + minutes) * (sign == '-' ? -60 : 60);
	return true;
}

int timestamp_parse(struct slice text, int64_t *us)
{
	const char *at = text.data;
	const char *end = at + text.len;
	int64_t fraction_us = 0, offset_s = 0;

	int year = digits(&at, end, 4);
	if (year < 0 || !character(&at, end, '-'))
		return -1;
	int month = digits(&at, end, 2);
	if (month < 1 || month > 12 || !character(&at, end, '-'))
		return -1;
	int day = digits(&at, end, 2);
	if (day < 1 || day > days_in_month(year, month) || !character(&at, end, 'T'))
		return -1;
	int hour = digits(&at, end, 2);
	if (hour < 0 || hour > 23 || !character(&at, end, ':'))
		return -1;
	int minute = digits(&at, end, 2);
	if (minute < 0 || minute > 59 || !character(&at, end, ':'))
		return -1;
	int second = digits(&at, end, 2);
	if (second < 0 || second > 59)
		return -1;
	if (at < end && *at == '.') {
		at++;
		if (!parse_fraction(&at, end, &fraction_us))
			return -1;
	}
	if (!parse_offset(&at, end, &offset_s) || at != end)
		return -1;
	int64_t day_second = hour * 3600 + minute * 60 + second;
	*us = (days_since_epoch(year, month, day) * day_s + day_second - offset_s) * second_us + fraction_us;
	return 0;
}

size_t timestamp_format(int64_t us, char text[TIMESTAMP_TEXT_MAX])
{
	int64_t fraction_us = us % second_us;
	int64_t seconds = us / second_us - (fraction_us < 0);
	int64_t second = seconds % day_s;
	int64_t days = seconds / day_s - (second < 0);
	int64_t year = 1970, month = 1;
	char fraction[8] = "";

	if (fraction_us < 0)
		fraction_us += second_us;
	if (second < 0)
		second += day_s;
	/* To within a day or so by the mean year, then exactly by whole years. */
	year += days * 400 / 146097;
	while (days < days_since_epoch((int)year, 1, 1))
		year--;
	while (days >= days_since_epoch((int)year + 1, 1, 1))
		year++;
	days -= days_since_epoch((int)year, 1, 1);
	for (; days >= days_in_month((int)year, (int)month); month++)
		days -= days_in_month((int)year, (int)month);
	if (fraction_us)
		snprintf(fraction, sizeof(fraction), ".%06d", (int)fraction_us);
	int len = snprintf(text, TIMESTAMP_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d%sZ", (int)year, (int)month,
			   (int)days + 1, (int)(second / 3600), (int)(second / 60 % 60), (int)(second % 60), fraction);
	return (size_t)len;
}
