// SPDX-License-Identifier: Apache-2.0
/*
 * container.c's tests: the tables, Waits, the reaper, and the rules by which exits are told
 * (contract 3.7). The processes are real ones, and the daemon's loop is its own.
 */
#include "daemon.h"

/* ---- the rules of exits ---- */

static void life_of_a_container(void **state)
{
	struct ask *wait;
	const struct ask *a;

	(void)state;
	with_private_pids("c");
	created("c");
	wait = ask_about("Wait", "c");
	assert_ok(ask_about("Start", "c"));
	assert_false(wait->answered);
	end_process(the_init("c"), SIGTERM);
	a = assert_ok(wait);
	assert_int_equal(get_number(payload_of(a), 1, 0), 143);
	assert_true(get_number(get_bytes(payload_of(a), 2), 1, 0) > 1700000000);
	a = assert_ok(ask_about("Delete", "c"));
	assert_int_equal(get_number(payload_of(a), 2, 0), 143);
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exit c c 143;delete c 143;");
	assert_int_equal(container_count(), 0);
}

/* An exit status is what the process returned, or 128 and the signal that ended it. */
static void exit_statuses(void **state)
{
	static const struct {
		const char *words;
		unsigned int status;
	} cases[] = {{"now=1 exit=0", 0},
		     {"now=1 exit=1", 1},
		     {"now=1 exit=255", 255},
		     {"now=1 die=9", 137},
		     {"now=1 die=6", 134}};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char id[8];
		const struct ask *a;

		snprintf(id, sizeof(id), "c%zu", i);
		runtime_says(cases[i].words);
		created(id);
		a = assert_ok(ask_about("Wait", id));
		assert_int_equal(get_number(payload_of(a), 1, 0), cases[i].status);
	}
}

