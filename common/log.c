#include "common/log.h"

#include "common/clock.h"
#include "common/ensure.h"
#include "common/thread.h"
#include "common/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_BYTES_MAX = 4096, /* PIPE_BUF: lines of several processes on one pipe never mix */
	TEXT_BYTES_MAX = 1024, /* of one text field, before escaping */
	TAIL_BYTES = 64,       /* kept free for suppressed=, cut= and the end of the line */
	KEYS_MAX = 512,        /* more than there are LOG lines in the source; a power of 2 */
	PER_SECOND_MAX = 10,
	PER_SECOND_MAX_DEBUG = 1000,
	LAST_WORDS_MS = 1000, /* what a dying process waits for stderr */
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* How often a message passed in the second that began at `since_us`. Messages are constants, so their
 * number is bounded by the source and entries are never taken out. */
struct key {
	const char *message;
	int64_t since_us;
	uint32_t passed;
	uint64_t suppressed;
};

static _Atomic enum log_level threshold = LOG_INFO;
static _Atomic enum log_format output = LOG_LOGFMT;
static _Atomic uint64_t suppressed_total;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards keys, the writer, and one write at a time */
static struct key keys[KEYS_MAX];

/* What log_start has begun. The thread takes from the front of the ring, whole lines as far as they fit a piece. */
static struct {
	bool running;
	bool stopping;
	pthread_t thread;
	pthread_cond_t filled;  /* for the thread: bytes, or the end */
	pthread_cond_t written; /* for log_stop: `idle` */
	char *ring;
	size_t size, from, len;
	uint64_t dropped;  /* since the last line that said so */
	_Atomic bool idle; /* nothing in the ring, nothing in the thread's hands */
	_Atomic uint64_t dropped_total;
} writer;

struct line {
	char data[LINE_BYTES_MAX];
	size_t len;
	size_t max;
	bool full; /* something did not fit; the caller rolls back to where it began */
	bool cut;
	enum log_format format;
};

void log_setup(enum log_format format, enum log_level level)
{
	atomic_store(&output, format);
	atomic_store(&threshold, level);
}

bool log_enabled(enum log_level level)
{
	return level <= atomic_load_explicit(&threshold, memory_order_relaxed);
}

uint64_t log_suppressed_total(void)
{
	return atomic_load_explicit(&suppressed_total, memory_order_relaxed);
}

/* Lock: held. Returns: the message's entry, or NULL when the table is full: such a message is not limited. */
static struct key *find_key(const char *message)
{
	size_t start = (size_t)(((uint64_t)(uintptr_t)message * 0x9e3779b97f4a7c15u) >> 32);

	for (size_t i = 0; i < KEYS_MAX; i++) {
		struct key *key = &keys[(start + i) % KEYS_MAX];
		if (key->message == message)
			return key;
		if (!key->message) {
			*key = (struct key){.message = message, .since_us = INT64_MIN / 2};
			return key;
		}
	}
	return NULL;
}

/* Returns: whether the line may pass; then *suppressed is how many did not since the last one that did. */
static bool admit(const char *message, int64_t now_us, uint64_t *suppressed)
{
	uint32_t limit = log_enabled(LOG_DEBUG) ? PER_SECOND_MAX_DEBUG : PER_SECOND_MAX;
	bool passes = true;

	*suppressed = 0;
	mutex_lock(&lock);
	struct key *key = find_key(message);
	if (key) {
		if (now_us - key->since_us >= 1000000) {
			key->since_us = now_us;
			key->passed = 0;
		}
		passes = key->passed < limit;
		if (passes) {
			key->passed++;
			*suppressed = key->suppressed;
			key->suppressed = 0;
		} else {
			key->suppressed++;
			atomic_fetch_add_explicit(&suppressed_total, 1, memory_order_relaxed);
		}
	}
	mutex_unlock(&lock);
	return passes;
}

