// SPDX-License-Identifier: Apache-2.0
/*
 * options.c's tests: every dialect options come in, and the files they leave.
 */
#include "unit.h"

#include <pb_encode.h>

#include "options.pb.h"

static struct runtime here(void)
{
	static char bundle[64];

	snprintf(bundle, sizeof(bundle), "%s", tmp);
	unlink(in_tmp("options.json"));
	unlink(in_tmp("runtime"));
	return (struct runtime){.binary = "runc", .root = DEFAULT_ROOT, .bundle = bundle};
}

static size_t put_all(char *buf)
{
	size_t n = put_number(buf, 1, 1);

	n += put_number(buf + n, 2, 1);
	n += put_bytes(buf + n, 3, VIEW("/shim"));
	n += put_number(buf + n, 4, 1000);
	n += put_number(buf + n, 5, 4294967295);
	n += put_bytes(buf + n, 6, VIEW("/usr/bin/crun"));
	n += put_bytes(buf + n, 7, VIEW("/run/root"));
	n += put_bytes(buf + n, 8, VIEW("/criu")); /* no longer known */
	n += put_number(buf + n, 9, 1);
	n += put_bytes(buf + n, 10, VIEW("/image"));
	n += put_bytes(buf + n, 11, VIEW("/work"));
	n += put_bytes(buf + n, 12, VIEW("address"));
	return n + put_number(buf + n, 13, 3);
}

static void assert_none(const Options *o)
{
	assert_false(o->no_pivot_root || o->no_new_keyring || o->systemd_cgroup);
	assert_int_equal(o->io_uid + o->io_gid, 0);
	assert_int_equal(o->shim_cgroup.len + o->binary_name.len + o->root.len +
				 o->criu_image_path.len + o->criu_work_path.len,
			 0);
}

static void assert_all(const Options *o)
{
	assert_true(o->no_pivot_root && o->no_new_keyring && o->systemd_cgroup);
	assert_view(o->shim_cgroup, "/shim");
	assert_int_equal(o->io_uid, 1000);
	assert_view(o->binary_name, "/usr/bin/crun");
	assert_view(o->root, "/run/root");
	assert_view(o->criu_image_path, "/image");
	assert_view(o->criu_work_path, "/work");
}

/* containerd.runc.v1.Options, under every name it has been called by. */
static void runc_options(void **state)
{
	static const char *const urls[] = {"containerd.runc.v1.Options",
					   "types.containerd.io/containerd.runc.v1.Options",
					   "type.googleapis.com/containerd.runc.v1.Options",
					   "a/b/containerd.runc.v1.Options",
					   "/containerd.runc.v1.Options"};
	char buf[256];
	struct view value = exact(buf, put_all(buf));

	(void)state;
	for (size_t i = 0; i < COUNT(urls); i++) {
		struct view url = exact_of(urls[i]);
		Options o;

		memset(&o, 0xaa, sizeof(o));
		assert_true(options_decode(url, value, &o));
		assert_all(&o);
		assert_int_equal(o.io_gid, 4294967295);
		assert_true(o.root.at > value.at &&
			    o.root.at < value.at + value.len); /* borrowed */
		memset(&o, 0xaa, sizeof(o));
		assert_true(options_decode(url, (struct view){0}, &o));
		assert_none(&o);
		drop(url);
	}
	drop(value);
}

/* None at all; or without a type, as some clients do. */
static void no_options(void **state)
{
	Options o;

	(void)state;
	memset(&o, 0xaa, sizeof(o));
	assert_true(options_decode((struct view){0}, (struct view){0}, &o));
	assert_none(&o);
	assert_true(options_decode((struct view){0}, VIEW("whatever"), &o));
	assert_none(&o);
}

