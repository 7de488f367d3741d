// SPDX-License-Identifier: Apache-2.0
/*
 * The Task service's tests (task.c, life.c): requests that are none, what each method does with the
 * runtime, and how they stand in each other's way, or do not.
 */
#include "daemon.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/time.h>

/* ---- requests that are none ---- */

static struct ask *ask_service(const char *service, const char *method, struct view payload)
{
	struct ask *a = ask_new(client, method);
	char buf[1024];

	assert_true(peer_send(&clients[client].peer, buf,
			      put_request(buf, a->stream, service, method, payload)));
	return a;
}

static void services_and_methods(void **state)
{
	(void)state;
	/* containerd falls back to v2 on this code, for a service that is not there. */
	assert_error(ask_service("containerd.task.v4.Task", "State", (struct view){0}),
		     CODE_UNIMPLEMENTED, "service containerd.task.v4.Task");
	assert_error(ask_service("containerd.runtime.sandbox.v1.Sandbox", "Ping", (struct view){0}),
		     CODE_UNIMPLEMENTED, "service containerd.runtime.sandbox.v1.Sandbox");
	assert_error(ask_service("", "State", (struct view){0}), CODE_UNIMPLEMENTED, "service ");
	assert_error(ask_service("containerd.task.v2.Task", "Nonsense", (struct view){0}),
		     CODE_UNIMPLEMENTED, "method Nonsense");
	assert_error(ask_service("containerd.task.v3.Task", "", (struct view){0}),
		     CODE_UNIMPLEMENTED, "method ");
	assert_error(ask_service("containerd.task.v3.Task", "state", (struct view){0}),
		     CODE_UNIMPLEMENTED, "method state");
	for (int v = 2; v <= 3; v++) {
		char service[64];
		const struct ask *a;

		snprintf(service, sizeof(service), "containerd.task.v%d.Task", v);
		a = assert_ok(ask_service(service, "Connect", VIEW("\x0a\x01x")));
		assert_int_equal(get_number(payload_of(a), 1, 0), getpid());
		assert_int_equal(get_number(payload_of(a), 2, 0), 0);
	}
}

/* A name that is cut is still text. */
static void long_names(void **state)
{
	char name[600];

	(void)state;
	for (size_t lead = 0; lead < 3; lead++) {
		const struct ask *a;

		memset(name, 'x', lead);
		for (size_t i = lead; i + 3 < sizeof(name); i += 3)
			memcpy(name + i, "\xe2\x82\xac", 4);
		a = await(ask_service(name, "State", (struct view){0}));
		assert_int_equal(a->code, CODE_UNIMPLEMENTED);
		assert_true(utf8_valid(view_of(a->message)));
		a = await(ask_service("containerd.task.v2.Task", name, (struct view){0}));
		assert_true(utf8_valid(view_of(a->message)));
	}
}

static const char *const methods[] = {"State",     "Create",  "Start",      "Delete", "Pids",
				      "Pause",     "Resume",  "Checkpoint", "Kill",   "Exec",
				      "ResizePty", "CloseIO", "Update",     "Wait",   "Stats",
				      "Connect",   "Shutdown"};

static void undecodable(void **state)
{
	static const struct view bad[] = {{"\x0a\x05x", 3}, {"\xff", 1}, {"\x0a\x01\xff", 3}};

	(void)state;
	for (size_t i = 0; i < COUNT(methods); i++)
		for (size_t k = 0; k < COUNT(bad); k++)
			assert_error(
				ask(methods[i], bad[k].at, bad[k].len), CODE_INTERNAL,
				"ttrpc: error unmarshalling payload: proto: cannot parse invalid "
				"wire-format data");
	assert_int_equal(ops_count(), 0);
	assert_false(task_shutdown);
}

static void over_before_it_began(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(methods); i++)
		assert_error(ask_within(-1, methods[i], "\x0a\x01x", 3), CODE_DEADLINE_EXCEEDED,
			     "context deadline exceeded");
	assert_int_equal(container_count(), 0);
	assert_false(task_shutdown);
}

static void shutdown_when_empty(void **state)
{
	(void)state;
	created("c");
	assert_ok(ask_about("Shutdown", "c"));
	assert_false(task_shutdown);
	assert_ok(ask_about("State", "c"));
	assert_ok(ask_about("Start", "c"));
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_ok(ask_about("Shutdown", "c"));
	assert_false(task_shutdown); /* exited, but not deleted yet */
	assert_ok(ask_about("Delete", "c"));
	assert_ok(ask_about("Shutdown", "any"));
	assert_true(task_shutdown);
	assert_int_equal(access(in_tmp("socket"), F_OK), -1); /* nobody new finds it */
}

/* ---- answers ---- */

static void state_fields(void **state)
{
	const struct ask *a;
	struct view s;

	(void)state;
	started("c");
	s = payload_of(assert_ok(ask_about("State", "c")));
	assert_view(get_bytes(s, 1), "c");
	assert_view(get_bytes(s, 2), in_tmp("c"));
	assert_int_equal(get_number(s, 3, 0), the_init("c")->pid);
	assert_int_equal(get_number(s, 4, 0), 2);
	assert_int_equal(get_number(s, 8, 0), 0);
	assert_int_equal(get_number(s, 9, 0), 0);
	assert_true((int64_t)get_number(get_bytes(s, 10), 1, 0) == SENTINEL_SECONDS);
	assert_ok(ask_exec("c/x"));
	s = payload_of(assert_ok(ask_about("State", "c/x")));
	assert_view(get_bytes(s, 1), "x");
	assert_int_equal(get_number(s, 3, 0), 0);
	assert_int_equal(get_number(s, 4, 0), 1);
	a = assert_ok(ask_about("Connect", "c"));
	assert_int_equal(get_number(payload_of(a), 2, 0), the_init("c")->pid);
	end_process(the_init("c"), SIGTERM);
	assert_ok(ask_about("Wait", "c"));
	s = payload_of(assert_ok(ask_about("State", "c")));
	assert_int_equal(get_number(s, 4, 0), 3);
	assert_int_equal(get_number(s, 9, 0), 143);
	assert_true((int64_t)get_number(get_bytes(s, 10), 1, 0) > 1700000000);
	/* The pid stays, so that a daemon that comes back does not take it for leaked. */
	assert_int_equal(get_number(s, 3, 0), the_init("c")->pid);
	assert_int_equal(get_number(get_bytes(payload_of(assert_ok(ask_about("Pids", "c"))), 1), 1,
				    0),
			 the_init("c")->pid);
}

