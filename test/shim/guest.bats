#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# guest.bats - what this host cannot show, in a virtual machine: cgroup v2 with all its controllers.

load lib

# No containerd on this host.
setup_file() { :; }
setup() { :; }
teardown() { :; }
teardown_file() { :; }

@test "cgroup v2 with all controllers, crun and runc" {
	guest crun,runc
}
