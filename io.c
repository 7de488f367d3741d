// SPDX-License-Identifier: Apache-2.0
/*
 * io.c - the streams of a process: pipes or a terminal on the container's side, FIFOs, files or a
 * logging binary on the client's, and pumps between them.
 *
 * A pump moves bytes inside the kernel with splice(2); the daemon never sees them. It is driven by
 * two facts: is there something to read, is there room to write. While the reader is behind, only
 * room is waited for: one stuck stream stops itself and nothing else. Where splice(2) cannot do it
 * - files that are appended to, terminals - one page shared by all pumps does.
 *
 * For every FIFO the pump also holds the client's end open (`keep`). A client that goes away - it
 * may be containerd itself, restarting - then neither ends the container's input nor breaks its
 * output: what is written waits in the FIFO for whoever comes next. When the container's side ends,
 * both go at once, and the client sees the end of the stream.
 *
 * A FIFO is only written to once somebody has opened it for reading. Otherwise a short-lived
 * container could finish, and its output vanish with the FIFO's last descriptor, before a slow
 * client comes.
 *
 * Of a terminal the shim holds both sides. With no slave open a master would report a hang-up
 * without end, although the next process may open it again; so the end of a terminal's output is
 * the exit of its process, after what was still buffered.
 *
 * A stream out of the container ends when nobody is left to write to it, and not before: to close it
 * would kill whoever writes next. What the client's end does not take is lost, and logged. Where the
 * container's end cannot be read, for whatever reason, that is tried again a moment later.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shim.h"

#define CHUNK 65536
#define CHUNKS_A_TURN 16 /* then others are looked after */
#define LOGGER_ARGS_MAX 64
#define LOGGER_TEXT_MAX 16384

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

void io_init(struct io *io)
{
	*io = (struct io){.console = -1, .slave = -1, .ready = -1, .socket = -1};
	for (int i = 0; i < STREAMS; i++) {
		io->pumps[i] = (struct pump){.from = -1, .to = -1, .keep = -1};
		io->ends[i] = -1;
	}
}

static bool named(const struct stdio *s, int stream)
{
	return s->path[stream] && s->path[stream][0];
}

/* ---- where the client's streams go ---- */

enum scheme { SCHEME_FIFO, SCHEME_FILE, SCHEME_BINARY, SCHEME_BINARY_V2, SCHEME_UNKNOWN };

/* A scheme as in a URL; a path has none. *rest is what is behind it. */
static struct view scheme_name(const char *path, const char **rest)
{
	const char *colon = strchr(path, ':');

	*rest = path;
	if (!colon || colon == path)
		return (struct view){0};
	for (const char *c = path; c < colon; c++)
		if (*c == '/')
			return (struct view){0};
	*rest = strncmp(colon, "://", 3) == 0 ? colon + 3 : colon + 1;
	return (struct view){path, (size_t)(colon - path)};
}

/* The scheme of stdout is the one of all streams: contract 6.1. */
static enum scheme scheme_of(const struct stdio *s)
{
	static const char names[][10] = {
		[SCHEME_FIFO] = "fifo",
		[SCHEME_FILE] = "file",
		[SCHEME_BINARY] = "binary",
		[SCHEME_BINARY_V2] = "binary-v2",
	};
	const char *rest;
	struct view name = scheme_name(s->path[STREAM_OUT] ? s->path[STREAM_OUT] : "", &rest);

