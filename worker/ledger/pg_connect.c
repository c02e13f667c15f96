/*
 * How a connection comes about: its parameters, and what a failure means. What it is set to is pg_session.c's.
 */
#include "worker/ledger/pg_internal.h"

#include "common/host.h"
#include "common/secret_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	KEYWORDS_MAX = 80, /* libpq 15 knows 41, 17 knows 51 */
	DSN_BYTES_MAX = 4096, /* as the option's */
};

struct connect_params {
	const char *names[KEYWORDS_MAX + 1];
	const char *values[KEYWORDS_MAX + 1];
	int count;
};

static void param_add(struct connect_params *p, const char *name, const char *value)
{
	ENSURE(p->count < KEYWORDS_MAX);
	p->names[p->count] = name;
	p->values[p->count++] = value;
	p->names[p->count] = p->values[p->count] = NULL;
}

/* Adds our default unless the operator chose a value, in the connection string or libpq's environment. */
static void param_default(struct connect_params *p, const PQconninfoOption *given, const char *name, const char *value)
{
	for (const PQconninfoOption *o = given; o->keyword; o++) {
		if (strcmp(o->keyword, name) != 0)
			continue;
		const char *environment = o->envvar ? getenv(o->envvar) : NULL;
		if (!o->val && !environment)
			param_add(p, name, value);
		return;
	}
	/* A keyword that this libpq does not know (tcp_user_timeout before 12) is left out. */
}

/* What counts for a keyword: the connection string, then libpq's environment; NULL: neither. */
static const char *value_of(const PQconninfoOption *given, const char *name)
{
	for (const PQconninfoOption *o = given; o->keyword; o++) {
		if (strcmp(o->keyword, name) == 0)
			return o->val || !o->envvar ? o->val : getenv(o->envvar);
	}
	return NULL;
}

/* Whether a host of the list is another machine. What a service file says is not known here. */
static bool leaves_machine(const PQconninfoOption *given)
{
	const char *hosts = value_of(given, "hostaddr");
	if (!hosts || !hosts[0])
		hosts = value_of(given, "host");
	while (hosts && hosts[0]) {
		size_t len = strcspn(hosts, ",");
		if (len > 0 && !host_is_local((struct slice){hosts, len}))
			return true;
		hosts += len + (hosts[len] == ',');
	}
	return false;
}

bool pg_tls_warning(const char *dsn, char *text, size_t size)
{
	PQconninfoOption *given = PQconninfoParse(dsn, NULL);
	const char *mode = given ? value_of(given, "sslmode") : NULL;
	bool weak = given && leaves_machine(given) && (!mode || strncmp(mode, "verify-", 7) != 0);
	if (weak && mode && strcmp(mode, "require") != 0)
		snprintf(text, size, "pg.dsn has sslmode=%s: passwords and events may go to another machine in clear", mode);
	else if (weak)
		snprintf(text, size, "pg.dsn has %ssslmode=require: encrypted, but whoever answers is believed; verify-full"
		         " with sslrootcert compares", mode ? "" : "no sslmode, which beyond this machine means ");
	PQconninfoFree(given);
	return weak;
}

/* An unescaped '@', '/' or ':' in a URI's password makes its rest a host or a port, which error texts then show. */
static const char *misread_password(const PQconninfoOption *given)
{
	for (const PQconninfoOption *o = given; o->keyword; o++) {
		if (!o->val)
			continue;
		if (strcmp(o->keyword, "host") == 0 && strchr(o->val, '@') && o->val[0] != '@')
			return "the host has an '@'";
		if (strcmp(o->keyword, "port") == 0 && o->val[strspn(o->val, "0123456789,")] != '\0')
			return "the port is not a number";
	}
	return NULL;
}

/* Returns: PG_OK and the parsed string, for PQconninfoFree; or `error` filled, without any piece of the string. */
static enum pg_result parse_dsn(const char *dsn, PQconninfoOption **out, char *error, size_t error_size)
{
	char *why = NULL;
	PQconninfoOption *given = PQconninfoParse(dsn, &why);
	if (!given) {
		/* Also libpq's answer to a failed allocation, which says nothing about the string. */
		bool memory = !why || strstr(why, "out of memory");
		PQfreemem(why);
		if (memory) {
			snprintf(error, error_size, "out of memory");
			return PG_RETRY;
		}
		snprintf(error, error_size, "pg.dsn is neither a postgresql:// URI nor a list of libpq's keyword=value "
		         "(it is not shown: it may hold a password)");
		return PG_UNUSABLE;
	}
	const char *misread = misread_password(given);
	if (misread) {
		snprintf(error, error_size, "pg.dsn: %s; special characters of a password are percent-encoded in a URI", misread);
		PQconninfoFree(given);
		return PG_UNUSABLE;
	}
	*out = given;
	return PG_OK;
}

