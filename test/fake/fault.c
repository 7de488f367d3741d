// SPDX-License-Identifier: Apache-2.0
/*
 * fault.c - stands between the daemon's objects and the C library (the linker's --wrap), and makes
 * calls fail by the dice of struct fault_page. Nothing fails before a test has switched it on.
 *
 * Arguments are passed on as six words, whatever they are: so does the x86-64 calling convention.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"

static const int errors[FAULTS][4] = {
#define ERRORS(name, ...) [FAULT_##name] = {__VA_ARGS__},
	FAULT_ALL(ERRORS)
#undef ERRORS
};

static struct fault_page off, *page = &off;

/* -1: it does not fail; else which of its errors it is. */
static int chosen(enum fault f)
{
	if (!page->on)
		return -1;
	page->calls[f]++;
	page->dice ^= page->dice << 13;
	page->dice ^= page->dice >> 7;
	page->dice ^= page->dice << 17;
	if ((page->dice >> 20) % page->one_in != 0 || (page->only && !(page->only >> f & 1)))
		return -1;
	page->failed[f]++;
	return (int)(page->dice >> 50) & 3;
}

static bool fails(enum fault f)
{
	int n = chosen(f);

	if (n >= 0)
		errno = errors[f][n];
	return n >= 0;
}

#define WRAP(name, ...)                                                            \
	long __real_##name(long, long, long, long, long, long);                    \
	long __wrap_##name(long a, long b, long c, long d, long e, long f);        \
	long __wrap_##name(long a, long b, long c, long d, long e, long f)         \
	{                                                                          \
		return fails(FAULT_##name) ? -1 : __real_##name(a, b, c, d, e, f); \
	}

#define WRAP_TRANSFER(name, ...)                                            \
	long __real_##name(long, long, long, long, long, long);             \
	long __wrap_##name(long a, long b, long c, long d, long e, long f); \
	long __wrap_##name(long a, long b, long c, long d, long e, long f)  \
	{                                                                   \
		int n = chosen(FAULT_##name);                               \
                                                                            \
		if (n == 3 && c > 1)                                        \
			c /= 2;                                             \
		else if (n >= 0 && n < 3)                                   \
			return errno = errors[FAULT_##name][n], -1;         \
		return __real_##name(a, b, c, d, e, f);                     \
	}

FAULT_CALLS(WRAP)
FAULT_TRANSFERS(WRAP_TRANSFER)

/* What has failed to be closed is closed. */
long __real_close(long fd);
long __wrap_close(long fd);
long __wrap_close(long fd)
{
	long result = __real_close(fd);

	return fails(FAULT_close) ? -1 : result;
}

/* Only where it makes a descriptor. */
long __real_fcntl(long fd, long command, long arg);
long __wrap_fcntl(long fd, long command, long arg);
long __wrap_fcntl(long fd, long command, long arg)
{
	return command == F_DUPFD_CLOEXEC && fails(FAULT_fcntl) ? -1
								: __real_fcntl(fd, command, arg);
}

/* Nobody looks at the result of sigaction(2) by number. */
long __real_syscall(long, long, long, long, long, long, long);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	return number != SYS_rt_sigaction && fails(FAULT_syscall)
		       ? -1
		       : __real_syscall(number, a, b, c, d, e, f);
}

/* It returns twice, from one frame: so it must be jumped to. */
bool vfork_fails(void);
bool vfork_fails(void)
{
	return fails(FAULT_vfork);
}

__asm__(".globl __wrap_vfork\n"
	".type __wrap_vfork, @function\n"
	"__wrap_vfork:\n"
	"	sub $8, %rsp\n"
	"	call vfork_fails\n"
	"	add $8, %rsp\n"
	"	test %al, %al\n"
	"	jz __real_vfork\n"
	"	mov $-1, %eax\n"
	"	ret\n");

__attribute__((constructor)) static void attach(void)
{
	const char *path = getenv("FAULT_FILE");
	long fd = path ? __real_open((long)path, O_RDWR | O_CLOEXEC, 0, 0, 0, 0) : -1;
	long at;

	if (fd < 0)
		return;
	at = __real_mmap(0, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != -1)
		page = (struct fault_page *)at;
	__real_close(fd);
}