static void unknown_options(void **state)
{
	static const char *const urls[] = {
		"containerd.runc.v1.Option",
		"containerd.runc.v1.OptionsX",
		"xcontainerd.runc.v1.Options",
		"containerd.runc.v1.CheckpointOptions",
		"io.containerd.runsc.v1.options",
		"Options",
		"types.containerd.io/opencontainers/runtime-spec/1/Process",
		"x",
	};
	Options o;

	(void)state;
	for (size_t i = 0; i < COUNT(urls); i++)
		assert_false(options_decode(view_of(urls[i]), (struct view){0}, &o));
}

/* The older message: other numbers. */
static void create_options(void **state)
{
	struct view name = VIEW("containerd.linux.runc.CreateOptions");
	char buf[256];
	size_t n = put_number(buf, 1, 1);
	Options o;

	(void)state;
	n += put_bytes(buf + n, 6, VIEW("not the binary's name"));
	n += put_number(buf + n, 8, 1);
	n += put_bytes(buf + n, 9, VIEW("/shim"));
	n += put_number(buf + n, 10, 7);
	n += put_number(buf + n, 11, 8);
	n += put_bytes(buf + n, 12, VIEW("/work"));
	n += put_bytes(buf + n, 13, VIEW("/image"));
	assert_true(options_decode(name, (struct view){buf, n}, &o));
	assert_true(o.no_pivot_root && o.no_new_keyring && !o.systemd_cgroup);
	assert_view(o.shim_cgroup, "/shim");
	assert_int_equal(o.io_uid, 7);
	assert_int_equal(o.io_gid, 8);
	assert_view(o.criu_work_path, "/work");
	assert_view(o.criu_image_path, "/image");
	assert_int_equal(o.binary_name.len + o.root.len, 0);
	assert_false(options_decode(name, VIEW("\x0a\xff"), &o));
}

static bool from_toml(const char *text, Options *o)
{
	static char buf[4096];
	size_t n = put_bytes(buf, 1, VIEW("io.containerd.runc.v1.options"));

	n += put_bytes(buf + n, 3, view_of(text));
	return options_decode(VIEW("runtimeoptions.v1.Options"), (struct view){buf, n}, o);
}

/* CRI's: the text of its configuration. */
static void toml_options(void **state)
{
	Options o;

	(void)state;
	assert_true(
		from_toml("BinaryName = \"/usr/bin/crun\"\nCriuImagePath = \"/image\"\n"
			  "CriuWorkPath = '/work'\nIoGid = 0\nIoUid = 1000\nNoNewKeyring = true\n"
			  "NoPivotRoot = true\nRoot = \"/run/root\"\nShimCgroup = \"/shim\"\n"
			  "SystemdCgroup = true\nUnknownToUs = [\"x\"]\n",
			  &o));
	assert_all(&o);
	assert_true(from_toml("", &o));
	assert_none(&o);
	assert_true(from_toml("# a comment\n\n  \t\r\nSystemdCgroup=true # why not\r\n"
			      "BinaryName=\"a # b\" # c\nRoot = '' \n",
			      &o));
	assert_true(o.systemd_cgroup);
	assert_view(o.binary_name, "a # b");
	assert_int_equal(o.root.len, 0);
	/* A table is somebody else's. */
	assert_true(from_toml("Root = \"/a\"\n[other]\nRoot = \"/b\"\n", &o));
	assert_view(o.root, "/a");
	assert_true(from_toml("SystemdCgroup = false\n", &o));
	assert_false(o.systemd_cgroup);
	/* Without a newline at its end. */
	assert_true(from_toml("Root = \"/a\"", &o));
	assert_view(o.root, "/a");
}

static void toml_wrong(void **state)
{
	static const char *const texts[] = {
		"SystemdCgroup = 1", "SystemdCgroup = \"true\"",
		"SystemdCgroup =",   "SystemdCgroup",
		"IoUid = \"5\"",     "IoUid = -1",
		"IoUid = x",         "Root = /a",
		"Root = \"/a",       "Root = '/a\"",
		"Root = \"a\\tb\"",  "Root =",
		"BinaryName = true", "Root = \"",
	};
	Options o;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		if (from_toml(texts[i], &o))
			print_error("taken: %s\n", texts[i]);
		assert_false(from_toml(texts[i], &o));
	}
}

