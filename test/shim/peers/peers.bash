# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034 # ID, output and status are for the tests
#
# peers.bash - the laboratory of ../lib.bash with other releases of everything around the shim.
#
# Environment: PEER (1.6, which is the machine's own containerd, 1.7 or 2.x),
# RUNTIME (runc, crun, runc-new, crun-new); both have a default in each file. test/peers fetches
# what is named here.

load ../lib

PEERS=$ROOT/build/peers
HERE=$ROOT/test/shim/peers

# Every containerd from here on is of this release.
use_peer() { # 1.6, 1.7 or 2.x
	CONTAINERD=containerd CTR=ctr
	if [[ $1 != 1.6 ]]; then
		CONTAINERD=$PEERS/$1/usr/bin/containerd CTR=$PEERS/$1/usr/bin/ctr
	fi
	export CONTAINERD CTR PEER=$1
}

use_runtime() { # NAME
	RUNTIME=$1
	if [[ $1 == *-new ]]; then
		RUNTIME=$PEERS/$1/bin/${1%-new}
	fi
	export RUNTIME
}

# For setup_file: says in LAB_MISSING what test/peers has not fetched.
peers_missing() { # PEER...
	local peer
	export LAB_MISSING=${LAB_MISSING:-}
	for peer; do
		if [[ $peer != 1.6 && ! -e $PEERS/$peer/.stamp ]]; then
			LAB_MISSING="needs build/peers/$peer: test/peers"
			return 1
		fi
	done
}

# For setup_file: a laboratory with these peers, or the reason why there is none.
peers_up() { # PEER...
	peers_missing "$@" || return 0
	if (($(id -u) != 0)); then
		LAB_MISSING="needs root"
	elif [[ ! -x $SHIM ]]; then
		LAB_MISSING="needs the shim: $SHIM"
	else
		lab_up
	fi
}

# Newer crun keeps a hidden, empty directory among its containers' states.
eval "every_$(declare -f leftovers)"
leftovers() { every_leftovers | grep -v '/\.empty-directory$' || :; }

terminal() { timeout --foreground -s KILL 120 "$HERE/terminal.py" "$@"; }

# ctr for programs, which cannot call a function; and the options that choose the runtime.
ctr_words() {
	CTR_WORDS=(nsenter --mount="$LAB_MNT" -- "$CTR" -a "$LAB/c.sock" -n "$NS")
	OPTS=()
	[[ $RUNTIME == runc ]] || OPTS=(--runc-binary "$RUNTIME")
}

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
	wait_for 30 size_is "$file" "$bytes"
	exec 7>&-
	wait "$pid"
}

size_is() { [[ -e $1 && $(stat -c %s "$1") == "$2" ]]; } # FILE BYTES

exec_says() { # LINE [OPTION...] ID SCRIPT
	local line=$1 script=${*: -1}
	shift
	heard "$LAB/said" $((${#line} + 1)) ctr_exec "${@:1:$#-1}" sh -c "$script; read -r x; :"
	equal "$line" "$(<"$LAB/said")" output
}

exits_with() { # CODE COMMAND...
	local want=$1 got=0
	shift
	"$@" || got=$?
	equal "$want" "$got" "exit code of $*"
}
