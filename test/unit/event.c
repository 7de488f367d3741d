// SPDX-License-Identifier: Apache-2.0
/*
 * event.c's tests: against a containerd made of a socket, that takes events, refuses them, says
 * nothing, hangs up, or is not there. Time passes only when a test says so.
 */
#define UNIT_CLOCK
#include <sys/resource.h>

#include "unit.h"

#include "../../loop.c"

#include "../../event.c"
#include "task.pb.h"

/* ---- containerd ---- */

static int listening = -1, client = -1; /* its socket; who is connected to it */
static unsigned int dials;

static void server_start(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", in_tmp("events"));
	unlink(at.sun_path);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listening, 5), 0);
}

static void server_stop(void)
{
	fd_close(&client);
	fd_close(&listening);
	unlink(in_tmp("events"));
}

struct event {
	uint32_t stream;
	struct view service, method, payload, namespace, topic, type_url, value;
	int64_t timeout, seconds;
};

/* What arrived whole, if anything did. Views are good until the next call. */
static bool server_take(struct event *e)
{
	static char buf[FRAME_HEADER + FRAME_DATA_MAX];
	struct view data, envelope, any;
	size_t len;

	if (client < 0) {
		client = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0)
			return false;
		dials++;
	}
	/* No more than there is to be: valgrind looks at all of the room it is given. */
	if (recv(client, buf, FRAME_HEADER, MSG_PEEK) < FRAME_HEADER)
		return false;
	len = FRAME_HEADER + get_be32(buf);
	assert_true(len <= sizeof(buf));
	if (recv(client, buf, len, MSG_PEEK) < (ssize_t)len)
		return false;
	assert_int_equal(recv(client, buf, len, 0), len);
	assert_int_equal(buf[8], FRAME_REQUEST);
	assert_int_equal(buf[9], 0);
	data = (struct view){buf + FRAME_HEADER, len - FRAME_HEADER};
	*e = (struct event){.stream = get_be32(buf + 4),
			    .service = get_bytes(data, 1),
			    .method = get_bytes(data, 2),
			    .payload = get_bytes(data, 3),
			    .timeout = (int64_t)get_number(data, 4, 0)};
	envelope = get_bytes(e->payload, 1);
	e->seconds = (int64_t)get_number(get_bytes(envelope, 1), 1, 0);
	e->namespace = get_bytes(envelope, 2);
	e->topic = get_bytes(envelope, 3);
	any = get_bytes(envelope, 4);
	e->type_url = get_bytes(any, 1);
	e->value = get_bytes(any, 2);
	return true;
}

static void server_say(uint32_t number, uint8_t type, struct view data)
{
	char buf[512];
	size_t n = put_header(buf, (uint32_t)data.len, number, type);

	memcpy(buf + n, data.at, data.len);
	assert_int_equal(send(client, buf, n + data.len, MSG_NOSIGNAL), n + data.len);
}

static void server_accepts(uint32_t number)
{
	server_say(number, FRAME_RESPONSE, VIEW(""));
}

static void server_refuses(uint32_t number)
{
	server_say(number, FRAME_RESPONSE, VIEW("\x0a\x08\x08\x02\x12\x04oops"));
}

/* ---- the shim ---- */

static void lazy_turn(void)
{
	struct ref ref;

	event_want();
	loop_timer(0); /* nobody sleeps here */
	loop_wait();
	while (loop_next(&ref)) {
		assert_int_equal(ref.kind, REF_PUBLISH);
		event_receive(ref.got);
	}
	event_flush();
}

/* One that looks for an answer. */
static void turn(void)
{
	unwatched = false;
	lazy_turn();
}

static void push(uint32_t number)
{
	TaskStart event = {.container_id = VIEW("c"), .pid = number};

	event_push("start", "TaskStart", &TaskStart_msg, &event);
}

static uint32_t number_of(const struct event *e)
{
	return (uint32_t)get_number(e->value, 2, 0);
}

/* The first event to a server that is there: out, and not acknowledged yet. */
static void send_first(struct event *e)
{
	server_start();
	push(1);
	assert_true(server_take(e));
}

/* When the next timer would end a wait; UINT64_MAX: never. */
static uint64_t next_timer(void)
{
	uint64_t at;

	event_want();
	at = deadline;
	deadline = UINT64_MAX;
	wanted = 0;
	return at;
}

