# shellcheck shell=bash disable=SC2034
# What the scripts of the platforms share: where downloads are kept, how they are made once, and how a script says
# that something cannot be had. Each script sources it first.
#
# Every script is called as `PLATFORM.sh COMMAND` and exits with
#   - COMMAND's status. It runs under sh in the project, or in a copy of it; $RUNTIME is the platform's runtime
#   - 69 (EX_UNAVAILABLE) if a package cannot be had here; the last line on stderr is the reason
#   - 124 if a machine has not ended within its time
# Downloads are kept in $PLATFORMS_CACHE, a folder for each; deleting a folder fetches it anew.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=${PLATFORMS_CACHE:-$project/node_modules/.cache/mmapper-platforms}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

if [ $# -ne 1 ]; then
  sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0" >&2
  exit 2
fi
command=$1
koffi=$(node -p 'require(process.argv[1]).version' "$project/node_modules/koffi/package.json")

unavailable() {
  printf '%s\n' "$*" >&2
  exit 69
}

# have COMMAND…: what asks for packages runs through here: refused, the platform is not available.
have() {
  local complaints
  complaints=$(mktemp)
  if ! "$@" 2>"$complaints" >/dev/null; then
    unavailable "'$*' failed: $(tail -n 1 "$complaints")"
  fi
  rm "$complaints"
}

[ "$(uname -sm)" = 'Linux x86_64' ] || unavailable "emulators are set up for Linux on x64, this is $(uname -sm)"

# once NAME STEP…: has STEP fill the folder $cache/NAME, unless it is there. What a step broken off left is not used.
once() {
  local name=$1
  shift
  {
    flock 9
    if [ ! -d "$cache/$name" ]; then
      rm -rf "$cache/$name.part"
      mkdir "$cache/$name.part"
      (
        cd "$cache/$name.part"
        "$@"
      ) >/dev/null 9>&-
      mv "$cache/$name.part" "$cache/$name"
    fi
  } 9>"$cache/$name.lock"
}

# need COMMAND PACKAGE…: installs the packages on this machine if COMMAND is not there.
need() {
  local wait='-oDPkg::Lock::Timeout=300'
  if command -v "$1" >/dev/null; then return; fi
  shift
  have apt-get "$wait" -qq update
  have apt-get "$wait" -qq -y --no-install-recommends install "$@"
}

# Step: an npm package, unpacked.
npm_package() {
  have npm pack --loglevel=error --pack-destination . "$1"
  tar --strip-components=1 -xf ./*.tgz
  rm ./*.tgz
}

# Step: koffi's native part for another platform, of the version that is installed here, as a folder of packages.
koffi_package() {
  mkdir -p "@koromix/$1"
  cd "@koromix/$1"
  npm_package "@koromix/$1@$koffi"
}
