#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# run.bats - containers in the foreground: output, exit codes, bytes in and out.
# shellcheck disable=SC2016 # what the shell in the container expands

load lib

@test "hello" {
	output=$(ctr_run --rm "$ID" echo hello)
	equal hello "$output" output
}

@test "exit codes 0, 1, 7, 127 and 255 arrive unchanged" {
	local code got
	for code in 0 1 7 127 255; do
		got=0
		ctr_run --rm "$ID-$code" sh -c "exit $code" || got=$?
		equal "$code" "$got" "exit code"
	done
}

@test "a container that kills itself with SIGKILL or SIGTERM exits with 137 and 143" {
	local got
	# A namespace's init cannot signal itself; its child can, and sh passes the status on.
	for want in KILL:137 TERM:143; do
		got=0
		ctr_run --rm "$ID-${want#*:}" \
			sh -c "sh -c 'kill -${want%:*} \$\$'; exit \$?" || got=$?
		equal "${want#*:}" "$got" "exit code of the child"
	done
}

@test "SIGKILL from outside exits with 137" {
	local client got=0
	ctr_run --rm "$ID" sleep 1000 &
	client=$!
	wait_for 20 task_is "$ID" RUNNING
	ctr task kill -s KILL "$ID"
	wait "$client" || got=$?
	equal 137 "$got" "exit code"
}

@test "a command that does not exist is named in the error" {
	refuse ctr_run --rm "$ID" no-such-command
	contains "$output" 'no-such-command'
	contains "$output" 'executable file .*not found'
	contains "$output" 'OCI runtime create failed'
	nothing_left
	# ... and the id can be used again.
	equal again "$(ctr_run --rm "$ID" echo again)" output
}

@test "10 MiB on stdout arrive intact" {
	head -c 10485760 /dev/urandom >"$LAB/data"
	ctr_run --rm --mount "type=bind,src=$LAB,dst=/lab,options=rbind:ro" "$ID" \
		cat /lab/data >"$LAB/copy"
	cmp "$LAB/data" "$LAB/copy"
}

@test "10 MiB on stderr arrive intact, and none of it on stdout" {
	head -c 10485760 /dev/urandom >"$LAB/data"
	ctr_run --rm --mount "type=bind,src=$LAB,dst=/lab,options=rbind:ro" "$ID" \
		sh -c 'echo short; cat /lab/data >&2' >"$LAB/out" 2>"$LAB/err"
	cmp "$LAB/data" "$LAB/err"
	equal short "$(<"$LAB/out")" stdout
}

@test "stdout and stderr flow at the same time, each in order" {
	ctr_run --rm "$ID" sh -c '
		i=0; while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done' \
		>"$LAB/out" 2>"$LAB/err"
	seq -f 'out %.0f' 0 19999 | cmp - "$LAB/out"
	seq -f 'err %.0f' 0 19999 | cmp - "$LAB/err"
}

@test "output written just before the exit is not lost" {
	local i
	for i in {1..10}; do
		equal 65536 "$(ctr_run --rm "$ID-$i" head -c 65536 /dev/zero | wc -c)" "bytes"
	done
}

@test "a slow reader gets everything" {
	# The reader stops until the container has filled every buffer on the way, then reads on.
	mkfifo "$LAB/slow"
	ctr_run --rm "$ID" sh -c 'seq 1 200000; echo end' >"$LAB/slow" &
	exec 8<"$LAB/slow"
	wait_for 20 task_is "$ID" RUNNING
	wait_for 20 blocked_writer "$(task_pid "$ID")"
	{ seq 1 200000; echo end; } | cmp - /dev/fd/8
	exec 8<&-
	wait "$!"
}

blocked_writer() { # PID OF SH: its child has filled the pipe and sleeps
	local child written
	child=$(pgrep -P "$1" | head -n 1)
	[[ $child ]] || return
	written=$(awk '/^wchar:/ { print $2 }' "/proc/$child/io" 2>/dev/null)
	((${written:-0} >= 65536)) && grep -q '^State:.S' "/proc/$child/status"
}

@test "stdin is piped through and ends" {
	# ctr closes a container's stdin only if it ends after the start, hence the wait for "up".
	head -c 3000000 /dev/urandom >"$LAB/data"
	mkfifo "$LAB/in"
	ctr_run --rm "$ID" sh -c 'echo up >&2; cat; echo done >&2' \
		<"$LAB/in" >"$LAB/copy" 2>"$LAB/err" &
	exec 8>"$LAB/in"
	wait_for 20 grep -qs up "$LAB/err"
	cat "$LAB/data" >&8
	exec 8>&-
	wait "$!"
	cmp "$LAB/data" "$LAB/copy"
	equal "up done" "$(tr '\n' ' ' <"$LAB/err" | sed 's/ $//')" stderr
}

@test "a container that never reads its stdin is not held up by it" {
	mkfifo "$LAB/in2"
	ctr_run --rm "$ID" sh -c 'echo up; exit 5' <"$LAB/in2" >"$LAB/out2" &
	exec 8>"$LAB/in2"
	(head -c 1000000 /dev/zero >&8) 2>/dev/null || :
	exec 8>&-
	local got=0
	wait "$!" || got=$?
	equal 5 "$got" "exit code"
	equal up "$(<"$LAB/out2")" stdout
}

@test "without stdio the container runs all the same" {
	local got=0
	ctr_run --rm --null-io "$ID" sh -c 'cat; echo lost; exit 9' || got=$?
	equal 9 "$got" "exit code"
}

@test "no file of the shim leaks into a container" {
	# 0, 1, 2 and the directory that ls itself has open
	output=$(ctr_run --rm "$ID" ls /proc/self/fd | tr '\n' ' ')
	equal "0 1 2 3 " "$output" "open files"
	output=$(ctr_run --rm "$ID" sh -c 'ls -l /proc/1/fd/' | grep -c 'pipe:')
	equal 3 "$output" "pipes among the files of init"
}

@test "signals are not blocked or ignored in a container" {
	output=$(ctr_run --rm "$ID" grep -E '^Sig(Blk|Ign):' /proc/self/status | tr -d '\n\t')
	equal "SigBlk:0000000000000000SigIgn:0000000000000000" "$output" "signal masks"
}

@test "environment, working directory and arguments are the container's own" {
	output=$(ctr_run --rm --env 'A=b c' --cwd /tmp "$ID" \
		sh -c 'echo "$A|$PWD|$1|$2"' sh 'x  y' '')
	equal 'b c|/tmp|x  y|' "$output" output
}
