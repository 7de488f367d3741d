/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.h - waiting: the poll set, the clock, the signals.
 */
#ifndef LOOP_H
#define LOOP_H

#include "util.h"

/* What an fd in the poll set belongs to: a kind, and the slot in that kind's table. Never a
 * pointer, so it cannot dangle. */
enum ref_kind {
	REF_LISTEN,  /* the listening socket */
	REF_CONN,    /* a client's connection */
	REF_PUBLISH, /* our connection to containerd's event service */
	REF_PUMP,    /* one of a process' streams */
	REF_LOGGER,  /* the ready pipe of a logging binary */
	REF_OOM,     /* a container's OOM notification */
	REF_BUNDLE,  /* a directory beside our bundle has gone, or the bundle itself */
};

struct ref {
	uint8_t kind;
	uint8_t part; /* which fd of the slot, where it has several */
	uint16_t slot;
	short got; /* poll(2)'s revents */
};

extern uint64_t now; /* clock_ms() as of this turn of the loop */

/* Signals that arrived since they were last looked at; whoever looks sets them back to false. */
extern volatile bool loop_child;     /* SIGCHLD */
extern volatile bool loop_terminate; /* SIGTERM or SIGINT */
extern volatile bool loop_report;    /* SIGUSR1: somebody wants to know how things are */

/* Blocks all signals the loop handles, everywhere but inside loop_wait(), and installs handlers. */
void loop_init(void);

/* The poll set is made anew each turn out of the state of those who want something: nothing is
 * registered, so nothing can be left registered. */
void loop_want(int fd, short events, enum ref_kind kind, unsigned int slot, unsigned int part);
/* Ends the next wait at `at_ms` (on the clock of `now`) at the latest. */
void loop_timer(uint64_t at_ms);
/* Waits for an fd, a timer, or a signal - for ever, if no timer is set. Empties the poll set. True
 * once when nothing has come for a while and no timer is set: the time to give memory back. */
bool loop_wait(void);
/* Hands out what became ready in that wait. */
bool loop_next(struct ref *ref);

#endif
