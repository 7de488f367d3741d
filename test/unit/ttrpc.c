// SPDX-License-Identifier: Apache-2.0
/*
 * ttrpc.c's tests: the codec over socket pairs, and the server over a socket of its own.
 *
 * Everything happens in one thread: what the peer does, and then what the shim makes of it. So each
 * byte arrives exactly when the test says so.
 */
#define UNIT_CLOCK
#include "unit.h"

#include <sys/resource.h>

#include "../../ttrpc.c"
#include "task.pb.h"

/* ---- one connection, and its peer ---- */

static struct conn one;
static int peer;

static void pair_open(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	conn_open(&one, fds[0]);
	peer = fds[1];
}

static void pair_close(void)
{
	conn_close(&one);
	assert_null(one.rx.at);
	assert_null(one.tx.at);
	fd_close(&peer);
}

static void say(const char *at, size_t len)
{
	assert_int_equal(send(peer, at, len, MSG_NOSIGNAL), len);
}

static bool next_frame(struct frame *f)
{
	conn_receive(&one);
	return conn_frame(&one, f);
}

static size_t put_frame(char *to, uint32_t stream, uint8_t type, const char *data)
{
	size_t len = strlen(data);

	put_header(to, (uint32_t)len, stream, type);
	memcpy(to + FRAME_HEADER, data, len);
	return FRAME_HEADER + len;
}

static void assert_frame(const struct frame *f, uint32_t stream, uint8_t type, const char *data)
{
	assert_int_equal(f->stream, stream);
	assert_int_equal(f->type, type);
	assert_view(f->data, data);
}

static void header_there_and_back(void **state)
{
	char buf[64];
	size_t n = put_frame(buf, 0xfedcba98, 0xff, "x");
	struct frame f;

	(void)state;
	pair_open();
	say(buf, n);
	assert_true(next_frame(&f));
	assert_frame(&f, 0xfedcba98, 0xff, "x");
	conn_send(&one, 0x89abcdef, FRAME_RESPONSE, NULL, NULL);
	assert_int_equal(recv(peer, buf, sizeof(buf), 0), FRAME_HEADER);
	assert_memory_equal(buf, "\0\0\0\0\x89\xab\xcd\xef\2\0", FRAME_HEADER);
	pair_close();
}

static void byte_by_byte(void **state)
{
	char buf[256];
	size_t n = put_frame(buf, 1, FRAME_REQUEST, "first"), first = n;
	struct frame f;

	(void)state;
	n += put_frame(buf + n, 3, FRAME_REQUEST, "");
	n += put_frame(buf + n, 5, FRAME_RESPONSE, "the third one");
	pair_open();
	for (size_t i = 0; i < n; i++) {
		say(buf + i, 1);
		if (next_frame(&f)) {
			if (i + 1 == first)
				assert_frame(&f, 1, FRAME_REQUEST, "first");
			else if (i + 1 == first + FRAME_HEADER)
				assert_frame(&f, 3, FRAME_REQUEST, "");
			else if (i + 1 == n)
				assert_frame(&f, 5, FRAME_RESPONSE, "the third one");
			else
				fail_msg("a frame after %zu bytes\n", i + 1);
			assert_false(conn_frame(&one, &f));
			assert_null(one.rx.at); /* nothing is left, so there is no memory left */
		} else {
			assert_true(i + 1 != first && i + 1 != first + FRAME_HEADER && i + 1 != n);
			assert_non_null(one.rx.at);
		}
		assert_false(one.dead);
	}
	pair_close();
}

/* Three frames in two pieces, cut at every byte. */
static void cut_at_every_byte(void **state)
{
	static const char *const data[] = {"a", "", "a longer one, with more in it"};
	char buf[256];
	size_t n = 0;

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		n += put_frame(buf + n, 2 * i + 1, FRAME_REQUEST, data[i]);
	for (size_t cut = 0; cut <= n; cut++) {
		struct frame f;
		uint32_t got_frames = 0;

		pair_open();
		for (int half = 0; half < 2; half++) {
			say(half ? buf + cut : buf, half ? n - cut : cut);
			conn_receive(&one);
			while (conn_frame(&one, &f)) {
				assert_frame(&f, 2 * got_frames + 1, FRAME_REQUEST,
					     data[got_frames]);
				got_frames++;
			}
		}
		assert_int_equal(got_frames, 3);
		assert_null(one.rx.at);
		pair_close();
	}
}

static void many_in_one_recv(void **state)
{
	char buf[4096];
	size_t n = 0;
	uint32_t sent = 0, seen = 0;
	struct frame f;

	(void)state;
	while (n + 40 < sizeof(buf))
		n += put_frame(buf + n, 2 * sent++ + 1, FRAME_REQUEST, "payload");
	pair_open();
	say(buf, n);
	conn_receive(&one);
	while (conn_frame(&one, &f))
		assert_frame(&f, 2 * seen++ + 1, FRAME_REQUEST, "payload");
	assert_int_equal(seen, sent);
	assert_false(next_frame(&f)); /* nothing more: not dead either */
	assert_false(one.dead);
	pair_close();
}

