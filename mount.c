// SPDX-License-Identifier: Apache-2.0
/*
 * mount.c - the rootfs: a list of mounts described by containerd, made in order, undone in reverse.
 *
 * The whole list is read and checked before the first mount is made, so that a bad list changes
 * nothing. Each mount is then read again into one work area: its flags, its data string, and the
 * few things that need more than one system call:
 *
 *	bind + ro	the kernel ignores flags when it binds: a remount brings them in
 *	lower layers	the kernel takes one page of data. The layers of a longer overlay are
 *			named relative to the directory they share, with that as the working
 *			directory
 *	loop		a free loop device is tied to the source; it frees itself when unmounted
 *	uidmap, gidmap	the mount is cloned, the clone is id-mapped and takes its place. An overlay
 *			can't be mapped: its lower layers are, by a mapped clone of the directory
 *			they share, that lives only as long as the mount(2)
 *	fuse.X		a helper program does it
 *
 * Nothing is remembered: to undo, /proc/self/mountinfo is asked what lies at or below the rootfs,
 * and the deepest goes first. That is right also after a crash of the one who mounted.
 *
 * Paths are long and the stack is short, so the work areas are pages of their own.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"
#include "types.pb.h"

enum {
	ROOTFS_TAG = 3,       /* of CreateTaskRequest */
	PAGE_LARGEST = 65536, /* of any machine */
	DATA_SPARE = 512,     /* an overlay's data this close to a page is shortened */
	LINKS_MAX = 40,       /* symlinks followed in one target, as in the kernel */
	LOOP_TRIES = 100,     /* free loop devices found and lost to somebody else */
	HELPER_ARGS = 256,    /* words of a helper's command line */
	HELPER_MS = 10 * 1000 /* the daemon stands still while a helper works */
};

/* Since Linux 5.2 and 5.12. musl 1.2.3 has no functions for them, and glibc's <sys/mount.h>
 * disagrees with the kernel's header about who defines the words. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
enum {
	TREE_CLONE = 1,
	TREE_RECURSIVE = 0x8000,
	MOVE_FROM_FD = 4,
	TREE_RDONLY = 1,
	TREE_IDMAP = 0x100000
};
struct tree_attr {
	uint64_t set, clear, propagation, userns_fd;
};

/* One mount, read. */
struct work {
	struct view mount; /* encoded */
	unsigned long flags;
	bool loop, direct;
	struct view uidmap, gidmap;
	struct view lower; /* overlay: the value of lowerdir= */
	size_t common;     /* so many bytes of each lower layer are named by `dir` instead */
	const char *args[HELPER_ARGS]; /* a helper's command line */
	char type[64], source[PATH_MAX], target[PATH_MAX];
	char dir[PATH_MAX]; /* mount with this working directory; empty: the present one */
	char todo[PATH_MAX], link[PATH_MAX];
	char data[PAGE_LARGEST];
};

/* ---- saying what went wrong ---- */

static const char prefix[] = "failed to mount rootfs component: ";

/* Writes the client's sentence; err is -errno and is returned. */
static int PRINTF(3, 4) fail(struct text *why, int err, const char *fmt, ...)
{
	va_list args;

	text_add(why, VIEW(prefix));
	va_start(args, fmt);
	text_vprintf(why, fmt, args);
	va_end(args);
	text_add(why, VIEW(": "));
	text_add(why, view_of(errno_text(-err)));
	return err;
}

static int fail_mount(struct text *why, int err, const struct work *w)
{
	struct view data = view_of(w->data);
	const size_t rest = 100; /* the reason must not be cut off, the data may be */

	text_printf(why, "%smount source: \"", prefix);
	text_json(why, view_of(w->source));
	text_add(why, VIEW("\", target: \""));
	text_json(why, view_of(w->target));
	text_printf(why, "\", fstype: %s, flags: %lu, data: \"", w->type, w->flags);
	if (why->len + data.len + rest > why->cap)
		data.len = why->len + rest < why->cap ? why->cap - why->len - rest : 0;
	while (data.len > 0 && (data.at[data.len] & 0xc0) == 0x80) /* within a character */
		data.len--;
	text_json(why, data);
	text_add(why, VIEW("\", err: "));
	text_add(why, view_of(errno_text(-err)));
	return err;
}

