// SPDX-License-Identifier: Apache-2.0
/*
 * loop.c - the poll set, the clock of this turn, the earliest deadline, the signals.
 *
 * The signal mask is open only while ppoll(2) sleeps, or for a moment if it has not for some turns;
 * so a handler can run nowhere else: it sets a flag, which is looked at in the same turn. No
 * signalfd, no self-pipe, no descriptor of its own; and with no timer set the process sleeps until
 * somebody wants it - after one short wait, at whose end it is told to give back what it does not
 * need asleep.
 */
#include <errno.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "loop.h"

#define IDLE_MS 500
#define FEW 32       /* entries of the poll set that are kept while it is given back */
#define BUSY_MAX 8   /* turns without sleep between two looks for signals */
#define SET_MAX 3072 /* what is beyond is looked at when others are gone */

uint64_t now;
volatile bool loop_child, loop_terminate, loop_report;

/* The refs are used from their end, the fds from their beginning: while there are few of them, as
 * there are in a daemon with one container, both are in the same page. */
static TABLE(set) struct {
	char shift[PAGE / 2 - SET_MAX * sizeof(struct ref) % PAGE];
	struct ref refs[SET_MAX];
	struct pollfd fds[SET_MAX];
} set;
static unsigned int wanted, ready, next;
static uint64_t deadline = UINT64_MAX;
static sigset_t mask_while_asleep;

static void on_signal(int sig)
{
	if (sig == SIGCHLD)
		loop_child = true;
	else if (sig == SIGUSR1)
		loop_report = true;
	else if (sig != SIGPIPE)
		loop_terminate = true;
}

static void idle_init(void);

void loop_init(void)
{
	static const int handled[] = {SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGPIPE};
	struct sigaction sa = {.sa_handler = on_signal};
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < COUNT(handled); i++)
		sigaddset(&block, handled[i]);
	sigprocmask(SIG_BLOCK, &block, NULL);
	/* A broken pipe shows as EPIPE; its signal stays blocked for good. */
	sigemptyset(&mask_while_asleep);
	sigaddset(&mask_while_asleep, SIGPIPE);
	for (size_t i = 0; i < COUNT(handled); i++)
		sigaction(handled[i], &sa, NULL);
	idle_init();
	now = clock_ms();
}

void loop_want(int fd, short events, enum ref_kind kind, unsigned int slot, unsigned int part)
{
	if (fd < 0 || wanted == SET_MAX)
		return;
	set.fds[wanted] = (struct pollfd){.fd = fd, .events = events};
	set.refs[SET_MAX - 1 - wanted] =
		(struct ref){.kind = (uint8_t)kind, .part = (uint8_t)part, .slot = (uint16_t)slot};
	wanted++;
}

void loop_timer(uint64_t at_ms)
{
	if (at_ms < deadline)
		deadline = at_ms;
}

/* ---- sleeping without the program ---- */

/* Nothing of the program is needed while it sleeps but the instructions that call the kernel. So
 * before the call all pages of the program's text and constants but the one they are in are
 * unmapped; they stay in the page cache, and a few soft faults bring them back. That one page is
 * made a mapping of its own: a fault maps what lies around it in the same mapping, too. */
#if defined(__x86_64__)
/* Aligned to more than its length: it does not straddle two pages. */
#define IDLE_CODE __attribute__((aligned(128), noinline, no_stack_protector))

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden"))); /* the linker's */

static struct span {
	uintptr_t at, len;
} program[8];
static unsigned int spans;

IDLE_CODE static int bare_ppoll(struct pollfd *fds, unsigned long n)
{
	register const void *mask __asm__("r10") = &mask_while_asleep;
	register long mask_size __asm__("r8") = 8;
	long result;

	for (unsigned int i = 0; i < spans; i++)
		__asm__ volatile("syscall"
				 : "=a"(result)
				 : "0"(SYS_madvise), "D"(program[i].at), "S"(program[i].len),
				   "d"(MADV_DONTNEED)
				 : "rcx", "r11", "memory");
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(SYS_ppoll), "D"(fds), "S"(n), "d"(NULL), "r"(mask), "r"(mask_size)
			 : "rcx", "r11", "memory");
	return (int)result;
}