/* Two connections whose bytes arrive in turn. */
static void connections_in_turn(void **state)
{
	char buf[64];
	size_t n = put_frame(buf, 1, FRAME_REQUEST, "one and the same");
	struct conn first;
	int first_peer;
	struct frame f;

	(void)state;
	pair_open();
	first = one;
	first_peer = peer;
	one = (struct conn){.fd = -1};
	pair_open();
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(send(first_peer, buf + i, 1, 0), 1);
		conn_receive(&first);
		assert_false(conn_frame(&one, &f)); /* it is not for this one */
		assert_int_equal(conn_frame(&first, &f), i + 1 == n);
		say(buf + i, 1);
		conn_receive(&one);
		assert_false(conn_frame(&first, &f));
		assert_int_equal(conn_frame(&one, &f), i + 1 == n);
	}
	conn_frame(&one, &f);
	conn_close(&first);
	close(first_peer);
	pair_close();
}

/* A stream of frames of all sizes, cut anywhere. */
static void any_sizes_any_cuts(void **state)
{
	enum { FRAMES = 300, SIZE = 9000 };
	static char out[FRAMES * (SIZE + FRAME_HEADER)];
	size_t n = 0, sent = 0;
	uint32_t random = 1, seen = 0;
	struct frame f;

	(void)state;
	for (uint32_t i = 0; i < FRAMES; i++) {
		size_t len;

		random = random * 1103515245 + 12345;
		len = (random >> 16) % (i % 7 == 0 ? SIZE : i % 3 == 0 ? 20 : 700);
		put_header(out + n, (uint32_t)len, i, FRAME_REQUEST);
		for (size_t k = 0; k < len; k++)
			out[n + FRAME_HEADER + k] = (char)(i + k);
		n += FRAME_HEADER + len;
	}
	pair_open();
	while (sent < n) {
		size_t len;

		random = random * 1103515245 + 12345;
		len = (random >> 16) % (random & 64 ? 6000 : 30) + 1;
		len = len < n - sent ? len : n - sent;
		say(out + sent, len);
		sent += len;
		for (int i = 0; i < 3; i++) { /* a page is taken at a time */
			conn_receive(&one);
			while (conn_frame(&one, &f)) {
				assert_int_equal(f.stream, seen);
				for (size_t k = 0; k < f.data.len; k++)
					if (f.data.at[k] != (char)(seen + k))
						fail_msg("frame %u, byte %zu\n", seen, k);
				seen++;
			}
		}
	}
	assert_int_equal(seen, FRAMES);
	assert_null(one.rx.at);
	pair_close();
}

/* The largest frame there may be: it comes whole, and its memory goes. */
static void largest_frame(void **state)
{
	static char data[FRAME_DATA_MAX];
	char header[FRAME_HEADER];
	size_t sent = 0;
	struct frame f;
	bool whole = false;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i >> 3 ^ i);
	pair_open();
	put_header(header, FRAME_DATA_MAX, 7, FRAME_REQUEST);
	say(header, FRAME_HEADER);
	while (!whole) {
		ssize_t n = send(peer, data + sent, sizeof(data) - sent, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		whole = next_frame(&f);
		assert_false(one.dead);
	}
	assert_int_equal(sent, sizeof(data));
	assert_int_equal(f.stream, 7);
	assert_int_equal(f.data.len, sizeof(data));
	assert_memory_equal(f.data.at, data, sizeof(data));
	assert_false(conn_frame(&one, &f));
	assert_null(one.rx.at);
	pair_close();
}

static void assert_too_large(uint32_t stream, uint32_t len)
{
	char text[128];
	struct reply r;

	assert_true(get_reply(peer, &r));
	assert_int_equal(r.stream, stream);
	assert_int_equal(r.type, FRAME_RESPONSE);
	assert_int_equal(r.code, CODE_RESOURCE_EXHAUSTED);
	snprintf(text, sizeof(text), "message length %u exceed maximum message size of 4194304",
		 len);
	assert_view(r.message, text);
}

/* One byte more is refused, thrown away as it comes, and the next one is taken. */
static void oversized_then_good(void **state)
{
	static char junk[60000];
	char buf[64];
	size_t left = FRAME_DATA_MAX + 1;
	struct frame f;

	(void)state;
	memset(junk, 0xff, sizeof(junk));
	pair_open();
	put_header(buf, FRAME_DATA_MAX + 1, 3, FRAME_REQUEST);
	for (int i = 0; i < FRAME_HEADER; i++) {
		say(buf + i, 1);
		assert_false(next_frame(&f));
	}
	assert_too_large(3, FRAME_DATA_MAX + 1);
	while (left > 0) {
		size_t n = left < sizeof(junk) ? left : sizeof(junk);

		say(junk, n);
		left -= n;
		for (size_t got_bytes = 0; got_bytes < n; got_bytes += PAGE) {
			if (left == 0 && got_bytes + PAGE >= n)
				say(buf, put_frame(buf, 5, FRAME_REQUEST, "good"));
			if (next_frame(&f)) {
				assert_int_equal(left, 0);
				assert_frame(&f, 5, FRAME_REQUEST, "good");
				assert_false(conn_frame(&one, &f));
				left = 0;
				goto good;
			}
			assert_null(one.rx.at); /* none of it is kept */
		}
	}
	assert_true(next_frame(&f));
	assert_frame(&f, 5, FRAME_REQUEST, "good");
	assert_false(conn_frame(&one, &f));
good:
	assert_false(one.dead);
	pair_close();
}

