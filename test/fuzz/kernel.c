// SPDX-License-Identifier: Apache-2.0
/*
 * kernel.c - what the kernel says in its files: of a container's cgroup, in both versions, and of
 * the mounts there are; and with these the list of mounts in a Create request, which it is asked to
 * make.
 *
 * Input: which of them, then what each one says below.
 */
#include <pb_decode.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

/* ---- cgroups: whether it is version 2, /proc/PID/cgroup, mountinfo, then files of the cgroup "/c":
 * the number of the name, and the content with its length before it. What comes out must be a
 * message that can be read. ---- */

extern const char *cgroup_prefix;

static const char *const files[] = {"cgroup.procs",
				    "pids.current",
				    "pids.max",
				    "cpu.stat",
				    "cpu.pressure",
				    "memory.stat",
				    "memory.current",
				    "memory.max",
				    "memory.swap.current",
				    "memory.pressure",
				    "rdma.current",
				    "rdma.max",
				    "io.stat",
				    "io.pressure",
				    "hugetlb.2MB.current",
				    "hugetlb.2MB.events",
				    "memory.events",
				    "cgroup.events",
				    "hugetlb.2MB.usage_in_bytes",
				    "cpuacct.usage",
				    "cpuacct.stat",
				    "cpuacct.usage_percpu",
				    "memory.limit_in_bytes",
				    "memory.usage_in_bytes",
				    "memory.oom_control",
				    "blkio.io_service_bytes_recursive",
				    "blkio.throttle.io_serviced",
				    "cgroup.event_control",
				    "memory.peak",
				    "blkio.sectors_recursive",
				    "/w/sys/fs/cgroup/cgroup.controllers",
				    "/w/proc/partitions"};

static const char *const controllers[] = {"memory", "cpu",     "cpuacct", "blkio",  "pids",
					  "rdma",   "hugetlb", "devices", "freezer"};

static void make_dirs(void)
{
	static const char *const dirs[] = {"/w/proc",
					   "/w/proc/self",
					   "/w/sys",
					   "/w/sys/fs",
					   "/w/sys/fs/cgroup",
					   "/w/sys/fs/cgroup/c",
					   "/w/sys/fs/cgroup/c/sub",
					   "/w/sys/kernel",
					   "/w/sys/kernel/mm",
					   "/w/sys/kernel/mm/hugepages",
					   "/w/sys/kernel/mm/hugepages/hugepages-2048kB",
					   "/w/sys/kernel/mm/hugepages/hugepages-1048576kB"};
	char path[128];

	if (cgroup_prefix[0])
		return;
	for (size_t i = 0; i < COUNT(dirs); i++)
		world_dir(dirs[i]);
	for (size_t i = 0; i < COUNT(controllers); i++) {
		snprintf(path, sizeof(path), "/w/sys/fs/cgroup/%s", controllers[i]);
		world_dir(path);
		snprintf(path, sizeof(path), "/w/sys/fs/cgroup/%s/c", controllers[i]);
		world_dir(path);
	}
	cgroup_prefix = "/w";
}

static void make_file(bool v2, const char *name, struct view content)
{
	char path[128];
	struct view controller = view_of(name);

	controller = view_cut(&controller, '.');
	if (view_is(controller, "cgroup"))
		controller = VIEW("memory");
	if (name[0] == '/')
		snprintf(path, sizeof(path), "%s", name);
	else if (v2)
		snprintf(path, sizeof(path), "/w/sys/fs/cgroup/c/%s", name);
	else
		snprintf(path, sizeof(path), "/w/sys/fs/cgroup/%.*s/c/%s", VIEW_FMT(controller),
			 name);
	world_file(path, content.at, content.len);
}

static void each_pid(void *arg, pid_t pid)
{
	(void)arg;
	CHECK(pid > 0, "pid %d", pid);
}

static void check_stats(const char *cgroup, size_t cap)
{
	char *buf = pages_get(cap);
	struct view url = {0};
	pb_istream_t in;
	pb_wire_type_t type;
	uint32_t tag;
	bool eof = false;
	ssize_t n;

	n = cgroup_stats(cgroup, &url, buf, cap);
	CHECK(n <= (ssize_t)cap, "%zd bytes in %zu", n, cap);
	in = pb_istream_from_buffer((const pb_byte_t *)buf, n > 0 ? (size_t)n : 0);
	while (pb_decode_tag(&in, &type, &tag, &eof))
		CHECK(pb_skip_field(&in, type), "field %u is malformed", tag);
	CHECK(n <= 0 || eof, "the message is malformed");
	pages_put(buf, cap);
	cgroup_forget();
}

static void fuzz_cgroup(const char *cgroup)
{
	struct oom oom = {.fd = -1};

	cgroup_enable(cgroup);
	cgroup_pids(cgroup, each_pid, NULL);
	check_stats(cgroup, 256 << 10);
	check_stats(cgroup, 100); /* which is too little */
	if (cgroup_oom_arm(cgroup, &oom) == 0)
		cgroup_oom_check(cgroup, &oom);
	cgroup_oom_close(&oom);
}

static void fuzz_cgroups(struct view in)
{
	struct view v;
	bool v2 = take(&in) & 1;
	char buf[1024];
	struct text cgroup = TEXT(buf);

	v = take_text(&in);
	world_file("/w/proc/1/cgroup", v.at, v.len);
	v = take_text(&in);
	world_file("/w/proc/self/mountinfo", v.at, v.len);
	if (v2)
		world_file("/w/sys/fs/cgroup/cgroup.controllers", "cpu io memory", 13);
	while (in.len > 0) {
		const char *name = files[take(&in) % COUNT(files)];

		make_file(v2, name, take_text(&in));
	}
	if (cgroup_find(1, &cgroup) == 0)
		fuzz_cgroup(cgroup.at);
	fuzz_cgroup(v2 ? "/c" : "pids,memory,cpu,cpuacct,blkio,hugetlb,rdma/c");
}

/* ---- mounts: which of the kernel's calls fail, how many mounts can be undone, the exit status of
 * helpers, the encoded request, then /proc/self/mountinfo ---- */

static void fuzz_mounts(struct view in)
{
	struct view request;
	char buf[600];
	struct text why = TEXT(buf);
	int err;

	world.mounts = take(&in) | (uint32_t)take(&in) << 8;
	world.unmounts = take(&in) % 16;
	world.helper = take(&in);
	request = world_copy(take_text(&in));
	world_file("/w/mountinfo", in.at, in.len);
	world_file("/w/p/user", "", 0);
	world_file("/w/p/uid_map", "", 0);
	world_file("/w/p/gid_map", "", 0);
	err = mount_rootfs(request, "/w/a", &why);
	CHECK((err < 0) == (why.len > 0), "%d: %s", err, buf);
	CHECK(why.len < sizeof(buf) && strlen(buf) <= why.len, "a text of %zu bytes", why.len);
	mount_undo("/w/a");
	world_drop(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = {(const char *)data, size};
	bool cgroups = take(&in) & 1;

	make_dirs();
	world_begin();
	if (cgroups)
		fuzz_cgroups(in);
	else
		fuzz_mounts(in);
	world_end();
	return 0;
}
