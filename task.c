// SPDX-License-Identifier: Apache-2.0
/*
 * task.c - the Task service: the table of its methods, and those that can be answered at once.
 *
 * A request becomes an op (op.c), and its method's function is stepped until it calls op_done().
 * The ones here do so in their first step. The others (create.c, life.c) read from top to bottom as
 * a switch over op->phase: each case is a stretch between two waits. Whatever a request named is
 * borrowed from the receive buffer and gone after the first wait, unless the op keeps a copy of it.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <pb_encode.h>

#include "options.pb.h"
#include "shim.h"
#include "task.pb.h"

#define PIDS_MAX (1 << 20)
#define STATS_MAX (256 << 10)

bool task_shutdown, task_closed;

static void about_exit(const struct proc *p, uint32_t *status, bool *has_time, Timestamp *time)
{
	*status = p->exit_status;
	*has_time = true;
	*time = (Timestamp){p->exited_at.seconds, p->exited_at.nanos};
}

/* An exec's is that of its container while that one is paused. */
static TaskStatus status_of(const struct container *c, const struct proc *p)
{
	static const TaskStatus status[STATES] = {[STATE_CREATED] = TaskStatus_CREATED,
						  [STATE_RESTORABLE] = TaskStatus_CREATED,
						  [STATE_RUNNING] = TaskStatus_RUNNING,
						  [STATE_PAUSED] = TaskStatus_PAUSED,
						  [STATE_STOPPED] = TaskStatus_STOPPED};

	if (c->pausing)
		return TaskStatus_PAUSING;
	if (container_init(c)->state == STATE_PAUSED)
		return TaskStatus_PAUSED;
	return status[p->state];
}

static void state_step(struct op *op)
{
	const struct proc *p = verb_decode_find(op);
	StateResponse r;

	if (!p)
		return;
	r = (StateResponse){.id = view_of(p->id),
			    .bundle = view_of(op_container(op)->runtime.bundle),
			    .pid = (uint32_t)p->pid,
			    .status = status_of(op_container(op), p),
			    .stdin_path = view_of(p->stdio.path[STREAM_IN]),
			    .stdout_path = view_of(p->stdio.path[STREAM_OUT]),
			    .stderr_path = view_of(p->stdio.path[STREAM_ERR]),
			    .terminal = p->stdio.terminal,
			    .has_exited_at = true,
			    .exited_at = {SENTINEL_SECONDS, 0}};
	if (p->told)
		about_exit(p, &r.exit_status, &r.has_exited_at, &r.exited_at);
	op_done(op, &StateResponse_msg, &r);
}

static void wait_step(struct op *op)
{
	const struct proc *p = verb_decode_find(op);
	WaitResponse r = {0};

	if (!p)
		return;
	if (p->released) {
		op_done(op, &WaitResponse_msg, &(WaitResponse){0, true, {SENTINEL_SECONDS, 0}});
		return;
	}
	if (!p->told && wait_add(p, op->from, op->deadline)) {
		op->from = (struct origin){0}; /* answered when it exits */
		verb_end(op);
		return;
	}
	if (!p->told)
		op_error(op, CODE_RESOURCE_EXHAUSTED, "too many waits in one shim");
	about_exit(p, &r.exit_status, &r.has_exited_at, &r.exited_at);
	op_done(op, &WaitResponse_msg, &r);
}

static void close_io_step(struct op *op)
{
	CloseIORequest rq = {0};
	struct proc *p;

	if (!verb_decode(op, &CloseIORequest_msg, &rq) || !(p = verb_find(op, rq.id, rq.exec_id)))
		return;
	proc_open_stdin(p);
	io_close_stdin(&p->io);
	verb_end(op);
}

static void resize_pty_step(struct op *op)
{
	ResizePtyRequest rq = {0};
	const struct proc *p;
	int err;

	if (!verb_decode(op, &ResizePtyRequest_msg, &rq) || !(p = verb_find(op, rq.id, rq.exec_id)))
		return;
	if (p->is_exec && p->state == STATE_STOPPED)
		op_error(op, CODE_UNKNOWN, "cannot resize a stopped container");
	err = io_resize(&p->io, rq.width, rq.height);
	if (err < 0)
		op_error(op, CODE_UNKNOWN, "%s", errno_text(-err));
	verb_end(op);
}

struct pids {
	const struct container *container;
	pb_ostream_t out;
};

/* One process; if it is an exec's, with whose. */
static void add_pid(void *arg, pid_t pid)
{
	struct pids *pids = arg;
	const struct proc *p = exec_of_pid(pids->container, pid);
	ProcessInfo info = {.pid = (uint32_t)pid};
	ProcessDetails details;
	pb_byte_t buf[ID_MAX + 8];
	pb_ostream_t out = pb_ostream_from_buffer(buf, sizeof(buf));

	if (p) {
		details.exec_id = view_of(p->id);
		info.has_info = pb_encode(&out, &ProcessDetails_msg, &details);
		info.info = (Any){VIEW("containerd.runc.v1.ProcessDetails"),
				  {(char *)buf, out.bytes_written}};
	}
	if (pb_encode_tag(&pids->out, PB_WT_STRING, PidsResponse_processes_tag))
		pb_encode_submessage(&pids->out, &ProcessInfo_msg, &info);
}

