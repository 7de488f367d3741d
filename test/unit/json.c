// SPDX-License-Identifier: Apache-2.0
/*
 * json.c's tests: lookups, escapes, types, and texts that are none.
 */
#include "unit.h"

static struct json doc;
static struct view doc_text;

static int parse(const char *text, size_t len)
{
	doc_text = exact(text, len);
	return json_open(&doc, doc_text);
}

static void open_ok(const char *text)
{
	assert_int_equal(parse(text, strlen(text)), 0);
}

static void close_doc(void)
{
	json_close(&doc);
	drop(doc_text);
}

/* The string at `value`, unescaped. */
static struct text unescaped(int value)
{
	static char buf[4096];
	struct text t = TEXT(buf);

	json_string(&doc, value, &t);
	return t;
}

static void assert_string(int value, const char *text, size_t len)
{
	struct text t = unescaped(value);

	assert_false(t.cut);
	assert_int_equal(t.len, len);
	assert_memory_equal(t.at, text, len);
}

static void lookups(void **state)
{
	(void)state;
	open_ok("{\"a\": \"x\", \"b\": {\"a\": \"y\", \"c\": [1, {\"d\": true}, \"z\"]}, \"e\": "
		"null,\n"
		" \"\": \"empty\", \"ab\": -1.5e3}");
	assert_view(json_raw(&doc, json_get(&doc, 0, "a")), "x");
	assert_view(json_raw(&doc, json_get(&doc, json_get(&doc, 0, "b"), "a")), "y");
	assert_view(json_raw(&doc, json_get(&doc, 0, "e")), "null");
	assert_view(json_raw(&doc, json_get(&doc, 0, "")), "empty");
	assert_view(json_raw(&doc, json_get(&doc, 0, "ab")), "-1.5e3");
	assert_int_equal(json_get(&doc, 0, "c"), -1); /* only members, not what is in them */
	assert_int_equal(json_get(&doc, 0, "d"), -1);
	assert_int_equal(json_get(&doc, 0, "x"), -1); /* nor values */
	assert_int_equal(json_get(&doc, 0, "A"), -1);
	assert_view(json_raw(&doc, json_get(&doc, json_get(&doc, 0, "b"), "c")),
		    "[1, {\"d\": true}, \"z\"]");
	close_doc();
}

/* "None" may be passed on to everything. */
static void lookups_chain(void **state)
{
	struct text t;

	(void)state;
	open_ok("{\"a\": {\"b\": [\"c\"]}, \"s\": \"text\", \"n\": 1}");
	assert_int_equal(json_get(&doc, json_get(&doc, json_get(&doc, 0, "x"), "y"), "z"), -1);
	assert_int_equal(json_get(&doc, -1, "a"), -1);
	assert_int_equal(json_first(&doc, -1), -1);
	assert_int_equal(json_raw(&doc, -1).len, 0);
	t = unescaped(-1);
	assert_int_equal(t.len, 0);
	/* So may a value of another type than looked for. */
	assert_int_equal(json_get(&doc, json_get(&doc, 0, "s"), "a"), -1);
	assert_int_equal(json_get(&doc, json_get(&doc, 0, "n"), "a"), -1);
	assert_int_equal(json_first(&doc, json_get(&doc, 0, "s")), -1);
	assert_int_equal(json_first(&doc, 0), -1);
	assert_int_equal(json_get(&doc, json_get(&doc, json_get(&doc, 0, "a"), "b"), "c"), -1);
	assert_int_equal(unescaped(json_get(&doc, 0, "n")).len, 0);
	assert_int_equal(unescaped(json_get(&doc, 0, "a")).len, 0);
	close_doc();
}

static void arrays_walked(void **state)
{
	static const char *const expected[] = {
		"1", "[2,[3]]", "{\"a\":[4],\"b\":5}", "", "six", "[]", "{}", "7"};
	unsigned int n = 0;
	int a;

	(void)state;
	open_ok("{\"before\":[0],\"a\":[1,[2,[3]],{\"a\":[4],\"b\":5},\"\",\"six\",[],{},7],"
		"\"behind\":8}");
	a = json_get(&doc, 0, "a");
	for (int v = json_first(&doc, a); v >= 0; v = json_next(&doc, a, v)) {
		assert_true(n < COUNT(expected));
		assert_view(json_raw(&doc, v), expected[n++]);
	}
	assert_int_equal(n, COUNT(expected));
	close_doc();
	open_ok("[]");
	assert_int_equal(json_first(&doc, 0), -1);
	close_doc();
	open_ok("[[],[]]");
	a = json_first(&doc, 0);
	assert_int_equal(json_first(&doc, a), -1);
	a = json_next(&doc, 0, a);
	assert_true(a >= 0);
	assert_int_equal(json_first(&doc, a), -1);
	assert_int_equal(json_next(&doc, 0, a), -1);
	close_doc();
	open_ok(" [ \"\" , \"\" ] ");
	a = json_first(&doc, 0);
	assert_int_equal(json_raw(&doc, a).len, 0);
	a = json_next(&doc, 0, a);
	assert_true(a >= 0);
	assert_int_equal(json_next(&doc, 0, a), -1);
	close_doc();
}

