// SPDX-License-Identifier: Apache-2.0
/*
 * task.c - the Task service: for each method, what is decoded, checked, done and answered.
 *
 * A request becomes an op (op.c), and its method's function is stepped until it calls op_done().
 * The quick ones do so in their first step. The others read from top to bottom as a switch over
 * op->phase: each case is a stretch between two waits. Whatever a request named is borrowed from
 * the receive buffer and gone after the first wait, unless the op keeps a copy of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pb_encode.h>

#include "events.pb.h"
#include "options.pb.h"
#include "shim.h"
#include "task.pb.h"

#define FIFO_RETRY_MS 10
#define STDIN_GRACE_MS 100
#define FIFO_LIMIT_MS 30000
#define DRAIN_LIMIT_MS 10000
#define EXIT_LIMIT_MS 10000
#define UMOUNT_RETRY_MS 50
#define UMOUNT_LIMIT_MS 2500
#define PIDS_MAX (1 << 20)

bool task_shutdown;

/* ---- what every method needs ---- */

/* What a method answers in a state where it cannot be done; NULL: it can. Contract 3.5. */
enum verb { VERB_START, VERB_DELETE, VERBS };
static const char *const refuse[STATES][VERBS] = {
	[STATE_RUNNING] = {[VERB_START] = "cannot start a running process",
			   [VERB_DELETE] = "cannot delete a running process"},
	[STATE_PAUSED] = {[VERB_START] = "cannot start a paused process",
			  [VERB_DELETE] = "cannot delete a paused process"},
	[STATE_STOPPED] = {[VERB_START] = "cannot start a stopped process"},
};

static void done(struct op *op)
{
	op_done(op, NULL, NULL);
}

static bool decode(struct op *op, const pb_msgdesc_t *desc, void *msg)
{
	if (msg_decode(op->request, desc, msg))
		return true;
	op_error(op, CODE_INTERNAL,
		 "ttrpc: error unmarshalling payload: proto: cannot parse invalid wire-format data");
	done(op);
	return false;
}

/* The container of a request, visible only once its Create is through. */
static struct container *visible(struct view id)
{
	struct container *c = container_find(id);

	return c && container_init(c)->state != STATE_NEW ? c : NULL;
}

/* Who a request is about; if there is no such process, it is answered. */
static struct proc *find(struct op *op, struct view id, struct view exec_id)
{
	struct container *c = visible(id);
	struct proc *p = NULL;

	if (!c)
		op_error(op, CODE_NOT_FOUND, "container not created: not found");
	else if (exec_id.len == 0)
		p = container_init(c);
	else if (!(p = exec_find(c, exec_id)))
		op_error(op, CODE_NOT_FOUND, "process does not exist %.*s: not found", VIEW_FMT(exec_id));
	if (p)
		op_about(op, p);
	else
		done(op);
	return p;
}

/* Most requests name nothing but a process. */
static struct proc *decode_find(struct op *op)
{
	ProcessRequest rq = {0};

	return decode(op, &ProcessRequest_msg, &rq) ? find(op, rq.id, rq.exec_id) : NULL;
}

static bool refused(struct op *op, const struct proc *p, enum verb verb)
{
	const char *why = refuse[p->state][verb];

	if (why)
		op_error(op, CODE_UNKNOWN, "%s", why);
	return why;
}

static void about_exit(const struct proc *p, uint32_t *status, bool *has_time, Timestamp *time)
{
	*status = p->exit_status;
	*has_time = true;
	*time = (Timestamp){p->exited_at.seconds, p->exited_at.nanos};
}

/* ---- Create ---- */

static bool id_valid(struct view id)
{
	if (id.len == 0 || id.len > ID_MAX || view_is(id, ".") || view_is(id, ".."))
		return false;
	for (size_t i = 0; i < id.len; i++)
		if (id.at[i] == '/' || (unsigned char)id.at[i] < 0x20 || id.at[i] == 0x7f)
			return false;
	return true;
}