static void pids_step(struct op *op)
{
	const struct proc *p = verb_decode_find_init(op);
	const struct container *c = op_container(op);
	PidsResponse r = {0};
	struct pids pids;
	char *buf;

	if (!p)
		return;
	buf = pages_get(PIDS_MAX);
	if (!buf) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
		verb_end(op);
		return;
	}
	pids = (struct pids){c, pb_ostream_from_buffer((pb_byte_t *)buf, PIDS_MAX)};
	if (c->cgroup)
		cgroup_pids(c->cgroup, add_pid, &pids);
	/* A daemon that restarts takes an empty list for a leaked container: contract 9.2. */
	if (pids.out.bytes_written == 0 && container_init(c)->pid > 0)
		add_pid(&pids, container_init(c)->pid);
	r.processes = (struct view){buf, pids.out.bytes_written};
	op_done(op, &PidsResponse_msg, &r);
	pages_put(buf, PIDS_MAX);
}

static void stats_step(struct op *op)
{
	const struct proc *p = verb_decode_find_init(op);
	const struct container *c = op_container(op);
	StatsResponse r = {.has_stats = true};
	char *buf = scratch.copy, *more = NULL;
	ssize_t n = -ENOENT;

	if (!p)
		return;
	if (c->cgroup)
		n = cgroup_stats(c->cgroup, &r.stats.type_url, buf, sizeof(scratch.copy));
	if (n == -ENOSPC) { /* many devices, or sizes of huge pages */
		buf = more = pages_get(STATS_MAX);
		n = buf ? cgroup_stats(c->cgroup, &r.stats.type_url, buf, STATS_MAX) : -ENOMEM;
	}
	if (n == -ENOENT)
		op_error(op, CODE_NOT_FOUND, "cgroup does not exist: not found");
	else if (n < 0)
		op_error(op, CODE_UNKNOWN, "reading the cgroup: %s", errno_text((int)-n));
	else
		r.stats.value = (struct view){buf, (size_t)n};
	op_done(op, &StatsResponse_msg, &r);
	pages_put(more, STATS_MAX);
}

static void connect_step(struct op *op)
{
	ProcessRequest rq = {0};
	ConnectResponse r = {.shim_pid = (uint32_t)getpid()};
	const struct container *c;

	if (!verb_decode(op, &ProcessRequest_msg, &rq))
		return;
	c = verb_container(rq.id);
	if (c)
		r.task_pid = (uint32_t)container_init(c)->pid;
	op_done(op, &ConnectResponse_msg, &r);
}

static void shutdown_step(struct op *op)
{
	ProcessRequest rq = {0};

	if (!verb_decode(op, &ProcessRequest_msg, &rq))
		return;
	if (container_count() == 0 || self.v1) {
		task_shutdown = true;
		server_hide(); /* before anyone is told: no `start` may find a daemon about to leave */
	}
	verb_end(op);
}

/* ---- dispatch ---- */

static const struct method {
	char name[12];
	op_step *step;
} methods[] = {
	{"State", state_step},
	{"Create", create_step},
	{"Start", start_step},
	{"Delete", delete_step},
	{"Pids", pids_step},
	{"Pause", pause_step},
	{"Resume", resume_step},
	{"Checkpoint", checkpoint_step},
	{"Kill", kill_step},
	{"Exec", exec_step},
	{"ResizePty", resize_pty_step},
	{"CloseIO", close_io_step},
	{"Update", update_step},
	{"Wait", wait_step},
	{"Stats", stats_step},
	{"Connect", connect_step},
	{"Shutdown", shutdown_step},
};

static const struct method *method_find(struct view name)
{
	for (size_t i = 0; i < COUNT(methods); i++)
		if (view_is(name, methods[i].name))
			return &methods[i];
	return NULL;
}

static void refuse_request(const struct request *rq, const char *what, struct view name)
{
	char buf[256];
	struct text t = TEXT(buf);

	text_printf(&t, "%s %.*s", what, VIEW_FMT(name));
	server_fail(rq->from, CODE_UNIMPLEMENTED, (struct view){t.at, t.len});
}

static void begin(const struct request *rq)
{
	const struct method *m = method_find(rq->method);
	uint64_t deadline = rq->timeout_nano > 0 ? now + (uint64_t)rq->timeout_nano / 1000000 + 1
						 : 0;
	struct op *op;

	if (task_closed) {
		server_fail(rq->from, CODE_UNAVAILABLE,
			    VIEW("the shim is about to end: unavailable"));
		return;
	}
	if (!view_is(rq->service, "containerd.task.v2.Task") &&
	    !view_is(rq->service, "containerd.task.v3.Task")) {
		refuse_request(rq, "service", rq->service);
		return;
	}
	if (!m) {
		refuse_request(rq, "method", rq->method);
		return;
	}
	if (rq->timeout_nano < 0) {
		server_fail(rq->from, CODE_DEADLINE_EXCEEDED, VIEW("context deadline exceeded"));
		return;
	}
	op = op_new(m->step, rq->from, deadline);
	if (!op) {
		server_fail(rq->from, CODE_RESOURCE_EXHAUSTED,
			    VIEW("too many requests in one shim"));
		return;
	}
	op->request = rq->payload;
	op->step(op);
	if (op->step && !op->kept)
		op->request = (struct view){0}; /* the receive buffer is about to be used again */
}

void task_receive(unsigned int conn, short got)
{
	struct request rq;

	server_receive(conn, got);
	while (server_next(conn, &rq))
		begin(&rq);
}
