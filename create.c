// SPDX-License-Identifier: Apache-2.0
/*
 * create.c - Create: from a request and a bundle to a container whose init waits to be started.
 *
 * In order: a slot, the files that `delete` will need, the rootfs, and the launch (verb.c).
 * Whatever fails is undone in the opposite order: the runtime's container, the streams, the mounts,
 * the slot. Until all has gone well nobody but Shutdown knows of the container.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <pb_encode.h>

#include "events.pb.h"
#include "options.pb.h"
#include "shim.h"
#include "task.pb.h"

#define STDIN_GRACE_MS 100
#define UNDO_LIMIT_MS 10000

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

/* A container of this request's, NEW; NULL, and the error noted, if there can be none. */
static struct container *make_slot(struct op *op, const CreateTaskRequest *rq, const Options *o)
{
	struct container *c;
	struct proc *init;
	const char **path;

	if (!id_valid(rq->id) || rq->bundle.len == 0 || rq->bundle.at[0] != '/') {
		op_error(op, CODE_INVALID_ARGUMENT, "invalid id or bundle: invalid argument");
		return NULL;
	}
	if (container_find(rq->id)) {
		op_error(op, CODE_ALREADY_EXISTS, "container %.*s: already exists",
			 VIEW_FMT(rq->id));
		return NULL;
	}
	c = container_new();
	if (!c) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "too many containers in one shim");
		return NULL;
	}
	init = container_init(c);
	path = init->stdio.path;
	c->id = init->id = container_keep(c, rq->id);
	c->no_pivot = o->no_pivot_root;
	c->no_new_keyring = o->no_new_keyring;
	c->criu_work = container_keep(c, o->criu_work_path);
	c->checkpoint = rq->checkpoint.len > 0 ? container_keep(c, rq->checkpoint) : NULL;
	c->runtime = (struct runtime){
		.binary = o->binary_name.len > 0 ? container_keep(c, o->binary_name) : self.runtime,
		.root = o->root.len > 0 ? container_keep(c, o->root) : DEFAULT_ROOT,
		.bundle = container_keep(c, rq->bundle),
		.systemd_cgroup = o->systemd_cgroup,
	};
	path[STREAM_IN] = proc_keep(init, rq->stdin_path);
	path[STREAM_OUT] = proc_keep(init, rq->stdout_path);
	path[STREAM_ERR] = proc_keep(init, rq->stderr_path);
	init->stdio.uid = o->io_uid;
	init->stdio.gid = o->io_gid;
	init->stdio.terminal = rq->terminal;
	if (!c->id || !c->runtime.binary || !c->runtime.root || !c->runtime.bundle ||
	    !c->criu_work || (rq->checkpoint.len > 0 && !c->checkpoint) || !path[STREAM_IN] ||
	    !path[STREAM_OUT] || !path[STREAM_ERR]) {
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

int container_unmount(const struct container *c)
{
	char buf[1024];
	struct text path = TEXT(buf);

	rootfs_path(c, &path);
	return c->mounted ? mount_undo(path.at) : 0;
}

/* Files and mounts. False: the error is noted. */
static bool prepare(struct op *op, struct container *c, const Options *o)
{
	char path_buf[1024], why_buf[1024];
	struct text path = TEXT(path_buf), why = TEXT(why_buf);
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
		op_error(op, CODE_UNKNOWN, "write %s/options.json: %s", c->runtime.bundle,
			 errno_text(-err));
		return false;
	}
	c->private_pids = private_pids(c);
	if (c->mounted && mount_rootfs(op->request, path.at, &why) < 0) {
		c->mounted = false; /* it has undone what it did */
		op_error(op, CODE_UNKNOWN, "%s", why.at);
		return false;
	}
	return true;
}

/* Makes the container out of the request. NULL: the error is noted. */
static struct container *begin(struct op *op)
{
	struct container *c = NULL;
	CreateTaskRequest rq = {0};
	Options options;

