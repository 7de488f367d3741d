// SPDX-License-Identifier: Apache-2.0
/*
 * json.c - reading a value by its path out of a JSON text, over jsmn.
 *
 * jsmn gives a flat list of tokens in document order: a container's token is followed by those of
 * everything inside it, and a member's key by its value. So the next sibling of a token is the
 * first one that starts behind the token's end. A text is parsed, asked, and closed at once, so its
 * tokens can live in the scratch memory, or else in pages that json_close() gives back.
 */
#include <errno.h>
#include <string.h>

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS /* closing a bracket costs one step, whatever the text is */
#include <jsmn.h>

#include "util.h"

#define DEPTH_MAX 1000

/* What jsmn does not mind: a depth by whose square its time grows, and commas and colons with nothing
 * before or behind them. */
static bool refused(struct view text)
{
	bool in_string = false;
	char before = '{';
	int depth = 0;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];

		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		if (in_string || c <= ' ')
			continue;
		if (c == ':')
			c = ',';
		c |= 0x20; /* brackets become braces */
		depth += (c == '{') - (c == '}');
		if (depth > DEPTH_MAX || (before == ',' && (c == ',' || c == '}')) ||
		    (before == '{' && c == ','))
			return true;
		before = c;
	}
	return false;
}

#define TOKENS 400 /* more than most texts have */
_Static_assert(TOKENS * sizeof(jsmntok_t) <= sizeof(scratch.tokens), "they fit");

static bool scratch_in_use;

static int parse(struct view text, void *tokens, unsigned int max)
{
	jsmn_parser parser;

	jsmn_init(&parser);
	return jsmn_parse(&parser, text.at, text.len, tokens, max);
}

int json_open(struct json *j, struct view text)
{
	int count;

	*j = (struct json){.text = text};
	if (refused(text))
		return -EINVAL;
	if (!scratch_in_use) {
		count = parse(text, scratch.tokens, TOKENS);
		if (count > 0) {
			scratch_in_use = true;
			j->tokens = scratch.tokens;
			j->count = count;
			return 0;
		}
	}
	count = parse(text, NULL, 0);
	if (count <= 0)
		return -EINVAL;
	j->tokens = pages_get((size_t)count * sizeof(jsmntok_t));
	if (!j->tokens)
		return -ENOMEM;
	j->count = count;
	if (parse(text, j->tokens, (unsigned int)count) != count) {
		json_close(j);
		return -EINVAL;
	}
	return 0;
}

void json_close(struct json *j)
{
	if (j->tokens == scratch.tokens)
		scratch_in_use = false;
	else
		pages_put(j->tokens, (size_t)j->count * sizeof(jsmntok_t));
	*j = (struct json){0};
}

static const jsmntok_t *token(const struct json *j, int value)
{
	return (const jsmntok_t *)j->tokens + value;
}

static int after(const struct json *j, int value)
{
	int end = token(j, value)->end;

	do
		value++;
	while (value < j->count && token(j, value)->start < end);
	return value;
}

static bool inside(const struct json *j, int parent, int value)
{
	return value < j->count && token(j, value)->start < token(j, parent)->end;
}

int json_get(const struct json *j, int object, const char *key)
{
	if (object < 0 || token(j, object)->type != JSMN_OBJECT)
		return -1;
	for (int k = object + 1; inside(j, object, k); k = after(j, k)) {
		int value = k + 1;
		struct view name = json_raw(j, k);

		if (!inside(j, object, value))
			return -1;
		/* Keys with escapes in them are none of ours. */
		if (view_is(name, key))
			return value;
		k = value;
	}
	return -1;
}

int json_first(const struct json *j, int array)
{
	if (array < 0 || token(j, array)->type != JSMN_ARRAY || !inside(j, array, array + 1))
		return -1;
	return array + 1;
}

int json_next(const struct json *j, int array, int value)
{
	int next = after(j, value);

	return inside(j, array, next) ? next : -1;
}

struct view json_raw(const struct json *j, int value)
{
	const jsmntok_t *tok;

	if (value < 0)
		return (struct view){0};
	tok = token(j, value);
	return (struct view){j->text.at + tok->start, (size_t)(tok->end - tok->start)};
}

bool json_is_object(const struct json *j, int value)
{
	return value >= 0 && token(j, value)->type == JSMN_OBJECT;
}

static unsigned int hex4(const char *s)
{
	unsigned int n = 0;

	for (int i = 0; i < 4; i++)
		n = n << 4 | (unsigned int)(s[i] <= '9' ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
	return n;
}

static void add_point(struct text *t, unsigned int c)
{
	char u[4];
	size_t n = 0;

	if (c < 0x80) {
		u[n++] = (char)c;
	} else if (c < 0x800) {
		u[n++] = (char)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		u[n++] = (char)(0xe0 | c >> 12);
		u[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	} else {
		u[n++] = (char)(0xf0 | c >> 18);
		u[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		u[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	}
	if (c >= 0x80)
		u[n++] = (char)(0x80 | (c & 0x3f));
	text_add(t, (struct view){u, n});
}

/* A \uXXXX at s (n bytes left, the backslash first), with its other half if it is a surrogate.
 * Returns how many bytes it took. */
static size_t add_escape_u(struct text *t, const char *s, size_t n)
{
	unsigned int c, low;

	if (n < 6)
		return n; /* jsmn lets a text end here */
	c = hex4(s + 2);
	if (c >= 0xd800 && c < 0xdc00 && n >= 12 && s[6] == '\\' && s[7] == 'u') {
		low = hex4(s + 8);
		if (low >= 0xdc00 && low < 0xe000) {
			add_point(t, 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
			return 12;
		}
	}
	add_point(t, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
	return 6;
}

void json_string(const struct json *j, int value, struct text *t)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	struct view v = json_raw(j, value);
	size_t i = 0;

	if (value < 0 || token(j, value)->type != JSMN_STRING)
		return;
	while (i < v.len) {
		const char *hit;

		if (v.at[i] != '\\' || i + 1 == v.len) {
			text_add(t, (struct view){v.at + i++, 1});
			continue;
		}
		if (v.at[i + 1] == 'u') {
			i += add_escape_u(t, v.at + i, v.len - i);
			continue;
		}
		hit = strchr(from, v.at[i + 1]);
		text_add(t, hit ? (struct view){to + (hit - from), 1}
				: (struct view){v.at + i + 1, 1});
		i += 2;
	}
}
