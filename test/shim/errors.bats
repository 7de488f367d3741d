#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# errors.bats - what cannot work is refused with the reason, and leaves nothing behind.
# shellcheck disable=SC2016 # the scripts of fake runtimes

load lib

# A runtime that does one thing at create and nothing else; LOG is the file --log names.
fake() { # NAME SCRIPT
	mkdir -p "$LAB/fake"
	cat >"$LAB/fake/$1" <<-EOF
		#!/bin/sh
		seen=
		for word; do
		        case \$last in --log) LOG=\$word ;; esac
		        case \$word in create) seen=1 ;; esac
		        last=\$word
		done
		[ "\$seen" ] || exit 0
		$2
	EOF
	chmod +x "$LAB/fake/$1"
}

# Creation with this fake runtime must fail with all these patterns in the text, and leave nothing.
refused_by() { # RUNTIME PATTERN...
	local pattern
	refuse ctr_run --rm --runc-binary "$1" "$ID" true
	shift
	for pattern; do
		contains "$output" "$pattern"
	done
	nothing_left
}

@test "a runtime that is not there" {
	refused_by /no/such/runtime 'OCI runtime create failed' '/no/such/runtime' \
		'no such file or directory'
	refused_by no-such-runtime 'OCI runtime create failed' 'no-such-runtime' \
		'executable file not found'
	works "$ID"
}

@test "a runtime that is not executable" {
	mkdir -p "$LAB/fake"
	echo text >"$LAB/fake/text"
	refused_by "$LAB/fake/text" 'OCI runtime create failed' 'fake/text' 'permission denied'
}

@test "a runtime that fails without a word in its log" {
	fake fails 'echo broken >&2; exit 3'
	refused_by "$LAB/fake/fails" 'OCI runtime create failed' \
		'fake/fails did not terminate successfully: exit status 3'
}

@test "a runtime that is killed" {
	fake dies 'kill -KILL $$'
	refused_by "$LAB/fake/dies" 'OCI runtime create failed' \
		'fake/dies did not terminate successfully: exit status 137'
}

@test "a runtime that writes no pid file" {
	fake lies 'exit 0'
	refused_by "$LAB/fake/lies" 'init\.pid' 'no such file or directory'
}

@test "a runtime whose log is not what it should be" {
	fake silly 'echo "no JSON" >"$LOG"; exit 4'
	refused_by "$LAB/fake/silly" 'OCI runtime create failed'
}

@test "the last error in the runtime's log is the one that is told" {
	fake speaks 'cat >"$LOG" <<-END
		{"level":"error","msg":"the first one","time":"2024-01-01T00:00:00Z"}
		{"level":"error","msg":"the \"last\" one\n","time":"2024-01-01T00:00:01Z"}
		{"level":"info","msg":"bye","time":"2024-01-01T00:00:02Z"}
		END
		exit 5'
	refused_by "$LAB/fake/speaks" 'OCI runtime create failed: the "last" one'
}

@test "a container's mount that does not exist" {
	refuse ctr_run --rm --mount type=bind,src=/no/such/dir,dst=/x,options=rbind "$ID" true
	contains "$output" 'OCI runtime create failed: .*/no/such/dir.*[nN]o such file or directory'
	nothing_left
}

@test "a namespace that does not exist" {
	refuse ctr_run --rm --with-ns network:/no/such/ns "$ID" true
	contains "$output" 'OCI runtime create failed: .*/no/such/ns.*[nN]o such file or directory'
	nothing_left
}

# The runtime's own words are passed on unchanged, whatever they are.
@test "config.json that the runtime refuses" {
	local spec
	ctr oci spec >"$LAB/spec.json"
	sed -i "s,\"path\": \"rootfs\",\"path\": \"$LAB/no-rootfs\"," "$LAB/spec.json"
	for spec in 's/"ociVersion": "[^"]*"/"ociVersion": "nonsense"/' \
		's/"type": "mount"/"type": "nonsense"/' \
		's,"destination": "/proc","destination": "",'; do
		sed "$spec" "$LAB/spec.json" >"$LAB/broken.json"
		refuse cmp -s "$LAB/spec.json" "$LAB/broken.json"
		refuse run_config "$LAB/broken.json" "$ID"
		contains "$output" 'OCI runtime create failed: .'
		nothing_left
	done
}

