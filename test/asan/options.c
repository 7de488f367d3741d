// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - how the sanitizers behave in the program that the integration tests run (test/run
 * asan): whatever the environment is, and wherever fd 2 leads, a finding is written to a file in
 * REPORTS, and the process ends.
 */

/* No leaks: the daemon has no heap. */
static const char options[] = "log_path=" REPORTS "/report:log_exe_name=1:exitcode=99:"
			      "print_stacktrace=1:detect_leaks=0:detect_stack_use_after_return=1:"
			      "strict_string_checks=1:check_initialization_order=1:handle_abort=1";

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
	return options;
}

const char *__ubsan_default_options(void)
{
	return options;
}
