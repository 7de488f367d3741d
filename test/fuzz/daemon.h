/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.h - a whole daemon in the world of the fuzz targets: its loop, its clients, a containerd
 * that takes events, a runtime whose every call lasts until the input ends it, and the oracle.
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
#ifndef DAEMON_H
#define DAEMON_H

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

#include "wire.h"

/* The loop as it is on machines without instructions of our own for it. */
#undef __x86_64__
#include "../../loop.c"

#define vfork() world_fork(s)
#include "../../runtime.c"
#undef vfork

#define main shim_main
int shim_main(int argc, char **argv);
#include "../../shim.c"
#undef main

extern const char *cgroup_prefix;

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

static void note_event(struct view request)
{
	struct view any = get_bytes(get_bytes(get_bytes(request, 3), 1), 4);
	struct view name = get_bytes(any, 1), e = get_bytes(any, 2), id = get_bytes(e, 1);

	view_cut(&name, '.');
	view_cut(&name, '.');
	if (view_is(name, "TaskCreate"))
		note_create(id, (uint32_t)get_number(e, 6));
	else if (view_is(name, "TaskStart"))
		note_start(id, (uint32_t)get_number(e, 2), false);
	else if (view_is(name, "TaskExecStarted"))
		note_start(id, (uint32_t)get_number(e, 3), true);
	else if (view_is(name, "TaskExit"))
		note_exit_event(id, get_bytes(e, 2), (uint32_t)get_number(e, 3),
				(uint32_t)get_number(e, 4));
	else if (view_is(name, "TaskDelete"))
		note_delete(id);
	else
		instance_of(id);
}

/* ---- containerd ---- */

enum { EVENTS_TAKEN, EVENTS_HELD, EVENTS_DROPPED };

static struct peer containerd = {.fd = -1};
static int events_listener = -1;
static uint8_t events_mode;

static void take_event(const struct frame *f)
{
	char header[FRAME_HEADER];

	if (judging)
		note_event(f->data);
	put_header(header, 0, f->stream, FRAME_RESPONSE);
	CHECK(world_real_write(containerd.fd, header, sizeof(header)) == sizeof(header), "answer");
}

