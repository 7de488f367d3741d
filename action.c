// SPDX-License-Identifier: Apache-2.0
/*
 * action.c - the short-lived processes: `start`, `delete`, and -info.
 *
 * containerd runs us as `NAME -namespace N -id I -address A start` in the container's bundle. That
 * process makes the socket the daemon will serve, starts the daemon as a copy of itself with the
 * listening socket as fd 3, prints the socket's address and is gone. A `start` for a container of
 * a group whose daemon is there already prints that one's address. At the end of every container
 * containerd runs us once more with `delete`, which cleans up whatever is left.
 *
 * Whatever goes wrong here ends the process with one line on stderr; when all goes well not a byte
 * may stand there, since containerd reads it as part of the answer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pb_encode.h>

#include "options.pb.h"
#include "shim.h"
#include "task.pb.h"

#define STDIN_MAX (10 << 20)
#define CONFIG_MAX (4 << 20)
/* containerd gives `delete` 5 s: a runtime that hangs must leave some of them to the unmounting. */
#define DELETE_LIMIT_MS 4000
#define NAP_MS 2

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#endif
#define SCHED_CORE_CREATE 1
#define SCHED_CORE_PGID 2

struct cmdline cmdline = {
	.namespace = "", .id = "", .address = "", .bundle = "", .socket = "", .action = ""};

void die(const char *fmt, ...)
{
	char buf[2048];
	struct text t = TEXT(buf);
	va_list list;

	text_printf(&t, "%s: ", cmdline.runtime);
	va_start(list, fmt);
	text_vprintf(&t, fmt, list);
	va_end(list);
	write_all(STDERR_FILENO, (struct view){t.at, t.len});
	exit(1);
}

/* ---- what came with the call ---- */

/* All of stdin; containerd closes it behind the options it sends. More than a page has not been seen
 * yet. */
static struct view read_stdin(void)
{
	char *buf = scratch.in;
	size_t len = 0, cap = sizeof(scratch.in);
	ssize_t n = 1;

	while (n != 0 && len < cap) {
		n = read(STDIN_FILENO, buf + len, cap - len);
		if (n < 0 && errno != EINTR)
			break;
		len += n > 0 ? (size_t)n : 0;
		if (len == sizeof(scratch.in) && buf == scratch.in) {
			buf = pages_get(STDIN_MAX);
			if (!buf)
				die("no memory");
			memcpy(buf, scratch.in, len);
			cap = STDIN_MAX;
		}
	}
	return (struct view){buf, len};
}

struct bootstrap {
	struct view grpc_address, socket_dir;
	bool debug;
	Options options;
};

/* Up to 2.2 stdin holds an Any of options, from 2.3 on BootstrapParams. Both begin with two length-
 * delimited fields: they are told apart by what these hold (contract 1.8). */
static void read_bootstrap(struct bootstrap *b)
{
	struct view in = read_stdin();
	BootstrapParams params = {0};
	Any any = {0};

	*b = (struct bootstrap){.grpc_address = view_of(cmdline.address),
				.socket_dir = VIEW(SOCKET_DIR),
				.debug = cmdline.debug};
	if (in.len == 0)
		return;
	if (msg_decode(in, &BootstrapParams_msg, &params) &&
	    view_is(params.instance_id, cmdline.id) &&
	    view_is(params.namespace, cmdline.namespace)) {
		struct view extension;

		if (params.containerd_grpc_address.len > 0)
			b->grpc_address = params.containerd_grpc_address;
		if (params.socket_dir.len > 0)
			b->socket_dir = params.socket_dir;
		b->debug |= params.log_level <= -4;
		while (field_next(&in, BootstrapParams_extensions_tag, &extension)) {
			Extension e = {0};
			Options options = {0};

			/* Others are for somebody else. */
			if (msg_decode(extension, &Extension_msg, &e) &&
			    options_decode(e.value.type_url, e.value.value, &options))
				b->options = options;
		}
	} else if (!msg_decode(in, &Any_msg, &any) ||
		   !options_decode(any.type_url, any.value, &b->options)) {
		die("options of type %.*s cannot be read", VIEW_FMT(any.type_url));
	}
}

