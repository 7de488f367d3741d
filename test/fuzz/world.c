// SPDX-License-Identifier: Apache-2.0
/*
 * world.c - the kernel as the fuzz targets see it. The only file here that makes system calls.
 */
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sanitizer/asan_interface.h>

/* The names that the shim's system calls are given by world.syms. */
#define WORLD(result, name, ...)          \
	result world_##name(__VA_ARGS__); \
	result world_##name(__VA_ARGS__)

#define NAMES_MAX 256
#define ROOM (NAMES_MAX - 64) /* for files; sockets and links come in small numbers */
#define FDS_MAX 1024
#define PAGES_MAX 1024

struct world world;

/* ---- files ---- */

static char root[80];
static char *made[NAMES_MAX]; /* names that this input has made */
static unsigned int made_count;
static bool was_open[FDS_MAX]; /* before the input */

void world_remove(void)
{
	char command[128];

	if (!root[0])
		return;

	snprintf(command, sizeof(command), "rm -rf %s", root);
	if (system(command) != 0)
		fprintf(stderr, "%s stays\n", root);
}

void world_broken(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "\n%s:%d: ", file, line);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	world_remove();
	abort();
}

static void prepare(void)
{
	if (root[0])
		return;
	snprintf(root, sizeof(root), "%s/nanoshim-fuzz.XXXXXX",
		 getenv("TMPDIR")                ? getenv("TMPDIR")
		 : access("/dev/shm", W_OK) == 0 ? "/dev/shm"
						 : "/tmp");
	CHECK(mkdtemp(root), "%s: %s", root, strerror(errno));
	atexit(world_remove);
	signal(SIGPIPE, SIG_IGN);
	world.clock_ms = 1000000;
	world_dir("/w/a");
	world_dir("/w/p");
}

/* Where a path of the world really is; NULL, with errno: nowhere. */
static const char *real(const char *path)
{
	static char bufs[4][PATH_MAX];
	static unsigned int next;
	char *buf = bufs[next++ % 4];
	int n, pid, end = 0;

	if (strcmp(path, "/dev/null") == 0 || strncmp(path, "/proc/self/fd/", 14) == 0)
		return path;
	errno = EACCES;
	if (strstr(path, ".."))
		return NULL;
	if (sscanf(path, "/w/proc/%d/%n", &pid, &end) == 1 && end > 0)
		n = snprintf(buf, sizeof(bufs[0]), "%s/p/%s", root, path + end);
	else if (strncmp(path, "/w", 2) == 0 && (path[2] == '/' || path[2] == '\0'))
		n = snprintf(buf, sizeof(bufs[0]), "%s%s", root, path + 2);
	else if (path[0] != '/')
		n = snprintf(buf, sizeof(bufs[0]), "%s/a/%s", root, path);
	else if (strcmp(path, "/proc/self/mountinfo") == 0)
		n = snprintf(buf, sizeof(bufs[0]), "%s/mountinfo", root);
	else if (sscanf(path, "/proc/%d/%n", &pid, &end) == 1 && end > 0)
		n = snprintf(buf, sizeof(bufs[0]), "%s/p/%s", root, path + end);
	else
		return NULL;
	errno = ENAMETOOLONG;
	return n < (int)sizeof(bufs[0]) ? buf : NULL;
}

static void note_made(const char *path)
{
	for (unsigned int i = 0; i < made_count; i++)
		if (strcmp(made[i], path) == 0)
			return;
	CHECK(made_count < NAMES_MAX, "too many files");
	made[made_count++] = strdup(path);
}

void world_dir(const char *path)
{
	prepare();
	CHECK(mkdir(real(path), 0755) == 0, "%s: %s", path, strerror(errno));
}

void world_fifo(const char *path)
{
	prepare();
	CHECK(mkfifo(real(path), 0644) == 0, "%s: %s", path, strerror(errno));
}

int world_real_open(const char *path, int flags)
{
	return open(real(path), flags | O_NONBLOCK | O_CLOEXEC);
}

ssize_t world_real_read(int fd, void *buf, size_t len)
{
	return read(fd, buf, len);
}

ssize_t world_real_write(int fd, const void *buf, size_t len)
{
	return write(fd, buf, len);
}

