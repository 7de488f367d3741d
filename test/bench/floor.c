// SPDX-License-Identifier: Apache-2.0
/*
 * floor.c - the least that the work of a shim can cost on this machine: the same messages, processes
 * and files, and nothing else. bench.py measures it beside the shims.
 *
 *	floor start			reads stdin and config.json, makes a listening socket and a file
 *					with its name, starts a process that takes it over and lives on,
 *					gives that its OOM score, says so, and ends: `start`
 *	floor serve SOCKET		answers any request with an empty reply: State
 *	floor serve SOCKET /DIR FILE...	reads these files before each answer: Stats
 *	floor serve SOCKET exec		takes requests for Exec, Start, Wait, Delete in turn: at Exec a file is
 *					written, at Start a process is run that leaves another behind,
 *					whose pid is read from a file; both are waited for, both files
 *					removed; the three events of an exec go out, each when the one
 *					before it is acknowledged
 *
 * A request is expected whole in one read, from one client.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char self[] = "/proc/self/exe", buf[65536];
static struct pollfd fds[2] = {{-1, POLLIN, 0},
			       {-1, POLLIN, 0}}; /* the client, the event service */

static void noticed(int sig)
{
	(void)sig;
}

/* With that descriptor as its fourth, if it is none of those that are closed. */
static pid_t run(const char *mode, const char *arg, int fd)
{
	char *argv[] = {self, (char *)mode, (char *)arg, NULL};
	pid_t pid = vfork();

	if (pid == 0) {
		int null = openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);

		for (int i = 0; i < 3; i++)
			dup2(null, i);
		if (fd >= 0)
			dup2(fd, 3);
		execve(self, argv, environ);
		_exit(127);
	}
	return pid;
}

static void write_file(const char *path, const char *text)
{
	int fd = openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (write(fd, text, strlen(text)) < 0)
		exit(1);
	close(fd);
}

static void read_file(const char *path)
{
	int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);

	if (read(fd, buf, sizeof(buf)) < 0)
		exit(1);
	close(fd);
}

static void answer(int fd, size_t len)
{
	static char frame[160];

	if (send(fd, frame, len, MSG_NOSIGNAL) < 0)
		exit(1);
}

/* Sleeps until there is a request (true) or a child has ended. */
static int sleep_on(void)
{
	sigset_t none;

	sigemptyset(&none);
	return ppoll(fds, 2, NULL, &none) >= 0;
}

static void read_files(char **files)
{
	int dir = AT_FDCWD;

	for (; *files; files++) {
		if ((*files)[0] == '/') {
			close(dir);
			dir = openat(AT_FDCWD, *files, O_PATH | O_DIRECTORY | O_CLOEXEC);
			continue;
		}
		int fd = openat(dir, *files, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, buf, sizeof(buf)) < 0)
			exit(1);
		close(fd);
	}
	close(dir);
}

/* The event service: acknowledges whatever it is sent. */
static void acknowledge(int fd)
{
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		answer(fd, 10);
	exit(0);
}

static void tell(void)
{
	static int told;

	if (told++)
		recv(fds[1].fd, buf, sizeof(buf), 0);
	answer(fds[1].fd, 160);
}

static void wait_for(unsigned int children)
{
	static unsigned int ended;

	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			ended++;
		if (ended >= children)
			return;
		sleep_on();
	}
}

static void exec_step(unsigned int request, const char *spec, const char *pid_file)
{
	unsigned int children = request / 4 * 2; /* up to the last exec */

	switch (request % 4) {
	case 0:
		write_file(
			spec,
			"as long as the description of a process with one argument, one variable "
			"of its environment, a user and a directory is.");
		tell();
		break;
	case 1:
		run("process", pid_file, -1);
		wait_for(children + 1);
		read_file(pid_file);
		unlink(pid_file);
		unlink(spec);
		tell();
		break;
	case 2:
		wait_for(children + 2);
		tell();
	}
}

static void serve(const char *path, char **what)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct sigaction act = {.sa_handler = noticed};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), pair[2];
	char spec[128], pid_file[128];
	sigset_t child;

	snprintf(spec, sizeof(spec), "%s.json", path);
	snprintf(pid_file, sizeof(pid_file), "%s.pid", path);
	strncpy(name.sun_path, path, sizeof(name.sun_path) - 1);
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 1) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		exit(1);
	if (fork() == 0) {
		close(pair[0]);
		acknowledge(pair[1]);
	}
	close(pair[1]);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &act, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fds[1] = (struct pollfd){pair[0], 0, 0};
	fds[0].fd = accept(fd, NULL, NULL);
	for (unsigned int request = 0;; request++) {
		char header[10];

		while (!sleep_on())
			;
		if (recv(fds[0].fd, buf, sizeof(buf), 0) <= 0)
			exit(0);
		memcpy(header, buf, sizeof(header));
		memset(header, 0, 4);
		header[8] = 2;
		if (*what && strcmp(*what, "exec") == 0)
			exec_step(request, spec, pid_file);
		else
			read_files(what);
		if (send(fds[0].fd, header, sizeof(header), MSG_NOSIGNAL) < 0)
			exit(1);
	}
}

static void start(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "floor.socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char path[64];

	while (read(STDIN_FILENO, buf, sizeof(buf)) > 0)
		;
	read_file("config.json");
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 1) < 0)
		exit(1);
	write_file("floor.new", "floor.socket");
	rename("floor.new", "floor.address");
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", run("daemon", NULL, fd));
	read_file("/proc/self/oom_score_adj");
	write_file(path, "0");
	if (write(STDOUT_FILENO, "started\n", 8) < 0)
		exit(1);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "start") == 0) {
		start();
	} else if (strcmp(mode, "daemon") == 0) {
		poll(NULL, 0, 200);
	} else if (strcmp(mode, "process") == 0 && argc > 2) {
		pid_t pid = fork();

		if (pid > 0) {
			snprintf(buf, sizeof(buf), "%d", pid);
			write_file(argv[2], buf);
		}
		_exit(pid < 0 ? 1 : 0);
	} else if (strcmp(mode, "serve") == 0 && argc > 2) {
		serve(argv[2], argv + 3);
	}
	return 0;
}
