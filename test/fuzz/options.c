// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - a container's options in their three dialects, TOML among them, and the files that
 * carry them over to `delete`.
 *
 * Input: which dialect, then the bytes; in TOML either within the message or in the file it names.
 * What was written must be read back the same.
 */
#include "options.pb.h"
#include "wire.h"

static const char *const urls[] = {
	"containerd.runc.v1.Options", "types.example/containerd.linux.runc.CreateOptions",
	"runtimeoptions.v1.Options",  "runtimeoptions.v1.Options",
	"runtimeoptions.v1.Options",  "x"};

static bool is_same(const struct text *t, struct view v)
{
	return t->len == v.len && (v.len == 0 || memcmp(t->at, v.at, v.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char any[1 << 16];
	struct view in = {(const char *)data, size};
	const struct runtime rt = {.bundle = "/w/a"};
	uint8_t kind = take(&in) % COUNT(urls);
	char binary_buf[4096], root_buf[4096];
	struct text binary = TEXT(binary_buf), root = TEXT(root_buf);
	Options o;
	size_t n;

	if (in.len > sizeof(any) - 64)
		return 0;
	world_begin();
	if (kind == 3) {
		n = put_bytes(any, 3, in);
		in = (struct view){any, n};
	} else if (kind == 4) {
		world_file("/w/config.toml", in.at, in.len);
		n = put_bytes(any, 2, VIEW("/w/config.toml"));
		in = (struct view){any, n};
	}
	in = world_copy(in);
	if (options_decode(view_of(urls[kind]), in, &o) && options_write(&rt, &o) == 0 &&
	    o.root.len < sizeof(root_buf) && o.binary_name.len < sizeof(binary_buf)) {
		struct view name = view_trim(o.binary_name);

		options_read("/w/a", &binary, &root);
		CHECK(is_same(&root, o.root), "root %.*s is read as %s", VIEW_FMT(o.root), root.at);
		CHECK(is_same(&binary, name), "binary %.*s is read as %s", VIEW_FMT(name),
		      binary.at);
	}
	world_drop(in);
	/* The next message takes the place of the file this one has named. */
	n = put_bytes(any, 2, VIEW("/w/none"));
	options_decode(VIEW("runtimeoptions.v1.Options"), (struct view){any, n}, &o);
	world_end();
	return 0;
}
