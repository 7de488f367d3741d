/* SPDX-License-Identifier: Apache-2.0
 *
 * fault.h - which calls of the C library can be made to fail, and with what; and the page by which
 * a test switches that on and off, and learns what has been done.
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdint.h>

/* Calls that fail without having done anything. */
#define FAULT_CALLS(X)                                       \
	X(open, EMFILE, ENFILE, ENOMEM, EINTR)               \
	X(openat, EMFILE, ENFILE, ENOMEM, EINTR)             \
	X(access, ENOMEM, EIO, EIO, ENOMEM)                  \
	X(stat, ENOMEM, EIO, EIO, ENOMEM)                    \
	X(statfs, ENOMEM, EIO, EINTR, EIO)                   \
	X(readlink, ENOMEM, EIO, EIO, ENOMEM)                \
	X(unlink, EIO, ENOMEM, EIO, ENOMEM)                  \
	X(unlinkat, EIO, ENOMEM, EIO, ENOMEM)                \
	X(mkdir, ENOSPC, EIO, ENOMEM, ENOSPC)                \
	X(rmdir, EIO, ENOMEM, EIO, ENOMEM)                   \
	X(rename, ENOSPC, EIO, ENOMEM, ENOSPC)               \
	X(chdir, EIO, ENOMEM, EIO, ENOMEM)                   \
	X(fchdir, EIO, ENOMEM, EIO, ENOMEM)                  \
	X(lseek, EIO, ENOMEM, EIO, ENOMEM)                   \
	X(ftruncate, ENOSPC, EIO, EINTR, ENOMEM)             \
	X(fchown, EIO, ENOSPC, EIO, ENOSPC)                  \
	X(mmap, ENOMEM, ENOMEM, ENOMEM, ENOMEM)              \
	X(memfd_create, EMFILE, ENFILE, ENOMEM, ENOMEM)      \
	X(pipe2, EMFILE, ENFILE, EMFILE, ENFILE)             \
	X(eventfd, EMFILE, ENFILE, ENOMEM, ENOMEM)           \
	X(inotify_init1, EMFILE, ENFILE, ENOMEM, ENOMEM)     \
	X(inotify_add_watch, ENOSPC, ENOMEM, ENOSPC, ENOMEM) \
	X(socket, EMFILE, ENFILE, ENOMEM, ENOBUFS)           \
	X(bind, ENOSPC, EIO, ENOMEM, ENOSPC)                 \
	X(connect, EAGAIN, ECONNREFUSED, ENOMEM, EINTR)      \
	X(getsockopt, ENOMEM, ENOBUFS, ENOMEM, ENOBUFS)      \
	X(accept4, EMFILE, ENFILE, ENOMEM, ECONNABORTED)     \
	X(recvmsg, EINTR, EAGAIN, ENOMEM, EMFILE)            \
	X(dup2, EMFILE, EINTR, EBUSY, EMFILE)                \
	X(dup3, EMFILE, EINTR, EBUSY, EMFILE)                \
	X(ioctl, EIO, ENOMEM, EIO, ENOMEM)                   \
	X(ppoll, EINTR, ENOMEM, EINTR, ENOMEM)               \
	X(poll, EINTR, ENOMEM, EINTR, ENOMEM)                \
	X(splice, EINTR, EAGAIN, ENOMEM, EIO)                \
	X(mount, ENOMEM, EIO, EPERM, EBUSY)                  \
	X(umount2, EBUSY, ENOMEM, EBUSY, ENOMEM)             \
	X(prlimit, EPERM, ENOMEM, EPERM, ENOMEM)             \
	X(execve, ENOMEM, EIO, EMFILE, ETXTBSY)

/* Calls that may also do half of what they are asked for: the third argument is a length. */
#define FAULT_TRANSFERS(X)                \
	X(read, EINTR, EAGAIN, EIO, 0)    \
	X(pread, EINTR, EIO, EIO, 0)      \
	X(recv, EINTR, EAGAIN, ENOMEM, 0) \
	X(write, EINTR, ENOSPC, EIO, 0)   \
	X(send, EINTR, EAGAIN, ENOBUFS, 0)

/* Those that need care of their own. */
#define FAULT_OTHERS(X)                          \
	X(vfork, EAGAIN, ENOMEM, EAGAIN, ENOMEM) \
	X(syscall, EIO, ENOMEM, EIO, ENOMEM)     \
	X(fcntl, EMFILE, ENFILE, EMFILE, ENFILE) \
	X(close, EINTR, EIO, EINTR, EIO)

#define FAULT_ALL(X) FAULT_CALLS(X) FAULT_TRANSFERS(X) FAULT_OTHERS(X)

#define FAULT_NUMBER(name, ...) FAULT_##name,
enum fault { FAULT_ALL(FAULT_NUMBER) FAULTS };
#undef FAULT_NUMBER

/* In the file that the environment variable FAULT_FILE names, mapped by both. */
struct fault_page {
	volatile uint32_t on;
	uint32_t one_in; /* so many calls fail */
	uint64_t dice;
	uint64_t only; /* a bit for each call that may; 0: all */
	uint32_t calls[64], failed[64];
};

#endif