/* As parse_dsn, of what stands in the file now: a password may have been rotated. */
static enum pg_result read_dsn(const struct pg_settings *s, PQconninfoOption **out, char *error, size_t error_size)
{
	if (!s->dsn_file)
		return parse_dsn(s->dsn ? s->dsn : "", out, error, error_size);
	struct buf fresh = BUF_INIT;
	enum pg_result result = PG_RETRY; /* a file that is being replaced */
	int reason = secret_file_read(s->dsn_file, DSN_BYTES_MAX, &fresh);
	if (reason)
		snprintf(error, error_size, "pg.dsn: \"%s\" cannot be read: %s", s->dsn_file, strerror(reason));
	else
		result = parse_dsn(buf_slice(&fresh).data, out, error, error_size);
	secret_release(&fresh);
	return result;
}

int pg_check_dsn(const char *dsn, char *error, size_t error_size)
{
	PQconninfoOption *given = NULL;
	if (parse_dsn(dsn, &given, error, error_size) != PG_OK)
		return -1;
	PQconninfoFree(given);
	return 0;
}

static void ignore_notice(void *unused, const PGresult *notice)
{
	(void)unused, (void)notice;
}

static PGconn *connect_with(const PQconninfoOption *given, const struct pg_settings *s)
{
	char timeout_s[16];
	snprintf(timeout_s, sizeof(timeout_s), "%d", (s->connect_timeout_ms + 999) / 1000);
	struct connect_params p = {0};
	for (const PQconninfoOption *o = given; o->keyword; o++) {
		if (o->val && strcmp(o->keyword, "client_encoding") != 0)
			param_add(&p, o->keyword, o->val);
	}
	param_add(&p, "client_encoding", "UTF8");
	param_default(&p, given, "connect_timeout", timeout_s);
	param_default(&p, given, "target_session_attrs", "read-write");
	param_default(&p, given, "fallback_application_name", "delivery-worker");
	/* Else each attempt looks for Kerberos tickets first: files, locks and 0.5 MB. Kerberos can still authenticate. */
	param_default(&p, given, "gssencmode", "disable");
	/* libpq's own default is `prefer`: in clear, to whoever says that it has no TLS. */
	if (leaves_machine(given) && !value_of(given, "service"))
		param_default(&p, given, "sslmode", "require");
	param_default(&p, given, "tcp_user_timeout", PG_PEER_LOST_MS);
	param_default(&p, given, "keepalives_idle", PG_KEEPALIVE_IDLE_S);
	param_default(&p, given, "keepalives_interval", PG_KEEPALIVE_INTERVAL_S);
	param_default(&p, given, "keepalives_count", PG_KEEPALIVE_COUNT);
	PGconn *connection = PQconnectdbParams(p.names, p.values, 0);
	ENSURE(connection);
	return connection;
}

/* One line, and what libpq's words mean where they name no cause. */
static void explain_failure(const char *text, char *error, size_t error_size)
{
	static const char *const meanings[][2] = {
		{"expected authentication request from server", "what answers there is no PostgreSQL: is it the port?"},
		{"invalid response to SSL negotiation", "what answers there is no PostgreSQL: is it the port?"},
		{"SSL was required", "beyond this machine pg.dsn without sslmode means require; sslmode=disable sends in clear"},
	};
	pg_one_line(error, error_size, text);
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		size_t len = strlen(error);
		if (strstr(text, meanings[i][0]))
			snprintf(error + len, error_size - len, " (%s)", meanings[i][1]);
	}
}

enum pg_result pg_open(const struct pg_settings *s, struct pg **out, char *error, size_t error_size)
{
	PQconninfoOption *given = NULL;
	enum pg_result result = read_dsn(s, &given, error, error_size);
	if (result != PG_OK)
		return result;
	struct pg *pg = calloc(1, sizeof(*pg));
	ENSURE(pg);
	pg->settings = *s;
	pg->connection = connect_with(given, s);
	PQconninfoFree(given);