/* Copies v as a C string; -EINVAL if it can't be one. */
static int copy(char *to, size_t cap, struct view v)
{
	if (v.len >= cap)
		return -ENAMETOOLONG;
	if (v.len > 0) {
		if (memchr(v.at, '\0', v.len))
			return -EINVAL;
		memcpy(to, v.at, v.len);
	}
	to[v.len] = '\0';
	return 0;
}

/* ---- reading one mount ---- */

static const struct word {
	char name[14];
	bool clear;
	uint32_t flags;
} words[] = {
	{"async", true, MS_SYNCHRONOUS},
	{"atime", true, MS_NOATIME},
	{"bind", false, MS_BIND},
	{"dev", true, MS_NODEV},
	{"diratime", true, MS_NODIRATIME},
	{"dirsync", false, MS_DIRSYNC},
	{"exec", true, MS_NOEXEC},
	{"mand", false, MS_MANDLOCK},
	{"noatime", false, MS_NOATIME},
	{"nodev", false, MS_NODEV},
	{"nodiratime", false, MS_NODIRATIME},
	{"noexec", false, MS_NOEXEC},
	{"nomand", true, MS_MANDLOCK},
	{"norelatime", true, MS_RELATIME},
	{"nostrictatime", true, MS_STRICTATIME},
	{"nosuid", false, MS_NOSUID},
	{"rbind", false, MS_BIND | MS_REC},
	{"relatime", false, MS_RELATIME},
	{"remount", false, MS_REMOUNT},
	{"ro", false, MS_RDONLY},
	{"rw", true, MS_RDONLY},
	{"strictatime", false, MS_STRICTATIME},
	{"suid", true, MS_NOSUID},
	{"sync", false, MS_SYNCHRONOUS},
};

/* If opt is KEY=VALUE for this "KEY=". */
static bool option_value(struct view opt, const char *key, struct view *value)
{
	size_t n = strlen(key);

	if (!view_starts(opt, key))
		return false;
	*value = (struct view){opt.at + n, opt.len - n};
	return true;
}

/* True if the option is not for us but for the file system. */
static bool option_is_data(struct work *w, struct view opt)
{
	for (size_t i = 0; i < COUNT(words); i++) {
		if (!view_is(opt, words[i].name))
			continue;
		w->flags = words[i].clear ? w->flags & ~words[i].flags : w->flags | words[i].flags;
		return false;
	}
	if (view_is(opt, "loop"))
		w->loop = true;
	else if (view_is(opt, "direct-io"))
		w->direct = true;
	else if (!option_value(opt, "uidmap=", &w->uidmap) &&
		 !option_value(opt, "gidmap=", &w->gidmap) &&
		 (w->lower.at || strcmp(w->type, "overlay") != 0 ||
		  !option_value(opt, "lowerdir=", &w->lower)))
		return true;
	return false;
}

static void add_data(struct text *data, struct view opt)
{
	if (data->len > 0)
		text_add(data, VIEW(","));
	text_add(data, opt);
}

/* The length of the longest directory, with its slash, that every layer lies in; 0 if there is
 * none worth it. A backslash would be an escape to overlayfs, but not to chdir(2). */
static size_t layers_common(struct view layers)
{
	struct view rest = layers, shared = view_cut(&rest, ':'), dir;

	while (rest.len > 0) {
		size_t i = 0;

		dir = view_cut(&rest, ':');
		while (i < shared.len && i < dir.len && shared.at[i] == dir.at[i])
			i++;
		shared.len = i;
	}
	while (shared.len > 0 && shared.at[shared.len - 1] != '/')
		shared.len--;
	if (shared.len <= 1 || shared.len >= PATH_MAX || memchr(shared.at, '\\', shared.len))
		return 0;
	for (rest = layers; rest.len > 0;) {
		dir = view_cut(&rest, ':');
		if (dir.len == shared.len)
			return 0;
	}
	return shared.len;
}

static bool is_mapped(const struct work *w)
{
	return w->uidmap.len > 0 && w->gidmap.len > 0;
}

static bool is_fuse(const struct work *w)
{
	return strncmp(w->type, "fuse.", 5) == 0 || strncmp(w->type, "fuse3.", 6) == 0;
}

