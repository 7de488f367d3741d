// SPDX-License-Identifier: Apache-2.0
/*
 * op.c's tests: turns, waits, deadlines, errors, and a table that is full. The operations here do
 * nothing but note that they were stepped; who asked for them is a client on a real socket.
 */
#define UNIT_CLOCK
#include "unit.h"

#include <sys/mman.h>

static bool out_of_pages;

static void *pages_if_any(size_t len)
{
	return out_of_pages ? NULL : pages_get(len);
}

#define pages_get pages_if_any
#include "../../op.c"
#undef pages_get

#include "../../loop.c"
#include "task.pb.h"

/* ---- a client, and its operations ---- */

static int client;
static uint32_t next_stream;

/* One more request of the client's. */
static struct origin asked(void)
{
	char buf[128];
	struct request rq;
	size_t n = put_request(buf, next_stream += 2, "s", "m", (struct view){0});

	assert_int_equal(send(client, buf, n, 0), n);
	server_receive(0, POLLIN);
	assert_true(server_next(0, &rq));
	assert_false(server_next(0, &rq));
	return rq.from;
}

static struct op *steps[16 * OP_MAX]; /* who was stepped, in order */
static unsigned int step_count;

static void count_step(struct op *op)
{
	assert_true(step_count < COUNT(steps));
	assert_int_equal(op->waits, 0);
	steps[step_count++] = op;
	op->waits = 0x80; /* until the test says what comes next */
}

static struct op *new_op(unsigned int proc, unsigned int gen)
{
	struct op *op = op_new(count_step, (struct origin){0}, 0);

	assert_non_null(op);
	op->proc = (uint16_t)proc;
	op->proc_gen = (uint16_t)gen;
	return op;
}

/* Who is stepped now, each once? */
static unsigned int stepped(void)
{
	step_count = 0;
	while (ops_step())
		;
	return step_count;
}

static void assert_steps_one(struct op *op)
{
	assert_int_equal(stepped(), 1);
	assert_ptr_equal(steps[0], op);
}

static uint64_t next_timer(void)
{
	uint64_t at;

	ops_want();
	at = deadline;
	deadline = UINT64_MAX;
	return at;
}

static int setup(void **state)
{
	int err = tmp_make(state);

	now = clock_ms();
	server_open();
	client = client_open();
	server_accept();
	next_stream = UINT32_MAX;
	step_count = 0;
	out_of_pages = false;
	return err;
}

static int teardown(void **state)
{
	struct request rq;

	for (unsigned int i = 0; i < OP_MAX; i++)
		if (ops[i].step)
			op_done(&ops[i], NULL, NULL);
	fd_close(&client);
	server_receive(0, POLLIN);
	while (server_next(0, &rq))
		;
	server_sweep();
	server_close();
	return tmp_remove(state);
}

/* ---- turns ---- */

static void turns_in_order(void **state)
{
	struct op *op[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		op[i] = new_op(7, 1);
		op_take_turn(op[i]);
		assert_int_equal(op[i]->waits, i ? WAIT_TURN : 0);
	}
	for (int i = 0; i < 5; i++) {
		assert_steps_one(op[i]);
		assert_int_equal(stepped(), 0); /* nobody else, while this one is at it */
		op_wait(op[i], 1, WAIT_TIME);
		op[i]->timer = now + 100;
		assert_int_equal(stepped(), 0);
		advance(100);
		assert_steps_one(op[i]);
		op_done(op[i], NULL, NULL);
	}
	assert_int_equal(stepped(), 0);
}

/* The order is that of their arrival, not that of the slots they got. */
static void turns_by_age(void **state)
{
	struct op *first = new_op(1, 1), *second = new_op(7, 1), *third;

	(void)state;
	op_take_turn(second);
	op_done(first, NULL, NULL);
	third = new_op(7, 1); /* in the slot of the first */
	assert_ptr_equal(third, first);
	op_take_turn(third);
	assert_int_equal(third->waits, WAIT_TURN);
	assert_steps_one(second);
	op_done(second, NULL, NULL);
	assert_steps_one(third);
}

