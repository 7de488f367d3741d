#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# names.bats - the name the shim is called by chooses the OCI runtime, unless an option does.

load lib

# Wrappers first on the PATH, which write down who was called.
setup() {
	lab_setup
	not_for_go "has but one name"
	local name real
	for name in runc crun; do
		real=$(command -v "$name")
		printf '#!/bin/sh\necho %s >>%s\nexec %s "$@"\n' "$name" "$LAB/called" "$real" \
			>"$LAB/bin/$name"
		chmod +x "$LAB/bin/$name"
	done
}

called() { # NAME OPTION...: with these options, the container is made by this runtime
	local name=$1
	shift
	rm -f "$LAB/called"
	works "$@" "$ID"
	equal "$name" "$(sort -u "$LAB/called")" "runtimes called"
	nothing_left
}

@test "io.containerd.runc.v2 is runc" {
	called runc --runtime io.containerd.runc.v2
}

@test "io.containerd.runc.v1 is runc" {
	called runc --runtime io.containerd.runc.v1
}

@test "io.containerd.crun.v2 is crun" {
	called crun --runtime io.containerd.crun.v2
}

@test "io.containerd.nano.v2 is crun where there is one, else runc" {
	called crun --runtime io.containerd.nano.v2
}

@test "--runc-binary wins" {
	called crun --runc-binary crun
}

@test "an absolute path as the runtime's name" {
	called crun --runtime "$LAB/bin/containerd-shim-crun-v2"
	called runc --runtime "$LAB/bin/containerd-shim-runc-v2"
}

@test "the delete action knows the runtime too" {
	ctr_run -d --runtime io.containerd.crun.v2 "$ID" sleep 1000
	rm "$LAB/called"
	kill -KILL "$(shim_pid "$ID")"
	nothing_left
	equal crun "$(sort -u "$LAB/called")" "runtimes called"
	ctr container rm "$ID"
}