/* Reads an encoded Mount into *w. 0, or -errno and the sentence. */
static int work_read(struct work *w, struct view mount, struct text *why)
{
	size_t page = (size_t)getpagesize(), size = 0;
	struct text data = {.at = w->data, .cap = page < sizeof(w->data) ? page : sizeof(w->data)};
	struct view rest = mount, opt, layers;
	Mount m = {0};

	if (!msg_decode(mount, Mount_fields, &m))
		return fail(why, -EINVAL, "malformed mount");
	w->mount = mount;
	w->flags = 0;
	w->loop = w->direct = false;
	w->uidmap = w->gidmap = w->lower = (struct view){0};
	w->common = 0;
	w->dir[0] = w->data[0] = '\0';
	if (copy(w->type, sizeof(w->type), m.type) < 0 ||
	    copy(w->source, sizeof(w->source), m.source) < 0 ||
	    copy(w->link, sizeof(w->link), m.target) < 0)
		return fail(why, -EINVAL, "mount source: \"%.*s\"", VIEW_FMT(m.source));
	while (field_next(&rest, Mount_options_tag, &opt)) {
		if (view_starts(opt, "X-containerd.")) {
			text_printf(why,
				    "%sinternal mount option \"%.*s\" was not consumed by the "
				    "mount manager",
				    prefix, VIEW_FMT(opt));
			return -EINVAL;
		}
		if (memchr(opt.at, '\0', opt.len))
			return fail(why, -EINVAL, "mount option");
		size += opt.len;
		if (option_is_data(w, opt))
			add_data(&data, opt);
	}
	if (w->direct && !w->loop)
		add_data(&data, VIEW("direct-io"));
	if (is_fuse(w))
		return 0; /* takes its options one by one */
	if (w->lower.at) {
		layers = w->lower;
		if (is_mapped(w) ||
		    (size >= page - DATA_SPARE && memchr(layers.at, ':', layers.len)))
			w->common = layers_common(layers);
		if (is_mapped(w) && w->common == 0)
			return fail(why, -EINVAL, "failed to determine common parent of lowerdir");
		copy(w->dir, sizeof(w->dir), (struct view){layers.at, w->common});
		add_data(&data, VIEW("lowerdir="));
		while (layers.len > 0) {
			opt = view_cut(&layers, ':');
			text_add(&data, (struct view){opt.at + w->common, opt.len - w->common});
			if (layers.at)
				text_add(&data, VIEW(":"));
		}
	}
	if (data.cut) {
		text_printf(why, "%smount options is too long", prefix);
		return -E2BIG;
	}
	return 0;
}

/* Resolves the mount's target in `root`, symlinks too, as if root were "/": from w->link to
 * w->target. */
static int work_target(struct work *w, const char *root)
{
	struct text path = TEXT(w->target);
	struct view todo, name;
	size_t base;
	int links = 0;

	text_add(&path, view_of(root));
	base = path.len;
	strcpy(w->todo, w->link);
	todo = view_of(w->todo);
	while (todo.len > 0) {
		size_t before = path.len;
		ssize_t n;

		name = view_cut(&todo, '/');
		if (name.len == 0 || view_is(name, "."))
			continue;
		if (view_is(name, "..")) {
			while (path.len > base && path.at[--path.len] != '/')
				;
			path.at[path.len] = '\0';
			continue;
		}
		text_add(&path, VIEW("/"));
		text_add(&path, name);
		if (path.cut)
			return -ENAMETOOLONG;
		n = readlink(path.at, w->link, sizeof(w->link));
		if (n < 0)
			continue; /* no link: a name as it is, or mount(2) will say what is wrong */
		if (++links > LINKS_MAX)
			return -ELOOP;
		if ((size_t)n + 1 + todo.len >= sizeof(w->todo))
			return -ENAMETOOLONG;
		if (todo.len > 0)
			memmove(w->todo + n + 1, todo.at, todo.len);
		memcpy(w->todo, w->link, (size_t)n);
		w->todo[n] = '/';
		todo = (struct view){w->todo, (size_t)n + 1 + todo.len};
		path.len = w->link[0] == '/' ? base : before;
		path.at[path.len] = '\0';
	}
	return 0;
}

/* ---- helper programs ---- */

