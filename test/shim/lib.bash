# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # variables that are set for the tests
#
# lib.bash - the laboratory: a private containerd with the shim under test, and what tests ask.
#
# A laboratory is a directory (LAB). In it lie containerd's root, state, sockets and log, a bin/
# that comes first on containerd's PATH, and a run/ that is mounted over /run. All of it lives in a
# mount and a network namespace of its own, kept by a guard process; nothing outside LAB is written
# except cgroups, which are named after a containerd namespace (NS) nobody else has. So any number
# of laboratories may be at work side by side. The guard watches the process that built the
# laboratory and clears everything away if that one dies without having done so itself.
#
# What is ours is recognised by NANOSHIM_LAB=... in its environment, which shims and runtimes
# inherit from containerd, and by the cgroups of NS. Nothing else is ever signalled.
#
# Environment: SHIM (default build/nanoshim), RUNTIME (runc, crun, runc-new, crun-new), PEER (the
# release of containerd: 1.6, which is the machine's own, 1.7 or 2.x; test/peers fetches the others
# and the -new runtimes), CONTAINERD and CTR (instead of PEER), TIME_FACTOR (how much longer than on
# a machine of its own everything may take), TMPDIR, SANITIZED=1 (SHIM is build/asan/nanoshim),
# CI=true or MUST_WORK=1 (a test that cannot run has failed), KEEP=1 (containerd's log at the end).

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
LIB=$(realpath "${BASH_SOURCE[0]}")
ROOT=${LIB%/test/shim/lib.bash}
PEERS=$ROOT/build/peers
HELP=$ROOT/test/shim/peers # programs that some tests call
IMAGE=nanoshim.test/busybox:1
export IMAGE

# Every containerd from here on is of this release.
use_peer() { # 1.6, 1.7 or 2.x
	PEER=$1 CONTAINERD=containerd CTR=ctr
	if [[ $1 != 1.6 ]]; then
		CONTAINERD=$PEERS/$1/usr/bin/containerd CTR=$PEERS/$1/usr/bin/ctr
	fi
	export PEER CONTAINERD CTR
}

[[ ${CONTAINERD:-} ]] || use_peer "${PEER:-1.6}"
: "${SHIM:=$ROOT/build/nanoshim}" "${RUNTIME:=runc}" "${CTR:=ctr}"
[[ $RUNTIME != *-new ]] || RUNTIME=$PEERS/$RUNTIME/bin/${RUNTIME%-new}
export SHIM RUNTIME CTR

# Nothing here measures time. Whatever is waited for longer than this hangs.
PATIENCE=$(awk -v factor="${TIME_FACTOR:-1}" 'BEGIN { printf "%d", 60 * factor + 1 }')

# ---- small tools ---------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }

fail() {
	say "$*"
	return 1
}

equal() { # WANTED GOT [WHAT]
	[[ $1 == "$2" ]] || fail "${3:-value}: wanted '$1', got '$2'"
}

contains() { # TEXT PATTERN (extended regular expression)
	grep -Eq -- "$2" <<<"$1" || fail "no /$2/ in: $1"
}

refuse() { # COMMAND...: it must fail; its output and status are left in $output and $status
	status=0
	output=$("$@" 2>&1) || status=$?
	((status != 0)) || fail "should have failed: $*"
}

# Polls CONDITION... (a silent command) until it is true; the only way anything here waits.
wait_for() { # CONDITION...
	local end=$((SECONDS + PATIENCE))
	until "$@"; do
		if ((SECONDS >= end)); then
			fail "gave up waiting for: $*"
			return
		fi
		sleep 0.03
	done
}

# A program that must not hang.
bounded() { timeout --foreground -k 5 "$PATIENCE" "$@"; }