static void containerd_turn(void)
{
	struct pollfd gone;
	size_t used = 0;
	struct frame f;

	if (events_mode == EVENTS_HELD)
		return;
	if (events_mode == EVENTS_DROPPED)
		fd_close(&containerd.fd); /* with whatever it has not read */
	while (containerd.fd < 0) {
		containerd.fd = accept4(events_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		containerd.len = 0;
		if (containerd.fd < 0)
			return;
		if (events_mode == EVENTS_DROPPED)
			fd_close(&containerd.fd);
	}
	/* The shim has given up on this one; what is in it comes again. */
	gone = (struct pollfd){containerd.fd, POLLRDHUP, 0};
	if ((poll(&gone, 1, 0) == 1 && gone.revents) || !peer_receive(&containerd)) {
		fd_close(&containerd.fd);
		return;
	}
	while (peer_frame(&containerd, &used, &f))
		take_event(&f);
}

/* ---- clients ---- */

#define CLIENTS 4
#define ASKS_MAX 1024

enum { CLIENT_A, CLIENT_B, CLIENT_RAW, CLIENT_JUDGE };

static struct client {
	struct peer peer;
	uint32_t stream;
	bool reads;
} clients[CLIENTS];

static struct ask {
	uint8_t client;
	uint32_t stream;
	const char *method;
	const char *id, *exec; /* whom it is about; NULL: not known, or an init */
	bool answered, gone;   /* its connection is closed */
	unsigned int code;
} asks[ASKS_MAX];
static unsigned int ask_count;

static void client_close(unsigned int c)
{
	benign &= clients[c].peer.fd < 0;
	fd_close(&clients[c].peer.fd);
	for (unsigned int i = 0; i < ask_count; i++)
		if (asks[i].client == c)
			asks[i].gone = true;
}

static void client_open(unsigned int c)
{
	if (clients[c].peer.fd >= 0)
		return;
	clients[c].peer.fd = unix_connect("/w/socket");
	clients[c].peer.len = 0;
	clients[c].stream = UINT32_MAX;
	clients[c].reads = true;
}

static void client_write(unsigned int c, const char *at, size_t len)
{
	client_open(c);
	if (clients[c].peer.fd >= 0 && len > 0 &&
	    world_real_write(clients[c].peer.fd, at, len) != (ssize_t)len)
		client_close(c); /* it sends more than the daemon reads */
}

static struct ask *ask(unsigned int c, const char *method, struct view payload, uint64_t timeout_ms)
{
	static char buf[1 << 15];
	struct ask *a = &asks[ask_count];

	CHECK(payload.len < sizeof(buf) - 256, "a request of %zu bytes", payload.len);
	client_open(c);
	if (clients[c].peer.fd < 0 || ask_count == ASKS_MAX)
		return NULL;
	clients[c].stream += 2;
	*a = (struct ask){.client = (uint8_t)c, .stream = clients[c].stream, .method = method};
	ask_count++;
	client_write(c, buf, put_request(buf, a->stream, method, payload, timeout_ms));
	return a;
}

static void note_reply(unsigned int c, const struct frame *f)
{
	CHECK(f->type == FRAME_RESPONSE, "a frame of type %d", f->type);
	for (unsigned int i = 0; i < ask_count; i++) {
		struct ask *a = &asks[i];

		if (a->client != c || a->gone || a->stream != f->stream)
			continue;
		CHECK(!a->answered, "%s: answered twice", a->method);
		a->answered = true;
		a->code = (unsigned int)get_number(get_bytes(f->data, 1), 1);
		return;
	}
	CHECK(c == CLIENT_RAW, "a reply to stream %u, where nobody has asked", f->stream);
}

static void client_turn(unsigned int c)
{
	struct client *cl = &clients[c];
	size_t used = 0;
	struct frame f;

	if (cl->peer.fd < 0 || !cl->reads)
		return;
	if (!peer_receive(&cl->peer)) {
		CHECK(c == CLIENT_RAW, "the daemon has closed a connection");
		client_close(c);
		return;
	}
	while (peer_frame(&cl->peer, &used, &f))
		note_reply(c, &f);
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
	int to = unix_connect(path);
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

static void peers_turn(void)
{
	containerd_turn();
	for (unsigned int c = 0; c < CLIENTS; c++)
		client_turn(c);
}

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

static struct view the_name(char *buf, size_t cap, const char *id, const char *exec)
{
	struct text t = {.at = buf, .cap = cap};
	char field[256];

	text_add(&t, (struct view){field, put_bytes(field, 1, view_of(id))});
	if (exec)
		text_add(&t, (struct view){field, put_bytes(field, 2, view_of(exec))});
	return (struct view){buf, t.len};
}

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
		for (unsigned int c = 0; c < CLIENTS; c++)
			clients[c].peer.fd = -1;
		is_made = true;
	}
	world_begin();
	world.meanwhile = peers_turn;
	make_cgroup();
	log_debug = getenv("FUZZ_LOG") != NULL;
	self.namespace = "ns";
	self.runtime = "/w/runtime/runc";
	strcpy(self.socket_dir, "/w");
	cgroup_prefix = "/w";
	now = world.clock_ms;
	memset(told, 0, sizeof(told));
	instance_count = ask_count = 0;
	judging = benign = true;
	next_private = stopped = loop_child = task_shutdown = task_closed = false;
	events_mode = EVENTS_TAKEN;
	events_listener = unix_listen("/w/events");
	event_init("/w/events");
	server_listen(unix_listen("/w/socket"), "/w/socket");
	client_open(CLIENT_JUDGE); /* later it may be too late */
}

/* What nobody has deleted so far. */
static void delete_all(void)
{
	char buf[512];

	for (unsigned int i = 0; i < PROC_MAX && !stopped; i++) {
		const struct proc *p = &slots.procs[i];

		if (p->used && p->is_exec)
			ask(CLIENT_JUDGE, "Delete",
			    the_name(buf, sizeof(buf), slots.containers[p->container].id, p->id),
			    0);
	}
	settle();
	for (unsigned int i = 0; i < CONTAINER_MAX && !stopped; i++)
		if (slots.containers[i].used)
			ask(CLIENT_JUDGE, "Delete",
			    the_name(buf, sizeof(buf), slots.containers[i].id, NULL), 0);
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
		CHECK(!benign || world_actor_count > WORLD_PIDS / 2 ||
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
			ask(CLIENT_JUDGE, "Shutdown", (struct view){0}, 0);
		settle();
		CHECK(stopped, "the daemon does not end");
		judge();
	} else {
		CHECK(container_count() == 0, "it has ended with containers");
	}
	CHECK(early || event_idle(), "events are left");
	/* The end of its process: whatever was not read by then is lost. */
	judging = stopped = task_shutdown = false;
	for (unsigned int c = 0; c < CLIENTS; c++)
		client_close(c);
	for (unsigned int i = 0; i < OP_MAX; i++)
		if (ops[i].step)
			op_done(&ops[i], NULL, NULL);
	world.hung_up = true;
	for (int i = 0; i < 3; i++)
		daemon_turn();
	world.hung_up = false;
	settle();
	fd_close(&containerd.fd);
	fd_close(&events_listener);
	for (size_t i = 0; i < COUNT(ends); i++)
		fd_close(&ends[i]);
	server_close();
	cgroup_forget();
	world_end();
}

#endif
