#include "common/ensure.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void ensure_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "delivery-worker: internal error: %s at %s:%d\n", condition, file, line);
	abort();
}
