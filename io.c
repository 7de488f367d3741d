// SPDX-License-Identifier: Apache-2.0
/*
 * io.c - the streams of a process: pipes on the container's side, FIFOs or files on the client's,
 * and pumps between them.
 *
 * A pump moves bytes inside the kernel with splice(2); the daemon never sees them. It is driven by
 * two facts: is there something to read, is there room to write. While the reader is behind, only
 * room is waited for: one stuck stream stops itself and nothing else.
 *
 * For every FIFO the pump also holds the client's end open (`keep`). A client that goes away - it
 * may be containerd itself, restarting - then neither ends the container's input nor breaks its
 * output: what is written waits in the FIFO for whoever comes next. When the container's side ends,
 * both go at once, and the client sees the end of the stream.
 *
 * A FIFO is only written to once somebody has opened it for reading. Otherwise a short-lived
 * container could finish, and its output vanish with the FIFO's last descriptor, before a slow
 * client comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim.h"

#define CHUNK 65536
#define CHUNKS_A_TURN 16 /* then others are looked after */

void io_init(struct io *io)
{
	*io = (struct io){0};
	for (int i = 0; i < STREAMS; i++) {
		io->pumps[i] = (struct pump){.from = -1, .to = -1, .keep = -1};
		io->ends[i] = -1;
	}
}

static bool named(const struct stdio *s, int stream)
{
	return s->path[stream] && s->path[stream][0];
}

int io_make(struct io *io, const struct stdio *s, struct text *why)
{
	for (int i = 0; i < STREAMS; i++) {
		struct pump *p = &io->pumps[i];
		int fds[2];

		if (!named(s, i))
			continue;
		if (pipe2(fds, O_CLOEXEC) < 0) {
			int err = errno;

			text_printf(why, "pipe2: %s", errno_text(err));
			return -err;
		}
		if (i == STREAM_IN) {
			io->ends[i] = fds[0];
			p->to = fds[1];
		} else {
			p->from = fds[0];
			io->ends[i] = fds[1];
		}
		/* Of the pipe's two descriptions only ours: the container's end keeps blocking. */
		fcntl(i == STREAM_IN ? fds[1] : fds[0], F_SETFL, O_NONBLOCK);
		if ((s->uid || s->gid) && fchown(io->ends[i], s->uid, s->gid) < 0) {
			int err = errno;

			text_printf(why, "fchown to %u:%u: %s", s->uid, s->gid, errno_text(err));
			return -err;
		}
	}
	return 0;
}

void io_started(struct io *io)
{
	for (int i = 0; i < STREAMS; i++)
		fd_close(&io->ends[i]);
}

static int stdin_failed(const struct stdio *s, struct text *why)
{
	int err = errno;

	text_printf(why, "failed to open stdin fifo %s: %s", s->path[STREAM_IN], errno_text(err));
	return -err;
}

static int open_output(struct pump *p, const char *path, struct text *why)
{
	struct stat st = {0};
	bool fifo = stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
	int err;

	/* A log that others rotate or append to; splice(2) refuses O_APPEND. */
	p->by_copy = !fifo && S_ISREG(st.st_mode);
	p->to = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | (p->by_copy ? O_APPEND : 0));
	if (p->to < 0 && errno == ENXIO && fifo)
		return -EAGAIN;
	if (p->to >= 0 && fifo)
		p->keep = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (p->to < 0 || (fifo && p->keep < 0)) {
		err = errno;
		text_printf(why,
			    "failed to start io pipe copy: unable to copy pipes: containerd-shim: opening "
			    "%s \"%s\" failed: %s",
			    fifo ? "w/o fifo" : "file", path, errno_text(err));
		return -err;
	}
	p->open = true;
	return 0;
}

int io_open(struct io *io, const struct stdio *s, struct text *why)
{
	for (int i = 0; i < STREAMS; i++) {
		struct pump *p = &io->pumps[i];
		int err;

		if (!named(s, i) || p->open || (p->from < 0 && p->to < 0))
			continue; /* nothing to do, or done, or even over already */
		if (i == STREAM_IN)
			err = access(s->path[i], R_OK | W_OK) < 0 ? stdin_failed(s, why) : 0;
		else
			err = open_output(p, s->path[i], why);
		if (err < 0)
			return err;
	}
	return 0;
}

int io_open_stdin(struct io *io, const struct stdio *s, struct text *why)
{
	struct pump *p = &io->pumps[STREAM_IN];

	if (!named(s, STREAM_IN) || p->open || p->to < 0)
		return 0;
	p->from = open(s->path[STREAM_IN], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (p->from >= 0)
		p->keep = open(s->path[STREAM_IN], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (p->keep < 0)
		return stdin_failed(s, why);
	p->open = true;
	return 0;
}

void io_want(struct io *io, unsigned int slot)
{
	for (unsigned int i = 0; i < STREAMS; i++) {
		struct pump *p = &io->pumps[i];

		if (p->open && p->blocked)
			loop_want(p->to, POLLOUT, REF_PUMP, slot, i);
		else if (p->open)
			loop_want(p->from, POLLIN, REF_PUMP, slot, i);
	}
}

static void pump_close(struct pump *p)
{
	fd_close(&p->from);
	fd_close(&p->to);
	fd_close(&p->keep);
	p->open = p->blocked = false;
}

/* One move. What splice(2) would say: bytes moved, 0 at the end, or -1 with errno. */
static ssize_t move(struct pump *p)
{
	static char page[4096];
	ssize_t n;

	if (!p->by_copy) {
		n = splice(p->from, NULL, p->to, NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n >= 0 || errno != EINVAL)
			return n;
		p->by_copy = true;
	}
	n = read(p->from, page, sizeof(page));
	if (n > 0 && write_all(p->to, (struct view){page, (size_t)n}) < 0)
		log_line(LOG_WARN, "output of a container is lost: %s", errno_text(errno));
	return n;
}

void io_pump(struct io *io, enum stream stream)
{
	struct pump *p = &io->pumps[stream];

	if (!p->open)
		return;
	for (int i = 0; i < CHUNKS_A_TURN; i++) {
		struct pollfd ends[] = {{p->from, POLLIN, 0}, {p->to, POLLOUT, 0}};
		ssize_t n = move(p);

		if (n > 0)
			continue;
		if (n < 0 && (errno == EINTR || errno == ENOMEM))
			return;
		if (n == 0 || errno != EAGAIN) {
			pump_close(p); /* the end, or nobody left to write to */
			return;
		}
		/* Nothing to read, or no room? Input that has ended does not need any room. */
		if (poll(ends, 2, 0) < 0)
			return;
		p->blocked = (ends[0].revents & POLLIN) && !(ends[1].revents & (POLLOUT | POLLERR));
		if (!(ends[0].revents & POLLIN) && (ends[0].revents & (POLLHUP | POLLERR)))
			pump_close(p);
		return;
	}
	p->blocked = false;
}

bool io_drained(const struct io *io)
{
	return !io->pumps[STREAM_OUT].open && !io->pumps[STREAM_ERR].open;
}

void io_close_stdin(struct io *io)
{
	fd_close(&io->pumps[STREAM_IN].keep);
}

void io_close(struct io *io)
{
	io_started(io);
	for (int i = 0; i < STREAMS; i++)
		pump_close(&io->pumps[i]);
}
