// SPDX-License-Identifier: Apache-2.0
/*
 * relocate.c - what the program does to itself before anything else: the addresses in its tables
 * become those of where the kernel has put it.
 *
 * The start-up code of musl before 1.2.4 knows only the long form of that list (DT_RELA), of 24
 * bytes for each address. The linker can write it as a bitmap (DT_RELR), a fortieth as long, and
 * here is who reads that. Nothing before main() uses any of those addresses. Nor does a static
 * program's start-up code protect them afterwards, as that of a dynamic one does.
 *
 * The pages that only this file writes to (RELRO) can be made again out of the program's file, so a
 * daemon that sleeps does without them.
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

static uintptr_t relro, relro_end; /* whole pages that only this file writes to */
static bool ours;                  /* the addresses in them are our work */

/* An even word is the address of one; an odd one has a bit for each word behind the last address.
 * One that is below the program is relative to it still: only such are changed. */
static void apply(const uintptr_t *list, size_t count, uintptr_t base, uintptr_t end)
{
	uintptr_t *at = (uintptr_t *)base;

	for (size_t i = 0; i < count; i++) {
		uintptr_t entry = list[i];

		if (!(entry & 1)) {
			at = (uintptr_t *)(base + entry);
			entry = 3; /* a bit for this one */
		}
		for (int bit = 0; entry >>= 1; bit++)
			if ((entry & 1) && (uintptr_t)&at[bit] < end && at[bit] < base)
				at[bit] += base;
		at += list[i] & 1 ? 8 * sizeof(entry) - 1 : 1;
	}
}

static void apply_all(const ElfW(Dyn) * d, uintptr_t base)
{
	static const void *const volatile here = (const void *)&here; /* one of those addresses */
	const uintptr_t *list = NULL;
	size_t size = 0;

	if (!ours && here == (const void *)&here)
		return; /* somebody else has done it */
	for (; d->d_tag; d++) {
		if (d->d_tag == DT_RELR)
			list = (const uintptr_t *)(base + d->d_un.d_ptr);
		if (d->d_tag == DT_RELRSZ)
			size = d->d_un.d_val;
	}
	/* The variables behind have changed since the first time. */
	apply(list, list ? size / sizeof(uintptr_t) : 0, base, ours ? relro_end : UINTPTR_MAX);
	ours = true;
}

void relocate(void)
{
	uintptr_t base = (uintptr_t)&__ehdr_start, page = (uintptr_t)getpagesize();
	const ElfW(Phdr) *ph = (const void *)(base + __ehdr_start.e_phoff);

	for (unsigned int i = 0; i < __ehdr_start.e_phnum; i++) {
		uintptr_t at = base + ph[i].p_vaddr;

		if (ph[i].p_type == PT_DYNAMIC)
			apply_all((const void *)at, base);
		if (ph[i].p_type == PT_GNU_RELRO) {
			relro = at & ~(page - 1);
			relro_end = (at + ph[i].p_memsz) & ~(page - 1);
		}
	}
	if (relro_end > relro)
		mprotect((void *)relro, relro_end - relro, PROT_READ);
}

bool relocate_undo(void)
{
	return ours && relro_end > relro &&
	       mprotect((void *)relro, relro_end - relro, PROT_READ | PROT_WRITE) == 0 &&
	       madvise((void *)relro, relro_end - relro, MADV_DONTNEED) == 0;
}
