// SPDX-License-Identifier: Apache-2.0
/*
 * mount.c's tests. One half replaces mount(2) by a recorder and looks at what would be asked of the
 * kernel; the other half mounts for real, as root, in a mount namespace of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

/* ---- the recorder ---- */

struct call {
	char source[512], target[512], type[64], cwd[512], data[70000];
	unsigned long flags;
};

static bool recording;
static struct call calls[8];
static int call_count, fail_at, fail_with; /* the fail_at-th call fails; 0: none does */

/* In front of the C library's. */
int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data)
{
	struct call *c = &calls[call_count];

	if (!recording)
		return (int)syscall(SYS_mount, source, target, type, flags, data);
	assert_true(call_count < (int)COUNT(calls));
	call_count++;
	snprintf(c->source, sizeof(c->source), "%s", source);
	snprintf(c->target, sizeof(c->target), "%s", target);
	snprintf(c->type, sizeof(c->type), "%s", type);
	snprintf(c->data, sizeof(c->data), "%s", data ? (const char *)data : "");
	assert_non_null(getcwd(c->cwd, sizeof(c->cwd)));
	c->flags = flags;
	if (call_count == fail_at) {
		errno = fail_with;
		return -1;
	}
	return 0;
}

static bool before_5_8;

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (before_5_8 && request == LOOP_CONFIGURE) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

/* Time as mount.c sees it, if it does not pass by itself: a nap takes what it says, and nothing else
 * takes any. */
static bool clock_stands;
static uint64_t clock_at, killed_at, last_nap; /* ms */
static void (*in_last_nap)(void);

int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (!clock_stands || id != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, id, ts);
	*ts = (struct timespec){.tv_sec = (time_t)(clock_at / 1000),
				.tv_nsec = (long)(clock_at % 1000) * 1000000};
	return 0;
}

int nanosleep(const struct timespec *ts, struct timespec *left)
{
	if (!clock_stands)
		return (int)syscall(SYS_nanosleep, ts, left);
	clock_at += (uint64_t)ts->tv_nsec / 1000000;
	if (in_last_nap && clock_at == last_nap)
		in_last_nap();
	return 0;
}

int kill(pid_t pid, int signal)
{
	if (killed_at == 0)
		killed_at = clock_at;
	return (int)syscall(SYS_kill, pid, signal);
}

/* Runs a function in a child for whom the newer mount calls do not exist. */
static void before_5_2(void (*act)(void))
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 428, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 429, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 442, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {COUNT(filter), filter};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
			_exit(2);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- requests ---- */

static char message[300000];
static size_t message_len;

static size_t put(char *to, unsigned int tag, const char *bytes, size_t len)
{
	char *at = to;

	*at++ = (char)(tag << 3 | 2);
	for (size_t n = len;; n >>= 7) {
		*at++ = (char)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
		if (n <= 0x7f)
			break;
	}
	memcpy(at, bytes, len);
	return (size_t)(at - to) + len;
}

static size_t put_str(char *to, unsigned int tag, const char *s)
{
	return put(to, tag, s, strlen(s));
}

/* Options separated by blanks. */
static size_t encode(char *to, const char *type, const char *source, const char *target,
		     const char *options)
{
	struct view rest = view_of(options);
	size_t n = put_str(to, 1, type);

	n += put_str(to + n, 2, source);
	if (target)
		n += put_str(to + n, 3, target);
	while (rest.len > 0) {
		struct view o = view_cut(&rest, ' ');

		n += put(to + n, 4, o.at, o.len);
	}
	return n;
}

static void begin(void)
{
	message_len = put_str(message, 1, "id");
	message_len += put_str(message + message_len, 2, "/bundle");
	call_count = fail_at = 0;
}

static void add_raw(const char *bytes, size_t len)
{
	message_len += put(message + message_len, 3, bytes, len);
}

static void add(const char *type, const char *source, const char *target, const char *options)
{
	static char mount_[200000];

	add_raw(mount_, encode(mount_, type, source, target, options));
}

static char why_buf[8192];
static char base[] = "/tmp/nanoshim-mount.XXXXXX", root[256];

static int apply_in(const char *at)
{
	struct text why = TEXT(why_buf);
	char before[512], after[512];
	int err;

	why_buf[0] = '\0';
	assert_non_null(getcwd(before, sizeof(before)));
	err = mount_rootfs((struct view){message, message_len}, at, &why);
	assert_non_null(getcwd(after, sizeof(after)));
	assert_string_equal(before, after);
	if (err == 0)
		assert_string_equal(why_buf, "");
	else
		assert_true(strncmp(why_buf, "failed to mount rootfs component: ", 34) == 0);
	return err;
}

static int apply(void)
{
	return apply_in(root);
}

static char *path(const char *fmt, ...) PRINTF(1, 2);
static char *path(const char *fmt, ...)
{
	static char bufs[8][1024];
	static unsigned int next;
	char *buf = bufs[next++ % 8];
	va_list args;
	int n = snprintf(buf, 1024, "%s/", base);

	va_start(args, fmt);
	vsnprintf(buf + n, (size_t)(1024 - n), fmt, args);
	va_end(args);
	return buf;
}

