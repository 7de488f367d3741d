/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.h - TTRPC by hand, for the peers of the shim in a fuzzed world.
 */
#ifndef FUZZ_WIRE_H
#define FUZZ_WIRE_H

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../wire.h"
#include "world.h"

static inline uint32_t get_be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* A whole request's frame. */
static inline size_t put_request(char *to, uint32_t stream, const char *method, struct view payload,
				 uint64_t timeout_ms)
{
	size_t n = FRAME_HEADER;

	n += put_bytes(to + n, 1, VIEW("containerd.task.v2.Task"));
	n += put_bytes(to + n, 2, view_of(method));
	n += put_bytes(to + n, 3, payload);
	if (timeout_ms > 0)
		n += put_number(to + n, 4, timeout_ms * 1000000);
	put_header(to, (uint32_t)(n - FRAME_HEADER), stream, FRAME_REQUEST);
	return n;
}

/* The number in field `tag` of what the shim has written; 0: it is not there. */
static inline uint64_t get_number(struct view msg, unsigned int tag)
{
	const unsigned char *at = (const unsigned char *)msg.at;
	const unsigned char *end = msg.len > 0 ? at + msg.len : at;

	while (at < end) {
		uint64_t n[2] = {0, 0};

		for (int i = 0; i < 2; i++)
			for (int shift = 0; at < end; shift += 7) {
				n[i] |= (uint64_t)(*at & 0x7f) << shift;
				if (!(*at++ & 0x80))
					break;
			}
		if ((n[0] & 7) == 2)
			at += n[1];
		else if (n[0] >> 3 == tag)
			return n[1];
	}
	return 0;
}

static inline struct view get_bytes(struct view msg, unsigned int tag)
{
	struct view value = {0};

	field_next(&msg, tag, &value);
	return value;
}

static inline int unix_listen(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 64) == 0, "listen");
	return fd;
}

static inline int unix_connect(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		fd_close(&fd);
	return fd;
}

/* ---- a peer that reads what the shim sends ---- */

struct peer {
	int fd;
	size_t len;
	char buf[2 * (FRAME_HEADER + 65536)];
};

/* The next whole frame that came. Borrowed until the next call; CHECKs its form. */
static inline bool peer_frame(struct peer *p, size_t *used, struct frame *f)
{
	struct view v = {p->buf + *used, p->len - *used};

	if (v.len < FRAME_HEADER || v.len - FRAME_HEADER < get_be32(v.at)) {
		memmove(p->buf, v.at, v.len);
		p->len = v.len;
		*used = 0;
		return false;
	}
	*f = (struct frame){
		get_be32(v.at + 4), (uint8_t)v.at[8], {v.at + FRAME_HEADER, get_be32(v.at)}};
	*used += FRAME_HEADER + f->data.len;
	return true;
}

/* Takes what there is to read; false at the end of the stream. */
static inline bool peer_receive(struct peer *p)
{
	ssize_t n = world_real_read(p->fd, p->buf + p->len, sizeof(p->buf) - p->len);

	CHECK(p->len < sizeof(p->buf), "a frame of %u bytes", get_be32(p->buf));
	if (n > 0)
		p->len += (size_t)n;
	return n != 0;
}

#endif
