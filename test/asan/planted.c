// SPDX-License-Identifier: Apache-2.0
/*
 * planted.c - two errors, by which test/asan/errors sees that errors are seen: `planted address` writes
 * behind a table, `planted undefined` adds up more than there is room for. Its exit status is 0
 * if that has passed unnoticed.
 */
#include <limits.h>
#include <string.h>

#include "util.h"

static TABLE(planted) char table[PAGE];
static volatile size_t too_many = sizeof(table) + 1; /* volatile: the compiler is not to know */
static volatile int most = INT_MAX;

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "address") == 0)
		memset(table, 'x', too_many);
	else
		most = most + 1;
	return 0;
}
