#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# restart.bats - containerd dies and comes back under running containers.

load lib

# Ten containers that end with exit code 10 + their number, each when its gate gets a line.
ten() {
	local i pids=()
	for i in {0..9}; do
		mkfifo "$LAB/fifo/$ID-$i"
		ctr_run -d --null-io --mount "$GATES" \
			"$ID-$i" sh -c "read -r x </gates/$ID-$i; exit 1$i" &
		pids+=($!)
	done
	all_well "${pids[@]}"
}

open_gate() { # NUMBER: returns once the container has read the line
	feed "$LAB/fifo/$ID-$1"
}

ended() { [[ ! $(lab_cgroups | grep "/$1\$" | sed 's,$,/cgroup.procs,' | xargs -r cat) ]]; } # ID

# The exit code as a client sees it who waits for the task; ctr attach also removes the task.
code_of() { # ID
	local got=0
	ctr task attach "$1" >/dev/null 2>&1 || got=$?
	ctr container rm "$1" || return
	echo "$got"
}

@test "ten running containers, five of which exit while containerd is dead" {
	local i
	ten
	containerd_kill
	for i in 1 3 5 7 9; do
		open_gate "$i"
	done
	for i in 1 3 5 7 9; do
		wait_for ended "$ID-$i"
	done
	wait_for shim_count_is 10
	containerd_start

	equal 10 "$(ctr task ls -q | wc -l)" "known tasks"
	for i in 1 3 5 7 9; do
		wait_for task_is "$ID-$i" STOPPED
	done
	for i in 0 2 4 6 8; do
		wait_for task_is "$ID-$i" RUNNING
	done
	for i in 1 3 5 7 9; do
		equal "1$i" "$(code_of "$ID-$i")" "exit code of $i, which ended in between"
	done
	for i in 0 2 4 6 8; do
		open_gate "$i"
		equal "1$i" "$(code_of "$ID-$i")" "exit code of $i, which ended afterwards"
	done
}

@test "no exit is lost that happens while containerd dies or starts" {
	local i
	ten
	for i in {0..4}; do
		open_gate "$i" &
	done
	containerd_kill
	for i in {5..9}; do
		open_gate "$i" &
	done
	containerd_start
	for i in {0..9}; do
		wait_for ended "$ID-$i"
		equal "1$i" "$(code_of "$ID-$i")" "exit code of $i"
	done
}

@test "three restarts in a row, the last one orderly" {
	local pid signal
	ctr_run -d --null-io "$ID" sleep 1000
	pid=$(task_pid "$ID")
	for signal in KILL KILL TERM; do
		containerd_kill "$signal"
		alive "$pid"
		containerd_start
		equal "$pid" "$(task_pid "$ID")" "pid"
		wait_for task_is "$ID" RUNNING
	done
	equal 1 "$(shim_pids | wc -l)" "daemons"
	ctr_rm "$ID"
}

@test "after a restart containers are killed, removed and created as before" {
	ctr_run -d --null-io "$ID" sleep 1000
	containerd_kill
	containerd_start
	events_start "$LAB/events"
	ctr task kill -s KILL "$ID"
	wait_for events_are "$ID" "exit:137"
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 137'
	wait_for events_are "$ID" "exit:137 delete:137"
	ctr container rm "$ID"
	works "$ID"
}

@test "a group of containers in one daemon survives a restart" {
	local i pid
	for i in 1 2 3; do
		ctr_run -d --null-io --annotation "io.containerd.runc.v2.group=$ID" "$ID-$i" \
			sleep 1000
	done
	pid=$(shim_pids)
	contains "$pid" '^[0-9]+$'
	containerd_kill
	kill -KILL "$(pgrep -P "$pid" -o)"
	containerd_start
	equal 3 "$(ctr task ls -q | wc -l)" "known tasks"
	wait_for task_is "$ID-1" STOPPED
	equal 137 "$(code_of "$ID-1")" "its exit code"
	wait_for task_is "$ID-2" RUNNING
	wait_for task_is "$ID-3" RUNNING
	ctr_rm "$ID-2" "$ID-3"
}

@test "output written while nobody reads is kept, and goes on when a reader comes back" {
	local out
	gated "$ID" 'seq 1 60000; exit 4'
	out=$(readlink "/proc/$$/fd/$OUT")
	feed "$GATE"
	bounded head -c 50000 <&"$OUT" >"$LAB/part1" # takes that much and not a byte more
	exec {OUT}<&-
	containerd_kill
	equal 50000 "$(stat -c %s "$LAB/part1")" "bytes read before"
	# Nobody reads now; the container fills every buffer and waits, alive.
	wait_for stalled
	containerd_start
	wait_for task_is "$ID" RUNNING
	bounded cat "$out" >"$LAB/part2"
	cat "$LAB/part1" "$LAB/part2" | cmp - <(seq 1 60000)
	wait_for task_is "$ID" STOPPED
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 4'
	ctr container rm "$ID"
}

stalled() { # init's child has written more than one pipe holds beyond what was read, and sleeps
	local init child written
	init=$(pgrep -P "$(shim_pids)" -o) && child=$(pgrep -P "$init" -o) || return
	written=$(awk '/^wchar:/ { print $2 }' "/proc/$child/io" 2>/dev/null)
	((${written:-0} > 50000 + 65536)) && grep -q '^State:.S' "/proc/$child/status"
}
