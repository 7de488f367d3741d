// SPDX-License-Identifier: Apache-2.0
/*
 * What comes back: after whatever a daemon was asked for it has no more memory than before, and no
 * more descriptors. All its memory but the tables is of pages_get(): those are counted here.
 */
#include <sys/mman.h>
#include <sys/mount.h>

static size_t mapped; /* bytes that have not been put back */

static void *counted_mmap(void *at, size_t len, int prot, int flags, int fd, long offset)
{
	mapped += len;
	return mmap(at, len, prot, flags, fd, offset);
}

static int counted_munmap(void *at, size_t len)
{
	mapped -= len;
	return munmap(at, len);
}

#define mmap counted_mmap
#define munmap counted_munmap
#include "../../util.c"
#undef mmap
#undef munmap

#include "daemon.h"

#include "events.pb.h"

/* Nothing is under way any more, and nobody is connected but the client. */
static void settle(void)
{
	until(event_idle() && ops_count() == 0);
	advance(5000);
	for (int i = 0; i < 5; i++)
		one_turn();
	cgroup_forget();
	ask_count = 0;
	event_log[0] = '\0';
}

static void comes_back(void (*what)(void))
{
	unsigned int fds;
	size_t before;

	settle();
	fds = open_fds();
	before = mapped;
	what();
	assert_int_equal(container_count(), 0);
	settle();
	assert_int_equal(mapped, before);
	assert_int_equal(open_fds(), fds);
}

/* What is open now would not be in a program that is started. */
static void nothing_is_passed_on(void)
{
	for (int fd = 3; fd < 1024; fd++) {
		int is = fcntl(fd, F_GETFD);

		if (is >= 0 && !(is & FD_CLOEXEC))
			fail_msg("descriptor %d would be passed on\n", fd);
	}
}

static void removed(const char *id)
{
	nothing_is_passed_on();
	end_process(the_init(id), SIGKILL);
	assert_ok(ask_about("Wait", id));
	assert_ok(ask_about("Delete", id));
}

/* A request longer than a page, in two pieces. */
static const struct ask *ask_at_length(const char *method, struct view payload)
{
	static char buf[1 << 17];
	struct ask *a = ask_new(client, method);
	size_t n = put_request(buf, a->stream, TASK_SERVICE, method, payload);

	assert_true(peer_send(&clients[client].peer, buf, n / 2));
	one_turn();
	one_turn();
	assert_true(peer_send(&clients[client].peer, buf + n / 2, n - n / 2));
	return a;
}

static const struct ask *ask_exec_at_length(const char *exec, const char *stdin_path,
					    const char *spec)
{
	static char buf[1 << 16];
	const struct streams streams = {.in = stdin_path};

	return ask_at_length("Exec", (struct view){buf, put_exec(buf, "c", exec, streams, spec)});
}

static const struct ask *ask_create_streams(struct streams streams)
{
	return ask_create_with(0, "c", streams, (struct view){0});
}

/* ---- what is done ---- */

static void a_life(void)
{
	started("c");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_about("Start", "c/x"));
	assert_ok(ask_about("Pids", "c"));
	assert_ok(ask_about("Pause", "c"));
	assert_ok(ask_about("Resume", "c"));
	assert_ok(ask_kill("c/x", SIGKILL, false));
	assert_ok(ask_about("Wait", "c/x"));
	assert_ok(ask_about("Delete", "c/x"));
	assert_ok(ask_kill("c", SIGURG, true)); /* which it ignores */
	removed("c");
}

static void life(void **state)
{
	(void)state;
	comes_back(a_life);
}

