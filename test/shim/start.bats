#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# start.bats - the shim's command line: start, delete, flags, sockets; the tests play containerd.

load lib

teardown() {
	local pid
	for pid in $([[ $LAB_MISSING ]] || shim_pids); do
		kill -TERM "$pid"
	done
	lab_teardown
}

# A bundle as containerd makes it, with a reader for its log, as long as the test runs.
bundle() { # ID [ANNOTATIONS]
	local fd
	mkdir -p "$LAB/bundle/$1"
	echo "{\"ociVersion\": \"1.0.2\", \"annotations\": {${2:-}}}" >"$LAB/bundle/$1/config.json"
	[[ -p $LAB/bundle/$1/log ]] || mkfifo "$LAB/bundle/$1/log"
	exec {fd}<>"$LAB/bundle/$1/log"
}

# Runs the shim in a bundle as containerd would; whatever hangs is ended.
shim() { # ID WORD...
	local dir=$LAB/bundle/$1
	shift
	# shellcheck disable=SC2016
	bounded nsenter --mount="$LAB_MNT" -- \
		env -i NANOSHIM_LAB="$LAB" PATH="$LAB/bin:$PATH" TTRPC_ADDRESS="$LAB/t.sock" \
		sh -c 'cd "$1" && shift && exec "$@"' sh "$dir" \
		containerd-shim-runc-v2 "$@" 3>&- 4>&-
}

start() { # ID [BUNDLE]
	shim "${2:-$1}" -namespace "$NS" -address "$LAB/c.sock" -publish-binary "$CONTAINERD" \
		-id "$1" start </dev/null
}

# The answer of the last `start`, as containerd 1.6 would read it: both streams, to their end.
address() { echo "unix:///run/containerd/s/$(basename "$(shim_socket "$1")")"; }

@test "start prints the address, exactly, and not a byte on stderr" {
	bundle "$ID"
	start "$ID" >"$LAB/out" 2>"$LAB/err"
	printf %s "$(address "$ID")" | cmp - "$LAB/out"
	equal 0 "$(stat -c %s "$LAB/err")" "bytes on stderr"
	printf %s "$(address "$ID")" | cmp - "$LAB/bundle/$ID/address"
	test -S "$(shim_socket "$ID")"
	equal 600 "$(stat -c %a "$(shim_socket "$ID")")" "permissions of the socket"
	wait_for shim_count_is 1
}