static void make_dir(const char *at)
{
	assert_true(mkdir(at, 0755) == 0 || errno == EEXIST);
}

static void make_file(const char *at, const char *text)
{
	assert_int_equal(file_write(at, view_of(text), 0644), 0);
}

static void assert_file(const char *at, const char *text)
{
	char buf[4096];

	assert_true(file_read(at, buf, sizeof(buf)) >= 0);
	assert_string_equal(buf, text);
}

/* How many mounts lie at or below a path. */
static int mounts_at(const char *at)
{
	char *table = pages_get(1 << 20);
	int count = 0;

	assert_true(file_read("/proc/self/mountinfo", table, 1 << 20) > 0);
	for (const char *p = table; (p = strstr(p, at)); p++)
		count += p[-1] == ' ' && strchr(" /", p[strlen(at)]);
	pages_put(table, 1 << 20);
	return count;
}

static int set_recording(void **state)
{
	(void)state;
	recording = true;
	return 0;
}

static int set_real(void **state)
{
	(void)state;
	recording = false;
	mount_undo(root);
	return 0;
}

static int clear(void **state)
{
	(void)state;
	recording = clock_stands = false;
	return mount_undo(root);
}

/* ---- with the recorder ---- */

static void test_nothing_to_do(void **state)
{
	(void)state;
	begin();
	assert_int_equal(apply(), 0);
	assert_int_equal(call_count, 0);
}

static void test_every_option(void **state)
{
	static const struct {
		const char *options;
		unsigned long flags;
		const char *data;
	} rows[] = {
		{"", 0, ""},
		{"bind", MS_BIND, ""},
		{"rbind", MS_BIND | MS_REC, ""},
		{"ro", MS_RDONLY, ""},
		{"ro rw", 0, ""},
		{"nosuid", MS_NOSUID, ""},
		{"nosuid suid", 0, ""},
		{"nodev", MS_NODEV, ""},
		{"nodev dev", 0, ""},
		{"noexec", MS_NOEXEC, ""},
		{"noexec exec", 0, ""},
		{"noatime", MS_NOATIME, ""},
		{"noatime atime", 0, ""},
		{"nodiratime", MS_NODIRATIME, ""},
		{"nodiratime diratime", 0, ""},
		{"relatime", MS_RELATIME, ""},
		{"relatime norelatime", 0, ""},
		{"strictatime", MS_STRICTATIME, ""},
		{"strictatime nostrictatime", 0, ""},
		{"sync", MS_SYNCHRONOUS, ""},
		{"sync async", 0, ""},
		{"dirsync", MS_DIRSYNC, ""},
		{"mand", MS_MANDLOCK, ""},
		{"mand nomand", 0, ""},
		{"rw suid dev exec async atime diratime norelatime nostrictatime nomand", 0, ""},
		{"nosuid nodev noexec", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""},
		{"defaults", 0, "defaults"},
		{"shared", 0, "shared"},
		{"rprivate", 0, "rprivate"},
		{"direct-io", 0, "direct-io"},
		{"size=1m mode=755", 0, "size=1m,mode=755"},
		{"ro size=1m nodev", MS_RDONLY | MS_NODEV, "size=1m"},
		{"uidmap=0:1:2", 0, ""}, /* both are needed */
		{"gidmap=0:1:2", 0, ""},
		{"remount size=1m", MS_REMOUNT, "size=1m"},
		{"roo", 0, "roo"},
		{"r", 0, "r"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		begin();
		add("tmpfs", "none", NULL, rows[i].options);
		assert_int_equal(apply(), 0);
		assert_int_equal(call_count, 1);
		assert_string_equal(calls[0].source, "none");
		assert_string_equal(calls[0].target, root);
		assert_string_equal(calls[0].type, "tmpfs");
		assert_int_equal(calls[0].flags, rows[i].flags);
		assert_string_equal(calls[0].data, rows[i].data);
	}
}

static void test_remount(void **state)
{
	(void)state;
	begin();
	add("tmpfs", "none", NULL, "remount ro");
	assert_int_equal(apply(), 0);
	assert_int_equal(call_count, 0); /* nothing changed */

	begin();
	add("bind", "/x", NULL, "remount bind ro nodev");
	assert_int_equal(apply(), 0);
	assert_int_equal(call_count, 1);
	assert_int_equal(calls[0].flags, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV);
}

static void test_bind_readonly_is_remounted(void **state)
{
	(void)state;
	begin();
	add("bind", "/x", NULL, "rbind ro nosuid");
	assert_int_equal(apply(), 0);
	assert_int_equal(call_count, 2);
	assert_int_equal(calls[0].flags, MS_BIND | MS_REC | MS_RDONLY | MS_NOSUID);
	assert_int_equal(calls[1].flags, MS_BIND | MS_REC | MS_RDONLY | MS_NOSUID | MS_REMOUNT);
	assert_string_equal(calls[1].target, root);

	/* In a user namespace: the kernel insists on the flags that are locked. */
	begin();
	add("bind", "/x", NULL, "bind ro");
	fail_at = 2;
	fail_with = EPERM;
	assert_int_equal(apply_in("/proc"), 0); /* usually nosuid,nodev,noexec,relatime */
	assert_int_equal(call_count, 3);
	struct statfs fs;
	assert_int_equal(statfs("/proc", &fs), 0);
	assert_int_equal(calls[2].flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC),
			 fs.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC));
	assert_int_equal(calls[2].flags & MS_RELATIME, fs.f_flags & 0x1000 ? MS_RELATIME : 0);
	assert_int_equal(calls[2].flags & (MS_BIND | MS_RDONLY | MS_REMOUNT),
			 MS_BIND | MS_RDONLY | MS_REMOUNT);

	begin();
	add("bind", "/x", NULL, "bind ro");
	fail_at = 2;
	fail_with = EIO;
	assert_int_equal(apply(), -EIO);
	assert_non_null(strstr(why_buf, "remount \""));
}

