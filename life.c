// SPDX-License-Identifier: Apache-2.0
/*
 * life.c - the methods that change a process: Exec, Start, Kill, Delete, and for a container as a
 * whole Pause, Resume, Update, Checkpoint.
 *
 * Requests on one process take turns (op.c), so each of these finds the state the one before it
 * left, and a refused one changes nothing. Kill never waits for a turn.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "events.pb.h"
#include "options.pb.h"
#include "shim.h"
#include "task.pb.h"

#define DRAIN_LIMIT_MS 10000
#define EXIT_LIMIT_MS 10000
#define LOGGER_LIMIT_MS 12000

static void run_verb(struct op *op, const struct container *c, const char *verb)
{
	const char *const args[] = {verb, c->id, NULL};

	run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
}

/* The first step of a method that takes turns: who is it about? */
static void queue(struct op *op, const struct proc *p)
{
	if (!p)
		return;
	op->phase = 1;
	op_take_turn(op);
}

/* ---- Exec ---- */

/* The request's own word on the terminal goes into the process' description. */
static int write_spec(const char *path, struct view spec, bool terminal)
{
	struct view word = terminal ? VIEW("true") : VIEW("false");
	size_t cap = spec.len + 64;
	char *own = cap > sizeof(scratch.args) ? pages_get(cap) : NULL;
	struct text t = {.at = own ? own : scratch.args, .cap = cap};
	struct json j;
	int value, err = -EINVAL;

	if (cap > sizeof(scratch.args) && !own)
		return -ENOMEM;
	if (json_open(&j, spec) == 0 && json_is_object(&j, 0)) {
		value = json_get(&j, 0, "terminal");
		if (value >= 0) {
			struct view old = json_raw(&j, value);

			text_add(&t, (struct view){spec.at, (size_t)(old.at - spec.at)});
			text_add(&t, word);
			text_add(&t,
				 (struct view){old.at + old.len,
					       spec.len - (size_t)(old.at + old.len - spec.at)});
		} else {
			struct view all = json_raw(&j, 0);

			text_printf(&t, "{\"terminal\":%s%s", word.at, j.count > 1 ? "," : "");
			text_add(&t, (struct view){all.at + 1, all.len - 1});
		}
		err = file_write(path, (struct view){t.at, t.len}, 0600);
	}
	json_close(&j);
	pages_put(own, cap);
	return err;
}

static struct proc *new_exec(struct op *op, struct container *c, const ExecProcessRequest *rq)
{
	char buf[1024];
	struct text path = TEXT(buf);
	struct proc *p;
	int err;

	if (!id_valid(rq->exec_id)) {
		op_error(op, CODE_INVALID_ARGUMENT, "invalid exec id: invalid argument");
		return NULL;
	}
	if (exec_find(c, rq->exec_id)) {
		op_error(op, CODE_ALREADY_EXISTS, "id %.*s: already exists", VIEW_FMT(rq->exec_id));
		return NULL;
	}
	p = exec_new(c);
	if (!p) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "too many processes in one shim");
		return NULL;
	}
	p->id = proc_keep(p, rq->exec_id);
	p->stdio = container_init(c)->stdio;
	p->stdio.terminal = rq->terminal;
	p->stdio.path[STREAM_IN] = proc_keep(p, rq->stdin_path);
	p->stdio.path[STREAM_OUT] = proc_keep(p, rq->stdout_path);
	p->stdio.path[STREAM_ERR] = proc_keep(p, rq->stderr_path);
	if (!p->id || !p->stdio.path[STREAM_IN] || !p->stdio.path[STREAM_OUT] ||
	    !p->stdio.path[STREAM_ERR]) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "a path is too long, or no memory is left");
		p->id = NULL;
	} else {
		exec_spec_path(p, &path);
		p->has_spec = true;
		err = path.cut ? -ENAMETOOLONG : write_spec(path.at, rq->spec.value, rq->terminal);
		if (err == -EINVAL)
			op_error(op, CODE_UNKNOWN, "the process of exec %s is no JSON object",
				 p->id);
		else if (err < 0)
			op_error(op, CODE_UNKNOWN, "write %s: %s", path.at, errno_text(-err));
	}
	if (op->code) {
		proc_free(p);
		return NULL;
	}
	return p;
}

