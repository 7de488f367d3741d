// SPDX-License-Identifier: Apache-2.0
/*
 * oldkernel.c - runs a command as Linux 4.14 would: every system call that is newer does not exist
 * (ENOSYS), for it and all it starts.
 *
 * On x86-64 new calls have only ever got higher numbers, and statx(2), of Linux 4.11, was the last
 * one then: io_pgetevents and rseq came in 4.18, everything else, from pidfd_send_signal on, later.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X32 0x40000000 /* numbers of another ABI */

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_statx, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};

	if (argc < 2) {
		fprintf(stderr, "usage: oldkernel COMMAND [ARGUMENT]...\n");
		return 2;
	}
	if (geteuid() != 0)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0) {
		perror("oldkernel: seccomp");
		return 2;
	}
	/* It must be seen to work, or what runs under it proves nothing. */
	if (syscall(SYS_close_range, ~0U, ~0U, 0) == 0 || errno != ENOSYS) {
		fprintf(stderr, "oldkernel: close_range(2) still exists\n");
		return 2;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
