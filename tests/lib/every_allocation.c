#include "tests/lib/every_allocation.h"

#include "common/ensure.h"
#include "tests/lib/failing_malloc.c"

#include <check.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { ALLOCATIONS_MAX = 20000 };
enum { CHILD_SAME = 10, CHILD_GAVE_UP, CHILD_UNHIT, CHILD_OTHER, CHILD_LEAK };

void result_put(struct result *o, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(o->text + o->len, sizeof(o->text) - o->len, format, arguments);
	va_end(arguments);
	ENSURE(len >= 0 && (size_t)len < sizeof(o->text) - o->len); /* check's own would allocate */
	o->len += (size_t)len;
}

void result_give_up(struct result *o)
{
	o->gave_up = true;
}

bool every_allocation_works(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	printf("skipped: the sanitizer's allocations cannot be made to fail\n");
	return false;
#else
	return true;
#endif
}

static int child(void (*path)(struct result *), const struct result *wanted, long nth, int messages)
{
	static struct result o;
	dup2(messages, STDERR_FILENO);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	long before = failing_malloc_live();
	failing_malloc_arm(nth);
	path(&o);
	if (!failing_malloc_disarm())
		return CHILD_UNHIT;
	long leaked = failing_malloc_live() - before;
	if (leaked != 0) {
		fprintf(stderr, "%ld allocations more than before\n", leaked);
		return CHILD_LEAK;
	}
	if (o.gave_up)
		return CHILD_GAVE_UP;
	fprintf(stderr, "%s", o.text);
	return strcmp(o.text, wanted->text) == 0 ? CHILD_SAME : CHILD_OTHER;
}

/* Returns: false when there was no nth allocation. */
static bool judge(long nth, int status, const char *said, enum every_allocation_rule rule,
		  struct every_allocation_count *count)
{
	if (WIFSIGNALED(status)) {
		ck_assert_msg(WTERMSIG(status) == SIGABRT && strstr(said, "delivery-worker: internal error: "),
			      "allocation %ld failed: signal %d, said: %s", nth, WTERMSIG(status), said);
		count->ended++;
		return true;
	}
	switch (WEXITSTATUS(status)) {
	case CHILD_UNHIT:
		return false;
	case CHILD_SAME:
		count->same++;
		return true;
	case CHILD_GAVE_UP:
		ck_assert_msg(rule == MAY_GIVE_UP, "allocation %ld failed: it gave up", nth);
		count->gave_up++;
		return true;
	case CHILD_LEAK:
		ck_abort_msg("allocation %ld failed: a leak: %s", nth, said);
	default:
		ck_abort_msg("allocation %ld failed: another result (exit %d): %s", nth, WEXITSTATUS(status), said);
	}
}

struct every_allocation_count every_allocation(void (*path)(struct result *), enum every_allocation_rule rule)
{
	static struct result wanted;
	static char said[4096];
	struct every_allocation_count count = {0};

	/* Once for what is made at a first use and kept. */
	for (int i = 0; i < 2; i++) {
		wanted = (struct result){.len = 0};
		path(&wanted);
		ck_assert_msg(!wanted.gave_up && wanted.len > 0, "it gives up with all its memory");
	}
	for (long nth = 1;; nth++) {
		ck_assert_int_lt(nth, ALLOCATIONS_MAX);
		int messages = memfd_create("messages", MFD_CLOEXEC);
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0)
			_exit(child(path, &wanted, nth, messages));
		int status = 0;
		ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
		ssize_t len = pread(messages, said, sizeof(said) - 1, 0);
		said[len > 0 ? len : 0] = '\0';
		close(messages);
		if (!judge(nth, status, said, rule, &count))
			break;
	}
	return count;
}