/* Does the container have a pid namespace of its own? If config.json does not say so: no. */
static bool private_pids(const struct container *c)
{
	char path_buf[1024];
	struct text path = TEXT(path_buf);
	struct file config;
	bool private = false;
	struct json j;

	text_printf(&path, "%s/config.json", c->runtime.bundle);
	if (file_pages(path.at, &config) < 0)
		return false;
	if (json_open(&j, (struct view){config.at, config.len}) == 0) {
		int all = json_get(&j, json_get(&j, 0, "linux"), "namespaces");

		for (int ns = json_first(&j, all); ns >= 0; ns = json_next(&j, all, ns))
			if (view_is(json_raw(&j, json_get(&j, ns, "type")), "pid"))
				private = json_raw(&j, json_get(&j, ns, "path")).len == 0;
		json_close(&j);
	}
	pages_put(config.at, config.cap);
	return private;
}

static const char *keep(struct container *c, struct view text)
{
	return pack_add(&c->pack, c->texts, sizeof(c->texts), text);
}

static const char *proc_keep(struct proc *p, struct view text)
{
	return pack_add(&p->pack, p->texts, sizeof(p->texts), text);
}

/* A container of this request's, NEW; NULL, and the error noted, if there can be none. */
static struct container *create_slot(struct op *op, const CreateTaskRequest *rq, const Options *o)
{
	struct container *c;
	struct proc *init;

	if (!id_valid(rq->id) || rq->bundle.len == 0 || rq->bundle.at[0] != '/') {
		op_error(op, CODE_INVALID_ARGUMENT, "invalid id or bundle: invalid argument");
		return NULL;
	}
	if (container_find(rq->id)) {
		op_error(op, CODE_ALREADY_EXISTS, "container %.*s: already exists", VIEW_FMT(rq->id));
		return NULL;
	}
	c = container_new();
	if (!c) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "too many containers in one shim");
		return NULL;
	}
	init = container_init(c);
	c->id = init->id = keep(c, rq->id);
	c->no_pivot = o->no_pivot_root;
	c->no_new_keyring = o->no_new_keyring;
	c->runtime = (struct runtime){
		.binary = o->binary_name.len > 0 ? keep(c, o->binary_name) : self.runtime,
		.root = o->root.len > 0 ? keep(c, o->root) : DEFAULT_ROOT,
		.bundle = keep(c, rq->bundle),
		.systemd_cgroup = o->systemd_cgroup,
	};
	init->terminal = rq->terminal;
	init->stdio = (struct stdio){{proc_keep(init, rq->stdin_path), proc_keep(init, rq->stdout_path),
				      proc_keep(init, rq->stderr_path)},
				     o->io_uid,
				     o->io_gid};
	if (!c->id || !c->runtime.binary || !c->runtime.root || !c->runtime.bundle ||
	    !init->stdio.path[STREAM_IN] || !init->stdio.path[STREAM_OUT] || !init->stdio.path[STREAM_ERR]) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "a path is too long, or no memory is left");
		container_free(c);
		return NULL;
	}
	return c;
}

static void rootfs_path(const struct container *c, struct text *t)
{
	text_printf(t, "%s/rootfs", c->runtime.bundle);
}

/* Everything up to running the runtime. False: the error is noted, there may be something to undo. */
static bool create_prepare(struct op *op, struct container *c, const Options *o)
{
	char path_buf[1024], why_buf[1024];
	struct text path = TEXT(path_buf), why = TEXT(why_buf);
	struct proc *init = container_init(c);
	struct view rest = op->request, mount;
	int err;

	rootfs_path(c, &path);
	if (path.cut) {
		op_error(op, CODE_INVALID_ARGUMENT, "bundle path is too long: invalid argument");
		return false;
	}
	c->mounted = field_next(&rest, CreateTaskRequest_rootfs_tag, &mount);
	if (c->mounted && mkdir(path.at, 0711) < 0 && errno != EEXIST) {
		op_error(op, CODE_UNKNOWN, "mkdir %s: %s", path.at, errno_text(errno));
		return false;
	}
	err = options_write(&c->runtime, o);
	if (err < 0) {
		op_error(op, CODE_UNKNOWN, "write %s/options.json: %s", c->runtime.bundle, errno_text(-err));
		return false;
	}
	c->private_pids = private_pids(c);
	if (c->mounted && mount_rootfs(op->request, path.at, &why) < 0) {
		c->mounted = false; /* it has undone what it did */
		op_error(op, CODE_UNKNOWN, "%s", why.at);
		return false;
	}
	if (io_make(&init->io, &init->stdio, &why) < 0) {
		op_error(op, CODE_UNKNOWN, "%s", why.at);
		return false;
	}
	return true;
}

