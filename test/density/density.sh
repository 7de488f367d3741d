#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# density.sh - boot a small QEMU guest (TCG, no KVM), run real containerd with a given
# shim binary, start N containers of `sleep`, and print what each one costs in memory.
# Everything comes from Debian packages; nothing outside --work is written.
# See README for usage.  Exit: 0 ok, 1 usage/host error, 2 guest step failed,
# 3 guest hung or total time ran out, 4 kernel panic / guest died, 5 done, but with OOM kills.
set -u
shopt -s nullglob

SHIM=                                   # path, or "none" = OCI runtime alone (floor)
RTNAME=io.containerd.runc.v2            # containerd runtime name; decides the binary's name
MEM=128; N=10; SMP=1
OCI=runc                                # runc | crun | path to a runc-compatible binary; a list: "crun,runc"
ROOTMODE=disk                           # disk | initramfs | initramfs-bind | initramfs-tmpfs
CGROUP=v2                               # v2 | v1
IO=fifo                                 # fifo | null | file
PIVOT=auto                              # auto | yes | no   (no => ctr run --no-pivot)
KDIR=                                   # folder with an unpacked linux-image deb
WORK=/tmp/density.work
LIMIT=540; STALL=150                    # seconds: whole run; longest wait for the next marker, or in the guest
CTRD=; CTR=; BUSYBOX=
ARCH=amd64; SYSROOT=                     # arm64: a folder with that arch's debs unpacked (getroot.sh)
EVERY=1; CAP=0; HOOK=; CLEANUP=0; KEEP=0; CPU=; IMGBIN=; APPEND=; WARM=1
EXTRA=(); ENVS=(); CTDLOG=warn

RAMFS=
die() { echo "density: $*" >&2; exit 1; }
usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; grep -oE '^    --[a-z-]+\)? *' "$0" | tr -d ')' | tr '\n' ' '; echo; exit 1; }
while [ $# -gt 0 ]; do
  o=$1; shift
  case $o in
    --cleanup) CLEANUP=1; continue;; --capacity) CAP=1; continue;; --keep) KEEP=1; continue;; -h|--help) usage;;
  esac
  [ $# -gt 0 ] || die "$o needs a value (try --help)"
  v=$1; shift
  case $o in
    --shim) SHIM=$v;;
    --runtime) RTNAME=$v;;
    --mem) MEM=$v;;
    --n) N=$v;;
    --smp) SMP=$v;;
    --oci) OCI=$v;;
    --root) ROOTMODE=$v;;
    --cgroup) CGROUP=$v;;
    --io) IO=$v;;
    --pivot) PIVOT=$v;;
    --kernel-dir) KDIR=$v;;
    --work) WORK=$v;;
    --limit) LIMIT=$v;;
    --stall) STALL=$v;;
    --hook) HOOK=$v;;
    --extra) EXTRA+=("$v");;
    --env) ENVS+=("$v");;
    --cpu) CPU=$v;;
    --image-bin) IMGBIN=$v;;
    --append) APPEND=$v;;
    --containerd) CTRD=$v;;
    --ctr) CTR=$v;;
    --warm) WARM=$v;;
    --every) EVERY=$v;;
    --arch) ARCH=$v;;
    --sysroot) SYSROOT=$v;;
    --ctd-log) CTDLOG=$v;;
    *) die "unknown option $o (try --help)";;
  esac
done

case $ARCH in
  # cx16=off: QEMU 7.2's cmpxchg16b sometimes breaks the guest's slab allocator (double faults)
  amd64) QEMU=qemu-system-x86_64; QPKG=qemu-system-x86; MACH=pc; : "${CPU:=max,la57=off,cx16=off}"; CON=ttyS0; DEV=/dev/ttyS1;;
  arm64) QEMU=qemu-system-aarch64; QPKG=qemu-system-arm; MACH=virt; : "${CPU:=cortex-a72}"; CON=ttyAMA0; DEV=/dev/ttyAMA0
         [ -n "$SYSROOT" ] || die "arm64 needs --sysroot (see getroot.sh)"; : "${KDIR:=$SYSROOT}";;
  *) die "arch $ARCH: amd64 or arm64";;
