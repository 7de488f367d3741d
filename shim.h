/* SPDX-License-Identifier: Apache-2.0
 *
 * shim.h - what the files above the wire share: containers, processes, unfinished requests, and
 * what can be done to them. The parts stand in the order of the layers: a file calls those before
 * it, and reports to those behind it only by setting facts.
 */
#ifndef SHIM_H
#define SHIM_H

#include <sys/resource.h>

#include "ttrpc.h"

/* ---- the daemon (shim.c fills it in once, before the loop) ---- */

struct daemon {
	bool v1;               /* called containerd-shim-runc-v1 (contract 10.2) */
	const char *namespace; /* -namespace */
	const char *runtime;   /* default runtime binary, by the name we were called */
	char socket_dir[128];  /* directory of the socket we serve */
	struct rlimit files;   /* RLIMIT_NOFILE as it was given to us; rlim_max 0: as it is */
	bool no_pivot;         /* the root file system cannot pivot_root(2) */
};
extern struct daemon self;

/* ---- pack: the texts of a slot (op.c) ---- */

/* Texts that live as long as their slot: inside the slot while they fit, which is the rule, else in
 * pages of their own. */
struct pack {
	char *pages;
	uint32_t pages_len, slot_len;
};

/* A NUL-terminated copy; NULL if there is no memory for it. `slot`, `size`: the space in the
 * slot. */
const char *pack_add(struct pack *p, char *slot, size_t size, struct view text);
void pack_close(struct pack *p); /* all its texts are gone */

/* ---- runtime.c: running runc or crun ---- */

/* What every call of one container's runtime has in common. Texts borrowed from the container. */
struct runtime {
	const char *binary; /* as in Options.binary_name, or the default */
	const char *root;   /* Options.root, or the default */
	const char *bundle;
	bool systemd_cgroup;
};

/* One run of it. Zeroed, with pid 0: nothing runs. */
struct run {
	pid_t pid;
	int status; /* of waitpid(2), once it has ended */
	int output; /* what it printed: a memory file; -1 where the container's streams are used */
	int error;  /* -errno if it could not be started at all */
	off_t log_end; /* size of log.json before the run: older errors are not this run's */
};

#define ARGS_MAX 48
#define PATH_SIZE 4096
#define DEFAULT_ROOT "/run/containerd/runc"

/* Starts `binary --root .. --log .. VERB ...` (contract 5.2); `args` ends with NULL. `stdio`: three
 * fds for it, -1 meaning /dev/null; NULL: input from `input`, output captured. A failure to start
 * is kept in run->error and makes run_failed() true: it needs no handling of its own. */
void run_start(struct run *run, const struct runtime *rt, const char *const *args, const int *stdio,
	       struct view input);
bool run_failed(const struct run *run); /* could not start, or ended with anything but exit 0 */
/* Appends the reason a run failed: the runtime's own last error from log.json, else how it ended;
 * `prefix` as in contract 5.5. */
void run_reason(const struct run *run, const struct runtime *rt, const char *prefix,
		struct text *t);
/* Appends how the run ended and what it printed, without looking into log.json. */
void run_ending(const struct run *run, const struct runtime *rt, struct text *t);
/* Is there the directory in which runc and crun keep the state of container `id`? Another runtime
 * may keep it elsewhere. */
bool run_knows(const struct runtime *rt, const char *id);
void run_close(struct run *run);

/* Starts any other helper: path, argv, environment (NULL: ours), fds to be 0, 1, 2, ... in the
 * child (-1: /dev/null), its directory (NULL: ours). The only place that makes processes: there the
 * signal mask is emptied and everything but those fds is closed. The pid or -errno. */
struct spawn {
	const char *path;
	const char *const *argv, *const *env;
	const char *cwd;
	const int *fds;
	int fd_count;
	bool outlives_us; /* no parent-death signal */
	bool is_daemon;   /* keeps what is ignored: its own children are cleared of that */
};
pid_t spawn(const struct spawn *s);
/* Finds a binary as execvp(3) would: 0 and its path, or -errno. */
int find_binary(const char *name, struct text *path);
/* Reads a pid file as runtimes write it: the pid, or -errno. */
pid_t pid_file_read(const char *path);

/* ---- options.c: what the client configured ---- */

/* Decodes the value of an Any with options (contract 5.1, 13.13); none at all is fine. False: of a
 * type we do not know, or malformed. Texts are borrowed from `value`, or from a file it names, up to
 * options_forget(). */
