#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# peers: 2.x/crun-new 1.7/runc 2.x/runc-new
#
# core.bats - what ctr can do, on containerd 1.7 and 2.x, with runtimes old and new. (crun of 1.8
# refuses the specs that these make.)

: "${PEER:=2.x}"
load ../lib

setup_file() { lab_setup_file grpc; }

# Execs of the one container there is that execute this, and no longer what the runtime prepared them
# with: before that, a signal is not theirs.
execs_are() { # COUNT COMMAND LINE
	[[ $(pgrep -c -P "$(shim_pids)" -fx "$2") == "$1" ]]
}

exec_count_is() { [[ $(pgrep -P "$(shim_pids)" | wc -l) == $(($1 + 1)) ]]; } # shim of one container

# The events of a container's processes: "exec-started:e1 exit:e1:7".
exec_events() { # ID
	awk -v id="\"container_id\":\"$1\"" '
		index($0, id) && match($0, /\/tasks\/[a-z-]+/) {
			word = substr($0, RSTART + 7, RLENGTH - 7)
			if (match($0, /"(exec_id|id)":"[^"]*/)) {
				name = substr($0, RSTART, RLENGTH)
				sub(/.*"/, "", name)
				word = word ":" name
			}
			if (match($0, /"exit_status":[0-9]+/))
				word = word ":" substr($0, RSTART + 14, RLENGTH - 14)
			line = line sep word
			sep = " "
		}
		END { print line }' "$EVENTS"
}

exec_events_are() { [[ $(exec_events "$1") == "$2" ]]; } # ID WORDS

# The runtime is called by way of a script, under both names, which writes down its arguments.
record() {
	local real name
	real=$(command -v "$RUNTIME")
	for name in runc crun; do
		printf '#!/bin/sh\necho %s "$@" >>%s\nexec %s "$@"\n' "$name" "$LAB/args" "$real" \
			>"$LAB/bin/$name"
		chmod +x "$LAB/bin/$name"
	done
	RUNTIME=runc
	rm -f "$LAB/args"
}

record_end() { rm "$LAB"/bin/{runc,crun} "$LAB/args"; }

# ---- in the foreground ---------------------------------------------------------------------------

@test "run: stdout, stderr, stdin, exit code" {
	head -c 300000 /dev/urandom >"$LAB/data"
	mkfifo "$LAB/in"
	ctr_run --rm "$ID" sh -c 'echo up >&2; cat; exit 7' <"$LAB/in" >"$LAB/out" 2>"$LAB/err" &
	exec 8>"$LAB/in"
	wait_for grep -qs up "$LAB/err"
	cat "$LAB/data" >&8
	wait_for size_is "$LAB/out" 300000
	exec 8>&-
	exits_with 7 wait "$!"
	cmp "$LAB/data" "$LAB/out"
	rm "$LAB/in"
	exits_with 0 ctr_run --rm "$ID" true
	exits_with 255 ctr_run --rm "$ID" sh -c 'exit 255'
}

@test "run: a command that does not exist" {
	refuse ctr_run --rm "$ID" no-such-command
	contains "$output" 'OCI runtime create failed: .*no-such-command.*not found'
	nothing_left
}

@test "run: 5 MiB each on stdout and stderr" {
	seq 1 700000 >"$LAB/data"
	heard "$LAB/out" "$(stat -c %s "$LAB/data")" \
		ctr_run --rm "$ID" sh -c 'seq 1 700000 & seq 1 700000 >&2; wait; read -r x; :' 2>"$LAB/err"
	cmp "$LAB/data" "$LAB/out"
	cmp "$LAB/data" "$LAB/err"
}

# ---- in the background ---------------------------------------------------------------------------