/* ---- what a container is made with ---- */

static void options_for_the_runtime(void **state)
{
	char options[128], line[512];
	size_t n = put_number(options, 1, 1); /* no_pivot_root, no_new_keyring, systemd_cgroup */
	const struct ask *answer;

	(void)state;
	n += put_number(options + n, 2, 1);
	n += put_number(options + n, 9, 1);
	assert_ok(ask_create_with(0, "c", (struct streams){0}, (struct view){options, n}));
	snprintf(line, sizeof(line),
		 "create --pid-file %s/init.pid --no-pivot --no-new-keyring --bundle %s c",
		 in_tmp("c"), in_tmp("c"));
	assert_int_equal(call_count(line), 1);
	assert_non_null(strstr(file_text("c/options.json"), "\"no_new_keyring\":true"));
	/* A root that cannot pivot has the same effect, for each. */
	self.no_pivot = true;
	created("d");
	self.no_pivot = false;
	snprintf(line, sizeof(line), "create --pid-file %s/init.pid --no-pivot --bundle %s d",
		 in_tmp("d"), in_tmp("d"));
	assert_int_equal(call_count(line), 1);
	n = put_bytes(options, 6, VIEW("/no/such/runtime"));
	answer = await(ask_create_with(0, "e", (struct streams){0}, (struct view){options, n}));
	assert_int_equal(answer->code, CODE_UNKNOWN);
	if (!EMULATED())
		assert_non_null(strstr(answer->message,
				       "fork/exec /no/such/runtime: no such file or directory"));
}

static void options_refused(void **state)
{
	char buf[512];
	size_t n = put_create(buf, "c", in_tmp("c"), (struct streams){0});

	(void)state;
	n += put_any(buf + n, 10, "whatever", (struct view){0});
	assert_error(ask("Create", buf, n), CODE_INVALID_ARGUMENT,
		     "options of type whatever: invalid argument");
	assert_int_equal(container_count(), 0);
	assert_false(called("create"));
}

