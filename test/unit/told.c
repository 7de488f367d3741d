// SPDX-License-Identifier: Apache-2.0
/*
 * What containerd is told: every field of every event, by its number; and who is told first.
 */
#include "daemon.h"

#include <sys/ioctl.h>

/* What container.c says, in its order. */
static char order[256];

static void noted_push(const char *topic, const char *name, const struct pb_msgdesc_s *desc,
		       const void *msg)
{
	strncat(order, topic, sizeof(order) - strlen(order) - 1);
	strncat(order, ";", sizeof(order) - strlen(order) - 1);
	event_push(topic, name, desc, msg);
}

static void noted_reply(struct origin to, const struct pb_msgdesc_s *desc, const void *msg)
{
	strncat(order, "reply;", sizeof(order) - strlen(order) - 1);
	server_reply(to, desc, msg);
}

#define event_push noted_push
#define server_reply noted_reply
#include "../../container.c"
#undef event_push
#undef server_reply

/* The next event has come, whole. The daemon sends one after the other, so nothing is behind it. */
static bool event_came(struct frame *f)
{
	size_t used = 0;
	int fd;

	if (containerd.fd < 0) {
		fd = accept4(events_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return false;
		peer_open(&containerd, fd);
	}
	if (!peer_receive(&containerd) || !peer_frame(&containerd, &used, f))
		return false;
	assert_int_equal(containerd.len, used);
	containerd.len = 0;
	return true;
}

/* The next event, once there is one; it is acknowledged. */
static struct view next_event(const char *topic, const char *name)
{
	struct view envelope, any;
	char text[64];
	struct frame f;

	until(event_came(&f));
	assert_true(peer_answer(&containerd, f.stream));
	assert_view(get_bytes(f.data, 1), "containerd.services.events.ttrpc.v1.Events");
	assert_view(get_bytes(f.data, 2), "Forward");
	envelope = get_bytes(get_bytes(f.data, 3), 1);
	assert_true(get_number(get_bytes(envelope, 1), 1, 0) > 1000000000);
	assert_view(get_bytes(envelope, 2), "ns");
	snprintf(text, sizeof(text), "/tasks/%s", topic);
	assert_view(get_bytes(envelope, 3), text);
	any = get_bytes(envelope, 4);
	snprintf(text, sizeof(text), "containerd.events.%s", name);
	assert_view(get_bytes(any, 1), text);
	return get_bytes(any, 2);
}

static void every_event(void **state)
{
	const struct streams streams = {.in = "/dev/null", .out = "/dev/zero", .err = "/dev/full"};
	struct view e, rest, value;
	char image[64];
	int64_t seconds;
	pid_t pid;

	(void)state;
	events_mode = EVENTS_HELD; /* nobody else takes them */
	with_private_pids("c");
	assert_ok(ask_create_with(0, "c", streams, (struct view){0}));
	pid = the_init("c")->pid;
	e = next_event("create", "TaskCreate");
	assert_view(get_bytes(e, 1), "c");
	assert_view(get_bytes(e, 2), in_tmp("c"));
	assert_int_equal(get_bytes(e, 3).len, 0);
	assert_view(get_bytes(get_bytes(e, 4), 1), "/dev/null");
	assert_view(get_bytes(get_bytes(e, 4), 2), "/dev/zero");
	assert_view(get_bytes(get_bytes(e, 4), 3), "/dev/full");
	assert_int_equal(get_number(get_bytes(e, 4), 4, 0), 0);
	assert_int_equal(get_bytes(e, 5).len, 0);
	assert_int_equal(get_number(e, 6, 0), pid);
	assert_ok(ask_about("Start", "c"));
	e = next_event("start", "TaskStart");
	assert_view(get_bytes(e, 1), "c");
	assert_int_equal(get_number(e, 2, 0), pid);
	assert_ok(ask_exec("c/x"));
	e = next_event("exec-added", "TaskExecAdded");
	assert_view(get_bytes(e, 1), "c");
	assert_view(get_bytes(e, 2), "x");
	assert_ok(ask_about("Start", "c/x"));
	e = next_event("exec-started", "TaskExecStarted");
	assert_view(get_bytes(e, 1), "c");
	assert_view(get_bytes(e, 2), "x");
	assert_int_equal(get_number(e, 3, 0), the_exec("c", "x")->pid);
	assert_ok(ask_about("Pause", "c"));
	e = next_event("paused", "TaskPaused");
	assert_view(get_bytes(e, 1), "c");
	assert_ok(ask_about("Resume", "c"));
	e = next_event("resumed", "TaskResumed");
	assert_view(get_bytes(e, 1), "c");
	end_process(the_exec("c", "x"), SIGTERM);
	e = next_event("exit", "TaskExit");
	assert_view(get_bytes(e, 1), "c");
	assert_view(get_bytes(e, 2), "x");
	assert_int_equal(get_number(e, 3, 0), the_exec("c", "x")->pid);
	assert_int_equal(get_number(e, 4, 0), 143);
	assert_int_equal(get_number(get_bytes(e, 5), 1, 0), the_exec("c", "x")->exited_at.seconds);
	assert_int_equal(get_number(get_bytes(e, 5), 2, 0), the_exec("c", "x")->exited_at.nanos);
	end_process(the_init("c"), SIGKILL);
	e = next_event("exit", "TaskExit");
	assert_view(get_bytes(e, 2), "c");
	assert_int_equal(get_number(e, 3, 0), pid);
	assert_int_equal(get_number(e, 4, 0), 137);
	seconds = the_init("c")->exited_at.seconds;
	assert_int_equal(get_number(get_bytes(e, 5), 1, 0), seconds);
	assert_ok(ask_about("Delete", "c"));
	e = next_event("delete", "TaskDelete");
	assert_view(get_bytes(e, 1), "c");
	assert_int_equal(get_number(e, 2, 0), pid);
	assert_int_equal(get_number(e, 3, 0), 137);
	assert_int_equal(get_number(get_bytes(e, 4), 1, 0), seconds);
	/* A checkpoint, a terminal, and what the rootfs is made of: nothing runs yet. */
	assert_ok(ask_create_more(0, "c", (struct streams){.terminal = true},
				  (struct view){image, put_image(image, "/image")},
				  (struct view){0}));
	e = next_event("create", "TaskCreate");
	assert_int_equal(get_number(get_bytes(e, 4), 4, 0), 1);
	assert_view(get_bytes(e, 5), "/image");
	assert_int_equal(get_number(e, 6, 0), 0);
	rest = e;
	assert_false(field_next(&rest, 3, &value));
}

/* The rootfs comes as it was asked for, mount by mount. */
static void rootfs_in_the_event(void **state)
{
	struct view e, value, more;
	char mounts[1024];
	size_t n;

	(void)state;
	events_mode = EVENTS_HELD;
	mkdir(in_tmp("layer"), 0755);
	mkdir(in_tmp("c"), 0755);
	n = put_mount(mounts, "bind", in_tmp("layer"), "rbind", NULL);
	n += put_mount(mounts + n, "bind", in_tmp("layer"), "rbind", "ro");
	more = (struct view){mounts, n};
	assert_ok(ask_create_more(0, "c", (struct streams){0}, more, (struct view){0}));
	e = next_event("create", "TaskCreate");
	for (int i = 0; i < 2; i++) {
		struct view sent;

		assert_true(field_next(&more, 3, &sent));
		assert_true(field_next(&e, 3, &value));
		assert_int_equal(value.len, sent.len);
		assert_memory_equal(value.at, sent.at, sent.len);
	}
	assert_false(field_next(&e, 3, &value));
	events_mode = EVENTS_TAKEN;
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Delete", "c"));
}

/* An exec whose client never comes does not go on without him. */
static void exec_without_a_reader(void **state)
{
	const struct ask *start;
	struct view r;
	char buf[512];
	pid_t pid;

	(void)state;
	started("c");
	assert_int_equal(mkfifo(in_tmp("out"), 0600), 0);
	assert_ok(ask("Exec", buf,
		      put_exec(buf, "c", "x", (struct streams){.out = in_tmp("out")},
			       "{\"args\":[1]}")));
	start = ask_about_within(5000, "Start", "c/x");
	until(the_exec("c", "x")->pid > 0);
	pid = the_exec("c", "x")->pid;
	assert_int_equal(kill(pid, 0), 0);
	assert_false(start->answered);
	advance(6000);
	assert_error(start, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	until(kill(pid, 0) < 0);
	until(event_idle());
	assert_null(strstr(event_log, "exit c x")); /* it never was */
	/* It is as it was before: nothing of the process that was killed is left in it. */
	r = payload_of(assert_ok(ask_about("State", "c/x")));
	assert_int_equal(get_number(r, 3, 0), 0);
	assert_int_equal(get_number(r, 4, 0), 1);
	assert_int_equal(get_number(r, 9, 0), 0);
	assert_int_equal((int64_t)get_number(get_bytes(r, 10), 1, 0), SENTINEL_SECONDS);
	r = payload_of(assert_ok(ask_about("Delete", "c/x")));
	assert_int_equal(get_number(r, 1, 0), 0);
	assert_int_equal(get_number(r, 2, 0), 0);
	assert_int_equal((int64_t)get_number(get_bytes(r, 3), 1, 0), SENTINEL_SECONDS);
}

/* Whoever hears of an exit by Wait may ask containerd about it: that has been told before. */
static void exit_before_waits(void **state)
{
	const struct ask *waits[3];

	(void)state;
	with_private_pids("c");
	started("c");
	for (size_t i = 0; i < COUNT(waits); i++)
		waits[i] = ask_about("Wait", "c");
	for (int i = 0; i < 5; i++)
		one_turn();
	order[0] = '\0';
	end_process(the_init("c"), SIGKILL);
	for (size_t i = 0; i < COUNT(waits); i++)
		assert_ok(waits[i]);
	assert_string_equal(order, "exit;reply;reply;reply;");
}

static void exec_ids(void **state)
{
	(void)state;
	started("c");
	started("d");
	assert_ok(ask_exec("c/x"));
	assert_error(ask_exec("c/x"), CODE_ALREADY_EXISTS, "id x: already exists");
	assert_ok(ask_exec("d/x"));
	assert_ok(ask_about("Delete", "c/x"));
	assert_ok(ask_exec("c/x"));
}

/* Of a container, and of an exec, each its own. */
static void sizes_of_terminals(void **state)
{
	struct io *const *io;
	struct io *ios[2];
	struct winsize size;
	char buf[128];
	size_t n;

	(void)state;
	started("c");
	assert_ok(ask_exec("c/x"));
	ios[0] = &the_init("c")->io;
	ios[1] = &the_exec("c", "x")->io;
	for (io = ios; io < ios + 2; io++)
		(*io)->console = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	for (unsigned int i = 0; i < 2; i++) {
		n = put_who(buf, "c", i ? "x" : NULL);
		n += put_number(buf + n, 3, 80 + i);
		n += put_number(buf + n, 4, 25 + i);
		assert_ok(ask("ResizePty", buf, n));
	}
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(ioctl(ios[i]->console, TIOCGWINSZ, &size), 0);
		assert_int_equal(size.ws_col, 80 + i);
		assert_int_equal(size.ws_row, 25 + i);
	}
}

static void assert_status(const char *who, unsigned int status)
{
	assert_int_equal(get_number(payload_of(assert_ok(ask_about("State", who))), 4, 0), status);
}

/* containerd's numbers. */
static void states_by_number(void **state)
{
	const struct ask *pause;

	(void)state;
	with_private_pids("c");
	created("c");
	assert_status("c", 1);
	assert_ok(ask_about("Start", "c"));
	assert_status("c", 2);
	gate_close("pause");
	pause = ask_about("Pause", "c");
	until(called("pause"));
	assert_status("c", 5);
	gate_open("pause");
	assert_ok(pause);
	assert_status("c", 4);
	assert_ok(ask_about("Resume", "c"));
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_status("c", 3);
}

/* Somebody with that pid has ended before this launch began: he is not who was launched. */
static void exit_of_a_former_owner(void **state)
{
	char words[32], message[300];
	const struct ask *first;
	pid_t pid;

	(void)state;
	gate_close("create");
	first = ask_create("a");
	until(called("create"));
	assert_int_equal(rename(in_tmp("create.gate"), in_tmp("first.gate")), 0);
	pid = fork();
	if (pid == 0)
		_exit(7);
	until(stashed == 1);
	snprintf(words, sizeof(words), "pid=%d", (int)pid);
	runtime_says(words);
	snprintf(message, sizeof(message), "%s names pid %d, which is not a child of the shim",
		 in_tmp("b/init.pid"), (int)pid);
	assert_error(ask_create("b"), CODE_UNKNOWN, message);
	runtime_says("");
	until(gate_try("first"));
	assert_ok(first);
}

/* An exit that is held back, since its container is just being paused, has not been for State. */
static void exit_held_back(void **state)
{
	struct view r;
	const struct ask *pause;

	(void)state;
	with_private_pids("c");
	started("c");
	gate_close("pause");
	pause = ask_about("Pause", "c");
	until(called("pause"));
	end_process(the_init("c"), SIGKILL);
	until(the_init("c")->exited);
	r = payload_of(assert_ok(ask_about("State", "c")));
	assert_int_equal(get_number(r, 9, 0), 0);
	assert_int_equal((int64_t)get_number(get_bytes(r, 10), 1, 0), SENTINEL_SECONDS);
	gate_open("pause");
	await(pause);
	until(the_init("c")->told);
	r = payload_of(assert_ok(ask_about("State", "c")));
	assert_int_equal(get_number(r, 9, 0), 137);
	assert_true((int64_t)get_number(get_bytes(r, 10), 1, 0) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DAEMON_TEST(every_event),
		DAEMON_TEST(rootfs_in_the_event),
		DAEMON_TEST(exec_without_a_reader),
		DAEMON_TEST(exit_before_waits),
		DAEMON_TEST(exec_ids),
		DAEMON_TEST(sizes_of_terminals),
		DAEMON_TEST(states_by_number),
		DAEMON_TEST(exit_of_a_former_owner),
		DAEMON_TEST(exit_held_back),
	};

	close_others();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