static void put(struct line *line, const char *data, size_t len)
{
	if (line->full || len > line->max - line->len) {
		line->full = true;
		return;
	}
	memcpy(line->data + line->len, data, len);
	line->len += len;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void put_format(struct line *line, const char *format, ...)
{
	char text[64];
	va_list arguments;

	va_start(arguments, format);
	int len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	ENSURE(len >= 0 && (size_t)len < sizeof(text));
	put(line, text, (size_t)len);
}

/* A JSON string, which logfmt takes as well. C1 controls and line separators are escaped like C0: a field
 * must neither begin a line of its own nor speak to the reader's terminal. */
static void put_quoted(struct line *line, struct slice text)
{
	size_t end = text.len < TEXT_BYTES_MAX ? text.len : TEXT_BYTES_MAX;

	if (end < text.len) {
		line->cut = true;
		/* Back to a boundary: half a sequence would show as damage that is not in the value. */
		for (int back = 0; back < 3 && end > 0 && ((unsigned char)text.data[end] & 0xc0) == 0x80; back++)
			end--;
	}
	put_text(line, "\"");
	for (size_t at = 0; at < end;) {
		uint32_t c = 0;
		size_t bytes = utf8_read(text.data + at, end - at, &c);
		if (bytes == 0) {
			put_text(line, "\xef\xbf\xbd");
			bytes = 1;
		} else if (c == '"' || c == '\\') {
			put_format(line, "\\%c", (char)c);
		} else if (c == '\n') {
			put_text(line, "\\n");
		} else if (!utf8_is_printable(c)) {
			put_format(line, "\\u%04x", c);
		} else {
			put(line, text.data + at, bytes);
		}
		at += bytes;
	}
	put_text(line, "\"");
}

static bool is_bare(struct slice text)
{
	if (text.len == 0 || text.len > TEXT_BYTES_MAX)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.data[i];
		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return true;
}

static void put_value_text(struct line *line, struct slice text)
{
	if (!slice_present(text))
		put_text(line, line->format == LOG_JSON ? "null" : "");
	else if (line->format == LOG_LOGFMT && is_bare(text))
		put(line, text.data, text.len);
	else
		put_quoted(line, text);
}

static void put_name(struct line *line, const char *name)
{
	bool json = line->format == LOG_JSON;
	bool first = line->len == 0;

	put_text(line, json ? (first ? "{\"" : ",\"") : (first ? "" : " "));
	put_text(line, name);
	put_text(line, json ? "\":" : "=");
}

/* A field that does not fit whole is left out whole, so that the line stays well-formed. */
static void put_field(struct line *line, const struct log_field *field)
{
	size_t before = line->len;

	put_name(line, field->name);
	switch (field->kind) {
	case LOG_FIELD_TEXT:
		put_value_text(line, field->text);
		break;
	case LOG_FIELD_INT:
		put_format(line, "%lld", (long long)field->integer);
		break;
	case LOG_FIELD_REAL:
		if (isfinite(field->real) || line->format == LOG_LOGFMT)
			put_format(line, "%.9g", field->real);
		else
			put_text(line, "null"); /* JSON has no word for it */
		break;
	}
	if (line->full) {
		line->len = before;
		line->full = false;
		line->cut = true;
	}
}

static void put_time(struct line *line, int64_t wall_us)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct tm utc;
	char day[32];
	char text[48];

	ENSURE(gmtime_r(&seconds, &utc) != NULL);
	ENSURE(strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc) > 0);
	snprintf(text, sizeof(text), "%s.%06dZ", day, (int)(wall_us % 1000000));
	put_field(line, &LOG_S("ts", text));
}

/* A log that cannot be written has nowhere to complain; the text is lost. */
static void write_whole(const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(STDERR_FILENO, data + done, len - done);
		if (n > 0)
			done += (size_t)n;
		else if (errno == EAGAIN) /* somebody else's open file, too, who does not want to wait */
			poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
		else if (errno != EINTR)
			break;
	}
}

/* ---- the writer ---- */

/* Lock: held. Returns: whether it fits. */
static bool append(const char *data, size_t len)
{
	if (len > writer.size - writer.len)
		return false;
	size_t at = (writer.from + writer.len) % writer.size;
	size_t first = len < writer.size - at ? len : writer.size - at;
	memcpy(writer.ring + at, data, first);
	memcpy(writer.ring, data + first, len - first);
	writer.len += len;
	atomic_store(&writer.idle, false);
	return true;
}

static void begin_line(struct line *line, enum log_level level, const char *message)
{
	line->len = 0;
	line->max = LINE_BYTES_MAX - TAIL_BYTES;
	line->full = line->cut = false;
	line->format = atomic_load_explicit(&output, memory_order_relaxed);
	put_time(line, clock_wall_us());
	put_field(line, &LOG_S("level", level_names[level]));
	put_field(line, &LOG_S("msg", message));
}

static void end_line(struct line *line)
{
	put_text(line, line->format == LOG_JSON ? "}\n" : "\n");
}