/* A good one, the head of a huge one, and what follows: all in one piece, cut at every byte. */
static void oversized_in_between(void **state)
{
	char buf[128];
	size_t n = put_frame(buf, 1, FRAME_REQUEST, "before");

	(void)state;
	n += put_header(buf + n, UINT32_MAX, 3, FRAME_REQUEST);
	memset(buf + n, 0, 40); /* no good header among that */
	n += 40;
	for (size_t cut = 0; cut <= n; cut++) {
		struct frame f;

		pair_open();
		say(buf, cut);
		if (next_frame(&f)) {
			assert_frame(&f, 1, FRAME_REQUEST, "before");
			assert_false(conn_frame(&one, &f));
		}
		say(buf + cut, n - cut);
		if (next_frame(&f)) {
			assert_true(cut < FRAME_HEADER + 6);
			assert_frame(&f, 1, FRAME_REQUEST, "before");
			assert_false(conn_frame(&one, &f));
		}
		assert_too_large(3, UINT32_MAX);
		assert_int_equal(one.skip, UINT32_MAX - 40);
		pair_close();
	}
}

/* A peer that goes at any byte. */
static void closed_at_every_byte(void **state)
{
	char buf[64];
	size_t n = put_frame(buf, 1, FRAME_REQUEST, "never whole");
	unsigned int fds = open_fds();

	(void)state;
	for (size_t len = 0; len < n; len++)
		for (int half = 0; half < 2; half++) {
			struct frame f;

			pair_open();
			say(buf, len);
			if (half)
				shutdown(peer, SHUT_WR);
			else
				fd_close(&peer);
			assert_false(next_frame(&f));
			if (!one.dead)
				assert_false(next_frame(&f));
			assert_true(one.dead);
			assert_false(conn_frame(&one, &f));
			pair_close();
		}
	assert_int_equal(open_fds(), fds);
}

/* With unread bytes of ours in it a socket is not closed but reset. */
static void reset_by_peer(void **state)
{
	struct frame f;

	(void)state;
	pair_open();
	conn_send(&one, 1, FRAME_RESPONSE, NULL, NULL);
	fd_close(&peer);
	assert_false(next_frame(&f));
	assert_true(one.dead);
	conn_send(&one, 3, FRAME_RESPONSE, NULL, NULL); /* to nobody: no signal, no crash */
	pair_close();
	pair_open();
	fd_close(&peer);
	conn_send(&one, 1, FRAME_RESPONSE, NULL, NULL);
	assert_true(one.dead);
	pair_close();
}

static void dead_stays_dead(void **state)
{
	struct frame f;

	(void)state;
	pair_open();
	one.dead = true;
	conn_receive(&one);
	assert_true(one.dead);
	assert_false(conn_frame(&one, &f));
	pair_close();
	pair_open();
	while (one.tx.len == 0)
		conn_send(&one, 1, FRAME_RESPONSE, NULL, NULL);
	one.dead = true;
	conn_flush(&one);
	assert_true(one.dead);
	pair_close();
}

/* ---- sending ---- */

static void reads_nothing_while_it_has_to_wait(void **state)
{
	struct ref ref;
	char byte = 0;

	(void)state;
	pair_open();
	now = clock_ms();
	while (one.tx.len == 0)
		conn_send(&one, 1, FRAME_RESPONSE, NULL, NULL);
	say(&byte, 1);
	conn_want(&one, REF_CONN, 9);
	loop_timer(0);
	loop_wait();
	assert_false(loop_next(&ref)); /* there is something to read, but that is not asked for */
	while (recv(peer, (char[4096]){0}, 4096, 0) > 0)
		;
	conn_want(&one, REF_CONN, 9);
	loop_timer(0);
	loop_wait();
	assert_true(loop_next(&ref));
	assert_int_equal(ref.kind, REF_CONN);
	assert_int_equal(ref.slot, 9);
	assert_int_equal(ref.got, POLLOUT);
	conn_flush(&one);
	assert_int_equal(one.tx.len, 0);
	assert_null(one.tx.at);
	conn_want(&one, REF_CONN, 9);
	loop_timer(0);
	loop_wait();
	assert_true(loop_next(&ref));
	assert_int_equal(ref.got, POLLIN);
	pair_close();
}

/* Replies of all sizes, and a peer that takes any number of bytes at any time: nothing is lost, nor
 * put in another order. */
