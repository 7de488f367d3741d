// SPDX-License-Identifier: Apache-2.0
/*
 * config.c - JSON: config.json, the process of an exec, and any other text.
 *
 * Input: the text. Of the lookups the oracle is that everything found lies within the text; of an
 * exec's process, that what is written for the runtime is JSON again and says what the request did.
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
	json_true(j, value);
	json_get(j, value, "type");
	for (int v = depth < 20 ? json_first(j, value) : -1; v >= 0; v = json_next(j, value, v))
		walk(j, v, depth + 1);
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
	CHECK(json_open(&j, (struct view){f.at, f.len}) == 0, "it is no JSON: %.*s", (int)f.len,
	      f.at);
	CHECK(json_true(&j, json_get(&j, 0, "terminal")) == terminal, "the terminal");
	json_close(&j);
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
