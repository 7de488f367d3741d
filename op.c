// SPDX-License-Identifier: Apache-2.0
/*
 * op.c - the table of unfinished requests.
 *
 * A verb that cannot be answered at once - the runtime must run first, a reader must come - is one
 * function with a switch over op->phase. Each step does the next stretch of work and says what the
 * op waits for, as a set of bits; it is stepped again when all of them are clear, so "which came
 * first" is nowhere a question. A deadline is just another way to be stepped: the runtime is
 * killed, the wait ends, and the verb sees op->expired.
 *
 * Requests that change a process take turns, in the order they came; others never wait for them.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "shim.h"

#define PACK_PAGES 65536 /* room for every path a client may name; touched as far as used */

#define ERROR_MAX 16384

TABLE(ops) struct op ops[OP_MAX];

/* Shared by those for whose errors there are no pages: better than no reason at all. */
static char no_memory[256];

static uint32_t serials;
static unsigned int ops_end; /* ops from here on are free */

/* ---- packs ---- */

const char *pack_add(struct pack *p, char *slot, size_t size, struct view text)
{
	uint32_t *len = &p->slot_len;
	char *to;

	if (size - p->slot_len <= text.len) {
		if (!p->pages && !(p->pages = pages_get(PACK_PAGES)))
			return NULL;
		slot = p->pages;
		len = &p->pages_len;
		if (PACK_PAGES - *len <= text.len)
			return NULL;
	}
	to = slot + *len;
	if (text.len > 0)
		memcpy(to, text.at, text.len);
	to[text.len] = '\0';
	*len += (uint32_t)text.len + 1;
	return to;
}

void pack_close(struct pack *p)
{
	pages_put(p->pages, PACK_PAGES);
	*p = (struct pack){0};
}

/* ---- ops ---- */

struct op *op_new(op_step *step, struct origin from, uint64_t deadline)
{
	for (unsigned int i = 0; i < OP_MAX; i++) {
		if (i < ops_end && ops[i].step)
			continue;
		if (i == ops_end)
			ops_end++;
		ops[i] = (struct op){.step = step,
				     .serial = ++serials,
				     .from = from,
				     .deadline = deadline,
				     .container = NOBODY,
				     .run = {.output = -1}};
		return &ops[i];
	}
	return NULL;
}

bool op_keep_request(struct op *op)
{
	char *at = pages_get(op->request.len + 1); /* pages of length 0 there are none */

	if (!at)
		return false;
	if (op->request.len > 0)
		memcpy(at, op->request.at, op->request.len);
	op->request.at = at;
	op->kept = true;
	return true;
}

void op_wait(struct op *op, uint8_t phase, uint8_t waits)
{
	op->phase = phase;
	op->waits = waits;
}

void op_run(struct op *op, uint8_t phase)
{
	op_wait(op, phase, op->run.pid > 0 ? WAIT_CHILD : 0);
}

struct text *op_error_text(struct op *op, enum code code)
{
	if (!op->error.at) {
		op->error = (struct text){.at = pages_get(ERROR_MAX), .cap = ERROR_MAX};
		if (!op->error.at)
			op->error = TEXT(no_memory);
	}
	op->code = code;
	return &op->error;
}

void op_error(struct op *op, enum code code, const char *fmt, ...)
{
	va_list args;

	if (op->code)
		return;
	va_start(args, fmt);
	text_vprintf(op_error_text(op, code), fmt, args);
	va_end(args);
}

/* What came out of a runtime or a path need not be UTF-8; what goes into a string field must be. */
static struct view printable(struct text *t)
{
	struct view v = {t->at, t->len};

	if (!utf8_valid(v))
		for (size_t i = 0; i < t->len; i++)
			if ((unsigned char)t->at[i] >= 0x80)
				t->at[i] = '?';
	return v;
}

void op_done(struct op *op, const struct pb_msgdesc_s *desc, const void *msg)
{
	if (op->code)
		server_fail(op->from, op->code, printable(&op->error));
	else
		server_reply(op->from, desc, msg);
	if (op->error.cap == ERROR_MAX)
		pages_put(op->error.at, ERROR_MAX);
	if (op->kept)
		pages_put((char *)op->request.at, op->request.len + 1);
	run_close(&op->run);
	*op = (struct op){0};
	while (ops_end > 0 && !ops[ops_end - 1].step)
		ops_end--;
}

static struct op *op_of_child(pid_t pid)
{
	for (unsigned int i = 0; i < ops_end; i++)
		if (ops[i].step && ops[i].run.pid == pid)
			return &ops[i];
	return NULL;
}

bool op_has_child(pid_t pid)
{
	return op_of_child(pid);
}

bool op_child_ended(pid_t pid, int status)
{
	struct op *op = op_of_child(pid);

	if (!op)
		return false;
	op->run.pid = 0;
	op->run.status = status;
	op->waits &= (uint8_t)~WAIT_CHILD;
	return true;
}

uint32_t op_newest(void)
{
	return serials;
}

bool op_launching_since(uint32_t serial)
{
	for (unsigned int i = 0; i < ops_end; i++)
		if (ops[i].step && ops[i].launching && (int32_t)(ops[i].serial - serial) <= 0)
			return true;
	return false;
}

void ops_wake(unsigned int proc)
{
	for (unsigned int i = 0; i < ops_end; i++)
		if (ops[i].step && ops[i].proc == proc)
			ops[i].waits &= (uint8_t)~WAIT_TIME;
}

/* Is an earlier op waiting for, or having, the turn on the same process? */
static bool has_predecessor(const struct op *op)
{
	for (unsigned int i = 0; i < ops_end; i++) {
		const struct op *o = &ops[i];

		if (o->step && o != op && o->takes_turns && o->proc == op->proc &&
		    o->proc_gen == op->proc_gen && (int32_t)(o->serial - op->serial) < 0)
			return true;
	}
	return false;
}

void op_take_turn(struct op *op)
{
	op->takes_turns = true;
	op->waits = has_predecessor(op) ? WAIT_TURN : 0;
}

static void look(struct op *op)
{
	if (op->deadline && now >= op->deadline && !op->expired) {
		op->expired = true;
		if (op->run.pid > 0)
			kill(op->run.pid, SIGKILL);
		op->waits &= WAIT_CHILD;
	}
	if ((op->waits & WAIT_TIME) && now >= op->timer)
		op->waits &= (uint8_t)~WAIT_TIME;
	if ((op->waits & WAIT_TURN) && !has_predecessor(op))
		op->waits &= (uint8_t)~WAIT_TURN;
}

unsigned int ops_count(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < ops_end; i++)
		n += ops[i].step != NULL;
	return n;
}

void ops_forget(void)
{
	if (ops_count() == 0)
		pages_forget(ops, sizeof(ops)); /* free ops are zeros */
}

bool ops_step(void)
{
	bool moved = false;

	for (unsigned int i = 0; i < ops_end; i++) {
		struct op *op = &ops[i];

		if (!op->step)
			continue;
		look(op);
		if (op->waits)
			continue;
		op->step(op);
		moved = true;
	}
	return moved;
}

void ops_want(void)
{
	for (unsigned int i = 0; i < ops_end; i++) {
		const struct op *op = &ops[i];

		if (!op->step)
			continue;
		if (op->waits & WAIT_TIME)
			loop_timer(op->timer);
		if (op->deadline && !op->expired)
			loop_timer(op->deadline);
	}
}
