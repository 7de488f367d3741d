// SPDX-License-Identifier: Apache-2.0
/*
 * timed.c - stands in for an OCI runtime: runs PROGRAM.real with the same arguments, and appends to
 * PROGRAM.log how many nanoseconds that took.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	char real[512], log[512], line[32];
	long long begin = clock_ns();
	int status = -1, fd, len;
	pid_t pid;

	(void)argc;
	snprintf(real, sizeof(real), "%s.real", argv[0]);
	snprintf(log, sizeof(log), "%s.log", argv[0]);
	pid = vfork();
	if (pid == 0) {
		execv(real, argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 126;
	len = snprintf(line, sizeof(line), "%lld\n", clock_ns() - begin);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line, (size_t)len) != len || close(fd) < 0)
		return 126;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
