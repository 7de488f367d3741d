// SPDX-License-Identifier: Apache-2.0
/*
 * verb.c's tests: what can be done in which state (contract 3.5, every cell), who is found, what ids
 * there may be, and what stops a launch.
 */
#include "daemon.h"

#include "../../verb.c"

/* ---- every cell ---- */

#define ANY_STATE STATES

struct cell {
	const char *method;
	enum state state;
	const char *refusal; /* NULL: it is done */
	const char *call;    /* what the runtime is called with then; NULL: it is not */
	enum state then;
};

static const struct cell init_cells[] = {
	{"Start", STATE_CREATED, NULL, "start", STATE_RUNNING},
	{"Start", STATE_RESTORABLE, NULL, "restore", STATE_RUNNING},
	{"Start", STATE_RUNNING, "cannot start a running process", NULL, STATE_RUNNING},
	{"Start", STATE_PAUSED, "cannot start a paused process", NULL, STATE_PAUSED},
	{"Start", STATE_STOPPED, "cannot start a stopped process", NULL, STATE_STOPPED},

	{"Delete", STATE_CREATED, NULL, "delete", ANY_STATE},
	{"Delete", STATE_RESTORABLE, NULL, NULL, ANY_STATE},
	{"Delete", STATE_RUNNING, "cannot delete a running process", NULL, STATE_RUNNING},
	{"Delete", STATE_PAUSED, "cannot delete a paused process", NULL, STATE_PAUSED},
	{"Delete", STATE_STOPPED, NULL, "delete", ANY_STATE},

	{"Pause", STATE_CREATED, "cannot pause task in created state", NULL, STATE_CREATED},
	{"Pause", STATE_RESTORABLE, "cannot pause task in created state", NULL, STATE_RESTORABLE},
	{"Pause", STATE_RUNNING, NULL, "pause", STATE_PAUSED},
	{"Pause", STATE_PAUSED, "cannot pause a paused container", NULL, STATE_PAUSED},
	{"Pause", STATE_STOPPED, "cannot pause a stopped container", NULL, STATE_STOPPED},

	{"Resume", STATE_CREATED, "cannot resume task in created state", NULL, STATE_CREATED},
	{"Resume", STATE_RESTORABLE, "cannot resume task in created state", NULL, STATE_RESTORABLE},
	{"Resume", STATE_RUNNING, "cannot resume a running process", NULL, STATE_RUNNING},
	{"Resume", STATE_PAUSED, NULL, "resume", STATE_RUNNING},
	{"Resume", STATE_STOPPED, "cannot resume a stopped container", NULL, STATE_STOPPED},

	{"Update", STATE_CREATED, NULL, "update", STATE_CREATED},
	{"Update", STATE_RESTORABLE, NULL, "update", STATE_RESTORABLE},
	{"Update", STATE_RUNNING, NULL, "update", STATE_RUNNING},
	{"Update", STATE_PAUSED, NULL, "update", STATE_PAUSED},
	{"Update", STATE_STOPPED, "cannot update a stopped container", NULL, STATE_STOPPED},

	{"Checkpoint", STATE_CREATED, "cannot checkpoint a task in created state", NULL,
	 STATE_CREATED},
	{"Checkpoint", STATE_RESTORABLE, "cannot checkpoint a task in created state", NULL,
	 STATE_RESTORABLE},
	{"Checkpoint", STATE_RUNNING, NULL, "checkpoint", STATE_RUNNING},
	{"Checkpoint", STATE_PAUSED, NULL, "checkpoint", STATE_PAUSED},
	{"Checkpoint", STATE_STOPPED, "cannot checkpoint a stopped container", NULL, STATE_STOPPED},

	{"Exec", STATE_CREATED, NULL, NULL, STATE_CREATED},
	{"Exec", STATE_RESTORABLE, "cannot exec in a created state", NULL, STATE_RESTORABLE},
	{"Exec", STATE_RUNNING, NULL, NULL, STATE_RUNNING},
	{"Exec", STATE_PAUSED, "cannot exec in a paused state", NULL, STATE_PAUSED},
	{"Exec", STATE_STOPPED, "cannot exec in a stopped state", NULL, STATE_STOPPED},

	{"Kill", STATE_CREATED, NULL, "kill", STATE_CREATED},
	{"Kill", STATE_RESTORABLE, NULL, "kill", STATE_RESTORABLE},
	{"Kill", STATE_RUNNING, NULL, "kill", STATE_RUNNING},
	{"Kill", STATE_PAUSED, NULL, "kill", STATE_PAUSED},

	{"ResizePty", STATE_CREATED, NULL, NULL, STATE_CREATED},
	{"ResizePty", STATE_STOPPED, NULL, NULL, STATE_STOPPED},
	{"CloseIO", STATE_CREATED, NULL, NULL, STATE_CREATED},
	{"CloseIO", STATE_STOPPED, NULL, NULL, STATE_STOPPED},
	{"State", STATE_STOPPED, NULL, NULL, STATE_STOPPED},
	{"Pids", STATE_STOPPED, NULL, NULL, STATE_STOPPED},
	{"Wait", STATE_STOPPED, NULL, NULL, STATE_STOPPED},
	{"Connect", STATE_STOPPED, NULL, NULL, STATE_STOPPED},
};

