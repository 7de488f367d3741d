#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# peers: 1.6/runc 2.x/runc-new
#
# docker.bats - what Docker can do with the shim.

load ../lib

DOCKER=$PEERS/docker/bin
export DOCKER_HOST DOCKER_CONFIG

# ---- dockerd on the laboratory's containerd, in the same namespace of it as ctr --------------------

setup_file() {
	lab_setup_file docker
	[[ ! $LAB_MISSING ]] || return 0
	DOCKER_HOST=unix://$LAB/docker.sock DOCKER_CONFIG=$LAB/docker-config
	# Somewhere where only its path leads to, and it says what it is called for.
	export OTHER_RUNTIME=$LAB/other/runtime
	mkdir "$LAB/other" "$LAB/layer" "$DOCKER_CONFIG"
	cat >"$OTHER_RUNTIME" <<-EOF
		#!/bin/sh
		echo "\$*" >>"$LAB/other/log"
		exec $RUNTIME "\$@"
	EOF
	chmod +x "$OTHER_RUNTIME"
	dockerd_start || return
	tar -C "$LAB/layer" -xf "$(lab_image)" layer.tar
	docker import "$LAB/layer/layer.tar" busybox >/dev/null
}

teardown_file() {
	local id
	if [[ -s $LAB/dockerd.pid ]]; then
		for id in $(docker ps -aq); do
			docker rm -f "$id" >/dev/null
		done
		dockerd_kill TERM
	fi
	lab_down
}

reset() {
	local id
	for id in $(docker ps -aq 2>/dev/null); do
		docker rm -f "$id" >/dev/null 2>&1 || :
	done
	lab_reset
	alive "$(<"$LAB/dockerd.pid")" || dockerd_start || :
}

dockerd_start() {
	cat >"$LAB/docker.json" <<-EOF
		{"data-root": "$LAB/docker", "exec-root": "$LAB/docker-run", "pidfile": "$LAB/docker.lock",
		 "hosts": ["$DOCKER_HOST"], "deprecated-key-path": "$LAB/docker.key",
		 "containerd": "$LAB/c.sock", "containerd-namespace": "$NS",
		 "cgroup-parent": "/$NS",
		 "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false,
		 "userland-proxy": false, "live-restore": true, "shutdown-timeout": 5,
		 "default-runtime": "tested",
		 "runtimes": {"tested": {"path": "$RUNTIME"}, "other": {"path": "$OTHER_RUNTIME"}}}
	EOF
	lab_daemon dockerd "$DOCKER/dockerd" --config-file "$LAB/docker.json" \
		--containerd-plugins-namespace "$NS-plugins" && lab_ready dockerd docker_answers
}

docker_answers() { docker info >/dev/null 2>&1; }

dockerd_kill() { # [SIGNAL], default KILL
	lab_kill dockerd "$@"
	rm -f "$LAB/docker.lock"
}

docker() { bounded "$DOCKER/docker" "$@"; }

docker_run() { docker run --network none "$@"; }

inspect() { docker inspect --format "{{$2}}" "$1"; } # ID FIELD
shows() { [[ $(inspect "$1" "$2") == "$3" ]]; }      # ID FIELD VALUE

# ---- what docker can do ------------------------------------------------------------------------

# Typed into a shell: it ends, and says so, once the terminal has this size.
WAIT_FOR_SIZE="say:until stty size | grep '33 10[1]'; do sleep 0.05; done\\n"

running() { shows "$1" .State.Running true; }  # NAME
stopped() { shows "$1" .State.Running false; } # NAME

daemon_of() { shim_pid "$(inspect "$1" .Id)"; } # NAME

# A file of the container's cgroup, v1.
cgroup_file() { # NAME CONTROLLER FILE
	cat "/sys/fs/cgroup/$2/$NS/$(inspect "$1" .Id)/$3"
}