alive() { # PID: exists and is not a zombie
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	[[ ${stat##*) } != [ZX]* ]]
}

dead() { ! alive "$1"; }

# Writes a line into a FIFO, once somebody has it open for reading.
feed() { bounded tee "$1" <<<"" >/dev/null; } # FIFO

size_is() { [[ -e $1 && $(stat -c %s "$1") == "$2" ]]; } # FILE BYTES

exits_with() { # CODE COMMAND...
	local want=$1 got=0
	shift
	"$@" || got=$?
	equal "$want" "$got" "exit code of $*"
}

# Children that were started one after the other, PIDS, have all succeeded.
all_well() { # PID...
	local pid bad=0
	for pid; do
		wait "$pid" || bad=1
	done
	((bad == 0)) || fail "one of those started together has failed"
}

must_work() { [[ ${CI:-} == true || ${MUST_WORK:-} == 1 ]]; }

missing() { # WHY: skips the test; fails where everything has to work
	if must_work; then
		fail "cannot run: $1"
		return
	fi
	skip "$1"
}

need() { # WHAT CONDITION...
	local what=$1
	shift
	"$@" >/dev/null 2>&1 || missing "needs $what"
}

# The Go shim is the yardstick these tests are checked against; it is recognised by its own build.
is_go() { readelf -SW "$SHIM" | grep -Eq '\.(gopclntab|go\.buildinfo)'; }

not_for_go() { # WHY
	if is_go; then
		skip "Go shim: $1"
	fi
}

# The program with the sanitizers (test/run asan) is neither small nor frugal.
not_sanitized() { # WHY
	if [[ ${SANITIZED:-} ]]; then
		skip "sanitizers: $1"
	fi
}

# ---- the laboratory ------------------------------------------------------------------------------

# Containerd gives a shim 2 s for its state and 5 s for some other things. That is no measure of the
# shim on a machine that is slow and busy; which answers wait for what is tested elsewhere.
containerd_config() { # PLUGIN...: these are off
	cat <<-EOF
		version = 2
		root = "$LAB/root"
		state = "$LAB/state"
		disabled_plugins = [$(printf '"%s", ' "$@") "io.containerd.snapshotter.v1.aufs",
		  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
		  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
		[grpc]
		  address = "$LAB/c.sock"
		[ttrpc]
		  address = "$LAB/t.sock"
		[debug]
		  address = "$LAB/d.sock"
		  level = "info"
		[timeouts]
		  "io.containerd.timeout.shim.cleanup" = "${PATIENCE}s"
		  "io.containerd.timeout.shim.load" = "${PATIENCE}s"
		  "io.containerd.timeout.shim.shutdown" = "${PATIENCE}s"
		  "io.containerd.timeout.task.state" = "${PATIENCE}s"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$LAB/opt"
	EOF
}

lab_config() {
	containerd_config io.containerd.grpc.v1.cri io.containerd.cri.v1.images \
		io.containerd.cri.v1.runtime io.containerd.nri.v1.nri
}

# An image of busybox and its links in the format of `docker save`, made once: where it is is printed.
lab_image() {
	local file=$ROOT/build/lab/image.tar dir arch
	if [[ $file -nt $LIB && $file -nt $(command -v busybox) ]]; then
		echo "$file"
		return
	fi
	case $(uname -m) in
	x86_64) arch=amd64 ;;
	aarch64) arch=arm64 ;;
	armv*) arch=arm ;;
	*) arch=$(uname -m) ;;
	esac
	dir=$LAB/image
	mkdir -p "$dir"/root/{bin,dev,etc,proc,root,sys,tmp} "${file%/*}"
	cp "$(command -v busybox)" "$dir/root/bin/busybox"
	busybox --list | grep -vx busybox | (cd "$dir/root/bin" && xargs -n 1 ln -s busybox)
	echo root:x:0:0:root:/root:/bin/sh >"$dir/root/etc/passwd"
	echo root:x:0: >"$dir/root/etc/group"
	tar -C "$dir/root" --owner=0 --group=0 -cf "$dir/layer.tar" .
	cat >"$dir/config.json" <<-EOF
		{"architecture": "$arch", "os": "linux",
		 "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
		 "rootfs": {"type": "layers",
		  "diff_ids": ["sha256:$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)"]}}
	EOF
	cat >"$dir/manifest.json" <<-EOF
		[{"Config": "config.json", "RepoTags": ["$IMAGE"], "Layers": ["layer.tar"]}]
	EOF
	tar -C "$dir" -cf "$dir/image.tar" manifest.json config.json layer.tar
	# Others may do the same at this moment.
	cp "$dir/image.tar" "$file.$$" && mv "$file.$$" "$file"
	rm -rf "$dir"
	echo "$file"
}

# In memory, if programs may be run from there: containerd flushes all it writes to the disk.
lab_place() {
	if [[ ${TMPDIR:-} ]]; then
		echo "$TMPDIR"
	elif [[ -w /dev/shm ]] && ! findmnt -no OPTIONS -T /dev/shm | grep -qw noexec; then
		echo /dev/shm
	else
		echo /tmp
	fi
}