/* A container in that state, as if all that leads there had happened: the runtime does not know it. */
static struct container *in_state(const char *id, enum state state)
{
	static char bundle[256];
	struct container *c = container_new();
	struct proc *init = container_init(c);

	runtime_says("start.skip=1 pause.skip=1 resume.skip=1 update.skip=1 checkpoint.skip=1 "
		     "kill.skip=1 delete.skip=1");
	snprintf(bundle, sizeof(bundle), "%s/%s", tmp, id);
	mkdir(bundle, 0755);
	c->id = init->id = container_keep(c, view_of(id));
	c->criu_work = "";
	c->private_pids = true;
	c->checkpoint = state == STATE_RESTORABLE ? "/image" : NULL;
	c->runtime = (struct runtime){.binary = self.runtime,
				      .root = container_keep(c, view_of(in_tmp("root"))),
				      .bundle = container_keep(c, view_of(bundle))};
	for (int i = 0; i < STREAMS; i++)
		init->stdio.path[i] = "";
	proc_set_state(init, state);
	init->exited = init->told = c->exiting = state == STATE_STOPPED;
	return c;
}

static struct ask *ask_cell(const char *method, const char *who)
{
	char exec[80];

	if (strcmp(method, "Kill") == 0)
		return ask_kill(who, 15, false);
	if (strcmp(method, "Exec") != 0)
		return ask_about(method, who);
	snprintf(exec, sizeof(exec), "%s/new", who);
	return ask_exec(exec);
}

static void every_cell(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(init_cells); i++) {
		const struct cell *cell = &init_cells[i];
		const struct ask *a;
		char id[16];
		struct ask *asked;

		snprintf(id, sizeof(id), "c%zu", i);
		in_state(id, cell->state);
		make_file("calls", "", 0644);
		asked = ask_cell(cell->method, id);
		/* One that was never started is waited for, when it is deleted. */
		if (cell->call && strcmp(cell->call, "delete") == 0)
			until(was_called("delete", delete_step));
		if (strcmp(cell->method, "Delete") == 0)
			until((advance(1000), asked->answered));
		a = await(asked);
		if (a->code != (cell->refusal ? CODE_UNKNOWN : 0) ||
		    strcmp(a->message, cell->refusal ? cell->refusal : "") != 0)
			fail_msg("%s in state %d: %u %s\n", cell->method, cell->state, a->code,
				 a->message);
		if (cell->call ? !called(cell->call) : calls()[0] != '\0')
			fail_msg("%s in state %d calls: %s\n", cell->method, cell->state, calls());
		if (cell->then == ANY_STATE)
			assert_null(the_container(id));
		else if (the_init(id)->state != cell->then)
			fail_msg("%s in state %d: then %d\n", cell->method, cell->state,
				 the_init(id)->state);
		assert_int_equal(ops_count(), 0);
		if (cell->then != ANY_STATE && the_init(id)->busy > 0)
			fail_msg("%s in state %d: still busy\n", cell->method, cell->state);
	}
}