/* Runs a program to its end: its exit status, or -errno. What it says goes to `said`. */
static int help(const char *const argv[], struct text *said)
{
	const struct timespec nap = {.tv_nsec = 2 * 1000 * 1000};
	uint64_t end = clock_ms() + HELPER_MS;
	/* A file and not a pipe: a FUSE server may inherit it and never close it. */
	int out = memfd_create("output", MFD_CLOEXEC), fds[] = {-1, out, out}, status = 0, err;
	char name[256], buf[256];
	struct text path = TEXT(name);
	struct spawn s = {.path = name,
			  .argv = argv,
			  .fds = fds,
			  .fd_count = COUNT(fds),
			  .outlives_us = true};
	pid_t pid = 0;
	ssize_t n;

	err = find_binary(argv[0], &path);
	if (err == 0 && (pid = spawn(&s)) < 0)
		err = pid;
	while (err == 0 && waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_ms() > end)
			kill(pid, SIGKILL);
		nanosleep(&nap, NULL);
	}
	n = pread(out, buf, sizeof(buf), 0);
	text_json(said, view_trim((struct view){buf, n > 0 ? (size_t)n : 0}));
	fd_close(&out);
	if (err < 0)
		return err;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int mount_fuse(struct work *w, struct text *why)
{
	char output[512] = "";
	struct text args = TEXT(w->data), said = TEXT(output);
	struct view rest = w->mount, opt;
	const char *kind = strchr(w->type, '.') + 1;
	size_t n = 3;
	int status;

	text_printf(&args, "mount.%.*s%c", (int)(kind - w->type - 1), w->type, '\0');
	w->args[0] = w->data;
	w->args[1] = w->source;
	w->args[2] = w->target;
	while (n < HELPER_ARGS - 4 && field_next(&rest, Mount_options_tag, &opt)) {
		w->args[n++] = "-o";
		w->args[n++] = args.at + args.len;
		text_printf(&args, "%.*s%c", VIEW_FMT(opt), '\0');
	}
	w->args[n++] = "-t";
	w->args[n++] = kind;
	w->args[n] = NULL;
	if (args.cut || rest.len > 0) {
		text_printf(why, "%smount options is too long", prefix);
		return -E2BIG;
	}
	status = help(w->args, &said);
	if (status == 0)
		return 0;
	text_printf(why, "%smount helper [%s %s %s] failed: \"%s\": ", prefix, w->args[0],
		    w->source, w->target, output);
	if (status < 0) {
		text_add(why, view_of(errno_text(-status)));
		return status;
	}
	text_printf(why, "exit status %d", status);
	return -EIO;
}

/* ---- loop devices ---- */

static int loop_tie(int dev, int file, const struct work *w)
{
	struct loop_config config = {.fd = (uint32_t)file};
	struct text name = {.at = (char *)config.info.lo_file_name, .cap = LO_NAME_SIZE};

	config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	if (w->flags & MS_RDONLY)
		config.info.lo_flags |= LO_FLAGS_READ_ONLY;
	text_add(&name, view_of(w->source));
	if (w->direct)
		config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
	if (ioctl(dev, LOOP_CONFIGURE, &config) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOTTY)
		return -errno;
	/* Before Linux 5.8: in steps. */
	if (ioctl(dev, LOOP_SET_FD, file) < 0)
		return -errno;
	if (ioctl(dev, LOOP_SET_STATUS64, &config.info) == 0 &&
	    (!w->direct || ioctl(dev, LOOP_SET_DIRECT_IO, 1) == 0))
		return 0;
	int err = -errno;

	ioctl(dev, LOOP_CLR_FD, 0);
	return err;
}

/* Ties the source file to a free loop device, which becomes the source. Returns the device's fd, to
 * be kept open until it is mounted: it frees itself with its last user. */
