// SPDX-License-Identifier: Apache-2.0
/*
 * runtime.c's tests: what a child finds when it begins, and what is made of its end. The runtimes
 * are shell scripts written for each case; what a child finds is told by this program itself, called
 * as `--report FILE`.
 */
#include "unit.h"

#include <sys/prctl.h>

extern char **environ;

static int setup(void **state)
{
	self.namespace = "ns";
	self.runtime = "runc";
	return tmp_make(state);
}

/* ---- the child ---- */

static int report(const char *path)
{
	FILE *f = fopen(path, "we");
	char link[256], name[32];
	sigset_t mask;
	int deathsig = -1;

	if (!f)
		return 1;
	for (int fd = 0; fd < 32; fd++) {
		ssize_t n;

		if (fd == fileno(f))
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, link, sizeof(link) - 1);
		if (n < 0)
			continue;
		link[n] = '\0';
		fprintf(f, "fd %d %s%s\n", fd, link,
			(fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR ? " rw" : "");
	}
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int sig = 1; sig < 32; sig++) {
		struct sigaction sa = {.sa_handler = SIG_DFL};

		sigaction(sig, NULL, &sa);
		if (sigismember(&mask, sig))
			fprintf(f, "blocked %d\n", sig);
		if (sa.sa_handler == SIG_IGN)
			fprintf(f, "ignored %d\n", sig);
	}
	prctl(PR_GET_PDEATHSIG, &deathsig);
	fprintf(f, "deathsig %d\n", deathsig);
	if (getcwd(link, sizeof(link)))
		fprintf(f, "cwd %s\n", link);
	for (char **e = environ; *e; e++)
		fprintf(f, "env %s\n", *e);
	return fclose(f) != 0;
}