void exec_step(struct op *op)
{
	ExecProcessRequest rq = {0};
	struct container *c;
	struct proc *init, *p;
	TaskExecAdded event;

	if (!verb_decode(op, &ExecProcessRequest_msg, &rq) ||
	    !(init = verb_find(op, rq.id, (struct view){0})))
		return;
	c = op_container(op);
	p = verb_refused(op, init, VERB_EXEC) ? NULL : new_exec(op, c, &rq);
	if (p) {
		proc_set_state(p, STATE_CREATED);
		event = (TaskExecAdded){view_of(c->id), view_of(p->id)};
		event_push("exec-added", "TaskExecAdded", &TaskExecAdded_msg, &event);
	}
	verb_end(op);
}

/* ---- Start ---- */

enum { START_BEGIN, START_TURN, START_RUNNING, START_LAUNCH };

static void start_succeeded(struct op *op, struct container *c, struct proc *p)
{
	StartResponse response = {(uint32_t)p->pid};

	p->busy--;
	proc_set_state(p, STATE_RUNNING);
	if (p->is_exec) {
		TaskExecStarted event = {view_of(c->id), view_of(p->id), (uint32_t)p->pid};
		char buf[1024];
		struct text spec = TEXT(buf);

		c->late_exec |= c->exiting && !c->private_pids;
		exec_spec_path(p, &spec);
		unlink(spec.at); /* it may hold secrets, and has been read */
		p->has_spec = false;
		event_push("exec-started", "TaskExecStarted", &TaskExecStarted_msg, &event);
	} else {
		TaskStart event = {view_of(c->id), (uint32_t)p->pid};

		c->started = true;
		event_push("start", "TaskStart", &TaskStart_msg, &event);
	}
	op_done(op, &StartResponse_msg, &response);
}

/* A failed exec stays what it was, so that it can be deleted, but whoever waits for it is told. */
static void launch_failed(struct op *op, struct proc *p)
{
	p->busy--;
	if (p->pid > 0 && !p->exited)
		kill(p->pid, SIGKILL);
	io_close(&p->io);
	io_init(&p->io);
	/* Its end, seen or yet to come, is nobody's business. */
	p->pid = 0;
	p->exited = false;
	p->exit_status = 0;
	p->exited_at = (struct stamp){SENTINEL_SECONDS, 0};
	if (p->is_exec) {
		p->released = true;
		waits_release(p);
	}
	verb_end(op);
}

static void start_launch(struct op *op, struct container *c, struct proc *p)
{
	if (!launch_step(op, c, p, p->is_exec ? LAUNCH_EXEC : LAUNCH_RESTORE))
		return;
	if (op->code) {
		launch_failed(op, p);
		return;
	}
	p->stdin_due = now;
	if (!p->is_exec)
		container_launched(c);
	start_succeeded(op, c, p);
}

void start_step(struct op *op)
{
	struct container *c = op_container(op);
	struct proc *p = op_proc(op);

	switch (op->phase) {
	case START_BEGIN:
		queue(op, verb_decode_find(op));
		return;

	case START_TURN:
		if (!op->code && p && p->is_exec && c->exiting)
			op_error(op, CODE_FAILED_PRECONDITION,
				 "container %s init process is not running: failed precondition",
				 c->id);
		if (op->code || verb_refused(op, p, VERB_START)) {
			verb_end(op);
			return;
		}
		p->busy++;
		p->released = false;
		if (p->is_exec || p->state == STATE_RESTORABLE) {
			op_wait(op, START_LAUNCH, 0);
			return;
		}
		proc_open_stdin(p);
		run_verb(op, c, "start");
		op_run(op, START_RUNNING);
		return;

	case START_RUNNING:
	case START_LAUNCH:
		if (!p) { /* deleted with its container, by somebody who did not want to wait */
			verb_refused(op, p, VERB_START);
			verb_end(op);
			return;
		}
		if (op->phase == START_LAUNCH) {
			start_launch(op, c, p);
			return;
		}
		if (verb_out_of_time(op) || run_failed(&op->run)) {
			if (!op->code)
				run_reason(&op->run, &c->runtime, "OCI runtime start failed",
					   op_error_text(op, CODE_UNKNOWN));
			p->busy--;
			verb_end(op);
			return;
		}
		start_succeeded(op, c, p);
		return;
	}
}

