// SPDX-License-Identifier: Apache-2.0
/*
 * mount.c - the rootfs: the list of mounts in a Create request, and the kernel's table of them.
 *
 * Input: which of the kernel's calls fail, how many mounts can be undone, the exit status of
 * helpers, the encoded request, then /proc/self/mountinfo.
 */
#include <string.h>

#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = {(const char *)data, size}, request;
	char buf[600];
	struct text why = TEXT(buf);
	int err;

	world_begin();
	world.mounts = take(&in) | (uint32_t)take(&in) << 8;
	world.unmounts = take(&in) % 16;
	world.helper = take(&in);
	request = world_copy(take_text(&in));
	world_file("/w/mountinfo", in.at, in.len);
	world_file("/w/p/user", "", 0);
	world_file("/w/p/uid_map", "", 0);
	world_file("/w/p/gid_map", "", 0);
	err = mount_rootfs(request, "/w/a", &why);
	CHECK((err < 0) == (why.len > 0), "%d: %s", err, buf);
	CHECK(why.len < sizeof(buf) && strlen(buf) <= why.len, "a text of %zu bytes", why.len);
	mount_undo("/w/a");
	world_drop(request);
	world_end();
	return 0;
}
