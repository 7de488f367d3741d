// SPDX-License-Identifier: Apache-2.0
/*
 * ttrpc.c - frames, connection buffers, request and response envelopes, both directions.
 *
 * A frame is a header of ten bytes (length, stream, type, flags) and a protobuf message. An idle
 * connection owns no memory but its slot: bytes are received into one page shared by all, whole
 * frames are handed out as views into it, and only the half frame at its end, if there is one, is
 * carried over into pages of the connection's own. Replies are built in another shared page and
 * written at once; what the peer does not take waits in pages of the connection's own, and as long
 * as something waits, no further request is read from that peer.
 *
 * Nothing here sleeps, and nothing here is freed while it may be in use: a broken connection is
 * marked dead and closed by the sweep at the end of the turn.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pb_encode.h>

#include "ttrpc.h"
#include "ttrpc.pb.h"

#define ACCEPT_PAUSE_MS 1000
/* Pages for what piles up. A peer that does not read this much will not read it any more. */
#define BACKLOG_MAX (64U << 20)

/* What conn_receive() got, on which connection, and how far conn_frame() has come in it. */
static struct view got;
static const struct conn *got_on;

static uint32_t be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static void put_be32(char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (char)(v >> (24 - 8 * i));
}

/* ---- backlogs ---- */

static void backlog_free(struct backlog *b)
{
	pages_put(b->at, b->cap);
	*b = (struct backlog){0};
}

/* Makes room for `cap` bytes in all. */
static bool backlog_grow(struct backlog *b, size_t cap)
{
	char *at;

	if (cap <= b->cap)
		return true;
	cap = (cap + PAGE - 1) / PAGE * PAGE;
	at = cap <= BACKLOG_MAX ? pages_get(cap) : NULL;
	if (!at)
		return false;
	if (b->len > 0)
		memcpy(at, b->at, b->len);
	pages_put(b->at, b->cap);
	b->at = at;
	b->cap = (uint32_t)cap;
	return true;
}

static bool backlog_add(struct backlog *b, struct view v)
{
	if (b->len + v.len > b->cap && !backlog_grow(b, 2 * ((size_t)b->len + v.len)))
		return false;
	memcpy(b->at + b->len, v.at, v.len);
	b->len += (uint32_t)v.len;
	return true;
}

/* ---- one connection ---- */

void conn_open(struct conn *c, int fd)
{
	*c = (struct conn){.fd = fd, .gen = (uint16_t)(c->gen + 1)};
}

void conn_close(struct conn *c)
{
	fd_close(&c->fd);
	backlog_free(&c->rx);
	backlog_free(&c->tx);
	c->dead = false;
}

void conn_want(struct conn *c, enum ref_kind kind, unsigned int slot)
{
	loop_want(c->fd, c->tx.len > 0 ? POLLOUT : POLLIN, kind, slot, 0);
}

void conn_receive(struct conn *c)
{
	struct backlog *rx = &c->rx;
	char *to = rx->at ? rx->at + rx->len : scratch.in;
	size_t room = rx->at ? rx->cap - rx->len : PAGE;
	ssize_t n;

	got_on = NULL;
	do
		n = recv(c->fd, to, room, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		c->dead |= n == 0 || (errno != EAGAIN && errno != ENOMEM && errno != ENOBUFS);
		return;
	}
	if (rx->at) {
		rx->len += (uint32_t)n;
		got = (struct view){rx->at, rx->len};
	} else {
		got = (struct view){scratch.in, (size_t)n};
	}
	got_on = c;
}

static void fail(struct conn *c, uint32_t stream, enum code code, struct view message)
{
	Response response = {.has_status = true, .status = {(int32_t)code, message}};

	conn_send(c, stream, FRAME_RESPONSE, &Response_msg, &response);
}

/* What is left of `got` is the beginning of a frame: it stays with the connection until the rest
 * has come. */
static void carry_over(struct conn *c)
{
	struct backlog *rx = &c->rx;
	size_t need = PAGE;

	if (got.len == 0) {
		backlog_free(rx);
		return;
	}
	if (got.len >= FRAME_HEADER)
		need = FRAME_HEADER + be32(got.at);
	if (rx->at) {
		memmove(rx->at, got.at, got.len);
		rx->len = (uint32_t)got.len;
	}
	if (!backlog_grow(rx, need)) {
		log_line(LOG_WARN, "out of memory for a frame of %zu bytes", need);
		c->dead = true;
	} else if (rx->len == 0) {
		memcpy(rx->at, got.at, got.len);
		rx->len = (uint32_t)got.len;
	}
}

