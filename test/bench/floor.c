// SPDX-License-Identifier: Apache-2.0
/*
 * floor.c - the least that the work of a shim can cost on this machine: the same messages, processes
 * and files, and nothing else. bench.py measures it beside the shims.
 *
 *	floor start			a process that starts one more, says so, and ends: `start`
 *	floor serve SOCKET		answers any request with an empty reply: State
 *	floor serve SOCKET /DIR FILE...	reads these files before each answer: Stats
 *	floor serve SOCKET exec		takes requests for Exec, Start, Wait, Delete in turn: at Start a
 *					process is run that leaves another behind, and both are waited
 *					for; the three events of an exec go out and are acknowledged
 *
 * A request is expected whole in one read, from one client.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
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

static void run(const char *mode)
{
	char *argv[] = {self, (char *)mode, NULL};

	if (vfork() == 0) {
		execve(self, argv, environ);
		_exit(127);
	}
}

static void answer(int fd, size_t len)
{
	static char frame[160];

	if (send(fd, frame, len, MSG_NOSIGNAL) < 0)
		exit(1);
}

/* Sleeps until there is a request (true) or a child has ended; takes what the event service says. */
static int sleep_on(void)
{
	sigset_t none;

	sigemptyset(&none);
	for (;;) {
		if (ppoll(fds, 2, NULL, &none) < 0)
			return 0;
		if (fds[1].revents)
			recv(fds[1].fd, buf, sizeof(buf), 0);
		if (fds[0].revents)
			return 1;
	}
}

static void read_files(char **files)
{
	int dir = AT_FDCWD;

	for (; *files; files++) {
		if ((*files)[0] == '/') {
			close(dir);
			dir = open(*files, O_PATH | O_DIRECTORY | O_CLOEXEC);
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

static void exec_step(unsigned int request)
{
	int children = 2;

	if (request % 4 == 0)
		answer(fds[1].fd, 160);
	if (request % 4 != 1)
		return;
	run("process");
	while (children > 0) {
		sleep_on();
		while (waitpid(-1, NULL, WNOHANG) > 0)
			children--;
	}
	answer(fds[1].fd, 160);
	answer(fds[1].fd, 160);
}

static void serve(const char *path, char **what)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct sigaction act = {.sa_handler = noticed};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), pair[2];
	sigset_t child;

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
	fds[1].fd = pair[0];
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
			exec_step(request);
		else
			read_files(what);
		if (send(fds[0].fd, header, sizeof(header), MSG_NOSIGNAL) < 0)
			exit(1);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "start") == 0) {
		run("daemon");
		return write(STDOUT_FILENO, "started\n", 8) != 8;
	}
	if (strcmp(mode, "daemon") == 0) {
		for (int fd = 0; fd < 3; fd++)
			close(fd);
		poll(NULL, 0, 200);
	} else if (strcmp(mode, "process") == 0) {
		_exit(fork() < 0 ? 1 : 0);
	} else if (strcmp(mode, "serve") == 0 && argc > 2) {
		serve(argv[2], argv + 3);
	}
	return 0;
}
