// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - what the client configured: the options of a container in every dialect they come in,
 * and the two files that carry them over to `delete`.
 *
 * ctr and Docker send containerd.runc.v1.Options; ctr of 1.6 and 1.7 an older message of the same
 * purpose for every runtime name but io.containerd.runc.*; and CRI for every name but
 * io.containerd.runc.v2 the text of its configuration file, in TOML.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "options.pb.h"
#include "shim.h"

#define FILE_MAX 32768 /* of options.json: every path in it may be a long one */

/* Each option under its name in options.json, and in CRI's configuration. */
enum kind { KIND_BOOL, KIND_NUMBER, KIND_TEXT };
static const struct option {
	const char *json, *toml;
	enum kind kind;
	size_t at;
} options[] = {
	{"no_pivot_root", "NoPivotRoot", KIND_BOOL, offsetof(Options, no_pivot_root)},
	{"no_new_keyring", "NoNewKeyring", KIND_BOOL, offsetof(Options, no_new_keyring)},
	{"shim_cgroup", "ShimCgroup", KIND_TEXT, offsetof(Options, shim_cgroup)},
	{"io_uid", "IoUid", KIND_NUMBER, offsetof(Options, io_uid)},
	{"io_gid", "IoGid", KIND_NUMBER, offsetof(Options, io_gid)},
	{"binary_name", "BinaryName", KIND_TEXT, offsetof(Options, binary_name)},
	{"root", "Root", KIND_TEXT, offsetof(Options, root)},
	{"systemd_cgroup", "SystemdCgroup", KIND_BOOL, offsetof(Options, systemd_cgroup)},
	{"criu_image_path", "CriuImagePath", KIND_TEXT, offsetof(Options, criu_image_path)},
	{"criu_work_path", "CriuWorkPath", KIND_TEXT, offsetof(Options, criu_work_path)},
};

/* The message name of a type URL: what is behind its last slash. */
static struct view message_name(struct view url)
{
	struct view name = {0};

	while (url.len > 0)
		name = view_cut(&url, '/');
	return name;
}

/* ---- TOML, as far as these options need it ---- */

/* "text" or 'text', without the quotes. Nothing here has a use for escapes: refused. */
static bool toml_text(struct view v, struct view *text)
{
	char quote = v.len > 0 ? v.at[0] : '\0';

	if (quote != '"' && quote != '\'')
		return false;
	v = (struct view){v.at + 1, v.len - 1};
	if (!memchr(v.at, quote, v.len))
		return false;
	*text = view_cut(&v, quote);
	return quote == '\'' || !memchr(text->at, '\\', text->len);
}

static bool toml_value(const struct option *option, struct view v, Options *o)
{
	void *to = (char *)o + option->at;
	struct view word = v;
	int number;

	word = view_trim(view_cut(&word, '#'));
	switch (option->kind) {
	case KIND_BOOL:
		*(bool *)to = view_is(word, "true");
		return *(bool *)to || view_is(word, "false");
	case KIND_NUMBER:
		number = view_int(word);
		*(uint32_t *)to = (uint32_t)number;
		return number >= 0;
	case KIND_TEXT:
		return toml_text(v, to);
	}
	return false;
}

/* Top-level keys only; a table would be somebody else's. */
static bool toml_decode(struct view text, Options *o)
{
	while (text.len > 0) {
		struct view value = view_trim(view_cut(&text, '\n')), key;

		if (view_starts(value, "["))
			return true;
		if (value.len == 0 || value.at[0] == '#')
			continue;
		key = view_trim(view_cut(&value, '='));
		for (size_t i = 0; i < COUNT(options); i++)
			if (view_is(key, options[i].toml) &&
			    !toml_value(&options[i], view_trim(value), o))
				return false;
	}
	return true;
}

static struct file config; /* of the options decoded last, which borrow from it */

void options_forget(void)
{
	pages_put(config.at, config.cap);
	config = (struct file){0};
}

