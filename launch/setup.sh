#!/usr/bin/env bash
# Installs what building and running Tessera needs on Debian 12 or Ubuntu 24.04; nothing when all of it
# is there.
#   launch/setup.sh                  everything, tests included
#   launch/setup.sh --with-fuzzing   and clang with libFuzzer, for tests/fuzz/run.sh
#   launch/setup.sh --without-tests  what the program itself needs
# Works as root or through sudo, asks nothing. Details go to build/setup.log.
set -eu

needed=(g++ cmake ninja-build pkg-config libopenmpi-dev openmpi-bin libhdf5-dev libyaml-cpp-dev
  libspdlog-dev nlohmann-json3-dev libcli11-dev libssl-dev zlib1g-dev libzstd-dev libpcre2-dev
  libutf8proc-dev python3 zstd xz-utils gzip)
# Matrix products on the CPU: the first that the distribution has.
gemm=(libdnnl-dev libopenblas-dev)
for_tests=(libgtest-dev)
# Worth having, done without where the distribution lacks them: repeated builds, the format check.
optional=(ccache)
optional_for_tests=(clang-format-14)
optional_for_fuzzing=(clang libclang-rt-dev)

case "${1:-}" in
  '' | --with-fuzzing)
    needed+=("${for_tests[@]}")
    optional+=("${optional_for_tests[@]}")
    [ -z "${1:-}" ] || optional+=("${optional_for_fuzzing[@]}")
    ;;
  --without-tests) ;;
  -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *)
    echo "launch/setup.sh: unknown argument '$1'; see --help" >&2
    exit 64
    ;;
esac

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
mkdir -p "$root/build"
log="$root/build/setup.log"
# Optional packages that an earlier run could not get; not asked for again.
unavailable="$root/build/setup.unavailable"
[ -e "$unavailable" ] || : > "$unavailable"

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 69
}

# A program on the PATH serves as well as its package, wherever it came from.
program_of() {
  case "$1" in
    g++ | cmake | python3 | zstd | gzip | ccache | pkg-config | clang-format-14) echo "$1" ;;
    ninja-build) echo ninja ;;
    xz-utils) echo xz ;;
    clang) echo clang++ ;;
    openmpi-bin) echo mpirun ;;
    libopenmpi-dev) echo mpicc ;;
  esac
}

# missing PACKAGE...: those that are neither installed nor on the PATH, one a line.
missing() {
  local package program installed=' '
  if command -v dpkg-query > /dev/null; then
    installed=" $(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "$@" 2> /dev/null |
      sed -n 's/^.i *//p' | tr '\n' ' ') "
  fi
  for package in "$@"; do
    case "$installed" in *" $package "*) continue ;; esac
    program="$(program_of "$package")"
    if [ -n "$program" ] && command -v "$program" > /dev/null; then continue; fi
    echo "$package"
  done
}

mapfile -t absent < <(missing "${needed[@]}")
mapfile -t absent_gemm < <(missing "${gemm[@]}")
mapfile -t absent_optional < <(missing "${optional[@]}" | grep -vxF -f "$unavailable")
need_gemm=0
[ "${#absent_gemm[@]}" -lt "${#gemm[@]}" ] || need_gemm=1

if [ "${#absent[@]}" -eq 0 ] && [ "$need_gemm" -eq 0 ] && [ "${#absent_optional[@]}" -eq 0 ]; then
  say "all packages are there"
  exit 0
fi

wanted="${absent[*]}"
[ "$need_gemm" -eq 0 ] || wanted="${wanted:+$wanted }${gemm[0]}"
# Without a way to install: only what is needed matters.
nothing_needed() {
  if [ -z "$wanted" ]; then
    say "all that is needed is there (without: ${absent_optional[*]})"
    exit 0
  fi
}

if ! command -v apt-get > /dev/null; then
  nothing_needed
  tools="$(for p in "${absent[@]}"; do program_of "$p"; done)"
  if [ -z "$tools" ]; then
    say "no apt-get here, so libraries are not checked: CMake will name any that it misses"
    exit 0
  fi
  fail "no apt-get on this machine: install the equivalents of these Debian packages, then run this again: $wanted"
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  nothing_needed
  if ! command -v sudo > /dev/null; then
    fail "not root and no sudo: ask an administrator for: apt-get install $wanted"
  fi
  as_root=(sudo)
  if [ ! -t 0 ]; then as_root=(sudo -n); fi
  if ! "${as_root[@]}" true; then
    fail "sudo was refused: ask an administrator for: apt-get install $wanted"
  fi
fi

# apt ARGUMENT...: apt-get without questions, into the log.
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    -o Acquire::Retries=3 "$@" >> "$log" 2>&1 < /dev/null
}
fail_with_log() {
  tail -n 15 "$log" >&2
  fail "$1; details: $log"
}

: > "$log"
say "reading package lists"
if ! apt update; then
  # A stale third-party source fails `update` although Debian's own lists are fine.
  say "apt-get update reported errors (see $log); going on"
fi

if [ "$need_gemm" -eq 1 ]; then
  chosen=''
  for package in "${gemm[@]}"; do
    if apt-cache show "$package" > /dev/null 2>&1; then
      chosen="$package"
      break
    fi
  done
  [ -n "$chosen" ] || fail "this distribution has neither ${gemm[0]} nor ${gemm[1]}; one of them is needed"
  absent+=("$chosen")
fi

if [ "${#absent[@]}" -gt 0 ]; then
  say "installing ${#absent[@]} packages: ${absent[*]}"
  if ! apt install --no-install-recommends "${absent[@]}"; then
    fail_with_log "apt-get could not install them"
  fi
fi
for package in "${absent_optional[@]}"; do
  if apt-cache show "$package" > /dev/null 2>&1 && apt install --no-install-recommends "$package"; then
    say "installed $package (optional)"
  else
    say "without $package (optional): not available here"
    echo "$package" >> "$unavailable"
  fi
done

mapfile -t absent < <(missing "${needed[@]}")
[ "${#absent[@]}" -eq 0 ] || fail_with_log "still missing after the installation: ${absent[*]}"
say "done"