esac
: "${SHIM:=$SYSROOT/usr/bin/containerd-shim-runc-v2}" "${CTRD:=$SYSROOT/usr/bin/containerd}" "${CTR:=$SYSROOT/usr/bin/ctr}"
if [ -n "$SYSROOT" ]; then BUSYBOX=$SYSROOT/bin/busybox; else BUSYBOX=$(command -v busybox); fi
: "${IMGBIN:=$BUSYBOX}"

# ---- host tools and kernel ---------------------------------------------------------
for t in $QEMU:$QPKG cpio:cpio mksquashfs:squashfs-tools busybox:busybox-static; do
  command -v "${t%%:*}" >/dev/null || die "missing ${t%%:*}: apt-get install --no-install-recommends ${t##*:}"
done
mkdir -p "$WORK" && WORK=$(cd "$WORK" && pwd) || exit 1
if [ -z "$KDIR" ]; then
  KDIR=$WORK/kernel
  exec 8>"$WORK/.lock"; flock 8
  if [ ! -d "$KDIR" ]; then
    p=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/{print $2; exit}')
    [ -n "$p" ] || die "no linux-image-cloud-amd64 known: apt-get update"
    (mkdir -p "$WORK/dl" && cd "$WORK/dl" && apt-get -q download "$p" >/dev/null) || die "download of $p failed"
    dpkg -x "$WORK/dl/$p"_*.deb "$KDIR.new" && mv "$KDIR.new" "$KDIR" || die "unpack failed"
  fi
  exec 8>&-
