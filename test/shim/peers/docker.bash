# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# docker.bash - dockerd on the laboratory's containerd, in the same namespace of it as ctr.

load peers

DOCKER=$PEERS/docker/bin
export DOCKER_HOST DOCKER_CONFIG

# The state that the runtime keeps is one more place where something may be left, and dockerd is
# not among what may not be left.
eval "ctr_$(declare -f leftovers)"
leftovers() {
	ctr_leftovers
	find "$LAB/docker-run/runtime-runc/$NS" -mindepth 1 -maxdepth 1 -printf 'state %p\n' 2>/dev/null || :
}

eval "every_$(declare -f lab_procs)"
lab_procs() { every_lab_procs "$@" | grep -vxF -- "$(cat "$LAB/dockerd.pid" 2>/dev/null)" || :; }

eval "ctr_$(declare -f lab_reset)"
lab_reset() {
	local id
	for id in $(docker ps -aq 2>/dev/null); do
		docker rm -f "$id" >/dev/null 2>&1 || :
	done
	ctr_lab_reset
	if ! alive "$(<"$LAB/dockerd.pid")"; then
		dockerd_start || :
	fi
}

dockerd_start() {
	DOCKER_HOST=unix://$LAB/docker.sock DOCKER_CONFIG=$LAB/docker-config
	mkdir -p "$LAB/docker-config"
	cat >"$LAB/docker.json" <<-EOF
		{"data-root": "$LAB/docker", "exec-root": "$LAB/docker-run", "pidfile": "$LAB/docker.pid",
		 "hosts": ["$DOCKER_HOST"], "deprecated-key-path": "$LAB/docker.key",
		 "containerd": "$LAB/c.sock", "containerd-namespace": "$NS",
		 "cgroup-parent": "/$NS",
		 "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false,
		 "userland-proxy": false, "live-restore": true, "shutdown-timeout": 5,
		 "default-runtime": "tested",
		 "runtimes": {"tested": {"path": "$RUNTIME"}, "other": {"path": "$OTHER_RUNTIME"}}}
	EOF
	setsid nsenter --mount="$LAB_MNT" -- env -i NANOSHIM_LAB="$LAB" PATH="$LAB/bin:$PATH" HOME="$LAB" \
		"$DOCKER/dockerd" --config-file "$LAB/docker.json" \
		--containerd-plugins-namespace "$NS-plugins" \
		</dev/null >>"$LAB/dockerd.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
	echo $! >"$LAB/dockerd.pid"
	disown $!
	if ! wait_for 30 docker_answers; then
		tail -n 20 "$LAB/dockerd.log" >&2
		return 1
	fi
}

docker_answers() { DOCKER_TIMEOUT=5 docker info >/dev/null 2>&1; }

dockerd_kill() { # [SIGNAL], default KILL
	local pid
	pid=$(<"$LAB/dockerd.pid")
	kill -"${1:-KILL}" "$pid"
	wait_for 20 dead "$pid"
	rm -f "$LAB/docker.pid"
}

docker() { timeout --foreground -s KILL "${DOCKER_TIMEOUT:-60}" "$DOCKER/docker" "$@"; }

docker_run() { docker run --network none "$@"; }

inspect() { docker inspect --format "{{$2}}" "$1"; } # ID FIELD
shows() { [[ $(inspect "$1" "$2") == "$3" ]]; }      # ID FIELD VALUE

docker_up() {
	peers_up docker "$PEER"
	[[ ! $LAB_MISSING ]] || return 0
	# Somewhere where only its path leads to, and it says what it is called for.
	export OTHER_RUNTIME=$LAB/other/runtime
	mkdir "$LAB/other"
	cat >"$OTHER_RUNTIME" <<-EOF
		#!/bin/sh
		echo "\$*" >>"$LAB/other/log"
		exec $RUNTIME "\$@"
	EOF
	chmod +x "$OTHER_RUNTIME"
	dockerd_start || return
	mkdir "$LAB/layer"
	tar -C "$LAB/layer" -xf "$LAB/image.tar" layer.tar
	docker import "$LAB/layer/layer.tar" busybox >/dev/null
}

docker_down() {
	if [[ -s $LAB/dockerd.pid ]]; then
		docker ps -aq | xargs -r timeout -s KILL 60 "$DOCKER/docker" rm -f >/dev/null
		dockerd_kill TERM
	fi
	lab_down
}
