// SPDX-License-Identifier: Apache-2.0
/*
 * frames.c - TTRPC frames, both ways: what clients send to the server, cut wherever it may be, and
 * what containerd answers to events.
 *
 * Input: which of them, how many bytes come and go at a time, then the bytes. Of the server the
 * oracle is a second reading of the same bytes that knows nothing of pieces: the same requests must
 * come out in the same order, and one reply to each of those that are wrong. Of the events: they
 * come in order, each until it is acknowledged.
 */
#include <poll.h>

#include "events.pb.h"
#include "ttrpc.pb.h"
#include "world.h"

#include "../wire.h"

#define INPUT_MAX 65536
#define SEEN_MAX (INPUT_MAX / FRAME_HEADER + 1)

/* ---- the server ---- */

/* What comes of a frame: a request, or a reply to something wrong. */
static struct seen {
	bool request;
	uint32_t stream;
	size_t payload;
} expected[SEEN_MAX];

static unsigned int expect(struct view in)
{
	unsigned int n = 0;
	uint32_t last = 0;

	while (in.len >= FRAME_HEADER) {
		size_t len = get_be32(in.at);
		uint32_t stream = get_be32(in.at + 4);
		uint8_t type = (uint8_t)in.at[8];
		struct view rest = {in.at + FRAME_HEADER, in.len - FRAME_HEADER}, data;
		Request rq = {0};

		data = take_bytes(&rest, len);
		if (len <= FRAME_DATA_MAX && data.len < len)
			break;
		in = rest;
		if (len > FRAME_DATA_MAX || stream % 2 == 0 || type == FRAME_STREAM_DATA ||
		    (type == FRAME_REQUEST && stream <= last)) {
			expected[n++] = (struct seen){false, stream, 0};
		} else if (type == FRAME_REQUEST) {
			last = stream;
			data = world_copy(data);
			expected[n] = (struct seen){false, stream, 0};
			if (msg_decode(data, &Request_msg, &rq))
				expected[n] = (struct seen){true, stream, rq.payload.len};
			n++;
			world_drop(data);
		}
	}
	return n;
}

/* Requests and replies are each in their order. */
static bool next_expected(unsigned int count, unsigned int *next, bool request)
{
	while (*next < count && expected[*next].request != request)
		++*next;
	return *next < count;
}

static void match(unsigned int count, unsigned int *next, const struct seen *seen)
{
	CHECK(next_expected(count, next, seen->request), "stream %u: one too many", seen->stream);
	CHECK(expected[*next].stream == seen->stream && expected[*next].payload == seen->payload,
	      "stream %u, %zu bytes instead of stream %u, %zu bytes", seen->stream, seen->payload,
	      expected[*next].stream, expected[*next].payload);
	++*next;
}

static void fuzz_server(struct view in)
{
	static struct peer peer;
	unsigned int count = expect(in), requests = 0, replies = 0;
	size_t all = in.len;
	bool moved = true;

	server_listen(unix_listen("/w/socket", SOCK_NONBLOCK), "/w/socket");
	peer_open(&peer, unix_connect("/w/socket", SOCK_NONBLOCK));
	server_accept();
	while (moved || world.received < all) {
		ssize_t n = in.len > 0 ? world_real_write(peer.fd, in.at, in.len) : 0;
		size_t used = 0;
		struct request rq;
		struct frame f;

		moved = false;
		if (n > 0)
			take_bytes(&in, (size_t)n);
		server_receive(0, POLLIN);
		while (server_next(0, &rq)) {
			match(count, &requests,
			      &(struct seen){true, rq.from.stream, rq.payload.len});
			moved = true;
		}
		server_sweep();
		CHECK(peer_receive(&peer), "the connection was closed");
		while (peer_frame(&peer, &used, &f)) {
			CHECK(f.type == FRAME_RESPONSE, "a frame of type %d", f.type);
			match(count, &replies, &(struct seen){false, f.stream, 0});
			moved = true;
		}
	}
	CHECK(!next_expected(count, &requests, true), "a request was lost");
	CHECK(!next_expected(count, &replies, false), "a reply was lost");
	peer_close(&peer);
	server_receive(0, POLLIN);
	server_sweep();
	server_close();
}

