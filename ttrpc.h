/* SPDX-License-Identifier: Apache-2.0
 *
 * ttrpc.h - TTRPC, both directions: frames, connections, requests and replies (contract 2).
 */
#ifndef TTRPC_H
#define TTRPC_H

#include "loop.h"

#define FRAME_HEADER 10
#define FRAME_DATA_MAX (4U << 20)
#define CONN_MAX 512

enum frame_type { FRAME_REQUEST = 1, FRAME_RESPONSE = 2, FRAME_STREAM_DATA = 3 };

/* gRPC's status codes, as far as a shim speaks them. */
enum code {
	CODE_UNKNOWN = 2,
	CODE_INVALID_ARGUMENT = 3,
	CODE_DEADLINE_EXCEEDED = 4,
	CODE_NOT_FOUND = 5,
	CODE_ALREADY_EXISTS = 6,
	CODE_RESOURCE_EXHAUSTED = 8,
	CODE_FAILED_PRECONDITION = 9,
	CODE_UNIMPLEMENTED = 12,
	CODE_INTERNAL = 13,
	CODE_UNAVAILABLE = 14,
};

struct frame {
	uint32_t stream;
	uint8_t type;
	struct view data; /* borrowed until the next conn_receive() on any connection */
};

/* Bytes that must wait: half a frame that came, or replies that do not go out. Pages of its own,
 * only while there is something in it. */
struct backlog {
	char *at;
	uint32_t len, cap;
};

struct conn {
	int fd;       /* -1: none */
	uint16_t gen; /* counts the lives of this slot: a stale origin matches none */
	bool dead;    /* to be closed by the next sweep */
	bool client;  /* the requests are ours: the peer is sent no responses */
	uint32_t last_stream;
	uint32_t skip; /* bytes of an oversized frame still to be thrown away */
	struct backlog rx, tx;
};

/* ---- one connection, either side ---- */

void conn_open(struct conn *c, int fd); /* takes over a connected non-blocking socket */
void conn_close(struct conn *c);
void conn_want(struct conn *c, enum ref_kind kind, unsigned int slot);
/* Takes what is readable with one recv(2); conn_frame() then yields each whole frame of it. A
 * closed or broken connection becomes dead. */
void conn_receive(struct conn *c);
bool conn_frame(struct conn *c, struct frame *f);
/* Sends one frame holding `msg`, now or as soon as the peer reads. A NULL desc is an empty
 * frame. */
void conn_send(struct conn *c, uint32_t stream, enum frame_type type,
	       const struct pb_msgdesc_s *desc, const void *msg);
void conn_flush(struct conn *c); /* writes what had to wait, as far as the peer takes it */

/* ---- the server ---- */

/* Whom a reply goes to. If that connection is gone by then, the reply goes nowhere. */
struct origin {
	uint16_t conn, gen;
	uint32_t stream;
};

struct request {
	struct origin from;
	struct view service, method, payload; /* borrowed like frame.data */
	int64_t timeout_nano;                 /* 0: none; negative: already over */
};

/* Takes over the listening socket; `path` is its name, empty if that is not known. */
void server_listen(int fd, const char *path);
void server_hide(void);   /* removes that name: nobody new finds us */
void server_close(void);  /* stops listening */
void server_want(void);   /* puts listener and connections into the poll set */
void server_accept(void); /* everyone who waits, and has our uid and gid */
void server_receive(unsigned int slot, short events);
/* The next request that came in on that connection; malformed ones are answered here. */
bool server_next(unsigned int slot, struct request *rq);
void server_reply(struct origin to, const struct pb_msgdesc_s *desc, const void *msg);
void server_fail(struct origin to, enum code code, struct view message);
bool server_knows(struct origin from); /* is that connection still the same one? */
void server_sweep(void);               /* closes dead connections */
bool server_alone(void);               /* nobody is connected */
unsigned int server_pending(void);     /* connections with replies not yet written out */

#endif