static int setup(void **state)
{
	int err = tmp_make(state);

	now = clock_ms();
	self.namespace = "the-namespace";
	dials = 0;
	event_init(in_tmp("events"));
	return err;
}

/* Back to the beginning. */
static int teardown(void **state)
{
	server_stop();
	hang_up();
	if (queue.at != scratch.events)
		pages_put(queue.at, queue.cap);
	queue.at = scratch.events;
	queue.cap = PAGE;
	queue.head = queue.tail = 0;
	failures = refusals = 0;
	try_again = limit = idle_at = 0;
	nobody = unwatched = watching = false;
	return tmp_remove(state);
}

/* ---- tests ---- */

static void nowhere(void **state)
{
	static const char *const addresses[] = {NULL, "", "unix://"};
	char path[200];

	(void)state;
	for (size_t i = 0; i < COUNT(addresses); i++) {
		event_init(addresses[i]);
		push(1);
		assert_true(event_idle());
		assert_true(next_timer() == UINT64_MAX);
	}
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	event_init(path);
	push(1);
	assert_true(event_idle());
}

static void one_event(void **state)
{
	struct timespec begin, end; /* time(2) may be a tick behind */
	struct event e;

	(void)state;
	clock_gettime(CLOCK_REALTIME, &begin);
	server_start();
	assert_true(event_idle());
	push(4711);
	assert_false(event_idle());
	assert_true(server_take(&e));
	assert_int_equal(e.stream, 1);
	assert_view(e.service, "containerd.services.events.ttrpc.v1.Events");
	assert_view(e.method, "Forward");
	assert_int_equal(e.timeout, 5000000000);
	assert_view(e.namespace, "the-namespace");
	assert_view(e.topic, "/tasks/start");
	assert_view(e.type_url, "containerd.events.TaskStart");
	assert_view(get_bytes(e.value, 1), "c");
	assert_int_equal(number_of(&e), 4711);
	clock_gettime(CLOCK_REALTIME, &end);
	assert_in_range(e.seconds, begin.tv_sec, end.tv_sec);
	turn();
	assert_false(event_idle());
	server_accepts(1);
	turn();
	assert_true(event_idle());
	assert_false(server_take(&e));
	/* The connection goes a moment later, and nothing is waited for any more. */
	assert_true(conn.fd >= 0);
	advance(1000 - 1);
	turn();
	assert_true(conn.fd >= 0);
	advance(1);
	turn();
	assert_int_equal(conn.fd, -1);
	assert_true(next_timer() == UINT64_MAX);
}

static void address_as_url(void **state)
{
	char address[128];
	struct event e;

	(void)state;
	server_start();
	snprintf(address, sizeof(address), "unix://%s", in_tmp("events"));
	event_init(address);
	push(1);
	assert_true(server_take(&e));
}

/* One at a time, in order, on one connection. */
static void order(void **state)
{
	enum { EVENTS = 200 };
	struct event e;

	(void)state;
	server_start();
	for (uint32_t i = 0; i < EVENTS; i++)
		push(i);
	for (uint32_t i = 0; i < EVENTS; i++) {
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), i);
		assert_int_equal(e.stream, 2 * i + 1);
		turn();
		assert_false(server_take(&e)); /* not before this one is acknowledged */
		server_accepts(2 * i + 1);
		turn();
	}
	assert_true(event_idle());
	assert_int_equal(dials, 1);
}

/* The acknowledgement may come in any pieces. */
static void answer_byte_by_byte(void **state)
{
	char buf[FRAME_HEADER + 4];
	struct event e;

	(void)state;
	server_start();
	push(1);
	push(2);
	assert_true(server_take(&e));
	put_header(buf, 4, 1, FRAME_RESPONSE);
	memcpy(buf + FRAME_HEADER, "\x0a\x02\x08\x00", 4); /* a status that says OK */
	for (size_t i = 0; i < sizeof(buf); i++) {
		assert_false(server_take(&e));
		assert_int_equal(send(client, buf + i, 1, 0), 1);
		turn();
	}
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
}

