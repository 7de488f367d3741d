# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# each.bash - runs a lint tool on each file, side by side, and remembers what it has said.

# each TOOL FILE...: calls the caller's function `look FILE`, which prints its findings and nothing else.
# What it printed is kept in build/lint/TOOL, under a digest of the file, of all headers, and of the
# script and the settings in FILE's way; so only what has changed is looked at again. Fails if anything
# was found.
each() { # TOOL FILE...
	local tool=$1 common
	shift
	mkdir -p "build/lint/$tool"
	common=$(cat "$0" .clang-tidy test/.clang-tidy .clang-format ./*.h test/*.h test/*/*.h proto/* | sha256sum)
	export -f look each_one
	export tool common
	printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'each_one {}' | sort
	return "${PIPESTATUS[1]}"
}

each_one() { # FILE
	local key kept
	key=$({
		echo "$common $1"
		cat "$1"
		# Some tests include the program's files.
		sed -n 's|^#include "\.\./\.\./\(.*\.c\)"|\1|p' "$1" | xargs -r cat
	} | sha256sum)
	kept=build/lint/$tool/${key%% *}
	if [[ ! -e $kept ]]; then
		look "$1" >"$kept.$$"
		mv "$kept.$$" "$kept"
	fi
	cat "$kept"
	[[ ! -s $kept ]]
}
