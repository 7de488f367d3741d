// SPDX-License-Identifier: Apache-2.0
/*
 * util.c's tests: views, text, files, log lines, the digest, and the protobuf callbacks.
 *
 * What is given to be read stands in heap blocks of its exact size, so that the sanitizer sees any
 * byte read beyond it.
 */
#include "unit.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "events.pb.h"
#include "options.pb.h"
#include "task.pb.h"
#include "ttrpc.pb.h"

#include "../../util.c"

/* ---- views ---- */

static void view_of_nothing(void **state)
{
	struct view v = view_of(NULL);

	(void)state;
	assert_null(v.at);
	assert_int_equal(v.len, 0);
	assert_true(view_is(v, ""));
	assert_false(view_is(v, "x"));
	assert_false(view_starts(v, "x"));
	assert_int_equal(view_trim(v).len, 0);
	assert_int_equal(view_int(v), -1);
	assert_true(utf8_valid(v));
	assert_int_equal(view_cut(&v, ',').len, 0);
}

static void view_comparisons(void **state)
{
	static const struct {
		const char *text, *with;
		bool is, starts;
	} cases[] = {
		{"", "", true, true},         {"a", "", false, true},
		{"", "a", false, false},      {"abc", "abc", true, true},
		{"abc", "ab", false, true},   {"ab", "abc", false, false},
		{"abc", "abd", false, false}, {"ABC", "abc", false, false},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct view v = exact_of(cases[i].text);

		assert_int_equal(view_is(v, cases[i].with), cases[i].is);
		assert_int_equal(view_starts(v, cases[i].with), cases[i].starts);
		drop(v);
	}
	/* A NUL is a byte like any other. */
	assert_false(view_is(VIEW("ab\0cd"), "ab"));
	assert_true(view_starts(VIEW("ab\0cd"), "ab"));
}

static void view_trims(void **state)
{
	static const char *const cases[][2] = {
		{"", ""},           {" ", ""},         {" \t\n\v\f\r ", ""}, {"a", "a"},
		{" a b\t", "a b"},  {"\n\na\n", "a"},  {"a ", "a"},          {"\x01 a", "\x01 a"},
		{"\xa0x", "\xa0x"}, {"x\x85", "x\x85"}};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct view v = exact_of(cases[i][0]);

		assert_view(view_trim(v), cases[i][1]);
		drop(v);
	}
}

static void view_cuts(void **state)
{
	struct view all = exact_of("a,,bc,"), rest = all;

	(void)state;
	assert_view(view_cut(&rest, ','), "a");
	assert_view(view_cut(&rest, ','), "");
	assert_view(view_cut(&rest, ','), "bc");
	assert_int_equal(rest.len, 0);
	assert_view(view_cut(&rest, ','), "");
	assert_int_equal(rest.len, 0);
	rest = all;
	assert_view(view_cut(&rest, '/'), "a,,bc,");
	assert_int_equal(rest.len, 0);
	drop(all);
	rest = VIEW("a\0b");
	assert_view(view_cut(&rest, '\0'), "a");
	assert_view(rest, "b");
}

static void view_ints(void **state)
{
	static const struct {
		const char *text;
		int value;
	} cases[] = {
		{"0", 0},           {"7", 7},
		{"007", 7},         {"2147483647", INT_MAX},
		{"2147483648", -1}, {"21474836470", -1},
		{"-1", -1},         {"+1", -1},
		{" 1", -1},         {"1\n", -1},
		{"", -1},           {"1a", -1},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct view v = exact_of(cases[i].text);

		assert_int_equal(view_int(v), cases[i].value);
		drop(v);
	}
	assert_int_equal(view_int(VIEW("1\0002")), -1);
}

/* ---- UTF-8 ---- */

/* The Unicode standard's table 3-7, written another way than the code does it. */
static bool well_formed(const unsigned char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		unsigned int c = s[i], low = 0x80, high = 0xbf, more;

		if (c <= 0x7f) {
			i++;
			continue;
		}
		if (c >= 0xc2 && c <= 0xdf)
			more = 1;
		else if (c >= 0xe0 && c <= 0xef)
			more = 2;
		else if (c >= 0xf0 && c <= 0xf4)
			more = 3;
		else
			return false;
		low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : low;
		high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : high;
		if (i + more >= n)
			return false;
		if (s[i + 1] < low || s[i + 1] > high)
			return false;
		for (unsigned int k = 2; k <= more; k++)
			if (s[i + k] < 0x80 || s[i + k] > 0xbf)
				return false;
		i += more + 1;
	}
	return true;
}

static void utf8_all_short(void **state)
{
	unsigned char s[4];

	(void)state;
	/* All of one and two bytes; then every first byte with continuations around each border. */
	for (unsigned int n = 0; n < 0x10000; n++) {
		s[0] = (unsigned char)(n >> 8);
		s[1] = (unsigned char)n;
		assert_int_equal(utf8_valid((struct view){(char *)s, 1}), well_formed(s, 1));
		assert_int_equal(utf8_valid((struct view){(char *)s, 2}), well_formed(s, 2));
	}
	for (unsigned int a = 0xc0; a < 0x100; a++)
		for (unsigned int b = 0x70; b < 0xd0; b++)
			for (unsigned int k = 0; k < 64; k++) {
				static const unsigned char tails[8] = {0,    0x7f, 0x80, 0x90,
								       0xa0, 0xbf, 0xc0, 0xff};

				s[0] = (unsigned char)a;
				s[1] = (unsigned char)b;
				s[2] = tails[k / 8];
				s[3] = tails[k % 8];
				for (size_t len = 1; len <= 4; len++)
					assert_int_equal(utf8_valid((struct view){(char *)s, len}),
							 well_formed(s, len));
			}
}

static void utf8_known(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} cases[] = {
		{"plain", true},
		{"gr\xc3\xbc\xc3\x9f", true},
		{"\xe2\x82\xac", true},
		{"\xf0\x9f\x90\xb3", true},
		{"\xf4\x8f\xbf\xbf", true},
		{"\xef\xbf\xbf", true},
		{"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
		{"\xed\xa0\x80", false},     /* a surrogate */
		{"\xed\xbf\xbf", false},
		{"\xc0\x80", false}, /* longer than need be */
		{"\xe0\x80\xaf", false},
		{"\xf0\x80\x80\xaf", false},
		{"\x80", false},
		{"\xc3", false},
		{"a\xe2\x82", false},
		{"\xf0\x9f\x90", false},
		{"\xff", false},
		{"\xfe", false},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct view v = exact_of(cases[i].text);

		assert_int_equal(utf8_valid(v), cases[i].valid);
		drop(v);
	}
}

