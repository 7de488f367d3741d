// SPDX-License-Identifier: Apache-2.0
/*
 * verb.c - what the methods of the Task service have in common: finding out who a request is about
 * and whether it may be done now, and the way a process is launched.
 *
 * Create, exec and restore launch alike: the streams are made, a logging binary gets ready, the
 * runtime runs, its pid file tells the pid, a terminal is taken over, and the client's FIFOs are
 * opened. launch_step() is that sequence, as a part of their own; between its stages it waits.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shim.h"
#include "task.pb.h"

#define FIFO_RETRY_MS 10
#define FIFO_LIMIT_MS 30000

/* What is answered in a state where a verb cannot be done: "cannot VERB", a beginning, the state, an
 * end. 0: it can. Contract 3.5. */
enum refusal { A_PROCESS = 1, A_CONTAINER, IN_A_STATE, TASK_IN_STATE, A_TASK_IN_STATE };

static const uint8_t refusals[STATES][VERBS] = {
	[STATE_CREATED] = {[VERB_PAUSE] = TASK_IN_STATE,
			   [VERB_RESUME] = TASK_IN_STATE,
			   [VERB_CHECKPOINT] = A_TASK_IN_STATE},
	[STATE_RESTORABLE] = {[VERB_PAUSE] = TASK_IN_STATE,
			      [VERB_RESUME] = TASK_IN_STATE,
			      [VERB_CHECKPOINT] = A_TASK_IN_STATE,
			      [VERB_EXEC] = IN_A_STATE},
	[STATE_RUNNING] =
		{[VERB_START] = A_PROCESS, [VERB_DELETE] = A_PROCESS, [VERB_RESUME] = A_PROCESS},
	[STATE_PAUSED] = {[VERB_START] = A_PROCESS,
			  [VERB_DELETE] = A_PROCESS,
			  [VERB_PAUSE] = A_CONTAINER,
			  [VERB_EXEC] = IN_A_STATE},
	[STATE_STOPPED] = {[VERB_START] = A_PROCESS,
			   [VERB_PAUSE] = A_CONTAINER,
			   [VERB_RESUME] = A_CONTAINER,
			   [VERB_UPDATE] = A_CONTAINER,
			   [VERB_CHECKPOINT] = A_CONTAINER,
			   [VERB_EXEC] = IN_A_STATE},
};
static const char beginnings[][12] = {"", " a ", " a ", " in a ", " task in ", " a task in "};
static const char ends[][12] = {"", " process", " container", " state", " state", " state"};
static const char states[STATES][8] = {"new", "created", "created", "running", "paused", "stopped"};
static const char verbs[VERBS][12] = {
	[VERB_START] = "start",   [VERB_DELETE] = "delete", [VERB_PAUSE] = "pause",
	[VERB_RESUME] = "resume", [VERB_UPDATE] = "update", [VERB_CHECKPOINT] = "checkpoint",
	[VERB_EXEC] = "exec",
};

void verb_end(struct op *op)
{
	op_done(op, NULL, NULL);
}

bool verb_decode(struct op *op, const struct pb_msgdesc_s *desc, void *msg)
{
	if (msg_decode(op->request, desc, msg))
		return true;
	op_error(
		op, CODE_INTERNAL,
		"ttrpc: error unmarshalling payload: proto: cannot parse invalid wire-format data");
	verb_end(op);
	return false;
}

struct container *verb_container(struct view id)
{
	struct container *c = container_find(id);

	return c && container_init(c)->state != STATE_NEW ? c : NULL;
}

struct proc *verb_find(struct op *op, struct view id, struct view exec_id)
{
	const struct container *c = verb_container(id);
	struct proc *p = NULL;

	if (!c)
		op_error(op, CODE_NOT_FOUND, "container not created: not found");
	else if (exec_id.len == 0)
		p = container_init(c);
	else if (!(p = exec_find(c, exec_id)))
		op_error(op, CODE_NOT_FOUND, "process does not exist %.*s: not found",
			 VIEW_FMT(exec_id));
	if (p)
		op_about(op, p);
	else
		verb_end(op);
	return p;
}

struct proc *verb_decode_find(struct op *op)
{
	ProcessRequest rq = {0};

	return verb_decode(op, &ProcessRequest_msg, &rq) ? verb_find(op, rq.id, rq.exec_id) : NULL;
}

struct proc *verb_decode_find_init(struct op *op)
{
	ProcessRequest rq = {0};

	return verb_decode(op, &ProcessRequest_msg, &rq) ? verb_find(op, rq.id, (struct view){0})
							 : NULL;
}