@test "run -d, ls, ps, kill, rm; events in order" {
	local pid
	events_start "$LAB/events"
	ctr_run -d "$ID" sh -c 'trap "exit 42" TERM; while :; do sleep 0.05; done'
	wait_for task_is "$ID" RUNNING
	pid=$(task_pid "$ID")
	equal "$(shim_pid "$ID")" "$(status_of "$pid" PPid)" "parent of init"
	contains "$(ctr task ps "$ID")" "^$pid\b"
	refuse ctr task rm "$ID"
	wait_for traps_term "$pid"
	ctr task kill "$ID"
	wait_for task_is "$ID" STOPPED
	refuse ctr task kill "$ID"
	contains "$output" 'process already finished: not found'
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 42'
	wait_for events_are "$ID" "create start exit:42 delete:42"
	ctr container rm "$ID"
}

traps_term() { # PID: bit 15 - 1 of the caught signals
	(((0x$(status_of "$1" SigCgt) >> 14) & 1))
}

@test "metrics" {
	ctr_run -d "$ID" sh -c 'while :; do :; done'
	wait_for measured '.pids.current == 1'
	wait_for measured '(.memory.usage.usage // .memory.usage) > 0'
	wait_for measured '(.cpu.usage.total // (.cpu.usage_usec * 1000)) > 100000000'
	contains "$(ctr task metrics "$ID")" '^pids.current +1 *$'
	ctr_rm "$ID"
}

# The metrics of the container are so. A process of the runtime may be in its cgroup for a moment.
measured() { # EXPRESSION of jq
	ctr task metrics --format json "$ID" | jq -e "$1" >/dev/null
}

@test "pause, resume; what is refused in between" {
	local pid
	events_start "$LAB/events-pause"
	ctr_run -d "$ID" sleep 1000
	pid=$(task_pid "$ID")
	refuse ctr task resume "$ID"
	contains "$output" 'cannot resume a running process'
	ctr task pause "$ID"
	wait_for task_is "$ID" PAUSED
	refuse ctr task pause "$ID"
	contains "$output" 'cannot pause a paused container'
	refuse ctr_exec "$ID" true
	contains "$output" 'cannot exec in a paused state'
	contains "$(ctr task ps "$ID")" "^$pid\b"
	ctr task resume "$ID"
	wait_for task_is "$ID" RUNNING
	exec_says well "$ID" "echo well"
	# A container that is killed while it is paused ends all the same.
	ctr task pause "$ID"
	ctr task kill -s KILL "$ID"
	ctr task resume "$ID" 2>/dev/null || :
	wait_for task_is "$ID" STOPPED
	exec_events_match() { [[ $(exec_events "$ID") =~ $1 ]]; }
	wait_for exec_events_match \
		'^create start paused resumed exec-added:e[0-9]+ exec-started:e[0-9]+ exit:e[0-9]+ paused '
	ctr_rm "$ID"
}

@test "update: memory and processor; what is refused" {
	update() { # JSON
		# shellcheck disable=SC1091 # made by test/peers
		(source "$PEERS/grpc/env" && "$HELP/update.py" "$LAB/c.sock" "$NS" "$ID" "$1")
	}
	ctr_run -d "$ID" sleep 1000
	update '{"memory": {"limit": 67108864}, "cpu": {"shares": 512}}'
	measured '(.memory.usage.limit // .memory.usage_limit) == 67108864'
	update '{"memory": {"limit": 33554432}, "pids": {"limit": 77}}'
	measured '(.memory.usage.limit // .memory.usage_limit) == 33554432'
	measured '.pids.limit == 77'
	refuse update '{"memory": {"limit": 1}}'
	contains "$output" '.'
	refuse update 'no JSON'
	contains "$output" '.'
	wait_for task_is "$ID" RUNNING
	exec_says well "$ID" 'echo well'
	ctr_rm "$ID"
	refuse update '{}'
	contains "$output" 'not found'
}

@test "a container that needs too much memory: an event, and exit code 137" {
	events_start "$LAB/events-oom"
	ctr_run -d --memory-limit 16777216 "$ID" sh -c 'tail /dev/zero'
	wait_for task_is "$ID" STOPPED
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 137'
	ctr container rm "$ID"
	wait_for events_match "$ID" '^create start oom (oom )*exit:'
}

# ---- how it is to be run -------------------------------------------------------------------------

