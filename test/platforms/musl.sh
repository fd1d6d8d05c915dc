#!/usr/bin/env bash
# Runs a command on musl, under Bun's musl build, on this machine's kernel and in the project itself.
#
#   musl.sh 'COMMAND'      e.g. musl.sh '$RUNTIME build/test/lifecycle.js'
#   BUN_VERSION=1.4.5
#
# Debian has musl, but no libstdc++ for it, of which Bun and koffi's native part want some hundred symbols: these are
# linked from g++'s static archives, with musl.c for what the archives want of glibc.
set -euo pipefail
. "$(dirname "$0")/common.sh"
version=${BUN_VERSION:-1.4.5}
bun=bun-musl-$version-koffi-$koffi

libstdcxx() {
  local archives wanted
  archives=$(dirname "$(g++ -print-file-name=libstdc++.a)")
  # What the two import, and what the linker copied into Bun (vtables), as far as it is of C++.
  wanted=$({ nm -D --undefined-only "$@" | awk '{print $NF}'; readelf -rW "$1" | awk '/COPY/{print $5}'; } |
    sed 's/@.*//' | grep -E '^_Z|^__cxa_|^__once|^__dynamic_cast' |
    grep -vE '^__cxa_(thread_atexit_impl|atexit|finalize)' | sort -u | sed 's/^/-Wl,-u,/')
  # shellcheck disable=SC2086
  musl-gcc -shared -fPIC -O2 -o libstdc++.so.6 -Wl,-soname,libstdc++.so.6 "$here/musl.c" \
    $wanted "$archives/libstdc++.a" "$archives/libgcc_eh.a"
  ln -s libstdc++.so.6 libgcc_s.so.1
}

bun_with_libstdcxx() {
  npm_package "@oven/bun-linux-x64-musl@$version"
  libstdcxx bin/bun "$project/node_modules/@koromix/koffi-linux-x64/musl_x64/koffi.node"
  # Written into the program rather than LD_LIBRARY_PATH: what it starts in its turn is of glibc.
  patchelf --set-rpath "$cache/$bun" bin/bun
}

need musl-gcc musl musl-dev musl-tools
need g++ g++
need patchelf patchelf
once "$bun" bun_with_libstdcxx
cd "$project"
RUNTIME=$cache/$bun/bin/bun exec sh -c "$command"
