#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# getroot.sh ARCH DIR SUITE [PKG...]: unpack packages of another Debian architecture into DIR.
# No dpkg --add-architecture, nothing installed; apt state is kept under DIR/.apt.
# ARCH "arm64" with no packages named: what density.sh --arch arm64 --sysroot DIR needs.
set -eu
A=$1 D=$(mkdir -p "$2" && cd "$2" && pwd) S=$3; shift 3
mkdir -p "$D/.apt/lists/partial" "$D/.apt/cache/archives/partial" "$D/.apt/src" "$D/.apt/debs"
# the archive this machine already uses (its entry without a suffix such as -security)
U=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk '$2 !~ /-/ {print $1; exit}')
[ -n "$U" ] || { echo "getroot.sh: no archive known to apt; run apt-get update" >&2; exit 1; }
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: %s\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$U" "$S" "$A" >"$D/.apt/src/x.sources"
: >"$D/.apt/status"
O="-qq -o APT::Architecture=$A -o APT::Architectures=$A -o APT::Sandbox::User=root
 -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$D/.apt/src
 -o Dir::State::lists=$D/.apt/lists -o Dir::State::status=$D/.apt/status -o Dir::Cache=$D/.apt/cache"
apt-get $O update
if [ $# = 0 ]; then
  k=$(apt-cache $O depends linux-image-cloud-$A | awk '/Depends: linux-image/{print $2; exit}')
  set -- "$k" busybox-static containerd runc crun libc6 libseccomp2 libyajl2 libcap2 libsystemd0 \
    libgcrypt20 libgpg-error0 liblzma5 libzstd1 liblz4-1
fi
(cd "$D/.apt/debs" && apt-get $O download "$@")
for f in "$D"/.apt/debs/*.deb; do dpkg -x "$f" "$D"; done
rm -rf "$D/.apt/lists" "$D/.apt/cache" "$D/.apt/debs"