/* It has exited before the runtime was through, and before its pid was known. */
static void exit_before_pid_is_known(void **state)
{
	(void)state;
	with_private_pids("c");
	/* The runtime ends when its child has been reaped - by the daemon, as nobody's yet. */
	runtime_says("now=1 exit=7 create.outlive=1");
	assert_ok(ask_create("c"));
	assert_ok(ask_about("Wait", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;exit c c 7;");
	assert_error(ask_about("Start", "c"), CODE_UNKNOWN, "cannot start a stopped process");
	assert_ok(ask_about("Delete", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;exit c c 7;delete c 7;");
}

/* It exits while the runtime starts it: the start is told first. */
static void exit_after_start(void **state)
{
	struct ask *start, *wait;

	(void)state;
	with_private_pids("c");
	created("c");
	gate_close("start");
	runtime_says("start.skip=1"); /* as if it had done its work before */
	start = ask_about("Start", "c");
	wait = ask_about("Wait", "c");
	until(called("start"));
	end_process(the_init("c"), SIGKILL);
	until(the_init("c")->exited);
	for (int i = 0; i < 5; i++)
		one_turn();
	assert_false(wait->answered);
	until(event_idle());
	assert_string_equal(event_log, "create c;");
	gate_open("start");
	assert_ok(start);
	assert_ok(wait);
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exit c c 137;");
}

/* The same when the start fails then. */
static void exit_after_failed_start(void **state)
{
	struct ask *start;

	(void)state;
	with_private_pids("c");
	created("c");
	gate_close("start");
	runtime_fails("start", "it is dead");
	start = ask_about("Start", "c");
	until(called("start"));
	end_process(the_init("c"), SIGKILL);
	until(the_init("c")->exited);
	gate_open("start");
	assert_error(start, CODE_UNKNOWN, "OCI runtime start failed: it is dead");
	assert_ok(ask_about("Wait", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;exit c c 137;");
}

static void exec_life(void **state)
{
	struct ask *wait;
	const struct ask *a;

	(void)state;
	with_private_pids("c");
	started("c");
	assert_ok(ask_exec("c/x"));
	wait = ask_about("Wait", "c/x");
	assert_ok(ask_about("Start", "c/x"));
	end_process(the_exec("c", "x"), SIGTERM);
	a = assert_ok(wait);
	assert_int_equal(get_number(payload_of(a), 1, 0), 143);
	assert_ok(ask_about("Delete", "c/x"));
	assert_null(the_exec("c", "x"));
	until(event_idle());
	assert_string_equal(event_log,
			    "create c;start c;exec-added c x;exec-started c x;exit c x 143;");
}

/* An exec that is over before the runtime has said its pid. */
static void exec_exits_at_once(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	runtime_says("run=0 exit=3");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_about("Start", "c/x"));
	assert_ok(ask_about("Wait", "c/x"));
	until(event_idle());
	assert_string_equal(event_log,
			    "create c;start c;exec-added c x;exec-started c x;exit c x 3;");
}

/* Init goes first: but it is told last, when the last exec has ended. */
static void init_is_last(void **state)
{
	struct ask *wait, *wait_x, *wait_y;

	(void)state;
	with_private_pids("c");
	started("c");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_exec("c/y"));
	assert_ok(ask_exec("c/never-started"));
	assert_ok(ask_about("Start", "c/x"));
	assert_ok(ask_about("Start", "c/y"));
	wait = ask_about("Wait", "c");
	wait_x = ask_about("Wait", "c/x");
	wait_y = ask_about("Wait", "c/y");
	end_process(the_init("c"), SIGKILL);
	until(the_init("c")->exited && the_container("c")->exiting);
	for (int i = 0; i < 5; i++)
		one_turn();
	assert_false(wait->answered);
	/* From now on nothing is started in it. */
	assert_error(ask_about("Start", "c/never-started"), CODE_FAILED_PRECONDITION,
		     "container c init process is not running: failed precondition");
	end_process(the_exec("c", "x"), SIGKILL);
	assert_ok(wait_x);
	assert_false(wait->answered);
	end_process(the_exec("c", "y"), SIGTERM);
	assert_ok(wait_y);
	assert_ok(wait);
	until(event_idle());
	assert_string_equal(
		event_log,
		"create c;start c;exec-added c x;exec-added c y;exec-added c never-started;"
		"exec-started c x;exec-started c y;exit c x 137;exit c y 143;exit c c 137;");
}

/* An exec that is just being started counts, too; if that fails, it does no more. */
static void init_waits_for_starting_exec(void **state)
{
	struct ask *start, *wait;

	(void)state;
	with_private_pids("c");
	started("c");
	assert_ok(ask_exec("c/x"));
	gate_close("exec");
	runtime_fails("exec", "too late");
	start = ask_about("Start", "c/x");
	wait = ask_about("Wait", "c");
	until(called("exec"));
	end_process(the_init("c"), SIGKILL);
	until(the_init("c")->exited && the_container("c")->exiting);
	for (int i = 0; i < 5; i++)
		one_turn();
	assert_false(wait->answered);
	gate_open("exec");
	assert_error(start, CODE_UNKNOWN, "OCI runtime exec failed: too late");
	assert_ok(wait);
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exec-added c x;exit c c 137;");
}

/* What shares its pids with others is not gone with its init. */
static void left_overs_are_killed(void **state)
{
	static const struct {
		const char *id, *config;
		unsigned int kills;
	} cases[] = {
		{"none", NULL, 1},
		{"own", "{\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"}]}}",
		 0},
		{"empty-path", "{\"linux\":{\"namespaces\":[{\"path\":\"\",\"type\":\"pid\"}]}}",
		 0},
		{"joined",
		 "{\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":\"/proc/1/ns/pid\"}]}}",
		 1},
		{"others", "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"ipc\"}]}}",
		 1},
		{"no-list", "{\"linux\":{}}", 1},
		{"no-json", "{\"linux\":", 1},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char line[64], name[64];

		mkdir(in_tmp(cases[i].id), 0755);
		snprintf(name, sizeof(name), "%s/config.json", cases[i].id);
		if (cases[i].config)
			make_file(name, cases[i].config, 0644);
		started(cases[i].id);
		end_process(the_init(cases[i].id), SIGKILL);
		assert_ok(ask_about("Wait", cases[i].id));
		snprintf(line, sizeof(line), "kill --all %s 9", cases[i].id);
		assert_int_equal(call_count(line), cases[i].kills);
	}
}

