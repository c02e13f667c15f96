#include "worker/config/link_variables.h"

#include "worker/config/loader.h"

static bool ends_with(struct slice text, const char *end)
{
	size_t len = strlen(end);
	return text.len > len && memcmp(text.data + text.len - len, end, len) == 0;
}

static bool has_only(const char *text, const char *alphabet)
{
	return *text && text[strspn(text, alphabet)] == '\0';
}

/* tcp://10.96.0.7:80 */
static bool is_target(const char *value)
{
	return strncmp(value, "tcp://", 6) == 0 || strncmp(value, "udp://", 6) == 0 || strncmp(value, "sctp://", 7) == 0;
}

/* Behind "…_PORT_": 80_TCP, 80_TCP_ADDR, and Docker's 80_TCP_PORT_START for a range. */
static bool is_port_part(const char *text, size_t len)
{
	static const char *const ends[] = {
		"_TCP", "_UDP", "_SCTP", "_ADDR", "_PORT", "_PROTO", "_START", "_END", NULL,
	};
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits >= len)
		return false;
	struct slice rest = {text + digits, len - digits};
	for (int part = 0; rest.len > 0; part++) {
		const char *const *end = part == 0 ? ends : ends + 3; /* the protocol comes first */
		while (*end && (rest.len < strlen(*end) || memcmp(rest.data, *end, strlen(*end)) != 0))
			end++;
		if (!*end || (part == 0 && end >= ends + 3))
			return false;
		rest.data += strlen(*end);
		rest.len -= strlen(*end);
	}
	return true;
}

/* The part of the name behind the last `mark`, or NULL. */
static const char *behind(struct slice name, const char *mark)
{
	const char *found = NULL, *end = name.data + name.len;
	size_t len = strlen(mark);

	for (const char *at = name.data; (at = memmem(at, (size_t)(end - at), mark, len)) != NULL; at++)
		found = at + len;
	return found;
}

static bool is_service_variable(struct slice name, const char *value)
{
	const char *port = behind(name, "_SERVICE_PORT_");

	if (ends_with(name, "_SERVICE_HOST"))
		return has_only(value, "0123456789abcdef.:");
	return (ends_with(name, "_SERVICE_PORT") || port) && has_only(value, "0123456789");
}

/* Docker's alone: "/web/dw", the containers at both ends of the link. */
static bool is_link_name(const char *value)
{
	return value[0] == '/' && value[1] != '/' && strchr(value + 1, '/');
}

bool is_link_variable(struct slice name, const char *value, char *const *environment)
{
	if (is_service_variable(name, value) || (ends_with(name, "_PORT") && is_target(value)))
		return true;
	for (const char *part = name.data, *end = name.data + name.len;
	     (part = memmem(part, (size_t)(end - part), "_PORT_", 6)) != NULL; part++)
		if (is_port_part(part + 6, (size_t)(end - part) - 6))
			return true;
	if (ends_with(name, "_NAME"))
		return is_link_name(value);
	/* The linked container's own: any name and any value, so the link itself must be there. */
	const char *env = behind(name, "_ENV_");
	if (!env)
		return false;
	char link[128];
	size_t len = (size_t)(env - name.data) - strlen("ENV_");
	if (len + sizeof("NAME") > sizeof(link))
		return false;
	memcpy(link, name.data, len);
	memcpy(link + len, "NAME", sizeof("NAME"));
	const char *linked = environment_find(environment, slice_of(link));
	return linked && is_link_name(linked);
}
