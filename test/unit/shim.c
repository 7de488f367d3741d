// SPDX-License-Identifier: Apache-2.0
/*
 * shim.c's tests: what the program is by its name and its words, and what it does about its
 * surroundings before the loop.
 */
#include "daemon.h"

#include <sys/mman.h>

static struct cmdline fresh;

static int setup(void **state)
{
	cmdline = fresh;
	cmdline.argv0 = "shim";
	return tmp_make(state);
}

/* ---- names ---- */

static void names(void **state)
{
	static const struct {
		const char *argv0, *runtime, *binary;
		bool v1;
	} cases[] = {
		{"/usr/bin/containerd-shim-runc-v2", "io.containerd.runc.v2", "runc", false},
		{"containerd-shim-runc-v1", "io.containerd.runc.v1", "runc", true},
		{"./containerd-shim-crun-v2", "io.containerd.crun.v2", "crun", false},
		{"containerd-shim-crun-v1", "io.containerd.crun.v1", "crun", false},
		{"nanoshim", "io.containerd.runc.v2", "runc", false},
	};
	char before[32] = "";

	(void)state;
	prctl(PR_GET_NAME, before);
	for (size_t i = 0; i < COUNT(cases); i++) {
		take_name(cases[i].argv0);
		assert_string_equal(cmdline.runtime, cases[i].runtime);
		assert_string_equal(self.runtime, cases[i].binary);
		assert_int_equal(self.v1, cases[i].v1);
		assert_null(strchr(cmdline.name, '/'));
		assert_string_equal(cmdline.argv0, cases[i].argv0);
	}
	prctl(PR_SET_NAME, before);
}

/* crun where there is one, else runc. */
static void name_nano(void **state)
{
	const char *path = getenv("PATH");
	char before[32] = "", *saved = strdup(path ? path : "");

	(void)state;
	prctl(PR_GET_NAME, before);
	setenv("PATH", tmp, 1);
	take_name("containerd-shim-nano-v2");
	assert_string_equal(self.runtime, "runc");
	make_file("crun", "#!/bin/sh\n", 0755);
	take_name("containerd-shim-nano-v2");
	assert_string_equal(self.runtime, "crun");
	assert_string_equal(cmdline.runtime, "io.containerd.nano.v2");
	setenv("PATH", saved, 1);
	free(saved);
	prctl(PR_SET_NAME, before);
}

/* ---- words ---- */

static void booleans(void **state)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"},
				 *const no[] = {"0", "f", "F", "false", "FALSE", "False"},
				 *const neither[] = {"", "yes", "2", "tRUE", "truee", "00"};
	bool on;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		on = false;
		assert_true(parse_bool(view_of(yes[i]), &on) && on);
		assert_true(parse_bool(view_of(no[i]), &on) && !on);
		assert_false(parse_bool(view_of(neither[i]), &on));
	}
}

static void words_of_containerd(void **state)
{
	char *argv[] = {(char *)"shim",
			(char *)"-namespace",
			(char *)"ns",
			(char *)"--id=c=d",
			(char *)"-address=",
			(char *)"-debug=false",
			(char *)"-bundle",
			(char *)"/b",
			(char *)"-publish-binary",
			(char *)"/p",
			(char *)"-socket=s",
			(char *)"--debug-socket",
			(char *)"ds",
			(char *)"start",
			(char *)"-version",
			NULL};

	(void)state;
	cmdline.debug = true;
	cmdline.address = "?";
	parse_args(COUNT(argv) - 1, argv);
	assert_string_equal(cmdline.namespace, "ns");
	assert_string_equal(cmdline.id, "c=d");
	assert_string_equal(cmdline.address, "");
	assert_string_equal(cmdline.bundle, "/b");
	assert_string_equal(cmdline.publish_binary, "/p");
	assert_string_equal(cmdline.socket, "s");
	assert_string_equal(cmdline.debug_socket, "ds");
	assert_string_equal(cmdline.action, "start");
	assert_false(cmdline.debug);
	assert_false(cmdline.version); /* what is behind the action is nobody's */
}

static void the_end_of_the_flags(void **state)
{
	char *argv[] = {(char *)"shim", (char *)"-v",     (char *)"-info=T",
			(char *)"--",   (char *)"-debug", NULL};

	(void)state;
	parse_args(COUNT(argv) - 1, argv);
	assert_true(cmdline.version && cmdline.info && !cmdline.debug);
	assert_string_equal(cmdline.action, "-debug");
}

static void words_that_are_wrong(void **state)
{
	static const struct {
		const char *words[2], *said;
		int status;
	} cases[] = {
		{{"-nonsense", NULL}, "flag provided but not defined: -nonsense\n", 2},
		{{"-id", NULL}, "flag needs an argument: -id\n", 2},
		{{"-debug=maybe", NULL},
		 "invalid boolean value \"maybe\" for -debug: parse error\n",
		 2},
		{{"---id", "x"}, "bad flag syntax: ---id\n", 2},
		{{"-=x", NULL}, "bad flag syntax: -=x\n", 2},
		{{"-h", NULL}, "Usage of ", 0},
		{{"--help", NULL}, "Usage of ", 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *argv[] = {(char *)"shim", (char *)cases[i].words[0],
				(char *)cases[i].words[1], NULL};
		char said[4096] = "";
		int out = memfd_create("said", MFD_CLOEXEC), status;
		pid_t pid = fork();

		if (pid == 0) {
			dup2(out, 2);
			parse_args(argv[2] ? 3 : 2, argv);
			_exit(99);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(pread(out, said, sizeof(said) - 1, 0) > 0);
		close(out);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), cases[i].status);
		if (strncmp(said, cases[i].said, strlen(cases[i].said)) != 0)
			fail_msg("%s: %s\n", cases[i].words[0], said);
	}
}

