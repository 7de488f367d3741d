#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# daemon.bats - what a daemon costs, how the binary is built, how it is installed.

load lib

PRIVATE_MAX_KB=${PRIVATE_MAX_KB:-32} # idle
PSS_MAX_KB=${PSS_MAX_KB:-40}
TABLES_MAX_KB=${TABLES_MAX_KB:-48}
IDLE_VSZ_MAX_KB=${IDLE_VSZ_MAX_KB:-1024}
VSZ_MAX_KB=${VSZ_MAX_KB:-2048} # at work
SIZE_MAX=${SIZE_MAX:-131072}

note() { echo "# $*" >&3; }

@test "idle with one container: one thread, little memory, no wake-ups" {
	local pid kb pss tables vsz
	ctr_run -d "$ID-other" sleep 1000 # shares the text, see private()
	ctr_run -d "$ID" sleep 1000
	pid=$(shim_pid "$ID")
	is_go || wait_for sleeps "$pid" 3
	kb=$(private "$pid") pss=$(memory "$pid" Pss) tables=$(status_of "$pid" VmPTE)
	vsz=$(status_of "$pid" VmSize)
	note "private $kb KiB ($(dirty "$pid") dirty), PSS $pss KiB," \
		"RSS $(memory "$pid" Rss) KiB, VSZ $vsz KiB, page tables $tables KiB," \
		"$(status_of "$pid" Threads) thread(s), $(fd_count "$pid") files," \
		"binary $(stat -Lc %s "$SHIM") bytes"
	ctr_rm "$ID" "$ID-other"
	not_for_go "has no such limits"
	not_sanitized "much memory"
	((kb <= PRIVATE_MAX_KB)) || fail "private memory: $kb KiB, limit $PRIVATE_MAX_KB"
	((pss <= PSS_MAX_KB)) || fail "PSS: $pss KiB, limit $PSS_MAX_KB"
	((tables <= TABLES_MAX_KB)) || fail "page tables: $tables KiB, limit $TABLES_MAX_KB"
	((vsz <= IDLE_VSZ_MAX_KB)) || fail "VSZ: $vsz KiB, limit $IDLE_VSZ_MAX_KB"
}

@test "one thread and little address space, at work too" {
	not_for_go "has many"
	local pid vsz
	gated "$ID" 'head -c 10485760 /dev/zero'
	pid=$(shim_pid "$ID")
	equal 1 "$(status_of "$pid" Threads)" threads
	feed "$GATE"
	bounded head -c 1000000 <&"$OUT" >/dev/null
	equal 1 "$(status_of "$pid" Threads)" threads
	vsz=$(status_of "$pid" VmSize)
	bounded cat <&"$OUT" >/dev/null
	ctr_rm "$ID"
	not_sanitized "much address space"
	((vsz <= VSZ_MAX_KB)) || fail "VSZ: $vsz KiB"
}

@test "memory returns to where it was after ten MiB of output and a hundred calls" {
	not_for_go "grows"
	not_sanitized "memory of the sanitizers"
	local pid before i pids
	gated "$ID" 'head -c 10485760 /dev/zero; sleep 1000'
	pid=$(shim_pid "$ID")
	before=$(dirty "$pid")
	feed "$GATE"
	bounded head -c 10485760 <&"$OUT" >/dev/null
	for ((i = 0; i < 20; i++)); do
		pids=()
		for _ in {1..5}; do
			ctr task ps "$ID" >/dev/null &
			pids+=($!)
		done
		all_well "${pids[@]}"
	done
	settled() { (($(dirty "$pid") <= before + 4)); }
	wait_for settled
	ctr_rm "$ID"
}

@test "oom_score_adj is containerd's plus one" {
	local own
	own=$(<"/proc/$(<"$LAB/containerd.pid")/oom_score_adj")
	((own < 1000)) || own=999
	ctr_run -d "$ID" sleep 1000
	equal $((own + 1)) "$(<"/proc/$(shim_pid "$ID")/oom_score_adj")" oom_score_adj
	ctr_rm "$ID"
}

@test "the binary: small, static, position independent, hardened, stripped" {
	not_for_go "is none of that"
	not_sanitized "another binary"
	local head dynamic
	head=$(readelf -hlW "$SHIM")
	dynamic=$(readelf -dW "$SHIM")
	(($(stat -Lc %s "$SHIM") <= SIZE_MAX)) || fail "size: $(stat -Lc %s "$SHIM") > $SIZE_MAX"
	contains "$head" 'Type: +DYN'
	contains "$head" 'GNU_RELRO'
	contains "$head" 'GNU_STACK .* RW +0x'
	contains "$dynamic" 'FLAGS_1.* NOW.* PIE|FLAGS_1.* PIE.* NOW'
	refuse grep -q INTERP <<<"$head"
	refuse grep -q NEEDED <<<"$dynamic"
	refuse grep -Eq 'LOAD .* RWE ' <<<"$head"
	refuse grep -q '\.symtab' <<<"$(readelf -SW "$SHIM")"
	refuse grep -qF "$ROOT" "$SHIM"
}

@test "make install puts one binary and links into DESTDIR" {
	not_for_go "is installed by others"
	local dest=$LAB/dest bin=$LAB/dest/opt/x/bin name files
	make -C "$ROOT" install DESTDIR="$dest" PREFIX=/opt/x >"$LAB/make.log" 2>&1 ||
		fail "$(<"$LAB/make.log")"
	mapfile -t files < <(find "$bin" -type f)
	equal "$bin/nanoshim" "${files[*]}" "regular files in bin"
	cmp "$bin/nanoshim" "$ROOT/build/nanoshim"
	for name in containerd-shim-{runc,crun,nano}-v2 containerd-shim-runc-v1; do
		[[ $bin/$name -ef $bin/nanoshim ]] || fail "no link: $name"
		[[ $(readlink "$bin/$name") != /* ]] || fail "absolute link: $name"
	done
	contains "$("$bin/containerd-shim-runc-v2" -v)" 'Version: +.'
	# Once more, over what is there.
	make -C "$ROOT" install DESTDIR="$dest" PREFIX=/opt/x >/dev/null
}
