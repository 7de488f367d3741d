// SPDX-License-Identifier: Apache-2.0
/*
 * container.c - the tables of containers and processes, and what happens when one exits.
 *
 * There is one reaper. It notes status and time of whoever ended and goes on; nothing is decided
 * there. A pid nobody knows may belong to a process whose pid file has not been read yet, so while
 * any call that makes a process is in flight, unknown exits go to a stash, and proc_set_pid() looks
 * there first. When the stash is full, strangers are simply not reaped for a while: a zombie keeps
 * its status, and its pid.
 *
 * Since every process here is a child of the daemon (it is the subreaper) and only reap() reaps, a
 * pid in these tables that has not exited can not have been given to anyone else: kill(2) is safe.
 *
 * procs_step() moves exits on, by the rules of contract 3.7:
 *  - the exit of a process follows its start: it waits while an op is still to change its state;
 *  - a dead init first has what is left of its container killed, and a frozen one thawed;
 *  - its exit is the last of its container: all running execs come before;
 *  - first the event is queued, then the Waits are answered.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "events.pb.h"
#include "shim.h"
#include "task.pb.h"

#define WAITER_MAX 2048
#define STASH_MAX 512
#define CLEAN_LIMIT_MS 10000

TABLE(slots) struct slots slots;

static unsigned int containers_used, procs_end; /* procs from here on are free */

/* ---- slots ---- */

static struct proc *proc_new(const struct container *c)
{
	for (unsigned int i = 0; i < PROC_MAX; i++) {
		struct proc *p = &slots.procs[i];

		if (i < procs_end && p->used)
			continue;
		*p = (struct proc){.used = true,
				   .gen = (uint16_t)(p->gen + 1),
				   .container = (uint16_t)(c - slots.containers),
				   .exited_at = {SENTINEL_SECONDS, 0}};
		io_init(&p->io);
		if (i >= procs_end)
			procs_end = i + 1;
		return p;
	}
	return NULL;
}

void pid_path(const struct proc *p, struct text *t)
{
	const char *bundle = slots.containers[p->container].runtime.bundle;

	bool taken = p->is_exec && (strcmp(p->id, "init") == 0 || strcmp(p->id, "shim") == 0);

	/* init.pid and shim.pid are others' files; no other exec's name ends like that. */
	text_printf(t, "%s/%s.pid%s", bundle, p->is_exec ? p->id : "init", taken ? ".exec" : "");
}

void exec_spec_path(const struct proc *p, struct text *t)
{
	text_printf(t, "%s/.%s.json", slots.containers[p->container].runtime.bundle, p->id);
}

static void remove_files(const struct proc *p)
{
	char buf[1024];
	struct text path = TEXT(buf);

	if (p->has_pid_file) {
		pid_path(p, &path);
		unlink(path.at);
	}
	if (p->has_spec) {
		path.len = 0;
		exec_spec_path(p, &path);
		unlink(path.at);
	}
}

void proc_free(struct proc *p)
{
	remove_files(p);
	waits_release(p);
	io_close(&p->io);
	pack_close(&p->pack);
	p->used = false;
	ops_wake((unsigned int)(p - slots.procs)); /* who is starting it hears of that */
	while (procs_end > 0 && !slots.procs[procs_end - 1].used)
		procs_end--;
}

struct container *container_new(void)
{
	for (unsigned int i = CONTAINER_MAX; i-- > 0;) {
		struct container *c = &slots.containers[i];
		const struct proc *init;

		if (c->used)
			continue;
		*c = (struct container){.gen = (uint16_t)(c->gen + 1), .oom = {.fd = -1}};
		init = proc_new(c);
		if (!init)
			return NULL;
		c->used = true;
		c->init = (uint16_t)(init - slots.procs);
		containers_used++;
		return c;
	}
	return NULL;
}

struct container *container_find(struct view id)
{
	for (unsigned int i = CONTAINER_MAX - 1, left = containers_used; left > 0; i--) {
		struct container *c = &slots.containers[i];

		left -= c->used;
		if (c->used && view_is(id, c->id))
			return c;
	}
	return NULL;
}

struct proc *container_init(const struct container *c)
{
	return &slots.procs[c->init];
}

void container_free(struct container *c)
{
	for (unsigned int i = procs_end; i-- > 0;)
		if (slots.procs[i].used && slots.procs[i].container == c - slots.containers)
			proc_free(&slots.procs[i]);
	cgroup_oom_close(&c->oom);
	pack_close(&c->pack);
	c->used = false;
	containers_used--;
}

unsigned int container_count(void)
{
	return containers_used;
}