/* What is no answer to the one in flight is none. */
static void other_frames_ignored(void **state)
{
	struct event e;

	(void)state;
	server_start();
	push(1);
	push(2);
	assert_true(server_take(&e));
	server_accepts(3);
	server_accepts(0);
	server_say(1, FRAME_REQUEST, VIEW(""));
	server_say(1, FRAME_STREAM_DATA, VIEW(""));
	server_say(1, 77, VIEW("xyz"));
	turn();
	assert_false(server_take(&e));
	assert_int_equal(dials, 1);
	server_accepts(1);
	server_accepts(1); /* twice */
	turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
	turn();
	assert_false(event_idle());
}

/* An answer longer than any frame may be: no answer is given to that, the connection is given up and
 * the event comes again on another. */
static void oversized_answer(void **state)
{
	char header[FRAME_HEADER + 40] = {0};
	struct event e;

	(void)state;
	send_first(&e);
	put_header(header, FRAME_DATA_MAX + 1, 1, FRAME_RESPONSE);
	memset(header + FRAME_HEADER, 0xff, 40);
	assert_int_equal(send(client, header, sizeof(header), 0), sizeof(header));
	turn();
	assert_int_equal(recv(client, header, sizeof(header), 0), 0);
	fd_close(&client);
	turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 1);
	assert_int_equal(dials, 2);
	server_accepts(1);
	turn();
	assert_true(event_idle());
}

/* Nobody is there: attempts go on, further and further apart, and what happens meanwhile waits. */
static void nobody_there(void **state)
{
	static const uint64_t expected[] = {1000, 2000, 3000, 4000, 5000, 5000, 5000};
	struct event e;
	uint32_t n = 0;

	(void)state;
	assert_false(event_hopeless());
	push(n++);
	assert_true(event_hopeless());
	for (size_t i = 0; i < COUNT(expected); i++) {
		assert_int_equal(next_timer() - now, expected[i]);
		push(n++);
		turn(); /* to no avail */
		assert_int_equal(next_timer() - now, expected[i]);
		advance(expected[i]);
		turn();
	}
	server_start();
	advance(4999);
	turn();
	assert_false(server_take(&e));
	advance(1);
	turn();
	for (uint32_t i = 0; i < n; i++) {
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), i);
		server_accepts(e.stream);
		turn();
	}
	assert_true(event_idle());
	assert_false(event_hopeless());
	/* And the next time it is as if nothing had been. */
	advance(LINGER_MS + 1);
	turn();
	server_stop();
	push(n);
	assert_int_equal(next_timer() - now, 1000);
}

/* A connection that ended while there was nothing to say is no failed attempt. */
static void hang_up_idle_is_no_failure(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	server_accepts(e.stream);
	turn();
	server_stop();
	turn();
	turn();
	push(2);
	assert_int_equal(next_timer() - now, 1000);
}

static void stale_socket(void **state)
{
	(void)state;
	server_start();
	fd_close(&listening); /* the name stays */
	push(1);
	assert_true(event_hopeless());
	assert_int_equal(next_timer() - now, 1000);
}

/* Somebody has seen containerd: the next attempt is made at once. */
static void hurry(void **state)
{
	struct event e;

	(void)state;
	push(1);
	advance(500);
	turn();
	server_start();
	turn();
	assert_false(server_take(&e));
	event_hurry();
	turn();
	assert_true(server_take(&e));
	event_hurry(); /* changes nothing while one is in flight */
	turn();
	assert_false(server_take(&e));
	server_accepts(e.stream);
	turn();
	assert_true(event_idle());
}

/* It hangs up before it has answered: the same event comes again, on a new connection. */
static void hang_up_in_flight(void **state)
{
	struct event e;

	(void)state;
	server_start();
	push(1);
	push(2);
	assert_true(server_take(&e));
	fd_close(&client);
	turn();
	assert_true(server_take(&e));
	assert_int_equal(dials, 2);
	assert_int_equal(e.stream, 1);
	assert_int_equal(number_of(&e), 1);
	server_accepts(1);
	turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
	server_accepts(e.stream);
	turn();
	assert_true(event_idle());
}

