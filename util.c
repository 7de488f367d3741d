// SPDX-License-Identifier: Apache-2.0
/*
 * util.c - text, files, log lines and a digest: what the C library has in a form too loose for us.
 *
 * Two rules hold the memory of the daemon down. There is no heap: text is built in buffers of the
 * caller's, and what is too long for them gets pages of its own. And nothing received is copied
 * before it must be: a struct view points into the buffer the bytes arrived in.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

bool log_debug;

/* ---- views ---- */

struct view view_of(const char *text)
{
	return (struct view){text, text ? strlen(text) : 0};
}

bool view_is(struct view v, const char *text)
{
	return v.len == strlen(text) && (v.len == 0 || memcmp(v.at, text, v.len) == 0);
}

bool view_starts(struct view v, const char *prefix)
{
	size_t n = strlen(prefix);

	return v.len >= n && memcmp(v.at, prefix, n) == 0;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct view view_trim(struct view v)
{
	while (v.len > 0 && is_space(v.at[0])) {
		v.at++;
		v.len--;
	}
	while (v.len > 0 && is_space(v.at[v.len - 1]))
		v.len--;
	return v;
}

struct view view_cut(struct view *rest, char end)
{
	const char *hit = rest->len > 0 ? memchr(rest->at, end, rest->len) : NULL;
	struct view head = *rest;

	if (!hit) {
		*rest = (struct view){0};
		return head;
	}
	head.len = (size_t)(hit - rest->at);
	*rest = (struct view){hit + 1, rest->len - head.len - 1};
	return head;
}

int view_int(struct view v)
{
	int value = 0;

	if (v.len == 0)
		return -1;
	for (size_t i = 0; i < v.len; i++) {
		if (v.at[i] < '0' || v.at[i] > '9')
			return -1;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, v.at[i] - '0', &value))
			return -1;
	}
	return value;
}

