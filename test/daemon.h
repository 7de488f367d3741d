/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.h - a whole daemon within a test program: its loop, a containerd that takes its events, and
 * clients that ask and collect the answers. It is shared by the unit tests, where kernel, runtime and
 * processes are real (unit/daemon.h), and the fuzz targets, where none of them is (fuzz/daemon.h).
 *
 * Both define on_news(): what is made of an event.
 */
#ifndef TEST_DAEMON_H
#define TEST_DAEMON_H

#include <poll.h>

#include "wire.h"

#define main shim_main
int shim_main(int argc, char **argv);
#include "../shim.c"
#undef main

extern const char
	*cgroup_prefix; /* of cgroup.c: the host's cgroups are no concern of these tests */

static char daemon_dir[64]; /* of its sockets */

/* ---- containerd ---- */

static void on_news(const struct news *n);

enum {
	EVENTS_TAKEN,
	EVENTS_HELD, /* they are not read */
	EVENTS_DROPPED,
};

static struct peer containerd = {.fd = -1};
static int events_listener = -1;
static uint8_t events_mode;

static void containerd_turn(void)
{
	struct pollfd gone;
	size_t used = 0;
	struct frame f;

	if (events_mode == EVENTS_HELD)
		return;
	if (events_mode == EVENTS_DROPPED)
		peer_close(&containerd); /* with whatever it has not read */
	while (containerd.fd < 0) {
		int fd = accept4(events_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		peer_open(&containerd, fd);
		if (events_mode == EVENTS_DROPPED)
			peer_close(&containerd);
	}
	/* The shim has given up on this one; what is in it comes again. */
	gone = (struct pollfd){containerd.fd, POLLRDHUP, 0};
	if ((poll(&gone, 1, 0) == 1 && gone.revents) || !peer_receive(&containerd)) {
		peer_close(&containerd);
		return;
	}
	while (peer_frame(&containerd, &used, &f)) {
		struct news n = news_of(get_bytes(f.data, 3));

		on_news(&n);
		CHECK(peer_answer(&containerd, f.stream), "the shim takes no answer");
	}
}

/* ---- clients ---- */

#define CLIENTS 4
#define ASKS_MAX 4096

/* The raw one sends whatever it likes: its connection may be closed for that. */
enum { CLIENT_A, CLIENT_B, CLIENT_RAW, CLIENT_JUDGE };

static struct client {
	struct peer peer;
	bool reads;
} clients[CLIENTS] = {{.peer.fd = -1}, {.peer.fd = -1}, {.peer.fd = -1}, {.peer.fd = -1}};
static unsigned int clients_gone; /* connections that were closed by their clients */

static struct ask {
	unsigned int client;
	uint32_t stream;
	const char *method;
	const char *id, *exec; /* whom it is about; NULL: not known, or an init */
	bool gone;             /* its connection is closed */
	bool answered;
	unsigned int code; /* 0: it was done */
	char message[512]; /* or its beginning, like the payload's, whose length is `len` */
	char payload[512];
	size_t len;
} asks[ASKS_MAX];
static unsigned int ask_count;

static void client_close(unsigned int c)
{
	clients_gone += clients[c].peer.fd >= 0;
	peer_close(&clients[c].peer);
	for (unsigned int i = 0; i < ask_count; i++)
		if (asks[i].client == c)
			asks[i].gone = true;
}

static void client_connect(unsigned int c)
{
	char path[80];

	if (clients[c].peer.fd >= 0)
		return;
	snprintf(path, sizeof(path), "%s/socket", daemon_dir);
	peer_open(&clients[c].peer, unix_connect(path, SOCK_NONBLOCK));
	clients[c].reads = true;
}

/* One more request, which is about to be sent. NULL: there is no connection. */
static struct ask *ask_new(unsigned int c, const char *method)
{
	struct ask *a = &asks[ask_count];

	client_connect(c);
	if (clients[c].peer.fd < 0)
		return NULL;
	CHECK(ask_count < ASKS_MAX, "too many requests in one test");
	*a = (struct ask){.client = c, .stream = clients[c].peer.stream += 2, .method = method};
	ask_count++;
	return a;
}

static struct ask *client_ask(unsigned int c, const char *method, struct view payload,
			      int64_t timeout_ms)
{
	static char buf[1 << 15];
	struct ask *a = ask_new(c, method);

	CHECK(payload.len < sizeof(buf) - 1024, "a request of %zu bytes", payload.len);
	if (a && !peer_send(&clients[c].peer, buf,
			    put_request_within(buf, a->stream, TASK_SERVICE, method, payload,
					       timeout_ms * 1000000)))
		client_close(c); /* it sends more than the daemon reads */
	return a;
}

static void note_reply(unsigned int c, const struct frame *f)
{
	struct reply r = reply_of(f);

	CHECK(r.type == FRAME_RESPONSE, "a frame of type %d", r.type);
	for (unsigned int i = 0; i < ask_count; i++) {
		struct ask *a = &asks[i];

		if (a->client != c || a->gone || a->stream != r.stream)
			continue;
		CHECK(!a->answered, "%s: answered twice", a->method);
		a->answered = true;
		a->code = r.code;
		get_text(a->message, sizeof(a->message), r.message);
		get_text(a->payload, sizeof(a->payload), r.payload);
		a->len = r.payload.len;
		return;
	}
	CHECK(c == CLIENT_RAW, "a reply to stream %u, where nobody has asked", r.stream);
}

static void client_turn(unsigned int c)
{
	struct client *cl = &clients[c];
	size_t used = 0;
	struct frame f;

	if (cl->peer.fd < 0 || !cl->reads)
		return;
	if (!peer_receive(&cl->peer)) {
		CHECK(c == CLIENT_RAW, "the daemon has closed a connection");
		client_close(c);
		return;
	}
	while (peer_frame(&cl->peer, &used, &f))
		note_reply(c, &f);
}

static void peers_turn(void)
{
	containerd_turn();
	for (unsigned int c = 0; c < CLIENTS; c++)
		client_turn(c);
}

/* ---- its beginning and its end ---- */

static int listen_in_dir(const char *name, char *path, size_t cap)
{
	int fd;

	snprintf(path, cap, "%s/%s", daemon_dir, name);
	fd = unix_listen(path, SOCK_NONBLOCK);
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static void daemon_open(const char *dir, const char *runtime)
{
	char path[80];

	snprintf(daemon_dir, sizeof(daemon_dir), "%s", dir);
	self.namespace = "ns";
	self.runtime = runtime;
	snprintf(self.socket_dir, sizeof(self.socket_dir), "%s", dir);
	cgroup_prefix = daemon_dir;
	ask_count = clients_gone = 0;
	loop_child = task_shutdown = task_closed = false;
	events_mode = EVENTS_TAKEN;
	events_listener = listen_in_dir("events", path, sizeof(path));
	event_init(path);
	server_listen(listen_in_dir("socket", path, sizeof(path)), path);
}

/* Nobody wants anything of it any more. */
static void daemon_abandon(void)
{
	events_mode = EVENTS_TAKEN;
	for (unsigned int c = 0; c < CLIENTS; c++)
		client_close(c);
	for (unsigned int i = 0; i < OP_MAX; i++)
		if (ops[i].step)
			op_done(&ops[i], NULL, NULL);
}

static void daemon_close(void)
{
	server_close();
	peer_close(&containerd);
	fd_close(&events_listener);
}

#endif
