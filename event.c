// SPDX-License-Identifier: Apache-2.0
/*
 * event.c - telling containerd what happened: an ordered queue, and the connection it goes out by.
 *
 * An event is encoded when it happens and queued as the payload of a Forward request. The oldest
 * one is sent, and stays at the head of the queue until containerd has acknowledged it; only then
 * comes the next. So the order holds, and nothing is lost while containerd restarts: the queue is
 * memory, it grows as it must, and attempts go on - a second apart at first, then five.
 *
 * What containerd answers with an error, it has seen: it is tried again a few times, like the Go
 * shim does, and then dropped with a log line, since one event it will never take must not hold
 * back all others.
 *
 * To wake up for an acknowledgement costs more than anything else about an event. So as long as no
 * other event waits behind it, it is left in the socket: it is read with the next event, or a moment
 * later, when the connection is closed - an idle one would cost containerd more memory than all of
 * this daemon.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <pb_encode.h>

#include "events.pb.h"
#include "shim.h"
#include "ttrpc.pb.h"

#define QUEUE_MAX (64U << 20)
#define RESERVE 16384
#define EVENT_MAX (FRAME_DATA_MAX - 256) /* the request around it must go into the frame, too */
#define ANSWER_MS 5000
#define LINGER_MS 1000
#define BEHIND 16384 /* so much may wait before clients do */
#define STEP 256     /* about one event */
#define PROGRESS_MS 1000
#define REFUSALS_MAX 6
#define WAIT_MAX_S 5

/* Notes stand one behind the other: a uint32_t length, and the encoded ForwardRequest. */
static struct {
	char *at;
	size_t cap, head, tail;
} queue = {scratch.events, PAGE, 0, 0};

/* Where it grows first: there may be no memory for more, and what happened must not be lost then.
 * Costs nothing before it is used. */
static TABLE(reserve) char reserve[RESERVE];

static char target[108]; /* containerd's socket; empty: events go nowhere */
static struct conn conn = {.fd = -1};
static uint32_t stream;      /* of the request in flight */
static bool in_flight;       /* the head of the queue has been sent */
static bool unwatched;       /* its answer may have come: nobody has looked yet */
static bool watching;        /* the daemon is about to end: somebody always looks */
static uint64_t limit;       /* for its answer */
static uint64_t try_again;   /* not before */
static uint64_t idle_at;     /* look for it, and close the connection, then */
static uint64_t answered_at; /* the last answer came then */
static unsigned int failures, refusals;
static bool nobody;

void event_init(const char *address)
{
	struct view v = view_of(address);
	struct text t = TEXT(target);

	if (view_starts(v, "unix://"))
		v = (struct view){v.at + 7, v.len - 7};
	text_add(&t, v);
	if (t.cut || t.len == 0) {
		log_line(LOG_WARN, "no usable TTRPC_ADDRESS: events go nowhere");
		target[0] = '\0';
	}
}

/* ---- the queue ---- */

static void queue_use(char *at, size_t cap)
{
	size_t len = queue.tail - queue.head;

	memmove(at, queue.at + queue.head, len);
	if (queue.at == reserve && at != reserve)
		pages_forget(reserve, sizeof(reserve));
	else if (queue.at != scratch.events && queue.at != at)
		pages_put(queue.at, queue.cap);
	queue.at = at;
	queue.cap = cap;
	queue.head = 0;
	queue.tail = len;
}

/* What needs memory is made room for before there is none left: it may be refused, and is asked for
 * again at each event until there is. */
static bool queue_room(size_t need)
{
	size_t early = queue.cap < sizeof(reserve) ? need : need + queue.cap / 4;
	size_t cap = queue.cap, len = queue.tail - queue.head;
	char *at;

	if (queue.cap - queue.tail >= early)
		return true;
	/* What is left is moved only when half of all has gone: so none of it is moved often. */
	if (queue.head >= queue.cap / 2)
		queue_use(queue.at, queue.cap);
	if (queue.cap - queue.tail >= early)
		return true;
	do
		cap *= 2;
	while (cap < len + early);
	if (cap <= sizeof(reserve)) {
		at = reserve;
		cap = sizeof(reserve);
	} else {
		at = cap <= QUEUE_MAX ? pages_get(cap) : NULL;
	}
	if (at)
		queue_use(at, cap);
	else if (queue.cap - queue.tail < need)
		queue_use(queue.at, queue.cap);
	return queue.cap - queue.tail >= need;
}

static struct view queue_first(void)
{
	uint32_t len;

	memcpy(&len, queue.at + queue.head, sizeof(len));
	return (struct view){queue.at + queue.head + sizeof(len), len};
}

static void queue_pop(void)
{
	queue.head += sizeof(uint32_t) + queue_first().len;
	if (queue.head == queue.tail) {
		queue.head = queue.tail = 0;
		if (queue.at != scratch.events)
			queue_use(scratch.events, PAGE);
	}
	refusals = failures = 0;
}

/* Into the room behind the queue, of which `room` bytes may be used. */
static bool encode(const ForwardRequest *forward, size_t room, size_t *size)
{
	pb_byte_t *to = (pb_byte_t *)queue.at + queue.tail + sizeof(uint32_t);
	pb_ostream_t out = pb_ostream_from_buffer(to, room);
	bool done = pb_encode(&out, &ForwardRequest_msg, forward);

	*size = out.bytes_written;
	return done;
}