	if (name.len == 0)
		return SCHEME_FIFO;
	for (unsigned int i = 0; i < COUNT(names); i++)
		if (view_is(name, names[i]))
			return (enum scheme)i;
	return SCHEME_UNKNOWN;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Adds a percent-encoded text decoded; in a query '+' is a blank. */
static void add_decoded(struct text *t, struct view v, bool query)
{
	for (size_t i = 0; i < v.len; i++) {
		char c = v.at[i];

		if (c == '%' && v.len - i > 2 && hex(v.at[i + 1]) >= 0 && hex(v.at[i + 2]) >= 0) {
			c = (char)(hex(v.at[i + 1]) << 4 | hex(v.at[i + 2]));
			i += 2;
		} else if (c == '+' && query) {
			c = ' ';
		}
		text_add(t, (struct view){&c, 1});
	}
}

/* The path of a file:// or binary:// URL; what stands for a host in it is passed over, as Go
 * does. */
static void url_path(const char *url, struct text *t)
{
	const char *rest;
	struct view path;

	scheme_name(url, &rest);
	path = view_of(rest);
	while (path.len > 0 && path.at[0] != '/')
		path = (struct view){path.at + 1, path.len - 1};
	add_decoded(t, view_cut(&path, '?'), false);
}

/* ---- logging binaries: contract 6.5 ---- */

static bool has_key(const char *const *argv, int n, const char *key)
{
	for (int i = 1; i < n; i += 2)
		if (strcmp(argv[i], key) == 0)
			return true;
	return false;
}

/* For each key of the query: the key, and its first value. */
static int logger_args(const char *url, const char **argv, struct text *t)
{
	struct view query = view_of(url);
	int n = 1;

	view_cut(&query, '?');
	while (query.len > 0 && n < LOGGER_ARGS_MAX - 2) {
		struct view value = view_cut(&query, '&'), key = view_cut(&value, '=');
		const char *at = t->at + t->len;

		if (key.len == 0)
			continue;
		add_decoded(t, key, true);
		text_next(t);
		if (has_key(argv, n, at))
			continue;
		argv[n++] = at;
		argv[n++] = t->at + t->len;
		add_decoded(t, value, true); /* an empty one is an argument too */
		text_next(t);
	}
	argv[n] = NULL;
	return n;
}

static int logger_start(struct io *io, const struct stdio *s, const char *id, struct text *why)
{
	const char *argv[LOGGER_ARGS_MAX], *env[3], *url = s->path[STREAM_OUT];
	struct text t = {.at = pages_get(LOGGER_TEXT_MAX), .cap = LOGGER_TEXT_MAX};
	int out[2] = {-1, -1}, err[2] = {-1, -1}, ready[2] = {-1, -1}, result = -ENOMEM;
	struct spawn spawned = {.argv = argv, .env = env, .outlives_us = true, .fd_count = 6};

	if (!t.at)
		goto end;
	argv[0] = spawned.path = t.at;
	url_path(url, &t);
	env[0] = text_next(&t);
	text_printf(&t, "CONTAINER_ID=%s", id);
	env[1] = text_next(&t);
	text_printf(&t, "CONTAINER_NAMESPACE=%s", self.namespace);
	text_next(&t);
	env[2] = NULL;
	logger_args(url, argv, &t);
	if (t.cut || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
	    pipe2(ready, O_CLOEXEC) < 0) {
		result = t.cut ? -ENAMETOOLONG : -errno;
		goto end;
	}
	spawned.fds = (const int[]){-1, -1, -1, out[0], err[0], ready[1]};
	result = spawn(&spawned);
end:
	fd_close(&out[0]);
	fd_close(&err[0]);
	fd_close(&ready[1]);
	io->ready = ready[0];
	/* Ours stay open until Delete: only then does the logger see the end. */
	io->pumps[STREAM_OUT].keep = out[1];
	io->pumps[STREAM_ERR].keep = err[1];
	if (result < 0) {
		text_printf(why, "failed to start binary process: fork/exec %s: %s",
			    t.at ? t.at : "", errno_text(-result));
	} else {
		io->logger = result;
		fcntl(io->ready, F_SETFL, O_NONBLOCK);
	}
	pages_put(t.at, t.cap);
	return result < 0 ? result : 0;
}

void io_logger(struct io *io)
{
	char byte;
	ssize_t n = read(io->ready, &byte, 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	fd_close(&io->ready);
	io->logger_failed = n <= 0 && io->logger_must_call;
}

int io_ready(const struct io *io, struct text *why)
{
	if (io->ready >= 0)
		return -EAGAIN;
	if (!io->logger_failed)
		return 0;
	text_add(why, VIEW("logging binary did not call ready (it may have crashed or exited "
			   "prematurely)"));
	return -EIO;
}

bool io_logger_ended(struct io *io, pid_t pid)
{
	if (io->logger != pid)
		return false;
	io->logger = 0;
	return true;
}

bool io_logger_stop(struct io *io, int signal)
{
	fd_close(&io->pumps[STREAM_OUT].keep);
	fd_close(&io->pumps[STREAM_ERR].keep);
	if (io->logger > 0)
		kill(io->logger, signal);
	return io->logger > 0;
}

/* ---- the container's ends ---- */

static int make_pipe(struct io *io, const struct stdio *s, int stream, struct text *why)
{
	struct pump *p = &io->pumps[stream];
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		int err = errno;

		text_printf(why, "pipe2: %s", errno_text(err));
		return -err;
	}
	io->ends[stream] = fds[stream != STREAM_IN];
	*(stream == STREAM_IN ? &p->to : &p->from) = fds[stream == STREAM_IN];
	/* Of the pipe's two descriptions only ours: the container's end keeps blocking. */
	fcntl(fds[stream == STREAM_IN], F_SETFL, O_NONBLOCK);
	if ((s->uid || s->gid) && fchown(io->ends[stream], s->uid, s->gid) < 0) {
		int err = errno;

		text_printf(why, "fchown to %u:%u: %s", s->uid, s->gid, errno_text(err));
		return -err;
	}
	return 0;
}

/* The socket by which the runtime will hand over the terminal. It lies beside the one we serve:
 * that directory is ours alone, and its name is short enough. */
static int make_console_socket(struct io *io, struct text *why)
{
	static unsigned int serial;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct text name = TEXT(address.sun_path);
	mode_t mask;
	int err = 0;

	io->socket_serial = ++serial;
	io_console_path(io, &name);
	unlink(name.at);
	mask = umask(0177);
	io->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (io->socket < 0 || bind(io->socket, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(io->socket, 1) < 0) {
		err = -errno;
		text_printf(why, "failed to create OCI runtime console socket: %s: %s", name.at,
			    errno_text(-err));
	}
	umask(mask);
	return err;
}

void io_console_path(const struct io *io, struct text *t)
{
	text_printf(t, "%s/.pty-%d-%u", self.socket_dir, (int)getpid(), io->socket_serial);
}

static void drop_console_socket(struct io *io)
{
	char buf[128];
	struct text path = TEXT(buf);

	if (io->socket < 0)
		return;
	fd_close(&io->socket);
	io_console_path(io, &path);
	unlink(path.at);
}

int io_make(struct io *io, const struct stdio *s, const char *id, struct text *why)
{
	enum scheme scheme = scheme_of(s);
	int err = 0;

	if (scheme == SCHEME_UNKNOWN) {
		const char *rest;

		text_printf(why, "unknown STDIO scheme %.*s",
			    VIEW_FMT(scheme_name(s->path[STREAM_OUT], &rest)));
		return -EINVAL;
	}
	if (scheme == SCHEME_BINARY || scheme == SCHEME_BINARY_V2) {
		io->logger_must_call = scheme == SCHEME_BINARY_V2;
		err = logger_start(io, s, id, why);
	}
	if (err == 0 && s->terminal)
		return make_console_socket(io, why);
	for (int i = 0; i < STREAMS && err == 0; i++) {
		if (io->pumps[i].keep >= 0) {
			io->ends[i] = fcntl(io->pumps[i].keep, F_DUPFD_CLOEXEC, 0);
			if (io->ends[i] < 0) {
				err = -errno;
				text_add(why, view_of(errno_text(-err)));
			}
		} else if (i == STREAM_IN ? named(s, i) && !io->logger
					  : named(s, i) || scheme == SCHEME_FILE) {
			err = make_pipe(io, s, i, why);
		}
	}
	return err;
}

void io_started(struct io *io)
{
	for (int i = 0; i < STREAMS; i++)
		fd_close(&io->ends[i]);
}

/* ---- the client's ends ---- */

static void make_parents(struct text *path)
{
	for (char *c = strchr(path->at + 1, '/'); c; c = strchr(c + 1, '/')) {
		*c = '\0';
		mkdir(path->at, 0755);
		*c = '/';
	}
}

static int open_file(struct pump *p, const char *url, struct text *why)
{
	char *buf = pages_get(PATH_SIZE);
	struct text path = {.at = buf, .cap = PATH_SIZE};
	int err = 0;

	if (!buf)
		return -ENOMEM;
	url_path(url, &path);
	make_parents(&path);
	p->to = file_open(path.at, O_WRONLY | O_NONBLOCK | O_CREAT | O_APPEND, 0644);
	if (p->to < 0) {
		err = -errno;
		text_printf(why, "open %s: %s", path.at, errno_text(-err));
	}
	p->by_copy = true;
	p->open = err == 0;
	pages_put(buf, PATH_SIZE);
	return err;
}

static int open_output(struct pump *p, const char *path, struct text *why)
{
	struct stat st = {0};
	bool fifo = stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
	int err;

	/* A log that others rotate or append to; splice(2) refuses O_APPEND. */
	p->by_copy |= !fifo && S_ISREG(st.st_mode);
	p->to = file_open(path, O_WRONLY | O_NONBLOCK | (S_ISREG(st.st_mode) ? O_APPEND : 0), 0);
	if (p->to >= 0 && fifo)
		p->keep = file_open(path, O_RDONLY | O_NONBLOCK, 0);
	if (p->to >= 0 && (!fifo || p->keep >= 0)) {
		p->open = true;
		return 0;
	}
	err = errno == ENXIO && fifo && p->to < 0 ? EAGAIN : errno;
	text_printf(why,
		    "failed to start io pipe copy: unable to copy pipes: containerd-shim: opening "
		    "%s \"%s\" "
		    "failed",
		    fifo ? "w/o fifo" : "file", path);
	if (err != EAGAIN)
		text_printf(why, ": open %s: %s", path, errno_text(err));
	return -err;
}

static int stdin_failed(const struct stdio *s, struct text *why)
{
	int err = errno;

	text_printf(why, "failed to open stdin fifo %s: %s", s->path[STREAM_IN], errno_text(err));
	return -err;
}

int io_open(struct io *io, const struct stdio *s, struct text *why)
{
	enum scheme scheme = scheme_of(s);
	int err = 0;

	for (int i = 0; i < STREAMS && err == 0; i++) {
		struct pump *p = &io->pumps[i];

		if (p->open || (p->from < 0 && p->to < 0))
			continue; /* done, or nothing to do, or even over already */
		if (i == STREAM_IN)
			err = named(s, i) && access(s->path[i], R_OK | W_OK) < 0
				      ? stdin_failed(s, why)
				      : 0;
		else if (scheme == SCHEME_FILE)
			err = open_file(p, s->path[STREAM_OUT], why);
		else if (p->keep >= 0 && scheme != SCHEME_FIFO) {
			/* A terminal with a logger: its stdout pipe is written by the pump. */
			p->to = p->keep;
			p->keep = -1;
			fcntl(p->to, F_SETFL, O_NONBLOCK);
			p->open = true;
		} else
			err = open_output(p, named(s, i) ? s->path[i] : "/dev/null", why);
	}
	return err;
}

int io_open_stdin(struct io *io, const struct stdio *s, struct text *why)
{
	struct pump *p = &io->pumps[STREAM_IN];

	if (!named(s, STREAM_IN) || p->open || p->to < 0)
		return 0;
	p->from = file_open(s->path[STREAM_IN], O_RDONLY | O_NONBLOCK, 0);
	if (p->from >= 0)
		p->keep = file_open(s->path[STREAM_IN], O_WRONLY | O_NONBLOCK, 0);
	if (p->keep < 0)
		return stdin_failed(s, why);
	p->open = true;
	return 0;
}

/* Takes the one descriptor out of the one message of the runtime. */
static int receive_fd(int from)
{
	char name[256];
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {name, sizeof(name)};
	/* No room for a second one, which alignment would make: the kernel drops what does not fit. */
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_LEN(sizeof(int))};
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(from, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (msg.msg_flags & MSG_CTRUNC) {
		fd_close(&fd);
		return -EBADMSG;
	}
	return fd;
}

int io_take_console(struct io *io, struct text *why)
{
	int from, err;

	if (io->socket < 0)
		return 0;
	from = accept4(io->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	err = from < 0 ? -errno : receive_fd(from);
	fd_close(&from);
	drop_console_socket(io);
	if (err >= 0 && !isatty(err)) {
		fd_close(&err);
		err = -ENOTTY;
	}
	if (err < 0) {
		text_printf(why, "failed to retrieve console master: %s", errno_text(-err));
		return err;
	}
	io->console = err;
	fcntl(io->console, F_SETFL, O_NONBLOCK);
	io->slave = ioctl(io->console, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	io->pumps[STREAM_OUT].from = io->pumps[STREAM_IN].to = io->console;
	io->pumps[STREAM_OUT].by_copy = true;
	return 0;
}

int io_resize(const struct io *io, uint32_t width, uint32_t height)
{
	struct winsize size = {.ws_row = (unsigned short)height, .ws_col = (unsigned short)width};

	return io->console >= 0 && ioctl(io->console, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

/* ---- pumping ---- */

void io_want(struct io *io, unsigned int slot)
{
	for (unsigned int i = 0; i < STREAMS; i++) {
		struct pump *p = &io->pumps[i];

		if (!p->open)
			continue;
		if (p->again > now >> 10)
			loop_timer((uint64_t)p->again << 10);
		else if (p->blocked || p->rest_len > 0)
			loop_want(p->to, POLLOUT, REF_PUMP, slot, i);
		else
			loop_want(p->from, POLLIN, REF_PUMP, slot, i);
	}
	loop_want(io->ready, POLLIN, REF_LOGGER, slot, 0);
}

static void pump_close(struct io *io, struct pump *p)
{
	pages_put(p->rest, PAGE);
	p->rest = NULL;
	p->rest_len = 0;
	if (p->from == io->console)
		p->from = -1;
	if (p->to == io->console)
		p->to = -1;
	fd_close(&p->from);
	fd_close(&p->to);
	fd_close(&p->keep);
	p->open = p->blocked = false;
}

/* A terminal goes as a whole: its processes are hung up. */
static void console_close(struct io *io)
{
	pump_close(io, &io->pumps[STREAM_IN]);
	pump_close(io, &io->pumps[STREAM_OUT]);
	fd_close(&io->console);
	fd_close(&io->slave);
}

static bool has_room(const struct pump *p)
{
	struct pollfd to = {p->to, POLLOUT, 0};

	return poll(&to, 1, 0) == 1;
}

/* Writes what it takes; the rest of a page waits in one of the pump's own. Only terminals take less
 * than they are given. */
static void write_page(struct pump *p, struct view v)
{
	ssize_t n = write(p->to, v.at, v.len);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		if (errno != EPIPE && !p->losing)
			log_line(LOG_WARN, "output of a container is lost: %s", errno_text(errno));
		p->losing = true;
		n = (ssize_t)v.len;
	} else if (n > 0) {
		p->losing = false;
	}
	v = (struct view){v.at + (n > 0 ? n : 0), v.len - (size_t)(n > 0 ? n : 0)};
	if (v.len > 0 && !p->rest)
		p->rest = pages_get(PAGE);
	if (v.len > 0 && p->rest)
		memmove(p->rest, v.at, v.len);
	p->rest_len = p->rest ? (uint32_t)v.len : 0;
	if (v.len == 0 && p->rest) {
		pages_put(p->rest, PAGE);
		p->rest = NULL;
	}
}

/* One move. What splice(2) would say: bytes moved, 0 at the end, or -1 with errno. */
static ssize_t move(struct pump *p)
{
	ssize_t n;

	if (!p->by_copy) {
		n = splice(p->from, NULL, p->to, NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n >= 0 || errno == EAGAIN || errno == EPIPE)
			return n;
		p->by_copy = true; /* which can tell whose fault it is */
	}
	/* A page at a time: so much a FIFO takes as a whole if it takes anything. */
	if (!has_room(p)) {
		errno = EAGAIN;
		return -1;
	}
	if (p->rest_len > 0) {
		n = p->rest_len;
		write_page(p, (struct view){p->rest, p->rest_len});
		return n;
	}
	n = read(p->from, scratch.copy, sizeof(scratch.copy));
	if (n > 0)
		write_page(p, (struct view){scratch.copy, (size_t)n});
	return n;
}

/* The stream's end, or nobody is left to write to. */
static void ended(struct io *io, struct pump *p)
{
	if (io->console >= 0)
		console_close(io);
	else
		pump_close(io, p);
}

void io_pump(struct io *io, enum stream stream)
{
	struct pump *p = &io->pumps[stream];

	if (!p->open)
		return;
	p->blocked = false;
	for (int i = 0; i < CHUNKS_A_TURN; i++) {
		struct pollfd ends[] = {{p->from, POLLIN, 0}, {p->to, POLLOUT, 0}};
		ssize_t n = move(p);

		if (n > 0)
			continue;
		if (n == 0 || errno == EPIPE) {
			ended(io, p);
			return;
		}
		if (errno != EAGAIN && errno != EINTR)
			p->again = (uint32_t)(now >> 10) + 1;
		/* Nothing to read, or no room? Input that has ended does not need any room. */
		if (poll(ends, 2, 0) < 0)
			return;
		p->blocked = ((ends[0].revents & POLLIN) || p->rest_len > 0) &&
			     !(ends[1].revents & (POLLOUT | POLLERR));
		if (!(ends[0].revents & POLLIN) && p->rest_len == 0 &&
		    ((ends[0].revents & (POLLHUP | POLLERR)) ||
		     (io->exited && p->from == io->console)))
			ended(io, p);
		return;
	}
}

void io_exited(struct io *io)
{
	io->exited = true;
	if (io->console >= 0)
		io_pump(io, STREAM_OUT);
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
	drop_console_socket(io);
	fd_close(&io->ready);
	console_close(io);
	for (int i = 0; i < STREAMS; i++)
		pump_close(io, &io->pumps[i]);
	if (io->logger > 0)
		kill(io->logger, SIGKILL);
}