/* ---- text ---- */

static void text_limits(void **state)
{
	(void)state;
	/* Every capacity and every split of eight bytes, against what must come out. */
	for (size_t cap = 1; cap <= 12; cap++)
		for (size_t split = 0; split <= 8; split++) {
			char *buf = malloc(cap);
			struct text t = {.at = buf, .cap = cap};

			text_add(&t, (struct view){"01234567", split});
			text_add(&t, (struct view){&"01234567"[split], 8 - split});
			assert_int_equal(t.len, cap - 1 < 8 ? cap - 1 : 8);
			assert_int_equal(t.cut, cap - 1 < 8);
			assert_memory_equal(t.at, "01234567", t.len);
			assert_int_equal(t.at[t.len], '\0');
			/* What is cut stays cut; nothing at all always fits. */
			text_add(&t, (struct view){0});
			assert_int_equal(t.cut, cap - 1 < 8);
			free(buf);
		}
}

static void text_printf_limits(void **state)
{
	(void)state;
	for (size_t cap = 1; cap <= 12; cap++)
		for (size_t split = 0; split <= 8; split++) {
			char *buf = malloc(cap);
			struct text t = {.at = buf, .cap = cap};

			text_printf(&t, "%.*s", (int)split, "01234567");
			text_printf(&t, "%s", &"01234567"[split]);
			assert_int_equal(t.len, cap - 1 < 8 ? cap - 1 : 8);
			assert_int_equal(t.cut, cap - 1 < 8);
			assert_memory_equal(t.at, "01234567", t.len);
			assert_int_equal(t.at[t.len], '\0');
			text_printf(&t, "%s", "");
			assert_int_equal(t.cut, cap - 1 < 8);
			free(buf);
		}
}

/* Texts are laid one behind the other by stepping over the NUL. Where the last one was cut, that
 * step leads to the very end of the buffer. */
static void text_behind_the_end(void **state)
{
	char *buf;
	struct text t;

	(void)state;
	buf = malloc(8);
	t = (struct text){.at = buf, .cap = 8};
	text_add(&t, VIEW("0123456789"));
	assert_true(t.cut);
	t.len++;
	text_add(&t, VIEW("beyond"));
	text_printf(&t, "%s", "beyond");
	assert_true(t.cut);
	assert_true(t.len <= 8);
	t.len = 8;
	text_json(&t, VIEW("\n"));
	free(buf);
}

/* Our own formatter does what the C library's does, as far as it goes. */
#define same(...)                                              \
	do {                                                   \
		char ours[128], theirs[128];                   \
		struct text t_ = TEXT(ours);                   \
                                                               \
		text_printf(&t_, __VA_ARGS__);                 \
		snprintf(theirs, sizeof(theirs), __VA_ARGS__); \
		assert_string_equal(ours, theirs);             \
		assert_int_equal(t_.len, strlen(theirs));      \
		assert_false(t_.cut);                          \
	} while (0)

static void formats(void **state)
{
	static const long numbers[] = {0,    1,       -1,      9,        10,       -10,
				       4711, INT_MAX, INT_MIN, UINT_MAX, LONG_MAX, LONG_MIN};

	(void)state;
	same("plain");
	same("%s", "");
	same("%s and %s%s", "one", "two", "three");
	same("%.*s|", 3, "abcdef");
	same("%.*s|", 0, "abcdef");
	same("%.*s|", 9, "abc");
	same("100%%");
	same("%%%s%%", "x");
	same("%c%c", 'a', '%');
	for (size_t i = 0; i < COUNT(numbers); i++) {
		long n = numbers[i];

		same("%d|%u|%x", (int)n, (unsigned int)n, (unsigned int)n);
		same("%ld|%lu|%lx", n, (unsigned long)n, (unsigned long)n);
		same("%zu", (size_t)n);
		same("%8d|%12u|%3x", (int)n, (unsigned int)n, (unsigned int)n);
		if (n >= 0)
			same("%04d|%02d|%09ld", (int)(n & INT_MAX), (int)(n & INT_MAX), n);
		same("%08x|%04x", (unsigned int)n, (unsigned int)n);
	}
	same("%08lx", (unsigned long)0xfedcba9876543210);
}

static void format_of_negatives_filled_up(void **state)
{
	(void)state;
	same("%8d", -5);
	same("%06d", -5);
}

/* An empty view has no address. */
static void format_of_nothing(void **state)
{
	char buf[16];
	struct text t = TEXT(buf);
	static struct view none; /* nor does the compiler know that, and warn */
	struct view *volatile v = &none;

	(void)state;
	*v = view_of(NULL);
	text_printf(&t, "<%.*s>", VIEW_FMT(*v));
	assert_string_equal(buf, "<>");
}

static void text_macro_empties(void **state)
{
	char buf[8] = "old";
	struct text t = TEXT(buf);

	(void)state;
	assert_string_equal(buf, "");
	assert_int_equal(t.cap, 8);
	assert_int_equal(t.len, 0);
	assert_false(t.cut);
}

static void text_json_escapes(void **state)
{
	char buf[2048], all[256];
	struct text t = TEXT(buf);
	struct json j;

	(void)state;
	text_json(&t, VIEW("a\"b\\c\n\t\x01\x1f\x7f/\xc3\xbc"));
	assert_string_equal(buf, "a\\\"b\\\\c\\u000a\\u0009\\u0001\\u001f\x7f/\xc3\xbc");
	/* Every byte there and back through our own reader. */
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	t = TEXT(buf);
	text_add(&t, VIEW("[\""));
	text_json(&t, (struct view){all, 256});
	text_add(&t, VIEW("\"]"));
	assert_false(t.cut);
	assert_int_equal(json_open(&j, (struct view){buf, t.len}), 0);
	{
		char back[512];
		struct text b = TEXT(back);

		json_string(&j, json_first(&j, 0), &b);
		assert_int_equal(b.len, 256);
		assert_memory_equal(back, all, 256);
	}
	json_close(&j);
}

