// SPDX-License-Identifier: Apache-2.0
/*
 * action.c's tests: what came with the call, whose daemon it is, its socket, and what `delete` and
 * -info say. Whatever ends the process does so in a child.
 */
#include "unit.h"

#include <sys/file.h>
#include <sys/prctl.h>

/* What the kernel is asked for core scheduling is noted; a file "no-cores" has it refused. */
static int noted_prctl(int option, unsigned long a, unsigned long b, unsigned long c,
		       unsigned long d)
{
	char text[64];

	snprintf(text, sizeof(text), "%d %lu %lu %lu %lu", option, a, b, c, d);
	file_write("cores", view_of(text), 0644);
	errno = ENODEV;
	return access("no-cores", F_OK) == 0 ? -1 : 0;
}

#define prctl noted_prctl
#include "../../action.c"
#undef prctl

static char said_buf[2][8192];

/* What a child says on its two streams, with this input. Its exit status, or -1. */
static int in_child(void (*what)(void), struct view input)
{
	int status, in = memfd_create("in", MFD_CLOEXEC), out[2];
	pid_t pid;

	assert_int_equal(write_all(in, input), 0);
	lseek(in, 0, SEEK_SET);
	for (int i = 0; i < 2; i++)
		out[i] = memfd_create("out", MFD_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		dup2(in, 0);
		dup2(out[0], 1);
		dup2(out[1], 2);
		what();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (int i = 0; i < 2; i++) {
		ssize_t n = pread(out[i], said_buf[i], sizeof(said_buf[0]) - 1, 0);

		said_buf[i][n > 0 ? n : 0] = '\0';
		close(out[i]);
	}
	close(in);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define assert_says(what, status, text) assert_says_(what, status, text, __FILE__, __LINE__)

static void assert_says_(void (*what)(void), int status, const char *text, const char *file,
			 int line)
{
	int is = in_child(what, (struct view){0});

	if (is != status || strcmp(said_buf[1], text) != 0) {
		print_error("%s:%d: exit %d, \"%s\"\n", file, line, is, said_buf[1]);
		_fail(file, line);
	}
}

static int setup(void **state)
{
	int err = tmp_make(state);

	cmdline = (struct cmdline){.argv0 = "shim",
				   .runtime = "io.containerd.runc.v2",
				   .namespace = "ns",
				   .id = "c",
				   .address = "/run/c.sock",
				   .bundle = "",
				   .socket = "",
				   .action = ""};
	self.v1 = false;
	self.namespace = "ns";
	self.runtime = "runc";
	return err < 0 ? err : chdir(tmp);
}

/* What was started and lives on is a child of this program: it is the subreaper. */
static int teardown(void **state)
{
	char children[1024], path[64];
	struct view rest;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	if (file_read(path, children, sizeof(children)) > 0)
		for (rest = view_of(children); rest.len > 0;) {
			int pid = view_int(view_cut(&rest, ' '));

			if (pid > 0)
				kill(pid, SIGKILL);
		}
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (chdir("/") < 0)
		return -1;
	return tmp_remove(state);
}

/* ---- the path of the socket ---- */

/* As Go's path.Join does it. */
static void paths_cleaned(void **state)
{
	static const char *const cases[][2] = {
		{"/a/b", "/a/b"},
		{"/a//b/", "/a/b"},
		{"/./a/./b/.", "/a/b"},
		{"/a/../b", "/b"},
		{"/../../a", "/a"},
		{"/a/b/../../..", "/"},
		{"a/b", "a/b"},
		{"./a", "a"},
		{"../a", "../a"},
		{"../../a/../b", "../../b"},
		{"a/../../b", "../b"},
		{"a/..", ""},
		{"/", "/"},
		{"", ""},
		{"/a.b/..c/...", "/a.b/..c/..."},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char buf[64];
		struct text t = TEXT(buf);

		text_add(&t, view_of(cases[i][0]));
		clean_path(&t);
		assert_string_equal(buf, cases[i][1]);
		assert_int_equal(t.len, strlen(buf));
	}
}

static void assert_group(const char *config, const char *group)
{
	char buf[128];
	struct text t = TEXT(buf);

	make_file("config.json", config, 0644);
	read_group(&t);
	assert_string_equal(buf, group);
}

static void read_the_group(void)
{
	char buf[128];
	struct text t = TEXT(buf);

	read_group(&t);
}

static void groups(void **state)
{
	(void)state;
	assert_group("{}", "c");
	assert_group("{\"annotations\":null}", "c");
	assert_group("{\"annotations\":{\"x\":\"y\"}}", "c");
	assert_group("{\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"pod\"}}", "pod");
	assert_group("{\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"pod\","
		     "\"io.containerd.runc.v2.group\":\"gr\\u00fcn\"}}",
		     "gr\xc3\xbcn");
	assert_group("{\"annotations\":{\"io.containerd.runc.v2.group\":\"\"}}", "");
	assert_group("{\"io.containerd.runc.v2.group\":\"g\",\"a\":"
		     "{\"io.containerd.runc.v2.group\":\"g\"}}",
		     "c");
	make_file("config.json", "{\"annotations\":[]}", 0644);
	assert_says(read_the_group, 1,
		    "io.containerd.runc.v2: config.json: annotations are no object");
	make_file("config.json", "{", 0644);
	assert_says(read_the_group, 1, "io.containerd.runc.v2: config.json: invalid JSON");
	make_file("config.json", "[]", 0644);
	assert_says(read_the_group, 1, "io.containerd.runc.v2: config.json: invalid JSON");
	unlink("config.json");
	assert_says(read_the_group, 1,
		    "io.containerd.runc.v2: open config.json: no such file or directory");
}

static char socket_dir[300], grpc_address[1200];

static void find_socket(void)
{
	struct bootstrap b = {.grpc_address = view_of(grpc_address),
			      .socket_dir = view_of(socket_dir)};
	char buf[512];
	struct text path = TEXT(buf);

	socket_path(&b, &path);
	write_all(1, (struct view){path.at, path.len});
}

static void socket_paths(void **state)
{
	char want[300], hex[65];

	(void)state;
	make_file("config.json", "{\"annotations\":{\"io.containerd.runc.v2.group\":\"g\"}}", 0644);
	strcpy(grpc_address, "/run//c.sock");
	strcpy(socket_dir, "/dir");
	assert_int_equal(in_child(find_socket, (struct view){0}), 0);
	sha256_hex(VIEW("/run/c.sock/ns/g"), hex);
	snprintf(want, sizeof(want), "/dir/%s", hex);
	assert_string_equal(said_buf[0], want);
	/* The older shim has no groups. */
	self.v1 = true;
	assert_int_equal(in_child(find_socket, (struct view){0}), 0);
	sha256_hex(VIEW("/run/c.sock/ns/c"), hex);
	snprintf(want, sizeof(want), "/dir/%s", hex);
	assert_string_equal(said_buf[0], want);
	/* 106 bytes at most: the directory, a slash, and 64 digits. */
	memset(socket_dir, 'd', 42);
	socket_dir[41] = '\0';
	assert_int_equal(in_child(find_socket, (struct view){0}), 0);
	assert_int_equal(strlen(said_buf[0]), 106);
	socket_dir[41] = 'd';
	socket_dir[42] = '\0';
	assert_int_equal(in_child(find_socket, (struct view){0}), 1);
	assert_non_null(strstr(said_buf[1], "unix socket path too long (> 106)"));
	memset(grpc_address, 'a', sizeof(grpc_address) - 1);
	assert_says(find_socket, 1, "io.containerd.runc.v2: address or group is too long");
}

/* ---- bootstrap parameters ---- */

static void show_bootstrap(void)
{
	char buf[1024];
	struct text t = TEXT(buf);
	struct bootstrap b;

	read_bootstrap(&b);
	text_printf(&t, "%.*s %.*s %d %.*s", VIEW_FMT(b.grpc_address), VIEW_FMT(b.socket_dir),
		    b.debug, VIEW_FMT(b.options.shim_cgroup));
	write_all(1, (struct view){t.at, t.len});
}

static void bootstrap(void **state)
{
	static char buf[20000], extension[1024];
	const struct view cgroup = VIEW("\x1a\x02/g");
	size_t n, len;

	(void)state;
	assert_int_equal(in_child(show_bootstrap, (struct view){0}), 0);
	assert_string_equal(said_buf[0], "/run/c.sock /run/containerd/s 0 ");
	/* Options as 1.6 to 2.2 send them; also where there is more than a page of them. */
	n = put_bytes(buf, 1, VIEW("containerd.runc.v1.Options"));
	n += put_bytes(buf + n, 2, cgroup);
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 0);
	assert_string_equal(said_buf[0], "/run/c.sock /run/containerd/s 0 /g");
	memset(extension, 'x', sizeof(extension));
	for (int i = 0; i < 10; i++) /* an unknown field */
		n += put_bytes(buf + n, 9, (struct view){extension, sizeof(extension)});
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 0);
	assert_string_equal(said_buf[0], "/run/c.sock /run/containerd/s 0 /g");
	n = put_bytes(buf, 1, VIEW("some.other.Type"));
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 1);
	assert_string_equal(said_buf[1], "io.containerd.runc.v2: options of type some.other.Type "
					 "cannot be read");
	/* Parameters as from 2.3 on. */
	n = put_bytes(buf, 1, VIEW("c"));
	n += put_bytes(buf + n, 2, VIEW("ns"));
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 0);
	assert_string_equal(said_buf[0], "/run/c.sock /run/containerd/s 0 ");
	n += put_number(buf + n, 3, (uint64_t)-3);
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 0);
	assert_string_equal(said_buf[0], "/run/c.sock /run/containerd/s 0 ");
	n += put_number(buf + n, 3, (uint64_t)-4);
	n += put_bytes(buf + n, 6, VIEW("/other.sock"));
	n += put_bytes(buf + n, 9, VIEW("/dir"));
	len = put_any(extension, 1, "containerd.runc.v1.Options", cgroup);
	n += put_bytes(buf + n, 8, (struct view){extension, len});
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 0);
	assert_string_equal(said_buf[0], "/other.sock /dir 1 /g");
	/* What is for somebody else changes nothing. */
	len = put_any(extension, 1, "some.other.Type", VIEW("\x1a\x02/x"));
	n += put_bytes(buf + n, 8, (struct view){extension, len});
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 0);
	assert_string_equal(said_buf[0], "/other.sock /dir 1 /g");
	/* Of another container, or another namespace: then it is no parameters. */
	cmdline.id = "d";
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 1);
	cmdline.id = "c";
	cmdline.namespace = "other";
	assert_int_equal(in_child(show_bootstrap, (struct view){buf, n}), 1);
	/* -debug stays -debug. */
	cmdline.debug = true;
	assert_int_equal(in_child(show_bootstrap, (struct view){0}), 0);
	assert_string_equal(said_buf[0], "/run/c.sock /run/containerd/s 1 ");
}

