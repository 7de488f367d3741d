// SPDX-License-Identifier: Apache-2.0
/*
 * shim.c - main: what the program is by the name it is called and the words behind it, and the
 * daemon with its loop.
 *
 * The daemon observes, decides, speaks: each turn of its loop first lets whoever has something
 * ready read it and note facts, then steps all operations and exits until nothing moves any more,
 * and then sends what is due and frees what is over. Nothing in it ever sleeps but the one ppoll.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

#define FLUSH_MS 5000
#define ABANDONED_MS 5000 /* longer than containerd takes from `start` to its first connection */

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9; the same on every architecture */
#endif

extern char **environ;

/* ---- the command line (contract 1.2) ---- */

static const struct flag {
	char name[16];
	const char **text;
	bool *on;
	const char *usage;
} flags[] = {
	{"namespace", &cmdline.namespace, NULL, "namespace that owns the shim"},
	{"id", &cmdline.id, NULL, "id of the task"},
	{"address", &cmdline.address, NULL, "grpc address back to main containerd"},
	{"publish-binary", &cmdline.publish_binary, NULL, "path to publish binary (not used)"},
	{"bundle", &cmdline.bundle, NULL, "path to the bundle if not workdir"},
	{"socket", &cmdline.socket, NULL, "socket path to serve"},
	{"debug", NULL, &cmdline.debug, "enable debug output in logs"},
	{"debug-socket", &cmdline.debug_socket, NULL, "debug socket path to serve (not used)"},
	{"v", NULL, &cmdline.version, "show the shim version and exit"},
	{"version", NULL, &cmdline.version, "show the shim version and exit"},
	{"info", NULL, &cmdline.info,
	 "get the option protobuf from stdin, print the shim info protobuf"},
};

static _Noreturn void usage(int status, const char *error, ...) PRINTF(2, 3);
static _Noreturn void usage(int status, const char *error, ...)
{
	char buf[1024];
	struct text t = TEXT(buf);
	va_list args;

	va_start(args, error);
	text_vprintf(&t, error, args);
	va_end(args);
	text_printf(&t, "Usage of %s:\n", cmdline.argv0);
	for (size_t i = 0; i < COUNT(flags); i++)
		text_printf(&t, "  -%s%s\n    \t%s\n", flags[i].name,
			    flags[i].text ? " string" : "", flags[i].usage);
	write_all(STDERR_FILENO, (struct view){t.at, t.len});
	exit(status);
}

static const struct flag *flag_find(struct view name)
{
	for (size_t i = 0; i < COUNT(flags); i++)
		if (view_is(name, flags[i].name))
			return &flags[i];
	return NULL;
}

static bool parse_bool(struct view v, bool *on)
{
	static const char words[][6] = {"1", "t", "T", "true",  "TRUE",  "True",
					"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < COUNT(words); i++) {
		if (!view_is(v, words[i]))
			continue;
		*on = i < COUNT(words) / 2;
		return true;
	}
	return false;
}

/* By the rules of Go's flag package: one dash or two, value behind '=' or as the next word. */
static void parse_args(int argc, char **argv)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
		struct view value = view_of(argv[i] + 1 + (argv[i][1] == '-'));
		bool has_value = strchr(argv[i], '=');
		struct view name = view_cut(&value, '=');
		const struct flag *f = flag_find(name);

		if (name.len == 0 && !has_value) { /* "--" */
			i++;
			break;
		}
		if (view_is(name, "h") || view_is(name, "help"))
			usage(0, "%s", "");
		if (name.len == 0 || name.at[0] == '-')
			usage(2, "bad flag syntax: %s\n", argv[i]);
		if (!f)
			usage(2, "flag provided but not defined: -%.*s\n", VIEW_FMT(name));
		if (f->on && !parse_bool(has_value ? value : VIEW("true"), f->on))
			usage(2, "invalid boolean value \"%.*s\" for -%.*s: parse error\n",
			      VIEW_FMT(value), VIEW_FMT(name));
		if (f->on)
			continue;
		if (has_value)
			*f->text = value.at;
		else if (++i < argc)
			*f->text = argv[i];
		else
			usage(2, "flag needs an argument: -%.*s\n", VIEW_FMT(name));
	}
	if (i < argc)
		cmdline.action = argv[i];
}

/* What we are by the name we were called: containerd-shim-NAME-VERSION runs NAME. */
static void take_name(const char *argv0)
{
	static char binary[64];
	struct text runtime = TEXT(cmdline.runtime), b = TEXT(binary);
	char found[256];
	struct view rest, kind;

	cmdline.argv0 = argv0;
	cmdline.name = strrchr(argv0, '/') ? strrchr(argv0, '/') + 1 : argv0;
	rest = view_of(cmdline.name);
	if (view_starts(rest, "containerd-shim-")) {
		rest = view_of(cmdline.name + strlen("containerd-shim-"));
		kind = view_cut(&rest, '-');
	} else {
		kind = VIEW("runc");
		rest = VIEW("v2");
	}
	text_printf(&runtime, "io.containerd.%.*s.%.*s", VIEW_FMT(kind), VIEW_FMT(rest));
	text_add(&b, kind);
	if (view_is(kind, "nano")) {
		struct text path = TEXT(found);

		self.runtime = find_binary("crun", &path) == 0 ? "crun" : "runc";
	} else {
		self.runtime = binary;
	}
	self.v1 = strcmp(cmdline.name, "containerd-shim-runc-v1") == 0;
	prctl(PR_SET_NAME, cmdline.name);
}