static void errno_in_gos_words(void **state)
{
	static const struct {
		int err;
		const char *text;
	} cases[] = {
		{ENOENT, "no such file or directory"},
		{EPERM, "operation not permitted"},
		{EACCES, "permission denied"},
		{EEXIST, "file exists"},
		{ENOTDIR, "not a directory"},
		{EISDIR, "is a directory"},
		{EINVAL, "invalid argument"},
		{EBUSY, "device or resource busy"},
		{ENOSPC, "no space left on device"},
		{EROFS, "read-only file system"},
		{ENOMEM, "cannot allocate memory"},
		{ENAMETOOLONG, "file name too long"},
		{ELOOP, "too many levels of symbolic links"},
		{EOPNOTSUPP, "operation not supported"},
		{ESRCH, "no such process"},
		{ECHILD, "no child processes"},
		{EPIPE, "broken pipe"},
		{ECONNREFUSED, "connection refused"},
		{ENODEV, "no such device"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(errno_text(cases[i].err), cases[i].text);
	for (int err = 1; err <= 140; err++) {
		const char *text = errno_text(err);

#ifdef __GLIBC__ /* All the rest are as that library has them, but for the capital letter. */
		if (strncmp(text, "errno ", 6) != 0)
			assert_string_equal(text + 1, strerror(err) + 1);
#endif
		assert_int_equal(text[0], tolower(text[0]));
	}
	assert_string_equal(errno_text(0), "errno 0");
	assert_string_equal(errno_text(4095), "errno 4095");
}

/* ---- files ---- */

static void files_read(void **state)
{
	char buf[16];

	(void)state;
	make_file("empty", "", 0644);
	make_file("fits", "0123456789abcde", 0644);
	make_file("big", "0123456789abcdef", 0644);
	make_file("bigger", "0123456789abcdef0", 0644);
	assert_int_equal(file_read(in_tmp("empty"), buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(file_read(in_tmp("fits"), buf, sizeof(buf)), 15);
	assert_string_equal(buf, "0123456789abcde");
	assert_int_equal(file_read(in_tmp("big"), buf, sizeof(buf)), -EFBIG);
	assert_int_equal(file_read(in_tmp("bigger"), buf, sizeof(buf)), -EFBIG);
	assert_int_equal(file_read(in_tmp("none"), buf, sizeof(buf)), -ENOENT);
	assert_int_equal(file_read(in_tmp("fits/none"), buf, sizeof(buf)), -ENOTDIR);
	assert_int_equal(file_read(tmp, buf, sizeof(buf)), -EISDIR);
}

static void files_in_pages(void **state)
{
	static char content[300000];
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 262143, 262144, 300000};
	unsigned int fds = open_fds();
	struct file f;

	(void)state;
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i * 31 >> 3);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		assert_int_equal(file_write(in_tmp("f"), (struct view){content, sizes[i]}, 0600),
				 0);
		assert_int_equal(file_pages(in_tmp("f"), &f), 0);
		assert_int_equal(f.len, sizes[i]);
		assert_true(f.cap > f.len);
		assert_memory_equal(f.at, content, sizes[i]);
		assert_int_equal(f.at[f.len], '\0');
		pages_put(f.at, f.cap);
	}
	assert_int_equal(file_pages(in_tmp("none"), &f), -ENOENT);
	assert_null(f.at);
	assert_int_equal(file_pages(tmp, &f), -EISDIR);
	assert_null(f.at);
	assert_int_equal(open_fds(), fds);
}

static void files_written(void **state)
{
	mode_t mask = umask(0022);
	struct stat st;

	(void)state;
	assert_int_equal(file_write(in_tmp("written"), VIEW("long text"), 0666), 0);
	assert_string_equal(file_text("written"), "long text");
	assert_int_equal(stat(in_tmp("written"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(file_write(in_tmp("written"), VIEW("short"), 0600), 0);
	assert_string_equal(file_text("written"), "short");
	assert_int_equal(file_write(in_tmp("written"), (struct view){0}, 0600), 0);
	assert_string_equal(file_text("written"), "");
	assert_int_equal(file_write(in_tmp("none/f"), VIEW("x"), 0600), -ENOENT);
	assert_int_equal(file_write(tmp, VIEW("x"), 0600), -EISDIR);
	assert_int_equal(file_write("/dev/full", VIEW("x"), 0600), -ENOSPC);
	umask(mask);
}

static void files_appended_to(void **state)
{
	(void)state;
	assert_int_equal(file_append(in_tmp("append"), VIEW("x")), -ENOENT);
	make_file("append", "one,", 0644);
	assert_int_equal(file_append(in_tmp("append"), VIEW("two")), 0);
	assert_int_equal(file_append(in_tmp("append"), (struct view){0}), 0);
	assert_string_equal(file_text("append"), "one,two");
	assert_int_equal(file_append("/dev/full", VIEW("x")), -ENOSPC);
	assert_int_equal(file_append(tmp, VIEW("x")), -EISDIR);
}

/* More entries than one look of the kernel's brings, and long names; each is seen once. */
static void directories_walked(void **state)
{
	enum { ENTRIES = 100 };
	bool seen[ENTRIES] = {false};
	struct dir d = {0};
	const struct dirent *entry;
	unsigned int n = 0;
	char name[256];

	(void)state;
	assert_int_equal(mkdir(in_tmp("walk"), 0755), 0);
	d.fd = open(in_tmp("walk"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_null(dir_next(&d));
	assert_int_equal(d.error, 0);
	close(d.fd);
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof(name), "walk/%0*d", i % 10 == 0 ? 240 : i % 3 ? 3 : 40, i);
		make_file(name, "", 0644);
	}
	make_file("walk/.hidden", "", 0644);
	d = (struct dir){.fd = open(in_tmp("walk"), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	while ((entry = dir_next(&d))) {
		n++;
		if (strcmp(entry->d_name, ".hidden") != 0) {
			int i = atoi(entry->d_name);

			assert_in_range(i, 0, ENTRIES - 1);
			assert_false(seen[i]);
			seen[i] = true;
		}
	}
	assert_int_equal(d.error, 0);
	assert_int_equal(n, ENTRIES + 1);
	close(d.fd);
	d = (struct dir){.fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
	assert_null(dir_next(&d));
	assert_int_equal(d.error, -ENOTDIR);
	close(d.fd);
}

static void files_replaced(void **state)
{
	char name[600], command[256];
	struct stat before, after;

	(void)state;
	make_file("f", "old", 0600);
	assert_int_equal(stat(in_tmp("f"), &before), 0);
	assert_int_equal(file_replace(in_tmp("f"), VIEW("new"), 0644), 0);
	assert_string_equal(file_text("f"), "new");
	assert_int_equal(stat(in_tmp("f"), &after), 0);
	assert_int_not_equal(before.st_ino, after.st_ino);
	/* A temporary file of a process that died, and a link somebody left, are in nobody's way. */
	snprintf(name, sizeof(name), "%s.%d", in_tmp("f"), (int)getpid());
	assert_int_equal(symlink("/etc/passwd", name), 0);
	assert_int_equal(file_replace(in_tmp("f"), VIEW("newer"), 0644), 0);
	assert_string_equal(file_text("f"), "newer");
	/* Nothing is left behind when it fails. */
	assert_int_equal(mkdir(in_tmp("d"), 0755), 0);
	assert_int_equal(mkdir(in_tmp("d/x"), 0755), 0);
	assert_true(file_replace(in_tmp("d"), VIEW("x"), 0644) < 0);
	assert_int_equal(file_replace(in_tmp("none/f"), VIEW("x"), 0644), -ENOENT);
	snprintf(command, sizeof(command), "test $(ls %s | grep -c '\\.[0-9]*$') = 0", tmp);
	assert_int_equal(system(command), 0);
	memset(name, 'n', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(file_replace(name, VIEW("x"), 0644), -ENAMETOOLONG);
}

static volatile unsigned int *interruptions; /* of write_all(), as both processes see them */

static void on_interruption(int sig)
{
	(void)sig;
	++*interruptions;
}

/* Interrupts the writer whenever it is blocked, twice between two reads: one write(2) has taken a part
 * by then, the next one nothing. Then reads all there is. */
static int read_and_interrupt(int fd, pid_t writer, struct view expected)
{
	static char got[1 << 20];
	size_t len = 0;
	ssize_t n = 1;

	for (unsigned int i = 0; i < 40 && n > 0; i++) {
		await_asleep(writer);
		kill(writer, SIGUSR2);
		while (*interruptions == i)
			usleep(1000); /* await_asleep() has set the alarm */
		if (i % 2) {
			await_asleep(writer);
			n = read(fd, got + len, 3 * 4096 + i);
			len += n > 0 ? (size_t)n : 0;
		}
	}
	while (n > 0 && (n = read(fd, got + len, len % 7000 + 1)) > 0)
		len += (size_t)n;
	return len != expected.len || memcmp(got, expected.at, len) != 0;
}

/* write(2) that takes a part only, and is interrupted, is gone on with. */
static void write_all_goes_on(void **state)
{
	static char content[1 << 20];
	const struct view all = {content, sizeof(content)};
	struct sigaction sa = {.sa_handler = on_interruption}, old;
	pid_t pid, writer = getpid();
	int fds[2], status;

	(void)state;
	interruptions = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(interruptions != MAP_FAILED);
	sigaction(SIGUSR2, &sa, &old);
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i >> 4);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[1]);
		_exit(read_and_interrupt(fds[0], writer, all));
	}
	close(fds[0]);
	assert_int_equal(write_all(fds[1], all), 0);
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(*interruptions, 40);
	sigaction(SIGUSR2, &old, NULL);
	munmap((void *)interruptions, 4096);
	assert_int_equal(write_all(-1, VIEW("x")), -EBADF);
	assert_int_equal(write_all(-1, (struct view){0}), 0);
}

static void fd_close_is_quiet(void **state)
{
	int fd = open("/dev/null", O_RDONLY), copy = fd, none = -1;

	(void)state;
	errno = EXDEV;
	fd_close(&fd);
	fd_close(&none);
	assert_int_equal(fd, -1);
	assert_int_equal(none, -1);
	assert_int_equal(errno, EXDEV);
	assert_true(fcntl(copy, F_GETFD) < 0);
	fd = copy; /* one that is closed already */
	errno = EXDEV;
	fd_close(&fd);
	assert_int_equal(errno, EXDEV);
}

static void pages_come_and_go(void **state)
{
	char *at = pages_get(10000);

	(void)state;
	assert_non_null(at);
	for (size_t i = 0; i < 10000; i++)
		assert_int_equal(at[i], 0);
	at[9999] = 'x';
	pages_put(at, 10000);
	pages_put(NULL, 10000);
	assert_null(pages_get(SIZE_MAX / 2));
}

static int kernel_page = PAGE;

/* In front of the C library's. */
int getpagesize(void)
{
	return kernel_page;
}

static bool all_are(const char *at, size_t len, char wanted)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != wanted)
			return false;
	return true;
}

/* A kernel with larger pages would take what lies around a smaller one, too. */
static void large_pages(void **state)
{
	char *all = pages_get(32 * PAGE);
	char *at = all + (16 * PAGE - (uintptr_t)all % (16 * PAGE));

	(void)state;
	kernel_page = 4 * PAGE;
	memset(at, 'x', 16 * PAGE);
	pages_forget(at + PAGE, 6 * PAGE);
	assert_true(all_are(at, 16 * PAGE, 'x'));
	pages_forget(at + PAGE, 8 * PAGE);
	assert_true(all_are(at, 4 * PAGE, 'x'));
	assert_true(all_are(at + 4 * PAGE, 4 * PAGE, '\0'));
	assert_true(all_are(at + 8 * PAGE, 8 * PAGE, 'x'));
	kernel_page = PAGE;
	pages_put(all, 32 * PAGE);
}

/* Whole pages within the range are zero again; what stands beside them is as it was. */
static void pages_forgotten(void **state)
{
	char *at = pages_get(4 * PAGE);

	(void)state;
	memset(at, 'x', 4 * PAGE);
	pages_forget(at + 1, 3 * PAGE - 1);
	for (size_t i = 0; i < 4 * PAGE; i++)
		assert_int_equal(at[i], i < PAGE || i >= 3 * PAGE ? 'x' : 0);
	memset(at, 'x', 4 * PAGE);
	pages_forget(at + 1, PAGE);
	pages_forget(at + PAGE, PAGE - 1);
	pages_forget(at, 0);
	for (size_t i = 0; i < 4 * PAGE; i++)
		assert_int_equal(at[i], 'x');
	pages_put(at, 4 * PAGE);
#ifndef __SANITIZE_ADDRESS__ /* see TABLE() */
	assert_int_equal((uintptr_t)&scratch % PAGE, 0);
#endif
}

/* ---- logging ---- */

/* What logf_() writes to fd 2 for this message. */
static const char *logged(enum log_level level, const char *message)
{
	static char line[4096];
	int saved = dup(STDERR_FILENO), fd = memfd_create("stderr", MFD_CLOEXEC);
	ssize_t n;

	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	logf_(level, "%s", message);
	n = pread(fd, line, sizeof(line) - 1, 0);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	close(fd);
	assert_true(n > 0);
	line[n] = '\0';
	return line;
}

/* time="2024-01-02T03:04:05.123456789Z" level=info msg="..."\n: returns what is behind msg=". */
static const char *check_prefix(const char *line, const char *level)
{
	static const char shape[] = "time=\"dddd-dd-ddTdd:dd:dd.dddddddddZ\" level=";
	size_t n = strlen(level);

	for (size_t i = 0; i < sizeof(shape) - 1; i++) {
		if (shape[i] == 'd')
			assert_in_range(line[i], '0', '9');
		else
			assert_int_equal(line[i], shape[i]);
	}
	line += sizeof(shape) - 1;
	assert_memory_equal(line, level, n);
	assert_memory_equal(line + n, " msg=\"", 6);
	return line + n + 6;
}

static void log_lines(void **state)
{
	static const char *const levels[] = {"debug", "info", "warning", "error"};
	struct timespec begin, end; /* time(2) may be a tick behind */
	struct tm tm = {0};
	const char *line;
	time_t stamp;

	(void)state;
	clock_gettime(CLOCK_REALTIME, &begin);
	for (unsigned int i = 0; i < COUNT(levels); i++)
		assert_string_equal(check_prefix(logged((enum log_level)i, "hello"), levels[i]),
				    "hello\"\n");
	line = logged(LOG_INFO, "a \"b\" \\ c\nd\x01 \xc3\xbc");
	assert_string_equal(check_prefix(line, "info"),
			    "a \\\"b\\\" \\\\ c\\u000ad\\u0001 \xc3\xbc\"\n");
	assert_non_null(strptime(line, "time=\"%Y-%m-%dT%H:%M:%S", &tm));
	stamp = timegm(&tm);
	clock_gettime(CLOCK_REALTIME, &end);
	assert_in_range(stamp, begin.tv_sec, end.tv_sec);
}

/* Every day for 150 years, each at another time. */
static void log_dates(void **state)
{
	(void)state;
	for (time_t day = 0; day < 54800; day++) {
		const struct timespec ts = {86400 * day + day * 7919 % 86400, day};
		char buf[64], wanted[64];
		struct text t = TEXT(buf);
		size_t n = strftime(wanted, sizeof(wanted), "%Y-%m-%dT%H:%M:%S",
				    gmtime(&ts.tv_sec));

		snprintf(wanted + n, sizeof(wanted) - n, ".%09ldZ\"", (long)day);
		add_time(&t, &ts);
		assert_string_equal(buf, wanted);
	}
}

static void log_debug_is_asked_for(void **state)
{
	int evaluated = 0;

	(void)state;
	log_debug = false;
	log_line(LOG_DEBUG, "%d", ++evaluated);
	assert_int_equal(evaluated, 0);
}

/* However long, it is one line, and its end can be found. */
static void log_lines_are_bounded(void **state)
{
	static char message[3000];

	(void)state;
	for (size_t len = 480; len < sizeof(message); len = len < 540 ? len + 1 : len * 2) {
		const char *text;

		memset(message, 'x', len);
		message[len] = '\0';
		text = check_prefix(logged(LOG_WARN, message), "warning");
		assert_true(strlen(text) >= 500 || strlen(text) == len + 2);
		assert_string_equal(text + strspn(text, "x"), "\"\n");
	}
}

static void log_lines_close_their_quotes(void **state)
{
	static const char *const kinds[] = {"\"", "\\", "\x01"};
	char message[600];

	(void)state;
	for (size_t kind = 0; kind < COUNT(kinds); kind++)
		for (size_t lead = 0; lead < 8; lead++) {
			const char *text;
			size_t n = 0;

			memset(message, 'x', lead);
			memset(message + lead, kinds[kind][0], sizeof(message) - lead - 1);
			message[sizeof(message) - 1] = '\0';
			text = check_prefix(logged(LOG_WARN, message), "warning");
			while (text[n] && text[n] != '"') {
				if (text[n] != '\\')
					n++;
				else
					n += text[n + 1] == 'u' ? 6 : 2;
				assert_true(n < strlen(text));
			}
			assert_string_equal(text + n, "\"\n");
		}
}

/* A reader that is gone or stuck costs the line, and nothing else. */
static void log_never_waits(void **state)
{
	int saved = dup(STDERR_FILENO), fds[2];
	char page[4096] = {0};

	(void)state;
	assert_int_equal(pipe(fds), 0);
	set_nonblocking(fds[1]);
	while (write(fds[1], page, sizeof(page)) > 0)
		;
	dup2(fds[1], STDERR_FILENO);
	logf_(LOG_WARN, "lost");
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[0]);
	close(fds[1]);
}

/* ---- digest ---- */

static void check_digest(const char *text, const char *digest)
{
	struct view v = exact_of(text);
	char hex[65];

	sha256_hex(v, hex);
	assert_string_equal(hex, digest);
	drop(v);
}

/* The examples of FIPS 180-4, and its long one. */
static void digest_known(void **state)
{
	char hex[65], *million = malloc(1000000);

	(void)state;
	check_digest("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_digest("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check_digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
		     "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
	memset(million, 'a', 1000000);
	sha256_hex((struct view){million, 1000000}, hex);
	assert_string_equal(hex,
			    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
	sha256_hex((struct view){0}, hex);
	assert_string_equal(hex,
			    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* Every length up to two blocks and a bit, of the bytes 7i + 3: the first digits of each digest, and
 * the digest of them all one behind the other. */
static void digest_every_length(void **state)
{
	static const char *const expected[131] = {
		"e3b0c442", "084fed08", "323b730f", "6ab0dba1", "42a146d9", "c0a7188b", "f3a8eb3d",
		"ab764db4", "0865c1be", "172f3d81", "aadd73eb", "74b55c9d", "756a3395", "da925975",
		"a6a744ad", "98b03249", "9c94926d", "bbc485bd", "4929dcd4", "e22bd9f6", "cb0b638f",
		"dd59e815", "7f5e1b73", "0c2227ce", "73281455", "fa9766ea", "5492dff8", "8876c611",
		"a6940de8", "52bbbbd7", "f1eab075", "721f1b54", "ab5f8b5c", "90f90857", "c2966908",
		"02825099", "a7aba4ca", "b11e919c", "afa3a9b2", "90663c41", "0873681b", "fe877131",
		"d9fcbc5f", "6c980fe8", "f990f6ed", "98ce1f7b", "736b0a4e", "9b6073af", "31cedec8",
		"5649348a", "9898428b", "75e248b3", "8230c270", "9f17a1b3", "160bbf14", "e7313d33",
		"4324d65f", "35df6094", "9afd9e8b", "3f67cd87", "06659a8b", "4a28a6c4", "5b50d7a3",
		"81c80242", "39e3d7b6", "aacca6ff", "11fdf003", "06e3cd2e", "c23b56cc", "ca32376f",
		"fb1907e5", "54cac605", "99e356ea", "64bee9b0", "3ebc4be4", "08182253", "65cf2b7b",
		"1f21d7fe", "87fa111c", "2a4808f9", "c6b3377d", "5876ebcb", "eb52f62b", "2f0795e2",
		"442975e0", "b690f6f0", "b876ad02", "ff4ec8cd", "b16ffce5", "bb743aa1", "4d39e6ae",
		"85373e64", "f8368d09", "4d0d2d32", "5028666b", "3a23c913", "c9f1a5f7", "9b5d6632",
		"af680818", "5e4edd84", "5a2cda23", "48719cf7", "9f0fc4c3", "9313cf73", "5af877de",
		"af7d44bc", "0e993486", "9dfada1b", "e0cfd9f0", "6a9c24a9", "4a70b5e2", "67d9492e",
		"96b928cf", "cded73ee", "5155ce16", "c2030f07", "556cbf34", "867b3263", "2c49b89c",
		"9ce7368e", "7836b787", "1189a98a", "60937afb", "229c92a5", "2f781a36", "b402a31c",
		"3d11be99", "a8d23e75", "d2742f1f", "307f8fc2", "4d5e47a2",
	};
	static char all[131 * 64];
	unsigned char bytes[131];
	char hex[65];

	(void)state;
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(7 * i + 3);
	for (size_t len = 0; len < COUNT(expected); len++) {
		struct view v = exact(bytes, len);

		sha256_hex(v, hex);
		drop(v);
		assert_memory_equal(hex, expected[len], 8);
		assert_int_equal(strlen(hex), 64);
		memcpy(all + 64 * len, hex, 64);
	}
	sha256_hex((struct view){all, sizeof(all)}, hex);
	assert_string_equal(hex,
			    "d2742658eeae2e342e618f39ae52ef451168b58f37f0932d49a52eda7f546706");
}

/* ---- protobuf ---- */

static void fields_walked(void **state)
{
	char buf[256];
	size_t n = 0;
	struct view msg, rest, value;

	(void)state;
	n += put_bytes(buf + n, 1, VIEW("one"));
	n += put_number(buf + n, 3, 300);
	n += put_bytes(buf + n, 3, VIEW("a"));
	buf[n++] = 7 << 3 | 5; /* fixed32 */
	memcpy(buf + n, "\1\2\3\4", 4);
	n += 4;
	buf[n++] = 8 << 3 | 1; /* fixed64 */
	memcpy(buf + n, "\1\2\3\4\5\6\7\10", 8);
	n += 8;
	n += put_bytes(buf + n, 3, (struct view){0});
	n += put_bytes(buf + n, 1000, VIEW("far"));
	n += put_bytes(buf + n, 3, VIEW("bc"));
	msg = rest = exact(buf, n);
	assert_true(field_next(&rest, 3, &value));
	assert_view(value, "a");
	assert_true(value.at > msg.at && value.at < msg.at + msg.len);
	assert_true(field_next(&rest, 3, &value));
	assert_view(value, "");
	assert_true(field_next(&rest, 3, &value));
	assert_view(value, "bc");
	assert_int_equal(rest.len, 0);
	assert_false(field_next(&rest, 3, &value));
	assert_false(field_next(&rest, 3, &value));
	rest = msg;
	assert_true(field_next(&rest, 1000, &value));
	assert_view(value, "far");
	rest = msg;
	assert_false(field_next(&rest, 2, &value));
	drop(msg);
	rest = (struct view){0};
	assert_false(field_next(&rest, 1, &value));
}

/* However it is cut: what is handed out lies within what was given. */
static void fields_cut(void **state)
{
	char buf[256];
	size_t n = 0;

	(void)state;
	n += put_number(buf + n, 9, 1);
	n += put_bytes(buf + n, 3, VIEW("abc"));
	n += put_bytes(buf + n, 300, VIEW("defg"));
	n += put_bytes(buf + n, 3, VIEW("h"));
	for (size_t len = 0; len <= n; len++) {
		struct view msg = exact(buf, len), rest = msg, value = {0};
		unsigned int found = 0;

		while (field_next(&rest, 3, &value)) {
			assert_true(value.at >= msg.at && value.at + value.len <= msg.at + msg.len);
			found++;
		}
		assert_int_equal(found, (len >= 7) + (len == n));
		assert_int_equal(rest.len, 0);
		drop(msg);
	}
	/* A length no message has. */
	{
		struct view rest = VIEW("\x1a\xff\xff\xff\xff\x0f"), value = {0};

		assert_false(field_next(&rest, 3, &value));
	}
}

static void request_decoded(void **state)
{
	char buf[512];
	size_t n = 0;
	struct view msg;
	Request rq = {0};

	(void)state;
	n += put_bytes(buf + n, 1, VIEW("service"));
	n += put_bytes(buf + n, 2, VIEW("method"));
	n += put_bytes(buf + n, 3, VIEW("\x00\xff\xfe"));
	n += put_number(buf + n, 4, 5000000000);
	n += put_bytes(buf + n, 5, VIEW("\x0a\x01k\x12\x01v"));
	n += put_bytes(buf + n, 77, VIEW("from the future"));
	msg = exact(buf, n);
	assert_true(msg_decode(msg, &Request_msg, &rq));
	assert_view(rq.service, "service");
	assert_view(rq.method, "method");
	assert_int_equal(rq.payload.len, 3);
	assert_memory_equal(rq.payload.at, "\x00\xff\xfe", 3);
	assert_true(rq.payload.at > msg.at && rq.payload.at < msg.at + msg.len);
	assert_int_equal(rq.timeout_nano, 5000000000);
	drop(msg);
	/* Nothing is a message of defaults. */
	rq = (Request){0};
	assert_true(msg_decode((struct view){0}, &Request_msg, &rq));
	assert_int_equal(rq.service.len + rq.method.len + rq.payload.len, 0);
	/* A negative int64 takes ten bytes. */
	n = put_number(buf, 4, (uint64_t)-5);
	assert_int_equal(n, 11);
	rq = (Request){0};
	assert_true(msg_decode((struct view){buf, n}, &Request_msg, &rq));
	assert_int_equal(rq.timeout_nano, -5);
	/* The last of two counts. */
	n = put_bytes(buf, 1, VIEW("first"));
	n += put_bytes(buf + n, 1, VIEW("last"));
	rq = (Request){0};
	assert_true(msg_decode((struct view){buf, n}, &Request_msg, &rq));
	assert_view(rq.service, "last");
}

static void malformed_refused(void **state)
{
	static const struct view bad[] = {
		{"\x0a", 1}, /* a tag, and nothing */
		{"\x0a\x05"  /* five bytes, of which are three */
		 "abc",
		 5},
		{"\x0a\xff\xff\xff\xff\x0f", 6},                          /* 4 GiB */
		{"\x80", 1},                                              /* half a tag */
		{"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* eleven digits */
		{"\x0f", 1},                                              /* wire type 7 */
		{"\x00\x01", 2},                                          /* field 0 */
		{"\x0a\x02\xc3\x28", 4},                                  /* text that is none */
		{"\x0a\x03\xed\xa0\x80", 5},                              /* a surrogate in it */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct view msg = exact(bad[i].at, bad[i].len);
		Request rq = {0};

		if (msg_decode(msg, &Request_msg, &rq))
			print_error("case %zu was taken\n", i);
		assert_false(msg_decode(msg, &Request_msg, &rq));
		drop(msg);
	}
}

/* Cut anywhere, every view that comes out lies within what was given. */
static void requests_cut(void **state)
{
	char buf[512];
	size_t n = 0;

	(void)state;
	n += put_bytes(buf + n, 1, VIEW("id"));
	n += put_bytes(buf + n, 2, VIEW("/bundle"));
	n += put_bytes(buf + n, 3,
		       VIEW("\x0a\x04"
			    "bind\x22\x02rw"));
	n += put_bytes(buf + n, 5, VIEW("/in"));
	n += put_bytes(buf + n, 10,
		       VIEW("\x0a\x03"
			    "url\x12\x05value"));
	for (size_t len = 0; len <= n; len++) {
		struct view msg = exact(buf, len);
		CreateTaskRequest rq = {0};
		const struct view *views[] = {&rq.id,           &rq.bundle,
					      &rq.stdin_path,   &rq.stdout_path,
					      &rq.stderr_path,  &rq.options.type_url,
					      &rq.options.value};

		if (msg_decode(msg, &CreateTaskRequest_msg, &rq) && len == n)
			assert_view(rq.options.value, "value");
		for (size_t i = 0; i < COUNT(views); i++)
			if (views[i]->len > 0)
				assert_true(views[i]->at >= msg.at &&
					    views[i]->at + views[i]->len <= msg.at + msg.len);
		drop(msg);
	}
}

/* A text field that comes as a number, or as four or eight bytes: whatever is made of it, it may not
 * be a view into a decoder's local variable. */
static void wrong_wire_types(void **state)
{
	static const struct view messages[] = {
		{"\x08\xac\x02", 3},
		{"\x0d\x01\x02\x03\x04", 5},
		{"\x09\x01\x02\x03\x04\x05\x06\x07\x08", 9},
		{"\x18\x7f", 2}, /* bytes as a number */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(messages); i++) {
		struct view msg = exact(messages[i].at, messages[i].len);
		Request rq = {0};
		const struct view *views[] = {&rq.service, &rq.method, &rq.payload};

		if (msg_decode(msg, &Request_msg, &rq))
			for (size_t k = 0; k < COUNT(views); k++)
				assert_true(views[k]->len == 0 ||
					    (views[k]->at >= msg.at &&
					     views[k]->at + views[k]->len <= msg.at + msg.len));
		drop(msg);
	}
}

static size_t encode(char *buf, size_t cap, const pb_msgdesc_t *desc, const void *msg)
{
	pb_ostream_t out = pb_ostream_from_buffer((pb_byte_t *)buf, cap);
	size_t size;

	assert_true(pb_get_encoded_size(&size, desc, msg));
	assert_true(pb_encode(&out, desc, msg));
	assert_int_equal(size, out.bytes_written);
	return size;
}

static void views_there_and_back(void **state)
{
	char buf[4096];
	StateResponse r = {.id = VIEW("id"),
			   .bundle = VIEW("/b\xc3\xbcndle"),
			   .pid = 4294967295,
			   .status = TaskStatus_PAUSED,
			   .stdout_path = VIEW("/out"),
			   .terminal = true,
			   .exit_status = 137,
			   .has_exited_at = true,
			   .exited_at = {SENTINEL_SECONDS, 999999999}},
		      back = {0};
	struct view msg;

	(void)state;
	msg = exact(buf, encode(buf, sizeof(buf), &StateResponse_msg, &r));
	assert_true(msg_decode(msg, &StateResponse_msg, &back));
	assert_view(back.id, "id");
	assert_view(back.bundle, "/b\xc3\xbcndle");
	assert_int_equal(back.pid, 4294967295);
	assert_int_equal(back.status, TaskStatus_PAUSED);
	assert_int_equal(back.stdin_path.len, 0);
	assert_view(back.stdout_path, "/out");
	assert_true(back.terminal);
	assert_int_equal(back.exit_status, 137);
	assert_true(back.has_exited_at);
	assert_int_equal(back.exited_at.seconds, SENTINEL_SECONDS);
	assert_int_equal(back.exited_at.nanos, 999999999);
	drop(msg);
	/* Empty views cost no byte. */
	r = (StateResponse){0};
	assert_int_equal(encode(buf, sizeof(buf), &StateResponse_msg, &r), 0);
}

/* A repeated field's view is written as it is, tags and all; read, it is passed over. */
static void repeated_views(void **state)
{
	char list[64], buf[128];
	size_t n = put_bytes(list, 1, VIEW("\x08\x05"));
	PidsResponse r = {0}, back = {0};
	struct view rest, value;

	(void)state;
	n += put_bytes(list + n, 1, VIEW("\x08\x06"));
	r.processes = (struct view){list, n};
	assert_int_equal(encode(buf, sizeof(buf), &PidsResponse_msg, &r), n);
	assert_memory_equal(buf, list, n);
	assert_true(msg_decode((struct view){buf, n}, &PidsResponse_msg, &back));
	assert_int_equal(back.processes.len, 0);
	rest = (struct view){buf, n};
	assert_true(field_next(&rest, PidsResponse_processes_tag, &value));
	assert_int_equal(get_number(value, 1, 0), 5);
	assert_true(field_next(&rest, PidsResponse_processes_tag, &value));
	assert_int_equal(get_number(value, 1, 0), 6);
	assert_false(field_next(&rest, PidsResponse_processes_tag, &value));
}

static void nested_messages(void **state)
{
	char buf[512];
	ConnectResponse connect = {.shim_pid = 7, .task_pid = 300};
	Response r = {.payload = {&ConnectResponse_msg, &connect}}, back = {0};
	TaskExit exit = {.container_id = VIEW("c"), .id = VIEW("x"), .pid = 5};
	EventAny any = {VIEW("containerd.events.TaskExit"), {&TaskExit_msg, &exit}};
	size_t n;

	(void)state;
	n = encode(buf, sizeof(buf), &Response_msg, &r);
	assert_int_equal(get_number(get_bytes((struct view){buf, n}, 2), 1, 0), 7);
	assert_int_equal(get_number(get_bytes((struct view){buf, n}, 2), 2, 0), 300);
	assert_true(msg_decode((struct view){buf, n}, &Response_msg, &back));
	assert_null(back.payload.desc);
	/* None at all: not a byte. */
	r = (Response){0};
	assert_int_equal(encode(buf, sizeof(buf), &Response_msg, &r), 0);
	/* One of defaults is there, and empty. */
	connect = (ConnectResponse){0};
	r = (Response){.payload = {&ConnectResponse_msg, &connect}};
	n = encode(buf, sizeof(buf), &Response_msg, &r);
	assert_int_equal(n, 2);
	assert_memory_equal(buf, "\x12\x00", 2);
	n = encode(buf, sizeof(buf), &EventAny_msg, &any);
	assert_view(get_bytes((struct view){buf, n}, 1), "containerd.events.TaskExit");
	assert_view(get_bytes(get_bytes((struct view){buf, n}, 2), 2), "x");
}

static void encoding_stops_at_the_end(void **state)
{
	char buf[64];
	StartResponse start = {.pid = 70000};
	Response r = {.status = {3, VIEW("some text")},
		      .has_status = true,
		      .payload = {&StartResponse_msg, &start}};
	size_t n = encode(buf, sizeof(buf), &Response_msg, &r);

	(void)state;
	for (size_t cap = 0; cap < n; cap++) {
		struct view small = exact(buf, cap);
		pb_ostream_t out = pb_ostream_from_buffer((pb_byte_t *)small.at, cap);

		assert_false(pb_encode(&out, &Response_msg, &r));
		assert_true(out.bytes_written <= cap);
		drop(small);
	}
}

/* ---- characters of several bytes ---- */

/* Whatever the length at which a text is cut, no part of a character is left. */
static void texts_cut_between_characters(void **state)
{
	static const char text[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x99\x82z";
	static const size_t ends[] = {0, 1, 3, 6, 10, 11};

	(void)state;
	for (size_t cap = 1; cap <= sizeof(text); cap++) {
		char *buf = malloc(cap);
		struct text t = {.at = buf, .cap = cap};
		size_t end = 0;

		while (end + 1 < COUNT(ends) && ends[end + 1] < cap)
			end++;
		text_add(&t, VIEW(text));
		assert_int_equal(t.len, ends[end]);
		assert_memory_equal(buf, text, t.len);
		assert_int_equal(t.cut, cap < sizeof(text));
		free(buf);
	}
}

static void on_signal_once(int sig)
{
	(void)sig;
}

/* The signal comes while nothing has been written yet. */
static void write_all_begins_anew(void **state)
{
	static char full[1 << 17];
	struct sigaction sa = {.sa_handler = on_signal_once};
	int fds[2], status;
	ssize_t filled;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	set_nonblocking(fds[1]);
	filled = write(fds[1], full, sizeof(full));
	assert_true(filled > 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) & ~O_NONBLOCK), 0);
	sigaction(SIGUSR1, &sa, NULL);
	pid = fork();
	if (pid == 0) {
		char path[64], state_of[512];
		bool sleeps = false;

		/* As soon as it sleeps in write(2): the signal, a while later twice more, then room. */
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)getppid());
		for (int i = 0; i < 3; i++) {
			do {
				nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
				sleeps = file_read(path, state_of, sizeof(state_of)) > 0 &&
					 strstr(state_of, ") S ");
			} while (!sleeps);
			kill(getppid(), SIGUSR1);
		}
		nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
		while (filled > 0) {
			ssize_t n = read(fds[0], full, (size_t)filled);

			if (n <= 0)
				_exit(1);
			filled -= n;
		}
		_exit(read(fds[0], full, 4) != 4 || memcmp(full, "more", 4) != 0);
	}
	assert_int_equal(write_all(fds[1], VIEW("more")), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	signal(SIGUSR1, SIG_DFL);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(view_of_nothing),
		cmocka_unit_test(view_comparisons),
		cmocka_unit_test(view_trims),
		cmocka_unit_test(view_cuts),
		cmocka_unit_test(view_ints),
		cmocka_unit_test(utf8_all_short),
		cmocka_unit_test(utf8_known),
		cmocka_unit_test(text_limits),
		cmocka_unit_test(text_printf_limits),
		cmocka_unit_test(text_behind_the_end),
		cmocka_unit_test(formats),
		cmocka_unit_test(format_of_negatives_filled_up),
		cmocka_unit_test(format_of_nothing),
		cmocka_unit_test(text_macro_empties),
		cmocka_unit_test(text_json_escapes),
		cmocka_unit_test(errno_in_gos_words),
		cmocka_unit_test(files_read),
		cmocka_unit_test(files_in_pages),
		cmocka_unit_test(files_written),
		cmocka_unit_test(files_appended_to),
		cmocka_unit_test(directories_walked),
		cmocka_unit_test(files_replaced),
		cmocka_unit_test(write_all_goes_on),
		cmocka_unit_test(fd_close_is_quiet),
		cmocka_unit_test(pages_come_and_go),
		cmocka_unit_test(large_pages),
		cmocka_unit_test(pages_forgotten),
		cmocka_unit_test(log_lines),
		cmocka_unit_test(log_dates),
		cmocka_unit_test(log_debug_is_asked_for),
		cmocka_unit_test(log_lines_are_bounded),
		cmocka_unit_test(log_lines_close_their_quotes),
		cmocka_unit_test(log_never_waits),
		cmocka_unit_test(digest_known),
		cmocka_unit_test(digest_every_length),
		cmocka_unit_test(fields_walked),
		cmocka_unit_test(fields_cut),
		cmocka_unit_test(request_decoded),
		cmocka_unit_test(malformed_refused),
		cmocka_unit_test(requests_cut),
		cmocka_unit_test(wrong_wire_types),
		cmocka_unit_test(views_there_and_back),
		cmocka_unit_test(repeated_views),
		cmocka_unit_test(nested_messages),
		cmocka_unit_test(encoding_stops_at_the_end),
		cmocka_unit_test(texts_cut_between_characters),
		cmocka_unit_test(write_all_begins_anew),
	};

	return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
