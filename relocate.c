// SPDX-License-Identifier: Apache-2.0
/*
 * relocate.c - what the program does to itself before anything else: the addresses in its tables
 * become those of where the kernel has put it.
 *
 * The start-up code of musl before 1.2.4 knows only the long form of that list (DT_RELA), of 24
 * bytes for each address. The linker can write it as a bitmap (DT_RELR), a fortieth as long, and
 * here is who reads that. Nothing before main() uses any of those addresses. Nor does a static
 * program's start-up code protect them afterwards, as that of a dynamic one does.
 */
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"

#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden"))); /* the linker's */

/* An even word is the address of one; an odd one has a bit for each word behind the last address. */
static void apply(const uintptr_t *list, size_t count, uintptr_t base)
{
	uintptr_t *at = (uintptr_t *)base;

	for (size_t i = 0; i < count; i++) {
		uintptr_t entry = list[i];

		if (!(entry & 1)) {
			at = (uintptr_t *)(base + entry);
			*at++ += base;
			continue;
		}
		for (int bit = 0; entry >>= 1; bit++)
			if (entry & 1)
				at[bit] += base;
		at += 8 * sizeof(entry) - 1;
	}
}

/* What only this file writes to can't be written to any more (RELRO). */
static void protect(const ElfW(Phdr) * relro, uintptr_t base)
{
	uintptr_t page = (uintptr_t)getpagesize();
	uintptr_t from = (base + relro->p_vaddr) & ~(page - 1);
	uintptr_t to = (base + relro->p_vaddr + relro->p_memsz) & ~(page - 1);

	if (to > from)
		mprotect((void *)from, to - from, PROT_READ);
}

static void apply_all(const ElfW(Dyn) * d, uintptr_t base)
{
	static const void *const volatile here = (const void *)&here; /* one of those addresses */
	uintptr_t list = 0;
	size_t size = 0;

	if (here == (const void *)&here)
		return; /* somebody else has done it */
	for (; d->d_tag; d++) {
		if (d->d_tag == DT_RELR)
			list = base + d->d_un.d_ptr;
		if (d->d_tag == DT_RELRSZ)
			size = d->d_un.d_val;
	}
	apply((const uintptr_t *)list, size / sizeof(uintptr_t), base);
}

void relocate(void)
{
	uintptr_t base = (uintptr_t)&__ehdr_start;
	const ElfW(Phdr) *ph = (const void *)(base + __ehdr_start.e_phoff), *relro = NULL;

	for (unsigned int i = 0; i < __ehdr_start.e_phnum; i++) {
		if (ph[i].p_type == PT_DYNAMIC)
			apply_all((const void *)(base + ph[i].p_vaddr), base);
		if (ph[i].p_type == PT_GNU_RELRO)
			relro = &ph[i];
	}
	if (relro)
		protect(relro, base);
}