/* Nobody reads its output: half a minute is given to whoever may come. */
static void nobody_reads(void **state)
{
	char expected[512];
	struct ask *create;

	(void)state;
	assert_int_equal(mkfifo(in_tmp("out"), 0600), 0);
	create = ask_create_with(0, "c", (struct streams){.out = in_tmp("out")}, (struct view){0});
	until(was_called("create", create_step));
	advance(29000);
	for (int i = 0; i < 5; i++)
		one_turn();
	assert_false(create->answered);
	advance(2000);
	snprintf(expected, sizeof(expected),
		 "failed to start io pipe copy: unable to copy pipes: containerd-shim: opening w/o "
		 "fifo "
		 "\"%s\" failed: context deadline exceeded",
		 in_tmp("out"));
	assert_error(create, CODE_UNKNOWN, expected);
	assert_int_equal(call_count("delete --force c"), 1);
	assert_int_equal(container_count(), 0);
	/* Or less, if the client has said so. */
	create = ask_create_with(1000, "c", (struct streams){.out = in_tmp("out")},
				 (struct view){0});
	until(call_count("delete --force c") == 1 && ops_count() == 1 && ops[0].run.pid == 0);
	advance(1500);
	assert_error(create, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_int_equal(container_count(), 0);
}

static void somebody_reads_later(void **state)
{
	struct ask *create;
	int reader;

	(void)state;
	assert_int_equal(mkfifo(in_tmp("out"), 0600), 0);
	runtime_says("now=1 out=1 run=1000000000");
	create = ask_create_with(0, "c", (struct streams){.out = in_tmp("out")}, (struct view){0});
	until(was_called("create", create_step));
	assert_false(create->answered);
	reader = open(in_tmp("out"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	until((advance(10), create->answered));
	assert_ok(create);
	{
		char buf[128] = "";

		until(read(reader, buf, sizeof(buf) - 1) > 0);
		assert_string_equal(buf, "0123456789abcdefghijklmnopqrstuvwxyz"
					 "ABCDEFGHIJKLMNOPQRSTUVWXYZ-\n");
	}
	close(reader);
}

/* What a container has written is waited for, when it is deleted - but not for ever. */
static void delete_drains(void **state)
{
	for (int patient = 0; patient < 2; patient++) {
		char id[4] = {'c', (char)('0' + patient), '\0'};
		int reader, holder;
		struct ask *delete;

		(void)state;
		with_private_pids(id);
		unlink(in_tmp("out"));
		assert_int_equal(mkfifo(in_tmp("out"), 0600), 0);
		reader = open(in_tmp("out"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		assert_ok(ask_create_with(0, id, (struct streams){.out = in_tmp("out")},
					  (struct view){0}));
		assert_ok(ask_about("Start", id));
		{
			char path[64];

			/* Somebody else has the stream, too. */
			snprintf(path, sizeof(path), "/proc/%d/fd/1", (int)the_init(id)->pid);
			holder = open(path, O_WRONLY | O_CLOEXEC);
			assert_true(holder >= 0);
		}
		end_process(the_init(id), SIGKILL);
		assert_ok(ask_about("Wait", id));
		delete = ask_about("Delete", id);
		for (int i = 0; i < 5; i++)
			one_turn();
		assert_false(delete->answered);
		if (patient) {
			assert_int_equal(write(holder, "late", 4), 4);
			close(holder);
			holder = -1;
		} else {
			advance(10001);
		}
		assert_ok(delete);
		if (patient) {
			char buf[8] = "";

			assert_int_equal(read(reader, buf, sizeof(buf)), 4);
			assert_string_equal(buf, "late");
		}
		close(reader);
		if (holder >= 0)
			close(holder);
	}
}

/* A logging binary gets ready before the runtime runs; at the end it is asked to go, and given time. */
static void logging_binary(void **state)
{
	for (int stubborn = 0; stubborn < 2; stubborn++) {
		char id[4] = {'c', (char)('0' + stubborn), '\0'}, url[300], script[300];
		struct ask *create, *delete;

		(void)state;
		with_private_pids(id);
		snprintf(script, sizeof(script),
			 "#!/bin/sh\n%s\nread x <%s\necho >&5\nexec 5>&-\n%s\n",
			 stubborn ? "trap '' TERM" : "", in_tmp("ready.gate"),
			 stubborn ? "exec sleep 1000" : "cat <&3 >/dev/null");
		make_file("logger", script, 0755);
		gate_close("ready");
		snprintf(url, sizeof(url), "binary://%s", in_tmp("logger"));
		make_file("calls", "", 0644);
		create = ask_create_with(0, id, (struct streams){.out = url}, (struct view){0});
		for (int i = 0; i < 5; i++)
			one_turn();
		assert_false(called("create"));
		gate_open("ready");
		assert_ok(create);
		assert_ok(ask_about("Start", id));
		end_process(the_init(id), SIGKILL);
		assert_ok(ask_about("Wait", id));
		delete = ask_about("Delete", id);
		if (stubborn) {
			until(the_init(id)->io.logger > 0 && call_count("delete c1") == 1 &&
			      ops_count() == 1 && ops[0].run.pid == 0);
			advance(11000);
			one_turn();
			assert_false(delete->answered);
			advance(1500);
		}
		assert_ok(delete);
		assert_int_equal(container_count(), 0);
	}
}

/* One that does not get ready is not waited for longer than the client wants. */
static void logging_binary_not_ready(void **state)
{
	char url[300];
	struct ask *create;

	(void)state;
	make_file("logger", "#!/bin/sh\nexec sleep 1000\n", 0755);
	snprintf(url, sizeof(url), "binary://%s", in_tmp("logger"));
	create = ask_create_with(3000, "c", (struct streams){.out = url}, (struct view){0});
	until(ops_count() == 1);
	advance(4000);
	assert_error(create, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_false(called("create"));
	assert_false(called("delete"));
	assert_int_equal(container_count(), 0);
	make_file("logger", "#!/bin/sh\nexit 1\n", 0755);
	snprintf(url, sizeof(url), "binary-v2://%s", in_tmp("logger"));
	assert_error(
		ask_create_with(0, "c", (struct streams){.out = url}, (struct view){0}),
		CODE_UNKNOWN,
		"failed to create init process I/O: logging binary did not call ready (it may have "
		"crashed or exited prematurely)");
}

/* A runtime that does not hand over the terminal it was to make. */
static void terminal_missing(void **state)
{
	const struct ask *a;

	(void)state;
	runtime_says("console=none");
	a = await(ask_create_with(0, "c", (struct streams){.terminal = true, .out = in_tmp("out")},
				  (struct view){0}));
	assert_int_equal(a->code, CODE_UNKNOWN);
	assert_non_null(strstr(a->message, "failed to retrieve console master: "));
	assert_non_null(strstr(calls(), "create --console-socket /tmp/"));
	assert_int_equal(call_count("delete --force c"), 1);
	assert_int_equal(container_count(), 0);
}

static void stats_without_cgroup(void **state)
{
	(void)state;
	started("c");
	assert_error(ask_about("Stats", "c"), CODE_NOT_FOUND, "cgroup does not exist: not found");
}

/* Metrics of any length: of more than a page, too. */
static void stats_of_many_devices(void **state)
{
	static const char *const dirs[] = {"sys", "sys/fs", "sys/fs/cgroup", "sys/fs/cgroup/k"};
	static char table[65536];
	struct text t = TEXT(table);
	size_t lengths[2];

	(void)state;
	started("c");
	the_container("c")->cgroup = "/k";
	for (size_t i = 0; i < COUNT(dirs); i++)
		assert_int_equal(mkdir(in_tmp(dirs[i]), 0755), 0);
	for (unsigned int round = 0; round < 2; round++) {
		const struct ask *a;

		for (unsigned int minor = 0; minor < (round ? 999 : 1); minor++)
			text_printf(&t, "8:%u rbytes=1 wbytes=2 rios=3 wios=4\n", minor);
		make_file("sys/fs/cgroup/k/io.stat", table, 0644);
		a = await(ask_about("Stats", "c"));
		assert_int_equal(a->code, 0);
		lengths[round] = a->len;
	}
	/* Major, minor and four numbers of one byte each, of which none is left out but minor 0. */
	assert_true(lengths[1] > lengths[0] + 998 * 2 * 6);
	the_container("c")->cgroup = NULL;
}

/* ---- Start, Delete ---- */

static void start_out_of_time(void **state)
{
	struct ask *start;

	(void)state;
	created("c");
	gate_close("start");
	start = ask_about_within(2000, "Start", "c");
	until(called("start"));
	advance(3000);
	assert_error(start, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_int_equal(the_init("c")->state, STATE_CREATED);
	assert_int_equal(the_init("c")->busy, 0);
	gate_remove("start");
	assert_ok(ask_about("Start", "c"));
}

/* One that waits for its turn is not stuck behind one that hangs. */
static void waiting_out_of_time(void **state)
{
	struct ask *start, *impatient, *patient;

	(void)state;
	created("c");
	gate_close("start");
	start = ask_about("Start", "c");
	impatient = ask_about_within(1000, "Start", "c");
	patient = ask_about("Pause", "c");
	until(called("start"));
	advance(2000);
	assert_error(impatient, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_false(start->answered);
	assert_false(patient->answered);
	gate_open("start");
	assert_ok(start);
	assert_ok(patient);
	assert_int_equal(the_init("c")->state, STATE_PAUSED);
}

static void delete_out_of_time(void **state)
{
	struct ask *delete;

	(void)state;
	with_private_pids("c");
	started("c");
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	gate_close("delete");
	delete = ask_about_within(2000, "Delete", "c");
	until(called("delete"));
	advance(3000);
	assert_error(delete, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_non_null(the_container("c"));
	gate_remove("delete");
	assert_ok(ask_about("Delete", "c"));
	assert_int_equal(container_count(), 0);
}

/* The runtime has forgotten it: that is what was wanted. */
static void delete_of_what_is_gone(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	runtime_fails("delete", "container c does not exist");
	assert_ok(ask_about("Delete", "c"));
	assert_int_equal(container_count(), 0);
}

/* Its words are unknown to us, but where it kept the container's state there is none any more. */
static void delete_of_what_left_no_state(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_int_equal(unlink(in_tmp("root/ns/c")), 0);
	runtime_fails("delete", "never heard of it");
	assert_ok(ask_about("Delete", "c"));
	assert_int_equal(container_count(), 0);
}

/* A runtime that keeps its state elsewhere: nothing being there proves nothing. */
static void delete_fails_in_another_runtime(void **state)
{
	(void)state;
	runtime_says("state=elsewhere");
	with_private_pids("c");
	started("c");
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	runtime_fails("delete", "not now");
	assert_error(ask_about("Delete", "c"), CODE_UNKNOWN, "failed to delete task: not now");
	assert_int_equal(container_count(), 1);
	runtime_works("delete");
	assert_ok(ask_about("Delete", "c"));
}

/* Its files do not take the place of those of the container's init. */
static void exec_called_init(void **state)
{
	pid_t init;

	(void)state;
	with_private_pids("c");
	started("c");
	init = the_init("c")->pid;
	assert_ok(ask_exec("c/init"));
	assert_ok(ask_about("Start", "c/init"));
	assert_int_equal(pid_file_read(in_tmp("c/init.pid")), init);
	assert_ok(ask_kill("c/init", SIGKILL, false));
	assert_ok(ask_about("Wait", "c/init"));
	assert_ok(ask_about("Delete", "c/init"));
	assert_int_equal(pid_file_read(in_tmp("c/init.pid")), init);
	assert_int_equal(access(in_tmp("c/.init.pid"), F_OK), -1);
}

/* Two at once: the second one finds nothing any more. */
static void delete_twice(void **state)
{
	struct ask *first, *second;

	(void)state;
	with_private_pids("c");
	started("c");
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	first = ask_about("Delete", "c");
	second = ask_about("Delete", "c");
	assert_ok(first);
	assert_error(second, CODE_NOT_FOUND, "cannot delete a deleted process: not found");
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exit c c 137;delete c 137;");
}

/* Containers do not wait for each other. */
static void others_go_on(void **state)
{
	struct ask *start;

	(void)state;
	created("c");
	created("d");
	gate_close("start");
	start = ask_about("Start", "c");
	until(called("start"));
	assert_ok(ask_about("State", "c"));
	assert_ok(ask_about("State", "d"));
	assert_ok(ask_about("Pids", "c"));
	assert_ok(ask_about("Connect", "c"));
	runtime_says("kill.skip=1"); /* an init that is dead cannot be started */
	assert_ok(ask_kill("c", 15, false));
	with_private_pids("e");
	created("e");
	assert_ok(ask_about("Delete", "e"));
	assert_false(start->answered);
	gate_open("start");
	assert_ok(start);
}

/* More requests than there is room for. */
static void too_many_requests(void **state)
{
	struct ask *starts[OP_MAX], *last;
	unsigned int refused = 0;

	(void)state;
	created("c");
	gate_close("start");
	for (int i = 0; i < OP_MAX; i++) {
		starts[i] = ask_about("Start", "c");
		if (i % 8 == 0)
			one_turn();
	}
	last = ask_about("State", "c");
	assert_error(last, CODE_RESOURCE_EXHAUSTED, "too many requests in one shim");
	gate_open("start");
	assert_ok(starts[0]);
	for (int i = 1; i < OP_MAX; i++) {
		assert_error(starts[i], CODE_UNKNOWN, "cannot start a running process");
		refused++;
	}
	assert_int_equal(refused, OP_MAX - 1);
	assert_ok(ask_about("State", "c"));
	assert_int_equal(call_count("start c"), 1);
}

/* A client that goes: its requests are brought to their end all the same. */
static void client_goes(void **state)
{
	(void)state;
	created("c");
	gate_close("start");
	ask_about("Start", "c");
	until(called("start"));
	client_close(CLIENT_A);
	one_turn();
	one_turn();
	client_connect(CLIENT_A); /* which is not told what the former one asked */
	gate_open("start");
	until(ops_count() == 0);
	assert_int_equal(the_init("c")->state, STATE_RUNNING);
	assert_ok(ask_about("State", "c"));
}

/* ---- Exec ---- */

static void exec_specs(void **state)
{
	static const struct {
		const char *spec, *written, *with_terminal;
	} cases[] = {
		{"{}", "{\"terminal\":false}", "{\"terminal\":true}"},
		{"{\"args\":[\"a\"]}", "{\"terminal\":false,\"args\":[\"a\"]}",
		 "{\"terminal\":true,\"args\":[\"a\"]}"},
		{"{\"terminal\":true,\"args\":[]}", "{\"terminal\":false,\"args\":[]}",
		 "{\"terminal\":true,\"args\":[]}"},
		{"{\"args\":[\"terminal\",\"true\"],\"terminal\" : false}",
		 "{\"args\":[\"terminal\",\"true\"],\"terminal\" : false}",
		 "{\"args\":[\"terminal\",\"true\"],\"terminal\" : true}"},
		{"{\"user\":{\"terminal\":true}}",
		 "{\"terminal\":false,\"user\":{\"terminal\":true}}",
		 "{\"terminal\":true,\"user\":{\"terminal\":true}}"},
		{" \n{ \"cwd\" : \"/\" }\n", "{\"terminal\":false, \"cwd\" : \"/\" }",
		 "{\"terminal\":true, \"cwd\" : \"/\" }"},
		{"{\"env\":[\"\xc3\xbc=\\u00fc\"]}",
		 "{\"terminal\":false,\"env\":[\"\xc3\xbc=\\u00fc\"]}",
		 "{\"terminal\":true,\"env\":[\"\xc3\xbc=\\u00fc\"]}"},
	};

	(void)state;
	started("c");
	for (size_t i = 0; i < COUNT(cases); i++)
		for (unsigned int terminal = 0; terminal < 2; terminal++) {
			char buf[512];
			struct stat st;

			assert_ok(
				ask("Exec", buf,
				    put_exec(buf, "c", "x", (struct streams){.terminal = terminal},
					     cases[i].spec)));
			assert_int_equal(stat(in_tmp("c/.x.json"), &st), 0);
			assert_int_equal(st.st_mode & 0777, 0600);
			assert_string_equal(file_text("c/.x.json"),
					    terminal ? cases[i].with_terminal : cases[i].written);
			assert_ok(ask_about("Delete", "c/x"));
			assert_int_equal(access(in_tmp("c/.x.json"), F_OK), -1);
		}
}

static void exec_specs_refused(void **state)
{
	static const char *const specs[] = {"", "x", "[]", "{", "null", "7"};

	(void)state;
	started("c");
	for (size_t i = 0; i < COUNT(specs); i++) {
		char buf[256];
		const struct ask *a = await(
			ask("Exec", buf, put_exec(buf, "c", "x", (struct streams){0}, specs[i])));

		if (a->code == 0)
			print_error("taken: %s\n", specs[i]);
		assert_int_equal(a->code, CODE_UNKNOWN);
		assert_null(the_exec("c", "x"));
	}
}

static void exec_spec_in_quotes(void **state)
{
	char buf[256];

	(void)state;
	started("c");
	assert_int_equal(
		await(ask("Exec", buf, put_exec(buf, "c", "x", (struct streams){0}, "\"{}\"")))
			->code,
		CODE_UNKNOWN);
}

/* Its start fails: whoever waits is told, and it can be tried again, or deleted. */
static void exec_fails(void **state)
{
	struct ask *wait;
	struct view r;

	(void)state;
	started("c");
	assert_ok(ask_exec("c/x"));
	wait = ask_about("Wait", "c/x");
	runtime_fails("exec", "executable file not found in $PATH");
	assert_error(ask_about("Start", "c/x"), CODE_UNKNOWN,
		     "OCI runtime exec failed: executable file not found in $PATH");
	r = payload_of(assert_ok(wait));
	assert_int_equal(get_number(r, 1, 0), 0);
	assert_true((int64_t)get_number(get_bytes(r, 2), 1, 0) == SENTINEL_SECONDS);
	assert_ok(ask_about("Wait", "c/x"));
	assert_error(ask_kill("c/x", 9, false), CODE_FAILED_PRECONDITION,
		     "process not created: failed precondition");
	runtime_works("exec");
	assert_ok(ask_about("Start", "c/x"));
	end_process(the_exec("c", "x"), SIGTERM);
	assert_int_equal(get_number(payload_of(assert_ok(ask_about("Wait", "c/x"))), 1, 0), 143);
	assert_ok(ask_about("Delete", "c/x"));
	assert_ok(ask_exec("c/y"));
	runtime_fails("exec", "no");
	await(ask_about("Start", "c/y"));
	assert_ok(ask_about("Delete", "c/y"));
	assert_null(the_exec("c", "y"));
	until(event_idle());
	assert_string_equal(event_log,
			    "create c;start c;exec-added c x;exec-started c x;exit c x 143;"
			    "exec-added c y;");
}

static void exec_out_of_time(void **state)
{
	struct ask *start;

	(void)state;
	started("c");
	assert_ok(ask_exec("c/x"));
	gate_close("exec");
	start = ask_about_within(1000, "Start", "c/x");
	until(called("exec"));
	advance(2000);
	assert_error(start, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_int_equal(the_exec("c", "x")->state, STATE_CREATED);
	gate_remove("exec");
	assert_ok(ask_about("Start", "c/x"));
}

/* Nothing of an exec stays in the bundle: neither its pid nor its description, which may be secret. */
static void exec_leaves_no_files(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_exec("c/y"));
	assert_ok(ask_about("Start", "c/x"));
	assert_int_equal(access(in_tmp("c/.x.json"), F_OK), -1); /* the runtime has read it */
	assert_int_equal(access(in_tmp("c/x.pid"), F_OK), -1);   /* and the shim that */
	end_process(the_exec("c", "x"), SIGKILL);
	assert_ok(ask_about("Wait", "c/x"));
	assert_ok(ask_about("Delete", "c/x"));
	/* Also of those that are never deleted. */
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_ok(ask_about("Delete", "c"));
	assert_int_equal(access(in_tmp("c/.y.json"), F_OK), -1);
	assert_int_equal(access(in_tmp("c/y.pid"), F_OK), -1);
}

/* ---- Kill ---- */

/* What the runtime says decides what the client is told: contract 3.6. */
static void kill_errors(void **state)
{
	static const struct {
		const char *said;
		unsigned int code;
		const char *message;
	} cases[] = {
		{"os: process already finished", CODE_NOT_FOUND,
		 "process already finished: not found"},
		{"container not running", CODE_NOT_FOUND, "process already finished: not found"},
		{"kill: No such process", CODE_NOT_FOUND, "process already finished: not found"},
		{"NO SUCH PROCESS", CODE_NOT_FOUND, "process already finished: not found"},
		{"container c does not exist", CODE_NOT_FOUND, "no such container: not found"},
		{"bad luck", CODE_UNKNOWN, NULL},
	};

	(void)state;
	started("c");
	for (size_t i = 0; i < COUNT(cases); i++) {
		char expected[512];

		make_file("kill.fail", cases[i].said, 0644);
		snprintf(expected, sizeof(expected),
			 "unknown error after kill: %s did not terminate successfully: exit status "
			 "1: %s",
			 self.runtime, cases[i].said);
		assert_error(ask_kill("c", 9, false), cases[i].code,
			     cases[i].message ? cases[i].message : expected);
	}
	runtime_works("kill");
	runtime_says("kill.skip=1");
	assert_ok(ask_kill("c", 10, false));
	assert_ok(ask_kill("c", 37, true));
	assert_int_equal(call_count("kill c 10"), 1);
	assert_int_equal(call_count("kill --all c 37"), 1);
}

/* After its exit: nothing to do, but for what it may have left behind. */
static void kill_after_exit(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_error(ask_kill("c", 9, false), CODE_NOT_FOUND,
		     "process already finished: not found");
	assert_false(called("kill"));
	assert_error(ask_kill("c", 9, true), CODE_NOT_FOUND, "process already finished: not found");
	assert_int_equal(call_count("kill --all c 9"), 1);
}

static void kill_of_exec(void **state)
{
	(void)state;
	started("c");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_about("Start", "c/x"));
	assert_ok(ask_kill("c/x", 0, false));
	assert_int_equal(await(ask_kill("c/x", 4711, false))->code, CODE_UNKNOWN);
	assert_false(called("kill"));
	assert_ok(ask_kill("c/x", 9, true)); /* `all` means nothing here */
	assert_int_equal(get_number(payload_of(assert_ok(ask_about("Wait", "c/x"))), 1, 0), 137);
	assert_error(ask_kill("c/x", 9, false), CODE_NOT_FOUND,
		     "process already finished: not found");
	assert_false(the_init("c")->exited);
}

/* The container goes while the runtime is at it. */
static void kill_while_deleted(void **state)
{
	struct ask *killed;

	(void)state;
	with_private_pids("c");
	started("c");
	gate_close("kill");
	killed = ask_kill("c", 9, false);
	until(called("kill"));
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_ok(ask_about("Delete", "c"));
	assert_int_equal(container_count(), 0);
	gate_open("kill");
	assert_error(killed, CODE_NOT_FOUND, "process already finished: not found");
}

/* ---- Pause, Update, Checkpoint ---- */

static void pause_and_resume(void **state)
{
	(void)state;
	started("c");
	assert_ok(ask_about("Pause", "c"));
	assert_ok(ask_about("Resume", "c"));
	assert_ok(ask_about("Pause", "c"));
	assert_ok(ask_about("Resume", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;paused c;resumed c;paused c;resumed c;");
}

static void update(void **state)
{
	static const char resources[] = "{\"cpu\":{\"shares\":7}}";
	char buf[512];
	size_t n = put_update(buf, "c", resources);
	const struct ask *a;

	(void)state;
	started("c");
	assert_ok(ask("Update", buf, n));
	assert_string_equal(file_text("update.in"), resources);
	assert_int_equal(call_count("update --resources=- c"), 1);
	make_file("update.fail", "no such limit", 0644);
	a = await(ask("Update", buf, n));
	assert_int_equal(a->code, CODE_UNKNOWN);
	assert_non_null(
		strstr(a->message,
		       "/runtime did not terminate successfully: exit status 1: no such limit"));
	assert_int_equal(strncmp(a->message, "/tmp/", 5), 0);
}

static void checkpoint(void **state)
{
	char buf[512], options[300];
	size_t n, len;
	const struct ask *a;
	char line[512];

	(void)state;
	started("c");
	runtime_says("checkpoint.skip=1");
	n = put_who(buf, "c", "/image"); /* its path is where others have an exec's id */
	assert_ok(ask("Checkpoint", buf, n));
	snprintf(line, sizeof(line),
		 "checkpoint --image-path /image --work-path %s/work/criu-work --leave-running c",
		 in_tmp("c"));
	assert_int_equal(call_count(line), 1);
	/* Everything there is. */
	len = put_number(options, 1, 1);
	for (unsigned int tag = 2; tag <= 5; tag++)
		len += put_number(options + len, tag, 1);
	len += put_bytes(options + len, 6, VIEW("network"));
	len += put_bytes(options + len, 6, VIEW("ipc"));
	len += put_bytes(options + len, 9, view_of(in_tmp("w")));
	len += put_bytes(options + len, 10, VIEW("/parent"));
	n += put_any(buf + n, 3, NULL, (struct view){options, len});
	assert_ok(ask("Checkpoint", buf, n));
	snprintf(line, sizeof(line),
		 "checkpoint --image-path /image --work-path %s --parent-path /parent "
		 "--tcp-established "
		 "--ext-unix-sk --shell-job --file-locks --empty-ns network --empty-ns ipc c",
		 in_tmp("w"));
	assert_int_equal(call_count(line), 1);
	/* It fails: the first line of what it said, and where CRIU's own log is now. */
	assert_int_equal(mkdir(in_tmp("w"), 0755), 0);
	make_file("w/dump.log", "criu's log", 0644);
	make_file("checkpoint.fail", "criu failed\\nsecond line\n", 0644);
	make_file("checkpoint.fail", "first line\nsecond line\n", 0644);
	a = await(ask("Checkpoint", buf, n));
	assert_int_equal(a->code, CODE_UNKNOWN);
	snprintf(line, sizeof(line),
		 "%s did not terminate successfully: exit status 1: first line path= "
		 "%s/criu-dump.log",
		 self.runtime, in_tmp("c"));
	assert_string_equal(a->message, line);
	assert_string_equal(file_text("c/criu-dump.log"), "criu's log");
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;"); /* no event for it */
}

static void checkpoint_path_too_long(void **state)
{
	static char path[20001], buf[21000];
	const struct ask *a;

	(void)state;
	started("c");
	memset(path, 'p', sizeof(path) - 1);
	a = await(ask("Checkpoint", buf, put_who(buf, "c", path)));
	assert_int_equal(a->code, CODE_UNKNOWN);
	assert_non_null(strstr(a->message, "file name too long"));
	assert_false(called("checkpoint"));
}

/* ---- restored from a checkpoint ---- */

static void restore(void **state)
{
	char buf[1024], line[600];
	size_t n = put_create(buf, "c", in_tmp("c"), (struct streams){0});
	char options[300];
	struct view r;

	(void)state;
	with_private_pids("c");
	n += put_image(buf + n, "/image");
	n += put_options(buf + n, (struct view){options, put_text(options, 7, in_tmp("root"))});
	r = payload_of(assert_ok(ask("Create", buf, n)));
	assert_int_equal(get_number(r, 1, 0), 0); /* nothing runs yet */
	assert_string_equal(calls(), "");
	r = payload_of(assert_ok(ask_about("Start", "c")));
	assert_int_equal(get_number(r, 1, 0), the_init("c")->pid);
	assert_true(the_init("c")->pid > 0);
	snprintf(line, sizeof(line),
		 "restore --image-path /image --work-path %s/work --detach --pid-file %s/init.pid "
		 "-no-subreaper "
		 "--bundle %s c",
		 in_tmp("c"), in_tmp("c"), in_tmp("c"));
	assert_int_equal(call_count(line), 1);
	end_process(the_init("c"), SIGTERM);
	assert_ok(ask_about("Wait", "c"));
	assert_ok(ask_about("Delete", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exit c c 143;delete c 143;");
}

/* ---- limits: just before them nothing happens, then at once ---- */

/* The only request there is waits for its time, or to be woken. */
static bool waits_for_time(void)
{
	return ops_count() == 1 && ops[0].run.pid == 0 && ops[0].waits == WAIT_TIME;
}

/* It is answered in `ms` from now, but not before: who looks every few milliseconds does so in the last
 * `step` of them. */
static void assert_answered_in(uint64_t ms, uint64_t step, const struct ask *asked)
{
	unsigned int phase = ops[0].phase;

	advance(ms - step);
	for (int i = 0; i < 3; i++)
		one_turn();
	assert_false(asked->answered);
	assert_int_equal(ops[0].phase, phase); /* nor does it go on to something else */
	advance(step);
	await(asked);
}

static void limit_of_readers(void **state)
{
	const struct ask *create;

	(void)state;
	assert_int_equal(mkfifo(in_tmp("out"), 0600), 0);
	create = ask_create_with(0, "c", (struct streams){.out = in_tmp("out")}, (struct view){0});
	until(called("create") && waits_for_time());
	assert_answered_in(30000, 10, create);
	assert_int_equal(create->code, CODE_UNKNOWN);
	assert_non_null(strstr(create->message, "context deadline exceeded"));
}

static void limit_of_undoing(void **state)
{
	const struct ask *create;

	(void)state;
	runtime_fails("create", "why not");
	gate_close("delete");
	create = ask_create("c");
	until(called("delete"));
	assert_answered_in(10000, 1, create);
	assert_error(create, CODE_UNKNOWN, "OCI runtime create failed: why not");
	assert_int_equal(container_count(), 0);
}

/* A runtime that hangs over what init has left behind, or over thawing it. */
static void limit_of_cleaning(void **state)
{
	for (int paused = 0; paused < 2; paused++) {
		const char *id = paused ? "d" : "c", *verb = paused ? "resume" : "kill";
		const struct ask *wait;

		(void)state;
		if (paused)
			with_private_pids(id);
		started(id);
		if (paused)
			assert_ok(ask_about("Pause", id));
		gate_close(verb);
		wait = ask_about("Wait", id);
		end_process(the_init(id), SIGKILL);
		until(called(verb));
		assert_answered_in(10000, 1, wait);
		assert_ok(wait);
	}
}

/* Somebody who is not the container has its output open. */
static void limit_of_draining(void **state)
{
	int reader, holder;
	const struct ask *delete;
	char path[64];

	(void)state;
	with_private_pids("c");
	assert_int_equal(mkfifo(in_tmp("out"), 0600), 0);
	reader = open(in_tmp("out"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_ok(
		ask_create_with(0, "c", (struct streams){.out = in_tmp("out")}, (struct view){0}));
	assert_ok(ask_about("Start", "c"));
	snprintf(path, sizeof(path), "/proc/%d/fd/1", (int)the_init("c")->pid);
	holder = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(holder >= 0);
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	delete = ask_about("Delete", "c");
	until(waits_for_time());
	assert_answered_in(10000, 1, delete);
	assert_ok(delete);
	close(reader);
	close(holder);
}

/* The runtime has deleted it, but its init goes on. */
static void limit_of_exits(void **state)
{
	const struct ask *delete;

	(void)state;
	with_private_pids("c");
	created("c");
	runtime_says("delete.skip=1");
	delete = ask_about("Delete", "c");
	until(call_count("delete c") == 1 && waits_for_time());
	assert_answered_in(10000, 1, delete);
	assert_ok(delete);
	until(event_idle());
	assert_string_equal(event_log, "create c;exit c c 137 never;delete c 0;");
}

static void limit_of_loggers(void **state)
{
	const struct ask *delete;
	char url[300];

	(void)state;
	with_private_pids("c");
	make_file("logger", "#!/bin/sh\ntrap '' TERM\nexec 5>&-\nexec sleep 1000\n", 0755);
	snprintf(url, sizeof(url), "binary://%s", in_tmp("logger"));
	assert_ok(ask_create_with(0, "c", (struct streams){.out = url}, (struct view){0}));
	assert_ok(ask_about("Start", "c"));
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	delete = ask_about("Delete", "c");
	until(call_count("delete c") == 1 && waits_for_time());
	assert_answered_in(12000, 1, delete);
	assert_ok(delete);
}

/* A rootfs that is mounted, and somebody who has a file in it open. */
static int busy_rootfs(const char *id)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/rootfs/file", id);
	fd = open(in_tmp(path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void limit_of_unmounting(void **state)
{
	static const char *const ids[] = {"c", "d", "e", "f"};

	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		skip();
	for (unsigned int i = 0; i < COUNT(ids); i++) {
		bool fails = i & 1, busy_to_the_end = i & 2; /* a Create, or a Delete */
		char line[64];
		const struct ask *asked;
		int fd;

		with_private_pids(ids[i]);
		if (fails) {
			runtime_fails("create", "why not");
			gate_close("create");
		}
		make_file("calls", "", 0644);
		asked = ask_create_mounted(ids[i], "tmpfs", "none", NULL, NULL);
		if (fails)
			until(called("create"));
		else
			assert_ok(asked);
		fd = busy_rootfs(ids[i]);
		if (fails)
			gate_open("create");
		else
			asked = ask_about("Delete", ids[i]);
		snprintf(line, sizeof(line), "delete %s%s", fails ? "--force " : "", ids[i]);
		until(call_count(line) == 1 && waits_for_time() &&
		      ops[0].timer == now + UMOUNT_RETRY_MS);
		advance(2500 - UMOUNT_RETRY_MS);
		for (int k = 0; k < 3; k++)
			one_turn();
		assert_false(asked->answered);
		if (!busy_to_the_end)
			close(fd);
		advance(UMOUNT_RETRY_MS);
		if (fails)
			assert_error(asked, CODE_UNKNOWN, "OCI runtime create failed: why not");
		else if (busy_to_the_end)
			assert_error(asked, CODE_UNKNOWN,
				     "failed rootfs umount: device or resource busy");
		else
			assert_ok(asked);
		if (busy_to_the_end)
			close(fd);
		snprintf(line, sizeof(line), "%s/rootfs", ids[i]);
		assert_int_equal(umount2(in_tmp(line), MNT_DETACH), busy_to_the_end ? 0 : -1);
		runtime_works("create");
	}
}

/* However long the runtime takes to remove what it has made: the time for the rootfs comes then. */
static void unmounting_after_a_slow_runtime(void **state)
{
	const struct ask *create;
	int fd;

	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		skip();
	runtime_fails("create", "why not");
	gate_close("create");
	gate_close("delete");
	create = ask_create_mounted("c", "tmpfs", "none", NULL, NULL);
	until(called("create"));
	fd = busy_rootfs("c");
	gate_open("create");
	until(called("delete"));
	advance(5000);
	gate_open("delete");
	until(waits_for_time());
	advance(UMOUNT_RETRY_MS);
	for (int i = 0; i < 3; i++)
		one_turn();
	assert_false(create->answered);
	close(fd);
	advance(UMOUNT_RETRY_MS);
	assert_error(create, CODE_UNKNOWN, "OCI runtime create failed: why not");
	assert_int_equal(umount2(in_tmp("c/rootfs"), MNT_DETACH), -1);
}

/* Time while the daemon sleeps: it passes up to just before its end, and then to its end. */
static unsigned int ticks;
static bool acknowledged; /* by containerd, at the first tick */

static void tick(int signal)
{
	const struct itimerval soon = {{0, 0}, {0, 50000}};

	(void)signal;
	if (ticks++ > 0) {
		test_clock_ms += ticks == 2 ? 1 : 1000000;
		alarm((unsigned int)(guard_ms() / 1000));
		return;
	}
	test_clock_ms += 5000 - 1;
	if (acknowledged) {
		events_mode = EVENTS_TAKEN;
		containerd_turn();
	}
	setitimer(ITIMER_REAL, &soon, NULL);
}

/* The daemon ends: what is due still goes out, but containerd is not waited for for ever. */
static void limit_of_flushing(void **state)
{
	const struct itimerval soon = {{0, 0}, {0, 50000}};
	struct sigaction sa = {.sa_handler = tick}, old;
	sigset_t alarm_signal, mask;

	(void)state;
	sigaction(SIGALRM, &sa, &old);
	sigemptyset(&alarm_signal); /* it comes only while the daemon sleeps */
	sigaddset(&alarm_signal, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm_signal, &mask);
	acknowledged = !acknowledged;
	events_mode = EVENTS_HELD;
	created("c");
	ticks = 0;
	setitimer(ITIMER_REAL, &soon, NULL);
	finish();
	alarm(0);
	signal(SIGALRM, SIG_IGN);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGALRM, &old, NULL);
	task_closed = false;
	assert_int_equal(ticks, acknowledged ? 1 : 2);
	assert_int_equal(event_idle(), acknowledged);
	events_mode = EVENTS_TAKEN;
	peer_close(&containerd);
	until((advance(100), event_idle()));
}

/* Without containers and clients it waits a while, and then for the end of its bundle. */
static void limit_of_being_alone(void **state)
{
	int before = open(".", O_PATH | O_CLOEXEC);

	(void)state;
	assert_int_equal(mkdir(in_tmp("bundle"), 0755), 0);
	assert_int_equal(chdir(in_tmp("bundle")), 0);
	for (int gone_early = 0; gone_early < 2; gone_early++) {
		advance(5000);
		assert_false(abandoned()); /* there is a client */
		client_close(client);
		until(server_alone());
		assert_false(abandoned());
		if (gone_early)
			rmdir(in_tmp("bundle"));
		advance(5000 - 1);
		assert_false(abandoned());
		assert_int_equal(bundle_watch, -1);
		advance(1);
		assert_int_equal(abandoned(), gone_early);
		assert_true(bundle_watch >= 0);
		client_connect(client);
		until(!server_alone());
		assert_false(abandoned());
		assert_int_equal(bundle_watch, -1);
	}
	assert_int_equal(fchdir(before), 0);
	close(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DAEMON_TEST(services_and_methods),
		DAEMON_TEST(long_names),
		DAEMON_TEST(undecodable),
		DAEMON_TEST(over_before_it_began),
		DAEMON_TEST(shutdown_when_empty),
		DAEMON_TEST(state_fields),
		DAEMON_TEST(options_for_the_runtime),
		DAEMON_TEST(options_refused),
		DAEMON_TEST(nobody_reads),
		DAEMON_TEST(somebody_reads_later),
		DAEMON_TEST(delete_drains),
		DAEMON_TEST(logging_binary),
		DAEMON_TEST(logging_binary_not_ready),
		DAEMON_TEST(terminal_missing),
		DAEMON_TEST(stats_without_cgroup),
		DAEMON_TEST(stats_of_many_devices),
		DAEMON_TEST(start_out_of_time),
		DAEMON_TEST(waiting_out_of_time),
		DAEMON_TEST(delete_out_of_time),
		DAEMON_TEST(delete_of_what_is_gone),
		DAEMON_TEST(delete_of_what_left_no_state),
		DAEMON_TEST(delete_fails_in_another_runtime),
		DAEMON_TEST(exec_called_init),
		DAEMON_TEST(delete_twice),
		DAEMON_TEST(others_go_on),
		DAEMON_TEST(too_many_requests),
		DAEMON_TEST(client_goes),
		DAEMON_TEST(exec_specs),
		DAEMON_TEST(exec_specs_refused),
		DAEMON_TEST(exec_spec_in_quotes),
		DAEMON_TEST(exec_fails),
		DAEMON_TEST(exec_out_of_time),
		DAEMON_TEST(exec_leaves_no_files),
		DAEMON_TEST(kill_errors),
		DAEMON_TEST(kill_after_exit),
		DAEMON_TEST(kill_of_exec),
		DAEMON_TEST(kill_while_deleted),
		DAEMON_TEST(pause_and_resume),
		DAEMON_TEST(update),
		DAEMON_TEST(checkpoint),
		DAEMON_TEST(checkpoint_path_too_long),
		DAEMON_TEST(restore),
		DAEMON_TEST(limit_of_readers),
		DAEMON_TEST(limit_of_undoing),
		DAEMON_TEST(limit_of_cleaning),
		DAEMON_TEST(limit_of_draining),
		DAEMON_TEST(limit_of_exits),
		DAEMON_TEST(limit_of_loggers),
		DAEMON_TEST(limit_of_flushing),
		DAEMON_TEST(limit_of_flushing),
		DAEMON_TEST(limit_of_being_alone),
		DAEMON_TEST(limit_of_unmounting),
		DAEMON_TEST(unmounting_after_a_slow_runtime),
	};

	close_others();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
