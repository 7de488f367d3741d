# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # states are for the tests
#
# cri.bash - containerd's CRI plugin in the laboratory, as a kubelet would use it.

load peers

PAUSE=nanoshim.test/pause:1
POD_NS=k8s.io

# containerd runs in a network namespace of its own, for the sake of the pods' networks.
containerd_wrapper() { # FILE
	cat >"$1" <<-EOF
		#!/bin/sh
		if ! [ -e "\$NANOSHIM_LAB/net" ]; then
		        : >"\$NANOSHIM_LAB/net"
		        unshare --net="\$NANOSHIM_LAB/net" busybox ip link set lo up
		fi
		exec nsenter --net="\$NANOSHIM_LAB/net" -- $CONTAINERD "\$@"
	EOF
	chmod +x "$1"
}

lab_config() {
	local cri='plugins."io.containerd.grpc.v1.cri"'
	# The handlers "nano-..." are of a type that containerd knows nothing of: their options go to the
	# shim as a TOML document, "file" by its path, "body" as a whole, which 1.6 cannot do.
	echo "BinaryName = \"$LAB/bin/runtime-file\"" >"$LAB/nano.toml"
	cat <<-EOF
		version = 2
		root = "$LAB/root"
		state = "$LAB/state"
		disabled_plugins = ["io.containerd.snapshotter.v1.aufs",
		  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
		  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
		[grpc]
		  address = "$LAB/c.sock"
		[ttrpc]
		  address = "$LAB/t.sock"
		[debug]
		  level = "info"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$LAB/opt"
		[plugins."io.containerd.nri.v1.nri"]
		  disable = true
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

cri_up() {
	local real=$CONTAINERD
	peers_missing cni grpc "$PEER" || return 0
	export CRI_PB=$BATS_FILE_TMPDIR/pb CONTAINERD=$BATS_FILE_TMPDIR/containerd
	mkdir "$CRI_PB"
	protoc --python_out="$CRI_PB" -I"$HERE" "$HERE/cri.proto"
	CONTAINERD=$real containerd_wrapper "$BATS_FILE_TMPDIR/containerd"
	peers_up
	[[ ! $LAB_MISSING ]] || return 0
	cat >"$LAB/bin/runtime-file" <<-EOF
		#!/bin/sh
		echo "\$*" >>"\$0.log"
		exec $RUNTIME "\$@"
	EOF
	chmod +x "$LAB/bin/runtime-file"
	cp "$LAB/bin/runtime-file" "$LAB/bin/runtime-body"
	client_start || return
	pause_image "$LAB/pause.tar"
	in_ns image import "$LAB/image.tar" >/dev/null
	in_ns image import "$LAB/pause.tar" >/dev/null
	wait_for 30 image_is_known "$IMAGE"
	wait_for 30 image_is_known "$PAUSE"
}

cri_down() {
	if [[ -s $LAB/client.pid ]]; then
		kill -KILL "$(<"$LAB/client.pid")"
		rm "$LAB/client.pid"
	fi
	lab_down
}

image_is_known() {
	[[ $(cri ImageStatus "{\"image\": {\"image\": \"$1\"}}" 2>/dev/null | jq -r .image.id) == sha256* ]]
}

# The same image under another name, and it sleeps.
pause_image() { # FILE
	local dir=$LAB/pause
	mkdir "$dir"
	tar -C "$dir" -xf "$LAB/image.tar"
	jq '.config.Cmd = ["/bin/sleep", "1000000"]' "$dir/config.json" >"$dir/c.json"
	mv "$dir/c.json" "$dir/config.json"
	sed -i "s,$IMAGE,$PAUSE," "$dir/manifest.json"
	tar -C "$dir" -cf "$1" manifest.json config.json layer.tar
}

# The CRI is ready later than the rest of containerd.
eval "ctr_$(declare -f containerd_start)"
containerd_start() {
	ctr_containerd_start || return
	[[ ! -e $LAB/client.pid ]] || wait_for 30 cri_answers
}

cri_answers() { cri ListPodSandbox '{}' >/dev/null 2>&1; }

in_ns() { NS=$POD_NS ctr "$@"; } # ctr in the pods' namespace

eval "every_$(declare -f shim_socket)"
shim_socket() { NS=$POD_NS every_shim_socket "$1"; }

eval "ctr_$(declare -f leftovers)"
leftovers() {
	local what
	ctr_leftovers
	for what in "$LAB"/state/*/"$POD_NS" "$LAB/run/containerd/runc/$POD_NS" "$LAB/run/netns"; do
		if [[ -d $what ]]; then
			find "$what" -mindepth 1 -maxdepth 1 ! -name .empty-directory -printf 'left: %p\n'
		fi
	done
}

eval "ctr_$(declare -f lab_reset)"
lab_reset() {
	local pod bundle
	for pod in $(cri ListPodSandbox '{}' 2>/dev/null | jq -r '.items[].id'); do
		pod_rm "$pod" >/dev/null 2>&1 || :
	done
	ctr_lab_reset
	lab_cgroups | xargs -r rmdir 2>/dev/null || :
	for bundle in "$LAB"/state/*/"$POD_NS"/*; do
		in_lab umount "$bundle/rootfs" 2>/dev/null || :
		rm -rf --one-file-system "$bundle"
	done
	rm -rf "$LAB/run/containerd/runc/$POD_NS"
}

# The client of the CRI is not among what may not be left.
eval "every_$(declare -f lab_procs)"
lab_procs() { every_lab_procs "$@" | grep -vxF -- "$(cat "$LAB/client.pid" 2>/dev/null)" || :; }

# ---- calls ---------------------------------------------------------------------------------------

client() { timeout --foreground -s KILL "$1" "$HERE/ask.py" "$LAB/cri.sock" "${@:2}"; }

client_start() {
	(
		# shellcheck disable=SC1091 # test/peers writes it
		source "$PEERS/grpc/env"
		NANOSHIM_LAB=$LAB exec setsid nsenter -t "$(<"$LAB/containerd.pid")" -n -- \
			"$HERE/cri.py" "$LAB/c.sock" "$LAB/cri.sock"
	) </dev/null >"$LAB/client.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
	echo $! >"$LAB/client.pid"
	disown $!
	if ! wait_for 20 test -S "$LAB/cri.sock"; then
		cat "$LAB/client.log" >&2
		return 1
	fi
}

cri() { client 90 call "$@"; } # METHOD JSON

cri_exec() { client 90 exec "$1" 0 "${@:2}"; } # ID WORD...

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