static void strings_unescaped(void **state)
{
	static const struct {
		const char *text;
		struct view is;
	} cases[] = {
		{"", {"", 0}},
		{"plain", {"plain", 5}},
		{"gr\xc3\xbc\xc3\x9f", {"gr\xc3\xbc\xc3\x9f", 6}},
		{"\\\"\\\\\\/\\b\\f\\n\\r\\t", {"\"\\/\b\f\n\r\t", 8}},
		{"\\u0041\\u004a\\u004A", {"AJJ", 3}},
		{"\\u0000", {"\0", 1}},
		{"\\u007f\\u0080\\u07ff\\u0800", {"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80", 8}},
		{"\\uabcd\\uABCD", {"\xea\xaf\x8d\xea\xaf\x8d", 6}},
		{"\\uffff", {"\xef\xbf\xbf", 3}},
		{"\\ud83d\\udc33", {"\xf0\x9f\x90\xb3", 4}},
		{"\\ud800\\udc00", {"\xf0\x90\x80\x80", 4}},
		{"\\uDBFF\\uDFFF", {"\xf4\x8f\xbf\xbf", 4}},
		{"x\\ud83d\\udc33y", {"x\xf0\x9f\x90\xb3y", 6}},
		/* Halves alone become U+FFFD, each. */
		{"\\ud83d", {"\xef\xbf\xbd", 3}},
		{"\\udc33", {"\xef\xbf\xbd", 3}},
		{"\\udc33\\ud83d", {"\xef\xbf\xbd\xef\xbf\xbd", 6}},
		{"\\ud83dxyzxyz", {"\xef\xbf\xbdxyzxyz", 9}},
		{"\\ud83d\\n", {"\xef\xbf\xbd\n", 4}},
		{"\\ud83d\\u0041",
		 {"\xef\xbf\xbd"
		  "A",
		  4}},
		{"\\ud83d\\ud83d\\udc33", {"\xef\xbf\xbd\xf0\x9f\x90\xb3", 7}},
		{"\\\\u0041", {"\\u0041", 6}},
		{"\\\\\\\\", {"\\\\", 2}},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char text[128];

		snprintf(text, sizeof(text), "{\"v\":\"%s\",\"w\":0}", cases[i].text);
		open_ok(text);
		assert_string(json_get(&doc, 0, "v"), cases[i].is.at, cases[i].is.len);
		assert_view(json_raw(&doc, json_get(&doc, 0, "v")), cases[i].text);
		close_doc();
	}
}

/* Every point of the basic plane, and some beyond, by escapes: valid UTF-8 in all cases. */
static void every_escape(void **state)
{
	(void)state;
	for (unsigned int c = 0; c <= 0xffff;
	     c += c < 0x1000 || (c >= 0xd700 && c < 0xe100) ? 1 : 61) {
		char text[32];
		struct text t;

		snprintf(text, sizeof(text), "[\"\\u%04x\"]", c);
		open_ok(text);
		t = unescaped(json_first(&doc, 0));
		assert_true(utf8_valid((struct view){t.at, t.len}));
		assert_int_equal(t.len, c < 0x80 ? 1 : c < 0x800 ? 2 : 3);
		close_doc();
	}
}

/* A string longer than the buffer it goes to. */
static void strings_cut(void **state)
{
	char buf[4];
	struct text t = TEXT(buf);

	(void)state;
	open_ok("[\"abcdefgh\"]");
	json_string(&doc, json_first(&doc, 0), &t);
	assert_true(t.cut);
	assert_string_equal(buf, "abc");
	close_doc();
}

