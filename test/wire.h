/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.h - TTRPC and protobuf by hand, for all tests in C: what the shim's own code makes or reads is
 * not to be measured by that code, of which there are only types and constants here.
 *
 * CHECK(condition, format, ...) is defined by whoever includes this: what must hold for whatever the
 * shim sends, and what is done if it does not.
 */
#ifndef WIRE_H
#define WIRE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../ttrpc.h"

/* For how long something that must happen is waited for, at most: no measure of anything, but a guard
 * against waiting for ever. TIME_FACTOR: how many times slower it is here than on a quiet machine. */
static inline unsigned int guard_ms(void)
{
	const char *factor = getenv("TIME_FACTOR");

	return (unsigned int)(60000 * (factor && factor[0] ? strtod(factor, NULL) : 1));
}

/* ---- writing fields: each appends to a buffer that is large enough, and returns how much ---- */

static inline size_t put_varint(char *to, uint64_t v)
{
	size_t n = 0;

	do
		to[n++] = (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
	while ((v >>= 7) > 0);
	return n;
}

static inline size_t put_number(char *to, unsigned int tag, uint64_t v)
{
	size_t n = put_varint(to, tag << 3);

	return n + put_varint(to + n, v);
}

static inline size_t put_bytes(char *to, unsigned int tag, struct view v)
{
	size_t n = put_varint(to, tag << 3 | 2);

	n += put_varint(to + n, v.len);
	if (v.len > 0)
		memcpy(to + n, v.at, v.len);
	return n + v.len;
}

/* Without text there is no field. */
static inline size_t put_text(char *to, unsigned int tag, const char *text)
{
	return text ? put_bytes(to, tag, (struct view){text, strlen(text)}) : 0;
}

/* The message of that length that was written to `to` becomes a field of another one. */
static inline size_t put_inside(char *to, unsigned int tag, size_t len)
{
	char head[20];
	size_t n = put_varint(head, tag << 3 | 2);

	n += put_varint(head + n, len);
	memmove(to + n, to, len);
	memcpy(to, head, n);
	return n + len;
}

static inline size_t put_any(char *to, unsigned int tag, const char *type, struct view value)
{
	size_t n = put_text(to, 1, type);

	return put_inside(to, tag, n + put_bytes(to + n, 2, value));
}

/* ---- reading fields ---- */

struct field {
	unsigned int tag;
	uint64_t number;   /* of one that is a number */
	struct view bytes; /* of one with a length; else its `at` is NULL */
};

static inline uint64_t get_varint(struct view *rest)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t byte;

		CHECK(rest->len > 0, "a number is cut off");
		byte = (uint8_t)*rest->at;
		*rest = (struct view){rest->at + 1, rest->len - 1};
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			break;
	}
	return v;
}

/* Takes the next field off the beginning of a message; false at its end. */
static inline bool get_field(struct view *rest, struct field *f)
{
	uint64_t key;

	if (rest->len == 0)
		return false;
	key = get_varint(rest);
	*f = (struct field){.tag = (unsigned int)(key >> 3)};
	f->number = get_varint(rest);
	if ((key & 7) == 2) {
		CHECK(f->number <= rest->len, "field %u is longer than its message", f->tag);
		f->bytes = (struct view){rest->at, (size_t)f->number};
		*rest = (struct view){rest->at + f->bytes.len, rest->len - f->bytes.len};
	} else {
		CHECK((key & 7) == 0, "field %u is of type %u", f->tag, (unsigned int)(key & 7));
	}
	return true;
}

/* The first field of that tag, or `none`. */
static inline uint64_t get_number(struct view message, unsigned int tag, uint64_t none)
{
	struct field f;

	while (get_field(&message, &f))
		if (f.tag == tag && !f.bytes.at)
			return f.number;
	return none;
}

static inline struct view get_bytes(struct view message, unsigned int tag)
{
	struct field f;

	while (get_field(&message, &f))
		if (f.tag == tag && f.bytes.at)
			return f.bytes;
	return (struct view){0};
}

/* As text of its own; what does not fit is left out. */
static inline void get_text(char *to, size_t cap, struct view v)
{
	size_t len = v.len < cap ? v.len : cap - 1;

	if (len > 0)
		memcpy(to, v.at, len);
	to[len] = '\0';
}

/* ---- frames ---- */

static inline size_t put_header(char *to, uint32_t len, uint32_t stream, uint8_t type)
{
	for (int i = 0; i < 4; i++) {
		to[i] = (char)(len >> (24 - 8 * i));
		to[4 + i] = (char)(stream >> (24 - 8 * i));
	}
	to[8] = (char)type;
	to[9] = 0;
	return FRAME_HEADER;
}