struct _Options;
bool options_decode(struct view type_url, struct view value, struct _Options *o);
void options_forget(void);
/* Writes the files `options.json` and `runtime` (contract 1.7), all that a later `delete` has. */
int options_write(const struct runtime *rt, const struct _Options *o);
/* Reads them back, as far as they are there: the runtime binary and its root. */
void options_read(const char *bundle, struct text *binary, struct text *root);

/* ---- io.c: the streams of a process ---- */

enum stream { STREAM_IN, STREAM_OUT, STREAM_ERR, STREAMS };

/* Copies from one fd to another without looking at it. */
struct pump {
	int from, to;
	int keep;  /* our own other end of the client's FIFO: nobody's leaving closes the stream */
	bool open; /* both ends are there, bytes flow */
	bool blocked;   /* the reader is behind: wait for it, not for more */
	bool by_copy;   /* the target takes no splice(2) */
	bool losing;    /* the target takes nothing at all; that has been logged */
	uint32_t again; /* it could not be read: not before then, in units of 1024 ms */
	uint32_t rest_len;
	char *rest; /* a page for what a terminal did not take of what was read; NULL: nothing */
};

struct io {
	struct pump pumps[STREAMS];
	int ends[STREAMS];  /* the container's ends, from io_make() to io_started() */
	int console, slave; /* both sides of its terminal; -1: none */
	int socket;         /* where the runtime will hand it over */
	unsigned int socket_serial;
	pid_t logger;          /* its logging binary; 0: none */
	int ready;             /* readable when the logger is */
	bool logger_must_call; /* to close `ready` without a word is to fail (binary-v2) */
	bool logger_failed;
	bool exited; /* the process has: what its terminal still holds is all */
};

/* What the client asked for. Empty paths: nothing on that stream. */
struct stdio {
	const char *path[STREAMS];
	uint32_t uid, gid; /* owner of the container's ends */
	bool terminal;
};

void io_init(struct io *io); /* all fds -1 */
/* Makes the container's ends: a pipe for each named stream, /dev/null for the others, or the socket
 * for a terminal; starts a logging binary, with `id` in its environment (contract 6.1, 6.2, 6.5).
 * 0, or -errno with the sentence in `why`. */
int io_make(struct io *io, const struct stdio *s, const char *id, struct text *why);
/* Before the runtime may run: 0, -EAGAIN while the logger is not ready, other -errno with `why`. */
int io_ready(const struct io *io, struct text *why);
void io_console_path(const struct io *io, struct text *t); /* of the socket for the terminal */
/* The runtime has them: closes our copies of the container's ends. */
void io_started(struct io *io);
/* The runtime has made the container: takes over its terminal, if there is to be one. */
int io_take_console(struct io *io, struct text *why);
/* Opens the client's ends of stdout and stderr and lets bytes flow (contract 6.3). -EAGAIN: a FIFO
 * has no reader yet, call again soon; other -errno with the sentence in `why`. */
int io_open(struct io *io, const struct stdio *s, struct text *why);
/* The same for stdin, and our own writer with it, so that a client that goes away does not end the
 * container's input. */
int io_open_stdin(struct io *io, const struct stdio *s, struct text *why);
void io_want(struct io *io, unsigned int slot);
void io_pump(struct io *io, enum stream stream);
void io_logger(struct io *io); /* `ready` is readable */
void io_exited(struct io *io); /* the process has exited */
int io_resize(const struct io *io, uint32_t width, uint32_t height);
bool io_drained(const struct io *io); /* nothing more comes out of stdout and stderr */
void io_close_stdin(struct io *io);   /* CloseIO: our own writer goes; EOF when the others have */
bool io_logger_ended(struct io *io, pid_t pid); /* was it this one's logger that was reaped? */
bool io_logger_stop(struct io *io, int signal); /* ends its input and signals it; is there one? */
void io_close(struct io *io);

/* ---- mount.c: the rootfs ---- */

/* Mounts the rootfs of an encoded CreateTaskRequest (its repeated field 3, containerd.types.Mount)
 * at `root`, the absolute path of the bundle's rootfs, in order; contract 7.1 and 7.2. On failure
 * what was mounted is unmounted again in reverse, `why` holds the sentence for the client, and the
 * result is -errno. */
int mount_rootfs(struct view request, const char *root, struct text *why);

/* Unmounts everything at and below `root`, deepest first (contract 7.4). Never sleeps: -EBUSY means
 * "call again in 50 ms", and the caller gives up after 50 times. 0 when nothing is mounted there
 * any more, also if `root` does not exist; else -errno. */
int mount_undo(const char *root);

/* ---- cgroup.c: a container's cgroup ---- */

/* Describes the cgroup of a live process as one opaque line of text, for the functions below; both
 * cgroup versions, contract 8.1. 0 or -errno. */
