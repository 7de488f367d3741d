// SPDX-License-Identifier: Apache-2.0
/*
 * io.c's tests: pipes, FIFOs, files, logging binaries and terminals, with the container at one end
 * and the client at the other, both played by the test.
 */
#define UNIT_CLOCK
#include "unit.h"

#include <sys/ioctl.h>
#include <termios.h>

static struct io io;
static struct stdio names;
static char paths[STREAMS][256], why_buf[1024];
static struct text why;
static unsigned int fds_before;
static int client[STREAMS], container[STREAMS]; /* their ends */

static int setup(void **state)
{
	int err = tmp_make(state);

	now = clock_ms();
	self.namespace = "ns";
	snprintf(self.socket_dir, sizeof(self.socket_dir), "%s", tmp);
	fds_before = open_fds();
	io_init(&io);
	names = (struct stdio){{"", "", ""}, 0, 0, false};
	why = TEXT(why_buf);
	for (int i = 0; i < STREAMS; i++)
		client[i] = container[i] = -1;
	return err;
}

static int teardown(void **state)
{
	for (int i = 0; i < STREAMS; i++) {
		fd_close(&client[i]);
		fd_close(&container[i]);
	}
	io_close(&io);
	while (waitpid(-1, NULL, 0) > 0)
		;
	assert_int_equal(open_fds(), fds_before); /* whatever happened, nothing is left open */
	return tmp_remove(state);
}

static const char *name_stream(int stream, const char *name)
{
	snprintf(paths[stream], sizeof(paths[0]), "%s/%s", tmp, name);
	names.path[stream] = paths[stream];
	return paths[stream];
}

static void name_fifo(int stream, const char *name)
{
	assert_int_equal(mkfifo(name_stream(stream, name), 0600), 0);
}

/* Makes the container's ends, and hands them over as a runtime would get them. */
static void make(void)
{
	assert_int_equal(io_make(&io, &names, "the-id", &why), 0);
	for (int i = 0; i < STREAMS; i++)
		if (io.ends[i] >= 0)
			container[i] = fcntl(io.ends[i], F_DUPFD_CLOEXEC, 0);
	io_started(&io);
}

static void client_comes(int stream)
{
	client[stream] = open(names.path[stream],
			      (stream == STREAM_IN ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
	assert_true(client[stream] >= 0);
}

/* Turns of the loop, until nothing is ready any more. How many there were; one that never ends fails. */
static unsigned int settle(void)
{
	for (unsigned int turns = 0; turns < 5000; turns++) {
		bool any = false;
		struct ref ref;

		io_want(&io, 7);
		loop_timer(0);
		loop_wait();
		while (loop_next(&ref)) {
			any = true;
			assert_int_equal(ref.slot, 7);
			if (ref.kind == REF_PUMP)
				io_pump(&io, ref.part);
			else
				io_logger(&io);
		}
		if (!any)
			return turns;
	}
	fail_msg("it spins\n");
	return 0;
}

static void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* What can be read there now: "EOF" at the end, "" if there is nothing. */
static const char *heard(int fd)
{
	static char buf[1 << 17];
	ssize_t n = 0, len = 0;

	set_nonblocking(fd);
	while (len < (ssize_t)sizeof(buf) - 1 &&
	       (n = read(fd, buf + len, sizeof(buf) - 1 - (size_t)len)) > 0)
		len += n;
	buf[len] = '\0';
	return len == 0 && n == 0 ? "EOF" : buf;
}

/* ---- outputs ---- */

static void nothing_named(void **state)
{
	(void)state;
	make();
	for (int i = 0; i < STREAMS; i++)
		assert_int_equal(container[i], -1);
	assert_int_equal(io_ready(&io, &why), 0);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	assert_true(io_drained(&io));
	assert_int_equal(settle(), 0);
	io_close_stdin(&io);
	names.path[0] = names.path[1] = names.path[2] = NULL; /* is the same */
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(why.len, 0);
}

static void output_to_fifos(void **state)
{
	(void)state;
	name_fifo(STREAM_OUT, "out");
	name_fifo(STREAM_ERR, "err");
	make();
	client_comes(STREAM_OUT);
	client_comes(STREAM_ERR);
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "to out");
	say(container[STREAM_ERR], "to err");
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "to out");
	assert_string_equal(heard(client[STREAM_ERR]), "to err");
	assert_string_equal(heard(client[STREAM_OUT]), "");
	say(container[STREAM_OUT], "last words");
	fd_close(&container[STREAM_OUT]);
	settle();
	/* The end comes at once, not when the container is deleted: clients wait for it. */
	assert_string_equal(heard(client[STREAM_OUT]), "last words");
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	assert_false(io_drained(&io));
	assert_string_equal(heard(client[STREAM_ERR]), "");
	fd_close(&container[STREAM_ERR]);
	settle();
	assert_string_equal(heard(client[STREAM_ERR]), "EOF");
	assert_true(io_drained(&io));
	assert_int_equal(io_open(&io, &names, &why), 0); /* it is over, and not opened anew */
	assert_true(io_drained(&io));
}

/* Several hold the container's end: its end is when the last one goes. */
static void output_of_several(void **state)
{
	int other;

	(void)state;
	name_fifo(STREAM_OUT, "out");
	make();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	other = dup(container[STREAM_OUT]);
	fd_close(&container[STREAM_OUT]);
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "");
	say(other, "still here");
	close(other);
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "still here");
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
}

