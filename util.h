/* SPDX-License-Identifier: Apache-2.0
 *
 * util.h - the ground floor: text, files, logging, JSON. Knows nothing of containers or wires.
 */
#ifndef UTIL_H
#define UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* ---- views: borrowed text ---- */

/* A span of bytes somebody else owns; not NUL-terminated. {NULL, 0} is the empty view. */
struct view {
	const char *at;
	size_t len;
};

#define VIEW(literal) ((struct view){literal, sizeof(literal) - 1})
/* For printf's "%.*s". A text past 2 GiB never gets here: frames end at 4 MiB. */
#define VIEW_FMT(v) (int)(v).len, (v).at

struct view view_of(const char *text);         /* NULL gives the empty view */
bool view_is(struct view v, const char *text); /* equal, byte for byte */
bool view_starts(struct view v, const char *prefix);
struct view view_trim(struct view v); /* without white space at both ends */
/* Cuts *rest at the first `end` byte: returns what is before it, leaves what is behind it. */
struct view view_cut(struct view *rest, char end);
/* Decimal digits only; -1 if it is anything else or does not fit in an int. */
int view_int(struct view v);
bool utf8_valid(struct view v);

/* ---- text: a bounded builder ---- */

/* Appends to a buffer of the caller's; always NUL-terminated; what does not fit is cut off and
 * `cut` is set, so that one check at the end is enough. */
struct text {
	char *at;
	size_t cap, len;
	bool cut;
};

#define TEXT(buffer) ((buffer)[0] = '\0', (struct text){.at = (buffer), .cap = sizeof(buffer)})

void text_add(struct text *t, struct view v);
/* %s %.*s %c %d %u %x with width, '0', l and z. */
void text_printf(struct text *t, const char *fmt, ...) PRINTF(2, 3);
void text_vprintf(struct text *t, const char *fmt, va_list args);
bool text_has(const struct text *t, const char *word); /* whatever the case of its letters */
/* Ends the text being built and begins another one behind its NUL, at the address returned. */
char *text_next(struct text *t);
/* An errno in the words of Go, which are the kernel's own: clients look for some of them. */
const char *errno_text(int err);
/* Adds v as the inside of a JSON string (without the quotes). */
void text_json(struct text *t, struct view v);

/* ---- pages: memory for the rare long thing ---- */

/* The daemon has no heap. What does not fit a slot lives in pages of its own, straight from
 * mmap(2), and goes back to the kernel when it is released. */
void *pages_get(size_t len);          /* zeroed; NULL if the kernel refuses */
void pages_put(void *at, size_t len); /* NULL is fine */

#define PAGE 4096
/* For variables that begin a page and share it with no small ones (nanoshim.ld). The sanitizer watches
 * the ends only of those that are not aligned so. */
#ifdef __SANITIZE_ADDRESS__
#define TABLE(name)
#else
#define TABLE(name) __attribute__((section(".bss.table." #name), aligned(PAGE)))
#endif

/* Buffers that hold nothing from one turn of the loop to the next: they are given back to the
 * kernel when the process has been idle for a while, and come back zeroed. Each has one user at a time. */
extern struct scratch {
	char in[PAGE], out[PAGE]; /* ttrpc.c */
	char args[2 * PAGE];      /* runtime.c */
	char copy[PAGE];          /* io.c; metrics, as a rule */
	char tokens[2 * PAGE];    /* json.c */
	char events[PAGE]; /* event.c: used while events wait, and then the loop is not idle */
} scratch;

/* Gives back the whole pages within [at, at + len): what is in them is zero from now on. */
void pages_forget(void *at, size_t len);
/* The same for what the stack needed once, below the caller's frame. */
void stack_forget(void);

/* ---- the program itself (relocate.c) ---- */

/* To be called first of all, where main() begins. */
void relocate(void);
/* Gives back the pages it has written to. True: relocate() must be called before anything but the
 * code that follows is needed. */
bool relocate_undo(void);

/* ---- files ---- */

int file_open(const char *path, int flags, mode_t mode); /* as open(2); always with O_CLOEXEC */
void fd_close(int *fd); /* closes *fd if >= 0 and sets it to -1; errno is kept */
/* Reads a whole small file, NUL-terminated, at most cap - 1 bytes. Its length, or -errno; -EFBIG if
 * there is more. */
ssize_t file_read(const char *path, char *buf, size_t cap);
/* The same by a single read(2): for files that were written at once, as those with one line are. */
ssize_t file_line(const char *path, char *buf, size_t cap);
/* As file_read(), for a file of any length, in pages of its own, which the caller puts back: `len`
 * bytes in `cap` mapped ones. 0 or -errno. */
