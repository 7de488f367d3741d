#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# peers: 2.x/crun-new 1.6/runc 1.7/runc
#
# cri.bats - pods, over the API that the kubelet speaks.

: "${PEER:=2.x}"
load ../lib

PAUSE=nanoshim.test/pause:1
POD_NS=k8s.io

# ---- containerd's CRI plugin in the laboratory, as a kubelet would use it --------------------------

setup_file() {
	export CRI_PB=$BATS_FILE_TMPDIR/pb
	lab_setup_file cni grpc
	[[ ! $LAB_MISSING ]] || return 0
	mkdir "$CRI_PB"
	protoc --python_out="$CRI_PB" -I"$HELP" "$HELP/cri.proto"
	cat >"$LAB/bin/runtime-file" <<-EOF
		#!/bin/sh
		echo "\$*" >>"\$0.log"
		exec $RUNTIME "\$@"
	EOF
	chmod +x "$LAB/bin/runtime-file"
	cp "$LAB/bin/runtime-file" "$LAB/bin/runtime-body"
	client_start || return
	pause_image "$LAB/pause.tar"
	in_ns image import "$(lab_image)" >/dev/null
	in_ns image import "$LAB/pause.tar" >/dev/null
	wait_for image_is_known "$IMAGE"
	wait_for image_is_known "$PAUSE"
}

