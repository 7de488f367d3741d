/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.h - a whole daemon (../daemon.h) within a unit test. Its processes are real, and time stands
 * still. Its runtime is the fake one (../fake/runtime.c), which a test can make fail, hang, or wait.
 */
#ifndef UNIT_DAEMON_H
#define UNIT_DAEMON_H

#define UNIT_CLOCK
#include "unit.h"

#include <sys/prctl.h>

#include "../daemon.h"

static char event_log[8192]; /* "start c;exit c x 137;" ... */

static void on_news(const struct news *n)
{
	struct text t = {.at = event_log, .cap = sizeof(event_log), .len = strlen(event_log)};

	text_printf(&t, "%s %.*s", n->topic, VIEW_FMT(n->id));
	if (n->exec.len > 0)
		text_printf(&t, " %.*s", VIEW_FMT(n->exec));
	if (strcmp(n->topic, "exit") == 0 || strcmp(n->topic, "delete") == 0)
		text_printf(&t, " %u", n->status);
	if (strcmp(n->topic, "exit") == 0 && n->exited_at == SENTINEL_SECONDS)
		text_add(&t, VIEW(" never"));
	text_add(&t, VIEW(";"));
	assert_false(t.cut);
}

/* One turn of the daemon's loop, and of everybody around it. Time stands still. */
static inline void one_turn(void)
{
	loop_timer(now + 20); /* but nobody sleeps for longer than that */
	turn();
	peers_turn();
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
			if (real_ms() - begin_ > guard_ms())                                  \
				fail_msg("in vain: %s\nevents: %s\n", #condition, event_log); \
	} while (0)

/* ---- a client ---- */

static unsigned int client; /* who asks: CLIENT_A, as a rule */

static inline struct ask *ask_within(int64_t timeout_ms, const char *method, const char *payload,
				     size_t len)
{
	struct ask *a = client_ask(client, method, (struct view){payload, len}, timeout_ms);

	assert_non_null(a);
	assert_false(a->gone);
	return a;
}

static inline struct ask *ask(const char *method, const char *payload, size_t len)
{
	return ask_within(0, method, payload, len);
}

static inline const struct ask *await(const struct ask *a)
{
	until(a->answered);
	return a;
}

static inline struct view payload_of(const struct ask *a)
{
	assert_true(a->len < sizeof(a->payload));
	return (struct view){a->payload, a->len};
}

/* "c" is a container, "c/x" an exec. */
struct who {
	char id[128], exec[128];
};

static inline struct who who_is(const char *name)
{
	struct view exec = view_of(name), id = view_cut(&exec, '/');
	struct who who;

	get_text(who.id, sizeof(who.id), id);
	get_text(who.exec, sizeof(who.exec), exec);
	return who;
}

static inline struct ask *ask_about_within(int64_t timeout_ms, const char *method, const char *name)
{
	struct who who = who_is(name);
	char buf[512];

	return ask_within(timeout_ms, method, buf, put_who(buf, who.id, who.exec));
}

static inline struct ask *ask_about(const char *method, const char *name)
{
	return ask_about_within(0, method, name);
}

/* `more` are further fields of the request, what is to be mounted, say; `options` of its options. */
static inline struct ask *ask_create_more(int64_t timeout_ms, const char *id,
					  struct streams streams, struct view more,
					  struct view options)
{
	static char buf[8192], all[2048];
	size_t n = put_create(buf, id, in_tmp(id), streams), len;

	mkdir(in_tmp(id), 0755);
	if (more.len > 0)
		memcpy(buf + n, more.at, more.len);
	n += more.len;
	len = put_text(all, 7, in_tmp("root"));
	memcpy(all + len, options.at ? options.at : "", options.len);
	n += put_options(buf + n, (struct view){all, len + options.len});
	return ask_within(timeout_ms, "Create", buf, n);
}

static inline struct ask *ask_create_with(int64_t timeout_ms, const char *id,
					  struct streams streams, struct view options)
{
	return ask_create_more(timeout_ms, id, streams, (struct view){0}, options);
}

/* With something to be mounted as its rootfs. */
static inline struct ask *ask_create_mounted(const char *id, const char *type, const char *source,
					     const char *option, const char *another)
{
	char mount_[700];
	size_t n = put_mount(mount_, type, source, option, another);

	return ask_create_more(0, id, (struct streams){0}, (struct view){mount_, n},
			       (struct view){0});
}

static inline struct ask *ask_create_within(int64_t timeout_ms, const char *id)
{
	return ask_create_with(timeout_ms, id, (struct streams){0}, (struct view){0});
}

static inline struct ask *ask_create(const char *id)
{
	return ask_create_within(0, id);
}

static inline struct ask *ask_exec(const char *name)
{
	struct who who = who_is(name);
	char buf[512];

	return ask("Exec", buf,
		   put_exec(buf, who.id, who.exec, (struct streams){0}, "{\"args\":[1]}"));
}

static inline struct ask *ask_kill(const char *name, unsigned int signal, bool all)
{
	struct who who = who_is(name);
	char buf[512];

	return ask("Kill", buf, put_kill(buf, who.id, who.exec, signal, all));
}

#define assert_ok(a) assert_answer_(a, 0, NULL, __FILE__, __LINE__)
#define assert_error(a, code, message) assert_answer_(a, code, message, __FILE__, __LINE__)

static inline const struct ask *assert_answer_(const struct ask *a, unsigned int code,
					       const char *message, const char *file, int line)
{
	await(a);
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

/* From now on it behaves like that: see the table in ../fake/runtime.c. */
static inline void runtime_says(const char *words)
{
	char text[512];

	/* In a pid namespace an init would not die of SIGTERM. */
	snprintf(text, sizeof(text), "host=1 %s\n", words);
	make_file("words", text, 0644);
}

static inline void make_runtime(void)
{
	static const char fake[] = "build/test/fake-runtime";
	char path[512];

	if (!realpath(fake, path))
		fail_msg("no %s here: make fake\n", fake);
	assert_int_equal(symlink(path, in_tmp("runtime")), 0);
	runtime_says("");
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

/* From now on that verb waits, before its work, or "VERB.behind" it. */
static inline void gate_close(const char *verb)
{
	char name[64];

	snprintf(name, sizeof(name), "%s.gate", verb);
	assert_int_equal(mkfifo(in_tmp(name), 0600), 0);
}

/* Whoever comes from now on does not wait. */
static inline void gate_remove(const char *verb)
{
	char name[64];

	snprintf(name, sizeof(name), "%s.gate", verb);
	assert_int_equal(unlink(in_tmp(name)), 0);
}

static inline bool gate_try(const char *verb)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s.gate", verb);
	fd = open(in_tmp(name), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	assert_int_equal(write(fd, "\n", 1), 1);
	close(fd);
	return true;
}

/* Somebody is waiting there, or will be: he is let go on. */
static inline void gate_open(const char *verb)
{
	until(gate_try(verb));
	gate_remove(verb);
}

/* The runtime has come to that verb. */
static inline bool called(const char *verb)
{
	char line[64];

	snprintf(line, sizeof(line), "\n%s ", verb);
	return strncmp(calls(), line + 1, strlen(line) - 1) == 0 || strstr(calls(), line);
}

/* It has, and is through with it: no request of that kind waits for the runtime. */
static inline bool was_called(const char *verb, op_step *step)
{
	if (!called(verb))
		return false;
	for (unsigned int i = 0; i < OP_MAX; i++)
		if (ops[i].step == step && ops[i].run.pid != 0)
			return false;
	return true;
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

	if (tmp_make(state) < 0)
		return -1;
	loop_init();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(runtime, sizeof(runtime), "%s", in_tmp("runtime"));
	make_runtime();
	self.no_pivot = false;
	daemon_open(tmp, runtime);
	event_watch(); /* time stands still here */
	event_log[0] = '\0';
	client = CLIENT_A;
	client_connect(client);
	one_turn();
	return 0;
}

static inline int daemon_teardown(void **state)
{
	kill_children();
	/* Everything ends by itself, now that whatever was waited for is over. */
	daemon_abandon();
	for (unsigned int i = 0; i < CONTAINER_MAX; i++)
		if (slots.containers[i].used)
			container_free(&slots.containers[i]);
	loop_child = true;
	until(event_idle());
	advance(60000);
	one_turn();
	one_turn();
	kill_children();
	daemon_close();
	return tmp_remove(state);
}

#define DAEMON_TEST(f) cmocka_unit_test_setup_teardown(f, daemon_setup, daemon_teardown)

#endif
