#include "common/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int whole_file_read(const char *path, size_t bytes_max, struct buf *out)
{
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t start = out->len;
	int result = 0;

	if (file < 0)
		return errno;
	for (;;) {
		char *end = buf_reserve(out, 4096);
		ssize_t n = read(file, end, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			result = errno;
		if (n <= 0)
			break;
		out->len += (size_t)n;
		if (out->len - start > bytes_max) {
			result = EFBIG;
			break;
		}
	}
	buf_append(out, "", 0); /* the NUL behind what read(2) brought */
	close(file);
	return result;
}
