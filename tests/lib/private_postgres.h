/*
 * A PostgreSQL server for one test executable: a fresh cluster in a temporary folder, reachable through a
 * socket in it. Test sources include private_postgres.c; the archive knows nothing of it.
 *
 *     struct private_postgres server;
 *     if (!private_postgres_start(&server)) return 1; // in main, before check forks
 *     ... server.dsn ...
 *     private_postgres_stop(&server);
 *
 * The server dies with the process that started it. Run as root, it is run as user postgres. Every
 * local user is trusted but `locked`, who needs the password "open sesame", and nobody may enter
 * database `refused`.
 */
#ifndef TESTS_LIB_PRIVATE_POSTGRES_H
#define TESTS_LIB_PRIVATE_POSTGRES_H

#include <stdbool.h>
#include <sys/types.h>

struct private_postgres {
	char folder[64];
	char binaries[128]; /* the folder of initdb and postgres */
	char dsn[160];
	pid_t pid; /* 0: not running */
};

/* Returns: false after saying why on stderr. */
bool private_postgres_start(struct private_postgres *s);
/* Ends the server at once, as a crash would; committed data stays for private_postgres_launch. */
void private_postgres_crash(struct private_postgres *s);
/* Starts the server on the folder again and waits until it answers. */
bool private_postgres_launch(struct private_postgres *s);
/* Ends the server and removes its folder. */
void private_postgres_stop(struct private_postgres *s);

#endif