/* It hangs up in the middle of an answer. */
static void hang_up_within_answer(void **state)
{
	char buf[FRAME_HEADER + 8];

	(void)state;
	server_start();
	put_header(buf, 8, 1, FRAME_RESPONSE);
	memset(buf + FRAME_HEADER, 0, 8);
	for (size_t len = 0; len < sizeof(buf); len++) {
		struct event e;

		push(7);
		assert_true(server_take(&e));
		assert_int_equal(send(client, buf, len, 0), len);
		fd_close(&client);
		turn();
		turn();
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), 7);
		server_accepts(e.stream);
		turn();
		assert_true(event_idle());
		/* So that each round is like the first. */
		fd_close(&client);
		turn();
		turn();
		assert_int_equal(conn.fd, -1);
		failures = 0;
		try_again = 0;
	}
}

/* It takes connections and drops them, again and again: that is no reason to spin. */
static void hangs_up_for_ever(void **state)
{
	unsigned int attempts = 0;

	(void)state;
	server_start();
	push(1);
	for (unsigned int ms = 0; ms < 60000; ms += 10, advance(10)) {
		int fd;

		while ((fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			attempts++;
			close(fd);
		}
		turn();
	}
	assert_in_range(attempts, 10, 20);
	assert_false(event_idle());
}

/* It goes while there is nothing to say: nobody minds, and the next event finds the new one. */
static void hang_up_idle(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	server_accepts(e.stream);
	turn();
	server_stop();
	turn();
	turn();
	assert_int_equal(conn.fd, -1);
	assert_true(next_timer() == UINT64_MAX);
	server_start();
	push(2);
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
	server_accepts(e.stream);
	turn();
	assert_true(event_idle());
}

/* What it refuses comes again a few times, further and further apart, and then goes: the others
 * must have their turn. */
static void refused(void **state)
{
	struct event e;

	(void)state;
	server_start();
	push(1);
	push(2);
	for (unsigned int i = 1; i <= REFUSALS_MAX; i++) {
		uint64_t begin = now;

		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), 1);
		server_refuses(e.stream);
		turn();
		if (i == REFUSALS_MAX)
			break;
		assert_false(server_take(&e));
		advance(next_timer() - now);
		assert_int_equal(now - begin, i <= 5 ? 1000 * i : 5000);
		turn();
	}
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
	assert_int_equal(dials, 1);
	/* It starts anew for each. */
	server_refuses(e.stream);
	turn();
	assert_int_equal(next_timer() - now, 1000);
	advance(1000);
	turn();
	assert_true(server_take(&e));
	server_accepts(e.stream);
	turn();
	assert_true(event_idle());
}

/* An answer that cannot be read is none that accepts. */
static void nonsense_is_refusal(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	server_say(e.stream, FRAME_RESPONSE, VIEW("\x0a\xff"));
	turn();
	assert_false(event_idle());
	assert_int_equal(next_timer() - now, 1000);
}

/* No answer in time: another connection, and what the first one says then counts no more. */
static void no_answer(void **state)
{
	struct event e;
	int first;

	(void)state;
	server_start();
	push(1);
	push(2);
	assert_true(server_take(&e));
	turn();
	assert_int_equal(next_timer() - now, ANSWER_MS);
	advance(ANSWER_MS - 1);
	turn();
	assert_true(conn.fd >= 0);
	advance(1);
	turn();
	assert_int_equal(conn.fd, -1);
	first = client;
	client = -1;
	assert_int_equal(next_timer() - now, 1000);
	advance(1000);
	turn();
	assert_int_equal(recv(first, &(char){0}, 1, 0), 0);
	close(first);
	assert_true(server_take(&e));
	assert_int_equal(dials, 2);
	assert_int_equal(number_of(&e), 1);
	server_accepts(e.stream);
	turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
}