static void test_the_sentence(void **state)
{
	char want[2048], small[256];
	struct text why = TEXT(small);
	char options[4000];

	(void)state;
	begin();
	add("ext4", "/dev/\"x\"", NULL, "ro noload");
	fail_at = 1;
	fail_with = ENODEV;
	assert_int_equal(apply(), -ENODEV);
	snprintf(want, sizeof(want),
		 "failed to mount rootfs component: mount source: \"/dev/\\\"x\\\"\", "
		 "target: \"%s\", fstype: ext4, flags: 1, data: \"noload\", err: no such device",
		 root);
	assert_string_equal(why_buf, want);

	begin();
	add("overlay", "overlay", NULL, "");
	fail_at = 1;
	fail_with = EBUSY;
	assert_int_equal(apply(), -EBUSY);
	assert_non_null(strstr(why_buf, "data: \"\", err: device or resource busy"));

	/* Too little room for the data: the reason stays. */
	begin();
	memset(options, 'x', 3000);
	options[3000] = '\0';
	add("overlay", "overlay", NULL, options);
	fail_at = 1;
	fail_with = EINVAL;
	assert_int_equal(mount_rootfs((struct view){message, message_len}, root, &why), -EINVAL);
	assert_false(why.cut);
	assert_non_null(strstr(small, "xxx\", err: invalid argument"));
}

static void test_all_is_checked_first(void **state)
{
	(void)state;
	begin();
	add("tmpfs", "none", NULL, "");
	add("tmpfs", "none", NULL, "ro X-containerd.loop=1");
	assert_int_equal(apply(), -EINVAL);
	assert_string_equal(why_buf, "failed to mount rootfs component: internal mount option "
				     "\"X-containerd.loop=1\" was not consumed by the mount "
				     "manager");
	assert_int_equal(call_count, 0);
}

static void test_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{"\x0a\x05"
		 "abc",
		 5},                     /* type longer than the message */
		{"\x0a\x02\xff\xfe", 4}, /* no UTF-8 */
		{"\x12\x03"
		 "a\0b",
		 5}, /* source with a NUL */
		{"\x1a\x03"
		 "a\0b",
		 5}, /* target */
		{"\x0a\x03"
		 "a\0b",
		 5}, /* type */
		{"\x22\x03"
		 "a\0b",
		 5},                     /* option */
		{"\x22\x02\xc0\x80", 4}, /* option, no UTF-8 */
		{"\x22", 1},
		{"\x07\x00", 2}, /* no such wire type */
		{"\x00", 1},     /* field 0 */
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11},
	};
	char whole[512], *cut;
	size_t n;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		begin();
		add_raw(bad[i].bytes, bad[i].len);
		if (apply() != -EINVAL)
			fail_msg("malformed message %zu is accepted", i);
		assert_int_equal(call_count, 0);
	}
	/* Every possible cut, in memory of exactly that length. */
	n = encode(whole, "overlay", "overlay", "a", "index=off lowerdir=/a/b:/a/c uidmap=0:1 ro");
	for (size_t i = 0; i < n; i++) {
		struct text why = TEXT(why_buf);
		char head[8];
		size_t m = put(head, 3, "", 0);

		head[m - 1] = (char)i;
		cut = malloc(m + i);
		memcpy(cut, head, m);
		memcpy(cut + m, whole, i);
		call_count = fail_at = 0;
		mount_rootfs((struct view){cut, m + i}, root, &why);
		call_count = 0;
		mount_rootfs((struct view){cut, m + i / 2}, root, &why);
		free(cut);
	}
	/* Longer than any path. */
	cut = malloc(5001);
	memset(cut, 'a', 5000);
	cut[5000] = '\0';
	begin();
	add("tmpfs", cut, NULL, "");
	assert_true(apply() < 0);
	begin();
	add("tmpfs", "none", cut, "");
	assert_true(apply() < 0);
	begin();
	add(cut, "none", NULL, "");
	assert_true(apply() < 0);
	assert_int_equal(call_count, 0);
	free(cut);
}

