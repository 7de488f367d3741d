#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# group.bats - very many containers through one daemon: nothing piles up in it.
# GROUP_N is how many (60; the full test is 500).

load lib

GROUP_N=${GROUP_N:-60}

@test "after $GROUP_N containers the daemon is as after five" {
	local i pid fds kb pids=() group=io.containerd.runc.v2.group=$ID
	ctr_run -d --null-io --annotation "$group" "$ID-keeper" sleep 100000
	pid=$(shim_pids)
	for ((i = 1; i <= GROUP_N; i++)); do
		one "$i" "$group" &
		pids+=($!)
		if ((i % 5 == 0)); then
			all_well "${pids[@]}"
			pids=()
		fi
		if ((i == 5)); then
			# Late answers, connections on their way out, memory that is given back when there is
			# nothing to do.
			is_go || wait_for sleeps "$pid" 1
			fds=$(fd_count "$pid") kb=$(dirty "$pid")
		fi
	done
	all_well "${pids[@]}"
	as_after_five() { [[ $(fd_count "$pid") == "$fds" ]]; }
	wait_for as_after_five || fail "files: $fds after 5, now $(fd_count "$pid")"
	is_go || wait_for sleeps "$pid" 1
	now=$(dirty "$pid")
	echo "# after 5: $fds files, $kb KiB dirty;" \
		"after $GROUP_N: $(fd_count "$pid") files, $now KiB" >&3
	equal "$pid" "$(shim_pids)" "daemon"
	contains "$(ctr task ps "$ID-keeper")" "^$(task_pid "$ID-keeper")\b"
	ctr_rm "$ID-keeper"
	wait_for dead "$pid"
	not_sanitized "memory of the sanitizers"
	is_go || ((now <= kb + 4)) || fail "private memory has grown"
}

# By turns: output, an exit code, a killed one, no stdio, one that cannot start.
one() { # NUMBER GROUP
	set -- --annotation "$2" "$ID-$1" "$1"
	case $(($4 % 5)) in
	0) equal "$4" "$(ctr_shell "${@:1:3}" "echo $4")" output ;;
	1) exits_with 9 ctr_run --rm "${@:1:3}" sh -c 'exit 9' ;;
	2) ctr_run -d "${@:1:3}" sleep 1000 && ctr_rm "$3" ;;
	3) ctr_run --rm --null-io "${@:1:3}" true ;;
	4) is_go || refuse ctr_run --rm "${@:1:3}" no-such-command ;;
	esac
}

@test "a hundred containers at the same time in one daemon" {
	local i pid group=io.containerd.runc.v2.group=$ID
	for i in {1..100}; do
		ctr_run -d --null-io --annotation "$group" "$ID-$i" sleep 1000 &
		((i % 10)) || wait
	done
	all_run() { [[ $(ctr task ls | grep -c RUNNING) == 100 ]]; }
	wait_for all_run
	pid=$(shim_pids)
	contains "$pid" '^[0-9]+$'
	echo "# 100 containers: $(fd_count "$pid") files, $(dirty "$pid") KiB dirty" >&3
	for i in {1..100}; do
		ctr_rm "$ID-$i" &
		((i % 10)) || wait
	done
	wait_for dead "$pid"
}
