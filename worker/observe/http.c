#include "worker/observe/http.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/thread.h"
#include "worker/observe/health.h"
#include "worker/observe/lag.h"
#include "worker/observe/metrics.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	GROUP_SIZE = 256, /* options: kafka.group, 255 */
	HOST_SIZE = 256,
	INPUT_BYTES_MAX = 2 * HTTP_HEAD_BYTES_MAX, /* what a connection may have unread, above the head's limit */
	/* One that was cut keeps its place until evhttp has seen the end of the stream, in a turn or two of the loop. */
	PLACES = 2 * HTTP_CONNECTIONS_MAX,
	BACKLOG = 256, /* in the kernel, while nobody may be cut */
	SWEEP_MS = 100,
	ACCEPT_RETRY_MS = 1000,
	METHODS_ALL = EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
		      EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH,
};

/*
 * evhttp has neither a limit of connections nor a word when one is gone, so each is made here and
 * watched by a reference of our own. evhttp drops its callbacks when it lets go of a connection; the
 * sweep sees that, and the last reference closes the socket.
 */
struct connection {
	struct bufferevent *stream; /* NULL: free */
	int64_t opened_us;
	bool answering; /* its request has come whole */
	bool cut;       /* shut down by us */
};

static struct {
	bool running;
	pthread_t thread;
	int wake; /* eventfd: written by http_stop */
	uint16_t port;
	char group[GROUP_SIZE];
	/* Below: the thread's alone while it runs. */
	struct event_base *base;
	struct evhttp *http;
	struct evconnlistener *listener; /* owned by `http` once bound to it */
	struct event *wake_event, *sweep_event, *retry_event;
	struct connection connections[PLACES];
	int place_count; /* connections with a stream */
	int open_count;  /* of them, those that are not cut: HTTP_CONNECTIONS_MAX at most */
	struct buf body;
} self;

/* ---- pages ---- */

static int page_metrics(struct buf *body)
{
	metrics_expose(body);
	lag_expose(body, self.group);
	return HTTP_OK;
}

static int page_livez(struct buf *body)
{
	if (!health_live(clock_mono_us(), body))
		return HTTP_SERVUNAVAIL;
	buf_puts(body, "ok\n");
	return HTTP_OK;
}

static int page_readyz(struct buf *body)
{
	if (!health_ready(body))
		return HTTP_SERVUNAVAIL;
	buf_puts(body, "ok\n");
	return HTTP_OK;
}

static const struct page {
	const char *path;
	int (*make)(struct buf *body); /* Returns: the status */
	const char *content_type;
} pages[] = {
	{"/metrics", page_metrics, "text/plain; version=0.0.4; charset=utf-8"},
	{"/livez", page_livez, "text/plain; charset=utf-8"},
	{"/readyz", page_readyz, "text/plain; charset=utf-8"},
};

static const struct page *find_page(const char *path)
{
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (path && strcmp(path, pages[i].path) == 0)
			return &pages[i];
	return NULL;
}

/* Fills self.body. Returns: the status. */
static int answer(struct evhttp_request *request, bool read_only)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	const char *content_type = "text/plain; charset=utf-8";
	int status = HTTP_NOTFOUND;

	buf_clear(&self.body);
	if (!read_only) {
		evhttp_add_header(headers, "Allow", "GET, HEAD");
		buf_puts(&self.body, "method not allowed\n");
		status = HTTP_BADMETHOD;
	} else {
		const struct page *page = find_page(evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request)));
		if (page) {
			status = page->make(&self.body);
			content_type = page->content_type;
		} else {
			buf_puts(&self.body, "not found: there are /metrics, /livez, /readyz\n");
		}
	}
	evhttp_add_header(headers, "Content-Type", content_type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "Connection", "close");
	return status;
}

static void note_answering(struct evhttp_request *request)
{
	const struct bufferevent *stream = evhttp_connection_get_bufferevent(evhttp_request_get_connection(request));

	for (struct connection *c = self.connections; c < self.connections + PLACES; c++)
		if (c->stream == stream)
			c->answering = true;
}

static void on_request(struct evhttp_request *request, void *argument)
{
	enum evhttp_cmd_type method = evhttp_request_get_command(request);
	bool head = method == EVHTTP_REQ_HEAD;
	struct evbuffer *out = evbuffer_new();
	char length[24];
	(void)argument;

	ENSURE(out != NULL);
	note_answering(request);
	int status = answer(request, head || method == EVHTTP_REQ_GET);
	/* evhttp leaves the length out of answers to HEAD, where it has to be that of GET's. */
	snprintf(length, sizeof(length), "%zu", self.body.len);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Length", length);
	if (!head)
		ENSURE(evbuffer_add(out, self.body.data, self.body.len) == 0);
	evhttp_send_reply(request, status, NULL, out);
	evbuffer_free(out);
}