static void backlog_keeps_order(void **state)
{
	enum { REPLIES = 400, LARGEST = 50000 };
	static char text[LARGEST], stream[REPLIES * 20000];
	uint32_t random = 7;
	size_t len = 0;

	(void)state;
	pair_open();
	memset(text, 'x', sizeof(text));
	for (uint32_t i = 0; i < REPLIES || one.tx.len > 0; i++) {
		ssize_t n;

		if (i < REPLIES) {
			Response r = {.has_status = true, .status = {(int32_t)i + 1, {text, 0}}};

			random = random * 1103515245 + 12345;
			r.status.message.len = (random >> 12) % (i % 10 ? 3000 : LARGEST);
			conn_send(&one, i, FRAME_RESPONSE, &Response_msg, &r);
		}
		random = random * 1103515245 + 12345;
		if (random & 128 || i >= REPLIES) {
			n = recv(peer, stream + len, (random >> 12) % 30000 + 1, 0);
			len += n > 0 ? (size_t)n : 0;
		}
		conn_flush(&one);
		assert_false(one.dead);
	}
	assert_null(one.tx.at);
	for (ssize_t n; (n = recv(peer, stream + len, sizeof(stream) - len, 0)) > 0;)
		len += (size_t)n;
	random = 7;
	for (size_t at = 0, i = 0; at < len; i++) {
		struct view v = {stream + at + FRAME_HEADER, get_be32(stream + at)},
			    status = get_bytes(v, 1);

		assert_true(at + FRAME_HEADER + v.len <= len);
		assert_int_equal(get_be32(stream + at + 4), i);
		assert_int_equal(get_number(status, 1, 0), i + 1);
		at += FRAME_HEADER + v.len;
		if (at == len)
			assert_int_equal(i, REPLIES - 1);
	}
	pair_close();
}

/* One that never reads costs no more than a bound, and then its connection. */
static void backlog_is_bounded(void **state)
{
	static char text[1 << 20];
	Response r = {.has_status = true, .status = {2, {text, sizeof(text)}}};
	unsigned int sent = 0;

	(void)state;
	memset(text, 'x', sizeof(text));
	pair_open();
	while (!one.dead && sent < 1000) {
		conn_send(&one, 1, FRAME_RESPONSE, &Response_msg, &r);
		assert_true(one.tx.cap <= BACKLOG_MAX);
		sent++;
	}
	assert_true(one.dead);
	assert_in_range(sent, 16, 65);
	pair_close();
}

/* The largest reply goes out; one that is larger ends the connection: its client would wait. */
static void largest_reply(void **state)
{
	static char text[FRAME_DATA_MAX], all[FRAME_DATA_MAX + FRAME_HEADER];
	Response r = {.has_status = true, .status = {2, {text, 0}}};
	size_t len = 0, size;

	(void)state;
	memset(text, 'x', sizeof(text));
	r.status.message.len = FRAME_DATA_MAX - 100;
	assert_true(pb_get_encoded_size(&size, &Response_msg, &r));
	r.status.message.len += FRAME_DATA_MAX - size;
	pair_open();
	conn_send(&one, 9, FRAME_RESPONSE, &Response_msg, &r);
	while (len < sizeof(all)) {
		ssize_t n = recv(peer, all + len, sizeof(all) - len, 0);

		len += n > 0 ? (size_t)n : 0;
		conn_flush(&one);
		assert_false(one.dead);
	}
	assert_int_equal(get_be32(all), FRAME_DATA_MAX);
	assert_int_equal(
		get_bytes(get_bytes((struct view){all + FRAME_HEADER, FRAME_DATA_MAX}, 1), 2).len,
		r.status.message.len);
	assert_null(one.tx.at);
	r.status.message.len++;
	conn_send(&one, 11, FRAME_RESPONSE, &Response_msg, &r);
	assert_true(one.dead);
	assert_int_equal(recv(peer, all, sizeof(all), 0), -1);
	pair_close();
}

/* ---- the server ---- */

static int server_setup(void **state)
{
	int err = tmp_make(state);

	now = clock_ms();
	server_open();
	return err;
}

static int server_teardown(void **state)
{
	for (unsigned int i = 0; i < conns_end; i++)
		conns[i].dead = conns[i].fd >= 0;
	server_sweep();
	server_close();
	return tmp_remove(state);
}

static bool is_closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/* All requests that are there on a connection. */
static unsigned int serve(unsigned int slot, struct request *last)
{
	struct request rq;
	unsigned int n = 0;

	server_receive(slot, POLLIN);
	while (server_next(slot, &rq)) {
		*last = rq;
		n++;
	}
	return n;
}

static void call_and_answer(void **state)
{
	char buf[256];
	int fd = client_open();
	StartResponse start = {4711};
	struct request rq;
	struct reply r;

	(void)state;
	server_accept();
	assert_int_equal(
		send(fd, buf, put_request(buf, 1, "service", "Method", VIEW("payload")), 0) > 0, 1);
	assert_int_equal(serve(0, &rq), 1);
	assert_int_equal(rq.from.stream, 1);
	assert_true(server_knows(rq.from));
	assert_false(get_reply(fd, &r));
	server_reply(rq.from, &StartResponse_msg, &start);
	assert_true(get_reply(fd, &r));
	assert_int_equal(r.stream, 1);
	assert_int_equal(r.type, FRAME_RESPONSE);
	assert_int_equal(r.code, 0);
	assert_int_equal(get_number(r.payload, 1, 0), 4711);
	server_fail(rq.from, CODE_NOT_FOUND, VIEW("there is none"));
	assert_true(get_reply(fd, &r));
	assert_int_equal(r.code, 5);
	assert_view(r.message, "there is none");
	assert_int_equal(r.payload.len, 0);
	server_reply(rq.from, NULL, NULL); /* google.protobuf.Empty: a frame without a byte */
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), FRAME_HEADER);
	assert_memory_equal(buf, "\0\0\0\0\0\0\0\1\2\0", FRAME_HEADER);
	close(fd);
}

