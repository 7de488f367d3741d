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
static const char *const outputs[] = {NULL,
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
	int64_t timeout_ms;
	const char *id, *exec;
};

static struct head take_head(struct view *in)
{
	static const uint16_t timeouts[] = {0, 0, 0, 0, 0, 10, 500, 20000};
	uint8_t a = take(in), b = take(in);

	benign &= (b >> 1 & 7) < 5;
	return (struct head){b & 1, timeouts[b >> 1 & 7], ids[a & 1], execs[a >> 1 & 3]};
}

static void ask_next(struct view *in, const char *method)
{
	struct head h = take_head(in);

	ask_about(h.client, method, h.id, h.exec, h.timeout_ms);
}

/* In a byte, of which the lowest bit is stdin, then the number of stdout. */
static struct streams take_streams(struct view *in)
{
	uint8_t how = take(in);

	return (struct streams){how & 32, how & 1 ? "/w/in" : NULL, outputs[how >> 1 & 7],
				how & 16 ? "/w/err" : NULL};
}

static void ask_create(struct view *in)
{
	static const char private[] = "{\"linux\":{\"namespaces\":[{\"type\":\"pid\"}]}}";
	struct head h = take_head(in);
	struct streams streams = take_streams(in);
	uint8_t more = take(in);
	char buf[1024], path[64];
	size_t n;

	benign &= !streams.out && !streams.err && !streams.terminal; /* others may not be there */
	snprintf(path, sizeof(path), "/w/%s", h.id);
	n = put_create(buf, h.id, path, streams);
	if (more & 1)
		n += put_mount(buf + n, "bind", "/w/b", NULL, NULL);
	if (more & 2)
		n += put_image(buf + n, "/w/image");
	next_private = more & 4;
	snprintf(path, sizeof(path), "/w/%s/config.json", h.id);
	world_file(path, private, next_private ? sizeof(private) - 1 : 0);
	client_ask(h.client, "Create", (struct view){buf, n}, h.timeout_ms);
}

static void ask_exec(struct view *in)
{
	struct head h = take_head(in);
	struct streams streams = take_streams(in);
	char buf[1024];

	client_ask(h.client, "Exec",
		   (struct view){buf, put_exec(buf, h.id, h.exec ? h.exec : "x", streams, "{}")},
		   h.timeout_ms);
}

static void ask_kill(struct view *in)
{
	static const uint8_t signals[] = {9, 15, 10, 0};
	struct head h = take_head(in);
	uint8_t how = take(in);
	char buf[512];

	client_ask(h.client, "Kill",
		   (struct view){buf, put_kill(buf, h.id, h.exec, signals[how & 3], how & 4)},
		   h.timeout_ms);
}

static void ask_about_mode(struct view *in)
{
	static const char *const methods[] = {"Pause", "Resume",    "Update",  "Checkpoint",
					      "State", "Pids",      "Stats",   "Connect",
					      "Wait",  "ResizePty", "CloseIO", "Nonsense"};

	ask_next(in, methods[take(in) % COUNT(methods)]);
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

static void send_raw(struct view raw)
{
	benign = false;
	client_connect(CLIENT_RAW);
	if (clients[CLIENT_RAW].peer.fd >= 0 &&
	    !peer_send(&clients[CLIENT_RAW].peer, raw.at, raw.len))
		client_close(CLIENT_RAW); /* it sends more than the daemon reads */
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

	switch (what & 31) {
	case 0:
	case 1:
		ask_create(in);
		break;
	case 2:
	case 3:
		ask_next(in, "Start");
		break;
	case 4:
	case 5:
		ask_next(in, "Delete");
		break;
	case 6:
	case 7:
		ask_exec(in);
		break;
	case 8:
		ask_kill(in);
		break;
	case 9:
		ask_next(in, "Wait");
		break;
	case 10:
	case 11:
		ask_about_mode(in);
		break;
	case 12:
		ask_next(in, "Shutdown");
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
		send_raw(take_text(in));
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
