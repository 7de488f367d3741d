// SPDX-License-Identifier: Apache-2.0
/*
 * race.c - plays containerd towards one daemon whose runtime is the fake one: many containers and
 * execs in several lanes at a time, ending whenever they like.
 *
 * A lane is a thread with a connection; what it does with its containers comes from the seed. All
 * it learns, and all events, go into a model of every process there ever was, and the rules are
 * looked after there: each process has one TaskExit, with the status it ended with, after its start
 * and before its container's delete; an init's is the last of its container; every Wait is
 * answered, with the same status. At the end the daemon has nothing left: no container, request,
 * child, descriptor or page more than before, and no wake-ups; then it is told to go, and goes.
 *
 * With --faults the daemon is the one whose system calls fail by the dice (fault.c), in that many
 * rounds: each call alone, and all together. The lanes then take every error for an answer; but what
 * was started is accounted for as ever, what ran before runs on, and after each round all is as if
 * nothing had happened.
 *
 * With --soak the lanes do nothing but run well-behaved containers, as fast as they can.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../fake/fault.h"

static _Noreturn void __attribute__((format(printf, 1, 2))) give_up(const char *fmt, ...);

#define CHECK(condition, ...)                 \
	do {                                  \
		if (!(condition))             \
			give_up(__VA_ARGS__); \
	} while (0)

#include "../wire.h"

#define LANES_MAX 64
#define RESIDENT_MAX 1500 /* kB, of which its program is 200 */
#define BOXES_A_ROUND 16

static const char *shim, *runtime = "build/test/fake-runtime";
static unsigned int containers, execs = 10, lanes = 16, rounds, idle_seconds;
static uint64_t seed;
static bool soak, debug, is_root, sanitized;
static struct fault_page *faults;

static char dir[64], root[96]; /* all of this run; of the runtime */
static pid_t daemon_pid;
static struct timespec began;

/* ---- findings ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the model, and of what is printed */
static unsigned int tests, findings, failures;

static void __attribute__((format(printf, 1, 2))) finding(const char *fmt, ...)
{
	va_list args;

	if (++findings > 40)
		return;
	va_start(args, fmt);
	printf("# ");
	vprintf(fmt, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
}

static void result(bool ok, const char *what)
{
	printf("%sok %u - %s\n", ok ? "" : "not ", ++tests, what);
	fflush(stdout);
	failures += !ok;
}

/* The sanitizers' own memory is many times the daemon's. */
static void result_of_memory(bool ok, const char *what)
{
	if (sanitized)
		printf("ok %u - %s # SKIP its memory is the sanitizers'\n", ++tests, what);
	else
		result(ok, what);
}

/* What the daemon says. */
static char log_text[1 << 20];
static size_t log_len;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static _Noreturn void give_up(const char *fmt, ...)
{
	int err = errno;
	va_list args;

	va_start(args, fmt);
	printf("Bail out! ");
	vprintf(fmt, args);
	printf(" (%s)\n%s\n", strerror(err), log_text);
	va_end(args);
	fflush(stdout);
	if (daemon_pid > 0)
		kill(daemon_pid, SIGKILL);
	_exit(1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)(t.tv_sec - began.tv_sec) + (double)(t.tv_nsec - began.tv_nsec) / 1e9;
}

/* Asks until it is so; false: in vain. */
#define holds(condition)                                            \
	({                                                          \
		double end_ = seconds() + guard_ms() / 1e3;         \
		bool is_so_;                                        \
                                                                    \
		while (!(is_so_ = (condition)) && seconds() < end_) \
			usleep(10000);                              \
		is_so_;                                             \
	})

/* ---- the model ---- */

enum expect { NEVER, EITHER, SURELY };

struct process {
	uint8_t planned;              /* the status it ends with if it is left alone */
	uint8_t killed;               /* ... or 137 */
	uint8_t added, starts, exits; /* events seen */
	uint8_t status;               /* of the exit event */
	uint8_t run;                  /* enum expect: its Start succeeded */
	uint8_t waits, answers;
	int16_t waited;  /* what a Wait was told; -1: nothing yet */
	int16_t deleted; /* what Delete was told */
};

struct box {
	uint8_t made; /* enum expect: its Create succeeded */
	uint8_t created, gone;
	uint8_t unseen;   /* it may have been deleted before it ever ran */
	uint16_t running; /* execs started, but not exited */
	uint32_t sequence;
};

static struct box *boxes;
static struct process *processes; /* of each box: its init, and its execs */
static unsigned int next_box, events_seen, exits_seen, resets;

static struct process *process_of(unsigned int box, unsigned int number)
{
	return &processes[(size_t)box * (execs + 1) + number];
}

/* ---- events ---- */

static void on_event(const char *topic, unsigned int n, const char *exec, unsigned int status)
{
	struct box *b = &boxes[n];
	unsigned int number = exec[0] == 'e' ? (unsigned int)atoi(exec + 1) + 1 : 0;
	struct process *p = process_of(n, number), *init = process_of(n, 0);

	if (n >= containers || number > execs) {
		finding("event %s of an unknown container or exec", topic);
		return;
	}
	events_seen++;
	if (strcmp(topic, "create") == 0) {
		if (b->created++)
			finding("c%u: created twice", n);
		return;
	}
	if (!b->created)
		finding("c%u: %s %s before its creation", n, topic, exec);
	if (b->gone)
		finding("c%u: %s %s after its deletion", n, topic, exec);
	if (strcmp(topic, "start") == 0) {
		if (init->starts++ || init->exits)
			finding("c%u: started again, or after its exit", n);
	} else if (strcmp(topic, "exec-added") == 0) {
		if (p->added++)
			finding("c%u %s: added twice", n, exec);
	} else if (strcmp(topic, "exec-started") == 0) {
		if (p->starts++ || p->exits || !p->added || init->exits)
			finding("c%u %s: started %u times, exited %u, added %u, its init exited %u",
				n, exec, p->starts, p->exits, p->added, init->exits);
		b->running++;
	} else if (strcmp(topic, "exit") == 0) {
		exits_seen++;
		if (p->exits++)
			finding("c%u %s: exited twice", n, exec);
		if (number > 0 && !p->starts)
			finding("c%u %s: exit of what was never started", n, exec);
		if (number > 0)
			b->running--;
		else if (b->running > 0)
			finding("c%u: exited before %u of its execs", n, b->running);
		p->status = (uint8_t)status;
	} else if (strcmp(topic, "delete") == 0) {
		if (!init->exits)
			finding("c%u: deleted before its exit", n);
		b->gone++;
	} else if (strcmp(topic, "paused") != 0 && strcmp(topic, "resumed") != 0) {
		finding("c%u: unknown event %s", n, topic);
	}
}

/* "c17" and "e3", or the container's own name, if it is about its init. */
static void take_event(struct view request)
{
	struct news n = news_of(get_bytes(request, 3));
	char id[64], exec[64];

	get_text(id, sizeof(id), n.id);
	get_text(exec, sizeof(exec), n.exec);
	on_event(n.topic, (unsigned int)atoi(id + 1), strcmp(exec, id) == 0 ? "" : exec, n.status);
}

static uint64_t random_of(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* containerd's events service. Now and then it breaks the connection instead of answering: what it
 * has not acknowledged it has not seen. */
static void *serve_events(void *arg)
{
	static struct peer p;
	uint64_t dice = seed | 1;

	for (;;) {
		size_t used = 0;
		struct frame f;

		peer_open(&p, accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC));
		if (p.fd < 0)
			return NULL;
		while (peer_receive(&p)) {
			while (p.fd >= 0 && peer_frame(&p, &used, &f)) {
				if (!soak &&
				    random_of(&dice) % (faults && faults->on ? 50 : 2000) == 0) {
					resets++;
					peer_close(&p);
					break;
				}
				pthread_mutex_lock(&lock);
				take_event(f.data);
				pthread_mutex_unlock(&lock);
				peer_answer(&p, f.stream);
			}
			if (p.fd < 0)
				break;
		}
		peer_close(&p);
	}
}

static int listen_at(const char *path)
{
	int fd = unix_listen(path, 0);

	if (fd < 0)
		give_up("%s", path);
	return fd;
}

/* ---- a lane ---- */

struct outcome {
	uint32_t stream;
	bool failed, lost; /* refused; the connection went before the answer came */
	char why[256];
	unsigned int first, second; /* the numbers in its first two fields */
};

struct lane {
	uint64_t dice;
	struct peer peer;
	struct outcome kept[256]; /* that came while another was waited for */
	unsigned int kept_count;
};

static unsigned int roll(struct lane *l, unsigned int sides)
{
	return (unsigned int)(random_of(&l->dice) >> 20) % sides;
}

static bool chance(struct lane *l, unsigned int percent)
{
	return !soak && roll(l, 100) < percent;
}

static void linger(struct lane *l, unsigned int percent)
{
	if (chance(l, percent))
		usleep(roll(l, 2000));
}

static void dial(struct lane *l)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/d.sock", dir);
	peer_open(&l->peer, unix_connect(path, 0));
	if (l->peer.fd < 0)
		give_up("connect to the daemon");
	l->kept_count = 0;
}