/* Nothing flows, and nothing is lost, before somebody reads. */
static void late_reader(void **state)
{
	(void)state;
	name_fifo(STREAM_OUT, "out");
	name_fifo(STREAM_ERR, "err");
	make();
	say(container[STREAM_OUT], "early");
	say(container[STREAM_ERR], "error");
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	for (int i = 0; i < 3; i++) {
		why = TEXT(why_buf);
		assert_int_equal(io_open(&io, &names, &why), -EAGAIN);
		settle();
	}
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), -EAGAIN); /* the other one is to come yet */
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "early");
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	client_comes(STREAM_ERR);
	assert_int_equal(io_open(&io, &names, &why), 0);
	settle();
	assert_string_equal(heard(client[STREAM_ERR]), "error");
	assert_string_equal(heard(client[STREAM_ERR]), "EOF");
	assert_true(io_drained(&io));
}

/* A client that goes: what is written waits for the next one. */
static void reader_goes_and_comes(void **state)
{
	(void)state;
	name_fifo(STREAM_OUT, "out");
	make();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "one ");
	settle();
	fd_close(&client[STREAM_OUT]);
	say(container[STREAM_OUT], "two ");
	settle();
	say(container[STREAM_OUT], "three");
	settle();
	client_comes(STREAM_OUT);
	assert_string_equal(heard(client[STREAM_OUT]), "one two three");
	assert_string_equal(heard(client[STREAM_OUT]), "");
}

/* Fills a container's stream to the brim: how much went into it. */
static size_t fill(int fd, char first)
{
	char page[4096];
	size_t len = 0;
	ssize_t n;

	set_nonblocking(fd);
	do {
		for (size_t i = 0; i < sizeof(page); i++)
			page[i] = (char)(first + (len + i) % 26);
		n = write(fd, page, sizeof(page));
		len += n > 0 ? (size_t)n : 0;
		settle();
	} while (n > 0);
	return len;
}

static size_t check_filled(const char *text, size_t at, char first)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if (text[i] != (char)(first + (at + i) % 26))
			fail_msg("byte %zu is wrong\n", at + i);
	return at + n;
}

/* A reader that sleeps stops the container's writer, and nothing else. */
static void stuck_reader(void **state)
{
	size_t len, seen = 0;

	(void)state;
	name_fifo(STREAM_OUT, "out");
	name_fifo(STREAM_ERR, "err");
	make();
	client_comes(STREAM_OUT);
	client_comes(STREAM_ERR);
	assert_int_equal(io_open(&io, &names, &why), 0);
	len = fill(container[STREAM_OUT], 'A');
	assert_true(len >= 2 * 65536);
	assert_true(io.pumps[STREAM_OUT].blocked);
	assert_int_equal(settle(), 0); /* nobody is busy with it */
	for (int i = 0; i < 5; i++) {
		say(container[STREAM_ERR], "still alive");
		settle();
		assert_string_equal(heard(client[STREAM_ERR]), "still alive");
	}
	/* The end of the input alone is no reason to drop what is still to go out. */
	fd_close(&container[STREAM_OUT]);
	assert_int_equal(settle(), 0);
	while (seen < len) {
		seen = check_filled(heard(client[STREAM_OUT]), seen, 'A');
		settle();
	}
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	assert_false(io.pumps[STREAM_OUT].open);
}

/* All of it arrives, in order, with a reader that takes a little now and then. */
static void much_output(void **state)
{
	enum { TOTAL = 3 << 20 };
	static char out[TOTAL], in[TOTAL + 1];
	size_t sent = 0, got = 0;
	uint32_t random = 1;

	(void)state;
	for (size_t i = 0; i < TOTAL; i++)
		out[i] = (char)(i * 7 >> 3);
	name_fifo(STREAM_OUT, "out");
	make();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	set_nonblocking(container[STREAM_OUT]);
	while (got < TOTAL) {
		ssize_t n;

		random = random * 1103515245 + 12345;
		if (sent < TOTAL) {
			size_t want = (random >> 8) % 20000 + 1;

			n = write(container[STREAM_OUT], out + sent,
				  want < TOTAL - sent ? want : TOTAL - sent);
			sent += n > 0 ? (size_t)n : 0;
		} else {
			fd_close(&container[STREAM_OUT]);
		}
		settle();
		n = read(client[STREAM_OUT], in + got, (random >> 4) % 25000);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(in, out, TOTAL);
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	assert_true(io_drained(&io));
}

/* ---- files ---- */

static void output_to_file(void **state)
{
	(void)state;
	make_file("log", "before\n", 0644);
	name_stream(STREAM_OUT, "log");
	name_stream(STREAM_ERR, "log"); /* both in one, as some do */
	make();
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "one\n");
	settle();
	say(container[STREAM_ERR], "two\n");
	settle();
	{
		int fd = open(in_tmp("log"), O_WRONLY | O_APPEND); /* somebody else's line */

		say(fd, "three\n");
		close(fd);
	}
	say(container[STREAM_OUT], "four\n");
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	settle();
	assert_string_equal(file_text("log"), "before\none\ntwo\nthree\nfour\n");
	assert_true(io_drained(&io));
}