/* ---- events ---- */

static struct peer containerd = {.fd = -1};
static uint32_t asked; /* the stream of the latest event; 0: none */
static unsigned int newest;
static bool forged; /* answers that nobody in his right mind would have given */

static void take_events(int listener)
{
	size_t used = 0;
	struct frame f;

	if (containerd.fd < 0) {
		peer_open(&containerd, accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	}
	if (containerd.fd >= 0 && !peer_receive(&containerd))
		peer_close(&containerd);
	while (containerd.fd >= 0 && peer_frame(&containerd, &used, &f)) {
		unsigned int number;

		if (f.type != FRAME_REQUEST)
			continue; /* a complaint about an answer that was too long */
		number = news_of(get_bytes(f.data, 3)).pid;
		CHECK(number == newest || number == newest + 1 || (forged && number > newest),
		      "event %u after event %u", number, newest);
		newest = number;
		asked = f.stream;
	}
}

static void answer(unsigned int code)
{
	char buf[64];
	size_t n = code ? put_number(buf + FRAME_HEADER, 1, code) : 0;

	if (containerd.fd < 0 || !asked)
		return;
	n = code ? put_inside(buf + FRAME_HEADER, 1, n) : 0;
	put_header(buf, (uint32_t)n, asked, FRAME_RESPONSE);
	peer_send(&containerd, buf, FRAME_HEADER + n);
	asked = 0;
}

static void step(void)
{
	event_flush();
	event_receive(POLLIN);
	now = world.clock_ms;
}

static void fuzz_events(struct view in)
{
	int listener = unix_listen("/w/events", SOCK_NONBLOCK);
	uint32_t pushed = 0;

	event_init("unix:///w/events");
	newest = asked = 0;
	forged = false;
	while (in.len > 0) {
		TaskStart event = {VIEW("c"), pushed + 1};
		struct view raw;

		switch (take(&in) % 8) {
		case 0:
			event_push("start", "TaskStart", &TaskStart_msg, &event);
			pushed++;
			break;
		case 1:
			answer(0);
			break;
		case 2:
			answer(take(&in));
			break;
		case 3:
			peer_close(&containerd);
			break;
		case 4:
			world.clock_ms += 100 * (uint64_t)take(&in);
			break;
		case 5:
			raw = take_text(&in);
			forged = true;
			if (containerd.fd >= 0 && raw.len > 0)
				world_real_write(containerd.fd, raw.at, raw.len);
			break;
		case 6:
			take_events(listener);
			break;
		default:
			event_hurry();
		}
		step();
	}
	/* Now containerd behaves: everything comes, but for what it has seen and refused. */
	peer_close(&containerd);
	world.recv_max = world.send_max = 0;
	for (int i = 0; !event_idle(); i++) {
		CHECK(i < 10000, "events are stuck");
		world.clock_ms += 1000;
		step();
		take_events(listener);
		answer(0);
		step();
	}
	CHECK(newest == pushed || forged, "%u events came of %u", newest, pushed);
	for (int i = 0; i < 3; i++) { /* its connection is not needed any more */
		world.clock_ms += 10000;
		step();
	}
	peer_close(&containerd);
	fd_close(&listener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = {(const char *)data, size < INPUT_MAX ? size : INPUT_MAX};
	uint8_t kind = take(&in), cut = take(&in);

	world_begin();
	world.recv_max = cut % 16;
	world.send_max = cut / 16;
	now = world.clock_ms;
	if (kind % 2)
		fuzz_events(in);
	else
		fuzz_server(in);
	world_end();
	return 0;
}