/* ---- surroundings ---- */

static void notify_socket(void **state)
{
	char *own[] = {(char *)"A=1",
		       (char *)"NOTIFY_SOCKET=/x",
		       (char *)"NOTIFY_SOCKETS=2",
		       (char *)"NOTIFY_SOCKET=",
		       (char *)"B=3",
		       NULL};
	char **saved = environ;

	(void)state;
	environ = own;
	forget_notify_socket();
	environ = saved;
	assert_string_equal(own[0], "A=1");
	assert_string_equal(own[1], "NOTIFY_SOCKETS=2");
	assert_string_equal(own[2], "B=3");
	assert_null(own[3]);
}

static void pivot_root_as_wished(void **state)
{
	struct statfs fs;

	(void)state;
	setenv("NANOSHIM_PIVOT_ROOT", "no", 1);
	assert_true(root_cannot_pivot());
	setenv("NANOSHIM_PIVOT_ROOT", "yes", 1);
	assert_false(root_cannot_pivot());
	setenv("NANOSHIM_PIVOT_ROOT", "", 1);
	if (statfs("/", &fs) == 0 && fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC)
		assert_false(root_cannot_pivot());
	unsetenv("NANOSHIM_PIVOT_ROOT");
}

/* The log is the bundle's FIFO, and fd 2 is not passed on. */
static void log_opened(void **state)
{
	int saved = fcntl(2, F_DUPFD_CLOEXEC, 10), reader;
	char got[64] = "", back[256];
	unsigned int fds;

	(void)state;
	assert_non_null(getcwd(back, sizeof(back)));
	assert_int_equal(chdir(tmp), 0);
	fds = open_fds();
	open_log(); /* there is none: it stays as it is */
	assert_int_equal(open_fds(), fds);
	assert_int_equal(mkfifo("log", 0600), 0);
	open_log();
	assert_int_equal(fcntl(2, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(2, F_GETFL) & O_NONBLOCK);
	assert_int_equal(open_fds(), fds);
	assert_int_equal(write(2, "words", 5), 5);
	reader = open("log", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_int_equal(read(reader, got, sizeof(got)), 5);
	close(reader);
	dup2(saved, 2);
	close(saved);
	assert_int_equal(chdir(back), 0);
}

/* The daemon's own socket is fd 3; the name it goes by stands in the bundle. */
static void address_of_the_socket(void **state)
{
	char back[256], text[400];
	int saved = fcntl(LISTEN_FD, F_DUPFD_CLOEXEC, 10), fd;

	(void)state;
	assert_non_null(getcwd(back, sizeof(back)));
	assert_int_equal(chdir(tmp), 0);
	for (size_t len = 100; len <= 300; len += 200) {
		fd = unix_listen(in_tmp("s"), SOCK_NONBLOCK);
		assert_true(fd >= 0);
		if (fd != LISTEN_FD) {
			assert_int_equal(dup2(fd, LISTEN_FD), LISTEN_FD);
			close(fd);
		}
		memset(text, 'd', sizeof(text));
		memcpy(text, "unix:///", 8);
		memcpy(text + len - 2, "/s", 3);
		make_file("address", text, 0644);
		self.socket_dir[0] = '\0';
		take_socket();
		if (len > 160) /* no address of ours */
			assert_string_equal(self.socket_dir, SOCKET_DIR);
		else
			assert_int_equal(strlen(self.socket_dir), len - 2 - 7);
		server_close();
		unlink(in_tmp("s"));
	}
	if (saved >= 0) {
		dup2(saved, LISTEN_FD);
		close(saved);
	}
	assert_int_equal(chdir(back), 0);
}

static void file_limit(void **state)
{
	struct rlimit before, is;

	(void)state;
	if (VALGRIND())
		skip();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	is = (struct rlimit){64, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &is), 0);
	raise_file_limit();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &is), 0);
	assert_int_equal(is.rlim_cur, before.rlim_max);
	assert_int_equal(self.files.rlim_cur, 64); /* what our children get back */
	setrlimit(RLIMIT_NOFILE, &before);
	self.files = (struct rlimit){0};
}

int main(void)
{
#define SHIM_TEST(f) cmocka_unit_test_setup_teardown(f, setup, tmp_remove)
	const struct CMUnitTest tests[] = {
		SHIM_TEST(names),
		SHIM_TEST(name_nano),
		SHIM_TEST(booleans),
		SHIM_TEST(words_of_containerd),
		SHIM_TEST(the_end_of_the_flags),
		SHIM_TEST(words_that_are_wrong),
		SHIM_TEST(notify_socket),
		SHIM_TEST(pivot_root_as_wished),
		SHIM_TEST(log_opened),
		SHIM_TEST(address_of_the_socket),
		SHIM_TEST(file_limit),
	};

	fresh = cmdline;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