/* Only where system calls fail may the daemon close a connection. */
static struct outcome lose(struct lane *l)
{
	if (!faults)
		give_up("the daemon has closed a connection");
	peer_close(&l->peer);
	return (struct outcome){.failed = true, .lost = true};
}

static uint32_t ask(struct lane *l, const char *method, struct view payload, int64_t timeout_ns)
{
	char buf[8192];
	size_t n;

	if (l->peer.fd < 0)
		dial(l);
	l->peer.stream += 2;
	n = put_request_within(buf, l->peer.stream, TASK_SERVICE, method, payload, timeout_ns);
	if (!peer_send(&l->peer, buf, n))
		lose(l);
	return l->peer.stream;
}

struct id {
	char text[16];
};

static struct id id_of(unsigned int box)
{
	struct id id;

	snprintf(id.text, sizeof(id.text), "c%u", box);
	return id;
}

static uint32_t ask_about(struct lane *l, const char *method, unsigned int box, const char *exec)
{
	char buf[256];
	size_t n = put_who(buf, id_of(box).text, exec);

	return ask(l, method, (struct view){buf, n}, 0);
}

static struct outcome outcome_of(const struct frame *f)
{
	struct reply r = reply_of(f);
	struct outcome o = {.stream = r.stream, .failed = r.code != 0};

	get_text(o.why, sizeof(o.why), r.message);
	o.first = (unsigned int)get_number(r.payload, 1, 0);
	o.second = (unsigned int)get_number(r.payload, 2, 0);
	return o;
}

/* The reply to that request; those to others are kept. */
static struct outcome answer(struct lane *l, uint32_t stream, const char *what)
{
	for (unsigned int i = 0; i < l->kept_count; i++) {
		if (l->kept[i].stream == stream) {
			struct outcome r = l->kept[i];

			l->kept[i] = l->kept[--l->kept_count];
			return r;
		}
	}
	while (l->peer.fd >= 0) {
		struct pollfd p = {l->peer.fd, POLLIN, 0};
		struct outcome asked = {0};
		size_t used = 0;
		struct frame f;

		if (poll(&p, 1, (int)guard_ms()) <= 0) {
			printf("# no reply: %s\n", what);
			kill(daemon_pid, SIGUSR1);
			sleep(1); /* the daemon says what it has; give_up() shows that */
			give_up("a request was never answered");
		}
		if (!peer_receive(&l->peer))
			return lose(l);
		while (peer_frame(&l->peer, &used, &f)) {
			struct outcome o = outcome_of(&f);

			if (o.stream == stream) {
				asked = o;
				continue;
			}
			if (l->kept_count == COUNT(l->kept))
				give_up("too many replies are kept");
			l->kept[l->kept_count++] = o;
		}
		if (asked.stream == stream)
			return asked;
	}
	return (struct outcome){.failed = true, .lost = true};
}

/* ---- bundles ---- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		give_up("%s", path);
	close(fd);
}

static void write_config(unsigned int box, bool own_pids, const char *words)
{
	char path[128], text[1024];

	snprintf(path, sizeof(path), "%s/c%u/config.json", dir, box);
	snprintf(text, sizeof(text),
		 "{\"ociVersion\":\"1.0.2\",\"annotations\":{\"test\":\"fake: %s\"},"
		 "\"linux\":{\"namespaces\":[%s]}}",
		 words, own_pids ? "{\"type\":\"pid\"}" : "");
	write_file(path, text);
}

static bool expected_file(const char *name)
{
	static const char *const names[] = {".",       "..",       "config.json", "options.json",
					    "runtime", "log.json", "init.pid",    "address",
					    "rootfs",  "out"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* A runtime that was killed may have left its half of a file. */
static bool of_runtime(const char *name)
{
	return strstr(name, ".pid.");
}