# Builds a laboratory and leaves LAB, NS and what belongs to them in the environment.
lab_up() { # [NAME=FILE for bin/ ...], default: the shim under test under all its names
	local link
	export LAB NS LAB_MNT CONTAINERD_SNAPSHOTTER=overlayfs
	LAB=$(mktemp -d "$(lab_place)/nanoshim.XXXXXX")
	NS=lab-${LAB##*.}
	mkdir -p "$LAB"/{bin,run/containerd,fifo}
	export GATES="type=bind,src=$LAB/fifo,dst=/gates,options=rbind:ro" # for ctr run --mount
	if (($# == 0)); then
		set -- containerd-shim-runc-v2="$SHIM"
		is_go || set -- "$@" containerd-shim-{runc-v1,crun-v2,nano-v2}="$SHIM"
	fi
	for link; do
		ln -s "$(realpath "${link#*=}")" "$LAB/bin/${link%%=*}"
	done
	lab_config >"$LAB/config.toml"

	setsid unshare --mount --net bash "$LIB" guard "$LAB" "$NS" $$ \
		</dev/null >"$LAB/guard.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
	echo $! >"$LAB/guard.pid"
	disown $!
	LAB_MNT=/proc/$!/ns/mnt
	if ! { wait_for guard_said && [[ -e $LAB/ready ]]; }; then
		cat "$LAB/guard.log" >&2
		return 1
	fi

	containerd_start || return
	if ! ctr plugins ls | grep -Eq 'snapshotter\S* +overlayfs +\S+ +ok'; then
		CONTAINERD_SNAPSHOTTER=native
	fi
	ctr image import "$(lab_image)" >/dev/null
}

# The guard holds the namespaces. Where cgroup v1 and v2 are mixed, which crun refuses, it
# hides the v2 hierarchy.
lab_guard() { # LAB NS OWNER
	local LAB=$1 NS=$2 turn pid
	trap '' HUP INT TERM
	mount --bind "$LAB/run" /run
	if mountpoint -q /sys/fs/cgroup/unified; then
		umount /sys/fs/cgroup/unified
	fi
	busybox ip link set lo up
	mkfifo "$LAB/gate"
	exec 9<>"$LAB/gate"
	: >"$LAB/ready"
	while alive "$3"; do
		read -rt 1 -u 9 || :
	done
	# The owner may have left children that are just about to start something.
	lab_wipe
	for ((turn = 0; turn < 20; turn++)); do
		for pid in $(lab_procs); do
			kill -KILL "$pid" 2>/dev/null || :
		done
		read -rt 0.1 -u 9 || :
	done
}

guard_said() { [[ -e $LAB/ready ]] || dead "$(<"$LAB/guard.pid")"; }
in_lab() { nsenter --mount="$LAB_MNT" -- "$@"; }

lab_cgroups() { # [MINDEPTH]: the directories of ours, children first
	local dir dirs=()
	for dir in /sys/fs/cgroup/"$NS" /sys/fs/cgroup/*/"$NS"; do
		[[ ! -d $dir ]] || dirs+=("$dir")
	done
	if ((${#dirs[@]})); then
		find "${dirs[@]}" -depth -mindepth "${1:-1}" -type d 2>/dev/null || :
	fi
}

lab_procs() { # everything of ours: daemons, shims, containers
	local pid cg
	{
		grep -lzxF "NANOSHIM_LAB=$LAB" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || :
		lab_cgroups | while read -r cg; do
			cat "$cg/cgroup.procs" 2>/dev/null || :
		done
	} | sort -un | while read -r pid; do
		if alive "$pid"; then
			echo "$pid"
		fi
	done
}

# Without the laboratory's own daemons (lab_daemon).
guest_procs() { lab_procs | grep -vxF -f <(cat "$LAB"/*.pid); }

# Ends every process of ours, then removes cgroups, mounts and files; nothing starts any more.
lab_wipe() {
	local pid cg turn mnt
	: >"$LAB/closed"
	for ((turn = 0; turn < 100; turn++)); do
		pid=$(lab_procs)
		[[ $pid ]] || break
		# shellcheck disable=SC2086 # a list of numbers
		kill -KILL $pid 2>/dev/null || :
		lab_cgroups | while read -r cg; do
			if [[ -w $cg/freezer.state ]]; then
				echo THAWED >"$cg/freezer.state" || :
			elif [[ -w $cg/cgroup.freeze ]]; then
				echo 0 >"$cg/cgroup.freeze" || :
			fi
		done 2>/dev/null
		sleep 0.05
	done
	lab_cgroups 0 | while read -r cg; do
		rmdir "$cg" 2>/dev/null || :
	done
	if [[ ${LAB_MNT:-} && -e $LAB_MNT ]]; then
		mnt=(in_lab)
	else
		mnt=() # this is the guard itself
	fi
	awk -v lab="$LAB/" 'index($5, lab) == 1 { print $5 }' /proc/"${LAB_GUARD:-self}"/mountinfo |
		sort -r | while read -r pid; do
			"${mnt[@]}" umount -l "$pid" 2>/dev/null || :
		done
	rm -rf --one-file-system "$LAB"
}

lab_down() {
	local guard
	[[ ${LAB:-} && -d $LAB ]] || return 0
	if [[ ${KEEP:-} ]]; then
		cat "$LAB/containerd.log" >&2
	fi
	guard=$(<"$LAB/guard.pid")
	LAB_GUARD=$guard lab_wipe
	kill -KILL "$guard" 2>/dev/null || :
	if [[ -e $LAB ]]; then
		fail "not removed: $LAB"
	fi
}

# After a failed test: away with what it left, so that the next one starts from nothing.
lab_reset() {
	local id pid
	if ! alive "$(<"$LAB/containerd.pid")"; then
		containerd_start || return 0
	fi
	for id in $(ctr task ls -q 2>/dev/null); do
		ctr task rm -f "$id" >/dev/null 2>&1 || :
	done
	for pid in $(guest_procs); do
		kill -KILL "$pid" 2>/dev/null || :
	done
	rm -f "$LAB"/run/containerd/s/*
	for id in $(ctr container ls -q 2>/dev/null); do
		ctr container rm "$id" >/dev/null 2>&1 || :
	done
}

# A daemon of the laboratory itself: its pid is in NAME.pid, what it says in NAME.log.
lab_daemon() { # NAME COMMAND...
	[[ -e $LAB/ready && ! -e $LAB/closed ]] || fail "the laboratory is closed" || return
	setsid nsenter --mount="$LAB_MNT" --net="${LAB_MNT%mnt}net" -- \
		env -i NANOSHIM_LAB="$LAB" PATH="$LAB/bin:$PATH" HOME="$LAB" "${@:2}" \
		</dev/null >>"$LAB/$1.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
	echo $! >"$LAB/$1.pid"
	disown $!
}

lab_kill() { # NAME [SIGNAL], default KILL
	local pid
	pid=$(<"$LAB/$1.pid")
	kill -"${2:-KILL}" "$pid"
	wait_for dead "$pid"
}

# The daemon has come so far that CONDITION is true; if it does not, its last words are shown.
lab_ready() { # NAME CONDITION...
	if ! { wait_for ready_or_dead "$@" && "${@:2}"; }; then
		tail -n 20 "$LAB/$1.log" >&2
		return 1
	fi
}

ready_or_dead() { "${@:2}" || dead "$(<"$LAB/$1.pid")"; }

containerd_start() {
	lab_daemon containerd "$CONTAINERD" -c "$LAB/config.toml" && lab_ready containerd containerd_answers
}

containerd_answers() { ctr version >/dev/null 2>&1; }
containerd_kill() { lab_kill containerd "$@"; }

# ctr inside the laboratory.
ctr() {
	ctr_words
	bounded "${CTR_WORDS[@]}" "$@"
}

# The same for programs, which cannot call a function; and the options that choose the runtime.
ctr_words() {
	CTR_WORDS=(nsenter --mount="$LAB_MNT" -- "$CTR" -a "$LAB/c.sock" -n "$NS")
	OPTS=()
	[[ $RUNTIME == runc ]] || OPTS=(--runc-binary "$RUNTIME")
}

# ctr run with the runtime of this pass; the image comes by itself: ctr_run [OPTION...] ID [WORD...]
ctr_run() {
	local opts=()
	while [[ ${1:-} == -* ]]; do
		case $1 in
		-d | --detach | --rm | --null-io | --tty | --read-only | --net-host) opts+=("$1") ;;
		*)
			opts+=("$1" "$2")
			shift
			;;
		esac
		shift
	done
	ctr_words
	[[ " ${opts[*]} " == *" --run"* ]] || opts+=("${OPTS[@]}")
	ctr run "${opts[@]}" "$IMAGE" "$@"
}

# ctr before 1.6.22 drops whatever it has not read yet when the container exits (containerd pull
# request 8643), so nothing here takes output from a ctr whose container may be gone: either the
# container stays until the test has seen its output (ctr_shell), or the test reads the FIFOs itself
# and the container begins only then (gated).

# What SCRIPT writes to stdout, and its exit status: ctr_shell [OPTION...] ID SCRIPT
ctr_shell() {
	local script=${!#} id=${*: -2:1} opts=("${@:1:$#-2}") client status=0
	gate "$id"
	ctr_run --rm --mount "$GATES" "${opts[@]}" "$id" \
		sh -c "($script); code=\$?; echo; echo END; read -r x </gates/$id; exit \$code" \
		>"$LAB/fifo/$id.out" &
	client=$!
	if wait_for grep -qx END "$LAB/fifo/$id.out"; then
		feed "$LAB/fifo/$id"
	fi
	wait "$client" || status=$?
	sed -e '$d' "$LAB/fifo/$id.out" | sed -e '${/^$/d}'
	return "$status"
}

# A detached container whose SCRIPT begins when a line is fed to $GATE. Files OUT and ERR are the
# readers' ends of its streams, open already: gated [OPTION...] ID SCRIPT
gated() {
	local script=${!#} id=${*: -2:1} opts=("${@:1:$#-2}")
	gate "$id"
	ctr_run -d --fifo-dir "$LAB/fifo/streams" \
		--mount "$GATES" "${opts[@]}" "$id" \
		sh -c "read -r x </gates/$id; $script" || return
	exec {OUT}<"$(find "$LAB/fifo/streams" -name "$id-stdout")" \
		{ERR}<"$(find "$LAB/fifo/streams" -name "$id-stderr")"
}

gate() { # ID
	GATE=$LAB/fifo/$1
	rm -f "$GATE"
	mkfifo "$GATE"
}

# A container runs under this id, and its exit code arrives: works [OPTION...] ID
works() { exits_with 42 ctr_run --rm "$@" sh -c 'exit 42'; }

# An exec in the foreground, its id made up: ctr_exec [OPTION...] ID WORD...
ctr_exec() {
	ctr task exec --exec-id "e$RANDOM$RANDOM" "$@"
}

# Runs a command whose stdin lasts until its stdout has all been read: ctr of 2.x drops what it has
# not got round to reading when a process ends. The command must end when its stdin does.
heard() { # FILE BYTES COMMAND...
	local file=$1 bytes=$2 pid
	shift 2
	mkfifo "$LAB/stdin"
	"$@" <"$LAB/stdin" >"$file" 7>&- &
	pid=$!
	exec 7>"$LAB/stdin"
	rm "$LAB/stdin"
	wait_for size_is "$file" "$bytes"
	exec 7>&-
	wait "$pid"
}

exec_says() { # LINE [OPTION...] ID SCRIPT
	local line=$1 script=${*: -1}
	shift
	heard "$LAB/said" $((${#line} + 1)) ctr_exec "${@:1:$#-1}" sh -c "$script; read -r x; :"
	equal "$line" "$(<"$LAB/said")" output
}

# A command on a terminal of its own, and what is typed there: terminal.py tells.
terminal() { "$HELP/terminal.py" "$@"; }

# Ends and removes detached containers.
ctr_rm() { # ID...
	local id
	for id; do
		ctr task rm -f "$id" >/dev/null 2>&1 || fail "task rm -f $id" || return
		ctr container rm "$id" || return
	done
}

task_pid() { ctr task ls | awk -v id="$1" '$1 == id { print $2 }'; }
task_state() { ctr task ls | awk -v id="$1" '$1 == id { print $3 }'; }
task_is() { [[ $(task_state "$1") == "$2" ]]; } # ID STATE

# The container's process executes this, and no longer what the runtime prepared it with. Before that
# a signal is not the container's.
executes() { # PID COMMAND LINE
	[[ $({ tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) == "$2 " ]]
}

# ---- the shims -----------------------------------------------------------------------------------

# Daemons of this laboratory's containerd, oldest first; the short-lived start and delete calls are
# told by their last word, a child between fork and exec by having a daemon for parent.
shim_pids() { # [ID]
	local pid line
	for pid in $(pgrep -f -- " -address $LAB/c\.sock( |$)" || :); do
		line=$({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null || :)
		if [[ ! $line || $line =~ \ (start|delete)\ $ || $line == ctr\ * ]]; then
			continue
		fi
		if [[ ${1:-} && ! $line =~ \ -id\ ${1}\  ]]; then
			continue
		fi
		line=$({ awk '/^PPid:/ { print $2 }' "/proc/$pid/status"; } 2>/dev/null || :)
		line=$({ tr '\0' ' ' <"/proc/${line:-x}/cmdline"; } 2>/dev/null || :)
		if [[ $line != *" -address $LAB/c.sock "* ]]; then
			echo "$pid"
		fi
	done
}

shim_pid() { # ID: the one daemon started for it
	local pid
	pid=$(shim_pids "$1")
	[[ $pid && $pid != *[!0-9]* ]] || fail "daemons of $1: '$pid'" || return
	echo "$pid"
}

shim_count_is() { [[ $(shim_pids | wc -l) == "$1" ]]; }

# The path of the socket on which the daemon of group or container ID listens, seen from outside.
shim_socket() { # ID
	local sum
	sum=$(printf %s "$LAB/c.sock/$NS/$1" | sha256sum)
	echo "$LAB/run/containerd/s/${sum%% *}"
}

# Fields of smaps_rollup in KiB, summed.
memory() { # PID FIELD...
	local pid=$1
	shift
	awk -v want=" $* " '
		index(want, " " substr($1, 1, length($1) - 1) " ") { sum += $2 }
		END { print sum + 0 }' "/proc/$pid/smaps_rollup"
}

# The text of the binary is private, too, as long as only one process has it mapped: compare daemons
# only while there is a second one, or look at the dirty part, which is all that can grow.
private() { memory "$1" Private_Clean Private_Dirty; }
dirty() { memory "$1" Private_Dirty; }

status_of() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"; } # PID FIELD
fd_count() { find "/proc/$1/fd" -mindepth 1 | wc -l; }

# It has not run at all for so long.
sleeps() { # PID SECONDS
	local before
	before=$(grep ctxt_switches "/proc/$1/status")
	sleep "$2"
	[[ $(grep ctxt_switches "/proc/$1/status") == "$before" ]]
}

# ---- events --------------------------------------------------------------------------------------

events_start() { # FILE
	ctr_words
	(exec "${CTR_WORDS[@]}" events >"$1" 2>&1 </dev/null 3>&- 4>&-) &
	EVENTS_PID=$!
	EVENTS=$1
	disown $!
	wait_for events_flow
}

# A subscription is in place once something that happened now has been seen.
events_flow() {
	ctr namespaces label "$NS" seen="$RANDOM" && grep -q /namespaces/update "$EVENTS"
}

events_stop() {
	kill "$EVENTS_PID" 2>/dev/null || :
	EVENTS_PID=
}

# The task events of one container, in the order of their arrival: "create start exit:7 delete:7".
events_of() { # ID
	awk -v id="\"container_id\":\"$1\"" '
		index($0, id) && match($0, /\/tasks\/[a-z-]+/) {
			word = substr($0, RSTART + 7, RLENGTH - 7)
			if (word == "exit" || word == "delete") {
				code = 0
				if (match($0, /"exit_status":[0-9]+/))
					code = substr($0, RSTART + 14, RLENGTH - 14)
				word = word ":" code
			}
			line = line sep word
			sep = " "
		}
		END { print line }' "$EVENTS"
}

events_are() { [[ $(events_of "$1") == "$2" ]]; }   # ID WORDS
events_match() { [[ $(events_of "$1") =~ $2 ]]; } # ID REGEX

# ---- is anything left? ---------------------------------------------------------------------------

leftovers() {
	local pid what
	for pid in $(guest_procs); do
		echo "process $pid: $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || :)"
	done
	for what in $(lab_cgroups); do
		echo "cgroup $what"
	done
	awk -v at="$LAB/state/" 'index($5, at) == 1 { print "mount", $5 }' \
		"${LAB_MNT%/ns/mnt}/mountinfo"
	# Newer crun keeps a hidden, empty directory among its containers' states.
	for what in "$LAB"/run/{containerd/s,containerd/runc/*,netns} "$LAB"/state/*.runtime.*/* \
		"$LAB"/docker-run/runtime-runc/*; do
		if [[ -d $what ]]; then
			find "$what" -mindepth 1 -maxdepth 1 ! -name .empty-directory -printf 'left: %p\n'
		fi
	done
}

is_clean() { [[ ! $(leftovers) ]]; }

# The delete action may still be at work when a client has its answer; hence the wait.
nothing_left() {
	local left
	if ! wait_for is_clean 2>/dev/null; then
		left=$(leftovers)
		[[ ! $left ]] || fail "left behind:"$'\n'"$left"
	fi
}

# ---- a virtual machine ---------------------------------------------------------------------------

# test/density/density.sh boots a guest, emulated, starts a container in it and has hook-cgroup2.sh
# check the rest for each runtime: output and exit status, limits, metrics, pause, exec, OOM events,
# removal. Every check must be "ok". The kernel is kept in build/guest.
guest() { # RUNTIME,... OPTION...
	local out oci checks=12 slow=$((PATIENCE * 10)) # emulated
	need "qemu-system-x86_64" command -v qemu-system-x86_64
	mkdir -p "$ROOT/build/guest"
	out=$("$ROOT/test/density/density.sh" --shim "$SHIM" --work "$ROOT/build/guest" --mem 256 --n 0 \
		--limit $slow --stall $slow --hook "$ROOT/test/density/hook-cgroup2.sh" --oci "$@" 2>&1) ||
		fail "the guest failed: $out"
	for oci in ${1//,/ }; do
		equal "$checks" "$(grep -c "^hook: $oci: ok " <<<"$out")" "checks passed with $oci in: $out"
	done
	equal 0 "$(grep -c '^hook: .*FAIL' <<<"$out")" "checks failed in: $out"
	contains "$out" "^RESULT ok"
	printf '# %s\n' "$(grep '^shims ' <<<"$out")" >&3
}

# ---- what bats calls, unless a file overrides it -------------------------------------------------

# Nothing can be skipped in here; what is wrong with the machine is left to setup().
setup_file() { lab_setup_file; }

lab_setup_file() { # PEER...: what is needed of build/peers besides PEER and RUNTIME
	local peer
	export LAB_MISSING=
	[[ $PEER == 1.6 ]] || set -- "$@" "$PEER"
	[[ $RUNTIME != "$PEERS"/* ]] || set -- "$@" "$(cut -d/ -f1 <<<"${RUNTIME#"$PEERS"/}")"
	for peer; do
		[[ -e $PEERS/$peer/.stamp ]] || LAB_MISSING="needs build/peers/$peer: test/peers"
	done
	if (($(id -u) != 0)); then
		LAB_MISSING="needs root"
	elif [[ ! -x $SHIM ]]; then
		LAB_MISSING="needs the shim: $SHIM"
	fi
	[[ $LAB_MISSING ]] || lab_up
}

teardown_file() { lab_down; }

setup() { lab_setup; }

lab_setup() {
	exec </dev/null
	[[ ! $LAB_MISSING ]] || missing "$LAB_MISSING"
	ID=c$BATS_TEST_NUMBER
	LOG_START=$(wc -l <"$LAB/containerd.log")
}

teardown() { lab_teardown; }

reset() { lab_reset; } # after a failed test

lab_teardown() {
	local wrong=0
	[[ ! $LAB_MISSING ]] || return 0
	if [[ ${BATS_TEST_COMPLETED:-} ]]; then
		nothing_left || wrong=1
	else
		wrong=1
		leftovers || :
	fi
	if [[ ${EVENTS_PID:-} ]]; then
		events_stop
	fi
	if ((wrong)); then
		say "--- containerd's log of this test:"
		tail -n "+$((LOG_START + 1))" "$LAB/containerd.log" |
			grep -v 'msg="loading plugin' | cut -c 1-300 | tail -n 12 >&2 || :
		reset
		[[ ! ${BATS_TEST_COMPLETED:-} ]] || fail "something was left behind"
	fi
}

if [[ ${BASH_SOURCE[0]} == "$0" && ${1:-} == guard ]]; then
	lab_guard "${@:2}"
fi