fi
KIMG=("$KDIR"/boot/vmlinuz-* "$KDIR"/usr/lib/modules/*/vmlinuz*); KIMG=${KIMG[0]:-}
MODS=("$KDIR"/lib/modules/*/ "$KDIR"/usr/lib/modules/*/); MODS=${MODS[0]:-}
[ -f "$KIMG" ] && [ -d "$MODS" ] || die "no kernel under $KDIR"

OCIBINS=()
for o in ${OCI//,/ }; do
  case $o in runc) o=$SYSROOT/usr/sbin/runc;; crun) o=$SYSROOT/usr/bin/crun;; esac
  OCIBINS+=("$o")
done
OCIBIN=${OCIBINS[0]:-}
for f in "${OCIBINS[@]}" "$CTRD" "$CTR" "$IMGBIN"; do [ -x "$f" ] || die "not there: $f"; done
SHIMNAME=none
if [ "$SHIM" != none ]; then
  [ -x "$SHIM" ] || die "no shim binary at $SHIM"
  # io.containerd.NAME.VERSION -> containerd-shim-NAME-VERSION (containerd's rule)
  SHIMNAME=containerd-shim-$(awk -F. '{print $(NF-1) "-" $NF}' <<<"$RTNAME")
fi
[ "$PIVOT" = auto ] && { [ "$ROOTMODE" = initramfs ] && PIVOT=no || PIVOT=yes; }

RUN=$(mktemp -d "$WORK/run.XXXXXX") || exit 1
QPID=
finish() { [ -n "$QPID" ] && kill -9 "$QPID" 2>/dev/null; [ $KEEP = 1 ] && echo "kept: $RUN" || rm -rf "$RUN"; }
trap finish EXIT
trap 'exit 1' INT TERM

# ---- guest tree --------------------------------------------------------------------
R=$RUN/root
mkdir -p "$R"/{bin,sbin,usr/bin,usr/sbin,lib,lib64,etc/containerd,proc,sys,dev,run,var,tmp,img,new}
put() { # put HOSTFILE GUESTPATH: the file and the shared libraries it names
  local l
  mkdir -p "$R$(dirname "$2")"; cp -L "$1" "$R$2" || exit 1
  chmod +x "$R$2"
  if [ -z "$SYSROOT" ]; then
    ldd "$1" 2>/dev/null | awk '$2=="=>"&&$3~/^\//{print $3} $1~/^\/lib/{print $1}' | while read -r l; do
      [ -e "$R$l" ] || { mkdir -p "$R$(dirname "$l")"; cp -L "$l" "$R$l"; }
    done
  else sysput "$1"; fi
}
sysput() { # the same from a sysroot: names from readelf, files by name
  local n f
  for n in $(readelf -ldW "$1" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p; s/.*program interpreter: \(.*\)\]/\1/p'); do
    f=$(find "$SYSROOT/lib" "$SYSROOT/usr/lib" -name "${n##*/}" \( -type f -o -type l \) | head -n1)
    [ -n "$f" ] || { echo "density: $n not in $SYSROOT" >&2; continue; }
    case $n in /*) ;; *) n=/lib/$n;; esac
    [ -e "$R$n" ] || { mkdir -p "$R${n%/*}"; cp -L "$f" "$R$n"; sysput "$f"; }
  done
}
put "$BUSYBOX" /bin/busybox
for a in $(busybox --list); do [ "$a" = busybox ] || ln -sf /bin/busybox "$R/bin/$a"; done
put "$CTRD" /usr/bin/containerd; put "$CTR" /usr/bin/ctr
for f in "${OCIBINS[@]}"; do put "$f" "/usr/sbin/$(basename "$f")"; done
# the shim's default is "runc" from PATH; and `ctr run --no-pivot` drops --runc-binary
# (its task options replace the runtime options), so another runtime goes by that name
[ "$(basename "$OCIBIN")" = runc ] || ln -s "/usr/sbin/$(basename "$OCIBIN")" "$R/usr/bin/runc"
[ "$SHIM" = none ] || put "$SHIM" "/usr/bin/$SHIMNAME"
for e in ${EXTRA[@]+"${EXTRA[@]}"}; do put "${e%%:*}" "${e##*:}"; done
[ -z "$HOOK" ] || { cp "$HOOK" "$R/hook.sh" || exit 1; }
echo 'root:x:0:0:root:/:/bin/sh' >"$R/etc/passwd"; echo 'root:x:0:' >"$R/etc/group"
cat >"$R/etc/containerd/config.toml" <<'X'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
 "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs",
 "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.native",
 "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
 "io.containerd.internal.v1.tracing", "io.containerd.internal.v1.restart"]
X

# ---- a one-layer OCI image, as a tar -------------------------------------------------
I=$RUN/oci; mkdir -p "$I/blobs/sha256" "$RUN/layer"/{bin,proc,sys,dev,tmp,etc}
cp -L "$IMGBIN" "$RUN/layer/bin/sleep"; [ -e "$RUN/layer/bin/sh" ] || ln -s sleep "$RUN/layer/bin/sh"
tar --owner=0 --group=0 --mtime=@0 --sort=name -C "$RUN/layer" -cf "$RUN/l.tar" .
blob() { local d; d=$(sha256sum <"$1"); d=${d%% *}; mv "$1" "$I/blobs/sha256/$d"; echo "$d"; }
ls_=$(stat -c %s "$RUN/l.tar"); ld=$(blob "$RUN/l.tar")
printf '{"architecture":"'$ARCH'","os":"linux","config":{"Cmd":["/bin/sleep","1000000"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$ld" >"$RUN/c"
cs=$(stat -c %s "$RUN/c"); cd_=$(blob "$RUN/c")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}' "$cd_" "$cs" "$ld" "$ls_" >"$RUN/m"
ms=$(stat -c %s "$RUN/m"); md=$(blob "$RUN/m")
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"annotations":{"io.containerd.image.name":"local/sleep:1","org.opencontainers.image.ref.name":"1"},"platform":{"architecture":"'$ARCH'","os":"linux"}}]}' "$md" "$ms" >"$I/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$I/oci-layout"
tar -C "$I" -cf "$R/img/image.tar" oci-layout index.json blobs
cp -a "$RUN/layer" "$R/img/rootfs"

# ---- kernel modules, in load order ---------------------------------------------------
M=$RUN/mod; mkdir -p "$M"; ORDER=
addmod() { # follow depends= in the module itself: no depmod needed
  local m=${1//-/_} f d k="[-_]"
  case " $ORDER " in *" $m "*) return;; esac
  f=$(find "$MODS" -name "${m//_/$k}.ko*" | head -n1)
  [ -n "$f" ] || return 0            # built in
  case $f in *.xz) xz -dc "$f" >"$M/$m.ko";; *.zst) zstd -qdc "$f" >"$M/$m.ko";; *) cp "$f" "$M/$m.ko";; esac
  for d in $(tr '\0' '\n' <"$M/$m.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do addmod "$d"; done
  ORDER="$ORDER $m"
}
addmod overlay
[ "$ROOTMODE" = disk ] && { addmod virtio_pci; addmod virtio_blk; addmod squashfs; }

# ---- the guest's programs ------------------------------------------------------------
cat >"$R/etc/density.conf" <<X
DEV=$DEV; N=$N; RTNAME=$RTNAME; SHIMNAME=$SHIMNAME; CGROUP=$CGROUP; IO=$IO; PIVOT=$PIVOT; CLEANUP=$CLEANUP; WARM=$WARM; EVERY=$EVERY; CAP=$CAP; CTDLOG=$CTDLOG; GUARD=$STALL
OCIBINS="${OCIBINS[*]##*/}"
$(for e in ${ENVS[@]+"${ENVS[@]}"}; do printf 'export %q\n' "$e"; done)
X
cat >"$RUN/init" <<'X'
#!/bin/busybox sh
# first process: load modules, put the real root in place
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
b=/bin/busybox; DEV=@DEV@
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in @ORDER@; do $b insmod /mod/$m.ko || echo "@@fail insmod $m" >$DEV; done
$b rm -rf /mod
case @ROOTMODE@ in
disk)
  n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do $b sleep 0.1; n=$((n+1)); done
  $b mount -t squashfs -o ro /dev/vda /new || { echo "@@fail mount /dev/vda" >$DEV; $b reboot -f; }
  for d in proc sys dev; do $b mount --move /$d /new/$d; done
  exec $b switch_root /new /bin/sh /guest.sh;;
