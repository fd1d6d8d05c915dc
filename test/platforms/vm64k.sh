#!/usr/bin/env bash
# Runs a command on a virtual ppc64le machine whose kernel has pages of 64 KiB (Debian's own), in a copy of the project.
#
#   vm64k.sh 'COMMAND'      e.g. vm64k.sh '$RUNTIME build/test/run.js pages'
#   VM_MEMORY=3G VM_SECONDS=900 VM_VERBOSE=1
#
# Node is 20.11.0, npm's last for ppc64le and older than the library asks for: the one function that it lacks is
# preloaded. There is no git, no compiler and no npm on it, and nothing of esbuild's or TypeScript's.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$here/debian.sh"
. "$here/machine.sh"
node=20.11.0

need qemu-system-ppc64 qemu-system-ppc
need cpio cpio
once linux-ppc64le-64k debian_kernel bookworm-backports ppc64el linux-image-powerpc64le-64k
once debian-ppc64le debian_packages bookworm ppc64el libc6 libstdc++6 libgcc-s1 libatomic1 busybox-static
once "node-ppc64le-$node" npm_package "node-linux-ppc64le@$node"
once "koffi-linux-ppc64-$koffi" koffi_package koffi-linux-ppc64
once "root-ppc64le-$node" machine_root "$cache/debian-ppc64le" "$cache/node-ppc64le-$node" \
  'process.getBuiltinModule ??= name => require(name)'
boot "root-ppc64le-$node" "koffi-linux-ppc64-$koffi" qemu-system-ppc64 -cpu POWER9 -vga none \
  -M pseries,cap-ccf-assist=off,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken \
  -accel tcg,thread=multi -kernel "$cache/linux-ppc64le-64k/vmlinux" -append 'console=hvc0 quiet panic=-1'
