// SPDX-License-Identifier: Apache-2.0
/*
 * cgroup.c's tests: against trees of files made for them, for both cgroup versions, and against the
 * real hierarchy of the host where it is v1 with a memory controller and we are root.
 */
#include "unit.h"

#include <sys/mman.h>

extern const char *cgroup_prefix;

/* ---- a tree of files ---- */

static char base[64];
static char buf[65536]; /* of metrics */
static struct view metrics, type_url;

static void make(const char *name, const char *text)
{
	char path[1024], *slash = path;

	snprintf(path, sizeof(path), "%s/%s", base, name);
	while ((slash = strchr(slash + 1, '/'))) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	assert_int_equal(file_write(path, view_of(text), 0644), 0);
}

static void unmake(const char *name)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	unlink(path);
}

static void assert_made(const char *name, const char *text)
{
	char path[1024], content[4096];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_true(file_read(path, content, sizeof(content)) >= 0);
	assert_string_equal(content, text);
}

static int setup(void **state)
{
	(void)state;
	strcpy(base, "/tmp/nanoshim-cgroup.XXXXXX");
	cgroup_prefix = base;
	return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	cgroup_prefix = "";
	snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command);
}

/* ---- reading metrics ---- */

/* The value of the nth field `tag` of a message. */
static bool pick(struct view msg, unsigned int tag, unsigned int nth, struct view *bytes,
		 uint64_t *number)
{
	const unsigned char *at = (const unsigned char *)msg.at, *end = at + msg.len;

	while (at < end) {
		uint64_t key = 0, value = 0;

		for (int shift = 0; at < end; shift += 7) {
			key |= (uint64_t)(*at & 0x7f) << shift;
			if (!(*at++ & 0x80))
				break;
		}
		if ((key & 7) == 1) {
			memcpy(&value, at, 8);
			at += 8;
		} else {
			for (int shift = 0; at < end; shift += 7) {
				value |= (uint64_t)(*at & 0x7f) << shift;
				if (!(*at++ & 0x80))
					break;
			}
		}
		*bytes = (struct view){(const char *)at, 0};
		if ((key & 7) == 2) {
			assert_true(value <= (uint64_t)(end - at));
			bytes->len = value;
			at += value;
		}
		*number = value;
		if (key >> 3 == tag && nth-- == 0)
			return true;
	}
	assert_true(at == end);
	return false;
}

/* "4.33.2", and "7[1].3" for the second 7. */
static bool find(const char *path, struct view *bytes, uint64_t *number)
{
	*bytes = metrics;
	*number = 0;
	while (*path) {
		char *end;
		unsigned int tag = (unsigned int)strtoul(path, &end, 10), nth = 0;

		if (*end == '[')
			nth = (unsigned int)strtoul(end + 1, &end, 10), end++;
		path = *end == '.' ? end + 1 : end;
		if (!pick(*bytes, tag, nth, bytes, number))
			return false;
	}
	return true;
}

static bool has(const char *path)
{
	struct view bytes;
	uint64_t number;

	return find(path, &bytes, &number);
}

static uint64_t num(const char *path)
{
	struct view bytes;
	uint64_t number;

	return find(path, &bytes, &number) ? number : 0;
}