/* The few entries that most daemons have stay on the stack, which is in use anyway; nor does anything
 * here, or in a signal's handler, need the addresses in constant tables. */
static int idle_ppoll(unsigned int n)
{
	struct pollfd fds[FEW];
	struct ref refs[FEW], *last = &set.refs[SET_MAX - n];
	bool undone, few = n <= FEW;
	int result;

	if (few) {
		memcpy(fds, set.fds, n * sizeof(fds[0]));
		memcpy(refs, last, n * sizeof(refs[0]));
		pages_forget(&set, sizeof(set));
	}
	undone = relocate_undo();
	result = bare_ppoll(few ? fds : set.fds, n);
	if (undone)
		relocate();
	if (few) {
		memcpy(set.fds, fds, n * sizeof(fds[0]));
		memcpy(last, refs, n * sizeof(refs[0]));
	}
	return result;
}

static void add_span(uintptr_t from, uintptr_t to)
{
	if (to > from && spans < COUNT(program))
		program[spans++] = (struct span){from, to - from};
}

/* The pages of the segments that are never written to, without the one we sleep in. */
static void idle_init(void)
{
	const ElfW(Phdr) *ph = (const void *)((uintptr_t)&__ehdr_start + __ehdr_start.e_phoff);
	uintptr_t page = (uintptr_t)bare_ppoll & ~(uintptr_t)(PAGE - 1),
		  base = (uintptr_t)&__ehdr_start;
	unsigned int count = __ehdr_start.e_phnum;

	/* A mapping of its own is one that differs in something: this changes nothing else. */
	if (madvise((void *)page, PAGE, MADV_DONTDUMP) < 0)
		return;
	for (unsigned int i = 0; i < count; i++) {
		uintptr_t from = (base + ph[i].p_vaddr) & ~(uintptr_t)(PAGE - 1);
		uintptr_t to = base + ph[i].p_vaddr + ph[i].p_memsz;

		if (ph[i].p_type != PT_LOAD || (ph[i].p_flags & PF_W))
			continue;
		to = (to + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
		if (page >= from && page < to) {
			add_span(from, page);
			from = page + PAGE;
		}
		add_span(from, to);
	}
}
#else
static int idle_ppoll(unsigned int n)
{
	return ppoll(set.fds, n, NULL, &mask_while_asleep);
}

static void idle_init(void)
{
}
#endif

/* Lets in what is pending, every few turns: ppoll(2) itself does so only if no descriptor is ready,
 * and a stream that never pauses would keep every exit from being seen. */
static void take_signals(void)
{
	sigset_t blocked;

	sigprocmask(SIG_SETMASK, &mask_while_asleep, &blocked);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
}

bool loop_wait(void)
{
	static bool idle;         /* nothing has come since the caller was told so */
	static unsigned int busy; /* turns in which ppoll(2) did not sleep */
	struct timespec left = {0}, *timeout = NULL;
	bool to_idle = deadline == UINT64_MAX && !idle;
	int n;

	now = clock_ms();
	if (to_idle)
		deadline = now + IDLE_MS;
	if (deadline != UINT64_MAX) {
		uint64_t ms = deadline > now ? deadline - now : 0;

		left.tv_sec = (time_t)(ms / 1000);
		left.tv_nsec = (long)(ms % 1000) * 1000000;
		timeout = &left;
	}
	n = idle && !timeout ? idle_ppoll(wanted)
			     : ppoll(set.fds, wanted, timeout, &mask_while_asleep);
	busy = n > 0 ? busy + 1 : 0;
	if (busy == BUSY_MAX) {
		take_signals();
		busy = 0;
	}
	/* On EINTR, and if the kernel is out of memory, nothing is ready. */
	ready = n > 0 ? wanted : 0;
	wanted = next = 0;
	deadline = UINT64_MAX;
	now = clock_ms();
	idle = n == 0 && (to_idle || idle);
	return idle && to_idle;
}

bool loop_next(struct ref *ref)
{
	while (next < ready) {
		unsigned int i = next++;

		if (set.fds[i].revents == 0)
			continue;
		*ref = set.refs[SET_MAX - 1 - i];
		ref->got = set.fds[i].revents;
		return true;
	}
	return false;
}
