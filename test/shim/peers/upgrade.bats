#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# group: peers
#
# upgrade.bats - containers live on while containerd becomes another release around them.

load ../lib

setup_file() { lab_setup_file 1.7 2.x; }

# The next containerd, over the root and state of the one before.
turn_into() { # PEER
	containerd_kill TERM
	use_peer "$1"
	containerd_start
}

# Containers that are as they were started here: two alone, one paused, two in one daemon.
start_some() { # PREFIX
	ctr_run -d "$1-exec" sleep 1000
	ctr_run -d "$1-kill" sleep 1000
	ctr_run -d "$1-pause" sleep 1000
	ctr task pause "$1-pause"
	ctr_run -d --annotation "io.containerd.runc.v2.group=$1" "$1-a" sleep 1000
	ctr_run -d --annotation "io.containerd.runc.v2.group=$1" "$1-b" sleep 1000
	ctr task exec -d --exec-id "$1-e" "$1-exec" sleep 1000
	pids[$1]=$(task_pid "$1-exec")
}

check_some() { # PREFIX
	equal "${pids[$1]}" "$(task_pid "$1-exec")" "pid of $1-exec"
	wait_for task_is "$1-exec" RUNNING
	wait_for task_is "$1-kill" RUNNING
	wait_for task_is "$1-pause" PAUSED
	wait_for task_is "$1-a" RUNNING
	wait_for task_is "$1-b" RUNNING
	exec_says well "$1-exec" 'echo well'
	refuse ctr task exec -d --exec-id "$1-e" "$1-exec" true
	contains "$output" 'already exists'
}

end_some() { # PREFIX
	local got=0
	ctr task resume "$1-pause"
	wait_for task_is "$1-pause" RUNNING
	ctr task kill -s KILL "$1-kill"
	wait_for task_is "$1-kill" STOPPED
	contains "$(ctr task rm "$1-kill" 2>&1)" 'exit code 137'
	ctr container rm "$1-kill"
	exits_with 5 ctr_exec "$1-pause" sh -c 'exit 5'
	ctr task kill -s TERM --exec-id "$1-e" "$1-exec"
	ctr_rm "$1-a"
	exec_says well "$1-b" 'echo well'
	ctr_rm "$1-exec" "$1-pause" "$1-b"
}

@test "1.6, then 1.7, then 2.x: the containers of each are there under the next" {
	declare -A pids
	start_some "$ID-6"
	turn_into 1.7
	check_some "$ID-6"
	start_some "$ID-7"
	turn_into 2.x
	check_some "$ID-6"
	check_some "$ID-7"
	start_some "$ID-2"
	containerd_kill
	containerd_start
	check_some "$ID-2"
	wait_for shim_count_is 12
	end_some "$ID-6"
	end_some "$ID-7"
	end_some "$ID-2"
}

@test "1.6, then 2.x at once" {
	declare -A pids
	turn_into 1.6
	start_some "$ID"
	turn_into 2.x
	check_some "$ID"
	end_some "$ID"
}

@test "and back: 2.x, then 1.7, then 1.6" {
	declare -A pids
	turn_into 2.x
	start_some "$ID-2"
	turn_into 1.7
	check_some "$ID-2"
	start_some "$ID-7"
	turn_into 1.6
	check_some "$ID-2"
	check_some "$ID-7"
	end_some "$ID-2"
	end_some "$ID-7"
}

# The binary is replaced while daemons run: old daemons serve on, delete is done by the new binary.
@test "the shim is replaced by another under running containers" {
	local other init
	other=$(command -v containerd-shim-runc-v2) || missing "needs the Go shim"
	ctr_run -d "$ID-1" sleep 1000
	ctr_run -d "$ID-2" sleep 1000
	containerd_kill
	swap_shim "$other"
	containerd_start
	exec_says well "$ID-1" 'echo well'
	ctr_run -d "$ID-3" sleep 1000
	ctr_run -d "$ID-4" sleep 1000
	init=$(task_pid "$ID-2")
	kill -KILL "$(shim_pid "$ID-2")"
	wait_for dead "$init"
	wait_for bundle_gone "$ID-2"
	containerd_kill
	swap_shim "$SHIM"
	containerd_start
	init=$(task_pid "$ID-4")
	exec_says well "$ID-1" 'echo well'
	exec_says well "$ID-3" 'echo well'
	kill -KILL "$(shim_pid "$ID-4")"
	wait_for dead "$init"
	ctr_rm "$ID-1" "$ID-3"
	wait_for shim_count_is 0
	rm -f "$LAB"/run/containerd/s/* # the Go shim leaves its socket when it is killed
	ctr container rm "$ID-2" "$ID-4"
}

# ID; also by the hidden name that containerd gives it first: killed then, it leaves that for ever.
bundle_gone() {
	! compgen -G "$LAB/state/*/$NS/$1" >/dev/null && ! compgen -G "$LAB/state/*/$NS/.$1" >/dev/null
}

swap_shim() { ln -sf "$(realpath "$1")" "$LAB/bin/containerd-shim-runc-v2"; } # SHIM
