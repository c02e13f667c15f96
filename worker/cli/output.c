#include "worker/cli/output.h"

#include "common/buf.h"
#include "worker/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_error; /* errno of the first write that failed; 0: none */

/* Returns: less than `size` on an error, as fopencookie wants it. */
static ssize_t write_out(void *cookie, const char *data, size_t size)
{
	size_t done = 0;

	(void)cookie; /* the signature is fopencookie's */
	while (done < size && write_error == 0) {
		ssize_t n = write(STDOUT_FILENO, data + done, size - done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			write_error = errno;
	}
	return (ssize_t)done;
}

void output_open(void)
{
	bool terminal = isatty(STDOUT_FILENO) == 1;

	stdout = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_out});
	ENSURE(stdout != NULL);
	setvbuf(stdout, NULL, terminal ? _IOLBF : _IOFBF, BUFSIZ);
}

void output_line(const char *format, ...)
{
	struct buf line = BUF_INIT;
	va_list arguments;
	char *raw;

	va_start(arguments, format);
	ENSURE(vasprintf(&raw, format, arguments) >= 0);
	va_end(arguments);
	buf_put_printable(&line, slice_of(raw));
	buf_putc(&line, '\n');
	fwrite(line.data, 1, line.len, stdout);
	buf_release(&line);
	free(raw);
}

int output_close(int code)
{
	fflush(stdout);
	if (write_error == 0 || write_error == EPIPE)
		return code;
	fprintf(stderr, "delivery-worker: cannot write the result: %s\n", strerror(write_error));
	return code == EXIT_FINE ? EXIT_UNAVAILABLE : code;
}
