#include "tests/lib/failing_malloc.h"

#include <errno.h>
#include <execinfo.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* glibc's own, which it keeps for those that replace the public names. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static atomic_long left; /* until one fails; 0 and below: none will */
static atomic_long live;
static atomic_bool hit;
static atomic_bool telling; /* on stderr, when it happens */

void failing_malloc_arm(long nth)
{
	atomic_store(&hit, false);
	atomic_store(&left, nth);
}

bool failing_malloc_disarm(void)
{
	atomic_store(&left, 0);
	return atomic_load(&hit);
}

long failing_malloc_live(void)
{
	return atomic_load(&live);
}

static void tell(void)
{
	static const char text[] = "failing_malloc: an allocation fails\n";
	void *frames[24];

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	backtrace_symbols_fd(frames, backtrace(frames, 24), STDERR_FILENO);
}

static bool fails(void)
{
	if (atomic_load_explicit(&left, memory_order_relaxed) <= 0 || atomic_fetch_sub(&left, 1) != 1)
		return false;
	atomic_store(&hit, true);
	if (atomic_load(&telling))
		tell();
	errno = ENOMEM;
	return true;
}

static void *count(void *memory)
{
	if (memory)
		atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
	return memory;
}

void *malloc(size_t size)
{
	return fails() ? NULL : count(__libc_malloc(size));
}

void *calloc(size_t number, size_t size)
{
	return fails() ? NULL : count(__libc_calloc(number, size));
}

void *realloc(void *old, size_t size)
{
	if (fails())
		return NULL;
	void *memory = __libc_realloc(old, size);
	if (!old)
		count(memory);
	else if (!memory && size == 0)
		atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
	return memory;
}

void *memalign(size_t alignment, size_t size)
{
	return fails() ? NULL : count(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	void *memory = memalign(alignment, size);
	if (!memory)
		return ENOMEM;
	*out = memory;
	return 0;
}

void free(void *memory)
{
	if (memory)
		atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
	__libc_free(memory);
}

__attribute__((constructor)) static void arm_from_environment(void)
{
	const char *nth = getenv("DW_TEST_FAIL_ALLOCATION");
	void *frame[1];

	if (!nth)
		return;
	backtrace(frame, 1); /* it loads a library, once */
	atomic_store(&telling, true);
	failing_malloc_arm(strtol(nth, NULL, 10));
}