/* All there are, so that a new state or verb is not forgotten here. */
static void table_is_complete(void **state)
{
	unsigned int refused = 0, listed = 0;

	(void)state;
	for (unsigned int s = 0; s < STATES; s++)
		for (unsigned int v = 0; v < VERBS; v++)
			refused += refusals[s][v] != 0;
	for (size_t i = 0; i < COUNT(init_cells); i++)
		listed += init_cells[i].refusal != NULL;
	assert_int_equal(refused, listed);
	for (unsigned int v = 0; v < VERBS; v++)
		assert_true(verbs[v][0]);
}

/* The runtime fails: the state is what it was. */
static void failures_change_nothing(void **state)
{
	static const struct {
		const char *method, *call, *message;
		enum state state;
	} cases[] = {
		{"Start", "start", "OCI runtime start failed: why not", STATE_CREATED},
		{"Start", "restore", "OCI runtime restore failed: why not", STATE_RESTORABLE},
		{"Pause", "pause", "OCI runtime pause failed: why not", STATE_RUNNING},
		{"Resume", "resume", "OCI runtime resume failed: why not", STATE_PAUSED},
		{"Delete", "delete", "failed to delete task: why not", STATE_STOPPED},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char id[16], name[64];

		snprintf(id, sizeof(id), "c%zu", i);
		in_state(id, cases[i].state);
		snprintf(name, sizeof(name), "root/ns/%s", id);
		mkdir(in_tmp("root"), 0755);
		mkdir(in_tmp("root/ns"), 0755);
		if (cases[i].state != STATE_RESTORABLE) /* the runtime knows of it */
			mkdir(in_tmp(name), 0755);
		runtime_fails(cases[i].call, "why not");
		assert_error(ask_cell(cases[i].method, id), CODE_UNKNOWN, cases[i].message);
		assert_int_equal(the_init(id)->state, cases[i].state);
		assert_int_equal(the_init(id)->busy, 0);
		assert_false(the_container(id)->pausing);
		runtime_works(cases[i].call);
		assert_ok(ask_cell(cases[i].method, id));
	}
	until(event_idle());
	assert_null(strstr(event_log, "paused c2;paused"));
}

/* ---- exec processes (contract 3.5b) ---- */

static void exec_cells(void **state)
{
	static const struct {
		const char *method;
		enum state state;
		unsigned int code;
		const char *message;
	} cases[] = {
		{"Start", STATE_RUNNING, CODE_UNKNOWN, "cannot start a running process"},
		{"Start", STATE_STOPPED, CODE_UNKNOWN, "cannot start a stopped process"},
		{"Delete", STATE_RUNNING, CODE_UNKNOWN, "cannot delete a running process"},
		{"Kill", STATE_CREATED, CODE_FAILED_PRECONDITION,
		 "process not created: failed precondition"},
		{"Kill", STATE_STOPPED, CODE_NOT_FOUND, "process already finished: not found"},
		{"ResizePty", STATE_CREATED, 0, ""},
		{"ResizePty", STATE_RUNNING, 0, ""},
		{"ResizePty", STATE_STOPPED, CODE_UNKNOWN, "cannot resize a stopped container"},
		{"Delete", STATE_CREATED, 0, ""},
		{"Delete", STATE_STOPPED, 0, ""},
	};
	struct container *c = in_state("c", STATE_RUNNING);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct proc *p = exec_new(c);

		p->id = proc_keep(p, VIEW("x"));
		for (int k = 0; k < STREAMS; k++)
			p->stdio.path[k] = "";
		proc_set_state(p, cases[i].state);
		p->pid = cases[i].state == STATE_CREATED ? 0 : 1 << 22;
		p->exited = p->told = cases[i].state == STATE_STOPPED;
		assert_error(ask_cell(cases[i].method, "c/x"), cases[i].code, cases[i].message);
		if (the_exec("c", "x"))
			proc_free(p);
		assert_string_equal(calls(), "");
	}
}

/* ---- the status that State tells ---- */