@test "--runc-binary: it is called for everything; one that is not there" {
	record
	ctr_run -d --runc-binary "$LAB/bin/crun" "$ID" sleep 1000
	exits_with 3 ctr_exec "$ID" sh -c 'exit 3'
	ctr_rm "$ID"
	nothing_left
	refuse grep -v '^crun ' "$LAB/args"
	grep -q ' exec ' "$LAB/args"
	grep -q ' delete ' "$LAB/args"
	record_end
	refuse ctr_run --rm --runc-binary "$LAB/bin/nobody" "$ID" true
	contains "$output" "$LAB/bin/nobody.*no such file or directory"
}

@test "--runc-root: the runtime's state is there, also for the delete action" {
	ctr_run -d --runc-root "$LAB/states" --runc-binary "$RUNTIME" "$ID-1" sleep 1000
	ctr_run -d --runc-root "$LAB/states" --runc-binary "$RUNTIME" "$ID-2" sleep 1000
	test -d "$LAB/states/$NS/$ID-1"
	exits_with 3 ctr_exec "$ID-1" sh -c 'exit 3'
	ctr_rm "$ID-1"
	test ! -e "$LAB/states/$NS/$ID-1"
	kill -KILL "$(shim_pid "$ID-2")"
	if is_go; then
		rm "$LAB"/run/containerd/s/*
	fi
	nothing_left
	test ! -e "$LAB/states/$NS/$ID-2"
	ctr container rm "$ID-2"
}

@test "--no-pivot" {
	record
	exits_with 42 ctr run --rm --no-pivot "$IMAGE" "$ID" sh -c 'exit 42'
	grep -q ' create .*--no-pivot' "$LAB/args"
	record_end
}

@test "--cgroup: it is there, and measured there" {
	ctr_run -d --cgroup "/$NS/of/$ID" "$ID" sh -c 'while :; do :; done'
	grep -q ":/$NS/of/$ID$" "/proc/$(task_pid "$ID")/cgroup"
	wait_for measured '.pids.current == 1'
	ctr_rm "$ID"
	lab_cgroups | grep "/of$" | while read -r dir; do rmdir "$dir"; done
}

@test "--runc-systemd-cgroup without systemd: the reason, and nothing is left" {
	record
	refuse ctr run --rm --runc-systemd-cgroup --cgroup "$NS.slice:lab:$ID" "$IMAGE" "$ID" true
	contains "$output" 'OCI runtime create failed: .*(systemd|sd-bus)'
	grep -q -- '^runc .*--systemd-cgroup create ' "$LAB/args"
	record_end
}

@test "twenty at once, each with its own exit code" {
	local PATIENCE=$((5 * PATIENCE)) # all of them together take time
	local i pids=()
	for i in {1..20}; do
		ctr_run --rm "$ID-$i" sh -c "exit $i" &
		pids[i]=$!
	done
	for i in {1..20}; do
		exits_with "$i" wait "${pids[i]}"
	done
}

# ---- exec ----------------------------------------------------------------------------------------

@test "exec: stdout, stderr, stdin, exit codes, user, directory" {
	ctr_run -d "$ID" sleep 1000
	for code in 0 1 7 255; do
		exits_with "$code" ctr_exec "$ID" sh -c "exit $code"
	done
	seq 1 200000 >"$LAB/data"
	heard "$LAB/out" "$(stat -c %s "$LAB/data")" \
		ctr_exec "$ID" sh -c 'echo wrong >&2; seq 1 200000; read -r x; :' 2>"$LAB/err"
	cmp "$LAB/data" "$LAB/out"
	equal wrong "$(<"$LAB/err")" stderr
	exec_says '/tmp 1000' --cwd /tmp --user 1000 "$ID" 'echo $PWD $(id -u)'
	mkfifo "$LAB/in"
	ctr_exec "$ID" sh -c 'echo up >&2; cat' <"$LAB/in" >"$LAB/copy" 2>"$LAB/err" &
	exec 8>"$LAB/in"
	wait_for grep -qs up "$LAB/err"
	cat "$LAB/data" >&8
	wait_for size_is "$LAB/copy" "$(stat -c %s "$LAB/data")"
	exec 8>&-
	wait "$!"
	cmp "$LAB/data" "$LAB/copy"
	rm "$LAB/in"
	ctr_rm "$ID"
}

@test "exec: a command that does not exist, a directory, an id that is taken" {
	ctr_run -d "$ID" sleep 1000
	refuse ctr_exec "$ID" no-such-command
	contains "$output" 'OCI runtime exec failed: .*no-such-command.*not found'
	refuse ctr_exec "$ID" /tmp
	contains "$output" 'OCI runtime exec failed: .*([pP]ermission denied|is a directory|[nN]ot permitted)'
	ctr task exec -d --exec-id one "$ID" sleep 1000
	refuse ctr task exec -d --exec-id one "$ID" sleep 1000
	contains "$output" 'id one: already exists'
	exec_says well "$ID" "echo well"
	refuse ctr_exec nobody true
	contains "$output" 'not found'
	ctr_rm "$ID"
}

@test "exec -d: kill one, remove it, the others and init go on; events" {
	events_start "$LAB/events-exec"
	ctr_run -d "$ID" sleep 1000
	ctr task exec -d --exec-id one "$ID" sleep 1001
	ctr task exec -d --exec-id two "$ID" sleep 1002
	wait_for execs_are 1 'sleep 1001'
	wait_for execs_are 1 'sleep 1002'
	refuse ctr task rm --exec-id one "$ID"
	ctr task kill -s TERM --exec-id one "$ID"
	wait_for exec_count_is 1
	exits_with 143 ctr task rm --exec-id one "$ID"
	wait_for task_is "$ID" RUNNING
	ctr task kill -s KILL "$ID"
	wait_for task_is "$ID" STOPPED
	refuse ctr_exec "$ID" true
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 137'
	wait_for exec_events_are "$ID" "create start exec-added:one exec-started:one \
exec-added:two exec-started:two exit:one:143 exit:two:137 exit:$ID:137 delete:137"
	ctr container rm "$ID"
}

@test "exec: thirty at once, each with its own output and exit code" {
	local PATIENCE=$((5 * PATIENCE)) # all of them together take time
	local i pids=()
	ctr_run -d "$ID" sleep 1000
	mkfifo "$LAB/in"
	for i in {1..30}; do
		ctr_exec "$ID" sh -c "seq $i 20000; read -r x; exit $i" \
			<"$LAB/in" >"$LAB/out.$i" 2>"$LAB/err.$i" &
		pids[i]=$!
	done
	exec 8>"$LAB/in"
	for i in {1..30}; do
		wait_for grep -qsx 20000 "$LAB/out.$i"
	done
	exec 8>&-
	rm "$LAB/in"
	for i in {1..30}; do
		exits_with "$i" wait "${pids[i]}"
		seq "$i" 20000 | cmp - "$LAB/out.$i"
		equal "" "$(<"$LAB/err.$i")" stderr
	done
	wait_for exec_count_is 0
	ctr_rm "$ID"
}

# ---- terminals -----------------------------------------------------------------------------------

@test "run -t: a terminal with its size, ^C, an exit code" {
	ctr_words
	output=$(exits_with 9 terminal 'see:# ' 'say:tty; stty size\n' 'see:/dev/(pts/0|console)' \
		'see:24 80' size:33x101 'say:stty size; echo size\n' 'see:(33 101|24 80)[^$]*size' \
		"say:sh -c 'trap \"echo i''nt; exit\" INT; echo g''o; while :; do sleep 0.05; done'\n" \
		'see:^go' 'say:\x03' 'see:int' 'see:# ' \
		'say:echo $((6 * 7)); exit 9\n' 'see:42' -- \
		"${CTR_WORDS[@]}" run --rm -t "${OPTS[@]}" "$IMAGE" "$ID" sh)
	contains "$output" '42'
}

@test "run -t: the size follows the client's" {
	ctr_words
	exits_with 3 terminal 'see:ready' 'fit:40x132:40 132' 'fit:41x133:41 133' 'say:\n' -- \
		"${CTR_WORDS[@]}" run --rm -t "${OPTS[@]}" "$IMAGE" "$ID" sh -c '
			echo ready; until stty size | grep "40 132"; do sleep 0.05; done
			until stty size | grep "41 133"; do sleep 0.05; done
			read -r x; exit 3' >/dev/null
}

# Not through ctr, which at the end of a terminal's process does not read on to the end.
@test "run -t: 2 MiB through a terminal, none of it lost at the end" {
	mkfifo "$LAB/fifo/$ID"
	ctr_words
	terminal -- "${CTR_WORDS[@]}" run -d -t --fifo-dir "$LAB/fifo" "${OPTS[@]}" \
		--mount "type=bind,src=$LAB/fifo,dst=/fifo,options=rbind:ro" "$IMAGE" "$ID" \
		sh -c "read -r x </fifo/$ID; seq 1 300000"
	feed "$LAB/fifo/$ID" &
	bounded cat "$(find "$LAB/fifo" -name "$ID-stdout")" | tr -d '\r' | cmp - <(seq 1 300000)
	wait_for task_is "$ID" STOPPED
	ctr_rm "$ID"
}

@test "exec -t: a shell in a container" {
	ctr_run -d "$ID" sleep 1000
	ctr_words
	exits_with 6 terminal 'see:# ' 'say:tty\n' 'see:/dev/pts/' \
		"say:echo g''o; cat\n" 'see:^go' \
		'say:echoed\n' 'see:echoed\s+echoed' 'say:\x04' 'see:# ' 'say:exit 6\n' -- \
		"${CTR_WORDS[@]}" task exec -t --exec-id "$ID-e" "$ID" sh >/dev/null
	wait_for task_is "$ID" RUNNING
	ctr_rm "$ID"
}

@test "task attach: a terminal is left and found again" {
	ctr_words
	terminal -- "${CTR_WORDS[@]}" run -d -t "${OPTS[@]}" "$IMAGE" "$ID" sh
	exits_with 129 terminal 'say:x=4; stty size\n' 'see:24 80' close -- \
		"${CTR_WORDS[@]}" task attach "$ID" >/dev/null
	wait_for task_is "$ID" RUNNING
	containerd_kill
	containerd_start
	exits_with 7 terminal 'say:echo $((x + 38))\n' 'see:42' 'say:exit 7\n' -- \
		"${CTR_WORDS[@]}" task attach "$ID" >/dev/null # ... which deletes the task
	ctr container rm "$ID"
}

# ---- logs ----------------------------------------------------------------------------------------

@test "--log-uri file://: the log goes on while containerd is dead and after it is back" {
	mkfifo "$LAB/fifo/$ID".{1..3} # one each: the next reader could still meet the last writer
	ctr_run -d --log-uri "file://$LAB/log-$ID" \
		--mount "type=bind,src=$LAB/fifo,dst=/fifo,options=rbind:ro" "$ID" \
		sh -c "for i in 1 2 3; do read -r x </fifo/$ID.\$i; echo line \$i; done; echo end >&2; exit 4"
	feed "$LAB/fifo/$ID.1"
	wait_for grep -q 'line 1' "$LAB/log-$ID"
	containerd_kill
	feed "$LAB/fifo/$ID.2"
	wait_for grep -q 'line 2' "$LAB/log-$ID"
	containerd_start
	feed "$LAB/fifo/$ID.3"
	wait_for task_is "$ID" STOPPED
	equal "end line 1 line 2 line 3" "$(sort "$LAB/log-$ID" | paste -sd ' ')" log
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 4'
	ctr container rm "$ID"
}

# The logger's interface: stdout on 3, stderr on 4, ready when 5 is closed.
@test "--log-uri binary://: a logger of its own for each container" {
	cat >"$LAB/logger" <<-EOF
		#!/bin/sh
		echo "\$CONTAINER_NAMESPACE \$CONTAINER_ID \$*" >"$LAB/logger.env"
		cat <&3 >"$LAB/logger.out" 5>&- &
		cat <&4 >"$LAB/logger.err" 5>&- &
		exec 3<&- 4<&- 5>&-
		wait
		echo done >"$LAB/logger.done"
	EOF
	chmod +x "$LAB/logger"
	ctr_run -d --log-uri "binary://$LAB/logger?key=value" "$ID" \
		sh -c 'seq 1 50000; echo wrong >&2; exit 5'
	wait_for task_is "$ID" STOPPED
	contains "$(ctr task rm "$ID" 2>&1)" 'exit code 5'
	ctr container rm "$ID"
	seq 1 50000 | cmp - "$LAB/logger.out"
	equal wrong "$(<"$LAB/logger.err")" stderr
	equal "$NS $ID key value" "$(<"$LAB/logger.env")" "environment and arguments"
}

@test "--log-uri: a logger that is not there, a scheme that nobody knows" {
	refuse ctr_run -d --log-uri "binary://$LAB/nobody" "$ID" true
	contains "$output" "$LAB/nobody.*no such file or directory"
	ctr container rm "$ID" 2>/dev/null || :
	refuse ctr_run -d --log-uri "nobody:///tmp/x" "$ID" true
	contains "$output" 'nobody'
	ctr container rm "$ID" 2>/dev/null || :
	nothing_left
}

# ---- restarts and deaths -------------------------------------------------------------------------

@test "containerd is killed: containers running and paused, and an exec, are as before" {
	local pid
	ctr_run -d "$ID-run" sleep 1000
	ctr_run -d "$ID-pause" sleep 1000
	ctr task exec -d --exec-id one "$ID-run" sleep 1000
	ctr task pause "$ID-pause"
	pid=$(task_pid "$ID-run")
	wait_for shim_count_is 2
	containerd_kill
	containerd_start
	equal "$pid" "$(task_pid "$ID-run")" "pid"
	wait_for task_is "$ID-run" RUNNING
	wait_for task_is "$ID-pause" PAUSED
	exec_says well "$ID-run" "echo well"
	refuse ctr task exec -d --exec-id one "$ID-run" true
	contains "$output" 'already exists'
	ctr task resume "$ID-pause"
	wait_for task_is "$ID-pause" RUNNING
	ctr_rm "$ID-run" "$ID-pause"
}

# Containerd 1.7 and later forgets a task whose shim, asked for its processes, names none.
@test "containerd is killed: a stopped container is still there, with its exit code" {
	not_for_go "names no process of a stopped container"
	ctr_run -d "$ID-1" sh -c 'exit 33'
	ctr_run -d "$ID-2" sh -c 'read -r x </dev/zero'
	wait_for task_is "$ID-1" STOPPED
	containerd_kill
	kill -KILL "$(pgrep -P "$(shim_pid "$ID-2")")"
	containerd_start
	wait_for task_is "$ID-1" STOPPED
	wait_for task_is "$ID-2" STOPPED
	contains "$(ctr task rm "$ID-1" 2>&1)" 'exit code 33'
	contains "$(ctr task rm "$ID-2" 2>&1)" 'exit code 137'
	ctr container rm "$ID-1" "$ID-2"
}

@test "containerd is stopped in order and started again" {
	ctr_run -d "$ID" sleep 1000
	containerd_kill TERM
	containerd_start
	wait_for task_is "$ID" RUNNING
	exits_with 8 ctr_exec "$ID" sh -c 'exit 8'
	ctr_rm "$ID"
}

@test "kill -9 of the daemon with a running exec and a client that waits" {
	local client init
	events_start "$LAB/events-death"
	ctr_run -d "$ID" sleep 1000
	init=$(task_pid "$ID")
	ctr_exec "$ID" sleep 1000 >/dev/null 2>&1 &
	client=$!
	wait_for exec_count_is 1
	kill -KILL "$(shim_pid "$ID")"
	wait_for dead "$init"
	exits_with 1 wait "$client"
	wait_for events_match "$ID" 'exit:137 delete:137$'
	# The Go shim leaves the socket of a daemon that was killed.
	if is_go; then
		rm "$LAB"/run/containerd/s/*
	fi
	nothing_left
	ctr container rm "$ID"
	equal again "$(ctr_run --rm "$ID" echo again)" output
}

@test "a group in one daemon: exec in each, one dies, one is removed" {
	local i
	for i in 1 2 3; do
		ctr_run -d --annotation "io.containerd.runc.v2.group=$ID" "$ID-$i" sleep 1000
	done
	wait_for shim_count_is 1
	for i in 1 2 3; do
		exec_says "$i" "$ID-$i" "echo $i"
	done
	ctr task kill -s KILL "$ID-1"
	wait_for task_is "$ID-1" STOPPED
	ctr_rm "$ID-1" "$ID-2"
	wait_for shim_count_is 1
	exec_says well "$ID-3" "echo well"
	ctr_rm "$ID-3"
}

@test "kill -9 of a group's daemon: each of its containers ends, nothing stays" {
	local i
	events_start "$LAB/events-group"
	for i in 1 2 3; do
		ctr_run -d --annotation "io.containerd.runc.v2.group=$ID" "$ID-$i" sleep 1000
	done
	kill -KILL "$(shim_pids)"
	for i in 1 2 3; do
		wait_for events_match "$ID-$i" 'exit:137 delete:137$'
	done
	if is_go; then
		rm "$LAB"/run/containerd/s/*
	fi
	nothing_left
	ctr container rm "$ID-1" "$ID-2" "$ID-3"
}

# What a client left when its containerd died is removed by hand, as an operator would.
@test "containerd is killed while containers come and go: nothing stays" {
	local i id old workers=()
	come_and_go() {
		local turn
		for ((turn = 0; ; turn++)); do
			[[ ! -e $LAB/enough ]] || return 0
			echo >>"$LAB/turns"
			ctr_run --rm "$ID-$1-$turn" true >/dev/null 2>&1 </dev/null || :
		done
	}
	: >"$LAB/turns"
	for i in 1 2 3 4; do
		come_and_go "$i" 3>&- &
		workers+=($!)
	done
	begun() { (($(wc -l <"$LAB/turns") >= $1)); }
	for i in 3 5 2 6 4; do
		wait_for begun $(($(wc -l <"$LAB/turns") + i))
		containerd_kill
		mapfile -t old < <(pgrep -f -- "^$CTR -a $LAB/c\.sock ")
		containerd_start
		# Some of the dead one's clients would wait for ever.
		kill -KILL "${old[@]}" 2>/dev/null || :
	done
	: >"$LAB/enough"
	wait "${workers[@]}"
	rm "$LAB/enough"
	for id in $(ctr task ls -q); do
		ctr task rm -f "$id" >/dev/null 2>&1 || :
	done
	# A bundle that containerd was about to remove has a hidden name, which nobody looks at again.
	rm -rf "$LAB"/state/*/"$NS"/.c[0-9]*
	nothing_left
	for id in $(ctr container ls -q); do
		ctr container rm "$id"
	done
	works "$ID"
}

# The last, as containerd 1.7 from then on warns of the name io.containerd.runc.v1 at every chance.
@test "runtime names" {
	not_for_go "has but one name"
	local name runtime
	record
	while read -r name runtime; do
		rm -f "$LAB/args"
		works --runtime "$name" "$ID" </dev/null
		equal "$runtime" "$(cut -d' ' -f1 "$LAB/args" | sort -u)" "runtime of $name"
	done <<-EOF
		io.containerd.runc.v2 runc
		io.containerd.runc.v1 runc
		io.containerd.crun.v2 crun
		io.containerd.nano.v2 crun
		$LAB/bin/containerd-shim-crun-v2 crun
	EOF
	refuse ctr_run --rm --runtime io.containerd.nobody.v2 "$ID" true
	contains "$output" 'containerd-shim-nobody-v2'
	record_end
}