/* Other processes, and those who take no turns, pass by. */
static void turns_are_per_process(void **state)
{
	struct op *op[4] = {new_op(7, 1), new_op(8, 1), new_op(7, 2), new_op(7, 1)};

	(void)state;
	for (int i = 0; i < 3; i++)
		op_take_turn(op[i]); /* the third is about a later process in the same slot */
	assert_int_equal(stepped(), 4);
	op[3]->waits = 0;
	assert_steps_one(op[3]);
}

/* Serials go round. */
static void turns_around_the_end(void **state)
{
	struct op *op[3];

	(void)state;
	serials = UINT32_MAX - 2;
	for (int i = 0; i < 3; i++) {
		op[i] = new_op(7, 1);
		op_take_turn(op[i]);
	}
	assert_int_equal(op[2]->serial, 0);
	for (int i = 0; i < 3; i++) {
		assert_steps_one(op[i]);
		op_done(op[i], NULL, NULL);
	}
}

/* Whose time is over while it waits for its turn is stepped out of turn, to say so. */
static void turns_do_not_outlast_deadlines(void **state)
{
	struct op *first = new_op(7, 1), *second = new_op(7, 1), *third = new_op(7, 1);

	(void)state;
	second->deadline = now + 50;
	op_take_turn(first);
	op_take_turn(second);
	op_take_turn(third);
	assert_steps_one(first);
	assert_true(next_timer() == second->deadline);
	advance(50);
	assert_steps_one(second);
	assert_true(second->expired);
	op_done(second, NULL, NULL);
	assert_int_equal(stepped(), 0); /* the third still waits for the first */
	op_done(first, NULL, NULL);
	assert_steps_one(third);
}

/* ---- waits ---- */

static void waits_for_time(void **state)
{
	struct op *op = new_op(1, 1);

	(void)state;
	op->timer = now + 1000;
	op_wait(op, 9, WAIT_TIME);
	assert_int_equal(op->phase, 9);
	assert_true(next_timer() == op->timer);
	assert_int_equal(stepped(), 0);
	advance(998);
	assert_int_equal(stepped(), 0);
	advance(2);
	assert_steps_one(op);
	assert_true(next_timer() == UINT64_MAX);
}

/* "For ever" is a time, too. */
static void waits_until_woken(void **state)
{
	struct op *op = new_op(5, 1), *other = new_op(6, 1);

	(void)state;
	op->timer = other->timer = UINT64_MAX;
	op_wait(op, 1, WAIT_TIME);
	op_wait(other, 1, WAIT_TIME);
	assert_true(next_timer() == UINT64_MAX);
	advance(1000000000);
	assert_int_equal(stepped(), 0);
	ops_wake(5);
	assert_steps_one(op);
	op_wait(op, 2, WAIT_TIME | WAIT_CHILD);
	op->run.pid = 1 << 22;
	ops_wake(5); /* that was not all it waits for */
	assert_int_equal(stepped(), 0);
	op->run.pid = 0;
}

static void waits_for_child(void **state)
{
	struct op *op = new_op(1, 1), *other = new_op(1, 1);

	(void)state;
	op->run.pid = 1 << 22;
	op_run(op, 3);
	assert_int_equal(op->waits, WAIT_CHILD);
	other->run.pid = (1 << 22) + 1;
	op_run(other, 3);
	assert_int_equal(stepped(), 0);
	assert_false(op_child_ended((1 << 22) + 2, 0));
	assert_true(op_child_ended((1 << 22) + 1, 256));
	assert_steps_one(other);
	assert_int_equal(other->run.pid, 0);
	assert_int_equal(other->run.status, 256);
	assert_false(op_child_ended((1 << 22) + 1, 0)); /* that was it */
	assert_true(op_child_ended(1 << 22, 9));
	assert_steps_one(op);
	assert_int_equal(op->run.status, 9);
	/* What could not be started is not waited for. */
	op_run(op, 4);
	assert_int_equal(op->waits, 0);
	assert_steps_one(op);
}

