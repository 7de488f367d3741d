// SPDX-License-Identifier: Apache-2.0
/*
 * cgroup.c - a container's cgroup: where it is, who is in it, what it used, whether it ran dry.
 *
 * A cgroup is one line of text, to be kept in the container's slot. On cgroup v2 it is the path. On
 * v1 every controller has a hierarchy of its own, and mostly the same path in each: the line holds
 * the names that share a path, then the path; a tab leads to the next such group:
 *
 *	/default/web					v2
 *	pids,memory,cpu,blkio/default/web<TAB>rdma/x	v1
 *
 * A file's controller is the first word of its name ("memory.stat"), so a line and a file name say
 * where to read, in both versions.
 *
 * The metrics are two protobuf messages with some hundred numbers, each of them out of some file.
 * What comes from where is a text, too (v1[], v2[]): words that fill the fields of a message one
 * after another. A struct per number would take more room in relocations alone.
 *
 *	7		the next field is 7; after it 8, ...
 *	{ ... }		a message		( ... )   a message, but only if it finds a file
 *	=FILE		the number in FILE
 *	@FILE		read FILE; no field. If it is not there, neither is the rest of the message
 *	KEY		the number behind KEY in that file
 *	~KEY		the same in clock ticks, wanted in nanoseconds
 *	&FILE		all the numbers in FILE, packed
 *	%FILE		pressure: PSIStats
 *	^FILE		a message per line, NAME KEY=NUMBER ...: repeated RdmaEntry or IOEntry
 *	#FILE		a message per line, of a block device: repeated BlkIOEntry
 *	|		what follows is for a message that has nothing in it by now
 *	*{ *(		one for each size of huge pages, which is the * in the names of its files
 *	$		that size
 *
 * As in any proto3 message a zero is not written.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pb_encode.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shim.h"

#ifdef UNIT_TEST
const char *cgroup_prefix = ""; /* tests have a /proc and a /sys of their own below it */
#else
static const char cgroup_prefix[] = "";
#endif

enum {
	DIR_MAX = 1024,    /* longest path of a cgroup or a file in it */
	DEPTH_MAX = 32,    /* cgroups within the container's that are looked into */
	FILE_MAX = 1 << 16 /* longest file of numbers */
};

/* ---- finding it ---- */

