#include "common/host.h"

#include <arpa/inet.h>

bool host_is_local(struct slice host)
{
	char text[INET6_ADDRSTRLEN];
	struct in_addr v4;
	struct in6_addr v6;
	if (host.len > 0 && (host.data[0] == '/' || host.data[0] == '@'))
		return true;
	if (slice_equal(host, SLICE_LITERAL("localhost")))
		return true;
	if (host.len == 0 || host.len >= sizeof(text))
		return false;
	memcpy(text, host.data, host.len);
	text[host.len] = '\0';
	if (inet_pton(AF_INET, text, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
