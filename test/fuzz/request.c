// SPDX-License-Identifier: Apache-2.0
/*
 * request.c - every request message, byte by byte, in each state a container may be in.
 *
 * Input: the method, what the container "a" and its exec "x" are doing, how the runtime ends its
 * calls, then the message. The oracle is that of daemon.h: one reply, and nothing left at the end.
 */
#include "daemon.h"

static const char *const methods[] = {"State",     "Create",  "Start",      "Delete", "Pids",
				      "Pause",     "Resume",  "Checkpoint", "Kill",   "Exec",
				      "ResizePty", "CloseIO", "Update",     "Wait",   "Stats",
				      "Connect",   "Shutdown"};

/* Asks, and lets the runtime's calls end. */
static void ask_now(const char *method, struct view payload, enum outcome outcome)
{
	struct actor *a;

	client_ask(CLIENT_A, method, payload, 0);
	for (int i = 0; i < 5; i++) {
		daemon_turn();
		while ((a = actor_number(0, false)))
			run_end(a, outcome);
	}
	daemon_turn();
}

static void ask_now_about(const char *method, const char *exec)
{
	char buf[64];

	ask_now(method, (struct view){buf, put_who(buf, "a", exec)}, OUTCOME_GOOD);
}

static void prepare(uint8_t state)
{
	char buf[256];
	size_t n = put_create(buf, "a", "/w/a", (struct streams){0});

	if (state == 0)
		return;
	if (state == 6)
		n += put_image(buf + n, "/w/image");
	ask_now("Create", (struct view){buf, n}, OUTCOME_GOOD);
	if (state == 1 || state == 6)
		return;
	ask_now_about("Start", NULL);
	if (state >= 3 && state != 7)
		ask_now("Exec",
			(struct view){buf, put_exec(buf, "a", "x", (struct streams){0}, "{}")},
			OUTCOME_GOOD);
	if (state == 4)
		ask_now_about("Start", "x");
	if (state == 5)
		ask_now_about("Pause", NULL);
	if (state == 7) {
		world_actor_end(actor_number(0, true), 0);
		daemon_turn();
		daemon_turn();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = {(const char *)data, size < 16384 ? size : 16384};
	const char *method = methods[take(&in) % COUNT(methods)];
	uint8_t how = take(&in);

	daemon_begin();
	prepare(how & 7);
	benign = false;
	ask_now(method, in, (enum outcome)(how >> 3) % OUTCOMES);
	daemon_end();
	return 0;
}
