/* Redis' URL. Input: the text. */
#include "tests/fuzz/fuzz.h"

#include "common/buf.h"
#include "worker/gate/redis_target.h"

static void put_percent(struct buf *out, const char *text)
{
	for (; *text; text++)
		buf_printf(out, "%%%02X", (unsigned char)*text);
}

static void put_url(struct buf *out, const struct redis_target *t)
{
	buf_puts(out, t->port == 0 ? "unix://" : t->tls ? "rediss://" : "redis://");
	if (t->authenticate) {
		put_percent(out, t->user);
		buf_putc(out, ':');
		put_percent(out, t->password);
		buf_putc(out, '@');
	}
	bool brackets = t->port && (strchr(t->host, ':') || t->host[0] == '[');
	buf_printf(out, brackets ? "[%s]" : "%s", t->host);
	if (t->port)
		buf_printf(out, ":%d/%d", t->port, t->db);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), error[128], name[300];
	struct redis_target target = {0}, again = {0};
	struct buf url = BUF_INIT;

	if (redis_target_parse(text, &target, error, sizeof(error)) != 0) {
		fuzz_check_line(error, sizeof(error), false);
		ENSURE(strncmp(error, "redis.url: ", 11) == 0 && memcmp(&target, &again, sizeof(target)) == 0);
	} else {
		ENSURE(target.host[0] && target.port >= 0 && target.port <= 65535);
		ENSURE(target.db >= 0 && target.db <= 999999);
		ENSURE(target.authenticate == (target.user[0] || target.password[0]));
		redis_target_name(&target, name, sizeof(name));
		ENSURE(strstr(name, target.host));
		put_url(&url, &target);
		ENSURE(redis_target_parse(url.data, &again, error, sizeof(error)) == 0);
		ENSURE(memcmp(&target, &again, sizeof(target)) == 0);
	}
	buf_release(&url);
	return free(text), 0;
}
