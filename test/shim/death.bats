#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# death.bats - the daemon dies, with or without containerd; nothing may be left.

load lib

forgotten() { # ID: containerd has no such task any more
	! ctr task ls -q 2>/dev/null | grep -qx -- "$1"
}

# The Go shim leaves the socket of a daemon that was killed; that much is done for it here.
daemon_kill() { # PID
	kill -KILL "$1"
	wait_for dead "$1"
	if is_go; then
		rm "$LAB"/run/containerd/s/*
	fi
}

@test "kill -9 of the daemon: the delete action cleans up" {
	local init
	events_start "$LAB/events"
	ctr_run -d "$ID" sh -c 'sleep 1000 & sleep 1000 & wait'
	init=$(task_pid "$ID")
	daemon_kill "$(shim_pid "$ID")"
	nothing_left
	dead "$init"
	wait_for forgotten "$ID"
	wait_for events_are "$ID" "create start exit:137 delete:137"
	ctr container rm "$ID"
	works "$ID"
}

@test "kill -9 of the daemon ends a client that waits, with an error" {
	local client got=0
	ctr_run --rm "$ID" sleep 1000 2>/dev/null &
	client=$!
	wait_for task_is "$ID" RUNNING
	daemon_kill "$(shim_pid "$ID")"
	nothing_left
	wait "$client" || got=$?
	((got != 0)) || fail "the client saw success"
	ctr container rm "$ID" 2>/dev/null || :
}

@test "kill -9 of a daemon whose container has already exited" {
	ctr_run -d "$ID" sh -c 'exit 3'
	wait_for task_is "$ID" STOPPED
	daemon_kill "$(shim_pid "$ID")"
	nothing_left
	wait_for forgotten "$ID"
	ctr container rm "$ID"
}

@test "kill -9 of a daemon with three containers" {
	local i
	for i in 1 2 3; do
		ctr_run -d --annotation "io.containerd.runc.v2.group=$ID" "$ID-$i" sleep 1000
	done
	wait_for shim_count_is 1
	daemon_kill "$(shim_pids)"
	nothing_left
	for i in 1 2 3; do
		wait_for forgotten "$ID-$i"
		ctr container rm "$ID-$i"
	done
}

@test "SIGTERM to the daemon: it leaves orderly and takes its socket with it" {
	local pid init
	ctr_run -d "$ID" sleep 1000
	pid=$(shim_pid "$ID")
	init=$(task_pid "$ID")
	test -S "$(shim_socket "$ID")"
	kill -TERM "$pid"
	wait_for dead "$pid"
	wait_for test ! -e "$(shim_socket "$ID")"
	nothing_left
	dead "$init"
	wait_for forgotten "$ID"
	ctr container rm "$ID"
}

@test "SIGINT to the daemon does the same; SIGPIPE and SIGUSR1 do no harm" {
	local pid signal
	ctr_run -d "$ID" sleep 1000
	pid=$(shim_pid "$ID")
	for signal in PIPE USR1; do
		kill -"$signal" "$pid"
	done
	contains "$(ctr task ps "$ID")" "^$(task_pid "$ID")\b"
	equal "$pid" "$(shim_pid "$ID")" "daemon"
	kill -INT "$pid"
	wait_for dead "$pid"
	nothing_left
	wait_for forgotten "$ID"
	ctr container rm "$ID"
}

@test "daemon and containerd die together: the next containerd cleans up" {
	local init
	ctr_run -d "$ID" sleep 1000
	init=$(task_pid "$ID")
	containerd_kill
	daemon_kill "$(shim_pid "$ID")"
	alive "$init"
	containerd_start
	nothing_left
	dead "$init"
	forgotten "$ID"
	ctr container rm "$ID"
}

@test "the daemon is gone once its last container is removed" {
	local pid
	ctr_run -d "$ID-1" sleep 1000
	ctr_run -d "$ID-2" sleep 1000
	pid=$(shim_pid "$ID-1")
	ctr_rm "$ID-1"
	wait_for dead "$pid"
	wait_for test ! -e "$(shim_socket "$ID-1")"
	wait_for shim_count_is 1
	test -S "$(shim_socket "$ID-2")"
	ctr_rm "$ID-2"
}

@test "a group's daemon goes with its last container, not with its first" {
	local pid
	ctr_run -d --annotation "io.containerd.runc.v2.group=$ID" "$ID-1" sleep 1000
	ctr_run -d --annotation "io.containerd.runc.v2.group=$ID" "$ID-2" sleep 1000
	pid=$(shim_pids)
	ctr_rm "$ID-1"
	equal "$pid" "$(shim_pids)" "daemon"
	wait_for task_is "$ID-2" RUNNING
	test -S "$(shim_socket "$ID")"
	works --annotation "io.containerd.runc.v2.group=$ID" "$ID-3"
	ctr_rm "$ID-2"
	wait_for dead "$pid"
	wait_for test ! -e "$(shim_socket "$ID")"
}