static void requests_decoded(void **state)
{
	char buf[512], more[64];
	int fd = client_open();
	struct request rq;
	size_t n;

	(void)state;
	server_accept();
	n = put_request(buf, 5, "containerd.task.v2.Task", "Kill", VIEW("\0\1\xff"));
	n += put_number(buf + n, 4, 5000000000);
	n += put_bytes(buf + n, 5, VIEW("\x0a\x01k\x12\x01v"));
	put_header(buf, (uint32_t)n - FRAME_HEADER, 5, FRAME_REQUEST);
	assert_int_equal(send(fd, buf, n, 0), n);
	server_receive(0, POLLIN);
	assert_true(server_next(0, &rq));
	assert_int_equal(rq.from.stream, 5);
	assert_int_equal(rq.from.conn, 0);
	assert_true(rq.from.gen != 0);
	assert_view(rq.service, "containerd.task.v2.Task");
	assert_view(rq.method, "Kill");
	assert_int_equal(rq.payload.len, 3);
	assert_memory_equal(rq.payload.at, "\0\1\xff", 3);
	assert_int_equal(rq.timeout_nano, 5000000000);
	assert_false(server_next(0, &rq));
	/* An empty message is a request, too; and a negative timeout is told. */
	n = put_header(buf, 0, 7, FRAME_REQUEST);
	n += put_number(more, 4, (uint64_t)-1);
	assert_int_equal(send(fd, buf, FRAME_HEADER, 0), FRAME_HEADER);
	put_header(buf, (uint32_t)n - FRAME_HEADER, 9, FRAME_REQUEST);
	assert_int_equal(send(fd, buf, FRAME_HEADER, 0), FRAME_HEADER);
	assert_int_equal(send(fd, more, n - FRAME_HEADER, 0), n - FRAME_HEADER);
	server_receive(0, POLLIN);
	assert_true(server_next(0, &rq));
	assert_int_equal(rq.service.len + rq.method.len + rq.payload.len, 0);
	assert_int_equal(rq.timeout_nano, 0);
	assert_true(server_next(0, &rq));
	assert_int_equal(rq.timeout_nano, -1);
	assert_false(server_next(0, &rq));
	close(fd);
}

/* What the Go server answers to a peer that breaks the rules; and then it goes on. Contract 2.3. */
static void broken_rules(void **state)
{
	static const struct {
		uint32_t stream;
		uint8_t type;
		struct view data;
		unsigned int code;
		const char *message; /* NULL: no answer; and code 0: a request */
	} cases[] = {
		{1, FRAME_REQUEST, {"\x0a\x01s", 3}, 0, NULL},
		{2,
		 FRAME_REQUEST,
		 {"\x0a\x01s", 3},
		 3,
		 "StreamID must be odd for client initiated streams"},
		{0, FRAME_REQUEST, {"", 0}, 3, "StreamID must be odd for client initiated streams"},
		{1,
		 FRAME_REQUEST,
		 {"\x0a\x01s", 3},
		 3,
		 "StreamID cannot be re-used and must increment"},
		{9, FRAME_REQUEST, {"\x0a\x01s", 3}, 0, NULL},
		{7,
		 FRAME_REQUEST,
		 {"\x0a\x01s", 3},
		 3,
		 "StreamID cannot be re-used and must increment"},
		{11,
		 FRAME_REQUEST,
		 {"\x0a\x05s", 3},
		 3,
		 "unmarshal request error: proto: cannot parse invalid wire-format data"},
		{11,
		 FRAME_REQUEST,
		 {"\x0a\x01s", 3},
		 3,
		 "StreamID cannot be re-used and must increment"},
		{13,
		 FRAME_REQUEST,
		 {"\x0a\x01\xff", 3},
		 3,
		 "unmarshal request error: proto: cannot parse invalid wire-format data"},
		{15, FRAME_STREAM_DATA, {"abc", 3}, 3, "StreamID is no longer active"},
		{1, FRAME_STREAM_DATA, {"", 0}, 3, "StreamID is no longer active"},
		{15, FRAME_RESPONSE, {"abc", 3}, 99, NULL},
		{15, 0, {"abc", 3}, 99, NULL},
		{15, 4, {"abc", 3}, 99, NULL},
		{15, 255, {"", 0}, 99, NULL},
		{15, FRAME_REQUEST, {"\x0a\x01s", 3}, 0, NULL},
		{4294967295, FRAME_REQUEST, {"\x0a\x01s", 3}, 0, NULL},
		{4294967293,
		 FRAME_REQUEST,
		 {"", 0},
		 3,
		 "StreamID cannot be re-used and must increment"},
	};
	int fd = client_open();

	(void)state;
	server_accept();
	for (size_t i = 0; i < COUNT(cases); i++) {
		char buf[64];
		struct request rq;
		struct reply r;
		unsigned int requests;

		put_header(buf, (uint32_t)cases[i].data.len, cases[i].stream, cases[i].type);
		memcpy(buf + FRAME_HEADER, cases[i].data.at, cases[i].data.len);
		assert_int_equal(send(fd, buf, FRAME_HEADER + cases[i].data.len, 0),
				 FRAME_HEADER + cases[i].data.len);
		requests = serve(0, &rq);
		assert_int_equal(requests, cases[i].code == 0);
		if (!cases[i].message) {
			assert_false(get_reply(fd, &r));
			continue;
		}
		assert_true(get_reply(fd, &r));
		assert_int_equal(r.stream, cases[i].stream);
		assert_int_equal(r.type, FRAME_RESPONSE);
		assert_int_equal(r.code, cases[i].code);
		assert_view(r.message, cases[i].message);
		assert_int_equal(r.payload.len, 0);
		assert_false(conns[0].dead);
	}
	close(fd);
}