/* All of it, whatever comes first. */
static void waits_for_both(void **state)
{
	(void)state;
	for (int order = 0; order < 2; order++) {
		struct op *op = new_op(1, 1);

		op->run.pid = 1 << 22;
		op->timer = now + 10;
		op_wait(op, 1, WAIT_CHILD | WAIT_TIME);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(stepped(), 0);
			if (i == order)
				assert_true(op_child_ended(1 << 22, 0));
			else
				advance(10);
		}
		assert_steps_one(op);
		op_done(op, NULL, NULL);
	}
}

/* ---- deadlines ---- */

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

/* The runtime is killed, once; then it is waited for, and the verb sees why. */
static void deadline_kills(void **state)
{
	struct op *op = new_op(1, 1);
	int status;

	(void)state;
	op->deadline = now + 100;
	op->run.pid = sleeper();
	op->timer = now + 1000;
	op_wait(op, 1, WAIT_CHILD | WAIT_TIME);
	assert_true(next_timer() == op->deadline);
	advance(99);
	assert_int_equal(stepped(), 0);
	assert_false(op->expired);
	advance(1);
	assert_int_equal(stepped(), 0);
	assert_true(op->expired);
	assert_int_equal(op->waits, WAIT_CHILD);
	assert_true(next_timer() == UINT64_MAX); /* no use to look again */
	assert_int_equal(waitpid(op->run.pid, &status, 0), op->run.pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_true(op_child_ended(op->run.pid, status));
	assert_steps_one(op);
	/* What it runs now, to undo, is not killed any more. */
	op->run.pid = sleeper();
	op_run(op, 2);
	advance(1000);
	assert_int_equal(stepped(), 0);
	assert_int_equal(waitpid(op->run.pid, &status, WNOHANG), 0);
	kill(op->run.pid, SIGKILL);
	waitpid(op->run.pid, &status, 0);
	op->run.pid = 0;
}

static void deadline_without_child(void **state)
{
	struct op *op = new_op(1, 1);

	(void)state;
	op->deadline = now + 100;
	op->timer = UINT64_MAX;
	op_wait(op, 1, WAIT_TIME);
	advance(100);
	assert_steps_one(op);
	assert_true(op->expired);
}

/* ---- replies and errors ---- */

static void done_with_reply(void **state)
{
	struct op *op = op_new(count_step, asked(), 0);
	StartResponse start = {33};
	struct reply r;

	(void)state;
	op_done(op, &StartResponse_msg, &start);
	assert_true(get_reply(client, &r));
	assert_int_equal(r.stream, 1);
	assert_int_equal(r.code, 0);
	assert_int_equal(get_number(r.payload, 1, 0), 33);
	assert_null(op->step);
	assert_false(get_reply(client, &r));
}

/* The first failure is the one that is told; the reply is not. */
static void first_error_wins(void **state)
{
	struct op *op = op_new(count_step, asked(), 0);
	StartResponse start = {33};
	struct reply r;

	(void)state;
	op_error(op, CODE_NOT_FOUND, "%s %d: not found", "process", 5);
	op_error(op, CODE_UNKNOWN, "and then it went wrong altogether");
	op_done(op, &StartResponse_msg, &start);
	assert_true(get_reply(client, &r));
	assert_int_equal(r.code, 5);
	assert_view(r.message, "process 5: not found");
	assert_int_equal(r.payload.len, 0);
}

static void error_put_together(void **state)
{
	struct op *op = op_new(count_step, asked(), 0);
	struct reply r;

	(void)state;
	text_add(op_error_text(op, CODE_UNKNOWN), VIEW("one, "));
	text_add(op_error_text(op, CODE_INTERNAL), VIEW("two"));
	op_done(op, NULL, NULL);
	assert_true(get_reply(client, &r));
	assert_int_equal(r.code, CODE_INTERNAL);
	assert_view(r.message, "one, two");
}

/* Whatever a runtime printed: what goes out is text, and no longer than a page or four. */
static void error_of_anything(void **state)
{
	static char junk[ERROR_MAX + 100];
	struct op *op = op_new(count_step, asked(), 0);
	struct reply r;

	(void)state;
	memset(junk, 0xfe, sizeof(junk) - 1);
	memcpy(junk, "text \xc3\xbc ", 8);
	op_error(op, CODE_UNKNOWN, "%s", junk);
	op_done(op, NULL, NULL);
	assert_true(get_reply(client, &r));
	assert_int_equal(r.message.len, ERROR_MAX - 1);
	assert_true(utf8_valid(r.message));
	assert_true(view_starts(r.message, "text ?? ???"));
	op = op_new(count_step, asked(), 0);
	op_error(op, CODE_UNKNOWN, "gr\xc3\xbc\xc3\x9f dich");
	op_done(op, NULL, NULL);
	assert_true(get_reply(client, &r));
	assert_view(r.message, "gr\xc3\xbc\xc3\x9f dich");
}

static void error_without_memory(void **state)
{
	struct op *op = op_new(count_step, asked(), 0), *other = op_new(count_step, asked(), 0);
	struct reply r;

	(void)state;
	out_of_pages = true;
	assert_false(op_keep_request(op));
	op_error(op, CODE_RESOURCE_EXHAUSTED, "no memory is left");
	out_of_pages = false;
	op_error(other, CODE_NOT_FOUND, "none");
	op_done(op, NULL, NULL);
	op_done(other, NULL, NULL);
	assert_true(get_reply(client, &r));
	assert_int_equal(r.code, CODE_RESOURCE_EXHAUSTED);
	assert_view(r.message, "no memory is left");
	assert_true(get_reply(client, &r));
	assert_view(r.message, "none");
}

/* Nobody asked, or nobody is there any more: it is done all the same. */
static void done_for_nobody(void **state)
{
	struct op *op = op_new(count_step, (struct origin){0}, 0),
		  *late = op_new(count_step, asked(), 0);
	struct request rq;
	struct reply r;

	(void)state;
	op_error(op, CODE_UNKNOWN, "to nobody");
	op_done(op, NULL, NULL);
	assert_false(get_reply(client, &r));
	fd_close(&client);
	server_receive(0, POLLIN);
	while (server_next(0, &rq))
		;
	server_sweep();
	op_error(late, CODE_UNKNOWN, "to nobody");
	op_done(late, NULL, NULL);
}

static void request_kept(void **state)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 1 << 20};

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct op *op = new_op(1, 1);
		char *borrowed = malloc(sizes[i] + 1);

		memset(borrowed, 'r', sizes[i]);
		op->request = (struct view){borrowed, sizes[i]};
		assert_true(op_keep_request(op));
		memset(borrowed, 'x', sizes[i]);
		free(borrowed);
		assert_int_equal(op->request.len, sizes[i]);
		for (size_t k = 0; k < sizes[i]; k++)
			if (op->request.at[k] != 'r')
				fail_msg("byte %zu of %zu\n", k, sizes[i]);
		op_done(op, NULL, NULL);
	}
}