/* Opens a file, which it may make, as long as there are not too many. */
static int open_at(int dir, const char *at, int flags, mode_t mode)
{
	struct stat st;
	bool is_new = fstatat(dir, at, &st, 0) < 0;
	int fd;

	/* A daemon that waits for somebody to open the other end is one that hangs. */
	CHECK(is_new || !S_ISFIFO(st.st_mode) || (flags & (O_NONBLOCK | O_PATH)) ||
		      (flags & O_ACCMODE) == O_RDWR,
	      "open of the FIFO %s would sleep", at);
	if (is_new && (flags & O_CREAT) && made_count >= ROOM) {
		errno = ENOSPC;
		return -1;
	}
	fd = openat(dir, at, flags, mode);
	if (fd >= 0 && is_new && dir == AT_FDCWD)
		note_made(at);
	return fd;
}

WORLD(int, open, const char *path, int flags, mode_t mode)
{
	const char *at = real(path);

	return at ? open_at(AT_FDCWD, at, flags, mode) : -1;
}

WORLD(int, openat, int dir, const char *path, int flags, mode_t mode)
{
	const char *at = dir == AT_FDCWD ? real(path) : path;

	return at ? open_at(dir, at, flags, mode) : -1;
}

void world_file(const char *path, const void *at, size_t len)
{
	int fd = world_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return; /* too many */
	CHECK(write(fd, at, len) == (ssize_t)len, "%s: %s", path, strerror(errno));
	close(fd);
}

WORLD(int, mkdir, const char *path, mode_t mode)
{
	const char *at = real(path);

	if (!at)
		return -1;
	if (made_count >= ROOM) {
		errno = ENOSPC;
		return -1;
	}
	if (mkdir(at, mode) < 0)
		return -1;
	note_made(at);
	return 0;
}

WORLD(char *, mkdtemp, char *path)
{
	memcpy(path + strlen(path) - 6, "000000", 6);
	return world_mkdir(path, 0700) == 0 ? path : NULL;
}

WORLD(int, access, const char *path, int mode)
{
	const char *at = real(path);

	return at ? access(at, mode) : -1;
}

WORLD(int, stat, const char *path, struct stat *st)
{
	const char *at = real(path);

	return at ? stat(at, st) : -1;
}

WORLD(int, statvfs, const char *path, struct statvfs *fs)
{
	const char *at = real(path);

	return at ? statvfs(at, fs) : -1;
}

/* What stays from input to input can not be removed. */
WORLD(int, unlink, const char *path)
{
	const char *at = real(path);
	struct stat st;

	if (!at)
		return -1;
	if (lstat(at, &st) == 0 && S_ISFIFO(st.st_mode)) {
		errno = EPERM;
		return -1;
	}
	return unlink(at);
}

WORLD(int, unlinkat, int dir, const char *path, int flags)
{
	return unlinkat(dir, path, flags);
}

WORLD(int, rmdir, const char *path)
{
	const char *at = real(path);

	for (unsigned int i = 0; at && i < made_count; i++)
		if (strcmp(made[i], at) == 0)
			return rmdir(at);
	errno = at ? EBUSY : errno;
	return -1;
}

WORLD(int, rename, const char *from, const char *to)
{
	const char *old = real(from), *new = old ? real(to) : NULL;

	if (!new || rename(old, new) < 0)
		return -1;
	note_made(new);
	return 0;
}

WORLD(int, inotify_add_watch, int fd, const char *path, uint32_t mask)
{
	const char *at = real(path);

	return at ? inotify_add_watch(fd, at, mask) : -1;
}

WORLD(int, link, const char *from, const char *to)
{
	const char *old = real(from), *new = old ? real(to) : NULL;

	if (!new || link(old, new) < 0)
		return -1;
	note_made(new);
	return 0;
}

WORLD(char *, getcwd, char *buf, size_t cap)
{
	snprintf(buf, cap, "/w/a");
	return buf;
}

WORLD(ssize_t, readlink, const char *path, char *buf, size_t cap)
{
	const char *at = real(path);
	char target[PATH_MAX];
	ssize_t n = at ? readlink(at, target, sizeof(target) - 1) : -1;
	size_t skip = strlen(root);

	if (n < 0)
		return -1;
	target[n] = '\0';
	if (strncmp(target, root, skip) == 0) {
		snprintf(buf, cap, "/w%s", target + skip);
		return (ssize_t)strlen(buf);
	}
	memcpy(buf, target, (size_t)n < cap ? (size_t)n : cap);
	return (size_t)n < cap ? n : (ssize_t)cap;
}

