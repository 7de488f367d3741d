#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# run.bats - containers in the foreground: output, exit codes, bytes in and out.
# shellcheck disable=SC2016 # what the shell in the container expands

load lib

@test "hello" {
	equal hello "$(ctr_shell "$ID" 'echo hello')" output
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
	wait_for task_is "$ID" RUNNING
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
	works "$ID" # ... and the id can be used again.
}

# Ends and removes the container; its exit code must be this one.
finished() { # ID CODE
	wait_for task_is "$1" STOPPED
	output=$(ctr task rm "$1" 2>&1)
	ctr container rm "$1"
	if (($2)); then
		contains "$output" "exit code $2\"?\$"
	else
		equal "" "$output" "exit code"
	fi
}

@test "10 MiB on stdout arrive intact" {
	head -c 10485760 /dev/urandom >"$LAB/fifo/data"
	gated "$ID" 'cat /gates/data; exit 3'
	feed "$GATE"
	bounded cat <&"$OUT" | cmp - "$LAB/fifo/data"
	finished "$ID" 3
}

@test "10 MiB on stderr arrive intact, and none of it on stdout" {
	head -c 10485760 /dev/urandom >"$LAB/fifo/data"
	gated "$ID" 'echo short; cat /gates/data >&2'
	feed "$GATE"
	bounded cat <&"$ERR" | cmp - "$LAB/fifo/data"
	equal short "$(bounded cat <&"$OUT")" stdout
	finished "$ID" 0
}

@test "stdout and stderr flow at the same time, each in order" {
	gated "$ID" 'i=0
		while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done'
	bounded cat <&"$OUT" >"$LAB/out" &
	bounded cat <&"$ERR" >"$LAB/err" &
	feed "$GATE"
	wait
	seq -f 'out %.0f' 0 19999 | cmp - "$LAB/out"
	seq -f 'err %.0f' 0 19999 | cmp - "$LAB/err"
	finished "$ID" 0
}

@test "output written just before the exit is not lost" {
	local i
	for i in {1..10}; do
		gated "$ID-$i" "head -c 65536 /dev/zero; echo end >&2; exit $i"
		feed "$GATE"
		equal 65536 "$(bounded cat <&"$OUT" | wc -c)" "bytes"
		equal end "$(bounded cat <&"$ERR")" stderr
		finished "$ID-$i" "$i"
	done
}

@test "a slow reader gets everything" {
	# It does not read before the container has filled every buffer on the way.
	gated "$ID" 'seq 1 200000; echo end'
	feed "$GATE"
	wait_for blocked_writer "$(task_pid "$ID")"
	{ seq 1 200000; echo end; } | cmp - <(bounded cat <&"$OUT")
	finished "$ID" 0
}

@test "a reader that comes after the exit, but before the removal, gets what the buffers hold" {
	gated "$ID" 'echo last words; exit 8'
	feed "$GATE"
	wait_for task_is "$ID" STOPPED
	equal "last words" "$(bounded cat <&"$OUT")" stdout
	finished "$ID" 8
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
	gate "$ID"
	ctr_run --rm --mount "$GATES" "$ID" \
		sh -c "echo up >&2; cat; echo done >&2; read -r x </gates/$ID; exit 6" \
		<"$LAB/in" >"$LAB/copy" 2>"$LAB/err" &
	local client=$! got=0
	exec 8>"$LAB/in"
	wait_for grep -qsx up "$LAB/err"
	cat "$LAB/data" >&8
	exec 8>&-
	wait_for grep -qx 'done' "$LAB/err"
	wait_for cmp -s "$LAB/data" "$LAB/copy"
	feed "$GATE"
	wait "$client" || got=$?
	equal 6 "$got" "exit code"
}

@test "a container that never reads its stdin is not held up by it" {
	local client got=0
	mkfifo "$LAB/in2"
	ctr_run --rm "$ID" sh -c 'exit 5' <"$LAB/in2" &
	client=$!
	exec 8>"$LAB/in2"
	(bounded head -c 1000000 /dev/zero >&8) 2>/dev/null || :
	exec 8>&-
	wait "$client" || got=$?
	equal 5 "$got" "exit code"
}

@test "without stdio the container runs all the same" {
	local got=0
	ctr_run --rm --null-io "$ID" sh -c 'cat; echo lost; exit 9' || got=$?
	equal 9 "$got" "exit code"
}

@test "no file of the shim leaks into a container" {
	# 0, 1, 2 and the directory that ls itself has open
	equal "0 1 2 3" "$(ctr_shell "$ID" 'exec ls /proc/self/fd' | xargs)" "open files"
	output=$(ctr_shell "$ID" 'ls -l /proc/1/fd')
	equal 3 "$(grep -c 'pipe:' <<<"$output")" "pipes among the files of init"
}

@test "signals are not blocked or ignored in a container" {
	output=$(ctr_shell "$ID" 'grep -E "^Sig(Blk|Ign):" /proc/self/status' | tr -d '\n\t')
	equal "SigBlk:0000000000000000SigIgn:0000000000000000" "$output" "signal masks"
}

@test "environment, working directory and arguments are the container's own" {
	local got=0
	ctr_run --rm --env 'A=b c' --cwd /tmp "$ID" sh -c '
		[ "$A" = "b c" ] && [ "$PWD" = /tmp ] && [ $# = 2 ] && [ "$1" = "x  y" ] &&
			[ "$2" = "" ] && exit 42' sh 'x  y' '' || got=$?
	equal 42 "$got" "exit code"
}