/* One that does not even take connections, because its queue of them is full. */
static void busy_listener(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fds[64], n = 0;
	struct event e;

	(void)state;
	server_start();
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", in_tmp("events"));
	do {
		assert_true(n < (int)COUNT(fds));
		fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	} while (connect(fds[n++], (struct sockaddr *)&at, sizeof(at)) == 0);
	assert_int_equal(errno, EAGAIN);
	push(1);
	assert_false(event_idle());
	assert_false(event_hopeless()); /* there is somebody */
	while (n-- > 0)
		close(fds[n]);
	while ((n = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(n);
	advance(next_timer() - now);
	turn();
	assert_true(server_take(&e));
}

/* ---- the queue ---- */

/* It grows while nobody takes events, and gives everything back at the end. */
static void queue_grows_and_shrinks(void **state)
{
	enum { EVENTS = 5000 };
	struct event e;

	(void)state;
	for (uint32_t i = 0; i < EVENTS; i++)
		push(i);
	assert_true(queue.cap > 100 * EVENTS);
	assert_ptr_not_equal(queue.at, scratch.events);
	server_start();
	advance(60000);
	turn();
	for (uint32_t i = 0; i < EVENTS; i++) {
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), i);
		assert_view(e.topic, "/tasks/start");
		server_accepts(e.stream);
		turn();
	}
	assert_true(event_idle());
	assert_ptr_equal(queue.at, scratch.events);
	assert_int_equal(queue.cap, PAGE);
	/* And is of use again. */
	push(4711);
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 4711);
	server_accepts(e.stream);
	turn();
}

/* Clients wait while their events do: as long as containerd takes some, and no longer. */
static void clients_wait_for_events(void **state)
{
	struct event e;
	uint32_t pushed = 0, taken = 0;
	size_t before;

	(void)state;
	server_start();
	push(pushed++);
	assert_true(server_take(&e));
	while (queue.tail - queue.head <= BEHIND) {
		assert_false(event_behind());
		push(pushed++);
	}
	server_accepts(e.stream);
	turn();
	taken++;
	while (queue.tail - queue.head <= BEHIND + 4 * STEP)
		push(pushed++);
	assert_false(event_behind()); /* from here on it must grow shorter */
	assert_true(event_behind());
	assert_true(next_timer() == now + 1000);
	for (before = queue.tail - queue.head; queue.tail - queue.head > before - STEP; taken++) {
		assert_true(event_behind());
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), taken);
		server_accepts(e.stream);
		turn();
	}
	assert_false(event_behind());
	assert_true(event_behind());
	advance(1000 - 1);
	assert_true(event_behind());
	advance(1); /* it has stopped taking any */
	assert_false(event_behind());
}

/* The events that have been pushed, from number `taken` on, come one after the other. */
static void take_all(uint32_t taken, uint32_t pushed)
{
	struct event e;

	while (taken < pushed) {
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), taken++);
		server_accepts(e.stream);
		turn();
	}
}

/* Some come, some go, at any rate: the page is used over and over, and left and found again. */
static void queue_comes_and_goes(void **state)
{
	enum { ROUNDS = 3000 };
	uint32_t random = 3, pushed = 0, taken = 0;
	bool left_page = false;
	struct event e;

	(void)state;
	server_start();
	for (int round = 0; round < ROUNDS; round++) {
		unsigned int n;

		random = random * 1103515245 + 12345;
		n = (random >> 16) % (round % 500 < 60 ? 6 : 2);
		while (n-- > 0)
			push(pushed++);
		assert_true(queue.tail <= queue.cap);
		left_page |= queue.at != scratch.events;
		if (server_take(&e)) {
			assert_int_equal(number_of(&e), taken++);
			server_accepts(e.stream);
		}
		turn();
	}
	take_all(taken, pushed);
	assert_true(left_page);
	assert_true(event_idle());
	assert_ptr_equal(queue.at, scratch.events);
}

/* One that is much larger than what a socket takes at once. */
static void large_event(void **state)
{
	static char rootfs[2 << 20], all[3 << 20];
	size_t n = 0, len = 0;
	TaskCreate event = {.container_id = VIEW("c"), .pid = 3};

	(void)state;
	while (n < sizeof(rootfs) - 2000)
		n += put_bytes(rootfs + n, 3, (struct view){all, 1000});
	event.rootfs = (struct view){rootfs, n};
	server_start();
	event_push("create", "TaskCreate", &TaskCreate_msg, &event);
	push(4);
	client = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	for (int i = 0; i < 100000 && (len < FRAME_HEADER || len < FRAME_HEADER + get_be32(all));
	     i++) {
		ssize_t got_now = recv(client, all + len, 10000, 0);

		len += got_now > 0 ? (size_t)got_now : 0;
		turn();
	}
	assert_int_equal(len, FRAME_HEADER + get_be32(all));
	assert_true(len > n);
	{
		struct view data = {all + FRAME_HEADER, len - FRAME_HEADER};
		struct view any = get_bytes(get_bytes(get_bytes(data, 3), 1), 4),
			    value = get_bytes(any, 2), mount;
		size_t mounts = 0;

		assert_view(get_bytes(any, 1), "containerd.events.TaskCreate");
		while (field_next(&value, 3, &mount)) {
			assert_int_equal(mount.len, 1000);
			mounts++;
		}
		assert_int_equal(mounts, n / 1003);
	}
	assert_null(conn.tx.at);
	server_accepts(1);
	turn();
	{
		struct event e;

		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), 4);
	}
}