WORLD(int, chdir, const char *path)
{
	return world_access(path, X_OK);
}

WORLD(int, fchdir, int fd)
{
	(void)fd;
	return 0;
}

/* ---- mounts ---- */

static int mount_result(void)
{
	bool fails = world.mounts & 1;

	world.mounts >>= 1;
	errno = EPERM;
	return fails ? -1 : 0;
}

WORLD(int, mount, const char *source, const char *target, const char *type, unsigned long flags,
      const void *data)
{
	CHECK(source && target && type && data, "mount without a text, flags %lx", flags);
	return mount_result();
}

WORLD(int, umount2, const char *target, int flags)
{
	(void)target;
	(void)flags;
	if (mount_result() < 0) {
		errno = EBUSY;
		return -1;
	}
	if (world.unmounts == 0) {
		errno = EINVAL;
		return -1;
	}
	world.unmounts--;
	return 0;
}

WORLD(long, syscall, long number, long a, long b, long c)
{
	struct actor *child;

	switch (number) {
	case SYS_getdents64:
		return syscall(number, a, b, c);
	case SYS_clone:
		child = mount_result() == 0 ? world_actor() : NULL;
		return child ? child->pid : -1;
	case SYS_open_tree:
		return mount_result() == 0 ? memfd_create("tree", MFD_CLOEXEC) : -1;
	default:
		return mount_result();
	}
}

/* ---- bytes ---- */

static size_t least(size_t len, size_t max)
{
	return max > 0 && len > max ? max : len;
}

WORLD(ssize_t, recv, int fd, void *buf, size_t len, int flags)
{
	ssize_t n = world.hung_up ? 0
				  : recv(fd, buf, least(len, world.recv_max), flags | MSG_DONTWAIT);

	world.received += n > 0 ? (size_t)n : 0;
	return n;
}

WORLD(ssize_t, send, int fd, const void *buf, size_t len, int flags)
{
	return send(fd, buf, least(len, world.send_max), flags | MSG_DONTWAIT);
}

WORLD(ssize_t, read, int fd, void *buf, size_t len)
{
	struct view v;

	if (fd != STDIN_FILENO)
		return read(fd, buf, len);
	v = take_bytes(&world.input, least(len, world.recv_max));
	if (v.len > 0)
		memcpy(buf, v.at, v.len);
	else
		ASAN_POISON_MEMORY_REGION(buf, len); /* nothing may be read there */
	return (ssize_t)v.len;
}

WORLD(ssize_t, write, int fd, const void *buf, size_t len)
{
	if (fd != STDERR_FILENO && fd != STDOUT_FILENO)
		return write(fd, buf, len);
	if (getenv("FUZZ_LOG")) /* what the shim has to say of an input */
		return write(STDERR_FILENO, buf, len);
	return (ssize_t)len;
}

static const struct sockaddr *real_address(const struct sockaddr *at, struct sockaddr_un *to)
{
	const char *path = real(((const struct sockaddr_un *)(const void *)at)->sun_path);

	*to = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!path || strlen(path) >= sizeof(to->sun_path))
		return NULL;
	strcpy(to->sun_path, path);
	return (const struct sockaddr *)to;
}

