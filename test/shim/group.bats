#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# group.bats - very many containers through one daemon: nothing piles up in it.
# GROUP_N is how many (60; the full test is 500).

load lib

GROUP_N=${GROUP_N:-60}

@test "after $GROUP_N containers the daemon is as after five" {
	local i pid fds kb group=io.containerd.runc.v2.group=$ID
	ctr_run -d --null-io --annotation "$group" "$ID-keeper" sleep 100000
	pid=$(shim_pids)
	for ((i = 1; i <= GROUP_N; i++)); do
		# By turns: output, an exit code, a killed one, no stdio, one that cannot start.
		case $((i % 5)) in
		0) equal "$i" "$(ctr_shell --annotation "$group" "$ID-$i" "echo $i")" output ;;
		1) refuse ctr_run --rm --annotation "$group" "$ID-$i" sh -c 'exit 9' ;;
		2)
			ctr_run -d --annotation "$group" "$ID-$i" sleep 1000
			ctr_rm "$ID-$i"
			;;
		3) ctr_run --rm --null-io --annotation "$group" "$ID-$i" true ;;
		4) is_go || refuse ctr_run --rm --annotation "$group" "$ID-$i" no-such-command ;;
		esac
		if ((i == 5)); then
			settle "$pid"
			fds=$(fd_count "$pid") kb=$(dirty "$pid")
		fi
	done
	settle "$pid"
	echo "# after 5: $fds files, $kb KiB dirty;" \
		"after $GROUP_N: $(fd_count "$pid") files, $(dirty "$pid") KiB" >&3
	equal "$pid" "$(shim_pids)" "daemon"
	equal "$fds" "$(fd_count "$pid")" "open files"
	now=$(dirty "$pid")
	contains "$(ctr task ps "$ID-keeper")" "^$(task_pid "$ID-keeper")\b"
	ctr_rm "$ID-keeper"
	wait_for 10 dead "$pid"
	not_sanitized "memory of the sanitizers"
	is_go || ((now <= kb + 4)) || fail "private memory has grown"
}

# Until four looks in a row, a second apart, have seen the same: late answers, connections on their
# way out, memory that is given back when there is nothing to do.
settle() { # PID
	local now='' last='' turn same=0
	is_go && return
	for ((turn = 0; turn < 30 && same < 3; turn++)); do
		now="$(fd_count "$1") $(dirty "$1")"
		if [[ $now == "$last" ]]; then same=$((same + 1)); else same=0; fi
		last=$now
		sleep 1
	done
	((same == 3)) || fail "the daemon does not come to rest: $now"
}

@test "a hundred containers at the same time in one daemon" {
	local i pid group=io.containerd.runc.v2.group=$ID
	for i in {1..100}; do
		ctr_run -d --null-io --annotation "$group" "$ID-$i" sleep 1000 &
		((i % 10)) || wait
	done
	equal 100 "$(ctr task ls | grep -c RUNNING)" "running tasks"
	pid=$(shim_pids)
	contains "$pid" '^[0-9]+$'
	echo "# 100 containers: $(fd_count "$pid") files, $(dirty "$pid") KiB dirty" >&3
	for i in {1..100}; do
		ctr_rm "$ID-$i" &
		((i % 10)) || wait
	done
	wait_for 20 dead "$pid"
}