/* Cut anywhere, nothing is read behind the end. */
static void toml_cut(void **state)
{
	static const char text[] =
		"Root = \"/a\"\nSystemdCgroup = true # x\nIoUid = 77\nShimCgroup = 'b'\n[t]";

	(void)state;
	for (size_t len = 0; len < sizeof(text); len++) {
		char buf[256];
		struct view all;
		size_t n = put_bytes(buf, 3, (struct view){text, len});
		Options o;

		all = exact(buf, n);
		options_decode(VIEW("runtimeoptions.v1.Options"), all, &o);
		drop(all);
	}
}

/* Or the name of a file with it. */
static void toml_in_file(void **state)
{
	char buf[1200], path[1100];
	size_t n;
	Options o;

	(void)state;
	make_file("config.toml", "BinaryName = \"from a file\"\n", 0644);
	n = put_bytes(buf, 2, view_of(in_tmp("config.toml")));
	for (int i = 0; i < 3; i++) {
		assert_true(options_decode(VIEW("runtimeoptions.v1.Options"), (struct view){buf, n},
					   &o));
		assert_view(o.binary_name, "from a file");
	}
	n += put_bytes(buf + n, 3, VIEW("BinaryName = \"from the text\"\n"));
	assert_true(options_decode(VIEW("runtimeoptions.v1.Options"), (struct view){buf, n}, &o));
	assert_view(o.binary_name, "from the text");
	n = put_bytes(buf, 2, view_of(in_tmp("none")));
	assert_false(options_decode(VIEW("runtimeoptions.v1.Options"), (struct view){buf, n}, &o));
	memset(path, 'p', sizeof(path));
	n = put_bytes(buf, 2, (struct view){path, sizeof(path)});
	assert_false(options_decode(VIEW("runtimeoptions.v1.Options"), (struct view){buf, n}, &o));
	assert_false(options_decode(VIEW("runtimeoptions.v1.Options"), VIEW("\x0a\xff"), &o));
}

/* ---- the files ---- */

