// SPDX-License-Identifier: Apache-2.0
/*
 * runtime.c - an OCI runtime that makes no containers: for tests of the daemon by the hundred
 * thousand, and for all that a real runtime does too seldom. The tests in C, test_faults.py and
 * arch/daemon.py have no other.
 *
 * It takes runc's command line, and what it makes are plain processes, children of its parent like
 * runc's; with a pid namespace in config.json they are in one, which takes root. Every run of it looks
 * for descriptors it should not have been given, and refuses to work if there is one.
 *
 * How it behaves is said by words, separated by blanks; of two that contradict each other the first one
 * holds. They are in the environment variable FAKE, in a file `words` (below), and behind "fake:" in
 * config.json, or, for an exec, in its process description. Times are in microseconds.
 *
 *   VERB.wait=T VERB.after=T  sleeps before, or after it has done its work
 *   VERB.between=T            sleeps when all is checked, before it makes the process
 *   VERB.hang=1 VERB.stop=1   never ends; stops itself by SIGSTOP; both before its work
 *   VERB.signal=N VERB.die=N  dies by that signal before, or after its work
 *   VERB.fail=N               does nothing, says why in the log, exits with N
 *   VERB.log=KIND             none, torn, garbage, long: what it says in the log when it fails
 *   VERB.skip=1               does nothing, and says that it has
 *   VERB.noise=N              writes N bytes to its stderr
 *   VERB.leak=T               leaves a process behind that holds its descriptors
 *   VERB.outlive=1            ends when somebody has reaped the process it has made, not before
 *   delete.late=T             leaves one behind that kills init then, and leaves execs alone
 *   pid=KIND                  none, late, garbage, empty, or a number: the pid file
 *   console=none              it hands over no terminal
 *   state=elsewhere           it keeps its state where the shim does not know of it
 *   orphan=1                  the process is the runtime's child, and the shim's only after it
 *   host=1                    the process is in no pid namespace of its own, whatever config.json says
 *   run=T                     how long the process runs once started; without it: until killed
 *   now=1                     init does not wait for start
 *   exit=N die=N              how it ends, by itself: this status; this signal
 *   out=N fds=1               it writes N bytes to its stdout; it lists its descriptors there
 *
 * Called by a symbolic link it looks for files beside that, by which a test switches its behaviour while
 * the daemon runs, and learns what it did:
 *
 *   words                     see above
 *   VERB.fail                 it copies this to its log and its stdout, does nothing, and exits with 1
 *   VERB.gate                 a FIFO: it waits for a byte from it before its work, and before VERB.fail
 *   VERB.behind.gate          the same, when it has done its work
 *   calls                     it adds a line: its verb, and all behind that
 *   update.in                 what update was given at stdin
 *
 * A container's state is one file, ROOT/ID: the pid of its init, the process group they are in,
 * whether it is started, and the pids of its execs.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL_START 60 /* what an init waits for */
#define PIDS_MAX 4096

static const char *root = "", *log_file = "", *verb = "", *id = "";
static char words[65536]; /* the environment's, the file's, and the document's behind them */
static char path[4096];
static char beside[2048]; /* the directory of the link it is called by, or nothing */

struct state {
	pid_t init, group;
	int started;
	pid_t execs[PIDS_MAX];
};
static struct state state;
static int execs;

/* ---- words ---- */

static const char *word(const char *key)
{
	size_t len = strlen(key);

	for (const char *at = words; (at = strstr(at, key)); at += len)
		if ((at == words || strchr(" \n", at[-1])) && at[len] == '=')
			return at + len + 1;
	return NULL;
}

static long number(const char *key)
{
	const char *at = word(key);

	return at ? atol(at) : 0;
}

static bool is(const char *key, const char *value)
{
	const char *at = word(key);

	return at && strncmp(at, value, strlen(value)) == 0;
}

static const char *of_verb(const char *key)
{
	static char name[64];

	snprintf(name, sizeof(name), "%s.%s", verb, key);
	return name;
}

static size_t slurp(const char *name, char *buf, size_t cap)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, cap - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* The path of a file beside the link; NULL: there is no link. */
static const char *file_beside(const char *name)
{
	if (!beside[0])
		return NULL;
	snprintf(path, sizeof(path), "%s/%s", beside, name);
	return path;
}