void event_push(const char *topic, const char *name, const pb_msgdesc_t *desc, const void *msg)
{
	char topic_buf[64], name_buf[64];
	struct text t = TEXT(topic_buf), n = TEXT(name_buf);
	ForwardRequest forward = {.has_envelope = true};
	struct timespec ts;
	size_t size;
	uint32_t len;
	bool fits;

	if (!target[0])
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	text_printf(&t, "/tasks/%s", topic);
	text_printf(&n, "containerd.events.%s", name);
	forward.envelope = (Envelope){
		.has_timestamp = true,
		.timestamp = {ts.tv_sec, (int32_t)ts.tv_nsec},
		.namespace = view_of(self.namespace),
		.topic = {t.at, t.len},
		.has_event = true,
		.event = {{n.at, n.len}, {desc, msg}},
	};
	/* Most events are not measured beforehand. */
	fits = queue_room(STEP) && encode(&forward, STEP - sizeof(len), &size);
	if (!fits)
		fits = pb_get_encoded_size(&size, &ForwardRequest_msg, &forward) &&
		       size <= EVENT_MAX && queue_room(sizeof(len) + size) &&
		       encode(&forward, size, &size);
	if (!fits) {
		log_line(LOG_ERROR, "no memory for event %s: it is lost", t.at);
		return;
	}
	len = (uint32_t)size;
	memcpy(queue.at + queue.tail, &len, sizeof(len));
	queue.tail += sizeof(len) + size;
	/* Not while one is out: its answer may have come, and be read only later in this turn. */
	if (!in_flight)
		event_flush();
}

bool event_idle(void)
{
	return queue.head == queue.tail;
}

/* Behind the first, which there is? */
static bool more_wait(void)
{
	return queue.tail - queue.head > sizeof(uint32_t) + queue_first().len;
}

bool event_hopeless(void)
{
	return nobody;
}

/* Each turn sends one event, but requests may cause many: under load the queue would only ever grow.
 * So as long as containerd takes events at all, what clients are heard of is what the queue is a
 * little shorter for than the last time; one that does not take them holds up nobody. */
bool event_behind(void)
{
	static size_t mark;
	size_t len = queue.tail - queue.head;

	if (len <= BEHIND || !in_flight || now - answered_at >= PROGRESS_MS) {
		mark = SIZE_MAX;
		return false;
	}
	if (len > mark) {
		loop_timer(answered_at + PROGRESS_MS);
		return true;
	}
	mark = len - STEP;
	return false;
}

/* ---- the connection ---- */

static void later(void)
{
	failures++;
	try_again = now + 1000 * (failures < WAIT_MAX_S ? failures : WAIT_MAX_S);
}

static void hang_up(void)
{
	conn_close(&conn);
	in_flight = false;
}

static void dial(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(to.sun_path, target, sizeof(to.sun_path));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
		conn_open(&conn, fd);
		conn.client = true;
		stream = UINT32_MAX; /* the first one is 1 */
		nobody = false;
		return;
	}
	nobody = errno == ENOENT || errno == ECONNREFUSED;
	if (failures == 0)
		log_line(LOG_WARN, "events: %s: %s; they are kept", target, errno_text(errno));
	fd_close(&fd);
	later();
}

/* What the peer has said, if it has. */
static void take_answer(void)
{
	struct frame f;

	conn_receive(&conn);
	while (conn_frame(&conn, &f)) {
		Response response = {0};

		if (!in_flight || f.type != FRAME_RESPONSE || f.stream != stream)
			continue;
		in_flight = false;
		answered_at = now;
		if (!msg_decode(f.data, &Response_msg, &response) || response.status.code != 0) {
			log_line(LOG_WARN, "containerd refused an event: %.*s",
				 VIEW_FMT(response.status.message));
			if (++refusals < REFUSALS_MAX) {
				later();
				continue;
			}
		}
		queue_pop();
	}
}

void event_flush(void)
{
	Request request = {.service = VIEW("containerd.services.events.ttrpc.v1.Events"),
			   .method = VIEW("Forward"),
			   .timeout_nano = ANSWER_MS * INT64_C(1000000)};

	if (in_flight && unwatched && (more_wait() || now >= idle_at)) {
		unwatched = false;
		take_answer();
	}
	if (conn.dead) {
		bool unanswered = in_flight;

		hang_up();
		if (unanswered && failures++ > 0) /* the first time it was just an old connection */
			later();
	}
	if (in_flight && now >= limit) {
		log_line(LOG_WARN, "events: no answer in %d ms", ANSWER_MS);
		hang_up();
		later();
	}
	if (event_idle()) {
		if (conn.fd >= 0 && now >= idle_at)
			hang_up();
		return;
	}
	if (in_flight || now < try_again)
		return;
	if (conn.fd < 0)
		dial();
	if (conn.fd < 0)
		return;
	stream += 2;
	request.payload = queue_first();
	in_flight = true;
	unwatched = !watching && !more_wait();
	limit = now + ANSWER_MS;
	idle_at = now + LINGER_MS;
	conn_send(&conn, stream, FRAME_REQUEST, &Request_msg, &request);
}

/* For a broken connection poll(2) looks in any case. */
void event_want(void)
{
	if (in_flight && unwatched && conn.tx.len == 0) {
		loop_want(conn.fd, 0, REF_PUBLISH, 0, 0);
		loop_timer(idle_at);
	} else if (conn.fd >= 0) {
		conn_want(&conn, REF_PUBLISH, 0);
		loop_timer(in_flight ? limit : event_idle() ? idle_at : try_again);
	} else if (!event_idle()) {
		loop_timer(try_again);
	}
}

void event_receive(short got)
{
	if (conn.tx.len > 0)
		conn_flush(&conn);
	else if (got)
		take_answer();
}

void event_hurry(void)
{
	if (!in_flight)
		try_again = now;
}

void event_watch(void)
{
	watching = true;
	unwatched = false;
}