/* The group a container belongs to, by its annotations; else it is on its own. Contract 1.5. */
static void read_group(struct text *group)
{
	static const char *const keys[] = {"io.containerd.runc.v2.group",
					   "io.kubernetes.cri.sandbox-id"};
	struct file config;
	int annotations, value = -1, err = file_pages("config.json", &config);
	struct json j;

	if (err < 0)
		die("open config.json: %s", errno_text(-err));
	if (json_open(&j, (struct view){config.at, config.len}) < 0 || !json_is_object(&j, 0))
		die("config.json: invalid JSON");
	annotations = json_get(&j, 0, "annotations");
	if (annotations >= 0 && !strchr("{n", json_raw(&j, annotations).at[0]))
		die("config.json: annotations are no object");
	for (size_t i = 0; i < COUNT(keys) && value < 0; i++)
		value = json_get(&j, annotations, keys[i]);
	if (value >= 0)
		json_string(&j, value, group);
	else
		text_add(group, view_of(cmdline.id));
	/* The pages of both go with this process: to unmap them by hand takes longer. */
}

/* Lexical clean-up of a path, as Go's path.Join does it: the socket's name is a digest of it, so it
 * must be the same to the byte. */
static void clean_path(struct text *t)
{
	struct view rest = {t->at, t->len};
	bool rooted = rest.len > 0 && rest.at[0] == '/';
	size_t len = rooted, floor = rooted;

	while (rest.len > 0) {
		struct view part = view_cut(&rest, '/');

		if (part.len == 0 || view_is(part, "."))
			continue;
		if (view_is(part, "..")) {
			if (len > floor) {
				while (len > floor && t->at[len - 1] != '/')
					len--;
				len -= len > floor;
				continue;
			}
			if (rooted)
				continue;
			floor = len + 2 + (len > 0);
		}
		if (len > 0 && t->at[len - 1] != '/')
			t->at[len++] = '/';
		memmove(t->at + len, part.at, part.len);
		len += part.len;
	}
	t->len = len;
	t->at[len] = '\0';
}

static void socket_path(const struct bootstrap *b, struct text *path)
{
	char buf[1024], group_buf[512], hex[65];
	struct text t = TEXT(buf), group = TEXT(group_buf);

	if (self.v1)
		text_add(&group, view_of(cmdline.id));
	else
		read_group(&group);
	text_printf(&t, "%.*s/%s/%s", VIEW_FMT(b->grpc_address), cmdline.namespace, group.at);
	if (t.cut || group.cut)
		die("address or group is too long");
	clean_path(&t);
	sha256_hex((struct view){t.at, t.len}, hex);
	text_printf(path, "%.*s/%s", VIEW_FMT(b->socket_dir), hex);
	if (path->len > SOCKET_PATH_MAX || path->cut)
		die("\"%s\": unix socket path too long (> %d)", path->at, SOCKET_PATH_MAX);
}

static void make_dirs(struct view dir)
{
	char buf[SOCKET_PATH_MAX + 1];
	struct text t = TEXT(buf);

	for (size_t i = 1; i <= dir.len; i++) {
		if (i < dir.len && dir.at[i] != '/')
			continue;
		t.len = 0;
		text_add(&t, (struct view){dir.at, i});
		mkdir(buf, i < dir.len ? 0711 : 0700);
	}
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, strnlen(path, sizeof(address->sun_path) - 1));
	return fd;
}

/* Does somebody serve that socket? A full backlog also means yes; if not, errno says why. */
static bool is_served(const char *path)
{
	struct sockaddr_un address;
	int fd = unix_socket(path, &address);
	bool served = fd >= 0 && (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
				  errno == EAGAIN);

	fd_close(&fd);
	return served;
}

int listen_at(const char *path)
{
	struct sockaddr_un address;
	int fd = unix_socket(path, &address), err;
	mode_t mask;

	if (fd < 0)
		return -1;
	mask = umask(0177);
	err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			      listen(fd, SOMAXCONN) < 0
		      ? errno
		      : 0;
	umask(mask);
	if (err) {
		fd_close(&fd);
		errno = err;
		return -1;
	}
	return fd;
}

/* The directory the socket is to be in. */
static int open_dir(struct view path)
{
	char buf[SOCKET_PATH_MAX + 1];
	struct text dir = TEXT(buf);
	int fd;

	text_add(&dir, path);
	fd = file_open(dir.at, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0 && errno == ENOENT) {
		make_dirs(path);
		fd = file_open(dir.at, O_RDONLY | O_DIRECTORY, 0);
	}
	return fd;
}