/* Looks for what should not be there any more, and removes the bundle. */
static void clear_bundle(unsigned int box)
{
	char path[512];
	const struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/c%u", dir, box);
	d = opendir(path);
	if (!d)
		give_up("%s", path);
	while ((e = readdir(d))) {
		if (!expected_file(e->d_name) && !of_runtime(e->d_name) && !faults) {
			pthread_mutex_lock(&lock);
			finding("c%u: %s is left in its bundle", box, e->d_name);
			pthread_mutex_unlock(&lock);
		}
		snprintf(path, sizeof(path), "%s/c%u/%s", dir, box, e->d_name);
		unlink(path);
	}
	closedir(d);
	snprintf(path, sizeof(path), "%s/c%u/rootfs", dir, box);
	if (rmdir(path) < 0 && errno != ENOENT) {
		pthread_mutex_lock(&lock);
		finding("c%u: its rootfs is still mounted: %s", box, strerror(errno));
		pthread_mutex_unlock(&lock);
	}
	snprintf(path, sizeof(path), "%s/c%u", dir, box);
	rmdir(path);
}

/* Reads both streams to their ends. */
static const char logger[] = "binary:///bin/sh?-c=exec+5>%26-;cat+<%264+>/dev/null+%26+"
			     "exec+cat+<%263+>/dev/null";

static uint32_t ask_create(struct lane *l, unsigned int box, const char *stdout_path,
			   int64_t timeout_ns)
{
	char buf[4096], fields[2048], bundle[128], url[160];
	struct streams streams = {0};
	size_t n, len = put_text(fields, 6, runtime);

	len += put_text(fields + len, 7, root);
	if (is_root && chance(l, 20)) { /* another owner for its streams */
		len += put_number(fields + len, 4, 1);
		len += put_number(fields + len, 5, 1);
	}
	if (chance(l, 10)) { /* longer than there is room for in the daemon's table */
		char work[1000];

		memset(work, 'w', sizeof(work));
		len += put_bytes(fields + len, 11, (struct view){work, sizeof(work)});
	}
	if (stdout_path) {
		streams.terminal = chance(l, 30);
		if (chance(l, 15))
			snprintf(url, sizeof(url), "%s", logger);
		else
			snprintf(url, sizeof(url), "%s%s", chance(l, 20) ? "file://" : "",
				 stdout_path);
		streams.out = url;
	}
	snprintf(bundle, sizeof(bundle), "%s/c%u", dir, box);
	n = put_create(buf, id_of(box).text, bundle, streams);
	if (is_root && chance(l, 10))
		n += put_mount(buf + n, "bind", root, "rbind", "ro");
	n += put_options(buf + n, (struct view){fields, len});
	return ask(l, "Create", (struct view){buf, n}, timeout_ns);
}

static uint32_t ask_exec(struct lane *l, unsigned int box, const char *exec, const char *words)
{
	char buf[1024], spec[512];
	size_t n;

	snprintf(spec, sizeof(spec), "{\"cwd\":\"/\",\"args\":[\"x\"],\"env\":[\"X=fake: %s\"]}",
		 words);
	n = put_exec(buf, id_of(box).text, exec, (struct streams){0}, spec);
	return ask(l, "Exec", (struct view){buf, n}, 0);
}

static uint32_t ask_kill(struct lane *l, unsigned int box, const char *exec, bool all)
{
	char buf[256];
	size_t n = put_kill(buf, id_of(box).text, exec, SIGKILL, all);

	return ask(l, "Kill", (struct view){buf, n}, 0);
}

static uint32_t ask_update(struct lane *l, unsigned int box)
{
	char buf[512];
	size_t n = put_update(buf, id_of(box).text, "{\"cpu\":{\"shares\":512}}");

	return ask(l, "Update", (struct view){buf, n}, 0);
}

/* ---- what a lane does ---- */

/* How the runtime behaves; true: the launch may fail by it. */
static bool choose_words(struct lane *l, const char *verb, char *words, size_t cap)
{
	static const char *const mishaps[] = {"%s.fail=1",
					      "%s.fail=3 %s.log=none",
					      "%s.fail=1 %s.log=torn",
					      "%s.fail=1 %s.log=garbage",
					      "%s.fail=1 %s.log=long",
					      "%s.signal=9",
					      "%s.signal=11",
					      "%s.die=9",
					      "pid=none",
					      "pid=garbage",
					      "pid=empty",
					      "pid=1",
					      "%s.noise=200000 %s.fail=1"};
	size_t len = strlen(words);
	const char *mishap;

	if (chance(l, 15))
		len += (size_t)snprintf(words + len, cap - len, " %s.wait=%u", verb, roll(l, 3000));
	if (chance(l, 30))
		len += (size_t)snprintf(words + len, cap - len, " %s.after=%u", verb,
					roll(l, 3000));
	if (chance(l, 25))
		len += (size_t)snprintf(words + len, cap - len, " orphan=1");
	if (chance(l, 2))
		len += (size_t)snprintf(words + len, cap - len, " %s.leak=%u", verb,
					roll(l, 20000));
	if (!chance(l, 4))
		return false;
	mishap = mishaps[roll(l, sizeof(mishaps) / sizeof(mishaps[0]))];
	if (strlen(words) + 64 < cap) {
		char *to = words + len;

		*to++ = ' ';
		for (const char *c = mishap; *c; c++) {
			if (c[0] == '%' && c[1] == 's') {
				to = stpcpy(to, verb);
				c++;
			} else {
				*to++ = *c;
			}
		}
		*to = '\0';
	}
	return true;
}

struct exec {
	char id[16];
	unsigned int number;
	uint32_t add, start, kill, waits[2];
	unsigned int wait_count;
	bool may_fail, added;
	bool unstarted; /* nothing has happened that would end a Wait, but its deletion will */
};

static void note_wait(struct lane *l, unsigned int box, unsigned int number, uint32_t stream)
{
	struct process *p = process_of(box, number);
	char what[64];
	struct outcome r;

	snprintf(what, sizeof(what), "Wait of c%u %u", box, number);
	r = answer(l, stream, what);
	pthread_mutex_lock(&lock);
	p->answers++;
	if (r.failed)
		finding("c%u %u: Wait failed: %s", box, number, r.why);
	else if (p->waited >= 0 && p->waited != (int16_t)r.first)
		finding("c%u %u: two Waits say %d and %u", box, number, p->waited, r.first);
	else
		p->waited = (int16_t)r.first;
	pthread_mutex_unlock(&lock);
}

static void wait_exec(struct lane *l, unsigned int box, struct exec *e)
{
	process_of(box, e->number)->waits++;
	e->waits[e->wait_count++] = ask_about(l, "Wait", box, e->id);
}

static void set_run(struct process *p, enum expect e)
{
	pthread_mutex_lock(&lock);
	p->run = (uint8_t)e;
	pthread_mutex_unlock(&lock);
}

static bool says(const struct outcome *r, const char *text)
{
	return strstr(r->why, text);
}

static void unexpected(unsigned int box, const char *what, const struct outcome *r)
{
	pthread_mutex_lock(&lock);
	finding("c%u: %s failed: %s", box, what, r->why);
	pthread_mutex_unlock(&lock);
}