/* Does config.json ask for a pid namespace? The words that follow "fake:" become ours. */
static bool learn(const char *document)
{
	const char *env = getenv("FAKE"), *file = file_beside("words");
	char *text = words, *from, *end;
	bool own_pids;

	if (env)
		text += snprintf(words, sizeof(words) / 4, "%s ", env);
	if (file)
		text += slurp(file, text, sizeof(words) / 4);
	slurp(document, text, sizeof(words) - (size_t)(text - words));
	own_pids = strstr(text, "\"type\":\"pid\"") || strstr(text, "\"type\": \"pid\"");
	from = strstr(text, "fake:");
	if (!from) {
		*text = '\0';
		return own_pids;
	}
	from += strlen("fake:");
	end = strchr(from, '"');
	if (end)
		*end = '\0';
	*text++ = ' ';
	memmove(text, from, strlen(from) + 1);
	return own_pids;
}

static void rest(long us)
{
	struct timespec ts = {us / 1000000, us % 1000000 * 1000};

	while (us > 0 && nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* ---- saying why ---- */

static void say(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		_exit(1);
}

static _Noreturn void fail(int status, const char *msg)
{
	static char line[8192];
	int fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	const char *kind = of_verb("log");

	if (is(kind, "torn"))
		snprintf(line, sizeof(line), "{\"level\":\"error\",\"msg\":\"%s", msg);
	else if (is(kind, "garbage"))
		snprintf(line, sizeof(line), "\x01\xff}{]\"\\u12\n{{{{\n\n[[\n");
	else if (is(kind, "long"))
		snprintf(line, sizeof(line), "{\"level\":\"error\",\"msg\":\"%s %*s|\"}\n", msg,
			 8000, "");
	else
		snprintf(line, sizeof(line),
			 "{\"level\":\"error\",\"msg\":\"%s\",\"time\":\"2020-01-01T00:00:00Z\"}\n",
			 msg);
	if (fd >= 0 && !is(kind, "none"))
		say(fd, line);
	say(STDERR_FILENO, msg);
	say(STDERR_FILENO, "\n");
	_exit(status);
}

static void make_noise(long bytes)
{
	static char page[4096];

	memset(page, '!', sizeof(page));
	while (bytes > 0) {
		size_t n = bytes < (long)sizeof(page) ? (size_t)bytes : sizeof(page);

		if (write(STDERR_FILENO, page, n) <= 0)
			return;
		bytes -= (long)n;
	}
}

/* ---- files beside the link ---- */

static void find_link(const char *name)
{
	struct stat st;

	if (lstat(name, &st) < 0 || !S_ISLNK(st.st_mode))
		return;
	snprintf(beside, sizeof(beside), "%s", name);
	*strrchr(beside, '/') = '\0';
}

static void note_call(char **argv)
{
	const char *file = file_beside("calls");
	char line[8192];
	size_t len = 0;
	int fd = file ? open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;

	if (fd < 0)
		return;
	for (; *argv; argv++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, "%s%s", *argv,
					argv[1] ? " " : "\n");
	say(fd, line);
	close(fd);
}

static void wait_at(const char *gate)
{
	const char *file = file_beside(of_verb(gate));
	int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	char byte;

	if (fd < 0)
		return;
	if (read(fd, &byte, 1) < 0)
		_exit(1);
	close(fd);
}

static void fail_as_told(void)
{
	const char *file = file_beside(of_verb("fail"));
	static char text[4096];
	int fd;

	if (!file || slurp(file, text, sizeof(text)) == 0)
		return;
	fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd >= 0)
		say(fd, text);
	say(STDOUT_FILENO, text);
	_exit(1);
}

/* ---- state ---- */

static void state_path(void)
{
	snprintf(path, sizeof(path), "%s/%s", root, id);
}

static bool state_read(void)
{
	size_t n;

	state_path();
	n = slurp(path, (char *)&state, sizeof(state));
	execs = n < offsetof(struct state, execs)
			? 0
			: (int)((n - offsetof(struct state, execs)) / sizeof(pid_t));
	return n > 0;
}

static void state_write(int flags, const void *at, size_t size)
{
	int fd;

	state_path();
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT && (flags & O_CREAT)) {
		char parent[4096];

		snprintf(parent, sizeof(parent), "%s", root);
		if (strrchr(parent, '/'))
			*strrchr(parent, '/') = '\0';
		mkdir(parent, 0700);
		mkdir(root, 0700);
		fd = open(path, flags | O_CLOEXEC, 0600);
	}
	if (fd < 0 && errno == EEXIST)
		fail(1, "container with id exists already");
	if (fd < 0 || write(fd, at, size) != (ssize_t)size)
		fail(1, "the state cannot be written");
	close(fd);
}