/* The listening socket for a new daemon at `path`, or -1 if one serves there already.
 *
 * The socket gets its name only when it listens already: it is made under another one and
 * linked. So whoever finds the name can connect. Starters of the same group take turns by a lock
 * on the directory, else two of them could both find the same dead socket and remove each
 * other's new one. */
static int claim_socket(const char *path)
{
	struct view dir = {path, (size_t)(strrchr(path, '/') - path)};
	char buf[SOCKET_PATH_MAX + 32];
	struct text temp = TEXT(buf);
	int lock = open_dir(dir), fd = -1;

	text_printf(&temp, "%.*s/.%d", VIEW_FMT(dir), (int)getpid());
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		die("create new shim socket: %.*s: %s", VIEW_FMT(dir), errno_text(errno));
	/* More than once only if somebody who knows no lock is at it too. */
	for (int i = 0; i < 3 && fd < 0; i++) {
		if (access(path, F_OK) == 0) {
			if (!self.v1 && is_served(path))
				break;
			if (!self.v1 && errno != ECONNREFUSED && errno != ENOENT)
				die("create new shim socket: connect %s: %s", path,
				    errno_text(errno));
			unlink(path); /* nobody behind it: its daemon was killed */
		}
		fd = listen_at(temp.at);
		if (fd < 0 && errno == EADDRINUSE && unlink(temp.at) == 0)
			fd = listen_at(temp.at);
		if (fd < 0)
			die("create new shim socket: listen unix %s: %s", path, errno_text(errno));
		if (link(temp.at, path) < 0) {
			if (errno != EEXIST)
				die("create new shim socket: %s: %s", path, errno_text(errno));
			fd_close(&fd);
		}
		unlink(temp.at);
	}
	fd_close(&lock);
	return fd;
}

/* ---- start ---- */

static int oom_score_path(pid_t pid, struct text *t)
{
	t->len = 0;
	text_printf(t, "/proc/%d/oom_score_adj", (int)pid);
	return t->cut ? -ENAMETOOLONG : 0;
}

/* The daemon dies one before containerd does. Without the privilege it stays as it is. */
static int adjust_oom_score(pid_t daemon)
{
	char path_buf[64], buf[16];
	struct text path = TEXT(path_buf), score = TEXT(buf);
	struct view is;
	int value, err;

	oom_score_path(getppid(), &path);
	if (file_line(path.at, buf, sizeof(buf)) <= 0)
		return 0;
	is = view_trim(view_of(buf));
	value = view_starts(is, "-") ? -view_int((struct view){is.at + 1, is.len - 1})
				     : view_int(is);
	text_printf(&score, "%d", value >= 1000 ? 1000 : value + 1);
	oom_score_path(daemon, &path);
	err = file_append(path.at, (struct view){score.at, score.len});
	return err == -EACCES || err == -EPERM ? 0 : err;
}

static int write_pid(pid_t daemon)
{
	char buf[16];
	struct text pid = TEXT(buf);

	text_printf(&pid, "%d", daemon);
	return file_replace("shim.pid", (struct view){pid.at, pid.len}, 0644);
}

static pid_t start_daemon(int listener, bool debug)
{
	const char *argv[] = {
		cmdline.argv0, "-namespace",    cmdline.namespace,       "-id", cmdline.id,
		"-address",    cmdline.address, debug ? "-debug" : NULL, NULL};
	const int fds[] = {-1, -1, -1, listener};
	const struct spawn s = {.path = "/proc/self/exe",
				.argv = argv,
				.fds = fds,
				.fd_count = COUNT(fds),
				.outlives_us = true,
				.is_daemon = true};
	const char *core = getenv("SCHED_CORE");

	if (core && core[0] && prctl(PR_SCHED_CORE, SCHED_CORE_CREATE, 0, SCHED_CORE_PGID, 0) < 0)
		die("enable sched core support: %s", errno_text(errno));
	return spawn(&s);
}