WORLD(int, bind, int fd, const struct sockaddr *at, socklen_t len)
{
	struct sockaddr_un to;

	(void)len;
	if (!real_address(at, &to) || bind(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -1;
	note_made(to.sun_path);
	return 0;
}

WORLD(int, connect, int fd, const struct sockaddr *at, socklen_t len)
{
	struct sockaddr_un to;

	(void)len;
	return real_address(at, &to) ? connect(fd, (struct sockaddr *)&to, sizeof(to)) : -1;
}

/* ---- memory: from the heap, where the sanitizer watches its ends and its return ---- */

static struct view pages[PAGES_MAX];
static unsigned int pages_count;

WORLD(void *, mmap, void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	CHECK(!at && fd < 0 && offset == 0, "mmap of a file, %x %x", (unsigned int)prot,
	      (unsigned int)flags);
	errno = len > 0 ? ENOMEM : EINVAL;
	if (len == 0 || pages_count == PAGES_MAX)
		return MAP_FAILED;
	at = calloc(1, len);
	CHECK(at, "no memory");
	pages[pages_count++] = (struct view){at, len};
	return at;
}

WORLD(int, munmap, void *at, size_t len)
{
	unsigned int i = pages_count;

	while (i > 0 && pages[i - 1].at != at)
		i--;
	CHECK(i > 0 && pages[i - 1].len == len, "munmap of %zu bytes at %p, which are not ours",
	      len, at);
	pages[i - 1] = pages[--pages_count];
	free(at);
	return 0;
}

WORLD(int, madvise, void *at, size_t len, int advice)
{
	extern char __data_start, _end;

	(void)advice;
	/* The tables; a stack is left as it is. */
	if ((char *)at >= &__data_start && (char *)at + len <= &_end)
		memset(at, 0, len);
	return 0;
}

struct view world_copy(struct view v)
{
	char *copy = malloc(v.len > 0 ? v.len : 1);

	CHECK(copy, "no memory");
	if (v.len > 0)
		memcpy(copy, v.at, v.len);
	return (struct view){copy, v.len};
}

void world_drop(struct view v)
{
	free((char *)v.at);
}

/* ---- time ---- */

WORLD(int, clock_gettime, clockid_t id, struct timespec *ts)
{
	ts->tv_sec = (time_t)(world.clock_ms / 1000) + (id == CLOCK_REALTIME ? 1700000000 : 0);
	ts->tv_nsec = (long)(world.clock_ms % 1000) * 1000000;
	return 0;
}

WORLD(int, nanosleep, const struct timespec *ts, struct timespec *left)
{
	(void)left;
	world.clock_ms += (uint64_t)ts->tv_sec * 1000 + (uint64_t)ts->tv_nsec / 1000000 + 1;
	return 0;
}

static bool child_pending; /* SIGCHLD, blocked */

static void take_signal(void)
{
	loop_child |= child_pending;
	child_pending = false;
}

/* As the kernel does it: a signal comes in only if nothing is ready. */
WORLD(int, ppoll, struct pollfd *fds, nfds_t n, const struct timespec *timeout, const void *mask)
{
	int ready;

	(void)mask;
	if (world.meanwhile)
		world.meanwhile();
	ready = poll(fds, n, 0);
	world.quiet = ready == 0 && !timeout && !child_pending;
	if (ready != 0)
		return ready;
	if (child_pending) {
		take_signal();
		errno = EINTR;
		return -1;
	}
	if (timeout && world.time_flows)
		world_nanosleep(timeout, NULL);
	return 0;
}

WORLD(int, sigprocmask, int how, const void *set, void *old)
{
	(void)how;
	if (set && old)
		take_signal();
	return 0;
}

/* ---- processes ---- */

struct actor world_actors[WORLD_PIDS];
unsigned int world_actor_count;
static struct actor *zombies[WORLD_PIDS]; /* in the order in which they ended */
static unsigned int zombie_count;

struct actor *world_actor(void)
{
	struct actor *a = &world_actors[world_actor_count];

	/* Some are kept for the end, when nothing may fail. */
	unsigned int max = world.time_flows ? WORLD_PIDS : WORLD_PIDS - 400;

	errno = EAGAIN;
	if (world_actor_count >= max || world.no_fork)
		return NULL;
	*a = (struct actor){.pid = WORLD_PID + (pid_t)world_actor_count++, .runs = true};
	for (size_t i = 0; i < COUNT(a->fds); i++)
		a->fds[i] = -1;
	return a;
}

void world_actor_end(struct actor *a, int status)
{
	if (!a->runs)
		return;
	/* The last process of a namespace is its init. */
	for (unsigned int i = 0; a->is_init && a->is_private && i < world_actor_count; i++)
		if (world_actors[i].is_process && !world_actors[i].is_init &&
		    strcmp(world_actors[i].id, a->id) == 0)
			world_actor_end(&world_actors[i], SIGKILL);
	a->runs = false;
	a->zombie = true;
	a->status = status;
	zombies[zombie_count++] = a;
	for (size_t i = 0; i < COUNT(a->fds); i++)
		fd_close(&a->fds[i]);
	child_pending = true;
}

pid_t world_fork(const struct spawn *s)
{
	struct actor *a = world_actor();

	if (!a)
		return -1;
	for (int i = 0; i < s->fd_count && i < (int)COUNT(a->fds); i++)
		a->fds[i] = s->fds[i] >= 0 ? fcntl(s->fds[i], F_DUPFD_CLOEXEC, 0) : -1;
	while (a->argc < WORLD_ARGS - 1 && s->argv[a->argc]) {
		a->argv[a->argc] = strdup(s->argv[a->argc]);
		a->argc++;
	}
	return a->pid;
}

WORLD(pid_t, vfork, void)
{
	struct actor *a = world_actor();

	if (!a)
		return -1;
	world_actor_end(a, world.helper << 8);
	return a->pid;
}

WORLD(_Noreturn void, exit, int status)
{
	if (world.leave)
		world.leave();
	world_broken(__FILE__, __LINE__, "exit(%d)", status);
}

static struct actor *actor_of(pid_t pid)
{
	unsigned int i = (unsigned int)(pid - WORLD_PID);

	return pid >= WORLD_PID && i < world_actor_count ? &world_actors[i] : NULL;
}

WORLD(int, kill, pid_t pid, int sig)
{
	struct actor *a = actor_of(pid);

	/* Once it was reaped the number may be anybody's. */
	CHECK(a && !a->reaped, "kill(%d, %d), which is none of ours", pid, sig);
	if (sig < 0 || sig > 64) {
		errno = EINVAL;
		return -1;
	}
	if (sig == SIGKILL || sig == SIGTERM)
		world_actor_end(a, sig);
	return 0;
}

static pid_t reap_one(unsigned int i, int *status)
{
	struct actor *a = zombies[i];

	for (zombie_count--; i < zombie_count; i++)
		zombies[i] = zombies[i + 1];
	a->reaped = true;
	if (status)
		*status = a->status;
	return a->pid;
}

WORLD(pid_t, waitpid, pid_t pid, int *status, int options)
{
	const struct actor *a = actor_of(pid);

	for (unsigned int i = 0; i < zombie_count; i++)
		if (pid == -1 || zombies[i]->pid == pid)
			return reap_one(i, status);
	errno = ECHILD;
	if (pid != -1 && (!a || a->reaped))
		return -1;
	CHECK(options & WNOHANG, "waitpid(%d) would sleep", pid);
	return 0;
}

WORLD(int, waitid, idtype_t type, id_t id, siginfo_t *info, int options)
{
	const struct actor *a = actor_of((pid_t)id);

	(void)info;
	CHECK(type == P_PID && (options & WNOHANG) && (options & WNOWAIT), "waitid(%d, %d, %x)",
	      (int)type, (int)id, (unsigned int)options);
	errno = ECHILD;
	return a && !a->reaped ? 0 : -1;
}

/* ---- from input to input ---- */

/* The descriptors of this process. */
static void look_at_fds(bool *is_open)
{
	static struct dir dir = {.fd = -1};
	const struct dirent *entry;

	memset(is_open, 0, FDS_MAX);
	if (dir.fd < 0)
		dir.fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	lseek(dir.fd, 0, SEEK_SET);
	dir.at = dir.len = 0;
	while ((entry = dir_next(&dir))) {
		CHECK(atoi(entry->d_name) < FDS_MAX, "descriptor %s", entry->d_name);
		is_open[atoi(entry->d_name)] = true;
	}
}

void world_begin(void)
{
	ASAN_UNPOISON_MEMORY_REGION(&scratch, sizeof(scratch));
	prepare();
	world = (struct world){.clock_ms = world.clock_ms, .unmounts = 8};
	child_pending = false;
	look_at_fds(was_open);
}

static void forget_actors(void)
{
	for (unsigned int i = 0; i < world_actor_count; i++) {
		for (size_t k = 0; k < COUNT(world_actors[i].fds); k++)
			fd_close(&world_actors[i].fds[k]);
		for (int k = 0; k < world_actors[i].argc; k++)
			free(world_actors[i].argv[k]);
	}
	world_actor_count = zombie_count = 0;
}

void world_end(void)
{
	bool is_open[FDS_MAX];

	forget_actors();
	look_at_fds(is_open);
	for (int fd = 0; fd < FDS_MAX; fd++) {
		CHECK(world.short_lived || is_open[fd] == was_open[fd], "descriptor %d is %s", fd,
		      is_open[fd] ? "left open" : "closed");
		if (is_open[fd] && !was_open[fd])
			close(fd);
	}
	CHECK(world.short_lived || pages_count == 0, "%zu bytes of pages are left",
	      pages_count > 0 ? pages[0].len : 0);
	while (pages_count > 0)
		free((char *)pages[--pages_count].at);
	while (made_count > 0) {
		if (unlink(made[--made_count]) < 0)
			rmdir(made[made_count]);
		free(made[made_count]);
	}
}
