/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.h - a whole daemon (../daemon.h) in the world of the fuzz targets: a runtime whose every call
 * lasts until the input ends it, and the oracle.
 *
 * The oracle holds for any input (contract 3.7 and 4):
 *  - every request has one reply, unless its connection is closed; a Wait when its process has
 *    exited, or failed to start;
 *  - no event comes twice; a process' start comes before its exit, the exits of a container's execs
 *    before that of its init, and that before its deletion;
 *  - every process that was started and has exited has one exit event, with its own status;
 *  - where nothing went wrong (`benign`), no Create fails;
 *  - when everybody has done his part, the daemon comes to rest, every container can be deleted,
 *    and then nothing is left: no request, no container, no descriptor, no page of memory.
 */
#ifndef FUZZ_DAEMON_H
#define FUZZ_DAEMON_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

/* The loop as it is on machines without instructions of our own for it. */
#undef __x86_64__
#include "../../loop.c"

#define vfork() world_fork(s)
#include "../../runtime.c"
#undef vfork

#include "../daemon.h"

/* ---- what containerd is told ---- */

#define INSTANCES_MAX 512

static struct instance { /* a container, from its creation to its deletion */
	char id[ID_MAX + 1];
	uint32_t pid;
	bool started, exited, deleted;
} instances[INSTANCES_MAX];
static unsigned int instance_count;

static struct told { /* a process, by its pid */
	bool is_exec, started, exited;
	unsigned int instance;
} told[WORLD_PIDS];

static unsigned int instance_of(struct view id)
{
	for (unsigned int i = instance_count; i-- > 0;)
		if (!instances[i].deleted && view_is(id, instances[i].id))
			return i;
	CHECK(false, "an event of %.*s, which is not there", VIEW_FMT(id));
	return 0;
}

static struct told *told_of(uint32_t pid)
{
	CHECK(pid >= WORLD_PID && pid < WORLD_PID + world_actor_count, "an event with pid %u", pid);
	return &told[pid - WORLD_PID];
}

static void note_create(struct view id, uint32_t pid)
{
	struct instance *in = &instances[instance_count++];

	CHECK(instance_count < INSTANCES_MAX && id.len <= ID_MAX, "create %.*s", VIEW_FMT(id));
	for (unsigned int i = 0; i + 1 < instance_count; i++)
		CHECK(instances[i].deleted || !view_is(id, instances[i].id), "%.*s is there twice",
		      VIEW_FMT(id));
	*in = (struct instance){.pid = pid};
	if (id.len > 0)
		memcpy(in->id, id.at, id.len);
}

static void note_start(struct view id, uint32_t pid, bool is_exec)
{
	unsigned int i = instance_of(id);
	struct told *p = told_of(pid);

	CHECK(!instances[i].exited, "%s: a start after its init's exit", instances[i].id);
	CHECK(!p->started && !p->exited, "pid %u: started twice", pid);
	*p = (struct told){.is_exec = is_exec, .started = true, .instance = i};
	if (is_exec)
		return;
	CHECK(!instances[i].started, "%s: started twice", instances[i].id);
	CHECK(instances[i].pid == 0 || instances[i].pid == pid, "%s: another pid", instances[i].id);
	instances[i].started = true;
	instances[i].pid = pid;
}

static void note_exit_event(struct view id, struct view exec, uint32_t pid, uint32_t status)
{
	unsigned int i = instance_of(id);
	struct told *p = told_of(pid);
	const struct actor *a = &world_actors[pid - WORLD_PID];

	CHECK(!a->runs, "pid %u: has not exited", pid);
	CHECK(status == (uint32_t)(WIFSIGNALED(a->status) ? 128 + WTERMSIG(a->status)
							  : WEXITSTATUS(a->status)),
	      "pid %u: status %u", pid, status);
	CHECK(!p->exited, "pid %u: exited twice", pid);
	CHECK(!instances[i].exited, "%s: an exit after its init's", instances[i].id);
	p->exited = true;
	if (p->is_exec) {
		CHECK(p->instance == i, "pid %u: is not of %s", pid, instances[i].id);
		return;
	}
	CHECK(view_is(exec, instances[i].id) && instances[i].pid == pid,
	      "%s: exit of %.*s, pid %u, which was not started", instances[i].id, VIEW_FMT(exec),
	      pid);
	for (unsigned int k = 0; k < world_actor_count; k++)
		CHECK(!told[k].is_exec || told[k].instance != i || told[k].exited,
		      "%s: its init's exit before that of pid %u", instances[i].id, WORLD_PID + k);
	instances[i].exited = true;
}