/* There is an end to patience: what does not fit is lost, and what was there before is not. */
static void queue_is_bounded(void **state)
{
	static char rootfs[3 << 20];
	TaskCreate event = {.container_id = VIEW("c")};
	struct event e;
	size_t tail, n = 0;
	uint32_t kept = 0;

	(void)state;
	while (n < sizeof(rootfs) - 60000)
		n += put_bytes(rootfs + n, 3, (struct view){scratch.in, 4000});
	event.rootfs = (struct view){rootfs, n};
	push(1);
	do {
		tail = queue.tail;
		event.pid = kept++;
		event_push("create", "TaskCreate", &TaskCreate_msg, &event);
		assert_true(queue.cap <= QUEUE_MAX);
	} while (queue.tail > tail);
	assert_in_range(kept, 8, 64);
	/* A larger one than a frame may be never is queued. */
	event.rootfs.len = 0;
	push(2); /* a small one still fits */
	assert_true(queue.tail > tail);
	server_start();
	advance(60000);
	turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 1);
}

/* Memory that is refused is asked for again before what there is has run out. */
static void memory_comes_late(void **state)
{
	struct rlimit old, none;
	uint32_t pushed = 0, late = 0;

	(void)state;
	if (EMULATED()) /* the emulator's own memory it would be */
		skip();
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	none = (struct rlimit){1, old.rlim_max};
	while (queue.at != reserve || sizeof(reserve) - queue.tail > sizeof(reserve) / 3)
		push(pushed++);
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	while (sizeof(reserve) - queue.tail > 1000) {
		push(pushed++);
		late += sizeof(reserve) - queue.tail < sizeof(reserve) / 4;
	}
	setrlimit(RLIMIT_AS, &old);
	assert_ptr_equal(queue.at, reserve);
	assert_true(late > 4);
	push(pushed++);
	assert_true(queue.cap > sizeof(reserve));
	server_start();
	advance(60000);
	turn();
	take_all(0, pushed);
}

static void too_large_for_a_frame(void **state)
{
	static char rootfs[FRAME_DATA_MAX];
	TaskCreate event = {.rootfs = {rootfs, sizeof(rootfs)}};

	(void)state;
	server_start();
	event_push("create", "TaskCreate", &TaskCreate_msg, &event);
	assert_true(event_idle());
}

/* The event alone would go, but not with the request around it. */
static void almost_too_large(void **state)
{
	static char rootfs[FRAME_DATA_MAX];
	TaskCreate event = {.rootfs = {rootfs, FRAME_DATA_MAX - 130}};
	struct event e;

	(void)state;
	server_start();
	event_push("create", "TaskCreate", &TaskCreate_msg, &event);
	push(9);
	for (int i = 0; i < 2000 && !event_idle(); i++, advance(100)) {
		while (server_take(&e))
			server_accepts(e.stream);
		turn();
		if (conn.fd < 0)
			fd_close(&client);
	}
	assert_true(event_idle());
}

/* In 2242: seconds that want more than 32 bits, on every machine. */
static void late_dates(void **state)
{
	struct event e;

	(void)state;
	server_start();
	test_date = INT64_C(1) << 33;
	push(1);
	test_date = 0;
	assert_true(server_take(&e));
	assert_true(e.seconds == INT64_C(1) << 33);
}

/* ---- answers that nobody is in a hurry for ---- */

/* Does the sleep end when there is something to read? */
static bool watched(void)
{
	bool result;

	event_want();
	result = wanted == 1 && set.fds[0].events == POLLIN;
	wanted = 0;
	deadline = UINT64_MAX;
	return result;
}