bool conn_frame(struct conn *c, struct frame *f)
{
	if (got_on != c)
		return false;
	while (!c->dead) {
		uint32_t len;

		if (c->skip > 0) {
			size_t n = got.len < c->skip ? got.len : c->skip;

			got = (struct view){got.at + n, got.len - n};
			c->skip -= (uint32_t)n;
		}
		if (got.len < FRAME_HEADER)
			break;
		len = be32(got.at);
		*f = (struct frame){
			be32(got.at + 4), (uint8_t)got.at[8], {got.at + FRAME_HEADER, len}};
		if (len > FRAME_DATA_MAX && c->client) {
			c->dead = true; /* an answer cannot be refused */
			got.len = 0;
			break;
		}
		if (len > FRAME_DATA_MAX) {
			char buf[96];
			struct text t = TEXT(buf);

			text_printf(&t, "message length %u exceed maximum message size of %u", len,
				    FRAME_DATA_MAX);
			fail(c, f->stream, CODE_RESOURCE_EXHAUSTED, (struct view){buf, t.len});
			got = (struct view){got.at + FRAME_HEADER, got.len - FRAME_HEADER};
			c->skip = len;
			continue;
		}
		if (got.len - FRAME_HEADER < len)
			break;
		got = (struct view){f->data.at + len, got.len - FRAME_HEADER - len};
		return true;
	}
	carry_over(c);
	got_on = NULL;
	return false;
}

/* What the peer takes now; the rest is returned. */
static struct view transmit(struct conn *c, struct view v)
{
	while (v.len > 0) {
		ssize_t n = send(c->fd, v.at, v.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->dead |= errno != EAGAIN && errno != ENOMEM && errno != ENOBUFS;
			break;
		}
		v = (struct view){v.at + n, v.len - (size_t)n};
	}
	return v;
}

void conn_flush(struct conn *c)
{
	struct view rest = transmit(c, (struct view){c->tx.at, c->tx.len});

	if (rest.len == 0) {
		backlog_free(&c->tx);
		return;
	}
	memmove(c->tx.at, rest.at, rest.len);
	c->tx.len = (uint32_t)rest.len;
}

static void transmit_or_keep(struct conn *c, struct view v)
{
	if (c->tx.len == 0)
		v = transmit(c, v);
	if (!c->dead && v.len > 0 && !backlog_add(&c->tx, v)) {
		log_line(LOG_WARN, "a client does not read its replies: closed");
		c->dead = true;
	}
}

/* Behind the room for a frame's header; false if it does not fit. */
static bool encode(char *to, size_t cap, size_t *len, const pb_msgdesc_t *desc, const void *msg)
{
	pb_ostream_t out = pb_ostream_from_buffer((pb_byte_t *)to + FRAME_HEADER,
						  cap - FRAME_HEADER);
	bool done = pb_encode(&out, desc, msg);

	*len = out.bytes_written;
	return done;
}

void conn_send(struct conn *c, uint32_t stream, enum frame_type type, const pb_msgdesc_t *desc,
	       const void *msg)
{
	char *to = scratch.out;
	size_t len = 0, cap = sizeof(scratch.out);

	if (c->dead || c->fd < 0)
		return;
	/* Nearly all fit into the page, and are not measured beforehand. */
	if (desc && !encode(to, cap, &len, desc, msg)) {
		if (!pb_get_encoded_size(&len, desc, msg))
			len = SIZE_MAX;
		cap = FRAME_HEADER + len;
		if (len > FRAME_DATA_MAX || !(to = pages_get(cap))) {
			log_line(LOG_ERROR, "a message of %zu bytes cannot be sent", len);
			c->dead = true; /* the peer would wait for ever */
			return;
		}
		c->dead = !encode(to, cap, &len, desc, msg);
	}
	put_be32(to, (uint32_t)len);
	put_be32(to + 4, stream);
	to[8] = (char)type;
	to[9] = 0;
	if (!c->dead)
		transmit_or_keep(c, (struct view){to, FRAME_HEADER + len});
	if (to != scratch.out)
		pages_put(to, cap);
}

/* ---- the server ---- */

static struct conn conns[CONN_MAX];
static unsigned int conns_end; /* slots from here on were never used, or are free again */
static int listener = -1;
static uint64_t accept_again; /* paused until then: out of descriptors */

/* The name we are found by, as long as it is still ours. */
static char listener_path[128];
static struct stat listener_stat;