/* They are killed before the exit is told, even if that takes its time, or fails. */
static void left_overs_are_killed_first(void **state)
{
	struct ask *wait;

	(void)state;
	started("c");
	gate_close("kill");
	runtime_fails("kill", "whatever");
	wait = ask_about("Wait", "c");
	end_process(the_init("c"), SIGKILL);
	until(called("kill"));
	for (int i = 0; i < 5; i++)
		one_turn();
	assert_false(wait->answered);
	gate_open("kill");
	assert_ok(wait);
	assert_int_equal(call_count("kill --all c 9"), 1);
}

/* A frozen container whose init was killed is thawed, once. */
static void paused_init_exits(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	assert_ok(ask_about("Pause", "c"));
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;paused c;exit c c 137;");
	assert_int_equal(call_count("resume c"), 1);
	assert_int_equal(the_init("c")->state, STATE_STOPPED);
}

/* An exec's exit is told at once, also while its container is frozen. */
static void exec_exits_while_paused(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_about("Start", "c/x"));
	assert_ok(ask_about("Pause", "c"));
	end_process(the_exec("c", "x"), SIGKILL);
	assert_ok(ask_about("Wait", "c/x"));
	assert_int_equal(the_init("c")->state, STATE_PAUSED);
}

/* First the event is queued, then the Waits are answered. */
static void event_before_waits(void **state)
{
	struct ask *wait;

	(void)state;
	with_private_pids("c");
	started("c");
	until(event_idle());
	wait = ask_about("Wait", "c");
	events_mode = EVENTS_HELD;
	end_process(the_init("c"), SIGKILL);
	assert_ok(wait);
	assert_false(event_idle());
}

/* However many wait, each is told, and once (daemon.h looks after that); and whoever asks later is told at once. */
static void told_once(void **state)
{
	enum { WAITS = 300 };
	struct ask *waits[WAITS];

	(void)state;
	with_private_pids("c");
	started("c");
	for (int i = 0; i < WAITS; i++) {
		waits[i] = ask_about("Wait", "c");
		one_turn();
	}
	end_process(the_init("c"), SIGKILL);
	for (int i = 0; i < WAITS; i++)
		assert_ok(waits[i]);
	assert_ok(ask_about("Wait", "c"));
	assert_ok(ask_about("Wait", "c"));
	for (int i = 0; i < 5; i++)
		one_turn();
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exit c c 137;");
}

/* Created, and deleted before it ever ran: it ends by that, but for its clients it has not exited. */
static void deleted_before_start(void **state)
{
	struct ask *wait;
	const struct ask *a;

	(void)state;
	with_private_pids("c");
	created("c");
	wait = ask_about("Wait", "c");
	a = assert_ok(ask_about("Delete", "c"));
	assert_int_equal(get_number(payload_of(a), 2, 0), 0);
	assert_true((int64_t)get_number(get_bytes(payload_of(a), 3), 1, 0) == SENTINEL_SECONDS);
	a = assert_ok(wait);
	assert_int_equal(get_number(payload_of(a), 1, 0), 0);
	until(event_idle());
	assert_string_equal(event_log, "create c;exit c c 137 never;delete c 0;");
	assert_int_equal(container_count(), 0);
}

/* A Delete that failed is no reason to tell lies about the exit later. */
static void exit_after_failed_delete(void **state)
{
	const struct ask *a;

	(void)state;
	with_private_pids("c");
	created("c");
	runtime_fails("delete", "not now");
	assert_error(ask_about("Delete", "c"), CODE_UNKNOWN, "failed to delete task: not now");
	runtime_works("delete");
	assert_ok(ask_about("Start", "c"));
	end_process(the_init("c"), SIGTERM);
	a = assert_ok(ask_about("Wait", "c"));
	assert_int_equal(get_number(payload_of(a), 1, 0), 143);
}

/* A runtime that hangs over the cleaning up, while the container is deleted for lack of patience. */
static void deleted_while_cleaning(void **state)
{
	(void)state;
	{
		struct ask *delete;

		created("c"); /* its pids are not its own */
		gate_close("kill");
		/* Its init is seen to be dead before the runtime is through. */
		gate_close("delete.behind");
		delete = ask_about("Delete", "c");
		until(called("kill"));
		gate_open("delete.behind");
		until(was_called("delete", delete_step));
		until((advance(1000), delete->answered));
		assert_ok(delete);
		/* The runtime that hangs is ended, a moment before this or behind it. */
		until((advance(100), ops_count() == 0));
	}
}