@test "the daemon is detached: own group, own bundle, nothing of ours open" {
	local pid fd
	bundle "$ID"
	exec 8<"$LIB"
	start "$ID" >/dev/null
	exec 8<&-
	pid=$(shim_pid "$ID")
	equal "$pid" "$(ps -o pgid= -p "$pid" | tr -d ' ')" "process group"
	equal "$LAB/bundle/$ID" "$(readlink "/proc/$pid/cwd")" "working directory"
	equal /dev/null "$(readlink "/proc/$pid/fd/0")" stdin
	equal /dev/null "$(readlink "/proc/$pid/fd/1")" stdout
	if ! is_go; then
		for fd in /proc/"$pid"/fd/*; do
			[[ $(readlink "$fd") != "$LIB" ]] || fail "inherited: $fd"
		done
	fi
}

@test "both spellings of every flag" {
	bundle "$ID"
	equal "$(address "$ID")" "$(shim "$ID" --namespace="$NS" -id "$ID" --address "$LAB/c.sock" \
		-publish-binary=x -debug=false --debug start </dev/null 2>&1)" address
	bundle "$ID-2"
	equal "$(address "$ID-2")" "$(shim "$ID-2" -debug -namespace="$NS" --id "$ID-2" \
		-address="$LAB/c.sock" --publish-binary x -bundle "$LAB/bundle/$ID-2" \
		start more words </dev/null 2>&1)" address
	wait_for shim_count_is 2
}

@test "an unclean address gives the socket of the clean one" {
	bundle "$ID"
	equal "$(address "$ID")" "$(shim "$ID" -namespace "$NS" -id "$ID" \
		-address "$LAB//x/.././c.sock" start </dev/null 2>&1)" address
	kill -TERM "$(pgrep -f -- " -id $ID -address $LAB//x")"
}

@test "a second start finds the daemon of the first" {
	local pid
	bundle "$ID"
	start "$ID" >/dev/null
	pid=$(shim_pid "$ID")
	equal "$(address "$ID")" "$(start "$ID" 2>&1)" address
	equal "$pid" "$(shim_pids)" "daemon"
}

@test "groups: one daemon and one socket for all ids" {
	local first
	bundle "$ID-a" "\"io.containerd.runc.v2.group\": \"$ID-g\",
		\"io.kubernetes.cri.sandbox-id\": \"no\""
	bundle "$ID-b" "\"io.containerd.runc.v2.group\": \"$ID-g\""
	equal "$(address "$ID-g")" "$(start "$ID-a" 2>&1)" "address of the first"
	first=$(shim_pids)
	equal "$(address "$ID-g")" "$(start "$ID-b" 2>&1)" "address of the second"
	equal "$first" "$(shim_pids)" "daemon"
	equal "$(address "$ID-g")" "$(<"$LAB/bundle/$ID-b/address")" "address file of the second"
}

@test "groups by the sandbox of kubernetes" {
	bundle "$ID-a" "\"io.kubernetes.cri.container-type\": \"x\",
		\"io.kubernetes.cri.sandbox-id\": \"$ID-s\""
	equal "$(address "$ID-s")" "$(start "$ID-a" 2>&1)" address
}

@test "config.json with the annotations among much else" {
	bundle "$ID"
	cat >"$LAB/bundle/$ID/config.json" <<-EOF
		{"process": {"annotations": {"io.containerd.runc.v2.group": "wrong"},
		  "args": ["\\"", "}"], "env": ["io.containerd.runc.v2.group=wrong"]},
		 "root": {"path": "rootfs"},
		 "annotations": {"a": "\\u0041\\\\",
		  "io.containerd.runc.v2.group":"$ID-\\u0067", "z": ""},
		 "linux": {"annotations": {"io.containerd.runc.v2.group": "wrong"}}}
	EOF
	equal "$(address "$ID-g")" "$(start "$ID" 2>&1)" address
}

@test "many concurrent starts of one group: one daemon, one answer" {
	not_for_go "loses this race: some starts fail, more than one daemon stays"
	local i
	for i in {1..12}; do
		bundle "$ID-$i" "\"io.containerd.runc.v2.group\": \"$ID-g\""
	done
	for i in {1..12}; do
		start "$ID-$i" >"$LAB/out.$i" 2>&1 &
	done
	wait
	for i in {1..12}; do
		equal "$(address "$ID-g")" "$(<"$LAB/out.$i")" "answer $i"
	done
	wait_for shim_count_is 1
	test -S "$(shim_socket "$ID-g")"
	equal 1 "$(find "$LAB/run/containerd/s" -type s | wc -l)" "sockets"
}

@test "the socket of a daemon that was killed is taken over" {
	local old
	bundle "$ID"
	start "$ID" >/dev/null
	old=$(shim_pid "$ID")
	kill -KILL "$old"
	wait_for dead "$old"
	test -S "$(shim_socket "$ID")"
	rm "$LAB/bundle/$ID/address"
	equal "$(address "$ID")" "$(start "$ID" 2>&1)" address
	wait_for shim_count_is 1
}

@test "concurrent starts on a stale socket" {
	not_for_go "loses this race too"
	local i old
	bundle "$ID-0" "\"io.containerd.runc.v2.group\": \"$ID-g\""
	start "$ID-0" >/dev/null
	old=$(shim_pids)
	kill -KILL "$old"
	wait_for dead "$old"
	for i in {1..8}; do
		bundle "$ID-$i" "\"io.containerd.runc.v2.group\": \"$ID-g\""
	done
	for i in {1..8}; do
		start "$ID-$i" >"$LAB/out.$i" 2>&1 &
	done
	wait
	for i in {1..8}; do
		equal "$(address "$ID-g")" "$(<"$LAB/out.$i")" "answer $i"
	done
	wait_for shim_count_is 1
}

@test "SIGTERM: the daemon removes its socket, also after its directory is gone" {
	local pid
	bundle "$ID" "\"io.containerd.runc.v2.group\": \"$ID-g\""
	start "$ID" >/dev/null
	pid=$(shim_pids)
	is_go || rm -r "$LAB/bundle/$ID"
	kill -TERM "$pid"
	wait_for dead "$pid"
	test ! -e "$(shim_socket "$ID-g")"
}

@test "start without config.json or with a broken one: a reason, exit 1, nothing left" {
	local text
	bundle "$ID"
	for text in '' '{' '[]' '{"annotations": {"a": "b"}' '{"annotations": "x"}'; do
		rm "$LAB/bundle/$ID/config.json"
		[[ ! $text ]] || echo "$text" >"$LAB/bundle/$ID/config.json"
		status=0
		start "$ID" >"$LAB/out" 2>"$LAB/err" || status=$?
		equal 1 "$status" "exit code for '$text'"
		equal 0 "$(stat -c %s "$LAB/out")" "bytes on stdout for '$text'"
		contains "$(<"$LAB/err")" '^io\.containerd\.runc\.v2: .'
		nothing_left
		echo '{}' >"$LAB/bundle/$ID/config.json"
	done
}

@test "wrong command lines" {
	bundle "$ID"
	refuse shim "$ID" -id "$ID" -address "$LAB/c.sock" start
	equal 1 "$status" "exit code without a namespace"
	contains "$output" 'shim namespace cannot be empty'
	refuse shim "$ID" -namespace "$NS" -nonsense start
	equal 2 "$status" "exit code of an unknown flag"
	contains "$output" 'flag provided but not defined: -nonsense'
	refuse shim "$ID" -namespace
	equal 2 "$status" "exit code of a flag without its value"
}

@test "-v and -h" {
	bundle "$ID"
	contains "$(shim "$ID" -v)" '^  Version: +.'
	contains "$(shim "$ID" --v)" '^  Version: +.'
	output=$(shim "$ID" -h 2>&1)
	contains "$output" '-namespace'
}

@test "-version and -info" {
	not_for_go "of 1.6 does not know them"
	bundle "$ID"
	contains "$(shim "$ID" -version)" '^  Version: +.'
	contains "$(shim "$ID" -info </dev/null | tr '\0' ' ')" 'io\.containerd\.runc\.v2'
}

text() { # NUMBER TEXT: a protobuf field
	local head
	printf -v head '\\x%02x\\x%02x' $(($1 << 3 | 2)) "${#2}"
	printf "$head%s" "$2"
}

@test "stdin of start: runtime options as 1.6 to 2.2 send them" {
	bundle "$ID"
	equal "$(address "$ID")" "$({
		text 1 containerd.runc.v1.Options
		text 2 "$(text 6 crun)"
	} | shim "$ID" -namespace "$NS" -id "$ID" -address "$LAB/c.sock" start 2>&1)" address
}

@test "stdin of start: options of an unknown runtime name, and bootstrap parameters of 2.3" {
	not_for_go "of 1.6 dies of them"
	bundle "$ID"
	equal "$(address "$ID")" "$({
		text 1 containerd.linux.runc.CreateOptions
		text 2 $'\b\001' # 1: true
	} | shim "$ID" -namespace "$NS" -id "$ID" -address "$LAB/c.sock" start 2>&1)" address
	bundle "$ID-2"
	equal "$(address "$ID-2")" "$({
		text 1 "$ID-2"
		text 2 "$NS"
		printf '\030\374\377\377\377\377\377\377\377\377\001' # 3: -4
		text 4 2.3.0
	} | shim "$ID-2" -namespace "$NS" -id "$ID-2" -address "$LAB/c.sock" start 2>&1)" address
}

@test "delete of a bundle in which nothing was ever created" {
	not_for_go "of 1.6 fails without the file \`runtime'"
	bundle "$ID"
	shim "$ID" -namespace "$NS" -address "$LAB/c.sock" -publish-binary x -id "$ID" \
		-bundle "$LAB/bundle/$ID" delete </dev/null >"$LAB/out"
	# exit_status, field 2: 137
	contains "$(od -An -v -tx1 "$LAB/out" | tr -d ' \n')" '108901'
	# Once more: it must not mind.
	shim "$ID" -namespace "$NS" -address "$LAB/c.sock" -publish-binary x -id "$ID" \
		-bundle "$LAB/bundle/$ID" delete </dev/null >"$LAB/out"
}

@test "delete leaves the living daemon of a group and its socket alone" {
	local pid
	bundle "$ID-a" "\"io.containerd.runc.v2.group\": \"$ID-g\""
	start "$ID-a" >/dev/null
	pid=$(shim_pids)
	echo -n runc >"$LAB/bundle/$ID-a/runtime"
	shim "$ID-a" -namespace "$NS" -address "$LAB/c.sock" -publish-binary x -id "$ID-a" \
		-bundle "$LAB/bundle/$ID-a" delete </dev/null >/dev/null 2>&1
	alive "$pid"
	test -S "$(shim_socket "$ID-g")"
	equal "$(address "$ID-g")" "$(start "$ID-a" 2>&1)" address
	equal "$pid" "$(shim_pids)" "daemon"
}
