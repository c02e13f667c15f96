#include "tests/lib/private_postgres.h"

#include "common/clock.h"
#include "worker/ledger/pg.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_LIMIT_MS = 60000 };

static bool complain(const char *what, const char *which)
{
	fprintf(stderr, "private PostgreSQL: %s %s\n", what, which);
	return false;
}

/* In one of PATH's folders; a link leads to the folder of all of PostgreSQL's programs. */
static bool find_along_path(char *initdb)
{
	char candidate[PATH_MAX];
	const char *folder = getenv("PATH");
	for (; folder; folder = strchr(folder, ':') ? strchr(folder, ':') + 1 : NULL) {
		int len = snprintf(candidate, sizeof(candidate), "%.*s/initdb", (int)strcspn(folder, ":"), folder);
		if (len < (int)sizeof(candidate) && access(candidate, X_OK) == 0)
			return realpath(candidate, initdb) != NULL;
	}
	return false;
}

/* Debian's newest version, which stands in nobody's PATH, else where PATH leads. */
static bool find_binaries(struct private_postgres *s)
{
	char initdb[PATH_MAX] = "";
	glob_t found;
	if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			if (strverscmp(found.gl_pathv[i], initdb) > 0)
				snprintf(initdb, sizeof(initdb), "%s", found.gl_pathv[i]);
		}
		globfree(&found);
	} else if (!find_along_path(initdb)) {
		return complain("no initdb under /usr/lib/postgresql or in", "PATH");
	}
	*strrchr(initdb, '/') = '\0';
	return snprintf(s->binaries, sizeof(s->binaries), "%s", initdb) < (int)sizeof(s->binaries) ||
	       complain("too long a path:", initdb);
}

/* In the child: becomes user postgres where we are root, writes to the folder's log, dies with its parent. */
static void become_server(const struct private_postgres *s, pid_t parent)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
	char log[96];
	snprintf(log, sizeof(log), "%s/log", s->folder);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(127);
	if (user && (setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
		_exit(127);
	/* Cleared by setuid, so set after it; the parent may be gone by then. */
	if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || getppid() != parent || chdir(s->folder) != 0)
		_exit(127);
}

/*
 * argv[0]: the program's name, which its path takes the place of. PostgreSQL's programs look for each other beside
 * argv[0], and for an argv[0] without a slash along PATH.
 */
static pid_t spawn(const struct private_postgres *s, char **argv)
{
	char path[sizeof(s->binaries) + 16];
	snprintf(path, sizeof(path), "%s/%s", s->binaries, argv[0]);
	argv[0] = path;
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	become_server(s, parent);
	execv(path, argv);
	_exit(127);
}

static bool make_cluster(struct private_postgres *s)
{
	snprintf(s->folder, sizeof(s->folder), "/tmp/dw-test-pg-XXXXXX");
	if (!mkdtemp(s->folder))
		return complain("no folder", s->folder);
	const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
	if (user && chown(s->folder, user->pw_uid, user->pw_gid) != 0)
		return complain("can't hand over", s->folder);
	pid_t pid = spawn(s, (char *[]){"initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
	                                "--locale=C", "--no-sync", NULL});
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return complain("initdb failed, see the log in", s->folder);

	char path[96];
	snprintf(path, sizeof(path), "%s/data/pg_hba.conf", s->folder);
	FILE *hba = fopen(path, "w");
	if (!hba)
		return complain("can't write", path);
	fputs("local refused all reject\nlocal all locked scram-sha-256\nlocal all all trust\n", hba);
	return fclose(hba) == 0;
}

bool private_postgres_launch(struct private_postgres *s)
{
	/* fsync: the tests crash servers, never the machine. */
	s->pid = spawn(s, (char *[]){"postgres", "-D", "data", "-k", s->folder, "-c", "listen_addresses=", "-c",
	                             "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=40", NULL});
	const struct pg_settings settings = {.dsn = s->dsn, .schema = "public", .connect_timeout_ms = 5000,
	                                     .statement_timeout_ms = 5000, .idle_timeout_ms = 5000};
	char error[256] = "it did not start";
	int64_t deadline_us = clock_mono_us() + START_LIMIT_MS * INT64_C(1000);
	while (s->pid > 0 && clock_mono_us() < deadline_us && waitpid(s->pid, NULL, WNOHANG) == 0) {
		struct pg *pg = NULL;
		if (pg_connect(&settings, &pg, error, sizeof(error)) == PG_OK) {
			pg_close(pg);
			return true;
		}
		poll(NULL, 0, 20);
	}
	return complain(error, s->folder);
}

bool private_postgres_start(struct private_postgres *s)
{
	*s = (struct private_postgres){0};
	if (!find_binaries(s) || !make_cluster(s))
		return false;
	snprintf(s->dsn, sizeof(s->dsn), "host=%s user=postgres dbname=postgres", s->folder);
	return private_postgres_launch(s);
}

void private_postgres_crash(struct private_postgres *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGQUIT);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
}

static int remove_entry(const char *path, const struct stat *unused, int flag, struct FTW *place)
{
	(void)unused, (void)flag, (void)place;
	return remove(path);
}

void private_postgres_stop(struct private_postgres *s)
{
	private_postgres_crash(s);
	if (s->folder[0])
		nftw(s->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