static void pid_path(const struct container *c, const struct proc *p, struct text *t)
{
	text_printf(t, "%s/%s.pid", c->runtime.bundle, p->is_exec ? p->id : "init");
}

static void create_run(struct op *op, struct container *c)
{
	struct proc *init = container_init(c);
	char buf[1024];
	struct text pid_file = TEXT(buf);
	const char *args[12];
	int n = 0;

	pid_path(c, init, &pid_file);
	unlink(pid_file.at); /* one of a former life must not be taken for this one's */
	args[n++] = "create";
	args[n++] = "--bundle";
	args[n++] = c->runtime.bundle;
	args[n++] = "--pid-file";
	args[n++] = pid_file.at;
	if (c->no_pivot || self.no_pivot)
		args[n++] = "--no-pivot";
	if (c->no_new_keyring)
		args[n++] = "--no-new-keyring";
	args[n++] = c->id;
	args[n] = NULL;
	run_start(&op->run, &c->runtime, args, init->io.ends, (struct view){0});
	io_started(&init->io);
}

/* The rootfs mounts as TaskCreate carries them: the same field number, one behind the other. */
static struct view echo_rootfs(struct view request, char *buf, size_t cap)
{
	pb_ostream_t out = pb_ostream_from_buffer((pb_byte_t *)buf, cap);
	struct view mount;

	while (field_next(&request, CreateTaskRequest_rootfs_tag, &mount))
		if (!pb_encode_tag(&out, PB_WT_STRING, TaskCreate_rootfs_tag) ||
		    !pb_encode_string(&out, (const pb_byte_t *)mount.at, mount.len))
			break;
	return (struct view){buf, out.bytes_written};
}

static void push_create(const struct op *op, const struct container *c)
{
	const struct proc *init = container_init(c);
	size_t cap = op->request.len + 1;
	char *buf = pages_get(cap);
	CreateTaskRequest rq = {0};
	TaskCreate event;

	if (!buf || !msg_decode(op->request, &CreateTaskRequest_msg, &rq)) {
		log_line(LOG_ERROR, "%s: no memory for its create event", c->id);
		pages_put(buf, cap);
		return;
	}
	event = (TaskCreate){
		.container_id = rq.id,
		.bundle = rq.bundle,
		.rootfs = echo_rootfs(op->request, buf, cap),
		.has_io = true,
		.io = {rq.stdin_path, rq.stdout_path, rq.stderr_path, rq.terminal},
		.checkpoint = rq.checkpoint,
		.pid = (uint32_t)init->pid,
	};
	event_push("create", "TaskCreate", &TaskCreate_msg, &event);
	pages_put(buf, cap);
}

/* The runtime is through: learns the pid. False: the error is noted. */
static bool launched(struct op *op, const struct container *c, struct proc *p)
{
	char buf[1024];
	struct text path = TEXT(buf);
	pid_t pid;
	int err;

	pid_path(c, p, &path);
	pid = pid_file_read(path.at);
	if (pid < 0) {
		op_error(op, CODE_UNKNOWN, "failed to retrieve OCI runtime container pid: %s: %s", path.at,
			 errno_text(-pid));
		return false;
	}
	err = proc_set_pid(p, pid, op->serial);
	if (err < 0)
		op_error(op, CODE_UNKNOWN, "%s names pid %d, which is not a child of the shim", path.at,
			 pid);
	return err == 0;
}