/* Stream ids are a connection's own. */
static void streams_per_connection(void **state)
{
	char buf[256];
	size_t n = put_request(buf, 1, "s", "m", (struct view){0});
	int first = client_open(), second = client_open();
	struct request a, b;
	struct reply r;

	(void)state;
	server_accept();
	assert_int_equal(send(first, buf, n, 0), n);
	assert_int_equal(send(second, buf, n, 0), n);
	assert_int_equal(serve(0, &a), 1);
	assert_int_equal(serve(1, &b), 1);
	server_fail(b.from, 2, VIEW("b"));
	assert_false(get_reply(first, &r));
	assert_true(get_reply(second, &r));
	server_fail(a.from, 2, VIEW("a"));
	assert_true(get_reply(first, &r));
	assert_view(r.message, "a");
	close(first);
	close(second);
}

/* Replies may come in any order, hours later. */
static void replies_in_any_order(void **state)
{
	char buf[256];
	int fd = client_open();
	struct origin from[50];
	struct request rq;
	struct reply r;

	(void)state;
	server_accept();
	for (uint32_t i = 0; i < COUNT(from); i++) {
		size_t n = put_request(buf, 2 * i + 1, "s", "Wait", (struct view){0});

		assert_int_equal(send(fd, buf, n, 0), n);
		assert_int_equal(serve(0, &rq), 1);
		from[i] = rq.from;
	}
	for (size_t i = COUNT(from); i-- > 0;) {
		StartResponse start = {(uint32_t)i};

		server_reply(from[i], &StartResponse_msg, &start);
		assert_true(get_reply(fd, &r));
		assert_int_equal(r.stream, 2 * i + 1);
		assert_int_equal(get_number(r.payload, 1, 0), i);
	}
	close(fd);
}

/* An origin outlives its connection, and means nothing then: not even to the next one in its slot. */
static void stale_origins(void **state)
{
	char buf[256];
	size_t n = put_request(buf, 1, "s", "m", (struct view){0});
	int fd = client_open();
	struct request old, rq;
	struct reply r;

	(void)state;
	server_accept();
	assert_int_equal(send(fd, buf, n, 0), n);
	assert_int_equal(serve(0, &old), 1);
	close(fd);
	assert_true(server_knows(old.from)); /* nobody has looked yet */
	assert_int_equal(serve(0, &rq), 0);
	assert_false(server_knows(old.from));
	server_fail(old.from, 2, VIEW("to nobody"));
	server_sweep();
	assert_int_equal(conns_end, 0);
	server_fail(old.from, 2, VIEW("to nobody"));
	fd = client_open();
	server_accept();
	assert_int_equal(send(fd, buf, n, 0), n);
	assert_int_equal(serve(0, &rq), 1);
	assert_int_equal(rq.from.conn, old.from.conn);
	assert_int_not_equal(rq.from.gen, old.from.gen);
	server_fail(old.from, 2, VIEW("to nobody"));
	assert_false(get_reply(fd, &r));
	server_fail(rq.from, 2, VIEW("to you"));
	assert_true(get_reply(fd, &r));
	assert_view(r.message, "to you");
	/* An origin of zeros is nobody's, also when the count of lives comes round. */
	server_fail((struct origin){0}, 2, VIEW("to nobody"));
	close(fd);
	serve(0, &rq);
	server_sweep();
	conns[0].gen = UINT16_MAX;
	fd = client_open();
	server_accept();
	assert_int_equal(conns[0].gen, 1);
	server_fail((struct origin){0, 0, 1}, 2, VIEW("to nobody"));
	assert_false(get_reply(fd, &r));
	close(fd);
}

/* A dead connection is no more read from or written to in its last turn, and then its memory goes. */
static void swept_at_the_end(void **state)
{
	char buf[256];
	size_t n = put_request(buf, 1, "s", "m", (struct view){0});
	unsigned int fds = open_fds();
	int fd = client_open();
	struct request rq;

	(void)state;
	server_accept();
	assert_int_equal(send(fd, buf, n, 0), n);
	assert_int_equal(send(fd, buf, n / 2, 0), n / 2);
	assert_int_equal(serve(0, &rq), 1);
	assert_non_null(conns[0].rx.at);
	close(fd);
	assert_int_equal(serve(0, &rq), 0);
	assert_true(conns[0].dead);
	server_sweep();
	assert_null(conns[0].rx.at);
	assert_int_equal(open_fds(), fds);
}