static void delete_exec(struct lane *l, unsigned int box, struct exec *e, bool too_early)
{
	struct process *p = process_of(box, e->number);
	struct outcome r = answer(l, ask_about(l, "Delete", box, e->id), "Delete of an exec");

	if (r.failed && !(too_early && says(&r, "running")))
		unexpected(box, "Delete of an exec", &r);
	if (!r.failed)
		p->deleted = (int16_t)r.second;
}

/* A few execs at once. False: the container takes no more. */
static bool run_batch(struct lane *l, unsigned int box, unsigned int *number, bool *init_killed,
		      bool init_ends)
{
	struct exec batch[4] = {0};
	unsigned int n = soak ? 1 : 1 + roll(l, 4);
	bool more = true;

	if (n > execs - *number)
		n = execs - *number;
	for (unsigned int i = 0; i < n; i++) {
		struct exec *e = &batch[i];
		struct process *p;
		char words[400] = "";

		e->number = ++*number;
		p = process_of(box, e->number);
		snprintf(e->id, sizeof(e->id), "e%u", e->number - 1);
		p->planned = (uint8_t)(1 + roll(l, 100));
		snprintf(words, sizeof(words), "exit=%u run=%u", p->planned,
			 soak            ? 0
			 : chance(l, 50) ? roll(l, 300)
					 : roll(l, 6000));
		if (chance(l, 5)) {
			p->planned = 128 + SIGSEGV;
			snprintf(words, sizeof(words), "die=%d run=%u", SIGSEGV, roll(l, 3000));
		} else if (init_ends && chance(l, 10)) {
			words[0] = '\0'; /* for ever: it ends with its container */
		}
		e->may_fail = choose_words(l, "exec", words, sizeof(words));
		e->add = ask_exec(l, box, e->id, words);
		if (soak || chance(l, 30))
			wait_exec(l, box, e);
		if (soak || chance(l, 50))
			e->start = ask_about(l, "Start", box, e->id);
	}
	for (unsigned int i = 0; i < n; i++) {
		struct outcome r = answer(l, batch[i].add, "Exec");

		batch[i].added = !r.failed;
		if (r.failed && !says(&r, "stopped"))
			unexpected(box, "Exec", &r);
		if (r.failed)
			more = false;
	}
	for (unsigned int i = 0; i < n; i++) {
		struct exec *e = &batch[i];

		if (!e->start && e->added) {
			linger(l, 20);
			if (!e->wait_count && chance(l, 50))
				wait_exec(l, box, e);
			if (!chance(l, 4))
				e->start = ask_about(l, "Start", box, e->id);
		}
	}
	if (chance(l, 3)) {
		linger(l, 60);
		*init_killed = true;
		process_of(box, 0)->killed = 1;
		for (unsigned int i = 0; i <= execs; i++)
			process_of(box, i)->killed = 1;
		answer(l, ask_kill(l, box, "", chance(l, 50)), "Kill");
	}
	for (unsigned int i = 0; i < n; i++) {
		struct exec *e = &batch[i];

		if (e->added && chance(l, 15)) {
			linger(l, 60);
			process_of(box, e->number)->killed = 1;
			e->kill = ask_kill(l, box, e->id, false);
		}
		if (e->added && e->wait_count < 2 && (!e->wait_count || chance(l, 10)))
			wait_exec(l, box, e);
	}
	for (unsigned int i = 0; i < n; i++) {
		struct exec *e = &batch[i];
		struct process *p = process_of(box, e->number);
		struct outcome r = {.failed = true};

		if (e->start)
			r = answer(l, e->start, "Start of an exec");
		if (e->start && e->added && r.failed && !e->may_fail && !p->killed)
			unexpected(box, "Start of an exec", &r);
		e->unstarted = !e->start || says(&r, "failed precondition");
		set_run(p, r.failed ? NEVER : SURELY);
		if (e->kill)
			answer(l, e->kill, "Kill of an exec");
		if (e->added && !r.failed && chance(l, 15))
			delete_exec(l, box, e, true);
	}
	for (unsigned int i = 0; i < n; i++) {
		struct exec *e = &batch[i];
		struct process *p = process_of(box, e->number);

		if (!e->added) {
			p->waits = 0; /* they were about nobody */
			for (unsigned int w = 0; w < e->wait_count; w++)
				answer(l, e->waits[w], "Wait for nobody");
			continue;
		}
		if (e->unstarted) {
			if (p->deleted < 0)
				delete_exec(l, box, e, false);
			for (unsigned int w = 0; w < e->wait_count; w++)
				note_wait(l, box, e->number, e->waits[w]);
			continue;
		}
		for (unsigned int w = 0; w < e->wait_count; w++)
			note_wait(l, box, e->number, e->waits[w]);
		if (p->deleted < 0 && (soak || chance(l, 90)))
			delete_exec(l, box, e, false);
	}
	return more;
}