static inline uint32_t get_be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* Takes a frame off the beginning of what has come; false: it has not come whole. */
static inline bool get_frame(struct view *rest, struct frame *f)
{
	size_t len;

	if (rest->len < FRAME_HEADER || rest->len - FRAME_HEADER < get_be32(rest->at))
		return false;
	len = get_be32(rest->at);
	*f = (struct frame){
		get_be32(rest->at + 4), (uint8_t)rest->at[8], {rest->at + FRAME_HEADER, len}};
	*rest = (struct view){f->data.at + len, rest->len - FRAME_HEADER - len};
	return true;
}

/* ---- requests ---- */

#define TASK_SERVICE "containerd.task.v2.Task"

/* A whole request's frame. */
static inline size_t put_request_within(char *to, uint32_t stream, const char *service,
					const char *method, struct view payload, int64_t timeout_ns)
{
	size_t n = FRAME_HEADER;

	n += put_text(to + n, 1, service);
	n += put_text(to + n, 2, method);
	n += put_bytes(to + n, 3, payload);
	if (timeout_ns != 0)
		n += put_number(to + n, 4, (uint64_t)timeout_ns);
	put_header(to, (uint32_t)(n - FRAME_HEADER), stream, FRAME_REQUEST);
	return n;
}

static inline size_t put_request(char *to, uint32_t stream, const char *service, const char *method,
				 struct view payload)
{
	return put_request_within(to, stream, service, method, payload, 0);
}

/* Whom a request is about, as in all of them but Create; an init without `exec`. */
static inline size_t put_who(char *to, const char *id, const char *exec)
{
	size_t n = put_text(to, 1, id);

	return n + put_text(to + n, 2, exec && exec[0] ? exec : NULL);
}

/* What is not NULL, or false. */
struct streams {
	bool terminal;
	const char *in, *out, *err;
};

static inline size_t put_streams(char *to, unsigned int first_tag, struct streams s)
{
	size_t n = s.terminal ? put_number(to, first_tag, 1) : 0;

	n += put_text(to + n, first_tag + 1, s.in);
	n += put_text(to + n, first_tag + 2, s.out);
	return n + put_text(to + n, first_tag + 3, s.err);
}

static inline size_t put_create(char *to, const char *id, const char *bundle, struct streams s)
{
	size_t n = put_text(to, 1, id);

	n += put_text(to + n, 2, bundle);
	return n + put_streams(to + n, 4, s);
}

/* Further fields of Create. */
static inline size_t put_mount(char *to, const char *type, const char *source, const char *option,
			       const char *another)
{
	size_t n = put_text(to, 1, type);

	n += put_text(to + n, 2, source);
	n += put_text(to + n, 4, option);
	return put_inside(to, 3, n + put_text(to + n, 4, another));
}

static inline size_t put_image(char *to, const char *image)
{
	return put_text(to, 8, image);
}

static inline size_t put_options(char *to, struct view options)
{
	return put_any(to, 10, "containerd.runc.v1.Options", options);
}

static inline size_t put_exec(char *to, const char *id, const char *exec, struct streams s,
			      const char *process)
{
	size_t n = put_who(to, id, exec);

	n += put_streams(to + n, 3, s);
	return n + put_any(to + n, 7, "types.containerd.io/opencontainers/runtime-spec/1/Process",
			   (struct view){process, strlen(process)});
}

static inline size_t put_kill(char *to, const char *id, const char *exec, unsigned int signal,
			      bool all)
{
	size_t n = put_who(to, id, exec);

	n += put_number(to + n, 3, signal);
	return n + (all ? put_number(to + n, 4, 1) : 0);
}

static inline size_t put_update(char *to, const char *id, const char *resources)
{
	size_t n = put_text(to, 1, id);

	return n + put_any(to + n, 2,
			   "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
			   (struct view){resources, strlen(resources)});
}

/* ---- replies ---- */

struct reply {
	uint32_t stream;
	uint8_t type;
	unsigned int code; /* 0: none */
	struct view message, payload;
};

static inline struct reply reply_of(const struct frame *f)
{
	struct view status = get_bytes(f->data, 1);

	return (struct reply){f->stream, f->type, (unsigned int)get_number(status, 1, 0),
			      get_bytes(status, 2), get_bytes(f->data, 2)};
}

/* ---- events ---- */

/* What containerd is told, as far as the event has that. */
struct news {
	const char *topic;    /* without "/tasks/"; its message is of the type that belongs to it */
	struct view id, exec; /* whose exit it is: of an init, `exec` is as `id` */
	uint32_t pid, status;
	int64_t exited_at; /* seconds since 1970 */
};

