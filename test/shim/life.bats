#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# life.bats - containers in the background: list, look, kill, wait, remove, and what is refused.

load lib

# Clients that wait in containerd for the exit of a task, told by its stack dump.
waiting_clients_are() { # COUNT
	[[ $(ctr pprof -d "$LAB/d.sock" goroutines 2>/dev/null |
		grep -c '/services/tasks\.(\*local)\.Wait(') == "$1" ]]
}

container_procs() { # ID
	local cg
	for cg in $(lab_cgroups | grep "/$1\$"); do
		cat "$cg/cgroup.procs" 2>/dev/null || :
	done
}

@test "run -d, ls, ps, kill, rm" {
	ctr_run -d "$ID" sleep 1000
	wait_for task_is "$ID" RUNNING
	local pid
	pid=$(task_pid "$ID")
	wait_for executes "$pid" "sleep 1000"
	contains "$(ctr task ps "$ID")" "^$pid\b"
	equal "$(shim_pid "$ID")" "$(status_of "$pid" PPid)" "parent of init"

	ctr task kill -s KILL "$ID"
	wait_for task_is "$ID" STOPPED
	dead "$pid"
	output=$(ctr task rm "$ID" 2>&1)
	contains "$output" 'exit code 137'
	equal "" "$(ctr task ls -q)" "tasks"
	ctr container rm "$ID"
}

@test "ps lists every process of the container" {
	ctr_run -d "$ID" sh -c 'sleep 1000 & sleep 1001 & wait'
	local pid
	pid=$(task_pid "$ID")
	has_children() { [[ $(pgrep -P "$pid" | wc -l) == 2 ]]; }
	wait_for has_children
	equal "$({ echo "$pid"; pgrep -P "$pid"; } | sort)" \
		"$(ctr task ps "$ID" | awk 'NR > 1 { print $1 }' | sort)" "processes"
	ctr_rm "$ID"
}

@test "a signal the container handles reaches it" {
	ctr_run -d --mount "type=bind,src=$LAB/fifo,dst=/fifo,options=rbind:rw" "$ID" sh -c '
		trap "exit 42" TERM; trap "echo usr >/fifo/usr" USR1
		: >/fifo/ready; while :; do sleep 0.05; done'
	wait_for test -e "$LAB/fifo/ready"
	ctr task kill -s USR1 "$ID"
	wait_for grep -qs usr "$LAB/fifo/usr"
	wait_for task_is "$ID" RUNNING
	ctr task kill -s TERM "$ID"
	wait_for task_is "$ID" STOPPED
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 42'
	ctr container rm "$ID"
	rm "$LAB"/fifo/{ready,usr}
}

@test "the exit code is kept until somebody asks for it" {
	ctr_run -d "$ID" sh -c 'exit 33'
	wait_for task_is "$ID" STOPPED
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 33'
	ctr container rm "$ID"
}

@test "every client that waits gets the exit code" {
	local i pids=() got
	ctr_run -d --null-io "$ID" sleep 1000
	for i in 1 2 3 4 5; do
		ctr task attach "$ID" &
		pids+=("$!")
	done
	wait_for waiting_clients_are 5
	ctr task kill -s KILL "$ID"
	for i in "${pids[@]}"; do
		got=0
		wait "$i" || got=$?
		equal 137 "$got" "exit code of a client"
	done
	ctr container rm "$ID"
}

@test "a client that goes away while it waits leaves the others waiting" {
	local gone stays got=0
	ctr_run -d --null-io "$ID" sleep 1000
	ctr task attach "$ID" &
	stays=$!
	ctr_words
	(exec "${CTR_WORDS[@]}" task attach "$ID") &
	gone=$!
	wait_for waiting_clients_are 2
	kill -KILL "$gone"
	wait "$gone" 2>/dev/null || :
	wait_for waiting_clients_are 1
	wait_for task_is "$ID" RUNNING
	ctr task kill -s KILL "$ID"
	wait "$stays" || got=$?
	equal 137 "$got" "exit code"
	ctr container rm "$ID"
}

@test "a running task is not deleted, a stopped one not killed" {
	ctr_run -d "$ID" sleep 1000
	refuse ctr task rm "$ID"
	contains "$output" 'must be stopped before deletion: running: failed precondition'
	wait_for task_is "$ID" RUNNING
	ctr task kill -s KILL "$ID"
	wait_for task_is "$ID" STOPPED
	refuse ctr task kill -s KILL "$ID"
	contains "$output" 'process already finished: not found'
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 137'
	ctr container rm "$ID"
}

@test "what does not exist is not found" {
	refuse ctr task kill nobody
	contains "$output" 'not found'
	refuse ctr task rm nobody
	contains "$output" 'not found'
	ctr_run -d "$ID" sleep 1000
	refuse ctr_run -d "$ID" sleep 1000
	contains "$output" 'already exists'
	wait_for task_is "$ID" RUNNING
	ctr_rm "$ID"
}

@test "rm -f of a running container" {
	ctr_run -d "$ID" sleep 1000
	ctr task rm -f "$ID"
	equal "" "$(ctr task ls -q)" "tasks"
	ctr container rm "$ID"
}

@test "a container runs again under the same id, many times" {
	local i got
	for i in {1..10}; do
		got=0
		ctr_run --rm "$ID" sh -c "exit $i" || got=$?
		equal "$i" "$got" "exit code"
	done
}

@test "children that outlive init are killed with it" {
	ctr_run -d "$ID" sh -c 'sleep 1000 & sleep 1000 & read -r x </dev/null; exit 6'
	wait_for task_is "$ID" STOPPED
	equal "" "$(container_procs "$ID")" processes
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 6'
	ctr container rm "$ID"
}

@test "children of a container without a pid namespace of its own are killed with its init" {
	ctr_run -d --with-ns "pid:/proc/$(<"$LAB/guard.pid")/ns/pid" "$ID" \
		sh -c 'sleep 1000 & sleep 1000 & exit 6'
	wait_for task_is "$ID" STOPPED
	no_procs() { [[ ! $(container_procs "$ID") ]]; }
	wait_for no_procs
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 6'
	ctr container rm "$ID"
}