static int loop_open(struct work *w, struct text *why)
{
	int mode = ((w->flags & MS_RDONLY) ? O_RDONLY : O_RDWR);
	int control, file, number, dev = -1, err = -EBUSY;
	char name[32];
	struct text path = TEXT(name);

	file = file_open(w->source, mode | O_NONBLOCK, 0); /* it may be a FIFO */
	if (file < 0)
		return fail(why, -errno, "could not open backing file: %s", w->source);
	control = file_open("/dev/loop-control", O_RDWR, 0);
	if (control < 0)
		err = -errno;
	for (int i = 0; err == -EBUSY && i < LOOP_TRIES; i++) {
		fd_close(&dev);
		number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0) {
			err = -errno;
			break;
		}
		path.len = 0;
		text_printf(&path, "/dev/loop%d", number);
		dev = file_open(name, mode, 0);
		err = dev < 0 ? -errno : loop_tie(dev, file, w);
	}
	fd_close(&control);
	fd_close(&file);
	if (err == 0) {
		strcpy(w->source, name);
		return dev;
	}
	fd_close(&dev);
	return fail(why, err, "could not set up a loop device for %s", w->source);
}

/* ---- id-mapped mounts ---- */

/* "CONTAINER:HOST:SIZE[,...]" to what the kernel's map files take. */
static int map_write(pid_t pid, const char *file, struct view map, char *buf, size_t cap)
{
	struct text lines = {.at = buf, .cap = cap};
	char name[48];
	struct text path = TEXT(name);

	while (map.len > 0) {
		struct view range = view_cut(&map, ',');

		for (int i = 0; i < 3; i++) {
			struct view number = view_cut(&range, ':');

			if (number.len == 0)
				return -EINVAL;
			for (size_t k = 0; k < number.len; k++)
				if (number.at[k] < '0' || number.at[k] > '9')
					return -EINVAL;
			text_add(&lines, number);
			text_add(&lines, i < 2 ? VIEW(" ") : VIEW("\n"));
		}
		if (range.len > 0)
			return -EINVAL;
	}
	text_printf(&path, "/proc/%d/%s", (int)pid, file);
	return lines.cut ? -E2BIG : file_write(name, (struct view){buf, lines.len}, 0);
}

/* A user namespace with the mount's two maps, as an fd. It is born with a process that does
 * nothing, and stays after it. */
static int userns_open(struct work *w)
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	char name[32];
	struct text path = TEXT(name);
	int fd;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (pid < 0)
		return -errno;
	fd = map_write(pid, "uid_map", w->uidmap, w->todo, sizeof(w->todo));
	if (fd == 0)
		fd = map_write(pid, "gid_map", w->gidmap, w->todo, sizeof(w->todo));
	if (fd == 0) {
		text_printf(&path, "/proc/%d/ns/user", (int)pid);
		fd = file_open(name, O_RDONLY, 0);
		if (fd < 0)
			fd = -errno;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

/* Clones the mounts at `from`, maps the clone's ids and mounts it at `to`; if `replace`, instead of
 * what is there. */
static int clone_mapped(const char *from, const char *to, int userns, uint64_t set, bool replace)
{
	struct tree_attr attr = {set | TREE_IDMAP, 0, MS_PRIVATE, (uint64_t)userns};
	int tree, err = 0;

	tree = (int)syscall(SYS_open_tree, AT_FDCWD, from, TREE_CLONE | TREE_RECURSIVE | O_CLOEXEC);
	if (tree < 0)
		return -errno;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | TREE_RECURSIVE, &attr,
		    sizeof(attr)) < 0 ||
	    (replace && umount2(to, MNT_DETACH) < 0) ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, to, MOVE_FROM_FD) < 0)
		err = -errno;
	fd_close(&tree);
	return err;
}

/* ---- making one mount ---- */

/* mount(2) from the directory w->dir. Of the whole process for a moment: there are no threads. */
static int mount_there(const struct work *w)
{
	int back = -1, err = 0;

	if (w->dir[0]) {
		back = file_open(".", O_PATH | O_DIRECTORY, 0);
		if (back < 0 || chdir(w->dir) < 0)
			err = -errno;
	}
	if (err == 0 && mount(w->source, w->target, w->type, w->flags, w->data) < 0)
		err = -errno;
	if (back >= 0 && fchdir(back) < 0)
		log_line(LOG_ERROR, "mount: no way back from %s: %s", w->dir, errno_text(errno));
	fd_close(&back);
	return err;
}

/* The flags of the bind become effective. In a user namespace those that came with the mount can't
 * be taken away: they are named too. */
