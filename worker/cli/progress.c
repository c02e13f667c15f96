#include "worker/cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	CELLS_MIN = 8,
	CELLS_MAX = 40,
	AROUND_CELLS = 3,     /* the brackets, and the space behind them */
	PERCENT_COLUMNS = 8,  /* "100.0 %", and a space */
	COLUMNS_UNKNOWN = 80, /* of a terminal that does not say */
};

/* What a cell looks like until it is full. */
static const char steps[] = ".-=";
enum { STEPS = sizeof(steps) - 1 };

static void put_bar(struct buf *out, int64_t done, int64_t total, int cells)
{
	int filled = (int)((double)done / (double)total * cells * STEPS);

	buf_putc(out, '[');
	for (int i = 0; i < cells; i++, filled -= STEPS)
		buf_putc(out, filled >= STEPS ? '#' : steps[filled > 0 ? filled : 0]);
	buf_puts(out, "] ");
}

void progress_put(struct buf *out, int64_t done, int64_t total, const char *text, int columns)
{
	size_t start = out->len, room = columns > 1 ? (size_t)columns - 1 : 0;

	if (total > 0) {
		int64_t reached = done < total ? done : total;
		int cells = (int)room - PERCENT_COLUMNS - AROUND_CELLS - (int)strlen(text);
		if (cells >= CELLS_MIN)
			put_bar(out, reached, total, cells < CELLS_MAX ? cells : CELLS_MAX);
		int tenths = (int)((double)reached / (double)total * 1000);
		buf_printf(out, "%3d.%d %% ", tenths / 10, tenths % 10);
	}
	buf_puts(out, text);
	if (out->len - start > room) {
		out->len = start + room;
		out->data[out->len] = '\0';
	}
}

static int columns_of_terminal(void)
{
	struct winsize size;
	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS_UNKNOWN;
}

void progress_show(int64_t done, int64_t total, const char *text)
{
	struct buf line = BUF_INIT;
	buf_putc(&line, '\r');
	progress_put(&line, done, total, text, columns_of_terminal());
	buf_puts(&line, "\033[K");
	fwrite(line.data, 1, line.len, stderr);
	buf_release(&line);
}

void progress_clear(void)
{
	fputs("\r\033[K", stderr);
}
