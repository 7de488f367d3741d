// SPDX-License-Identifier: Apache-2.0
/*
 * replay.c - runs a fuzz target on every file of the directories it is given: `make test` does not
 * look for new inputs, but none of the old ones may do harm again. Speaks TAP.
 */
#include "world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sanitizer/common_interface_defs.h>

static unsigned int replay_file(const char *dir, const char *name)
{
	static char data[1 << 20];
	char path[512];
	struct view copy;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (!f)
		return 0;
	if (getenv("V"))
		printf("# %s\n", path);
	fflush(stdout);
	copy = world_copy((struct view){data, fread(data, 1, sizeof(data), f)});
	fclose(f);
	LLVMFuzzerTestOneInput((const uint8_t *)copy.at, copy.len);
	world_drop(copy);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned int n = 0;

	__sanitizer_set_death_callback(world_remove);
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		const struct dirent *entry;

		while (dir && (entry = readdir(dir)))
			if (entry->d_name[0] != '.')
				n += replay_file(argv[i], entry->d_name);
		if (dir)
			closedir(dir);
	}
	printf("1..1\n%sok 1 - %u inputs replayed\n", n > 0 ? "" : "not ", n);
	return n > 0 ? 0 : 1;
}