static int remount_readonly(const struct work *w)
{
	const unsigned long same = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
				   MS_NODIRATIME;
	unsigned long flags = w->flags | MS_REMOUNT;
	struct statfs fs;

	if (mount("", w->target, "", flags, "") == 0)
		return 0;
	if (errno != EPERM || statfs(w->target, &fs) < 0)
		return -errno;
	flags |= (unsigned long)fs.f_flags & same;
	if (fs.f_flags & ST_RELATIME)
		flags |= MS_RELATIME;
	return mount("", w->target, "", flags, "") < 0 ? -errno : 0;
}

/* An overlay whose layers are seen through a mapped clone of their common directory. */
static int mount_mapped_overlay(struct work *w, int userns, struct text *why)
{
	static unsigned int serial;
	const char *tmp = getenv("TMPDIR");
	struct text dir = TEXT(w->link);
	int err;

	do {
		dir.len = 0;
		text_printf(&dir, "%s/ovl-idmapped-%d-%u", tmp && tmp[0] ? tmp : "/tmp",
			    (int)getpid(), ++serial);
		err = mkdir(w->link, 0700);
	} while (err < 0 && errno == EEXIST);
	if (err < 0)
		return fail(why, -errno, "failed to create temporary directory for overlay layers");
	err = clone_mapped(w->dir, w->link, userns, TREE_RDONLY, false);
	if (err < 0) {
		err = fail(why, err, "failed to create idmapped mount of %s", w->dir);
	} else {
		strcpy(w->dir, w->link);
		err = mount_there(w);
		if (err < 0)
			err = fail_mount(why, err, w);
		umount2(w->link, MNT_DETACH);
	}
	rmdir(w->link);
	return err;
}

static int work_mount(struct work *w, struct text *why)
{
	bool overlay = strcmp(w->type, "overlay") == 0;
	int userns = -1, loop = -1, err = 0;

	if (is_fuse(w))
		return mount_fuse(w, why);
	if (is_mapped(w)) {
		userns = userns_open(w);
		if (userns < 0)
			return fail(why, userns, "user namespace for uidmap=%.*s, gidmap=%.*s",
				    VIEW_FMT(w->uidmap), VIEW_FMT(w->gidmap));
	}
	if (overlay && is_mapped(w)) {
		err = mount_mapped_overlay(w, userns, why);
		fd_close(&userns);
		return err;
	}
	/* A remount without data has nothing to say here. */
	if (!(w->flags & MS_REMOUNT) || w->data[0]) {
		if (w->loop)
			err = loop = loop_open(w, why);
		if (err >= 0) {
			err = mount_there(w);
			if (err < 0)
				fail_mount(why, err, w);
		}
		fd_close(&loop);
	}
	if (err == 0 && (w->flags & (MS_BIND | MS_RDONLY)) == (MS_BIND | MS_RDONLY)) {
		err = remount_readonly(w);
		if (err < 0)
			fail(why, err, "remount \"%s\" read-only", w->target);
	}
	if (err == 0 && userns >= 0) {
		err = clone_mapped(w->target, w->target, userns, 0, true);
		if (err < 0)
			fail(why, err, "unable to shift GID/UID for %s", w->target);
	}
	fd_close(&userns);
	return err;
}