static bool same(struct view a, struct view b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static bool list_has(struct view list, struct view name)
{
	while (list.len > 0)
		if (same(view_cut(&list, ','), name))
			return true;
	return false;
}

static bool is_v2(const char *cgroup)
{
	return cgroup[0] == '/';
}

/* The directory of one controller of a cgroup; an empty name: of any. False: it has none. */
static bool add_dir(struct text *path, const char *cgroup, struct view controller)
{
	struct view rest = view_of(cgroup), names, dir;

	text_printf(path, "%s/sys/fs/cgroup", cgroup_prefix);
	if (is_v2(cgroup)) {
		text_add(path, rest);
		return !path->cut;
	}
	while (rest.len > 0) {
		names = dir = view_cut(&rest, '\t');
		view_cut(&dir, '/');
		names.len -= dir.len + 1;
		if (controller.len == 0) {
			controller = view_cut(&names, ',');
		} else if (!list_has(names, controller)) {
			continue;
		}
		text_printf(path, "/%.*s/%.*s", VIEW_FMT(controller), VIEW_FMT(dir));
		return !path->cut;
	}
	return false;
}

static bool add_file(struct text *path, const char *cgroup, struct view file)
{
	struct view rest = file;

	if (!add_dir(path, cgroup, view_cut(&rest, '.')))
		return false;
	text_printf(path, "/%.*s", VIEW_FMT(file));
	return !path->cut;
}

/* The path behind "N:CONTROLLER,...:" in /proc/PID/cgroup; an empty name finds that of v2. */
static struct view path_of(struct view table, struct view controller)
{
	while (table.len > 0) {
		struct view line = view_cut(&table, '\n'), names;

		view_cut(&line, ':');
		names = view_cut(&line, ':');
		if (controller.len > 0 ? list_has(names, controller) : names.len == 0)
			return view_starts(line, "/") ? line : (struct view){0};
	}
	return (struct view){0};
}

/* The path seen from where the controller is mounted: from its own root, or, in a container, from
 * within. Empty: it is not mounted, or the process is just in the root: no cgroup of its own. */
static struct view path_below_mount(struct view path, struct view mounts, struct view controller)
{
	while (mounts.len > 0) {
		struct view line = view_cut(&mounts, '\n'), root, field, super;

		for (int i = 0; i < 4; i++) /* id, parent, device, root */
			root = view_cut(&line, ' ');
		do
			field = view_cut(&line, ' ');
		while (line.len > 0 && !view_is(field, "-"));
		if (!view_is(view_cut(&line, ' '), "cgroup"))
			continue;
		view_cut(&line, ' ');
		super = line;
		if (!list_has(super, controller))
			continue;
		if (root.len > 1 && path.len > root.len && path.at[root.len] == '/' &&
		    memcmp(path.at, root.at, root.len) == 0)
			path = (struct view){path.at + root.len, path.len - root.len};
		return path.len > 1 ? path : (struct view){0};
	}
	return (struct view){0};
}

static void find_v1(struct view table, struct view mounts, struct text *cgroup)
{
	/* Those with numbers in them; the last two for lack of others, to know the processes. */
	static const char names[][8] = {"pids",    "memory", "cpu",     "cpuacct", "blkio",
					"hugetlb", "rdma",   "devices", "freezer"};
	struct view paths[COUNT(names)];

	for (size_t i = 0; i < COUNT(names); i++) {
		struct view name = view_of(names[i]);

		paths[i] = path_below_mount(path_of(table, name), mounts, name);
		if (memchr(paths[i].at ? paths[i].at : "", '\t', paths[i].len))
			paths[i].len = 0;
	}
	for (size_t i = 0; i < COUNT(names); i++) {
		struct view path = paths[i];

		if (path.len == 0)
			continue;
		text_printf(cgroup, "%s%s", cgroup->len > 0 ? "\t" : "", names[i]);
		for (size_t k = i + 1; k < COUNT(names); k++) {
			if (!same(paths[k], path))
				continue;
			text_printf(cgroup, ",%s", names[k]);
			paths[k].len = 0;
		}
		text_add(cgroup, path);
	}
}

int cgroup_find(pid_t pid, struct text *cgroup)
{
	struct file table, mounts;
	struct view path;
	char name[DIR_MAX];
	struct text t = TEXT(name);
	int err;

	text_printf(&t, "%s/proc/%d/cgroup", cgroup_prefix, (int)pid);
	err = file_pages(name, &table);
	if (err < 0)
		return err;
	t.len = 0;
	text_printf(&t, "%s/sys/fs/cgroup/cgroup.controllers", cgroup_prefix);
	if (access(name, F_OK) == 0) {
		path = path_of((struct view){table.at, table.len}, (struct view){0});
		if (path.len > 1)
			text_add(cgroup, path);
	} else {
		t.len = 0;
		text_printf(&t, "%s/proc/self/mountinfo", cgroup_prefix);
		err = file_pages(name, &mounts);
		if (err == 0) {
			find_v1((struct view){table.at, table.len},
				(struct view){mounts.at, mounts.len}, cgroup);
			pages_put(mounts.at, mounts.cap);
		}
	}
	pages_put(table.at, table.cap);
	if (err == 0 && cgroup->cut)
		err = -ENAMETOOLONG;
	if (err == 0 && cgroup->len == 0)
		err = -ENOENT;
	return err;
}

void cgroup_enable(const char *cgroup)
{
	char name[DIR_MAX], have[256], want[512];
	struct text path = TEXT(name), all = TEXT(want);
	struct view rest;
	ssize_t n;
	int err;

	if (!is_v2(cgroup))
		return;
	text_printf(&path, "%s/sys/fs/cgroup/cgroup.controllers", cgroup_prefix);
	n = file_read(name, have, sizeof(have));
	if (n <= 0)
		return;
	for (rest = view_trim((struct view){have, (size_t)n}); rest.len > 0;) {
		text_add(&all, VIEW("+"));
		text_add(&all, view_cut(&rest, ' '));
		text_add(&all, VIEW(" "));
	}
	for (const char *end = cgroup; end; end = strchr(end + 1, '/')) {
		path.len = 0;
		text_printf(&path, "%s/sys/fs/cgroup%.*s/cgroup.subtree_control", cgroup_prefix,
			    (int)(end - cgroup), cgroup);
		err = file_write(name, (struct view){want, all.len}, 0644);
		if (err < 0)
			log_line(LOG_ERROR, "failed to enable controllers in %s: %s", name,
				 errno_text(-err));
	}
}

/* ---- who is in it ---- */

/* Reads a list of numbers, however long, from a file. */
static int pids_in(int dir, void (*each)(void *arg, pid_t pid), void *arg)
{
	int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	unsigned int pid = 0;
	char buf[512];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] >= '0' && buf[i] <= '9') {
				pid = pid * 10 + (unsigned int)(buf[i] - '0');
			} else {
				if (pid > 0 && pid <= INT_MAX)
					each(arg, (pid_t)pid);
				pid = 0;
			}
		}
	}
	/* A threaded cgroup has no processes, they count in its ancestor. */
	n = n < 0 && errno != EOPNOTSUPP ? -errno : 0;
	fd_close(&fd);
	return (int)n;
}

