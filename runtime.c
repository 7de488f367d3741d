// SPDX-License-Identifier: Apache-2.0
/*
 * runtime.c - running the OCI runtime: the one place that makes processes.
 *
 * A run is a child of the daemon like any other: it is started here, ends whenever it ends, and the
 * reaper hands its status to whoever started it. What it prints goes into a memory file rather than
 * a pipe, so there is nothing to read while it runs, nobody to wait for if it leaks the descriptor
 * to a process that lives on, and nothing lost; seals keep that file small.
 *
 * Why a run failed is best known by the runtime itself, which appends a line of JSON to log.json;
 * the file lives as long as its bundle, so its size before the run tells which lines are this
 * run's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim.h"

#define SIGNALS 64       /* of the kernel */
#define OUTPUT_MAX 65536 /* of a runtime's own messages; what it prints beyond is refused to it */
#define LOG_MAX 65536    /* of log.json, from its end */

extern char **environ;

struct daemon self;

/* ---- making processes ---- */

/* The kernel's struct sigaction for SIG_DFL: all zeros. musl keeps its hands off signals 32 to 34, so
 * the kernel is asked itself. */
struct disposition {
	unsigned long words[8];
};

/* A bit for each signal that is not at its default: those that we handle, and those that whoever
 * started containerd had ignored, or that posix_spawn(3) has left so. Nothing changes that once the
 * first process is made, so the kernel is asked only then. */
static uint64_t not_default(void)
{
	static uint64_t found;
	static bool asked;
	struct disposition d;

	for (unsigned int sig = 1; !asked && sig <= SIGNALS; sig++)
		if (syscall(SYS_rt_sigaction, sig, NULL, &d, SIGNALS / 8) == 0 && d.words[0])
			found |= UINT64_C(1) << (sig - 1);
	asked = true;
	return found;
}

/* A descriptor that stands in the way of the first `count` ones moves behind them. */
static int behind(int fd, int count)
{
	return fd >= 0 && fd < count ? fcntl(fd, F_DUPFD_CLOEXEC, count) : fd;
}

/* Between vfork() and execve(): the daemon's memory, nobody else's. Only system calls. */
static int become(const struct spawn *s, pid_t parent, uint64_t signals)
{
	static const struct disposition dfl;
	int from[8], null = -1;
	sigset_t none;

	/* Handlers write to the daemon's variables: they go before the signals may come. */
	for (unsigned int sig = 1; signals; sig++, signals >>= 1)
		if (signals & 1)
			syscall(SYS_rt_sigaction, sig, &dfl, NULL, SIGNALS / 8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (self.files.rlim_max)
		prlimit(0, RLIMIT_NOFILE, &self.files, NULL);
	if (!s->outlives_us) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			return ECHILD;
	}
	/* First out of the way of the targets, then into place. */
	for (int i = 0; i < s->fd_count; i++) {
		if (s->fds[i] < 0 && null < 0)
			null = behind(file_open("/dev/null", O_RDWR, 0), s->fd_count);
		from[i] = s->fds[i] < 0 ? null : behind(s->fds[i], s->fd_count);
		if (from[i] < 0)
			return errno;
	}
	for (int i = 0; i < s->fd_count; i++)
		if (dup2(from[i], i) < 0)
			return errno;
	if (s->cwd && chdir(s->cwd) < 0 && chdir("/") < 0)
		return errno;
	execve(s->path, (char *const *)s->argv, s->env ? (char *const *)s->env : environ);
	return errno;
}

pid_t spawn(const struct spawn *s)
{
	uint64_t signals = s->is_daemon ? 0 : not_default();
	pid_t parent = getpid(), pid;
	volatile int failure = 0; /* written by the child, in our memory */

	pid = vfork();
	if (pid == 0) {
		failure = become(s, parent, signals);
		_exit(127);
	}
	if (pid < 0)
		return -errno;
	if (failure) {
		waitpid(pid, NULL, 0); /* it has ended, or is about to */
		return -failure;
	}
	return pid;
}

int find_binary(const char *name, struct text *path)
{
	const char *env = getenv("PATH");
	struct view dirs =
		view_of(env ? env : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

	if (strchr(name, '/')) {
		text_add(path, view_of(name));
		return 0;
	}
	while (dirs.len > 0) {
		struct view dir = view_cut(&dirs, ':');
		struct stat st;

		path->len = 0;
		path->cut = false;
		text_printf(path, "%.*s/%s", VIEW_FMT(dir), name);
		if (dir.len > 0 && !path->cut && access(path->at, X_OK) == 0 &&
		    stat(path->at, &st) == 0 && S_ISREG(st.st_mode))
			return 0;
	}
	return -ENOENT;
}

pid_t pid_file_read(const char *path)
{
	char buf[32];
	ssize_t n = file_line(path, buf, sizeof(buf));
	int pid;

	if (n < 0)
		return (pid_t)n;
	pid = view_int((struct view){buf, (size_t)n});
	return pid > 0 ? pid : -EINVAL;
}

/* ---- a run ---- */

/* A file in memory, holding `content`. */
static int memory_file(struct view content)
{
	int fd = memfd_create("nanoshim", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (write_all(fd, content) < 0 || lseek(fd, 0, SEEK_SET) < 0))
		fd_close(&fd);
	return fd;
}

static int output_file(void)
{
	int fd = memory_file((struct view){0});

	if (fd >= 0 && ftruncate(fd, OUTPUT_MAX) == 0)
		fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK);
	return fd;
}

static void log_path(const struct runtime *rt, struct text *t)
{
	text_printf(t, "%s/log.json", rt->bundle);
}

