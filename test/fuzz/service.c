// SPDX-License-Identifier: Apache-2.0
/*
 * service.c - the whole service as a sequence of what may happen to it: requests, runtimes that
 * end this way or that, processes that exit, connections and streams that come and go, time.
 *
 * Input: bytes, each step one and its parameters. A step's highest bit lets the daemon's loop turn
 * behind it; without it several things happen at once. The oracle is in daemon.h.
 */
#include "daemon.h"

#define STEPS_MAX 300

static const char *const ids[] = {"a", "b"};
static const char *const execs[] = {NULL, "x", "y", "z"};
static const char *const outputs[] = {"",
				      "/w/out0",
				      "/w/out1",
				      "file:///w/file",
				      "binary:///w/logger?k=v",
				      "binary-v2:///w/logger",
				      "/w/missing",
				      "odd://x"};

/* Client, deadline and name in two bytes. */
struct head {
	unsigned int client;
	uint64_t timeout_ms;
	const char *id, *exec;
};

static struct head take_head(struct view *in)
{
	static const uint16_t timeouts[] = {0, 0, 0, 0, 0, 10, 500, 20000};
	uint8_t a = take(in), b = take(in);

	benign &= (b >> 1 & 7) < 5;
	return (struct head){b & 1, timeouts[b >> 1 & 7], ids[a & 1], execs[a >> 1 & 3]};
}

static void ask_about(struct view *in, const char *method)
{
	struct head h = take_head(in);
	char buf[512];
	struct ask *a;

	a = ask(h.client, method, the_name(buf, sizeof(buf), h.id, h.exec), h.timeout_ms);
	if (a) {
		a->id = h.id;
		a->exec = h.exec;
	}
}

/* Streams in a byte: stdin, stdout, stderr, a terminal. */
static size_t put_streams(char *buf, uint8_t how, unsigned int terminal, unsigned int in,
			  unsigned int out, unsigned int err)
{
	size_t n = 0;

	if (how & 1)
		n += put_bytes(buf + n, in, VIEW("/w/in"));
	if (how >> 1 & 7)
		n += put_bytes(buf + n, out, view_of(outputs[how >> 1 & 7]));
	if (how & 16)
		n += put_bytes(buf + n, err, VIEW("/w/err"));
	if (how & 32)
		n += put_number(buf + n, terminal, 1);
	return n;
}

static void ask_create(struct view *in)
{
	static const char private[] = "{\"linux\":{\"namespaces\":[{\"type\":\"pid\"}]}}";
	struct head h = take_head(in);
	uint8_t streams = take(in), more = take(in);
	char buf[1024], mount[256], path[64];
	size_t n = put_bytes(buf, 1, view_of(h.id)), len;

	benign &= (streams & ~1) == 0; /* others may not be there */
	snprintf(path, sizeof(path), "/w/%s", h.id);
	n += put_bytes(buf + n, 2, view_of(path));
	n += put_streams(buf + n, streams, 4, 5, 6, 7);
	if (more & 1) {
		len = put_bytes(mount, 1, VIEW("bind"));
		len += put_bytes(mount + len, 2, VIEW("/w/b"));
		n += put_bytes(buf + n, 3, (struct view){mount, len});
	}
	if (more & 2)
		n += put_bytes(buf + n, 8, VIEW("/w/image"));
	next_private = more & 4;
	snprintf(path, sizeof(path), "/w/%s/config.json", h.id);
	world_file(path, private, next_private ? sizeof(private) - 1 : 0);
	ask(h.client, "Create", (struct view){buf, n}, h.timeout_ms);
}

static void ask_exec(struct view *in)
{
	struct head h = take_head(in);
	uint8_t streams = take(in);
	char buf[1024];
	size_t n = put_bytes(buf, 1, view_of(h.id));

	n += put_bytes(buf + n, 2, view_of(h.exec ? h.exec : "x"));
	n += put_streams(buf + n, streams, 3, 4, 5, 6);
	n += put_bytes(buf + n, 7, VIEW("\x12\x02{}"));
	ask(h.client, "Exec", (struct view){buf, n}, h.timeout_ms);
}

static void ask_kill(struct view *in)
{
	static const uint8_t signals[] = {9, 15, 10, 0};
	struct head h = take_head(in);
	uint8_t how = take(in);
	char buf[512];
	size_t n = the_name(buf, sizeof(buf), h.id, h.exec).len;

	n += put_number(buf + n, 3, signals[how & 3]);
	if (how & 4)
		n += put_number(buf + n, 4, 1);
	ask(h.client, "Kill", (struct view){buf, n}, h.timeout_ms);
}