static void statuses(void **state)
{
	static const struct {
		enum state state;
		unsigned int status;
	} cases[] = {{STATE_CREATED, 1},
		     {STATE_RESTORABLE, 1},
		     {STATE_RUNNING, 2},
		     {STATE_STOPPED, 3},
		     {STATE_PAUSED, 4}};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char id[16], who[20];
		const struct ask *a;
		struct proc *x;
		struct container *c;

		snprintf(id, sizeof(id), "c%zu", i);
		c = in_state(id, cases[i].state);
		a = assert_ok(ask_about("State", id));
		assert_int_equal(get_number(payload_of(a), 4, 0), cases[i].status);
		/* An exec's is paused while its container is. */
		x = exec_new(c);
		x->id = proc_keep(x, VIEW("x"));
		for (int k = 0; k < STREAMS; k++)
			x->stdio.path[k] = "";
		proc_set_state(x, STATE_RUNNING);
		snprintf(who, sizeof(who), "%s/x", id);
		a = assert_ok(ask_about("State", who));
		assert_int_equal(get_number(payload_of(a), 4, 0),
				 cases[i].state == STATE_PAUSED ? 4 : 2);
	}
	in_state("c", STATE_RUNNING);
	gate_close("pause");
	{
		struct ask *pause = ask_about("Pause", "c");
		const struct ask *a;

		until(called("pause"));
		a = assert_ok(ask_about("State", "c"));
		assert_int_equal(get_number(payload_of(a), 4, 0), 5); /* pausing */
		gate_open("pause");
		assert_ok(pause);
		a = assert_ok(ask_about("State", "c"));
		assert_int_equal(get_number(payload_of(a), 4, 0), 4);
	}
}

/* ---- ids ---- */

static void ids(void **state)
{
	static const struct {
		struct view id;
		bool valid;
	} cases[] = {
		{{"a", 1}, true},
		{{"container-1_2.3", 15}, true},
		{{"...", 3}, true},
		{{".hidden", 7}, true},
		{{"gr\xc3\xbc\xc3\x9f", 6}, true},
		{{"with space", 10}, true},
		{{"1234567890123456789012345678901234567890123456789012345678901234567890123456",
		  76},
		 true},
		{{"12345678901234567890123456789012345678901234567890123456789012345678901234567",
		  77},
		 false},
		{{"", 0}, false},
		{{".", 1}, false},
		{{"..", 2}, false},
		{{"/", 1}, false},
		{{"a/b", 3}, false},
		{{"../../etc/passwd", 16}, false},
		{{"a\nb", 3}, false},
		{{"a\0b", 3}, false},
		{{"\x1f", 1}, false},
		{{"\x7f", 1}, false},
		{{"a\tb", 3}, false},
	};

	(void)state;
	started("c");
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct view id = exact(cases[i].id.at, cases[i].id.len);
		char buf[300];
		size_t n;

		if (id_valid(id) != cases[i].valid)
			print_error("case %zu\n", i);
		assert_int_equal(id_valid(id), cases[i].valid);
		drop(id);
		if (cases[i].valid)
			continue;
		n = put_bytes(buf, 1, cases[i].id);
		n += put_text(buf + n, 2, in_tmp("bundle"));
		assert_error(ask("Create", buf, n), CODE_INVALID_ARGUMENT,
			     "invalid id or bundle: invalid argument");
		n = put_exec(buf, "c", NULL, (struct streams){0}, "{}");
		n += put_bytes(buf + n, 2, cases[i].id);
		assert_error(ask("Exec", buf, n), CODE_INVALID_ARGUMENT,
			     "invalid exec id: invalid argument");
	}
	assert_int_equal(container_count(), 1);
}

static void bundles(void **state)
{
	static const char *const bad[] = {"", "relative/path", "."};
	char buf[3000], long_bundle[1501] = "";

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_error(ask("Create", buf, put_create(buf, "c", bad[i], (struct streams){0})),
			     CODE_INVALID_ARGUMENT, "invalid id or bundle: invalid argument");
	memset(long_bundle, 'b', 1500);
	long_bundle[0] = '/';
	assert_error(ask("Create", buf, put_create(buf, "c", long_bundle, (struct streams){0})),
		     CODE_INVALID_ARGUMENT, "bundle path is too long: invalid argument");
	assert_error(ask("Create", buf,
			 put_create(buf, "c", "/no/such/bundle", (struct streams){0})),
		     CODE_UNKNOWN, "write /no/such/bundle/options.json: no such file or directory");
	assert_int_equal(container_count(), 0);
}

