/* Real sockets on loopback. */
#include "worker/observe/http.h"

#include "common/buf.h"
#include "common/clock.h"
#include "common/thread.h"
#include "worker/observe/health.h"
#include "worker/observe/lag.h"
#include "worker/observe/metrics.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ANSWER_TIMEOUT_MS = 15000,
	PROBE_TIMEOUT_MS = 1000, /* as kubelet has it */
	GRACE_MS = 3000,
};

/* `receive_bytes`: what the kernel takes for a client that does not read; 0: its default. */
static int dial_with(int receive_bytes)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_port())};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	if (receive_bytes)
		ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes)), 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int dial(void)
{
	return dial_with(0);
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static bool readable_within(int fd, int timeout_ms)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms) == 1;
}

/* Reads to the end of the stream. Returns: whether it ended in order; false: reset. */
static bool hear(int fd, struct buf *answer)
{
	for (;;) {
		ck_assert_msg(readable_within(fd, ANSWER_TIMEOUT_MS), "no answer and no end of the connection");
		ssize_t n = read(fd, buf_reserve(answer, 4096), 4096);
		if (n <= 0) {
			buf_puts(answer, "");
			return n == 0;
		}
		answer->len += (size_t)n;
		answer->data[answer->len] = '\0';
	}
}

static struct buf ask(const char *request)
{
	struct buf answer = BUF_INIT;
	int fd = dial();

	say(fd, request);
	ck_assert(hear(fd, &answer));
	close(fd);
	return answer;
}

static int status_of(const struct buf *answer)
{
	int status = 0;
	return answer->len > 0 && sscanf(answer->data, "HTTP/1.1 %d ", &status) == 1 ? status : -1;
}

static const char *body_of(const struct buf *answer)
{
	const char *body = strstr(answer->data, "\r\n\r\n");
	ck_assert_ptr_nonnull(body);
	return body + 4;
}

static long length_of(const struct buf *answer)
{
	const char *header = strstr(answer->data, "\r\nContent-Length: ");
	return header ? strtol(header + strlen("\r\nContent-Length: "), NULL, 10) : -1;
}

static void begin(void)
{
	char error[256] = "";
	ck_assert_msg(http_start("127.0.0.1:0", "group-1", error, sizeof(error)) == 0, "%s", error);
	ck_assert_int_gt(http_port(), 0);
}