/* Closes dir. */
static int pids_below(int dir, int depth, void (*each)(void *arg, pid_t pid), void *arg)
{
	struct dir d = {.fd = dir};
	const struct dirent *entry;
	int err = pids_in(dir, each, arg), sub;

	while (err == 0 && (entry = dir_next(&d))) {
		if (entry->d_type != DT_DIR)
			continue;
		if (depth == DEPTH_MAX) {
			err = -ELOOP;
			break;
		}
		sub = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			err = pids_below(sub, depth + 1, each, arg);
		/* One that is removed meanwhile is empty. */
		if (err == -ENOENT || err == -ENODEV)
			err = 0;
	}
	if (err == 0)
		err = d.error;
	fd_close(&dir);
	return err;
}

int cgroup_pids(const char *cgroup, void (*each)(void *arg, pid_t pid), void *arg)
{
	char name[DIR_MAX];
	struct text path = TEXT(name);
	int dir;

	if (!add_dir(&path, cgroup, (struct view){0}))
		return -ENOENT;
	dir = file_open(name, O_RDONLY | O_DIRECTORY, 0);
	return dir < 0 ? -errno : pids_below(dir, 0, each, arg);
}

/* ---- what it used ---- */

static const char v2[] =
	"{ =pids.current =pids.max } "
	"{ @cpu.stat usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec "
	"8 nr_bursts burst_usec 7 %cpu.pressure } "
	"4 { @memory.stat anon file kernel_stack slab sock shmem file_mapped file_dirty "
	"file_writeback anon_thp inactive_anon active_anon inactive_file active_file unevictable "
	"slab_reclaimable slab_unreclaimable pgfault pgmajfault workingset_refault "
	"workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal pgactivate "
	"pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc "
	"39 workingset_refault_anon workingset_refault_file workingset_activate_anon "
	"workingset_activate_file 32 =memory.current =memory.max =memory.swap.current "
	"=memory.swap.max =memory.peak =memory.swap.peak %memory.pressure } "
	"{ ^rdma.current ^rdma.max } "
	"{ ^io.stat %io.pressure } "
	"*{ =hugetlb.*.current =hugetlb.*.max $ @hugetlb.*.events max } "
	"( @memory.events low high max oom oom_kill oom_group_kill )";