/* The text itself comes first, and else the name of a file with it. */
static bool runtime_options_decode(struct view value, Options *o)
{
	char buf[1024];
	struct text path = TEXT(buf);
	RuntimeOptions rq = {0};

	if (!msg_decode(value, &RuntimeOptions_msg, &rq))
		return false;
	if (rq.config_body.len > 0 || rq.config_path.len == 0)
		return toml_decode(rq.config_body, o);
	text_add(&path, rq.config_path);
	options_forget();
	return !path.cut && file_pages(path.at, &config) == 0 &&
	       toml_decode((struct view){config.at, config.len}, o);
}

/* ---- the dialects ---- */

static bool create_options_decode(struct view value, Options *o)
{
	CreateOptions old = {0};

	if (!msg_decode(value, &CreateOptions_msg, &old))
		return false;
	o->no_pivot_root = old.no_pivot_root;
	o->no_new_keyring = old.no_new_keyring;
	o->shim_cgroup = old.shim_cgroup;
	o->io_uid = old.io_uid;
	o->io_gid = old.io_gid;
	o->criu_work_path = old.criu_work_path;
	o->criu_image_path = old.criu_image_path;
	return true;
}

bool options_decode(struct view type_url, struct view value, Options *o)
{
	struct view name = message_name(type_url);

	*o = (Options){0};
	if (view_is(name, "containerd.runc.v1.Options"))
		return msg_decode(value, &Options_msg, o);
	if (view_is(name, "containerd.linux.runc.CreateOptions"))
		return create_options_decode(value, o);
	if (view_is(name, "runtimeoptions.v1.Options"))
		return runtime_options_decode(value, o);
	return name.len == 0;
}

/* ---- the files ---- */

static void add_json(struct text *t, const struct option *option, const void *value)
{
	struct view v = option->kind == KIND_TEXT ? *(const struct view *)value : (struct view){0};
	unsigned int number = option->kind == KIND_BOOL     ? *(const bool *)value
			      : option->kind == KIND_NUMBER ? *(const uint32_t *)value
							    : 0;

	if (v.len == 0 && number == 0)
		return; /* zero values are left out */
	text_printf(t, "%s\"%s\":", t->len > 1 ? "," : "", option->json);
	if (option->kind == KIND_TEXT) {
		text_add(t, VIEW("\""));
		text_json(t, v);
		text_add(t, VIEW("\""));
	} else {
		text_printf(t, option->kind == KIND_BOOL ? "true" : "%u", number);
	}
}

int options_write(const struct runtime *rt, const Options *o)
{
	char path_buf[1024], *buf = pages_get(FILE_MAX);
	struct text path = TEXT(path_buf), json = {.at = buf, .cap = FILE_MAX};
	int err = 0;

	if (!buf)
		return -ENOMEM;
	text_add(&json, VIEW("{"));
	for (size_t i = 0; i < COUNT(options); i++)
		add_json(&json, &options[i], (const char *)o + options[i].at);
	text_add(&json, VIEW("}"));
	text_printf(&path, "%s/options.json", rt->bundle);
	if (json.cut || path.cut)
		err = -ENAMETOOLONG;
	else if (json.len > strlen("{}"))
		err = file_replace(path.at, (struct view){json.at, json.len}, 0600);
	else
		unlink(path.at); /* a page less, where the bundle is in memory */
	pages_put(buf, FILE_MAX);
	if (err < 0)
		return err;
	path.len = 0;
	text_printf(&path, "%s/runtime", rt->bundle);
	return file_replace(path.at, o->binary_name, 0600);
}

void options_read(const char *bundle, struct text *binary, struct text *root)
{
	char path_buf[1024], *buf = pages_get(FILE_MAX);
	struct text path = TEXT(path_buf);
	struct json j;
	ssize_t n;

	if (!buf)
		return;
	text_printf(&path, "%s/runtime", bundle);
	n = file_read(path.at, buf, FILE_MAX);
	if (n > 0)
		text_add(binary, view_trim((struct view){buf, (size_t)n}));
	path.len = 0;
	text_printf(&path, "%s/options.json", bundle);
	n = file_read(path.at, buf, FILE_MAX);
	if (n > 0 && json_open(&j, (struct view){buf, (size_t)n}) == 0) {
		json_string(&j, json_get(&j, 0, "root"), root);
		json_close(&j);
	}
	pages_put(buf, FILE_MAX);
}