/* ---- who is found ---- */

static void nobody_is_found(void **state)
{
	static const char *const methods[] = {"State", "Start",     "Delete",     "Pids",
					      "Pause", "Resume",    "Checkpoint", "Kill",
					      "Exec",  "ResizePty", "CloseIO",    "Update",
					      "Wait",  "Stats"};

	(void)state;
	for (size_t i = 0; i < COUNT(methods); i++) {
		assert_error(ask_cell(methods[i], "none"), CODE_NOT_FOUND,
			     "container not created: not found");
		assert_error(ask_cell(methods[i], ""), CODE_NOT_FOUND,
			     "container not created: not found");
	}
	started("c");
	for (size_t i = 0; i < COUNT(methods); i++)
		if (!strchr("PRUE", methods[i][0]) && strcmp(methods[i], "Checkpoint") != 0 &&
		    strcmp(methods[i], "Stats") != 0)
			assert_error(ask_cell(methods[i], "c/none"), CODE_NOT_FOUND,
				     "process does not exist none: not found");
	assert_ok(ask_about("Connect", "none"));
}

/* Before its Create is through, there is no container; but its id is taken. */
static void not_yet_created(void **state)
{
	struct ask *create;

	(void)state;
	gate_close("create");
	create = ask_create("c");
	until(called("create"));
	assert_error(ask_about("State", "c"), CODE_NOT_FOUND, "container not created: not found");
	assert_error(ask_about("Delete", "c"), CODE_NOT_FOUND, "container not created: not found");
	assert_error(ask_create("c"), CODE_ALREADY_EXISTS, "container c: already exists");
	assert_ok(ask_about("Shutdown", ""));
	assert_false(task_shutdown);
	gate_open("create");
	assert_ok(create);
	assert_ok(ask_about("State", "c"));
}

/* Behind a Delete, all who waited for their turn find nothing. */
static void deleted_before_their_turn(void **state)
{
	struct ask *delete, *again, *start, *pause, *update;

	(void)state;
	with_private_pids("c");
	created("c");
	gate_close("delete");
	delete = ask_about("Delete", "c");
	again = ask_about("Delete", "c");
	start = ask_about("Start", "c");
	pause = ask_about("Pause", "c");
	update = ask_about("Update", "c");
	until(called("delete"));
	assert_ok(ask_about("State", "c")); /* this one waits for nobody */
	gate_open("delete");
	assert_ok(delete);
	assert_error(again, CODE_NOT_FOUND, "cannot delete a deleted process: not found");
	assert_error(start, CODE_NOT_FOUND, "cannot start a deleted process: not found");
	assert_error(pause, CODE_NOT_FOUND, "cannot pause a deleted process: not found");
	assert_error(update, CODE_NOT_FOUND, "cannot update a deleted process: not found");
	assert_error(ask_about("Delete", "c"), CODE_NOT_FOUND, "container not created: not found");
	assert_int_equal(call_count("delete c"), 1);
}

/* ---- launches that fail ---- */

/* Nothing is left of it: what the runtime may have made, the id, the rest. */
static void create_fails(void **state)
{
	(void)state;
	runtime_fails("create", "no reason");
	assert_error(ask_create("c"), CODE_UNKNOWN, "OCI runtime create failed: no reason");
	assert_int_equal(call_count("delete --force c"), 1);
	assert_int_equal(container_count(), 0);
	runtime_works("create");
	created("c");
	assert_int_equal(container_count(), 1);
	until(event_idle());
	assert_string_equal(event_log, "create c;");
}

/* Its undoing fails, too: that is not what the client is told. */
static void create_fails_badly(void **state)
{
	(void)state;
	runtime_fails("create", "no reason");
	runtime_fails("delete", "nor for this");
	assert_error(ask_create("c"), CODE_UNKNOWN, "OCI runtime create failed: no reason");
	assert_int_equal(container_count(), 0);
}

