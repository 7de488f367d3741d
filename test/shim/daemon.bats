#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# daemon.bats - what a daemon costs, how the binary is built, how it is installed.

load lib

PRIVATE_MAX_KB=${PRIVATE_MAX_KB:-64}
VSZ_MAX_KB=${VSZ_MAX_KB:-2048}
SIZE_MAX=${SIZE_MAX:-163840}

note() { echo "# $*" >&3; }

@test "idle with one container: one thread, little memory, no wake-ups" {
	local pid kb
	ctr_run -d "$ID" sleep 1000
	pid=$(shim_pid "$ID")
	quiet() { # for a second it does not run at all
		local before
		before=$(grep ctxt_switches "/proc/$pid/status")
		sleep 1
		[[ $(grep ctxt_switches "/proc/$pid/status") == "$before" ]]
	}
	is_go || wait_for 20 quiet
	kb=$(private "$pid")
	note "private $kb KiB, PSS $(memory "$pid" Pss) KiB, RSS $(memory "$pid" Rss) KiB," \
		"VSZ $(status_of "$pid" VmSize) KiB, $(status_of "$pid" Threads) thread(s)," \
		"$(fd_count "$pid") files, binary $(stat -Lc %s "$SHIM") bytes"
	ctr_rm "$ID"
	not_for_go "has no such limits"
	((kb <= PRIVATE_MAX_KB)) || fail "private memory: $kb KiB, limit $PRIVATE_MAX_KB"
}

@test "one thread, at work too" {
	not_for_go "has many"
	local pid
	ctr_run -d "$ID" sh -c 'while :; do echo some output; done'
	pid=$(shim_pid "$ID")
	equal 1 "$(status_of "$pid" Threads)" threads
	timeout 20 head -c 1000000 "$(find "$LAB/run/containerd/fifo" -name "$ID-stdout")" >/dev/null
	ctr task ps "$ID" >/dev/null
	equal 1 "$(status_of "$pid" Threads)" threads
	(($(status_of "$pid" VmSize) <= VSZ_MAX_KB)) || fail "VSZ: $(status_of "$pid" VmSize) KiB"
	ctr_rm "$ID"
}

@test "memory returns to where it was after ten MiB of output and a hundred calls" {
	not_for_go "grows"
	local pid before i
	ctr_run -d --fifo-dir "$LAB/fifo" "$ID" sh -c 'head -c 10485760 /dev/zero; sleep 1000'
	pid=$(shim_pid "$ID")
	before=$(private "$pid")
	timeout 20 head -c 10485760 "$(find "$LAB/fifo" -name "$ID-stdout")" >/dev/null
	for i in {1..100}; do
		ctr task ps "$ID" >/dev/null
	done
	settled() { (($(private "$pid") <= before + 4)); }
	wait_for 10 settled
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
	local dest=$LAB/dest name files
	make -C "$ROOT" --no-print-directory install DESTDIR="$dest" PREFIX=/opt/x >"$LAB/make.log" 2>&1 ||
		fail "$(<"$LAB/make.log")"
	mapfile -t files < <(find "$dest" -type f)
	equal "$dest/opt/x/bin/nanoshim" "${files[*]}" "regular files"
	cmp "$dest/opt/x/bin/nanoshim" "$ROOT/build/nanoshim"
	for name in containerd-shim-{runc,crun,nano}-v2 containerd-shim-runc-v1; do
		[[ "$dest/opt/x/bin/$name" -ef "$dest/opt/x/bin/nanoshim" ]] || fail "no link: $name"
		[[ $(readlink "$dest/opt/x/bin/$name") != /* ]] || fail "absolute link: $name"
	done
	contains "$("$dest/opt/x/bin/containerd-shim-runc-v2" -v)" 'Version: +.'
	# Once more, over what is there.
	make -C "$ROOT" --no-print-directory install DESTDIR="$dest" PREFIX=/opt/x >/dev/null
}