static void errors_of_all_kinds(void)
{
	const struct ask *resume;

	assert_error(ask_about("State", "nobody"), CODE_NOT_FOUND,
		     "container not created: not found");
	started("c");
	runtime_fails("pause", "no");
	assert_int_equal(await(ask_about("Pause", "c"))->code, CODE_UNKNOWN);
	runtime_works("pause");
	runtime_fails("kill", "no");
	assert_int_equal(await(ask_kill("c", 1, false))->code, CODE_UNKNOWN);
	runtime_works("kill");
	assert_int_equal(await(ask_about("Stats", "c"))->code, CODE_NOT_FOUND);
	assert_ok(ask_exec("c/x"));
	runtime_fails("exec", "no");
	assert_int_equal(await(ask_about("Start", "c/x"))->code, CODE_UNKNOWN);
	runtime_works("exec");
	assert_ok(ask_about("Delete", "c/x"));
	gate_close("resume");
	assert_ok(ask_about("Pause", "c"));
	resume = ask_about_within(2000, "Resume", "c");
	until(called("resume"));
	nothing_is_passed_on(); /* nor what this call prints into */
	advance(3000);
	assert_error(resume, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	gate_remove("resume");
	removed("c");
}

static void requests_that_fail(void **state)
{
	(void)state;
	comes_back(errors_of_all_kinds);
}

static void failed_creates(void)
{
	runtime_fails("create", "no");
	assert_int_equal(await(ask_create("c"))->code, CODE_UNKNOWN);
	runtime_works("create");
	assert_int_equal(await(ask_create_mounted("c", "nonsense", "/source", "rbind", "ro"))->code,
			 CODE_UNKNOWN);
	assert_int_equal(await(ask_create_streams((struct streams){.out = "nonsense://x"}))->code,
			 CODE_UNKNOWN);
	assert_int_equal(await(ask_create_streams((struct streams){.out = "/dev/null",
								   .err = "/does/not/exist"}))
				 ->code,
			 CODE_UNKNOWN);
	created("c");
	assert_error(ask_create("c"), CODE_ALREADY_EXISTS, "container c: already exists");
	removed("c");
}

static void creates_that_fail(void **state)
{
	(void)state;
	comes_back(failed_creates);
}

/* They do not fit into the slots of container and process, nor do others into the scratch memory. */
static void long_requests(void)
{
	static char path[600], spec[12000];
	char options[700];

	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	assert_ok(ask_create_with(0, "c", (struct streams){0},
				  (struct view){options, put_text(options, 11, path)}));
	assert_ok(ask_about("Start", "c"));
	snprintf(spec, sizeof(spec), "{\"args\":[\"%*s\"]}", (int)sizeof(spec) - 20, "x");
	assert_ok(ask_exec_at_length("x", path, spec));
	assert_ok(ask_about("Delete", "c/x"));
	spec[0] = '[';
	spec[strlen(spec) - 1] = ']';
	assert_int_equal(await(ask_exec_at_length("x", NULL, spec))->code, CODE_UNKNOWN);
	for (size_t i = 0; i + 8 < sizeof(spec); i += 2) /* more than there are tokens at hand */
		memcpy(spec + i, "1,", 3);
	memcpy(spec, "{\"a\":[", 6);
	memcpy(spec + strlen(spec) - 1, "]}", 3);
	assert_ok(ask_exec_at_length("x", NULL, spec));
	removed("c");
}

static void what_is_long(void **state)
{
	(void)state;
	comes_back(long_requests);
}

static void kept_requests(void)
{
	char buf[512];
	size_t n = put_update(buf, "c", "{\"a\":1}");

	started("c");
	assert_ok(ask("Update", buf, n));
	runtime_fails("update", "no");
	assert_int_equal(await(ask("Update", buf, n))->code, CODE_UNKNOWN);
	n = put_bytes(buf, 1, VIEW("c"));
	n += put_bytes(buf + n, 2, VIEW("/image"));
	assert_ok(ask("Checkpoint", buf, n));
	mkdir(in_tmp("c/work"), 0755);
	mkdir(in_tmp("c/work/criu-work"), 0755);
	make_file("c/work/criu-work/dump.log", "criu's log", 0644);
	runtime_fails("checkpoint", "no");
	assert_int_equal(await(ask("Checkpoint", buf, n))->code, CODE_UNKNOWN);
	assert_string_equal(file_text("c/criu-dump.log"), "criu's log");
	assert_int_equal(access(in_tmp("c/work/criu-work"), F_OK), -1);
	runtime_works("checkpoint");
	runtime_works("update");
	removed("c");
}

static void requests_that_are_kept(void **state)
{
	(void)state;
	comes_back(kept_requests);
}

static void a_logger(void)
{
	char url[300];

	make_file("logger", "#!/bin/sh\nexec 5>&-\ncat <&3 >/dev/null\n", 0755);
	snprintf(url, sizeof(url), "binary://%s?key=value", in_tmp("logger"));
	assert_ok(ask_create_streams((struct streams){.out = url}));
	assert_ok(ask_about("Start", "c"));
	removed("c");
	snprintf(url, sizeof(url), "binary://%s", in_tmp("missing"));
	if (!EMULATED()) /* there nobody hears of a program that cannot be executed */
		assert_int_equal(await(ask_create_streams((struct streams){.out = url}))->code,
				 CODE_UNKNOWN);
	snprintf(url, sizeof(url), "file://%s", in_tmp("output"));
	assert_ok(ask_create_streams((struct streams){.out = url}));
	removed("c");
}

static void streams_elsewhere(void **state)
{
	(void)state;
	comes_back(a_logger);
}

static void three_streams(void)
{
	static const char *const names[STREAMS] = {"in", "out", "err"};
	int out, err;

	for (unsigned int i = 0; i < STREAMS; i++)
		assert_int_equal(mkfifo(in_tmp(names[i]), 0600), 0);
	out = file_open(in_tmp("out"), O_RDONLY | O_NONBLOCK, 0);
	err = file_open(in_tmp("err"), O_RDONLY | O_NONBLOCK, 0);
	assert_ok(ask_create_streams(
		(struct streams){.in = in_tmp("in"), .out = in_tmp("out"), .err = in_tmp("err")}));
	assert_ok(ask_about("Start", "c"));
	assert_true(the_init("c")->io.pumps[STREAM_IN].keep >= 0);
	assert_ok(ask_about("CloseIO", "c"));
	assert_int_equal(the_init("c")->io.pumps[STREAM_IN].keep, -1);
	removed("c");
	close(out);
	close(err);
	for (unsigned int i = 0; i < STREAMS; i++)
		unlink(in_tmp(names[i]));
}

static void streams(void **state)
{
	(void)state;
	comes_back(three_streams);
}

/* Longer than a page: metrics, and the reply with them. */
static void long_metrics(void)
{
	static const char *const dirs[] = {"sys", "sys/fs", "sys/fs/cgroup", "sys/fs/cgroup/k"};
	static char table[32768];
	struct text t = TEXT(table);

	started("c");
	the_container("c")->cgroup = "/k";
	for (size_t i = 0; i < COUNT(dirs); i++)
		mkdir(in_tmp(dirs[i]), 0755);
	for (unsigned int minor = 0; minor < 500; minor++)
		text_printf(&t, "8:%u rbytes=1 wbytes=2 rios=3 wios=4\n", minor);
	make_file("sys/fs/cgroup/k/io.stat", table, 0644);
	assert_true(assert_ok(ask_about("Stats", "c"))->len > PAGE);
	the_container("c")->cgroup = NULL;
	removed("c");
}

static void long_replies(void **state)
{
	(void)state;
	comes_back(long_metrics);
}

static void unread_replies(void)
{
	const struct ask *last = NULL;

	while (server_pending() == 0) {
		last = ask_about("Connect", "c");
		loop_timer(now);
		turn();
	}
	await(last);
	assert_int_equal(server_pending(), 0);
}

static void replies_that_wait(void **state)
{
	(void)state;
	comes_back(unread_replies);
}

static void many_events(void)
{
	const TaskNamed event = {VIEW("e")};

	events_mode = EVENTS_HELD;
	for (int i = 0; i < 600; i++)
		event_push("oom", "TaskOOM", &TaskNamed_msg, &event);
	one_turn();
	events_mode = EVENTS_TAKEN;
}

static void events_that_wait(void **state)
{
	(void)state;
	comes_back(many_events);
}

static void half_a_frame(void)
{
	for (int i = 0; i < 10; i++) {
		client_connect(CLIENT_RAW);
		assert_true(peer_send(&clients[CLIENT_RAW].peer, "\0\0\x10\0half a frame", 16));
		one_turn();
		one_turn();
		client_close(CLIENT_RAW);
		one_turn();
	}
}

static void clients_that_go(void **state)
{
	(void)state;
	comes_back(half_a_frame);
}

static void a_rootfs(void)
{
	mkdir(in_tmp("layer"), 0755);
	mkdir(in_tmp("c"), 0755);
	mkdir(in_tmp("c/rootfs"), 0755);
	assert_ok(ask_create_mounted("c", "bind", in_tmp("layer"), "rbind", "ro"));
	assert_int_equal(file_write(in_tmp("c/rootfs/x"), VIEW("x"), 0644), -EROFS);
	removed("c");
	assert_int_equal(rmdir(in_tmp("c/rootfs")), 0);
}

static void mounts(void **state)
{
	(void)state;
	comes_back(a_rootfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DAEMON_TEST(life),
		DAEMON_TEST(requests_that_fail),
		DAEMON_TEST(creates_that_fail),
		DAEMON_TEST(what_is_long),
		DAEMON_TEST(requests_that_are_kept),
		DAEMON_TEST(streams_elsewhere),
		DAEMON_TEST(streams),
		DAEMON_TEST(long_replies),
		DAEMON_TEST(replies_that_wait),
		DAEMON_TEST(events_that_wait),
		DAEMON_TEST(clients_that_go),
		DAEMON_TEST(mounts),
	};

	close_others();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
