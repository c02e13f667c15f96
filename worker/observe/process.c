#include "worker/observe/process.h"

#include "worker/observe/exposition.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Fields of /proc/self/stat, proc(5). */
struct process_stat {
	uint64_t user_ticks, system_ticks; /* 14, 15 */
	int64_t threads;                   /* 20 */
	uint64_t start_ticks;              /* 22: after boot */
	uint64_t virtual_bytes;            /* 23 */
	int64_t resident_pages;            /* 24 */
};

static bool read_stat(struct process_stat *s)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	/* Field 2 is the program's name in brackets, and may hold spaces and brackets itself. */
	const char *rest = strrchr(text, ')');
	return rest &&
	       sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
		      " %*d %*d %*d %*d %" SCNd64 " %*d %" SCNu64 " %" SCNu64 " %" SCNd64,
		      &s->user_ticks, &s->system_ticks, &s->threads, &s->start_ticks, &s->virtual_bytes,
		      &s->resident_pages) == 6;
}

/* Seconds since the epoch at boot, as the kernel states it: unlike now − uptime it does not wander from one
 * scrape to the next. */
static bool read_boot_time(int64_t *seconds)
{
	FILE *file = fopen("/proc/stat", "re");
	char line[256];
	bool found = false;

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "btime %" SCNd64, seconds) == 1;
	fclose(file);
	return found;
}

static bool count_open_fds(int64_t *count)
{
	DIR *folder = opendir("/proc/self/fd");
	if (!folder)
		return false;
	*count = -1; /* the folder's own */
	for (const struct dirent *entry; (entry = readdir(folder));)
		*count += entry->d_name[0] != '.';
	closedir(folder);
	return true;
}

static void expose_stat(struct buf *out, const struct process_stat *s)
{
	double ticks_per_second = (double)sysconf(_SC_CLK_TCK);
	int64_t boot_time;

	exposition_family(out, "process_cpu_seconds_total", "counter", "User and system CPU time.");
	exposition_real(out, "process_cpu_seconds_total", "",
			(double)(s->user_ticks + s->system_ticks) / ticks_per_second);
	exposition_family(out, "process_resident_memory_bytes", "gauge", "Resident memory.");
	exposition_integer(out, "process_resident_memory_bytes", "", s->resident_pages * sysconf(_SC_PAGESIZE));
	exposition_family(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.");
	exposition_unsigned(out, "process_virtual_memory_bytes", "", s->virtual_bytes);
	exposition_family(out, "process_threads", "gauge", "Threads of the process.");
	exposition_integer(out, "process_threads", "", s->threads);
	if (read_boot_time(&boot_time)) {
		exposition_family(out, "process_start_time_seconds", "gauge", "Start of the process since the epoch.");
		exposition_real(out, "process_start_time_seconds", "",
				(double)boot_time + (double)s->start_ticks / ticks_per_second);
	}
}

void process_expose(struct buf *out)
{
	struct process_stat stat;
	struct rlimit limit;
	int64_t open_fds;

	if (read_stat(&stat))
		expose_stat(out, &stat);
	if (count_open_fds(&open_fds)) {
		exposition_family(out, "process_open_fds", "gauge", "Open file descriptors.");
		exposition_integer(out, "process_open_fds", "", open_fds);
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		exposition_family(out, "process_max_fds", "gauge", "Limit of open file descriptors.");
		exposition_unsigned(out, "process_max_fds", "", limit.rlim_cur);
	}
}