int mount_rootfs(struct view request, const char *root, struct text *why)
{
	struct work *w = pages_get(sizeof(*w));
	struct view rest = request, mount;
	int err = 0;

	if (!w)
		return fail(why, -ENOMEM, "mount");
	while (err == 0 && field_next(&rest, ROOTFS_TAG, &mount))
		err = work_read(w, mount, why);
	rest = request;
	while (err == 0 && field_next(&rest, ROOTFS_TAG, &mount)) {
		err = work_read(w, mount, why);
		if (err == 0 && (err = work_target(w, root)) < 0)
			fail(why, err, "failed to join path \"%s\" with root \"%s\"", w->target,
			     root);
		if (err == 0)
			err = work_mount(w, why);
		/* Nobody can have anything open there yet that would have to be waited for. */
		if (err < 0 && mount_undo(root) == -EBUSY)
			umount2(root, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	pages_put(w, sizeof(*w));
	return err;
}

/* ---- undoing ---- */

/* Mount points at or below a root, one at a time, in the order in which they can be unmounted. */
struct undo {
	char root[PATH_MAX];
	char point[PATH_MAX]; /* of the line being read */
	char best[PATH_MAX];  /* the first in order so far */
	char stuck[PATH_MAX]; /* only what comes behind it; empty: everything */
	bool fuse;            /* best is a FUSE mount */
};

/* The kernel writes blanks and the like as \ooo. */
static void unescape(char *to, size_t cap, struct view v)
{
	struct text t = {.at = to, .cap = cap};

	for (size_t i = 0; i < v.len; i++) {
		char c = v.at[i];

		if (c == '\\' && v.len - i > 3) {
			c = (char)(((v.at[i + 1] & 7) << 6) | ((v.at[i + 2] & 7) << 3) |
				   (v.at[i + 3] & 7));
			i += 3;
		}
		text_add(&t, (struct view){&c, 1});
	}
}

/* Longer paths first; any order will do among equals, as long as it is one. */
static int order(const char *a, const char *b)
{
	size_t x = strlen(a), y = strlen(b);

	return x != y ? (x < y) - (x > y) : strcmp(a, b);
}

/* Finds the next mount point into u->best. 1, 0 if there is none, or -errno. */
static int undo_next(struct undo *u)
{
	size_t root = strlen(u->root);
	struct view rest, line, field;
	struct file table;
	int err = file_pages("/proc/self/mountinfo", &table);

	if (err < 0)
		return err;
	u->best[0] = '\0';
	for (rest = (struct view){table.at, table.len}; rest.len > 0;) {
		line = view_cut(&rest, '\n');
		for (int i = 0; i < 5; i++) /* id, parent, device, root, mount point */
			field = view_cut(&line, ' ');
		unescape(u->point, sizeof(u->point), field);
		if (strncmp(u->point, u->root, root) != 0 ||
		    (u->point[root] != '\0' && u->point[root] != '/') ||
		    (u->stuck[0] && order(u->point, u->stuck) <= 0) ||
		    (u->best[0] && order(u->point, u->best) > 0))
			continue;
		strcpy(u->best, u->point);
		do
			field = view_cut(&line, ' ');
		while (line.len > 0 && !view_is(field, "-"));
		field = view_cut(&line, ' ');
		u->fuse = view_is(field, "fuse") || view_is(field, "fuseblk") ||
			  view_starts(field, "fuse.");
	}
	pages_put(table.at, table.cap);
	return u->best[0] != '\0';
}

/* A FUSE server hears of its end from the program that knows how to tell it. */
static bool unmount_fuse(const char *point)
{
	const char *args[] = {"fusermount3", "-u", point, NULL};
	char output[16];
	struct text said = TEXT(output);

	if (help(args, &said) == 0)
		return true;
	args[0] = "fusermount";
	return help(args, &said) == 0;
}

/* The path behind all symlinks; -ENOENT if it does not exist. */
static int canonical(const char *path, char *to, size_t cap)
{
	char name[32];
	struct text link = TEXT(name);
	int fd = file_open(path, O_PATH, 0);
	ssize_t n;

	if (fd < 0)
		return -errno;
	text_printf(&link, "/proc/self/fd/%d", fd);
	n = readlink(name, to, cap - 1);
	if (n >= 0)
		to[n] = '\0';
	fd_close(&fd);
	return n < 0 ? -errno : 0;
}

int mount_undo(const char *root)
{
	struct undo *u = pages_get(sizeof(*u));
	int err, result = 0;

	if (!u)
		return -ENOMEM;
	err = canonical(root, u->root, sizeof(u->root));
	if (err == 0 && strcmp(u->root, "/") == 0)
		err = -EINVAL;
	while (err == 0 && (err = undo_next(u)) > 0) {
		err = 0;
		if ((u->fuse && unmount_fuse(u->best)) || umount2(u->best, UMOUNT_NOFOLLOW) == 0) {
			/* What it covered can be reached now, what it pinned is free. */
			u->stuck[0] = '\0';
			result = 0;
			continue;
		}
		/* Covered by another mount, or gone meanwhile: that is no failure. */
		if (errno != EINVAL && errno != ENOENT)
			result = -errno;
		strcpy(u->stuck, u->best);
	}
	pages_put(u, sizeof(*u));
	if (err == -ENOENT)
		err = 0;
	return err < 0 ? err : result;
}