/* A disk that is full: the container is not stopped by it. */
static void output_to_full_disk(void **state)
{
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);

	(void)state;
	names.path[STREAM_OUT] = "/dev/full";
	make();
	assert_int_equal(io_open(&io, &names, &why), 0);
	dup2(null, STDERR_FILENO);
	for (int i = 0; i < 50; i++) {
		char page[4096] = {0};

		assert_int_equal(write(container[STREAM_OUT], page, sizeof(page)), sizeof(page));
		settle();
	}
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(null);
	assert_false(io_drained(&io));
	fd_close(&container[STREAM_OUT]);
	settle();
	assert_true(io_drained(&io));
}

/* The container's end cannot be read for a while: nobody spins, its writer is not killed, and all
 * it wrote comes. */
static void output_unreadable(void **state)
{
	int from, spare, bad = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *const words[] = {"one ", "two ", "three"};

	(void)state;
	name_fifo(STREAM_OUT, "out");
	make();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	from = io.pumps[STREAM_OUT].from;
	spare = fcntl(from, F_DUPFD_CLOEXEC, 0);
	for (int i = 0; i < 3; i++) {
		say(container[STREAM_OUT], words[i]);
		assert_int_equal(dup3(bad, from, O_CLOEXEC), from); /* read: EISDIR */
		assert_int_equal(settle(), 1);
		assert_int_equal(settle(), 0);
		assert_false(io_drained(&io));
		assert_int_equal(dup3(spare, from, O_CLOEXEC), from);
		advance(1100);
		if (i < 2)
			settle();
	}
	fd_close(&spare);
	fd_close(&bad);
	fd_close(&container[STREAM_OUT]);
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "one two three");
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	assert_true(io_drained(&io));
}

static void output_to_nowhere(void **state)
{
	(void)state;
	names.path[STREAM_OUT] = "/dev/null";
	make();
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "text");
	settle();
	fd_close(&container[STREAM_OUT]);
	settle();
	assert_true(io_drained(&io));
}

static void assert_why(const char *fmt, const char *path)
{
	char expected[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(expected, sizeof(expected), fmt, path, path);
#pragma GCC diagnostic pop
	assert_string_equal(why_buf, expected);
	why = TEXT(why_buf);
}

static void clients_ends_missing(void **state)
{
	(void)state;
	name_stream(STREAM_OUT, "none");
	make();
	assert_int_equal(io_open(&io, &names, &why), -ENOENT);
	assert_why("failed to start io pipe copy: unable to copy pipes: containerd-shim: opening "
		   "file \"%s\" "
		   "failed: open %s: no such file or directory",
		   paths[STREAM_OUT]);
	fd_close(&container[STREAM_OUT]);
	io_close(&io);
	io_init(&io);
	names.path[STREAM_OUT] = tmp; /* a directory */
	make();
	assert_int_equal(io_open(&io, &names, &why), -EISDIR);
	fd_close(&container[STREAM_OUT]);
	io_close(&io);
	io_init(&io);
	why = TEXT(why_buf);
	names.path[STREAM_OUT] = "";
	name_stream(STREAM_IN, "none");
	make();
	assert_int_equal(io_open(&io, &names, &why), -ENOENT);
	assert_why("failed to open stdin fifo %s: no such file or directory", paths[STREAM_IN]);
	assert_int_equal(io_open_stdin(&io, &names, &why), -ENOENT);
}

static void file_urls(void **state)
{
	char url[300];

	(void)state;
	snprintf(url, sizeof(url), "file://%s/a/b%%20c/log%%41?x=y", tmp);
	names.path[STREAM_OUT] = url;
	make();
	assert_true(container[STREAM_OUT] >= 0 &&
		    container[STREAM_ERR] >= 0); /* both, whatever stderr is */
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "out\n");
	settle();
	say(container[STREAM_ERR], "err\n");
	settle();
	assert_string_equal(file_text("a/b c/logA"), "out\nerr\n");
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	settle();
	assert_true(io_drained(&io));
	io_close(&io);
	io_init(&io);
	make(); /* again: it is appended to */
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "again\n");
	settle();
	assert_string_equal(file_text("a/b c/logA"), "out\nerr\nagain\n");
}

static void file_url_refused(void **state)
{
	char url[300];

	(void)state;
	make_file("file", "", 0644);
	snprintf(url, sizeof(url), "file://%s/file/log", tmp);
	names.path[STREAM_OUT] = url;
	make();
	assert_int_equal(io_open(&io, &names, &why), -ENOTDIR);
	assert_why("open %s/file/log: not a directory", tmp);
}

static void schemes(void **state)
{
	static const char *const unknown[] = {"http://host/x", "x:y", "BINARY:///x", "file2:///x",
					      "binary-v3:///x"};

	(void)state;
	for (size_t i = 0; i < COUNT(unknown); i++) {
		char expected[128];

		names.path[STREAM_OUT] = unknown[i];
		why = TEXT(why_buf);
		assert_int_equal(io_make(&io, &names, "id", &why), -EINVAL);
		snprintf(expected, sizeof(expected), "unknown STDIO scheme %.*s",
			 (int)strcspn(unknown[i], ":"), unknown[i]);
		assert_string_equal(why_buf, expected);
	}
	/* A colon in a path is none; nor does stderr's scheme count. */
	name_stream(STREAM_OUT, "a:b");
	make_file("a:b", "", 0644);
	names.path[STREAM_ERR] = "";
	why = TEXT(why_buf);
	make();
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(container[STREAM_OUT], "text");
	settle();
	assert_string_equal(file_text("a:b"), "text");
}

