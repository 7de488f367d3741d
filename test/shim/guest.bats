#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# guest.bats - what this host cannot show, in virtual machines: cgroup v2 with all its controllers,
# and a root that is an initramfs, on which no runtime can pivot_root(2) and nobody says --no-pivot.
#
# test/density/density.sh boots the guest (emulated: half a minute each), starts containers in it, and
# runs hook-cgroup2.sh there: output and exit status, limits, metrics, pause, exec, OOM events, removal.

load lib

CHECKS=12 # of the hook

# No containerd on this host.
setup_file() { :; }
teardown_file() { :; }
teardown() { :; }

setup() {
	cd "$ROOT" || return 1
	mkdir -p build/guest
}

# The guest's story, of which every check must be "ok".
guest() { # OPTION...
	local out
	need "qemu-system-x86_64" command -v qemu-system-x86_64
	out=$(timeout -k 10 400 test/density/density.sh --shim "$SHIM" --work build/guest \
		--mem 256 --n 1 --hook test/density/hook-cgroup2.sh "$@" 2>&1) ||
		fail "the guest failed: $out"
	equal "$CHECKS" "$(grep -c '^hook: ok ' <<<"$out")" "checks passed in: $out"
	equal 0 "$(grep -c '^hook: FAIL' <<<"$out")" "checks failed in: $out"
	contains "$out" "^RESULT ok"
	printf '# %s\n' "$(grep '^shims ' <<<"$out")" >&3
}

@test "cgroup v2 with all controllers, crun" {
	guest --oci crun
}

@test "cgroup v2 with all controllers, runc" {
	guest --oci runc
}

@test "an initramfs as root: --no-pivot is added by itself" {
	guest --oci runc --root initramfs --pivot yes
}