static const char v1[] =
	"*( =hugetlb.*.usage_in_bytes =hugetlb.*.max_usage_in_bytes =hugetlb.*.failcnt $ ) "
	"( =pids.current =pids.max ) "
	"{ { =cpuacct.usage @cpuacct.stat ~system ~user &cpuacct.usage_percpu } "
	"{ @cpu.stat nr_periods nr_throttled throttled_time } } "
	"( @memory.stat cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault "
	"pgmajfault inactive_anon active_anon inactive_file active_file unevictable "
	"hierarchical_memory_limit hierarchical_memsw_limit total_cache total_rss total_rss_huge "
	"total_mapped_file total_dirty total_writeback total_pgpgin total_pgpgout total_pgfault "
	"total_pgmajfault total_inactive_anon total_active_anon total_inactive_file "
	"total_active_file total_unevictable "
	"{ =memory.limit_in_bytes =memory.usage_in_bytes =memory.max_usage_in_bytes "
	"=memory.failcnt } "
	"{ =memory.memsw.limit_in_bytes =memory.memsw.usage_in_bytes "
	"=memory.memsw.max_usage_in_bytes =memory.memsw.failcnt } "
	"{ =memory.kmem.limit_in_bytes =memory.kmem.usage_in_bytes "
	"=memory.kmem.max_usage_in_bytes =memory.kmem.failcnt } "
	"{ =memory.kmem.tcp.limit_in_bytes =memory.kmem.tcp.usage_in_bytes "
	"=memory.kmem.tcp.max_usage_in_bytes =memory.kmem.tcp.failcnt } ) "
	"9 ( @memory.oom_control oom_kill_disable under_oom oom_kill ) "
	"5 ( @blkio.io_serviced_recursive "
	"#blkio.io_service_bytes_recursive #blkio.io_serviced_recursive "
	"#blkio.io_queued_recursive #blkio.io_service_time_recursive #blkio.io_wait_time_recursive "
	"#blkio.io_merged_recursive #blkio.time_recursive #blkio.sectors_recursive "
	"| 1 #blkio.throttle.io_service_bytes #blkio.throttle.io_serviced ) "
	"( ^rdma.current ^rdma.max )";

struct stats {
	const char *cgroup;
	pb_ostream_t out;
	char *at;   /* where `out` writes to */
	bool full;  /* it was not enough */
	bool found; /* a file was there, since this was last set to false */
	int dir;    /* of the controller whose file was read last, or -1 */
	struct view controller;
	struct view content; /* of the file read last */
	struct view rest;    /* of that, behind the number found last */
	struct view size;    /* of huge pages, for the * */
	struct view devices; /* /proc/partitions, once it is needed */
	char sizes[256];     /* all of them, each followed by a blank; the same */
};

/* Files are read as a whole. Kept until the daemon falls asleep: to get it anew takes as long as to
 * read two of them. */
struct room {
	char file[FILE_MAX], partitions[FILE_MAX];
};
static struct room *room;

/* The directory of a controller, or -1. Most of the time it takes to open a file goes into the walk to
 * it, and files of one controller are read one after the other. */
static int controller_dir(struct stats *s, struct view controller)
{
	char name[DIR_MAX];
	struct text path = TEXT(name);

	if (s->controller.len > 0 && (is_v2(s->cgroup) || same(controller, s->controller)))
		return s->dir;
	fd_close(&s->dir);
	s->controller = controller;
	if (add_dir(&path, s->cgroup, controller))
		s->dir = file_open(name, O_PATH | O_DIRECTORY, 0);
	return s->dir;
}

/* Reads a file of the cgroup, by one read(2): the kernel makes these whole, however long they are.
 * What it says is gone with the next one. */
static bool load(struct stats *s, struct view name)
{
	char file[64];
	struct text f = TEXT(file);
	struct view rest = name, controller = view_cut(&rest, '.'), head = view_cut(&name, '*');
	ssize_t n = -1;
	int fd = -1;

	text_add(&f, head);
	if (name.len > 0) {
		text_add(&f, s->size);
		text_add(&f, name);
	}
	if (!f.cut && controller_dir(s, controller) >= 0)
		fd = openat(s->dir, file, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, room->file, sizeof(room->file));
	fd_close(&fd);
	if (n == sizeof(room->file))
		n = -1;
	s->content = s->rest = (struct view){room->file, n > 0 ? (size_t)n : 0};
	s->found |= n >= 0;
	return n >= 0;
}

