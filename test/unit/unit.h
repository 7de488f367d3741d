/* SPDX-License-Identifier: Apache-2.0
 *
 * unit.h - what the unit tests share: a directory of the test's own, a clock that stands still,
 * and a client.
 */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Where time_t has been made wider than it was, the call that knows it has another name. */
#ifndef SYS_clock_gettime
#define SYS_clock_gettime SYS_clock_gettime64
#endif

/* cmocka's own gets in the way of functions of that name. */
#undef fail
#undef fail_msg
#define fail_msg(...)                      \
	do {                               \
		print_error(__VA_ARGS__);  \
		_fail(__FILE__, __LINE__); \
	} while (0)

/* What must hold, for wire.h and daemon.h, too. */
#define CHECK(condition, ...)                  \
	do {                                   \
		if (!(condition))              \
			fail_msg(__VA_ARGS__); \
	} while (0)

#include "../wire.h"
#include "shim.h"

/* ONLY='delete*' in the environment keeps to the tests of such names. */
static void __attribute__((constructor)) only_some(void)
{
	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
}

/* An emulator of another machine makes a fork of vfork(2): what the child finds out is lost. So does
 * valgrind, which has limits and descriptors of its own besides (test/memcheck). */
#define EMULATED() (getenv("EMULATOR") != NULL)
#define VALGRIND() (EMULATED() && strcmp(getenv("EMULATOR"), "valgrind") == 0)

#define assert_view(v, text) assert_view_(v, text, __FILE__, __LINE__)

static inline void assert_view_(struct view v, const char *text, const char *file, int line)
{
	if (!view_is(v, text)) {
		print_error("%s:%d: \"%.*s\" is not \"%s\"\n", file, line, VIEW_FMT(v), text);
		_fail(file, line);
	}
}

/* A copy with nothing behind it: the sanitizer sees who reads too far. */
static inline struct view exact(const void *at, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	if (len > 0)
		memcpy(copy, at, len);
	return (struct view){copy, len};
}

static inline struct view exact_of(const char *text)
{
	return exact(text, strlen(text));
}

static inline void drop(struct view v)
{
	free((char *)v.at);
}

/* ---- a directory of the test's own -------------------------------------------------------- */

static char tmp[64];

static inline int tmp_make(void **state)
{
	(void)state;
	strcpy(tmp, "/tmp/nanoshim-unit.XXXXXX");
	return mkdtemp(tmp) ? 0 : -1;
}

static inline int tmp_remove(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", tmp);
	return system(command);
}

/* The path of a name in it; good for the next seven calls. */
static inline const char *in_tmp(const char *name)
{
	static char paths[8][512];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", tmp, name);
	return path;
}

static inline void make_file(const char *name, const char *text, mode_t mode)
{
	const char *path = in_tmp(name);

	unlink(path);
	assert_int_equal(file_write(path, view_of(text), mode), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static inline const char *file_text(const char *name)
{
	static char text[1 << 16];

	if (file_read(in_tmp(name), text, sizeof(text)) < 0)
		text[0] = '\0';
	return text;
}

static inline void set_nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* What this program was given besides its standard streams is nobody's business. */
static inline void close_others(void)
{
	for (int fd = 3; fd < 256; fd++)
		close(fd);
}

/* How many descriptors this process has. */
static inline unsigned int open_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* ---- waiting for others ----------------------------------------------------------------------- */

/* Waits until it holds. Naps are counted: a clock may stand still. */
#define await_that(condition)                                          \
	do {                                                           \
		for (uint64_t naps_ = 0; !(condition); usleep(1000))   \
			if (naps_++ > guard_ms())                      \
				fail_msg("in vain: %s\n", #condition); \
	} while (0)

/* Does that process sleep? */
static inline bool is_asleep(pid_t pid)
{
	char path[64], text[512];
	const char *name_end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	name_end = file_read(path, text, sizeof(text)) > 0 ? strrchr(text, ')') : NULL;
	return name_end && strncmp(name_end, ") S", 3) == 0;
}

/* For a child that may not fail a test: waits until that process sleeps, and dies in vain. */
static inline void await_asleep(pid_t pid)
{
	alarm((unsigned int)(guard_ms() / 1000));
	while (!is_asleep(pid))
		usleep(1000);
}

/* ---- a clock of the test's own -------------------------------------------------------------- */

/* With UNIT_CLOCK defined, time as the shim sees it stands still but for advance(). */
#ifdef UNIT_CLOCK
static uint64_t test_clock_ms = 1000000;
static int64_t test_date; /* seconds since 1970, if not as it is */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (id == CLOCK_REALTIME && test_date != 0) {
		*ts = (struct timespec){.tv_sec = (time_t)test_date};
		return 0;
	}
	if (id != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, id, ts);
	ts->tv_sec = (time_t)(test_clock_ms / 1000);
	ts->tv_nsec = (long)(test_clock_ms % 1000) * 1000000;
	return 0;
}

static inline void advance(uint64_t ms)
{
	test_clock_ms += ms;
	now = clock_ms();
}
#endif

/* ---- the shim's socket, and a client: the rest of TTRPC is in wire.h ---------------------------- */

static inline void server_open(void)
{
	const char *path = in_tmp("socket");
	int fd;

	unlink(path);
	fd = unix_listen(path, SOCK_NONBLOCK);
	assert_true(fd >= 0);
	server_listen(fd, path);
}

static inline int client_open(void)
{
	int fd = unix_connect(in_tmp("socket"), SOCK_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

/* Takes one whole frame off a non-blocking socket: false if there is none. Views are good until the
 * next call. */
static inline bool get_reply(int fd, struct reply *r)
{
	static char buf[FRAME_HEADER + FRAME_DATA_MAX];
	struct view rest = {buf, FRAME_HEADER};
	ssize_t n = recv(fd, buf, FRAME_HEADER, MSG_DONTWAIT);
	struct frame f;

	if (n <= 0)
		return false;
	assert_int_equal(n, FRAME_HEADER);
	assert_true(get_be32(buf) <= FRAME_DATA_MAX);
	while (!get_frame(&rest, &f)) {
		n = recv(fd, buf + rest.len, FRAME_HEADER + get_be32(buf) - rest.len, MSG_DONTWAIT);
		assert_true(n > 0);
		rest.len += (size_t)n;
	}
	*r = reply_of(&f);
	return true;
}

#endif