static void print_version(void)
{
	char buf[256];
	struct text t = TEXT(buf);

	text_printf(&t, "%s:\n  Version:  %s\n  Revision: nanoshim\n  Go version: none\n\n",
		    cmdline.name, VERSION);
	write_all(STDOUT_FILENO, (struct view){t.at, t.len});
}

/* ---- the daemon ---- */

/* The name we are found by stands in the bundle's `address`; the socket itself only knows the one
 * it was made under. */
static void take_socket(void)
{
	struct text dir = TEXT(self.socket_dir);
	char buf[160], *slash;
	const char *path = buf;
	int fd = LISTEN_FD, on = 0;
	socklen_t len = sizeof(on);

	if (cmdline.socket[0]) {
		if (strlen(cmdline.socket) > SOCKET_PATH_MAX)
			die("\"%s\": unix socket path too long (> %d)", cmdline.socket,
			    SOCKET_PATH_MAX);
		strcpy(buf, cmdline.socket);
		unlink(path);
		fd = listen_at(path);
		if (fd < 0)
			die("listen unix %s: %s", path, errno_text(errno));
	} else {
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on)
			die("fd %d is no listening socket", fd);
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		if (file_read("address", buf, sizeof(buf)) > 0 &&
		    view_starts(view_of(buf), "unix://"))
			path += strlen("unix://");
		else
			path = ""; /* no address, or one that is too long */
	}
	server_listen(fd, path);
	text_add(&dir, path[0] ? view_of(path) : VIEW(SOCKET_DIR "/"));
	slash = strrchr(dir.at, '/');
	if (slash)
		*slash = '\0';
	else
		strcpy(self.socket_dir, ".");
}

/* fd 2 becomes the FIFO that containerd copies to its own log. It is opened for both directions: so
 * it needs no reader to be there, and lines written while containerd is away are kept in it. */
static void open_log(void)
{
	int fd = file_open("log", O_RDWR | O_NONBLOCK, 0);

	if (fd >= 0)
		dup3(fd, STDERR_FILENO, O_CLOEXEC);
	fd_close(&fd);
}