/* ---- writing fields ---- */

static void put_uint(struct stats *s, unsigned int tag, uint64_t value)
{
	if (value != 0)
		s->full |= !pb_encode_tag(&s->out, PB_WT_VARINT, tag) ||
			   !pb_encode_varint(&s->out, value);
}

static void put_double(struct stats *s, unsigned int tag, double value)
{
	if (value != 0)
		s->full |= !pb_encode_tag(&s->out, PB_WT_64BIT, tag) ||
			   !pb_encode_fixed64(&s->out, &value);
}

static void put_text(struct stats *s, unsigned int tag, struct view v)
{
	if (v.len > 0)
		s->full |= !pb_encode_tag(&s->out, PB_WT_STRING, tag) ||
			   !pb_encode_string(&s->out, (const pb_byte_t *)v.at, v.len);
}

/* Begins a field whose length is not known yet; the result is for put_end(). */
static size_t put_begin(struct stats *s, unsigned int tag)
{
	s->full |= !pb_encode_tag(&s->out, PB_WT_STRING, tag);
	return s->out.bytes_written;
}

/* Moves what was written since put_begin() to make room for its length. */
static void put_end(struct stats *s, size_t begin)
{
	pb_byte_t digits[10];
	pb_ostream_t length = pb_ostream_from_buffer(digits, sizeof(digits));
	size_t len = s->out.bytes_written - begin;

	pb_encode_varint(&length, len);
	if (s->full || !pb_write(&s->out, digits, length.bytes_written)) {
		s->full = true;
		return;
	}
	memmove(s->at + begin + length.bytes_written, s->at + begin, len);
	memcpy(s->at + begin, digits, length.bytes_written);
}

/* ---- reading numbers ---- */

/* "max" is the largest one; negative ones are 0. */
static uint64_t number(struct view v)
{
	uint64_t n = 0;

	v = view_trim(v);
	if (view_is(v, "max"))
		return UINT64_MAX;
	for (size_t i = 0; i < v.len && v.at[i] >= '0' && v.at[i] <= '9'; i++)
		n = n * 10 + (uint64_t)(v.at[i] - '0');
	return n;
}

/* "12.34", as pressure files have it. The quotient of two exact numbers is rounded only once: the
 * result is that of strtod(3). */
static double decimal(struct view v)
{
	uint64_t scale = 1, value = number(view_cut(&v, '.'));

	for (size_t i = 0; i < v.len && i < 6; i++, scale *= 10)
		value = value * 10 + (uint64_t)(v.at[i] - '0');
	return (double)value / (double)scale;
}

/* The number behind a key in the file read last. Most are asked for in the order they stand there. */
static uint64_t number_of(struct stats *s, struct view key)
{
	for (int pass = 0; pass < 2; pass++) {
		while (s->rest.len > 0) {
			struct view line = view_cut(&s->rest, '\n');

			if (same(view_cut(&line, ' '), key))
				return number(line);
		}
		s->rest = s->content;
	}
	return 0;
}

/* "KEY=NUMBER KEY=NUMBER ...": the keys in `keys` are the fields from `tag` on. */
static void put_pairs(struct stats *s, struct view line, const char *keys, unsigned int tag)
{
	for (struct view rest = view_of(keys); rest.len > 0; tag++) {
		struct view key = view_cut(&rest, ' '), pairs = line;

		while (pairs.len > 0) {
			struct view value = view_cut(&pairs, ' ');

			if (!same(view_cut(&value, '='), key) || value.len == 0)
				continue;
			if (memchr(value.at, '.', value.len))
				put_double(s, tag, decimal(value));
			else if (view_is(value, "max")) /* an RdmaEntry's, of 32 bits */
				put_uint(s, tag, UINT32_MAX);
			else
				put_uint(s, tag, number(value));
			break;
		}
	}
}

/* ---- files with more than a number ---- */