static void pending_replies_counted(void **state)
{
	static char text[100000];
	int fd = client_open();
	char buf[256];
	struct request rq;
	size_t n = put_request(buf, 1, "s", "m", (struct view){0});

	(void)state;
	memset(text, 'x', sizeof(text));
	server_accept();
	assert_int_equal(server_pending(), 0);
	assert_int_equal(send(fd, buf, n, 0), n);
	assert_int_equal(serve(0, &rq), 1);
	while (server_pending() == 0)
		server_fail(rq.from, 2, (struct view){text, sizeof(text)});
	assert_int_equal(server_pending(), 1);
	/* POLLOUT, and not a byte is read meanwhile. */
	n = put_request(buf, 3, "s", "m", (struct view){0});
	assert_int_equal(send(fd, buf, n, 0), n);
	assert_int_equal(serve(0, &rq), 0);
	while (server_pending() > 0) {
		while (recv(fd, text, sizeof(text), 0) > 0)
			;
		server_receive(0, POLLOUT);
		assert_false(server_next(0, &rq));
	}
	assert_int_equal(serve(0, &rq), 1);
	assert_int_equal(rq.from.stream, 3);
	close(fd);
}

/* As many as the table holds; the next one is told at once, and has its chance when one goes. */
static void accept_limit(void **state)
{
	struct rlimit old, limit;
	static int fds[CONN_MAX];
	struct request rq;
	int fd;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
	if (limit.rlim_cur < 2 * CONN_MAX + 64)
		skip();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < CONN_MAX; i++)
		fds[i] = client_open();
	server_accept();
	assert_int_equal(conns_end, CONN_MAX);
	fd = client_open();
	server_accept();
	assert_true(is_closed(fd));
	close(fd);
	for (int i = 0; i < CONN_MAX; i++)
		assert_false(is_closed(fds[i]));
	close(fds[100]);
	serve(100, &rq);
	server_sweep();
	fds[100] = client_open();
	server_accept();
	assert_false(is_closed(fds[100]));
	assert_true(conns[100].fd >= 0);
	for (int i = 0; i < CONN_MAX; i++) {
		close(fds[i]);
		serve((unsigned int)i, &rq);
	}
	server_sweep();
	assert_int_equal(conns_end, 0);
	setrlimit(RLIMIT_NOFILE, &old);
}

/* Out of descriptors: the listener is left alone for a while rather than asked in vain for ever. */
static void accept_pauses(void **state)
{
	struct rlimit old, none;
	int fd = client_open(), lowest = dup(0);
	struct ref ref;

	(void)state;
	if (VALGRIND()) /* it accepts a connection, and closes it if it is one too many */
		skip();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)lowest;
	close(lowest);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	server_accept();
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(conns_end, 0);
	server_want();
	loop_timer(0);
	loop_wait();
	assert_false(loop_next(&ref));
	advance(999);
	server_want();
	loop_timer(0);
	loop_wait();
	assert_false(loop_next(&ref));
	advance(1);
	server_want();
	loop_timer(0);
	loop_wait();
	assert_true(loop_next(&ref));
	assert_int_equal(ref.kind, REF_LISTEN);
	server_accept();
	assert_int_equal(conns_end, 1);
	close(fd);
}