static void owners(void **state)
{
	struct stat st;

	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	name_fifo(STREAM_ERR, "err");
	names.uid = 1234;
	names.gid = 5678;
	if (geteuid() != 0) {
		assert_int_equal(io_make(&io, &names, "id", &why), -EPERM);
		assert_string_equal(why_buf, "fchown to 1234:5678: operation not permitted");
		return;
	}
	make();
	for (int i = 0; i < STREAMS; i++) {
		assert_int_equal(fstat(container[i], &st), 0);
		assert_int_equal(st.st_uid, 1234);
		assert_int_equal(st.st_gid, 5678);
		/* The container's end blocks: a program expects that. */
		assert_int_equal(fcntl(container[i], F_GETFL) & O_NONBLOCK, 0);
	}
}

/* ---- input ---- */

static void open_input(void)
{
	name_fifo(STREAM_IN, "in");
	make();
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
}

/* A client that goes does not end the container's input; CloseIO does, when all have gone. */
static void input(void **state)
{
	(void)state;
	open_input();
	client_comes(STREAM_IN);
	say(client[STREAM_IN], "one ");
	settle();
	assert_string_equal(heard(container[STREAM_IN]), "one ");
	fd_close(&client[STREAM_IN]);
	settle();
	assert_string_equal(heard(container[STREAM_IN]), "");
	client_comes(STREAM_IN);
	say(client[STREAM_IN], "two");
	settle();
	assert_string_equal(heard(container[STREAM_IN]), "two");
	io_close_stdin(&io);
	say(client[STREAM_IN], " and three");
	settle();
	assert_string_equal(heard(container[STREAM_IN]), " and three");
	assert_string_equal(heard(container[STREAM_IN]), "");
	fd_close(&client[STREAM_IN]);
	settle();
	assert_string_equal(heard(container[STREAM_IN]), "EOF");
	io_close_stdin(&io); /* once more does no harm */
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	assert_true(io_drained(&io)); /* it does not count as output */
}

/* What was written before all left is not lost. */
static void input_then_end(void **state)
{
	(void)state;
	open_input();
	client_comes(STREAM_IN);
	say(client[STREAM_IN], "text");
	fd_close(&client[STREAM_IN]);
	io_close_stdin(&io);
	settle();
	assert_string_equal(heard(container[STREAM_IN]), "text");
	assert_string_equal(heard(container[STREAM_IN]), "EOF");
}

/* A container that does not want any more: its client learns it, and the shim gets no signal. */
static void input_unwanted(void **state)
{
	(void)state;
	open_input();
	client_comes(STREAM_IN);
	say(client[STREAM_IN], "one");
	settle();
	fd_close(&container[STREAM_IN]);
	say(client[STREAM_IN], "two");
	settle();
	assert_false(io.pumps[STREAM_IN].open);
	assert_int_equal(write(client[STREAM_IN], "three", 5), -1);
	assert_int_equal(errno, EPIPE);
}

/* A container that is slow to read: the client waits, and nothing is lost. */
static void input_stuck(void **state)
{
	size_t len, seen = 0;

	(void)state;
	open_input();
	client_comes(STREAM_IN);
	len = fill(client[STREAM_IN], 'a');
	assert_true(len >= 2 * 65536);
	assert_int_equal(settle(), 0);
	while (seen < len) {
		const char *text = heard(container[STREAM_IN]);

		assert_true(text[0] != '\0');
		seen = check_filled(text, seen, 'a');
		settle();
	}
	assert_string_equal(heard(container[STREAM_IN]), "");
}

/* ---- logging binaries ---- */

static char logger_url[512];

static void write_logger(const char *scheme, const char *script, const char *query)
{
	char text[4096];

	snprintf(text, sizeof(text), "#!/bin/sh\ncd %s\n%s\n", tmp, script);
	make_file("log ger", text, 0755);
	snprintf(logger_url, sizeof(logger_url), "%s://%s/log%%20ger%s", scheme, tmp, query);
	names.path[STREAM_OUT] = logger_url;
}

static int logger_ready(void)
{
	int err;

	while ((err = io_ready(&io, &why)) == -EAGAIN) {
		struct pollfd p = {io.ready, POLLIN, 0};

		assert_int_equal(poll(&p, 1, (int)guard_ms()), 1);
		settle();
	}
	return err;
}

static int logger_status(void)
{
	int status;
	pid_t pid = io.logger;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(io_logger_ended(&io, pid + 1));
	assert_true(io_logger_ended(&io, pid));
	assert_int_equal(io.logger, 0);
	return status;
}

