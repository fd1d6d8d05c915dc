#!/bin/sh
# Runs test/vm_checks.ts inside a virtual machine whose kernel has named anonymous memory.
#
#   npm run build && VM_RUN=path/to/run.sh sh test/vm.sh
#
# VM_RUN is a runner `run.sh DIR COMMAND` that copies DIR to /app of the machine, runs COMMAND there under sh
# and exits with its status. Without it there is nothing to do.
set -eu
[ -n "${VM_RUN:-}" ] || { echo 'VM_RUN is not set' >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
app=$(mktemp -d "${TMPDIR:-/tmp}/mmapper-vm.XXXXXX")
trap 'rm -rf "$app"' EXIT
mkdir -p "$app/node_modules/mmapper" "$app/node_modules/@koromix"
cp "$root/package.json" "$app/node_modules/mmapper/"
cp -r "$root/dist" "$app/node_modules/mmapper/"
cp -rL "$root/node_modules/koffi" "$app/node_modules/"
for native in "$root"/node_modules/@koromix/*; do
  case $native in *linux-"$(node -p process.arch)"*) cp -rL "$native" "$app/node_modules/@koromix/" ;; esac
done
cp "$root/build/test/vm_checks.js" "$app/vm_checks.mjs"
"$VM_RUN" "$app" 'node /app/vm_checks.mjs'
