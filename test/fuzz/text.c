// SPDX-License-Identifier: Apache-2.0
/*
 * text.c - what is text: config.json, the process of an exec and any other JSON; a runtime's
 * log.json, what it printed, its pid file; the options of a container in their three dialects, TOML
 * among them.
 *
 * Input: which of them, then what each one says below.
 */
#include <errno.h>
#include <sys/mman.h>

#include "options.pb.h"
#include "world.h"

#include "../wire.h"

#include "../../create.c"

#include "../../life.c"

/* ---- JSON: the text ---- */

/* Of the lookups the oracle is that everything found lies within the text; of an exec's process,
 * that what is written for the runtime says what the request did, and is JSON if the text was (the
 * reader here takes more for JSON than there is). */

/* Every value, by the functions that walk. */
static void walk(const struct json *j, int value, int depth)
{
	struct view raw = json_raw(j, value);
	char buf[256];
	struct text t = TEXT(buf);

	CHECK(value >= 0 && value < j->count, "value %d of %d", value, j->count);
	CHECK(raw.at >= j->text.at && raw.at + raw.len <= j->text.at + j->text.len, "outside");
	json_string(j, value, &t);
	CHECK(t.len < sizeof(buf) && buf[t.len] == '\0', "a text of %zu bytes", t.len);
	json_get(j, value, "type");
	for (int v = depth < 20 ? json_first(j, value) : -1; v >= 0; v = json_next(j, value, v))
		walk(j, v, depth + 1);
}

/* JSON as RFC 8259 has it. */
static bool is_value(struct view *v, int depth);

static void skip_space(struct view *v)
{
	while (v->len > 0 && strchr(" \t\r\n", v->at[0]) && v->at[0])
		take(v);
}

static bool is_next(struct view *v, char c)
{
	skip_space(v);
	if (v->len == 0 || v->at[0] != c)
		return false;
	take(v);
	return true;
}

static bool is_string(struct view *v)
{
	if (!is_next(v, '"'))
		return false;
	while (v->len > 0 && v->at[0] != '"') {
		uint8_t c = take(v);

		if (c < 0x20)
			return false;
		if (c == '\\' && take(v) == 'u')
			for (int i = 0; i < 4; i++)
				if (!strchr("0123456789abcdefABCDEF", take(v)))
					return false;
	}
	return is_next(v, '"');
}

/* The members of an object, or of an array, behind its bracket. */
static bool are_members(struct view *v, char end, int depth)
{
	if (is_next(v, end))
		return true;
	do {
		if (end == '}' && (!is_string(v) || !is_next(v, ':')))
			return false;
		if (!is_value(v, depth + 1))
			return false;
	} while (is_next(v, ','));
	return is_next(v, end);
}

static bool is_value(struct view *v, int depth)
{
	static const char *const words[] = {"true", "false", "null", "0", "1"};

	if (depth > 100)
		return false;
	if (is_next(v, '{'))
		return are_members(v, '}', depth);
	if (is_next(v, '['))
		return are_members(v, ']', depth);
	for (size_t i = 0; i < COUNT(words); i++)
		if (view_starts(*v, words[i])) {
			take_bytes(v, strlen(words[i]));
			return true;
		}
	return is_string(v);
}

static bool is_json(struct view v)
{
	if (!is_value(&v, 0))
		return false;
	skip_space(&v);
	return v.len == 0;
}

static void fuzz_json(struct view text)
{
	struct json j;

	if (json_open(&j, text) < 0)
		return;
	walk(&j, 0, 0);
	walk(&j, json_get(&j, 0, "annotations") < 0 ? 0 : json_get(&j, 0, "annotations"), 0);
	json_close(&j);
}

static void fuzz_spec(struct view text, bool terminal)
{
	struct file f;
	struct json j;

	if (write_spec("/w/spec", text, terminal) < 0)
		return;
	CHECK(file_pages("/w/spec", &f) == 0, "it was not written");
	if (is_json(text)) {
		struct view spec = {f.at, f.len};

		CHECK(is_json(spec), "it is no JSON: %.*s", VIEW_FMT(spec));
		CHECK(json_open(&j, spec) == 0, "it is no JSON to us: %.*s", VIEW_FMT(spec));
		CHECK(view_is(json_raw(&j, json_get(&j, 0, "terminal")),
			      terminal ? "true" : "false"),
		      "the terminal");
		json_close(&j);
	}
	pages_put(f.at, f.cap);
}

static void fuzz_json_text(struct view in)
{
	struct container c = {.runtime = {.bundle = "/w/a"}};
	struct view text = world_copy(in);

	fuzz_json(text);
	fuzz_spec(text, false);
	fuzz_spec(text, true);
	world_file("/w/a/config.json", text.at, text.len);
	private_pids(&c);
	world_drop(text);
}

/* ---- why a runtime has failed: how it ended, where in log.json its run began, what it printed,
 * log.json ---- */

static void check(const struct text *t, size_t cap)
{
	CHECK(t->len < cap && t->at[t->len] == '\0', "a text of %zu bytes in %zu", t->len, cap);
}

static void fuzz_log(struct view in)
{
	struct view said;
	struct runtime rt = {.binary = "runc", .root = "/w", .bundle = "/w/a"};
	struct run run = {.output = -1};
	char small_buf[40], buf[4096];
	struct text small = TEXT(small_buf), t = TEXT(buf);

	run.status = take(&in) << 8 | take(&in);
	run.error = run.status & 0x8000 ? -(run.status & 0xff) : 0;
	run.log_end = take(&in);
	said = take_text(&in);
	if (said.len > 0) {
		run.output = memfd_create("said", MFD_CLOEXEC);
		CHECK(world_real_write(run.output, said.at, said.len) == (ssize_t)said.len,
		      "it can not be written");
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
}

/* ---- options: which dialect, and the bytes; TOML within the message, or in the file it names ---- */

static const char *const urls[] = {
	"containerd.runc.v1.Options", "types.example/containerd.linux.runc.CreateOptions",
	"runtimeoptions.v1.Options",  "runtimeoptions.v1.Options",
	"runtimeoptions.v1.Options",  "x"};

static bool is_same(const struct text *t, struct view v)
{
	return t->len == v.len && (v.len == 0 || memcmp(t->at, v.at, v.len) == 0);
}

/* What was written must be read back the same. */
static void fuzz_options(struct view in)
{
	static char any[1 << 16];
	const struct runtime rt = {.bundle = "/w/a"};
	uint8_t kind = take(&in) % COUNT(urls);
	char binary_buf[4096], root_buf[4096];
	struct text binary = TEXT(binary_buf), root = TEXT(root_buf);
	Options o;
	size_t n;

	if (in.len > sizeof(any) - 64)
		return;
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
	options_forget();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const kinds[])(struct view in) = {fuzz_json_text, fuzz_log, fuzz_options};
	struct view in = {(const char *)data, size};
	uint8_t kind = take(&in) % COUNT(kinds);

	world_begin();
	kinds[kind](in);
	world_end();
	return 0;
}
