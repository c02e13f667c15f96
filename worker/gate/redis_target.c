#include "worker/gate/redis_target.h"

#include "common/parse.h"
#include "common/slice.h"

#include <stdio.h>
#include <sys/un.h>

static bool take_prefix(struct slice *rest, const char *prefix)
{
	size_t len = strlen(prefix);
	if (rest->len < len || memcmp(rest->data, prefix, len) != 0)
		return false;
	*rest = (struct slice){rest->data + len, rest->len - len};
	return true;
}

static struct slice before(struct slice s, size_t at)
{
	return (struct slice){s.data, at};
}

static struct slice behind(struct slice s, size_t at)
{
	return (struct slice){s.data + at + 1, s.len - at - 1};
}

/* Returns: where `c` is first; the length if it is not there. */
static size_t first(struct slice s, char c)
{
	const char *at = s.len ? memchr(s.data, c, s.len) : NULL;
	return at ? (size_t)(at - s.data) : s.len;
}

static size_t last(struct slice s, char c)
{
	const char *at = s.len ? memrchr(s.data, c, s.len) : NULL;
	return at ? (size_t)(at - s.data) : s.len;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int percent_decode(struct slice text, char *out, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < text.len; i++, n++) {
		int byte = (unsigned char)text.data[i];
		if (byte == '%') {
			if (i + 2 >= text.len)
				return -1;
			int high = hex_digit(text.data[i + 1]), low = hex_digit(text.data[i + 2]);
			if (high < 0 || low < 0)
				return -1;
			byte = high * 16 + low;
			i += 2;
		}
		if (byte == 0 || n + 1 >= size)
			return -1;
		out[n] = (char)byte;
	}
	out[n] = '\0';
	return 0;
}

static int copy_host(struct slice text, char *out, size_t size)
{
	if (text.len == 0 || text.len >= size)
		return -1;
	for (size_t i = 0; i < text.len; i++) {
		if ((unsigned char)text.data[i] <= ' ' || text.data[i] == 127)
			return -1;
	}
	memcpy(out, text.data, text.len);
	out[text.len] = '\0';
	return 0;
}

/* [user]:password, as it stands before the `@`. Returns: NULL, or what is wrong. */
static const char *parse_user(struct slice text, struct redis_target *t)
{
	size_t colon = first(text, ':');
	if (colon == text.len)
		return "the user has no password: expected user:password@ or :password@";
	if (percent_decode(before(text, colon), t->user, sizeof(t->user)) < 0)
		return "the user is too long (127 bytes) or has a bad percent-escape";
	if (percent_decode(behind(text, colon), t->password, sizeof(t->password)) < 0)
		return "the password is too long (1023 bytes) or has a bad percent-escape";
	t->authenticate = t->user[0] || t->password[0];
	return NULL;
}

static const char *parse_host(struct slice text, struct redis_target *t)
{
	static const char no_host[] = "no valid host; a `/` in a password is written %2F";
	struct slice host, port = {NULL, 0};
	if (text.len > 0 && text.data[0] == '[') {
		size_t close = first(text, ']');
		if (close == text.len)
			return "no `]` behind the IPv6 address";
		host = (struct slice){text.data + 1, close - 1};
		struct slice rest = behind(text, close);
		if (rest.len > 0 && rest.data[0] != ':')
			return "expected `:port` behind the IPv6 address";
		if (rest.len > 0)
			port = behind(rest, 0);
	} else {
		size_t colon = first(text, ':');
		host = before(text, colon);
		if (colon < text.len)
			port = behind(text, colon);
	}
	if (copy_host(host, t->host, sizeof(t->host)) < 0)
		return no_host;
	int64_t number = REDIS_PORT;
	if (slice_present(port) && !parse_int64_within(port, 1, 65535, &number))
		return "the port is not a number in 1..65535; a `/` in a password is written %2F";
	t->port = (int)number;
	return NULL;
}

static const char *parse(struct slice rest, struct redis_target *t)
{
	bool local = false;
	if (take_prefix(&rest, "rediss://"))
		t->tls = true;
	else if (take_prefix(&rest, "unix://"))
		local = true;
	else if (!take_prefix(&rest, "redis://"))
		return "expected redis://, rediss:// or unix://";

	if (first(rest, '?') < rest.len || first(rest, '#') < rest.len)
		return "`?` and `#` have no meaning here; in a password they are written %3F and %23";
	size_t slash = first(rest, '/');
	struct slice authority = before(rest, slash);
	size_t at = last(authority, '@');
	if (at < authority.len) {
		const char *wrong = parse_user(before(authority, at), t);
		if (wrong)
			return wrong;
		authority = behind(authority, at);
	}
	if (local) {
		struct sockaddr_un limit;
		struct slice path = {rest.data + slash, rest.len - slash};
		if (authority.len > 0 || path.len < 2 || path.len >= sizeof(limit.sun_path) ||
		    copy_host(path, t->host, sizeof(t->host)) < 0)
			return "expected unix:///path, of at most 107 bytes";
		return NULL;
	}
	const char *wrong = parse_host(authority, t);
	if (wrong)
		return wrong;
	int64_t db = 0;
	if (slash + 1 < rest.len && !parse_int64_within(behind(rest, slash), 0, 999999, &db))
		return "the database behind the `/` is not a number in 0..999999";
	t->db = (int)db;
	return NULL;
}

int redis_target_parse(const char *url, struct redis_target *out, char *error, size_t error_size)
{
	struct redis_target target = {0};
	const char *wrong = parse(slice_of(url), &target);
	if (wrong) {
		snprintf(error, error_size, "redis.url: %s", wrong);
		return -1;
	}
	*out = target;
	return 0;
}

void redis_target_name(const struct redis_target *t, char *name, size_t size)
{
	if (t->port == 0)
		snprintf(name, size, "%s", t->host);
	else if (strchr(t->host, ':'))
		snprintf(name, size, "[%s]:%d/%d", t->host, t->port, t->db);
	else
		snprintf(name, size, "%s:%d/%d", t->host, t->port, t->db);
}