@test "run: stdout, stderr, exit codes; one daemon of ours, gone in the end" {
	docker_run --rm busybox sh -c 'seq 1 300000; echo wrong >&2' >"$LAB/out" 2>"$LAB/err"
	seq 1 300000 | cmp - "$LAB/out"
	equal wrong "$(<"$LAB/err")" stderr
	for code in 0 1 7 255; do
		exits_with "$code" docker_run --rm busybox sh -c "exit $code"
	done
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	contains "$(readlink "/proc/$(daemon_of "$ID")/exe")" "$(realpath "$SHIM")"
	docker rm -f "$ID" >/dev/null
}

@test "run: a command that does not exist, one that is no program" {
	exits_with 127 refused docker_run --rm busybox no-such-command
	contains "$(<"$LAB/err")" 'no-such-command.*not found'
	exits_with 126 refused docker_run --rm busybox /etc/passwd
	contains "$(<"$LAB/err")" '[pP]ermission denied'
}

refused() { "$@" 2>"$LAB/err"; }

@test "run -i: stdin, to its end" {
	head -c 3000000 /dev/urandom >"$LAB/data"
	exits_with 3 docker_run -i --rm busybox sh -c 'cat; exit 3' <"$LAB/data" >"$LAB/copy"
	cmp "$LAB/data" "$LAB/copy"
}

@test "run -it: a terminal with its size, ^C, an exit code" {
	exits_with 9 terminal 'see:# ' "$WAIT_FOR_SIZE" 'fit:33x101:33 101' \
		'see:# ' 'say:tty\n' 'see:/dev/pts/0' 'see:# ' \
		"say:sh -c 'trap \"echo i''nt; exit\" INT; echo g''o; while :; do sleep 0.05; done'\n" \
		'see:^go' 'say:\x03' 'see:int' 'see:# ' 'say:exit 9\n' -- \
		"$DOCKER/docker" run --rm -it --network none busybox sh >/dev/null
}

@test "run -it: detached from, attached to again" {
	terminal 'see:# ' 'say:X=kept; echo $((40 + 2))\n' 'see:42' 'say:\x10\x11' -- \
		"$DOCKER/docker" run --name "$ID" -it --network none busybox sh >/dev/null
	wait_for running "$ID"
	exits_with 4 terminal 'say:\n' 'see:# ' 'say:echo $X$X\n' 'see:keptkept' 'say:exit 4\n' -- \
		"$DOCKER/docker" attach "$ID" >/dev/null
	docker rm "$ID" >/dev/null
}

@test "run -t: 2 MiB through a terminal" {
	docker_run --rm -t busybox seq 1 300000 | tr -d '\r' | cmp - <(seq 1 300000)
}

@test "exec: output, stdin, exit codes, user, environment; what does not exist" {
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	docker exec "$ID" sh -c 'seq 1 200000; echo wrong >&2' >"$LAB/out" 2>"$LAB/err"
	seq 1 200000 | cmp - "$LAB/out"
	equal wrong "$(<"$LAB/err")" stderr
	docker exec -i "$ID" cat <"$LAB/out" | cmp - "$LAB/out"
	for code in 0 1 7 255; do
		exits_with "$code" docker exec "$ID" sh -c "exit $code"
	done
	equal '/tmp 1000 b' "$(docker exec -w /tmp -u 1000 -e A=b "$ID" sh -c 'echo $PWD $(id -u) $A')" output
	exits_with 126 refused docker exec "$ID" no-such-command >"$LAB/out" # sic
	contains "$(cat "$LAB/out" "$LAB/err")" 'no-such-command.*not found'
	exits_with 126 refused docker exec "$ID" /etc/passwd >"$LAB/out"
	docker rm -f "$ID" >/dev/null
}

@test "exec -it, exec -d, twenty at once" {
	local PATIENCE=$((5 * PATIENCE)) # all of them together take time
	local i pids=()
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	exits_with 6 terminal 'see:# ' "$WAIT_FOR_SIZE" 'fit:33x101:33 101' 'see:# ' \
		'say:exit 6\n' -- \
		"$DOCKER/docker" exec -it "$ID" sh >/dev/null
	docker exec -d "$ID" sleep 1001
	for i in {1..20}; do
		docker exec "$ID" sh -c "seq $i 3000; exit $i" >"$LAB/out.$i" 2>&1 &
		pids[i]=$!
	done
	for i in {1..20}; do
		exits_with "$i" wait "${pids[i]}"
		seq "$i" 3000 | cmp - "$LAB/out.$i"
	done
	top_has() { docker top "$ID" | grep -q "$1"; }
	wait_for top_has 'sleep 1001'
	docker rm -f "$ID" >/dev/null
}