static void put_pressure(struct stats *s, unsigned int tag, struct view name)
{
	struct view rest, line;
	size_t all, one;

	/* Where pressure is turned off the file is there, but cannot be read. */
	if (!load(s, name) || s->content.len == 0)
		return;
	all = put_begin(s, tag);
	for (rest = s->content; rest.len > 0;) {
		line = view_cut(&rest, '\n');
		one = put_begin(s, view_is(view_cut(&line, ' '), "some") ? 1 : 2);
		put_pairs(s, line, "avg10 avg60 avg300 total", 1);
		put_end(s, one);
	}
	put_end(s, all);
}

static void put_entries(struct stats *s, unsigned int tag, struct view name)
{
	struct view rest, line, head, major;
	size_t one;

	load(s, name);
	for (rest = s->content; rest.len > 0;) {
		line = view_cut(&rest, '\n');
		head = view_cut(&line, ' ');
		if (line.len == 0)
			continue;
		one = put_begin(s, tag);
		if (view_starts(name, "io.")) {
			major = view_cut(&head, ':');
			put_uint(s, 1, number(major));
			put_uint(s, 2, number(head));
			put_pairs(s, line, "rbytes wbytes rios wios", 3);
		} else {
			put_text(s, 1, head);
			put_pairs(s, line, "hca_handle hca_object", 2);
		}
		put_end(s, one);
	}
}

/* The next word of a line whose columns are filled up with blanks. */
static struct view word(struct view *line)
{
	struct view w;

	do
		w = view_cut(line, ' ');
	while (w.len == 0 && line->len > 0);
	return w;
}

static void read_devices(struct stats *s)
{
	char name[DIR_MAX];
	struct text path = TEXT(name);
	ssize_t n;

	text_printf(&path, "%s/proc/partitions", cgroup_prefix);
	n = file_read(name, room->partitions, sizeof(room->partitions));
	s->devices = (struct view){room->partitions, n > 0 ? (size_t)n : 0};
}

/* "MAJOR:MINOR [OPERATION] NUMBER" per line, and a sum that is nobody's. */
static void put_devices(struct stats *s, unsigned int tag, struct view name)
{
	struct view rest, line, head, major, op, value, table, row;
	char path[64];
	size_t one;

	load(s, name);
	for (rest = s->content; rest.len > 0;) {
		line = view_cut(&rest, '\n');
		head = view_cut(&line, ' ');
		major = view_cut(&head, ':');
		if (head.len == 0)
			continue;
		op = view_cut(&line, ' ');
		value = line.len > 0 ? line : op;
		if (line.len == 0)
			op.len = 0;
		one = put_begin(s, tag);
		put_text(s, 1, op);
		if (!s->devices.at)
			read_devices(s);
		for (table = s->devices; table.len > 0;) {
			struct text t = TEXT(path);

			row = view_cut(&table, '\n');
			if (!same(word(&row), major) || !same(word(&row), head))
				continue;
			word(&row); /* its size */
			text_printf(&t, "/dev/%.*s", VIEW_FMT(row));
			put_text(s, 2, (struct view){path, t.len});
			break;
		}
		put_uint(s, 3, number(major));
		put_uint(s, 4, number(head));
		put_uint(s, 5, number(value));
		put_end(s, one);
	}
}

static void put_list(struct stats *s, unsigned int tag, struct view name)
{
	struct view rest, one;
	size_t all;

	if (!load(s, name))
		return;
	all = put_begin(s, tag);
	for (rest = view_trim(s->content); rest.len > 0;) {
		one = view_cut(&rest, ' ');
		s->full |= !pb_encode_varint(&s->out, number(one));
	}
	put_end(s, all);
}