static void note_delete(struct view id)
{
	struct instance *in = &instances[instance_of(id)];

	CHECK(in->exited || in->pid == 0, "%s: deleted before its exit", in->id);
	in->deleted = true;
}

static bool judging, benign;

static void on_news(const struct news *n)
{
	if (!judging)
		return;
	if (strcmp(n->topic, "create") == 0)
		note_create(n->id, n->pid);
	else if (strcmp(n->topic, "start") == 0)
		note_start(n->id, n->pid, false);
	else if (strcmp(n->topic, "exec-started") == 0)
		note_start(n->id, n->pid, true);
	else if (strcmp(n->topic, "exit") == 0)
		note_exit_event(n->id, n->exec, n->pid, n->status);
	else if (strcmp(n->topic, "delete") == 0)
		note_delete(n->id);
	else
		instance_of(n->id);
}

/* ---- the runtime ---- */

enum outcome {
	OUTCOME_GOOD,
	OUTCOME_REFUSED,  /* with a word in log.json */
	OUTCOME_KILLED,   /* by a signal */
	OUTCOME_NO_PID,   /* good, but there is no pid file */
	OUTCOME_ALIEN,    /* good, but the pid file names nobody */
	OUTCOME_SAME_PID, /* good, but it names a process that is somebody else */
	OUTCOME_ENDED,    /* good, and the process has exited before its runtime has */
	OUTCOME_GARBAGE,  /* an exit status, and what nobody understands in log.json */
	OUTCOMES
};

static bool next_private; /* of the containers made from now on */

static const char *arg_behind(const struct actor *a, const char *word)
{
	for (int i = 0; i + 1 < a->argc; i++)
		if (strcmp(a->argv[i], word) == 0)
			return a->argv[i + 1];
	return NULL;
}

static const char *verb_of(const struct actor *a)
{
	int at = a->argc > 8 && strcmp(a->argv[7], "--systemd-cgroup") == 0 ? 8 : 7;

	return a->argc > at && strcmp(a->argv[1], "--root") == 0 ? a->argv[at] : "";
}

static bool is_verb(const struct actor *a, const char *verb)
{
	return strcmp(verb_of(a), verb) == 0;
}

static struct actor *init_of(const char *id)
{
	for (unsigned int i = world_actor_count; i-- > 0;)
		if (world_actors[i].is_init && strcmp(world_actors[i].id, id) == 0)
			return &world_actors[i];
	return NULL;
}

/* The runtime hands over a terminal, or something else. */
static void hand_over(const char *path, enum outcome outcome)
{
	int fd = outcome == OUTCOME_GARBAGE ? memfd_create("x", MFD_CLOEXEC)
					    : posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	int to = unix_connect(path, SOCK_NONBLOCK);
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(char *)"x", 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (fd >= 0 && to >= 0) {
		unlockpt(fd);
		sendmsg(to, &msg, MSG_NOSIGNAL);
	}
	fd_close(&fd);
	fd_close(&to);
}

/* create, restore or exec has come to its end: there is a process. */
static void make_process(const struct actor *run, enum outcome outcome)
{
	const char *pid_file = arg_behind(run, "--pid-file");
	const char *console = arg_behind(run, "--console-socket");
	const char *id = run->argv[run->argc - 1];
	struct actor *a = world_actor();
	char buf[16];
	pid_t pid;

	if (!a || !pid_file)
		return;
	a->is_process = true;
	a->is_init = !is_verb(run, "exec");
	a->is_private = a->is_init ? next_private : init_of(id) && init_of(id)->is_private;
	snprintf(a->id, sizeof(a->id), "%s", id);
	for (int i = 0; i < 3; i++)
		a->fds[i] = run->fds[i] >= 0 ? fcntl(run->fds[i], F_DUPFD_CLOEXEC, 0) : -1;
	if (console)
		hand_over(console, outcome);
	pid = outcome == OUTCOME_ALIEN      ? 99999
	      : outcome == OUTCOME_SAME_PID ? WORLD_PID + a->pid % 7
					    : a->pid;
	snprintf(buf, sizeof(buf), "%d", (int)pid);
	if (outcome != OUTCOME_NO_PID)
		world_file(pid_file, buf, strlen(buf));
	if (outcome == OUTCOME_ENDED)
		world_actor_end(a, 3 << 8);
}

static void kill_processes(const char *id, int sig, bool all)
{
	for (unsigned int i = 0; i < world_actor_count; i++) {
		struct actor *a = &world_actors[i];

		if (a->is_process && (a->is_init || all) && strcmp(a->id, id) == 0 &&
		    (sig == SIGKILL || sig == SIGTERM))
			world_actor_end(a, sig);
	}
}

