#include "common/secret_file.h"

#include "common/whole_file.h"

int secret_file_read(const char *path, size_t bytes_max, struct buf *out)
{
	int reason = whole_file_read(path, bytes_max, out);
	if (reason == 0 && out->len > 0 && out->data[out->len - 1] == '\n')
		out->data[--out->len] = '\0';
	return reason;
}

void secret_release(struct buf *secret)
{
	if (secret->data)
		explicit_bzero(secret->data, secret->capacity);
	buf_release(secret);
}