initramfs)
  exec $b sh /guest.sh;;
initramfs-bind)   # a bind of / on top of / gives the root mount a parent: pivot_root works
  $b mount --rbind / /new && cd /new && $b mount --move . / && exec $b chroot . /bin/sh /guest.sh;;
initramfs-tmpfs)  # the usual way: move the files into a tmpfs, then switch_root
  $b mount -t tmpfs -o size=95%,mode=755 tmpfs /new
  for d in bin sbin usr lib lib64 etc img guest.sh hook.sh; do [ -e /$d ] && [ $d != bin ] && $b mv /$d /new/; done
  $b cp -a /bin /new/; $b mkdir -p /new/proc /new/sys /new/dev /new/run /new/var /new/tmp
  for d in proc sys dev; do $b mount --move /$d /new/$d; done
  exec $b switch_root /new /bin/sh /guest.sh;;
esac
X
sed -i "s|@ORDER@|$ORDER|; s|@ROOTMODE@|$ROOTMODE|; s|@DEV@|$DEV|" "$RUN/init"; chmod +x "$RUN/init"
cat >"$R/guest.sh" <<'X'
#!/bin/sh
# runs in the guest as process 1; every line for the host starts with @@ and goes to ttyS1
export PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/ TMPDIR=/tmp
. /etc/density.conf
say() { read up _ </proc/uptime; echo "@@$* t=$up" >$DEV; }
off() { sync; reboot -f; sleep 60; }
bad() { say "fail $*"; [ -f /run/containerd.log ] && grep -v level=info /run/containerd.log | tail -n 10 | cut -c1-400 | sed 's/^/@@log /' >$DEV; off; }
say init
grep -q ' /run ' /proc/mounts || mount -t tmpfs -o mode=755 run /run
mount -t tmpfs var /var; mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /dev/shm /dev/mqueue; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
ip link set lo up
if [ $CGROUP = v2 ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  for c in memory pids cpu io cpuset hugetlb; do echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done 2>/dev/null
  say cgroup $(tr ' ' , </sys/fs/cgroup/cgroup.subtree_control)
else
  mount -t tmpfs -o mode=755 cg /sys/fs/cgroup
  for c in memory pids cpu cpuacct blkio cpuset devices freezer; do
    mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c cg /sys/fs/cgroup/$c || rmdir /sys/fs/cgroup/$c; done 2>/dev/null
  say cgroup v1:$(ls /sys/fs/cgroup | tr '\n' ,)
fi
say kernel $(uname -r)
mem() { # one line of figures; caches dropped first.  $1 = label
  sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; echo 3 >/proc/sys/vm/drop_caches
  a=$(awk '/^(MemTotal|MemFree|MemAvailable|AnonPages|Shmem|Mapped|Slab|SUnreclaim|KernelStack|PageTables|Percpu|Cached):/{sub(":","",$1); printf "%s=%s ",$1,$2}' /proc/meminfo)
  c=0; [ -n "$CPID" ] && c=$(awk '/^Anonymous/{print $2}' /proc/$CPID/smaps_rollup)
  say "mem $1 $a ctd=${c:-0}"
}
CPID=
mem boot
cont() { # cont ID: start one container
  if [ $SHIMNAME = none ]; then
    b=/run/b/$1; mkdir -p $b/rootfs $b/u $b/w
    mount -t overlay overlay -o lowerdir=/img/rootfs,upperdir=$b/u,workdir=$b/w $b/rootfs || return 1
    sed "s|@ID@|$1|" /run/spec.json >$b/config.json
    np=; [ $PIVOT = no ] && np=--no-pivot
    timeout $GUARD runc run -d $np -b $b $1 </dev/null >/dev/null 2>/run/err
  else
    set -- "$1" --runtime $RTNAME
    [ $PIVOT = no ] && set -- "$@" --no-pivot
    case $IO in null) set -- "$@" --null-io;; file) set -- "$@" --log-uri file:///run/$1.log;; esac
    id=$1; shift
    timeout $GUARD ctr run -d "$@" local/sleep:1 $id /bin/sleep 1000000 </dev/null >/dev/null 2>/run/err
  fi
}
up0=$(awk '{print $1}' /proc/uptime)
if [ $SHIMNAME = none ]; then
  ctr oci spec 2>/run/err >/run/s0 || bad "ctr oci spec: $(head -c 200 /run/err)"
  tr -d '\n\t' </run/s0 | sed 's|"args":[^]]*]|"args":["/bin/sleep","1000000"]|; s|"cgroupsPath": *"[^"]*"|"cgroupsPath":"/default/@ID@"|; s|"path": *"rootfs"|"path":"rootfs"|' >/run/spec.json
  grep -q '"args"' /run/spec.json || sed -i 's|"process": *{|"process":{"args":["/bin/sleep","1000000"],|' /run/spec.json
  say ready none