@test "logs: what was written, and what is being written" {
	mkfifo "$LAB/fifo/$ID"
	docker_run -d --name "$ID" -v "$LAB/fifo:/fifo" busybox \
		sh -c "seq 1 5000; echo wrong >&2; read -r x </fifo/$ID; echo last" >/dev/null
	docker logs -f "$ID" >"$LAB/out" 2>"$LAB/err" &
	wait_for grep -qsx wrong "$LAB/err"
	feed "$LAB/fifo/$ID"
	wait "$!"
	{ seq 1 5000; echo last; } | cmp - "$LAB/out"
	equal last "$(docker logs --tail 1 "$ID" 2>/dev/null)" "end of the log"
	docker rm "$ID" >/dev/null
}

@test "a healthcheck runs again and again" {
	docker_run -d --name "$ID" --health-cmd 'echo checked >>/checks; grep -c . /checks; true' \
		--health-interval 0.1s --health-timeout "${PATIENCE}s" busybox sleep 1000 >/dev/null
	wait_for shows "$ID" .State.Health.Status healthy
	checks() { (($(docker exec "$ID" grep -c checked /checks) >= $1)); }
	wait_for checks 4
	docker rm -f "$ID" >/dev/null
}

@test "pause, unpause" {
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	docker pause "$ID" >/dev/null
	equal 'true paused' "$(inspect "$ID" '.State.Paused}} {{.State.Status')" state
	equal FROZEN "$(cgroup_file "$ID" freezer freezer.state)" freezer
	refuse docker exec "$ID" true
	contains "$output" 'is paused'
	docker unpause "$ID" >/dev/null
	equal well "$(docker exec "$ID" echo well)" output
	docker pause "$ID" >/dev/null
	docker rm -f "$ID" >/dev/null
}

@test "update" {
	docker_run -d --name "$ID" --memory 64m --memory-swap 64m busybox sleep 1000 >/dev/null
	docker update --cpu-shares 512 --pids-limit 77 --memory 32m --memory-swap 32m "$ID" >/dev/null
	equal 512 "$(cgroup_file "$ID" cpu cpu.shares)" cpu.shares
	equal 77 "$(cgroup_file "$ID" pids pids.max)" pids.max
	equal 33554432 "$(cgroup_file "$ID" memory memory.limit_in_bytes)" memory.limit_in_bytes
	docker rm -f "$ID" >/dev/null
}

@test "stats, top" {
	docker_run -d --name "$ID" --memory 64m busybox sh -c 'sleep 1000 & while :; do :; done' >/dev/null
	busy() {
		local line
		line=$(docker stats --no-stream --format '{{.PIDs}} {{.MemUsage}} {{.CPUPerc}}' "$ID")
		[[ $line =~ ^2\ [0-9.]+[KM]iB\ /\ 64MiB\ [1-9][0-9.]*%$ ]]
	}
	wait_for busy
	contains "$(docker top "$ID")" 'sleep 1000'
	docker rm -f "$ID" >/dev/null
}

@test "kill, stop, wait" {
	docker_run -d --name "$ID" -v "$LAB/fifo:/fifo" busybox sh -c \
		'trap "exit 42" TERM; trap "echo usr" USR1; : >/fifo/ready; while :; do sleep 0.05; done' \
		>/dev/null
	wait_for test -e "$LAB/fifo/ready"
	docker kill -s USR1 "$ID" >/dev/null
	said() { [[ $(docker logs "$ID") == usr ]]; }
	wait_for said
	docker stop -t "$PATIENCE" "$ID" >/dev/null
	equal 42 "$(docker wait "$ID")" "exit code"
	docker start "$ID" >/dev/null
	docker kill "$ID" >/dev/null
	equal 137 "$(docker wait "$ID")" "exit code"
	docker rm "$ID" >/dev/null
	docker_run -d --name "$ID" busybox sh -c 'trap "" TERM; while :; do sleep 0.05; done' >/dev/null
	docker stop -t 1 "$ID" >/dev/null
	equal 137 "$(docker wait "$ID")" "exit code"
	docker rm "$ID" >/dev/null
}

