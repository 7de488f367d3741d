// SPDX-License-Identifier: Apache-2.0
/*
 * loop.c - the poll set, the clock of this turn, the earliest deadline, the signals.
 *
 * ppoll(2) opens the signal mask only while it sleeps, so a handler can run nowhere else: it sets a
 * flag, ppoll returns EINTR, and the flag is looked at in the same turn. No signalfd, no self-pipe,
 * no descriptor of its own; and with no timer set the process sleeps until somebody wants it -
 * after one short wait, at whose end it is told to give back what it does not need asleep.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "loop.h"

#define IDLE_MS 500
#define SET_MAX 4096 /* what is beyond is looked at when others are gone */

uint64_t now;
volatile bool loop_child, loop_terminate, loop_report;

/* The refs are used from their end, the fds from their beginning: while there are few of them, as
 * there are in a daemon with one container, both are in the same page. */
static _Alignas(PAGE) struct {
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

bool loop_wait(void)
{
	static bool idle; /* nothing has come since the caller was told so */
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
	n = ppoll(set.fds, wanted, timeout, &mask_while_asleep);
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