else
  containerd -c /etc/containerd/config.toml -l $CTDLOG >/run/containerd.log 2>&1 & CPID=$!
  n=0; until timeout $GUARD ctr version >/dev/null 2>&1; do
    n=$((n+1)); [ $n -gt $GUARD ] && bad "containerd does not answer"; kill -0 $CPID 2>/dev/null || bad "containerd died"; sleep 0.5; done
  say ready containerd
  timeout $GUARD ctr image import /img/image.tar >/run/err 2>&1 || bad "import: $(tail -c 200 /run/err)"
  say imported
fi
i=0
while [ $i -lt $WARM ]; do # first containers, not counted: page in the binaries, grow heaps
  cont w$i || bad "container w$i: $(tail -c 300 /run/err)"
  i=$((i+1))
done
say warm
mem 0
n=0
while [ $n -lt $N ]; do
  n=$((n+1))
  if ! cont c$n; then
    [ $CAP = 1 ] || bad "container c$n: $(tail -c 300 /run/err)"
    say "capacity $((n-1)) $(tr ' \n' '__' </run/err | tail -c 160)"; n=$((n-1)); mem end; break
  fi
  if [ $((n % EVERY)) = 0 ] || [ $n = $N ]; then mem $n; else say up $n; fi
done
k=0; for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = sleep ] && grep -q 1000000 $p/cmdline 2>/dev/null && k=$((k+1)); done
say running $k
if [ $SHIMNAME != none ]; then
  for p in /proc/[0-9]*; do
    case "$(readlink $p/exe 2>/dev/null)" in */$SHIMNAME)
      t=$(ls $p/task | wc -l); f=$(ls $p/fd | wc -l)
      s=$(awk '/^(Rss|Pss|Private_Dirty|Private_Clean|Anonymous):/{sub(":","",$1); printf "%s=%s ",$1,$2}' $p/smaps_rollup)
      q=$(awk '/^VmPTE/{print $2}' $p/status)
      say "shim pid=${p##*/} $s VmPTE=$q thr=$t fd=$f";;
    esac
  done
  [ $CPID ] && say "ctd $(awk '/^(VmRSS|RssAnon|Threads):/{sub(":","",$1); printf "%s=%s ",$1,$2}' /proc/$CPID/status)"