static void test_long_options(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *options = malloc(page + 100);

	(void)state;
	memset(options, 'x', page + 50);
	options[page - 1] = '\0';
	begin();
	add("ext4", "x", NULL, options);
	assert_int_equal(apply(), 0);
	assert_int_equal(strlen(calls[0].data), page - 1);

	options[page - 1] = 'x';
	options[page + 50] = '\0';
	begin();
	add("ext4", "x", NULL, options);
	assert_int_equal(apply(), -E2BIG);
	assert_string_equal(why_buf, "failed to mount rootfs component: mount options is too long");
	assert_int_equal(call_count, 0);
	free(options);
}

/* lowerdir= with n layers "DIR/NAME-i", behind `before`. */
static char *layers(const char *before, const char *dir, const char *name, int n)
{
	static char buf[100000];
	int len = snprintf(buf, sizeof(buf), "%slowerdir=", before);

	for (int i = 0; i < n; i++)
		len += snprintf(buf + len, sizeof(buf) - (size_t)len, "%s%s/%s-%d", i ? ":" : "",
				dir, name, i);
	return buf;
}

static void test_lower_layers(void **state)
{
	char long_name[101], *options;

	(void)state;
	memset(long_name, 'n', 100);
	long_name[100] = '\0';
	make_dir(path("snapshots"));

	/* Short: as it came. */
	begin();
	add("overlay", "overlay", NULL,
	    "index=off workdir=/w upperdir=/u lowerdir=/snap/1/fs:/snap/2/fs");
	assert_int_equal(apply(), 0);
	assert_string_equal(calls[0].data,
			    "index=off,workdir=/w,upperdir=/u,lowerdir=/snap/1/fs:/snap/2/fs");
	assert_string_not_equal(calls[0].cwd, "/snap");

	/* More than a page: by names relative to what they share. */
	begin();
	add("overlay", "overlay", NULL, layers("ro userxattr ", path("snapshots"), "s", 400));
	assert_int_equal(apply(), 0);
	assert_string_equal(calls[0].cwd, path("snapshots"));
	assert_true(strncmp(calls[0].data, "userxattr,lowerdir=s-0:s-1:s-2:", 31) == 0);
	assert_null(strchr(calls[0].data, '/'));
	assert_int_equal(calls[0].flags, MS_RDONLY);

	/* The shared part of the names does not count: digits are not to be cut in two. */
	begin();
	options = layers("", path("snapshots"), "s", 400);
	for (char *s = options; (s = strstr(s, "s-")); s++)
		memcpy(s, "77", 2);
	add("overlay", "overlay", NULL, options);
	assert_int_equal(apply(), 0);
	assert_true(strncmp(calls[0].data, "lowerdir=770:771:", 17) == 0);

	/* Still too long. */
	begin();
	add("overlay", "overlay", NULL, layers("", path("snapshots"), long_name, 80));
	assert_int_equal(apply(), -E2BIG);
	assert_int_equal(call_count, 0);

	/* One layer; nothing shared; an escape; the shared directory itself a layer. */
	options = malloc(4096);
	memset(options, 'y', 3700);
	strcpy(options + 3700, " lowerdir=/a/b");
	begin();
	add("overlay", "overlay", NULL, options);
	assert_int_equal(apply(), 0);
	assert_non_null(strstr(calls[0].data, ",lowerdir=/a/b"));
	for (size_t i = 0; i < 4; i++) {
		static const char *const odd[] = {"/a/b:/c/d", "/tmp/\\:a/b:/tmp/\\:a/c",
						  "/tmp/x/1:/tmp/x/", "a/b:a/c"};

		strcpy(options + 3700, " lowerdir=");
		strcpy(options + 3710, odd[i]);
		begin();
		add("overlay", "overlay", NULL, options);
		if (i == 3) {
			/* Relative ones are not containerd's, but have a directory in common. */
			assert_int_equal(apply(), -ENOENT);
			continue;
		}
		assert_int_equal(apply(), 0);
		assert_non_null(strstr(calls[0].data, odd[i]));
	}
	free(options);

	/* Only overlay has layers. */
	begin();
	add("other", "x", NULL, "lowerdir=/a:/b y");
	assert_int_equal(apply(), 0);
	assert_string_equal(calls[0].data, "lowerdir=/a:/b,y");
}

static void target(const char *name, const char *where)
{
	begin();
	add("tmpfs", "none", name, "");
	assert_int_equal(apply(), 0);
	assert_int_equal(call_count, 1);
	assert_string_equal(calls[0].target, *where ? path("root/%s", where) : root);
}