/* ---- the table ---- */

static void table_full(void **state)
{
	static const struct op zeros;
	struct op *op;

	(void)state;
	for (int i = 0; i < OP_MAX; i++)
		assert_non_null(op_new(count_step, (struct origin){0}, 0));
	assert_null(op_new(count_step, (struct origin){0}, 0));
	assert_int_equal(stepped(), OP_MAX);
	op = &ops[100];
	op->launching = op->expired = true;
	op->phase = 9;
	op_done(op, NULL, NULL);
	assert_memory_equal(op, &zeros, sizeof(zeros));
	assert_ptr_equal(op_new(count_step, (struct origin){0}, 17), op);
	assert_int_equal(op->deadline, 17);
	assert_int_equal(op->run.output, -1);
	assert_false(op->launching);
	assert_int_equal(op->phase, 0);
	assert_null(op_new(count_step, (struct origin){0}, 0));
}

/* An operation that makes others, and one that ends itself, in the middle of a step. */
static void split_step(struct op *op)
{
	steps[step_count++] = op;
	if (step_count < 10)
		assert_non_null(op_new(split_step, (struct origin){0}, 0));
	op_done(op, NULL, NULL);
}

static void table_changes_under_way(void **state)
{
	(void)state;
	op_new(split_step, (struct origin){0}, 0);
	assert_int_equal(stepped(), 10);
	for (int i = 0; i < OP_MAX; i++)
		assert_null(ops[i].step);
}