/* ---- connections ---- */

static const struct timeval sweep_interval = {.tv_usec = SWEEP_MS * 1000};

static bool is_let_go(struct bufferevent *stream)
{
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;

	bufferevent_getcb(stream, &on_read, &on_write, &on_event, NULL);
	return !on_read && !on_write && !on_event;
}

/* evhttp finds the end of the stream and lets go; a later sweep takes it. */
static void cut(struct connection *c)
{
	shutdown(bufferevent_getfd(c->stream), SHUT_RDWR);
	c->cut = true;
	self.open_count--;
}

static void sweep(void)
{
	int64_t oldest_us = clock_mono_us() - (int64_t)HTTP_LIFE_S * 1000000;

	for (struct connection *c = self.connections; c < self.connections + PLACES; c++) {
		if (!c->stream)
			continue;
		if (is_let_go(c->stream)) {
			bufferevent_decref(c->stream);
			self.open_count -= !c->cut;
			self.place_count--;
			*c = (struct connection){0};
		} else if (!c->cut && c->opened_us < oldest_us) {
			cut(c);
		}
	}
}

/* Bytes have come that evhttp has not looked at: they may make the head whole. */
static bool has_unread(const struct connection *c)
{
	int unread = 0;
	return ioctl(bufferevent_getfd(c->stream), FIONREAD, &unread) == 0 && unread > 0;
}

/* Returns: the oldest whose request is not whole, with nothing to be read that might make it so; else the oldest that
 * does not take its answer; NULL: all have just come, and a turn of the loop tells. */
static struct connection *find_victim(void)
{
	struct connection *victim = NULL;

	for (struct connection *c = self.connections; c < self.connections + PLACES; c++) {
		if (!c->stream || c->cut || (!c->answering && has_unread(c)))
			continue;
		if (!victim || c->answering < victim->answering ||
		    (c->answering == victim->answering && c->opened_us < victim->opened_us))
			victim = c;
	}
	return victim;
}

/* Probes are answered whatever other clients do: of the places one is kept free for whoever comes next. */
static void keep_room(void)
{
	if (self.open_count + 1 < HTTP_CONNECTIONS_MAX)
		return;
	sweep();
	struct connection *victim = self.open_count + 1 < HTTP_CONNECTIONS_MAX ? NULL : find_victim();
	if (!victim)
		return;
	metric_add(victim->answering ? METRIC_HTTP_CUT_ANSWER : METRIC_HTTP_CUT_HEAD, 1);
	LOG(LOG_WARN, "http connections at their limit: the slowest is closed", LOG_I("limit", HTTP_CONNECTIONS_MAX),
	    LOG_S("waiting_for", victim->answering ? "its reader" : "its request"));
	cut(victim);
}

static bool has_room(void)
{
	return self.open_count < HTTP_CONNECTIONS_MAX && self.place_count < PLACES;
}

static void on_sweep(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	(void)argument;

	sweep();
	keep_room();
	if (self.place_count > 0)
		evtimer_add(self.sweep_event, &sweep_interval);
	if (has_room())
		evconnlistener_enable(self.listener);
}

/* evhttp asks for the stream of each connection that it accepted. */
static struct bufferevent *on_accepted(struct event_base *base, void *argument)
{
	struct bufferevent *stream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct connection *c = self.connections;
	(void)argument;

	ENSURE(stream != NULL && has_room());
	/* Before the new one takes its place, which has no callbacks yet, as if evhttp had let it go. */
	keep_room();
	while (c->stream)
		c++;
	bufferevent_incref(stream);
	bufferevent_setwatermark(stream, EV_READ, 0, INPUT_BYTES_MAX);
	if (self.place_count++ == 0)
		evtimer_add(self.sweep_event, &sweep_interval);
	self.open_count++;
	*c = (struct connection){.stream = stream, .opened_us = clock_mono_us()};
	if (!has_room())
		evconnlistener_disable(self.listener); /* until the next sweep */
	return stream;
}

/* Out of file descriptors, mostly. The listener would report it again at once, and for ever. */
static void on_accept_error(struct evconnlistener *listener, void *argument)
{
	const struct timeval later = {.tv_sec = ACCEPT_RETRY_MS / 1000};
	int error = EVUTIL_SOCKET_ERROR();
	(void)argument;

	LOG(LOG_ERROR, "http accept failed", LOG_S("error", evutil_socket_error_to_string(error)));
	evconnlistener_disable(listener);
	evtimer_add(self.retry_event, &later);
}

static void on_retry(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	(void)argument;
	if (has_room())
		evconnlistener_enable(self.listener);
}

static void on_wake(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	(void)argument;
	event_base_loopbreak(self.base);
}

/* ---- start and stop ---- */