static void answer_is_left_till_later(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	server_accepts(1);
	for (int i = 0; i < 3; i++)
		lazy_turn();
	assert_false(watched());
	assert_false(event_idle());
	assert_true(next_timer() == now + LINGER_MS);
	advance(1000 - 1);
	lazy_turn();
	assert_false(event_idle());
	advance(1);
	lazy_turn(); /* read, and the connection closed */
	assert_true(event_idle());
	assert_int_equal(conn.fd, -1);
	assert_true(next_timer() == UINT64_MAX);
	assert_int_equal(dials, 1);
}

static void late_answer_is_watched_for(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	advance(LINGER_MS);
	lazy_turn();
	assert_true(watched());
	assert_false(event_idle());
	assert_true(next_timer() == now - LINGER_MS + ANSWER_MS);
	server_accepts(1);
	lazy_turn();
	assert_true(event_idle());
	assert_int_equal(conn.fd, -1);
}

static void next_event_reads_answer(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	server_accepts(1);
	lazy_turn();
	push(2);
	assert_false(server_take(&e));
	event_flush(); /* the end of the turn in which it happened */
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 2);
	assert_false(watched());
	/* No answer yet: now it is looked for. */
	push(3);
	event_flush();
	assert_false(server_take(&e));
	assert_true(watched());
	server_accepts(3);
	lazy_turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 3);
	assert_int_equal(dials, 1);
}

static void answers_others_wait_for_are_watched(void **state)
{
	struct event e;

	(void)state;
	server_start();
	for (uint32_t i = 0; i < 4; i++)
		push(i);
	event_flush();
	for (uint32_t i = 0; i < 4; i++) {
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), i);
		assert_int_equal(watched(), i < 3);
		server_accepts(2 * i + 1);
		lazy_turn();
	}
	assert_false(event_idle());
}

static void broken_connection_is_noticed(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	fd_close(&client);
	lazy_turn();
	assert_true(server_take(&e));
	assert_int_equal(number_of(&e), 1);
	assert_int_equal(dials, 2);
	/* Not if it had been acknowledged. */
	server_accepts(1);
	fd_close(&client);
	lazy_turn();
	lazy_turn();
	assert_true(event_idle());
	assert_false(server_take(&e));
	assert_int_equal(dials, 2);
}

/* Stopped for longer than an answer may take: it is looked for before it is said to be missing. */
static void answer_waits_for_us(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	server_accepts(1);
	advance(2 * ANSWER_MS);
	lazy_turn();
	assert_true(event_idle());
	assert_false(server_take(&e));
	assert_int_equal(dials, 1);
}

static void answer_is_watched_for_at_the_end(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	assert_false(watched());
	event_watch();
	assert_true(watched());
	server_accepts(1);
	lazy_turn();
	assert_true(event_idle());
	push(2);
	assert_true(server_take(&e));
	assert_true(watched());
}

/* ---- clients that wait ---- */

static size_t queued(void)
{
	return queue.tail - queue.head;
}

static void one_is_taken(void)
{
	struct event e;

	assert_true(server_take(&e));
	server_accepts(e.stream);
	turn();
}

/* Clients are heard of again when the queue has become shorter, or does so no more. */
static void clients_wait_while_it_grows(void **state)
{
	struct event e;
	size_t before;

	(void)state;
	server_start();
	push(0);
	one_is_taken();
	assert_false(event_behind());
	for (uint32_t i = 0; queued() <= BEHIND; i++) {
		assert_false(event_behind());
		push(i);
	}
	for (uint32_t i = 0; queued() <= BEHIND + 4096; i++)
		push(i);
	assert_false(event_behind());
	before = queued();
	assert_true(event_behind());
	deadline = UINT64_MAX;
	assert_true(event_behind());
	assert_int_equal(deadline, answered_at + 1000);
	while (event_behind())
		one_is_taken();
	assert_true(queued() + 256 <= before);
	assert_true(queued() + 512 > before);
	assert_true(event_behind());
	advance(999);
	assert_true(event_behind());
	advance(1);
	assert_false(event_behind());
	assert_false(event_behind());
	one_is_taken();
	assert_false(event_behind());
	assert_true(event_behind());
	/* Nothing is on its way: nothing could make it shorter. */
	assert_true(server_take(&e));
	server_refuses(e.stream);
	turn();
	assert_false(event_behind());
	assert_false(event_behind());
}