struct proc *exec_new(struct container *c)
{
	struct proc *p = proc_new(c);

	if (p)
		p->is_exec = true;
	return p;
}

static bool is_exec_of(const struct proc *p, const struct container *c)
{
	return p->used && p->is_exec && p->container == c - slots.containers;
}

struct proc *exec_find(const struct container *c, struct view exec_id)
{
	for (unsigned int i = 0; i < procs_end; i++) {
		struct proc *p = &slots.procs[i];

		if (is_exec_of(p, c) && view_is(exec_id, p->id))
			return p;
	}
	return NULL;
}

static struct proc *proc_of(pid_t pid)
{
	for (unsigned int i = 0; i < procs_end; i++)
		if (slots.procs[i].used && slots.procs[i].pid == pid && !slots.procs[i].exited)
			return &slots.procs[i];
	return NULL;
}

struct proc *exec_of_pid(const struct container *c, pid_t pid)
{
	struct proc *p = proc_of(pid);

	return p && is_exec_of(p, c) ? p : NULL;
}

void proc_set_state(struct proc *p, enum state state)
{
	static const char names[STATES][12] = {"new",     "created", "restorable",
					       "running", "paused",  "stopped"};

	log_line(LOG_DEBUG, "%s: %s -> %s (pid %d)", p->id, names[p->state], names[state], p->pid);
	p->state = state;
}

void proc_open_stdin(struct proc *p)
{
	char buf[512];
	struct text why = TEXT(buf);

	if (p->stdin_due && io_open_stdin(&p->io, &p->stdio, &why) < 0)
		log_line(LOG_WARN, "%s: %s", p->id, why.at);
	p->stdin_due = 0;
}

void op_about(struct op *op, const struct proc *p)
{
	op->proc = (uint16_t)(p - slots.procs);
	op->proc_gen = p->gen;
	op->container = p->container;
	op->container_gen = slots.containers[p->container].gen;
}

struct container *op_container(const struct op *op)
{
	struct container *c = op->container == NOBODY ? NULL : &slots.containers[op->container];

	return c && c->used && c->gen == op->container_gen ? c : NULL;
}

struct proc *op_proc(const struct op *op)
{
	struct proc *p = &slots.procs[op->proc];

	return p->used && p->gen == op->proc_gen ? p : NULL;
}

/* ---- Wait ---- */

static TABLE(waiters) struct waiter {
	struct origin from; /* zeros: free */
	uint16_t proc;
	uint64_t deadline;
} waiters[WAITER_MAX];
static unsigned int waiters_end;

bool wait_add(const struct proc *p, struct origin from, uint64_t deadline)
{
	for (unsigned int i = 0; i < WAITER_MAX; i++) {
		if (i < waiters_end && waiters[i].from.gen)
			continue;
		waiters[i] = (struct waiter){from, (uint16_t)(p - slots.procs), deadline};
		if (i >= waiters_end)
			waiters_end = i + 1;
		return true;
	}
	return false;
}

static void wait_end(struct waiter *w)
{
	*w = (struct waiter){0};
	while (waiters_end > 0 && !waiters[waiters_end - 1].from.gen)
		waiters_end--;
}

void waits_release(const struct proc *p)
{
	WaitResponse response = {p->exit_status, true, {p->exited_at.seconds, p->exited_at.nanos}};

	for (unsigned int i = waiters_end; i-- > 0;) {
		if (!waiters[i].from.gen || waiters[i].proc != p - slots.procs)
			continue;
		server_reply(waiters[i].from, &WaitResponse_msg, &response);
		wait_end(&waiters[i]);
	}
}

void waits_check(void)
{
	for (unsigned int i = waiters_end; i-- > 0;) {
		struct waiter *w = &waiters[i];

		if (!w->from.gen)
			continue;
		if (w->deadline && now >= w->deadline)
			server_fail(w->from, CODE_DEADLINE_EXCEEDED,
				    VIEW("context deadline exceeded"));
		else if (server_knows(w->from))
			continue;
		wait_end(w);
	}
}

/* ---- the reaper ---- */

static TABLE(stash) struct exit {
	pid_t pid;
	int status;
	struct stamp at;
	uint32_t serial; /* of the latest op then */
} stash[STASH_MAX];
static unsigned int stashed;

static void note_exit(struct proc *p, const struct exit *e)
{
	p->exited = true;
	p->exited_at = e->at;
	p->exit_status = (uint32_t)(WIFSIGNALED(e->status) ? 128 + WTERMSIG(e->status)
							   : WEXITSTATUS(e->status));
	log_line(LOG_DEBUG, "%s: pid %d exited with %u", p->id, p->pid, p->exit_status);
	io_exited(&p->io);
	ops_wake((unsigned int)(p - slots.procs));
}

