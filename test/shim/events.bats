#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# runtimes: runc crun
#
# events.bats - what `ctr events` tells about a container: everything, once, in order.

load lib

# The value of a field in the one event TOPIC of container ID.
field() { # ID TOPIC NAME
	grep -F "\"container_id\":\"$1\"" "$EVENTS" | grep -F " /tasks/$2 " |
		sed -nE 's/.*"'"$3"'":"?([^",}]*).*/\1/p'
}

@test "one container: create, start, exit, delete, with their fields" {
	local pid
	events_start "$LAB/events"
	ctr_run -d "$ID" sh -c 'sleep 1000; exit 0'
	pid=$(task_pid "$ID")
	wait_for events_are "$ID" "create start"
	equal "$pid" "$(field "$ID" create pid)" "pid of create"
	equal "$pid" "$(field "$ID" start pid)" "pid of start"
	contains "$(field "$ID" create bundle)" "^$LAB/state/.*/$NS/$ID\$"
	contains "$(field "$ID" create stdout)" "/$ID-stdout\$"
	contains "$(field "$ID" create stderr)" "/$ID-stderr\$"

	ctr task kill -s KILL "$ID"
	wait_for events_are "$ID" "create start exit:137"
	equal "$ID" "$(field "$ID" exit id)" "id of exit"
	equal "$pid" "$(field "$ID" exit pid)" "pid of exit"
	contains "$(field "$ID" exit exited_at)" "^20..-..-..T..:..:..\.[0-9]+Z\$"

	ctr task rm "$ID" 2>/dev/null
	wait_for events_are "$ID" "create start exit:137 delete:137"
	equal "$pid" "$(field "$ID" delete pid)" "pid of delete"
	equal "$(field "$ID" exit exited_at)" "$(field "$ID" delete exited_at)" "time of the exit"
	ctr container rm "$ID"
	nothing_left
	equal "create start exit:137 delete:137" "$(events_of "$ID")" "events in the end"
}

@test "the exit time is the time of the exit" {
	local before after said
	events_start "$LAB/events-time"
	gated "$ID" 'exit 1'
	before=$(date +%s)
	feed "$GATE"
	wait_for events_are "$ID" "create start exit:1"
	after=$(date +%s)
	said=$(date -d "$(field "$ID" exit exited_at)" +%s)
	# The kernel's coarse clock may be a tick behind.
	((said >= before - 1 && said <= after)) || fail "$before <= $said <= $after"
	ctr_rm "$ID"
}

@test "a create that fails publishes no task event" {
	events_start "$LAB/events-fail"
	refuse ctr_run --rm "$ID" no-such-command
	nothing_left
	events_flow_on
	equal "" "$(events_of "$ID")" "events"
}

events_flow_on() { # everything published until now has arrived
	local mark=$RANDOM$RANDOM
	ctr namespaces label "$NS" "mark=$mark"
	wait_for grep -q "$mark" "$EVENTS"
}

@test "fifty containers in parallel that exit at once: each event once, in order" {
	local PATIENCE=$((5 * PATIENCE)) # all of them together take time
	local i bad=0 pids=() got
	events_start "$LAB/events-50"
	for i in {1..50}; do
		ctr_run --rm "$ID-$i" sh -c "exit $i" 2>"$LAB/err.$i" &
		pids[i]=$!
	done
	for i in {1..50}; do
		got=0
		wait "${pids[i]}" || got=$?
		if ((got != i)); then
			say "exit code of $i: $got: $(<"$LAB/err.$i")"
			bad=1
		fi
	done
	for i in {1..50}; do
		if ! wait_for events_are "$ID-$i" "create start exit:$i delete:$i"; then
			say "events of $i: $(events_of "$ID-$i")"
			bad=1
		fi
	done
	((bad == 0))
}

@test "fifty running containers that are released at the same moment" {
	local PATIENCE=$((5 * PATIENCE)) # all of them together take time
	local i
	events_start "$LAB/events-gate"
	mkfifo "$LAB/fifo/gate"
	exec 8<>"$LAB/fifo/gate"
	for i in {1..50}; do
		ctr_run -d --null-io --mount "$GATES" \
			"$ID-$i" sh -c "read -r x </gates/gate; exit $i" &
	done
	wait
	equal 50 "$(ctr task ls -q | wc -l)" "tasks"
	printf '\n%.0s' {1..50} >&8 # read takes one byte at a time, so each gets its newline
	exec 8>&-
	for i in {1..50}; do
		wait_for events_are "$ID-$i" "create start exit:$i"
	done
	for i in {1..50}; do
		contains "$(ctr task rm "$ID-$i" 2>&1)" "exit code $i"
		ctr container rm "$ID-$i"
		wait_for events_are "$ID-$i" "create start exit:$i delete:$i"
	done
}