void server_listen(int fd, const char *path)
{
	struct text t = TEXT(listener_path);

	listener = fd;
	text_add(&t, view_of(path));
	if (t.cut || stat(listener_path, &listener_stat) < 0)
		listener_path[0] = '\0';
}

void server_hide(void)
{
	struct stat st;

	if (listener_path[0] && stat(listener_path, &st) == 0 &&
	    st.st_ino == listener_stat.st_ino && st.st_dev == listener_stat.st_dev)
		unlink(listener_path);
	listener_path[0] = '\0';
}

void server_close(void)
{
	fd_close(&listener);
}

void server_want(void)
{
	if (accept_again > now)
		loop_timer(accept_again);
	else
		loop_want(listener, POLLIN, REF_LISTEN, 0, 0);
	for (unsigned int i = 0; i < conns_end; i++)
		conn_want(&conns[i], REF_CONN, i);
}

static struct conn *free_conn(void)
{
	for (unsigned int i = 0; i < CONN_MAX; i++) {
		if (i < conns_end && conns[i].fd >= 0)
			continue;
		if (i == conns_end)
			conns_end++;
		return &conns[i];
	}
	return NULL;
}

static bool is_one_of_us(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid() &&
	       peer.gid == getegid();
}

void server_accept(void)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			if (errno != EAGAIN) {
				log_line(LOG_WARN, "accept: %s", errno_text(errno));
				accept_again = now + ACCEPT_PAUSE_MS;
			}
			return;
		}
		c = is_one_of_us(fd) ? free_conn() : NULL;
		if (!c) {
			log_line(LOG_WARN, "a connection was refused");
			fd_close(&fd);
			continue;
		}
		conn_open(c, fd);
		if (c->gen == 0)
			c->gen = 1; /* 0 is nobody's: an origin of zeros gets no reply */
	}
}

void server_receive(unsigned int slot, short events)
{
	struct conn *c = &conns[slot];

	if (c->tx.len > 0)
		conn_flush(c);
	else if (events)
		conn_receive(c);
}

static bool parse(struct conn *c, unsigned int slot, const struct frame *f, struct request *rq)
{
	Request request = {0};

	if (f->stream % 2 == 0) {
		fail(c, f->stream, CODE_INVALID_ARGUMENT,
		     VIEW("StreamID must be odd for client initiated streams"));
		return false;
	}
	if (f->type == FRAME_STREAM_DATA) {
		fail(c, f->stream, CODE_INVALID_ARGUMENT, VIEW("StreamID is no longer active"));
		return false;
	}
	if (f->type != FRAME_REQUEST)
		return false;
	if (f->stream <= c->last_stream) {
		fail(c, f->stream, CODE_INVALID_ARGUMENT,
		     VIEW("StreamID cannot be re-used and must increment"));
		return false;
	}
	c->last_stream = f->stream;
	if (!msg_decode(f->data, &Request_msg, &request)) {
		fail(c, f->stream, CODE_INVALID_ARGUMENT,
		     VIEW("unmarshal request error: proto: cannot parse invalid wire-format data"));
		return false;
	}
	*rq = (struct request){{(uint16_t)slot, c->gen, f->stream},
			       request.service,
			       request.method,
			       request.payload,
			       request.timeout_nano};
	return true;
}

bool server_next(unsigned int slot, struct request *rq)
{
	struct frame f;

	while (conn_frame(&conns[slot], &f))
		if (parse(&conns[slot], slot, &f, rq))
			return true;
	return false;
}

bool server_knows(struct origin from)
{
	const struct conn *c = &conns[from.conn];

	return from.gen != 0 && c->gen == from.gen && c->fd >= 0 && !c->dead;
}

void server_reply(struct origin to, const pb_msgdesc_t *desc, const void *msg)
{
	Response response = {.payload = {desc, msg}};

	if (server_knows(to))
		conn_send(&conns[to.conn], to.stream, FRAME_RESPONSE, &Response_msg, &response);
}

void server_fail(struct origin to, enum code code, struct view message)
{
	if (server_knows(to))
		fail(&conns[to.conn], to.stream, code, message);
}

void server_sweep(void)
{
	for (unsigned int i = 0; i < conns_end; i++)
		if (conns[i].dead)
			conn_close(&conns[i]);
	while (conns_end > 0 && conns[conns_end - 1].fd < 0)
		conns_end--;
}

bool server_alone(void)
{
	return conns_end == 0;
}

unsigned int server_pending(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < conns_end; i++)
		n += conns[i].fd >= 0 && conns[i].tx.len > 0;
	return n;
}