	/* Its mounts are wanted for the event at the end; and the options borrow from it. */
	if (!op_keep_request(op)) {
		op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
		return NULL;
	}
	if (!msg_decode(op->request, &CreateTaskRequest_msg, &rq))
		op_error(op, CODE_INTERNAL,
			 "ttrpc: error unmarshalling payload: proto: cannot parse "
			 "invalid wire-format data");
	else if (!options_decode(rq.options.type_url, rq.options.value, &options))
		op_error(op, CODE_INVALID_ARGUMENT, "options of type %.*s: invalid argument",
			 VIEW_FMT(rq.options.type_url));
	else
		c = make_slot(op, &rq, &options);
	if (c) {
		op_about(op, container_init(c));
		prepare(op, c, &options); /* a failure is in op->code */
	}
	options_forget();
	return c;
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

static void push_event(const struct op *op, const struct container *c)
{
	size_t cap = op->request.len + 1;
	char *buf = pages_get(cap); /* without it, the event goes out without the mounts */
	CreateTaskRequest rq = {0};
	TaskCreate event;

	msg_decode(op->request, &CreateTaskRequest_msg, &rq);
	event = (TaskCreate){
		.container_id = rq.id,
		.bundle = rq.bundle,
		.rootfs = echo_rootfs(op->request, buf, buf ? cap : 0),
		.has_io = true,
		.io = {rq.stdin_path, rq.stdout_path, rq.stderr_path, rq.terminal},
		.checkpoint = rq.checkpoint,
		.pid = (uint32_t)container_init(c)->pid,
	};
	event_push("create", "TaskCreate", &TaskCreate_msg, &event);
	pages_put(buf, cap);
}

void container_launched(struct container *c)
{
	char buf[1024];
	struct text t = TEXT(buf);
	int err = cgroup_find(container_init(c)->pid, &t);

	c->state_seen = run_knows(&c->runtime, c->id);
	if (err == 0 && !t.cut)
		c->cgroup = container_keep(c, (struct view){t.at, t.len});
	if (!c->cgroup) {
		log_line(LOG_WARN, "%s: its cgroup is not known: %s", c->id, errno_text(-err));
		return;
	}
	cgroup_enable(c->cgroup);
	err = cgroup_oom_arm(c->cgroup, &c->oom);
	if (err < 0)
		log_line(LOG_WARN, "%s: no OOM events: %s", c->id, errno_text(-err));
}

static void succeed(struct op *op, struct container *c)
{
	struct proc *init = container_init(c);
	CreateTaskResponse response = {(uint32_t)init->pid};

	if (!c->checkpoint)
		container_launched(c);
	push_event(op, c);
	proc_set_state(init, c->checkpoint ? STATE_RESTORABLE : STATE_CREATED);
	init->stdin_due = c->checkpoint ? 0 : now + STDIN_GRACE_MS;
	op_done(op, &CreateTaskResponse_msg, &response);
}

enum { CREATE_BEGIN, CREATE_LAUNCH, CREATE_UNDO, CREATE_UNMOUNT };

void create_step(struct op *op)
{
	struct container *c = op->phase == CREATE_BEGIN ? begin(op) : op_container(op);
	int err;

	if (!c) {
		verb_end(op);
		return;
	}
	switch (op->phase) {
	case CREATE_BEGIN:
		op->phase = CREATE_LAUNCH;
		if (op->code)
			break;
		if (c->checkpoint) {
			succeed(op, c); /* Start will restore it */
			return;
		}
		/* fall through */
	case CREATE_LAUNCH:
		if (!launch_step(op, c, container_init(c), LAUNCH_CREATE))
			return;
		if (op->code)
			break;
		succeed(op, c);
		return;

	case CREATE_UNDO:
		if (run_failed(&op->run))
			log_line(LOG_WARN, "%s: delete --force failed", c->id);
		op->limit = now + UMOUNT_LIMIT_MS;
		/* fall through */
	case CREATE_UNMOUNT:
		err = container_unmount(c);
		if (err == -EBUSY && now < op->limit) {
			op->timer = now + UMOUNT_RETRY_MS;
			op_wait(op, CREATE_UNMOUNT, WAIT_TIME);
			return;
		}
		if (err < 0)
			log_line(LOG_WARN, "%s: failed rootfs umount: %s", c->id, errno_text(-err));
		container_free(c);
		verb_end(op);
		return;
	}

	/* It has failed. What the runtime made, or may have made, must go before the rootfs
	 * does. */
	op->limit = now + UMOUNT_LIMIT_MS;
	op->deadline = now + UNDO_LIMIT_MS; /* the client's is of no interest any more */
	op->expired = false;
	io_close(&container_init(c)->io);
	if (!op->launching || op->run.error < 0) {
		op_wait(op, CREATE_UNMOUNT, 0);
	} else {
		const char *const args[] = {"delete", "--force", c->id, NULL};

		run_close(&op->run);
		run_start(&op->run, &c->runtime, args, NULL, (struct view){0});
		op_run(op, CREATE_UNDO);
	}
}