/* Is somebody launching who began no later than that? */
static void launching(void **state)
{
	struct op *a, *b, *c;

	(void)state;
	serials = UINT32_MAX - 1;
	a = new_op(1, 1);
	b = new_op(1, 1);
	c = new_op(1, 1);
	assert_int_equal(op_newest(), c->serial);
	assert_false(op_launching_since(op_newest()));
	b->launching = true;
	assert_false(op_launching_since(a->serial));
	assert_true(op_launching_since(b->serial));
	assert_true(op_launching_since(c->serial));
	op_done(b, NULL, NULL);
	assert_false(op_launching_since(c->serial));
}

/* An empty table's memory goes; one in use stays as it is. */
static void table_forgotten(void **state)
{
	struct op *op = new_op(3, 4);

	(void)state;
	op_wait(op, 5, WAIT_CHILD);
	op->run.pid = 77;
	ops_forget();
	assert_int_equal(op->proc, 3);
	assert_int_equal(op->phase, 5);
	op->run.pid = 0;
	op_done(op, NULL, NULL);
	ops_forget();
	for (size_t i = 0; i < sizeof(ops); i++)
		assert_int_equal(((char *)ops)[i], 0);
}

/* ---- packs ---- */

static void pack_in_slot_and_pages(void **state)
{
	char slot[10];
	struct pack p = {0};
	const char *a, *b, *c, *d;

	(void)state;
	a = pack_add(&p, slot, sizeof(slot), VIEW("1234"));
	b = pack_add(&p, slot, sizeof(slot), VIEW("1234")); /* the slot is full to the last byte */
	assert_ptr_equal(a, slot);
	assert_ptr_equal(b, slot + 5);
	assert_null(p.pages);
	c = pack_add(&p, slot, sizeof(slot), VIEW(""));
	d = pack_add(&p, slot, sizeof(slot), VIEW("more"));
	assert_non_null(p.pages);
	assert_string_equal(a, "1234");
	assert_string_equal(b, "1234");
	assert_string_equal(c, "");
	assert_string_equal(d, "more");
	pack_close(&p);
	assert_null(p.pages);
	assert_ptr_equal(pack_add(&p, slot, sizeof(slot), VIEW("new")), slot);
	pack_close(&p);
}

static void pack_limits(void **state)
{
	char slot[8], *text = malloc(PACK_PAGES);
	struct pack p = {0};

	(void)state;
	memset(text, 'x', PACK_PAGES);
	assert_null(pack_add(&p, slot, sizeof(slot), (struct view){text, PACK_PAGES}));
	assert_non_null(pack_add(&p, slot, sizeof(slot), (struct view){text, PACK_PAGES - 1}));
	assert_null(pack_add(&p, slot, sizeof(slot), VIEW("12345678")));
	assert_ptr_equal(pack_add(&p, slot, sizeof(slot), VIEW("1234567")), slot);
	assert_null(pack_add(&p, slot, sizeof(slot), VIEW("")));
	pack_close(&p);
	out_of_pages = true;
	assert_null(pack_add(&p, slot, sizeof(slot), VIEW("12345678")));
	assert_non_null(pack_add(&p, slot, sizeof(slot), VIEW("1")));
	pack_close(&p);
	free(text);
}

int main(void)
{
#define OP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		OP_TEST(turns_in_order),
		OP_TEST(turns_by_age),
		OP_TEST(turns_are_per_process),
		OP_TEST(turns_around_the_end),
		OP_TEST(turns_do_not_outlast_deadlines),
		OP_TEST(waits_for_time),
		OP_TEST(waits_until_woken),
		OP_TEST(waits_for_child),
		OP_TEST(waits_for_both),
		OP_TEST(deadline_kills),
		OP_TEST(deadline_without_child),
		OP_TEST(done_with_reply),
		OP_TEST(first_error_wins),
		OP_TEST(error_put_together),
		OP_TEST(error_of_anything),
		OP_TEST(error_without_memory),
		OP_TEST(done_for_nobody),
		OP_TEST(request_kept),
		OP_TEST(table_full),
		OP_TEST(table_changes_under_way),
		OP_TEST(launching),
		OP_TEST(table_forgotten),
		OP_TEST(pack_in_slot_and_pages),
		OP_TEST(pack_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