/* "hugepages-2048kB" in a directory becomes "2MB", as the hugetlb files are named. */
static void read_sizes(struct stats *s)
{
	char buf[128];
	struct text sizes = TEXT(s->sizes), path = TEXT(buf);
	struct dir dir = {0};
	const struct dirent *entry;

	text_printf(&path, "%s/sys/kernel/mm/hugepages", cgroup_prefix);
	dir.fd = file_open(buf, O_RDONLY | O_DIRECTORY, 0);
	while (dir.fd >= 0 && (entry = dir_next(&dir))) {
		struct view name = view_of(entry->d_name);
		uint64_t size;

		if (!view_starts(name, "hugepages-"))
			continue;
		view_cut(&name, '-');
		size = number(name);
		text_printf(&sizes, "%u%s ",
			    (unsigned int)(size >> (size >> 20   ? 20
						    : size >> 10 ? 10
								 : 0)),
			    size >> 20   ? "GB"
			    : size >> 10 ? "MB"
					 : "KB");
	}
	fd_close(&dir.fd);
}

/* ---- a message by its words ---- */

static void put_fields(struct stats *s, struct view *words, bool all_dead);

/* One message; the words in *words are behind its opening one. */
static void put_message(struct stats *s, unsigned int tag, bool optional, struct view *words)
{
	pb_ostream_t before = s->out;
	size_t begin = put_begin(s, tag);
	bool outer = s->found;

	s->found = false;
	put_fields(s, words, false);
	if (optional && !s->found)
		s->out = before;
	else
		put_end(s, begin);
	s->found |= outer;
}

/* Follows the words up to the end of their message. Dead ones are only passed over. */
static void put_fields(struct stats *s, struct view *words, bool all_dead)
{
	size_t begin = s->out.bytes_written;
	bool dead = all_dead;
	unsigned int tag = 1;
	uint64_t value;

	while (words->len > 0) {
		struct view w = view_cut(words, ' '), name = {w.at + 1, w.len - 1}, sizes, again;

		if (w.at[0] == '}' || w.at[0] == ')')
			return;
		if (w.at[0] == '|') {
			dead = all_dead || s->out.bytes_written > begin;
			continue;
		}
		if (dead) {
			if (memchr(w.at, '{', w.len) || memchr(w.at, '(', w.len))
				put_fields(s, words, true);
			continue;
		}
		switch (w.at[0]) {
		case '{':
		case '(':
			put_message(s, tag, w.at[0] == '(', words);
			break;
		case '*':
			if (is_v2(s->cgroup) || controller_dir(s, VIEW("hugetlb")) >= 0)
				read_sizes(s);
			for (sizes = view_of(s->sizes); sizes.len > 0;) {
				s->size = view_cut(&sizes, ' ');
				again = *words;
				put_message(s, tag, w.at[1] == '(', &again);
			}
			put_fields(s, words, true);
			break;
		case '=':
			load(s, name);
			value = number(s->content);
			/* v1 clients know "max" as 0. */
			put_uint(s, tag, value == UINT64_MAX && !is_v2(s->cgroup) ? 0 : value);
			break;
		case '@':
			dead = !load(s, name);
			continue;
		case '~': /* there are 100 ticks to a second for user space, always */
			put_uint(s, tag, number_of(s, name) * (1000000000 / 100));
			break;
		case '&':
			put_list(s, tag, name);
			break;
		case '%':
			put_pressure(s, tag, name);
			break;
		case '^':
			put_entries(s, tag, name);
			break;
		case '#':
			put_devices(s, tag, name);
			break;
		case '$':
			put_text(s, tag, s->size);
			break;
		default:
			if (w.at[0] >= '0' && w.at[0] <= '9') {
				tag = (unsigned int)view_int(w);
				continue;
			}
			put_uint(s, tag, number_of(s, w));
			break;
		}
		tag++;
	}
}

ssize_t cgroup_stats(const char *cgroup, struct view *type_url, char *buf, size_t cap)
{
	char name[DIR_MAX];
	struct text path = TEXT(name);
	struct stats s = {.cgroup = cgroup,
			  .out = pb_ostream_from_buffer((pb_byte_t *)buf, cap),
			  .at = buf,
			  .dir = -1};
	struct view words;

	if (!add_dir(&path, cgroup, (struct view){0}) || access(name, F_OK) < 0)
		return -ENOENT;
	if (!room && !(room = pages_get(sizeof(*room))))
		return -ENOMEM;
	if (is_v2(cgroup)) {
		*type_url = VIEW("io.containerd.cgroups.v2.Metrics");
		words = VIEW(v2);
	} else {
		*type_url = VIEW("io.containerd.cgroups.v1.Metrics");
		words = VIEW(v1);
	}
	put_fields(&s, &words, false);
	fd_close(&s.dir);
	return s.full ? -ENOSPC : (ssize_t)s.out.bytes_written;
}