/* ---- the socket ---- */

static void sockets(void **state)
{
	const char *path = "dir/s";
	struct stat st;
	int first, fd;

	(void)state;
	assert_int_equal(umask(022) & 0, 0);
	first = claim_socket("dir/one/s");
	assert_true(first >= 0);
	assert_int_equal(stat("dir", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0711);
	assert_int_equal(stat("dir/one", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat("dir/one/s", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1); /* not under another name, too */
	assert_int_equal(fcntl(first, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(first, F_GETFL) & O_NONBLOCK);
	assert_int_equal(umask(022), 022);
	/* Somebody serves it. */
	assert_int_equal(claim_socket("dir/one/s"), -1);
	assert_int_equal(access("dir/one/s", F_OK), 0);
	/* Nobody does any more. */
	close(first);
	fd = claim_socket("dir/one/s");
	assert_true(fd >= 0);
	assert_true(is_served("dir/one/s"));
	/* The older shim takes it from whoever serves it. */
	self.v1 = true;
	first = claim_socket("dir/one/s");
	assert_true(first >= 0);
	close(first);
	close(fd);
	self.v1 = false;
	assert_false(is_served("dir/one/s"));
	assert_int_equal(errno, ECONNREFUSED);
	assert_false(is_served(path));
	assert_int_equal(errno, ENOENT);
}

/* All who may wait do: it is served nevertheless. */
static void socket_with_a_full_backlog(void **state)
{
	struct sockaddr_un at;
	int fd, clients[64], n = 0;

	(void)state;
	fd = listen_at("s");
	assert_int_equal(listen(fd, 0), 0);
	do
		clients[n] = unix_socket("s", &at);
	while (connect(clients[n++], (struct sockaddr *)&at, sizeof(at)) == 0 && n < 64);
	assert_int_equal(errno, EAGAIN);
	assert_true(is_served("s"));
	while (n-- > 0)
		close(clients[n]);
	close(fd);
}

static void claim_in_a_file(void)
{
	claim_socket("file/s");
}

static void claim_what_is_no_socket(void)
{
	claim_socket("dir/file");
}

static void sockets_that_cannot_be(void **state)
{
	(void)state;
	make_file("file", "", 0644);
	assert_says(claim_in_a_file, 1,
		    "io.containerd.runc.v2: create new shim socket: file: not a directory");
	mkdir("dir", 0700);
	/* A plain file in its place answers like a socket without a server. */
	make_file("dir/file", "", 0644);
	assert_int_equal(in_child(claim_what_is_no_socket, (struct view){0}), 0);
}

/* ---- the daemon's surroundings ---- */

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

/* The score of the parent of the one who asks, and one more for the daemon. */
static void adjust(void)
{
	char buf[16], path[64];
	int fd;
	pid_t pid = sleeper();

	if (adjust_oom_score(pid) < 0)
		_exit(2);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	dprintf(1, "%.*s", (int)read(fd, buf, sizeof(buf)), buf);
	kill(pid, SIGKILL);
}

static const char *score_of_parent;

static void adjust_below_parent(void)
{
	int status;
	pid_t pid;

	if (file_append("/proc/self/oom_score_adj", view_of(score_of_parent)) < 0)
		_exit(77); /* to lower it takes a privilege */
	pid = fork();
	if (pid == 0) {
		adjust();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	_exit(WEXITSTATUS(status));
}

static void oom_scores(void **state)
{
	static const char *const scores[][2] = {{"-500", "-499\n"}, {"-1", "0\n"},
						{"0", "1\n"},       {"998", "999\n"},
						{"999", "1000\n"},  {"1000", "1000\n"}};

	(void)state;
	for (size_t i = 0; i < COUNT(scores); i++) {
		int status;

		score_of_parent = scores[i][0];
		status = in_child(adjust_below_parent, (struct view){0});
		if (status == 77)
			continue;
		assert_int_equal(status, 0);
		assert_string_equal(said_buf[0], scores[i][1]);
	}
}

static void pid_written(void **state)
{
	(void)state;
	assert_int_equal(write_pid(4711), 0);
	assert_string_equal(file_text("shim.pid"), "4711");
}

static void cgroups_refused(void **state)
{
	(void)state;
	assert_int_equal(join_cgroup(getpid(), VIEW("relative")), -EINVAL);
	assert_int_equal(join_cgroup(getpid(), VIEW("/sys/fs/cgroup/x")), -EINVAL);
}

/* In every hierarchy that has it. */
static void cgroup_joined(void **state)
{
	bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
	char dir[128], path[64], in[4096], name[64];
	pid_t pid = sleeper();
	ssize_t n;
	int err;

	(void)state;
	snprintf(name, sizeof(name), "/nanoshim-unit-%d", (int)getpid());
	snprintf(dir, sizeof(dir), "/sys/fs/cgroup%s%s", v2 ? "" : "/pids", name);
	if (mkdir(dir, 0755) < 0) {
		kill(pid, SIGKILL);
		skip(); /* no cgroups here, or no right to */
	}
	err = join_cgroup(pid, view_of(name));
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	n = file_read(path, in, sizeof(in));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 100 && rmdir(dir) < 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
	assert_int_equal(err, 0);
	assert_true(n > 0);
	assert_non_null(strstr(in, name));
}

/* ---- delete ---- */

static void dead_sockets(void **state)
{
	char address[200];
	int fd = listen_at(in_tmp("s"));

	(void)state;
	snprintf(address, sizeof(address), "unix://%s", in_tmp("s"));
	make_file("address", address, 0644);
	remove_dead_socket();
	assert_int_equal(access("s", F_OK), 0); /* it is served */
	close(fd);
	make_file("address", address + 7, 0644);
	remove_dead_socket();
	assert_int_equal(access("s", F_OK), 0); /* no address of ours */
	make_file("address", address, 0644);
	remove_dead_socket();
	assert_int_equal(access("s", F_OK), -1);
	remove_dead_socket(); /* nothing there: fine */
}

/* A runtime that notes its call, and a bundle beside this one, as containerd calls `delete` in. */
static void make_bundle(const char *script)
{
	char text[600];

	mkdir("b", 0755);
	mkdir("b/c", 0755);
	mkdir("b/c/rootfs", 0755);
	mkdir("b/other", 0755);
	snprintf(text, sizeof(text), "#!/bin/sh\necho \"$*\" >>%s/calls\n%s\n", tmp, script);
	make_file("runtime", text, 0755);
	make_file("b/c/runtime", in_tmp("runtime"), 0600);
	make_file("b/c/options.json", "{\"root\":\"/the/root\"}", 0600);
	make_file("b/c/init.pid", "4711", 0644);
	make_file("calls", "", 0644);
	assert_int_equal(chdir("b/other"), 0);
}

static void delete_action(void **state)
{
	char want[512];
	struct view r;
	time_t before = time(NULL);

	(void)state;
	make_bundle("echo words");
	assert_int_equal(in_child(action_delete, (struct view){0}), 0);
	assert_string_equal(said_buf[1], "");
	snprintf(want, sizeof(want),
		 "--root /the/root/ns --log %s/b/c/log.json --log-format json delete --force c\n",
		 tmp);
	assert_string_equal(file_text("calls"), want);
	r = view_of(said_buf[0]);
	assert_int_equal(get_number(r, 1, 0), 4711);
	assert_int_equal(get_number(r, 2, 0), 137);
	assert_true((time_t)get_number(get_bytes(r, 3), 1, 0) >= before);
	assert_true((time_t)get_number(get_bytes(r, 3), 1, 0) <= time(NULL));
	/* It fails: that is told, and all else is done. */
	make_file("runtime", "#!/bin/sh\necho no; exit 3\n", 0755);
	assert_int_equal(in_child(action_delete, (struct view){0}), 0);
	snprintf(want, sizeof(want),
		 "failed to remove runc container: %s/runtime did not terminate successfully: "
		 "exit status 3: no\n\n",
		 tmp);
	assert_string_equal(said_buf[1], want);
	assert_int_equal(get_number(view_of(said_buf[0]), 2, 0), 137);
}

/* runc and crun keep their state where we can look: without any there is nothing to delete. */
static void delete_of_what_is_forgotten(void **state)
{
	(void)state;
	make_bundle("");
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = {"runc", "crun", "youki"};
		char path[200];

		snprintf(path, sizeof(path), "%s/%s", tmp, names[i]);
		assert_int_equal(rename(in_tmp(i ? names[i - 1] : "runtime"), path), 0);
		make_file("b/c/runtime", path, 0600);
		assert_int_equal(in_child(action_delete, (struct view){0}), 0);
		assert_int_equal(file_text("calls")[0] != '\0', i == 2);
	}
	/* With some there is. */
	make_file("b/c/runtime", in_tmp("runc"), 0600);
	assert_int_equal(rename(in_tmp("youki"), in_tmp("runc")), 0);
	mkdir(in_tmp("ns"), 0755);
	mkdir(in_tmp("ns/c"), 0755);
	{
		char options[200];

		snprintf(options, sizeof(options), "{\"root\":\"%s\"}", tmp);
		make_file("b/c/options.json", options, 0600);
	}
	make_file("calls", "", 0644);
	assert_int_equal(in_child(action_delete, (struct view){0}), 0);
	assert_true(file_text("calls")[0] != '\0');
}

/* ---- -info ---- */

static void info(void **state)
{
	char buf[512], text[300];
	size_t n = put_bytes(buf, 1, VIEW("containerd.runc.v1.Options")), len;
	struct view r;

	(void)state;
	make_file("runtime", "#!/bin/sh\n[ \"$*\" = features ] && echo '{\"x\":1}'\n", 0755);
	len = put_bytes(text, 6, view_of(in_tmp("runtime")));
	n += put_bytes(buf + n, 2, (struct view){text, len});
	assert_int_equal(in_child(action_info, (struct view){buf, n}), 0);
	r = view_of(said_buf[0]);
	assert_view(get_bytes(r, 1), "io.containerd.runc.v2");
	assert_view(get_bytes(get_bytes(r, 2), 1), VERSION);
	assert_view(get_bytes(get_bytes(r, 2), 2), "nanoshim");
	assert_view(get_bytes(get_bytes(r, 3), 1), "containerd.runc.v1.Options");
	assert_int_equal(get_bytes(get_bytes(r, 3), 2).len, len);
	assert_view(get_bytes(get_bytes(r, 4), 1),
		    "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
	assert_view(get_bytes(get_bytes(r, 4), 2), "{\"x\":1}\n");
	/* One that does not know that verb, whatever it says. */
	make_file("runtime", "#!/bin/sh\necho words; exit 1\n", 0755);
	assert_int_equal(in_child(action_info, (struct view){buf, n}), 0);
	assert_int_equal(get_bytes(view_of(said_buf[0]), 4).len, 0);
	assert_view(get_bytes(view_of(said_buf[0]), 1), "io.containerd.runc.v2");
	make_file("runtime", "", 0644);
	assert_int_equal(in_child(action_info, (struct view){buf, n}), 1);
	snprintf(text, sizeof(text),
		 "io.containerd.runc.v2: exec: \"%s/runtime\": executable file not found in $PATH",
		 tmp);
	assert_string_equal(said_buf[1], text);
	assert_int_equal(in_child(action_info, VIEW("\x0a\x01x")), 1);
	assert_string_equal(said_buf[1],
			    "io.containerd.runc.v2: failed to decode runtime options (x)");
	/* Without options: the runtime by the name we were called. */
	self.runtime = in_tmp("other");
	make_file("other", "#!/bin/sh\necho '{}'\n", 0755);
	assert_int_equal(in_child(action_info, (struct view){0}), 0);
	assert_view(get_bytes(get_bytes(view_of(said_buf[0]), 4), 2), "{}\n");
	assert_int_equal(get_bytes(view_of(said_buf[0]), 3).len, 0);
}

/* ---- start ---- */

/* What this program is when `start` executes it: a daemon that notes how it was called. */
static _Noreturn void stand_in(int argc, char **argv)
{
	char buf[1024];
	struct text t = TEXT(buf);
	socklen_t len = sizeof(int);
	int on = 0;

	for (int i = 1; i < argc; i++)
		text_printf(&t, "%s ", argv[i]);
	getsockopt(3, SOL_SOCKET, SO_ACCEPTCONN, &on, &len);
	text_printf(&t, on && open_fds() == 4 ? "listens" : "does not listen");
	file_replace("daemon", (struct view){t.at, t.len}, 0644);
	text_printf(&t, "\n");
	file_append("daemons", (struct view){t.at, t.len});
	alarm(60);
	for (;;)
		pause();
}

static char params[1024];

/* What `start` is sent: its socket is to be in the test's directory. */
static struct view start_params(const char *cgroup)
{
	char options[300], extension[512];
	size_t n = put_bytes(params, 1, VIEW("c")), len = put_bytes(options, 3, view_of(cgroup));

	n += put_bytes(params + n, 2, VIEW("ns"));
	n += put_bytes(params + n, 9, view_of(in_tmp("s")));
	len = put_any(extension, 1, "containerd.runc.v1.Options", (struct view){options, len});
	return (struct view){params, n + put_bytes(params + n, 8, (struct view){extension, len})};
}

static void daemon_noted(const char *what)
{
	for (int i = 0; i < 6000 && access("daemon", F_OK) < 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
	assert_string_equal(file_text("daemon"), what);
	unlink("daemon");
}

static void start_action(void **state)
{
	char address[300];

	(void)state;
	if (EMULATED()) /* it would execute the emulator */
		skip();
	make_file("config.json", "{}", 0644);
	make_file("daemons", "", 0644);
	assert_int_equal(in_child(action_start, start_params("")), 0);
	assert_string_equal(said_buf[1], "");
	snprintf(address, sizeof(address), "unix://%s/", in_tmp("s"));
	assert_int_equal(strncmp(said_buf[0], address, strlen(address)), 0);
	assert_int_equal(strlen(said_buf[0]), strlen(address) + 64);
	strcpy(address, said_buf[0]);
	assert_string_equal(file_text("address"), address);
	assert_true(is_served(address + 7));
	daemon_noted("-namespace ns -id c -address /run/c.sock listens");
	assert_int_equal(access("shim.pid", F_OK), -1);
	/* Another container of the group: the same daemon. */
	unlink("address");
	assert_int_equal(in_child(action_start, start_params("")), 0);
	assert_string_equal(said_buf[0], address);
	assert_string_equal(file_text("address"), address);
	assert_string_equal(file_text("daemons"),
			    "-namespace ns -id c -address /run/c.sock listens\n");
	/* The older shim has one for each container, and says which. */
	self.v1 = true;
	cmdline.debug = true;
	assert_int_equal(in_child(action_start, start_params("")), 0);
	daemon_noted("-namespace ns -id c -address /run/c.sock -debug listens");
	assert_true(view_int(view_of(file_text("shim.pid"))) > 1);
	assert_int_equal(kill(view_int(view_of(file_text("shim.pid"))), 0), 0);
}

/* The daemon is the first of a core scheduling group, if containerd wants that. */
static void start_with_cores_of_its_own(void **state)
{
	(void)state;
	if (EMULATED())
		skip();
	make_file("config.json", "{}", 0644);
	make_file("daemons", "", 0644);
	setenv("SCHED_CORE", "", 1);
	assert_int_equal(in_child(action_start, start_params("")), 0);
	assert_int_equal(access("cores", F_OK), -1);
	setenv("SCHED_CORE", "1", 1);
	cmdline.id = "d"; /* a daemon of its own */
	params[2] = 'd';
	assert_int_equal(in_child(action_start, (struct view){0}), 0);
	assert_string_equal(file_text("cores"), "62 1 0 2 0");
	make_file("no-cores", "", 0644);
	cmdline.id = "e";
	assert_int_equal(in_child(action_start, (struct view){0}), 1);
	assert_string_equal(said_buf[1],
			    "io.containerd.runc.v2: enable sched core support: no such device");
	unsetenv("SCHED_CORE");
}

/* Starters of the same group take turns. */
static void sockets_are_locked(void **state)
{
	int status, lock;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdir("dir", 0711), 0);
	lock = open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	pid = fork();
	if (pid == 0) {
		close(lock); /* or it would be its own, too */
		_exit(claim_socket("dir/s") < 0);
	}
	await_that(is_asleep(pid));
	assert_int_equal(access("dir/s", F_OK), -1);
	close(lock);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(access("dir/s", F_OK), 0);
}

/* The one who started it has ended, so it is ours now: it was killed. */
static void assert_daemon_killed(void)
{
	int status;

	assert_true(waitpid(-1, &status, 0) > 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* containerd would not know its pid. */
static void start_without_a_pid_file(void **state)
{
	(void)state;
	if (EMULATED())
		skip();
	make_file("config.json", "{}", 0644);
	assert_int_equal(mkdir("shim.pid", 0755), 0);
	self.v1 = true;
	assert_int_equal(in_child(action_start, start_params("")), 1);
	assert_string_equal(said_buf[0], "");
	assert_daemon_killed();
}

static void no_descriptor_for_a_socket(void **state)
{
	struct rlimit before, none = {0, 0};

	(void)state;
	if (VALGRIND())
		skip();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	errno = 0;
	assert_int_equal(listen_at("s"), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* Its daemon cannot be where it should: then there is none. */
static void start_in_a_wrong_cgroup(void **state)
{
	struct dir dir = {0};

	(void)state;
	if (EMULATED())
		skip();
	make_file("config.json", "{}", 0644);
	assert_int_equal(in_child(action_start, start_params("relative")), 1);
	assert_string_equal(said_buf[0], "");
	assert_string_equal(said_buf[1], "io.containerd.runc.v2: start daemon: invalid argument");
	dir.fd = file_open("s", O_RDONLY | O_DIRECTORY, 0);
	assert_true(dir.fd >= 0);
	assert_null(dir_next(&dir)); /* no socket */
	close(dir.fd);
	assert_daemon_killed();
}

int main(int argc, char **argv)
{
#define ACTION_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		ACTION_TEST(paths_cleaned),
		ACTION_TEST(groups),
		ACTION_TEST(socket_paths),
		ACTION_TEST(bootstrap),
		ACTION_TEST(sockets),
		ACTION_TEST(socket_with_a_full_backlog),
		ACTION_TEST(sockets_that_cannot_be),
		ACTION_TEST(oom_scores),
		ACTION_TEST(pid_written),
		ACTION_TEST(cgroups_refused),
		ACTION_TEST(cgroup_joined),
		ACTION_TEST(dead_sockets),
		ACTION_TEST(delete_action),
		ACTION_TEST(delete_of_what_is_forgotten),
		ACTION_TEST(info),
		ACTION_TEST(start_action),
		ACTION_TEST(start_in_a_wrong_cgroup),
		ACTION_TEST(start_without_a_pid_file),
		ACTION_TEST(start_with_cores_of_its_own),
		ACTION_TEST(sockets_are_locked),
		ACTION_TEST(no_descriptor_for_a_socket),
	};

	if (argc > 1)
		stand_in(argc, argv);
	close_others();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