static int open_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;
	ck_assert_ptr_nonnull(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static const struct {
	const char *request;
	int status;
	const char *contains; /* in head or body */
} request_rows[] = {
	{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\n# TYPE delivery_worker_records_consumed_total counter\n"},
	{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "Content-Type: text/plain; version=0.0.4"},
	{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "_paused{topic=\"t\",partition=\"0\",group=\"group-1\"} 0\n"},
	{"GET /metrics?x=y HTTP/1.1\r\nHost: x\r\n\r\n", 200, "records_consumed_total 0\n"},
	{"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, "\r\n\r\nok\n"},
	{"GET /livez HTTP/1.0\r\n\r\n", -1, "200 OK"}, /* the status line says 1.0 */
	{"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 503, "group: not joined\n"},
	{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/metrics"},
	{"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found"},
	{"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found"},
	{"GET /livez%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found"},
	{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, "Allow: GET, HEAD\r\n"},
	{"PUT /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD\r\n"},
	{"DELETE /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD\r\n"},
	{"OPTIONS /livez HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD\r\n"},
	{"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n", 501, "Connection: close"},
	{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", 413, "Connection: close"},
	{"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", 413, "Connection: close"},
	{"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "Connection: close"},
	{"nonsense and more nonsense\r\n\r\n", 400, "Connection: close"},
	{"GET /livez HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "Connection: close"},
	{"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", 200, "Connection: close"},
};

START_TEST(test_http__request_table)
{
	begin();
	lag_publish("t", 0, &(struct lag_position){.committed = -1, .uncommitted_us = -1, .next = -1, .state = ""});
	struct buf answer = ask(request_rows[_i].request);
	ck_assert_msg(status_of(&answer) == request_rows[_i].status, "%s -> %s", request_rows[_i].request, answer.data);
	ck_assert_msg(strstr(answer.data, request_rows[_i].contains) != NULL, "%s -> %s", request_rows[_i].request,
		      answer.data);
	buf_release(&answer);
	http_stop();
}
END_TEST

START_TEST(test_http__head_is_get_without_the_body)
{
	begin();
	struct buf get = ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
	struct buf head = ask("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert_int_eq(status_of(&head), 200);
	ck_assert_str_eq(body_of(&head), "");
	ck_assert_str_eq(body_of(&get), "ok\n");
	ck_assert_int_eq(length_of(&get), 3);
	ck_assert_int_eq(length_of(&head), 3);
	buf_release(&get);
	buf_release(&head);
	http_stop();
}
END_TEST

START_TEST(test_http__livez_tells_who_is_wedged)
{
	begin();
	struct heart *h = heart_start("worker-7", 1000000, clock_mono_us() - 2000000);
	struct buf answer = ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert_int_eq(status_of(&answer), 503);
	ck_assert_ptr_nonnull(strstr(answer.data, "worker-7: no progress for"));
	buf_release(&answer);
	heart_beat(h, clock_mono_us());
	answer = ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert_int_eq(status_of(&answer), 200);
	buf_release(&answer);
	heart_stop(h);
	http_stop();
}
END_TEST

START_TEST(test_http__readyz_when_all_is_well)
{
	begin();
	health_set(HEALTH_STARTED, true);
	health_set(HEALTH_SCHEMA_FITS, true);
	health_set(HEALTH_JOINED, true);
	metric_set(METRIC_UP_KAFKA, 1);
	metric_set(METRIC_UP_POSTGRESQL, 1);
	struct buf answer = ask("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert_int_eq(status_of(&answer), 200);
	buf_release(&answer);
	health_set(HEALTH_STOPPING, true);
	answer = ask("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert_int_eq(status_of(&answer), 503);
	ck_assert_str_eq(body_of(&answer), "stopping\n");
	buf_release(&answer);
	http_stop();
}
END_TEST

/* A page that fits no socket buffer arrives whole, to a reader that begins late. */
START_TEST(test_http__a_large_page_arrives_whole)
{
	struct buf answer = BUF_INIT;
	int fd, small = 64 * 1024;

	for (int p = 0; p < 20000; p++)
		lag_publish("a-topic-with-a-rather-long-name", p,
			    &(struct lag_position){.committed = p, .uncommitted_us = 1, .next = p, .state = ""});
	begin();
	fd = dial();
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	say(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert(readable_within(fd, ANSWER_TIMEOUT_MS));
	poll(NULL, 0, 300);
	ck_assert(hear(fd, &answer));
	ck_assert_int_eq(status_of(&answer), 200);
	ck_assert_int_gt(length_of(&answer), 4000000);
	ck_assert_uint_eq(strlen(body_of(&answer)), (size_t)length_of(&answer));
	close(fd);
	buf_release(&answer);
	http_stop();
}
END_TEST

/* Where a head ends is unknown until its blank line: all of these are refused before it comes. */
static const struct {
	const char *begin;
	const char *repeat;
} oversize_rows[] = {
	{"GET /", "aaaaaaaaaaaaaaaa"},                        /* one line without an end */
	{"GET /livez HTTP/1.1\r\nX: ", "aaaaaaaaaaaaaaaa"},   /* one header without an end */
	{"GET /livez HTTP/1.1\r\n", "X-Header: aaaa\r\n"},    /* headers without an end */
};

START_TEST(test_http__oversize_head_is_refused)
{
	struct buf request = BUF_INIT, answer = BUF_INIT;
	int fd;

	begin();
	buf_puts(&request, oversize_rows[_i].begin);
	while (request.len < HTTP_HEAD_BYTES_MAX + 2048)
		buf_puts(&request, oversize_rows[_i].repeat);
	fd = dial();
	say(fd, request.data);
	/* Unread bytes make the kernel send a reset, which may overtake the 400. */
	bool in_order = hear(fd, &answer);
	ck_assert_msg(status_of(&answer) == 400 || !in_order, "%s", answer.data);
	close(fd);
	buf_release(&request);
	buf_release(&answer);
	http_stop();
}
END_TEST

START_TEST(test_http__head_within_the_limit_is_taken)
{
	struct buf request = BUF_INIT;

	begin();
	buf_puts(&request, "GET /livez HTTP/1.1\r\nHost: x\r\n");
	while (request.len < HTTP_HEAD_BYTES_MAX - 256)
		buf_puts(&request, "X-Header: aaaa\r\n");
	buf_puts(&request, "\r\n");
	struct buf answer = ask(request.data);
	ck_assert_int_eq(status_of(&answer), 200);
	buf_release(&request);
	buf_release(&answer);
	http_stop();
}
END_TEST

/* Returns: milliseconds until the other side ended the connection, sending `drip` every 200 ms if there is one. */
static int64_t life_of(int fd, const char *drip)
{
	int64_t begin_ms = clock_mono_ms();
	char answer[512];

	while (clock_mono_ms() - begin_ms < ANSWER_TIMEOUT_MS) {
		if (readable_within(fd, 200) && read(fd, answer, sizeof(answer)) <= 0)
			break;
		if (drip)
			send(fd, drip, strlen(drip), MSG_NOSIGNAL);
	}
	return clock_mono_ms() - begin_ms;
}

START_TEST(test_http__silent_client_is_cut_off)
{
	begin();
	int silent = dial(), half = dial();
	say(half, "GET /livez HT");
	int64_t life_ms = life_of(silent, NULL);
	ck_assert_msg(life_ms > 1000 && life_ms < HTTP_IDLE_S * 1000 + GRACE_MS, "%d ms", (int)life_ms);
	ck_assert_int_lt(life_of(half, NULL), GRACE_MS);
	close(silent);
	close(half);
	http_stop();
}
END_TEST

/* Each byte renews the time-out for idleness, but not the connection's life. */
START_TEST(test_http__dripping_client_is_cut_off)
{
	begin();
	int fd = dial();
	say(fd, "GET /livez HTTP/1.1\r\nX: ");
	int64_t life_ms = life_of(fd, "a");
	ck_assert_msg(life_ms > HTTP_IDLE_S * 1000 && life_ms < HTTP_LIFE_S * 1000 + GRACE_MS, "%d ms", (int)life_ms);
	close(fd);
	http_stop();
}
END_TEST

static void assert_probe_is_answered(int number)
{
	struct buf answer = BUF_INIT;
	int fd = dial();

	say(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert_msg(readable_within(fd, PROBE_TIMEOUT_MS), "probe %d is not answered", number);
	ck_assert(hear(fd, &answer));
	ck_assert_int_eq(status_of(&answer), 200);
	close(fd);
	buf_release(&answer);
}

static bool is_ended(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

/* What each of a crowd says before it falls silent, "" for nothing. */
static const char *const slow_heads[] = {"", "G", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: "};

START_TEST(test_http__a_crowd_of_slow_heads_keeps_no_probe_waiting)
{
	int crowd[2 * HTTP_CONNECTIONS_MAX];

	begin();
	int fds_before = open_fds();
	for (int i = 0; i < 2 * HTTP_CONNECTIONS_MAX; i++) {
		crowd[i] = dial();
		send(crowd[i], slow_heads[_i], strlen(slow_heads[_i]), MSG_NOSIGNAL);
	}
	for (int i = 0; i < 15; i++)
		assert_probe_is_answered(i);
	/* The oldest are gone, and no more than had to be. */
	ck_assert(is_ended(crowd[0]));
	ck_assert(is_ended(crowd[HTTP_CONNECTIONS_MAX]));
	ck_assert(!is_ended(crowd[HTTP_CONNECTIONS_MAX + 3]));
	ck_assert(!is_ended(crowd[2 * HTTP_CONNECTIONS_MAX - 1]));
	ck_assert_int_ge(metric_get(METRIC_HTTP_CUT_HEAD), HTTP_CONNECTIONS_MAX);
	ck_assert_int_le(metric_get(METRIC_HTTP_CUT_HEAD), HTTP_CONNECTIONS_MAX + 3);
	ck_assert_int_eq(metric_get(METRIC_HTTP_CUT_ANSWER), 0);
	for (int i = 0; i < 2 * HTTP_CONNECTIONS_MAX; i++)
		close(crowd[i]);

	/* More than the limit one after another: none of the places was lost. */
	for (int i = 0; i < 3 * HTTP_CONNECTIONS_MAX; i++)
		assert_probe_is_answered(i);
	int64_t deadline_ms = clock_mono_ms() + GRACE_MS;
	while (open_fds() > fds_before && clock_mono_ms() < deadline_ms)
		poll(NULL, 0, 10);
	ck_assert_int_eq(open_fds(), fds_before);
	http_stop();
}
END_TEST

/* Whoever is slower to send its request than the flood is to open as many connections as there are places is one of the
 * slow ones itself, and is closed in order: it asks again, within the time that a probe has. */
static void assert_probe_is_answered_in_time(int number)
{
	int64_t deadline_ms = clock_mono_ms() + PROBE_TIMEOUT_MS;
	bool answered = false;

	while (!answered) {
		struct buf answer = BUF_INIT;
		int fd = dial();
		if (send(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 32, MSG_NOSIGNAL) == 32) {
			(void)hear(fd, &answer);
			answered = status_of(&answer) == 200;
		}
		close(fd);
		buf_release(&answer);
		ck_assert_msg(answered || clock_mono_ms() < deadline_ms, "probe %d is not answered", number);
	}
}

/* Opens half a request after the other until it is told to stop. */
static void *flood(void *argument)
{
	int crowd[3 * HTTP_CONNECTIONS_MAX] = {0};

	for (size_t i = 0; !atomic_load((_Atomic bool *)argument); i++) {
		int *fd = &crowd[i % (3 * HTTP_CONNECTIONS_MAX)];
		if (*fd)
			close(*fd);
		*fd = dial();
		send(*fd, "GET /livez HT", 13, MSG_NOSIGNAL);
	}
	for (size_t i = 0; i < 3 * HTTP_CONNECTIONS_MAX; i++)
		if (crowd[i])
			close(crowd[i]);
	return NULL;
}

START_TEST(test_http__a_flood_of_slow_heads_keeps_no_probe_waiting)
{
	_Atomic bool enough = false;

	begin();
	pthread_t client = thread_start("flood", flood, &enough);
	for (int i = 0; i < 15; i++)
		assert_probe_is_answered_in_time(i);
	while (metric_get(METRIC_HTTP_CUT_HEAD) < HTTP_CONNECTIONS_MAX)
		assert_probe_is_answered_in_time(0);
	atomic_store(&enough, true);
	thread_join(client);
	http_stop();
}
END_TEST

/* A page that the kernel does not take for a client that does not read: accepted sockets have the listener's buffer. */
static void begin_with_much(void)
{
	int small = 4096, listening = 0;
	socklen_t len = sizeof(listening);

	for (int p = 0; p < 500; p++)
		lag_publish("a-topic-with-a-rather-long-name", p,
			    &(struct lag_position){.committed = p, .uncommitted_us = 1, .next = p, .state = ""});
	begin();
	for (int fd = 0; fd < 64 && !listening; fd++)
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening)
			ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	ck_assert(listening);
}

/* Returns: the connection, once its answer has begun; the rest waits for a reader. */
static int ask_for_much(void)
{
	int fd = dial_with(4096);

	say(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert(readable_within(fd, ANSWER_TIMEOUT_MS));
	return fd;
}

START_TEST(test_http__a_crowd_of_slow_readers_keeps_no_probe_waiting)
{
	int crowd[HTTP_CONNECTIONS_MAX];

	begin_with_much();
	for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		crowd[i] = ask_for_much();
	for (int i = 0; i < 15; i++)
		assert_probe_is_answered(i);
	ck_assert_int_ge(metric_get(METRIC_HTTP_CUT_ANSWER), 1);
	ck_assert_int_eq(metric_get(METRIC_HTTP_CUT_HEAD), 0);
	for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++)
		close(crowd[i]);
	http_stop();
}
END_TEST

/* Whoever has asked is not sent away while there are others who have not. */
START_TEST(test_http__a_reader_is_spared_before_slow_heads)
{
	int crowd[2 * HTTP_CONNECTIONS_MAX];
	struct buf answer = BUF_INIT;

	begin_with_much();
	int reader = ask_for_much();
	for (int i = 0; i < 2 * HTTP_CONNECTIONS_MAX; i++)
		crowd[i] = dial();
	assert_probe_is_answered(0);
	ck_assert(hear(reader, &answer));
	ck_assert_int_eq(status_of(&answer), 200);
	ck_assert_uint_eq(strlen(body_of(&answer)), (size_t)length_of(&answer));
	for (int i = 0; i < 2 * HTTP_CONNECTIONS_MAX; i++)
		close(crowd[i]);
	close(reader);
	buf_release(&answer);
	http_stop();
}
END_TEST

START_TEST(test_http__stop_ends_open_connections)
{
	int fds_before = open_fds(), idle, half, busy;
	struct buf answer = BUF_INIT;

	for (int p = 0; p < 20000; p++)
		lag_publish("a-topic-with-a-rather-long-name", p,
			    &(struct lag_position){.committed = p, .uncommitted_us = 1, .next = p, .state = ""});
	begin();
	idle = dial();
	half = dial();
	say(half, "GET /met");
	busy = dial();
	say(busy, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	ck_assert(readable_within(busy, ANSWER_TIMEOUT_MS)); /* the rest of the page waits for us */
	int64_t begin_ms = clock_mono_ms();
	http_stop();
	ck_assert_int_lt(clock_mono_ms() - begin_ms, GRACE_MS);

	hear(idle, &answer);
	hear(half, &answer);
	ck_assert_uint_eq(answer.len, 0);
	hear(busy, &answer);
	close(idle);
	close(half);
	close(busy);
	buf_release(&answer);
	ck_assert_int_eq(open_fds(), fds_before);
	http_stop(); /* does nothing */
}
END_TEST

START_TEST(test_http__starts_again_after_a_stop)
{
	for (int i = 0; i < 3; i++) {
		begin();
		struct buf answer = ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
		ck_assert_int_eq(status_of(&answer), 200);
		buf_release(&answer);
		http_stop();
	}
}
END_TEST

static const struct {
	const char *listen;
	bool good;
	const char *error;
} listen_rows[] = {
	{"127.0.0.1:0", true, NULL},
	{"localhost:0", true, NULL},
	{"0.0.0.0:0", true, NULL},
	{"[::1]:0", true, NULL},
	{"[::]:0", true, NULL},
	{"", false, "host:port"},
	{"127.0.0.1", false, "'127.0.0.1' is not host:port"},
	{"127.0.0.1:", false, "host:port"},
	{":9464", false, "host:port"},
	{"127.0.0.1:65536", false, "0 to 65535"},
	{"127.0.0.1:-1", false, "0 to 65535"},
	{"127.0.0.1:94x", false, "0 to 65535"},
	{"::1:9464", false, "[host]:port"},
	{"[]:9464", false, "host:port"},
	{"[::1:9464", false, "host:port"},
	{"::1]:9464", false, "host:port"},
	{"[127.0.0.1]", false, "host:port"},
	{"192.0.2.1:9464", false, "'192.0.2.1:9464': "}, /* an address that is not ours */
	{"no such host:1", false, "'no such host:1': "},
};

START_TEST(test_http__listen_table)
{
	char error[256] = "";
	enum http_result result = http_start(listen_rows[_i].listen, "g", error, sizeof(error));
	bool started = result == HTTP_STARTED;

	if (listen_rows[_i].good && listen_rows[_i].listen[0] == '[' && !started) {
		fprintf(stderr, "skipped, no IPv6 here: %s\n", error);
		return;
	}
	ck_assert_msg(started == listen_rows[_i].good, "'%s': %s", listen_rows[_i].listen, error);
	if (started)
		ck_assert_int_gt(http_port(), 0);
	else
		ck_assert_msg(strstr(error, listen_rows[_i].error) != NULL, "'%s': %s", listen_rows[_i].listen, error);
	ck_assert_int_eq(result, started ? HTTP_STARTED : HTTP_UNBOUND);
	http_stop();
}
END_TEST

START_TEST(test_http__a_taken_port_is_an_error)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char listen_on[32], error[256] = "";

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(listen_on, sizeof(listen_on), "127.0.0.1:%d", ntohs(address.sin_port));
	ck_assert_int_eq(http_start(listen_on, "g", error, sizeof(error)), HTTP_TAKEN);
	ck_assert_msg(strstr(error, strerror(EADDRINUSE)) != NULL, "%s", error);
	close(fd);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("http");
	TCase *tc = tcase_create("http");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_http__request_table, 0, ROWS(request_rows));
	tcase_add_test(tc, test_http__head_is_get_without_the_body);
	tcase_add_test(tc, test_http__livez_tells_who_is_wedged);
	tcase_add_test(tc, test_http__readyz_when_all_is_well);
	tcase_add_test(tc, test_http__a_large_page_arrives_whole);
	tcase_add_loop_test(tc, test_http__oversize_head_is_refused, 0, ROWS(oversize_rows));
	tcase_add_test(tc, test_http__head_within_the_limit_is_taken);
	tcase_add_test(tc, test_http__silent_client_is_cut_off);
	tcase_add_test(tc, test_http__dripping_client_is_cut_off);
	tcase_add_loop_test(tc, test_http__a_crowd_of_slow_heads_keeps_no_probe_waiting, 0, ROWS(slow_heads));
	tcase_add_test(tc, test_http__a_flood_of_slow_heads_keeps_no_probe_waiting);
	tcase_add_test(tc, test_http__a_crowd_of_slow_readers_keeps_no_probe_waiting);
	tcase_add_test(tc, test_http__a_reader_is_spared_before_slow_heads);
	tcase_add_test(tc, test_http__stop_ends_open_connections);
	tcase_add_test(tc, test_http__starts_again_after_a_stop);
	tcase_add_loop_test(tc, test_http__listen_table, 0, ROWS(listen_rows));
	tcase_add_test(tc, test_http__a_taken_port_is_an_error);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
