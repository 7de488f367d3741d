/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.h - a whole daemon within a unit test: its own loop (shim.c), a client, a containerd that
 * takes events, and a runtime made of a shell script that a test can make fail, hang, or wait.
 */
#ifndef DAEMON_H
#define DAEMON_H

#define UNIT_CLOCK
#include "unit.h"

#include <sys/prctl.h>

#define main shim_main
int shim_main(int argc, char **argv);
#include "../../shim.c"
#undef main

extern const char
	*cgroup_prefix; /* of cgroup.c: the host's cgroups are no concern of these tests */

/* ---- containerd ---- */

static int events_listener = -1, events_client = -1;
static bool events_held;     /* it takes them, but acknowledges none */
static char event_log[8192]; /* "start c 17;exit c x 137;" ... */

static inline void note_event(struct view payload)
{
	struct view envelope = get_bytes(payload, 1), any = get_bytes(envelope, 4);
	struct view topic = get_bytes(envelope, 3), e = get_bytes(any, 2), name = get_bytes(any, 1);
	struct text t = {.at = event_log, .cap = sizeof(event_log), .len = strlen(event_log)};

	view_cut(&topic, '/');
	view_cut(&topic, '/');
	text_add(&t, topic);
	text_add(&t, VIEW(" "));
	text_add(&t, get_bytes(e, 1));
	if (view_is(name, "containerd.events.TaskExit")) {
		text_add(&t, VIEW(" "));
		text_add(&t, get_bytes(e, 2));
		text_printf(&t, " %u", (unsigned int)get_number(e, 4, 0));
		if ((int64_t)get_number(get_bytes(e, 5), 1, 0) == SENTINEL_SECONDS)
			text_add(&t, VIEW(" never"));
	} else if (view_is(name, "containerd.events.TaskDelete")) {
		text_printf(&t, " %u", (unsigned int)get_number(e, 3, 0));
	} else if (view_starts(name, "containerd.events.TaskExec")) {
		text_add(&t, VIEW(" "));
		text_add(&t, get_bytes(e, 2));
	}
	text_add(&t, VIEW(";"));
	assert_false(t.cut);
}

