# SPDX-License-Identifier: Apache-2.0
#
# example for --hook: cost of K idle copies of a tiny program, user and kernel memory per process.
# Put the programs into the guest with --extra HOSTFILE:/t/NAME; each is run as
#   NAME /run/s/I /bin/true   (socket path, program to start once)
K=${K:-100}
m() { sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; echo 3 >/proc/sys/vm/drop_caches
  awk '{sub(":","",$1); v[$1]=$2} END{print v["MemFree"],v["AnonPages"],v["Slab"],v["KernelStack"],v["PageTables"],v["Percpu"]}' /proc/meminfo; }
mkdir -p /run/s
for b in /t/*; do
  # one round not counted, so that slab caches have their partial pages
  for r in 1 2; do
    a=$(m); i=0; p=
    while [ $i -lt $K ]; do i=$((i+1)); $b /run/s/$i /bin/true </dev/null >/dev/null 2>&1 & p="$p $!"; done
    sleep 4; z=$(m); set -- $p; n=0; for q in $p; do [ -d /proc/$q ] && n=$((n+1)); done
    u=$(awk '/^(Private_Dirty|Rss|Pss):/{printf "%s%s ",$1,$2}' /proc/$1/smaps_rollup)
    kill -TERM $p; wait $p; rm -f /run/s/*; sleep 1
  done
  echo "$b alive=$n $u| kB per copy: $(echo "$a $z" | awk -v k=$K '{printf "MemFree %.1f = anon %.1f + slab %.1f + kstack %.1f + pagetables %.1f + percpu %.1f + other %.1f",($1-$7)/k,($8-$2)/k,($9-$3)/k,($10-$4)/k,($11-$5)/k,($12-$6)/k,(($1-$7)-($8-$2)-($9-$3)-($10-$4)-($11-$5)-($12-$6))/k}')"
done