static void run_end(struct actor *a, enum outcome outcome)
{
	static const char word[] = "{\"level\":\"error\",\"msg\":\"no such process\"}\n",
			  garbage[] = "{\"level\":\"error\",\"msg\":\"\\u0000\xff\"}\n\n}{\n";
	const char *log = arg_behind(a, "--log");

	benign &= outcome == OUTCOME_GOOD || outcome == OUTCOME_ENDED;
	if (outcome == OUTCOME_REFUSED && log)
		world_file(log, word, sizeof(word) - 1);
	if (outcome == OUTCOME_GARBAGE && log)
		world_file(log, garbage, sizeof(garbage) - 1);
	if (outcome == OUTCOME_REFUSED || outcome == OUTCOME_KILLED) {
		world_actor_end(a, outcome == OUTCOME_REFUSED ? 1 << 8 : SIGSEGV);
		return;
	}
	if (is_verb(a, "create") || is_verb(a, "exec") || is_verb(a, "restore"))
		make_process(a, outcome);
	else if (is_verb(a, "delete"))
		kill_processes(a->argv[a->argc - 1], SIGKILL, true);
	else if (is_verb(a, "kill") && a->argc > 2)
		kill_processes(a->argv[a->argc - 2], atoi(a->argv[a->argc - 1]),
			       arg_behind(a, "--all") != NULL);
	world_actor_end(a, outcome == OUTCOME_GARBAGE ? 255 << 8 : 0);
}

/* One of those that run. NULL: there is none. */
static struct actor *actor_number(uint8_t number, bool process)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < world_actor_count; i++)
		count += world_actors[i].runs && world_actors[i].is_process == process;
	for (unsigned int i = 0, n = count > 0 ? number % count : 0; i < world_actor_count; i++)
		if (world_actors[i].runs && world_actors[i].is_process == process && n-- == 0)
			return &world_actors[i];
	return NULL;
}

/* ---- the other ends of streams ---- */

static const char *const fifos[] = {"/w/out0", "/w/out1", "/w/err", "/w/in"};
static int ends[COUNT(fifos)] = {-1, -1, -1, -1};

static void end_toggle(unsigned int i)
{
	if (ends[i] >= 0)
		fd_close(&ends[i]);
	else /* a writer finds nobody there, maybe */
		ends[i] = world_real_open(fifos[i], i == 3 ? O_WRONLY : O_RDONLY);
}

static void ends_turn(void)
{
	static char buf[65536];

	for (unsigned int i = 0; i < 3; i++)
		if (ends[i] >= 0)
			while (world_real_read(ends[i], buf, sizeof(buf)) > 0)
				;
}

/* ---- turns ---- */

static bool stopped; /* the daemon has been told to end, and did */

static void daemon_turn(void)
{
	if (stopped)
		return;
	if (!world.time_flows)
		loop_timer(now + 20);
	turn();
	if (task_shutdown && container_count() == 0) {
		world.time_flows = true;
		finish();
		peers_turn();
		stopped = true;
	}
}

/* Everybody does his part, until nothing moves any more. */
static void settle(void)
{
	world.time_flows = true;
	world.no_fork = false;
	world.recv_max = world.send_max = 0;
	world.mounts = 0;
	events_mode = EVENTS_TAKEN;
	for (unsigned int c = 0; c < CLIENTS; c++)
		clients[c].reads = true;
	for (unsigned int i = 0; i < 3; i++)
		if (ends[i] < 0)
			end_toggle(i);
	for (int i = 0; i < 2000 && !stopped; i++) {
		struct actor *a;

		while ((a = actor_number(0, false)))
			run_end(a, OUTCOME_GOOD);
		while ((a = actor_number(0, true)))
			world_actor_end(a, 0);
		ends_turn();
		daemon_turn();
		if (world.quiet && event_idle())
			return;
	}
	CHECK(stopped, "the daemon does not come to rest");
}

/* ---- the frame of each input ---- */

/* Every process' cgroup is that one. */
static void make_cgroup(void)
{
	world_file("/w/proc/1/cgroup", "0::/c\n", 6);
	world_file("/w/sys/fs/cgroup/cgroup.controllers", "memory\n", 7);
	world_file("/w/sys/fs/cgroup/c/memory.events", "oom_kill 0\n", 11);
	world_file("/w/sys/fs/cgroup/c/cgroup.events", "populated 1\n", 12);
	world_file("/w/sys/fs/cgroup/c/cgroup.procs", "1001\n1003\n", 10);
}