fi
if [ -f /hook.sh ]; then
  for o in $OCIBINS; do # for each of the runtimes
    say hook $o; { OCI=/usr/sbin/$o sh /hook.sh 2>&1; echo $? >/run/hook.rc; } | while read -r l; do echo "@@out $o: $l" >$DEV; done
    say hookdone $o rc=$(cat /run/hook.rc)
  done
fi
if [ $CLEANUP = 1 ] && [ $SHIMNAME != none ]; then
  for c in $(ctr t ls -q); do timeout $GUARD ctr t rm -f $c >/dev/null 2>&1 || say "warn rm $c failed"; timeout $GUARD ctr c rm $c >/dev/null 2>&1; done
  sleep 1; k=0; for p in /proc/[0-9]*; do case "$(readlink $p/exe 2>/dev/null)" in */$SHIMNAME) k=$((k+1));; esac; done
  say "cleaned shims_left=$k"; mem end
fi
[ -s /run/containerd.log ] && grep -E 'level=(error|fatal|panic)' /run/containerd.log | tail -n 5 | sed 's/^/@@log /' >$DEV
say done
off
X
# ---- images ----------------------------------------------------------------------------
QD=()
if [ "$ROOTMODE" = disk ]; then
  mksquashfs "$R" "$RUN/root.sqfs" -noI -noD -noF -noX -no-progress -quiet >/dev/null || die "mksquashfs failed"
  S=$RUN/small; mkdir -p "$S"/{bin,proc,sys,dev,new}; cp "$R/bin/busybox" "$S/bin/"; ln -s busybox "$S/bin/sh"
  QD=(-drive "file=$RUN/root.sqfs,format=raw,if=none,id=d0,readonly=on" -device virtio-blk-pci,drive=d0)
else
  S=$R; RAMFS=rootfstype=ramfs   # the default, tmpfs, is capped at half of memory