/* ---- Delete ---- */

enum { DELETE_BEGIN, DELETE_TURN, DELETE_RUN, DELETE_EXIT, DELETE_LOGGER, DELETE_UNMOUNT };

static void delete_succeeded(struct op *op, struct container *c, struct proc *p)
{
	DeleteResponse r = {
		(uint32_t)p->pid, p->exit_status, true, {p->exited_at.seconds, p->exited_at.nanos}};

	if (p->is_exec) {
		proc_free(p);
	} else {
		TaskDelete event = {view_of(c->id), r.pid, r.exit_status, true, r.exited_at};

		event_push("delete", "TaskDelete", &TaskDelete_msg, &event);
		container_free(c);
	}
	op_done(op, &DeleteResponse_msg, &r);
}

/* The runtime forgets the container; a checkpoint, or the `delete` action, may have made it do so
 * before. */
static void delete_ran(struct op *op, struct container *c)
{
	struct text *why;

	if (verb_out_of_time(op))
		return;
	if (run_failed(&op->run)) {
		why = op_error_text(op, CODE_UNKNOWN);
		run_reason(&op->run, &c->runtime, "failed to delete task", why);
		if (text_has(why, "does not exist") ||
		    (op->run.error == 0 && c->state_seen && !run_knows(&c->runtime, c->id))) {
			op->code = 0;
			why->len = 0;
		}
	}
	c->deleting = !op->code;
	if (op->code)
		c->exit_unseen = false; /* it goes on, and will be seen */
}

/* One that never ran has been killed by its deletion: first its exit, then this. */
static bool awaits_exit(struct op *op, struct container *c, const struct proc *p)
{
	if (!c->deleting || p->told || p->is_exec)
		return false;
	if (now < op->limit) {
		op->timer = op->limit;
		op_wait(op, DELETE_EXIT, WAIT_TIME);
		return true;
	}
	container_give_up(c); /* an exec that is just being started, say, holds it back too long */
	return false;
}

void delete_step(struct op *op)
{
	struct container *c = op_container(op);
	struct proc *p = op_proc(op);
	bool ran;
	int err;

	if (op->phase > DELETE_TURN && !p) { /* with its container, while this waited */
		verb_refused(op, p, VERB_DELETE);
		verb_end(op);
		return;
	}
	switch (op->phase) {
	case DELETE_BEGIN:
		queue(op, verb_decode_find(op));
		return;

	case DELETE_TURN:
		if (verb_refused(op, p, VERB_DELETE)) {
			verb_end(op);
			return;
		}
		ran = p->told && p->pid > 0; /* of what never ran no output will come */
		if (op->limit == 0)
			op->limit = now + DRAIN_LIMIT_MS;
		if (ran && !io_drained(&p->io) && now < op->limit) {
			op->timer = op->limit; /* or as soon as its streams end: ops_wake() */
			op_wait(op, DELETE_TURN, WAIT_TIME);
			return;
		}
		if (ran && !io_drained(&p->io))
			log_line(LOG_WARN, "%s: its output has not ended; closed", p->id);
		if (p->is_exec) {
			op_wait(op, DELETE_EXIT, 0);
			return;
		}
		c->exit_unseen = p->state != STATE_STOPPED;
		if (p->state == STATE_RESTORABLE) {
			op_wait(op, DELETE_EXIT, 0); /* the runtime knows nothing of it */
			return;
		}
		run_verb(op, c, "delete");
		op_run(op, DELETE_RUN);
		return;

	case DELETE_RUN:
		delete_ran(op, c);
		op->limit = now + EXIT_LIMIT_MS;
		/* fall through */
	case DELETE_EXIT:
		if (awaits_exit(op, c, p))
			return;
		if (p->stdio.terminal)
			p->io.logger = 0; /* its end is not waited for */
		io_logger_stop(&p->io, SIGTERM);
		op->limit = now + LOGGER_LIMIT_MS;
		/* fall through */
	case DELETE_LOGGER:
		if (p->io.logger > 0 && now < op->limit) {
			op->timer = op->limit;
			op_wait(op, DELETE_LOGGER, WAIT_TIME);
			return;
		}
		io_close(&p->io); /* with SIGKILL for a logger that has not ended */
		op->limit = now + UMOUNT_LIMIT_MS;
		/* fall through */
	case DELETE_UNMOUNT:
		err = p->is_exec ? 0 : container_unmount(c);
		if (err == -EBUSY && now < op->limit) {
			op->timer = now + UMOUNT_RETRY_MS;
			op_wait(op, DELETE_UNMOUNT, WAIT_TIME);
			return;
		}
		if (err < 0)
			op_error(op, CODE_UNKNOWN, "failed rootfs umount: %s", errno_text(-err));
		if (op->code)
			verb_end(op);
		else
			delete_succeeded(op, c, p);
		return;
	}
}

