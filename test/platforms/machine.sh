# shellcheck shell=bash disable=SC2154
# A virtual machine by software emulation: a kernel, and an archive as its root that holds libraries, busybox, Node and
# a copy of the project. Sourced after common.sh.

# Step: the part of the archive that does not change, `root.cpio`. PRELOAD is JavaScript that Node is to run first.
machine_root() {
  local libraries=$1 node=$2 preload=$3
  mkdir -p root/app root/proc root/sys root/dev root/tmp
  cp -a "$libraries/." root/
  cp "$node/bin/node" root/usr/bin/node
  printf '%s\n' "$preload" >root/preload.cjs
  cat >root/init <<'INIT'
#!/usr/bin/busybox sh
PATH=/usr/bin
export PATH HOME=/tmp RUNTIME=/usr/bin/node NODE_OPTIONS=--require=/preload.cjs
busybox mount -t proc proc /proc
busybox --install -s /usr/bin
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t devtmpfs dev /dev
ifconfig lo 127.0.0.1 up
dmesg -n 1
cd /app
echo @@begin
sh /command 2>&1
echo "@@end $?"
poweroff -f
INIT
  chmod +x root/init
  (cd root && find . | cpio --quiet -o -H newc) >root.cpio
  rm -r root
}

# Writes the project's part of the archive: what is built, and of node_modules what the library and its tests import.
project_cpio() {
  local root=$1 native=$2 file
  mkdir -p "$root/app/node_modules"
  printf '%s\n' "$command" >"$root/command"
  for file in "$project"/{dist,build,lib,test,examples,package.json} "$project"/*.{md,mjs}; do
    if [ -e "$file" ]; then cp -r "$file" "$root/app/"; fi
  done
  (
    cd "$project/node_modules"
    node -e '
      const wanted = new Set(["koffi", "uvu", "fast-check"])
      for (const name of wanted)
        for (const other of Object.keys(require(`./${name}/package.json`).dependencies ?? {})) wanted.add(other)
      console.log([...wanted].join("\n"))'
  ) | while read -r file; do
    mkdir -p "$(dirname "$root/app/node_modules/$file")"
    cp -rL "$project/node_modules/$file" "$root/app/node_modules/$file"
  done
  cp -r "$cache/$native/." "$root/app/node_modules/"
  (cd "$root" && find . | cpio --quiet -o -H newc)
}

# boot ROOT NATIVE QEMU…: prints what the command prints there, and exits with its status.
#   VM_MEMORY=3G VM_SECONDS=900    its memory, and the time limit
#   VM_VERBOSE=1                   shows what the kernel says as well
boot() {
  local root=$1 native=$2 work status
  shift 2
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  mkdir "$work/root"
  { cat "$cache/$root/root.cpio" && project_cpio "$work/root" "$native"; } >"$work/initrd"
  rm -r "$work/root"
  set +e
  timeout "${VM_SECONDS:-900}" "$@" -m "${VM_MEMORY:-3G}" -smp 2 -nographic -no-reboot -net none \
    -initrd "$work/initrd" </dev/null | awk -v verbose="${VM_VERBOSE:-}" '
      BEGIN { status = 124 }
      { sub(/\r$/, "") }
      /@@begin$/ { on = 1; next }
      /@@end [0-9]+$/ { status = $0; sub(/.*@@end /, "", status); sub(/@@end .*/, ""); if ($0 != "") print; on = 0; next }
      on || verbose { print; fflush() }
      END { exit status }'
  status=${PIPESTATUS[1]}
  if [ "$status" = 124 ]; then
    echo "$0: the machine has not ended by itself. VM_VERBOSE=1 shows what it says, VM_SECONDS gives it longer" >&2
  fi
  exit "$status"
}
