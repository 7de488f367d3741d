// SPDX-License-Identifier: Apache-2.0
/*
 * The tests of the delete action (action.c): how long it waits for a runtime that hangs, and for a
 * rootfs that is busy. Its naps take no time here, and the first one lasts until the last moment. All
 * else about the short-lived processes is seen from outside.
 */
#define UNIT_CLOCK
#include "unit.h"

#include <sched.h>
#include <sys/mount.h>

static uint64_t begin, last_moment; /* when `delete` began; the last nap before the limit */
static void (*then)(void);          /* what happens then */
static uint64_t killed_at;          /* when somebody was killed */

int nanosleep(const struct timespec *ts, struct timespec *left)
{
	uint64_t elapsed = test_clock_ms - begin;

	(void)left;
	advance(elapsed < last_moment ? last_moment - elapsed : (uint64_t)ts->tv_nsec / 1000000);
	if (then && elapsed < last_moment)
		then();
	return 0;
}

int kill(pid_t pid, int signal)
{
	if (killed_at == 0)
		killed_at = test_clock_ms;
	return (int)syscall(SYS_kill, pid, signal);
}

static int setup(void **state)
{
	static char runtime[128];
	char options[256];
	int err = tmp_make(state);

	if (err < 0)
		return err;
	snprintf(runtime, sizeof(runtime), "%s", in_tmp("runc"));
	self.namespace = "ns";
	self.runtime = runtime;
	cmdline.id = "c";
	assert_int_equal(mkdir(in_tmp("c"), 0755), 0);
	assert_int_equal(mkdir(in_tmp("c/rootfs"), 0755), 0);
	snprintf(options, sizeof(options), "{\"root\":\"%s\"}", tmp);
	make_file("c/options.json", options, 0644);
	assert_int_equal(chdir(in_tmp("c")), 0);
	then = NULL;
	begin = test_clock_ms;
	killed_at = 0;
	return 0;
}

static int teardown(void **state)
{
	return chdir("/") < 0 ? -1 : tmp_remove(state);
}

/* What `delete` complains of. */
static const char *complaints(void)
{
	int saved[] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
	int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int err = open(in_tmp("said"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	fflush(stdout);
	fflush(stderr);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	action_delete();
	dup2(saved[0], STDOUT_FILENO);
	dup2(saved[1], STDERR_FILENO);
	close(saved[0]);
	close(saved[1]);
	close(out);
	close(err);
	return file_text("said");
}

/* A runtime that knows the container, and goes on when somebody writes to the gate. */
static void hanging_runtime(void)
{
	char script[256];

	assert_int_equal(mkdir(in_tmp("ns"), 0755), 0);
	assert_int_equal(mkdir(in_tmp("ns/c"), 0755), 0);
	assert_int_equal(mkfifo(in_tmp("gate"), 0600), 0);
	snprintf(script, sizeof(script), "#!/bin/sh\nread x <%s\n", in_tmp("gate"));
	make_file("runc", script, 0755);
}

static void let_go_on(void)
{
	int gate = open(in_tmp("gate"), O_WRONLY | O_CLOEXEC); /* as soon as it is there */
	siginfo_t info;

	assert_int_equal(write(gate, "\n", 1), 1);
	close(gate);
	assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
}

static void runtime_ends_in_time(void **state)
{
	(void)state;
	hanging_runtime();
	last_moment = 4000 - 2;
	then = let_go_on;
	assert_string_equal(complaints(), "");
	assert_int_equal(test_clock_ms - begin, last_moment);
	assert_int_equal(killed_at, 0);
}

static void runtime_hangs(void **state)
{
	const char *said;

	(void)state;
	hanging_runtime();
	last_moment = 4000 - 2;
	said = complaints();
	assert_true(strncmp(said, "failed to remove runc container: ", 33) == 0);
	assert_int_equal(killed_at - begin, 4000);
}

static int file_in_rootfs;

static void close_file(void)
{
	fd_close(&file_in_rootfs);
}

static void mount_rootfs_and_use_it(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		skip();
	assert_int_equal(mount("none", in_tmp("c/rootfs"), "tmpfs", 0, ""), 0);
	file_in_rootfs = open(in_tmp("c/rootfs/f"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(file_in_rootfs >= 0);
}

static void rootfs_is_free_in_time(void **state)
{
	(void)state;
	mount_rootfs_and_use_it();
	last_moment = 2500 - 2;
	then = close_file;
	assert_string_equal(complaints(), "");
	assert_int_equal(test_clock_ms - begin, last_moment);
	assert_int_equal(umount2(in_tmp("c/rootfs"), MNT_DETACH), -1);
}

static void rootfs_stays_busy(void **state)
{
	(void)state;
	mount_rootfs_and_use_it();
	last_moment = 2500 - 2;
	assert_string_equal(complaints(),
			    "failed to cleanup rootfs mount: device or resource busy\n");
	assert_int_equal(test_clock_ms - begin, 2500);
	close_file();
	assert_int_equal(umount2(in_tmp("c/rootfs"), MNT_DETACH), 0);
}

int main(void)
{
#define ACTION_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		ACTION_TEST(runtime_ends_in_time),
		ACTION_TEST(runtime_hangs),
		ACTION_TEST(rootfs_is_free_in_time),
		ACTION_TEST(rootfs_stays_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