int cgroup_find(pid_t pid, struct text *cgroup);
/* cgroup v2: enables every controller in all ancestors of the cgroup (contract 8.1); v1: nothing.
 * Failures are logged. */
void cgroup_enable(const char *cgroup);
/* Calls each() for every process in the cgroup and its descendants. 0 or -errno. */
int cgroup_pids(const char *cgroup, void (*each)(void *arg, pid_t pid), void *arg);
/* Encodes the metrics (contract 8.2) into buf. Their length, -ENOENT if the cgroup is gone, -ENOSPC
 * if buf is too small; *type_url is the Any's. */
ssize_t cgroup_stats(const char *cgroup, struct view *type_url, char *buf, size_t cap);
void cgroup_forget(void); /* gives back the memory that cgroup_stats() keeps */

/* OOM watch (contract 8.3). One fd, for which poll(2) tells `ready` when there is something to look
 * at; -1: not armed. */
struct oom {
	int fd;
	short ready;
	uint64_t kills; /* cgroup v2: memory.events oom_kill as last seen */
};
int cgroup_oom_arm(const char *cgroup, struct oom *oom); /* 0 or -errno */
/* Looks whether the kernel killed something since the last look. Closes oom->fd if the cgroup is
 * gone. Does not block, and may be called without the fd being ready (the last look at exit). */
bool cgroup_oom_check(const char *cgroup, struct oom *oom);
void cgroup_oom_close(struct oom *oom);

/* ---- event.c: telling containerd ---- */

void event_init(const char *address); /* TTRPC_ADDRESS; NULL or empty: events go nowhere */
/* Queues one event: topic without "/tasks/", message name without "containerd.events.". It is sent
 * when all before it are acknowledged, and kept until then (contract 4). */
void event_push(const char *topic, const char *name, const struct pb_msgdesc_s *desc,
		const void *msg);
void event_want(void);
void event_receive(short got);
void event_flush(void);    /* sends, or sends again, whatever is due */
void event_hurry(void);    /* containerd shows signs of life: do not wait for the next attempt */
void event_watch(void);    /* from now on do not put off reading an answer, either */
bool event_idle(void);     /* everything queued is acknowledged */
bool event_behind(void);   /* let clients wait a moment: too many events do already */
bool event_hopeless(void); /* nobody there to take events: the last attempt failed to connect */

/* ---- op.c: requests that cannot be answered at once ---- */

#define OP_MAX 256

enum wait {
	WAIT_TURN = 1,  /* earlier requests on the same process go first */
	WAIT_CHILD = 2, /* the runtime, op.run */
	WAIT_TIME = 4,  /* op.timer */
};

struct op;
typedef void op_step(struct op *op);

#define NOBODY UINT16_MAX

struct op {
	op_step *step; /* NULL: free */
	uint8_t phase, waits;
	uint8_t stage;      /* of launch_step() */
	bool expired;       /* the request's deadline is over, its runtime has been killed */
	bool takes_turns;   /* with others on the same process */
	bool kept;          /* `request` is in pages of the op's own */
	uint16_t container; /* whom it is about (container.c), or NOBODY */
	uint16_t container_gen, proc, proc_gen;
	uint32_t serial;       /* order of arrival */
	bool launching;        /* a process may exit before its pid is known (reap()) */
	struct origin from;    /* zeros: nobody asked */
	uint64_t deadline;     /* ms; 0: none */
	uint64_t timer, limit; /* ms; the verb's own */
	struct view request;   /* borrowed for the first step only, unless `kept` */
	struct run run;
	enum code code;    /* 0: no failure so far */
	struct text error; /* in pages of its own */
};

extern struct op ops[OP_MAX];

/* NULL: the table is full. */
struct op *op_new(op_step *step, struct origin from, uint64_t deadline);
/* From now on it comes behind all who asked before on that process. */
void op_take_turn(struct op *op);
bool op_keep_request(struct op *op); /* copies the borrowed request; false: out of memory */
/* For the verbs; each ends the step it is called from. */
void op_wait(struct op *op, uint8_t phase, uint8_t waits);
void op_run(struct op *op, uint8_t phase); /* op->run was just started: wait for its end */
/* Notes the first failure; the verb goes on to its undoing, or to op_done(). */
void op_error(struct op *op, enum code code, const char *fmt, ...) PRINTF(3, 4);
struct text *op_error_text(struct op *op, enum code code); /* the same, to be appended to */
/* Sends the reply, or the error, and frees the op. */
void op_done(struct op *op, const struct pb_msgdesc_s *desc, const void *msg);
bool op_has_child(pid_t pid);               /* is it the runtime of one? */
bool op_child_ended(pid_t pid, int status); /* false: no op's */
uint32_t op_newest(void);                   /* the serial of the latest op */
bool op_launching_since(uint32_t serial); /* is one that came no later than that still launching? */
/* A fact about that process has changed: ends its ops' WAIT_TIME. */
void ops_wake(unsigned int proc);
bool ops_step(void); /* steps all that wait for nothing more; true if any did */
void ops_want(void); /* timers */
unsigned int ops_count(void);
void ops_forget(void); /* gives back the table's memory, if it is empty */