static double dbl(const char *path)
{
	uint64_t bits = num(path);
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

static const char *str(const char *path)
{
	static char text[256];
	struct view bytes;
	uint64_t number;

	if (!find(path, &bytes, &number))
		return "";
	snprintf(text, sizeof(text), "%.*s", VIEW_FMT(bytes));
	return text;
}

static void stats(const char *cgroup)
{
	ssize_t n = cgroup_stats(cgroup, &type_url, buf, sizeof(buf));

	assert_true(n >= 0);
	metrics = (struct view){buf, (size_t)n};
	/* What does not fit is said, at every length. */
	for (size_t cap = 0; cap < (size_t)n; cap += 7) {
		char *small = malloc(cap + 1);

		assert_int_equal(cgroup_stats(cgroup, &type_url, small, cap), -ENOSPC);
		free(small);
	}
}

/* "KEY 1\nKEY 2\n" for words; returns the text. */
static const char *numbered(const char *keys, unsigned int first)
{
	static char text[4096];
	struct text t = TEXT(text);
	struct view rest = view_of(keys);

	text[0] = '\0';
	while (rest.len > 0) {
		text_add(&t, view_cut(&rest, ' '));
		text_printf(&t, " %u\n", first++);
	}
	return text;
}

/* ---- finding ---- */

static char line_buf[512];

static int find_pid(pid_t pid)
{
	struct text line = TEXT(line_buf);

	line_buf[0] = '\0';
	return cgroup_find(pid, &line);
}

static const char mountinfo[] =
	"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	"25 22 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
	"26 25 0:23 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n"
	"27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 master:3 - cgroup cgroup "
	"rw,cpu,cpuacct\n"
	"28 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	"29 25 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	"30 25 0:27 /docker/abc /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
	"31 25 0:28 / /sys/fs/cgroup/rdma rw - cgroup cgroup rw,rdma\n"
	"32 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";

static void test_find_v1(void **state)
{
	char small[8];
	struct text line = TEXT(small);

	(void)state;
	make("proc/self/mountinfo", mountinfo);
	make("proc/7/cgroup", "12:hugetlb:/ns/id\n11:memory:/ns/id\n10:cpu,cpuacct:/ns/id\n"
			      "9:pids:/ns/id\n8:blkio:/docker/abc/ns/id\n7:rdma:/\n"
			      "6:freezer:/ns/id\n1:name=systemd:/x.slice\n0::/y.slice\n");
	assert_int_equal(find_pid(7), 0);
	/* hugetlb and freezer are not mounted; in rdma it has no cgroup of its own. */
	assert_string_equal(line_buf, "pids,memory,cpu,cpuacct,blkio/ns/id");

	make("proc/8/cgroup", "11:memory:/ns/id\n10:cpu,cpuacct:/other/a:b c\n9:pids:/ns/id\n"
			      "8:blkio:/docker/abcd\n7:rdma:/odd\tname\n");
	assert_int_equal(find_pid(8), 0);
	assert_string_equal(line_buf,
			    "pids,memory/ns/id\tcpu,cpuacct/other/a:b c\tblkio/docker/abcd");

	make("proc/9/cgroup", "11:memory:/\n0::/x\n");
	assert_int_equal(find_pid(9), -ENOENT);
	make("proc/9/cgroup", "");
	assert_int_equal(find_pid(9), -ENOENT);
	assert_int_equal(find_pid(10), -ENOENT);
	assert_int_equal(cgroup_find(7, &line), -ENAMETOOLONG);
}

static void test_find_v2(void **state)
{
	(void)state;
	make("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
	make("proc/7/cgroup", "1:name=systemd:/nope\n0::/kubepods/pod1/a:b\n");
	assert_int_equal(find_pid(7), 0);
	assert_string_equal(line_buf, "/kubepods/pod1/a:b");
	make("proc/7/cgroup", "0::/\n");
	assert_int_equal(find_pid(7), -ENOENT);
	make("proc/7/cgroup", "9:memory:/x\n");
	assert_int_equal(find_pid(7), -ENOENT);
}

static void test_enable(void **state)
{
	(void)state;
	make("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
	make("sys/fs/cgroup/a/b/c/cgroup.subtree_control", "old");
	make("sys/fs/cgroup/a/cgroup.subtree_control", "old");
	cgroup_enable("/a/b/c");
	assert_made("sys/fs/cgroup/cgroup.subtree_control", "+cpuset +cpu +io +memory +pids ");
	assert_made("sys/fs/cgroup/a/cgroup.subtree_control", "+cpuset +cpu +io +memory +pids ");
	assert_made("sys/fs/cgroup/a/b/cgroup.subtree_control", "+cpuset +cpu +io +memory +pids ");
	assert_made("sys/fs/cgroup/a/b/c/cgroup.subtree_control", "old");
	cgroup_enable("memory/a/b"); /* v1 */
	cgroup_enable("/missing/b"); /* only a line in the log */
}

/* ---- processes ---- */

static int pid_sum, pid_count;

static void count_pid(void *arg, pid_t pid)
{
	assert_ptr_equal(arg, &pid_sum);
	pid_sum += pid;
	pid_count++;
}

static int pids(const char *cgroup)
{
	pid_sum = pid_count = 0;
	return cgroup_pids(cgroup, count_pid, &pid_sum);
}

static void test_pids(void **state)
{
	static char many[60000], deep[1024];
	size_t n = 0;

	(void)state;
	for (int i = 1; i <= 9999; i++)
		n += (size_t)sprintf(many + n, "%d\n", i);
	make("sys/fs/cgroup/x/cgroup.procs", many);
	make("sys/fs/cgroup/x/sub/cgroup.procs", "10000\n");
	make("sys/fs/cgroup/x/sub/subsub/cgroup.procs", "20000\n\n");
	make("sys/fs/cgroup/x/empty/cgroup.procs", "");
	make("sys/fs/cgroup/x/gone/other", ""); /* as if it went while we look */
	assert_int_equal(pids("/x"), 0);
	assert_int_equal(pid_count, 10001);
	assert_int_equal(pid_sum, 9999 * 10000 / 2 + 10000 + 20000);
	assert_int_equal(pids("/missing"), -ENOENT);

	make("sys/fs/cgroup/memory/ns/id/cgroup.procs", "5\n6\n");
	assert_int_equal(pids("memory,cpu/ns/id"), 0);
	assert_int_equal(pid_sum, 11);
	assert_int_equal(pids("pids/ns/id"), -ENOENT);

	strcpy(deep, "sys/fs/cgroup/d");
	for (int i = 0; i < 33; i++) {
		n = strlen(deep);
		strcpy(deep + n, "/cgroup.procs");
		make(deep, "1\n");
		if (i == 32)
			assert_int_equal(pids("/d"), 0);
		strcpy(deep + n, "/d");
	}
	assert_int_equal(pid_count, 33);
	strcat(deep, "/cgroup.procs");
	make(deep, "1\n");
	assert_int_equal(pids("/d"), -ELOOP);
}

/* ---- metrics ---- */

#define V2 "sys/fs/cgroup/k/id/"
#define V1(controller) "sys/fs/cgroup/" controller "/n/id/"

static void test_stats_v2(void **state)
{
	static const char *const memory =
		"anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback "
		"anon_thp inactive_anon active_anon inactive_file active_file unevictable "
		"slab_reclaimable slab_unreclaimable pgfault pgmajfault workingset_refault "
		"workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal pgactivate "
		"pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc";
	static const char *const memory_new =
		"kernel percpu workingset_refault_anon workingset_refault_file "
		"workingset_activate_anon workingset_activate_file zswap";
	char content[8192], name[16];

	(void)state;
	make("sys/kernel/mm/hugepages/hugepages-2048kB/x", "");
	make("sys/kernel/mm/hugepages/hugepages-1048576kB/x", "");
	make("sys/kernel/mm/hugepages/hugepages-64kB/x", "");
	make(V2 "pids.current", "17\n");
	make(V2 "pids.max", "max\n");
	make(V2 "cpu.stat", "usage_usec 1\nuser_usec 2\nsystem_usec 3\n"
			    "core_sched.force_idle_usec 77\nnr_periods 4\nnr_throttled 5\n"
			    "throttled_usec 6\nnr_bursts 8\nburst_usec 9\n");
	make(V2 "cpu.pressure", "some avg10=0.12 avg60=1.00 avg300=99.99 total=123456789012\n"
				"full avg10=0.00 avg60=0.07 avg300=100.00 total=0\n");
	snprintf(content, sizeof(content), "%s", numbered(memory, 1001));
	snprintf(content + strlen(content), 4096, "%s", numbered(memory_new, 1037));
	make(V2 "memory.stat", content);
	make(V2 "memory.current", "18446744073709551614\n");
	make(V2 "memory.max", "max\n");
	make(V2 "memory.swap.current", "34\n");
	make(V2 "memory.swap.max", "35\n");
	make(V2 "memory.peak", "36\n");
	make(V2 "memory.swap.peak", "37\n");
	make(V2 "memory.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=5\n");
	make(V2 "memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n");
	make(V2 "rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 "
				"hca_object=max\n");
	make(V2 "rdma.max", "mlx4_0 hca_handle=max hca_object=7\n");
	make(V2 "io.stat", "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=9 "
			   "dios=1\n253:0 \n8:0\n259:3 rbytes=1 wios=4\n");
	make(V2 "io.pressure", "some avg10=0.01 avg60=0.02 avg300=0.03 total=4\n"
			       "full avg10=0.05 avg60=0.06 avg300=0.07 total=8\n");
	make(V2 "hugetlb.2MB.current", "2097152\n");
	make(V2 "hugetlb.2MB.max", "max\n");
	make(V2 "hugetlb.2MB.events", "max 3\n");
	make(V2 "hugetlb.1GB.current", "0\n");
	make(V2 "hugetlb.1GB.max", "1073741824\n");
	stats("/k/id");
	assert_true(view_is(type_url, "io.containerd.cgroups.v2.Metrics"));
	assert_int_equal(num("1.1"), 17);
	assert_true(num("1.2") == UINT64_MAX);
	for (unsigned int i = 1; i <= 9; i++) {
		snprintf(name, sizeof(name), "2.%u", i);
		if (i != 7)
			assert_int_equal(num(name), i);
	}
	assert_true(dbl("2.7.1.1") == 0.12);
	assert_true(dbl("2.7.1.2") == 1.0);
	assert_true(dbl("2.7.1.3") == 99.99);
	assert_int_equal(num("2.7.1.4"), 123456789012);
	assert_false(has("2.7.2.1"));
	assert_true(dbl("2.7.2.2") == 0.07);
	assert_true(dbl("2.7.2.3") == 100.0);
	for (unsigned int i = 1; i <= 42; i++) {
		snprintf(name, sizeof(name), "4.%u", i);
		if (i <= 31 || i >= 39)
			assert_int_equal(num(name), 1000 + i);
	}
	assert_true(num("4.32") == UINT64_MAX - 1);
	assert_true(num("4.33") == UINT64_MAX);
	for (unsigned int i = 34; i <= 37; i++) {
		snprintf(name, sizeof(name), "4.%u", i);
		assert_int_equal(num(name), i);
	}
	assert_true(dbl("4.38.1.1") == 1.5);
	assert_false(has("4.38.2"));
	assert_string_equal(str("5.1.1"), "mlx4_0");
	assert_int_equal(num("5.1.2"), 2);
	assert_int_equal(num("5.1.3"), 2000);
	assert_string_equal(str("5.1[1].1"), "ocrdma1");
	assert_int_equal(num("5.1[1].3"), UINT32_MAX);
	assert_int_equal(num("5.2.2"), UINT32_MAX);
	assert_int_equal(num("5.2.3"), 7);
	assert_false(has("5.2[1]"));
	assert_int_equal(num("6.1.1"), 8);
	assert_int_equal(num("6.1.2"), 16);
	assert_int_equal(num("6.1.3"), 1459200);
	assert_int_equal(num("6.1.4"), 314773504);
	assert_int_equal(num("6.1.5"), 192);
	assert_int_equal(num("6.1.6"), 353);
	assert_int_equal(num("6.1[1].1"), 259);
	assert_int_equal(num("6.1[1].2"), 3);
	assert_int_equal(num("6.1[1].6"), 4);
	assert_false(has("6.1[2]"));
	assert_true(dbl("6.2.2.3") == 0.07);
	assert_int_equal(num("6.2.2.4"), 8);
	/* One for each size, in the order of the directory. */
	for (unsigned int i = 0; i < 3; i++) {
		char size[8], field[32];

		snprintf(field, sizeof(field), "7[%u].3", i);
		snprintf(size, sizeof(size), "%s", str(field));
		snprintf(field, sizeof(field), "7[%u].1", i);
		if (strcmp(size, "2MB") == 0) {
			assert_int_equal(num(field), 2097152);
			field[5] = '2';
			assert_true(num(field) == UINT64_MAX);
			field[5] = '4';
			assert_int_equal(num(field), 3);
		} else if (strcmp(size, "1GB") == 0) {
			assert_false(has(field));
			field[5] = '2';
			assert_int_equal(num(field), 1073741824);
		} else {
			assert_string_equal(size, "64KB");
			assert_false(has(field));
		}
	}
	assert_false(has("7[3]"));
	for (unsigned int i = 1; i <= 6; i++) {
		snprintf(name, sizeof(name), "8.%u", i);
		assert_int_equal(num(name), i);
	}
}

static void test_stats_v2_bare(void **state)
{
	(void)state;
	/* No controllers at all: what is left are the messages that are always there. */
	make(V2 "cgroup.procs", "");
	make(V2 "memory.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=5\n");
	make(V2 "io.pressure", ""); /* psi=0 */
	stats("/k/id");
	assert_true(has("1") && has("2") && has("4") && has("5") && has("6"));
	assert_int_equal(metrics.len, 10);
	assert_int_equal(cgroup_stats("/k/gone", &type_url, buf, sizeof(buf)), -ENOENT);
	/* Files that make no sense. */
	make(V2 "pids.current", "");
	make(V2 "pids.max", "-1\n");
	make(V2 "cpu.stat", "usage_usec\n\n user_usec 5\nsystem_usec x\n=\nnr_bursts 1");
	make(V2 "io.stat", "\n:\n: :\nx rbytes\n8:0 =1 rbytes= rios=z wios=2\n");
	make(V2 "rdma.max", "=\n a=b\nx hca_handle\n");
	make(V2 "cpu.pressure", "some\n\nfull avg10=. avg60=1. avg300=.5 total=a\n");
	stats("/k/id");
	assert_int_equal(num("2.8"), 1);
	assert_false(has("2.1"));
	assert_true(dbl("2.7.2[1].2") == 1.0 || dbl("2.7.2.2") == 1.0);
}

static const char *const v1_memory =
	"cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault pgmajfault "
	"inactive_anon active_anon inactive_file active_file unevictable hierarchical_memory_limit "
	"hierarchical_memsw_limit total_cache total_rss total_rss_huge total_mapped_file "
	"total_dirty total_writeback total_pgpgin total_pgpgout total_pgfault total_pgmajfault "
	"total_inactive_anon total_active_anon total_inactive_file total_active_file "
	"total_unevictable";

static void test_stats_v1(void **state)
{
	static const char *const entries[] = {"memory", "memory.memsw", "memory.kmem",
					      "memory.kmem.tcp"};
	static const char *const kinds[] = {"limit_in_bytes", "usage_in_bytes",
					    "max_usage_in_bytes", "failcnt"};
	const char *all = "pids,memory,cpu,cpuacct,blkio,hugetlb,rdma/n/id";
	char name[128], content[32];

	(void)state;
	make("sys/kernel/mm/hugepages/hugepages-2048kB/x", "");
	make(V1("hugetlb") "hugetlb.2MB.usage_in_bytes", "1\n");
	make(V1("hugetlb") "hugetlb.2MB.max_usage_in_bytes", "2\n");
	make(V1("hugetlb") "hugetlb.2MB.failcnt", "3\n");
	make(V1("pids") "pids.current", "9\n");
	make(V1("pids") "pids.max", "max\n");
	make(V1("cpuacct") "cpuacct.usage", "123456789\n");
	make(V1("cpuacct") "cpuacct.stat", "user 100\nsystem 250\n");
	make(V1("cpuacct") "cpuacct.usage_percpu", "5 0 300 \n");
	make(V1("cpu") "cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\nnr_bursts 4\n");
	make(V1("memory") "memory.stat", numbered(v1_memory, 101));
	make(V1("memory") "memory.oom_control", "oom_kill_disable 1\nunder_oom 1\noom_kill 3\n");
	for (unsigned int i = 0; i < 4; i++) {
		for (unsigned int k = 0; k < 4; k++) {
			snprintf(name, sizeof(name), V1("memory") "%s.%s", entries[i], kinds[k]);
			snprintf(content, sizeof(content), "%u\n", 10 * i + k + 1);
			make(name, content);
		}
	}
	make(V1("blkio") "blkio.throttle.io_service_bytes",
	     "8:0 Read 10\n8:0 Write 20\n259:3 Total 30\nTotal 60\n");
	make(V1("blkio") "blkio.throttle.io_serviced", "Total 0\n");
	make(V1("rdma") "rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n");
	make("proc/partitions", "major minor  #blocks  name\n\n   8        0  488386584 sda\n"
				" 259        3    1048576 nvme0n1p3\n");
	stats(all);
	assert_true(view_is(type_url, "io.containerd.cgroups.v1.Metrics"));
	assert_int_equal(num("1.1"), 1);
	assert_int_equal(num("1.2"), 2);
	assert_int_equal(num("1.3"), 3);
	assert_string_equal(str("1.4"), "2MB");
	assert_int_equal(num("2.1"), 9);
	assert_int_equal(num("2.2"), 0);
	assert_int_equal(num("3.1.1"), 123456789);
	assert_int_equal(num("3.1.2"), 2500000000);
	assert_int_equal(num("3.1.3"), 1000000000);
	assert_memory_equal(str("3.1.4"), "\x05\x00\xac\x02", 2); /* packed: 5, 0, 300 */
	assert_int_equal(num("3.1.4"), 4);
	assert_int_equal(num("3.2.1"), 1);
	assert_int_equal(num("3.2.2"), 2);
	assert_int_equal(num("3.2.3"), 3);
	for (unsigned int i = 1; i <= 32; i++) {
		snprintf(name, sizeof(name), "4.%u", i);
		assert_int_equal(num(name), 100 + i);
	}
	for (unsigned int i = 0; i < 4; i++) {
		for (unsigned int k = 0; k < 4; k++) {
			snprintf(name, sizeof(name), "4.%u.%u", 33 + i, k + 1);
			assert_int_equal(num(name), 10 * i + k + 1);
		}
	}
	assert_string_equal(str("5.1.1"), "Read");
	assert_string_equal(str("5.1.2"), "/dev/sda");
	assert_int_equal(num("5.1.3"), 8);
	assert_false(has("5.1.4"));
	assert_int_equal(num("5.1.5"), 10);
	assert_string_equal(str("5.1[2].1"), "Total");
	assert_string_equal(str("5.1[2].2"), "/dev/nvme0n1p3");
	assert_int_equal(num("5.1[2].3"), 259);
	assert_int_equal(num("5.1[2].4"), 3);
	assert_int_equal(num("5.1[2].5"), 30);
	assert_false(has("5.1[3]"));
	assert_false(has("5.2"));
	assert_string_equal(str("6.1.1"), "mlx4_0");
	assert_false(has("6.2"));
	assert_int_equal(num("9.1"), 1);
	assert_int_equal(num("9.2"), 1);
	assert_int_equal(num("9.3"), 3);

	/* With CFQ's files there, and filled, they win. */
	make(V1("blkio") "blkio.io_serviced_recursive", "8:0 Async 4\n");
	make(V1("blkio") "blkio.time_recursive", "8:0 44\n9:9 45\n");
	make(V1("blkio") "blkio.sectors_recursive", "8:0 55\n");
	stats(all);
	assert_false(has("5.1"));
	assert_string_equal(str("5.2.1"), "Async");
	assert_int_equal(num("5.2.5"), 4);
	assert_string_equal(str("5.7.1"), "");
	assert_int_equal(num("5.7.5"), 44);
	assert_string_equal(str("5.7[1].2"), "");
	assert_int_equal(num("5.8.5"), 55);
	/* There, but empty. */
	make(V1("blkio") "blkio.io_serviced_recursive", "Total 0\n");
	unmake(V1("blkio") "blkio.time_recursive");
	make(V1("blkio") "blkio.sectors_recursive", "");
	stats(all);
	assert_int_equal(num("5.1.5"), 10);

	/* kmem is gone from Linux 6.x; without the files the entry is empty, not absent. */
	unmake(V1("memory") "memory.kmem.usage_in_bytes");
	unmake(V1("memory") "memory.kmem.limit_in_bytes");
	unmake(V1("memory") "memory.kmem.max_usage_in_bytes");
	unmake(V1("memory") "memory.kmem.failcnt");
	for (unsigned int k = 0; k < 4; k++) {
		snprintf(name, sizeof(name), V1("memory") "memory.kmem.tcp.%s", kinds[k]);
		unmake(name);
	}
	stats(all);
	assert_int_equal(num("4.33.2"), 2);
	assert_true(has("4.35") && has("4.36"));
	assert_int_equal(num("4.35") + num("4.36"), 0);

	/* Controllers that are not there: no message, but for cpu. */
	stats("pids/n/id");
	assert_true(has("2") && has("3.1") && has("3.2"));
	assert_false(has("1") || has("4") || has("5") || has("6") || has("9"));
	assert_int_equal(cgroup_stats("pids/n/gone", &type_url, buf, sizeof(buf)), -ENOENT);
}

/* ---- out of memory ---- */

/* That the kernel wakes poll(2) for it, and what a cgroup that has gone says: test/shim/guest.bats. */
static void test_oom_v2(void **state)
{
	struct oom oom = {.fd = -1};

	(void)state;
	make(V2 "cgroup.events", "populated 1\nfrozen 0\n");
	assert_int_equal(cgroup_oom_arm("/k/id", &oom), -ENOENT);
	assert_int_equal(oom.fd, -1);
	assert_false(cgroup_oom_check("/k/id", &oom));
	make(V2 "memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\n");
	assert_int_equal(cgroup_oom_arm("/k/id", &oom), 0);
	assert_true(oom.fd >= 0);
	assert_int_equal(oom.ready, POLLPRI); /* readable it is always */
	assert_int_equal(oom.kills, 2);
	assert_false(cgroup_oom_check("/k/id", &oom));

	make(V2 "memory.events", "low 0\nhigh 0\nmax 19\noom 4\noom_kill 2\n");
	assert_false(cgroup_oom_check("/k/id", &oom)); /* a limit reached, nobody killed */
	make(V2 "memory.events", "low 0\nhigh 0\nmax 19\noom 4\noom_kill 5\n");
	assert_true(cgroup_oom_check("/k/id", &oom));
	assert_false(cgroup_oom_check("/k/id", &oom));
	assert_true(oom.fd >= 0);
	cgroup_oom_close(&oom);
	assert_int_equal(oom.fd, -1);
}

/* ---- the host's own ---- */

static char real[64], real_dir[128];

static int setup_real(void **state)
{
	(void)state;
	snprintf(real, sizeof(real), "memory/nstest-%d", (int)getpid());
	snprintf(real_dir, sizeof(real_dir), "/sys/fs/cgroup/%s", real);
	cgroup_prefix = "";
	return 0;
}

static int teardown_real(void **state)
{
	char path[200];

	(void)state;
	snprintf(path, sizeof(path), "%s/sub", real_dir);
	rmdir(path);
	rmdir(real_dir);
	return 0;
}

static void need_v1(void)
{
	char path[200];

	if (geteuid() != 0 || access("/sys/fs/cgroup/memory/memory.oom_control", F_OK) < 0 ||
	    mkdir(real_dir, 0755) < 0) {
		print_message("no v1 memory controller to play with\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/sub", real_dir);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void write_real(const char *file, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", real_dir, file);
	assert_int_equal(file_write(path, view_of(text), 0), 0);
}

/* A child in the cgroup of that file that touches so many MiB, as soon as it is there. Then it waits. */
static pid_t child(const char *file, size_t mib)
{
	char text[16];
	int go[2], done[2];
	pid_t pid;

	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(done), 0);
	pid = fork();
	if (pid == 0) {
		char *at, c;

		if (read(go[0], &c, 1) != 1)
			_exit(1);
		at = mmap(NULL, (mib + 1) << 20, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t i = 0; i < mib << 20; i += 4096)
			at[i] = 1;
		if (write(done[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	snprintf(text, sizeof(text), "%d", (int)pid);
	write_real(file, text);
	assert_int_equal(write(go[1], "x", 1), 1);
	close(go[0]);
	close(go[1]);
	close(done[1]);
	assert_true(read(done[0], text, 1) >= 0); /* done, or killed over it */
	close(done[0]);
	return pid;
}

static void test_real_v1(void **state)
{
	struct text line = TEXT(line_buf);
	struct view rest, entry;
	pid_t a, b;
	bool found = false;

	(void)state;
	need_v1();
	a = child("cgroup.procs", 2);
	b = child("sub/cgroup.procs", 1);
	assert_int_equal(cgroup_find(a, &line), 0);
	for (rest = view_of(line_buf); rest.len > 0;) {
		entry = view_cut(&rest, '\t');
		found |= view_is(entry, real);
	}
	assert_true(found);
	assert_int_equal(pids(real), 0);
	assert_int_equal(pid_count, 2);
	assert_int_equal(pid_sum, a + b);
	/* The kernel gathers its counts now and then. */
	await_that((stats(real), num("4.33.2") >= 3 << 20 && num("4.2") >= 2 << 20 &&
					 num("4.19") >= 3 << 20 && num("4.9") > 0));
	assert_true(num("4.33.3") >= num("4.33.2"));
	assert_true(has("9"));
	kill(a, SIGKILL);
	kill(b, SIGKILL);
	waitpid(a, NULL, 0);
	waitpid(b, NULL, 0);
}

static void test_real_oom_v1(void **state)
{
	struct oom oom = {.fd = -1};
	struct pollfd poller;
	char path[200];
	int status;
	pid_t pid;

	(void)state;
	need_v1();
	write_real("memory.limit_in_bytes", "4M");
	assert_int_equal(cgroup_oom_arm(real, &oom), 0);
	poller = (struct pollfd){oom.fd, POLLIN, 0};
	assert_int_equal(poll(&poller, 1, 0), 0);
	assert_false(cgroup_oom_check(real, &oom));
	pid = child("cgroup.procs", 32);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	/* The exit is known, and the kill with it. */
	assert_int_equal(poll(&poller, 1, 0), 1);
	assert_true(cgroup_oom_check(real, &oom));
	assert_false(cgroup_oom_check(real, &oom));
	await_that((stats(real), num("9.3") >= 1));
	/* The end of the cgroup looks like one more. */
	snprintf(path, sizeof(path), "%s/sub", real_dir);
	rmdir(path);
	assert_int_equal(rmdir(real_dir), 0);
	assert_int_equal(poll(&poller, 1, (int)guard_ms()), 1);
	assert_false(cgroup_oom_check(real, &oom));
	assert_int_equal(oom.fd, -1);
	assert_int_equal(cgroup_oom_arm(real, &oom), -ENOENT);
	assert_int_equal(cgroup_oom_arm("pids/x", &oom), -ENOENT);
	assert_int_equal(oom.fd, -1);
}

#define MADE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define REAL(test) cmocka_unit_test_setup_teardown(test, setup_real, teardown_real)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MADE(test_find_v1),     MADE(test_find_v2),  MADE(test_enable),
		MADE(test_pids),        MADE(test_stats_v2), MADE(test_stats_v2_bare),
		MADE(test_stats_v1),    MADE(test_oom_v2),   REAL(test_real_v1),
		REAL(test_real_oom_v1),
	};

	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
