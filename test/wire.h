/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.h - protobuf fields and TTRPC headers by hand, for tests: what the shim's own code makes or
 * reads is not to be measured by that code.
 */
#ifndef WIRE_H
#define WIRE_H

#include <string.h>

#include "../ttrpc.h"

static inline size_t put_varint(char *to, uint64_t v)
{
	size_t n = 0;

	do
		to[n++] = (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
	while ((v >>= 7) > 0);
	return n;
}

/* Appends field `tag` of bytes or text; of a number. */
static inline size_t put_bytes(char *to, unsigned int tag, struct view v)
{
	size_t n = put_varint(to, tag << 3 | 2);

	n += put_varint(to + n, v.len);
	if (v.len > 0)
		memcpy(to + n, v.at, v.len);
	return n + v.len;
}

static inline size_t put_number(char *to, unsigned int tag, uint64_t v)
{
	size_t n = put_varint(to, tag << 3);

	return n + put_varint(to + n, v);
}

static inline size_t put_header(char *to, uint32_t len, uint32_t stream, uint8_t type)
{
	for (int i = 0; i < 4; i++) {
		to[i] = (char)(len >> (24 - 8 * i));
		to[4 + i] = (char)(stream >> (24 - 8 * i));
	}
	to[8] = (char)type;
	to[9] = 0;
	return FRAME_HEADER;
}

#endif