/* Opens the client's ends. True when they are open, or when that has failed. */
static bool opened(struct op *op, struct proc *p)
{
	char buf[1024];
	struct text why = TEXT(buf);
	int err = io_open(&p->io, &p->stdio, &why);

	if (err == 0)
		return true;
	if (err == -EAGAIN && op->expired)
		err = -ETIMEDOUT;
	if (err == -EAGAIN && op->limit == 0)
		op->limit = now + FIFO_LIMIT_MS;
	if (err == -EAGAIN && now < op->limit)
		return false;
	if (err == -EAGAIN || err == -ETIMEDOUT)
		op_error(op, CODE_DEADLINE_EXCEEDED, "%s: context deadline exceeded", buf);
	op_error(op, CODE_UNKNOWN, "%s", buf);
	return true;
}

static void find_cgroup(struct container *c)
{
	char buf[1024];
	struct text t = TEXT(buf);

	if (cgroup_find(container_init(c)->pid, &t) == 0 && !t.cut)
		c->cgroup = keep(c, (struct view){t.at, t.len});
	else
		log_line(LOG_WARN, "%s: its cgroup is not known", c->id);
}

static bool out_of_time(struct op *op)
{
	if (op->expired)
		op_error(op, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
	return op->expired;
}

enum { CREATE_BEGIN, CREATE_MADE, CREATE_OPEN, CREATE_UNDO, CREATE_UNMOUNT };

static void create_step(struct op *op)
{
	struct container *c = op_container(op);
	CreateTaskRequest rq = {0};
	CreateTaskResponse response;
	char buf[1024];
	struct text text = TEXT(buf);
	struct proc *init;
	Options options;

	switch (op->phase) {
	case CREATE_BEGIN:
		if (!decode(op, &CreateTaskRequest_msg, &rq))
			return;
		if (!options_decode(rq.options.type_url, rq.options.value, &options))
			op_error(op, CODE_INVALID_ARGUMENT, "options of type %.*s: invalid argument",
				 VIEW_FMT(rq.options.type_url));
		else if (rq.terminal || rq.checkpoint.len > 0)
			op_error(op, CODE_UNIMPLEMENTED, "terminals and checkpoints: not implemented");
		else if (!op_keep_request(op))
			op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
		else if (msg_decode(op->request, &CreateTaskRequest_msg, &rq))
			options_decode(rq.options.type_url, rq.options.value, &options);
		c = op->code ? NULL : create_slot(op, &rq, &options);
		if (!c) {
			done(op);
			return;
		}
		op_about(op, container_init(c));
		if (!create_prepare(op, c, &options))
			break;
		op->launching = true;
		create_run(op, c);
		op_run(op, CREATE_MADE);
		return;

	case CREATE_MADE:
		if (out_of_time(op))
			break;
		if (run_failed(&op->run)) {
			run_reason(&op->run, &c->runtime, "OCI runtime create failed",
				   op_error_text(op, CODE_UNKNOWN));
			break;
		}
		/* fall through */
	case CREATE_OPEN:
		init = container_init(c);
		if (!opened(op, init)) {
			op->timer = now + FIFO_RETRY_MS;
			op_wait(op, CREATE_OPEN, WAIT_TIME);
			return;
		}
		if (op->code || !launched(op, c, init))
			break;
		find_cgroup(c);
		push_create(op, c);
		proc_set_state(init, STATE_CREATED);
		init->stdin_due = now + STDIN_GRACE_MS;
		response.pid = (uint32_t)init->pid;
		op_done(op, &CreateTaskResponse_msg, &response);
		return;

	case CREATE_UNDO:
		if (run_failed(&op->run))
			log_line(LOG_WARN, "%s: delete --force after a failed create failed", c->id);
		/* fall through */
	case CREATE_UNMOUNT:
		rootfs_path(c, &text);
		if (c->mounted && mount_undo(text.at) == -EBUSY && now < op->limit) {
			op->timer = now + UMOUNT_RETRY_MS;
			op_wait(op, CREATE_UNMOUNT, WAIT_TIME);
			return;
		}
		container_free(c);
		done(op);
		return;
	}

	/* It has failed. What the runtime made, or may have made, must go, before the rootfs does. */
	op->limit = now + UMOUNT_LIMIT_MS;
	op->deadline = 0;
	op->expired = false;
	io_close(&container_init(c)->io);
	if (op->run.error < 0 || op->phase == CREATE_BEGIN) {
		op_wait(op, CREATE_UNMOUNT, 0);
	} else {
		const char *const args[] = {"delete", "--force", c->id, NULL};

		run_close(&op->run);
		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
		op_run(op, CREATE_UNDO);
	}
}

/* ---- Start ---- */

enum { START_BEGIN, START_RUN, START_STARTED };

static void start_step(struct op *op)
{
	struct container *c = op_container(op);
	struct proc *p = op->phase == START_BEGIN ? decode_find(op) : op_proc(op);
	TaskStart event;
	StartResponse response;

	if (!p) {
		if (op->phase != START_BEGIN) {
			op_error(op, CODE_NOT_FOUND, "container not created: not found");
			done(op);
		}
		return;
	}
	switch (op->phase) {
	case START_BEGIN:
		op->phase = START_RUN;
		op_take_turn(op);
		return;

	case START_RUN: {
		const char *const args[] = {"start", c->id, NULL};

		if (out_of_time(op) || refused(op, p, VERB_START)) {
			done(op);
			return;
		}
		p->busy++;
		proc_open_stdin(p);
		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
		op_run(op, START_STARTED);
		return;
	}
	case START_STARTED:
		p->busy--;
		if (out_of_time(op) || run_failed(&op->run)) {
			if (!op->code)
				run_reason(&op->run, &c->runtime, "OCI runtime start failed",
					   op_error_text(op, CODE_UNKNOWN));
			done(op);
			return;
		}
		c->started = true;
		proc_set_state(p, STATE_RUNNING);
		event = (TaskStart){view_of(c->id), (uint32_t)p->pid};
		event_push("start", "TaskStart", &TaskStart_msg, &event);
		response.pid = (uint32_t)p->pid;
		op_done(op, &StartResponse_msg, &response);
		return;
	}
}

/* ---- Delete ---- */

enum { DELETE_BEGIN, DELETE_DRAIN, DELETE_DRAINED, DELETE_EXIT, DELETE_UNMOUNT };

static void delete_step(struct op *op)
{
	struct container *c = op_container(op);
	struct proc *p = op->phase == DELETE_BEGIN ? decode_find(op) : op_proc(op);
	char buf[1024];
	struct text text = TEXT(buf);
	DeleteResponse response = {0};
	TaskDelete event;
	int err;

	if (!p) {
		if (op->phase != DELETE_BEGIN) {
			op_error(op, CODE_NOT_FOUND, "cannot delete a deleted process: not found");
			done(op);
		}
		return;
	}
	switch (op->phase) {
	case DELETE_BEGIN:
		op->phase = DELETE_DRAIN;
		op_take_turn(op);
		return;

	case DELETE_DRAIN:
		if (op->expired ? out_of_time(op) : refused(op, p, VERB_DELETE)) {
			done(op);
			return;
		}
		c->exit_unseen = p->state != STATE_STOPPED;
		if (op->limit == 0)
			op->limit = now + DRAIN_LIMIT_MS;
		/* Of a container that never ran nothing will come. */
		if (c->started && !io_drained(&p->io) && now < op->limit) {
			op->timer = op->limit; /* or as soon as its streams end: ops_wake() */
			op_wait(op, DELETE_DRAIN, WAIT_TIME);
			return;
		}
		if (c->started && !io_drained(&p->io))
			log_line(LOG_WARN, "%s: its output has not ended; closed", c->id);
		run_start(&op->run, &c->runtime, (const char *const[]){"delete", c->id, NULL}, NULL,
			  (struct view){0});
		op_run(op, DELETE_DRAINED);
		return;

	case DELETE_DRAINED:
		if (out_of_time(op)) {
			;
		} else if (run_failed(&op->run)) {
			struct text *why = op_error_text(op, CODE_UNKNOWN);

			run_reason(&op->run, &c->runtime, "failed to delete task", why);
			/* A checkpoint has deleted it already. */
			if (strstr(why->at, "does not exist")) {
				op->code = 0;
				why->len = 0;
			}
		}
		io_close(&p->io);
		c->deleting = !op->code;
		op->limit = now + EXIT_LIMIT_MS;
		/* fall through */
	case DELETE_EXIT:
		/* One that never ran has been killed by its deletion: first its exit, then this. */
		if (c->deleting && !p->told && now < op->limit) {
			op->timer = op->limit;
			op_wait(op, DELETE_EXIT, WAIT_TIME);
			return;
		}
		op->limit = now + UMOUNT_LIMIT_MS;
		/* fall through */
	case DELETE_UNMOUNT:
		rootfs_path(c, &text);
		err = c->mounted ? mount_undo(text.at) : 0;
		if (err == -EBUSY && now < op->limit) {
			op->timer = now + UMOUNT_RETRY_MS;
			op_wait(op, DELETE_UNMOUNT, WAIT_TIME);
			return;
		}
		if (err < 0)
			op_error(op, CODE_UNKNOWN, "failed rootfs umount: %s", errno_text(-err));
		if (!op->code) {
			response.pid = (uint32_t)p->pid;
			about_exit(p, &response.exit_status, &response.has_exited_at,
				   &response.exited_at);
			event = (TaskDelete){.container_id = view_of(c->id),
					     .pid = response.pid,
					     .exit_status = response.exit_status,
					     .has_exited_at = true,
					     .exited_at = response.exited_at};
			event_push("delete", "TaskDelete", &TaskDelete_msg, &event);
			container_free(c);
		}
		op_done(op, &DeleteResponse_msg, &response);
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
	if (strstr(buf, "os: process already finished") || strstr(buf, "container not running") ||
	    strcasestr(buf, "no such process"))
		op_error(op, CODE_NOT_FOUND, "process already finished: not found");
	else if (strstr(buf, "does not exist"))
		op_error(op, CODE_NOT_FOUND, "no such container: not found");
	else
		op_error(op, CODE_UNKNOWN, "unknown error after kill: %s", buf);
}

enum { KILL_BEGIN, KILL_SENT, KILL_LEFT_OVERS };

static void kill_step(struct op *op)
{
	struct container *c = op_container(op);
	KillRequest rq = {0};
	struct proc *p;
	char signal[16];

	if (op->phase == KILL_BEGIN) {
		int n = 0;
		const char *args[5];

		if (!decode(op, &KillRequest_msg, &rq) || !(p = find(op, rq.id, rq.exec_id)))
			return;
		c = op_container(op);
		if (p->state == STATE_STOPPED && !rq.all) {
			op_error(op, CODE_NOT_FOUND, "process already finished: not found");
			done(op);
			return;
		}
		snprintf(signal, sizeof(signal), "%u", rq.signal);
		args[n++] = "kill";
		if (rq.all)
			args[n++] = "--all";
		args[n++] = c->id;
		args[n++] = signal;
		args[n] = NULL;
		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
		op_run(op, p->state == STATE_STOPPED ? KILL_LEFT_OVERS : KILL_SENT);
		return;
	}
	p = op_proc(op);
	if (out_of_time(op))
		;
	else if (!p || op->phase == KILL_LEFT_OVERS)
		op_error(op, CODE_NOT_FOUND, "process already finished: not found");
	else if (run_failed(&op->run))
		kill_error(op, &c->runtime);
	done(op);
}

/* ---- the quick ones ---- */

static void state_step(struct op *op)
{
	static const TaskStatus status[STATES] = {[STATE_CREATED] = TaskStatus_CREATED,
						  [STATE_RUNNING] = TaskStatus_RUNNING,
						  [STATE_PAUSED] = TaskStatus_PAUSED,
						  [STATE_STOPPED] = TaskStatus_STOPPED};
	const struct proc *p = decode_find(op);
	StateResponse r;

	if (!p)
		return;
	r = (StateResponse){.id = view_of(p->id),
			    .bundle = view_of(op_container(op)->runtime.bundle),
			    .pid = (uint32_t)p->pid,
			    .status = status[p->state],
			    .stdin_path = view_of(p->stdio.path[STREAM_IN]),
			    .stdout_path = view_of(p->stdio.path[STREAM_OUT]),
			    .stderr_path = view_of(p->stdio.path[STREAM_ERR]),
			    .terminal = p->terminal,
			    .has_exited_at = true,
			    .exited_at = {SENTINEL_SECONDS, 0}};
	if (p->told)
		about_exit(p, &r.exit_status, &r.has_exited_at, &r.exited_at);
	op_done(op, &StateResponse_msg, &r);
}

static void wait_step(struct op *op)
{
	const struct proc *p = decode_find(op);
	WaitResponse r = {0};

	if (!p)
		return;
	if (!p->told && wait_add(p, op->from, op->deadline)) {
		op->from = (struct origin){0}; /* answered when it exits */
		done(op);
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

	if (!decode(op, &CloseIORequest_msg, &rq) || !(p = find(op, rq.id, rq.exec_id)))
		return;
	proc_open_stdin(p);
	io_close_stdin(&p->io);
	done(op);
}

static void add_pid(void *arg, pid_t pid)
{
	ProcessInfo info = {.pid = (uint32_t)pid};
	pb_ostream_t *out = arg;

	if (pb_encode_tag(out, PB_WT_STRING, PidsResponse_processes_tag))
		pb_encode_submessage(out, &ProcessInfo_msg, &info);
}

static void pids_step(struct op *op)
{
	const struct proc *p = decode_find(op);
	const struct container *c = op_container(op);
	PidsResponse r = {0};
	pb_ostream_t out;
	char *buf;

	if (!p)
		return;
	buf = pages_get(PIDS_MAX);
	if (!buf) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
		done(op);
		return;
	}
	out = pb_ostream_from_buffer((pb_byte_t *)buf, PIDS_MAX);
	if (c->cgroup)
		cgroup_pids(c->cgroup, add_pid, &out);
	/* A daemon that restarts takes an empty list for a leaked container: contract 9.2. */
	if (out.bytes_written == 0)
		add_pid(&out, container_init(c)->pid);
	r.processes = (struct view){buf, out.bytes_written};
	op_done(op, &PidsResponse_msg, &r);
	pages_put(buf, PIDS_MAX);
}

static void connect_step(struct op *op)
{
	ProcessRequest rq = {0};
	ConnectResponse r = {.shim_pid = (uint32_t)getpid()};
	const struct container *c;

	if (!decode(op, &ProcessRequest_msg, &rq))
		return;
	c = visible(rq.id);
	if (c)
		r.task_pid = (uint32_t)container_init(c)->pid;
	op_done(op, &ConnectResponse_msg, &r);
}

static void shutdown_step(struct op *op)
{
	ProcessRequest rq = {0};

	if (!decode(op, &ProcessRequest_msg, &rq))
		return;
	if (container_count() == 0)
		task_shutdown = true;
	done(op);
}

/* ---- dispatch ---- */

static void unimplemented_step(struct op *op)
{
	op_error(op, CODE_UNIMPLEMENTED, "not implemented");
	done(op);
}

static const struct method {
	const char *name;
	op_step *step;
} methods[] = {
	{"State", state_step},
	{"Create", create_step},
	{"Start", start_step},
	{"Delete", delete_step},
	{"Pids", pids_step},
	{"Pause", unimplemented_step},
	{"Resume", unimplemented_step},
	{"Checkpoint", unimplemented_step},
	{"Kill", kill_step},
	{"Exec", unimplemented_step},
	{"ResizePty", unimplemented_step},
	{"CloseIO", close_io_step},
	{"Update", unimplemented_step},
	{"Wait", wait_step},
	{"Stats", unimplemented_step},
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
	uint64_t deadline = rq->timeout_nano > 0 ? now + (uint64_t)rq->timeout_nano / 1000000 + 1 : 0;
	struct op *op;

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
		server_fail(rq->from, CODE_RESOURCE_EXHAUSTED, VIEW("too many requests in one shim"));
		return;
	}
	op->request = rq->payload;
	op->step(op);
}

void task_receive(unsigned int conn, short got)
{
	struct request rq;

	server_receive(conn, got);
	while (server_next(conn, &rq))
		begin(&rq);
}