static void logger(void **state)
{
	(void)state;
	write_logger("binary",
		     "for a; do echo \"<$a>\"; done >args; env | grep -v "
		     "'^PWD\\|^SHLVL\\|^_\\|^OLDPWD' | sort >env\n"
		     "ls -l /proc/$$/fd >fds; grep -c pipe fds >pipes\n"
		     "echo >&5; cat <&3 >out & cat <&4 >err; wait",
		     "?b=two%20words+more&a=1&empty=&c&%41=%3d&&=x");
	make();
	assert_true(container[STREAM_OUT] >= 0 && container[STREAM_ERR] >= 0);
	assert_int_equal(container[STREAM_IN], -1);
	assert_int_equal(logger_ready(), 0);
	assert_string_equal(file_text("args"),
			    "<b>\n<two words more>\n<a>\n<1>\n<empty>\n<>\n<c>\n<>\n<A>\n<=>\n");
	assert_string_equal(file_text("env"), "CONTAINER_ID=the-id\nCONTAINER_NAMESPACE=ns\n");
	assert_string_equal(file_text("pipes"), "3\n");
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_true(io_drained(&io)); /* the shim copies nothing */
	say(container[STREAM_OUT], "to out");
	say(container[STREAM_ERR], "to err");
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	/* It sees the end only now. */
	assert_int_equal(waitpid(io.logger, &(int){0}, WNOHANG), 0);
	fd_close(&io.pumps[STREAM_OUT].keep);
	fd_close(&io.pumps[STREAM_ERR].keep);
	assert_int_equal(logger_status(), 0);
	assert_string_equal(file_text("out"), "to out");
	assert_string_equal(file_text("err"), "to err");
	assert_false(io_logger_stop(&io, SIGTERM));
}

/* Of a key that comes twice the first value counts. */
static void logger_with_keys_twice(void **state)
{
	(void)state;
	write_logger("binary", "for a; do echo \"<$a>\"; done >args; echo >&5",
		     "?a=1&b=2&a=3&c=4&c=5&d=6");
	make();
	assert_int_equal(logger_ready(), 0);
	assert_string_equal(file_text("args"), "<a>\n<1>\n<b>\n<2>\n<c>\n<4>\n<d>\n<6>\n");
}

/* Closing the pipe without a word is being ready, too; but not for a binary-v2. */
static void logger_without_a_word(void **state)
{
	(void)state;
	write_logger("binary", "exec 5>&-; cat <&3 >/dev/null", "");
	make();
	assert_int_equal(io_ready(&io, &why), -EAGAIN);
	assert_int_equal(logger_ready(), 0);
	assert_true(io_logger_stop(&io, SIGKILL));
	logger_status();
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	io_close(&io);
	io_init(&io);
	write_logger("binary-v2", "exit 0", "");
	make();
	assert_int_equal(logger_ready(), -EIO);
	assert_string_equal(
		why_buf,
		"logging binary did not call ready (it may have crashed or exited prematurely)");
	logger_status();
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	io_close(&io);
	io_init(&io);
	why = TEXT(why_buf);
	write_logger("binary-v2", "echo >&5; cat <&3 >/dev/null", "");
	make();
	assert_int_equal(logger_ready(), 0);
	assert_true(io_logger_stop(&io, SIGTERM));
	logger_status();
}

static void logger_missing(void **state)
{
	char expected[600];

	(void)state;
	if (EMULATED())
		skip();
	snprintf(logger_url, sizeof(logger_url), "binary://%s/none", tmp);
	names.path[STREAM_OUT] = logger_url;
	assert_int_equal(io_make(&io, &names, "id", &why), -ENOENT);
	snprintf(expected, sizeof(expected),
		 "failed to start binary process: fork/exec %s/none: no such file or directory",
		 tmp);
	assert_string_equal(why_buf, expected);
}

/* On the way out it is killed, if it has not gone by itself. */
static void logger_killed(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	write_logger("binary", "trap '' TERM; echo >&5; exec sleep 1000", "");
	make();
	assert_int_equal(logger_ready(), 0);
	pid = io.logger;
	assert_true(io_logger_stop(&io, SIGTERM));
	fd_close(&container[STREAM_OUT]);
	fd_close(&container[STREAM_ERR]);
	io_close(&io);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	io_init(&io);
}

static void logger_with_long_name(void **state)
{
	char *url;

	(void)state;
	if (EMULATED())
		skip();
	url = malloc(40000);
	memset(url, 'a', 40000);
	memcpy(url, "binary:///", 10);
	url[39999] = '\0';
	for (int i = 17000; i > 16300; i -= 3) {
		url[i] = '\0';
		names.path[STREAM_OUT] = url;
		why = TEXT(why_buf);
		assert_true(io_make(&io, &names, "id", &why) < 0);
		io_close(&io);
		io_init(&io);
	}
	free(url);
}

/* ---- terminals ---- */

static int master, slave;

/* What a runtime does with the socket it was given: it sends the descriptor, `times` over. */
static void hand_over_times(int fd, unsigned int times)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct text path = TEXT(at.sun_path);
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(char *)"/dev/ptmx", 9};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	io_console_path(&io, &path);
	assert_int_equal(connect(s, (struct sockaddr *)&at, sizeof(at)), 0);
	if (times > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(times * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(times * sizeof(int));
		for (unsigned int i = 0; i < times; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(fd), &fd, sizeof(fd));
	}
	assert_int_equal(sendmsg(s, &msg, 0), 9);
	close(s);
}

static void hand_over(int fd)
{
	hand_over_times(fd, 1);
}