/* ---- Kill ---- */

/* What the runtime said of a signal it could not send: contract 3.6. */
static void kill_error(struct op *op, const struct runtime *rt)
{
	char buf[2048];
	struct text t = TEXT(buf);

	run_ending(&op->run, rt, &t);
	if (text_has(&t, "os: process already finished") || text_has(&t, "container not running") ||
	    text_has(&t, "no such process"))
		op_error(op, CODE_NOT_FOUND, "process already finished: not found");
	else if (text_has(&t, "does not exist"))
		op_error(op, CODE_NOT_FOUND, "no such container: not found");
	else
		op_error(op, CODE_UNKNOWN, "unknown error after kill: %s", buf);
}

static void kill_exec(struct op *op, const struct proc *p, uint32_t signal)
{
	if (p->pid == 0)
		op_error(op, CODE_FAILED_PRECONDITION, "process not created: failed precondition");
	else if (p->exited)
		op_error(op, CODE_NOT_FOUND, "process already finished: not found");
	else if (kill(p->pid, (int)signal) < 0)
		op_error(op, CODE_UNKNOWN, "exec kill error: unknown error after kill: %s",
			 errno_text(errno));
	verb_end(op);
}

enum { KILL_BEGIN, KILL_SENT, KILL_LEFT_OVERS };

static void kill_begin(struct op *op)
{
	KillRequest rq = {0};
	const struct container *c;
	const struct proc *p;
	const char *args[5];
	char signal[16];
	struct text number = TEXT(signal);
	int n = 0;

	if (!verb_decode(op, &KillRequest_msg, &rq) || !(p = verb_find(op, rq.id, rq.exec_id)))
		return;
	c = op_container(op);
	if (p->is_exec) {
		kill_exec(op, p, rq.signal);
		return;
	}
	if (p->state == STATE_STOPPED && !rq.all) {
		op_error(op, CODE_NOT_FOUND, "process already finished: not found");
		verb_end(op);
		return;
	}
	text_printf(&number, "%u", rq.signal);
	args[n++] = "kill";
	if (rq.all)
		args[n++] = "--all";
	args[n++] = c->id;
	args[n++] = signal;
	args[n] = NULL;
	run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
	op_run(op, p->state == STATE_STOPPED ? KILL_LEFT_OVERS : KILL_SENT);
}

void kill_step(struct op *op)
{
	if (op->phase == KILL_BEGIN) {
		kill_begin(op);
		return;
	}
	if (!verb_out_of_time(op)) {
		if (!op_proc(op) || op->phase == KILL_LEFT_OVERS)
			op_error(op, CODE_NOT_FOUND, "process already finished: not found");
		else if (run_failed(&op->run))
			kill_error(op, &op_container(op)->runtime);
	}
	verb_end(op);
}

/* ---- Pause, Resume ---- */

enum { CHANGE_BEGIN, CHANGE_TURN, CHANGE_RAN };