struct file {
	char *at;
	size_t len, cap;
};
int file_pages(const char *path, struct file *f);
/* Creates or truncates `path` with `mode` and writes v. 0 or -errno. */
int file_write(const char *path, struct view v, mode_t mode);
/* Writes v to a file that must be there: the kernel's own, mostly. 0 or -errno. */
int file_append(const char *path, struct view v);
/* As file_write(), by a temporary name beside it and rename(2): readers see the old or the new
 * file whole. */
int file_replace(const char *path, struct view v, mode_t mode);
/* Walks a directory: starts zeroed but for `fd`, which stays the caller's. NULL at the end, or if
 * `error` (-errno) is set. "." and ".." are passed over. opendir(3) would want a heap. */
struct dirent;
struct dir {
	int fd, error;
	long at, len;
	_Alignas(8) char buf[1024];
};
const struct dirent *dir_next(struct dir *d);
int write_all(int fd, struct view v); /* blocking fd; 0 or -errno */

/* ---- time ---- */

uint64_t clock_ms(void); /* monotonic */

/* ---- logging ---- */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
extern bool log_debug; /* print LOG_DEBUG lines too */

/* One line in containerd's format to fd 2, by one write(2); lost if fd 2 would block. */
/* (Not logf: that is a function of math.h.) */
void logf_(enum log_level level, const char *fmt, ...) PRINTF(2, 3);
#define log_line(level, ...)                          \
	do {                                          \
		if ((level) > LOG_DEBUG || log_debug) \
			logf_(level, __VA_ARGS__);    \
	} while (0)

/* ---- digest ---- */

/* SHA-256 of v (FIPS 180-4) as 64 lowercase hex digits and a NUL. */
void sha256_hex(struct view v, char hex[65]);

/* ---- protobuf fields (by nanopb) ---- */

/* Every string, bytes and repeated field of our messages is a struct view with this one nanopb
 * callback (proto/nanoshim.options). Decoding: a singular field becomes a view into the receive
 * buffer, nothing is copied; text that is not UTF-8 is refused; a repeated field is passed over,
 * walk it with field_next(). Encoding: a singular field is written unless empty; a repeated
 * field's view holds its elements already encoded, tags and all. */
struct pb_istream_s;
struct pb_ostream_s;
struct pb_field_iter_s;
struct pb_msgdesc_s;
bool view_field(struct pb_istream_s *in, struct pb_ostream_s *out,
		const struct pb_field_iter_s *field);

/* A bytes field that holds another message, encoded in place; a NULL descriptor leaves it out.
 * Passed over in decoding. Strings in the same message are views. */
struct nested {
	const struct pb_msgdesc_s *desc;
	const void *msg;
};
bool nested_field(struct pb_istream_s *in, struct pb_ostream_s *out,
		  const struct pb_field_iter_s *field);

/* Walks an encoded message: the next length-delimited field `tag` in *rest goes to *value and
 * *rest moves past it. False at the end, or where the message is malformed. */
bool field_next(struct view *rest, uint32_t tag, struct view *value);

/* Decodes v into *msg (which must be zeroed) by a nanopb descriptor; false if malformed. */
bool msg_decode(struct view v, const struct pb_msgdesc_s *desc, void *msg);

/* ---- JSON (json.c, over jsmn) ---- */

/* A parsed text, to be closed within the same turn of the loop. Values are token numbers; 0 is the
 * document itself, -1 is "there is none" and may be passed on to every function here: lookups chain
 * without checks. */
struct json {
	struct view text;
	void *tokens;
	int count;
};

/* 0, -EINVAL if the text is no JSON, -ENOMEM. On failure there is nothing to close. */
int json_open(struct json *j, struct view text);
void json_close(struct json *j);
int json_get(const struct json *j, int object, const char *key); /* member's value or -1 */
/* for (int v = json_first(j, a); v >= 0; v = json_next(j, a, v)) walks an array's values. */
int json_first(const struct json *j, int array);
int json_next(const struct json *j, int array, int value);
/* The value's own bytes: strings without quotes and still escaped; empty for -1. */
struct view json_raw(const struct json *j, int value);
bool json_is_object(const struct json *j, int value);
/* Appends a string's unescaped bytes (UTF-8) to t; nothing for any other type. */
void json_string(const struct json *j, int value, struct text *t);

#endif