/* Pids come again: one in another group is a stranger. */
static bool ours(pid_t pid)
{
	return pid > 0 && getpgid(pid) == state.group;
}

static void load(void)
{
	if (!state_read())
		fail(1, "container does not exist");
}

static void signal_all(int sig)
{
	for (int i = 0; i < execs; i++)
		if (ours(state.execs[i]))
			kill(state.execs[i], sig);
	if (ours(state.init))
		kill(state.init, sig);
}

/* ---- processes ---- */

/* Like runc's, the process does not outlive a runtime that is killed while it makes it. */
static _Noreturn void live(int wait_for, bool waits)
{
	sigset_t set;
	char byte;
	int sig;

	if (read(wait_for, &byte, 1) != 1)
		_exit(1);
	close(wait_for);
	sigemptyset(&set);
	sigaddset(&set, SIGNAL_START);
	if (waits)
		sigwait(&set, &sig);
	for (int fd = 0; number("fds") && fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			dprintf(STDOUT_FILENO, "%d ", fd);
	for (long left = number("out"); left > 0; left -= 64)
		say(STDOUT_FILENO,
		    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n");
	if (!word("run") && !number("now"))
		for (;;)
			pause();
	rest(number("run"));
	if (number("die"))
		kill(getpid(), (int)number("die"));
	_exit((int)number("exit"));
}

static void write_pid_file(const char *name, pid_t pid)
{
	char temp[4096], text[32];
	int fd;

	if (!name || is("pid", "none"))
		return;
	snprintf(text, sizeof(text), "%d", number("pid") ? (int)number("pid") : pid);
	if (is("pid", "garbage"))
		strcpy(text, "no pid");
	if (is("pid", "empty"))
		text[0] = '\0';
	snprintf(temp, sizeof(temp), "%s.%d", name, (int)getpid());
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		fail(1, "the pid file cannot be written");
	say(fd, text);
	close(fd);
	if (rename(temp, name) < 0)
		fail(1, "the pid file cannot be renamed");
}

/* A terminal: its master goes to the shim, its slave becomes the process' 0, 1 and 2. */
static void take_terminal(const char *socket_path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char byte = 0, name[64], control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec io = {&byte, 1};
	struct msghdr msg = {.msg_iov = &io,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0, n, fd;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCGPTN, &n) < 0)
		fail(1, "no terminal");
	snprintf(name, sizeof(name), "/dev/pts/%d", n);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", socket_path);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &master, sizeof(int));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || sendmsg(fd, &msg, 0) < 0)
		fail(1, "the console socket takes no terminal");
	close(fd);
	fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	close(fd);
	close(master);
}

static int go = -1; /* where the process waits for permission to run */

/* The process, in the group of its container, and in no window of time in another: a group is left
 * to whoever makes the process, who then goes back to its own. */
static pid_t make(pid_t group, bool own_pids, const char *pid_file, bool waits)
{
	pid_t back = getpgrp(), pid;
	sigset_t set;
	int pipe_fds[2];
	long flags = SIGCHLD;

	if (!number("orphan"))
		flags |= CLONE_PARENT;
	if (own_pids)
		flags |= CLONE_NEWPID;
	sigemptyset(&set);
	sigaddset(&set, SIGNAL_START);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		fail(1, "no pipe can be made");
	if (setpgid(0, group) < 0)
		fail(1, "cannot exec in a stopped container");
	state.group = getpgrp();
	rest(number(of_verb("between")));
	pid = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
	if (pid == 0) {
		close(pipe_fds[1]);
		if (is("pid", "late") && pid_file) {
			rest(20000);
			write_pid_file(pid_file, getpid());
		}
		live(pipe_fds[0], waits);
	}
	setpgid(0, back);
	if (pid < 0)
		fail(1, "no process can be made");
	close(pipe_fds[0]);
	go = pipe_fds[1];
	return pid;
}

/* The process is known to all who must know it: it may run. */
static void release(void)
{
	say(go, "x");
	close(go);
}

/* Its parent reaps it. */
static void outlive(pid_t pid)
{
	while (number(of_verb("outlive")) && kill(pid, 0) == 0)
		rest(1000);
}

static void create(const char *pid_file, const char *console, bool own_pids, bool started)
{
	if (console)
		take_terminal(console);
	state.init = make(0, own_pids, pid_file, !started && !number("now"));
	state.started = started;
	state_write(O_WRONLY | O_CREAT | O_EXCL, &state, offsetof(struct state, execs));
	release();
	if (!is("pid", "late"))
		write_pid_file(pid_file, state.init);
	outlive(state.init);
}

static void enter_pids(void)
{
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", state.init);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWPID) < 0)
		fail(1, "cannot exec in a stopped container");
	close(fd);
}

static void exec_in(const char *pid_file, const char *console, bool own_pids)
{
	pid_t pid;

	load();
	if (!ours(state.init))
		fail(1, "cannot exec in a stopped container");
	if (own_pids)
		enter_pids();
	if (console)
		take_terminal(console);
	pid = make(state.group, false, pid_file, false);
	state_write(O_WRONLY | O_APPEND, &pid, sizeof(pid));
	release();
	if (!is("pid", "late"))
		write_pid_file(pid_file, pid);
	outlive(pid);
}

static void start(void)
{
	load();
	if (state.started)
		fail(1, "cannot start an already running container");
	if (!ours(state.init) || kill(state.init, SIGNAL_START) < 0)
		fail(1, "cannot start a container that has stopped");
	state.started = 1;
	state_write(O_WRONLY, &state, offsetof(struct state, execs));
}

static void delete (bool force)
{
	if (!state_read()) {
		if (force)
			return;
		fail(1, "container does not exist");
	}
	if (ours(state.init)) {
		/* What has ended, but was not waited for, does not run any more. */
		char stat[512], *end;

		snprintf(path, sizeof(path), "/proc/%d/stat", state.init);
		slurp(path, stat, sizeof(stat));
		end = strrchr(stat, ')');
		if (end && strncmp(end, ") Z", 3) != 0) {
			if (state.started && !force)
				fail(1, "cannot delete container that is not stopped");
			if (!number("delete.late")) {
				signal_all(SIGKILL);
			} else if (fork() == 0) {
				rest(number("delete.late"));
				kill(state.init, SIGKILL);
				_exit(0);
			}
		}
	}
	state_path();
	unlink(path);
}

static void signal_container(const char *name, bool all)
{
	load();
	if (all)
		signal_all(atoi(name));
	else if (!ours(state.init) || kill(state.init, atoi(name)) < 0)
		fail(1, "container not running");
}

static void list(void)
{
	load();
	say(STDOUT_FILENO, "[");
	dprintf(STDOUT_FILENO, "%d", state.init);
	for (int i = 0; i < execs; i++)
		if (ours(state.execs[i]))
			dprintf(STDOUT_FILENO, ",%d", state.execs[i]);
	say(STDOUT_FILENO, "]");
}

static void checkpoint(const char *image, char *work, bool leave)
{
	char *slash = strrchr(work, '/');
	int fd;

	load();
	mkdir(image, 0700);
	if (slash) { /* CRIU's log lies there */
		*slash = '\0';
		mkdir(work, 0700);
		*slash = '/';
		mkdir(work, 0700);
		snprintf(path, sizeof(path), "%s/dump.log", work);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			fail(1, "the log cannot be written");
		close(fd);
	}
	if (!leave)
		signal_all(SIGKILL);
}

static void update(void)
{
	const char *file = file_beside("update.in");
	int fd = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
	char buf[4096];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
		if (fd >= 0 && write(fd, buf, (size_t)n) != n)
			_exit(1);
	if (fd >= 0)
		close(fd);
}

/* ---- the command line ---- */

static const char *const with_value[] = {
	"--root",        "--log",      "--log-format", "--bundle",    "-b",
	"--pid-file",    "--process",  "--image-path", "--work-path", "--console-socket",
	"--parent-path", "--empty-ns",
};

static bool has_value(const char *option)
{
	for (size_t i = 0; i < sizeof(with_value) / sizeof(with_value[0]); i++)
		if (strcmp(option, with_value[i]) == 0)
			return true;
	return false;
}

static void misbehave_before(void)
{
	long us = number(of_verb("leak"));

	rest(number(of_verb("wait")));
	make_noise(number(of_verb("noise")));
	if (us && fork() == 0) {
		rest(us);
		_exit(0);
	}
	if (number(of_verb("stop")))
		raise(SIGSTOP);
	while (number(of_verb("hang")))
		pause();
	if (number(of_verb("signal")))
		kill(getpid(), (int)number(of_verb("signal")));
	if (number(of_verb("fail"))) {
		char text[64];

		snprintf(text, sizeof(text), "%s refused", verb);
		fail((int)number(of_verb("fail")), text);
	}
}

static void work(const char *pid_file, const char *console, const char *image, char *work_path,
		 const char *sig, bool force, bool all, bool leave, bool own_pids)
{
	if (strcmp(verb, "create") == 0)
		create(pid_file, console, own_pids, false);
	else if (strcmp(verb, "restore") == 0)
		create(pid_file, console, own_pids, true);
	else if (strcmp(verb, "exec") == 0)
		exec_in(pid_file, console, own_pids);
	else if (strcmp(verb, "start") == 0)
		start();
	else if (strcmp(verb, "kill") == 0)
		signal_container(sig, all);
	else if (strcmp(verb, "delete") == 0)
		delete (force);
	else if (strcmp(verb, "ps") == 0)
		list();
	else if (strcmp(verb, "checkpoint") == 0)
		checkpoint(image, work_path, leave);
	else if (strcmp(verb, "update") == 0)
		update();
	else if (strcmp(verb, "features") == 0)
		say(STDOUT_FILENO, "{\"ociVersionMin\":\"1.0.0\"}");
	else if (strcmp(verb, "pause") == 0 || strcmp(verb, "resume") == 0 ||
		 strcmp(verb, "state") == 0)
		load();
	else
		fail(1, "no such command");
}

int main(int argc, char **argv)
{
	const char *pid_file = NULL, *process = NULL, *console = NULL, *sig = "15", *image = "";
	bool force = false, all = false, leave = false, own_pids;
	char work_path[1024] = "", elsewhere[4096], **call = argv;
	int positional = 0;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *value = has_value(a) && argv[i + 1] ? argv[++i] : "";

		if (strcmp(a, "--root") == 0)
			root = value;
		else if (strcmp(a, "--log") == 0)
			log_file = value;
		else if (strcmp(a, "--pid-file") == 0)
			pid_file = value;
		else if (strcmp(a, "--process") == 0)
			process = value;
		else if (strcmp(a, "--console-socket") == 0)
			console = value;
		else if (strcmp(a, "--image-path") == 0)
			image = value;
		else if (strcmp(a, "--work-path") == 0)
			snprintf(work_path, sizeof(work_path), "%s", value);
		else if (strcmp(a, "--force") == 0)
			force = true;
		else if (strcmp(a, "--all") == 0)
			all = true;
		else if (strcmp(a, "--leave-running") == 0)
			leave = true;
		else if (a[0] != '-') {
			if (positional == 0)
				call = argv + i;
			*(const char **[]){&verb, &id, &sig}[positional++ % 3] = a;
		}
	}
	find_link(argv[0]);
	note_call(call);
	for (int fd = 3; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			fail(1, "a descriptor has leaked");
	own_pids = learn("config.json");
	if (process)
		learn(process);
	own_pids &= !number("host");
	if (is("state", "elsewhere")) {
		snprintf(elsewhere, sizeof(elsewhere), "%s-elsewhere", root);
		root = elsewhere;
	}
	if (is("console", "none"))
		console = NULL;
	wait_at("gate");
	fail_as_told();
	misbehave_before();
	if (!number(of_verb("skip")))
		work(pid_file, console, image, work_path, sig, force, all, leave, own_pids);
	wait_at("behind.gate");
	if (number(of_verb("die")))
		kill(getpid(), (int)number(of_verb("die")));
	rest(number(of_verb("after")));
	return 0;
}