static void test_targets_stay_inside(void **state)
{
	char *deep = malloc(4200);

	(void)state;
	make_dir(path("root/dir"));
	make_dir(path("root/dir/sub"));
	symlink("/etc", path("root/absolute"));
	symlink("../../../../etc", path("root/dir/upward"));
	symlink("dir/sub", path("root/inside"));
	symlink("self", path("root/self"));
	symlink("/", path("root/top"));
	symlink("absolute/x", path("root/two"));
	target("", "");
	target("/", "");
	target(".", "");
	target("dir", "dir");
	target("/dir//./sub/", "dir/sub");
	target("dir/../dir/sub", "dir/sub");
	target("..", "");
	target("../../../etc", "etc");
	target("dir/../../../etc", "etc");
	target("absolute", "etc");
	target("absolute/passwd", "etc/passwd");
	target("dir/upward", "etc");
	target("inside", "dir/sub");
	target("inside/..", "dir");
	target("top/top/dir", "dir");
	target("two", "etc/x");
	target("missing/below", "missing/below");
	begin();
	add("tmpfs", "none", "self", "");
	assert_int_equal(apply(), -ELOOP);
	assert_non_null(strstr(why_buf, "too many levels of symbolic links"));
	memset(deep, 'd', 4080);
	for (int i = 0; i < 4080; i += 2)
		deep[i] = '/';
	deep[4080] = '\0';
	begin();
	add("tmpfs", "none", deep, "");
	assert_int_equal(apply(), -ENAMETOOLONG);
	begin();
	memcpy(deep, "/inside", 7);
	add("tmpfs", "none", deep, "");
	assert_int_equal(apply(), -ENAMETOOLONG);
	free(deep);
	unlink(path("root/absolute"));
	unlink(path("root/dir/upward"));
	unlink(path("root/inside"));
	unlink(path("root/self"));
	unlink(path("root/top"));
	unlink(path("root/two"));
}

/* ---- for real ---- */

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void test_bind(void **state)
{
	(void)state;
	need_root();
	make_dir(path("src"));
	make_file(path("src/hello"), "hi");
	begin();
	add("bind", path("src"), NULL, "rbind rw");
	assert_int_equal(apply(), 0);
	assert_file(path("root/hello"), "hi");
	make_file(path("root/more"), "x");
	assert_int_equal(mounts_at(root), 1);
	assert_int_equal(mount_undo(root), 0);
	assert_int_equal(mounts_at(root), 0);
	assert_int_equal(access(path("root/hello"), F_OK), -1);
	assert_file(path("src/more"), "x");
}

static void test_bind_readonly(void **state)
{
	(void)state;
	need_root();
	make_dir(path("src"));
	make_file(path("src/hello"), "hi");
	begin();
	add("", path("src"), NULL, "bind ro");
	assert_int_equal(apply(), 0);
	assert_int_equal(file_write(path("root/new"), VIEW("x"), 0644), -EROFS);
	assert_int_equal(file_write(path("src/new"), VIEW("x"), 0644), 0);
}

static void test_overlay(void **state)
{
	char options[2048];

	(void)state;
	need_root();
	for (int i = 0; i < 4; i++)
		make_dir(path("%d", i));
	make_file(path("1/one"), "1");
	make_file(path("2/two"), "2");
	make_file(path("1/both"), "1");
	make_file(path("2/both"), "2");
	snprintf(options, sizeof(options), "index=off workdir=%s upperdir=%s lowerdir=%s:%s",
		 path("0"), path("3"), path("1"), path("2"));
	begin();
	add("overlay", "overlay", NULL, options);
	assert_int_equal(apply(), 0);
	assert_file(path("root/one"), "1");
	assert_file(path("root/two"), "2");
	assert_file(path("root/both"), "1");
	make_file(path("root/new"), "n");
	assert_file(path("3/new"), "n");
}

static void test_overlay_of_many_layers(void **state)
{
	char name[64], file[128];

	(void)state;
	need_root();
	memset(name, 'l', 40);
	name[40] = '\0';
	make_dir(path("snapshots"));
	for (int i = 0; i < 90; i++) {
		make_dir(path("snapshots/%s-%d", name, i));
		snprintf(file, sizeof(file), "snapshots/%s-%d/file%d", name, i, i);
		make_file(path("%s", file), "x");
	}
	begin();
	add("overlay", "overlay", NULL, layers("", path("snapshots"), name, 80));
	assert_true(message_len > 4096);
	assert_int_equal(apply(), 0);
	for (int i = 0; i < 80; i++)
		assert_file(path("root/file%d", i), "x");
}

static void test_failure_undoes_what_was_done(void **state)
{
	(void)state;
	need_root();
	make_dir(path("src"));
	make_dir(path("src/sub"));
	begin();
	add("bind", path("src"), NULL, "rbind");
	add("tmpfs", "none", "sub", "size=64k");
	add("tmpfs", "none", "missing", "size=64k");
	assert_int_equal(apply(), -ENOENT);
	assert_int_equal(mounts_at(base), 1); /* the test's own */
	assert_non_null(strstr(why_buf, "root/missing\", fstype: tmpfs, flags: 0, "
					"data: \"size=64k\", err: no such file or directory"));

	begin();
	add("bind", path("src"), NULL, "rbind");
	add("bind", path("missing"), "sub", "rbind ro");
	assert_int_equal(apply(), -ENOENT);
	assert_int_equal(mounts_at(base), 1);
}