/* Sets self.listener. Returns: as http_start. */
static enum http_result bind_listener(const char *listen, char *error, size_t error_size)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
	struct addrinfo *found = NULL;
	struct slice host;
	uint16_t port;
	char host_text[HOST_SIZE], port_text[8];

	if (!parse_host_port(slice_of(listen), &host, &port) || host.len >= sizeof(host_text)) {
		snprintf(error, error_size, "http.listen: '%s' is not host:port or [host]:port, port 0 to 65535",
			 listen);
		return HTTP_UNBOUND;
	}
	snprintf(host_text, sizeof(host_text), "%.*s", (int)host.len, host.data);
	snprintf(port_text, sizeof(port_text), "%" PRIu16, port);
	int result = getaddrinfo(host_text, port_text, &hints, &found);
	if (result != 0) {
		snprintf(error, error_size, "http.listen: '%s': %s", listen, gai_strerror(result));
		return HTTP_UNBOUND;
	}
	errno = 0;
	for (const struct addrinfo *a = found; a && !self.listener; a = a->ai_next)
		self.listener = evconnlistener_new_bind(self.base, NULL, NULL, flags, BACKLOG, a->ai_addr,
							(int)a->ai_addrlen);
	int bind_errno = errno;
	freeaddrinfo(found);
	if (!self.listener) {
		snprintf(error, error_size, "http.listen: '%s': %s", listen,
			 evutil_socket_error_to_string(bind_errno));
		return bind_errno == EADDRINUSE ? HTTP_TAKEN : HTTP_UNBOUND;
	}
	return HTTP_STARTED;
}

static uint16_t bound_port(void)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	ENSURE(getsockname(evconnlistener_get_fd(self.listener), (struct sockaddr *)&address, &len) == 0);
	return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
						   : ((struct sockaddr_in *)&address)->sin_port);
}

static void *http_main(void *argument)
{
	(void)argument;
	ENSURE(event_base_loop(self.base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0);
	return NULL;
}

static void on_libevent_log(int severity, const char *message)
{
	if (severity >= EVENT_LOG_WARN)
		LOG(LOG_WARN, "http: libevent", LOG_S("error", message));
}

static void build_server(void)
{
	self.http = evhttp_new(self.base);
	self.wake_event = event_new(self.base, self.wake, EV_READ, on_wake, NULL);
	self.sweep_event = evtimer_new(self.base, on_sweep, NULL);
	self.retry_event = evtimer_new(self.base, on_retry, NULL);
	ENSURE(self.http && self.wake_event && self.sweep_event && self.retry_event);
	ENSURE(event_add(self.wake_event, NULL) == 0);
	evhttp_set_max_headers_size(self.http, HTTP_HEAD_BYTES_MAX);
	evhttp_set_max_body_size(self.http, 0);
	evhttp_set_timeout(self.http, HTTP_IDLE_S);
	/* All, so that those that are not ours get 405 and not evhttp's 501. */
	evhttp_set_allowed_methods(self.http, METHODS_ALL);
	evhttp_set_bevcb(self.http, on_accepted, NULL);
	evhttp_set_gencb(self.http, on_request, NULL);
	ENSURE(evhttp_bind_listener(self.http, self.listener) != NULL);
	evconnlistener_set_error_cb(self.listener, on_accept_error);
}

enum http_result http_start(const char *listen, const char *group, char *error, size_t error_size)
{
	ENSURE(!self.running && strlen(group) < sizeof(self.group));
	event_set_log_callback(on_libevent_log);
	self.base = event_base_new();
	ENSURE(self.base != NULL);
	self.listener = NULL;
	enum http_result result = bind_listener(listen, error, error_size);
	if (result != HTTP_STARTED) {
		event_base_free(self.base);
		return result;
	}
	memcpy(self.group, group, strlen(group) + 1);
	self.port = bound_port();
	self.wake = eventfd(0, EFD_CLOEXEC);
	ENSURE(self.wake >= 0);
	build_server();
	self.running = true;
	self.thread = thread_start("http", http_main, NULL);
	return HTTP_STARTED;
}

uint16_t http_port(void)
{
	return self.port;
}

void http_stop(void)
{
	if (!self.running)
		return;
	ENSURE(eventfd_write(self.wake, 1) == 0);
	thread_join(self.thread);

	evhttp_free(self.http); /* the listener and evhttp's side of the connections, too */
	for (int i = 0; i < PLACES; i++)
		if (self.connections[i].stream)
			bufferevent_decref(self.connections[i].stream);
	event_free(self.wake_event);
	event_free(self.sweep_event);
	event_free(self.retry_event);
	event_base_free(self.base);
	close(self.wake);
	buf_release(&self.body);
	memset(self.connections, 0, sizeof(self.connections));
	self.place_count = self.open_count = 0;
	self.running = false;
}