static void close_inherited(int from)
{
	struct dir dir = {0};
	const struct dirent *d;

	if (syscall(SYS_close_range, from, ~0U, 0) == 0)
		return;
	dir.fd = file_open("/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
	while (dir.fd >= 0 && (d = dir_next(&dir))) {
		int fd = view_int(view_of(d->d_name));

		if (fd >= from && fd != dir.fd)
			close(fd);
	}
	fd_close(&dir.fd);
}

/* What systemd's readiness protocol would take for a message from containerd itself. */
static void forget_notify_socket(void)
{
	char **to = environ;

	for (char **e = environ; *e; e++)
		if (strncmp(*e, "NOTIFY_SOCKET=", strlen("NOTIFY_SOCKET=")) != 0)
			*to++ = *e;
	*to = NULL;
}

/* pivot_root(2) needs a root that is mounted on something. An initramfs' is not, unless it was
 * bound over itself: then a second mount at "/" shows. */
static bool root_cannot_pivot(void)
{
	const char *wish = getenv("NANOSHIM_PIVOT_ROOT");
	struct view rest;
	struct file table;
	struct statfs fs;
	bool bottom = false, covered = false;

	if (wish && wish[0])
		return strcmp(wish, "no") == 0;
	if (statfs("/", &fs) == 0 && fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC)
		return false; /* the table takes much longer */
	if (file_pages("/proc/self/mountinfo", &table) < 0)
		return false;
	rest = (struct view){table.at, table.len};
	while (rest.len > 0) {
		struct view line = view_cut(&rest, '\n'), point;
		int id = view_int(view_cut(&line, ' ')), parent = view_int(view_cut(&line, ' '));

		view_cut(&line, ' '); /* device */
		view_cut(&line, ' '); /* root within it */
		point = view_cut(&line, ' ');
		if (!view_is(point, "/"))
			continue;
		bottom |= id == parent;
		covered |= id != parent;
	}
	pages_put(table.at, table.cap);
	return bottom && !covered;
}

/* ---- being forgotten ---- */

/* A containerd that has lost track of us never sends Shutdown. So a daemon that has been without
 * containers and clients for a while watches for the end of its bundle, and with that it goes by
 * itself. A directory we are in does not tell of its own end, but the one above it does. Not from
 * the first moment on: to close an inotify descriptor takes the kernel 10 ms and more, and the
 * Create that comes right after `start` would wait for it. */
static int bundle_watch = -1;

static void bundle_changed(void)
{
	_Alignas(struct inotify_event) char events[512];

	while (read(bundle_watch, events, sizeof(events)) > 0)
		;
}

static bool bundle_gone(void)
{
	char path[1024];

	return syscall(SYS_getcwd, path, sizeof(path)) < 0 && errno == ENOENT;
}

static bool abandoned(void)
{
	static uint64_t alone_until; /* then we look for the bundle; 0: we are not alone */

	if (container_count() > 0 || ops_count() > 0 || !server_alone()) {
		fd_close(&bundle_watch);
		alone_until = 0;
		return false;
	}
	if (!alone_until)
		alone_until = now + ABANDONED_MS;
	if (now < alone_until) {
		loop_timer(alone_until);
		return false;
	}
	if (bundle_watch < 0) {
		bundle_watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		inotify_add_watch(bundle_watch, "..", IN_DELETE);
	}
	loop_want(bundle_watch, POLLIN, REF_BUNDLE, 0, 0);
	if (!bundle_gone())
		return false;
	log_line(LOG_INFO, "no containers, no clients, no bundle: leaving");
	return true;
}

static void dispatch(const struct ref *ref)
{
	struct proc *p = &slots.procs[ref->slot]; /* where the slot is one of these */

	switch ((enum ref_kind)ref->kind) {
	case REF_LISTEN:
		server_accept();
		event_hurry(); /* a restarted containerd comes back by this door */
		break;
	case REF_CONN:
		task_receive(ref->slot, ref->got);
		break;
	case REF_PUBLISH:
		event_receive(ref->got);
		break;
	case REF_PUMP:
		io_pump(&p->io, ref->part);
		if (io_drained(&p->io))
			ops_wake(ref->slot);
		break;
	case REF_LOGGER:
		io_logger(&p->io);
		ops_wake(ref->slot);
		break;
	case REF_OOM:
		container_oom(&slots.containers[ref->slot]);
		break;
	case REF_BUNDLE:
		bundle_changed();
		break;
	}
}

static void report(void)
{
	loop_report = false;
	log_line(LOG_INFO, "%u containers, %u unfinished requests, %u slow peers, events %s",
		 container_count(), ops_count(), server_pending(),
		 event_idle() ? "sent" : "waiting");
}

/* One turn: observe, decide, speak. */
static void turn(void)
{
	struct ref ref;

	if (!event_behind())
		server_want();
	event_want();
	procs_want();
	ops_want();
	if (loop_wait()) {
		pages_forget(&scratch, sizeof(scratch));
		ops_forget();
		procs_forget();
		cgroup_forget();
		stack_forget();
	}
	if (loop_report)
		report();
	if (loop_child)
		reap();
	while (loop_next(&ref))
		dispatch(&ref);
	while (ops_step() | procs_step())
		;
	waits_check();
	event_flush();
	server_sweep();
}

/* To stop serving is not to stop at once: replies and events that are due still go out. The name
 * goes first, so that no `start` finds a daemon that is about to leave. */
static void finish(void)
{
	uint64_t limit = now + FLUSH_MS;

	task_closed = true; /* a container made now would be left behind */
	server_hide();
	server_accept(); /* whoever came by that name just now is told that we are about to end */
	server_close();
	event_watch();
	while (now < limit && (server_pending() > 0 || (!event_idle() && !event_hopeless()))) {
		loop_timer(limit);
		turn();
	}
}

/* A pod's streams are many: as many descriptors as we may have. The processes we start get back
 * what we were given. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (prlimit(0, RLIMIT_NOFILE, NULL, &self.files) < 0)
		return;
	limit = (struct rlimit){self.files.rlim_max, self.files.rlim_max};
	prlimit(0, RLIMIT_NOFILE, &limit, NULL); /* setrlimit(3) would bring threads in */
}

static void daemon_main(void)
{
	close_inherited(cmdline.socket[0] ? LISTEN_FD : LISTEN_FD + 1);
	raise_file_limit();
	setpgid(0, 0);
	loop_init();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	take_socket();
	open_log();
	forget_notify_socket();
	event_init(getenv("TTRPC_ADDRESS"));
	self.no_pivot = root_cannot_pivot();
	if (self.no_pivot)
		log_line(LOG_DEBUG, "the root file system cannot pivot: --no-pivot is added");
	while (!loop_terminate && !(task_shutdown && (self.v1 || container_count() == 0)) &&
	       !abandoned())
		turn();
	finish();
}

int main(int argc, char **argv)
{
	const struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	relocate();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sigaction(SIGCHLD, &dfl, NULL); /* ignored, no child could be waited for */
	take_name(argc > 0 ? argv[0] : "containerd-shim-runc-v2");
	parse_args(argc, argv);
	if (cmdline.version) {
		print_version();
		return 0;
	}
	self.namespace = cmdline.namespace;
	log_debug = cmdline.debug;
	if (cmdline.info) {
		action_info();
		return 0;
	}
	if (!cmdline.namespace[0])
		die("shim namespace cannot be empty");
	if (strcmp(cmdline.action, "start") == 0) {
		action_start();
	} else if (strcmp(cmdline.action, "delete") == 0) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		action_delete();
	} else {
		daemon_main();
	}
	return 0;
}