/* The same with an exec whose start hangs. */
static void deleted_while_exec_starts(void **state)
{
	(void)state;
	{
		struct ask *delete, *start;

		with_private_pids("c");
		created("c");
		assert_ok(ask_exec("c/x"));
		gate_close("exec");
		start = ask_about("Start", "c/x");
		until(called("exec"));
		delete = ask_about("Delete", "c");
		until(the_init("c")->exited && was_called("delete", delete_step));
		until((advance(1000), delete->answered));
		assert_ok(delete);
		gate_open("exec");
		assert_true(await(start)->code != 0);
		until(ops_count() == 0);
	}
}

/* ---- the reaper ---- */

/* Orphans of a container end up with the shim. They are nobody's, and no harm. */
static void strangers(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(99);
	}
	until(waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	      loop_child == false);
	assert_false(the_init("c")->exited);
	assert_ok(ask_about("State", "c"));
}

/* More of them than can be remembered, while a process is being made: it is found all the same. */
static void more_strangers_than_remembered(void **state)
{
	enum { STRANGERS = 700 };
	struct ask *create;
	pid_t last = 0;

	(void)state;
	if (VALGRIND()) /* a fork of it takes an eighth of a second */
		skip();
	with_private_pids("c");
	gate_close("create");
	create = ask_create("c");
	until(called("create"));
	for (int i = 0; i < STRANGERS; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(99);
		assert_true(pid > 0);
		last = pid;
		if (i % 100 == 0)
			one_turn();
	}
	/* The last of them has ended, and may be reaped or not: all that have been are remembered. */
	until(kill(last, 0) < 0 ||
	      waitid(P_PID, (id_t)last, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0);
	for (int i = 0; i < 10; i++)
		one_turn();
	gate_open("create");
	assert_ok(create);
	/* When that is over, the rest goes. */
	until(waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0);
	advance(100);
	until(kill(last, 0) < 0);
	assert_ok(ask_about("Start", "c"));
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;exit c c 137;");
}

/* A runtime that lies about the pid is not believed. */
static void wrong_pid_files(void **state)
{
	static const struct {
		const char *words, *message;
	} cases[] = {
		{"pid=none", "failed to retrieve OCI runtime container pid: open %s/init.pid: "
			     "no such file or directory"},
		{"pid=garbage", NULL},
		{"pid=1", "%s/init.pid names pid 1, which is not a child of the shim"},
		{"pid=4194303", "%s/init.pid names pid 4194303, which is not a child of the shim"},
		{"pid=empty", NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct ask *a;
		char expected[512], id[8];

		snprintf(id, sizeof(id), "c%zu", i);
		runtime_says(cases[i].words);
		a = await(ask_create(id));
		assert_int_equal(a->code, CODE_UNKNOWN);
		if (cases[i].message) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			snprintf(expected, sizeof(expected), cases[i].message, in_tmp(id));
#pragma GCC diagnostic pop
			assert_string_equal(a->message, expected);
		}
		assert_null(the_container(id));
		assert_int_equal(container_count(), 0);
	}
	until(event_idle());
	assert_string_equal(event_log, "");
}

/* A pid that another process of ours has is not taken twice. */
static void pid_of_another(void **state)
{
	char words[32];

	(void)state;
	started("c");
	snprintf(words, sizeof(words), "pid=%d", (int)the_init("c")->pid);
	runtime_says(words);
	assert_int_equal(await(ask_create("d"))->code, CODE_UNKNOWN);
	assert_false(the_init("c")->exited);
}

/* ---- Wait ---- */

static void wait_deadline(void **state)
{
	struct ask *soon, *later, *never;

	(void)state;
	started("c");
	soon = ask_about_within(1000, "Wait", "c");
	later = ask_about_within(5000, "Wait", "c");
	never = ask_about("Wait", "c");
	one_turn();
	one_turn();
	advance(1001);
	assert_error(soon, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_false(later->answered);
	advance(4000);
	assert_error(later, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_false(never->answered);
	end_process(the_init("c"), SIGKILL);
	assert_ok(never);
}

/* A client that goes takes its Waits with it, and nobody else's. */
static void wait_of_one_who_goes(void **state)
{
	struct ask *wait;

	(void)state;
	started("c");
	wait = ask_about("Wait", "c");
	one_turn();
	client = CLIENT_B;
	for (int i = 0; i < 50; i++)
		ask_about("Wait", "c");
	one_turn();
	one_turn();
	client_close(CLIENT_B);
	client = CLIENT_A;
	for (int i = 0; i < 5; i++)
		one_turn();
	end_process(the_init("c"), SIGKILL);
	assert_ok(wait);
}

static void waits_full(void **state)
{
	struct ask *wait = NULL;

	(void)state;
	started("c");
	for (int i = 0; i < 2048; i++) {
		wait = ask_about("Wait", "c");
		if (i % 16 == 0)
			one_turn();
	}
	assert_error(ask_about("Wait", "c"), CODE_RESOURCE_EXHAUSTED, "too many waits in one shim");
	assert_false(wait->answered);
	end_process(the_init("c"), SIGKILL);
	assert_ok(wait);
	assert_ok(ask_about("Wait", "c"));
}

/* A process that is deleted without having run ends its Waits. */
static void wait_of_deleted_exec(void **state)
{
	struct ask *wait;
	const struct ask *a;

	(void)state;
	started("c");
	assert_ok(ask_exec("c/x"));
	wait = ask_about("Wait", "c/x");
	one_turn();
	a = assert_ok(ask_about("Delete", "c/x"));
	assert_int_equal(get_number(payload_of(a), 2, 0), 0);
	a = assert_ok(wait);
	assert_int_equal(get_number(payload_of(a), 1, 0), 0);
	assert_true((int64_t)get_number(get_bytes(payload_of(a), 2), 1, 0) == SENTINEL_SECONDS);
}

/* ---- the tables ---- */

static void containers_full(void **state)
{
	static struct container *all[CONTAINER_MAX];
	char id[16];

	(void)state;
	for (int i = 0; i < CONTAINER_MAX; i++) {
		all[i] = container_new();
		assert_non_null(all[i]);
		snprintf(id, sizeof(id), "c%d", i);
		all[i]->id = container_keep(all[i], view_of(id));
		all[i]->runtime.bundle = "/";
		container_init(all[i])->id = all[i]->id;
		for (int k = 0; k < i; k++)
			assert_ptr_not_equal(all[i], all[k]);
	}
	assert_null(container_new());
	assert_int_equal(container_count(), CONTAINER_MAX);
	for (int i = 0; i < CONTAINER_MAX; i++) {
		snprintf(id, sizeof(id), "c%d", i);
		assert_ptr_equal(container_find(view_of(id)), all[i]);
	}
	assert_null(container_find(VIEW("c")));
	assert_null(container_find(VIEW("c256")));
	assert_error(ask_create("d"), CODE_RESOURCE_EXHAUSTED, "too many containers in one shim");
	container_free(all[77]);
	assert_null(container_find(VIEW("c77")));
	assert_ptr_equal(container_new(), all[77]);
	all[77]->id = container_init(all[77])->id = "c77";
	all[77]->runtime.bundle = "/";
}

static void processes_full(void **state)
{
	struct container *c;
	struct proc *p = NULL, *last;
	char id[16];

	(void)state;
	started("c");
	c = the_container("c");
	for (int i = 1; i < PROC_MAX; i++) {
		p = exec_new(c);
		assert_non_null(p);
		snprintf(id, sizeof(id), "x%d", i);
		p->id = proc_keep(p, view_of(id));
		proc_set_state(p, STATE_CREATED);
	}
	last = p;
	assert_null(exec_new(c));
	assert_error(ask_exec("c/y"), CODE_RESOURCE_EXHAUSTED, "too many processes in one shim");
	assert_error(ask_create("d"), CODE_RESOURCE_EXHAUSTED, "too many containers in one shim");
	assert_ptr_equal(exec_find(c, view_of(id)), last);
	p = exec_find(c, VIEW("x500"));
	proc_free(p);
	assert_null(exec_find(c, VIEW("x500")));
	assert_ptr_equal(exec_new(c), p);
	p->id = proc_keep(p, VIEW("x500"));
	/* They all go with the container. */
	container_free(c);
	assert_int_equal(container_count(), 0);
	for (int i = 0; i < PROC_MAX; i++)
		assert_false(slots.procs[i].used);
}

/* A slot that has been given to another is not taken for the former one. */
static void lives_of_a_slot(void **state)
{
	struct container *c = container_new();
	struct proc *init = container_init(c);
	struct op op = {0};

	(void)state;
	c->id = init->id = "c";
	c->runtime.bundle = "/";
	op_about(&op, init);
	assert_ptr_equal(op_container(&op), c);
	assert_ptr_equal(op_proc(&op), init);
	container_free(c);
	assert_null(op_container(&op));
	assert_null(op_proc(&op));
	assert_ptr_equal(container_new(), c);
	assert_ptr_equal(container_init(c), init);
	c->id = init->id = "d";
	c->runtime.bundle = "/";
	assert_null(op_container(&op));
	assert_null(op_proc(&op));
}

/* Exec ids are a container's own. */
static void ids_per_container(void **state)
{
	(void)state;
	started("c");
	started("d");
	assert_ok(ask_exec("c/x"));
	assert_ok(ask_exec("d/x"));
	assert_ok(ask_exec("c/d"));
	assert_error(ask_exec("c/x"), CODE_ALREADY_EXISTS, "id x: already exists");
	assert_ptr_not_equal(the_exec("c", "x"), the_exec("d", "x"));
	assert_null(the_exec("d", "d"));
	assert_error(ask_about("State", "d/d"), CODE_NOT_FOUND,
		     "process does not exist d: not found");
	assert_error(ask_about("State", "e"), CODE_NOT_FOUND, "container not created: not found");
	assert_error(ask_create("c"), CODE_ALREADY_EXISTS, "container c: already exists");
}

/* The kill that ended it is told before its end, though nobody has looked in between. */
static void oom_before_exit(void **state)
{
	(void)state;
	with_private_pids("c");
	started("c");
	make_file("memory.events", "oom 1\noom_kill 1\n", 0644);
	the_container("c")->cgroup = "/k";
	the_container("c")->oom = (struct oom){
		.fd = file_open(in_tmp("memory.events"), O_RDONLY, 0), .ready = POLLPRI};
	end_process(the_init("c"), SIGKILL);
	assert_ok(ask_about("Wait", "c"));
	assert_int_equal(the_container("c")->oom.fd, -1);
	until(event_idle());
	assert_string_equal(event_log, "create c;start c;oom c;exit c c 137;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DAEMON_TEST(life_of_a_container),
		DAEMON_TEST(exit_statuses),
		DAEMON_TEST(exit_before_pid_is_known),
		DAEMON_TEST(exit_after_start),
		DAEMON_TEST(exit_after_failed_start),
		DAEMON_TEST(exec_life),
		DAEMON_TEST(exec_exits_at_once),
		DAEMON_TEST(init_is_last),
		DAEMON_TEST(init_waits_for_starting_exec),
		DAEMON_TEST(left_overs_are_killed),
		DAEMON_TEST(left_overs_are_killed_first),
		DAEMON_TEST(paused_init_exits),
		DAEMON_TEST(exec_exits_while_paused),
		DAEMON_TEST(event_before_waits),
		DAEMON_TEST(told_once),
		DAEMON_TEST(deleted_before_start),
		DAEMON_TEST(exit_after_failed_delete),
		DAEMON_TEST(deleted_while_cleaning),
		DAEMON_TEST(deleted_while_exec_starts),
		DAEMON_TEST(strangers),
		DAEMON_TEST(more_strangers_than_remembered),
		DAEMON_TEST(wrong_pid_files),
		DAEMON_TEST(pid_of_another),
		DAEMON_TEST(wait_deadline),
		DAEMON_TEST(wait_of_one_who_goes),
		DAEMON_TEST(waits_full),
		DAEMON_TEST(wait_of_deleted_exec),
		DAEMON_TEST(containers_full),
		DAEMON_TEST(processes_full),
		DAEMON_TEST(lives_of_a_slot),
		DAEMON_TEST(ids_per_container),
		DAEMON_TEST(oom_before_exit),
	};

	close_others();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