	if (PQstatus(pg->connection) != CONNECTION_OK) {
		result = pg_result_of_connect_error(PQerrorMessage(pg->connection));
		goto failed;
	}
	/* Before the session's settings there is no statement_timeout. */
	pg->wait_ms = s->statement_timeout_ms + PG_ANSWER_GRACE_MS;
	PQsetNoticeReceiver(pg->connection, ignore_notice, NULL);
	if (PQsetnonblocking(pg->connection, 1) == 0) {
		*out = pg;
		return PG_OK;
	}
	result = PG_RETRY;
failed:
	explain_failure(PQerrorMessage(pg->connection), error, error_size);
	pg_close(pg);
	return result;
}

enum pg_result pg_connect(const struct pg_settings *s, struct pg **out, char *error, size_t error_size)
{
	struct pg *pg = NULL;
	enum pg_result result = pg_open(s, &pg, error, error_size);
	if (result != PG_OK)
		return result;
	result = pg_begin_session(pg);
	if (result != PG_OK) {
		pg_one_line(error, error_size, pg->error);
		pg_close(pg);
		return result;
	}
	*out = pg;
	return PG_OK;
}

void pg_close(struct pg *pg)
{
	if (!pg)
		return;
	PQfinish(pg->connection);
	free(pg);
}

/*
 * libpq 15 tells no SQLSTATE for a failed attempt, and servers translate their messages. So only what is
 * surely a matter for an operator is called that; everything else is tried again.
 */
enum pg_result pg_result_of_connect_error(const char *text)
{
	static const char *const hopeless[] = {
		"password authentication failed", /* 28P01 */
		"no password supplied",           /* libpq's own */
		"does not exist",                 /* 3D000 database, 28000 role, also a certificate file */
		"no pg_hba.conf entry",           /* 28000 */
		"pg_hba.conf rejects connection", /* 28000 */
		"is not permitted to log in",     /* 28000 */
		"permission denied for database", /* 42501 */
		"authentication failed for user", /* 28000: peer, ident, certificate, LDAP */
		"SSL was required",               /* libpq's own, of a server without */
	};
	for (size_t i = 0; i < sizeof(hopeless) / sizeof(hopeless[0]); i++) {
		if (strstr(text, hopeless[i]))
			return PG_UNUSABLE;
	}
	return PG_RETRY;
}

enum pg_result pg_result_of_sqlstate(const char *sqlstate)
{
	/* By prefix; the first that fits. */
	static const struct {
		const char *prefix;
		enum pg_result result;
	} table[] = {
		{"DW001", PG_STALE},    /* our own, raised by expect_rows */
		{"08", PG_RETRY},       /* connection exceptions */
		{"57P0", PG_RETRY},     /* shutdown, crash, starting up, database dropped, idle session timeout */
		{"57014", PG_RETRY},    /* statement_timeout, or an operator's cancel */
		{"40001", PG_RETRY},    /* serialization */
		{"40P01", PG_RETRY},    /* deadlock */
		{"55P03", PG_RETRY},    /* lock_timeout */
		{"55000", PG_RETRY},    /* of all statements of ours: WAL position asked of a server in recovery */
		{"53", PG_RETRY},       /* disk full, out of memory, too many connections */
		{"25006", PG_RETRY},    /* read-only: a standby, or a primary being switched over */
		{"25P0", PG_RETRY},     /* transaction in error, none, idle too long */
		{"58", PG_RETRY},       /* I/O error of the server */
		{"XX", PG_RETRY},       /* internal error, corrupted data or index */
		{"22", PG_REJECTED},    /* data exceptions */
		{"23", PG_REJECTED},    /* integrity constraints */
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strncmp(sqlstate, table[i].prefix, strlen(table[i].prefix)) == 0)
			return table[i].result;
	}
	return PG_UNUSABLE;
}

void pg_one_line(char *out, size_t size, const char *text)
{
	size_t used = 0;
	for (; *text && used + 1 < size; text++) {
		unsigned char c = (unsigned char)*text;
		bool blank = iscntrl(c) || isspace(c);
		if (!blank)
			out[used++] = (char)c;
		else if (used > 0 && out[used - 1] != ' ')
			out[used++] = ' ';
	}
	while (used > 0 && out[used - 1] == ' ')
		used--;
	out[used] = '\0';
}