run_config() { # FILE ID
	ctr_words
	ctr run --rm "${OPTS[@]}" --config "$1" "$2"
}

# The directory that a snapshot's mounts need most.
snapshot_dir() { # KEY
	ctr snapshot mounts /m "$1" | tr -s ', ' '\n' |
		sed -nE "s,^(upperdir=)?($LAB/root/[^=]*/fs)\$,\2,p" | head -n 1
}

@test "a rootfs that cannot be mounted" {
	local dir got=0
	ctr container create "$IMAGE" "$ID" false
	dir=$(snapshot_dir "$ID")
	test -d "$dir"
	mv "$dir" "$dir.away"
	refuse ctr task start "$ID"
	contains "$output" 'failed to mount rootfs component.*no such file or directory'
	nothing_left
	mv "$dir.away" "$dir"
	ctr task start "$ID" || got=$?
	equal 1 "$got" "exit code"
	ctr container rm "$ID"
}

@test "fifty failures leave the containerd of a working one" {
	local i pids
	fake fails 'exit 3'
	ctr_run -d "$ID-works" sleep 1000
	for i in {1..25}; do
		refuse ctr_run --rm "$ID-$i" no-such-command &
		pids=($!)
		refuse ctr_run --rm --runc-binary "$LAB/fake/fails" "$ID-b$i" true &
		all_well "${pids[@]}" $!
	done
	wait_for task_is "$ID-works" RUNNING
	equal 1 "$(shim_pids | wc -l)" "daemons"
	ctr_rm "$ID-works"
}

@test "failures in a group do not disturb the others, and leak nothing into the daemon" {
	local i pid fds pids group=io.containerd.runc.v2.group=$ID
	ctr_run -d --null-io --annotation "$group" "$ID" sleep 1000
	pid=$(shim_pids)
	refuse ctr_run --rm --annotation "$group" "$ID-0" no-such-command
	fds=$(fd_count "$pid")
	for i in {1..20}; do
		refuse ctr_run --rm --annotation "$group" "$ID-$i" no-such-command &
		pids=($!)
		refuse ctr_run --rm --annotation "$group" --runc-binary /no/runtime "$ID-b$i" true &
		all_well "${pids[@]}" $!
	done
	few_fds() { (($(fd_count "$pid") <= fds)); }
	is_go || wait_for few_fds # the Go shim keeps two or three of each failed create
	wait_for task_is "$ID" RUNNING
	equal "$pid" "$(shim_pids)" "daemon"
	ctr_rm "$ID"
}

@test "while one create of a group hangs, the others are answered" {
	not_for_go "its create holds a lock that everything else of the group waits for"
	local client got=0 group=io.containerd.runc.v2.group=$ID
	mkfifo "$LAB/fifo/hang"
	fake hangs "read -r x <$LAB/fifo/hang; exit 1"
	ctr_run -d --annotation "$group" "$ID-1" sleep 1000
	ctr_run --rm --annotation "$group" --runc-binary "$LAB/fake/hangs" "$ID-2" true \
		2>/dev/null &
	client=$!
	exec 8>"$LAB/fifo/hang" # open: the create is on its way
	wait_for task_is "$ID-1" RUNNING
	contains "$(ctr task ps "$ID-1")" "^$(task_pid "$ID-1")\b"
	works --annotation "$group" "$ID-3"
	ctr_rm "$ID-1"
	# ... and all the time the create has hung.
	alive "$(pgrep -f "^/bin/sh $LAB/fake/hangs " -o)"
	echo >&8
	exec 8>&-
	wait "$client" || got=$?
	((got != 0)) || fail "the hanging create was reported as a success"
}