static void test_targets(void **state)
{
	(void)state;
	need_root();
	make_dir(path("src"));
	make_dir(path("src/data"));
	symlink("/data", path("src/link"));
	begin();
	add("bind", path("src"), NULL, "rbind");
	add("tmpfs", "none", "/link", "size=64k mode=700");
	assert_int_equal(apply(), 0);
	assert_int_equal(mounts_at(path("root/data")), 1);
	make_file(path("root/data/f"), "x");
	assert_int_equal(access(path("src/data/f"), F_OK), -1);
	assert_int_equal(mount_undo(root), 0);
	assert_int_equal(mounts_at(root), 0);
}

static void test_undo_goes_deepest_first(void **state)
{
	(void)state;
	need_root();
	begin();
	add("tmpfs", "none", NULL, "");
	assert_int_equal(apply(), 0);
	make_dir(path("root/a b"));
	make_dir(path("root/a b/c\\d"));
	make_dir(path("root/a b/c\\d/e\tf"));
	make_dir(path("root/z"));
	begin();
	add("tmpfs", "none", "a b", "");
	assert_int_equal(apply(), 0);
	make_dir(path("root/a b/c\\d"));
	begin();
	add("tmpfs", "none", "a b/c\\d", "");
	add("tmpfs", "none", "z", "");
	add("tmpfs", "none", "z", ""); /* two on one point */
	assert_int_equal(apply(), 0);
	make_dir(path("root/a b/c\\d/e\tf"));
	begin();
	add("tmpfs", "none", "a b/c\\d/e\tf", "");
	assert_int_equal(apply(), 0);
	assert_int_equal(mount_undo(root), 0);
	assert_int_equal(mounts_at(root), 0);
}

static void test_undo_of_covered_mounts(void **state)
{
	(void)state;
	need_root();
	begin();
	add("tmpfs", "none", NULL, "");
	assert_int_equal(apply(), 0);
	make_dir(path("root/aa"));
	make_dir(path("root/bb"));
	begin();
	add("tmpfs", "none", "aa", "");
	add("tmpfs", "none", "", "");
	assert_int_equal(apply(), 0);
	make_dir(path("root/bb"));
	begin();
	add("tmpfs", "none", "bb", "");
	assert_int_equal(apply(), 0);
	assert_int_equal(mount_undo(root), 0);
	assert_int_equal(mounts_at(root), 0);
}

