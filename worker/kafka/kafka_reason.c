#include "worker/kafka/kafka_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* Beyond any answer of Kafka's, whose requests and batches are bounded far below. */
enum { RESPONSE_BYTES_MAX = 256 * 1024 * 1024 };

/* The first four bytes of an answer, which librdkafka takes for its length. */
static const struct {
	uint32_t begins, mask;
	const char *who;
} servers[] = {
	{0x48545450, 0xffffffff, "an HTTP server"},                                 /* HTTP */
	{0x5353482d, 0xffffffff, "an SSH server"},                                  /* SSH- */
	{0x2d455252, 0xffffffff, "Redis"},                                          /* -ERR */
	{0x2d4e4f41, 0xffffffff, "Redis"},                                          /* -NOAUTH */
	{0x45000000, 0xffff0000, "PostgreSQL"},                                     /* E and a length */
	{0x15030000, 0xffff0000, "a port for TLS (kafka.security.protocol = ssl)"}, /* an alert */
	{0x32323020, 0xffffffff, "a mail or FTP server"},                           /* 220 */
};

/* Whoever answers with the bytes of `size`. */
static void put_server(char *out, size_t out_size, uint32_t size)
{
	char text[5] = "";

	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
		if ((size & servers[i].mask) == servers[i].begins) {
			snprintf(out, out_size, "%s answers there, not Kafka", servers[i].who);
			return;
		}
	}
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)(size >> (24 - 8 * i));
		text[i] = isprint(c) ? (char)c : '?';
	}
	snprintf(out, out_size, "something else than Kafka answers there; it begins with \"%s\"", text);
}

void kafka_reason(const char *said, char *out, size_t size)
{
	static const char sign[] = "Invalid response size ";
	const char *found = strstr(said, sign);
	long long length = found ? strtoll(found + sizeof(sign) - 1, NULL, 10) : 0;

	if (length < RESPONSE_BYTES_MAX && length >= 0) {
		snprintf(out, size, "%s", said);
		return;
	}
	char server[128];
	const char *where_end = strstr(said, ": ");
	int where = where_end && where_end < found ? (int)(where_end - said) : 0;
	put_server(server, sizeof(server), (uint32_t)length);
	snprintf(out, size, "%.*s%s%s", where, said, where ? ": " : "", server);
}
