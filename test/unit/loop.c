// SPDX-License-Identifier: Apache-2.0
/*
 * loop.c's tests: what is ready is handed out, timers end a wait, signals are seen in the same turn,
 * and an idle process is told so once.
 */
#include "unit.h"

#include "../../loop.c"

static int fds_of[2];

static int setup(void **state)
{
	(void)state;
	now = clock_ms();
	return pipe2(fds_of, O_CLOEXEC | O_NONBLOCK);
}

static int teardown(void **state)
{
	(void)state;
	close(fds_of[0]);
	close(fds_of[1]);
	return 0;
}

static void readiness(void **state)
{
	struct ref ref;

	(void)state;
	loop_want(fds_of[0], POLLIN, REF_CONN, 17, 3);
	loop_want(fds_of[1], POLLOUT, REF_PUMP, 65535, 2);
	loop_want(-1, POLLIN, REF_OOM, 1, 0); /* none: passed over */
	loop_wait();
	assert_true(loop_next(&ref));
	assert_int_equal(ref.kind, REF_PUMP);
	assert_int_equal(ref.slot, 65535);
	assert_int_equal(ref.part, 2);
	assert_int_equal(ref.got, POLLOUT);
	assert_false(loop_next(&ref));
	assert_int_equal(write(fds_of[1], "x", 1), 1);
	loop_want(fds_of[0], POLLIN, REF_CONN, 17, 3);
	loop_wait();
	assert_true(loop_next(&ref));
	assert_int_equal(ref.kind, REF_CONN);
	assert_int_equal(ref.slot, 17);
	assert_int_equal(ref.got, POLLIN);
	assert_false(loop_next(&ref));
	/* Nothing stays wanted. */
	loop_timer(0);
	loop_wait();
	assert_false(loop_next(&ref));
}

/* In the order they were asked for. */
static void order(void **state)
{
	struct ref ref;

	(void)state;
	for (unsigned int i = 0; i < 1000; i++)
		loop_want(i % 3 ? fds_of[1] : fds_of[0], i % 3 ? POLLOUT : POLLIN, REF_PUMP, i, 0);
	loop_wait();
	for (unsigned int i = 0; i < 1000; i++) {
		if (i % 3 == 0)
			continue;
		assert_true(loop_next(&ref));
		assert_int_equal(ref.slot, i);
	}
	assert_false(loop_next(&ref));
}

static void more_than_fit(void **state)
{
	struct ref ref;
	unsigned int n = 0;

	(void)state;
	for (unsigned int i = 0; i < SET_MAX + 100; i++)
		loop_want(fds_of[1], POLLOUT, REF_PUMP, i, 0);
	/* No more than the kernel lets a process ask for; then nothing is ready. */
	loop_timer(0);
	loop_wait();
	while (loop_next(&ref))
		n++;
	assert_true(n == SET_MAX || n == 0);
}

/* The earliest counts, and only for one wait. */
static void timers(void **state)
{
	struct ref ref;
	uint64_t begin = now;

	(void)state;
	loop_want(fds_of[0], POLLIN, REF_CONN, 0, 0);
	loop_timer(begin + 100000);
	loop_timer(begin + 30);
	loop_timer(begin + 200000);
	assert_true(deadline == begin + 30);
	assert_false(loop_wait());
	assert_true(now >= begin + 30);
	assert_false(loop_next(&ref));
	loop_timer(begin); /* it is over already */
	loop_wait();
	assert_true(deadline == UINT64_MAX);
}

