/* SPDX-License-Identifier: Apache-2.0
 *
 * cmocka.h - as much of cmocka's interface as the unit tests use.
 *
 * Debian's cmocka is a shared library for the GNU C library. For other machines the tests are
 * linked like the program itself, statically against musl, so that they see the time_t, the
 * structs and the system calls that the program will see there. Output is TAP, of one group.
 */
#ifndef CMOCKA_H
#define CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*test)(void **state);
	int (*setup)(void **state);
	int (*teardown)(void **state);
	void *state;
};

#define cmocka_unit_test(f) cmocka_unit_test_setup_teardown(f, NULL, NULL)
#define cmocka_unit_test_setup_teardown(f, setup, teardown) \
	{                                                   \
#f, f, setup, teardown, NULL                \
	}

static jmp_buf cmocka_out_of_test;

#define cmocka_set_test_filter(pattern) ((void)(pattern))

#define print_error(...) cmocka_print(__VA_ARGS__)
#define print_message(...) cmocka_print(__VA_ARGS__)

__attribute__((format(printf, 1, 2))) static inline void cmocka_print(const char *fmt, ...)
{
	char text[8192], *line = text;
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (char *end; *line; line = end) {
		end = strchr(line, '\n');
		end = end ? end + 1 : line + strlen(line);
		printf("# %.*s%s", (int)(end - line), line, end[-1] == '\n' ? "" : "\n");
	}
}

static inline _Noreturn void _fail(const char *file, int line)
{
	printf("# %s:%d: failed\n", file, line);
	longjmp(cmocka_out_of_test, 1);
}

#define fail() _fail(__FILE__, __LINE__)
#define fail_msg(...) (cmocka_print(__VA_ARGS__), fail())
#define skip() longjmp(cmocka_out_of_test, 2)

static inline void cmocka_check(int good, const char *what, const char *file, int line)
{
	if (!good) {
		printf("# %s\n", what);
		_fail(file, line);
	}
}

static inline int cmocka_within(uint64_t n, uint64_t low, uint64_t high)
{
	return n >= low && n <= high;
}

static inline void cmocka_compare(uint64_t a, uint64_t b, int wanted, const char *what,
				  const char *file, int line)
{
	if ((a == b) == wanted)
		return;
	printf("# %s: %#llx, %#llx\n", what, (unsigned long long)a, (unsigned long long)b);
	_fail(file, line);
}

static inline void cmocka_compare_text(const char *a, const char *b, int wanted, const char *file,
				       int line)
{
	if ((strcmp(a, b) == 0) == wanted)
		return;
	printf("# \"%s\", \"%s\"\n", a, b);
	_fail(file, line);
}

#define CMOCKA_CHECK(good, what) cmocka_check(good, what, __FILE__, __LINE__)
#define CMOCKA_NUMBERS(a, b, wanted) \
	cmocka_compare((uint64_t)(a), (uint64_t)(b), wanted, #a ", " #b, __FILE__, __LINE__)

#define assert_true(c) CMOCKA_CHECK(!!(c), #c)
#define assert_false(c) CMOCKA_CHECK(!(c), "not: " #c)
#define assert_null(p) CMOCKA_CHECK((p) == NULL, #p " is not NULL")
#define assert_non_null(p) CMOCKA_CHECK((p) != NULL, #p " is NULL")
#define assert_ptr_equal(a, b) CMOCKA_CHECK((const void *)(a) == (const void *)(b), #a " != " #b)
#define assert_ptr_not_equal(a, b) \
	CMOCKA_CHECK((const void *)(a) != (const void *)(b), #a " == " #b)
#define assert_int_equal(a, b) CMOCKA_NUMBERS(a, b, 1)
#define assert_int_not_equal(a, b) CMOCKA_NUMBERS(a, b, 0)
#define assert_in_range(n, low, high) CMOCKA_CHECK(cmocka_within(n, low, high), #n)
#define assert_memory_equal(a, b, len) CMOCKA_CHECK(memcmp(a, b, len) == 0, #a " != " #b)
#define assert_string_equal(a, b) cmocka_compare_text(a, b, 1, __FILE__, __LINE__)
#define assert_string_not_equal(a, b) cmocka_compare_text(a, b, 0, __FILE__, __LINE__)

/* 0: passed, 1: failed, 2: skipped */
static inline int cmocka_run_one(const struct CMUnitTest *t)
{
	void *state = t->state;
	volatile int result = 1;

	if (t->setup && t->setup(&state) != 0) {
		printf("# its setup failed\n");
		return 1;
	}
	result = setjmp(cmocka_out_of_test);
	if (result == 0)
		t->test(&state);
	if (t->teardown) {
		int reached = setjmp(cmocka_out_of_test);

		if (reached != 0 || t->teardown(&state) != 0) {
			printf("# its teardown failed\n");
			result = 1;
		}
	}
	return result;
}

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count,
			     int (*setup)(void **state), int (*teardown)(void **state))
{
	static const char *const words[] = {"ok", "not ok", "ok"};
	void *state = NULL;
	int failed = 0;

	/* Tests fork, and close descriptors: what is printed must be gone by then. */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	printf("1..%zu\n", count);
	if (setup && setup(&state) != 0)
		return 1;
	for (size_t i = 0; i < count; i++) {
		int result = cmocka_run_one(&tests[i]);

		printf("%s %zu - %s%s\n", words[result], i + 1, tests[i].name,
		       result == 2 ? " # SKIP" : "");
		failed += result == 1;
	}
	if (teardown && teardown(&state) != 0)
		failed++;
	return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown) \
	cmocka_run(tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) \
	cmocka_run_group_tests(tests, setup, teardown)

#endif
