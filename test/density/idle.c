// SPDX-License-Identifier: Apache-2.0
/*
 * idle.c - the least that a shim costs besides its program: a process that sleeps, with all open that
 * a shim must keep for a container, and the files a bundle has because of it. make density measures
 * many of these (hook-floor.sh).
 *
 * usage: idle PREFIX: what it makes lies at PREFIX and PREFIX.*
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char path[108];

static const char *at(const char *prefix, const char *suffix)
{
	strcpy(path, prefix);
	return strcat(path, suffix);
}

static void file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (write(fd, "unix:///run/containerd/s/...", 28) < 0)
		_exit(1);
	close(fd);
}

/* Both ends of a FIFO: the reader's or the writer's is held for a client that may come back. */
static int fifo(const char *name)
{
	static int writer;
	int reader;

	mkfifo(name, 0600);
	reader = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	writer = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (writer < 0)
		_exit(1);
	return reader;
}

int main(int argc, char **argv)
{
	const char *prefix = argc > 1 ? argv[1] : "/tmp/idle";
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct pollfd fds[6];
	int pipes[2], client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static const char *const streams[] = {".in", ".out", ".err"};
	char page[512];

	strncpy(name.sun_path, prefix, sizeof(name.sun_path) - 1);
	fds[0].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fds[0].fd, (struct sockaddr *)&name, sizeof(name)) < 0 ||
	    listen(fds[0].fd, 1) < 0 || connect(client, (struct sockaddr *)&name, sizeof(name)) < 0)
		return 1;
	fds[1].fd = accept4(fds[0].fd, NULL, NULL, SOCK_CLOEXEC); /* containerd's connection */
	fds[2].fd = fifo(at(prefix, ".log"));                     /* to which it listens */
	for (int i = 0; i < 3; i++) {
		int end = fifo(at(prefix, streams[i]));

		if (pipe2(pipes, O_CLOEXEC) < 0)
			return 1;
		fds[3 + i].fd = i > 0 ? pipes[0] : end;
	}
	/* The OOM watch: a file of cgroup v2 is polled once it has been read. */
	client = open("/sys/fs/cgroup/default/w0/memory.events", O_RDONLY | O_CLOEXEC);
	if (read(client, page, sizeof(page)) > 0)
		fds[2].fd = client;
	file(at(prefix, ".address"));
	file(at(prefix, ".pid"));
	for (int i = 0; i < 6; i++)
		fds[i].events = POLLIN;
	fds[2].events = POLLPRI;
	for (;;)
		ppoll(fds, 6, NULL, NULL);
}