static bool is_logger(pid_t pid)
{
	for (unsigned int i = 0; i < procs_end; i++) {
		if (!slots.procs[i].used || !io_logger_ended(&slots.procs[i].io, pid))
			continue;
		ops_wake(i);
		return true;
	}
	return false;
}

static void ended(pid_t pid, int status)
{
	struct exit e = {pid, status, {0}, op_newest()};
	struct timespec ts;
	struct proc *p;

	if (op_child_ended(pid, status) || is_logger(pid))
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	e.at = (struct stamp){ts.tv_sec, (int32_t)ts.tv_nsec};
	p = proc_of(pid);
	if (p)
		note_exit(p, &e);
	else if (op_launching_since(e.serial))
		stash[stashed++] = e; /* room is made sure of by reap() */
}

/* Entries older than every launch in flight are nobody's. */
static void stash_tidy(void)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < stashed; i++)
		if (op_launching_since(stash[i].serial))
			stash[kept++] = stash[i];
	stashed = kept;
}

void reap(void)
{
	int status;
	pid_t pid;

	loop_child = false;
	stash_tidy();
	while (stashed < STASH_MAX) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid <= 0)
			return;
		ended(pid, status);
	}
	/* Full: only those we know. The others are asked for again when a launch is over. */
	loop_child = true;
	for (unsigned int i = 0; i < procs_end; i++) {
		const struct proc *p = &slots.procs[i];

		if (p->used && p->pid > 0 && !p->exited && waitpid(p->pid, &status, WNOHANG) > 0)
			ended(p->pid, status);
	}
	for (unsigned int i = 0; i < OP_MAX; i++) {
		pid = ops[i].run.pid;
		if (ops[i].step && pid > 0 && waitpid(pid, &status, WNOHANG) > 0)
			ended(pid, status);
	}
	loop_timer(now + 100);
}

/* Is it one that runs for the shim itself? */
static bool is_helper(pid_t pid)
{
	for (unsigned int i = 0; i < procs_end; i++)
		if (slots.procs[i].used && slots.procs[i].io.logger == pid)
			return true;
	return op_has_child(pid);
}