/* Only whom the socket's owner is. */
static void strangers_refused(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(tmp, 0755), 0);
	assert_int_equal(chmod(in_tmp("socket"), 0777), 0);
	for (int i = 0; i < 2; i++) {
		struct pollfd gone;

		pid = fork();
		if (pid == 0) {
			if (i == 0 ? setuid(65534) : setgid(65534))
				_exit(1);
			gone = (struct pollfd){client_open(), POLLIN, 0};
			_exit(poll(&gone, 1, (int)guard_ms()) != 1 || !is_closed(gone.fd));
		}
		{
			struct pollfd p = {listener, POLLIN, 0};

			assert_int_equal(poll(&p, 1, (int)guard_ms()), 1);
		}
		server_accept();
		assert_int_equal(conns_end, 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

/* ---- the socket's name ---- */

static void name_goes_with_the_server(void **state)
{
	(void)state;
	assert_int_equal(access(in_tmp("socket"), F_OK), 0);
	server_hide();
	assert_int_equal(access(in_tmp("socket"), F_OK), -1);
	/* Whoever takes the name later keeps it. */
	make_file("socket", "", 0600);
	server_hide();
	assert_int_equal(access(in_tmp("socket"), F_OK), 0);
}

/* A daemon that takes over a name does not lose it to the one before. */
static void name_of_another_stays(void **state)
{
	(void)state;
	make_file("other", "", 0600);
	assert_int_equal(rename(in_tmp("other"), in_tmp("socket")), 0);
	server_hide();
	assert_int_equal(access(in_tmp("socket"), F_OK), 0);
}

/* Not known, or too long to be kept: nothing is removed. */
static void names_that_are_none(void **state)
{
	char name[200];

	(void)state;
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	server_listen(listener, name);
	assert_int_equal(listener_path[0], '\0');
	server_listen(listener, in_tmp("nothing there"));
	assert_int_equal(listener_path[0], '\0');
	server_hide();
	assert_int_equal(access(in_tmp("socket"), F_OK), 0);
}

static void connections_are_not_passed_on(void **state)
{
	int fd = client_open();

	(void)state;
	server_accept();
	assert_int_equal(conns_end, 1);
	assert_int_equal(fcntl(conns[0].fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(conns[0].fd, F_GETFL) & O_NONBLOCK);
	close(fd);
}

/* Memory for half a frame, or for replies that wait, goes with its reason. */
static void backlogs_are_given_back(void **state)
{
	char part[FRAME_HEADER + 100] = {0};
	struct conn *c = &conns[0];
	struct request rq;
	int fd = client_open();

	(void)state;
	server_accept();
	put_header(part, 200, 1, FRAME_REQUEST);
	assert_int_equal(send(fd, part, sizeof(part), 0), sizeof(part));
	server_receive(0, POLLIN);
	assert_false(server_next(0, &rq));
	assert_non_null(c->rx.at);
	assert_int_equal(c->rx.cap, PAGE);
	assert_int_equal(send(fd, part + FRAME_HEADER, 100, 0), 100);
	server_receive(0, POLLIN);
	assert_false(server_next(0, &rq)); /* it was nonsense */
	assert_null(c->rx.at);
	assert_int_equal(c->rx.cap, 0);
	close(fd);
}

/* What had to wait comes out as it went in, behind what went out at once. */
static void backlog_is_what_was_sent(void **state)
{
	enum { REPLIES = 300, LEN = 3000 };
	static char text[LEN], stream[REPLIES * (LEN + 100)];
	size_t len = 0, at = 0;

	(void)state;
	pair_open();
	for (uint32_t i = 0; i < REPLIES; i++) {
		Response r = {.has_status = true, .status = {(int32_t)i + 1, {text, LEN}}};

		memset(text, 'a' + (int)(i % 26), LEN);
		conn_send(&one, i, FRAME_RESPONSE, &Response_msg, &r);
	}
	assert_true(one.tx.len > 100 * LEN);
	for (ssize_t n; one.tx.len > 0 || (n = recv(peer, stream + len, 7777, 0)) > 0;) {
		if (one.tx.len > 0)
			n = recv(peer, stream + len, 7777, 0);
		assert_true(n > 0);
		len += (size_t)n;
		conn_flush(&one);
	}
	assert_null(one.tx.at);
	for (uint32_t i = 0; i < REPLIES; i++) {
		struct view v = {stream + at + FRAME_HEADER, get_be32(stream + at)}, message;

		assert_true(at + FRAME_HEADER + v.len <= len);
		assert_int_equal(get_be32(stream + at + 4), i);
		assert_int_equal(stream[at + 8], FRAME_RESPONSE);
		assert_int_equal(stream[at + 9], 0);
		message = get_bytes(get_bytes(v, 1), 2);
		assert_int_equal(message.len, LEN);
		for (size_t k = 0; k < LEN; k++)
			assert_int_equal(message.at[k], 'a' + (int)(i % 26));
		at += FRAME_HEADER + v.len;
	}
	assert_int_equal(at, len);
	pair_close();
}

int main(void)
{
#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, server_setup, server_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_there_and_back),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(cut_at_every_byte),
		cmocka_unit_test(many_in_one_recv),
		cmocka_unit_test(connections_in_turn),
		cmocka_unit_test(any_sizes_any_cuts),
		cmocka_unit_test(largest_frame),
		cmocka_unit_test(oversized_then_good),
		cmocka_unit_test(oversized_in_between),
		cmocka_unit_test(closed_at_every_byte),
		cmocka_unit_test(reset_by_peer),
		cmocka_unit_test(dead_stays_dead),
		cmocka_unit_test(reads_nothing_while_it_has_to_wait),
		cmocka_unit_test(backlog_keeps_order),
		cmocka_unit_test(backlog_is_bounded),
		cmocka_unit_test(largest_reply),
		SERVER_TEST(call_and_answer),
		SERVER_TEST(requests_decoded),
		SERVER_TEST(broken_rules),
		SERVER_TEST(streams_per_connection),
		SERVER_TEST(replies_in_any_order),
		SERVER_TEST(stale_origins),
		SERVER_TEST(swept_at_the_end),
		SERVER_TEST(pending_replies_counted),
		SERVER_TEST(accept_limit),
		SERVER_TEST(accept_pauses),
		SERVER_TEST(strangers_refused),
		SERVER_TEST(name_goes_with_the_server),
		SERVER_TEST(name_of_another_stays),
		SERVER_TEST(names_that_are_none),
		SERVER_TEST(connections_are_not_passed_on),
		SERVER_TEST(backlogs_are_given_back),
		cmocka_unit_test(backlog_is_what_was_sent),
	};

	signal(SIGPIPE, SIG_DFL); /* it would end the test */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