/* The payload of a request to Forward: an envelope in it, an Any in that, and there the message. */
static inline struct news news_of(struct view payload)
{
	static const struct {
		const char *topic, *type;
		unsigned int exec, pid, status, exited_at; /* tags; 0: it has none */
	} kinds[] = {
		{"/tasks/create", "containerd.events.TaskCreate", 0, 6, 0, 0},
		{"/tasks/start", "containerd.events.TaskStart", 0, 2, 0, 0},
		{"/tasks/oom", "containerd.events.TaskOOM", 0, 0, 0, 0},
		{"/tasks/exit", "containerd.events.TaskExit", 2, 3, 4, 5},
		{"/tasks/delete", "containerd.events.TaskDelete", 0, 2, 3, 4},
		{"/tasks/exec-added", "containerd.events.TaskExecAdded", 2, 0, 0, 0},
		{"/tasks/exec-started", "containerd.events.TaskExecStarted", 2, 3, 0, 0},
		{"/tasks/paused", "containerd.events.TaskPaused", 0, 0, 0, 0},
		{"/tasks/resumed", "containerd.events.TaskResumed", 0, 0, 0, 0},
	};
	struct view envelope = get_bytes(payload, 1), any = get_bytes(envelope, 4);
	struct view e = get_bytes(any, 2);
	char topic[64], type[64];

	get_text(topic, sizeof(topic), get_bytes(envelope, 3));
	get_text(type, sizeof(type), get_bytes(any, 1));
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (strcmp(kinds[i].topic, topic) == 0 && strcmp(kinds[i].type, type) == 0)
			return (struct news){kinds[i].topic + strlen("/tasks/"),
					     get_bytes(e, 1),
					     get_bytes(e, kinds[i].exec),
					     (uint32_t)get_number(e, kinds[i].pid, 0),
					     (uint32_t)get_number(e, kinds[i].status, 0),
					     (int64_t)get_number(get_bytes(e, kinds[i].exited_at),
								 1, 0)};
	CHECK(false, "an event %s of type %s", topic, type);
	return (struct news){.topic = "", .id = VIEW(""), .exec = VIEW("")};
}

/* ---- a peer of the shim: one end of a connection ---- */

/* The calls that the fuzz targets do not rename (test/fuzz/world.syms) and no unit test puts anything
 * before: recvfrom(2), sendto(2). */
struct peer {
	int fd;          /* -1: none */
	uint32_t stream; /* of the latest request */
	size_t len;      /* what has come, but was not taken */
	char buf[2 * (FRAME_HEADER + 65536)];
};

/* `flags` of socket(2): SOCK_NONBLOCK, or 0. -1, with errno: it could not be done. */
static inline int peer_socket(const char *path, int flags, struct sockaddr_un *name)
{
	*name = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(name->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(name->sun_path, path, strlen(path) + 1);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

static inline int unix_listen(const char *path, int flags)
{
	struct sockaddr_un name;
	int fd = peer_socket(path, flags, &name);

	if (fd >= 0 &&
	    (bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 1024) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static inline int unix_connect(const char *path, int flags)
{
	struct sockaddr_un name;
	int fd = peer_socket(path, flags, &name);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static inline void peer_open(struct peer *p, int fd)
{
	p->fd = fd;
	p->stream = UINT32_MAX;
	p->len = 0;
}

static inline void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

/* False: the shim does not take it all, or is gone. */
static inline bool peer_send(const struct peer *p, const char *at, size_t len)
{
	while (len > 0) {
		ssize_t n = sendto(p->fd, at, len, MSG_NOSIGNAL, NULL, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* An empty reply: what it asked is done. */
static inline bool peer_answer(const struct peer *p, uint32_t stream)
{
	char header[FRAME_HEADER];

	put_header(header, 0, stream, FRAME_RESPONSE);
	return peer_send(p, header, sizeof(header));
}

/* Takes what there is to read; false at the end of the stream. */
static inline bool peer_receive(struct peer *p)
{
	ssize_t n;

	CHECK(p->len < sizeof(p->buf), "a frame of %u bytes", get_be32(p->buf));
	n = recvfrom(p->fd, p->buf + p->len, sizeof(p->buf) - p->len, 0, NULL, NULL);
	if (n > 0)
		p->len += (size_t)n;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The next frame that has come whole, at *used, which is 0 at first. Borrowed until peer_receive().
 * False: there is none; the half of one is kept. */
static inline bool peer_frame(struct peer *p, size_t *used, struct frame *f)
{
	struct view rest = {p->buf + *used, p->len - *used};

	if (get_frame(&rest, f)) {
		*used = p->len - rest.len;
		return true;
	}
	memmove(p->buf, rest.at, rest.len);
	p->len = rest.len;
	*used = 0;
	return false;
}

#endif