static void no_json(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"\n",
		"x",
		"{",
		"[",
		"\"",
		"}",
		"]",
		"{]",
		"[}",
		"[1}",
		"{\"a\":1]",
		"[1",
		"[1,",
		"{\"a\"",
		"{\"a\":",
		"{\"a\":1",
		"\"a",
		"[\"\\",
		"[\"\\x\"]",
		"[\"\\u12g4\"]",
		"[\"\\u123",
		"tru",
		"[1]]",
		"{}}",
		"time=\"x\" level=error",
		"{'a':1}",
		"[\x01]",
		"[\xff]",
		"{:}",
		"{,}",
		"[,]",
		"[1,]",
		"[1,,2]",
		"{\"a\":}",
		"{\"a\":,\"b\":1}",
		"{\"a\"::1}",
		"{\"a\":1,}",
		"{ : 1}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		int err = parse(texts[i], strlen(texts[i]));

		if (err == 0)
			print_error("taken for JSON: %s\n", texts[i]);
		assert_int_equal(err, -EINVAL);
		assert_null(doc.tokens);
		close_doc(); /* does no harm */
	}
	assert_int_equal(json_open(&doc, (struct view){0}), -EINVAL);
}

/* What comes out of a document lies in it, whatever that is. */
static void walk(int value, unsigned int depth)
{
	struct view raw = json_raw(&doc, value);

	assert_true(raw.at >= doc_text.at && raw.at + raw.len <= doc_text.at + doc_text.len);
	unescaped(value);
	if (depth > 8)
		return;
	for (int v = json_first(&doc, value); v >= 0; v = json_next(&doc, value, v)) {
		assert_in_range(v, value + 1, doc.count - 1);
		walk(v, depth + 1);
	}
	for (const char *const *key =
		     (const char *const[]){"a", "b", "c", "level", "msg", "", NULL};
	     *key; key++) {
		int v = json_get(&doc, value, *key);

		if (v >= 0) {
			assert_in_range(v, value + 1, doc.count - 1);
			walk(v, depth + 1);
		}
	}
}

static const char sample[] =
	"{\"a\": [\"x\", {\"b\": \"\\ud83d\\udc33\\n\", \"c\": [1, -2.5, true, null, []]}, {}],\n"
	" \"level\": \"error\", \"msg\": \"a \\\"b\\\" \\u00fc\", \"\": {\"a\": [[[\"\"]]]}}";

static void cut_at_every_byte(void **state)
{
	(void)state;
	for (size_t len = 0; len <= sizeof(sample) - 1; len++) {
		int err = parse(sample, len);

		assert_int_equal(err, len == sizeof(sample) - 1 ? 0 : -EINVAL);
		if (err == 0)
			walk(0, 0);
		close_doc();
	}
}

/* One byte is another one: no matter whether that still is JSON, nothing is read outside of it. */
static void any_byte_wrong(void **state)
{
	static const char wrong[] = "{}[]\",:\\u0dt \n\x80";
	char text[sizeof(sample)];

	(void)state;
	for (size_t at = 0; at < sizeof(sample) - 1; at++)
		for (size_t w = 0; w < sizeof(wrong); w++) { /* with the NUL */
			memcpy(text, sample, sizeof(sample));
			text[at] = wrong[w];
			if (parse(text, sizeof(sample) - 1) == 0)
				walk(0, 0);
			close_doc();
		}
}

/* Short texts of nothing but syntax. */
static void any_syntax(void **state)
{
	static const char alphabet[] = "{}[]\"a:,1";
	char text[6] = "";

	(void)state;
	for (unsigned int n = 0; n < 9 * 9 * 9 * 9 * 9; n++) {
		unsigned int rest = n;

		for (int i = 0; i < 5; i++, rest /= 9)
			text[i] = alphabet[rest % 9];
		if (parse(text, 5) == 0)
			walk(0, 0);
		close_doc();
	}
}

static void nest(char *text, size_t depth)
{
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
}

static void deep_nesting(void **state)
{
	enum { DEPTH = 1000 };
	char text[2 * DEPTH];
	int value = 0, depth = 0;

	(void)state;
	nest(text, DEPTH);
	assert_int_equal(parse(text, 2 * DEPTH), 0);
	for (; value >= 0; depth++)
		value = json_first(&doc, value);
	assert_int_equal(depth, DEPTH);
	close_doc();
	for (size_t len = 1; len < 2 * DEPTH; len += VALGRIND() ? 7 : 1) {
		assert_int_equal(parse(text, len), -EINVAL);
		close_doc();
	}
}