static inline void take_events(void)
{
	static char buf[1 << 16];
	char answer[FRAME_HEADER];
	ssize_t n;

	if (events_client < 0)
		events_client = accept4(events_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (!events_held && events_client >= 0 &&
	       (n = recv(events_client, buf, sizeof(buf), MSG_PEEK)) >= FRAME_HEADER) {
		size_t len = FRAME_HEADER + get_be32(buf);

		if ((size_t)n < len)
			break;
		assert_int_equal(recv(events_client, buf, len, 0), len);
		note_event(get_bytes((struct view){buf + FRAME_HEADER, len - FRAME_HEADER}, 3));
		put_header(answer, 0, get_be32(buf + 4), FRAME_RESPONSE);
		assert_int_equal(send(events_client, answer, FRAME_HEADER, MSG_NOSIGNAL),
				 FRAME_HEADER);
	}
	if (events_client >= 0 && recv(events_client, buf, 1, MSG_PEEK) == 0)
		fd_close(&events_client);
}

/* ---- a client ---- */

static int client = -1;
static uint32_t last_asked;

/* Replies that came, in the order they came. */
struct answer {
	uint32_t stream;
	unsigned int code;
	char message[512];
	char payload[512]; /* its beginning */
	size_t len;        /* of all */
};
static struct answer answers[4096];
static unsigned int answer_count;

static inline void take_answers(void)
{
	struct reply r;

	while (client >= 0 && get_reply(client, &r)) {
		struct answer *a = &answers[answer_count++];

		assert_true(answer_count <= COUNT(answers));
		assert_true(r.message.len < sizeof(a->message));
		*a = (struct answer){.stream = r.stream, .code = r.code, .len = r.payload.len};
		memcpy(a->message, r.message.at ? r.message.at : "", r.message.len);
		if (r.payload.len > 0)
			memcpy(a->payload, r.payload.at,
			       r.payload.len < sizeof(a->payload) ? r.payload.len
								  : sizeof(a->payload));
	}
}

static inline const struct answer *answered(uint32_t stream)
{
	for (unsigned int i = 0; i < answer_count; i++)
		if (answers[i].stream == stream)
			return &answers[i];
	return NULL;
}

/* One turn of the daemon's loop, and of everybody around it. Time stands still. */
static inline void one_turn(void)
{
	loop_timer(now + 20); /* but nobody sleeps for longer than that */
	turn();
	take_events();
	take_answers();
}

static inline uint64_t real_ms(void)
{
	struct timespec ts;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

#define until(condition)                                                                      \
	do {                                                                                  \
		for (uint64_t begin_ = real_ms(); !(condition); one_turn())                   \
			if (real_ms() - begin_ > 30000)                                       \
				fail_msg("in vain: %s\nevents: %s\n", #condition, event_log); \
	} while (0)

static inline uint32_t ask_within(int64_t timeout_ms, const char *method, const char *payload,
				  size_t len)
{
	char buf[FRAME_HEADER + 2048];
	size_t n = put_request(buf, last_asked += 2, "containerd.task.v2.Task", method,
			       (struct view){payload, len});

	if (timeout_ms) {
		n += put_number(buf + n, 4, (uint64_t)(timeout_ms * 1000000));
		put_header(buf, (uint32_t)n - FRAME_HEADER, last_asked, FRAME_REQUEST);
	}
	assert_true(n <= sizeof(buf));
	assert_int_equal(send(client, buf, n, MSG_NOSIGNAL), n);
	return last_asked;
}

static inline uint32_t ask(const char *method, const char *payload, size_t len)
{
	return ask_within(0, method, payload, len);
}

static inline const struct answer *await(uint32_t stream)
{
	until(answered(stream));
	return answered(stream);
}

/* "c" is a container, "c/x" an exec. */
static inline size_t put_ids(char *buf, const char *who)
{
	struct view exec = view_of(who), id = view_cut(&exec, '/');
	size_t n = put_bytes(buf, 1, id);

	return exec.len > 0 ? n + put_bytes(buf + n, 2, exec) : n;
}

static inline uint32_t ask_about_within(int64_t timeout_ms, const char *method, const char *who)
{
	char buf[512];

	return ask_within(timeout_ms, method, buf, put_ids(buf, who));
}

static inline uint32_t ask_about(const char *method, const char *who)
{
	return ask_about_within(0, method, who);
}

/* `more` are further fields of the request, `options` of its options. */
static inline uint32_t ask_create_with(int64_t timeout_ms, const char *id, struct view more,
				       struct view options)
{
	static char buf[4096], all[2048], any[2048];
	char bundle[300];
	size_t n = put_bytes(buf, 1, view_of(id)), len;

	snprintf(bundle, sizeof(bundle), "%s/%s", tmp, id);
	mkdir(bundle, 0755);
	n += put_bytes(buf + n, 2, view_of(bundle));
	len = put_bytes(all, 7, view_of(in_tmp("root")));
	memcpy(all + len, options.at ? options.at : "", options.len);
	len = put_bytes(any, 2, (struct view){all, len + options.len});
	len += put_bytes(any + len, 1, VIEW("containerd.runc.v1.Options"));
	n += put_bytes(buf + n, 10, (struct view){any, len});
	memcpy(buf + n, more.at ? more.at : "", more.len);
	return ask_within(timeout_ms, "Create", buf, n + more.len);
}

static inline uint32_t ask_create_within(int64_t timeout_ms, const char *id)
{
	return ask_create_with(timeout_ms, id, (struct view){0}, (struct view){0});
}

static inline uint32_t ask_create(const char *id)
{
	return ask_create_within(0, id);
}

static inline uint32_t ask_exec(const char *who)
{
	char buf[512];
	size_t n = put_ids(buf, who);

	n += put_bytes(buf + n, 7, VIEW("\x12\x0c{\"args\":[1]}"));
	return ask("Exec", buf, n);
}

static inline uint32_t ask_kill(const char *who, unsigned int signal, bool all)
{
	char buf[512];
	size_t n = put_ids(buf, who);

	n += put_number(buf + n, 3, signal);
	if (all)
		n += put_number(buf + n, 4, 1);
	return ask("Kill", buf, n);
}

#define assert_ok(stream) assert_answer_(stream, 0, NULL, __FILE__, __LINE__)
#define assert_error(stream, code, message) \
	assert_answer_(stream, code, message, __FILE__, __LINE__)

static inline const struct answer *assert_answer_(uint32_t stream, unsigned int code,
						  const char *message, const char *file, int line)
{
	const struct answer *a = await(stream);

	if (a->code != code || (message && strcmp(a->message, message) != 0)) {
		print_error("%s:%d: code %u, \"%s\" instead of code %u, \"%s\"\n", file, line,
			    a->code, a->message, code, message ? message : "");
		_fail(file, line);
	}
	return a;
}

/* ---- the runtime ---- */

/* What it was called with, one line a call: verb and arguments, without the common ones. */
static inline const char *calls(void)
{
	return file_text("calls");
}

static char program[512]; /* this one */

/* Makes a process for the runtime, whose script calls this program as `--orphan SCRIPT PIDFILE`, and
 * leaves it to the shim: a shell would reap it itself, if it ends soon. Its pid is told when it is no
 * emulator any more: one may lose a signal on the way through execve(2), as valgrind does. */
static inline void daemon_main_begins(int argc, char **argv)
{
	pid_t pid;
	char text[16];
	int ends[2];

	if (argc < 4 || strcmp(argv[1], "--orphan") != 0) {
		const char *emulator = getenv("EMULATOR"); /* this is another machine's program */
		char exe[256];
		ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe));

		snprintf(program, sizeof(program), "%s %.*s", emulator ? emulator : "", (int)n,
			 exe);
		close_others();
		return;
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", argv[2], NULL);
		_exit(127);
	}
	close(ends[1]);
	if (read(ends[0], text, 1) < 0) /* its end */
		_exit(1);
	snprintf(text, sizeof(text), "%d", (int)pid);
	_exit(pid < 0 || file_write(argv[3], view_of(text), 0644) < 0);
}

static inline void make_runtime(void)
{
	char script[4096];

	/* D/VERB.fail: text for log.json, and exit 1. D/VERB.gate: a FIFO to wait at. D/VERB.then: a
	 * script to run at the end. D/stateless: it keeps its state elsewhere. D/init, D/exec: what a process is. */
	snprintf(script, sizeof(script),
		 "#!/bin/sh\n"
		 "D=%s; root=$2; log=$4; shift 6; [ \"$1\" = --systemd-cgroup ] && shift\n"
		 "verb=$1; shift; echo \"$verb $*\" >>$D/calls\n"
		 "for id; do case $1 in --pid-file) pid_file=$2;; esac; shift; done\n"
		 "[ -p $D/$verb.gate ] && read x <$D/$verb.gate\n"
		 "if [ -e $D/$verb.fail ]; then cat $D/$verb.fail >>$log; cat $D/$verb.fail; exit "
		 "1; fi\n"
		 "case $verb in create|restore) [ -e $D/stateless ] || mkdir -p $root/$id;; "
		 "delete) [ -e $D/stateless ] || rmdir $root/$id;; "
		 "esac\n"
		 "case $verb in\n"
		 "create|restore) %s --orphan $D/init $pid_file; cp $pid_file $D/$id.init;;\n"
		 "exec) %s --orphan $D/exec $pid_file;;\n"
		 "delete) [ -e $D/$id.init ] && kill -9 $(cat $D/$id.init) 2>/dev/null; rm -f "
		 "$D/$id.init;;\n"
		 "esac\n"
		 "[ -e $D/$verb.then ] && . $D/$verb.then\n"
		 "exit 0\n",
		 tmp, program, program);
	make_file("runtime", script, 0755);
	make_file("init", "exec sleep 1000\n", 0644);
	make_file("exec", "exec sleep 1000\n", 0644);
	make_file("calls", "", 0644);
}

static inline void runtime_fails(const char *verb, const char *why)
{
	char name[64], text[512];

	snprintf(name, sizeof(name), "%s.fail", verb);
	snprintf(text, sizeof(text), "{\"level\":\"error\",\"msg\":\"%s\"}\n", why);
	make_file(name, text, 0644);
}

static inline void runtime_works(const char *verb)
{
	char name[64];

	snprintf(name, sizeof(name), "%s.fail", verb);
	unlink(in_tmp(name));
}

static inline void runtime_then(const char *verb, const char *script)
{
	char name[64];

	snprintf(name, sizeof(name), "%s.then", verb);
	make_file(name, script, 0644);
}

/* From now on that verb waits; one that does is let go on. */
static inline void gate_close(const char *verb)
{
	char name[64];

	snprintf(name, sizeof(name), "%s.gate", verb);
	assert_int_equal(mkfifo(in_tmp(name), 0600), 0);
}

static inline bool gate_try(const char *name)
{
	int fd = open(in_tmp(name), O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return false;
	assert_int_equal(write(fd, "\n", 1), 1);
	close(fd);
	return true;
}

/* Is somebody waiting there? He is let go on, and whoever comes after him does not wait. */
static inline void gate_open(const char *verb)
{
	char name[64], opened[64];

	snprintf(name, sizeof(name), "%s.gate", verb);
	snprintf(opened, sizeof(opened), "%s.opened", verb);
	until(gate_try(name));
	rename(in_tmp(name), in_tmp(opened));
}

/* The runtime has come to that verb. */
static inline bool called(const char *verb)
{
	char line[64];

	snprintf(line, sizeof(line), "\n%s ", verb);
	return strncmp(calls(), line + 1, strlen(line) - 1) == 0 || strstr(calls(), line);
}

static inline unsigned int call_count(const char *line)
{
	struct view rest = view_of(calls());
	unsigned int n = 0;

	while (rest.len > 0)
		n += view_is(view_cut(&rest, '\n'), line);
	return n;
}

/* ---- slots ---- */

static inline struct container *the_container(const char *id)
{
	return container_find(view_of(id));
}

static inline struct proc *the_init(const char *id)
{
	assert_non_null(the_container(id));
	return container_init(the_container(id));
}

static inline struct proc *the_exec(const char *id, const char *exec)
{
	return exec_find(the_container(id), view_of(exec));
}

/* Of a container that shares nothing, nothing is left to be killed. */
static inline void with_private_pids(const char *id)
{
	char name[128];

	mkdir(in_tmp(id), 0755);
	snprintf(name, sizeof(name), "%s/config.json", id);
	make_file(name, "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"}]}}",
		  0644);
}