void run_start(struct run *run, const struct runtime *rt, const char *const *args, const int *stdio,
	       struct view input)
{
	struct text t = TEXT(scratch.args), path;
	const char *argv[ARGS_MAX + 10];
	int captured[3] = {-1, -1, -1}, n = 0;
	struct spawn s = {
		.argv = argv, .cwd = rt->bundle, .fds = stdio ? stdio : captured, .fd_count = 3};
	struct stat st;

	*run = (struct run){.output = -1};
	argv[n++] = rt->binary;
	argv[n++] = "--root";
	argv[n++] = t.at;
	text_printf(&t, "%s/%s", rt->root, self.namespace);
	argv[n++] = "--log";
	argv[n++] = text_next(&t);
	log_path(rt, &t);
	run->log_end = stat(argv[n - 1], &st) == 0 ? st.st_size : 0;
	argv[n++] = "--log-format";
	argv[n++] = "json";
	if (rt->systemd_cgroup)
		argv[n++] = "--systemd-cgroup";
	for (int i = 0; args[i] && n < (int)COUNT(argv) - 1; i++)
		argv[n++] = args[i];
	argv[n] = NULL;

	s.path = text_next(&t);
	path = (struct text){.at = t.at + t.len, .cap = t.cap - t.len};
	run->error = t.cut ? -ENAMETOOLONG : find_binary(rt->binary, &path);
	if (run->error == 0 && path.cut)
		run->error = -ENAMETOOLONG;
	if (run->error < 0)
		return;
	if (!stdio) {
		captured[1] = captured[2] = run->output = output_file();
		if (input.len > 0)
			captured[0] = memory_file(input);
		if (run->output < 0 || (input.len > 0 && captured[0] < 0)) {
			run->error = -errno;
			fd_close(&captured[0]);
			return;
		}
	}
	run->pid = spawn(&s);
	if (!stdio)
		fd_close(&captured[0]);
	if (run->pid < 0) {
		run->error = run->pid;
		run->pid = 0;
	}
	log_line(LOG_DEBUG, "%s %s: pid %d", rt->binary, args[0], run->pid);
}

bool run_failed(const struct run *run)
{
	return run->error < 0 || !WIFEXITED(run->status) || WEXITSTATUS(run->status) != 0;
}

bool run_knows(const struct runtime *rt, const char *id)
{
	char buf[1024];
	struct text state = TEXT(buf);

	text_printf(&state, "%s/%s/%s", rt->root, self.namespace, id);
	return !state.cut && access(state.at, F_OK) == 0;
}

void run_close(struct run *run)
{
	fd_close(&run->output);
	run->pid = 0;
}

void run_ending(const struct run *run, const struct runtime *rt, struct text *t)
{
	if (run->error == -ENOENT && !strchr(rt->binary, '/')) {
		text_printf(t, "exec: \"%s\": executable file not found in $PATH", rt->binary);
	} else if (run->error < 0) {
		text_printf(t, "fork/exec %s: %s", rt->binary, errno_text(-run->error));
	} else {
		text_printf(t, "%s did not terminate successfully: exit status %d", rt->binary,
			    WIFSIGNALED(run->status) ? 128 + WTERMSIG(run->status)
						     : WEXITSTATUS(run->status));
		if (run->output >= 0) {
			char buf[1024];
			ssize_t n = pread(run->output, buf, sizeof(buf), 0);

			text_add(t, VIEW(": "));
			text_add(t, (struct view){buf, n > 0 ? strnlen(buf, (size_t)n) : 0});
		}
	}
}

/* An entry of log.json is one line; newer releases of crun spread it over several, of which only the
 * first and the last are not indented. */
static struct view log_entry(struct view *lines)
{
	struct view entry = view_cut(lines, '\n'), line = entry;

	if (!view_is(entry, "{"))
		return entry;
	while (lines->len > 0 && !view_is(line, "}") && lines->at[0] != '{')
		line = view_cut(lines, '\n');
	entry.len = (size_t)(line.at + line.len - entry.at);
	return entry;
}

/* The message of the last error among the entries of log.json. */
static bool last_error(struct view lines, struct text *t)
{
	size_t start = t->len;
	bool found = false;

	while (lines.len > 0) {
		struct json j;

		if (json_open(&j, log_entry(&lines)) < 0)
			continue;
		if (view_is(json_raw(&j, json_get(&j, 0, "level")), "error")) {
			struct view msg;

			t->len = start;
			t->cut = false;
			json_string(&j, json_get(&j, 0, "msg"), t);
			msg = view_trim((struct view){t->at + start, t->len - start});
			memmove(t->at + start, msg.at, msg.len);
			t->len = start + msg.len;
			t->at[t->len] = '\0';
			found = msg.len > 0;
		}
		json_close(&j);
	}
	return found;
}

void run_reason(const struct run *run, const struct runtime *rt, const char *prefix, struct text *t)
{
	char path_buf[1024], *buf = pages_get(LOG_MAX);
	struct text path = TEXT(path_buf);
	ssize_t n = -1;
	int fd, err;

	text_printf(t, "%s: ", prefix);
	log_path(rt, &path);
	fd = file_open(path.at, O_RDONLY | O_NONBLOCK, 0);
	err = -errno;
	if (fd >= 0 && buf) {
		off_t end = lseek(fd, 0, SEEK_END);
		off_t start = end - run->log_end > LOG_MAX ? end - LOG_MAX : run->log_end;

		n = pread(fd, buf, LOG_MAX, start);
		err = -errno;
	}
	fd_close(&fd);
	if (n < 0) {
		text_printf(t, "unable to retrieve OCI runtime error (open %s: %s): ", path.at,
			    errno_text(-err));
		run_ending(run, rt, t);
	} else if (!last_error((struct view){buf, (size_t)n}, t)) {
		run_ending(run, rt, t);
	}
	pages_put(buf, LOG_MAX);
}
