// SPDX-License-Identifier: Apache-2.0
/*
 * log.c - why a runtime has failed: its log.json, what it printed, its end; and its pid file.
 *
 * Input: how it ended, where in log.json its run began, what it printed, then log.json.
 */
#include "world.h"

#include "../../runtime.c"

static void check(const struct text *t, size_t cap)
{
	CHECK(t->len < cap && t->at[t->len] == '\0', "a text of %zu bytes in %zu", t->len, cap);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = {(const char *)data, size}, said;
	struct runtime rt = {.binary = "runc", .root = "/w", .bundle = "/w/a"};
	struct run run = {.output = -1};
	char small_buf[40], buf[4096];
	struct text small = TEXT(small_buf), t = TEXT(buf);

	world_begin();
	run.status = take(&in) << 8 | take(&in);
	run.error = run.status & 0x8000 ? -(run.status & 0xff) : 0;
	run.log_end = take(&in);
	said = take_text(&in);
	if (said.len > 0) {
		run.output = output_file();
		CHECK(world_real_write(run.output, said.at, said.len) == (ssize_t)said.len,
		      "the output file is too small");
	}
	if (in.len > 0)
		world_file("/w/a/log.json", in.at, in.len);
	run_reason(&run, &rt, "OCI runtime create failed", &t);
	check(&t, sizeof(buf));
	CHECK(view_starts((struct view){t.at, t.len}, "OCI runtime create failed: "), "%s", t.at);
	run_reason(&run, &rt, "x", &small);
	check(&small, sizeof(small_buf));
	world_file("/w/a/init.pid", said.at, said.len);
	pid_file_read("/w/a/init.pid");
	run_close(&run);
	world_end();
	return 0;
}