bool verb_out_of_time(struct op *op)
{
	if (op->expired)
		op_error(op, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	return op->expired;
}

bool verb_refused(struct op *op, const struct proc *p, enum verb verb)
{
	if (verb_out_of_time(op))
		return true;
	if (!p) { /* it was deleted while the request waited for its turn */
		op_error(op, CODE_NOT_FOUND, "cannot %s a deleted process: not found", verbs[verb]);
	} else {
		uint8_t how = refusals[p->state][verb];

		if (how)
			op_error(op, CODE_UNKNOWN, "cannot %s%s%s%s", verbs[verb], beginnings[how],
				 states[p->state], ends[how]);
	}
	return op->code;
}

bool id_valid(struct view id)
{
	if (id.len == 0 || id.len > ID_MAX || view_is(id, ".") || view_is(id, ".."))
		return false;
	for (size_t i = 0; i < id.len; i++)
		if (id.at[i] == '/' || (unsigned char)id.at[i] < 0x20 || id.at[i] == 0x7f)
			return false;
	return true;
}

const char *container_keep(struct container *c, struct view text)
{
	return pack_add(&c->pack, c->texts, sizeof(c->texts), text);
}

const char *proc_keep(struct proc *p, struct view text)
{
	return pack_add(&p->pack, p->texts, sizeof(p->texts), text);
}

/* ---- launching ---- */

static const char launch_prefix[][28] = {
	[LAUNCH_CREATE] = "OCI runtime create failed",
	[LAUNCH_RESTORE] = "OCI runtime restore failed",
	[LAUNCH_EXEC] = "OCI runtime exec failed",
};

/* Contract 5.3. */
static void launch_run(struct op *op, const struct container *c, struct proc *p, enum launch launch)
{
	char texts[2560], *pid_file;
	struct text t = TEXT(texts);
	const char *args[24];
	int n = 0;

	pid_file = texts;
	pid_path(p, &t);
	if (!p->is_exec || p->has_pid_file)
		unlink(pid_file); /* one of a former life must not be taken for this one's */
	p->has_pid_file = p->is_exec;
	args[n++] = launch == LAUNCH_CREATE ? "create" : launch == LAUNCH_EXEC ? "exec" : "restore";
	if (launch == LAUNCH_EXEC) {
		args[n++] = "--process";
		args[n++] = text_next(&t);
		exec_spec_path(p, &t);
	}
	if (launch == LAUNCH_RESTORE) {
		args[n++] = "--image-path";
		args[n++] = c->checkpoint;
		args[n++] = "--work-path";
		args[n] = text_next(&t);
		text_printf(&t, "%s/work", c->runtime.bundle);
		if (c->criu_work[0])
			args[n] = c->criu_work;
		n++;
	}
	if (p->stdio.terminal) {
		args[n++] = "--console-socket";
		args[n++] = text_next(&t);
		io_console_path(&p->io, &t);
	}
	if (launch != LAUNCH_CREATE)
		args[n++] = "--detach";
	args[n++] = "--pid-file";
	args[n++] = pid_file;
	if (launch != LAUNCH_EXEC && (c->no_pivot || self.no_pivot))
		args[n++] = "--no-pivot";
	if (launch == LAUNCH_CREATE && c->no_new_keyring)
		args[n++] = "--no-new-keyring";
	if (launch == LAUNCH_RESTORE)
		args[n++] = "-no-subreaper";
	if (launch != LAUNCH_EXEC) {
		args[n++] = "--bundle";
		args[n++] = c->runtime.bundle;
	}
	args[n++] = c->id;
	args[n] = NULL;
	op->launching = true;
	if (t.cut) {
		op->run.error = -ENAMETOOLONG;
		return;
	}
	run_start(&op->run, &c->runtime, args, p->stdio.terminal ? NULL : p->io.ends,
		  (struct view){0});
	io_started(&p->io);
}

/* The runtime is through: learns the pid. */
static int learn_pid(const struct op *op, struct proc *p, struct text *why)
{
	char buf[1024];
	struct text path = TEXT(buf);
	pid_t pid;
	int err;

	pid_path(p, &path);
	pid = pid_file_read(path.at);
	if (p->is_exec && unlink(path.at) == 0)
		p->has_pid_file = false; /* nobody else reads it; an init's is for `delete` */
	if (pid < 0) {
		text_printf(why, "failed to retrieve OCI runtime container pid: open %s: %s",
			    path.at, errno_text(-pid));
		return pid;
	}
	err = proc_set_pid(p, pid, op->serial);
	if (err < 0)
		text_printf(why, "%s names pid %d, which is not a child of the shim", path.at, pid);
	return err;
}

enum { STAGE_MAKE, STAGE_READY, STAGE_RUN, STAGE_OPEN };

bool launch_step(struct op *op, const struct container *c, struct proc *p, enum launch launch)
{
	char buf[1024];
	struct text why = TEXT(buf);
	int err;

	if (verb_out_of_time(op))
		return true;
	switch (op->stage) {
	case STAGE_MAKE:
	case STAGE_READY:
		text_add(&why, VIEW("failed to create init process I/O: "));
		if (op->stage == STAGE_MAKE && io_make(&p->io, &p->stdio, p->id, &why) < 0)
			break;
		op->stage = STAGE_READY;
		err = io_ready(&p->io, &why);
		if (err == -EAGAIN) {
			op->timer = UINT64_MAX; /* until ops_wake() */
			op->waits = WAIT_TIME;
			return false;
		}
		if (err < 0)
			break;
		launch_run(op, c, p, launch);
		op->stage = STAGE_RUN;
		op->waits = op->run.pid > 0 ? WAIT_CHILD : 0;
		return false;

	case STAGE_RUN:
		if (run_failed(&op->run)) {
			run_reason(&op->run, &c->runtime, launch_prefix[launch],
				   op_error_text(op, CODE_UNKNOWN));
			return true;
		}
		if (learn_pid(op, p, &why) < 0 || io_take_console(&p->io, &why) < 0)
			break;
		op->limit = now + FIFO_LIMIT_MS;
		op->stage = STAGE_OPEN;
		/* fall through */
	case STAGE_OPEN:
		err = io_open(&p->io, &p->stdio, &why);
		if (err == 0)
			return true;
		if (err == -EAGAIN && now < op->limit) {
			op->timer = now + FIFO_RETRY_MS;
			op->waits = WAIT_TIME;
			return false;
		}
		if (err == -EAGAIN)
			text_add(&why, VIEW(": context deadline exceeded"));
		break;
	}
	op_error(op, CODE_UNKNOWN, "%s", why.at);
	return true;
}