bool utf8_valid(struct view v)
{
	const unsigned char *s = (const unsigned char *)v.at;
	size_t i = 0;

	while (i < v.len) {
		unsigned char c = s[i++];
		unsigned int more, point;

		if (c < 0x80)
			continue;
		if (c < 0xc2 || c > 0xf4)
			return false;
		more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		point = c & (0x3fU >> more);
		if (v.len - i < more)
			return false;
		for (unsigned int k = 0; k < more; k++, i++) {
			if ((s[i] & 0xc0) != 0x80)
				return false;
			point = point << 6 | (s[i] & 0x3f);
		}
		if ((more == 2 && point < 0x800) || (more == 3 && point < 0x10000) ||
		    (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
			return false;
	}
	return true;
}

/* ---- text ---- */

void text_add(struct text *t, struct view v)
{
	size_t room = t->cap - 1 - t->len;

	if (t->len >= t->cap) {
		t->cut = true; /* not even its NUL has room */
		return;
	}
	if (v.len > room) {
		t->cut = true;
		v.len = room;
		while (v.len > 0 && (v.at[v.len] & 0xc0) == 0x80)
			v.len--; /* never within a character */
	}
	if (v.len > 0)
		memcpy(t->at + t->len, v.at, v.len);
	t->len += v.len;
	t->at[t->len] = '\0';
}

/* A number in decimal or hexadecimal, at least `width` wide, filled up with `fill`. */
static void add_number(struct text *t, unsigned long value, bool negative, unsigned int base,
		       int width, char fill)
{
	char buf[24], *at = buf + sizeof(buf);

	do
		*--at = "0123456789abcdef"[value % base];
	while ((value /= base) > 0);
	if (negative && fill == ' ')
		*--at = '-';
	else if (negative)
		text_add(t, VIEW("-"));
	for (width -= (int)(buf + sizeof(buf) - at) + (negative && fill != ' '); width > 0; width--)
		text_add(t, (struct view){&fill, 1});
	text_add(t, (struct view){at, (size_t)(buf + sizeof(buf) - at)});
}

/* The few conversions in use, and nothing of floating point: the C library's own brings eight times
 * as much code, and a deep stack. The compiler checks the arguments all the same. */
void text_vprintf(struct text *t, const char *fmt, va_list args)
{
	for (; *fmt; fmt++) {
		struct view v = {fmt, 0};
		bool is_long = false;
		char fill = ' ';
		int width = 0, precision = -1;
		long number;

		while (*fmt && *fmt != '%')
			fmt++;
		v.len = (size_t)(fmt - v.at);
		text_add(t, v);
		if (!*fmt)
			return;
		if (*++fmt == '0')
			fill = *fmt++;
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = 10 * width + (*fmt - '0');
		if (*fmt == '.') { /* always .* */
			precision = va_arg(args, int);
			fmt += 2;
		}
		for (; *fmt == 'l' || *fmt == 'z'; fmt++)
			is_long = true;
		switch (*fmt) {
		case 's':
			v.at = va_arg(args, const char *);
			v.len = precision < 0   ? strlen(v.at)
				: precision > 0 ? strnlen(v.at, (size_t)precision)
						: 0;
			text_add(t, v);
			break;
		case 'c':
			fill = (char)va_arg(args, int);
			text_add(t, (struct view){&fill, 1});
			break;
		case 'd':
			number = is_long ? va_arg(args, long) : va_arg(args, int);
			add_number(t,
				   number < 0 ? 0UL - (unsigned long)number : (unsigned long)number,
				   number < 0, 10, width, fill);
			break;
		case 'u':
		case 'x':
			add_number(t,
				   is_long ? va_arg(args, unsigned long)
					   : va_arg(args, unsigned int),
				   false, *fmt == 'x' ? 16 : 10, width, fill);
			break;
		default:
			text_add(t, (struct view){fmt, 1});
		}
	}
}

void text_printf(struct text *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	text_vprintf(t, fmt, args);
	va_end(args);
}

bool text_has(const struct text *t, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= t->len; i++)
		if (strncasecmp(t->at + i, word, n) == 0)
			return true;
	return false;
}

char *text_next(struct text *t)
{
	if (t->len + 1 < t->cap)
		t->at[++t->len] = '\0';
	else
		t->cut = true;
	return t->at + t->len;
}

void text_json(struct text *t, struct view v)
{
	for (size_t i = 0; i < v.len; i++) {
		unsigned char c = (unsigned char)v.at[i];
		char buf[8];
		struct text one = TEXT(buf);

		if (c < 0x20)
			text_printf(&one, "\\u%04x", c);
		else
			text_printf(&one, c == '"' || c == '\\' ? "\\%c" : "%c", c);
		if (t->len + one.len >= t->cap) {
			t->cut = true; /* never within an escape */
			return;
		}
		text_add(t, (struct view){buf, one.len});
	}
}

/* Go's words for errors, each behind its number, which clients have come to look for; the C library
 * has others. */
static const char errors[] =
	"\001operation not permitted\0\002no such file or directory\0\003no such process\0"
	"\004interrupted system call\0\005input/output error\0\006no such device or address\0"
	"\007argument list too long\0\010exec format error\0\011bad file descriptor\0"
	"\012no child processes\0\013resource temporarily unavailable\0"
	"\014cannot allocate memory\0\015permission denied\0\016bad address\0"
	"\020device or resource busy\0\021file exists\0\022invalid cross-device link\0"
	"\023no such device\0\024not a directory\0\025is a directory\0\026invalid argument\0"
	"\027too many open files in system\0\030too many open files\0"
	"\031inappropriate ioctl for device\0\032text file busy\0\033file too large\0"
	"\034no space left on device\0\035illegal seek\0\036read-only file system\0"
	"\037too many links\0\040broken pipe\0\042numerical result out of range\0"
	"\044file name too long\0\045no locks available\0\046function not implemented\0"
	"\047directory not empty\0\050too many levels of symbolic links\0"
	"\075no data available\0\107protocol error\0\112bad message\0"
	"\113value too large for defined data type\0\130socket operation on non-socket\0"
	"\132message too long\0\134protocol not available\0\135protocol not supported\0"
	"\137operation not supported\0\141address family not supported by protocol\0"
	"\142address already in use\0\143cannot assign requested address\0\144network is down\0"
	"\145network is unreachable\0\147software caused connection abort\0"
	"\150connection reset by peer\0\151no buffer space available\0"
	"\152transport endpoint is already connected\0\153transport endpoint is not connected\0"
	"\156connection timed out\0\157connection refused\0\160host is down\0"
	"\161no route to host\0\162operation already in progress\0"
	"\163operation now in progress\0\164stale file handle\0\165structure needs cleaning\0"
	"\171remote I/O error\0\172disk quota exceeded\0\175operation canceled\0"
	"\176required key not available\0\177key has expired\0";
_Static_assert(EHOSTUNREACH == 113 && EDQUOT == 122, "numbers as on all but MIPS and such");

const char *errno_text(int err)
{
	static char buf[16];
	struct text t = TEXT(buf);

	for (const char *at = errors; *at; at += strlen(at) + 1)
		if ((unsigned char)*at == err)
			return at + 1;
	text_printf(&t, "errno %d", err);
	return buf;
}

/* ---- pages ---- */

void *pages_get(size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* nanopb's library can allocate, and so asks for these; none of our messages makes it. What they
 * replace is the C library's heap, as large as all of nanopb. */
#ifndef UNIT_TEST
void *realloc(void *at, size_t len)
{
	(void)at;
	(void)len;
	return NULL;
}

void free(void *at)
{
	(void)at;
}
#endif

void pages_put(void *at, size_t len)
{
	if (at)
		munmap(at, len);
}

TABLE(scratch) struct scratch scratch;

void pages_forget(void *at, size_t len)
{
	/* The kernel's pages may be larger than ours, and it would round what we ask up to them. */
	uintptr_t page = (uintptr_t)getpagesize();
	uintptr_t from = ((uintptr_t)at + page - 1) & ~(page - 1);
	uintptr_t to = ((uintptr_t)at + len) & ~(page - 1);

	if (to > from)
		madvise((void *)from, to - from, MADV_DONTNEED);
}

void stack_forget(void)
{
	char *here = __builtin_frame_address(0);

	pages_forget(here - 64 * PAGE, 64 * PAGE - 512); /* not what this very call stands on */
}

/* ---- files ---- */

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

/* By openat(2): musl's open(3) makes a second call, for kernels older than O_CLOEXEC. */
int file_open(const char *path, int flags, mode_t mode)
{
	return openat(AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

/* Each of these is opened with O_NONBLOCK: in its place may be a FIFO, whose other end nobody ever
 * opens. */

static ssize_t read_file(const char *path, char *buf, size_t cap, bool once)
{
	int fd = file_open(path, O_RDONLY | O_NONBLOCK, 0);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf + len, cap - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		len += (size_t)n;
		if (len == cap) {
			errno = EFBIG;
			n = -1;
			break;
		}
		if (once)
			break;
	}
	fd_close(&fd);
	if (n < 0)
		return -errno;
	buf[len] = '\0';
	return (ssize_t)len;
}

ssize_t file_read(const char *path, char *buf, size_t cap)
{
	return read_file(path, buf, cap, false);
}

ssize_t file_line(const char *path, char *buf, size_t cap)
{
	return read_file(path, buf, cap, true);
}

int file_pages(const char *path, struct file *f)
{
	ssize_t n;

	for (f->cap = 1 << 16;; f->cap *= 4) {
		f->at = pages_get(f->cap);
		n = f->at ? file_read(path, f->at, f->cap) : -ENOMEM;
		if (n >= 0)
			break;
		pages_put(f->at, f->cap);
		f->at = NULL;
		if (n != -EFBIG)
			return (int)n;
	}
	f->len = (size_t)n;
	return 0;
}

const struct dirent *dir_next(struct dir *d)
{
	const struct dirent *entry;

	do {
		if (d->at == d->len) {
			d->at = 0;
			d->len = syscall(SYS_getdents64, d->fd, d->buf, sizeof(d->buf));
			if (d->len <= 0) {
				d->error = d->len < 0 ? -errno : 0;
				d->len = 0;
				return NULL;
			}
		}
		entry = (const struct dirent *)(d->buf + d->at);
		d->at += entry->d_reclen;
	} while (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
	return entry;
}

int write_all(int fd, struct view v)
{
	while (v.len > 0) {
		ssize_t n = write(fd, v.at, v.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		v.at += n;
		v.len -= (size_t)n;
	}
	return 0;
}

static int write_new(const char *path, int flags, struct view v, mode_t mode)
{
	int fd = file_open(path, O_WRONLY | O_NONBLOCK | O_CREAT | flags, mode), err;

	if (fd < 0)
		return -errno;
	err = write_all(fd, v);
	fd_close(&fd);
	return err;
}

int file_write(const char *path, struct view v, mode_t mode)
{
	return write_new(path, O_TRUNC, v, mode);
}

int file_append(const char *path, struct view v)
{
	int fd = file_open(path, O_WRONLY | O_NONBLOCK | O_APPEND, 0), err;

	if (fd < 0)
		return -errno;
	err = write_all(fd, v);
	fd_close(&fd);
	return err;
}

int file_replace(const char *path, struct view v, mode_t mode)
{
	char buf[1024];
	struct text temp = TEXT(buf);
	int err;

	text_printf(&temp, "%s.%d", path, (int)getpid());
	if (temp.cut)
		return -ENAMETOOLONG;
	err = write_new(buf, O_EXCL, v, mode);
	if (err == -EEXIST && unlink(buf) == 0) /* of a process that died on the way */
		err = write_new(buf, O_EXCL, v, mode);
	if (err == 0 && rename(buf, path) < 0)
		err = -errno;
	if (err < 0)
		unlink(buf);
	return err;
}

/* ---- time ---- */

uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- logging ---- */

/* UTC as RFC 3339 has it, with nanoseconds, and a quotation mark. The C library's own way there is three times as long. */
static void add_time(struct text *t, const struct timespec *ts)
{
	static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	unsigned int day = (unsigned int)(ts->tv_sec / 86400),
		     second = (unsigned int)(ts->tv_sec % 86400), year = 1970, month = 0, length;
	bool leap;

	for (;; year++) {
		leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
		if (day < 365U + leap)
			break;
		day -= 365U + leap;
	}
	for (;; month++) {
		length = lengths[month] + (leap && month == 1);
		if (day < length)
			break;
		day -= length;
	}
	text_printf(t, "%u-%02u-%02uT%02u:%02u:%02u.%09ldZ\"", year, month + 1, day + 1,
		    second / 3600, second / 60 % 60, second % 60, ts->tv_nsec);
}

void logf_(enum log_level level, const char *fmt, ...)
{
	static const char names[][8] = {"debug", "info", "warning", "error"};
	char line[1024], message[512];
	struct text l = {.at = line, .cap = sizeof(line) - 2}, m = TEXT(message);
	struct timespec ts;
	va_list args;
	ssize_t n;

	va_start(args, fmt);
	text_vprintf(&m, fmt, args);
	va_end(args);
	clock_gettime(CLOCK_REALTIME, &ts);
	text_add(&l, VIEW("time=\""));
	add_time(&l, &ts);
	text_printf(&l, " level=%s msg=\"", names[level]);
	text_json(&l, (struct view){message, m.len});
	l.cap = sizeof(line);
	text_add(&l, VIEW("\"\n"));
	n = write(STDERR_FILENO, line, l.len);
	(void)n; /* no reader, or one that is stuck: the line is lost, the daemon goes on */
}

/* ---- digest: SHA-256, FIPS 180-4 ---- */

static uint32_t ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t h[8], const unsigned char block[64])
{
	static const uint32_t k[64] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
		0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
		0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
		0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
		0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
		0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
		0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
		0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
		0xc67178f2};
	uint32_t w[64], s[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] +
		       (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(s, h, sizeof(s));
	for (int i = 0; i < 64; i++) {
		uint32_t t1 = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) +
			      ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
		uint32_t t2 = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
			      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

void sha256_hex(struct view v, char hex[65])
{
	uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	unsigned char tail[128] = {0};
	size_t whole = v.len / 64 * 64, rest = v.len - whole, size = rest < 56 ? 64 : 128;
	uint64_t bits = (uint64_t)v.len * 8;
	struct text t = {.at = hex, .cap = 65};

	for (size_t i = 0; i < whole; i += 64)
		sha256_block(h, (const unsigned char *)v.at + i);
	if (rest > 0)
		memcpy(tail, v.at + whole, rest);
	tail[rest] = 0x80;
	for (int i = 0; i < 8; i++)
		tail[size - 1 - (size_t)i] = (unsigned char)(bits >> 8 * i);
	for (size_t i = 0; i < size; i += 64)
		sha256_block(h, tail + i);
	for (int i = 0; i < 8; i++)
		text_printf(&t, "%08x", h[i]);
}

/* ---- protobuf fields ---- */

/* The message being decoded. A field of another wire type than its own nanopb hands over in a
 * buffer on its own stack: no view may point there. */
static struct view decoding;

bool view_field(pb_istream_t *in, pb_ostream_t *out, const pb_field_t *field)
{
	struct view *v = field->pData;
	bool repeated = PB_HTYPE(field->type) == PB_HTYPE_REPEATED;

	if (in) {
		/* A memory stream's state is the position in its buffer. */
		struct view got = {in->state, in->bytes_left};

		if ((uintptr_t)got.at < (uintptr_t)decoding.at ||
		    (uintptr_t)got.at > (uintptr_t)decoding.at + decoding.len)
			return true; /* unknown, like any other field */
		if (PB_LTYPE(field->type) == PB_LTYPE_STRING && !utf8_valid(got))
			PB_RETURN_ERROR(in, "string field contains invalid UTF-8");
		if (!repeated)
			*v = got;
		return true;
	}
	if (v->len == 0)
		return true;
	if (repeated)
		return pb_write(out, (const pb_byte_t *)v->at, v->len);
	return pb_encode_tag_for_field(out, field) &&
	       pb_encode_string(out, (const pb_byte_t *)v->at, v->len);
}

bool field_next(struct view *rest, uint32_t tag, struct view *value)
{
	pb_istream_t in = pb_istream_from_buffer((const pb_byte_t *)rest->at, rest->len);
	pb_wire_type_t type;
	uint32_t got;
	bool eof;

	while (pb_decode_tag(&in, &type, &got, &eof)) {
		pb_istream_t sub;

		if (got != tag || type != PB_WT_STRING) {
			if (!pb_skip_field(&in, type))
				break;
			continue;
		}
		if (!pb_make_string_substream(&in, &sub))
			break;
		*value = (struct view){sub.state, sub.bytes_left};
		if (!pb_close_string_substream(&in, &sub))
			break;
		*rest = (struct view){in.state, in.bytes_left};
		return true;
	}
	*rest = (struct view){0};
	return false;
}

bool msg_decode(struct view v, const pb_msgdesc_t *desc, void *msg)
{
	pb_istream_t in = pb_istream_from_buffer((const pb_byte_t *)v.at, v.len);

	decoding = v;
	return pb_decode_ex(&in, desc, msg, PB_DECODE_NOINIT);
}

bool nested_field(pb_istream_t *in, pb_ostream_t *out, const pb_field_t *field)
{
	const struct nested *n = field->pData;

	if (PB_LTYPE(field->type) == PB_LTYPE_STRING)
		return view_field(in, out, field);
	if (in || !n->desc)
		return true;
	return pb_encode_tag_for_field(out, field) && pb_encode_submessage(out, n->desc, n->msg);
}