static void ask_about_mode(struct view *in)
{
	static const char *const methods[] = {"Pause", "Resume",    "Update",  "Checkpoint",
					      "State", "Pids",      "Stats",   "Connect",
					      "Wait",  "ResizePty", "CloseIO", "Nonsense"};

	ask_about(in, methods[take(in) % COUNT(methods)]);
}

static void end_a_run(struct view *in)
{
	uint8_t how = take(in);
	struct actor *a = actor_number(how >> 4, false);

	if (a)
		run_end(a, (enum outcome)(how & 15) % OUTCOMES);
}

static void end_a_process(struct view *in)
{
	uint8_t how = take(in);
	struct actor *a = actor_number(how >> 3, true);

	if (a)
		world_actor_end(a, how & 1 ? how & 7 : (how & 7) << 8);
}

/* Processes that were left to the daemon by others. */
static void end_strangers(uint8_t count)
{
	struct actor *a;

	benign = false; /* there may be no processes left */
	while (count-- > 0 && (a = world_actor()))
		world_actor_end(a, 0);
}

static void write_output(uint8_t how)
{
	static const char bytes[4096];
	const struct actor *a = actor_number(how >> 3, true);
	struct pollfd to;

	if (!a)
		return;
	to = (struct pollfd){a->fds[1 + (how & 1)], POLLOUT, 0};
	if (to.fd >= 0 && poll(&to, 1, 0) == 1 && !(to.revents & POLLERR))
		world_real_write(to.fd, bytes, how & 2 ? sizeof(bytes) : 3);
}

/* A logging binary says that it is ready, or does not. */
static void logger_word(uint8_t how)
{
	struct actor *a = actor_number(how >> 1, false);

	if (!a || verb_of(a)[0])
		return;
	if (a->fds[5] >= 0 && (how & 1))
		world_real_write(a->fds[5], "", 1);
	fd_close(&a->fds[5]);
}

static void memory_runs_out(uint8_t how)
{
	static const char kills[] = "oom_kill 7\n";

	world_file("/w/sys/fs/cgroup/c/memory.events", how & 1 ? kills : "oom_kill 0\n",
		   sizeof(kills) - 1);
}

static void step(struct view *in)
{
	uint8_t what = take(in), how;
	struct view raw;

	switch (what & 31) {
	case 0:
	case 1:
		ask_create(in);
		break;
	case 2:
	case 3:
		ask_about(in, "Start");
		break;
	case 4:
	case 5:
		ask_about(in, "Delete");
		break;
	case 6:
	case 7:
		ask_exec(in);
		break;
	case 8:
		ask_kill(in);
		break;
	case 9:
		ask_about(in, "Wait");
		break;
	case 10:
	case 11:
		ask_about_mode(in);
		break;
	case 12:
		ask_about(in, "Shutdown");
		break;
	case 13:
	case 14:
	case 15:
	case 16:
		end_a_run(in);
		break;
	case 17:
	case 18:
	case 19:
		end_a_process(in);
		break;
	case 20:
		end_strangers(take(in));
		break;
	case 21:
		how = take(in);
		world.clock_ms += how < 128 ? how : 100 * (uint64_t)(how - 127);
		break;
	case 22:
		how = take(in) % 3;
		client_close(how);
		break;
	case 23:
		how = take(in);
		clients[how & 1].reads = how & 2;
		break;
	case 24:
		events_mode = take(in) % 3;
		break;
	case 25:
		end_toggle(take(in) % COUNT(ends));
		break;
	case 26:
		write_output(take(in));
		break;
	case 27:
		logger_word(take(in));
		break;
	case 28:
		benign = false;
		raw = take_text(in);
		client_write(CLIENT_RAW, raw.at, raw.len);
		break;
	case 29:
		how = take(in);
		benign = false;
		world.no_fork = how & 1;
		world.mounts = how >> 1;
		break;
	case 30:
		how = take(in);
		world.recv_max = how & 15 ? 9 + (how & 15) : 0;
		world.send_max = how >> 4;
		break;
	case 31:
		memory_runs_out(take(in));
		break;
	}
	if (what & 0x80)
		daemon_turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = {(const char *)data, size};

	daemon_begin();
	for (int i = 0; i < STEPS_MAX && in.len > 0 && !stopped; i++)
		step(&in);
	daemon_end();
	return 0;
}