static void run_box(struct lane *l, unsigned int box)
{
	struct box *b = &boxes[box];
	struct process *init = process_of(box, 0);
	char words[512] = "", path[128];
	bool may_fail, may_not_start, own_pids = is_root && !soak && chance(l, 40);
	bool until_killed = soak || chance(l, 60), at_once = !until_killed && chance(l, 10);
	bool start = !chance(l, 8), killed = false, hung_up = false;
	uint32_t waits[3], second = 0;
	unsigned int wait_count = 0, number = 0;
	int64_t deadline = chance(l, 5) ? 1 + roll(l, 4000000) : 0;
	struct outcome r;

	for (unsigned int i = 0; i <= execs; i++)
		*process_of(box, i) = (struct process){.waited = -1, .deleted = -1};
	init->planned = (uint8_t)(1 + roll(l, 100));
	snprintf(words, sizeof(words), "exit=%u", init->planned);
	if (!until_killed)
		snprintf(words + strlen(words), 64, " run=%u%s",
			 chance(l, 50) ? roll(l, 1000) : roll(l, 40000), at_once ? " now=1" : "");
	may_not_start = choose_words(l, "start", words, sizeof(words));
	may_fail = choose_words(l, "create", words, sizeof(words));
	if (chance(l, 10))
		snprintf(words + strlen(words), 64, " delete.wait=%u", roll(l, 3000));
	if (chance(l, 10))
		snprintf(words + strlen(words), 64, " kill.wait=%u", roll(l, 3000));
	snprintf(path, sizeof(path), "%s/c%u", dir, box);
	mkdir(path, 0700);
	write_config(box, own_pids, words);

	/* The words of start that spoil the pid file spoil that of create. */
	may_fail |= may_not_start && strstr(words, "pid=");
	r = answer(l, ask_create(l, box, NULL, deadline), "Create");
	pthread_mutex_lock(&lock);
	b->made = r.failed ? NEVER : SURELY;
	pthread_mutex_unlock(&lock);
	if (r.failed) {
		if (!may_fail && !(deadline && says(&r, "deadline")))
			unexpected(box, "Create", &r);
		clear_bundle(box);
		return;
	}
	if (chance(l, 50) || soak)
		waits[wait_count++] = ask_about(l, "Wait", box, "");
	linger(l, 20);
	if (start) {
		uint32_t stream = ask_about(l, "Start", box, "");

		if (chance(l, 4)) { /* the client goes while it is at it */
			peer_close(&l->peer);
			dial(l);
			wait_count = 0;
			hung_up = true;
			init->run = EITHER;
		} else {
			if (chance(l, 10)) {
				linger(l, 50);
				init->killed = 1;
				for (unsigned int i = 0; i <= execs; i++)
					process_of(box, i)->killed = 1;
				killed = true;
				second = ask_kill(l, box, "", chance(l, 50));
			}
			if (chance(l, 30))
				waits[wait_count++] = ask_about(l, "Wait", box, "");
			r = answer(l, stream, "Start");
			if (second)
				answer(l, second, "Kill");
			if (r.failed && !may_not_start && !at_once && !killed)
				unexpected(box, "Start", &r);
			set_run(init, r.failed ? NEVER : SURELY);
			start = !r.failed;
		}
	}
	if (start && chance(l, 20)) {
		uint32_t pause = ask_about(l, "Pause", box, ""), resume;

		linger(l, 50);
		resume = ask_about(l, "Resume", box, "");
		answer(l, ask_update(l, box), "Update");
		answer(l, resume, "Resume");
		answer(l, pause, "Pause");
	}
	/* What ends with init is killed, whatever was planned. */
	if (!until_killed)
		for (unsigned int i = 1; i <= execs; i++)
			process_of(box, i)->killed = 1;
	while (start && number < execs &&
	       run_batch(l, box, &number, &killed, !until_killed && !hung_up))
		linger(l, 20);
	if (wait_count < 3)
		waits[wait_count++] = ask_about(l, "Wait", box, "");
	if (!start && !at_once) {
		init->killed = 1;
		b->unseen = 1;
		if (chance(l, 50))
			answer(l, ask_kill(l, box, "", false), "Kill");
	} else if (until_killed || hung_up || chance(l, 20)) {
		/* If Start failed, or nobody knows, init still waits for it. */
		init->killed = 1;
		r = answer(l, ask_kill(l, box, "", chance(l, 50)), "Kill");
		if (r.failed && !says(&r, "finished") && !says(&r, "no such"))
			unexpected(box, "Kill", &r);
	}
	if (start || at_once || may_not_start || !chance(l, 50)) {
		if (!start && !at_once)
			answer(l, ask_kill(l, box, "", false), "Kill");
		for (unsigned int i = 0; i < wait_count; i++)
			note_wait(l, box, 0, waits[i]);
		init->waits = (uint8_t)wait_count;
		wait_count = 0;
	}
	if (chance(l, 3)) {
		char refusing[600];

		snprintf(refusing, sizeof(refusing), "delete.fail=1 %s", words);
		write_config(box, own_pids, refusing);
		r = answer(l, ask_about(l, "Delete", box, ""), "Delete");
		if (!r.failed)
			unexpected(box, "the refusal of a Delete", &r);
		write_config(box, own_pids, words);
	}
	{
		uint32_t one = ask_about(l, "Delete", box, ""), other = 0;

		if (chance(l, 10))
			other = ask_about(l, "Delete", box, "");
		if (chance(l, 10))
			answer(l, ask_about(l, "State", box, ""), "State");
		r = answer(l, one, "Delete");
		if (r.failed)
			unexpected(box, "Delete", &r);
		init->deleted = (int16_t)r.second;
		if (other && !answer(l, other, "the second Delete").failed)
			unexpected(box, "the refusal of a second Delete", &r);
	}
	init->waits = (uint8_t)(init->waits + wait_count);
	for (unsigned int i = 0; i < wait_count; i++)
		note_wait(l, box, 0, waits[i]);
	clear_bundle(box);
}

/* ---- a lane among faults ---- */

static void run_fault_exec(struct lane *l, unsigned int box, unsigned int number)
{
	struct process *p = process_of(box, number);
	char words[64], id[16];
	uint32_t wait;
	struct outcome r;

	p->planned = (uint8_t)(1 + roll(l, 100));
	p->killed = 1;
	snprintf(words, sizeof(words), "exit=%u run=%u out=%u", p->planned, roll(l, 2000),
		 roll(l, 9000));
	snprintf(id, sizeof(id), "e%u", number - 1);
	r = answer(l, ask_exec(l, box, id, words), "Exec");
	if (r.failed)
		return;
	wait = ask_about(l, "Wait", box, id);
	r = answer(l, ask_about(l, "Start", box, id), "Start of an exec");
	set_run(p, r.lost ? EITHER : r.failed ? NEVER : SURELY);
	if (!r.failed) {
		r = answer(l, wait, "Wait of an exec");
		if (!r.failed)
			p->waited = (int16_t)r.first;
	}
	answer(l, ask_about(l, "Delete", box, id), "Delete of an exec");
}