int proc_set_pid(struct proc *p, pid_t pid, uint32_t serial)
{
	siginfo_t info;

	for (unsigned int i = 0; i < stashed; i++) {
		if (stash[i].pid != pid || (int32_t)(stash[i].serial - serial) < 0)
			continue;
		p->pid = pid;
		note_exit(p, &stash[i]);
		stash[i] = stash[--stashed];
		return 0;
	}
	if (proc_of(pid) || is_helper(pid) ||
	    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
		return -ECHILD;
	p->pid = pid;
	return 0;
}

/* ---- exits ---- */

void container_oom(struct container *c)
{
	TaskNamed event = {view_of(c->id)};

	if (c->oom.fd >= 0 && cgroup_oom_check(c->cgroup, &c->oom))
		event_push("oom", "TaskOOM", &TaskNamed_msg, &event);
}

/* The runtime may have failed to, or have been too early for one that was being made just then; a
 * process that has not been reaped is still ours. */
static void kill_left(const struct container *c)
{
	for (unsigned int i = 0; i < procs_end; i++) {
		const struct proc *p = &slots.procs[i];

		if (p->used && p->container == c - slots.containers && p->pid > 0 && !p->exited)
			kill(p->pid, SIGKILL);
	}
}

static void kill_all_step(struct op *op)
{
	struct container *c = op_container(op);

	if (op->phase == 0) {
		const char *const args[] = {"kill", "--all", c->id, "9", NULL};

		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
		op_run(op, 1);
		return;
	}
	if (!c) { /* deleted meanwhile */
		op_done(op, NULL, NULL);
		return;
	}
	if (run_failed(&op->run)) {
		char buf[512];
		struct text t = TEXT(buf);

		run_ending(&op->run, &c->runtime, &t);
		log_line(LOG_DEBUG, "%s: killing what init has left behind: %s", c->id, buf);
	}
	kill_left(c);
	c->cleaning--;
	op_done(op, NULL, NULL);
}

static void thaw_step(struct op *op)
{
	struct container *c = op_container(op);

	if (op->phase == 0) {
		const char *const args[] = {"resume", c->id, NULL};

		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
		op_run(op, 1);
		return;
	}
	if (c && run_failed(&op->run))
		log_line(LOG_WARN, "%s: could not be resumed after its init exited", c->id);
	if (c)
		c->cleaning--;
	op_done(op, NULL, NULL);
}

/* A runtime that hangs must not keep the exit of a container from being told. */
static void clean(struct container *c, op_step *step)
{
	struct op *op = op_new(step, (struct origin){0}, now + CLEAN_LIMIT_MS);

	if (!op) {
		log_line(LOG_ERROR, "%s: too many requests to clean up behind its init", c->id);
		kill_left(c);
		return;
	}
	op_about(op, container_init(c));
	c->cleaning++;
}

static bool execs_run(const struct container *c)
{
	for (unsigned int i = 0; i < procs_end; i++) {
		const struct proc *p = &slots.procs[i];

		if (is_exec_of(p, c) && (p->busy || (p->state == STATE_RUNNING && !p->told)))
			return true;
	}
	return false;
}

static void tell(struct proc *p)
{
	struct container *c = &slots.containers[p->container];
	TaskExit event = {.container_id = view_of(c->id),
			  .id = view_of(p->id),
			  .pid = (uint32_t)p->pid,
			  .exit_status = p->exit_status,
			  .has_exited_at = true,
			  .exited_at = {p->exited_at.seconds, p->exited_at.nanos}};

	if (c->exit_unseen && !p->is_exec) {
		/* Deleted before it ever ran: it did end, but for its clients it has not exited. */
		p->exit_status = 0;
		p->exited_at = (struct stamp){SENTINEL_SECONDS, 0};
		event.exited_at = (Timestamp){SENTINEL_SECONDS, 0};
	}
	proc_set_state(p, STATE_STOPPED);
	if (!p->is_exec) {
		container_oom(c); /* the kill that ended it comes before its end */
		cgroup_oom_close(&c->oom);
	}
	event_push("exit", "TaskExit", &TaskExit_msg, &event);
	p->told = true;
	waits_release(p);
	ops_wake((unsigned int)(p - slots.procs));
}

void container_give_up(struct container *c)
{
	kill_left(c);
	reap(); /* what had ended by itself has a status of its own */
	for (unsigned int i = 0; i < procs_end; i++) {
		struct proc *p = &slots.procs[i];

		if (!p->used || p->container != c - slots.containers)
			continue;
		if (p->pid > 0 && !p->exited)
			ended(p->pid, SIGKILL); /* it cannot but end so, some day */
		if (p->is_exec && p->state == STATE_RUNNING && !p->told)
			tell(p);
	}
	tell(container_init(c));
}

static bool step(struct proc *p)
{
	struct container *c = &slots.containers[p->container];

	if (p->stdin_due && now >= p->stdin_due)
		proc_open_stdin(p);
	if (!p->exited || p->told || p->busy || p->state == STATE_NEW)
		return false;
	if (p->is_exec) {
		if (p->state != STATE_RUNNING)
			return false;
		tell(p);
		return true;
	}
	if (!c->exiting) {
		c->exiting = true;
		if (p->state == STATE_PAUSED)
			clean(c, thaw_step);
		if (!c->private_pids)
			clean(c, kill_all_step);
		return true;
	}
	if (c->late_exec && !c->cleaning) {
		c->late_exec = false;
		clean(c, kill_all_step);
		return true;
	}
	if (c->cleaning || execs_run(c))
		return false;
	tell(p);
	return true;
}

bool procs_step(void)
{
	bool moved = false;

	for (unsigned int i = 0; i < procs_end; i++)
		moved |= slots.procs[i].used && step(&slots.procs[i]);
	return moved;
}

void procs_forget(void)
{
	if (waiters_end == 0)
		pages_forget(waiters, sizeof(waiters));
	if (stashed == 0)
		pages_forget(stash, sizeof(stash));
}

void procs_want(void)
{
	for (unsigned int i = 0; i < procs_end; i++) {
		if (!slots.procs[i].used)
			continue;
		io_want(&slots.procs[i].io, i);
		if (slots.procs[i].stdin_due)
			loop_timer(slots.procs[i].stdin_due);
	}
	for (unsigned int i = CONTAINER_MAX - 1, left = containers_used; left > 0; i--) {
		const struct oom *oom = &slots.containers[i].oom;

		left -= slots.containers[i].used;
		if (slots.containers[i].used)
			loop_want(oom->fd, oom->ready, REF_OOM, i, 0);
	}
	for (unsigned int i = 0; i < waiters_end; i++)
		if (waiters[i].from.gen && waiters[i].deadline)
			loop_timer(waiters[i].deadline);
}