static void written_and_read(void **state)
{
	char buf[256], binary_buf[512], root_buf[512];
	struct text binary = TEXT(binary_buf), root = TEXT(root_buf);
	struct runtime rt = here();
	struct stat st;
	Options o;

	(void)state;
	assert_true(options_decode(VIEW("containerd.runc.v1.Options"),
				   (struct view){buf, put_all(buf)}, &o));
	assert_int_equal(options_write(&rt, &o), 0);
	assert_string_equal(
		file_text("options.json"),
		"{\"no_pivot_root\":true,\"no_new_keyring\":true,\"shim_cgroup\":\"/shim\","
		"\"io_uid\":1000,\"io_gid\":4294967295,\"binary_name\":\"/usr/bin/crun\","
		"\"root\":\"/run/root\",\"systemd_cgroup\":true,\"criu_image_path\":\"/image\","
		"\"criu_work_path\":\"/work\"}");
	assert_string_equal(file_text("runtime"), "/usr/bin/crun");
	assert_int_equal(stat(in_tmp("options.json"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	options_read(tmp, &binary, &root);
	assert_string_equal(binary_buf, "/usr/bin/crun");
	assert_string_equal(root_buf, "/run/root");
}

static void nothing_written_and_read(void **state)
{
	char binary_buf[512], root_buf[512], path[512];
	struct text binary = TEXT(binary_buf), root = TEXT(root_buf);
	struct runtime rt = here();
	Options o = {0};

	(void)state;
	options_read(tmp, &binary, &root); /* there are no files */
	assert_int_equal(binary.len + root.len, 0);
	assert_int_equal(options_write(&rt, &o), 0);
	snprintf(path, sizeof(path), "%s/options.json", tmp);
	assert_int_equal(access(path, F_OK), -1);
	assert_string_equal(file_text("runtime"), "");
	options_read(tmp, &binary, &root);
	assert_int_equal(binary.len + root.len, 0);
	/* It is written anew, not over. */
	o.root = VIEW("/a/longer/root");
	o.binary_name = VIEW("binary");
	assert_int_equal(options_write(&rt, &o), 0);
	o = (Options){.root = VIEW("/r")};
	assert_int_equal(options_write(&rt, &o), 0);
	assert_string_equal(file_text("options.json"), "{\"root\":\"/r\"}");
	assert_string_equal(file_text("runtime"), "");
	o = (Options){0};
	assert_int_equal(options_write(&rt, &o), 0);
	assert_int_equal(access(path, F_OK), -1);
}

/* Any text survives. */
static void odd_texts(void **state)
{
	static const char *const texts[] = {
		"a\"b",       "a\\b", "a\nb\tc",          "gr\xc3\xbc\xc3\x9f",
		"\x01\x1f",   " ",    "{\"root\":\"x\"}", "\\u0041",
		"a/b//c/../d"};
	struct runtime rt = here();

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		char binary_buf[512], root_buf[512];
		struct text binary = TEXT(binary_buf), root = TEXT(root_buf);
		Options o = {.root = view_of(texts[i]), .shim_cgroup = view_of(texts[i])};

		assert_int_equal(options_write(&rt, &o), 0);
		options_read(tmp, &binary, &root);
		assert_string_equal(root_buf, texts[i]);
	}
}

/* What the Go shim has left, of an upgrade under way. */
static void read_from_go(void **state)
{
	char binary_buf[512], root_buf[512];
	struct text binary = TEXT(binary_buf), root = TEXT(root_buf);

	(void)state;
	here();
	make_file("options.json",
		  "{\"binary_name\":\"crun\",\"root\":\"/run/x\",\"systemd_cgroup\":true}\n", 0600);
	make_file("runtime", "crun\n", 0600);
	options_read(tmp, &binary, &root);
	assert_string_equal(binary_buf, "crun");
	assert_string_equal(root_buf, "/run/x");
	binary = TEXT(binary_buf);
	root = TEXT(root_buf);
	make_file("options.json", "no JSON", 0600);
	make_file("runtime", " \n", 0600);
	options_read(tmp, &binary, &root);
	assert_int_equal(binary.len + root.len, 0);
	make_file("options.json", "{\"root\":7}", 0600);
	options_read(tmp, &binary, &root);
	assert_int_equal(root.len, 0);
	make_file("options.json", "{\"root\":null}", 0600);
	options_read(tmp, &binary, &root);
	assert_int_equal(root.len, 0);
}

static void too_long(void **state)
{
	struct runtime rt = here();
	char *text = malloc(40000);
	Options o = {0};

	(void)state;
	memset(text, '/', 40000);
	o.root = (struct view){text, 32000};
	assert_int_equal(options_write(&rt, &o), 0);
	o.root.len = 32760;
	assert_int_equal(options_write(&rt, &o), -ENAMETOOLONG);
	text[2000] = '\0';
	rt.bundle = text;
	o.root.len = 0;
	assert_true(options_write(&rt, &o) < 0);
	rt.bundle = "/no/such/bundle";
	assert_int_equal(options_write(&rt, &o), -ENOENT);
	free(text);
}

/* There is no room for the last byte of either: then there is nothing, or what was there before. */
static void cut_short(void **state)
{
	const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
	struct rlimit few = none;
	struct runtime rt = here();
	Options o = {.binary_name = VIEW("/usr/bin/crun-of-a-longer-name")};

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	few.rlim_cur = sizeof("{\"binary_name\":\"/usr/bin/crun-of-a-longer-name\"}") - 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
	assert_int_equal(options_write(&rt, &o), -EFBIG);
	assert_int_equal(access(in_tmp("options.json"), F_OK), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(options_write(&rt, &o), 0);

	o = (Options){.binary_name = VIEW("crun")};
	few.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
	assert_int_equal(options_write(&rt, &o), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_string_equal(file_text("options.json"),
			    "{\"binary_name\":\"/usr/bin/crun-of-a-longer-name\"}");
	assert_string_equal(file_text("runtime"), "/usr/bin/crun-of-a-longer-name");
}

static void long_bundle(void **state)
{
	struct runtime rt = here();
	char path[1024];
	Options o = {.binary_name = VIEW("crun")};
	int n = snprintf(path, sizeof(path), "%s", tmp);

	(void)state;
	while (n < 700) {
		n += snprintf(path + n, sizeof(path) - (size_t)n, "/%0200d", 0);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	rt.bundle = path;
	assert_int_equal(options_write(&rt, &o), 0);
}

/* Each option on its own, in each dialect: options.json says which one was understood. */
static void each_option_alone(void **state)
{
	static const struct {
		unsigned int runc, older; /* its number; 0: there is none */
		const char *toml, *json;
		char kind;
	} each[] = {
		{1, 1, "NoPivotRoot", "no_pivot_root", 'b'},
		{2, 8, "NoNewKeyring", "no_new_keyring", 'b'},
		{3, 9, "ShimCgroup", "shim_cgroup", 't'},
		{4, 10, "IoUid", "io_uid", 'n'},
		{5, 11, "IoGid", "io_gid", 'n'},
		{6, 0, "BinaryName", "binary_name", 't'},
		{7, 0, "Root", "root", 't'},
		{9, 0, "SystemdCgroup", "systemd_cgroup", 'b'},
		{10, 13, "CriuImagePath", "criu_image_path", 't'},
		{11, 12, "CriuWorkPath", "criu_work_path", 't'},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(each); i++) {
		const unsigned int tags[] = {each[i].runc, each[i].older};
		const char *value = each[i].kind == 'b'   ? "true"
				    : each[i].kind == 'n' ? "7"
							  : "\"v\"";
		struct runtime rt = here();
		char buf[64], text[64], want[64];
		struct stat st;
		Options o;

		snprintf(want, sizeof(want), "{\"%s\":%s}", each[i].json, value);
		snprintf(text, sizeof(text), "%s = %s\n", each[i].toml, value);
		for (int dialect = 0; dialect < 3; dialect++) {
			size_t n = 0;

			if (dialect < 2 && tags[dialect] == 0)
				continue;
			if (dialect < 2 && each[i].kind == 't')
				n = put_bytes(buf, tags[dialect], VIEW("v"));
			else if (dialect < 2)
				n = put_number(buf, tags[dialect], each[i].kind == 'n' ? 7 : 1);
			assert_true(dialect == 2
					    ? from_toml(text, &o)
					    : options_decode(
						      dialect == 0
							      ? VIEW("containerd.runc.v1.Options")
							      : VIEW("containerd.linux.runc."
								     "CreateOptions"),
						      (struct view){buf, n}, &o));
			assert_int_equal(options_write(&rt, &o), 0);
			assert_string_equal(file_text("options.json"), want);
			assert_int_equal(stat(in_tmp("options.json"), &st), 0);
			assert_int_equal(st.st_mode & 0777, 0600);
			assert_string_equal(file_text("runtime"), each[i].runc == 6 ? "v" : "");
			assert_int_equal(stat(in_tmp("runtime"), &st), 0);
			assert_int_equal(st.st_mode & 0777, 0600);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runc_options),     cmocka_unit_test(no_options),
		cmocka_unit_test(unknown_options),  cmocka_unit_test(create_options),
		cmocka_unit_test(toml_options),     cmocka_unit_test(toml_wrong),
		cmocka_unit_test(toml_cut),         cmocka_unit_test(toml_in_file),
		cmocka_unit_test(written_and_read), cmocka_unit_test(nothing_written_and_read),
		cmocka_unit_test(odd_texts),        cmocka_unit_test(read_from_go),
		cmocka_unit_test(too_long),         cmocka_unit_test(cut_short),
		cmocka_unit_test(long_bundle),      cmocka_unit_test(each_option_alone),
	};

	return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