void cgroup_forget(void)
{
	pages_put(room, sizeof(*room));
	room = NULL;
}

/* ---- whether it ran dry ---- */

/* cgroup v2: how many processes the kernel killed so far. Not how often memory ran out ("oom"):
 * where a limit further up did it, only the kills are counted here. To read it is also what makes
 * poll(2) wait for the next change of it. */
static bool read_kills(const struct oom *oom, uint64_t *kills)
{
	char content[512];
	ssize_t n = pread(oom->fd, content, sizeof(content), 0);
	struct view rest, line;

	for (rest = (struct view){content, n > 0 ? (size_t)n : 0}; rest.len > 0;) {
		line = view_cut(&rest, '\n');
		if (view_is(view_cut(&line, ' '), "oom_kill"))
			*kills = number(line);
	}
	return n >= 0;
}

/* By poll(2), not by inotify(7): a user has 128 of those in all, one for each of his shims, and to
 * close one takes the kernel 10 ms and more. */
static int arm_v2(const char *cgroup)
{
	char name[DIR_MAX];
	struct text path = TEXT(name);
	int fd;

	if (!add_file(&path, cgroup, VIEW("memory.events")))
		return -ENAMETOOLONG;
	fd = file_open(name, O_RDONLY, 0);
	return fd < 0 ? -errno : fd;
}

static int arm_v1(const char *cgroup)
{
	char name[DIR_MAX], order[32];
	struct text path = TEXT(name), o = TEXT(order);
	int fd, control, err;

	if (!add_file(&path, cgroup, VIEW("memory.oom_control")))
		return -ENOENT;
	control = file_open(name, O_RDONLY, 0);
	if (control < 0)
		return -errno;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = fd < 0 ? -errno : 0;
	if (err == 0) {
		path.len = 0;
		add_dir(&path, cgroup, VIEW("memory"));
		text_add(&path, VIEW("/cgroup.event_control"));
		text_printf(&o, "%d %d", fd, control);
		err = path.cut ? -ENAMETOOLONG : file_write(name, (struct view){order, o.len}, 0);
	}
	fd_close(&control);
	if (err < 0)
		fd_close(&fd);
	return err < 0 ? err : fd;
}

int cgroup_oom_arm(const char *cgroup, struct oom *oom)
{
	bool unified = is_v2(cgroup);
	int fd = unified ? arm_v2(cgroup) : arm_v1(cgroup);

	*oom = (struct oom){.fd = fd < 0 ? -1 : fd, .ready = unified ? POLLPRI : POLLIN};
	if (fd < 0)
		return fd;
	if (unified)
		read_kills(oom, &oom->kills);
	return 0;
}

bool cgroup_oom_check(const char *cgroup, struct oom *oom)
{
	uint64_t kills = oom->kills, told;
	char name[DIR_MAX];
	struct text path = TEXT(name);
	bool gone, killed;

	if (oom->fd < 0)
		return false;
	if (oom->ready == POLLPRI) {
		gone = !read_kills(oom,
				   &kills); /* or is of no use: it would be ready without end */
		killed = kills > oom->kills;
		oom->kills = kills;
	} else {
		/* The end of the cgroup is told by the same eventfd. */
		bool some = read(oom->fd, &told, sizeof(told)) > 0;

		gone = some && !(add_file(&path, cgroup, VIEW("memory.oom_control")) &&
				 access(name, F_OK) == 0);
		killed = some && !gone;
	}
	if (gone)
		cgroup_oom_close(oom);
	return killed;
}

void cgroup_oom_close(struct oom *oom)
{
	fd_close(&oom->fd);
}
