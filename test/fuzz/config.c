// SPDX-License-Identifier: Apache-2.0
/*
 * config.c - JSON: config.json, the process of an exec, and any other text.
 *
 * Input: the text. Of the lookups the oracle is that everything found lies within the text; of an
 * exec's process, that what is written for the runtime says what the request did, and is JSON if
 * the text was (the reader here takes more for JSON than there is).
 */
#include <errno.h>

#include "world.h"

#include "../../create.c"

#include "../../life.c"

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

/* ---- JSON as RFC 8259 has it ---- */

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

/* ---- the targets ---- */

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct container c = {.runtime = {.bundle = "/w/a"}};
	struct view text = world_copy((struct view){(const char *)data, size});

	world_begin();
	fuzz_json(text);
	fuzz_spec(text, false);
	fuzz_spec(text, true);
	world_file("/w/a/config.json", text.at, text.len);
	private_pids(&c);
	world_drop(text);
	world_end();
	return 0;
}