static void run_fault_box(struct lane *l, unsigned int box)
{
	static const char *const others[] = {"State",  "Pids",    "Stats",   "Pause",     "Resume",
					     "Update", "Connect", "CloseIO", "Checkpoint"};
	struct process *init = process_of(box, 0);
	bool own_pids = is_root && chance(l, 40);
	char words[128], path[128];
	struct outcome r;
	int reader;

	for (unsigned int i = 0; i <= execs; i++)
		*process_of(box, i) = (struct process){.waited = -1, .deleted = -1};
	init->planned = (uint8_t)(1 + roll(l, 100));
	init->killed = 1;
	snprintf(words, sizeof(words), "exit=%u out=%u", init->planned, roll(l, 9000));
	if (chance(l, 30))
		snprintf(words + strlen(words), 32, " run=%u", roll(l, 5000));
	snprintf(path, sizeof(path), "%s/c%u", dir, box);
	mkdir(path, 0700);
	write_config(box, own_pids, words);
	snprintf(path, sizeof(path), "%s/c%u/out", dir, box);
	if (mkfifo(path, 0600) < 0 || (reader = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0)
		give_up("%s", path);

	r = answer(l, ask_create(l, box, chance(l, 50) ? path : NULL, 0), "Create");
	pthread_mutex_lock(&lock);
	boxes[box].made = r.lost ? EITHER : r.failed ? NEVER : SURELY;
	boxes[box].unseen = 1;
	pthread_mutex_unlock(&lock);
	if (!r.failed) {
		r = answer(l, ask_about(l, "Start", box, ""), "Start");
		set_run(init, r.lost ? EITHER : r.failed ? NEVER : SURELY);
		for (unsigned int i = 1; i <= 3 && i <= execs; i++)
			run_fault_exec(l, box, i);
		for (unsigned int i = 0; i < 2; i++) {
			const char *method = others[roll(l, sizeof(others) / sizeof(others[0]))];

			answer(l, ask_about(l, method, box, ""), method);
		}
		if (chance(l, 50)) {
			answer(l, ask_kill(l, box, "", chance(l, 50)), "Kill");
			answer(l, ask_about(l, "Delete", box, ""), "Delete");
		}
	}
	close(reader);
}

static bool delete_succeeds(struct lane *l, unsigned int box, struct outcome *r)
{
	answer(l, ask_about(l, "Resume", box, ""), "Resume");
	answer(l, ask_kill(l, box, "", true), "Kill");
	*r = answer(l, ask_about(l, "Delete", box, ""), "Delete");
	return !r->failed || says(r, "not created");
}

/* Afterwards: whatever has become of it, it can be ended and deleted. */
static void end_fault_box(struct lane *l, unsigned int box)
{
	char command[512], words[] = "x";
	struct outcome r;

	write_config(box, false, words);
	if (!holds(delete_succeeds(l, box, &r)))
		unexpected(box, "Delete after the faults", &r);
	/* A Create that could not be undone: containerd calls the shim's delete action then. */
	snprintf(command, sizeof(command),
		 "cd %s/c%u && exec %s -namespace race -address /nonexistent -id c%u -bundle "
		 "%s/c%u delete >/dev/null",
		 dir, box, shim, box, dir, box);
	if (boxes[box].made != SURELY && system(command) != 0)
		give_up("%s", command);
	clear_bundle(box);
}

static unsigned int stop_at; /* lanes take no container from here on */

static void *run_lane(void *arg)
{
	struct lane *l = arg;

	for (;;) {
		unsigned int box;

		pthread_mutex_lock(&lock);
		box = next_box < stop_at ? next_box++ : stop_at;
		pthread_mutex_unlock(&lock);
		if (box == stop_at)
			break;
		if (faults && faults->on)
			run_fault_box(l, box);
		else
			run_box(l, box);
	}
	return NULL;
}

static struct lane all[LANES_MAX];

static void hang_up(void)
{
	for (unsigned int i = 0; i < lanes; i++)
		peer_close(&all[i].peer);
}

static void run_lanes(unsigned int upto)
{
	pthread_t threads[LANES_MAX];

	stop_at = upto;
	for (unsigned int i = 0; i < lanes; i++) {
		if (!all[i].dice) {
			all[i].peer.fd = -1;
			all[i].dice = (seed + 1) * 0x9e3779b97f4a7c15U +
				      (i + 1) * 0xda942042e4dd58b5U;
		}
		if (pthread_create(&threads[i], NULL, run_lane, &all[i]))
			give_up("pthread_create");
	}
	for (unsigned int i = 0; i < lanes; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the daemon from outside ---- */

static long proc_value(const char *file, const char *key)
{
	char path[64], line[256];
	long value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", daemon_pid, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			value += atol(line + strlen(key));
	if (f)
		fclose(f);
	return value;
}

static unsigned int fd_count(void)
{
	char path[64];
	unsigned int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", daemon_pid);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static long private_kb(void)
{
	return proc_value("smaps_rollup", "Private_Dirty:") +
	       proc_value("smaps_rollup", "Private_Clean:");
}

static long wake_ups(void)
{
	return proc_value("status", "voluntary_ctxt_switches:") +
	       proc_value("status", "nonvoluntary_ctxt_switches:");
}

static unsigned int children(void)
{
	char path[64];
	unsigned int n = 0;
	int pid;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", daemon_pid, daemon_pid);
	f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		n++;
	if (f)
		fclose(f);
	return n;
}

/* It waits for others, and for no time: whatever it puts off for a while, it has done. Whoever closes a
 * connection to it, or ends a child of it, has woken it up by the time that is done. */
static bool at_rest(void)
{
	char path[64], line[256] = "";
	unsigned long timeout = 1;
	long call = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/syscall", daemon_pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		give_up("%s", path);
	fclose(f);
	return sscanf(line, "%ld %*x %*x %lx", &call, &timeout) == 2 && call == SYS_ppoll &&
	       timeout == 0;
}

static void *read_log(void *arg)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(*(int *)arg, buf, sizeof(buf))) > 0) {
		if (debug && write(STDERR_FILENO, buf, (size_t)n) < 0)
			give_up("stderr");
		for (char *at = buf; (at = memmem(at, (size_t)(buf + n - at), "no memory", 9));
		     at++)
			printf("# lost: %.*s\n", (int)strcspn(at, "\n"), at);
		pthread_mutex_lock(&log_lock);
		if (log_len + (size_t)n >= sizeof(log_text)) /* the end is what matters */
			log_len = 0;
		memcpy(log_text + log_len, buf, (size_t)n);
		log_len += (size_t)n;
		log_text[log_len] = '\0';
		pthread_mutex_unlock(&log_lock);
	}
	return NULL;
}

/* What the daemon says it has. */
static bool says_nothing(void)
{
	bool found;

	pthread_mutex_lock(&log_lock);
	found = strstr(log_text, "0 containers, 0 unfinished requests, 0 slow peers, events sent");
	pthread_mutex_unlock(&log_lock);
	if (!found)
		kill(daemon_pid, SIGUSR1);
	return found;
}

static bool has_nothing(void)
{
	pthread_mutex_lock(&log_lock);
	log_len = 0;
	log_text[0] = '\0';
	pthread_mutex_unlock(&log_lock);
	if (holds(says_nothing()))
		return true;
	printf("# %s", log_text);
	return false;
}

static void start_daemon(const char *socket_path, const char *events_path)
{
	int listener = listen_at(socket_path);
	char cwd[96], path[128];

	snprintf(cwd, sizeof(cwd), "%s/first", dir);
	mkdir(cwd, 0700);
	snprintf(path, sizeof(path), "%s/log", cwd);
	if (mkfifo(path, 0600) < 0)
		give_up("%s", path);
	snprintf(path, sizeof(path), "%s/address", cwd);
	{
		char text[128];

		snprintf(text, sizeof(text), "unix://%s", socket_path);
		write_file(path, text);
	}
	daemon_pid = fork();
	if (daemon_pid == 0) {
		setenv("TTRPC_ADDRESS", events_path, 1);
		snprintf(path, sizeof(path), "%s/faults", dir);
		setenv("FAULT_FILE", path, 1);
		if (chdir(cwd) < 0)
			_exit(126);
		if (listener != 3)
			dup2(listener, 3);
		else
			fcntl(3, F_SETFD, 0);
		dup2(2,
		     17); /* the daemon closes what it is not meant to have, or the runtime complains */
		execl(shim, "containerd-shim-runc-v2", "-namespace", "race", "-id", "first",
		      "-address", "/nonexistent", debug ? "-debug" : NULL, NULL);
		_exit(127);
	}
	close(listener);
}

static bool has_gone(int *status)
{
	if (daemon_pid > 0 && waitpid(daemon_pid, status, WNOHANG) == daemon_pid)
		daemon_pid = 0;
	return daemon_pid == 0;
}

/* It goes when it is told to. */
static bool shuts_down(void)
{
	static struct lane l;
	int status = -1;

	dial(&l);
	ask_about(&l, "Shutdown", 0, "");
	return holds(has_gone(&status)) && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool all_reaped(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* What the daemon has left behind is ours now: we are the next subreaper. */
static bool nothing_left_running(void)
{
	return holds(all_reaped());
}

/* It closes its connection to containerd, watches for the end of its bundle if it is alone, and gives
 * back memory. */
static void settle(unsigned int alive)
{
	hang_up();
	if (!holds(children() <= alive && at_rest()))
		printf("# the daemon does not come to rest, with %u children\n", children());
}

/* ---- the verdict ---- */

static bool status_is_right(const struct process *p, unsigned int status)
{
	return status == p->planned || (p->killed && status == 128 + SIGKILL);
}

static void judge(unsigned int n, unsigned int number, unsigned int *lost, unsigned int *wrong,
		  unsigned int *unanswered)
{
	const struct process *p = process_of(n, number);
	const struct box *b = &boxes[n];
	bool must = number == 0 ? b->made == SURELY : p->run == SURELY;
	bool either = (number == 0 ? b->made : p->run) == EITHER;
	bool unseen = b->unseen && number == 0;

	if (p->exits != must && !either) {
		finding("c%u %u: %u exits, started: %d", n, number, p->exits, p->run);
		*lost += p->exits < must;
		*wrong += p->exits > must;
	}
	if (p->run == SURELY && !p->starts) {
		finding("c%u %u: no start event", n, number);
		++*wrong;
	}
	if (p->exits && !status_is_right(p, p->status)) {
		finding("c%u %u: exit event with %u instead of %u (killed: %u)", n, number,
			p->status, p->planned, p->killed);
		++*wrong;
	}
	if (p->exits && p->waited >= 0 && p->waited != p->status && !(unseen && p->waited == 0)) {
		finding("c%u %u: Wait said %d, the event %u", n, number, p->waited, p->status);
		++*wrong;
	}
	if (p->exits && p->deleted >= 0 && p->deleted != p->status &&
	    !(unseen && p->deleted == 0)) {
		finding("c%u %u: Delete said %d, the event %u", n, number, p->deleted, p->status);
		++*wrong;
	}
	if (p->waits != p->answers) {
		finding("c%u %u: %u Waits, %u answers", n, number, p->waits, p->answers);
		*unanswered += p->waits;
	}
}

static void judge_all(void)
{
	unsigned int lost = 0, wrong = 0, unanswered = 0, made = 0, run = 0;

	pthread_mutex_lock(&lock);
	for (unsigned int n = 0; n < containers; n++) {
		made += boxes[n].made == SURELY;
		if ((boxes[n].made == SURELY) != boxes[n].gone && boxes[n].made != EITHER) {
			finding("c%u: made %u, deleted events %u", n, boxes[n].made, boxes[n].gone);
			wrong++;
		}
		for (unsigned int i = 0; i <= execs; i++) {
			run += i > 0 && process_of(n, i)->run == SURELY;
			judge(n, i, &lost, &wrong, &unanswered);
		}
	}
	printf("# %u containers and %u execs ran, %u were not to; %u events, %u of them exits; %u "
	       "broken event connections; %.1f s\n",
	       made, run, containers - made, events_seen, exits_seen, resets, seconds());
	printf("# exits lost: %u, wrong: %u, Waits unanswered: %u\n", lost, wrong, unanswered);
	result(lost == 0, "no exit is lost");
	result(wrong == 0, "every exit is told once, with the right status");
	result(unanswered == 0, "every Wait is answered");
	result(findings == 0, "everything happened in its order");
	pthread_mutex_unlock(&lock);
}

static void remove_tree(const char *path)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	if (system(command) != 0)
		printf("# %s could not be removed\n", path);
}

/* ---- rounds of faults ---- */

static void map_faults(void)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/faults", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*faults)) < 0)
		give_up("%s", path);
	faults = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (faults == MAP_FAILED)
		give_up("mmap");
	close(fd);
	faults->dice = seed | 1;
}

static void report_faults(void)
{
	static const char *const names[] = {
#define NAME(name, ...) #name,
		FAULT_ALL(NAME)
#undef NAME
	};
	unsigned int total = 0, kinds = 0;

	printf("# failed calls:");
	for (unsigned int i = 0; i < FAULTS; i++) {
		total += faults->failed[i];
		kinds += faults->failed[i] > 0;
		printf(" %s %u/%u", names[i], faults->failed[i], faults->calls[i]);
	}
	printf("\n# faults injected: %u, in %u of %u functions\n", total, kinds,
	       (unsigned int)FAULTS);
}

/* One container lives through it all. */
static unsigned int witness_pid;

static void start_witness(struct lane *l, unsigned int box)
{
	char path[128];
	struct outcome r;

	for (unsigned int i = 0; i <= execs; i++)
		*process_of(box, i) = (struct process){.waited = -1, .deleted = -1, .killed = 1};
	snprintf(path, sizeof(path), "%s/c%u", dir, box);
	mkdir(path, 0700);
	write_config(box, false, "");
	r = answer(l, ask_create(l, box, NULL, 0), "Create");
	witness_pid = r.first;
	boxes[box].made = SURELY;
	if (r.failed || answer(l, ask_about(l, "Start", box, ""), "Start").failed)
		give_up("the witness does not start");
	process_of(box, 0)->run = SURELY;
}

static bool witness_lives(struct lane *l, unsigned int box)
{
	struct outcome r = answer(l, ask_about(l, "Connect", box, ""), "Connect");

	return !r.failed && r.second == witness_pid && kill((pid_t)witness_pid, 0) == 0;
}

static void run_rounds(long *kb)
{
	static struct lane l;
	unsigned int witness = next_box++, harmed = 0, alone = FAULTS - 1;

	l.dice = seed + 99;
	dial(&l);
	start_witness(&l, witness);
	for (unsigned int round = 0; round < rounds; round++) {
		static const unsigned int rates[] = {5, 20, 60, 200};
		unsigned int first = next_box;

		/* Of those the daemon calls at all. */
		for (unsigned int i = 0; round % 2 && i < FAULTS; i++) {
			alone = (alone + 1) % FAULTS;
			if (faults->calls[alone] > 0)
				break;
		}
		faults->only = round % 2 ? (uint64_t)1 << alone : 0;
		faults->one_in = round % 2 ? 2 + round % 3 : rates[round / 2 % 4];
		faults->on = 1;
		run_lanes(first + BOXES_A_ROUND);
		faults->on = 0;
		for (unsigned int box = first; box < first + BOXES_A_ROUND; box++)
			end_fault_box(&l, box);
		if (!witness_lives(&l, witness)) {
			printf("# round %u: the witness is harmed\n", round);
			harmed++;
		}
		soak = true; /* and two that want everything as it should be */
		run_box(&l, next_box++);
		run_box(&l, next_box++);
		soak = false;
		if (round == rounds / 4) {
			settle(1);
			*kb = private_kb();
		}
	}
	result(harmed == 0, "what ran runs on");
	answer(&l, ask_kill(&l, witness, "", false), "Kill");
	answer(&l, ask_about(&l, "Wait", witness, ""), "Wait");
	answer(&l, ask_about(&l, "Delete", witness, ""), "Delete");
	clear_bundle(witness);
	peer_close(&l.peer);
	containers = next_box;
	report_faults();
}

static const struct option options[] = {
	{"shim", 1, NULL, 'b'},
	{"runtime", 1, NULL, 'r'},
	{"containers", 1, NULL, 'c'},
	{"execs", 1, NULL, 'e'},
	{"lanes", 1, NULL, 'l'},
	{"seed", 1, NULL, 's'},
	{"idle", 1, NULL, 'i'},
	{"soak", 0, NULL, 'S'},
	{"faults", 1, NULL, 'f'},
	{"debug", 0, NULL, 'd'},
	{0},
};

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'b':
			shim = optarg;
			break;
		case 'r':
			runtime = optarg;
			break;
		case 'c':
			containers = (unsigned int)atoi(optarg);
			break;
		case 'e':
			execs = (unsigned int)atoi(optarg);
			break;
		case 'l':
			lanes = (unsigned int)atoi(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'i':
			idle_seconds = (unsigned int)atoi(optarg);
			break;
		case 'f':
			rounds = (unsigned int)atoi(optarg);
			break;
		case 'd':
			debug = true;
			break;
		case 'S':
			soak = true;
			break;
		default:
			exit(2);
		}
	}
	if (rounds)
		containers = lanes * 4 + 2 + rounds * (BOXES_A_ROUND + 2);
	if (!containers)
		containers = 400;
	if (!shim)
		shim = rounds ? "build/test/nanoshim-faults" : "build/nanoshim";
	if (lanes < 1 || lanes > LANES_MAX || containers < lanes)
		exit(2);
}