static void change_state(struct op *op, enum verb verb)
{
	bool pause = verb == VERB_PAUSE;
	struct container *c = op_container(op);
	struct proc *p = op_proc(op);
	TaskNamed event;

	switch (op->phase) {
	case CHANGE_BEGIN:
		queue(op, verb_decode_find_init(op));
		return;

	case CHANGE_TURN:
		if (verb_refused(op, p, verb)) {
			verb_end(op);
			return;
		}
		p->busy++;
		c->pausing = pause;
		run_verb(op, c, pause ? "pause" : "resume");
		op_run(op, CHANGE_RAN);
		return;

	case CHANGE_RAN:
		p->busy--;
		c->pausing = false;
		if (verb_out_of_time(op)) {
			;
		} else if (run_failed(&op->run)) {
			run_reason(&op->run, &c->runtime,
				   pause ? "OCI runtime pause failed" : "OCI runtime resume failed",
				   op_error_text(op, CODE_UNKNOWN));
		} else {
			proc_set_state(p, pause ? STATE_PAUSED : STATE_RUNNING);
			event.container_id = view_of(c->id);
			event_push(pause ? "paused" : "resumed",
				   pause ? "TaskPaused" : "TaskResumed", &TaskNamed_msg, &event);
		}
		verb_end(op);
		return;
	}
}

void pause_step(struct op *op)
{
	change_state(op, VERB_PAUSE);
}

void resume_step(struct op *op)
{
	change_state(op, VERB_RESUME);
}

/* ---- Update ---- */

void update_step(struct op *op)
{
	struct container *c = op_container(op);
	struct proc *p = op_proc(op);
	UpdateTaskRequest rq = {0};

	switch (op->phase) {
	case CHANGE_BEGIN:
		if (!verb_decode(op, &UpdateTaskRequest_msg, &rq) ||
		    !(p = verb_find(op, rq.id, (struct view){0})))
			return;
		if (!op_keep_request(op)) {
			op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
			verb_end(op);
			return;
		}
		queue(op, p);
		return;

	case CHANGE_TURN: {
		const char *const args[] = {"update", "--resources=-", c ? c->id : NULL, NULL};

		if (verb_refused(op, p, VERB_UPDATE)) {
			verb_end(op);
			return;
		}
		p->busy++;
		msg_decode(op->request, &UpdateTaskRequest_msg, &rq);
		run_start(&op->run, &c->runtime, args, NULL, rq.resources.value);
		op_run(op, CHANGE_RAN);
		return;
	}
	case CHANGE_RAN:
		p->busy--;
		if (!verb_out_of_time(op) && run_failed(&op->run))
			run_ending(&op->run, &c->runtime, op_error_text(op, CODE_UNKNOWN));
		verb_end(op);
		return;
	}
}

/* ---- Checkpoint (contract 5.4) ---- */

/* CRIU's work directory, if it is the default one: as `name` in the bundle. */
static void remove_work(const struct container *c)
{
	char buf[1024];
	struct text path = TEXT(buf);
	struct dir d = {0};
	const struct dirent *entry;

	text_printf(&path, "%s/work/criu-work", c->runtime.bundle);
	d.fd = file_open(path.at, O_RDONLY | O_DIRECTORY, 0);
	while (d.fd >= 0 && (entry = dir_next(&d)))
		unlinkat(d.fd, entry->d_name, 0);
	fd_close(&d.fd);
	rmdir(path.at);
}

static void work_path(const struct container *c, const CheckpointOptions *o, struct text *t)
{
	if (o->work_path.len > 0)
		text_add(t, o->work_path);
	else
		text_printf(t, "%s/work/criu-work", c->runtime.bundle);
}

static bool checkpoint_decode(const struct op *op, CheckpointTaskRequest *rq, CheckpointOptions *o)
{
	*rq = (CheckpointTaskRequest){0};
	*o = (CheckpointOptions){0};
	return msg_decode(op->request, &CheckpointTaskRequest_msg, rq) &&
	       (rq->options.value.len == 0 ||
		msg_decode(rq->options.value, &CheckpointOptions_msg, o));
}