static void daemon_begin(void)
{
	static const char *const dirs[] = {"/w/b",      "/w/runtime",       "/w/sys",
					   "/w/sys/fs", "/w/sys/fs/cgroup", "/w/sys/fs/cgroup/c"};
	static bool is_made;

	if (!is_made) {
		world_begin();
		for (size_t i = 0; i < COUNT(fifos); i++)
			world_fifo(fifos[i]);
		for (size_t i = 0; i < COUNT(dirs); i++)
			world_dir(dirs[i]);
		is_made = true;
	}
	world_begin();
	world.meanwhile = peers_turn;
	make_cgroup();
	log_debug = getenv("FUZZ_LOG") != NULL;
	now = world.clock_ms;
	memset(told, 0, sizeof(told));
	instance_count = 0;
	judging = benign = true;
	next_private = stopped = false;
	daemon_open("/w", "/w/runtime/runc");
	client_connect(CLIENT_JUDGE); /* later it may be too late */
}

static void ask_about(unsigned int client, const char *method, const char *id, const char *exec,
		      int64_t timeout_ms)
{
	char buf[512];
	struct ask *a = client_ask(client, method, (struct view){buf, put_who(buf, id, exec)},
				   timeout_ms);

	if (a) {
		a->id = id;
		a->exec = exec;
	}
}

/* What nobody has deleted so far. */
static void delete_all(void)
{
	for (unsigned int i = 0; i < PROC_MAX && !stopped; i++) {
		const struct proc *p = &slots.procs[i];

		if (p->used && p->is_exec)
			ask_about(CLIENT_JUDGE, "Delete", slots.containers[p->container].id, p->id,
				  0);
	}
	settle();
	for (unsigned int i = 0; i < CONTAINER_MAX && !stopped; i++)
		if (slots.containers[i].used)
			ask_about(CLIENT_JUDGE, "Delete", slots.containers[i].id, NULL, 0);
	settle();
}

/* Everything runs no longer; nothing is deleted so far. */
static void judge_waits(void)
{
	for (unsigned int i = 0; i < ask_count; i++) {
		const struct ask *a = &asks[i];
		const struct container *c = container_find(view_of(a->id));
		const struct proc *p = NULL;

		if (a->answered || a->gone || strcmp(a->method, "Wait") != 0)
			continue;
		if (c)
			p = a->exec ? exec_find(c, view_of(a->exec)) : container_init(c);
		CHECK(!a->id || (p && !p->told && !p->released &&
				 (p->state == STATE_RESTORABLE ||
				  (p->is_exec && p->state == STATE_CREATED))),
		      "Wait: no answer, though %s/%s has exited", a->id, a->exec ? a->exec : "");
	}
}

static void judge(void)
{
	for (unsigned int i = 0; i < ask_count; i++) {
		const struct ask *a = &asks[i];

		CHECK(a->answered || a->gone, "%s: no answer", a->method);
		CHECK(!benign || clients_gone > 0 || world_actor_count > WORLD_PIDS / 2 ||
			      strcmp(a->method, "Create") != 0 || a->code == 0 ||
			      a->code == CODE_ALREADY_EXISTS || a->gone,
		      "Create: code %u", a->code);
		CHECK(a->client != CLIENT_JUDGE || a->code == 0, "%s: code %u", a->method, a->code);
	}
	CHECK(container_count() == 0, "%u containers are left", container_count());
	for (unsigned int i = 0; i < instance_count; i++)
		CHECK(instances[i].deleted, "%s: its deletion was not told", instances[i].id);
	for (unsigned int i = 0; i < world_actor_count; i++)
		CHECK(!told[i].started || told[i].exited, "pid %u: its exit was not told",
		      WORLD_PID + i);
}

static void daemon_end(void)
{
	bool early = stopped;

	settle();
	early |= stopped;
	if (!early) {
		CHECK(ops_count() == 0, "%u requests are unfinished", ops_count());
		judge_waits();
		delete_all();
		if (!stopped)
			client_ask(CLIENT_JUDGE, "Shutdown", (struct view){0}, 0);
		settle();
		CHECK(stopped, "the daemon does not end");
		judge();
	} else {
		CHECK(container_count() == 0, "it has ended with containers");
	}
	CHECK(early || event_idle(), "events are left");
	/* The end of its process: whatever was not read by then is lost. */
	judging = stopped = task_shutdown = false;
	daemon_abandon();
	world.hung_up = true;
	for (int i = 0; i < 3; i++)
		daemon_turn();
	world.hung_up = false;
	settle();
	daemon_close();
	for (size_t i = 0; i < COUNT(ends); i++)
		fd_close(&ends[i]);
	cgroup_forget();
	world_end();
}

#endif