static inline void created(const char *id)
{
	assert_ok(ask_create(id));
}

static inline void started(const char *id)
{
	created(id);
	assert_ok(ask_about("Start", id));
}

/* Ends a process as somebody outside would. */
static inline void end_process(const struct proc *p, int signal)
{
	assert_true(p->pid > 0);
	assert_int_equal(kill(p->pid, signal), 0);
}

/* ---- the frame of each test ---- */

/* Every process that is a child of this one. */
static inline void kill_children(void)
{
	char path[64], buf[4096];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	while ((n = file_read(path, buf, sizeof(buf))) > 0) {
		struct view rest = view_of(buf);

		while (rest.len > 0) {
			int pid = view_int(view_cut(&rest, ' '));

			if (pid > 0) {
				kill(pid, SIGKILL);
				waitpid(pid, NULL, 0);
			}
		}
	}
}

static inline int daemon_setup(void **state)
{
	static char runtime[128];
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	if (tmp_make(state) < 0)
		return -1;
	loop_init();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(runtime, sizeof(runtime), "%s", in_tmp("runtime"));
	self.namespace = "ns";
	self.runtime = runtime;
	self.no_pivot = false;
	snprintf(self.socket_dir, sizeof(self.socket_dir), "%s", tmp);
	cgroup_prefix = tmp;
	make_runtime();
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", in_tmp("events"));
	events_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(events_listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(events_listener, 5) < 0)
		return -1;
	event_init(at.sun_path);
	event_watch(); /* time stands still here */
	event_log[0] = '\0';
	events_held = false;
	server_open();
	client = client_open();
	last_asked = UINT32_MAX;
	answer_count = 0;
	task_shutdown = false;
	one_turn();
	return 0;
}

static inline int daemon_teardown(void **state)
{
	events_held = false;
	fd_close(&client);
	kill_children();
	/* Everything ends by itself, now that whatever was waited for is over. */
	for (unsigned int i = 0; i < OP_MAX; i++)
		if (ops[i].step)
			op_done(&ops[i], NULL, NULL);
	for (unsigned int i = 0; i < CONTAINER_MAX; i++)
		if (slots.containers[i].used)
			container_free(&slots.containers[i]);
	loop_child = true;
	until(event_idle());
	advance(60000);
	one_turn();
	one_turn();
	kill_children();
	server_close();
	fd_close(&events_client);
	fd_close(&events_listener);
	return tmp_remove(state);
}

#define DAEMON_TEST(f) cmocka_unit_test_setup_teardown(f, daemon_setup, daemon_teardown)

#endif