static void test_undo_of_a_busy_mount(void **state)
{
	int fd;

	(void)state;
	need_root();
	begin();
	add("tmpfs", "none", NULL, "");
	assert_int_equal(apply(), 0);
	fd = open(path("root/f"), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(mount_undo(root), -EBUSY);
	assert_int_equal(mounts_at(root), 1);
	close(fd);
	assert_int_equal(mount_undo(root), 0);
	assert_int_equal(mounts_at(root), 0);
}

static void test_undo_leaves_others_alone(void **state)
{
	(void)state;
	need_root();
	make_dir(path("rootless"));
	assert_int_equal(mount("none", path("rootless"), "tmpfs", 0, ""), 0);
	assert_int_equal(mount_undo(path("missing")), 0);
	assert_int_equal(mount_undo(path("missing/below")), 0);
	assert_int_equal(mount_undo("/"), -EINVAL);
	symlink("/", path("slash"));
	assert_int_equal(mount_undo(path("slash")), -EINVAL);
	begin();
	add("tmpfs", "none", NULL, "");
	assert_int_equal(apply(), 0);
	symlink("root", path("alias"));
	assert_int_equal(mount_undo(path("alias")), 0);
	assert_int_equal(mounts_at(root), 0);
	assert_int_equal(mounts_at(path("rootless")), 1);
	assert_int_equal(umount2(path("rootless"), 0), 0);
}

static void test_loop(void **state)
{
	char command[1024];

	(void)state;
	need_root();
	if (access("/dev/loop-control", F_OK) < 0 ||
	    system("command -v mkfs.ext4 >/dev/null") != 0) {
		print_message("no loop device or no mkfs.ext4\n");
		skip();
	}
	snprintf(command, sizeof(command), "truncate -s 2M %s && mkfs.ext4 -q -F %s", path("image"),
		 path("image"));
	assert_int_equal(system(command), 0);
	for (int i = 0; i < 5; i++) {
		static const char *const options[] = {"loop", "loop ro", "loop direct-io ro",
						      "loop ro", "loop direct-io ro"};

		before_5_8 = i > 2;
		begin();
		add("ext4", path("image"), NULL, options[i]);
		if (apply() < 0) {
			print_message("%s\n", why_buf);
			if (strstr(why_buf, "no such device"))
				skip(); /* this kernel has no ext4 */
			fail();
		}
		assert_int_equal(access(path("root/lost+found"), F_OK), 0);
		assert_int_equal(file_write(path("root/f"), VIEW("x"), 0644), i == 0 ? 0 : -EROFS);
		snprintf(command, sizeof(command), "losetup -j %s | grep -q loop", path("image"));
		assert_int_equal(system(command), 0);
		assert_int_equal(mount_undo(root), 0);
		/* It frees itself. */
		assert_int_not_equal(system(command), 0);
	}
	before_5_8 = false;
	begin();
	add("ext4", path("missing"), NULL, "loop");
	assert_int_equal(apply(), -ENOENT);
	/* No file system in it: the device does not stay behind. */
	make_file(path("image"), "nothing");
	begin();
	add("ext4", path("image"), NULL, "loop");
	assert_true(apply() < 0);
	assert_non_null(strstr(why_buf, "source: \"/dev/loop"));
	assert_int_not_equal(system(command), 0);
}

/* Puts a program on the PATH. */
static void script(const char *name, const char *text)
{
	static char env[2048];

	make_dir(path("bin"));
	make_file(path("bin/%s", name), text);
	assert_int_equal(chmod(path("bin/%s", name), 0755), 0);
	if (!env[0]) {
		snprintf(env, sizeof(env), "%s:%s", path("bin"), getenv("PATH"));
		setenv("PATH", env, 1);
	}
	setenv("BASE", base, 1);
}

static void test_fuse_helper(void **state)
{
	char options[2000];

	(void)state;
	need_root();
	script("mount.fuse3", "#!/bin/sh\nfor a; do echo \"[$a]\"; done >$BASE/args\n"
			      "grep Sig[BI] /proc/self/status >$BASE/signals\n"
			      "mount -t tmpfs none $2\n");
	script("mount.fuse", "#!/bin/sh\necho \"it is 'broken'\"; echo \"no\" >&2; exit 3\n");
	begin();
	add("fuse3.overlayfs", "over lay", NULL, "lowerdir=/a:/b ro,x loop");
	assert_int_equal(apply(), 0);
	snprintf(options, sizeof(options),
		 "[over lay]\n[%s]\n[-o]\n[lowerdir=/a:/b]\n[-o]\n[ro,x]\n[-o]\n[loop]\n[-t]\n"
		 "[overlayfs]\n",
		 root);
	assert_file(path("args"), options);
	assert_int_equal(mounts_at(root), 1);
	assert_file(path("signals"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");

	assert_int_equal(mount_undo(root), 0);
	begin();
	add("tmpfs", "none", NULL, "");
	add("fuse.x", "src", NULL, "a=b");
	assert_true(apply() < 0);
	snprintf(options, sizeof(options),
		 "failed to mount rootfs component: mount helper [mount.fuse src %s] failed: "
		 "\"it is 'broken'\\u000ano\": exit status 3",
		 root);
	assert_string_equal(why_buf, options);
	assert_int_equal(mounts_at(root), 0);

	unlink(path("bin/mount.fuse"));
	begin();
	add("fuse.x", "src", NULL, "a=b");
	assert_int_equal(apply(), -ENOENT);
	/* More options than there is room for. */
	memset(options, 'a', 1000);
	for (int i = 1; i < 1000; i += 2)
		options[i] = ' ';
	options[1000] = '\0';
	begin();
	add("fuse3.x", "src", NULL, options);
	assert_int_equal(apply(), -E2BIG);
}

/* Lets the helper go on, as soon as it has come to the gate, and waits for its end. */
static void open_gate(void)
{
	int gate = open(path("gate"), O_WRONLY | O_CLOEXEC);
	siginfo_t info;

	assert_int_equal(write(gate, "\n", 1), 1);
	close(gate);
	assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
}

/* The daemon stands still while a helper works: for ten seconds at most. */
static void test_fuse_helper_hangs(void **state)
{
	(void)state;
	need_root();
	script("mount.fuse", "#!/bin/sh\nread x <$BASE/gate\n");
	assert_int_equal(mkfifo(path("gate"), 0600), 0);
	clock_stands = true;
	clock_at = 1000000;
	last_nap = clock_at + 10000;
	killed_at = 0;
	in_last_nap = open_gate;
	begin();
	add("fuse.x", "src", NULL, "a=b");
	assert_int_equal(apply(), 0);
	assert_true(clock_at == last_nap && killed_at == 0);
	in_last_nap = NULL;
	clock_at = 1000000;
	assert_int_equal(apply(), -EIO);
	assert_non_null(strstr(why_buf, "exit status 137"));
	assert_int_equal(killed_at, last_nap + 2);
}

static void test_fuse_unmount(void **state)
{
	char options[600];
	int fd;

	(void)state;
	need_root();
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (fd < 0 || mount("x", root, "fuse.test", MS_NODEV, options) < 0) {
		print_message("no FUSE here: %s\n", strerror(errno));
		skip();
	}
	script("fusermount3", "#!/bin/sh\necho 3 $* >>$BASE/unmounted; exit 1\n");
	script("fusermount", "#!/bin/sh\necho 2 $* >>$BASE/unmounted; exit 1\n");
	assert_int_equal(mount_undo(root), 0);
	assert_int_equal(mounts_at(root), 0);
	snprintf(options, sizeof(options), "3 -u %s\n2 -u %s\n", root, root);
	assert_file(path("unmounted"), options);
	close(fd);
}

static void skip_if_not_mapped(int err)
{
	if (err == -ENOSYS || err == -EINVAL || err == -EPERM) {
		print_message("no id-mapped mounts here: %s\n", why_buf);
		skip();
	}
	assert_int_equal(err, 0);
}

static void test_mapped_bind(void **state)
{
	struct stat st;

	(void)state;
	need_root();
	make_dir(path("src"));
	make_file(path("src/mine"), "x");
	assert_int_equal(chown(path("src/mine"), 5, 6), 0);
	begin();
	add("bind", path("src"), NULL, "rbind ro uidmap=0:1000:10,10:5000:1 gidmap=0:2000:10");
	skip_if_not_mapped(apply());
	assert_int_equal(stat(path("root/mine"), &st), 0);
	assert_int_equal(st.st_uid, 1005);
	assert_int_equal(st.st_gid, 2006);
	assert_int_equal(mounts_at(root), 1);
	assert_int_equal(file_write(path("root/new"), VIEW("x"), 0644), -EROFS);
	assert_int_equal(mount_undo(root), 0);

	for (int i = 0; i < 5; i++) {
		static const char *const bad[] = {"uidmap=0:1 gidmap=0:1:2",
						  "uidmap=0:1:2 gidmap=0:1:2:3",
						  "uidmap=a:1:2 gidmap=0:1:2",
						  "uidmap=0:1:-2 gidmap=0:1:2",
						  "uidmap=0:1:2, gidmap=0::2"};
		begin();
		add("bind", path("src"), NULL, bad[i]);
		assert_int_equal(apply(), -EINVAL);
		assert_int_equal(mounts_at(root), 0);
	}
}

static void not_mapped(void)
{
	begin();
	add("bind", path("src"), NULL, "bind uidmap=0:1000:10 gidmap=0:2000:10");
	if (apply() != -ENOSYS || !strstr(why_buf, "unction not implemented"))
		_exit(3);
}

static void test_mapped_on_an_old_kernel(void **state)
{
	(void)state;
	need_root();
	make_dir(path("src"));
	before_5_2(not_mapped);
	assert_int_equal(mounts_at(root), 0);
}

static void test_mapped_overlay(void **state)
{
	char options[2048];
	struct stat st;

	(void)state;
	need_root();
	setenv("TMPDIR", base, 1);
	for (int i = 4; i < 8; i++)
		make_dir(path("%d", i));
	make_file(path("4/one"), "1");
	make_file(path("5/two"), "2");
	snprintf(options, sizeof(options),
		 "workdir=%s upperdir=%s lowerdir=%s:%s uidmap=0:100:50 gidmap=0:200:50", path("6"),
		 path("7"), path("4"), path("5"));
	begin();
	add("overlay", "overlay", NULL, options);
	skip_if_not_mapped(apply());
	assert_int_equal(stat(path("root/two"), &st), 0);
	assert_int_equal(st.st_uid, 100);
	assert_int_equal(st.st_gid, 200);
	/* The helper mount is gone, and its place. */
	assert_int_equal(mounts_at(base), 2);
	assert_int_not_equal(system("ls -d $BASE/ovl-idmapped* 2>/dev/null"), 0);

	begin();
	add("overlay", "overlay", NULL, "lowerdir=/x:/y uidmap=0:1:1 gidmap=0:1:1");
	assert_int_equal(apply(), -EINVAL);
	assert_non_null(strstr(why_buf, "common parent"));
	unsetenv("TMPDIR");
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(base))
		return -1;
	if (geteuid() == 0 &&
	    (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") < 0 ||
	     mount("none", base, "tmpfs", 0, "") < 0))
		return -1;
	setenv("BASE", base, 1);
	snprintf(root, sizeof(root), "%s", path("root"));
	return mkdir(root, 0755);
}

static int teardown(void **state)
{
	(void)state;
	return mount_undo(base) || system("rm -rf $BASE");
}

#define RECORDED(test) cmocka_unit_test_setup_teardown(test, set_recording, clear)
#define REAL(test) cmocka_unit_test_setup_teardown(test, set_real, clear)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RECORDED(test_nothing_to_do),
		RECORDED(test_every_option),
		RECORDED(test_remount),
		RECORDED(test_bind_readonly_is_remounted),
		RECORDED(test_the_sentence),
		RECORDED(test_all_is_checked_first),
		RECORDED(test_malformed),
		RECORDED(test_long_options),
		RECORDED(test_lower_layers),
		RECORDED(test_targets_stay_inside),
		REAL(test_bind),
		REAL(test_bind_readonly),
		REAL(test_overlay),
		REAL(test_overlay_of_many_layers),
		REAL(test_failure_undoes_what_was_done),
		REAL(test_targets),
		REAL(test_undo_goes_deepest_first),
		REAL(test_undo_of_covered_mounts),
		REAL(test_undo_of_a_busy_mount),
		REAL(test_undo_leaves_others_alone),
		REAL(test_loop),
		REAL(test_fuse_helper),
		REAL(test_fuse_helper_hangs),
		REAL(test_fuse_unmount),
		REAL(test_mapped_bind),
		REAL(test_mapped_on_an_old_kernel),
		REAL(test_mapped_overlay),
	};

	return cmocka_run_group_tests_name("mount", tests, setup, teardown);
}