fi
cp -r "$M" "$S/mod"; cp "$RUN/init" "$S/init"
(cd "$S" && find . | cpio -o -H newc --quiet | zstd -q -3 -T0 >"$RUN/initrd.zst") || die "initrd failed"

# ---- boot ------------------------------------------------------------------------------
D=$RUN/data.log; C=$RUN/console.log; : >"$D"; : >"$C"
T0=$(date +%s%N)
now() { echo $(( ($(date +%s%N) - T0) / 1000000 )); }
SER=(-serial "file:$C" -serial "file:$D")
[ "$ARCH" = amd64 ] || { SER=(-serial "file:$C"); D=$C; }
$QEMU -M $MACH -accel tcg,thread=multi -cpu "$CPU" -m "$MEM" -smp "$SMP" -nodefaults -no-user-config \
  -display none -no-reboot -kernel "$KIMG" -initrd "$RUN/initrd.zst" \
  -append "console=$CON loglevel=4 panic=-1 mitigations=off nokaslr random.trust_cpu=1 tsc=reliable no_timer_check rdinit=/init $RAMFS $APPEND" \
  "${QD[@]}" "${SER[@]}" </dev/null >"$RUN/qemu.out" 2>&1 &
QPID=$!
seen=0; last=0; rc=; declare -A AT
while :; do
  ms=$(now)
  mapfile -t -s "$seen" L < <(grep -a '@@' "$D"); 
  for l in ${L[@]+"${L[@]}"}; do
    seen=$((seen+1)); last=$ms; l=${l#*@@}; k=${l%% *}; [ -n "${AT[$k]:-}" ] || AT[$k]=$ms
    case $k in fail) rc=2;; done) rc=0;; esac
  done
  if grep -aqE 'Kernel panic|end Kernel panic' "$C"; then rc=4; sleep 1; break; fi
  if ! kill -0 "$QPID" 2>/dev/null; then
    [ -z "$rc" ] && { grep -aq '@@done' "$D" && rc=0 || { grep -aq '@@fail' "$D" && rc=2 || rc=4; }; }; break; fi
  if [ $ms -gt $((LIMIT*1000)) ]; then rc=3; echo "density: total limit of ${LIMIT}s reached" >&2; break; fi
  if [ $((ms-last)) -gt $((STALL*1000)) ]; then rc=3; echo "density: guest silent for ${STALL}s (last: $(grep -a '@@' "$D" | tail -n1))" >&2; break; fi
  sleep 0.3
done
END=$(now)
kill -9 "$QPID" 2>/dev/null; wait "$QPID" 2>/dev/null; QPID=

# ---- report ----------------------------------------------------------------------------
OOM=$(grep -ac 'Out of memory: Killed\|oom-kill:' "$C")
echo "# shim=$SHIM runtime=$RTNAME oci=$OCI mem=${MEM}M smp=$SMP n=$N root=$ROOTMODE cgroup=$CGROUP io=$IO pivot=$PIVOT"
echo "# kernel $(basename "$KIMG")  initrd $(($(stat -c %s "$RUN/initrd.zst")/1024)) KiB"
echo "# host seconds: init $(awk -v a="${AT[init]:-0}" 'BEGIN{printf "%.1f",a/1000}'), containerd ready $(awk -v a="${AT[ready]:-0}" 'BEGIN{printf "%.1f",a/1000}'), image in $(awk -v a="${AT[imported]:-0}" 'BEGIN{printf "%.1f",a/1000}'), first container $(awk -v a="${AT[warm]:-0}" 'BEGIN{printf "%.1f",a/1000}'), end $(awk -v a=$END 'BEGIN{printf "%.1f",a/1000}')"
tr -d '\r' <"$D" | awk '
function kv(  i,p){ delete V; for(i=1;i<=NF;i++){p=index($i,"="); if(p)V[substr($i,1,p-1)]=substr($i,p+1)} }
!/@@/{next}
{ sub(/^.*@@/,"") }
$1=="cgroup"{print "# cgroup " $2}
$1=="mem"{ kv(); lab=$2
  if(!hd++) printf "%5s %9s %9s %9s %7s %7s %7s %7s %7s %8s\n","n","MemAvail","MemFree","AnonPg","Slab","KStack","PgTbl","Percpu","ctdAnon","t"
  printf "%5s %9d %9d %9d %7d %7d %7d %7d %7d %8s\n",lab,V["MemAvailable"],V["MemFree"],V["AnonPages"],V["Slab"],V["KernelStack"],V["PageTables"],V["Percpu"],V["ctd"],V["t"]
  tot=V["MemTotal"]
  if(lab ~ /^[0-9]+$/){ x=lab+0; c++; sx+=x; sxx+=x*x
    split("MemAvailable MemFree AnonPages Slab KernelStack PageTables Percpu ctd Shmem",Q," ")
    for(j in Q){ y=V[Q[j]]; sy[Q[j]]+=y; sxy[Q[j]]+=x*y; if(x==0)f[Q[j]]=y; e[Q[j]]=y; lx=x } } }