/* ---- containers and processes (container.c) ---- */

#define CONTAINER_MAX 256
#define PROC_MAX 576
#define ID_MAX 76
#define SENTINEL_SECONDS (-62135596800) /* Go's zero time: "has not exited" */

enum state {
	STATE_NEW, /* its Create is not through, nobody can find it */
	STATE_CREATED,
	STATE_RESTORABLE, /* created from a checkpoint: nothing runs yet */
	STATE_RUNNING,
	STATE_PAUSED,
	STATE_STOPPED,
	STATES
};

struct stamp {
	int64_t seconds;
	int32_t nanos;
};

/* A process of a container: its init, or an exec. */
struct proc {
	bool used;
	bool is_exec;
	bool exited;   /* reaped: status and time are known */
	bool told;     /* its TaskExit is queued, its Waits are answered */
	uint8_t busy;  /* ops in flight that will change its state: its exit waits for them */
	bool released; /* its Start has failed: its Waits are answered though it never ran */
	bool has_spec, has_pid_file; /* an exec's files in the bundle, or there may be */
	enum state state;
	uint16_t gen; /* counts the lives of this slot */
	uint16_t container;
	pid_t pid; /* 0: not known yet */
	uint32_t exit_status;
	struct stamp exited_at;
	const char *id; /* exec id, or the container's id */
	struct stdio stdio;
	uint64_t stdin_due; /* when to open the client's stdin at the latest; 0: done, or not yet */
	struct io io;
	struct pack pack;
	char texts[320];
};

struct container {
	bool used;
	bool no_pivot, no_new_keyring;
	bool private_pids; /* its pid namespace is its own: the kernel kills the rest with init */
	bool mounted;      /* the rootfs is ours to unmount */
	bool started;      /* there may be output to wait for */
	bool pausing;      /* the runtime is at it */
	bool exit_unseen;  /* it was deleted before its init had exited */
	bool exiting;      /* init has exited: no exec starts any more */
	bool late_exec;    /* one that was under way then has come to life since */
	bool deleting;     /* the runtime has forgotten it already */
	bool state_seen;   /* run_knows() was true of it */
	uint8_t cleaning;  /* runtime calls in flight that clear up behind a dead init */
	uint16_t gen;      /* counts the lives of this slot */
	uint16_t init;     /* its slot among the procs */
	const char *id;
	struct runtime runtime;
	const char *cgroup; /* cgroup_find()'s; NULL: unknown */
	struct oom oom;
	const char *checkpoint; /* image to restore from; NULL: none */
	const char *criu_work;  /* Options.criu_work_path; empty: the default */
	struct pack pack;
	char texts[512];
};

/* Containers are taken from the end of theirs, processes from the beginning: of the first few both
 * are in the same page. */
extern struct slots {
	char shift[PAGE - (CONTAINER_MAX * sizeof(struct container) + PAGE / 2) % PAGE];
	struct container containers[CONTAINER_MAX];
	struct proc procs[PROC_MAX];
} slots;

/* Both of a new container: the container and its init, NEW. NULL: a table is full. */
struct container *container_new(void);
struct container *container_find(struct view id); /* NEW ones too; NULL: there is none */
struct proc *container_init(const struct container *c);
void container_free(struct container *c); /* with all its processes */
unsigned int container_count(void);
struct proc *exec_new(struct container *c); /* NULL: the table is full */
struct proc *exec_find(const struct container *c, struct view exec_id); /* NULL: there is none */
struct proc *exec_of_pid(const struct container *c, pid_t pid);         /* the same */
void proc_free(struct proc *p);                                         /* with its files */

/* Files in the bundle: the one with its pid, and the description an exec is started from. */
void pid_path(const struct proc *p, struct text *t);
void exec_spec_path(const struct proc *p, struct text *t);
void proc_set_state(struct proc *p, enum state state); /* the only writer of proc.state */
/* Opens its stdin, if that was put off. Clients close a task's stdin by CloseIO as soon as theirs
 * has ended; some cannot before Create has answered them, and forget it then. So the stdin of an
 * init is opened only a moment after that answer, or with Start, whichever comes first. */