@test "out of memory" {
	local got=0
	docker_run --name "$ID" --memory 8m --memory-swap 8m busybox \
		sh -c 'x=0123456789; while :; do x=$x$x; done' >/dev/null 2>&1 || got=$?
	equal 137 "$got" "exit code"
	wait_for shows "$ID" .State.OOMKilled true
	docker rm "$ID" >/dev/null
}

@test "--restart on-failure:2" {
	docker_run -d --name "$ID" --restart on-failure:2 busybox sh -c 'echo run; exit 5' >/dev/null
	wait_for shows "$ID" '.RestartCount}} {{.State.Status' '2 exited'
	equal 5 "$(inspect "$ID" .State.ExitCode)" "exit code"
	equal "run run run" "$(docker logs "$ID" | paste -sd ' ')" log
	docker rm "$ID" >/dev/null
}

@test "restart, and start of what has ended" {
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	docker restart -t 0 "$ID" >/dev/null
	wait_for running "$ID"
	docker stop -t 0 "$ID" >/dev/null
	docker start "$ID" >/dev/null
	equal well "$(docker exec "$ID" echo well)" output
	docker rm -f "$ID" >/dev/null
	docker create --name "$ID" --network none busybox sh -c 'echo hello; exit 3' >/dev/null
	exits_with 3 docker start -a "$ID" >"$LAB/out"
	equal hello "$(<"$LAB/out")" output
	docker rm "$ID" >/dev/null
}

@test "a container in the host's pid namespace leaves no children" {
	exits_with 6 docker_run --rm --pid host busybox sh -c 'sleep 1000 & sleep 1000 & exit 6'
	nothing_left
}

@test "twenty containers at once" {
	local PATIENCE=$((5 * PATIENCE)) # all of them together take time
	local i pids=()
	for i in {1..20}; do
		docker_run --rm busybox sh -c "seq $i 3000; exit $i" >"$LAB/out.$i" 2>"$LAB/err.$i" &
		pids[i]=$!
	done
	for i in {1..20}; do
		exits_with "$i" wait "${pids[i]}"
		seq "$i" 3000 | cmp - "$LAB/out.$i"
	done
}

@test "another runtime, by its path" {
	equal hello "$(docker_run --rm --runtime other busybox echo hello)" output
	docker_run -d --name "$ID" --runtime other busybox sleep 1000 >/dev/null
	exits_with 7 docker exec "$ID" sh -c 'exit 7'
	docker rm -f "$ID" >/dev/null
	for verb in create start exec delete; do
		contains "$(<"$LAB/other/log")" " $verb "
	done
}

@test "live restore: dockerd is killed and comes back" {
	local pid
	mkfifo "$LAB/fifo/$ID".{1..3}
	docker_run -d --name "$ID" -v "$LAB/fifo:/fifo" busybox sh -c \
		"for i in 1 2 3; do read -r x </fifo/$ID.\$i; echo line \$i; done; exit 12" >/dev/null
	docker_run -d --name "$ID-dies" busybox sleep 1000 >/dev/null
	docker_run -d --name "$ID-pause" busybox sleep 1000 >/dev/null
	docker pause "$ID-pause" >/dev/null
	pid=$(inspect "$ID" .State.Pid)
	feed "$LAB/fifo/$ID.1"
	has_line() { docker logs "$ID" | grep -qx "line $1"; }
	wait_for has_line 1
	dockerd_kill
	feed "$LAB/fifo/$ID.2"
	kill -KILL "$(pgrep -P "$(shim_of "$ID-dies")")"
	dockerd_start
	equal "$pid" "$(inspect "$ID" .State.Pid)" pid
	wait_for shows "$ID-dies" '.State.Status}} {{.State.ExitCode' 'exited 137'
	wait_for shows "$ID-pause" .State.Status paused
	docker unpause "$ID-pause" >/dev/null
	equal well "$(docker exec "$ID-pause" echo well)" output
	feed "$LAB/fifo/$ID.3"
	equal 12 "$(docker wait "$ID")" "exit code"
	equal "line 1 line 2 line 3" "$(docker logs "$ID" | paste -sd ' ')" log
	docker rm -f "$ID" "$ID-dies" "$ID-pause" >/dev/null
}