static void make_terminal(void)
{
	struct termios raw;

	names.terminal = true;
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(grantpt(master) | unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	hand_over(master);
	fd_close(&master);
	assert_int_equal(io_take_console(&io, &why), 0);
	assert_int_equal(access(in_tmp(".pty"), F_OK), -1);
}

static void terminal(void **state)
{
	struct winsize size;
	struct stat st;

	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	client_comes(STREAM_IN);
	say(slave, "$ ");
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "$ ");
	say(client[STREAM_IN], "ls\n");
	settle();
	assert_string_equal(heard(slave), "ls\n");
	assert_int_equal(io_resize(&io, 132, 43), 0);
	assert_int_equal(ioctl(slave, TIOCGWINSZ, &size), 0);
	assert_int_equal(size.ws_col, 132);
	assert_int_equal(size.ws_row, 43);
	/* Nobody has it open for a moment: that is not the end. */
	{
		char name[64];

		snprintf(name, sizeof(name), "%s", ttyname(slave));
		fd_close(&slave);
		settle();
		assert_false(io_drained(&io));
		slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_true(slave >= 0);
	}
	say(slave, "still here");
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "still here");
	/* The end of its process is, also if somebody else still has it. */
	say(slave, "bye");
	io_exited(&io);
	settle();
	assert_string_equal(heard(client[STREAM_OUT]), "bye");
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	assert_true(io_drained(&io));
	fd_close(&slave);
	assert_int_equal(io_resize(&io, 1, 1), 0); /* there is none any more: fine */
	assert_int_equal(stat(in_tmp("out"), &st), 0);
}

/* The client is behind when the process exits: it gets all the same all of it. */
static void terminal_behind_at_exit(void **state)
{
	size_t len, seen = 0;

	(void)state;
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	len = fill(slave, 'A');
	assert_true(len > 65536);
	fd_close(&slave);
	io_exited(&io);
	assert_int_equal(settle(), 0);
	assert_false(io_drained(&io));
	for (int i = 0; i < 1000 && seen < len; i++) {
		seen = check_filled(heard(client[STREAM_OUT]), seen, 'A');
		settle();
	}
	assert_int_equal(seen, len);
	assert_string_equal(heard(client[STREAM_OUT]), "EOF");
	assert_true(io_drained(&io));
}

/* Its input ends: it is hung up, like one whose user has gone. */
static void terminal_input_ends(void **state)
{
	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	client_comes(STREAM_IN);
	say(client[STREAM_IN], "exit");
	settle();
	assert_string_equal(heard(slave), "exit");
	io_close_stdin(&io);
	fd_close(&client[STREAM_IN]);
	settle();
	assert_string_equal(heard(slave), "EOF");
	assert_true(io_drained(&io));
	fd_close(&slave);
}

/* More input than the terminal holds, while its program does something else. */
static void paste_much(bool by_copy)
{
	size_t len, seen = 0;

	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	io.pumps[STREAM_IN].by_copy = by_copy;
	client_comes(STREAM_IN);
	len = fill(client[STREAM_IN], 'a');
	for (int i = 0; i < 1000 && seen < len; i++) {
		seen = check_filled(heard(slave), seen, 'a');
		settle();
	}
	assert_int_equal(seen, len);
	fd_close(&slave);
}

static void terminal_input_stuck(void **state)
{
	(void)state;
	paste_much(false);
}

/* The same where splice(2) knows no terminals, as in Linux 5.10. */
static void terminal_input_stuck_by_copy(void **state)
{
	(void)state;
	paste_much(true);
}

/* A turn may end with part of a page not yet taken, and nothing more to read: that part is not
 * waited with until there is. */
static void terminal_input_left_over(void **state)
{
	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	client_comes(STREAM_IN);
	io.pumps[STREAM_IN].by_copy = true;
	io.pumps[STREAM_IN].rest = pages_get(PAGE);
	memcpy(io.pumps[STREAM_IN].rest, "rest", 4);
	io.pumps[STREAM_IN].rest_len = 4;
	settle();
	assert_string_equal(heard(slave), "rest");
	fd_close(&slave);
}

/* More than one descriptor is no terminal, and none of them stays. */
static void terminals_too_many(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned int before = open_fds();

	(void)state;
	names.terminal = true;
	for (unsigned int times = 2; times <= 3; times++) {
		assert_int_equal(io_make(&io, &names, "id", &why), 0);
		hand_over_times(null, times);
		assert_int_equal(io_take_console(&io, &why), -EBADMSG);
		io_close(&io);
		io_init(&io);
		assert_int_equal(open_fds(), before);
	}
	close(null);
}

static void terminal_not_handed_over(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	names.terminal = true;
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	assert_int_equal(io_take_console(&io, &why), -EAGAIN); /* nobody has come */
	assert_non_null(strstr(why_buf, "failed to retrieve console master: "));
	io_close(&io);
	io_init(&io);
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	hand_over_times(-1, 0);
	assert_int_equal(io_take_console(&io, &why), -EBADMSG);
	io_close(&io);
	io_init(&io);
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	hand_over(null); /* no terminal */
	assert_int_equal(io_take_console(&io, &why), -ENOTTY);
	close(null);
	/* Its socket goes in any case. */
	io_close(&io);
	io_init(&io);
	{
		char command[128];

		snprintf(command, sizeof(command), "test $(ls -A %s | wc -l) = 0", tmp);
		assert_int_equal(system(command), 0);
	}
}

/* Nowhere to make the socket in. */
static void terminal_without_directory(void **state)
{
	(void)state;
	names.terminal = true;
	snprintf(self.socket_dir, sizeof(self.socket_dir), "%s/none", tmp);
	assert_int_equal(io_make(&io, &names, "id", &why), -ENOENT);
	assert_non_null(strstr(why_buf, "failed to create OCI runtime console socket: "));
}

/* A terminal that nobody reads: its output goes to /dev/null. */
static void terminal_without_names(void **state)
{
	(void)state;
	make_terminal();
	assert_int_equal(io_open(&io, &names, &why), 0);
	say(slave, "to nobody");
	settle();
	fd_close(&slave);
	io_exited(&io);
	settle();
	assert_true(io_drained(&io));
}