/* Options.shim_cgroup: contract 1.6. */
static int join_cgroup(pid_t daemon, struct view cgroup)
{
	char path_buf[1024], pid_buf[16];
	struct text path = TEXT(path_buf), pid = TEXT(pid_buf);
	struct dir hierarchies = {0};
	bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
	const struct dirent *d;
	int err = 0;

	text_printf(&pid, "%d", daemon);
	if (cgroup.at[0] != '/' || view_starts(cgroup, "/sys/fs/cgroup"))
		return -EINVAL;
	if (v2) {
		text_printf(&path, "/sys/fs/cgroup%.*s/cgroup.procs", VIEW_FMT(cgroup));
		return file_append(path.at, (struct view){pid.at, pid.len});
	}
	hierarchies.fd = file_open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY, 0);
	while (err == 0 && hierarchies.fd >= 0 && (d = dir_next(&hierarchies))) {
		path.len = 0;
		text_printf(&path, "/sys/fs/cgroup/%s%.*s/cgroup.procs", d->d_name,
			    VIEW_FMT(cgroup));
		err = file_append(path.at, (struct view){pid.at, pid.len});
		if (err == -ENOENT || err == -ENOTDIR)
			err = 0; /* a hierarchy that does not have it */
	}
	fd_close(&hierarchies.fd);
	return err;
}

void action_start(void)
{
	char path_buf[128], address_buf[160];
	struct text path = TEXT(path_buf), address = TEXT(address_buf);
	struct bootstrap b;
	int listener, err;
	pid_t pid;

	read_bootstrap(&b);
	socket_path(&b, &path);
	text_printf(&address, "unix://%s", path.at);
	listener = claim_socket(path.at);
	/* Before the daemon is there: it reads this file, and so does a restarted containerd. */
	err = file_replace("address", (struct view){address.at, address.len}, 0644);
	if (err == 0 && listener >= 0) {
		pid = start_daemon(listener, b.debug);
		err = pid < 0 ? pid : 0;
		if (pid > 0 && b.options.shim_cgroup.len > 0)
			err = join_cgroup(pid, b.options.shim_cgroup);
		if (pid > 0 && err == 0)
			err = adjust_oom_score(pid);
		if (self.v1 && err == 0)
			err = write_pid(pid);
		if (pid > 0 && err < 0)
			kill(pid, SIGKILL);
	}
	if (err < 0) {
		if (listener >= 0)
			unlink(path.at);
		die("start daemon: %s", errno_text(-err));
	}
	write_all(STDOUT_FILENO, (struct view){address.at, address.len});
}

/* ---- delete (contract 1.9) ---- */

/* A socket that nobody serves any more: its daemon was killed. One that is served is another's. */
static void remove_dead_socket(void)
{
	char buf[160];
	ssize_t n = file_read("address", buf, sizeof(buf));

	if (n > 0 && view_starts((struct view){buf, (size_t)n}, "unix://") && !is_served(buf + 7) &&
	    errno == ECONNREFUSED)
		unlink(buf + 7);
}

static void complain(const char *what, const char *why)
{
	char buf[2560];
	struct text t = TEXT(buf);

	text_printf(&t, "%s: %s\n", what, why);
	write_all(STDERR_FILENO, (struct view){t.at, t.len});
}

/* Has that container no state any more? Then there is nothing to delete, as after every orderly
 * removal. Where other runtimes keep their state we do not know. */
static bool runtime_forgot(const struct runtime *rt)
{
	const char *slash = strrchr(rt->binary, '/'), *name = slash ? slash + 1 : rt->binary;

	return (strcmp(name, "runc") == 0 || strcmp(name, "crun") == 0) &&
	       !run_knows(rt, cmdline.id);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000}, NULL);
}

static void run_delete(const struct runtime *rt)
{
	const char *const verb[] = {"delete", "--force", cmdline.id, NULL};
	char buf[2048];
	struct text why = TEXT(buf);
	uint64_t end = clock_ms() + DELETE_LIMIT_MS;
	struct run run;

	run_start(&run, rt, verb, NULL, (struct view){0});
	while (run.pid > 0 && waitpid(run.pid, &run.status, WNOHANG) == 0) {
		if (clock_ms() >= end)
			kill(run.pid, SIGKILL);
		nap();
	}
	if (run_failed(&run)) {
		run_ending(&run, rt, &why);
		complain("failed to remove runc container", why.at);
	}
	run_close(&run);
}

static void unmount_rootfs(const char *bundle)
{
	char buf[1024];
	struct text rootfs = TEXT(buf);
	uint64_t end = clock_ms() + UMOUNT_LIMIT_MS;
	int err;

	text_printf(&rootfs, "%s/rootfs", bundle);
	while ((err = mount_undo(rootfs.at)) == -EBUSY && clock_ms() < end)
		nap();
	if (err < 0)
		complain("failed to cleanup rootfs mount", errno_text(-err));
}

