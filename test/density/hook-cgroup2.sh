# SPDX-License-Identifier: Apache-2.0
#
# example for --hook: a functional smoke test of a shim on cgroup v2, run inside the guest
# after the density run.  /etc/density.conf is already loaded by the caller's shell; reload it.
. /etc/density.conf
# --no-pivot and --runc-binary are options of one message, and ctr sends either
if [ $PIVOT = no ]; then HOW=--no-pivot; else HOW="--runc-binary $OCI"; fi
T="timeout $GUARD"
ok() { echo "ok   $*"; }; no() { echo "FAIL $*"; }
run() { $T ctr run --runtime $RTNAME $HOW "$@"; }
# is COMMAND true, be it later?
soon() { n=0; until "$@" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt $((GUARD * 5)) ] || return 1; sleep 0.2; done; }
state() { ctr t ls | awk '$1=="h2"{print $3}'; }
# 1 output and exit status
o=$(run --rm local/sleep:1 h1 /bin/sh -c 'echo hello; exit 7' 2>&1); r=$?
[ "$o" = hello ] && [ $r = 7 ] && ok "stdout and exit status 7" || no "stdout/exit: '$o' rc=$r"
# 2 limits land in the cgroup
run -d --memory-limit 8388608 local/sleep:1 h2 /bin/sleep 1000 </dev/null >/dev/null 2>&1 || no "run h2"
init=$(ctr t ls | awk '$1=="h2"{print $2}')
cg=/sys/fs/cgroup$(sed 's/^0:://' /proc/$init/cgroup)
[ "$(cat $cg/memory.max)" = 8388608 ] && ok "memory.max in $cg" || no "memory.max"
# 3 metrics
$T ctr t metrics h2 >/tmp/m 2>&1 && grep -q memory /tmp/m && ok "metrics: $(grep -c . /tmp/m) lines, $(grep -E '^memory.usage ' /tmp/m | tr -s ' ')" || no "metrics: $(tail -n 1 /tmp/m)"
# 4 pause, resume
$T ctr t pause h2 && [ "$(cat $cg/cgroup.freeze)" = 1 ] && ok "pause: $(state)" || no pause
$T ctr t resume h2 && [ "$(cat $cg/cgroup.freeze)" = 0 ] && ok resume || no resume
# 5 exec
o=$($T ctr t exec --exec-id e1 h2 /bin/sh -c 'echo in; exit 3' 2>&1); r=$?
[ "$o" = in ] && [ $r = 3 ] && ok "exec, exit status 3" || no "exec: '$o' rc=$r"
# 6 OOM: event seen, status 137
ctr events >/tmp/ev 2>&1 & E=$!
flows() { ctr namespaces label default seen=$n && grep /namespaces/update /tmp/ev; }
soon flows || no "no events"
run --memory-limit 4194304 local/sleep:1 h3 /bin/sh -c 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done' </dev/null >/tmp/o 2>&1; r=$?
# an exec's, while the container itself lives; and the shim sleeps again
$T ctr t exec --exec-id e2 h2 /bin/sh -c 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done' </dev/null >/tmp/o 2>&1; r2=$?
told() { grep "/tasks/$1 .*\"$2\"" /tmp/ev; }
soon told oom h2 && [ "$(state)" = RUNNING ] && ok "oom event of an exec, rc=$r2" || no "no oom event of an exec, rc=$r2"
soon told oom h3 && ok "oom event, rc=$r" || no "no oom event, rc=$r"
soon told exit h3 && ok "exit event" || no "no exit event"
kill $E
shim=$(awk '/^PPid/{print $2}' /proc/$init/status)
woken() { awk '/^(non)?voluntary_ctxt/{n+=$2} END{print n}' /proc/$shim/status; }
sleeps() { w=$(woken); sleep 3; [ "$(woken)" = "$w" ]; }
soon sleeps && ok "no wake-up in 3 s" || no "woken: $w, then $(woken)"
# 7 kill and delete; the shim is gone
$T ctr t kill -s KILL h2; stopped() { [ "$(state)" = STOPPED ]; }; soon stopped
$T ctr t rm h2 >/dev/null 2>&1; $T ctr c rm h2; $T ctr t rm h3 2>/dev/null; $T ctr c rm h3 2>/dev/null
soon [ ! -d $cg ] && ok "cgroup removed" || no "cgroup of h2 left"
soon [ ! -e /run/containerd/io.containerd.runtime.v2.task/default/h2 ] && ok "bundle removed" || no "bundle left"