void proc_open_stdin(struct proc *p);
/* The pid is known now. If it was reaped since the op of that serial began, so is its exit.
 * -ECHILD: it is no child of ours, its exit would never be seen. */
int proc_set_pid(struct proc *p, pid_t pid, uint32_t serial);

/* An op is about a container and one of its processes. NULL, if that is gone by now. */
void op_about(struct op *op, const struct proc *p);
struct container *op_container(const struct op *op);
struct proc *op_proc(const struct op *op);

/* Wait is a subscription, not an operation. False: the table is full. */
bool wait_add(const struct proc *p, struct origin from, uint64_t deadline);
void waits_check(void); /* ends those whose deadline is over or whose client has gone */

/* Answers its Waits with the status it has now: of one that never ran that is 0, and never. */
void waits_release(const struct proc *p);
/* What still runs of it is killed, and all exits are told, init's as the last, whether they have been
 * seen or not: nobody waits for them any longer. */
void container_give_up(struct container *c);
void container_oom(struct container *c); /* looks for OOM kills, and tells containerd */

void reap(void);       /* collects every child that has ended, and notes whose it was */
bool procs_step(void); /* moves exits on (contract 3.7); true if anything moved */
void procs_want(void);
void procs_forget(void); /* gives back the memory of tables that are empty */

/* ---- verb.c: what the methods have in common ---- */

#define UMOUNT_RETRY_MS 50
#define UMOUNT_LIMIT_MS 2500

enum verb {
	VERB_START,
	VERB_DELETE,
	VERB_PAUSE,
	VERB_RESUME,
	VERB_UPDATE,
	VERB_CHECKPOINT,
	VERB_EXEC,
	VERBS
};

void verb_end(struct op *op); /* with an empty reply, or its error */
/* False, or NULL: the request has been answered with an error. */
bool verb_decode(struct op *op, const struct pb_msgdesc_s *desc, void *msg);
struct proc *verb_find(struct op *op, struct view id, struct view exec_id);
struct proc *verb_decode_find(struct op *op); /* for requests that name nothing but a process */
struct proc *verb_decode_find_init(struct op *op); /* but a container: it has no exec id */
/* True: the error is noted. p is NULL if the process has gone while the request waited. */
bool verb_refused(struct op *op, const struct proc *p, enum verb verb);
bool verb_out_of_time(struct op *op);
struct container *verb_container(struct view id); /* NULL, too, while its Create is not through */
bool id_valid(struct view id);                    /* fit to be a file name */
/* Copies that live as long as the container or process; NULL: too long, or no memory. */
const char *container_keep(struct container *c, struct view text);
const char *proc_keep(struct proc *p, struct view text);

enum launch { LAUNCH_CREATE, LAUNCH_RESTORE, LAUNCH_EXEC };
/* One stretch of launching a process. False: it waits for something, step again; true: it runs,
 * or the error is noted. */
bool launch_step(struct op *op, const struct container *c, struct proc *p, enum launch launch);

/* ---- create.c and life.c: the methods that take time ---- */

op_step create_step, exec_step, start_step, delete_step, kill_step, pause_step, resume_step,
	update_step, checkpoint_step;
/* Its init is there: notes its cgroup, watches that for OOM kills, and looks for the runtime's
 * state. */
void container_launched(struct container *c);
int container_unmount(const struct container *c); /* as mount_undo() */

/* ---- task.c: the Task service ---- */

void task_receive(unsigned int conn, short got); /* decodes, checks and begins what came in */
extern bool task_shutdown; /* Shutdown was asked for and nothing is left to serve */
extern bool task_closed;   /* the daemon is about to end: whatever is asked now is refused */

/* ---- action.c and shim.c ---- */

#define SOCKET_DIR "/run/containerd/s" /* unless containerd names another (2.3 and later) */
#define LISTEN_FD 3         /* where `start` leaves the listening socket for the daemon */
#define SOCKET_PATH_MAX 106 /* Go's limit for a unix socket's path, and so containerd's */

struct cmdline {
	const char *argv0, *name; /* as called; without its directory */
	char runtime[64];         /* io.containerd.NAME.VERSION */
	const char *namespace, *id, *address, *bundle, *socket, *publish_binary, *debug_socket,
		*action;
	bool debug, version, info;
};
extern struct cmdline cmdline;

/* The last word of a process that cannot go on: containerd shows it to the user. */
_Noreturn void die(const char *fmt, ...) PRINTF(1, 2);
int listen_at(const char *path); /* a listening socket with mode 0600, or -1 with errno */
void action_start(void);
void action_delete(void);
void action_info(void);

#endif