/* It is never empty, and never long: it does not grow. */
static void queue_stays_short(void **state)
{
	const uint32_t events = VALGRIND() ? 2000 : 20000;
	uint32_t taken = 0;
	struct event e;

	(void)state;
	server_start();
	for (uint32_t i = 0; i < events; i++) {
		push(i);
		if (i < 20)
			continue;
		assert_true(server_take(&e));
		assert_int_equal(number_of(&e), taken++);
		server_accepts(e.stream);
		turn();
	}
	assert_true(queue.cap <= sizeof(reserve));
	take_all(taken, events);
}

/* What has been in the reserve does not stay there. */
static void reserve_given_back(void **state)
{
	const uintptr_t page = (uintptr_t)getpagesize();
	uintptr_t from = ((uintptr_t)reserve + page - 1) & ~(page - 1);
	uint32_t pushed = 0;

	(void)state;
	while (queue.at == scratch.events || queue.at == reserve)
		push(pushed++);
	for (; from + page <= (uintptr_t)(reserve + sizeof(reserve)); from += page)
		for (uintptr_t i = 0; i < page; i++)
			assert_int_equal(((const char *)from)[i], 0);
	server_start();
	advance(60000);
	turn();
	take_all(0, pushed);
}

static void connection_is_not_passed_on(void **state)
{
	struct event e;

	(void)state;
	send_first(&e);
	assert_int_equal(fcntl(conn.fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(conn.fd, F_GETFL) & O_NONBLOCK);
	server_accepts(e.stream);
	turn();
	/* Closed a second after the last event. */
	advance(999);
	turn();
	assert_true(conn.fd >= 0);
	advance(1);
	turn();
	assert_int_equal(conn.fd, -1);
}

static void nobody_there_costs_no_descriptor(void **state)
{
	unsigned int fds = open_fds();

	(void)state;
	push(1);
	for (int i = 0; i < 5; i++) {
		advance(6000);
		turn();
	}
	assert_int_equal(open_fds(), fds);
	server_start();
	advance(6000);
	turn();
	take_all(1, 2);
}

int main(void)
{
#define EVENT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		EVENT_TEST(nowhere),
		EVENT_TEST(one_event),
		EVENT_TEST(late_dates),
		EVENT_TEST(address_as_url),
		EVENT_TEST(order),
		EVENT_TEST(answer_byte_by_byte),
		EVENT_TEST(other_frames_ignored),
		EVENT_TEST(oversized_answer),
		EVENT_TEST(nobody_there),
		EVENT_TEST(stale_socket),
		EVENT_TEST(hurry),
		EVENT_TEST(hang_up_in_flight),
		EVENT_TEST(answer_is_left_till_later),
		EVENT_TEST(late_answer_is_watched_for),
		EVENT_TEST(next_event_reads_answer),
		EVENT_TEST(answers_others_wait_for_are_watched),
		EVENT_TEST(broken_connection_is_noticed),
		EVENT_TEST(answer_waits_for_us),
		EVENT_TEST(answer_is_watched_for_at_the_end),
		EVENT_TEST(hang_up_within_answer),
		EVENT_TEST(hangs_up_for_ever),
		EVENT_TEST(hang_up_idle),
		EVENT_TEST(hang_up_idle_is_no_failure),
		EVENT_TEST(refused),
		EVENT_TEST(nonsense_is_refusal),
		EVENT_TEST(no_answer),
		EVENT_TEST(busy_listener),
		EVENT_TEST(queue_grows_and_shrinks),
		EVENT_TEST(queue_comes_and_goes),
		EVENT_TEST(clients_wait_for_events),
		EVENT_TEST(large_event),
		EVENT_TEST(queue_is_bounded),
		EVENT_TEST(memory_comes_late),
		EVENT_TEST(too_large_for_a_frame),
		EVENT_TEST(almost_too_large),
		EVENT_TEST(clients_wait_while_it_grows),
		EVENT_TEST(queue_stays_short),
		EVENT_TEST(reserve_given_back),
		EVENT_TEST(connection_is_not_passed_on),
		EVENT_TEST(nobody_there_costs_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
