#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# group: guests
#
# guest-initramfs.bats - the same as guest.bats with an initramfs as root, on which no runtime can
# pivot_root(2), and nobody says --no-pivot.

load lib

# No containerd on this host.
setup_file() { :; }
setup() { :; }
teardown() { :; }
teardown_file() { :; }

@test "an initramfs as root: --no-pivot is added by itself" {
	guest runc --root initramfs --pivot yes
}