/* ---- all at once ---- */

/* Closed at any moment, nothing is left. */
static void closed_early(void **state)
{
	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	name_fifo(STREAM_ERR, "err");
	for (int stage = 0; stage < 6; stage++) {
		io_init(&io);
		assert_int_equal(io_make(&io, &names, "id", &why), 0);
		if (stage > 1)
			io_started(&io);
		if (stage > 2)
			client_comes(STREAM_OUT);
		if (stage > 3)
			client_comes(STREAM_ERR);
		if (stage > 2)
			assert_int_equal(io_open(&io, &names, &why), stage > 3 ? 0 : -EAGAIN);
		if (stage > 4)
			assert_int_equal(io_open_stdin(&io, &names, &why), 0);
		io_close(&io);
		io_close(&io);
		fd_close(&client[STREAM_OUT]);
		fd_close(&client[STREAM_ERR]);
		assert_int_equal(open_fds(), fds_before);
	}
}

/* ---- odd and rare ---- */

/* What looks like an escape and is none stays; a host is passed over; '+' is a blank in a query only. */
static void odd_file_urls(void **state)
{
	char url[300];

	(void)state;
	snprintf(url, sizeof(url), "file://localhost%s/odd/a+%%zz%%4g%%g4%%e2%%82%%AC%%2", tmp);
	names.path[STREAM_OUT] = url;
	make();
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(access(in_tmp("odd/a+%zz%4g%g4\xe2\x82\xac%2"), F_OK), 0);
}

static void file_url_of_a_fifo(void **state)
{
	char url[300];

	(void)state;
	assert_int_equal(mkfifo(in_tmp("fifo"), 0600), 0);
	snprintf(url, sizeof(url), "file://%s", in_tmp("fifo"));
	names.path[STREAM_OUT] = url;
	make();
	assert_int_equal(io_open(&io, &names, &why), -ENXIO);
}

/* A user without his group, and the other way round. */
static void owners_of_one_kind(void **state)
{
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	for (unsigned int gid = 0; gid < 2; gid++) {
		name_stream(STREAM_OUT, "out");
		names.uid = gid ? 0 : 1234;
		names.gid = gid ? 5678 : 0;
		assert_int_equal(io_make(&io, &names, "id", &why), 0);
		assert_int_equal(fstat(io.ends[STREAM_OUT], &st), 0);
		assert_int_equal(st.st_uid, names.uid);
		assert_int_equal(st.st_gid, names.gid);
		io_close(&io);
		io_init(&io);
	}
}

/* Whoever asks twice does not open twice. */
static void opened_once(void **state)
{
	unsigned int open_then;

	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	make();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	open_then = open_fds();
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	assert_int_equal(open_fds(), open_then);
	/* The container has closed its end: there is nothing left to be opened. */
	fd_close(&container[STREAM_IN]);
	client_comes(STREAM_IN);
	say(client[STREAM_IN], "x");
	settle();
	assert_int_equal(io.pumps[STREAM_IN].to, -1);
	open_then = open_fds();
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	assert_int_equal(open_fds(), open_then);
}

