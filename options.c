// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - what the client configured: the options of a container in every dialect they come in,
 * and the two files that carry them over to `delete`.
 */
#include <errno.h>

#include "options.pb.h"
#include "shim.h"

#define FILE_MAX 32768 /* of options.json: every path in it may be a long one */

/* The message name of a type URL: what is behind its last slash. */
static struct view message_name(struct view url)
{
	struct view name = {0};

	while (url.len > 0)
		name = view_cut(&url, '/');
	return name;
}

bool options_decode(struct view type_url, struct view value, Options *o)
{
	struct view name = message_name(type_url);
	CreateOptions old = {0};

	*o = (Options){0};
	if (view_is(name, "containerd.runc.v1.Options"))
		return msg_decode(value, &Options_msg, o);
	if (!view_is(name, "containerd.linux.runc.CreateOptions") ||
	    !msg_decode(value, &CreateOptions_msg, &old))
		return name.len == 0;
	o->no_pivot_root = old.no_pivot_root;
	o->no_new_keyring = old.no_new_keyring;
	o->shim_cgroup = old.shim_cgroup;
	o->io_uid = old.io_uid;
	o->io_gid = old.io_gid;
	o->criu_work_path = old.criu_work_path;
	o->criu_image_path = old.criu_image_path;
	return true;
}

static void json_text(struct text *t, const char *key, struct view value)
{
	if (value.len == 0)
		return;
	text_printf(t, "%s\"%s\":\"", t->len > 1 ? "," : "", key);
	text_json(t, value);
	text_add(t, VIEW("\""));
}

static void json_plain(struct text *t, const char *key, unsigned int value, bool is_bool)
{
	if (!value)
		return;
	text_printf(t, "%s\"%s\":", t->len > 1 ? "," : "", key);
	text_printf(t, is_bool ? "true" : "%u", value);
}

int options_write(const struct runtime *rt, const Options *o)
{
	char path_buf[1024], *buf = pages_get(FILE_MAX);
	struct text path = TEXT(path_buf), json = {.at = buf, .cap = FILE_MAX};
	int err;

	if (!buf)
		return -ENOMEM;
	text_add(&json, VIEW("{"));
	json_plain(&json, "no_pivot_root", o->no_pivot_root, true);
	json_plain(&json, "no_new_keyring", o->no_new_keyring, true);
	json_text(&json, "shim_cgroup", o->shim_cgroup);
	json_plain(&json, "io_uid", o->io_uid, false);
	json_plain(&json, "io_gid", o->io_gid, false);
	json_text(&json, "binary_name", o->binary_name);
	json_text(&json, "root", o->root);
	json_plain(&json, "systemd_cgroup", o->systemd_cgroup, true);
	json_text(&json, "criu_image_path", o->criu_image_path);
	json_text(&json, "criu_work_path", o->criu_work_path);
	text_add(&json, VIEW("}"));
	text_printf(&path, "%s/options.json", rt->bundle);
	err = json.cut || path.cut ? -ENAMETOOLONG
				   : file_write(path.at, (struct view){json.at, json.len}, 0600);
	pages_put(buf, FILE_MAX);
	if (err < 0)
		return err;
	path.len = 0;
	text_printf(&path, "%s/runtime", rt->bundle);
	return file_write(path.at, o->binary_name, 0600);
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