static void checkpoint_run(struct op *op, const struct container *c)
{
	char *buf = pages_get(4 * PATH_SIZE);
	struct text t = {.at = buf, .cap = 4 * PATH_SIZE};
	const char *args[ARGS_MAX];
	CheckpointTaskRequest rq;
	CheckpointOptions o;
	struct view rest, ns;
	int n = 0;

	checkpoint_decode(op, &rq, &o);
	rest = rq.options.value;
	op->run.error = buf ? 0 : -ENOMEM;
	if (!buf)
		return;
	args[n++] = "checkpoint";
	args[n++] = "--image-path";
	args[n++] = t.at;
	text_add(&t, rq.path);
	args[n++] = "--work-path";
	args[n++] = text_next(&t);
	work_path(c, &o, &t);
	if (o.parent_path.len > 0) {
		args[n++] = "--parent-path";
		args[n++] = text_next(&t);
		text_add(&t, o.parent_path);
	}
	if (o.open_tcp)
		args[n++] = "--tcp-established";
	if (o.external_unix_sockets)
		args[n++] = "--ext-unix-sk";
	if (o.terminal)
		args[n++] = "--shell-job";
	if (o.file_locks)
		args[n++] = "--file-locks";
	while (n < ARGS_MAX - 4 && field_next(&rest, CheckpointOptions_empty_namespaces_tag, &ns)) {
		args[n++] = "--empty-ns";
		args[n++] = text_next(&t);
		text_add(&t, ns);
	}
	if (!o.exit)
		args[n++] = "--leave-running";
	args[n++] = c->id;
	args[n] = NULL;
	if (t.cut)
		op->run.error = -ENAMETOOLONG;
	else
		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
	pages_put(buf, 4 * PATH_SIZE);
}

/* CRIU's own log is worth keeping: a copy stays in the bundle. */
static void checkpoint_failed(struct op *op, const struct container *c, const CheckpointOptions *o)
{
	char from_buf[1024], to_buf[1024];
	struct text from = TEXT(from_buf), to = TEXT(to_buf);
	struct text *why = op_error_text(op, CODE_UNKNOWN);
	struct view first;
	struct file dump;

	work_path(c, o, &from);
	text_add(&from, VIEW("/dump.log"));
	text_printf(&to, "%s/criu-dump.log", c->runtime.bundle);
	if (file_pages(from.at, &dump) == 0) {
		file_write(to.at, (struct view){dump.at, dump.len}, 0644);
		pages_put(dump.at, dump.cap);
	}
	run_ending(&op->run, &c->runtime, why);
	first = (struct view){why->at, why->len};
	why->len = view_cut(&first, '\n').len;
	text_printf(why, " path= %s", to.at);
}

void checkpoint_step(struct op *op)
{
	struct container *c = op_container(op);
	struct proc *p = op_proc(op);
	CheckpointTaskRequest rq;
	CheckpointOptions o;

	switch (op->phase) {
	case CHANGE_BEGIN:
		rq = (CheckpointTaskRequest){0};
		if (!verb_decode(op, &CheckpointTaskRequest_msg, &rq) ||
		    !(p = verb_find(op, rq.id, (struct view){0})))
			return;
		if (!checkpoint_decode(op, &rq, &o)) {
			op_error(op, CODE_INVALID_ARGUMENT, "malformed checkpoint options");
			verb_end(op);
			return;
		}
		if (!op_keep_request(op)) {
			op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
			verb_end(op);
			return;
		}
		queue(op, p);
		return;

	case CHANGE_TURN:
		if (verb_refused(op, p, VERB_CHECKPOINT)) {
			verb_end(op);
			return;
		}
		p->busy++;
		checkpoint_run(op, c);
		op_run(op, CHANGE_RAN);
		return;

	case CHANGE_RAN:
		p->busy--;
		checkpoint_decode(op, &rq, &o);
		if (!verb_out_of_time(op) && run_failed(&op->run))
			checkpoint_failed(op, c, &o);
		if (o.work_path.len == 0)
			remove_work(c);
		verb_end(op);
		return;
	}
}