reset() {
	local pod bundle
	for pod in $(cri ListPodSandbox '{}' 2>/dev/null | jq -r '.items[].id'); do
		pod_rm "$pod" >/dev/null 2>&1 || :
	done
	lab_reset
	lab_cgroups | xargs -r rmdir 2>/dev/null || :
	for bundle in "$LAB"/state/*/"$POD_NS"/*; do
		in_lab umount "$bundle/rootfs" 2>/dev/null || :
		rm -rf --one-file-system "$bundle"
	done
	rm -rf "$LAB/run/containerd/runc/$POD_NS"
}

lab_config() {
	local cri='plugins."io.containerd.grpc.v1.cri"'
	# The handlers "nano-..." are of a type that containerd knows nothing of: their options go to the
	# shim as a TOML document, "file" by its path, "body" as a whole, which 1.6 cannot do.
	echo "BinaryName = \"$LAB/bin/runtime-file\"" >"$LAB/nano.toml"
	containerd_config io.containerd.nri.v1.nri
	cat <<-EOF
		[$cri]
		  sandbox_image = "$PAUSE"
		  restrict_oom_score_adj = true
		  stats_collect_period = 1
		  stream_server_address = "127.0.0.1"
		  stream_server_port = "0"
		[$cri.cni]
		  bin_dir = "$PEERS/cni/usr/lib/cni"
		  conf_dir = "$LAB/cni"
		[$cri.containerd]
		  default_runtime_name = "runc"
		[$cri.containerd.runtimes.runc]
		  runtime_type = "io.containerd.runc.v2"
		  [$cri.containerd.runtimes.runc.options]
		    BinaryName = "$RUNTIME"
		[$cri.containerd.runtimes.nano-file]
		  runtime_type = "io.containerd.nano.v2"
		  [$cri.containerd.runtimes.nano-file.options]
		    ConfigPath = "$LAB/nano.toml"
		[$cri.containerd.runtimes.nano-body]
		  runtime_type = "io.containerd.nano.v2"
		  [$cri.containerd.runtimes.nano-body.options]
		    BinaryName = "$LAB/bin/runtime-body"
	EOF
	mkdir -p "$LAB/cni"
	cat >"$LAB/cni/10-pods.conflist" <<-EOF
		{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp",
		 "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "dataDir": "$LAB/cni-data"}}]}
	EOF
}

image_is_known() {
	[[ $(cri ImageStatus "{\"image\": {\"image\": \"$1\"}}" 2>/dev/null | jq -r .image.id) == sha256* ]]
}

# The same image under another name, and it sleeps.
pause_image() { # FILE
	local dir=$LAB/pause
	mkdir "$dir"
	tar -C "$dir" -xf "$(lab_image)"
	jq '.config.Cmd = ["/bin/sleep", "1000000"]' "$dir/config.json" >"$dir/c.json"
	mv "$dir/c.json" "$dir/config.json"
	sed -i "s,$IMAGE,$PAUSE," "$dir/manifest.json"
	tar -C "$dir" -cf "$1" manifest.json config.json layer.tar
}

# The CRI is ready later than the rest of containerd.
containerd_answers() {
	ctr version >/dev/null 2>&1 && { [[ ! -e $LAB/client.pid ]] || cri_answers; }
}

cri_answers() { cri ListPodSandbox '{}' >/dev/null 2>&1; }

in_ns() { NS=$POD_NS ctr "$@"; } # ctr in the pods' namespace

# ---- calls ---------------------------------------------------------------------------------------

client() { bounded "$HELP/ask.py" "$LAB/cri.sock" "$@"; }

client_start() {
	# shellcheck disable=SC2016 # for the shell in there
	lab_daemon client bash -c 'export CRI_PB=$1 TIME_FACTOR=$2; . "$3"; exec "${@:4}"' bash \
		"$CRI_PB" "${TIME_FACTOR:-1}" "$PEERS/grpc/env" \
		"$HELP/cri.py" "$LAB/c.sock" "$LAB/cri.sock" && lab_ready client test -S "$LAB/cri.sock"
}

cri() { client call "$@"; } # METHOD JSON

cri_exec() { client exec "$1" 0 "${@:2}"; } # ID WORD...

# A pod; its id is printed, its configuration kept for the containers.
pod() { # NAME [HANDLER [JSON]]: JSON is merged into the configuration
	local config id
	mkdir -p "$LAB/pods/$1"
	config=$(jq -n --arg name "$1" --arg dir "$LAB/pods/$1" --arg cgroup "/$NS" --argjson more "${3:-{\}}" '
		{metadata: {name: $name, uid: $name, namespace: "default"}, log_directory: $dir,
		 linux: {cgroup_parent: $cgroup, security_context: {namespace_options: {network: 2, pid: 1}}}}
		* $more')
	id=$(cri RunPodSandbox "$(jq -n --argjson config "$config" --arg handler "${2:-}" \
		'{config: $config, runtime_handler: $handler}')" | jq -r .pod_sandbox_id)
	[[ $id && $id != null ]] || return
	echo "$config" >"$LAB/pods/$id"
	echo "$id"
}

# A container that is created, not started; its log is LAB/pods/POD'S NAME/NAME.log.
container() { # POD NAME SCRIPT [JSON]
	cri CreateContainer "$(jq -n --arg pod "$1" --arg name "$2" --arg script "$3" --arg image "$IMAGE" \
		--arg fifo "$LAB/fifo" --argjson more "${4:-{\}}" --slurpfile pc "$LAB/pods/$1" '
		{pod_sandbox_id: $pod, sandbox_config: $pc[0], config: ({metadata: {name: $name},
		  image: {image: $image}, command: ["sh", "-c", $script], log_path: ($name + ".log"),
		  mounts: [{container_path: "/fifo", host_path: $fifo}], linux: {}} * $more)}')" |
		jq -er .container_id
}

start() { cri StartContainer "{\"container_id\": \"$1\"}" >/dev/null; }
stop() { cri StopContainer "{\"container_id\": \"$1\", \"timeout\": ${2:-0}}" >/dev/null; }
remove() { cri RemoveContainer "{\"container_id\": \"$1\"}" >/dev/null; }

run() { # as container: created and started
	local id
	id=$(container "$@") || return
	start "$id" || return
	echo "$id"
}

pod_rm() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null &&
		cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null
}

status() { # ID FIELD
	cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status.$2"
}

RUNNING=1 EXITED=2 NOTREADY=1
state_is() { [[ $(status "$1" state) == "$2" ]]; } # ID STATE

pod_state_is() { # ID STATE
	[[ $(cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\"}" | jq -r .status.state) == "$2" ]]
}

# What a log file says, without the times: "stdout F line".
log_of() { cut -d' ' -f2- "$LAB/pods/$1/$2.log"; } # POD'S NAME, CONTAINER'S NAME

# containerd writes the log on its own time, not before it says that a container has exited.
log_has() { [[ $(log_of "$1" "$2" 2>/dev/null | wc -l) -ge $3 ]]; } # POD'S NAME, CONTAINER'S, LINES
log_says() { log_of "$1" "$2" 2>/dev/null | grep -Eq -- "$3"; }     # POD'S NAME, CONTAINER'S, PATTERN

# ---- pods ----------------------------------------------------------------------------------------

cgroup_file() { cat "/sys/fs/cgroup/$2/$NS/$1/$3"; } # ID CONTROLLER FILE

@test "a pod with two containers: one daemon, output in the logs, exit codes" {
	local p a b
	p=$(pod "$ID")
	a=$(run "$p" a 'echo out; echo err >&2; printf part; exit 7')
	b=$(run "$p" b 'seq 1 3000; sleep 1000')
	wait_for state_is "$a" "$EXITED"
	equal 7 "$(status "$a" exit_code)" "exit code"
	equal Error "$(status "$a" reason)" reason
	wait_for log_has "$ID" a 3
	equal "stderr F err
stdout F out
stdout P part" "$(log_of "$ID" a | sort)" "log of a"
	wait_for state_is "$b" "$RUNNING"
	wait_for log_has "$ID" b 3000
	log_of "$ID" b | cmp - <(seq -f 'stdout F %.0f' 1 3000)
	wait_for shim_count_is 1
	equal "$p" "$(tr '\0' '\n' <"/proc/$(shim_pids)/cmdline" | grep -A 1 -x -- -id | tail -n 1)" \
		"id of the daemon"
	remove "$a"
	stop "$b"
	equal 137 "$(status "$b" exit_code)" "exit code"
	wait_for shim_count_is 1
	remove "$b"
	pod_rm "$p"
	wait_for shim_count_is 0
}

@test "a container that cannot be started" {
	local p a
	p=$(pod "$ID")
	a=$(container "$p" a '' '{"command": ["no-such-command"]}')
	refuse start "$a"
	contains "$output" 'no-such-command.*not found'
	wait_for state_is "$a" "$EXITED"
	equal StartError "$(status "$a" reason)" reason
	remove "$a"
	# The pod is none the worse for it.
	a=$(run "$p" b 'exit 3')
	wait_for state_is "$a" "$EXITED"
	equal 3 "$(status "$a" exit_code)" "exit code"
	pod_rm "$p"
}

@test "ExecSync: output, exit codes, what does not exist, time out" {
	local p a
	p=$(pod "$ID")
	a=$(run "$p" a 'sleep 1000')
	exits_with 7 cri_exec "$a" sh -c 'seq 1 100000; echo wrong >&2; exit 7' >"$LAB/out" 2>"$LAB/err"
	seq 1 100000 | cmp - "$LAB/out"
	equal wrong "$(<"$LAB/err")" stderr
	for code in 0 1 255; do
		exits_with "$code" cri_exec "$a" sh -c "exit $code"
	done
	refuse cri_exec "$a" no-such-command
	equal 125 "$status" "exit code"
	contains "$output" 'no-such-command.*not found'
	refuse client exec "$a" 1 sleep 1000
	equal 125 "$status" "exit code"
	contains "$output" 'DEADLINE_EXCEEDED|context deadline exceeded|timeout 1s'
	only_one() { [[ $(pgrep -c -f '^sleep 1000$' --parent "$(shim_pids)") == 1 ]]; }
	wait_for only_one
	equal well "$(cri_exec "$a" echo well)" output
	pod_rm "$p"
}

@test "ExecSync: sixteen at once in two containers" {
	local p ids i pids=()
	p=$(pod "$ID")
	ids=("$(run "$p" a 'sleep 1000')" "$(run "$p" b 'sleep 1000')")
	for i in {1..16}; do
		cri_exec "${ids[i % 2]}" sh -c "seq $i 2000; exit $i" >"$LAB/out.$i" &
		pids[i]=$!
	done
	for i in {1..16}; do
		exits_with "$i" wait "${pids[i]}"
		seq "$i" 2000 | cmp - "$LAB/out.$i"
	done
	pod_rm "$p"
}

@test "Exec over a websocket: a terminal, and no terminal" {
	local p a
	p=$(pod "$ID")
	a=$(run "$p" a 'sleep 1000')
	exits_with 5 client stream Exec "{\"container_id\": \"$a\", \"cmd\": [\"sh\"], \"tty\": true,
		\"stdin\": true, \"stdout\": true}" <<<'tty; exit 5' >"$LAB/out"
	contains "$(<"$LAB/out")" '^/dev/pts/'
	exits_with 6 client stream Exec "{\"container_id\": \"$a\", \"stdout\": true, \"stderr\": true,
		\"cmd\": [\"sh\", \"-c\", \"seq 1 50000; echo wrong >&2; exit 6\"]}" >"$LAB/out" 2>"$LAB/err"
	seq 1 50000 | cmp - "$LAB/out"
	equal wrong "$(<"$LAB/err")" stderr
	pod_rm "$p"
}

# containerd copies stdin before it adds an attached client to stdout, so an answer that comes at once may
# pass it by. Such a container says that it is ready until it is asked.
ASKED='while echo ready; do read -r -t 1 x && break; done; echo "got $x"'

# Attaches, and types hello once the container has been heard.
attach() { # REQUEST
	local pid
	mkfifo "$LAB/stdin"
	client stream Attach "$1" <"$LAB/stdin" >"$LAB/out" 7>&- &
	pid=$!
	exec 7>"$LAB/stdin"
	rm "$LAB/stdin"
	wait_for grep -q ready "$LAB/out"
	echo hello >&7
	wait "$pid"
	exec 7>&-
}

@test "Attach to a container with stdin, and to one with a terminal" {
	local p a
	p=$(pod "$ID")
	a=$(run "$p" a "$ASKED; exit 4" '{"stdin": true}')
	attach "{\"container_id\": \"$a\", \"stdin\": true, \"stdout\": true, \"stderr\": true}"
	contains "$(<"$LAB/out")" '^got hello$'
	wait_for state_is "$a" "$EXITED"
	equal 4 "$(status "$a" exit_code)" "exit code"
	wait_for log_says "$ID" a '^stdout F got hello$'
	a=$(run "$p" b "tty; $ASKED; exit 9" '{"stdin": true, "tty": true}')
	attach "{\"container_id\": \"$a\", \"stdin\": true, \"stdout\": true, \"tty\": true}"
	contains "$(<"$LAB/out")" '^got hello'
	wait_for state_is "$a" "$EXITED"
	equal 9 "$(status "$a" exit_code)" "exit code"
	wait_for log_says "$ID" b '^stdout F got hello'
	contains "$(log_of "$ID" b)" '^stdout F /dev/pts/0'
	pod_rm "$p"
}

@test "ContainerStats, ListContainerStats, PodSandboxStats" {
	local p a b json
	p=$(pod "$ID")
	a=$(run "$p" a 'while :; do :; done' '{"linux": {"resources": {"memory_limit_in_bytes": 67108864}}}')
	b=$(run "$p" b 'sleep 1000')
	busy() {
		cri ContainerStats "{\"container_id\": \"$a\"}" |
			jq -e '.stats.cpu.usage_core_nano_seconds.value | tonumber > 200000000' >/dev/null
	}
	wait_for busy
	json=$(cri ContainerStats "{\"container_id\": \"$a\"}")
	for field in cpu.timestamp memory.timestamp memory.working_set_bytes.value \
		memory.usage_bytes.value memory.available_bytes.value memory.page_faults.value; do
		jq -e ".stats.$field | tonumber > 0" <<<"$json" >/dev/null || fail "$field: $json"
	done
	jq -e '.stats.memory | (.available_bytes.value | tonumber) +
		(.working_set_bytes.value | tonumber) == 67108864' <<<"$json" >/dev/null || fail "$json"
	json=$(cri ListContainerStats "{\"filter\": {\"pod_sandbox_id\": \"$p\"}}")
	equal "$(printf '%s\n' "$a" "$b" | sort)" "$(jq -r '.stats[].attributes.id' <<<"$json" | sort)" ids
	# 1.6 leaves available_bytes out where there is no limit.
	jq -e 'all(.stats[]; (.cpu.usage_core_nano_seconds.value | tonumber > 0)
		and (.memory.working_set_bytes.value | tonumber > 0))' <<<"$json" >/dev/null || fail "$json"
	json=$(cri PodSandboxStats "{\"pod_sandbox_id\": \"$p\"}")
	jq -e '(.stats.linux.containers | length) == 2 and
		(.stats.linux.process.process_count.value | tonumber) >= 2' <<<"$json" >/dev/null || fail "$json"
	pod_rm "$p"
}

@test "UpdateContainerResources" {
	local p a
	p=$(pod "$ID")
	a=$(run "$p" a 'sleep 1000' '{"linux": {"resources": {"memory_limit_in_bytes": 67108864,
		"memory_swap_limit_in_bytes": 67108864}}}')
	cri UpdateContainerResources "{\"container_id\": \"$a\", \"linux\": {\"cpu_shares\": 333,
		\"memory_limit_in_bytes\": 33554432, \"memory_swap_limit_in_bytes\": 33554432}}" >/dev/null
	equal 333 "$(cgroup_file "$a" cpu cpu.shares)" cpu.shares
	equal 33554432 "$(cgroup_file "$a" memory memory.limit_in_bytes)" memory.limit_in_bytes
	# Before it is started, too.
	a=$(container "$p" b 'sleep 1000')
	cri UpdateContainerResources "{\"container_id\": \"$a\", \"linux\": {\"cpu_shares\": 444}}" >/dev/null
	start "$a"
	equal 444 "$(cgroup_file "$a" cpu cpu.shares)" cpu.shares
	pod_rm "$p"
}

@test "StopContainer: in good time, and too late" {
	local p a b
	p=$(pod "$ID")
	a=$(run "$p" a 'trap "exit 42" TERM; : >/fifo/a; while :; do sleep 0.05; done')
	b=$(run "$p" b 'trap "" TERM; : >/fifo/b; while :; do sleep 0.05; done')
	wait_for test -e "$LAB/fifo/a" -a -e "$LAB/fifo/b"
	stop "$a" "$PATIENCE"
	equal 42 "$(status "$a" exit_code)" "exit code"
	stop "$b" 1
	equal 137 "$(status "$b" exit_code)" "exit code"
	stop "$b" 1
	remove "$a"
	remove "$a"
	pod_rm "$p"
}

@test "a pod is stopped and removed with its containers running, created and exited" {
	local p a
	p=$(pod "$ID")
	a=$(run "$p" a 'sleep 1000 & sleep 1000')
	container "$p" b 'sleep 1000' >/dev/null
	wait_for state_is "$(run "$p" c 'exit 1')" "$EXITED"
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$p\"}" >/dev/null
	equal 137 "$(status "$a" exit_code)" "exit code"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$p\"}" >/dev/null
	nothing_left
}

@test "out of memory" {
	local p a
	p=$(pod "$ID")
	a=$(run "$p" a 'x=0123456789; while :; do x=$x$x; done' '{"linux": {"resources":
		{"memory_limit_in_bytes": 8388608, "memory_swap_limit_in_bytes": 8388608}}}')
	wait_for state_is "$a" "$EXITED"
	equal "137 OOMKilled" "$(status "$a" exit_code) $(status "$a" reason)" "exit code and reason"
	pod_rm "$p"
}

@test "a pod with a pid namespace of its own, shared by its containers" {
	local p a b
	p=$(pod "$ID" '' '{"linux": {"security_context": {"namespace_options": {"pid": 0}}}}')
	a=$(run "$p" a 'sleep 1001 & sleep 1002 & wait' \
		'{"linux": {"security_context": {"namespace_options": {"pid": 0}}}}')
	b=$(run "$p" b 'sleep 1003' '{"linux": {"security_context": {"namespace_options": {"pid": 0}}}}')
	sees() { [[ $(cri_exec "$b" ps -o args | grep -c '^sleep 100[0-9]$') == "$1" ]]; }
	wait_for sees 3
	# All that a started ends with it.
	stop "$a"
	wait_for sees 1
	pod_rm "$p"
}

@test "a pod with a network of its own" {
	local p ip
	p=$(pod "$ID" '' '{"linux": {"security_context": {"namespace_options": {"network": 0}}}}')
	ip=$(cri PodSandboxStatus "{\"pod_sandbox_id\": \"$p\"}" | jq -r .status.network.ip)
	contains "$ip" '^10\.88\.'
	contains "$(cri_exec "$(run "$p" a 'sleep 1000')" ip -4 addr show dev eth0)" "inet $ip/"
	pod_rm "$p"
}

@test "containerd is killed: running and ended containers, logs and execs go on" {
	local p a b c
	p=$(pod "$ID")
	mkfifo "$LAB/fifo/$ID".{1..4}
	a=$(run "$p" a "for i in 1 2 3; do read -r x </fifo/$ID.\$i; echo line \$i; done; exit 11")
	b=$(run "$p" b "read -r x </fifo/$ID.4; exit 12")
	c=$(container "$p" c 'exit 13')
	feed "$LAB/fifo/$ID.1"
	line_is() { [[ $(log_of "$ID" a | tail -n 1) == "stdout F line $1" ]]; }
	wait_for line_is 1
	containerd_kill
	feed "$LAB/fifo/$ID.2"
	feed "$LAB/fifo/$ID.4"
	containerd_start
	wait_for line_is 2
	wait_for state_is "$a" "$RUNNING"
	equal well "$(cri_exec "$a" echo well)" output
	wait_for state_is "$b" "$EXITED"
	# Containerd 1.7 and later forgets a task whose shim names no process; the code is then made up.
	if ! is_go || [[ $PEER == 1.6 ]]; then
		equal 12 "$(status "$b" exit_code)" "exit code of what ended meanwhile"
	fi
	feed "$LAB/fifo/$ID.3"
	wait_for state_is "$a" "$EXITED"
	equal 11 "$(status "$a" exit_code)" "exit code"
	wait_for log_has "$ID" a 3
	equal "line 1 line 2 line 3" "$(log_of "$ID" a | cut -d' ' -f3- | paste -sd ' ')" log
	start "$c"
	wait_for state_is "$c" "$EXITED"
	equal 13 "$(status "$c" exit_code)" "exit code"
	wait_for shim_count_is 1
	pod_rm "$p"
}

@test "kill -9 of the pod's daemon: everything in it is over, and can be removed" {
	[[ $PEER != 2.x ]] || not_for_go "containerd 2 has it clean up the pod only"
	local p a pid
	p=$(pod "$ID")
	a=$(run "$p" a 'sleep 1000')
	pid=$(in_ns task ls | awk -v id="$a" '$1 == id { print $2 }')
	kill -KILL "$(shim_pids)"
	wait_for dead "$pid"
	wait_for state_is "$a" "$EXITED"
	wait_for pod_state_is "$p" "$NOTREADY"
	rm -f "$LAB"/run/containerd/s/* # the Go shim leaves it
	pod_rm "$p"
}

@test "ReopenContainerLog" {
	local p a
	p=$(pod "$ID")
	mkfifo "$LAB/fifo/$ID".{1..2}
	a=$(run "$p" a "for i in 1 2; do read -r x </fifo/$ID.\$i; echo line \$i; done; sleep 1000")
	feed "$LAB/fifo/$ID.1"
	wait_for grep -q 'line 1' "$LAB/pods/$ID/a.log"
	mv "$LAB/pods/$ID/a.log" "$LAB/pods/$ID/a.old"
	cri ReopenContainerLog "{\"container_id\": \"$a\"}" >/dev/null
	feed "$LAB/fifo/$ID.2"
	wait_for grep -qs 'line 2' "$LAB/pods/$ID/a.log"
	equal "stdout F line 2" "$(log_of "$ID" a)" "new log"
	refuse grep 'line 2' "$LAB/pods/$ID/a.old"
	pod_rm "$p"
}

@test "a handler of another type: its options reach the shim as a file of TOML" {
	options_arrive file
}

@test "a handler of another type: its options reach the shim as TOML" {
	[[ $PEER != 1.6 ]] || skip "containerd 1.6 sends none"
	options_arrive body
}

options_arrive() { # WAY
	not_for_go "knows no such options"
	local p a log=$LAB/bin/runtime-$1.log
	p=$(pod "$ID" "nano-$1")
	a=$(run "$p" a 'sleep 1000')
	equal well "$(cri_exec "$a" echo well)" output
	for verb in create start exec; do
		contains "$(<"$log")" " $verb "
	done
	wait_for shim_count_is 1
	containerd_kill
	containerd_start
	equal well "$(cri_exec "$a" echo well)" output
	# The delete action knows the runtime as well.
	rm "$log"
	kill -KILL "$(shim_pids)"
	wait_for state_is "$a" "$EXITED"
	wait_for grep -qs ' delete --force ' "$log"
	wait_for pod_state_is "$p" "$NOTREADY"
	pod_rm "$p"
}

@test "five pods at once" {
	local i pids=()
	for i in {1..5}; do
		one_pod "$ID-$i" "$i" 2>"$LAB/err.$i" &
		pids[i]=$!
	done
	for i in {1..5}; do
		wait "${pids[i]}" || fail "pod $i: $(<"$LAB/err.$i")"
	done
}

one_pod() { # NAME CODE
	local p a
	p=$(pod "$1") || return
	a=$(run "$p" a "exit $2") || return
	wait_for state_is "$a" "$EXITED" || return
	equal "$2" "$(status "$a" exit_code)" "exit code" || return
	pod_rm "$p"
}