/* Each terminal has its own socket, for nobody else. */
static void terminal_sockets(void **state)
{
	char path[256], other_path[256], stale[256];
	struct text t = TEXT(path), o = TEXT(other_path), s = TEXT(stale);
	struct io other, third;
	struct stat st;

	(void)state;
	names.terminal = true;
	io_init(&other);
	io_init(&third);
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	assert_int_equal(io_make(&other, &names, "id", &why), 0);
	io_console_path(&io, &t);
	io_console_path(&other, &o);
	assert_string_not_equal(path, other_path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(umask(022), 022); /* as it was */
	assert_int_equal(fcntl(io.socket, F_GETFD), FD_CLOEXEC);
	/* Nobody has come: that is no reason to stand still. */
	assert_int_equal(io_take_console(&io, &why), -EAGAIN);
	assert_int_equal(access(path, F_OK), -1);
	/* The name may be taken, by a daemon that was killed and had our pid. */
	third.socket_serial = other.socket_serial + 1;
	io_console_path(&third, &s);
	assert_int_equal(file_write(stale, VIEW(""), 0600), 0);
	assert_int_equal(io_make(&third, &names, "id", &why), 0);
	assert_int_equal(stat(stale, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	io_close(&other);
	io_close(&third);
	assert_int_equal(access(other_path, F_OK), -1);
	assert_int_equal(access(stale, F_OK), -1);
}

static void terminal_is_not_passed_on(void **state)
{
	(void)state;
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	assert_int_equal(fcntl(io.console, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(io.slave, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(io.console, F_GETFL) & O_NONBLOCK);
	fd_close(&slave);
}

/* The stdout pipe to the logger is written by the pump. */
static void terminal_with_a_logger(void **state)
{
	(void)state;
	write_logger("binary", "echo >&5; cat <&3 >out", "");
	make_terminal();
	assert_int_equal(logger_ready(), 0);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_true(io.pumps[STREAM_OUT].open);
	assert_true(fcntl(io.pumps[STREAM_OUT].to, F_GETFL) & O_NONBLOCK);
	assert_int_equal(io.pumps[STREAM_OUT].keep, -1);
	say(slave, "through the pump");
	settle();
	io_exited(&io);
	settle();
	assert_true(io_drained(&io));
	assert_false(io_logger_stop(&io, 0) && io.pumps[STREAM_OUT].to >= 0);
	assert_int_equal(logger_status(), 0);
	assert_string_equal(file_text("out"), "through the pump");
	fd_close(&slave);
}

/* Its word is not there yet; a byte of it is as good as its end. */
static void logger_looked_at_too_early(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(in_tmp("go"), 0600), 0);
	write_logger("binary-v2", "read x <go; echo >&5; cat <&3 >/dev/null", "");
	make();
	assert_int_equal(fcntl(io.ready, F_GETFD), FD_CLOEXEC);
	io_logger(&io);
	assert_true(io.ready >= 0);
	assert_int_equal(io_ready(&io, &why), -EAGAIN);
	client[STREAM_IN] = open(in_tmp("go"), O_RDWR | O_CLOEXEC);
	say(client[STREAM_IN], "\n");
	errno = EAGAIN; /* of some call before */
	assert_int_equal(logger_ready(), 0);
	assert_int_equal(io.ready, -1);
	for (int i = STREAM_OUT; i <= STREAM_ERR; i++)
		fd_close(&container[i]);
	/* It is stopped: it sees the end of both streams. */
	assert_true(io_logger_stop(&io, 0));
	assert_int_equal(io.pumps[STREAM_OUT].keep, -1);
	assert_int_equal(io.pumps[STREAM_ERR].keep, -1);
	assert_int_equal(logger_status(), 0);
}

/* All its descriptors are of the kind that is closed in the programs we start. */
static void streams_are_not_passed_on(void **state)
{
	(void)state;
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	name_fifo(STREAM_ERR, "err");
	assert_int_equal(io_make(&io, &names, "id", &why), 0);
	client_comes(STREAM_OUT);
	client_comes(STREAM_ERR);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	for (int i = 0; i < STREAMS; i++) {
		const struct pump *p = &io.pumps[i];
		const int fds[] = {p->from, p->to, p->keep, io.ends[i]};

		for (size_t k = 0; k < COUNT(fds); k++)
			assert_int_equal(fcntl(fds[k], F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(p->from, F_GETFL) & fcntl(p->to, F_GETFL) & O_NONBLOCK);
	}
	io_started(&io);
}

/* Not a multiple of a page: at some time a terminal takes part of one, if the kernel's do that. */
static void terminal_input_in_parts(void **state)
{
	char odd[38 * 26];
	size_t len, seen = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(odd); i++)
		odd[i] = (char)('a' + i % 26);
	name_fifo(STREAM_IN, "in");
	name_fifo(STREAM_OUT, "out");
	make_terminal();
	client_comes(STREAM_OUT);
	assert_int_equal(io_open(&io, &names, &why), 0);
	assert_int_equal(io_open_stdin(&io, &names, &why), 0);
	io.pumps[STREAM_IN].by_copy = true;
	client_comes(STREAM_IN);
	assert_int_equal(write(client[STREAM_IN], odd, sizeof(odd)), sizeof(odd));
	settle();
	len = sizeof(odd) + fill(client[STREAM_IN], 'a');
	for (int i = 0; i < 1000 && seen < len; i++) {
		seen = check_filled(heard(slave), seen, 'a');
		settle();
	}
	assert_int_equal(seen, len);
	fd_close(&slave);
}

int main(void)
{
#define IO_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		IO_TEST(nothing_named),
		IO_TEST(output_to_fifos),
		IO_TEST(output_of_several),
		IO_TEST(late_reader),
		IO_TEST(reader_goes_and_comes),
		IO_TEST(stuck_reader),
		IO_TEST(much_output),
		IO_TEST(output_to_file),
		IO_TEST(output_to_full_disk),
		IO_TEST(output_unreadable),
		IO_TEST(output_to_nowhere),
		IO_TEST(clients_ends_missing),
		IO_TEST(file_urls),
		IO_TEST(file_url_refused),
		IO_TEST(schemes),
		IO_TEST(owners),
		IO_TEST(input),
		IO_TEST(input_then_end),
		IO_TEST(input_unwanted),
		IO_TEST(input_stuck),
		IO_TEST(logger),
		IO_TEST(logger_with_keys_twice),
		IO_TEST(logger_without_a_word),
		IO_TEST(logger_missing),
		IO_TEST(logger_killed),
		IO_TEST(logger_with_long_name),
		IO_TEST(terminal),
		IO_TEST(terminal_behind_at_exit),
		IO_TEST(terminal_input_ends),
		IO_TEST(terminal_input_stuck),
		IO_TEST(terminal_input_stuck_by_copy),
		IO_TEST(terminal_input_left_over),
		IO_TEST(terminal_not_handed_over),
		IO_TEST(terminals_too_many),
		IO_TEST(terminal_without_directory),
		IO_TEST(terminal_without_names),
		IO_TEST(closed_early),
		IO_TEST(odd_file_urls),
		IO_TEST(file_url_of_a_fifo),
		IO_TEST(owners_of_one_kind),
		IO_TEST(opened_once),
		IO_TEST(terminal_sockets),
		IO_TEST(terminal_is_not_passed_on),
		IO_TEST(terminal_with_a_logger),
		IO_TEST(logger_looked_at_too_early),
		IO_TEST(streams_are_not_passed_on),
		IO_TEST(terminal_input_in_parts),
	};

	close_others();
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