int main(int argc, char **argv)
{
	char socket_path[96], events_path[96], log_path[96];
	unsigned int fds, warm;
	pthread_t thread;
	int events, log;
	long kb, woken;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv);
	clock_gettime(CLOCK_MONOTONIC, &began);
	if (!seed && getrandom(&seed, 4, 0) != 4)
		give_up("getrandom");
	is_root = geteuid() == 0;
	sanitized = getenv("SANITIZED");
	runtime = realpath(runtime, NULL);
	shim = realpath(shim, NULL);
	if (!runtime || !shim)
		give_up("make fake");
	boxes = calloc(containers, sizeof(*boxes));
	processes = calloc((size_t)containers * (execs + 1), sizeof(*processes));
	snprintf(dir, sizeof(dir), "/tmp/race.XXXXXX");
	if (!boxes || !processes || !mkdtemp(dir))
		give_up("mkdtemp");
	snprintf(root, sizeof(root), "%s/r", dir);
	mkdir(root, 0700);
	for (int fd = 3; fd < 256; fd++) /* what we were given is not for those we start */
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	printf("TAP version 13\n# seed %llu:", (unsigned long long)seed);
	for (int i = 0; i < argc; i++)
		printf(" %s", argv[i]);
	printf(" --seed %llu\n", (unsigned long long)seed);

	if (rounds)
		map_faults();
	snprintf(socket_path, sizeof(socket_path), "%s/d.sock", dir);
	snprintf(events_path, sizeof(events_path), "%s/e.sock", dir);
	snprintf(log_path, sizeof(log_path), "%s/first/log", dir);
	events = listen_at(events_path);
	pthread_create(&thread, NULL, serve_events, &events);
	start_daemon(socket_path, events_path);
	log = open(log_path, O_RDWR | O_CLOEXEC);
	pthread_create(&thread, NULL, read_log, &log);

	/* The first ones bring everything into being that stays. */
	warm = soak ? (1000 + execs - 1) / (execs ? execs : 1) : rounds ? lanes * 4 : lanes * 10;
	if (warm > containers)
		warm = containers;
	run_lanes(warm);
	settle(0);
	fds = fd_count();
	kb = private_kb();
	printf("# after %u containers: %u descriptors, %ld kB private\n", warm, fds - 2, kb);
	if (rounds)
		run_rounds(&kb);
	else
		run_lanes(containers);
	settle(0);
	result(has_nothing(), "the daemon has nothing left");
	settle(0);
	printf("# at the end: %u descriptors, %ld kB private\n", fd_count() - 2, private_kb());
	printf("# descriptors leaked: %d, bytes of growth: %ld\n", (int)fd_count() - (int)fds,
	       (private_kb() - kb) * 1024);
	result(fd_count() == fds, "no descriptor is leaked");
	result_of_memory(private_kb() <= kb + 4, "memory has not grown by more than a page");
	printf("# at most %ld kB were resident\n", proc_value("status", "VmHWM:"));
	result_of_memory(proc_value("status", "VmHWM:") < RESIDENT_MAX,
			 "it never held much more than that");
	result(children() == 0, "no child is left unreaped");
	judge_all();
	if (idle_seconds > 0) {
		woken = wake_ups();
		sleep(idle_seconds);
		woken = wake_ups() - woken;
		printf("# wake-ups in %u idle seconds: %ld\n", idle_seconds, woken);
		result(woken == 0, "idle, it does not wake up");
	}
	result(shuts_down(), "it goes when it is told to");
	if (daemon_pid > 0)
		kill(daemon_pid, SIGKILL);
	result(nothing_left_running(), "no process is left");
	remove_tree(dir);
	printf("1..%u\n", tests);
	return failures > 0;
}