# The daemon of a container, by the id dockerd wrote down; works without dockerd.
shim_of() { # NAME
	local file
	file=$(grep -lF "\"Name\":\"/$1\"" "$LAB"/docker/containers/*/config.v2.json)
	file=${file%/*}
	shim_pid "${file##*/}"
}

@test "live restore: containerd is killed and comes back" {
	mkfifo "$LAB/fifo/$ID".{1..3}
	docker_run -d --name "$ID" -v "$LAB/fifo:/fifo" busybox sh -c \
		"for i in 1 2; do read -r x </fifo/$ID.\$i; echo line \$i; done; exit 13" >/dev/null
	docker_run -d --name "$ID-2" busybox sleep 1000 >/dev/null
	docker_run -d --name "$ID-3" -v "$LAB/fifo:/fifo" busybox \
		sh -c "read -r x </fifo/$ID.3; exit 14" >/dev/null
	containerd_kill
	feed "$LAB/fifo/$ID.1"
	feed "$LAB/fifo/$ID.3"
	containerd_start
	said_well() { [[ $(docker exec "$ID-2" echo well 2>&1) == well ]]; }
	wait_for said_well
	feed "$LAB/fifo/$ID.2"
	wait_for shows "$ID" '.State.Status}} {{.State.ExitCode' 'exited 13'
	equal "line 1 line 2" "$(docker logs "$ID" | paste -sd ' ')" log
	# The Go shim gives up sending an event before long.
	if ! is_go; then
		wait_for shows "$ID-3" '.State.Status}} {{.State.ExitCode' 'exited 14'
	fi
	equal hello "$(docker_run --rm busybox echo hello)" output
	docker rm -f "$ID" "$ID-2" "$ID-3" >/dev/null
}

@test "live restore: both are killed" {
	mkfifo "$LAB/fifo/$ID"
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	docker_run -d --name "$ID-2" -v "$LAB/fifo:/fifo" busybox \
		sh -c "read -r x </fifo/$ID; exit 15" >/dev/null
	dockerd_kill
	containerd_kill
	feed "$LAB/fifo/$ID"
	containerd_start
	dockerd_start
	wait_for running "$ID"
	exits_with 8 docker exec "$ID" sh -c 'exit 8'
	docker stop -t 0 "$ID" >/dev/null
	equal 137 "$(docker wait "$ID")" "exit code"
	# Containerd 1.7 and later forgets a task whose shim names no process.
	if ! is_go || [[ $PEER == 1.6 ]]; then
		wait_for shows "$ID-2" '.State.Status}} {{.State.ExitCode' 'exited 15'
	fi
	docker rm -f "$ID" "$ID-2" >/dev/null
}

@test "kill -9 of the shim" {
	docker_run -d --name "$ID" busybox sleep 1000 >/dev/null
	kill -KILL "$(daemon_of "$ID")"
	wait_for stopped "$ID"
	rm -f "$LAB"/run/containerd/s/* # the Go shim leaves it
	docker start "$ID" >/dev/null
	equal well "$(docker exec "$ID" echo well)" output
	docker rm -f "$ID" >/dev/null
}

@test "kill -9 of the shim: --restart always" {
	docker_run -d --name "$ID" --restart always busybox sleep 1000 >/dev/null
	kill -KILL "$(daemon_of "$ID")"
	wait_for shows "$ID" '.RestartCount}} {{.State.Status' '1 running'
	equal well "$(docker exec "$ID" echo well)" output
	docker rm -f "$ID" >/dev/null
}