void action_delete(void)
{
	char cwd[512], bundle_buf[512], binary_buf[512], root_buf[512];
	struct text bundle = TEXT(bundle_buf), binary = TEXT(binary_buf), root = TEXT(root_buf);
	struct runtime rt;
	struct timespec ts;
	DeleteResponse r = {.exit_status = 128 + SIGKILL, .has_exited_at = true};
	pb_byte_t out_buf[64];
	pb_ostream_t out = pb_ostream_from_buffer(out_buf, sizeof(out_buf));
	pid_t pid;

	if (syscall(SYS_getcwd, cwd, sizeof(cwd)) < 0) /* the C library's wants a heap */
		die("getwd: %s", errno_text(errno));
	text_printf(&bundle, "%.*s/%s", (int)(strrchr(cwd, '/') - cwd), cwd, cmdline.id);
	options_read(bundle.at, &binary, &root);
	if (root.len == 0)
		text_add(&root, VIEW(DEFAULT_ROOT));
	rt = (struct runtime){.binary = binary.len > 0 ? binary.at : self.runtime,
			      .root = root.at,
			      .bundle = bundle.at};
	if (!runtime_forgot(&rt))
		run_delete(&rt);
	unmount_rootfs(bundle.at);
	remove_dead_socket();
	text_add(&bundle, VIEW("/init.pid"));
	pid = pid_file_read(bundle.at);
	r.pid = pid > 0 ? (uint32_t)pid : 0;
	clock_gettime(CLOCK_REALTIME, &ts);
	r.exited_at = (Timestamp){ts.tv_sec, (int32_t)ts.tv_nsec};
	if (pb_encode(&out, &DeleteResponse_msg, &r))
		write_all(STDOUT_FILENO, (struct view){(char *)out_buf, out.bytes_written});
}

/* ---- -info (contract 1.10) ---- */

/* What `BINARY features` prints; empty if it does not know that verb. */
static struct view runtime_features(const char *binary)
{
	const char *const argv[] = {binary, "features", NULL};
	char path_buf[1024], *buf = pages_get(CONFIG_MAX);
	struct text path = TEXT(path_buf);
	int out[2], status = -1;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (find_binary(binary, &path) < 0 || access(path.at, X_OK) < 0)
		die("exec: \"%s\": executable file not found in $PATH", binary);
	if (!buf || pipe2(out, O_CLOEXEC) < 0)
		die("no memory");
	pid = spawn(&(struct spawn){.path = path.at,
				    .argv = argv,
				    .fds = (const int[]){-1, out[1], -1},
				    .fd_count = 3});
	fd_close(&out[1]);
	while (len < CONFIG_MAX && (n = read(out[0], buf + len, CONFIG_MAX - len)) > 0)
		len += (size_t)n;
	fd_close(&out[0]);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
		len = 0;
	return (struct view){buf, len};
}

static bool write_stdout(pb_ostream_t *out, const pb_byte_t *buf, size_t len)
{
	(void)out;
	return write_all(STDOUT_FILENO, (struct view){(const char *)buf, len}) == 0;
}

void action_info(void)
{
	struct view in = read_stdin();
	pb_ostream_t out = {.callback = write_stdout, .max_size = SIZE_MAX};
	char binary_buf[1024];
	struct text binary = TEXT(binary_buf);
	Options options = {0};
	Any any = {0};
	RuntimeInfo info = {.name = view_of(cmdline.runtime),
			    .has_version = true,
			    .version = {VIEW(VERSION), VIEW("nanoshim")}};

	if (in.len > 0) {
		if (!msg_decode(in, &Any_msg, &any) ||
		    !options_decode(any.type_url, any.value, &options))
			die("failed to decode runtime options (%.*s)", VIEW_FMT(any.type_url));
		info.has_options = true;
		info.options = any;
	}
	text_add(&binary,
		 options.binary_name.len > 0 ? options.binary_name : view_of(self.runtime));
	info.features.value = runtime_features(binary.at);
	if (info.features.value.len > 0) {
		info.has_features = true;
		info.features.type_url =
			VIEW("types.containerd.io/opencontainers/runtime-spec/1/features/Features");
	}
	pb_encode(&out, &RuntimeInfo_msg, &info);
}