static void runtime_is_missing(void **state)
{
	(void)state;
	unlink(in_tmp("runtime"));
	{
		const struct ask *a = await(ask_create("c"));

		assert_int_equal(a->code, CODE_UNKNOWN);
		assert_non_null(strstr(a->message, "OCI runtime create failed: "));
		if (!EMULATED())
			assert_non_null(strstr(a->message, "/runtime: no such file or directory"));
	}
	self.runtime = "nanoshim-has-no-such-runtime";
	{
		const struct ask *a = await(ask_create("c"));

		assert_non_null(strstr(
			a->message, "exec: \"nanoshim-has-no-such-runtime\": executable file not "
				    "found in $PATH"));
	}
	assert_int_equal(container_count(), 0);
}

/* A runtime that hangs is killed when the request's time is over, and so is what it made. */
static void create_out_of_time(void **state)
{
	struct ask *create;

	(void)state;
	gate_close("create");
	create = ask_create_within(5000, "c");
	until(called("create"));
	advance(4000);
	one_turn();
	assert_false(create->answered);
	advance(2000);
	assert_error(create, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	assert_int_equal(call_count("delete --force c"), 1);
	assert_int_equal(container_count(), 0);
	gate_remove("create");
	created("c");
}

/* ---- pid files of former lives ---- */

static void old_pid_files(void **state)
{
	char message[300];

	(void)state;
	started("d");
	assert_ok(ask_exec("d/x"));
	mkdir(in_tmp("c"), 0755);
	make_file("c/init.pid", "1", 0644);
	runtime_says("create.skip=1 exec.skip=1");
	snprintf(message, sizeof(message),
		 "failed to retrieve OCI runtime container pid: open %s: no such file or directory",
		 in_tmp("c/init.pid"));
	assert_error(ask_create("c"), CODE_UNKNOWN, message);
	runtime_fails("exec", "no");
	assert_int_equal(await(ask_about("Start", "d/x"))->code, CODE_UNKNOWN);
	make_file("d/x.pid", "1", 0644); /* it came as far as that */
	runtime_works("exec");
	snprintf(message, sizeof(message),
		 "failed to retrieve OCI runtime container pid: open %s: no such file or directory",
		 in_tmp("d/x.pid"));
	assert_error(ask_about("Start", "d/x"), CODE_UNKNOWN, message);
}

/* Whatever execs are called, each has a pid file of its own, and none that of init or the daemon. */
static void names_of_pid_files(void **state)
{
	static const char *const ids[] = {"init", ".init", "shim", ".shim", "init.pid", "x"};
	char path[COUNT(ids) + 2][300];

	(void)state;
	started("c");
	for (size_t i = 0; i < COUNT(ids); i++) {
		struct text t = TEXT(path[i]);
		char name[64];

		snprintf(name, sizeof(name), "c/%s", ids[i]);
		assert_ok(ask_exec(name));
		pid_path(the_exec("c", ids[i]), &t);
	}
	snprintf(path[COUNT(ids)], sizeof(path[0]), "%s", in_tmp("c/init.pid"));
	snprintf(path[COUNT(ids) + 1], sizeof(path[0]), "%s", in_tmp("c/shim.pid"));
	for (size_t i = 0; i < COUNT(path); i++)
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(path[i], path[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DAEMON_TEST(every_cell),
		DAEMON_TEST(table_is_complete),
		DAEMON_TEST(failures_change_nothing),
		DAEMON_TEST(exec_cells),
		DAEMON_TEST(statuses),
		DAEMON_TEST(ids),
		DAEMON_TEST(bundles),
		DAEMON_TEST(nobody_is_found),
		DAEMON_TEST(not_yet_created),
		DAEMON_TEST(deleted_before_their_turn),
		DAEMON_TEST(create_fails),
		DAEMON_TEST(create_fails_badly),
		DAEMON_TEST(runtime_is_missing),
		DAEMON_TEST(create_out_of_time),
		DAEMON_TEST(old_pid_files),
		DAEMON_TEST(names_of_pid_files),
	};

	close_others();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