static int wait_for(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_no_children(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static const char *reported(const struct spawn *like)
{
	char path[128];
	const char *argv[] = {"reporter", "--report", path, NULL};
	char program[256] = ""; /* under valgrind /proc/self/exe is this only for readlink(2) */
	struct spawn s = *like;

	assert_true(readlink("/proc/self/exe", program, sizeof(program) - 1) > 0);
	snprintf(path, sizeof(path), "%s", in_tmp("report"));
	s.path = program;
	s.argv = argv;
	assert_int_equal(wait_for(spawn(&s)), 0);
	return file_text("report");
}

static bool has_line(const char *text, const char *line)
{
	struct view rest = view_of(text);

	while (rest.len > 0)
		if (view_is(view_cut(&rest, '\n'), line))
			return true;
	return false;
}

static unsigned int count_fds(const char *text)
{
	struct view rest = view_of(text);
	unsigned int n = 0;

	while (rest.len > 0)
		n += view_starts(view_cut(&rest, '\n'), "fd ");
	return n;
}

/* A descriptor that can be told from others by its name. */
static int named_fd(char name)
{
	char text[2] = {name, '\0'};
	int fd = (int)syscall(SYS_memfd_create, text, 1);

	assert_true(fd >= 0);
	return fd;
}

/* `names`: one character for each fd of the child, '-' for /dev/null. */
static void check_placement(const int *fds, const char *names)
{
	const struct spawn s = {.fds = fds, .fd_count = (int)strlen(names)};
	const char *text = reported(&s);
	char line[64];

	for (int i = 0; names[i]; i++) {
		if (names[i] == '-')
			snprintf(line, sizeof(line), "fd %d /dev/null rw", i);
		else
			snprintf(line, sizeof(line), "fd %d /memfd:%c (deleted) rw", i, names[i]);
		if (!has_line(text, line))
			fail_msg("no \"%s\" in:\n%s", line, text);
	}
	assert_int_equal(count_fds(text), strlen(names));
}

/* Every order of descriptors that stand in each other's place. */
static void fds_in_any_order(void **state)
{
	int fds[4], low[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		fds[i] = named_fd((char)('A' + i));
	assert_in_range(fds[0], 3, 8);
	for (int n = 0; n < 4 * 4 * 4 * 4; n += 7) {
		int pick[6] = {n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 & 3, n & 1, 3};
		int want[6];
		char names[7] = "";

		for (int i = 0; i < 6; i++) {
			want[i] = fds[pick[i]];
			names[i] = (char)('A' + pick[i]);
		}
		check_placement(want, names);
	}
	/* As a daemon has them whose standard streams were closed. */
	for (int i = 0; i < 3; i++)
		low[i] = fcntl(i, F_DUPFD_CLOEXEC, 20);
	for (int i = 0; i < 3; i++)
		assert_int_equal(dup3(fds[i], i, O_CLOEXEC), i);
	check_placement((const int[]){2, 0, 1}, "CAB");
	check_placement((const int[]){0, 1, 2}, "ABC");
	check_placement((const int[]){1, 1, 0, 2, -1, fds[3]}, "BBAC-D");
	close(0);
	check_placement((const int[]){-1, 2, 1}, "-CB");
	check_placement((const int[]){2, -1, -1, 1}, "C--B");
	close(1);
	close(2);
	check_placement((const int[]){-1, -1, -1}, "---");
	check_placement((const int[]){fds[3], fds[3], -1, -1, fds[0]}, "DD--A");
	for (int i = 0; i < 3; i++) {
		dup2(low[i], i);
		close(low[i]);
	}
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

static void nothing_else_is_open(void **state)
{
	int extra = open("/dev/zero", O_RDONLY | O_CLOEXEC), pipes[2];

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	check_placement((const int[]){-1, -1, -1}, "---");
	close(extra);
	close(pipes[0]);
	close(pipes[1]);
}

/* Signals are as a program expects them, whatever the daemon has done to its own, and whoever has
 * started it (main() here). Only the daemon itself gets them as they are. */
static void signals_reset(void **state)
{
	struct spawn s = {.fds = (const int[]){-1, -1, -1}, .fd_count = 3};
	sigset_t old;

	(void)state;
	sigprocmask(SIG_SETMASK, NULL, &old);
	loop_init();
	{
		const char *text = reported(&s);

		assert_null(strstr(text, "blocked"));
		assert_null(strstr(text, "ignored"));
	}
	s.is_daemon = true;
	assert_true(has_line(reported(&s), "ignored 1"));
	sigprocmask(SIG_SETMASK, &old, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
}

static void directory_and_environment(void **state)
{
	const char *const env[] = {"A=1", "B=two words", NULL};
	struct spawn s = {
		.fds = (const int[]){-1, -1, -1}, .fd_count = 3, .cwd = "/usr/bin", .env = env};
	const char *text;
	char line[600];

	(void)state;
	text = reported(&s);
	assert_true(has_line(text, "cwd /usr/bin"));
	assert_true(has_line(text, "env A=1"));
	assert_true(has_line(text, "env B=two words"));
	assert_null(strstr(text, "env PATH="));
	/* Ours by default; and where the bundle has gone, the root. */
	s.env = NULL;
	s.cwd = NULL;
	setenv("NANOSHIM_UNIT", "is here", 1);
	text = reported(&s);
	assert_true(has_line(text, "env NANOSHIM_UNIT=is here"));
	snprintf(line, sizeof(line), "cwd %s", getcwd(line + 100, 400));
	assert_true(has_line(text, line));
	s.cwd = in_tmp("gone");
	assert_true(has_line(reported(&s), "cwd /"));
	unsetenv("NANOSHIM_UNIT");
}

static void death_signal(void **state)
{
	struct spawn s = {.fds = (const int[]){-1, -1, -1}, .fd_count = 3};

	(void)state;
	assert_true(has_line(reported(&s), "deathsig 9"));
	s.outlives_us = true;
	assert_true(has_line(reported(&s), "deathsig 0"));
}

static bool is_program(pid_t pid, const char *name)
{
	char path[64], text[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	n = file_read(path, text, sizeof(text));
	return n > 0 && view_is(view_trim((struct view){text, (size_t)n}), name);
}

/* When the daemon is killed, so is its runtime; not so the daemon that `start` leaves behind. */
static void dies_with_us(void **state)
{
	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (int outlives = 0; outlives < 2; outlives++) {
		int fds[2], status;
		pid_t daemon, child;

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		daemon = fork();
		if (daemon == 0) {
			const char *const argv[] = {"sleep", "1000", NULL};
			const struct spawn s = {.path = "/bin/sleep",
						.argv = argv,
						.fds = (const int[]){-1, -1, -1},
						.fd_count = 3,
						.outlives_us = outlives};

			alarm((unsigned int)(guard_ms() / 1000));
			child = spawn(&s);
			/* Without a vfork(2) it is not yet what it will be. */
			while (!is_program(child, "sleep"))
				usleep(1000);
			if (write(fds[1], &child, sizeof(child)) != sizeof(child))
				_exit(1);
			_exit(0);
		}
		assert_int_equal(read(fds[0], &child, sizeof(child)), sizeof(child));
		close(fds[0]);
		close(fds[1]);
		assert_int_equal(wait_for(daemon), 0);
		if (outlives) {
			assert_int_equal(waitpid(child, &status, WNOHANG), 0);
			kill(child, SIGTERM);
			status = wait_for(child);
			assert_int_equal(WTERMSIG(status), SIGTERM);
		} else {
			status = wait_for(child);
			assert_int_equal(WTERMSIG(status), SIGKILL);
		}
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void not_started(void **state)
{
	const char *const argv[] = {"x", NULL};
	struct spawn s = {.argv = argv, .fds = (const int[]){-1, -1, -1}, .fd_count = 3};
	unsigned int fds = open_fds();

	(void)state;
	if (EMULATED())
		skip();
	make_file("text", "no program\n", 0755);
	make_file("mode", "#!/bin/sh\n", 0644);
	make_file("interpreter", "#!/no/such/interpreter\n", 0755);
	s.path = in_tmp("none");
	assert_int_equal(spawn(&s), -ENOENT);
	s.path = in_tmp("text");
	assert_int_equal(spawn(&s), -ENOEXEC);
	s.path = in_tmp("mode");
	assert_int_equal(spawn(&s), -EACCES);
	s.path = in_tmp("interpreter");
	assert_int_equal(spawn(&s), -ENOENT);
	s.path = in_tmp("text/x");
	assert_int_equal(spawn(&s), -ENOTDIR);
	s.path = tmp;
	assert_int_equal(spawn(&s), -EACCES);
	s.path = "/bin/true";
	s.fds = (const int[]){-1, 900, -1};
	assert_int_equal(spawn(&s), -EBADF);
	s.fds = (const int[]){2, 1, 0};
	assert_int_equal(wait_for(spawn(&s)), 0);
	assert_no_children();
	assert_int_equal(open_fds(), fds);
}

/* ---- finding things ---- */

static void binaries_found(void **state)
{
	char buf[1024], path[512], expected[512], name[1100];
	struct text t = TEXT(buf);
	const char *old = getenv("PATH");
	char *saved = strdup(old ? old : "");

	(void)state;
	assert_int_equal(mkdir(in_tmp("bin1"), 0755), 0);
	assert_int_equal(mkdir(in_tmp("bin2"), 0755), 0);
	assert_int_equal(mkdir(in_tmp("bin1/directory"), 0755), 0);
	make_file("bin1/plain", "x", 0644);
	make_file("bin2/plain", "x", 0755);
	make_file("bin2/directory", "x", 0755);
	make_file("bin1/both", "x", 0755);
	make_file("bin2/both", "x", 0755);
	snprintf(path, sizeof(path), ":/no/such:%s::%s:", in_tmp("bin1"), in_tmp("bin2"));
	setenv("PATH", path, 1);
	for (const char *const *n = (const char *const[]){"plain", "directory", "both", NULL}; *n;
	     n++) {
		snprintf(expected, sizeof(expected), "%s/bin%d/%s", tmp,
			 strcmp(*n, "both") == 0 ? 1 : 2, *n);
		t = TEXT(buf);
		assert_int_equal(find_binary(*n, &t), 0);
		assert_string_equal(buf, expected);
		assert_int_equal(t.len, strlen(expected));
	}
	assert_int_equal(find_binary("nanoshim-has-no-such-program", &t), -ENOENT);
	/* With a slash in it, it is a path, whether there is such a file or not. */
	t = TEXT(buf);
	assert_int_equal(find_binary("/no/such/program", &t), 0);
	assert_string_equal(buf, "/no/such/program");
	t = TEXT(buf);
	assert_int_equal(find_binary("./program", &t), 0);
	assert_string_equal(buf, "./program");
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	t = TEXT(buf);
	assert_int_equal(find_binary(name, &t), -ENOENT);
	unsetenv("PATH");
	t = TEXT(buf);
	assert_int_equal(find_binary("sh", &t), 0);
	assert_int_equal(access(buf, X_OK), 0);
	setenv("PATH", "", 1);
	assert_int_equal(find_binary("sh", &t), -ENOENT);
	setenv("PATH", saved, 1);
	free(saved);
}

static void pid_files(void **state)
{
	static const struct {
		const char *text;
		pid_t pid;
	} cases[] = {
		{"1", 1},
		{"4711", 4711},
		{"4194304", 4194304},
		{"", -EINVAL},
		{"0", -EINVAL},
		{"-5", -EINVAL},
		{"12a", -EINVAL},
		{" 12", -EINVAL},
		{"4711\n", -EINVAL}, /* strconv.Atoi says so, too */
		{"99999999999", -EINVAL},
		{"00000000000000000000000000000001", -EFBIG},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		make_file("pid", cases[i].text, 0644);
		assert_int_equal(pid_file_read(in_tmp("pid")), cases[i].pid);
	}
	assert_int_equal(pid_file_read(in_tmp("none")), -ENOENT);
	assert_int_equal(pid_file_read(tmp), -EISDIR);
}

/* ---- runs ---- */

static char reason[20000];

static struct runtime fake(const char *script)
{
	static char binary[256], bundle[256];
	char text[4096];

	snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", script);
	make_file("rt", text, 0755);
	snprintf(binary, sizeof(binary), "%s", in_tmp("rt"));
	snprintf(bundle, sizeof(bundle), "%s", tmp);
	unlink(in_tmp("log.json"));
	return (struct runtime){.binary = binary, .root = "/the/root", .bundle = bundle};
}

/* Runs it to its end. */
static struct run finish(const struct runtime *rt, struct view input)
{
	const char *const args[] = {"verb", "an argument", NULL};
	struct run run;

	run_start(&run, rt, args, NULL, input);
	if (run.pid > 0)
		run.status = wait_for(run.pid);
	return run;
}

static const char *ending(const struct run *run, const struct runtime *rt)
{
	struct text t = TEXT(reason);

	run_ending(run, rt, &t);
	return reason;
}

static const char *why(const struct run *run, const struct runtime *rt)
{
	struct text t = TEXT(reason);

	run_reason(run, rt, "OCI runtime test failed", &t);
	reason[t.len] = '\0';
	return reason;
}

static void assert_text(const char *text, const char *fmt, const char *insert)
{
	char expected[2048];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(expected, sizeof(expected), fmt, insert, insert);
#pragma GCC diagnostic pop
	assert_string_equal(text, expected);
}

static void arguments(void **state)
{
	struct runtime rt = fake("for a; do echo \"$a\"; done >args; pwd >cwd");
	struct run run = finish(&rt, (struct view){0});

	(void)state;
	assert_false(run_failed(&run));
	assert_text(
		file_text("args"),
		"--root\n/the/root/ns\n--log\n%s/log.json\n--log-format\njson\nverb\nan argument\n",
		tmp);
	assert_text(file_text("cwd"), "%s\n", tmp);
	run_close(&run);
	rt.systemd_cgroup = true;
	run = finish(&rt, (struct view){0});
	assert_non_null(strstr(file_text("args"), "json\n--systemd-cgroup\nverb\n"));
	run_close(&run);
	assert_int_equal(run.output, -1);
	run_close(&run); /* twice is fine */
	assert_no_children();
}

static void found_in_path(void **state)
{
	struct runtime rt = fake("echo \"$0\" >name");
	char path[1024], *saved = strdup(getenv("PATH") ? getenv("PATH") : "");
	struct run run;

	(void)state;
	snprintf(path, sizeof(path), "/no/such:%s:%s", tmp, saved);
	setenv("PATH", path, 1);
	rt.binary = "rt";
	run = finish(&rt, (struct view){0});
	assert_false(run_failed(&run));
	assert_text(file_text("name"), "%s/rt\n", tmp);
	run_close(&run);
	setenv("PATH", saved, 1);
	free(saved);
}

static void input_and_output(void **state)
{
	static char large[1 << 20];
	struct runtime rt = fake("echo before; cat >input; echo error >&2; echo behind");
	struct run run = finish(&rt, VIEW("some\0input"));
	char buf[64];

	(void)state;
	assert_false(run_failed(&run));
	assert_int_equal(file_read(in_tmp("input"), buf, sizeof(buf)), 10);
	assert_memory_equal(buf, "some\0input", 10);
	assert_true(pread(run.output, buf, sizeof(buf), 0) > 0);
	assert_string_equal(buf, "before\nerror\nbehind\n");
	run_close(&run);
	memset(large, 'i', sizeof(large));
	run = finish(&rt, (struct view){large, sizeof(large)});
	assert_int_equal(system("test $(wc -c </dev/null) = 0"), 0);
	{
		struct stat st;

		assert_int_equal(stat(in_tmp("input"), &st), 0);
		assert_int_equal(st.st_size, sizeof(large));
	}
	run_close(&run);
	run = finish(&rt, (struct view){0}); /* none: /dev/null */
	assert_string_equal(file_text("input"), "");
	run_close(&run);
}

/* With streams of the container's, nothing is captured. */
static void streams_passed_on(void **state)
{
	struct runtime rt = fake("echo out; echo err >&2; test -z \"$(cat)\"");
	const char *const args[] = {"create", NULL};
	int out[2], err[2];
	char buf[32] = "";
	struct run run;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
	run_start(&run, &rt, args, (const int[]){-1, out[1], err[1]}, (struct view){0});
	assert_int_equal(run.output, -1);
	assert_int_equal(wait_for(run.pid), 0);
	assert_int_equal(read(out[0], buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "out\n", 4);
	assert_int_equal(read(err[0], buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "err\n", 4);
	run_close(&run);
	for (int i = 0; i < 2; i++) {
		close(out[i]);
		close(err[i]);
	}
}

/* Sealed: a runtime that prints without end is told so, and costs no more. */
static void output_is_bounded(void **state)
{
	struct runtime rt = fake(
		"head -c 200000 /dev/zero | tr '\\0' x || echo refused >refused; "
		"head -c 300000 /dev/zero >/dev/stderr; /bin/true >/dev/stdout; exit 3");
	struct run run = finish(&rt, (struct view){0});
	struct stat st;

	(void)state;
	assert_int_equal(WEXITSTATUS(run.status), 3);
	assert_int_equal(fstat(run.output, &st), 0);
	assert_int_equal(st.st_size, 65536);
	assert_int_equal(write(run.output, "x", 1), -1);
	assert_true(strlen(ending(&run, &rt)) <= 1024 + 100);
	assert_non_null(strstr(reason, "exit status 3: xxxxx"));
	run_close(&run);
}

static void endings(void **state)
{
	static const struct {
		const char *script, *text;
		bool failed;
	} cases[] = {
		{"exit 0", "%s did not terminate successfully: exit status 0: ", false},
		{"exit 1", "%s did not terminate successfully: exit status 1: ", true},
		{"exit 255", "%s did not terminate successfully: exit status 255: ", true},
		{"kill -9 $$", "%s did not terminate successfully: exit status 137: ", true},
		{"kill -15 $$", "%s did not terminate successfully: exit status 143: ", true},
		{"echo because; exit 7",
		 "%s did not terminate successfully: exit status 7: because\n", true},
		{"printf 'a\\000b'; exit 7", "%s did not terminate successfully: exit status 7: a",
		 true},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct runtime rt = fake(cases[i].script);
		struct run run = finish(&rt, (struct view){0});

		assert_int_equal(run_failed(&run), cases[i].failed);
		assert_text(ending(&run, &rt), cases[i].text, rt.binary);
		run_close(&run);
	}
}

static void binary_missing(void **state)
{
	struct runtime rt = fake("");
	struct run run;
	unsigned int fds = open_fds();

	(void)state;
	if (EMULATED())
		skip();
	rt.binary = "nanoshim-has-no-such-runtime";
	run = finish(&rt, (struct view){0});
	assert_true(run_failed(&run));
	assert_int_equal(run.pid, 0);
	assert_int_equal(run.error, -ENOENT);
	assert_string_equal(
		ending(&run, &rt),
		"exec: \"nanoshim-has-no-such-runtime\": executable file not found in $PATH");
	run_close(&run);
	rt.binary = "/no/such/runtime";
	run = finish(&rt, VIEW("input"));
	assert_true(run_failed(&run));
	assert_string_equal(ending(&run, &rt),
			    "fork/exec /no/such/runtime: no such file or directory");
	run_close(&run);
	make_file("text", "no program", 0755);
	rt.binary = in_tmp("text");
	run = finish(&rt, (struct view){0});
	assert_text(ending(&run, &rt), "fork/exec %s: exec format error", rt.binary);
	assert_non_null(
		strstr(why(&run, &rt), "/log.json: no such file or directory): fork/exec /"));
	run_close(&run);
	make_file("text", "no program", 0644);
	run = finish(&rt, (struct view){0});
	assert_text(ending(&run, &rt), "fork/exec %s: permission denied", rt.binary);
	run_close(&run);
	assert_no_children();
	assert_int_equal(open_fds(), fds);
}

/* ---- why it failed ---- */

#define PREFIX "OCI runtime test failed: "

static void assert_reason(const char *script, const char *text)
{
	struct runtime rt = fake(script);
	struct run run = finish(&rt, (struct view){0});

	assert_string_equal(why(&run, &rt), text);
	run_close(&run);
}

static void reason_from_log(void **state)
{
	(void)state;
	assert_reason("echo '{\"level\":\"error\",\"msg\":\"the reason\",\"time\":\"x\"}' "
		      ">>log.json; exit 1",
		      PREFIX "the reason");
	/* The last error counts; what is no error, or no JSON, does not. */
	assert_reason("echo '{\"level\":\"error\",\"msg\":\"first\"}\n"
		      "{\"level\":\"error\",\"msg\":\"second\"}\n"
		      "{\"level\":\"warning\",\"msg\":\"third\"}\n"
		      "no JSON\n\n{\"level\":\"error\",\"msg\":\"cut' >>log.json; exit 1",
		      PREFIX "second");
	/* Unescaped, and without white space around it. */
	assert_reason("printf '%s' '{\"level\":\"error\",\"msg\":\" \\n a \\\"b\\\" \\u00fc\\t\"}' "
		      ">>log.json; exit 1",
		      PREFIX "a \"b\" \xc3\xbc");
	assert_reason("printf '{\"level\":\"error\",\"msg\":\"no newline\"}' >>log.json; exit 1",
		      PREFIX "no newline");
	/* Entries of several lines. */
	assert_reason("printf '{\n  \"msg\": \"%s\",\n  \"level\": \"%s\"\n}\n' "
		      "first error 'the } reason' error third warning >>log.json; exit 1",
		      PREFIX "the } reason");
	assert_reason("printf '{\n  \"msg\": \"whole\",\n  \"level\": \"error\"\n}\n"
		      "{\n  \"msg\": \"cut' >>log.json; exit 1",
		      PREFIX "whole");
}

static void reason_is_of_this_run(void **state)
{
	struct runtime rt = fake("exit 4");
	struct run run;

	(void)state;
	make_file("log.json", "{\"level\":\"error\",\"msg\":\"of long ago\"}\n", 0644);
	run = finish(&rt, (struct view){0});
	assert_text(why(&run, &rt),
		    PREFIX "%s did not terminate successfully: exit status 4: ", rt.binary);
	run_close(&run);
	rt = fake("echo '{\"level\":\"error\",\"msg\":\"of now\"}' >>log.json; exit 4");
	make_file("log.json", "{\"level\":\"error\",\"msg\":\"of long ago\"}\n", 0644);
	run = finish(&rt, (struct view){0});
	assert_string_equal(why(&run, &rt), PREFIX "of now");
	run_close(&run);
	/* Somebody has made it anew, and shorter. */
	rt = fake(": >log.json; exit 4");
	make_file("log.json", "{\"level\":\"error\",\"msg\":\"of long ago\"}\n", 0644);
	run = finish(&rt, (struct view){0});
	assert_text(why(&run, &rt),
		    PREFIX "%s did not terminate successfully: exit status 4: ", rt.binary);
	run_close(&run);
}

/* A log of megabytes: its end is what is looked at. */
static void reason_at_the_end_of_much(void **state)
{
	(void)state;
	assert_reason("echo '{\"level\":\"error\",\"msg\":\"early\"}' >>log.json\n"
		      "i=0; while [ $i -lt 2000 ]; do\n"
		      "echo "
		      "'{\"level\":\"info\",\"msg\":\"............................................."
		      "...\"}'\n"
		      "i=$((i + 1)); done >>log.json\n"
		      "echo '{\"level\":\"error\",\"msg\":\"late\"}' >>log.json; exit 1",
		      PREFIX "late");
}

static void reason_too_long(void **state)
{
	struct runtime rt =
		fake("printf '{\"level\":\"error\",\"msg\":\"%030000d\"}' 0 >>log.json; exit 1");
	struct run run = finish(&rt, (struct view){0});

	(void)state;
	why(&run, &rt);
	assert_int_equal(strlen(reason), sizeof(reason) - 1);
	assert_non_null(strstr(reason, PREFIX "0000000"));
	run_close(&run);
}

static void reason_without_log(void **state)
{
	struct runtime rt = fake("echo said; exit 5");
	struct run run = finish(&rt, (struct view){0});
	char expected[1024];

	(void)state;
	snprintf(expected, sizeof(expected),
		 PREFIX "unable to retrieve OCI runtime error (open %s/log.json: no such file or "
			"directory): %s did not terminate successfully: exit status 5: said\n",
		 tmp, rt.binary);
	assert_string_equal(why(&run, &rt), expected);
	run_close(&run);
}

/* An error without a message says nothing: how it ended does. */
static void reason_that_is_empty(void **state)
{
	(void)state;
	{
		struct runtime rt =
			fake("echo '{\"level\":\"error\",\"msg\":\" \"}' >>log.json; exit 6");
		struct run run = finish(&rt, (struct view){0});

		assert_text(why(&run, &rt),
			    PREFIX "%s did not terminate successfully: exit status 6: ", rt.binary);
		run_close(&run);
	}
}

/* Trimmed, the text is shorter than what was read, and ends where it says it does. */
static void reason_is_terminated(void **state)
{
	struct text t;

	(void)state;
	{
		struct runtime rt = fake(
			"echo '{\"level\":\"error\",\"msg\":\"     short\"}' >>log.json; exit 6");
		struct run run = finish(&rt, (struct view){0});

		t = TEXT(reason);
		run_reason(&run, &rt, "x", &t);
		assert_string_equal(reason, "x: short");
		run_close(&run);
	}
}

/* Longer than any path: refused, and nothing written where it does not belong. */
static void paths_too_long(void **state)
{
	struct runtime rt = fake("");
	char *text = malloc(20000);
	struct run run;

	(void)state;
	memset(text, 'p', 20000);
	text[0] = '/';
	text[19999] = '\0';
	rt.binary = text;
	run = finish(&rt, (struct view){0});
	assert_int_equal(run.error, -ENAMETOOLONG);
	run_close(&run);
	free(text);
}

static void root_too_long(void **state)
{
	struct runtime rt = fake("");
	char *text;
	struct run run;

	(void)state;
	memset(&scratch.copy, 0x5a, sizeof(scratch.copy));
	for (size_t len = 8150; len < 8220; len++) {
		text = malloc(len + 1);
		memset(text, 'r', len);
		text[0] = '/';
		text[len] = '\0';
		rt.root = text;
		run = finish(&rt, (struct view){0});
		if (len >= 8190)
			assert_int_equal(run.error, -ENAMETOOLONG);
		run_close(&run);
		free(text);
		for (size_t i = 0; i < sizeof(scratch.copy); i++)
			assert_int_equal(scratch.copy[i], 0x5a);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fds_in_any_order),
		cmocka_unit_test(nothing_else_is_open),
		cmocka_unit_test(signals_reset),
		cmocka_unit_test(directory_and_environment),
		cmocka_unit_test(death_signal),
		cmocka_unit_test(dies_with_us),
		cmocka_unit_test(not_started),
		cmocka_unit_test(binaries_found),
		cmocka_unit_test(pid_files),
		cmocka_unit_test(arguments),
		cmocka_unit_test(found_in_path),
		cmocka_unit_test(input_and_output),
		cmocka_unit_test(streams_passed_on),
		cmocka_unit_test(output_is_bounded),
		cmocka_unit_test(endings),
		cmocka_unit_test(binary_missing),
		cmocka_unit_test(reason_from_log),
		cmocka_unit_test(reason_is_of_this_run),
		cmocka_unit_test(reason_at_the_end_of_much),
		cmocka_unit_test(reason_too_long),
		cmocka_unit_test(reason_without_log),
		cmocka_unit_test(reason_that_is_empty),
		cmocka_unit_test(reason_is_terminated),
		cmocka_unit_test(paths_too_long),
		cmocka_unit_test(root_too_long),
	};

	if (argc > 2 && strcmp(argv[1], "--report") == 0)
		return report(argv[2]);
	close_others();
	signal(SIGHUP, SIG_IGN); /* as by nohup(1) */
	return cmocka_run_group_tests(tests, setup, tmp_remove);
}