/* A signal ends the wait, and its flag is there when it does. */
static void signals(void **state)
{
	sigset_t old, mask;
	uint64_t due;

	(void)state;
	sigprocmask(SIG_SETMASK, NULL, &old);
	loop_init();
	sigprocmask(SIG_SETMASK, NULL, &mask);
	assert_true(sigismember(&mask, SIGCHLD) && sigismember(&mask, SIGTERM) &&
		    sigismember(&mask, SIGPIPE));
	loop_child = loop_terminate = false;
	raise(SIGCHLD);
	assert_false(loop_child); /* nowhere but in the wait */
	due = now + guard_ms();
	loop_timer(due);
	loop_wait();
	assert_true(loop_child && now < due);
	assert_false(loop_terminate);
	loop_child = false;
	for (int i = 0; i < 2; i++) {
		raise(i ? SIGTERM : SIGINT);
		due = now + guard_ms();
		loop_timer(due);
		loop_wait();
		assert_true(loop_terminate && now < due);
		loop_terminate = false;
	}
	assert_false(loop_child);
	assert_int_equal(write(fds_of[1], "x", 1), 1);
	raise(SIGCHLD);
	for (int i = 0; i < BUSY_MAX && !loop_child; i++) { /* a descriptor is ready all the time */
		loop_want(fds_of[0], POLLIN, REF_CONN, 0, 0);
		loop_wait();
	}
	assert_true(loop_child);
	loop_child = false;
	raise(SIGPIPE); /* that one never ends a wait */
	due = now + 10;
	loop_timer(due);
	loop_wait();
	assert_true(now >= due);
	assert_false(loop_child || loop_terminate);
	for (int i = 0; i < 4; i++)
		signal((const int[]){SIGCHLD, SIGTERM, SIGINT, SIGUSR1}[i], SIG_DFL);
	signal(SIGPIPE, SIG_IGN); /* drops the one that is pending */
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* Once, when nothing has come for a while and nothing is due; again only after something came. */
static void idle_once(void **state)
{
	uint64_t begin;

	(void)state;
	assert_int_equal(write(fds_of[1], "x", 1), 1);
	loop_want(fds_of[0], POLLIN, REF_CONN, 0, 0);
	assert_false(loop_wait());
	begin = clock_ms();
	assert_true(loop_wait());
	assert_true(clock_ms() - begin >= IDLE_MS - 1);
	/* From now on it would sleep for ever: a timer ends that, and it has been told already. */
	loop_timer(now + 10);
	assert_false(loop_wait());
	loop_want(fds_of[0], POLLIN, REF_CONN, 0, 0);
	assert_false(loop_wait());
	assert_true(loop_wait());
}

/* What is waited for in the long sleep is known when it ends, whatever was given back meanwhile. */
static void long_sleep(void **state)
{
	static const unsigned int counts[] = {1, FEW, FEW + 1};
	struct ref ref;
	int status;
	char x;

	(void)state;
	assert_int_equal(write(fds_of[1], "x", 1), 1);
	loop_want(fds_of[0], POLLIN, REF_CONN, 0, 0);
	assert_false(loop_wait());
	assert_int_equal(read(fds_of[0], &x, 1), 1);
	for (size_t i = 0; i < COUNT(counts); i++) {
		unsigned int last = counts[i] - 1;
		pid_t child;

		assert_true(loop_wait()); /* the next one is without an end */
		child = fork();
		if (child == 0) {
			await_asleep(getppid());
			_exit(write(fds_of[1], "x", 1) != 1);
		}
		for (unsigned int slot = 0; slot < last; slot++)
			loop_want(fds_of[1], 0, REF_PUMP, slot, 1);
		loop_want(fds_of[0], POLLIN, REF_CONN, last, 2);
		assert_false(loop_wait());
		assert_true(loop_next(&ref));
		assert_true(ref.kind == REF_CONN && ref.slot == last && ref.part == 2);
		assert_true(ref.got & POLLIN);
		assert_false(loop_next(&ref));
		assert_int_equal(read(fds_of[0], &x, 1), 1);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		LOOP_TEST(readiness),  LOOP_TEST(order),   LOOP_TEST(more_than_fit),
		LOOP_TEST(timers),     LOOP_TEST(signals), LOOP_TEST(idle_once),
		LOOP_TEST(long_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
