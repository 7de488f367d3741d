/* SPDX-License-Identifier: Apache-2.0
 *
 * world.h - the kernel as the fuzz targets see it: its files lie in a directory of their own, its
 * processes are entries of a table, its clock stands still, and nothing in it sleeps.
 *
 * The shim's objects, and those of the targets, have their system calls renamed to the world_ ones
 * (world.syms). So whatever an input makes the shim do, it does it to nothing but this world; and
 * the same input does the same each time.
 */
#ifndef WORLD_H
#define WORLD_H

#include "shim.h"

/* Every target: the first byte is at data[0]; the result is always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for any input. Ends the program like a crash does. */
#define CHECK(condition, ...)                                          \
	do {                                                           \
		if (!(condition))                                      \
			world_broken(__FILE__, __LINE__, __VA_ARGS__); \
	} while (0)
_Noreturn void world_broken(const char *file, int line, const char *fmt, ...) PRINTF(3, 4);

/* ---- files ---- */

/* "/w" is the world's own directory; relative paths are those of the bundle "/w/a". Everything else
 * is refused with EACCES, but for /dev/null and the like. /proc/PID and /w/proc/PID are "/w/p", of
 * whatever process. */
void world_begin(void);  /* at the beginning of each input */
void world_end(void);    /* removes what it left, and checks that no descriptor is left open */
void world_remove(void); /* the directory itself, before the process ends */
void world_file(const char *path, const void *at, size_t len);
void world_dir(const char *path); /* one that stays from input to input, like FIFOs */
void world_fifo(const char *path);
/* For the targets, whose own calls are renamed, too: a FIFO's or a file's end, non-blocking. */
int world_real_open(const char *path, int flags);
ssize_t world_real_read(int fd, void *buf, size_t len);
ssize_t world_real_write(int fd, const void *buf, size_t len);

/* ---- processes ---- */

#define WORLD_PIDS 1024
#define WORLD_PID 1000 /* the first one's */
#define WORLD_ARGS 64

struct actor {
	pid_t pid;
	bool runs, zombie, reaped;
	int status; /* as waitpid(2) gives it */
	int fds[6]; /* what it holds open; -1: nothing */
	int argc;
	char *argv[WORLD_ARGS];
	/* Of a container's process: */
	bool is_process, is_init, is_private;
	char id[128];
};
extern struct actor world_actors[WORLD_PIDS];
extern unsigned int world_actor_count;

struct actor *world_actor(void);                   /* one more; NULL: the table is full */
void world_actor_end(struct actor *a, int status); /* it exits */
pid_t world_fork(const struct spawn *s);           /* what vfork(2) is to runtime.c */

/* ---- how it behaves ---- */

extern struct world {
	uint64_t clock_ms;
	bool time_flows;           /* with nothing ready, the clock jumps to the timer */
	bool quiet;                /* the last poll had nothing ready, and no timer */
	size_t recv_max, send_max; /* bytes at a time; 0: as they come */
	bool hung_up;              /* every stream has come to its end */
	size_t received;           /* by recv(2), in all */
	struct view input;         /* what there is to read at fd 0 */
	uint8_t helper;            /* exit status of whatever is started by vfork(2) itself */
	uint32_t mounts;           /* a bit for each call of the mount family: does it fail? */
	unsigned int unmounts;     /* so many succeed, and then there is nothing more to unmount */
	bool no_fork;
	void (*leave)(void);     /* instead of the end of the process; does not return */
	void (*meanwhile)(void); /* what others do while the daemon waits */
	bool short_lived;        /* no daemon: what it leaves open and allocated goes with it */
} world;

/* ---- inputs ---- */

/* Takes numbers and texts from the beginning of an input; at its end there are only zeros. */
static inline uint8_t take(struct view *in)
{
	uint8_t byte = in->len > 0 ? (uint8_t)in->at[0] : 0;

	if (in->len > 0)
		*in = (struct view){in->at + 1, in->len - 1};
	return byte;
}

static inline struct view take_bytes(struct view *in, size_t len)
{
	struct view v = {in->at, len < in->len ? len : in->len};

	*in = (struct view){in->at + v.len, in->len - v.len};
	return v;
}

/* A text with its length in front of it, in two bytes. */
static inline struct view take_text(struct view *in)
{
	size_t len = take(in);

	return take_bytes(in, len | (size_t)take(in) << 8);
}

/* A copy with nothing behind it: the sanitizer sees who reads too far. */
struct view world_copy(struct view v);
void world_drop(struct view v);

#endif