static uint64_t processor_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* What is eight times as large takes about eight times as long, on any machine: not the square of it. A
 * measurement may be spoiled, so there is more than one. */
static void assert_linear(void (*act)(int size), int size)
{
	uint64_t begin, small, large;
	int attempts = 0;

	do {
		assert_true(attempts++ < 4);
		begin = processor_ns();
		act(size);
		small = processor_ns() - begin;
		act(8 * size);
		large = processor_ns() - begin - small;
	} while (large > 24 * small);
}

static void nest_and_parse(int depth)
{
	size_t len = 2 * (size_t)depth;
	char *text = malloc(len);

	nest(text, (size_t)depth);
	parse(text, len);
	close_doc();
	free(text);
}

/* Whether it is taken or refused: nobody waits for it. */
static void endless_nesting(void **state)
{
	(void)state;
	assert_linear(nest_and_parse, 1 << 10);
}

static void find_members(int members)
{
	size_t cap = (size_t)members * 100;
	char *buf = malloc(cap), name[16];
	struct text t = {.at = buf, .cap = cap};
	int n = 0;

	text_add(&t, VIEW("{\"process\":{\"env\":["));
	for (int i = 0; i < members; i++)
		text_printf(&t, "%s\"VARIABLE_%d=%0*d\"", i ? "," : "", i, i % 40, i);
	text_add(&t, VIEW("]},\"mounts\":{"));
	for (int i = 0; i < members; i++)
		text_printf(&t, "%s\"m%d\":{\"type\":\"pid\",\"n\":[%d]}", i ? "," : "", i, i);
	text_add(&t, VIEW("},\"last\":\"found\"}"));
	assert_false(t.cut);
	assert_int_equal(parse(buf, t.len), 0);
	assert_view(json_raw(&doc, json_get(&doc, 0, "last")), "found");
	snprintf(name, sizeof(name), "m%d", members - 1);
	{
		int env = json_get(&doc, json_get(&doc, 0, "process"), "env");
		int m = json_get(&doc, json_get(&doc, 0, "mounts"), name);

		for (int v = json_first(&doc, env); v >= 0; v = json_next(&doc, env, v))
			n++;
		assert_int_equal(n, members);
		assert_view(json_raw(&doc, json_first(&doc, json_get(&doc, m, "n"))), name + 1);
	}
	close_doc();
	free(buf);
}

/* A config.json of some hundred kilobytes: its members are found at once, behind all the others. */
static void large_document(void **state)
{
	(void)state;
	assert_linear(find_members, 1000);
}

/* A document that is one value, and more than one. */
static void roots(void **state)
{
	(void)state;
	open_ok("\"text\"");
	assert_string(0, "text", 4);
	assert_int_equal(json_get(&doc, 0, "text"), -1);
	close_doc();
	open_ok("  {\"a\":1}  \r\n\t");
	assert_view(json_raw(&doc, json_get(&doc, 0, "a")), "1");
	close_doc();
	open_ok("{\"a\":1} {\"b\":2}");
	assert_view(json_raw(&doc, json_get(&doc, 0, "a")), "1");
	assert_int_equal(json_get(&doc, 0, "b"), -1);
	close_doc();
}

/* Of two members of the same name the first one counts; one whose value is missing is none. */
static void odd_objects(void **state)
{
	(void)state;
	open_ok("{\"a\":1,\"a\":2}");
	assert_view(json_raw(&doc, json_get(&doc, 0, "a")), "1");
	close_doc();
	if (parse("{\"a\"}", 5) == 0)
		assert_int_equal(json_get(&doc, 0, "a"), -1);
	close_doc();
	if (parse("[{\"a\"},\"b\"]", 11) == 0)
		assert_int_equal(json_get(&doc, json_first(&doc, 0), "a"), -1);
	close_doc();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookups),        cmocka_unit_test(lookups_chain),
		cmocka_unit_test(arrays_walked),  cmocka_unit_test(strings_unescaped),
		cmocka_unit_test(every_escape),   cmocka_unit_test(strings_cut),
		cmocka_unit_test(no_json),        cmocka_unit_test(cut_at_every_byte),
		cmocka_unit_test(any_byte_wrong), cmocka_unit_test(any_syntax),
		cmocka_unit_test(deep_nesting),   cmocka_unit_test(endless_nesting),
		cmocka_unit_test(large_document), cmocka_unit_test(roots),
		cmocka_unit_test(odd_objects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
