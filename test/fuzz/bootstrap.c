// SPDX-License-Identifier: Apache-2.0
/*
 * bootstrap.c - the short-lived actions: what containerd sends to `start`, `delete` and -info at
 * stdin (BootstrapParams, or an Any), and the files of the bundle they read.
 *
 * Input: which action, stdin, then the bundle's files, each with its length before it.
 */
#include <setjmp.h>

#include "world.h"

static jmp_buf dead;

/* die() ends an action, not the target. */
static void leave(void)
{
	longjmp(dead, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"config.json",  "options.json",      "runtime",
					    "address",      "init.pid",          "log.json",
					    "/w/mountinfo", "/w/p/oom_score_adj"};
	struct view in = {(const char *)data, size};
	uint8_t action = take(&in);

	world_begin();
	world.short_lived = true;
	world.helper = action >> 4;
	world.recv_max = action & 8 ? 3 : 0;
	world.leave = leave;
	cmdline = (struct cmdline){.argv0 = "containerd-shim-runc-v2",
				   .runtime = "io.containerd.runc.v2",
				   .namespace = "ns",
				   .id = "a",
				   .address = "/run/containerd/containerd.sock"};
	self.namespace = "ns";
	self.runtime = "/w/runtime";
	self.v1 = action & 4;
	world.input = take_text(&in);
	for (size_t i = 0; i < COUNT(names); i++) {
		struct view v = take_text(&in);

		if (v.len > 0)
			world_file(names[i], v.at, v.len);
	}
	if (setjmp(dead) == 0) {
		if (action % 4 == 0)
			action_info();
		else if (action % 4 == 1)
			action_delete();
		else
			action_start();
	}
	world_end();
	return 0;
}
