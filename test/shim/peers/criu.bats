#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# peers: 1.6/runc 2.x/runc-new
# group: peers
#
# criu.bats - containers are frozen to files and brought back from them.

: "${PEER:=2.x}"
load ../lib

setup_file() {
	export PATH=$PEERS/criu/bin:$PATH
	lab_setup_file criu
	if [[ ! $LAB_MISSING ]] && ! in_lab criu check >"$LAB/criu.log" 2>&1; then
		LAB_MISSING="criu does not work here: $(tail -n 1 "$LAB/criu.log")"
	fi
}

# Counts into a file outside, in memory and nowhere else: what is restored goes on counting.
counter() { # ID
	rm -f "$LAB/fifo/count"
	ctr_run -d --null-io --mount "type=bind,src=$LAB/fifo,dst=/fifo,options=rbind:rw" "$1" sh -c '
		trap "exit 42" TERM
		i=0; while :; do i=$((i + 1)); echo $i >/fifo/next; mv /fifo/next /fifo/count; sleep 0.05; done'
	wait_for counted 20
}

# The freezer of cgroup v1 can fail to come to an end while the container makes new processes. Runc gives
# it a number of turns, which on a busy machine is too few.
checkpoint() { # WORD... for ctr
	local turn output
	for turn in {1..20}; do
		rm -rf "$LAB/images"
		output=$(ctr "$@" 2>&1) && return
		[[ $output == *"unable to freeze"* ]] || fail "$output" || return
	done
	fail "a limit of runc's own, on cgroup v1: in $turn turns it could not freeze the container: $output"
}

count() { cat "$LAB/fifo/count" 2>/dev/null || echo 0; }
counted() { (($(count) >= $1)); }

goes_on() { # it counts on from where it is
	local now
	now=$(count)
	wait_for counted $((now + 5))
}

@test "task checkpoint: the container goes on" {
	local pid
	counter "$ID"
	pid=$(task_pid "$ID")
	checkpoint task checkpoint --image-path "$LAB/images" "$ID"
	test -s "$LAB/images/inventory.img"
	equal "$pid" "$(task_pid "$ID")" pid
	wait_for task_is "$ID" RUNNING
	goes_on
	exec_says well "$ID" 'echo well'
	rm -r "$LAB/images"
	ctr_rm "$ID"
}

@test "task checkpoint --exit: the container ends" {
	events_start "$LAB/events"
	counter "$ID"
	checkpoint task checkpoint --exit --image-path "$LAB/images" "$ID"
	test -s "$LAB/images/inventory.img"
	wait_for task_is "$ID" STOPPED
	ctr task rm "$ID" >/dev/null 2>&1 || :
	wait_for events_match "$ID" '^create start (paused )?(resumed )?(checkpointed )?exit:137 (checkpointed )?delete:137$'
	rm -r "$LAB/images"
	ctr container rm "$ID"
}

@test "container checkpoint, container restore --live" {
	local before pid
	events_start "$LAB/events-restore"
	counter "$ID"
	checkpoint container checkpoint --image --rw --task "$ID" "checkpoint-$ID"
	wait_for task_is "$ID" RUNNING
	ctr_rm "$ID"
	nothing_left
	before=$(count)
	((before > 20))
	rm "$LAB/fifo/count"
	ctr container restore --rw --live "$ID" "checkpoint-$ID" </dev/null >/dev/null
	wait_for task_is "$ID" RUNNING
	wait_for counted 1
	(($(count) >= 20)) || fail "counts anew: $(count)"
	goes_on
	pid=$(task_pid "$ID")
	equal "$(shim_pid "$ID")" "$(status_of "$pid" PPid)" "parent of init"
	exec_says well "$ID" 'echo well'
	contains "$(ctr task ps "$ID")" "^$pid\b"
	few_pids() { [[ $(ctr task metrics "$ID") =~ pids.current\ +[12]\ *$'\n' ]]; }
	wait_for few_pids
	ctr task pause "$ID"
	wait_for task_is "$ID" PAUSED
	ctr task resume "$ID"
	# It survives a restart of containerd as any other.
	containerd_kill
	containerd_start
	equal "$pid" "$(task_pid "$ID")" pid
	goes_on
	# busybox's sh is restored with its trap.
	ctr task kill "$ID"
	wait_for task_is "$ID" STOPPED
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 42'
	ctr container rm "$ID"
	ctr image rm "checkpoint-$ID" >/dev/null
}

@test "input and output go on after a restore" {
	local client
	ctr_run -d "$ID" sh -c '
		i=0; while read -r x; do i=$((i + 1)); echo $i $x; [ "$x" != end ] || exit 9; done'
	checkpoint container checkpoint --image --rw --task "$ID" "checkpoint-$ID"
	ctr_rm "$ID"
	nothing_left
	ctr container restore --rw --live "$ID" "checkpoint-$ID" </dev/null >/dev/null
	mkfifo "$LAB/in"
	ctr task attach "$ID" <"$LAB/in" >"$LAB/out" &
	client=$!
	exec 8>"$LAB/in"
	echo one >&8
	wait_for grep -qx '1 one' "$LAB/out"
	echo end >&8
	exits_with 9 wait "$client" # ... which deletes the task
	exec 8>&-
	ctr container rm "$ID"
	ctr image rm "checkpoint-$ID" >/dev/null
	rm "$LAB/in"
}

@test "a checkpoint that fails: the reason, and the container goes on" {
	counter "$ID"
	printf '#!/bin/sh\nexit 1\n' >"$LAB/bin/criu"
	chmod +x "$LAB/bin/criu"
	refuse ctr task checkpoint --image-path "$LAB/images" "$ID"
	rm "$LAB/bin/criu"
	contains "$output" "path= $LAB/state/.*/$NS/$ID/criu-dump.log"
	wait_for task_is "$ID" RUNNING
	goes_on
	ctr_rm "$ID"
}

@test "a restore that fails: the reason, and nothing is left" {
	counter "$ID"
	checkpoint container checkpoint --image --rw --task "$ID" "checkpoint-$ID"
	ctr_rm "$ID"
	printf '#!/bin/sh\nexit 1\n' >"$LAB/bin/criu"
	chmod +x "$LAB/bin/criu"
	refuse ctr container restore --rw --live "$ID" "checkpoint-$ID"
	rm "$LAB/bin/criu"
	contains "$output" "OCI runtime restore failed: "
	ctr task rm "$ID" >/dev/null
	ctr container rm "$ID"
	ctr image rm "checkpoint-$ID" >/dev/null
}