/* Lock: held. Says in its place what is missing there. Returns: false while there is no room to. */
static bool own_up(void)
{
	struct line line;

	if (writer.dropped == 0)
		return true;
	begin_line(&line, LOG_WARN, "log lines dropped: stderr did not take them");
	put_field(&line, &LOG_I("lines", writer.dropped));
	end_line(&line);
	if (!append(line.data, line.len))
		return false;
	writer.dropped = 0;
	return true;
}

/* Lock: held. Takes up to `size` bytes from the front, to the end of a line if there is one. Returns: how many. */
static size_t take_piece(char *out, size_t size)
{
	size_t len = writer.len < size ? writer.len : size;
	size_t first = len < writer.size - writer.from ? len : writer.size - writer.from;

	memcpy(out, writer.ring + writer.from, first);
	memcpy(out + first, writer.ring, len - first);
	const char *end = len < writer.len ? memrchr(out, '\n', len) : NULL;
	if (end)
		len = (size_t)(end + 1 - out);
	writer.from = (writer.from + len) % writer.size;
	writer.len -= len;
	return len;
}

static void *write_lines(void *unused)
{
	char piece[LINE_BYTES_MAX];
	(void)unused;

	mutex_lock(&lock);
	for (;;) {
		if (writer.len == 0)
			(void)own_up(); /* there is room for that */
		if (writer.len > 0) {
			size_t len = take_piece(piece, sizeof(piece));
			mutex_unlock(&lock);
			write_whole(piece, len);
			mutex_lock(&lock);
			continue;
		}
		atomic_store(&writer.idle, true);
		cond_signal(&writer.written);
		if (writer.stopping)
			break;
		cond_wait(&writer.filled, &lock);
	}
	mutex_unlock(&lock);
	return NULL;
}

/* Takes no lock: whoever dies may hold it. */
static void await_last_words(void)
{
	for (int ms = 0; ms < LAST_WORDS_MS && !atomic_load(&writer.idle); ms++)
		poll(NULL, 0, 1);
}

void log_start(size_t buffer_bytes)
{
	ENSURE(!writer.running && buffer_bytes >= LINE_BYTES_MAX);
	writer.ring = malloc(buffer_bytes);
	ENSURE(writer.ring != NULL);
	writer.size = buffer_bytes;
	writer.from = writer.len = 0;
	writer.stopping = false;
	atomic_store(&writer.idle, true);
	cond_init(&writer.filled);
	cond_init(&writer.written);
	ensure_before_abort(await_last_words);
	mutex_lock(&lock);
	writer.running = true;
	mutex_unlock(&lock);
	writer.thread = thread_start("log", write_lines, NULL);
}

void log_stop(int timeout_ms)
{
	int64_t deadline_us = clock_mono_us() + (int64_t)timeout_ms * 1000;

	mutex_lock(&lock);
	if (!writer.running || writer.stopping) {
		mutex_unlock(&lock);
		return;
	}
	writer.stopping = true;
	cond_signal(&writer.filled);
	while (!atomic_load(&writer.idle))
		if (!cond_wait_until(&writer.written, &lock, deadline_us))
			break;
	bool written = atomic_load(&writer.idle);
	/* Whoever logs from now on writes at once, or, behind a thread that is held up, never. */
	writer.running = !written;
	mutex_unlock(&lock);
	if (!written)
		return;
	ensure_before_abort(NULL);
	thread_join(writer.thread);
	cond_destroy(&writer.filled);
	cond_destroy(&writer.written);
	free(writer.ring);
	writer.ring = NULL;
}

uint64_t log_dropped_total(void)
{
	return atomic_load_explicit(&writer.dropped_total, memory_order_relaxed);
}

void log_text(struct slice text)
{
	mutex_lock(&lock);
	if (!writer.running) {
		write_whole(text.data, text.len);
	} else if (own_up() && append(text.data, text.len)) {
		cond_signal(&writer.filled);
	} else {
		writer.dropped++;
		atomic_fetch_add_explicit(&writer.dropped_total, 1, memory_order_relaxed);
	}
	mutex_unlock(&lock);
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
	int saved_errno = errno; /* callers log between a failure and its handling */
	uint64_t suppressed;

	if (!admit(message, clock_mono_us(), &suppressed))
		return;
	struct line line;
	begin_line(&line, level, message);
	for (const struct log_field *field = fields; field->name; field++)
		put_field(&line, field);
	line.max = LINE_BYTES_MAX;
	if (suppressed > 0)
		put_field(&line, &LOG_I("suppressed", suppressed));
	if (line.cut)
		put_field(&line, &LOG_I("cut", 1));
	end_line(&line);
	log_text((struct slice){line.data, line.len});
	errno = saved_errno;
}