$1=="shim"{ kv(); s++; for(j in V){S[j]+=V[j]; if(!(j in mn)||V[j]<mn[j])mn[j]=V[j]; if(V[j]>mx[j])mx[j]=V[j]} }
$1=="up"||$1=="mem"{ if($2 ~ /^[0-9]+$/ && $2>top) top=$2+0 }
$1=="capacity"{print "CAPACITY " $2 " containers besides the warm-up one(s); the next failed: " $3}
$1=="running"{print "# sleep processes running: " $2}
$1=="cleaned"||$1=="ctd"||$1=="warn"||$1=="hookdone"{print "# " $0}
$1=="fail"{print "FAIL: " $0}
$1=="log"{print "log: " substr($0,5)}
$1=="out"{print "hook: " substr($0,5)}
END{
  print "# MemTotal " tot " kB; last container up: c" top+0
  if(c>2){ d=c*sxx-sx*sx
    printf "slope kB/container (least squares):"; split("MemAvailable MemFree AnonPages Slab KernelStack PageTables Percpu Shmem ctd",O," ")
    for(j=1;j<=9;j++) printf " %s %.0f",O[j],(c*sxy[O[j]]-sx*sy[O[j]])/d*(j<=2?-1:1); print ""
    printf "ends  kB/container (last-first)/n:  "; for(j=1;j<=9;j++) printf " %s %.0f",O[j],(e[O[j]]-f[O[j]])/lx*(j<=2?-1:1); print "" }
  if(s){ printf "shims %d, mean kB:",s; split("Rss Pss Private_Dirty Private_Clean Anonymous VmPTE thr fd",P," "); for(j=1;j<=8;j++) printf " %s %.0f",P[j],S[P[j]]/s; printf "   (Private_Dirty %d..%d)\n",mn["Private_Dirty"],mx["Private_Dirty"] }
}'
[ "$OOM" -gt 0 ] && { echo "OOM lines on the console: $OOM"; grep -a 'Out of memory: Killed' "$C" | head -n 3; [ "$rc" = 0 ] && [ $CAP = 0 ] && rc=5; }
if [ "$rc" != 0 ]; then
  grep -aE 'unpacking failed|Out of memory|PANIC|Oops|BUG:|not syncing' "$C" | head -n 6 | tr -d '\r'
  echo "--- last console lines"; tail -n 12 "$C" | tr -d '\r'; echo "--- last markers"; grep -a "@@" "$D" | tail -n 4; cat "$RUN/qemu.out"
fi
case $rc in 0) echo "RESULT ok";; 2) echo "RESULT guest step failed";; 3) echo "RESULT hung or out of time";; 4) echo "RESULT kernel panic or guest died early";; 5) echo "RESULT finished, with OOM kills";; esac
exit "$rc"
